"""What tools told us of their own accord: deliveries by webhook, kept until they are taken in."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from integrations.models.connections import Connection


class Delivery(models.Model):
    """One delivery whose signature was right. It is acknowledged once this row is stored.

    :ivar digest: SHA-256 of the body, which is what the signature proves: the same comes in once. Of what only has
        the tool asked how it is now, of the body and the id.
    :ivar delivery_id: the tool's own id of it, for people; nothing proves it.
    :ivar headers: those that its connector asks for; never a signature.
    :ivar lease_until: until when the worker that took it has time.
    :ivar message: why it could not be taken in.
    """

    class State(models.TextChoices):
        DEAD = "dead", _("Given up")
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Being taken in")
        DONE = "done", _("Taken in")

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="deliveries")
    digest = models.CharField(max_length=64)
    delivery_id = models.CharField(max_length=200, blank=True)
    event = models.CharField(max_length=100, blank=True)
    headers = models.JSONField(default=dict)
    body = models.BinaryField()
    state = models.CharField(max_length=20, choices=State.choices, default=State.QUEUED)
    received_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    records = models.PositiveIntegerField(default=0)
    message = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["connection", "digest"], name="delivery_once"),
        ]
        indexes = [
            models.Index(fields=["connection", "state", "-id"], name="delivery_by_connection"),
            models.Index(
                fields=["received_at"], condition=Q(state__in=["queued", "running"]), name="delivery_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event or 'delivery'} {self.delivery_id or self.digest[:12]}"
