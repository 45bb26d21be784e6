"""A tool whose listing a test controls, behind the smallest connector that has everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

import pytest
from django.utils import timezone
from pydantic import BaseModel, Field, SecretStr

from access.models import User
from integrations import queries, registry, sync
from integrations.contract import (
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Expect,
    Gone,
    Mark,
    OperationResult,
    Refused,
    Risk,
    SourceUnavailable,
    WebhookRequest,
    operation,
    resource,
    signed_with_hmac,
    webhook,
)
from integrations.models import Connection, ResourceRun, SyncRun
from integrations.records import Document, Pipeline, Record, Repository, Run, RunStatus
from integrations.services.connections import create_connection
from integrations.services.moving import settle_connection
from integrations.services.removal import Removal, request_removal
from integrations.services.runs import request_sync

NOW = timezone.now()


class Settings(ConnectionConfig):
    """Where the tool is."""

    place: str = Field("here", description="Any word.")
    token: SecretStr | None = Field(None, description="Opens the tool.")
    webhook_secret: SecretStr | None = Field(None, description="Proves its deliveries.")


class BuildParams(BaseModel):
    """How to build."""

    branch: str = Field("main", min_length=1, description="The branch.")


@dataclass
class Tool:
    """What the tool has. An exception in a list is raised there, a callable called (and awaited)."""

    things: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    alerts: list[Any] = field(default_factory=list)
    since: list[dict[str, Any] | None] = field(default_factory=list)
    done: list[tuple[str, str]] = field(default_factory=list)
    reads: int = 0

    async def give(self, items: list[Any]) -> AsyncIterator[Any]:
        """The items, one by one."""
        for item in items:
            if isinstance(item, Exception):
                raise item
            if callable(item):
                outcome = item()
                if asyncio.iscoroutine(outcome):
                    await outcome
                continue
            yield item


class Controlled(Connector[Settings]):
    """Reads the tool."""

    slug = "controlled"
    label = "Controlled tool"
    monogram = "Ct"
    category = Category.CI
    brings = "Whatever a test wants."
    tool: ClassVar[Tool] = Tool()

    async def checks(self) -> AsyncIterator[Check]:
        """Works with the token `good` only."""
        token = self.config.token.get_secret_value() if self.config.token else ""
        yield Check("Signed in", ok=token == "good", remedy="Give the right token.")

    @resource(of=(Repository, Pipeline, Document))
    async def things(self) -> AsyncIterator[Any]:
        """A whole list."""
        self.tool.reads += 1
        async for item in self.tool.give(self.tool.things):
            yield item

    @resource(of=Run, incremental=True, often=True)
    async def events(self, since: dict[str, Any] | None) -> AsyncIterator[Any]:
        """What is new."""
        self.tool.since.append(since)
        async for item in self.tool.give(self.tool.events):
            yield item

    @webhook(
        verify=partial(signed_with_hmac, header="x-signature"),
        headers=("x-kind",),
        id_header="x-delivery",
        event_header="x-kind",
    )
    async def told(self, request: WebhookRequest) -> AsyncIterator[Any]:
        """What happened: a list of words that name what to do."""
        for word in request.json():
            match word:
                case {"repository": fields}:
                    yield thing(**fields)
                case {"run": fields}:
                    yield event(**fields)
                case {"gone": number, "as_of": as_of}:
                    yield Gone(of=Repository, external_id=str(number), as_of=datetime.fromisoformat(as_of))
                case {"refused": reason}:
                    yield Refused(external_id="odd", reason=reason)
                case {"fail": reason}:
                    self.tool.done.append(("failed", reason))
                    raise SourceUnavailable(reason)
                case "break":
                    raise RuntimeError("a bug")

    @operation(label="Build", on=Pipeline)
    async def build(self, target: Record, params: BuildParams) -> OperationResult:
        """Start a run."""
        self.tool.done.append((target.external_id, params.branch))
        if params.branch == "broken":
            raise RuntimeError("a bug")
        run = event(f"{target.external_id}-{len(self.tool.done)}", status="queued")
        return OperationResult(
            message=f"Building {params.branch}.", url="https://ci.example/1", records=[run]
        )

    @operation(label="Again", on=Run, statuses=(RunStatus.PASSED, RunStatus.FAILED))
    async def again(self, target: Record) -> OperationResult:
        """Repeat a run."""
        self.tool.done.append((target.external_id, "again"))
        return OperationResult(message="Running again.")

    @operation(label="Wipe", on=Pipeline, risk=Risk.HIGH)
    async def wipe(self, target: Record) -> OperationResult:
        """Needs no parameters."""
        self.tool.done.append((target.external_id, "wiped"))
        return OperationResult(message="Wiped.")


def thing(number: int | str, **more: Any) -> Repository:
    """A repository."""
    fields = {
        "path": f"acme/r{number}",
        "keys": [f"repo:h.example/acme/r{number}"],
        "build_files": ["go.mod"],
    }
    fields |= {"last_activity_at": NOW, **more}
    return Repository(external_id=str(number), name=f"r{number}", **fields)


def document(name: str, *, file: str = "a.yaml", line: int = 1, **spec: Any) -> Document:
    """A document of a component, as a catalog file declares it."""
    return Document(
        external_id=f"{file}#component:default/{name}",
        document={
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": name},
            "spec": {"type": "service", "lifecycle": "production", "owner": "team", **spec},
        },
        file=file,
        line=line,
    )


def event(id: str, *, status: str = "passed", about: str = "pipeline:ci.example/1", **more: Any) -> Run:
    """A run."""
    return Run(external_id=id, status=RunStatus(status), about=[about], started_at=NOW, **more)


def marked(number: int) -> Mark:
    """A checkpoint."""
    return Mark({"after": number})


def expected(total: int) -> Expect:
    """How many there are to be."""
    return Expect(total)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    """The tool, with its connector as if it were installed; pages are small."""
    monkeypatch.setitem(registry.connectors(), Controlled.slug, Controlled)
    monkeypatch.setattr(sync, "PAGE", 4)
    monkeypatch.setattr(sync, "HEARTBEAT", 0.2)
    monkeypatch.setattr(Controlled, "tool", Tool())
    return Controlled.tool


@pytest.fixture
def connect(tool: Tool, core_pack: None) -> Callable[..., Connection]:
    """Make a connection to the tool."""

    def make(slug: str = "ct", **more: Any) -> Connection:
        config = more.pop("config", {})
        return create_connection(slug=slug, label=slug.upper(), connector="controlled", config=config, **more)

    return make


def synced(connection: Connection, *, now: datetime | None = None) -> SyncRun:
    """One run from its request to its end."""
    run = request_sync(connection=connection, by="a test")
    sync.execute_run(run_id=run.pk, now=now or timezone.now())
    run.refresh_from_db()
    return run


def removed(connection: Connection) -> Removal:
    """A connection's removal, until nothing of what it brought is there."""
    gone = request_removal(connection=connection, by="ana", now=timezone.now())
    settle_connection(connection_id=connection.pk)
    assert not Connection.objects.listed().filter(pk=connection.pk).exists()
    return gone


def things_of(run: SyncRun) -> ResourceRun:
    """What a run did with the whole list."""
    return run.resources.get(name="things")


def numbers(row: ResourceRun) -> dict[str, int]:
    """A resource's numbers that are not zero."""
    names = ("listed", "new", "changed", "unchanged", "skipped", "refused", "removed", "would_remove")
    return {name: value for name in names if (value := getattr(row, name))}


def balanced(run: SyncRun, viewer: User) -> None:
    """A run's numbers balance, each list's and all together, and each opens a list of that length."""
    rows = list(run.resources.all())
    counts = [([row], {name: getattr(row, name) for name in queries.NUMBERS}) for row in rows]
    for resources, counted in [*counts, (rows, queries.totals_of(run))]:
        parts = ("new", "changed", "unchanged", "skipped", "refused")
        assert counted["listed"] == sum(counted[name] for name in parts)
        assert queries.records_of(viewer, resources)[1] == counted["listed"]
        for name in (*parts, "removed"):
            found, total = queries.records_of(viewer, resources, outcome=name)
            assert total == counted[name] == len(found)
            assert {item.outcome for item in found} <= {name}
            assert {item.resource for item in found} <= {row.name for row in resources}
