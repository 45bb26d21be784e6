"""What every operation of the API has in common, for its description."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from django.conf import settings
from django.contrib.admindocs.views import simplify_regex
from django.urls import get_urlconf
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from base.api import PROBLEM_JSON
from base.pagination import DEFAULT_LIMIT, MAX_LIMIT

LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    description="Rows of a page.",
)
CURSOR = OpenApiParameter("cursor", str, description="From `next` or `previous` of another page.")
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="An ETag: 304 if nothing has changed since."
)
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="Its ETag: 412 if it has changed since."
)
FIELDS = OpenApiParameter(
    "fields", str, description="Dotted paths with commas between them; all if left out."
)
PAGE = [FIELDS, LIMIT, CURSOR, IF_NONE_MATCH]


def choice(name: str, known: Iterable[str]) -> OpenApiParameter:
    """A parameter of `base.answers.chosen`."""
    return OpenApiParameter(
        name,
        {"type": "array", "items": {"type": "string", "enum": list(known)}},
        style="form",
        explode=False,
        description="Some of these words, with commas between them.",
    )


class _Part(serializers.Serializer[Any]):
    """Of which `fields` may take a part."""

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            field.required = False
        return fields


_parts: dict[type, type[serializers.Serializer[Any]]] = {}


def part_of(item: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The shape of an item of which `fields` may take a part."""
    name = f"{item.__name__.removesuffix('Out')}RowOut"
    return _parts.setdefault(item, type(name, (_Part, item), {}))


def list_of(name: str, item: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The shape of all lists around one kind of item."""
    return type(
        name,
        (serializers.Serializer,),
        {
            "results": part_of(item)(many=True),
            "next": serializers.CharField(allow_null=True),
            "previous": serializers.CharField(allow_null=True),
            "total": serializers.IntegerField(),
        },
    )


_METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}
_TEXT = {"type": "string"}
_PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457): what was expected, what came, where, and what to do.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": {"type": "string", "description": "Stable name of the failure, for programs."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {"path": _TEXT, "message": _TEXT, "expected": _TEXT, "got": _TEXT},
            },
        },
        "request_id": _TEXT,
    },
}


def describe_problems(result: dict[str, Any], **_more: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: any operation may answer with problem details, and with 304 if it is told an ETag."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    answer = {
        "description": "Problem details.",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for operations in result["paths"].values():
        for method, operation in operations.items():
            if method in _METHODS:
                operation["responses"].setdefault("default", answer)
                for status, refusal in operation["responses"].items():
                    if status.startswith("4"):  # one that has a shape of its own may be a problem too
                        refusal.setdefault("content", {}).update(answer["content"])
                if any(one["name"] == IF_NONE_MATCH.name for one in operation.get("parameters", ())):
                    operation["responses"].setdefault("304", {"description": "Nothing has changed since."})
    return result


def describe_bodies(result: dict[str, Any], **_more: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: what a request may hold besides the fields that are named is nothing."""
    schemas = result["components"]["schemas"]
    for operations in result["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                named = schemas.get(content["schema"].get("$ref", "").rpartition("/")[2], {})
                if "properties" in named:
                    named["additionalProperties"] = False
    return result


def parameters_of(route: str, method: str) -> frozenset[str] | None:
    """The parameters that an address may have after its `?`, as the description says; None if it is not described.

    :param route: as Django's resolver names it.
    """
    return _parameters_of(get_urlconf() or settings.ROOT_URLCONF, route, method)


@lru_cache(maxsize=500)
def _parameters_of(urlconf: str, route: str, method: str) -> frozenset[str] | None:
    path = re.sub(r"<[^>]*>", "{}", simplify_regex(route))
    return _described(urlconf).get((path, method.lower().replace("head", "get")))


_describing = threading.Lock()  # what describes the API must not begin twice at once


@cache
def _described(urlconf: str) -> dict[tuple[str, str], frozenset[str]]:
    with _describing:
        described = SchemaGenerator(urlconf=urlconf).get_schema(request=None, public=True)
    return {
        (re.sub(r"{[^}]*}", "{}", path), method): frozenset(
            one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"
        )
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    }
