"""One at a time, and in short transactions: how locations are read and written beside other writers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

from django.db import Error, OperationalError, connection, transaction
from django.utils.translation import gettext as _

from base.errors import Conflict
from integrations.services.locations.addresses import label_of

T = TypeVar("T")
PAGE = 1_000
ATTEMPTS = 6
# A worker is asked for what a person wants at once; should its message be lost, the tick asks again after this.
REGISTERED_FOR = timedelta(seconds=10)


class LocationBusy(Conflict):
    """Another process is reading these catalog files."""

    code = "location-busy"


@contextmanager
def alone(address: str, *, seconds: float) -> Iterator[None]:
    """Be the only one who reads a location, in whatever process; nobody else waits for that.

    The lock is the database session's, not a transaction's: it lasts while we read, and ends with the process.

    :param seconds: how long to wait for another.
    :raises LocationBusy: if that is not enough.
    """
    key = int.from_bytes(hashlib.blake2b(address.encode(), digest_size=8).digest(), signed=True)
    until = time.monotonic() + seconds
    while not _ask("SELECT pg_try_advisory_lock(%s)", key):
        if time.monotonic() >= until:
            raise LocationBusy(
                _("%(location)s is being read right now; try again when that is over.")
                % {"location": label_of(address)}
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        with suppress(Error):  # a session that broke has let go
            _ask("SELECT pg_advisory_unlock(%s)", key)


def _ask(statement: str, key: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, [key])
        row = cursor.fetchone()
    return bool(row and row[0])


def apart(do: Callable[[], T], *, take_back: bool = False) -> T:
    """Do something in a short transaction of its own; again, when it met another writer in a circle.

    :param take_back: roll back what was done.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic():
                result = do()
                if take_back:
                    transaction.set_rollback(True)
                return result
        except OperationalError as error:
            # A deadlock, or a serialization failure: the other one goes on, and then it is our turn.
            sqlstate = getattr(error.__cause__, "sqlstate", None)
            if sqlstate not in ("40P01", "40001") or attempt == ATTEMPTS:
                raise
            time.sleep(0.1 * attempt)
    raise AssertionError("unreachable")


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + PAGE] for start in range(0, len(items), PAGE))
