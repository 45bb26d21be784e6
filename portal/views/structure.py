"""What is odd about how the catalog hangs together: circles, and what hangs on nothing."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from catalog import queries, structure
from catalog.kinds import current_kinds
from portal import links
from portal.views.connections import page_of
from portal.views.graph import around
from portal.views.pages import kind_word

SHOWN = 50
ORPHANS = {
    "alone": (
        gettext_lazy("Alone"),
        gettext_lazy("No relation and no tie leads to or from these."),
    ),
    "ownerless": (
        gettext_lazy("No owner"),
        gettext_lazy("These could have an owner, and have none that exists."),
    ),
    structure.DANGLING: (gettext_lazy("Lead nowhere"), gettext_lazy("These name what nothing declares.")),
}


@login_required
@require_safe
def cycles(request: HttpRequest) -> HttpResponse:
    """Things that lead round to themselves."""
    found = structure.cycles(request.user)
    return render(
        request,
        "graph/cycles.html",
        {
            **around("cycles"),
            "cycles": [
                {
                    "label": _("Needs") if one.relation == structure.NEEDS else capfirst(one.label),
                    "size": one.size,
                    "path": [links.chip(entity.ref, entity) for entity in one.path],
                    "first": links.chip(one.path[0].ref, one.path[0]),
                    "url": links.graph_url(one.path[0], depth="1"),
                }
                for one in found.found
                if one.path
            ],
            "is_cut": found.is_cut,
        },
    )


@login_required
@require_safe
def orphans(request: HttpRequest) -> HttpResponse:
    """What hangs on nothing."""
    given = request.GET.get("type", "")
    wanted = given if given in ORPHANS else "alone"
    columns = [{"label": _("Name")}, {"label": _("Kind"), "css": "po-col-m po-keep"}]
    rows: list[dict[str, Any]]
    if wanted == structure.DANGLING:
        edges, page = page_of(
            request, structure.dangling(request.user).order_by("source__ref", "type", "target_ref"), SHOWN
        )
        kinds = current_kinds()
        columns += [{"label": _("Names"), "css": "po-col-auto po-keep"}]
        rows = [
            {
                "key": str(edge.pk),
                "cells": [
                    {"chip": links.chip(edge.source.ref, edge.source)},
                    {"text": kind_word(edge.source)},
                    {
                        "html": format_html(
                            '{} <a class="po-mono text-decoration-underline" href="{}">{}</a>',
                            kinds.label(edge.type),
                            links.ref_url(edge.target_ref),
                            edge.target_ref,
                        )
                    },
                ],
            }
            for edge in edges
        ]
    else:
        lonely = structure.LONELY[wanted](request.user)
        found, page = page_of(request, lonely.only(*queries.LIGHT).order_by("ref"), SHOWN)
        columns += [{"label": _("Named as"), "css": "po-col-auto"}]
        rows = [
            {
                "key": one.ref,
                "cells": [
                    {"chip": links.chip(one.ref, one)},
                    {"text": kind_word(one)},
                    {"mono": one.ref},
                ],
            }
            for one in found
        ]
    return render(
        request,
        "graph/orphans.html",
        {
            **around("orphans"),
            "segments": [
                {"label": label, "url": f"/graph/orphans?type={name}", "is_active": name == wanted}
                for name, (label, _text) in ORPHANS.items()
            ],
            "text": ORPHANS[wanted][1],
            "table": {"caption": ORPHANS[wanted][0], "columns": columns, "rows": rows},
            "page": page,
        },
    )
