"""Locations as Backstage's clients know them, and their filters."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from base.limits import check_data
from catalog.api.backstage.errors import InputError
from catalog.api.backstage.parameters import at_least, query_in
from catalog.documents import Location
from integrations.models import CatalogLocation
from integrations.outbound import mask_url

DEFAULT_LIMIT = 1_000
MOST_CONDITIONS = 200  # each is asked of each location
_DEEPEST = 20
_FIELDS = {"id": "id", "type": "type", "target": "target", "entityref": "entityRef"}
Shape = dict[str, str]
Test = Callable[[Mapping[str, str]], bool]


def shape_of(location: CatalogLocation) -> Shape:
    """A location as Backstage's clients know it."""
    return as_shape(Location.of(location.address), str(location.uid))


def as_shape(location: Location, id_: str = "") -> Shape:
    """The same of one that is not stored: by what it is, as Backstage has it."""
    target = mask_url(location.target)
    return {
        "id": id_ or f"{location.type}:{target}",
        "type": location.type,
        "target": target,
        "entityRef": f"location:default/{name_of(location.type, target)}",
    }


def name_of(type_: str, target: str) -> str:
    """The name of the Location entity that Backstage makes of a location."""
    return "generated-" + hashlib.sha1(f"{type_}:{target}".encode(), usedforsecurity=False).hexdigest()


# --- filters ----------------------------------------------------------------------------------------------


def compile_filter(query: Any) -> Test:
    """A predicate as a test of a location's shape.

    :raises InputError: saying what is wrong with it.
    """
    return _Filter().compile(query)


class _Filter:
    def __init__(self) -> None:
        self.conditions = 0

    def compile(self, query: Any, depth: int = 0) -> Test:
        if not isinstance(query, dict):
            raise InputError("Invalid query: expected an object")
        if depth > _DEEPEST:
            raise InputError(f"Invalid query: nested deeper than {_DEEPEST}")
        self._count(1)
        if group := next((name for name in ("$all", "$any", "$not") if name in query), None):
            if len(query) > 1:
                raise InputError(f"Invalid query: {group} must stand alone in its object")
            return self._group(group, query[group], depth)
        tests = [self._field(key, value) for key, value in query.items()]
        return lambda shape: all(test(shape) for test in tests)

    def _group(self, group: str, inner: Any, depth: int) -> Test:
        if group == "$not":
            test = self.compile(inner, depth + 1)
            return lambda shape: not test(shape)
        if not isinstance(inner, list):
            raise InputError(f"Invalid query: {group} expects a list")
        tests = [self.compile(one, depth + 1) for one in inner]
        if group == "$any":
            return lambda shape: any(test(shape) for test in tests)
        # Of locations, unlike entities, Backstage takes an empty one for nothing.
        return lambda shape: bool(tests) and all(test(shape) for test in tests)

    def _field(self, key: str, value: Any) -> Test:
        name = _FIELDS.get(key.lower())
        if name is None:
            raise InputError(
                "Invalid filter predicate, expected key to be 'id', 'type', 'target', or 'entityRef', "
                f"got '{key[:100]}'"
            )
        if _is_scalar(value):
            wanted = {_text(value)}
            return lambda shape: shape[name].upper() in wanted
        if not isinstance(value, dict) or not value:
            raise InputError(f"Invalid query: {key} expects a value or operators")
        tests = [self._operator(name, operator, operand) for operator, operand in value.items()]
        return lambda shape: all(test(shape) for test in tests)

    def _operator(self, name: str, operator: str, operand: Any) -> Test:
        if operator == "$exists" and isinstance(operand, bool):
            return lambda shape: operand
        if operator == "$in" and isinstance(operand, list) and all(map(_is_scalar, operand)):
            self._count(len(operand) // 100)
            wanted = set(map(_text, operand))
            return lambda shape: shape[name].upper() in wanted
        if operator == "$hasPrefix" and isinstance(operand, str):
            prefix = operand.upper()
            return lambda shape: shape[name].upper().startswith(prefix)
        if operator == "$contains":
            return lambda shape: False
        raise InputError(f"Invalid query: unknown matcher {operator[:100]} of {name}")

    def _count(self, number: int) -> None:
        self.conditions += number
        if self.conditions > MOST_CONDITIONS:
            raise InputError(f"Invalid query: more than {MOST_CONDITIONS} conditions")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _text(value: Any) -> str:
    return (str(value).lower() if isinstance(value, bool) else str(value)).upper()


# --- pages ------------------------------------------------------------------------------------------------


def read_cursor(text: str) -> tuple[int, str, Any]:
    """How many locations a page has, after which id, and the query; all of it, for a client sends nothing else.

    :raises InputError: if it is broken.
    """
    try:
        data = orjson.loads(base64.b64decode(text, validate=True))
        check_data(data, what="The cursor")
        limit, after = data["limit"], data.get("afterId", "")
        if isinstance(limit, bool) or not isinstance(limit, int) or not isinstance(after, str):
            raise TypeError
    except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise InputError("Malformed cursor: could not be parsed") from None
    return at_least(limit, "limit", 1), after, query_in(data)


def write_cursor(limit: int, after: str, query: Any) -> str:
    data = {"limit": limit, "afterId": after, **({} if query is None else {"query": query})}
    return base64.b64encode(orjson.dumps(data)).decode()
