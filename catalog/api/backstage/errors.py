"""Errors in the shape that Backstage's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from rest_framework.response import Response

from base.api import exception_handler
from base.errors import BadRequest

PREFIX = "/api/catalog"
_NAMES = {
    400: "InputError",
    401: "AuthenticationError",
    403: "NotAllowedError",
    404: "NotFoundError",
    409: "ConflictError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


class InputError(BadRequest):
    """The request cannot be used: 400, whatever is wrong with it."""

    code = "input-error"


def answer_error(exc: Exception, context: Mapping[str, Any]) -> Response:
    """Whatever a view raised: `{"error": {name, message}, "request": {method, url}, "response": {statusCode}}`.

    What cannot be accepted is 400 here, as is a body that is too large.
    """
    problem = exception_handler(exc, context)
    body = describe_error(context["request"], status=problem.status_code, message=_of(problem))
    status = body["response"]["statusCode"]
    headers = {
        name: problem.headers[name] for name in ("Retry-After", "WWW-Authenticate") if name in problem.headers
    }
    return Response(body, status=status, headers=headers, content_type="application/json")


def describe_error(request: HttpRequest, *, status: int, message: str) -> dict[str, Any]:
    """A failure as Backstage describes it."""
    status = 400 if status in (413, 415, 422) else status
    return {
        "error": {
            "name": _NAMES.get(status, "InternalServerError" if status >= 500 else "Error"),
            "message": message,
        },
        "request": {"method": request.method, "url": request.get_full_path().removeprefix(PREFIX)},
        "response": {"statusCode": status},
    }


def _of(problem: Response) -> str:
    data = problem.data if isinstance(problem.data, dict) else {}
    return str(data.get("detail") or data.get("title") or "")
