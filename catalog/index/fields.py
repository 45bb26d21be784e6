"""Values of one field of all entities: in order, by text, and by how many have each."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyroaring import BitMap

from catalog.query.tokens import MAX_VALUE, as_text

Values = str | tuple[str, ...]
"""A field's scalars as texts in their own case; most fields have one."""
Place = tuple[str, str, int]
"""Where an entity stands in an order: its value in lower case, its uid, its id."""


def path_of(field: str) -> list[str]:
    """The keys of a dotted field; those of annotations and labels hold dots themselves."""
    parts = field.split(".")
    if parts[:2] in (["metadata", "annotations"], ["metadata", "labels"]):
        return [*parts[:2], ".".join(parts[2:])] if len(parts) > 2 else parts
    return parts


def parse_values(said: Any) -> Values | None:
    """What a place in a document holds that can be compared: a scalar, or those of a list; too long ones are not."""
    found = [
        as_text(one)
        for one in (said if isinstance(said, list) else [said])
        if isinstance(one, (str, int, float)) and len(as_text(one)) <= MAX_VALUE
    ]
    if not found:
        return None
    return found[0] if len(found) == 1 else tuple(found)


def _each(values: Values | None) -> tuple[str, ...]:
    if values is None:
        return ()
    return (values,) if isinstance(values, str) else values


class Field:
    """The values of a field, by entity. What is made of them is made when it is first asked for, and kept true.

    :param uids: of all entities that are known; one without is newer than the last look, and comes with the next.
    """

    def __init__(self, name: str, values: Iterable[tuple[int, Values | None]], uids: dict[int, str]) -> None:
        self.name = name
        self.values = {pk: value for pk, value in values if value is not None and pk in uids}
        self._uids = uids
        self._order: list[Place] | None = None
        self._counts: dict[str, BitMap] | None = None
        self._having: BitMap | None = None

    def put(self, pk: int, value: Values | None) -> None:
        """Take in what an entity says now; None if it is gone or says nothing."""
        before = self.values.get(pk)
        if before == value:
            return
        if self._order is not None:
            if before is not None:
                place = self._place(pk, before)
                at = bisect_left(self._order, place)
                if at < len(self._order) and self._order[at] == place:
                    del self._order[at]
            if value is not None:
                insort(self._order, self._place(pk, value))
        if self._counts is not None:
            for one in _each(before):
                self._counts[one].discard(pk)
            for one in _each(value):
                self._counts.setdefault(one, BitMap()).add(pk)
        if value is None:
            self.values.pop(pk, None)
        else:
            self.values[pk] = value
        if self._having is not None:
            if value is None:
                self._having.discard(pk)
            else:
                self._having.add(pk)

    def sort_value(self, pk: int) -> str:
        """By what an entity that has the field is sorted: of several values the first."""
        return self._key(self.values[pk])

    @staticmethod
    def _key(values: Values) -> str:
        return (values if isinstance(values, str) else min(values)).lower()

    def _place(self, pk: int, value: Values) -> Place:
        return self._key(value), self._uids[pk], pk

    @property
    def having(self) -> BitMap:
        """Those that have the field. Not to be changed."""
        if self._having is None:
            self._having = BitMap(self.values)
        return self._having

    def matching(self, test: Callable[[str], bool]) -> BitMap:
        """Those one of whose values, in lower case, passes a test."""
        return BitMap(
            [
                pk
                for pk, value in self.values.items()
                if (test(value.lower()) if isinstance(value, str) else self.matches(pk, test))
            ]
        )

    def matches(self, pk: int, test: Callable[[str], bool]) -> bool:
        """Whether one of an entity's values, in lower case, passes a test."""
        return any(test(value.lower()) for value in _each(self.values.get(pk)))

    def counts(self, ids: BitMap) -> list[tuple[str, int]]:
        """The values among some entities and how many have each, by value."""
        if self._counts is None:
            by_value: dict[str, list[int]] = {}
            for pk, values in self.values.items():
                for one in _each(values):
                    by_value.setdefault(one, []).append(pk)
            self._counts = {value: BitMap(pks) for value, pks in by_value.items()}
        found = [(value, having.intersection_cardinality(ids)) for value, having in self._counts.items()]
        return sorted(pair for pair in found if pair[1])

    # --- in order -----------------------------------------------------------------------------------------

    @property
    def order(self) -> list[Place]:
        """All that have the field, by value and uid."""
        if self._order is None:
            self._order = sorted(self._place(pk, value) for pk, value in self.values.items())
        return self._order

    def page(
        self,
        ids: BitMap,
        *,
        after: tuple[str, str] | None = None,
        is_descending: bool = False,
        offset: int = 0,
        limit: int,
    ) -> list[Place]:
        """So many of some entities, in order.

        :param after: value and uid to go on from; None from the beginning.
        """
        if not ids:
            return []
        # Of few all are sorted; of many the order is gone along until enough are found. A place costs five steps.
        if len(ids) ** 2 * 5 < len(self.values) * (offset + limit):
            places = sorted(self._place(pk, self.values[pk]) for pk in ids if pk in self.values)
            found: Iterator[Place] = self._from(places, after, is_descending)
        else:
            found = (place for place in self._from(self.order, after, is_descending) if place[2] in ids)
        page = []
        for number, place in enumerate(found):
            if number >= offset:
                page.append(place)
            if len(page) >= limit:
                break
        return page

    @staticmethod
    def _from(places: list[Place], after: tuple[str, str] | None, is_descending: bool) -> Iterator[Place]:
        if after is None:
            return iter(reversed(places) if is_descending else places)
        if is_descending:
            end = bisect_left(places, (*after, -1))
            return (places[at] for at in range(end - 1, -1, -1))
        start = bisect_left(places, (*after, 1 << 63))
        return (places[at] for at in range(start, len(places)))
