"""Runs: requested, cancelled, decided on, queued again when a worker was lost."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.services.audit import record_audit
from base.errors import Conflict
from catalog.models import Activity, Claim, Severity
from catalog.services import problems
from catalog.services.render import render_dirty
from integrations.components import apply_rules
from integrations.models import Connection, ResourceRun, ResourceState, RunState, StoredRecord, SyncRun
from integrations.permissions import namespaces_of
from integrations.queries import removed_by
from integrations.records import AlertStatus
from integrations.registry import connectors
from integrations.services.connections import lock_connection, require_at_work
from integrations.sweep import remove_unseen, unseen
from integrations.writing import remap, settle_ignored

logger = logging.getLogger(__name__)

KEEP_RUNS = 200
QUICK = timedelta(minutes=2)
QUIET_STAY = timedelta(hours=1)
REPORTED = 100  # refused records of a page that become problems of their own; the run lists all
# A queued run that nobody took for so long may have lost its message.
LOST_AFTER = timedelta(seconds=10)


class SyncAlreadyActive(Conflict):
    """A run of the connection is queued or running."""

    code = "sync-already-active"


def request_sync(*, connection: Connection, trigger: str = SyncRun.Trigger.PERSON, by: str = "") -> SyncRun:
    """Queue a run of a connection.

    :raises SyncAlreadyActive: if one is queued or running.
    :raises Conflict: if the connection is muted, or on its way out.
    """
    now = timezone.now()
    asked = {"trigger": trigger, "requested_by": by}
    with transaction.atomic():
        require_at_work(lock_connection(connection))
        run = _queue(connection, asked, now)
        if run is not None:
            Connection.objects.filter(pk=connection.pk).update(
                due_at=now + timedelta(seconds=connection.interval),
                quick_due_at=_quick_due_at(connection, now),
            )
            if trigger != SyncRun.Trigger.SCHEDULE:
                record_audit("connection.sync", connection, changes={"run": run.pk})
            return run
    said = _("%(connection)s is being synced already.")
    if connection.runs.active().filter(is_quick=True).exists():
        Connection.objects.filter(pk=connection.pk).update(due_at=now)
        said = _("%(connection)s is being asked what is new; a whole sync follows at once.")
    raise SyncAlreadyActive(said % {"connection": connection.label})


def _queue(connection: Connection, asked: dict[str, str], now: datetime) -> SyncRun | None:
    """A queued whole run: a new one, or a quick one that nobody has begun; None if neither can be."""
    try:
        with transaction.atomic():
            return SyncRun.objects.create(connection=connection, queued_at=now, **asked)
    except IntegrityError:
        waiting = connection.runs.filter(is_quick=True, state=RunState.QUEUED)
        run = waiting.select_for_update().first()
        if run is not None:
            SyncRun.objects.filter(pk=run.pk).update(is_quick=False, **asked)
            run.refresh_from_db()
        return run


@transaction.atomic
def cancel_run(*, run: SyncRun) -> bool:
    """Ask a run to stop: a queued one at once, a running one after its page.

    :returns: False when it is over already.
    """
    now = timezone.now()
    done = SyncRun.objects.filter(pk=run.pk, state=RunState.QUEUED).update(
        state=RunState.CANCELLED, finished_at=now, message=_("Cancelled before it began.")
    )
    done = done or SyncRun.objects.filter(pk=run.pk, state=RunState.RUNNING).update(is_cancel_requested=True)
    if done:
        record_audit("connection.sync-cancel", run.connection, changes={"run": run.pk})
    return bool(done)


def decide_guard(*, resource: ResourceRun, remove: bool, by: str) -> int:
    """Answer the guard: keep what it held back, or remove it.

    What is kept stays until the tool lists or tells of it again, the connection gets other settings, or somebody has
    it decided anew.

    :returns: how many were removed.
    :raises Conflict: if it was decided already, or a later run has read the resource anew.
    :raises Conflict: if the connection is muted, or on its way out.
    """
    now = timezone.now()
    with transaction.atomic():
        require_at_work(lock_connection(resource.run.connection))
        row = ResourceRun.objects.select_for_update().select_related("run__connection").get(pk=resource.pk)
        if row.state != ResourceState.HELD:
            raise Conflict(_("This was decided already."))
        if ResourceRun.objects.filter(
            run__connection=row.run.connection, name=row.name, run_id__gt=row.run_id
        ).exists():
            raise Conflict(_("A later run has read this anew; decide on that one."))
        if remove:
            row.removed = remove_unseen(row, now=now, by=by)
        else:
            unseen(row).update(kept_at=now)
        if row.removed:
            apply_rules(now=now, guarded=False)
        row.finished_at = now  # what it removed bears this time, so that it can be brought back
        row.state = ResourceState.COMPLETE
        row.decision = (_("Removed by %(who)s") if remove else _("Kept by %(who)s")) % {"who": by}
        row.save()
        _close_decided(row.run)
        record_audit(
            "connection.guard",
            row.run.connection,
            changes={"resource": row.name, "removed": row.removed, "run": row.run_id},
        )
    report_run(run_id=row.run_id, now=now)
    render_dirty(at=now)
    return row.removed


def _close_decided(run: SyncRun) -> None:
    """A run that was partial only for what the guard held is whole once all of that is decided."""
    if run.state == RunState.PARTIAL and not run.resources.exclude(state=ResourceState.COMPLETE).exists():
        SyncRun.objects.filter(pk=run.pk).update(state=RunState.SYNCED, message="", error_code="")


def restore_removed(*, resource: ResourceRun, by: str) -> int:
    """Bring back what one resource's sweep removed. Nothing is fetched, and it stays as what was kept does.

    :returns: how many records came back.
    :raises Conflict: if the connection is muted, or on its way out.
    """
    now = timezone.now()
    connection = resource.run.connection
    with transaction.atomic():
        require_at_work(lock_connection(connection))
        rows = list(removed_by(resource).select_for_update())
        remap(connection=connection, rows=rows, by=by, now=now)
        StoredRecord.objects.filter(pk__in=[row.pk for row in rows]).update(
            deleted_at=None, touched_at=now, kept_at=now
        )
        said = _("Brought back by %(who)s") % {"who": by}
        resource.decision = f"{resource.decision}. {said}" if resource.decision else said
        resource.decision = resource.decision[:200]
        resource.save(update_fields=["decision"])
        settle_ignored(connection=connection, by=by, now=now)
        apply_rules(now=now, guarded=False)
        record_audit(
            "connection.restore",
            connection,
            changes={"resource": resource.name, "run": resource.run_id, "records": len(rows)},
        )
    render_dirty(at=now)
    return len(rows)


@transaction.atomic
def decide_anew(*, connection: Connection) -> int:
    """Forget what a person said stays: what the next sync does not list goes then, or is asked for again.

    :returns: how many records that concerns.
    """
    kept = StoredRecord.objects.kept().filter(connection=connection)
    count = kept.update(kept_at=None)
    if count:
        record_audit("connection.decide-anew", connection, changes={"records": count})
    return count


def schedule_due(*, now: datetime) -> list[int]:
    """Queue the connections whose time has come: whole runs, and between them quick ones.

    :returns: ids of the new runs.
    """
    queued = []
    with transaction.atomic():
        due = (
            Connection.objects.select_for_update(skip_locked=True)
            .at_work()
            .filter(Q(due_at__lte=now) | Q(quick_due_at__lte=now), is_paused=False)
            .order_by("due_at")[:100]
        )
        for connection in due:
            is_quick = connection.due_at is None or connection.due_at > now
            if not is_quick:
                connection.due_at = now + timedelta(seconds=connection.interval)
            connection.quick_due_at = _quick_due_at(connection, now)
            connection.save(update_fields=["due_at", "quick_due_at"])
            if (is_quick and connection.quick_due_at is None) or connection.runs.active().exists():
                continue
            run = SyncRun.objects.create(
                connection=connection, trigger=SyncRun.Trigger.SCHEDULE, queued_at=now, is_quick=is_quick
            )
            queued.append(run.pk)
    return queued


def _quick_due_at(connection: Connection, now: datetime) -> datetime | None:
    """When what is read often is read next; None if nothing is, or all of it is as often anyway."""
    kind = connectors().get(connection.connector)
    if kind is None or not any(spec.often for spec in kind.resources()):
        return None
    return now + QUICK if timedelta(seconds=connection.interval) > QUICK else None


def lost_runs(*, now: datetime) -> list[int]:
    """Runs whose message may be lost: queued for a while, or running under a lease that ran out."""
    stale = SyncRun.objects.leasable(now=now).filter(
        Q(state=RunState.RUNNING) | Q(queued_at__lt=now - LOST_AFTER)
    )
    return list(stale.values_list("pk", flat=True)[:100])


def report_runs(*, now: datetime, only: Connection | None = None) -> None:
    """Failed and held connections, and refused records, as problems; mended ones are resolved.

    A list that was not read to its end resolves none of its own problems: nobody has looked whether they are mended.

    :param only: of this connection alone.
    """
    for connection in [only] if only else Connection.objects.all():
        over = connection.runs.whole().exclude(
            state__in=[RunState.QUEUED, RunState.RUNNING, RunState.CANCELLED]
        )
        run = over.first()
        if run is not None:
            _report(connection, run, now)


def report_run(*, run_id: int, now: datetime) -> None:
    """Bring the problems of a run's connection up to date, however the run ended."""
    connection = Connection.objects.filter(runs=run_id).first()
    if connection is not None:
        report_runs(now=now, only=connection)


def _report(connection: Connection, run: SyncRun, now: datetime) -> None:
    subject = problems.Subject(
        type="connection", label=connection.label, uid=connection.uid, namespace=connection.namespace
    )
    seen = []
    if run.state in (RunState.FAILED, RunState.PARTIAL):
        seen.append(
            (
                subject,
                problems.Seen(
                    type="sync",
                    severity=Severity.FAIL if run.state == RunState.FAILED else Severity.WARN,
                    cause=_("%(connection)s cannot be read wholly") % {"connection": connection.label},
                    message=run.message if _stays_at_home(connection) else _("Not all of it could be read."),
                    remedy=_("Open the connection to see what each resource says."),
                    detail={"connection": connection.slug, "run": run.pk, "code": run.error_code},
                ),
            )
        )
    resources = list(run.resources.all())
    for resource in resources:
        if not resource.refused:
            continue
        refusals = [
            refusal for page in resource.pages.exclude(errors={}) for refusal in page.refusals()[:REPORTED]
        ]
        namespaces = namespaces_of(
            connection, resource.name, [external_id for external_id, _error in refusals]
        )
        seen += [
            (
                replace(subject, namespace=namespaces[external_id]),
                problems.Seen(
                    type="refused-record",
                    severity=Severity.WARN,
                    cause=_("%(connection)s: records were refused") % {"connection": connection.label},
                    message=error["reason"],
                    remedy=_("Mend it where it stands; the next sync takes it in."),
                    discriminator=f"{resource.name}/{external_id}",
                    detail={
                        "connection": connection.slug,
                        "resource": resource.name,
                        "record": external_id,
                        "place": error.get("place", ""),
                    },
                ),
            )
            for external_id, error in refusals
        ]
    seen += [(subject, one) for one in _names_of_nothing(connection)]
    whole = [row.name for row in resources if row.state in (ResourceState.COMPLETE, ResourceState.HELD)]
    problems.sync(
        raised_by=f"connection:{connection.slug}",
        seen=seen,
        within=Q(type__in=("sync", "missing-target")) | Q(type="refused-record", detail__resource__in=whole),
        at=now,
    )


def _names_of_nothing(connection: Connection) -> list[problems.Seen]:
    """What alerts that are not over name first, where nothing that they name is in the catalog."""
    waiting = Activity.objects.filter(
        connection=connection.slug, type__in=("alert", "incident"), subject_uid=None
    ).exclude(Q(status=AlertStatus.RESOLVED) | Q(keys=[]))
    names = Counter(keys[0] for keys in waiting.values_list("keys", flat=True))
    return [
        problems.Seen(
            type="missing-target",
            severity=Severity.WARN,
            cause=_("Alerts name %(name)s, which is not in the catalog") % {"name": key.removeprefix("ref:")},
            message=ngettext("%(count)d alert shows on no page.", "%(count)d alerts show on no page.", count)
            % {"count": count},
            remedy=_("Import what declares it, or correct in the connection's settings what labels name."),
            discriminator=key,
            detail={"connection": connection.slug, "target": key},
        )
        for key, count in names.most_common(REPORTED)
    ]


def _stays_at_home(connection: Connection) -> bool:
    """Whether all that a connection brought lies in its own namespace: else what a run says may tell of others."""
    claims = Claim.objects.filter(source__key__startswith=f"connection:{connection.slug}/")
    return not claims.exclude(entity__namespace=connection.namespace).exists()


def forget_old_runs(*, now: datetime) -> int:
    """Keep the newest runs of each connection, and of the quick ones those that brought something.

    :returns: how many went.
    """
    count = 0
    for connection in Connection.objects.all():
        quiet = connection.runs.filter(is_quick=True, state=RunState.SYNCED, finished_at__lt=now - QUIET_STAY)
        count += quiet.exclude(resources__new__gt=0).exclude(resources__changed__gt=0).delete()[0]
        runs = connection.runs.order_by("-id")
        # The last good one stays however old it is: it says since when nothing was confirmed.
        good = runs.whole().filter(state=RunState.SYNCED).values("pk")[:1]
        old = list(runs.exclude(pk__in=good).values_list("pk", flat=True)[KEEP_RUNS:])
        count += SyncRun.objects.filter(pk__in=old).exclude(resources__state=ResourceState.HELD).delete()[0]
    return count
