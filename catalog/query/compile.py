"""From a query to a condition on entities."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import reduce
from operator import and_, or_

from django.db.models import Q

from catalog.query.conditions import Condition
from catalog.query.fields import Context, contains, find_field
from catalog.query.nodes import And, Filter, Node, Not, Or, Span, Term, Value, Words
from catalog.query.parser import parse

TEXT_COLUMNS = ("name", "title", "description")


def compile_query(query: str | Node, *, viewer: object | None = None, now: datetime) -> Q:
    """The condition of a query on `Entity` rows: no joins, so that it multiplies no row.

    :param viewer: who `@me` is, and whose sight ends relations; without one `@me` is nobody, sight endless.
    :param now: what ages count from.
    :raises QueryError: where the query is wrong.
    """
    node = parse(query) if isinstance(query, str) else query
    return _compile(node, Context(now=now, viewer=viewer))


def term_condition(term: Term, context: Context) -> Condition:
    """What one filter or word means.

    :raises QueryError: if there is no such field, or the field has no such value.
    """
    match term:
        case Words(value):
            return Condition(q=reduce(or_, (contains(column, _as_part(value)) for column in TEXT_COLUMNS)))
        case Filter(name, values, span):
            field = find_field(name, span=Span(span.position, len(name)))
            return field.condition(values, context)


def _as_part(value: Value) -> Value:
    """A word is searched anywhere: what `*` leaves open at its ends is open anyway."""
    return Value(f"*{value.text}*") if value.is_pattern else value


def _compile(node: Node, context: Context) -> Q:
    match node:
        case And(items):
            return _all(items, context)
        case Or(items):
            return reduce(or_, (_compile(item, context) for item in items))
        case Not(item):
            return ~_compile(item, context)
        case _:
            return term_condition(node, context).as_q()


def _all(items: Iterable[Node], context: Context) -> Q:
    """All of these; the tokens that must be there are one look into the index, so those that must not."""
    wanted: set[int] = set()
    unwanted: frozenset[int] = frozenset()
    rest: list[Q] = []
    for item in items:
        match item:
            case Words() | Filter():
                condition = term_condition(item, context)
                if condition.single is not None:
                    wanted.add(condition.single)
                else:
                    rest.append(condition.as_q())
            case Not(Words() | Filter() as term):
                condition = term_condition(term, context)
                if condition.q is None:
                    unwanted |= condition.tokens
                else:
                    rest.append(~condition.as_q())
            case _:
                rest.append(_compile(item, context))
    if wanted:
        rest.insert(0, Q(tokens__contains=sorted(wanted)))
    if unwanted:
        rest.append(~Condition(unwanted).as_q())
    return reduce(and_, rest, Q())
