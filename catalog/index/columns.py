"""Values that the catalog keeps beside each entity: who has which, so that lists count them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pyroaring import BitMap

from catalog.index.statements import each

COLUMNS = ("kind", "type", "owner", "lifecycle", "system", "namespace", "last_run", "tags", "sources")

Value = str | list[str]
"""Of a column; an array has several, or none."""


class Column:
    """The entities that have each value of one column."""

    def __init__(self) -> None:
        self.having: dict[str, BitMap] = {}

    def add(self, value: Value, ids: Iterable[int]) -> None:
        for one in (value,) if isinstance(value, str) else value:
            if (having := self.having.get(one)) is None:
                self.having[one] = BitMap(ids)
            else:
                having.update(ids)

    def put(self, rows: Sequence[tuple[int, Value | None]]) -> None:
        """Take in what some entities have now; None if they are gone."""
        touched = BitMap([pk for pk, _value in rows])
        for value in [value for value, having in self.having.items() if having.intersect(touched)]:
            self.having[value] -= touched
            if not self.having[value]:
                del self.having[value]
        for pk, now in rows:
            if now is not None:
                self.add(now, (pk,))

    def counts(self, ids: BitMap) -> Iterator[tuple[str, int]]:
        """The values among some entities, and how many have each."""
        for value, having in self.having.items():
            if count := having.intersection_cardinality(ids):
                yield value, count


def read_columns(names: Sequence[str]) -> dict[str, Column]:
    """Some columns of all living entities, in one pass over them.

    Arrays are gathered whole and taken apart here, for many are equal.
    """
    found = {name: Column() for name in names}
    if not found:
        return found
    columns = ", ".join(names)
    statement = f"""
        SELECT GROUPING({columns}), array_agg(id), {columns} FROM catalog_entity WHERE deleted_at IS NULL
        GROUP BY GROUPING SETS ({", ".join(f"({name})" for name in names)})
    """  # noqa: S608 - names from COLUMNS
    # GROUPING has a bit for each column, the first the highest; it is 0 for the one that is grouped by.
    name_of = {(1 << len(names)) - 1 - (1 << place): name for place, name in enumerate(reversed(names))}
    for mask, ids, *values in each(statement):
        name = name_of[mask]
        found[name].add(values[names.index(name)], ids)
    for column in found.values():
        for having in column.having.values():
            having.shrink_to_fit()
    return found
