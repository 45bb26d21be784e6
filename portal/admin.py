"""Django's admin for this floor: the pages as they are stored."""

from __future__ import annotations

from django.contrib import admin

from access.admin import ReadOnlyAdmin
from portal.models import Page


@admin.register(Page)
class PageAdmin(ReadOnlyAdmin):
    """Pages; packs bring them, and the settings restore them."""

    list_display = ["name", "pack", "revision", "updated_at", "updated_by"]
    list_filter = ["pack"]
    search_fields = ["name"]
