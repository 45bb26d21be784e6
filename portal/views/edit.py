"""What people change at an entity: overrides, ties, merges, snoozed problems."""

from __future__ import annotations

from typing import Any

import yaml
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from access.permissions import can, require
from base.errors import DomainError, InvalidInput
from base.safe_yaml import parse_documents
from base.text import whole_number
from catalog import queries
from catalog.kinds import current_kinds, tie_between, tied_to
from catalog.models import Entity, Rank, Revision, TieState
from catalog.overrides import overrides_of
from catalog.services import edit as service
from catalog.services import problems
from catalog.services.joining import merge_into, part
from portal import links
from portal.sources import badge_of_source, connections_of

COMMON_FIELDS = (
    "spec.owner",
    "spec.lifecycle",
    "spec.type",
    "spec.system",
    "metadata.title",
    "metadata.description",
)


def _entity(request: HttpRequest, namespace: str, kind: str, name: str) -> Entity:
    return queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)


def label_of(request: HttpRequest) -> str:
    """Who acts, as history and audit name them."""
    return str(getattr(request.user, "label", ""))


def _crumbs(entity: Entity, label: str) -> list[dict[str, str]]:
    return [
        {"label": _("Catalog"), "url": "/catalog"},
        {"label": entity.title, "url": links.entity_url(entity)},
        {"label": label, "url": ""},
    ]


def edit_field(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Override one field, with a reason, or take an override back; shows who says what."""
    entity = _entity(request, namespace, kind, name)
    require(request.user, "entity.write", entity)
    path = (request.POST.get("field") or request.GET.get("field") or COMMON_FIELDS[0]).strip()[:300]
    refused = error = _why_not(path)
    path, value = "metadata.title" if refused else path, request.POST.get("value", "")
    unions = current_kinds().unions_of(entity.kind)
    is_union = tuple(path.split(".")) in unions
    since: list[Revision] = []
    if not refused and request.method == "POST":
        said = queries.provenance_of(queries.claims_on(request.user, entity)).get(path)
        present = said.value if said else ""
        try:
            if request.POST.get("action") == "drop":
                service.drop_override(
                    user=request.user, entity=entity, path=path, expected=request.POST.get("etag", "")
                )
                messages.success(
                    request, _("The override of %(path)s is gone; its sources count again.") % {"path": path}
                )
            else:
                # Of two people's words the older counts, so theirs goes; to a union all add.
                gives_way = said is not None and said.is_overridden_by_another(f"person:{request.user.pk}")
                service.change_overrides(
                    user=request.user,
                    entity=entity,
                    values={path: typed_value(value, present)},
                    dropped=[path] if gives_way and not is_union else [],
                    reason=request.POST.get("reason", "")[:1_000],
                    expected=request.POST.get("etag", ""),
                )
                messages.success(
                    request, _("%(path)s is overridden, also through later syncs.") % {"path": path}
                )
            return redirect(links.entity_url(entity))
        except service.StaleEntity:
            since = service.changes_since(entity, request.POST.get("etag", ""))
            error = _(
                "It was changed since you opened this page. Nothing is saved yet, and your value is kept."
            )
        except DomainError as failure:
            error = failure.in_full
    claims = queries.claims_on(request.user, entity)
    sources = queries.provenance_of(claims)
    known = list(
        dict.fromkeys([*COMMON_FIELDS, *(p for p in sources if p.startswith(("spec.", "metadata.")))])
    )
    found = sources.get(path)
    if refused or request.method == "GET":
        value = _typed(found.value) if found else ""
    voices = _voices(request, path, found)
    overrides = overrides_of(claims, unions=unions)
    return render(
        request,
        "edit/edit.html",
        {
            "title": _("Override a field of %(name)s") % {"name": entity.title},
            "entity": entity,
            "etag": service.etag_of(entity),
            "fields": [p for p in dict.fromkeys([*known, path]) if p not in service.FIXED],
            "field": path,
            "value": value,
            "is_long": not isinstance(found.value if found else "", str) or len(value) > 80 or "\n" in value,
            "suggest": _SUGGESTED.get(path, ""),
            "is_union": is_union,
            "voices": voices,
            "overrides": [voice for voice in voices if voice["is_person"]],
            "file_agrees": any(one.name == path and one.agrees for one in overrides),
            "patch_url": links.entity_url(entity, "source")
            if any(not one.agrees for one in overrides)
            else "",
            "since": since,
            "error": error,
            "back_url": links.entity_url(entity),
            "breadcrumbs": _crumbs(entity, _("Edit")),
        },
        status=422 if error else 200,
    )


def _why_not(path: str) -> str:
    """Why a field cannot be overridden, and what to do instead; empty if it can."""
    try:
        service.parts_of(path)
    except InvalidInput as failure:
        return failure.in_full
    return ""


_OWNERS = "/search/refs?kinds=group,user"
_SUGGESTED = {
    "spec.owner": _OWNERS,
    "spec.system": "/search/refs?kinds=system",
    "spec.domain": "/search/refs?kinds=domain",
    "spec.parent": "/search/refs?kinds=group",
    "spec.subcomponentOf": "/search/refs?kinds=component",
}


def _voices(request: HttpRequest, path: str, found: queries.FieldSource | None) -> list[dict[str, Any]]:
    """Who says what of a field, the one that counts first."""
    if found is None:
        return []
    connections = connections_of(request)
    return [
        {
            "badge": badge_of_source(claim.source, connections),
            "value": value,
            "wins": claim is found.claim,
            "is_person": claim.rank == Rank.PERSON,
            "is_mine": claim.source.key == f"person:{request.user.pk}",
            "at": claim.as_of,
            "reason": claim.place.get("reasons", {}).get(path, ""),
        }
        for claim, value in found.said
    ]


def _typed(value: Any) -> str:
    """A value as a person would type it: what `typed_value` reads back as the same."""
    if isinstance(value, str) and value[:1] != "[" and typed_value(value, value) == value:
        return value
    text = yaml.safe_dump(value, allow_unicode=True, width=1_000).strip()
    return text.removesuffix("\n...")


def typed_value(text: str, present: Any = "") -> Any:
    """What a person typed, as a YAML scalar or list would be read.

    :param present: what the field holds now. A word stays a word: `1.10` is a version, not 1.1.
    """
    text = text.strip()
    if not text:
        return ""
    documents = parse_documents(text, name=_("the value"))
    if text[0] == "[" and documents[0].error is not None:
        raise InvalidInput(
            _("“%(text)s” begins like a list, but is none. Close it by ], or put a word in quotes.")
            % {"text": text[:60]}
        )
    if len(documents) != 1 or documents[0].error is not None or isinstance(documents[0].data, dict):
        return text
    value = documents[0].data
    if isinstance(value, str):
        return value if text[0] in "\"'" else text
    if isinstance(value, list):
        return value
    is_word = isinstance(present, str) and present != ""
    return text if is_word or _scalar(value) != text else value


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value).removesuffix("...\n").strip()


@login_required
@require_http_methods(["GET", "POST"])
def tie(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Tie an entity to another by hand."""
    entity = _entity(request, namespace, kind, name)
    require(request.user, "tie.write", entity)
    fitting = tied_to(entity.kind)
    error = ""
    target = request.POST.get("target", "").strip()
    if request.method == "POST":
        try:
            other = queries.entity_of_ref(request.user, target)
            rule = tie_between(entity.kind, other.kind)
            if rule is None:
                raise InvalidInput(_not_tied(entity, other, fitting))
            source, type_ = rule
            ends = (entity, other) if source == entity.kind else (other, entity)
            service.decide_tie(
                user=request.user,
                source=ends[0],
                type=type_,
                target=ends[1],
                state=TieState.CONFIRMED,
                reason=request.POST.get("reason", "")[:1_000],
            )
            messages.success(request, _("Tied to %(name)s.") % {"name": other.title})
            return redirect(links.entity_url(entity, "relations"))
        except DomainError as failure:
            error = failure.message
    return render(
        request,
        "edit/tie.html",
        {
            "title": _("Tie %(name)s to...") % {"name": entity.title},
            "entity": entity,
            "fitting": fitting,
            "target": target,
            "error": error,
            "back_url": links.entity_url(entity, "relations"),
            "breadcrumbs": _crumbs(entity, _("Tie")),
        },
        status=422 if error else 200,
    )


def _not_tied(entity: Entity, other: Entity, fitting: list[str]) -> str:
    if not fitting:
        return _("Nothing ties a thing of the kind %(kind)s.") % {"kind": entity.kind}
    return _("%(name)s is of the kind %(kind)s; expected is one of: %(expected)s.") % {
        "name": other.title,
        "kind": other.kind,
        "expected": ", ".join(fitting),
    }


@login_required
@require_http_methods(["GET", "POST"])
def merge(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Say which entity this one is in truth; or take such a word back that led to this one."""
    entity = _entity(request, namespace, kind, name)
    require(request.user, "entity.write", entity)
    error = ""
    into = (request.POST.get("alike") or request.POST.get("into", "")).strip()[:400]
    if request.method == "POST":
        try:
            if former := request.POST.get("part", ""):
                back = part(user=request.user, redirect=queries.redirect_of(request.user, former[:1_000]))
                messages.success(request, _("%(ref)s is an entity of its own again.") % {"ref": back.ref})
                return redirect(links.entity_url(back))
            winner = queries.entity_of_ref(request.user, into, like=entity)
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
            "breadcrumbs": _crumbs(entity, _("Merge")),
        },
        status=422 if error else 200,
    )


@login_required
@require_http_methods(["GET", "POST"])
def tie_evidence(request: HttpRequest, tie_id: int) -> HttpResponse:
    """Why two entities are tied: the key and both records; confirm, forbid, or let the evidence decide."""
    found = queries.evidence_of(request.user, tie_id)
    tie_ = found.tie
    may = all(can(request.user, "tie.write", end) for end in (tie_.source, tie_.target))
    if request.method == "POST":
        service.decide_tie(
            user=request.user,
            source=tie_.source,
            type=tie_.type,
            target=tie_.target,
            state=request.POST.get("state", ""),
            reason=request.POST.get("reason", "")[:1_000],
        )
        words = {
            "confirmed": _("The tie is confirmed and stays."),
            "forbidden": _("The tie is forbidden and stays away."),
            "auto": _("The evidence decides again."),
        }
        messages.success(request, words[request.POST["state"]])
        back = request.POST.get("back")
        if back in {"source", "target"}:
            return redirect(links.entity_url(getattr(tie_, back), "relations"))
        return (
            redirect("portal:tie", tie_id=tie_id)
            if queries.list_ties(request.user, tie_id)
            else redirect(links.entity_url(tie_.source, "relations"))
        )
    kinds = current_kinds()
    return render(
        request,
        "edit/tie_evidence.html",
        {
            "title": _("Why are these tied?"),
            "tie": tie_,
            "label": kinds.label(tie_.type),
            "key": found.key,
            "source": links.chip(tie_.source.ref, tie_.source),
            "target": links.chip(tie_.target.ref, tie_.target),
            "sides": [
                {
                    **side,
                    "chip": links.chip(side["entity"].ref, side["entity"]),
                    "badge": badge_of_source(side["source"], connections_of(request)),
                    "yaml": yaml.safe_dump(side["document"], sort_keys=False, allow_unicode=True),
                }
                for side in found.sides
            ],
            "may_decide": may,
            "breadcrumbs": _crumbs(tie_.source, _("Tie")),
        },
    )


@login_required
@require_POST
def snooze(request: HttpRequest) -> HttpResponse:
    """Put problems of one cause off for some days."""
    days = min(max(whole_number(request.POST.get("days", ""), default=7), 1), problems.LONGEST_SNOOZE)
    if problems.snooze(
        user=request.user,
        type=request.POST.get("type", ""),
        cause=request.POST.get("cause", ""),
        days=days,
        by=label_of(request),
        now=timezone.now(),
    ):
        messages.success(
            request,
            ngettext("Put off for %(days)d day.", "Put off for %(days)d days.", days) % {"days": days},
        )
    return redirect("portal:problems")
