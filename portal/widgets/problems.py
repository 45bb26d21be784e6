"""Problems: all of them by cause, or those of one entity."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import Field

from access.permissions import visible
from catalog import queries
from catalog.models import PROBLEM_TYPES, UNCLEAR, Entity, Problem
from integrations.why import Place
from portal import links
from portal.owners import settling
from portal.sources import visible_connections
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
        types: dict[str, int] = {}
        for group in groups:
            types[group["type"]] = types.get(group["type"], 0) + len(group["problems"])
        wanted = context.params.get("type", "")
        if wanted and wanted not in PROBLEM_TYPES and wanted != UNCLEAR_TYPES:
            sentence = _("There are no problems of type “%(name)s”; there are: %(names)s.")
            names = ", ".join([UNCLEAR_TYPES, *PROBLEM_TYPES])
            context.refuse("type", sentence % {"name": wanted[:60], "names": names})
            wanted = ""
        shown = UNCLEAR if wanted == UNCLEAR_TYPES else (wanted,)
        if wanted:
            groups = [group for group in groups if group["type"] in shown]
        if not groups:
            raise NothingToShow(
                _("No open problems of this type.")
                if wanted
                else _("No open problems. What needs a person appears here."),
                icon="circle-check-filled",
                action={"label": _("See all"), "url": context.url(type=None)} if wanted else None,
            )
        groups = groups[: self.config.rows]
        may = _Permitted(context, [problem for group in groups for problem in group["problems"][:SHOWN]])
        return {
            "groups": [self._shown(group, may) for group in groups],
            "tell_me": links.tell_me(query=f"problem:{','.join(shown)}" if wanted else "has:problem"),
            "types": [
                {"label": _("All"), "url": context.url(type=None), "is_active": not wanted},
                *(
                    [
                        {
                            "label": _("To decide"),
                            "count": unclear,
                            "url": context.url(type=UNCLEAR_TYPES),
                            "is_active": wanted == UNCLEAR_TYPES,
                        }
                    ]
                    if (unclear := sum(types.get(name, 0) for name in UNCLEAR))
                    else ()
                ),
                *(
                    {
                        "label": PROBLEM_TYPES.get(name, name),
                        "count": count,
                        "url": context.url(type=name),
                        "is_active": name == wanted,
                    }
                    for name, count in sorted(types.items())
                ),
            ],
        }

    def _shown(self, group: dict[str, Any], may: _Permitted) -> dict[str, Any]:
        problems: list[Problem] = group["problems"]
        first = problems[0]
        # What all say is said once, above; else each says its own.
        messages = {problem.message for problem in problems}
        common = first.message if len(messages) == 1 and first.type not in _SAID_BY_CAUSE else ""
        subjects = [_subject(problem, may, common) for problem in problems[:SHOWN]]
        shown: dict[str, Any] = {
            "tone": group["severity"],
            "title": group["cause"],
            "text": common,
            "remedy": group["remedy"],
            "since": group["since"],
            "subjects": subjects[:FEW],
            "others": subjects[FEW:],
            "more": max(len(problems) - SHOWN, 0),
            "fixes": _fixes(first, may, is_one=len(problems) == 1),
        }
        if any(may.snooze(problem) for problem in problems[:SHOWN]):
            shown["snooze"] = {"type": first.type, "cause": first.cause}
        return shown


FEW, SHOWN = 3, 20
UNCLEAR_TYPES = "unclear"  # stands for all of `UNCLEAR`


class _Permitted:
    """What the viewer may do about some problems, found in one statement each."""

    def __init__(self, context: PageContext, problems: list[Problem]) -> None:
        self.viewer = context.viewer
        rows = Problem.objects.filter(pk__in=[problem.pk for problem in problems])
        self._snoozed = set(visible(context.viewer, rows, "problem.write").values_list("pk", flat=True))
        subjects = {p.subject_uid for p in problems if p.subject_uid and p.subject_type == "entity"}
        entities = visible(context.viewer, Entity.objects.filter(uid__in=subjects), "entity.write")
        self._edited = set(entities.values_list("uid", flat=True))
        self._connections = {row.slug for row in visible_connections(context.request)}

    def snooze(self, problem: Problem) -> bool:
        return problem.pk in self._snoozed

    def edit(self, problem: Problem) -> bool:
        return problem.subject_uid in self._edited

    def see(self, slug: str | None) -> bool:
        return slug in self._connections


def _subject(problem: Problem, may: _Permitted, common: str) -> dict[str, str]:
    message = problem.message if problem.message != common and problem.type not in _SAID_BY_CAUSE else ""
    shown = {"label": problem.subject_label, "message": message, "place": _place(problem)}
    slug = problem.detail.get("connection")
    if problem.subject_type == "entity":
        kind, _colon, rest = problem.subject_label.partition(":")
        namespace, _slash, name = rest.partition("/")
        shown |= {"kind": kind, "label": name, "namespace": namespace}
        shown["url"] = links.ref_url(problem.subject_label)
    elif slug and may.see(slug):
        shown["url"] = f"/connections/{slug}"
    return shown


# What names nothing more than the cause and the thing, which both stand beside it.
_SAID_BY_CAUSE = {"missing-target"}


def _fixes(problem: Problem, may: _Permitted, *, is_one: bool = True) -> list[dict[str, Any]]:
    """What mends a problem, as buttons: an owner that nothing declares is settled for all that name it.

    :param is_one: whether it stands for itself alone.
    """
    fix = _fix(problem, may) if is_one else None
    found = [{**fix, "small": True}] if fix else []
    if problem.detail.get("type") == "ownedBy":
        found = [*settling(may.viewer, problem.detail["target"]), *found]
    return found


def _fix(problem: Problem, may: _Permitted) -> dict[str, str] | None:
    """Where a problem of one thing can be mended here, by who looks."""
    if problem.subject_type != "entity":
        slug = problem.detail.get("connection")
        if not may.see(slug):
            return None
        return {"label": _("See the connection"), "url": f"/connections/{slug}"}
    if problem.type in {"ambiguous-key", "name-taken"} and may.edit(problem):
        return {"label": _("Merge..."), "url": f"{links.ref_url(problem.subject_label)}/merge"}
    if problem.type == "ambiguous-tie" and may.edit(problem):
        return {"label": _("Tie to..."), "url": f"{links.ref_url(problem.subject_label)}/tie"}
    path = problem.detail.get("path") or ("spec.owner" if problem.detail.get("type") == "ownedBy" else "")
    if not path or not may.edit(problem):
        return None
    url = f"{links.ref_url(problem.subject_label)}/edit?{urlencode({'field': path})}"
    return {"label": _("Set %(path)s...") % {"path": path}, "url": url}


def _place(problem: Problem) -> str:
    place = problem.detail.get("place")
    return str((Place.of(place) if isinstance(place, dict) else place) or "")


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
        may = _Permitted(context, rows)
        return {
            "problems": [
                {
                    "tone": problem.severity,
                    "title": problem.cause,
                    "text": problem.message,
                    "where": _place(problem),
                    "since": problem.first_seen_at,
                    "remedy": problem.remedy,
                    "actions": _fixes(problem, may),
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
