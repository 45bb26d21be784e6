"""What terms become: conditions on entities, and the few SQL expressions that Django lacks.

No text of a query ever becomes part of a statement: all of it travels as parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db.models import BooleanField, F, Func, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Upper

from catalog.models import Served
from catalog.query.tokens import token

NOTHING = Q(pk__in=())


@dataclass(frozen=True, slots=True)
class Condition:
    """Entities that have any of some tokens, or for which `q` holds; neither: none.

    Tokens are kept apart so that several conditions can share one look into the index.
    """

    tokens: frozenset[int] = frozenset()
    q: Q | None = None

    def __or__(self, other: Condition) -> Condition:
        both = [q for q in (self.q, other.q) if q is not None]
        return Condition(
            self.tokens | other.tokens, both[0] | both[1] if len(both) == 2 else next(iter(both), None)
        )

    @property
    def single(self) -> int | None:
        """The one token that it takes, if that is all."""
        return next(iter(self.tokens)) if len(self.tokens) == 1 and self.q is None else None

    def as_q(self) -> Q:
        if not self.tokens:
            return NOTHING if self.q is None else self.q
        if len(self.tokens) == 1:
            tokens = Q(tokens__contains=list(self.tokens))
        else:
            tokens = Q(tokens__overlap=sorted(self.tokens))
        return tokens if self.q is None else tokens | self.q


def has_token(key: str, value: str | None = None) -> Condition:
    return Condition(frozenset({token(key, value)}))


def escape_like(text: str) -> str:
    """Text that LIKE takes literally."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def like_pattern(text: str) -> str:
    """The LIKE pattern of a text in which `*` stands for anything."""
    return "%".join(escape_like(part) for part in text.split("*"))


class Like(Func):
    template = "(%(expressions)s)"
    arg_joiner = " LIKE "
    output_field = BooleanField()


def folded_like(column: str, pattern: str) -> Q:
    """Whether a column is like a pattern, whatever the case; the trigram index is on UPPER."""
    return Q(Like(Upper(column), Upper(Value(pattern))))


def any_like(column: str, pattern: str) -> Q:
    """Whether any element of an array is like a pattern, whatever the case."""
    return Q(_AnyLike(F(column), Value(pattern)))


class _AnyLike(Func):
    template = "EXISTS (SELECT 1 FROM unnest(%(expressions)s))"
    arg_joiner = ") AS element WHERE upper(element) LIKE upper("
    output_field = BooleanField()


Comparison = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class LeafTest:
    """What the leaf of a document has to pass: SQL with one placeholder, and its parameter."""

    sql: str
    parameter: Any


def number_test(operator: Comparison, number: Any) -> LeafTest:
    """Compares numbers, and texts that are numbers."""
    return LeafTest(
        "CASE WHEN leaf ~ '^-?[0-9]{1,30}([.][0-9]{1,30})?$' THEN leaf::numeric "
        + operator
        + " %s ELSE FALSE END",
        number,
    )


def day_test(operator: Comparison, day: str) -> LeafTest:
    """Compares the day of texts that begin with a date."""
    return LeafTest(
        "leaf ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}' AND left(leaf, 10) COLLATE \"C\" " + operator + " %s", day
    )


def version_test(operator: Comparison, parts: list[int]) -> LeafTest:
    """Compares versions number by number: 1.10 is more than 1.9."""
    numbers = "[0-9]{1,9}(?:[.][0-9]{1,9}){0,9}"
    return LeafTest(
        f"CASE WHEN leaf ~ '^v?{numbers}' THEN"
        f" string_to_array(substring(leaf from '^v?({numbers})'), '.')::bigint[] {operator} %s::bigint[]"
        " ELSE FALSE END",
        parts,
    )


def duration_test(operator: Comparison, seconds: float) -> LeafTest:
    """Compares durations, however they are written: `90 s`, `PT1H30M`."""
    return LeafTest(
        "CASE WHEN leaf ~ '^(P([0-9]{1,6}W)?([0-9]{1,6}D)?(T([0-9]{1,6}H)?([0-9]{1,6}M)?([0-9.]{1,19}S)?)?"
        "|[0-9]{1,9}([.][0-9]{1,9})? ?(ms|s|min|h|d|w))$' AND leaf ~ '[0-9]'"
        f" THEN extract(epoch FROM leaf::interval) {operator} %s ELSE FALSE END",
        seconds,
    )


def like_test(pattern: str) -> LeafTest:
    return LeafTest("upper(leaf) LIKE upper(%s)", pattern)


def leaf_condition(path: str, tests: Iterable[LeafTest]) -> Q:
    """Whether a document has a leaf at a path that passes all tests.

    Looks into the documents themselves, of those entities only that have the field: as a scalar subquery, for
    an EXISTS might be joined the other way around, over all documents.
    """
    own = Served.objects.filter(entity=OuterRef("pk"))
    found = Subquery(own.values(found=_Leaf(F("document"), path=path, tests=tuple(tests))))
    return Q(tokens__contains=[token(path)]) & Q(Coalesce(found, False, output_field=BooleanField()))


class _Leaf(Func):
    """Follows a dotted path through a JSON text, as `catalog.query.tokens` names the leaves.

    The walk carries the path so far, each key followed by a dot, and goes on only where it may still become
    the one that is wanted; so keys may hold dots and differ in case.
    """

    output_field = BooleanField()
    sql = """EXISTS (
        WITH RECURSIVE walk(path, value) AS (
            SELECT ''::text, {document}::jsonb
            UNION ALL
            SELECT step.path, step.value FROM walk, LATERAL (
                SELECT walk.path || lower(o.key) || '.' AS path, o.value
                FROM jsonb_each(CASE jsonb_typeof(walk.value) WHEN 'object' THEN walk.value END) o
                WHERE starts_with(%s, walk.path || lower(o.key) || '.')
                UNION ALL
                SELECT walk.path, a.value
                FROM jsonb_array_elements(CASE jsonb_typeof(walk.value) WHEN 'array' THEN walk.value END) a
            ) step
        )
        SELECT 1 FROM (
            SELECT value #>> '{{}}' AS leaf FROM walk
            WHERE path = %s AND jsonb_typeof(value) IN ('string', 'number', 'boolean')
        ) leaves WHERE {tests})"""

    def __init__(self, document: F, *, path: str = "", tests: Sequence[LeafTest] = ()) -> None:
        super().__init__(document)
        self.path = f"{path}."
        self.tests = tests

    def as_sql(self, compiler: Any, connection: Any, *_args: Any, **_context: Any) -> tuple[str, Any]:
        document, parameters = compiler.compile(self.source_expressions[0])
        sql = self.sql.format(document=document, tests=" AND ".join(f"({test.sql})" for test in self.tests))
        return sql, [*parameters, self.path, self.path, *(test.parameter for test in self.tests)]
