"""Killing any process at any time loses nothing: after a restart and the next runs the catalog says what an
undisturbed one says."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import Any

import pytest
from django.utils import timezone

from catalog.services.edit import upsert_documents
from catalog.services.render import render_dirty
from integrations.models import Connection
from integrations.services.connections import create_connection
from tests.faults.conftest import Portal, differences
from tests.faults.running import Stack
from tests.faults.upstream import Upstream, connections_to

VICTIMS = ("sync", "web", "postgres", "redis")


def _resource(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Resource",
        "metadata": {"name": f"said-{number}", "description": f"Said by a program, {number}"},
        "spec": {"type": "database", "owner": "group:default/team-svc001"},
    }


def _kill_for_a_while(stack: Stack, upstream: Upstream, plan: list[str], chance: random.Random) -> int:
    """Kill one after the other while the tool changes and programs write.

    :returns: how many documents were accepted.
    """
    accepted = 0
    stack.wait(stack.is_ready, 30)
    for victim in plan:
        # In the midst of a run, unless what is broken takes long to mend.
        end = time.monotonic() + 5
        while not stack.active() and time.monotonic() < end:
            stack.hurry()
            time.sleep(0.2)
        end = time.monotonic() + chance.uniform(0.1, 2.0)
        while time.monotonic() < end:
            for _ in range(chance.randrange(4)):
                upstream.world.change(chance)
            if stack.request("POST", "/api/v1/entities/", _resource(accepted)) in {200, 201}:
                accepted += 1
            time.sleep(0.05)
        active = stack.active()
        print(stack.kill(victim, chance), "with", active, "runs active")
    return accepted


def _expected(upstream: Upstream, portal: Portal, user: Any, accepted: int) -> list[str]:
    """What a catalog says that saw only the end, in peace."""
    for connection in connections_to(upstream.url, upstream.lines_url):
        create_connection(**connection)
    upsert_documents(user=user, documents=[_resource(number) for number in range(accepted)])
    for connection in Connection.objects.order_by("pk"):
        portal.sync_well(connection)
    render_dirty(at=timezone.now())
    return portal.facts()


@pytest.mark.django_db
@pytest.mark.usefixtures("paged")
@pytest.mark.parametrize(
    ("rounds", "seconds"),
    [pytest.param(2, 60, id="short"), pytest.param(5, 180, id="long", marks=pytest.mark.full)],
)
def test_kills_lose_nothing(
    stack: Stack,
    upstream: Upstream,
    portal: Portal,
    ana: Any,
    settings: Any,
    rounds: int,
    seconds: float,
) -> None:
    seed = int(os.environ.get("PORTICO_TEST_SEED") or random.randrange(1 << 32))
    print(f"PORTICO_TEST_SEED={seed}")
    chance = random.Random(seed)
    upstream.page, upstream.delay = 5, 0.05
    plan = [*VICTIMS * rounds, *["tasks", "beat", "nothing in redis"] * (rounds // 2)]
    chance.shuffle(plan)
    accepted = _kill_for_a_while(stack, upstream, plan, chance)

    upstream.delay = 0.0
    stack.sync_until_good(seconds)
    stack.wait(stack.is_ready, 40)
    settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.port}"]
    upstream.page = 50
    expected = _expected(upstream, portal, ana, accepted)
    assert accepted > 0
    found = stack.facts()
    assert found == expected, f"seed {seed}\n{differences(found, expected)}\n{stack.runs()}"


@pytest.mark.django_db
def test_an_operation_whose_worker_is_killed_is_not_repeated(stack: Stack, upstream: Upstream) -> None:
    stack.sync_until_good(60)
    upstream.poke_hangs = True
    stack.ask(
        "INSERT INTO integrations_operationrun (connection_id, operation, target_type, target_id, params, "
        "idempotency_key, state, requested_by, requested_at, message, url) "
        "SELECT id, 'poke', 'pipeline', 'entities/pipe-svc000', '{\"word\": \"go\"}', 'once', 'queued', 'ana', "
        "now() - interval '1 minute', '', '' FROM integrations_connection WHERE slug = 'paged'"
    )
    stack.wait(lambda: upstream.poked, 30)
    for process in stack.processes("tasks"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    stack.wait(lambda: stack.ask("SELECT state FROM integrations_operationrun") == [("unknown",)], 60)
    ((message,),) = stack.ask("SELECT message FROM integrations_operationrun")
    assert "before you repeat it" in message
    # Its message comes again, from Redis and by the tick; nobody does it again.
    time.sleep(3)
    assert upstream.poked == [{"target": "pipe-svc000", "word": "go"}]
