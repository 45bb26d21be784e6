"""One sync run from lease to end.

The connector's generators run on an event loop in a thread of its own and hand pages through a bounded queue to
the task's thread, which is the only one that touches the database. A page is one transaction: records, claims,
activity, the ids seen, the numbers, the checkpoint and the renewed lease. Whoever loses the lease writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from base.errors import DomainError
from base.text import replace_nul
from catalog.services.ingest import brought_by_run
from catalog.services.render import render_dirty
from integrations import components
from integrations.contract import Connector, Expect, Mark, Refused, ResourceSpec, Yielded
from integrations.errors import AuthFailed, Misconfigured, SourceError, SourceUnavailable
from integrations.guard import is_much
from integrations.models import (
    Connection,
    RecordOutcome,
    ResourceRun,
    ResourceState,
    RunState,
    SeenPage,
    StoredRecord,
    SyncRun,
)
from integrations.records import Alert, Record
from integrations.services.connections import build_connector, close_connector
from integrations.services.network import note_barred, outbound_policy
from integrations.sweep import end_keeping, ended, remove_unseen, spared, unseen
from integrations.writing import PAGE, RecordWriter, settle_ignored

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
HEARTBEAT = 5.0
# A run that so many workers could not end is given up; after a lost database the next try waits a little.
ATTEMPTS = 10
PAUSE = timedelta(seconds=10)
MAX_EXPECTED = 2**31 - 1


class RunNotLeasable(Exception):
    """The run is over, not due, or held by another worker."""


class LeaseLost(Exception):
    """Another worker took the run over; this one stops without a trace."""


class RunCancelled(Exception):
    """Somebody cancelled the run."""


@dataclass
class _Page:
    """What the reading thread hands over: some of one resource's records, or its end.

    :ivar read_at: before what it holds was asked for; what others tell meanwhile is newer.
    """

    resource: ResourceSpec
    read_at: datetime
    records: list[Record] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    expected: int | None = None
    cursor: dict[str, Any] | None = None
    is_last: bool = False
    error: Exception | None = None


def execute_run(*, run_id: int, now: datetime) -> None:
    """Do one run to its end.

    :raises RunNotLeasable: when there is nothing to do for this worker.
    """
    lease = uuid.uuid4()
    taken = (
        SyncRun.objects.leasable(now=now)
        .filter(pk=run_id)
        .update(
            state=RunState.RUNNING,
            lease=lease,
            lease_until=now + LEASE,
            attempts=F("attempts") + 1,
            not_before=None,
        )
    )
    if not taken:
        raise RunNotLeasable
    run = SyncRun.objects.select_related("connection").get(pk=run_id)
    SyncRun.objects.filter(pk=run_id, started_at=None).update(started_at=now)
    if run.attempts > ATTEMPTS:
        given_up = _("Given up after %(count)d attempts; the log of the workers tells more.") % {
            "count": ATTEMPTS
        }
        _finish(run, lease, RunState.FAILED, given_up, code="given-up")
        return
    try:
        with brought_by_run(run.pk):
            _Execution(run, lease).execute()
    except LeaseLost:
        logger.warning("Run %s was taken over by another worker.", run_id)
    except RunCancelled:
        _finish(run, lease, RunState.CANCELLED, _("Cancelled. What was read until then is kept."))
    except DomainError as error:
        message = " ".join([error.message, *(str(item) for item in error.errors)])
        _finish(run, lease, RunState.FAILED, message, code=error.code)
    except (OperationalError, InterfaceError):
        logger.warning("Run %s lost the database and is tried again.", run_id, exc_info=True)
        with suppress(Error):  # if it is still gone, the lease runs out
            _try_again(run, lease)
        raise
    except Exception:
        logger.exception("Run %s of %s failed.", run_id, run.connection.slug)
        _finish(
            run,
            lease,
            RunState.FAILED,
            _("An internal error; the log of the worker tells more."),
            code="internal",
        )
        raise


def _try_again(run: SyncRun, lease: uuid.UUID) -> None:
    """Give the run back, for any worker to go on with."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    SyncRun.objects.filter(pk=run.pk, lease=lease, state=RunState.RUNNING).update(
        state=RunState.QUEUED, lease=None, lease_until=None, not_before=timezone.now() + PAUSE
    )


def _finish(run: SyncRun, lease: uuid.UUID, state: RunState, message: str = "", *, code: str = "") -> None:
    now = timezone.now()
    with transaction.atomic():
        done = SyncRun.objects.filter(pk=run.pk, lease=lease, state=RunState.RUNNING).update(
            state=state, message=message, error_code=code, finished_at=now, lease=None, lease_until=None
        )
        if done:
            ResourceRun.objects.filter(
                run=run, state__in=[ResourceState.WAITING, ResourceState.READING]
            ).update(state=ResourceState.PARTIAL, finished_at=now)


class _Execution:
    """A run while this worker holds its lease."""

    def __init__(self, run: SyncRun, lease: uuid.UUID) -> None:
        self.run = run
        self.lease = lease
        self.connection: Connection = run.connection
        self.retry_after: float | None = None
        self.failures: dict[str, list[str]] = {}  # lists by what is wrong with them
        self.error_code = ""

    def execute(self) -> None:
        policy = outbound_policy()
        try:
            self._execute(build_connector(self.connection, policy))
        finally:
            if policy.refusals or not self.run.is_quick:  # a quick run does not ask all hosts
                with suppress(Error):  # what failed is told already
                    note_barred(self.connection, policy.refusals)

    def _execute(self, connector: Connector[Any]) -> None:
        specs = [spec for spec in connector.resources() if spec.often or not self.run.is_quick]
        rows = self._prepare(specs)
        todo = [
            spec
            for spec in specs
            if rows[spec.name].state not in {ResourceState.COMPLETE, ResourceState.HELD}
        ]
        cursors = {name: row.cursor for name, row in rows.items()}
        with closing(_read(connector, todo, cursors)) as pages:
            for page in pages:
                if page is None:
                    self._renew()
                    self._check_cancel()
                else:
                    self._take(page, rows[page.resource.name])
        self._renew()
        # Where nothing changed, only time can have changed a decision, and that of this connection alone.
        is_quiet = self.run.attempts == 1 and not any(
            row.new or row.changed or row.removed or row.refused for row in rows.values()
        )
        self._settle(is_quiet)
        components.apply_rules(now=timezone.now(), only=self.connection if is_quiet else None)
        self._renew()
        render_dirty(at=timezone.now(), after_page=self._renew)
        self._close(list(rows.values()), {spec.name: _(spec.label) for spec in specs})

    def _settle(self, is_quiet: bool) -> None:
        """Have what was written obey what is left out now; the rule may have changed while this run read."""
        rules = self.connection.rules.get("ignored")
        self.connection.refresh_from_db(fields=["rules"])
        if not is_quiet or self.connection.rules.get("ignored") != rules:
            with transaction.atomic():
                self._renew()
                settle_ignored(connection=self.connection, by=self.connection.label, now=timezone.now())

    def _prepare(self, specs: list[ResourceSpec]) -> dict[str, ResourceRun]:
        """The run's resources. A pass that another worker left half read begins anew, unless it has a checkpoint."""
        rows = {row.name: row for row in ResourceRun.objects.filter(run=self.run)}
        for position, spec in enumerate(specs):
            row = rows.get(spec.name)
            if row is None:
                cursor = self._last_cursor(spec) if spec.incremental else None
                rows[spec.name] = ResourceRun.objects.create(
                    run=self.run, name=spec.name, position=position, cursor=cursor
                )
                if _makes_entities(spec):
                    # Who is older, which decides between equals, must not hang on whose tool answered first.
                    self._writer(spec.name, timezone.now()).source()
            elif row.state in {ResourceState.READING, ResourceState.PARTIAL} and not spec.incremental:
                row.pages.all().delete()
                for name in ("listed", "new", "changed", "unchanged", "skipped", "refused"):
                    setattr(row, name, 0)
                row.state, row.message = ResourceState.WAITING, ""
                row.save()
        return rows

    def _last_cursor(self, spec: ResourceSpec) -> dict[str, Any] | None:
        return (
            ResourceRun.objects.filter(run__connection=self.connection, name=spec.name)
            .exclude(cursor=None)
            .order_by("-run_id")
            .values_list("cursor", flat=True)
            .first()
        )

    # --- pages --------------------------------------------------------------------------------------------

    def _take(self, page: _Page, row: ResourceRun) -> None:
        now = timezone.now()
        if row.state == ResourceState.WAITING:
            row.state = ResourceState.READING
            row.started_at = now
            row.pass_lease = self.lease
        if page.error is not None:
            self._fail(page.error, row, now)
            return
        with transaction.atomic():
            self._renew()
            if page.expected is not None:
                row.expected = page.expected
            if page.records or page.refused:
                self._write_page(page, row, now)
            if page.cursor is not None:
                row.cursor = page.cursor
            if page.is_last:
                row.state = ResourceState.COMPLETE
                row.finished_at = now
                if not page.resource.incremental:
                    self._writer(row.name, now).keep_last_good(spared(row))
                    self._sweep(page.resource, row, now)
                    self._end(page, row, now)
            row.save()
        self._check_cancel()

    def _fail(self, error: Exception, row: ResourceRun, now: datetime) -> None:
        if not isinstance(error, SourceError):
            logger.error(
                "Resource %s of %s failed.",
                row.name,
                self.connection.slug,
                exc_info=(type(error), error, error.__traceback__),
            )
            message, code = _("An internal error; the log of the worker tells more."), "internal"
        else:
            message, code = error.message, error.code
        row.state = ResourceState.PARTIAL
        row.finished_at = now
        row.message = message
        with transaction.atomic():
            self._renew()
            row.save()
        self.failures.setdefault(message, []).append(row.name)
        self.error_code = self.error_code or code
        if isinstance(error, SourceUnavailable) and error.retry_after:
            self.retry_after = max(self.retry_after or 0, error.retry_after)

    def _renew(self) -> None:
        held = SyncRun.objects.filter(pk=self.run.pk, lease=self.lease, state=RunState.RUNNING).update(
            lease_until=timezone.now() + LEASE
        )
        if not held:
            raise LeaseLost

    def _check_cancel(self) -> None:
        if SyncRun.objects.filter(pk=self.run.pk, is_cancel_requested=True).exists():
            raise RunCancelled

    def _writer(self, resource: str, now: datetime, read_at: datetime | None = None) -> RecordWriter:
        return RecordWriter(
            connection=self.connection, resource=resource, by=self.connection.label, now=now, read_at=read_at
        )

    def _write_page(self, page: _Page, row: ResourceRun, now: datetime) -> None:
        outcomes: dict[str, RecordOutcome] = {}
        errors: dict[str, dict[str, str]] = {}
        for refusal in page.refused:
            outcomes[refusal.external_id] = RecordOutcome.REFUSED
            errors[refusal.external_id] = {"reason": refusal.reason, "place": refusal.place}
        writer = self._writer(row.name, now, page.read_at)
        written = writer.write(page.records)
        outcomes.update(written.outcomes)
        errors.update(written.errors)
        if page.refused:
            writer.keep_last_good(page.refused)
        SeenPage.objects.create(
            resource=row,
            number=row.pages.count() + 1,
            ids=list(outcomes),
            outcomes=[int(outcome) for outcome in outcomes.values()],
            errors=errors,
        )
        row.listed += len(outcomes)
        for outcome in outcomes.values():
            name = outcome.name.lower()
            setattr(row, name, getattr(row, name) + 1)

    # --- the sweep ----------------------------------------------------------------------------------------

    def _sweep(self, spec: ResourceSpec, row: ResourceRun, now: datetime) -> None:
        """Remove what a complete pass under one lease no longer showed, unless the guard holds it."""
        if row.pass_lease != self.lease or not _makes_entities(spec):
            return
        end_keeping(row)
        gone = unseen(row)
        missing = gone.count()
        if not missing:
            return
        records = StoredRecord.objects.filter(connection=self.connection, resource=row.name)
        before = records.to_be_listed().count()
        is_empty = row.listed == 0
        if is_empty or is_much(missing, before):
            row.state = ResourceState.HELD
            row.would_remove = missing
            row.message = (
                _("The tool listed nothing, and %(count)d were there before.")
                if is_empty
                else _("%(count)d of %(before)d are no longer listed, more than usual.")
            ) % {"count": missing, "before": before}
            return
        row.removed = remove_unseen(row, now=now, by=self.connection.label)

    def _end(self, page: _Page, row: ResourceRun, now: datetime) -> None:
        """Resolve the alerts that a complete pass under one lease no longer showed; that all are over is no outage."""
        if row.pass_lease != self.lease or not _lists_alerts(page.resource):
            return
        over = ended(row, read_at=page.read_at)
        for start in range(0, len(over), PAGE):
            self._writer(row.name, now, page.read_at).write(over[start : start + PAGE])
        row.changed += len(over)

    def _close(self, rows: list[ResourceRun], labels: dict[str, str]) -> None:
        """End the run, and say what came of it; the lists are named unless it holds for all."""
        now = timezone.now()
        held = [row for row in rows if row.state == ResourceState.HELD]
        for row in rows:
            if row.state in {ResourceState.WAITING, ResourceState.READING}:
                # The reading ended without a word, by a fault of ours.
                said = _("It was not read to its end; the log of the worker tells more.")
                self.failures.setdefault(said, []).append(row.name)
                self.error_code = self.error_code or "internal"
        refused = sum(row.refused for row in rows)
        messages = [
            message
            if len(names) == len(rows)
            else f"{', '.join(labels.get(name, name) for name in names)}: {message}"
            for message, names in self.failures.items()
        ]
        messages += [
            f"{labels.get(row.name, row.name)}: {row.message} {_('Nothing was removed.')}" for row in held
        ]
        if self.failures and not any(row.listed or row.state == ResourceState.COMPLETE for row in rows):
            state = RunState.FAILED
        elif self.failures or held:
            state = RunState.PARTIAL
        else:
            state = RunState.SYNCED
            if refused:
                messages.append(
                    ngettext("%(count)d record was refused.", "%(count)d records were refused.", refused)
                    % {"count": refused}
                )
        if held and not self.error_code:
            self.error_code = "guard"
        _finish(self.run, self.lease, state, "\n".join(messages), code=self.error_code)
        if self.retry_after:
            Connection.objects.filter(pk=self.connection.pk).update(
                due_at=now + timedelta(seconds=max(self.retry_after, self.connection.interval)),
                quick_due_at=now + timedelta(seconds=self.retry_after),
            )


def _lists_alerts(spec: ResourceSpec) -> bool:
    """Whether a list shows what is so at present, and nothing else; one that says not what it brings may be any."""
    return not spec.incremental and bool(spec.of) and all(issubclass(of, Alert) for of in spec.of)


def _makes_entities(spec: ResourceSpec) -> bool:
    return any(issubclass(of, Record) and of.makes == "entity" for of in spec.of)


# --- reading ------------------------------------------------------------------------------------------------------


def _read(
    connector: Connector[Any], specs: list[ResourceSpec], cursors: dict[str, dict[str, Any] | None]
) -> Generator[_Page | None]:
    """Run the connector's generators in a thread with an event loop, and give their pages as they come.

    While the tool lets us wait, None comes every few seconds, so that the lease can be renewed. Leaving the
    iteration early stops the reading.
    """
    pages: queue.Queue[_Page | None] = queue.Queue(maxsize=4)
    stop = threading.Event()
    cancel: list[Callable[[], object]] = []

    def put(page: _Page | None) -> None:
        while not stop.is_set():
            try:
                pages.put(page, timeout=0.2)
                return
            except queue.Full:
                continue
        raise RunCancelled

    async def read_all() -> None:
        try:
            for spec in specs:
                error = await read_one(spec)
                if isinstance(error, (AuthFailed, Misconfigured)):
                    for rest in specs[specs.index(spec) + 1 :]:
                        await asyncio.to_thread(put, _Page(rest, timezone.now(), error=error))
                    break
        finally:
            await close_connector(connector)

    async def read_one(spec: ResourceSpec) -> Exception | None:
        method = getattr(connector, spec.method)
        stream = method(cursors[spec.name]) if spec.incremental else method()
        read_at = timezone.now()
        page = _Page(spec, read_at)
        try:
            async for item in stream:
                _add(page, item)
                if (
                    len(page.records) + len(page.refused) >= PAGE
                    or page.cursor is not None
                    or page.expected is not None
                ):
                    await asyncio.to_thread(put, page)
                    page = _Page(spec, read_at)
            page.is_last = True
            await asyncio.to_thread(put, page)
        except RunCancelled:
            raise
        except Exception as error:  # noqa: BLE001 - handed to the thread that knows what to do with it
            if page.records or page.refused:
                await asyncio.to_thread(put, page)
            await asyncio.to_thread(put, _Page(spec, read_at, error=error))
            return error
        finally:
            await stream.aclose()
        return None

    async def read_until_stopped() -> None:
        reading = asyncio.create_task(read_all())
        loop = asyncio.get_running_loop()
        cancel.append(lambda: loop.call_soon_threadsafe(reading.cancel))
        if not stop.is_set():
            await reading

    def main() -> None:
        try:
            asyncio.run(read_until_stopped())
        except (RunCancelled, asyncio.CancelledError):
            return
        except Exception:
            logger.exception("Reading stopped.")
        finally:
            if not stop.is_set():
                pages.put(None)

    thread = threading.Thread(target=main, name=f"read-{connector.slug}", daemon=True)
    thread.start()
    try:
        while True:
            try:
                page = pages.get(timeout=HEARTBEAT)
            except queue.Empty:
                yield None
                continue
            if page is None:
                return
            yield page
    finally:
        stop.set()
        for end in cancel:
            with suppress(RuntimeError):  # it has ended already
                end()
        while not pages.empty():
            pages.get_nowait()
        thread.join(timeout=30)


def _add(page: _Page, item: Yielded) -> None:
    match item:
        case Record():
            page.records.append(item)
        case Refused():
            page.refused.append(item)
        case Expect():
            page.expected = min(max(item.total, 0), MAX_EXPECTED)
        case Mark():
            page.cursor = replace_nul(item.cursor)
