"""A location is forgotten, with all that it declared."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.utils import timezone

from access.services.audit import record_audit
from catalog.models import Claim, Problem, Source
from catalog.services.ingest import drop_claims
from catalog.services.render import render_dirty
from integrations.models import CatalogLocation
from integrations.services.locations.turns import alone, apart, parts


def remove_location(*, location: CatalogLocation, by: str) -> int:
    """Forget a location and all that it declared.

    :returns: how many entities changed or went.
    :raises LocationBusy: while it is being read.
    """
    with alone(location.address, seconds=5):
        source = Source.objects.filter(key=f"yaml:{location.address}").first()
        changed: set[int] = set()
        if source is not None:
            ids = list(Claim.objects.filter(source=source).values_list("external_id", flat=True))
            for part in parts(sorted(ids)):
                drop = partial(drop_claims, source=source, external_ids=part, at=timezone.now(), by=by)
                changed |= apart(drop)
        with transaction.atomic():
            if source is not None:
                source.delete()
            Problem.objects.filter(raised_by=f"yaml:{location.address}"[:500], resolved_at=None).update(
                resolved_at=timezone.now()
            )
            record_audit("catalog.location-remove", location, changes={"entities": len(changed)})
            location.delete()
    render_dirty(at=timezone.now())
    return len(changed)
