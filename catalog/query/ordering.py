"""Orders of lists: `name`, `-changed`, `kind,name`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from django.db.models import F, FloatField, Func, OuterRef, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Coalesce, Lower
from django.utils.text import get_text_list
from django.utils.translation import gettext as _

from catalog.kinds import current_kinds
from catalog.models import Entity, Served
from catalog.query.errors import QueryError, did_you_mean

# What people read of an entity, sorted as they do: `api` before `Bank`, whatever the database's own order is.
TITLE = "title_key"
# None of these columns may be null, for pages begin after a row's values.
ORDERS = {
    "name": "name",
    "title": TITLE,
    "kind": "kind",
    "namespace": "namespace",
    "type": "type",
    "lifecycle": "lifecycle",
    "owner": "owner",
    "system": "system",
    "run": "last_run",
    "version": "version",
    "changed": "changed_at",
    "created": "created_at",
    "ref": "ref",
    "uid": "uid",
}
DEFAULT = "name"
MAX_ORDERS = 4


def order_by(text: str | None) -> tuple[str, ...]:
    """The fields of `sortable` entities to order by, `-` for descending; unique, for the last is the uid.

    :param text: names of fields with commas between them; empty: by name.
    :raises QueryError: if there is no such field.
    """
    found: dict[str, str] = {}
    position = 0
    text = text or DEFAULT
    for part in text.split(","):
        name = part.strip()
        is_descending = name.startswith("-")
        key = name.removeprefix("-").lower()
        if (column := ORDERS.get(key) or _field_key(key)) is None:
            raise _unknown(name.removeprefix("-"), position=position, length=len(part))
        found.setdefault(column, "-" if is_descending else "")
        position += len(part) + 1
    if len(found) > MAX_ORDERS:
        raise QueryError(
            _("A list is ordered by at most %(limit)d fields.") % {"limit": MAX_ORDERS},
            position=0,
            length=len(text),
            expected=_("fewer fields"),
            got=text,
            parameter="order",
        )
    # In the same direction as the last, so that an index serves both directions.
    found.setdefault("uid", list(found.values())[-1])
    return tuple(sign + column for column, sign in found.items())


def sortable(rows: QuerySet[Entity], order: Iterable[str] = ()) -> QuerySet[Entity]:
    """Entities with all that `order_by` may name.

    :param order: what `order_by` named, where that may be a field of a kind.
    """
    keys = {name.lstrip("-") for name in order if name.lstrip("-").startswith(FIELD_KEY)}
    return rows.annotate(**{TITLE: Lower("title")}, **{key: _value_of(key) for key in keys})


FIELD_KEY = "field_"


def is_field(name: str) -> bool:
    """Whether lists are sorted by what a kind's documents say there, such as `spec.sla`."""
    return _field_key(name.lower()) is not None


def _field_key(path: str) -> str | None:
    """What a field that a kind describes is sorted by; None for any other."""
    if not path.startswith("spec."):
        return None
    compared = {kind for _format, kind in current_kinds().formats.get(path, ())}
    return f"{FIELD_KEY}{path.encode().hex()}" if compared - {"nothing"} else None


def _value_of(key: str) -> Coalesce:
    """The value of a field, smallest where there is none: a number where a kind says so, else a text."""
    path = bytes.fromhex(key.removeprefix(FIELD_KEY)).decode()
    kinds = current_kinds()
    names = next(one for one in kinds.paths if one.lower() == path).split(".")
    own = Served.objects.filter(entity=OuterRef("pk"))
    if any(compared == "number" for _format, compared in kinds.formats[path]):
        number = Subquery(own.values(said=_Said(F("document"), names=names, is_number=True)))
        return Coalesce(number, Value(-math.inf), output_field=FloatField())
    return Coalesce(
        Lower(Subquery(own.values(said=_Said(F("document"), names=names)))),
        Value(""),
        output_field=TextField(),
    )


class _Said(Func):
    """What a JSON text says at a path, as text; or as a number where it is one."""

    def __init__(self, document: F, *, names: Sequence[str], is_number: bool = False) -> None:
        super().__init__(document, output_field=FloatField() if is_number else TextField())
        self.names, self.is_number = list(names), is_number

    def as_sql(self, compiler: Any, connection: Any, *_args: Any, **_context: Any) -> tuple[str, Any]:
        document, parameters = compiler.compile(self.source_expressions[0])
        if not self.is_number:
            return f"({document}::jsonb #>> %s::text[])", [*parameters, self.names]
        value = f"({document}::jsonb #> %s::text[])"
        sql = f"(CASE WHEN jsonb_typeof({value}) = 'number' THEN {value}::float8 END)"
        return sql, [*parameters, self.names, *parameters, self.names]


def _unknown(name: str, *, position: int, length: int) -> QueryError:
    near = get_close_matches(name.lower(), ORDERS, n=2)
    names = get_text_list(list(ORDERS), _("or"))
    return QueryError(
        " ".join(
            part
            for part in (
                _("Nothing can be ordered by “%(name)s”; expected is %(names)s.")
                % {"name": name, "names": names},
                did_you_mean(near),
            )
            if part
        ),
        position=position,
        length=length,
        expected=names,
        got=name,
        suggestions=near,
        parameter="order",
    )
