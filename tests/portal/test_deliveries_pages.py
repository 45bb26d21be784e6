"""Deliveries in the browser: where they go, what came, what was given up, and taking it in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import Role, User
from access.secrets import read_secrets
from access.services import grant
from catalog.models import Entity
from integrations.models import Connection, Delivery
from integrations.services.connections import OWNER
from integrations.services.deliveries import process_deliveries
from tests.integrations.tool import Tool
from tests.portal.test_operations_pages import words

pytestmark = pytest.mark.django_db
PAGE = "/connections/farm/deliveries"


@pytest.fixture
def farm(tool: Tool, connect: Callable[..., Connection]) -> Connection:
    """A connection to which one good delivery and one bad one came."""
    connection = connect(slug="farm", config={"webhook_secret": "s"})
    for id, body in (("good", b'[{"repository": {"number": 1}}]'), ("bad", b"{ <script>alert(1)</script>")):
        Delivery.objects.create(
            connection=connection,
            digest=id,
            delivery_id=id,
            event="push",
            body=body,
            received_at=timezone.now(),
        )
    process_deliveries(connection_id=connection.pk)
    return connection


@pytest.fixture
def admin(browse: Callable[[User], Client], ana: User) -> Client:
    return browse(ana)


def test_the_list_says_where_the_tool_delivers_and_what_came(
    farm: Connection, admin: Client, settings: Any
) -> None:
    settings.PORTICO_URL = "https://portal.example"
    page = words(admin.get(PAGE))
    assert "https://portal.example/hooks/farm" in page
    assert "1 delivery was given up." in page
    assert "The delivery is no JSON" in page
    only = words(admin.get(f"{PAGE}?state=done"))
    assert "good" in only
    assert "The delivery is no JSON" not in only


@pytest.mark.parametrize("depth", [300, 5_000])
def test_what_is_nested_deep_is_shown_as_it_came(farm: Connection, admin: Client, depth: int) -> None:
    row = Delivery.objects.get(delivery_id="good")
    Delivery.objects.update(body=b"[" * depth + b"]" * depth)
    assert "[" * depth in words(admin.get(f"{PAGE}/{row.pk}"))


def test_without_a_secret_it_says_so(farm: Connection, admin: Client, connect: Any) -> None:
    connect(slug="quiet")
    page = words(admin.get("/connections/quiet/deliveries"))
    assert "once there is a secret" in page
    assert "Enter one" in page
    assert "Set up deliveries" in words(admin.get("/connections/quiet"))


def test_a_secret_is_made_and_shown_once_and_proves_deliveries(admin: Client, connect: Any) -> None:
    quiet = connect(slug="quiet")
    page = admin.post("/connections/quiet/deliveries/secret", follow=True)
    made = read_secrets(owner_type=OWNER, owner_uid=str(quiet.uid))["webhook_secret"]
    assert len(made) > 40
    assert made in words(page)
    assert "no-store" in page["Cache-Control"]
    # What asks for the page again would take the secret away.
    assert "hx-trigger" not in page.content.decode().partition('id="main"')[2]
    again = words(admin.get("/connections/quiet/deliveries"))
    assert made not in again
    assert "Make a new secret" in again
    assert "What is new comes at once" in words(admin.get("/connections/quiet"))
    admin.post("/connections/quiet/deliveries/secret")
    assert read_secrets(owner_type=OWNER, owner_uid=str(quiet.uid))["webhook_secret"] != made


def test_one_shows_its_words_and_they_are_inert(farm: Connection, admin: Client) -> None:
    answer = admin.get(f"{PAGE}/{Delivery.objects.get(delivery_id='bad').pk}")
    assert "Given up" in words(answer)
    assert "<script>alert(1)" not in answer.content.decode()
    assert admin.get(f"{PAGE}/999999").status_code == 404


@pytest.mark.parametrize("scope", [{}, {"scope_type": "namespace", "scope": "default"}], ids=["all", "one"])
def test_its_words_are_for_those_who_may_read_all_of_the_tools(
    farm: Connection, browse: Callable[[User], Client], no_access: User, scope: dict[str, str]
) -> None:
    """Nobody knows whose namespace it tells of."""
    for name, verbs, where in (
        ("connects", ["connection.read", "connection.write"], {}),
        ("reads", ["raw.read"], scope),
    ):
        spec = {"title": name, "description": "", "verbs": verbs}
        grant(role=Role.objects.create(name=name, spec=spec), user=no_access, **where)
    client, row = browse(no_access), Delivery.objects.get(delivery_id="good")
    assert ("number" in words(client.get(f"{PAGE}/{row.pk}"))) is (scope == {})
    told = client.get(f"/api/v1{PAGE}/{row.pk}/").json()["body"]
    assert told == (bytes(row.body).decode() if scope == {} else None)


def test_what_was_given_up_is_taken_in_again(farm: Connection, admin: Client) -> None:
    row = Delivery.objects.get(delivery_id="bad")
    Delivery.objects.update(body=b'[{"repository": {"number": 2}}]')
    answer = admin.post(f"{PAGE}/replay", {"delivery": row.pk}, follow=True)
    assert "1 delivery is taken in again." in words(answer)
    process_deliveries(connection_id=farm.pk)
    assert Entity.objects.filter(name="acme-r2", deleted_at=None).exists()
    assert admin.post(f"{PAGE}/replay", {"delivery": row.pk}).status_code == 409
    assert admin.post(f"{PAGE}/replay", {"delivery": "x"}).status_code == 404
    assert admin.post(f"{PAGE}/replay").status_code == 409


@pytest.mark.parametrize("who", ["ben", "vic", "cleo"])
def test_it_is_for_administrators(
    farm: Connection, browse: Callable[[User], Client], who: str, request: pytest.FixtureRequest
) -> None:
    client = browse(request.getfixturevalue(who))
    asked = (
        client.get(PAGE),
        client.get(f"{PAGE}/1"),
        client.post(f"{PAGE}/replay"),
        client.post(f"{PAGE}/secret"),
    )
    for answer in asked:
        assert answer.status_code in {403, 404}
    assert "Deliveries" not in words(client.get("/connections/farm"))
