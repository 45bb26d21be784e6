"""Why is it not here? What is known of an entity, a file or an address that somebody expects."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from access.permissions import can
from integrations.why import MAX_TEXT, Finding, why
from portal import links

# What each state is called, and how it looks.
WORDS: dict[str, tuple[Any, str]] = {
    "seen": (gettext_lazy("Here"), "ok"),
    "refused": (gettext_lazy("Refused"), "fail"),
    "shadowed": (gettext_lazy("Declared twice"), "warn"),
    "aside": (gettext_lazy("Set aside"), "warn"),
    "gone": (gettext_lazy("Gone"), "warn"),
    "ignored": (gettext_lazy("Left out"), "warn"),
    "queued": (gettext_lazy("On its way"), "run"),
    "expected": (gettext_lazy("Named"), "mute"),
    "unread": (gettext_lazy("Not read"), "fail"),
    "alike": (gettext_lazy("Alike"), "mute"),
    "forbidden": (gettext_lazy("Not for you"), "fail"),
    "unknown": (gettext_lazy("Not known"), "mute"),
}


@login_required
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """All that is known of what somebody expects, what explains most first."""
    text = request.GET.get("of", "").strip()[:MAX_TEXT]
    answer = why(request.user, text)
    ref = answer.expected.ref
    return render(
        request,
        "pages/why.html",
        {
            "title": _("Why is it not here?"),
            "text": text,
            "ref": ref,
            "findings": [_shown(request, finding, ref) for finding in answer.findings],
            "may_connect": can(request.user, "connection.write"),
        },
    )


def _shown(request: HttpRequest, finding: Finding, ref: str) -> dict[str, Any]:
    word, tone = WORDS[finding.state]
    shown: dict[str, Any] = {
        "word": str(word),
        "tone": tone,
        "message": finding.message,
        "place": str(finding.place) if finding.place else "",
        "actions": [],
    }
    entity = finding.entity
    if entity is not None:
        tab = {"shadowed": "problems", "refused": "problems", "gone": "history"}.get(finding.state, "")
        url = links.entity_url(entity, "" if finding.state == "gone" else tab)
        shown["actions"].append(
            {
                "label": _("Open %(name)s") % {"name": Truncator(entity.title).chars(30)},
                "url": url,
                "small": True,
            }
        )
    if finding.state == "expected" and ref:
        shown["actions"].append(
            {"label": _("See what names it"), "url": f"{links.ref_url(ref)}/unknown", "small": True}
        )
    if finding.connection and can(request.user, "connection.read"):
        tab = {"ignored": "/left-out", "queued": "/runs"}.get(finding.state, "")
        url = f"/connections/{finding.connection}{tab}"
        shown["actions"].append({"label": _("See the connection"), "url": url, "small": True})
    if finding.location and can(request.user, "connection.read"):
        shown["actions"].append(
            {"label": _("See the catalog files"), "url": "/connections/import", "small": True}
        )
    return shown
