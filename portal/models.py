"""State of the portal: pages, as definitions, and what an account keeps for itself."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from access.definitions import Definition


class Page(Definition):
    """A page: a grid of widgets in a slot. `spec` is a `portal.pages.PageSpec`."""

    class Meta(Definition.Meta):
        verbose_name = "page"


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
