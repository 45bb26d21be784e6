"""What concerns the whole portal: the definitions of packs, and the sample company."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from access.definitions import Definition, document_types
from base.answers import one_answer, plain
from base.openapi import IF_NONE_MATCH
from integrations.models import Connection
from portal.packs import restore_definition
from portal.sample import load_sample, remove_sample


class DefinitionOut(serializers.Serializer[Any]):
    """One kind, relation type, page or role."""

    kind = serializers.CharField()
    name = serializers.CharField()
    pack = serializers.CharField(
        allow_blank=True, help_text="Where it came from; empty if people composed it."
    )
    is_edited = serializers.BooleanField(help_text="Whether it differs from what its pack shipped.")
    revision = serializers.IntegerField()
    updated_at = serializers.DateTimeField()
    updated_by = serializers.CharField(allow_blank=True)


class DefinitionsOut(serializers.Serializer[Any]):
    results = DefinitionOut(many=True)


class RestoredDefinitionOut(serializers.Serializer[Any]):
    restored = serializers.BooleanField(help_text="False where it was as shipped already.")


def _shape(kind: str, row: Definition) -> dict[str, Any]:
    return plain(DefinitionOut, row, kind=kind)


class DefinitionList(View):
    """What packs brought, and what was edited since."""

    verbs = {"GET": "pack.write"}

    @extend_schema(
        parameters=[IF_NONE_MATCH],
        responses={200: DefinitionsOut, 304: None},
        operation_id="definitions_list",
    )
    def get(self, request: Request) -> HttpResponse:
        found = [
            _shape(kind, row)
            for kind, document_type in document_types().items()
            for row in document_type.rows()
        ]
        return one_answer(request, {"results": found})


class DefinitionRestore(View):
    """A definition as its pack shipped it."""

    verbs = {"POST": "pack.write"}

    @extend_schema(
        request=None,
        responses=RestoredDefinitionOut,
        operation_id="definitions_restore",
        description="Serve a definition as its pack shipped it again.",
    )
    def post(self, request: Request, kind: str, name: str) -> Response:
        restored = restore_definition(kind=kind, name=name, by=person_of(request).label)
        return Response({"restored": restored})


class SampleOut(serializers.Serializer[Any]):
    """The sample company: the connections that it is made of; none where it is not here."""

    connections = serializers.ListField(child=serializers.CharField())


class SampleGoneOut(serializers.Serializer[Any]):
    entities = serializers.IntegerField(help_text="How many entities are gone.")


def _sample() -> dict[str, Any]:
    slugs = Connection.objects.filter(is_sample=True).order_by("slug").values_list("slug", flat=True)
    return {"connections": list(slugs)}


class Sample(View):
    """The sample company."""

    verbs = {"GET": "connection.write", "PUT": "connection.write", "DELETE": "connection.write"}

    @extend_schema(
        responses=SampleOut, operation_id="sample_retrieve", description="Whether the sample company is here."
    )
    def get(self, request: Request) -> Response:
        return Response(_sample())

    @extend_schema(
        request=None,
        responses={202: SampleOut},
        operation_id="sample_load",
        description="Load the sample company; its made-up tools are read by a worker. What is here of it stays.",
    )
    def put(self, request: Request) -> Response:
        load_sample()
        return Response(_sample(), status=202)

    @extend_schema(
        request=None,
        responses={200: SampleGoneOut},
        operation_id="sample_remove",
        description="Take every row of the sample company away.",
    )
    def delete(self, request: Request) -> Response:
        return Response({"entities": remove_sample(by=person_of(request).label).entities})
