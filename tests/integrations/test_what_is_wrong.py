"""Seven things go wrong between a connection and its tool; each is said in a sentence of its own, with a way out.

Asked of real servers on loopback, by connectors that speak HTTP and by the one that runs git; in the test of the
connection, in the message of its run, and in the problem that people see.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from catalog.models import Problem
from integrations.git import GitLimits
from integrations.http import HttpLimits
from integrations.models import Connection, RunState
from integrations.services import connections
from integrations.services.connections import check_connection, config_of, create_connection, preview_config
from integrations.services.network import route_of
from integrations.services.runs import report_runs
from tests.integrations.conftest import Server, make_certificate
from tests.integrations.tool import synced

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack", "impatient")]

# What each says, and the way out that it names. Each fits one situation and no other.
SENTENCES = {
    "wrong": r"(refused the credentials|asks for other credentials).*Replace them in the settings of the connection",
    "expired": r"says that the credentials have expired.*Make new ones there, and put them into the settings",
    "scope": r"a permission is missing.*Give (it to )?the token",
    "self-signed": r"certificate of .* is not trusted.*Paste the certificate of your authority under Network",
    "private": r"ci\.corp is 10\.2\.3\.4, a private address\. An administrator can allow this host",
    "redirect": r"(redirects to|has moved).*(Give the address of|Use the address)",
    "silence": r"(did not answer|did not finish|does not answer).*See whether the address is right.*firewall.*proxy",
}
# What the test of a connection tells to do where it is the same with every tool.
REMEDIES = {
    "self-signed": "Paste the certificate of the authority that made it under Network.",
    "private": "Correct the address, or have an administrator allow the host.",
    "silence": "Correct the address, open the firewall, or name the proxy that leads there under Network.",
}
TOKENS = {"wrong": "not-a-token", "expired": "github_pat_" + "1" * 22 + "_" + "a" * 59}


def config(connector: str, url: str, situation: str) -> dict[str, Any]:
    token = TOKENS.get(situation, TOKENS["expired"])
    if connector == "git":
        return {"repositories": [f"{url}/acme/pay.git"], "token": token}
    return {"base_url": url, "token": token}


async def hang(request: Any, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Where nothing ever comes, moments stand for the time after which one gives up."""
    is_silent = getattr(request.node, "callspec", None) and "silence" in request.node.callspec.params.values()
    read, network = (0.3, 1) if is_silent else (15, 30)
    http, git = HttpLimits(connect=5, read=read, total=3 * read, attempts=1), GitLimits(network=network)
    monkeypatch.setattr("integrations.http.HttpLimits", lambda: http)
    monkeypatch.setattr("integrations.git.client.GitLimits", lambda: git)
    monkeypatch.setattr(connections, "CHECK_HTTP", http)
    monkeypatch.setattr(connections, "CHECK_GIT", git)


@pytest.fixture
def place(
    server: Server,
    make_answer: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> Callable[[str, str], Connection]:
    """Make a connection to a server where something is the matter."""
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    make_certificate("127.0.0.1", tmp_path / "key.pem", tmp_path / "certificate.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    url = f"https://127.0.0.1:{server.listen(tls)}"
    real = socket.getaddrinfo

    def look_up(host: Any, *more: Any, **named: Any) -> Any:
        return real("10.2.3.4" if host in ("ci.corp", b"ci.corp") else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server.on("/sign-in", make_answer("<html>Sign in", headers={"Content-Type": "text/html"}))
    text = {"Content-Type": "text/plain"}
    replies: dict[str, Any] = {
        "wrong": make_answer(json={"message": "Bad credentials"}, status=401),
        "expired": make_answer("The access token expired.", status=401, headers=text),
        "scope": make_answer(
            json={"message": "No"},
            status=403,
            headers={"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="read:org repo"'},
        ),
        "redirect": make_answer(status=302, headers={"Location": f"{url}/sign-in"}),
        "silence": hang,
    }

    def make(connector: str, situation: str) -> Connection:
        server.on("*", replies.get(situation, make_answer(json={})))
        pem = "" if situation == "self-signed" else (tmp_path / "certificate.pem").read_text()
        where = "https://ci.corp" if situation == "private" else url
        return create_connection(
            slug="c",
            label="C",
            connector=connector,
            config=config(connector, where, situation),
            network={"ca_bundle": pem},
        )

    return make


def kinds_of(text: str) -> list[str]:
    """The situations that a text can be read as."""
    flat = re.sub(r"\s+", " ", text)
    return [name for name, pattern in SENTENCES.items() if re.search(pattern, flat)]


@pytest.mark.parametrize("situation", SENTENCES)
@pytest.mark.parametrize("connector", ["buildbot", "github", "git"])
def test_each_is_told_apart_with_a_way_out(
    connector: str, situation: str, place: Callable[[str, str], Connection]
) -> None:
    connection = place(connector, situation)
    tested = check_connection(connection=connection)
    failed = [check for check in tested.checks if not check.ok]
    assert all(check.remedy for check in failed if check.detail)
    said = " ".join(f"{check.detail} {check.remedy}" for check in failed)
    if connector == "github" and situation in TOKENS:
        # GitHub answers the same to all that is wrong with a token, so the token itself is looked at.
        expected = {"wrong": "This is no token of GitHub's", "expired": "The token has expired, was revoked"}
        assert expected[situation] in said
        assert "Copy the token again" in said or "Make a new one" in said
    else:
        assert kinds_of(said) == [situation], said
    if situation in REMEDIES:
        assert {check.remedy for check in failed if check.detail} == {REMEDIES[situation]}
    previewed = preview_config(connector=connector, config=config_of(connection), route=route_of(connection))
    assert kinds_of(" ".join(previewed.errors)) == [situation], previewed.errors
    assert list(tested.barred) == list(previewed.barred) == ["ci.corp"] * (situation == "private")
    run = synced(connection)
    assert run.state == RunState.FAILED
    assert kinds_of(run.message) == [situation], run.message
    report_runs(now=timezone.now())
    problem = Problem.objects.get(type="sync", resolved_at=None)
    assert kinds_of(problem.message) == [situation]
    assert problem.remedy
    assert not any(token in f"{said}{run.message}" for token in TOKENS.values())


@pytest.mark.parametrize("connector", ["buildbot", "github"])
def test_the_missing_permission_is_named(connector: str, place: Callable[[str, str], Connection]) -> None:
    assert "(403): read:org, repo." in synced(place(connector, "scope")).message


def test_words_that_list_all_that_may_be_wrong_are_no_word_of_expiry(
    server: Server, make_answer: Callable[..., bytes], place: Callable[[str, str], Connection]
) -> None:
    connection = place("buildbot", "wrong")
    said = "HTTP Basic: Access denied. If a token was provided, it was either incorrect, expired, or improperly scoped."
    server.on("*", make_answer(said, status=401, headers={"Content-Type": "text/plain"}))
    assert kinds_of(synced(connection).message) == ["wrong"]


def test_credentials_do_not_follow_a_redirect_and_that_is_said(
    server: Server, make_answer: Callable[..., bytes], place: Callable[[str, str], Connection]
) -> None:
    connection = place("buildbot", "redirect")
    elsewhere = f"http://127.0.0.1:{server.listen()}/api"
    server.on("*", make_answer(status=302, headers={"Location": elsewhere}))
    server.on("/api", make_answer(status=401))
    message = synced(connection).message
    assert "another server, which is sent no credentials and answers 401" in message
    assert kinds_of(message) == ["redirect"]
    assert "authorization" not in server.asked("/api")[0].headers
