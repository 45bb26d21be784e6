"""Git remotes that fail in the midst of a sync: nothing is deleted, nothing forbidden is fetched, and the next good
run makes it good."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from catalog.models import Activity, Entity
from integrations.git import GitClient, GitLimits
from integrations.models import Connection, RunState, StoredRecord
from integrations.services import connections
from tests.faults.conftest import Portal, differences
from tests.faults.upstream import METADATA

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient")]

NAMES = ("cart", "pay", "shop")


class Forge:
    """Repositories served over HTTP by git itself; a request to one of them may go wrong.

    :ivar faults: what goes wrong, by the repository's name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, str] = {}
        self.asked: list[str] = []
        self.port = 0
        self.stopping = threading.Event()
        for name in NAMES:
            self.git(folder, "init", "--quiet", "--initial-branch=main", name)
            self.commit(name, "first")
            self.git(folder / name, "tag", "v1")

    @staticmethod
    def git(where: Path, *words: str) -> None:
        told = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ana", "GIT_AUTHOR_EMAIL": "ana@acme.example", "GIT_COMMITTER_NAME": "Ana",
            "GIT_COMMITTER_EMAIL": "ana@acme.example",
        }  # fmt: skip
        subprocess.run(["git", "-C", str(where), *words], env=told, check=True, capture_output=True)

    def commit(self, name: str, words: str) -> None:
        folder = self.folder / name
        (folder / "README.md").write_text(f"# {name}\n\n{words}\n")
        (folder / "pom.xml").write_text("<project/>")
        (folder / "catalog-info.yaml").write_text(
            f"apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}, description: {words}}}\n"
            "spec: {type: service, lifecycle: production, owner: team}\n"
        )
        self.git(folder, "add", "--all")
        self.git(folder, "commit", "--quiet", "-m", words)

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class Exchange(BaseHTTPRequestHandler):
    """One request to the forge."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the receipt of its headers
    forge: Forge

    def do_GET(self) -> None:
        path, _mark, query = self.path.partition("?")
        self.forge.asked.append(self.path)
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self.forge.faults.get(path.split("/")[1].removesuffix(".git")):
            case None:
                self.reply(*self.ask_git(path, query, asked))
            case "cut":
                status, headers, body = self.ask_git(path, query, asked)
                self.reply(status, headers, body[: len(body) // 2], length=len(body))
            case "hang":
                self.forge.stopping.wait(30)
            case "garbage":
                self.reply(
                    200,
                    {"Content-Type": "application/x-git-upload-pack-advertisement"},
                    b"001e# not git at all",
                )
            case "429":
                self.reply(429, {"Retry-After": "2"}, b"slow down")
            case status if status.isdecimal():
                self.reply(int(status), {}, b"no")
            case address:
                self.reply(302, {"Location": address + self.path}, b"")

    do_POST = do_GET

    def ask_git(self, path: str, query: str, asked: bytes) -> tuple[int, dict[str, str], bytes]:
        where = subprocess.check_output(["git", "--exec-path"], text=True).strip()
        told = {
            "PATH": os.environ["PATH"], "GIT_HTTP_EXPORT_ALL": "1", "GIT_PROJECT_ROOT": str(self.forge.folder),
            "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query, "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        done = subprocess.run(
            [f"{where}/git-http-backend"], input=asked, env=told, capture_output=True, check=False
        )
        head, _blank, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if line)
        return int(headers.pop("Status", "200").split()[0]), headers, body

    def reply(self, status: int, headers: dict[str, str], body: bytes, *, length: int = -1) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body) if length < 0 else length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or length > len(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    made = Forge(tmp_path)

    class Handler(Exchange):
        forge = made

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.daemon_threads = True
        made.port = served.server_address[1]
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.stopping.set()
        served.shutdown()
        thread.join()


@pytest.fixture
def connection(
    portal: Portal, forge: Forge, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Connection:
    settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{forge.port}"]
    monkeypatch.setattr(
        connections, "GitClient", partial(GitClient, home=tmp_path / "mirrors", limits=GitLimits(network=5))
    )
    return portal.connect("forge", "git", repositories=[forge.address(name) for name in NAMES])


FAULTS = {
    "500": "500",
    "404": "404",
    "cut": "cut",
    "garbage": "garbage",
    "to metadata": METADATA.rstrip("/"),
    "to another port": "http://127.0.0.1:1",
    "hang": "hang",
    "429": "429",
}
SLOW = {"hang", "429", "404", "to another port"}


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=pytest.mark.full if name in SLOW else ()) for name in FAULTS]
)
def test_a_remote_that_fails_is_kept(
    portal: Portal, forge: Forge, connection: Connection, fault: str
) -> None:
    portal.sync_well(connection)
    for name in NAMES:
        forge.commit(name, "second")
    before = set(Entity.objects.filter(deleted_at=None).values_list("ref", flat=True))
    counts = (StoredRecord.objects.count(), Activity.objects.count())
    assert len(before) == 6

    forge.faults["pay"] = FAULTS[fault]
    run = portal.sync(connection)
    assert run.state == RunState.PARTIAL, run.message
    assert "pay" in run.message
    assert set(Entity.objects.filter(deleted_at=None).values_list("ref", flat=True)) == before
    assert StoredRecord.objects.filter(deleted_at=None).count() >= counts[0]
    assert Activity.objects.count() >= counts[1]
    # The others went on.
    assert Entity.objects.get(ref="component:default/shop").description == "second"
    assert Entity.objects.get(ref="component:default/pay").description == "first"

    forge.faults.clear()
    run = portal.sync(connection)
    assert run.state == RunState.SYNCED, run.message
    disturbed = portal.facts()
    assert Entity.objects.get(ref="component:default/pay").description == "second"
    again = portal.sync_well(connection)
    assert all(resource.new == resource.changed == 0 for resource in again.resources.all())
    assert portal.facts() == disturbed, differences(portal.facts(), disturbed)


def test_a_branch_that_is_damaged_at_its_source_is_no_empty_repository(
    portal: Portal, forge: Forge, connection: Connection
) -> None:
    """Git itself leaves such a branch out, as if there were none."""
    portal.sync_well(connection)
    good = portal.facts()
    (forge.folder / "pay/.git/refs/heads/main").write_text("junk\n")
    run = portal.sync(connection)
    assert run.state in {RunState.PARTIAL, RunState.FAILED}
    refused = [
        reason["reason"]
        for page in run.resources.get(name="repositories").pages.all()
        for _id, reason in page.refusals()
    ]
    assert any("damaged" in reason for reason in refused)
    assert portal.facts() == good, differences(portal.facts(), good)


def test_a_damaged_mirror_is_made_anew(
    portal: Portal, forge: Forge, connection: Connection, tmp_path: Path
) -> None:
    """As after a full disk, or a kill in the midst of a fetch."""
    portal.sync_well(connection)
    good = portal.facts()
    for pack in (tmp_path / "mirrors").rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:40])
    portal.sync(connection)
    assert portal.sync(connection).state == RunState.SYNCED
    assert portal.facts() == good
    shutil.rmtree(tmp_path / "mirrors")
    portal.sync_well(connection)
    assert portal.facts() == good
