"""The search over everything, and what the search boxes suggest: hits, pages and actions, terms of a query, refs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from base.text import whole_number
from catalog import queries
from catalog.kinds import current_kinds
from catalog.lookup import MAX_TEXT as MAX_PASTED
from catalog.lookup import look_up
from catalog.models import Entity
from catalog.query import suggest as suggest_terms
from catalog.search.asked import MAX_TEXT
from catalog.search.everything import MOST, search
from catalog.search.hits import EXACT, Hit, Sort
from portal import links, shell
from portal.bookmarks import bookmarks_of
from portal.views.anything import is_pasted, way_on

SHOWN = 8
LATELY = 6
AT_ONCE = 20


@login_required
@require_safe
def suggest(request: HttpRequest) -> HttpResponse:
    """The best hits for a few letters, and the pages and actions that hold them.

    Without a letter, what was viewed lately, favourites, and all pages and actions.
    """
    pasted = request.GET.get("q", "").strip()[:MAX_PASTED]
    text = pasted[:200]
    first = look_up(request.user, pasted).entities[:SHOWN] if is_pasted(pasted) else []
    hits = search(request.user, text, limit=SHOWN).hits if text and not first else []
    actions = [one for one in _actions(request) if _holds(one, text)]
    named = [
        {"label": _("Pages"), "items": _named(shell.context(request)["shell"], text)},
        {"label": _("Actions"), "items": actions},
    ]
    best = [
        {"label": _("Entities"), "items": _entities(first)},
        {"label": _("Best hits"), "items": [_suggested(hit) for hit in hits]},
        *([] if text else _kept(request)),
    ]
    # Who types how an action begins means it, unless something is called just so.
    is_action = any(str(one["label"]).casefold().startswith(text.casefold()) for one in actions if text)
    is_called_so = any(hit.place.tier == EXACT for hit in hits)
    groups = named + best if is_action and not is_called_so else best + named
    values = {"groups": [group for group in groups if group["items"]], "text": text}
    return render(request, "search/suggest.html", values)


_TABS: tuple[Sort, ...] = ("operation", "page", "activity")
_ICONS = {"operation": "api", "page": "book", "activity": "activity"}


@login_required
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """What a text finds of everything; `in` narrows it to one sort, or to one kind of entity."""
    text = " ".join(part.strip() for part in request.GET.getlist("q") if part.strip())[:MAX_TEXT]
    wanted = request.GET.get("in", "")
    if not wanted and (elsewhere := way_on(request, text)):
        return redirect(elsewhere)
    kind = wanted.removeprefix("kind:") if wanted.startswith("kind:") else ""
    sort = next((one for one in _TABS if one == wanted), None)
    kinds = current_kinds()
    if wanted and not sort and kind not in kinds:
        return redirect(_search_url(text))
    offset = whole_number(request.GET.get("from", ""), default=0) // AT_ONCE * AT_ONCE
    everything = search(request.user, text, offset=0 if wanted else offset, limit=AT_ONCE)
    found = everything
    if wanted:
        narrow: Sequence[Sort] = [sort] if sort else ["entity"]
        found = search(
            request.user, text, sorts=narrow, kinds=[kind] if kind else (), offset=offset, limit=AT_ONCE
        )
    if not found.hits and found.total:
        return redirect(_search_url(text, wanted))
    tabs = [("", _("Everything"), everything.total)]
    tabs += [
        (f"kind:{name}", kinds.by_name(name).definition.plural, count)
        for name, count in everything.kinds.items()
        if name in kinds
    ]
    tabs += [(one, _sort_label(one), everything.sorts[one]) for one in _TABS if one in everything.sorts]
    if wanted and wanted not in [name for name, _label, _count in tabs]:
        tabs.append(
            (wanted, _sort_label(sort) if sort else kinds.by_name(kind).definition.plural, found.total)
        )
    owners = queries.titles_of(request.user, {hit.owner for hit in found.hits if hit.sort == "entity"})
    values = {
        "title": _("Search"),
        "text": text,
        "wanted": wanted,
        "tabs": [
            {"label": label, "count": count, "url": _search_url(text, name), "is_active": name == wanted}
            for name, label, count in tabs
        ],
        "hits": [_shown(hit, owners) for hit in found.hits],
        "meant": [{"typed": typed, "meant": ", ".join(meant)} for typed, meant in found.meant.items()],
        "is_partly": found.is_partly,
        "is_most": any(count >= MOST for count in found.sorts.values()),
        "list_url": links.catalog_url(text),
        "page": links.places_around(
            lambda at: _search_url(text, wanted, at),
            start=offset,
            shown=len(found.hits),
            total=found.total,
            size=AT_ONCE,
        ),
    }
    return render(request, "search/page.html", values)


def _search_url(text: str, wanted: str = "", offset: int = 0) -> str:
    given = {"q": text, "in": wanted, "from": str(offset) if offset > 0 else ""}
    return "/search?" + urlencode({name: value for name, value in given.items() if value}, safe=":")


def _sort_label(sort: Sort | None) -> str:
    return {"operation": _("Operations"), "page": _("Docs"), "activity": _("Activity")}.get(sort or "", "")


def _shown(hit: Hit, owners: dict[str, Entity]) -> dict[str, Any]:
    """A hit as the page shows it."""
    owner = owners.get(hit.owner)
    return {
        "hit": hit,
        "kind": links.icon_kind(hit),
        "icon": _ICONS.get(hit.sort, ""),
        "url": links.hit_url(hit),
        "sort": _sort_one(hit),
        "of": hit.entity_title if hit.sort in ("operation", "page") else "",
        "ref": hit.entity,
        "owner": owner.title if owner else "",
    }


def _sort_one(hit: Hit) -> str:
    """What a hit is, in a word or two."""
    if hit.sort == "entity":
        kinds = current_kinds()
        title = kinds.by_name(hit.kind).title_case if hit.kind in kinds else hit.kind
        return f"{title}: {hit.type}" if hit.type else title
    return {"operation": _("Operation"), "page": _("Docs"), "activity": hit.type}[hit.sort]


def _entities(found: Iterable[Entity]) -> list[dict[str, Any]]:
    return [{"chip": links.chip(e.ref, e), "text": e.kind, "url": links.entity_url(e)} for e in found]


def _suggested(hit: Hit) -> dict[str, Any]:
    """A hit as the box suggests it."""
    shown = _shown(hit, {})
    about = shown["of"] or (hit.kind if hit.sort == "entity" else _sort_one(hit))
    return {
        "title": hit.title,
        "kind": shown["kind"] if hit.sort == "entity" else "",
        "icon": shown["icon"],
        "text": about,
        "url": shown["url"],
    }


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
