"""Favourites and what was viewed lately: whose they are, what they cost, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import User
from catalog.models import Entity, Redirect
from portal import bookmarks
from portal.bookmarks import bookmarks_of, set_favourite, view_entity
from portal.models import Bookmarks
from tests.catalog.saying import claim, component, entity, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture
def things() -> list[Entity]:
    say("yaml:a", *[component(f"c{n:02}", owner="payments") for n in range(15)])
    return list(Entity.objects.filter(kind="component").order_by("name"))


def names(found: list[Entity]) -> list[str]:
    return [one.name for one in found]


def card(client: Client) -> str | None:
    found = re.search(
        r'<section[^>]*id="w-favourites".*?</section>', client.get("/").content.decode(), re.DOTALL
    )
    return found[0] if found else None


class TestFavourites:
    def test_a_star_is_set_seen_on_home_and_taken(
        self, browse: Callable[[User], Client], vic: User, ben: User, things: list[Entity]
    ) -> None:
        client, page = browse(vic), "/catalog/default/component/c03"
        assert card(client) is None
        assert 'aria-pressed="false"' in client.get(page).content.decode()
        answer = client.post(f"{page}/favourite", {"on": "1"}, headers={"HX-Request": "true"})
        star = answer.content.decode()
        assert answer.status_code == 200
        assert 'aria-pressed="true"' in star
        assert 'name="on" value="0"' in star
        assert 'aria-pressed="true"' in client.get(page).content.decode()
        assert page in (card(client) or "")
        assert card(browse(ben)) is None
        assert client.post(f"{page}/favourite", {"on": "0"}).headers["Location"] == page
        assert card(client) is None

    def test_the_sidebar_has_them_once_the_page_is_there(
        self, browse: Callable[[User], Client], vic: User, ben: User, things: list[Entity]
    ) -> None:
        client, page = browse(vic), "/catalog/default/component/c03"
        assert '<div id="po-favourites"></div>' in client.get("/problems").content.decode()
        starred = client.post(f"{page}/favourite", {"on": "1"}, headers={"HX-Request": "true"})
        for answer in (starred, client.get("/notices/bell")):
            assert '<div id="po-favourites" hx-swap-oob="outerMorph">' in answer.content.decode()
            assert f'<a class="po-nav" href="{page}"' in answer.content.decode()
        assert page not in browse(ben).get("/notices/bell").content.decode()
        taken = client.post(f"{page}/favourite", {"on": "0"}, headers={"HX-Request": "true"})
        assert page not in taken.content.decode().partition("po-favourites")[2]

    def test_the_same_wish_twice_is_one(self, vic: User, things: list[Entity]) -> None:
        for thing in (things[0], things[1], things[0]):
            set_favourite(user=vic, entity=thing, is_on=True)
        assert names(bookmarks_of(vic).favourites) == ["c00", "c01"]
        for _ in range(2):
            set_favourite(user=vic, entity=things[0], is_on=False)
        assert names(bookmarks_of(vic).favourites) == ["c01"]

    def test_of_what_may_not_be_seen_there_is_none(
        self, browse: Callable[[User], Client], cleo: User, things: list[Entity]
    ) -> None:
        assert browse(cleo).post("/catalog/default/component/c00/favourite", {"on": "1"}).status_code == 404
        set_favourite(user=cleo, entity=things[0], is_on=True)  # while it could be seen
        assert bookmarks_of(cleo).favourites == []
        assert card(browse(cleo)) is None

    def test_opening_the_address_changes_nothing(
        self, browse: Callable[[User], Client], vic: User, things: list[Entity]
    ) -> None:
        assert browse(vic).get("/catalog/default/component/c00/favourite").status_code == 405

    def test_what_is_gone_is_hidden_and_returns(self, vic: User, things: list[Entity]) -> None:
        set_favourite(user=vic, entity=things[0], is_on=True)
        Entity.objects.filter(pk=things[0].pk).update(deleted_at=timezone.now())
        assert bookmarks_of(vic).favourites == []
        set_favourite(user=vic, entity=things[1], is_on=True)
        Entity.objects.filter(pk=things[0].pk).update(deleted_at=None)
        assert names(bookmarks_of(vic).favourites) == ["c01", "c00"]

    def test_what_is_gone_for_good_takes_no_place(
        self, vic: User, things: list[Entity], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bookmarks, "FAVOURITES", 2)
        for thing in things[:2]:
            set_favourite(user=vic, entity=thing, is_on=True)
        with pytest.raises(bookmarks.TooManyFavourites, match="You have 2 favourites"):
            set_favourite(user=vic, entity=things[2], is_on=True)
        things[0].delete()
        set_favourite(user=vic, entity=things[2], is_on=True)
        assert names(bookmarks_of(vic).favourites) == ["c02", "c01"]
        assert len(Bookmarks.objects.get().favourites) == 2

    def test_what_was_merged_is_what_it_was_merged_into(self, vic: User, things: list[Entity]) -> None:
        loser, winner = things[:2]
        set_favourite(user=vic, entity=loser, is_on=True)
        now = timezone.now()
        Redirect.objects.create(loser=loser, winner=winner, ref=loser.ref, decided_by="ana", decided_at=now)
        Entity.objects.filter(pk=loser.pk).update(deleted_at=now)
        assert names(bookmarks_of(vic).favourites) == ["c01"]
        set_favourite(user=vic, entity=winner, is_on=False)
        assert bookmarks_of(vic).favourites == []

    def test_go_with_the_account(self, vic: User, things: list[Entity]) -> None:
        set_favourite(user=vic, entity=things[0], is_on=True)
        vic.delete()
        assert not Bookmarks.objects.exists()


class TestRecentlyViewed:
    def test_are_the_last_twelve_newest_first(
        self, browse: Callable[[User], Client], vic: User, things: list[Entity]
    ) -> None:
        client = browse(vic)
        for thing in [*things, things[5]]:
            assert client.get(f"/catalog/default/component/{thing.name}").status_code == 200
        expected = ["c05", *[f"c{n:02}" for n in range(14, 2, -1) if n != 5]]
        assert names(bookmarks_of(vic).recent) == expected
        assert len(Bookmarks.objects.get().recent) == len(expected) == bookmarks.RECENT

    def test_keep_favourites_as_they_are(self, vic: User, things: list[Entity]) -> None:
        set_favourite(user=vic, entity=things[0], is_on=True)
        assert view_entity(user=vic, entity=things[1]) is False
        assert view_entity(user=vic, entity=things[0]) is True
        assert names(bookmarks_of(vic).favourites) == ["c00"]

    def test_a_view_is_one_statement_and_the_same_again_writes_nothing(
        self, vic: User, things: list[Entity]
    ) -> None:
        def version() -> str:
            with connection.cursor() as cursor:
                cursor.execute("SELECT ctid::text FROM portal_bookmarks")
                return str(cursor.fetchone()[0])

        view_entity(user=vic, entity=things[1])
        with CaptureQueriesContext(connection) as captured:
            view_entity(user=vic, entity=things[0])
        assert len(captured) == 1
        before = version()
        view_entity(user=vic, entity=things[0])
        assert version() == before
        view_entity(user=vic, entity=things[1])
        assert version() != before

    def test_hold_nothing_that_may_not_be_seen(self, cleo: User, things: list[Entity]) -> None:
        say("yaml:a", claim("component:elsewhere/there"))
        view_entity(user=cleo, entity=things[0])
        view_entity(user=cleo, entity=entity("component:elsewhere/there"))
        assert names(bookmarks_of(cleo).recent) == ["there"]


class TestSearchBox:
    """What the box at the top offers, before a letter is typed and after."""

    def groups(self, client: Client, text: str = "") -> dict[str, list[str]]:
        shown = client.get("/search/suggest", {"q": text}).content.decode()
        shown = shown.partition('<a class="po-item" role="option" href="/search?q=')[0]
        return {
            label: [
                re.sub("</?b>", "", name) for name in re.findall(r'<span class="po-cut">(.+?)</span>', body)
            ]
            for label, body in re.findall(
                r'<div role="group" aria-label="([^"]+)">(.*?)(?=<div role="group"|$)', shown, re.DOTALL
            )
        }

    def test_offers_what_is_kept_and_each_thing_once(
        self, browse: Callable[[User], Client], vic: User, things: list[Entity]
    ) -> None:
        client = browse(vic)
        assert list(self.groups(client)) == ["Pages", "Actions"]
        for thing in things[:3]:
            set_favourite(user=vic, entity=thing, is_on=True)
        view_entity(user=vic, entity=things[9])
        view_entity(user=vic, entity=things[1])
        shown = self.groups(client)
        assert list(shown) == ["Recently viewed", "Favourites", "Pages", "Actions"]
        assert shown["Recently viewed"] == ["c01", "c09"]
        assert shown["Favourites"] == ["c02", "c00"]

    def test_letters_find_entities_pages_and_actions(
        self, browse: Callable[[User], Client], ana: User, vic: User, things: list[Entity]
    ) -> None:
        set_favourite(user=ana, entity=things[0], is_on=True)
        assert self.groups(browse(ana), "dark") == {"Actions": ["Theme: dark"]}
        assert self.groups(browse(ana), "connect")["Actions"] == ["Connect a tool"]
        assert "Actions" not in self.groups(browse(vic), "connect")
        assert self.groups(browse(vic), "c07") == {"Best hits": ["c07"]}

    def test_costs_the_same_however_much_is_kept(
        self, browse: Callable[[User], Client], vic: User, things: list[Entity]
    ) -> None:
        client = browse(vic)
        costs = []
        for thing in things:
            set_favourite(user=vic, entity=thing, is_on=True)
            view_entity(user=vic, entity=thing)
            with CaptureQueriesContext(connection) as captured:
                self.groups(client)
            costs.append(len(captured))
        assert costs[-1] <= costs[1] <= 12


def test_home_with_favourites_costs_a_few_queries_more(
    browse: Callable[[User], Client], vic: User, things: list[Entity]
) -> None:
    client = browse(vic)

    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/")
        return len(captured)

    cost()  # what a process keeps is there
    without = cost()
    for thing in things:
        set_favourite(user=vic, entity=thing, is_on=True)
    assert cost() <= without + 3  # which they are by name, those shown as a whole, their owners
