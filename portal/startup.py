"""What a start needs of its environment, checked before anything runs: `python -m portal.startup [--servers]`.

Prints what is wrong as one sentence and ends with code 2; a process that met it later would be started again
and again. Works without Django's set-up, which takes longer than all that is done here.
"""

from __future__ import annotations

import os
import sys

import psycopg
import redis
from django.conf import settings
from redis.exceptions import NoPermissionError

from base.errors import DomainError
from integrations.outbound import OutboundPolicy
from portal.environment import BadSetting

OLDEST_POSTGRESQL = 15
OLDEST_REDIS = 7
EXTENSIONS = frozenset({"pg_trgm", "unaccent", "btree_gin"})
SHORTEST_KEY = 32
PATIENCE = 10  # seconds, for a server to answer


def check_variables() -> None:
    """Read every setting.

    :raises BadSetting: for the first that cannot be understood.
    """
    allowed = settings.PORTICO_OUTBOUND_ALLOW  # the first access reads them all
    if any(len(key) < SHORTEST_KEY for key in settings.PORTICO_ENCRYPTION_KEYS):
        raise BadSetting(
            f"PORTICO_ENCRYPTION_KEYS holds a key that is too short; expected: random texts of at least "
            f"{SHORTEST_KEY} characters, with blanks between them."
        )
    for folder in settings.PORTICO_PACKS:
        if not folder.is_dir():
            raise BadSetting(f"PORTICO_PACKS names {folder}; expected: folders that are there.")
    try:
        OutboundPolicy(allowed)
    except DomainError as error:
        raise BadSetting(error.message) from error


def check_database(address: str) -> None:
    """Sign in to a PostgreSQL that is not ours, and see whether it will do.

    :raises BadSetting: if it cannot be reached, refuses us, or lacks something.
    """
    try:
        with psycopg.connect(address, connect_timeout=PATIENCE, client_encoding="utf8") as connection:
            version = connection.info.server_version // 10_000
            if version < OLDEST_POSTGRESQL:
                raise BadSetting(
                    f"DATABASE_URL names a PostgreSQL {version}; expected: {OLDEST_POSTGRESQL} or newer."
                )
            lacks = _what_it_lacks(connection)
    except psycopg.Error as error:
        raise BadSetting(
            f"DATABASE_URL names a database that cannot be used: {_one_line(error)}. "
            "Expected: a PostgreSQL that runs, and a user, password and database that it knows."
        ) from None
    if lacks:
        raise BadSetting(f"DATABASE_URL names a database {lacks}.")


def _what_it_lacks(connection: psycopg.Connection) -> str:
    row = connection.execute(
        "SELECT current_setting('server_encoding'), current_user, current_schema(),"
        " pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',"
        " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),"
        " ARRAY(SELECT name::text FROM pg_available_extensions)"
    ).fetchone()
    assert row
    encoding, user, schema, is_read_only, may_create, extensions = row
    if encoding != "UTF8":
        return f"whose encoding is {encoding}; expected: UTF8"
    if is_read_only:
        return "that can only be read; expected: one that can be written"
    if not may_create:
        return f"in which {user} may not make tables (schema {schema or 'public'}); expected: its owner"
    if missing := sorted(EXTENSIONS - set(extensions)):
        return f"without {', '.join(missing)}; expected: a server with PostgreSQL's contrib extensions"
    return ""


def check_redis(address: str) -> None:
    """Sign in to a Redis that is not ours, and see whether it will do.

    :raises BadSetting: if it cannot be reached, wants a password, or is too old.
    """
    where = _without_password(address)
    try:
        with redis.Redis.from_url(
            address, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE
        ) as client:
            client.ping()
            version = str(client.info("server")["redis_version"])
    except (redis.AuthenticationError, NoPermissionError) as error:
        said = _one_line(error)
        why = "it wants a password" if "AUTH" in said else said
        raise BadSetting(
            f"REDIS_URL is {where}, and that Redis does not let us in: {why}. "
            "Expected: its password in the address, as in redis://:password@host:6379/0."
        ) from None
    except (redis.RedisError, OSError, ValueError) as error:
        raise BadSetting(
            f"REDIS_URL is {where}, which cannot be used: {_one_line(error)}. "
            "Expected: a Redis or Valkey that runs, as in redis://host:6379/0."
        ) from None
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        raise BadSetting(f"REDIS_URL names a Redis {version}; expected: {OLDEST_REDIS} or newer, or Valkey.")


def _one_line(error: Exception) -> str:
    said = str(error).partition("\n\tIs the server running")[0]
    return " ".join(said.split()).rstrip(".")


def _without_password(address: str) -> str:
    scheme, slashes, rest = address.partition("://")
    return scheme + slashes + rest.partition("?")[0].rpartition("@")[2]


def main() -> int:
    """Check the variables, and with `--servers` what they lead to; gives the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    try:
        settings.USE_I18N = False  # translations need all apps, whose set-up takes long
        check_variables()
        if "--servers" in sys.argv:
            if address := os.environ.get("DATABASE_URL", "").strip():
                check_database(address)
            if address := os.environ.get("REDIS_URL", "").strip():
                check_redis(address)
    except BadSetting as error:
        sys.stdout.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
