"""Definitions that were read before: the data of each text are kept for a while, so that a page need not parse it."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import orjson
from django.core.cache import cache

from catalog.definitions import DefinitionInvalid, parse_definition

KEPT_SECONDS = 24 * 3_600
_VERSION = 1  # of what is kept: another one when parsing gives something else


def data_of_definition(text: str, format_: str) -> dict[str, Any]:
    """The plain data of a definition's text.

    :raises DefinitionInvalid: if it cannot be read; says where.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    key = f"definition:{_VERSION}:{format_}:{digest}"
    kept = cache.get(key)
    if kept is not None:
        found = orjson.loads(zlib.decompress(kept))
        if "error" in found:
            raise DefinitionInvalid(found["error"], line=found["line"], column=found["column"])
        data: dict[str, Any] = found["data"]
        return data
    try:
        data = parse_definition(text, format_)
    except DefinitionInvalid as error:
        _keep(key, {"error": error.message, "line": error.line, "column": error.column})
        raise
    _keep(key, {"data": data})
    return data


def _keep(key: str, value: dict[str, Any]) -> None:
    cache.set(key, zlib.compress(orjson.dumps(value), 1), KEPT_SECONDS)
