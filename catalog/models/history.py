"""What changed in the catalog: revisions for people, the feed for programs."""

from __future__ import annotations

from django.db import models
from django.db.models import Func


class Action(models.TextChoices):
    CREATED = "created", "Created"
    CHANGED = "changed", "Changed"
    RENAMED = "renamed", "Renamed"
    DELETED = "deleted", "Deleted"
    RETURNED = "returned", "Returned"


class Revision(models.Model):
    """One change of an entity. It outlives the entity, so it holds no foreign key.

    :ivar diff: rows of {"path", "old", "new"}; a missing side is left out.
    :ivar by: the source or person that brought it, as shown to people.
    :ivar reason: what a person gave as the reason, if a person brought it.
    """

    entity_uid = models.UUIDField()
    entity_ref = models.TextField()
    namespace = models.TextField()
    number = models.PositiveIntegerField()
    action = models.TextField(choices=Action.choices)
    at = models.DateTimeField()
    by = models.TextField()
    by_key = models.TextField(blank=True, help_text="Key of the source.")
    reason = models.TextField(blank=True, db_default="")
    run = models.BigIntegerField(null=True, help_text="Number of the sync run that brought it.")
    diff = models.JSONField(default=list)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entity_uid", "number"], name="revision_number")]
        indexes = [models.Index(fields=["at"], name="revision_at")]

    def __str__(self) -> str:
        return f"{self.entity_ref} #{self.number}"


class CurrentTransaction(Func):
    """The id of the running transaction, as PostgreSQL counts them (64 bits)."""

    template = "(pg_current_xact_id()::text::bigint)"
    output_field = models.BigIntegerField()


class FeedItem(models.Model):
    """One row for each change of an entity, in the transaction that made it.

    Readers stop below the oldest running transaction (`catalog.feed.feed_since`), so that a late commit with a
    lower id is not skipped.
    """

    transaction = models.BigIntegerField(db_default=CurrentTransaction())
    at = models.DateTimeField()
    action = models.TextField(choices=Action.choices)
    entity_uid = models.UUIDField()
    entity_ref = models.TextField()
    kind = models.TextField()
    namespace = models.TextField()
    revision = models.PositiveIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["transaction", "id"], name="feed_order"),
            models.Index(fields=["entity_uid"], name="feed_entity"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.entity_ref}"


class News(models.Model):
    """That something changed of an entity or an activity, for who tells people (`catalog.services.news`).

    The feed says what sources said. A query also asks for what follows from that, such as a failing pipeline or a
    relation's other end, and only once an entity is rendered is all of it there. Rows are put down in the transaction
    of the change and taken up once, so one that commits late is not skipped, and no row waits for another.

    :ivar is_new: whether the activity was not there before; `was_status`, `was_about`: its status and subject then.
    """

    entity_id = models.BigIntegerField(null=True)
    activity_id = models.BigIntegerField(null=True)
    is_new = models.BooleanField(db_default=False)
    was_status = models.TextField(blank=True, db_default="")
    was_about = models.UUIDField(null=True)

    class Meta:
        verbose_name_plural = "news"
        constraints = [
            models.CheckConstraint(
                name="news_of_one_thing",
                condition=models.Q(entity_id=None, activity_id__isnull=False)
                | models.Q(entity_id__isnull=False, activity_id=None),
            ),
        ]

    def __str__(self) -> str:
        return f"entity {self.entity_id}" if self.entity_id else f"activity {self.activity_id}"
