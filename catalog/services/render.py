"""What follows from a change: ties, the relations text, signals, missing targets.

Entities are marked (`DirtyEntity`), and the marks worked off in pages, by one at a time: the end of an import or a
sync, or the beat. Each step is idempotent; a killed worker leaves the marks.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from catalog.bulk import among
from catalog.kinds import current_kinds, forget_kinds
from catalog.models import Entity, EntityKey, Relation, Severity, Tie, TieState
from catalog.services import problems
from catalog.services.activity import mark_subjects_dirty, resolve_subjects
from catalog.services.dirty import mark_dirty
from catalog.services.ingest import remerge
from catalog.services.relations import resolve_missed
from catalog.services.ties import tie_entities

logger = logging.getLogger(__name__)

PAGE = 2_000
# What somebody who waits for an answer renders at most; the beat does the rest.
A_WHILE = 2 * PAGE
RUNS_ON_A_CARD = 12
# What marks itself again and again would else be rendered for ever.
MAX_TURNS = 50
_RENDER_LOCK = 0x706F7275


def render_dirty(
    *, at: datetime, limit: int | None = None, after_page: Callable[[], object] = lambda: None
) -> int:
    """Work off the queue.

    :param at: now.
    :param limit: stop after about so many entities.
    :param after_page: called between pages, for who must give signs of life.
    :returns: how many entities were rendered.
    """
    done = 0
    turns: Counter[int] = Counter()
    while limit is None or done < limit:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_RENDER_LOCK])
            ids, reshaped = _take_marks()
            if not ids:
                break
            if reshaped:
                forget_kinds()  # whoever changed them may have been another process, a moment ago
                remerge(entity_ids=reshaped, reshaped=True, at=at, by=_("Kinds"))
            _render(ids, at=at)
            done += len(ids)
            turns.update(ids)
            if max(turns.values()) > MAX_TURNS:
                logger.error("Rendering does not come to rest: %s", turns.most_common(5))
                break
        after_page()
    return done


def _take_marks() -> tuple[set[int], set[int]]:
    """Lock marked entities and take up their marks.

    Those that a writer holds are left for later: whoever renders waits for nobody, so no two can wait for each other.

    :returns: their ids, and those of them whose kind has changed.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id FROM catalog_entity WHERE id IN (SELECT entity_id FROM catalog_dirtyentity)
            LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
            """,
            [PAGE],
        )
        ids = [row[0] for row in cursor.fetchall()]
        if ids:  # what is marked after this statement is rendered again
            cursor.execute(
                "DELETE FROM catalog_dirtyentity WHERE entity_id = ANY(%s) RETURNING entity_id, is_to_merge",
                [ids],
            )
            reshaped = {entity_id for entity_id, is_to_merge in cursor.fetchall() if is_to_merge}
            return set(ids), reshaped
    return set(), set()


def _render(ids: set[int], *, at: datetime) -> None:
    # The other ends of changed ties are not locked here; their turn comes.
    mark_dirty(tie_entities(entity_ids=ids, at=at) - ids)
    keys = set(
        EntityKey.objects.filter(entity_id__in=among(ids), is_identity=True).values_list("key", flat=True)
    )
    names = Entity.objects.filter(id__in=among(ids)).values_list("ref", flat=True)
    mark_subjects_dirty(resolve_subjects(keys | {f"ref:{ref}" for ref in names}))
    mark_dirty(resolve_missed(ids) - ids)
    follow_renames(ids)
    write_relations(ids)
    write_signals(ids)
    _report_missing(ids, at=at)


def follow_renames(entity_ids: Iterable[int]) -> None:
    """Let the columns that lists filter by name owners and systems by their present refs."""
    with connection.cursor() as cursor:
        # Hardly any document names something by a former name, so first of all those are found.
        cursor.execute(
            """
            SELECT r.source_id, r.target_ref, t.id, t.ref
            FROM unnest(%s::bigint[]) AS wanted(id)
            JOIN catalog_relation r ON r.source_id = wanted.id AND r.type IN ('ownedBy', 'partOf')
            JOIN catalog_entity t ON t.id = r.target_id
            WHERE t.ref <> r.target_ref
            """,
            [list(entity_ids)],
        )
        led = cursor.fetchall()
        if not led:
            return
        for column in ("owner", "system"):
            cursor.execute(
                f"""
                UPDATE catalog_entity e SET {column} = n.ref
                FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[]) AS n(id, named, target_id, ref)
                WHERE e.id = n.id AND e.{column} NOT IN ('', n.ref)
                  AND (e.{column} = n.named
                       OR EXISTS (SELECT FROM catalog_alias a WHERE a.ref = e.{column} AND a.entity_id = n.target_id))
                """,  # noqa: S608 - the names are ours
                [list(values) for values in zip(*led, strict=True)],
            )


def write_relations(entity_ids: Iterable[int]) -> None:
    """Build the relations text of these entities: what they declare, what is declared of them, and their ties.

    A target that was renamed is named by its present ref. One statement, which parses and sends no JSON.
    """
    inverses = current_kinds().inverses
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH wanted AS (SELECT unnest(%(ids)s::bigint[]) AS id),
            inverse AS (SELECT unnest(%(types)s::text[]) AS type, unnest(%(inverses)s::text[]) AS inverse),
            tie AS (
                SELECT t.source_id, t.type, t.target_id FROM catalog_tie t
                JOIN catalog_entity a ON a.id = t.source_id AND a.deleted_at IS NULL
                JOIN catalog_entity b ON b.id = t.target_id AND b.deleted_at IS NULL
                WHERE t.state <> 'forbidden'
            ),
            pair AS (
                SELECT r.source_id AS id, r.type, coalesce(e.ref, r.target_ref) AS ref
                FROM wanted JOIN catalog_relation r ON r.source_id = wanted.id
                LEFT JOIN catalog_entity e ON e.id = r.target_id
                UNION
                SELECT r.target_id, coalesce(i.inverse, r.type), e.ref
                FROM wanted JOIN catalog_relation r ON r.target_id = wanted.id
                JOIN catalog_entity e ON e.id = r.source_id LEFT JOIN inverse i ON i.type = r.type
                UNION
                SELECT t.source_id, t.type, e.ref
                FROM wanted JOIN tie t ON t.source_id = wanted.id JOIN catalog_entity e ON e.id = t.target_id
                UNION
                SELECT t.target_id, coalesce(i.inverse, t.type), e.ref
                FROM wanted JOIN tie t ON t.target_id = wanted.id JOIN catalog_entity e ON e.id = t.source_id
                LEFT JOIN inverse i ON i.type = t.type
            ),
            made AS (
                SELECT wanted.id, '[' || coalesce(string_agg(
                    '{"type":' || to_json(pair.type) || ',"targetRef":' || to_json(pair.ref) || '}',
                    ',' ORDER BY pair.type COLLATE "C", pair.ref COLLATE "C"
                ), '') || ']' AS relations
                FROM wanted LEFT JOIN pair ON pair.id = wanted.id GROUP BY wanted.id
            )
            UPDATE catalog_served s SET relations = made.relations
            FROM made WHERE s.entity_id = made.id AND s.relations <> made.relations
            """,
            {"ids": list(entity_ids), "types": list(inverses), "inverses": list(inverses.values())},
        )


def write_signals(entity_ids: Iterable[int]) -> None:
    """Note on each entity what is tied to it: whose sources speak of that, its last run and newest version.

    A component's runs are those of the pipelines tied to it, and of its repository's pipelines that are tied to no
    component (shared). Runs of changes never count.
    """
    ids = set(entity_ids)
    reach = reach_of(ids)
    subjects = {uid for uids in reach.values() for uid, _ in uids}
    runs = _latest_runs(subjects)
    versions = _latest_versions(subjects)
    sources = dict(
        Entity.objects.filter(uid__in=among(subjects, "uuid"), deleted_at=None).values_list("uid", "sources")
    )
    rows = []
    for entity in Entity.objects.filter(id__in=among(ids)).only(
        "id", "signals", "last_run", "last_run_at", "version", "sources"
    ):
        near = [uid for uid, _ in reach.get(entity.id, ())]
        own_runs = sorted(
            (run for uid in near for run in runs.get(uid, ())), key=lambda r: r["at"], reverse=True
        )
        own_versions = sorted(
            (v for uid in near if (v := versions.get(uid))), key=lambda v: v["at"], reverse=True
        )
        signals: dict[str, Any] = {}
        if told := sorted({name for uid in near for name in sources.get(uid, ())} - set(entity.sources)):
            signals["tied_sources"] = told
        if own_runs:
            signals["runs"] = own_runs[:RUNS_ON_A_CARD]
        if own_versions:
            signals["version"] = own_versions[0]
        last = own_runs[0] if own_runs else None
        status, last_at = (last["status"], last["at"]) if last else ("", None)
        version = own_versions[0]["version"] if own_versions else ""
        if signals != entity.signals or status != entity.last_run or version != entity.version:
            rows.append((entity.id, orjson.dumps(signals).decode(), status, last_at, version))
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE catalog_entity e
            SET signals = n.signals::jsonb, last_run = n.last_run, last_run_at = n.last_run_at, version = n.version
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
                AS n(id, signals, last_run, last_run_at, version)
            WHERE e.id = n.id
            """,
            [list(column) for column in zip(*rows, strict=True)],
        )


def reach_of(entity_ids: set[int]) -> dict[int, list[tuple[Any, bool]]]:
    """Whose activity shows on each entity: itself, what is tied to it, and what its repository shares.

    :returns: for each entity, pairs of subject uid and whether it is shared.
    """
    ties = list(
        Tie.objects.filter(
            Q(source_id__in=among(entity_ids)) | Q(target_id__in=among(entity_ids))
        ).values_list("source_id", "target_id", "source__kind", "target__kind", "state")
    )
    direct: dict[int, set[int]] = defaultdict(set)
    repositories: dict[int, set[int]] = defaultdict(set)
    artifacts: dict[int, set[int]] = defaultdict(set)
    forbidden: dict[int, set[int]] = defaultdict(set)
    for source_id, target_id, source_kind, target_kind, state in ties:
        if state == TieState.FORBIDDEN:
            forbidden[source_id].add(target_id)
            forbidden[target_id].add(source_id)
            continue
        for here, here_kind, there, there_kind in (
            (source_id, source_kind, target_id, target_kind),
            (target_id, target_kind, source_id, source_kind),
        ):
            if here not in entity_ids:
                continue
            # Things tied to a component show on it; the component does not show on them. What runs an image runs one
            # version of it, whatever was published since.
            if there_kind in {"repository", "pipeline", "artifact", "workload"} and here_kind != "workload":
                direct[here].add(there)
            if there_kind == "repository":
                repositories[here].add(there)
            # A component reaches its workloads through its images.
            if there_kind == "artifact" and here_kind in {"component", "repository"}:
                artifacts[here].add(there)
    running = _running({artifact for found in artifacts.values() for artifact in found})
    for here, found in artifacts.items():
        for artifact in found:
            direct[here] |= running[artifact] - forbidden[here]
    shared = _shared_of({r for found in repositories.values() for r in found})
    wanted = (
        set(entity_ids)
        | {i for found in direct.values() for i in found}
        | {i for s in shared.values() for i in s}
    )
    alive = Entity.objects.filter(id__in=among(wanted), deleted_at=None).values_list("id", "uid", "kind")
    uids = {entity_id: uid for entity_id, uid, _kind in alive}
    components = {entity_id for entity_id, _uid, kind in alive if kind == "component"}
    reach: dict[int, list[tuple[Any, bool]]] = {}
    for entity_id in entity_ids:
        near = {entity_id: False, **dict.fromkeys(direct[entity_id], False)}
        if entity_id in components:
            for repository in repositories[entity_id]:
                for other in shared.get(repository, set()) - forbidden[entity_id]:
                    near.setdefault(other, True)
        reach[entity_id] = [(uids[i], is_shared) for i, is_shared in near.items() if i in uids]
    return reach


def _running(artifacts: set[int]) -> dict[int, set[int]]:
    """The workloads that run each artifact."""
    found: dict[int, set[int]] = defaultdict(set)
    if artifacts:
        ties = Tie.objects.exclude(state=TieState.FORBIDDEN).filter(
            source_id__in=among(artifacts), type="runsAs"
        )
        for artifact, workload in ties.values_list("source_id", "target_id"):
            found[artifact].add(workload)
    return found


def _shared_of(repositories: set[int]) -> dict[int, set[int]]:
    """What each repository has that no component claims for itself."""
    found: dict[int, set[int]] = defaultdict(set)
    if not repositories:
        return found
    pairs = list(
        Tie.objects.exclude(state=TieState.FORBIDDEN)
        .filter(source_id__in=among(repositories), type__in=["builtBy", "packagedAs", "runsAs"])
        .values_list("source_id", "target_id")
    )
    taken = set(
        Tie.objects.exclude(state=TieState.FORBIDDEN)
        .filter(target_id__in=among({t for _, t in pairs}), source__kind="component")
        .values_list("target_id", flat=True)
    )
    for repository, target in pairs:
        if target not in taken:
            found[repository].add(target)
    return found


def _latest_runs(subjects: set[Any]) -> dict[Any, list[dict[str, Any]]]:
    """The last runs of each subject on its default branch, newest first; changes' runs left out."""
    found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    if not subjects:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT s.uid, r.id, r.status, r.number, r.title, r.at, r.started_at, r.finished_at, r.url
            FROM unnest(%s::uuid[]) AS s(uid)
            CROSS JOIN LATERAL (
                SELECT * FROM catalog_activity a
                WHERE a.subject_uid = s.uid AND a.type = 'run' AND NOT a.is_change
                  AND a.is_default_branch IS NOT FALSE
                ORDER BY a.at DESC LIMIT %s
            ) r
            """,
            [list(subjects), RUNS_ON_A_CARD],
        )
        for uid, id_, status, number, title, at, started, finished, url in cursor.fetchall():
            seconds = (finished - started).total_seconds() if started and finished else None
            found[uid].append(
                {
                    "id": id_,
                    "status": status,
                    "number": number,
                    "title": title,
                    "at": at.isoformat(),
                    "seconds": seconds,
                    "url": url,
                }
            )
    return found


def _latest_versions(subjects: set[Any]) -> dict[Any, dict[str, Any]]:
    if not subjects:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT s.uid, r.version, r.at FROM unnest(%s::uuid[]) AS s(uid)
            CROSS JOIN LATERAL (
                SELECT version, at FROM catalog_activity a
                WHERE a.subject_uid = s.uid AND a.type = 'version' ORDER BY a.at DESC LIMIT 1
            ) r
            """,
            [list(subjects)],
        )
        return {uid: {"version": version, "at": at.isoformat()} for uid, version, at in cursor.fetchall()}


def _report_missing(ids: set[int], *, at: datetime) -> None:
    """Targets that do not exist, as problems of the entities that name them."""
    entities = {entity.id: entity for entity in Entity.objects.filter(id__in=among(ids))}
    seen = []
    for source_id, type_, ref in Relation.objects.filter(
        source_id__in=among(ids), target=None, source__deleted_at=None
    ).values_list("source_id", "type", "target_ref"):
        kind = ref.partition(":")[0].capitalize()
        seen.append(
            (
                problems.subject_of(entities[source_id]),
                problems.Seen(
                    type="missing-target",
                    severity=Severity.WARN,
                    cause=(
                        _('Owner "%(ref)s" does not exist')
                        if type_ == "ownedBy"
                        else _('%(kind)s "%(ref)s" does not exist')
                    )
                    % {"ref": ref, "kind": kind},
                    message=_("%(subject)s names %(ref)s (%(type)s), which no source declares.")
                    % {"subject": entities[source_id].ref, "ref": ref, "type": type_},
                    remedy=_("Import what declares it, or correct the name."),
                    discriminator=f"{type_} {ref}",
                    detail={"type": type_, "target": ref},
                ),
            )
        )
    problems.sync(
        raised_by=problems.CATALOG,
        seen=seen,
        within=Q(type="missing-target", subject_uid__in=among((e.uid for e in entities.values()), "uuid")),
        at=at,
    )


def splice(document: str, relations: str) -> str:
    """One JSON text from a document and its relations, without parsing either."""
    return f'{document[:-1]},"relations":{relations}}}'
