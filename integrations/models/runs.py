"""Sync runs: one pass over a connection's resources, held by a lease.

All moves between states are compare-and-set updates, so that a message that is delivered twice does nothing and
a worker that lost its lease writes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from integrations.models.connections import Connection


class RunState(models.TextChoices):
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Syncing")
    SYNCED = "synced", _("Synced")
    PARTIAL = "partial", _("Partial")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


ACTIVE = (RunState.QUEUED, RunState.RUNNING)


class SyncRunQuerySet(models.QuerySet["SyncRun"]):
    """Sets of runs."""

    def active(self) -> Self:
        """Runs that are queued or running."""
        return self.filter(state__in=ACTIVE)

    def whole(self) -> Self:
        """Runs that read all of their connection's lists."""
        return self.filter(is_quick=False)

    def leasable(self, *, now: datetime) -> Self:
        """Runs that a worker may take: queued and due, or running under a lease that ran out."""
        return self.filter(
            Q(state=RunState.QUEUED) & (Q(not_before=None) | Q(not_before__lte=now))
            | Q(state=RunState.RUNNING, lease_until__lt=now)
        )


class SyncRun(models.Model):
    """One run of a connection.

    :ivar lease: names the worker that holds the run; renewed as progress is saved.
    :ivar is_quick: it reads only what is read often.
    :ivar message: why it is partial, failed or cancelled, for people.
    """

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule", _("Schedule")
        PERSON = "person", _("A person")
        API = "api", _("API")

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="runs")
    state = models.CharField(max_length=20, choices=RunState.choices, default=RunState.QUEUED)
    trigger = models.CharField(max_length=20, choices=Trigger.choices, default=Trigger.SCHEDULE)
    is_quick = models.BooleanField(default=False, db_default=False)
    requested_by = models.CharField(max_length=200, blank=True)
    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    is_cancel_requested = models.BooleanField(default=False)
    error_code = models.CharField(max_length=50, blank=True)
    message = models.TextField(blank=True)

    objects = SyncRunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["connection"], condition=Q(state__in=["queued", "running"]), name="one_active_run"
            ),
        ]
        indexes = [
            models.Index(fields=["connection", "-id"], name="run_by_connection"),
            models.Index(fields=["state"], condition=Q(state__in=["queued", "running"]), name="run_active"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.connection_id}"

    @property
    def who(self) -> str:
        """Who started it, for people."""
        if self.is_quick:
            return gettext("Schedule, only what is new")
        return self.requested_by or self.get_trigger_display()

    @property
    def is_active(self) -> bool:
        """Whether it still has to do something."""
        return self.state in ACTIVE


class ResourceState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    READING = "reading", _("Reading")
    COMPLETE = "complete", _("Complete")
    PARTIAL = "partial", _("Partial")
    HELD = "held", _("Waiting for a decision")


class ResourceRun(models.Model):
    """One resource of a run, with numbers that balance: listed = new + changed + unchanged + skipped + refused.

    :ivar expected: how many the tool said there are, or None.
    :ivar cursor: where an incremental resource goes on.
    :ivar pass_lease: the lease under which the pass began; only a pass of one lease may sweep.
    :ivar would_remove: what the guard held back.
    """

    run = models.ForeignKey(SyncRun, on_delete=models.CASCADE, related_name="resources")
    name = models.CharField(max_length=63)
    position = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=20, choices=ResourceState.choices, default=ResourceState.WAITING)
    expected = models.PositiveIntegerField(null=True)
    listed = models.PositiveIntegerField(default=0)
    new = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    removed = models.PositiveIntegerField(default=0)
    would_remove = models.PositiveIntegerField(default=0)
    decision = models.CharField(
        max_length=200, blank=True, help_text="Who kept or removed what the guard held."
    )
    cursor = models.JSONField(null=True)
    pass_lease = models.UUIDField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    message = models.TextField(blank=True)

    class Meta:
        ordering = ["run_id", "position"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="resource_once_a_run")]

    def __str__(self) -> str:
        return f"{self.name} of run {self.run_id}"


class RecordOutcome(models.IntegerChoices):
    NEW = 1, _("New")
    CHANGED = 2, _("Changed")
    UNCHANGED = 3, _("Unchanged")
    SKIPPED = 4, _("Left out by rule")
    REFUSED = 5, _("Refused")
    REMOVED = 6, _("Removed")  # it was not listed: what the sweep let go


class SeenPage(models.Model):
    """The ids of one page of a resource and what became of each: the only row that an unchanged page writes.

    What the sweep removed is a page too, so that a run tells of it also when it is back.

    :ivar outcomes: `RecordOutcome` for each id.
    :ivar errors: {id: {"reason", "place"}} of the refused and skipped ones.
    """

    resource = models.ForeignKey(ResourceRun, on_delete=models.CASCADE, related_name="pages")
    number = models.PositiveIntegerField()
    ids = ArrayField(models.TextField())
    outcomes = ArrayField(models.PositiveSmallIntegerField())
    errors = models.JSONField(default=dict)

    class Meta:
        ordering = ["resource_id", "number"]
        constraints = [models.UniqueConstraint(fields=["resource", "number"], name="page_once")]

    def __str__(self) -> str:
        return f"page {self.number} of {self.resource_id}"

    def refusals(self) -> list[tuple[str, dict[str, str]]]:
        """Ids of the refused ones, each with its reason and place."""
        return [
            (external_id, self.errors.get(external_id, {"reason": "", "place": ""}))
            for external_id, outcome in zip(self.ids, self.outcomes, strict=True)
            if outcome == RecordOutcome.REFUSED
        ]
