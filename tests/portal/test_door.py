"""The short way to Backstage's API gives the same answers as the ordinary one, and leaves the rest to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import pytest
from django.core import signals
from django.core.handlers.wsgi import WSGIHandler
from django.db import OperationalError, ProgrammingError, close_old_connections, connection, transaction

from access.models import User
from access.services import grant
from catalog.api.backstage import lists
from catalog.index.statements import fetch
from portal import wsgi
from tests.catalog.saying import claim, say

pytestmark = pytest.mark.django_db

Told = tuple[str, dict[str, str], bytes]

ASKED: dict[str, tuple[str, str, Any]] = {
    "by name": ("GET", "entities/by-name/Component/default/ALPHA", None),
    "a list": ("GET", "entities/by-query?filter=kind=component&limit=2", None),
    "a list by POST": ("POST", "entities/by-query", {"query": {"kind": "component"}, "limit": 2}),
    "by refs": ("POST", "entities/by-refs", {"entityRefs": ["component:alpha", "component:default/alpha"]}),
    "facets": ("GET", "entity-facets?facet=spec.type&facet=kind", None),
    "everything": ("GET", "entities?order=asc:metadata.name", None),
    "a page with a link": ("GET", "entities?limit=1", None),
}
UNUSUAL: dict[str, tuple[str, str, Any]] = {
    "no such entity": ("GET", "entities/by-name/component/default/gone", None),
    "an unknown parameter": ("GET", "entities/by-query?what=1", None),
    "a wrong number": ("GET", "entities/by-query?limit=x", None),
    "no such path": ("GET", "nowhere", None),
    "another method": ("DELETE", "entities/by-query", None),
    "a letter of elsewhere": ("GET", "entities/by-name/component/default/%C3%A9", None),
    "NUL": ("GET", "entities/by-query?filter=kind=%00", None),
    "no list of refs": ("POST", "entities/by-refs", {}),
}


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    say(
        "yaml:a",
        claim("group:team-a", {"type": "team", "children": []}),
        claim("component:alpha", {"type": "service", "lifecycle": "production", "owner": "team-a"}),
        claim("component:beta", {"type": "library", "dependsOn": ["component:alpha"]}),
        claim("component:other/gamma", {"type": "library", "dependsOn": ["component:default/alpha"]}),
    )


@pytest.fixture(autouse=True)
def one_connection() -> Iterator[None]:
    """A handler begins by closing connections that are old, and with them the test's transaction."""
    signals.request_started.disconnect(close_old_connections)
    yield
    signals.request_started.connect(close_old_connections)


def ask(
    application: Callable[..., Any],
    asked: tuple[str, str, Any],
    headers: dict[str, str],
    host: str = "localhost",
    content_type: str = "application/json",
) -> Told:
    method, path, body = asked
    path, _mark, query = path.partition("?")
    data = b"" if body is None else json.dumps(body).encode()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": f"/api/catalog/{unquote(path, encoding='latin-1')}",
        "QUERY_STRING": query,
        "HTTP_HOST": host,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_X_REQUEST_ID": "the-same-for-both",
        "wsgi.input": BytesIO(data),
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(data)),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }
    told: list[Any] = []
    answer = application(environ, lambda status, headers: told.extend((status, headers)))
    content = b"".join(answer)
    status, given = told
    names = [name for name, _value in given]
    assert len(names) == len(set(names))
    return status, dict(given), content


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes the ordinary way."""

    def refuse(*_given: Any) -> None:
        raise AssertionError("it went the ordinary way")

    monkeypatch.setattr(wsgi, "ordinary", refuse)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_the_short_way_answers_as_the_ordinary_one(
    asked: tuple[str, str, Any], vic: User, as_token: Callable[..., dict[str, str]], shut: None
) -> None:
    headers = as_token(vic)
    short = ask(wsgi.application, asked, headers)
    long = ask(WSGIHandler(), asked, headers)
    assert short[0] == long[0] == "200 OK"
    assert short[2] == long[2]
    left_out = {"Allow", "Vary", "Content-Language"}  # which methods there are, and what cookies would change
    assert short[1] == {name: value for name, value in long[1].items() if name not in left_out}


def test_what_the_client_has_is_not_sent_again(
    vic: User, as_token: Callable[..., dict[str, str]], shut: None
) -> None:
    headers = as_token(vic)
    _status, given, _content = ask(wsgi.application, ASKED["by name"], headers)
    status, _headers, content = ask(
        wsgi.application, ASKED["by name"], {**headers, "If-None-Match": given["ETag"]}
    )
    assert (status, content) == ("304 Not Modified", b"")


@pytest.mark.parametrize("asked", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_goes_the_ordinary_way(
    asked: tuple[str, str, Any], vic: User, as_token: Callable[..., dict[str, str]]
) -> None:
    headers = as_token(vic)
    assert ask(wsgi.application, asked, headers) == ask(WSGIHandler(), asked, headers)


def test_it_lets_in_who_may_come_in(vic: User, as_token: Callable[..., dict[str, str]], shut: None) -> None:
    asked, headers = ASKED["by name"], as_token(vic)
    for wrong in ({}, {"Authorization": "Bearer po_" + "x" * 43}, {"Authorization": "Basic eDp5"}):
        with pytest.raises(AssertionError, match="ordinary"):
            ask(wsgi.application, asked, wrong)
    with pytest.raises(AssertionError, match="ordinary"):
        ask(wsgi.application, asked, headers, host="elsewhere.example")
    stranger = User.objects.create(username="stranger")
    with pytest.raises(AssertionError, match="ordinary"):
        ask(wsgi.application, asked, as_token(stranger))


def test_it_shows_what_its_person_may_see(as_token: Callable[..., dict[str, str]], shut: None) -> None:
    other = User.objects.create(username="other")
    grant(user=other, role="viewer", scope_type="namespace", scope="other")
    headers = as_token(other)
    found = json.loads(ask(wsgi.application, ASKED["a list"], headers)[2])
    assert [one["metadata"]["name"] for one in found["items"]] == ["gamma"]
    assert found["items"][0]["relations"] == []  # where alpha is, nobody is told
    assert json.loads(ask(wsgi.application, ASKED["by refs"], headers)[2]) == {"items": [None, None]}
    with pytest.raises(AssertionError, match="ordinary"):
        ask(wsgi.application, ASKED["by name"], headers)


@pytest.mark.parametrize(
    ("asked", "headers", "content_type"),
    [
        ("by name", {"Accept": "text/html"}, "application/json"),
        ("a list by POST", {}, "application/merge-patch+json"),
        ("a list by POST", {}, "text/plain"),
        ("a list by POST", {}, ""),
    ],
)
def test_what_is_read_otherwise_goes_the_ordinary_way(
    asked: str,
    headers: dict[str, str],
    content_type: str,
    vic: User,
    as_token: Callable[..., dict[str, str]],
) -> None:
    given = ASKED[asked], {**as_token(vic), **headers}
    long = ask(WSGIHandler(), *given, content_type=content_type)
    assert ask(wsgi.application, *given, content_type=content_type) == long


@pytest.mark.parametrize("accepted", ["*/*", "application/json, text/plain, */*", "application/json"])
def test_what_its_clients_accept_is_taken(
    accepted: str, vic: User, as_token: Callable[..., dict[str, str]], shut: None
) -> None:
    headers = {**as_token(vic), "Accept": accepted}
    assert ask(wsgi.application, ASKED["by name"], headers)[0] == "200 OK"


def test_a_lost_database_is_told_by_the_ordinary_way(
    vic: User, as_token: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = as_token(vic)

    def lost(*_given: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(lists, "fetch", lost)
    status, _headers, _content = ask(wsgi.application, ASKED["by name"], headers)
    assert status.startswith("500")


def test_a_statement_that_fails_leaves_its_connection_to_be_looked_at() -> None:
    connection.errors_occurred = False
    with pytest.raises(ProgrammingError), transaction.atomic():
        fetch("SELECT nothing")
    assert connection.errors_occurred
