"""Whatever is killed, nobody is left behind and what should run is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
SCRIPT = Path(__file__).with_name("supervised.py")
NAMES = ("polite", "near", "far", "stubborn", "watcher")

Start = Callable[..., "subprocess.Popen[str]"]
Wait = Callable[[Callable[[], object], float, str], None]
Running = Callable[[int], bool]


class Family:
    """A supervisor and all that belongs to it."""

    def __init__(self, folder: Path, supervisor: subprocess.Popen[str], wait: Wait) -> None:
        self.folder = folder
        self.supervisor = supervisor
        wait(lambda: all((folder / name).exists() for name in NAMES), 20, "the family is not complete")

    def pid(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def pids(self) -> list[int]:
        return [self.supervisor.pid, *(self.pid(name) for name in NAMES)]


@pytest.fixture
def family(home: Path, tmp_path: Path, start: Start, wait: Wait) -> Family:
    return Family(tmp_path, start(sys.executable, SCRIPT, tmp_path), wait)


def test_the_end_of_the_supervisor_is_the_end_of_all(family: Family, wait: Wait, running: Running) -> None:
    pids = family.pids()
    assert all(running(pid) for pid in pids)
    family.supervisor.kill()
    family.supervisor.wait()
    wait(lambda: not any(running(pid) for pid in pids), 8, "all must be gone")


def test_a_signal_ends_all_within_ten_seconds(family: Family, running: Running) -> None:
    pids = family.pids()
    begun = time.monotonic()
    family.supervisor.terminate()
    output, _ = family.supervisor.communicate(timeout=10)
    assert time.monotonic() - begun < 10
    assert family.supervisor.returncode == 0
    assert [pid for pid in pids if running(pid)] == []
    assert "stubborn | did not end in time and was killed" in output
    assert "Grüße" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_asking_twice_does_not_wait_for_the_stubborn(
    family: Family, running: Running, number: signal.Signals
) -> None:
    pids = family.pids()
    begun = time.monotonic()
    family.supervisor.send_signal(number)
    time.sleep(0.3)
    family.supervisor.send_signal(number)
    family.supervisor.communicate(timeout=10)
    assert time.monotonic() - begun < 4
    assert [pid for pid in pids if running(pid)] == []


def test_a_killed_child_takes_its_own_along_and_is_started_again(
    family: Family, wait: Wait, running: Running
) -> None:
    old = {name: family.pid(name) for name in ("polite", "near", "far")}
    os.kill(old["polite"], signal.SIGKILL)
    wait(lambda: family.pid("polite") != old["polite"], 10, "it is started again")
    assert not any(running(pid) for pid in old.values())
    assert running(family.pid("polite"))
    assert running(family.pid("stubborn"))
    family.supervisor.terminate()
    output, _ = family.supervisor.communicate(timeout=10)
    assert "was killed by SIGKILL; starting it again in 0.5 s" in output


def test_a_killed_watcher_is_replaced_and_knows_the_family(
    family: Family, wait: Wait, running: Running
) -> None:
    first = family.pid("watcher")
    os.kill(first, signal.SIGKILL)
    wait(lambda: family.pid("watcher") != first, 10, "it is replaced")
    assert not running(first)
    pids = family.pids()
    family.supervisor.kill()
    family.supervisor.wait()
    wait(lambda: not any(running(pid) for pid in pids), 8, "all must be gone")


def test_the_log_is_also_a_file(family: Family, home: Path, wait: Wait) -> None:
    wait(
        lambda: "Grüße" in (home / "logs" / "portico.log").read_text(encoding="utf-8"),
        5,
        "the line is logged",
    )


def test_a_service_that_cannot_start_is_given_up_with_its_last_words(home: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(SCRIPT.parent.parent.parent / "bin")!r})
import os
from _console import Console, main
from _home import Home
from _supervise import Service, Supervisor
def run():
    supervisor = Supervisor(Console(sys.stdout), Home())
    try:
        command = [sys.executable, "-c", "print('No such colour.'); exit(3)"]
        supervisor.start(Service("odd", command, dict(os.environ)))
        supervisor.until(lambda: False, seconds=30, what="It never came", patience=2)
    finally:
        supervisor.stop()
main(run)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "odd ended 2 times while it was started" in done.stderr
    assert "No such colour." in done.stderr


def test_what_a_server_says_explains_why_a_program_that_uses_it_failed(home: Path) -> None:
    code = f"""
import os, sys; sys.path.insert(0, {str(SCRIPT.parent.parent.parent / "bin")!r})
from _console import Console, main
from _home import Home
from _supervise import Service, Supervisor
def run():
    supervisor = Supervisor(Console(sys.stdout), Home())
    try:
        full = "print('PANIC: No space left on device', flush=True); import time; time.sleep(60)"
        server = Service("server", [sys.executable, "-c", full], dict(os.environ), stage=0)
        supervisor.start(server)
        supervisor.until(lambda: server.tail, seconds=30, what="It said nothing")
        lost = [sys.executable, "-c", "print('The server is gone.'); exit(3)"]
        supervisor.run_once(Service("job", lost, dict(os.environ)), relay=print)
    finally:
        supervisor.stop()
main(run)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "The disk is full" in done.stderr
