"""What concerns the whole portal: packs, the sample company, the audit log."""

from __future__ import annotations

import json
from datetime import datetime, time, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from pydantic import BaseModel, Field

from access.definitions import Definition, document_types
from access.models import AuditEvent
from access.permissions import require
from access.queries import list_audit
from access.verbs import EVERYTHING
from base.errors import DomainError
from base.pagination import BadCursor, paginate
from catalog.models import Entity
from integrations.models import AllowedHost, Connection
from integrations.services import network
from portal import links
from portal.forms import Form
from portal.packs import installed_packs, restore_definition
from portal.people import person
from portal.sample import load_sample, remove_sample
from portal.sample.company import NAMESPACE
from portal.views.connections import back_to, connection_url
from portal.views.settings import shell_of

AUDIT = 50


class HostIn(BaseModel):
    """One host that calls may reach."""

    host: str = Field(
        min_length=1,
        max_length=300,
        title=gettext_noop("Allow a host"),
        description=gettext_noop(
            "A name or an address inside the network, such as ghe.acme.example; of this machine itself with its port, "
            "such as localhost:8080."
        ),
    )


# --- outbound calls -------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
def outbound(request: HttpRequest) -> HttpResponse:
    """Which hosts inside the network calls may reach."""
    require(request.user, EVERYTHING)
    form = Form(HostIn)
    if request.method == "POST":
        form = Form(HostIn, request.POST)
        if form.is_valid():
            try:
                row = network.allow_host(host=form.values["host"], by=person(request).label)
            except DomainError as error:
                form.errors["host"] = [error.message]
            else:
                messages.success(request, _("%(host)s may be reached from now on.") % {"host": row.host})
                return redirect("portal:settings-outbound")
    return render(
        request,
        "settings/outbound.html",
        shell_of(request, "settings-outbound")
        | {
            "hosts": network.allowed_hosts(),
            "may_withdraw": True,
            "words": django_settings.PORTICO_OUTBOUND_ALLOW,
            "fields": form.fields,
            "summary": form.summary,
        },
        status=422 if form.errors else 200,
    )


@login_required
@require_POST
def withdraw(request: HttpRequest, host_id: int) -> HttpResponse:
    """Close a host again."""
    require(request.user, EVERYTHING)
    row = AllowedHost.objects.filter(pk=host_id).first()
    if row is not None:
        network.withdraw_host(host=row)
        messages.success(request, _("%(host)s is closed again.") % {"host": row.host})
    return back_to(request, reverse("portal:settings-outbound"))


# --- packs ----------------------------------------------------------------------------------------------


@login_required
@require_GET
def packs(request: HttpRequest) -> HttpResponse:
    """What each pack brought, and what was edited since."""
    require(request.user, "pack.write")
    by_pack: dict[str, list[dict[str, Any]]] = {folder.name: [] for folder in installed_packs()}
    for kind, document_type in document_types().items():
        rows: list[Definition] = list(document_type.rows())
        for row in rows:
            by_pack.setdefault(row.pack, []).append({"kind": kind, "row": row, "title": _title(row)})
    return render(
        request,
        "settings/packs.html",
        shell_of(request, "settings-packs")
        | {
            "packs": [
                {
                    "name": name or _("Composed in the browser"),
                    "rows": rows,
                    "edited": sum(item["row"].is_edited for item in rows),
                }
                for name, rows in by_pack.items()
                if rows or name
            ]
        },
    )


def _title(row: Definition) -> str:
    spec = row.spec if isinstance(row.spec, dict) else {}
    title = spec.get("title") or spec.get("label") or spec.get("singular") or ""
    return title if isinstance(title, str) and title.lower() != row.name else ""


@login_required
@require_POST
def restore(request: HttpRequest) -> HttpResponse:
    """Serve a definition as its pack shipped it."""
    require(request.user, "pack.write")
    kind, name = request.POST.get("kind", ""), request.POST.get("name", "")
    if restore_definition(kind=kind, name=name, by=person(request).label):
        messages.success(request, _("%(kind)s %(name)s is as it was shipped.") % {"kind": kind, "name": name})
    else:
        messages.success(
            request, _("%(kind)s %(name)s was as shipped already.") % {"kind": kind, "name": name}
        )
    return redirect("portal:settings-packs")


# --- the sample company ---------------------------------------------------------------------------------


@login_required
@require_GET
def sample(request: HttpRequest) -> HttpResponse:
    """Whether the sample company is here, and the one click that removes it."""
    require(request.user, "connection.write")
    connections = list(Connection.objects.filter(is_sample=True))
    return render(
        request,
        "settings/sample.html",
        shell_of(request, "settings-sample")
        | {
            "connections": [{"row": row, "url": connection_url(row)} for row in connections],
            "entities": Entity.objects.filter(namespace=NAMESPACE, deleted_at=None).count()
            if connections
            else 0,
            "namespace": NAMESPACE,
        },
    )


@login_required
@require_POST
def change_sample(request: HttpRequest) -> HttpResponse:
    """Load the sample company, or with `action=remove` take every row of it away."""
    require(request.user, "connection.write")
    if request.POST.get("action") == "remove":
        gone = remove_sample(by=person(request).label)
        said = ngettext(
            "The sample company is gone: %(n)d entity and all that belonged to it.",
            "The sample company is gone: %(n)d entities and all that belonged to them.",
            gone.entities,
        )
        messages.success(request, said % {"n": gone.entities})
        return redirect("portal:home")
    load_sample()
    messages.success(request, _("The sample company is being loaded; its tools sync now."))
    return redirect("portal:home")


# --- the audit log --------------------------------------------------------------------------------------


@login_required
@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """Who did what to which thing, newest first."""
    require(request.user, "audit.read")
    given = {
        name: request.GET.get(name, "").strip()[:200] for name in ("actor", "verb", "subject_type", "day")
    }
    day = _day(given["day"])
    events = list_audit(
        viewer=person(request),
        actor=given["actor"],
        verb=given["verb"],
        subject_type=given["subject_type"],
        since=day,
        until=day + timedelta(days=1) if day else None,
    )
    order = ("-at", "-id")
    try:
        page = paginate(events, order=order, limit=AUDIT, cursor=request.GET.get("cursor"))
    except BadCursor:
        return redirect("portal:settings-audit")
    everything = list_audit(viewer=person(request)).order_by()
    return render(
        request,
        "settings/audit.html",
        shell_of(request, "settings-audit")
        | {
            "rows": [
                {
                    "event": event,
                    "changes": _changes(event),
                    "icon": {"token": "key", "system": "cpu"}.get(event.actor_type, "user"),
                }
                for event in page.rows
            ],
            "page": links.pages_around(page, **given),
            "given": given,
            "verbs": sorted(set(everything.values_list("verb", flat=True).distinct())),
            "is_filtered": any(given.values()),
        },
    )


def _day(text: str) -> Any:
    try:
        day = parse_date(text)
    except ValueError:
        return None
    return timezone.make_aware(datetime.combine(day, time.min)) if day else None


def _changes(event: AuditEvent) -> list[dict[str, Any]]:
    """An event's changes as rows of a diff; what is no pair is a fact."""
    rows = []
    for name, value in event.changes.items():
        if isinstance(value, list) and len(value) == 2:
            old, new = (None if one is None else _text(one) for one in value)
        else:
            old, new = None, _text(value)
        rows.append({"path": name, "old": old, "new": new})
    return rows


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}…"
