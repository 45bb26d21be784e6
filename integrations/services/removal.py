"""A connection is removed with all that it brought, which is kept for a while, so that it can be restored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import User
from access.permissions import visible
from access.services.audit import record_audit
from access.services.undo import forget_changes, keep_for_undo, note_undone
from base.errors import Conflict, NotFound
from catalog.models import Activity, Claim
from integrations.components import lost_without
from integrations.models import Connection
from integrations.services.connections import forget_secrets_of, lock_connection
from integrations.services.locations.removal import spoken_of
from integrations.services.moving import begin_moving, sources_of

KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes with a connection.

    :ivar entities: how many nobody else speaks of, so that they go; `amended` lose what the connection said.
    :ivar components: how many components that other connections inferred go, since what showed that they are
        built goes.
    """

    claims: int
    entities: int
    amended: int
    activities: int
    runs: int
    records: int = 0
    operations: int = 0
    components: int = 0


def removal_of(connection: Connection, viewer: User | None = None) -> Removal:
    """What would go. Writes nothing.

    :param viewer: to whom it is told, and nothing of connections that are kept from them; None: the whole.
    """
    sources = sources_of(connection)
    known = Connection.objects.all()
    touched, kept = spoken_of(sources, viewer)
    amended = kept.count()
    claims = Claim.objects.filter(source__in=sources)
    activities = Activity.objects.filter(connection=connection.slug)
    if viewer:
        claims, activities = visible(viewer, claims), visible(viewer, activities)
    return Removal(
        claims=claims.count(),
        entities=touched.count() - amended,
        amended=amended,
        components=lost_without(
            connection, among=visible(viewer, known) if viewer else known, now=timezone.now()
        ),
        activities=activities.count(),
        records=connection.records.filter(deleted_at=None).count(),
        runs=connection.runs.count(),
        operations=connection.operation_runs.count(),
    )


def request_removal(*, connection: Connection, by: str, now: datetime, with_secrets: bool = False) -> Removal:
    """Have a connection removed by a worker (`moving.settle_connection`). From now on nothing of it is begun.

    What it brought is set aside for `KEPT_FOR`; until then it can be restored.

    :param with_secrets: forget its secrets at once; who restores it enters them again.
    :returns: what goes.
    :raises BeingRemoved: if that was asked for already.
    :raises Conflict: while a run is active.
    """
    removal = removal_of(connection)
    with transaction.atomic():
        locked = lock_connection(connection)
        locked.operation_runs.filter(state="queued").delete()  # what nobody began is not begun
        begin_moving(locked, now=now, removal_at=now, removal_by=by, kept_until=now + KEPT_FOR)
        if with_secrets:
            forget_secrets_of(locked)
        event = record_audit("connection.delete", locked, changes=asdict(removal))
        keep_for_undo(event, state={**kept_of(locked), "with_secrets": with_secrets}, now=now)
        note_undone(verb="connection.undelete", state=kept_of(locked), by=by, now=now)
    return removal


def restore_connection(*, connection: Connection, by: str, now: datetime) -> None:
    """Have a removed connection brought back by a worker, with all that it brought, as it was.

    :raises NotFound: if it is gone for good.
    :raises Conflict: if it is not removed.
    """
    with transaction.atomic():
        locked = _lock_removed(connection)
        begin_moving(locked, now=now, removal_at=None, removal_by="", kept_until=None)
        event = record_audit("connection.undelete", locked, changes={"by": by})
        keep_for_undo(event, state=kept_of(locked), now=now)
        note_undone(verb="connection.delete", state=kept_of(locked), by=by, now=now)


def kept_of(connection: Connection) -> dict[str, str]:
    """What an undo finds a connection by, as long as it is kept."""
    return {"connection": str(connection.uid)}


def request_purge(*, connection: Connection, now: datetime) -> None:
    """Have a removed connection let go of for good by a worker, before its time.

    :raises NotFound: if it is gone already.
    :raises Conflict: if it is not removed.
    """
    with transaction.atomic():
        locked = _lock_removed(connection)
        locked.kept_until = locked.due_at = now
        locked.save(update_fields=["kept_until", "due_at"])
        record_audit("connection.request-purge", locked)
        forget_changes(verb="connection.delete", state=kept_of(locked))
        forget_secrets_of(locked)


def _lock_removed(connection: Connection) -> Connection:
    locked = Connection.objects.select_for_update().filter(pk=connection.pk).first()
    if locked is None or (locked.kept_until is not None and locked.kept_until <= timezone.now()):
        raise NotFound(_("%(connection)s is gone for good.") % {"connection": connection.label})
    if locked.removal_at is None:
        raise Conflict(_("%(connection)s is not removed.") % {"connection": connection.label})
    return locked
