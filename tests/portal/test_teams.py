"""The page of a team: its members, what it owns, what of that fails, and the teams around it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from access.models import User
from access.services import grant
from catalog.models import Entity
from catalog.queries import dependences
from tests.catalog.saying import claim, component, say
from tests.portal.test_home import card

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

PAGE = "/catalog/default/group/payments"
PAYMENTS, MONEY = "group:default/payments", "group:default/money"


@pytest.fixture(autouse=True)
def teams(core_pack: None) -> None:
    teams = [
        claim(f"group:{name}", {"type": "team", "children": []}) for name in ("payments", "money", "shop")
    ]
    say(
        "yaml:a",
        *teams,
        claim("user:vera", {"memberOf": ["payments"]}, metadata={"title": "Vera Lind"}),
        component(
            "pay", owner="payments", dependsOn=["component:ledger", "component:books", "component:own"]
        ),
        component("own", owner="payments", dependsOn=["component:ledger"], consumesApis=["rates"]),
        component("ledger", owner="money"),
        component("books", owner="money"),
        claim(
            "api:rates", {"type": "openapi", "lifecycle": "production", "owner": "money", "definition": "x"}
        ),
        component("cart", owner="shop", dependsOn=["component:pay"]),
        claim("component:stray", {"type": "x", "dependsOn": ["component:pay", "component:gone"]}),
    )


@pytest.fixture
def viewer(browse: Callable[[User], Client], vic: User) -> Client:
    return browse(vic)


def test_it_names_members_and_the_teams_around_it_with_counts(viewer: Client) -> None:
    assert "Vera Lind" in card(viewer, "members", PAGE)
    on = card(viewer, "depends-on", PAGE)
    assert "[/catalog/default/group/money] MO money books, ledger, rates 2 on 3" in on
    assert "1 team" in on
    by = card(viewer, "dependents", PAGE)
    assert "[/catalog/default/group/shop] SH shop cart 1 on 1" in by
    assert "No owner stray 1 on 1" in by
    assert card(viewer, "depends-on", "/catalog/default/group/money") == ""
    assert "own, pay 2 on 3" in card(viewer, "dependents", "/catalog/default/group/money")


def test_what_fails_is_a_card_of_its_own_and_first_of_what_it_owns(viewer: Client) -> None:
    assert card(viewer, "failing", PAGE) == ""
    quotes = {"type": "openapi", "lifecycle": "production", "owner": "payments", "definition": "x"}
    say("yaml:b", claim("api:quotes", quotes))
    Entity.objects.filter(name__in=["pay", "quotes"]).update(failing_since=timezone.now(), last_run="failed")
    failing = card(viewer, "failing", PAGE)
    assert "/component/pay" in failing
    assert "/component/own" not in failing
    assert "/api/quotes" not in failing  # as on the home page, it is components that fail
    assert (
        "[/catalog?q=owner%3Agroup%3Adefault%2Fpayments+kind%3Acomponent+is%3Afailing] Open as list"
        in failing
    )
    owns = card(viewer, "owns", PAGE)
    assert owns.index("/component/pay") < owns.index("/component/own")


def test_what_the_viewer_may_not_see_does_not_count(no_access: User) -> None:
    say("yaml:b", component("secret", owner="payments", dependsOn=["component:cart"]))
    grant(role="viewer", user=no_access, scope_type="query", scope="-name:secret -name:books -owner:shop")
    (one,) = dependences(no_access, PAYMENTS, incoming=False)
    assert (one.owner, one.ours, one.theirs, one.names) == (MONEY, 2, 2, ["ledger", "rates"])
    assert [row.owner for row in dependences(no_access, PAYMENTS, incoming=True)] == [""]
