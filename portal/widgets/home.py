"""The cards of the first page."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC
from functools import lru_cache
from typing import Any

from django.db.models import Case, When
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from pydantic import Field

from access.permissions import can
from catalog import queries
from catalog.models import UNCLEAR, Entity
from catalog.query import FIELDS, terms_of
from integrations import queries as connections
from integrations.models import CatalogLocation
from portal import events, links
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


def _counts(context: PageContext) -> dict[str, int]:
    if "counts" not in context.cache:
        context.cache["counts"] = queries.counts_by_kind(context.viewer)
    found: dict[str, int] = context.cache["counts"]
    return found


@register
class GetStarted(Widget[WidgetConfig]):
    """Three ways on from an empty portal; and a word to those who may see nothing of a full one."""

    slug = "get-started"
    label = gettext_lazy("Get started")
    template = "widgets/get_started.html"
    slots = frozenset({"home"})

    def data(self, context: PageContext) -> dict[str, Any]:
        if not is_empty(context):
            if _counts(context):
                raise Absent
            context.cache["sees_nothing"] = True
            return {"sees_nothing": True}
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
        counts = _counts(context)
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


_UNCLEAR = f"problem:{','.join(UNCLEAR)}"
# What is to be seen to: name, which entities, and what to do about it; the most pressing first.
_TO_SEE_TO: tuple[tuple[Any, str, Any], ...] = (
    (
        gettext_lazy("Ambiguous"),
        _UNCLEAR,
        gettext_lazy("Settle what is ambiguous"),
    ),
    (gettext_lazy("Without owner"), "kind:component -has:owner", gettext_lazy("Give owners")),
    (gettext_lazy("Unknown owner"), "is:unknown-owner", gettext_lazy("Say who unknown owners are")),
    (gettext_lazy("Sources disagree"), "has:conflict", gettext_lazy("See who says what")),
    (gettext_lazy("Failing"), "kind:component is:failing", gettext_lazy("See what fails")),
)

_PAGES = {
    "is:unknown-owner": "/catalog/unknown-owners",
    _UNCLEAR: "/problems?type=unclear",
}  # what is settled elsewhere than in a list


@register
class ToSeeTo(Widget[WidgetConfig]):
    """What of the catalog wants a person: numbers that lead on, and the next step."""

    slug = "to-see-to"
    label = gettext_lazy("To see to")
    description = gettext_lazy(
        "What has no owner or one that is not in the catalog, is ambiguous, disagreed on or failing, and the next step"
    )
    template = "widgets/entities.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        if is_empty(context) or context.cache.get("sees_nothing"):
            raise Absent
        counts = queries.counts_of(
            context.viewer, {query: query for _label, query, _step in _TO_SEE_TO}, now=context.now
        )
        context.cache["counted"] = counts
        items, steps = [], []
        for label, query, step in _TO_SEE_TO:
            url = _PAGES.get(query) or links.catalog_url(query)
            items.append(
                {"title": label, "url": url, "value": number_format(counts[query], force_grouping=True)}
            )
            if counts[query]:
                steps.append({"label": step, "url": url})
        if not steps and can(context.viewer, "user.write"):
            steps.append({"label": _("Invite colleagues"), "url": "/settings/access?invite=1"})
        card = {"footer": _("Next step"), "more": steps[0]} if steps else {"footer": _("All is settled.")}
        return {"items": items, "card": card}


@register
class WaitingForMe(Widget[RowsConfig]):
    """Open changes that wait for the viewer; absent for those who are nobody in the catalog yet."""

    slug = "waiting-for-me"
    label = gettext_lazy("Changes waiting for me")
    description = gettext_lazy("Open changes that the viewer is asked to review, or of what is theirs")
    template = "widgets/entities.html"
    needs = frozenset({"change"})

    def data(self, context: PageContext) -> dict[str, Any]:
        if getattr(context.viewer, "entity_uid", None) is None:
            raise Absent
        found = queries.waiting_for(context.viewer, now=context.now)
        if not found:
            raise NothingToShow(_("No open change waits for you."), icon="circle-check")
        shown = found[: self.config.rows]
        return {
            "items": [
                {
                    "title": events.title_of(change),
                    "url": change.url,
                    "icon": events.ICONS["change"],
                    "text": " · ".join(filter(None, [change.subject_ref.rpartition("/")[2], change.actor])),
                    "value": _("review") if is_asked else "",
                    "at": change.at,
                }
                for change, is_asked in shown
            ],
            "card": {"footer": _("%(shown)d of %(total)d") % {"shown": len(shown), "total": len(found)}},
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
        counted = context.cache.get("counted", {})
        total = len(rows)
        if total == self.config.rows:
            total = counted[self.config.query] if self.config.query in counted else found.count()
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
        found = bookmarks_of(context.viewer, with_recent=False).favourites
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


class ChangesConfig(RowsConfig):
    """Which changes."""

    since_last_visit: bool = Field(
        False, description="Only what changed since the viewer was here before; lately, on the first visit."
    )


@register
class RecentChanges(Widget[ChangesConfig]):
    """What changed in the catalog lately, or since the viewer's last visit."""

    slug = "recent-changes"
    label = gettext_lazy("Changed lately")
    template = "widgets/recent_changes.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        changes = queries.recent_changes(context.viewer)
        card: dict[str, Any] = {}
        if self.config.since_last_visit and (since := getattr(context.viewer, "last_visit_at", None)):
            changes = changes.filter(at__gt=since)
            query = f"changed:>={since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            card = {
                "title": _("Changed since your last visit"),
                "more": {"label": _("Open as list"), "url": links.catalog_url(query, order="-changed")},
            }
        # What a tool touches at each sync would push all else out: each entity stands once.
        newest: dict[Any, Any] = {}
        for row in changes[: 20 * self.config.rows]:
            newest.setdefault(row.entity_uid, row)
        rows = list(newest.values())[: self.config.rows]
        if not rows:
            since_then = _("Nothing has changed since your last visit.") if card else ""
            raise NothingToShow(since_then or _("Nothing has changed yet."), icon="history")
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
            ],
            "card": card,
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
        order = {"failed": 0, "partial": 1, "running": 3}
        stale = {c.pk: since for c in rows if (since := connections.stale_since(c, now=context.now))}
        rows = sorted(
            rows, key=lambda c: (min(order.get(c.over_state or "", 4), 2 if c.pk in stale else 4), c.label)
        )
        footer = ngettext("%(count)d connection", "%(count)d connections", len(rows)) % {"count": len(rows)}
        if stale:
            footer += ", " + _("%(count)d stale") % {"count": len(stale)}
        return {
            "connections": [
                {
                    "label": c.label,
                    "url": f"/connections/{c.slug}",
                    "badge": badge_of_connection(c),
                    "state": "paused" if c.is_paused else c.last_state or "never",
                    "at": c.over_at,
                    "message": c.last_message or "",
                    "stale": stale.get(c.pk),
                }
                for c in rows[: self.config.rows]
            ],
            "card": {
                "footer": footer,
                "more": {"label": _("All connections"), "url": "/connections"},
            },
        }
