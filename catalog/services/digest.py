"""What the catalog says, in a few lines that can be compared: with those of a backup, or of last week.

Two catalogs with one digest say the same, however they came to say it: uids, etags, times of ours and the
history are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.models import QuerySet
from django.db.models.functions import Collate

from catalog.models import Activity, Entity, Relation, Served, Tie

_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the catalog.

    :ivar lines: how many facts it holds.
    :ivar digest: over them, in order.
    """

    name: str
    lines: int
    digest: str


def catalog_digest() -> list[Section]:
    """Digest the catalog, part by part.

    :returns: the parts in the order of `SECTIONS`, and after them `catalog`, over all of them.
    """
    whole = hashlib.sha256()
    sections = []
    for name, facts in SECTIONS.items():
        part, count = hashlib.sha256(), 0
        for fact in facts():
            part.update(f"{fact}\n".encode())
            count += 1
        sections.append(Section(name, count, part.hexdigest()))
        whole.update(f"{name} {part.hexdigest()}\n".encode())
    return [*sections, Section("catalog", sum(section.lines for section in sections), whole.hexdigest())]


def catalog_facts() -> Iterator[str]:
    """All that is digested, a fact a line, with the name of its part: to see where two catalogs differ."""
    for name, facts in SECTIONS.items():
        for fact in facts():
            yield f"{name} {fact}"


def _plain(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _in_order(rows: QuerySet[Any, Any], *fields: str) -> QuerySet[Any, Any]:
    """Sorted by code points, whatever the database's language."""
    return rows.order_by(*(Collate(field, "C") for field in fields))


def _refs() -> Iterator[str]:
    rows = _in_order(Entity.objects.filter(deleted_at=None), "ref")
    yield from rows.values_list("ref", flat=True).iterator(_ROWS)


def _documents() -> Iterator[str]:
    rows = _in_order(Served.objects.filter(entity__deleted_at=None), "entity__ref")
    for ref, text in rows.values_list("entity__ref", "document").iterator(_ROWS):
        document = orjson.loads(text)
        for stamp in ("uid", "etag"):
            document["metadata"].pop(stamp, None)
        yield f"{ref} {_plain(document)}"


def _relations() -> Iterator[str]:
    """What is declared and whether it leads anywhere, and the relations as they are served."""
    rows = _in_order(Relation.objects.filter(source__deleted_at=None), "source__ref", "type", "target_ref")
    for source, type_, target, found in rows.values_list(
        "source__ref", "type", "target_ref", "target__ref"
    ).iterator(_ROWS):
        yield f"{source} {type_} {target} {found or '-'}"
    served = _in_order(Served.objects.filter(entity__deleted_at=None), "entity__ref")
    for ref, text in served.values_list("entity__ref", "relations").iterator(_ROWS):
        yield f"{ref} {text}"


def _ties() -> Iterator[str]:
    rows = Tie.objects.filter(source__deleted_at=None, target__deleted_at=None)
    rows = _in_order(rows, "source__ref", "type", "target__ref")
    for row in rows.values_list("source__ref", "type", "target__ref", "state").iterator(_ROWS):
        yield " ".join(row)


def _activity() -> Iterator[str]:
    """The present state of each activity, and what entities show of it."""
    fields = (
        "connection", "type", "external_id", "subject_ref", "status", "title", "url", "actor", "number",
        "branch", "is_default_branch", "is_change", "commit", "version", "environment", "started_at",
        "finished_at", "data",
    )  # fmt: skip
    rows = _in_order(Activity.objects.all(), "connection", "type", "external_id")
    for row in rows.values_list(*fields).iterator(_ROWS):
        yield _plain(row)
    shown = _in_order(Entity.objects.filter(deleted_at=None), "ref").exclude(last_run="", version="")
    for row in shown.values_list("ref", "last_run", "version").iterator(_ROWS):
        yield _plain(row)


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    "refs": _refs,
    "documents": _documents,
    "relations": _relations,
    "ties": _ties,
    "activity": _activity,
}
