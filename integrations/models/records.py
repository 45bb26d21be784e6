"""What connections told us, kept as they told it: a changed rule or mapping needs no second fetch."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import F, Q

from integrations.models.connections import Connection


class StoredRecordQuerySet(models.QuerySet["StoredRecord"]):
    """Sets of records."""

    def kept(self) -> Self:
        """Those that stay by a person's word though the tool lists them no more."""
        return self.filter(kept_at__gte=F("touched_at"), deleted_at=None)

    def to_be_listed(self) -> Self:
        """Those that stay only while the tool lists them."""
        return self.filter(Q(kept_at=None) | Q(kept_at__lt=F("touched_at")), deleted_at=None)


class StoredRecord(models.Model):
    """The last form of one record.

    :ivar data: the record's fields without `raw`; `raw` is the tool's own payload.
    :ivar touched_at: when it was last written; a sweep spares what was touched since its pass began.
    :ivar is_ignored: the connection leaves it out (`integrations.ignoring`): it is kept, and nothing is made of it.
    :ivar deleted_at: when a sweep took it away; the row stays as the tombstone that undo brings back.
    :ivar kept_at: when a person said that it stays though it is listed no more; what is told of it later ends that.
    """

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="records")
    resource = models.CharField(max_length=63)
    type = models.CharField(max_length=30)
    external_id = models.TextField()
    digest = models.BinaryField(max_length=16)
    data = models.JSONField()
    raw = models.JSONField(null=True)
    as_of = models.DateTimeField()
    touched_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)
    is_ignored = models.BooleanField(default=False, db_default=False)
    kept_at = models.DateTimeField(null=True)

    objects = StoredRecordQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "resource", "external_id"], name="record_once"),
        ]
        indexes = [
            models.Index(fields=["connection", "type"], name="record_by_type", condition=Q(deleted_at=None)),
            models.Index(fields=["connection"], name="record_ignored", condition=Q(is_ignored=True)),
            models.Index(fields=["connection"], name="record_kept", condition=Q(kept_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.external_id}"
