"""Orders of lists: `name`, `-changed`, `kind,name`."""

from __future__ import annotations

from difflib import get_close_matches

from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.utils.text import get_text_list
from django.utils.translation import gettext as _

from catalog.models import Entity
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
        if key not in ORDERS:
            raise _unknown(name.removeprefix("-"), position=position, length=len(part))
        found.setdefault(ORDERS[key], "-" if is_descending else "")
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


def sortable(rows: QuerySet[Entity]) -> QuerySet[Entity]:
    """Entities with all that `order_by` may name."""
    return rows.annotate(**{TITLE: Lower("title")})


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
