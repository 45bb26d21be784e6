"""Which entities a viewer may see: what lies beyond must not be found out through its relations either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet

from catalog.models import Entity

Sight = Callable[[Any], QuerySet[Entity]]

_sights: list[Sight] = []


def register_sight(sight: Sight) -> None:
    """Say which entities a viewer may see."""
    _sights.append(sight)


def seen_by(viewer: object | None) -> QuerySet[Entity, int] | None:
    """Ids of what a viewer may see; None if that is everything. Without a viewer, as in scopes, it is."""
    if viewer is None:
        return None
    seen = Entity.objects.all()
    for sight in _sights:
        seen &= sight(viewer)
    return seen.order_by().values_list("pk", flat=True) if seen.query.where else None
