"""What fails, for who looks: since when, from which commit on, and what changed before."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from access.permissions import visible
from catalog.models import Activity, Entity
from catalog.services.render import reach_of
from catalog.statuses import RunStatus

BEFORE = timedelta(hours=24)
FARTHEST = 3  # steps along what it depends on
MOST_ENTITIES = 200
MOST_ROWS = 500
# What can break something. Of runs only those that failed, and not the pipeline's own.
CAUSES = ("commit", "change", "version", "deployment", "alert", "incident", "run")
_UNHURT = {"change": ("open", "closed"), "run": ("queued", "running", "passed", "cancelled", "skipped")}


@dataclass(frozen=True)
class Failure:
    """One pipeline that fails.

    :ivar first: the first run that failed since the last good one.
    :ivar last: the newest run that failed; the same where there is only one.
    :ivar commit: the commit that the first was made of, where a tool told of it.
    :ivar step: the name of the first step that failed, or empty.
    :ivar log_url: of that step, else of the run.
    """

    first: Activity
    last: Activity
    commit: Activity | None
    step: str
    log_url: str

    @property
    def author(self) -> str:
        """Who made the commit, else who ran it."""
        return (self.commit.actor if self.commit else "") or self.first.actor


def failures_of(viewer: Any, entity: Entity) -> list[Failure]:
    """The failing pipelines of an entity that the viewer may see, the longest failing first."""
    kept = entity.signals.get("failing", ())
    if not kept:
        return []
    runs = Q(pk__in={key for one in kept for key in (one["first"], one["last"])})
    commits = Q(type="commit", commit__in={one["commit"] for one in kept if one["commit"]})
    rows = list(visible(viewer, Activity.objects.filter(runs | commits)).defer("raw"))
    by_key = {row.pk: row for row in rows}
    by_sha = {row.commit: row for row in rows if row.type == "commit"}
    failures = []
    for one in kept:
        first, last = by_key.get(one["first"]), by_key.get(one["last"])
        if first and last:
            step, log_url = _failed_step(first)
            failures.append(Failure(first, last, by_sha.get(first.commit), step, log_url))
    return sorted(failures, key=lambda one: (one.first.at, one.first.pk))


def before_it_failed(viewer: Any, entity: Entity, failures: list[Failure], *, limit: int = 20) -> list[Cause]:
    """What changed in the 24 hours before an entity began to fail; see `changed_before`."""
    if not failures:
        return []
    first = failures[0].first
    moment = first.started_at or first.at
    but = {one.first.subject_uid for one in failures if one.first.subject_uid}
    return changed_before(viewer, entity, moment, but=but, limit=limit)


def _failed_step(run: Activity) -> tuple[str, str]:
    log = str(run.data.get("log_url") or run.url)
    for step in run.data.get("steps") or ():
        if step.get("status") == RunStatus.FAILED:
            return str(step.get("name", "")), str(step.get("log_url") or log)
    return "", log


@dataclass(frozen=True)
class Near:
    """One thing whose activity may have broken another.

    :ivar distance: 0 for itself and what is tied to it, else how many steps along what it depends on.
    """

    entity: Entity
    distance: int


Cause = tuple[Near, Activity]


def changed_before(
    viewer: Any, entity: Entity, moment: datetime, *, but: Iterable[uuid.UUID] = (), limit: int = 20
) -> list[Cause]:
    """What happened to an entity and to what it depends on in the 24 hours before a moment, nearest first.

    :param but: pipelines whose own runs are left out: those that fail.
    """
    near = _neighbourhood(viewer, entity)
    reach = reach_of({one.entity.pk for one in near})
    owner: dict[uuid.UUID, Near] = {}
    for one in near:  # nearest first: what two share belongs to the nearer
        for uid, _is_shared in reach[one.entity.pk]:
            owner.setdefault(uid, one)
    rows = visible(
        viewer,
        Activity.objects.filter(
            subject_uid__in=list(owner), type__in=CAUSES, at__lte=moment, at__gt=moment - BEFORE
        ),
    )
    for type_, statuses in _UNHURT.items():
        rows = rows.exclude(type=type_, status__in=statuses)
    rows = rows.exclude(type="run", subject_uid__in=list(but)).defer("raw").order_by("-at", "-id")
    found = [(owner[row.subject_uid], row) for row in rows[:MOST_ROWS] if row.subject_uid]
    found.sort(key=lambda pair: pair[0].distance)  # stable: newest first within each
    return found[:limit]


def _neighbourhood(viewer: Any, entity: Entity) -> list[Near]:
    """The entity and what it depends on, nearest first, as far as the viewer sees.

    It depends on what it says so of, on the APIs that it consumes and on who provides an API.
    """
    seen, params = (
        visible(viewer, Entity.objects.filter(deleted_at=None)).values("pk").query.sql_with_params()
    )
    rows = Entity.objects.raw(
        f"""
        WITH RECURSIVE near(id, distance) AS (
            SELECT %s::bigint, 0
            UNION
            SELECT step.id, near.distance + 1
            FROM near CROSS JOIN LATERAL (
                SELECT r.target_id AS id FROM catalog_relation r
                WHERE r.source_id = near.id AND r.type IN ('dependsOn', 'consumesApi')
                UNION ALL
                SELECT r.source_id FROM catalog_relation r
                WHERE r.target_id = near.id AND r.type = 'providesApi' AND near.distance > 0
            ) step
            WHERE near.distance < %s AND step.id IN ({seen})
        )
        SELECT e.id, e.uid, e.ref, e.kind, e.namespace, e.name, e.title, e.type, n.distance
        FROM (SELECT id, min(distance) AS distance FROM near GROUP BY id) n
        JOIN catalog_entity e ON e.id = n.id ORDER BY n.distance, e.ref LIMIT %s
        """,  # noqa: S608 - the inner statement is Django's
        [entity.pk, FARTHEST, *params, MOST_ENTITIES],
    )
    return [Near(row, row.distance) for row in rows]  # type: ignore[attr-defined]  # the last column
