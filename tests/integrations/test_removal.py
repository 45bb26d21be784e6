"""A connection's removal: asked for, done by the page, finished by whoever comes after one that was killed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.actors import acting_as, actor_of
from access.models import AuditEvent, Role, Secret, User
from access.permissions import cache
from access.services import create_group, grant, undo
from base.errors import Conflict, NotFound
from catalog.models import Activity, AsideActivity, AsideClaim, Claim, Entity, Problem, Source
from catalog.services import aside
from catalog.services.audience import set_audience
from catalog.services.edit import override_field
from integrations import queries, tasks
from integrations.components import rule_of
from integrations.models import Connection, Delivery, OperationRun, StoredRecord, SyncRun
from integrations.records import Pipeline
from integrations.services import deliveries, moving, removal, runs
from integrations.services.connections import BeingRemoved, change_rule, show_to, undo_rule, update_connection
from integrations.services.locations import turns
from integrations.services.moving import due_to_settle, settle_connection
from integrations.services.muting import muting_of
from integrations.services.removal import (
    KEPT_FOR,
    removal_of,
    request_purge,
    request_removal,
    restore_connection,
)
from tests.catalog.saying import history
from tests.integrations.layers import dump, same
from tests.integrations.tool import Tool, document, event, removed, synced, thing

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


def alive(kind: str) -> set[str]:
    return set(Entity.objects.filter(kind=kind, deleted_at=None).values_list("name", flat=True))


@pytest.fixture
def full(tool: Tool, connect: Connect) -> Connection:
    """A connection with everything that one can have."""
    tool.things = [*[thing(n) for n in range(5)], document("a"), document("bad", owner=7)]
    tool.events = [event(str(n), about="repo:h.example/acme/r1") for n in range(5)]
    connection = connect(config={"token": "good", "webhook_secret": "proof"})
    synced(connection)
    runs.report_runs(now=timezone.now())
    Delivery.objects.create(connection=connection, digest="d", body=b"[]", received_at=timezone.now())
    return connection


def ask(connection: Connection) -> removal.Removal:
    return request_removal(connection=connection, by="ana", now=timezone.now())


def purged(connection: Connection) -> None:
    """Let go of for good, as it happens when its time is over."""
    Connection.objects.filter(pk=connection.pk).update(kept_until=timezone.now())
    settle_connection(connection_id=connection.pk)
    assert not Connection.objects.filter(pk=connection.pk).exists()


class TestWhole:
    def test_all_that_it_brought_goes_and_is_told_before(self, full: Connection) -> None:
        told = removal_of(full)
        assert (told.entities, told.activities, told.records, told.runs) == (11, 5, 11, 1)
        assert removed(full) == told
        assert not Entity.objects.filter(deleted_at=None).exists()
        for model in (Activity, Claim):
            assert not model.objects.exists(), model
        assert not Problem.objects.filter(resolved_at=None).exists()
        purged(full)
        for model in (AsideActivity, AsideClaim, StoredRecord, SyncRun, Delivery, Secret, Connection):
            assert not model.objects.exists(), model
        assert not Source.objects.filter(key__startswith="connection:ct/").exists()
        (noted,) = AuditEvent.objects.filter(verb="connection.delete")
        assert (noted.changes["entities"], noted.changes["activities"]) == (11, 5)
        assert history("repository:default/acme-r1")[-1].by == f"{full.label}, removed by ana"

    def test_what_others_inferred_from_it_is_told_and_decided_anew(
        self, tool: Tool, connect: Connect, ana: User, vic: User
    ) -> None:
        tool.things = [thing(1, build_files=[]), thing(2), thing(3, build_files=[])]
        inferring = connect("git")
        synced(inferring)
        tool.things = [
            Pipeline(
                external_id="p", name="p", keys=["pipeline:c.example/p"], about=["repo:h.example/acme/r1"]
            )
        ]
        builds = connect("ci")
        synced(builds)
        assert alive("component") == {"acme-r1", "acme-r2"}
        told = removal_of(builds)
        assert (told.components, told.entities, told.records) == (1, 1, 1)
        show_to(inferring, [create_group(name="Insiders").name])
        for viewer, count in ((vic, 0), (ana, 1)):  # who does not see the other is not told of its components
            assert removal_of(builds, viewer).components == count
            assert muting_of(viewer, builds, now=timezone.now()).components == count
        assert removed(builds) == told
        assert alive("component") == {"acme-r2"}

    def test_its_problems_are_over_and_no_others(self, connect: Connect) -> None:
        connection = connect()
        for raised_by in ("connection:ct", "rule:ct", "deliveries:ct", "rule:other"):
            Problem.objects.create(
                fingerprint=raised_by, type="rule", severity="warn", raised_by=raised_by, subject_type="connection",
                subject_label="x", cause="x", message="x", first_seen_at=connection.created_at,
                last_seen_at=connection.created_at,
            )  # fmt: skip
        removed(connection)
        assert [row.raised_by for row in Problem.objects.filter(resolved_at=None)] == ["rule:other"]

    def test_what_people_said_waits_for_the_return(
        self, full: Connection, tool: Tool, connect: Connect, ben: User
    ) -> None:
        entity = Entity.objects.get(ref="component:default/a")
        override_field(user=ben, entity=entity, path="spec.owner", value="ours")
        removed(full)
        assert "a" not in alive("component")
        purged(full)
        synced(connect())
        back = Entity.objects.get(ref="component:default/a", deleted_at=None)
        assert (back.uid, back.owner) == (entity.uid, "group:default/ours")


class TestSteps:
    def test_one_that_is_killed_half_way_is_finished_by_the_tick(
        self, full: Connection, vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(turns, "PAGE", 4)
        ask(full)
        total = Connection.objects.get().moving_rows
        assert total == 16  # 11 claims, 5 activities
        drop, pages = aside.drop_claims, []

        def killed(**given: Any) -> Any:
            pages.append(len(given["external_ids"]))
            if len(pages) == 3:
                raise SystemExit
            return drop(**given)

        monkeypatch.setattr(aside, "drop_claims", killed)
        with pytest.raises(SystemExit):
            settle_connection(connection_id=full.pk)
        gone, of = queries.moves(vic, Connection.objects.all())[full.pk]
        assert (gone, of) == (sum(pages[:2]), total)
        assert 0 < gone < total
        asked: list[int] = []
        monkeypatch.setattr(
            tasks.settle_connection, "delay", lambda *, connection_id: asked.append(connection_id)
        )
        monkeypatch.setattr(
            tasks.execute_run, "delay", lambda *, run_id: pytest.fail("nothing of it is read")
        )
        monkeypatch.setattr(
            tasks.process_delivery, "delay", lambda *, connection_id: pytest.fail("nor what it was told")
        )
        tasks.tick()
        assert asked == [], "another may still be at it"
        Connection.objects.update(due_at=timezone.now())
        tasks.tick()
        tasks.tick()
        assert asked == [full.pk]
        tasks.settle_connection(connection_id=full.pk)
        assert not Connection.objects.listed().exists()
        assert not Entity.objects.filter(deleted_at=None).exists()
        assert due_to_settle(now=timezone.now() + timedelta(days=29)) == []
        assert due_to_settle(now=timezone.now() + timedelta(days=31)) == [full.pk]

    def test_no_step_holds_more_than_a_page(self, full: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turns, "PAGE", 3)
        ask(full)
        sizes: list[int] = []
        page = moving._settle_page

        def counted(connection: Connection) -> bool:
            before = queries.rows_left(connection)
            more = page(connection)
            sizes.append(before - queries.rows_left(connection))
            return more

        monkeypatch.setattr(moving, "_settle_page", counted)
        settle_connection(connection_id=full.pk)
        assert sum(sizes) == 16
        assert max(sizes) == 3

    def test_only_what_was_asked_for_goes_and_it_is_asked_once(self, full: Connection) -> None:
        settle_connection(connection_id=full.pk)
        assert Claim.objects.exists()
        ask(full)
        with pytest.raises(BeingRemoved):
            ask(full)
        assert AuditEvent.objects.filter(verb="connection.delete").count() == 1


class TestMeanwhile:
    def test_nothing_of_it_is_begun_or_changed(self, full: Connection, tool: Tool) -> None:
        held = SyncRun.objects.get().resources.get(name="things")
        ask(full)
        for act in (
            lambda: runs.request_sync(connection=full),
            lambda: runs.restore_removed(resource=held, by="ana"),
            lambda: runs.decide_guard(resource=held, remove=True, by="ana"),
            lambda: update_connection(connection=full, label="Other"),
            lambda: change_rule(connection=full, rule=rule_of(full), by="ana"),
            lambda: undo_rule(connection=full, by="ana"),
        ):
            with pytest.raises(BeingRemoved):
                act()
        with pytest.raises(NotFound):
            deliveries.accept_delivery(slug="ct", headers={}, body=b"[]", now=timezone.now())
        assert deliveries.process_deliveries(connection_id=full.pk) == 0
        assert runs.schedule_due(now=timezone.now() + timedelta(days=1)) == []

    def test_another_connections_sync_does_not_infer_from_it_again(
        self, full: Connection, tool: Tool, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask(full)
        while Claim.objects.exists():
            moving._settle_page(full)
        assert StoredRecord.objects.filter(connection=full, type="repository").exists()
        tool.things = [thing("x")]
        tool.events = []
        synced(connect("other"))
        assert alive("component") == {"acme-rx"}

    def test_what_runs_is_waited_for(self, full: Connection) -> None:
        run = runs.request_sync(connection=full)
        with pytest.raises(Conflict, match="A sync is running"):
            ask(full)
        runs.cancel_run(run=run)
        operation = OperationRun.objects.create(
            connection=full, operation="build", target_type="pipeline", target_id="things/1", params={},
            idempotency_key="k", requested_by="ana", requested_at=timezone.now(), state="running",
        )  # fmt: skip
        with pytest.raises(Conflict, match="An operation is running"):
            ask(full)
        OperationRun.objects.filter(pk=operation.pk).update(state="queued")
        ask(full)
        assert not OperationRun.objects.exists(), "what nobody began is not begun"

    def test_a_worker_that_is_done_before_the_answer_makes_it_no_failure(
        self,
        full: Connection,
        ana: User,
        as_token: Callable[..., dict[str, str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        quick = lambda connection_id: settle_connection(connection_id=connection_id)  # noqa: E731
        monkeypatch.setattr(tasks.settle_connection, "delay_on_commit", quick)
        answer = Client().delete(f"/api/v1/connections/{full.slug}/", headers=as_token(ana))
        assert (answer.status_code, answer.json()["slug"]) == (202, full.slug)
        assert Client().get(f"/api/v1/connections/{full.slug}/", headers=as_token(ana)).status_code == 404


class TestRestored:
    def test_it_comes_back_with_all_that_it_brought_and_goes_on_where_it_was(
        self, full: Connection, tool: Tool
    ) -> None:
        before = dump()
        removed(full)
        restore_connection(connection=full, by="ana", now=timezone.now())
        settle_connection(connection_id=full.pk)
        same(dump(), before)
        run = synced(full)
        assert sum(row.new + row.changed + row.removed for row in run.resources.all()) == 0
        same(dump(), before)
        assert [row.verb for row in AuditEvent.objects.filter(verb__startswith="connection.").order_by("pk")][
            -3:
        ] == ["connection.delete", "connection.undelete", "connection.sync"]

    @pytest.mark.parametrize("with_secrets", [False, True])
    def test_its_undo_is_listed_shown_and_done(
        self, full: Connection, tool: Tool, ana: User, ben: User, with_secrets: bool
    ) -> None:
        override_field(user=ben, entity=Entity.objects.get(name="a"), path="metadata.title", value="ours")
        before = dump()
        request_removal(connection=full, by="ana", now=timezone.now(), with_secrets=with_secrets)
        settle_connection(connection_id=full.pk)
        tasks.tick()
        (change,) = undo.list_changes(ana).filter(event__verb="connection.delete")
        assert not undo.list_changes(ben).filter(event__verb="connection.delete").exists()
        preview = undo.preview_undo(change=change, user=ana)
        assert "11 entities that only it spoke of return" in preview.steps[1]
        assert ("secrets" in preview.steps[-1]) is with_secrets
        undo.undo_change(change=change, user=ana)
        settle_connection(connection_id=full.pk)
        same(dump(), before)
        synced(full)
        same(dump(), before)
        (again,) = undo.list_changes(ana).filter(event__verb="connection.undelete")
        preview = undo.preview_undo(change=again, user=ana)
        assert "11 entities go" in preview.steps[1]
        assert [one.event.verb for one in preview.later] == []
        override_field(user=ben, entity=Entity.objects.get(name="a"), path="metadata.title", value="ours 2")
        preview = undo.preview_undo(change=again, user=ana)
        assert [one.event.verb for one in preview.later] == ["entity.override"]
        undo.undo_change(change=again, user=ana)
        settle_connection(connection_id=full.pk)
        assert not Entity.objects.filter(deleted_at=None).exists()
        assert not Connection.objects.listed().exists()

    def test_of_a_connection_that_is_kept_from_somebody_they_see_no_change(
        self, full: Connection, ana: User, no_access: User, roles: dict[str, Role]
    ) -> None:
        roles["viewer"].spec["verbs"] = ["connection.read", "connection.write"]
        roles["viewer"].save()
        grant(role="viewer", user=no_access)
        removed(full)
        assert undo.list_changes(no_access).count() == 1
        group = create_group(name="tools")
        set_audience(name="ct", uid=full.uid, groups=[group.pk])
        cache.clear()
        assert undo.list_changes(no_access).count() == 0
        assert undo.list_changes(ana).count() == 1

    def test_what_was_restored_or_let_go_of_is_not_undone_again(self, full: Connection, ana: User) -> None:
        removed(full)
        restore_connection(connection=full, by="ben", now=timezone.now())
        settle_connection(connection_id=full.pk)
        (change,) = undo.list_changes(ana).filter(event__verb="connection.delete")
        assert change.undone_by == "ben"
        removed(full)
        change = undo.list_changes(ana).filter(event__verb="connection.delete")[0]
        assert not change.is_undone
        with acting_as(actor_of(ana)):
            request_purge(connection=full, now=timezone.now())
        assert AuditEvent.objects.get(verb="connection.request-purge").actor_label == ana.username
        assert not undo.list_changes(ana).filter(event__verb="connection.delete").exists()
        with pytest.raises(undo.CannotUndo):
            undo.undo_change(change=change, user=ana)

    def test_its_short_name_is_kept_for_it_until_it_is_gone_for_good(
        self, full: Connection, connect: Connect
    ) -> None:
        removed(full)
        with pytest.raises(Conflict, match="can still be restored"):
            connect()
        request_purge(connection=full, now=timezone.now())
        assert not Secret.objects.exists()
        with pytest.raises(NotFound):
            restore_connection(connection=full, by="ana", now=timezone.now())
        settle_connection(connection_id=full.pk)
        connect()

    def test_it_stays_for_thirty_days(self, full: Connection) -> None:
        removed(full)
        (row,) = Connection.objects.all()
        assert row.kept_until is not None
        assert row.removal_at is not None
        assert row.kept_until - row.removal_at == KEPT_FOR == timedelta(days=30)
        settle_connection(connection_id=full.pk)
        assert AsideClaim.objects.count() == 11

    def test_secrets_can_be_forgotten_at_once(self, full: Connection) -> None:
        assert Secret.objects.exists()
        request_removal(connection=full, by="ana", now=timezone.now(), with_secrets=True)
        assert not Secret.objects.exists()

    def test_only_what_is_removed_is_restored(self, full: Connection) -> None:
        with pytest.raises(Conflict, match="is not removed"):
            restore_connection(connection=full, by="ana", now=timezone.now())
        with pytest.raises(Conflict, match="is not removed"):
            request_purge(connection=full, now=timezone.now())


def test_through_the_api_it_is_accepted_and_then_gone(
    full: Connection, ana: User, as_token: Callable[..., dict[str, str]]
) -> None:
    headers, url = as_token(ana), "/api/v1/connections/ct/"
    answer = Client().delete(url, headers=headers)
    assert (answer.status_code, answer.json()["is_removed"]) == (202, True)
    assert Client().delete(url, headers=headers).status_code == 409
    assert Client().get(url, headers=headers).json()["is_removed"] is True
    settle_connection(connection_id=full.pk)
    assert Client().get(url, headers=headers).status_code == 404
