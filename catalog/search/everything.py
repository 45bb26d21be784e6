"""One search over all that there is: entities, operations of APIs, sections of docs, activity.

What is asked is asked three times at most: as it was typed; where hardly anything is found, with what may have been
meant by words that are typed wrongly; and where that does not help, for what has only some of the words. All of it is
read for the viewer, in the statements themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from catalog.models import Entity, Passage
from catalog.search import activity, entities, near, passages
from catalog.search.asked import Asked, read
from catalog.search.hits import EXACT, SORTS, Hit, Sort
from catalog.search.marks import mark, snippet
from catalog.search.words import fold, words_of

MOST = 100  # hits of each sort: who has not found it there asks otherwise
FEW = 3  # so few, and more is tried
_FEW_WORDS = 2
_OF_ONE = 3  # passages of one entity before those of others


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    :ivar hits: so many as were asked for, the best first.
    :ivar total: how many there are; `MOST` of a sort is as far as one counts, and entities that fit less well are not
        looked for while those that fit better fill what was asked for.
    :ivar sorts: how many of each sort; `kinds`: of the entities among them, of each kind.
    :ivar meant: words as typed, and what was searched besides.
    :ivar is_partly: whether only what has some of the words was found.
    """

    asked: Asked
    hits: list[Hit] = field(default_factory=list)
    total: int = 0
    sorts: dict[Sort, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    meant: dict[str, tuple[str, ...]] = field(default_factory=dict)
    is_partly: bool = False


def search(
    viewer: Any,
    text: str,
    *,
    sorts: Collection[Sort] = SORTS,
    kinds: Collection[str] = (),
    offset: int = 0,
    limit: int = 20,
) -> Found:
    """What a viewer finds by a text: what is called so first, always.

    :param text: words, and filters of the query language if one likes. Nothing is a mistake.
    :param sorts: of what; counted are all of these.
    :param kinds: only entities of these kinds, and what is of them.
    """
    asked = read(text, viewer=viewer)
    if asked.is_empty:
        return Found(asked)
    with transaction.atomic(), connection.cursor() as cursor:
        # Until its end: the estimates of so many alternatives are high, and all of them have an index.
        cursor.execute("SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)")
        return _search(viewer, asked, sorts, kinds, offset, limit)


def _search(
    viewer: Any, asked: Asked, sorts: Collection[Sort], kinds: Collection[str], offset: int, limit: int
) -> Found:
    # One more than is shown, so that a page that is just full does not pass for the last.
    look = _Look(viewer, asked, sorts, kinds, min(offset + limit + 1, MOST))
    hits = look.all(asked)
    meant: dict[str, tuple[str, ...]] = {}
    is_partly = False
    if asked.words and len(hits) < FEW and not any(hit.place.tier == EXACT for hit in hits):
        others: dict[str, tuple[str, ...]] = {}
        # In a few words also one is looked at that stands somewhere, for it may stand there for something else.
        for is_known_meant in (True, False) if len(asked.words) <= _FEW_WORDS else (True,):
            more = near.others(
                [word for word in asked.words if word.text not in others],
                look.rows,
                look.passages,
                is_known_meant=is_known_meant,
            )
            others |= more
            if any(more.values()):
                asked = asked.meaning(others)
                hits = _together(hits, _lower(look.all(asked, is_second=True)))
            if hits:
                break
        meant = _meant(others, hits)
        if not hits and len(asked.words) > 1:
            hits = look.partly(asked)
            is_partly = bool(hits)
    hits = _spread(hits) if len(set(sorts)) > 1 else hits
    return Found(
        asked,
        _marked(hits[offset : offset + limit], asked),
        len(hits),
        {sort: count for sort in SORTS if (count := sum(hit.sort == sort for hit in hits))},
        dict(Counter(hit.kind for hit in hits if hit.sort == "entity").most_common()),
        meant,
        is_partly,
    )


@dataclass
class _Look:
    viewer: Any
    asked: Asked
    sorts: Collection[Sort]
    kinds: Collection[str]
    limit: int

    @cached_property
    def rows(self) -> QuerySet[Entity]:
        return entities.rows_of(self.viewer, self.asked, self.kinds)

    @property
    def _narrowed(self) -> QuerySet[Entity] | None:
        return self.rows if self.asked.filters is not None or self.kinds else None

    @cached_property
    def passages(self) -> QuerySet[Passage]:
        return passages.passages_of(
            self.viewer, self._narrowed, [s for s in self.sorts if s in ("operation", "page")]
        )

    def all(self, asked: Asked, *, is_second: bool = False) -> list[Hit]:
        """What has all words."""
        found: list[Hit] = []
        if "entity" in self.sorts:
            found += entities.find(self.rows, asked, limit=max(self.limit, FEW), is_second=is_second)[:MOST]
        if {"operation", "page"} & set(self.sorts):
            found += passages.find(self.passages, asked)
        if "activity" in self.sorts:
            found += activity.find(self.viewer, asked, self._narrowed, limit=MOST)
        return sorted(found, key=lambda hit: hit.place.key)

    def partly(self, asked: Asked) -> list[Hit]:
        """What has some of the words, most of them first."""
        known = entities.partly(self.rows, asked.words)
        found = entities.ranked(known, asked) if "entity" in self.sorts else []
        if {"operation", "page"} & set(self.sorts):
            found += passages.partly(self.passages, asked, [row.pk for row in known])
        enough = [hit for hit in found if hit.place.missing * 2 <= len(asked.words)]
        return sorted(enough, key=lambda hit: hit.place.key)[:MOST]


def _together(hits: list[Hit], more: list[Hit]) -> list[Hit]:
    """Both, each once, the best first."""
    both = {(hit.sort, hit.pk): hit for hit in (*more, *hits)}
    return sorted(both.values(), key=lambda hit: hit.place.key)


def _lower(hits: list[Hit]) -> list[Hit]:
    """What is only found by what may have been meant comes after what was found as it was typed."""
    return [replace(hit, place=replace(hit.place, missing=hit.place.missing + 1)) for hit in hits]


def _spread(hits: list[Hit]) -> list[Hit]:
    """So that the many passages of one entity do not keep one from those of others, all but some come last."""
    seen: Counter[tuple[str, str]] = Counter()
    first: list[Hit] = []
    last: list[Hit] = []
    for hit in hits:
        seen[hit.sort, hit.entity] += 1
        is_many = hit.sort in ("operation", "page") and seen[hit.sort, hit.entity] > _OF_ONE
        (last if is_many else first).append(hit)
    return first + last


def _meant(others: dict[str, tuple[str, ...]], hits: list[Hit]) -> dict[str, tuple[str, ...]]:
    """Of what words may have meant that by which something was found that the viewer sees."""
    there = {word for hit in hits for word in words_of(f"{hit.title.text} {hit.entity} {hit.key}")}
    found = {
        typed: tuple(one for one in meant if fold(one) in there and fold(one) != typed)
        for typed, meant in others.items()
    }
    return {typed: meant for typed, meant in found.items() if meant}


def _marked(hits: list[Hit], asked: Asked) -> list[Hit]:
    """The same with what was asked marked, in the title and in the part of the text that says most of it."""
    entity_ids = [hit.pk for hit in hits if hit.sort == "entity"]
    passage_ids = [hit.pk for hit in hits if hit.sort in ("operation", "page")]
    texts: dict[tuple[bool, int], str] = {}
    if entity_ids:
        rows = Entity.objects.filter(pk__in=entity_ids).values_list("pk", "description")
        texts |= {(True, pk): " ".join(text.split()) for pk, text in rows}
    if passage_ids:
        texts |= {
            (False, pk): text
            for pk, text in Passage.objects.filter(pk__in=passage_ids).values_list("pk", "text")
        }
    return [
        replace(
            hit,
            title=mark(hit.title.text, asked.words),
            snippet=snippet(
                "" if hit.sort == "activity" else texts.get((hit.sort == "entity", hit.pk), ""), asked.words
            ),
        )
        for hit in hits
    ]
