"""The paths of Backstage's catalog API that read entities."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any
from urllib.parse import urlencode

import orjson
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from access.api.permissions import View, person_of
from base.answers import json_answer
from base.errors import NotFound
from catalog import queries
from catalog.api.backstage import lists
from catalog.api.backstage.description import description
from catalog.api.backstage.errors import InputError, answer_error
from catalog.api.backstage.facets import facet
from catalog.api.backstage.lists import Cursor, Order
from catalog.api.backstage.parameters import (
    at_least,
    body_of,
    check_fields,
    not_too_many,
    number,
    query_in,
    read,
    texts_in,
    words,
)
from catalog.api.backstage.predicates import Predicate, canonical, find, of_filters, uid_in
from catalog.index import index, sees_everything
from catalog.models import Entity
from catalog.services.edit import withdraw_all

DEFAULT_LIMIT = 200
MOST_REFS = 10_000


class CatalogView(View):
    """A view that fails as Backstage does; what it does not answer is nowhere."""

    verbs = {"GET": "entity.read", "POST": "entity.read"}

    def get_exception_handler(self) -> Callable[..., Any]:
        return answer_error

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return HttpResponse(status=404)


@extend_schema(exclude=True)
class Description(CatalogView):
    """`GET /openapi.json`: the description of this API."""

    verbs = {"GET": "entity.read"}

    def get(self, request: Request) -> HttpResponse:
        read(request)
        return json_answer(request, description())


def not_here(request: HttpRequest, **_names: str) -> HttpResponse:
    """What Backstage's catalog does not know."""
    return HttpResponse(status=404)


def _one(request: Request, row: lists.Row) -> HttpResponse:
    return json_answer(request, lists.text_of(request.user, row))


def _in_parts(parts: Iterable[bytes]) -> StreamingHttpResponse:
    answer = StreamingHttpResponse(parts, content_type="application/json")
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


@extend_schema(exclude=True)
class Entities(CatalogView):
    """`GET /entities`: all that a filter finds, in pages if it is asked for."""

    def get(self, request: Request) -> StreamingHttpResponse:
        given = read(request, "fields", "limit", "filter", "offset", "after", "order")
        fields = check_fields(words(given.getlist("fields")))
        predicate = of_filters(given.getlist("filter"))
        orders = [Order.of_list(text) for text in not_too_many(given.getlist("order"), "order")]
        limit, offset = number(given, "limit", least=1), number(given, "offset")
        if "after" in given:
            limit, offset = _place(str(given["after"]))
        with index() as entities:
            found = find(predicate, entities, viewer=request.user)
            if limit is None and offset is None:
                ids = lists.sorted_whole(entities, found, orders[0] if orders else None)
            else:
                ids = lists.sorted_paged(entities, found, orders)
        start = offset or 0
        ids = ids[start : None if limit is None else start + limit + 1]
        answer = _in_parts(lists.streamed(request.user, ids[:limit], fields))
        if limit is not None and len(ids) > limit:
            after = base64.b64encode(orjson.dumps({"limit": limit, "offset": start + limit})).decode()
            kept = [(name, value) for name, values in given.lists() if name != "after" for value in values]
            kept = [(name, value) for name, value in kept if name not in ("limit", "offset")]
            answer.headers["Link"] = f'</entities?{urlencode([*kept, ("after", after)])}>; rel="next"'
        return answer


def _place(after: str) -> tuple[int | None, int | None]:
    try:
        data = orjson.loads(base64.b64decode(after, validate=True))
        limit, offset = data.get("limit"), data.get("offset")
        for name, one in (("limit", limit), ("offset", offset)):
            if one is not None and not isinstance(one, int):
                raise ValueError
            at_least(one or 0, name, 0)
    except (binascii.Error, orjson.JSONDecodeError, AttributeError, ValueError):
        raise InputError("Malformed after parameter, could not be parsed") from None
    return limit, offset


@extend_schema(exclude=True)
class EntityByUid(CatalogView):
    """`GET` and `DELETE /entities/by-uid/{uid}`."""

    verbs = {"GET": "entity.read", "DELETE": "entity.write"}

    def get(self, request: Request, uid: str) -> HttpResponse:
        read(request)
        key = uid_in(uid)
        found = Entity.objects.filter(uid=key) if key else Entity.objects.none()
        ref = found.values_list("ref", flat=True).first()
        row = lists.row_of(request.user, ref) if ref else None
        if row is None:
            raise NotFound(f"No entity with uid {uid}")
        return _one(request, row)

    def delete(self, request: Request, uid: str) -> HttpResponse:
        """What files and tools declare comes back in Backstage too, so here it stays."""
        read(request)
        key = uid_in(uid)
        row = queries.list_entities(request.user).filter(uid=key).first() if key else None
        if row is not None:
            withdraw_all(user=person_of(request), entity=row)
        return HttpResponse(status=204)


@extend_schema(exclude=True)
class EntityByName(CatalogView):
    """`GET /entities/by-name/{kind}/{namespace}/{name}`, in any case."""

    def get(self, request: Request, kind: str, namespace: str, name: str) -> HttpResponse:
        read(request)
        return _one(request, _named(request, kind, namespace, name))


def _named(request: Request, kind: str, namespace: str, name: str) -> lists.Row:
    row = lists.row_of(request.user, f"{kind}:{namespace}/{name}".lower())
    if row is None:
        raise NotFound(f"No entity named '{name}' found, with kind '{kind}' in namespace '{namespace}'")
    return row


@extend_schema(exclude=True)
class Ancestry(CatalogView):
    """`GET /entities/by-name/…/ancestry`: the Locations that led to its file, and to theirs, as one sees them."""

    def get(self, request: Request, kind: str, namespace: str, name: str) -> HttpResponse:
        read(request)
        root = _named(request, kind, namespace, name)
        line = queries.led_to_by(request.user, root[0])
        rows = [root, *(row for _pk, ref in line if (row := lists.row_of(request.user, ref)) is not None)]
        items = [
            b'{"entity":%b,"parentEntityRefs":%b}'
            % (lists.text_of(request.user, row), orjson.dumps([parent[1] for parent in rows[at : at + 1]]))
            for at, row in enumerate(rows, 1)
        ]
        head = orjson.dumps({"rootEntityRef": root[1]})[:-1]
        return json_answer(request, head + b',"items":[' + b",".join(items) + b"]}")


@extend_schema(exclude=True)
class EntitiesByRefs(CatalogView):
    """`POST /entities/by-refs`: in the order of the refs, null for what is not there or may not be seen."""

    def post(self, request: Request) -> StreamingHttpResponse:
        given = read(request, "filter")
        body = body_of(request)
        refs = texts_in(body, "entityRefs")
        if refs is None:
            raise InputError("request/body must have required property 'entityRefs'")
        if len(refs) > MOST_REFS:
            raise InputError(f"request/body/entityRefs must have at most {MOST_REFS} items")
        fields = check_fields(texts_in(body, "fields") or [])
        predicate = of_filters(given.getlist("filter"))
        if (asked := query_in(body)) is not None:
            predicate = {"$all": [one for one in (predicate, asked) if one is not None]}
        wanted = [ref.lower() for ref in refs]
        found = None
        if predicate is not None or not sees_everything(request.user):
            with index() as entities:
                found = find(predicate, entities, viewer=request.user)
        items = lists.streamed_by_refs(request.user, found, wanted, fields)
        return _in_parts(chain((b'{"items":',), items, (b"}",)))


@extend_schema(exclude=True)
class EntitiesByQuery(CatalogView):
    """`GET` and `POST /entities/by-query`: pages by cursor, forth and back."""

    def get(self, request: Request) -> StreamingHttpResponse:
        given = read(
            request,
            "fields",
            "limit",
            "offset",
            "orderField",
            "cursor",
            "filter",
            "totalItems",
            "fullTextFilterTerm",
            "fullTextFilterFields",
        )
        orders = given.getlist("orderField")
        first = Cursor(
            order=Order.of_query(orders[0]) if orders else None,
            query=of_filters(given.getlist("filter")),
            term=given.get("fullTextFilterTerm", "").strip(),
            fields=tuple(words(given.getlist("fullTextFilterFields"))),
        )
        return _queried(
            request,
            given.get("cursor"),
            first,
            limit=number(given, "limit"),
            offset=number(given, "offset"),
            fields=words(given.getlist("fields")),
            total=given.get("totalItems", "include"),
        )

    def post(self, request: Request) -> StreamingHttpResponse:
        read(request)
        body = body_of(request)
        text = body.get("fullTextFilter") or {}
        if not isinstance(text, dict):
            raise InputError("request/body/fullTextFilter must be object")
        first = Cursor(
            order=_order_in(body),
            query=query_in(body),
            term=str(text.get("term") or "").strip(),
            fields=tuple(texts_in(text, "fields") or ()),
        )
        return _queried(
            request,
            body.get("cursor"),
            first,
            limit=_number_in(body, "limit"),
            offset=_number_in(body, "offset"),
            fields=texts_in(body, "fields") or [],
            total=body.get("totalItems", "include"),
        )


def _order_in(body: dict[str, Any]) -> Order | None:
    found = body.get("orderBy")
    if not found:
        return None
    if (
        not isinstance(found, list)
        or not isinstance(found[0], dict)
        or not isinstance(found[0].get("field"), str)
    ):
        raise InputError("request/body/orderBy must be array of objects with field and order")
    if found[0].get("order") not in ("asc", "desc"):
        raise InputError("request/body/orderBy/0/order must be equal to one of the allowed values")
    return Order(found[0]["field"], found[0]["order"] == "desc")


def _number_in(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    place = f"request/body/{name}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{place} must be integer")
    return at_least(value, place, 0)


def _queried(
    request: Request,
    cursor: Any,
    first: Cursor,
    *,
    limit: int | None,
    offset: int | None,
    fields: Sequence[str],
    total: Any,
) -> StreamingHttpResponse:
    """A page of a query: of the cursor's, if there is one."""
    if total not in ("include", "exclude"):
        raise InputError("totalItems must be equal to one of the allowed values: include, exclude")
    check_fields(fields)
    here = first
    if cursor is not None:
        if not isinstance(cursor, str):
            raise InputError("request/body/cursor must be string")
        here = Cursor.read(cursor)
    size = DEFAULT_LIMIT if limit is None else limit
    with index() as entities:
        found = find(here.query, entities, viewer=request.user)
        if here.order is not None:
            found = found & entities.field(canonical(here.order.field)).having
        if here.term:
            searched = here.fields or (here.order.field if here.order else "metadata.uid",)
            found = lists.full_text(
                entities, found, here.term, not_too_many(searched, "fullTextFilter.fields")
            )
        if here.total is None and total == "include":
            here = replace(here, total=len(found))
        listed = (
            lists.page(entities, found, here, limit=size, offset=0 if cursor is not None else offset or 0)
            if size
            else lists.Listed([], None, None)
        )
    cursors = {"nextCursor": listed.next, "prevCursor": listed.previous}
    info = {name: one.write() for name, one in cursors.items() if one is not None}
    tail = orjson.dumps({"totalItems": here.total or 0, "pageInfo": info})
    items = lists.streamed(request.user, listed.ids, fields)
    return _in_parts(chain((b'{"items":',), items, (b"," + tail[1:],)))


@extend_schema(exclude=True)
class EntityFacets(CatalogView):
    """`GET` and `POST /entity-facets`."""

    def get(self, request: Request) -> HttpResponse:
        given = read(request, "facet", "filter")
        names = given.getlist("facet")
        if not names:
            raise InputError("request/query must have required property 'facet'")
        return _facets(request, names, of_filters(given.getlist("filter")))

    def post(self, request: Request) -> HttpResponse:
        read(request)
        body = body_of(request)
        names = texts_in(body, "facets")
        if not names:
            raise InputError("request/body must have required property 'facets'")
        return _facets(request, names, query_in(body))


def _facets(request: Request, names: Sequence[str], predicate: Predicate | None) -> HttpResponse:
    not_too_many(names, "facets")
    with index() as entities:
        found = find(predicate, entities, viewer=request.user)
        body = {"facets": {name: facet(entities, request.user, found, name) for name in names}}
    return json_answer(request, orjson.dumps(body))
