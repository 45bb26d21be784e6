"""Operations: what people have done to connected tools, at most once each."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from pydantic import ValidationError

from access.services.audit import record_audit
from base.errors import Conflict, Forbidden, InvalidInput, NotFound
from catalog.services.render import render_dirty
from integrations.contract import Connector, OperationResult, OperationSpec, SourceError
from integrations.errors import faults_of
from integrations.models import Connection, OperationRun, StoredRecord
from integrations.records import RECORD_TYPES, Record
from integrations.registry import connector
from integrations.services.connections import (
    build_connector,
    close_connector,
    lock_connection,
    require_at_work,
)
from integrations.writing import RecordWriter, Written

logger = logging.getLogger(__name__)

TIMEOUT = 120
# A worker that began an operation and was killed: whether the tool got it is not known, so it is not repeated.
ABANDONED = timedelta(minutes=5)


def spec_of(connection: Connection, name: str) -> OperationSpec:
    """One operation of a connection's connector.

    :raises NotFound: if it has none of this name.
    """
    for spec in connector(connection.connector).operations():
        if spec.name == name:
            return spec
    raise NotFound(
        _("%(connection)s has no operation %(name)s.") % {"connection": connection.label, "name": name}
    )


@transaction.atomic
def request_operation(
    *,
    connection: Connection,
    operation: str,
    target: StoredRecord,
    params: Mapping[str, Any],
    by: str,
    subject_uid: uuid.UUID | None = None,
    idempotency_key: str = "",
) -> OperationRun:
    """Queue an operation; the same idempotency key gives the run that is there already.

    :raises Forbidden: while operations are switched off for the connection.
    :raises InvalidInput: if the parameters are wrong.
    :raises NotFound: if the operation cannot be done to this target.
    :raises Conflict: if the key was used for another request, or the connection is muted or on its way out.
    """
    if not connection.allows_operations:
        raise Forbidden(
            _(
                "Operations are switched off for %(connection)s. An administrator can switch them on in its settings."
            )
            % {"connection": connection.label}
        )
    require_at_work(lock_connection(connection))
    spec = spec_of(connection, operation)
    if target.type not in {of.type for of in spec.on}:
        raise NotFound(
            _("%(label)s cannot be done to a %(type)s.") % {"label": spec.label, "type": target.type}
        )
    status = str(target.data.get("status") or "")
    if not spec.fits(target.type, status):
        raise Conflict(
            _("%(label)s can be done to what is %(statuses)s; this is %(status)s.")
            % {"label": spec.label, "statuses": ", ".join(spec.statuses), "status": status}
        )
    try:
        valid = spec.params.model_validate(dict(params))
    except ValidationError as error:
        raise InvalidInput(
            _("These parameters cannot be used."),
            errors=faults_of(error),
        ) from None
    key = idempotency_key or uuid.uuid4().hex
    asked = {
        "operation": operation,
        "target_type": target.type,
        "target_id": f"{target.resource}/{target.external_id}",
        "params": valid.model_dump(mode="json"),
    }
    try:
        with transaction.atomic():
            run = OperationRun.objects.create(
                connection=connection,
                subject_uid=subject_uid,
                **asked,
                idempotency_key=key,
                requested_by=by,
                requested_at=timezone.now(),
            )
    except IntegrityError:
        run = OperationRun.objects.get(idempotency_key=key)
        if run.connection_id != connection.pk or any(getattr(run, name) != asked[name] for name in asked):
            raise Conflict(_("This idempotency key was used for another request.")) from None
        return run
    record_audit(
        "operation.run",
        connection,
        changes={"operation": operation, "target": run.target_id, "params": run.params},
    )
    return run


def execute_operation(*, operation_id: int) -> None:
    """Do a queued operation; a message that comes twice does nothing the second time."""
    now = timezone.now()
    if not OperationRun.objects.filter(pk=operation_id, state=OperationRun.State.QUEUED).update(
        state=OperationRun.State.RUNNING, started_at=now
    ):
        return
    run = OperationRun.objects.select_related("connection").get(pk=operation_id)
    try:
        spec, target = spec_of(run.connection, run.operation), _target(run)
        result = asyncio.run(_do(build_connector(run.connection), spec, target, run.params))
    except SourceError as error:
        _close(run, OperationRun.State.FAILED, error.message)
        return
    except Exception:
        logger.exception("Operation %s failed.", operation_id)
        _close(run, OperationRun.State.FAILED, _("An internal error; the log of the worker tells more."))
        return
    if result.records:
        resource = run.target_id.partition("/")[0]
        with transaction.atomic():
            RecordWriter(
                connection=run.connection, resource=resource, by=run.requested_by, now=timezone.now()
            ).map(result.records, Written())
        render_dirty(at=timezone.now())
    _close(run, OperationRun.State.DONE, result.message, url=result.url)


async def _do(
    instance: Connector[Any], spec: OperationSpec, target: Record, params: Mapping[str, Any]
) -> OperationResult:
    try:
        method = getattr(instance, spec.method)
        async with asyncio.timeout(TIMEOUT):
            if not spec.params.model_fields:
                return await method(target)
            return await method(target, spec.params.model_validate(params))
    finally:
        await close_connector(instance)


def _target(run: OperationRun) -> Record:
    resource, _slash, external_id = run.target_id.partition("/")
    row = StoredRecord.objects.filter(
        connection=run.connection, resource=resource, external_id=external_id, deleted_at=None
    ).first()
    if row is None:
        raise SourceError(_("The target is no longer known."))
    return RECORD_TYPES[row.type].model_validate({**row.data, "raw": row.raw, "as_of": row.as_of})


def _close(run: OperationRun, state: str, message: str, *, url: str = "", at: datetime | None = None) -> None:
    with transaction.atomic():
        OperationRun.objects.filter(pk=run.pk).update(
            state=state, message=message, url=url, finished_at=at or timezone.now()
        )
        _record_end(run, state, message)


def _record_end(run: OperationRun, state: str, message: str) -> None:
    changes = {"operation": run.operation, "target": run.target_id, "state": state, "message": message}
    record_audit("operation.end", run.connection, changes=changes)


def close_open_operations(*, now: datetime, message: str) -> int:
    """Close as unknown whatever is queued or under way: the moment for which it was asked is over."""
    open_states = (OperationRun.State.QUEUED, OperationRun.State.RUNNING)
    runs = list(OperationRun.objects.filter(state__in=open_states).select_related("connection"))
    for run in runs:
        _close(run, OperationRun.State.UNKNOWN, message, at=now)
    return len(runs)


def due_operations(*, now: datetime) -> list[int]:
    """Operations whose message may be lost. One that was begun and abandoned is closed as unknown."""
    lost = _("The worker was lost while it ran. Look in the tool whether it happened before you repeat it.")
    with transaction.atomic():
        abandoned = OperationRun.objects.filter(
            state=OperationRun.State.RUNNING, started_at__lt=now - ABANDONED
        )
        for run in abandoned.select_for_update(skip_locked=True, of=("self",)).select_related("connection"):
            OperationRun.objects.filter(pk=run.pk).update(
                state=OperationRun.State.UNKNOWN, finished_at=now, message=lost
            )
            _record_end(run, OperationRun.State.UNKNOWN, lost)
    return list(
        OperationRun.objects.filter(
            state=OperationRun.State.QUEUED, requested_at__lt=now - timedelta(seconds=5)
        ).values_list("pk", flat=True)[:100]
    )
