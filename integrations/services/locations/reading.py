"""A location is read to its end first; what is to be written waits on a shelf."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import marshal
import os
import posixpath
import struct
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from base.errors import DomainError, FieldError, InvalidInput
from base.limits import readable_size
from catalog import identity
from catalog.documents import (
    DEFAULT_NAMESPACE,
    DocumentInvalid,
    Location,
    Missing,
    SourceDocument,
    Unreadable,
    read_documents,
    validate_document,
)
from catalog.documents.patches import kept_text
from catalog.documents.refs import MAX_REF
from catalog.kinds import current_kinds
from catalog.models import Claim, Rank
from catalog.services.ingest import ClaimIn
from integrations.docs import FoundDocs
from integrations.files import FileReader
from integrations.git import GitClient
from integrations.http import HttpClient
from integrations.readers import CatalogReader, GitPlace
from integrations.services.locations import turns
from integrations.services.locations.addresses import shown
from integrations.services.locations.summary import DocumentProblem, ImportSummary
from integrations.services.network import outbound_policy

logger = logging.getLogger(__name__)

MAX_ADDRESS = 2_000  # bytes; what is looked up by an index can be little longer
MAX_BYTES = 512 * 1024 * 1024  # of documents in one location
MAX_SECONDS = 1_800  # for reading one location
# What is read waits here to be written; beyond this much, on the disk.
_IN_MEMORY = 32 * 1024 * 1024
_LENGTH = struct.Struct("I")
_PAGE_BYTES = 8 * 1024 * 1024
_DOCS_SECONDS = 60  # for reading what lies beside catalog files
_AT_ONCE = 100  # documents that are taken from the event loop in one go
# Another number, whenever the same text is read as another claim than before: then all is parsed once more.
_READ_AS = 1


class ReadingLoop:
    """An event loop for the reader, run step by step from the thread that uses the database."""

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self._roots = roots

    def __enter__(self) -> ReadingLoop:
        self._loop = asyncio.new_event_loop()
        policy, files = outbound_policy(), FileReader([*settings.PORTICO_FILES_ALLOW, *self._roots])
        self.reader = CatalogReader(
            files=files, http=HttpClient(policy=policy), git=GitClient(policy=policy, files=files)
        )
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._loop.run_until_complete(self.reader.aclose())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def run(self, step: Any) -> Any:
        return self._loop.run_until_complete(step)

    def locate(self, address: str) -> Location:
        """The location that a person means by an address.

        :raises SourceError: if it is none, or lies where it may not be read.
        :raises InvalidInput: if it is too long.
        """
        start: Location = self.run(self.reader.locate(address))
        if len(start.text.encode("utf-8", "replace")) > MAX_ADDRESS:
            raise InvalidInput(_("This address is longer than %(limit)d bytes.") % {"limit": MAX_ADDRESS})
        return start

    def documents(
        self, starts: Sequence[Location], *, seconds: float
    ) -> Iterator[SourceDocument | Unreadable]:
        """What is read from some addresses.

        :raises TimeoutError: when that takes longer.
        """
        stream = read_documents(starts, self.reader)
        until = self._loop.time() + seconds
        found: list[SourceDocument | Unreadable] = []

        async def step() -> None:
            async with asyncio.timeout_at(until):
                while len(found) < _AT_ONCE:
                    found.append(await anext(stream))

        while True:
            error: Exception | None = None
            try:
                self.run(step())
            except (TimeoutError, StopAsyncIteration) as raised:
                error = raised
            yield from found
            found.clear()
            if isinstance(error, TimeoutError):
                raise error
            if error is not None:
                return

    def docs(self, targets: Collection[str]) -> list[FoundDocs]:
        """The docs beside catalog files that were read."""

        async def step() -> list[FoundDocs]:
            async with asyncio.timeout(_DOCS_SECONDS):
                return await self.reader.docs_beside(targets)

        found: list[FoundDocs] = self.run(step())
        return found


class Shelf:
    """What was read and waits to be written: any number of claims in little memory."""

    def __init__(self, *, as_of: datetime) -> None:
        self._as_of = as_of
        self._rows = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - see `close`

    def put(self, claim: ClaimIn) -> None:
        row = (claim.external_id, claim.kind, claim.document, claim.about, claim.place, claim.read_digest)
        kept = marshal.dumps(row)
        self._rows.write(_LENGTH.pack(len(kept)) + kept)

    def pages(self) -> Iterator[list[ClaimIn]]:
        """All claims, a page at a time: so many, or so large, that a page is soon written and fits into memory."""
        self._rows.seek(0)
        page: list[ClaimIn] = []
        size = 0
        for claim, length in self._claims():
            if page and (len(page) == turns.PAGE or size + length > _PAGE_BYTES):
                yield page
                page, size = [], 0
            page.append(claim)
            size += length
        if page:
            yield page

    def close(self) -> None:
        self._rows.close()

    def _claims(self) -> Iterator[tuple[ClaimIn, int]]:
        while head := self._rows.read(_LENGTH.size):
            (length,) = _LENGTH.unpack(head)
            # No other program writes this file, and no other version of Python reads it.
            row = marshal.loads(self._rows.read(length))  # noqa: S302
            external_id, kind, document, about, place, read_digest = row
            claim = ClaimIn(
                external_id=external_id,
                kind=kind,
                document=document,
                rank=Rank.YAML,
                as_of=self._as_of,
                about=about,
                place=place,
                read_digest=read_digest,
            )
            yield claim, length


class Reading:
    """One reading of one location, or of some of its files alone.

    :ivar part: the local files that it is of, those that are gone included; None for all.
    :ivar leads_on: whether a document led to other files, of which a reading of some files knows nothing.
    :ivar seen: the ids of what is accepted; `stale`, `unknown` and `broken_files` say why the others are not: by id,
        by file and name of what is of no known kind, and by file of what names nothing.
    :ivar docs: what lies beside its files; None if that is not known.
    :ivar why_unread: of what could not be read and may still be there, the first cause.
    :ivar kept: ids of the entities of which the very text was read before; no claims of them wait to be written.
    """

    def __init__(self, start: Location, *, dry_run: bool = False, part: frozenset[str] | None = None) -> None:
        self.start, self.dry_run, self.part, self.leads_on = start, dry_run, part, False
        self.now = timezone.now()
        self.kinds = current_kinds()
        self.summary = ImportSummary()
        self.shelf = Shelf(as_of=self.now)
        self.files: set[str] = set()
        self.refs: Counter[tuple[str, str]] = Counter()
        self.seen: set[str] = set()
        self.stale: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        self.broken_files: dict[str, str] = {}
        self.causes: dict[str, list[Unreadable]] = {}
        self.why_unread = ""
        self.kept: set[int] = set()
        self.docs: list[FoundDocs] | None = None
        self._known: dict[bytes, tuple[str, int]] = {}
        self._reading = self.kinds.digest + bytes([_READ_AS])

    @property
    def was_read(self) -> bool:
        """Whether anything of it could be read."""
        return bool(self.files) or not self.summary.unread

    def close(self) -> None:
        """Let go of what was read."""
        self.shelf.close()

    def read(self, loop: ReadingLoop, *, seconds: float, most: int | None = None) -> None:
        """Read everything, as far as the time and the room for it reach, and keep what is to be written.

        :param most: bytes, if less than usual.
        """
        most = most or MAX_BYTES
        size = 0
        if not self.dry_run:
            self._known = _known(claims_of(self.start, self.part))
        starts = [self.start]
        if self.part is not None:
            starts = [Location("file", path) for path in sorted(self.part) if os.path.lexists(path)]
        try:
            for item in loop.documents(starts, seconds=seconds):
                if isinstance(item, Unreadable):
                    self._unreadable(item)
                    continue
                size += len(item.parsed.raw)
                if size > most:
                    self._cut(_("It holds more than %(limit)s.") % {"limit": readable_size(most)})
                    break
                digest = self._digest(item)
                if self._is_known(item, digest):
                    continue
                claim = self._claim(item, digest)
                if claim is not None:
                    self.shelf.put(claim)
        except TimeoutError:
            self._cut(_("Reading it takes longer than %(limit)d s.") % {"limit": seconds})
        self.summary.files = len(self.files)
        # Of what a file holds twice, the one that can be read counts.
        self.stale = {key: why for key, why in self.stale.items() if key not in self.seen}
        for found in self.causes.values():
            self._report_unreadable(found)
        if not self.dry_run and self.part is None and not self.summary.unread:
            try:
                self.docs = loop.docs(self.files)
            except (DomainError, OSError, TimeoutError) as error:
                logger.warning("The docs beside %s cannot be read: %s", shown(self.start.target), error)

    def _cut(self, why: str) -> None:
        self.summary.unread += 1
        message = (
            _("%(why)s What was read until then is shown; an import has more time.")
            if self.dry_run
            else _("%(why)s What was read until then is taken in; import it in parts.")
        ) % {"why": why}
        self.summary.problems.append(DocumentProblem(shown(self.start.target), 0, 0, "", message))
        self.why_unread = message

    def _unreadable(self, item: Unreadable) -> None:
        self.summary.unread += _may_still_be_there(item)
        place = GitPlace.parse(item.location.target)
        is_of_repository = place is not None and place.path not in item.error.message
        self.causes.setdefault(
            item.error.message if is_of_repository else f"{item.location}: {item.error.message}", []
        ).append(item)

    def _report_unreadable(self, found: list[Unreadable]) -> None:
        """One line for one cause, at the first of the places that it keeps from being read."""
        item, others = found[0], len(found) - 1
        where, target = item.declared_by, shown(item.location.target)
        message = item.error.message
        if where and target not in message:
            message = f"{target}: {message}"
        if others:
            message += ngettext(
                " (And %(count)d more that cannot be read for this reason.)",
                " (And %(count)d more that cannot be read for this reason.)",
                others,
            ) % {"count": others}
        if any(map(_may_still_be_there, found)):
            self.why_unread = self.why_unread or message
        if where is None:
            self.summary.problems.append(DocumentProblem(target, 0, 0, "", message))
            return
        place = where.place_of(item.path)
        self.summary.problems.append(
            DocumentProblem(
                file=where.location.target,
                document=where.parsed.number,
                line=place.line,
                column=place.column,
                path=item.path,
                message=message,
            )
        )

    def _digest(self, document: SourceDocument) -> bytes:
        """Of all that decides what a document is read as: the same means that the same claim is made of it."""
        parsed = document.parsed
        place = f"{document.location.target}\0{parsed.number}\0{parsed.line}\0{parsed.ending}"
        if led := _led_by(document):
            place += f"\0{led['by']}"
        whole = hashlib.blake2b(place.encode("utf-8", "surrogatepass"), digest_size=16, key=self._reading)
        whole.update(document.digest)
        return whole.digest()

    def _is_known(self, document: SourceDocument, digest: bytes) -> bool:
        """Whether a claim stands that was read from the very same text; then it is counted, and not parsed again."""
        if digest not in self._known:
            return False
        external_id, entity_id = self._known[digest]
        file, ref = document.location.target, external_id.rpartition("#")[2]
        if self.refs[file, ref]:  # what is said twice is told apart by its order
            return False
        self.refs[file, ref] = 1
        self.summary.documents += 1
        self.summary.accepted += 1
        self.files.add(file)
        self.seen.add(external_id)
        self.kept.add(entity_id)
        return True

    def _claim(self, document: SourceDocument, digest: bytes) -> ClaimIn | None:
        self.summary.documents += 1
        file = document.location.target
        self.files.add(file)
        if document.error is not None:
            self._refuse(document, list(document.error.errors or []), ref="", error=document.error)
            return None
        try:
            valid = validate_document(document.data, self.kinds.set)
        except DocumentInvalid as error:
            self._refuse(document, list(error.errors or []), ref=error.ref, error=error)
            return None
        self.summary.accepted += 1
        self.leads_on |= valid.kind.name == "Location"
        ref = valid.ref.text
        self.refs[file, ref] += 1
        number = self.refs[file, ref]
        external_id = f"{file}#{ref}" if number == 1 else f"{file}#{ref}~{number}"
        self.seen.add(external_id)
        return ClaimIn(
            external_id=external_id,
            kind=valid.kind.name.lower(),
            document=valid.data,
            rank=Rank.YAML,
            as_of=self.now,
            about=(
                *(identity.keys_of_document(valid.data) or _about_file(document.location)),
                *identity.selectors_of_document(valid.data),
            ),
            place={
                **_led_by(document),
                "file": file,
                "document": document.parsed.number,
                "line": document.parsed.line,
                "text": kept_text(document.parsed.text),
            },
            read_digest=digest,
        )

    def _refuse(
        self, document: SourceDocument, errors: list[FieldError], *, ref: str, error: DomainError
    ) -> None:
        self.summary.refused += 1
        file = document.location.target
        for item in errors or [FieldError("", error.message)]:
            line, column = document.place_of(item.path) if item.path else (document.parsed.line, 0)
            self.summary.problems.append(
                DocumentProblem(
                    file=file,
                    document=document.parsed.number,
                    line=getattr(error, "line", 0) or line,
                    column=getattr(error, "column", 0) or column,
                    path=item.path,
                    message=item.message,
                    ref=ref,
                )
            )
        if ref:
            kind, _colon, name = ref.partition(":")
            reasons, key = (self.stale, ref) if kind in self.kinds else (self.unknown, name)
            reasons[f"{file}#{key}"] = _("document %(number)d: %(message)s") % {
                "number": document.parsed.number,
                "message": error.message,
            }
        else:
            self.broken_files[file] = error.message


def _may_still_be_there(item: Unreadable) -> bool:
    return item.declared_by is None or item.location.is_pattern or not isinstance(item.error, Missing)


def claims_of(start: Location, part: frozenset[str] | None = None) -> QuerySet[Claim]:
    """What a location says until now.

    :param part: in these of its files alone.
    """
    rows = Claim.objects.filter(source__key=f"yaml:{start.text}")
    return rows if part is None else rows.filter(place__file__in=sorted(part))


def _known(claims: QuerySet[Claim]) -> dict[bytes, tuple[str, int]]:
    """Those of some claims that stand as they were read, by the digest of what they were read from.

    :returns: their ids of the source's, and their entities'; no second claims of one name in one file.
    """
    rows = claims.filter(stale_reason="").values_list("read_digest", "external_id", "entity_id")
    return {
        bytes(digest): (external_id, entity_id)
        for digest, external_id, entity_id in rows.iterator()
        if digest is not None and "~" not in external_id.rpartition("#")[2]
    }


def _led_by(document: SourceDocument) -> dict[str, str]:
    """The Location entity that led to a document's file, if one did."""
    leader = document.declared_by
    if leader is None:
        return {}
    # It led on, so it is a document; whether it is accepted is another matter.
    metadata = leader.data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace") or DEFAULT_NAMESPACE
    ref = f"location:{namespace}/{name}".lower()
    return {"by": ref} if isinstance(name, str) and len(ref) < MAX_REF else {}


def first_id(external_id: str) -> str:
    """The id of the first document of a name, of any further one of it in the same file."""
    file, _hash, ref = external_id.rpartition("#")
    return f"{file}#{ref.partition('~')[0]}"


def _about_file(location: Location) -> list[str]:
    """The repository and folder that a file lies in, when its address tells."""
    if (place := GitPlace.parse(location.target)) is not None:
        path = place.path if not place.page else location.target
        if place.page:
            found = identity.repo_key(location.target)
            if found is None:
                return []
            base, folder = identity.split_folder(found)
        else:
            found = identity.repo_key(place.repository)
            if found is None:
                return []
            base, folder = found, path
        folder = posixpath.dirname(folder)
        return [f"{base}#{folder}" if folder else base]
    return []
