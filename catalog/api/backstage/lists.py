"""Lists of entities: in which order, from where on, and as which text."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import orjson
from django.contrib.postgres.fields import ArrayField
from django.db.models import F, JSONField, Q, QuerySet, TextField, Value
from django.db.models.expressions import Combinable, Func
from django.db.models.functions import Cast, Lower

from base.answers import pick
from base.limits import check_data
from catalog import queries
from catalog.api.backstage.errors import InputError
from catalog.api.backstage.parameters import at_least
from catalog.api.backstage.predicates import COLUMNS, Predicate
from catalog.models import Entity
from catalog.services.render import splice

CHUNK = 1_000
# What Backstage's clients take for granted, by kind; where nobody says it, it is not known.
_REQUIRED: dict[str, tuple[str, ...]] = {
    "component": ("type", "lifecycle", "owner"),
    "api": ("type", "lifecycle", "owner", "definition"),
    "resource": ("type", "owner"),
    "system": ("owner",),
    "domain": ("owner",),
    "template": ("type",),
    "group": ("type",),
}
_BACKSTAGE = "backstage.io/"


# --- as text ----------------------------------------------------------------------------------------------


def texts(viewer: Any, rows: Iterable[Entity], fields: Sequence[str]) -> list[str]:
    """The JSON of some entities with their `served` rows, as the viewer may see it.

    :param fields: the wanted ones; none for all.
    """
    found = list(rows)
    relations = queries.seen_relations(viewer, {row.pk: row.served.relations for row in found})
    whole = [splice(_complete(row), relations[row.pk]) for row in found]
    if not fields:
        return whole
    wanted = [name.split(".") for name in fields]
    return [orjson.dumps(pick(orjson.loads(text), wanted)).decode() for text in whole]


def streamed(viewer: Any, ids: Sequence[int], fields: Sequence[str]) -> Iterator[bytes]:
    """Some entities as one JSON array, read and sent in parts: a list may be longer than memory."""
    yield b"["
    comma = b""
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        by_id = with_served(queries.list_entities(viewer).filter(pk__in=part)).in_bulk()
        present = [by_id[pk] for pk in part if pk in by_id]
        if chunk := ",".join(texts(viewer, present, fields)).encode():
            yield comma + chunk
            comma = b","
    yield b"]"


def streamed_by_refs(
    viewer: Any, rows: QuerySet[Entity], refs: Sequence[str], fields: Sequence[str]
) -> Iterator[bytes]:
    """The same of refs in lower case, among some entities: null for what is not there."""
    yield b"["
    for start in range(0, len(refs), CHUNK):
        part = refs[start : start + CHUNK]
        found = list(with_served(rows.filter(ref__in=set(part))))
        known = {row.ref: text for row, text in zip(found, texts(viewer, found, fields), strict=True)}
        for at, ref in enumerate(part, start):
            yield (b"," if at else b"") + known.get(ref, "null").encode()
    yield b"]"


def with_served(rows: QuerySet[Entity]) -> QuerySet[Entity]:
    """The rows with what their text is made of."""
    return rows.select_related("served").only(
        "uid", "ref", "kind", "type", "lifecycle", "owner", "served__document", "served__relations"
    )


def _complete(row: Entity) -> str:
    """The document, with `unknown` where Backstage requires a value and nobody gave one."""
    document = row.served.document
    wanted = _REQUIRED.get(row.kind, ())
    if not wanted or (
        all(getattr(row, name, "") for name in wanted if name != "definition")
        and ("definition" not in wanted or '"definition":' in document)
    ):
        return document
    data = orjson.loads(document)
    if not str(data.get("apiVersion", "")).startswith(_BACKSTAGE):
        return document
    spec = data.get("spec") or {}
    data["spec"] = {**spec, **{name: "unknown" for name in wanted if spec.get(name) in (None, "")}}
    return orjson.dumps(data).decode()


# --- in order ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """A field to sort by."""

    field: str
    is_descending: bool = False

    @classmethod
    def of_query(cls, text: str) -> Self:
        """From `field`, `field,asc` or `field,desc`.

        :raises InputError: for another direction.
        """
        field, _comma, direction = text.partition(",")
        if direction not in ("", "asc", "desc") or not field:
            raise InputError(f"Invalid order field order '{direction}', expected 'asc' or 'desc'")
        return cls(field, direction == "desc")

    @classmethod
    def of_list(cls, text: str) -> Self:
        """From `asc:field` or `desc:field`.

        :raises InputError: for anything else.
        """
        direction, colon, field = text.partition(":")
        if direction not in ("asc", "desc") or not colon or not field:
            raise InputError(f"Invalid order parameter '{text}', expected '<asc|desc>:<field name>'")
        return cls(field, direction == "desc")

    def as_dict(self) -> dict[str, str]:
        return {"field": self.field, "order": "desc" if self.is_descending else "asc"}


def value_of(field: str) -> Combinable:
    """A field's value as it is sorted and searched: in lower case, as text, null where it is missing."""
    key = field.lower()
    if key in COLUMNS:
        return NullIf(F(COLUMNS[key]), Value(""))
    if key == "metadata.uid":
        return Cast(F("uid"), TextField())
    return Lower(
        TextAt(
            Cast(F("served__document"), JSONField()),
            Value(path_of(field), output_field=ArrayField(TextField())),
        )
    )


def having(rows: QuerySet[Entity], order: Order) -> QuerySet[Entity]:
    """The entities that have the field by which they are sorted."""
    return rows.alias(has=value_of(order.field)).exclude(has=None)


def sorted_whole(rows: QuerySet[Entity], order: Order | None) -> QuerySet[Entity]:
    """All entities in the order of one field, those without it left out; without one by uid."""
    if order is None:
        return rows.order_by("uid")
    by = F("by").desc() if order.is_descending else F("by").asc()
    return having(rows, order).alias(by=value_of(order.field)).order_by(by, "uid")


def sorted_paged(rows: QuerySet[Entity], orders: Sequence[Order]) -> QuerySet[Entity]:
    """Entities in the order of some fields, those without one last; at last by ref."""
    keys: list[Any] = []
    for number, order in enumerate(orders):
        name = f"by_{number}"
        rows = rows.alias(**{name: value_of(order.field)})
        key = F(name)
        keys.append(key.desc(nulls_last=True) if order.is_descending else key.asc(nulls_last=True))
    return rows.order_by(*keys, "ref")


class TextAt(Func):
    template = "(%(expressions)s)"
    arg_joiner = " #>> "
    output_field = TextField()


class NullIf(Func):
    function = "NULLIF"
    output_field = TextField()


def path_of(field: str) -> list[str]:
    """The keys of a dotted field; those of annotations and labels hold dots themselves."""
    parts = field.split(".")
    if parts[:2] in (["metadata", "annotations"], ["metadata", "labels"]):
        return [*parts[:2], ".".join(parts[2:])] if len(parts) > 2 else parts
    return parts


def full_text(rows: QuerySet[Entity], term: str, fields: Sequence[str]) -> QuerySet[Entity]:
    """The entities in one of whose fields a term stands."""
    term = term.strip().lower()
    if not term:
        return rows
    found = Q(pk__in=())
    for number, field in enumerate(fields):
        name = f"text_{number}"
        rows = rows.alias(**{name: value_of(field)})
        found |= Q(**{f"{name}__contains": term})
    return rows.filter(found)


# --- from where on ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a list goes on, and which list it is: all of it, since a client sends nothing else.

    :ivar values: the sort value, if it is sorted, and the uid of the entity to go on from.
    :ivar first: the same of the list's very first entity.
    """

    order: Order | None = None
    values: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    is_previous: bool = False
    query: Predicate | None = None
    term: str = ""
    fields: tuple[str, ...] = ()
    total: int | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """:raises InputError: if it is broken."""
        try:
            data = orjson.loads(base64.b64decode(text, validate=True))
            check_data(data, what="The cursor")
            orders = data["orderFields"]
            order = Order(str(orders[0]["field"]), orders[0].get("order") == "desc") if orders else None
            values, first = tuple(data["orderFieldValues"]), tuple(data["firstSortFieldValues"])
            if any(len(one) != (2 if order else 1) for one in (values, first)):
                raise ValueError
            for one in (values, first):
                uuid.UUID(one[-1])
            text_filter = data.get("fullTextFilter") or {}
            total = data.get("totalItems")
            return cls(
                order=order,
                values=tuple(str(value) for value in values),
                first=tuple(str(value) for value in first),
                is_previous=bool(data.get("isPrevious")),
                query=data.get("query"),
                term=str(text_filter.get("term") or ""),
                fields=tuple(str(field) for field in text_filter.get("fields") or ()),
                total=at_least(int(total), "totalItems", 0) if total is not None else None,
            )
        except (
            binascii.Error,
            orjson.JSONDecodeError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
        ):
            raise InputError("Malformed cursor: could not be parsed") from None

    def write(self) -> str:
        """As clients take it: they look into it, and go on by POST if it holds a `query`."""
        data: dict[str, Any] = {
            "orderFields": [self.order.as_dict()] if self.order else [],
            "orderFieldValues": self.values,
            "firstSortFieldValues": self.first,
            "isPrevious": self.is_previous,
        }
        if self.query is not None:
            data["query"] = self.query
        if self.term:
            data["fullTextFilter"] = {"term": self.term, "fields": self.fields}
        if self.total is not None:
            data["totalItems"] = self.total
        return base64.b64encode(orjson.dumps(data)).decode()


@dataclass(frozen=True, slots=True)
class Listed:
    """One page, by ids, and the cursors of those beside it."""

    ids: list[int]
    next: Cursor | None
    previous: Cursor | None


def page(rows: QuerySet[Entity], cursor: Cursor, *, limit: int, offset: int = 0) -> Listed:
    """A page of the entities that a cursor's query finds, sorted as it says."""
    order = cursor.order
    is_descending = bool(order and order.is_descending) != cursor.is_previous
    names = ["uid"]
    if order is not None:
        rows = rows.annotate(sorted_by=value_of(order.field))
        names = ["sorted_by", "uid"]
    if cursor.values:
        rows = rows.filter(_after(names, cursor.values, is_descending=is_descending))
    sign = "-" if is_descending else ""
    rows = rows.order_by(*(f"{sign}{name}" for name in names))
    found = list(rows.values_list("pk", *names)[offset : offset + limit + 1])
    has_more = len(found) > limit
    found = found[:limit]
    if cursor.is_previous:
        found.reverse()
    if not found:
        return Listed([], None, None)

    def values(row: tuple[Any, ...]) -> tuple[str, ...]:
        return tuple(map(str, row[1:]))

    first = cursor.first or values(found[0])
    here = replace(cursor, first=first, is_previous=False)
    after = replace(here, values=values(found[-1])) if cursor.is_previous or has_more else None
    is_later = bool(cursor.values) and values(found[0]) != first
    before = replace(here, values=values(found[0]), is_previous=True) if is_later else None
    return Listed([row[0] for row in found], after, before)


def _after(names: Sequence[str], values: Sequence[str], *, is_descending: bool) -> Q:
    beyond = "lt" if is_descending else "gt"
    *heads, last = zip(names, values, strict=True)
    found = Q(**{f"{last[0]}__{beyond}": last[1]})
    for name, value in reversed(heads):
        found = Q(**{f"{name}__{beyond}": value}) | (Q(**{name: value}) & found)
    return found
