"""The processes that are forked from one: who is killed is started again, and nobody is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portal import processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
ROOT = Path(__file__).resolve().parent.parent.parent

# Two processes, of which one has a child of its own and the other is what the test says.
SCRIPT = """
import os, subprocess, sys, time
from portal import processes
def quiet():
    print("Grüße", flush=True)  # before the child, at which the tests begin to kill
    subprocess.Popen(["sleep", "600"])
    time.sleep(600)
def other():
    exec(sys.argv[1])
processes._FAREWELL = 1.0
processes.keep([processes.Child("quiet", 1, quiet), processes.Child("other", 1, other)])
"""


def test_bin_up_runs_all_of_them() -> None:
    code = "import _processes; print(*_processes.NAMES)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "bin", capture_output=True, text=True, check=True
    )
    assert tuple(done.stdout.split()) == processes.NAMES


def named(parent: int) -> dict[str, int]:
    """The processes below a process, by name."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if above == parent:
            found[name] = int(folder.name)
    return found


def ignores(process: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) >> number - 1 & 1)


def await_(condition: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def keep() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Run both processes below one; gives that."""
    started: list[subprocess.Popen[str]] = []

    def start(other: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, other],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_who_is_killed_is_started_again_without_what_they_had_started(
    keep: Callable[[str], subprocess.Popen[str]],
) -> None:
    parent = keep("time.sleep(600)")
    await_(lambda: {"portico-quiet", "portico-other"} <= named(parent.pid).keys())
    first = named(parent.pid)
    await_(lambda: "sleep" in named(first["portico-quiet"]))
    child = named(first["portico-quiet"])["sleep"]
    os.kill(first["portico-quiet"], signal.SIGKILL)
    await_(lambda: named(parent.pid).get("portico-quiet", first["portico-quiet"]) != first["portico-quiet"])
    assert named(parent.pid)["portico-other"] == first["portico-other"]
    await_(lambda: not Path(f"/proc/{child}").exists())
    await_(lambda: "sleep" in named(named(parent.pid)["portico-quiet"]))
    parent.terminate()
    said, _ = parent.communicate(timeout=10)
    assert "was killed by SIGKILL; starting it again in 0.5 s" in said
    assert said.count("Grüße") == 2
    assert parent.returncode == 0


def test_the_end_of_the_first_is_the_end_of_all(keep: Callable[[str], subprocess.Popen[str]]) -> None:
    parent = keep("time.sleep(600)")
    await_(lambda: {"portico-quiet", "portico-other"} <= named(parent.pid).keys())
    children = named(parent.pid)
    parent.kill()
    await_(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children.values()))
    os.killpg(children["portico-quiet"], signal.SIGKILL)  # a grandchild is for whoever runs the first


def test_nobody_ends_because_all_were_stopped_for_a_while(
    keep: Callable[[str], subprocess.Popen[str]],
) -> None:
    parent = keep("time.sleep(600)")
    await_(lambda: {"portico-quiet", "portico-other"} <= named(parent.pid).keys())
    children = named(parent.pid)
    parent.send_signal(signal.SIGSTOP)
    time.sleep(2.5)  # longer than it waits for a signal
    parent.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    assert parent.poll() is None
    assert named(parent.pid) == children
    parent.terminate()
    parent.communicate(timeout=10)


def test_one_that_does_not_end_is_killed(keep: Callable[[str], subprocess.Popen[str]]) -> None:
    parent = keep("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
    await_(lambda: {"portico-quiet", "portico-other"} <= named(parent.pid).keys())
    await_(lambda: ignores(named(parent.pid)["portico-other"], signal.SIGTERM))
    parent.terminate()
    said, _ = parent.communicate(timeout=10)
    assert "did not end in time and was killed" in said
    assert parent.returncode == 0


def test_one_that_cannot_start_ends_all(keep: Callable[[str], subprocess.Popen[str]]) -> None:
    parent = keep("raise ValueError('no such port')")
    said, _ = parent.communicate(timeout=15)
    assert "ValueError: no such port" in said
    assert parent.returncode == 1
