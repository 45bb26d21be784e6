"""Kettle against its stand-in: a connector that was written by following the documentation alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from integrations.contract import AuthFailed
from integrations.records import DeploymentStatus
from tests.docs.kettle import server
from tests.docs.kettle.connector import Kettle
from tests.integrations.reading import read, use


@pytest.fixture
def settings_of_kettle() -> Iterator[dict[str, str]]:
    """A running Kettle with four deployments, of which one still goes on."""
    phases = ["rolled-out", "broken", "rolled-out", "rolling"]
    server.Kettle.deployments = [server.deployment(number, phase) for number, phase in enumerate(phases)]
    listening = ThreadingHTTPServer(("127.0.0.1", 0), server.Kettle)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield {"base_url": f"http://127.0.0.1:{listening.server_port}", "key": server.KEY}
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_environments(settings_of_kettle: dict[str, str]) -> None:
    found = read(Kettle, settings_of_kettle, "environments")
    assert [(record.name, record.stage) for record in found.records] == [
        ("staging", "test"),
        ("production", "prod"),
    ]


def test_deployments_go_on_where_the_last_sync_ended(settings_of_kettle: dict[str, str]) -> None:
    first = read(Kettle, settings_of_kettle, "deployments")
    assert [record.status for record in first.records] == [
        DeploymentStatus.DEPLOYED, DeploymentStatus.FAILED, DeploymentStatus.DEPLOYED, DeploymentStatus.DEPLOYING,
    ]  # fmt: skip
    server.Kettle.deployments[3] = server.deployment(3)
    server.Kettle.deployments.append(server.deployment(4, "molten"))
    second = read(Kettle, settings_of_kettle, "deployments", first.marks[-1])
    assert [(r.external_id, r.status) for r in second.records] == [("d-0003", DeploymentStatus.DEPLOYED)]
    assert [refusal.external_id for refusal in second.refused] == ["d-0004"]


def test_a_wrong_key(settings_of_kettle: dict[str, str]) -> None:
    wrong = {**settings_of_kettle, "key": "cold"}
    with pytest.raises(AuthFailed):
        read(Kettle, wrong, "environments")
    health = use(Kettle, wrong, Kettle.check)
    assert not health.ok


def test_the_key_is_in_order(settings_of_kettle: dict[str, str]) -> None:
    health = use(Kettle, settings_of_kettle, Kettle.check)
    assert [(check.label, check.ok) for check in health.checks] == [("Signed in as portal", True)]
