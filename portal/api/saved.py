"""`/api/v1/views/`: named queries with columns, order and grouping; one's own, one's teams', and those for all."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import OWN, View, person_of
from base.answers import chosen, given, if_match, one_answer, plain
from base.openapi import FIELDS, IF_MATCH, IF_NONE_MATCH, PAGE, choice, list_of, part_of
from base.pagination import rows_answer
from catalog.models import Entity
from portal import saved_views
from portal.models import SavedView
from portal.saved_views import Audience
from portal.widgets.listing import GROUPS


class SavedViewChange(serializers.Serializer[Any]):
    """What of a view can be changed; what is left out stays."""

    title = serializers.CharField(required=False, max_length=saved_views.LONGEST_TITLE)
    description = serializers.CharField(required=False, allow_blank=True, max_length=500)
    query = serializers.CharField(required=False, allow_blank=True, max_length=saved_views.LONGEST_QUERY)
    columns = serializers.ListField(
        child=serializers.CharField(max_length=300),
        required=False,
        max_length=30,
        help_text="Besides the name; none for the list's own.",
    )
    order = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="As in `?order=`: `-changed,name`."
    )
    group = serializers.ChoiceField(
        list(GROUPS), required=False, allow_blank=True, help_text="What the list is grouped by."
    )
    audience = serializers.ChoiceField(Audience.choices, required=False)
    team = serializers.CharField(
        required=False, allow_blank=True, max_length=400, help_text="Ref of a group that you are in."
    )


class SavedViewIn(SavedViewChange):
    """A new view; your own unless it says otherwise."""

    title = serializers.CharField(max_length=saved_views.LONGEST_TITLE)


class SavedViewOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    title = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    query = serializers.CharField(allow_blank=True)
    columns = serializers.ListField(child=serializers.CharField())
    order = serializers.CharField(allow_blank=True)
    group = serializers.CharField(allow_blank=True)
    audience = serializers.ChoiceField(Audience.choices)
    team = serializers.CharField(allow_blank=True, help_text="Ref of the group; empty if it is no team's.")
    by = serializers.CharField(allow_blank=True, help_text="Who saved it; empty for a pack's.")
    may_change = serializers.BooleanField(help_text="Whether you may change and delete it.")
    pack = serializers.CharField(allow_blank=True)
    revision = serializers.IntegerField()
    updated_at = serializers.DateTimeField()
    url = serializers.CharField(help_text="The link that stays.")


SavedViewListOut = list_of("SavedViewListOut", SavedViewOut)
AUDIENCES = tuple(Audience.values)


def _shapes(request: Request, rows: list[SavedView]) -> dict[int, dict[str, Any]]:
    user = person_of(request)
    uids = {view.team_uid for view in rows if view.team_uid}
    teams = dict(Entity.objects.filter(uid__in=uids).values_list("uid", "ref")) if uids else {}
    return {
        view.pk: plain(
            SavedViewOut,
            view,
            title=view.title,
            description=view.spec.get("description", ""),
            query=view.spec.get("query", ""),
            columns=view.spec.get("columns", []),
            order=view.spec.get("order", ""),
            group=view.spec.get("group", ""),
            team=teams.get(view.team_uid, "") if view.team_uid else "",
            by=view.user.label if view.user else "",
            may_change=saved_views.may_change(user, view),
            url=f"/views/{view.pk}",
        )
        for view in rows
    }


def _shape(request: Request, view: SavedView) -> dict[str, Any]:
    return _shapes(request, [view])[view.pk]


class SavedViewList(View):
    """The views that you see."""

    verbs = {"GET": None, "POST": OWN}

    @extend_schema(
        parameters=[choice("audience", AUDIENCES), *PAGE],
        responses={200: SavedViewListOut, 304: None},
        operation_id="views_list",
    )
    def get(self, request: Request) -> HttpResponse:
        rows = saved_views.views_of(person_of(request))
        if audiences := chosen(request, "audience", AUDIENCES):
            rows = rows.filter(audience__in=audiences)
        shown: dict[int, dict[str, Any]] = {}

        def seen(page: list[SavedView]) -> list[SavedView]:
            shown.update(_shapes(request, page))
            return page

        return rows_answer(request, rows, ("name", "id"), lambda row: shown[row.pk], seen=seen)

    @extend_schema(
        request=SavedViewIn,
        responses={201: SavedViewOut},
        operation_id="views_create",
        description="Save a view. One for all takes `page.write`; a team's, that you are in the team.",
    )
    def post(self, request: Request) -> HttpResponse:
        view = saved_views.make_view(user=person_of(request), **given(request, SavedViewIn))
        answer = one_answer(request, _shape(request, view), state=saved_views.etag_of(view))
        answer.status_code = 201
        return answer


class SavedViewDetail(View):
    """One view."""

    verbs = {"GET": None, "PATCH": OWN, "DELETE": OWN}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(SavedViewOut), 304: None},
        operation_id="views_retrieve",
        description="One view; its ETag is for If-Match.",
    )
    def get(self, request: Request, view_id: int) -> HttpResponse:
        view = saved_views.view_of(person_of(request), view_id)
        return one_answer(request, _shape(request, view), state=saved_views.etag_of(view))

    @extend_schema(
        request=SavedViewChange,
        responses=SavedViewOut,
        parameters=[IF_MATCH],
        operation_id="views_update",
        description="Rename a view, share it, or change what it shows.",
    )
    def patch(self, request: Request, view_id: int) -> HttpResponse:
        user, change = person_of(request), given(request, SavedViewChange)
        view = saved_views.view_of(user, view_id)
        view = saved_views.change_view(user=user, view=view, expected=if_match(request), **change)
        return one_answer(request, _shape(request, view), state=saved_views.etag_of(view))

    @extend_schema(
        responses={204: None},
        operation_id="views_delete",
        description="Take a view away from all who saw it. For 30 days `restore/` takes that back.",
    )
    def delete(self, request: Request, view_id: int) -> Response:
        user = person_of(request)
        saved_views.delete_view(user=user, view=saved_views.view_of(user, view_id))
        return Response(status=204)


class SavedViewRestore(View):
    """Take a deletion back."""

    verbs = {"POST": OWN}

    @extend_schema(request=None, responses=SavedViewOut, operation_id="views_restore")
    def post(self, request: Request, view_id: int) -> HttpResponse:
        view = saved_views.restore_view(user=person_of(request), view_id=view_id)
        return one_answer(request, _shape(request, view), state=saved_views.etag_of(view))
