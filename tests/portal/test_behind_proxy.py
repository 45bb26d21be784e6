"""Behind a proxy: whose word is taken for where a request came from, and what follows from `PORTICO_URL`."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client, RequestFactory

from access.models import AuditEvent, User
from access.services import create_token
from portal import environment as env
from portal.middleware import ProxyMiddleware
from tests.cast import PASSWORD
from tests.integrations.conftest import make_certificate

NAME, PROXY = "portal.example", "127.0.0.2"


@pytest.fixture
def behind(settings: Any) -> Any:
    """A portal whose public address is https, behind proxies at 10.0.0.0/8."""
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    return public(settings)


def public(settings: Any) -> Any:
    settings.PORTICO_URL = f"https://{NAME}"
    settings.ALLOWED_HOSTS = [*env.LOOPBACK, NAME, "inside.example"]
    settings.CSRF_TRUSTED_ORIGINS = env.origins(url=settings.PORTICO_URL)
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    return settings


def seen(**headers: str) -> tuple[str, str, list[str]]:
    """Address, scheme and forwarded headers of a request as views see it."""
    meta = {name if name == "REMOTE_ADDR" else f"HTTP_{name}": value for name, value in headers.items()}
    found: list[Any] = []
    ProxyMiddleware(lambda request: found.append(request))(RequestFactory().get("/", **meta))  # type: ignore[arg-type, return-value]
    (request,) = found
    return (
        request.META["REMOTE_ADDR"],
        request.scheme,
        sorted(name for name in request.META if name.startswith("HTTP_X_FORWARDED_")),
    )


class TestWhoseWordIsTaken:
    def test_a_trusted_proxys(self, behind: Any) -> None:
        assert seen(REMOTE_ADDR="10.0.0.1", X_FORWARDED_FOR="198.51.100.7", X_FORWARDED_PROTO="https") == (
            "198.51.100.7",
            "https",
            ["HTTP_X_FORWARDED_PROTO"],
        )
        mapped = seen(REMOTE_ADDR="::ffff:10.0.0.1", X_FORWARDED_FOR="2001:db8::7", X_FORWARDED_PROTO="http")
        assert mapped[:2] == ("2001:db8::7", "http")

    @pytest.mark.parametrize("peer", ["198.51.100.1", "127.0.0.1", "", "x"])
    def test_nobody_elses(self, behind: Any, peer: str) -> None:
        found = seen(
            REMOTE_ADDR=peer, X_FORWARDED_FOR="1.2.3.4", X_FORWARDED_PROTO="https", X_FORWARDED_HOST="evil"
        )
        assert found == (peer, "http", [])

    @pytest.mark.parametrize(
        ("chain", "client"),
        [
            ("1.2.3.4, 198.51.100.7", "198.51.100.7"),  # what stands before is the client's own word
            ("198.51.100.7, 10.0.0.2", "198.51.100.7"),  # two proxies of ours
            ("10.0.0.9", "10.0.0.9"),  # from inside
            ("", "10.0.0.1"),
        ],
    )
    def test_the_nearest_address_that_is_no_proxy_is_the_client(
        self, behind: Any, chain: str, client: str
    ) -> None:
        assert seen(REMOTE_ADDR="10.0.0.1", X_FORWARDED_FOR=chain)[0] == client

    def test_the_audit_log_has_the_clients_address(
        self, behind: Any, ana: User, db: Any, rf: RequestFactory
    ) -> None:
        for peer, expected in (("10.0.0.1", "198.51.100.7"), ("203.0.113.9", "203.0.113.9")):
            client = Client(headers={"host": NAME, "x-forwarded-for": "198.51.100.7"}, REMOTE_ADDR=peer)
            client.post(
                "/sign-in", {"username": "ana", "password": "wrong"}, headers={"origin": f"https://{NAME}"}
            )
            assert AuditEvent.objects.order_by("-pk")[0].ip == expected

    def test_without_any_the_headers_are_nobodys(self, settings: Any) -> None:
        settings.TRUSTED_PROXIES = []
        assert seen(REMOTE_ADDR="127.0.0.1", X_FORWARDED_FOR="1.2.3.4", X_FORWARDED_PROTO="https")[:2] == (
            "127.0.0.1",
            "http",
        )


class TestWhatFollowsFromTheAddress:
    def test_a_request_for_its_host_came_by_its_scheme(self, settings: Any) -> None:
        """Even where no proxy is trusted: a link of http would send a token in the clear."""
        public(settings)
        assert seen(REMOTE_ADDR="203.0.113.9", HOST=NAME)[1] == "https"
        assert seen(REMOTE_ADDR="203.0.113.9", HOST=f"{NAME}:443")[1] == "https"
        for host in ("inside.example", "127.0.0.1", "[::1", ""):
            assert seen(REMOTE_ADDR="203.0.113.9", HOST=host)[1] == "http"

    def test_a_port_that_the_proxy_left_out_is_filled_in(
        self, settings: Any, ana: User, core_pack: None
    ) -> None:
        public(settings)
        settings.PORTICO_URL = f"https://{NAME}:8443"
        token = create_token(user=ana, name="t").text
        for host in (NAME, f"{NAME}:8443"):
            answer = Client(headers={"host": host, "authorization": f"Bearer {token}"}).get(
                "/api/v1/kinds/?limit=1"
            )
            assert answer.json()["next"].startswith(f"https://{NAME}:8443/")

    def test_links_of_the_api_are_public_ones(self, settings: Any, ana: User, core_pack: None) -> None:
        public(settings)
        token = create_token(user=ana, name="t").text
        for path in ("/api/v1/kinds/?limit=1", "/api/v1/audit/?limit=1"):
            create_token(user=ana, name=path)
            answer = Client(headers={"host": NAME, "authorization": f"Bearer {token}"}).get(path)
            assert answer.json()["next"].startswith(f"https://{NAME}/")

    def test_browsers_are_told_to_stay_with_it(self, settings: Any) -> None:
        public(settings)
        for host, expected in ((NAME, True), ("127.0.0.1", False)):
            answer = Client(headers={"host": host}).get("/healthz")
            assert answer.has_header("Strict-Transport-Security") is expected

    def test_hosts_origins_and_cookies_follow_it(self) -> None:
        assert env.hosts("NOT_SET_ANYWHERE", url=f"https://{NAME}:8443") == [*env.LOOPBACK, NAME]
        assert env.origins(url=f"https://{NAME}:8443") == [f"https://{NAME}:8443"]


# --- real ones ------------------------------------------------------------------------------------------------


@pytest.fixture
def nginx(
    tmp_path: Path, require_program: Any, live_server: Any, settings: Any
) -> Iterator[tuple[int, int, ssl.SSLContext]]:
    """nginx as the operator guide sets it up, before the portal: its https and http port, and who trusts it."""
    program = require_program("nginx")
    make_certificate(NAME, tmp_path / "key.pem", tmp_path / "certificate.pem")
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        secure, plain = one.getsockname()[1], other.getsockname()[1]
    guide = (Path(__file__).resolve().parents[2] / "docs" / "operator-guide.md").read_text()
    location = guide.split("```nginx\n", 1)[1].split("```", 1)[0]
    assert "proxy_pass http://127.0.0.1:8000;" in location
    location = location.replace("http://127.0.0.1:8000", live_server.url)
    places = " ".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"""
        daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; user root;
        events {{ }}
        http {{
            access_log off; {places}
            server {{
                listen 127.0.0.1:{secure} ssl;
                listen 127.0.0.1:{plain};
                ssl_certificate {tmp_path}/certificate.pem; ssl_certificate_key {tmp_path}/key.pem;
                proxy_bind {PROXY};
                {location}
            }}
        }}
        """
    )
    process = subprocess.Popen(
        [program, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
    )
    try:
        for _turn in range(100):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", secure)) == 0:
                    break
            time.sleep(0.05)
        yield secure, plain, ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    finally:
        process.terminate()
        process.wait(10)


def ask(
    at: tuple[int, int, ssl.SSLContext],
    method: str,
    path: str,
    *,
    secure: bool = True,
    body: str = "",
    **headers: str,
) -> tuple[int, dict[str, list[str]], str]:
    """What the portal answers through nginx."""
    port, plain, trusting = at
    if secure:
        raw = socket.create_connection(("127.0.0.1", port))
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.sock = trusting.wrap_socket(raw, server_hostname=NAME)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", plain)
    given = {"Host": NAME, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, path, body=body or None, headers=given)
    answer = connection.getresponse()
    found: dict[str, list[str]] = {}
    for name, value in answer.getheaders():
        found.setdefault(name.lower(), []).append(value)
    text = answer.read().decode()
    connection.close()
    return answer.status, found, text


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("trusted", [True, False])
def test_signing_in_through_nginx(
    nginx: tuple[int, int, ssl.SSLContext], settings: Any, core_pack: None, ana: User, trusted: bool
) -> None:
    """The form, its cookies, the redirect and the address in the log, all by the public address."""
    public(settings)
    if trusted:
        settings.TRUSTED_PROXIES = [ip_network(PROXY)]
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    status, headers, page = ask(nginx, "GET", "/sign-in")
    assert status == 200
    (cookie,) = [one for one in headers["set-cookie"] if one.startswith(f"{settings.CSRF_COOKIE_NAME}=")]
    assert "Secure" in cookie
    token = page.split('name="csrfmiddlewaretoken" value="', 1)[1].split('"', 1)[0]
    form = urlencode({"username": "ana", "password": PASSWORD, "csrfmiddlewaretoken": token})
    given = {
        "Content_Type": "application/x-www-form-urlencoded",
        "Cookie": cookie.partition(";")[0],
        "X_Forwarded_For": "203.0.113.66",  # the client's own word
    }
    refused, _headers, _page = ask(
        nginx, "POST", "/sign-in", body=form, Origin="https://evil.example", **given
    )
    assert refused == 403
    status, headers, _page = ask(nginx, "POST", "/sign-in", body=form, Origin=f"https://{NAME}", **given)
    assert (status, headers["location"]) == (302, ["/"])
    (session,) = [one for one in headers["set-cookie"] if one.startswith(f"{settings.SESSION_COOKIE_NAME}=")]
    assert "Secure" in session
    came_from = "127.0.0.1" if trusted else PROXY
    assert AuditEvent.objects.get(verb="session.start").ip == came_from, "whatever the client says of itself"
    status, _headers, page = ask(nginx, "GET", "/sign-in", Host="other.example")
    assert status == 400
    assert "PORTICO_URL" in page


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_links_through_nginx(
    nginx: tuple[int, int, ssl.SSLContext], settings: Any, core_pack: None, ana: User
) -> None:
    public(settings)
    settings.TRUSTED_PROXIES = [ip_network(PROXY)]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    bearer = f"Bearer {create_token(user=ana, name='t').text}"
    _status, _headers, text = ask(nginx, "GET", "/api/v1/kinds/?limit=1", Authorization=bearer)
    assert f'"next":"https://{NAME}/api/v1/kinds/' in text.replace(": ", ":")
    _status, _headers, text = ask(nginx, "GET", "/api/v1/kinds/?limit=1", secure=False, Authorization=bearer)
    assert f'"next":"http://{NAME}/api/v1/kinds/' in text.replace(": ", ":"), "the proxy knows how it came"
