"""Everything that reads connections and runs, for a viewer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from access.permissions import visible
from base.errors import NotFound
from catalog.models import Claim, SourceType
from integrations.models import (
    CatalogLocation,
    Connection,
    RecordOutcome,
    ResourceRun,
    ResourceState,
    RunState,
    SeenPage,
    StoredRecord,
    SyncRun,
)
from integrations.sync import unseen

STALE_AFTER = 3  # intervals
ACTIVE = (RunState.QUEUED, RunState.RUNNING)


def list_connections(viewer: Any) -> QuerySet[Any]:
    """Connections that the viewer may see, with the state of their last run."""
    return with_states(visible(viewer, Connection.objects.all()))


def with_states(connections: QuerySet[Connection]) -> QuerySet[Any]:
    """Connections with the state of their last run, as annotations."""
    last = SyncRun.objects.filter(connection=OuterRef("pk")).order_by("-id")
    over = last.exclude(state__in=ACTIVE)
    reading = ResourceRun.objects.filter(
        run__connection=OuterRef("pk"), run__state=RunState.RUNNING, state=ResourceState.READING
    )
    return connections.annotate(
        last_state=Subquery(last.values("state")[:1]),
        last_message=Subquery(over.values("message")[:1]),
        over_state=Subquery(over.values("state")[:1]),
        over_at=Subquery(over.values("finished_at")[:1]),
        good_at=Subquery(over.filter(state=RunState.SYNCED).values("finished_at")[:1]),
        last_run=Subquery(last.values("pk")[:1]),
        done=Subquery(reading.values("listed")[:1]),
        expected=Subquery(reading.values("expected")[:1]),
    )


def first_syncs() -> QuerySet[Any]:
    """Connections that are being read, or wait for it, and never were before."""
    return with_states(Connection.objects.all()).filter(last_state__in=ACTIVE, over_state=None)


def is_first_sync(connection: Any) -> bool:
    """Say of a connection with its states what `first_syncs` asks of all."""
    return connection.last_state in ACTIVE and connection.over_state is None


def get_connection(viewer: Any, slug: str) -> Connection:
    """One connection by its slug.

    :raises NotFound: if the viewer may see none of this name.
    """
    found = list_connections(viewer).filter(slug=slug).first()
    if found is None:
        raise NotFound(_("There is no connection %(slug)s here.") % {"slug": slug})
    return found


def entity_counts() -> dict[str, int]:
    """How many entities each connection speaks of, by its slug."""
    rows = Claim.objects.filter(source__type=SourceType.CONNECTION, entity__deleted_at=None)
    counted = rows.values("source__name").annotate(n=Count("entity", distinct=True))
    return dict(counted.values_list("source__name", "n"))


NUMBERS = ("listed", "new", "changed", "unchanged", "skipped", "refused", "removed")


def list_runs(viewer: Any, connection: Connection | None = None) -> QuerySet[SyncRun]:
    """Runs, newest first, with the sums of their resources' numbers."""
    rows = visible(viewer, SyncRun.objects.select_related("connection"))
    if connection is not None:
        rows = rows.filter(connection=connection)
    return rows.annotate(**{name: Sum(f"resources__{name}", default=0) for name in NUMBERS}).order_by("-id")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is in the resource that it reads now; `expected` is None where the tool gives no total."""

    resource: str
    done: int
    expected: int | None
    per_second: float


def progress_of(run_ids: Iterable[int]) -> dict[int, Progress]:
    """How far runs are, by id; one that reads nothing yet is not among them."""
    found: dict[int, Progress] = {}
    for row in ResourceRun.objects.filter(run_id__in=list(run_ids), state=ResourceState.READING):
        seconds = (timezone.now() - row.started_at).total_seconds() if row.started_at else 0
        found[row.run_id] = Progress(row.name, row.listed, row.expected, row.listed / max(seconds, 1))
    return found


def list_records(
    viewer: Any, connection: Connection, *, resource: str = "", text: str = "", is_deleted: bool = False
) -> QuerySet[StoredRecord]:
    """What a connection brought, word by word; `is_deleted` gives what sweeps removed instead."""
    rows = visible(
        viewer, StoredRecord.objects.filter(connection=connection, deleted_at__isnull=not is_deleted)
    )
    if resource:
        rows = rows.filter(resource=resource)
    if text:
        rows = rows.filter(
            Q(external_id__icontains=text) | Q(data__name__icontains=text) | Q(data__title__icontains=text)
        )
    return rows.order_by("resource", "external_id")


def list_locations(viewer: Any) -> QuerySet[CatalogLocation]:
    """Catalog files that are read again by themselves."""
    return visible(viewer, CatalogLocation.objects.all())


def stale_since(connection: Any, *, now: datetime) -> datetime | None:
    """When the last good run ended, if that is more than three intervals ago; of `list_connections`."""
    if connection.good_at is None or connection.is_paused:
        return None
    age = now - connection.good_at
    return connection.good_at if age > timedelta(seconds=STALE_AFTER * connection.interval) else None


@dataclass(frozen=True, slots=True)
class SyncHealth:
    """All connections in a line.

    :ivar level: ok, warn, fail or run.
    """

    level: str
    running: str
    done: int
    expected: int | None
    failing: int
    total: int


def sync_health(rows: Iterable[Any]) -> SyncHealth | None:
    """How syncing is, for the shell. None without connections.

    :param rows: from `list_connections`.
    """
    rows = list(rows)
    if not rows:
        return None
    running = [row for row in rows if row.last_state in (RunState.QUEUED, RunState.RUNNING)]
    failing = [row for row in rows if row.over_state == RunState.FAILED]
    partial = [row for row in rows if row.over_state == RunState.PARTIAL]
    level = "fail" if failing else "warn" if partial else "run" if running else "ok"
    label, done, expected = "", 0, None
    if running:
        label, done, expected = running[0].label, running[0].done or 0, running[0].expected
    return SyncHealth(level, label, done, expected, len(failing) + len(partial), len(rows))


def get_run(viewer: Any, run_id: int) -> SyncRun:
    """One run with its connection and resources.

    :raises NotFound: if the viewer may see none of this number.
    """
    found = (
        visible(viewer, SyncRun.objects.select_related("connection").prefetch_related("resources"))
        .filter(pk=run_id)
        .first()
    )
    if found is None:
        raise NotFound(_("There is no run %(id)d here.") % {"id": run_id})
    return found


@dataclass(frozen=True, slots=True)
class SeenRecord:
    """One record of a run's list."""

    external_id: str
    outcome: str
    reason: str
    place: str
    stored: StoredRecord | None


def records_of(
    resource: ResourceRun, *, outcome: str = "", offset: int = 0, limit: int = 100
) -> tuple[list[SeenRecord], int]:
    """The records behind one of a resource's numbers, and how many there are.

    :param outcome: new, changed, unchanged, skipped or refused; empty for all that was listed.
    """
    wanted = RecordOutcome[outcome.upper()] if outcome else None
    found: list[tuple[str, int, dict[str, str]]] = []
    total = 0
    for page in SeenPage.objects.filter(resource=resource).order_by("number").iterator():
        for external_id, code in zip(page.ids, page.outcomes, strict=True):
            if wanted is not None and code != wanted:
                continue
            if offset <= total < offset + limit:
                found.append((external_id, code, page.errors.get(external_id, {})))
            total += 1
    stored = {
        row.external_id: row
        for row in StoredRecord.objects.filter(
            connection_id=resource.run.connection_id,
            resource=resource.name,
            external_id__in=[external_id for external_id, _code, _error in found],
        ).defer("raw")
    }
    return [
        SeenRecord(
            external_id,
            RecordOutcome(code).name.lower(),
            error.get("reason", ""),
            error.get("place", ""),
            stored.get(external_id),
        )
        for external_id, code, error in found
    ], total


def held_resources(viewer: Any) -> list[ResourceRun]:
    """What the guard holds and nobody has decided, in the newest run of each connection."""
    rows = visible(
        viewer, ResourceRun.objects.filter(state=ResourceState.HELD).select_related("run__connection")
    ).order_by("-run_id")
    newest: dict[tuple[int, str], ResourceRun] = {}
    for row in rows:
        newest.setdefault((row.run.connection_id, row.name), row)
    return [
        row
        for row in newest.values()
        if not ResourceRun.objects.filter(
            run__connection=row.run.connection,
            name=row.name,
            run_id__gt=row.run_id,
            state=ResourceState.COMPLETE,
        ).exists()
    ]


def get_resource(viewer: Any, connection: Connection, resource_id: int) -> ResourceRun:
    """One resource of one of a connection's runs.

    :raises NotFound: if the viewer may see none of this number there.
    """
    rows = visible(viewer, ResourceRun.objects.select_related("run__connection"))
    found = rows.filter(pk=resource_id, run__connection=connection).first()
    if found is None:
        raise NotFound(_("There is no resource %(id)d here.") % {"id": resource_id})
    return found


def get_record(viewer: Any, connection: Connection, record_id: int) -> StoredRecord:
    """One record of a connection, removed ones too.

    :raises NotFound: if the viewer may see none of this number there.
    """
    found = visible(viewer, StoredRecord.objects.filter(connection=connection, pk=record_id)).first()
    if found is None:
        raise NotFound(_("There is no record %(id)d here.") % {"id": record_id})
    return found


def held_records(resource: ResourceRun) -> QuerySet[StoredRecord]:
    """What the guard holds back: what would go if a person says so."""
    return unseen(resource).defer("raw").order_by("external_id")
