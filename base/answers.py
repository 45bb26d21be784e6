"""Ready-made answers of the API: with an ETag, and with the fields that the client wants."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

from django.http import HttpResponse
from django.utils.http import parse_etags
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer, Serializer

from base.api import dump_json
from base.errors import BadRequest, FieldError, InvalidInput, PreconditionFailed

MAX_FIELDS = 50


def plain(shape: type[Serializer[Any]], row: Any, **more: Any) -> dict[str, Any]:
    """A row in a shape, as plain data: a dict costs a tenth of a serializer, and lists are long.

    :param more: the fields that the row does not have by these names.
    """
    return {name: more[name] if name in more else getattr(row, name) for name in _fields_of(shape)}


@cache
def _fields_of(shape: type[Serializer[Any]]) -> tuple[str, ...]:
    return tuple(map(str, shape().fields))


def json_answer(request: Request, body: bytes, *, state: str = "") -> HttpResponse:
    """Ready-made JSON, or 304 when the client has it.

    :param state: the etag of an entity's state, which its representation's begins with.
    """
    tag = f'{state[:-1]}+{_hash(body)}"' if state else f'W/"{_hash(body)}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.method in {"GET", "HEAD"}:
        known = {given.removeprefix("W/") for given in parse_etags(request.headers.get("If-None-Match", ""))}
        if known & {"*", tag.removeprefix("W/")}:
            unchanged = HttpResponse(status=304, headers=headers)
            del unchanged.headers["Content-Type"]  # of nothing
            return unchanged
    return HttpResponse(body, content_type="application/json", headers=headers)


def names_state(if_match: str, etag: str) -> bool:
    """Whether an `If-Match` header names a state; what follows a `+` in a tag is the representation's."""
    return bool({re.sub(r'\+[^"]*', "", tag) for tag in parse_etags(if_match)} & {"*", etag})


def state_tag(facts: Mapping[str, Any]) -> str:
    """An etag of what people change of a thing that keeps no number of its changes."""
    return f'"{_hash(dump_json(facts))}"'


def require_state(expected: str, etag: str, what: object) -> None:
    """Let nobody change what they have not seen as it is.

    :param expected: `If-Match`; empty for any state.
    :param etag: of the present state, which the caller keeps from changing.
    :raises PreconditionFailed: if that is another one.
    """
    if expected and not names_state(expected, etag):
        raise PreconditionFailed(
            _("%(what)s was changed since you read it. Read it again, then repeat your change.")
            % {"what": what},
            current=etag,
        )


def given(request: Request, shape: type[BaseSerializer[Any]]) -> Any:
    """What the body of a request says.

    :raises InvalidInput: if it names a field that there is not: a slip of the pen must not pass for no change.
    :raises ValidationError: naming each place that does not fit the shape.
    """
    read = shape(data=request.data)
    if unknown := list(_unknown_fields(request.data, read)):
        raise InvalidInput(" ".join(map(str, unknown[:3])), errors=unknown)
    read.is_valid(raise_exception=True)
    return read.validated_data


def _unknown_fields(data: Any, shape: Any, path: str = "") -> Iterator[FieldError]:
    fields = getattr(shape, "fields", None)
    if not isinstance(data, Mapping) or fields is None:
        return
    expected = ", ".join(fields)
    for name, value in data.items():
        place = f"{path}.{name}" if path else str(name)[:60]
        if name in fields:
            yield from _unknown_fields(value, fields[name], place)
        else:
            yield FieldError(
                place, _("There is no such field; there are: %(known)s.") % {"known": expected}, expected
            )


def if_match(request: Request) -> str:
    """The state that a request wants to change; empty for any."""
    return request.headers.get("If-Match", "")


def one_answer(request: Request, shown: Mapping[str, Any], *, state: str = "") -> HttpResponse:
    """One thing with the fields that the client wants, or 304 when it has it.

    :param state: the etag of its state, which the answer's begins with: so it does for `If-Match`.
    :raises BadRequest: if `?fields=` is wrong.
    """
    if (wanted := wanted_fields(request)) is not None:
        shown = pick(shown, wanted)
    return json_answer(request, dump_json(shown), state=state)


def chosen(request: Request, name: str, known: Collection[str]) -> list[str]:
    """The words of a parameter, with commas between them; none if it is left out.

    :raises BadRequest: if one is not among those that there are.
    """
    words = [word for word in request.query_params.get(name, "").split(",") if word]
    for word in words:
        if word not in known:
            expected = ", ".join(known)
            raise BadRequest(
                _("`%(name)s` is one of %(known)s, but “%(got)s” came.")
                % {"name": name, "known": expected, "got": word[:60]},
                errors=[FieldError(name, _("Unknown."), expected=expected, got=word[:60])],
            )
    return words


def is_set(request: Request, name: str) -> bool:
    """Whether a parameter that switches something is on.

    :raises BadRequest: if it says neither yes nor no.
    """
    text = request.query_params.get(name, "")
    if text.lower() in {"1", "true", "yes"}:
        return True
    if text.lower() in {"", "0", "false", "no"}:
        return False
    raise BadRequest(
        _("`%(name)s` is 1 or 0, but “%(got)s” came.") % {"name": name, "got": text[:60]},
        errors=[FieldError(name, _("Unknown."), expected="1, 0", got=text[:60])],
    )


def _hash(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def wanted_fields(request: Request) -> list[list[str]] | None:
    """The dotted paths of `?fields=`, taken apart; None for everything.

    :raises BadRequest: if there are too many, or one is too long.
    """
    text = request.query_params.get("fields", "")
    if not text:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) > MAX_FIELDS or any(len(name) > 300 for name in names):
        raise BadRequest(_("`fields` takes at most %(max)d paths.") % {"max": MAX_FIELDS})
    return [name.split(".") for name in names]


def pick(document: Mapping[str, Any], wanted: list[list[str]]) -> dict[str, Any]:
    """The parts of a document that some dotted paths name; keys may hold dots."""
    picked: dict[str, Any] = {}
    for parts in wanted:
        _copy(document, picked, parts)
    return picked


def _copy(source: Any, target: dict[str, Any], parts: list[str]) -> None:
    if not isinstance(source, dict):
        return
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if key not in source:
            continue
        if length == len(parts):
            target[key] = source[key]
        else:
            _copy(source[key], target.setdefault(key, {}), parts[length:])
            if not target[key]:
                del target[key]
        return
