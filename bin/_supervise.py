"""Runs programs as the children of this one process: one log stream, restarts, and an end for all of them.

Nobody is left behind: on Linux each child is signalled by the kernel when this process dies, and a small
watching process ends the children's own children, which the kernel does not. One thread does everything,
for the kernel ties that signal to the thread that started the child.
"""

from __future__ import annotations

import contextlib
import json
import logging.handlers
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from _console import Console, Refusal, explain
from _home import Home
from _parent import dying_with_parent
from _setup import ROOT
from _watch import kill_strays, signal_group

_COLOURS = {"web": 36, "postgres": 34, "redis": 35, "beat": 33}
_LONGEST_PAUSE = 30.0
_STEADY = 20.0  # a child that ran for so many seconds has not failed to start


@dataclass
class Service:
    """A program to keep running.

    :ivar stage: the higher ones are ended first.
    :ivar before: called before each start, to clear what a killed predecessor left.
    :ivar noise: what a line holds that tells nothing; it is not shown.
    :ivar voices: of processes that it starts itself; each is given a pipe, so that its lines go by its name.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_signal: int = signal.SIGTERM
    stage: int = 1
    user: tuple[int, int] | None = None
    folder: Path = ROOT
    before: Callable[[], None] | None = None
    noise: re.Pattern[str] | None = None
    voices: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started_at: float = field(default=0.0, init=False)
    start_at: float = field(default=0.0, init=False)
    failures: int = field(default=0, init=False)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=30), init=False)


class Supervisor:
    """Starts services, restarts them when they end, and ends them all."""

    def __init__(self, console: Console, home: Home, *, show: bool = True) -> None:
        """
        :param home: where the log is written, and the lock of the watching process stands.
        :param show: also print the log.
        """
        watch = home.lock("watch")
        if not watch.wait(15):
            raise Refusal("What an earlier start left is still running. Wait a moment and start again.")
        watch.free()
        self.stops_asked = 0
        self._console = console
        self._show = show
        self._services: list[Service] = []
        self._job: Service | None = None
        self._selector = selectors.DefaultSelector()
        self._marker = f"PORTICO_SUPERVISOR={os.getpid()}-{time.time_ns()}"
        self._watch_lock = home.path / "locks" / "watch"
        self._watcher: subprocess.Popen[bytes] | None = None
        self._file = _log_file(home.path / "logs" / "portico.log")
        # A signal wakes the one select() below by a byte on this pair.
        self._wake, wake = socket.socketpair()
        self._wake.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._wakeup = wake
        self._selector.register(self._wake, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, self._ask_to_stop)
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, self._ask_to_stop)
        self._tell_watcher()

    def _ask_to_stop(self, *_: object) -> None:
        self.stops_asked += 1

    # -- starting -----------------------------------------------------------------------------------------

    def start(self, service: Service) -> None:
        """Start a service and keep it running."""
        self._services.append(service)
        self._spawn(service)

    def _spawn(self, service: Service) -> None:
        if service.before:
            service.before()
        service.started_at = time.monotonic()
        try:
            self._attach(service)
        except OSError as error:
            service.tail.append(f"It could not be started: {error}")
            self.tell(service.name, service.tail[-1])
            self._schedule(service)

    def _attach(
        self, service: Service, relay: Callable[[str], None] | None = None
    ) -> subprocess.Popen[bytes]:
        pipes = {name: os.pipe() for name in service.voices}
        try:
            process = service.process = self._popen(service, {name: end for name, (_, end) in pipes.items()})
        finally:
            for _, end in pipes.values():
                os.close(end)
        assert process.stdout
        self._listen(process.stdout, _Reader(service, service.name, relay))
        for name, (pipe, _) in pipes.items():
            self._listen(os.fdopen(pipe, "rb", 0), _Reader(service, name, relay))
        self._tell_watcher()
        return process

    def _listen(self, pipe: IO[bytes], reader: _Reader) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe, selectors.EVENT_READ, reader)

    def _popen(self, service: Service, voices: Mapping[str, int]) -> subprocess.Popen[bytes]:
        name, _, value = f"{self._marker}/{service.name}".partition("=")
        said = {"PORTICO_VOICES": ",".join(f"{name}={end}" for name, end in voices.items())} if voices else {}
        user = {"user": service.user[0], "group": service.user[1], "extra_groups": []} if service.user else {}
        return subprocess.Popen(
            list(service.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=service.folder,
            env={**service.environment, **said, name: value},
            pass_fds=tuple(voices.values()),
            preexec_fn=dying_with_parent(service.stop_signal),
            **user,  # type: ignore[call-overload]
        )

    def _tell_watcher(self) -> None:
        """Tell the watching process which groups run now; start it first if it is not there."""
        running = [*self._services, *([self._job] if self._job else [])]
        groups = {str(s.process.pid): int(s.stop_signal) for s in running if s.process}
        for _attempt in range(2):
            if self._watcher is None:
                self._watcher = subprocess.Popen(
                    [sys.executable, str(ROOT / "bin" / "_watch.py"), str(self._watch_lock), self._marker],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
            assert self._watcher.stdin
            try:
                self._watcher.stdin.write(json.dumps(groups).encode() + b"\n")
                self._watcher.stdin.flush()
                return
            except OSError:
                self._watcher.wait()
                self._watcher = None

    # -- running ------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], *, seconds: float, what: str, patience: int = 4) -> None:
        """Keep the services running until a condition holds.

        :param patience: how often a service may fail to start before it is given up.
        :raises Refusal: if it does not hold in time, a service keeps failing, or a stop is asked for.
        """
        end = time.monotonic() + seconds
        while not condition():
            self.turn(0.05)
            if self.stops_asked:
                raise KeyboardInterrupt
            for service in self._services:
                if service.failures >= patience:
                    lines = list(service.tail)
                    reason = explain(lines) or "\n".join(["Its last lines:", *lines[-12:]])
                    raise Refusal(f"{service.name} ended {patience} times while it was started. {reason}")
            if time.monotonic() > end:
                raise Refusal(f"{what} within {seconds:.0f} s. The log is {self._file.baseFilename}.")

    def run_once(self, service: Service, *, relay: Callable[[str], None]) -> None:
        """Run a program to its end while the services run; each line of its output goes to `relay`, unlogged.

        :raises Refusal: if it fails.
        """
        self._job = service
        process = self._attach(service, relay)
        try:
            while process.poll() is None:
                self.turn(0.1)
                if self.stops_asked:
                    raise KeyboardInterrupt
        finally:
            if process.poll() is None:
                signal_group(process.pid, signal.SIGKILL)
                process.wait()
            self._drain(service)
            self._job = None
        if process.returncode:
            lines = list(service.tail)
            # What it lost to a full disk or to permissions, its server can tell.
            servers = (other.tail for other in self._services if other.stage == 0)
            reason = next(filter(None, map(explain, (lines, *servers))), "")
            raise Refusal(reason or f"{service.name} failed: {_last_sentence(lines)}")

    def turn(self, seconds: float) -> None:
        """Wait for output, a signal or a child's end, and see to it; start what is due."""
        for key, _events in self._selector.select(seconds):
            if key.fileobj is self._wake:
                with contextlib.suppress(BlockingIOError):
                    self._wake.recv(4096)
            else:
                self._read(key)
        now = time.monotonic()
        for service in self._services:
            if service.process is None:
                if service.start_at and now >= service.start_at and not self.stops_asked:
                    service.start_at = 0.0
                    self._spawn(service)
            elif service.process.poll() is not None:
                self._bury(service, service.process)
        if self._watcher is not None and self._watcher.poll() is not None:
            self._watcher = None
            self._tell_watcher()

    def _bury(self, service: Service, process: subprocess.Popen[bytes]) -> None:
        """See to a child that ended: its own children, its last words, and when it is started again."""
        signal_group(process.pid, signal.SIGKILL)
        kill_strays(f"{self._marker}/{service.name}\0")
        self._drain(service)
        service.process = None
        self._tell_watcher()
        if self.stops_asked:
            return
        code = process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        pause = self._schedule(service)
        self.tell(service.name, f"{how}; starting it again in {pause:.1f} s")

    def _schedule(self, service: Service) -> float:
        steady = time.monotonic() - service.started_at > _STEADY
        service.failures = 1 if steady else service.failures + 1
        pause = min(0.5 * 2 ** (service.failures - 1), _LONGEST_PAUSE)
        service.start_at = time.monotonic() + pause
        return pause

    # -- output -------------------------------------------------------------------------------------------

    def _read(self, key: selectors.SelectorKey) -> bool:
        reader: _Reader = key.data
        try:
            data = os.read(key.fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        for line in reader.lines(data):
            reader.service.tail.append(line)
            if reader.relay:
                reader.relay(line)
            elif line and not (reader.service.noise and reader.service.noise.search(line)):
                self.tell(reader.name, line)
        return bool(data)

    def _drain(self, service: Service) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Reader) and key.data.service is service:
                while self._read(key):
                    pass
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]

    def tell(self, name: str, line: str) -> None:
        """Put a line into the log, as one of this service."""
        self._file.emit(logging.makeLogRecord({"msg": f"{name:<9} {line}"}))
        if self._show:
            colour = _COLOURS.get(name, 32)
            prefix = f"\033[{colour}m{name:<9}|\033[0m" if self._console.is_terminal else f"{name:<9}|"
            self._console.say(f"{prefix} {line}")

    # -- stopping -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End everything, stage by stage, within ten seconds; nothing of it runs afterwards."""
        self.stops_asked = asked = max(1, self.stops_asked)
        for stage in sorted({service.stage for service in self._services}, reverse=True):
            services = [service for service in self._services if service.stage == stage]
            for service in services:
                service.start_at = 0.0
                if service.process:
                    with contextlib.suppress(ProcessLookupError):
                        service.process.send_signal(service.stop_signal)
            end = time.monotonic() + 4.5
            while any(s.process for s in services) and time.monotonic() < end:
                self.turn(0.05)
                if stage and self.stops_asked > asked:  # asked again: only the servers still get their time
                    break
            for service in services:
                if process := service.process:
                    self.tell(service.name, "did not end in time and was killed")
                    signal_group(process.pid, signal.SIGKILL)
                    process.wait()
                    self._bury(service, process)
        kill_strays(self._marker)
        if self._watcher and self._watcher.stdin:
            self._watcher.stdin.close()
            try:
                self._watcher.wait(2)
            except subprocess.TimeoutExpired:
                self._watcher.kill()
                self._watcher.wait()
        self._file.close()


class _Reader:
    """Cuts what is said under one name into lines."""

    def __init__(self, service: Service, name: str, relay: Callable[[str], None] | None = None) -> None:
        self.service = service
        self.name = name
        self.relay = relay
        self._rest = b""

    def lines(self, data: bytes) -> list[str]:
        text = self._rest + data
        *lines, self._rest = text.split(b"\n")
        if (not data and self._rest) or len(self._rest) > 65536:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace").rstrip() for line in lines]


def _last_sentence(lines: Sequence[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def _log_file(path: Path) -> logging.handlers.RotatingFileHandler:
    logging.raiseExceptions = False  # a full disk must not end what is being supervised
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=5_000_000, backupCount=4, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    return handler
