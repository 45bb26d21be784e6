"""Which one is you? The page that asks, the card that leads to it, and what administrators see of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access.models import User
from access.services import change_user, claim_person, create_user, grant, make_sign_in_link, tie_account
from catalog.models import Entity
from tests.cast import PASSWORD
from tests.catalog.saying import claim, say
from tests.portal.test_settings_pages import text_of

WHO = "/settings/who"


@pytest.fixture(autouse=True)
def _core(core_pack: None) -> None:
    """Kinds, pages and roles."""


@pytest.fixture
def vlind() -> Entity:
    say(
        "yaml:a",
        claim(
            "user:vlind",
            {"profile": {"displayName": "V. Lind", "email": "v.lind@corp.example"}, "memberOf": []},
            metadata={"title": "V. Lind"},
        ),
        claim("user:zoe", {"profile": {"displayName": "Zoe"}, "memberOf": []}, metadata={"title": "Zoe"}),
        claim("component:pay", {"type": "service", "lifecycle": "production", "owner": "user:vlind"}),
    )
    return Entity.objects.get(ref="user:default/vlind")


def test_one_says_who_one_is_an_administrator_confirms_and_mine_follows(
    browse: Callable[[User], Client], vic: User, ana: User, vlind: Entity
) -> None:
    client, admin = browse(vic), browse(ana)
    assert "Which one is you?" in text_of(client.get("/"))
    assert "Which one is you in the catalog?" in text_of(client.get("/settings"))
    page = client.get(f"{WHO}?q=LIND")
    assert "v.lind@corp.example" in text_of(page)
    assert "Zoe" not in text_of(page).partition("Find by")[2]
    assert f'value="{vlind.uid}"' in page.content.decode()
    assert client.post(WHO, {"entity": vlind.uid})["Location"] == WHO
    assert "You said that you are V. Lind" in text_of(client.get(WHO))
    assert "Which one is you?" not in text_of(client.get("/"))
    assert "My services" not in text_of(client.get("/"))
    assert "1 person says who they are" in text_of(admin.get("/"))
    words = text_of(admin.get("/settings/access"))
    assert re.search(r"Vic Lind says to be .{0,20}V\. Lind", words)
    admin.post("/settings/access", {"action": "confirm", "user": vic.pk})
    assert re.search(r"In the catalog you are .{0,20}V\. Lind", text_of(client.get(WHO)))
    assert "My services" in text_of(client.get("/"))
    assert "1 person says" not in text_of(admin.get("/"))


def test_it_is_taken_back_or_declined(
    browse: Callable[[User], Client], vic: User, ana: User, vlind: Entity
) -> None:
    client = browse(vic)
    client.post(WHO, {"entity": vlind.uid})
    client.post(WHO, {"action": "withdraw"})
    vic.refresh_from_db()
    assert vic.claimed_entity_uid is None
    client.post(WHO, {"entity": vlind.uid})
    browse(ana).post("/settings/access", {"action": "decline", "user": vic.pk})
    vic.refresh_from_db()
    assert (vic.entity_uid, vic.claimed_entity_uid) == (None, None)


def test_a_verified_address_needs_one_click_at_most(
    browse: Callable[[User], Client], vic: User, ana: User, vlind: Entity
) -> None:
    client = browse(vic)
    change_user(vic, email="V.Lind@corp.example", by=ana)
    assert re.search(r"Is this you\? .{0,20}V\. Lind", text_of(client.get("/")))
    assert client.post(WHO, {"entity": vlind.uid})["Location"] == "/"
    vic.refresh_from_db()
    assert vic.entity_uid == vlind.uid


@pytest.mark.usefixtures("fresh_cache")
def test_signing_in_ties_by_itself(vic: User, ana: User, vlind: Entity) -> None:
    change_user(vic, email="v.lind@corp.example", by=ana)
    Client().post("/sign-in", {"username": "vic", "password": PASSWORD})
    vic.refresh_from_db()
    assert vic.entity_uid == vlind.uid


def test_so_does_a_link(ana: User, vlind: Entity) -> None:
    user = create_user(username="v", email="v.lind@corp.example")
    words = {"name": "V", "password": "four words of rain", "again": "four words of rain"}
    Client().post(f"/sign-in/{make_sign_in_link(user)}", words)
    user.refresh_from_db()
    assert user.entity_uid == vlind.uid


def test_the_likely_come_first_and_who_is_taken_cannot_be_chosen(
    browse: Callable[[User], Client], vic: User, ben: User, vlind: Entity
) -> None:
    change_user(vic, name="Zoe", by=vic)
    client = browse(vic)
    words = text_of(client.get(WHO))
    assert words.index("Zoe user:default/zoe") < words.index("v.lind@corp.example")
    tie_account(ben, entity_uid=vlind.uid)
    assert "another account" in text_of(client.get(WHO))
    answer = client.post(WHO, {"entity": vlind.uid})
    assert answer.status_code == 422
    assert "Another account is user:default/vlind" in text_of(answer)


def test_one_finds_only_the_people_that_one_may_see(
    browse: Callable[[User], Client], cleo: User, vlind: Entity
) -> None:
    client = browse(cleo)
    assert "No people in the catalog yet" in text_of(client.get(WHO))
    assert "v.lind" not in text_of(client.get(f"{WHO}?q=v.lind@corp.example"))
    assert client.post(WHO, {"entity": vlind.uid}).status_code == 422
    cleo.refresh_from_db()
    assert cleo.claimed_entity_uid is None


@pytest.mark.parametrize("entity", ["", "nonsense", "00000000-0000-4000-8000-000000000000"])
def test_who_is_not_there_is_nobody(
    browse: Callable[[User], Client], vic: User, vlind: Entity, entity: str
) -> None:
    assert browse(vic).post(WHO, {"entity": entity}).status_code == 422


def test_only_who_may_change_accounts_confirms(
    browse: Callable[[User], Client], vic: User, ben: User, vlind: Entity
) -> None:
    browse(vic).post(WHO, {"entity": vlind.uid})
    grant(role="viewer", user=ben)
    assert browse(ben).post("/settings/access", {"action": "confirm", "user": vic.pk}).status_code == 403
    assert "says who they are" not in text_of(browse(ben).get("/"))
    vic.refresh_from_db()
    assert vic.entity_uid is None


def test_however_many_people_are_shown_the_questions_are_as_many(
    browse: Callable[[User], Client], vic: User, vlind: Entity
) -> None:
    client = browse(vic)

    def questions() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(WHO)
        return len(asked)

    questions()  # the first time something is looked up once for all
    few = questions()
    say("yaml:b", *(claim(f"user:person-{n}", {"profile": {}, "memberOf": []}) for n in range(15)))
    assert "person-14" in text_of(client.get(WHO))
    assert questions() == few


def test_however_many_claims_are_listed_the_questions_are_as_many(
    client: Client, as_token: Callable[..., dict[str, str]], vic: User, ben: User, ana: User, vlind: Entity
) -> None:
    headers = as_token(ana)

    def listed() -> tuple[list[str], int]:
        with CaptureQueriesContext(connection) as asked:
            answer = client.get("/api/v1/person-claims/", headers=headers)
        return [row["entity"] for row in answer.json()["results"]], len(asked)

    claim_person(vic, entity_uid=vlind.uid, by=vic)
    listed()  # the first time something is looked up once for all
    one, few = listed()
    claim_person(ben, entity_uid=vlind.uid, by=ben)
    assert one == [vlind.ref]
    assert listed() == ([vlind.ref, vlind.ref], few)


def test_a_program_says_and_settles_the_same(
    client: Client, as_token: Callable[..., dict[str, str]], vic: User, ana: User, vlind: Entity
) -> None:
    def send(method: str, path: str, user: User, data: object = None) -> tuple[int, object]:
        body = {} if data is None else {"data": data, "content_type": "application/json"}
        answer = getattr(client, method)(f"/api/v1/{path}", headers=as_token(user), **body)
        return answer.status_code, answer.json() if answer.content else None

    me, ref = {"entity": vlind.ref}, vlind.ref
    assert send("put", "me/person/", vic, me) == (200, {"entity": None, "claimed": ref})
    listed = send("get", "person-claims/", ana)[1]
    assert [(row["username"], row["entity"]) for row in listed["results"]] == [("vic", ref)]  # type: ignore[index]
    assert send("delete", "me/person/", vic)[0] == 204
    assert send("post", "person-claims/vic/", ana)[0] == 404
    send("put", "me/person/", vic, me)
    assert send("delete", "person-claims/vic/", ana)[0] == 204
    send("put", "me/person/", vic, me)
    assert send("post", "person-claims/vic/", vic)[0] == 403
    assert send("post", "person-claims/vic/", ana) == (200, {"entity": ref, "claimed": None})
    assert send("get", "me/person/", vic) == (200, {"entity": ref, "claimed": None})
    assert send("put", "users/ana/person/", ana, me)[0] == 422  # who is somebody already
    assert send("delete", "users/vic/person/", ana)[0] == 204
    assert send("put", "users/ana/person/", ana, {"entity": "component:default/pay"})[0] == 422
    assert send("put", "users/ana/person/", ana, me) == (200, {"entity": ref, "claimed": None})
    assert send("put", "users/ana/person/", vic, me)[0] == 403
