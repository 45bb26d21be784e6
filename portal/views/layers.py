"""Connections as layers: muted and unmuted, removed and restored, or gone for good."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from access.permissions import require
from base.errors import Conflict, NotFound
from catalog.models import Entity
from integrations import queries
from integrations.models import Connection, RunState
from integrations.services.muting import COMPARED, Muting, muting_of
from integrations.services.removal import removal_of
from integrations.tasks import start_muting, start_purge, start_removal, start_restoring, start_unmuting
from portal import links
from portal.people import person
from portal.views.connections import back_to, connection_url, shell_of

SHOWN = 50


@login_required
@require_http_methods(["GET", "POST"])
def mute(request: HttpRequest, slug: str) -> HttpResponse:
    """Mute a connection: first what vanishes and what changes its winner."""
    connection: Any = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    error = ""
    if request.method == "POST":
        try:
            start_muting(connection=connection, by=person(request).label)
        except Conflict as conflict:
            error = conflict.message
        else:
            messages.success(
                request, _("%(name)s is being muted; the progress follows here.") % {"name": connection.label}
            )
            return redirect(connection_url(connection))
    muting = muting_of(request.user, connection, now=timezone.now())
    return render(
        request,
        "connections/mute.html",
        shell_of(request, connection, "", title=_("Mute")) | _shown(connection, muting) | {"error": error},
        status=409 if error else 200,
    )


def _shown(connection: Connection, muting: Muting) -> dict[str, Any]:
    changes: dict[str, list[dict[str, Any]]] = {}
    for change in muting.changes:
        row = {"path": change.path, "winner": change.winner}
        if change.before is not None:
            row["old"] = change.before
        if change.after is not None:
            row["new"] = change.after
        changes.setdefault(change.entity.ref, []).append(row)
    entities = {change.entity.ref: change.entity for change in muting.changes}
    return {
        "muting": muting,
        "entities_url": links.catalog_url(f"source:{connection.slug}"),
        "vanishing": [_named(one) for one in muting.vanishing[:SHOWN]],
        "more_vanishing": max(0, len(muting.vanishing) - SHOWN),
        "changed": [_named(entities[ref]) | {"rows": rows} for ref, rows in list(changes.items())[:SHOWN]],
        "more_changed": max(0, len(changes) - SHOWN),
        "changing": len(changes),
        "compared": COMPARED if muting.amended > COMPARED else 0,
    }


def _named(entity: Entity) -> dict[str, Any]:
    return {"title": entity.title, "ref": entity.ref, "kind": entity.kind, "url": links.entity_url(entity)}


@login_required
@require_POST
def unmute(request: HttpRequest, slug: str) -> HttpResponse:
    """Bring back all that a muted connection brought."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    try:
        start_unmuting(connection=connection)
    except Conflict as conflict:
        messages.error(request, conflict.message)
    else:
        messages.success(
            request, _("%(name)s is coming back; the progress follows here.") % {"name": connection.label}
        )
    return back_to(request, connection_url(connection))


@login_required
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, slug: str) -> HttpResponse:
    """Remove a connection: first what goes with it, then its name typed."""
    connection: Any = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    error = ""
    if request.method == "POST":
        if request.POST.get("confirm", "").strip() != connection.slug:
            error = _("Type %(slug)s exactly to remove the connection.") % {"slug": connection.slug}
        else:
            try:
                start_removal(
                    connection=connection,
                    by=person(request).label,
                    with_secrets=request.POST.get("with_secrets") == "1",
                )
            except Conflict as conflict:
                error = conflict.message
            else:
                messages.success(
                    request,
                    _("%(name)s is being removed; the progress follows here.") % {"name": connection.label},
                )
                return redirect("portal:connections")
    return render(
        request,
        "connections/delete.html",
        shell_of(request, connection, "settings", title=_("Remove"))
        | {
            "removal": removal_of(connection, person(request)),
            "entities_url": links.catalog_url(f"source:{connection.slug}"),
            "is_active": connection.last_state in (RunState.QUEUED, RunState.RUNNING),
            "error": error,
        },
        status=422 if error else 200,
    )


@login_required
@require_POST
def restore(request: HttpRequest, slug: str) -> HttpResponse:
    """Bring back a removed connection with all that it brought."""
    connection = _removed(request, slug)
    try:
        start_restoring(connection=connection, by=person(request).label)
    except (Conflict, NotFound) as error:
        messages.error(request, error.message)
        return back_to(request, "/connections")
    messages.success(
        request, _("%(name)s is coming back; the progress follows here.") % {"name": connection.label}
    )
    return back_to(request, connection_url(connection))


@login_required
@require_POST
def purge(request: HttpRequest, slug: str) -> HttpResponse:
    """Let go of a removed connection for good."""
    connection = _removed(request, slug)
    try:
        start_purge(connection=connection)
    except (Conflict, NotFound) as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _("%(name)s and what it brought go for good.") % {"name": connection.label})
    return back_to(request, "/connections")


def _removed(request: HttpRequest, slug: str) -> Connection:
    require(request.user, "connection.write")
    try:
        return queries.get_removed_connection(request.user, slug)
    except NotFound as error:
        raise Http404(error.message) from error
