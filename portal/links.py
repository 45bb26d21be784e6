"""Where things are in the portal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _

from base.pagination import Page
from catalog.models import Entity
from catalog.search.hits import Hit


def entity_url(entity: Entity, tab: str = "") -> str:
    """The page of an entity."""
    url = f"/catalog/{quote(entity.namespace)}/{quote(entity.kind)}/{quote(entity.name)}"
    return f"{url}?tab={tab}" if tab else url


def graph_url(entity: Entity, **more: str) -> str:
    """What lies around an entity."""
    return "/graph?" + urlencode({"entity": entity.ref, **more}, safe=":/")


def impact_url(entity: Entity) -> str:
    """What breaks if an entity goes."""
    return "/graph/impact?" + urlencode({"entity": entity.ref}, safe=":/")


def ref_url(ref: str) -> str:
    """The page of a ref; leads to a helpful 404 when there is none."""
    kind, _, rest = ref.partition(":")
    namespace, _, name = rest.partition("/")
    return f"/catalog/{quote(namespace)}/{quote(kind)}/{quote(name)}"


def hit_url(hit: Hit) -> str:
    """Where what a search found is shown."""
    url = ref_url(hit.entity)
    if hit.sort == "operation":
        return f"{url}?{urlencode({'tab': 'definition', 'op': hit.key})}"
    if hit.sort == "page":
        path, _hash, heading = hit.key.partition("#")
        return f"{url}?{urlencode({'tab': 'docs', 'page': path})}{f'#md-{quote(heading)}' if heading else ''}"
    if hit.sort == "activity":
        return f"{url}?tab=activity" if hit.entity else "/activity"
    return url


def catalog_url(query: str, **params: str) -> str:
    """The list of what a query finds."""
    return "/catalog?" + urlencode({"q": query, **params}) if query or params else "/catalog"


def kind_in_sentence(title: str) -> str:
    """A kind's title within a sentence: a component, an API."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def history_url(query: str) -> str:
    """What changed lately of what a query finds."""
    return "/history?" + urlencode({"q": query}) if query else "/history"


def tell_me(*, about: str = "entities", query: str = "", **more: str) -> dict[str, Any]:
    """The button of a list that has one told of what comes to match its query."""
    given = {"about": about, "q": query, **more}
    url = "/settings/tell-me/new?" + urlencode({name: value for name, value in given.items() if value})
    return {"label": _("Tell me"), "icon": "bell", "url": url}


def pages_around(page: Page[Any], **kept: str) -> dict[str, str]:
    """Where the pages before and after one of a list are, as the pagination component takes it.

    :param kept: what else stands in the address.
    """
    params = {name: value for name, value in kept.items() if value}
    return {
        name: "?" + urlencode({**params, "cursor": cursor}) if cursor else ""
        for name, cursor in (("previous_url", page.previous), ("next_url", page.next))
    }


def places_around(
    url: Callable[[int], str], *, start: int, shown: int, total: int, size: int
) -> dict[str, Any]:
    """Where one is in a list that is counted, as the pagination component takes it.

    :param url: the address at which the list begins with so many left out.
    :param start: how many are left out now; `shown`: how many stand there; `size`: how many may.
    """
    return {
        "first": start + 1 if shown else 0,
        "last": start + shown,
        "total": total,
        "previous_url": url(max(start - size, 0)) if start else "",
        "next_url": url(start + size) if start + size < total else "",
    }


def chip(ref: str, entity: Entity | None = None) -> dict[str, Any]:
    """An entity as the chip component takes it; without the entity a missing one."""
    if entity is None:
        return {"ref": ref, "title": ref.rpartition("/")[2], "kind": ref.partition(":")[0], "missing": True}
    return {"ref": entity.ref, "title": entity.title, "kind": icon_kind(entity), "url": entity_url(entity)}


def owner_chip(ref: str, entity: Entity | None = None) -> dict[str, Any]:
    """The same of an owner; a missing one leads to where it is settled who that is."""
    return chip(ref, entity) | ({} if entity else {"url": f"{ref_url(ref)}/unknown"})


def owner_of(entity: Entity, owners: Mapping[str, Entity]) -> dict[str, Any] | None:
    """The owner that an entity says it has, as its chip; None if it says none.

    :param owners: those that the viewer sees, by their refs.
    """
    return owner_chip(entity.owner, owners.get(entity.owner)) if entity.owner else None


def icon_kind(one: Entity | Hit) -> str:
    """The word that picks an entity's icon: its type where that has one of its own."""
    return one.type if one.kind == "component" and one.type in {"website", "library"} else one.kind


def absolute(request: HttpRequest, path: str) -> str:
    """A path as others reach it: at `PORTICO_URL` where that is set, else where this request came in."""
    return (
        settings.PORTICO_URL.rstrip("/") + path if settings.PORTICO_URL else request.build_absolute_uri(path)
    )


def folder_url(repository: str, branch: str, path: str) -> str:
    """The page of a file's folder, against which the relative links in the file are meant.

    :param repository: the repository's own page.
    :param path: of the file, inside the repository.
    :returns: empty where it is not known how the host addresses files, so that such links lead nowhere.
    """
    host = urlsplit(repository).hostname or ""
    name = quote(branch, safe="/")
    if not branch or not host:
        return ""
    if host == "bitbucket.org":
        files = f"src/{name}"
    elif host == "codeberg.org" or host.split(".")[0] in {"gitea", "forgejo"}:
        files = f"src/branch/{name}"
    elif host.split(".")[0] == "gitlab":
        files = f"-/blob/{name}"
    elif host == "github.com" or host.split(".")[0] in {"github", "ghe"}:
        files = f"blob/{name}"
    else:
        return ""
    folder = quote(path.rpartition("/")[0])
    return f"{repository.rstrip('/').removesuffix('.git')}/{files}/{folder}{'/' if folder else ''}"
