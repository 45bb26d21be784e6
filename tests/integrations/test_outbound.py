"""The guard: which addresses it lets through, and that the address it judged is the one that is used."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import httpcore2
import httpx2 as httpx
import pytest

from integrations.errors import Misconfigured, SourceUnavailable
from integrations.http import HttpClient, HttpLimits
from integrations.outbound import (
    GuardedTransport,
    NameNotFound,
    OutboundPolicy,
    OutboundRefused,
    ca_bundle,
    judge,
    mask_url,
    proxy_for,
    tls_context,
)

pytestmark = pytest.mark.anyio

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"]
INSIDE = [
    "127.0.0.1", "127.8.9.10", "10.2.3.4", "172.31.255.1", "192.168.1.1", "100.64.3.2", "0.0.0.0",
    "198.18.0.1", "192.0.2.7", "240.0.0.1", "::1", "::", "fd12:3456::1", "fec0::1",
    "2001:db8::1", "::ffff:10.2.3.4",
    "64:ff9b::a02:304", "2002:a02:304::1", "2002:808:808::1", "2001:0:53aa:64c::1", "::7f00:1",
    "64:ff9b:1::a02:304",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.1.1", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "fe80::1", "fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1", "::a9fe:a9fe", "224.0.0.1", "255.255.255.255", "ff02::1", "fe80::1%1",
]  # fmt: skip
EVERYTHING = ("0.0.0.0/0", "::/0")


def resolver(*answers: Iterable[str]) -> Any:
    """A name service that gives these answers in turn, the last for ever, and notes what it was asked."""
    left = [list(addresses) for addresses in answers]
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return left.pop(0) if len(left) > 1 else left[0]

    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("address", PUBLIC)
async def test_public_addresses_pass_without_being_listed(address: str) -> None:
    found = await OutboundPolicy(resolver=resolver([address])).resolve("tool.example", 443)
    assert found == [ip_address(address)]


@pytest.mark.parametrize("address", INSIDE)
async def test_inner_addresses_are_refused_until_their_network_is_listed(address: str) -> None:
    names = resolver([address])
    verdict = judge(ip_address(address))
    assert verdict is not None
    word = "tool.corp:443" if verdict.is_own else "tool.corp"  # this machine itself is opened by the port
    policy = OutboundPolicy(resolver=names)
    with pytest.raises(OutboundRefused, match=f"PORTICO_OUTBOUND_ALLOW={word}$"):
        await policy.resolve("tool.corp", 443)
    assert list(policy.refusals) == [word]
    for more in ({"allow": [word]}, {"hosts": [word]}):
        assert await OutboundPolicy(**more, resolver=names).resolve("tool.corp", 443)  # type: ignore[arg-type]
    for allow in (EVERYTHING, ("tool.corp",), ("*.corp",), ("TOOL.corp:443",)):
        assert await OutboundPolicy(allow, resolver=names).resolve("tool.corp", 443) == [ip_address(address)]
    for allow in (("tool.corp:444",), ("other.corp",), ("*.tool.corp",), ("corp",), ("11.0.0.0/8",)):
        with pytest.raises(OutboundRefused):
            await OutboundPolicy(allow, resolver=names).resolve("tool.corp", 443)


async def test_a_name_that_was_allowed_in_the_browser_does_not_open_this_machine() -> None:
    """Whoever owns the name could else turn it to loopback later, where much listens that asks no password."""
    turned = OutboundPolicy(hosts=["tool.corp"], resolver=resolver(["127.0.0.1"]))
    with pytest.raises(OutboundRefused, match="loopback"):
        await turned.resolve("tool.corp", 443)
    other = OutboundPolicy(hosts=["tool.corp:443"], resolver=resolver(["127.0.0.1"]))
    with pytest.raises(OutboundRefused, match="loopback"):
        await other.resolve("tool.corp", 444)


@pytest.mark.parametrize("address", NEVER)
async def test_link_local_metadata_and_multicast_addresses_are_never_allowed(address: str) -> None:
    allow = (*EVERYTHING, "tool.corp", address.split("%")[0])
    policy = OutboundPolicy(allow, hosts=["tool.corp"], resolver=resolver([address]))
    with pytest.raises(OutboundRefused, match="never"):
        await policy.resolve("tool.corp", 80)
    assert not policy.refusals, "nothing is offered that cannot be had"
    assert judge(ip_address(address)).final  # type: ignore[union-attr]


async def test_of_several_addresses_only_the_permitted_are_used() -> None:
    policy = OutboundPolicy(resolver=resolver(["169.254.169.254", "8.8.8.8", "10.0.0.1"]))
    assert await policy.resolve("mixed.example", 80) == [ip_address("8.8.8.8")]


@pytest.mark.parametrize("failure", [OSError("no such name"), TimeoutError(), UnicodeError("label too long")])
async def test_a_name_without_an_address_is_an_outage(failure: Exception) -> None:
    async def fails(host: str, port: int) -> list[str]:
        raise failure

    with pytest.raises(SourceUnavailable, match=r"nowhere\.example"):
        await OutboundPolicy(resolver=fails).resolve("nowhere.example", 80)
    with pytest.raises(NameNotFound, match="has no address"):
        await OutboundPolicy(resolver=resolver([])).resolve("nowhere.example", 80)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://tool.example/x", "Expected an address that begins with http://, https://"),
        ("file:///etc/passwd", "cannot be fetched"),
        ("tool.example/x", "cannot be fetched"),
        ("http:///x", "names no host"),
        ("https://user:hunter2@tool.example/", "holds a name or password"),
        ("https://tool.example@10.0.0.1/", "holds a name or password"),
        ("https://tool.example\\@10.0.0.1/", "backslash"),
        ("https://tool.example/\r\nHost: other", "control characters"),
        ("https://tool.example:99999/", "not a web address"),
        ("http://2130706433/", "no host name"),
        ("http://0x7f.1/", "no host name"),
        ("http://127.1/", "no host name"),
        ("http://-x.example/", "no host name|not a web address"),
        ("http://127.0.0.1/", "127.0.0.1 is a loopback address"),
        ("http://[::1]/", "::1 is a loopback address"),
        ("http://[fe80::1]/", "never"),
        ("http://metadata.google.internal/computeMetadata/", "metadata"),
    ],
)
async def test_an_address_that_cannot_be_right_is_refused_with_a_reason(url: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says) as caught:
        OutboundPolicy().check_url(url)
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_word_in_the_allow_list_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"PORTICO_OUTBOUND_ALLOW.*10\.0\.0\.0/40"):
        OutboundPolicy(["10.0.0.0/40"])


@pytest.mark.parametrize(
    ("word", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("[::1]:8000", "http://[::1]:8000/"),
        ("::1", "http://[::1]/"),
        ("127.0.0.0/8", "http://127.3.3.3/"),
        ("10.0.0.0/8", "http://[::ffff:10.1.1.1]/"),
    ],
)
async def test_listed_addresses_pass(word: str, url: str) -> None:
    OutboundPolicy([word]).check_url(url)
    with pytest.raises(OutboundRefused):
        OutboundPolicy(["192.168.0.0/16"]).check_url(url)


# The connection itself


def client(policy: OutboundPolicy) -> HttpClient:
    return HttpClient(policy=policy, limits=HttpLimits(attempts=1, connect=2, read=2))


async def test_the_name_is_looked_up_once_and_the_judged_address_is_connected_to(
    server: Any, make_answer: Any
) -> None:
    """A name service that answers otherwise the second time (DNS rebinding) is not asked a second time."""
    server.on("/", make_answer(json={"fine": True}))
    names = resolver(["127.0.0.1"], ["169.254.169.254"])
    async with client(OutboundPolicy(["rebind.example"], resolver=names)) as http:
        assert await http.json(f"http://rebind.example:{server.port}/") == {"fine": True}
        assert names.asked == ["rebind.example"]
        assert server.requests[0].headers["host"] == f"rebind.example:{server.port}"


async def test_each_new_connection_is_judged_anew(server: Any, make_answer: Any) -> None:
    server.on("/", make_answer(json=1, headers={"Connection": "close"}))
    names = resolver(["127.0.0.1"], ["10.0.0.1"])
    async with client(OutboundPolicy(["127.0.0.1"], resolver=names)) as http:
        await http.json(f"http://rebind.example:{server.port}/")
        with pytest.raises(OutboundRefused, match=r"rebind.example is 10.0.0.1, a private address"):
            await http.json(f"http://rebind.example:{server.port}/")


async def test_the_guard_sits_in_the_pool_that_makes_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook is private to httpx2: an upgrade that moves it must turn this test red, not the guard off."""
    reached: list[str] = []

    async def connect(self: Any, host: str, *args: Any, **kwargs: Any) -> Any:
        reached.append(host)
        raise httpcore2.ConnectError("not in a test")

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    policy = OutboundPolicy(resolver=resolver(["8.8.8.8", "10.0.0.1", "1.1.1.1"]))
    transport = GuardedTransport(policy, limits=httpx.Limits())
    with pytest.raises(httpx.ConnectError):
        await transport.handle_async_request(httpx.Request("GET", "https://tool.example/"))
    assert reached == ["8.8.8.8", "1.1.1.1"]
    with pytest.raises(OutboundRefused, match="sockets"):
        await transport._through("")._pool._network_backend.connect_unix_socket("/run/docker.sock")
    await transport.aclose()


async def test_a_redirect_is_judged_like_a_first_address(server: Any, make_answer: Any) -> None:
    server.on(
        "/name", make_answer(status=302, headers={"Location": f"http://inner.example:{server.port}/secret"})
    )
    server.on(
        "/address", make_answer(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
    )
    server.on("/scheme", make_answer(status=302, headers={"Location": "file:///etc/passwd"}))
    policy = OutboundPolicy([f"127.0.0.1:{server.port}"], resolver=resolver(["10.0.0.7"]))
    async with client(policy) as http:
        for path, says in (
            ("/name", "redirects to http://inner.example.*10.0.0.7, a private address"),
            ("/address", "redirects to http://169.254.169.254.*never"),
            ("/scheme", "redirects to file:///etc/passwd"),
        ):
            with pytest.raises(Misconfigured, match=says):
                await http.get(server.url + path)
    assert server.asked("/secret") == []


async def test_where_a_redirect_leads_is_named_when_nobody_is_there(server: Any, make_answer: Any) -> None:
    server.on("/", make_answer(status=302, headers={"Location": "http://login.corp/"}))
    policy = OutboundPolicy([f"127.0.0.1:{server.port}"], resolver=resolver([]))
    async with client(policy) as http:
        with pytest.raises(NameNotFound, match=r"/ redirects to http://login\.corp.*has no address") as told:
            await http.get(f"{server.url}/")
    assert "proxy" in str(told.value.remedy)


# Proxies and certificates


async def test_a_proxy_of_the_environment_is_used_for_names_that_pass(
    server: Any, make_answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("http://tool.example/data", make_answer(json={"by": "proxy"}))
    monkeypatch.setenv("http_proxy", server.url)
    names = resolver(["8.8.8.8"], ["10.0.0.1"], [])
    async with client(OutboundPolicy(resolver=names)) as http:
        assert await http.json("http://tool.example/data") == {"by": "proxy"}
        with pytest.raises(OutboundRefused):
            await http.json("http://tool.example/data")
        assert await http.json("http://tool.example/data") == {
            "by": "proxy"
        }  # a name that only the proxy knows
        with pytest.raises(OutboundRefused):
            await http.json("http://169.254.169.254/latest/meta-data/")


@pytest.mark.parametrize(
    ("no_proxy", "host"), [("tool.example", "tool.example"), (".corp", "a.corp"), ("*", "x.example")]
)
async def test_no_proxy_is_honoured(no_proxy: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.corp:3128")
    target = OutboundPolicy().check_url(f"https://{host}/")
    assert proxy_for(target) == "http://proxy.corp:3128"
    monkeypatch.setenv("no_proxy", no_proxy)
    assert proxy_for(target) == ""


async def test_the_environments_certificates_are_used_or_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert tls_context().verify_mode is ssl.CERT_REQUIRED
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert ca_bundle() == str(tmp_path)
    assert tls_context().get_ca_certs() == []
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    with pytest.raises(Misconfigured, match=r"absent.pem"):
        tls_context()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ana:hunter2@git.example/x", "https://***@git.example/x"),
        ("https://x.example/?access_token=hunter2&page=2", "https://x.example/?access_token=***&page=2"),
        ("https://x.example/?sig=hunter2&design=flat", "https://x.example/?sig=***&design=flat"),
        ("https://x.example/?page=1&private_token=hunter2", "https://x.example/?page=1&private_token=***"),
        ("https://x.example/a?author=ana", "https://x.example/a?author=ana"),
    ],
)
async def test_messages_show_no_secret_of_an_address(text: str, shown: str) -> None:
    assert mask_url(text) == shown
