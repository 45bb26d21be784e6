"""What happened: activities, and the transitions that the timeline shows."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, HashIndex, OpClass
from django.db import models
from django.db.models.functions import Upper


class ActivityFields(models.Model):
    """What is kept of an activity, whether it counts or is set aside."""

    connection = models.TextField(help_text="Slug of the connection.")
    connector = models.TextField()
    type = models.TextField()
    external_id = models.TextField()
    status = models.TextField(blank=True)
    title = models.TextField(blank=True)
    url = models.TextField(blank=True)
    actor = models.TextField(blank=True)
    number = models.TextField(blank=True)
    branch = models.TextField(blank=True)
    is_default_branch = models.BooleanField(null=True)
    is_change = models.BooleanField(default=False)
    commit = models.TextField(blank=True)
    version = models.TextField(blank=True)
    environment = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    at = models.DateTimeField()
    as_of = models.DateTimeField()
    keys = ArrayField(models.TextField(), default=list)
    subject_uid = models.UUIDField(null=True)
    subject_place = models.PositiveSmallIntegerField(
        null=True, help_text="Which of the keys found it, from 1."
    )
    subject_ref = models.TextField(blank=True)
    namespace = models.TextField(blank=True, help_text="The subject's, for permission.")
    digest = models.BinaryField(max_length=16)
    data = models.JSONField(default=dict)
    raw = models.JSONField(null=True)

    class Meta:
        abstract = True


class Activity(ActivityFields):
    """One run, commit, change, version, deployment, alert...: a row that only moves forward.

    The subject is found by the first identity key that an entity *is*; that may appear later, also than the one of
    a later key. It is held by uid and label, for the activity outlives it.

    :ivar type: the record type: run, commit, change, version, deployment, alert, incident, issue, check.
    :ivar at: its place on the timeline.
    :ivar data: the record's other fields; `raw` is the tool's own payload, for editors.
    """

    class Meta:
        verbose_name_plural = "activities"
        constraints = [
            models.UniqueConstraint(fields=["connection", "type", "external_id"], name="activity_once"),
        ]
        indexes = [
            models.Index(fields=["-at", "-id"], name="activity_at"),
            models.Index(fields=["subject_uid", "type", "-at"], name="activity_subject"),
            models.Index(fields=["type", "-at"], name="activity_type"),
            models.Index(fields=["commit"], name="activity_commit", condition=~models.Q(commit="")),
            # An image by its digest.
            GinIndex(fields=["keys"], name="activity_digests", condition=models.Q(type="version")),
            # An address can be longer than an ordered index takes.
            HashIndex(fields=["url"], name="activity_url"),
            # What a search looks for; UPPER, as everywhere.
            GinIndex(
                OpClass(Upper("title"), "gin_trgm_ops"), name="activity_title", gin_pending_list_limit=512
            ),
            # Those that wait for a subject, or for the one that an earlier key names.
            GinIndex(
                fields=["keys"],
                name="activity_keys",
                condition=models.Q(subject_place=None) | models.Q(subject_place__gt=1),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.external_id}"

    @property
    def duration(self) -> float | None:
        """Seconds from start to finish, or None while it runs."""
        if self.started_at and self.finished_at:
            return (self.finished_at - self.started_at).total_seconds()
        return None


class Transition(models.Model):
    """One step of an activity: insert-only.

    :ivar event: the CDEvents type, such as `pipelinerun.finished`.
    """

    activity = models.ForeignKey(
        Activity, on_delete=models.CASCADE, db_index=False, related_name="transitions"
    )
    at = models.DateTimeField()
    status = models.TextField(blank=True)
    event = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["activity", "event", "status", "at"], name="transition_once"),
        ]
        indexes = [models.Index(fields=["-at", "-id"], name="transition_at")]

    def __str__(self) -> str:
        return f"{self.event} {self.status}"


class AsideActivity(ActivityFields):
    """An activity of a connection that is muted or removed: nobody sees it until it is brought back.

    :ivar transitions: its steps, each with its id.
    """

    id = models.BigIntegerField(primary_key=True)
    transitions = models.JSONField()

    class Meta:
        verbose_name_plural = "activities set aside"
        indexes = [models.Index(fields=["connection", "id"], name="aside_activity_connection")]

    def __str__(self) -> str:
        return f"{self.type} {self.external_id}"
