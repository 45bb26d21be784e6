"""What the search box suggests."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from catalog import queries
from catalog.query import QueryError
from catalog.query import suggest as suggest_terms
from portal import links

SHOWN = 8


@login_required
def suggest(request: HttpRequest) -> HttpResponse:
    """Entities for a few letters: names that begin so first, then whatever the query finds."""
    text = request.GET.get("q", "").strip()[:200]
    items = []
    if text:
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
    return render(request, "search/suggest.html", {"items": items, "text": text})


@login_required
def refs(request: HttpRequest) -> HttpResponse:
    """Entities for a field that wants a ref: those whose name or ref holds the letters."""
    text = request.GET.get("q", "").strip().lower()[:200]
    rows = queries.list_entities(request.user)
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
    cursor = request.GET.get("cursor", "")
    position = int(cursor) if cursor.isdigit() else len(text)
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
