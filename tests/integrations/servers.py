"""Real servers for tests: a Buildbot master, and container registries with every kind of sign-in.

Each is a context manager that starts its program in a folder of the test on a free port of loopback, waits
until it answers, and ends it by its process id. The fixtures at the end serve the tests of one session.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

BUILDBOT = ["buildbot==4.3.0", "buildbot-worker==4.3.0", "buildbot-www==4.3.0"]
PATIENCE = 90.0
T = TypeVar("T")


class ServerMissing(Exception):
    """The program is not on this machine and could not be installed."""


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cache_folder() -> Path:
    """Where servers that take long to install are kept between test runs."""
    base = os.environ.get("PORTICO_TEST_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "portico-tests"
    )
    folder = Path(base)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def program(
    command: Sequence[str | Path], *, folder: Path, ready: Callable[[], bool], **environment: str
) -> Iterator[int]:
    """Run a server until the block ends, and give its process id.

    :param ready: whether the server is there; asked until it is.
    """
    log = folder / "server.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True, env={**os.environ, **environment}, preexec_fn=_end_with_parent,
        )  # fmt: skip

    def is_ready() -> bool:
        if process.poll() is not None:
            said = log.read_text()[-3000:]
            raise AssertionError(f"{process.args} ended with {process.returncode}:\n{said}")
        return ready()

    try:
        wait_for(is_ready, f"{command[0]}, which writes to {log}")
        yield process.pid
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    continue
        process.wait(5)


def _end_with_parent() -> None:
    """Leave no server behind where the tests are killed; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def answers(url: str) -> bool:
    """Whether there is an HTTP server at this address."""
    try:
        _fetch(url)
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def wait_for(look: Callable[[], T], what: str) -> T:
    """What `look` gives, once it gives anything."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"Waited {PATIENCE} seconds for {what}.")


def git(folder: Path | str, *args: str) -> str:
    """Run Git in a folder as Ana, and give what it prints."""
    told = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ana", "GIT_AUTHOR_EMAIL": "ana@acme.example",
        "GIT_COMMITTER_NAME": "Ana", "GIT_COMMITTER_EMAIL": "ana@acme.example",
    }  # fmt: skip
    command = ["git", "-C", str(folder).removeprefix("file://"), *args]
    ran = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command} failed: {ran.stderr}"
    return ran.stdout.strip()


def run(command: Sequence[str | Path], **environment: str) -> None:
    """Run a program to its end."""
    ran = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.args} failed:\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"


def _fetch(
    url: str, *, method: str = "GET", data: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=data, method=method, headers=named)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()


# --- Buildbot ---------------------------------------------------------------------------------------------


def buildbot_program() -> Path:
    """The folder of Buildbot's programs, installed once into the cache by pip.

    :raises ServerMissing: if it cannot be installed.
    """
    name = "-".join([*BUILDBOT, f"py{sys.version_info[0]}{sys.version_info[1]}"]).replace("==", "-")
    home = cache_folder() / hashlib.sha256(name.encode()).hexdigest()[:12]
    done = home / "installed"
    with (cache_folder() / "buildbot.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            steps = (
                [sys.executable, "-m", "venv", home],
                [home / "bin/pip", "install", "--quiet", *BUILDBOT],
            )
            for step in steps:
                ran = subprocess.run(
                    [str(part) for part in step], capture_output=True, text=True, check=False
                )
                if ran.returncode:
                    raise ServerMissing(f"Buildbot cannot be installed: {ran.stderr.strip()[-500:]}")
            done.write_text(name)
    return home / "bin"


@dataclass(frozen=True, kw_only=True)
class Builder:
    """A builder of the master.

    :ivar codebases: repositories that are cloned, by the name of the codebase; the only one may be nameless.
    :ivar steps: name and shell command of each step after the checkouts. Exit code 1 is a failure, 2 an
        exception, 3 a warning.
    :ivar is_forceable: whether there is a force scheduler for it.
    :ivar is_strict: its force scheduler wants a reason and has no choice of branch.
    :ivar on_changes: whether a change of its repository starts a build.
    """

    name: str
    codebases: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[str, str]] = (("test", "sh test.sh"),)
    tags: Sequence[str] = ()
    description: str = ""
    project: str = ""
    is_forceable: bool = True
    is_strict: bool = False
    on_changes: bool = False


_MASTER = """
import json, pathlib
from buildbot.plugins import schedulers, steps, util, worker

told = json.loads(pathlib.Path(__file__).with_name("told.json").read_text())
local = worker.LocalWorker("local", max_builds=4)
local.quarantine_initial_timeout = local.quarantine_timeout = 0  # an exception must not hold up the next build
c = BuildmasterConfig = {
    "buildbotNetUsageData": None,
    "title": "Acme CI",
    "buildbotURL": told["url"] + "/",
    "protocols": {"pb": {"port": f"tcp:{told['pb']}:interface=127.0.0.1"}},
    "workers": [local],
    "www": {
        "port": f"tcp:{told['port']}:interface=127.0.0.1",
        "plugins": {},
        "change_hook_dialects": {"base": True},
    },
    "projects": [util.Project(name) for name in sorted({b["project"] for b in told["builders"]} - {""})],
    "builders": [],
    "schedulers": [],
}
if told["login"]:
    user, password = told["login"]
    c["www"]["auth"] = util.UserPasswordAuth({user: password})
    c["www"]["authz"] = util.Authz(
        allowRules=[util.AnyEndpointMatcher(role="people", defaultDeny=True)],
        roleMatchers=[util.RolesFromUsername(roles=["people"], usernames=[user])],
    )
for b in told["builders"]:
    name, codebases = b["name"], b["codebases"]
    factory = util.BuildFactory()
    for codebase, url in codebases.items():
        factory.addStep(steps.Git(
            name=f"checkout {codebase}".strip(), repourl=url, codebase=codebase,
            workdir=f"build/{codebase}".rstrip("/"), mode="full", method="fresh",
        ))
    for step, command in b["steps"]:
        factory.addStep(steps.ShellCommand(
            name=step, command=["sh", "-c", command], haltOnFailure=True, warnOnWarnings=True,
            decodeRC={0: util.SUCCESS, 1: util.FAILURE, 2: util.EXCEPTION, 3: util.WARNINGS},
        ))
    c["builders"].append(util.BuilderConfig(
        name=name, workernames=["local"], factory=factory, tags=b["tags"],
        description=b["description"] or None, project=b["project"] or None,
    ))
    if b["on_changes"]:
        c["schedulers"].append(schedulers.AnyBranchScheduler(
            name="changes-" + name, builderNames=[name], treeStableTimer=None,
            change_filter=util.ChangeFilter(repository=list(codebases.values())),
        ))
    if b["is_forceable"]:
        strict = b["is_strict"]
        fixed = {"branch": util.FixedParameter("branch", default="main")} if strict else {}
        c["schedulers"].append(schedulers.ForceScheduler(
            name="force-" + name, builderNames=[name],
            reason=util.StringParameter("reason", default="" if strict else "asked for", required=strict),
            codebases=[
                util.CodebaseParameter(
                    codebase, repository=util.FixedParameter("repository", default=url), **fixed
                )
                for codebase, url in (codebases or {"": ""}).items()
            ],
        ))
    else:
        c["schedulers"].append(schedulers.Triggerable(name="after-" + name, builderNames=[name]))
"""


@dataclass(frozen=True)
class Buildbot:
    """A running master."""

    url: str
    folder: Path

    def get(self, path: str) -> Any:
        """What its API answers."""
        return json.loads(_fetch(f"{self.url}/api/v2/{path}", Accept="application/json")[2])

    def builder_id(self, name: str) -> int:
        return next(row["builderid"] for row in self.get("builders")["builders"] if row["name"] == name)

    def force(self, name: str, **params: Any) -> int:
        """Ask for a build, and give the id of its request."""
        builder = self.builder_id(name)
        call = {"jsonrpc": "2.0", "id": 1, "method": "force", "params": {"builderid": builder, **params}}
        url = f"{self.url}/api/v2/forceschedulers/force-{name}"
        said = _fetch(url, method="POST", data=json.dumps(call).encode(), Content_Type="application/json")[2]
        return json.loads(said)["result"][1][str(builder)]

    def change(self, **fields: str) -> None:
        """Tell the master of a commit, as a Git host's hook does: repository, branch, revision, author."""
        _fetch(
            f"{self.url}/change_hook/base",
            method="POST",
            data=urllib.parse.urlencode(fields).encode(),
            Content_Type="application/x-www-form-urlencoded",
        )

    def wait(
        self, request: int, *, until: Callable[[dict[str, Any]], bool] = lambda build: build["complete"]
    ) -> dict[str, Any]:
        """The build of a request, once it is as wanted."""

        def look() -> dict[str, Any] | None:
            found = self.get(f"builds?buildrequestid={request}")["builds"]
            return found[-1] if found and until(found[-1]) else None

        return wait_for(look, f"a build of request {request}")  # type: ignore[return-value]

    def build(self, name: str, **params: Any) -> dict[str, Any]:
        """Force a build and wait for its end."""
        return self.wait(self.force(name, **params))


@contextmanager
def run_buildbot(
    folder: Path, builders: Sequence[Builder], *, login: tuple[str, str] | None = None
) -> Iterator[Buildbot]:
    """A Buildbot master with one worker in its own process.

    :param login: user name and password without which nothing may be read.
    :raises ServerMissing: if Buildbot is not there.
    """
    bin_folder = buildbot_program()
    master = folder / "master"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    told = {
        "url": url,
        "port": port,
        "pb": free_port(),
        "login": login,
        "builders": [vars(b) for b in builders],
    }
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "GIT_CONFIG_COUNT": "1",
                   "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}  # fmt: skip
    for command in ("create-master", "upgrade-master"):
        run([bin_folder / "buildbot", command, master], **environment)
        (master / "told.json").write_text(json.dumps(told))
        (master / "master.cfg").write_text(_MASTER)
    start = [bin_folder / "buildbot", "start", "--nodaemon", master]
    log = master / "twistd.log"  # it answers before all of it is there

    def is_running() -> bool:
        return log.exists() and "BuildMaster is running" in log.read_text()

    with program(start, folder=folder, ready=is_running, **environment):
        yield Buildbot(url, folder)


# --- container registries ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Registry:
    """A running registry.

    :ivar host: as image names have it.
    """

    url: str
    storage: Path
    asked: list[tuple[str, str]] = field(default_factory=list, compare=False)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def put_blob(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a blob and describe it."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = _fetch(f"{self.url}/v2/{name}/blobs/uploads/", method="POST", data=b"")[1]["location"]
        place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": digest})
        _fetch(place, method="PUT", data=content, Content_Type="application/octet-stream")
        return {"digest": digest, "size": len(content)}

    def put_manifest(self, name: str, reference: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Upload a manifest under a tag or its digest, and describe it."""
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        url = f"{self.url}/v2/{name}/manifests/{reference or digest}"
        _fetch(url, method="PUT", data=body, Content_Type=manifest["mediaType"])
        return {"mediaType": manifest["mediaType"], "digest": digest, "size": len(body)}

    def push(
        self,
        name: str,
        *tags: str,
        labels: Mapping[str, str] | None = None,
        created: str = "2026-01-02T03:04:05.678901234Z",
        platform: str = "linux/amd64",
        content: str = "hello",
        annotations: Mapping[str, str] | None = None,
        is_docker: bool = False,
    ) -> dict[str, Any]:
        """Push an image of one file, and describe its manifest."""
        os_name, architecture, *variant = platform.split("/")
        kind = "application/vnd.docker." if is_docker else "application/vnd.oci."
        config = {
            "os": os_name, "architecture": architecture, "created": created,
            "config": {"Labels": dict(labels or {})}, "rootfs": {"type": "layers", "diff_ids": []},
            **({"variant": variant[0]} if variant else {}),
        }  # fmt: skip
        layer = self.put_blob(name, _layer(content))
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind + ("distribution.manifest.v2+json" if is_docker else "image.manifest.v1+json"),
            "config": {
                "mediaType": kind + ("container.image.v1+json" if is_docker else "image.config.v1+json"),
                **self.put_blob(name, json.dumps(config).encode()),
            },
            "layers": [
                {
                    "mediaType": kind
                    + ("image.rootfs.diff.tar.gzip" if is_docker else "image.layer.v1.tar+gzip"),
                    **layer,
                }
            ],
            **({"annotations": dict(annotations)} if annotations else {}),
        }
        for tag in tags or ("",):
            described = self.put_manifest(name, tag, manifest)
        return {
            **described,
            "platform": _split_platform(platform),
            "content": layer["size"] + manifest["config"]["size"],
        }

    def push_index(
        self, name: str, *tags: str, parts: Sequence[Mapping[str, Any]], is_docker: bool = False, **more: Any
    ) -> dict[str, Any]:
        """Push an index of images that were pushed before."""
        kinds = ("docker.distribution.manifest.list.v2", "oci.image.index.v1")
        index = {
            "schemaVersion": 2,
            "mediaType": f"application/vnd.{kinds[0 if is_docker else 1]}+json",
            "manifests": [{k: v for k, v in part.items() if k != "content"} for part in parts],
            **more,
        }
        for tag in tags:
            described = self.put_manifest(name, tag, index)
        return described

    def delete(self, name: str, digest: str) -> None:
        """Delete a manifest, and with it all tags that point to it."""
        _fetch(f"{self.url}/v2/{name}/manifests/{digest}", method="DELETE")


def _layer(content: str) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        entry = tarfile.TarInfo("hello.txt")
        entry.size = len(content.encode())
        tar.addfile(entry, io.BytesIO(content.encode()))
    return packed.getvalue()


def _split_platform(platform: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))


@contextmanager
def run_registry(
    storage: Path, *, htpasswd: str = "", token: TokenServer | None = None
) -> Iterator[Registry]:
    """A docker-registry over a folder, which may be one that another has filled.

    :param htpasswd: a line `user:bcrypt hash`; then it wants HTTP Basic authentication.
    :param token: the server that gives out its tokens.
    :raises ServerMissing: if docker-registry is not there.
    """
    found = shutil.which("docker-registry")
    if found is None:
        raise ServerMissing("docker-registry is not installed (Debian: docker-registry)")
    port = free_port()
    folder = storage.parent / f"registry-{port}"
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "only for tests"},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd + "\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if token:
        (folder / "token.pem").write_bytes(token.certificate.public_bytes(serialization.Encoding.PEM))
        config["auth"] = {
            "token": {"realm": token.url + "/token", "service": token.service, "issuer": token.issuer,
                      "rootcertbundle": str(folder / "token.pem")}
        }  # fmt: skip
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    url = f"http://127.0.0.1:{port}"
    with program(
        [found, "serve", folder / "config.yml"],
        folder=folder,
        ready=lambda: answers(f"{url}/v2/"),
        OTEL_TRACES_EXPORTER="none",
    ):
        yield Registry(url, storage)


@contextmanager
def serve(handle: Callable[[BaseHTTPRequestHandler], tuple[int, Mapping[str, str], bytes]]) -> Iterator[str]:
    """A small HTTP server in a thread, and its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each body waits 40 ms for the receipt of its headers

        def do_GET(self) -> None:
            status, headers, body = handle(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name in headers}:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class TokenServer:
    """A token service as registries send their clients to.

    :ivar lasts: seconds for which its tokens hold.
    :ivar denied: scopes that it gives to nobody, such as `registry:catalog:*`.
    :ivar asked: scope and `Authorization` header of each request.
    """

    username: str
    password: str
    url: str = ""
    service: str = "tests"
    issuer: str = "Token server of the tests"
    lasts: int = 300
    denied: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.issuer)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(name).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip

    def handle(self, request: BaseHTTPRequestHandler) -> tuple[int, Mapping[str, str], bytes]:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
        scope = query.get("scope", [""])[0]
        given = request.headers.get("Authorization", "")
        self.asked.append((scope, given))
        expected = "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        if given != expected:
            return (
                401,
                {"WWW-Authenticate": 'Basic realm="tests"'},
                b'{"details": "incorrect username or password"}',
            )
        body = {"token": self.sign("" if scope in self.denied else scope), "expires_in": self.lasts}
        return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def sign(self, scope: str) -> str:
        """A JSON Web Token for one scope, signed by the key of the registry's certificate bundle."""
        now = int(time.time())
        access = []
        if scope:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": self.issuer, "sub": self.username, "aud": self.service, "iat": now, "nbf": now - 10,
            "exp": now + self.lasts, "jti": os.urandom(8).hex(), "access": access,
        }  # fmt: skip
        signed = ".".join(url64(json.dumps(part).encode()) for part in (head, claims))
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{url64(signature)}"


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def run_token_server(username: str, password: str) -> Iterator[TokenServer]:
    """A token service on a port of its own: another host than the registry's."""
    server = TokenServer(username, password)
    with serve(lambda request: server.handle(request)) as url:
        server.url = url
        yield server


@contextmanager
def run_front(registry: Registry, *, deny: Mapping[str, int] | None = None) -> Iterator[Registry]:
    """A server before a registry that notes what is asked, and answers some paths with a status of its own.

    :param deny: statuses by path.
    """
    asked: list[tuple[str, str]] = []

    def handle(request: BaseHTTPRequestHandler) -> tuple[int, Mapping[str, str], bytes]:
        path = request.path.partition("?")[0]
        asked.append((request.command, request.path))
        if status := (deny or {}).get(path):
            return (
                status,
                {"Content-Type": "application/json"},
                b'{"errors": [{"code": "DENIED", "message": "no"}]}',
            )
        names = ("Accept", "Authorization")
        headers = {name: request.headers[name] for name in names if request.headers.get(name)}
        upstream = urllib.request.Request(
            registry.url + request.path, method=request.command, headers=headers
        )
        try:
            with urllib.request.urlopen(upstream, timeout=30) as answer:
                return answer.status, _without_hops(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _without_hops(error.headers), error.read()

    with serve(handle) as url:
        yield Registry(url, registry.storage, asked)


def _without_hops(headers: Any) -> dict[str, str]:
    return {
        k: v
        for k, v in headers.items()
        if k.lower() not in {"connection", "transfer-encoding", "date", "server"}
    }


# --- fixtures ---------------------------------------------------------------------------------------------


@contextmanager
def required() -> Iterator[None]:
    """Where a server is missing, skip; in CI, which has to have it, fail."""
    try:
        yield
    except ServerMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; CI must have it.")
        pytest.skip(str(missing))


def make_repository(folder: Path, branches: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """A Git repository whose branches hold these files, each made from the one before; gives the commits."""
    folder.mkdir(parents=True)
    commits: dict[str, str] = {}
    for branch, files in branches.items():
        git(
            folder,
            *(["checkout", "--quiet", "-b"] if commits else ["init", "--quiet", "--initial-branch"]),
            branch,
        )
        for name, content in files.items():
            (folder / name).write_text(content)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", f"Work on {branch}")
        commits[branch] = git(folder, "rev-parse", "HEAD")
    git(folder, "checkout", "--quiet", next(iter(branches)))
    return commits


@dataclass(frozen=True, kw_only=True)
class Acme:
    """The company whose Buildbot the tests share. A build of branch `slow` runs until `gate` exists.

    :ivar commits: of the branches of repository payments.
    """

    buildbot: Buildbot
    repository: str
    website: str
    commits: Mapping[str, str]
    gate: Path


@pytest.fixture(scope="session")
def acme_buildbot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acme]:
    """A master with a few builders over two repositories, and no build yet."""
    folder = tmp_path_factory.mktemp("acme")
    gate = folder / "gate"
    commits = make_repository(
        folder / "payments",
        {
            "main": {"test.sh": "echo all good\n"},
            "broken": {"test.sh": "echo two tests failed; exit 1\n"},
            "shaky": {"test.sh": "exit 3\n"},
            "crash": {"test.sh": "exit 2\n"},
            "slow": {"test.sh": f"while [ ! -e '{gate}' ]; do sleep 0.1; done\n"},
        },
    )
    commits["website"] = make_repository(folder / "website", {"main": {"index.html": "<h1>Acme</h1>\n"}})[
        "main"
    ]
    repository, website = f"file://{folder}/payments", f"file://{folder}/website"
    builders = [
        Builder(
            name="payments",
            codebases={"": repository},
            steps=[("compile", "echo compiling"), ("test", "sh test.sh"), ("package", "true")],
            tags=["java"],
            description="Builds **payments**.",
            project="shop",
            on_changes=True,
        ),
        Builder(name="payments-nightly", codebases={"": repository}, project="shop", is_forceable=False),
        Builder(name="docs", codebases={"": repository}, steps=[("render", "true")], is_strict=True),
        Builder(name="shop", codebases={"api": repository, "web": website}, steps=[("test", "true")]),
        Builder(name="sweep", steps=[("sweep", "true")]),
    ]
    with required(), run_buildbot(folder / "buildbot", builders) as buildbot:
        yield Acme(buildbot=buildbot, repository=repository, website=website, commits=commits, gate=gate)
