import threading
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, transaction
from django.http import HttpResponse
from pydantic import SecretStr

from access.actors import Actor, acting_as, actor_of, client_address, current_actor, system
from access.middleware import RequestContextMiddleware
from access.models import AuditEvent
from access.services import Subject, authenticate_token, create_token, differences, record_audit


def test_a_write_is_recorded_with_who_and_what(ana, vic):
    event = record_audit("user.update", vic, changes={"name": ["Vic", "Victor"]}, actor=ana)
    event.refresh_from_db()
    assert (event.actor_type, event.actor_uid, event.actor_label) == ("user", str(ana.pk), "ana")
    assert (event.subject_type, event.subject_uid, event.subject_label) == ("user", str(vic.pk), "vic")
    assert event.changes == {"name": ["Vic", "Victor"]}


def test_a_token_is_told_from_its_person(vic):
    user = authenticate_token(create_token(user=vic, name="ci").text)
    actor = actor_of(user)
    assert (actor.type, actor.uid) == ("token", str(vic.pk))
    assert "ci" in actor.label
    assert user.token.prefix in actor.label


def test_who_acts(db):
    assert current_actor() == Actor("system", "", "Portico")
    with acting_as(system("create_token")):
        assert record_audit("x.y").actor_label == "create_token"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(current_actor()))
        thread.start()
        thread.join()
        assert seen == [system("Portico")]  # what one thread does is not another's doing
    assert current_actor().label == "Portico"


def test_a_request_gives_person_id_and_address(ana, rf):
    def view(request):
        record_audit("page.update", Subject("page", "home", "Home"))
        return HttpResponse()

    request = rf.get("/", headers={"X-Request-ID": "abcdef-12345678"}, REMOTE_ADDR="198.51.100.7")
    request.user = ana
    response = RequestContextMiddleware(view)(request)
    event = AuditEvent.objects.get(verb="page.update")
    assert response["X-Request-ID"] == event.request_id == "abcdef-12345678"
    assert (event.actor_label, event.ip) == ("ana", "198.51.100.7")
    assert current_actor().label == "Portico"


def test_an_address_is_one_or_none(rf):
    assert client_address(rf.get("/", REMOTE_ADDR="fe80::1%eth0")) == "fe80::1"
    assert client_address(rf.get("/", REMOTE_ADDR="")) is None
    assert client_address(rf.get("/", REMOTE_ADDR="x; drop table")) is None


@pytest.mark.parametrize("write", ["update", "delete"])
def test_the_log_only_grows(db, write):
    record_audit("x.y")
    rows = AuditEvent.objects.all()
    with pytest.raises(DatabaseError, match="only grows"), transaction.atomic():
        rows.update(verb="z") if write == "update" else rows.delete()
    assert AuditEvent.objects.get().verb == "x.y"


def test_no_secret_gets_in(db):
    text = "po_" + "a" * 43
    event = record_audit(
        "connection.update",
        changes={
            "token": ["old-secret", "new-secret"],
            "config": {"client_secret": "old-secret", "inner": [{"api_key": "new-secret", "api-key": 7}]},
            "password": {"deep": ["old-secret"]},
            "url": "https://user:old-secret@git.acme.example/x",
            "note": f"use {text} please",
            "sealed_by_us": "gAAAAAB" + "x" * 60,
            "value": SecretStr("new-secret"),
            "header": "Authorization: Bearer old-secret",
        },
    )
    event.refresh_from_db()
    recorded = str(event.changes)
    for secret in ("old-secret", "new-secret", text, "gAAAAAB", " 7"):
        assert secret not in recorded
    assert event.changes["note"] == "use *** please"
    assert event.changes["url"] == "https://***@git.acme.example/x"


def test_everything_that_changes_can_be_written_down(db):
    event = record_audit(
        "x.y",
        changes={
            "when": [None, datetime(2026, 3, 1, tzinfo=UTC)],
            "share": [0.5, float("nan")],
            "tags": {"b"},
            "is_paused": [False, True],
            "key": "repo:git.acme.example/pay",
            "long": "x" * 10_000,
            5: "five",
        },
    )
    event.refresh_from_db()
    assert event.changes["when"] == [None, "2026-03-01 00:00:00+00:00"]
    assert event.changes["share"] == [0.5, "nan"]
    assert event.changes["is_paused"] == [False, True]
    assert event.changes["key"] == "repo:git.acme.example/pay"
    assert event.changes["5"] == "five"
    assert len(event.changes["long"]) < 2_100


def test_differences():
    assert differences({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {"a": [1, None], "b": [2, 3], "c": [None, 4]}
    assert differences({"a": 1}, {"a": 1}) == {}
