"""Catalog files that were imported by name, and are read again when they change."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext_lazy as _


class CatalogLocation(models.Model):
    """A file, folder, Git repository or URL of catalog files.

    :ivar uid: what it is, whatever its address becomes.
    :ivar summary: the numbers of the last reading, as `import_catalog --json` prints them.
    :ivar asked_at: since when a person waits for a reading.
    :ivar removal_at: since when it is being removed, which a worker does; `removal_claims` it then had.
    """

    uid = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    address = models.TextField(_("path or address"), unique=True)
    interval = models.PositiveIntegerField(_("seconds between readings"), default=300)
    created_at = models.DateTimeField(auto_now_add=True)
    # Whoever imports from the shell may read what the shell may; the background readings then may, too.
    roots = models.JSONField(
        default=list, editable=False, help_text=_("Folders it may read besides the allowed ones.")
    )
    created_by = models.CharField(max_length=200, blank=True)
    read_at = models.DateTimeField(_("last read"), null=True)
    due_at = models.DateTimeField(null=True)
    message = models.TextField(blank=True, help_text=_("Why the last reading failed."))
    summary = models.JSONField(default=dict)
    asked_at = models.DateTimeField(null=True, editable=False)
    removal_at = models.DateTimeField(null=True, editable=False)
    removal_by = models.CharField(max_length=200, blank=True, db_default="", default="", editable=False)
    removal_claims = models.PositiveIntegerField(db_default=0, default=0, editable=False)

    class Meta:
        verbose_name = _("catalog location")
        verbose_name_plural = _("catalog locations")
        ordering = ["address"]

    def __str__(self) -> str:
        return self.address

    @property
    def source_key(self) -> str:
        """The key of the source that its documents are claims of."""
        return f"yaml:{self.address}"

    @property
    def raised_by(self) -> str:
        """Who raised its problems."""
        return self.source_key[:500]

    @property
    def is_removed(self) -> bool:
        """Whether it is on its way out."""
        return self.removal_at is not None

    @property
    def is_awaited(self) -> bool:
        """Whether its first reading, or one that a person asked for, is still to come."""
        return self.asked_at is not None and not self.is_removed


class LocationDocs(models.Model):
    """The Markdown beside catalog files of a location: of one repository, or of one folder of this machine.

    :ivar top: what its paths are seen from, as a location's target: the repository's, or a folder with a `/` behind it.
    :ivar texts: by path, with the `mkdocs.yml` that order them.
    :ivar web: the address of the repository's web pages of files, up to their paths; empty if it has none.
    """

    location = models.ForeignKey(CatalogLocation, on_delete=models.CASCADE, related_name="docs")
    top = models.TextField()
    texts = models.JSONField()
    web = models.TextField(blank=True)
    commit = models.TextField(blank=True)
    digest = models.BinaryField(max_length=16)
    changed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "location docs"
        constraints = [models.UniqueConstraint(fields=["location", "top"], name="location_docs_once")]

    def __str__(self) -> str:
        return f"docs of {self.top}"
