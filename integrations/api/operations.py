"""What can be done in the tools, and what was: `/api/v1/operations/`, and below an entity what it offers."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from access.permissions import visible
from base.answers import given, one_answer
from base.openapi import FIELDS, IF_NONE_MATCH, PAGE, part_of
from base.pagination import rows_answer
from catalog.queries import get_entity, reach
from integrations import queries
from integrations.api import serializers as shapes
from integrations.api.views import named_connection
from integrations.models import Connection
from integrations.services import targets
from integrations.tasks import start_operation

KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": 100},
    OpenApiParameter.HEADER,
    description="Asked again with the same key, the operation that there is is answered, and none is begun.",
)


class EntityOperations(View):
    """What can be done in the tools to what an entity shows."""

    verbs = {"GET": "entity.read", "POST": "operation.run"}

    @extend_schema(
        responses=shapes.OffersOut,
        operation_id="entities_operations",
        description="What one may have done in the connected tools to what the entity shows.",
    )
    def get(self, request: Request, **names: str) -> Response:
        entity = get_entity(request.user, **names)
        known = visible(request.user, Connection.objects.all())
        found = targets.operations_on(request.user, entity, reach(entity), known)
        return Response({"results": [shapes.offered(one) for one in found]})

    @extend_schema(
        request=shapes.OperationIn,
        responses={202: shapes.OperationOut},
        parameters=[KEY],
        operation_id="entities_operate",
        description="Have an operation done, by a worker; `operations/<id>/` then says what came of it.",
    )
    def post(self, request: Request, **names: str) -> Response:
        entity, data = get_entity(request.user, **names), given(request, shapes.OperationIn)
        connection = named_connection(request, data["connection"])
        spec, target, subject = targets.target_of(
            request.user, entity, connection, operation=data["operation"], target=data["target"]
        )
        run = start_operation(
            connection=connection,
            operation=spec.name,
            target=target,
            params=data.get("params", {}),
            by=person_of(request).label,
            subject_uid=subject.uid,
            idempotency_key=request.headers.get("Idempotency-Key", "")[:100],
        )
        return Response(shapes.operation(run), status=202)


class OperationList(View):
    """What people had done in the tools, newest first."""

    verbs = {"GET": "connection.read"}

    @extend_schema(
        parameters=[OpenApiParameter("connection", str), *PAGE],
        responses={200: shapes.OperationListOut, 304: None},
        operation_id="operations_list",
    )
    def get(self, request: Request) -> HttpResponse:
        slug = request.query_params.get("connection")
        connection = named_connection(request, slug) if slug else None
        rows = queries.list_operations(request.user, connection).select_related("connection")
        return rows_answer(request, rows, ("-id",), shapes.operation)


class OperationDetail(View):
    """One operation."""

    verbs = {"GET": "connection.read"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.OperationOut), 304: None},
        operation_id="operations_retrieve",
        description="One operation: whether it is done, and what the tool said.",
    )
    def get(self, request: Request, operation_id: int) -> HttpResponse:
        return one_answer(request, shapes.operation(queries.get_operation(request.user, None, operation_id)))
