"""One field of many things: chosen, previewed, and changed as one."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods

from access.permissions import require
from base.errors import DomainError
from catalog.models import Entity
from catalog.services import bulk_changes, bulk_fields
from catalog.services.bulk_fields import Change, FieldPlan, PlannedField
from catalog.services.bulk_plans import AT_ONCE, Outcome, StalePlan
from portal import links
from portal.people import person
from portal.values import in_words
from portal.views.edit import typed_value
from portal.views.many import SHOWN, asked_query, back_from, chosen, frame, groups, later, mark_of

LONGEST_WORDS = 200
_LABELS = {
    Outcome.SET: gettext_lazy("Nobody says anything of it yet"),
    Outcome.UNFIT: gettext_lazy("Stays: it does not fit"),
}
_ACTIONS = {
    "set": gettext_lazy("Set to"),
    "add": gettext_lazy("Add to the list"),
    "remove": gettext_lazy("Remove from the list"),
    "clear": gettext_lazy("Clear"),
}


@login_required
@require_http_methods(["GET", "POST"])
def fields(request: HttpRequest) -> HttpResponse:
    """Change a field of what was selected in a list, or of all that its query finds."""
    require(request.user, "entity.write")
    query = asked_query(request)
    try:
        entities = chosen(request, query)
    except DomainError as failure:
        return _page(request, query, [], {}, error=failure.message)
    if not entities:
        messages.warning(request, _("Nothing is selected."))
        return redirect(links.catalog_url(query))
    asked = {
        "field": (request.POST.get("path") or request.POST.get("field", "")).strip()[:300],
        "do": request.POST.get("do", "set"),
        "value": request.POST.get("value", "")[:10_000],
        "reason": request.POST.get("reason", "")[:1_000],
    }
    action = request.POST.get("action", "")
    if action not in {"preview", "apply"}:
        return _page(request, query, entities, asked)
    plan: FieldPlan | None = None
    error = ""
    try:
        change = bulk_fields.check_change(asked["field"], asked["do"], _value(asked))
        if action == "apply":
            try:
                return _change(request, query, entities, change, asked["reason"])
            except StalePlan as failure:
                error = failure.message
        plan = bulk_fields.plan_fields(user=request.user, entities=entities, change=change)
    except DomainError as failure:
        error = failure.in_full
    return _page(request, query, entities, asked, plan=plan, error=error)


def _change(
    request: HttpRequest, query: str, entities: list[Entity], change: Change, reason: str
) -> HttpResponse:
    if len(entities) > AT_ONCE:
        what = {"path": change.path, "action": change.action, "value": change.value}
        return later(request, query, entities, what, reason)
    done = bulk_fields.change_fields(
        user=request.user,
        entities=entities,
        change=change,
        reason=reason,
        expected=mark_of(request),
    )
    count = len(done.changing)
    messages.success(
        request,
        ngettext("%(path)s of %(n)s entity is changed.", "%(path)s of %(n)s entities is changed.", count)
        % {"path": change.path, "n": number_format(count, force_grouping=True)},
    )
    return redirect(back_from(query, entities))


@login_required
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, change_id: int) -> HttpResponse:
    """How far a change of many things is that a worker does."""
    require(request.user, "entity.write")
    found = bulk_changes.change_of(person(request), change_id)
    error = ""
    if request.method == "POST":
        try:
            bulk_changes.cancel(user=person(request), change=found)
            return redirect("portal:bulk-change", change_id=change_id)
        except DomainError as failure:
            error = failure.message
    subject = found.subject
    title = _("Set owner") if "owner" in found.what else _("Edit a field")
    return render(
        request,
        "edit/bulk_change.html",
        {
            "title": title,
            "breadcrumbs": [
                {"label": _("Catalog"), "url": links.catalog_url(found.back)},
                {"label": title, "url": ""},
            ],
            "change": found,
            "is_active": found.is_active,
            "path": subject["path"],
            "way": _ACTIONS[subject["action"]],
            "value": _words(subject.get("value")),
            "error": error,
            "back_url": links.catalog_url(found.back),
        },
        status=409 if error else 200,
    )


def _value(asked: dict[str, str]) -> Any:
    """What was typed: of a list, several with commas between them."""
    text = asked["value"].strip()
    if asked["do"] in {"add", "remove"} and not text.startswith("["):
        return [typed_value(part) for part in text.split(",") if part.strip()]
    return typed_value(text)


def _page(
    request: HttpRequest,
    query: str,
    entities: list[Entity],
    asked: dict[str, str],
    *,
    plan: FieldPlan | None = None,
    error: str = "",
) -> HttpResponse:
    known = bulk_fields.fields_of(sorted({entity.kind for entity in entities}))
    path = asked.get("field", "")
    return render(
        request,
        "edit/fields.html",
        frame(_("Edit a field"), query, entities, plan, error)
        | {
            "fields": [{"value": name, "label": label} for name, label in known.items()],
            "path": path if path and path not in known else "",
            "asked": {"do": "set"} | asked,
            "ways": [{"value": name, "label": label} for name, label in _ACTIONS.items()],
            "groups": groups(plan, _shown, labels=_LABELS, folded=(Outcome.SAME,)) if plan else [],
            "rows": [] if plan else [links.chip(one.ref, one) for one in entities[:SHOWN]],
        },
        status=422 if error else 200,
    )


def _shown(row: PlannedField) -> dict[str, Any]:
    return {
        "chip": links.chip(row.entity.ref, row.entity),
        "before": _words(row.before),
        "after": _words(row.after),
        "is_changing": row.is_changing,
        "said_by": row.said_by,
        "why": row.why,
    }


def _words(value: Any) -> str:
    text = "" if value in (None, "", [], {}) else in_words(value)
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"
