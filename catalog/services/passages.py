"""Write the parts of entities that search finds beside them: operations of APIs, sections of docs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from catalog.models import Passage, PassageSort
from catalog.search.words import vector

MAX_KEY = 500
MAX_TITLE = 300
MAX_TEXT = 20_000
MOST = 2_000  # of one entity and sort; what comes after is left out

_RULE = b"1"  # another number where words are made otherwise, so that all is written anew


@dataclass(frozen=True, slots=True)
class Part:
    """One passage as it is to be. Texts are plain, neither HTML nor Markdown; too long ones are cut.

    :ivar key: unique among the entity's passages of its sort; of several with one key the first counts.
    """

    key: str
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    entity_id: int
    key: str
    title: str
    text: str
    position: int

    @property
    def digest(self) -> bytes:
        said = "\0".join((self.key, self.title, self.text, str(self.position)))
        return hashlib.blake2b(_RULE + said.encode(errors="replace"), digest_size=16).digest()

    @property
    def vector(self) -> str:
        return vector((self.title, "A"), (self.key, "B"), (self.text, "D"))


def replace_passages(*, sort: PassageSort, passages: Mapping[int, Sequence[Part]]) -> int:
    """Let some entities have these passages of a sort, in this order, and no others of it.

    Only what differs is written. An entity that is not there any more is left out.

    :param passages: by the entity's id; an empty list removes all.
    :returns: how many rows were written or removed.
    """
    wanted = {(row.entity_id, row.key): row for pk, parts in passages.items() for row in _rows(pk, parts)}
    with transaction.atomic():
        # One after the other, so that two who write the same entity do not mix.
        known = {
            (pk, key): (passage, bytes(digest))
            for passage, pk, key, digest in Passage.objects.filter(entity__in=list(passages), sort=sort)
            .order_by("entity_id", "id")
            .select_for_update()
            .values_list("id", "entity_id", "key", "digest")
        }
        gone = [known[which][0] for which in known.keys() - wanted.keys()]
        changed = [
            (row, digest)
            for which, row in sorted(wanted.items())
            if (digest := row.digest) != known.get(which, (0, b""))[1]
        ]
        written = Passage.objects.filter(pk__in=gone).delete()[0] if gone else 0
        return written + (_write(sort, changed) if changed else 0)


_READ = {PassageSort.OPERATION: "operations", PassageSort.PAGE: "pages"}


def note_read(sort: PassageSort, digests: Mapping[int, bytes | None]) -> None:
    """Remember of what the passages of some entities were made, by the entity's id; None: they have none."""
    column = _READ[sort]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO catalog_passagesread (entity_id, {column})
            SELECT e.id, said.digest FROM unnest(%s::bigint[], %s::bytea[]) AS said(id, digest)
            JOIN catalog_entity e ON e.id = said.id
            ORDER BY e.id
            ON CONFLICT (entity_id) DO UPDATE SET {column} = excluded.{column}
            """,  # noqa: S608 - the column's name is ours
            [list(digests), list(digests.values())],
        )


def _rows(entity_id: int, parts: Sequence[Part]) -> list[_Row]:
    found: dict[str, _Row] = {}
    for part in parts:
        key = _plain(part.key, MAX_KEY)
        if key and key not in found:
            found[key] = _Row(
                entity_id, key, _plain(part.title, MAX_TITLE), _plain(part.text, MAX_TEXT), len(found)
            )
        if len(found) >= MOST:
            break
    return list(found.values())


def _plain(text: str, most: int) -> str:
    """What PostgreSQL takes as text, in one line."""
    return " ".join(text[: 2 * most].replace("\0", " ").split())[:most].encode("utf-8", "replace").decode()


def _write(sort: PassageSort, rows: list[tuple[_Row, bytes]]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO catalog_passage (entity_id, sort, key, title, text, position, vector, digest)
            SELECT e.id, %s, said.key, said.title, said.text, said.position, said.vector::tsvector, said.digest
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bytea[])
                AS said(entity, key, title, text, position, vector, digest)
            JOIN catalog_entity e ON e.id = said.entity
            ORDER BY e.id, said.key
            ON CONFLICT (entity_id, sort, key) DO UPDATE SET title = excluded.title, text = excluded.text,
                position = excluded.position, vector = excluded.vector, digest = excluded.digest
            """,
            [
                sort,
                [row.entity_id for row, _digest in rows],
                [row.key for row, _digest in rows],
                [row.title for row, _digest in rows],
                [row.text for row, _digest in rows],
                [row.position for row, _digest in rows],
                [row.vector for row, _digest in rows],
                [digest for _row, digest in rows],
            ],
        )
        return cursor.rowcount
