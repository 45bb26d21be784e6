"""What changes of many things at once have in common: a plan that is looked at, and then done as one change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import orjson
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.permissions import visible
from access.services.audit import Subject
from base.errors import InvalidInput, PreconditionFailed
from catalog.bulk import among
from catalog.models import Entity
from catalog.services.ingest import lock_entities

MOST = 10_000
# What is more than this takes too long for a page: a worker does it (`catalog.services.bulk_changes`).
AT_ONCE = 200
# Programs may wait longer for an answer.
MOST_OF_PROGRAMS = 1_000


class StalePlan(PreconditionFailed):
    """What was previewed is no longer what would happen."""

    code = "stale-plan"


class Outcome(StrEnum):
    """What a change does to one thing."""

    SET = "set"  # nobody says anything of it
    OVERRIDE = "override"  # a tool, a file or another way says otherwise
    REPLACE = "replace"  # one's own earlier word
    SAME = "same"
    HELD = "held"  # another person's word counts, and goes first
    FORBIDDEN = "forbidden"
    UNFIT = "unfit"  # it cannot be so


CHANGING = (Outcome.SET, Outcome.OVERRIDE, Outcome.REPLACE)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of a plan."""

    entity: Entity
    outcome: Outcome

    @property
    def is_changing(self) -> bool:
        return self.outcome in CHANGING


R = TypeVar("R", bound=Row)


class BulkPlan(Generic[R]):
    """What a change does to many things; a dataclass says to what, and what it is."""

    __slots__ = ()
    rows: list[R]

    @property
    def changing(self) -> list[R]:
        return [row for row in self.rows if row.is_changing]

    @property
    def mark(self) -> str:
        """What names it, to be sure that what is done is what was seen."""
        return hashlib.blake2b(orjson.dumps(self.said()), digest_size=12).hexdigest()

    def said(self) -> list[Any]:
        """All that must be as it was seen, as plain data."""
        raise NotImplementedError


P = TypeVar("P", bound=BulkPlan[Any])


def check_count(count: int, most: int) -> None:
    """
    :raises InvalidInput: if these are more things than are changed at once.
    """
    if count > most:
        raise InvalidInput(
            _("At most %(max)d things at once, but %(got)d came.") % {"max": most, "got": count}
        )


def writable(user: Any, entities: Sequence[Entity]) -> set[int]:
    """The ids of those that somebody may change.

    :raises InvalidInput: if there are too many.
    """
    check_count(len(entities), MOST)
    rows = Entity.objects.filter(pk__in=among(entity.pk for entity in entities))
    return set(visible(user, rows, "entity.write").values_list("pk", flat=True))


def carry_out(
    plan_of: Callable[[list[Entity]], P],
    write: Callable[[P], None],
    *,
    entities: Sequence[Entity],
    expected: str,
) -> P:
    """Plan again for what is there, which nobody else changes meanwhile, and do it. The caller renders what follows.

    :param expected: the mark of the plan that the person saw; empty for any.
    :returns: what was done.
    :raises StalePlan: if something changed since.
    """
    with transaction.atomic():
        order = [entity.pk for entity in entities]
        locked = {entity.pk: entity for entity in lock_entities(set(order)) if entity.is_alive}
        plan = plan_of([locked[pk] for pk in order if pk in locked])
        if expected and expected != plan.mark:
            raise StalePlan(
                _("Something of it was changed since you looked. Look at the preview again, then repeat it.")
            )
        if plan.changing:
            write(plan)
    return plan


def many(count: int) -> Subject:
    """Many things, as what an entry of the audit log is about."""
    return Subject("catalog", "", ngettext("%(n)d entity", "%(n)d entities", count) % {"n": count})
