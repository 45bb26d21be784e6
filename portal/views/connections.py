"""Connections: what is connected, how it is doing, and everything that one does with them."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from access.permissions import require
from integrations import queries
from portal.sources import badge_of_connection


@login_required
def index(request: HttpRequest) -> HttpResponse:
    """All connections."""
    require(request.user, "connection.read")
    now = timezone.now()
    rows = [
        {"connection": c, "badge": badge_of_connection(c), "is_stale": queries.is_stale(c, now=now)}
        for c in queries.list_connections(request.user)
    ]
    return render(request, "connections/index.html", {"title": _("Connections"), "rows": rows})


@login_required
@require_POST
def sample(request: HttpRequest) -> HttpResponse:
    """Load the sample company."""
    require(request.user, "connection.write")
    return redirect("portal:connections")
