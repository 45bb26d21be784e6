"""Views of the catalog's list: kept, shared, edited, deleted and brought back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from pydantic import BaseModel, Field

from access.permissions import can
from base.errors import DomainError
from catalog.models import Entity
from portal import saved_views
from portal.forms import Form
from portal.models import SavedView
from portal.people import person
from portal.saved_views import Audience
from portal.undoing import deleted, restored
from portal.widgets.listing import GROUPS, labels_of


class ViewIn(BaseModel):
    """A view."""

    title: str = Field(
        title=gettext_noop("Name"),
        min_length=1,
        max_length=saved_views.LONGEST_TITLE,
        description=gettext_noop("As it stands in the navigation."),
    )
    description: str = Field(
        "",
        title=gettext_noop("Description"),
        max_length=500,
        description=gettext_noop("A line below the title, such as what it is for."),
    )
    audience: Literal["personal", "team", "all"] = Field(
        "personal",
        title=gettext_noop("Who sees it"),
        json_schema_extra={
            "labels": {
                "personal": gettext_noop("Me alone"),
                "team": gettext_noop("A team"),
                "all": gettext_noop("All"),
            }
        },
    )
    team: str = Field(
        "",
        title=gettext_noop("Team"),
        max_length=400,
        description=gettext_noop("Of those that you are in. Its members can edit the view, too."),
    )
    query: str = Field(
        "",
        title=gettext_noop("Query"),
        max_length=saved_views.LONGEST_QUERY,
        json_schema_extra={"format": "query", "suggest": "/search/terms"},
    )
    columns: list[str] = Field(
        default_factory=list,
        title=gettext_noop("Columns"),
        max_length=30,
        description=gettext_noop("Besides the name; none for the list's own."),
    )
    order: str = Field(
        "",
        title=gettext_noop("Sort by"),
        max_length=200,
        description=gettext_noop(
            "Fields with commas between them, a minus before one that falls: -changed,name."
        ),
    )
    group: str = Field("", title=gettext_noop("Group by"), max_length=60)


def audience_of(view: SavedView, teams: Iterable[Entity]) -> str:
    """Who sees a view, in words."""
    team = next((one.title for one in teams if one.uid == view.team_uid), "")
    if view.audience == Audience.TEAM:
        return _("A view of %(team)s") % {"team": team or _("a team")}
    return str(_("A view for all") if view.audience == Audience.ALL else _("Your own view"))


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """All views that one sees."""
    user = person(request)
    saved_views.forget_navigation()  # so that what is listed here is what the navigation has
    teams = saved_views.teams_of(user)
    rows = [
        {
            "view": view,
            "url": saved_views.list_url(view),
            "who": audience_of(view, teams),
            "may_change": saved_views.may_change(user, view),
        }
        for view in saved_views.views_of(user, teams=teams)
    ]
    return render(
        request,
        "views/index.html",
        {
            "title": _("Views"),
            "rows": rows,
            "deleted": saved_views.deleted_of(user, teams=teams),
            "days": saved_views.DELETED_STAY.days,
            "breadcrumbs": _crumbs(),
        },
    )


def _crumbs(label: str = "") -> list[dict[str, str]]:
    crumbs = [
        {"label": _("Catalog"), "url": "/catalog"},
        {"label": _("Views"), "url": "/views" if label else ""},
    ]
    return [*crumbs, *([{"label": label, "url": ""}] if label else [])]


@login_required
@require_GET
def open_view(request: HttpRequest, view_id: int) -> HttpResponse:
    """The list of a view: a link that stays while the view is edited."""
    return redirect(saved_views.list_url(saved_views.view_of(person(request), view_id)))


def _shown(request: HttpRequest) -> dict[str, Any]:
    """The list that is kept, by what its address says."""
    params = {name: str(value)[:2_000] for name, value in request.GET.items()}
    return saved_views.shown_by(params, params.get("q", "").strip())


@login_required
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Keep a list as it is shown."""
    form = Form(ViewIn, initial=_shown(request))
    if request.method == "POST":
        form = Form(ViewIn, request.POST)
        if form.is_valid():
            try:
                made = saved_views.make_view(user=person(request), **form.values)
            except DomainError as error:
                form.add_errors(error)
            else:
                messages.success(request, _("The view “%(name)s” is saved.") % {"name": made.title})
                return redirect(saved_views.list_url(made))
    return _page(request, form, title=_("Save as view"))


@login_required
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, view_id: int) -> HttpResponse:
    """Rename a view, share it, or change what it shows."""
    user = person(request)
    view = saved_views.view_of(user, view_id)
    if not saved_views.may_change(user, view):
        return redirect(saved_views.list_url(view))
    teams = saved_views.teams_of(user)
    team = next((one.ref for one in teams if one.uid == view.team_uid), "")
    form = Form(ViewIn, initial={**view.spec, "audience": view.audience, "team": team})
    if request.method == "POST":
        form = Form(ViewIn, request.POST)
        if form.is_valid():
            expected = request.POST.get("etag", "")[:100]
            try:
                saved_views.change_view(user=user, view=view, expected=expected, **form.values)
            except DomainError as error:
                form.add_errors(error)
            else:
                view.refresh_from_db()
                messages.success(request, _("The view is saved."))
                return redirect(saved_views.list_url(view))
    return _page(request, form, title=view.title, view=view, teams=teams)


def _page(
    request: HttpRequest,
    form: Form,
    *,
    title: str,
    view: SavedView | None = None,
    teams: list[Entity] | None = None,
) -> HttpResponse:
    user = person(request)
    teams = saved_views.teams_of(user) if teams is None else teams
    fields = {field["name"]: field for field in form.fields}
    may_share = can(user, saved_views.SHARE)
    who = fields["audience"]
    if not may_share:
        who["choices"] = [choice for choice in who["choices"] if choice["value"] != "all"]
        who["help"] = _("A view for all takes the permission to compose pages.")
    if teams:
        choices = [{"value": one.ref, "label": one.title} for one in teams]
        fields["team"] |= {"type": "select", "choices": choices}
    else:
        who["choices"] = [choice for choice in who["choices"] if choice["value"] != "team"]
        who["help"] = " ".join(filter(None, [who["help"], _("You are in no team of the catalog.")]))
        del fields["team"]
    named = labels_of(str(form.values.get("query") or ""))
    chosen = fields["columns"]["value"]
    order = [*chosen, *(name for name in named if name not in chosen)]
    fields["columns"] |= {
        "choices": [{"value": name, "label": named.get(name, name)} for name in order],
    }
    groups = [{"value": name, "label": labels_of("")[name]} for name in GROUPS]
    fields["group"] |= {"type": "select", "choices": groups}
    return render(
        request,
        "views/edit.html",
        {
            "title": title,
            "form": form,
            "fields": list(fields.values()),
            "view": view,
            "etag": request.POST.get("etag", "")[:100] or (saved_views.etag_of(view) if view else ""),
            "back_url": saved_views.list_url(view) if view else "/catalog",
            "link": reverse("portal:view", args=[view.pk]) if view else "",
            "breadcrumbs": _crumbs(title),
        },
        status=422 if form.errors else 200,
    )


@login_required
@require_POST
def save(request: HttpRequest, view_id: int) -> HttpResponse:
    """Have a view show what its list shows now."""
    user = person(request)
    view = saved_views.view_of(user, view_id)
    try:
        view = saved_views.change_view(user=user, view=view, **_shown(request))
    except DomainError as error:
        messages.error(request, error.message)
        return redirect(saved_views.list_url(view))
    messages.success(request, _("The view “%(name)s” is saved.") % {"name": view.title})
    return redirect(saved_views.list_url(view))


@login_required
@require_POST
def delete(request: HttpRequest, view_id: int) -> HttpResponse:
    """Take a view away; a toast takes that back."""
    user = person(request)
    view = saved_views.view_of(user, view_id)
    saved_views.delete_view(user=user, view=view)
    said = _("The view “%(name)s” is deleted.") % {"name": view.title}
    undo = reverse("portal:view-restore", args=[view.pk])
    return deleted(request, said, undo=undo, back=reverse("portal:views"))


@login_required
@require_POST
def restore(request: HttpRequest, view_id: int) -> HttpResponse:
    """Take the deletion of a view back."""
    saved_views.restore_view(user=person(request), view_id=view_id)
    return restored(request, back=reverse("portal:views"))
