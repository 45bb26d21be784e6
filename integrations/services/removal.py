"""A connection goes with all that it brought: asked for by a person, done by a worker, a page at a time.

That it is to go stands in its row, and what is left to do are the rows that it still has. So whoever is killed half
way leaves nothing to be found out: the tick asks again until the connection is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access.secrets import forget_secrets
from access.services.audit import record_audit
from base.errors import Conflict
from catalog.models import Activity, Claim, Problem, Source
from catalog.services.activity import forget_activity
from catalog.services.render import render_dirty
from integrations.components import apply_rules, lost_without
from integrations.models import Connection, OperationRun
from integrations.queries import rows_left
from integrations.services.connections import OWNER, lock_connection
from integrations.services.locations import turns
from integrations.services.locations.removal import SILENT_FOR, drop_page, spoken_of
from integrations.services.locations.turns import REGISTERED_FOR, apart
from integrations.services.network import OWNER as NETWORK_OWNER
from integrations.writing import take_turn

RUNS_AT_ONCE = 10  # each has a row for every page that it read


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


def removal_of(connection: Connection) -> Removal:
    """What would go. Writes nothing."""
    sources = _sources(connection)
    touched, kept = spoken_of(sources)
    amended = kept.count()
    return Removal(
        claims=Claim.objects.filter(source__in=sources).count(),
        entities=touched.count() - amended,
        amended=amended,
        components=lost_without(connection, now=timezone.now()),
        activities=Activity.objects.filter(connection=connection.slug).count(),
        records=connection.records.filter(deleted_at=None).count(),
        runs=connection.runs.count(),
        operations=connection.operation_runs.count(),
    )


def request_removal(*, connection: Connection, by: str, now: datetime) -> Removal:
    """Have a connection removed by a worker: `remove_connection`. From now on nothing of it is begun.

    :returns: what goes.
    :raises BeingRemoved: if that was asked for already.
    :raises Conflict: while a run is active.
    """
    removal = removal_of(connection)
    with transaction.atomic():
        locked = lock_connection(connection)
        if locked.runs.active().exists():
            raise Conflict(_("A sync is running. Cancel it first, then remove the connection."))
        if locked.operation_runs.filter(state=OperationRun.State.RUNNING).exists():
            raise Conflict(_("An operation is running. Remove the connection when it is over."))
        locked.operation_runs.all().delete()
        for owner in (OWNER, NETWORK_OWNER):
            forget_secrets(owner_type=owner, owner_uid=str(locked.uid))
        Connection.objects.filter(pk=locked.pk).update(
            removal_at=now,
            removal_by=by,
            removal_rows=rows_left(locked),
            allows_operations=False,
            due_at=now + REGISTERED_FOR,
            quick_due_at=None,
        )
        record_audit("connection.delete", locked, changes=asdict(removal))
    return removal


def remove_connection(*, connection_id: int) -> None:
    """Let go of a connection whose removal was asked for, and of all that it brought.

    What people said of its entities waits for their return; what other connections inferred from it is decided anew.
    """
    connection = Connection.objects.filter(pk=connection_id).exclude(removal_at=None).first()
    if connection is None:
        return
    while apart(lambda: _remove_page(connection)):
        pass
    render_dirty(at=timezone.now())


def due_removals(*, now: datetime) -> list[int]:
    """Connections whose removal should go on. Claims them for a while, so that two ticks queue each once."""
    with transaction.atomic():
        rows = Connection.objects.select_for_update(skip_locked=True).exclude(removal_at=None)
        due = list(rows.filter(due_at__lte=now).values_list("pk", flat=True))
        Connection.objects.filter(pk__in=due).update(due_at=now + SILENT_FOR)
    return due


def _sources(connection: Connection) -> QuerySet[Source]:
    return Source.objects.filter(key__startswith=f"connection:{connection.slug}/")


def _remove_page(connection: Connection) -> bool:
    """Let go of a page of what a connection has, and of itself with the last.

    :returns: whether there is more to do.
    """
    now = timezone.now()
    take_turn(connection)  # after those who write what they were told before
    mine = Connection.objects.filter(pk=connection.pk).exclude(removal_at=None)
    if not mine.select_for_update().exists():
        return False
    mine.update(due_at=now + SILENT_FOR)
    steps: Iterable[Callable[[], int]] = (
        lambda: any(drop_page(one, at=now, by=connection.removal_by) for one in _sources(connection)),
        lambda: forget_activity(connection_slug=connection.slug, limit=turns.PAGE),
        lambda: _forget(connection.records.all(), turns.PAGE),
        lambda: _forget(connection.deliveries.all(), turns.PAGE),
        lambda: _forget(connection.runs.all(), RUNS_AT_ONCE),
    )
    if any(step() for step in steps):  # the first that finds something
        return True
    _sources(connection).delete()
    raised = [f"{what}:{connection.slug}" for what in ("connection", "rule", "deliveries")]
    Problem.objects.filter(raised_by__in=raised, resolved_at=None).update(resolved_at=now)
    mine.delete()
    apply_rules(now=now, guarded=False)
    return False


def _forget(rows: QuerySet[Any], limit: int) -> int:
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
    rows.model._default_manager.filter(pk__in=ids).delete()
    return len(ids)
