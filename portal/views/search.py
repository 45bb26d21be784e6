"""What the search boxes suggest: entities and pages, terms of a query, refs."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _

from base.text import whole_number
from catalog import queries
from catalog.lookup import MAX_TEXT, look_up
from catalog.query import QueryError
from catalog.query import suggest as suggest_terms
from portal import links, shell
from portal.views.anything import is_pasted

SHOWN = 8


@login_required
def suggest(request: HttpRequest) -> HttpResponse:
    """Entities and pages for a few letters: names that begin so first, then whatever the query finds.

    Without a letter, all pages.
    """
    pasted = request.GET.get("q", "").strip()[:MAX_TEXT]
    text = pasted[:200]
    items = [
        {"chip": links.chip(entity.ref, entity), "text": entity.kind, "url": links.entity_url(entity)}
        for entity in (look_up(request.user, pasted).entities[:SHOWN] if is_pasted(pasted) else [])
    ]
    if text and not items:
        rows = queries.list_entities(request.user)
        first = list(rows.filter(name__startswith=text.lower()).order_by("name")[:SHOWN])
        if len(first) < SHOWN:
            try:
                found = queries.search_entities(request.user, text, now=timezone.now())
                known = {entity.pk for entity in first}
                first += [entity for entity in found.order_by("name")[:SHOWN] if entity.pk not in known]
            except QueryError:
                pass
        items = [
            {"chip": links.chip(entity.ref, entity), "text": entity.kind, "url": links.entity_url(entity)}
            for entity in first[:SHOWN]
        ]
    groups = [{"label": _("Entities"), "items": items}, {"label": _("Pages"), "items": _pages(request, text)}]
    values = {"groups": [group for group in groups if group["items"]], "text": text}
    return render(request, "search/suggest.html", values)


def _pages(request: HttpRequest, text: str) -> list[dict[str, Any]]:
    """The pages of the navigation, and what can be made, whose name holds the letters."""
    around = shell.context(request)["shell"]
    pages = [*(item for group in around["nav"] for item in group["items"]), *around.get("create", [])]
    return [page for page in pages if text.casefold() in str(page["label"]).casefold()]


@login_required
def refs(request: HttpRequest) -> HttpResponse:
    """Entities for a field that wants a ref: those whose name or ref holds the letters; `kinds` narrows them."""
    text = request.GET.get("q", "").strip().lower()[:200]
    rows = queries.list_entities(request.user)
    if kinds := request.GET.get("kinds", "")[:200]:
        rows = rows.filter(kind__in=kinds.split(","))
    begins = rows.filter(name__startswith=text.rpartition("/")[2].rpartition(":")[2])
    kind, colon, _rest = text.partition(":")
    if colon:
        begins = begins.filter(kind=kind)
    found = begins.order_by("name", "kind")[:SHOWN] if text else rows.none()
    options = [{"value": e.ref, "label": e.ref, "text": e.title if e.title != e.name else ""} for e in found]
    return render(request, "search/terms.html", {"options": options})


@login_required
def terms(request: HttpRequest) -> HttpResponse:
    """What can stand next in a query: fields, operators, values with their counts."""
    text = request.GET.get("q", "")[:2_000]
    position = whole_number(request.GET.get("cursor", ""), default=len(text))
    suggestions = suggest_terms(text, position, lambda query: queries.search_entities(request.user, query))
    options = [
        # The browser replaces the word being typed, which may begin before what the suggestion replaces.
        {
            "value": text[text.rfind(" ", 0, s.start) + 1 : s.start] + s.text,
            "label": s.label,
            "text": s.description,
            "count": s.count,
        }
        for s in suggestions
    ]
    return render(request, "search/terms.html", {"options": options})
