"""What was acknowledged is taken in, once and in the order of time, whoever is killed and however often it comes."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults.running import Stack
from tests.integrations.github import REPO, GitHub, examples, play

SECRET = "what GitHub signs with"
VICTIMS = ("tasks", "web", "redis", "nothing in redis")
EACH = 10  # deliveries that a turn of `deliveries` makes


@dataclass(frozen=True)
class Delivery:
    """One delivery as GitHub sends it."""

    id: str
    event: str
    body: bytes

    def headers(self, secret: str) -> dict[str, str]:
        signature = hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/json",
            "X-GitHub-Event": self.event,
            "X-GitHub-Delivery": self.id,
            "X-Hub-Signature-256": f"sha256={signature}",
        }


def deliveries(count: int) -> Iterator[tuple[Delivery, tuple[str, str, str]]]:
    """Pull requests, runs and deployments as they go on, in the order of time, with type, id and the end of each:
    a pull request's title, else its status."""
    pull = next(one for one in examples("pull_request") if one["action"] == "opened")
    run = examples("workflow_run")[0]
    deployed = examples("deployment_status")[0]
    start = datetime(2026, 11, 1, tzinfo=UTC)

    def moment(minutes: int) -> str:
        return (start + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def one(event: str, number: int, step: int, said: dict[str, Any], end: str) -> Any:
        kind = {"pull_request": "change", "workflow_run": "run"}.get(event, "deployment")
        body = json.dumps(said).encode()
        return Delivery(f"{event}-{number}-{step}", event, body), (kind, str(1_000 + number), end)

    for number in range(count // EACH):
        same = {"id": 1_000 + number, "created_at": moment(0)}
        for step in range(5):
            said = deepcopy(pull)
            title = f"pull {number} version {step}"
            said["pull_request"] |= same | {"number": number, "title": title, "updated_at": moment(step)}
            yield one("pull_request", number, step, said, f"pull {number} version 4")
        end = ("success", "failure")[number % 2]
        steps = [("queued", None), ("in_progress", None), ("completed", end)]
        for step, (status, conclusion) in enumerate(steps):
            said = deepcopy(run)
            said["workflow_run"] |= same | {
                "run_number": number,
                "status": status,
                "conclusion": conclusion,
                "run_started_at": moment(0),
                "updated_at": moment(step),
            }
            yield one("workflow_run", number, step, said, {"success": "passed"}.get(end, "failed"))
        for step, state in enumerate(("in_progress", end)):
            said = deepcopy(deployed)
            said["deployment"] |= same
            said["deployment_status"] |= {"state": state, "created_at": moment(1 + step)}
            yield one("deployment_status", number, step, said, {"success": "deployed"}.get(end, "failed"))


@dataclass
class Sender:
    """Sends until each delivery is acknowledged, as a tool does; from several threads."""

    stack: Stack
    items: Iterator[Delivery]
    lock: threading.Lock = field(default_factory=threading.Lock)
    acknowledged: int = 0
    failed: list[str] = field(default_factory=list)

    def send(self) -> None:
        while True:
            with self.lock:
                item = next(self.items, None)
            if item is None:
                return
            end = time.monotonic() + 60
            while (status := post(self.stack, item)) != 202:
                if time.monotonic() > end:
                    self.failed.append(f"{item.id}: {status}")
                    return
                time.sleep(0.1)
            with self.lock:
                self.acknowledged += 1


def post(stack: Stack, item: Delivery, secret: str = SECRET) -> int:
    """Deliver once: the status, or 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10)
    try:
        connection.request("POST", "/hooks/hub", item.body, item.headers(secret))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


@pytest.fixture
def hub(count: int) -> Iterator[GitHub]:
    """A GitHub that is asked for the jobs of runs."""
    jobs = f"/repos/{REPO}/actions/runs/{{}}/jobs"
    with play({jobs.format(1_000 + number): ("jobs", []) for number in range(count // EACH)}) as playing:
        yield playing


@pytest.fixture
def stack_variables(hub: GitHub) -> dict[str, str]:
    return {"PORTICO_OUTBOUND_ALLOW": "127.0.0.1"}


def connect(stack: Stack, hub: GitHub) -> None:
    """Have the portal take deliveries."""
    stack.wait(stack.is_ready, 30)
    given: dict[str, Any] = {
        "slug": "hub", "label": "Hub", "connector": "github",
        "config": {**hub.settings, "webhook_secret": SECRET}, "interval": 604_800,
    }  # fmt: skip
    assert stack.request("POST", "/api/v1/connections/", given) == 201


@pytest.mark.parametrize(
    ("count", "kills"),
    [pytest.param(100, 4, id="short"), pytest.param(1_000, 20, id="long", marks=pytest.mark.full)],
)
def test_what_was_acknowledged_is_taken_in_once(stack: Stack, hub: GitHub, count: int, kills: int) -> None:
    seed = int(os.environ.get("PORTICO_TEST_SEED") or random.randrange(1 << 32))
    print(f"PORTICO_TEST_SEED={seed}")
    chance = random.Random(seed)
    connect(stack, hub)
    made = list(deliveries(count))
    items = [item for item, _end in made]
    assert len(items) == count
    assert post(stack, items[0], secret="another") == 401
    items += chance.sample(items, count // 10)
    chance.shuffle(items)
    sender = Sender(stack, iter(items))
    senders = [threading.Thread(target=sender.send) for _ in range(3)]
    for thread in senders:
        thread.start()
    for turn in range(kills):
        # All through the storm, each in its turn.
        while sender.acknowledged < turn * len(items) // kills and any(one.is_alive() for one in senders):
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        print(stack.kill(VICTIMS[turn % len(VICTIMS)], chance), "after", sender.acknowledged)
    for thread in senders:
        thread.join()
    assert sender.failed == []
    open_ones = "SELECT count(*) FROM integrations_delivery WHERE state IN ('queued', 'running')"
    stack.wait(lambda: stack.ask(open_ones) == [(0,)], 90)

    rows = stack.ask("SELECT delivery_id, state FROM integrations_delivery")
    assert sorted(rows) == sorted((item.id, "done") for item, _end in made), f"seed {seed}\n{stack.log()}"
    told = stack.ask(
        "SELECT type, external_id, CASE type WHEN 'change' THEN title ELSE status END FROM catalog_activity "
        "WHERE connection = 'hub'"
    )
    assert sorted(told) == sorted({end for _item, end in made}), f"seed {seed}"
    # Each step of a thing was taken once, and the workflow that all runs tell of was changed by none of them.
    twice = stack.ask(
        "SELECT a.type, a.external_id, t.status FROM catalog_transition t "
        "JOIN catalog_activity a ON a.id = t.activity_id "
        "WHERE a.connection = 'hub' AND t.event <> 'change.updated' GROUP BY 1, 2, 3 HAVING count(*) > 1"
    )
    assert twice == [], f"seed {seed}"
    revisions = stack.ask(
        "SELECT entity_ref, count(*) FROM catalog_revision "
        "WHERE by_key LIKE 'connection:hub/%%' GROUP BY entity_ref"
    )
    assert [count for _ref, count in revisions] == [1], f"seed {seed}"
