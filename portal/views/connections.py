"""Connections: what is connected, how it is doing, and everything that one does with one of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop, ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from pydantic import BaseModel, Field

from access import queries as access_queries
from access.permissions import can, require
from access.secrets import SecretUnreadable, read_secrets
from access.verbs import EVERYTHING
from base.errors import Conflict, DomainError, InvalidInput, NotFound
from base.text import whole_number
from integrations import queries
from integrations.contract import Connector
from integrations.ignoring import ACTIVITY
from integrations.models import Connection, ResourceRun, RunState, StoredRecord, SyncRun
from integrations.network import Network
from integrations.records import Repository
from integrations.registry import connectors
from integrations.services import connections as service
from integrations.services import deliveries, network, runs
from integrations.tasks import start_sync
from portal import links
from portal.forms import Form
from portal.people import person
from portal.sources import badge_of_connection
from portal.templatetags.portico import duration

KEPT = "•"  # stands for a secret that is kept and that no page needs to know
RECORDS = 50
RUNS = 20
NAMED = 5  # things that a banner names before it says how many more there are

# A run's numbers in a line; what did not change is what is left of those that were listed.
NUMBERS = {
    "listed": gettext_lazy("Listed"),
    "new": gettext_lazy("New"),
    "changed": gettext_lazy("Changed"),
    "skipped": gettext_lazy("Left out"),
    "refused": gettext_lazy("Refused"),
    "removed": gettext_lazy("Removed"),
}
INTERVALS: list[tuple[int, str]] = [
    (60, gettext_noop("Every minute")),
    (300, gettext_noop("Every 5 minutes")),
    (600, gettext_noop("Every 10 minutes")),
    (1_800, gettext_noop("Every 30 minutes")),
    (3_600, gettext_noop("Every hour")),
    (21_600, gettext_noop("Every 6 hours")),
    (86_400, gettext_noop("Once a day")),
]


class Reach(BaseModel):
    """How the tool is reached, whatever the connector."""

    connection_network: Network = Field(default_factory=Network, title=gettext_noop("Network"))


VISIBLE_TO = gettext_noop("Visible to")
VISIBLE_TO_HELP = gettext_noop(
    "Only these access groups, and who may do everything, see the connection and what it brings. None: everybody."
)


class Facts(BaseModel):
    """What a connection has besides its connector's own settings."""

    connection_label: str = Field(
        title=gettext_noop("Name"),
        min_length=1,
        max_length=100,
        description=gettext_noop("What people see."),
    )
    connection_interval: int = Field(
        title=gettext_noop("Sync"),
        ge=30,
        le=7 * 86_400,
        description=gettext_noop(
            "How often Portico reads the tool. A tool that asks to wait is given the time."
        ),
    )
    allows_operations: bool = Field(
        False,
        title=gettext_noop("Allow operations"),
        description=gettext_noop(
            "People with the permission may act in the tool. Until then it is only read."
        ),
    )
    visible_to: list[str] = Field([], title=VISIBLE_TO, description=VISIBLE_TO_HELP)


# --- what the pages share ----------------------------------------------------------------------------------


def connection_url(connection: Connection, tab: str = "") -> str:
    """A page of a connection."""
    return f"/connections/{quote(connection.slug)}" + (f"/{tab}" if tab else "")


def back_to(request: HttpRequest, fallback: str) -> HttpResponse:
    """Where an act's button stood, if that is a page of ours."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return HttpResponseRedirect(wanted if is_ours else fallback)  # an address, never a view's name


def state_of(connection: Any) -> str:
    """A connection's state for its status word; `connection` comes from `list_connections`."""
    if connection.last_state in (RunState.QUEUED, RunState.RUNNING):
        return str(connection.last_state)
    return "paused" if connection.is_paused else connection.last_state or ""


def connector_of(connection: Connection) -> type[Connector[Any]] | None:
    """The connection's connector, if it is still installed."""
    return connectors().get(connection.connector)


def resource_labels(connection: Connection) -> dict[str, str]:
    """What the connector calls its lists, by name."""
    kind = connector_of(connection)
    return {spec.name: _(spec.label) for spec in kind.resources()} if kind else {}


def interval_field(form: Form, name: str = "connection_interval") -> dict[str, Any]:
    """The choice of how often, made of a number of seconds; a number set elsewhere is one more choice."""
    field = next(field for field in form.fields if field["name"] == name)
    choices = [{"value": seconds, "label": _(label)} for seconds, label in INTERVALS]
    value = field["value"]
    every = whole_number(str(value))
    if every and every not in dict(INTERVALS):
        choices.append({"value": value, "label": _("Every %(time)s") % {"time": duration(every)}})
    return field | {"type": "select", "choices": choices, "required": True}


def visible_to_field(
    request: HttpRequest, form: Form, connection: Connection | None
) -> dict[str, Any] | None:
    """The choice of access groups; None for who may not see which there are, or if there are none."""
    names = [group.name for group in access_queries.list_groups(viewer=person(request))]
    gone = [name for name in service.visible_to_of(connection) if name not in names] if connection else []
    if not names and not gone:
        return None
    choices = [{"value": name, "label": name} for name in names]
    choices += [{"value": name, "label": _("%(key)s, a group that is gone") % {"key": name}} for name in gone]
    field = next(field for field in form.fields if field["name"] == "visible_to")
    return field | {"type": "multiple", "choices": choices, "rows": min(max(len(choices), 2), 6)}


def act(
    label: str, url: str, *, icon: str = "", confirm: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """A button that posts."""
    return {"label": label, "url": url, "icon": icon, "method": "post", "confirm": confirm, **more}


def rest_of(connection: Connection) -> dict[str, str] | None:
    """In a word, why nothing of a connection begins; None if it may."""
    if connection.is_at_work:
        return None
    if connection.is_removed:
        word = _("Being removed")
    elif connection.moving_since is not None:
        word = _("Being muted") if connection.is_aside else _("Coming back")
    else:
        word = _("Muted")
    return {"tone": "mute", "word": word}


def _acts(
    request: HttpRequest, connection: Any, *, back: str = "", small: bool = False
) -> list[dict[str, Any]]:
    """What one may do to a connection as it is now."""
    after = "?" + urlencode({"next": back}) if back else ""
    url = connection_url(connection)
    found: list[dict[str, Any]] = []
    if connection.is_removed or connection.moving_since is not None:
        return found
    if connection.muted_at is not None:
        if can(request.user, "connection.write", connection):
            found.append(act(_("Unmute"), f"{url}/unmute{after}", icon="eye", small=small))
        return found
    if can(request.user, "connection.write", connection):
        if connection.is_paused:
            found.append(act(_("Resume"), f"{url}/resume{after}", icon="player-play", small=small))
        else:
            found.append(act(_("Pause"), f"{url}/pause{after}", icon="player-pause", small=small))
        if not small:
            found.append({"label": _("Mute..."), "url": f"{url}/mute", "icon": "eye-off"})
    if can(request.user, "connection.sync", connection):
        if connection.last_state in (RunState.QUEUED, RunState.RUNNING):
            found.append(act(_("Cancel"), f"{url}/cancel{after}", icon="player-stop", small=small))
        else:
            found.append(
                act(_("Sync now"), f"{url}/sync{after}", icon="refresh", small=small, primary=not small)
            )
    return found


def _acts_on_removed(connection: Connection) -> list[dict[str, Any]]:
    url = connection_url(connection)
    gone = {
        "title": _("Remove %(name)s for good?") % {"name": connection.label},
        "text": _("What it brought, its settings and its secrets go now and cannot be restored."),
        "verb": _("Remove for good"),
    }
    return [
        act(_("Restore"), f"{url}/undelete", icon="arrow-back-up", small=True),
        act(_("Remove for good"), f"{url}/purge", icon="trash", small=True, confirm=gone, danger=True),
    ]


def held_banners(request: HttpRequest, resources: Iterable[ResourceRun]) -> list[dict[str, Any]]:
    """What the guard holds, in words, with what would go and the two ways on."""
    found = []
    for resource in resources:
        connection = resource.run.connection
        gone = queries.held_records(request.user, resource)
        may_read = can(request.user, "raw.read", connection)
        named = _named(gone[:NAMED], may_read=may_read)
        found.append(
            {
                "resource": resource,
                "connection": connection,
                "label": resource_labels(connection).get(resource.name, resource.name),
                "url": connection_url(connection),
                "decide_url": reverse("portal:connection-guard", args=[connection.slug, resource.pk]),
                "named": named,
                "more": max(0, resource.would_remove - len(named)),
                "may_decide": can(request.user, "connection.write", connection),
            }
        )
    return found


def _named(rows: Iterable[StoredRecord], *, may_read: bool) -> list[str]:
    """What some records are called, for those who may not read them by their ids."""
    return [record_name(row.data, row.external_id) if may_read else row.external_id for row in rows]


def _kept(request: HttpRequest, connection: Connection) -> dict[str, Any]:
    """What stays by a person's word, in numbers and with the first names."""
    rows = queries.kept_records(request.user, connection)
    count = rows.count()
    may_read = can(request.user, "raw.read", connection)
    return {
        "count": count,
        "names": _named(rows[:NAMED], may_read=may_read) if count else [],
        "more": max(0, count - NAMED),
        "url": f"{connection_url(connection)}/records?kept=1" if may_read else "",
    }


def page_of(request: HttpRequest, rows: Any, size: int) -> tuple[list[Any], dict[str, Any]]:
    """One numbered page of some rows, and where it stands for the pagination component."""
    found = Paginator(rows, size).get_page(request.GET.get("page"))

    def url(number: int) -> str:
        params = request.GET.copy()
        params["page"] = str(number)
        return f"?{params.urlencode()}"

    return list(found.object_list), {
        "first": found.start_index(),
        "last": found.end_index(),
        "total": found.paginator.count,
        "previous_url": url(found.previous_page_number()) if found.has_previous() else "",
        "next_url": url(found.next_page_number()) if found.has_next() else "",
    }


def shell_of(request: HttpRequest, connection: Any, tab: str, *, title: str = "") -> dict[str, Any]:
    """Header, tabs and breadcrumbs of a connection's pages."""
    now = timezone.now()
    badge = badge_of_connection(connection)
    kind = connector_of(connection)
    meta: list[dict[str, Any]] = [{"label": kind.label if kind else connection.connector}]
    if connection.over_at:
        meta.append({"label": _("Read"), "time": connection.over_at})
    if connection.due_at and not connection.is_paused and connection.is_at_work:
        meta.append({"label": _("Next run"), "time": connection.due_at})
    url = connection_url(connection)
    tabs = [("", _("Overview")), ("runs", _("Runs"))]
    if can(request.user, "raw.read", connection):
        tabs.append(("records", _("Records")))
    if brings_repositories(connection):
        tabs.append(("rules", _("Rules")))
    tabs.append(("left-out", _("Left out")))
    may_write = can(request.user, "connection.write", connection)
    if kind is not None and kind.webhook() and may_write:
        tabs.append(("deliveries", _("Deliveries")))
    if kind is not None and kind.operations():
        tabs.append(("operations", _("Operations")))
    if may_write and not connection.is_removed:
        tabs.append(("settings", _("Settings")))
    status = {
        "domain": "sync",
        "state": state_of(connection),
        "stale": queries.stale_since(connection, now=now),
    }
    refusals = connection.barred_hosts if may_write and not connection.is_removed else {}
    return {
        **barred_of(request, refusals, f"{url}/allow"),
        "title": connection.label,
        "monogram": badge,
        "status": rest_of(connection) or status,
        "meta": meta,
        "actions": _acts(request, connection),
        "tabs": [
            {"label": label, "url": f"{url}/{name}" if name else url, "is_active": name == tab}
            for name, label in tabs
        ],
        "breadcrumbs": [
            {"label": _("Connections"), "url": "/connections"},
            *([{"label": connection.label, "url": url}, {"label": title, "url": ""}] if title else []),
        ],
        "connection": connection,
        "url": url,
        "page_title": f"{title} · {connection.label}" if title else connection.label,
    }


def barred_of(request: HttpRequest, refusals: dict[str, str], url: str) -> dict[str, Any]:
    """The hosts that the guard refused, with the address of the button for those who may allow them."""
    barred = network.still_barred(refusals)
    return {
        "barred": [{"host": host, "what": what} for host, what in barred.items()],
        "allow_url": url if can(request.user, EVERYTHING) else "",
    }


def brings_repositories(connection: Connection) -> bool:
    """Whether the rule for components has anything to decide."""
    kind = connector_of(connection)
    return kind is not None and any(issubclass(of, Repository) for spec in kind.resources() for of in spec.of)


# --- all of them -------------------------------------------------------------------------------------------


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """All connections, those that need somebody first."""
    require(request.user, "connection.read")
    now = timezone.now()
    rows = queries.words_as_seen(request.user, queries.list_connections(request.user))
    order = {"failed": 0, "partial": 1}
    rows.sort(key=lambda c: (order.get(c.over_state or "", 2), c.label.casefold()))
    active = {c.last_run for c in rows if c.last_state == RunState.RUNNING}
    progress = queries.progress_of(request.user, active)
    counts = queries.entity_counts(request.user, rows)
    moves = queries.moves(request.user, rows)
    values = {
        "title": _("Connections"),
        "rows": [
            {
                "connection": c,
                "url": connection_url(c),
                "badge": badge_of_connection(c),
                "connector": kind.label if (kind := connector_of(c)) else c.connector,
                "state": state_of(c),
                "stale": queries.stale_since(c, now=now),
                "progress": progress.get(c.last_run) if c.last_run else None,
                "rest": rest_of(c),
                "move": moves.get(c.pk),
                "entities": counts.get(c.slug, 0),
                "entities_url": links.catalog_url(f"source:{c.slug}"),
                "message": c.last_message if c.over_state in ("failed", "partial") else "",
                "next": c.due_at if not c.is_paused and c.is_at_work else None,
                "acts": _acts(request, c, back="/connections", small=True),
            }
            for c in rows
        ],
        "held": held_banners(request, queries.held_resources(request.user)),
        "is_active": any(
            c.moving_since is not None or c.last_state in (RunState.QUEUED, RunState.RUNNING) for c in rows
        ),
        "removed": [
            {"connection": c, "acts": _acts_on_removed(c)} for c in queries.removed_connections(request.user)
        ],
        "may_write": can(request.user, "connection.write"),
        "locations": queries.list_locations(request.user).count(),
    }
    values["actions"] = (
        [
            {"label": _("Import catalog files"), "url": "/connections/import", "icon": "upload"},
            {"label": _("Connect a tool"), "url": "/connections/new", "icon": "plus", "primary": True},
        ]
        if values["may_write"]
        else []
    )
    return render(request, "connections/index.html", values)


# --- one of them -------------------------------------------------------------------------------------------


@login_required
@require_GET
def overview(request: HttpRequest, slug: str) -> HttpResponse:
    """How a connection is doing: its run, its numbers, its last runs."""
    connection: Any = queries.get_connection(request.user, slug)
    require(request.user, "connection.read", connection)
    last = queries.as_seen(request.user, queries.list_runs(request.user, connection)[:5])
    current = next((run for run in last if run.is_active), None)
    kind = connector_of(connection)
    may_write = can(request.user, "connection.write", connection)
    is_told = may_write and connection.is_at_work and kind is not None and kind.webhook() is not None
    values = shell_of(request, connection, "") | {
        "runs": [_run_row(run) for run in last],
        "current": current,
        # A run may have ended after the header's state was read: then the page has to be asked for again.
        "is_active": current is not None or connection.last_state in (RunState.QUEUED, RunState.RUNNING),
        "current_numbers": queries.totals_of(current) if current else {},
        "progress": queries.progress_of(request.user, [current.pk]).get(current.pk) if current else None,
        "move": queries.moves(request.user, [connection]).get(connection.pk),
        "entities": queries.entity_counts(request.user, [connection]).get(connection.slug, 0),
        "entities_url": links.catalog_url(f"source:{connection.slug}"),
        "records": queries.seen_records(request.user, connection.records.filter(deleted_at=None)).count(),
        "records_url": f"{connection_url(connection)}/records"
        if can(request.user, "raw.read", connection)
        else "",
        "may_write": may_write,
        "hook_url": f"{connection_url(connection)}/deliveries" if is_told else "",
        "has_secret": is_told and deliveries.has_secret(connection),
        "held": held_banners(request, queries.held_resources(request.user, connection)),
        "kept": _kept(request, connection),
        "resources": resource_labels(connection),
        "operations": [_(spec.label) for spec in kind.operations()] if kind else [],
        "is_missing": kind is None,
        "interval": next((_(text) for s, text in INTERVALS if s == connection.interval), ""),
    }
    return render(request, "connections/overview.html", values)


def _run_row(run: SyncRun) -> dict[str, Any]:
    ended = run.finished_at or timezone.now()
    totals = queries.totals_of(run)
    return {
        "run": run,
        "url": f"{connection_url(run.connection)}/runs/{run.pk}",
        "seconds": (ended - run.started_at).total_seconds() if run.started_at else None,
        "who": run.who,
        "numbers": [
            {"name": "" if name == "listed" else name, "label": label, "value": value}
            for name, label in NUMBERS.items()
            if (value := totals[name])
        ],
    }


@login_required
@require_GET
def all_runs(request: HttpRequest, slug: str) -> HttpResponse:
    """A connection's runs with their numbers."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.read", connection)
    rows, page = page_of(request, queries.list_runs(request.user, connection), RUNS)
    return render(
        request,
        "connections/runs.html",
        shell_of(request, connection, "runs", title=_("Runs"))
        | {"runs": [_run_row(run) for run in queries.as_seen(request.user, rows)], "page": page},
    )


@login_required
@require_GET
def records(request: HttpRequest, slug: str) -> HttpResponse:
    """What a connection brought, record by record."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "raw.read", connection)
    labels = resource_labels(connection)
    resource, text = request.GET.get("resource", ""), request.GET.get("q", "").strip()[:200]
    is_deleted, is_kept = "removed" in request.GET, "kept" in request.GET
    rows, page = page_of(
        request,
        queries.list_records(
            request.user, connection, resource=resource, text=text, is_deleted=is_deleted, is_kept=is_kept
        ).defer("raw"),
        RECORDS,
    )
    return render(
        request,
        "connections/records.html",
        shell_of(request, connection, "records", title=_("Records"))
        | {
            "rows": [{"row": row, "name": record_name(row.data, row.external_id)} for row in rows],
            "page": page,
            "labels": labels,
            "resource": resource,
            "q": text,
            "is_deleted": is_deleted,
            "is_kept": is_kept,
        },
    )


def record_name(data: dict[str, Any], external_id: str) -> str:
    """What people call a record; what has a number is told from others of its name by it."""
    name = str(data.get("name") or data.get("title") or data.get("file") or external_id)
    number = data.get("number")
    return f"{name} #{number}" if number and str(number) not in name else name


@login_required
@require_GET
def record(request: HttpRequest, slug: str, record_id: int) -> HttpResponse:
    """One record: in the shared vocabulary, and as the tool sent it."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "raw.read", connection)
    found = queries.get_record(request.user, connection, record_id)
    name = record_name(found.data, found.external_id)
    return render(
        request,
        "connections/record.html",
        shell_of(request, connection, "records", title=name)
        | {
            "row": found,
            "name": name,
            "data": json.dumps(found.data, indent=2, ensure_ascii=False),
            "raw": json.dumps(found.raw, indent=2, ensure_ascii=False) if found.raw else "",
            "may_leave_out": not found.is_ignored
            and found.deleted_at is None
            and found.type not in ACTIVITY
            and can(request.user, "mapping.write", connection),
        },
    )


# --- acts --------------------------------------------------------------------------------------------------


@login_required
@require_POST
def sync(request: HttpRequest, slug: str) -> HttpResponse:
    """Start a run."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.sync", connection)
    try:
        start_sync(connection=connection, by=person(request).label)
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, _("A sync of %(name)s is queued.") % {"name": connection.label})
    return back_to(request, connection_url(connection))


@login_required
@require_POST
def cancel(request: HttpRequest, slug: str) -> HttpResponse:
    """Stop the active run."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.sync", connection)
    run = connection.runs.active().first()
    if run is not None and runs.cancel_run(run=run):
        messages.success(request, _("Run %(id)d stops after the page it reads.") % {"id": run.pk})
    else:
        messages.warning(request, _("No sync of %(name)s is running.") % {"name": connection.label})
    return back_to(request, connection_url(connection))


@login_required
@require_POST
def pause(request: HttpRequest, slug: str, *, is_paused: bool) -> HttpResponse:
    """Take a connection off the schedule, or put it back."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    service.update_connection(connection=connection, is_paused=is_paused)
    said = (
        _("%(name)s is paused: no run starts by itself.")
        if is_paused
        else _("%(name)s is on schedule again.")
    )
    messages.success(request, said % {"name": connection.label})
    return back_to(request, connection_url(connection))


@login_required
@require_POST
def check(request: HttpRequest, slug: str) -> HttpResponse:
    """Test a connection as it is stored."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    _check(request, connection)
    return back_to(request, f"{connection_url(connection)}#checks")


def _check(request: HttpRequest, connection: Connection) -> None:
    try:
        health = service.check_connection(connection=connection)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        if health.ok:
            messages.success(request, _("All checks of %(name)s pass.") % {"name": connection.label})


@login_required
@require_POST
def allow(request: HttpRequest, slug: str) -> HttpResponse:
    """Let calls reach a host that the guard refused this connection, and test it anew."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, EVERYTHING)
    if allow_host(request, network.still_barred(connection.barred_hosts), connection.slug):
        _check(request, connection)
    return back_to(request, connection_url(connection))


def allow_host(request: HttpRequest, barred: dict[str, str], connection: str) -> bool:
    """Allow the host of a button, if it is one of those that were refused; says what came of it."""
    host = request.POST.get("host", "")
    if host not in barred:
        messages.warning(request, _("%(host)s is not refused any more.") % {"host": host[:100]})
        return False
    try:
        network.allow_host(host=host, by=person(request).label, connection=connection)
    except DomainError as error:
        messages.error(request, error.message)
        return False
    messages.success(
        request,
        _("%(host)s may be reached from now on. It can be closed again under Settings > Outbound calls.")
        % {"host": host},
    )
    return True


@login_required
@require_http_methods(["GET", "POST"])
def guard(request: HttpRequest, slug: str, resource_id: int) -> HttpResponse:
    """What the guard holds: what would go, and the decision."""
    connection = queries.get_connection(request.user, slug)
    resource = queries.get_resource(request.user, connection, resource_id)
    url = f"{connection_url(connection)}/runs/{resource.run_id}"
    if request.method == "POST":
        require(request.user, "connection.write", connection)
        remove = request.POST.get("decision") == "remove"
        try:
            count = runs.decide_guard(resource=resource, remove=remove, by=person(request).label)
        except Conflict as error:
            messages.warning(request, error.message)
        else:
            messages.success(
                request,
                ngettext("%(n)d record was removed.", "%(n)d records were removed.", count) % {"n": count}
                if remove
                else _("All of it stays until the tool lists it again."),
            )
        return back_to(request, url)
    require(request.user, "connection.read", connection)
    if resource.state != "held":
        return redirect(url)
    rows, page = page_of(request, queries.held_records(request.user, resource), RECORDS)
    label = resource_labels(connection).get(resource.name, resource.name)
    return render(
        request,
        "connections/guard.html",
        shell_of(request, connection, "runs", title=_("What would go"))
        | {
            "resource": resource,
            "count": page["total"],
            "message": resource.message
            if connection.pk in queries.wholly_seen(request.user, [connection])
            else "",
            "label": label,
            "rows": [{"row": row, "name": record_name(row.data, row.external_id)} for row in rows],
            "page": page,
            "may_decide": can(request.user, "connection.write", connection),
            "may_see": can(request.user, "raw.read", connection),
        },
    )


@login_required
@require_POST
def decide_anew(request: HttpRequest, slug: str) -> HttpResponse:
    """Let what was kept be decided anew."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    count = runs.decide_anew(connection=connection)
    messages.success(
        request,
        ngettext(
            "%(n)d record is kept no more: unless the next sync lists it, it goes or is asked for again.",
            "%(n)d records are kept no more: what the next sync does not list goes or is asked for again.",
            count,
        )
        % {"n": count},
    )
    return redirect(connection_url(connection))


# --- settings ----------------------------------------------------------------------------------------------


@sensitive_post_parameters()
@login_required
@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest, slug: str) -> HttpResponse:
    """A connection's settings; secrets are never shown."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.write", connection)
    kind = connector_of(connection)
    if kind is None:
        raise NotFound(
            _("The connector %(name)s is not installed, so its settings cannot be shown.")
            % {"name": connection.connector}
        )
    unreadable = ""
    try:
        kept = read_secrets(owner_type=service.OWNER, owner_uid=str(connection.uid))
    except SecretUnreadable as error:  # its key is gone; entering it again mends that
        kept, unreadable = {}, error.message
    facts, config = _settings_forms(connection, kind, kept)
    reach = _reach_form(connection)
    if request.method == "POST":
        if name := request.POST.get("forget", ""):
            return _forget(request, connection, kind, name)
        facts, config = _settings_forms(connection, kind, kept, data=request.POST)
        reach = _reach_form(connection, data=request.POST)
        if facts.is_valid() & config.is_valid() & reach.is_valid():
            try:
                service.update_connection(
                    connection=connection,
                    label=facts.values["connection_label"],
                    interval=facts.values["connection_interval"],
                    allows_operations=facts.values["allows_operations"] if kind.operations() else None,
                    config={**config.values, **config.secrets},
                    network=network_values(reach),
                    visible_to=facts.values["visible_to"]
                    if visible_to_field(request, facts, connection)
                    else None,
                    by=person(request),
                )
            except InvalidInput as error:
                (facts if facts.has_what(error) else config).add_errors(error)
            else:
                if request.POST.get("action") == "test":
                    return check(request, slug)
                messages.success(
                    request, _("The settings of %(name)s are saved.") % {"name": connection.label}
                )
                return redirect(f"{connection_url(connection)}/settings")
    own = {field["name"]: field for field in facts.fields}
    return render(
        request,
        "connections/settings.html",
        shell_of(request, connection, "settings", title=_("Settings"))
        | {
            "summary": [*facts.summary, *config.summary, *reach.summary],
            "label_field": own["connection_label"],
            "interval_field": interval_field(facts),
            "groups_field": visible_to_field(request, facts, connection),
            "may_see_groups": can(request.user, "user.read"),
            "operations_field": own["allows_operations"] if kind.operations() else None,
            "operations": [_(spec.label) for spec in kind.operations()],
            "groups": [*with_forget(config), *with_forget(reach)],
            "hosts": network.allowed_hosts(connection),
            "may_withdraw": can(request.user, EVERYTHING),
            "checks": connection.check_result,
            "unreadable": unreadable,
        },
        status=422 if facts.errors or config.errors or reach.errors else 200,
    )


def _reach_form(connection: Connection, data: QueryDict | None = None) -> Form:
    return reach_form(data, values=connection.network, has_secret=network.has_secret(connection))


def reach_form(data: QueryDict | None, *, values: dict[str, Any], has_secret: bool) -> Form:
    """The form of a connection's network settings; of a secret it knows only that it is kept."""
    is_without_proxy = data is not None and not data.get("connection_network.proxy", "").strip()
    kept = {f"connection_network.{Network.SECRET}": KEPT} if has_secret and not is_without_proxy else {}
    return Form(Reach, data, initial={"connection_network": values}, secrets=kept)


def network_values(form: Form) -> dict[str, Any]:
    """What the form of the network settings holds, as the service takes it."""
    values = dict(form.values.get("connection_network", {}))
    password = form.secrets.get(f"connection_network.{Network.SECRET}", "")
    return values | ({Network.SECRET: password} if password not in ("", KEPT) else {})


def _settings_forms(
    connection: Connection, kind: type[Connector[Any]], kept: dict[str, str], data: QueryDict | None = None
) -> tuple[Form, Form]:
    facts = Form(
        Facts,
        data,
        initial={
            "connection_label": connection.label,
            "connection_interval": connection.interval,
            "allows_operations": connection.allows_operations,
            "visible_to": service.visible_to_of(connection),
        },
    )
    return facts, Form(kind.Config, data, initial=connection.config, secrets=kept)


def with_forget(form: Form, *, note: str = "") -> list[dict[str, Any]]:
    """The form's groups, with a button to forget at each secret that is set.

    :param note: what the field says of it, if not that it is set.
    """
    groups = form.groups
    for field in (field for group in groups for field in group["fields"]):
        if field["type"] == "secret" and field["is_set"]:
            field |= {"note": note, "forget": True}
    return groups


def _forget(
    request: HttpRequest, connection: Connection, kind: type[Connector[Any]], name: str
) -> HttpResponse:
    of_network = name == f"connection_network.{Network.SECRET}"
    if of_network or name in service.secret_fields(kind.Config):
        try:
            if of_network:
                service.update_connection(
                    connection=connection, network={**connection.network, Network.SECRET: ""}
                )
            else:
                service.update_connection(connection=connection, config={**connection.config, name: ""})
        except InvalidInput as error:
            messages.error(request, error.in_full)
        else:
            messages.success(request, _("The secret is forgotten."))
    return redirect(f"{connection_url(connection)}/settings")
