"""Where things are in the portal."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.http import HttpRequest

from catalog.models import Entity


def entity_url(entity: Entity, tab: str = "") -> str:
    """The page of an entity."""
    url = f"/catalog/{quote(entity.namespace)}/{quote(entity.kind)}/{quote(entity.name)}"
    return f"{url}?tab={tab}" if tab else url


def ref_url(ref: str) -> str:
    """The page of a ref; leads to a helpful 404 when there is none."""
    kind, _, rest = ref.partition(":")
    namespace, _, name = rest.partition("/")
    return f"/catalog/{quote(namespace)}/{quote(kind)}/{quote(name)}"


def catalog_url(query: str, **params: str) -> str:
    """The list of what a query finds."""
    return "/catalog?" + urlencode({"q": query, **params}) if query or params else "/catalog"


def chip(ref: str, entity: Entity | None = None) -> dict[str, Any]:
    """An entity as the chip component takes it; without the entity a missing one."""
    if entity is None:
        return {"ref": ref, "title": ref.rpartition("/")[2], "kind": ref.partition(":")[0], "missing": True}
    return {"ref": entity.ref, "title": entity.title, "kind": icon_kind(entity), "url": entity_url(entity)}


def icon_kind(entity: Entity) -> str:
    """The word that picks an entity's icon: its type where that has one of its own."""
    return (
        entity.type if entity.kind == "component" and entity.type in {"website", "library"} else entity.kind
    )


def absolute(request: HttpRequest, path: str) -> str:
    """A path as others reach it: at `PORTICO_URL` where that is set, else where this request came in."""
    return (
        settings.PORTICO_URL.rstrip("/") + path if settings.PORTICO_URL else request.build_absolute_uri(path)
    )
