"""Entities made and edited in the browser, by the form of their kind."""

from __future__ import annotations

from typing import Any

import orjson
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from access.permissions import require
from base.errors import DomainError
from catalog import queries
from catalog.kinds import KindView, current_kinds
from catalog.models import Entity, Rank, Revision
from catalog.queries import FieldSource
from catalog.services import edit as service
from catalog.services.creating import NameTaken, create_entity, redeclare
from portal import entity_forms, links
from portal.entity_forms import Changes
from portal.forms import SchemaForm
from portal.people import person
from portal.saved_views import teams_of
from portal.sources import badge_of_source, connections_of
from portal.views.edit import edit_field


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "url": url} for label, url in ((_("Catalog"), "/catalog"), *more)]


@login_required
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Choose a kind, then fill in what a new entity is."""
    require(request.user, "entity.write")
    kinds = current_kinds()
    name = request.GET.get("kind", "")[:100].lower()
    if name not in kinds:
        shown = sorted(kinds, key=lambda kind: kind.definition.title.casefold())
        return render(
            request,
            "edit/kinds.html",
            {
                "title": _("New entity"),
                "kinds": [kind.definition for kind in shown if kind.name != "location"],
                "breadcrumbs": _crumbs((_("New entity"), "")),
            },
        )
    kind = kinds.by_name(name)
    taken: dict[str, Any] | None = None
    if request.method == "POST":
        form = entity_forms.form_of(kind, request.POST, is_new=True)
        if form.is_valid():
            try:
                made = create_entity(user=request.user, document=entity_forms.document_of(kind, form))
            except NameTaken as error:
                ref = error.extra["ref"]
                taken = {"text": error.message, "url": links.ref_url(ref)} if ref else None
                form.errors["metadata.name"] = [error.message]
            except DomainError as error:
                entity_forms.add_errors(form, error)
            else:
                messages.success(request, _("%(name)s is in the catalog.") % {"name": made.title})
                return redirect(links.entity_url(made))
    else:
        form = entity_forms.form_of(kind, initial=_first_values(request, kind), is_new=True)
    return render(
        request,
        "edit/form.html",
        {
            "title": _("New %(kind)s") % {"kind": links.kind_in_sentence(kind.definition.title)},
            "description": kind.definition.description,
            "form": form,
            "groups": form.groups,
            "taken": taken,
            "verb": _("Create"),
            "back_url": links.catalog_url(f"kind:{name}"),
            "breadcrumbs": _crumbs((_("New entity"), "/catalog/new"), (kind.definition.title, "")),
        },
        status=422 if form.errors else 200,
    )


def _first_values(request: HttpRequest, kind: KindView) -> dict[str, Any]:
    """What is filled in to begin with: the owner, for who is in one team alone."""
    owned = any(
        rule.type == "ownedBy" and rule.path == ("spec", "owner") for rule in kind.definition.relations
    )
    teams = teams_of(person(request)) if owned else []
    return {"spec": {"owner": teams[0].ref}} if len(teams) == 1 else {}


@login_required
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Change fields of an entity in the form of its kind: each says who owns it, and a change overrides them.

    With `field`, of one field alone, by its path, whether the kind describes it or not.
    """
    if request.POST.get("field") or request.GET.get("field"):
        return edit_field(request, namespace, kind, name)
    entity = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    require(request.user, "entity.write", entity)
    kinds = current_kinds()
    if entity.kind not in kinds:
        return redirect(f"{links.entity_url(entity)}/edit?field=metadata.title")
    view = kinds.by_name(entity.kind)
    document = queries.documents(request.user, [entity])[entity.pk]
    claims = queries.claims_on(request.user, entity)
    sources = queries.provenance_of(claims)
    shown = entity_forms.form_of(view, initial=document)
    form, seen = shown, entity_forms.digests_of(shown)
    etag = service.etag_of(entity)
    since: list[Revision] = []
    reason = request.POST.get("reason", "")[:1_000]
    if request.method == "POST":
        form = entity_forms.form_of(view, request.POST)
        present, seen = (etag, seen), _seen(request.POST.get("seen", ""), seen)
        etag = request.POST.get("etag", "")[:200]
        dropped = [path for path in request.POST.getlist("drop") if len(path) <= 300][:100]
        if form.is_valid():
            try:
                changes = entity_forms.changes_of(
                    form,
                    document=document,
                    seen=seen,
                    sources=sources,
                    unions=view.unions,
                    person=f"person:{person(request).pk}",
                )
                gone = list(
                    dict.fromkeys([*(p for p in dropped if p not in changes.values), *changes.dropped])
                )
                if not changes.values and not gone and not changes.declared:
                    messages.info(request, _("Nothing was changed."))
                    return redirect(links.entity_url(entity))
                _save(request, entity, changes, gone, reason, etag)
            except service.StaleEntity:
                since = service.changes_since(entity, etag)
                etag, seen = present  # what they see now, and were told of
                form = _renewed(view, request, form, shown, changes.touched)
                form.errors[""] = [
                    _(
                        "It was changed since you opened this page. Nothing is saved yet, and what you typed is kept."
                    )
                ]
            except DomainError as error:
                entity_forms.add_errors(form, error)
            else:
                messages.success(request, _("Saved, also through later syncs."))
                return redirect(links.entity_url(entity))
    return render(
        request,
        "edit/form.html",
        {
            "title": _("Edit %(name)s") % {"name": entity.title},
            "description": view.definition.title,
            "form": form,
            "groups": _with_owners(request, form, sources, view),
            "since": since,
            "etag": etag,
            "seen": orjson.dumps(seen).decode(),
            "reason": reason,
            "is_edit": True,
            "verb": _("Save all the same") if since else _("Save"),
            "back_url": links.entity_url(entity),
            "field_url": f"{links.entity_url(entity)}/edit?field=spec.owner",
            "breadcrumbs": _crumbs((entity.title, links.entity_url(entity)), (_("Edit"), "")),
        },
        status=(412 if since else 422) if form.errors else 200,
    )


def _save(
    request: HttpRequest, entity: Entity, changes: Changes, dropped: list[str], reason: str, expected: str
) -> None:
    """What was changed: what can be refused first, for each renders what it changed once it is committed."""
    if changes.values or dropped:
        service.change_overrides(
            user=request.user,
            entity=entity,
            values=changes.values,
            dropped=dropped,
            reason=reason,
            expected=expected,
            verb="entity.edit",
        )
        expected = ""  # it is another by now, through this
    if changes.declared:
        redeclare(user=request.user, entity=entity, values=changes.declared, expected=expected)


def _seen(text: str, known: dict[str, str]) -> dict[str, str]:
    """The digests that a form brought back; what is none counts as changed by nobody."""
    try:
        found = orjson.loads(text[:50_000])
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    return {name: str(found.get(name, digest)) for name, digest in known.items()}


def _renewed(
    kind: KindView, request: HttpRequest, typed: SchemaForm, now: SchemaForm, touched: set[str]
) -> SchemaForm:
    """A form with what somebody changed, and of all else what there is by now."""
    values: dict[str, Any] = orjson.loads(orjson.dumps(now.values))
    for path, _type, _required in typed.paths:
        if ".".join(path) in touched:
            holder = values
            for part in path[:-1]:
                inner = holder.get(part)
                holder[part] = inner if isinstance(inner, dict) else {}
                holder = holder[part]
            holder[path[-1]] = typed.value_at(path)
    return entity_forms.form_of(kind, initial=values)


def _with_owners(
    request: HttpRequest, form: SchemaForm, sources: dict[str, FieldSource], kind: KindView
) -> list[dict[str, Any]]:
    """The form's fields, each with who says what it holds, and what people override of it."""
    unions = {".".join(path) for path in kind.unions}
    groups = form.groups
    for group in groups:
        for field in group["fields"]:
            name = field["name"]
            found = [
                source for path, source in sources.items() if path == name or path.startswith(f"{name}.")
            ]
            voices: dict[int, dict[str, Any]] = {}
            for source in found:
                for claim in entity_forms.claims_at(source) if name in unions else [source.claim]:
                    voices.setdefault(claim.pk, _voice(request, claim, source.path))
            field["voices"] = list(voices.values())[:6]
            field["is_union"] = name in unions
            field["losing"] = [
                {"badge": badge_of_source(voice["source"], connections_of(request)), "value": voice["value"]}
                for source in found
                if source.path == name and name not in unions
                for voice in source.losing
            ][:3]
    return groups


def _voice(request: HttpRequest, claim: Any, path: str) -> dict[str, Any]:
    is_override = claim.rank == Rank.PERSON
    return {
        "badge": badge_of_source(claim.source, connections_of(request)),
        "is_override": is_override,
        "path": path,
        "reason": claim.place.get("reasons", {}).get(path, "") if is_override else "",
    }
