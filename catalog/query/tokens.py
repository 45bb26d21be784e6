"""Tokens: what makes every field of a document searchable by one indexed array of integers.

Each leaf of a document gives two 64-bit hashes: of its key alone (the field exists) and of its key with its
value. Each object that is not empty gives one, of its key with a dot: something stands below.
Keys are the dotted path, keys and values in lower case, as Backstage's catalog has them:

- `relations`, `status`, `attachments` and `metadata.etag` are left out;
- each element of a list stands under the list's key, and each string `s` of a list also as `key.s = true`;
- null, and a value of more than 200 characters, exists but equals nothing; a key of more than 200 is left
  out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

MAX_KEY = 200
MAX_VALUE = 200
MAX_TOKENS = 2_000

_NOT_SEARCHABLE = frozenset({"relations", "status", "attachments"})


@lru_cache(maxsize=50_000)
def _hash(text: str) -> int:
    return int.from_bytes(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )


def token(key: str, value: Any = None) -> int:
    """The token of a field, or of a field with a value.

    :param key: dotted path, such as `spec.type`; any case.
    :param value: what it equals, as in JSON; None for "the field exists".
    """
    key = key.lower()
    if value is None:
        return _hash(key)
    return _hash(f"{key}\0{as_text(value).lower()}")


def as_text(value: str | float | bool) -> str:
    """A JSON scalar as it is searched: `true`, `3`, `1.5`."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def tokens_of(
    document: dict[str, Any], *, sources: Iterable[str] = (), conflicts: Iterable[str] = ()
) -> list[int]:
    """The tokens of an entity, sorted.

    :param document: the merged document.
    :param sources: names of the sources that speak of it, found by `source:`.
    :param conflicts: dotted paths of the fields on which they disagree, found by `conflict:`.
    :return: at most MAX_TOKENS; what a document holds beyond that is not searchable.
    """
    found: set[int] = set()
    metadata = document.get("metadata")
    for name, value in document.items():
        if name in _NOT_SEARCHABLE:
            continue
        if name == "metadata" and isinstance(value, dict):
            value = {key: inner for key, inner in value.items() if key != "etag"}
        _collect(name.lower(), value, found)
    if isinstance(metadata, dict) and not metadata.get("namespace"):
        _collect("metadata.namespace", "default", found)
    for name in sources:
        _collect("source", name, found)
    for path in conflicts:
        _collect("conflict", path, found)
    return sorted(found)


def _collect(key: str, value: Any, found: set[int]) -> None:
    if len(key) > MAX_KEY or len(found) >= MAX_TOKENS - 2:
        return
    if isinstance(value, str):
        found.add(_hash(key))
        if len(value) <= MAX_VALUE:
            found.add(_hash(f"{key}\0{value.lower()}"))
    elif isinstance(value, dict):
        if value:
            found.add(_hash(f"{key}."))
        for name, inner in value.items():
            below = f"{key}.{name.lower()}"
            if type(inner) is str and len(below) <= MAX_KEY and len(found) < MAX_TOKENS - 2:  # most are
                found.add(_hash(below))
                if len(inner) <= MAX_VALUE:
                    found.add(_hash(f"{below}\0{inner.lower()}"))
            else:
                _collect(below, inner, found)
    elif isinstance(value, list):
        for element in value:
            _collect(key, element, found)
            if isinstance(element, str):
                _collect(f"{key}.{element.lower()}", True, found)
    else:
        found.add(_hash(key))
        if value is not None:
            found.add(_hash(f"{key}\0{as_text(value)}"))
