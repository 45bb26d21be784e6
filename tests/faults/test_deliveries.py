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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults.running import Stack
from tests.integrations.github import examples

SECRET = "what GitHub signs with"
VICTIMS = ("tasks", "web", "redis", "nothing in redis")


@dataclass(frozen=True)
class Delivery:
    """One delivery as GitHub sends it."""

    id: str
    body: bytes

    def headers(self, secret: str) -> dict[str, str]:
        signature = hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/json",
            "X-GitHub-Event": "pull_request",
            "X-GitHub-Delivery": self.id,
            "X-Hub-Signature-256": f"sha256={signature}",
        }


def deliveries(count: int, chance: random.Random) -> tuple[list[Delivery], dict[str, str]]:
    """Changes of pull requests in no order, some twice, and the title that each has in the end."""
    example = next(one for one in examples("pull_request") if one["action"] == "opened")
    start = datetime(2026, 11, 1, tzinfo=UTC)
    made, titles = [], {}
    for number in range(count // 5):
        for version in range(5):
            said = json.loads(json.dumps(example))
            pull = said["pull_request"]
            pull |= {"id": 1_000 + number, "number": number, "title": f"pull {number} version {version}"}
            pull["updated_at"] = (start + timedelta(minutes=version)).isoformat()
            titles[str(pull["id"])] = pull["title"]
            made.append(Delivery(f"{number}-{version}", json.dumps(said).encode()))
    made += chance.sample(made, count // 10)
    chance.shuffle(made)
    return made, titles


def deliver(stack: Stack, items: Iterator[Delivery], lock: threading.Lock, failed: list[str]) -> None:
    """Send until each is acknowledged, as a tool does."""
    while True:
        with lock:
            item = next(items, None)
        if item is None:
            return
        end = time.monotonic() + 60
        while (status := _post(stack, item)) != 202:
            if time.monotonic() > end:
                failed.append(f"{item.id}: {status}")
                break
            time.sleep(0.1)


def _post(stack: Stack, item: Delivery, secret: str = SECRET) -> int:
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


@pytest.mark.parametrize(
    ("count", "kills"),
    [pytest.param(100, 4, id="short"), pytest.param(1_000, 16, id="long", marks=pytest.mark.full)],
)
def test_what_was_acknowledged_is_taken_in_once(stack: Stack, count: int, kills: int) -> None:
    seed = int(os.environ.get("PORTICO_TEST_SEED") or random.randrange(1 << 32))
    print(f"PORTICO_TEST_SEED={seed}")
    chance = random.Random(seed)
    stack.wait(stack.is_ready, 30)
    given: dict[str, Any] = {
        "slug": "hub", "label": "Hub", "connector": "github",
        "config": {"owners": ["Codertocat"], "token": "none", "webhook_secret": SECRET},
    }  # fmt: skip
    assert stack.request("POST", "/api/v1/connections/", given) == 201
    made, titles = deliveries(count, chance)
    assert _post(stack, made[0], secret="another") == 401
    failed: list[str] = []
    items, lock = iter(made), threading.Lock()
    senders = [threading.Thread(target=deliver, args=(stack, items, lock, failed)) for _ in range(3)]
    for sender in senders:
        sender.start()
    for _kill in range(kills):
        time.sleep(chance.uniform(0.2, 1.5))
        print(stack.kill(chance.choice(VICTIMS), chance))
    for sender in senders:
        sender.join()
    assert failed == []
    stack.wait(
        lambda: stack.ask(
            "SELECT count(*) FROM integrations_delivery WHERE state IN ('queued', 'running')"
        ) == [(0,)],
        60,
    )  # fmt: skip
    states = dict(stack.ask("SELECT state, count(*) FROM integrations_delivery GROUP BY state"))
    assert states == {"done": len({item.id for item in made})}, f"seed {seed}\n{stack.log()}"
    found = stack.ask("SELECT external_id, title FROM catalog_activity WHERE connection = 'hub'")
    assert dict(found) == titles
    assert len(found) == len(titles)
