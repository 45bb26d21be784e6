"""Merging and parting two entities in the browser and by the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from catalog.models import Redirect
from tests.catalog.saying import claim, entity, say

pytestmark = pytest.mark.django_db

ONE, OTHER = "repository:default/one", "repository:default/other"
HERE = "/catalog/default/repository/other"
API = "/api/v1/entities/default/repository"


@pytest.fixture(autouse=True)
def two(core_pack: None) -> None:
    for name, who in (("one", "connection:a/r"), ("other", "connection:b/r")):
        say(who, claim(f"repository:{name}", {}, rank=3, keys=(f"repo:h.example/{name}",)))
    say("connection:b/r", claim("repository:other", {}, rank=3, keys=("repo:h.example/one",), minute=1))


@pytest.fixture
def editor(client: Client, ben: Any) -> Client:
    client.force_login(ben)
    return client


def test_the_problem_leads_there_and_the_page_offers_what_is_alike(editor: Client) -> None:
    assert f'href="{HERE}/merge"' in editor.get(f"{HERE}?tab=problems").content.decode()
    page = editor.get(f"{HERE}/merge").content.decode()
    assert f'name="alike" value="{ONE}"' in page


@pytest.mark.parametrize(
    "given", [{"alike": ONE, "into": ""}, {"into": ONE}, {"into": "one", "reason": "moved"}]
)
def test_merged_and_parted(editor: Client, given: dict[str, str]) -> None:
    uid = entity(OTHER).uid
    answer = editor.post(f"{HERE}/merge", given, follow=True)
    assert answer.redirect_chain[-1][0] == "/catalog/default/repository/one/merge"
    assert f'name="part" value="{OTHER}"' in answer.content.decode()
    assert editor.get(HERE, follow=True).redirect_chain == [("/catalog/default/repository/one", 302)]
    answer = editor.post("/catalog/default/repository/one/merge", {"part": OTHER})
    assert (answer.status_code, answer["Location"]) == (302, HERE)
    assert (entity(OTHER).uid, entity(OTHER).is_alive) == (uid, True)


@pytest.mark.parametrize(
    ("into", "words"),
    [("", "no reference"), (OTHER, "itself"), ("nope", "There is no"), ("group:x", "There is no")],
)
def test_what_cannot_be_merged_is_said_beside_what_was_typed(editor: Client, into: str, words: str) -> None:
    answer = editor.post(f"{HERE}/merge", {"into": into})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert f'value="{into}"' in answer.content.decode()


def test_a_viewer_may_not(client: Client, vic: Any) -> None:
    client.force_login(vic)
    assert client.get(f"{HERE}/merge").status_code == 403
    assert client.post(f"{HERE}/merge", {"into": ONE}).status_code == 403
    assert "merge" not in client.get(f"{HERE}?tab=problems").content.decode().lower().replace("merged", "")
    assert (
        client.post(f"{API}/other/merge/", {"into": ONE}, content_type="application/json").status_code == 403
    )
    assert not Redirect.objects.exists()


def test_by_the_api(editor: Client) -> None:
    uid = entity(OTHER).uid
    answer = editor.post(
        f"{API}/other/merge/", {"into": ONE, "reason": "moved"}, content_type="application/json"
    )
    assert (answer.status_code, answer.json()["metadata"]["name"]) == (200, "one")
    assert editor.get(f"/api/v1/entities/{uid}/").json()["metadata"]["name"] == "one"
    assert editor.get(f"{API}/other/").json()["metadata"]["name"] == "one"
    again = editor.post(f"{API}/other/merge/", {"into": ONE}, content_type="application/json")
    assert again.status_code == 422
    assert editor.delete(f"{API}/other/merge/").status_code == 204
    assert editor.get(f"{API}/other/").json()["metadata"]["name"] == "other"
    assert editor.delete(f"{API}/other/merge/").status_code == 404
