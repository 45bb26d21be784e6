"""A location is forgotten with all that it declared: asked for by a person, done by a worker, a page at a time.

That it is to go stands in its row, and what is left to do are the claims that its source still has. So whoever is
killed half way leaves nothing to be found out: the tick asks again until the row is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from access.models import User
from access.permissions import visible
from access.services.audit import record_audit
from access.services.undo import keep_for_undo, note_undone
from catalog.audience import hidden_names
from catalog.models import Claim, ClaimMode, Entity, Problem, Source
from catalog.services.ingest import drop_claims
from catalog.services.render import render_dirty
from catalog.services.voices import ages_of
from integrations.models import CatalogLocation
from integrations.services.locations import turns
from integrations.services.locations.turns import REGISTERED_FOR, LocationBusy, alone, apart

# How long a worker may be silent before another goes on.
SILENT_FOR = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class LocationRemoval:
    """What goes with a location.

    :ivar kinds: how many entities of each kind go, most first: nobody else speaks of them.
    :ivar amended: entities that stay and lose what it declared.
    """

    kinds: dict[str, int]
    amended: int

    @property
    def entities(self) -> int:
        """How many entities go."""
        return sum(self.kinds.values())


def spoken_of(
    sources: QuerySet[Source], viewer: User | None = None
) -> tuple[QuerySet[Entity], QuerySet[Entity]]:
    """The entities that some sources speak of, and those of them that would stay without their word.

    :param viewer: to whom it is told, and nothing of what is kept from them; None: the whole.
    """
    mine = Claim.objects.filter(source__in=sources)
    touched = Entity.objects.filter(deleted_at=None, pk__in=mine.values("entity"))
    others = Claim.objects.filter(mode=ClaimMode.ASSERT, entity__in=mine.values("entity"))
    others = others.exclude(source__in=sources)
    if viewer is not None:
        touched = visible(viewer, touched)
        others = others.exclude(source__name__in=hidden_names(viewer))
    return touched, touched.filter(pk__in=others.values("entity"))


def removal_of(location: CatalogLocation, viewer: User | None = None) -> LocationRemoval:
    """What would go with a location. Writes nothing.

    :param viewer: as in `spoken_of`.
    """
    touched, kept = spoken_of(Source.objects.filter(key=location.source_key), viewer)
    going = touched.exclude(pk__in=kept.values("pk"))
    kinds = going.values_list("kind").annotate(number=Count("pk")).order_by("-number", "kind")
    return LocationRemoval(kinds=dict(kinds), amended=kept.count())


def request_removal(*, location: CatalogLocation, by: str, now: datetime) -> bool:
    """Have a location forgotten by a worker: `remove_location`.

    :returns: whether this is news; it may be gone, or asked for already.
    """
    removal = removal_of(location)
    with transaction.atomic():
        is_news = CatalogLocation.objects.filter(pk=location.pk, removal_at=None).update(
            removal_at=now,
            removal_by=by,
            removal_claims=Claim.objects.filter(source__key=location.source_key).count(),
            due_at=now + REGISTERED_FOR,
        )
        if is_news:
            numbers = {"entities": removal.entities, "amended": removal.amended}
            event = record_audit("catalog.location-remove", location, changes=numbers)
            source = Source.objects.filter(key=location.source_key)
            keep_for_undo(event, state={**_kept_of(location), "source": ages_of(source)})
            note_undone(verb="catalog.import", state={"address": location.address}, by=by, now=now)
    return bool(is_news)


def record_import(
    location: CatalogLocation, *, by: str, now: datetime, numbers: Mapping[str, Any] | None = None
) -> None:
    """Note that a location is read from now on, so that this can be undone."""
    keep_for_undo(record_audit("catalog.import", location, changes=numbers), state=_kept_of(location))
    note_undone(verb="catalog.location-remove", state={"address": location.address}, by=by, now=now)


def _kept_of(location: CatalogLocation) -> dict[str, Any]:
    """What it takes to have a location again as it is, as plain data."""
    names = ("address", "roots", "interval", "created_by")
    return {name: getattr(location, name) for name in names}


def remove_location(*, location_id: int) -> None:
    """Forget a location whose removal was asked for, as far as nobody calls it back by importing it again.

    While somebody reads it, or removes it already, nothing is done: the tick asks again.
    """
    location = CatalogLocation.objects.filter(pk=location_id).exclude(removal_at=None).first()
    if location is None:
        return
    try:
        with alone(location.address, seconds=0):
            while apart(lambda: _remove_page(location)):
                pass
    except LocationBusy:
        return
    render_dirty(at=timezone.now())


def removals_left(locations: Iterable[CatalogLocation]) -> dict[int, int]:
    """How many documents are still to be let go of, by the id of a location that is being removed."""
    going = {row.source_key: row.pk for row in locations if row.is_removed}
    left = dict.fromkeys(going.values(), 0)
    counts = Claim.objects.filter(source__key__in=list(going)).values_list("source__key")
    return left | {going[key]: number for key, number in counts.annotate(Count("pk")).order_by()}


def _remove_page(location: CatalogLocation) -> bool:
    """Let go of a page of what a location declared, and of the location with the last.

    :returns: whether there is more to do.
    """
    now = timezone.now()
    mine = CatalogLocation.objects.filter(pk=location.pk).exclude(removal_at=None)
    if not mine.select_for_update().exists():
        return False
    mine.update(due_at=now + SILENT_FOR)
    source = Source.objects.filter(key=location.source_key).first()
    if source is not None:
        claims = source.claims.order_by("external_id")
        if page := list(claims.values_list("external_id", flat=True)[: turns.PAGE]):
            drop_claims(source=source, external_ids=page, at=now, by=location.removal_by)
            return True
        source.delete()
    Problem.objects.filter(raised_by=location.raised_by, resolved_at=None).update(resolved_at=now)
    location.delete()
    return False
