"""Signing in and out."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from access.actors import client_address
from access.models import IdentityProvider, User
from access.services import find_sign_in_link, identity_provider, redeem_sign_in_link
from access.services import sign_in as check_sign_in
from base.errors import DomainError, Forbidden, InvalidInput
from catalog.services.people import tie_by_email

BACKEND = "django.contrib.auth.backends.ModelBackend"


def active_provider() -> IdentityProvider | None:
    """The identity provider, if people may sign in through it at present."""
    provider = identity_provider()
    return provider if provider and provider.is_active else None


def enter(request: HttpRequest, user: User) -> None:
    """Start the session of somebody who proved who they are; the catalog may know them by now."""
    tie_by_email(user)
    request.session.set_expiry(None)  # what was begun and given up ends sooner
    login(request, user, backend=BACKEND)


def next_page(request: HttpRequest) -> str:
    """Where the person wanted to go, if it is a page of ours."""
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if safe else "/"


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in with name and password."""
    if request.user.is_authenticated:
        return HttpResponseRedirect(next_page(request))  # an address, never a view's name
    values: dict[str, Any] = {
        "username": "",
        "next": next_page(request),
        "error": "",
        "provider": active_provider(),
    }
    if request.method == "POST":
        values["username"] = request.POST.get("username", "")[:200]
        try:
            user = check_sign_in(
                username=values["username"],
                password=request.POST.get("password", "")[:1_000],
                address=client_address(request),
            )
        except DomainError as error:
            values["error"] = error.message
            return render(request, "accounts/sign_in.html", values, status=error.status)
        enter(request, user)
        return HttpResponseRedirect(values["next"])
    return render(request, "accounts/sign_in.html", values)


def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """Lead those who want into Django's admin to the portal's own sign-in; who is signed in lacks the right."""
    if request.user.is_authenticated:
        raise Forbidden(_("Django's admin is for administrators. Ask one of them for access."))
    return redirect(f"{reverse('portal:sign-in')}?{urlencode({'next': next_page(request)})}")


@never_cache
@sensitive_post_parameters("password", "again")
@require_http_methods(["GET", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """The one-time link: asks for name and password, then signs in."""
    values: dict[str, Any] = {"name": "", "errors": {}, "error": ""}
    try:
        link = find_sign_in_link(token)
    except DomainError as error:
        return render(request, "accounts/link_gone.html", {"message": error.message}, status=error.status)
    values |= {
        "username": link.user.username,
        "name": link.user.name,
        "is_reset": link.purpose == link.Purpose.RESET,
        "provider": active_provider(),
        "provider_url": reverse("portal:sign-in-link-provider", kwargs={"token": token}),
        "inviter": link.made_by.label if link.made_by and link.purpose == link.Purpose.INVITE else "",
    }
    if request.method == "POST":
        values["name"] = request.POST.get("name", "")[:200]
        password = request.POST.get("password", "")[:1_000]
        try:
            if password != request.POST.get("again", ""):
                raise InvalidInput(_("The two passwords are not the same. Type it twice alike."))
            user = redeem_sign_in_link(token=token, name=values["name"], password=password)
        except DomainError as error:
            values["error"] = error.message
            values["errors"] = {item.path.strip("/"): item.message for item in error.errors or []}
            return render(request, "accounts/link.html", values, status=error.status)
        enter(request, user)
        return redirect("/")
    return render(request, "accounts/link.html", values)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("portal:sign-in")
