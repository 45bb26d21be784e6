"""One sync run: what each resource listed, what became of each record, and the way back."""

from __future__ import annotations

from typing import Any

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
from integrations import queries
from integrations.models import ResourceRun, SyncRun
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
    "skipped": gettext_lazy("Skipped"),
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
    values = shell_of(request, connection, "runs", title=title) | {
        "run": found,
        "run_title": title,
        "run_url": f"{connection_url(connection)}/runs/{found.pk}",
        "seconds": (ended - found.started_at).total_seconds() if found.started_at else None,
        "who": found.requested_by or found.get_trigger_display(),
        "messages_of_run": [line for line in found.message.splitlines() if line],
        "resources": [_resource(row, labels) for row in resources],
        "progress": queries.progress_of([found.pk]).get(found.pk),
        "held": held_banners(request, [row for row in resources if row.state == "held"]),
        "may_cancel": found.is_active and can(request.user, "connection.sync", connection),
        "outcomes": list(OUTCOMES.items()),
    }
    return render(request, "connections/run.html", values | _listed(request, connection, resources, labels))


def _resource(row: ResourceRun, labels: dict[str, str]) -> dict[str, Any]:
    numbers = [
        {"outcome": outcome, "label": label, "value": getattr(row, outcome or "listed")}
        for outcome, label in OUTCOMES.items()
    ]
    return {
        "row": row,
        "label": labels.get(row.name, row.name),
        "tone": STATES.get(row.state, "mute"),
        "numbers": numbers,
        "can_restore": bool(row.removed) and runs.removed_by(row).exists(),
    }


def _listed(
    request: HttpRequest, connection: Any, resources: list[ResourceRun], labels: dict[str, str]
) -> dict[str, Any]:
    """The records behind the number that was chosen; else the refused ones, if there are any."""
    name, outcome = request.GET.get("resource", ""), request.GET.get("outcome", "")
    chosen = next((row for row in resources if row.name == name), None)
    if chosen is None and not name:
        if "outcome" not in request.GET:
            outcome = "refused"
        chosen = next((row for row in resources if getattr(row, outcome or "listed", 0)), None)
    if chosen is None or outcome not in OUTCOMES:
        return {"chosen": None}
    may_see = can(request.user, "raw.read", connection)
    number = request.GET.get("page", "1")
    offset = (max(int(number), 1) - 1) * PAGE if number.isdecimal() else 0
    if outcome == "removed":
        gone = runs.removed_by(chosen).defer("raw")
        total = gone.count()
        rows: list[dict[str, Any]] = [
            {"id": row.external_id, "outcome": "removed", "reason": "", "place": "", "stored": row}
            for row in gone[offset : offset + PAGE]
        ]
    else:
        found, total = queries.records_of(chosen, outcome=outcome, offset=offset, limit=PAGE)
        rows = [
            {
                "id": item.external_id,
                "outcome": item.outcome,
                "reason": item.reason,
                "place": item.place,
                "stored": item.stored,
            }
            for item in found
        ]
    for row in rows:
        stored = row["stored"] if may_see else None
        row["name"] = record_name(stored.data, row["id"]) if stored is not None else row["id"]
        row["url"] = f"{connection_url(connection)}/records/{stored.pk}" if stored is not None else ""
        row["word"] = OUTCOMES[row["outcome"]]

    def url(page: int) -> str:
        params = request.GET.copy()
        params["resource"], params["outcome"], params["page"] = chosen.name, outcome, str(page)
        return f"?{params.urlencode()}"

    page = offset // PAGE + 1
    return {
        "chosen": chosen,
        "chosen_label": labels.get(chosen.name, chosen.name),
        "outcome": outcome,
        "outcome_label": OUTCOMES[outcome],
        "rows": rows,
        "list_page": {
            "first": offset + 1 if rows else 0,
            "last": offset + len(rows),
            "total": total,
            "previous_url": url(page - 1) if page > 1 else "",
            "next_url": url(page + 1) if offset + PAGE < total else "",
        },
    }


@login_required
@require_POST
def restore(request: HttpRequest, slug: str, run_id: int) -> HttpResponse:
    """Bring back what a resource's sweep removed."""
    connection, found = _run(request, slug, run_id)
    require(request.user, "connection.write", connection)
    resource = queries.get_resource(request.user, connection, _number(request.POST.get("resource", "")))
    if resource.run_id != found.pk:
        raise NotFound(_("This run has no such resource."))
    count = runs.restore_removed(resource=resource, by=person(request).label)
    messages.success(
        request,
        ngettext(
            "%(n)d record is back. The next sync removes it again unless the tool lists it.",
            "%(n)d records are back. The next sync removes them again unless the tool lists them.",
            count,
        )
        % {"n": count},
    )
    return redirect(f"{connection_url(connection)}/runs/{found.pk}")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 18 else 0
