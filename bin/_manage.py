"""`bin/manage`: a management command in Portico's environment, whether `bin/up` runs or not.

The command has standard output for itself; what is said beside it goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from _console import Console, Refusal, main
from _home import Home, Lock
from _parent import dying_with_parent
from _processes import (
    PATHS,
    Preparation,
    absolute_paths,
    application_environment,
    check_environment,
    runs_own_servers,
)
from _servers import Servers
from _setup import PYTHON, ROOT, ensure

# These work on the code, on the schema itself, or on a database that is replaced.
_UNPREPARED = {
    "check",
    "compilemessages",
    "diffsettings",
    "help",
    "makemessages",
    "makemigrations",
    "migrate",
    "prepare",
    "restore",
    "showmigrations",
    "spectacular",
    "sqlmigrate",
    "version",
    "--help",
    "--version",
}
_REPLACING = {"flush", "migrate", "restore"}
_NEEDING_SERVERS = {"restore"}  # of those that are unprepared


def manage() -> int:
    """Run one command; gives its exit code."""
    console = Console(sys.stderr)
    home = Home()
    _share_environment(home, console)
    ensure(console)
    environment = application_environment(home, address=home.read_note().get("address", ""))
    command = next(iter(sys.argv[1:]), "help")
    needs_servers = command not in _UNPREPARED or command in _NEEDING_SERVERS
    check_environment(environment, servers=needs_servers)
    with _servers(home) as addresses:
        environment |= addresses
        if command not in _UNPREPARED:
            _prepare(home, console, environment)
        try:
            return _run(environment)
        finally:
            if command in _REPLACING:
                Preparation(home, environment).forget()


def _run(environment: dict[str, str]) -> int:
    """Run the command as if it stood alone: it has the terminal, and its exit code is ours."""
    process = subprocess.Popen(
        [str(PYTHON), str(ROOT / "manage.py"), *sys.argv[1:]],
        env=environment,
        preexec_fn=dying_with_parent(signal.SIGTERM),
    )
    # A terminal sends Ctrl-C to the command as well, which decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    return 128 - code if code < 0 else code


# -- The environment --------------------------------------------------------------------------------------

# What decides on which data a command works: a running bin/up's own holds, whatever this shell has set.
_DATA = ("DATABASE_URL", "REDIS_URL", "PORTICO_SECRET_KEY", "PORTICO_ENCRYPTION_KEYS", "PORTICO_PACKS")
# What decides how: this shell's holds, else that of the running bin/up.
_MANNER = ("PORTICO_URL", "PORTICO_OUTBOUND_ALLOW", "PORTICO_FILES_ALLOW")


def _share_environment(home: Home, console: Console) -> None:
    """Take over from a running bin/up what this shell would have otherwise, and say what that is."""
    lock = home.lock("servers")
    holder = lock.holder()
    if holder.get("command") != "bin/up" or lock.is_free():
        packs = home.read_note().get("packs", "")
        if packs and "PORTICO_PACKS" not in os.environ:
            os.environ["PORTICO_PACKS"] = packs
            console.say(f"  With PORTICO_PACKS={packs}, as at the last start of Portico.")
        return
    running = _environment_of(holder["pid"])
    if running is None:
        return
    taken = []
    for name in (*_DATA, *_MANNER):
        theirs, own = running.get(name, ""), os.environ.get(name, "")
        if name in PATHS:
            own = absolute_paths(own, Path.cwd())
        if theirs != own and (name in _DATA or not own):
            os.environ[name] = theirs
            taken.append(name)
    if taken:
        console.say(f"  With {', '.join(taken)} as the running Portico has it (process {holder['pid']}).")


def _environment_of(process: int) -> dict[str, str] | None:
    """Read the variables with which a process was started; None where the system does not tell."""
    folder = Path(f"/proc/{process}")
    try:
        entries = os.fsdecode((folder / "environ").read_bytes()).split("\0")
        start = (folder / "cwd").readlink()
    except OSError:
        return None
    found = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    return found | {name: absolute_paths(found.get(name, ""), start) for name in PATHS}


# -- The servers ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _servers(home: Home) -> Iterator[dict[str, str]]:
    """Have PostgreSQL and Redis at hand: those of bin/up, of another bin/manage, or started for this one.

    Everybody who uses them holds the lock `users` together; the last one ends what bin/manage started.
    """
    if not runs_own_servers():
        yield {}
        return
    users, lock = home.lock("users"), home.lock("servers")
    users.wait(shared=True)
    try:
        yield _find_or_start(home, lock)
    finally:
        # Taken alone, nobody else uses the servers, and nobody can begin to.
        if users.take() and lock.holder().get("command") == "bin/manage" and not lock.is_free():
            with contextlib.suppress(ProcessLookupError):
                os.kill(lock.holder()["pid"], signal.SIGTERM)
            lock.wait(12)
        users.free()


def _find_or_start(home: Home, lock: Lock) -> dict[str, str]:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if lock.is_free():
            _start()
        servers = Servers(home.path, data=home.read_note().get("data"))
        if servers.are_ready():
            return servers.addresses
        time.sleep(0.2)
    raise Refusal(f"The database did not become ready within 120 s. The log is in {home.path / 'logs'}.")


def _start() -> None:
    """Start the process that runs the servers, and wait until they answer."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bin" / "_hold.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert process.stdout
    said = process.stdout.readline().strip()
    if said not in ("ready", "busy"):
        raise Refusal(
            "\n".join([said, process.stdout.read()]).strip() or "The database could not be started."
        )


# -- Preparing --------------------------------------------------------------------------------------------


def _prepare(home: Home, console: Console, environment: dict[str, str]) -> None:
    """Bring the database up to date with this checkout, unless a running bin/up has it as it needs it."""
    preparation, lock = Preparation(home, environment), home.lock("servers")
    is_used = lock.holder().get("command") == "bin/up" and not lock.is_free()
    if preparation.is_schema_current() or (is_used and home.read_note().get("schema")):
        return
    with preparation.alone(console) as command:
        if preparation.is_schema_current():  # another has done it meanwhile
            return
        console.say("  Schema and packs ...")
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=sys.stderr, check=False)
        if done.returncode:
            raise Refusal("The database could not be prepared; what went wrong stands above.")


if __name__ == "__main__":
    main(manage)
