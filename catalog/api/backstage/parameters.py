"""What requests ask for, read as strictly as Backstage reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from django.http import QueryDict
from rest_framework.request import Request

from catalog.api.backstage.errors import InputError

T = TypeVar("T")

_NUMBER = re.compile(r"-?\d{1,15}\Z")
_GREATEST = 10**15 - 1
MOST_FIELDS = 100  # each costs a look into every entity


def read(request: Request, *known: str) -> QueryDict:
    """The query parameters.

    :raises InputError: for one that is not known, or is empty.
    """
    given = request.query_params
    for name in given:
        if name not in known:
            raise InputError(f"Unknown query parameter '{name}'")
        if any(value == "" for value in given.getlist(name)):
            raise InputError(f"Empty value found for query parameter '{name}'")
    return given


def number(given: QueryDict, name: str, *, least: int = 0) -> int | None:
    """A whole number.

    :raises InputError: if it is none, or less than it may be.
    """
    text = given.get(name)
    if text is None:
        return None
    place = f"request/query/{name}"
    if not _NUMBER.match(text):
        raise InputError(f"{place} must be integer")
    return at_least(int(text), place, least)


def at_least(value: int, place: str, least: int) -> int:
    """:raises InputError: if it is less, or greater than any catalog."""
    if value > _GREATEST:
        raise InputError(f"{place} must be <= {_GREATEST}")
    if value < least:
        raise InputError(f"{place} must be >= {least}")
    return value


def body_of(request: Request) -> dict[str, Any]:
    """The body, if it is JSON; anything else counts as none, as does what is no object.

    :raises BadRequest: if it is broken.
    """
    if not (request.content_type or "").partition(";")[0].strip().lower().endswith("json"):
        return {}
    data = request.data
    return data if isinstance(data, dict) else {}


def not_too_many(items: Sequence[T], name: str) -> Sequence[T]:
    """:raises InputError: if there are more than `MOST_FIELDS`."""
    if len(items) > MOST_FIELDS:
        raise InputError(f"{name} must have at most {MOST_FIELDS} items")
    return items


def check_fields(names: Sequence[str]) -> Sequence[str]:
    """The wanted fields of entities.

    :raises InputError: for an element of a list, or too many.
    """
    if any("[" in name for name in names):
        raise InputError("invalid field, array type fields are not supported")
    return not_too_many(names, "fields")


def words(texts: Sequence[str]) -> list[str]:
    """Words from repeated parameters, each perhaps several with commas between."""
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def query_in(body: dict[str, Any]) -> dict[str, Any] | None:
    """The predicate of a body; None if there is none.

    :raises InputError: if it is no object.
    """
    if "query" not in body:
        return None
    if not isinstance(found := body["query"], dict):
        raise InputError("request/body/query must be object")
    return found


def texts_in(body: dict[str, Any], name: str) -> list[str] | None:
    """A list of texts in a body; None if it is not there.

    :raises InputError: if it is anything else.
    """
    found = body.get(name)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f"request/body/{name} must be array of strings")
    return found
