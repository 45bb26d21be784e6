"""`/api/v1/connections/` and `/api/v1/sync-runs/`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from access.permissions import can, require
from base.answers import given, if_match, one_answer, plain
from base.errors import FieldError, InvalidInput, NotFound
from base.openapi import FIELDS, IF_MATCH, IF_NONE_MATCH, PAGE, part_of
from base.pagination import rows_answer
from integrations import queries
from integrations.api import serializers as shapes
from integrations.models import Connection, SyncRun
from integrations.services import connections, runs
from integrations.tasks import (
    start_muting,
    start_purge,
    start_removal,
    start_restoring,
    start_sync,
    start_unmuting,
)


def _shown(request: Request, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Connections of `list_connections` as this person may see them: settings are for those who may change them."""
    may_write = can(request.user, "connection.write")
    secrets = connections.secrets_of(rows) if may_write else {}
    groups = connections.groups_of_connections(rows) if may_write else {}
    return [
        shapes.connection(
            row,
            may_write=may_write,
            secrets=secrets.get(row.uid, ()),
            groups=groups.get(row.slug, ()),
        )
        for row in queries.words_as_seen(request.user, rows)
    ]


def _answer(request: Request, slug: str) -> HttpResponse:
    row = queries.get_connection(request.user, slug)
    return one_answer(request, _shown(request, [row])[0], state=connections.etag_of(row))


def _as_it_is_now(request: Request, slug: str, *, status: int = 202) -> Response:
    row = queries.get_connection(request.user, slug)
    return Response(_shown(request, [row])[0], status=status)


def named_connection(request: Request, slug: str) -> Connection:
    """The connection that a request names in its field `connection`.

    :raises InvalidInput: if the person may see none of this name.
    """
    try:
        return queries.get_connection(request.user, slug)
    except NotFound as error:
        field = FieldError("connection", error.message, got=slug[:200])
        raise InvalidInput(error.message, errors=[field]) from None


class ConnectionList(View):
    """Connections."""

    verbs = {"GET": "connection.read", "POST": "connection.write"}

    @extend_schema(
        parameters=PAGE,
        responses={200: shapes.ConnectionListOut, 304: None},
        operation_id="connections_list",
    )
    def get(self, request: Request) -> HttpResponse:
        rows = queries.list_connections(request.user)
        return rows_answer(request, rows, ("slug", "id"), dict, seen=partial(_shown, request))

    @extend_schema(
        request=shapes.ConnectionIn, responses={201: shapes.ConnectionOut}, operation_id="connections_create"
    )
    def post(self, request: Request) -> Response:
        data = given(request, shapes.ConnectionIn)
        connection = connections.create_connection(
            slug=data["slug"],
            label=data.get("label") or data["slug"],
            connector=data["connector"],
            config=data.get("config", {}),
            namespace=data.get("namespace", "default"),
            interval=data.get("interval", 600),
            network=data.get("network"),
            visible_to=data.get("visible_to", ()),
            by=person_of(request),
        )
        return _as_it_is_now(request, connection.slug, status=201)


class ConnectionDetail(View):
    """One connection."""

    verbs = {"GET": "connection.read", "PATCH": "connection.write", "DELETE": "connection.write"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.ConnectionOut), 304: None},
        operation_id="connections_retrieve",
        description="One connection; its ETag is for If-Match.",
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        return _answer(request, slug)

    @extend_schema(
        request=shapes.ConnectionChange,
        responses=shapes.ConnectionOut,
        parameters=[IF_MATCH],
        operation_id="connections_update",
    )
    def patch(self, request: Request, slug: str) -> HttpResponse:
        data = given(request, shapes.ConnectionChange)
        row = queries.get_connection(request.user, slug)
        connections.update_connection(
            connection=row, **data, by=person_of(request), expected=if_match(request)
        )
        return _answer(request, slug)

    @extend_schema(
        responses={202: shapes.ConnectionOut},
        operation_id="connections_delete",
        description=(
            "Remove the connection and all that it brought. A worker does it; when it is done, this is 404. "
            "All of it is kept for 30 days: see `removed-connections/`."
        ),
    )
    def delete(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        start_removal(connection=row, by=person_of(request).label)
        try:
            return _as_it_is_now(request, slug)
        except NotFound:  # a worker was as quick as that
            return Response(_shown(request, [row])[0], status=202)


class ConnectionSync(View):
    """Start a run of a connection."""

    verbs = {"POST": "connection.sync"}

    @extend_schema(request=None, responses={202: shapes.SyncRunOut}, operation_id="connections_sync")
    def post(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        require(request.user, "connection.sync", row)
        run = start_sync(connection=row, trigger=SyncRun.Trigger.API, by=person_of(request).label)
        return Response(shapes.sync_run(queries.get_run(request.user, run.pk)), status=202)


class ConnectionMute(View):
    """Set aside what a connection brought, and bring it back."""

    verbs = {"POST": "connection.write", "DELETE": "connection.write"}

    @extend_schema(request=None, responses={202: shapes.ConnectionOut}, operation_id="connections_mute")
    def post(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        require(request.user, "connection.write", row)
        start_muting(connection=row, by=person_of(request).label)
        return _as_it_is_now(request, slug)

    @extend_schema(responses={202: shapes.ConnectionOut}, operation_id="connections_unmute")
    def delete(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        require(request.user, "connection.write", row)
        start_unmuting(connection=row)
        return _as_it_is_now(request, slug)


class RemovedConnectionList(View):
    """Connections that were removed and can still be restored, newest first."""

    verbs = {"GET": "connection.write"}

    @extend_schema(
        parameters=PAGE,
        responses={200: shapes.RemovedConnectionListOut, 304: None},
        operation_id="removed_connections_list",
    )
    def get(self, request: Request) -> HttpResponse:
        rows = queries.removed_connections(request.user)
        shape = partial(plain, shapes.RemovedConnectionOut)
        return rows_answer(request, rows, ("-removal_at", "-id"), shape)


class RemovedConnectionDetail(View):
    """One of them."""

    verbs = {"DELETE": "connection.write"}

    @extend_schema(
        responses={202: None},
        operation_id="removed_connections_purge",
        description="Let go of it for good, before its time.",
    )
    def delete(self, request: Request, slug: str) -> Response:
        start_purge(connection=queries.get_removed_connection(request.user, slug))
        return Response(status=202)


class ConnectionRestore(View):
    """Bring a removed connection back, with all that it brought."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=None, responses={202: shapes.ConnectionOut}, operation_id="removed_connections_restore"
    )
    def post(self, request: Request, slug: str) -> Response:
        row = queries.get_removed_connection(request.user, slug)
        start_restoring(connection=row, by=person_of(request).label)
        return _as_it_is_now(request, slug)


class ConnectionCheck(View):
    """Whether a connection works."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=None,
        responses=shapes.TestedOut,
        operation_id="connections_check",
        description="Ask the tool whether the connection works as it is stored. The outcome is kept with it.",
    )
    def post(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        return Response(shapes.tested(connections.check_connection(connection=row)))


class SyncRunList(View):
    """Runs, newest first."""

    @extend_schema(
        parameters=[*PAGE, OpenApiParameter("connection", str)],
        responses={200: shapes.SyncRunListOut, 304: None},
        operation_id="sync_runs_list",
    )
    def get(self, request: Request) -> HttpResponse:
        rows: Any = queries.list_runs(request.user)
        if slug := request.query_params.get("connection"):
            rows = rows.filter(connection=named_connection(request, slug))
        return rows_answer(
            request, rows, ("-id",), shapes.sync_run, seen=partial(queries.as_seen, request.user)
        )


class SyncRunDetail(View):
    """One run."""

    verbs = {"GET": "connection.read", "DELETE": "connection.sync"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.SyncRunOut), 304: None},
        operation_id="sync_runs_retrieve",
    )
    def get(self, request: Request, run_id: int) -> HttpResponse:
        return one_answer(request, shapes.sync_run(queries.get_run(request.user, run_id)))

    @extend_schema(
        responses={202: shapes.SyncRunOut}, operation_id="sync_runs_cancel", description="Cancel the run."
    )
    def delete(self, request: Request, run_id: int) -> Response:
        run = queries.get_run(request.user, run_id)
        require(request.user, "connection.sync", run.connection)
        runs.cancel_run(run=run)
        return Response(shapes.sync_run(queries.get_run(request.user, run_id)), status=202)
