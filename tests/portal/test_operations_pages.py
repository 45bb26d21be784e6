"""Operations in the browser: offered beside a run, asked for, done, and told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access.models import User
from catalog.services.render import render_dirty
from integrations.models import Connection, OperationRun
from integrations.records import Pipeline
from integrations.services.connections import update_connection
from integrations.services.operations import execute_operation
from tests.integrations.tool import NOW, Tool, event, synced

pytestmark = pytest.mark.django_db
PIPELINE = "/catalog/default/pipeline/build"


@pytest.fixture
def farm(tool: Tool, connect: Callable[..., Connection]) -> Connection:
    """A tool with a pipeline and two runs, of which one is over; operations are on."""
    tool.things = [Pipeline(external_id="7", name="build", keys=["pipeline:ci.example/1"])]
    tool.events = [event("over", title="build", number="1"), event("still", status="running", number="2")]
    connection = connect(slug="farm")
    update_connection(connection=connection, allows_operations=True)
    synced(connection)
    render_dirty(at=NOW)
    return connection


def words(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def links(client: Client, url: str) -> list[str]:
    page = client.get(url).content.decode()
    return [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]*/run\?[^"]*)"', page)]


@pytest.mark.parametrize("url", [f"{PIPELINE}?tab=activity", PIPELINE])
def test_a_run_that_is_over_can_be_done_again_beside_it(
    farm: Connection, browse: Callable[[User], Client], ben: User, vic: User, url: str
) -> None:
    again = [link for link in links(browse(ben), url) if "operation=again" in link]
    assert again
    assert all("target=events%2Fover" in link for link in again)
    assert links(browse(vic), url) == []


def test_it_is_asked_for_done_and_told(
    farm: Connection,
    tool: Tool,
    browse: Callable[[User], Client],
    ben: User,
) -> None:
    client = browse(ben)
    url = next(link for link in links(client, PIPELINE) if "operation=build" in link)
    assert client.post(url, {"branch": "", "key": "k"}).status_code == 422
    page = client.post(url, {"branch": "next", "key": "k1"})["Location"]
    assert client.post(url, {"branch": "next", "key": "k1"})["Location"] == page  # a double click
    assert OperationRun.objects.count() == 1
    said = client.get(page)
    assert "Queued" in words(said)
    assert 'hx-trigger="every 2s"' in said.content.decode()
    execute_operation(operation_id=OperationRun.objects.get().pk)
    said = client.get(page)
    assert "Done" in words(said)
    assert "Building next." in words(said)
    assert 'href="https://ci.example/1"' in said.content.decode()
    assert "hx-trigger" not in said.content.decode().partition('id="main"')[2]
    listed = words(client.get("/connections/farm/operations"))
    assert "Build: build" in listed
    assert "Building next." in listed


def test_a_failure_says_why(farm: Connection, browse: Callable[[User], Client], ben: User) -> None:
    client = browse(ben)
    url = next(link for link in links(client, PIPELINE) if "operation=build" in link)
    page = client.post(url, {"branch": "broken", "key": "k"})["Location"]
    execute_operation(operation_id=OperationRun.objects.get().pk)
    assert "Failed" in words(client.get(page))
    assert "An internal error" in words(client.get(page))


def test_what_is_done_beyond_what_one_may_see_is_not_there(
    farm: Connection, browse: Callable[[User], Client], ben: User, cleo: User
) -> None:
    client = browse(ben)
    url = next(link for link in links(client, PIPELINE) if "operation=build" in link)
    page = client.post(url, {"branch": "next", "key": "k"})["Location"]
    assert browse(cleo).get(page).status_code == 404
    assert browse(cleo).get("/connections/farm/operations").status_code == 404
    assert client.get("/connections/farm/operations/999999").status_code == 404


def test_the_list_costs_the_same_for_one_as_for_many(
    farm: Connection, browse: Callable[[User], Client], ben: User
) -> None:
    client, costs = browse(ben), []
    url = next(link for link in links(client, PIPELINE) if "operation=build" in link)
    for count in (1, 12):
        for number in range(count):
            client.post(url, {"branch": "next", "key": f"{count}-{number}"})
        client.get("/connections/farm/operations")
        with CaptureQueriesContext(connection) as captured:
            client.get("/connections/farm/operations")
        costs.append(len(captured))
    assert costs[0] == costs[1]
