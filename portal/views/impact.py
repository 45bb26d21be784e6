"""What breaks if an entity goes, and whom to tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from base.errors import DomainError
from base.text import whole_number
from catalog import graph, queries
from catalog.documents import InvalidRef
from catalog.models import Entity
from portal import links
from portal.templatetags.portico import num
from portal.views.graph import ROWS, around, away, begin

OWNERS = 50
T = TypeVar("T")


@login_required
@require_safe
def impact(request: HttpRequest) -> HttpResponse:
    """What breaks if an entity goes, and whom to tell."""
    text = request.GET.get("entity", "").strip()[:1_000]
    if not text:
        return begin(request, [], active="impact")
    try:
        entity = queries.entity_of_ref(request.user, text)
    except (DomainError, InvalidRef) as error:
        return begin(request, [error.message], active="impact", text=text, status=404)
    found = graph.impact_of(request.user, entity)
    owners = {owner.ref: owner.entity for owner in found.owners if owner.entity}
    told, owners_page = _page(request, found.owners, "owners", OWNERS, _("Pages of owners"))
    hits_shown, hits_page = _page(request, found.hits, "hits", ROWS, _("Pages of what is hit"))
    in_level = Counter(hit.level for hit in found.hits)
    by_level: dict[int, list[graph.Hit]] = {}
    for hit in hits_shown:
        by_level.setdefault(hit.level, []).append(hit)
    columns = [
        {"label": _("Name")},
        {"label": _("What happens"), "css": "po-col-m po-keep"},
        {"label": _("Why"), "css": "po-col-auto"},
        {"label": _("Owner")},
    ]
    groups = [
        {
            "heading": away(level),
            "count": in_level[level],
            "table": {
                "caption": away(level),
                "columns": columns,
                "rows": [_hit_row(hit, owners) for hit in hits],
            },
        }
        for level, hits in by_level.items()
    ]
    return render(
        request,
        "graph/impact.html",
        {
            **around("impact", entity),
            "entity": entity,
            "found": found,
            "missing_part": len(found.hits) - found.broken,
            "groups": groups,
            "hits_page": hits_page,
            "owners_page": owners_page,
            "owners": {
                "caption": _("Owners to tell"),
                "columns": [
                    {"label": _("Owner")},
                    {"label": _("Address"), "css": "po-col-l po-keep"},
                    {"label": _("Of theirs"), "css": "po-col-auto"},
                    {"label": _("Things"), "css": "po-num"},
                ],
                "rows": [_owner_row(owner) for owner in told],
            },
            "copy": _as_text(request, found),
        },
    )


def _page(
    request: HttpRequest, found: Sequence[T], parameter: str, size: int, label: str
) -> tuple[Sequence[T], dict[str, Any] | None]:
    """The part of a list that the address asks for, and the way to the others; None if it is all."""
    if len(found) <= size:
        return found, None
    start = whole_number(request.GET.get(parameter, "")) // size * size
    if start >= len(found):
        start = 0

    def url(at: int) -> str:
        params = {name: value for name, value in request.GET.items() if name != parameter}
        return f"{request.path}?{urlencode(params | {parameter: str(at)})}#{parameter}-title"

    part = found[start : start + size]
    shown = links.places_around(url, start=start, shown=len(part), total=len(found), size=size)
    return part, shown | {"label": label}


def _hit_row(hit: graph.Hit, owners: Mapping[str, Entity]) -> dict[str, Any]:
    entity = hit.entity
    owner = links.owner_of(entity, owners)
    return {
        "key": entity.ref,
        "cells": [
            {"chip": links.chip(entity.ref, entity)},
            {"text": _("Breaks") if hit.is_broken else _("Misses a part")},
            {"text": f"{hit.label} {hit.by.title}"},
            {"owner": owner} if owner else {"is_owner": True},
        ],
    }


def _owner_row(owner: graph.Owner) -> dict[str, Any]:
    names = ", ".join(hit.entity.title for hit in owner.hits[:3])
    beyond = len(owner.hits) - 3
    if beyond > 0:
        names = _("%(names)s and %(n)s more") % {"names": names, "n": num(beyond)}
    return {
        "key": owner.ref,
        "cells": [
            {"owner": links.owner_chip(owner.ref, owner.entity)} if owner.ref else {"is_owner": True},
            {"url": f"mailto:{owner.email}", "text": owner.email} if owner.email else {"text": ""},
            {"text": names},
            {"text": num(len(owner.hits))},
        ],
    }


def _as_text(request: HttpRequest, found: graph.Impact) -> str:
    """What is told to the owners, as a text to paste into a message."""
    entity = found.entity
    lines = [
        ngettext(
            "If %(name)s (%(ref)s) goes, %(n)d thing is hit:",
            "If %(name)s (%(ref)s) goes, %(n)d things are hit:",
            len(found.hits),
        )
        % {"name": entity.title, "ref": entity.ref, "n": len(found.hits)}
    ]
    for owner in found.owners:
        name = owner.entity.title if owner.entity else owner.ref or _("No owner")
        lines += ["", f"{name} <{owner.email}>" if owner.email else name]
        lines += [
            f"- {hit.entity.title} ({hit.entity.ref}): {hit.label} {hit.by.title}"
            + ("" if hit.is_broken else f", {_('misses a part')}")
            for hit in owner.hits
        ]
    return "\n".join([*lines, "", links.absolute(request, links.impact_url(entity))])
