"""What a search finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from catalog.search.marks import Marked

Sort = Literal["entity", "operation", "page", "activity"]
SORTS: tuple[Sort, ...] = get_args(Sort)

# Places in the order of what is found, the best first.
EXACT, BEGINS, TITLE, TAGS, HEADING, DESCRIPTION, OPERATION, PAGE, ACTIVITY = range(9)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a hit stands: compared from the first to the last.

    :ivar missing: how many words are not there, or only nearly.
    :ivar tier: what holds the words, see above.
    :ivar worth: the more, the better; of activity the time.
    """

    missing: int
    tier: int
    worth: float
    rest: tuple[Any, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.missing, self.tier, -self.worth, self.rest)


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that was found.

    :ivar sort: an entity itself, an operation of its API, a section of its docs, an activity.
    :ivar pk: of the row.
    :ivar key: of a passage: what it is within the entity.
    :ivar entity: ref of the entity that it is, or is of; empty for an activity of nothing known.
    :ivar kind, name: the entity's.
    """

    sort: Sort
    pk: int
    place: Place
    title: Marked
    entity: str = ""
    kind: str = ""
    entity_title: str = ""
    key: str = ""
    snippet: Marked = field(default=Marked(""))
    type: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    status: str = ""
    at: datetime | None = None
