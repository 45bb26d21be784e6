"""Two entities that are one thing: merged by a person, and parted again."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from access.permissions import require
from base.errors import DomainError, NotFound
from catalog import queries
from catalog.models import Entity
from catalog.services.joining import merge_into, part
from portal import links


@login_required
@require_http_methods(["GET", "POST"])
def merge(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Say which entity this one is in truth; or take such a word back that led to this one."""
    entity = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    require(request.user, "entity.write", entity)
    error = ""
    into = (request.POST.get("alike") or request.POST.get("into", "")).strip()[:400]
    if request.method == "POST":
        try:
            if former := request.POST.get("part", ""):
                return _part(request, former)
            winner = _by_ref(request, into, entity)
            merge_into(
                user=request.user, loser=entity, winner=winner, reason=request.POST.get("reason", "")[:1_000]
            )
            messages.success(
                request, _("%(ref)s is %(winner)s now.") % {"ref": entity.ref, "winner": winner.title}
            )
            return redirect(f"{links.entity_url(winner)}/merge")
        except DomainError as failure:
            error = failure.message
    return render(
        request,
        "edit/merge.html",
        {
            "title": _("Merge %(name)s") % {"name": entity.title},
            "entity": entity,
            "alike": [links.chip(other.ref, other) for other in queries.alike(request.user, entity)],
            "merged": queries.redirects_to(request.user, entity),
            "into": into,
            "error": error,
            "back_url": links.entity_url(entity),
            "breadcrumbs": [
                {"label": _("Catalog"), "url": "/catalog"},
                {"label": entity.title, "url": links.entity_url(entity)},
                {"label": _("Merge"), "url": ""},
            ],
        },
        status=422 if error else 200,
    )


def _part(request: HttpRequest, former: str) -> HttpResponse:
    kind, _colon, rest = former.partition(":")
    namespace, _slash, name = rest.partition("/")
    found = queries.redirect_of(request.user, namespace=namespace, kind=kind, name=name)
    back = part(user=request.user, redirect=found)
    messages.success(request, _("%(ref)s is an entity of its own again.") % {"ref": back.ref})
    return redirect(links.entity_url(back))


def _by_ref(request: HttpRequest, ref: str, entity: Entity) -> Entity:
    """An entity by its ref, or of the other's kind and namespace by its name alone."""
    kind, colon, rest = ref.rpartition(":")
    namespace, slash, name = rest.rpartition("/")
    if not name:
        raise NotFound(_("Name the entity that stays, such as %(ref)s.") % {"ref": entity.ref})
    return queries.get_entity(
        request.user,
        kind=kind if colon else entity.kind,
        namespace=namespace if slash else entity.namespace,
        name=name,
    )
