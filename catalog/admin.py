"""Django's admin for this floor: rows to look at when something has to be understood. Nothing is changed here."""

from __future__ import annotations

from django.contrib import admin

from access.admin import ReadOnlyAdmin
from catalog.models import (
    Activity,
    Claim,
    Entity,
    EntityKey,
    FeedItem,
    Kind,
    KindField,
    Passage,
    Problem,
    RelationType,
    Revision,
    Source,
    Tie,
)


class _Rows(ReadOnlyAdmin):
    """A table that may be large."""

    show_full_result_count = False
    list_per_page = 50


@admin.register(Kind, KindField, RelationType)
class DefinitionAdmin(ReadOnlyAdmin):
    """Kinds, fields and relation types; packs bring them."""

    list_display = ["name", "pack", "revision", "updated_at", "updated_by"]
    list_filter = ["pack"]
    search_fields = ["name"]


@admin.register(Entity)
class EntityAdmin(_Rows):
    """Entities, deleted ones too."""

    list_display = ["ref", "title", "owner", "revision", "changed_at", "deleted_at"]
    list_filter = ["kind", "namespace"]
    search_fields = ["ref", "title", "=uid"]
    exclude = ["tokens", "digest"]


@admin.register(Passage)
class PassageAdmin(_Rows):
    """What search finds beside entities."""

    list_display = ["entity", "sort", "key", "title"]
    list_filter = ["sort"]
    list_select_related = ["entity"]
    search_fields = ["=entity__ref", "key"]
    exclude = ["vector", "digest"]


@admin.register(Source)
class SourceAdmin(_Rows):
    """Who says something."""

    list_display = ["key", "type", "label", "connector", "created_at"]
    list_filter = ["type", "connector"]
    search_fields = ["key", "label"]


@admin.register(Claim)
class ClaimAdmin(_Rows):
    """What each source says of each entity."""

    list_display = ["external_id", "source", "entity", "rank", "mode", "as_of", "is_shadowed"]
    list_filter = ["rank", "mode", "is_shadowed"]
    list_select_related = ["source", "entity"]
    search_fields = ["external_id", "entity__ref"]
    exclude = ["digest"]


@admin.register(EntityKey)
class EntityKeyAdmin(_Rows):
    """Identity keys: why things are one, or tied."""

    list_display = ["key", "path", "kind", "is_identity", "entity", "claim"]
    list_filter = ["kind", "is_identity"]
    list_select_related = ["entity", "claim"]
    search_fields = ["key"]


@admin.register(Tie)
class TieAdmin(_Rows):
    """Ties and what people decided of them."""

    list_display = ["source", "type", "target", "state", "key", "decided_by", "decided_at"]
    list_filter = ["state", "type"]
    list_select_related = ["source", "target"]
    search_fields = ["source__ref", "target__ref", "key"]


@admin.register(Revision)
class RevisionAdmin(_Rows):
    """The history of entities."""

    list_display = ["entity_ref", "number", "action", "at", "by"]
    list_filter = ["action"]
    search_fields = ["entity_ref", "=entity_uid"]


@admin.register(FeedItem)
class FeedItemAdmin(_Rows):
    """What changed, in the order in which it was committed."""

    list_display = ["id", "transaction", "at", "action", "entity_ref", "revision"]
    list_filter = ["action", "kind"]
    search_fields = ["entity_ref"]


@admin.register(Activity)
class ActivityAdmin(_Rows):
    """What happened."""

    list_display = ["external_id", "type", "connection", "status", "title", "at", "subject_ref"]
    list_filter = ["type", "connection"]
    search_fields = ["external_id", "title", "subject_ref"]
    exclude = ["digest"]


@admin.register(Problem)
class ProblemAdmin(_Rows):
    """What is or was wrong."""

    list_display = [
        "cause",
        "severity",
        "type",
        "subject_label",
        "first_seen_at",
        "resolved_at",
        "snoozed_until",
    ]
    list_filter = ["severity", "type"]
    search_fields = ["subject_label", "cause", "message"]
