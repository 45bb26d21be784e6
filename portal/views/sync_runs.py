"""One sync run: what each resource listed, what became of each record, and the way back."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_POST

from access.permissions import can, require
from base.errors import NotFound
from base.text import whole_number
from integrations import queries
from integrations.models import ResourceRun, ResourceState, SyncRun
from integrations.services import runs
from portal.people import person
from portal.views.connections import (
    connection_url,
    held_banners,
    record_name,
    resource_labels,
    shell_of,
)

PAGE = 50
# What a resource's records can have become, in the order in which the numbers add up to `listed`.
OUTCOMES = {
    "": gettext_lazy("Listed"),
    "new": gettext_lazy("New"),
    "changed": gettext_lazy("Changed"),
    "unchanged": gettext_lazy("Unchanged"),
    "skipped": gettext_lazy("Left out"),
    "refused": gettext_lazy("Refused"),
    "removed": gettext_lazy("Removed"),
}
STATES = {"waiting": "mute", "reading": "run", "complete": "ok", "partial": "warn", "held": "fail"}


def _run(request: HttpRequest, slug: str, run_id: int) -> tuple[Any, SyncRun]:
    connection = queries.get_connection(request.user, slug)
    run = queries.get_run(request.user, run_id)
    if run.connection_id != connection.pk:
        raise NotFound(_("%(name)s has no run %(id)d.") % {"name": connection.label, "id": run_id})
    return connection, run


@login_required
@require_GET
def run(request: HttpRequest, slug: str, run_id: int) -> HttpResponse:
    """A run with its resources; `?resource=` and `&outcome=` list the records behind one number."""
    connection, found = _run(request, slug, run_id)
    require(request.user, "connection.read", connection)
    labels = resource_labels(connection)
    resources = list(found.resources.all())
    title = _("Run %(id)d") % {"id": found.pk}
    ended = found.finished_at or timezone.now()
    totals = queries.totals_of(found)
    values = shell_of(request, connection, "runs", title=title) | {
        "run": found,
        "run_title": title,
        "run_url": f"{connection_url(connection)}/runs/{found.pk}",
        "seconds": (ended - found.started_at).total_seconds() if found.started_at else None,
        "who": found.who,
        "messages_of_run": [line for line in found.message.splitlines() if line],
        "resources": [_resource(row, labels) for row in resources],
        "totals": _numbers("", _("All lists"), totals) if len(resources) > 1 else [],
        "progress": queries.progress_of(request.user, [found.pk]).get(found.pk),
        "held": held_banners(
            request, [row for row in resources if row.state == ResourceState.HELD and row.would_remove]
        ),
        "may_cancel": found.is_active and can(request.user, "connection.sync", connection),
        "may_write": can(request.user, "connection.write", connection),
        "outcomes": list(OUTCOMES.items()),
    }
    return render(
        request, "connections/run.html", values | _listed(request, connection, resources, labels, totals)
    )


def _numbers(resource: str, label: str, counts: dict[str, int]) -> list[dict[str, Any]]:
    """Numbers in the order of the columns, each with the address of its list."""
    return [
        {
            "outcome": outcome,
            "value": counts[outcome or "listed"],
            "url": _list_url(resource, outcome),
            "words": f"{label}, {word}",
        }
        for outcome, word in OUTCOMES.items()
    ]


def _list_url(resource: str, outcome: str, **more: str) -> str:
    where = {"resource": resource} if resource else {}
    return f"?{urlencode(where | {'outcome': outcome} | more)}#records"


def _resource(row: ResourceRun, labels: dict[str, str]) -> dict[str, Any]:
    label = labels.get(row.name, row.name)
    return {
        "row": row,
        "label": label,
        "tone": STATES.get(row.state, "mute"),
        "numbers": _numbers(row.name, label, {name: getattr(row, name) for name in queries.NUMBERS}),
        "can_restore": bool(row.removed) and queries.removed_by(row).exists(),
    }


def _listed(
    request: HttpRequest,
    connection: Any,
    resources: list[ResourceRun],
    labels: dict[str, str],
    totals: dict[str, int],
) -> dict[str, Any]:
    """The records behind the number that was chosen, of one list or of all; else the refused ones, if there are any."""
    name, outcome = request.GET.get("resource", ""), request.GET.get("outcome")
    if outcome is None:
        outcome = "" if name else "refused"
    chosen = [row for row in resources if row.name == name] if name else resources
    if not chosen or outcome not in OUTCOMES or ("outcome" not in request.GET and not totals["refused"]):
        return {"chosen": None}
    may_see = can(request.user, "raw.read", connection)
    page = max(whole_number(request.GET.get("page", "1")), 1)
    offset = (page - 1) * PAGE
    found, total = queries.records_of(request.user, chosen, outcome=outcome, offset=offset, limit=PAGE)
    rows = [
        {
            "list": labels.get(item.resource, item.resource),
            "id": item.external_id,
            "outcome": item.outcome,
            "word": OUTCOMES[item.outcome],
            "reason": item.reason,
            "place": item.place,
            "name": record_name(item.stored.data, item.external_id)
            if item.stored is not None and may_see
            else item.external_id,
            "url": f"{connection_url(connection)}/records/{item.stored.pk}"
            if item.stored is not None and may_see
            else "",
        }
        for item in found
    ]
    return {
        "chosen": chosen,
        "chosen_label": labels.get(name, name) if name else _("All lists"),
        "is_all": not name and len(resources) > 1,
        "outcome": outcome,
        "outcome_label": OUTCOMES[outcome],
        "segments": [(word, _list_url(name, one), one == outcome) for one, word in OUTCOMES.items()],
        "rows": rows,
        "list_page": {
            "first": offset + 1 if rows else 0,
            "last": offset + len(rows),
            "total": total,
            "previous_url": _list_url(name, outcome, page=str(page - 1)) if page > 1 else "",
            "next_url": _list_url(name, outcome, page=str(page + 1)) if offset + PAGE < total else "",
        },
    }


@login_required
@require_POST
def restore(request: HttpRequest, slug: str, run_id: int) -> HttpResponse:
    """Bring back what a resource's sweep removed."""
    connection, found = _run(request, slug, run_id)
    require(request.user, "connection.write", connection)
    resource = queries.get_resource(request.user, connection, whole_number(request.POST.get("resource", "")))
    if resource.run_id != found.pk:
        raise NotFound(_("This run has no such resource."))
    count = runs.restore_removed(resource=resource, by=person(request).label)
    messages.success(
        request,
        ngettext(
            "%(n)d record is back. It stays until the tool lists it again.",
            "%(n)d records are back. They stay until the tool lists them again.",
            count,
        )
        % {"n": count},
    )
    return redirect(f"{connection_url(connection)}/runs/{found.pk}")
