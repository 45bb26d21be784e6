"""The stream of the feed by itself; from a real web server it is driven in `tests/faults/test_events.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import OperationalError

from access.models import User
from catalog.api import events
from catalog.api.events import EventStream, slots
from catalog.models import FeedItem
from tests.catalog.saying import component, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture(autouse=True)
def going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LIFE_SECONDS", 60.0)
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.0)


def test_it_ends_quietly_and_leaves_its_place_when_nobody_can_say_whether_one_may_read(ben: User) -> None:
    def may_read() -> bool:
        raise OperationalError("the database is away")

    taken = slots._taken
    stream = EventStream(ben, (0, 0), may_read=may_read)
    assert slots._taken == taken + 1
    assert [piece.partition(b"\n")[0] for piece in stream] == [b"retry: 3000"]
    assert slots._taken == taken


def test_who_is_far_behind_is_sent_page_after_page_without_waiting(
    ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE", 2)
    say("yaml:a", *[component(f"c{number}") for number in range(5)])
    FeedItem.objects.update(transaction=0)  # what is written in a test's own transaction is not over
    waits: list[float] = []
    monkeypatch.setattr(events.time, "sleep", waits.append)
    looks: Iterator[bool] = iter((True, True, False))
    pieces = list(EventStream(ben, (0, 0), may_read=lambda: next(looks)))
    assert [piece.count(b"data: ") for piece in pieces] == [2, 2, 1]
    assert len(waits) == 1  # once nothing more was there
