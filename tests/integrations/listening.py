"""Servers of one test: what listens in an event loop of its own, and is gone when the block ends."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listening:
    """An event loop in a thread, with the ports that are listened on there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._accepted: list[asyncio.StreamWriter] = []

    def listen(self, serve: Serve, tls: ssl.SSLContext | None = None) -> int:
        """Answer on one more port by `serve`, and return the port."""

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Awaitable[None]:
            self._accepted.append(writer)
            return serve(reader, writer)

        async def start() -> int:
            self._servers.append(await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls))
            return self._servers[-1].sockets[0].getsockname()[1]

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        await asyncio.sleep(0)  # what was just accepted has to get its transport first
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that never began, or a client that does not read, leaves its socket open.
        for writer in self._accepted:
            with suppress(AttributeError):  # of a TLS transport that is gone already
                writer.transport.abort()
        await asyncio.sleep(0.02)  # what was closed has to hear of it while there is a loop


@contextmanager
def listening() -> Iterator[Listening]:
    """Have a loop to listen in until the end of the block."""
    place = Listening()
    thread = threading.Thread(target=place._loop.run_forever)
    thread.start()
    try:
        yield place
    finally:
        asyncio.run_coroutine_threadsafe(place._close(), place._loop).result(10)
        place._loop.call_soon_threadsafe(place._loop.stop)
        thread.join()
        place._loop.close()
