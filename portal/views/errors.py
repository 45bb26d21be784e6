"""Error pages, in the shell for those who signed in."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from base.api import PROBLEM_JSON, problem_response, request_id, unexpected_problem
from base.errors import BadRequest, DomainError, Forbidden, NotFound
from catalog.api.backstage import errors as backstage

logger = logging.getLogger(__name__)


def domain_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    """An expected failure as a page, or as problem details to a program."""
    if request.path.startswith("/api/"):
        return _to_program(request, error)
    titles = {403: _("Not allowed"), 404: _("Not found"), 409: _("Not now")}
    icons = {403: "lock", 404: "search"}
    signed_in = getattr(request, "user", None) is not None and request.user.is_authenticated
    return render(
        request,
        "pages/error.html" if signed_in else "pages/error_plain.html",
        {
            "title": titles.get(error.status, _("That did not work")),
            "message": error.message,
            "icon": icons.get(error.status, "alert-triangle"),
            "request_id": request_id(request),
            "status": error.status,
        },
        status=error.status,
    )


def _to_program(request: HttpRequest, error: DomainError) -> HttpResponse:
    """The same in the words that a program expects at this address."""
    if request.path.startswith(f"{backstage.PREFIX}/"):
        body = backstage.describe_error(request, status=error.status, message=error.message)
        return JsonResponse(body, status=body["response"]["statusCode"])
    return problem_response(error)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403."""
    message = getattr(exception, "message", "") or _("Ask an administrator for access.")
    return domain_error(request, Forbidden(message))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404."""
    return domain_error(request, NotFound(_("There is no page at this address.")))


def server_error(request: HttpRequest) -> HttpResponse:
    """500: without a query, for the database may be what failed."""
    logger.error("Request %s failed: %s %s", request_id(request), request.method, request.path)
    if request.path.startswith("/api/"):
        problem = unexpected_problem(request_id(request))
        if request.path.startswith(f"{backstage.PREFIX}/"):
            body = backstage.describe_error(request, status=500, message=problem["detail"])
            return JsonResponse(body, status=500)
        return JsonResponse(problem, status=500, content_type=PROBLEM_JSON)
    return _bare_page(
        request,
        title=_("Something broke"),
        message=_("It has been logged. Give this number to whoever looks after the portal."),
        status=500,
    )


def unknown_host(request: HttpRequest) -> HttpResponse:
    """400 for a request that names a host which this portal is not."""
    host = request.headers.get("Host", "")[:100]
    logger.warning("A request for the host %r was refused; see PORTICO_ALLOWED_HOSTS.", host)
    error = BadRequest(
        _("This portal does not answer to the host “%(host)s”. Whoever runs it can add that name to "
          "PORTICO_ALLOWED_HOSTS, or set PORTICO_URL to the address that people use.") % {"host": host}
    )  # fmt: skip
    if request.path.startswith("/api/"):
        return _to_program(request, error)
    return _bare_page(request, title=_("Not here"), message=error.message, status=error.status)


def _bare_page(request: HttpRequest, *, title: str, message: str, status: int) -> HttpResponse:
    """A page made without the request, for what gathers the shell around a page may be what fails."""
    page = render_to_string(
        "pages/error_plain.html",
        {
            "title": title,
            "message": message,
            "icon": "alert-triangle",
            "request_id": request_id(request),
            "status": status,
            "shell": {"title": "Portico", "nav": []},
        },
    )
    return HttpResponse(page, status=status)


class DomainErrorMiddleware:
    """Turns an expected failure in a page's view into a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return domain_error(request, exception) if isinstance(exception, DomainError) else None
