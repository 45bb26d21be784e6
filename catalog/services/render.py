"""What follows from a change: ties, the relations text, signals, missing targets.

Entities are marked (`DirtyEntity`), and the marks worked off in pages, by one at a time: the end of an import or a
sync, or the beat. Each step is idempotent; a killed worker leaves the marks.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from catalog.audience import Groups, audiences, groups_in, is_for_all, not_for_all
from catalog.bulk import BY_INDEX, among, tidy
from catalog.kinds import current_kinds, forget_kinds
from catalog.models import (
    DirtyEntity,
    Entity,
    EntityKey,
    Relation,
    Served,
    Severity,
)
from catalog.services import problems
from catalog.services.activity import mark_subjects_dirty, resolve_subjects
from catalog.services.breaks import breaks_of
from catalog.services.computing import recompute
from catalog.services.dirty import mark_dirty
from catalog.services.ingest import remerge
from catalog.services.relation_checks import report_crowded
from catalog.services.relations import resolve_missed
from catalog.services.ties import tie_entities
from catalog.statuses import RunStatus

logger = logging.getLogger(__name__)

PAGE = 2_000
# What somebody who waits for an answer renders at most; the beat does the rest.
A_WHILE = 2 * PAGE
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
                cursor.execute(f"SELECT pg_advisory_xact_lock(%s), {BY_INDEX}", [_RENDER_LOCK])
            ids, reshaped = _take_marks()
            if not ids:
                break
            if reshaped:
                forget_kinds()  # whoever changed them may have been another process, a moment ago
                remerge(entity_ids=reshaped, reshaped=True, at=at, by=_("The catalog"))
            _render(ids, at=at)
            done += len(ids)
            turns.update(ids)
            if max(turns.values()) > MAX_TURNS:
                logger.error("Rendering does not come to rest: %s", turns.most_common(5))
                break
        after_page()
        if done >= PAGE:
            tidy(Served, DirtyEntity)  # else each page of a big import would need new room
    return done


def _take_marks() -> tuple[set[int], set[int]]:
    """Lock marked entities and take up their marks.

    Entities and marks that a writer holds are left for later: whoever renders waits for nobody, so no two can wait for
    each other.

    :returns: their ids, and those of them whose kind has changed.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.id FROM catalog_dirtyentity d JOIN catalog_entity e ON e.id = d.entity_id
            LIMIT %s FOR UPDATE OF d SKIP LOCKED FOR NO KEY UPDATE OF e SKIP LOCKED
            """,
            [PAGE],
        )
        ids = list({row[0] for row in cursor.fetchall()})
        if ids:  # what is marked after this statement is rendered again
            cursor.execute(
                """
                WITH free AS MATERIALIZED (
                    SELECT id FROM catalog_dirtyentity WHERE entity_id = ANY(%s) FOR UPDATE SKIP LOCKED
                ),
                taken AS (
                    DELETE FROM catalog_dirtyentity WHERE id IN (SELECT id FROM free)
                    RETURNING entity_id, is_to_merge
                ),
                news AS (INSERT INTO catalog_news (entity_id) SELECT DISTINCT entity_id FROM taken)
                SELECT entity_id, is_to_merge FROM taken
                """,
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
    recompute(ids, reach=reach_of, at=at)
    _report_missing(ids, at=at)
    report_crowded(ids, at=at)


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
    """Note on each entity what is tied to it: whose sources speak of that, how its runs stand, its newest version.

    A component's runs are those of the pipelines tied to it, and of its repository's pipelines that are tied to no
    component (shared). Runs of changes never count. While any pipeline fails, that is how the entity stands,
    whatever ran since. What is not for all who may see an entity shows on it nowhere (`catalog.audience`).
    """
    ids = set(entity_ids)
    known = audiences()
    by_audience: dict[Groups, set[int]] = {}
    for pk, column in Entity.objects.filter(id__in=among(ids)).values_list("id", "audience"):
        by_audience.setdefault(groups_in(column), set()).add(pk)
    for audience, members in by_audience.items():
        _write_signals(members, audience, not_for_all(known, audience))


def _write_signals(ids: set[int], audience: Groups, silent: list[str]) -> None:
    """Write the signals of entities with one audience; `silent` are the connections that are not for all of it."""
    reach = reach_of(ids)
    subjects = {uid for uids in reach.values() for uid, _ in uids}
    sources = {
        uid: names
        for uid, names, groups in Entity.objects.filter(
            uid__in=among(subjects, "uuid"), deleted_at=None
        ).values_list("uid", "sources", "audience")
        if is_for_all(groups_in(groups), audience)
    }
    subjects &= set(sources)
    runs = _newest(subjects, "run", "status", silent, "NOT a.is_change AND a.is_default_branch IS NOT FALSE")
    versions = _newest(subjects, "version", "version", silent)
    breaks = breaks_of(subjects, silent)
    rows = []
    for entity_id, own_sources, *kept in Entity.objects.filter(id__in=among(ids)).values_list(
        "id", "sources", "signals", "last_run", "last_run_at", "failing_since", "version"
    ):
        near = [uid for uid, _ in reach[entity_id]]
        signals: dict[str, Any] = {}
        if told := sorted({name for uid in near for name in sources.get(uid, ())} - set(own_sources)):
            signals["tied_sources"] = told
        last_at, status = max((runs[uid] for uid in near if uid in runs), default=(None, ""))
        _at, version = max((versions[uid] for uid in near if uid in versions), default=(None, ""))
        failing_since = None
        if broken := [breaks[uid] for uid in near if uid in breaks]:
            signals["failing"] = [
                {"first": one.first, "last": one.last, "commit": one.commit} for one in broken
            ]
            failing_since = min(one.since for one in broken)
            status, last_at = RunStatus.FAILED.value, max(one.last_at for one in broken)
        if [signals, status, last_at, failing_since, version] != kept:
            rows.append((entity_id, orjson.dumps(signals).decode(), status, last_at, failing_since, version))
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE catalog_entity e
            SET signals = n.signals::jsonb, last_run = n.last_run, last_run_at = n.last_run_at,
                failing_since = n.failing_since, version = n.version
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::text[])
                AS n(id, signals, last_run, last_run_at, failing_since, version)
            WHERE e.id = n.id
            """,
            [list(column) for column in zip(*rows, strict=True)],
        )


def reach_of(entity_ids: set[int]) -> dict[int, list[tuple[uuid.UUID, bool]]]:
    """Whose activity shows on each entity: itself, what is tied to it, and what its repository shares. One statement.

    Things tied to a component show on it; the component does not show on them. What runs an image runs one version of
    it, whatever was published since. A component also has what runs the images tied to it, and what belongs to its
    repository and no component has for itself, unless a person forbade that.

    :returns: for each entity, pairs of subject uid and whether it is shared; none for what is gone.
    """
    reach: dict[int, list[tuple[uuid.UUID, bool]]] = {entity_id: [] for entity_id in entity_ids}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH wanted AS MATERIALIZED (
                SELECT e.id, e.uid, e.kind FROM unnest(%s::bigint[]) AS w(id)
                JOIN catalog_entity e ON e.id = w.id AND e.deleted_at IS NULL
            ),
            tied AS MATERIALIZED (
                SELECT w.id, t.target_id AS other FROM wanted w
                JOIN catalog_tie t ON t.source_id = w.id AND t.state <> 'forbidden'
                UNION
                SELECT w.id, t.source_id FROM wanted w
                JOIN catalog_tie t ON t.target_id = w.id AND t.state <> 'forbidden'
            ),
            own AS MATERIALIZED (
                SELECT tied.id, o.id AS other, o.uid, o.kind, o.deleted_at FROM tied
                JOIN wanted w ON w.id = tied.id AND w.kind <> 'workload'
                JOIN catalog_entity o ON o.id = tied.other
                WHERE o.kind IN ('repository', 'pipeline', 'artifact', 'workload')
            ),
            forbidden AS MATERIALIZED (
                SELECT w.id, t.target_id AS other FROM wanted w
                JOIN catalog_tie t ON t.source_id = w.id AND t.state = 'forbidden'
                UNION
                SELECT w.id, t.source_id FROM wanted w
                JOIN catalog_tie t ON t.target_id = w.id AND t.state = 'forbidden'
            ),
            direct AS MATERIALIZED (
                SELECT id, other, uid FROM own WHERE deleted_at IS NULL
                UNION
                SELECT own.id, o.id, o.uid FROM own
                JOIN wanted w ON w.id = own.id AND w.kind IN ('component', 'repository')
                JOIN catalog_tie t ON t.source_id = own.other AND t.type = 'runsAs' AND t.state <> 'forbidden'
                JOIN catalog_entity o ON o.id = t.target_id AND o.deleted_at IS NULL
                WHERE own.kind = 'artifact'
                    AND NOT EXISTS (SELECT FROM forbidden f WHERE f.id = own.id AND f.other = o.id)
            ),
            shared AS (
                SELECT DISTINCT own.id, o.id AS other, o.uid FROM own
                JOIN wanted w ON w.id = own.id AND w.kind = 'component'
                JOIN catalog_tie t ON t.source_id = own.other AND t.type IN ('builtBy', 'packagedAs', 'runsAs')
                    AND t.state <> 'forbidden'
                JOIN catalog_entity o ON o.id = t.target_id AND o.deleted_at IS NULL
                WHERE own.kind = 'repository'
                    AND NOT EXISTS (
                        SELECT FROM catalog_tie c JOIN catalog_entity e ON e.id = c.source_id
                        WHERE c.target_id = o.id AND c.state <> 'forbidden' AND e.kind = 'component'
                    )
                    AND NOT EXISTS (SELECT FROM forbidden f WHERE f.id = own.id AND f.other = o.id)
            )
            SELECT id, uid, FALSE FROM wanted
            UNION ALL
            SELECT id, uid, FALSE FROM direct
            UNION ALL
            SELECT id, uid, TRUE FROM shared s
            WHERE NOT EXISTS (SELECT FROM direct d WHERE d.id = s.id AND d.other = s.other)
            """,
            [list(entity_ids)],
        )
        for entity_id, uid, is_shared in cursor.fetchall():
            reach[entity_id].append((uid, is_shared))
    return reach


def _newest(
    subjects: set[uuid.UUID], type_: str, column: str, silent: list[str], condition: str = "TRUE"
) -> dict[uuid.UUID, tuple[datetime, str]]:
    """When the newest activity of a type was at each subject, and what it says in a column.

    :param silent: connections whose activity does not count.
    :param condition: in SQL, on the activity `a`; ours, as the column is.
    """
    if not subjects:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT s.uid, r.at, r.{column} FROM unnest(%s::uuid[]) AS s(uid)
            CROSS JOIN LATERAL (
                SELECT a.at, a.{column} FROM catalog_activity a
                WHERE a.subject_uid = s.uid AND a.type = %s AND a.connection <> ALL(%s) AND {condition}
                ORDER BY a.at DESC, a.id DESC LIMIT 1
            ) r
            """,  # noqa: S608 - the names are ours
            [list(subjects), type_, silent],
        )
        return {uid: (at, text) for uid, at, text in cursor.fetchall()}


def _report_missing(ids: set[int], *, at: datetime) -> None:
    """Targets that do not exist, as problems of the entities that name them."""
    seen = []
    for relation in (
        Relation.objects.filter(source_id__in=among(ids), target=None, source__deleted_at=None)
        .select_related("source")
        .only("type", "target_ref", "source__uid", "source__ref", "source__namespace")
    ):
        source, type_, ref = relation.source, relation.type, relation.target_ref
        kind = ref.partition(":")[0].capitalize()
        seen.append(
            (
                problems.subject_of(source),
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
                    % {"subject": source.ref, "ref": ref, "type": type_},
                    remedy=_("Import what declares it, create it, say what the name means, or correct it.")
                    if type_ == "ownedBy"
                    else _("Import what declares it, or correct the name."),
                    discriminator=f"{type_} {ref}",
                    detail={"type": type_, "target": ref},
                ),
            )
        )
    problems.sync(
        raised_by=problems.CATALOG,
        seen=seen,
        within=Q(type="missing-target", subject_uid__in=problems.uids_of(ids)),
        at=at,
    )


def splice(document: str, relations: str) -> str:
    """One JSON text from a document and its relations, without parsing either."""
    return f'{document[:-1]},"relations":{relations}}}'
