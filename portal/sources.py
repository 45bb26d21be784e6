"""Sources as people see them: a label and a monogram, whatever kind of source it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from access.permissions import visible
from catalog.models import Revision, Source, SourceType
from integrations.contract import Category
from integrations.models import Connection
from integrations.queries import with_states, words_as_seen
from integrations.registry import connectors
from portal.widgets.base import PageContext


def badge_of_connection(connection: Connection) -> dict[str, str]:
    """A connection's label and monogram; one whose tool may be of any kind says in its settings which."""
    own = connection.config.get("category", "")
    return badge(connection.label, connection.connector) | ({"category": own} if own in _CATEGORIES else {})


def badge(label: str, connector: str) -> dict[str, str]:
    """A label with a connector's monogram."""
    kind = connectors().get(connector)
    if kind is None:
        return {"label": label, "letters": "", "category": "files"}
    # The letters are of the connection, not of its tool: two build farms have to be told apart.
    return {"label": label, "letters": "", "category": str(kind.category)}


_CATEGORIES = {category.value for category in Category}


def badge_of_source(source: Source, known: Mapping[str, Connection]) -> dict[str, str]:
    """A source's label and monogram.

    :param known: connections by slug.
    """
    if source.name in known:
        return badge_of_connection(known[source.name])
    if source.type == SourceType.YAML:
        return {"label": source.label, "letters": "Ym", "category": "files"}
    if source.type == SourceType.PERSON:
        # Their own initials: a fixed pair would stand for whoever looks as well.
        return {"label": source.label, "letters": "", "category": "people"}
    if source.type == SourceType.API:
        return {"label": source.label, "letters": "Ap", "category": "files"}
    return badge(source.label, source.connector)


def connections_of(request: HttpRequest) -> dict[str, Any]:
    """All connections by slug with the state of their last run, read once a request.

    Their labels and monograms are shown with what they brought, to everybody who sees that.
    """
    known: dict[str, Any] | None = getattr(request, "portico_connections", None)
    if known is None:
        known = {row.slug: row for row in with_states(Connection.objects.all())}
        request.portico_connections = known  # type: ignore[attr-defined]
    return known


def run_url(request: HttpRequest, revision: Revision) -> str:
    """The page of the sync run that brought a change, for who may look into its connection; else empty."""
    slug = revision.by_key.removeprefix("connection:").partition("/")[0]
    if not revision.run or slug not in {connection.slug for connection in visible_connections(request)}:
        return ""
    return f"/connections/{slug}/runs/{revision.run}"


def visible_connections(request: HttpRequest) -> list[Any]:
    """Those of them that the person may look into, found once a request."""
    seen: list[Any] | None = getattr(request, "portico_visible_connections", None)
    if seen is None:
        everything = Connection.objects.all()
        mine = visible(request.user, everything)
        seen = list(connections_of(request).values())
        if mine is not everything:
            keys = set(mine.values_list("pk", flat=True))
            seen = words_as_seen(request.user, [row for row in seen if row.pk in keys])
        request.portico_visible_connections = seen  # type: ignore[attr-defined]
    return seen


def tied_badges(context: PageContext, names: Collection[str]) -> list[dict[str, Any]]:
    """The monograms of what speaks of things that are tied to an entity: of what the viewer may look into."""
    if not names:
        return []
    seen = {row.slug for row in visible_connections(context.request)}
    hidden = set(connections_of(context.request)) - seen
    return badges(context, [name for name in names if name not in hidden])


def badges(context: PageContext, names: list[str]) -> list[dict[str, Any]]:
    """The monograms of an entity's sources by their names; connections are read once a page."""
    known = connections_of(context.request)
    found = []
    for name in names:
        if name in known:
            found.append(badge_of_connection(known[name]))
        elif name == "person":
            found.append({"label": _("A person"), "letters": "Pe", "category": "people"})
        elif name == "api":
            found.append({"label": _("The API"), "letters": "Ap", "category": "files"})
        else:
            found.append({"label": _("Catalog files"), "letters": "Ym", "category": "files"})
    return found
