"""Kinds in the settings: what fields they have, and new versions of them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop
from django.views.decorators.http import require_GET, require_http_methods
from pydantic import BaseModel, Field

from access.permissions import require, visible
from base.errors import DomainError
from catalog import queries
from catalog.documents.fields import SHOWN
from catalog.kinds import current_kinds
from catalog.models import Kind, KindChange
from catalog.services import kind_changes
from catalog.services.kind_changes import VERB
from portal import links
from portal.forms import Form
from portal.kinds import fields_of, get_change, kind_called, waiting_changes
from portal.people import person
from portal.views.settings import shell_of


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """All kinds, with how many entities and fields each has."""
    require(request.user, VERB)
    counts = queries.counts_by_kind(request.user)
    rows = [
        {
            "kind": kind,
            "definition": kind.definition,
            "url": reverse("portal:settings-kind", args=[kind.name]),
            "entities": counts.get(kind.name, 0),
            "list_url": links.catalog_url(f"kind:{kind.name}"),
            "fields": len(fields_of(kind)),
            "added": len(kind.fields),
        }
        for kind in sorted(current_kinds(), key=lambda kind: kind.definition.plural)
    ]
    return render(
        request,
        "settings/kinds.html",
        shell_of(request, "settings-kinds") | {"rows": rows, "waiting": waiting_changes(request.user)},
    )


@login_required
@require_GET
def kind(request: HttpRequest, kind: str) -> HttpResponse:
    """One kind: its fields and relations."""
    require(request.user, VERB)
    found = kind_called(kind)
    fields = fields_of(found)
    return render(
        request,
        "settings/kind.html",
        shell_of(request, "settings-kinds", title=found.definition.title)
        | {
            "found": found,
            "own": [one for one in fields if one.added is None],
            "added": [
                {
                    "field": one,
                    "shown": ", ".join(str(_PLACES[place]) for place in SHOWN if place in added.shown),
                }
                for added in found.fields
                for one in fields
                if one.added is added
            ],
            "list_url": links.catalog_url(f"kind:{found.name}"),
            "changes": visible(request.user, KindChange.objects.filter(kind=found.name), VERB).order_by(
                "-made_at"
            )[:10],
        },
    )


_PLACES = {
    "page": gettext_lazy("on its page"),
    "list": gettext_lazy("in lists"),
    "filter": gettext_lazy("as a filter"),
}


# --- new versions -----------------------------------------------------------------------------------------


class DefinitionIn(BaseModel):
    """A kind's definition as it is to be."""

    spec: dict[str, Any] = Field(
        title=gettext_noop("Definition"),
        description=gettext_noop("Raise its version, and say under upgrades how old documents become new."),
        json_schema_extra={"format": "yaml"},
    )


@login_required
@require_http_methods(["GET", "POST"])
def propose(request: HttpRequest, kind: str) -> HttpResponse:
    """Write a new version of a kind, and have it checked on all stored entities."""
    require(request.user, VERB)
    found = kind_called(kind)
    name = found.definition.definition
    form = Form(DefinitionIn, initial={"spec": Kind.objects.get(name=name).spec})
    if request.method == "POST":
        form = Form(DefinitionIn, request.POST)
        if form.is_valid():
            try:
                made = kind_changes.propose(user=person(request), name=name, spec=form.values["spec"])
            except DomainError as error:
                form.errors["spec"] = [f"{item.path}: {item.message}" for item in error.errors] or [
                    error.message
                ]
            else:
                return redirect("portal:settings-kind-change", change_id=made.pk)
    fields = [{**field, "rows": 24} for field in form.fields]
    return render(
        request,
        "settings/kind_propose.html",
        shell_of(
            request, "settings-kinds", title=_("New version of %(kind)s") % {"kind": found.definition.title}
        )
        | {
            "form": form,
            "fields": fields,
            "back_url": reverse("portal:settings-kind", args=[found.name]),
        },
        status=422 if form.errors else 200,
    )


@login_required
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, change_id: int) -> HttpResponse:
    """What a change of a kind would break; apply it, or let it be; how far it is."""
    require(request.user, VERB)
    found = get_change(request.user, change_id)
    error = ""
    if request.method == "POST":
        try:
            if request.POST.get("action") == "check":
                kind_changes.check_again(user=person(request), change=found)
                return redirect("portal:settings-kind-change", change_id=change_id)
            if request.POST.get("action") == "cancel":
                kind_changes.cancel(user=person(request), change=found)
                return redirect("portal:settings-kind", kind=found.kind)
            kind_changes.apply_change(
                user=person(request), change=found, anyway=request.POST.get("anyway") == "1"
            )
            return redirect("portal:settings-kind-change", change_id=change_id)
        except DomainError as failure:
            error = failure.message
    refs = {ref for reason in found.report for ref in reason["refs"]}
    titles = queries.titles_of(request.user, refs)
    words = {"kind": found.spec["kind"], "version": found.spec.get("version", 1)}
    return render(
        request,
        "settings/kind_change.html",
        shell_of(request, "settings-kinds", title=_("%(kind)s, version %(version)d") % words)
        | {
            "change": found,
            "is_active": found.is_active,
            "reasons": [
                {**reason, "chips": [links.chip(ref, titles.get(ref)) for ref in reason["refs"]]}
                for reason in found.report
            ],
            "error": error,
            "back_url": reverse("portal:settings-kind", args=[found.kind]),
        },
        status=409 if error else 200,
    )
