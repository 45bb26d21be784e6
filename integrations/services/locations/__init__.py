"""Catalog files that are imported by name: read, written, read again, removed."""

from integrations.services.locations.addresses import label_of, shown
from integrations.services.locations.imports import (
    ask_again,
    due_locations,
    import_paths,
    preview,
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
from integrations.services.locations.turns import LocationBusy

__all__ = [
    "DocumentProblem",
    "ImportSummary",
    "LocationBusy",
    "LocationRemoval",
    "ask_again",
    "due_locations",
    "import_paths",
    "label_of",
    "preview",
    "refresh_location",
    "register_location",
    "removal_of",
    "removals_left",
    "remove_location",
    "request_removal",
    "restore_location",
    "shown",
]
