"""State of the ways in and out: connections, runs, what was read, operations, catalog files."""

from integrations.models.connections import AllowedHost, Connection, RuleRevision
from integrations.models.deliveries import Delivery
from integrations.models.locations import CatalogLocation, LocationDocs
from integrations.models.operations import OperationRun
from integrations.models.records import StoredRecord
from integrations.models.runs import RecordOutcome, ResourceRun, ResourceState, RunState, SeenPage, SyncRun

__all__ = [
    "AllowedHost",
    "CatalogLocation",
    "Connection",
    "Delivery",
    "LocationDocs",
    "OperationRun",
    "RecordOutcome",
    "ResourceRun",
    "ResourceState",
    "RuleRevision",
    "RunState",
    "SeenPage",
    "StoredRecord",
    "SyncRun",
]
