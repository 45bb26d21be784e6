"""Many rows in few statements: COPY instead of INSERT, arrays instead of long lists of parameters.

Django's own bulk methods build SQL text a parameter at a time, which costs most of an import. These write the same
rows. What must hold for them holds by constraint in the database, as ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from itertools import islice
from operator import attrgetter
from typing import Any

import orjson
from django.contrib.postgres.fields import ArrayField
from django.db import InterfaceError, OperationalError, connection, models
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _
from psycopg import sql

# In a SELECT: until the end of the transaction rows are looked up by indexes. What a page of an import needs is a small
# part of what there is; read from end to end for each, big tables would make an import slower the more they hold.
BY_INDEX = "set_config('random_page_cost', '1.1', true)"


def among(values: Iterable[Any], cast: str = "bigint") -> RawSQL:
    """For `field__in`: any of some values, as one array parameter.

    :param cast: the column's type in PostgreSQL: bigint, text, uuid.
    """
    # As the array's text: the driver would look at each value.
    if cast == "text":
        text = text_array(list(values))
    else:
        text = f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"
    return RawSQL(f"SELECT unnest(%s::{cast}[])", [text])  # noqa: S611 - `cast` is ours


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


def insert(rows: Sequence[models.Model]) -> None:
    """Insert rows that are known to be new. Rows without an id get one from the database and stay without it here."""
    if not rows:
        return
    model = type(rows[0])
    fields = _fields(model, with_id=rows[0].pk is not None)
    with connection.cursor() as cursor:
        _copy(cursor, sql.Identifier(model._meta.db_table), fields, _values(fields, rows))


def insert_values(model: type[models.Model], names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows of plain values: what `insert` does, where there are too many to make an object of each.

    :param names: of the fields, in the order of the values; the others are what the database has by default.
    """
    if rows:
        by_name = {field.name: field for field in model._meta.concrete_fields}
        fields = [by_name[name] for name in names]
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
        _copy(cursor, staging, fields, _values(fields, rows))
        cursor.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT ({}) DO ").format(
                table, names, names, staging, sql.SQL(", ").join(columns[name] for name in unique)
            )
            + action
        )
        cursor.execute(sql.SQL("DROP TABLE {}").format(staging))


def tidy(*tables: type[models.Model]) -> None:
    """Let PostgreSQL use the room of rows that are no more again, between the steps of a big write.

    It does so by itself too, but a minute later, when the tables have grown to twice what they need. Inside of a
    transaction, or where another is at it, nothing is done.
    """
    if connection.in_atomic_block:
        return
    names = sql.SQL(", ").join(sql.Identifier(table._meta.db_table) for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("VACUUM (SKIP_LOCKED) {}").format(names))


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


def _fields(model: type[models.Model], *, with_id: bool) -> list[models.Field[Any, Any]]:
    return [field for field in model._meta.concrete_fields if with_id or not field.primary_key]


_BATCH = 500  # rows that are sent at once


def _copy(
    cursor: Any,
    table: sql.Identifier,
    fields: Sequence[models.Field[Any, Any]],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Send rows as the lines of text that COPY reads: much cheaper than a dump of each value by the driver."""
    names = sql.SQL(", ").join(sql.Identifier(str(field.column)) for field in fields)
    writers = [_writer(field) for field in fields]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)
    left = iter(rows)
    with connection.wrap_database_errors, cursor.copy(statement) as copy:
        while batch := list(islice(left, _BATCH)):
            columns = [
                _column(write, values)
                for write, values in zip(writers, zip(*batch, strict=True), strict=True)
            ]
            copy.write("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n")


def _column(write: Callable[[Any], str], values: Sequence[Any]) -> Iterable[str]:
    """One column of some rows, as it stands in their lines."""
    if write is _text and _is_plain(values):
        return values
    return ["\\N" if value is None else write(value) for value in values]


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether all are texts in which nothing is to be escaped."""
    try:
        whole = " ".join(values)
    except TypeError:
        return False
    return whole.isprintable() and "\\" not in whole


def _values(
    fields: Sequence[models.Field[Any, Any]], rows: Iterable[models.Model]
) -> Iterable[Sequence[Any]]:
    return map(attrgetter(*(field.attname for field in fields)), rows)


def _writer(field: models.Field[Any, Any]) -> Callable[[Any], str]:
    """How a field's values stand in a line of COPY."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if isinstance(field, models.JSONField):
        return _json
    if isinstance(field, ArrayField):
        if isinstance(field.base_field, models.IntegerField):
            return lambda value: f"{{{','.join(map(str, value))}}}"
        return _texts
    if isinstance(field, models.BinaryField):
        return lambda value: f"\\\\x{bytes(value).hex()}"
    if isinstance(field, models.DateTimeField):
        return str
    if isinstance(field, models.BooleanField):
        return lambda value: "t" if value else "f"
    if isinstance(field, models.UUIDField):
        return attrgetter("hex")
    if isinstance(field, models.IntegerField):
        return "{:d}".format
    return _text


_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\ufffd"})


def _text(value: Any) -> str:
    text = value.value if isinstance(value, Enum) else value
    if not isinstance(text, str):
        text = str(text)
    # PostgreSQL has no place for the character NUL, and all that must be escaped but the backslash is not printable.
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPED)


def _texts(values: Sequence[str]) -> str:
    return _text(text_array(values))


def text_array(values: Collection[str]) -> str:
    """Texts as PostgreSQL writes an array of them, for a parameter: the driver would look at each."""
    quoted = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{quoted}"}}' if values else "{}"


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _json(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    if "\\" not in text:
        return text
    return _NUL.sub("\\1\ufffd", text).replace("\\", "\\\\")
