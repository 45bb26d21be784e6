"""Lists of entities, problems and events: what a wrong address gets, who is offered what, and how it reads."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import ScopeType, User
from access.services import grant
from catalog.models import Rank
from catalog.queries import forget_delivered_types
from catalog.services.activity import ActivityIn, apply_activity
from integrations.models import CatalogLocation, Connection, RunState, SyncRun
from portal.packs import apply_pack
from tests.catalog.saying import claim, component, entity, say
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture(autouse=True)
def _delivered() -> Any:
    forget_delivered_types()
    yield
    forget_delivered_types()


def plain(shown: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


def text(client: Client, url: str) -> str:
    """What one reads on a page, its tags left out."""
    answer = client.get(url)
    assert answer.status_code == 200, answer.status_code
    return plain(answer.content.decode())


def happen(
    type_: str, *, status: str = "", keys: tuple[str, ...] = ("repo:h.example/pay",), **more: Any
) -> None:
    now = timezone.now() - timedelta(minutes=1)
    item = ActivityIn(
        type=type_, external_id=f"{type_}-1", event="x.finished", at=now, as_of=now, about=keys, status=status, **more
    )  # fmt: skip
    apply_activity(connection_slug="g", connector="records", items=[item])
    forget_delivered_types()


def repository() -> None:
    keys = ("repo:h.example/pay",)
    say("connection:g/r", claim("repository:pay", rank=Rank.CONNECTION, keys=keys))


class TestAWrongQuery:
    @pytest.mark.parametrize(
        ("query", "marked", "expected", "way"),
        [
            ("ownr:payments", "ownr", "a field", "owner:payments"),
            (
                "kind:component is:mien",
                "mien",
                "mine, failing, unknown-owner, stale or inferred",
                "kind:component is:mine",
            ),
            ("lifecycle:", "", "a value", "lifecycle:production"),
        ],
    )
    def test_says_where_and_offers_what_was_meant(
        self, browse: Callable[[User], Client], vic: User, query: str, marked: str, expected: str, way: str
    ) -> None:
        say("yaml:a", component("pay"))
        shown = browse(vic).get("/catalog", {"q": query}).content.decode()
        assert re.findall(r"<mark>(.*?)</mark>", shown) == [marked]
        at = query.index(marked) if marked else len(query)
        assert f"Expected at character {at + 1}: {expected}" in plain(shown)
        assert f'name="q" value="{query}"' in shown  # still in the box
        ways = dict(re.findall(r'<a class="po-tag po-mono" href="([^"]+)">([^<]+)<', shown))
        assert way in ways.values()
        for url in ways:
            assert "cannot be read" not in text(browse(vic), html.unescape(url))

    def test_markup_in_it_is_shown_as_text(self, browse: Callable[[User], Client], vic: User) -> None:
        shown = browse(vic).get("/catalog", {"q": "owner:(<script>alert(1)</script>"}).content.decode()
        assert "<script>alert" not in shown


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "sentence"),
        [
            ("/catalog?order=nope", "Nothing can be ordered by “nope”; expected is name, title,"),
            ("/catalog?limit=0", "`limit` must be a whole number from 1 to 1000, but “0” came."),
            ("/catalog?limit=many", "`limit` must be"),
            ("/catalog?cursor=nope", "cursor"),
            ("/catalog?columns=owner,colour", "There is no column “colour”; there are: owner, kind,"),
            ("/activity?type=party", "There is no activity of type “party”; there are: run,"),
            ("/problems?type=bad-luck", "There are no problems of type “bad-luck”"),
            ("/catalog/default/component/pay?tab=nope", "There is no tab “nope” on this page."),
        ],
    )
    def test_what_cannot_be_understood_is_told_and_the_rest_is_shown(
        self, browse: Callable[[User], Client], vic: User, url: str, sentence: str
    ) -> None:
        repository()
        say("yaml:a", component("pay", owner="nobody"))
        happen("run", status="passed", title="build")
        answer = browse(vic).get(url)
        said = plain(answer.content.decode())
        assert answer.status_code == 200
        assert sentence in said
        assert "could not be shown" not in said
        assert "pay" in said
        wrong = url.partition("?")[2]
        if "columns" not in wrong:  # of which the good ones stay
            assert not [a for a in re.findall(r'href="([^"]+)"', answer.content.decode()) if wrong in a]

    def test_a_page_with_nothing_wrong_says_nothing(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        say("yaml:a", component("pay"))
        shown = browse(vic).get("/catalog?order=-title&limit=10&columns=owner,type").content.decode()
        assert 'class="po-banner' not in shown

    def test_title_is_an_order_of_its_own(self, browse: Callable[[User], Client], vic: User) -> None:
        say("yaml:a", claim("component:zeta", metadata={"title": "Accounts"}), component("beta"))
        by_name, by_title = (
            browse(vic).get(f"/catalog?order={order}").content.decode() for order in ("name", "title")
        )
        rows = [
            re.findall(r'<td class="po-name.*?<span>([^<]+)</span></a>', one) for one in (by_name, by_title)
        ]
        assert rows == [["beta", "Accounts"], ["Accounts", "beta"]]

    def test_it_is_sorted_by_what_it_shows_page_by_page(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        titled = {"zeta": "Accounts", "eta": "bank", "theta": "Cards", "iota": "accounts", "kappa": "BANK"}
        say("yaml:a", *[claim(f"component:{n}", metadata={"title": t}) for n, t in titled.items()])
        say("yaml:b", *[component(f"c{number}") for number in range(20)])
        client = browse(vic)
        for order, turned in (("", 1), ("?order=-title", -1)):
            url, shown = f"/catalog{order}{'&' if order else '?'}limit=10", []
            while url:
                page = client.get(url).content.decode()
                shown += re.findall(r'<td class="po-name.*?<span>([^<]+)</span></a>', page)
                following = re.search(r'rel="next"[^>]*href="([^"]+)"', page)
                url = html.unescape(following[1]) if following else ""
            assert len(shown) == len(set(shown)) == 25
            folded = [name.lower() for name in shown]
            assert folded == sorted(folded, reverse=turned < 0)


class TestColumnsOfAKind:
    """A list of one kind shows what the kind says that it is described by."""

    HEADS = r'<th scope="col"[^>]*>(?:<a[^>]*>)?([^<]+?) ?<'

    @pytest.fixture
    def databases(self, tmp_path: Path) -> None:
        kind = {
            "kind": "Database",
            "apiVersions": ["acme.example/v1"],
            "plural": "Databases",
            "schema": {"type": "object"},
            "relations": [
                {
                    "field": "spec.owner",
                    "type": "ownedBy",
                    "inverse": "ownerOf",
                    "targetKinds": ["Group"],
                    "defaultKind": "Group",
                },
                {
                    "field": "spec.host",
                    "type": "dependsOn",
                    "inverse": "dependencyOf",
                    "targetKinds": ["Resource"],
                    "defaultKind": "Resource",
                },
            ],
            "columns": [
                {"field": "spec.engine", "label": "Engine"},
                {"field": "spec.owner", "label": "Team", "as": "ref"},
                {"field": "spec.host", "label": "Host", "as": "ref"},
                {"field": "spec.gigabytes", "label": "Size", "as": "number"},
                {"field": "spec.backedUp", "label": "Backed up", "as": "boolean"},
                {"field": "spec.since", "label": "Since", "as": "time"},
                {"field": "spec.image", "label": "Image", "as": "code"},
                {"field": "spec.readers", "label": "Readers", "as": "tags"},
                {"field": "spec.console", "label": "Console", "as": "link"},
                {"field": "spec.nothing", "label": "Nothing"},
            ],
        }
        head = {"apiVersion": "portico/v1", "kind": "KindDefinition", "metadata": {"name": "database"}}
        folder = tmp_path / "acme"
        folder.mkdir()
        (folder / "kinds.yaml").write_text(yaml.safe_dump({**head, "spec": kind}))
        apply_pack(folder, by="ana")
        forget_definitions()
        spec = {
            "engine": "postgresql",
            "owner": "payments",
            "host": "box",
            "gigabytes": 12_000,
            "backedUp": True,
            "since": "2026-03-01",
            "image": "db:16.2",
            "readers": ["shop", "web"],
            "console": "https://db.acme.example/pay",
        }
        odd = {
            "engine": ["a", "b"],
            "host": "::",
            "gigabytes": "many",
            "since": "long",
            "console": "javascript:x",
        }
        say(
            "yaml:d",
            claim("database:pay", spec=spec),
            claim("database:odd", spec=odd),
            claim("resource:box", metadata={"title": "The big box"}, spec={"type": "host", "owner": "ops"}),
        )

    def test_are_those_of_its_list_with_its_values(
        self, databases: None, browse: Callable[[User], Client], vic: User
    ) -> None:
        client = browse(vic)
        shown = client.get("/catalog?q=kind:database").content.decode()
        heads = re.findall(self.HEADS, shown)
        assert heads == [
            *("Name", "Engine", "Owner", "Host", "Size", "Backed up", "Since", "Image", "Readers", "Console"),
            *("Sources", "Changed"),
        ]
        rows = plain(shown[shown.index("<tbody>") :])
        for value in ("postgresql", "payments", "The big box", "12,000", "Yes", "db:16.2", "shop", "web"):
            assert value in rows, value
        assert 'href="https://db.acme.example/pay"' in shown
        assert "a, b" in rows
        assert "many" in rows
        assert 'href="javascript:' not in shown
        assert 'href=""' not in shown  # what is no address is text
        assert "Engine" not in re.findall(self.HEADS, client.get("/catalog").content.decode())

    def test_can_be_chosen_and_cost_no_further_query(
        self, databases: None, browse: Callable[[User], Client], vic: User
    ) -> None:
        client = browse(vic)
        address = "/catalog?q=kind:database&columns=spec.engine,changed"
        assert re.findall(self.HEADS, client.get(address).content.decode()) == ["Name", "Engine", "Changed"]
        counts = []
        for columns in ("owner,changed", "spec.engine,spec.host"):
            with CaptureQueriesContext(connection) as asked:
                client.get(f"/catalog?q=kind:database&columns={columns}")
            counts.append(len(asked))
        assert counts[0] == counts[1]
        assert "There is no column “spec.engine”" in text(client, "/catalog?columns=spec.engine")

    def test_give_way_to_those_that_a_page_names(
        self, databases: None, browse: Callable[[User], Client], vic: User, tmp_path: Path
    ) -> None:
        widget = {"id": "entities", "type": "entity-list", "config": {"columns": ["type"], "facets": []}}
        page = {"slot": "list", "title": "Ours", "tabs": [{"name": "all", "widgets": [widget]}]}
        head = {"apiVersion": "portico/v1", "kind": "Page", "metadata": {"name": "list"}}
        (tmp_path / "acme" / "page.yaml").write_text(yaml.safe_dump({**head, "spec": page}))
        apply_pack(tmp_path / "acme", by="ana")
        forget_definitions()
        shown = browse(vic).get("/catalog?q=kind:database").content.decode()
        assert re.findall(self.HEADS, shown) == ["Name", "Type"]


class TestDelivered:
    """What no connection has delivered has no place."""

    def test_columns_and_facets(self, browse: Callable[[User], Client], vic: User) -> None:
        repository()
        say("yaml:a", component("pay", about=("repo:h.example/pay",)))
        client = browse(vic)
        heads = r'<th scope="col".*?>([^<]+)<'
        before = client.get("/catalog?q=kind:component").content.decode()
        assert "Last run" not in before
        assert "Version" not in re.findall(heads, before)
        happen("run", status="passed", title="build")
        after = client.get("/catalog?q=kind:component").content.decode()
        assert "Last run" in after
        assert "Version" not in re.findall(heads, after)

    def test_cards_by_what_their_settings_ask_for(self, browse: Callable[[User], Client], vic: User) -> None:
        repository()
        say("yaml:a", component("pay"))
        client = browse(vic)
        assert "Failing now" not in text(client, "/")
        happen("run", status="passed", title="build")
        assert "Failing now" in text(client, "/")

    def test_sync_health_is_not_told_as_nothing_to_those_who_may_not_look(
        self, browse: Callable[[User], Client], vic: User, no_access: User
    ) -> None:
        Connection.objects.create(slug="git", label="Git main", connector="git")
        say("yaml:a", component("pay"))
        assert "Git main" in text(browse(vic), "/")
        said = text(browse(no_access), "/")
        assert "No tool is connected" not in said
        assert "Git main" not in said


class TestGetStarted:
    def test_each_is_offered_what_they_may(
        self, browse: Callable[[User], Client], ana: User, vic: User
    ) -> None:
        assert "Load the sample company" in text(browse(ana), "/")
        said = text(browse(vic), "/")
        assert "Your portal is empty" in said
        assert not {"Connect a tool", "Load the sample company", "Import catalog files"} & set(
            re.split(r"  ", said)
        )
        assert "Load the sample company" not in said

    def test_who_sees_no_connection_is_not_told_that_there_is_none(
        self, browse: Callable[[User], Client], cleo: User
    ) -> None:
        Connection.objects.create(slug="git", label="Git main", connector="git")
        assert "Your portal is empty" not in text(browse(cleo), "/")

    def test_who_sees_nothing_is_told_so_and_not_that_all_is_well(
        self, browse: Callable[[User], Client], cleo: User, vic: User
    ) -> None:
        Connection.objects.create(slug="git", label="Git main", connector="git")
        say("yaml:a", component("pay"))
        said = text(browse(cleo), "/")
        assert "Nothing here is for you to see yet" in said
        assert not [
            words
            for words in ("All is settled", "Nothing fails", "has an owner", "Connect a tool")
            if words in said
        ]
        for url in ("/catalog", "/activity"):
            assert "as far as your roles reach it" in text(browse(cleo), url), url
        grant(role="viewer", user=cleo, scope_type=ScopeType.NAMESPACE, scope="elsewhere")
        assert "No connection is here for you to see" in text(browse(cleo), "/connections")
        assert "Nothing here is for you" not in text(browse(vic), "/")
        assert "To see to" in text(browse(vic), "/")

    def test_an_empty_list_offers_connecting_to_those_who_may(
        self, browse: Callable[[User], Client], ana: User, vic: User
    ) -> None:
        assert not CatalogLocation.objects.exists()
        nothing = "/catalog"
        assert "/connections/new" in browse(ana).get(nothing).content.decode()
        assert "/connections/new" not in browse(vic).get(nothing).content.decode()


class TestProblems:
    def test_each_thing_of_a_group_is_told_and_its_cause_once(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        for n in range(5):
            say("yaml:a", component(f"c{n}", owner="group:ghosts"))
        said = text(browse(vic), "/problems")
        assert said.count("group:default/ghosts") == 1
        assert [f"c{n} component, default" in said for n in range(5)] == [True] * 5
        assert "Show 2 more" in said
        assert "0 places" not in said

    def test_what_all_say_is_said_once(self, browse: Callable[[User], Client], vic: User) -> None:
        for n in range(5):
            say("yaml:a", claim(f"component:c{n}", {"type": "service", "lifecycle": "production"}))
        assert text(browse(vic), "/problems").count("This is required, but missing") == 1

    def test_nobody_is_offered_what_they_may_not(
        self, browse: Callable[[User], Client], ben: User, vic: User, cleo: User
    ) -> None:
        say("yaml:a", claim("component:elsewhere/pay", {"type": "service", "lifecycle": "production"}))
        for page in ("/problems", "/catalog/elsewhere/component/pay?tab=problems"):
            assert "Set spec.owner" in text(browse(ben), page)
            assert "Set spec.owner" not in text(browse(vic), page)
        assert "Snooze" in text(browse(ben), "/problems")
        assert "Snooze" not in text(browse(vic), "/problems")
        assert "Snooze" not in text(browse(cleo), "/problems")
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        assert "Snooze" in text(browse(cleo), "/problems")

    def test_who_edits_elsewhere_is_not_offered_it_here(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        grant(role="editor", user=vic, scope_type="namespace", scope="elsewhere")
        say("yaml:a", claim("component:pay", {"type": "service", "lifecycle": "production"}))
        said = text(browse(vic), "/problems")
        assert "No owner" in said
        assert "Snooze" not in said
        assert "Set spec.owner" not in said


class TestTimeline:
    @pytest.mark.parametrize(
        ("type_", "status", "more", "sentence"),
        [
            ("run", "passed", {"title": "build"}, "build passed in pay"),
            ("commit", "", {"title": "Speed up"}, "Speed up committed to pay"),
            ("change", "merged", {"title": "Speed up", "number": "7"}, "#7 Speed up merged into pay"),
            ("change", "open", {"title": "Speed up", "number": "7"}, "#7 Speed up opened in pay"),
            ("version", "", {"version": "1.2"}, "1.2 published of pay"),
            (
                "deployment",
                "deployed",
                {"version": "1.2", "environment": "live"},
                "1.2 to live deployed for pay",
            ),
            ("alert", "firing", {"title": "Lag"}, "Lag firing on pay"),
        ],
    )
    def test_it_reads_as_a_sentence(
        self,
        browse: Callable[[User], Client],
        vic: User,
        type_: str,
        status: str,
        more: dict[str, Any],
        sentence: str,
    ) -> None:
        repository()
        happen(type_, status=status, **more)
        assert sentence in text(browse(vic), "/activity")

    def test_what_happened_to_nothing_known_says_to_what(
        self, browse: Callable[[User], Client], ana: User
    ) -> None:
        happen("commit", title="Speed up", keys=("repo:h.example/unknown",))
        assert "Speed up committed to h.example/unknown" in text(browse(ana), "/activity")


def test_a_card_comes_alone_only_where_it_stands(
    browse: Callable[[User], Client], vic: User, tmp_path: Path
) -> None:
    widgets = [
        {"id": "services", "type": "about", "deferred": True, "onlyIf": "entity.spec.type == 'service'"},
        {"id": "always", "type": "source"},
    ]
    spec = {"slot": "entity", "kinds": ["component"], "tabs": [{"widgets": widgets}]}
    page = {"apiVersion": "portico/v1", "kind": "Page", "metadata": {"name": "component"}, "spec": spec}
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "pages.yaml").write_text(yaml.safe_dump(page))
    apply_pack(folder, by="tests")
    forget_definitions()
    say("yaml:a", component("pay", type="service"), component("lib", type="library"))
    client = browse(vic)
    for name, status in (("pay", 200), ("lib", 404)):
        ref = entity(f"component:default/{name}").ref
        assert client.get("/widgets/component/services", {"of": ref}).status_code == status
        assert client.get("/widgets/component/always", {"of": ref}).status_code == 200


def test_mine_is_suggested_for_owners(browse: Callable[[User], Client], vic: User) -> None:
    client = browse(vic)
    for typed in ("owner:", "kind:component owner:@", "-owner:@m"):
        said = text(client, f"/search/terms?q={typed}")
        assert "@me you and your groups" in said, typed
    assert "@me" not in text(client, "/search/terms?q=owner:pay")
    assert "@me" not in text(client, "/search/terms?q=kind:")


def test_refs_may_be_of_some_kinds_only(browse: Callable[[User], Client], vic: User) -> None:
    say("yaml:a", component("pay"), claim("group:payments", {"type": "team", "children": []}))
    client = browse(vic)
    assert "component:default/pay" in text(client, "/search/refs?q=pay")
    assert text(client, "/search/refs?q=pay&kinds=group,user") == "group:default/payments"


class TestSyncLine:
    def test_it_asks_again_only_while_something_runs(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        now = timezone.now()
        connection = Connection.objects.create(slug="git", label="Git main", connector="git")
        run = SyncRun.objects.create(connection=connection, queued_at=now, state=RunState.RUNNING)
        client = browse(vic)
        for url in ("/", "/shell/sync"):
            shown = client.get(url).content.decode()
            assert "Syncing Git main" in plain(shown), url
            assert 'hx-get="/shell/sync"' in shown, url
        run.state, run.finished_at = RunState.SYNCED, now
        run.save()
        for url in ("/", "/shell/sync"):
            shown = client.get(url).content.decode()
            assert "The connection is synced" in plain(shown), url
            assert "/shell/sync" not in shown, url

    def test_nothing_is_told_of_what_one_may_not_look_into(
        self, browse: Callable[[User], Client], no_access: User
    ) -> None:
        Connection.objects.create(slug="git", label="Git main", connector="git")
        assert browse(no_access).get("/shell/sync").content.strip() == b""
        assert "/sign-in" in Client().get("/shell/sync").headers["Location"]
