"""Many rows in few statements: COPY instead of INSERT, arrays instead of long lists of parameters.

Django's own bulk methods build SQL text a parameter at a time, which costs most of an import. These write the same
rows. What must hold for them holds by constraint in the database, as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import orjson
from django.db import InterfaceError, OperationalError, connection, models
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _
from psycopg import sql


def among(values: Iterable[Any], cast: str = "bigint") -> RawSQL:
    """For `field__in`: any of some values, as one array parameter.

    :param cast: the column's type in PostgreSQL: bigint, text, uuid.
    """
    return RawSQL(f"SELECT unnest(%s::{cast}[])", [list(values)])  # noqa: S611 - `cast` is ours


def reserve_ids(model: type[models.Model], count: int) -> list[int]:
    """Take ids from the model's sequence, for rows that are written later in the transaction."""
    if not count:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            [model._meta.db_table, count],
        )
        return [row[0] for row in cursor.fetchall()]


def insert(rows: Sequence[models.Model], *, without: Iterable[str] = ()) -> None:
    """Insert rows that are known to be new. Rows without an id get one from the database and stay without it here.

    :param without: fields whose database default counts.
    """
    if not rows:
        return
    model = type(rows[0])
    fields = _fields(model, without=without, with_id=rows[0].pk is not None)
    with connection.cursor() as cursor:
        _copy(cursor, sql.Identifier(model._meta.db_table), fields, rows)


def upsert(rows: Sequence[models.Model], *, unique: Sequence[str], update: Sequence[str]) -> None:
    """Insert rows, or update these fields of those that are there.

    :param unique: the fields of the unique constraint that tells them apart.
    :param update: empty to leave what is there.
    """
    if not rows:
        return
    model = type(rows[0])
    fields = _fields(model, with_id=rows[0].pk is not None)
    columns = {field.name: sql.Identifier(str(field.column)) for field in fields}
    table = sql.Identifier(model._meta.db_table)
    staging = sql.Identifier(f"staging_{model._meta.db_table}")
    names = sql.SQL(", ").join(columns.values())
    action = (
        sql.SQL("UPDATE SET ")
        + sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(columns[name]) for name in update)
        if update
        else sql.SQL("NOTHING")
    )
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(
                staging, names, table
            )
        )
        _copy(cursor, staging, fields, rows)
        cursor.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT ({}) DO ").format(
                table, names, names, staging, sql.SQL(", ").join(columns[name] for name in unique)
            )
            + action
        )
        cursor.execute(sql.SQL("DROP TABLE {}").format(staging))


def lies_in_the_data(error: Exception) -> bool:
    """Whether the rows were to blame: the database is there and had no quarrel with other writers.

    Then fewer of them may be written, and one alone refused.
    """
    if isinstance(error, (OperationalError, InterfaceError)):
        sqlstate = getattr(error.__cause__, "sqlstate", None) or ""
        return sqlstate.startswith("54")  # a limit, such as that of an index's row
    return True


def why_not_stored(error: Exception) -> str:
    """A sentence on what the database, or our own code, could not store."""
    diagnosis = getattr(error.__cause__, "diag", None)
    why = (diagnosis and diagnosis.message_primary) or _("an internal error; the log tells more")
    return _("It cannot be stored: %(why)s.") % {"why": why}


def _fields(
    model: type[models.Model], *, without: Iterable[str] = (), with_id: bool
) -> list[models.Field[Any, Any]]:
    left_out = set(without)
    return [
        field
        for field in model._meta.concrete_fields
        if field.name not in left_out and (with_id or not field.primary_key)
    ]


def _copy(
    cursor: Any, table: sql.Identifier, fields: list[models.Field[Any, Any]], rows: Sequence[models.Model]
) -> None:
    names = sql.SQL(", ").join(sql.Identifier(str(field.column)) for field in fields)
    getters = [(field.attname, isinstance(field, models.JSONField)) for field in fields]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)
    with connection.wrap_database_errors, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([_plain(getattr(row, name), is_json) for name, is_json in getters])


def _plain(value: Any, is_json: bool) -> Any:
    if value is None:
        return None
    if is_json:
        # PostgreSQL's jsonb has no place for the character NUL.
        return orjson.dumps(value, default=str).decode().replace("\\u0000", "\\ufffd")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str) and "\0" in value:
        return value.replace("\0", "\ufffd")
    return value
