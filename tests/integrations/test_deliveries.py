"""Deliveries by webhook: proved before they are read, stored before they are acknowledged, taken in once."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone
from kombu.exceptions import OperationalError

from access.models import AuditEvent
from base.errors import Conflict
from catalog.models import Activity, Entity, Problem
from integrations.models import Connection, Delivery
from integrations.services import deliveries
from integrations.services.connections import update_connection
from integrations.services.deliveries import (
    ATTEMPTS,
    KEPT,
    LEASE,
    forget_old_deliveries,
    lost_deliveries,
    process_deliveries,
    replay,
)
from integrations.tasks import process_delivery, tick
from integrations.writing import RecordWriter
from tests.integrations.tool import NOW, Tool, synced, thing

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db

SECRET = "a secret of the tool"


@pytest.fixture
def farm(tool: Tool, connect: Connect) -> Connection:
    """A connection that takes deliveries."""
    return connect(config={"webhook_secret": SECRET})


def send(words: Any, *, secret: str = SECRET, id: str = "", slug: str = "ct", **more: str) -> Any:
    """Deliver as the tool does."""
    body = words if isinstance(words, bytes) else json.dumps(words, default=str).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-signature": signature, "x-delivery": id or uuid.uuid4().hex, "x-kind": "push"} | {
        name.replace("_", "-"): value for name, value in more.items()
    }
    return Client().post(f"/hooks/{slug}", body, content_type="application/json", headers=headers)


def take_in(connection: Connection) -> int:
    return process_deliveries(connection_id=connection.pk)


def repository(number: int, *, at: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {"repository": {"number": number, "as_of": (at or timezone.now()).isoformat(), **more}}


def alive() -> set[str]:
    return set(Entity.objects.filter(deleted_at=None, kind="repository").values_list("name", flat=True))


class TestTheDoor:
    @pytest.mark.parametrize(
        "more",
        [
            {"secret": "another"},
            {"x_signature": ""},
            {"x_signature": "sha256="},
            {"x_signature": "sha256=é"},
            {"x_signature": "md5=00"},
        ],
    )
    def test_without_the_right_signature_nothing_is_read(
        self, farm: Connection, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = send(b"\xff\x00 no JSON", **more)
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
        assert "secret" in answer.json()["detail"]
        assert SECRET not in answer.content.decode()
        assert not Delivery.objects.exists()

    def test_without_a_secret_there_is_no_door(self, tool: Tool, connect: Connect) -> None:
        connect()
        connect("quiet", config={"webhook_secret": ""})
        answers = [
            send([], slug=slug, secret=secret) for slug in ("ct", "quiet", "nothing") for secret in ("", "x")
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content.partition(b'"instance"')[0] for answer in answers}) == 1

    def test_a_form_is_taken_as_it_came(self, farm: Connection) -> None:
        body = b"payload=%5B%5D"
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        answer = Client().post(
            "/hooks/ct",
            body,
            content_type="application/x-www-form-urlencoded",
            headers={"x-signature": signature},
        )
        assert answer.status_code == 202
        assert bytes(Delivery.objects.get().body) == body

    def test_only_a_post_is_a_delivery(self, farm: Connection) -> None:
        assert Client().get("/hooks/ct").status_code == 405

    def test_what_is_too_large_is_refused(self, farm: Connection, settings: Any) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        assert send(["x" * 200]).status_code == 413

    def test_it_is_stored_and_acknowledged_and_a_worker_is_asked(
        self, farm: Connection, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
    ) -> None:
        asked: list[Any] = []
        monkeypatch.setattr(process_delivery, "apply_async", lambda **given: asked.append(given["kwargs"]))
        with django_capture_on_commit_callbacks(execute=True):
            answer = send([repository(1)], id="d1")
        assert answer.status_code == 202
        assert answer.json() == {"delivery": "d1", "repeated": False}
        assert asked == [{"connection_id": farm.pk}]
        row = Delivery.objects.get()
        assert (row.state, row.event, row.headers) == ("queued", "push", {"x-kind": "push"})
        assert "repository" in bytes(row.body).decode()

    def test_one_worker_is_asked_for_what_comes_at_once(
        self, farm: Connection, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
    ) -> None:
        asked: list[Any] = []
        monkeypatch.setattr(process_delivery, "apply_async", lambda **given: asked.append(given["kwargs"]))

        def sent(number: int) -> int:
            asked.clear()
            with django_capture_on_commit_callbacks(execute=True):
                assert send([repository(number)]).status_code == 202
            return len(asked)

        assert [sent(number) for number in range(3)] == [1, 0, 0]
        # Who does not come for a second may have been lost, and what is put off is for later.
        Delivery.objects.update(received_at=timezone.now() - timedelta(seconds=2))
        assert sent(3) == 1
        Delivery.objects.update(not_before=timezone.now() + timedelta(minutes=1))
        assert [sent(number) for number in (4, 5)] == [1, 0]
        take_in(farm)
        assert sent(6) == 1

    def test_what_comes_as_its_connection_goes_finds_no_door(
        self, farm: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_a: Any, **_k: Any) -> None:
            raise IntegrityError

        monkeypatch.setattr(Delivery, "save", gone)
        assert send([repository(1)]).status_code == 404

    def test_without_redis_it_is_taken_in_by_the_tick(
        self, farm: Connection, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
    ) -> None:
        def gone(**_given: Any) -> None:
            raise OperationalError("no Redis")

        monkeypatch.setattr(process_delivery, "apply_async", gone)
        with django_capture_on_commit_callbacks(execute=True):
            assert send([repository(1)]).status_code == 202
        assert lost_deliveries(now=timezone.now()) == []
        assert lost_deliveries(now=timezone.now() + timedelta(seconds=10)) == [farm.pk]
        Delivery.objects.update(received_at=timezone.now() - timedelta(seconds=10))
        monkeypatch.setattr(process_delivery, "delay", lambda **given: process_delivery(**given))
        tick()
        assert alive() == {"acme-r1"}


class TestOnce:
    def test_what_comes_twice_is_taken_in_once_whatever_id_it_is_given(self, farm: Connection) -> None:
        words = [repository(1)]
        assert not send(words, id="d1").json()["repeated"]
        assert send(words, id="d1").json()["repeated"]
        assert take_in(farm) == 1
        gone = [{"gone": 1, "as_of": timezone.now()}]
        assert not send(gone, id="d2").json()["repeated"]
        take_in(farm)
        send([repository(1)], id="d3")
        take_in(farm)
        # Who has overheard a delivery has its proof; the id beside it proves nothing.
        assert send(gone, id="d4").json()["repeated"]
        assert take_in(farm) == 0
        assert alive() == {"acme-r1"}

    def test_without_an_id_the_same_words_are_the_same_delivery(self, farm: Connection) -> None:
        words = [repository(1)]
        assert [send(words, x_delivery="").json()["repeated"] for _ in range(3)] == [False, True, True]

    def test_ids_are_each_connections_own(self, farm: Connection, connect: Connect) -> None:
        connect("other", config={"webhook_secret": SECRET})
        assert not send([], id="d").json()["repeated"]
        assert not send([], id="d", slug="other").json()["repeated"]

    def test_a_worker_that_was_lost_is_followed_by_another(self, farm: Connection) -> None:
        send([repository(1)])
        Delivery.objects.update(state=Delivery.State.RUNNING, attempts=1, lease_until=timezone.now() + LEASE)
        assert take_in(farm) == 0
        Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        assert lost_deliveries(now=timezone.now()) == [farm.pk]
        assert take_in(farm) == 1
        assert alive() == {"acme-r1"}

    def test_what_is_written_and_that_it_is_done_go_together(
        self, farm: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        send([repository(1)])

        def killed(*_a: Any, **_k: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(deliveries, "_close", killed)
            with pytest.raises(KeyboardInterrupt):
                take_in(farm)
        assert alive() == set()
        Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        take_in(farm)
        assert alive() == {"acme-r1"}


class TestOrder:
    def test_of_two_words_on_a_thing_the_newer_stays_whichever_came_first(self, farm: Connection) -> None:
        now = timezone.now()
        for in_one_batch in (True, False):
            send([repository(1, at=now - timedelta(minutes=1), description="new")])
            if not in_one_batch:
                take_in(farm)
            send([repository(1, at=now - timedelta(minutes=5), description="old")])
            take_in(farm)
            entity = Entity.objects.get(kind="repository", deleted_at=None)
            assert entity.description == "new"

    def test_what_was_deleted_is_not_brought_back_by_older_word(self, farm: Connection) -> None:
        now = timezone.now()
        send([{"gone": 1, "as_of": now - timedelta(minutes=1)}])
        take_in(farm)
        send([repository(1, at=now - timedelta(minutes=2))])
        take_in(farm)
        assert alive() == set()
        send([repository(1, at=now)])
        take_in(farm)
        assert alive() == {"acme-r1"}
        send([{"gone": 1, "as_of": now - timedelta(minutes=3)}])
        take_in(farm)
        assert alive() == {"acme-r1"}

    def test_older_word_than_the_last_pass_changes_nothing(self, farm: Connection, tool: Tool) -> None:
        tool.things = [thing(1, description="as it is")]
        synced(farm)
        synced(farm)  # unchanged: what it wrote still bears the time of the first pass
        first, second = (run.resources.get(name="things") for run in farm.runs.order_by("pk"))
        between = first.started_at + (second.started_at - first.started_at) / 2
        send([repository(1, at=between, description="as it was between")])
        take_in(farm)
        assert Entity.objects.get(kind="repository").description == "as it is"
        send([repository(1, description="as it became")])
        take_in(farm)
        assert Entity.objects.get(kind="repository").description == "as it became"

    def test_a_listing_that_was_asked_for_before_does_not_bring_back_what_went(
        self, farm: Connection, tool: Tool
    ) -> None:
        tool.things = [thing(1), thing(2)]
        synced(farm)
        asked_at = timezone.now()
        send([{"gone": 2, "as_of": timezone.now()}])
        take_in(farm)
        writer = RecordWriter(
            connection=farm, resource="things", by="t", now=timezone.now(), read_at=asked_at
        )
        writer.write([thing(2)])
        assert alive() == {"acme-r1"}
        synced(farm)
        assert alive() == {"acme-r1", "acme-r2"}, "what is listed after that is there"

    def test_a_run_only_moves_forward(self, farm: Connection) -> None:
        for status in ("passed", "running", "queued"):
            send([{"run": {"id": "7", "status": status}}])
            take_in(farm)
        assert Activity.objects.get().status == "passed"


class TestFailing:
    def test_a_tool_that_cannot_be_asked_is_asked_again_and_given_up_at_last(
        self, farm: Connection, tool: Tool
    ) -> None:
        send([{"fail": "the tool is away"}], id="bad")
        send([repository(1)], id="good")
        pauses = []
        for _attempt in range(ATTEMPTS):
            take_in(farm)
            row = Delivery.objects.get(delivery_id="bad")
            if row.state == "queued":
                pauses.append((row.not_before - timezone.now()).total_seconds())
                assert take_in(farm) == 0  # not before its time
            Delivery.objects.filter(delivery_id="bad").update(not_before=timezone.now())
        assert alive() == {"acme-r1"}
        assert pauses == sorted(pauses)
        assert pauses[-1] > 100
        row = Delivery.objects.get(delivery_id="bad")
        assert (row.state, row.message) == ("dead", "the tool is away")
        assert Problem.objects.get(type="delivery", resolved_at=None).detail["count"] == 1

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (b"{ no JSON", "The delivery is no JSON"),
            ([{"refused": "it has no name"}], "it has no name"),
            ([{"repository": {}}], "another form"),
            ([{"repository": "<b>"}], "another form"),
            (7, "another form"),
        ],
    )
    def test_what_cannot_be_read_is_given_up_at_once(self, farm: Connection, words: Any, reason: str) -> None:
        send(words)
        take_in(farm)
        row = Delivery.objects.get()
        assert row.state == "dead"
        assert reason in row.message

    def test_a_bug_of_ours_is_tried_again_and_says_no_more_than_that(self, farm: Connection) -> None:
        send(["break"])
        take_in(farm)
        row = Delivery.objects.get()
        assert (row.state, row.attempts) == ("queued", 1)
        assert "a bug" not in row.message

    def test_what_was_given_up_is_taken_in_again_by_a_person_or_by_the_tool(self, farm: Connection) -> None:
        for id in ("1", "2", "3"):
            send(b"{" + id.encode(), id=id)
        take_in(farm)
        Delivery.objects.filter(delivery_id="1").update(body=json.dumps([repository(1)]).encode())
        first = Delivery.objects.get(delivery_id="1")
        assert replay(connection=farm, delivery_ids=[first.pk]) == 1
        take_in(farm)
        assert alive() == {"acme-r1"}
        with pytest.raises(Conflict):
            replay(connection=farm, delivery_ids=[first.pk])
        assert not send(b"{2", id="2").json()["repeated"]
        assert replay(connection=farm) == 1
        assert AuditEvent.objects.filter(verb="connection.replay").count() == 2
        Delivery.objects.update(body=b"[]")
        take_in(farm)
        assert not Problem.objects.filter(type="delivery", resolved_at=None).exists()

    def test_a_connection_whose_settings_cannot_be_used_keeps_what_came(self, farm: Connection) -> None:
        send([repository(1)])
        Connection.objects.update(config={"place": ["no text"]})
        take_in(farm)
        assert Delivery.objects.get().state == "queued"
        update_connection(connection=Connection.objects.get(), config={"place": "here"})
        Delivery.objects.update(not_before=None)
        take_in(farm)
        assert alive() == {"acme-r1"}

    def test_old_ones_are_let_go(self, farm: Connection) -> None:
        for id, state in (("a", "done"), ("b", "dead"), ("c", "queued")):
            send([{"nothing": id}], id=id)
            Delivery.objects.filter(delivery_id=id).update(state=state, finished_at=NOW)
        forget_old_deliveries(now=NOW + KEPT[Delivery.State.DONE] + timedelta(minutes=1))
        assert set(Delivery.objects.values_list("delivery_id", flat=True)) == {"b", "c"}
        forget_old_deliveries(now=NOW + KEPT[Delivery.State.DEAD] + timedelta(minutes=1))
        assert set(Delivery.objects.values_list("delivery_id", flat=True)) == {"c"}


class TestTheRest:
    def test_what_is_left_out_by_a_rule_stays_out(self, farm: Connection) -> None:
        Connection.objects.update(rules={"ignored": {"patterns": ["acme/r1"]}})
        send([repository(1), repository(2)])
        take_in(farm)
        assert alive() == {"acme-r2"}

    def test_a_sweep_spares_what_was_told_meanwhile(self, farm: Connection, tool: Tool) -> None:
        tool.things = [thing(1)]
        synced(farm)
        send([repository(2)])
        take_in(farm)
        run = farm.runs.get().resources.get(name="things")
        assert run.started_at < farm.records.get(external_id="2").touched_at
        assert alive() == {"acme-r1", "acme-r2"}
        synced(farm)
        assert alive() == {"acme-r1"}, "a pass that began later and does not show it takes it away"

    def test_the_secret_is_nowhere(self, farm: Connection, caplog: pytest.LogCaptureFixture) -> None:
        send(["break"])
        take_in(farm)
        row = Delivery.objects.get()
        assert SECRET not in caplog.text + str(row.headers) + row.message + str(bytes(row.body))
