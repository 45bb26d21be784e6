"""A tool that changes while it is read and misbehaves on command, and a connector that reads it by the page."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field

from integrations.contract import (
    BadPayload,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Mark,
    OperationResult,
    Refused,
    Risk,
    operation,
    record_or_refusal,
    resource,
)
from integrations.records import RECORD_TYPES, Commit, Pipeline, Record

HOST = "git.acme.example"
METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"
ENTITIES = tuple(model for model in RECORD_TYPES.values() if model.makes == "entity")
ACTIVITY = tuple(
    model for model in RECORD_TYPES.values() if model.makes == "activity" and model is not Commit
)

Item = dict[str, Any]


class World:
    """What the tool holds. A change takes little away, so that what is gone is swept without asking.

    However it came about, one state makes one catalog: names do not collide, and nothing depends on the order.
    """

    def __init__(self, size: int = 9) -> None:
        self._lock = threading.RLock()
        self._began = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
            days=20
        )
        self._ticks = 0
        self._removable = 6
        self.entities: dict[str, Item] = {}
        self.activity: dict[str, Item] = {}
        self.commits: list[Item] = []
        for number in range(size):
            self._add(number)

    def _at(self) -> str:
        self._ticks += 1
        return (self._began + timedelta(minutes=self._ticks)).isoformat()

    def _put(self, type_: str, external_id: str, **fields: Any) -> None:
        family = self.entities if RECORD_TYPES[type_].makes == "entity" else self.activity
        family[external_id] = {"type": type_, "external_id": external_id, **fields}

    def _add(self, number: int) -> None:
        """A service with all that is around it: five entities and some activity."""
        name = f"svc{number:03}"
        repo = f"repo:{HOST}/acme/{name}"
        self._put("team", f"team-{name}", name=f"team-{name}", title=f"Team {number}", members=["ana", "ben"])
        self._put(
            "repository", f"repo-{name}", name=name, path=f"acme/{name}", keys=[repo], default_branch="main",
            build_files=["pom.xml"], owners=[f"@acme/team-{name}"], last_activity_at=self._began.isoformat(),
        )  # fmt: skip
        self._put(
            "pipeline",
            f"pipe-{name}",
            name=f"ci-{name}",
            keys=[f"pipeline:ci.acme.example/{name}"],
            about=[repo],
        )
        self._put(
            "artifact", f"image-{name}", name=f"img-{name}", artifact_type="image", about=[repo],
            keys=[f"image:registry.acme.example/acme/{name}"],
        )  # fmt: skip
        if number % 2:
            self._put(
                "document", f"doc-{name}", file=f"{name}/catalog-info.yaml", about=[repo],
                document={
                    "apiVersion": "backstage.io/v1alpha1", "kind": "Component", "metadata": {"name": f"comp-{name}"},
                    "spec": {
                        "type": "service", "lifecycle": "production", "owner": f"group:default/team-{name}",
                        "dependsOn": [f"component:default/comp-svc{number - 2:03}"],
                    },
                },
            )  # fmt: skip
        self._put(
            "run", f"run-{name}-1", status="passed", number="1", started_at=self._at(), finished_at=self._at(),
            about=[f"pipeline:ci.acme.example/{name}", repo],
        )  # fmt: skip
        self._put("version", f"v-{name}-1", version="1.0.0", released_at=self._at(), about=[repo])
        self._commit(name)

    def _commit(self, name: str) -> None:
        number = len(self.commits) + 1
        self.commits.append(
            {
                "type": "commit",
                "external_id": f"commit-{number}",
                "sha": f"{number:040x}",
                "title": f"Change {number}",
                "committed_at": self._at(),
                "actor": "Ana",
                "about": [f"repo:{HOST}/acme/{name}"],
            }
        )

    def change(self, chance: random.Random, *, grows: bool = True) -> None:
        """Something happens.

        :param grows: new things may come, too.
        """
        with self._lock:
            names = sorted(key.removeprefix("repo-") for key in self.entities if key.startswith("repo-"))
            name = chance.choice(names)
            what = chance.random()
            if what < 0.1 and grows:
                self._add(1 + max(int(found.removeprefix("svc")) for found in names))
            elif what < 0.15 and self._removable and len(names) > 6:
                self._removable -= 1
                self.entities.pop(chance.choice([f"image-{name}", f"doc-{name}"]), None)
            elif what < 0.4:
                repo = self.entities[f"repo-{name}"]
                repo["description"] = f"Words of {self._at()}"
                repo["owners"] = [f"@acme/team-{chance.choice(names)}"]
            elif what < 0.5:
                self.entities[f"team-{name}"]["title"] = f"Team of {self._at()}"
            elif what < 0.7:
                self._commit(name)
            else:
                self._run(name, chance)

    def _run(self, name: str, chance: random.Random) -> None:
        runs = [item for key, item in self.activity.items() if key.startswith(f"run-{name}-")]
        last = runs[-1]
        if last["status"] == "running":
            last |= {"status": chance.choice(["passed", "failed"]), "finished_at": self._at()}
            return
        number = str(len(runs) + 1)
        self._put(
            "run", f"run-{name}-{number}", status="running", number=number, started_at=self._at(),
            about=[f"pipeline:ci.acme.example/{name}", f"repo:{HOST}/acme/{name}"],
        )  # fmt: skip

    def listing(self, name: str) -> list[Item]:
        """A copy of one list, in the tool's order."""
        with self._lock:
            items = self.commits if name == "commits" else list(getattr(self, name).values())
            found: list[Item] = orjson.loads(orjson.dumps(items))
            return found


Fault = Callable[["Exchange", list[Item], "str | None"], None]


@dataclass
class Upstream:
    """The tool as a server on loopback.

    :ivar asked: the path and query of every request.
    :ivar faults: what goes wrong, by the name of the list and the number of its page, from 0.
    :ivar delay: seconds before each answer.
    :ivar poked: the bodies of operations that arrived; `poke_hangs` keeps them waiting.
    """

    world: World = field(default_factory=World)
    page: int = 20
    delay: float = 0.0
    port: int = 0
    asked: list[str] = field(default_factory=list)
    faults: dict[tuple[str, int], Fault] = field(default_factory=dict)
    poked: list[Any] = field(default_factory=list)
    poke_hangs: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def lines_url(self) -> str:
        """All entities and activity but the commits, as JSON Lines."""
        return f"{self.url}/all.jsonl"

    @contextmanager
    def running(self) -> Iterator[Upstream]:
        upstream = self

        class Handler(Exchange):
            tool = upstream

        with _Server(("127.0.0.1", 0), Handler) as served:
            self.port = served.server_address[1]
            thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield self
            finally:
                self.stopping.set()
                served.shutdown()
                thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that went away is what the tests are about."""


class Exchange(BaseHTTPRequestHandler):
    """One connection to the tool."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the receipt of its headers
    tool: ClassVar[Upstream]

    def do_GET(self) -> None:
        self.tool.asked.append(self.path)
        if self.tool.delay:
            time.sleep(self.tool.delay)
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/all.jsonl":
            self._lines()
        elif address.path in {"/entities", "/activity", "/commits"}:
            self._page(address.path[1:], query.get("after"))
        else:
            self.send(404, b"no such list")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.tool.poked.append(orjson.loads(body))
        while self.tool.poke_hangs and not self.tool.stopping.wait(0.05):
            pass
        self.send(200, b'{"ok": true}')

    def _page(self, name: str, after: str | None) -> None:
        items = self.tool.world.listing(name)
        start = 0
        if after is not None:
            # By the key that came last, so that what comes or goes meanwhile shifts nothing.
            start = next((n for n, item in enumerate(items) if item["external_id"] == after), -1) + 1
            if not start:
                self.send(410, b"the list has changed")
                return
        shown = items[start : start + self.tool.page]
        more = start + self.tool.page < len(items)
        following = f"{self.tool.url}/{name}?after={shown[-1]['external_id']}" if more else None
        fault = self.tool.faults.get((name, start // self.tool.page))
        if fault:
            fault(self, shown, following)
        else:
            self.send_page(shown, following)

    def _lines(self) -> None:
        items = [*self.tool.world.listing("entities"), *self.tool.world.listing("activity")]
        for (name, number), fault in self.tool.faults.items():
            if name == "lines":
                fault(self, items, str(number))
                return
        self.send(200, lines_of(items), kind="application/x-ndjson")

    def send_page(self, items: list[Item], following: str | None) -> None:
        self.send(200, orjson.dumps({"items": items, "next": following}))

    def send(
        self, status: int, body: bytes, *, kind: str = "application/json", length: int = -1, **headers: str
    ) -> None:
        """Answer; `length` may lie, and then the connection is cut."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        if length > len(body):
            self.close_connection = True

    def hang(self) -> None:
        """Say nothing more until the test is over."""
        self.tool.stopping.wait(60)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def lines_of(items: list[Item]) -> bytes:
    return b"".join(orjson.dumps(item) + b"\n" for item in items)


# --- what can go wrong --------------------------------------------------------------------------------------------


def fails(exchange: Exchange, _items: list[Item], _following: str | None) -> None:
    exchange.send(500, b'{"message": "the disk is full"}')


def asks_to_wait(exchange: Exchange, _items: list[Item], _following: str | None) -> None:
    exchange.send(429, b'{"message": "slow down"}', Retry_After="2")


PAUSE = 8  # seconds; long enough that a busy machine begins a run within it


def asks_for_a_long_pause(exchange: Exchange, _items: list[Item], _following: str | None) -> None:
    exchange.send(429, b'{"message": "slow down"}', Retry_After=str(PAUSE))


def shows_nothing(exchange: Exchange, _items: list[Item], _following: str | None) -> None:
    exchange.send_page([], None)


def shows_half(exchange: Exchange, items: list[Item], _following: str | None) -> None:
    """Half the page and no further one, as if that were all."""
    exchange.send_page(items[: len(items) // 2], None)


def hangs(exchange: Exchange, _items: list[Item], _following: str | None) -> None:
    exchange.hang()


def hangs_in_the_middle(exchange: Exchange, items: list[Item], following: str | None) -> None:
    body = orjson.dumps({"items": items, "next": following})
    exchange.send(200, body[: len(body) // 2], length=len(body))
    exchange.hang()


def cuts(exchange: Exchange, items: list[Item], following: str | None) -> None:
    body = orjson.dumps({"items": items, "next": following})
    exchange.send(200, body[: len(body) // 2], length=len(body))


def breaks_json(exchange: Exchange, items: list[Item], following: str | None) -> None:
    body = orjson.dumps({"items": items, "next": following})
    exchange.send(200, body[: len(body) // 2])


def redirects_to_metadata(exchange: Exchange, _items: list[Item], _following: str | None) -> None:
    exchange.send(302, b"", Location=METADATA)


def redirects_to(address: str) -> Fault:
    def fault(exchange: Exchange, _items: list[Item], _following: str | None) -> None:
        exchange.send(307, b"", Location=address)

    return fault


def in_lines(how: str) -> Fault:
    """A fault of the JSON Lines: `number` says after how many lines of ten it strikes."""

    def fault(exchange: Exchange, items: list[Item], number: str | None) -> None:
        whole = lines_of(items)
        good = lines_of(items[: len(items) * int(number or 0) // 10])
        kind = "application/x-ndjson"
        match how:
            case "cut":
                exchange.send(200, whole[: len(good) + 20], kind=kind, length=len(whole))
            case "hang":
                exchange.send(200, good, kind=kind, length=len(whole))
                exchange.hang()
            case "broken JSON":
                exchange.send(200, good + b'{"type": "team", "exter\n' + whole[len(good) :], kind=kind)
            case "half a line":
                exchange.send(200, whole[: len(good) + 20], kind=kind)
            case "fewer":
                exchange.send(200, good, kind=kind)
            case _:
                raise AssertionError(how)

    return fault


# --- the connector ------------------------------------------------------------------------------------------------


class PagedConfig(ConnectionConfig):
    """Where the tool is."""

    base_url: str = Field(title="Address", description="Of the tool.")


class Poke(BaseModel):
    """What to say."""

    model_config = ConfigDict(extra="forbid")

    word: str = Field(description="Any word.")


class Paged(Connector[PagedConfig]):
    """Reads the tool by the page, as most connectors do."""

    slug = "paged"
    label = "Paged"
    monogram = "Pa"
    category = Category.CI
    brings = "What the tests need"

    async def checks(self) -> AsyncIterator[Check]:
        await self.http.at(self.config.base_url).json("/entities")
        yield Check("Reached")

    @resource(of=ENTITIES)
    async def entities(self) -> AsyncIterator[Record | Refused]:
        """What exists."""
        async for item in self._list("entities"):
            yield _record(item)

    @resource(of=ACTIVITY)
    async def activity(self) -> AsyncIterator[Record | Refused]:
        """What happened."""
        async for item in self._list("activity"):
            yield _record(item)

    @resource(of=Commit, incremental=True)
    async def commits(self, since: dict[str, Any] | None) -> AsyncIterator[Record | Refused | Mark]:
        """What happened since the last time; each page is safe to go on from."""
        last = (since or {}).get("after")
        count = 0
        async for item in self._list("commits", after=last):
            yield _record(item)
            count += 1
            if not count % 5:
                yield Mark({"after": item["external_id"]})
            last = item["external_id"]
        if last:
            yield Mark({"after": last})

    @operation(label="Poke", on=Pipeline, risk=Risk.LOW)
    async def poke(self, target: Pipeline, params: Poke) -> OperationResult:
        """Send a word."""
        body = {"target": target.external_id, "word": params.word}
        await self.http.at(self.config.base_url).post("/poke", json=body)
        return OperationResult(message="Poked.")

    async def _list(self, name: str, *, after: str | None = None) -> AsyncIterator[Item]:
        pages = self.http.at(self.config.base_url).pages(
            f"/{name}", params={"after": after}, next=lambda answer: _body(answer.json())["next"]
        )
        async for answer in pages:
            for item in _body(answer.json())["items"]:
                yield item


def connections_to(paged: str, lines: str) -> list[dict[str, Any]]:
    """Two connections that tell of the same things, for `create_connection`."""
    return [
        {
            "slug": "paged",
            "label": "Paged",
            "connector": "paged",
            "config": {"base_url": paged},
            "interval": 3600,
        },
        {
            "slug": "lines",
            "label": "Lines",
            "connector": "records",
            "config": {"location": lines},
            "interval": 3600,
        },
    ]


def _body(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict) or not isinstance(data.get("items"), list):
        raise BadPayload("The tool answered no list.")
    return data


def _record(item: Item) -> Record | Refused:
    fields = {name: value for name, value in item.items() if name not in {"type", "external_id"}}
    return record_or_refusal(RECORD_TYPES[item["type"]], item["external_id"], **fields)
