"""`PORTICO_HOME`: the folder that holds all that one Portico knows, its keys, and who is using it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _console import Console, Refusal
from _setup import ROOT


class Lock:
    """A lock on a file, which the kernel frees with the process that holds it.

    Whoever holds it alone writes into the file who they are, for those who find it held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; says whether it was."""
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self, seconds: float | None = None, *, shared: bool = False) -> bool:
        """Wait for the lock; says whether it was taken in time."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.take(shared=shared):
            if end is not None and time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def is_free(self) -> bool:
        """Say whether nobody holds the lock, this object included."""
        if not self.take():
            return False
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return True

    def sign(self, **who: Any) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(who).encode(), 0)

    def holder(self) -> dict[str, Any]:
        """Read who signed last."""
        try:
            return dict(json.loads(os.pread(self._file, 4096, 0)))
        except ValueError:
            return {}

    def free(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._file)


class Home:
    """One Portico's folder, made with its keys if it is not there yet."""

    def __init__(self) -> None:
        path = Path(os.environ.get("PORTICO_HOME") or ROOT / "var").expanduser().absolute()
        self.path = path
        os.environ["PORTICO_HOME"] = str(path)
        # The database's unprivileged user has to pass through; each secret file has a mode of its own.
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.getuid() == 0 else 0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise Refusal(
                f"{path} is not a folder. Set PORTICO_HOME to one, or to a path where one can be made."
            ) from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise Refusal(f"{path} cannot be written by this user. Set PORTICO_HOME to a folder that can.")
        for name in ("locks", "logs"):
            (path / name).mkdir(exist_ok=True, mode=0o700)
        self._make_key("secret-key", secrets.token_urlsafe(50))
        self._make_key("encryption-keys", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())

    def _make_key(self, name: str, key: str) -> None:
        """Write a key once; it appears whole or not at all."""
        file = self.path / name
        if file.exists():
            return
        new = self.path / f".{name}.{os.getpid()}"
        try:
            # In a container each start has the same number, and finds what a killed one left.
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(key + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(new, file)
        finally:
            new.unlink()

    def lock(self, name: str) -> Lock:
        return Lock(self.path / "locks" / name)

    def read_note(self) -> dict[str, str]:
        """Read what the last start noted: where the servers listen and keep their data, and the address."""
        try:
            return dict(json.loads((self.path / "servers.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def note(self, **entries: str) -> None:
        new = self.path / "servers.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            json.dump(self.read_note() | entries, stream, indent=1)
        new.replace(self.path / "servers.json")


@contextlib.contextmanager
def held(lock: Lock, console: Console, waiting_for: str) -> Iterator[None]:
    """Hold a lock, saying what is waited for if it is not free."""
    if not lock.take():
        console.say(f"  Waiting for {waiting_for}.")
        lock.wait()
    try:
        yield
    finally:
        lock.free()
