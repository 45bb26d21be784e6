"""Notes which request is being answered, so that the audit log knows who, from where and under which id."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from access.actors import answering
from base.api import request_id


class RequestContextMiddleware:
    """Answers carry the request's id as `X-Request-ID`. Place it after the session's authentication."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        identifier = request_id(request)
        with answering(request):
            response = self.get_response(request)
        response.headers["X-Request-ID"] = identifier
        return response
