"""What a grant's scope means for connections: it reaches those that write into its namespace."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Q

from access.models import ScopeType
from access.permissions import Scopes, nowhere, register_scope
from integrations.models import CatalogLocation, Connection, OperationRun, ResourceRun, StoredRecord, SyncRun


def _within(field: str) -> Callable[[Scopes], Q]:
    def condition(scopes: Scopes) -> Q:
        return Q(**{f"{field}__in": [s.text.lower() for s in scopes if s.type == ScopeType.NAMESPACE]})

    return condition


def register() -> None:
    """Tell the permission pair about connections and what hangs on them."""
    register_scope(Connection, _within("namespace"), verb="connection.read")
    register_scope(SyncRun, _within("connection__namespace"), verb="connection.read")
    register_scope(ResourceRun, _within("run__connection__namespace"), verb="connection.read")
    register_scope(StoredRecord, _within("connection__namespace"), verb="raw.read")
    register_scope(OperationRun, _within("connection__namespace"), verb="connection.read")
    register_scope(CatalogLocation, nowhere, verb="connection.read")
