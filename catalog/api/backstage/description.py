"""What Backstage's clients may ask below `/api/catalog/`, as an OpenAPI document: a table, and the shapes it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from catalog.api.backstage.errors import PREFIX

Shape = Mapping[str, Any]


def _list(of: Shape) -> Shape:
    return {"type": "array", "items": of}


def _object(always: Mapping[str, Shape], sometimes: Mapping[str, Shape] | None = None) -> Shape:
    required = {"required": list(always)} if always else {}
    return {"type": "object", "properties": {**always, **(sometimes or {})}, **required}


def _only(shape: Shape) -> Shape:
    return {**shape, "additionalProperties": False}


def _one_of(*values: str) -> Shape:
    return {"type": "string", "enum": values}


def _named(shape: str) -> Shape:
    return {"$ref": f"#/components/schemas/{shape}"}


_TEXT: Shape = {"type": "string"}
_TEXTS = _list(_TEXT)
_BY_NAME: Shape = {"type": "object", "additionalProperties": _TEXT}
_ANYTHING: Shape = {"type": "object"}
_YES_OR_NO: Shape = {"type": "boolean"}
_NUMBER: Shape = {"type": "integer", "minimum": 0}
_AT_LEAST_ONE: Shape = {"type": "integer", "minimum": 1}
_TOTAL = _one_of("include", "exclude")
_PLACE = {"type": _TEXT, "target": _TEXT}
_PLACE_TO_READ = _only(_object(_PLACE, {"presence": _one_of("required", "optional")}))
_ERROR = {"name": _TEXT, "message": _TEXT}
_META = dict.fromkeys(("namespace", "uid", "etag", "title", "description"), _TEXT)
_LINK = _object({"url": _TEXT}, dict.fromkeys(("title", "icon", "type"), _TEXT))

_SHAPES: dict[str, Shape] = {
    "Entity": _object(
        {
            "apiVersion": _TEXT,
            "kind": _TEXT,
            "metadata": _object(
                {"name": _TEXT},
                {**_META, "labels": _BY_NAME, "annotations": _BY_NAME, "tags": _TEXTS, "links": _list(_LINK)},
            ),
        },
        {"spec": _ANYTHING, "relations": _list(_object({"type": _TEXT, "targetRef": _TEXT}))},
    ),
    "Error": _object(
        {"error": _object(_ERROR), "response": _object({"statusCode": {"type": "integer"}})},
        {"request": _object({"method": _TEXT, "url": _TEXT})},
    ),
    "Facets": _object(
        {
            "facets": {
                "type": "object",
                "additionalProperties": _list(_object({"value": _TEXT, "count": _NUMBER})),
            }
        }
    ),
    "Location": _object({"id": _TEXT, **_PLACE, "entityRef": _TEXT}),
    "Predicate": {
        "type": "object",
        "description": "Fields, each with a value or with `$exists`, `$in`, `$hasPrefix` or `$contains`, that must "
        "all hold; or one of `$all`, `$any` and `$not`, with a list of predicates or one.",
    },
}
_ENTITY, _LOCATION, _PREDICATE = _named("Entity"), _named("Location"), _named("Predicate")


def _page(of: Shape, *cursors: str) -> Shape:
    info = _object({}, dict.fromkeys(cursors, _TEXT))
    return _object({"items": _list(of), "totalItems": _NUMBER, "pageInfo": info})


_ENTITIES = _page(_ENTITY, "nextCursor", "prevCursor")

# What may stand behind the question mark.
_PARAMETERS: dict[str, tuple[Shape, str]] = {
    "after": (_TEXT, "Where to go on, from the answer's `Link`."),
    "cursor": (
        _TEXT,
        "`nextCursor` or `prevCursor` of a page; what else chooses and sorts is taken from it.",
    ),
    "dryRun": (_TEXT, "`true`: read it at once, say what would come, write nothing."),
    "facet": (_TEXTS, "A field whose values are counted; may be repeated."),
    "fields": (_TEXTS, "Dotted paths of what is wanted of each entity; all of it if left out."),
    "filter": (
        _TEXTS,
        "Conditions that must all hold: `key=value`, or `key` for any value, whatever the case. Repeated, one of "
        "the filters must hold.",
    ),
    "fullTextFilterFields": (_TEXTS, "Where the term may stand; the sorted field if left out."),
    "fullTextFilterTerm": (_TEXT, "What must stand in a field."),
    "limit": (_NUMBER, "How many at most; `entities` takes 1 or more."),
    "offset": (_NUMBER, "How many to leave out first."),
    "onConflict": (_one_of("refresh", "reject"), "What becomes of an address that is known already."),
    "order": (_TEXTS, "`asc:field` or `desc:field`; may be repeated."),
    "orderField": (_TEXTS, "`field`, `field,asc` or `field,desc`; the first one counts."),
    "totalItems": (_TOTAL, "Whether all are counted."),
}
_WITH_COMMAS = {"fields", "fullTextFilterFields"}


@dataclass(frozen=True, slots=True)
class _Operation:
    """What can be asked.

    :ivar path: below the prefix; names stand in braces.
    :ivar id: what Backstage calls it, and so do the clients that are made of a description.
    :ivar query: names of `_PARAMETERS`; `!` behind one that must be there.
    :ivar codes: with which it may be refused, besides those of every operation.
    :ivar refusal: the body of a 400; None for an error like any other.
    """

    method: str
    path: str
    id: str
    says: str
    answer: Shape | None
    query: str = ""
    body: Shape | None = None
    status: int = 200
    codes: tuple[int, ...] = ()
    refusal: Shape | None = None


_NAMED = "{kind}/{namespace}/{name}"
_OPERATIONS = (
    _Operation(
        "get", "entities", "GetEntities", "All entities, or those that a filter finds.",
        _list(_ENTITY), "fields limit filter offset after order",
    ),
    _Operation("get", "entities/by-uid/{uid}", "GetEntityByUid", "One entity.", _ENTITY, codes=(404,)),
    _Operation(
        "delete", "entities/by-uid/{uid}", "DeleteEntityByUid",
        "Take back what people and programs declared of an entity.", None, status=204,
    ),
    _Operation("get", f"entities/by-name/{_NAMED}", "GetEntityByName", "One entity.", _ENTITY, codes=(404,)),
    _Operation(
        "get", f"entities/by-name/{_NAMED}/ancestry", "GetEntityAncestryByName",
        "An entity, and the Locations that led to it.",
        _object({
            "rootEntityRef": _TEXT, "items": _list(_object({"entity": _ENTITY, "parentEntityRefs": _TEXTS})),
        }),
        codes=(404,),
    ),
    _Operation(
        "post", "entities/by-refs", "GetEntitiesByRefs", "The entities of some refs, null for what is not there.",
        _object({"items": _list({"anyOf": [_ENTITY, {"type": "null"}]})}), "filter",
        body=_object({"entityRefs": _TEXTS}, {"fields": _TEXTS, "query": _PREDICATE}),
    ),
    _Operation(
        "get", "entities/by-query", "GetEntitiesByQuery", "A page of the entities that a filter finds.", _ENTITIES,
        "fields limit offset orderField cursor filter totalItems fullTextFilterTerm fullTextFilterFields",
    ),
    _Operation(
        "post", "entities/by-query", "QueryEntitiesByPredicate", "A page of the entities that a predicate finds.",
        _ENTITIES,
        body=_object({}, {
            "cursor": _TEXT, "limit": _NUMBER, "offset": _NUMBER, "fields": _TEXTS, "totalItems": _TOTAL,
            "orderBy": _list(_object({"field": _TEXT, "order": _one_of("asc", "desc")})),
            "fullTextFilter": _object({}, {"term": _TEXT, "fields": _TEXTS}), "query": _PREDICATE,
        }),
    ),
    _Operation(
        "get", "entity-facets", "GetEntityFacets", "Which values some fields have, and how many entities each.",
        _named("Facets"), "facet! filter",
    ),
    _Operation(
        "post", "entity-facets", "QueryEntityFacetsByPredicate", "The same of what a predicate finds.",
        _named("Facets"), body=_object({"facets": _TEXTS}, {"query": _PREDICATE}),
    ),
    _Operation("get", "locations", "GetLocations", "All locations.", _list(_object({"data": _LOCATION}))),
    _Operation(
        "post", "locations", "CreateLocation", "Have an address read, now and from then on.",
        _object({"location": _LOCATION, "entities": _list(_ENTITY)}, {"exists": _YES_OR_NO}), "dryRun onConflict",
        body=_PLACE_TO_READ, status=201, codes=(409,),
    ),
    _Operation(
        "post", "locations/by-query", "GetLocationsByQuery", "A page of the locations that a predicate finds.",
        _page(_LOCATION, "nextCursor"),
        body=_object({}, {"cursor": _TEXT, "limit": _AT_LEAST_ONE, "query": _PREDICATE}),
    ),
    _Operation("get", "locations/{id}", "GetLocation", "One location.", _LOCATION, codes=(404,)),
    _Operation(
        "put", "locations/{id}", "UpdateLocation", "Have a location read at another address.", _LOCATION,
        body=_PLACE_TO_READ, codes=(404, 409),
    ),
    _Operation(
        "delete", "locations/{id}", "DeleteLocation", "Forget a location, and what its files declare.",
        None, status=204, codes=(404,),
    ),
    _Operation(
        "get", f"locations/by-entity/{_NAMED}", "getLocationByEntity", "The location whose file declares an entity.",
        _LOCATION, codes=(404,),
    ),
    _Operation(
        "post", "refresh", "RefreshEntity", "Have whatever speaks of an entity read again.", None,
        body=_only(_object({"entityRef": _TEXT}, {"authorizationToken": _TEXT})),
        codes=(404,),
    ),
    _Operation(
        "post", "analyze-location", "AnalyzeLocation", "What a repository declares already, or might.",
        _object({
            "existingEntityFiles": _list(
                _object({"entity": _ENTITY, "isRegistered": _YES_OR_NO, "location": _object(_PLACE)})
            ),
            "generateEntities": _list(_object({"entity": _ANYTHING, "fields": _list(_ANYTHING)})),
        }),
        body=_object({"location": _PLACE_TO_READ}, {"catalogFileName": _TEXT}),
    ),
    _Operation(
        "post", "validate-entity", "ValidateEntity", "Whether an entity would be accepted from a web address.", None,
        body=_object({"entity": _ANYTHING, "location": _TEXT}),
        refusal={"anyOf": [_object({"errors": _list(_object(_ERROR))}), _named("Error")]},
    ),
    _Operation("get", "openapi.json", "GetDescription", "This description.", _ANYTHING),
)  # fmt: skip


@cache
def description() -> bytes:
    """The document, as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for one in _OPERATIONS:
        paths.setdefault(f"{PREFIX}/{one.path}", {})[one.method] = _described(one)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Catalog",
                "version": "1",
                "description": "What Portico answers to programs that were written for Backstage's catalog.",
            },
            "paths": paths,
            "components": {
                "schemas": _SHAPES,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"token": []}],
        }
    )


def _described(one: _Operation) -> dict[str, Any]:
    answers: dict[int | str, Shape | None] = {
        one.status: one.answer,
        **dict.fromkeys((400, 401, 403, *one.codes, "default"), _named("Error")),
    }
    if one.refusal:
        answers[400] = one.refusal
    body = {"requestBody": {"required": "required" in one.body, **_json(one.body)}} if one.body else {}
    return {
        "operationId": one.id,
        "description": one.says,
        "parameters": [*_in_path(one.path), *map(_in_query, one.query.split())],
        **body,
        "responses": {
            str(code): {"description": _ANSWERS[code], **_json(shape)} for code, shape in answers.items()
        },
    }


_ANSWERS: dict[int | str, str] = {
    200: "Done, or what was asked for.",
    201: "Registered, or tried.",
    204: "Done.",
    400: "The request cannot be used.",
    401: "Nobody is signed in.",
    403: "A permission is missing.",
    404: "It is not there, or may not be seen.",
    409: "It is known already.",
    "default": "It failed.",
}


def _json(shape: Shape | None) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": shape}}} if shape is not None else {}


def _in_path(path: str) -> Iterable[dict[str, Any]]:
    for part in path.split("/"):
        if part.startswith("{"):
            yield {"name": part[1:-1], "in": "path", "required": True, "schema": _TEXT}


def _in_query(text: str) -> dict[str, Any]:
    name = text.removesuffix("!")
    shape, says = _PARAMETERS[name]
    return {
        "name": name,
        "in": "query",
        "description": says,
        "required": text.endswith("!"),
        "schema": shape,
        "explode": name not in _WITH_COMMAS,
    }
