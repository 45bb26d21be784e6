"""What may stand behind the `?` of an address of the API: what its description says, and nothing else."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.test import Client, override_settings
from django.urls import resolve

from access.models import User
from base import openapi
from base.openapi import parameters_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture
def admin(ana: User) -> Client:
    client = Client()
    client.force_login(ana)
    return client


@pytest.mark.parametrize(
    ("path", "has", "others"),
    [
        ("entities/", "order=name", "ordr=name"),
        ("activity/", "status=failed", "statuss=failed"),
        ("ties/", "state=auto", "status=auto"),
        ("users/", "q=ana", "query=ana"),
        ("pages/home/", "fields=name", "limit=3"),
        ("feed", "limit=3", "cursor=x"),
    ],
)
def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(
    admin: Client, path: str, has: str, others: str
) -> None:
    assert admin.get(f"/api/v1/{path}?{has}").status_code == 200
    answer = admin.get(f"/api/v1/{path}?{has}&{others}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert [error["path"] for error in answer.json()["errors"]] == [others.partition("=")[0]]
    assert has.partition("=")[0] in answer.json()["detail"]


def test_writing_routes_have_theirs(admin: Client) -> None:
    def post(query: str) -> int:
        return admin.post(f"/api/v1/entities/?{query}", [], content_type="application/json").status_code

    assert (post("dry_run=1"), post("dry_run=True"), post("dry_run=0"), post("dry-run=1")) == (
        200,
        200,
        200,
        400,
    )
    assert post("dry_run=ja") == 400  # and writes nothing, for that is what was meant


def test_a_page_takes_what_it_is_given(admin: Client) -> None:
    assert admin.get("/?from=elsewhere").status_code == 200
    assert admin.get("/api/v1/schema/?format=json").status_code == 200


def test_every_kind_of_route_is_found_in_the_description() -> None:
    for path, method in (
        ("entities/default/component/pay/history/", "HEAD"),
        ("grants/7/", "DELETE"),
        ("users/ana/", "PATCH"),
        ("audit/", "GET"),
    ):
        assert parameters_of(resolve(f"/api/v1/{path}").route, method) is not None


def test_each_set_of_routes_has_its_own() -> None:
    own, whole = "pages/<str:name>/", "api/v1/pages/<str:name>/"
    for _time in range(2):  # also of what was asked before
        assert (parameters_of(own, "GET"), parameters_of(whole, "HEAD")) == (None, {"fields"})
        with override_settings(ROOT_URLCONF="portal.api.urls"):
            assert (parameters_of(own, "GET"), parameters_of(whole, "HEAD")) == ({"fields"}, None)


def test_the_first_requests_at_once_do_not_describe_the_api_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, together = [0], []

    class Slow:
        def __init__(self, urlconf: str) -> None:
            self.urlconf = urlconf

        def get_schema(self, **_more: object) -> dict[str, object]:
            running[0] += 1
            together.append(running[0])
            time.sleep(0.05)
            running[0] -= 1
            return {"paths": {}}

    monkeypatch.setattr(openapi, "SchemaGenerator", Slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _n: openapi._described.__wrapped__("portal.urls"), range(4)))
    assert found == [{}] * 4
    assert together == [1, 1, 1, 1]
