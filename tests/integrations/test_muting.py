"""Connections as layers: muted, what vanishes or changes its winner is told before; unmuted, all is as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from access.models import User
from access.services import create_group, set_members
from base.errors import Conflict
from catalog.models import Activity, AsideActivity, AsideClaim, Claim, Entity, Rank, Redirect
from catalog.services.edit import override_field
from catalog.services.joining import merge_into, part
from catalog.services.render import render_dirty
from integrations.models import Connection, Delivery
from integrations.records import Pipeline
from integrations.services import deliveries, runs
from integrations.services.connections import show_to
from integrations.services.moving import settle_connection
from integrations.services.muting import mute_connection, muting_of, unmute_connection
from tests.catalog.saying import claim, say
from tests.integrations.layers import dump, same
from tests.integrations.tool import Tool, document, event, synced, thing

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


def muted(connection: Connection) -> None:
    mute_connection(connection=connection, by="ana", now=timezone.now())
    settle_connection(connection_id=connection.pk)


def unmuted(connection: Connection) -> None:
    unmute_connection(connection=connection, now=timezone.now())
    settle_connection(connection_id=connection.pk)


def alive(kind: str) -> set[str]:
    return set(Entity.objects.filter(kind=kind, deleted_at=None).values_list("name", flat=True))


@pytest.fixture
def two(tool: Tool, connect: Connect) -> tuple[Connection, Connection]:
    """Two connections that speak of the same repositories, and tell of what happened to them."""
    tool.things = [thing(n, description="From the first") for n in range(3)]
    tool.events = [event(str(n), about="repo:h.example/acme/r1", status="failed") for n in range(3)]
    first = connect("first")
    synced(first)
    tool.things = [
        *[thing(n, description="From the second") for n in range(1, 5)],
        Pipeline(external_id="p", name="p", keys=["pipeline:c.example/p"], about=["repo:h.example/acme/r1"]),
        document("doc"),
    ]
    tool.events = [event(f"x{n}", about="repo:h.example/acme/r1", status="passed") for n in range(3)]
    second = connect("second")
    synced(second)
    render_dirty(at=timezone.now())
    return first, second


class TestMuted:
    def test_what_only_it_said_vanishes_and_the_next_source_wins(
        self, two: tuple[Connection, Connection], vic: User
    ) -> None:
        first, _second = two
        told = muting_of(vic, first, now=timezone.now())
        assert [entity.name for entity in told.vanishing] == ["acme-r0", "acme-r0"]
        assert told.activities == 3
        changes = {(one.entity.name, one.path): one for one in told.changes}
        change = changes["acme-r1", "metadata.description"]
        assert (change.before, change.after, change.winner) == (
            "From the first",
            "From the second",
            "SECOND",
        )
        muted(first)
        assert alive("repository") == {"acme-r1", "acme-r2", "acme-r3", "acme-r4"}
        assert Entity.objects.get(kind="repository", name="acme-r1").description == "From the second"
        assert set(Activity.objects.values_list("connection", flat=True)) == {"second"}
        assert Entity.objects.get(kind="component", name="acme-r1").last_run == "passed"

    def test_nothing_is_told_of_a_source_that_is_not_for_the_viewer(
        self, two: tuple[Connection, Connection], vic: User, ana: User
    ) -> None:
        first, second = two
        set_members(group=create_group(name="Insiders"), members=[ana])
        show_to(second, ["Insiders"])
        render_dirty(at=timezone.now())
        for viewer, expected in ((vic, False), (ana, True)):
            told = muting_of(viewer, first, now=timezone.now())
            assert any("second" in f"{one.after} {one.winner}".lower() for one in told.changes) is expected

    def test_unmuted_everything_is_as_it_was(self, two: tuple[Connection, Connection]) -> None:
        before = dump()
        for connection in two:
            muted(connection)
            assert dump() != before
            unmuted(connection)
            same(dump(), before)
        assert not AsideClaim.objects.exists()
        assert not AsideActivity.objects.exists()

    def test_both_muted_and_unmuted_in_the_other_order(self, two: tuple[Connection, Connection]) -> None:
        before = dump()
        for connection in two:
            muted(connection)
        assert not Claim.objects.exists()
        assert not Entity.objects.filter(deleted_at=None).exists()
        for connection in two:
            unmuted(connection)
        same(dump(), before)

    def test_a_sync_of_another_and_what_people_say_meanwhile_stays(
        self, two: tuple[Connection, Connection], tool: Tool, ben: User
    ) -> None:
        first, second = two
        muted(first)
        entity = Entity.objects.get(kind="repository", name="acme-r1")
        override_field(user=ben, entity=entity, path="metadata.title", value="Ours")
        tool.things = [thing(n, description="Newer") for n in range(1, 5)]
        tool.events = [event("late", about="repo:h.example/acme/r0", status="passed")]
        synced(second)
        unmuted(first)
        entity.refresh_from_db()
        assert (entity.title, entity.description) == ("Ours", "From the first")
        assert "acme-r0" in alive("repository")
        late = Activity.objects.get(external_id="late")
        assert late.subject_ref == "repository:default/acme-r0", "what waited for its subject has it now"

    def test_a_merge_and_a_parting_meanwhile_are_followed(
        self, two: tuple[Connection, Connection], ana: User
    ) -> None:
        first, _second = two
        before = dump()
        loser, winner = (Entity.objects.get(kind="repository", name=f"acme-r{n}") for n in (1, 3))
        muted(first)
        redirect = merge_into(user=ana, loser=loser, winner=winner)
        unmuted(first)
        (claim,) = Claim.objects.filter(source__key="connection:first/things", external_id="1")
        assert claim.entity_id == winner.pk
        assert Activity.objects.filter(connection="first", subject_uid=winner.uid).count() == 3
        muted(first)
        part(user=ana, redirect=redirect)
        unmuted(first)
        assert not Redirect.objects.exists()
        assert {
            name: rows for name, rows in dump().items() if name in ("Claim", "EntityKey", "Relation")
        } == {name: rows for name, rows in before.items() if name in ("Claim", "EntityKey", "Relation")}


class TestRests:
    def test_it_is_not_read_and_what_is_delivered_waits(
        self, two: tuple[Connection, Connection], tool: Tool
    ) -> None:
        first, _second = two
        muted(first)
        with pytest.raises(Conflict, match="is muted"):
            runs.request_sync(connection=first)
        Connection.objects.filter(pk=first.pk).update(due_at=timezone.now())
        assert first.pk not in {
            run.connection_id for run in first.runs.filter(pk__in=runs.schedule_due(now=timezone.now()))
        }
        Delivery.objects.create(connection=first, digest="d", body=b"[]", received_at=timezone.now())
        assert deliveries.process_deliveries(connection_id=first.pk) == 0
        unmuted(first)
        assert deliveries.process_deliveries(connection_id=first.pk) == 1
        run = synced(Connection.objects.get(pk=first.pk))
        assert run.pk

    def test_what_was_being_read_of_a_delivery_waits_too(
        self, two: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, _second = two
        before = dump()
        body = json.dumps([{"repository": {"number": 1, "description": "Told"}}])
        Delivery.objects.create(connection=first, digest="d", body=body.encode(), received_at=timezone.now())
        write = deliveries._write

        def late(*args: Any) -> Any:
            muted(first)
            return write(*args)

        monkeypatch.setattr(deliveries, "_write", late)
        deliveries.process_deliveries(connection_id=first.pk)
        assert not Claim.objects.filter(source__name=first.slug).exists()
        assert Delivery.objects.get().state == "queued"
        unmuted(first)
        same(dump(), before)
        monkeypatch.setattr(deliveries, "_write", write)
        assert deliveries.process_deliveries(connection_id=first.pk) == 1
        assert Entity.objects.get(kind="repository", name="acme-r1").description == "Told"

    def test_what_a_rule_wrote_at_that_very_moment_is_in_nobodys_way(
        self, two: tuple[Connection, Connection]
    ) -> None:
        first, _second = two
        for _ in range(2):
            muted(first)
            say(
                f"connection:{first.slug}/things", claim("repository:stray", {}, id="1", rank=Rank.CONNECTION)
            )
            unmuted(first)
            assert not AsideClaim.objects.exists()
            assert Claim.objects.get(source__key="connection:first/things", external_id="1").document

    def test_it_is_asked_for_once_and_not_while_it_is_read(self, two: tuple[Connection, Connection]) -> None:
        first, _second = two
        with pytest.raises(Conflict, match="is not muted"):
            unmute_connection(connection=first, now=timezone.now())
        run = runs.request_sync(connection=first)
        with pytest.raises(Conflict, match="A sync is running"):
            mute_connection(connection=first, by="ana", now=timezone.now())
        runs.cancel_run(run=run)
        mute_connection(connection=first, by="ana", now=timezone.now())
        with pytest.raises(Conflict, match="is muted already"):
            mute_connection(connection=first, by="ana", now=timezone.now())
