"""The portal without a pointer: search, list, entity, tabs, an override, a connection's form; and all its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Route, expect
from playwright.sync_api import Page as Tab

from tests.e2e.site import PLACES, Place, Visitors, settle
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


def test_the_box_offers_what_was_viewed_and_does_what_it_names(tab: Tab) -> None:
    tab.goto("/catalog/sample/component/ledger")
    tab.goto("/activity")
    chosen = tab.get_by_role("link", name="Runs", exact=True)
    tab_to(tab, chosen)
    tab.keyboard.press("Control+k")
    box = tab.get_by_role("combobox", name="Search")
    expect(box).to_be_focused()
    lately = tab.get_by_role("group", name="Recently viewed").get_by_role("option").first
    expect(lately).to_contain_text("ledger")
    tab.keyboard.press("ArrowDown")
    expect(lately).to_have_attribute("aria-selected", "true")
    assert box.get_attribute("aria-activedescendant") == lately.get_attribute("id")
    expect(tab.get_by_role("option", name="Edit what is shown")).to_have_count(0)  # a timeline is not edited
    for theme in ("dark", "light"):
        tab.keyboard.press("Control+k")
        tab.keyboard.type(f"theme: {theme}")
        expect(tab.get_by_role("option").first).to_have_text(f"Theme: {theme}")
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("Enter")
        expect(tab.locator("html")).to_have_attribute("data-bs-theme", theme)
        expect(box).to_have_value("")
        expect(chosen).to_be_focused()
    tab.goto("/catalog/sample/component/ledger")
    tab.keyboard.press("Control+k")
    tab.keyboard.type("edit what")
    expect(tab.get_by_role("option", name="Edit what is shown")).to_be_visible()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/ledger/edit")


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


def test_a_facet_a_header_and_the_pages_keep_the_focus(tab: Tab) -> None:
    tab.goto("/catalog?q=kind:component+namespace:sample&limit=12")
    value = tab.locator("[data-stay='lifecycle=production']")
    tab_to(tab, value)
    tab.keyboard.press("Space")
    tab.wait_for_url("**lifecycle*")
    expect(value).to_be_focused()
    assert tab.evaluate(FOCUS)["isVisible"]
    tab.keyboard.press("Space")
    expect(value).not_to_have_class(re.compile("is-on"))
    expect(value).to_be_focused()
    more = tab.locator(".po-more[data-stay=owner]")
    tab_to(tab, more)
    tab.keyboard.press("Enter")
    expect(tab.locator("summary[data-stay=owner]")).to_be_focused()
    header = tab.get_by_role("columnheader", name="Changed").get_by_role("link")
    tab_to(tab, header, steps=120)
    for order in ("descending", "ascending"):
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("columnheader", name="Changed")).to_have_attribute("aria-sort", order)
        expect(header).to_be_focused()
    following = tab.get_by_role("link", name="Next", exact=True)
    tab_to(tab, following, steps=120)
    said = re.search(r"1-12 of (\d+)", tab.locator(".po-pages").inner_text())
    assert said
    firsts = range(13, int(said[1]) + 1, 12)
    for first in firsts:
        tab.keyboard.press("Enter")
        expect(tab.locator(".po-pages")).to_contain_text(f"{first}-")
        is_last = first == firsts[-1]
        expect(tab.get_by_role("link", name="Previous") if is_last else following).to_be_focused()
    assert tab.evaluate(FOCUS)["isVisible"]


def test_older_events_are_loaded_and_gone_on_with(tab: Tab) -> None:
    tab.goto("/activity")
    settle(tab)
    older = tab.get_by_role("link", name="Load older")
    older.focus()
    shown = tab.locator(".po-event").count()
    tab.keyboard.press("Enter")
    expect(tab.locator(".po-event").nth(shown)).to_be_visible()
    assert tab.evaluate(
        "(shown) => [...document.querySelectorAll('.po-event')].indexOf(document.activeElement.closest('.po-event'))",
        shown,
    ) in range(shown, shown + 5)
    assert tab.evaluate(FOCUS)["isVisible"]


def choose_platform(tab: Tab, ref: Locator) -> None:
    """Take the team Platform from what a field of a ref suggests."""
    tab_to(tab, ref)
    tab.keyboard.press("Control+a")
    tab.keyboard.type("plat")
    expect(tab.locator(".po-listbox [role=option]").first).to_be_visible()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    expect(ref).to_have_value("group:sample/platform")
    expect(ref).to_be_focused()


def test_a_field_is_overridden_and_given_back_by_keys_alone(tab: Tab) -> None:
    page = "/catalog/sample/component/ledger"
    tab.goto(page)
    tab.keyboard.press("e")
    tab.wait_for_url(f"**{page}/edit")
    tab_to(tab, tab.get_by_role("link", name="One field by its path"))
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{page}/edit?field=spec.owner")
    value = tab.locator("#value")
    choose_platform(tab, value)
    tab.keyboard.press("Control+a")
    tab.keyboard.type("[group:sample/platform")
    override = tab.get_by_role("button", name="Override", exact=True)
    tab_to(tab, override)
    tab.keyboard.press("Enter")
    expect(tab.locator("main")).to_contain_text("begins like a list")
    tab_to(tab, value)
    tab.keyboard.press("Control+a")
    tab.keyboard.type("group:sample/platform")
    tab.keyboard.press("Escape")
    expect(value).to_be_focused()
    tab_to(tab, tab.get_by_label("Reason"))
    tab.keyboard.type("They keep the books now")
    tab_to(tab, override)
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{page}")
    expect(tab.locator(".po-head-meta")).to_contain_text("Platform")
    # In the form of all fields: taken back there, overridden there.
    save = tab.get_by_role("button", name="Save", exact=True)
    tab.keyboard.press("e")
    tab.wait_for_url(f"**{page}/edit")
    back = tab.get_by_role("checkbox", name="Take it back: Owner")
    tab_to(tab, back)
    tab.keyboard.press("Space")
    expect(back).to_be_checked()
    tab_to(tab, save)
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{page}")
    expect(tab.locator(".po-head-meta")).to_contain_text("Payments")
    tab.keyboard.press("e")
    tab.wait_for_url(f"**{page}/edit")
    owner = tab.locator("input[name='spec.owner']")
    choose_platform(tab, owner)
    tab_to(tab, tab.get_by_label("Reason"))
    tab.keyboard.type("They keep the books now")
    tab_to(tab, save)
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{page}")
    expect(tab.locator(".po-head-meta")).to_contain_text("Platform")
    tab.goto(f"{page}/edit?field=spec.owner")
    tab_to(tab, tab.get_by_role("button", name="Take the override back"))
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{page}")
    expect(tab.locator(".po-head-meta")).to_contain_text("Payments")


def test_dialogs_and_menus_give_the_focus_back(tab: Tab) -> None:
    tab.goto("/settings/sample")
    remove = tab.get_by_role("button", name="Remove every row of it")
    tab_to(tab, remove)
    for press in ("Escape", "Enter"):  # by the key that closes, then by its own button
        tab.keyboard.press("Enter")
        dialog = tab.get_by_role("dialog", name="Remove the sample company?")
        expect(dialog).to_be_visible()
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        assert tab.evaluate(FOCUS)["isVisible"]
        for _step in range(4):  # the page behind cannot be reached
            tab.keyboard.press("Tab")
            assert tab.evaluate(
                "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
            )
        dialog.get_by_role("button", name="Cancel").focus()
        tab.keyboard.press(press)
        expect(dialog).to_be_hidden()
        expect(remove).to_be_focused()
    tab.keyboard.press("?")
    expect(tab.get_by_role("dialog")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(remove).to_be_focused()
    account = tab.locator("summary[aria-label^='Account of']")
    account.focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Escape")
    expect(account).to_be_focused()


def test_open_suggestions_are_no_stop_of_their_own(tab: Tab) -> None:
    tab.goto("/")
    search = tab.locator("#po-search")
    search.focus()
    expect(tab.get_by_role("listbox")).to_be_visible()
    assert tab.get_by_role("listbox").evaluate("one => one.scrollHeight > one.clientHeight")
    tab.keyboard.press("Tab")
    assert tab.evaluate(FOCUS)["isVisible"], tab.evaluate(FOCUS)["what"]
    tab.keyboard.press("Shift+Tab")
    expect(search).to_be_focused()


def test_every_key_that_is_listed_works(tab: Tab) -> None:
    def where() -> str:
        return urlsplit(tab.url).path

    def goes(letter: str, place: str) -> None:
        tab.goto("/settings")
        tab.keyboard.press("g")
        tab.keyboard.press(letter)
        tab.wait_for_url(lambda url: urlsplit(url).path == place)

    def focuses(key: str, wanted: str) -> None:
        tab.goto("/catalog?q=kind:component")
        tab.keyboard.press(key)
        expect(tab.locator(wanted)).to_be_focused()

    def walks() -> None:
        focuses("j", "tbody tr:nth-child(1) .po-name a")
        tab.keyboard.press("j")
        tab.keyboard.press("k")
        expect(tab.locator("tbody tr:nth-child(1) .po-name a")).to_be_focused()

    def opens() -> None:
        focuses("j", "tbody tr:nth-child(1) .po-name a")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/component/*")

    def edits() -> None:
        tab.goto("/catalog/sample/component/ledger")
        tab.keyboard.press("e")
        tab.wait_for_url("**/ledger/edit")

    def stars() -> None:
        tab.goto("/catalog/sample/component/ledger")
        star = tab.get_by_role("button", name="Favourite")
        for pressed in ("true", "false"):
            tab.keyboard.press("f")
            expect(star).to_have_attribute("aria-pressed", pressed)
            expect(star).to_be_focused()

    def creates() -> None:
        tab.goto("/")
        tab.keyboard.press("c")
        expect(tab.locator(".po-create .po-item").first).to_be_visible()

    def closes() -> None:
        creates()
        tab.keyboard.press("Escape")
        expect(tab.locator(".po-create .po-item").first).to_be_hidden()

    def ticks() -> None:
        tab.goto("/catalog?q=kind:component")
        tab.locator("[data-stay='lifecycle=production']").focus()
        tab.keyboard.press("Space")
        tab.wait_for_url("**lifecycle*")

    def narrows() -> None:
        tab.goto("/")
        for state in ("rail", None):
            tab.keyboard.press("[")
            assert tab.locator("html").get_attribute("data-sidebar") == state

    def explains() -> None:
        tab.goto("/")
        tab.keyboard.press("?")
        expect(tab.locator("#po-keys")).to_be_visible()

    works = {
        "Ctrl K": lambda: focuses("Control+k", "#po-search"),
        "/": lambda: focuses("/", ".po-query input[type=search]"),
        "g h": lambda: goes("h", "/"),
        "g c": lambda: goes("c", "/catalog"),
        "g a": lambda: goes("a", "/activity"),
        "g p": lambda: goes("p", "/problems"),
        "g g": lambda: goes("g", "/graph"),
        "j k": walks,
        "Enter": opens,
        "e": edits,
        "f": stars,
        "c": creates,
        "Space": ticks,
        "Esc": closes,
        "[": narrows,
        "?": explains,
    }
    tab.goto("/")
    tab.keyboard.press("?")
    assert tab.locator("#po-keys dt").all_inner_texts() == list(works)
    for work in works.values():
        work()
    # Turned off, a letter is a letter.
    tab.goto("/")
    tab.keyboard.press("?")
    tab.keyboard.press("Space")  # the focus is on the switch
    tab.keyboard.press("Escape")
    tab.keyboard.press("c")
    expect(tab.locator(".po-create .po-item").first).to_be_hidden()
    assert where() == "/"
    tab.keyboard.press("Control+k")
    expect(tab.locator("#po-search")).to_be_focused()


AROUND = [place for place in PLACES if place.name in {
    "home", "catalog-filtered", "catalog-wrong", "component", "component-relations", "component-source",
    "component-edit", "tie", "problems", "connections", "gallery", "new-git", "import", "connection-run",
    "connection-rules", "settings", "settings-packs", "settings-audit", "entity-not-found",
}]  # fmt: skip


@pytest.mark.parametrize("place", [pytest.param(place, id=place.name) for place in AROUND])
def test_tab_goes_around_a_page_and_never_stays(tab: Tab, visitors: Visitors, place: Place) -> None:
    tab.goto(visitors.path(place))
    settle(tab)
    tab.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    tab.locator(".po-skip").focus()
    hidden: list[str] = []
    for _step in range(600):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.matches('body, .po-skip')"):
            break
        stop = tab.evaluate(FOCUS)
        if not stop["isVisible"] or stop["isCovered"]:
            hidden.append(stop["what"])
    else:
        raise AssertionError(f"The focus does not leave {place.name}: {stop['what']}")
    assert hidden == []


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


def with_selected(tab: Tab, action: str) -> None:
    """Select two rows of the catalog, and press a button of the bar that they bring."""
    tab.goto("/catalog?q=kind:component&limit=12")
    settle(tab)
    for key in ("j", "x", "j", "x"):
        tab.keyboard.press(key)
    expect(tab.locator("[data-selected]")).to_have_text("2 selected")
    tab_to(tab, tab.locator("[data-selection-bar]").get_by_role("button", name=action), steps=150)
    tab.keyboard.press("Enter")


def test_selected_rows_lead_to_the_preview_of_a_field(tab: Tab) -> None:
    with_selected(tab, "Edit...")
    tab.wait_for_url("**/catalog/fields")
    expect(tab.locator("main")).to_contain_text("Of 2 entities")
    tab_to(tab, tab.get_by_role("button", name="Preview", exact=True))


def test_selected_rows_lead_to_the_preview_of_an_owner(tab: Tab) -> None:
    with_selected(tab, "Set owner...")
    tab.wait_for_url("**/catalog/owners")
    settle(tab)
    tab_to(tab, tab.locator("#owner"))
    tab.keyboard.type("group:sample/payments")
    tab.keyboard.press("Escape")  # what is suggested
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("button", name="Set owner of")).to_be_visible()
    tab_to(tab, tab.get_by_role("button", name="Set owner of"))


def test_a_form_is_sent_once_until_it_is_changed_or_stopped(tab: Tab) -> None:
    sent = []

    def answer(route: Route) -> None:
        if route.request.method == "POST":
            sent.append(route.request.url)
            route.fulfill(status=204)  # the page stays
        else:
            route.continue_()

    tab.route("**/settings", answer)
    tab.goto("/settings")
    settle(tab)
    save = tab.get_by_role("button", name="Save profile")
    twice = "button => { button.click(); button.click() }"
    save.evaluate(twice)
    save.evaluate(twice)
    expect(save).to_have_attribute("aria-disabled", "true")
    tab.keyboard.press("Escape")
    expect(save).not_to_have_attribute("aria-disabled", "true")
    save.evaluate(twice)
    tab.locator("form[aria-busy] input:visible").first.dispatch_event("input")
    save.evaluate(twice)
    tab.wait_for_timeout(300)
    assert len(sent) == 3
