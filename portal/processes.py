"""Portico's own processes, forked from one that has loaded the program: `python -m portal.processes web sync ...`.

Each would else load all of it for itself, which takes seconds of a start and a hundred megabytes. One that is named
alone is run in place; of several each is forked, called `portico-` and its name, and started again when it is killed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from portal import serve

WEB_WORKERS, WEB_THREADS = 2, 4  # more threads only make the slowest answers slower
QUEUES = {"sync": "sync", "tasks": "webhooks,operations,default"}
NAMES = ("web", *QUEUES, "beat", "watch")
VOICES = "PORTICO_VOICES"
"""The variable that says where each process writes what it says: `web=5,sync=6`, by numbers of open files."""

_STEADY = 20.0  # what ran for so many seconds has not failed to start
_LONGEST_PAUSE = 30.0
_FAREWELL = 4.0  # seconds that a process has to end when it is told to
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def run(name: str, options: argparse.Namespace) -> None:
    """Be one of the processes until a signal says stop.

    :param name: one of `NAMES`.
    """
    if name == "web":
        command = ["--workers", str(WEB_WORKERS), "--blocking-threads", str(WEB_THREADS)]
        command += ["--host", options.bind, "--port", str(options.port), "--log-level", "warning"]
        serve.serve([*command, "--respawn-failed-workers", "--workers-kill-timeout", "3"])
        return
    if name == "watch":
        from integrations.watching import watch_files  # not before Django is set up

        watch_files()
    celery = importlib.import_module(options.celery).app
    if name == "beat":
        celery.start(["-q", "beat", "--pidfile=", "-s", options.schedule, "-l", "WARNING"])
        return
    command = [
        "-q",
        "worker",
        "-n",
        f"{name}@%h",
        "-Q",
        QUEUES[name],
        "--pool",
        "prefork",
        "--concurrency",
        "2",
    ]
    celery.start([*command, "--without-gossip", "--without-mingle", "--without-heartbeat"])


@dataclass
class Child:
    """One of the processes, as the one that forks it sees it.

    :ivar voice: the open file that it writes to.
    """

    name: str
    voice: int
    main: Callable[[], None]
    pid: int = field(default=0, init=False)
    started_at: float = field(default=0.0, init=False)
    start_at: float = field(default=0.0, init=False)
    failures: int = field(default=0, init=False)

    def start(self) -> None:
        self.started_at = time.monotonic()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            self._be(parent)
        with suppress(OSError):  # both do it, so that it is done before either goes on
            os.setpgid(self.pid, self.pid)

    def _be(self, parent: int) -> NoReturn:
        code = 1
        try:
            libc = ctypes.CDLL(None)
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            libc.prctl(_PR_SET_NAME, f"portico-{self.name}".encode())
            if os.getppid() != parent:
                os._exit(1)
            os.setpgid(0, 0)
            os.dup2(self.voice, 1)
            os.dup2(self.voice, 2)
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - nothing of it may go on as the process that was forked
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def signal(self, number: int) -> None:
        """Signal it; `SIGKILL` its own children too."""
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def tell(self, line: str) -> None:
        with suppress(OSError):
            os.write(self.voice, f"{line}\n".encode())

    def bury(self, status: int) -> None:
        """See to its own children when it has ended, and to when it is started again.

        :param status: as `os.waitpid` gives it.
        :raises SystemExit: if it could not start, so that whoever runs this sees it.
        """
        self.signal(signal.SIGKILL)
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        is_steady = time.monotonic() - self.started_at > _STEADY
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if code >= 0 and not is_steady:
            self.tell(how)
            raise SystemExit(code or 1)
        self.failures = 1 if is_steady else self.failures + 1
        pause = min(0.5 * 2 ** (self.failures - 1), _LONGEST_PAUSE)
        self.start_at = time.monotonic() + pause
        self.tell(f"{how}; starting it again in {pause:.1f} s")


def keep(children: list[Child]) -> None:
    """Run some processes, and start again what is killed, until a signal says stop.

    :raises SystemExit: if one of them cannot start.
    """
    signals = _Signals()
    try:
        for child in children:
            child.start()
        while not signals.stop_within(1.0):
            for child, status in _ended(children):
                child.bury(status)
            for child in children:
                if not child.pid and time.monotonic() >= child.start_at:
                    child.start()
    finally:
        _end(children, signals)


class _Signals:
    """Waits for signals. Python's `sigtimedwait` gives one that never came when the process was stopped meanwhile."""

    def __init__(self) -> None:
        self._is_to_stop = False
        self._bell, bell = socket.socketpair()
        for end in (self._bell, bell):
            end.setblocking(False)
        self._kept = bell  # it is written to as long as it is open
        for number in _SIGNALS:
            signal.signal(number, self._note)
        signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)

    def _note(self, number: int, _frame: object) -> None:
        self._is_to_stop |= number != signal.SIGCHLD

    def stop_within(self, seconds: float) -> bool:
        """Wait for a signal, at most so long; says whether it is time to stop."""
        if select.select([self._bell], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                self._bell.recv(4096)
        return self._is_to_stop


def _ended(children: list[Child]) -> list[tuple[Child, int]]:
    found = []
    for child in children:
        if child.pid:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                found.append((child, status))
    return found


def _end(children: list[Child], signals: _Signals) -> None:
    """End all of them, each as it likes it or, after a while, for certain."""
    for child in children:
        if child.pid:
            child.signal(signal.SIGTERM)
    end = time.monotonic() + _FAREWELL
    while any(child.pid for child in children) and time.monotonic() < end:
        signals.stop_within(0.1)
        for child, _status in _ended(children):
            child.signal(signal.SIGKILL)
            child.pid = 0
    for child in children:
        if child.pid:
            child.tell("did not end in time and was killed")
            child.signal(signal.SIGKILL)
            os.waitpid(child.pid, 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=NAMES)
    parser.add_argument("--bind", default="127.0.0.1", help="address of the web server")
    parser.add_argument("--port", type=int, default=8000, help="its port")
    parser.add_argument("--schedule", default="beat", help="file in which beat notes what it did when")
    parser.add_argument("--celery", default="portal.celery", help="module of the Celery application")
    return parser.parse_args()


def main() -> None:
    options = _parse()
    importlib.import_module(options.celery).app.loader.import_default_modules()
    serve.load()
    if len(options.names) == 1:
        run(options.names[0], options)
        return
    voices = dict(one.split("=") for one in os.environ.pop(VOICES, "").split(",") if one)
    keep([Child(name, int(voices.get(name, 1)), partial(run, name, options)) for name in options.names])


if __name__ == "__main__":
    main()
