"""Connections: connectors that somebody configured."""

from __future__ import annotations

import uuid
from typing import Self

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
    _("At most 63 lower-case letters, digits and hyphens; a letter or digit at both ends."),
)


class ConnectionQuerySet(models.QuerySet["Connection"]):
    """What is asked of connections again and again."""

    def at_work(self) -> Self:
        """Those of which something may begin: neither muted nor removed, and wholly there."""
        return self.filter(removal_at=None, muted_at=None, moving_since=None)

    def listed(self) -> Self:
        """All but those that are removed and only kept for the case that somebody wants them back."""
        return self.filter(Q(removal_at=None) | ~Q(moving_since=None))


class Connection(models.Model):
    """A configured connector. Its slug is its public name and never changes.

    :ivar config: the settings without secrets; secrets lie sealed in `access.Secret`, owned by the uid.
    :ivar rules: how records become components (`integrations.components.ComponentRule`).
    :ivar network: how the tool is reached (`integrations.network.Network`), without its secret.
    :ivar barred_hosts: those that the guard refused when it was last read or tested: what is the matter, by the word of
        the allow list that would open it.
    :ivar interval: seconds between two runs.
    :ivar due_at: when the schedule starts the next run; later when the tool asked us to wait.
    :ivar quick_due_at: when it starts one of what is read often, between two whole ones.
    :ivar muted_at: since when what it brought is set aside, until it is unmuted.
    :ivar removal_at: since when it is removed: what it brought is set aside, until it is restored; it goes for good
        after `kept_until`.
    :ivar moving_since: since when a worker sets aside what it brought, or brings it back; `moving_rows` were then to
        move.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    slug = models.CharField(_("slug"), max_length=63, unique=True, validators=[SLUG])
    label = models.CharField(_("name"), max_length=100)
    connector = models.CharField(_("connector"), max_length=63)
    config = models.JSONField(_("settings"), default=dict)
    namespace = models.CharField(
        _("namespace"),
        max_length=63,
        default="default",
        help_text=_(
            "Where what it brings is put in the catalog. A catalog file names its own namespace, else it is default."
        ),
    )
    rules = models.JSONField(_("rules"), default=dict)
    network = models.JSONField(_("network"), default=dict, blank=True)
    barred_hosts = models.JSONField(default=dict, editable=False)
    interval = models.PositiveIntegerField(
        _("seconds between runs"),
        default=600,
        validators=[MinValueValidator(30), MaxValueValidator(7 * 86_400)],
    )
    is_paused = models.BooleanField(_("paused"), default=False)
    allows_operations = models.BooleanField(
        _("operations are switched on"), default=False, help_text=_("Until then the tool is only read.")
    )
    is_sample = models.BooleanField(default=False, editable=False)
    due_at = models.DateTimeField(_("next run"), null=True, blank=True)
    quick_due_at = models.DateTimeField(null=True, editable=False)
    checked_at = models.DateTimeField(_("last tested"), null=True, blank=True)
    check_result = models.JSONField(default=list, editable=False)
    removal_at = models.DateTimeField(null=True, editable=False)
    removal_by = models.CharField(max_length=200, blank=True, db_default="", default="", editable=False)
    kept_until = models.DateTimeField(null=True, editable=False)
    muted_at = models.DateTimeField(null=True, editable=False)
    muted_by = models.CharField(max_length=200, blank=True, db_default="", default="", editable=False)
    moving_since = models.DateTimeField(null=True, editable=False)
    moving_rows = models.PositiveIntegerField(db_default=0, default=0, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("last changed"), auto_now=True)

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("connection")
        verbose_name_plural = _("connections")
        ordering = ["label", "slug"]

    def __str__(self) -> str:
        return self.label

    @property
    def is_removed(self) -> bool:
        """Whether it is on its way out."""
        return self.removal_at is not None

    @property
    def is_aside(self) -> bool:
        """Whether what it brought is to count for nothing."""
        return self.removal_at is not None or self.muted_at is not None

    @property
    def is_at_work(self) -> bool:
        """Whether something of it may begin."""
        return not self.is_aside and self.moving_since is None


class AllowedHost(models.Model):
    """A host inside the company's network that an administrator let calls reach.

    :ivar host: as the allow list has it: a name or an address, of this machine itself with its port.
    :ivar what: what it was when it was allowed: "ghe.corp is 10.2.3.4, a private address".
    :ivar connection: slug of the connection that asked for it, if one did.
    """

    host = models.CharField(_("host"), max_length=300, unique=True)
    what = models.CharField(max_length=300)
    connection = models.CharField(_("connection"), max_length=63, blank=True)
    by = models.CharField(_("allowed by"), max_length=200)
    at = models.DateTimeField(_("allowed"), auto_now_add=True)

    class Meta:
        verbose_name = _("allowed host")
        verbose_name_plural = _("allowed hosts")
        ordering = ["host"]

    def __str__(self) -> str:
        return self.host


class RuleRevision(models.Model):
    """The rules of a connection as they were before a change, so that the change can be undone."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="rule_revisions")
    rules = models.JSONField()
    at = models.DateTimeField(auto_now_add=True)
    by = models.CharField(max_length=200)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"rules of {self.connection_id} until {self.at}"
