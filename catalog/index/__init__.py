"""Entities in memory: sets of ids for conditions, values of fields, kept true by what is written.

The database answers which entities a condition finds, once; then the set of their ids is kept, as are the values of
the fields that people sort, search and count by. Before each use one small statement asks which entities were touched
since, and only those are looked at again: a write empties nothing. So totals, facets and orders of any mix of
conditions, for any viewer, are operations on sets (docs/adr/0020).

Nothing is decided here: what a viewer may see is `visible`'s condition, kept like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from catalog.index.entities import Index

__all__ = ["Index", "forget_index", "index", "sees_everything"]

_shared = Index()


@contextmanager
def index(*, is_asked_again: bool = False) -> Iterator[Index]:
    """The index as the database is now, for one thread at a time.

    Inside a transaction it is one of its own, for nobody else sees what that has written.

    :param is_asked_again: whether this request has used it a moment ago, so that it need not look for changes.
    """
    if connection.in_atomic_block:
        yield Index().come_up()
        return
    with _shared.lock:
        yield _shared if is_asked_again else _shared.come_up()


def sees_everything(viewer: Any) -> bool:
    """Whether nothing is kept from a viewer."""
    return (Index() if connection.in_atomic_block else _shared).sees_everything(viewer)


def forget_index() -> None:
    """Read everything anew: the database is another one."""
    with _shared.lock:
        _shared.forget()
