"""`/api/v1/connectors/`: which tools can be connected, and trying settings before a connection is made of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from base.answers import given, one_answer
from base.errors import NotFound
from base.openapi import FIELDS, IF_NONE_MATCH, part_of
from integrations.api import serializers as shapes
from integrations.contract import Connector
from integrations.registry import connectors
from integrations.services import connections
from integrations.services.network import validate_network


def _connector(slug: str) -> type[Connector[Any]]:
    found = connectors().get(slug)
    if found is None:
        raise NotFound(_("No connector %(name)s is installed.") % {"name": slug[:60]})
    return found


class ConnectorList(View):
    """Which tools can be connected."""

    verbs = {"GET": "connection.write"}

    @extend_schema(
        parameters=[IF_NONE_MATCH],
        responses={200: shapes.ConnectorsOut, 304: None},
        operation_id="connectors_list",
        description="The tools that can be connected, with the JSON Schema of each one's settings.",
    )
    def get(self, request: Request) -> HttpResponse:
        return one_answer(request, {"results": [shapes.connector(kind) for kind in connectors().values()]})


class ConnectorDetail(View):
    """One tool that can be connected."""

    verbs = {"GET": "connection.write"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.ConnectorOut), 304: None},
        operation_id="connectors_retrieve",
    )
    def get(self, request: Request, connector: str) -> HttpResponse:
        return one_answer(request, shapes.connector(_connector(connector)))


class ConnectorTest(View):
    """Whether settings work."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=shapes.TryIn,
        responses=shapes.TestedOut,
        operation_id="connectors_test",
        description="Ask the tool whether these settings work. Nothing of them is kept.",
    )
    def post(self, request: Request, connector: str) -> Response:
        kind, data = _connector(connector), given(request, shapes.TryIn)
        config = connections.validate_config(kind.slug, data.get("config", {}))
        route = validate_network(data.get("network", {})).route()
        tested = connections.check_config(connector=kind.slug, config=config, route=route)
        return Response(shapes.tested(tested))


class ConnectorPreview(View):
    """What settings would bring."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=shapes.PreviewIn,
        responses=shapes.PreviewOut,
        operation_id="connectors_preview",
        description="Read the first records of a tool by these settings, and say what each would become. Nothing of "
        "them is kept.",
    )
    def post(self, request: Request, connector: str) -> Response:
        kind, data = _connector(connector), given(request, shapes.PreviewIn)
        found = connections.preview_config(
            connector=kind.slug,
            config=connections.validate_config(kind.slug, data.get("config", {})),
            namespace=data["namespace"],
            route=validate_network(data.get("network", {})).route(),
            viewer=person_of(request),
        )
        return Response(asdict(found))
