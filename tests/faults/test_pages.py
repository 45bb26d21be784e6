"""The portal's pages over hostile data and under hostile requests."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import Entity, Tie
from integrations.models import StoredRecord
from tests.faults.conftest import Portal
from tests.faults.test_input import NASTY
from tests.faults.upstream import Upstream, World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient", "paged")]

HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`"
LINK = "javascript:alert(1)"
README = f"""{HTML}

# Title

[a](javascript:alert(1)) ![b](javascript:alert(1)) [c][r] <https://acme.example/"onmouseover="alert(1)>

[r]: data:text/html,<script>alert(1)</script>

<a href='JaVaScRiPt:alert(1)'>d</a> <a href="&#106;avascript:alert(1)">e</a> <svg onload=alert(1)>
<a xlink:href="javascript:alert(1)">f</a>
<iframe src='//evil.example'></iframe> <form action=//evil.example><input></form> <style>*{{display: none}}</style>
<img src=x onerror=alert(1)> <base href="//evil.example"> <meta http-equiv=refresh content="0;//evil.example">

```{HTML}
{HTML}
```
"""


def fill(world: World) -> None:
    """Put markup and scripts into every field of every kind of thing."""
    for family in (world.entities, world.activity, world.commits):
        family.clear()
    now = timezone.now().isoformat()
    repo, pipeline = "repo:git.acme.example/acme/evil", "pipeline:ci.acme.example/evil"
    words: dict[str, Any] = {
        "name": HTML,
        "title": HTML,
        "description": HTML,
        "tags": [HTML],
        "labels": {HTML: HTML},
    }
    thing = {**words, "url": LINK, "raw": {HTML: HTML}}
    put = world._put
    put("team", "t", **thing, members=[HTML], team_type=HTML, email=HTML, parent=HTML)
    put("user", "u", **thing, email=HTML, teams=[HTML])
    put(
        "repository", "r", **thing, path="acme/evil", keys=[repo], default_branch=HTML, head=HTML, readme=README,
        readme_path="README.md", owners=["@" + HTML], owners_from=HTML, build_files=["pom.xml", HTML],
        languages={HTML: 3}, top_committers=[HTML], last_activity_at=now,
    )  # fmt: skip
    put("pipeline", "p", **thing, keys=[pipeline], about=[repo], trigger=HTML)
    put(
        "artifact", "a", **thing, artifact_type="image", ecosystem=HTML, latest_version=HTML, about=[repo],
        keys=["image:registry.acme.example/evil"],
    )  # fmt: skip
    put("environment", "e", **thing, stage=HTML)
    put("workload", "w", **thing, images=[HTML], about=[repo])
    put(
        "document", "d", file=HTML, url=LINK, about=[repo],
        document={
            "apiVersion": "backstage.io/v1alpha1", "kind": "Component",
            "metadata": {
                "name": "evil", "title": HTML, "description": HTML,
                "links": [{"url": LINK, "title": HTML, "icon": HTML}, {"url": "data:text/html,x", "title": "d"}],
                "annotations": {"a.example/b": HTML, "backstage.io/view-url": LINK, "backstage.io/edit-url": LINK},
            },
            "spec": {
                "type": HTML, "lifecycle": HTML, "owner": HTML, "definition": HTML, "providesApis": [HTML],
                "dependsOn": [f"component:default/{HTML}"],
            },
        },
    )  # fmt: skip
    put("document", "bad", file=HTML, document={"apiVersion": HTML, "kind": HTML, "metadata": {"name": HTML}})
    event = {
        "title": HTML,
        "actor": HTML,
        "actor_email": HTML,
        "url": LINK,
        "about": [pipeline, repo],
        "raw": {HTML: HTML},
    }
    put(
        "run", "run", **event, status="failed", number=HTML, branch=HTML, commit=HTML, log_url=LINK, started_at=now,
        finished_at=now, steps=[{"name": HTML, "status": "failed", "log_url": LINK}],
    )  # fmt: skip
    put(
        "version", "v", **event, version=HTML, notes=HTML, labels={HTML: HTML}, released_at=now, aliases=[HTML],
        digest=HTML, platforms=[HTML],
    )  # fmt: skip
    put("deployment", "dep", **event, status="failed", environment=HTML, version=HTML, started_at=now)
    put("alert", "al", **event, status="firing", severity=HTML, started_at=now)
    put("issue", "is", **event, status="open", number=HTML, opened_at=now)
    put(
        "change", "ch", **event, status="open", number=HTML, source_branch=HTML, target_branch=HTML, reviewers=[HTML],
        opened_at=now,
    )  # fmt: skip
    put("check", "ck", **event, status="fails", name=HTML, checked_at=now)
    commit = {**event, "branch": HTML, "committed_at": now, "sha": "a" * 40}
    world.commits.append({"type": "commit", "external_id": "c", **commit})


class Danger(HTMLParser):
    """What in a page would run, or lead astray; and what it loads later."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.later: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        shown = self.get_starttag_text()
        if tag in {"iframe", "object", "embed", "base", "style"} or (tag == "meta" and "http-equiv" in given):
            self.found.append(f"{shown}")
        if (
            tag == "script"
            and not (given.get("src") or "").startswith("/static/")
            and given.get("type") != "application/json"
        ):
            self.found.append(f"{shown}")
        for name, value in attrs:
            address = "".join((value or "").split()).lower()
            if name.startswith("on") or name == "style":
                self.found.append(f"{shown}")
            if name in {
                "href",
                "src",
                "action",
                "formaction",
                "xlink:href",
                "poster",
                "data",
            } and address.startswith(("javascript:", "data:text", "vbscript:", "//")):
                self.found.append(f"{shown}")
            if name == "hx-get" and value:
                self.later.append(value)


@pytest.fixture
def connected(portal: Portal, upstream: Upstream, settings: Any) -> Upstream:
    settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.port}"]
    return upstream


def test_no_page_runs_what_a_tool_says(portal: Portal, connected: Upstream, admin_client: Client) -> None:
    fill(connected.world)
    connection = portal.connect("paged", "paged", base_url=connected.url)
    run = portal.sync_well(connection)
    assert StoredRecord.objects.count() == 16
    pages = [
        "/", "/catalog", "/activity", "/problems", "/connections", "/connections/paged", "/connections/paged/runs",
        "/connections/paged/records", "/connections/paged/rules", "/connections/paged/settings", "/settings/audit",
        f"/connections/paged/runs/{run.pk}", "/search/suggest?q=script", f"/catalog?q={quote(HTML)}",
        f"/activity?q={quote(HTML)}", f"/sign-in?next={quote(LINK)}",
    ]  # fmt: skip
    tabs = ("relations", "runs", "versions", "changes", "readme", "raw", "history", "provenance")
    for entity in Entity.objects.filter(deleted_at=None):
        address = f"/catalog/{entity.namespace}/{entity.kind}/{entity.name}"
        pages += [address, f"{address}/edit", f"{address}/tie", *(f"{address}?tab={tab}" for tab in tabs)]
    pages += [f"/connections/paged/records/{record.pk}" for record in StoredRecord.objects.all()]
    pages += [f"/ties/{tie.pk}" for tie in Tie.objects.all()]
    seen: set[str] = set()
    shown = 0
    while pages:
        address = pages.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = admin_client.get(address)
        assert answer.status_code < 500, address
        danger = Danger(answer.content.decode())
        assert danger.found == [], address
        shown += answer.content.count(b"&lt;script&gt;alert(1)")
        pages += [later for later in danger.later if later.startswith("/")]
    assert shown > 50, "the hostile words must have been on the pages"


# Addresses with a hole for what somebody may put there.
HOLES = [
    "/?q={}", "/catalog?q={}", "/catalog?cursor={}", "/catalog?order={}", "/catalog?limit={}", "/catalog?at={}",
    "/catalog?columns={}", "/activity?q={}", "/activity?type={}", "/activity?cursor={}", "/activity?after={}",
    "/activity?more={}", "/activity?status={}", "/problems?q={}", "/problems?type={}", "/search/suggest?q={}",
    "/search?q={}", "/search?q=a&in={}", "/search?q=a&from={}",
    "/search/terms?q={}", "/search/terms?q=kind&cursor={}", "/search/refs?q={}&kinds={}",
    "/catalog/{}/component/x", "/catalog/default/{}/x", "/catalog/default/component/{}",
    "/catalog/default/component/comp-svc001?tab={}", "/catalog/default/component/comp-svc001/edit?field={}",
    "/connections/{}", "/connections/new/{}", "/connections/paged/records?q={}",
    "/connections/paged/records?page={}", "/connections/paged/records?resource={}",
    "/connections/paged/runs?page={}", "/connections/paged/runs/{run}?outcome=&page={}",
    "/connections/paged/runs/{run}?resource={}&outcome={}", "/settings/audit?actor={}",
    "/settings/audit?day={}", "/settings/audit?cursor={}", "/sign-in?next={}", "/sign-in/{}",
    "/widgets/home/{}", "/widgets/{}/x", "/api/v1/entities/?q={}", "/api/v1/entities/?order={}",
    "/api/v1/entities/?fields={}", "/api/v1/entities/?limit={}", "/api/v1/entities/?cursor={}",
    "/api/v1/entities/default/component/{}/", "/api/v1/entities/{}/component/x/", "/api/v1/entities/{}/",
    "/api/v1/ties/?state={}", "/api/v1/ties/?cursor={}", "/api/v1/activity/?type={}",
    "/api/v1/activity/?entity={}", "/api/v1/activity/?cursor={}", "/api/v1/feed?since={}",
    "/api/v1/feed?cursor={}", "/api/v1/feed?limit={}", "/api/v1/problems/?type={}",
    "/api/v1/problems/?cursor={}", "/api/v1/sync-runs/?connection={}", "/api/v1/connections/{}/", "/api/v1/{}",
    "/graph?entity={}&relations={}", "/graph?entity=component:default/comp-svc001&depth={}&direction={}&kinds={}",
    "/graph?entity=component:default/comp-svc001&layout={}&open={}&hide={}", "/graph/impact?entity={}",
    "/graph/impact?entity=component:default/comp-svc001&page={}", "/graph/cycles?page={}",
    "/graph/orphans?type={}&page={}", "/why?of={}", "/to/{}", "/to?text={}", "/to?{}", "/history?q={}",
    "/history?q=kind:component&from={}", "/history?q=kind:component&to={}", "/history?cursor={}",
    "/history.csv?q={}&from={}", "/catalog.csv?q={}", "/catalog.csv?columns={}&order={}",
    "/catalog?q=kind:component&group={}", "/catalog?q=kind:component&view={}", "/catalog/fields?q={}",
    "/catalog/owners?q={}", "/catalog/new?kind={}", "/catalog/unknown-owners?page={}",
    "/catalog/default/group/{}/unknown", "/catalog/default/component/comp-svc001/restore/{}",
    "/catalog/default/component/comp-svc001/run?connection={}&operation={}&target={}",
    "/views/new?q={}", "/views/new?columns={}&order={}&group={}", "/views/{}/edit",
    "/settings/tell-me/new?about={}", "/settings/tell-me/new?about=activity&q={}&type={}", "/settings/who?q={}",
    "/settings/kinds/{}", "/settings/kinds/{}/change", "/settings/relations/{}", "/settings/fields/{}",
    "/settings/fields/new?kind={}", "/settings/changes?cursor={}", "/settings/changes/{}", "/notices?cursor={}",
    "/notices/end/{}", "/connections/paged/operations?page={}", "/connections/paged/deliveries?page={}",
    "/sign-in/provider/callback?state={}", "/api/v1/entities/default/component/comp-svc001/history/?cursor={}",
    "/api/v1/entities/default/component/comp-svc001/impact/?limit={}", "/api/v1/graph/?entity={}",
    "/api/v1/graph/?entity=component:default/comp-svc001&depth={}", "/api/v1/graph/cycles/?limit={}",
    "/api/v1/graph/orphans/?type={}", "/api/v1/history/?q={}", "/api/v1/history/?q=kind:component&from={}&to={}",
    "/api/v1/names/?cursor={}", "/api/v1/views/{}/",
]  # fmt: skip
WORST = [
    "\0",
    HTML,
    "9" * 40,
    "9" * 5_000,
    "-1",
    "²",
    "a:" * 300,
    "(" * 5_000,
    '"',
    "/(a+)+$/",
    "0001-01-01",
    "name with spaces",
    "é" * 999,
]
MORE = [
    *NASTY, "kind:component " * 200, "-" * 2_000, "owner:[x TO y]", "changed:>9999-99-99", "changed:>now-99999999999d",
    "a OR " * 500, "~/.*", "*" * 200, "eyJhIjoxfQ==", "WzFd", "null,null",
]  # fmt: skip


ROUNDS = [
    pytest.param(WORST, id="worst"),
    *(pytest.param(MORE[n::4], id=f"more-{n}", marks=pytest.mark.full) for n in range(4)),
]


@pytest.mark.parametrize("values", ROUNDS)
def test_no_address_makes_a_failure_of_ours(
    portal: Portal, connected: Upstream, admin_client: Client, values: list[str]
) -> None:
    run = portal.sync_well(portal.connect("paged", "paged", base_url=connected.url))
    admin_client.raise_request_exception = False
    failed = []
    for hole in HOLES:
        for value in values:
            given = quote(value.encode("utf-8", "surrogatepass"), safe="")
            address = hole.replace("{run}", str(run.pk)).replace("{}", given)
            answer = admin_client.get(address)
            if answer.status_code >= 500:
                failed.append((hole, value[:60], answer.status_code))
    assert failed == []


FORMS = [
    ("/connections/import", {"address": "{}", "action": "import"}),
    ("/connections/import", {"address": "/{}", "action": "preview"}),
    ("/connections/import", {"address": "https://{}/x.yaml", "action": "import"}),
    ("/connections/new/records", {"location": "{}", "label": "{}", "slug": "{}", "namespace": "{}"}),
    (
        "/connections/paged/settings",
        {"base_url": "{}", "connection_label": "{}", "connection_interval": "{}"},
    ),
    ("/connections/paged/rules", {"only_if": "{}", "ignored": "{}", "active_within_months": "{}"}),
    ("/catalog/default/component/comp-svc001/edit", {"field": "{}", "value": "{}", "reason": "{}"}),
    ("/catalog/default/component/comp-svc001/edit", {"field": "spec.{}", "value": "{}", "etag": "{}"}),
    (
        "/catalog/default/component/comp-svc001/tie",
        {"type": "{}", "target": "{}", "state": "{}", "reason": "{}"},
    ),
    ("/catalog/default/component/comp-svc001/merge", {"into": "{}", "part": "{}", "reason": "{}"}),
    ("/connections/paged/deliveries/replay", {"delivery": "{}"}),
    ("/catalog/default/component/comp-svc001/run", {"operation": "{}", "record": "{}", "word": "{}"}),
    ("/problems/snooze", {"problem": "{}", "until": "{}", "days": "{}", "cause": "{}", "type": "{}"}),
    ("/settings/tokens", {"name": "{}", "role": "{}", "expires_in": "{}"}),
    ("/settings/access/groups", {"name": "{}", "label": "{}"}),
    ("/settings/access", {"username": "{}", "name": "{}", "email": "{}", "role": "{}", "scope": "{}"}),
    ("/settings/you", {"name": "{}", "email": "{}"}),
    ("/settings/look", {"theme": "{}", "density": "{}"}),
    ("/catalog/fields", {"q": "kind:component", "field": "{}", "do": "{}", "value": "{}", "reason": "{}"}),
    (
        "/catalog/fields",
        {"q": "kind:component", "field": "spec.lifecycle", "value": "{}", "action": "set", "mark": "{}"},
    ),
    (
        "/catalog/owners",
        {"q": "kind:component", "owner": "{}", "reason": "{}", "action": "set", "mark": "{}"},
    ),
    ("/catalog/new?kind=component", {"name": "{}", "namespace": "{}", "spec.type": "{}", "spec.owner": "{}"}),
    (
        "/catalog/default/component/comp-svc001/edit",
        {"metadata.title": "{}", "spec.type": "{}", "seen": "{}"},
    ),
    ("/catalog/default/component/comp-svc001/delete", {"etag": "{}"}),
    ("/catalog/default/component/comp-svc001/restore/1", {"etag": "{}", "reason": "{}"}),
    ("/catalog/default/group/nobody/unknown", {"action": "map", "target": "{}", "reason": "{}"}),
    (
        "/catalog/default/group/nobody/unknown",
        {"action": "create", "name": "{}", "title": "{}", "members": "{}"},
    ),
    ("/catalog/unknown-owners", {"unmap": "{}", "withdraw": "{}"}),
    (
        "/views/new",
        {"title": "{}", "query": "{}", "columns": "{}", "order": "{}", "group": "{}", "audience": "{}"},
    ),
    (
        "/views/new",
        {"title": "A", "description": "{}", "query": "kind:component", "audience": "team", "team": "{}"},
    ),
    ("/settings/tell-me/new", {"name": "{}", "query": "{}", "when": "{}", "mail": "{}"}),
    (
        "/settings/tell-me/new?about=activity",
        {"name": "{}", "query": "kind:component", "types": "{}", "status": "{}"},
    ),
    ("/settings/kinds/component/change", {"spec": "{}"}),
    ("/settings/fields/new", {"title": "{}", "field": "{}", "kinds": "{}", "format": "{}"}),
    (
        "/settings/fields/new",
        {
            "title": "{}",
            "field": "spec.odd",
            "kinds": "Component",
            "format": "enum",
            "values": "{}",
            "default": "{}",
        },
    ),
    (
        "/settings/fields/new",
        {"title": "A", "field": "spec.odd", "kinds": "Component", "format": "number", "expression": "{}"},
    ),
    (
        "/settings/fields/new",
        {
            "title": "A",
            "field": "spec.odd",
            "kinds": "Component",
            "format": "number",
            "count.path": "{}",
            "count.query": "{}",
        },
    ),
    ("/settings/relations/ownedBy", {"check": "{}", "most": "{}", "inverse_most": "{}", "etag": "{}"}),
    ("/settings/outbound", {"host": "{}", "reason": "{}"}),
    ("/settings/who", {"entity": "{}"}),
    ("/settings/who", {"action": "withdraw", "entity": "{}"}),
    ("/settings/packs/restore", {"kind": "{}", "name": "{}"}),
    ("/settings/access/sign-in", {"label": "{}", "issuer": "{}", "client_id": "{}", "client_secret": "{}"}),
    ("/connections/paged/left-out", {"patterns": "{}", "action": "{}"}),
    ("/connections/paged/delete", {"confirm": "{}", "with_secrets": "{}"}),
]


@pytest.mark.parametrize("values", ROUNDS)
def test_no_form_makes_a_failure_of_ours(
    portal: Portal,
    connected: Upstream,
    admin_client: Client,
    contacted: set[tuple[str, int]],
    values: list[str],
) -> None:
    portal.sync_well(portal.connect("paged", "paged", base_url=connected.url))
    admin_client.raise_request_exception = False
    failed = []
    for address, fields in FORMS:
        for value in values:
            sent = value.encode("utf-8", "replace").decode()
            answer = admin_client.post(address, {name: form.format(sent) for name, form in fields.items()})
            if answer.status_code >= 500:
                failed.append((address, value[:60], answer.status_code))
    assert failed == []
    assert {port for _address, port in contacted} <= {connected.port}
