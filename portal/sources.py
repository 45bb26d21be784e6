"""Sources as people see them: a label and a monogram, whatever kind of source it is."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from catalog.models import Source, SourceType
from integrations.models import Connection
from integrations.registry import connectors
from portal.widgets.base import PageContext


def badge_of_connection(connection: Connection) -> dict[str, str]:
    """A connection's label and monogram."""
    return badge(connection.label, connection.connector)


def badge(label: str, connector: str) -> dict[str, str]:
    """A label with a connector's monogram."""
    kind = connectors().get(connector)
    if kind is None:
        return {"label": label, "letters": "", "category": "files"}
    return {"label": label, "letters": kind.monogram, "category": str(kind.category)}


def badge_of_source(source: Source) -> dict[str, str]:
    """A source's label and monogram."""
    if source.type == SourceType.YAML:
        return {"label": source.label, "letters": "Ym", "category": "files"}
    if source.type == SourceType.PERSON:
        return {"label": source.label, "letters": "Me", "category": "people"}
    if source.type == SourceType.API:
        return {"label": source.label, "letters": "Ap", "category": "files"}
    return badge(source.label, source.connector)


def badges(context: PageContext, names: list[str]) -> list[dict[str, Any]]:
    """The monograms of an entity's sources by their names; connections are read once a page."""
    known: dict[str, Connection] = context.cache.get("connections") or {
        connection.slug: connection for connection in Connection.objects.only("slug", "label", "connector")
    }
    context.cache["connections"] = known
    found = []
    for name in names:
        if name in known:
            found.append(badge_of_connection(known[name]))
        elif name == "person":
            found.append({"label": _("A person"), "letters": "Me", "category": "people"})
        elif name == "api":
            found.append({"label": _("The API"), "letters": "Ap", "category": "files"})
        else:
            found.append({"label": _("Catalog files"), "letters": "Ym", "category": "files"})
    return found
