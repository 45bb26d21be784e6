"""`fields`: the parts of an entity that a client wants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from catalog.api.backstage.errors import InputError

Path = tuple[str, ...]


def check_fields(names: Iterable[str]) -> list[str]:
    """:raises InputError: for a name that asks for an element of a list."""
    found = list(names)
    for name in found:
        if "[" in name:
            raise InputError("invalid field, array type fields are not supported")
    return found


def select(entity: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The entity with these fields alone; what is missing is left out.

    A key may hold dots itself, as those of annotations do. Case matters.
    """
    found: dict[str, Any] = {}
    for name in names:
        for path, value in _at(entity, tuple(name.split("."))):
            _put(found, path, value)
    return found


def _at(value: Any, parts: Path) -> list[tuple[Path, Any]]:
    if not parts:
        return [((), value)]
    if not isinstance(value, dict):
        return []
    for end in range(1, len(parts) + 1):
        key = ".".join(parts[:end])
        if key in value:
            found = _at(value[key], parts[end:])
            if found:
                return [((key, *path), inner) for path, inner in found]
    return []


def _put(into: dict[str, Any], path: Path, value: Any) -> None:
    *heads, last = path
    for key in heads:
        into = into.setdefault(key, {})
        if not isinstance(into, dict):
            return
    if last in into and isinstance(into[last], dict) and isinstance(value, dict):
        into[last] = {**into[last], **value}
    else:
        into[last] = value
