"""Recent changes: what was done in the last 30 days, and what taking it back would do before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from access.models import Undoable
from access.permissions import require_any
from access.queries import labels_of_actors
from access.services import undo
from base.errors import DomainError
from base.pagination import BadCursor, paginate
from portal import links
from portal.people import person
from portal.views.settings import shell_of

AT_ONCE = 50
ORDER = ("-event_id",)


def _rows(changes: Sequence[Undoable]) -> list[dict[str, Any]]:
    who = labels_of_actors(change.event for change in changes)
    return [
        {
            "change": change,
            "event": change.event,
            "who": who[change.event.pk],
            "title": how.title(change),
            "icon": how.icon,
        }
        for change in changes
        for how in (undo.undo_of(change),)
    ]


@login_required
@require_GET
def changes(request: HttpRequest) -> HttpResponse:
    """What can be undone, or was, newest first; only what the viewer may undo."""
    require_any(request.user, undo.VERBS)
    try:
        page = paginate(
            undo.list_changes(request.user), order=ORDER, limit=AT_ONCE, cursor=request.GET.get("cursor")
        )
    except BadCursor:
        return redirect("portal:settings-changes")
    return render(
        request,
        "settings/changes.html",
        shell_of(request, "settings-changes")
        | {
            "rows": _rows(page.rows),
            "page": links.pages_around(page),
        },
    )


@login_required
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, change_id: int) -> HttpResponse:
    """What the undo of a change would do, and what was changed since; then it is done."""
    require_any(request.user, undo.VERBS)
    found, user = undo.get_change(request.user, change_id), person(request)
    preview = undo.preview_undo(change=found, user=user)
    seen, error = " ".join(str(one.pk) for one in preview.later), ""
    row, *later = _rows([found, *preview.later])
    if request.method == "POST" and not preview.refused:
        if request.POST.get("seen", "") != seen:
            error = _("More was changed since you opened this page. Nothing is undone yet; look again.")
        else:
            try:
                undo.undo_change(change=found, user=user)
            except DomainError as failure:
                error = failure.message
            else:
                messages.success(request, _("Undone: %(title)s") % {"title": row["title"]})
                return redirect("portal:settings-changes")
    return render(
        request,
        "settings/change.html",
        shell_of(request, "settings-changes", title=_("Undo a change"))
        | {
            "row": row,
            "preview": preview,
            "later": later,
            "seen": seen,
            "error": error or ("" if found.is_undone else preview.refused),
        },
        status=409 if error else 200,
    )
