"""Owners in bulk, and what names mean, through the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.test import Client

from access.models import User
from access.services import grant
from catalog.models import Alias, Entity
from tests.catalog.saying import claim, component, entity, say

pytestmark = pytest.mark.django_db

OWNERS, NAMES = "/api/v1/entities/owners/", "/api/v1/names/"
PAY, CREW, NAME = "component:default/pay", "group:default/crew", "group:default/pay-team"


@pytest.fixture(autouse=True)
def things(core_pack: None) -> None:
    say(
        "yaml:a",
        claim("component:pay", {"type": "x"}),
        component("ledger", owner="pay-team"),
        claim("component:elsewhere/there", {"type": "x"}),
        claim("group:crew", {"type": "team", "children": []}),
    )


@pytest.fixture
def api(client: Client, as_token: Callable[..., dict[str, str]]) -> Callable[..., Any]:
    def call(user: User, method: str, url: str, data: Any = None) -> Any:
        headers = as_token(user)
        return client.generic(
            method, url, *([_json(data), "application/json"] if data else []), headers=headers
        )

    return call


def _json(data: Any) -> bytes:
    return orjson.dumps(data)


def owners() -> dict[str, str]:
    return dict(Entity.objects.filter(kind="component").values_list("name", "owner"))


@pytest.mark.parametrize(
    "which", [{"entities": [PAY, "component:default/ledger", CREW]}, {"q": "namespace:default"}]
)
def test_previewed_and_set(api: Any, ben: User, which: dict[str, Any]) -> None:
    given = which | {"owner": CREW, "reason": "moved"}
    answer = api(ben, "POST", f"{OWNERS}?dry_run=1", given)
    assert answer.status_code == 200, answer.content
    assert answer.json()["changed"] == 2
    assert {row["ref"]: (row["outcome"], row["before"]) for row in answer.json()["results"]} == {
        PAY: ("set", ""),
        "component:default/ledger": ("override", NAME),
        CREW: ("unfit", ""),
    }
    assert owners()["pay"] == ""
    assert api(ben, "POST", OWNERS, given).json()["changed"] == 2
    assert owners() == {"pay": CREW, "ledger": CREW, "there": ""}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"owner": CREW}, "entities"),
        ({"owner": CREW, "q": "kind:component", "entities": [PAY]}, "entities"),
        ({"owner": "group:default/nobody", "entities": [PAY]}, "owner"),
        ({"owner": PAY, "entities": [PAY]}, "group or a user"),
        ({"owner": CREW, "entities": ["component:default/nobody"]}, "entities"),
        ({"entities": [PAY]}, "owner"),
        ({"owner": CREW, "q": "nonsense:("}, ""),
    ],
)
def test_what_is_wrong_is_said(api: Any, ben: User, given: dict[str, Any], field: str) -> None:
    answer = api(ben, "POST", OWNERS, given)
    assert answer.status_code in {400, 422}, answer.content
    assert field in answer.content.decode()
    assert set(owners().values()) == {"", NAME}


def test_more_than_the_limit_is_refused(api: Any, ben: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.services.bulk_plans.MOST", 1)
    answer = api(ben, "POST", OWNERS, {"q": "kind:component", "owner": CREW})
    assert answer.status_code == 422
    assert "At most 1 things" in answer.content.decode()


def test_as_far_as_a_grant_reaches(api: Any, vic: User, cleo: User) -> None:
    assert api(vic, "POST", OWNERS, {"entities": [PAY], "owner": CREW}).status_code == 403
    grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
    assert api(cleo, "POST", OWNERS, {"entities": [PAY], "owner": CREW}).status_code == 422
    grant(role="viewer", user=cleo)
    answer = api(cleo, "POST", OWNERS, {"q": "kind:component", "owner": CREW})
    assert {row["ref"].rpartition("/")[2]: row["outcome"] for row in answer.json()["results"]} == {
        "pay": "forbidden", "ledger": "forbidden", "there": "set",
    }  # fmt: skip
    assert owners() == {"pay": "", "ledger": NAME, "there": CREW}


def test_a_name_is_mapped_listed_and_taken_back(api: Any, ben: User, vic: User, cleo: User) -> None:
    answer = api(ben, "POST", NAMES, {"ref": NAME, "target": CREW, "reason": "renamed"})
    assert (answer.status_code, answer.json()["target"]) == (201, CREW)
    assert entity("component:default/ledger").owner == CREW
    assert [row["ref"] for row in api(vic, "GET", NAMES).json()["results"]] == [NAME]
    assert api(cleo, "GET", NAMES).json()["results"] == []
    url = f"{NAMES}default/group/pay-team/"
    assert api(vic, "DELETE", url).status_code == 403
    assert api(ben, "DELETE", url).status_code == 204
    assert api(ben, "DELETE", url).status_code == 404
    assert not Alias.objects.exists()
    assert api(vic, "POST", NAMES, {"ref": NAME, "target": CREW}).status_code == 403
    assert api(ben, "POST", NAMES, {"ref": CREW, "target": CREW}).status_code == 409
