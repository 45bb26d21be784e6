"""Running a connector without the database: what the tests of connectors share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2 as httpx

from integrations.contract import (
    Connector,
    Expect,
    FileReader,
    GitClient,
    HttpClient,
    LdapClient,
    Mark,
    Refused,
    Tools,
)
from integrations.http import HttpLimits
from integrations.outbound import OutboundPolicy, Route
from integrations.records import Record

T = TypeVar("T")
QUICK = HttpLimits(connect=5, read=10, total=20, attempts=2, backoff=0.01)


@dataclass
class Reading:
    """What a resource yielded, by kind, each in its order."""

    records: list[Record] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    expected: int | None = None

    def add(self, item: Any) -> None:
        match item:
            case Record():
                self.records.append(item)
            case Refused():
                self.refused.append(item)
            case Mark():
                self.marks.append(item.cursor)
            case Expect():
                self.expected = item.total
            case _:
                raise AssertionError(f"A resource yielded {item!r}.")

    def by_id(self) -> dict[str, Any]:
        """The records by their id; each may come once only."""
        found = {record.external_id: record for record in self.records}
        assert len(found) == len(self.records)
        return found


def use(
    connector: type[Connector],
    config: Mapping[str, Any],
    do: Callable[[Connector], Awaitable[T]],
    *,
    limits: HttpLimits = QUICK,
    transport: httpx.AsyncBaseTransport | None = None,
    route: Route | None = None,
) -> T:
    """Make a connector as a sync does, but for the allow list, and do something with it."""

    async def run() -> T:
        policy = OutboundPolicy(["127.0.0.1"])
        async with HttpClient(policy=policy, limits=limits, transport=transport, route=route) as http:
            ldap = LdapClient(policy=policy, route=route)
            tools = Tools(http=http, git=GitClient(), files=FileReader(), ldap=ldap)
            return await do(connector(connector.Config.model_validate(dict(config)), tools))

    return asyncio.run(run())


async def collect(connector: Connector, resource: str, since: dict[str, Any] | None = None) -> Reading:
    """Read one resource to its end."""
    spec = next(spec for spec in connector.resources() if spec.name == resource)
    method = getattr(connector, spec.method)
    found = Reading()
    async for item in method(since) if spec.incremental else method():
        found.add(item)
    return found


def read(
    connector: type[Connector],
    config: Mapping[str, Any],
    resource: str,
    since: dict[str, Any] | None = None,
    **more: Any,
) -> Reading:
    """Read one resource of a new connector to its end."""
    return use(connector, config, lambda made: collect(made, resource, since), **more)
