"""Every page as people see it: it can be used by everybody, fits, keeps still, and asks nobody else."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Request
from playwright.sync_api import Page as Tab

from tests.e2e.site import CROWD, EMPTY, PLACES, THEMES, Place, Visitors, settle
from tests.e2e.stack import Portal

pytestmark = pytest.mark.browser

QUICK = [("light", 1440), ("dark", 390)]
STATES = [
    pytest.param(
        theme, width, id=f"{theme}-{width}", marks=[] if (theme, width) in QUICK else pytest.mark.full
    )
    for theme in THEMES
    for width in (390, 768, 1440, 1920)
]
PAGES = [
    pytest.param(place, id=place.name, marks=pytest.mark.full if place.is_twin else ()) for place in PLACES
]
# Who was granted nothing may come to any address.
STRANGE = [replace(place, who="stranger") for place in PLACES if place.who != "nobody"]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# What the browser itself notices, kept where a test can ask for it.
WATCH = """
window.seen = {shift: 0, moved: [], refused: []};
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    seen.shift += entry.value;
    for (const source of entry.sources) seen.moved.push(source.node?.outerHTML?.slice(0, 120) ?? "");
  }
}).observe({type: "layout-shift", buffered: true});
addEventListener("securitypolicyviolation", (event) => {
  seen.refused.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""
# What is wider than the window, by its innermost parts, and what stands out of its card.
OVERFLOW = """() => {
  const room = document.documentElement.clientWidth;
  const right = (one) => one.getBoundingClientRect().right;
  const wide = document.documentElement.scrollWidth <= room ? []
    : [...document.body.querySelectorAll("*")].filter((one) => right(one) > room + 1);
  const out = [...document.querySelectorAll(".po-card :is(.po-list-end, .po-btn, .po-chip, .po-status, h2, p)")]
    .filter((one) => one.checkVisibility() && !one.closest(".po-scroll, .po-menu-list, .po-table-scroll"))
    .filter((one) => right(one) > right(one.closest(".po-card")) + 1);
  return [...wide.slice(-3), ...out].map((one) => one.outerHTML.slice(0, 160));
}"""

# Buttons that lie over one another.
COVERED = """() => {
  const shown = [...document.querySelectorAll("main :is(.po-btn, .po-icon)")]
    .filter((one) => one.checkVisibility({visibilityProperty: true}) && !one.closest(".po-menu-list, .po-selbar"));
  const boxes = shown.map((one) => one.getBoundingClientRect());
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  return shown.filter((one, i) => boxes.some((box, j) => j > i && meet(boxes[i], box) && !one.contains(shown[j])))
    .map((one) => one.outerHTML.slice(0, 160));
}"""

# What a finger or pointer may miss: controls below 24 px, or 40 px where the pointer is coarse; links of rows and
# lines below 24 px there too. Words within a sentence and times, which only tell more, may be as high as their line.
TARGETS = """() => {
  const isCoarse = matchMedia("(pointer: coarse)").matches;
  const controls = ".po-btn, .po-icon, .po-brand, .po-input, .po-nav, .po-item, .po-facet-item, .po-tabs a, .po-check";
  const all = `a, button, select, textarea, summary, input:not([type=hidden]), ${controls}`;
  return [...document.querySelectorAll(all)].filter((one) => {
    if (!one.checkVisibility({visibilityProperty: true})
      || one.matches(".po-sr, .po-skip, .po-scrim")) return false;
    if (getComputedStyle(one).display === "inline" || one.matches("label > input")) return false;
    const box = one.getBoundingClientRect();
    const least = isCoarse && one.matches(controls) && !one.matches(".po-icon-sm") ? 40 : 24;
    return box.width > 0 && (box.height < least - 0.5 || box.width < 23.5);
  }).map((one) => `${Math.round(one.getBoundingClientRect().width)} x `
    + `${Math.round(one.getBoundingClientRect().height)} ${one.outerHTML.slice(0, 120)}`);
}"""


@pytest.fixture(scope="module")
def newcomers(browser: Browser, empty_portal: Portal) -> Visitors:
    """Who comes to a portal to which nothing is connected."""
    return Visitors(browser, empty_portal)


@pytest.fixture(scope="module")
def crowded(browser: Browser, crowded_portal: Portal) -> Visitors:
    """Who comes to a portal that knows very much."""
    return Visitors(browser, crowded_portal)


@pytest.fixture(scope="module")
def open_page() -> Iterator[Callable[..., Any]]:
    """A tab by visitor, theme, width and zoom, opened once; what went wrong since it was asked for is `tab.faults`."""
    with ExitStack() as stack:
        opened: dict[tuple[Any, ...], Any] = {}

        def open_(visitors: Visitors, who: str, theme: str, width: int, zoom: int = 1) -> Any:
            key = (visitors, who, theme, width, zoom)
            if key not in opened:
                context = stack.enter_context(visitors.context(who, theme=theme, width=width, zoom=zoom))
                context.add_init_script(WATCH)
                opened[key] = watched(context.new_page())
            opened[key].faults, opened[key].requests = [], []
            return opened[key]

        yield open_


def watched(tab: Any) -> Any:
    tab.on("console", lambda said: said.type in ("error", "warning") and tab.faults.append(said.text))
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.on("request", lambda request: tab.requests.append(request))
    return tab


@pytest.mark.parametrize(("theme", "width"), STATES)
@pytest.mark.parametrize("place", PAGES)
def test_a_page_is_accessible_fits_keeps_still_and_asks_nobody_else(
    place: Place, theme: str, width: int, visitors: Visitors, open_page: Callable[..., Any]
) -> None:
    tab = open_page(visitors, place.who, theme, width)
    # Contrast takes as long as all other rules; the quick round looks at it once a page.
    without = ["color-contrast"] if (theme, width) == QUICK[0] else []
    look_at(tab, visitors.path(place), {place.status}, without=without)


@pytest.mark.full
@pytest.mark.parametrize("width", [768, 1440])
@pytest.mark.parametrize("place", PAGES)
def test_a_page_fits_when_it_is_read_at_twice_its_size(
    place: Place, width: int, visitors: Visitors, open_page: Callable[..., Any]
) -> None:
    look_at(open_page(visitors, place.who, "light", width, zoom=2), visitors.path(place), {place.status})


@pytest.mark.full
@pytest.mark.parametrize(("theme", "width"), STATES)
@pytest.mark.parametrize("place", EMPTY, ids=lambda place: place.name)
def test_a_page_of_an_empty_portal(
    place: Place, theme: str, width: int, newcomers: Visitors, open_page: Callable[..., Any]
) -> None:
    look_at(open_page(newcomers, place.who, theme, width), newcomers.path(place), {place.status})


@pytest.mark.full
@pytest.mark.parametrize(("theme", "width"), STATES)
@pytest.mark.parametrize("place", STRANGE, ids=lambda place: place.name)
def test_a_page_that_one_may_not_see(
    place: Place, theme: str, width: int, visitors: Visitors, open_page: Callable[..., Any]
) -> None:
    tab = open_page(visitors, place.who, theme, width)
    look_at(tab, visitors.path(place), {200, 403, 404, 422})


@pytest.mark.full
@pytest.mark.parametrize(("theme", "width"), STATES)
@pytest.mark.parametrize("place", CROWD, ids=lambda place: place.name)
def test_a_page_of_a_portal_that_knows_very_much(
    place: Place, theme: str, width: int, crowded: Visitors, open_page: Callable[..., Any]
) -> None:
    look_at(open_page(crowded, place.who, theme, width), crowded.path(place), {place.status})


def look_at(tab: Any, path: str, statuses: set[int], *, without: Sequence[str] = ()) -> None:
    """Open a page and say what is wrong with it.

    :param without: rules that are left out.
    """
    answer = tab.goto(path)
    settle(tab)
    assert answer.status in statuses
    if answer.status >= 400:  # the browser writes the status of the page itself into its console
        tab.faults = [fault for fault in tab.faults if str(answer.status) not in fault]
    assert tab.faults == []
    assert elsewhere(tab.requests, answer.url) == []
    seen = tab.evaluate("seen")
    assert seen["refused"] == []
    assert seen["shift"] <= 0.01, seen["moved"]
    assert tab.evaluate(OVERFLOW) == []
    assert tab.evaluate(COVERED) == []
    assert tab.evaluate(TARGETS) == []
    assert tab.locator("h1").count() == 1
    assert tab.title().strip()
    assert _findings(tab, without=without) == []


def elsewhere(requests: list[Request], url: str) -> list[str]:
    own = urlsplit(url).netloc
    return [r.url for r in requests if urlsplit(r.url).scheme != "data" and urlsplit(r.url).netloc != own]


def _findings(tab: Tab, *, without: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    options = {
        "runOnly": {"type": "tag", "values": RULES},
        "rules": {rule: {"enabled": False} for rule in without},
        "resultTypes": ["violations"],
    }
    found = Axe().run(tab, options=options)
    return [
        (one["id"], one["nodes"][0]["html"][:300], one["nodes"][0]["failureSummary"][:300])
        for one in found.response["violations"]
    ]


def test_the_catalog_needs_few_bytes(visitors: Visitors, open_page: Callable[..., Any]) -> None:
    """Style and script of the first visit, as sent; the server compresses them."""
    tab = open_page(visitors, "admin", "light", 1440)
    bodies: dict[str, bytes] = {}
    sent: dict[str, str | None] = {}

    def keep(response: Any) -> None:
        if response.request.resource_type in ("stylesheet", "script"):
            bodies[response.url] = response.body()
            sent[response.url] = response.header_value("content-encoding")

    tab.on("response", keep)
    tab.goto("/catalog")
    settle(tab)
    assert len(bodies) >= 3
    assert {url: how for url, how in sent.items() if how not in ("gzip", "br")} == {}
    assert sum(len(gzip.compress(body, 9)) for body in bodies.values()) <= 180_000


def test_something_that_breaks_says_how_it_can_be_found(
    sample_portal: Any, visitors: Visitors, open_page: Callable[..., Any]
) -> None:
    tab = open_page(visitors, "admin", "light", 1440)
    tab.goto("/")
    sample_portal.execute("alter table integrations_cataloglocation rename to gone")
    try:
        answer = tab.goto("/connections/import")
    finally:
        sample_portal.execute("alter table gone rename to integrations_cataloglocation")
    assert answer.status == 500
    assert tab.locator("h1").inner_text() == "Something broke"
    number = tab.locator(".po-mono").inner_text()
    assert number
    assert _findings(tab) == []
    log = sample_portal.files.parent / "web" / "server.log"
    assert number in Path(log).read_text()
