"""The web server: Granian with the portal loaded before it forks its workers: `python -m portal.serve`, its options.

Each worker would else load all of it for itself, which takes seconds of a start and twice the memory.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.urls import get_resolver
from granian.cli import entrypoint

import portal.wsgi  # noqa: F401 - sets Django up


def load() -> None:
    """Load what every request needs, for the processes that are forked from this one."""
    _ = get_resolver().url_patterns
    gc.collect()
    gc.freeze()  # a collection writes to all that it looks at, and what is written to is no longer shared


def share_connections(number: int) -> None:
    """Have the threads of this process, and of those that are forked from it, share connections to the database.

    :param number: the most of them; 0 leaves each thread its own.
    """
    if number:
        database = connections.settings[DEFAULT_DB_ALIAS]
        database["OPTIONS"]["pool"] = {"min_size": min(2, number), "max_size": number, "timeout": 10}
        database.update(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=False)


def serve(arguments: list[str]) -> None:
    """Serve until a signal says stop.

    :param arguments: Granian's options.
    """
    share_connections(settings.DATABASE_POOL)
    if sys.platform.startswith("linux"):
        multiprocessing.set_start_method("fork")
    sys.argv[1:] = ["--interface", "wsgi", "--no-ws", *arguments, "portal.wsgi:application"]
    entrypoint()


if __name__ == "__main__":
    load()
    serve(sys.argv[1:])
