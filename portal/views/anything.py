"""From anything that people paste to its page: `/to/<anything>`."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from catalog.lookup import MAX_TEXT, Lookup, bare, keys_of_text, look_up
from catalog.models import Entity
from portal import events, links

# What is pasted rather than typed: no query of ours looks like it.
_PASTED = re.compile(
    r"\S*://\S*|git@[\w.-]+:\S*|\S*sha256:[0-9a-f]{16}\S*"
    r"|[0-9a-f]{7,64}"  # a commit, or how it begins
    r"|(?:npm|pypi|image|commit|pkg):\S+|@[\w.-]+/[\w.-]+(?:@\S+)?"  # a package
    r"|[\w-]+(?:\.[\w-]+)+(?::\d+)?/\S+",  # an image or repository behind its host
    re.IGNORECASE,
)


def is_pasted(text: str) -> bool:
    """Whether a text of the search box is an address, a digest or a commit, and no query."""
    return bool(_PASTED.fullmatch(bare(text)))


def own_page(request: HttpRequest, text: str) -> str:
    """The page of this portal's catalog that a pasted address is, or nothing."""
    ours = links.absolute(request, "/catalog/")
    text = bare(text)
    return f"/catalog/{text.removeprefix(ours)}" if text.startswith(ours) else ""


def way_on(request: HttpRequest, text: str) -> str:
    """Where a text of the search box leads that is no query but pasted, and known; or nothing."""
    if is_pasted(text) and (own_page(request, text) or look_up(request.user, text).entities):
        return "/to?" + urlencode({"text": text})
    return ""


@login_required
@require_GET
def to(request: HttpRequest, text: str = "") -> HttpResponse:
    """Lead to the component that an address, image, package, commit or run belongs to."""
    if not text:
        text = request.GET.get("text", "")
    elif request.META.get("QUERY_STRING"):
        text += "?" + unquote(request.META["QUERY_STRING"])
    # Web servers make one slash of two within a path.
    text = re.sub(r"^([a-z][a-z0-9+.-]*):/(?=[^/])", r"\1://", text.strip())[:MAX_TEXT]
    if page := own_page(request, text):
        return redirect(page)
    found = look_up(request.user, text)
    if len(found.entities) == 1:
        entity = found.entities[0]
        messages.info(request, _said(text, entity, found))
        return redirect(links.entity_url(entity))
    if found.gone is not None:
        return redirect(links.entity_url(found.gone))  # which says since when
    title = _("Which one?") if found.entities else _("Nothing is known by this")
    if not text:
        title = _("Paste anything")
    return render(
        request,
        "pages/to.html",
        {
            "title": title,
            "text": text,
            "items": [
                {"chip": links.chip(entity.ref, entity), "text": entity.kind, "owner": entity.owner}
                for entity in found.entities
            ],
            "things": [links.chip(thing.ref, thing) for thing in found.things if thing not in found.entities],
            "keys": keys_of_text(text),
        },
        status=200 if found.entities or not text else 404,
    )


def _said(text: str, entity: Entity, found: Lookup) -> str:
    short = text if len(text) <= 80 else f"{text[:77]}…"
    if found.activity is not None:
        return _("%(what)s: %(title)s") % {"what": events.title_of(found.activity), "title": entity.title}
    if found.before:
        now = ", ".join(thing.title for thing in found.things)
        return _("%(text)s was renamed; it is called %(now)s now.") % {"text": short, "now": now}
    return _("%(text)s belongs to %(title)s.") % {"text": short, "title": entity.title}
