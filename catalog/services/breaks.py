"""Which pipelines fail, and since when.

An entity fails while the last finished run of any of its pipelines on the default branch failed. Runs of changes
never count, and a run that was cancelled or skipped says nothing: it neither mends nor breaks.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from catalog.statuses import RunStatus

# What says how the code is.
VERDICTS = (RunStatus.PASSED, RunStatus.UNSTABLE, RunStatus.FAILED)


@dataclass(frozen=True)
class Break:
    """That a pipeline fails, as the catalog keeps it.

    :ivar first: key of the first run that failed since the last good one.
    :ivar since: when that ended.
    :ivar commit: that the first was made of, or empty.
    :ivar last: key of the newest run that failed.
    """

    first: int
    since: datetime
    commit: str
    last: int
    last_at: datetime


def breaks_of(subjects: Collection[uuid.UUID], silent: Sequence[str] = ()) -> dict[uuid.UUID, Break]:
    """Which of some pipelines fail; one statement.

    :param silent: connections whose runs do not count.
    """
    if not subjects:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT s.uid, first.id, first.at, first.commit, last.id, last.at
            FROM unnest(%(subjects)s::uuid[]) AS s(uid)
            CROSS JOIN LATERAL (
                SELECT a.id, a.at, a.status FROM catalog_activity a
                WHERE a.subject_uid = s.uid AND a.type = 'run' AND a.connection <> ALL(%(silent)s) AND NOT a.is_change
                  AND a.is_default_branch IS NOT FALSE AND a.status = ANY(%(verdicts)s)
                ORDER BY a.at DESC, a.id DESC LIMIT 1
            ) last
            LEFT JOIN LATERAL (
                SELECT a.id, a.at FROM catalog_activity a
                WHERE a.subject_uid = s.uid AND a.type = 'run' AND a.connection <> ALL(%(silent)s) AND NOT a.is_change
                  AND a.is_default_branch IS NOT FALSE AND a.status = ANY(%(good)s)
                ORDER BY a.at DESC, a.id DESC LIMIT 1
            ) good ON TRUE
            CROSS JOIN LATERAL (
                SELECT a.id, a.at, a.commit FROM catalog_activity a
                WHERE a.subject_uid = s.uid AND a.type = 'run' AND a.connection <> ALL(%(silent)s) AND NOT a.is_change
                  AND a.is_default_branch IS NOT FALSE AND a.status = 'failed'
                  AND (good.at IS NULL OR (a.at, a.id) > (good.at, good.id))
                ORDER BY a.at, a.id LIMIT 1
            ) first
            WHERE last.status = 'failed'
            """,
            {
                "subjects": list(subjects),
                "silent": list(silent),
                "verdicts": [status.value for status in VERDICTS],
                "good": [status.value for status in VERDICTS if status != RunStatus.FAILED],
            },
        )
        return {uid: Break(*row) for uid, *row in cursor.fetchall()}
