"""The owner of many things, chosen, previewed and set as one change."""

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
from catalog import queries
from catalog.models import Entity
from catalog.services import bulk_edit
from catalog.services.bulk_edit import Plan, Planned
from catalog.services.bulk_plans import AT_ONCE, Outcome, StalePlan
from catalog.suggestions import suggested_owners
from portal import links
from portal.views.many import SHOWN, asked_query, back_from, chosen, frame, groups, later, mark_of

_LABELS = {
    Outcome.SET: gettext_lazy("Nobody owns it yet"),
    Outcome.UNFIT: gettext_lazy("Stays: it can have no owner"),
}
_FOLDED = (Outcome.SET, Outcome.REPLACE, Outcome.SAME, Outcome.UNFIT)


@login_required
@require_http_methods(["GET", "POST"])
def owners(request: HttpRequest) -> HttpResponse:
    """Set the owner of what was selected in a list, or of all that its query finds."""
    require(request.user, "entity.write")
    query = asked_query(request)
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
    error = ""
    try:
        owner = queries.entity_of_ref(request.user, text)
        if action == "apply":
            try:
                return _set(request, query, entities, owner, reason)
            except StalePlan as failure:
                error = failure.message
        plan = bulk_edit.plan_owners(user=request.user, entities=entities, owner=owner)
    except DomainError as failure:
        error = failure.message
    return _page(request, query, entities, owner=text, reason=reason, plan=plan, error=error)


def _set(
    request: HttpRequest, query: str, entities: list[Entity], owner: Entity, reason: str
) -> HttpResponse:
    if len(entities) > AT_ONCE:
        return later(request, query, entities, {"owner": owner.ref}, reason)
    done = bulk_edit.set_owners(
        user=request.user,
        entities=entities,
        owner=owner,
        reason=reason,
        expected=mark_of(request),
    )
    count = len(done.changing)
    messages.success(
        request,
        ngettext("%(owner)s owns %(n)s entity more.", "%(owner)s owns %(n)s entities more.", count)
        % {"owner": owner.title, "n": number_format(count, force_grouping=True)},
    )
    return redirect(back_from(query, entities))


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
    titles = queries.titles_of(request.user, {entity.owner for entity in entities})
    suggestions = suggested_owners(request.user, entities) if entities else []

    def shown(row: Planned) -> dict[str, Any]:
        return _row(row.entity, titles, row.said_by)

    return render(
        request,
        "edit/owners.html",
        frame(_("Set owner"), query, entities, plan, error)
        | {
            "owner": owner,
            "reason": reason,
            "overrides": any(row.outcome == Outcome.OVERRIDE for row in (plan.rows if plan else ())),
            "groups": groups(plan, shown, labels=_LABELS, folded=_FOLDED) if plan else [],
            "rows": [] if plan else [_row(entity, titles) for entity in entities[:SHOWN]],
            "suggestions": [
                links.chip(one.entity.ref, one.entity)
                | {
                    "why": _("commits most to %(n)d") % {"n": one.count}
                    if one.is_committer
                    else _("owns the repository of %(n)d") % {"n": one.count}
                }
                for one in suggestions
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
