"""`/api/v1/search`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access.models import User
from tests.catalog.judged.company import found_up

Ask = Callable[..., Any]


@pytest.fixture
def ask(core_pack: None, client: Client, vic: User, as_token: Callable[..., dict[str, str]]) -> Ask:
    found_up(noise=0)
    headers = as_token(vic)

    def get(status: int = 200, **params: Any) -> Any:
        answer = client.get("/api/v1/search", params, headers=headers)
        assert answer.status_code == status, answer.content
        return answer.json()

    return get


def test_the_best_hits_of_all_sorts(ask: Ask) -> None:
    answer = ask(q="refund a charge")
    first = answer["results"][0]
    assert first["sort"] == "operation"
    assert (first["ref"], first["key"]) == ("api:default/payments", "POST /charges/{chargeId}/refunds")
    assert [first["title"][a:b] for a, b in first["highlight"]["title"]] == ["Refund", "charge"]
    assert answer["counts"]["sorts"]["operation"] >= 1
    assert (answer["meant"], answer["is_partly"], answer["previous"]) == ({}, False, None)
    happened = ask(q="passkeys")["results"][0]
    assert happened["sort"] == "activity"
    assert happened["id"]
    assert happened["at"].startswith("20")
    assert ask(q="")["results"] == []


def test_one_walks_through_the_pages(ask: Ask, client: Client, vic: User, as_token: Any) -> None:
    answer = ask(q="the", limit=3)
    total, found = answer["total"], list(answer["results"])
    assert total > 6
    while answer["next"]:
        answer = client.get(answer["next"], headers=as_token(vic)).json()
        found += answer["results"]
    assert len(found) == total
    assert len({(hit["sort"], hit["ref"], hit["key"], hit["id"]) for hit in found}) == total
    assert answer["previous"]


def test_sorts_kinds_and_fields(ask: Ask) -> None:
    assert {hit["sort"] for hit in ask(q="crane", sort="page,activity")["results"]} == {"page", "activity"}
    assert {hit["ref"].partition(":")[0] for hit in ask(q="container", kind="api")["results"]} == {"api"}
    assert ask(q="pay", limit=1, fields="ref,title")["results"] == [
        {"ref": "component:default/pay", "title": "Pay"}
    ]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"sort": "everything"}, "`sort` is one of entity, operation, page, activity"),
        ({"limit": "0"}, "`limit` is a number from 1 to 100"),
        ({"cursor": "x"}, "`cursor` is a number"),
        ({"kind": "unicorn"}, "There is no kind “unicorn”"),
    ],
)
def test_what_is_wrong_is_named(ask: Ask, params: dict[str, str], says: str) -> None:
    assert says in ask(400, q="pay", **params)["detail"]


def test_nobody_searches_without_signing_in(ask: Ask, client: Client) -> None:
    assert client.get("/api/v1/search", {"q": "pay"}).status_code == 401


def test_what_has_not_changed_is_not_sent_again(ask: Ask, client: Client, vic: User, as_token: Any) -> None:
    headers = as_token(vic)
    first = client.get("/api/v1/search", {"q": "pay"}, headers=headers)
    again = client.get("/api/v1/search", {"q": "pay"}, headers={**headers, "If-None-Match": first["ETag"]})
    assert again.status_code == 304
