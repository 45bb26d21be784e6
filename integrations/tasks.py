"""Celery's entry points: thin, idempotent, carrying ids only. The truth is in PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from access.services.undo import forget_old_changes
from catalog.services.feed import forget_touched
from catalog.services.people import tie_all_by_email
from integrations import sync
from integrations.git import GitClient
from integrations.models import CatalogLocation, Connection, OperationRun, SyncRun
from integrations.services import deliveries, docs, locations, moving, muting, operations, removal, runs

logger = logging.getLogger(__name__)

MIRRORS_STAY = timedelta(days=30)


@shared_task(name="integrations.execute_run")
def execute_run(*, run_id: int, **_from_newer_release: Any) -> None:
    """Do one sync run."""
    try:
        sync.execute_run(run_id=run_id, now=timezone.now())
    except sync.RunNotLeasable:
        logger.info("Sync run %s is over, not due or held by another worker.", run_id)
    finally:  # a run that ended by a fault of ours is a problem most of all
        runs.report_run(run_id=run_id, now=timezone.now())


def start_sync(*, connection: Connection, trigger: str = SyncRun.Trigger.PERSON, by: str = "") -> SyncRun:
    """Queue a run of a connection, and hand it to a worker once it is stored.

    :raises: as `runs.request_sync` does.
    """
    run = runs.request_sync(connection=connection, trigger=trigger, by=by)
    execute_run.delay_on_commit(run_id=run.pk)
    return run


@shared_task(name="integrations.settle_connection")
def settle_connection(*, connection_id: int, **_from_newer_release: Any) -> None:
    """Set aside what a connection brought, bring it back, or let go of it: as its row says."""
    moving.settle_connection(connection_id=connection_id)


def start_removal(*, connection: Connection, by: str, with_secrets: bool = False) -> removal.Removal:
    """Have a connection removed by a worker once that is stored: see `removal.request_removal`."""
    gone = removal.request_removal(
        connection=connection, by=by, now=timezone.now(), with_secrets=with_secrets
    )
    settle_connection.delay_on_commit(connection_id=connection.pk)
    return gone


def start_restoring(*, connection: Connection, by: str) -> None:
    """Have a removed connection brought back by a worker: see `removal.restore_connection`."""
    removal.restore_connection(connection=connection, by=by, now=timezone.now())
    settle_connection.delay_on_commit(connection_id=connection.pk)


def start_purge(*, connection: Connection) -> None:
    """Have a removed connection let go of for good by a worker: see `removal.request_purge`."""
    removal.request_purge(connection=connection, now=timezone.now())
    settle_connection.delay_on_commit(connection_id=connection.pk)


def start_muting(*, connection: Connection, by: str) -> None:
    """Have a connection muted by a worker: see `muting.mute_connection`."""
    muting.mute_connection(connection=connection, by=by, now=timezone.now())
    settle_connection.delay_on_commit(connection_id=connection.pk)


def start_unmuting(*, connection: Connection) -> None:
    """Have a muted connection brought back by a worker: see `muting.unmute_connection`."""
    muting.unmute_connection(connection=connection, now=timezone.now())
    settle_connection.delay_on_commit(connection_id=connection.pk)


@shared_task(name="integrations.execute_operation")
def execute_operation(*, operation_id: int, **_from_newer_release: Any) -> None:
    """Do one operation on a tool."""
    operations.execute_operation(operation_id=operation_id)


def start_operation(**asked: Any) -> OperationRun:
    """Queue an operation (`operations.request_operation`), and hand it to a worker once it is stored."""
    run = operations.request_operation(**asked)
    execute_operation.delay_on_commit(operation_id=run.pk)
    return run


@shared_task(name="integrations.process_delivery")
def process_delivery(*, connection_id: int, **_from_newer_release: Any) -> None:
    """Take in what tools delivered for a connection."""
    deliveries.process_deliveries(connection_id=connection_id)


def start_processing(connection_id: int) -> None:
    """Hand a connection's deliveries to a worker once they are stored. Without Redis the tick does it later."""

    def ask() -> None:
        try:
            process_delivery.apply_async(kwargs={"connection_id": connection_id}, retry=False)
        except OperationalError:
            logger.warning("No worker could be asked to take in deliveries; the next tick does.")

    transaction.on_commit(ask)


@shared_task(name="integrations.read_location")
def read_location(*, location_id: int, is_guarded: bool = True, **_from_newer_release: Any) -> None:
    """Read a catalog location."""
    locations.refresh_location(location_id=location_id, now=timezone.now(), is_guarded=is_guarded)


@shared_task(name="integrations.remove_location")
def remove_location(*, location_id: int, **_from_newer_release: Any) -> None:
    """Forget a catalog location whose removal was asked for."""
    locations.remove_location(location_id=location_id)


def start_import(*, address: str, by: str, is_to_be_new: bool = False) -> CatalogLocation:
    """Have catalog files read by a worker, soon and from then on.

    :raises: as `locations.register_location` does.
    """
    location = locations.register_location(
        address=address, by=by, now=timezone.now(), is_to_be_new=is_to_be_new
    )
    read_location.delay_on_commit(location_id=location.pk)
    return location


def start_reading_at(
    location: CatalogLocation, address: str, *, by: str, roots: Sequence[str] = ()
) -> CatalogLocation:
    """Have a location read by a worker at another address, soon and from then on.

    :raises: as `locations.move_location` does.
    """
    moved = locations.move_location(
        location=location, address=address, by=by, now=timezone.now(), roots=roots
    )
    # Of what it declared before, much or all lies at the new address under another name.
    read_location.delay_on_commit(location_id=moved.pk, is_guarded=False)
    return moved


def start_reading(location: CatalogLocation, *, is_guarded: bool = True) -> None:
    """Have a location read again by a worker.

    :param is_guarded: keep what is gone if that is much.
    """
    locations.ask_again(location=location, now=timezone.now())
    read_location.delay_on_commit(location_id=location.pk, is_guarded=is_guarded)


def start_forgetting(location: CatalogLocation, *, by: str) -> None:
    """Have a location and all that it declared forgotten by a worker."""
    if locations.request_removal(location=location, by=by, now=timezone.now()):
        remove_location.delay_on_commit(location_id=location.pk)


@shared_task(name="integrations.tick")
def tick(**_from_newer_release: Any) -> None:
    """Queue what is due, and what a lost worker or an emptied Redis forgot."""
    now = timezone.now()
    for run_id in {*runs.schedule_due(now=now), *runs.lost_runs(now=now)}:
        execute_run.delay(run_id=run_id)
    for operation_id in operations.due_operations(now=now):
        execute_operation.delay(operation_id=operation_id)
    for connection_id in deliveries.lost_deliveries(now=now):
        process_delivery.delay(connection_id=connection_id)
    for connection_id in moving.due_to_settle(now=now):
        settle_connection.delay(connection_id=connection_id)
    for location in locations.due_locations(now=now):
        task = remove_location if location.is_removed else read_location
        task.delay(location_id=location.pk)


@shared_task(name="integrations.read_docs")
def read_docs(**_from_newer_release: Any) -> None:
    """Have the docs of repositories found by a search. It comes again, so a lost one is taken up."""
    docs.read_docs()


@shared_task(name="integrations.housekeeping")
def housekeeping(**_from_newer_release: Any) -> None:
    """Let go of what nobody asks for any more; know people again who came after their accounts."""
    SessionStore.clear_expired()
    tie_all_by_email()
    runs.forget_old_runs(now=timezone.now())
    forget_old_changes(now=timezone.now())
    forget_touched(now=timezone.now())
    deliveries.forget_old_deliveries(now=timezone.now())
    asyncio.run(GitClient().prune(unused_for=MIRRORS_STAY))
