"""What changed that people may want to be told of: put down by whoever changes it, taken up by who tells them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import connection

from catalog.models import Activity, News


@dataclass(frozen=True, slots=True)
class Before:
    """How an activity stood before it changed.

    :ivar is_new: whether it was not there.
    """

    is_new: bool
    status: str
    about: uuid.UUID | None


@dataclass(slots=True)
class Taken:
    """What changed: ids of entities, and of activities with how they stood before the first of their changes.

    :ivar rows: how many notes were taken up.
    """

    entities: set[int] = field(default_factory=set)
    activities: dict[int, Before] = field(default_factory=dict)
    rows: int = 0


def note_entities(uids: Iterable[uuid.UUID | None]) -> None:
    """Note that something changed of entities which rendering them does not tell, such as their problems."""
    wanted = [uid for uid in uids if uid]
    if wanted:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO catalog_news (entity_id) SELECT id FROM catalog_entity WHERE uid = ANY(%s)",
                [wanted],
            )


def note_activities(changed: Iterable[tuple[int, Activity | None]]) -> None:
    """Note that activities came or changed.

    :param changed: ids, and each as it was before, if it was.
    """
    News.objects.bulk_create(
        News(
            activity_id=pk,
            is_new=old is None,
            was_status=old.status if old else "",
            was_about=old.subject_uid if old else None,
        )
        for pk, old in changed
    )


def take_news(*, limit: int) -> Taken:
    """Take up what changed, the oldest first; gone for good once the caller's transaction commits."""
    taken = Taken()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM catalog_news WHERE id IN (SELECT id FROM catalog_news ORDER BY id LIMIT %s)
            RETURNING id, entity_id, activity_id, is_new, was_status, was_about
            """,
            [limit],
        )
        for _id, entity_id, activity_id, *before in sorted(cursor.fetchall()):
            taken.rows += 1
            if entity_id is not None:
                taken.entities.add(entity_id)
            else:
                taken.activities.setdefault(activity_id, Before(*before))
    return taken
