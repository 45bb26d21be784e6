"""A catalog to disturb, and what an undisturbed one says."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from catalog.services.digest import catalog_facts
from integrations import registry, sync
from integrations.http import HttpClient, HttpLimits
from integrations.models import Connection, RunState, SyncRun
from integrations.services import connections, runs
from integrations.services.connections import create_connection
from tests.faults.running import home, port, stack, stack_variables  # noqa: F401 - fixtures
from tests.faults.upstream import Paged, Upstream

# Short enough to wait for, long enough for a busy machine.
LIMITS = HttpLimits(
    connect=2, read=0.6, total=4, stream_total=4, patience=0.5, attempts=2, backoff=0.01, concurrency=4
)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A tool of this test alone."""
    with Upstream().running() as running:
        yield running


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paged connector, as if it were installed."""
    monkeypatch.setitem(registry.connectors(), Paged.slug, Paged)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that give up soon, and small transactions."""

    def impatient_client(*, limits: HttpLimits | None = None, **given: Any) -> HttpClient:
        return HttpClient(limits=limits or LIMITS, **given)

    monkeypatch.setattr(connections, "HttpClient", impatient_client)
    monkeypatch.setattr(sync, "PAGE", 16)
    monkeypatch.setattr(sync, "HEARTBEAT", 0.5)


@pytest.fixture
def contacted(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, int]]:
    """Every internet address that this process tried to connect to."""
    found: set[tuple[str, int]] = set()
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def noting(self: socket.socket, address: Any, original: Any = original) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                found.add((str(ipaddress.ip_address(address[0])), address[1]))
            return original(self, address)

        monkeypatch.setattr(socket.socket, name, noting)
    return found


@dataclass
class Portal:
    """Connections and their runs, as a worker does them, in this process."""

    def connect(self, slug: str, connector: str, **config: Any) -> Connection:
        return create_connection(slug=slug, label=slug, connector=connector, config=config)

    def sync(self, connection: Connection) -> SyncRun:
        """One run from its request to its report."""
        now = timezone.now()
        run = SyncRun.objects.create(connection=connection, queued_at=now)
        sync.execute_run(run_id=run.pk, now=now)
        runs.report_runs(now=timezone.now())
        run.refresh_from_db()
        for resource in run.resources.all():
            outcomes = (
                resource.new + resource.changed + resource.unchanged + resource.skipped + resource.refused
            )
            assert resource.listed == outcomes, f"{resource.name} does not balance"
        return run

    def sync_well(self, connection: Connection) -> SyncRun:
        run = self.sync(connection)
        assert run.state == RunState.SYNCED, run.message
        return run

    def facts(self) -> list[str]:
        return list(catalog_facts())


@pytest.fixture
def portal(core_pack: None, settings: Any) -> Portal:
    """An empty catalog with the core's kinds, which may reach loopback's tool."""
    return Portal()


@pytest.fixture(scope="module")
def found_undisturbed() -> dict[str, list[str]]:
    """What scenarios found that went undisturbed, for all tests of a module."""
    return {}


@pytest.fixture
def undisturbed(
    portal: Portal, found_undisturbed: dict[str, list[str]]
) -> Callable[[str, Connection], list[str]]:
    """Sync a connection well, take that back, and return what the catalog said.

    A scenario is played once; its name says what it depends on.
    """

    def do(name: str, connection: Connection) -> list[str]:
        if name not in found_undisturbed:
            with transaction.atomic():
                portal.sync_well(connection)
                found_undisturbed[name] = portal.facts()
                transaction.set_rollback(True)
        return found_undisturbed[name]

    return do


def differences(facts: list[str], expected: list[str]) -> str:
    """What one catalog says and another does not, for a failing test to show."""
    only = [f"+ {fact[:300]}" for fact in facts if fact not in set(expected)]
    missing = [f"- {fact[:300]}" for fact in expected if fact not in set(facts)]
    return "\n".join([*only[:20], *missing[:20]])
