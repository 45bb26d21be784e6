"""What a connection brought is set aside, brought back, or let go of: asked for by a person, done by a worker.

What is to be done stands in the connection's row, and how much of it is left are the rows that have not moved. So
whoever is killed half way leaves nothing to be found out: the tick asks again until all is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access.services.audit import record_audit
from base.errors import Conflict
from catalog.models import AsideActivity, AsideClaim, Problem, Source
from catalog.services.aside import (
    bring_activity_back,
    bring_claims_back,
    set_activity_aside,
    set_claims_aside,
)
from catalog.services.audience import free_name
from catalog.services.render import render_dirty
from integrations.components import apply_rules
from integrations.models import Connection, OperationRun
from integrations.queries import rows_left
from integrations.services.connections import forget_secrets_of
from integrations.services.locations import turns
from integrations.services.locations.removal import SILENT_FOR
from integrations.services.locations.turns import REGISTERED_FOR, apart
from integrations.writing import take_turn

RUNS_AT_ONCE = 10  # each has a row for every page that it read


def begin_moving(connection: Connection, *, now: datetime, **changes: Any) -> None:
    """Have a worker set aside what a connection brought, or bring it back, as the changes say. The caller locks it.

    :raises Conflict: while it is read, or something is done by it.
    """
    if connection.runs.active().exists():
        raise Conflict(_("A sync is running. Wait for its end, or cancel it first."))
    active = (OperationRun.State.QUEUED, OperationRun.State.RUNNING)
    if connection.operation_runs.filter(state__in=active).exists():
        raise Conflict(_("An operation is running. Wait for its end."))
    for name, value in changes.items():
        setattr(connection, name, value)
    connection.moving_since = now
    connection.moving_rows = rows_left(connection)
    connection.due_at = now + REGISTERED_FOR
    connection.quick_due_at = None
    connection.save(update_fields=[*changes, "moving_since", "moving_rows", "due_at", "quick_due_at"])


def settle_connection(*, connection_id: int) -> None:
    """Do what is to be done of a connection, to its end."""
    connection = Connection.objects.filter(pk=connection_id).first()
    if connection is None or not _to_settle(timezone.now()).filter(pk=connection.pk).exists():
        return
    while apart(lambda: _settle_page(connection)):
        pass
    render_dirty(at=timezone.now())


def due_to_settle(*, now: datetime) -> list[int]:
    """Connections of which something is left to do. Claims them for a while, so that two ticks queue each once."""
    with transaction.atomic():
        rows = _to_settle(now).select_for_update(skip_locked=True)
        due = list(rows.filter(due_at__lte=now).values_list("pk", flat=True))
        Connection.objects.filter(pk__in=due).update(due_at=now + SILENT_FOR)
    return due


def sources_of(connection: Connection) -> QuerySet[Source]:
    """All that say something for a connection."""
    return Source.objects.filter(key__startswith=f"connection:{connection.slug}/")


def _to_settle(now: datetime) -> QuerySet[Connection]:
    return Connection.objects.filter(~Q(moving_since=None) | Q(kept_until__lte=now))


def _settle_page(connection: Connection) -> bool:
    """Move a page of what a connection brought, or do what is to be done at the end.

    :returns: whether there is more to do.
    """
    now = timezone.now()
    take_turn(connection)  # after those who write what they were told before
    locked = _to_settle(now).filter(pk=connection.pk).select_for_update().first()
    if locked is None:
        return False
    Connection.objects.filter(pk=locked.pk).update(due_at=now + SILENT_FOR)
    if any(step() for step in _steps(locked, now)):  # the first that finds something
        return True
    if locked.kept_until is not None and locked.kept_until <= now:
        return _let_go(locked)
    if locked.moving_since is not None:
        Connection.objects.filter(pk=locked.pk).update(moving_since=None, due_at=now)
        if locked.is_aside:
            raised = [f"{what}:{locked.slug}" for what in ("connection", "rule", "deliveries")]
            Problem.objects.filter(raised_by__in=raised, resolved_at=None).update(resolved_at=now)
        apply_rules(now=now, guarded=False)
    return False


def _steps(connection: Connection, now: datetime) -> Iterable[Callable[[], int]]:
    slug, names = connection.slug, {"connection": connection.label, "who": connection.removal_by}
    by = _("%(connection)s, removed by %(who)s") % names
    if not connection.is_removed:
        by = _("%(connection)s, muted by %(who)s") % (names | {"who": connection.muted_by})
    if connection.is_aside:
        return (
            lambda: any(
                set_claims_aside(source=one, limit=turns.PAGE, at=now, by=by)
                for one in sources_of(connection)
            ),
            lambda: set_activity_aside(connection_slug=slug, limit=turns.PAGE),
        )
    return (
        lambda: any(
            bring_claims_back(source=one, limit=turns.PAGE, at=now, by=connection.label)
            for one in sources_of(connection)
        ),
        lambda: bring_activity_back(connection_slug=slug, limit=turns.PAGE),
    )


def _let_go(connection: Connection) -> bool:
    """Let go of a page of what a removed connection still has, and of itself with the last.

    :returns: whether there is more to do.
    """
    sources = sources_of(connection)
    steps: Iterable[Callable[[], int]] = (
        lambda: _forget(AsideClaim.objects.filter(source__in=sources), turns.PAGE),
        lambda: _forget(AsideActivity.objects.filter(connection=connection.slug), turns.PAGE),
        lambda: _forget(connection.records.all(), turns.PAGE),
        lambda: _forget(connection.deliveries.all(), turns.PAGE),
        lambda: _forget(connection.runs.all(), RUNS_AT_ONCE),
    )
    if any(step() for step in steps):
        return True
    sources.delete()
    forget_secrets_of(connection)
    free_name(name=connection.slug, uid=connection.uid)
    record_audit("connection.purge", connection)
    connection.delete()
    return False


def _forget(rows: QuerySet[Any], limit: int) -> int:
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
    rows.model._default_manager.filter(pk__in=ids).delete()
    return len(ids)
