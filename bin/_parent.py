"""Ties a child's life to its parent's, where the kernel can."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dying_with_parent(number: int) -> Callable[[], None] | None:
    """Make a function for a new child to run first, after which the kernel signals it when this process ends.

    It ends with the thread that starts the child, so that must be the one that lives as long as the process.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
