"""What the pages that change many things as one have in common: which things, and what the plan does to them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from kombu.exceptions import OperationalError

from base.errors import InvalidInput
from catalog import queries
from catalog.models import Entity
from catalog.services import bulk_changes, bulk_plans
from catalog.services.bulk_plans import BulkPlan, Outcome, Row
from catalog.tasks import change_many
from portal import links
from portal.people import person

SHOWN = 200
FEW = 20
# What becomes of the things, in the order in which it is told. The empty ones each page says in its own words.
_OUTCOMES: dict[Outcome, tuple[Any, str]] = {
    Outcome.SET: ("", "ok"),
    Outcome.OVERRIDE: (gettext_lazy("Goes over what a file or tool says"), "warn"),
    Outcome.REPLACE: (gettext_lazy("Takes the place of your own word"), "ok"),
    Outcome.SAME: (gettext_lazy("Is so already"), "mute"),
    Outcome.HELD: (gettext_lazy("Stays: another person overrides it"), "fail"),
    Outcome.FORBIDDEN: (gettext_lazy("Stays: you may not change it"), "fail"),
    Outcome.UNFIT: ("", "mute"),
}
R = TypeVar("R", bound=Row)


def asked_query(request: HttpRequest) -> str:
    """The query of the list that the page was opened from."""
    return (request.POST.get("q") or request.GET.get("q", "")).strip()[:2_000]


def chosen(request: HttpRequest, query: str) -> list[Entity]:
    """The entities that the form names, else all that the query finds.

    :raises InvalidInput: if these are too many.
    """
    action = request.POST.get("action")
    uids = request.POST.getlist("entity") or request.POST.get("entities", "").split()
    uids = uids or request.GET.getlist("entity")
    if action == "selected" or (uids and action != "all"):
        known = queries.titles_by_uid(request.user, _uids(uids[: bulk_plans.MOST + 1]))
        found = sorted(known.values(), key=lambda entity: (entity.title.casefold(), entity.ref))
    else:
        rows = queries.search_entities(request.user, query, now=timezone.now())
        found = list(rows.defer("tokens").order_by("title", "ref")[: bulk_plans.MOST + 1])
        if len(found) > bulk_plans.MOST:
            raise InvalidInput(
                _(
                    "%(got)s match, and at most %(max)s are changed at once. Narrow the list, such as by a type."
                )
                % {
                    "got": number_format(rows.count(), force_grouping=True),
                    "max": number_format(bulk_plans.MOST, force_grouping=True),
                }
            )
    return found


def _uids(texts: list[str]) -> list[uuid.UUID]:
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(uuid.UUID(text))
    return found


def later(
    request: HttpRequest, query: str, entities: list[Entity], what: dict[str, Any], reason: str
) -> HttpResponse:
    """Have a worker do what takes too long for a page."""
    change = bulk_changes.queue(
        user=person(request),
        what=what,
        entities=entities,
        reason=reason,
        expected=mark_of(request),
        back=query,
    )
    with suppress(OperationalError):  # Redis is away; the change is looked for once it is back
        change_many.apply_async(retry=False)
    return redirect("portal:bulk-change", change_id=change.pk)


def mark_of(request: HttpRequest) -> str:
    """What names the plan that somebody looked at."""
    return request.POST.get("mark", "")[:100] or "none"


def back_from(query: str, entities: list[Entity]) -> str:
    """Where somebody came from: a list, or the page of the one thing."""
    alone = len(entities) == 1 and not query
    return links.entity_url(entities[0]) if alone else links.catalog_url(query)


def frame(
    title: str, query: str, entities: list[Entity], plan: BulkPlan[Any] | None, error: str
) -> dict[str, Any]:
    """What every such page shows of itself, of the things and of the plan."""
    count = len(entities)
    return {
        "title": title,
        "description": ngettext("Of %(n)s entity", "Of %(n)s entities", count)
        % {"n": number_format(count, force_grouping=True)}
        if count
        else "",
        "q": query,
        "entities": " ".join(str(entity.uid) for entity in entities),
        "mark": plan.mark if plan else "",
        "changing": len(plan.changing) if plan else 0,
        "is_planned": plan is not None,
        "more": 0 if plan else max(count - SHOWN, 0),
        "error": error,
        "back_url": back_from(query, entities),
        "breadcrumbs": [
            {"label": _("Catalog"), "url": links.catalog_url(query)},
            {"label": title, "url": ""},
        ],
    }


def groups(
    plan: BulkPlan[R],
    shown: Callable[[R], dict[str, Any]],
    *,
    labels: dict[Outcome, Any],
    folded: Collection[Outcome],
) -> list[dict[str, Any]]:
    """What a plan does, by what becomes of the things.

    :param labels: what the page says of outcomes in its own words.
    :param folded: the outcomes that are closed if there are more than a few of them.
    """
    found = []
    for outcome, (label, tone) in _OUTCOMES.items():
        rows = [row for row in plan.rows if row.outcome == outcome]
        if rows:
            found.append(
                {
                    "label": labels.get(outcome, label),
                    "tone": tone,
                    "count": len(rows),
                    "is_open": outcome not in folded or len(rows) <= FEW,
                    "rows": [shown(row) for row in rows[:SHOWN]],
                    "more": max(len(rows) - SHOWN, 0),
                }
            )
    return found
