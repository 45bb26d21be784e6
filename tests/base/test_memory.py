"""Rare looks for garbage: for the time of a block, whatever other threads do meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from base.memory import rare_collections


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """As in a process that has frozen nothing, which the one that runs the tests has."""
    gc.unfreeze()
    yield
    gc.freeze()


def test_what_was_usual_is_so_again_however_blocks_overlap_and_end() -> None:
    usual = gc.get_threshold()
    first, second = rare_collections(), rare_collections()
    first.__enter__()
    second.__enter__()
    assert gc.get_threshold() != usual
    assert gc.get_freeze_count() > 0
    first.__exit__(None, None, None)
    assert gc.get_threshold() != usual
    assert not second.__exit__(ValueError, ValueError("failed"), None)
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() == 0


def test_what_a_process_was_forked_with_stays_out_of_sight() -> None:
    gc.freeze()
    try:
        new: list[object] = [[] for _number in range(10_000)]
        before = gc.get_freeze_count()
        with rare_collections():
            assert gc.get_freeze_count() < before + len(new) // 2
        assert gc.get_freeze_count() > before // 2
    finally:
        gc.unfreeze()
