"""Kinds in the settings, as an administrator changes them in a browser: fields, versions, checks, and a deletion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from tests.e2e.site import Visitors
from tests.e2e.test_pages import WATCH, watched

pytestmark = pytest.mark.browser

DOMAIN = "/catalog/sample/domain/money"
SOON = 30_000


@pytest.fixture
def tab(visitors: Visitors) -> Iterator[Any]:
    with visitors.context() as context:
        context.add_init_script(WATCH)
        page = watched(context.new_page())
        page.faults, page.requests = [], []
        yield page
        assert page.faults == []
        assert page.evaluate("seen.refused") == []


def eventually(tab: Tab, path: str, text: str) -> None:
    """Entities follow a definition within seconds."""
    for _attempt in range(30):
        tab.goto(path)
        if tab.get_by_text(text).count():
            return
        tab.wait_for_timeout(500)
    raise AssertionError(f"{text} does not come to {path}")


def test_a_computed_field_is_added_seen_and_deleted(tab: Tab) -> None:
    tab.goto("/settings/kinds/domain")
    tab.get_by_role("link", name="Add a field").click()
    tab.get_by_label("Title").fill("Systems in it")
    tab.get_by_label("Field", exact=True).fill("spec.systems")
    tab.get_by_label("Format").select_option("number")
    tab.get_by_text("Worked out as a count").click()
    tab.locator("[name='count.path']").first.fill("hasPart")
    tab.get_by_role("button", name="Save").click()
    expect(tab.get_by_role("cell", name="spec.systems")).to_be_visible()
    expect(tab.get_by_text("how many hasPart leads to")).to_be_visible()
    eventually(tab, DOMAIN, "Systems in it")
    tab.goto("/settings/kinds/domain")
    tab.get_by_role("link", name="Delete Systems in it").click()
    expect(tab.get_by_text("have a value there").or_(tab.get_by_text("has a value there"))).to_be_visible()
    tab.get_by_role("button", name="Delete").click()
    expect(tab.get_by_text("Nothing is added to it yet")).to_be_visible()


def test_a_new_version_is_checked_applied_and_undone(tab: Tab) -> None:
    tab.goto("/settings/kinds/domain")
    tab.get_by_role("link", name="New version...").click()
    field = tab.get_by_label("Definition")
    spec = yaml.safe_load(field.input_value())
    spec["version"] = 2
    spec["upgrades"] = [{"to": 2, "when": "true", "fields": {"spec.label": "document.metadata.name + '!'"}}]
    spec["schema"]["properties"]["label"] = {"type": "string"}
    field.fill(yaml.safe_dump(spec))
    tab.get_by_role("button", name="Check").click()
    expect(tab.get_by_text("nothing breaks")).to_be_visible(timeout=SOON)
    tab.get_by_role("button", name="Apply").click()
    expect(tab.get_by_text("Applied", exact=True)).to_be_visible(timeout=SOON)
    eventually(tab, f"{DOMAIN}?tab=source", "money!")
    tab.goto("/settings/changes")
    tab.get_by_role("link", name="Undo: Changed the kind Domain to version 2").click()
    with tab.expect_navigation():
        tab.get_by_role("button", name="Undo it").click()
    tab.goto("/settings/kinds/domain")
    expect(tab.get_by_role("heading", name="Version 1")).to_be_visible()


def test_a_relation_is_checked_and_left_again(tab: Tab) -> None:
    tab.goto("/settings/relations/partOf")
    tab.get_by_text("Warn", exact=True).click()
    tab.get_by_label("At most so many of one thing").fill("9")
    tab.get_by_role("button", name="Save").click()
    expect(tab.get_by_role("row", name="partOf")).to_contain_text("Warn")
    tab.goto("/settings/relations/partOf")
    tab.get_by_text("Off", exact=True).click()
    tab.get_by_role("button", name="Save").click()
    expect(tab.get_by_role("row", name="partOf")).to_contain_text("Off")


def test_a_deletion_says_what_it_leaves_behind(tab: Tab) -> None:
    tab.goto(f"{DOMAIN}/delete")
    expect(tab.get_by_text("would lead nowhere").first).to_be_visible()
    expect(tab.get_by_text("What would belong nowhere any more")).to_be_visible()
    expect(tab.get_by_text("others say that it exists")).to_be_visible()


def test_a_list_is_narrowed_by_a_filter_of_its_own_format(tab: Tab) -> None:
    tab.goto("/catalog?q=kind:component")
    tab.get_by_text("Add filter", exact=True).click()
    tab.get_by_label("Field", exact=True).select_option("run")
    tab.get_by_role("checkbox", name="Failed").check()
    tab.get_by_role("button", name="Filter the list").click()
    tab.wait_for_url("**run:failed**")
    expect(tab.get_by_role("row").filter(has_text="Failed").first).to_be_visible()
    tab.get_by_text("Add filter", exact=True).click()
    tab.get_by_label("Field", exact=True).select_option("changed")
    tab.locator("#filter-how").select_option("in the last days")
    tab.get_by_label("Days").fill("3")
    tab.get_by_role("button", name="Filter the list").click()
    tab.wait_for_url("**changed:**")
    assert "run:failed" in tab.url


def test_a_worker_changes_all_that_a_query_finds_and_it_is_undone(tab: Tab) -> None:
    tab.goto("/catalog/fields?q=namespace:sample")
    tab.get_by_text("Another field, by its path").click()
    tab.get_by_label("Path").fill("metadata.labels.round")
    tab.get_by_label("Value").fill("spring")
    tab.get_by_role("button", name="Preview").click()
    tab.get_by_role("button", name="Change ").click()
    tab.wait_for_url("**/catalog/changes/*")
    expect(tab.get_by_text("entities are changed")).to_be_visible(timeout=2 * SOON)
    tab.goto("/catalog?q=label.round:spring+kind:component")
    expect(tab.get_by_role("row").nth(1)).to_be_visible()
    tab.goto("/settings/changes")
    tab.get_by_role("link", name="Undo: Set metadata.labels.round of").first.click()
    with tab.expect_navigation():
        tab.get_by_role("button", name="Undo it").click()
    tab.goto("/catalog?q=label.round:spring")
    expect(tab.get_by_text("Nothing matches")).to_be_visible()
