"""What tools delivered by webhook: below `/api/v1/connections/`."""

from __future__ import annotations

from functools import partial

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View
from access.permissions import can
from base.answers import chosen, given, one_answer, plain
from base.errors import NotFound
from base.openapi import FIELDS, IF_NONE_MATCH, PAGE, choice, part_of
from base.pagination import rows_answer
from integrations import queries
from integrations.api import serializers as shapes
from integrations.models import Connection, Delivery
from integrations.services import deliveries
from integrations.tasks import start_processing


def _connection(request: Request, slug: str) -> Connection:
    connection = queries.get_connection(request.user, slug)
    if deliveries.webhook_of(connection) is None:
        raise NotFound(_("%(name)s takes no deliveries.") % {"name": connection.label})
    return connection


class DeliveryList(View):
    """What a tool delivered, newest first."""

    verbs = {"GET": "connection.write"}

    @extend_schema(
        parameters=[choice("state", Delivery.State.values), *PAGE],
        responses={200: shapes.DeliveryListOut, 304: None},
        operation_id="connections_deliveries_list",
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        rows = Delivery.objects.filter(connection=_connection(request, slug)).defer("body", "headers")
        if states := chosen(request, "state", Delivery.State.values):
            rows = rows.filter(state__in=states)
        return rows_answer(request, rows, ("-id",), partial(plain, shapes.DeliveryOut))


class DeliveryDetail(View):
    """One delivery."""

    verbs = {"GET": "connection.write"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.DeliveryDetailOut), 304: None},
        operation_id="connections_deliveries_retrieve",
    )
    def get(self, request: Request, slug: str, delivery_id: int) -> HttpResponse:
        connection = _connection(request, slug)
        row = Delivery.objects.filter(connection=connection, pk=delivery_id).first()
        if row is None:
            raise NotFound(_("There is no delivery %(id)d here.") % {"id": delivery_id})
        may_read = can(request.user, "raw.read", row)
        body = bytes(row.body).decode("utf-8", "replace") if may_read else None
        return one_answer(request, plain(shapes.DeliveryDetailOut, row, body=body))


class DeliverySecret(View):
    """What a tool proves its deliveries by."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=None,
        responses=shapes.DeliverySecretOut,
        operation_id="connections_deliveries_secret",
        description="Make a new secret that deliveries are proved by from now on. It stands in this answer and nowhere "
        "else.",
    )
    def post(self, request: Request, slug: str) -> Response:
        return Response({"secret": deliveries.make_secret(connection=_connection(request, slug))})


class DeliveryReplay(View):
    """Another try with what was given up."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=shapes.ReplayIn,
        responses=shapes.CountOut,
        operation_id="connections_deliveries_replay",
        description="Take in again what was given up: some deliveries, or all. 409 if none of them was.",
    )
    def post(self, request: Request, slug: str) -> Response:
        connection, data = _connection(request, slug), given(request, shapes.ReplayIn)
        count = deliveries.replay(connection=connection, delivery_ids=data.get("deliveries"))
        start_processing(connection.pk)
        return Response({"count": count})
