"""A connection's own proxy and authorities, for HTTP and for git, and the guard behind a proxy."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from integrations.errors import Misconfigured, SourceUnavailable
from integrations.git import GitClient, GitLimits
from integrations.http import HttpClient, HttpLimits
from integrations.network import Network, certificates_in
from integrations.outbound import OutboundPolicy, OutboundRefused, Route
from tests.integrations.conftest import GitServer, Server, make_certificate, serve_git
from tests.integrations.proxy import Proxy, run_proxy

pytestmark = pytest.mark.anyio

QUICK = HttpLimits(attempts=1, connect=3, read=3, total=5)
NAME = "tool.acme.example"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    """The certificate of `tool.acme.example`, which nobody trusts by itself."""
    make_certificate(NAME, tmp_path / "key.pem", tmp_path / "certificate.pem")
    return (tmp_path / "certificate.pem").read_text()


@pytest.fixture
def tls(certificate: str, tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return context


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with run_proxy(Proxy()) as running:
        yield running


def names(**known: str) -> Any:
    """A resolver that knows these names, with blanks for dots, and no others."""
    found = {name.replace("_", "."): address for name, address in known.items()}

    async def resolve(host: str, port: int) -> list[str]:
        if host not in found:
            raise OSError("unknown")
        return [found[host]]

    return resolve


def client(policy: OutboundPolicy, **route: str) -> HttpClient:
    return HttpClient(
        policy=policy, limits=QUICK, redis=Redis.from_url("unix:///nonexistent"), route=Route(**route)
    )


class TestSettings:
    def test_certificates_are_kept_and_the_words_around_them_are_not(self, certificate: str) -> None:
        pasted = f"subject=CN=x\r\n{certificate}\n# and again\n{certificate}".replace("\n", "\r\n")
        kept = Network(ca_bundle=pasted).ca_bundle
        assert kept.count("BEGIN CERTIFICATE") == 1
        assert "subject" not in kept
        ssl.create_default_context(cadata=kept)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("/etc/ssl/acme.pem", "the name of a file"),
            ("MIIB", "There is no certificate in this"),
            ("-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----", "holds a private key"),
            ("-----BEGIN RSA PRIVATE KEY-----\nAA\n-----END RSA PRIVATE KEY-----", "holds a private key"),
            (
                "-----BEGIN CERTIFICATE REQUEST-----\nAA\n-----END CERTIFICATE REQUEST-----",
                "certificate request",
            ),
            ("{good}-----BEGIN CERTIFICATE-----\nMIIB\n", "Certificate 2 is cut off"),
            (
                "{good}-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                "Certificate 2 cannot be read",
            ),
        ],
    )
    def test_what_is_wrong_with_certificates_is_named(self, text: str, said: str, certificate: str) -> None:
        with pytest.raises(ValueError, match=said):
            certificates_in(text.replace("{good}", certificate))

    def test_one_that_ran_out_is_named_with_its_day(self, tmp_path: Path) -> None:
        make_certificate("old.example", tmp_path / "k", tmp_path / "c", days=-3)
        old = (tmp_path / "c").read_text()
        with pytest.raises(ValueError, match=r"Certificate 1, CN=old\.example, ran out on \d+ \w{3} \d{4}"):
            certificates_in(old)
        make_certificate("new.example", tmp_path / "k", tmp_path / "c")
        assert certificates_in(old + (tmp_path / "c").read_text()).count("BEGIN") == 2

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"proxy": "socks5://p.example:1080"}, "http:// or https://"),
            ({"proxy": "http://ana:x@p.example:3128"}, "fields of their own"),
            ({"proxy": "http://p.example:3128/path"}, "ends with its port"),
            ({"proxy": "http://p.example:99999"}, "no address"),
            ({"proxy": "http://"}, "names no host"),
            ({"proxy_user": "ana"}, "no proxy"),
            ({"proxy": "p.example:3128", "proxy_password": "x"}, "no user"),
        ],
    )
    def test_what_is_wrong_with_a_proxy_is_named(self, given: dict[str, str], said: str) -> None:
        with pytest.raises(ValidationError, match=said):
            Network.model_validate(given)

    def test_a_proxy_becomes_an_address_with_its_credentials_quoted(self) -> None:
        network = Network.model_validate(
            {"proxy": "p.example:3128", "proxy_user": "a@b", "proxy_password": "s:l/a"}
        )
        assert network.proxy == "http://p.example:3128"
        assert network.route().proxy == "http://a%40b:s%3Al%2Fa@p.example:3128"
        assert "s:l" not in repr(network)
        assert "s%3A" not in repr(network.route())


class TestHttp:
    async def test_an_own_authority_is_trusted_by_this_client_alone(
        self, server: Server, make_answer: Any, tls: ssl.SSLContext, certificate: str
    ) -> None:
        server.on("/x", make_answer(json=1))
        policy = OutboundPolicy([NAME], resolver=names(tool_acme_example="127.0.0.1"))
        url = f"https://{NAME}:{server.listen(tls)}/x"
        async with client(policy, authorities=certificate) as http:
            assert await http.json(url) == 1
        async with client(policy) as http:
            with pytest.raises(Misconfigured, match=r"is not trusted.*under Network in the settings"):
                await http.json(url)

    async def test_all_goes_through_the_proxy_which_is_given_its_credentials(
        self, server: Server, make_answer: Any, tls: ssl.SSLContext, certificate: str, proxy: Proxy
    ) -> None:
        server.on("/x", make_answer(json=1))
        proxy.knows = {f"{NAME}:443": server.listen(tls), NAME: server.port}
        proxy.password = "hunter2hunter2"
        policy = OutboundPolicy(["proxy.acme.example"], resolver=names(proxy_acme_example="127.0.0.1"))
        address = f"http://ana:{proxy.password}@proxy.acme.example:{proxy.port}"
        async with client(policy, authorities=certificate, proxy=address) as http:
            assert await http.json(f"https://{NAME}/x") == 1
            assert await http.json(f"http://{NAME}/x") == 1
        assert proxy.asked == [f"CONNECT {NAME}:443 HTTP/1.1", f"GET http://{NAME}/x HTTP/1.1"]
        assert not any("proxy-authorization" in request.headers for request in server.asked("/x")[:1])

    async def test_a_proxy_that_speaks_tls_is_verified_too(
        self, server: Server, make_answer: Any, tls: ssl.SSLContext, certificate: str
    ) -> None:
        server.on("/x", make_answer(json=1))
        policy = OutboundPolicy([NAME], resolver=names(tool_acme_example="127.0.0.1"))
        with run_proxy(Proxy({"t.example": server.port}), tls) as proxy:
            address = f"https://{NAME}:{proxy.port}"
            async with client(policy, proxy=address, authorities=certificate) as http:
                assert await http.json("http://t.example/x") == 1
            async with client(policy, proxy=address) as http:
                with pytest.raises(Misconfigured, match="is not trusted"):
                    await http.json("http://t.example/x")

    async def test_the_proxys_own_address_is_judged_like_any_other(self, proxy: Proxy) -> None:
        policy = OutboundPolicy(resolver=names(proxy_acme_example="10.9.9.9"))
        async with client(policy, proxy="http://proxy.acme.example:3128") as http:
            with pytest.raises(
                OutboundRefused, match=r"proxy.acme.example is 10\.9\.9\.9, a private address"
            ):
                await http.json(f"https://{NAME}/x")
        assert policy.refusals == {"proxy.acme.example": "proxy.acme.example is 10.9.9.9, a private address"}

    async def test_the_checked_address_of_the_proxy_is_the_one_that_is_used(
        self, server: Server, make_answer: Any, proxy: Proxy
    ) -> None:
        asked: list[str] = []

        async def rebinding(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) < 3 else ["10.0.0.1"]

        server.on("/x", make_answer(json=1))
        proxy.knows = {NAME: server.port}
        policy = OutboundPolicy([f"127.0.0.1:{proxy.port}", NAME], resolver=rebinding)
        async with client(policy, proxy=f"http://proxy.acme.example:{proxy.port}") as http:
            assert await http.json(f"http://{NAME}/x") == 1
        assert asked == [NAME, "proxy.acme.example"]

    @pytest.mark.parametrize(
        "url", ["http://169.254.169.254/x", "http://[fd00:ec2::254]/x", "http://inside.corp/x"]
    )
    async def test_the_guard_holds_behind_the_proxy(self, url: str, proxy: Proxy) -> None:
        policy = OutboundPolicy(["127.0.0.1"], resolver=names(inside_corp="10.2.3.4"))
        async with client(policy, proxy=f"http://127.0.0.1:{proxy.port}") as http:
            with pytest.raises(OutboundRefused):
                await http.get(url)
        assert proxy.asked == []

    async def test_a_redirect_behind_the_proxy_is_judged_anew(
        self, server: Server, make_answer: Any, proxy: Proxy
    ) -> None:
        server.on("/x", make_answer(status=302, headers={"Location": "http://169.254.169.254/latest/"}))
        proxy.knows = {NAME: server.port}
        async with client(
            OutboundPolicy(["127.0.0.1"], resolver=names()), proxy=f"http://127.0.0.1:{proxy.port}"
        ) as http:
            with pytest.raises(OutboundRefused, match="never"):
                await http.get(f"http://{NAME}/x")
        assert len(proxy.asked) == 1

    async def test_a_name_that_only_the_proxy_knows_is_not_looked_up_for_each_request(
        self, server: Server, make_answer: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known: dict[str, str] = {}
        asked: list[str] = []

        async def look_up(host: str, port: int) -> list[str]:
            asked.append(host)
            return await names(**known)(host, port)

        server.on("*", make_answer(json=1))
        proxy.knows = {NAME: server.port}
        policy = OutboundPolicy(["127.0.0.1"], resolver=look_up)
        async with client(policy, proxy=f"http://127.0.0.1:{proxy.port}") as http:
            for _turn in range(3):
                assert await http.json(f"http://{NAME}/x") == 1
            assert asked == [NAME]
        # Once that is too long ago, it is judged again.
        monkeypatch.setattr("integrations.outbound.UNKNOWN_FOR", 0.0)
        async with client(policy, proxy=f"http://127.0.0.1:{proxy.port}") as http:
            assert await http.json(f"http://{NAME}/x") == 1
            known["tool_acme_example"] = "10.2.3.4"
            with pytest.raises(OutboundRefused):
                await http.json(f"http://{NAME}/x")

    async def test_what_is_wrong_with_the_proxy_is_said_of_the_proxy(self, proxy: Proxy) -> None:
        policy = OutboundPolicy(["127.0.0.1"], resolver=names())
        async with client(policy, proxy="http://ana:hunter2hunter2@127.0.0.1:9") as http:
            with pytest.raises(
                SourceUnavailable, match=r"The proxy 127\.0\.0\.1:9 cannot be reached"
            ) as caught:
                await http.get(f"https://{NAME}/x")
            assert "hunter2" not in caught.value.message
        proxy.password = "right"
        async with client(policy, proxy=f"http://ana:wrong@127.0.0.1:{proxy.port}") as http:
            for scheme in ("http", "https"):
                with pytest.raises(Misconfigured, match=r"asks for credentials.*under Network"):
                    await http.get(f"{scheme}://{NAME}/x")

    async def test_an_answer_that_came_another_way_is_not_taken_for_this_one(
        self, server: Server, make_answer: Any, proxy: Proxy
    ) -> None:
        """Whoever may name a proxy of their own must not put words into what others read."""
        server.on("/x", make_answer(json="theirs", headers={"ETag": '"1"'}))
        proxy.knows = {f"127.0.0.1:{server.port}": server.port}
        policy = OutboundPolicy(["127.0.0.1"])
        way = Route(proxy=f"http://127.0.0.1:{proxy.port}")
        async with HttpClient(policy=policy, limits=QUICK, route=way) as http:
            assert await http.json(f"{server.url}/x") == "theirs"
        async with HttpClient(policy=policy, limits=QUICK) as http:
            await http.json(f"{server.url}/x")
        assert "if-none-match" not in server.requests[-1].headers


class TestGit:
    @pytest.fixture
    def host(
        self, tmp_path: Path, tls: ssl.SSLContext, make_work: Callable[[str], Any]
    ) -> Iterator[GitServer]:
        make_work("payments").commit({"a": "1"})
        with serve_git(GitServer(tmp_path, scheme="https"), tls) as served:
            yield served

    def git(self, tmp_path: Path, policy: OutboundPolicy, **route: str) -> GitClient:
        limits = GitLimits(network=20, local=20, lock=5)
        return GitClient(policy=policy, home=tmp_path / "home" / "git", limits=limits, route=Route(**route))

    async def test_an_own_authority_is_trusted(
        self, tmp_path: Path, host: GitServer, certificate: str
    ) -> None:
        policy = OutboundPolicy([NAME], resolver=names(tool_acme_example="127.0.0.1"))
        url = f"https://{NAME}:{host.port}/payments/.git"
        clone = await self.git(tmp_path, policy, authorities=certificate).mirror(url)
        assert await clone.branches() == ["main"]
        with pytest.raises(Misconfigured, match=r"is not trusted.*under Network in the settings"):
            await self.git(tmp_path, policy).remote_refs(url)

    async def test_what_is_trusted_is_kept_as_long_as_it_is_used(
        self, tmp_path: Path, host: GitServer, certificate: str
    ) -> None:
        policy = OutboundPolicy([NAME], resolver=names(tool_acme_example="127.0.0.1"))
        git = self.git(tmp_path, policy, authorities=certificate)
        for _turn in range(2):
            assert await git.remote_refs(f"https://{NAME}:{host.port}/payments/.git")
            (kept,) = (tmp_path / "home" / "git" / "authorities").iterdir()
            await git.prune(unused_for=timedelta(days=30))
            assert certificate in kept.read_text()
            os.utime(kept, (0, 0))
            await git.prune(unused_for=timedelta(days=30))
            assert not kept.exists()

    async def test_the_usual_authorities_stay(
        self, tmp_path: Path, host: GitServer, certificate: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_certificate("other.example", tmp_path / "other-key.pem", tmp_path / "other.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        policy = OutboundPolicy([NAME], resolver=names(tool_acme_example="127.0.0.1"))
        git = self.git(tmp_path, policy, authorities=(tmp_path / "other.pem").read_text())
        assert await git.remote_refs(f"https://{NAME}:{host.port}/payments/.git")

    async def test_it_goes_through_the_proxy_which_looks_the_name_up(
        self, tmp_path: Path, host: GitServer, certificate: str, proxy: Proxy
    ) -> None:
        proxy.knows, proxy.password = {f"{NAME}:443": host.port}, "hunter2 hunter2@"
        policy = OutboundPolicy(["proxy.acme.example"], resolver=names(proxy_acme_example="127.0.0.1"))
        route = Network.model_validate(
            {
                "ca_bundle": certificate,
                "proxy": f"http://proxy.acme.example:{proxy.port}",
                "proxy_user": "ana",
                "proxy_password": proxy.password,
            }
        ).route()
        git = self.git(tmp_path, policy, authorities=route.authorities, proxy=route.proxy)
        clone = await git.mirror(f"https://{NAME}/payments/.git")
        assert await clone.branches() == ["main"]
        assert set(proxy.asked) == {f"CONNECT {NAME}:443 HTTP/1.1"}

    async def test_the_proxys_own_address_is_judged(self, tmp_path: Path) -> None:
        policy = OutboundPolicy(resolver=names(proxy_acme_example="10.9.9.9"))
        with pytest.raises(OutboundRefused, match=r"proxy.acme.example is 10\.9\.9\.9"):
            await self.git(tmp_path, policy, proxy="http://proxy.acme.example:3128").remote_refs(
                f"https://{NAME}/payments.git"
            )

    async def test_the_guard_holds_behind_the_proxy(self, tmp_path: Path, proxy: Proxy) -> None:
        policy = OutboundPolicy(["127.0.0.1"], resolver=names(inside_corp="10.2.3.4"))
        git = self.git(tmp_path, policy, proxy=f"http://127.0.0.1:{proxy.port}")
        for host in ("169.254.169.254", "inside.corp"):
            with pytest.raises(OutboundRefused):
                await git.remote_refs(f"https://{host}/payments.git")
        assert proxy.asked == []

    async def test_what_is_wrong_with_the_proxy_is_said_of_the_proxy(
        self, tmp_path: Path, proxy: Proxy
    ) -> None:
        policy = OutboundPolicy(["127.0.0.1"], resolver=names())
        url = f"https://{NAME}/p.git"
        with pytest.raises(SourceUnavailable, match=r"The proxy 127\.0\.0\.1:9 cannot be reached") as caught:
            await self.git(tmp_path, policy, proxy="http://ana:hunter2hunter2@127.0.0.1:9").remote_refs(url)
        assert "hunter2" not in caught.value.message
        through = f"127.0.0.1:{proxy.port}"
        with pytest.raises(SourceUnavailable, match="did not let git through"):
            await self.git(tmp_path, policy, proxy=f"http://{through}").remote_refs(url)
        proxy.password = "right"
        with pytest.raises(Misconfigured, match=r"asks for credentials.*under Network") as refused:
            await self.git(tmp_path, policy, proxy=f"http://ana:hunter2hunter2@{through}").remote_refs(url)
        assert "hunter2" not in refused.value.message

    async def test_ssh_does_not_go_around_the_proxy_in_silence(self, tmp_path: Path) -> None:
        policy = OutboundPolicy(resolver=names(tool_acme_example="8.8.8.8", proxy_acme_example="8.8.4.4"))
        with pytest.raises(Misconfigured, match="does not go through the connection's proxy"):
            await self.git(tmp_path, policy, proxy="http://proxy.acme.example:3128").remote_refs(
                f"git@{NAME}:acme/pay.git"
            )
