"""State of the portal: pages, as definitions, and what an account keeps for itself."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access.definitions import Definition


class Page(Definition):
    """A page: a grid of widgets in a slot. `spec` is a `portal.pages.PageSpec`."""

    class Meta(Definition.Meta):
        verbose_name = "page"


class SavedViewQuerySet(models.QuerySet["SavedView"]):
    """Sets of views."""

    def kept(self) -> Self:
        """Those that were not deleted."""
        return self.filter(deleted_at=None)


class SavedView(Definition):
    """A named query with how its list is shown. `spec` is a `portal.saved_views.ViewSpec`.

    What packs bring, and what people save for all, is a definition like any other. The others are nobody's but
    their person's, or their team's.

    :ivar user: who saved it; None for a pack's.
    :ivar team_uid: of the group in the catalog whose members see it.
    :ivar deleted_at: since when it is kept only to be taken back.
    """

    class Audience(models.TextChoices):
        """Who sees it."""

        PERSONAL = "personal", _("Me alone")
        TEAM = "team", _("A team")
        ALL = "all", _("All")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    audience = models.TextField(choices=Audience.choices, default=Audience.ALL)
    team_uid = models.UUIDField(null=True)
    deleted_at = models.DateTimeField(null=True)

    objects = SavedViewQuerySet.as_manager()

    class Meta(Definition.Meta):
        verbose_name = "view"

    def __str__(self) -> str:
        return self.title

    @property
    def title(self) -> str:
        """The name for people."""
        return str(self.spec.get("title") or self.name)


class Bookmarks(models.Model):
    """What an account found its way to: one row each, whose lists are short.

    Entities stand here by uid. One that is gone, or that the account may not see any more, is hidden, and returns
    with its uid.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="bookmarks"
    )
    favourites = ArrayField(models.UUIDField(), default=list, help_text="Newest first.")
    recent = ArrayField(models.UUIDField(), default=list, help_text="Last viewed, newest first.")

    class Meta:
        verbose_name_plural = "bookmarks"

    def __str__(self) -> str:
        return f"bookmarks of {self.user_id}"


class WatchQuerySet(models.QuerySet["Watch"]):
    """Sets of watches."""

    def kept(self) -> Self:
        """Those that were not deleted."""
        return self.filter(deleted_at=None)

    def awake(self) -> Self:
        """Those whose people are to be told."""
        return self.kept().filter(is_paused=False, user__is_active=True)


class Watch(models.Model):
    """What somebody wants to be told of: a query on entities, or on activity.

    :ivar query: on the entities; with activity, on what it happened to.
    :ivar types: of activity; empty for all. `status` likewise.
    :ivar state: a digest of the condition that `Match` was filled by: what the viewer may see and `@me` stands for are
        in it. Where it is another one now, the matches are read anew, and nobody is told. Empty before the first time.
    :ivar version: counted up by whoever changes what is watched, so that what was found for it as it was before is
        thrown away.
    :ivar is_timed: whether the query says something of time, and so may be true of what did not change.
    :ivar trouble: why it cannot be evaluated, for its owner.
    :ivar deleted_at: since when it is kept only to be taken back.
    """

    class About(models.TextChoices):
        """What is watched."""

        ENTITIES = "entities", _("Entities")
        ACTIVITY = "activity", _("Activity")

    class When(models.TextChoices):
        """Of what its owner is told."""

        NEW = "new", _("Something new matches")
        GONE = "gone", _("Something no longer matches")
        BOTH = "both", _("Either")

    class Mail(models.TextChoices):
        """Whether a mail goes too."""

        NONE = "none", _("No mail")
        NOW = "now", _("A mail at once")
        DAILY = "daily", _("A mail a day")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="watches")
    name = models.TextField()
    about = models.TextField(choices=About.choices)
    query = models.TextField(blank=True)
    types = ArrayField(models.TextField(), default=list)
    status = models.TextField(blank=True)
    when = models.TextField(choices=When.choices, default=When.NEW)
    mail = models.TextField(choices=Mail.choices, default=Mail.NONE)
    is_paused = models.BooleanField(default=False)
    state = models.BinaryField(max_length=16, default=b"")
    version = models.PositiveIntegerField(default=1)
    is_timed = models.BooleanField(default=False)
    looked_at = models.DateTimeField(default=timezone.now)
    trouble = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True)

    objects = WatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "watches"

    def __str__(self) -> str:
        return self.name

    @property
    def is_of_activity(self) -> bool:
        return self.about == self.About.ACTIVITY


class Match(models.Model):
    """An entity that a watch's query finds: what comes or goes is told apart by it."""

    pk = models.CompositePrimaryKey("watch_id", "entity_id")
    watch = models.ForeignKey(Watch, on_delete=models.CASCADE, related_name="matches", db_index=False)
    entity_id = models.BigIntegerField(db_index=True)

    class Meta:
        verbose_name_plural = "matches"

    def __str__(self) -> str:
        return f"{self.watch_id} finds {self.entity_id}"


class Mail(models.Model):
    """A mail that is to go, or went; what it says is made of the notices that are unread when it goes.

    :ivar watch: whose notices it tells; None in the one of a day.
    :ivar message_id: it is the same however often it is tried, so a double is known as one.
    :ivar sent_at: when it was over: it went, nothing was left to say, or it was given up.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="mails")
    watch = models.ForeignKey(Watch, on_delete=models.CASCADE, null=True, related_name="mails")
    message_id = models.TextField()
    not_before = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    trouble = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["not_before"], name="mail_due", condition=models.Q(sent_at=None))]

    def __str__(self) -> str:
        return f"mail to {self.user_id}"


class Notice(models.Model):
    """That something came to match a watch, or no longer does: all that came at once is one.

    What it names is held by uid and key, and looked up for who reads it: what they may not see is not told.

    :ivar new, gone: how many; `new_uids`, `gone_uids`, `activities`: the first of them.
    :ivar at: of the last that was added.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notices")
    watch = models.ForeignKey(Watch, on_delete=models.CASCADE, related_name="notices")
    mail = models.ForeignKey(Mail, on_delete=models.SET_NULL, null=True, related_name="notices")
    new = models.PositiveIntegerField(default=0)
    gone = models.PositiveIntegerField(default=0)
    new_uids = ArrayField(models.UUIDField(), default=list)
    gone_uids = ArrayField(models.UUIDField(), default=list)
    activities = ArrayField(models.BigIntegerField(), default=list)
    started_at = models.DateTimeField()
    at = models.DateTimeField()
    read_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["user", "-at", "-id"], name="notice_of_user"),
            models.Index(fields=["user"], name="notice_unread", condition=models.Q(read_at=None)),
            models.Index(fields=["at"], name="notice_at"),
        ]

    def __str__(self) -> str:
        return f"notice of {self.watch_id}"
