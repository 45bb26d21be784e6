"""Changes of many things at once that a worker does."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from access.models import User


class BulkChange(models.Model):
    """A change of many things that a person looked at and wants done.

    :ivar what: of owners `owner`, its ref; of a field `path`, `action` and `value`.
    :ivar entities: uids of the things; taken away once it is over.
    :ivar expected: the mark of the plan that the person saw.
    :ivar back: the query of the list that it was asked from.
    :ivar attempts: how often a worker began it.
    :ivar changed: how many of the things it changed.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        DONE = "done", _("Done")
        FAILED = "failed", _("Not done")
        CANCELLED = "cancelled", _("Cancelled")

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    what = models.JSONField()
    entities = models.JSONField()
    reason = models.TextField(blank=True)
    expected = models.TextField(blank=True)
    back = models.TextField(blank=True)
    state = models.TextField(choices=State.choices, default=State.QUEUED)
    total = models.PositiveIntegerField()
    changed = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    made_at = models.DateTimeField()
    begun_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="bulkchange_queued", condition=models.Q(state="queued")),
        ]
        verbose_name = "change of many things"
        verbose_name_plural = "changes of many things"

    def __str__(self) -> str:
        return f"{self.what} ({self.state})"

    @property
    def is_active(self) -> bool:
        """Whether it is still to be done."""
        return bool(self.state == self.State.QUEUED)

    @property
    def subject(self) -> dict[str, Any]:
        """What is changed, for people: the field and what is done to it."""
        if "owner" in self.what:
            return {"path": "spec.owner", "action": "set", "value": self.what["owner"]}
        return dict(self.what)
