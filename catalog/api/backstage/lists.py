"""Lists of entities: in which order, from where on, and as which text."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any, Self

import orjson
from pyroaring import BitMap

from base.answers import pick
from base.limits import check_data
from catalog.api.backstage.errors import InputError
from catalog.api.backstage.parameters import at_least
from catalog.api.backstage.predicates import Predicate, canonical
from catalog.bulk import text_array
from catalog.index import Index, index, sees_everything
from catalog.index.fields import Place
from catalog.index.statements import fetch
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
_COLUMNS = ("type", "lifecycle", "owner")
_OTHERS = {
    kind: [f'"{name}":' for name in names if name not in _COLUMNS] for kind, names in _REQUIRED.items()
}
_BACKSTAGE = "backstage.io/"


# --- as text ----------------------------------------------------------------------------------------------


_ROW = """
    SELECT e.id, e.ref, s.document, s.relations, e.kind, e.type, e.lifecycle, e.owner FROM catalog_entity e
    JOIN catalog_served s ON s.entity_id = e.id WHERE e.deleted_at IS NULL
"""
_BY_IDS = f"{_ROW} AND e.id = ANY(%s::bigint[])"
_BY_REFS = f"{_ROW} AND e.ref = ANY(%s::text[])"
_BY_REF = f"{_ROW} AND e.ref = %s"
Row = tuple[Any, ...]


def row_of(viewer: Any, ref: str) -> Row | None:
    """What the text of an entity is made of, if there is one of this ref for the viewer."""
    rows = fetch(_BY_REF, (ref,))
    if rows and not sees_everything(viewer):
        with index() as entities:
            seen = entities.seen_by(viewer)
        rows = [row for row in rows if row[0] in seen]
    return rows[0] if rows else None


def text_of(viewer: Any, row: Row) -> bytes:
    """The JSON of one entity."""
    (text,) = _texts(_seen(viewer), [row], ())
    return text


def _seen(viewer: Any) -> BitMap | None:
    """What a viewer may see, of whom the index was asked before; None if that is everything."""
    if sees_everything(viewer):
        return None
    with index(is_asked_again=True) as entities:
        return entities.seen_by(viewer)


def _texts(seen: BitMap | None, rows: Sequence[Row], fields: Sequence[str]) -> list[bytes]:
    """The JSON of some entities, without relations to what is not seen.

    :param fields: the wanted ones; none for all.
    """
    relations = [row[3] for row in rows]
    if seen is not None:
        parsed = [orjson.loads(text) for text in relations]
        refs = {item["targetRef"] for items in parsed for item in items}
        with index(is_asked_again=True) as entities:
            hidden = {ref for ref, pk in entities.ids_of(refs).items() if pk and pk not in seen}
        if hidden:
            relations = [
                orjson.dumps([item for item in items if item["targetRef"] not in hidden]).decode()
                for items in parsed
            ]
    whole = [
        splice(_complete(row[2], *row[4:]), related).encode()
        for row, related in zip(rows, relations, strict=True)
    ]
    if not fields:
        return whole
    wanted = [name.split(".") for name in fields]
    return [orjson.dumps(pick(orjson.loads(text), wanted)) for text in whole]


def streamed(viewer: Any, ids: Sequence[int], fields: Sequence[str]) -> Iterator[bytes]:
    """Some entities as one JSON array, read and sent in parts: a list may be longer than memory."""
    seen = _seen(viewer) if ids else None
    yield b"["
    comma = b""
    for start in range(0, len(ids), CHUNK):
        by_id = {row[0]: row for row in fetch(_BY_IDS, (ids[start : start + CHUNK],))}
        rows = [by_id[pk] for pk in ids[start : start + CHUNK] if pk in by_id]  # some may be gone meanwhile
        if chunk := b",".join(_texts(seen, rows, fields)):
            yield comma + chunk
            comma = b","
    yield b"]"


def streamed_by_refs(
    viewer: Any, found: BitMap | None, refs: Sequence[str], fields: Sequence[str]
) -> Iterator[bytes]:
    """The same of refs in lower case: null for what is not there.

    :param found: the only ones that are wanted; None for all that there are.
    """
    seen = _seen(viewer)
    yield b"["
    for start in range(0, len(refs), CHUNK):
        part = refs[start : start + CHUNK]
        rows = [row for row in fetch(_BY_REFS, (text_array(set(part)),)) if found is None or row[0] in found]
        known = dict(zip((row[1] for row in rows), _texts(seen, rows, fields), strict=True))
        yield (b"," if start else b"") + b",".join(known.get(ref, b"null") for ref in part)
    yield b"]"


def _complete(document: str, kind: str, *known: str) -> str:
    """The document, with `unknown` where Backstage requires a value and nobody gave one.

    :param known: type, lifecycle and owner, as far as there are any.
    """
    if all(known) and all(name in document for name in _OTHERS.get(kind, ())):
        return document  # most are complete
    wanted = _REQUIRED.get(kind, ())
    has = dict(zip(_COLUMNS, known, strict=True))
    if all(has.get(name) or (name not in has and f'"{name}":' in document) for name in wanted):
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


def sorted_whole(entities: Index, found: BitMap, order: Order | None) -> list[int]:
    """All of some entities in the order of one field, those without it left out; without one by uid."""
    field = entities.field(canonical(order.field if order else "metadata.uid"))
    is_descending = bool(order and order.is_descending)
    return [place[2] for place in field.page(found, is_descending=is_descending, limit=len(found))]


def sorted_paged(entities: Index, found: BitMap, orders: Sequence[Order]) -> list[int]:
    """Some entities in the order of some fields, those without one last, at last by uid; without any field by ref."""
    column = "uid" if orders else "ref"
    statement = f"SELECT id, {column} FROM catalog_entity WHERE id = ANY(%s::bigint[])"  # noqa: S608 - ours
    last = dict(fetch(statement, (list(found),)))
    ids = sorted((pk for pk in found if pk in last), key=last.__getitem__)
    for order in reversed(orders):
        field = entities.field(canonical(order.field))
        having = [pk for pk in ids if pk in field.values]
        having.sort(key=field.sort_value, reverse=order.is_descending)
        ids = [*having, *(pk for pk in ids if pk not in field.values)]
    return ids


def full_text(entities: Index, found: BitMap, term: str, fields: Sequence[str]) -> BitMap:
    """Those of some entities in one of whose fields a term stands."""
    term = term.strip().lower()
    if not term:
        return found
    return found & reduce(or_, (entities.containing(canonical(field), term) for field in fields), BitMap())


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


def page(entities: Index, found: BitMap, cursor: Cursor, *, limit: int, offset: int = 0) -> Listed:
    """A page of the entities that a cursor's query finds, sorted as it says."""
    order = cursor.order
    is_descending = bool(order and order.is_descending) != cursor.is_previous
    field = entities.field(canonical(order.field if order else "metadata.uid"))
    after = (cursor.values[0], cursor.values[-1]) if cursor.values else None
    places = field.page(found, after=after, is_descending=is_descending, offset=offset, limit=limit + 1)
    has_more = len(places) > limit
    places = places[:limit]
    if cursor.is_previous:
        places.reverse()
    if not places:
        return Listed([], None, None)

    def values(place: Place) -> tuple[str, ...]:
        return place[:2] if order is not None else place[1:2]

    first = cursor.first or values(places[0])
    here = replace(cursor, first=first, is_previous=False)
    later = replace(here, values=values(places[-1])) if cursor.is_previous or has_more else None
    is_later = bool(cursor.values) and values(places[0]) != first
    before = replace(here, values=values(places[0]), is_previous=True) if is_later else None
    return Listed([place[2] for place in places], later, before)
