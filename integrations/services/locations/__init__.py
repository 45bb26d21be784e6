"""Catalog files that are imported by name: read, written, read again, removed."""

from integrations.services.locations.addresses import label_of, shown
from integrations.services.locations.imports import (
    LocationKnown,
    ask_again,
    due_locations,
    import_paths,
    move_location,
    preview,
    refresh_files,
    refresh_location,
    register_location,
    restore_location,
)
from integrations.services.locations.removal import (
    LocationRemoval,
    removal_of,
    removals_left,
    remove_location,
    request_removal,
)
from integrations.services.locations.summary import DocumentProblem, ImportSummary
from integrations.services.locations.trying import documents_at, faults_of_document
from integrations.services.locations.turns import LocationBusy
from integrations.services.locations.watching import Changed, Watch

__all__ = [
    "Changed",
    "DocumentProblem",
    "ImportSummary",
    "LocationBusy",
    "LocationKnown",
    "LocationRemoval",
    "Watch",
    "ask_again",
    "documents_at",
    "due_locations",
    "faults_of_document",
    "import_paths",
    "label_of",
    "move_location",
    "preview",
    "refresh_files",
    "refresh_location",
    "register_location",
    "removal_of",
    "removals_left",
    "remove_location",
    "request_removal",
    "restore_location",
    "shown",
]
