"""The feed as events, from a real web server: nothing is skipped when a client, the server or the connection goes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from tests.e2e.stack import ROOT, Portal, redis_program, run_portal
from tests.integrations.servers import free_port, program, wait_for

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]) -> Iterator[Portal]:
    with run_portal(
        tmp_path_factory.mktemp("portal"),
        database=settings.DATABASES["default"],
        redis=redis_program(require_program),
    ) as running:
        running.wait_until_synced()
        yield running


@pytest.fixture(scope="module")
def token(portal: Portal) -> str:
    return portal.manage("create_token", "--user", "admin", "--role", "editor").strip().splitlines()[-1]


@dataclass
class Server:
    """A web server of the portal by itself, which can be killed and started again at the same address."""

    portal: Portal
    folder: Path
    port: int = field(default_factory=free_port)

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        web = [sys.executable, "-m", "portal.serve", "--workers", "1", "--blocking-threads", "4"]
        web += ["--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"]
        environment = dict(self.portal.environment) | {"PYTHONPATH": str(ROOT)}
        with program(web, folder=self.folder, ready=self.answers, **environment) as process:
            yield process

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@dataclass
class Listener:
    """A client that reads events, and begins where it was left."""

    port: int
    token: str
    last: str = "now"
    seen: list[str] = field(default_factory=list)
    connection: Any = None
    answer: Any = None

    def open(self, path: str = "/api/v1/feed/events", **headers: str) -> Listener:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Authorization": f"Bearer {self.token}", **headers}
        if self.last == "now":
            path += "?since=now"
        else:
            sent["Last-Event-ID"] = self.last
        self.connection.request("GET", path, headers=sent)
        self.answer = self.connection.getresponse()
        if self.answer.status == 200:
            assert self.answer.getheader("Content-Type") == "text/event-stream"
            assert self.line().startswith("retry: ")  # it is there, and listens
        return self

    def line(self) -> str:
        return str(self.answer.readline().decode())

    def read(self, count: int, *, seconds: float = 60) -> None:
        """Read until so many events have come in all."""
        end = time.monotonic() + seconds
        while len(self.seen) < count:
            assert time.monotonic() < end, self.seen
            name, _colon, value = self.line().rstrip("\n").partition(": ")
            if name == "id":
                self.last = value
            elif name == "data":
                self.seen.append(json.loads(value)["ref"])

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def declare(portal: Portal, *names: str) -> None:
    file = portal.files / f"{names[0]}.yaml"
    file.write_text(
        yaml.safe_dump_all(
            {
                "apiVersion": "backstage.io/v1alpha1",
                "kind": "Component",
                "metadata": {"name": name, "namespace": "events"},
                "spec": {"type": "service", "lifecycle": "production", "owner": "nobody"},
            }
            for name in names
        )
    )
    portal.manage("import_catalog", str(file))


def refs(*names: str) -> list[str]:
    return [f"component:events/{name}" for name in names]


def ours(listener: Listener) -> list[str]:
    return [ref for ref in listener.seen if ref.startswith("component:events/")]


def test_a_change_comes_at_once_and_what_came_meanwhile_comes_after_a_break(
    portal: Portal, token: str, tmp_path: Path
) -> None:
    server = Server(portal, tmp_path)
    listener = Listener(server.port, token)
    with server.running() as process:
        listener.open()
        declare(portal, "one", "two")
        listener.read(2)
        assert sorted(ours(listener)) == sorted(refs("one", "two"))
        listener.close()  # the client goes
        declare(portal, "three")
        listener.open()
        listener.read(3)
        declare(portal, "four")
        listener.read(4)
        os.kill(process, signal.SIGKILL)  # the server goes
    listener.close()
    declare(portal, "five")
    with server.running():
        listener.open("/api/v1/feed", Accept="text/event-stream")
        declare(portal, "six")
        listener.read(6)
        listener.close()
    assert sorted(ours(listener)) == sorted(refs("one", "two", "three", "four", "five", "six"))
    assert ours(listener)[2:] == refs("three", "four", "five", "six")


def test_few_streams_are_taken_the_rest_are_told_to_poll_and_pages_go_on(
    portal: Portal, token: str, tmp_path: Path
) -> None:
    server = Server(portal, tmp_path)
    with server.running():
        taken = [Listener(server.port, token).open() for _stream in range(2)]
        refused = Listener(server.port, token).open()
        assert refused.answer.status == 503
        assert int(refused.answer.getheader("Retry-After")) > 0
        assert json.loads(refused.answer.read())["code"] == "streams-taken"
        refused.close()
        for _time in range(20):
            assert server.answers()
        taken[0].close()

        def is_free() -> bool:
            again = Listener(server.port, token).open()
            again.close()
            return bool(again.answer.status == 200)

        wait_for(is_free, "the place of who left")
        taken[1].close()


def test_who_may_no_longer_read_is_sent_nothing_more(portal: Portal, tmp_path: Path) -> None:
    token = portal.manage("create_token", "--user", "admin", "--role", "viewer").strip().splitlines()[-1]
    server = Server(portal, tmp_path)
    with server.running():
        listener = Listener(server.port, token).open()
        portal.manage(
            "shell", "-v", "0", "-c",
            "from access.models import ApiToken\nfrom access.services import revoke_token\n"
            "revoke_token(token=ApiToken.objects.latest('id'))",
        )  # fmt: skip
        end = time.monotonic() + 60
        while (line := listener.line()) and time.monotonic() < end:
            assert not line.startswith("data:")
        assert line == ""  # the stream has ended
        listener.close()
        assert listener.open().answer.status == 401
        listener.close()
