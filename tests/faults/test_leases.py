"""A run whose worker was lost is taken over by another, and only one of them writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from catalog.models import Entity
from integrations import sync
from integrations.models import Connection, ResourceState, RunState, SeenPage, SyncRun
from integrations.services import runs
from tests.faults import upstream as tool
from tests.faults.conftest import Portal, differences
from tests.faults.upstream import Upstream

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient", "paged")]


class Killed(BaseException):
    """What no code handles: the end of the process."""


@pytest.fixture
def connection(portal: Portal, upstream: Upstream, settings: Any) -> Connection:
    settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.port}"]
    return portal.connect("paged", "paged", base_url=upstream.url)


def _queue(connection: Connection) -> SyncRun:
    return SyncRun.objects.create(connection=connection, queued_at=timezone.now())


def _after(monkeypatch: pytest.MonkeyPatch, pages: int, do: Any) -> None:
    """Do something when a worker has taken in some pages and comes to the next."""
    original, count = sync._Execution._take, [0]

    def take(self: Any, *args: Any) -> None:
        count[0] += 1
        if count[0] == pages + 1:
            do()
        original(self, *args)

    monkeypatch.setattr(sync._Execution, "_take", take)


def _die() -> None:
    raise Killed


@pytest.mark.parametrize("pages", [0, 2, 4])
def test_a_run_is_taken_over_and_ends_as_if_nothing_had_been(
    portal: Portal, connection: Connection, undisturbed: Any, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    expected = undisturbed("taken over", connection)
    run = _queue(connection)
    with monkeypatch.context() as patch:
        _after(patch, pages, _die)
        with pytest.raises(Killed):
            sync.execute_run(run_id=run.pk, now=timezone.now())
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    with pytest.raises(sync.RunNotLeasable):
        sync.execute_run(run_id=run.pk, now=timezone.now())
    later = timezone.now() + sync.LEASE + timedelta(seconds=1)
    assert runs.lost_runs(now=timezone.now()) == []
    assert runs.lost_runs(now=later) == [run.pk]
    sync.execute_run(run_id=run.pk, now=later)
    run.refresh_from_db()
    assert (run.state, run.attempts) == (RunState.SYNCED, 2), run.message
    for resource in run.resources.all():
        outcomes = resource.new + resource.changed + resource.unchanged + resource.skipped + resource.refused
        listed = sum(len(page.ids) for page in SeenPage.objects.filter(resource=resource))
        assert resource.state == ResourceState.COMPLETE
        assert resource.listed == outcomes == listed
    assert portal.facts() == expected, differences(portal.facts(), expected)


def test_who_lost_the_lease_writes_nothing_more(
    portal: Portal, connection: Connection, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that slept through its lease finds the run done, and its pages are old."""
    run = _queue(connection)

    def sleep() -> None:
        upstream.world.entities["team-svc000"]["title"] = "Renamed meanwhile"
        sync.execute_run(run_id=run.pk, now=timezone.now() + sync.LEASE + timedelta(seconds=1))

    _after(monkeypatch, 1, sleep)
    sync.execute_run(run_id=run.pk, now=timezone.now())
    run.refresh_from_db()
    assert (run.state, run.attempts) == (RunState.SYNCED, 2)
    assert Entity.objects.get(ref="group:default/team-svc000").title == "Renamed meanwhile"
    numbers = [page.number for page in SeenPage.objects.filter(resource__name="entities")]
    assert numbers == sorted(set(numbers))


def test_a_message_that_comes_twice_does_nothing_the_second_time(connection: Connection) -> None:
    run = _queue(connection)
    sync.execute_run(run_id=run.pk, now=timezone.now())
    with pytest.raises(sync.RunNotLeasable):
        sync.execute_run(run_id=run.pk, now=timezone.now())


def test_a_lost_database_is_waited_for(
    portal: Portal, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _queue(connection)

    def lose() -> None:
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        _after(patch, 2, lose)
        with pytest.raises(OperationalError):
            sync.execute_run(run_id=run.pk, now=timezone.now())
    run.refresh_from_db()
    assert run.state == RunState.QUEUED
    assert run.not_before is not None
    later = run.not_before + timedelta(seconds=1)
    assert runs.lost_runs(now=timezone.now()) == []
    assert runs.lost_runs(now=later + runs.LOST_AFTER) == [run.pk]
    sync.execute_run(run_id=run.pk, now=later)
    run.refresh_from_db()
    assert run.state == RunState.SYNCED


def test_a_run_that_nobody_can_end_is_given_up(
    portal: Portal, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _queue(connection)
    now = timezone.now()
    monkeypatch.setattr(sync._Execution, "execute", lambda self: _die())
    for _attempt in range(sync.ATTEMPTS):
        with pytest.raises(Killed):
            sync.execute_run(run_id=run.pk, now=now)
        now += sync.LEASE + timedelta(seconds=1)
    sync.execute_run(run_id=run.pk, now=now)
    run.refresh_from_db()
    assert (run.state, run.error_code) == (RunState.FAILED, "given-up")


def test_what_was_refused_and_comes_back_as_it_was_is_not_stale(
    portal: Portal, connection: Connection, upstream: Upstream
) -> None:
    """The last good form is the newest word again."""
    portal.sync_well(connection)
    good = dict(upstream.world.entities["doc-svc001"])
    upstream.world.entities["doc-svc001"] = {**good, "document": {"kind": "Component"}}
    run = portal.sync_well(connection)
    assert run.resources.get(name="entities").refused == 1
    entity = Entity.objects.get(ref="component:default/comp-svc001")
    assert entity.is_alive
    assert entity.claims.exclude(stale_reason="").exists()
    upstream.world.entities["doc-svc001"] = good
    portal.sync_well(connection)
    assert not entity.claims.exclude(stale_reason="").exists()


def test_a_fast_clock_makes_no_fact_that_nothing_overwrites(
    portal: Portal, connection: Connection, upstream: Upstream
) -> None:
    team = upstream.world.entities["team-svc000"]
    team |= {"as_of": "2190-01-01T00:00:00Z", "title": "Of the future"}
    portal.sync_well(connection)
    del team["as_of"]
    team["title"] = "Of today"
    portal.sync_well(connection)
    assert Entity.objects.get(ref="group:default/team-svc000").title == "Of today"


def test_the_older_source_is_the_older_connection_though_its_tool_answered_later(
    portal: Portal, upstream: Upstream, settings: Any
) -> None:
    with Upstream().running() as other:
        settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.port}", f"127.0.0.1:{other.port}"]
        first = portal.connect("first", "paged", base_url=upstream.url)
        second = portal.connect("second", "paged", base_url=other.url)
        upstream.world.entities["repo-svc000"]["description"] = "By the first"
        other.world.entities["repo-svc000"]["description"] = "By the second"
        upstream.faults["entities", 0] = tool.fails
        portal.sync(first)
        portal.sync_well(second)
        upstream.faults.clear()
        portal.sync_well(first)
    assert Entity.objects.get(ref="repository:default/acme-svc000").description == "By the first"
