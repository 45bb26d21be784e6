"""Runs over a tool that a test controls: what is written, what is swept, who holds the lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections as databases
from django.utils import timezone

from access.models import User
from base.errors import Conflict
from catalog.models import Activity, Claim, Entity, Problem, Source
from catalog.services.digest import catalog_facts
from integrations import queries, registry, sync, tasks
from integrations.contract import Refused, resource
from integrations.errors import AuthFailed, SourceUnavailable
from integrations.guard import COUNT
from integrations.models import Connection, ResourceState, RunState, SeenPage, StoredRecord, SyncRun
from integrations.queries import removed_by
from integrations.records import Alert, AlertStatus
from integrations.services.connections import update_connection
from integrations.services.runs import (
    SyncAlreadyActive,
    cancel_run,
    decide_anew,
    decide_guard,
    forget_old_runs,
    lost_runs,
    report_run,
    report_runs,
    request_sync,
    restore_removed,
    schedule_due,
)
from integrations.sync import LEASE, RunNotLeasable, execute_run
from tests.catalog.saying import counted_rows
from tests.integrations.tool import (
    NOW,
    Controlled,
    Tool,
    balanced,
    document,
    event,
    expected,
    marked,
    numbers,
    synced,
    thing,
    things_of,
)

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


def alive(kind: str = "repository") -> set[str]:
    return set(Entity.objects.filter(deleted_at=None, kind=kind).values_list("name", flat=True))


class TestNumbers:
    def test_they_balance_and_each_opens_its_list(self, tool: Tool, connect: Connect, vic: User) -> None:
        connection = connect()
        tool.things = [expected(7), *[thing(n) for n in range(5)], document("a"), document("bad", owner=7)]
        tool.events = [event("1"), event("2")]
        run = synced(connection)
        assert run.state == RunState.SYNCED
        assert numbers(things_of(run)) == {"listed": 7, "new": 6, "refused": 1}
        assert things_of(run).expected == 7
        balanced(run, vic)
        tool.things = [
            thing(0),
            thing(1, description="other"),
            thing(2),
            Refused(external_id="3", reason="odd", place="p"),
        ]
        tool.things += [thing(4), document("a"), document("bad", owner=8), thing(9)]
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 8, "new": 1, "changed": 1, "unchanged": 4, "refused": 2}
        balanced(run, vic)
        refused, _total = queries.records_of(vic, [things_of(run)], outcome="refused")
        assert [(r.external_id, r.reason, r.place) for r in refused if r.external_id == "3"] == [
            ("3", "odd", "p")
        ]
        assert any("spec.owner" in r.reason and r.place == "a.yaml, document 1, line 1" for r in refused)

    def test_a_second_sync_of_the_same_writes_nothing_in_the_catalog(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = connect()
        tool.things = [*[thing(n) for n in range(9)], document("a")]
        tool.events = [event("1"), marked(1)]
        synced(connection)
        before, records = counted_rows(), list(StoredRecord.objects.order_by("id").values())
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 10, "unchanged": 10}
        assert counted_rows() == before
        assert list(StoredRecord.objects.order_by("id").values()) == records
        assert SeenPage.objects.filter(resource=things_of(run)).count() == 3

    def test_one_bad_record_stays_alone(self, tool: Tool, connect: Connect) -> None:
        tool.things = [thing(1), document("bad", dependsOn="x"), thing(2), thing("3", raw={"nul": "a\0b"})]
        connection = connect()
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 4, "new": 3, "refused": 1}
        assert alive() == {"acme-r1", "acme-r2", "acme-r3"}
        report_runs(now=timezone.now())
        problem = Problem.objects.get(type="refused-record")
        assert problem.detail["place"] == "a.yaml, document 1, line 1"
        tool.things[1] = document("bad")
        synced(connection)
        report_runs(now=timezone.now())
        problem.refresh_from_db()
        assert problem.resolved_at is not None

    @pytest.mark.parametrize(
        "failure",
        [AuthFailed("No."), SourceUnavailable("Gone."), RuntimeError("a bug")],
        ids=lambda e: type(e).__name__,
    )
    def test_a_list_that_was_not_read_to_its_end_resolves_none_of_its_problems(
        self, tool: Tool, connect: Connect, failure: Exception
    ) -> None:
        connection = connect()
        tool.things = [thing(1), document("bad", dependsOn="x")]
        synced(connection)
        report_runs(now=timezone.now())
        for things in ([failure], [thing(n) for n in range(6)] + [failure]):
            tool.things = things
            synced(connection)
            report_runs(now=timezone.now())
            assert Problem.objects.get(type="refused-record").resolved_at is None
            assert Problem.objects.get(type="sync").resolved_at is None
        tool.things = [thing(1)]
        synced(connection)
        report_runs(now=timezone.now())
        assert not Problem.objects.filter(type__in=["sync", "refused-record"], resolved_at=None).exists()

    def test_a_report_concerns_the_connection_of_the_run_alone(self, tool: Tool, connect: Connect) -> None:
        tool.things = [SourceUnavailable("Gone.")]
        first, second = synced(connect("a")), synced(connect("b"))
        report_run(run_id=first.pk, now=timezone.now())
        assert {p.subject_label for p in Problem.objects.filter(type="sync")} == {"A"}
        report_run(run_id=second.pk, now=timezone.now())
        assert {p.subject_label for p in Problem.objects.filter(type="sync")} == {"A", "B"}

    def test_a_fault_of_ours_leaves_a_problem(
        self, tool: Tool, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(**_given: Any) -> None:
            raise ZeroDivisionError

        connection = connect()
        tool.things = [thing(1)]
        monkeypatch.setattr("integrations.components.apply_rules", broken)
        run = request_sync(connection=connection)
        with pytest.raises(ZeroDivisionError):
            tasks.execute_run(run_id=run.pk)
        problem = Problem.objects.get(type="sync", resolved_at=None)
        assert (problem.severity, problem.detail["code"]) == ("fail", "internal")

    def test_old_runs_go_and_the_last_good_one_stays(
        self, tool: Tool, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("integrations.services.runs.KEEP_RUNS", 2)
        connection = connect()
        good = [synced(connection).pk for _number in range(2)][-1]
        tool.things = [SourceUnavailable("Gone.")]
        bad = [synced(connection).pk for _number in range(4)]
        forget_old_runs(now=timezone.now())
        assert set(connection.runs.values_list("pk", flat=True)) == {good, *bad[-2:]}

    def test_what_a_tool_lists_twice_is_one(self, tool: Tool, connect: Connect, vic: User) -> None:
        tool.things = [thing(1), thing(2), thing(1), thing(3), thing(4), thing(1)]
        run = synced(connect())
        balanced(run, vic)
        assert len(alive()) == 4


class TestSweep:
    def test_what_a_complete_list_no_longer_shows_goes(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.things = [thing(n) for n in range(8)]
        synced(connection)
        tool.things = [thing(n) for n in range(3)]  # five of eight, but fewer than the guard minds
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 3, "unchanged": 3, "removed": 5}
        assert len(alive()) == 3
        assert removed_by(things_of(run)).count() == 5

    def test_what_was_removed_can_be_brought_back_as_it_was(
        self, tool: Tool, connect: Connect, vic: User
    ) -> None:
        connection = connect()
        tool.things = [thing(n) for n in range(4)]
        synced(connection)
        before = dict(Entity.objects.values_list("ref", "uid"))
        tool.things = [thing(0)]
        run = synced(connection)
        assert restore_removed(resource=things_of(run), by="ana") == 3
        assert dict(Entity.objects.filter(deleted_at=None).values_list("ref", "uid")) == before
        assert removed_by(things_of(run)).count() == 0
        balanced(run, vic)  # the run still lists what it removed
        assert numbers(things_of(run)) == {"listed": 1, "unchanged": 1, "removed": 3}

    def test_a_listing_that_shows_it_again_brings_back_the_same_entity(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = connect()
        tool.things = [thing(1), thing(2)]
        synced(connection)
        uid = Entity.objects.get(ref="repository:default/acme-r2").uid
        tool.things = [thing(1)]
        synced(connection)
        tool.things = [thing(1), thing(2)]
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 2, "new": 1, "unchanged": 1}
        back = Entity.objects.get(ref="repository:default/acme-r2")
        assert (back.uid, back.is_alive) == (uid, True)

    def test_nothing_after_something_stops_and_asks_however_little_it_was(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = connect()
        tool.things = [thing(1), thing(2)]
        synced(connection)
        tool.things = []
        run = synced(connection)
        assert (run.state, run.error_code) == (RunState.PARTIAL, "guard")
        assert things_of(run).state == ResourceState.HELD
        assert numbers(things_of(run)) == {"would_remove": 2}
        assert len(alive()) == 2

    @pytest.mark.parametrize(
        ("before", "after", "goes"),
        [
            (50, 41, True),  # nine
            (50, 40, True),  # ten, but no more than a fifth
            (50, 39, False),  # eleven, more than a fifth
            (20, 10, False),  # ten of twenty
            (20, 11, True),  # nine of twenty
        ],
    )
    def test_much_less_than_before_stops_and_asks(
        self,
        tool: Tool,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        before: int,
        after: int,
        goes: bool,
    ) -> None:
        monkeypatch.setattr(sync, "PAGE", 100)
        connection = connect()
        tool.things = [thing(n) for n in range(before)]
        synced(connection)
        tool.things = [thing(n) for n in range(after)]
        run = synced(connection)
        assert (things_of(run).state == ResourceState.COMPLETE) is goes
        assert len(alive()) == (after if goes else before)
        assert (run.state == RunState.SYNCED) is goes

    @pytest.fixture
    def held(self, tool: Tool, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> SyncRun:
        """A run whose guard holds ten of twenty."""
        monkeypatch.setattr(sync, "PAGE", 100)
        connection = connect()
        tool.things = [thing(n) for n in range(20)]
        synced(connection)
        tool.things = [thing(n) for n in range(10)]
        return synced(connection)

    def test_a_person_decides_to_remove(self, held: SyncRun, vic: User) -> None:
        assert {r.external_id for r in queries.held_records(vic, things_of(held))} == {
            str(n) for n in range(10, 20)
        }
        assert decide_guard(resource=things_of(held), remove=True, by="ana") == 10
        assert len(alive()) == 10
        assert "ana" in things_of(held).decision
        with pytest.raises(Conflict):
            decide_guard(resource=things_of(held), remove=True, by="ana")
        assert restore_removed(resource=things_of(held), by="ben") == 10
        assert len(alive()) == 20
        assert things_of(held).decision == "Removed by ana. Brought back by ben"

    def test_or_to_keep(self, held: SyncRun) -> None:
        assert decide_guard(resource=things_of(held), remove=False, by="ana") == 0
        assert len(alive()) == 20
        assert things_of(held).state == ResourceState.COMPLETE

    def test_what_was_kept_is_not_asked_for_again(self, held: SyncRun, tool: Tool) -> None:
        decide_guard(resource=things_of(held), remove=False, by="ana")
        for _again in range(2):
            run = synced(held.connection)
            assert (run.state, run.error_code) == (RunState.SYNCED, "")
            assert numbers(things_of(run)) == {"listed": 10, "unchanged": 10}
            assert len(alive()) == 20
        tool.things = [thing(n) for n in range(9)]
        run = synced(held.connection)
        assert numbers(things_of(run)) == {"listed": 9, "unchanged": 9, "removed": 1}, "of 10, not of 20"
        assert len(alive()) == 19

    def test_nor_where_the_tool_lists_nothing_at_all(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.things = [thing(1), thing(2)]
        synced(connection)
        tool.things = []
        decide_guard(resource=things_of(synced(connection)), remove=False, by="ana")
        assert synced(connection).state == RunState.SYNCED
        assert len(alive()) == 2

    def test_but_what_goes_besides_is(self, held: SyncRun, tool: Tool, connect: Connect, vic: User) -> None:
        decide_guard(resource=things_of(held), remove=False, by="ana")
        tool.things = [thing(n) for n in [*range(10), *range(100, 120)]]
        synced(held.connection)
        tool.things = [thing(n) for n in range(10)]
        run = synced(held.connection)
        assert things_of(run).state == ResourceState.HELD
        assert {r.external_id for r in queries.held_records(vic, things_of(run))} == {
            str(n) for n in range(100, 120)
        }
        assert decide_guard(resource=things_of(run), remove=True, by="ana") == 20
        assert len(alive()) == 20

    @pytest.mark.parametrize("described", ["", "anew"])
    def test_nor_is_the_answer_for_ever(self, held: SyncRun, tool: Tool, described: str) -> None:
        """What was listed again, changed or not, and goes once more is asked for once more."""
        decide_guard(resource=things_of(held), remove=False, by="ana")
        back = {"description": described} if described else {}
        tool.things = [*[thing(n) for n in range(10)], *[thing(n, **back) for n in range(10, 20)]]
        synced(held.connection)
        assert not StoredRecord.objects.kept().exists()
        tool.things = tool.things[:10]
        assert things_of(synced(held.connection)).state == ResourceState.HELD

    def test_other_settings_or_a_person_have_it_decided_anew(self, held: SyncRun, tool: Tool) -> None:
        connection = held.connection
        decide_guard(resource=things_of(held), remove=False, by="ana")
        assert decide_anew(connection=connection) == 10
        run = synced(connection)
        assert things_of(run).state == ResourceState.HELD
        decide_guard(resource=things_of(run), remove=False, by="ana")
        update_connection(connection=connection, label="Another name", config={})
        assert StoredRecord.objects.kept().count() == 10
        update_connection(connection=connection, config={"token": "another"})
        assert not StoredRecord.objects.kept().exists()

    def test_what_was_brought_back_stays_at_the_next_sync(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.things = [thing(n) for n in range(4)]
        synced(connection)
        tool.things = [thing(0)]
        restore_removed(resource=things_of(synced(connection)), by="ana")
        assert numbers(things_of(synced(connection))) == {"listed": 1, "unchanged": 1}
        assert len(alive()) == 4
        assert decide_anew(connection=connection) == 3
        assert things_of(synced(connection)).removed == 3

    def test_but_not_on_a_list_that_was_read_anew_since(self, held: SyncRun, tool: Tool) -> None:
        tool.things = [thing(n) for n in range(20)]
        synced(held.connection)
        with pytest.raises(Conflict):
            decide_guard(resource=things_of(held), remove=True, by="ana")
        assert len(alive()) == 20

    @pytest.mark.parametrize("error", [SourceUnavailable("gone"), AuthFailed("no"), RuntimeError("a bug")])
    @pytest.mark.parametrize("at", [0, 3, 6])
    def test_a_list_that_breaks_off_removes_nothing(
        self, tool: Tool, connect: Connect, error: Exception, at: int
    ) -> None:
        connection = connect()
        tool.things = [thing(n) for n in range(6)]
        synced(connection)
        tool.things = [*[thing(n, description="new") for n in range(at)], error]
        run = synced(connection)
        assert run.state == (RunState.PARTIAL if at else run.state)
        assert run.state != RunState.SYNCED
        assert things_of(run).state == ResourceState.PARTIAL
        assert len(alive()) == 6
        changed = StoredRecord.objects.filter(data__description="new").count()
        assert changed == at  # what came before the break is kept

    def test_a_refused_document_spares_what_came_from_its_file(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.things = [thing(0), document("a"), document("b"), document("c", file="other.yaml")]
        synced(connection)
        uid = Entity.objects.get(name="a").uid
        tool.things = [
            thing(0),
            Refused(external_id="a.yaml#0", reason="line 3 is broken", place="a.yaml, line 3"),
        ]
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 2, "unchanged": 1, "refused": 1, "removed": 1}
        assert alive("component") >= {"a", "b"}
        assert "c" not in alive("component")
        # The last good word of both stays, and says so, until the file is mended.
        stale = Claim.objects.exclude(stale_reason="").values_list("entity__name", "stale_reason")
        assert dict(stale) == dict.fromkeys(("a", "b"), "a.yaml, line 3: line 3 is broken")
        assert Problem.objects.filter(type="stale", resolved_at=None).count() == 2
        tool.things = [thing(0), document("a"), document("b")]
        synced(connection)
        assert not Claim.objects.exclude(stale_reason="").exists()
        assert Entity.objects.get(name="a").uid == uid

    def test_a_record_that_turns_bad_and_good_again_is_no_longer_stale(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = connect()
        tool.things = [document("a")]
        synced(connection)
        tool.things = [document("a", owner=7)]
        synced(connection)
        assert Claim.objects.exclude(stale_reason="").count() == 1
        assert alive("component") == {"a"}
        tool.things = [document("a")]
        synced(connection)
        assert not Claim.objects.exclude(stale_reason="").exists()

    def test_what_was_touched_since_the_pass_began_is_spared(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.things = [thing(1), thing(2)]
        synced(connection)

        def touched() -> None:
            StoredRecord.objects.filter(external_id="2").update(
                touched_at=timezone.now() + timedelta(seconds=1)
            )

        touched()  # a message told of it while the list was read
        tool.things = [thing(1)]
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 1, "unchanged": 1}
        assert len(alive()) == 2

    def test_older_facts_never_overwrite(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        now = timezone.now()
        tool.things = [thing(1, description="newer", as_of=now)]
        synced(connection)
        tool.things = [thing(1, description="older", as_of=now - timedelta(minutes=1))]
        run = synced(connection)
        assert numbers(things_of(run)) == {"listed": 1, "unchanged": 1}
        assert StoredRecord.objects.get().data["description"] == "newer"


class Watching(Controlled):
    """A tool whose list shows what is so at present."""

    @resource(of=Alert)
    async def alerts(self) -> AsyncIterator[Any]:
        """What fires."""
        async for item in self.tool.give(self.tool.alerts):
            yield item


class Vague(Controlled):
    """A tool whose list says not what it brings."""

    @resource(of=())
    async def alerts(self) -> AsyncIterator[Any]:
        """What fires, among others."""
        async for item in self.tool.give(self.tool.alerts):
            yield item


class TestAlerts:
    @pytest.fixture(autouse=True)
    def watching(self, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(registry.connectors(), Controlled.slug, Watching)

    def fires(self, name: str, **more: Any) -> Alert:
        fields = {"status": AlertStatus.FIRING, "started_at": NOW - timedelta(hours=1), **more}
        return Alert(external_id=name, title=name, severity="high", **fields)

    def stands(self) -> dict[str, str]:
        return dict(Activity.objects.filter(type="alert").values_list("external_id", "status"))

    def test_what_a_complete_list_no_longer_shows_is_resolved(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.alerts = [self.fires(str(number)) for number in range(12)]
        assert synced(connection).state == RunState.SYNCED
        tool.alerts = []
        before = timezone.now()
        run = synced(connection)
        assert run.state == RunState.SYNCED
        assert run.resources.get(name="alerts").changed == 12
        assert set(self.stands().values()) == {"resolved"}
        over = Activity.objects.get(type="alert", external_id="3")
        assert before < over.finished_at < timezone.now()
        assert (over.title, over.data["severity"]) == ("3", "high")
        assert synced(connection).resources.get(name="alerts").changed == 0
        tool.alerts = [self.fires("3")]
        synced(connection)
        assert {name for name, status in self.stands().items() if status == "firing"} == {"3"}

    def test_what_alerts_name_and_nothing_is_stays_to_be_reviewed(self, tool: Tool, connect: Connect) -> None:
        def missing() -> dict[str, str]:
            found = Problem.objects.filter(type="missing-target", resolved_at=None, subject_label="CT")
            return dict(found.values_list("cause", "message"))

        def read() -> None:
            report_run(run_id=synced(connection).pk, now=timezone.now())

        connection = connect()
        pay, web = ["ref:component:pay", "ref:component:node"], ["ref:component:web"]
        tool.alerts = [self.fires("a", about=pay), self.fires("b", about=pay), self.fires("c", about=web)]
        tool.alerts += [self.fires("d", about=["ref:component:over"], status="resolved"), self.fires("e")]
        read()
        assert missing() == {
            "Alerts name component:default/pay, which is not in the catalog": "2 alerts show on no page.",
            "Alerts name component:default/web, which is not in the catalog": "1 alert shows on no page.",
        }
        tool.things = [document("node")]
        tool.alerts = tool.alerts[:2]
        read()
        assert missing() == {}

    def test_a_list_that_breaks_off_resolves_nothing(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.alerts = [self.fires("a"), self.fires("b")]
        synced(connection)
        tool.alerts = [self.fires("a"), SourceUnavailable("gone")]
        assert synced(connection).state == RunState.PARTIAL
        assert self.stands() == {"a": "firing", "b": "firing"}

    def test_a_list_that_says_not_what_it_brings_resolves_nothing(
        self, tool: Tool, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(registry.connectors(), Controlled.slug, Vague)
        connection = connect()
        tool.alerts = [self.fires("a"), event("1")]
        synced(connection)
        tool.alerts = []
        assert synced(connection).state == RunState.SYNCED
        assert self.stands() == {"a": "firing"}

    def test_what_was_told_since_it_was_asked_stays(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.alerts = [self.fires("a"), self.fires("b")]
        synced(connection)
        StoredRecord.objects.filter(external_id="b").update(as_of=timezone.now() + timedelta(seconds=9))
        tool.alerts = [self.fires("a")]
        synced(connection)
        assert self.stands() == {"a": "firing", "b": "firing"}


class TestIncremental:
    def test_a_later_run_goes_on_at_the_last_mark_and_sweeps_nothing(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = connect()
        tool.events = [event("1"), marked(1), event("2"), marked(2)]
        synced(connection)
        tool.events = [event("3"), marked(3)]
        run = synced(connection)
        assert tool.since == [None, {"after": 2}]
        assert numbers(run.resources.get(name="events")) == {"listed": 1, "new": 1}
        assert Activity.objects.count() == 3
        tool.events = []
        synced(connection)
        assert tool.since[-1] == {"after": 3}
        assert Activity.objects.count() == 3

    def test_what_breaks_goes_on_at_the_last_mark_too(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        tool.events = [event("1"), marked(1), event("2"), SourceUnavailable("gone")]
        run = synced(connection)
        assert run.state == RunState.PARTIAL
        tool.events = [event("2"), event("3"), marked(3)]
        synced(connection)
        assert tool.since[-1] == {"after": 1}
        assert Activity.objects.count() == 3


class TestRuns:
    def test_only_one_run_of_a_connection_at_a_time(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        request_sync(connection=connection)
        with pytest.raises(SyncAlreadyActive):
            request_sync(connection=connection)
        request_sync(connection=connect("other"))

    def test_the_schedule_runs_what_is_due_and_not_what_pauses(self, tool: Tool, connect: Connect) -> None:
        due, paused, later = connect("due"), connect("paused"), connect("later")
        now = timezone.now()
        Connection.objects.filter(pk=paused.pk).update(is_paused=True)
        Connection.objects.filter(pk=later.pk).update(due_at=now + timedelta(minutes=1))
        queued = schedule_due(now=now)
        assert [run.connection_id for run in SyncRun.objects.filter(pk__in=queued)] == [due.pk]
        assert schedule_due(now=now) == []
        due.refresh_from_db()
        assert due.due_at == now + timedelta(seconds=due.interval)

    def test_a_run_whose_message_was_lost_is_found(self, tool: Tool, connect: Connect) -> None:
        now = timezone.now()
        run = request_sync(connection=connect())
        assert lost_runs(now=now) == []
        assert lost_runs(now=now + timedelta(seconds=30)) == [run.pk]

    def test_a_run_is_done_once(self, tool: Tool, connect: Connect) -> None:
        tool.things = [thing(1)]
        run = synced(connect())
        with pytest.raises(RunNotLeasable):
            execute_run(run_id=run.pk, now=timezone.now())
        with pytest.raises(RunNotLeasable):
            execute_run(run_id=999_999, now=timezone.now())
        assert tool.reads == 1

    def test_one_that_waits_is_not_begun_before_its_time(self, tool: Tool, connect: Connect) -> None:
        now = timezone.now()
        run = request_sync(connection=connect())
        SyncRun.objects.filter(pk=run.pk).update(not_before=now + timedelta(minutes=1))
        with pytest.raises(RunNotLeasable):
            execute_run(run_id=run.pk, now=now)
        execute_run(run_id=run.pk, now=now + timedelta(minutes=2))
        run.refresh_from_db()
        assert run.state == RunState.SYNCED

    def test_a_queued_run_is_cancelled_at_once_and_a_running_one_after_its_page(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = connect()
        queued = request_sync(connection=connection)
        assert cancel_run(run=queued)
        with pytest.raises(RunNotLeasable):
            execute_run(run_id=queued.pk, now=timezone.now())
        tool.things = [thing(n) for n in range(40)]
        run = request_sync(connection=connection)
        SyncRun.objects.filter(pk=run.pk).update(is_cancel_requested=True)
        execute_run(run_id=run.pk, now=timezone.now())
        run.refresh_from_db()
        assert run.state == RunState.CANCELLED
        assert len(alive()) == 4
        assert things_of(run).state == ResourceState.PARTIAL
        assert not cancel_run(run=run)
        assert synced(connection).state == RunState.SYNCED
        assert len(alive()) == 40

    def test_a_run_that_hangs_is_cancelled_soon(self, tool: Tool, connect: Connect) -> None:
        connection = connect()
        run = request_sync(connection=connection)
        tool.things = [thing(1), lambda: asyncio.sleep(60)]
        SyncRun.objects.filter(pk=run.pk).update(is_cancel_requested=True)
        begun = time.monotonic()
        execute_run(run_id=run.pk, now=timezone.now())
        assert time.monotonic() - begun < 10
        run.refresh_from_db()
        assert run.state == RunState.CANCELLED
        assert not [t for t in threading.enumerate() if t.name == "read-controlled"]

    def test_settings_that_no_longer_fit_fail_the_run_with_the_reason(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = connect()
        Connection.objects.filter(pk=connection.pk).update(config={"nonsense": 1})
        run = synced(connection)
        assert run.state == RunState.FAILED
        assert "nonsense" in run.message
        report_runs(now=timezone.now())
        assert Problem.objects.get(type="sync").severity == "fail"

    def test_a_failed_sign_in_reads_no_further(self, tool: Tool, connect: Connect) -> None:
        tool.things = [AuthFailed("The token is not valid.")]
        run = synced(connect())
        assert (run.state, run.error_code) == (RunState.FAILED, "auth-failed")
        assert tool.since == []
        assert set(run.resources.values_list("state", flat=True)) == {ResourceState.PARTIAL}

    def test_one_resource_that_fails_does_not_keep_the_others(self, tool: Tool, connect: Connect) -> None:
        tool.things = [SourceUnavailable("The list is gone.", retry_after=7_200)]
        tool.events = [event("1")]
        connection = connect()
        run = synced(connection)
        assert run.state == RunState.PARTIAL
        assert "The list is gone." in run.message
        assert Activity.objects.count() == 1
        connection.refresh_from_db()
        assert connection.due_at is not None
        assert connection.due_at > timezone.now() + timedelta(seconds=7_000)


@pytest.mark.django_db(transaction=True)
class TestLease:
    """Workers as threads, each with a connection to the database of its own."""

    def work(self, run: SyncRun, errors: list[BaseException]) -> threading.Thread:
        def go() -> None:
            try:
                execute_run(run_id=run.pk, now=timezone.now())
            except BaseException as error:  # noqa: BLE001
                errors.append(error)
            finally:
                databases.close_all()

        thread = threading.Thread(target=go)
        thread.start()
        return thread

    def test_of_two_workers_on_one_run_one_writes(self, tool: Tool, connect: Connect) -> None:
        tool.things = [thing(n) for n in range(12)]
        run = request_sync(connection=connect())
        errors: list[BaseException] = []
        for worker in [self.work(run, errors) for _ in range(3)]:
            worker.join(30)
        assert [type(error) for error in errors] == [RunNotLeasable] * 2
        assert tool.reads == 1
        run.refresh_from_db()
        assert (run.state, run.attempts) == (RunState.SYNCED, 1)
        assert numbers(things_of(run)) == {"listed": 12, "new": 12}

    def test_an_expired_lease_is_taken_over_and_the_slow_one_writes_nothing(
        self, tool: Tool, connect: Connect, vic: User
    ) -> None:
        run = request_sync(connection=connect())
        reached, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            reached.set()
            go_on.wait(30)

        tool.things = [*[thing(n, description="slow") for n in range(4)], wait, thing(9, description="slow")]
        errors: list[BaseException] = []
        slow = self.work(run, errors)
        assert reached.wait(30)
        until = time.monotonic() + 20
        while Entity.objects.filter(kind="repository").count() < 4 and time.monotonic() < until:
            time.sleep(0.05)  # the slow one writes its first page
        with pytest.raises(RunNotLeasable):
            execute_run(run_id=run.pk, now=timezone.now())
        tool.things = [thing(n, description="quick") for n in range(5)]
        execute_run(run_id=run.pk, now=timezone.now() + 2 * LEASE)
        run.refresh_from_db()
        assert (run.state, run.attempts) == (RunState.SYNCED, 2)
        before = (
            counted_rows(),
            list(catalog_facts()),
            list(SyncRun.objects.values()),
            list(things_of(run).pages.values()),
        )
        go_on.set()
        slow.join(30)
        assert not slow.is_alive()
        assert errors == []
        after = (
            counted_rows(),
            list(catalog_facts()),
            list(SyncRun.objects.values()),
            list(things_of(run).pages.values()),
        )
        assert after == before
        assert not StoredRecord.objects.filter(data__description="slow").exists()
        assert set(StoredRecord.objects.values_list("external_id", flat=True)) == {str(n) for n in range(5)}
        balanced(run, vic)

    def test_a_run_that_was_taken_over_in_its_middle_sweeps_only_after_a_whole_pass_of_its_own(
        self, tool: Tool, connect: Connect, vic: User
    ) -> None:
        connection = connect()
        tool.things = [thing(n) for n in range(8)]
        synced(connection)
        run = request_sync(connection=connection)
        reached = threading.Event()
        killed = threading.Event()

        def die() -> None:
            reached.set()
            killed.wait(30)
            raise RuntimeError("killed")

        tool.things = [thing(0), thing(1), thing(2), thing(3), die]
        errors: list[BaseException] = []
        first = self.work(run, errors)
        assert reached.wait(30)
        tool.things = [thing(n) for n in range(7)]
        execute_run(run_id=run.pk, now=timezone.now() + 2 * LEASE)
        killed.set()
        first.join(30)
        run.refresh_from_db()
        assert run.state == RunState.SYNCED
        assert numbers(things_of(run)) == {"listed": 7, "unchanged": 7, "removed": 1}
        assert len(alive()) == 7
        balanced(run, vic)


def test_a_source_is_named_by_its_connection(tool: Tool, connect: Connect) -> None:
    tool.things = [thing(1)]
    synced(connect())
    named = dict(Source.objects.values_list("key", "name"))
    assert named["connection:ct/things"] == "ct"
    assert Claim.objects.filter(source__key="connection:ct/things").count() == 1
    assert COUNT == 10
