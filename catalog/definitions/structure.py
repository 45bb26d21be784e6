"""What every definition of an API becomes, whatever its format: items that can be called or that describe data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.utils.text import slugify
from django.utils.translation import gettext_lazy

from base.errors import InvalidInput

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

OPERATION, TYPE = "operation", "type"
Key = tuple[str, ...]
ITEMS = 20_000
_ANCHOR = 80


class DefinitionInvalid(InvalidInput):
    """A definition that is not of its format.

    :ivar line: where in the text, from 1; 0 if that is not known. `column` likewise.
    """

    code = "definition-invalid"
    title = gettext_lazy("The definition cannot be read")

    def __init__(self, message: _StrOrPromise, *, line: int = 0, column: int = 0) -> None:
        self.line, self.column = line, column
        super().__init__(message, line=line, column=column)


@dataclass(slots=True)
class Node:
    """A parameter, a property or an argument.

    :ivar facts: what else holds of its values: “1 to 10”, “one of a, b”.
    :ivar note: why what is below it does not stand here, or empty.
    """

    name: str
    type: str = ""
    description: str = ""
    is_required: bool = False
    is_deprecated: bool = False
    facts: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    note: str = ""


@dataclass(slots=True)
class Section:
    """A part of an item: its parameters, a body, an answer, a message.

    :ivar note: a content type, say.
    :ivar example: as text.
    """

    title: str
    note: str = ""
    description: str = ""
    nodes: list[Node] = field(default_factory=list)
    example: str = ""


@dataclass(slots=True)
class Item:
    """An operation, or a type that operations use.

    :ivar key: where it stands in the definition's data.
    :ivar verb: the method, `subscribe`, `query`, or what sort of type it is.
    :ivar words: by what else it is found.
    :ivar anchor: its name in addresses; given by `Definition`.
    """

    sort: str
    verb: str
    name: str
    group: str
    key: Key
    summary: str = ""
    description: str = ""
    words: str = ""
    is_deprecated: bool = False
    anchor: str = ""

    @property
    def label(self) -> str:
        """What it is called in a list of results."""
        return f"{self.verb} {self.name}"

    def has(self, words: Iterable[str]) -> bool:
        """Whether all of some words, in lower case, stand in what it says of itself."""
        text = " ".join(
            (self.verb, self.name, self.summary, self.group, self.words, self.description)
        ).casefold()
        return all(word in text for word in words)


@dataclass(frozen=True, slots=True)
class Server:
    """Where it answers."""

    url: str
    description: str = ""
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Auth:
    """A way to sign in."""

    name: str
    type: str
    description: str = ""
    facts: tuple[str, ...] = ()


@dataclass(slots=True)
class Definition:
    """What a definition says of itself, and its items.

    :ivar format: with its version, for people: “OpenAPI 3.1.0”.
    :ivar groups: what is said of groups of items, by name.
    :ivar links: of a label and an address, which is whatever the text has.
    """

    format: str
    title: str = ""
    version: str = ""
    description: str = ""
    servers: list[Server] = field(default_factory=list)
    auth: list[Auth] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.items = self.items[:ITEMS]
        given: dict[str, int] = {}
        for item in self.items:
            slug = slugify(re.sub(r"\W+", "-", f"{item.verb}-{item.name}"))[:_ANCHOR].strip("-") or item.sort
            given[slug] = given.get(slug, 0) + 1
            item.anchor = slug if given[slug] == 1 else f"{slug}--{given[slug]}"

    @property
    def operations(self) -> list[Item]:
        """What can be called."""
        return [item for item in self.items if item.sort == OPERATION]

    def item(self, anchor: str) -> Item | None:
        """The item of a name in addresses, or the first that is called so: `GET /pets`."""
        return next((item for item in self.items if anchor in (item.anchor, item.label)), None)


# --- what may stand anywhere in foreign data ---------------------------------------------------------------


def inside(value: Any, key: Key) -> Any:
    """What stands in objects within objects; None if it is not there."""
    for name in key:
        value = mapping(value).get(name)
    return value


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def words(value: Any) -> str:
    """The value if it is text or a number, else nothing."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return str(value).strip()
