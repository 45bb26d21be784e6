"""Settings are read from the environment, and what makes no sense is refused in a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portal import environment as env

NAME = "PORTICO_X"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.delenv(NAME, raising=False)
    return lambda value: monkeypatch.setenv(NAME, value)


@pytest.mark.parametrize(
    ("value", "read", "result"),
    [
        ("yes", lambda: env.boolean(NAME, default=False), True),
        ("Off", lambda: env.boolean(NAME, default=True), False),
        (" ", lambda: env.boolean(NAME, default=True), True),
        ("7", lambda: env.integer(NAME, default=1, maximum=9), 7),
        ("debug", lambda: env.choice(NAME, ["INFO", "DEBUG"], default="INFO"), "DEBUG"),
        ("a, b\tc,,", lambda: env.words(NAME), ["a", "b", "c"]),
        ("", lambda: env.words(NAME), []),
        ("/a:/b c", lambda: env.paths(NAME, default=[]), [Path("/a"), Path("/b c")]),
        ("/a", lambda: env.path(NAME, default=Path("/b")), Path("/a")),
        ("https://portal.example:8443/", lambda: env.url(NAME, default=""), "https://portal.example:8443"),
        ("", lambda: env.url(NAME, default=""), ""),
        (
            "a.example:80 ::1,.b.example",
            lambda: env.hosts(NAME, url=""),
            [*env.LOOPBACK, "a.example", ".b.example"],
        ),
        ("", lambda: env.smtp(NAME), ("", 25, "", "", False, False)),
        ("smtp://relay.example", lambda: env.smtp(NAME), ("relay.example", 25, "", "", False, False)),
        ("smtp://u:p@127.0.0.1:2525", lambda: env.smtp(NAME), ("127.0.0.1", 2525, "u", "p", False, False)),
        (
            "smtp+starttls://me%40a.example:p%3Aw@relay.example",
            lambda: env.smtp(NAME),
            ("relay.example", 587, "me@a.example", "p:w", True, False),
        ),
        ("smtps://relay.example:4650/", lambda: env.smtp(NAME), ("relay.example", 4650, "", "", False, True)),
        ("", lambda: env.mail_address(NAME, is_needed=False), ""),
        (
            "Portico <portico@acme.example>",
            lambda: env.mail_address(NAME, is_needed=True),
            "Portico <portico@acme.example>",
        ),
        ("no", lambda: env.proxies(NAME), []),
        ("yes", lambda: [str(one) for one in env.proxies(NAME)], ["127.0.0.0/8", "::1/128"]),
        (
            "10.1.2.3, 10.20.0.1/16 fd00::5",
            lambda: [str(one) for one in env.proxies(NAME)],
            ["10.1.2.3/32", "10.20.0.0/16", "fd00::5/128"],
        ),
    ],
)
def test_a_value_is_read(
    given: Callable[[str], None], value: str, read: Callable[[], Any], result: Any
) -> None:
    given(value)
    assert read() == result


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("maybe", lambda: env.boolean(NAME, default=False)),
        ("10", lambda: env.integer(NAME, default=1, maximum=9)),
        ("-1", lambda: env.integer(NAME, default=1, maximum=9)),
        ("loud", lambda: env.choice(NAME, ["INFO"], default="INFO")),
        ("portal.example", lambda: env.url(NAME, default="")),
        ("ftp://portal.example", lambda: env.url(NAME, default="")),
        ("https://portal.example/x", lambda: env.url(NAME, default="")),
        ("https://portal.example:99999", lambda: env.url(NAME, default="")),
        ("https://a:b@portal.example", lambda: env.url(NAME, default="")),
        ("a b/", lambda: env.hosts(NAME, url="")),
    ],
)
def test_a_bad_value_is_refused_with_name_and_value(
    given: Callable[[str], None], value: str, read: Callable[[], Any]
) -> None:
    given(value)
    with pytest.raises(env.BadSetting, match=r"^PORTICO_X is '.*'; expected: "):
        read()


@pytest.mark.parametrize(
    "value",
    ["relay.example", "http://relay.example", "smtp://", "smtp://relay.example/x", "smtps://hidden-word@relay.example",
     "smtp://me:hidden-word@relay.example", "smtps://me:hidden-word@relay.example:99999"],
)  # fmt: skip
def test_the_address_of_a_mail_server_is_refused_without_its_password(
    given: Callable[[str], None], value: str
) -> None:
    given(value)
    with pytest.raises(env.BadSetting, match=r"^PORTICO_X .*expected: ") as refused:
        env.smtp(NAME)
    assert "hidden-word" not in str(refused.value)


@pytest.mark.parametrize("value", ["", "Portico", "a@b@c", "a@b.example\nBcc: c@d.example"])
def test_mails_come_from_an_address(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(env.BadSetting, match="PORTICO_X"):
        env.mail_address(NAME, is_needed=True)


def test_the_public_address_is_a_host_and_an_origin(given: Callable[[str], None]) -> None:
    assert env.hosts(NAME, url="https://portal.example:8443") == [*env.LOOPBACK, "portal.example"]
    assert env.origins(url="https://portal.example:8443") == ["https://portal.example:8443"]
    assert env.origins(url="") == []


class TestSecret:
    def test_the_variable_wins(self, given: Callable[[str], None], tmp_path: Path) -> None:
        given("from the variable")
        assert env.secret(NAME, file=tmp_path / "none") == "from the variable"

    def test_the_file_is_read(self, given: Callable[[str], None], tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text("from the file\n")
        file.chmod(0o600)
        assert env.secret(NAME, file=file) == "from the file"

    def test_a_file_that_others_read_is_refused(self, given: Callable[[str], None], tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text("hidden word")
        file.chmod(0o644)
        with pytest.raises(env.BadSetting, match="chmod 600") as refused:
            env.secret(NAME, file=file)
        assert "hidden word" not in str(refused.value)

    def test_an_empty_file_is_refused(self, given: Callable[[str], None], tmp_path: Path) -> None:
        os.close(os.open(tmp_path / "key", os.O_CREAT, 0o600))
        with pytest.raises(env.BadSetting, match="is empty"):
            env.secret(NAME, file=tmp_path / "key")

    def test_neither_is_told(self, given: Callable[[str], None], tmp_path: Path) -> None:
        with pytest.raises(env.BadSetting, match="run bin/up once"):
            env.secret(NAME, file=tmp_path / "key")


class TestDatabase:
    def test_a_url_with_odd_characters(self, given: Callable[[str], None], tmp_path: Path) -> None:
        given("postgresql://ana:p%40ss@db.example:5433/po%20rtico?sslmode=require")
        found = env.database(NAME, home=tmp_path)
        assert (found["USER"], found["PASSWORD"], found["HOST"]) == ("ana", "p@ss", "db.example")
        assert (found["PORT"], found["NAME"]) == ("5433", "po rtico")
        assert found["OPTIONS"] == {"sslmode": "require", "prepare_threshold": 5}

    def test_a_connection_string(self, given: Callable[[str], None], tmp_path: Path) -> None:
        given("host=/run/pg dbname=portico")
        assert env.database(NAME, home=tmp_path)["HOST"] == "/run/pg"

    def test_what_bin_up_noted(self, given: Callable[[str], None], tmp_path: Path) -> None:
        note = {"database": "postgresql://portico@/portico?host=%2Fshort", "redis": "unix:///short/r?db=0"}
        (tmp_path / "servers.json").write_text(json.dumps(note))
        assert env.database(NAME, home=tmp_path)["HOST"] == "/short"
        assert env.redis(NAME, home=tmp_path) == "unix:///short/r?db=0"

    @pytest.mark.parametrize(
        "value", ["mysql://a:hidden@b/c", "postgresql://a:hidden@b", "postgresql://a:hidden@[b/c", "nonsense"]
    )
    def test_another_address_is_refused_without_its_password(
        self, given: Callable[[str], None], tmp_path: Path, value: str
    ) -> None:
        given(value)
        with pytest.raises(env.BadSetting, match=r"PORTICO_X .*expected: postgresql://") as refused:
            env.database(NAME, home=tmp_path)
        assert "hidden" not in str(refused.value)


class TestRedis:
    @pytest.mark.parametrize(
        ("value", "broker"),
        [
            ("redis://cache.example:6379/2", "redis://cache.example:6379/2"),
            ("unix:///a%20b/redis.sock?db=3", "redis+socket:///a%20b/redis.sock?virtual_host=3"),
            ("unix:///r.sock", "redis+socket:///r.sock?virtual_host=0"),
        ],
    )
    def test_an_address_and_how_celery_spells_it(
        self, given: Callable[[str], None], tmp_path: Path, value: str, broker: str
    ) -> None:
        given(value)
        assert env.redis(NAME, home=tmp_path) == value
        assert env.celery_broker(value) == broker

    @pytest.mark.parametrize(
        "value", ["http://cache.example", "redis://cache.example/first", "unix:///s?db=x"]
    )
    def test_another_address_is_refused(
        self, given: Callable[[str], None], tmp_path: Path, value: str
    ) -> None:
        given(value)
        with pytest.raises(env.BadSetting, match="PORTICO_X"):
            env.redis(NAME, home=tmp_path)
