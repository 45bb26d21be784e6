"""Deliveries by webhook: where a tool sends them, what came, and what was given up."""

from __future__ import annotations

import orjson
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from access.permissions import can, require
from base.errors import InvalidInput, NotFound
from base.text import whole_number
from integrations import queries
from integrations.models import Connection, Delivery
from integrations.services import deliveries as service
from integrations.tasks import start_processing
from portal.links import absolute
from portal.views.connections import connection_url, page_of, shell_of
from portal.views.settings import show_once, shown_once

ROWS = 50
ONCE = "webhook"  # by which the session keeps a secret for the page that shows it
TONES = {"queued": "mute", "running": "run", "done": "ok", "dead": "fail"}


def _connection(request: HttpRequest, slug: str) -> Connection:
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    if service.webhook_of(connection) is None:
        raise NotFound(_("%(name)s takes no deliveries.") % {"name": connection.label})
    return connection


@never_cache
@login_required
@require_GET
def all_deliveries(request: HttpRequest, slug: str) -> HttpResponse:
    """What a tool delivered, newest first, and the address that it delivers to."""
    connection = _connection(request, slug)
    state = request.GET.get("state", "")
    rows = Delivery.objects.filter(connection=connection).defer("body", "headers")
    counts = dict.fromkeys(Delivery.State.values, 0) | queries.delivery_counts(connection)
    if state in counts:
        rows = rows.filter(state=state)
    found, page = page_of(request, rows, ROWS)
    return render(
        request,
        "deliveries/list.html",
        shell_of(request, connection, "deliveries", title=_("Deliveries"))
        | {
            "rows": [{"row": row, "tone": TONES[row.state]} for row in found],
            "page": page,
            "address": absolute(request, reverse("hook", args=[connection.slug])),
            "has_secret": service.has_secret(connection),
            "secret": shown_once(request, f"{ONCE} {connection.slug}"),
            "dead": counts[Delivery.State.DEAD],
            "is_active": bool(counts[Delivery.State.QUEUED] + counts[Delivery.State.RUNNING]),
            "segments": [
                (_("All"), "?", not state, sum(counts.values())),
                *(
                    (label, f"?state={value}", state == value, counts[value])
                    for value, label in Delivery.State.choices
                ),
            ],
        },
    )


@login_required
@require_GET
def delivery(request: HttpRequest, slug: str, delivery_id: int) -> HttpResponse:
    """One delivery, with what it said for those who may read the tool's own words."""
    connection = _connection(request, slug)
    found = Delivery.objects.filter(connection=connection, pk=delivery_id).first()
    if found is None:
        raise NotFound(_("There is no delivery %(id)d here.") % {"id": delivery_id})
    return render(
        request,
        "deliveries/one.html",
        shell_of(request, connection, "deliveries", title=str(found))
        | {
            "row": found,
            "tone": TONES[found.state],
            "body": _readable(bytes(found.body)) if can(request.user, "raw.read", found) else "",
            "facts": [
                {"label": _("Event"), "value": found.event},
                {"label": _("Its id in the tool"), "value": found.delivery_id or _("none")},
                {"label": _("Received"), "time": found.received_at},
                *([{"label": _("Ended"), "time": found.finished_at}] if found.finished_at else []),
                {"label": _("Attempts"), "value": str(found.attempts)},
                {"label": _("Records"), "value": str(found.records)},
            ],
        },
    )


def _readable(body: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # it is none, or nested too deep to be laid out
        return body.decode("utf-8", "replace")


@login_required
@require_POST
def new_secret(request: HttpRequest, slug: str) -> HttpResponse:
    """Make what deliveries are proved by, and show it once beside the address."""
    connection = _connection(request, slug)
    try:
        show_once(request, f"{ONCE} {connection.slug}", service.make_secret(connection=connection))
    except InvalidInput as error:  # its other settings no longer fit the connector
        messages.error(request, error.in_full)
    return redirect(f"{connection_url(connection)}/deliveries")


@login_required
@require_POST
def replay(request: HttpRequest, slug: str) -> HttpResponse:
    """Take in again what was given up: one delivery, or all."""
    connection = _connection(request, slug)
    chosen = request.POST.get("delivery", "")
    ids = [number] if (number := whole_number(chosen)) else None
    if chosen and ids is None:
        raise NotFound(_("There is no delivery %(id)s here.") % {"id": chosen[:40]})
    count = service.replay(connection=connection, delivery_ids=ids)
    start_processing(connection.pk)
    messages.success(
        request,
        ngettext("%(n)d delivery is taken in again.", "%(n)d deliveries are taken in again.", count)
        % {"n": count},
    )
    return redirect(f"{connection_url(connection)}/deliveries")
