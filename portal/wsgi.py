"""The WSGI application that granian serves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

ordinary = get_wsgi_application()

# What needs Django set up, by the line above.
from django.conf import settings  # noqa: E402
from django.core.handlers.wsgi import WSGIRequest  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.middleware.clickjacking import XFrameOptionsMiddleware  # noqa: E402
from django.middleware.security import SecurityMiddleware  # noqa: E402

from base.api import sane_request_id  # noqa: E402
from catalog.api.backstage import door  # noqa: E402
from portal.middleware import SecurityHeadersMiddleware  # noqa: E402


def _headers_of_all_answers() -> list[tuple[str, str]]:
    """What the middleware adds to each answer below the door's prefix."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": door.PREFIX, "wsgi.input": BytesIO()}
    request = WSGIRequest(environ | {"wsgi.url_scheme": "https" if settings.SECURE else "http"})
    answer: Callable[[HttpRequest], Any] = lambda _request: HttpResponse()  # noqa: E731
    for middleware in (XFrameOptionsMiddleware, SecurityHeadersMiddleware, SecurityMiddleware):
        answer = middleware(answer)
    return [(name, value) for name, value in answer(request).items() if name != "Content-Type"]


_HEADERS = _headers_of_all_answers()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request: by the door if that can, else through all of Django."""
    answer = door.answer(environ, hosts=settings.ALLOWED_HOSTS)
    if answer is None:
        return ordinary(environ, start_response)
    headers = [*answer.items(), *_HEADERS]
    headers.append(("X-Request-ID", sane_request_id(environ.get("HTTP_X_REQUEST_ID", ""))))
    if not answer.streaming:
        headers.append(("Content-Length", str(len(answer.content))))
    start_response(f"{answer.status_code} {answer.reason_phrase}", headers)
    return answer
