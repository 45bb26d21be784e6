"""Django's admin for this floor: what the portal's pages do not show, to look at. Connections are made there."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from access.admin import AuditedAdmin, ReadOnlyAdmin
from integrations.models import (
    CatalogLocation,
    Connection,
    Delivery,
    OperationRun,
    ResourceRun,
    RuleRevision,
    StoredRecord,
    SyncRun,
)

RESOURCE: tuple[str, ...] = (
    "name", "state", "listed", "new", "changed", "unchanged", "skipped", "refused", "removed", "decision", "message"
)  # fmt: skip


@admin.register(Connection)
class ConnectionAdmin(AuditedAdmin):
    """Connections: how they are scheduled. Settings and secrets have a page of their own, and so has removal."""

    list_display = ["label", "slug", "connector", "namespace", "is_paused", "interval", "due_at"]
    list_filter = ["connector", "namespace", "is_paused"]
    search_fields = ["slug", "label"]
    fields = [
        "label", "slug", "connector", "namespace", "interval", "is_paused", "allows_operations", "due_at",
        "config", "rules", "checked_at", "created_at", "updated_at",
    ]  # fmt: skip
    readonly_fields = [
        "slug", "connector", "namespace", "due_at", "config", "rules", "checked_at", "created_at", "updated_at"
    ]  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a connection is made with a test and a preview."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: what it brought has to go with it."""
        return False


@admin.register(RuleRevision)
class RuleRevisionAdmin(ReadOnlyAdmin):
    """Rules as they were before each change."""

    list_display = ["connection", "at", "by"]
    list_filter = ["connection"]


class ResourceRunInline(admin.TabularInline):
    """What each list of a run brought."""

    model = ResourceRun
    extra = 0
    can_delete = False
    fields = RESOURCE
    readonly_fields = RESOURCE

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds here."""
        return False


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    """Sync runs with their leases and attempts."""

    list_display = [
        "id",
        "connection",
        "state",
        "trigger",
        "requested_by",
        "queued_at",
        "finished_at",
        "attempts",
    ]
    list_filter = ["state", "trigger", "connection"]
    list_select_related = ["connection"]
    inlines = [ResourceRunInline]
    show_full_result_count = False


@admin.register(StoredRecord)
class StoredRecordAdmin(ReadOnlyAdmin):
    """What tools told, word by word."""

    list_display = ["external_id", "connection", "resource", "type", "touched_at", "deleted_at"]
    list_filter = ["connection", "type"]
    list_select_related = ["connection"]
    search_fields = ["external_id"]
    exclude = ["digest"]
    show_full_result_count = False


@admin.register(OperationRun)
class OperationRunAdmin(ReadOnlyAdmin):
    """What people had done to connected tools."""

    list_display = [
        "operation",
        "connection",
        "target_id",
        "state",
        "requested_by",
        "requested_at",
        "finished_at",
    ]
    list_filter = ["state", "connection", "operation"]
    list_select_related = ["connection"]
    search_fields = ["target_id", "requested_by"]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """What tools told of their own accord."""

    list_display = ["event", "delivery_id", "connection", "state", "received_at", "attempts", "message"]
    list_filter = ["state", "connection"]
    list_select_related = ["connection"]
    search_fields = ["delivery_id"]
    exclude = ["body"]
    show_full_result_count = False


@admin.register(CatalogLocation)
class CatalogLocationAdmin(ReadOnlyAdmin):
    """Catalog files that are read again by themselves."""

    list_display = ["address", "created_by", "read_at", "due_at", "message"]
    search_fields = ["address"]
