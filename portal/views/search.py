"""What the search boxes suggest: entities, pages and actions, terms of a query, refs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from base.text import whole_number
from catalog import queries
from catalog.lookup import MAX_TEXT, look_up
from catalog.models import Entity
from catalog.query import QueryError
from catalog.query import suggest as suggest_terms
from portal import links, shell
from portal.bookmarks import bookmarks_of
from portal.views.anything import is_pasted

SHOWN = 8
LATELY = 6
LEAST_ALIKE = 4  # letters, below which all is like all


@login_required
@require_safe
def suggest(request: HttpRequest) -> HttpResponse:
    """Entities, pages and actions for a few letters: names that begin so first, then whatever the query finds.

    Of that, what has just this title is first. Where there is nothing at all, names that are much alike are offered.

    Without a letter, what was viewed lately, favourites, and all pages and actions.
    """
    pasted = request.GET.get("q", "").strip()[:MAX_TEXT]
    text = pasted[:200]
    first = look_up(request.user, pasted).entities[:SHOWN] if is_pasted(pasted) else []
    if text and not first:
        rows = queries.list_entities(request.user)
        first = list(rows.filter(name__startswith=text.lower()).order_by("name")[:SHOWN])
        if len(first) < SHOWN:
            try:
                found = queries.search_entities(request.user, text, now=timezone.now())
                known = {entity.pk for entity in first}
                found = found.alias(is_other=~Q(title__iexact=text)).order_by("is_other", "name")
                first += [entity for entity in found[:SHOWN] if entity.pk not in known]
            except QueryError:
                pass
        if not first and len(text) >= LEAST_ALIKE:
            first = queries.near_names(request.user, kind="", name=text.replace(" ", "-"), limit=SHOWN)
    groups = [
        {"label": _("Entities"), "items": _entities(first[:SHOWN])},
        *([] if text else _kept(request)),
        {"label": _("Pages"), "items": _named(shell.context(request)["shell"], text)},
        {"label": _("Actions"), "items": [one for one in _actions(request) if _holds(one, text)]},
    ]
    values = {"groups": [group for group in groups if group["items"]], "text": text}
    return render(request, "search/suggest.html", values)


def _entities(found: Iterable[Entity]) -> list[dict[str, Any]]:
    return [{"chip": links.chip(e.ref, e), "text": e.kind, "url": links.entity_url(e)} for e in found]


def _kept(request: HttpRequest) -> list[dict[str, Any]]:
    """What the viewer opened last and put a star on, each thing once."""
    kept = bookmarks_of(request.user)  # type: ignore[arg-type]
    lately = kept.recent[:LATELY]
    known = {entity.pk for entity in lately}
    others = [entity for entity in kept.favourites if entity.pk not in known][:SHOWN]
    return [
        {"label": _("Recently viewed"), "items": _entities(lately)},
        {"label": _("Favourites"), "items": _entities(others)},
    ]


def _named(around: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """The pages of the navigation whose name holds the letters."""
    return [page for group in around["nav"] for page in group["items"] if _holds(page, text)]


def _actions(request: HttpRequest) -> list[dict[str, Any]]:
    """What can be done: with what is open, what can be made, and what the menu of the account has.

    What `press` selects is pressed where it stands on the page; without it there, the browser leaves the action out.
    """
    themes = [
        ("light", _("Theme: light"), "sun"),
        ("dark", _("Theme: dark"), "moon"),
        ("auto", _("Theme: as the system"), "device-desktop"),
    ]
    return [
        {"label": _("Edit what is shown"), "icon": "pencil", "press": "[data-key=e]"},
        {"label": _("Favourite, or no longer"), "icon": "star", "press": "[data-key=f]"},
        {"label": _("Export this list as CSV"), "icon": "download", "press": "a[href^='/catalog.csv']"},
        *shell.context(request)["shell"].get("create", []),
        *(
            {"label": label, "icon": icon, "press": f"input[name=po_theme][value={value}]"}
            for value, label, icon in themes
        ),
        {"label": _("Keyboard shortcuts"), "icon": "keyboard", "press": "[data-dialog=po-keys]"},
        {"label": _("Sign out"), "icon": "logout", "press": "[data-sign-out]"},
    ]


def _holds(item: dict[str, Any], text: str) -> bool:
    return text.casefold() in str(item["label"]).casefold()


@login_required
@require_safe
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
@require_safe
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
