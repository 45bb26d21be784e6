"""What a rule leaves out: counted, kept, out of the catalog, and back again without a second fetch."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from access.models import AuditEvent, User
from base.errors import Conflict
from catalog.models import Activity, Entity
from integrations import queries
from integrations.components import ComponentRule
from integrations.ignoring import IgnoreRule, left_out
from integrations.models import Connection, RunState, SyncRun
from integrations.records import Pipeline
from integrations.services.connections import change_rule, ignore_record, undo_rule
from integrations.services.runs import request_sync, restore_removed
from integrations.sync import _Execution
from tests.catalog.saying import counted_rows
from tests.integrations.tool import (
    Tool,
    balanced,
    document,
    event,
    numbers,
    synced,
    thing,
    things_of,
)

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


def pipeline(id: str) -> Pipeline:
    return Pipeline(external_id=id, name=f"build {id}", keys=[f"pipeline:ci.example/{id}"])


@pytest.fixture
def company(tool: Tool, connect: Connect) -> Connection:
    """Three repositories, two pipelines with a run each, and a document."""
    tool.things = [
        thing(1),
        thing(2),
        thing("x", path="acme/old/x"),
        pipeline("p1"),
        pipeline("p2"),
        document("a"),
    ]
    tool.events = [event("r1", about="pipeline:ci.example/p1"), event("r2", about="pipeline:ci.example/p2")]
    connection = connect()
    synced(connection)
    return connection


def alive() -> dict[str, object]:
    """Refs and uids of what lives, but for what a rule infers."""
    return dict(Entity.objects.filter(deleted_at=None).values_list("ref", "uid"))


def leave_out(connection: Connection, *patterns: str) -> None:
    change_rule(connection=connection, rule=IgnoreRule(patterns=list(patterns)), by="ana")
    connection.refresh_from_db()


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("acme/r1", {"1"}),
            ("acme/*", {"1", "2"}),
            ("acme/**", {"1", "2", "x"}),
            ("r?", {"1", "2", "x"}),
            ("build *", {"p1", "p2"}),
            ("things:p[13]", {"p1"}),
            ("things:1", {"1"}),
            ("events:1", set()),
            ("component:default/a", {"a.yaml#component:default/a"}),
            ("component:*/*", {"a.yaml#component:default/a"}),
            ("[", set()),
            ("nothing", set()),
        ],
    )
    def test_what_they_name(self, company: Connection, pattern: str, names: set[str]) -> None:
        found = left_out(connection=company, rule=IgnoreRule(patterns=[pattern]))
        assert {item.record.external_id for item in found} == names
        assert all(pattern in item.reason for item in found)

    def test_a_preview_writes_nothing(self, company: Connection) -> None:
        before = counted_rows()
        assert left_out(connection=company, rule=IgnoreRule(patterns=["**"]))
        assert counted_rows() == before


class TestLeavingOut:
    def test_it_goes_at_once_and_stays_out_and_each_number_opens_its_list(
        self, company: Connection, tool: Tool, vic: User
    ) -> None:
        reads = tool.reads
        leave_out(company, "acme/r1", "things:2", "p2")
        assert tool.reads == reads
        assert not {"repository:default/acme-r1", "repository:default/acme-r2"} & set(alive())
        assert not Entity.objects.filter(deleted_at=None, kind="component", name="acme-r1").exists()
        tool.things[0] = thing(1, description="changed meanwhile")
        run = synced(company)
        assert run.state == RunState.SYNCED
        assert numbers(things_of(run)) == {"listed": 6, "unchanged": 3, "skipped": 3}
        balanced(run, vic)
        found, _total = queries.records_of(vic, [things_of(run)], outcome="skipped")
        assert {item.external_id: item.reason for item in found}["1"] == "Left out by the rule acme/r1."
        assert all(item.stored for item in found)
        assert "repository:default/acme-r1" not in alive()

    def test_what_happened_to_it_is_left_out_too(self, company: Connection, tool: Tool) -> None:
        leave_out(company, "things:p2")
        tool.events = [
            event("r3", about="pipeline:ci.example/p1"),
            event("r4", about="pipeline:ci.example/p2"),
        ]
        run = synced(company)
        events = run.resources.get(name="events")
        assert (events.new, events.skipped) == (1, 1)
        assert not Activity.objects.filter(external_id="r4").exists()
        leave_out(company)
        assert Activity.objects.filter(external_id="r4").exists()

    def test_undo_brings_everything_back_as_it_was(self, company: Connection, tool: Tool) -> None:
        before, reads = alive(), tool.reads
        leave_out(company, "**")
        assert not alive()
        synced(company)
        undo_rule(connection=company, by="ana")
        assert alive() == before
        company.refresh_from_db()
        run = synced(company)
        assert numbers(things_of(run)) == {"listed": 6, "unchanged": 6}
        assert tool.reads == reads + 2
        assert AuditEvent.objects.filter(verb__startswith="connection.rule").count() == 2

    def test_each_rule_is_undone_by_itself(self, company: Connection) -> None:
        before = alive()
        change_rule(connection=company, rule=ComponentRule(is_on=False), by="ana")
        leave_out(company, "things:1")
        undo_rule(connection=company, by="ana")
        assert set(alive()) == {ref for ref in before if not ref.startswith("component:default/acme")}

    def test_a_second_sync_of_the_same_writes_nothing(self, company: Connection) -> None:
        leave_out(company, "acme/r1")
        synced(company)
        before = counted_rows()
        run = synced(company)
        assert counted_rows() == before
        assert things_of(run).skipped == 1

    def test_a_rule_that_changes_while_a_run_reads_is_obeyed(self, company: Connection, tool: Tool) -> None:
        tool.things += [thing(n) for n in (8, 9)]
        run = request_sync(connection=company, by="a test")
        SyncRun.objects.filter(pk=run.pk).update(state=RunState.RUNNING, lease=uuid.uuid4())
        run = SyncRun.objects.select_related("connection").get(pk=run.pk)
        assert run.lease is not None
        leave_out(company, "acme/r9")  # the run has read the rules as they were
        assert run.connection.rules == {}
        _Execution(run, run.lease).execute()
        assert "repository:default/acme-r8" in alive()
        assert "repository:default/acme-r9" not in alive()
        assert company.records.get(external_id="9").is_ignored

    def test_what_a_sweep_removed_does_not_return_against_the_rule(
        self, company: Connection, tool: Tool
    ) -> None:
        kept = list(tool.things)
        tool.things = tool.things[1:]
        run = synced(company)
        assert things_of(run).removed == 1
        leave_out(company, "acme/r1", "acme/r2")
        assert restore_removed(resource=things_of(run), by="ana") == 1
        assert "repository:default/acme-r1" not in alive()
        leave_out(company)
        assert "repository:default/acme-r1" in alive()
        tool.things = kept
        assert numbers(things_of(synced(company))) == {"listed": 6, "unchanged": 6}

    def test_one_that_is_left_out_is_swept_like_any_other(self, company: Connection, tool: Tool) -> None:
        leave_out(company, "acme/r1")
        tool.things = tool.things[1:]
        assert things_of(synced(company)).removed == 1
        tool.things = [thing(1), *tool.things]
        assert things_of(synced(company)).skipped == 1
        assert "repository:default/acme-r1" not in alive()


class TestOneRecord:
    def test_it_is_left_out_for_good(self, company: Connection, tool: Tool) -> None:
        record = company.records.get(external_id="x")
        ignore_record(record=record, by="ana")
        company.refresh_from_db()
        assert company.rules["ignored"] == {"patterns": ["things:x"]}
        synced(company)
        assert "repository:default/acme-old-x" not in alive()
        record.refresh_from_db()
        with pytest.raises(Conflict):
            ignore_record(record=record, by="ana")

    def test_an_id_is_no_pattern(self, company: Connection, tool: Tool) -> None:
        tool.things += [thing("[1-2]*"), thing("{1,2}")]
        synced(company)
        for id in ("[1-2]*", "{1,2}"):
            ignore_record(record=company.records.get(external_id=id), by="ana")
            company.refresh_from_db()
        left = company.records.filter(is_ignored=True)
        assert set(left.values_list("external_id", flat=True)) == {"[1-2]*", "{1,2}"}

    def test_what_happened_cannot_be(self, company: Connection) -> None:
        with pytest.raises(Conflict):
            ignore_record(record=company.records.get(external_id="r1"), by="ana")
