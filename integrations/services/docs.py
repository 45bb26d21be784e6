"""Make the sections of docs passages, so that a search finds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from django.core.cache import cache
from django.db.models import Max
from django.db.models.fields.json import KT

from base.markdown import parts_of
from base.text import plain_markdown
from catalog.audience import audiences, groups_in, is_for_all
from catalog.models import Claim, PassageSort, PassagesRead, SourceType
from catalog.services.passages import Part, note_read, replace_passages
from integrations.docs import docs_beside
from integrations.documents import folder_of
from integrations.entity_docs import TECHDOCS, file_of
from integrations.models import Connection, StoredRecord, SyncRun

_RULE = b"\1"  # another one where sections are cut otherwise, so that all are read anew
_PAGE = 20
_STAMP = "docs:stamp"
_STAMP_SECONDS = 3_600
# Of several things that one file declares, the docs are found as those of one.
_FIRST = {kind: n for n, kind in enumerate(("component", "system", "api", "resource", "domain", "template"))}


class Home(NamedTuple):
    """A folder with docs."""

    connection: str
    repository: str
    folder: str
    techdocs: str


@dataclass(frozen=True)
class _Wanted:
    entity_id: int
    home: Home
    record: int
    digest: bytes


def read_docs() -> int:
    """Read the docs that changed, and let go of those that are gone.

    :returns: of how many entities passages were written anew.
    """
    stamp = _stamp()
    if cache.get(_STAMP) == stamp:
        return 0
    wanted = {one.entity_id: one for one in _all_wanted()}
    known = {
        pk: bytes(digest or b"")
        for pk, digest in PassagesRead.objects.exclude(pages=None).values_list("entity_id", "pages")
    }
    gone = sorted(known.keys() - wanted.keys())
    changed = [one for pk, one in sorted(wanted.items()) if known.get(pk) != one.digest]
    for start in range(0, len(gone), _PAGE):
        _write({pk: [] for pk in gone[start : start + _PAGE]}, dict.fromkeys(gone[start : start + _PAGE]))
    for start in range(0, len(changed), _PAGE):
        some = changed[start : start + _PAGE]
        texts = dict(
            StoredRecord.objects.filter(pk__in=[one.record for one in some]).values_list("pk", "data__docs")
        )
        _write(
            {one.entity_id: _sections(texts.get(one.record) or {}, one.home) for one in some},
            {one.entity_id: one.digest for one in some},
        )
    cache.set(_STAMP, stamp, _STAMP_SECONDS)
    return len(gone) + len(changed)


def _write(passages: dict[int, list[Part]], digests: dict[int, bytes] | dict[int, None]) -> None:
    replace_passages(sort=PassageSort.PAGE, passages=passages)
    note_read(PassageSort.PAGE, digests)


def _stamp() -> str:
    """Another one, whenever docs may have changed, or for whom they are; what it does not see is seen in an hour."""
    runs = SyncRun.objects.aggregate(last=Max("finished_at"))["last"]
    connections = list(Connection.objects.order_by("pk").values_list("pk", "muted_at", "removal_at"))
    known = sorted((name, sorted(groups)) for name, groups in audiences().items())
    return f"{_RULE!r} {runs} {connections} {known}"


def _all_wanted() -> Iterator[_Wanted]:
    """Whose docs there are: of each folder those of one thing, of a repository without such a thing its own."""
    records = {
        (slug, external_id): (pk, bytes(digest))
        for slug, external_id, pk, digest in StoredRecord.objects.filter(
            type="repository", deleted_at=None, is_ignored=False, data__has_key="docs"
        ).values_list("connection__slug", "external_id", "pk", "digest")
    }
    if not records:
        return
    known = audiences()
    rows = (
        Claim.objects.filter(
            source__type=SourceType.CONNECTION,
            source__name__in={slug for slug, _id in records},
            is_shadowed=False,
            entity__deleted_at=None,
        )
        .annotate(techdocs=KT(f"document__metadata__annotations__{TECHDOCS}"), file=KT("place__file"))
        .values_list(
            "source__key", "external_id", "file", "techdocs", "entity_id", "entity__kind", "entity__ref",
            "entity__audience",
        )
    )  # fmt: skip
    best: dict[Home, tuple[int, str, int]] = {}
    own: dict[Home, tuple[int, str, int]] = {}
    for key, external_id, file, techdocs, entity_id, kind, ref, audience in rows.iterator():
        slug = key.removeprefix("connection:").partition("/")[0]
        # A passage is for all who see the entity, so what is for fewer makes none.
        if not is_for_all(known.get(slug), groups_in(audience)):
            continue
        if kind == "repository" and (slug, external_id) in records:
            own[Home(slug, external_id, "", "")] = (0, ref, entity_id)
            continue
        _slug, repository, path = file_of(key, external_id, file)
        if repository and (slug, repository) in records:
            home = Home(slug, repository, folder_of(path), techdocs or "")
            candidate = (_FIRST.get(kind, len(_FIRST)), ref, entity_id)
            best[home] = min(best.get(home, candidate), candidate)
    taken = {(home.connection, home.repository) for home in best if not home.folder}
    best |= {home: one for home, one in own.items() if (home.connection, home.repository) not in taken}
    for home, (_rank, _ref, entity_id) in best.items():
        pk, digest = records[home.connection, home.repository]
        said = b"\0".join((digest, home.folder.encode(), home.techdocs.encode()))
        yield _Wanted(entity_id, home, pk, _RULE + hashlib.blake2b(said, digest_size=16).digest())


def _sections(texts: dict[str, str], home: Home) -> list[Part]:
    found = []
    for page in docs_beside(texts, home.folder, techdocs=home.techdocs):
        for part in parts_of(page.text):
            heading = plain_markdown(part.heading)
            title = page.title if not heading or heading == page.title else f"{page.title}: {heading}"
            key = f"{page.path}#{part.slug}" if part.slug else page.path
            text = part.text.split("\n", 1)[-1] if part.heading else part.text
            found.append(Part(key=key, title=title, text=plain_markdown(text)))
    return found
