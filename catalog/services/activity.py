"""Activity comes in by the page; rows only move forward, and each step stays as a transition."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from django.db import connection, transaction

from catalog import identity
from catalog.audience import audiences, hidden_from, not_for_all
from catalog.bulk import among
from catalog.models import Activity, AsideActivity, Entity, EntityKey, Tie, Transition
from catalog.services.dirty import mark_dirty
from catalog.services.ingest import Outcome
from catalog.services.news import note_activities
from catalog.services.relations import targets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityIn:
    """One activity as a source tells it. `about` leads to the subject: the first key that an entity is.

    :ivar event: the CDEvents type of its present state.
    :ivar steps: transitions known besides the present one: (event, status, at).
    """

    type: str
    external_id: str
    event: str
    at: datetime
    as_of: datetime
    status: str = ""
    title: str = ""
    url: str = ""
    actor: str = ""
    number: str = ""
    branch: str = ""
    is_default_branch: bool | None = None
    is_change: bool = False
    commit: str = ""
    version: str = ""
    environment: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    about: tuple[str, ...] = ()
    steps: tuple[tuple[str, str, datetime], ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] | None = None

    def digest(self) -> bytes:
        """16 bytes over all but the raw payload and the time of reading."""
        payload = [getattr(self, name) for name in _DIGESTED]
        return hashlib.blake2b(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


_ACTIVITY_LOCK = 0x706F7276
FEW_KEYS = 100  # so many are quickly found by the index
_DIGESTED = (
    "type", "external_id", "event", "at", "status", "title", "url", "actor", "number", "branch", "is_default_branch",
    "is_change", "commit", "version", "environment", "started_at", "finished_at", "about", "data",
)  # fmt: skip
_COLUMNS = (
    "status", "title", "url", "actor", "number", "branch", "is_default_branch", "is_change", "commit", "version",
    "environment", "started_at", "finished_at", "at", "as_of", "data", "raw",
)  # fmt: skip
# Final states by type: what is over is not begun again by a message that came late.
_FINAL = {
    "run": {"passed", "failed", "unstable", "cancelled", "skipped"},
    "deployment": {"deployed", "failed", "cancelled"},
}


def apply_activity(*, connection_slug: str, connector: str, items: Sequence[ActivityIn]) -> list[Outcome]:
    """Take in one page of activities of one connection.

    An item that is older than what is stored (`as_of`), or would take a finished one back, changes nothing.

    :returns: what became of each, in order.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            # What is new has no row to lock: so two who tell of one connection take turns.
            cursor.execute(
                "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_ACTIVITY_LOCK, connection_slug]
            )
        known = {
            (row.type, row.external_id): row
            for row in Activity.objects.filter(
                connection=connection_slug,
                type__in={item.type for item in items},
                external_id__in=among((item.external_id for item in items), "text"),
            )
            .order_by("id")
            .select_for_update()
        }
        newest: dict[tuple[str, str], ActivityIn] = {}
        for item in items:
            name = (item.type, item.external_id)
            if name not in newest or newest[name].as_of <= item.as_of:
                newest[name] = item
        outcomes: dict[tuple[str, str], Outcome] = {}
        rows: dict[tuple[str, str], tuple[ActivityIn, bytes]] = {}
        for name, item in newest.items():
            digest = item.digest()
            old = known.get(name)
            if old is not None and (
                bytes(old.digest) == digest or item.as_of < old.as_of or _goes_back(old, item)
            ):
                outcomes[name] = Outcome.UNCHANGED
                continue
            outcomes[name] = Outcome.NEW if old is None else Outcome.CHANGED
            rows[name] = (item, digest)
        if rows:
            _write(connection_slug, connector, rows, known)
    return [outcomes[item.type, item.external_id] for item in items]


def _goes_back(old: Activity, item: ActivityIn) -> bool:
    """What is over begins again only by a later start."""
    final = _FINAL.get(item.type, set())
    if old.status not in final or item.status in final:
        return False
    return item.started_at is None or (old.started_at is not None and item.started_at <= old.started_at)


def _write(
    connection_slug: str,
    connector: str,
    rows: dict[tuple[str, str], tuple[ActivityIn, bytes]],
    known: dict[tuple[str, str], Activity],
) -> None:
    keys = {
        name: tuple(
            dict.fromkeys(identity.split_folder(k)[0] for key in item.about if (k := identity.normalise(key)))
        )
        for name, (item, _) in rows.items()
    }
    every = {key for found in keys.values() for key in found}
    subjects = subjects_of(every, silent=hidden_from(connection_slug))
    activities = []
    for name, (item, digest) in rows.items():
        place, subject = next(
            ((place, s) for place, key in enumerate(keys[name], 1) if (s := subjects.get(key)) is not None),
            (None, None),
        )
        old = known.get(name)
        activity = Activity(
            id=old.id if old else None,
            connection=connection_slug,
            connector=connector,
            type=item.type,
            external_id=item.external_id,
            keys=list(keys[name]),
            subject_uid=subject.uid if subject else None,
            subject_place=place,
            subject_ref=subject.ref if subject else "",
            namespace=subject.namespace if subject else "",
            digest=digest,
            **{column: getattr(item, column) for column in _COLUMNS},
        )
        activities.append(activity)
    Activity.objects.bulk_create(
        activities,
        update_conflicts=True,
        unique_fields=["connection", "type", "external_id"],
        update_fields=[
            "connector",
            "keys",
            "subject_uid",
            "subject_place",
            "subject_ref",
            "namespace",
            "digest",
            *_COLUMNS,
        ],
    )
    transitions = []
    for activity, (name, (item, _)) in zip(activities, rows.items(), strict=True):
        now = () if _ended_so(known.get(name), item) else ((item.event, item.status, item.at),)
        for event, status, at in (*item.steps, *now):
            transitions.append(Transition(activity=activity, event=event, status=status, at=at))
    Transition.objects.bulk_create(transitions, ignore_conflicts=True)
    note_activities((activity.pk, known.get(name)) for activity, name in zip(activities, rows, strict=True))
    before = {old.subject_uid for name in rows if (old := known.get(name)) is not None}
    mark_subjects_dirty({uid for uid in before | {a.subject_uid for a in activities} if uid is not None})
    mark_evidence_dirty((item.type, item.commit, keys[name]) for name, (item, _) in rows.items())


def mark_evidence_dirty(told: Iterable[tuple[str, str, Iterable[str]]]) -> None:
    """Queue what was built from a commit, or runs an image: that is tied by it, once it is known.

    :param told: type, commit and keys of activities.
    """
    evidence: set[str] = set()
    for type_, commit, keys in told:
        if type_ == "commit" and commit:
            evidence.add(f"commit:{commit}")
        elif type_ == "version":
            evidence |= {key for key in keys if key.startswith("image-digest:")}
    if evidence:
        mark_dirty(
            EntityKey.objects.filter(key__in=among(evidence, "text")).values_list("entity_id", flat=True)
        )


def _ended_so(old: Activity | None, item: ActivityIn) -> bool:
    """Whether this end was told before, perhaps with a time that is corrected now: what began once ends once."""
    return (
        old is not None
        and None not in (old.finished_at, item.finished_at)
        and (old.status, old.started_at) == (item.status, item.started_at)
    )


def subjects_of(keys: set[str], *, silent: Collection[str] = ()) -> dict[str, Entity]:
    """The living entity that each key belongs to, or that it names by a ref; of several, the oldest.

    :param silent: names of the sources that not all may know who see what comes of it: beside an entity, they tell
        nothing of it.
    """
    found: dict[str, Entity] = {}
    rows = (
        EntityKey.objects.filter(key__in=among(keys, "text"), is_identity=True, entity__deleted_at=None)
        .exclude(claim__is_shadowed=True, claim__source__name__in=silent)
        .select_related("entity")
        .only("key", "entity__uid", "entity__ref", "entity__namespace")
        .order_by("entity_id")
    )
    for row in rows:
        found.setdefault(row.key, row.entity)
    if ids := targets_of({key.removeprefix("ref:") for key in keys if key.startswith("ref:")}):
        rows_of_refs = Entity.objects.filter(id__in=among(ids.values())).only("uid", "ref", "namespace")
        named = {entity.id: entity for entity in rows_of_refs}
        found |= {f"ref:{ref}": named[id_] for ref, id_ in ids.items() if id_ in named}
    return found


def mark_subjects_dirty(uids: set[Any]) -> None:
    """Queue the subjects and what is tied to them: their signals show the activity."""
    ids = set(Entity.objects.filter(uid__in=among(uids, "uuid")).values_list("id", flat=True))
    mark_dirty(ids | neighbours(ids))


def neighbours(entity_ids: set[int]) -> set[int]:
    """What is tied to these entities, and what is tied to that: a pipeline's repository and its components."""
    reached = set(entity_ids)
    for _ in range(2):
        pairs = (
            Tie.objects.exclude(state="forbidden")
            .filter(source_id__in=among(reached))
            .values_list("target_id", flat=True)
        )
        back = (
            Tie.objects.exclude(state="forbidden")
            .filter(target_id__in=among(reached))
            .values_list("source_id", flat=True)
        )
        reached |= set(pairs) | set(back)
    return reached


def resolve_subjects(keys: set[str]) -> set[uuid.UUID]:
    """Give activities that waited for these keys their subject, or a better one: that of an earlier key.

    :returns: uids of the subjects that gained or lost some.
    """
    if not keys:
        return set()
    known = audiences()
    # Those that are not for everybody may know more, those that are for the same groups as much.
    changed = _resolve(keys, list(known), "a.connection <> ALL(%(names)s)", list(known))
    for groups in set(known.values()):
        names = [name for name, own in known.items() if own == groups]
        changed |= _resolve(keys, not_for_all(known, groups), "a.connection = ANY(%(names)s)", names)
    return changed


def _resolve(keys: set[str], silent: list[str], which: str, names: list[str]) -> set[uuid.UUID]:
    """The same for the activities of some connections, which know nothing of what `silent` sources say.

    :param which: in SQL, the condition on the activity `a` by those `names`; ours.
    """
    subjects = subjects_of(keys, silent=silent)
    if not subjects:
        return set()
    # Many keys are looked up in a table of them, row by row; an overlap would compare each row with all of them.
    by_index = "AND a.keys && %(keys)s::text[]" if len(subjects) <= FEW_KEYS else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH found AS (
                SELECT a.id, a.subject_uid AS before, k.key, k.place
                FROM catalog_activity a
                CROSS JOIN LATERAL (
                    SELECT key, place FROM unnest(a.keys) WITH ORDINALITY AS k(key, place)
                    WHERE key = ANY(%(keys)s::text[]) ORDER BY place LIMIT 1
                ) k
                WHERE (a.subject_place IS NULL OR a.subject_place > 1) AND {which} {by_index}
                  AND k.place < coalesce(a.subject_place, 32767)
                ORDER BY a.id FOR UPDATE OF a
            ),
            moved AS (
                UPDATE catalog_activity a
                SET subject_uid = s.uid, subject_place = found.place, subject_ref = s.ref, namespace = s.namespace
                FROM found
                JOIN unnest(%(keys)s::text[], %(uids)s::uuid[], %(refs)s::text[], %(namespaces)s::text[])
                    AS s(key, uid, ref, namespace) ON s.key = found.key
                WHERE a.id = found.id
                RETURNING a.id, a.status, s.uid, found.before
            ),
            news AS (
                INSERT INTO catalog_news (activity_id, was_status, was_about) SELECT id, status, before FROM moved
            )
            SELECT uid, before FROM moved
            """,  # noqa: S608 - the text is ours
            {
                "keys": list(subjects),
                "names": names,
                "uids": [entity.uid for entity in subjects.values()],
                "refs": [entity.ref for entity in subjects.values()],
                "namespaces": [entity.namespace for entity in subjects.values()],
            },
        )
        return {uid for row in cursor.fetchall() for uid in row if uid is not None}


def forget_activity(*, connection_slug: str, limit: int | None = None) -> int:
    """Remove what a connection told, when the connection goes.

    :param limit: at most so many, for one step of several.
    :returns: how many activities went.
    """
    with transaction.atomic():
        rows = Activity.objects.filter(connection=connection_slug)
        if limit is not None:
            rows = Activity.objects.filter(
                pk__in=list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
            )
        uids = set(rows.exclude(subject_uid=None).values_list("subject_uid", flat=True))
        mark_subjects_dirty(uids)
        count = rows.count()
        rows.delete()
        AsideActivity.objects.filter(connection=connection_slug).delete()
    return count
