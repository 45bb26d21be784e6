"""Granian with the portal loaded once, before it forks its workers: `python -m portal.serve`, its options.

Each worker would else load all of it for itself, which takes seconds of a start and twice the memory.
"""

from __future__ import annotations

import multiprocessing
import sys

from django.urls import get_resolver
from granian.cli import entrypoint

import portal.wsgi  # noqa: F401 - sets Django up


def serve() -> None:
    """Load what every request needs, then hand over to Granian."""
    if sys.platform.startswith("linux"):
        multiprocessing.set_start_method("fork")
    _ = get_resolver().url_patterns
    sys.argv[1:] = ["--interface", "wsgi", "--no-ws", *sys.argv[1:], "portal.wsgi:application"]
    entrypoint()


if __name__ == "__main__":
    serve()
