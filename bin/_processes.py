"""Portico's own processes: their environment, their commands, and what is prepared before they start."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _console import Console, Refusal
from _home import Home, held
from _servers import Servers
from _setup import PYTHON, ROOT, VENV
from _supervise import Service, Supervisor

WILDCARDS = ("0.0.0.0", "::")
NAMES = ("web", "sync", "tasks", "beat", "watch")


def application_environment(home: Home, *, address: str) -> dict[str, str]:
    """Give the environment in which Django runs.

    :param address: the portal's public address, unless the environment has one.
    """
    environment = dict(os.environ)
    environment["DJANGO_SETTINGS_MODULE"] = "portal.settings"
    environment["PORTICO_HOME"] = str(home.path)
    environment["PYTHONUNBUFFERED"] = "1"
    if address and not environment.get("PORTICO_URL"):
        environment["PORTICO_URL"] = address
    for name in PATHS:
        if value := environment.get(name):
            environment[name] = absolute_paths(value, Path.cwd())
    return environment


PATHS = ("PORTICO_PACKS", "PORTICO_FILES_ALLOW")  # relative ones start where the command was called


def absolute_paths(value: str, folder: Path) -> str:
    """Make the paths in a variable absolute, those that begin with `~` excepted."""
    entries = [entry.strip() for entry in value.split(os.pathsep) if entry.strip()]
    return os.pathsep.join(entry if entry.startswith("~") else str(folder / entry) for entry in entries)


def check_environment(environment: dict[str, str], *, servers: bool) -> None:
    """Have the variables read once before anything runs on them.

    :param servers: also sign in to the PostgreSQL and the Redis that they name.
    :raises Refusal: for one that makes no sense; says which, what came and what was expected.
    """
    command = [str(PYTHON), "-m", "portal.startup", *(["--servers"] if servers else [])]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Refusal(done.stdout.strip() or "The settings could not be read.", code=done.returncode)


def runs_own_servers() -> bool:
    """Say whether PostgreSQL or Redis is ours to run."""
    return not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"))


def start_servers(home: Home, supervisor: Supervisor) -> dict[str, str]:
    """Start PostgreSQL and Redis where they are ours to run; gives their addresses as variables."""
    servers = Servers(home.path, data=home.read_note().get("data"))
    servers.start(supervisor)
    if servers.has_moved:
        home.note(schema="", prepared="")  # the new server counts anew, which the preparation sees to
    database, redis = (servers.addresses.get(name, "") for name in ("DATABASE_URL", "REDIS_URL"))
    home.note(data=str(servers.data), database=database, redis=redis)
    return servers.addresses


class Preparation:
    """What is done to database and static files before Portico runs on them, and whether it was."""

    def __init__(self, home: Home, environment: dict[str, str]) -> None:
        self._home = home
        self._environment = environment

    def is_schema_current(self) -> bool:
        """Say whether the database was prepared with these migrations and packs."""
        return self._home.read_note().get("schema") == self._schema()

    def is_current(self) -> bool:
        """Say whether nothing has changed since the last time, on a database that is ours alone."""
        is_ours = not os.environ.get("DATABASE_URL")
        return is_ours and self._home.read_note().get("prepared") == self._everything()

    @contextmanager
    def alone(self, console: Console) -> Iterator[list[str]]:
        """Give the command that prepares, to be run inside; one at a time may."""
        with held(self._home.lock("prepare"), console, "another command that prepares the database"):
            schema, everything = self._schema(), self._everything()
            yield [str(PYTHON), "manage.py", "prepare"]
            self._home.note(schema=schema, prepared=everything)

    def forget(self) -> None:
        """Have it done again: a command has changed the database beside it."""
        self._home.note(schema="", prepared="")

    def _schema(self) -> str:
        digest = hashlib.sha256(self._environment.get("DATABASE_URL", "").encode())
        for pattern in ("*/migrations/*.py", "plugins/*/migrations/*.py", "packs/**/*"):
            for path in sorted(ROOT.glob(pattern)):
                if path.is_file():
                    digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    def _everything(self) -> str:
        digest = hashlib.sha256(self._schema().encode() + (VENV / "portico.json").read_bytes())
        digest.update(self._environment.get("PORTICO_PACKS", "").encode())
        packs = [Path(path) for path in self._environment.get("PORTICO_PACKS", "").split(os.pathsep) if path]
        for folder in [*(ROOT / name for name in _CODE), *packs]:
            for where, folders, files in os.walk(folder):
                folders[:] = sorted(name for name in folders if name != "__pycache__")
                for name in sorted(files):
                    state = os.stat(os.path.join(where, name))
                    digest.update(f"{where}/{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()


_CODE = ("base", "access", "catalog", "integrations", "portal", "plugins", "packs")


def portal(home: Home, environment: dict[str, str], *, bind: str, port: int) -> list[Service]:
    """Describe the web server, the workers, and beat, which tells them what is due (portal.processes)."""
    command = [str(PYTHON), "-m", "portal.processes", "--bind", bind, "--port", str(port)]
    command += ["--schedule", str(home.path / "beat")]
    # As root, Celery warns at each start; the pickle that it warns of is not accepted here.
    known = "ignore:You're running the worker with superuser privileges"
    variables = environment | {
        "PYTHONWARNINGS": ",".join(filter(None, [environment.get("PYTHONWARNINGS"), known]))
    }
    if bind not in ("localhost", "127.0.0.1", "::1"):
        variables.setdefault("PORTICO_ALLOWED_HOSTS", ",".join(_names(bind)))
    if sys.platform.startswith("linux"):
        return [Service("portico", [*command, *NAMES], variables, voices=NAMES)]
    return [Service(name, [*command, name], variables) for name in NAMES]  # elsewhere forks are not safe


def _names(bind: str) -> list[str]:
    """List the names by which this machine is asked for on an address that is not loopback."""
    names = ["localhost", "127.0.0.1", "[::1]"]
    if bind not in WILDCARDS:
        return [*names, bind]
    names.append(socket.gethostname())
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))  # sends nothing, only picks the address to send from
                names.append(probe.getsockname()[0])
        except OSError:
            continue
    return names
