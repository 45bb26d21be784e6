"""`/api/v1/locations/`: catalog files that are imported and read again by themselves."""

from __future__ import annotations

from functools import partial

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from base.answers import given, one_answer, plain
from base.openapi import FIELDS, IF_NONE_MATCH, PAGE, part_of
from base.pagination import rows_answer
from integrations import queries
from integrations.api import serializers as shapes
from integrations.services import locations
from integrations.tasks import start_forgetting, start_import, start_reading

_plain = partial(plain, shapes.LocationOut)


class LocationList(View):
    """Catalog files that are read again by themselves."""

    verbs = {"GET": "connection.read", "POST": "connection.write"}

    @extend_schema(
        parameters=PAGE, responses={200: shapes.LocationListOut, 304: None}, operation_id="locations_list"
    )
    def get(self, request: Request) -> HttpResponse:
        return rows_answer(request, queries.list_locations(request.user), ("address",), _plain)

    @extend_schema(
        request=shapes.LocationIn,
        responses={202: shapes.LocationOut},
        operation_id="locations_import",
        description="Have catalog files imported by a worker, and read again when they change. A known address is "
        "read again.",
    )
    def post(self, request: Request) -> Response:
        location = start_import(**given(request, shapes.LocationIn), by=person_of(request).label)
        return Response(_plain(queries.get_location(request.user, location.pk)), status=202)


class LocationPreview(View):
    """What importing catalog files would do."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=shapes.LocationIn,
        responses=shapes.ImportPreviewOut,
        operation_id="locations_preview",
        description="Read catalog files and say what importing them would do, with each problem's place. Nothing is "
        "written.",
    )
    def post(self, request: Request) -> Response:
        found = locations.preview(**given(request, shapes.LocationIn), by=person_of(request).label)
        return Response(found.as_dict())


class LocationDetail(View):
    """One address of catalog files."""

    verbs = {"GET": "connection.read", "DELETE": "connection.write"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.LocationOut), 304: None},
        operation_id="locations_retrieve",
    )
    def get(self, request: Request, location_id: int) -> HttpResponse:
        return one_answer(request, _plain(queries.get_location(request.user, location_id)))

    @extend_schema(
        request=None,
        responses={202: shapes.LocationOut},
        operation_id="locations_remove",
        description="Have a worker forget these catalog files and what they declared; when it is done, this is 404.",
    )
    def delete(self, request: Request, location_id: int) -> Response:
        start_forgetting(queries.get_location(request.user, location_id), by=person_of(request).label)
        return Response(_plain(queries.get_location(request.user, location_id)), status=202)


class LocationRead(View):
    """Another reading of catalog files."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=shapes.ReadIn,
        responses={202: shapes.LocationOut},
        operation_id="locations_read",
        description="Have catalog files read again by a worker, now.",
    )
    def post(self, request: Request, location_id: int) -> Response:
        asked = given(request, shapes.ReadIn)
        start_reading(queries.get_location(request.user, location_id), is_guarded=not asked["all"])
        return Response(_plain(queries.get_location(request.user, location_id)), status=202)
