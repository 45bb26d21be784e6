"""What a list counts, told a second time: row by row of what the database finds."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from access.models import User
from catalog.counting import counting
from catalog.queries import search_entities
from catalog.query import FACETS, FIELDS
from catalog.query.editing import without

GROUPS = ("kind", "type", "owner", "lifecycle", "system", "namespace", "last_run")


def check_counts(viewer: User, text: str, *, now: datetime, within: str = "") -> int:
    """Compare totals, facets and sizes of groups, and say how many entities were found."""

    def rows(query: str, column: str) -> list[str | list[str]]:
        whole = f"({within}) ({query})" if within and query else within or query
        return list(search_entities(viewer, whole, now=now).values_list(column, flat=True))

    with counting(viewer, now=now, within=within) as counts:
        total = counts.total(text)
        facets = counts.facets(text, FACETS, limit=1_000)
        sizes = {column: counts.sizes(text, column) for column in GROUPS}
    assert total == len(rows(text, "pk")), text
    for facet in facets:
        found = rows(without(text, facet.field), FIELDS[facet.field].column)
        expected = Counter(
            one for value in found for one in ({value} if isinstance(value, str) else set(value))
        )
        assert {value.value: value.count for value in facet.values if value.count} == expected, (text, facet)
    for column, size in sizes.items():
        assert size == Counter(rows(text, column)), (text, column)
    return total
