"""Real servers on loopback: one that answers, or misbehaves, as a test says, and one for Git over HTTP."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import json as json_module
import os
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integrations.listening import Listening, listening


@dataclass(frozen=True)
class Request:
    """What the server was asked; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


Reply = bytes | Callable[[Request], bytes] | Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes | str = b"",
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    length: int | None = None,
) -> bytes:
    """A whole HTTP answer as bytes; `length` may lie."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if json is not None:
        body = json_module.dumps(json)
        given.setdefault("content-type", "application/json")
    body = body.encode() if isinstance(body, str) else body
    if status != 304:
        given.setdefault("content-length", str(len(body) if length is None else length))
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Server:
    """The server as a test sees it.

    :ivar requests: all that were asked, in order.
    """

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    _routes: dict[str, list[Reply]] = field(default_factory=dict)
    _place: Listening | None = field(default=None, repr=False)

    def listen(self, tls: ssl.SSLContext | None = None) -> int:
        """Listen on one more port, and return it."""
        assert self._place is not None
        return self._place.listen(self.serve, tls)

    @contextmanager
    def running(self) -> Iterator[None]:
        with listening() as self._place:
            self.port = self.listen()
            yield

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, *replies: Reply) -> None:
        """Answer a path, or with `*` any other, with these in turn, and with the last of them from then on."""
        self._routes[path] = list(replies)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._read(reader):
                self.requests.append(request)
                replies = self._routes.get(request.path) or self._routes.get("*")
                replies = replies or [answer("no such page", status=404)]
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if isinstance(reply, bytes):
                    writer.write(reply)
                elif inspect.iscoroutinefunction(reply):
                    await reply(request, writer)
                    break
                else:
                    writer.write(reply(request))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Request | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _version = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _colon, value in (line.partition(":") for line in head[1:] if line)
        }
        return Request(
            method, target, headers, await reader.readexactly(int(headers.get("content-length", 0)))
        )


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test alone, in a thread and loop of its own."""
    served = Server()
    with served.running():
        yield served


@pytest.fixture
def make_answer() -> Callable[..., bytes]:
    """The function that builds an answer: `make_answer(json=..., status=429, headers=...)`."""
    return answer


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on the loop that the portal uses."""
    return "asyncio"


class Work:
    """A repository to commit to, with clocks that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *args: str, **environment: str) -> str:
        """Run git here and return what it prints."""
        told = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ana", "GIT_AUTHOR_EMAIL": "ana@acme.example",
            "GIT_COMMITTER_NAME": "Ana", "GIT_COMMITTER_EMAIL": "ana@acme.example", **environment,
        }  # fmt: skip
        done = subprocess.run(
            ["git", "-C", str(self.folder), *args], env=told, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(
        self,
        files: Mapping[str, str | bytes],
        message: str = "Change",
        *,
        at: str = "2026-01-02T03:04:05Z",
        **environment: str,
    ) -> str:
        """Write files, commit them at a time, and return the commit."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")
        self.git(
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            message,
            GIT_AUTHOR_DATE=at,
            GIT_COMMITTER_DATE=at,
            **environment,
        )
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def make_work(tmp_path: Path) -> Callable[[str], Work]:
    """Make a repository with a work tree in the test's folder."""
    return lambda name="work": Work(tmp_path / name)


@dataclass
class GitServer:
    """Git's own HTTP backend over a folder of repositories.

    :ivar password: what `ana` must give, if anything.
    :ivar redirect: where every request is sent instead, if anywhere.
    :ivar requests: method, path and authorization of each request.
    """

    folder: Path
    port: int = 0
    password: str = ""
    redirect: str = ""
    status: int = 0
    scheme: str = "http"
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@contextmanager
def heeding_modes() -> Iterator[None]:
    """Without root's right to read what no mode allows."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    held = (ctypes.c_uint32 * 6)()
    libc.capget(header, held)
    lowered = (ctypes.c_uint32 * 6)(*held)
    lowered[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset(header, lowered)
    try:
        yield
    finally:
        libc.capset(header, held)


@pytest.fixture
def locked() -> Callable[[Path], AbstractContextManager[None]]:
    """Make a folder that this thread may not list, and neither those it starts, until the end of the block."""

    @contextmanager
    def lock(folder: Path) -> Iterator[None]:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0)
        try:
            with heeding_modes():
                yield
        finally:
            folder.chmod(0o700)

    return lock


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    """Serve the repositories of the test's folder over HTTP."""
    with serve_git(GitServer(tmp_path)) as served:
        yield served


@pytest.fixture
def secure_git_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[GitServer]]:
    """Two hosts that serve the repositories of the test's folder over https, with a certificate that is trusted."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make_certificate("127.0.0.1", key, certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with (
        serve_git(GitServer(tmp_path, scheme="https"), context) as one,
        serve_git(GitServer(tmp_path, scheme="https"), context) as other,
    ):
        yield [one, other]


def make_certificate(name: str, key_file: Path, certificate_file: Path, *, days: int = 1) -> None:
    """Write a key and a certificate that it signed itself, for a host's name or address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    try:
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(name))]
    except ValueError:
        names = [x509.DNSName(name)]
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    certificate_file.write_bytes(certificate.public_bytes(pem))
    private = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))


@contextmanager
def serve_git(served: GitServer, tls: ssl.SSLContext | None = None) -> Iterator[GitServer]:
    """Run the server until the end of the block."""
    backend = Path(subprocess.check_output(["git", "--exec-path"], text=True).strip(), "git-http-backend")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each body waits 40 ms for the receipt of its headers

        def do_GET(self) -> None:
            address = urlsplit(self.path)  # one who takes it for a proxy gives the host too
            path, query = address.path, address.query
            authorization = self.headers.get("Authorization", "")
            served.requests.append((self.command, path, authorization))
            expected = "Basic " + b64encode(f"ana:{served.password}".encode()).decode()
            if served.status:
                self.reply(served.status, {}, b"")
            elif served.redirect:
                self.reply(301, {"Location": served.redirect + self.path}, b"")
            elif served.password and authorization != expected:
                self.reply(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            else:
                self.run_backend(path, query)

        do_POST = do_GET

        def run_backend(self, path: str, query: str) -> None:
            told = {
                "PATH": os.environ["PATH"], "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROJECT_ROOT": str(served.folder), "REQUEST_METHOD": self.command,
                "PATH_INFO": path, "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_ADDR": "127.0.0.1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            }  # fmt: skip
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answered = subprocess.run(
                [str(backend)], input=asked, env=told, capture_output=True, check=False
            ).stdout
            head, _blank, body = answered.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if line)
            self.reply(int(headers.pop("Status", "200").split()[0]), headers, body)

        def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        served.port = server.server_address[1]
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        server.shutdown()
        thread.join()
