"""Which operations can be done to what an entity shows, and on which record."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from access.permissions import can
from catalog.models import Activity, Claim, Entity
from integrations.contract import OperationSpec, Risk
from integrations.models import Connection, StoredRecord
from integrations.registry import connectors


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


def operations_on(viewer: Any, entity: Entity, reach: Iterable[tuple[uuid.UUID, bool]]) -> list[Offered]:
    """What the viewer may do to an entity's own tools, at most ten; operations must be switched on."""
    allowing = (
        [
            c
            for c in Connection.objects.filter(allows_operations=True)
            if connectors()[c.connector].operations()
        ]
        if can(viewer, "operation.run", entity)
        else []
    )
    if not allowing:
        return []
    uids = [uid for uid, _shared in reach]
    offered = []
    for connection in allowing:
        specs = [
            spec
            for spec in connectors()[connection.connector].operations()
            if spec.risk != Risk.HIGH or can(viewer, "operation.run-risky", entity)
        ]
        claims = Claim.objects.filter(
            source__key__startswith=f"connection:{connection.slug}/",
            entity__uid__in=uids,
            entity__deleted_at=None,
        ).select_related("source", "entity")[:20]
        for claim in claims:
            if not can(viewer, "operation.run", claim.entity):
                continue
            resource = claim.source.key.rpartition("/")[2]
            record = StoredRecord.objects.filter(
                connection=connection, resource=resource, external_id=claim.external_id, deleted_at=None
            ).first()
            if record is None:
                continue
            for spec in specs:
                if record.type in {of.type for of in spec.on}:
                    offered.append(
                        Offered(connection, spec, resource, record.external_id, claim.entity.title)
                    )
    return offered[:10]
