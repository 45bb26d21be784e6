"""Deliveries at a steady pace: how soon they are accepted, and how soon the API shows what they tell."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from tests.faults.running import Stack, home, port, run_stack  # noqa: F401 - fixtures
from tests.integrations.github import REPO, GitHub, examples, play

PACE = int(os.environ.get("PORTICO_PERF_PACE", "50"))  # deliveries a second
SECONDS = int(os.environ.get("PORTICO_PERF_SECONDS", "60"))
SECRET = "what GitHub signs with"
POLL = 0.1  # between two looks; a time until visible is at most so much too long
STATUSES = ("queued", "running", "passed")

Told = tuple[str, str, str]  # type, id and status


@dataclass
class Watch:
    """When each thing was sent, acknowledged and first seen, in seconds of one clock."""

    due: dict[Told, float] = field(default_factory=dict)
    accepted: dict[Told, float] = field(default_factory=dict)
    seen: dict[Told, float] = field(default_factory=dict)

    def note(self, rows: list[dict[str, Any]], at: float) -> None:
        """Note what a list shows; what has gone on has been seen before."""
        for row in rows:
            reached = STATUSES.index(row["status"]) if row["type"] == "run" else 0
            steps = STATUSES[: reached + 1] if row["type"] == "run" else ("open",)
            for status in steps:
                self.seen.setdefault((row["type"], row["external_id"], status), at)

    @property
    def unseen(self) -> int:
        return len(self.accepted.keys() - self.seen.keys())


def told(count: int) -> Iterator[tuple[Told, str, dict[str, Any]]]:
    """What happens, in order: of five deliveries two are of new pull requests, three the steps of a run."""
    pull = next(one for one in examples("pull_request") if one["action"] == "opened")
    run = examples("workflow_run")[0]
    for number in range(count // 5):
        for id_ in (str(2 * number), str(2 * number + 1)):
            said = deepcopy(pull)
            said["pull_request"] |= {"id": int(id_), "number": int(id_), "title": f"pull {id_}"}
            yield ("change", id_, "open"), "pull_request", said
        for status, word in zip(STATUSES, ("queued", "in_progress", "completed"), strict=True):
            said = deepcopy(run)
            end = "success" if word == "completed" else None
            said["workflow_run"] |= {"id": number, "run_number": number, "status": word, "conclusion": end}
            yield ("run", str(number), status), "workflow_run", said


def send(stack: Stack, watch: Watch, what: Told, event: str, said: dict[str, Any]) -> None:
    """Deliver as GitHub does, over a connection of its own."""
    now = datetime.now(UTC).isoformat()
    for thing in ("pull_request", "workflow_run"):
        if thing in said:
            said[thing] |= {"created_at": now, "updated_at": now, "run_started_at": now}
    body = json.dumps(said).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": "-".join(what),
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    with closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)) as connection:
        connection.request("POST", "/hooks/hub", body, headers)
        assert connection.getresponse().status == 202
    watch.accepted[what] = time.monotonic()


def look(stack: Stack, watch: Watch, is_over: threading.Event) -> None:
    """See what the API shows of the last seconds, until all was seen or nothing more comes."""
    path = f"/api/v1/activity/?fields=type,external_id,status&limit={min(PACE * 8, 1_000)}"
    end = time.monotonic() + SECONDS + 120
    with closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)) as connection:
        while time.monotonic() < end and not (is_over.is_set() and not watch.unseen):
            connection.request("GET", path, headers={"Authorization": f"Bearer {stack.token}"})
            rows = json.loads(connection.getresponse().read())["results"]
            watch.note(rows, time.monotonic())
            time.sleep(POLL)


def _show(what: str, times: list[float]) -> None:
    cuts = quantiles(times, n=100)
    print(
        f"{what}: p50 {cuts[49] * 1e3:.0f} ms, p95 {cuts[94] * 1e3:.0f} ms, longest {max(times) * 1e3:.0f} ms"
    )


@pytest.fixture
def hub() -> Iterator[GitHub]:
    """A GitHub that is asked for the jobs of runs."""
    jobs = f"/repos/{REPO}/actions/runs/{{}}/jobs"
    with play({jobs.format(number): ("jobs", []) for number in range(PACE * SECONDS)}) as playing:
        yield playing


def test_deliveries_at_a_steady_pace(home: Path, port: int, hub: GitHub) -> None:  # noqa: F811
    with run_stack(home, port, {"PORTICO_OUTBOUND_ALLOW": "127.0.0.1"}) as stack:
        stack.wait(stack.is_ready, 60)
        given = {
            "slug": "hub", "label": "Hub", "connector": "github", "interval": 604_800,
            "config": {**hub.settings, "webhook_secret": SECRET},
        }  # fmt: skip
        assert stack.request("POST", "/api/v1/connections/", given) == 201
        stack.wait(lambda: not stack.active(), 60)
        watch, is_over = Watch(), threading.Event()
        looking = threading.Thread(target=look, args=(stack, watch, is_over))
        looking.start()
        with ThreadPoolExecutor(64) as pool:
            start = time.monotonic() + 1
            sent = []
            for number, (what, event, said) in enumerate(told(PACE * SECONDS)):
                watch.due[what] = start + number / PACE
                time.sleep(max(0.0, watch.due[what] - time.monotonic()))
                sent.append(pool.submit(send, stack, watch, what, event, said))
            for one in sent:
                one.result()
        is_over.set()
        looking.join()
        print(f"\n{len(sent)} deliveries, {PACE} a second")
        assert watch.accepted.keys() == watch.due.keys()
        _show("accepted", [watch.accepted[what] - at for what, at in watch.due.items()])
        assert watch.unseen == 0
        _show("visible", [max(0.0, watch.seen[what] - at) for what, at in watch.accepted.items()])
        sizes = stack.ask("SELECT avg(octet_length(body))::int FROM integrations_delivery")
        print(f"of {sizes[0][0] / 1024:.0f} KB each")
