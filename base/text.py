"""Names and excerpts made from text."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any

import orjson

MAX_NAME = 63
_SUFFIX = 8


def slugify_path(path: str) -> str:
    """A path or title as a name of at most 63 characters: `Acme/Pay API` becomes `acme-pay-api`.

    A longer one keeps its end, which tells more. Empty if nothing of it can stand in a name.
    """
    plain = unicodedata.normalize("NFKD", path.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9._]+", "-", plain)
    slug = re.sub(r"-*([._])[-._]*|-{2,}", lambda found: found.group(1) or "-", slug).strip("-._")
    return slug[-MAX_NAME:].strip("-._")


def derive_name(path: str, *, key: str, with_suffix: bool = False) -> str:
    """The name of what a tool knows by a path or title; always valid as an entity's name.

    :param key: what the thing is known by for ever; makes the suffix.
    :param with_suffix: on a collision: the same name with a hash of the key.
    """
    slug = slugify_path(path)
    if slug and not with_suffix:
        return slug
    suffix = hashlib.blake2b(key.encode("utf-8", "surrogatepass")).hexdigest()[:_SUFFIX]
    kept = slug[-(MAX_NAME - _SUFFIX - 1) :].strip("-._")
    return f"{kept}-{suffix}" if kept else f"x-{suffix}"


def excerpt(value: Any, *, limit: int = 80) -> str:
    """A value as it would stand in JSON, cut to a length: for "got" in messages."""
    if isinstance(value, str):
        text = value if len(value) <= limit else value[: limit - 1] + "…"
        return f"“{text}”"
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def whole_number(text: str, *, default: int = 0) -> int:
    """A number that somebody wrote in an address or a form, if it is one of at most 17 of the digits 0 to 9.

    `isdigit` alone lets pass what `int` refuses: a raised two, and more digits than it takes.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 17 else default


def printable(text: str) -> str:
    """Text with a mark in place of what neither UTF-8 nor PostgreSQL can hold: halves of surrogate pairs, and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def replace_nul(value: Any) -> Any:
    """Text or plain data with U+FFFD for the character NUL, which PostgreSQL has no place for."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {replace_nul(key): replace_nul(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_nul(inner) for inner in value]
    return value


def plain_markdown(text: str) -> str:
    """Markdown's words without its marks, tags and addresses, roughly: for a search, never to be shown as HTML.

    >>> plain_markdown("# See **[the guide](https://acme.example)**, `now`")
    'See the guide, now'
    """
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]\n]*)\](\([^)\n]*\)|\[[^\]\n]*\])?", r"\1", text)
    text = re.sub(r"</?[a-zA-Z][^>\n]*>", " ", text)
    text = re.sub(r"^[ \t]*(?:[#>]+|[-*+]|\d+[.)]|[=~`-]{3,}.*)(?=\s|$)", " ", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"[*`|]+|(?<!\w)_+|_+(?!\w)", "", text).split())
