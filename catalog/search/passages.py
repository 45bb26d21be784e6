"""Operations of APIs and sections of docs, by their words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import and_
from typing import Any

from django.contrib.postgres.search import SearchRank
from django.db.models import F, Func, QuerySet, Value
from django.db.models.lookups import Lookup

from access.permissions import visible
from catalog.models import Entity, Passage
from catalog.search.asked import Asked, Word, squeezed
from catalog.search.entities import fit, holds
from catalog.search.hits import BEGINS, HEADING, OPERATION, PAGE, Hit, Place
from catalog.search.marks import Marked
from catalog.search.words import query, words_of

_LOOKED_AT = 400  # rows that are compared with one another
_MOST = 100


def passages_of(viewer: Any, rows: QuerySet[Entity] | None, sorts: Iterable[str]) -> QuerySet[Passage]:
    """The passages among which is searched: of what the viewer may see.

    :param rows: only of these entities; None for all that the viewer may see.
    """
    found = visible(viewer, Passage.objects.filter(sort__in=list(sorts), entity__deleted_at=None))
    return found if rows is None else found.filter(entity__in=rows.order_by().values("pk"))


def find(passages: QuerySet[Passage], asked: Asked) -> list[Hit]:
    """The best passages in which all words are."""
    if not asked.words:
        return []
    found = _ranked(passages, " & ".join(_any(word) for word in asked.words), asked, is_all=True)
    if len(found) == _MOST:
        # Some of many: what has the words in its title must be among them.
        titled = passages.filter(reduce(and_, (holds(word, ("title",)) for word in asked.words)))
        found += _hits(titled.annotate(rank=Value(1.0))[:_MOST], asked)
    return sorted({hit.pk: hit for hit in found}.values(), key=lambda hit: hit.place.key)


def partly(passages: QuerySet[Passage], asked: Asked, entities: Sequence[int]) -> list[Hit]:
    """Passages in which some of the words are: of entities that are called like the others, or all words but one."""
    found: list[Hit] = []
    words = asked.words
    if entities:
        found += _ranked(passages.filter(entity__in=list(entities)), " | ".join(map(_any, words)), asked)
    if len(words) > 2:
        most = (" & ".join(_any(word) for word in words if word is not left) for left in words)
        found += _ranked(passages, " | ".join(f"({part})" for part in most), asked)
    return list({hit.pk: hit for hit in found}.values())


def _ranked(passages: QuerySet[Passage], text: str, asked: Asked, *, is_all: bool = False) -> list[Hit]:
    """The best of those that fulfil a query.

    :param is_all: whether what does has all words.
    """
    wanted = _query(text)
    matching = passages.filter(_Matches(F("vector"), wanted)).order_by()
    some = Passage.objects.filter(pk__in=matching.values("pk")[:_LOOKED_AT])
    there = [] if is_all else [_Matches(F("vector"), _query(_any(word))) for word in asked.words]
    rows = some.annotate(
        rank=SearchRank(F("vector"), wanted, weights=[0.1, 0.2, 0.5, 1.0], normalization=Value(1)),
        **{f"has_{number}": condition for number, condition in enumerate(there)},
    ).order_by("-rank", "pk")
    return _hits(rows[:_MOST], asked, [f"has_{number}" for number in range(len(there))])


def _hits(rows: QuerySet[Passage], asked: Asked, names: Sequence[str] = ()) -> list[Hit]:
    columns = (
        "pk",
        "sort",
        "key",
        "title",
        "position",
        "rank",
        "entity__ref",
        "entity__kind",
        "entity__title",
    )
    hits = []
    for pk, sort, key, title, position, rank, ref, kind, entity_title, *has in rows.values_list(
        *columns, *names
    ):
        place = _place(
            sort, key, title, position, rank, (ref, entity_title), has or [True] * len(asked.words), asked
        )
        hits.append(Hit(sort, pk, place, Marked(title or key), ref, kind, entity_title, key))
    return hits


def _place(
    sort: str,
    key: str,
    title: str,
    position: int,
    rank: float,
    entity: tuple[str, str],
    has: Sequence[bool],
    asked: Asked,
) -> Place:
    wanted = asked.squeezed
    around = tuple(words_of(f"{entity[0]} {entity[1]}"))
    heading = (*words_of(title), *words_of(key))
    missing = sum(not there and fit(word, around) < 0.5 for word, there in zip(asked.words, has, strict=True))
    rest = (position, entity[0], key)
    if wanted in (squeezed(title), squeezed(key), squeezed(title.rpartition(" — ")[2])):
        return Place(0, BEGINS, 0.4, rest)
    # Words of the entity count as there: `petstore delete pet`.
    fits = [(fit(word, heading), fit(word, around)) for word in asked.words]
    worth = rank + sum(of_title + of_entity / 2 for of_title, of_entity in fits) / len(fits)
    if not missing and all(max(both) for both in fits):
        return Place(missing, HEADING, worth, rest)
    return Place(missing, OPERATION if sort == "operation" else PAGE, worth, rest)


def _any(word: Word) -> str:
    """A word as PostgreSQL's query has it: with whatever follows it, or what it may mean instead."""
    return f"({' | '.join(query(text) for text in word.folded)})"


def _query(text: str) -> Func:
    return Func(Value(text), template="(%(expressions)s)::tsquery")


class _Matches(Lookup):
    """Whether a vector fulfils a query; no dictionary of PostgreSQL's has a say."""

    lookup_name = "matches"
    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        left, parameters = self.process_lhs(compiler, connection)
        right, more = self.process_rhs(compiler, connection)
        return f"{left} @@ {right}", (*parameters, *more)
