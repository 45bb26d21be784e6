"""A connection's rules: which repositories become components, and what is left out of the catalog."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from access.permissions import can, require
from base.errors import DomainError, NotFound
from integrations import queries
from integrations.components import ComponentRule, check_rule, rule_of
from integrations.ignoring import IgnoreRule, ignore_rule_of
from integrations.models import Connection
from integrations.rules import decisions, what_is_left_out
from integrations.services import connections as service
from portal.forms import Form
from portal.people import person
from portal.views.connections import (
    brings_repositories,
    connection_url,
    record_name,
    resource_labels,
    shell_of,
)

SHOWN = 500


@login_required
@require_http_methods(["GET", "POST"])
def components(request: HttpRequest, slug: str) -> HttpResponse:
    """Which repositories become components: change, preview, save, undo."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.read", connection)
    if not brings_repositories(connection):
        raise NotFound(_("%(name)s brings no repositories, so it has no rule.") % {"name": connection.label})
    before = rule_of(connection)
    form = Form(ComponentRule, initial=before.model_dump(mode="json"))
    rule, action = before, request.POST.get("action", "")
    if request.method == "POST":
        require(request.user, "mapping.write", connection)
        if action == "undo":
            return _undo(request, connection, "rules")
        form = Form(ComponentRule, data=request.POST)
        if _is_good_rule(form):
            rule = ComponentRule.model_validate(form.values)
            if action == "save":
                service.change_rule(connection=connection, rule=rule, by=person(request).label)
                messages.success(request, _("The rule is saved, and decided anew."))
                return redirect(f"{connection_url(connection)}/rules")
    rows: list[dict[str, Any]] = [
        {
            "decision": one.decision,
            "is_new": one.decision.is_component and not one.was_component,
            "is_gone": not one.decision.is_component and one.was_component,
        }
        for one in decisions(request.user, connection, rule, now=timezone.now())
    ]
    rows.sort(key=lambda row: (not (row["is_new"] or row["is_gone"]), not row["decision"].is_component))
    return render(
        request,
        "connections/rules.html",
        shell_of(request, connection, "rules", title=_("Rules"))
        | {
            "form": form,
            "rows": rows[:SHOWN],
            "total": len(rows),
            "made": sum(row["decision"].is_component for row in rows),
            "new": sum(row["is_new"] for row in rows),
            "gone": sum(row["is_gone"] for row in rows),
            "is_preview": rule != before,
            "last": connection.rule_revisions.first(),
            "may_write": can(request.user, "mapping.write", connection),
        },
        status=422 if form.errors else 200,
    )


def _is_good_rule(form: Form) -> bool:
    if not form.is_valid():
        return False
    try:
        check_rule(ComponentRule.model_validate(form.values))
    except DomainError as error:
        form.add_errors(error)
        return False
    return True


@login_required
@require_http_methods(["GET", "POST"])
def ignored(request: HttpRequest, slug: str) -> HttpResponse:
    """What is left out of the catalog: change, preview, save, undo."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "connection.read", connection)
    before = ignore_rule_of(connection)
    form = Form(IgnoreRule, initial=before.model_dump(mode="json"))
    rule, action = before, request.POST.get("action", "")
    if request.method == "POST":
        require(request.user, "mapping.write", connection)
        if action == "undo":
            return _undo(request, connection, "left-out")
        form = Form(IgnoreRule, data=request.POST)
        if form.is_valid():
            rule = IgnoreRule.model_validate(form.values)
            if action == "save":
                service.change_rule(connection=connection, rule=rule, by=person(request).label)
                messages.success(request, _("The rule is saved. What it names is gone from the catalog."))
                return redirect(f"{connection_url(connection)}/left-out")
    found = what_is_left_out(request.user, connection, rule)
    labels = resource_labels(connection)
    may_see = can(request.user, "raw.read", connection)
    rows: list[dict[str, Any]] = [
        {
            "name": record_name(item.record.data, item.record.external_id),
            "list": labels.get(item.record.resource, item.record.resource),
            "url": f"{connection_url(connection)}/records/{item.record.pk}" if may_see else "",
            "reason": item.reason,
            "is_new": bool(item.reason) and not item.record.is_ignored,
            "is_back": not item.reason,
        }
        for item in found
    ]
    rows.sort(key=lambda row: not (row["is_new"] or row["is_back"]))
    return render(
        request,
        "connections/left_out.html",
        shell_of(request, connection, "left-out", title=_("Left out"))
        | {
            "form": form,
            "rows": rows[:SHOWN],
            "total": len(rows),
            "out": sum(not row["is_back"] for row in rows),
            "new": sum(row["is_new"] for row in rows),
            "back": sum(row["is_back"] for row in rows),
            "is_preview": rule != before,
            "has_patterns": bool(rule.patterns),
            "lists": sorted(labels),
            "last": connection.rule_revisions.first(),
            "may_write": can(request.user, "mapping.write", connection),
        },
        status=422 if form.errors else 200,
    )


@login_required
@require_POST
def leave_out(request: HttpRequest, slug: str, record_id: int) -> HttpResponse:
    """Leave one record out for good."""
    connection = queries.get_connection(request.user, slug)
    require(request.user, "mapping.write", connection)
    record = queries.get_record(request.user, connection, record_id)
    service.ignore_record(record=record, by=person(request).label)
    messages.success(
        request,
        _(
            "%(name)s is left out of the catalog, also when it is listed again. Undo on this page brings it back."
        )
        % {"name": record_name(record.data, record.external_id)},
    )
    return redirect(f"{connection_url(connection)}/left-out")


def _undo(request: HttpRequest, connection: Connection, tab: str) -> HttpResponse:
    if service.undo_rule(connection=connection, by=person(request).label):
        messages.success(request, _("The rules are as they were before the last change."))
    else:
        messages.warning(request, _("There is no earlier rule to go back to."))
    return redirect(f"{connection_url(connection)}/{tab}")
