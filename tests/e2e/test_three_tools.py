"""Three real tools, connected through the browser: what they know of one component comes together by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab

from tests.e2e.site import Visitors, card
from tests.e2e.stack import Portal
from tests.integrations.servers import Builder, git, make_repository, required, run_buildbot, run_registry

pytestmark = [pytest.mark.browser, pytest.mark.server]

COMPONENT = "/catalog/default/component/payments"
PATIENCE = 90_000


@dataclass(frozen=True)
class Company:
    """What runs on loopback.

    :ivar folder: of Git repositories: `payments`, built and pushed as an image, and `website`, alone.
    """

    folder: Path
    buildbot: str
    registry: str


@pytest.fixture(scope="module")
def company(empty_portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """A folder of repositories, a Buildbot master that has built one of them, and a registry with its image."""
    folder = empty_portal.files / "repositories"
    commit = make_repository(
        folder / "payments",
        {
            "main": {
                "README.md": "# Payments\n\nTakes money.\n",
                "Dockerfile": "FROM scratch\n",
                "CODEOWNERS": "* @acme/payments\n",
                "test.sh": "echo all good\n",
            }
        },
    )["main"]
    git(folder / "payments", "tag", "v1.0.0")
    make_repository(folder / "website", {"main": {"README.md": "# Website\n", "package.json": "{}\n"}})
    address = f"file://{folder}/payments"
    builder = Builder(name="build-payments", codebases={"": address}, steps=[("test", "sh test.sh")])
    place = tmp_path_factory.mktemp("company")
    with (
        required(),
        run_buildbot(place / "buildbot", [builder]) as buildbot,
        run_registry(place / "images") as registry,
    ):
        buildbot.build("build-payments", branch="main")
        # Nothing in this image's name says whose it is: its labels do.
        labels = {"org.opencontainers.image.source": address, "org.opencontainers.image.revision": commit}
        registry.push("shop/till", "1.0.0", "latest", labels=labels)
        yield Company(folder, buildbot.url, registry.url)


@pytest.fixture(scope="module")
def tab(browser: Browser, empty_portal: Portal) -> Iterator[Tab]:
    """The administrator's browser, come in by the one-time link."""
    with Visitors(browser, empty_portal).context() as context:
        page = context.new_page()
        page.goto("/connections/new/git")
        page.get_by_role("button", name="Discard").click()  # what another test has begun
        yield page


def connect(tab: Tab, tool: str, name: str, fields: dict[str, str]) -> None:
    """Go all the way from the gallery to a synced connection, as a person does."""
    tab.goto("/connections")
    tab.get_by_role("link", name="Connect a tool").first.click()
    tile = tab.locator(".po-tile", has=tab.get_by_role("heading", name=tool, exact=True))
    tile.get_by_role("link", name="Connect").click()
    tab.get_by_label("Name", exact=True).fill(name)
    for label, value in fields.items():
        # The label of an optional field says so too.
        tab.get_by_label(re.compile(f"^{label}( optional)?$")).and_(tab.locator("input")).first.fill(value)
    tab.get_by_role("button", name="Test connection").click()
    expect(tab.get_by_role("heading", name="Everything works")).to_be_visible(timeout=PATIENCE)
    tab.get_by_role("button", name="Preview", exact=True).click()
    tab.get_by_role("link", name="Continue").click(timeout=PATIENCE)
    tab.get_by_role("button", name="Connect and sync").click()
    expect(tab.get_by_role("heading", name=name, level=1)).to_be_visible()


def sync(tab: Tab, portal: Portal, slug: str) -> None:
    """Ask for a sync in the browser and wait until the worker has done it."""
    tab.goto(f"/connections/{slug}")
    tab.get_by_role("button", name="Sync now").click()
    portal.wait_until_synced()
    tab.goto(f"/connections/{slug}")
    expect(tab.locator(".po-head").get_by_text("Synced", exact=True)).to_be_visible()


def test_an_empty_portal_invites_to_connect(tab: Tab) -> None:
    tab.goto("/")
    expect(tab.get_by_role("heading", name="Your portal is empty, so far")).to_be_visible()
    for way in ("Connect a tool", "Import catalog files"):
        expect(tab.locator("main").get_by_role("link", name=way)).to_be_visible()
    expect(tab.get_by_role("button", name="Load the sample company")).to_be_visible()


def test_three_connections_are_made_in_the_browser(tab: Tab, empty_portal: Portal, company: Company) -> None:
    connect(tab, "Git", "Acme Git", {"Repositories": str(company.folder)})
    connect(tab, "Buildbot", "Acme CI", {"Address": company.buildbot})
    connect(tab, "Container registry", "Acme Images", {"Address": company.registry})
    empty_portal.wait_until_synced()
    tab.goto("/connections")
    for name in ("Acme Git", "Acme CI", "Acme Images"):
        expect(
            tab.get_by_role("row", name=re.compile(name)).get_by_text("Synced", exact=True)
        ).to_be_visible()


def test_one_page_shows_code_runs_and_images_tied_by_identity(
    tab: Tab, empty_portal: Portal, company: Company
) -> None:
    # One more pass of each, for what one tool says of another's things.
    for slug in ("acme-git", "acme-ci", "acme-images"):
        sync(tab, empty_portal, slug)
    assert empty_portal.execute("select count(*) from integrations_connection where rules <> '{}'") == [(0,)]
    # Which cards there are, each process of the web server looks up anew after some seconds.
    for _second in range(15):
        tab.goto(COMPONENT)
        if card(tab, "Runs").count():
            break
        tab.wait_for_timeout(1_000)
    expect(card(tab, "Changes")).to_contain_text("Work on main")
    runs = card(tab, "Runs")
    expect(runs).to_contain_text("Passed")
    expect(runs).to_contain_text("build-payments")
    versions = card(tab, "Versions and images")
    for version in ("v1.0.0", "1.0.0", "latest"):
        expect(versions).to_contain_text(version)
    expect(tab.locator(".po-md")).to_contain_text("Takes money.")
    about = card(tab, "About")
    expect(about).to_contain_text("From 3 sources")
    # What is the other repository's shows there alone.
    tab.goto("/catalog/default/component/website")
    expect(tab.get_by_text("build-payments")).to_have_count(0)
    expect(tab.get_by_text("1.0.0")).to_have_count(0)


def test_why_shows_the_key_and_both_records(tab: Tab, company: Company) -> None:
    tab.goto(f"{COMPONENT}?tab=relations")
    row = tab.get_by_role("listitem").filter(has_text="till")
    row.get_by_role("link", name="Why?").click()
    expect(tab.get_by_role("heading", name="Why are these tied?")).to_be_visible()
    expect(tab.locator("main")).to_contain_text("repo:")
    expect(tab.locator("main code", has_text="payments").first).to_be_visible()
    for source in ("Acme Git", "Acme Images"):
        expect(tab.get_by_role("heading", name=source)).to_be_visible()


def test_what_a_person_unties_stays_untied(tab: Tab, empty_portal: Portal, company: Company) -> None:
    tab.goto(f"{COMPONENT}?tab=relations")
    tab.get_by_role("listitem").filter(has_text="till").get_by_role("link", name="Why?").click()
    tab.get_by_label("Reason").fill("The till is another team's")
    tab.get_by_role("button", name="Forbid").click()
    expect(tab.get_by_text("The tie is forbidden and stays away.")).to_be_visible()
    for _again in range(2):
        tab.goto(COMPONENT)
        expect(card(tab, "Runs")).to_contain_text("build-payments")
        expect(card(tab, "Versions and images")).not_to_contain_text("latest")
        tab.goto(f"{COMPONENT}?tab=relations")
        # It stands among the forbidden ties alone, from where it can be taken back.
        expect(tab.get_by_role("listitem").filter(has_text="till")).to_have_count(1)
        expect(tab.get_by_role("listitem").filter(has_text="till")).to_contain_text("forbidden by")
        sync(tab, empty_portal, "acme-images")
        sync(tab, empty_portal, "acme-git")
