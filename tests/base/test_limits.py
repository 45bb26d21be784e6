"""Limits, and how it is said that one is exceeded."""

from __future__ import annotations

import pytest

from base.limits import LimitExceeded, check_size

MOST = 10 * 1024 * 1024


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (MOST + 1, "has more than 10 MiB; at most 10 MiB are accepted."),
        (11_000_000, "has 10.5 MiB; at most 10 MiB are accepted."),
    ],
)
def test_what_is_too_large_is_said_to_be_larger_than_what_may_be(size: int, said: str) -> None:
    with pytest.raises(LimitExceeded, match=said):
        check_size(size, MOST, what="The file")
    check_size(MOST, MOST, what="The file")
