"""What a grant's scope means for connections, for their runs, and for what they brought.

A connection and its runs are for those who see its namespace. What it brought may lie in others too: a record is
for those who also see the entity that it became or tells of, or the namespace that its document names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from django.db.models import Exists, OuterRef, Q, TextField, Value
from django.db.models.functions import Concat

from access.models import ScopeType, User
from access.permissions import Scopes, nowhere, register_scope
from access.verbs import EVERYTHING
from catalog.audience import hidden_names
from catalog.models import Activity, Claim, Entity
from catalog.permissions import entities_within
from integrations.models import (
    AllowedHost,
    CatalogLocation,
    Connection,
    Delivery,
    OperationRun,
    ResourceRun,
    StoredRecord,
    SyncRun,
)

# The end of a document's id: the ref of what it declares.
_DECLARED = re.compile(r"#[^#:/]+:([^#:/]+)/[^#/]+\Z")


def _namespaces(scopes: Scopes) -> list[str]:
    return [scope.text.lower() for scope in scopes if scope.type == ScopeType.NAMESPACE]


def _within(field: str) -> Callable[[Scopes], Q]:
    return lambda scopes: Q(**{f"{field}__in": _namespaces(scopes)})


def _records_within(scopes: Scopes) -> Q:
    namespaces = _namespaces(scopes)
    entities = Entity.objects.filter(entities_within(scopes))
    slug, id_ = OuterRef("connection__slug"), OuterRef("external_id")
    source = Concat(Value("connection:"), slug, Value("/"), OuterRef("resource"), output_field=TextField())
    became = Claim.objects.filter(source__key=source, external_id=id_).exclude(
        entity__in=entities.values("pk")
    )
    tells_of = (
        Activity.objects.filter(connection=slug, type=OuterRef("type"), external_id=id_)
        .exclude(subject_uid=None)
        .exclude(Q(namespace__in=namespaces) | Q(subject_uid__in=entities.values("uid")))
    )
    here = "|".join(re.escape(name) for name in namespaces)
    declares = ~Q(type="document") | Q(external_id__iregex=rf"#[^#:/]+:({here})/[^#/]+$")
    return Q(connection__namespace__in=namespaces) & declares & ~Exists(became) & ~Exists(tells_of)


def _operations_within(scopes: Scopes) -> Q:
    entities = Entity.objects.filter(entities_within(scopes))
    subject = Q(subject_uid=None) | Q(subject_uid__in=entities.values("uid"))
    return Q(connection__namespace__in=_namespaces(scopes)) & subject


def _audience(field: str) -> Callable[[User], Q | None]:
    """The condition on rows of connections, by the field of the slug: none that is for others only."""

    def condition(user: User) -> Q | None:
        names = hidden_names(user)
        return ~Q(**{f"{field}__in": sorted(names)}) if names else None

    return condition


def declared_namespace(external_id: str) -> str:
    """The namespace of what a document declares, told from the record's id; empty for other records."""
    found = _DECLARED.search(external_id)
    return found[1].lower() if found else ""


def namespaces_of(connection: Connection, resource: str, external_ids: Iterable[str]) -> dict[str, str]:
    """Where records belong: where their entity lies, else where their document says, else where the connection is."""
    ids = list(external_ids)
    claims = Claim.objects.filter(source__key=f"connection:{connection.slug}/{resource}", external_id__in=ids)
    known = dict(claims.values_list("external_id", "entity__namespace"))
    return {id_: known.get(id_) or declared_namespace(id_) or connection.namespace for id_ in ids}


def register() -> None:
    """Tell the permission pair about connections and what hangs on them."""
    of_connection = _audience("connection__slug")
    register_scope(Connection, _within("namespace"), verb="connection.read", audience=_audience("slug"))
    register_scope(SyncRun, _within("connection__namespace"), verb="connection.read", audience=of_connection)
    register_scope(
        ResourceRun,
        _within("run__connection__namespace"),
        verb="connection.read",
        audience=_audience("run__connection__slug"),
    )
    register_scope(StoredRecord, _records_within, verb="raw.read", audience=of_connection)
    register_scope(OperationRun, _operations_within, verb="connection.read", audience=of_connection)
    # What a delivery tells of is not known before it is taken in.
    register_scope(Delivery, nowhere, verb="raw.read", audience=of_connection)
    register_scope(CatalogLocation, nowhere, verb="connection.read")
    register_scope(AllowedHost, nowhere, verb=EVERYTHING)
