"""Which operations can be done to what an entity shows, and on which record."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from access.permissions import can, require, visible
from base.errors import NotFound
from catalog.audience import hidden_names
from catalog.models import Activity, Claim, Entity
from catalog.queries import reach
from integrations.contract import OperationSpec, Risk
from integrations.models import Connection, StoredRecord
from integrations.registry import connectors
from integrations.services.operations import spec_of

# An entity's page has room for few of them.
OFFERED, CLAIMS = 10, 20


@dataclass(frozen=True, slots=True)
class Offered:
    """An operation with the record that it would be done to."""

    connection: Connection
    spec: OperationSpec
    resource: str
    external_id: str
    name: str

    @property
    def label(self) -> str:
        """The operation and its target in words."""
        return f"{self.spec.label}: {self.name}"

    def url(self, entity_url: str) -> str:
        """The page that asks for its parameters."""
        params = {
            "connection": self.connection.slug,
            "operation": self.spec.name,
            "target": f"{self.resource}/{self.external_id}",
        }
        return f"{entity_url}/run?{urlencode(params)}"


def subject_of(connection: Connection, record: StoredRecord) -> Entity | None:
    """The living entity that a record became, or that its activity is about."""
    claim = (
        Claim.objects.filter(
            source__key=f"connection:{connection.slug}/{record.resource}", external_id=record.external_id
        )
        .select_related("entity")
        .first()
    )
    if claim is not None:
        return claim.entity
    activity = Activity.objects.filter(
        connection=connection.slug, type=record.type, external_id=record.external_id
    ).first()
    if activity is None or activity.subject_uid is None:
        return None
    return Entity.objects.filter(uid=activity.subject_uid, deleted_at=None).first()


def target_of(
    viewer: Any, entity: Entity, connection: Connection, *, operation: str, target: str
) -> tuple[OperationSpec, StoredRecord, Entity]:
    """What an operation that is asked for from an entity's page would be done to, and to what that belongs.

    :param target: the record's list and its id, with a slash between them.
    :raises NotFound: if there is no such operation, or the entity does not show such a record.
    :raises Forbidden: if the viewer may not do it there.
    """
    require(viewer, "operation.run", entity)
    spec = spec_of(connection, operation)
    resource, _slash, external_id = target.partition("/")
    record = StoredRecord.objects.filter(
        connection=connection, resource=resource, external_id=external_id, deleted_at=None
    ).first()
    subject = subject_of(connection, record) if record is not None else None
    if record is None or subject is None or subject.uid not in {uid for uid, _shared in reach(entity)}:
        raise NotFound(_("What this should be done to is no longer known here."))
    # Whose page it is on gives no right to touch it.
    require(viewer, "operation.run", subject)
    if spec.risk == Risk.HIGH:
        require(viewer, "operation.run-risky", subject)
    return spec, record, subject


def operations_on(
    viewer: Any,
    entity: Entity,
    reach: Iterable[tuple[uuid.UUID, bool]],
    connections: Iterable[Connection],
) -> list[Offered]:
    """What the viewer may do to an entity's own tools, at most ten. Operations must be switched on.

    :param connections: all that there are.
    """
    allowing = _allowing(viewer, entity, connections)
    if not allowing:
        return []
    may_risk = can(viewer, "operation.run-risky", entity)
    mine = _touchable(viewer, [uid for uid, _shared in reach])
    offered = []
    for connection, specs in allowing:
        prefix = f"connection:{connection.slug}/"
        claims = Claim.objects.filter(source__key__startswith=prefix, entity__in=mine)
        named = {
            (key.removeprefix(prefix), external_id): title
            for key, external_id, title in claims.order_by("pk").values_list(
                "source__key", "external_id", "entity__title"
            )[:CLAIMS]
        }
        records = StoredRecord.objects.filter(
            connection=connection, external_id__in=[external_id for _, external_id in named], deleted_at=None
        )
        for resource, external_id, type_, status in records.order_by("pk").values_list(
            "resource", "external_id", "type", "data__status"
        ):
            offered += [
                Offered(connection, spec, resource, external_id, named[resource, external_id])
                for spec in specs
                if (resource, external_id) in named
                and spec.fits(type_, status or "")
                and (may_risk or spec.risk != Risk.HIGH)
            ]
    return offered[:OFFERED]


def operations_on_activity(
    viewer: Any, entity: Entity, activities: Iterable[Activity], connections: Iterable[Connection]
) -> dict[int, list[Offered]]:
    """What the viewer may do to what happened, such as building again, by the activity's key.

    :param connections: all that there are.
    """
    rows = [activity for activity in activities if activity.subject_uid is not None]
    allowing = {
        connection.slug: (connection, specs) for connection, specs in _allowing(viewer, entity, connections)
    }
    rows = [
        row
        for row in rows
        if row.connection in allowing
        and any(spec.fits(row.type, row.status) for spec in allowing[row.connection][1])
    ]
    if not rows:
        return {}
    may_risk = can(viewer, "operation.run-risky", entity)
    mine = set(_touchable(viewer, {row.subject_uid for row in rows}).values_list("uid", flat=True))
    lists = {
        (slug, type_, external_id): resource
        for slug, type_, external_id, resource in StoredRecord.objects.filter(
            connection__slug__in={row.connection for row in rows},
            type__in={row.type for row in rows},
            external_id__in=[row.external_id for row in rows],
            deleted_at=None,
        ).values_list("connection__slug", "type", "external_id", "resource")
    }
    offered: dict[int, list[Offered]] = {}
    for row in rows:
        resource = lists.get((row.connection, row.type, row.external_id))
        if resource is None or row.subject_uid not in mine:
            continue
        connection, specs = allowing[row.connection]
        offered[row.pk] = [
            Offered(connection, spec, resource, row.external_id, row.title)
            for spec in specs
            if spec.fits(row.type, row.status) and (may_risk or spec.risk != Risk.HIGH)
        ]
    return offered


def _allowing(
    viewer: Any, entity: Entity, connections: Iterable[Connection]
) -> list[tuple[Connection, list[OperationSpec]]]:
    """Connections whose operations are switched on, if the viewer may run any from this entity's page."""
    kinds, hidden = connectors(), hidden_names(viewer)
    found = [
        (connection, specs)
        for connection in sorted(connections, key=lambda connection: connection.pk)
        if connection.allows_operations
        and connection.is_at_work
        and connection.slug not in hidden
        and connection.connector in kinds
        and (specs := kinds[connection.connector].operations())
    ]
    return found if found and can(viewer, "operation.run", entity) else []


def _touchable(viewer: Any, uids: Iterable[uuid.UUID | None]) -> QuerySet[Entity]:
    return visible(viewer, Entity.objects.filter(uid__in=list(uids), deleted_at=None), "operation.run")
