"""Cards of a team or person: what they own, and whom that depends on or is needed by."""

from __future__ import annotations

from typing import Any, Literal

from django.db.models import Case, When
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from pydantic import Field

from catalog import queries
from catalog.query import TITLE, sortable
from portal import links
from portal.widgets.activity import RowsConfig, entity_of
from portal.widgets.base import Absent, NothingToShow, PageContext, Widget, register


class OwnsConfig(RowsConfig):
    """Which of what is owned."""

    query: str = Field("", max_length=2_000, description="Narrows it, in the query language; empty for all.")


@register
class Owns(Widget[OwnsConfig]):
    """What a group or person owns, or what a query finds of it, failing first."""

    slug = "owns"
    label = gettext_lazy("Owns")
    template = "widgets/owns.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        if entity.kind not in {"group", "user"}:
            raise Absent
        query = f"owner:{entity.ref} {self.config.query}".strip()
        rows = queries.search_entities(context.viewer, self.config.query, now=context.now)
        rows = rows.filter(owner=entity.ref)
        total = rows.count()
        if not total:
            raise NothingToShow(
                _("It owns nothing of this.") if self.config.query else _("It owns nothing yet."), icon="cube"
            )
        first = Case(When(failing_since__isnull=True, then=1), default=0)
        found = sortable(rows).order_by(first, "failing_since", TITLE, "uid")[: self.config.rows]
        return {
            "items": [
                {
                    "chip": links.chip(e.ref, e),
                    "text": e.description,
                    "status": {"domain": "run", "state": e.last_run} if e.last_run else None,
                    "at": e.failing_since or e.changed_at,
                }
                for e in found
            ],
            "card": {
                "footer": _("%(count)d in all") % {"count": total},
                "more": {"label": _("Open as list"), "url": links.catalog_url(query)},
            },
        }


class DependencesConfig(RowsConfig):
    """Which direction."""

    direction: Literal["depends-on", "dependents"] = Field(
        "depends-on", description="Whom it depends on, or who depends on it."
    )


@register
class TeamDependences(Widget[DependencesConfig]):
    """Which teams a team depends on, or which depend on it, through what they own."""

    slug = "team-dependences"
    label = gettext_lazy("Teams it depends on")
    description = gettext_lazy("Teams that a team depends on, or that depend on it, through what they own")
    template = "widgets/owns.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        if entity.kind not in {"group", "user"}:
            raise Absent
        incoming = self.config.direction == "dependents"
        found = queries.dependences(context.viewer, entity.ref, incoming=incoming)
        if not found:
            nothing = _("Nothing of others depends on what it owns.") if incoming else ""
            raise NothingToShow(nothing or _("What it owns depends on nothing of others."), icon="sitemap")
        shown = found[: self.config.rows]
        known = queries.titles_of(context.viewer, {one.owner for one in shown})
        teams = ngettext("%(n)d team", "%(n)d teams", len(found)) % {"n": len(found)}
        said = _("theirs on its own") if incoming else _("its own on theirs")
        return {
            "items": [
                {
                    **(
                        {"chip": links.owner_chip(one.owner, known.get(one.owner))}
                        if one.owner
                        else {"title": _("No owner")}
                    ),
                    "text": self._named(one),
                    "value": self._counted(one, incoming=incoming),
                }
                for one in shown
            ],
            "card": {"footer": f"{teams} · {said}"},
        }

    @staticmethod
    def _named(one: queries.Dependence) -> str:
        more = one.theirs - len(one.names)
        return ", ".join(one.names) + (", " + _("%(n)d more") % {"n": more} if more > 0 else "")

    @staticmethod
    def _counted(one: queries.Dependence, *, incoming: bool) -> str:
        upper, lower = (one.theirs, one.ours) if incoming else (one.ours, one.theirs)
        return _("%(upper)d on %(lower)d") % {"upper": upper, "lower": lower}
