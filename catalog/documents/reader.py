"""What the catalog needs of whoever reads files for it: local files, a Git repository, web addresses."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base.errors import DomainError, InvalidInput
from base.text import excerpt


class Missing(DomainError):
    """There is nothing at the location; other failures of reading are errors of their own."""

    code = "location-missing"
    status = 404
    title = gettext_lazy("There is no such file")


@dataclass(frozen=True, slots=True)
class Location:
    """Where something can be read: a type that the reader knows (`file`, `url`) and a target."""

    type: str
    target: str

    @classmethod
    def of(cls, text: str) -> Location:
        """:raises InvalidInput: if the text is not `type:target`."""
        type_, _colon, target = text.partition(":")
        if not type_ or not target:
            raise InvalidInput(_("“%(text)s” is no location; expected type:target.") % {"text": text[:200]})
        return cls(type_, target)

    @property
    def text(self) -> str:
        return f"{self.type}:{self.target}"

    @property
    def is_pattern(self) -> bool:
        """Whether the target stands for several files."""
        if self.type == "url":
            return "*" in self.target.partition("?")[0].partition("#")[0]
        return any(character in self.target for character in "*?[{")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Content:
    """What was read, and from where it came in the end."""

    data: bytes
    location: Location


class Reader(Protocol):
    """Reads what documents point to. Any `DomainError` that it raises is reported and the rest goes on."""

    async def read(self, location: Location) -> Content:
        """:raises Missing: if there is nothing."""

    async def glob(self, pattern: Location) -> Sequence[Location]:
        """The files that a pattern stands for, in a stable order.

        :raises Missing: if there is none.
        """

    def resolve(self, base: Location, target: str) -> Location:
        """What a file at `base` means by a target: `resolve_target`, unless the host knows better."""


def resolve_target(base: Location, target: str) -> Location:
    """A target as seen from a file: absolute ones stay, relative ones count from the file's folder.

    :raises InvalidInput: if a web address cannot be understood.
    """
    if base.type == "url":
        try:
            return Location("url", urljoin(base.target, target))
        except ValueError as error:
            raise InvalidInput(
                _("%(target)s is no address: %(why)s.") % {"target": excerpt(target), "why": error}
            ) from error
    if posixpath.isabs(target):
        return Location(base.type, posixpath.normpath(target))
    if target.lower().startswith(("http://", "https://")):
        return Location("url", target)
    return Location(base.type, posixpath.normpath(posixpath.join(posixpath.dirname(base.target), target)))
