"""One field of many things: chosen, previewed, and changed as one."""

from __future__ import annotations

from typing import Any

import orjson
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
from catalog.services import bulk_fields
from catalog.services.bulk_edit import Outcome, StalePlan
from catalog.services.bulk_fields import FieldPlan
from portal import links
from portal.views.edit import typed_value
from portal.views.owners import back_from, chosen

SHOWN = 200
_GROUPS: tuple[tuple[Outcome, Any, str], ...] = (
    (Outcome.SET, gettext_lazy("Nobody says anything of it yet"), "ok"),
    (Outcome.OVERRIDE, gettext_lazy("Goes over what a file or tool says"), "warn"),
    (Outcome.REPLACE, gettext_lazy("Takes the place of your own word"), "ok"),
    (Outcome.SAME, gettext_lazy("Is so already"), "mute"),
    (Outcome.HELD, gettext_lazy("Stays: another person overrides it"), "fail"),
    (Outcome.FORBIDDEN, gettext_lazy("Stays: you may not change it"), "fail"),
    (Outcome.UNFIT, gettext_lazy("Stays: it does not fit"), "mute"),
)
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
    query = (request.POST.get("q") or request.GET.get("q", "")).strip()[:2_000]
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
    try:
        change = bulk_fields.check_change(asked["field"], asked["do"], _value(asked))
        plan = bulk_fields.plan_fields(user=request.user, entities=entities, change=change)
        if action == "apply":
            done = bulk_fields.change_fields(
                user=request.user,
                entities=entities,
                change=change,
                reason=asked["reason"],
                expected=request.POST.get("mark", "")[:100] or "none",
            )
            count = len(done.changing)
            messages.success(
                request,
                ngettext(
                    "%(path)s of %(n)s entity is changed.", "%(path)s of %(n)s entities is changed.", count
                )
                % {"path": change.path, "n": number_format(count, force_grouping=True)},
            )
            return redirect(back_from(query, entities))
    except StalePlan as failure:
        return _page(request, query, entities, asked, plan=plan, error=failure.message)
    except DomainError as failure:
        return _page(request, query, entities, asked, error=failure.in_full)
    return _page(request, query, entities, asked, plan=plan)


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
    count = len(entities)
    known = bulk_fields.fields_of(sorted({entity.kind for entity in entities}))
    path = asked.get("field", "")
    changing = len(plan.changing) if plan else 0
    return render(
        request,
        "edit/fields.html",
        {
            "title": _("Edit a field"),
            "description": ngettext("Of %(n)s entity", "Of %(n)s entities", count)
            % {"n": number_format(count, force_grouping=True)}
            if count
            else "",
            "q": query,
            "entities": " ".join(str(entity.uid) for entity in entities),
            "fields": [{"value": name, "label": label} for name, label in known.items()],
            "path": path if path and path not in known else "",
            "asked": {"do": "set"} | asked,
            "ways": [{"value": name, "label": label} for name, label in _ACTIONS.items()],
            "mark": plan.mark if plan else "",
            "changing": changing,
            "is_planned": plan is not None,
            "groups": _groups(plan) if plan else [],
            "rows": [] if plan else [links.chip(one.ref, one) for one in entities[:SHOWN]],
            "more": 0 if plan else max(count - SHOWN, 0),
            "error": error,
            "back_url": back_from(query, entities),
            "breadcrumbs": [
                {"label": _("Catalog"), "url": links.catalog_url(query)},
                {"label": _("Edit a field"), "url": ""},
            ],
        },
        status=422 if error else 200,
    )


def _groups(plan: FieldPlan) -> list[dict[str, Any]]:
    """What the plan does, by what becomes of the things."""
    shown = []
    for outcome, label, tone in _GROUPS:
        rows = [row for row in plan.rows if row.outcome == outcome]
        if rows:
            shown.append(
                {
                    "label": label,
                    "tone": tone,
                    "count": len(rows),
                    "is_open": outcome != Outcome.SAME or len(rows) <= 20,
                    "rows": [
                        {
                            "chip": links.chip(row.entity.ref, row.entity),
                            "before": _words(row.before),
                            "after": _words(row.after),
                            "is_changing": row.is_changing,
                            "said_by": row.said_by,
                            "why": row.why,
                        }
                        for row in rows[:SHOWN]
                    ],
                    "more": max(len(rows) - SHOWN, 0),
                }
            )
    return shown


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    text = value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}…"
