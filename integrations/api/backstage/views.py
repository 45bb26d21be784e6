"""Locations, refresh, analysis and validation as Backstage's clients ask for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from access.api.permissions import person_of
from access.permissions import require
from base.answers import json_answer
from base.errors import DomainError, InvalidInput, NotFound
from catalog import queries as catalog
from catalog.api.backstage.errors import InputError
from catalog.api.backstage.parameters import at_least, body_of, query_in, read
from catalog.api.backstage.views import CatalogView
from catalog.documents import Location
from integrations import queries
from integrations.api.backstage import shapes
from integrations.errors import SourceError
from integrations.models import CatalogLocation
from integrations.services import analysis, locations
from integrations.services.locations.annotations import annotate
from integrations.services.runs import SyncAlreadyActive
from integrations.tasks import start_forgetting, start_import, start_reading, start_reading_at, start_sync

_YES = {"y", "yes", "true", "1", "on"}


class LocationView(CatalogView):
    """A view of locations: who may not read them finds none."""

    verbs = {
        "GET": "entity.read",
        "POST": "connection.write",
        "PUT": "connection.write",
        "DELETE": "connection.write",
    }


def _json(request: Request, data: Any, status: int = 200) -> HttpResponse:
    answer = json_answer(request, orjson.dumps(data))
    if answer.status_code == 200:
        answer.status_code = status
    return answer


def _body(request: Request, **required: type) -> dict[str, Any]:
    """A body that must be an object with some values."""
    body = body_of(request)
    for name, kind in required.items():
        place = f"request/body/{name}"
        if name not in body:
            raise InputError(f"request/body must have required property '{name}'")
        if not isinstance(body[name], kind):
            raise InputError(f"{place} must be {'string' if kind is str else 'object'}")
    return body


def _target(body: dict[str, Any]) -> str:
    """Where a location of a body lies.

    :raises InputError: if it says anything else, or lies elsewhere than on the web.
    """
    if unknown := set(body) - {"type", "target", "presence"}:
        raise InputError(f"Malformed request: unrecognized key {sorted(unknown)[0][:100]!r}")
    if body.get("presence", "required") not in ("required", "optional"):
        raise InputError("Malformed request: presence must be 'required' or 'optional'")
    if body["type"] != "url":
        raise InputError('Registered locations must be of an allowed type ["url"]')
    target = str(body["target"]).strip()
    if not target.lower().startswith(("http://", "https://", "git+", "ssh://")):
        raise InputError("The given location.target is not a URL")
    return target


@extend_schema(exclude=True)
class Locations(LocationView):
    """`GET` and `POST /locations`."""

    def get(self, request: Request) -> HttpResponse:
        read(request)
        rows = queries.present_locations(request.user)
        return _json(request, [{"data": shapes.shape_of(row)} for row in rows])

    def post(self, request: Request) -> HttpResponse:
        given = read(request, "dryRun", "onConflict")
        on_conflict = given.get("onConflict", "reject")
        if on_conflict not in ("refresh", "reject"):
            raise InputError(
                "request/query/onConflict must be equal to one of the allowed values: refresh, reject"
            )
        target = _target(_body(request, type=str, target=str))
        if str(given.get("dryRun", "")).lower() in _YES:
            return _json(request, _tried(request, target), 201)
        with _going_where_it_may():
            made = start_import(
                address=target, by=person_of(request).label, is_to_be_new=on_conflict == "reject"
            )
        return _json(request, {"location": shapes.shape_of(made), "entities": []}, 201)


@contextmanager
def _going_where_it_may() -> Iterator[None]:
    """An address that cannot be read, or where nobody may go, is a wrong input."""
    try:
        yield
    except SourceError as error:
        raise InputError(error.message) from error


def _tried(request: Request, target: str) -> dict[str, Any]:
    """What registering a target would bring."""
    try:
        start, documents = locations.documents_at(target)
    except InvalidInput as error:
        raise InputError(error.message) from error
    shape = shapes.as_shape(start)
    entity = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Location",
        "metadata": {"name": shapes.name_of(shape["type"], shape["target"]), "namespace": "default"},
        "spec": {"type": shape["type"], "target": shape["target"]},
    }
    return {
        "exists": queries.present_locations(request.user).filter(address=start.text).exists(),
        "location": shape,
        "entities": [annotate(entity, file=start, origin=start), *documents],
    }


@extend_schema(exclude=True)
class LocationsByQuery(LocationView):
    """`POST /locations/by-query`: pages by cursor, by id."""

    verbs = {"POST": "entity.read"}

    def post(self, request: Request) -> HttpResponse:
        read(request)
        body = body_of(request)
        cursor, query, after = body.get("cursor"), query_in(body), ""
        limit = body.get("limit", shapes.DEFAULT_LIMIT)
        if cursor is not None:
            if not isinstance(cursor, str):
                raise InputError("request/body/cursor must be string")
            limit, after, query = shapes.read_cursor(cursor)
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise InputError("Limit must be a positive integer >= 1")
        at_least(limit, "Limit", 1)
        test = shapes.compile_filter(query) if query is not None else None
        found = [
            shape
            for row in queries.present_locations(request.user).order_by("uid")
            if (shape := shapes.shape_of(row)) and (test is None or test(shape))
        ]
        rest = [shape for shape in found if shape["id"] > after]
        page = rest[:limit]
        info = {"nextCursor": shapes.write_cursor(limit, page[-1]["id"], query)} if len(rest) > limit else {}
        return _json(request, {"items": page, "totalItems": len(found), "pageInfo": info})


def _known(request: Request, uid: str) -> CatalogLocation:
    try:
        found = queries.present_locations(request.user).filter(uid=uuid.UUID(uid)).first()
    except ValueError:
        found = None
    if found is None:
        raise NotFound(f"Found no location with ID {uid}")
    return found


@extend_schema(exclude=True)
class LocationById(LocationView):
    """`GET`, `PUT` and `DELETE /locations/{id}`."""

    def get(self, request: Request, uid: str) -> HttpResponse:
        read(request)
        return _json(request, shapes.shape_of(_known(request, uid)))

    def put(self, request: Request, uid: str) -> HttpResponse:
        read(request)
        target = _target(_body(request, type=str, target=str))
        with _going_where_it_may():
            moved = start_reading_at(_known(request, uid), target, by=person_of(request).label)
        return _json(request, shapes.shape_of(moved))

    def delete(self, request: Request, uid: str) -> HttpResponse:
        read(request)
        start_forgetting(_known(request, uid), by=person_of(request).label)
        return HttpResponse(status=204)


@extend_schema(exclude=True)
class LocationByEntity(LocationView):
    """`GET /locations/by-entity/{kind}/{namespace}/{name}`: of the file that declares it."""

    def get(self, request: Request, kind: str, namespace: str, name: str) -> HttpResponse:
        read(request)
        ref = f"{kind}:{namespace}/{name}".lower()
        found = queries.locations_of(request.user, ref).first()
        if found is None:
            raise NotFound(f"Found no location of {ref}")
        return _json(request, shapes.shape_of(found))


@extend_schema(exclude=True)
class Refresh(CatalogView):
    """`POST /refresh`: whatever speaks of an entity is asked again, by a worker."""

    verbs = {"POST": ("connection.sync", "connection.write")}  # type: ignore[dict-item]

    def post(self, request: Request) -> HttpResponse:
        read(request)
        body = _body(request, entityRef=str)
        if unknown := set(body) - {"entityRef", "authorizationToken"}:
            raise InputError(f"request/body must NOT have additional property {sorted(unknown)[0][:100]!r}")
        ref = str(body["entityRef"]).lower()
        rows = [*queries.locations_of(request.user, ref)] or [
            row for row in queries.present_locations(request.user) if shapes.shape_of(row)["entityRef"] == ref
        ]
        connections = queries.connections_of(request.user, ref)
        known = catalog.list_entities(request.user).filter(ref=ref)
        if not rows and not connections and not known.exists():
            raise NotFound(f"Found no entity {ref}")
        if rows:
            require(request.user, "connection.write")
        for connection in connections:
            require(request.user, "connection.sync", connection)
        for row in rows:
            start_reading(row)
        for connection in connections:
            try:
                start_sync(connection=connection, trigger="api", by=person_of(request).label)
            except SyncAlreadyActive:
                continue
        return HttpResponse(status=200)


@extend_schema(exclude=True)
class AnalyzeLocation(CatalogView):
    """`POST /analyze-location`: what a repository declares already, else what it might."""

    verbs = {"POST": "connection.read"}

    def post(self, request: Request) -> HttpResponse:
        read(request)
        body = _body(request, location=dict)
        place = body["location"]
        for name in ("type", "target"):
            if not isinstance(place.get(name), str):
                raise InputError(f"request/body/location must have required property '{name}'")
        if unknown := set(place) - {"type", "target", "presence"}:
            raise InputError(f"Malformed request: unrecognized key {sorted(unknown)[0][:100]!r}")
        if (found := analysis.analyze(request.user, place["target"])) is None:
            raise InputError("The given location.target is not a URL")
        return _json(request, {"existingEntityFiles": found.existing, "generateEntities": found.offered})


@extend_schema(exclude=True)
class ValidateEntity(CatalogView):
    """`POST /validate-entity`: whether an entity would be accepted from a web address."""

    verbs = {"POST": "entity.write"}

    def post(self, request: Request) -> HttpResponse:
        read(request)
        try:
            body = _body(request, location=str, entity=dict)
            type_, _colon, target = str(body["location"]).partition(":")
            if not type_ or not target:
                raise InputError(
                    f"Unable to parse location ref '{body['location']}', expected '<type>:<target>', "
                    "e.g. 'url:https://host/path'"
                )
            if type_ != "url":
                raise InputError(
                    f"Invalid location ref {body['location']}, only 'url:<target>' is supported, "
                    "e.g. url:https://host/path"
                )
        except DomainError as error:
            return _refused([error.message])
        faults = locations.faults_of_document(body["entity"], location=Location(type_, target))
        return _refused([str(fault) for fault in faults]) if faults else HttpResponse(status=200)


def _refused(messages: list[str]) -> HttpResponse:
    errors = [{"name": "InputError", "message": message} for message in messages]
    return HttpResponse(orjson.dumps({"errors": errors}), status=400, content_type="application/json")
