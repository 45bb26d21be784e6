"""Deleting an entity: what would be left behind is shown first, then it is asked."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from access.permissions import require
from base.errors import DomainError
from catalog import queries
from catalog.deletion import deletion_of
from catalog.services import edit as service
from catalog.services.naming import delete_entity
from portal import links
from portal.people import person
from portal.sources import badge_of_source, connections_of


@login_required
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Show what the deletion of an entity would leave behind, and delete it."""
    entity = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    require(request.user, "entity.write", entity)
    error = ""
    if request.method == "POST":
        try:
            if delete_entity(user=person(request), entity=entity, expected=request.POST.get("etag", "")):
                messages.success(
                    request, _("%(ref)s is gone. Recent changes take that back.") % {"ref": entity.ref}
                )
                return redirect(links.catalog_url(f"kind:{entity.kind}"))
            messages.success(
                request,
                _("What people made of %(ref)s is taken back; others keep it.") % {"ref": entity.ref},
            )
            return redirect(links.entity_url(entity))
        except DomainError as failure:
            error = failure.message
    found = deletion_of(request.user, entity)
    known = connections_of(request)
    return render(
        request,
        "edit/delete.html",
        {
            "title": _("Delete %(name)s") % {"name": entity.title},
            "entity": entity,
            "etag": service.etag_of(entity),
            "deletion": found,
            "dangling": [
                {
                    "label": label,
                    "count": count,
                    "chips": [links.chip(one.ref, one) for one in found.dangling.get(label, ())],
                }
                for label, count in found.counts.items()
            ],
            "orphans": [
                {"chip": links.chip(one.ref, one), "relation": label} for one, label in found.orphans
            ],
            "others": [
                {
                    "badge": badge_of_source(claim.source, known),
                    "file": claim.place.get("file", ""),
                    "address": claim.place.get("address", ""),
                }
                for claim in found.others
            ],
            "error": error,
            "back_url": links.entity_url(entity),
            "breadcrumbs": [
                {"label": _("Catalog"), "url": "/catalog"},
                {"label": entity.title, "url": links.entity_url(entity)},
                {"label": _("Delete"), "url": ""},
            ],
        },
        status=409 if error else 200,
    )
