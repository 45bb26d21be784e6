"""Settings of one's own: who one is, how the portal looks, one's tokens; and what the portal is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import django
from django.conf import settings as django_settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.db import connection as database
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from kombu.exceptions import OperationalError
from pydantic import BaseModel, Field, SecretStr

from access import queries, services
from access.permissions import can, holds, require
from access.secrets import seal, unseal
from access.services import undo
from access.verbs import EVERYTHING
from base.errors import DomainError, NotFound
from catalog.permissions import person_of
from portal import links
from portal.celery import app as celery
from portal.forms import Form
from portal.people import person
from portal.templatetags.portico import DENSITIES, THEMES
from portal.views.health import missing_parts

YEAR = 31_536_000
SHOWN_ONCE = "shown_once"


class Profile(BaseModel):
    """How others see the account."""

    name: str = Field("", title=gettext_noop("Name"), max_length=200)
    email: str = Field(
        "",
        title=gettext_noop("E-mail"),
        max_length=254,
        json_schema_extra={"format": "email"},
        description=gettext_noop("Ties you to your commits and to the person in the catalog."),
    )


class Password(BaseModel):
    """A new password."""

    old: SecretStr = Field(title=gettext_noop("Present password"))
    new: SecretStr = Field(
        title=gettext_noop("New password"),
        description=gettext_noop("At least 8 characters; a sentence is best."),
    )
    again: SecretStr = Field(title=gettext_noop("New password again"))


class TokenIn(BaseModel):
    """A token for a program."""

    token_name: str = Field(
        title=gettext_noop("Name"),
        min_length=1,
        max_length=100,
        description=gettext_noop("The program that uses it, such as deploy script."),
    )
    role: str = Field(
        "",
        title=gettext_noop("Role"),
        description=gettext_noop(
            "What it may at most; never more than you may yourself. Leave empty for all of that."
        ),
    )
    namespace: str = Field(
        "",
        title=gettext_noop("Only this namespace"),
        max_length=63,
        description=gettext_noop("Leave empty for everything that you reach."),
    )
    lifetime: Literal["30d", "90d", "365d", "never"] = Field(
        "90d",
        title=gettext_noop("Expires"),
        json_schema_extra={
            "labels": {
                "30d": gettext_noop("In 30 days"),
                "90d": gettext_noop("In 90 days"),
                "365d": gettext_noop("In a year"),
                "never": gettext_noop("Never"),
            }
        },
    )


# --- what the pages share --------------------------------------------------------------------------------


def shell_of(request: HttpRequest, tab: str, *, title: str = "", parent: str = "") -> dict[str, Any]:
    """Title, tabs and breadcrumbs of the settings; only tabs that the viewer may open."""
    user = request.user
    tabs = [
        ("settings", _("You"), True),
        ("settings-tell-me", _("Tell me"), True),
        ("settings-tokens", _("Tokens"), can(user, "token.write")),
        ("settings-access", _("Access"), can(user, "user.read")),
        ("settings-kinds", _("Kinds"), can(user, "kind.write")),
        ("settings-packs", _("Packs"), can(user, "pack.write")),
        ("settings-sample", _("Sample company"), can(user, "connection.write")),
        ("settings-outbound", _("Outbound calls"), can(user, EVERYTHING)),
        ("settings-changes", _("Recent changes"), any(can(user, verb) for verb in undo.VERBS)),
        ("settings-audit", _("Audit"), can(user, "audit.read")),
        ("settings-about", _("About"), True),
    ]
    labels = {name: label for name, label, _may in tabs}
    crumbs = [{"label": _("Settings"), "url": reverse("portal:settings")}]
    if title:
        crumbs += [
            {"label": parent or labels[tab], "url": reverse(f"portal:{tab}")},
            {"label": title, "url": ""},
        ]
    return {
        "title": title or _("Settings"),
        "page_title": f"{title or labels[tab]} · {_('Settings')}",
        "tabs": [
            {"label": label, "url": reverse(f"portal:{name}"), "is_active": name == tab}
            for name, label, may in tabs
            if may
        ],
        "breadcrumbs": crumbs if title else None,
    }


def show_once(request: HttpRequest, what: str, text: str) -> None:
    """Keep a secret sealed in the session for the page that shows it, once."""
    request.session[SHOWN_ONCE] = {what: seal(text)}


def shown_once(request: HttpRequest, what: str) -> str:
    """The secret that was kept to be shown now, which it is not again."""
    kept = request.session.get(SHOWN_ONCE, {})
    if what not in kept:
        return ""
    del request.session[SHOWN_ONCE]
    return unseal(kept[what])


# --- you ------------------------------------------------------------------------------------------------


@sensitive_post_parameters("old", "new", "again")
@login_required
@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """One's own name, password and looks."""
    user = person(request)
    action = request.POST.get("action", "")
    profile = Form(Profile, initial={"name": user.name, "email": user.email})
    password = Form(Password)
    if action == "profile":
        profile = Form(Profile, request.POST)
        if profile.is_valid():
            try:
                services.change_user(user, **profile.values, by=user)
            except DomainError as error:
                profile.add_errors(error)
            else:
                messages.success(request, _("Your profile is saved."))
                return redirect("portal:settings")
    elif action == "password":
        password = Form(Password, request.POST)
        if password.is_valid() and _has_changed_password(request, password):
            messages.success(request, _("Your password is changed. Sessions elsewhere have ended."))
            return redirect("portal:settings")
    entity = person_of(user)
    return render(
        request,
        "settings/you.html",
        shell_of(request, "settings")
        | {
            "profile": profile,
            "password_form": password,
            "password_fields": [field | {"type": "password"} for field in _as_passwords(password)],
            "grants": list(queries.list_grants(viewer=user, user=user)),
            "chip": links.chip(entity.ref, entity) if entity else None,
        },
        status=422 if profile.errors or password.errors else 200,
    )


def _as_passwords(form: Form) -> list[dict[str, Any]]:
    complete = {"old": "current-password", "new": "new-password", "again": "new-password"}
    return [field | {"autocomplete": complete[field["name"]], "is_set": False} for field in form.fields]


def _has_changed_password(request: HttpRequest, form: Form) -> bool:
    user, given = person(request), form.secrets
    if not user.check_password(given["old"]):
        form.errors["old"] = [_("This is not your present password.")]
    elif given["new"] != given["again"]:
        form.errors["again"] = [_("The two passwords are not the same. Type it twice alike.")]
    else:
        try:
            services.set_password(user, password=given["new"], by=user)
        except DomainError as error:
            form.errors["new"] = [item.message for item in error.errors] or [error.message]
        else:
            update_session_auth_hash(request, user)
            return True
    return False


@login_required
@require_POST
def look(request: HttpRequest) -> HttpResponse:
    """Theme, row height and keyboard of this browser, for those without script."""
    response = redirect("portal:settings")
    allowed = {"po_theme": THEMES, "po_density": DENSITIES, "po_keys": ("on", "off")}
    for name, values in allowed.items():
        if (value := request.POST.get(name, "")) in values:
            response.set_cookie(name, value, max_age=YEAR, samesite="Lax", secure=django_settings.SECURE)
    return response


# --- tokens ---------------------------------------------------------------------------------------------


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """One's own tokens; a new one is shown once."""
    require(request.user, "token.write")
    user = person(request)
    form = Form(TokenIn)
    if request.method == "POST":
        form = Form(TokenIn, request.POST)
        if form.is_valid():
            try:
                made = _make_token(request, form)
            except DomainError as error:
                form.add_errors(error)
            else:
                show_once(request, "token", made.text)
                messages.success(request, _("The token is made. Copy it now: it is shown only this once."))
                return redirect("portal:settings-tokens")
    roles = [role for role in queries.list_roles(viewer=user) if holds(user, role.verbs)]
    fields = {field["name"]: field for field in form.fields}
    fields["role"] |= {
        "type": "select",
        "choices": [{"value": role.name, "label": role.title} for role in roles],
    }
    return render(
        request,
        "settings/tokens.html",
        shell_of(request, "settings-tokens")
        | {
            "form": form,
            "fields": list(fields.values()),
            "tokens": list(queries.tokens_of(user)),
            "new_token": shown_once(request, "token"),
            "now": timezone.now(),
        },
        status=422 if form.errors else 200,
    )


def _make_token(request: HttpRequest, form: Form) -> services.NewToken:
    user, values = person(request), form.values
    life = services.lifetime(values["lifetime"])
    return services.create_token(
        user=user,
        name=values["token_name"],
        role=values["role"] or None,
        scope_type="namespace" if values["namespace"] else "all",
        scope=values["namespace"],
        expires_at=timezone.now() + life if life else None,
        by=user,
    )


@login_required
@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    """End one of one's own tokens."""
    require(request.user, "token.write")
    token = queries.tokens_of(person(request)).filter(pk=token_id).first()
    if token is None:
        raise NotFound(_("You have no such token."))
    services.revoke_token(token, by=person(request))
    messages.success(request, _("The token %(name)s is revoked.") % {"name": token.name})
    return redirect("portal:settings-tokens")


# --- about ----------------------------------------------------------------------------------------------


def _version() -> str:
    try:
        return version("portico")
    except PackageNotFoundError:
        return ""


def _workers() -> int:
    """How many workers answer within a moment."""
    try:
        return len(celery.control.inspect(timeout=0.5).ping() or {})
    except (OSError, OperationalError):
        return 0


@login_required
@require_GET
def about(request: HttpRequest) -> HttpResponse:
    """Which version this is, and whether it has all that it needs."""
    missing, workers = missing_parts(), _workers()
    with database.cursor() as cursor:
        cursor.execute("SHOW server_version")
        server = cursor.fetchone()[0].split(" ")[0]
    return render(
        request,
        "settings/about.html",
        shell_of(request, "settings-about")
        | {
            "version": _version(),
            "facts": [
                {"label": "Python", "value": platform.python_version()},
                {"label": "Django", "value": django.__version__},
                {"label": "PostgreSQL", "value": server},
                {"label": _("Address"), "value": django_settings.PORTICO_URL or _("not set (PORTICO_URL)")},
                {"label": _("Time"), "value": timezone.now().strftime("%Y-%m-%d %H:%M %Z")},
            ],
            "parts": [
                {"label": _("Database"), "ok": "database" not in missing},
                {"label": _("Redis"), "ok": "redis" not in missing},
                {"label": _("Workers"), "ok": bool(workers), "detail": str(workers)},
            ],
            "may_read_metrics": can(request.user, "audit.read"),
        },
    )
