"""JSON in and out of every API view, and errors as problem details (RFC 9457)."""

from __future__ import annotations

import logging
import math
import re
import uuid
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import IO, Any

import orjson
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import connections
from django.http import Http404, HttpRequest, JsonResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from rest_framework import exceptions, parsers, renderers
from rest_framework.request import Request
from rest_framework.response import Response

from base import limits
from base.errors import BadRequest, DomainError, FieldError, Forbidden, InvalidInput, NotFound

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


def _default(value: Any) -> Any:
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "as_tuple"):  # Decimal: as text, so that no digit is lost
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def dump_json(data: Any) -> bytes:
    """Plain data as JSON; `orjson.Fragment` puts ready-made JSON in without parsing it."""
    return orjson.dumps(data, default=_default, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


class JSONRenderer(renderers.BaseRenderer):
    """Renders with orjson. Ready-made JSON passes: `bytes` as a whole, `orjson.Fragment` as a part."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        return data if isinstance(data, bytes) else dump_json(data)


class JSONParser(parsers.BaseParser):
    """Parses with orjson, within `base.limits`."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """:raises BadRequest: if the body is not JSON, with line and column.
        :raises LimitExceeded: if it is too large or too deep."""
        body = stream.read(limits.MAX_BODY_BYTES + 1)
        limits.check_size(len(body), limits.MAX_BODY_BYTES, what=_("The request's body"))
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest(
                _("The body is not valid JSON: %(reason)s at line %(line)d, column %(column)d.")
                % {"reason": error.msg.split(": line ")[0], "line": error.lineno, "column": error.colno},
                line=error.lineno,
                column=error.colno,
            )
        limits.check_data(data, what=_("The request's body"))
        return data


def sane_request_id(sent: str) -> str:
    """The id that a proxy sent, if it looks like one, else a new one."""
    return sent if _REQUEST_ID.match(sent) else uuid.uuid4().hex


def request_id(request: HttpRequest | Request | None) -> str:
    """The id under which this request is logged: the proxy's `X-Request-ID` if sane, else a new one."""
    if request is None:
        return uuid.uuid4().hex
    plain: Any = getattr(request, "_request", request)
    known: str | None = getattr(plain, "request_id", None)
    if known is None:
        known = sane_request_id(plain.headers.get("X-Request-ID", ""))
        plain.request_id = known
    return known


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> Response:
    """Turn whatever an API view raised into problem details.

    Expected failures keep their code and sentence. Anything else is a bug: logged once with the request's id,
    answered with a plain sentence that names that id and nothing else.
    """
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.in_atomic_block:
            connection.set_rollback(True)
    headers: dict[str, str] = {}
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait))
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    error = as_domain_error(exc)
    if error is not None:
        if retry_after := getattr(error, "retry_after", None):
            headers["Retry-After"] = str(int(retry_after))
        return _problem_response(error.as_problem(), headers)

    request = context.get("request")
    identifier = request_id(request)
    logger.error(
        "Unexpected error in %s %s (request %s)",
        getattr(request, "method", "?"),
        getattr(request, "path", "?"),
        identifier,
        exc_info=exc,
    )
    response = _problem_response(unexpected_problem(identifier), headers)
    response._has_been_logged = True  # type: ignore[attr-defined]  # else Django logs the status once more
    return response


def unexpected_problem(identifier: str) -> dict[str, Any]:
    """Problem details of a bug: nothing but the id under which it was logged."""
    return {
        "type": "about:blank",
        "title": _("Unexpected error"),
        "status": 500,
        "detail": _(
            "Something went wrong on our side. The log has it under request %(id)s; "
            "tell an administrator if it stays."
        )
        % {"id": identifier},
        "code": "unexpected",
        "request_id": identifier,
    }


def problem_response(error: DomainError) -> JsonResponse:
    """The error as a plain Django response, for views outside of the REST framework."""
    response = JsonResponse(error.as_problem(), status=error.status, content_type=PROBLEM_JSON)
    if retry_after := getattr(error, "retry_after", None):
        response["Retry-After"] = str(int(retry_after))
    return response


def as_domain_error(exc: Exception) -> DomainError | None:
    """The exception as one of ours, or None if it is a bug."""
    if isinstance(exc, DomainError):
        return exc
    if isinstance(exc, Http404):
        return NotFound(
            str(exc.args[0]) if exc.args and isinstance(exc.args[0], str) else _("There is no such page.")
        )
    if isinstance(exc, PermissionDenied):
        return Forbidden(str(exc) or _("You may not do this."))
    if isinstance(exc, RequestDataTooBig):
        return limits.LimitExceeded(_("The request's body is too large."))
    if isinstance(exc, exceptions.ValidationError):
        errors = list(_field_errors(exc.detail, ""))
        return InvalidInput(" ".join(dict.fromkeys(str(error) for error in errors[:3])), errors=errors)
    if isinstance(exc, exceptions.APIException):
        return _FrameworkError.of(exc)
    return None


class _FrameworkError(DomainError):
    """What the REST framework raises itself: no credentials, method not allowed, throttled, ..."""

    @classmethod
    def of(cls, exc: exceptions.APIException) -> DomainError:
        code = exc.get_codes()
        name = code.replace("_", "-") if isinstance(code, str) else "error"
        title = str(type(exc).default_detail)
        if "{" in title:  # a sentence with a place for what came, which the detail names
            title = HTTPStatus(exc.status_code).phrase.capitalize()
        named = type(cls.__name__, (cls,), {"code": name, "status": exc.status_code, "title": title})
        made: DomainError = named(str(exc.detail))
        return made


def _field_errors(detail: Any, path: str) -> Iterator[FieldError]:
    if isinstance(detail, Mapping):
        for key, below in detail.items():
            if isinstance(key, int):
                here = f"{path}[{key}]"
            else:
                here = path if key == "non_field_errors" else f"{path}.{key}" if path else str(key)
            yield from _field_errors(below, here)
    elif isinstance(detail, (list, tuple)):
        for number, below in enumerate(detail):
            here = f"{path}[{number}]" if isinstance(below, (Mapping, list, tuple)) else path
            yield from _field_errors(below, here)
    else:
        yield FieldError(path, str(detail))


def _problem_response(problem: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(problem, status=problem["status"], headers=dict(headers), content_type=PROBLEM_JSON)
