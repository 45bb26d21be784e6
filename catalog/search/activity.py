"""What happened, by its title, the newest first."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any

from django.db.models import QuerySet

from catalog import queries
from catalog.models import Activity, Entity
from catalog.search.asked import Asked
from catalog.search.entities import holds
from catalog.search.hits import ACTIVITY, Hit, Place
from catalog.search.marks import Marked

_NEWEST = 2_000
_MOST = 5_000


def find(viewer: Any, asked: Asked, rows: QuerySet[Entity] | None, *, limit: int) -> list[Hit]:
    """The newest activities whose title has all words.

    What many titles say is found among the newest; what few say is found by its index, which knows no times.

    :param rows: only of these entities; None for all.
    """
    if not asked.words:
        return []
    seen = queries.list_activity(viewer)
    if rows is not None:
        seen = seen.filter(subject_uid__in=rows.order_by().values("uid"))
    condition = reduce(and_, (holds(word, ("title",)) for word in asked.words))
    found = _hits(seen.filter(condition, pk__in=seen.values("pk")[:_NEWEST])[:limit])
    if len(found) < limit:
        some = seen.filter(condition).order_by().values("pk")[:_MOST]
        found = _hits(queries.list_activity(viewer).filter(pk__in=some)[:limit])
    return found


def _hits(rows: QuerySet[Activity]) -> list[Hit]:
    columns = ("pk", "title", "type", "status", "at", "subject_ref", "actor")
    return [
        Hit(
            "activity",
            pk,
            Place(0, ACTIVITY, at.timestamp(), (-pk,)),
            Marked(title),
            ref,
            type=type_,
            status=status,
            owner=actor,
            at=at,
        )
        for pk, title, type_, status, at, ref, actor in rows.values_list(*columns)
    ]
