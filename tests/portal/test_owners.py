"""Owners set in bulk, in the browser: from a list, with a preview, as far as somebody may."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from access.models import AuditEvent, User
from access.services import grant
from catalog.models import Entity, Rank
from catalog.services.edit import override_field
from catalog.suggestions import suggested_owners
from tests.catalog.saying import claim, component, entity, say

pytestmark = pytest.mark.django_db

PAGE, CREW = "/catalog/owners", "group:default/crew"
BARE = {"type": "service", "lifecycle": "production"}


@pytest.fixture(autouse=True)
def things(core_pack: None) -> None:
    say(
        "yaml:a",
        claim("component:bare", BARE, about=("repo:h.example/bare",)),
        claim("component:empty", BARE),
        component("filed", owner="other"),
        component("same", owner="crew"),
        claim("component:elsewhere/there", BARE),
        claim("group:crew", {"type": "team", "children": []}, metadata={"title": "The crew"}),
        claim("group:other", {"type": "team", "children": []}),
        claim("user:joe", {"memberOf": [], "profile": {"email": "joe@acme.example"}}),
    )


@pytest.fixture
def editor(browse: Callable[[User], Client], ben: User) -> Client:
    return browse(ben)


def html(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.status_code
    return unescape(answer.content.decode())


def text(answer: Any, status: int = 200) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html(answer, status)).split())


def uids(*names: str) -> list[str]:
    return [str(uid) for uid in Entity.objects.filter(name__in=names).values_list("uid", flat=True)]


def hidden(shown: str, name: str) -> str:
    return re.findall(rf'name="{name}" value="([^"]*)"', shown)[0]


def owners() -> dict[str, str]:
    return dict(Entity.objects.filter(kind="component").values_list("name", "owner"))


class TestTheList:
    def test_rows_can_be_selected_by_who_may_write(
        self, editor: Client, browse: Callable[[User], Client], vic: User
    ) -> None:
        shown = html(editor.get("/catalog?q=kind:component"))
        assert shown.count('name="entity"') == 5
        assert 'form="po-bulk"' in shown
        assert "Set owner..." in shown
        assert "Set owner of all 5..." in shown
        shown = html(browse(vic).get("/catalog?q=kind:component"))
        assert 'name="entity"' not in shown
        assert "Set owner" not in shown

    def test_a_list_of_what_nobody_owns_has_it_at_hand(self, editor: Client) -> None:
        button = 'class="po-btn po-btn-primary" href="/catalog/owners?q=kind%3Acomponent+-has%3Aowner"'
        assert button in html(editor.get("/catalog", {"q": "kind:component -has:owner"}))
        shown = html(editor.get("/catalog", {"q": "kind:component"}))
        assert 'po-btn-primary" href="/catalog/owners' not in shown

    def test_all_of_them_is_offered_where_there_are_more_than_are_shown(self, editor: Client) -> None:
        say("yaml:b", *(claim(f"component:c{n}", BARE) for n in range(60)))
        shown = html(editor.get("/catalog?q=kind:component"))
        assert re.search(r'value="all"[^>]*>.*?All 65\.\.\.', shown)


class TestTheChange:
    def test_selected_previewed_and_set(self, editor: Client) -> None:
        given: dict[str, Any] = {
            "action": "selected",
            "q": "kind:component",
            "entity": uids("bare", "filed", "same"),
        }
        shown = html(editor.post(PAGE, given))
        assert "Of 3 entities" in shown
        carried = {"entities": hidden(shown, "entities"), "q": hidden(shown, "q")}
        shown = html(editor.post(PAGE, carried | {"owner": CREW, "action": "preview", "reason": "why"}))
        said = " ".join(re.sub(r"<[^>]+>", " ", shown).split())
        assert "Nobody owns it yet 1 entity" in said
        assert "Goes over what a file or tool says 1 entity" in said
        assert "says yaml:a" in said
        assert "Is so already 1 entity" in said
        assert "so say why" in said
        assert "Set owner of 2 entities" in said
        assert hidden(shown, "reason") == "why"
        assert owners()["bare"] == ""
        carried |= {"mark": hidden(shown, "mark"), "owner": CREW, "reason": "why", "action": "apply"}
        answer = editor.post(PAGE, carried)
        assert (answer.status_code, answer["Location"]) == (302, "/catalog?q=kind%3Acomponent")
        assert owners() == {"bare": CREW, "filed": CREW, "same": CREW, "empty": "", "there": ""}
        assert AuditEvent.objects.get(verb="entity.bulk-edit").changes["reason"] == "why"
        assert "owns 2 entities more" in text(editor.get("/catalog?q=kind:component"))

    def test_all_that_a_query_finds(self, editor: Client) -> None:
        shown = html(editor.get(PAGE, {"q": "kind:component -has:owner"}))
        assert "Of 3 entities" in shown
        given = {"q": "kind:component -has:owner", "action": "all", "entity": uids("bare")}
        shown = html(editor.post(PAGE, given))
        assert "Of 3 entities" in shown
        carried = {"entities": hidden(shown, "entities"), "owner": "crew", "action": "preview"}
        assert "does not say of which kind" in html(editor.post(PAGE, carried), 422)
        shown = html(editor.post(PAGE, carried | {"owner": CREW}))
        editor.post(PAGE, carried | {"owner": CREW, "action": "apply", "mark": hidden(shown, "mark")})
        assert {name for name, owner in owners().items() if owner == CREW} == {
            "bare",
            "empty",
            "there",
            "same",
        }

    def test_what_changed_meanwhile_is_shown_before_it_is_done(self, editor: Client, ana: User) -> None:
        carried = {"entities": " ".join(uids("bare", "empty")), "owner": CREW, "action": "apply"}
        shown = html(editor.post(PAGE, carried), 422)  # never without a preview
        assert "Look at the preview again" in shown
        mark = hidden(shown, "mark")
        override_field(user=ana, entity=entity("component:default/bare"), path="spec.owner", value="x")
        shown = html(editor.post(PAGE, carried | {"mark": mark}), 422)
        assert "Stays: another person overrides it" in shown
        assert owners()["empty"] == ""
        assert editor.post(PAGE, carried | {"mark": hidden(shown, "mark")}).status_code == 302
        assert owners()["empty"] == CREW
        assert owners()["bare"] == "group:default/x"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"owner": ""}, "Choose a group or a user"),
            ({"owner": "group:nobody"}, "There is no group:default/nobody"),
            ({"owner": "component:bare"}, "choose a group or a user"),
        ],
    )
    def test_what_is_wrong_is_said_beside_what_was_typed(
        self, editor: Client, given: dict[str, str], words: str
    ) -> None:
        carried = {"entities": " ".join(uids("bare")), "action": "preview", "reason": "because"}
        shown = html(editor.post(PAGE, carried | given), 422)
        assert words in shown
        assert f'value="{given["owner"]}"' in shown
        assert 'value="because"' in shown

    def test_too_many_are_refused_with_a_way_on(
        self, editor: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("catalog.services.bulk_plans.MOST", 2)
        said = text(editor.get(PAGE, {"q": "kind:component"}), 422)
        assert "5 match, and at most 2 are changed at once" in said
        assert "At most 2 things at once" in text(
            editor.post(PAGE, {"entities": " ".join(uids("bare", "empty", "same")), "owner": CREW}), 422
        )

    @pytest.mark.parametrize(
        "given",
        [
            {"action": "selected"},
            {"entities": "nonsense"},
            {"entity": ["x", "00000000-0000-4000-8000-000000000000"]},
        ],
    )
    def test_nothing_selected_leads_back(self, editor: Client, given: dict[str, Any]) -> None:
        answer = editor.post(PAGE, given | {"q": "kind:component"}, follow=True)
        assert "Nothing is selected" in text(answer)

    def test_a_wrong_query_is_said(self, editor: Client) -> None:
        assert editor.get(PAGE, {"q": "nonsense:("}).status_code == 422

    def test_of_one_thing_from_its_own_page_and_back(
        self, editor: Client, browse: Callable[[User], Client], vic: User
    ) -> None:
        here = "/catalog/default/component/bare"
        (url,) = re.findall(r'href="(/catalog/owners[^"]*)"', html(editor.get(here)))
        shown = html(editor.get(url))
        assert "Of 1 entity" in shown
        carried = {"entities": hidden(shown, "entities"), "owner": CREW, "action": "preview"}
        mark = hidden(html(editor.post(PAGE, carried)), "mark")
        assert editor.post(PAGE, carried | {"action": "apply", "mark": mark})["Location"] == here
        assert owners()["bare"] == CREW
        assert "/catalog/owners" not in html(browse(vic).get("/catalog/default/component/empty"))


class TestWhoMay:
    def test_a_viewer_may_not(self, browse: Callable[[User], Client], vic: User) -> None:
        client = browse(vic)
        assert client.get(PAGE).status_code == 403
        assert client.post(PAGE, {"entities": " ".join(uids("bare")), "owner": CREW}).status_code == 403

    def test_only_what_a_grant_reaches_and_the_others_are_named(
        self, browse: Callable[[User], Client], cleo: User
    ) -> None:
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        client = browse(cleo)
        shown = html(client.post(PAGE, {"entity": uids("bare", "there"), "action": "selected"}))
        assert "Of 1 entity" in shown
        assert "bare" not in shown
        grant(role="viewer", user=cleo)
        carried = {"entities": " ".join(uids("bare", "there")), "owner": CREW}
        shown = html(client.post(PAGE, carried | {"action": "preview"}))
        said = " ".join(re.sub(r"<[^>]+>", " ", shown).split())
        assert re.search(r"Stays: you may not change it 1 entity .*?bare", said)
        assert "Set owner of 1 entity" in said
        client.post(PAGE, carried | {"action": "apply", "mark": hidden(shown, "mark")})
        assert (owners()["there"], owners()["bare"]) == (CREW, "")


class TestSuggestions:
    @pytest.fixture(autouse=True)
    def repository(self) -> None:
        spec = {
            "path": "bare",
            "topCommitters": ["Joe <joe@acme.example>", "Gone <gone@acme.example>", "odd"],
        }
        keys = ("repo:h.example/bare",)
        say(
            "connection:git/r",
            claim("repository:bare-code", spec | {"owner": "crew"}, rank=Rank.CONNECTION, keys=keys),
        )

    def test_of_the_repository_its_owner_and_who_commits_most(self, ben: User, editor: Client) -> None:
        found = suggested_owners(ben, Entity.objects.filter(kind="component"))
        assert [(one.entity.ref, one.count, one.is_committer) for one in found] == [
            (CREW, 1, False), ("user:default/joe", 1, True),
        ]  # fmt: skip
        shown = html(editor.get(PAGE, {"q": "kind:component -has:owner"}))
        assert f'name="suggested" value="{CREW}"' in shown
        given = {"entities": " ".join(uids("bare")), "suggested": "user:default/joe"}
        assert "Set owner of 1 entity" in text(editor.post(PAGE, given))
        assert owners()["bare"] == ""  # suggested, never written

    def test_not_for_what_is_owned_nor_of_what_may_not_be_seen(self, ben: User, cleo: User) -> None:
        assert suggested_owners(ben, Entity.objects.filter(name="filed")) == []
        assert suggested_owners(cleo, Entity.objects.filter(name="bare")) == []
