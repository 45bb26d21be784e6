"""Make the sections of docs passages, so that a search finds them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from django.core.cache import cache
from django.db.models import Count, Max, Q
from django.db.models.fields.json import KT

from base.markdown import parts_of
from base.text import plain_markdown
from catalog.audience import audiences, groups_in, is_for_all
from catalog.models import Claim, PassageSort, PassagesRead, SourceType
from catalog.services.passages import Part, note_read, replace_passages
from integrations.docs import FoundDocs, docs_beside
from integrations.documents import folder_of
from integrations.entity_docs import TECHDOCS, file_of, path_below
from integrations.models import CatalogLocation, Connection, LocationDocs, StoredRecord, SyncRun

_RULE = b"\1"  # another one where sections are cut otherwise, so that all are read anew
_PAGE = 20
_STAMP = "docs:stamp"
_STAMP_SECONDS = 3_600
# Of several things that one file declares, the docs are found as those of one.
_FIRST = {kind: n for n, kind in enumerate(("component", "system", "api", "resource", "domain", "template"))}


class Home(NamedTuple):
    """A folder with docs.

    :ivar source: the connection's short name, or the key of the location's source.
    """

    source: str
    repository: str
    folder: str
    techdocs: str


class _Row(NamedTuple):
    """Where the texts are."""

    is_record: bool
    pk: int
    digest: bytes


@dataclass(frozen=True)
class _Wanted:
    entity_id: int
    home: Home
    row: _Row
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
        texts = _texts([one.row for one in some])
        _write(
            {one.entity_id: _sections(texts.get(one.row) or {}, one.home) for one in some},
            {one.entity_id: one.digest for one in some},
        )
    cache.set(_STAMP, stamp, _STAMP_SECONDS)
    return len(gone) + len(changed)


def _texts(rows: list[_Row]) -> dict[_Row, dict[str, str]]:
    records = StoredRecord.objects.filter(pk__in=[row.pk for row in rows if row.is_record])
    others = LocationDocs.objects.filter(pk__in=[row.pk for row in rows if not row.is_record])
    found = {(True, pk): texts for pk, texts in records.values_list("pk", "data__docs")}
    found |= {(False, pk): texts for pk, texts in others.values_list("pk", "texts")}
    return {row: found.get((row.is_record, row.pk)) or {} for row in rows}


def _write(passages: dict[int, list[Part]], digests: dict[int, bytes] | dict[int, None]) -> None:
    replace_passages(sort=PassageSort.PAGE, passages=passages)
    note_read(PassageSort.PAGE, digests)


def _stamp() -> str:
    """Another one, whenever docs may have changed, or for whom they are; what it does not see is seen in an hour."""
    runs = SyncRun.objects.aggregate(last=Max("finished_at"))["last"]
    connections = list(Connection.objects.order_by("pk").values_list("pk", "muted_at", "removal_at"))
    # A reading that wrote nothing has brought nothing; most have.
    did = Q(location__summary__written__gt=0) | Q(location__summary__removed__gt=0)
    locations = LocationDocs.objects.aggregate(
        Count("pk"), Max("changed_at"), last=Max("location__read_at", filter=did)
    )
    known = sorted((name, sorted(groups)) for name, groups in audiences().items())
    return f"{_RULE!r} {runs} {connections} {locations} {known}"


def _all_wanted() -> Iterator[_Wanted]:
    """Whose docs there are: of each folder those of one thing, of a repository without such a thing its own."""
    records = {
        (slug, external_id): _Row(True, pk, bytes(digest))
        for slug, external_id, pk, digest in StoredRecord.objects.filter(
            type="repository", deleted_at=None, is_ignored=False, data__has_key="docs"
        ).values_list("connection__slug", "external_id", "pk", "digest")
    }
    tops: dict[str, list[tuple[str, _Row]]] = defaultdict(list)
    for address, top, pk, digest in LocationDocs.objects.order_by("top").values_list(
        "location__address", "top", "pk", "digest"
    ):
        tops[f"yaml:{address}"].append((top, _Row(False, pk, bytes(digest))))
    if not records and not tops:
        return
    known = audiences()
    best: dict[Home, tuple[int, str, int, _Row]] = {}
    own: dict[Home, tuple[int, str, int, _Row]] = {}
    for claim in _claims({slug for slug, _id in records}, set(tops)):
        slug = claim.source.removeprefix("connection:").partition("/")[0]
        # A passage is for all who see the entity, so what is for fewer makes none.
        if not is_for_all(known.get(slug), groups_in(claim.audience)):
            continue
        if claim.kind == "repository" and (slug, claim.external_id) in records:
            row = records[slug, claim.external_id]
            own[Home(slug, claim.external_id, "", "")] = (0, claim.ref, claim.entity_id, row)
            continue
        found = _home(claim, records, tops)
        if found is not None:
            home, row = found
            candidate = (_FIRST.get(claim.kind, len(_FIRST)), claim.ref, claim.entity_id, row)
            best[home] = min(best.get(home, candidate), candidate)
    taken = {(home.source, home.repository) for home in best if not home.folder}
    best |= {home: one for home, one in own.items() if (home.source, home.repository) not in taken}
    for home, (_rank, _ref, entity_id, row) in best.items():
        said = b"\0".join((row.digest, home.folder.encode(), home.techdocs.encode()))
        yield _Wanted(entity_id, home, row, _RULE + hashlib.blake2b(said, digest_size=16).digest())


class _Said(NamedTuple):
    """What of a claim says where its docs are."""

    source: str
    external_id: str
    file: str | None
    techdocs: str | None
    entity_id: int
    kind: str
    ref: str
    audience: list[int] | None


def _claims(slugs: set[str], keys: set[str]) -> Iterator[_Said]:
    theirs = Q(source__type=SourceType.CONNECTION, source__name__in=slugs) | Q(source__key__in=keys)
    rows = Claim.objects.filter(theirs, is_shadowed=False, entity__deleted_at=None).annotate(
        techdocs=KT(f"document__metadata__annotations__{TECHDOCS}"), file=KT("place__file")
    )
    for row in rows.values_list(
        "source__key", "external_id", "file", "techdocs", "entity_id", "entity__kind", "entity__ref",
        "entity__audience",
    ).iterator():  # fmt: skip
        yield _Said(*row)


def _home(
    claim: _Said, records: dict[tuple[str, str], _Row], tops: dict[str, list[tuple[str, _Row]]]
) -> tuple[Home, _Row] | None:
    """Where the docs of a claim's file lie."""
    slug, repository, file = file_of(claim.source, claim.external_id, claim.file)
    if (slug, repository) in records:
        home = Home(slug, repository, folder_of(file), claim.techdocs or "")
        return home, records[slug, repository]
    for top, row in tops.get(claim.source, ()):
        path = path_below(top, claim.file or "")
        if path is not None:
            return Home(claim.source, top, folder_of(path), claim.techdocs or ""), row
    return None


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


def keep_docs(location: CatalogLocation, found: Sequence[FoundDocs], *, now: datetime) -> None:
    """Keep what lies beside the files of a location, within the caller's transaction; only what changed is written."""
    rows = LocationDocs.objects.filter(location=location)
    known = {
        top: (bytes(digest), commit) for top, digest, commit in rows.values_list("top", "digest", "commit")
    }
    for docs in found:
        said = orjson.dumps([docs.texts, docs.web], option=orjson.OPT_SORT_KEYS)
        digest = hashlib.blake2b(said, digest_size=16).digest()
        before, commit = known.pop(docs.top, (b"", ""))
        if before != digest:
            values = {"texts": docs.texts, "web": docs.web, "commit": docs.commit, "digest": digest}
            rows.update_or_create(location=location, top=docs.top, defaults={**values, "changed_at": now})
        elif commit != docs.commit:
            rows.filter(top=docs.top).update(commit=docs.commit)
    if known:
        rows.filter(top__in=known).delete()
