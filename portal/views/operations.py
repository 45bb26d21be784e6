"""Operations: what people have connected tools do, and what came of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from access.permissions import require, visible
from catalog.models import Entity
from catalog.queries import get_entity
from integrations import queries
from integrations.models import Connection, OperationRun
from integrations.services import targets
from integrations.tasks import start_operation
from portal import forms, links
from portal.people import person
from portal.views.connections import connection_url, connector_of, page_of, record_name, shell_of

ROWS = 20
TONES = {"queued": "mute", "running": "run", "done": "ok", "failed": "fail", "unknown": "warn"}


@login_required
@require_http_methods(["GET", "POST"])
def ask(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Ask for an operation's parameters, and have it done."""
    entity = get_entity(request.user, namespace=namespace, kind=kind, name=name)
    connection = queries.get_connection(request.user, request.GET.get("connection", ""))
    spec, target, subject = targets.target_of(
        request.user,
        entity,
        connection,
        operation=request.GET.get("operation", ""),
        target=request.GET.get("target", ""),
    )
    form = forms.Form(spec.params)
    if request.method == "POST":
        form = forms.Form(spec.params, data=request.POST)
        if form.is_valid():
            run = start_operation(
                connection=connection,
                operation=spec.name,
                target=target,
                params=form.values,
                by=person(request).label,
                subject_uid=subject.uid,
                idempotency_key=request.POST.get("key", "")[:100],
            )
            return redirect(_url(connection, run))
    label = _(spec.label)
    return render(
        request,
        "operations/ask.html",
        {
            "title": f"{label}: {record_name(target.data, target.external_id)}",
            "form": form,
            "key": uuid.uuid4().hex,
            "label": label,
            "back_url": links.entity_url(entity),
            "breadcrumbs": [
                {"label": _("Catalog"), "url": "/catalog"},
                {"label": entity.title, "url": links.entity_url(entity)},
                {"label": label, "url": ""},
            ],
        },
        status=422 if form.errors else 200,
    )


@login_required
@require_GET
def all_operations(request: HttpRequest, slug: str) -> HttpResponse:
    """What people had done to a connection's tool."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.read", connection)
    rows, page = page_of(request, queries.list_operations(request.user, connection), ROWS)
    return render(
        request,
        "operations/list.html",
        shell_of(request, connection, "operations", title=_("Operations"))
        | {"rows": _rows(request, connection, list(rows)), "page": page},
    )


@login_required
@require_GET
def operation(request: HttpRequest, slug: str, operation_id: int) -> HttpResponse:
    """One operation: whether it is done, what the tool said, and what it made."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.read", connection)
    run = queries.get_operation(request.user, connection, operation_id)
    row = _rows(request, connection, [run])[0]
    return render(
        request,
        "operations/one.html",
        shell_of(request, connection, "operations", title=row["title"])
        | {"row": row, "run": run, "facts": _facts(run, row["subject"])},
    )


def _facts(run: OperationRun, subject: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [
        *([{"label": _("Done to"), "chip": subject}] if subject else []),
        {"label": _("Asked by"), "value": run.requested_by},
        {"label": _("Asked"), "time": run.requested_at},
        *([{"label": _("Ended"), "time": run.finished_at}] if run.finished_at else []),
        *(
            {"label": name, "value": str(value)}
            for name, value in run.params.items()
            if value not in ("", None)
        ),
    ]


def _url(connection: Connection, run: OperationRun) -> str:
    return f"{connection_url(connection)}/operations/{run.pk}"


def _rows(
    request: HttpRequest, connection: Connection, found: Sequence[OperationRun]
) -> list[dict[str, Any]]:
    kind = connector_of(connection)
    labels = {spec.name: _(spec.label) for spec in kind.operations()} if kind else {}
    targets_ = [run.target_id.partition("/") for run in found]
    records = connection.records.filter(external_id__in=[id_ for _list, _slash, id_ in targets_]).defer("raw")
    named = {f"{row.resource}/{row.external_id}": record_name(row.data, row.external_id) for row in records}
    subjects = Entity.objects.filter(uid__in=[run.subject_uid for run in found if run.subject_uid])
    seen = {entity.uid: links.chip(entity.ref, entity) for entity in visible(request.user, subjects)}
    rows = []
    for run, (_list, _slash, external_id) in zip(found, targets_, strict=True):
        label, name = labels.get(run.operation, run.operation), named.get(run.target_id, external_id)
        rows.append(
            {
                "run": run,
                "url": _url(connection, run),
                "title": f"{label}: {name}",
                "tone": TONES[run.state],
                "subject": seen.get(run.subject_uid) if run.subject_uid else None,
            }
        )
    return rows
