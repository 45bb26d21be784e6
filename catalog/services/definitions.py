"""Make the operations of APIs passages, so that a search finds them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson
from django.db import connection

from base.text import plain_markdown
from catalog.definitions import DefinitionInvalid, format_of_definition, overview, parse_definition
from catalog.models import PassageSort
from catalog.services.passages import Part, note_read, replace_passages

_RULE = b"\2"  # another one where operations are read otherwise, so that all are read anew
_PAGE = 20  # definitions may have megabytes
SECONDS = 8.0  # less than between two beginnings, lest two read the same


def read_definitions(*, seconds: float = SECONDS) -> int:
    """Read the definitions whose documents have changed, one page after the other while there is time.

    What nobody has read yet is known by comparing, so whatever is stopped or lost is done the next time.

    :returns: how many were read.
    """
    ends = time.monotonic() + seconds
    count = last = 0
    while time.monotonic() < ends:
        rows = _unread(after=last)
        if not rows:
            break
        replace_passages(
            sort=PassageSort.OPERATION, passages={pk: _operations(document) for pk, _d, document in rows}
        )
        note_read(PassageSort.OPERATION, {pk: bytes(digest) for pk, digest, _document in rows})
        count += len(rows)
        last = rows[-1][0]
    return count


def _unread(*, after: int) -> Sequence[tuple[int, bytes, str]]:
    """The next APIs whose document is another one than when it was last read, and rendered."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.id, %(rule)s::bytea || e.digest, s.document FROM catalog_entity e
            JOIN catalog_served s ON s.entity_id = e.id
            LEFT JOIN catalog_passagesread d ON d.entity_id = e.id
            WHERE e.id > %(after)s AND e.kind = 'api' AND e.deleted_at IS NULL
                AND d.operations IS DISTINCT FROM %(rule)s::bytea || e.digest
                AND NOT EXISTS (SELECT FROM catalog_dirtyentity m WHERE m.entity_id = e.id)
            ORDER BY e.id LIMIT %(page)s
            """,
            {"rule": _RULE, "page": _PAGE, "after": after},
        )
        return cursor.fetchall()


def _operations(document: str) -> list[Part]:
    """The operations of an API's definition; none where that is of another language, or no definition at all."""
    spec: dict[str, Any] = orjson.loads(document).get("spec") or {}
    text = spec.get("definition")
    if not isinstance(text, str):
        return []
    format_ = format_of_definition(text, str(spec.get("type") or ""))
    if not format_:
        return []
    try:
        found = overview(parse_definition(text, format_), format_)
    except DefinitionInvalid:
        return []  # its page says why
    return [
        Part(
            key=item.label,
            # What it says of itself in a line is what people look for as they do for a title.
            title=" — ".join(filter(None, (item.label, item.summary))),
            text=" ".join(filter(None, (plain_markdown(item.description), item.words))),
        )
        for item in found.operations
    ]
