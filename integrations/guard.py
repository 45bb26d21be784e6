"""When so much would go at once that a person is asked first."""

from __future__ import annotations

SHARE = 0.2
COUNT = 10


def is_much(gone: int, before: int) -> bool:
    """Whether it is suspicious that so many of those that were there are gone: a fifth of them, and ten at least."""
    return gone >= COUNT and gone > before * SHARE
