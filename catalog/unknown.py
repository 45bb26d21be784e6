"""Owners that things name and nothing declares, and what people made of such names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Count, QuerySet

from access.permissions import visible
from catalog.models import Alias, ClaimMode, Entity, Relation, SourceType
from catalog.queries import NAMED, list_entities

OWNED_BY = "ownedBy"


@dataclass(frozen=True, slots=True)
class UnknownOwner:
    """A name that nothing declares.

    :ivar count: how many things name it as their owner; `named_by`: title and ref of some of them.
    """

    ref: str
    count: int
    named_by: list[tuple[str, str]]


def unknown_owners(viewer: Any, *, start: int = 0, limit: int = 50) -> tuple[list[UnknownOwner], int]:
    """The owners that nothing declares, those that most things name first; and how many there are."""
    named = Relation.objects.filter(type=OWNED_BY, target=None, source__in=list_entities(viewer).values("pk"))
    rows = (
        named.values_list("target_ref")
        .annotate(
            n=Count("source"),
            titles=ArrayAgg("source__title", order_by=("source__title", "source__ref")),
            refs=ArrayAgg("source__ref", order_by=("source__title", "source__ref")),
        )
        .order_by("-n", "target_ref")
    )
    found = [
        UnknownOwner(ref, n, list(zip(titles, refs, strict=True))[:NAMED])
        for ref, n, titles, refs in rows[start : start + limit]
    ]
    return found, named.values("target_ref").distinct().count()


def mentions_of(viewer: Any, ref: str) -> QuerySet[Entity]:
    """What names something that nothing declares, by title."""
    naming = Relation.objects.filter(target_ref=ref, target=None).values("source")
    return list_entities(viewer).filter(pk__in=naming).order_by("title", "ref")


def mapped_names(viewer: Any) -> QuerySet[Alias]:
    """What people said that names mean, newest first."""
    targets = list_entities(viewer).values("pk")
    rows = Alias.objects.exclude(decided_by="").filter(entity__in=targets)
    return rows.select_related("entity").order_by("-decided_at")


def made_by_hand(viewer: Any) -> QuerySet[Entity]:
    """Groups and people that somebody made and may be taken back, newest first."""
    made = {"claims__source__type": SourceType.PERSON, "claims__mode": ClaimMode.ASSERT}
    rows = Entity.objects.filter(
        pk__in=Entity.objects.filter(deleted_at=None, **made).values("pk"), deleted_at=None
    )
    return visible(viewer, rows, "entity.write").order_by("-changed_at")
