"""Portico's tables as a whole: read out in one snapshot, and built anew beside those that are there.

Rows travel by COPY in its text form, and the tables are made by the migrations that had made them. So neither the
versions of the two PostgreSQL servers nor the programs that come with them matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.postgres.operations import CreateExtension
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils.translation import gettext as _
from psycopg import sql

from portal.backups.archive import Archive, BackupError, Table, Writer

BESIDE = "portico_restoring"
_MIGRATIONS = "django_migrations"
# What the text of a row depends on, alike for writing and reading.
_AS_TEXT = (
    "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 1;"
    "SET LOCAL bytea_output = 'hex'; SET LOCAL timezone = 'UTC'; SET LOCAL statement_timeout = 0;"
    "SET LOCAL idle_in_transaction_session_timeout = 0"
)


# -- migrations -------------------------------------------------------------------------------------------


def applied_migrations() -> dict[str, list[str]]:
    """The migrations that the database has seen, of the apps that are installed here."""
    found: dict[str, list[str]] = {}
    labels = {config.label for config in apps.get_app_configs()}
    for app, name in sorted(MigrationRecorder(connection).applied_migrations()):
        if app in labels:
            found.setdefault(app, []).append(name)
    return found


def unknown_migrations(applied: dict[str, list[str]]) -> list[str]:
    """Those of some migrations that this software does not have."""
    disk = MigrationLoader(None).disk_migrations
    known = set(disk) | {key for migration in disk.values() for key in migration.replaces}
    return [f"{app}.{name}" for app, names in applied.items() for name in names if (app, name) not in known]


def pending_migrations() -> list[str]:
    """Those that the database has yet to see."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


# -- what is there ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """The database as it is found.

    :ivar schema: where Portico's tables are.
    :ivar tables: their names.
    :ivar size: their bytes, indexes included.
    """

    schema: str
    tables: list[str]
    size: int
    server: str


def look() -> State:
    """Find Portico's own tables; those of somebody else in the same database are none of our business."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema(), current_setting('server_version')")
        schema, server = _row(cursor)
        tables = _tables(cursor, schema)
        cursor.execute(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
            " WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relname = ANY(%s)",
            [schema, tables],
        )
        (size,) = _row(cursor)
    return State(schema, tables, size, server)


def _tables(cursor: CursorWrapper, schema: str) -> list[str]:
    labels = {config.label for config in apps.get_app_configs()} | {"django"}
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{schema}.{_MIGRATIONS}"])
    if _row(cursor)[0]:  # of a newer Portico's apps too, and of plugins that are gone
        cursor.execute(_compose("SELECT DISTINCT app FROM {}.{}", schema, _MIGRATIONS))
        labels |= {app for (app,) in cursor.fetchall()}
    cursor.execute(
        "SELECT c.relname FROM pg_class c WHERE c.relkind = 'r'"
        " AND c.relnamespace = to_regnamespace(quote_ident(%s))"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY c.relname",
        [schema],
    )
    return [name for (name,) in cursor.fetchall() if any(name.startswith(f"{label}_") for label in labels)]


def _functions(cursor: CursorWrapper, schema: str) -> list[str]:
    cursor.execute(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = to_regnamespace(quote_ident(%s))"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')",
        [schema],
    )
    return [name for (name,) in cursor.fetchall()]


def others_connected() -> int:
    """How many sessions besides this one use the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend'"
        )
        return int(_row(cursor)[0])


# -- reading out ------------------------------------------------------------------------------------------


def copy_out(writer: Writer, state: State, labels: Iterable[str]) -> list[Table]:
    """Write all rows as they are at one moment, while others go on working.

    :param labels: the apps of which it is kept what was migrated.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(_AS_TEXT)
        tables = [_copy_table(cursor, writer, state.schema, name, sorted(labels)) for name in state.tables]
        # Last, for sequences do not keep to the snapshot: they may stand ahead of the rows, never behind.
        for table in tables:
            table.counters = _counters(cursor, state.schema, table)
    return tables


def _copy_table(cursor: CursorWrapper, writer: Writer, schema: str, name: str, labels: list[str]) -> Table:
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' ORDER BY attnum",
        [_quoted(schema, name)],
    )
    table = Table(name=name, columns=[c for (c,) in cursor.fetchall()], rows=0, size=0, sha256="")
    query = sql.SQL("SELECT {} FROM {}").format(_columns(table.columns), sql.Identifier(schema, name))
    if name == _MIGRATIONS:
        query += sql.SQL(" WHERE app = ANY({})").format(sql.Literal(labels))
    with (
        writer.table(table) as sink,
        cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as copy,
    ):
        for block in _joined(copy):
            sink.write(block)
    table.rows = cursor.rowcount
    return table


def _joined(rows: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """PostgreSQL sends row by row; compressing and hashing like larger pieces."""
    block = bytearray()
    for row in rows:
        block += row
        if len(block) >= 256 * 1024:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _counters(cursor: CursorWrapper, schema: str, table: Table) -> dict[str, tuple[int, bool]]:
    found = {}
    for column, sequence in _sequences(cursor, schema, table.name).items():
        cursor.execute(_compose("SELECT last_value, is_called FROM {}.{}", *sequence))
        found[column] = _row(cursor)
    return found


def _sequences(cursor: CursorWrapper, schema: str, table: str) -> dict[str, tuple[str, str]]:
    """The schemas and names of the sequences that count a table's columns, by column."""
    cursor.execute(
        "SELECT a.attname, n.nspname, c.relname FROM pg_depend d"
        " JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
        " WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
        " AND d.deptype IN ('a', 'i') AND d.refobjid = %s::regclass",
        [_quoted(schema, table)],
    )
    return {column: (owner, name) for column, owner, name in cursor.fetchall()}


# -- building anew ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _path(*schemas: str) -> Iterator[None]:
    """Have names mean what is in these schemas, for any connection that is opened meanwhile."""
    options = connection.settings_dict["OPTIONS"]
    before = options.get("options")
    connection.close()
    options["options"] = f"{before or ''} -c search_path={','.join(schemas)}".strip()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schemas(false)")
            found = _row(cursor)[0]
        if found != list(schemas):
            raise BackupError(
                _("The database's connection does not keep its search path, as some connection poolers do not. "
                  "Give DATABASE_URL the server's own address for this command.")
            )  # fmt: skip
        yield
    finally:
        connection.close()
        options.pop("options")
        if before is not None:
            options["options"] = before


@contextlib.contextmanager
def built_beside(archive: Archive, state: State) -> Iterator[None]:
    """Build the backup's tables in a schema of their own and bring them up to date; names mean those inside.

    What is there stays as it is. If the block fails, what was built goes.
    """
    _drop_beside()  # what a killed one left
    try:
        with connection.cursor() as cursor:
            for name in _extensions():  # where they stay; the database's owner could not move them
                cursor.execute(_compose("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}", name, state.schema))
            cursor.execute(_compose("CREATE SCHEMA {}", BESIDE))
        with _path(BESIDE):
            MigrationRecorder(connection).ensure_schema()  # else it would find the one that is in use
        with _path(BESIDE, state.schema):
            _migrate_to(archive.manifest.migrations)
            with _triggers_at_rest():
                _copy_in(archive)
            executor = MigrationExecutor(connection)
            executor.migrate(executor.loader.graph.leaf_nodes())
            with connection.cursor() as cursor:
                for name in _tables(cursor, BESIDE):
                    cursor.execute(_compose("ANALYZE {}.{}", BESIDE, name))
            yield
    except BaseException:
        with contextlib.suppress(OperationalError):
            _drop_beside()
        raise


def _extensions() -> list[str]:
    """List the extensions that the migrations make."""
    migrations = MigrationLoader(None).disk_migrations.values()
    operations = (operation for migration in migrations for operation in migration.operations)
    return sorted({operation.name for operation in operations if isinstance(operation, CreateExtension)})


def _drop_beside() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_compose("DROP SCHEMA IF EXISTS {} CASCADE", BESIDE))


def _migrate_to(migrations: dict[str, list[str]]) -> None:
    """Make the tables as they were when the backup was made."""
    executor = MigrationExecutor(connection)
    applied = {(app, name) for app, names in migrations.items() for name in names}
    graph = executor.loader.graph
    last = [
        key
        for key in applied
        if key in graph.nodes
        and not any(child.key in applied and child.key[0] == key[0] for child in graph.node_map[key].children)
    ]
    executor.migrate(sorted(last))


@contextlib.contextmanager
def _triggers_at_rest() -> Iterator[None]:
    """Have the tables' triggers write nothing meanwhile: what they would write is in the backup."""
    for word in ("DISABLE", "ENABLE"):
        with transaction.atomic(), connection.cursor() as cursor:
            for name in _tables(cursor, BESIDE):
                cursor.execute(_compose(f"ALTER TABLE {{}}.{{}} {word} TRIGGER USER", BESIDE, name))
        if word == "DISABLE":
            yield


def _copy_in(archive: Archive) -> None:
    """Fill the tables, all or none."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_AS_TEXT)
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        made = _tables(cursor, BESIDE)
        if unknown := {table.name for table in archive.manifest.tables} ^ set(made):
            raise BackupError(
                _("The backup's tables are not those that its migrations make: %(tables)s differ. "
                  "Restore it with the version of Portico that made it (%(version)s).")
                % {"tables": ", ".join(sorted(unknown)), "version": archive.manifest.portico}
            )  # fmt: skip
        # What the migrations put into them themselves is in the backup too.
        names = sql.SQL(", ").join(sql.Identifier(BESIDE, name) for name in made)
        cursor.execute(sql.SQL("TRUNCATE {}").format(names))
        for table in archive.manifest.tables:
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(BESIDE, table.name), _columns(table.columns)
            )
            with cursor.copy(statement) as copy:
                for block in archive.blocks(table):
                    copy.write(block)
            if cursor.rowcount != table.rows:
                raise BackupError(
                    _("%(table)s took %(got)d of %(rows)d rows.")
                    % {"table": table.name, "got": cursor.rowcount, "rows": table.rows}
                )
            sequences = _sequences(cursor, BESIDE, table.name)
            for column, (value, is_called) in table.counters.items():
                if sequence := sequences.get(column):
                    cursor.execute("SELECT setval(%s, %s, %s)", [_quoted(*sequence), value, is_called])


def switch(state: State) -> None:
    """Put what was built into the place of what is there, in one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '20s'")
        if state.tables:
            names = sql.SQL(", ").join(sql.Identifier(state.schema, name) for name in state.tables)
            cursor.execute(sql.SQL("DROP TABLE {}").format(names))
        functions = _functions(cursor, BESIDE)
        for function in set(functions) & set(_functions(cursor, state.schema)):
            cursor.execute(_compose("DROP FUNCTION {}.{}", state.schema, function))
        for name in _tables(cursor, BESIDE):
            cursor.execute(_compose("ALTER TABLE {}.{} SET SCHEMA {}", BESIDE, name, state.schema))
        for function in functions:
            cursor.execute(_compose("ALTER FUNCTION {}.{} SET SCHEMA {}", BESIDE, function, state.schema))
        cursor.execute(_compose("DROP SCHEMA {}", BESIDE))  # refused if something is left in it


def _compose(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*(sql.Identifier(name) for name in names))


def _columns(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _quoted(schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(None)


def _row(cursor: CursorWrapper) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row
    return tuple(row)
