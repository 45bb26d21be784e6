"""Identity providers for tests: a real one, and one of our own that holds us to the letter and lies on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx2 as httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.integrations.servers import answers, free_port, program, serve, url64

CLIENT_ID, SECRET = "portico", "a client's secret: with +/% in it"


@dataclass
class RealProvider:
    """The OpenID provider of PyPI's `oidc-provider-mock`, as a program of its own."""

    url: str

    def knows(self, subject: str, **claims: Any) -> None:
        """Say what it says of somebody from now on."""
        httpx.put(f"{self.url}/users/{quote(subject)}", json=claims).raise_for_status()

    def sign_in(self, url: str, subject: str) -> str:
        """Somebody signs in there, and is sent back: where to."""
        with httpx.Client() as browser:
            assert "sub" in browser.get(url).raise_for_status().text
            answer = browser.post(url, data={"sub": subject})
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def refuse(self, url: str) -> str:
        """Somebody does not want to sign in there, and is sent back: where to."""
        return httpx.post(url, data={"action": "deny"}).headers["Location"]


@contextmanager
def run_provider(folder: Path) -> Iterator[RealProvider]:
    """Run the real one."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-H", "127.0.0.1", "-p", str(port)]
    with program(command, folder=folder, ready=lambda: answers(f"{url}/.well-known/openid-configuration")):
        yield RealProvider(url)


@dataclass
class StrictProvider:
    """A provider that checks everything that the specification lets it check of us.

    :ivar says: claims that its next tokens hold instead of the true ones; None takes one away.
    :ivar info: what its userinfo says besides.
    :ivar published: what it publishes of itself besides.
    :ivar signs_with: the key it signs with instead of the one that it publishes.
    """

    url: str = ""
    says: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    signs_with: Any = None
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    asked: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def sign_in(self, url: str, subject: str = "ada") -> tuple[str, str]:
        """Somebody signs in: the code and the state that they are sent back with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked | {"sub": subject}
        return code, asked["state"]

    def handle(self, request: BaseHTTPRequestHandler) -> tuple[int, Mapping[str, str], bytes]:
        path = urlsplit(request.path).path
        self.asked.append(path)
        status, said = 200, {}
        if path == "/.well-known/openid-configuration":
            said = {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "userinfo_endpoint": f"{self.url}/userinfo",
            } | self.published
        elif path == "/jwks":
            said = {"keys": [self.key.as_dict(private=False)]}
        elif path == "/token":
            status, said = self._token(request)
        elif path == "/userinfo":
            assert request.headers["Authorization"] == "Bearer an-access-token"
            said = {"sub": "ada"} | self.info
        return status, {"Content-Type": "application/json"}, json.dumps(said).encode()

    def _token(self, request: BaseHTTPRequestHandler) -> tuple[int, dict[str, Any]]:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        scheme, _blank, credentials = request.headers.get("Authorization", "").partition(" ")
        client = [unquote(part) for part in base64.b64decode(credentials).decode().split(":", 1)]
        if scheme != "Basic" or client != [CLIENT_ID, SECRET]:
            return 401, {"error": "invalid_client"}
        began = self._codes.pop(form.get("code", ""), None)
        if began is None or form["redirect_uri"] != began["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if url64(digest) != began["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": began["sub"],
            "aud": CLIENT_ID,
            "nonce": began["nonce"],
            "iat": now,
            "exp": now + 300,
        } | self.says
        header = {"alg": "RS256", "kid": "one"} | self.header
        claims = {name: value for name, value in claims.items() if value is not None}
        if header["alg"] == "none":
            token = ".".join([*(url64(json.dumps(part).encode()) for part in (header, claims)), ""])
        else:
            token = jwt.encode(header, claims, self.signs_with or self.key, algorithms=["RS256", "HS256"])
        return 200, {"token_type": "Bearer", "access_token": "an-access-token", "id_token": token}


@contextmanager
def run_strict_provider() -> Iterator[StrictProvider]:
    """Run our own."""
    provider = StrictProvider()
    with serve(provider.handle) as url:
        provider.url = url
        yield provider
