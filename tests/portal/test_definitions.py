"""The Definition tab of an API: its operations, found by their words, safe whatever they say."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access.models import User
from catalog.definitions import kept
from tests.catalog.saying import claim, say
from tests.catalog.test_definitions import PETS, TestGraphQl

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

URL = "/catalog/default/api/pets"
TAB = f"{URL}?tab=definition"


@pytest.fixture(autouse=True)
def nothing_is_kept() -> None:
    cache.clear()


@pytest.fixture
def viewer(browse: Callable[[User], Client], vic: User) -> Client:
    return browse(vic)


def api(text: str, type_: str = "openapi") -> None:
    spec = {"type": type_, "lifecycle": "production", "owner": "team", "definition": text}
    say("yaml:a", claim("api:pets", spec))


def page(client: Client, url: str = TAB) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def ids(text: str) -> list[str]:
    return re.findall(r'<details id="op-([\w-]+)"', text)


def test_the_operations_stand_by_group_and_one_is_unfolded_when_asked_for(viewer: Client) -> None:
    api(PETS)
    shown = page(viewer)
    assert ids(shown) == [
        "post-shops",
        "get-pets-id",
        "delete-pets-id",
        "post-newpet",
        "object-pet",
        "object-place",
    ]
    said = words(shown)
    for part in (
        "OpenAPI 3.1.0",
        "https://{env}.acme.example",
        "apiKey",
        "4 operations, 2 types",
        "Deprecated",
    ):
        assert part in said
    assert "<em>about</em>" in shown  # a group's description is Markdown
    assert "ETag" not in said
    assert 'href="mailto:pets@acme.example"' in shown
    one = page(viewer, f"{TAB}&op=get-pets-id")
    assert 'id="op-get-pets-id" open' in page(viewer, f"{TAB}&op=GET+/pets/{{id}}")  # as a search knows it
    assert re.search(r'<details id="op-get-pets-id" open>', one)
    assert one.count('class="po-op"') == 1
    said = words(one)
    assert "id integer required · at least 1 Whose" in said
    for part in ("Answer 200 application/json", "ETag", "list of Pet", "As above: it contains itself."):
        assert part in said
    assert f'href="{URL}?tab=definition&amp;op=get-pets-id#op-get-pets-id"' in one


def test_what_is_not_there_is_said(viewer: Client) -> None:
    api(PETS)
    said = words(page(viewer, f"{TAB}&op=nothing"))
    assert "There is no operation “nothing” in this definition." in said
    assert "GET /pets/{id}" in said


def test_they_are_found_by_words_without_script(viewer: Client) -> None:
    api(PETS)
    shown = page(viewer, f"{TAB}&find=READPET+one")
    assert ids(shown) == ["get-pets-id"]
    assert "1 operation of 6" in words(shown)
    assert 'value="READPET one"' in shown
    assert "Nothing in this definition has these words." in words(page(viewer, f"{TAB}&find=zebra"))
    assert "<script>" not in page(viewer, f"{TAB}&find=<script>")


def test_many_operations_come_in_pages(viewer: Client) -> None:
    paths = "\n".join(
        f"  /thing/{n:04}: {{get: {{summary: Thing {n}, responses: {{}}}}}}" for n in range(260)
    )
    api(f"openapi: 3.0.0\npaths:\n{paths}\n")
    shown = page(viewer)
    assert len(ids(shown)) == 100
    assert "1-100 of 260" in words(shown)
    last = page(viewer, f"{TAB}&start=200")
    assert ids(last)[0] == "get-thing-0200"
    assert len(ids(last)) == 60
    for far in (f"{TAB}&op=get-thing-0150", f"{TAB}&op=get-thing-0150&start=0"):
        assert ids(page(viewer, far))[0] == "get-thing-0100"
    for odd in ("9999999999999999999999", "-1", "x", "99999"):
        assert ids(page(viewer, f"{TAB}&start={odd}"))[0] == "get-thing-0000"


def test_graphql_has_its_queries_and_types(viewer: Client) -> None:
    api(TestGraphQl.TEXT, "graphql")
    shown = page(viewer)
    assert ids(shown)[:4] == ["query-pets", "query-old", "query-shop", "mutation-add"]
    for part in ("Queries", "Mutations", "Types", "(first: Int, by: Filter!): [Pet!]!"):
        assert part in words(shown)
    assert "by Filter! required" in words(page(viewer, f"{TAB}&op=query-pets"))


def test_what_cannot_be_read_says_where_and_the_text_stands(viewer: Client) -> None:
    api("openapi: 3.0.0\npaths:\n  /a: {get\n")
    said = words(page(viewer))
    assert "The definition cannot be read" in said
    assert "Line 4, column 1 of the text below." in said
    assert "/a" in said
    api("asyncapi: 2.0.0\n")
    said = words(page(viewer))
    assert "An OpenAPI description begins with “openapi” or “swagger”, and a version." in said
    assert "2.0.0" in said


def test_a_language_that_is_not_read_is_shown_as_code(viewer: Client) -> None:
    api('syntax = "proto3";\nservice Pets {}', "grpc")
    said = words(page(viewer))
    assert "service Pets {}" in said
    assert "cannot be read" not in said
    assert "Show operations" not in said


def test_the_text_can_be_looked_at_and_saved(viewer: Client) -> None:
    api(PETS)
    text = page(viewer, f"{TAB}&show=text")
    assert "Show operations" in text
    assert "components" in words(text)
    assert not ids(text)
    raw = viewer.get(f"{URL}/definition")
    assert raw.content.decode() == PETS
    assert raw["Content-Type"] == "text/plain; charset=utf-8"
    assert raw["X-Content-Type-Options"] == "nosniff"
    assert raw["Content-Disposition"] == 'inline; filename="pets.yaml"'
    saved = viewer.get(f"{URL}/definition?download=1")
    assert saved["Content-Disposition"] == 'attachment; filename="pets.yaml"'
    assert viewer.get("/catalog/default/component/none/definition").status_code == 404


def test_who_may_not_see_the_api_sees_nothing_of_it(browse: Callable[[User], Client], cleo: User) -> None:
    api(PETS)
    client = browse(cleo)
    for url in (TAB, f"{TAB}&op=get-pets-id", f"{URL}/definition"):
        answer = client.get(url)
        assert answer.status_code == 404
        assert "readPet" not in answer.content.decode()
    assert Client().get(f"{URL}/definition").status_code == 302


BAD = '<script>alert(1)</script><img src=x onerror="alert(1)"> [go](javascript:alert(1)) ![i](https://evil.example/i.png)'


def hostile(type_: str) -> str:
    """A definition that says the same everywhere."""
    if type_ == "graphql":
        said = f'"""{BAD}"""'
        return (
            f'{said} type Query {{ {said} a({said} b: String = "<script>"): T '
            f'@deprecated(reason: "<script>alert(1)</script>") }} type T {{ {said} c: Int }}'
        )
    bad_link = {"name": BAD, "url": "javascript:alert(1)"}
    info = {"title": BAD, "version": BAD, "description": BAD, "termsOfService": "javascript:alert(1)"}
    schema = {
        "type": BAD,
        "description": BAD,
        "enum": [BAD],
        "default": BAD,
        "properties": {BAD: {"title": BAD}},
    }
    shared = {"info": {**info, "license": bad_link, "contact": {**bad_link, "url": "data:text/html,x"}}}
    if type_ == "asyncapi":
        message = {"name": BAD, "description": BAD, "payload": schema, "examples": [{"payload": BAD}]}
        channel = {"address": BAD, "description": BAD, "messages": {"m": message}}
        return json.dumps({"asyncapi": "3.0.0", **shared, "channels": {BAD: channel}})
    answer = {"description": BAD, "content": {BAD: {"schema": schema, "example": BAD}}}
    get = {
        "tags": [BAD],
        "summary": BAD,
        "description": BAD,
        "parameters": [{"name": BAD, "in": "query", "description": BAD, "schema": schema}],
        "responses": {BAD: answer},
        "servers": [{"url": "javascript:alert(1)", "description": BAD}],
    }
    return json.dumps(
        {
            "openapi": "3.0.0",
            **shared,
            "servers": get["servers"],
            "tags": [{"name": BAD, "description": BAD}],
            "paths": {BAD: {"get": get}},
            "components": {"securitySchemes": {BAD: {"type": BAD, "description": BAD}}},
        }
    )


@pytest.mark.parametrize("type_", ["openapi", "asyncapi", "graphql"])
def test_nothing_that_it_says_can_act(viewer: Client, type_: str) -> None:
    api(hostile(type_), type_)
    first = page(viewer)
    assert "cannot be read" not in first
    everything = first + "".join(page(viewer, f"{TAB}&op={anchor}") for anchor in ids(first))
    assert "<script>" not in everything
    assert "alert(1)" in everything
    assert not re.search(r"<[^>]*(href|src)=[\"']?\s*(javascript|data):", everything)
    assert not re.search(r"<[a-z][^>]*\sonerror", everything)
    assert '<img src="https://evil' not in everything


def test_a_page_neither_parses_again_nor_asks_the_database_more(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    api(PETS)
    page(viewer)
    with CaptureQueriesContext(connection) as few:
        page(viewer, f"{URL}?tab=history")
    monkeypatch.setattr(kept, "parse_definition", None)  # whoever parses fails
    with CaptureQueriesContext(connection) as asked:
        page(viewer, f"{TAB}&op=get-pets-id")
    assert len(asked) <= len(few)
