"""`/api/v1/pages/`: pages are read, composed and taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access.models import AuditEvent, User
from portal.models import Page

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

SPEC = {
    "slot": "home",
    "title": "Ours",
    "tabs": [{"widgets": [{"id": "problems", "type": "problem-list", "config": {"rows": 5}}]}],
}
Api = Callable[..., Any]


@pytest.fixture
def api(
    client: Client,
    ana: User,
    as_token: Callable[..., dict[str, str]],
    django_capture_on_commit_callbacks: Any,
) -> Api:
    """Send JSON as an administrator: `api("get", path, data, headers)`."""
    token = as_token(ana)

    def send(method: str, path: str, data: Any = None, **headers: str) -> Any:
        body = {} if data is None else {"data": data, "content_type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with django_capture_on_commit_callbacks(execute=True):
            return getattr(client, method)(f"/api/v1/pages/{path}", headers=token | given, **body)

    return send


def test_what_ships_is_listed_with_its_slot(api: Api) -> None:
    found = api("get", "?slot=home,list").json()
    assert {(page["name"], page["slot"], page["pack"], page["is_edited"]) for page in found["results"]} == {
        ("home", "home", "core", False),
        ("list", "list", "core", False),
    }
    assert found["total"] == 2


def test_a_page_is_composed_shown_and_taken_back(api: Api, client: Client, ana: User) -> None:
    before = api("get", "home/")
    made = api("put", "home/", {"spec": SPEC}, If_Match=before.headers["ETag"])
    assert made.status_code == 200, made.content
    assert (made.json()["spec"], made.json()["is_edited"], made.json()["pack"]) == (SPEC, True, "core")
    assert made.json()["updated_by"] == ana.label
    client.force_login(ana)
    assert b"Ours" in client.get("/").content
    assert AuditEvent.objects.filter(verb="page.write", subject_label="Page home").count() == 1

    stale = api("put", "home/", {"spec": SPEC}, If_Match=before.headers["ETag"])
    assert (stale.status_code, stale.json()["code"]) == (412, "stale-definition")
    assert stale.json()["current"] == api("get", "home/").headers["ETag"].split("+")[0] + '"'

    assert api("delete", "home/", If_Match=made.headers["ETag"]).status_code == 204
    after = api("get", "home/").json()
    assert (after["spec"], after["is_edited"]) == (before.json()["spec"], False)
    assert b"Ours" not in client.get("/").content


def test_what_is_not_there_is_not_taken_back(api: Api) -> None:
    answer = api("delete", "nothing/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_a_page_of_a_pack_that_is_loaded_no_more_goes(api: Api) -> None:
    Page.objects.create(name="theirs", pack="gone-pack", spec=SPEC, pristine=SPEC)
    assert api("delete", "theirs/").status_code == 204
    assert not Page.objects.filter(name="theirs").exists()


def test_a_page_of_ones_own_goes_when_it_is_taken_back(api: Api) -> None:
    assert api("put", "ours/", {"spec": SPEC}).json()["pack"] == ""
    assert api("delete", "ours/").status_code == 204
    assert not Page.objects.filter(name="ours").exists()


@pytest.mark.parametrize(
    ("name", "spec", "where"),
    [
        ("Our Page", SPEC, "/metadata/name"),
        ("ours%0A", SPEC, "/metadata/name"),
        ("ours", {**SPEC, "slot": "cellar"}, "/spec/slot"),
        ("ours", {**SPEC, "tabs": []}, "/spec/tabs"),
        ("ours", {**SPEC, "colour": "red"}, "/spec/colour"),
    ],
)
def test_a_wrong_page_is_refused_with_the_place(api: Api, name: str, spec: Any, where: str) -> None:
    answer = api("put", f"{name}/", {"spec": spec})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
    assert where in [error["path"] for error in answer.json()["errors"]]
    assert not Page.objects.filter(name__in=["Our Page", "ours", "ours\n"]).exists()
