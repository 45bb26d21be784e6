"""What a connection brought, the rules about it, and the guard that keeps it: below `/api/v1/connections/` and
`/api/v1/sync-runs/`."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import View, person_of
from access.permissions import require
from base.answers import given, if_match, is_set, one_answer, plain
from base.errors import Conflict, InvalidInput, NotFound
from base.openapi import FIELDS, IF_MATCH, IF_NONE_MATCH, PAGE, part_of
from base.pagination import rows_answer
from integrations import queries
from integrations.api import serializers as shapes
from integrations.components import ComponentRule, check_rule, rule_of
from integrations.errors import faults_of
from integrations.ignoring import IgnoreRule, ignore_rule_of
from integrations.models import ResourceRun, ResourceState
from integrations.rules import decisions, what_is_left_out
from integrations.services import connections, runs


class RecordList(View):
    """What a connection brought."""

    verbs = {"GET": "raw.read"}

    @extend_schema(
        parameters=[
            OpenApiParameter("resource", str, description="Of this list of the connector only."),
            OpenApiParameter("q", str, description="Text of an id, a name or a title."),
            OpenApiParameter("removed", bool, description="What a sync removed instead."),
            OpenApiParameter("kept", bool, description="Only what was kept though it is listed no more."),
            *PAGE,
        ],
        responses={200: shapes.RecordListOut, 304: None},
        operation_id="connections_records_list",
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        connection = queries.get_connection(request.user, slug)
        require(request.user, "raw.read", connection)
        rows = queries.list_records(
            request.user,
            connection,
            resource=request.query_params.get("resource", ""),
            text=request.query_params.get("q", ""),
            is_deleted=is_set(request, "removed"),
            is_kept=is_set(request, "kept"),
        )
        return rows_answer(
            request, rows.defer("raw"), ("resource", "external_id"), partial(plain, shapes.RecordOut)
        )


class RecordDetail(View):
    """One record."""

    verbs = {"GET": "raw.read"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.RecordDetailOut), 304: None},
        operation_id="connections_records_retrieve",
        description="One record: in the shared vocabulary, and as the tool sent it.",
    )
    def get(self, request: Request, slug: str, record_id: int) -> HttpResponse:
        connection = queries.get_connection(request.user, slug)
        require(request.user, "raw.read", connection)
        row = queries.get_record(request.user, connection, record_id)
        return one_answer(request, plain(shapes.RecordDetailOut, row))


class RecordLeaveOut(View):
    """That nobody wants a record in the catalog."""

    verbs = {"POST": "mapping.write"}

    @extend_schema(
        request=None,
        responses=shapes.RulesOut,
        operation_id="connections_records_leave_out",
        description="Leave a record out of the catalog for good: its id becomes a pattern of the rule. Answers "
        "with the rules; undoing them brings it back.",
    )
    def post(self, request: Request, slug: str, record_id: int) -> HttpResponse:
        connection = queries.get_connection(request.user, slug)
        record = queries.get_record(request.user, connection, record_id)
        connections.ignore_record(record=record, by=person_of(request).label)
        return _rules(request, slug)


# --- rules --------------------------------------------------------------------------------------------------


def _rules(request: Request, slug: str) -> HttpResponse:
    connection = queries.get_connection(request.user, slug)
    rules = {
        "components": rule_of(connection).model_dump(mode="json"),
        "ignored": ignore_rule_of(connection).model_dump(mode="json"),
    }
    return one_answer(request, rules, state=connections.etag_of(connection))


def _rule(request: Request) -> ComponentRule | IgnoreRule:
    """The one rule that the body holds.

    :raises InvalidInput: if it holds none or both, or the rule is wrong.
    """
    data = given(request, shapes.RulesIn)
    if len(data) != 1:
        raise InvalidInput(_("Give one rule: `components` or `ignored`."))
    ((name, values),) = data.items()
    model: type[ComponentRule] | type[IgnoreRule] = ComponentRule if name == "components" else IgnoreRule
    try:
        rule = model.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(_("This rule cannot be used."), errors=faults_of(error, name)) from None
    if isinstance(rule, ComponentRule):
        check_rule(rule)
    return rule


class Rules(View):
    """A connection's rules."""

    verbs = {"GET": "connection.read", "PATCH": "mapping.write"}

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.RulesOut), 304: None},
        operation_id="connections_rules_retrieve",
        description="Which repositories become components, and what is left out; the ETag is for If-Match.",
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        return _rules(request, slug)

    @extend_schema(
        request=shapes.RulesIn,
        responses=shapes.RulesOut,
        parameters=[IF_MATCH],
        operation_id="connections_rules_change",
        description="Change one of the rules, as a whole, and decide anew by it; nothing is fetched.",
    )
    def patch(self, request: Request, slug: str) -> HttpResponse:
        connection, rule = queries.get_connection(request.user, slug), _rule(request)
        connections.change_rule(
            connection=connection, rule=rule, by=person_of(request).label, expected=if_match(request)
        )
        return _rules(request, slug)


class RulesPreview(View):
    """What a rule would decide."""

    verbs = {"POST": "mapping.write"}

    @extend_schema(
        request=shapes.RulesIn,
        responses=shapes.RulesPreviewOut,
        operation_id="connections_rules_preview",
        description="What a rule would make of what the connection brought, beside what the one in force makes of it. "
        "Nothing is changed.",
    )
    def post(self, request: Request, slug: str) -> Response:
        connection, rule = queries.get_connection(request.user, slug), _rule(request)
        found: dict[str, list[dict[str, Any]]] = {"components": [], "ignored": []}
        if isinstance(rule, ComponentRule):
            found["components"] = [
                plain(shapes.DecisionOut, one.decision, was_component=one.was_component)
                for one in decisions(request.user, connection, rule, now=timezone.now())
            ]
        else:
            found["ignored"] = [
                plain(
                    shapes.LeftOutOut,
                    item.record,
                    record=item.record.pk,
                    is_left_out=bool(item.reason),
                    was_left_out=item.record.is_ignored,
                    reason=item.reason,
                )
                for item in what_is_left_out(request.user, connection, rule)
            ]
        return Response(found)


class RulesUndo(View):
    """Back to the rules before."""

    verbs = {"POST": "mapping.write"}

    @extend_schema(
        request=None,
        responses=shapes.RulesOut,
        operation_id="connections_rules_undo",
        description="Go back to the rules before the last change of them.",
    )
    def post(self, request: Request, slug: str) -> HttpResponse:
        connection = queries.get_connection(request.user, slug)
        if not connections.undo_rule(connection=connection, by=person_of(request).label):
            raise Conflict(_("There is no earlier rule to go back to."))
        return _rules(request, slug)


# --- the guard ----------------------------------------------------------------------------------------------


def _resource(request: Request, run_id: int, name: str) -> ResourceRun:
    run = queries.get_run(request.user, run_id)
    found = next((row for row in run.resources.all() if row.name == name), None)
    if found is None:
        raise NotFound(_("This run has no such resource."))
    return queries.get_resource(request.user, run.connection, found.pk)


class Guard(View):
    """What the guard keeps from being removed, and the decision about it."""

    verbs = {"GET": "connection.read", "POST": "connection.write"}

    @extend_schema(
        parameters=PAGE,
        responses={200: shapes.HeldListOut, 304: None},
        operation_id="sync_runs_guard_list",
        description="The records that would go, because a run did not list them any more.",
    )
    def get(self, request: Request, run_id: int, resource: str) -> HttpResponse:
        found = _resource(request, run_id, resource)
        if found.state != ResourceState.HELD:
            raise NotFound(_("The guard holds nothing of this."))
        rows = queries.held_records(request.user, found)
        return rows_answer(request, rows, ("external_id", "id"), partial(plain, shapes.HeldOut))

    @extend_schema(
        request=shapes.GuardIn,
        responses=shapes.RemovedOut,
        operation_id="sync_runs_guard_decide",
        description="Keep what the guard held back until the tool lists it again, or have it removed.",
    )
    def post(self, request: Request, run_id: int, resource: str) -> Response:
        remove = given(request, shapes.GuardIn)["decision"] == "remove"
        found = _resource(request, run_id, resource)
        count = runs.decide_guard(resource=found, remove=remove, by=person_of(request).label)
        return Response({"removed": count})


class Restore(View):
    """The way back for what a run removed."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=None,
        responses=shapes.RestoredOut,
        operation_id="sync_runs_restore",
        description="Bring back what a run removed of one of its lists. It stays as what was kept does.",
    )
    def post(self, request: Request, run_id: int, resource: str) -> Response:
        found = _resource(request, run_id, resource)
        return Response({"restored": runs.restore_removed(resource=found, by=person_of(request).label)})


class DecideAnew(View):
    """The way back for what was kept."""

    verbs = {"POST": "connection.write"}

    @extend_schema(
        request=None,
        responses=shapes.KeptOut,
        operation_id="connections_decide_anew",
        description="Let what was kept though the tool lists it no more be decided anew by the next sync.",
    )
    def post(self, request: Request, slug: str) -> Response:
        connection = queries.get_connection(request.user, slug)
        require(request.user, "connection.write", connection)
        return Response({"kept_no_more": runs.decide_anew(connection=connection)})
