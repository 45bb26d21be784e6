"""Killing any process at any time loses nothing: after a restart and the next runs the catalog says what an
undisturbed one says."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.utils import timezone

from catalog.services.edit import upsert_documents
from catalog.services.render import render_dirty
from integrations.models import Connection
from integrations.services.connections import create_connection
from tests.faults.conftest import Portal, differences
from tests.faults.upstream import Upstream, connections_to

ROOT = Path(__file__).resolve().parent.parent.parent
VICTIMS = ("sync", "web", "postgres", "redis")


class Stack:
    """A whole Portico of its own, and the means to hurt it."""

    def __init__(self, home: Path, port: int, environment: dict[str, str], upstream: Upstream) -> None:
        self.home = home
        self.port = port
        self.environment = environment
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests/faults/stack.py"),
                str(port),
                upstream.url,
                upstream.lines_url,
            ],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.token = self.process.stdout.readline().strip()
        assert self.token.startswith("po_"), self.log()
        note = json.loads((home / "servers.json").read_text())
        self.database, self.redis = note["database"], note["redis"]

    def log(self) -> str:
        path = self.home / "logs" / "portico.log"
        return path.read_text(errors="replace")[-6_000:] if path.exists() else ""

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement; empty while the database is away."""
        try:
            with psycopg.connect(self.database, autocommit=True, connect_timeout=2) as connection:
                cursor = connection.execute(statement.encode(), values)
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            return []

    def processes(self, name: str) -> list[int]:
        """The processes of one service, its own children included, the oldest first."""
        return sorted(
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdecimal() and self._is_of(folder, name)
        )

    def _is_of(self, folder: Path, name: str) -> bool:
        with contextlib.suppress(OSError):
            if name == "redis":  # which writes its title over its environment
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                return parent == str(self.process.pid) and b"redis.sock" in (folder / "cmdline").read_bytes()
            marks = [
                word
                for word in (folder / "environ").read_bytes().split(b"\0")
                if b"PORTICO_SUPERVISOR=" in word
            ]
            own = f"PORTICO_SUPERVISOR={self.process.pid}-".encode()
            return any(mark.startswith(own) and mark.endswith(f"/{name}".encode()) for mark in marks)
        return False

    def kill(self, name: str, chance: random.Random) -> str:
        """End a service, or one of its processes, without a word; "nothing in redis" only empties it."""
        if name == "nothing in redis":
            with contextlib.suppress(redis.RedisError):
                redis.Redis.from_url(self.redis).flushall()
            return "emptied redis"
        found = self.processes(name)
        if not found:
            return f"{name} was away already"
        victim = found[0] if name == "postgres" else chance.choice(found)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        return f"killed {name} {victim} of {found}"

    def request(self, method: str, path: str, body: Any = None) -> int:
        """Ask the web server; 0 if it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.runs()}\n{self.log()}"
            time.sleep(0.1)

    def is_ready(self) -> bool:
        return self.request("GET", "/readyz") == 200

    def hurry(self) -> None:
        """Have all connections synced at the next tick."""
        self.ask("UPDATE integrations_connection SET due_at = now()")

    def active(self) -> int:
        rows = self.ask("SELECT count(*) FROM integrations_syncrun WHERE state IN ('queued', 'running')")
        return int(rows[0][0]) if rows else 0

    def sync_until_good(self, seconds: float) -> None:
        """Wait for a good run of every connection that began after this call, and for what follows from it."""
        end = time.monotonic() + seconds
        self.wait(lambda: self.ask("SELECT 1"), 30)
        ((start,),) = self.ask("SELECT now()")
        good: set[str] = set()
        while good != {"paged", "lines"} or self.ask("SELECT count(*) FROM catalog_dirtyentity") != [(0,)]:
            assert time.monotonic() < end, f"only {good} came to rest: {self.runs()}\n{self.log()}"
            if not self.active() and good != {"paged", "lines"}:
                self.hurry()
            rows = self.ask(
                "SELECT c.slug FROM integrations_syncrun r JOIN integrations_connection c ON c.id = r.connection_id "
                "WHERE r.state = 'synced' AND r.queued_at > %s",
                start,
            )
            good = {row[0] for row in rows}
            time.sleep(0.2)

    def runs(self) -> list[tuple[Any, ...]]:
        return self.ask(
            "SELECT c.slug, r.id, r.state, r.attempts, r.message FROM integrations_syncrun r "
            "JOIN integrations_connection c ON c.id = r.connection_id ORDER BY r.id DESC LIMIT 12"
        )

    def facts(self) -> list[str]:
        """What the catalog says, by the command that operators use."""
        done = subprocess.run(
            [sys.executable, "manage.py", "catalog_digest", "--facts"],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def home() -> Iterator[Path]:
    """A PORTICO_HOME that the database's unprivileged user can reach; pytest's own folders it may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="portico-kills-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stack(home: Path, port: int, upstream: Upstream) -> Iterator[Stack]:
    """A running Portico, which syncs the tool."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL"} and not name.startswith("PORTICO_")
    }
    environment |= {
        "PORTICO_HOME": str(home),
        "PORTICO_OUTBOUND_ALLOW": f"127.0.0.1:{upstream.port}",
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    running = Stack(home, port, environment, upstream)
    yield running
    running.process.terminate()
    try:
        running.process.wait(15)
    finally:
        running.process.kill()
        running.process.communicate()


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
