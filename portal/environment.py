"""Typed readings of the environment, for `portal/settings.py` alone.

Each function takes a variable's name and gives a value that can be relied on; a value that cannot be
understood is refused with a sentence that names the variable, the value and what is expected. An empty
variable counts as unset. Values of secrets are never repeated.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = re.compile(rf"\.?{_LABEL}(\.{_LABEL})*\.?")


class BadSetting(ImproperlyConfigured):
    """A variable of the environment that is missing or cannot be understood; the message is for a person."""


def _read(name: str) -> str:
    return os.environ.get(name, "").strip()


def _refuse(name: str, value: str, expected: str) -> BadSetting:
    return BadSetting(f"{name} is {value!r}; expected: {expected}.")


def boolean(name: str, *, default: bool) -> bool:
    """Read `1/0`, `true/false`, `yes/no` or `on/off`."""
    value = _read(name)
    match value.lower():
        case "":
            return default
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
    raise _refuse(name, value, "one of 1, 0, true, false, yes, no, on, off")


def integer(name: str, *, default: int, minimum: int = 0, maximum: int) -> int:
    """Read a whole number between two bounds."""
    value = _read(name) or str(default)
    if not value.isdecimal() or not minimum <= int(value) <= maximum:
        raise _refuse(name, value, f"a whole number from {minimum} to {maximum}")
    return int(value)


def choice(name: str, choices: Sequence[str], *, default: str) -> str:
    """Read one of some words, in any case; the answer is written as in `choices`."""
    value = _read(name) or default
    for word in choices:
        if word.lower() == value.lower():
            return word
    raise _refuse(name, value, f"one of {', '.join(choices)}")


def path(name: str, *, default: Path) -> Path:
    """Read a file's or folder's path; a relative one starts at the current folder."""
    return _absolute(name, _read(name) or str(default))


def paths(name: str, *, default: Sequence[Path]) -> list[Path]:
    """Read several paths, separated as in PATH."""
    value = _read(name)
    if not value:
        return [entry.absolute() for entry in default]
    return [_absolute(name, entry) for entry in value.split(os.pathsep) if entry.strip()]


def _absolute(name: str, value: str) -> Path:
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:  # ~somebody who is not there
        raise _refuse(name, value, "a path; this machine knows no such user") from None


def words(name: str, *, default: Sequence[str] = ()) -> list[str]:
    """Read several words, separated by commas or blanks."""
    return re.split(r"[\s,]+", value) if (value := _read(name).strip(", ")) else list(default)


def url(name: str, *, default: str) -> str:
    """Read the address of a web server's root, without the slash at its end.

    :raises BadSetting: for another scheme than http and https, a missing host, a path or a query.
    """
    value = _read(name) or default
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.port != 0 and _is_host(parts.hostname or "")
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise _refuse(name, value, "an address such as https://portal.example, without a path")
    return f"{parts.scheme}://{parts.netloc}"


def hosts(name: str, *, url: str) -> list[str]:
    """Read the host names that the portal answers to; by default that of its public address.

    Loopback is always one: health checks of the same machine use it.
    """
    found = list(LOOPBACK)
    for word in words(name, default=[urlsplit(url).netloc] if url else []):
        host = word if word.endswith("]") or _is_address(word) else re.sub(r":\d+$", "", word)
        if _is_address(host.strip("[]")):
            host = f"[{host.strip('[]')}]" if ":" in host else host
        elif host != "*" and not _is_host(host):
            raise _refuse(name, word, "host names such as portal.example, separated by commas")
        if host not in found:
            found.append(host)
    return found


def proxies(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Read whose word is taken for where a request came from: `yes` is a proxy on this machine, `no` nobody."""
    value = _read(name).lower()
    if value in ("", "no", "0", "false", "off"):
        return []
    if value in ("yes", "1", "true", "on"):
        value = "127.0.0.0/8 ::1"
    try:
        return [ipaddress.ip_network(word, strict=False) for word in re.split(r"[\s,]+", value.strip(", "))]
    except ValueError:
        raise _refuse(
            name, value, "no, yes for a proxy on this machine, or addresses and networks such as 10.0.0.0/8"
        ) from None


def _is_host(text: str) -> bool:
    return _is_address(text) or bool(_HOST.fullmatch(text))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def origins(*, url: str) -> list[str]:
    """Give the origins from which forms may be posted: the public address, where there is one."""
    return [url] if url else []


def secret(name: str, *, file: Path) -> str:
    """Read a secret, from the environment or from the file that the first start makes.

    :raises BadSetting: if there is neither, or if others on the machine may read the file.
    """
    if value := _read(name):
        return value
    try:
        value = file.read_text(encoding="utf-8").strip()
        mode = file.stat().st_mode
    except FileNotFoundError:
        raise BadSetting(f"{name} is not set and there is no {file}. Set it, or run bin/up once.") from None
    except OSError as error:
        raise BadSetting(f"{name} is not set and {file} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise BadSetting(f"Others on this machine may read {file}. Take that away with: chmod 600 '{file}'")
    if not value:
        raise BadSetting(f"{name} is not set and {file} is empty. Restore the file from a backup.")
    return value


def servers(home: Path) -> Mapping[str, str]:
    """Read where the servers listen that `bin/up` runs: `database` and `redis`, as addresses."""
    try:
        return dict(json.loads((home / "servers.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        file = home / "servers.json"
        raise BadSetting(f"{file} cannot be read: {error}. Remove it; bin/up writes it anew.") from error


def database(name: str, *, home: Path) -> dict[str, Any]:
    """Read the database's address, a PostgreSQL URL or connection string.

    Each thread keeps a connection of its own; the web server's share some instead (portal.serve).

    :raises BadSetting: if the address cannot be understood or is another database's.
    """
    form = "postgresql://user:password@host:5432/name"
    value = _read(name) or servers(home).get("database") or _own_database(home)
    if (scheme := value.partition("://")[0]) != value and scheme not in ("postgresql", "postgres"):
        raise BadSetting(f"{name} begins with {scheme!r}; expected: {form}. PostgreSQL is the only database.")
    try:
        options: dict[str, Any] = conninfo_to_dict(value)
    except psycopg.Error:  # whose text repeats the password
        raise BadSetting(f"{name} is not the address of a database; expected: {form}.") from None
    main = {key.upper(): str(options.pop(option, "")) for key, option in _DATABASE.items()}
    if not main["NAME"]:
        raise BadSetting(f"{name} names no database; expected: {form}.")
    if boolean("PORTICO_DATABASE_PREPARE", default=True):
        options["prepare_threshold"] = (
            5  # of those statements that are bound in the server (catalog.index.statements)
        )
    return {
        "ENGINE": "portal.database",
        **main,
        "OPTIONS": options,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }


_DATABASE = {"name": "dbname", "user": "user", "password": "password", "host": "host", "port": "port"}


def _own_database(home: Path) -> str:
    return f"postgresql://portico@/portico?host={quote(str(home / 'run'), safe='')}"


def _own_redis(home: Path) -> str:
    return f"unix://{quote(str(home / 'run' / 'redis.sock'))}?db=0"


def redis(name: str, *, home: Path) -> str:
    """Read the address of Redis: `redis://`, `rediss://` or `unix://`.

    :raises BadSetting: for another scheme, or a number of the database that is none.
    """
    value = _read(name) or servers(home).get("redis") or _own_redis(home)
    parts = urlsplit(value)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise BadSetting(f"{name} begins with {parts.scheme!r}; expected: redis://, rediss:// or unix://.")
    path = parse_qs(parts.query).get("db", [""])[-1] if parts.scheme == "unix" else parts.path.strip("/")
    if path and not path.isdecimal():
        raise BadSetting(
            f"{name} names the database {path!r}; expected: a number, as in redis://host:6379/0."
        )
    return value


_SMTP_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


def smtp(name: str) -> tuple[str, int, str, str, bool, bool]:
    """Read the address of a mail server: host, port, user, password, and whether TLS is begun there or from the start.

    :raises BadSetting: for another scheme, a missing host, half of the credentials, or a password that would go in
        the clear to another machine.
    """
    value = _read(name)
    if not value:
        return "", 25, "", "", False, False
    form = "smtp://host, smtp+starttls://user:password@host or smtps://user:password@host"
    parts = urlsplit(value)
    try:
        host, port = parts.hostname or "", parts.port
        usable = parts.scheme in _SMTP_PORTS and _is_host(host) and port != 0
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        # The text may hold a password.
        raise BadSetting(f"{name} is not the address of a mail server; expected: {form}.")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password):
        raise BadSetting(f"{name} has a user without a password, or the other way round; expected: {form}.")
    if password and parts.scheme == "smtp" and host not in ("localhost", "127.0.0.1", "::1"):
        raise BadSetting(
            f"{name} would send a password in the clear; expected: smtp+starttls:// or smtps://."
        )
    tls, ssl = parts.scheme == "smtp+starttls", parts.scheme == "smtps"
    return host, port or _SMTP_PORTS[parts.scheme], user, password, tls, ssl


def mail_address(name: str, *, is_needed: bool) -> str:
    """Read a mail address, which may have a name before it: `Portico <portico@acme.example>`.

    :param is_needed: whether it may not be left out.
    """
    value = _read(name)
    if not value and not is_needed:
        return ""
    _name, address = parseaddr(value)
    if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", address) or not value.isprintable():
        raise _refuse(name, value, "the address that mails come from, such as Portico <portico@acme.example>")
    return value


def celery_broker(redis_url: str) -> str:
    """Write a Redis address as Celery spells it."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    query["virtual_host"] = query.pop("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"
