"""Everything that reads connections and runs, for a viewer.

Who sees a connection's namespace sees it and its runs. What it brought may lie in other namespaces too; what lies
where the viewer does not see is neither shown nor counted, and where there is any, what a run said of the whole is
not told, for it may name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Concat
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import ScopeType
from access.permissions import Scope, can, covers, visible
from base.errors import NotFound
from catalog import queries as catalog
from catalog.models import Activity, AsideActivity, AsideClaim, Claim, ClaimMode, Source, SourceType
from catalog.permissions import Planned
from integrations.models import (
    CatalogLocation,
    Connection,
    Delivery,
    OperationRun,
    RecordOutcome,
    ResourceRun,
    ResourceState,
    RunState,
    SeenPage,
    StoredRecord,
    SyncRun,
)
from integrations.models.runs import ACTIVE
from integrations.permissions import declared_namespace
from integrations.sweep import unseen

STALE_AFTER = 3  # intervals


def list_connections(viewer: Any) -> QuerySet[Any]:
    """Connections that the viewer may see, with the state of their last run; see `words_as_seen`.

    Those that are removed and only kept are not among them: see `removed_connections`.
    """
    return with_states(visible(viewer, Connection.objects.listed()))


def removed_connections(viewer: Any) -> QuerySet[Connection]:
    """Connections that are removed and kept for a while, of those that the viewer may change; the newest first."""
    removed = Connection.objects.exclude(removal_at=None).filter(moving_since=None)
    return visible(viewer, removed, "connection.write").order_by("-removal_at")


def get_removed_connection(viewer: Any, slug: str) -> Connection:
    """A removed connection that is still kept, by its slug.

    :raises NotFound: if the viewer may change none of this name.
    """
    found = removed_connections(viewer).filter(slug=slug).first()
    if found is None:
        raise NotFound(_("No removed connection %(slug)s is kept here.") % {"slug": slug})
    return found


def with_states(connections: QuerySet[Connection]) -> QuerySet[Any]:
    """Connections with the state of their last run, as annotations."""
    last = SyncRun.objects.filter(connection=OuterRef("pk")).order_by("-id")
    over = last.exclude(state__in=ACTIVE).filter(is_quick=False)
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


def rows_left(connection: Connection) -> int:
    """How many claims and activities of a connection are still to be set aside, or to be brought back."""
    claims, activities = (Claim, Activity) if connection.is_aside else (AsideClaim, AsideActivity)
    said = claims.objects.filter(source__key__startswith=f"connection:{connection.slug}/")
    return said.count() + activities.objects.filter(connection=connection.slug).count()


def moves(viewer: Any, connections: Iterable[Connection]) -> dict[int, tuple[int, int]]:
    """How many rows have moved, and of how many, of connections that are set aside or brought back, by their keys.

    Of those that brought anything beyond what the viewer may see, nothing is counted.
    """
    going = [connection for connection in connections if connection.moving_since is not None]
    whole = wholly_seen(viewer, going)
    return {
        connection.pk: (max(connection.moving_rows - rows_left(connection), 0), connection.moving_rows)
        for connection in going
        if connection.pk in whole
    }


def entity_counts(viewer: Any, connections: Iterable[Connection]) -> dict[str, int]:
    """How many entities each of these connections speaks of, of those that the viewer may see, by its slug."""
    slugs = [connection.slug for connection in connections]
    claims = Claim.objects.filter(source__type=SourceType.CONNECTION, source__name__in=slugs)
    rows = visible(viewer, claims.filter(entity__deleted_at=None))
    counted = rows.values("source__name").annotate(n=Count("entity", distinct=True))
    return dict(counted.values_list("source__name", "n"))


# --- what lies beyond what one may see ------------------------------------------------------------------------


def sees_all(viewer: Any) -> bool:
    """Whether nothing that a connection brought can lie beyond what this person may see."""
    return covers(viewer, ["connection.read"], Scope(ScopeType.ALL))


def seen_records(viewer: Any, records: QuerySet[StoredRecord]) -> QuerySet[StoredRecord]:
    """Those records of which the viewer may know, if not read them word by word."""
    return visible(viewer, records, "connection.read")


def wholly_seen(viewer: Any, connections: Iterable[Connection]) -> set[int]:
    """Keys of those connections of which the viewer may see all that they brought."""
    found = {connection.pk for connection in connections}
    if sees_all(viewer) or not found:
        return found
    records = StoredRecord.objects.filter(connection__in=found)
    hidden = records.exclude(pk__in=seen_records(viewer, records).values("pk"))
    return found - set(hidden.values_list("connection", flat=True).distinct())


def beyond() -> str:
    """What stands in place of what a run said, for those who may not see all that it speaks of."""
    return _("Some of what it brings lies beyond what you may see, so what it said of it is not shown.")


def words_as_seen(viewer: Any, connections: Iterable[Any]) -> list[Any]:
    """Connections with the state of their last run, as the viewer may see them: not to be saved."""
    rows = list(connections)
    whole = wholly_seen(viewer, rows)
    for row in rows:
        if row.pk not in whole:
            row.last_message = beyond() if row.last_message else row.last_message
            row.done = row.expected = None
    return rows


class _Sight:
    """Which of a connection's records a viewer may know of, removed and refused ones included."""

    def __init__(self, viewer: Any, connection: Connection) -> None:
        self.viewer = viewer
        self.is_limited = not sees_all(viewer)
        self.hidden: set[tuple[str, str]] = set()
        self._namespaces: dict[str, bool] = {"": True}
        if self.is_limited:
            records = StoredRecord.objects.filter(connection=connection)
            rows = records.exclude(pk__in=seen_records(viewer, records).values("pk"))
            self.hidden = set(rows.values_list("resource", "external_id"))

    def hides(self, resource: str, external_id: str) -> bool:
        if not self.is_limited:
            return False
        if (resource, external_id) in self.hidden:
            return True
        namespace = declared_namespace(external_id)
        if namespace not in self._namespaces:
            # Of what was refused there is only its name: may the person see something of that namespace?
            self._namespaces[namespace] = can(
                self.viewer, "connection.read", Planned(f"component:{namespace}/")
            )
        return not self._namespaces[namespace]


def as_seen(viewer: Any, runs: Iterable[SyncRun]) -> list[SyncRun]:
    """Runs as the viewer may see them; where that is not all, they are not to be saved."""
    runs = list(runs)
    if sees_all(viewer):
        return runs
    sights = {connection: _Sight(viewer, connection) for connection in {run.connection for run in runs}}
    read = {row.pk: (row, sights[run.connection]) for run in runs for row in run.resources.all()}
    partly = {run.pk for run in runs if sights[run.connection].hidden}
    for page in SeenPage.objects.filter(resource__in=list(read)).iterator():
        row, sight = read[page.resource_id]
        for external_id, outcome in zip(page.ids, page.outcomes, strict=True):
            if sight.hides(row.name, external_id):
                partly.add(row.run_id)
                name = RecordOutcome(outcome).name.lower()
                row.listed -= outcome != RecordOutcome.REMOVED
                setattr(row, name, getattr(row, name) - 1)
    for run in runs:
        if run.pk not in partly:
            continue
        sight = sights[run.connection]
        for row in run.resources.all():
            row.expected, row.message = None, ""
            if row.would_remove:
                row.would_remove = held_records(viewer, row).count()
        if run.message:
            run.message = beyond()
    return runs


# --- runs -----------------------------------------------------------------------------------------------------


NUMBERS = ("listed", "new", "changed", "unchanged", "skipped", "refused", "removed")


def list_runs(viewer: Any, connection: Connection | None = None) -> QuerySet[SyncRun]:
    """Runs, newest first, with their resources. Hand those that are shown to `as_seen`."""
    rows = visible(viewer, SyncRun.objects.select_related("connection").prefetch_related("resources"))
    if connection is not None:
        rows = rows.filter(connection=connection)
    return rows.order_by("-id")


def totals_of(run: SyncRun) -> dict[str, int]:
    """A run's numbers: the sums of its resources'."""
    return {name: sum(getattr(row, name) for row in run.resources.all()) for name in NUMBERS}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is in the resource that it reads now; `expected` is None where the tool gives no total."""

    resource: str
    done: int
    expected: int | None
    per_second: float


def progress_of(viewer: Any, run_ids: Iterable[int]) -> dict[int, Progress]:
    """How far runs are, by id; one that reads nothing yet is not among them.

    It counts all that is read, so it is for those who may see all of it.
    """
    found: dict[int, Progress] = {}
    if not sees_all(viewer):
        return found
    for row in ResourceRun.objects.filter(run_id__in=list(run_ids), state=ResourceState.READING):
        seconds = (timezone.now() - row.started_at).total_seconds() if row.started_at else 0
        found[row.run_id] = Progress(row.name, row.listed, row.expected, row.listed / max(seconds, 1))
    return found


def list_records(
    viewer: Any,
    connection: Connection,
    *,
    resource: str = "",
    text: str = "",
    is_deleted: bool = False,
    is_kept: bool = False,
) -> QuerySet[StoredRecord]:
    """What a connection brought, word by word.

    :param is_deleted: what sweeps removed instead.
    :param is_kept: only what stays by a person's word.
    """
    found = StoredRecord.objects.filter(connection=connection, deleted_at__isnull=not is_deleted)
    rows = visible(viewer, found.kept() if is_kept else found)
    if resource:
        rows = rows.filter(resource=resource)
    if text:
        rows = rows.filter(
            Q(external_id__icontains=text) | Q(data__name__icontains=text) | Q(data__title__icontains=text)
        )
    return rows.order_by("resource", "external_id")


def list_operations(viewer: Any, connection: Connection | None = None) -> QuerySet[OperationRun]:
    """What people had done to a connection's tool, or to any, newest first."""
    rows = OperationRun.objects.filter(connection=connection) if connection else OperationRun.objects.all()
    return visible(viewer, rows).order_by("-id")


def get_operation(viewer: Any, connection: Connection | None, operation_id: int) -> OperationRun:
    """One of them.

    :raises NotFound: if the viewer may see none of this number there.
    """
    found = list_operations(viewer, connection).filter(pk=operation_id).first()
    if found is None:
        raise NotFound(_("There is no operation %(id)d here.") % {"id": operation_id})
    return found


def delivery_counts(connection: Connection) -> dict[str, int]:
    """How many deliveries of a connection there are in each state."""
    rows = Delivery.objects.filter(connection=connection).order_by().values("state").annotate(n=Count("pk"))
    return dict(rows.values_list("state", "n"))


def list_locations(viewer: Any) -> QuerySet[CatalogLocation]:
    """Catalog files that are read again by themselves."""
    return visible(viewer, CatalogLocation.objects.all())


def get_location(viewer: Any, location_id: int) -> CatalogLocation:
    """One of them.

    :raises NotFound: if the viewer may see none of this number.
    """
    found = list_locations(viewer).filter(pk=location_id).first()
    if found is None:
        raise NotFound(_("There are no such catalog files here."))
    return found


def present_locations(viewer: Any) -> QuerySet[CatalogLocation]:
    """Those of them that are not on their way out, in the order in which they were imported."""
    return list_locations(viewer).filter(removal_at=None).order_by("created_at", "pk")


def locations_of(viewer: Any, ref: str) -> QuerySet[CatalogLocation]:
    """The catalog files that declare an entity, if the viewer may see both; first whose word counts."""
    sources = _speaking_of(viewer, ref).filter(type=SourceType.YAML).values("key")
    by_key = Concat(Value("yaml:"), F("address"), output_field=TextField())
    return present_locations(viewer).alias(by_key=by_key).filter(by_key__in=sources)


def connections_of(viewer: Any, ref: str) -> list[Connection]:
    """The connections that tell of an entity, if the viewer may see both."""
    names = _speaking_of(viewer, ref).filter(type=SourceType.CONNECTION).values("name")
    return list(visible(viewer, Connection.objects.at_work()).filter(slug__in=names))


def _speaking_of(viewer: Any, ref: str) -> QuerySet[Source]:
    entities = catalog.list_entities(viewer).filter(ref=ref.lower())
    claims = Claim.objects.filter(entity__in=entities.values("pk"), mode=ClaimMode.ASSERT, is_shadowed=False)
    return Source.objects.filter(pk__in=claims.values("source"))


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
    """One run with its connection and resources, as the viewer may see it.

    :raises NotFound: if the viewer may see none of this number.
    """
    found = as_seen(viewer, list_runs(viewer).filter(pk=run_id))
    if not found:
        raise NotFound(_("There is no run %(id)d here.") % {"id": run_id})
    return found[0]


@dataclass(frozen=True, slots=True)
class SeenRecord:
    """One record of a run's list."""

    resource: str
    external_id: str
    outcome: str
    reason: str
    place: str
    stored: StoredRecord | None


def records_of(
    viewer: Any, resources: Sequence[ResourceRun], *, outcome: str = "", offset: int = 0, limit: int = 100
) -> tuple[list[SeenRecord], int]:
    """The records behind one of the numbers of a run's resources, and how many there are.

    :param resources: one of them, or all for a run's totals.
    :param outcome: new, changed, unchanged, skipped, refused or removed; empty for all that was listed.
    """
    if not resources:
        return [], 0
    connection = resources[0].run.connection
    listed = set(RecordOutcome) - {RecordOutcome.REMOVED}
    wanted = {RecordOutcome[outcome.upper()]} if outcome else listed
    sight = _Sight(viewer, connection)
    names = {row.pk: row.name for row in resources}
    found: list[tuple[str, str, int, dict[str, str]]] = []
    total = 0
    pages = SeenPage.objects.filter(resource__in=list(names)).order_by("resource__position", "number")
    for page in pages.iterator():
        name = names[page.resource_id]
        for external_id, code in zip(page.ids, page.outcomes, strict=True):
            if code not in wanted or sight.hides(name, external_id):
                continue
            if offset <= total < offset + limit:
                found.append((name, external_id, code, page.errors.get(external_id, {})))
            total += 1
    stored = {
        (row.resource, row.external_id): row
        for row in StoredRecord.objects.filter(
            connection=connection,
            resource__in=set(names.values()),
            external_id__in=[external_id for _name, external_id, _code, _error in found],
        ).defer("raw")
    }
    return [
        SeenRecord(
            name,
            external_id,
            RecordOutcome(code).name.lower(),
            error.get("reason", ""),
            error.get("place", ""),
            stored.get((name, external_id)),
        )
        for name, external_id, code, error in found
    ], total


def removed_by(resource: ResourceRun) -> QuerySet[StoredRecord]:
    """What a resource's sweep removed and nothing has brought back since."""
    if resource.finished_at is None or not resource.removed:
        return StoredRecord.objects.none()
    return StoredRecord.objects.filter(
        connection_id=resource.run.connection_id, resource=resource.name, deleted_at=resource.finished_at
    ).order_by("external_id")


def held_resources(viewer: Any, connection: Connection | None = None) -> list[ResourceRun]:
    """What the guard holds and nobody has decided, in the newest run of each connection, as the viewer may see it."""
    rows = visible(
        viewer, ResourceRun.objects.filter(state=ResourceState.HELD).select_related("run__connection")
    )
    if connection is not None:
        rows = rows.filter(run__connection=connection)
    later = ResourceRun.objects.filter(
        run__connection=OuterRef("run__connection"),
        name=OuterRef("name"),
        run_id__gt=OuterRef("run_id"),
        state__in=[ResourceState.HELD, ResourceState.COMPLETE],
    )
    found = list(rows.filter(~Exists(later)).order_by("-run_id", "position"))
    if sees_all(viewer):
        return found
    whole = wholly_seen(viewer, {row.run.connection for row in found})
    for row in found:
        if row.run.connection_id not in whole:
            row.would_remove, row.message = held_records(viewer, row).count(), ""
    return [row for row in found if row.would_remove]


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


def held_records(viewer: Any, resource: ResourceRun) -> QuerySet[StoredRecord]:
    """What the guard holds back: what would go if a person says so, of what the viewer may know of."""
    return seen_records(viewer, unseen(resource)).defer("raw").order_by("external_id")


def kept_records(viewer: Any, connection: Connection) -> QuerySet[StoredRecord]:
    """What stays by a person's word though the tool lists it no more, of what the viewer may know of."""
    rows = StoredRecord.objects.kept().filter(connection=connection)
    return seen_records(viewer, rows).defer("raw").order_by("resource", "external_id")
