"""Owners that nothing declares: a list of them, and the page of each, where a person settles what it means."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from access.permissions import can, require
from base.errors import DomainError, FieldError, InvalidInput, NotFound
from base.text import whole_number
from catalog import queries
from catalog.models import Entity
from catalog.permissions import Planned
from catalog.services.naming import OWNERS, create_owner, map_name, unmap_name, withdraw_created
from catalog.unknown import made_by_hand, mapped_names, mentions_of, unknown_owners
from portal import links
from portal.owners import settling

ROWS = 50
SHOWN = 20
SETTLED = 50


@login_required
@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """The owners that nothing declares, most named first; and what people settled, to be taken back."""
    if request.method == "POST":
        require(request.user, "entity.write")
        return _take_back(request)
    at = whole_number(request.GET.get("at", ""))
    found, total = unknown_owners(request.user, start=at, limit=ROWS)
    theirs = (alias for alias in mapped_names(request.user) if _may(request, alias.ref))
    mapped = list(islice(theirs, SETTLED))
    return render(
        request,
        "edit/unknown_owners.html",
        {
            "title": _("Unknown owners"),
            "rows": [
                {
                    "chip": links.owner_chip(one.ref),
                    "ref": one.ref,
                    "count": one.count,
                    "url": links.catalog_url(f'owner:"{one.ref}"'),
                    "text": ", ".join(_told_apart(one.named_by))
                    + (
                        _(" and %(n)d more") % {"n": one.count - len(one.named_by)}
                        if one.count > len(one.named_by)
                        else ""
                    ),
                    "actions": settling(request.user, one.ref),
                }
                for one in found
            ],
            "mapped": [{"alias": one, "chip": links.chip(one.entity.ref, one.entity)} for one in mapped],
            "made": [links.chip(e.ref, e) | {"uid": e.uid} for e in made_by_hand(request.user)[:SETTLED]],
            "page": links.places_around("?at={}".format, start=at, shown=len(found), total=total, size=ROWS),
            "breadcrumbs": [
                {"label": _("Catalog"), "url": "/catalog"},
                {"label": _("Unknown owners"), "url": ""},
            ],
        },
    )


def _told_apart(named: list[tuple[str, str]]) -> list[str]:
    """Things by their titles; those of equal title with their kinds, and by their refs where that is equal too."""
    forms = [(title, f"{title} ({ref.partition(':')[0]})", ref) for title, ref in named]
    counts = Counter(form for row in forms for form in row)
    return [next((form for form in row if counts[form] == 1), row[-1]) for row in forms]


def _take_back(request: HttpRequest) -> HttpResponse:
    if ref := request.POST.get("unmap", ""):
        target = unmap_name(user=request.user, ref=ref[:1_000])
        messages.success(
            request, _("%(ref)s no longer means %(name)s.") % {"ref": ref[:300], "name": target.title}
        )
    else:
        made = queries.get_entity(request.user, uid=request.POST.get("withdraw", "") or "none")
        withdraw_created(user=request.user, entity=made)
        messages.success(request, _("%(name)s is no longer made by hand.") % {"name": made.title})
    return redirect("portal:unknown-owners")


def _may(request: HttpRequest, ref: str) -> bool:
    return can(request.user, "entity.write", Planned(ref))


@login_required
@require_http_methods(["GET", "POST"])
def unknown(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """A name that nothing declares: what names it; making what it means, or saying what it means."""
    ref = f"{kind}:{namespace}/{name}".lower()
    try:
        known = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    except NotFound:
        known = None
    if known is not None:
        return redirect(links.entity_url(known))
    mentions = mentions_of(request.user, ref)
    total = mentions.count()
    may = _may(request, ref)
    if not total:  # what may not be seen is not told from what is not there
        raise NotFound(_("There is no %(ref)s here, or you may not see it.") % {"ref": ref})
    given = {
        key: request.POST.get(key, "").strip() for key in ("name", "title", "members", "target", "reason")
    }
    error: DomainError | None = None
    if request.method == "POST":
        try:
            made = _settled(request, ref, given)
            return redirect(links.entity_url(made))
        except DomainError as failure:
            if failure.status == 403:
                raise
            error = failure
    action = request.POST.get("action", "")
    return render(
        request,
        "edit/unknown.html",
        {
            "title": _("%(name)s is not in the catalog") % {"name": name},
            "ref": ref,
            "can_create": may and kind in OWNERS,
            "may": may,
            "is_group": kind == "group",
            "names": {"name": name} | {key: value for key, value in given.items() if value},
            "create_error": error.in_full if error and action == "create" else "",
            "map_error": error.in_full if error and action != "create" else "",
            "total": total,
            "mentions": [links.chip(e.ref, e) for e in mentions[:SHOWN]],
            "list_url": links.catalog_url(f'owner:"{ref}"'),
            "back_url": "/catalog/unknown-owners",
            "breadcrumbs": [
                {"label": _("Catalog"), "url": "/catalog"},
                {"label": _("Unknown owners"), "url": "/catalog/unknown-owners"},
                {"label": name, "url": ""},
            ],
        },
        status=422 if error else 200,
    )


def _settled(request: HttpRequest, ref: str, given: dict[str, str]) -> Entity:
    if request.POST.get("action") == "create":
        made = create_owner(
            user=request.user,
            ref=ref,
            name=given["name"][:300],
            title=given["title"][:300],
            members=_members(request, given["members"][:20_000], ref),
        )
        messages.success(
            request, _("%(name)s is in the catalog. What names it follows.") % {"name": made.title}
        )
        return made
    target = queries.entity_of_ref(request.user, given["target"][:1_000])
    map_name(user=request.user, ref=ref, target=target, reason=given["reason"][:1_000])
    messages.success(
        request,
        _("%(ref)s means %(name)s from now on, wherever it is named.") % {"ref": ref, "name": target.title},
    )
    return target


def _members(request: HttpRequest, text: str, ref: str) -> list[Entity]:
    """The people whose names or refs stand there, by commas, blanks or lines."""
    namespace = ref.partition(":")[2].partition("/")[0]
    names = list(dict.fromkeys(part for part in re.split(r"[\s,;]+", text) if part))
    refs = {
        name: name.lower()
        if ":" in name
        else f"user:{name if '/' in name else f'{namespace}/{name}'}".lower()
        for name in names
    }
    known = queries.titles_of(request.user, refs.values())
    if wrong := [name for name, full in refs.items() if full not in known]:
        message = _("There is no person %(names)s here.") % {"names": ", ".join(wrong[:5])}
        raise InvalidInput(message, errors=[FieldError("members", message)])
    return [known[full] for full in refs.values()]
