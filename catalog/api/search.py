"""`/api/v1/search`: one search over everything."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from access.api.permissions import View
from base.answers import chosen, json_answer, pick, wanted_fields
from base.api import dump_json
from base.openapi import FIELDS, IF_NONE_MATCH, choice, list_of
from catalog.api.parameters import kinds, number
from catalog.search.asked import MAX_TEXT
from catalog.search.everything import MOST, Found, search
from catalog.search.hits import SORTS, Hit, Sort
from catalog.search.marks import Marked

_SPANS = "Where what was asked stands in it: beginning and end of each place, in characters."


class HighlightOut(serializers.Serializer[Any]):
    title = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), help_text=_SPANS
    )
    snippet = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), help_text=_SPANS
    )


class HitOut(serializers.Serializer[Any]):
    sort = serializers.ChoiceField(SORTS)
    ref = serializers.CharField(
        allow_blank=True,
        help_text="Of the entity that it is, or is of; empty for an activity of nothing known.",
    )
    key = serializers.CharField(
        allow_blank=True, help_text="Of an operation or a section of docs: what it is within the entity."
    )
    id = serializers.IntegerField(allow_null=True, help_text="Of an activity.")
    title = serializers.CharField(help_text="Plain text.")
    snippet = serializers.CharField(allow_blank=True, help_text="Plain text, a part of what it says.")
    highlight = HighlightOut()
    type = serializers.CharField(allow_blank=True)
    owner = serializers.CharField(allow_blank=True, help_text="Of an entity: ref of its owner.")
    at = serializers.DateTimeField(allow_null=True, help_text="Of an activity.")


class CountsOut(serializers.Serializer[Any]):
    sorts = serializers.DictField(child=serializers.IntegerField(), help_text="Hits of each sort.")
    kinds = serializers.DictField(child=serializers.IntegerField(), help_text="Entities of each kind.")


class SearchOut(list_of("SearchListOut", HitOut)):  # type: ignore[misc]  # a shape made at run time
    counts = CountsOut(help_text=f"One counts {MOST} of each sort at most.")
    meant = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Words that may be typed wrongly, and by which others something was found.",
    )
    is_partly = serializers.BooleanField(help_text="Whether nothing has all the words, and these have some.")


class Search(View):
    """One search over everything."""

    verbs = {"GET": "entity.read"}

    @extend_schema(
        operation_id="search",
        parameters=[
            OpenApiParameter(
                "q",
                {"type": "string", "maxLength": MAX_TEXT},
                required=True,
                description="Words, and filters of the query language if one likes. Nothing is a mistake: what is no "
                "query is words.",
            ),
            choice("sort", SORTS),
            OpenApiParameter("kind", str, description="Only entities of these kinds, and what is of them."),
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 20}),
            OpenApiParameter("cursor", str, description="From `next` or `previous` of another page."),
            FIELDS,
            IF_NONE_MATCH,
        ],
        responses={200: SearchOut, 304: None},
        description="Entities, operations of APIs, sections of docs and activity, as the viewer may see them: what is "
        "called so first, then what begins so, has the words in its name or title, its tags or owner, its description, "
        "its operations, its docs, and what happened, the newest first. Where hardly anything is found, words that are "
        "typed wrongly are taken for what they are like.",
    )
    def get(self, request: Request) -> HttpResponse:
        named = chosen(request, "sort", SORTS)
        wanted: list[Sort] = [sort for sort in SORTS if sort in named]
        limit = number(request, "limit", default=20, least=1, most=MOST)
        offset = number(request, "cursor", default=0, least=0, most=MOST * len(SORTS))
        found = search(
            request.user,
            request.query_params.get("q", ""),
            sorts=wanted or SORTS,
            kinds=kinds(request),
            offset=offset,
            limit=limit,
        )
        return json_answer(request, dump_json(_answer(request, found, offset, limit)))


def _answer(request: Request, found: Found, offset: int, limit: int) -> dict[str, Any]:
    url = request.build_absolute_uri()
    wanted = wanted_fields(request)
    hits = map(_hit, found.hits)
    before, after = max(offset - limit, 0), offset + limit
    return {
        "results": list(hits) if wanted is None else [pick(hit, wanted) for hit in hits],
        "next": replace_query_param(url, "cursor", after) if after < found.total else None,
        "previous": replace_query_param(url, "cursor", before) if offset else None,
        "total": found.total,
        "counts": {"sorts": found.sorts, "kinds": found.kinds},
        "meant": found.meant,
        "is_partly": found.is_partly,
    }


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "sort": hit.sort,
        "ref": hit.entity,
        "key": hit.key,
        "id": hit.pk if hit.sort == "activity" else None,
        "title": hit.title.text,
        "snippet": hit.snippet.text,
        "highlight": {"title": _spans(hit.title), "snippet": _spans(hit.snippet)},
        "type": hit.type,
        "owner": hit.owner if hit.sort == "entity" else "",
        "at": hit.at,
    }


def _spans(text: Marked) -> list[list[int]]:
    return [list(span) for span in text.spans]
