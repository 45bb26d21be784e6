"""The two that are measured side by side, each with all it needs: a real Backstage catalog backend, and Portico."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.running import ROOT, Stack, run_stack
from tests.perf.generate import document

_TICKS = os.sysconf("SC_CLK_TCK")
_HERE = Path(__file__).parent


def cpu_of(pids: list[int]) -> float:
    """CPU seconds that some processes have used, with those of children that are gone."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(value) for value in stat[11:15])
    return total / _TICKS


def memory_of(pids: list[int]) -> float:
    """Proportional memory of some processes, in MB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


class Contender(ABC):
    """What is measured: a catalog that answers at a port.

    :ivar headers: with each request.
    """

    name: str
    port: int
    headers: dict[str, str]
    postgres: list[int]  # the server's processes when it started; backends are its children

    def __init__(self, server: str, folder: Path) -> None:
        self.server = server  # of PostgreSQL, as a connection string with another database
        self.folder = folder

    @abstractmethod
    def processes(self) -> list[int]:
        """All of its own processes; those of PostgreSQL apart."""

    @abstractmethod
    def database(self) -> psycopg.Connection:
        """A connection to its database."""

    @abstractmethod
    def load(self) -> None:
        """Have the folder's files read; what comes of it is served some time later."""

    @abstractmethod
    def write(self, number: int) -> None:
        """Change one component."""

    def get(self, path: str, *, method: str = "GET", body: str | None = None, headers: Any = None) -> Any:
        """Ask once.

        :returns: the answer, parsed.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        given = {**self.headers, "Content-Type": "application/json", **(headers or {})}
        with contextlib.closing(connection):
            connection.request(method, f"/api/catalog/{path}", body, given)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status in (200, 201), (answer.status, data[:500])
            return json.loads(data) if data else None

    def count(self) -> int:
        """How many entities of the generated files it serves."""
        kinds = ["component", "api", "resource", "system", "domain", "group", "user"]
        wanted = ",".join(f"kind={kind}" for kind in kinds)
        return int(self.get(f"entities/by-query?filter={wanted}&limit=0")["totalItems"])

    def is_related(self) -> bool:
        """Whether nothing is waiting to be related."""
        return True

    def size(self) -> float:
        """Of its database, in MB."""
        with self.database() as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            assert row is not None
            return float(row[0]) / 1e6

    def pause(self) -> None:
        """Let it do nothing while another is measured."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def changed(folder: Path, number: int) -> tuple[Path, str]:
    """The file of a component of its own, with another title each time."""
    path = folder / "changing.yaml"
    title = f"Changed {number}"
    spec = "  type: service\n  lifecycle: production\n  owner: team-0\n"
    return path, document("Component", "changing", spec, extra=f"  title: {title}\n")


class Portico(Contender):
    """All of its processes; its clients sign in by token."""

    name = "Portico"

    def __init__(self, home: Path, port: int, folder: Path) -> None:
        self.port = port
        self._running = run_stack(home, port, {"PORTICO_FILES_ALLOW": str(folder)})
        self.stack: Stack = self._running.__enter__()
        super().__init__(self.stack.database, folder)
        self.headers = {"Authorization": f"Bearer {self.stack.token}"}
        self.stack.wait(self.stack.is_ready, 60)

    def stop(self) -> None:
        self._running.__exit__(None, None, None)

    def processes(self) -> list[int]:
        return self.stack.processes("portico")

    def database(self) -> psycopg.Connection:
        return psycopg.connect(self.stack.database, autocommit=True)

    def load(self) -> None:
        assert self.stack.request("POST", "/api/v1/locations/", {"address": str(self.folder)}) == 202

    def manage(self, *arguments: str, given: str = "") -> str:
        """Run a management command in its environment."""
        variables = {**self.stack.environment, "DATABASE_URL": self.stack.database}
        variables["REDIS_URL"] = self.stack.redis
        done = subprocess.run(
            [os.sys.executable, "manage.py", *arguments],  # type: ignore[attr-defined]
            cwd=ROOT, env=variables, capture_output=True, text=True, check=False, input=given,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
        return done.stdout

    def is_related(self) -> bool:
        return self.stack.ask("SELECT count(*) FROM catalog_dirtyentity") == [(0,)]

    def write(self, number: int) -> None:
        path, text = changed(self.folder, number)
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)

    def token_for(self, owners: list[str]) -> str:
        """A token of a person who may see what some groups own, and nothing else."""
        script = """
import json, sys
from access.models import Grant, Role, ScopeType, User
from access.permissions import changing_access
from access.services import create_token
owners = json.load(sys.stdin)
with changing_access():
    user, _new = User.objects.get_or_create(username="third")
    for start in range(0, len(owners), 60):
        scope = "owner:" + ",".join(owners[start : start + 60])
        Grant.objects.create(user=user, role=Role.objects.get(name="viewer"), scope_type=ScopeType.QUERY, scope=scope)
print(create_token(user=user, name="measured").text)
"""
        return (
            self.manage("shell", "-v", "0", "-c", script, given=json.dumps(owners)).strip().splitlines()[-1]
        )


class Backstage(Contender):
    """One Node process, without authentication and permissions."""

    name = "Backstage"
    headers: dict[str, str] = {}

    def __init__(self, node: list[str], program: Path, port: int, server: str, folder: Path) -> None:
        super().__init__(server, folder)
        self.port = port
        self._node, self._program = node, program
        self._process: subprocess.Popen[bytes] | None = None
        self._work = program / "run"
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()

    def configure(self) -> None:
        """Its settings: every file as a location, all kinds allowed, nobody asked who they are."""
        known = psycopg.conninfo.conninfo_to_dict(self.server)
        files = sorted(self.folder.glob("*.yaml"))
        settings = {
            "app": {"baseUrl": f"http://127.0.0.1:{self.port}"},
            "backend": {
                "baseUrl": f"http://127.0.0.1:{self.port}",
                "listen": {"host": "127.0.0.1", "port": self.port},
                "auth": {"dangerouslyDisableDefaultAuthPolicy": True},
                "database": {
                    "client": "pg",
                    "prefix": "backstage_",
                    "connection": {
                        "host": known["host"],
                        "user": known["user"],
                        "port": int(known.get("port") or 5432),
                        "database": "postgres",
                    },
                },
            },
            "catalog": {
                "rules": [{"allow": ["Component", "API", "Resource", "System", "Domain", "Group", "User"]}],
                "locations": [{"type": "file", "target": str(path)} for path in files],
            },
        }
        (self._work / "app-config.json").write_text(json.dumps(settings))

    def load(self) -> None:
        self.configure()
        with (self._work / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._node, str(_HERE / "backstage" / "server.js"), "--config", "app-config.json"],
                cwd=self._work,
                env={
                    **os.environ,
                    "NODE_ENV": "production",
                    "NODE_PATH": str(self._program / "node_modules"),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
            self._process.kill()

    def count(self) -> int:
        assert self._process
        assert self._process.poll() is None, (self._work / "log").read_text()[-2_000:]
        try:
            return super().count()
        except (OSError, AssertionError):
            return 0  # it is starting

    def processes(self) -> list[int]:
        return [self._process.pid] if self._process else []

    def database(self) -> psycopg.Connection:
        parameters = psycopg.conninfo.conninfo_to_dict(self.server)
        return psycopg.connect(**{**parameters, "dbname": "backstage_catalog"}, autocommit=True)  # type: ignore[arg-type]

    def write(self, number: int) -> None:
        path, text = changed(self.folder, number)
        path.write_text(text)
        body = json.dumps({"entityRef": "component:default/changing"})
        self.get("refresh", method="POST", body=body)

    def is_related(self) -> bool:
        try:
            with self.database() as connection:
                row = connection.execute(
                    "SELECT (SELECT count(*) FROM refresh_state WHERE result_hash IS NULL),"
                    " (SELECT count(*) FROM stitch_queue)"
                ).fetchone()
                return row == (0, 0)
        except psycopg.Error:
            return False


def postgres_of(connection: psycopg.Connection) -> list[int]:
    """The processes of the server that a connection leads to."""
    row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    first = int((Path(row[0]) / "postmaster.pid").read_text().split()[0])
    found = [first]
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == first:
                    found.append(int(folder.name))
    return found


def wait_for(contender: Contender, count: int, seconds: float) -> float:
    """Wait until it serves so many entities with their relations.

    :returns: seconds that it took.
    """
    begun = time.monotonic()
    while contender.count() < count or not contender.is_related():
        assert time.monotonic() - begun < seconds, f"{contender.name} serves {contender.count()} of {count}"
        time.sleep(0.2)
    return time.monotonic() - begun
