"""Backups: what was written comes back, whatever happens on the way. PostgreSQL's own dump is the judge."""

from __future__ import annotations

import contextlib
import gc
import getpass
import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from django.test import override_settings

from access.secrets import unseal
from portal.backups.archive import Archive, BackupError, SealedKeys, Table, writing
from portal.backups.passphrase import read_new_passphrase, read_passphrase
from tests.faults.running import PG_DUMP, ROOT
from tests.portal.filled import PASSWORD

PASSPHRASE = "correct horse battery"

pytestmark = pytest.mark.skipif(PG_DUMP is None, reason="runs in the set-up of bin/test")


def address_of(name: str) -> str:
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))


def on_the_server(statement: str) -> None:
    with psycopg.connect(address_of("postgres"), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


@dataclass
class Portal:
    """A home and a database."""

    home: Path
    template: Portal | None = None
    name: str = field(default_factory=lambda: f"backup_{uuid.uuid4().hex[:12]}")
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir()
        for name in ("secret-key", "encryption-keys"):
            file = self.home / name
            theirs = self.template and (self.template.home / name).read_text()
            file.write_text(theirs or uuid.uuid4().hex * 2 + "\n")
            file.chmod(0o600)
        like = f"TEMPLATE {self.template.name}" if self.template else ""
        on_the_server(f"CREATE DATABASE {self.name} {like}")

    def __enter__(self) -> Portal:
        return self

    def __exit__(self, *_error: object) -> None:
        self.wipe()

    def wipe(self) -> None:
        on_the_server(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(address_of(self.name), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith("PORTICO_")}
        kept.pop("DJANGO_SETTINGS_MODULE", None)
        own = {"PORTICO_HOME": str(self.home), "DATABASE_URL": address_of(self.name)}
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=kept | own | {"PORTICO_BACKUP_PASSPHRASE": PASSPHRASE} | self.variables | variables,
        )

    def run(self, *arguments: str | Path, code: int = 0, **variables: str) -> str:
        process = self.start(*arguments, **variables)
        said, _errors = process.communicate(timeout=120)
        assert process.returncode == code, said
        return said

    def manage(self, *arguments: str | Path, code: int = 0, **variables: str) -> str:
        return self.run("manage.py", *arguments, code=code, **variables)

    def dump(self) -> str:
        """All that PostgreSQL knows of it but the audit log, which a restore adds a line to."""
        assert PG_DUMP
        command: list[str | Path] = [
            PG_DUMP,
            "--restrict-key=tests",
            "--no-owner",
            "--exclude-table-data=access_auditevent*",
        ]
        command += ["--exclude-schema=portico_restoring"]  # what a killed one left, which nobody sees
        done = subprocess.run([*command, address_of(self.name)], capture_output=True, text=True, check=True)
        return done.stdout

    def password(self, keys: str = "") -> str:
        """The password that its connection keeps, by the keys that lie in its home."""
        ((sealed,),) = self.ask("SELECT sealed FROM access_secret")
        ring = (keys or (self.home / "encryption-keys").read_text()).split()
        with override_settings(PORTICO_ENCRYPTION_KEYS=ring):
            return unseal(str(sealed))

    def audit(self) -> list[tuple[object, ...]]:
        return self.ask("SELECT a::text FROM access_auditevent a ORDER BY id")


def without_operations(dump: str) -> str:
    """Those that were open are closed by a restore, with the time of it."""
    begin = dump.index("COPY public.integrations_operationrun ")
    return dump[:begin] + dump[dump.index("\\.\n", begin) :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


@pytest.fixture(scope="module")
def filled(folder: Path) -> Iterator[Portal]:
    """A portal with something of everything; tests leave it as it is."""
    documents = "\n---\n".join(
        f"apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: part-{n}\n"
        f"  description: 'Grüße \\n \\t {n}'\nspec: {{type: service, lifecycle: production, owner: team-{n % 7}}}"
        for n in range(200)
    )
    (folder / "catalog-info.yaml").write_text(documents, encoding="utf-8")
    with Portal(folder / "filled") as portal:
        portal.run("-m", "tests.portal.filled", folder / "catalog-info.yaml", PORTICO_FILES_ALLOW=str(folder))
        yield portal


@pytest.fixture(scope="module")
def backup(filled: Portal, folder: Path) -> Path:
    path = folder / "portico.backup"
    said = filled.manage("backup", path)
    assert "the keys under the passphrase" in said
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Portal]:
    """Another machine: an empty database, and keys of its own."""
    with Portal(tmp_path / "empty") as portal:
        yield portal


@pytest.fixture
def changed(tmp_path: Path, filled: Portal) -> Iterator[Portal]:
    """The same portal later: something was removed and something was written."""
    with Portal(tmp_path / "changed", template=filled) as portal:
        portal.ask("DELETE FROM catalog_feeditem WHERE id % 2 = 0")
        portal.ask("UPDATE access_user SET name = 'later'")
        yield portal


@pytest.fixture(scope="module")
def migrated_back(folder: Path, filled: Portal) -> Iterator[Portal]:
    """The same portal as a migration of the catalog will find it; tests leave it as it is."""
    with Portal(folder / "migrated_back", template=filled) as portal:
        portal.manage("migrate", "catalog", "0009")
        yield portal


@pytest.fixture
def older(tmp_path: Path, migrated_back: Portal) -> Iterator[Portal]:
    with Portal(tmp_path / "older", template=migrated_back) as portal:
        yield portal


def test_everything_comes_back_on_another_machine(filled: Portal, backup: Path, empty: Portal) -> None:
    queue = redis.Redis.from_url(os.environ["REDIS_URL"])
    queue.set("portico:stale", "1")
    said = empty.manage("restore", backup)
    assert "200 entities, 0 activities" in said
    assert "1 of 1 stored credentials can be read" in said
    assert "2 operations that were open are closed" in said
    assert without_operations(empty.dump()) == without_operations(filled.dump())
    audit = filled.audit()
    assert empty.audit()[: len(audit)] == audit
    assert [
        verb for (verb,) in empty.ask("SELECT verb FROM access_auditevent ORDER BY id")[len(audit) :]
    ] == ["operation.end", "operation.end", "backup.restore"]
    assert empty.ask("SELECT DISTINCT state FROM integrations_operationrun ORDER BY 1") == [
        ("done",),
        ("failed",),
        ("unknown",),
    ]
    # The credentials too, by the keys that came along; and the sessions.
    assert empty.run("-m", "tests.portal.filled", "--read").strip() == PASSWORD
    assert (empty.home / "secret-key").read_text() == (filled.home / "secret-key").read_text()
    ring = (empty.home / "encryption-keys").read_text().split()
    assert ring[0] == (filled.home / "encryption-keys").read_text().strip()
    assert len(ring) == 2
    assert (empty.home / "encryption-keys").stat().st_mode & 0o777 == 0o600
    assert queue.get("portico:stale") is None


def test_the_databases_owner_needs_no_other_right(filled: Portal, backup: Path, empty: Portal) -> None:
    role = f"owner_{uuid.uuid4().hex[:8]}"
    on_the_server(f"CREATE ROLE {role} LOGIN")
    try:
        on_the_server(f"ALTER DATABASE {empty.name} OWNER TO {role}")
        owner = {"DATABASE_URL": f"{address_of(empty.name)}&user={role}".replace("portico@", "")}
        empty.manage("restore", backup, **owner)
        empty.manage("restore", "--replace", backup, **owner)
        assert without_operations(empty.dump()) == without_operations(filled.dump())
    finally:
        empty.wipe()
        on_the_server(f"DROP ROLE {role}")


def test_the_file_is_its_owners_alone_and_tells_no_key(filled: Portal, backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(backup) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
        manifest = json.loads(archive.read("manifest.json"))
    for name in ("secret-key", "encryption-keys"):
        assert (filled.home / name).read_text().strip().encode() not in everything
    assert PASSWORD.encode() not in everything
    assert PASSPHRASE.encode() not in everything
    assert {table["name"] for table in manifest["tables"]} == {
        str(name) for (name,) in filled.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    }


def test_a_file_that_is_there_is_kept_unless_forced(filled: Portal, backup: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert "choose another name" in filled.manage("backup", tmp_path / "mine", code=1).lower()
    assert (tmp_path / "mine").read_text() == "mine"
    filled.manage("backup", "--force", tmp_path / "mine")
    assert zipfile.is_zipfile(tmp_path / "mine")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o600
    assert "no folder" in filled.manage("backup", tmp_path / "none" / "x", code=1)
    os.mkfifo(tmp_path / "pipe")
    assert "Name a file" in filled.manage("backup", "--force", tmp_path / "pipe", code=1)
    assert (tmp_path / "pipe").is_fifo()


def test_a_backup_that_fails_says_why_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    also: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", also.append)
    row = Table(name="t", columns=["c"], rows=1, size=0, sha256="")

    with contextlib.suppress(OSError), writing(tmp_path / "x", force=False) as writer:
        with writer.table(row) as table:
            table.write(b"row")
        raise OSError("No space left on device")
    del writer, table
    gc.collect()
    assert (also, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ([], {"PORTICO_BACKUP_PASSPHRASE": "another one"}, "not the passphrase"),
        ([], {"PORTICO_BACKUP_PASSPHRASE": ""}, "nobody to ask for the passphrase"),
        (["--passphrase-file", "none"], {}, "cannot be read from none"),
        ([], {"PORTICO_ENCRYPTION_KEYS": "k" * 40}, "Unset PORTICO_ENCRYPTION_KEYS"),
        ([], {"REDIS_URL": "redis://127.0.0.1:1/0"}, "Redis does not answer"),
    ],
)
def test_what_cannot_be_restored_changes_nothing(
    backup: Path, empty: Portal, arguments: list[str], variables: dict[str, str], said: str
) -> None:
    keys = (empty.home / "encryption-keys").read_text()
    assert said in empty.manage("restore", backup, *arguments, code=1, **variables)
    assert empty.ask("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []
    assert empty.ask("SELECT to_regnamespace('portico_restoring')") == [(None,)]
    assert (empty.home / "encryption-keys").read_text() == keys


def test_a_damaged_file_is_refused(backup: Path, empty: Portal, tmp_path: Path) -> None:
    before, whole = empty.dump(), backup.read_bytes()
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "bent": whole[: len(whole) // 3] + bytes([whole[len(whole) // 3] ^ 1]) + whole[len(whole) // 3 + 1 :],
        "text": b"hello",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert "Nothing was changed" in empty.manage("restore", tmp_path / name, code=1)
    assert "There is no file" in empty.manage("restore", tmp_path / "none", code=1)
    assert empty.dump() == before


def test_a_bit_that_fell_over_is_noticed_wherever_it_is(backup: Path, tmp_path: Path) -> None:
    whole, chance, refused = backup.read_bytes(), random.Random(1), 0
    for _round in range(200):
        bent = bytearray(whole)
        bent[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        (tmp_path / "bent").write_bytes(bent)
        try:
            with Archive(tmp_path / "bent") as archive:
                archive.verify()
        except BackupError:
            refused += 1
    assert refused > 150, "all but those in what a zip only says of its members"


def rewritten(backup: Path, path: Path, change: Callable[[dict[str, object]], None]) -> Path:
    """The same backup with another manifest."""
    with zipfile.ZipFile(backup) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                change(manifest)
                content = json.dumps(manifest).encode()
            new.writestr(name, content)
    return path


def test_a_backup_of_newer_software_is_refused(backup: Path, empty: Portal, tmp_path: Path) -> None:
    def newer(manifest: dict[str, object]) -> None:
        manifest["migrations"]["catalog"].append("0999_later")  # type: ignore[index]

    def other_form(manifest: dict[str, object]) -> None:
        manifest["format"] = 2

    before = empty.dump()
    said = empty.manage("restore", rewritten(backup, tmp_path / "newer", newer), code=1)
    assert "made by a newer Portico" in said
    assert "catalog.0999_later" in said
    said = empty.manage("restore", rewritten(backup, tmp_path / "form", other_form), code=1)
    assert "in a form that this one cannot read" in said
    assert empty.dump() == before


def test_data_are_replaced_only_when_asked_and_are_kept(
    backup: Path, changed: Portal, filled: Portal
) -> None:
    before = changed.dump()
    assert "give --replace" in changed.manage("restore", backup, code=1)
    with psycopg.connect(address_of(changed.name)):
        assert "1 other session uses the database" in changed.manage("restore", "--replace", backup, code=1)
    assert changed.dump() == before
    changed.ask("CREATE TABLE somebody_elses (word text)")
    changed.ask("CREATE VIEW report AS SELECT name FROM access_user")
    said = changed.manage("restore", "--replace", backup, code=1)
    assert "view report" in said
    changed.ask("DROP VIEW report")
    changed.manage("restore", "--replace", backup)
    assert changed.ask("SELECT count(*) FROM somebody_elses") == [(0,)]
    changed.ask("DROP TABLE somebody_elses")
    assert without_operations(changed.dump()) == without_operations(filled.dump())
    # What was there is in a backup that was made first, without keys, which lie here.
    kept = max((changed.home / "backups").iterdir())
    assert kept.name.startswith("before-restoring-")
    changed.manage("restore", "--replace", kept)
    assert without_operations(changed.dump()) == without_operations(before)
    assert changed.password() == PASSWORD


def test_a_backup_without_keys_needs_those_that_are_here(
    filled: Portal, empty: Portal, tmp_path: Path
) -> None:
    path = tmp_path / "keyless"
    assert "without the keys" in filled.manage("backup", "--without-keys", path)
    assert "1 of 1 stored credentials were encrypted with a key" in empty.manage("restore", path, code=1)
    said = empty.manage("restore", "--without-credentials", path)
    assert "0 of 1 stored credentials can be read" in said
    key = (filled.home / "encryption-keys").read_text()
    (empty.home / "encryption-keys").write_text(key)
    assert empty.password() == PASSWORD


def test_keys_in_a_variable_stay_where_they_are(filled: Portal, backup: Path, empty: Portal) -> None:
    keys = (filled.home / "encryption-keys").read_text().strip()
    before = (empty.home / "encryption-keys").read_text()
    empty.manage("restore", backup, PORTICO_ENCRYPTION_KEYS=keys)
    assert (empty.home / "encryption-keys").read_text() == before
    assert empty.password(keys) == PASSWORD


def test_a_passphrase_is_read_from_the_first_line_of_a_file(filled: Portal, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("from a file\nand a second line\n")
    path = tmp_path / "made"
    none = {"PORTICO_BACKUP_PASSPHRASE": ""}
    filled.manage("backup", "--passphrase-file", tmp_path / "passphrase", path, **none)
    with Archive(path) as archive:
        assert archive.manifest.keys
        assert set(archive.manifest.keys.open("from a file")) == {"encryption", "secret"}
    assert read_passphrase(tmp_path / "passphrase") == "from a file"
    short = filled.manage("backup", tmp_path / "short", code=1, PORTICO_BACKUP_PASSPHRASE="short")
    assert "at least 8 characters" in short
    assert not (tmp_path / "short").exists()


def test_a_passphrase_that_is_typed_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTICO_BACKUP_PASSPHRASE", raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    typed = iter(["long enough", "long enough", "long enough", "something else"])
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(typed))
    assert read_new_passphrase(None) == "long enough"
    with pytest.raises(BackupError, match="two different passphrases"):
        read_new_passphrase(None)


def test_sealed_keys_open_with_their_passphrase_alone() -> None:
    sealed = SealedKeys.seal({"encryption": "a b", "secret": "c"}, "Größe und Maß")
    assert sealed.open("Größe und Maß") == {"encryption": "a b", "secret": "c"}
    with pytest.raises(BackupError, match="not the passphrase"):
        sealed.open("Größe und Mass")
    assert SealedKeys.seal({}, "x").salt != sealed.salt


# -- before a migration -----------------------------------------------------------------------------------


def test_data_are_backed_up_before_they_are_migrated(older: Portal) -> None:
    before = older.dump()
    folder = older.home / "backups"
    folder.mkdir()
    for n in range(6):
        (folder / f"before-migrating-2020-01-0{n + 1}-000000.backup").touch()
        os.utime(folder / f"before-migrating-2020-01-0{n + 1}-000000.backup", (n, n))
    (folder / ".before-migrating-2020.backup.part").touch()
    (folder / "mine.backup").touch()
    said = older.manage("prepare")
    (path,) = re.findall(r"backup in (\S+)", said)
    assert f"bin/manage restore --replace '{path}'" in said
    assert older.ask("SELECT count(*) FROM django_migrations WHERE name = '0010_addresses'") == [(1,)]
    names = sorted(file.name for file in folder.iterdir())
    assert names == [
        *(f"before-migrating-2020-01-0{n}-000000.backup" for n in (3, 4, 5, 6)),
        Path(path).name,
        "mine.backup",
    ]
    # With nothing to migrate there is nothing to keep. A plugin that is gone stops nobody.
    older.ask("INSERT INTO django_migrations (app, name, applied) VALUES ('gone', '0001_initial', now())")
    older.manage("prepare")
    assert sorted(file.name for file in folder.iterdir()) == names

    # What is older is brought up to date as it is restored; nothing of before is gone.
    older.ask("DELETE FROM access_apitoken")
    older.manage("restore", "--replace", path)
    assert older.ask("SELECT count(*) FROM django_migrations WHERE name = '0010_addresses'") == [(1,)]
    older.manage("migrate", "catalog", "0009")
    assert without_migrations(older.dump()) == without_migrations(before)


def without_migrations(dump: str) -> str:
    """What a restore brings up to date has its migrations noted at that time."""
    dump = re.sub(r"(?m)^.*django_migrations_id_seq', \d+.*$", "", without_operations(dump))
    begin = dump.index("COPY public.django_migrations ")
    return dump[:begin] + dump[dump.index("\\.\n", begin) :]


def test_without_room_for_a_backup_nothing_is_migrated(older: Portal) -> None:
    (older.home / "backups").write_text("in the way")
    said = older.manage("prepare", code=1)
    assert "No backup could be made before the migration" in said
    assert older.ask("SELECT count(*) FROM django_migrations WHERE name = '0010_addresses'") == [(0,)]
    older.manage("prepare", PORTICO_BACKUP_BEFORE_MIGRATING="no")
    assert older.ask("SELECT count(*) FROM django_migrations WHERE name = '0010_addresses'") == [(1,)]


def test_data_of_newer_software_are_refused_with_the_way_back(backup: Path, changed: Portal) -> None:
    changed.ask("INSERT INTO django_migrations (app, name, applied) VALUES ('catalog', '0999_later', now())")
    changed.ask("INSERT INTO django_migrations (app, name, applied) VALUES ('later', '0001_initial', now())")
    changed.ask("CREATE TABLE later_thing (id int)")
    before = changed.dump()
    said = changed.manage("prepare", code=1)
    assert "migrated by a newer Portico: this one does not know catalog.0999_later" in said
    assert "bin/manage restore --replace FILE" in said
    assert changed.dump() == before
    changed.manage("restore", "--replace", backup)
    changed.manage("prepare")
    assert changed.ask("SELECT to_regclass('later_thing')") == [(None,)]


# -- kill -9 ----------------------------------------------------------------------------------------------


@pytest.fixture(params=[3, pytest.param(20, marks=pytest.mark.full)])
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def duration(run: Callable[[], object]) -> float:
    begun = time.monotonic()
    run()
    return time.monotonic() - begun


def killed(
    start: Callable[[], subprocess.Popen[str]], takes: float, between: tuple[float, float], rounds: int
) -> Iterator[None]:
    """Start a program and kill it somewhere on its way; again, until it was killed before its end in all rounds.

    :param takes: how long it runs undisturbed.
    :param between: which parts of that it is killed after.
    """
    chance, done = random.Random(rounds), 0
    for _attempt in range(4 * rounds):
        process = start()
        time.sleep(takes * chance.uniform(*between))
        if process.poll() is None:
            done += 1
        else:
            takes *= 0.7  # the first time, the machine was busier
        process.kill()
        process.communicate()
        yield
        if done == rounds:
            return
    pytest.fail(f"Of {4 * rounds} only {done} were killed before their end.")


def test_a_backup_that_is_killed_leaves_a_whole_one(filled: Portal, tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "portico.backup"
    command = ("manage.py", "backup", "--force", path)
    takes = duration(lambda: filled.run(*command))
    for _kill in killed(lambda: filled.start(*command), takes, (0.5, 0.97), rounds):
        with Archive(path) as archive:  # that of before, or this one
            archive.verify()
        assert [f.name for f in tmp_path.iterdir() if not f.name.startswith(".")] == [path.name]
    filled.run(*command)
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


def test_a_restore_that_is_killed_leaves_all_or_nothing(backup: Path, changed: Portal, rounds: int) -> None:
    command = ("manage.py", "restore", "--replace", backup)
    takes = duration(lambda: changed.run(*command))
    after = without_operations(changed.dump())
    changed.ask("UPDATE access_user SET name = 'later'")
    before = without_operations(changed.dump())
    gone = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    for _kill in killed(lambda: changed.start(*command), takes, (0.3, 0.99), rounds):
        end = time.monotonic() + 20
        while changed.ask(gone) != [(1,)]:
            assert time.monotonic() < end, "its session ends with it"
            time.sleep(0.1)
        assert without_operations(changed.dump()) in (before, after)
        assert changed.password() == PASSWORD
        changed.ask("UPDATE access_user SET name = 'later'")
    changed.run(*command)
    assert without_operations(changed.dump()) == after
    assert changed.ask("SELECT to_regnamespace('portico_restoring')") == [(None,)]
