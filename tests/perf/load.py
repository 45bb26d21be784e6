"""Asks a server over some connections as fast as it answers: `python -m tests.perf.load PORT CONNECTIONS SECONDS`.

The requests come on standard input as JSON, a list of [method, path, body or null, headers], and are asked in turn;
what came of it is printed as JSON. A process of its own, so that its CPU counts for nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any


def raw(method: str, path: str, body: str | None, headers: dict[str, str]) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in headers.items())]
    data = (body or "").encode()
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, "", ""]).encode() + data


class Client(asyncio.Protocol):
    """One connection, which asks again as soon as it has its answer."""

    def __init__(self, requests: Iterator[bytes], until: float, done: asyncio.Future[None]) -> None:
        self.requests, self.until, self.done = requests, until, done
        self.times: list[float] = []
        self.bytes = 0
        self.failures: dict[str, int] = {}
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.begun = time.perf_counter()
        if self.begun >= self.until:
            self.transport.close()
            return
        self.head_end = -1
        self.buffer.clear()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.head_end < 0:
            self.head_end = self.buffer.find(b"\r\n\r\n")
            if self.head_end < 0:
                return
            head = bytes(self.buffer[: self.head_end]).lower()
            self.status = head[9:12].decode()
            at = head.find(b"content-length:")
            self.length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else None
            if self.status in ("204", "304"):
                self.length = 0
        if self.length is not None:
            if len(self.buffer) < self.head_end + 4 + self.length:
                return
        elif not self.buffer.endswith(b"\r\n0\r\n\r\n"):
            return
        self.times.append(time.perf_counter() - self.begun)
        self.bytes += len(self.buffer)
        if self.status != "200":
            self.failures[self.status] = self.failures.get(self.status, 0) + 1
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(port: int, connections: int, seconds: float, wanted: list[Any]) -> dict[str, Any]:
    """Ask for so long.

    :returns: how many answers came in how many seconds, half and 95 % of them in so many, bytes, failures by status.
    """
    loop = asyncio.get_running_loop()
    requests = itertools.cycle([raw(*one) for one in wanted])
    begun = time.perf_counter()
    clients = []
    for _number in range(connections):
        done = loop.create_future()
        made = Client(requests, begun + seconds, done)
        await loop.create_connection(lambda made=made: made, "127.0.0.1", port)  # type: ignore[misc]
        clients.append(made)
    await asyncio.gather(*(client.done for client in clients))
    taken = time.perf_counter() - begun
    times = sorted(itertools.chain.from_iterable(client.times for client in clients))
    failures: dict[str, int] = {}
    for client in clients:
        for status, number in client.failures.items():
            failures[status] = failures.get(status, 0) + number
    return {
        "answers": len(times),
        "seconds": taken,
        "p50": times[len(times) // 2] if times else None,
        "p95": times[len(times) * 95 // 100] if times else None,
        "bytes": sum(client.bytes for client in clients),
        "failures": failures,
    }


if __name__ == "__main__":
    port, connections, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(run(int(port), int(connections), float(seconds), json.load(sys.stdin)))))
