"""The HTTP client against a real server that behaves, fails, hangs, lies and floods."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pytest
from django.conf import settings
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from integrations.errors import (
    AuthFailed,
    BadPayload,
    Misconfigured,
    NotThere,
    SourceError,
    SourceUnavailable,
)
from integrations.exchange import user_agent
from integrations.http import Answer, HttpClient, HttpLimits
from integrations.http_store import SharedStore
from integrations.outbound import OutboundPolicy
from tests.integrations.conftest import make_certificate

pytestmark = pytest.mark.anyio

QUICK = HttpLimits(
    connect=2, read=1, total=2, stream_total=2, patience=1, attempts=3, backoff=0.01, body=100_000, line=1000
)
# For what comes, however busy the machine is.
PATIENT = replace(QUICK, connect=20, read=20, total=60, stream_total=60)
quick = pytest.mark.parametrize("http", [QUICK], indirect=True, ids=["quick"])


@pytest.fixture
async def http(server: Any, request: pytest.FixtureRequest) -> AsyncIterator[HttpClient]:
    """A client that may reach the server of the test and knows no Redis."""
    limits = getattr(request, "param", PATIENT)
    async with HttpClient(policy=OutboundPolicy(["127.0.0.1"]), limits=limits, redis=AWAY) as client:
        yield client


AWAY = Redis.from_url("unix:///nonexistent/redis.sock")
OWN = uuid4().hex  # ports come round again while Redis still remembers


@pytest.fixture
async def make_client(server: Any) -> AsyncIterator[Callable[..., HttpClient]]:
    """Clients that share the real Redis, as workers do, with a credential that no other test has."""
    clients = []

    def make(limits: HttpLimits = QUICK) -> HttpClient:
        clients.append(HttpClient(policy=OutboundPolicy(["127.0.0.1"]), limits=limits))
        return clients[-1].at(server.url, headers={"X-Key": OWN})

    yield make
    for client in clients:
        await client.aclose()


def chunked(
    *pieces: bytes, then: str = "end", headers: str = "", pause: float = 0
) -> Callable[..., Awaitable[None]]:
    """An answer in chunks that ends as it should, is cut off, or goes on for ever."""

    async def reply(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{headers}\r\n".encode())
        while True:
            for piece in pieces:
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
                await asyncio.sleep(pause)
            if then != "again":
                break
        if then == "end":
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    return reply


async def hang(request: Any, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def cut(request: Any, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def collect(lines: AsyncIterator[bytes]) -> list[bytes]:
    return [line async for line in lines]


# Answers


async def test_an_answer_carries_what_came_and_when_it_was_asked_for(
    http: HttpClient, server: Any, make_answer: Any
) -> None:
    server.on(
        "/api/x",
        make_answer(
            "größe".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1", "X-A": "1"}
        ),
    )
    before = datetime.now(UTC)
    answer = await http.at(f"{server.url}/api/").get(
        "/x", params={"a": "b c", "tag": ["1", "2"], "none": None}
    )
    assert (answer.status, answer.text(), answer.headers["x-a"]) == (200, "größe", "1")
    assert answer.url == f"{server.url}/api/x?a=b+c&tag=1&tag=2" == server.url + server.requests[0].target
    assert before <= answer.sent_at <= datetime.now(UTC)
    assert server.requests[0].headers["user-agent"] == user_agent()
    assert user_agent().startswith("Portico")


async def test_paths_start_at_the_base_address(http: HttpClient, server: Any, make_answer: Any) -> None:
    for path in ("/base", "/base/a", "/base/b", "/other"):
        server.on(path, make_answer(path))
    tool = http.at(f"{server.url}/base/")
    asked = [await tool.get(path) for path in ("", "a", "/b", f"{server.url}/other")]
    assert [answer.text() for answer in asked] == ["/base", "/base/a", "/base/b", "/other"]


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b'{"half": ', "application/json", "broken JSON"),
        (b"", "application/json", "answered nothing where JSON was expected"),
        (b"<!doctype html><title>Sign in</title>", "text/html", "a web page where JSON was expected"),
        (b"  <html>", "application/json", "a web page where JSON was expected"),
        (b"[" * 5000, "application/json", "broken JSON"),
        (b"\xff\xfe", "application/json", "broken JSON"),
    ],
)
async def test_what_is_no_json_is_named(
    body: bytes, kind: str, says: str, http: HttpClient, server: Any, make_answer: Any
) -> None:
    server.on("/x", make_answer(body, headers={"Content-Type": kind}))
    with pytest.raises(BadPayload, match=says) as caught:
        await http.json(f"{server.url}/x?token=hunter22")
    assert "hunter22" not in str(caught.value)
    assert f"{server.url}/x" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "rel", "target"),
    [
        ('<https://x.example/?page=2>; rel="next"', "next", "https://x.example/?page=2"),
        ('</v2/_catalog?last=b&n=1>; rel="next"', "next", "https://t.example/v2/_catalog?last=b&n=1"),
        ('<a>; rel="prev", <b>; title="x, y"; rel="next last"', "last", "https://t.example/p/b"),
        ("<a>; rel=prev, <b>; rel=next", "next", "https://t.example/p/b"),
        ('<a>; rel="prev"', "next", None),
        ("nonsense", "next", None),
    ],
)
async def test_links_are_read_from_the_header(header: str, rel: str, target: str | None) -> None:
    answer = Answer(200, {"link": header}, b"", "https://t.example/p/1", datetime.now(UTC))
    assert answer.link(rel) == target


# Statuses


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (
            401,
            {"message": "Bad credentials"},
            AuthFailed,
            r"cannot be read without signing in \(401\)\. It says: Bad credentials",
        ),
        (
            403,
            {"errors": [{"message": "needs read:packages"}]},
            AuthFailed,
            "a permission is missing.*needs read:packages",
        ),
        (404, {"error": {"message": "no project"}}, NotThere, "nothing at .*no project"),
        (410, {}, NotThere, "410"),
        (407, {}, Misconfigured, "proxy"),
        (
            400,
            {"detail": "unknown field"},
            BadPayload,
            "status 400, which was not expected. It says: unknown field",
        ),
        (204, None, BadPayload, "status 204"),
        (300, {}, BadPayload, "status 300"),
        (500, {"reason": "on fire"}, SourceUnavailable, "failed with status 500. It says: on fire"),
        (503, {}, SourceUnavailable, "status 503"),
        (429, {}, SourceUnavailable, "fewer requests"),
    ],
)
async def test_each_status_says_who_has_to_act(
    status: int,
    body: Any,
    error: type[SourceError],
    says: str,
    http: HttpClient,
    server: Any,
    make_answer: Any,
) -> None:
    server.on("/x", make_answer(status=status, json=body))
    with pytest.raises(error, match=says):
        await http.get(f"{server.url}/x")
    assert (await http.get(f"{server.url}/x", accept=range(100, 600))).status == status


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        (HttpClient.bearer("s3cret-token"), "with <***>, ana:pa55word, czNjcmV0"),
        ({"X-Key": "s3cret-token"}, "with <***>, ana:pa55word, czNjcmV0"),
        (HttpClient.basic("ana", "pa55word"), "with <s3cret-token>, ana:***, czNjcmV0"),
        ({"Authorization": "Basic czNjcmV0"}, "with <***-token>, ana:pa55word, ***"),
    ],
)
async def test_a_tools_words_are_plain_short_and_without_the_credentials(
    headers: dict[str, str], shown: str, http: HttpClient, server: Any, make_answer: Any
) -> None:
    page = (
        "<head><style>p{}</style></head><p>No access with &lt;s3cret-token&gt;, ana:pa55word, czNjcmV0</p>"
        + "x " * 500
    )
    server.on("/x", make_answer(page, status=403, headers={"Content-Type": "text/html"}))
    with pytest.raises(AuthFailed) as caught:
        await http.at(server.url, headers=headers).get("x")
    said = str(caught.value).partition("It says: ")[2]
    assert said.startswith(f"No access {shown} x x")
    assert len(said) == 300


async def test_a_call_may_expect_a_status(http: HttpClient, server: Any) -> None:
    assert (await http.get(f"{server.url}/none", accept=(200, 404))).status == 404


# Failures that may pass


@pytest.mark.parametrize(
    ("failure", "http"),
    [
        *((failure, PATIENT) for failure in (cut, "500", "truncated", "half-chunk", "half-gzip")),
        ("hang", QUICK),
    ],
    ids=["cut", "500", "truncated", "half-chunk", "half-gzip", "hang"],
    indirect=["http"],
)
async def test_a_failure_is_tried_again_and_never_a_short_success(
    failure: Any, http: HttpClient, server: Any, make_answer: Any
) -> None:
    packed = gzip.compress(b'{"a": 1}' * 100)
    bad = {
        "500": make_answer(status=500),
        "truncated": only(make_answer(b"[1]", length=10)),
        "half-chunk": chunked(b"[1]", then="cut"),
        "half-gzip": make_answer(packed[:-12], headers={"Content-Encoding": "gzip"}),
        "hang": hang,
    }.get(failure, failure)
    server.on("/x", bad, make_answer(json=[1, 2]))
    before = REGISTRY.get_sample_value("portico_outbound_retries_total", {"host": "127.0.0.1"}) or 0
    assert await http.json(f"{server.url}/x") == [1, 2]
    assert REGISTRY.get_sample_value("portico_outbound_retries_total", {"host": "127.0.0.1"}) == before + 1
    server.on("/y", bad)
    with pytest.raises(SourceUnavailable, match=f"{server.url}/y"):
        await http.json(f"{server.url}/y")
    assert len(server.asked("/y")) in ({2} if failure == "hang" else {3})


def only(answer: bytes) -> Callable[..., Awaitable[None]]:
    async def reply(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return reply


async def test_what_changes_something_is_sent_once_unless_it_may_be_repeated(
    http: HttpClient, server: Any, make_answer: Any
) -> None:
    server.on("/x", make_answer(status=502))
    tool = http.at(server.url)
    with pytest.raises(SourceUnavailable):
        await tool.post("x", json={"force": True})
    assert len(server.requests) == 1
    assert json.loads(server.requests[0].body) == {"force": True}
    assert server.requests[0].headers["content-type"] == "application/json"
    with pytest.raises(SourceUnavailable):
        await tool.post("x", data={"a": "1"}, retry=True)
    assert len(server.requests) == 4
    assert server.requests[-1].body == b"a=1"
    server.on("/x", make_answer(status=201), make_answer(status=302, headers={"Location": "/y"}))
    assert (await tool.post("x", data=b"raw")).status == 201
    with pytest.raises(Misconfigured, match="cannot be redirected"):
        await tool.post("x")


async def test_nothing_listening_is_an_outage(http: HttpClient, server: Any) -> None:
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        await http.get("http://127.0.0.1:1/")


@quick
async def test_a_server_that_drips_is_cut_off_in_the_end(http: HttpClient, server: Any) -> None:
    server.on("/x", chunked(b" ", then="again", pause=0.1))
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="within 2 seconds"):
        await http.get(f"{server.url}/x")
    assert time.monotonic() - began < 15
    assert len(server.requests) == 1


async def test_waiting_for_a_free_slot_is_not_held_against_the_tool(server: Any, make_answer: Any) -> None:
    together = most = 0

    async def slow(request: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.3)
        together -= 1
        writer.write(make_answer(json=1, headers={"Connection": "close"}))
        await writer.drain()

    server.on("/x", slow)
    limits = HttpLimits(concurrency=2, total=0.9, attempts=1)
    async with HttpClient(policy=OutboundPolicy(["127.0.0.1"]), limits=limits, redis=AWAY) as http:
        assert await asyncio.gather(*(http.json(f"{server.url}/x") for _ in range(10))) == [1] * 10
    assert most == 2


# Size


async def test_a_body_has_a_limit_by_its_word_and_by_count(
    http: HttpClient, server: Any, make_answer: Any
) -> None:
    server.on("/declared", make_answer(b"x", length=10**9))
    server.on("/endless", chunked(b"x" * 10_000, then="again"))
    bomb = gzip.compress(b"0" * 50_000_000)
    server.on("/bomb", make_answer(bomb, headers={"Content-Encoding": "gzip"}))
    assert len(bomb) < QUICK.body
    for path in ("/declared", "/endless", "/bomb"):
        with pytest.raises(BadPayload, match=r"answered more than 97\.7 KiB"):
            await http.get(server.url + path)
        assert len(server.asked(path)) == 1


async def test_compressed_answers_are_read_whole(http: HttpClient, server: Any, make_answer: Any) -> None:
    text = json.dumps(list(range(9_000))).encode()
    two = gzip.compress(text[:100]) + gzip.compress(text[100:])
    for path, body in (
        ("/one", gzip.compress(text)),
        ("/two", two),
        ("/padded", gzip.compress(text) + b"\0" * 100),
    ):
        server.on(path, make_answer(body, headers={"Content-Encoding": "gzip"}))
        assert (await http.get(server.url + path)).body == text
    server.on("/no", make_answer(b"not gzip", headers={"Content-Encoding": "gzip"}))
    server.on("/br", make_answer(b"x", headers={"Content-Encoding": "br"}))
    for path in ("/no", "/br"):
        with pytest.raises(BadPayload, match=r"decompressed|not asked for"):
            await http.get(server.url + path)


# Redirects and credentials


async def test_credentials_stay_with_their_origin(http: HttpClient, server: Any, make_answer: Any) -> None:
    elsewhere = f"http://localhost:{server.port}"
    server.on("/here", make_answer(status=302, headers={"Location": "/there"}))
    server.on("/away", make_answer(status=307, headers={"Location": f"{elsewhere}/other"}))
    for path in ("/there", "/other"):
        server.on(path, make_answer(json=1))
    tool = http.at(server.url, headers={"Authorization": "Bearer s3cret", "Private-Token": "t0ken"})
    await tool.json("/here")
    assert server.asked("/there")[0].headers["private-token"] == "t0ken"
    await tool.get("/away", headers={"X-Call": "c"})
    await tool.get(f"{elsewhere}/other")
    for asked in server.asked("/other"):
        assert not {"authorization", "private-token", "x-call"} & set(asked.headers)
    await tool.get(f"{elsewhere}/other", headers={"X-Call": "meant for it"})
    assert server.requests[-1].headers["x-call"] == "meant for it"


async def test_redirects_end(http: HttpClient, server: Any, make_answer: Any) -> None:
    server.on("/loop", make_answer(status=302, headers={"Location": "/loop"}))
    with pytest.raises(Misconfigured, match="more than 5 times"):
        await http.get(f"{server.url}/loop")
    assert len(server.requests) == 6


async def test_a_challenge_is_answered_once_with_what_the_connector_fetches(
    http: HttpClient, server: Any, make_answer: Any
) -> None:
    def guarded(request: Any) -> bytes:
        if request.headers.get("authorization") == "Bearer fresh":
            return make_answer(json="inside")
        return make_answer(
            status=401, headers={"WWW-Authenticate": f'Bearer realm="{server.url}/token",scope="pull"'}
        )

    server.on("/v2/", guarded)
    server.on("/token", make_answer(json={"token": "fresh"}))
    held = {"token": ""}

    async def authorize(url: str, challenge: str) -> dict[str, str]:
        if challenge:
            realm = challenge.split('"')[1]
            held["token"] = (await http.json(realm, headers=http.basic("ana", "pw")))["token"]
        return http.bearer(held["token"]) if held["token"] else {}

    tool = http.at(server.url, auth=authorize)
    assert [await tool.json("/v2/"), await tool.json("/v2/")] == ["inside", "inside"]
    assert [request.path for request in server.requests] == ["/v2/", "/token", "/v2/", "/v2/"]
    # With all slots taken by calls that wait for a token, the token is fetched all the same.
    held["token"] = "stale"
    assert await asyncio.gather(*(tool.json("/v2/") for _ in range(12))) == ["inside"] * 12
    server.on("/token", make_answer(json={"token": "wrong"}))
    held["token"] = "stale"
    with pytest.raises(AuthFailed, match="refused the credentials"):
        await tool.json("/v2/")


async def test_a_credential_that_no_header_can_carry_is_a_setting_to_mend(
    http: HttpClient, server: Any
) -> None:
    for token in ("s3cret\nline", "s3crét€"):
        with pytest.raises(Misconfigured, match="characters that HTTP") as caught:
            await http.at(server.url, headers=http.bearer(token)).get("x")
        assert "s3cr" not in str(caught.value)


async def test_certificates_are_checked_against_the_name(
    server: Any, make_answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is pinned, but it is the name that must be proven."""
    server.on("/", make_answer(json="proven"))
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make_certificate("tool.corp", key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    port = server.listen(context)

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    def ask(name: str) -> HttpClient:
        client = HttpClient(policy=OutboundPolicy(["127.0.0.1"], resolver=resolve), limits=QUICK, redis=AWAY)
        return client.at(f"https://{name}:{port}")

    for trusted, name, says in (
        ("", "tool.corp", "not trusted"),
        (certificate, "other.corp", "not trusted.*other.corp"),
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        async with ask(name) as tool:
            with pytest.raises(Misconfigured, match=says):
                await tool.json("/")
    async with ask("tool.corp") as tool:
        assert await tool.json("/") == "proven"


# Budgets and stored answers, shared by all workers


async def test_a_short_pause_is_sat_out(make_client: Any, server: Any, make_answer: Any) -> None:
    server.on("/x", make_answer(status=429, headers={"Retry-After": "1"}), make_answer(json=1))
    began = time.monotonic()
    assert await make_client().json("/x") == 1
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, lambda: {"Retry-After": "300"}),
        (
            503,
            lambda: {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)},
        ),
        (403, lambda: {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 300)}),
        (429, lambda: {"RateLimit-Remaining": "0", "RateLimit-Reset": "300"}),
        (
            200,
            lambda: {
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(time.time() * 1000) + 300_000),
            },
        ),
    ],
)
async def test_a_long_pause_is_told_and_kept_by_every_worker(
    status: int, headers: Any, make_client: Any, server: Any, make_answer: Any
) -> None:
    server.on("/x", make_answer(status=status, headers=headers(), json=1))
    first, second = make_client(), make_client()
    if status == 200:
        assert await first.json("/x") == 1
    else:
        with pytest.raises(SourceUnavailable, match="pause") as caught:
            await first.json("/x")
        assert 290 < caught.value.retry_after <= 300
    with pytest.raises(SourceUnavailable, match="seconds are left") as caught:
        await second.json("/x")
    assert 290 < caught.value.retry_after <= 300
    assert len(server.requests) == 1
    # Other credentials have a budget of their own.
    server.on("/x", make_answer(json=2))
    assert await second.at(server.url, headers=second.bearer(f"other {OWN}")).json("/x") == 2


async def test_a_clock_that_is_wrong_does_not_lock_us_out_for_days(
    make_client: Any, server: Any, make_answer: Any
) -> None:
    server.on("/x", make_answer(status=429, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}))
    with pytest.raises(SourceUnavailable) as caught:
        await make_client().json("/x")
    assert caught.value.retry_after == 3600


async def test_an_unchanged_answer_comes_from_the_store(
    make_client: Any, server: Any, make_answer: Any
) -> None:
    def conditional(request: Any) -> bytes:
        if request.headers.get("if-none-match") == '"v1"':
            return make_answer(status=304)
        return make_answer(json={"v": 1}, headers={"ETag": '"v1"', "X-Kept": "yes"})

    server.on("/x", conditional)
    first, second = make_client(), make_client()
    fresh, kept = await first.get("/x"), await second.get("/x")
    assert (kept.status, kept.body, kept.headers["x-kept"]) == (200, fresh.body, "yes")
    assert kept.sent_at > fresh.sent_at
    assert [request.headers.get("if-none-match") for request in server.requests] == [None, '"v1"']
    # Never across credentials, other questions, or where the caller asks for itself.
    await second.at(server.url, headers=second.bearer(f"other {OWN}")).get("/x")
    await second.get("/x", params={"page": 2})
    await second.get("/x", headers={"Accept": "text/plain"})
    assert [request.headers.get("if-none-match") for request in server.requests[2:]] == [None, None, None]
    assert (await second.get("/x", headers={"If-None-Match": '"v1"'}, accept=(200, 304))).status == 304


async def test_what_must_not_be_stored_is_not(make_client: Any, server: Any, make_answer: Any) -> None:
    incompressible = "".join(chr(33 + i * 7919 % 90) + str(hash((i, "x"))) for i in range(20_000))
    server.on("/private", make_answer(json=1, headers={"ETag": '"1"', "Cache-Control": "private, no-store"}))
    server.on("/large", make_answer(json=incompressible, headers={"ETag": '"1"'}))
    server.on("/plain", make_answer(json=1))
    client = make_client(HttpLimits())
    for path in ("/private", "/large", "/plain"):
        await client.get(path)
        await client.get(path)
        assert "if-none-match" not in server.requests[-1].headers


async def test_the_store_is_bounded_and_forgets(make_client: Any, server: Any, make_answer: Any) -> None:
    server.on("/x", make_answer(json=1, headers={"ETag": '"1"'}))
    await make_client().get("/x")
    async with Redis.from_url(settings.REDIS_URL) as redis:
        keys = [key async for key in redis.scan_iter("portico:http:answer:*")]
        assert keys
        for key in keys:
            assert int(key.rsplit(b":", 1)[1]) < SharedStore.SLOTS
            assert 0 < await redis.ttl(key) <= 24 * 3600


@pytest.mark.parametrize("status", [403, 429])
async def test_a_limit_that_names_no_pause_is_kept_for_a_minute(
    make_client: Any, server: Any, make_answer: Any, status: int
) -> None:
    said = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}
    server.on("/x", make_answer(json=said, status=status))
    client = make_client().at(server.url, headers={"Authorization": f"Bearer limited-{status}"})
    for _time in range(2):
        with pytest.raises(SourceUnavailable) as caught:
            await client.get("/x")
        assert 55 < (caught.value.retry_after or 0) <= 60
    assert len(server.asked("/x")) == 1


async def test_without_redis_all_goes_on(http: HttpClient, server: Any, make_answer: Any) -> None:
    server.on("/x", make_answer(json=1, headers={"ETag": '"1"'}))
    assert await http.json(f"{server.url}/x") == 1
    server.on("/y", make_answer(status=429, headers={"Retry-After": "300"}))
    for says in ("asks for a pause", "are left"):
        with pytest.raises(SourceUnavailable, match=says):
            await http.json(f"{server.url}/y")
    assert len(server.asked("/y")) == 1


# Pages and lines


async def test_pages_follow_the_link_header(http: HttpClient, server: Any, make_answer: Any) -> None:
    def page(request: Any) -> bytes:
        number = int((request.query + "&page=1").split("page=")[1].split("&")[0])
        link = {"Link": f'<{server.url}/list?per=2&page={number + 1}>; rel="next"'} if number < 3 else {}
        return make_answer(json=[number], headers=link)

    server.on("/list", page)
    found = [page.json() async for page in http.at(server.url).pages("/list", params={"per": 2})]
    assert found == [[1], [2], [3]]
    assert [request.query for request in server.requests] == ["per=2", "per=2&page=2", "per=2&page=3"]


async def test_pages_follow_what_the_connector_finds(http: HttpClient, server: Any, make_answer: Any) -> None:
    server.on("/a/list", make_answer(json={"next": "?after=7"}), make_answer(json={"next": "more"}))
    server.on("/a/more", make_answer(json={"next": None}))
    found = [
        page.url async for page in http.at(server.url).pages("a/list", next=lambda page: page.json()["next"])
    ]
    assert found == [f"{server.url}/a/list", f"{server.url}/a/list?after=7", f"{server.url}/a/more"]


@pytest.mark.parametrize("reply", ["same address", "same content"])
async def test_pages_that_would_never_end_are_stopped(
    reply: str, http: HttpClient, server: Any, make_answer: Any
) -> None:
    count = 0

    def page(request: Any) -> bytes:
        nonlocal count
        count += 1
        if reply == "same address":
            return make_answer(json=[count], headers={"Link": '</list>; rel="next"'})
        return make_answer(json=["first"], headers={"Link": f'</list?page={count}>; rel="next"'})

    server.on("/list", page)
    with pytest.raises(BadPayload, match="came before"):
        async for _page in http.at(server.url).pages("/list"):
            pass
    assert count <= 2


async def test_pages_have_a_limit_and_stay_at_their_server(server: Any, make_answer: Any) -> None:
    count = 0

    def page(request: Any) -> bytes:
        nonlocal count
        count += 1
        return make_answer(json=count, headers={"Link": f'</list?page={count}>; rel="next"'})

    server.on("/list", page)
    server.on("/away", make_answer(json=1, headers={"Link": '<https://other.example/list>; rel="next"'}))
    async with HttpClient(
        policy=OutboundPolicy(["127.0.0.1"]), limits=HttpLimits(pages=4), redis=AWAY
    ) as http:
        with pytest.raises(BadPayload, match="more than 4 pages"):
            async for _page in http.at(server.url).pages("/list"):
                pass
        assert count == 4
        with pytest.raises(
            Misconfigured, match=r"next page is at https://other\.example/list, another server"
        ):
            async for _page in http.at(server.url).pages("/away"):
                pass


async def test_a_failure_on_a_later_page_is_raised(http: HttpClient, server: Any, make_answer: Any) -> None:
    server.on("/list", make_answer(json=[1], headers={"Link": '</gone>; rel="next"'}))
    server.on("/gone", make_answer(status=401))
    pages = http.at(server.url).pages("/list")
    assert (await anext(pages)).json() == [1]
    with pytest.raises(AuthFailed):
        await anext(pages)


async def test_lines_are_cut_wherever_the_chunks_end(http: HttpClient, server: Any) -> None:
    server.on("/x", chunked(b'{"a":', b'1}\n\n{"b"', b":2}\r\n", b'{"c":3}'))
    assert await collect(http.stream_lines(f"{server.url}/x")) == [b'{"a":1}', b"", b'{"b":2}', b'{"c":3}']
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        file.write(b"line\n" * 100_000)
    server.on("/gz", chunked(packed.getvalue(), headers="Content-Encoding: gzip\r\n"))
    assert await collect(http.stream_lines(f"{server.url}/gz")) == [b"line"] * 100_000


@quick
async def test_a_cut_or_endless_stream_is_an_error_after_its_whole_lines(
    http: HttpClient, server: Any, make_answer: Any
) -> None:
    server.on("/cut", chunked(b"1\n2\n3", then="cut"))
    server.on("/drip", chunked(b"1\n", then="again", pause=0.1))
    server.on("/long", chunked(b"1\n", b"x" * 600, b"x" * 600))
    server.on("/away", make_answer(status=500))
    for path, error, says in (
        ("/cut", SourceUnavailable, "broke off"),
        ("/drip", SourceUnavailable, "within 2 seconds"),
        ("/long", BadPayload, f"Line 2 of {server.url}/long is longer than 1000 bytes"),
    ):
        lines = http.stream_lines(server.url + path)
        assert await anext(lines) == b"1"
        with pytest.raises(error, match=says):
            await collect(lines)
    with pytest.raises(SourceUnavailable):
        await collect(http.stream_lines(f"{server.url}/away"))
    assert len(server.asked("/away")) == 3


@quick
async def test_a_slow_reader_of_lines_is_not_held_against_the_tool(http: HttpClient, server: Any) -> None:
    server.on("/x", chunked(b"1\n" * 5))
    seen = []
    async for line in http.stream_lines(f"{server.url}/x"):
        seen.append(line)
        await asyncio.sleep(0.5)
    assert len(seen) == 5


# Recorded answers


async def test_recorded_answers_take_the_place_of_the_network() -> None:
    def recorded(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/list":
            return httpx.Response(200, json=[1], headers={"ETag": '"x"'})
        return httpx.Response(404, json={"message": "no"})

    async with HttpClient(transport=httpx.MockTransport(recorded), limits=QUICK) as http:
        tool = http.at("https://tool.example")
        assert await tool.json("/list") == [1]
        assert await collect(tool.stream_lines("/list")) == [b"[1]"]
        with pytest.raises(NotThere, match="It says: no"):
            await tool.json("/none")
