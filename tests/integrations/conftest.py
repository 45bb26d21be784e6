"""A real HTTP server on loopback that answers, or misbehaves, exactly as a test says."""

from __future__ import annotations

import asyncio
import inspect
import json as json_module
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class Request:
    """What the server was asked; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


Reply = bytes | Callable[[Request], bytes] | Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes | str = b"",
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    length: int | None = None,
) -> bytes:
    """A whole HTTP answer as bytes; `length` may lie."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if json is not None:
        body = json_module.dumps(json)
        given.setdefault("content-type", "application/json")
    body = body.encode() if isinstance(body, str) else body
    if status != 304:
        given.setdefault("content-length", str(len(body) if length is None else length))
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Server:
    """The server as a test sees it.

    :ivar requests: all that were asked, in order.
    """

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    _routes: dict[str, list[Reply]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, *replies: Reply) -> None:
        """Answer a path with these in turn, and with the last of them from then on."""
        self._routes[path] = list(replies)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._read(reader):
                self.requests.append(request)
                replies = self._routes.get(request.path) or [answer("no such page", status=404)]
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if isinstance(reply, bytes):
                    writer.write(reply)
                elif inspect.iscoroutinefunction(reply):
                    await reply(request, writer)
                    break
                else:
                    writer.write(reply(request))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Request | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _version = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _colon, value in (line.partition(":") for line in head[1:] if line)
        }
        return Request(
            method, target, headers, await reader.readexactly(int(headers.get("content-length", 0)))
        )


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test alone, in a thread and loop of its own."""
    served = Server()
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(served.serve, "127.0.0.1", 0))
    served.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield served

    async def close() -> None:
        listening.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def make_answer() -> Callable[..., bytes]:
    """The function that builds an answer: `make_answer(json=..., status=429, headers=...)`."""
    return answer


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on the loop that the portal uses."""
    return "asyncio"
