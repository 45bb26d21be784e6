"""What people have done to a tool: at most once each, permitted, on record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access.models import AuditEvent, User
from access.services import create_group
from base.errors import Conflict, Forbidden, InvalidInput, NotFound
from catalog import queries
from catalog.models import Activity, Entity
from catalog.queries import reach
from catalog.services.render import render_dirty
from integrations.models import Connection, OperationRun, StoredRecord
from integrations.records import Pipeline
from integrations.services.connections import show_to, update_connection
from integrations.services.operations import ABANDONED, due_operations, execute_operation, request_operation
from integrations.services.targets import operations_on, operations_on_activity
from tests.catalog.saying import claim, say
from tests.integrations.tool import Tool, event, synced, thing

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


@pytest.fixture
def builder(tool: Tool, connect: Connect) -> StoredRecord:
    """A pipeline of a tool whose operations are switched on."""
    tool.things = [Pipeline(external_id="7", name="build", keys=["pipeline:ci.example/1"]), thing(1)]
    connection = connect()
    update_connection(connection=connection, allows_operations=True)
    synced(connection)
    return StoredRecord.objects.select_related("connection").get(type="pipeline")


def ask(target: StoredRecord, operation: str = "build", **more: Any) -> OperationRun:
    given = {
        "connection": target.connection,
        "operation": operation,
        "target": target,
        "params": {},
        "by": "ana",
    }
    return request_operation(**{**given, **more})


def test_it_is_done_once_and_what_it_brought_about_shows(builder: StoredRecord, tool: Tool) -> None:
    run = ask(builder, params={"branch": "next"})
    execute_operation(operation_id=run.pk)
    execute_operation(operation_id=run.pk)  # a message that came twice
    assert tool.done == [("7", "next")]
    run.refresh_from_db()
    assert (run.state, run.message, run.url) == ("done", "Building next.", "https://ci.example/1")
    activity = Activity.objects.get()
    assert (activity.status, activity.subject_ref) == ("queued", "pipeline:default/build")
    assert Entity.objects.get(ref="pipeline:default/build").last_run == "queued"


def test_the_same_key_gives_the_same_run(builder: StoredRecord, tool: Tool) -> None:
    first = ask(builder, idempotency_key="k")
    assert ask(builder, idempotency_key="k") == first
    execute_operation(operation_id=first.pk)
    again = ask(builder, idempotency_key="k")
    assert (again.pk, again.state) == (first.pk, "done")
    assert due_operations(now=timezone.now() + timedelta(minutes=1)) == []
    assert tool.done == [("7", "main")]
    assert AuditEvent.objects.filter(verb="operation.run").count() == 1
    assert ask(builder).pk != first.pk


@pytest.mark.parametrize("other", [{"operation": "wipe"}, {"params": {"branch": "other"}}])
def test_a_key_belongs_to_one_request(builder: StoredRecord, other: dict[str, Any]) -> None:
    ask(builder, idempotency_key="k")
    with pytest.raises(Conflict):
        ask(builder, idempotency_key="k", **other)


def test_a_key_belongs_to_one_target(builder: StoredRecord, tool: Tool) -> None:
    tool.things.append(Pipeline(external_id="8", name="other", keys=["pipeline:ci.example/2"]))
    synced(builder.connection)
    ask(builder, idempotency_key="k")
    with pytest.raises(Conflict):
        ask(StoredRecord.objects.get(external_id="8"), idempotency_key="k")


def test_wrong_parameters_targets_and_names_are_refused(builder: StoredRecord) -> None:
    with pytest.raises(InvalidInput) as error:
        ask(builder, params={"branch": ""})
    assert error.value.errors[0].path == "/branch"
    with pytest.raises(NotFound):
        ask(builder, operation="nothing")
    with pytest.raises(NotFound):
        ask(StoredRecord.objects.get(type="repository"))
    assert not OperationRun.objects.exists()


def test_while_they_are_switched_off_nothing_is_done(builder: StoredRecord, ana: User) -> None:
    update_connection(connection=builder.connection, allows_operations=False)
    builder.connection.refresh_from_db()
    with pytest.raises(Forbidden):
        ask(builder)
    found = Entity.objects.get(ref="pipeline:default/build")
    assert operations_on(ana, found, reach(found), Connection.objects.all()) == []


def test_of_a_connection_that_is_for_others_nothing_is_offered(
    builder: StoredRecord, ana: User, ben: User
) -> None:
    found = Entity.objects.get(ref="pipeline:default/build")
    say("yaml:a", claim("pipeline:build", {}, keys=("pipeline:ci.example/1",)))
    found.refresh_from_db()
    create_group(name="Insiders")
    show_to(builder.connection, ["Insiders"])
    render_dirty(at=timezone.now())
    for user, expected in ((ben, False), (ana, True)):
        assert queries.list_entities(user).filter(pk=found.pk).exists()
        offered = operations_on(user, found, reach(found), Connection.objects.all())
        assert bool(offered) is expected


def test_a_failure_is_told_and_not_repeated(builder: StoredRecord, tool: Tool) -> None:
    run = ask(builder, params={"branch": "broken"})
    execute_operation(operation_id=run.pk)
    execute_operation(operation_id=run.pk)
    run.refresh_from_db()
    assert run.state == "failed"
    assert "a bug" not in run.message
    assert len(tool.done) == 1


def test_a_target_that_went_meanwhile_is_told(builder: StoredRecord, tool: Tool) -> None:
    run = ask(builder)
    StoredRecord.objects.filter(pk=builder.pk).update(deleted_at=timezone.now())
    execute_operation(operation_id=run.pk)
    run.refresh_from_db()
    assert (run.state, tool.done) == ("failed", [])
    assert "no longer known" in run.message


def test_a_lost_message_is_found_and_a_lost_worker_is_not_repeated(builder: StoredRecord, tool: Tool) -> None:
    waiting, begun = ask(builder), ask(builder)
    now = timezone.now()
    OperationRun.objects.filter(pk=begun.pk).update(state="running", started_at=now)
    assert due_operations(now=now) == []
    assert due_operations(now=now + timedelta(seconds=30)) == [waiting.pk]
    due_operations(now=now + ABANDONED + timedelta(seconds=1))
    begun.refresh_from_db()
    assert begun.state == "unknown"
    execute_operation(operation_id=begun.pk)
    assert tool.done == []


def test_what_is_offered_hangs_on_permission_and_risk(
    builder: StoredRecord, ana: User, ben: User, vic: User, cleo: User
) -> None:
    found = Entity.objects.get(ref="pipeline:default/build")
    offered = {
        user.username: [
            o.spec.name for o in operations_on(user, found, reach(found), Connection.objects.all())
        ]
        for user in (ana, ben, vic, cleo)
    }
    assert offered == {"ana": ["build", "wipe"], "ben": ["build"], "vic": [], "cleo": []}


class TestOnWhatHappened:
    """What can be done to a run, such as building again, stands beside the run."""

    @pytest.fixture
    def runs(self, builder: StoredRecord, tool: Tool) -> Connection:
        """A run that is over and one that is not, of the pipeline."""
        tool.events = [event("over"), event("still", status="running")]
        synced(builder.connection)
        return builder.connection

    def offered(self, user: User) -> dict[str, list[str]]:
        entity = Entity.objects.get(kind="pipeline")
        found = operations_on_activity(user, entity, Activity.objects.all(), Connection.objects.all())
        names = dict(Activity.objects.values_list("pk", "external_id"))
        return {names[key]: [one.spec.name for one in some] for key, some in found.items()}

    def test_it_is_offered_by_status_to_those_who_may(
        self, runs: Connection, ana: User, ben: User, vic: User
    ) -> None:
        assert self.offered(ana) == {"over": ["again"]}
        assert self.offered(ben) == {"over": ["again"]}
        assert self.offered(vic) == {}
        update_connection(connection=runs, allows_operations=False)
        assert self.offered(ana) == {}

    def test_it_costs_the_same_for_one_as_for_many(
        self, runs: Connection, tool: Tool, ana: User, django_assert_num_queries: Any
    ) -> None:
        tool.events = [event(f"r{n}") for n in range(30)]
        synced(runs)
        assert len(self.offered(ana)) == 31
        entity, rows = Entity.objects.get(kind="pipeline"), list(Activity.objects.all())
        with django_assert_num_queries(3):
            operations_on_activity(ana, entity, rows, Connection.objects.all())

    def test_to_what_goes_on_it_cannot_be_done(self, runs: Connection, tool: Tool) -> None:
        with pytest.raises(Conflict, match="this is running"):
            ask(StoredRecord.objects.select_related("connection").get(external_id="still"), "again")
        run = ask(StoredRecord.objects.select_related("connection").get(external_id="over"), "again")
        execute_operation(operation_id=run.pk)
        assert tool.done == [("over", "again")]


def test_its_outcome_is_on_record(builder: StoredRecord) -> None:
    run = ask(builder, params={"branch": "broken"})
    execute_operation(operation_id=run.pk)
    assert AuditEvent.objects.get(verb="operation.end").changes["state"] == "failed"
