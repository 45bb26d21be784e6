"""The words for how an activity stands: what connectors say, the catalog stores and queries ask for."""

from __future__ import annotations

from enum import StrEnum


class RunStatus(StrEnum):
    """How a run stands or ended."""

    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"
    UNSTABLE = "unstable"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class ChangeStatus(StrEnum):
    """How a pull or merge request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class DeploymentStatus(StrEnum):
    """How a deployment stands or ended."""

    QUEUED = "queued"
    AWAITING_APPROVAL = "awaiting-approval"
    DEPLOYING = "deploying"
    DEPLOYED = "deployed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AlertStatus(StrEnum):
    """How an alert or incident stands."""

    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    RESOLVED = "resolved"


class IssueStatus(StrEnum):
    """How an issue stands."""

    OPEN = "open"
    CLOSED = "closed"


class CheckStatus(StrEnum):
    """What a check says."""

    PASSES = "passes"
    WARNS = "warns"
    FAILS = "fails"


# By type of activity; None where nothing stands one way or another.
STATUSES: dict[str, type[StrEnum] | None] = {
    "run": RunStatus,
    "commit": None,
    "change": ChangeStatus,
    "version": None,
    "deployment": DeploymentStatus,
    "alert": AlertStatus,
    "incident": AlertStatus,
    "issue": IssueStatus,
    "check": CheckStatus,
}
# All of them, each once.
ACTIVITY_STATUSES: tuple[str, ...] = tuple(
    dict.fromkeys(status.value for statuses in STATUSES.values() if statuses for status in statuses)
)
