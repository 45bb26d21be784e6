"""Types of relations in the settings, and how they are checked."""

from __future__ import annotations

from typing import Any, Literal

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_GET, require_http_methods
from pydantic import BaseModel, Field

from access.permissions import require, visible
from base.errors import DomainError
from catalog.kinds import current_kinds
from catalog.models import Problem, Relation, RelationType
from catalog.services.kind_changes import VERB
from portal.forms import Form
from portal.kinds import get_relation_type
from portal.packs import edit_definition, etag_of
from portal.people import person
from portal.views.settings import shell_of

_MODES = {"off": gettext_noop("Off"), "warn": gettext_noop("Warn"), "enforce": gettext_noop("Enforce")}


class RelationIn(BaseModel):
    """How relations of a type are checked."""

    check: Literal["off", "warn", "enforce"] = Field(
        "off",
        title=gettext_noop("Check"),
        description=gettext_noop(
            "Enforced, it is refused where people and programs edit; what files say is a problem."
        ),
        json_schema_extra={"labels": {**_MODES}},
    )
    source_kinds: list[str] = Field(
        default_factory=list,
        title=gettext_noop("From"),
        description=gettext_noop("The kinds that it goes out from; empty for any."),
    )
    target_kinds: list[str] = Field(
        default_factory=list,
        title=gettext_noop("To"),
        description=gettext_noop("The kinds that it leads to; empty for what the kind's field says."),
    )
    most: int | None = Field(None, ge=1, title=gettext_noop("At most so many of one thing"))
    inverse_most: int | None = Field(None, ge=1, title=gettext_noop("At most so many to one thing"))


_KEYS = {
    "check": "check",
    "source_kinds": "sourceKinds",
    "target_kinds": "targetKinds",
    "most": "most",
    "inverse_most": "inverseMost",
}


@login_required
@require_GET
def relations(request: HttpRequest) -> HttpResponse:
    """The types of relations: how many there are of each, how each is checked, and what that found."""
    require(request.user, VERB)
    counts = _by(visible(request.user, Relation.objects.all()), "type")
    found = Problem.objects.filter(type__in=["relation", "too-many"], resolved_at=None)
    wrong = _by(visible(request.user, found), "detail__type")
    rows = [
        {
            "row": row,
            "inverse": row.spec["inverse"],
            "mode": _(_MODES[row.spec.get("check", "off")]),
            "count": counts.get(row.spec.get("type") or row.name, 0),
            "wrong": wrong.get(row.spec.get("type") or row.name, 0),
        }
        for row in visible(request.user, RelationType.objects.order_by("name"))
    ]
    return render(
        request,
        "settings/relations.html",
        shell_of(request, "settings-kinds", title=_("Relations")) | {"rows": rows},
    )


def _by(rows: QuerySet[Any], field: str) -> dict[str, int]:
    return dict(rows.order_by().values_list(field).annotate(n=Count("pk")))


@login_required
@require_http_methods(["GET", "POST"])
def relation(request: HttpRequest, name: str) -> HttpResponse:
    """How relations of one type are checked."""
    require(request.user, VERB)
    row = get_relation_type(request.user, name)
    form = Form(RelationIn, initial={field: row.spec[key] for field, key in _KEYS.items() if key in row.spec})
    if request.method == "POST":
        form = Form(RelationIn, request.POST)
        if form.is_valid():
            said = {key: form.values[field] for field, key in _KEYS.items()}
            spec = {key: value for key, value in row.spec.items() if key not in said}
            spec |= {key: value for key, value in said.items() if value not in (None, [], "off")}
            try:
                edit_definition(
                    kind="RelationType",
                    name=name,
                    spec=spec,
                    by=person(request).label,
                    expected=request.POST.get("etag", ""),
                )
            except DomainError as error:
                form.errors[""] = [str(item) for item in error.errors] or [error.message]
            else:
                messages.success(request, _("The check of %(name)s is saved.") % {"name": name})
                return redirect("portal:settings-relations")
    return render(
        request,
        "settings/relation.html",
        shell_of(request, "settings-kinds", title=name)
        | {
            "form": form,
            "row": row,
            "etag": etag_of(row),
            "kinds": sorted(kind.title_case for kind in current_kinds()),
            "back_url": reverse("portal:settings-relations"),
        },
        status=422 if form.errors else 200,
    )
