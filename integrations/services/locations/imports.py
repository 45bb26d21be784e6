"""Catalog files: imported by name, kept as locations, read again when they change.

Each location is a source of its own. It is read first, to its end, and then written in short transactions, a page
each: no lock is held while a disk or the network lets us wait. One process at a time reads a location. A document that
cannot be read is reported with its place and keeps its last good claim; what a complete reading no longer shows is
dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, nullcontext
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from access.services.audit import record_audit
from access.services.undo import keep_for_undo
from base.errors import Conflict, DomainError, NotFound
from base.memory import rare_collections
from catalog.documents import Location
from catalog.models import Problem, Source
from catalog.services.render import render_dirty
from catalog.services.voices import as_old_as_before
from integrations.models import CatalogLocation
from integrations.outbound import mask_url
from integrations.services.locations.addresses import is_local, label_of, root_of
from integrations.services.locations.reading import MAX_SECONDS, Reading, ReadingLoop, claims_of
from integrations.services.locations.removal import SILENT_FOR, record_import
from integrations.services.locations.summary import DocumentProblem, ImportSummary
from integrations.services.locations.turns import REGISTERED_FOR, LocationBusy, alone
from integrations.services.locations.writing import Writing

DUE_AT_ONCE = 20
PREVIEW_SECONDS = 20
MOVE_WAIT = 5  # seconds, for a reading that is going on
WAIT = 900  # seconds, for another reading of the same location


@rare_collections()
def import_paths(
    *,
    addresses: Sequence[str],
    by: str,
    dry_run: bool = False,
    from_shell: bool = False,
    seconds: float | None = None,
) -> ImportSummary:
    """Import catalog files, and register each address as a location that is read again.

    What cannot be read is a problem of the summary, and tried again later; what is no address, or leads to nothing on
    this machine, is not registered. The others go in.

    :param addresses: files, folders (all their `*.yaml` and `*.yml`), Git repositories, URLs.
    :param dry_run: say what would happen and write nothing.
    :param from_shell: local addresses may lie anywhere, for whoever has the shell may read them anyway.
    :param seconds: how long each address may be read, if less than usual.
    """
    summary = ImportSummary()
    for address in addresses:
        roots = [root_of(address)] if from_shell and is_local(address) else []
        try:
            result = _import(address, roots=roots, by=by, dry_run=dry_run, seconds=seconds or MAX_SECONDS)
        except DomainError as error:
            result = ImportSummary(
                unread=1, problems=[DocumentProblem(mask_url(address), 0, 0, "", error.message)]
            )
        summary.add(result)
    if not dry_run:
        render_dirty(at=timezone.now())
    return summary


def preview(*, address: str, by: str) -> ImportSummary:
    """What importing an address would do, for somebody who waits for it. Writes nothing."""
    return import_paths(addresses=[address], by=by, dry_run=True, seconds=PREVIEW_SECONDS)


def _import(address: str, *, roots: list[str], by: str, dry_run: bool, seconds: float) -> ImportSummary:
    with ReadingLoop(roots) as loop:
        start = loop.locate(address)
        with (
            nullcontext() if dry_run else alone(start.text, seconds=WAIT),
            closing(Reading(start, dry_run=dry_run)) as reading,
        ):
            reading.read(loop, seconds=seconds)
            Writing(reading, by=by, roots=roots, dry_run=dry_run).write()
    return reading.summary


class LocationKnown(Conflict):
    """These catalog files are read already."""

    code = "location-known"


def register_location(*, address: str, by: str, now: datetime, is_to_be_new: bool = False) -> CatalogLocation:
    """Have an address read soon, and from then on, by a worker: `refresh_location`.

    :raises Misconfigured: if it is no address, or lies where it may not be read.
    :raises InvalidInput: if it is too long.
    :raises LocationKnown: if it is read already, and is to be new.
    """
    with ReadingLoop() as loop:
        start = loop.locate(address)
    told = {"due_at": now + REGISTERED_FOR, "asked_at": now}
    with transaction.atomic():
        location, is_new = CatalogLocation.objects.get_or_create(
            address=start.text, defaults={"created_by": by, **told}
        )
        if not is_new and is_to_be_new and not location.is_removed:
            raise LocationKnown(_known(location.address))
        if not is_new:  # also one that is being removed: it is wanted again
            CatalogLocation.objects.filter(pk=location.pk).update(removal_at=None, **told)
        if is_new or location.is_removed:
            record_import(location, by=by, now=now)
    return location


def move_location(
    *, location: CatalogLocation, address: str, by: str, now: datetime, roots: Sequence[str] = ()
) -> CatalogLocation:
    """Have a location read at another address, soon and from then on, by a worker: `refresh_location`.

    What it declared stays until the new address was read, and then as far as it is declared there.

    :param roots: folders that it may read besides the allowed ones, as before.
    :raises LocationKnown: if another location has this address.
    :raises LocationBusy: while it is being read.
    :raises NotFound: if it is gone.
    :raises: as `register_location` does.
    """
    with ReadingLoop(roots) as loop:
        start = loop.locate(address)
    with alone(location.address, seconds=MOVE_WAIT), transaction.atomic():
        rows = CatalogLocation.objects.select_for_update().filter(pk=location.pk, removal_at=None)
        row = rows.first()
        if row is None:
            raise NotFound(_("These catalog files are no longer read."))
        before, source = row.address, Source.objects.filter(key=row.source_key)
        problems = Problem.objects.filter(raised_by=row.raised_by)
        if start.text != before:
            if CatalogLocation.objects.filter(address=start.text).exists():
                raise LocationKnown(_known(start.text))
            was = {"before": before, "roots": row.roots}
            row.address, row.roots, row.message = start.text, list(roots), ""
            # Left by an import that was killed before it said anything.
            Source.objects.filter(key=row.source_key, claims=None).delete()
            source.update(key=row.source_key, label=label_of(row.address))
            problems.update(raised_by=row.raised_by)
            event = record_audit("catalog.location-move", row, changes={"address": [before, row.address]})
            keep_for_undo(event, state={"uid": str(row.uid), "address": row.address, **was})
        row.due_at, row.asked_at = now + REGISTERED_FOR, now
        try:
            with transaction.atomic():
                row.save()
        except IntegrityError as error:  # somebody was quicker
            raise LocationKnown(_known(start.text)) from error
    return row


def _known(address: str) -> str:
    return _("Location %(address)s already exists") % {"address": mask_url(address)}


def restore_location(*, state: Mapping[str, Any], by: str, now: datetime) -> CatalogLocation:
    """Have an address read again that was removed, as it was before, by a worker: `refresh_location`.

    :param state: what was kept of it when it was removed.
    """
    location, _is_new = CatalogLocation.objects.update_or_create(
        address=state["address"],
        defaults={
            "roots": state["roots"],
            "interval": state["interval"],
            "created_by": state["created_by"],
            "removal_at": None,
            "due_at": now + REGISTERED_FOR,
            "asked_at": now,
        },
    )
    as_old_as_before(state.get("source", ()))  # older removals noted none
    record_import(location, by=by, now=now)
    return location


def ask_again(*, location: CatalogLocation, now: datetime) -> None:
    """Have a location read now, by a worker: `refresh_location`."""
    CatalogLocation.objects.filter(pk=location.pk, removal_at=None).update(
        due_at=now + REGISTERED_FOR, asked_at=now
    )


@rare_collections()
def refresh_location(*, location_id: int, now: datetime, is_guarded: bool = True) -> ImportSummary | None:
    """Read a location again; None if it is going or gone, being read by another worker, or cannot be read now.

    :param is_guarded: keep what is gone if that is much; without it a person has seen to it.
    """
    location = CatalogLocation.objects.filter(pk=location_id, removal_at=None).first()
    if location is None:
        return None
    try:
        start, by = Location.of(location.address), label_of(location.address)
        with (
            alone(location.address, seconds=0),
            ReadingLoop(location.roots) as loop,
            closing(Reading(start)) as reading,
        ):
            reading.read(loop, seconds=MAX_SECONDS)
            Writing(reading, by=by, is_guarded=is_guarded, only_known=True).write()
    except LocationBusy:
        return None
    except DomainError as error:
        due_at = now + timedelta(seconds=location.interval)
        CatalogLocation.objects.filter(pk=location_id).update(
            message=error.message, due_at=due_at, asked_at=None
        )
        return None
    render_dirty(at=timezone.now())
    return reading.summary if reading.was_read else None


@rare_collections()
def refresh_files(*, location_id: int, paths: Collection[str]) -> bool:
    """Read some of a location's local files again, those that are gone included, and what they alone say.

    :returns: whether that was enough: not if one of them cannot be read, or leads to other files.
    :raises LocationBusy: while another process is reading the location.
    """
    location = CatalogLocation.objects.filter(pk=location_id, removal_at=None).first()
    if location is None:
        return True
    start, part = Location.of(location.address), frozenset(paths)
    with (
        alone(location.address, seconds=0),
        ReadingLoop(location.roots) as loop,
        closing(Reading(start, part=part)) as reading,
    ):
        if claims_of(start, part).filter(Q(entity__kind="location") | Q(place__has_key="by")).exists():
            return False
        reading.read(loop, seconds=MAX_SECONDS)
        if reading.leads_on or reading.summary.unread:
            return False
        Writing(reading, by=label_of(location.address), is_guarded=True, only_known=True).write()
    render_dirty(at=timezone.now())
    return True


def due_locations(*, now: datetime) -> list[CatalogLocation]:
    """Locations that should be read again, or whose removal should go on.

    Claims them for a while, so that two ticks queue each once.
    """
    with transaction.atomic():
        rows = list(
            CatalogLocation.objects.select_for_update(skip_locked=True)
            .filter(Q(due_at=None) | Q(due_at__lte=now))
            .order_by("due_at")[:DUE_AT_ONCE]
        )
        for row in rows:
            wait = SILENT_FOR if row.is_removed else timedelta(seconds=row.interval)
            CatalogLocation.objects.filter(pk=row.pk).update(due_at=now + wait)
    return rows
