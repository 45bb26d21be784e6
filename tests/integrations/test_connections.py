"""Connections as a whole: previewed, tested, listed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access.models import AuditEvent, User
from base.errors import InvalidInput
from integrations.contract import Refused
from integrations.errors import AuthFailed, SourceUnavailable
from integrations.models import Connection
from integrations.services import connections as service
from tests.integrations.tool import Settings, Tool, event, thing

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


def preview() -> service.Preview:
    return service.preview_config(connector="controlled", config=Settings())


def ids(shown: service.Preview) -> list[str]:
    return [row.external_id for row in shown.rows]


class TestPreview:
    def test_what_is_broken_stands_beside_what_is_not(self, tool: Tool, connect: Connect) -> None:
        tool.things = [thing(1), Refused(external_id="2", reason="odd"), SourceUnavailable("One is gone.")]
        tool.events = [event("e")]
        shown = preview()
        assert ids(shown) == ["1", "2", "e"]
        assert shown.errors == ["Things: One is gone."]

    def test_a_bug_of_a_connector_is_told_and_not_its_words(self, tool: Tool, connect: Connect) -> None:
        tool.things = [thing(1), RuntimeError("private")]
        tool.events = [event("e")]
        shown = preview()
        assert ids(shown) == ["1", "e"]
        assert len(shown.errors) == 1
        assert "private" not in shown.errors[0]

    def test_who_is_not_let_in_asks_no_further(self, tool: Tool, connect: Connect) -> None:
        tool.things = [AuthFailed("No.")]
        assert preview() == service.Preview([], ["Things: No."])
        assert tool.since == []

    def test_what_several_lists_say_alike_is_told_once(self, tool: Tool, connect: Connect) -> None:
        tool.things = tool.events = [SourceUnavailable("Gone.")]
        assert preview().errors == ["Things, Events: Gone."]

    def test_a_slow_tool_shows_what_came_in_time(
        self, tool: Tool, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "PREVIEW_SECONDS", 0.2)
        tool.things = [thing(1), lambda: asyncio.sleep(30), thing(2)]
        shown = preview()
        assert ids(shown) == ["1"]
        assert "stopped after" in shown.errors[0]

    def test_somebody_waits_for_it(self) -> None:
        assert max(service.CHECK_SECONDS, service.PREVIEW_SECONDS) <= 20


def test_a_test_is_on_record(tool: Tool, connect: Connect) -> None:
    service.check_connection(connection=connect(config={"token": "good"}))
    assert AuditEvent.objects.get(verb="connection.check").changes == {"ok": True}


def test_the_list_costs_the_same_for_many(
    tool: Tool, connect: Connect, ana: User, as_token: Callable[..., dict[str, str]]
) -> None:
    headers = as_token(ana)

    def asked() -> tuple[int, list[Any]]:
        with CaptureQueriesContext(database) as captured:
            answer = Client().get("/api/v1/connections/", headers=headers)
        return len(captured), answer.json()["results"]

    connect("first", config={"token": "good"})
    asked()
    before, _rows = asked()
    for number in range(6):
        connect(f"c{number}", config={"token": "good"} if number % 2 else {})
    after, rows = asked()
    assert after == before
    assert {row["slug"]: row["secrets"] for row in rows} == {
        "first": ["token"],
        **{f"c{number}": ["token"] if number % 2 else [] for number in range(6)},
    }


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput) as refused:
        service.validate_config(
            "records", {"location": "https://ana:s3cret@tool.example/x", "tokken": "s3cret"}
        )
    by_path = {error.path: error for error in refused.value.errors or []}
    assert "fields of their own" in by_path["/location"].message
    assert set(by_path) == {"/location", "/tokken"}
    assert "s3cret" not in str([error.as_dict() for error in by_path.values()])
    for address in ("ssh://git@git.acme.example/pay", "git@git.acme.example:pay", "https://a.example/?at=@x"):
        service.validate_config("git", {"repositories": [address]})
