"""The owner of many things, chosen, previewed and set as one change."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods

from access.permissions import require
from base.errors import DomainError, InvalidInput
from catalog import queries
from catalog.models import Entity
from catalog.services import bulk_edit
from catalog.services.bulk_edit import Outcome, Plan, StalePlan
from catalog.suggestions import suggested_owners
from portal import links

SHOWN = 200
# What becomes of the things, in the order in which it is told.
_GROUPS: tuple[tuple[Outcome, Any, str], ...] = (
    (Outcome.SET, gettext_lazy("Nobody owns it yet"), "ok"),
    (Outcome.OVERRIDE, gettext_lazy("Goes over what a file or tool says"), "warn"),
    (Outcome.REPLACE, gettext_lazy("Takes the place of your own word"), "ok"),
    (Outcome.SAME, gettext_lazy("Is so already"), "mute"),
    (Outcome.HELD, gettext_lazy("Stays: another person overrides it"), "fail"),
    (Outcome.FORBIDDEN, gettext_lazy("Stays: you may not change it"), "fail"),
    (Outcome.UNFIT, gettext_lazy("Stays: it can have no owner"), "mute"),
)


@login_required
@require_http_methods(["GET", "POST"])
def owners(request: HttpRequest) -> HttpResponse:
    """Set the owner of what was selected in a list, or of all that its query finds."""
    require(request.user, "entity.write")
    query = (request.POST.get("q") or request.GET.get("q", "")).strip()[:2_000]
    try:
        entities = chosen(request, query)
    except DomainError as failure:
        return _page(request, query, [], error=failure.message)
    if not entities:
        messages.warning(request, _("Nothing is selected."))
        return redirect(links.catalog_url(query))
    text = (request.POST.get("suggested") or request.POST.get("owner", "")).strip()[:1_000]
    action = request.POST.get("action", "")
    reason = request.POST.get("reason", "")[:1_000]
    if not text:
        error = _("Choose a group or a user.") if action in {"preview", "apply"} else ""
        return _page(request, query, entities, reason=reason, error=error)
    plan: Plan | None = None
    try:
        owner = queries.entity_of_ref(request.user, text)
        plan = bulk_edit.plan_owners(user=request.user, entities=entities, owner=owner)
        if action == "apply":
            done = bulk_edit.set_owners(
                user=request.user,
                entities=entities,
                owner=owner,
                reason=reason,
                expected=request.POST.get("mark", "")[:100] or "none",
            )
            count = len(done.changing)
            messages.success(
                request,
                ngettext("%(owner)s owns %(n)s entity more.", "%(owner)s owns %(n)s entities more.", count)
                % {"owner": owner.title, "n": number_format(count, force_grouping=True)},
            )
            return redirect(back_from(query, entities))
    except StalePlan as failure:
        return _page(request, query, entities, owner=text, reason=reason, plan=plan, error=failure.message)
    except DomainError as failure:
        return _page(request, query, entities, owner=text, reason=reason, error=failure.message)
    return _page(request, query, entities, owner=text, reason=reason, plan=plan)


def chosen(request: HttpRequest, query: str) -> list[Entity]:
    """The entities that the form names, else all that the query finds.

    :raises InvalidInput: if these are too many.
    """
    action = request.POST.get("action")
    uids = request.POST.getlist("entity") or request.POST.get("entities", "").split()
    uids = uids or request.GET.getlist("entity")
    if action == "selected" or (uids and action != "all"):
        known = queries.titles_by_uid(request.user, _uids(uids[: bulk_edit.MOST + 1]))
        found = sorted(known.values(), key=lambda entity: (entity.title.casefold(), entity.ref))
    else:
        rows = queries.search_entities(request.user, query, now=timezone.now())
        found = list(rows.defer("tokens").order_by("title", "ref")[: bulk_edit.MOST + 1])
        if len(found) > bulk_edit.MOST:
            raise InvalidInput(
                _(
                    "%(got)s match, and at most %(max)s are changed at once. Narrow the list, such as by a type."
                )
                % {
                    "got": number_format(rows.count(), force_grouping=True),
                    "max": number_format(bulk_edit.MOST, force_grouping=True),
                }
            )
    return found


def back_from(query: str, entities: list[Entity]) -> str:
    """Where somebody came from: a list, or the page of the one thing."""
    alone = len(entities) == 1 and not query
    return links.entity_url(entities[0]) if alone else links.catalog_url(query)


def _uids(texts: list[str]) -> list[uuid.UUID]:
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(uuid.UUID(text))
    return found


def _page(
    request: HttpRequest,
    query: str,
    entities: list[Entity],
    *,
    owner: str = "",
    reason: str = "",
    plan: Plan | None = None,
    error: str = "",
) -> HttpResponse:
    count = len(entities)
    titles = queries.titles_of(request.user, {entity.owner for entity in entities})
    suggestions = suggested_owners(request.user, entities) if entities else []
    changing = len(plan.changing) if plan else 0
    return render(
        request,
        "edit/owners.html",
        {
            "title": _("Set owner"),
            "description": ngettext("Of %(n)s entity", "Of %(n)s entities", count)
            % {"n": number_format(count, force_grouping=True)}
            if count
            else "",
            "q": query,
            "entities": " ".join(str(entity.uid) for entity in entities),
            "owner": owner,
            "reason": reason,
            "mark": plan.mark if plan else "",
            "changing": changing,
            "is_planned": plan is not None,
            "overrides": any(row.outcome == Outcome.OVERRIDE for row in (plan.rows if plan else ())),
            "groups": _groups(plan, titles) if plan else [],
            "rows": [] if plan else [_row(entity, titles) for entity in entities[:SHOWN]],
            "more": 0 if plan else max(count - SHOWN, 0),
            "suggestions": [
                links.chip(one.entity.ref, one.entity)
                | {
                    "why": _("commits most to %(n)d") % {"n": one.count}
                    if one.is_committer
                    else _("owns the repository of %(n)d") % {"n": one.count}
                }
                for one in suggestions
            ],
            "error": error,
            "back_url": back_from(query, entities),
            "breadcrumbs": [
                {"label": _("Catalog"), "url": links.catalog_url(query)},
                {"label": _("Set owner"), "url": ""},
            ],
        },
        status=422 if error else 200,
    )


def _row(entity: Entity, titles: dict[str, Entity], said_by: str = "") -> dict[str, Any]:
    return {
        "chip": links.chip(entity.ref, entity),
        "owner": links.chip(entity.owner, titles.get(entity.owner)) if entity.owner else None,
        "said_by": said_by,
    }


def _groups(plan: Plan, titles: dict[str, Entity]) -> list[dict[str, Any]]:
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
                    "is_open": outcome in {Outcome.OVERRIDE, Outcome.HELD, Outcome.FORBIDDEN}
                    or len(rows) <= 20,
                    "rows": [_row(row.entity, titles, row.said_by) for row in rows[:SHOWN]],
                    "more": max(len(rows) - SHOWN, 0),
                }
            )
    return shown
