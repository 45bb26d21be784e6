"""`/api/v1/watches/` and `/api/v1/notices/`: what somebody wants to be told of, and what they were told; one's own."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import OWN, View, person_of
from base.answers import given, is_set, one_answer, plain
from base.openapi import FIELDS, IF_NONE_MATCH, PAGE, list_of, part_of
from base.pagination import rows_answer
from portal import watches
from portal.models import Notice, Watch
from portal.widgets.activity import TYPE_LABELS


class WatchChange(serializers.Serializer[Any]):
    """What of a watch can be changed; what is left out stays."""

    name = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=watches.LONGEST_NAME,
        help_text="Empty for the query's words.",
    )
    query = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=watches.LONGEST_QUERY,
        help_text="On entities; for activity, on what it happened to.",
    )
    types = serializers.ListField(
        child=serializers.ChoiceField(list(TYPE_LABELS)),
        required=False,
        max_length=len(TYPE_LABELS),
        help_text="Of activity; all if none is named.",
    )
    status = serializers.RegexField(
        r"^[a-z-]{0,40}\Z", required=False, allow_blank=True, help_text="Of activity, such as failed."
    )
    when = serializers.ChoiceField(Watch.When.choices, required=False)
    mail = serializers.ChoiceField(Watch.Mail.choices, required=False)
    is_paused = serializers.BooleanField(required=False)


class WatchIn(WatchChange):
    """A new watch."""

    about = serializers.ChoiceField(Watch.About.choices)
    is_paused = None  # type: ignore[assignment]  # one that is new is awake


class WatchOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    about = serializers.ChoiceField(Watch.About.choices)
    query = serializers.CharField(allow_blank=True)
    types = serializers.ListField(child=serializers.CharField())
    status = serializers.CharField(allow_blank=True)
    when = serializers.ChoiceField(Watch.When.choices)
    mail = serializers.ChoiceField(Watch.Mail.choices)
    is_paused = serializers.BooleanField()
    trouble = serializers.CharField(allow_blank=True, help_text="Why it cannot be evaluated.")
    url = serializers.CharField(help_text="The list that it keeps an eye on.")
    created_at = serializers.DateTimeField()


class LineOut(serializers.Serializer[Any]):
    change = serializers.ChoiceField(["new", "gone"])
    total = serializers.IntegerField()
    things = serializers.ListField(
        child=serializers.DictField(child=serializers.CharField(allow_blank=True)),
        help_text="The first of them: `title`, `url`.",
    )


class NoticeChange(serializers.Serializer[Any]):
    is_read = serializers.BooleanField()


class NoticeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    watch = serializers.IntegerField()
    name = serializers.CharField(help_text="Of the watch.")
    at = serializers.DateTimeField()
    is_read = serializers.BooleanField()
    text = serializers.CharField(help_text="It in a sentence, as far as you may see what it is about.")
    url = serializers.CharField(help_text="The list that it is about.")
    lines = LineOut(many=True)


class ReadOut(serializers.Serializer[Any]):
    read = serializers.IntegerField(help_text="How many were not read.")


WatchListOut = list_of("WatchListOut", WatchOut)
NoticeListOut = list_of("NoticeListOut", NoticeOut)
_UNREAD = OpenApiParameter("unread", bool, description="Only those that were not read.")


def _watch(row: Watch) -> dict[str, Any]:
    return plain(WatchOut, row, url=watches.url_of(row))


def _notice(one: watches.Told) -> dict[str, Any]:
    row = one.notice
    lines = [
        {
            "change": line.change,
            "total": line.total,
            "things": [{"title": thing["title"], "url": thing["url"]} for thing in line.things],
        }
        for line in one.lines
    ]
    return plain(
        NoticeOut,
        row,
        watch=row.watch_id,
        name=row.watch.name,
        is_read=row.read_at is not None,
        text=one.text,
        url=one.url,
        lines=lines,
    )


class WatchList(View):
    """Your watches."""

    verbs = {"GET": None, "POST": OWN}

    @extend_schema(parameters=PAGE, responses={200: WatchListOut, 304: None}, operation_id="watches_list")
    def get(self, request: Request) -> HttpResponse:
        return rows_answer(request, watches.watches_of(person_of(request)), ("-id",), _watch)

    @extend_schema(
        request=WatchIn,
        responses={201: WatchOut},
        operation_id="watches_create",
        description="Be told from now on of what comes to match; of what matches already you are not.",
    )
    def post(self, request: Request) -> Response:
        watch = watches.make_watch(user=person_of(request), **given(request, WatchIn))
        return Response(_watch(watch), status=201)


class WatchDetail(View):
    """One of your watches."""

    verbs = {"GET": None, "PATCH": OWN, "DELETE": OWN}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(WatchOut), 304: None},
        operation_id="watches_retrieve",
    )
    def get(self, request: Request, watch_id: int) -> HttpResponse:
        return one_answer(request, _watch(watches.watch_of(person_of(request), watch_id)))

    @extend_schema(
        request=WatchChange,
        responses=WatchOut,
        operation_id="watches_update",
        description="Change what you are told of, or how; with another query it begins anew.",
    )
    def patch(self, request: Request, watch_id: int) -> Response:
        change = given(request, WatchChange)
        watch = watches.watch_of(person_of(request), watch_id)
        return Response(_watch(watches.change_watch(watch=watch, **change)))

    @extend_schema(
        responses={204: None},
        operation_id="watches_delete",
        description="Be told no more of it; its notices go too. For a day `restore/` takes that back.",
    )
    def delete(self, request: Request, watch_id: int) -> Response:
        watches.delete_watch(watch=watches.watch_of(person_of(request), watch_id))
        return Response(status=204)


class WatchRestore(View):
    """Take a deletion back."""

    verbs = {"POST": OWN}

    @extend_schema(request=None, responses=WatchOut, operation_id="watches_restore")
    def post(self, request: Request, watch_id: int) -> Response:
        watch = watches.restore_watch(user=person_of(request), watch_id=watch_id)
        return Response(_watch(watch))


class NoticeList(View):
    """What you were told, the newest first."""

    verbs = {"GET": None}

    @extend_schema(
        parameters=[_UNREAD, *PAGE],
        responses={200: NoticeListOut, 304: None},
        operation_id="notices_list",
    )
    def get(self, request: Request) -> HttpResponse:
        user = person_of(request)
        rows = watches.unread_of(user) if is_set(request, "unread") else watches.notices_of(user)
        shown: dict[int, watches.Told] = {}

        def seen(page: list[Notice]) -> list[Notice]:
            shown.update({one.notice.pk: one for one in watches.told(user, page)})
            return page

        return rows_answer(request, rows, ("-at", "-id"), lambda row: _notice(shown[row.pk]), seen=seen)


class NoticeDetail(View):
    """One notice."""

    verbs = {"PATCH": OWN}

    @extend_schema(
        request=NoticeChange,
        responses=NoticeOut,
        operation_id="notices_update",
        description="Have a notice read, or unread.",
    )
    def patch(self, request: Request, notice_id: int) -> Response:
        user = person_of(request)
        notice = watches.mark_notice(user=user, notice_id=notice_id, **given(request, NoticeChange))
        return Response(_notice(watches.told(user, [notice])[0]))


class NoticesRead(View):
    """All at once."""

    verbs = {"POST": OWN}

    @extend_schema(
        request=None, responses=ReadOut, operation_id="notices_read", description="Have all notices read."
    )
    def post(self, request: Request) -> Response:
        return Response({"read": watches.mark_all(user=person_of(request))})
