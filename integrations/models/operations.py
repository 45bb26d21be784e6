"""What people had done to connected tools."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from integrations.models.connections import Connection


class OperationRun(models.Model):
    """One operation on one target, done at most once for an idempotency key."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        UNKNOWN = "unknown", _("Unknown")

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="operation_runs")
    operation = models.CharField(max_length=63)
    target_type = models.CharField(max_length=30)
    target_id = models.TextField()
    subject_uid = models.UUIDField(null=True)
    params = models.JSONField(default=dict)
    idempotency_key = models.CharField(max_length=100, unique=True)
    state = models.CharField(max_length=20, choices=State.choices, default=State.QUEUED)
    requested_by = models.CharField(max_length=200)
    requested_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    message = models.TextField(blank=True)
    url = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["state"], condition=Q(state__in=["queued", "running"]), name="operation_active"
            )
        ]

    def __str__(self) -> str:
        return f"{self.operation} on {self.target_id}"

    @property
    def is_active(self) -> bool:
        """Whether something is still to come of it."""
        return self.state in {self.State.QUEUED, self.State.RUNNING}
