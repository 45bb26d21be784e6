"""Brakes for those who guess passwords: attempts are counted per account, per address and for both."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime

from django.core.cache import cache
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from redis.exceptions import RedisError

from base.errors import DomainError

logger = logging.getLogger(__name__)

WINDOW = 15 * 60
PER_ACCOUNT_AND_ADDRESS = 5
# Wide, so that nobody locks another out by guessing, but narrow enough against guessing from many places.
PER_ACCOUNT = 50
PER_ADDRESS = 50


class SignInThrottled(DomainError):
    """There were too many attempts to sign in.

    :ivar retry_after: seconds until the next one is looked at.
    """

    code = "sign-in-throttled"
    status = 429
    title = gettext_lazy("Too many attempts to sign in")

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Attempt:
    """One attempt to sign in that was counted."""

    pair: str
    others: tuple[str, ...]

    def succeeded(self) -> None:
        """Take it back: only failures count."""
        try:
            cache.delete(self.pair)
            for key in self.others:
                cache.decr(key)
        except (RedisError, ValueError):  # emptied or away: nothing to take back
            logger.info("A sign-in could not be taken off the count of attempts.")


def count_attempt(*, account: str, address: str, now: datetime) -> Attempt:
    """Count an attempt before the password is looked at, so that many at once are counted too.

    Without Redis nothing is counted: people can still sign in.

    :raises SignInThrottled: if there were too many, saying when it goes on.
    """
    window, passed = divmod(int(now.timestamp()), WINDOW)
    name = hashlib.sha256(account.encode()).hexdigest()[:32]
    keys = {
        f"sign-in:{window}:{name}:{address}": PER_ACCOUNT_AND_ADDRESS,
        f"sign-in:{window}:{name}": PER_ACCOUNT,
        f"sign-in:{window}:@{address}": PER_ADDRESS,
    }
    try:
        is_over = [_count(key) > limit for key, limit in keys.items()]
    except RedisError:
        logger.exception("Attempts to sign in are not counted: Redis does not answer.")
        is_over = []
    if any(is_over):
        seconds = WINDOW - passed
        minutes = -(-seconds // 60)
        raise SignInThrottled(
            _("Too many attempts to sign in. %(when)s, or ask an administrator for a sign-in link.")
            % {
                "when": ngettext("Try again in %d minute", "Try again in %d minutes", minutes) % minutes,
            },
            retry_after=seconds,
        )
    pair, *others = keys
    return Attempt(pair, tuple(others))


def _count(key: str) -> int:
    cache.add(key, 0, timeout=WINDOW)
    try:
        return cache.incr(key)
    except ValueError:  # gone between the two, as when Redis was emptied
        return 1
