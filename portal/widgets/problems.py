"""Problems: all of them by cause, or those of one entity."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import Field

from access.permissions import can
from catalog import queries
from catalog.models import Problem
from portal import links
from portal.widgets.base import Absent, NothingToShow, PageContext, Widget, WidgetConfig, register


class ProblemListConfig(WidgetConfig):
    """How much is shown."""

    rows: int = Field(50, ge=1, le=200, description="Causes shown.")


@register
class ProblemList(Widget[ProblemListConfig]):
    """Open problems grouped by cause, the worst and widest first."""

    slug = "problem-list"
    label = gettext_lazy("Problems")
    template = "widgets/problem_list.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        groups = queries.problems_by_cause(context.viewer, now=context.now)
        wanted = context.params.get("type", "")
        types: dict[str, int] = {}
        for group in groups:
            types[group["type"]] = types.get(group["type"], 0) + len(group["problems"])
        if wanted:
            groups = [group for group in groups if group["type"] == wanted]
        if not groups:
            raise NothingToShow(
                _("No open problems. What needs a person appears here."), icon="circle-check-filled"
            )
        can_snooze = can(context.viewer, "problem.write")
        return {
            "groups": [self._shown(group, can_snooze) for group in groups[: self.config.rows]],
            "types": [
                {"label": _("All"), "url": context.url(type=None), "is_active": not wanted},
                *(
                    {
                        "label": TYPE_LABELS.get(name, name),
                        "count": count,
                        "url": context.url(type=name),
                        "is_active": name == wanted,
                    }
                    for name, count in sorted(types.items())
                ),
            ],
        }

    def _shown(self, group: dict[str, Any], can_snooze: bool) -> dict[str, Any]:
        problems: list[Problem] = group["problems"]
        first = problems[0]
        shown: dict[str, Any] = {
            "tone": group["severity"],
            "title": group["cause"],
            "text": first.message if len(problems) == 1 else group["remedy"],
            "count": len(problems) if first.subject_type == "entity" else 0,
            "since": group["since"],
            "where": _place(first) if len(problems) == 1 else "",
            "subjects": [_subject(problem) for problem in problems[:20]],
            "more": max(len(problems) - 20, 0),
            "remedy": group["remedy"],
            "fix": _fix(first) if len(problems) == 1 else None,
        }
        if can_snooze:
            shown["snooze"] = {"type": first.type, "cause": first.cause}
        return shown


def _subject(problem: Problem) -> dict[str, str]:
    if problem.subject_type == "entity":
        url = links.ref_url(problem.subject_label)
    elif slug := problem.detail.get("connection"):
        url = f"/connections/{slug}"
    else:
        url = ""
    return {"label": problem.subject_label, "url": url, "message": problem.message, "place": _place(problem)}


def _fix(problem: Problem) -> dict[str, str] | None:
    """Where a problem of one thing can be mended here."""
    if problem.subject_type != "entity":
        slug = problem.detail.get("connection")
        return {"label": _("See the connection"), "url": f"/connections/{slug}"} if slug else None
    path = problem.detail.get("path") or ("spec.owner" if problem.detail.get("type") == "ownedBy" else "")
    if not path:
        return None
    url = f"{links.ref_url(problem.subject_label)}/edit?{urlencode({'field': path})}"
    return {"label": _("Set %(path)s...") % {"path": path}, "url": url}


def _place(problem: Problem) -> str:
    place = problem.detail.get("place")
    if isinstance(place, dict):
        where = str(place.get("file") or place.get("address") or "")
        if place.get("document"):
            where += _(", document %(number)s") % {"number": place["document"]}
        if place.get("line"):
            where += _(", line %(line)s") % {"line": place["line"]}
        return where
    return str(place or "")


TYPE_LABELS: dict[str, Any] = {
    "ambiguous-key": gettext_lazy("Ambiguous"),
    "ambiguous-tie": gettext_lazy("Unclear ties"),
    "conflict": gettext_lazy("Disagreements"),
    "incomplete": gettext_lazy("Gaps"),
    "missing-target": gettext_lazy("Missing targets"),
    "refused-document": gettext_lazy("Refused documents"),
    "refused-record": gettext_lazy("Refused records"),
    "shadowed": gettext_lazy("Declared twice"),
    "stale": gettext_lazy("Stale"),
    "sync": gettext_lazy("Connections"),
}


@register
class EntityProblems(Widget[ProblemListConfig]):
    """The open problems of the page's entity."""

    slug = "entity-problems"
    label = gettext_lazy("Problems")
    template = "widgets/entity_problems.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        if context.entity is None:
            raise Absent
        rows = problems_of(context)
        if not rows:
            raise NothingToShow(_("No open problems."), icon="circle-check-filled")
        return {
            "problems": [
                {
                    "tone": problem.severity,
                    "title": problem.cause,
                    "text": problem.message,
                    "where": _place(problem),
                    "since": problem.first_seen_at,
                    "remedy": problem.remedy,
                }
                for problem in rows
            ],
        }


def problems_of(context: PageContext) -> list[Problem]:
    """The open problems of the page's entity, read once a page."""
    if "problems" not in context.cache:
        assert context.entity is not None
        context.cache["problems"] = list(
            queries.open_problems(context.viewer, now=context.now).filter(subject_uid=context.entity.uid)[:50]
        )
    return context.cache["problems"]
