"""What is around every page: navigation, counts, the state of syncing."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.models import User
from access.permissions import can
from catalog import queries
from integrations.queries import SyncHealth, sync_health
from portal import links
from portal.bookmarks import bookmarks_of
from portal.saved_views import IN_NAVIGATION, navigation_of
from portal.sources import visible_connections

FAVOURITES = 8


def context(request: HttpRequest) -> dict[str, Any]:
    """The template variable `shell`, made once a request: each widget's template asks for it."""
    known: dict[str, Any] | None = getattr(request, "portico_shell", None)
    if known is None:
        known = _shell(request)
        request.portico_shell = known  # type: ignore[attr-defined]
    return {"shell": known}


def _shell(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"title": "Portico", "nav": [], "sign_in_url": reverse("portal:sign-in")}
    problems, failing = queries.count_problems(user)
    health = sync_health(visible_connections(request))
    nav: list[dict[str, Any]] = [
        {
            "title": "",
            "items": [
                _item(request, _("Home"), "/", "home", exact=True),
                _item(request, _("Catalog"), "/catalog", "cube"),
                _item(request, _("Graph"), "/graph", "topology-star-3"),
                *(
                    [_item(request, _("Activity"), "/activity", "activity")]
                    if queries.delivered_types()
                    else []
                ),
                {
                    **_item(request, _("Problems"), "/problems", "alert-triangle", count=problems),
                    "is_failing": failing > 0,
                },
            ],
        }
    ]
    if views := navigation_of(user):
        shown = int(request.GET["view"]) if request.GET.get("view", "").isdecimal() else 0
        items: list[dict[str, Any]] = [
            {"label": view.title, "url": view.url, "icon": "bookmark", "is_active": view.id == shown}
            for view in views[:IN_NAVIGATION]
        ]
        items.append(_item(request, _("All views"), "/views", "list", exact=True))
        nav.append({"title": _("Views"), "items": items})
    manage = []
    if can(user, "connection.read"):
        manage.append(
            _item(
                request,
                _("Connections"),
                "/connections",
                "plug-connected",
                count=health.total if health else 0,
            )
        )
    manage.append(_item(request, _("Settings"), "/settings", "settings"))
    nav.append({"title": _("Manage"), "items": manage})
    shell: dict[str, Any] = {"title": "Portico", "nav": nav, "user_name": user.label}
    create = []
    if can(user, "connection.write"):
        create += [
            {"label": _("Connect a tool"), "url": "/connections/new", "icon": "plug-connected"},
            {"label": _("Import catalog files"), "url": "/connections/import", "icon": "upload"},
        ]
    if can(user, "entity.write"):
        create.append({"label": _("New entity"), "url": "/catalog/new", "icon": "cube"})
    if can(user, "user.write"):
        url = "/settings/access?invite=1"
        create.append({"label": _("Invite a colleague"), "url": url, "icon": "user-plus"})
    shell["create"] = create
    if health is not None:
        shell["sync"] = _sync(health)
    return shell


def favourites(user: User) -> dict[str, Any]:
    """What the sidebar shows of a person's favourites, to be put in its place beside another answer."""
    found = bookmarks_of(user, with_recent=False).favourites[:FAVOURITES]
    return {"favourites": [links.chip(entity.ref, entity) for entity in found], "is_oob": True}


def _item(
    request: HttpRequest, label: str, url: str, icon: str, *, count: int = 0, exact: bool = False
) -> dict[str, Any]:
    active = request.path == url if exact else request.path == url or request.path.startswith(f"{url}/")
    return {"label": label, "url": url, "icon": icon, "count": count or None, "is_active": active}


def _sync(health: SyncHealth) -> dict[str, Any]:
    if health.running:
        label = _("Syncing %(name)s") % {"name": health.running}
        if health.expected:
            label += _(" · %(done)d of %(expected)d") % {"done": health.done, "expected": health.expected}
    elif health.failing:
        label = ngettext(
            "%(failing)d of %(total)d connections needs you",
            "%(failing)d of %(total)d connections need you",
            health.failing,
        ) % {"failing": health.failing, "total": health.total}
    else:
        label = ngettext("The connection is synced", "All connections synced", health.total)
    tone = "run" if health.running else health.level
    return {"tone": tone, "level": health.level, "label": label, "url": "/connections"}
