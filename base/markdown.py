"""How Markdown is parsed, and what its headings are called in addresses."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import NamedTuple

from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.token import Token

LIMIT = 500_000


class Heading(NamedTuple):
    """A heading: where its token stands, its words as they are written, and the line that it begins at.

    :ivar slug: unique in the text, what links within it name.
    """

    position: int
    slug: str
    words: str
    line: int


def parser(**options: object) -> MarkdownIt:
    """The one dialect: CommonMark with tables and struck out text."""
    return MarkdownIt("commonmark", options).enable(["table", "strikethrough"])


_PLAIN = parser()


def headings_of(tokens: Sequence[Token]) -> list[Heading]:
    """The headings of a parsed text."""
    seen: dict[str, int] = {}
    found = []
    for position, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        words = tokens[position + 1].content
        slug = slugify(words) or "section"
        seen[slug] = seen.get(slug, 0) + 1
        name = slug if seen[slug] == 1 else f"{slug}-{seen[slug] - 1}"
        found.append(Heading(position, name, words, token.map[0] if token.map else 0))
    return found


class Part(NamedTuple):
    """What stands below one heading, up to the next.

    :ivar slug: of the heading; empty for what stands before the first.
    """

    slug: str
    heading: str
    text: str


def parts_of(text: str) -> list[Part]:
    """A text cut at its headings."""
    text = text[:LIMIT]
    lines = StringIO(text, newline=None).readlines()  # for `splitlines` knows ends that the parser does not
    headings = headings_of(_PLAIN.parse(text))
    starts = [heading.line for heading in headings] + [len(lines)]
    before = "".join(lines[: starts[0]])
    parts = [Part("", "", before)] if before.strip() else []
    for heading, following in zip(headings, starts[1:], strict=True):
        parts.append(Part(heading.slug, heading.words, "".join(lines[heading.line : following])))
    return parts
