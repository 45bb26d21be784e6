"""The first page by day: where tools disagree, what waits for one, what is to be seen to; and overrides as patches."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags

from access.models import User
from access.services import grant, note_visit, tie_account
from catalog import queries
from catalog.models import Rank
from catalog.permissions import own_refs_of
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.edit import override_field
from catalog.services.render import render_dirty
from integrations.models import CatalogLocation, Connection, SyncRun
from tests.catalog.saying import claim, component, document, entity, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

TOOL = {"rank": Rank.CONNECTION}
LATE = datetime(2026, 1, 30, 23, 30, tzinfo=UTC)


def card(client: Client, id: str, url: str = "/") -> str:
    """The words of a card, its links as [address]; empty where it is absent."""
    html = client.get(url).content.decode()
    found = re.search(rf'<(section|div)[^>]* id="w-{id}".*?</\1>', html, re.DOTALL)
    if not found:
        return ""
    text = re.sub(r'<a [^>]*?href="([^"]*)"[^>]*>', r" [\1] ", found[0])
    return unescape(" ".join(strip_tags(text.replace("<", " <")).split()))


@pytest.fixture
def viewer(browse: Callable[[User], Client], vic: User) -> Client:
    return browse(vic)


class TestDisagreements:
    def test_there_is_no_card_while_all_agree(self, viewer: Client) -> None:
        say("yaml:a", component("pay"))
        say("connection:git/x", claim("component:pay", {"owner": "team"}, **TOOL))
        assert card(viewer, "disagreements") == ""

    def test_it_counts_entities_by_field_and_leads_to_them(self, viewer: Client) -> None:
        say("yaml:a", component("pay"), component("ledger"), component("quiet"))
        say(
            "connection:git/x",
            claim("component:pay", {"owner": "other", "lifecycle": "old", "odd": 1}, **TOOL),
            claim("component:ledger", {"owner": "other"}, **TOOL),
        )
        say("connection:ci/x", claim("component:quiet", {"odd": 1}, id="q", **TOOL))
        say("connection:more/x", claim("component:quiet", {"odd": 2}, id="q", **TOOL))
        said = card(viewer, "disagreements")
        assert "[/catalog?q=conflict%3Aowner] Owner 2 entities" in said
        assert "[/catalog?q=conflict%3Alifecycle] Lifecycle 1 entity" in said
        assert "Other fields 1 entity" in said
        (others,) = re.findall(r"\[(\S*)\] Other fields", said)
        for url, names in (
            ("/catalog?q=conflict%3Aowner", {"pay", "ledger"}),
            (others, {"quiet"}),
            ("/catalog?q=has%3Aconflict", {"pay", "ledger", "quiet"}),
        ):
            html = viewer.get(url).content.decode()
            assert {n for n in ("pay", "ledger", "quiet") if f"/component/{n}" in html} == names, url

    def test_it_counts_what_the_viewer_may_see(
        self, browse: Callable[[User], Client], no_access: User
    ) -> None:
        grant(role="viewer", user=no_access, scope_type="namespace", scope="mine")
        say("yaml:a", component("pay"), claim("component:mine/own", {"owner": "a"}))
        say("connection:git/x", claim("component:pay", {"owner": "other"}, **TOOL))
        client = browse(no_access)
        assert card(client, "disagreements") == ""
        say("connection:git/x", claim("component:mine/own", {"owner": "other"}, **TOOL))
        assert "Owner 1 entity" in card(client, "disagreements")


@pytest.mark.parametrize(
    "url", ["/", "/catalog", "/catalog.csv", "/activity", "/problems", "/search/suggest"]
)
def test_who_may_see_nothing_is_shown_nothing_and_no_card_fails(
    browse: Callable[[User], Client], no_access: User, url: str
) -> None:
    say("yaml:a", component("pay"))
    say("connection:git/x", claim("component:pay", {"owner": "other"}, **TOOL))
    answer = browse(no_access).get(url)
    assert answer.status_code == 200
    text = answer.getvalue().decode()
    assert "could not be shown" not in text
    assert "component/pay" not in text


class TestPatch:
    SOURCE = "/catalog/default/component/pay?tab=source"
    EDIT = "/catalog/default/component/pay/edit"

    def declare(self, owner: str) -> None:
        text = f"kind: Component\nspec:\n  owner: {owner}  # who is called\n"
        spec = {"type": "service", "lifecycle": "production", "owner": owner}
        say("yaml:a", claim("component:pay", spec, place={"file": "pay/info.yaml", "line": 1, "text": text}))

    def test_an_override_is_offered_as_a_patch_until_the_file_agrees(
        self, browse: Callable[[User], Client], ben: User
    ) -> None:
        self.declare("old")
        override_field(user=ben, entity=entity("component:default/pay"), path="spec.owner", value="new")
        client = browse(ben)
        html = unescape(client.get(self.SOURCE).content.decode())
        assert "Copy as catalog-info patch" in html
        (patch,) = re.findall(r'data-copy="([^"]+)"', html)
        assert "+++ b/pay/info.yaml\n" in patch
        assert "-  owner: old  # who is called\n+  owner: new  # who is called\n" in patch
        assert "Copy as catalog-info patch" in client.get(f"{self.EDIT}?field=spec.owner").content.decode()
        self.declare("new")
        html = client.get(self.SOURCE).content.decode()
        assert "The file agrees" in html
        assert "Copy as catalog-info patch" not in html
        assert "says the same by now" in client.get(f"{self.EDIT}?field=spec.owner").content.decode()
        assert "Drop the override" in html
        client.post(self.EDIT, {"field": "spec.owner", "action": "drop"})
        assert "Overrides" not in client.get(self.SOURCE).content.decode()
        assert document("component:default/pay")["spec"]["owner"] == "new"

    def test_who_may_not_write_sees_the_override_and_no_words_of_the_file(
        self, viewer: Client, ben: User
    ) -> None:
        self.declare("old")
        override_field(user=ben, entity=entity("component:default/pay"), path="spec.owner", value="new")
        html = viewer.get(self.SOURCE).content.decode()
        assert "Overrides" in html
        assert "who is called" not in html
        assert "Drop the override" not in html
        answer = viewer.get("/api/v1/entities/default/component/pay/provenance/")
        assert answer.status_code == 200
        assert "who is called" not in answer.content.decode()


REPOSITORY = "repo:git.example/acme/pay"


def change(
    number: int, *, repository: str = REPOSITORY, status: str = "open", days: float = 1, **more: Any
) -> None:
    """A change of a repository, as a Git host tells of it."""
    at = timezone.now() - timedelta(days=days)
    data = {name: more.pop(name) for name in ("reviewers", "is_draft", "actor_email") if name in more}
    apply_activity(
        connection_slug="git",
        connector="git",
        items=[
            ActivityIn(
                type="change", external_id=str(number), event="change.created", title=f"Change {number}",
                number=str(number), status=status, about=(repository,), at=at, as_of=at, data=data, **more,
            )
        ],
    )  # fmt: skip
    queries.forget_delivered_types()
    render_dirty(at=timezone.now())


@pytest.fixture
def vera(vic: User) -> User:
    """Vic, who is Vera Lind in the catalog, of the payments team of the money unit."""
    say(
        "yaml:people",
        claim(
            "user:vera",
            {"memberOf": ["payments"]},
            metadata={"title": "Vera Lind"},
            keys=("user:vera@acme.example",),
        ),
        claim("group:payments", {"type": "team", "children": [], "parent": "money"}),
        claim("group:money", {"type": "unit", "children": []}),
        replace(component("pay", owner="money"), about=(REPOSITORY,)),
        component("other", owner="others"),
    )  # fmt: skip
    say(
        "connection:git/repositories",
        claim("repository:pay", {"path": "acme/pay"}, id="1", keys=(REPOSITORY,), **TOOL),
        claim(
            "repository:other", {"path": "acme/other"}, id="2", keys=("repo:git.example/acme/other",), **TOOL
        ),
    )
    tie_account(vic, entity_uid=entity("user:default/vera").uid)
    vic.refresh_from_db()
    return vic


class TestWaiting:
    OTHER = "repo:git.example/acme/other"

    def test_it_shows_what_one_is_asked_to_review_first_and_then_what_is_ones_own(
        self, browse: Callable[[User], Client], vera: User
    ) -> None:
        change(1, actor="mallory")
        change(2, repository=self.OTHER, reviewers=["Vera Lind"], days=2)
        change(3, repository=self.OTHER, reviewers=["vera@acme.example"], days=3)
        change(4, repository=self.OTHER, reviewers=["somebody"])
        change(5, status="merged", actor="mallory")
        change(6, is_draft=True, actor="mallory")
        change(7, actor="Vera Lind")
        change(8, days=91)
        said = card(browse(vera), "waiting")
        assert re.findall(r"Change (\d)", said) == ["2", "3", "1"]
        assert said.count("review") == 2
        assert "3 of 3" in said

    def test_nobody_in_the_catalog_has_no_such_card(self, viewer: Client) -> None:
        change(1, reviewers=["Vic Lind"])
        assert card(viewer, "waiting") == ""

    def test_what_one_may_not_see_does_not_wait(
        self, browse: Callable[[User], Client], vera: User, no_access: User
    ) -> None:
        change(1, reviewers=["Vera Lind"])
        vera.grants.all().delete()
        grant(role="viewer", user=vera, scope_type="namespace", scope="elsewhere")
        assert "Change 1" not in card(browse(vera), "waiting")

    def test_the_groups_above_count_and_rings_of_groups_end(self, vera: User) -> None:
        assert own_refs_of(vera) == {"user:default/vera", "group:default/payments", "group:default/money"}
        say("yaml:ring", claim("group:money", {"type": "unit", "children": [], "parent": "payments"}))
        assert own_refs_of(vera) == {"user:default/vera", "group:default/payments", "group:default/money"}


class TestVisits:
    def test_a_visit_ends_when_one_is_away_and_is_noted_once_an_hour(self, vic: User) -> None:
        start = timezone.now()
        written = []
        for minutes in (0, 1, 59, 61, 100, 125, 60 * 9, 60 * 9 + 30, 60 * 10 + 1):
            with CaptureQueriesContext(connection) as captured:
                note_visit(vic, now=start + timedelta(minutes=minutes))
            written.append(len(captured))
            vic.refresh_from_db()
        assert written == [1, 0, 0, 1, 0, 1, 1, 0, 1]
        assert vic.last_visit_at == start + timedelta(minutes=125)

    def test_home_shows_what_changed_since(self, browse: Callable[[User], Client], vic: User) -> None:
        say("yaml:a", component("old"))
        now = timezone.now()
        client = browse(vic)
        assert card(client, "changed").startswith("Changed lately")
        User.objects.filter(pk=vic.pk).update(seen_at=now - timedelta(minutes=30), last_visit_at=now)
        assert "Nothing has changed since your last visit." in card(client, "changed")
        say("yaml:b", component("new"), minute=120)
        said = card(client, "changed")
        assert said.startswith("Changed since your last visit")
        assert "new" in said
        assert "/component/old" not in said
        (url,) = re.findall(r"\[(\S*)\] Open as list", said)
        html = client.get(unescape(url)).content.decode()
        assert "/component/new" in html
        assert "/component/old" not in html

    def test_a_home_page_that_is_left_open_keeps_up_and_is_no_visit(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        client = browse(vic)
        for address, keeps_up in (("/", True), ("/catalog", False)):
            page = client.get(address, headers={"HX-Request": "true"}).content.decode()
            assert ('hx-trigger="look"' in page) is keeps_up
        vic.refresh_from_db()
        assert vic.seen_at is None


class TestToSeeTo:
    def test_an_empty_portal_has_no_such_card(self, viewer: Client) -> None:
        assert card(viewer, "to-see-to") == ""

    def test_numbers_lead_on_and_the_next_step_is_the_most_pressing(self, viewer: Client) -> None:
        CatalogLocation.objects.create(address="https://files.example/a.yaml")
        say(
            "yaml:a",
            component("pay"),
            claim("component:lost", {"type": "x"}),
            claim("component:lone", {"type": "x"}),
        )
        said = card(viewer, "to-see-to")
        assert "[/catalog?q=kind%3Acomponent+-has%3Aowner] Without owner 2" in said
        assert "Sources disagree 0" in said
        assert "Next step [/catalog?q=kind%3Acomponent+-has%3Aowner] Give owners" in said
        say("connection:git/x", claim("component:pay", {"owner": "other"}, **TOOL))
        assert "[/catalog?q=has%3Aconflict] Sources disagree 1" in card(viewer, "to-see-to")

    def test_when_all_is_settled_an_administrator_is_led_to_invite(
        self, browse: Callable[[User], Client], viewer: Client, ana: User
    ) -> None:
        CatalogLocation.objects.create(address="https://files.example/a.yaml")
        say("yaml:a", component("pay"))
        said = card(viewer, "to-see-to")
        assert "[/catalog/unknown-owners] Unknown owner 1" in said
        assert "Next step [/catalog/unknown-owners] Say who unknown owners are" in said
        say("yaml:a", claim("group:team", {"type": "team", "children": []}))
        assert "All is settled." in card(viewer, "to-see-to")
        assert "[/settings/access?invite=1] Invite colleagues" in card(browse(ana), "to-see-to")
        page = browse(ana).get("/settings/access?invite=1").content.decode()
        assert re.search(r"<details[^>]* open>(?:(?!</summary>).)*Invite", page, re.DOTALL)


def test_stale_connections_stand_before_the_others_and_are_counted(viewer: Client) -> None:
    now = timezone.now()
    for slug, ago, state in (("a-fresh", 1, "synced"), ("b-stale", 4, "synced"), ("c-failed", 1, "failed")):
        made = Connection.objects.create(slug=slug, label=slug, connector="git", interval=600)
        at = now - timedelta(minutes=10 * ago)
        SyncRun.objects.create(connection=made, queued_at=at, finished_at=at, state=state)
    said = card(viewer, "sync")
    assert re.findall(r"/connections/([a-z-]+)", said) == ["c-failed", "b-stale", "a-fresh"]
    assert "Synced, stale 40 min" in said
    assert "3 connections, 1 stale" in said


def test_pages_tell_times_by_the_clock_of_whoever_reads_them(viewer: Client) -> None:
    say("yaml:a", component("pay"))
    apply_activity(
        connection_slug="ci",
        connector="ci",
        items=[
            ActivityIn(
                type="alert", external_id="1", event="alert.firing", title="Slow", status="firing",
                about=("component:default/pay",), at=LATE, as_of=LATE,
            )
        ],
    )  # fmt: skip
    queries.forget_delivered_types()

    def shown(zone: str) -> tuple[str, str, bytes]:
        viewer.cookies["po_zone"] = zone
        page, api = viewer.get("/activity"), viewer.get("/api/v1/activity/")
        assert (page.status_code, api.status_code) == (200, 200)
        found = re.search(r'<time[^>]* title="([^"]+)"[^>]*>(\d\d:\d\d)</time>', page.content.decode())
        assert found is not None
        return found[1], found[2], api.content

    exact, clock, told = shown("UTC")
    assert (exact, clock) == ("30 Jan 2026, 23:30 UTC", "23:30")
    there, clock_there, told_there = shown("Asia/Kolkata")
    assert (there, clock_there) == ("31 Jan 2026, 05:00 IST", "05:00")
    assert told == told_there, "programs are told the same, whoever asks"
    for nonsense in ("Nowhere/Nothing", "../../etc/passwd", "/etc/passwd", "a" * 5_000, "é", "Europe"):
        assert shown(nonsense)[0] == exact
    assert timezone.get_current_timezone_name() == "UTC", "and the next request begins anew"
