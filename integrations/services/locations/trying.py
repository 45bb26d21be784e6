"""What an address would bring, and whether a document would be accepted: read at once, nothing is written."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from django.utils.translation import gettext as _

from base.errors import DomainError, FieldError, InvalidInput
from catalog.documents import (
    Content,
    DocumentInvalid,
    KindSet,
    Location,
    Reader,
    SourceDocument,
    Unreadable,
    read_documents,
    validate_document,
)
from catalog.kinds import current_kinds
from integrations.services.locations.annotations import annotate
from integrations.services.locations.reading import Reading, ReadingLoop
from integrations.services.locations.summary import DocumentProblem

SECONDS = 20
MAX_BYTES = 16 * 1024 * 1024
# What JSON leaves as it is and YAML does not take for a character of a text.
_NO_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def documents_at(address: str) -> tuple[Location, list[dict[str, Any]]]:
    """The location that an address means, and all documents that it leads to, as Backstage would emit them.

    :raises InvalidInput: if one of them would be refused, or something cannot be read, or it is too much.
    """
    with ReadingLoop() as loop:
        try:
            start = loop.locate(address)
        except DomainError as error:
            raise InvalidInput(error.message) from error
        with closing(Reading(start, dry_run=True)) as reading:
            reading.read(loop, seconds=SECONDS, most=MAX_BYTES)
            if problems := reading.summary.problems:
                raise InvalidInput(" ".join(map(_sentence, problems[:10])))
            found: dict[str, dict[str, Any]] = {}
            for claim in (claim for page in reading.shelf.pages() for claim in page):
                ref = claim.declared_ref() or ""
                if ref in found:
                    raise InvalidInput(_("%(ref)s is declared more than once.") % {"ref": ref})
                file = Location(start.type, str(claim.place["file"]))
                found[ref] = annotate(claim.document, file=file, origin=start)
    return start, list(found.values())


def _sentence(problem: DocumentProblem) -> str:
    return ": ".join(part for part in (problem.file, problem.path, problem.message) if part)


def faults_of_document(document: Any, *, location: Location) -> list[FieldError]:
    """What keeps a document from being accepted, if it stood at a web address; nothing if it would be.

    What its placeholders name is read, and what it points to, if it is a Location.
    """
    kinds = current_kinds().set
    with ReadingLoop() as loop:
        try:
            return loop.run(asyncio.wait_for(_faults(document, location, loop.reader, kinds), SECONDS))
        except TimeoutError:
            return [
                FieldError("", _("What it names cannot be read within %(limit)d s.") % {"limit": SECONDS})
            ]


async def _faults(document: Any, location: Location, reader: Reader, kinds: KindSet) -> list[FieldError]:
    found: list[FieldError] = []
    is_first = True
    async for item in read_documents([location], _Standing(document, location, reader)):
        if isinstance(item, Unreadable):
            found.append(FieldError(item.path, item.error.message))
        elif is_first:
            found += _faults_of(item, kinds)
        is_first = False
    return found


def _faults_of(document: SourceDocument, kinds: KindSet) -> list[FieldError]:
    error = document.error
    if error is None:
        try:
            validate_document(document.data, kinds)
        except DocumentInvalid as invalid:
            error = invalid
    if error is None:
        return []
    return error.errors or [FieldError("", error.message)]


class _Standing:
    """A reader for whom a document stands at an address."""

    def __init__(self, document: Any, location: Location, reader: Reader) -> None:
        text = json.dumps(document, ensure_ascii=False)
        text = _NO_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        self._location, self._text, self._reader = location, text.encode(), reader

    async def read(self, location: Location) -> Content:
        if location == self._location:
            return Content(self._text, location)
        return await self._reader.read(location)

    async def glob(self, pattern: Location) -> Sequence[Location]:
        return [pattern] if pattern == self._location else await self._reader.glob(pattern)

    def resolve(self, base: Location, target: str) -> Location:
        return self._reader.resolve(base, target)
