"""Moves a database to a new major version of PostgreSQL, by dump and restore, and leaves the old one as it was."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _console import Refusal, explain
from _parent import dying_with_parent
from _supervise import Supervisor

_OLD_PORT, _NEW_PORT = 5433, 5434  # only parts of the sockets' names, beside that of the server in use
_PATIENCE = 60.0


@dataclass(frozen=True)
class Cluster:
    """A data folder and programs that can read it."""

    folder: Path
    major: int
    binaries: Path


def clusters(data: Path) -> dict[int, Path]:
    """Find the data folders of all major versions."""
    found = {}
    for folder in data.glob("postgres-*"):
        match = re.fullmatch(r"postgres-(\d+)", folder.name)
        if match and (folder / "PG_VERSION").exists():
            found[int(match[1])] = folder
    return found


def put_aside(folder: Path) -> None:
    """Take an old data folder out of use, but keep it."""
    aside = folder.with_name(f"{folder.name}.moved")
    if not aside.exists():
        folder.rename(aside)


class Move:
    """The copying of one database from an old server to a new one, both of them only for this."""

    def __init__(
        self,
        sockets: Path,
        supervisor: Supervisor,
        environment: Mapping[str, str],
        user: tuple[int, int] | None,
    ) -> None:
        """
        :param sockets: the folder of the servers' sockets.
        :param supervisor: who is asked to stop; that ends the copying.
        :param user: who the servers run as.
        """
        self._sockets = sockets
        self._supervisor = supervisor
        self._options: dict[str, Any] = {"env": dict(environment), "cwd": "/", "start_new_session": True}
        self._options["preexec_fn"] = dying_with_parent(signal.SIGQUIT)
        if user:
            self._options |= {"user": user[0], "group": user[1], "extra_groups": []}

    def run(self, old: Cluster, new: Cluster) -> None:
        """Copy what is in the one into the other, which is empty.

        :raises Refusal: if it cannot be done; the old one is as it was.
        """
        self._check_room(old.folder)
        with self._served(old, _OLD_PORT), self._served(new, _NEW_PORT):
            dump = self._start(new.binaries / "pg_dump", *self._at(_OLD_PORT), "portico")
            target = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", "portico"]
            psql: tuple[str | Path, ...] = (new.binaries / "psql", *self._at(_NEW_PORT), *target)
            load = self._start(*psql, "--single-transaction", stdin=dump.stdout)
            assert dump.stdout
            dump.stdout.close()  # so that the dump ends if the loading does
            self._wait(load, "loaded")
            self._wait(dump, "dumped")
            self._wait(self._start(*psql, "-c", "ANALYZE"), "analysed")

    def _check_room(self, folder: Path) -> None:
        needed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise Refusal(
                f"To move the database to the new PostgreSQL takes about {needed // 1_000_000} MB beside the old one, "
                f"and {free // 1_000_000} MB are free where {folder} is. Free some and start again."
            )

    def _at(self, port: int) -> list[str]:
        return ["-h", str(self._sockets), "-p", str(port), "-U", "portico"]

    @contextlib.contextmanager
    def _served(self, cluster: Cluster, port: int) -> Iterator[None]:
        """Run a server on a data folder."""
        words = ["-D", cluster.folder, "-k", self._sockets, "-p", str(port), "-c", "listen_addresses="]
        words += ["-c", "unix_socket_permissions=0700", "-c", "autovacuum=off", "-c", "jit=off"]
        words += ["-c", "dynamic_shared_memory_type=mmap"]
        log = self._sockets / f"move-{cluster.major}.log"
        with log.open("w+b") as stream:
            process = subprocess.Popen(
                [str(word) for word in (cluster.binaries / "postgres", *words)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                **self._options,
            )
            try:
                ask = [str(cluster.binaries / "pg_isready"), "-q", *self._at(port)]
                self._until(lambda: _succeeds(ask), process, log, f"PostgreSQL {cluster.major}")
                yield
            finally:
                _end(process)
        log.unlink()

    def _until(
        self, is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, name: str
    ) -> None:
        end = time.monotonic() + _PATIENCE
        while not is_ready():
            self._heed_stop()
            if process.poll() is not None or time.monotonic() > end:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                raise Refusal(explain(lines) or "\n".join([f"{name} did not start:", *lines[-8:]]))
            time.sleep(0.1)

    def _start(self, *command: str | Path, stdin: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self._options,
        )

    def _wait(self, process: subprocess.Popen[bytes], what: str) -> None:
        try:
            while process.poll() is None:
                self._heed_stop()
                time.sleep(0.05)
        finally:
            _end(process)
        if process.returncode:
            assert process.stderr
            lines = process.stderr.read().decode("utf-8", "replace").splitlines()
            raise Refusal(
                explain(lines)
                or "\n".join(["The database could not be " + what + " and is as it was:", *lines[-8:]])
            )

    def _heed_stop(self) -> None:
        if self._supervisor.stops_asked:
            raise KeyboardInterrupt


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program, the hard way if it takes long."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
