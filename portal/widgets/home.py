"""The cards of the first page."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from django.db.models import Case, When
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from pydantic import Field

from access.permissions import can
from catalog import queries
from catalog.models import Entity
from catalog.query import FIELDS, terms_of
from integrations import queries as connections
from integrations.models import CatalogLocation
from portal import links
from portal.bookmarks import bookmarks_of
from portal.sources import badge_of_connection, connections_of, visible_connections
from portal.widgets.activity import RowsConfig
from portal.widgets.base import Absent, NothingToShow, PageContext, Widget, WidgetConfig, register


def is_empty(context: PageContext) -> bool:
    """Whether nothing but the portal's own checkout has been connected."""
    if "is_empty" not in context.cache:
        own_only = all(slug == "portico" for slug in connections_of(context.request))
        context.cache["is_empty"] = own_only and not CatalogLocation.objects.exists()
    return context.cache["is_empty"]


@register
class GetStarted(Widget[WidgetConfig]):
    """Three ways on from an empty portal."""

    slug = "get-started"
    label = gettext_lazy("Get started")
    template = "widgets/get_started.html"
    slots = frozenset({"home"})

    def data(self, context: PageContext) -> dict[str, Any]:
        if not is_empty(context):
            raise Absent
        return {"can_connect": can(context.viewer, "connection.write")}


@register
class FirstSyncs(Widget[WidgetConfig]):
    """What is being read for the first time; asks for the page again until it is."""

    slug = "first-syncs"
    label = gettext_lazy("Being read")
    description = gettext_lazy("What is being read for the first time; the page fills by itself")
    template = "widgets/first_syncs.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        reading = [c.label for c in visible_connections(context.request) if connections.is_first_sync(c)]
        if not reading:
            raise Absent
        return {"names": ", ".join(reading)}


@register
class SampleCompany(Widget[WidgetConfig]):
    """Says that what is shown is made up, and takes it away."""

    slug = "sample-company"
    label = gettext_lazy("Sample company")
    description = gettext_lazy("Says that a sample company is here, and removes it by one click")
    template = "widgets/sample_company.html"
    slots = frozenset({"home"})

    def data(self, context: PageContext) -> dict[str, Any]:
        if not any(connection.is_sample for connection in visible_connections(context.request)):
            raise Absent
        return {"can_remove": can(context.viewer, "connection.write")}


class CountsConfig(WidgetConfig):
    """Which kinds are counted."""

    kinds: list[str] = Field(
        default=["component", "api", "repository", "artifact"],
        max_length=8,
        description="Kinds, in lower case.",
    )


@register
class KindCounts(Widget[CountsConfig]):
    """How many there are of some kinds."""

    slug = "kind-counts"
    label = gettext_lazy("In the catalog")
    template = "widgets/kind_counts.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        counts = context.cache.setdefault("counts", queries.counts_by_kind(context.viewer))
        if not counts:
            raise Absent
        known = [kind for kind in self.config.kinds if counts.get(kind)]
        return {
            "numbers": [
                {
                    "label": context.cache.get("kind_titles", {}).get(kind, kind.capitalize()),
                    "value": counts[kind],
                    "url": links.catalog_url(f"kind:{kind}"),
                    "kind": kind,
                }
                for kind in known
            ],
        }


class QueryConfig(RowsConfig):
    """Which entities."""

    query: str = Field("", max_length=2_000, description="Which entities, in the query language.")
    empty: str = Field("", max_length=200, description="What the card says when there are none.")
    failing_first: bool = Field(False, description="Those that fail before all others.")


# Fields that are empty until a connection has delivered records of some type.
FIELDS_OF_RECORDS = {"run": "run", "ran": "run", "failing": "run", "version": "version"}


@lru_cache(maxsize=256)
def records_of_query(text: str) -> frozenset[str]:
    """The record types without which a query finds nothing worth a card."""
    terms = terms_of(text)
    found = {FIELDS_OF_RECORDS[term.field] for term in terms if term.field in FIELDS_OF_RECORDS}
    return frozenset(found | {"run" for term in terms if term.field == "is" and "failing" in term.values})


@register
class Entities(Widget[QueryConfig]):
    """What a query finds, as a short list."""

    slug = "entities"
    label = gettext_lazy("Entities")
    description = gettext_lazy("A query as a list")
    template = "widgets/entities.html"

    def needed(self) -> Collection[str]:
        return records_of_query(self.config.query)

    def data(self, context: PageContext) -> dict[str, Any]:
        found = queries.search_entities(context.viewer, self.config.query, now=context.now)
        order = (
            [Case(When(failing_since__isnull=True, then=1), default=0)] if self.config.failing_first else []
        )
        rows = list(found.order_by(*order, "-changed_at")[: self.config.rows])
        if not rows:
            raise NothingToShow(self.config.empty or _("Nothing matches."), icon="circle-check")
        total = len(rows) if len(rows) < self.config.rows else found.count()
        return {
            "items": _items(context, rows),
            "total": total,
            "card": {
                "footer": _("%(shown)d of %(total)d") % {"shown": len(rows), "total": total},
                "more": {"label": _("Open as list"), "url": links.catalog_url(self.config.query)},
            },
        }


@register
class Disagreements(Widget[RowsConfig]):
    """On which fields sources disagree, and of how many entities; absent while they agree."""

    slug = "disagreements"
    label = gettext_lazy("Where your tools disagree")
    description = gettext_lazy("Fields on which sources disagree, with how many entities; absent without any")
    template = "widgets/entities.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        fields, others = queries.conflicts_by_field(context.viewer)
        rows = [self._row(path, count) for path, count in list(fields.items())[: self.config.rows]]
        if others:
            without = " ".join(f"-conflict:{short_name(path)}" for path in fields)
            rows.append(self._item(_("Other fields"), others, f"has:conflict {without}".strip()))
        if not rows:
            raise Absent
        more = {"label": _("All of them"), "url": links.catalog_url("has:conflict")}
        said = _("What counts, and what does not, stands at each field")
        return {"items": rows, "card": {"more": more, "footer": said}}

    def _row(self, path: str, count: int) -> dict[str, Any]:
        name = short_name(path)
        return self._item(label_of(name, path), count, f"conflict:{name}")

    @staticmethod
    def _item(title: Any, count: int, query: str) -> dict[str, Any]:
        return {
            "title": title,
            "url": links.catalog_url(query),
            "value": ngettext("%(n)d entity", "%(n)d entities", count) % {"n": count},
        }


def short_name(path: str) -> str:
    """How a query names a field of the document."""
    return next((f.name for f in FIELDS.values() if f.path == path and f.path != f.name), path)


def label_of(name: str, path: str) -> Any:
    """What people call a field."""
    known = FIELDS.get(name.lower())
    return known.label if known else path


@register
class Favourites(Widget[RowsConfig]):
    """What the viewer put a star on."""

    slug = "favourites"
    label = gettext_lazy("Favourites")
    description = gettext_lazy("What somebody put a star on, the newest first; absent without any")
    template = "widgets/entities.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        found = bookmarks_of(context.viewer).favourites
        if not found:
            raise Absent
        shown = found[: self.config.rows]
        card: dict[str, Any] = {}
        if len(shown) < len(found):
            card["footer"] = _("%(shown)d of %(total)d") % {"shown": len(shown), "total": len(found)}
        whole = queries.list_entities(context.viewer).in_bulk([e.pk for e in shown])
        return {"items": _items(context, [whole[e.pk] for e in shown if e.pk in whole]), "card": card}


def _items(context: PageContext, rows: list[Entity]) -> list[dict[str, Any]]:
    """Entities as rows of a card, each with its owner and how it is doing."""
    owners = queries.titles_of(context.viewer, {e.owner for e in rows})
    return [
        {
            "chip": links.chip(e.ref, e),
            "text": owners[e.owner].title if e.owner in owners else "",
            "status": {"domain": "run", "state": e.last_run} if e.last_run else None,
            "at": e.failing_since or e.last_run_at or e.changed_at,
        }
        for e in rows
    ]


@register
class EntityCount(Widget[QueryConfig]):
    """How many entities a query finds."""

    slug = "entity-count"
    label = gettext_lazy("Number of entities")
    description = gettext_lazy("One number from a query")
    template = "widgets/count.html"

    def needed(self) -> Collection[str]:
        return records_of_query(self.config.query)

    def data(self, context: PageContext) -> dict[str, Any]:
        found = queries.search_entities(context.viewer, self.config.query, now=context.now)
        return {"count": found.count(), "url": links.catalog_url(self.config.query)}


@register
class RecentChanges(Widget[RowsConfig]):
    """What changed in the catalog lately."""

    slug = "recent-changes"
    label = gettext_lazy("Changed lately")
    template = "widgets/recent_changes.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        # What a tool touches at each sync would push all else out: each entity stands once.
        newest: dict[Any, Any] = {}
        for row in queries.recent_changes(context.viewer)[: 20 * self.config.rows]:
            newest.setdefault(row.entity_uid, row)
        rows = list(newest.values())[: self.config.rows]
        if not rows:
            raise NothingToShow(_("Nothing has changed yet."), icon="history")
        entities = queries.titles_by_uid(context.viewer, {row.entity_uid for row in rows})
        return {
            "changes": [
                {
                    "chip": links.chip(row.entity_ref, entities.get(row.entity_uid)),
                    "action": row.get_action_display().lower(),
                    "by": row.by,
                    "fields": len(row.diff),
                    "at": row.at,
                }
                for row in rows
            ]
        }


@register
class ConnectionHealth(Widget[RowsConfig]):
    """How each connection is doing."""

    slug = "connections"
    label = gettext_lazy("Sync health")
    template = "widgets/connections.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        rows = visible_connections(context.request)
        if not rows and connections_of(context.request):
            raise Absent  # there are some, and none that the viewer may look into
        if not rows:
            raise NothingToShow(
                _("No tool is connected yet."),
                icon="plug-connected",
                action={"label": _("Connect a tool"), "url": "/connections/new"}
                if can(context.viewer, "connection.write")
                else None,
            )
        order = {"failed": 0, "partial": 1, "running": 2}
        rows = sorted(rows, key=lambda c: (order.get(c.over_state or "", 3), c.label))
        return {
            "connections": [
                {
                    "label": c.label,
                    "url": f"/connections/{c.slug}",
                    "badge": badge_of_connection(c),
                    "state": "paused" if c.is_paused else c.last_state or "never",
                    "at": c.over_at,
                    "message": c.last_message or "",
                    "stale": connections.stale_since(c, now=context.now),
                }
                for c in rows[: self.config.rows]
            ],
            "card": {
                "footer": ngettext("%(count)d connection", "%(count)d connections", len(rows))
                % {"count": len(rows)},
                "more": {"label": _("All connections"), "url": "/connections"},
            },
        }
