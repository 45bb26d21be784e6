"""The portal without a pointer: search, list, entity, tabs, a connection's form."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, expect
from playwright.sync_api import Page as Tab

from tests.e2e.site import Visitors, settle
from tests.e2e.stack import Portal

pytestmark = pytest.mark.browser

# What is focused, and whether one can see it: in the window, not covered, and with a ring of its own or around it.
FOCUS = """() => {
  const one = document.activeElement;
  const box = one.getBoundingClientRect();
  const ring = (element) => {
    const style = getComputedStyle(element);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
  };
  const around = one.closest(".po-query, .po-segments label");
  const inside = box.width > 0 && box.height > 0 && box.bottom > 0 && box.right > 0
    && box.top < innerHeight && box.left < innerWidth;
  const at = [box.left + Math.min(box.width / 2, 8), box.top + Math.min(box.height / 2, 8)];
  const top = document.elementFromPoint(...at);
  return {
    what: one.outerHTML.slice(0, 140),
    isVisible: inside && (ring(one) || Boolean(around && ring(around))),
    isCovered: inside && Boolean(top) && !one.contains(top) && !top.contains(one) && Boolean(top.closest(".po-header")),
  };
}"""


@pytest.fixture
def tab(visitors: Visitors) -> Iterator[Tab]:
    with visitors.context() as context:
        yield context.new_page()


def path(tab: Tab) -> str:
    return urlsplit(tab.url).path


def tab_to(tab: Tab, wanted: Locator, *, steps: int = 80) -> None:
    """Press Tab until something has the focus; each stop on the way can be seen."""
    for _step in range(steps):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        tab.keyboard.press("Tab")
        stop = tab.evaluate(FOCUS)
        assert stop["isVisible"], stop["what"]
        assert not stop["isCovered"], stop["what"]
    raise AssertionError(f"{wanted} was not reached in {steps} steps.")


def test_the_first_stop_leads_past_the_navigation(tab: Tab) -> None:
    tab.goto("/")
    tab.keyboard.press("Tab")
    skip = tab.locator(":focus")
    expect(skip).to_have_class("po-skip")
    expect(skip).to_be_in_viewport()
    tab.keyboard.press("Enter")
    expect(tab.locator("main")).to_be_focused()
    tab.keyboard.press("Tab")
    assert tab.locator(":focus").evaluate("one => Boolean(one.closest('main'))")


def test_search_finds_opens_and_gives_the_focus_back(tab: Tab) -> None:
    tab.goto("/activity")
    chosen = tab.get_by_role("link", name="Runs", exact=True)
    tab_to(tab, chosen)
    tab.keyboard.press("Control+k")
    search = tab.locator("#po-search")
    expect(search).to_be_focused()
    tab.keyboard.type("checkout")
    expect(tab.get_by_role("option").first).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("listbox")).to_have_count(0)
    tab.keyboard.press("Escape")
    expect(chosen).to_be_focused()
    tab.keyboard.press("/")
    expect(search).to_be_focused()
    tab.keyboard.type("checkout-ap")
    option = tab.get_by_role("option", name="checkout-api").first
    expect(option).to_be_visible()
    for _step in range(10):
        tab.keyboard.press("ArrowDown")
        if option.get_attribute("aria-selected") == "true":
            break
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/component/checkout-api")


def test_a_list_is_narrowed_walked_and_opened(tab: Tab) -> None:
    tab.goto("/")
    tab.keyboard.press("g")
    tab.keyboard.press("c")
    tab.wait_for_url("**/catalog")
    tab.keyboard.press("/")
    box = tab.locator(".po-query input[type=search]")
    expect(box).to_be_focused()
    tab.keyboard.type("kind:component owner:payments")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/catalog?*owner*")
    settle(tab)
    tab.locator("body").evaluate("() => document.activeElement.blur()")
    rows = tab.locator("tbody tr")
    for key, at in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        tab.keyboard.press(key)
        expect(rows.nth(at)).to_have_class("is-current")
        expect(rows.nth(at).locator("a").first).to_be_focused()
        assert tab.evaluate(FOCUS)["isVisible"]
    name = rows.nth(1).locator("a").first.inner_text()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", level=1)).to_have_text(name)


def test_an_entitys_tabs_and_menus_answer_to_keys(tab: Tab) -> None:
    tab.goto("/catalog/sample/component/checkout-api")
    actions = tab.locator("summary", has_text="Actions")
    tab_to(tab, actions)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("link", name="Edit")).to_be_visible()
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate(FOCUS)["isVisible"]
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("link", name="Edit")).to_be_hidden()
    expect(actions).to_be_focused()
    tab_to(tab, tab.get_by_role("link", name="Relations 14"))
    tab.keyboard.press("Enter")
    tab.wait_for_url("**tab=relations")
    tab_to(tab, tab.get_by_role("link", name="Why?").first, steps=120)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", name="Why are these tied?")).to_be_visible()


def test_the_keys_explain_themselves(tab: Tab) -> None:
    tab.goto("/")
    tab.keyboard.press("?")
    dialog = tab.get_by_role("dialog")
    expect(dialog).to_be_visible()
    tab.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_connection_is_set_up_by_keys_alone(tab: Tab, sample_portal: Portal) -> None:
    tab.goto("/connections")
    tab_to(tab, tab.get_by_role("link", name="Connect a tool").first)
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/connections/new")
    tile = tab.locator(".po-tile", has=tab.get_by_role("heading", name="Records", exact=True))
    tab_to(tab, tile.get_by_role("link"))
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/connections/new/records")
    # Sent as it is, it says what is missing, and begins there.
    tab_to(tab, tab.get_by_role("button", name="Test connection"))
    tab.keyboard.press("Enter")
    expect(tab.locator(":focus")).to_contain_text("Location")
    tab_to(tab, tab.get_by_label("Name", exact=True))
    tab.keyboard.press("Control+a")
    tab.keyboard.type("By keys alone")
    tab_to(tab, tab.get_by_label("Location"))
    records = sample_portal.files / "records.jsonl"
    records.write_text('{"type": "environment", "external_id": "lab", "name": "lab"}\n')
    tab.keyboard.type(str(records))
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", name="Everything works")).to_be_visible()
    tab_to(tab, tab.get_by_role("button", name="Preview", exact=True))
    tab.keyboard.press("Enter")
    proceed = tab.get_by_role("link", name="Continue")
    expect(proceed).to_be_visible()
    tab_to(tab, proceed)
    tab.keyboard.press("Enter")
    tab_to(tab, tab.get_by_role("button", name="Connect and sync"))
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", name="By keys alone", level=1)).to_be_visible()
    sample_portal.wait_until_synced()
    tab.goto("/catalog/default/environment/lab")
    expect(tab.get_by_role("heading", name="lab", level=1)).to_be_visible()
