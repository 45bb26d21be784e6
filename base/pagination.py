"""Lists in pages, by keyset: a page begins after a row, not at a number, so that nothing is skipped or shown
twice while rows come and go, and the last page costs what the first one does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.core import signing
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.utils.translation import gettext as _
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from base.answers import json_answer, pick, wanted_fields
from base.api import dump_json
from base.errors import BadRequest, FieldError

if TYPE_CHECKING:
    from rest_framework.views import APIView

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000

R = TypeVar("R")
Key = Callable[[Any], Sequence[Any]]


class BadCursor(BadRequest):
    """A cursor is broken, or belongs to another list or order."""

    code = "bad-cursor"


@dataclass(frozen=True)
class Page(Generic[R]):
    """One page of a list.

    :ivar next: the cursor of the page after this one, or None.
    :ivar previous: the cursor of the page before this one, or None.
    """

    rows: list[R]
    next: str | None
    previous: str | None


def paginate(
    queryset: QuerySet[Any, R],
    *,
    order: Sequence[str],
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    key: Key | None = None,
) -> Page[R]:
    """One page of a queryset of rows, `values()` or `values_list()`.

    :param order: names of fields, with `-` for descending. None of them may be null, and together they must
        be unique: end with `id`.
    :param cursor: where the page begins, as an earlier page said; None for the first page.
    :param key: a row's values of the fields in `order`; needed for `values_list()` only.
    :raises BadCursor: if the cursor is broken, or was made for another order.
    """
    key = key or _key_of(order)
    is_backwards, values = _read(cursor, order) if cursor else (False, None)
    turned = [_reverse(name) for name in order] if is_backwards else list(order)
    ordered = queryset.order_by(*turned)
    if values is not None:
        ordered = ordered.filter(_after(turned, values))
    rows = list(ordered[: limit + 1])
    has_more = len(rows) > limit
    rows = rows[:limit]
    if is_backwards:
        rows.reverse()
    first, last = (rows[0], rows[-1]) if rows else (None, None)
    has_next = bool(rows) and (is_backwards or has_more)
    has_previous = bool(rows) and (has_more if is_backwards else values is not None)
    return Page(
        rows,
        next=_write(False, order, key(last)) if has_next else None,
        previous=_write(True, order, key(first)) if has_previous else None,
    )


def read_limit(text: str | None) -> int:
    """How many rows a page has, as the request's `?limit=` says.

    :raises BadRequest: if it is no number from 1 to 1000.
    """
    if not text:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise BadRequest(
        _("`limit` must be a whole number from 1 to %(max)d, but “%(got)s” came.")
        % {"max": MAX_LIMIT, "got": text[:40]},
        errors=[FieldError("limit", _("Out of range."), expected=f"1 to {MAX_LIMIT}", got=text[:40])],
    )


class KeysetPagination(BasePagination):
    """Pages of a view's queryset: `?limit=`, `?cursor=`, `?fields=`, with an ETag; the answer is
    `{results, next, previous, total}`.

    The view names its order as `ordering`, under the conditions of `paginate`.
    """

    def paginate_queryset(
        self, queryset: QuerySet[Any, R] | Sequence[R], request: Request, view: APIView | None = None
    ) -> list[R]:
        """The page that the request asks for.

        :raises BadRequest: if limit or cursor is wrong.
        """
        assert isinstance(queryset, QuerySet)
        self.request = request
        self.page, self.total = _asked_page(request, queryset, getattr(view, "ordering", ("id",)))
        return self.page.rows

    def get_paginated_response(self, data: Any) -> HttpResponse:  # type: ignore[override]
        """The answer with the links to the neighbours."""
        return list_response(self.request, data, self.page, total=self.total)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The answer's shape, for the API's description."""
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["results", "next", "previous", "total"],
            "properties": {
                "results": schema,
                "next": link,
                "previous": link,
                "total": {"type": "integer"},
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """The parameters, for the API's description."""
        limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
        return [
            {"name": "limit", "in": "query", "description": _("Rows in a page."), "schema": limit},
            {
                "name": "cursor",
                "in": "query",
                "description": _("Where the page begins, from `next` or `previous`."),
                "schema": {"type": "string"},
            },
            {
                "name": "fields",
                "in": "query",
                "description": _("Dotted paths with commas between them; all if left out."),
                "schema": {"type": "string"},
            },
            {
                "name": "If-None-Match",
                "in": "header",
                "description": _("An ETag: 304 if nothing has changed since."),
                "schema": {"type": "string"},
            },
        ]


def list_answer(request: Request, results: Any, page: Page[Any], *, total: int) -> dict[str, Any]:
    """What a list answers: `results`, links to the neighbours, `total`."""
    here = request.build_absolute_uri()

    def link(cursor: str | None) -> str | None:
        return replace_query_param(here, "cursor", cursor) if cursor else None

    return {"results": results, "next": link(page.next), "previous": link(page.previous), "total": total}


def list_response(
    request: Request, results: Sequence[dict[str, Any]], page: Page[Any], *, total: int
) -> HttpResponse:
    """A page of a list with the fields that the client wants, or 304 when it has it.

    :raises BadRequest: if `?fields=` is wrong.
    """
    if (wanted := wanted_fields(request)) is not None:
        results = [pick(result, wanted) for result in results]
    return json_answer(request, dump_json(list_answer(request, results, page, total=total)))


def rows_answer(
    request: Request,
    rows: QuerySet[Any, R],
    order: Sequence[str],
    shape: Callable[[R], dict[str, Any]],
    *,
    seen: Callable[[list[R]], Iterable[R]] = list,
) -> HttpResponse:
    """Any list in pages, in the shape of all lists.

    :param shape: a row as plain data.
    :param seen: the rows of the page as the viewer may see them.
    :raises BadRequest: if limit, cursor or fields are wrong.
    """
    page, total = _asked_page(request, rows, order)
    return list_response(request, [shape(row) for row in seen(page.rows)], page, total=total)


def _asked_page(request: Request, rows: QuerySet[Any, R], order: Sequence[str]) -> tuple[Page[R], int]:
    """The page that a request asks for, and how many rows there are in all."""
    page = paginate(
        rows,
        order=order,
        limit=read_limit(request.query_params.get("limit")),
        cursor=request.query_params.get("cursor"),
    )
    return page, rows.order_by().count()


def _after(order: Sequence[str], values: Sequence[Any]) -> Q:
    """The rows that come later than these values: later in the first field, or the same there and ..."""
    condition, same = Q(), Q()
    for name, value in zip(order, values, strict=True):
        field, comparison = (name[1:], "lt") if name.startswith("-") else (name, "gt")
        condition |= same & Q(**{f"{field}__{comparison}": value})
        same &= Q(**{field: value})
    name, value = order[0], values[0]
    # Says nothing new, but lets the database begin at the right place of an index.
    bound = Q(**{f"{name[1:]}__lte" if name.startswith("-") else f"{name}__gte": value})
    return bound & condition


def _reverse(name: str) -> str:
    return name[1:] if name.startswith("-") else f"-{name}"


def _key_of(order: Sequence[str]) -> Key:
    names = [name.lstrip("-") for name in order]
    getters = [attrgetter(name.replace("__", ".")) for name in names]

    def key(row: Any) -> list[Any]:
        if isinstance(row, dict):
            return [row[name] for name in names]
        return [getter(row) for getter in getters]

    return key


def _signer() -> signing.Signer:
    return signing.Signer(salt="base.pagination", sep=".")


def _write(is_backwards: bool, order: Sequence[str], values: Sequence[Any]) -> str:
    plain = [
        value
        if isinstance(value, (str, int, float))
        else value.isoformat()
        if isinstance(value, (datetime, date))
        else str(value)
        for value in values
    ]
    return _signer().sign_object([is_backwards, list(order), plain])


def _read(cursor: str, order: Sequence[str]) -> tuple[bool, list[Any]]:
    try:
        is_backwards, made_for, values = _signer().unsign_object(cursor)
    except (signing.BadSignature, ValueError):
        raise BadCursor(
            _("`cursor` is broken. Take it as it stands from `next` or `previous` of an earlier answer.")
        )
    if made_for != list(order):
        raise BadCursor(_("`cursor` belongs to a list in another order. Begin again without a cursor."))
    return is_backwards, values
