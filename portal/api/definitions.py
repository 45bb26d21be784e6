"""What all views of one definition do: read it, compose it, take back what people composed."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from access.definitions import Definition
from base.answers import given, if_match, one_answer, plain
from portal.packs import edit_definition, etag_of, remove_definition


class DefinitionIn(serializers.Serializer[Any]):
    """What a definition says; see docs/packs-and-pages.md."""

    spec = serializers.DictField()


class DefinitionOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    pack = serializers.CharField(
        allow_blank=True, help_text="Where it came from; empty if people composed it."
    )
    spec = serializers.DictField()
    is_edited = serializers.BooleanField(help_text="Whether it differs from what its pack shipped.")
    revision = serializers.IntegerField()
    updated_at = serializers.DateTimeField()
    updated_by = serializers.CharField(allow_blank=True)


class DefinitionDetail(View):
    """One definition, for views that say of which type: describe its methods with `extend_schema_view`."""

    kind: ClassVar[str]

    def find(self, request: Request, name: str) -> Definition:
        """:raises NotFound: if there is none of this name that the viewer may see."""
        raise NotImplementedError

    def shape(self, row: Any) -> dict[str, Any]:
        """A definition as plain data."""
        return plain(DefinitionOut, row)

    def get(self, request: Request, name: str) -> HttpResponse:
        return self._answer(request, self.find(request, name))

    def put(self, request: Request, name: str) -> HttpResponse:
        row = edit_definition(
            kind=self.kind,
            name=name,
            spec=given(request, DefinitionIn)["spec"],
            by=person_of(request).label,
            expected=if_match(request),
        )
        return self._answer(request, row)

    def delete(self, request: Request, name: str) -> Response:
        remove_definition(kind=self.kind, name=name, by=person_of(request).label, expected=if_match(request))
        return Response(status=204)

    def _answer(self, request: Request, row: Definition) -> HttpResponse:
        return one_answer(request, self.shape(row), state=etag_of(row))
