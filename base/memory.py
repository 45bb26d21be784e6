"""How much Python does to find garbage, where many objects are made that are all needed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# New objects between two looks for cycles among them; and how many such looks lead to one at older ones.
_RARE = (50_000, 20, 50)
_lock = threading.Lock()
_usual = gc.get_threshold()
_blocks = 0  # that are going on, in whatever threads: the last of them brings back what is usual
_has_frozen = (
    False  # not where a process was forked from one that had: what is loaded stays shared with others
)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look rarely for cycles of dead objects until the end of the block, and not at all among those from before it.

    Bulk work makes hundreds of thousands of objects, hardly any of them in a cycle: looking through them again and
    again, and through all that the process has loaded, would take a good part of its time.
    """
    global _blocks, _usual, _has_frozen
    with _lock:
        _blocks += 1
        if _blocks == 1:
            _usual = gc.get_threshold()
            _has_frozen = not gc.get_freeze_count()
            if _has_frozen:
                gc.freeze()
            gc.set_threshold(*_RARE)
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                gc.set_threshold(*_usual)
                if _has_frozen:
                    gc.unfreeze()
