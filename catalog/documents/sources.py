"""From one location to all documents it leads to: files, patterns, and what Location documents point to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from base import limits
from base.errors import DomainError, InvalidInput
from base.safe_yaml import ParsedDocument, Place, parse_documents
from catalog.documents.placeholders import (
    PlaceholderInvalid,
    fill_placeholders,
    find_placeholders,
    may_have_placeholders,
    unfilled,
)
from catalog.documents.reader import Location, Missing, Reader

MAX_LOCATIONS = 20_000
_AT_ONCE = 8


class SourceDocument:
    """One document with the place where it stands.

    It is parsed when `data` or `error` is first asked for; what points elsewhere is parsed before.

    :ivar location: of the file.
    :ivar declared_by: the Location document that led to the file, None for where reading began.
    :ivar parsed: the document in the file, with its number and line.
    :ivar digest: over its text and all that its placeholders read; the same digest means the same data.
    """

    __slots__ = ("_data", "_error", "_filled", "declared_by", "digest", "location", "parsed")

    def __init__(
        self, location: Location, parsed: ParsedDocument, declared_by: SourceDocument | None = None
    ) -> None:
        self.location = location
        self.declared_by = declared_by
        self.parsed = parsed
        self.digest = parsed.digest
        self._data: Any = None
        self._error: DomainError | None = None
        self._filled = False

    def __repr__(self) -> str:
        return f"<SourceDocument {self.location}#{self.parsed.number}>"

    @property
    def data(self) -> Any:
        """The document with its placeholders filled; None if it says nothing or is broken."""
        return self._data if self._filled else self.parsed.data

    @property
    def error(self) -> DomainError | None:
        """Why it cannot be read, or None."""
        return self._error or self.parsed.error

    def place_of(self, path: str) -> Place:
        """Where in the file a path stands, to show where an error is."""
        return self.parsed.place_of(path)

    async def fill(self, reader: Reader) -> None:
        """Read what the placeholders point to."""
        if not may_have_placeholders(self.parsed.raw) or self.parsed.error:
            return
        self._filled = True
        try:
            places = find_placeholders(self.parsed.data)
            contents: dict[str, bytes] = {}
            for place in places:
                if place.target not in contents:
                    try:
                        content = await reader.read(reader.resolve(self.location, place.target))
                    except DomainError as error:
                        raise unfilled(place, error.message)
                    contents[place.target] = content.data
            self._data = fill_placeholders(self.parsed.data, contents)
        except (PlaceholderInvalid, limits.LimitExceeded) as error:
            self._error = error
        else:
            digest = hashlib.blake2b(self.digest, digest_size=16)
            for target in sorted(contents):
                digest.update(hashlib.blake2b(contents[target]).digest())
            if contents:
                self.digest = digest.digest()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A location that could not be read; the others go on.

    :ivar declared_by: the document that points to it, None for where reading began; `path` is where in it.
    """

    location: Location
    error: DomainError
    declared_by: SourceDocument | None
    path: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    location: Location
    declared_by: SourceDocument | None = None
    path: str = ""
    is_optional: bool = False

    def unreadable(self, error: DomainError) -> Unreadable:
        return Unreadable(self.location, error, self.declared_by, self.path)


async def read_documents(
    starts: Iterable[Location], reader: Reader, *, follow: bool = True
) -> AsyncIterator[SourceDocument | Unreadable]:
    """All documents at the locations and at all that Location documents among them point to, each file once.

    Documents without content are left out.

    :param follow: whether Location documents are followed.
    """
    wanted = [_Wanted(location) for location in starts]
    seen: set[Location] = set()
    while wanted:
        files: list[_Wanted] = []
        for one in wanted:
            if not one.location.is_pattern:
                files.append(one)
                continue
            try:
                files += [replace(one, location=match) for match in await reader.glob(one.location)]
            except DomainError as error:
                if not (one.is_optional and isinstance(error, Missing)):
                    yield one.unreadable(error)
        fresh = list({one.location: one for one in files if one.location not in seen}.values())
        seen.update(one.location for one in fresh)
        if len(seen) > MAX_LOCATIONS:
            too_many = limits.LimitExceeded(
                _("This leads to more than %(limit)d files.") % {"limit": MAX_LOCATIONS}
            )
            yield fresh[0].unreadable(too_many)
            return
        wanted = []
        for start in range(0, len(fresh), _AT_ONCE):
            batch = fresh[start : start + _AT_ONCE]
            for found in await asyncio.gather(*(_read(one, reader) for one in batch)):
                for item in found:
                    yield item
                    if follow and isinstance(item, SourceDocument):
                        for target in _targets(item, reader):
                            if isinstance(target, Unreadable):
                                yield target
                            else:
                                wanted.append(target)


async def _read(wanted: _Wanted, reader: Reader) -> list[SourceDocument | Unreadable]:
    try:
        content = await reader.read(wanted.location)
        parsed = parse_documents(content.data, name=content.location.target)
    except Missing as error:
        return [] if wanted.is_optional else [wanted.unreadable(error)]
    except DomainError as error:
        return [wanted.unreadable(error)]
    documents = [SourceDocument(content.location, document, wanted.declared_by) for document in parsed]
    for document in documents:
        await document.fill(reader)
    return list(documents)


def _targets(document: SourceDocument, reader: Reader) -> Iterator[_Wanted | Unreadable]:
    """What a Location document points to; nothing for any other document, or one that is not valid."""
    if "Location" not in document.parsed.raw or document.error:
        return
    data = document.data
    spec = data.get("spec") if isinstance(data, dict) and data.get("kind") == "Location" else None
    if not isinstance(spec, dict):
        return
    base = document.location
    kind = spec.get("type") or base.type
    several = spec.get("targets")
    targets = {"spec.target": spec.get("target")}
    if isinstance(several, list):
        targets |= {f"spec.targets[{n}]": target for n, target in enumerate(several)}
    for path, target in targets.items():
        if not isinstance(target, str) or not target:
            continue
        if kind == base.type:
            try:
                location = reader.resolve(base, target)
            except DomainError as unclear:
                yield Unreadable(Location(base.type, target), unclear, document, path)
                continue
        elif kind == "url":
            location = Location("url", target)
        else:
            # What comes from elsewhere must not reach into this machine.
            location = Location(str(kind), target)
            error = InvalidInput(
                _("A location of type %(base)s may point to %(base)s and url only, not to %(type)s.")
                % {"base": base.type, "type": kind}
            )
            yield Unreadable(location, error, document, path)
            continue
        if kind == "file" and target.endswith("/"):
            error = InvalidInput(_("The target is a folder; name a file, or a pattern such as ./*.yaml."))
            yield Unreadable(location, error, document, path)
            continue
        yield _Wanted(location, document, path, spec.get("presence") == "optional")
