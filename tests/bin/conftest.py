"""The commands' own modules, and programs that run them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bin"))


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} within {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def wait() -> Callable[[Callable[[], object], float, str], None]:
    return wait_for


def is_running(process: int) -> bool:
    """Say whether a process runs; a dead one that nobody has asked after does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.fixture
def running() -> Callable[[int], bool]:
    return is_running


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PORTICO_HOME that the database's unprivileged user can reach, with a difficult name.

    Not below pytest's own folder, which every run as the same user shuts again.
    """
    above = Path(tempfile.mkdtemp(prefix="portico-"))
    above.chmod(0o711)
    folder = above / "Jörg Müller"
    folder.mkdir()
    folder.chmod(0o711)
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PORTICO_HOME", str(folder))
    yield folder
    shutil.rmtree(above, ignore_errors=True)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs whose output is read, and end those that a test leaves."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str | Path, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(12)
            process.kill()
        process.communicate()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
