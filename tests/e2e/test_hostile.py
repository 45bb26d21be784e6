"""What means harm, by every way in, on every page that shows it: its neighbours are there, what is refused is named
with place and reason, and nothing of it runs."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from playwright.sync_api import Browser, expect

from tests.e2e.hostile import (
    FORMULA,
    LINKS,
    LONG,
    MARKUP,
    REFUSED,
    SLAPD,
    WORDS,
    Ways,
    component,
    documents,
    tools,
)  # fmt: skip
from tests.e2e.site import COMMON, Visitors, settle
from tests.e2e.stack import redis_program, run_portal
from tests.e2e.test_pages import OVERFLOW, WATCH, elsewhere, watched

pytestmark = pytest.mark.browser

# What would run, or lead astray once it is pressed.
DANGER = """() => {
  const found = [];
  for (const one of document.querySelectorAll("*")) {
    if (["IFRAME", "OBJECT", "EMBED", "BASE", "MATH", "foreignObject"].includes(one.nodeName)
      || (one.nodeName === "META" && one.httpEquiv)
      || (one.nodeName === "SCRIPT" && one.type !== "application/json" && !one.src.startsWith(location.origin)))
      found.push(one.outerHTML.slice(0, 200));
    for (const {name, value} of one.attributes) {
      const isAddress = ["href", "src", "action", "formaction", "xlink:href", "poster", "hx-get", "hx-post"];
      if (name.startsWith("on") || name === "srcdoc" || name === "style" && value.includes("url(")
        || (isAddress.includes(name) && /^(javascript|data|vbscript):/i.test(value.replace(/[\\s\\0-\\x1f]/g, ""))))
        found.push(`${name}=${value.slice(0, 100)} in ${one.outerHTML.slice(0, 100)}`);
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]) -> Iterator[Ways]:
    """A portal of its own: what is in it would be in everybody's way."""
    with run_portal(
        tmp_path_factory.mktemp("portal"),
        database=settings.DATABASES["default"],
        redis=redis_program(require_program),
    ) as portal:
        yield Ways(portal, portal.manage("create_token", "--user", "admin").strip())


@pytest.fixture(scope="module")
def tab(browser: Browser, ways: Ways) -> Iterator[Any]:
    with Visitors(browser, ways.portal).context() as context:
        context.add_init_script(WATCH)
        tab: Any = watched(context.new_page())
        tab.faults, tab.requests, tab.dialogs = [], [], []

        def opened(dialog: Any) -> None:
            tab.dialogs.append(dialog.message)
            dialog.dismiss()

        tab.on("dialog", opened)
        yield tab


@pytest.fixture(scope="module")
def filled(ways: Ways, tab: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything brought in; what each way said to it."""
    said: dict[str, Any] = {}
    with tools(ways, tmp_path_factory.mktemp("tools")):
        said["import"] = ways.import_files()
        said["hooks"] = ways.deliver()
        said["write"] = [ways.ask("POST", "/api/v1/entities/", one) for one in documents("api")]
        said["odd"] = [ways.ask("POST", "/api/v1/entities/", one) for one in _odd()]
        ways.connect("away", "records", location="https://away.invalid/%22%3E")
        said["invitations"] = _people(ways)
        ways.wait()
        _edit(tab)
    return said


def _odd() -> list[Any]:
    """What the API refuses."""
    document = component("odd")
    large = {**document, "metadata": {"name": "odd", "description": "x" * 10_485_760}}
    deep = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    nul = {**document, "metadata": {"name": "odd", "title": "a\0b"}}
    half = b'{"apiVersion": "backstage.io/v1alpha1", "kind": "Component", "metadata": {"name": "\\ud800"}, "spec": {}}'
    return [
        large,
        deep,
        nul,
        half,
        MARKUP,
        {**document, "kind": MARKUP},
        {**document, "metadata": {"name": LONG}},
    ]


def _people(ways: Ways) -> list[int]:
    """Names of people and groups: invited, made, and as a provider of identities tells them."""
    statuses = [
        ways.ask("POST", "/api/v1/invitations/", {"email": f"e{number}@acme.example", "name": words[:200]})[0]
        for number, words in enumerate(WORDS)
    ]
    ways.portal.manage("shell", "-v", "0", "-c", _PROVIDER.format(words=WORDS, markup=MARKUP))
    return statuses


_PROVIDER = """
from access.models import IdentityProvider
from access.services import create_group
from access.services.identities import Person, identity_provider, save_provider, sign_in_person
words, markup = {words!r}, {markup!r}
for number, one in enumerate(words):
    create_group(name=f"{{number}} {{one}}"[:100], by=None)
save_provider({{
    "label": markup[:100], "issuer": "https://id.example", "client_id": markup[:100], "scopes": "openid",
    "groups_claim": "groups", "roles": {{one: "viewer" for one in words}},
    "access_groups": {{one: f"{{number}} {{one}}"[:100] for number, one in enumerate(words)}},
    "email_domains": [], "trusts_email": True, "makes_accounts": True, "is_active": True,
}}, secret="x", by=None)
sign_in_person(Person(
    issuer="https://id.example", subject=markup, email="evil@acme.example", is_email_verified=True,
    name=markup, username=markup, groups=frozenset(words),
), provider=identity_provider())
from access.models import User
from portal.packs import edit_definition
from portal.saved_views import make_view
from portal.watches import make_watch
first = User.objects.order_by("pk").first()
for one in words:
    make_view(user=first, title=one[:100], audience="all", query="kind:component", description=one)
    make_watch(user=first, about="entities", query="kind:component", name=one[:100], when="both")
edit_definition(
    kind="FieldDefinition", name="odd", by="Ana",
    spec={{
        "field": "spec.odd", "kinds": ["Component"], "title": markup, "description": markup, "format": "enum",
        "values": [{{"value": one[:100], "title": one}} for one in words], "default": markup[:100],
        "shown": ["page", "list", "filter"],
    }},
)
"""


def _edit(tab: Any) -> None:
    """An override in the browser, of a component that a file says."""
    tab.goto("/catalog/default/component/yaml-alpha/edit?field=metadata.title")
    settle(tab)
    tab.locator("[name=value]").first.fill(MARKUP)
    tab.locator("[name=reason]").first.fill(MARKUP)
    tab.locator("main form button[type=submit]").last.click()
    settle(tab)


def look(tab: Any, path: str, *, status: int = 200) -> None:
    """Open a page, see all of it, and find nothing that ran or would."""
    tab.requests = []
    answer = tab.goto(path)
    settle(tab)
    assert answer.status == status, path
    clean(tab, path)


def clean(tab: Any, path: str) -> None:
    assert tab.dialogs == [], path
    faults = [fault for fault in tab.faults if "the server responded with a status of 4" not in fault]
    assert faults == [], path
    assert tab.evaluate("seen.refused") == [], path
    assert tab.evaluate(DANGER) == [], path
    assert elsewhere(tab.requests, tab.url) == [], path


def test_what_is_good_is_there_and_what_is_refused_is_named(ways: Ways, filled: dict[str, Any]) -> None:
    rows = ways.portal.execute("SELECT kind || '/' || name FROM catalog_entity WHERE deleted_at IS NULL")
    there = {name for (name,) in rows}
    wanted = {
        f"{one['kind']}/{one['metadata']['name']}".lower()
        for way in ("yaml", "api", "records", "hub")
        for one in documents(way)
    }
    wanted |= {
        "component/first",
        "component/last",
        "group/records-alpha",
        "group/records-omega",
        "group/ldap-omega",
    }
    if not shutil.which("slapd", path=SLAPD):
        wanted.discard("group/ldap-omega")
    assert wanted - there == set()
    artifacts = ways.portal.execute(
        "SELECT count(*) FROM catalog_entity WHERE name LIKE 'acme-%' AND kind = 'artifact'"
    )
    assert artifacts == [(3,)]

    # Files: each by its name, and where in it.
    refused = {one["file"].rpartition("/")[2]: one for one in filled["import"]["problems"]}
    assert {f"{name}.yaml" for name in REFUSED} == refused.keys()
    assert [name for name, one in refused.items() if not one["message"]] == []
    assert [name for name, one in refused.items() if name != "large.yaml" and not one["line"]] == []
    # Records: by file and line, or by document.
    told = ways.portal.execute(
        "SELECT message, detail->>'place', detail->>'record' FROM catalog_problem WHERE type = 'refused-record'"
    )
    assert all(message and (place or record) for message, place, record in told)
    lines = {f"entities.jsonl, line {number}" for number in (23, 24)}
    assert lines <= {place for _message, place, _record in told}
    # Deliveries: all were signed, so all are kept; those that say nothing are given up, with the reason.
    assert set(filled["hooks"]) == {202}
    dead = ways.portal.execute("SELECT message FROM integrations_delivery WHERE state <> 'done'")
    assert len(dead) == 3
    assert all(message and "internal" not in message for (message,) in dead)
    runs = ways.portal.execute(
        "SELECT count(*) FROM catalog_activity WHERE connection = 'hub' AND type = 'run'"
    )
    assert runs[0][0] >= len(WORDS) + 2
    # Programs and people: what they may not say, they are told.
    assert [status for status, _said in filled["write"]] == [200] * len(filled["write"])
    assert {said["accepted"] for _status, said in filled["write"]} == {1}
    assert [status for status, _said in filled["odd"]] == [413, 400, 413, 400, 422, 422, 422]
    assert all(said.get("detail") or said["results"][0]["errors"] for _status, said in filled["odd"])
    assert set(filled["invitations"]) == {201}


def test_a_file_for_a_spreadsheet_holds_no_formula(tab: Any, filled: dict[str, Any]) -> None:
    answer = tab.context.request.get("/catalog.csv?q=kind:component&columns=type,owner,system,tags")
    assert answer.status == 200
    cells = [cell for row in csv.reader(io.StringIO(answer.text().lstrip("\ufeff"))) for cell in row]
    assert f"'{FORMULA}" in cells
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []


# Into so many tests the long round is cut, so that each can be run apart.
PARTS = 4
# Addresses that everybody has.
PAGES = [
    "/", "/catalog", "/catalog?q=kind:component&columns=type,owner,system,tags,run", "/activity", "/problems",
    "/connections", "/connections/records", "/connections/hub", "/connections/hub/records", "/connections/away",
    "/connections/registry/records", "/connections/records/settings", "/connections/records/rules",
    "/connections/hub/deliveries", "/connections/import", "/settings/audit", "/settings/changes", "/settings/access",
    "/settings/access/groups", "/settings/access/sign-in", "/settings/who", "/views", "/settings/tell-me",
    f"/search?q={quote(MARKUP)}", "/search?q=yaml",
    "/history?q=kind:component", "/catalog/fields?q=kind:component", "/catalog/owners?q=kind:component",
    "/catalog/unknown-owners", "/catalog?q=kind:component&group=odd", "/catalog/new?kind=component",
    "/settings/kinds/component", "/settings/fields/odd", "/settings/fields/odd/delete",
    "/graph?entity=component:default/yaml-0", "/graph/impact?entity=component:default/yaml-0",
    "/graph/orphans?type=dangling", f"/why?of={quote(MARKUP)}", f"/views/new?q={quote(MARKUP)}",
    *(f"/catalog/default/component/yaml-0{page}" for page in ("/edit", "/tie", "/merge", "/delete")),
    f"/catalog?q={quote(MARKUP)}", f"/activity?q={quote(MARKUP)}", f"/sign-in?next={quote(LINKS[0])}",
]  # fmt: skip
# What is looked up: the pages of one thing of each sort, and in the long round of all.
OF_ONE = """
SELECT kind, '/catalog/' || namespace || '/' || kind || '/' || name FROM catalog_entity WHERE deleted_at IS NULL
  AND name NOT LIKE '%alpha' AND name NOT LIKE '%omega' AND name NOT IN ('first', 'last')
UNION ALL SELECT c.slug || r.type, '/connections/' || c.slug || '/records/' || r.id FROM integrations_storedrecord r
  JOIN integrations_connection c ON c.id = r.connection_id
UNION ALL SELECT c.slug, '/connections/' || c.slug || '/runs/' || r.id FROM integrations_syncrun r
  JOIN integrations_connection c ON c.id = r.connection_id
UNION ALL SELECT state, '/connections/hub/deliveries/' || id FROM integrations_delivery
UNION ALL SELECT 'account', '/settings/access/users/' || id FROM access_user
ORDER BY 1, 2
"""
TABS = (
    "activity",
    "relations",
    "problems",
    "history",
    "source",
    "runs",
    "versions",
    "changes",
    "readme",
    "raw",
)


@pytest.mark.parametrize(
    "part", ["one", *(pytest.param(n, id=f"all-{n}", marks=pytest.mark.full) for n in range(PARTS))]
)
def test_no_page_runs_it(ways: Ways, tab: Any, filled: dict[str, Any], part: str | int) -> None:
    rows = ways.portal.execute(OF_ONE)
    firsts = dict(reversed(rows))
    paths = [*firsts.values()] if part == "one" else [path for _sort, path in rows]
    tabbed = [firsts["repository"]] if part == "one" else paths
    paths += [f"{path}?tab={name}" for path in tabbed if path.startswith("/catalog/") for name in TABS]
    showing = 0
    statuses = {place.path: place.status for place in COMMON}
    for path in [*PAGES, *paths] if isinstance(part, str) else [*paths, *statuses][part::PARTS]:
        look(tab, path, status=statuses.get(path, 200))
        assert tab.evaluate(OVERFLOW) == [], path
        showing += "<script>" in tab.locator("main").inner_text()
    assert showing > 30, "the words must have been on the pages"


def test_it_is_inert_where_one_searches_and_where_one_is_told(
    ways: Ways, tab: Any, filled: dict[str, Any]
) -> None:
    """Suggestions, what was viewed last, and what pages say to an act."""
    look(tab, "/catalog/default/component/yaml-0")
    look(tab, "/catalog")
    for text in ("", "script", "cmd", "settlement"):
        tab.keyboard.press("Control+k")
        tab.keyboard.insert_text(text)
        expect(tab.get_by_role("option").first).to_be_visible()
        clean(tab, text)
        tab.keyboard.press("Escape")
        tab.keyboard.press("Escape")
        tab.goto("/catalog")
    answer = tab.goto(f"/to?text={quote(MARKUP)}")
    assert answer.status == 404
    clean(tab, "/to")
    # The owner that nobody knows is proposed by its name; an address that is none is said to be so.
    tab.goto("/connections/import")
    tab.locator("[name=address]").first.fill(MARKUP)
    tab.locator("main form button[type=submit]").first.click()
    settle(tab)
    clean(tab, "import")
