"""Real package registries for tests, installed once into the cache: Verdaccio by npm, devpi by pip."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.integrations.servers import ServerMissing, answers, cache_folder, free_port, program

DEVPI = "devpi-server==6.20.0"
# The override: a dependency asks for a dist-tag, which not every mirror has.
VERDACCIO = {
    "private": True,
    "dependencies": {"verdaccio": "6.8.0"},
    "overrides": {"node-fetch": "2.7.0"},
}


def ask(method: str, url: str, body: bytes | None = None, **headers: str) -> bytes:
    """Ask a server, which must agree."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urlopen(Request(url, data=body, method=method, headers=named), timeout=30) as answer:
        return answer.read()


def verdaccio_program() -> Path:
    """Verdaccio's program.

    :raises ServerMissing: if it cannot be installed.
    """
    if shutil.which("npm") is None:
        raise ServerMissing("Verdaccio cannot be installed without npm")
    wanted = json.dumps(VERDACCIO)
    home = cache_folder() / f"verdaccio-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    with (cache_folder() / "verdaccio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            (home / "package.json").write_text(wanted)
            command = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            ran = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise ServerMissing(f"Verdaccio cannot be installed: {ran.stderr.strip()[-500:]}")
            (home / "installed").touch()
    return home / "node_modules/.bin/verdaccio"


@dataclass(frozen=True)
class Verdaccio:
    """A running npm registry, and a token of somebody who has signed up."""

    url: str
    token: str

    def publish(self, name: str, version: str, *, tag: str = "latest", **manifest: Any) -> None:
        """Publish a version as `npm publish` does."""
        tarball, file = f"{name} {version}".encode(), f"{name.rpartition('/')[2]}-{version}.tgz"
        dist = {
            "shasum": hashlib.sha1(tarball, usedforsecurity=False).hexdigest(),
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode(),
            "tarball": f"{self.url}/{name}/-/{file}",
            "unpackedSize": len(tarball),
        }
        body = {
            "_id": name,
            "name": name,
            "dist-tags": {tag: version},
            "versions": {version: {"name": name, "version": version, "dist": dist, **manifest}},
            "_attachments": {
                file: {
                    "content_type": "application/octet-stream",
                    "data": base64.b64encode(tarball).decode(),
                    "length": len(tarball),
                }
            },
        }
        self.put(name, body)

    def deprecate(self, name: str, version: str, why: str) -> None:
        """Deprecate a version as `npm deprecate` does."""
        said = json.loads(ask("GET", self.address(name), Authorization=f"Bearer {self.token}"))
        said["versions"][version]["deprecated"] = why
        self.put(name, said)

    def put(self, name: str, body: Mapping[str, Any]) -> None:
        ask(
            "PUT",
            self.address(name),
            json.dumps(body).encode(),
            Content_Type="application/json",
            Authorization=f"Bearer {self.token}",
        )

    def address(self, name: str) -> str:
        return f"{self.url}/{quote(name, safe='@')}"


@contextmanager
def run_verdaccio(folder: Path) -> Iterator[Verdaccio]:
    """A registry that lets everybody read but the scope `@closed`."""
    found = verdaccio_program()
    url = f"http://127.0.0.1:{free_port()}"
    signed_in = {"access": "$authenticated", "publish": "$authenticated"}
    config = {
        "storage": str(folder / "storage"),
        "auth": {"htpasswd": {"file": str(folder / "htpasswd"), "max_users": 10}},
        "packages": {"@closed/*": signed_in, "**": {**signed_in, "access": "$all"}},
        "web": {"enable": False},
        "log": {"type": "stdout", "level": "warn"},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [found, "-c", folder / "config.yaml", "-l", url]
    with program(command, folder=folder, ready=lambda: answers(f"{url}/-/ping")):
        body = json.dumps({"name": "ana", "password": "open-sesame"}).encode()
        said = ask("PUT", f"{url}/-/user/org.couchdb.user:ana", body, Content_Type="application/json")
        yield Verdaccio(url, json.loads(said)["token"])


# --- Python -----------------------------------------------------------------------------------------------


def devpi_program() -> Path:
    """The folder of devpi's programs, in an environment of their own.

    :raises ServerMissing: if it cannot be installed.
    """
    label = f"{DEVPI}-py{sys.version_info[0]}{sys.version_info[1]}".replace("==", "-")
    home = cache_folder() / label
    with (cache_folder() / "devpi.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            shutil.rmtree(home, ignore_errors=True)
            for command in (
                [sys.executable, "-m", "venv", str(home)],
                [str(home / "bin/pip"), "install", "--quiet", DEVPI],
            ):
                ran = subprocess.run(command, capture_output=True, text=True, check=False)
                if ran.returncode:
                    raise ServerMissing(f"devpi cannot be installed: {ran.stderr.strip()[-500:]}")
            (home / "installed").touch()
    return home / "bin"


@dataclass(frozen=True)
class Devpi:
    """A running Python index: `url` is that of devpi, `index` that of the index for pip."""

    url: str
    user: str
    password: str

    @property
    def index(self) -> str:
        return f"{self.url}/root/acme/+simple"

    def upload(self, name: str, version: str, **metadata: str) -> None:
        """Upload a wheel as twine does."""
        file = f"{_file_name(name)}-{version}-py3-none-any.whl"
        form = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1", "name": name,
                "version": version, "filetype": "bdist_wheel", "pyversion": "py3"}  # fmt: skip
        lines = [
            f'--part\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in form.items()
        ]
        lines.append(f'--part\r\nContent-Disposition: form-data; name="content"; filename="{file}"\r\n\r\n')
        ask(
            "POST",
            f"{self.url}/root/acme/",
            "".join(lines).encode() + _wheel(name, version, metadata) + b"\r\n--part--\r\n",
            Content_Type="multipart/form-data; boundary=part",
            Authorization="Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode(),
        )


def _file_name(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _wheel(name: str, version: str, metadata: Mapping[str, str]) -> bytes:
    folder, content = f"{_file_name(name)}-{version}.dist-info", io.BytesIO()
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in metadata.items())
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{_file_name(name)}.py", f"version = {version!r}\n")
        archive.writestr(
            f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}"
        )
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")
    return content.getvalue()


@contextmanager
def run_devpi(folder: Path) -> Iterator[Devpi]:
    """An index without a mirror, of which everybody may read."""
    programs, port = devpi_program(), free_port()
    place = ["--serverdir", str(folder / "data")]
    init = [str(programs / "devpi-init"), *place, "--root-passwd", "open-sesame"]
    subprocess.run(init, check=True, capture_output=True)
    url = f"http://127.0.0.1:{port}"
    command = [
        programs / "devpi-server", *place, "--host", "127.0.0.1", "--port", str(port), "--offline-mode",
        "--enable-core-metadata",
    ]  # fmt: skip
    with program(command, folder=folder, ready=lambda: answers(f"{url}/+api")):
        form = json.dumps({"user": "root", "password": "open-sesame"}).encode()
        json_ = {"Content_Type": "application/json", "Accept": "application/json"}
        token = json.loads(ask("POST", f"{url}/+login", form, **json_))["result"]["password"]
        proof = base64.b64encode(f"root:{token}".encode()).decode()
        stage = json.dumps({"type": "stage", "bases": [], "volatile": True}).encode()
        ask("PUT", f"{url}/root/acme", stage, X_Devpi_Auth=proof, **json_)
        yield Devpi(url, "root", "open-sesame")
