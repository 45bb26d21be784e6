"""What lists count of what a query finds, from sets in memory: totals, facets, sizes of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pyroaring import BitMap

from access.permissions import visible
from catalog.index import Index, index
from catalog.models import Entity
from catalog.query.compile import term_condition
from catalog.query.editing import selected_values, without
from catalog.query.facets import LIMIT, Facet, facet_fields, make_facet
from catalog.query.fields import Context
from catalog.query.nodes import And, Node, Not, Or, Term
from catalog.query.parser import parse


class Counting:
    """Counts what queries find for a viewer, as `queries.search_entities` does.

    What a single term means is decided by the same condition there and here; only how sets are put together is not
    left to the database, so that what a term finds is looked up once, whatever stands beside it.
    """

    def __init__(self, entities: Index, viewer: Any, *, now: datetime, within: str) -> None:
        self._entities = entities
        self._context = Context(now=now, viewer=viewer)
        self._within = parse(within)
        self._living = Entity.objects.filter(deleted_at=None)
        # Anew, not as the index knew a moment ago: who is denied something does not find it counted.
        seen = visible(viewer, self._living)
        self._seen = entities.everything if seen is self._living else entities.where(seen)
        self._terms: dict[Term, BitMap] = {}

    def total(self, text: str) -> int:
        """How many entities a query finds.

        :raises QueryError: where the query is wrong.
        """
        return len(self._found(text))

    def sizes(self, text: str, column: str) -> dict[str, int]:
        """How many of them have each value of a column, of `catalog.index.columns.COLUMNS`."""
        return dict(self._entities.columns([column])[column].counts(self._found(text)))

    def facets(self, text: str, names: Sequence[str], *, limit: int = LIMIT) -> list[Facet]:
        """The facets of a query. Each ignores what the query asks of its own field.

        :param names: from `FACETS`.
        :param limit: the most values of a facet; those that are on come in any case.
        :raises QueryError: if the query is wrong, or a field is no facet.
        """
        fields = facet_fields(names)
        columns = self._entities.columns([field.column for field in fields])
        return [
            make_facet(
                field,
                columns[field.column].counts(self._found(without(text, field.name))),
                selected_values(text, field.name),
                limit=limit,
            )
            for field in fields
        ]

    def _found(self, text: str) -> BitMap:
        return self._of(And((self._within, parse(text))))

    def _of(self, node: Node) -> BitMap:
        """Those of what the viewer sees for which a part of a query holds. Not to be changed."""
        match node:
            case And(items):
                parts = [self._of(item) for item in items]
                return BitMap.intersection(*parts) if len(parts) > 1 else parts[0] if parts else self._seen
            case Or(items):
                return BitMap.union(*(self._of(item) for item in items))
            case Not(item):
                return self._seen - self._of(item)
        if node not in self._terms:
            self._terms[node] = self._seen & self._matching(node)
        return self._terms[node]

    def _matching(self, term: Term) -> BitMap:
        condition = term_condition(term, self._context)
        if condition.single is not None:
            return self._entities.with_token(condition.single)
        return self._entities.where(self._living.filter(condition.as_q()))


@contextmanager
def counting(viewer: Any, *, now: datetime, within: str = "") -> Iterator[Counting]:
    """Counts as the database is now, for one thread at a time.

    :param within: a query that always holds beside those that are asked for.
    :raises QueryError: if it cannot be read.
    """
    with index() as entities:
        yield Counting(entities, viewer, now=now, within=within)
