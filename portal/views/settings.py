"""Settings: one's own account, and for administrators everybody's."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _


@login_required
def index(request: HttpRequest) -> HttpResponse:
    """One's own account."""
    return render(request, "settings/index.html", {"title": _("Settings")})
