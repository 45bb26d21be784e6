"""The benchmarks: they run when they are named, `bin/test tests/perf`, and assert no time."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = int(os.environ.get("PORTICO_PERF_SIZE", "10000"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the benchmarks out of every run that does not name them."""
    if any("perf" in str(argument) for argument in config.invocation_params.args):
        return
    mine = [item for item in items if Path(str(item.path)).is_relative_to(Path(__file__).parent)]
    if mine:
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if item not in mine]


@dataclass
class Measured:
    """What one command took: wall and CPU in seconds, peak memory of its process in MB."""

    wall: float
    cpu: float
    peak: float
    out: str


@dataclass
class Portal:
    """A database of its own with the core pack, and the product's commands on it."""

    environment: dict[str, str]
    connection: psycopg.Connection

    def run(self, *arguments: str) -> Measured:
        """Run a management command in a process of its own."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            ["/usr/bin/env", sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr[-2000:]
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Measured(wall, cpu, after.ru_maxrss / 1024, done.stdout)

    def written(self) -> int:
        """Rows that were ever inserted, updated or deleted in the catalog's tables."""
        self.connection.execute("SELECT pg_stat_force_next_flush()")
        row = self.connection.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname LIKE 'catalog_%'"
        ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """A fresh database on the tests' server."""
    parameters = conninfo.conninfo_to_dict(os.environ["DATABASE_URL"])
    name = f"perf_{os.getpid()}"
    admin = psycopg.connect(**{**parameters, "dbname": "postgres"}, autocommit=True)
    admin.execute(f"CREATE DATABASE {name}")
    address = f"postgresql://{parameters['user']}@/{name}?host={parameters['host']}"
    environment = {**os.environ, "DATABASE_URL": address, "PORTICO_LOG_LEVEL": "WARNING"}
    found = Portal(environment, psycopg.connect(address, autocommit=True))
    found.run("prepare")
    yield found
    found.connection.close()
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    admin.close()
