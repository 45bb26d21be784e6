"""A query as a tree. Nodes are equal when they mean the same, wherever they stand in a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Literal

Operator = Literal["=", "<", "<=", ">", ">=", ".."]


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands in the text.

    :ivar position: of its first character, from 0.
    """

    position: int = 0
    length: int = 0

    @property
    def end(self) -> int:
        return self.position + self.length


@dataclass(frozen=True, slots=True)
class Value:
    """One value as written: `java`, `pay*`, `>=3`, `2..5`, `"card payments"`.

    :ivar text: the value itself, without quotes and operator; a range's lower end.
    :ivar upper: a range's upper end; an open end is empty.
    :ivar is_quoted: taken literally: `*` is a star.
    """

    text: str
    operator: Operator = "="
    upper: str = ""
    is_quoted: bool = False
    span: Span = attribute(default=Span(), compare=False)

    @property
    def is_pattern(self) -> bool:
        return self.operator == "=" and not self.is_quoted and "*" in self.text


@dataclass(frozen=True, slots=True)
class Words:
    """A word or phrase that stands in the name, title or description."""

    value: Value
    span: Span = attribute(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Filter:
    """A field that has any of some values.

    :ivar field: as written, in any case.
    """

    field: str
    values: tuple[Value, ...]
    span: Span = attribute(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    item: Node
    span: Span = attribute(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """All of these; without any: everything."""

    items: tuple[Node, ...]
    span: Span = attribute(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Node, ...]
    span: Span = attribute(default=Span(), compare=False)


Node = Words | Filter | Not | And | Or
Term = Words | Filter


def terms(node: Node) -> Iterator[Term]:
    """The filters and words of a tree, in the order of the text."""
    if isinstance(node, Words | Filter):
        yield node
    elif isinstance(node, Not):
        yield from terms(node.item)
    else:
        for item in node.items:
            yield from terms(item)
