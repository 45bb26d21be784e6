"""Catalog files: imported after a look at what they hold, and read again by themselves."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from access.permissions import can, require
from base.errors import DomainError
from catalog.kinds import current_kinds
from catalog.models import Problem
from catalog.queries import open_problems
from integrations import queries
from integrations.outbound import mask_url
from integrations.services import locations
from integrations.tasks import start_forgetting, start_import, start_reading
from portal.people import person

PROBLEMS = 200


@login_required
@require_http_methods(["GET", "POST"])
def catalog_files(request: HttpRequest) -> HttpResponse:
    """Preview catalog files, or have them imported; the list of what is read again."""
    require(request.user, "connection.read")
    address, error, result = request.POST.get("address", "").strip()[:2_000], "", None
    if request.method == "POST":
        require(request.user, "connection.write")
        try:
            if not address:
                error = _("Enter a path or an address.")
            else:
                by = person(request).label
                if request.POST.get("action") == "import":
                    start_import(address=address, by=by)
                    messages.success(request, _("The catalog files are being read; the numbers follow here."))
                    return redirect("portal:import")
                result = locations.preview(address=address, by=by)
                if result.unread and not result.files:
                    error, result = result.problems[0].message, None
        except DomainError as failure:
            error = failure.message
    rows = list(queries.list_locations(request.user))
    found: dict[str, list[Problem]] = {}
    for problem in open_problems(request.user).filter(raised_by__in=[row.raised_by for row in rows]):
        found.setdefault(problem.raised_by, []).append(problem)
    left = locations.removals_left(rows)
    return render(
        request,
        "connections/import.html",
        {
            "title": _("Catalog files"),
            "description": _("Files in Backstage's format: catalog-info.yaml and what it points at."),
            "breadcrumbs": [
                {"label": _("Connections"), "url": "/connections"},
                {"label": _("Catalog files"), "url": ""},
            ],
            "may_write": can(request.user, "connection.write"),
            "address": address,
            "error": error,
            "field": {
                "name": "address",
                "label": _("Path or address"),
                "help": _(
                    "A file or folder on this server, a Git repository or a web address. Of a folder, "
                    "all *.yaml and *.yml are read."
                ),
                "type": "text",
                "mono": True,
                "value": address,
                "required": True,
                "errors": [error] if error else [],
                "placeholder": "https://github.com/acme/catalog/blob/main/all.yaml",
            },
            "result": result,
            "is_active": any(row.is_awaited or row.is_removed for row in rows),
            "problems": result.problems[:PROBLEMS] if result else [],
            "locations": [
                {
                    "row": row,
                    "label": locations.label_of(row.address),
                    "address": mask_url(row.address.partition(":")[2]),
                    "problems": found.get(row.raised_by, [])[:PROBLEMS],
                    "removed": max(row.removal_claims - left.get(row.pk, 0), 0),
                }
                for row in rows
            ],
        },
        status=422 if error else 200,
    )


@login_required
@require_POST
def read_again(request: HttpRequest, location_id: int) -> HttpResponse:
    """Have a location read now; with `all` also let go of much that is gone."""
    require(request.user, "connection.write")
    location = queries.get_location(request.user, location_id)
    start_reading(location, is_guarded=request.POST.get("all") != "yes")
    messages.success(
        request,
        _("%(name)s is read again; the numbers follow here.")
        % {"name": locations.label_of(location.address)},
    )
    return redirect("portal:import")


@login_required
@require_http_methods(["GET", "POST"])
def remove(request: HttpRequest, location_id: int) -> HttpResponse:
    """Have a location and all that it declared forgotten: first what goes."""
    require(request.user, "connection.write")
    location = queries.get_location(request.user, location_id)
    if request.method == "POST":
        start_forgetting(location, by=person(request).label)
        messages.success(
            request,
            _("%(name)s is being removed; the progress follows here.")
            % {"name": locations.label_of(location.address)},
        )
        return redirect("portal:import")
    removal = locations.removal_of(location, person(request))
    kinds = current_kinds()
    values: dict[str, Any] = {
        "title": _("Remove these catalog files?"),
        "location": location,
        "address": mask_url(location.address.partition(":")[2]),
        "removal": removal,
        "kinds": [
            {"label": kinds.by_name(name).definition.plural if name in kinds else name, "number": number}
            for name, number in removal.kinds.items()
        ],
        "breadcrumbs": [
            {"label": _("Connections"), "url": "/connections"},
            {"label": _("Catalog files"), "url": "/connections/import"},
            {"label": _("Remove"), "url": ""},
        ],
    }
    return render(request, "connections/import_remove.html", values)
