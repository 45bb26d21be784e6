"""The first hour: from an empty portal to a team that uses it, by nothing but the browser, as the guide says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect
from playwright.sync_api import Page as Tab

from tests.docs.pages import page
from tests.e2e.site import PASSWORD, card
from tests.e2e.stack import Portal
from tests.integrations import alerting_servers, github
from tests.integrations.alerting_servers import run_prometheus
from tests.integrations.openid_servers import CLIENT_ID, SECRET, run_provider
from tests.integrations.servers import free_port, required, run_registry

pytestmark = [pytest.mark.browser, pytest.mark.server]

PATIENCE = 90_000
HELLO = "https://github.com/Codertocat/Hello-World"
MIA = "mia@acme.example"
FILES = {
    "people.yaml": f"""
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {{name: payments, title: Payments}}
spec: {{type: team, children: [], members: [mia]}}
---
apiVersion: backstage.io/v1alpha1
kind: User
metadata: {{name: mia}}
spec: {{profile: {{displayName: Mia Lund, email: {MIA}}}, memberOf: [payments]}}
""",
    "shop.yaml": """
apiVersion: backstage.io/v1alpha1
kind: System
metadata: {name: shop, title: Shop}
spec: {owner: payments}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: rates, description: What a currency costs.}
spec: {type: service, lifecycle: production, owner: payments, system: shop}
""",
}
OF_HELLO = """
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: hello, title: Hello}
spec: {type: service, lifecycle: experimental, owner: payments, system: shop, dependsOn: [component:rates]}
"""
CHANGE = "Round rates half up"
RULE = {
    "alert": "RatesAreDown",
    "expr": "up == 0",
    "labels": {"severity": "critical", "component": "rates"},
    "annotations": {"summary": "No rates are answered."},
}


@dataclass
class Hour:
    """What somebody does in the browser, counted.

    :ivar counted: by part of the guide: how often they click, open or press something, and how many fields they fill.
    :ivar waited: seconds by part in which there was nothing to do but wait.
    """

    tab: Tab
    counted: dict[str, list[int]] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=dict)
    part: str = ""

    @contextmanager
    def doing(self, part: str) -> Iterator[None]:
        """What is counted within belongs to this part of the guide."""
        self.part = part
        self.counted[part], self.waited[part] = [0, 0], 0.0
        yield

    def open(self, address: str) -> None:
        """Follow a link that came from elsewhere."""
        self.counted[self.part][0] += 1
        self.tab.goto(address)

    def click(self, name: str, *, role: Any = "button", within: Locator | Tab | None = None) -> None:
        """Press what bears this name, beside which a number may stand."""
        self.counted[self.part][0] += 1
        wanted = re.compile(rf"^{re.escape(name)}( ?\d+)?$")
        (within or self.tab).get_by_role(role, name=wanted).first.click()

    def follow(self, name: str, *, within: Locator | Tab | None = None) -> None:
        """Follow a link of the page."""
        self.click(name, role="link", within=within)

    def unfold(self, what: Locator) -> None:
        """Open what is folded."""
        self.counted[self.part][0] += 1
        what.click()

    def fill(self, label: str, value: str) -> None:
        """Type or paste a value. The label of an optional field says so too."""
        self.counted[self.part][1] += 1
        wanted = re.compile(f"^{re.escape(label)}( optional)?$")
        named = self.tab.get_by_label(wanted).or_(self.tab.get_by_placeholder(wanted))
        named.and_(self.tab.locator("input")).first.fill(value)

    def copied(self, name: str) -> str:
        """Press a button that copies something: what it copied."""
        self.click(name)
        return str(self.tab.evaluate("navigator.clipboard.readText()"))

    def search(self, text: str) -> None:
        """Paste something into the box at the top and press Enter."""
        self.fill("Search", text)
        self.counted[self.part][0] += 1
        self.tab.keyboard.press("Enter")

    def wait(self, what: Locator) -> None:
        """Wait for what comes by itself."""
        began = time.monotonic()
        expect(what.first).to_be_visible(timeout=PATIENCE)
        self.waited[self.part] += time.monotonic() - began


@dataclass(frozen=True)
class Company:
    """What a company runs, and what happens there.

    :ivar digest: of the image that was built of the repository.
    """

    github: github.GitHub
    registry: str
    host: str
    digest: str
    prometheus: str
    sign_in: str
    files: Path

    def merges(self, address: str, secret: str) -> None:
        """Somebody merges a change, after which the build fails: GitHub tells of both."""
        run, merged_at = _run(timedelta(), 164, "failure"), _ago(timedelta(minutes=2))
        run |= {"head_sha": "4" * 40, "display_title": CHANGE}
        self.github.has[f"/repos/{github.REPO}/actions/runs"][1].insert(0, run)
        closed = github.examples("pull_request")[3]
        facts = {"title": CHANGE, "merged": True, "merged_at": merged_at, "updated_at": merged_at}
        closed["pull_request"] |= {**facts, "closed_at": merged_at, "merge_commit_sha": "4" * 40}
        ran = {"action": "completed", "workflow_run": run, "repository": closed["repository"]}
        for event, said in (("pull_request", closed), ("workflow_run", ran)):
            body = json.dumps(said).encode()
            proof = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            headers = {
                "Content-Type": "application/json",
                "X-GitHub-Event": event,
                "X-GitHub-Delivery": f"{event}-1",
                "X-Hub-Signature-256": f"sha256={proof}",
            }
            with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=10) as answer:
                assert answer.status == 202


def _ago(ago: timedelta) -> str:
    return (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


def _run(ago: timedelta, number: int, conclusion: str) -> dict[str, Any]:
    """The example of a run, as one of the repository's that ended some time ago."""
    run = github.examples("workflow_run")[1]["workflow_run"]
    at = _ago(ago)
    return run | {
        "id": run["id"] + number, "run_number": number, "event": "push", "conclusion": conclusion,
        "created_at": at, "run_started_at": at, "updated_at": at,
        "html_url": f"{HELLO}/actions/runs/{run['id'] + number}",
    }  # fmt: skip


@pytest.fixture(scope="module")
def company(
    empty_portal: Portal, require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Company]:
    """A GitHub that answers by recordings; a registry, a Prometheus and an identity provider that are real."""
    prometheus = require_program("prometheus")
    files = empty_portal.files / "catalog"
    files.mkdir()
    for name, text in FILES.items():
        (files / name).write_text(text)
    has = github.world()
    at = f"/repos/{github.REPO}"
    run = _run(timedelta(hours=3), 163, "success")
    has[f"{at}/actions/runs"] = ("workflow_runs", [run])
    has[f"{at}/contents/catalog-info.yaml"]["content"] = base64.b64encode(OF_HELLO.encode()).decode()
    for one in (run["id"], run["id"] + 1):
        has[f"{at}/actions/runs/{one}/jobs"] = has[f"{at}/actions/runs/{run['id'] - 163}/jobs"]
    places = {name: tmp_path_factory.mktemp(name) for name in ("images", "prometheus", "openid")}
    with (
        required(),
        github.play(has) as played,
        run_registry(places["images"]) as registry,
        run_prometheus(prometheus, places["prometheus"], [RULE], [f"127.0.0.1:{free_port()}"]) as monitoring,
        run_provider(places["openid"]) as provider,
    ):
        labels = {
            "org.opencontainers.image.source": HELLO,
            "org.opencontainers.image.revision": run["head_sha"],
        }
        image = registry.push("shop/hello", "1.4.0", "latest", labels=labels)
        provider.knows("mia", email=MIA, email_verified=True, name="Mia Lund")
        yield Company(played, registry.url, registry.host, image["digest"], monitoring, provider.url, files)


def connect(hour: Hour, tool: str, fields: dict[str, str]) -> None:
    """Connect a tool, from its tile in the gallery to its first sync."""
    hour.follow(f"Connect {tool}")
    for label, value in fields.items():
        hour.fill(label, value)
    hour.click("Test connection")
    expect(hour.tab.get_by_role("heading", name="Everything works")).to_be_visible(timeout=PATIENCE)
    hour.click("Preview")
    hour.follow("Continue")
    hour.click("Connect and sync")
    # A Prometheus that has just been started does not know yet all that fires.
    hour.wait(hour.tab.locator(".po-head").get_by_text(re.compile("^(Synced|Partial)$")))


def create(hour: Hour, what: str) -> None:
    """Choose from the menu that every page has."""
    hour.unfold(hour.tab.get_by_role("banner").get_by_role("button", name="Create"))
    hour.follow(what)


def field_of(tab: Tab, label: str) -> Locator:
    """A fact of the entity's page."""
    return card(tab, "About").locator("dl > div", has=tab.locator("dt", has_text=label))


def open_override(hour: Hour, label: str) -> None:
    """From a fact to the page where it is overridden."""
    fact = field_of(hour.tab, label)
    hour.unfold(fact.locator("summary"))
    hour.follow("Override", within=fact)


@pytest.fixture
def people(browser: Browser, empty_portal: Portal) -> Iterator[tuple[Hour, Hour]]:
    """The administrator and her colleague, each at a browser of her own."""
    with ExitStack() as stack:
        tabs = []
        for _person in range(2):
            context = browser.new_context(base_url=empty_portal.url, viewport={"width": 1440, "height": 900})
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE)
            context.grant_permissions(["clipboard-read", "clipboard-write"])
            tabs.append(context.new_page())
        yield Hour(tabs[0]), Hour(tabs[1])


def test_the_first_hour_goes_as_the_guide_says(
    people: tuple[Hour, Hour], empty_portal: Portal, company: Company
) -> None:
    ana, mia = people
    tab = ana.tab

    with ana.doing("Come in"):
        ana.open(empty_portal.welcome)
        ana.fill("Your name", "Ana Ruiz")
        ana.fill("Password", PASSWORD)
        ana.fill("Password again", PASSWORD)
        ana.click("Sign in")
        expect(tab.get_by_role("heading", name="Your portal is empty, so far")).to_be_visible()

    with ana.doing("Connect GitHub"):
        ana.follow("Connect a tool", within=tab.locator("main"))
        settings = {"Address of the API": company.github.url, "Token": "open-sesame"}
        connect(ana, "GitHub", settings | {"Organisations and users": "Codertocat"})

    with ana.doing("Be told at once"):
        ana.follow("Set up deliveries")
        ana.click("Make a secret")
        hook = ana.copied("Copy the address")
        secret = ana.copied("Copy")

    with ana.doing("Connect a registry"):
        create(ana, "Connect a tool")
        connect(ana, "Container registry", {"Address": company.registry})

    with ana.doing("Connect Prometheus"):
        create(ana, "Connect a tool")
        account = {"User name": "ana", "Password": alerting_servers.PASSWORD}
        connect(ana, "Prometheus", {"Address": company.prometheus, **account})

    with ana.doing("Import catalog files"):
        create(ana, "Import catalog files")
        ana.fill("Path or address", str(company.files))
        ana.click("Preview")
        ana.click("Import")
        ana.wait(tab.get_by_text("4 documents, 4 accepted"))

    with ana.doing("Let the company sign in"):
        ana.follow("Settings")
        ana.follow("Access")
        ana.follow("Sign-in")
        ana.fill("Name", "Acme")
        ana.fill("Issuer", company.sign_in)
        ana.fill("Client id", CLIENT_ID)
        ana.fill("Client secret", SECRET)
        ana.click("Check and save")
        expect(tab.get_by_text("The provider answers, and the settings are saved.")).to_be_visible()

    with ana.doing("Invite a colleague"):
        create(ana, "Invite a colleague")
        ana.fill("E-mail", MIA)
        ana.click("Make invitation")
        invitation = ana.copied("Copy")

    with mia.doing("Come in through the company's sign-in"):
        mia.open(invitation)
        mia.follow("Continue with Acme")
        mia.fill("sub", "mia")
        mia.click("Authorize")
        mine = card(mia.tab, "My services")
        for name in ("Hello", "rates"):
            expect(mine).to_contain_text(name)

    with mia.doing("See a build fail, and what changed before"):
        company.merges(hook, secret)
        mia.wait(mine.get_by_text("Failed"))
        mia.follow("Hello", within=card(mia.tab, "Failing now"))
        failing = mia.tab.locator("section.po-card", has_text="What changed in the 24 hours before")
        for word in (CHANGE, "First bad commit", "4444444", "Codertocat", "RatesAreDown"):
            expect(failing).to_contain_text(word)

    with mia.doing("Paste an image's digest"):
        mia.search(f"{company.host}/shop/hello@{company.digest}")
        expect(mia.tab.get_by_role("heading", name="Hello", level=1)).to_be_visible()
        expect(field_of(mia.tab, "Owner")).to_contain_text("Payments")

    with ana.doing("Overrule a value, and take that back"):
        ana.follow("Portico, home")
        ana.follow("Hello", within=card(tab, "Failing now"))
        open_override(ana, "Lifecycle")
        ana.fill("Your value", "production")
        ana.fill("Reason", "It takes money since May.")
        ana.click("Override")
        expect(field_of(tab, "Lifecycle")).to_contain_text("production")
        open_override(ana, "Lifecycle")
        ana.click("Take the override back")
        expect(field_of(tab, "Lifecycle")).to_contain_text("experimental")

    with ana.doing("Untie an image, and take that back"):
        ana.follow("Relations", within=tab.locator("main"))
        ana.follow("Why?", within=tab.get_by_role("listitem").filter(has_text="shop-hello"))
        ana.click("Forbid")
        expect(tab.get_by_text("The tie is forbidden and stays away.")).to_be_visible()
        ana.click("Let the evidence decide")
        expect(tab.get_by_text("The evidence decides again.")).to_be_visible()
        mia.tab.reload()
        expect(card(mia.tab, "Versions and images")).to_contain_text("1.4.0")

    with ana.doing("Remove a connection, and take that back"):
        ana.follow("Connections")
        ana.follow("Container registry", within=tab.locator("main"))
        ana.follow("Settings", within=tab.locator("main"))
        ana.follow("Remove...")
        ana.fill("Type container-registry to go on", "container-registry")
        ana.click("Remove Container registry")
        ana.wait(tab.get_by_role("heading", name="Removed, and kept for a while"))
        mia.tab.reload()
        expect(card(mia.tab, "Versions and images")).not_to_contain_text("1.4.0")
        ana.click("Restore")
        ana.wait(tab.locator(".po-head").get_by_text("Synced", exact=True))
        mia.tab.reload()
        expect(card(mia.tab, "Versions and images")).to_contain_text("1.4.0")

    counted = {**ana.counted, **mia.counted}
    waited = {**ana.waited, **mia.waited}
    print(f"\nWaited {sum(waited.values()):.0f} s:", {part: round(s, 1) for part, s in waited.items() if s})
    assert counted == told()


def told() -> dict[str, list[int]]:
    """How many steps and fields the guide says that each part takes."""
    rows = re.findall(r"^\| \[([^\]]+)\]\(#[^|]+ \| (\d+) \| (\d+) \|", page("first-hour.md"), re.MULTILINE)
    return {part: [int(steps), int(fields)] for part, steps, fields in rows}
