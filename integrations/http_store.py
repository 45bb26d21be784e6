"""What workers share about tools, through Redis: pauses to keep, and answers kept for later."""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptAnswer:
    """An answer that the tool may confirm by its ETag."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class SharedStore:
    """What workers share through Redis: pauses that tools asked for, and answers that may still be fresh.

    Nothing here is needed to go on, so a Redis that is empty, full or away is only noted. The store has a
    fixed number of slots of bounded size, in which the newest answer stays: it cannot grow.
    """

    SLOTS = 65_536  # a few thousand answers of one tool seldom meet in one
    SLOT_BYTES = 64 * 1024  # compressed
    BODY_BYTES = 1024 * 1024
    LIFETIME = 24 * 3600  # seconds
    REST = 30.0  # seconds for which a Redis that is away is not asked

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._holds: dict[str, float] = {}
        self._away_until = 0.0

    @classmethod
    def from_settings(cls) -> SharedStore:
        """The portal's own Redis, asked once and not for long."""
        once = Retry(NoBackoff(), 0)
        return cls(Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, retry=once))

    async def aclose(self) -> None:
        if self._redis is not None:
            with suppress(RedisError, OSError):
                await self._redis.aclose()

    async def _try(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:
        if self._redis is None or time.monotonic() < self._away_until:
            return None
        try:
            return await command(self._redis)
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + self.REST
            logger.warning("Redis does not help outbound calls for now: %s", error)
            return None

    async def hold(self, budget: str, seconds: float) -> None:
        """Let everyone with this budget wait."""
        if seconds <= 0:
            return
        until = time.time() + seconds
        self._holds[budget] = max(until, self._holds.get(budget, 0.0))
        key, expiry = f"portico:http:hold:{budget}", math.ceil(seconds * 1000)
        await self._try(lambda redis: redis.set(key, until, px=expiry))

    async def held_for(self, budget: str) -> float:
        """Seconds that those with this budget have yet to wait."""
        stored = await self._try(lambda redis: redis.get(f"portico:http:hold:{budget}"))
        return max(0.0, self._holds.get(budget, 0.0) - time.time(), float(stored or 0) - time.time())

    @classmethod
    def _slot(cls, identity: str) -> str:
        return f"portico:http:answer:{int(identity[:8], 16) % cls.SLOTS}"

    async def remember(self, identity: str, answer: KeptAnswer) -> None:
        """Keep an answer, if it has an ETag, may be kept and is not too large.

        :param identity: a hash of what was asked by whom.
        """
        control = answer.headers.get("cache-control", "")
        if self._redis is None or not answer.headers.get("etag") or "no-store" in control:
            return
        if len(answer.body) > self.BODY_BYTES:
            return
        head = orjson.dumps({"identity": identity, "url": answer.url, "headers": answer.headers})
        packed = zlib.compress(head + b"\n" + answer.body, 1)
        if len(packed) <= self.SLOT_BYTES:
            await self._try(lambda redis: redis.set(self._slot(identity), packed, ex=self.LIFETIME))

    async def recall(self, identity: str) -> KeptAnswer | None:
        """The kept answer to this very question by this very asker."""
        packed = await self._try(lambda redis: redis.get(self._slot(identity)))
        if not packed:
            return None
        try:
            head, body = zlib.decompress(packed).split(b"\n", 1)
            kept = orjson.loads(head)
            return KeptAnswer(kept["url"], kept["headers"], body) if kept["identity"] == identity else None
        except (ValueError, KeyError, TypeError, zlib.error):
            return None
