"""The graph of the catalog, explored from any entity; and what all pages of the graph have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_safe

from base.errors import DomainError
from base.text import whole_number
from catalog import graph, queries
from catalog.documents import InvalidRef
from catalog.kinds import current_kinds
from catalog.models import Entity
from portal import links
from portal.bookmarks import bookmarks_of
from portal.people import person
from portal.templatetags.portico import FALLBACK_KIND, KINDS, num
from portal.views.pages import kind_word

ROWS = 100  # of one table: more at once hold a browser up
LAYOUTS = {
    "right": gettext_lazy("To the right"),
    "down": gettext_lazy("Downwards"),
    "rings": gettext_lazy("Rings"),
    "free": gettext_lazy("Free"),
}
DIRECTIONS = {
    graph.Direction.BOTH: gettext_lazy("Both ways"),
    graph.Direction.OUT: gettext_lazy("What it names"),
    graph.Direction.IN: gettext_lazy("What names it"),
}


@dataclass(frozen=True)
class Asked:
    """What the address of the page says."""

    entity: str = ""
    depth: int = 2
    direction: graph.Direction = graph.Direction.BOTH
    layout: str = ""
    kinds: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: HttpRequest) -> tuple[Asked, list[str]]:
        """What is asked for, and sentences on what of it could not be understood."""
        refused = []
        get = request.GET.get
        known = {
            "kind": {view.name for view in current_kinds()},
            "relation": set(current_kinds().inverses),
        }
        words: dict[str, tuple[str, ...]] = {}
        for name, there in known.items():
            given = [word for word in get(name, "")[:2_000].split(",") if word]
            words[name] = tuple(word for word in given if word in there)
            refused += [
                _("There is no %(what)s “%(word)s”.") % {"what": name, "word": word[:60]}
                for word in given
                if word not in there
            ]
        depth = whole_number(get("depth", ""), default=2)
        direction, layout = get("direction", "both"), get("layout", "")
        return cls(
            entity=get("entity", "").strip()[:1_000],
            depth=depth if 1 <= depth <= graph.MOST_DEPTH else 2,
            direction=graph.Direction(direction) if direction in DIRECTIONS else graph.Direction.BOTH,
            layout=layout if layout in LAYOUTS else "",
            kinds=words["kind"],
            relations=words["relation"],
            opened=tuple(ref for ref in get("open", "")[:20_000].split(",") if ref)[: graph.MOST_OPEN],
        ), refused

    def url(self, **changes: Any) -> str:
        """The page with something else asked for."""
        said = {
            "entity": self.entity,
            "depth": "" if self.depth == 2 else str(self.depth),
            "direction": "" if self.direction == graph.Direction.BOTH else self.direction.value,
            "layout": self.layout,
            "kind": ",".join(self.kinds),
            "relation": ",".join(self.relations),
            "open": ",".join(self.opened),
            **changes,
        }
        kept = {name: value for name, value in said.items() if value}
        return "/graph?" + urlencode(kept, safe=":/,@") if kept else "/graph"


@login_required
@require_safe
def explore(request: HttpRequest) -> HttpResponse:
    """What lies around an entity, as a picture and as a list."""
    asked, notices = Asked.of(request)
    if not asked.entity:
        return begin(request, notices)
    try:
        entity = queries.entity_of_ref(request.user, asked.entity)
    except (DomainError, InvalidRef) as error:
        return begin(request, [error.message], text=asked.entity, status=404)
    if asked.entity != entity.ref:
        return redirect(asked.url(entity=entity.ref))
    found = graph.explore(
        request.user,
        [entity],
        depth=asked.depth,
        direction=asked.direction,
        kinds=asked.kinds,
        relations=asked.relations,
        opened=asked.opened,
    )
    owners = queries.titles_of(request.user, (node.entity.owner for node in found.nodes))
    return render(
        request,
        "graph/explore.html",
        {
            **around("explore", entity),
            "entity": entity,
            "asked": asked,
            "notices": notices,
            "found": found,
            "groups": _groups(found, owners, asked),
            "data": json.dumps(_drawing(found, owners, asked, entity), separators=(",", ":")),
            "kinds": _kinds(found, asked),
            "relations": _relations(found, asked),
            "depths": [
                _choice(asked, ngettext("%(n)d step", "%(n)d steps", n) % {"n": n}, n == asked.depth, depth=n)
                for n in range(1, graph.MOST_DEPTH + 1)
            ],
            "depth": ngettext("%(n)d step", "%(n)d steps", asked.depth) % {"n": asked.depth},
            "directions": [
                _choice(asked, str(label), value == asked.direction, direction=value.value)
                for value, label in DIRECTIONS.items()
            ],
            "direction": str(DIRECTIONS[asked.direction]),
            "layouts": [
                _choice(asked, str(label), value == _layout(asked, found), layout=value)
                for value, label in LAYOUTS.items()
            ],
            "layout": str(LAYOUTS[_layout(asked, found)]),
            "is_narrowed": bool(asked.kinds or asked.relations),
            "all_url": asked.url(kind="", relation=""),
            "most": graph.MOST_NODES,
        },
    )


def begin(
    request: HttpRequest,
    notices: list[str],
    *,
    active: str = "explore",
    text: str = "",
    status: int = 200,
) -> HttpResponse:
    """The page before one has said where to begin."""
    url = links.impact_url if active == "impact" else links.graph_url
    kept = bookmarks_of(person(request))
    near = list(dict.fromkeys([*kept.recent, *kept.favourites]))[:8]
    return render(
        request,
        "graph/start.html",
        {
            **around(active),
            "is_impact": active == "impact",
            "text": text,
            "notices": notices,
            "near": [links.chip(one.ref, one) | {"url": url(one)} for one in near],
        },
        status=status,
    )


def around(active: str, entity: Entity | None = None) -> dict[str, Any]:
    """Header, tabs and breadcrumbs of the pages of the graph."""
    tabs = [
        ("explore", _("Explore"), links.graph_url(entity) if entity else "/graph"),
        ("impact", _("What breaks"), links.impact_url(entity) if entity else "/graph/impact"),
        ("cycles", _("Circles"), "/graph/cycles"),
        ("orphans", _("Orphans"), "/graph/orphans"),
    ]
    titles = {
        "explore": _("Around %(name)s"),
        "impact": _("If %(name)s goes"),
    }
    title = titles[active] % {"name": entity.title} if entity else _("Graph")
    shell: dict[str, Any] = {
        "title": title,
        "page_title": title,
        "tabs": [{"label": label, "url": url, "is_active": name == active} for name, label, url in tabs],
    }
    if entity:
        shell["kind"] = links.icon_kind(entity)
        shell["breadcrumbs"] = [
            {"label": _("Graph"), "url": "/graph"},
            {"label": entity.title, "url": links.entity_url(entity)},
        ]
    return shell


def _choice(asked: Asked, label: str, is_active: bool, **changes: Any) -> dict[str, Any]:
    return {"label": label, "url": asked.url(**changes), "is_active": is_active}


def _layout(asked: Asked, found: graph.Graph) -> str:
    """How it is laid out: what is wide does not fit into ranks, and what is very wide takes long to settle freely."""
    count = len(found.nodes)
    return asked.layout or ("right" if count <= 60 else "free" if count <= 150 else "rings")


def _kinds(found: graph.Graph, asked: Asked) -> list[dict[str, Any]]:
    """The kinds to narrow to, which are the legend too: those that are there, then the others, if some are chosen."""
    names = [*found.kinds, *(name for name in asked.kinds if name not in found.kinds)]
    if asked.kinds:
        names += sorted(view.name for view in current_kinds() if view.name not in names)
    kinds = current_kinds()
    return [
        {
            "name": name,
            "label": kinds.by_name(name).definition.plural if name in kinds else name,
            "count": found.kinds.get(name),
            "is_on": name in asked.kinds,
            "url": asked.url(kind=_toggled(asked.kinds, name)),
        }
        for name in names
    ]


def _relations(found: graph.Graph, asked: Asked) -> list[dict[str, Any]]:
    kinds = current_kinds()
    chosen = graph.stored_types(asked.relations)
    names = [*found.relations, *(name for name in sorted(chosen) if name not in found.relations)]
    if chosen:
        names += sorted(name for name in graph.all_types() if name not in names)
    return [
        {
            "name": name,
            "label": capfirst(kinds.label(name)),
            "count": found.relations.get(name),
            "is_on": name in chosen,
            "url": asked.url(relation=_toggled(sorted(chosen), name)),
        }
        for name in names
    ]


def _toggled(chosen: Iterable[str], name: str) -> str:
    names = list(chosen)
    return ",".join([one for one in names if one != name] if name in names else [*names, name])


# --- as a list ------------------------------------------------------------------------------------------------


def _groups(found: graph.Graph, owners: Mapping[str, Entity], asked: Asked) -> list[dict[str, Any]]:
    """The things as tables, by how far they are: what the picture shows, for who reads or hears it."""
    how = _how(found)
    by_level: dict[int, list[graph.Node]] = {}
    for node in found.nodes:
        by_level.setdefault(node.level, []).append(node)
    columns = [
        {"label": _("Name")},
        {"label": _("How"), "css": "po-col-auto po-keep"},
        {"label": _("Owner")},
        {"label": _("More"), "css": "po-col-m po-keep"},
    ]
    groups = []
    for level, nodes in by_level.items():
        if level > 0:
            rows = [_row(node, how.get(node.entity.ref, ""), owners, asked) for node in nodes]
            groups += tables(away(level), columns, rows)
    if found.missing:
        rows = [
            {
                "key": ref,
                "cells": [
                    {"chip": links.chip(ref) | {"url": links.ref_url(ref)}},
                    {"text": how.get(ref, "")},
                    {"text": _("Nothing declares it")},
                    {"text": ""},
                ],
            }
            for ref in found.missing
        ]
        groups += tables(_("Missing"), columns, rows)
    return groups


def away(level: int) -> str:
    """How far something is, as a heading."""
    return ngettext("%(n)d step away", "%(n)d steps away", level) % {"n": level}


def tables(heading: str, columns: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as tables of `ROWS` each, of which the first has the heading."""
    return [
        {
            "heading": "" if start else heading,
            "count": len(rows),
            "table": {"caption": heading, "columns": columns, "rows": rows[start : start + ROWS]},
        }
        for start in range(0, len(rows), ROWS)
    ]


def _row(node: graph.Node, how: str, owners: Mapping[str, Entity], asked: Asked) -> dict[str, Any]:
    entity = node.entity
    owner = links.owner_of(entity, owners)
    more: dict[str, Any] = {"text": ""}
    if entity.ref in asked.opened:
        more["html"] = format_html(
            '<a href="{}">{}<span class="po-sr"> {}</span></a>',
            asked.url(open=",".join(ref for ref in asked.opened if ref != entity.ref)),
            _("Show fewer"),
            _("around %(name)s") % {"name": entity.title},
        )
    elif node.more and not node.is_open:
        more["html"] = format_html(
            '<a href="{}" data-open="{}">{}<span class="po-sr"> {}</span></a>',
            asked.url(open=",".join([*asked.opened, entity.ref])),
            entity.ref,
            _("Show %(n)s more") % {"n": num(node.more)},
            _("around %(name)s") % {"name": entity.title},
        )
    elif node.more:
        more["text"] = _("%(n)s more") % {"n": num(node.more)}
    return {
        "key": entity.ref,
        "cells": [
            {"chip": links.chip(entity.ref, entity)},
            {"text": how},
            {"owner": owner} if owner else {"text": ""},
            more,
        ],
    }


def _how(found: graph.Graph) -> dict[str, str]:
    """How each thing hangs together with what is nearer, as it reads from it."""
    kinds = current_kinds()
    levels = {node.entity.ref: node.level for node in found.nodes}
    titles = {node.entity.ref: node.entity.title for node in found.nodes}
    said: dict[str, dict[str, list[str]]] = {}
    for edge in found.edges:
        source, target = levels.get(edge.source, 0), levels.get(edge.target)
        if target is None or target > source:
            far, near, label = edge.target, edge.source, kinds.label(kinds.inverse(edge.type))
        elif source > target:
            far, near, label = edge.source, edge.target, edge.label
        else:
            continue
        said.setdefault(far, {}).setdefault(label, []).append(titles[near])
    return {
        ref: "; ".join(
            f"{label} {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
            for label, names in labels.items()
        )
        for ref, labels in said.items()
    }


# --- as a picture ---------------------------------------------------------------------------------------------


def _drawing(found: graph.Graph, owners: Mapping[str, Entity], asked: Asked, root: Entity) -> dict[str, Any]:
    """What the page's script draws, in short: it stands in an attribute."""
    nodes: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for node in found.nodes:
        entity = node.entity
        places[entity.ref] = len(nodes)
        owner = owners.get(entity.owner)
        nodes.append(
            {
                "ref": entity.ref,
                "title": entity.title,
                "kind": kind_word(entity),
                "hue": KINDS.get(links.icon_kind(entity), FALLBACK_KIND)[1],
                "level": node.level,
                "more": 0 if node.is_open else node.more,
                "owner": owner.title if owner else entity.owner.rpartition("/")[2],
                "url": links.entity_url(entity),
            }
        )
    for ref in found.missing:
        places[ref] = len(nodes)
        nodes.append(
            {
                "ref": ref,
                "title": ref.rpartition("/")[2],
                "kind": capfirst(ref.partition(":")[0]),
                "hue": "c8",
                "level": 1,
                "missing": 1,
                "url": links.ref_url(ref),
            }
        )
    return {
        "nodes": nodes,
        "edges": [
            [places[edge.source], places[edge.target], edge.label, int(edge.is_tie)] for edge in found.edges
        ],
        "layout": _layout(asked, found),
        "url": asked.url(open=""),
        "open": list(asked.opened),
        "name": root.title,
    }
