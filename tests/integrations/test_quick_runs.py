"""What people wait for is read every two minutes, between the whole runs, and hides nothing of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from access.models import User
from catalog.models import Problem
from integrations import queries
from integrations.errors import SourceUnavailable
from integrations.models import Connection, RunState, SyncRun
from integrations.services.runs import (
    QUICK,
    SyncAlreadyActive,
    forget_old_runs,
    report_runs,
    request_sync,
    schedule_due,
)
from integrations.sync import execute_run
from tests.integrations.tool import Tool, event, marked, synced, thing

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


def scheduled(now: datetime) -> list[SyncRun]:
    """Runs that the schedule starts, done."""
    found = schedule_due(now=now)
    for run_id in found:
        execute_run(run_id=run_id, now=timezone.now())
    return list(SyncRun.objects.filter(pk__in=found))


@pytest.fixture
def ct(tool: Tool, connect: Connect) -> Connection:
    tool.things = [thing(1)]
    tool.events = [event("1"), marked(1)]
    connection = connect(interval=600)
    synced(connection)
    return connection


def test_between_whole_runs_what_is_new_is_read(ct: Connection, tool: Tool) -> None:
    now = timezone.now()
    kinds = []
    for minute in range(1, 22):
        for run in scheduled(now + timedelta(minutes=minute, seconds=5)):
            names = list(run.resources.values_list("name", flat=True))
            kinds.append((minute, names))
    assert [minute for minute, names in kinds if names == ["things", "events"]] == [10, 20]
    quick = [minute for minute, names in kinds if names == ["events"]]
    assert len(quick) >= 7
    assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(quick))
    assert tool.reads == 3


def test_it_goes_on_from_where_the_whole_run_was(ct: Connection, tool: Tool) -> None:
    tool.events = [event("2")]
    run = scheduled(timezone.now() + QUICK)[0]
    assert tool.since == [None, {"after": 1}]
    assert (run.is_quick, run.state, run.resources.get().new) == (True, RunState.SYNCED, 1)


@pytest.mark.parametrize("more", [{"is_paused": True}, {"interval": 60}])
def test_not_where_it_is_paused_or_whole_runs_are_as_frequent(
    ct: Connection, more: dict[str, object]
) -> None:
    now = timezone.now()
    Connection.objects.update(due_at=now + timedelta(days=1), quick_due_at=now, **more)
    assert schedule_due(now=now) == []


def test_a_good_quick_run_does_not_make_a_failing_connection_good(
    ct: Connection, tool: Tool, vic: User
) -> None:
    tool.things = [SourceUnavailable("Gone.")]
    synced(ct)
    report_runs(now=timezone.now())
    assert scheduled(timezone.now() + QUICK)[0].state == RunState.SYNCED
    report_runs(now=timezone.now())
    row = queries.list_connections(vic).get()
    assert row.over_state == RunState.PARTIAL
    assert Problem.objects.filter(type="sync", resolved_at=None).exists()


def test_a_tool_that_asks_to_wait_is_left_alone(ct: Connection, tool: Tool) -> None:
    tool.events = [SourceUnavailable("Later.", retry_after=1_000)]
    now = timezone.now()
    scheduled(now + QUICK)
    assert schedule_due(now=now + timedelta(minutes=12)) == []
    assert schedule_due(now=now + timedelta(minutes=18)) != []


def test_who_asks_for_a_whole_run_gets_one(ct: Connection) -> None:
    quick = schedule_due(now=timezone.now() + QUICK)
    run = request_sync(connection=ct, by="ana")
    assert ([run.pk], run.is_quick, run.who) == (quick, False, "ana")
    SyncRun.objects.filter(pk=run.pk).update(is_quick=True, state=RunState.RUNNING)
    with pytest.raises(SyncAlreadyActive, match="follows at once"):
        request_sync(connection=ct, by="ana")
    SyncRun.objects.update(state=RunState.SYNCED)
    assert [row.is_quick for row in SyncRun.objects.filter(pk__in=schedule_due(now=timezone.now()))] == [
        False
    ]


def test_quick_runs_that_brought_nothing_are_forgotten_soon(ct: Connection, tool: Tool) -> None:
    tool.events = [event("2")]
    rich = scheduled(timezone.now() + QUICK)[0]
    tool.events = []
    quiet = scheduled(timezone.now() + 2 * QUICK)[0]
    forget_old_runs(now=timezone.now() + timedelta(hours=2))
    assert SyncRun.objects.filter(pk=rich.pk).exists()
    assert not SyncRun.objects.filter(pk=quiet.pk).exists()
