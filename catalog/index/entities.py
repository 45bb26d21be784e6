"""The index itself: what is kept, and how it follows what is written."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

import orjson
from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet
from psycopg.types.numeric import Int2, Int4, Int8
from pyroaring import BitMap

from access.permissions import cache, visible
from catalog.index.columns import COLUMNS, Column, Value, read_columns
from catalog.index.fields import Field, Values, parse_values, path_of
from catalog.index.statements import fetch
from catalog.kinds import current_kinds
from catalog.models import Entity
from catalog.query.relations import directions_called
from catalog.query.tokens import MAX_KEY, MAX_VALUE

# Anybody who may read asks for any set or field, so what is kept has a size and not a number.
MOST_BYTES = 64 * 1024 * 1024  # of sets, as they were when they were made
MOST_VALUES = 1_000_000  # of all fields; each takes some hundred bytes
MOST_COLUMN_VALUES = 50_000  # different ones of all columns; each takes a set
MOST_VIEWERS = 1_000
MOST_REFS = 100_000
MOST_CHANGES = 2_000  # more, and reading anew is less work; so many rows are remembered
# Who has not looked for so long reads anew: what tells of older changes is being taken away.
LONGEST_AWAY = 1_800.0
_SIGHT_SECONDS = 1.0

Key = tuple[Hashable, ...]
"""Of a set: of what sort it is, and of what."""
Edge = tuple[str, str]
"""How a relation reads from an entity, in lower case, and the ref at its other end."""


@dataclass(slots=True)
class _Row:
    """An entity that was touched, as it is now; without a uid it is gone."""

    uid: str
    ref: str
    tokens: frozenset[int]
    namespace: str
    document: Any
    columns: tuple[Value, ...]


@dataclass(slots=True)
class _Batch:
    """What was found touched at one time."""

    rows: dict[int, _Row]
    edges: frozenset[Edge]


@dataclass(slots=True)
class _Kept:
    """A set of ids, and up to which batch it is true.

    :ivar size: in bytes, about.
    :ivar far: of a relation, who is at the other end.
    :ivar dangling: of a relation, those at whose other end nobody is.
    """

    ids: BitMap
    batch: int
    size: int = 0
    far: BitMap = dataclasses.field(default_factory=BitMap)
    dangling: BitMap = dataclasses.field(default_factory=BitMap)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What decides over what a viewer may see, as a statement.

    :ivar sql: None if they may see everything; empty for nothing.
    """

    at: float
    generation: int
    sql: str | None
    parameters: tuple[Any, ...] = ()

    @classmethod
    def of(cls, viewer: Any, at: float, generation: int) -> _Sight:
        rows = Entity.objects.filter(deleted_at=None)
        seen = visible(viewer, rows)
        if seen is rows:
            return cls(at, generation, None)
        try:
            sql, parameters = seen.order_by().values_list("pk").query.sql_with_params()
        except EmptyResultSet:
            return cls(at, generation, "")
        return cls(at, generation, sql, tuple(parameters))


class Index:
    """See the package. Methods take it as `come_up` has left it, unless they say otherwise."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._snapshot = ""
        self._at = 0.0
        self.forget()

    def forget(self) -> None:
        """Keep nothing."""
        self._snapshot = ""
        self._drop()

    def _drop(self) -> None:
        self._batches: list[_Batch] = []
        self._first = 0  # number of the first batch that is still known
        self._everything: BitMap | None = None
        self._uids: dict[int, str] | None = None
        self._refs: dict[str, int] = {}
        self._ref_of: dict[int, str] = {}
        self._sets: dict[Key, _Kept] = {}
        self._bytes = 0
        self._fields: dict[str, tuple[Field, int]] = {}
        self._columns: dict[str, tuple[Column, int]] = {}
        self._sights: dict[Hashable, _Sight] = {}

    # --- following ----------------------------------------------------------------------------------------

    def come_up(self) -> Index:
        """Take in what was written since the last time.

        :returns: itself.
        """
        now = time.monotonic()
        if not self._snapshot or now - self._at > LONGEST_AWAY:
            self._drop()
            ((self._snapshot,),) = fetch("SELECT pg_current_snapshot()::text")
            self._at = now
            return self
        rows = fetch(
            """
            SELECT pg_current_snapshot()::text, t.id, t.ids FROM (VALUES (1)) AS one
            LEFT JOIN catalog_touched t ON t.transaction >= %s
                AND NOT pg_visible_in_snapshot(t.transaction::text::xid8, %s::text::pg_snapshot)
            """,
            (int(self._snapshot.partition(":")[0]), self._snapshot),
        )
        snapshot = rows[0][0]
        named = [ids for _snapshot, pk, ids in rows if pk is not None]
        touched: set[int] = set().union(*(ids for ids in named if ids is not None))
        if (
            None in named
            or len(touched) > MOST_CHANGES
            or _end(snapshot) < _end(self._snapshot)  # another server counts here now
        ):
            self._drop()
        elif touched:
            try:
                self._take_in(list(touched))
            except Exception:
                self._drop()  # some of it may have been taken in
                raise
        # Last, so that what fails before is asked for again.
        self._snapshot, self._at = snapshot, now
        return self

    def _take_in(self, ids: list[int]) -> None:
        if not (self._sets or self._fields or self._columns or self._refs) and self._everything is None:
            return
        rows = dict.fromkeys(ids, _Row("", "", frozenset(), "", None, ()))
        for pk, uid, ref, tokens, namespace, document, *columns in fetch(
            f"""
            SELECT e.id, e.uid::text, e.ref, e.tokens, e.namespace, s.document, {_COLUMNS} FROM catalog_entity e
            LEFT JOIN catalog_served s ON s.entity_id = e.id WHERE e.id = ANY(%s::bigint[]) AND e.deleted_at IS NULL
            """,  # noqa: S608 - names from COLUMNS
            (ids,),
        ):
            document = orjson.loads(document or "{}")
            rows[pk] = _Row(uid, ref, frozenset(tokens), namespace, document, tuple(columns))
        edges = _edges_of(ids) if any(key[0] == "edge" for key in self._sets) else ()
        self._batches.append(_Batch(rows, frozenset(edges)))
        if self._everything is not None:
            for pk, row in rows.items():
                _put(self._everything, pk, bool(row.uid))
        for pk, row in rows.items():
            if self._uids is not None and row.uid:
                self._uids[pk] = row.uid
            self._refs.pop(self._ref_of.pop(pk, ""), None)
            self._refs.pop(row.ref, None)
        while sum(len(batch.rows) for batch in self._batches) > MOST_CHANGES:
            self._batches.pop(0)
            self._first += 1

    @property
    def _now(self) -> int:
        return self._first + len(self._batches)

    def _since(self, batch: int) -> list[_Batch] | None:
        """The batches after one; None if that is too long ago."""
        return None if batch < self._first else self._batches[batch - self._first :]

    # --- sets ---------------------------------------------------------------------------------------------

    @property
    def everything(self) -> BitMap:
        """The living entities."""
        if self._everything is None:
            self._everything = BitMap(_ids("SELECT id FROM catalog_entity WHERE deleted_at IS NULL"))
        return self._everything

    def with_token(self, token: int) -> BitMap:
        """Those that have a token."""
        return self._kept(
            ("token", token),
            lambda: BitMap(_ids("SELECT id FROM catalog_entity WHERE tokens @> ARRAY[%s::bigint]", token)),
            lambda _pk, row: token in row.tokens,
        )

    def with_any(self, tokens: Iterable[int]) -> BitMap:
        """Those that have one of some tokens; nothing of it is kept."""
        statement = "SELECT id FROM catalog_entity WHERE tokens && %s::bigint[]"
        return BitMap(_ids(statement, list(tokens)))

    def where(self, rows: QuerySet[Entity]) -> BitMap:
        """Some living entities, whatever their condition; kept if it looks at nothing but the entity itself."""
        try:
            sql, parameters = rows.order_by().values_list("pk").query.sql_with_params()
        except EmptyResultSet:
            return BitMap()
        return self._where(sql, parameters)

    def _where(self, sql: str, given: Iterable[Any]) -> BitMap:
        # Django takes tokens in an array for numbers of 32 bits, to which the server would cut them.
        parameters = tuple(int(one) if type(one) in _NUMBERS else one for one in given)

        def asked(only: list[int] | None = None) -> BitMap:
            among = "TRUE" if only is None else "id = ANY(%s::bigint[])"
            given = parameters if only is None else (*parameters, only)
            return BitMap(
                _ids(f"SELECT id FROM ({sql}) AS found(id) WHERE {among}", *given)  # noqa: S608 - Django's statement
            )

        if sql.upper().count("SELECT") > 1:
            return asked()  # others' rows decide, and they are not followed
        if any(isinstance(value, datetime) for value in parameters):
            return asked()  # what is asked next time counts from another moment
        # A statement may name thousands of values, and many are kept.
        key = ("where", blake2b(f"{sql}{parameters!r}".encode(), digest_size=16).digest())
        known = self._sets.get(key)
        batches = self._since(known.batch) if known is not None else None
        if known is None or batches is None:
            return self._keep(key, _Kept(asked(), self._now)).ids
        if touched := sorted({pk for batch in batches for pk in batch.rows}):
            # A new one, for another thread may be reading the old one.
            known.ids = (known.ids - BitMap(touched)) | asked(touched)
        known.batch = self._now
        return known.ids

    def sees_everything(self, viewer: Any) -> bool:
        """Whether nothing is kept from a viewer. It takes no `come_up`."""
        return self._sight(viewer).sql is None

    def seen_by(self, viewer: Any) -> BitMap:
        """What a viewer may see; `everything` itself if that is all. Not to be changed."""
        known = self._sight(viewer)
        if known.sql is None:
            return self.everything
        return self._where(known.sql, known.parameters) if known.sql else BitMap()

    def _sight(self, viewer: Any) -> _Sight:
        key = (getattr(viewer, "pk", None), getattr(getattr(viewer, "token", None), "pk", None))
        known, now, generation = self._sights.get(key), time.monotonic(), cache.generation()
        if known is None or known.generation != generation or now - known.at > _SIGHT_SECONDS:
            if len(self._sights) >= MOST_VIEWERS:
                self._sights.clear()
            known = self._sights[key] = _Sight.of(viewer, now, generation)
        return known

    def related(self, name: str, ref: str, *, seen: BitMap) -> BitMap:
        """Those with a relation to the entity of a ref.

        :param name: of the relation as it reads from them, in lower case.
        :param seen: what the viewer may see: all else is at no end of any.
        """
        edge = (name, ref)
        key = ("edge", edge)
        known = self._sets.get(key)
        batches = self._since(known.batch) if known is not None else None
        if (
            known is None
            or batches is None
            or any(
                edge in batch.edges or (known.ids | known.far).intersect(BitMap(batch.rows))
                for batch in batches
            )
        ):
            known = self._keep(key, _ends(name, ref, self._now))
        known.batch = self._now
        if seen is self.everything or known.far.issubset(seen):
            return known.ids & self.everything
        if known.far.isdisjoint(seen):
            return known.dangling & self.everything
        return _ends(name, ref, self._now, hidden=known.far - seen).ids & self.everything

    def _kept(self, key: Key, load: Callable[[], BitMap], holds: Callable[[int, _Row], bool]) -> BitMap:
        known = self._sets.get(key)
        batches = self._since(known.batch) if known is not None else None
        if known is None or batches is None:
            return self._keep(key, _Kept(load(), self._now)).ids
        for batch in batches:
            for pk, row in batch.rows.items():
                _put(known.ids, pk, bool(row.uid) and holds(pk, row))
        known.batch = self._now
        return known.ids

    def _keep(self, key: Key, kept: _Kept) -> _Kept:
        if (before := self._sets.pop(key, None)) is not None:
            self._bytes -= before.size
        kept.size = sum(_bytes_of(ids) for ids in (kept.ids, kept.far, kept.dangling))
        self._bytes += kept.size
        while self._sets and self._bytes > MOST_BYTES:
            self._bytes -= self._sets.pop(next(iter(self._sets))).size
        self._sets[key] = kept
        return kept

    def ids_of(self, refs: Iterable[str]) -> dict[str, int]:
        """The living entities of some refs; 0 for a ref that nobody has."""
        wanted = set(refs)
        if missing := [ref for ref in wanted if ref not in self._refs]:
            if len(self._refs) > MOST_REFS:
                self._refs.clear()
                self._ref_of.clear()
                missing = list(wanted)
            statement = (
                "SELECT ref, id FROM catalog_entity WHERE ref = ANY(%s::text[]) AND deleted_at IS NULL"
            )
            found = dict(fetch(statement, (missing,)))
            for ref in missing:
                pk = self._refs[ref] = found.get(ref, 0)
                if pk:
                    self._ref_of[pk] = ref
        return {ref: self._refs[ref] for ref in wanted}

    # --- fields -------------------------------------------------------------------------------------------

    @property
    def uids(self) -> dict[int, str]:
        """The uid of each entity as text, by id."""
        if self._uids is None:
            self._uids = dict(fetch("SELECT id, uid::text FROM catalog_entity WHERE deleted_at IS NULL"))
        return self._uids

    def field(self, name: str) -> Field:
        """The values of a field of the documents, named as it is written there."""
        known = self._fields.get(name)
        batches = self._since(known[1]) if known is not None else None
        if known is None or batches is None:
            self._fields.pop(name, None)
            field = Field(name, self._values_of(name), self.uids)
            room = MOST_VALUES - len(field.values)
            while self._fields and sum(len(kept.values) for kept, _batch in self._fields.values()) > room:
                self._fields.pop(next(iter(self._fields)))
        else:
            field = known[0]
            for batch in batches:
                for pk, row in batch.rows.items():
                    field.put(pk, self._value_in(name, row) if row.uid else None)
        self._fields[name] = field, self._now
        return field

    def columns(self, names: Sequence[str]) -> dict[str, Column]:
        """Who has which value of some columns, of `COLUMNS`."""
        found: dict[str, Column] = {}
        for name in names:
            known = self._columns.pop(name, None)
            batches = self._since(known[1]) if known is not None else None
            if known is not None and batches is not None:
                found[name], _batch = known
                if touched := {pk: row for batch in batches for pk, row in batch.rows.items()}:
                    at = COLUMNS.index(name)
                    found[name].put(
                        [(pk, row.columns[at] if row.uid else None) for pk, row in touched.items()]
                    )
        found |= read_columns([name for name in names if name not in found])
        room = MOST_COLUMN_VALUES - sum(len(column.having) for column in found.values())
        while self._columns and sum(len(kept.having) for kept, _batch in self._columns.values()) > room:
            self._columns.pop(next(iter(self._columns)))
        if room >= 0:
            self._columns |= {name: (column, self._now) for name, column in found.items()}
        return found

    def _value_in(self, name: str, row: _Row) -> Values | None:
        if name == "metadata.uid":
            return row.uid
        found = row.document
        for step in path_of(name):
            found = found.get(step) if isinstance(found, dict) else None
        if found is None and name == "metadata.namespace":
            return row.namespace
        return parse_values(found)

    @staticmethod
    def _values_of(name: str) -> Iterable[tuple[int, Values | None]]:
        if name == "metadata.uid":
            yield from fetch("SELECT id, uid::text FROM catalog_entity WHERE deleted_at IS NULL")
            return
        same: dict[Any, Values | None] = {}  # many are equal: one text in memory for all of them
        for pk, said, namespace in fetch(
            """
            SELECT e.id, (s.document::json #> %s::text[])::text, e.namespace FROM catalog_entity e
            JOIN catalog_served s ON s.entity_id = e.id WHERE e.deleted_at IS NULL
            """,
            (path_of(name),),
        ):
            if said is None or said == "null":
                yield (
                    pk,
                    same.setdefault(("", namespace), namespace) if name == "metadata.namespace" else None,
                )
                continue
            if said not in same:
                same[said] = parse_values(orjson.loads(said))
            yield pk, same[said]

    def containing(self, name: str, term: str) -> BitMap:
        """Those in one of whose values of a field a term stands, whatever the case.

        :param term: in lower case.
        """
        return self._passing("contains", name, term, lambda value: term in value)

    def beginning(self, name: str, prefix: str) -> BitMap:
        """Those one of whose values of a field begins so, whatever the case.

        :param prefix: in lower case.
        """
        return self._passing("begins", name, prefix, lambda value: value.startswith(prefix))

    def _passing(self, test_name: str, name: str, text: str, test: Callable[[str], bool]) -> BitMap:
        if len(name) > MAX_KEY or len(text) > 2 * MAX_VALUE:
            return BitMap()  # no value is so long, in lower case neither
        field = self.field(name)
        return self._kept(
            (test_name, name, text),
            lambda: field.matching(test),
            lambda pk, _row: field.matches(pk, test),
        )


def _end(snapshot: str) -> int:
    return int(snapshot.split(":")[1])


def _ids(sql: str, *parameters: Any) -> list[int]:
    return [row[0] for row in fetch(sql, parameters)]


def _bytes_of(ids: BitMap) -> int:
    """Two for each id, or a bit for each of a block of 65,536; and what an empty one takes."""
    return 200 + (min(2 * len(ids), 8_192 * (1 + (ids.max() >> 16))) if ids else 0)


def _put(ids: BitMap, pk: int, is_in: bool) -> None:
    if is_in:
        ids.add(pk)
    else:
        ids.discard(pk)


_NUMBERS = (Int2, Int4, Int8)
_COLUMNS = ", ".join(f"e.{name}" for name in COLUMNS)

# Who has a relation or tie to a ref, now or as it was written, with who has that ref; and back. The ids stand in an
# array, so that each way of finding a row has its index: joined, all relations of the type would be looked at.
_TO_TARGETS = """
    SELECT source_id, target_id FROM catalog_relation WHERE type = %(type)s
    AND (target_ref = %(ref)s OR target_id = ANY(ARRAY(SELECT id FROM catalog_entity WHERE ref = %(ref)s)))
    UNION ALL SELECT source_id, target_id FROM catalog_tie WHERE type = %(type)s AND state <> 'forbidden'
    AND target_id = ANY(ARRAY(SELECT id FROM catalog_entity WHERE ref = %(ref)s AND deleted_at IS NULL))
"""
_TO_SOURCES = """
    SELECT target_id, source_id FROM catalog_relation WHERE type = %(type)s AND target_id IS NOT NULL
    AND source_id = ANY(ARRAY(SELECT id FROM catalog_entity WHERE ref = %(ref)s))
    UNION ALL SELECT target_id, source_id FROM catalog_tie WHERE type = %(type)s AND state <> 'forbidden'
    AND source_id = ANY(ARRAY(SELECT id FROM catalog_entity WHERE ref = %(ref)s AND deleted_at IS NULL))
"""


def _ends(name: str, ref: str, batch: int, *, hidden: BitMap | None = None) -> _Kept:
    """Who has a relation of this name to a ref, and who is at its other end, of those that are not hidden."""
    found = _Kept(BitMap(), batch)
    for way in directions_called(name):
        for near, far in fetch(
            _TO_SOURCES if way.is_inverse else _TO_TARGETS, {"type": way.type, "ref": ref}
        ):
            if far is None:
                found.dangling.add(near)
            elif hidden is None or far not in hidden:
                found.far.add(far)
            else:
                continue
            found.ids.add(near)
    return found


def _edges_of(ids: list[int]) -> set[Edge]:
    """All ways in which some entities are related."""
    kinds = current_kinds()
    found: set[Edge] = set()
    for type_, source, target_ref, target in fetch(
        """
        SELECT r.type, s.ref, r.target_ref, coalesce(t.ref, '') FROM catalog_relation r
        JOIN catalog_entity s ON s.id = r.source_id LEFT JOIN catalog_entity t ON t.id = r.target_id
        WHERE r.source_id = ANY(%(ids)s::bigint[]) OR r.target_id = ANY(%(ids)s::bigint[])
        UNION ALL
        SELECT r.type, s.ref, t.ref, t.ref FROM catalog_tie r
        JOIN catalog_entity s ON s.id = r.source_id JOIN catalog_entity t ON t.id = r.target_id
        WHERE r.source_id = ANY(%(ids)s::bigint[]) OR r.target_id = ANY(%(ids)s::bigint[])
        """,
        {"ids": ids},
    ):
        forth, back = type_.lower(), kinds.inverse(type_).lower()
        found |= {(forth, target_ref), (forth, target), (back, source)}
    return found
