"""The feed as server-sent events: each change as it is made, without asking again and again.

A stream holds a thread of the web server, so each process takes few; who comes later is told to poll. It ends after
some minutes, and a client comes again by itself with the position of what it got last: so who may no longer read is
found out at the latest then, and a server can be stopped at any time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer

from base.api import JSONRenderer, dump_json
from base.errors import DomainError
from catalog.api.serializers import feed_item
from catalog.feed import feed_since

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the feed
HEARTBEAT_SECONDS = 5.0  # and so long it may take until it is seen that a client has left
LIFE_SECONDS = 300.0
RETRY_SECONDS = 3
PAGE = 200
Position = tuple[int, int]


class StreamsTaken(DomainError):
    """As many streams are open as this server takes."""

    code = "streams-taken"
    status = 503
    title = gettext_lazy("No stream is free")
    retry_after = 30


class EventStreamRenderer(BaseRenderer):
    """Says that a view can answer with events; what goes wrong before the first of them is JSON all the same."""

    media_type = "text/event-stream"
    format = "events"
    charset = None
    render_style = "binary"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        return bytes(JSONRenderer().render(data))


class EventsAlone(BaseContentNegotiation):
    """Events, whatever the client says that it takes."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class _Slots:
    """How many streams this process has open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self) -> None:
        """:raises StreamsTaken: if there is none left."""
        with self._lock:
            if self._taken >= settings.EVENT_STREAMS:
                raise StreamsTaken(
                    _("This server has %(max)d streams open, which is all that it takes. Ask /api/v1/feed with "
                      "`since` every few seconds instead, or come again later.") % {"max": settings.EVENT_STREAMS}
                )  # fmt: skip
            self._taken += 1

    def free(self) -> None:
        with self._lock:
            self._taken -= 1


slots = _Slots()


class EventStream:
    """What one client is sent: pieces of `text/event-stream`, until it leaves, its time is over or it may no longer.

    :param may_read: asked before each look whether the client may still read.
    """

    def __init__(self, viewer: Any, position: Position, *, may_read: Callable[[], bool]) -> None:
        self._viewer, self._may_read = viewer, may_read
        self._items, self._position = self._read(position)
        slots.take()
        self._lock = threading.Lock()
        self._is_open = True
        self._ends_at = time.monotonic() + LIFE_SECONDS
        self._beat_at = 0.0
        self._is_first = True

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        try:
            return self._next()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another one have the place; called by the server however it ends."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                slots.free()

    def _next(self) -> bytes:
        if self._is_first:
            self._is_first = False
            self._beat_at = time.monotonic() + HEARTBEAT_SECONDS
            return b"retry: %d\n\n" % (RETRY_SECONDS * 1000) + self._told(self._items)
        while self._is_open and (now := time.monotonic()) < self._ends_at:
            if not self._is_behind:
                time.sleep(LOOK_SECONDS)
            try:
                if not self._may_read():
                    break
                items, self._position = self._read(self._position)
            except (Error, DomainError):
                # The database is away, or another one: the client comes again and is told.
                logger.info("A stream of the feed ends.", exc_info=True)
                break
            if items:
                self._beat_at = time.monotonic() + HEARTBEAT_SECONDS
                return self._told(items)
            if now >= self._beat_at:
                self._beat_at = now + HEARTBEAT_SECONDS
                # An id without data: nothing is told, and who comes again begins here.
                return b": still here\nid: %d.%d\n\n" % self._position
        raise StopIteration

    def _read(self, position: Position) -> tuple[list[Any], Position]:
        try:
            items, position = feed_since(self._viewer, position=position, limit=PAGE)
            self._is_behind = len(items) == PAGE
            return items, position
        finally:
            if not connection.in_atomic_block:
                connection.close()  # a stream that sleeps keeps none from those who work

    @staticmethod
    def _told(items: Iterable[Any]) -> bytes:
        return b"".join(
            b"id: %d.%d\ndata: %s\n\n" % (item.transaction, item.pk, dump_json(feed_item(item)))
            for item in items
        )


def events_response(stream: EventStream) -> StreamingHttpResponse:
    """The answer that a stream is sent in; no cache and no proxy may keep it back."""
    return StreamingHttpResponse(
        stream,
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
