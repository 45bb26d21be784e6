"""A forward proxy on loopback that knows names which this machine does not."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from tests.integrations.listening import listening


@dataclass
class Proxy:
    """What a test sees of it.

    :ivar knows: the port on loopback of each `host:port`; anything else is a 502.
    :ivar password: what `ana` must give, if anything.
    :ivar asked: each request's first line.
    """

    knows: Mapping[str, int] = field(default_factory=dict)
    password: str = ""
    port: int = 0
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *headers = head.rstrip().split("\r\n")
            self.asked.append(line)
            method, target, _version = line.split(" ")
            expected = "Basic " + b64encode(f"ana:{self.password}".encode()).decode()
            given = {name.lower(): value for name, value in (one.split(": ", 1) for one in headers)}
            if self.password and given.get("proxy-authorization") != expected:
                refusal = (
                    b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="p"\r\nContent-Length: 0\r\n\r\n'
                )
                writer.write(refusal)
            else:
                await self.pass_on(method, target, head, reader, writer)
            await writer.drain()

    async def pass_on(
        self,
        method: str,
        target: str,
        head: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        place = target if method == "CONNECT" else target.split("/")[2]
        port = self.knows.get(place)
        if port is None:
            writer.write(b"HTTP/1.1 502 Unknown\r\nContent-Length: 0\r\n\r\n")
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(there_writer):
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                there_writer.write(head.replace(f"http://{place}", "", 1).encode("latin-1"))
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with closing(writer), suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextmanager
def run_proxy(proxy: Proxy, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run the proxy until the end of the block."""
    with listening() as place:
        proxy.port = place.listen(proxy.serve, tls)
        yield proxy
