"""Signing in through the identity provider, and its settings."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods
from pydantic import BaseModel, Field, SecretStr

from access import services
from access.models import User
from access.permissions import require
from access.verbs import EVERYTHING
from base.errors import DomainError, NotFound
from integrations import openid
from portal import links
from portal.forms import Form
from portal.people import person
from portal.views.access_settings import access_part
from portal.views.accounts import active_provider, enter, next_page

FLOWS = "sign_ins"  # those that were begun in this browser, by state
AT_ONCE = 5
LONGEST = 15 * 60  # seconds


class Provider(BaseModel):
    """Where people sign in, and what that gives them."""

    label: str = Field(
        title=gettext_noop("Name"),
        min_length=1,
        max_length=100,
        description=gettext_noop("As people call it. The button says: Continue with ..."),
        json_schema_extra={"placeholder": "Acme sign-in"},
    )
    issuer: str = Field(
        title=gettext_noop("Issuer"),
        min_length=1,
        max_length=500,
        description=gettext_noop("Its address, without /.well-known/openid-configuration."),
        json_schema_extra={"placeholder": "https://login.acme.example"},
    )
    client_id: str = Field(title=gettext_noop("Client id"), min_length=1, max_length=300)
    client_secret: SecretStr | None = Field(
        None,
        title=gettext_noop("Client secret"),
        description=gettext_noop("Kept encrypted. Leave empty for a public client."),
    )
    scopes: str = Field("openid email profile", title=gettext_noop("Scopes"), max_length=300)
    groups_claim: str = Field(
        "groups",
        title=gettext_noop("Claim for groups"),
        max_length=200,
        description=gettext_noop("A claim's name, or the way to it: realm_access.roles. Empty for none."),
    )
    roles: dict[str, str] = Field(
        {"*": "viewer"},
        title=gettext_noop("Roles by group"),
        description=gettext_noop(
            "A group there, and the name of the role that it gives here for everything. * is everybody. It is "
            "looked at each time somebody signs in, and taken back as well."
        ),
    )
    access_groups: dict[str, str] = Field(
        {},
        title=gettext_noop("Access groups by group"),
        description=gettext_noop("A group there, and the access group here that it leads into."),
    )
    email_domains: list[str] = Field(
        [],
        title=gettext_noop("Only addresses of"),
        description=gettext_noop("Domains such as acme.example; others cannot sign in. Empty for all."),
    )
    makes_accounts: bool = Field(False, title=gettext_noop("Make an account for who has none"))
    trusts_email: bool = Field(
        False,
        title=gettext_noop("Addresses are verified even if it does not say so"),
        description=gettext_noop("Only where nobody can enter an address of their own choice there."),
    )
    is_active: bool = Field(True, title=gettext_noop("People can sign in this way"))


# --- signing in -----------------------------------------------------------------------------------------


@never_cache
@require_GET
def begin(request: HttpRequest, token: str = "") -> HttpResponse:
    """Lead somebody to the provider, perhaps with the sign-in link that they hold."""
    provider = active_provider()
    if provider is None:
        raise NotFound(_("Nobody signs in through an identity provider here."))
    if not token and request.user.is_authenticated:
        return HttpResponseRedirect(next_page(request))
    try:
        link = services.find_sign_in_link(token) if token else None
        begun = openid.begin_sign_in(provider, redirect_uri=_callback(request))
    except DomainError as error:
        return _refused(request, error, next_page(request))
    if not request.user.is_authenticated:
        request.session.set_expiry(LONGEST)
    now = timezone.now().timestamp()
    flows = {state: flow for state, flow in request.session.get(FLOWS, {}).items() if flow["until"] > now}
    kept = list(flows.items())[-(AT_ONCE - 1) :]
    request.session[FLOWS] = dict(kept) | {
        begun.state: {
            "nonce": begun.nonce,
            "verifier": begun.verifier,
            "next": next_page(request),
            "link": link.pk if link else None,
            "until": now + LONGEST,
        }
    }
    return HttpResponseRedirect(begun.url)


@never_cache
@require_GET
def finish(request: HttpRequest) -> HttpResponse:
    """Somebody comes back from the provider."""
    flows = request.session.get(FLOWS, {})
    flow = flows.pop(request.GET.get("state", ""), None)
    request.session[FLOWS] = flows  # each state once
    try:
        if flow is None or flow["until"] < timezone.now().timestamp():
            raise openid.SignInFailed(
                _(
                    "This sign-in was not begun in this browser, took too long, or was used before. Start again."
                )
            )
        user = _who_came(request, flow)
    except DomainError as error:
        return _refused(request, error, flow["next"] if flow else "/")
    del request.session[FLOWS]
    enter(request, user)
    return HttpResponseRedirect(flow["next"])


def _who_came(request: HttpRequest, flow: dict[str, Any]) -> User:
    provider = active_provider()
    if provider is None:
        raise NotFound(_("Nobody signs in through an identity provider here."))
    if error := request.GET.get("error", ""):
        known = error[:60] if re.fullmatch(r"[a-z_]{1,60}", error) else _("an error")
        raise openid.SignInFailed(
            _("%(provider)s did not sign you in: %(error)s.") % {"provider": provider.label, "error": known}
        )
    link = services.sign_in_link_again(flow["link"]) if flow["link"] else None
    found = openid.finish_sign_in(
        provider,
        secret=services.provider_secret(),
        code=request.GET.get("code", ""),
        nonce=flow["nonce"],
        verifier=flow["verifier"],
        redirect_uri=_callback(request),
    )
    return services.sign_in_person(found, provider=provider, link=link)


def _callback(request: HttpRequest) -> str:
    return links.absolute(request, reverse("portal:sign-in-callback"))


def _refused(request: HttpRequest, error: DomainError, next_url: str) -> HttpResponse:
    values = {"username": "", "next": next_url, "error": error.message, "provider": active_provider()}
    return render(request, "accounts/sign_in.html", values, status=error.status)


# --- the settings ---------------------------------------------------------------------------------------


@sensitive_post_parameters("client_secret")
@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def provider(request: HttpRequest) -> HttpResponse:
    """The identity provider: where it is, who may come through it, what its groups give."""
    # Who says which provider is believed can sign in as anybody.
    require(request.user, EVERYTHING)
    row = services.identity_provider()
    kept = {"client_secret": secret} if (secret := services.provider_secret()) else {}
    initial = (
        {name: getattr(row, name) for name in Provider.model_fields if hasattr(row, name)} if row else {}
    )
    form = Form(Provider, initial=initial, secrets=kept)
    if request.POST.get("action") == "remove":
        services.remove_provider(by=person(request))
        messages.success(request, _("Nobody signs in through an identity provider any more."))
        return redirect("portal:settings-provider")
    if request.method == "POST":
        form = Form(Provider, request.POST, secrets={} if request.POST.get("forget") else kept)
        if form.is_valid() and _has_saved(request, form):
            messages.success(request, _("The provider answers, and the settings are saved."))
            return redirect("portal:settings-provider")
    return render(
        request,
        "settings/provider.html",
        access_part(request, "sign-in")
        | {
            "form": form,
            "fields": [
                field | {"forget": field["name"] == "client_secret"} if field["type"] == "secret" else field
                for field in form.fields
            ],
            "row": row,
            "callback": _callback(request),
        },
        status=422 if form.errors else 200,
    )


def _has_saved(request: HttpRequest, form: Form) -> bool:
    facts = {name: value for name, value in form.values.items() if name != "client_secret"}
    try:
        openid.connect_provider(facts, secret=form.secrets.get("client_secret", ""), by=person(request))
    except DomainError as error:
        form.add_errors(error)
        return False
    return True
