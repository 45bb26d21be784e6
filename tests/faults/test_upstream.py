"""A tool that fails while it is read: nothing is deleted, nothing forbidden is fetched, the run says why, and the
next good run leaves the catalog as if nothing had been."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from catalog.models import Activity, Claim, Entity, Problem
from integrations.models import Connection, ResourceState, RunState, StoredRecord
from integrations.services.runs import decide_guard, restore_removed
from tests.faults import upstream as tool
from tests.faults.conftest import Portal, differences
from tests.faults.upstream import Fault, Upstream

Undisturbed = Callable[[str, Connection], list[str]]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient", "paged")]

# What goes wrong, and a word of the reason that the run must give.
FAULTS: dict[str, tuple[Fault, str]] = {
    "500": (tool.fails, "status 500"),
    "429": (tool.asks_to_wait, "asks for a pause of 2 seconds"),
    "empty list": (tool.shows_nothing, "Nothing was removed"),
    "half a list": (tool.shows_half, "Nothing was removed"),
    "hang": (tool.hangs, "did not answer"),
    "hang in the middle": (tool.hangs_in_the_middle, "did not answer"),
    "cut": (tool.cuts, "broke off"),
    "broken JSON": (tool.breaks_json, "broken JSON"),
    "redirect to metadata": (tool.redirects_to_metadata, "never reach"),
}
PLACES = ("first", "middle", "last")


@pytest.fixture(autouse=True)
def _allowed(upstream: Upstream, settings: Any) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.port}"]


@pytest.fixture
def canary() -> Iterator[Upstream]:
    """Another server on loopback, which no setting allows."""
    with Upstream().running() as running:
        yield running


def _number(upstream: Upstream, name: str, place: str) -> int:
    """The number of a page of three."""
    upstream.page = -(-len(upstream.world.listing(name)) // 3)
    return PLACES.index(place)


def _alive() -> set[str]:
    return set(Entity.objects.filter(deleted_at=None).values_list("ref", flat=True))


def _counts() -> tuple[int, int, int]:
    return (
        Claim.objects.count(),
        StoredRecord.objects.filter(deleted_at=None).count(),
        Activity.objects.count(),
    )


def _changed(upstream: Upstream, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        upstream.world.change(chance, grows=False)


def _wait_out(fault: str) -> None:
    if fault == "429":
        time.sleep(2.1)


def _cases() -> Iterator[Any]:
    """Every fault at every place; in the fast tier each fault once, in turn at each place."""
    for number, fault in enumerate(FAULTS):
        for place in PLACES:
            if (fault, place) == ("half a list", "last"):
                continue  # that is most of the list
            is_fast = PLACES.index(place) == number % len(PLACES)
            yield pytest.param(fault, place, marks=() if is_fast else pytest.mark.full)


@pytest.mark.parametrize(("fault", "place"), [*_cases()])
def test_a_fault_of_a_page_deletes_nothing_and_is_made_good(
    portal: Portal,
    upstream: Upstream,
    undisturbed: Undisturbed,
    contacted: set[tuple[str, int]],
    fault: str,
    place: str,
) -> None:
    connection = portal.connect("paged", "paged", base_url=upstream.url)
    portal.sync_well(connection)
    _changed(upstream, 7)

    expected = undisturbed("pages", connection)
    before, counts = _alive(), _counts()

    misbehave, reason = FAULTS[fault]
    upstream.faults["entities", _number(upstream, "entities", place)] = misbehave
    run = portal.sync(connection)

    read_some = any(resource.listed for resource in run.resources.all())
    assert run.state == (RunState.PARTIAL if read_some else RunState.FAILED)
    assert reason in run.message
    assert run.error_code
    assert before <= _alive(), "an entity was deleted"
    assert all(now >= then for now, then in zip(_counts(), counts, strict=True))
    assert not StoredRecord.objects.exclude(deleted_at=None).exists()
    assert contacted == {("127.0.0.1", upstream.port)}
    assert Problem.objects.filter(type="sync", resolved_at=None, message__contains=reason).exists()

    upstream.faults.clear()
    _wait_out(fault)
    assert portal.sync(connection).state == RunState.SYNCED
    assert portal.facts() == expected, differences(portal.facts(), expected)
    assert not Problem.objects.filter(type="sync", resolved_at=None).exists()


def _first_cases() -> Iterator[Any]:
    names = ("entities", "activity", "commits")
    for fault in FAULTS:
        for name in names:
            is_fast = (fault, name) in {("500", "entities"), ("half a list", "activity"), ("cut", "commits")}
            yield pytest.param(fault, name, marks=() if is_fast else pytest.mark.full)


@pytest.mark.parametrize(("fault", "name"), [*_first_cases()])
def test_a_first_sync_that_fails_leaves_no_trace(
    portal: Portal, upstream: Upstream, undisturbed: Undisturbed, fault: str, name: str
) -> None:
    """What came in wrong order, or not at all, is where it belongs after the next run."""
    connection = portal.connect("paged", "paged", base_url=upstream.url)
    expected = undisturbed("first", connection)
    misbehave, _reason = FAULTS[fault]
    upstream.faults[name, _number(upstream, name, "middle")] = misbehave
    portal.sync(connection)
    upstream.faults.clear()
    _wait_out(fault)
    portal.sync_well(connection)
    assert portal.facts() == expected, differences(portal.facts(), expected)


# --- JSON Lines ---------------------------------------------------------------------------------------------------

LINES: dict[str, tuple[Fault, str, str]] = {
    "500": (tool.fails, "status 500", "first"),
    "429": (tool.asks_to_wait, "asks for a pause of 2 seconds", "first"),
    "no line": (tool.in_lines("fewer"), "Nothing was removed", "first"),
    "hang at once": (tool.hangs, "did not answer", "first"),
    "redirect to metadata": (tool.redirects_to_metadata, "never reach", "first"),
    "cut": (tool.in_lines("cut"), "broke off", "middle"),
    "hang": (tool.in_lines("hang"), "did not answer", "middle"),
    "broken JSON": (tool.in_lines("broken JSON"), "not JSON", "middle"),
    "half a line": (tool.in_lines("half a line"), "not JSON", "middle"),
    "fewer": (tool.in_lines("fewer"), "Nothing was removed", "middle"),
    "cut at the end": (tool.in_lines("cut"), "broke off", "last"),
    "hang at the end": (tool.in_lines("hang"), "did not answer", "last"),
    "broken JSON at the end": (tool.in_lines("broken JSON"), "not JSON", "last"),
}
TENTHS = {"first": 0, "middle": 3, "last": 9}


SLOW_LINES = {"hang", "hang at once", "429", "cut at the end", "broken JSON at the end"}


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=pytest.mark.full if f in SLOW_LINES else ()) for f in LINES]
)
def test_a_fault_of_a_stream_deletes_nothing_and_is_made_good(
    portal: Portal,
    upstream: Upstream,
    undisturbed: Undisturbed,
    contacted: set[tuple[str, int]],
    fault: str,
) -> None:
    connection = portal.connect("lines", "records", location=upstream.lines_url)
    portal.sync_well(connection)
    _changed(upstream, 11)

    expected = undisturbed("lines", connection)
    before, counts = _alive(), _counts()
    misbehave, reason, place = LINES[fault]
    upstream.faults["lines", TENTHS[place]] = misbehave
    run = portal.sync(connection)

    read_some = any(resource.listed for resource in run.resources.all())
    assert run.state == (RunState.PARTIAL if read_some or reason.startswith("Nothing") else RunState.FAILED)
    assert reason in run.message
    assert before <= _alive()
    assert all(now >= then for now, then in zip(_counts(), counts, strict=True))
    assert contacted == {("127.0.0.1", upstream.port)}

    upstream.faults.clear()
    _wait_out(fault)
    portal.sync_well(connection)
    assert portal.facts() == expected, differences(portal.facts(), expected)


# --- where it may not go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connector", ["paged", "records"])
@pytest.mark.parametrize(
    "form", ["another port", "by name", "a decimal address", "IPv6 with IPv4 in it", "a file"]
)
def test_a_redirect_leads_nowhere_else(
    portal: Portal,
    upstream: Upstream,
    canary: Upstream,
    contacted: set[tuple[str, int]],
    connector: str,
    form: str,
) -> None:
    target = {
        "another port": f"{canary.url}/entities",
        "by name": f"http://localhost:{canary.port}/entities",
        "a decimal address": f"http://2130706433:{canary.port}/entities",
        "IPv6 with IPv4 in it": "http://[::ffff:169.254.169.254]/latest/",
        "a file": "file:///etc/passwd",
    }[form]
    config = {"paged": {"base_url": upstream.url}, "records": {"location": upstream.lines_url}}[connector]
    connection = portal.connect("straight", connector, **config)
    portal.sync_well(connection)
    before = _counts()
    for name in ("entities", "activity", "lines"):
        upstream.faults[name, 0] = tool.redirects_to(target)
    run = portal.sync(connection)
    assert run.state in {RunState.FAILED, RunState.PARTIAL}
    assert "redirects to" in run.message
    assert canary.asked == []
    assert contacted == {("127.0.0.1", upstream.port)}
    assert _counts() == before


def test_a_next_page_elsewhere_is_not_fetched(portal: Portal, upstream: Upstream, canary: Upstream) -> None:
    def points_away(exchange: tool.Exchange, items: list[tool.Item], _following: str | None) -> None:
        exchange.send_page(items, f"{canary.url}/entities")

    upstream.faults["entities", 0] = points_away
    connection = portal.connect("paged", "paged", base_url=upstream.url)
    run = portal.sync(connection)
    assert run.state == RunState.PARTIAL
    assert "another server" in run.message
    assert canary.asked == []


def test_a_pause_that_the_tool_asked_for_is_kept(portal: Portal, upstream: Upstream) -> None:
    """Also by the next run, which asks nothing until the time is over."""
    connection = portal.connect("paged", "paged", base_url=upstream.url)
    upstream.faults["entities", 0] = tool.asks_for_a_long_pause
    portal.sync(connection)
    connection.refresh_from_db()
    assert connection.due_at is not None
    assert connection.due_at > timezone.now() + timedelta(seconds=1)
    asked = len(upstream.asked)
    run = portal.sync(connection)
    assert run.state == RunState.FAILED
    assert "pause" in run.message
    assert len(upstream.asked) == asked
    upstream.faults.clear()
    time.sleep(tool.PAUSE + 0.1)
    portal.sync_well(connection)


def test_a_listing_that_is_empty_is_removed_only_by_a_person(portal: Portal, upstream: Upstream) -> None:
    connection = portal.connect("paged", "paged", base_url=upstream.url)
    portal.sync_well(connection)
    upstream.faults["entities", 0] = tool.shows_nothing
    run = portal.sync(connection)
    held = run.resources.get(name="entities")
    assert held.state == ResourceState.HELD
    assert held.would_remove == StoredRecord.objects.filter(resource="entities").count()
    before = _alive()
    assert decide_guard(resource=held, remove=True, by="ana") == held.would_remove
    assert not _alive()
    held.refresh_from_db()
    restore_removed(resource=held, by="ana")
    assert _alive() == before
