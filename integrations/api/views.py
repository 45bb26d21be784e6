"""`/api/v1/connections/` and `/api/v1/sync-runs/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.api.permissions import HasVerb, person_of
from access.permissions import can, require
from base.openapi import CURSOR, LIMIT
from base.pagination import list_answer, paginate, read_limit
from integrations import queries
from integrations.api import serializers as shapes
from integrations.models import SyncRun
from integrations.services import connections, runs
from integrations.tasks import start_sync

PAGE = [LIMIT, CURSOR]


class View(APIView):
    """A view that names the verb for each method."""

    permission_classes = [HasVerb]
    verbs: ClassVar[Mapping[str, str | None]] = {"GET": "connection.read"}


def _shown(request: Request, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Connections of `list_connections` as this person may see them: settings are for those who may change them."""
    may_write = can(request.user, "connection.write")
    secrets = connections.secrets_of(rows) if may_write else {}
    return [
        shapes.connection(
            row,
            config=row.config if may_write else None,
            secrets=secrets.get(row.uid, ()),
        )
        for row in queries.words_as_seen(request.user, rows)
    ]


class ConnectionList(View):
    """Connections."""

    verbs = {"GET": "connection.read", "POST": "connection.write"}

    @extend_schema(parameters=PAGE, responses=shapes.ConnectionListOut, operation_id="connections_list")
    def get(self, request: Request) -> Response:
        rows = queries.list_connections(request.user)
        page = paginate(
            rows,
            order=("slug", "id"),
            limit=read_limit(request.query_params.get("limit")),
            cursor=request.query_params.get("cursor"),
        )
        shown = _shown(request, page.rows)
        return Response(list_answer(request, shown, page, total=rows.order_by().count()))

    @extend_schema(
        request=shapes.ConnectionIn, responses={201: shapes.ConnectionOut}, operation_id="connections_create"
    )
    def post(self, request: Request) -> Response:
        data = shapes.ConnectionIn(data=request.data)
        data.is_valid(raise_exception=True)
        given = data.validated_data
        connection = connections.create_connection(
            slug=given["slug"],
            label=given.get("label") or given["slug"],
            connector=given["connector"],
            config=given.get("config", {}),
            namespace=given.get("namespace", "default"),
            interval=given.get("interval", 600),
        )
        row = queries.get_connection(request.user, connection.slug)
        return Response(_shown(request, [row])[0], status=201)


class ConnectionDetail(View):
    """One connection."""

    verbs = {"GET": "connection.read", "PATCH": "connection.write", "DELETE": "connection.write"}

    @extend_schema(responses=shapes.ConnectionOut, operation_id="connections_retrieve")
    def get(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        return Response(_shown(request, [row])[0])

    @extend_schema(
        request=shapes.ConnectionChange, responses=shapes.ConnectionOut, operation_id="connections_update"
    )
    def patch(self, request: Request, slug: str) -> Response:
        data = shapes.ConnectionChange(data=request.data)
        data.is_valid(raise_exception=True)
        row = queries.get_connection(request.user, slug)
        connections.update_connection(connection=row, **data.validated_data)
        row = queries.get_connection(request.user, slug)
        return Response(_shown(request, [row])[0])

    @extend_schema(responses={204: None}, operation_id="connections_delete")
    def delete(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        connections.delete_connection(connection=row, by=person_of(request).label)
        return Response(status=204)


class ConnectionSync(View):
    """Start a run of a connection."""

    verbs = {"POST": "connection.sync"}

    @extend_schema(request=None, responses={202: shapes.SyncRunOut}, operation_id="connections_sync")
    def post(self, request: Request, slug: str) -> Response:
        row = queries.get_connection(request.user, slug)
        require(request.user, "connection.sync", row)
        run = start_sync(connection=row, trigger=SyncRun.Trigger.API, by=person_of(request).label)
        return Response(shapes.sync_run(queries.get_run(request.user, run.pk)), status=202)


class SyncRunList(View):
    """Runs, newest first."""

    @extend_schema(
        parameters=[*PAGE, OpenApiParameter("connection", str)],
        responses=shapes.SyncRunListOut,
        operation_id="sync_runs_list",
    )
    def get(self, request: Request) -> Response:
        rows: Any = queries.list_runs(request.user)
        if slug := request.query_params.get("connection"):
            rows = rows.filter(connection__slug=slug)
        page = paginate(
            rows,
            order=("-id",),
            limit=read_limit(request.query_params.get("limit")),
            cursor=request.query_params.get("cursor"),
        )
        shown = [shapes.sync_run(row) for row in queries.as_seen(request.user, page.rows)]
        return Response(list_answer(request, shown, page, total=rows.order_by().count()))


class SyncRunDetail(View):
    """One run."""

    verbs = {"GET": "connection.read", "DELETE": "connection.sync"}

    @extend_schema(responses=shapes.SyncRunOut, operation_id="sync_runs_retrieve")
    def get(self, request: Request, run_id: int) -> Response:
        return Response(shapes.sync_run(queries.get_run(request.user, run_id)))

    @extend_schema(
        responses={202: shapes.SyncRunOut}, operation_id="sync_runs_cancel", description="Cancel the run."
    )
    def delete(self, request: Request, run_id: int) -> Response:
        run = queries.get_run(request.user, run_id)
        require(request.user, "connection.sync", run.connection)
        runs.cancel_run(run=run)
        return Response(shapes.sync_run(queries.get_run(request.user, run_id)), status=202)
