"""Every page of the portal that a browser looks at, and how it is looked at."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from playwright.sync_api import Browser, BrowserContext, Locator
from playwright.sync_api import Page as Tab

from tests.e2e.stack import ROOT, Portal
from tests.integrations.servers import wait_for

PASSWORD = "a green bicycle in the rain"
THEMES = ("light", "dark")
SHOTS = ROOT / "build" / "screens"
HEIGHT = 900
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# No sandbox, for root has none; nothing of the browser's own may ask another host.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

E = "/catalog/sample"


@dataclass(frozen=True)
class Place:
    """A page.

    :ivar path: its address; names in braces are looked up in the database, see `KEYS`.
    :ivar who: admin, viewer, stranger (who was granted nothing), or nobody.
    :ivar is_twin: made by the same definition or view as another; the quick round leaves it out.
    """

    name: str
    path: str
    status: int = 200
    who: str = "admin"
    is_twin: bool = False


PLACES = [
    Place("home", "/"),
    Place("catalog", "/catalog"),
    Place("catalog-components", "/catalog?q=kind:component&limit=12"),
    Place("catalog-filtered", "/catalog?q=kind:component+owner:payments+-tag:sandbox&order=-changed"),
    Place("catalog-columns", "/catalog?q=kind:component&columns=type,owner,system,tags,run&limit=12"),
    Place("catalog-repositories", "/catalog?q=kind:repository&limit=12", is_twin=True),
    Place("catalog-users", "/catalog?q=kind:user&limit=12", is_twin=True),
    Place("catalog-unowned", "/catalog?q=kind:component+-has:owner"),
    Place("catalog-grouped", "/catalog?q=kind:component&group=owner&columns=type,lifecycle&limit=30"),
    Place("views", "/views"),
    Place("view", "/catalog?view={view}&q=kind:component&order=-changed"),
    Place("view-new", "/views/new?q=kind:component&columns=owner,type&group=owner"),
    Place("view-edit", "/views/{view}/edit"),
    Place("fields", "/catalog/fields?q=kind:component+-has:owner"),
    Place("bulk-change", "/catalog/changes/{bulk}"),
    Place("filter", "/catalog/filter?q=kind:resource"),
    Place("filter-field", "/catalog/filter?q=kind:resource&field=changed"),
    Place("filter-enum", "/catalog/filter?q=kind:resource&field=spec.retention", is_twin=True),
    Place("filter-wrong", "/catalog/filter?q=kind:resource&field=owner&value=::&action=apply", status=422),
    Place("owners", "/catalog/owners?q=kind:component+-has:owner"),
    Place("unknown-owners", "/catalog/unknown-owners"),
    Place("unknown-owner", "/catalog/sample/group/store-hardware/unknown"),
    Place("catalog-nothing", "/catalog?q=kind:component+nowhere-to-be-found"),
    Place("catalog-wrong", "/catalog?q=lifecycle:"),
    Place("component", f"{E}/component/checkout-api"),
    Place("component-failing", f"{E}/component/{{failing}}"),
    Place("component-activity", f"{E}/component/checkout-api?tab=activity"),
    Place("component-relations", f"{E}/component/checkout-api?tab=relations"),
    Place("component-problems", f"{E}/component/platform-cost-report?tab=problems"),
    Place("component-history", f"{E}/component/checkout-api?tab=history"),
    Place("component-restore", "/catalog/crowded/component/{long}/restore/1"),
    Place("component-source", f"{E}/component/checkout-api?tab=source"),
    Place("component-docs", f"{E}/component/checkout-api?tab=docs&page=docs/running.md"),
    Place("entity-new", "/catalog/new"),
    Place("component-new", "/catalog/new?kind=component"),
    Place("user-new", "/catalog/new?kind=user", is_twin=True),
    Place("component-edit", f"{E}/component/checkout-api/edit"),
    Place("component-edit-field", f"{E}/component/checkout-api/edit?field=spec.owner"),
    Place("component-delete", f"{E}/component/checkout-api/delete"),
    Place("component-tie", f"{E}/component/checkout-api/tie"),
    Place("component-merge", f"{E}/component/checkout-api/merge"),
    Place("component-long", "/catalog/crowded/component/{long}"),
    Place("component-changed", "/catalog/crowded/component/{long}?tab=history"),
    *(
        Place(f"long-{page}", f"/catalog/crowded/component/{{long}}/{page}", is_twin=True)
        for page in ("edit", "tie", "merge", "delete")
    ),
    Place(
        "long-catalog",
        "/catalog?q=namespace:crowded&columns=type,owner,lifecycle,tags&group=owner",
        is_twin=True,
    ),
    Place("long-fields", "/catalog/fields?q=namespace:crowded", is_twin=True),
    Place("long-owners", "/catalog/owners?q=namespace:crowded", is_twin=True),
    Place("long-graph", "/graph?entity=component:crowded/{long}", is_twin=True),
    Place("long-impact", "/graph/impact?entity=component:crowded/{long}", is_twin=True),
    Place("long-why", "/why?of=component:crowded/{long}", is_twin=True),
    Place("long-pasted", "/to?text={long}{long}{long}{long}", status=404, is_twin=True),
    Place("long-search", "/catalog?q=kind:component+{long}", is_twin=True),
    Place("tie", "/ties/{tie}"),
    Place("library", f"{E}/component/ui-kit", is_twin=True),
    Place("api", f"{E}/api/{{api}}"),
    Place("api-definition", f"{E}/api/checkout?tab=definition&op=get-orders-id"),
    Place("api-text", f"{E}/api/payments?tab=definition", is_twin=True),
    Place("api-events", f"{E}/api/order-events?tab=definition&op=channel-order-paid"),
    Place("api-graphql", f"{E}/api/storefront?tab=definition&op=query-product"),
    Place("system", f"{E}/system/checkout"),
    Place("domain", f"{E}/domain/money", is_twin=True),
    Place("group", f"{E}/group/payments"),
    Place("user", f"{E}/user/{{user}}", is_twin=True),
    Place("resource", f"{E}/resource/{{resource}}", is_twin=True),
    Place("repository", f"{E}/repository/{{repository}}"),
    Place("pipeline", f"{E}/pipeline/{{pipeline}}", is_twin=True),
    Place(
        "pipeline-run",
        "/catalog/crowded/pipeline/{nightly}/run?connection=hub&operation=dispatch&target=workflows/7",
    ),
    Place("artifact", f"{E}/artifact/{{artifact}}", is_twin=True),
    Place("environment", f"{E}/environment/production"),
    Place("graph", "/graph?entity=component:sample/checkout-api"),
    Place("graph-start", "/graph"),
    Place("graph-impact", "/graph/impact?entity=resource:sample/event-stream"),
    Place("graph-nothing", "/graph/impact?entity=component:sample/nowhere", status=404, is_twin=True),
    Place("graph-cycles", "/graph/cycles"),
    Place("graph-orphans", "/graph/orphans?type=dangling"),
    Place("why", "/why?of=component:sample/nowhere"),
    Place("why-seen", "/why?of=checkout-api", is_twin=True),
    Place("activity", "/activity"),
    Place("activity-deployments", "/activity?type=deployment", is_twin=True),
    Place("search", "/search?q=crowded"),
    Place("search-begin", "/search"),
    Place("search-nothing", "/search?q=xylophone"),
    Place("search-slip", "/search?q=chekcout"),
    Place("history", "/history?q=namespace:crowded"),
    Place("history-nothing", "/history?q=owner:payments&from=2020-01-01&to=2020-01-31"),
    Place("history-wrong", "/history?q=kind:(", status=422),
    Place("problems", "/problems"),
    Place("connections", "/connections"),
    Place("gallery", "/connections/new"),
    Place("new-git", "/connections/new/git"),
    Place("new-git-test", "/connections/new/git/test"),
    Place("new-git-preview", "/connections/new/git/preview"),
    Place("new-git-schedule", "/connections/new/git/schedule"),
    Place("new-github", "/connections/new/github"),
    Place("new-buildbot", "/connections/new/buildbot", is_twin=True),
    Place("import", "/connections/import"),
    Place("import-remove", "/connections/import/{location}/remove"),
    Place("connection", "/connections/sample-git"),
    Place("connection-runs", "/connections/sample-git/runs", is_twin=True),
    Place("connection-run", "/connections/sample-git/runs/{run}"),
    Place("connection-guard", "/connections/{holding}/guard/{held}"),
    Place("connection-records", "/connections/sample-git/records"),
    Place("connection-record", "/connections/sample-git/records/{record}"),
    Place("connection-rules", "/connections/sample-git/rules"),
    Place("connection-left-out", "/connections/sample-git/left-out"),
    Place("connection-settings", "/connections/sample-git/settings"),
    Place("connection-delete", "/connections/sample-git/delete"),
    Place("connection-mute", "/connections/sample-git/mute"),
    Place("connection-deliveries", "/connections/hub/deliveries"),
    Place("connection-delivery", "/connections/hub/deliveries/{delivery}"),
    Place("connection-operations", "/connections/hub/operations"),
    Place("connection-operation", "/connections/hub/operations/{operation}"),
    Place("notices", "/notices"),
    Place("notices-end", "/notices/end/{mail}", who="nobody"),
    Place("settings", "/settings"),
    Place("settings-tell-me", "/settings/tell-me"),
    Place("settings-watch", "/settings/tell-me/{watch}"),
    Place("settings-watch-new", "/settings/tell-me/new?about=activity&q=kind:component&type=run"),
    Place("settings-tokens", "/settings/tokens"),
    Place("settings-access", "/settings/access"),
    Place("settings-user", "/settings/access/users/{account}"),
    Place("settings-groups", "/settings/access/groups", is_twin=True),
    Place("settings-group", "/settings/access/groups/{circle}"),
    Place("settings-roles", "/settings/access/roles"),
    Place("settings-sign-in", "/settings/access/sign-in"),
    Place("settings-who", "/settings/who"),
    Place("settings-kinds", "/settings/kinds"),
    Place("settings-kind", "/settings/kinds/component"),
    Place("settings-kind-fields", "/settings/kinds/resource", is_twin=True),
    Place("settings-kind-propose", "/settings/kinds/component/change"),
    Place("settings-kind-change", "/settings/kind-changes/{proposal}"),
    Place("settings-relations", "/settings/relations"),
    Place("settings-relation", "/settings/relations/ownedBy"),
    Place("settings-field-new", "/settings/fields/new?kind=component"),
    Place("settings-field", "/settings/fields/crowded"),
    Place("settings-field-delete", "/settings/fields/crowded/delete"),
    Place("settings-packs", "/settings/packs"),
    Place("settings-sample", "/settings/sample"),
    Place("settings-outbound", "/settings/outbound"),
    Place("settings-changes", "/settings/changes"),
    Place("settings-change", "/settings/changes/{change}"),
    Place("settings-audit", "/settings/audit"),
    Place("settings-about", "/settings/about"),
    Place("api-docs", "/api/v1/docs/"),
    Place("api-docs-operation", "/api/v1/docs/?find=entities&op=get-api-v1-entities"),
    Place("api-docs-alone", "/api/v1/docs/?find=entities", who="nobody", is_twin=True),
    Place("admin", "/admin/", is_twin=True),
    Place("admin-list", "/admin/catalog/entity/"),
    Place("admin-list-dates", "/admin/access/auditevent/", is_twin=True),
    Place("admin-list-chosen", "/admin/catalog/entity/?q=pay&kind=component", is_twin=True),
    Place("admin-user", "/admin/access/user/{account}/change/", is_twin=True),
    Place("admin-user-history", "/admin/access/user/{account}/history/", is_twin=True),
    Place("admin-group", "/admin/access/group/{circle}/change/", is_twin=True),
    Place("admin-group-delete", "/admin/access/group/{circle}/delete/", is_twin=True),
    Place("admin-grant-new", "/admin/access/grant/add/", is_twin=True),
    Place("admin-password", "/admin/password_change/", is_twin=True),
    Place("sign-in", "/sign-in", who="nobody"),
    Place("sign-in-link", "/sign-in/{link}", who="nobody"),
    Place("sign-in-link-gone", "/sign-in/gone", status=410, who="nobody"),
    Place("sign-in-refused", "/sign-in/provider/callback?state=gone", status=401, who="nobody"),
    Place("forbidden", "/connections/new", status=403, who="viewer"),
    Place("not-found", "/nowhere", status=404),
    Place("pasted-not-found", "/to?text=https://git.nowhere.example/pay/gateway", status=404),
    Place("entity-not-found", f"{E}/component/checkout", status=404),
]


# The pages that are about no one thing, so that they are there in every portal.
COMMON = [
    place
    for place in PLACES
    if place.who == "admin" and not any(word in place.path for word in ("{", "sample", "crowded", "hub"))
]
EMPTY = [*COMMON, Place("connection", "/connections/portico"), Place("catalog-last", "/catalog?order=-name")]
MANY = 50_000
M = "/catalog/default"
CROWD = [
    *COMMON,
    Place("catalog-hundred", "/catalog?q=kind:component&columns=type,owner,system,tags&limit=100"),
    Place("catalog-last-page", "/catalog?q=kind:component&order=-name"),
    Place("catalog-without-owner", "/catalog?q=-has:owner"),
    Place("fields-of-many", "/catalog/fields?q=kind:component+owner:team-0"),
    Place("owners-of-many", "/catalog/owners?q=kind:component+owner:team-0"),
    Place("owners-of-thousands", "/catalog/owners?q=kind:api"),
    Place("owners-of-too-many", "/catalog/owners?q=kind:component", status=422),
    Place("component", f"{M}/component/component-0"),
    Place("component-relations", f"{M}/component/component-0?tab=relations"),
    Place("component-history", f"{M}/component/component-0?tab=history"),
    Place("component-edit", f"{M}/component/component-0/edit"),
    Place("component-tie", f"{M}/component/component-0/tie"),
    Place("component-delete", f"{M}/component/component-0/delete"),
    Place("graph-around", "/graph?entity=component:default/component-0&depth=4"),
    Place("graph-team", "/graph?entity=group:default/team-0"),
    Place("impact", "/graph/impact?entity=component:default/component-0"),
    Place("why-here", "/why?of=component:default/component-0"),
    Place("history-of-many", "/history?q=kind:component"),
    Place("api", f"{M}/api/api-0"),
    Place("system", f"{M}/system/system-0"),
    Place("domain", f"{M}/domain/domain-0"),
    Place("group", f"{M}/group/team-0"),
    Place("group-relations", f"{M}/group/team-0?tab=relations"),
    Place("user", f"{M}/user/person-0"),
]  # fmt: skip

# What stands in braces in an address: the statement that finds it.
_OF_KIND = "select name from catalog_entity where namespace = 'sample' and kind = '{}' order by name limit 1"
KEYS = {
    "api": _OF_KIND.format("api"),
    "artifact": _OF_KIND.format("artifact"),
    "pipeline": _OF_KIND.format("pipeline"),
    "repository": _OF_KIND.format("repository"),
    "resource": _OF_KIND.format("resource"),
    "user": _OF_KIND.format("user"),
    "failing": """select name from catalog_entity
                  where kind = 'component' and failing_since is not null order by name limit 1""",
    "long": "select name from catalog_entity where namespace = 'crowded' and kind = 'component'",
    "account": "select id from access_user where username = 'vic'",
    "watch": "select max(id) from portal_watch",
    "view": "select max(id) from portal_savedview",
    "tie": "select min(id) from catalog_tie",
    "change": "select max(event_id) from access_undoable",
    "circle": "select id from access_group where name = 'Acme on call'",
    "held": "select max(id) from integrations_resourcerun where state = 'held'",
    "holding": """select max(slug) from integrations_connection c
                  where exists (select from integrations_syncrun r join integrations_resourcerun h on h.run_id = r.id
                                where r.connection_id = c.id and h.state = 'held')""",
    "location": "select max(id) from integrations_cataloglocation where address like '%crowded%'",
    "nightly": "select name from catalog_entity where namespace = 'crowded' and kind = 'pipeline'",
    "proposal": "select max(id) from catalog_kindchange",
    "bulk": "select max(id) from catalog_bulkchange",
    "delivery": "select id from integrations_delivery where state = 'dead'",
    "operation": "select id from integrations_operationrun where state = 'failed'",
    "run": """select max(r.id) from integrations_syncrun r
              join integrations_connection c on c.id = connection_id where slug = 'sample-git'""",
    "record": """select min(r.id) from integrations_storedrecord r
                 join integrations_connection c on c.id = connection_id where slug = 'sample-git'""",
}

# The same, where a command says it at the end of its last line.
SAID = {
    "link": ("sign_in_link", "--user", "vic"),
    "mail": ("shell", "-v", "0", "-c", "from portal.mail import _token; from portal.models import Mail, Watch\n"
             "last = Watch.objects.order_by('pk').last(); print(_token(Mail(user=last.user, watch=last)))"),
}  # fmt: skip

# A name, a title and lists as long as they may be. It stands last in lists.
_NEIGHBOURS = [f"neighbour-with-quite-a-long-name-{n:02d}" for n in range(40)]
_OWNER = "the-team-that-owns-" * 3 + "abc"
CROWDED = [
    {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": {
            "namespace": "crowded",
            "name": "very-long-name-" * 3 + "x" * 15,
            "title": ("The settlement and reconciliation of international instalment payments " * 3)[:200],
            "description": "A description that goes on, for whoever wrote it had a lot to say. " * 6,
            "tags": [f"tag-number-{n}" for n in range(30)],
            "links": [{"url": "https://runbooks.acme.example/" + "settlement/" * 12}],
        },
        "spec": {
            "type": "service-with-a-type-of-many-words",
            "lifecycle": "experimental-but-nearly-there",
            "owner": f"group:crowded/{_OWNER}",
            "dependsOn": [f"resource:crowded/{name}" for name in _NEIGHBOURS],
        },
    },
    {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Group",
        "metadata": {"namespace": "crowded", "name": _OWNER},
        "spec": {"type": "team", "children": []},
    },
    *(
        {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Resource",
            "metadata": {"namespace": "crowded", "name": name},
            "spec": {"type": "database", "owner": f"group:crowded/{_OWNER}"},
        }
        for name in _NEIGHBOURS
    ),
]


def crowd(portal: Portal) -> None:
    """Put a component into the catalog that is long in everything, and people who may do less."""
    file, earlier_file = portal.files / "crowded.yaml", portal.files / "earlier.yaml"
    earlier: Any = copy.deepcopy(CROWDED)
    earlier[0]["metadata"]["tags"] = ["tag-number-0"]
    earlier[0]["spec"] |= {"lifecycle": "production", "dependsOn": []}
    earlier_file.write_text(yaml.safe_dump_all(earlier))
    now_file = portal.files / "now.yaml"
    now_file.write_text(yaml.safe_dump_all(CROWDED))
    portal.manage(
        "shell", "-v", "0", "-c",
        "import shutil\n"
        "from django.core.management import call_command\n"
        "from access.services import create_user, grant\n"
        "def come(name):\n"
        "    user = create_user(username=name, name=f'{name.title()} Lind', email=f'{name}@acme.example')\n"
        f"    user.set_password({PASSWORD!r}); user.save(); return user\n"
        f"for version in ({str(earlier_file)!r}, {str(now_file)!r}):\n"
        f"    shutil.copy(version, {str(file)!r}); call_command('import_catalog', {str(file)!r})\n"
        "grant(role='viewer', user=come('vic')); come('noa')",
    )  # fmt: skip
    portal.wait_until_synced()
    portal.manage("shell", "-v", "0", "-c", _HUB)
    # The sample's registry answers a second time, with much less.
    wait_for(lambda: portal.execute(KEYS["held"]) != [(None,)], "a sweep at the guard")
    portal.wait_until_synced()


# A tool that nobody reads here: what it delivered, and what was done to it.
_HUB = """
import copy
from datetime import timedelta
from django.utils import timezone
from access.models import User
from access.services import create_group, invite
from catalog.models import Entity, Kind
from catalog.services import bulk_changes, kind_changes
from catalog.services.people import say_who
from integrations.models import Delivery, OperationRun
from integrations.records import Pipeline
from integrations.services.connections import create_connection, update_connection
from integrations.writing import RecordWriter
from portal.models import Notice, Watch
from portal.packs import edit_definition
from portal.saved_views import make_view
from portal.watches import make_watch
now = timezone.now()
hub = create_connection(
    slug="hub", label="Acme hub", connector="github", namespace="crowded", now=now + timedelta(days=1),
    config={"token": "never-sent", "webhook_secret": "never-asked"},
)
update_connection(connection=hub, is_paused=True, allows_operations=True)
why = "The repository acme/" + "settlement-" * 12 + "service is not among those that the connection selects. "
for number, state in enumerate(["done", "done", "dead", "queued"]):
    Delivery.objects.create(
        connection=hub, digest=str(number), event="workflow_run",
        delivery_id=f"72d3162e-cc78-11e3-81ab-4c9367dc0{number}",
        headers={"x-github-event": "workflow_run"}, body=b'{"action": "completed", "number": %d}' % number,
        state=state, received_at=now - timedelta(minutes=5 * number), attempts=number, records=3,
        message=why * 3 if state == "dead" else "",
        not_before=now + timedelta(days=1) if state == "queued" else None,
        finished_at=None if state == "queued" else now - timedelta(minutes=4 * number),
    )
for state in ("done", "failed"):
    OperationRun.objects.create(
        connection=hub, operation="rerun", target_type="run", target_id="runs/" + "acme-settlement-" * 6 + "1",
        params={"only_failed": True, "reason": "flaky " * 20}, idempotency_key=state, state=state,
        requested_by="Ana Ruiz", requested_at=now - timedelta(minutes=9),
        started_at=now - timedelta(minutes=9), finished_at=now - timedelta(minutes=8),
        message=why if state == "failed" else "Started again.",
    )
first = User.objects.order_by("pk").first()
place = "https://github.com/acme/" + "settlement-" * 8 + "service"
RecordWriter(connection=hub, resource="workflows", by="Acme hub", now=now).write(
    [Pipeline(external_id="7", name="Nightly " + "settlement " * 17, url=place + "/actions/workflows/nightly.yaml")]
)
invite(name="Wilhelmina " * 9, email="w@acme.example", role="viewer", by=first)
say_who(User.objects.get(username="vic"), Entity.objects.filter(kind="user", namespace="sample").earliest("ref"))
create_group(name="Acme on call", members=User.objects.filter(username__in=["vic", "noa"]), by=first)
edit_definition(
    kind="FieldDefinition", name="crowded", by="Ana Ruiz",
    spec={
        "field": "spec.retention", "kinds": ["Resource"], "title": "How long it keeps what it holds " * 4,
        "format": "enum", "values": [{"value": "-".join(["forever"] * n)} for n in range(1, 13)],
        "shown": ["page", "list", "filter"], "description": "What the lawyers ask for. " * 20,
    },
)
resource = Kind.objects.get(name="resource")
wanted = copy.deepcopy(resource.spec)
wanted["version"] = wanted.get("version", 1) + 1
wanted["schema"] = {**wanted["schema"], "required": [*wanted["schema"].get("required", []), "lastReviewedBy"]}
proposal = kind_changes.propose(user=first, name="resource", spec=wanted)
kind_changes.check(change_id=proposal.pk, now=now)
bulk_changes.queue(
    user=first, what={"path": "spec.a-field-with-a-long-name", "action": "set", "value": "forever " * 30},
    entities=list(Entity.objects.filter(namespace="crowded")), reason="Because it was so agreed. " * 10, expected="",
)
for title, audience in (("Payments, by owner", "personal"), ("a-view-with-a-long-name-" * 4, "all")):
    make_view(
        user=first, title=title, audience=audience, query="kind:component owner:payments", group="owner",
        columns=["type", "owner"], description="What Payments runs, for the weekly round. " * 4,
    )
come = list(Entity.objects.filter(namespace="crowded").order_by("ref").values_list("uid", flat=True))
for number, query in enumerate(["kind:component", "kind:resource owner:crowded/" + "the-team-" * 20]):
    watch = make_watch(user=first, about="entities", query=query, name=query[:100], when="both")
    Watch.objects.filter(pk=watch.pk).update(mail=Watch.Mail.NOW)
    Notice.objects.create(
        user=first, watch=watch, new=len(come), new_uids=come, gone=1, gone_uids=come[-1:], started_at=now, at=now,
        read_at=now if number else None,
    )
"""


class Visitors:
    """The browser's sessions: one signed in as the administrator, one as a viewer, one as nobody."""

    def __init__(self, browser: Browser, portal: Portal) -> None:
        self._browser = browser
        self._portal = portal
        self._states: dict[str, Any] = {"nobody": None}
        self._known: dict[str, str] = {}

    def path(self, place: Place) -> str:
        """Its address on this portal."""
        path = place.path
        for name, statement in KEYS.items():
            if f"{{{name}}}" in path:
                if name not in self._known:
                    self._known[name] = str(self._portal.execute(statement)[0][0])
                path = path.replace(f"{{{name}}}", self._known[name])
        for name, words in SAID.items():
            if f"{{{name}}}" in path:
                if name not in self._known:
                    self._known[name] = self._portal.manage(*words).split()[-1].rpartition("/")[2]
                path = path.replace(f"{{{name}}}", self._known[name])
        return path

    def _begin_connecting(self, tab: Tab) -> None:
        """Go as far with a new connection as its first records: one part can be read, the other not."""
        tab.goto("/connections/new/git")
        rows = tab.locator("[name=repositories]")
        rows.first.fill(str(ROOT))
        tab.locator("#field-repositories [data-row-add]").click()
        rows.last.fill(f"{self._portal.files}/" + "not-there-" * 15)
        tab.get_by_role("button", name="Test connection").click()
        tab.wait_for_url("**/test")
        tab.goto("/connections/new/git/preview")
        tab.get_by_role("button", name="Preview", exact=True).click()
        tab.get_by_role("button", name="Read again").wait_for()

    @contextmanager
    def context(
        self, who: str = "admin", *, theme: str = "light", width: int = 1440, zoom: int = 1
    ) -> Iterator[BrowserContext]:
        """A window of this size, theme and zoom, signed in. Zoomed in, a page has so much less room."""
        context = self._open(self._state(who), theme=theme, width=width, zoom=zoom)
        try:
            yield context
        finally:
            context.close()

    def _open(self, state: Any, *, theme: str, width: int, zoom: int = 1) -> BrowserContext:
        context = self._browser.new_context(
            base_url=self._portal.url,
            viewport={"width": width // zoom, "height": HEIGHT // zoom},
            device_scale_factor=zoom,
            color_scheme="dark" if theme == "dark" else "light",
            reduced_motion="reduce",
            has_touch=width < 768,
            storage_state=state,
        )
        context.set_default_timeout(30_000)
        context.add_cookies([{"name": "po_theme", "value": theme, "url": self._portal.url}])
        return context

    def _state(self, who: str) -> Any:
        if who not in self._states:
            context = self._open(None, theme="light", width=1440)
            tab = context.new_page()
            if who == "admin":
                redeem(tab, self._portal)
                self._begin_connecting(tab)
            else:
                tab.goto("/sign-in")
                tab.fill("#username", {"viewer": "vic", "stranger": "noa"}[who])
                tab.fill("#password", PASSWORD)
                tab.press("#password", "Enter")
                tab.wait_for_url("/")
            self._states[who] = context.storage_state()
            context.close()
        return self._states[who]


def redeem(tab: Tab, portal: Portal) -> None:
    """Follow the one-time link of the first account."""
    tab.goto(urlsplit(portal.welcome).path)
    tab.fill("#name", "Ana Ruiz")
    tab.fill("#password", PASSWORD)
    tab.fill("#again", PASSWORD)
    tab.press("#again", "Enter")
    tab.wait_for_url("/")


def card(tab: Tab, title: str) -> Locator:
    """A card of the page by its heading."""
    return tab.locator("section.po-card", has=tab.get_by_role("heading", name=title, exact=True))


def settle(tab: Tab) -> None:
    """Wait until what loads after the page is there."""
    tab.wait_for_load_state("load")
    tab.wait_for_function(
        "() => !document.querySelector('.htmx-request, [hx-trigger~=load]') && document.fonts.status === 'loaded'"
    )


def screenshot(tab: Tab, file: Path, *, whole: bool = True) -> None:
    """A picture of the page, from top to bottom."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=file, full_page=whole, animations="disabled")
