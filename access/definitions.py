"""The envelope that every definition shares: kinds, mappings, pages, roles.

A definition is what a platform team composes. It comes from a pack or from the browser, it is served by its
name, and it can always go back to what the pack shipped.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class Definition(models.Model):
    """One named definition; a pack that is applied later replaces an earlier one's of the same name.

    :ivar pack: the pack that the definition came with; empty when it was composed in the browser.
    :ivar format_version: the format that `spec` is written in, so that a later release can convert it.
    :ivar spec: what is served.
    :ivar pristine: `spec` as the pack shipped it; None when it was composed in the browser.
    :ivar draft: an edit that is not served yet, or None.
    :ivar revision: grows with each change of `spec`.
    :ivar updated_by: who changed it last, as a label that outlives the account.
    """

    pack = models.CharField(_("pack"), max_length=100, blank=True)
    name = models.CharField(_("name"), max_length=200, unique=True)
    format_version = models.PositiveSmallIntegerField(_("format version"), default=1)
    spec = models.JSONField(_("definition"))
    pristine = models.JSONField(_("as the pack shipped it"), null=True, blank=True, editable=False)
    draft = models.JSONField(_("draft"), null=True, blank=True)
    revision = models.PositiveIntegerField(_("revision"), default=1, editable=False)
    updated_at = models.DateTimeField(_("last changed"), auto_now=True)
    updated_by = models.CharField(_("changed by"), max_length=200, blank=True, editable=False)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_edited(self) -> bool:
        """Whether it came from a pack and differs from what that pack shipped."""
        return self.pristine is not None and self.spec != self.pristine

    def replace_spec(self, spec: Any, *, by: str) -> None:
        """Serve this definition from now on; the caller saves, inside of a transaction."""
        self.spec, self.draft = spec, None
        self.revision += 1
        self.updated_by = by[:200]
