"""`/api/v1/fields/` and `/api/v1/kinds/<kind>/fields/`: what is added to kinds, and all that a kind has."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from access.permissions import visible
from base.answers import given, one_answer, plain
from base.openapi import FIELDS, IF_MATCH, IF_NONE_MATCH, PAGE, list_of, part_of
from base.pagination import rows_answer
from catalog.models import KindChange, KindField, RelationType
from catalog.services import kind_changes
from catalog.services.kind_changes import VERB
from portal.api.definitions import DefinitionDetail, DefinitionIn, DefinitionOut
from portal.kinds import (
    changes_for,
    fields_of,
    get_change,
    get_field,
    get_relation_type,
    impact_of,
    kind_called,
    readers_of,
)


class FieldIn(DefinitionIn):
    """What a field is; see docs/packs-and-pages.md."""


class FieldOut(DefinitionOut):
    """An added field, or a type of relation."""


class ImpactOut(serializers.Serializer[Any]):
    entities = serializers.IntegerField(help_text="How many have a value there.")
    pages = serializers.ListField(child=serializers.CharField(), help_text="Pages that name it.")
    fields = serializers.ListField(  # type: ignore[assignment]
        child=serializers.CharField(), help_text="Computed fields that may look at it."
    )


class KindFieldOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    format = serializers.CharField()
    schema = serializers.DictField()
    added_by = serializers.CharField(
        allow_blank=True, help_text="Name of the definition that adds it; empty for the kind's own."
    )
    shown = serializers.ListField(child=serializers.CharField())
    computed_from = serializers.CharField(
        allow_blank=True, help_text="What it is worked out from, in words; empty if sources say it."
    )
    read_by = serializers.ListField(
        child=serializers.CharField(), help_text="Computed fields that may look at it."
    )


class KindFieldsOut(serializers.Serializer[Any]):
    results = KindFieldOut(many=True)


FieldListOut = list_of("FieldListOut", FieldOut)


class FieldList(View):
    """The fields that packs and administrators added to kinds."""

    @extend_schema(parameters=[*PAGE], responses={200: FieldListOut, 304: None}, operation_id="fields_list")
    def get(self, request: Request) -> HttpResponse:
        return rows_answer(
            request, visible(request.user, KindField.objects.all()), ("name", "id"), partial(plain, FieldOut)
        )


@extend_schema_view(
    get=extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(FieldOut), 304: None},
        operation_id="fields_retrieve",
        description="One added field; its ETag is for If-Match.",
    ),
    put=extend_schema(
        request=FieldIn,
        responses=FieldOut,
        parameters=[IF_MATCH],
        operation_id="fields_write",
        description="Add a field to kinds, or change one. Stored entities follow within seconds.",
    ),
    delete=extend_schema(
        responses={204: None},
        parameters=[IF_MATCH],
        operation_id="fields_delete",
        description="Take an added field away; a pack's is as it was shipped again. What sources say there stays said.",
    ),
)
class FieldDetail(DefinitionDetail):
    """One added field."""

    kind = "FieldDefinition"
    verbs = {"GET": "entity.read", "PUT": "kind.write", "DELETE": "kind.write"}

    def find(self, request: Request, name: str) -> KindField:
        return get_field(request.user, name)


class FieldImpact(View):
    """What hangs on an added field."""

    verbs = {"GET": "kind.write"}

    @extend_schema(
        parameters=[IF_NONE_MATCH],
        responses={200: ImpactOut, 304: None},
        operation_id="fields_impact",
        description="What the removal of an added field would touch.",
    )
    def get(self, request: Request, name: str) -> HttpResponse:
        found = impact_of(request.user, get_field(request.user, name))
        return one_answer(request, {"entities": found.entities, "pages": found.pages, "fields": found.fields})


class KindFields(View):
    """All fields of a kind."""

    @extend_schema(
        parameters=[IF_NONE_MATCH],
        responses={200: KindFieldsOut, 304: None},
        operation_id="kinds_fields",
        description="All fields of a kind, its own and those that are added to it.",
    )
    def get(self, request: Request, kind: str) -> HttpResponse:
        found = [
            {
                "path": one.path,
                "title": one.title,
                "description": one.description,
                "format": one.format.name,
                "schema": one.schema,
                "added_by": one.added.definition if one.added else "",
                "shown": sorted(one.added.shown) if one.added else [],
                "computed_from": one.added.computed.words if one.added and one.added.computed else "",
                "read_by": [reader.definition for reader in readers_of(one.added)] if one.added else [],
            }
            for one in fields_of(kind_called(kind))
        ]
        return one_answer(request, {"results": found})


# --- new versions of kinds --------------------------------------------------------------------------------


class KindChangeIn(serializers.Serializer[Any]):
    """The whole definition of a kind as it is to be; see docs/packs-and-pages.md."""

    spec = serializers.DictField()


class ReasonOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    reason = serializers.CharField()
    count = serializers.IntegerField(help_text="How many entities it breaks.")
    refs = serializers.ListField(child=serializers.CharField(), help_text="Some of them.")


class KindChangeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    state = serializers.CharField(
        help_text="checking, checked, applying, applied, undone, cancelled or failed."
    )
    total = serializers.IntegerField(help_text="Entities to check, or to bring to the new version.")
    done = serializers.IntegerField(help_text="How many of them are.")
    breaks = serializers.IntegerField(
        help_text="Entities that lack something afterwards which they do not lack now."
    )
    report = ReasonOut(many=True)
    error = serializers.CharField(allow_blank=True, help_text="Why it could not be checked.")
    spec = serializers.DictField()
    made_at = serializers.DateTimeField()
    made_by = serializers.CharField()
    pack = serializers.CharField(
        allow_blank=True,
        help_text="That brought it; where nothing breaks it is applied by itself. Empty for what people propose.",
    )
    finished_at = serializers.DateTimeField(allow_null=True)


class ApplyIn(serializers.Serializer[Any]):
    anyway = serializers.BooleanField(default=False, help_text="Also where it breaks some.")


KindChangeListOut = list_of("KindChangeListOut", KindChangeOut)


def change_shape(change: KindChange) -> dict[str, Any]:
    """A change of a kind as plain data."""
    return plain(KindChangeOut, change)


class KindChanges(View):
    """Changes of a kind: proposed, checked, applied."""

    verbs = {"GET": "kind.write", "POST": "kind.write"}

    @extend_schema(
        parameters=[*PAGE],
        responses={200: KindChangeListOut, 304: None},
        operation_id="kind_changes_list",
        description="Changes of a kind, the newest first.",
    )
    def get(self, request: Request, kind: str) -> HttpResponse:
        rows = visible(request.user, KindChange.objects.filter(kind=kind_called(kind).name), VERB)
        seen = partial(changes_for, request.user)
        return rows_answer(request, rows, ("-made_at", "-id"), change_shape, seen=seen)

    @extend_schema(
        request=KindChangeIn,
        responses={202: KindChangeOut},
        operation_id="kind_changes_propose",
        description="Have a new definition of a kind checked on all stored entities. Nothing is changed yet.",
    )
    def post(self, request: Request, kind: str) -> Response:
        found = kind_called(kind)
        change = kind_changes.propose(
            user=person_of(request),
            name=found.definition.definition,
            spec=given(request, KindChangeIn)["spec"],
        )
        return Response(change_shape(change), status=202)


class KindChangeDetail(View):
    """One change of a kind."""

    verbs = {"GET": "kind.write", "DELETE": "kind.write"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(KindChangeOut), 304: None},
        operation_id="kind_changes_retrieve",
        description="How far a change is, and what it would break.",
    )
    def get(self, request: Request, change_id: int) -> HttpResponse:
        return one_answer(request, change_shape(get_change(request.user, change_id)))

    @extend_schema(
        responses={204: None},
        operation_id="kind_changes_cancel",
        description="Let a proposed change be.",
    )
    def delete(self, request: Request, change_id: int) -> Response:
        kind_changes.cancel(user=person_of(request), change=get_change(request.user, change_id))
        return Response(status=204)


class KindChangeApply(View):
    """The step from checked to applied."""

    verbs = {"POST": "kind.write"}

    @extend_schema(
        request=ApplyIn,
        responses={202: KindChangeOut},
        operation_id="kind_changes_apply",
        description=(
            "Serve a checked definition from now on. Stored entities follow in the background, and are served as "
            "they are until then. Undo takes it back."
        ),
    )
    def post(self, request: Request, change_id: int) -> Response:
        kind_changes.apply_change(
            user=person_of(request),
            change=get_change(request.user, change_id),
            anyway=given(request, ApplyIn)["anyway"],
        )
        return Response(change_shape(get_change(request.user, change_id)), status=202)


class KindChangeCheck(View):
    """The check of a change, made again."""

    verbs = {"POST": "kind.write"}

    @extend_schema(
        request=None,
        responses={202: KindChangeOut},
        operation_id="kind_changes_check",
        description="Check what waits anew on all stored entities, for some may have been mended since.",
    )
    def post(self, request: Request, change_id: int) -> Response:
        kind_changes.check_again(user=person_of(request), change=get_change(request.user, change_id))
        return Response(change_shape(get_change(request.user, change_id)), status=202)


# --- relation types ---------------------------------------------------------------------------------------


class RelationTypeIn(DefinitionIn):
    """A type of relation; see docs/packs-and-pages.md."""


@extend_schema_view(
    get=extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(FieldOut), 304: None},
        operation_id="relations_retrieve",
        description="One type of relation; its ETag is for If-Match.",
    ),
    put=extend_schema(
        request=RelationTypeIn,
        responses=FieldOut,
        parameters=[IF_MATCH],
        operation_id="relations_write",
        description="Change what a type of relation may join, how many, and how that is checked.",
    ),
    delete=extend_schema(
        responses={204: None},
        parameters=[IF_MATCH],
        operation_id="relations_reset",
        description="Take back what people changed: a pack's type is as it was shipped again, another one goes.",
    ),
)
class RelationTypeDetail(DefinitionDetail):
    """One type of relation, and how it is checked."""

    kind = "RelationType"
    verbs = {"GET": "entity.read", "PUT": "kind.write", "DELETE": "kind.write"}

    def find(self, request: Request, name: str) -> RelationType:
        return get_relation_type(request.user, name)
