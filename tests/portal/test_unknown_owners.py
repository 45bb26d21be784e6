"""Owners that nothing declares, in the browser: listed, made or mapped, and taken back."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access.models import User
from access.services import grant
from catalog.models import Alias, Entity, Problem
from integrations.models import CatalogLocation
from portal.views import unknown
from tests.catalog.saying import claim, component, entity, say

pytestmark = pytest.mark.django_db

LIST = "/catalog/unknown-owners"
HERE = "/catalog/default/group/pay-team"
FORM = f"{HERE}/unknown"
NAME, CREW = "group:default/pay-team", "group:default/crew"


@pytest.fixture(autouse=True)
def mentioned(core_pack: None) -> None:
    CatalogLocation.objects.create(address="https://files.example/a.yaml")
    say(
        "yaml:a",
        component("pay", owner="pay-team"),
        component("ledger", owner="pay-team"),
        component("solo", owner="user:joe"),
        claim("component:elsewhere/there", {"type": "x", "owner": "lost"}),
        claim("group:crew", {"type": "team", "children": []}, metadata={"title": "The crew"}),
        claim("user:ana", {"memberOf": []}),
    )


@pytest.fixture
def editor(browse: Callable[[User], Client], ben: User) -> Client:
    return browse(ben)


def html(client: Client, url: str, status: int = 200) -> str:
    answer = client.get(url)
    assert answer.status_code == status, (url, answer.status_code)
    return unescape(answer.content.decode())


def text(client: Client, url: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html(client, url)).split())


def test_the_list_has_those_that_most_things_name_first(editor: Client) -> None:
    said = text(editor, LIST)
    order = [said.index(ref) for ref in (NAME, "group:elsewhere/lost", "user:default/joe")]
    assert order == sorted(order)
    assert "2 entities ledger, pay" in said
    shown = html(editor, LIST)
    assert f'href="{FORM}#create"' in shown
    assert f'href="{FORM}#map"' in shown
    (url,) = [u for u in re.findall(r'href="(/catalog\?q=[^"]+)"', shown) if "pay-team" in u]
    rows = html(editor, url)
    assert "/component/pay" in rows
    assert "/component/solo" not in rows


def test_things_of_equal_title_are_told_apart(editor: Client) -> None:
    say(
        "yaml:b",
        component("wallet", owner="money"),
        claim("api:wallet", {"type": "openapi", "owner": "money"}),
        component("till", owner="tellers"),
        claim("component:shop/till", {"type": "service", "owner": "group:default/tellers"}),
    )
    said = text(editor, LIST)
    assert "wallet (api), wallet (component)" in said
    assert "component:default/till, component:shop/till" in said


def test_long_lists_have_pages_and_as_many_statements(editor: Client) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as found:
            html(editor, LIST)
        return len(found)

    statements()  # what a process keeps is read
    before = statements()
    say("yaml:b", *(component(f"c{n}", owner=f"team-{n:03}") for n in range(60)))
    assert statements() == before
    assert "1–50 of 63" in text(editor, LIST) or "1-50 of 63" in text(editor, LIST)
    assert "team-059" in html(editor, f"{LIST}?at=50")


@pytest.mark.parametrize(
    "url",
    [
        "/catalog?q=kind:component",
        "/catalog/default/component/pay",
        "/catalog/default/component/pay?tab=problems",
        "/problems",
    ],
)
def test_a_dashed_owner_leads_to_where_it_is_settled(editor: Client, url: str) -> None:
    assert f'href="{FORM}' in html(editor, url)


@pytest.mark.parametrize("url", ["/catalog/default/component/pay", "/problems"])
def test_both_ways_are_offered_to_who_may_go_them_and_to_nobody_else(
    editor: Client, browse: Callable[[User], Client], vic: User, url: str
) -> None:
    shown = html(editor, url)
    assert f'href="{FORM}#create"' in shown
    assert f'href="{FORM}#map"' in shown
    shown = html(browse(vic), url)
    assert f"{FORM}#" not in shown


def test_home_leads_there(editor: Client) -> None:
    assert f'href="{LIST}"' in html(editor, "/")


def test_the_page_of_the_name_leads_there_too(editor: Client) -> None:
    assert f'href="{FORM}"' in html(editor, HERE, 404)
    assert "/unknown" not in html(editor, "/catalog/default/group/nobody", 404)


class TestMapping:
    @pytest.mark.parametrize("target", [CREW, "user:default/ana"])
    def test_mapped_and_undone(self, editor: Client, target: str) -> None:
        answer = editor.post(FORM, {"action": "map", "target": target, "reason": "renamed"}, follow=True)
        kind, _, name = target.partition(":default/")
        assert answer.redirect_chain == [(f"/catalog/default/{kind}/{name}", 302)]
        assert entity("component:default/pay").owner == target
        assert not Problem.objects.filter(cause__contains="pay-team", resolved_at=None).exists()
        assert editor.get(HERE)["Location"] == f"/catalog/default/{kind}/{name}"
        assert editor.get(FORM)["Location"] == f"/catalog/default/{kind}/{name}"
        said = text(editor, LIST)
        assert "renamed" in said
        assert editor.post(LIST, {"unmap": NAME}).status_code == 302
        assert entity("component:default/pay").owner == NAME
        assert f'href="{FORM}"' in html(editor, "/catalog/default/component/pay")

    @pytest.mark.parametrize(
        ("target", "words"),
        [("", "no reference"), ("component:pay", "choose a group or a user"), ("group:nope", "There is no")],
    )
    def test_what_is_wrong_is_said_beside_what_was_typed(
        self, editor: Client, target: str, words: str
    ) -> None:
        answer = editor.post(FORM, {"action": "map", "target": target})
        assert answer.status_code == 422
        assert words in unescape(answer.content.decode())
        assert f'value="{target}"' in answer.content.decode()
        assert not Alias.objects.exists()


class TestCreating:
    def test_created_with_members_and_undone(self, editor: Client) -> None:
        given = {"action": "create", "name": "pay-team", "title": "Payments", "members": "ana"}
        answer = editor.post(FORM, given, follow=True)
        assert answer.redirect_chain == [(HERE, 302)]
        assert "Payments" in answer.content.decode()
        assert (entity(NAME).title, entity("component:default/pay").owner) == ("Payments", NAME)
        shown = html(editor, LIST)
        (uid,) = re.findall(r'name="withdraw" value="([^"]+)"', shown)
        assert editor.post(LIST, {"withdraw": uid}).status_code == 302
        assert not entity(NAME).is_alive
        assert NAME in text(editor, LIST)

    def test_a_person_has_no_members_to_be_asked_for(self, editor: Client) -> None:
        url = "/catalog/default/user/joe/unknown"
        assert "members" not in html(editor, url)
        editor.post(url, {"action": "create", "name": "joe", "title": "Joe"})
        assert entity("user:default/joe").title == "Joe"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"name": "not a name"}, "name"),
            ({"name": "crew"}, "in the catalog already"),
            ({"members": "ana, bob"}, "There is no person bob"),
            ({"members": "component:default/pay"}, "no person"),
        ],
    )
    def test_what_is_wrong_is_said_beside_what_was_typed(
        self, editor: Client, given: dict[str, str], words: str
    ) -> None:
        answer = editor.post(FORM, {"action": "create", "name": "pay-team"} | given)
        assert answer.status_code == 422
        assert words in unescape(answer.content.decode())
        for value in given.values():
            assert value in answer.content.decode()
        assert not Entity.objects.filter(ref=NAME).exists()


class TestWhoMay:
    def test_a_viewer_reads_and_a_post_is_refused(self, browse: Callable[[User], Client], vic: User) -> None:
        client = browse(vic)
        shown = html(client, FORM)
        assert "/component/ledger" in shown
        assert "<textarea" not in shown
        assert 'name="action"' not in shown
        for given in ({"action": "map", "target": CREW}, {"action": "create", "name": "pay-team"}):
            assert client.post(FORM, given).status_code == 403
        assert not Alias.objects.exists()
        assert "#create" not in html(client, LIST)

    def test_of_other_namespaces_nothing_is_told(
        self, browse: Callable[[User], Client], editor: Client, cleo: User
    ) -> None:
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        client = browse(cleo)
        said = text(client, LIST)
        assert "group:elsewhere/lost" in said
        assert "pay" not in said
        assert client.get(FORM).status_code == 404
        assert client.post(FORM, {"action": "create", "name": "pay-team"}).status_code == 404
        url = "/catalog/elsewhere/group/lost/unknown"
        assert client.post(url, {"action": "map", "target": CREW}).status_code == 422  # cannot see it
        assert client.post(url, {"action": "create", "name": "lost"}).status_code == 302
        editor.post(FORM, {"action": "map", "target": "group:elsewhere/lost"})
        assert "pay-team" not in html(client, LIST)
        assert client.post(LIST, {"unmap": NAME}).status_code == 403

    def test_what_one_may_take_back_is_counted_without_the_rest(
        self,
        browse: Callable[[User], Client],
        editor: Client,
        cleo: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        grant(role="viewer", user=cleo)
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        monkeypatch.setattr(unknown, "SETTLED", 1)
        for name in ("elsewhere/group/lost", "default/group/pay-team"):  # the newest is not hers
            assert (
                editor.post(f"/catalog/{name}/unknown", {"action": "map", "target": CREW}).status_code == 302
            )
        said = html(browse(cleo), LIST)
        assert 'name="unmap" value="group:elsewhere/lost"' in said
        assert 'value="group:default/pay-team"' not in said


def test_an_invented_address_and_page_are_nothing(editor: Client) -> None:
    for url in ("/catalog/default/group/nobody/unknown", "/catalog/default/component/pay/unknown"):
        assert editor.get(url).status_code in {302, 404}
    assert editor.get(f"{LIST}?at=x").status_code == 200
    assert editor.get(f"{LIST}?at=99999").status_code == 200
    assert editor.post(LIST, {"unmap": "nonsense"}).status_code == 422
    assert editor.post(LIST, {}).status_code == 404


def test_the_card_of_a_team_names_no_missing_one_as_there(editor: Client) -> None:
    say("yaml:b", component("web", owner="crew", dependsOn=["component:pay"]))
    shown: Any = html(editor, "/catalog/default/group/crew")
    assert FORM in shown
