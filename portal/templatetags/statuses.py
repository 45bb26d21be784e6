"""The words for how something is: the only ones that pages use, with their tone and icon.

A tool's own word goes into the tooltip, never onto the page.
"""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Status(NamedTuple):
    """How one state looks. `tone` is a colour's name: ok, warn, fail, run or mute."""

    word: str | Promise
    tone: str
    icon: str


def _ok(word: str | Promise) -> Status:
    return Status(word, "ok", "circle-check-filled")


def _warn(word: str | Promise) -> Status:
    return Status(word, "warn", "alert-triangle-filled")


def _fail(word: str | Promise) -> Status:
    return Status(word, "fail", "circle-x-filled")


def _run(word: str | Promise) -> Status:
    return Status(word, "run", "loader-2")


def _wait(word: str | Promise) -> Status:
    return Status(word, "mute", "clock")


def _off(word: str | Promise) -> Status:
    return Status(word, "mute", "circle-minus")


def _none(word: str | Promise) -> Status:
    return Status(word, "mute", "circle-dashed")


UNKNOWN = _none(_("Unknown"))

STATUSES: dict[str, dict[str, Status]] = {
    "run": {
        "passed": _ok(_("Passed")),
        "unstable": _warn(_("Unstable")),
        "failed": _fail(_("Failed")),
        "running": _run(_("Running")),
        "queued": _wait(_("Queued")),
        "skipped": _off(_("Skipped")),
        "cancelled": _off(_("Cancelled")),
        "": _none(_("No runs")),
    },
    "deployment": {
        "deployed": _ok(_("Deployed")),
        "behind": _warn(_("Behind")),
        "drifted": _warn(_("Drifted")),
        "failed": _fail(_("Failed")),
        "deploying": _run(_("Deploying")),
        "queued": _wait(_("Queued")),
        "awaiting-approval": _wait(_("Awaiting approval")),
        "cancelled": _off(_("Cancelled")),
        "": _none(_("Not deployed")),
    },
    "health": {
        "healthy": _ok(_("Healthy")),
        "degraded": _warn(_("Degraded")),
        "down": _fail(_("Down")),
        "maintenance": _off(_("Maintenance")),
        "": UNKNOWN,
    },
    "check": {
        "passes": _ok(_("Passes")),
        "warns": _warn(_("Warns")),
        "fails": _fail(_("Fails")),
        "checking": _run(_("Checking")),
        "exempt": _off(_("Exempt")),
        "": _none(_("Not checked")),
    },
    "alert": {
        "resolved": _ok(_("Resolved")),
        "warning": _warn(_("Warning")),
        "pending": _wait(_("Pending")),
        "firing": _fail(_("Firing")),
        "acknowledged": _wait(_("Acknowledged")),
        "silenced": _off(_("Silenced")),
        "": _none(_("No alerts")),
    },
    "sync": {
        "synced": _ok(_("Synced")),
        "partial": _warn(_("Partial")),
        "failed": _fail(_("Failed")),
        "syncing": _run(_("Syncing")),
        "queued": _wait(_("Queued")),
        "paused": _wait(_("Paused")),
        "cancelled": _off(_("Cancelled")),
        "": _none(_("Never synced")),
    },
}
STATUSES["incident"] = STATUSES["alert"]

# Other names under which our own rows keep a state.
ALIASES = {
    ("sync", "running"): "syncing",
    ("sync", "succeeded"): "synced",
    ("sync", "never"): "",
    ("health", "unknown"): "",
}

TONE_ICONS = {
    "ok": "circle-check-filled",
    "warn": "alert-triangle-filled",
    "fail": "circle-x-filled",
    "run": "loader-2",
    "mute": "circle-dashed",
    "info": "info-circle",
}


def status_of(what: str, state: object) -> Status:
    """The status of a `what` (run, deployment, health, check, alert, incident, sync) in a state.

    An empty state says that there is none yet ("No runs"); a state that nobody knows is "Unknown".
    """
    key = str(getattr(state, "value", state) or "").lower().replace("_", "-")
    words = STATUSES.get(what, {})
    return words.get(ALIASES.get((what, key), key), UNKNOWN)
