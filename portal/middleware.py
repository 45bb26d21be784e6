"""What holds for every request: what a page of ours may do in the browser, and what no request may hold."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from base.errors import BadRequest, FieldError
from base.openapi import parameters_of
from portal.views.errors import domain_error, unknown_host

# Nothing but what is named: no inline script, no inline style, no other host. Images may stand in the page
# itself (`data:`), since a stylesheet draws some.
POLICY = "; ".join(
    f"{name} {value}"
    for name, value in {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "font-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "worker-src": "'self'",
        "manifest-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }.items()
)


class ProxyMiddleware:
    """Settles who asks, and by which scheme, before anybody else looks.

    What a proxy says in `X-Forwarded-For` and `X-Forwarded-Proto` is taken from those that are trusted, and removed
    from all others. `X-Forwarded-Host` and the like are never read: a proxy passes the host on as it came. A request
    for the host of an https `PORTICO_URL` came by https, unless a trusted proxy knows better.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        meta = request.META
        said = {name: meta.pop(name) for name in list(meta) if name.startswith("HTTP_X_FORWARDED_")}
        if self._is_trusted(meta.get("REMOTE_ADDR", "")):
            meta["REMOTE_ADDR"] = self._client(said.get("HTTP_X_FORWARDED_FOR", "")) or meta["REMOTE_ADDR"]
            if scheme := said.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower():
                meta["HTTP_X_FORWARDED_PROTO"] = scheme
        public = urlsplit(settings.PORTICO_URL)
        if public.scheme == "https" and _host_of(meta.get("HTTP_HOST", "")) == public.hostname:
            meta["wsgi.url_scheme"] = "https"
            if meta["HTTP_HOST"].lower() == public.hostname:  # a proxy may leave the port out
                meta["HTTP_HOST"] = public.netloc
        return self.get_response(request)

    @classmethod
    def _client(cls, chain: str) -> str:
        """The nearest address that is no proxy of ours: what stands before it is the client's own word."""
        nearest = ""
        for text in reversed(chain.split(",")):
            nearest = text.strip()
            if not cls._is_trusted(nearest):
                break
        return nearest

    @staticmethod
    def _is_trusted(text: str) -> bool:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in settings.TRUSTED_PROXIES)


def _host_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class SecurityHeadersMiddleware:
    """Adds the content policy and switches off what no page uses."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.headers.setdefault(
            "Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
        )
        return response


class RefuseHostMiddleware:
    """Answers a request for a host that the portal is not with a sentence that says what to set."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            request.get_host()
        except DisallowedHost:
            return unknown_host(request)
        return self.get_response(request)


class ZoneMiddleware:
    """Writes times in pages as the clock of whoever reads them shows them; its zone the browser says in a cookie.

    APIs answer alike whoever asks.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.COOKIES.get("po_zone", "")
        if not name or request.path_info.startswith("/api/"):
            return self.get_response(request)
        try:
            zone = ZoneInfo(name[:64])
        except (ValueError, OSError, ZoneInfoNotFoundError):
            return self.get_response(request)
        with timezone.override(zone):
            return self.get_response(request)


class RefuseNulMiddleware:
    """Refuses requests whose address or form holds the character NUL: nothing is named by it, or can hold it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\0" in request.path_info or any(_has_nul(values) for values in request.GET.lists()):
            return self._refuse(request)
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], *_given: Any
    ) -> HttpResponse | None:
        # What is no page of ours takes no forms, and reads its body itself.
        if getattr(view, "csrf_exempt", False):
            return None
        is_form = request.content_type in {"application/x-www-form-urlencoded", "multipart/form-data"}
        if is_form and any(_has_nul(values) for values in request.POST.lists()):
            return self._refuse(request)
        return None

    @staticmethod
    def _refuse(request: HttpRequest) -> HttpResponse:
        return domain_error(
            request,
            BadRequest(_("The request holds the character NUL (U+0000), which nothing can. Take it out.")),
        )


class RefuseUnknownParametersMiddleware:
    """Refuses parameters that an address of the API does not have: a slip of the pen must not list everything."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_given: Any) -> HttpResponse | None:
        if not request.GET or not request.path_info.startswith("/api/v1/"):
            return None
        assert request.resolver_match is not None
        known = parameters_of(request.resolver_match.route, request.method or "")
        unknown = sorted(set(request.GET) - known) if known is not None else []
        if not unknown:
            return None
        expected = ", ".join(sorted(known or ())) or _("none")
        return domain_error(
            request,
            BadRequest(
                _("There is no parameter “%(name)s” here; there are: %(known)s.")
                % {"name": unknown[0][:60], "known": expected},
                errors=[FieldError(name[:60], _("Unknown."), expected=expected) for name in unknown],
            ),
        )


def _has_nul(named: tuple[str, list[str]]) -> bool:
    name, values = named
    return "\0" in name or any("\0" in value for value in values)
