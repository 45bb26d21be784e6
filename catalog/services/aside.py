"""What a source said, and what a connection told, set aside and brought back.

What is set aside is in tables of its own, so that no reader can meet it: for all the others it is as if it had never
been said. Brought back, it is what it was, row by row, under the entities that it was said of. Both go by the page,
each in one transaction, so whoever is killed half way goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, models, transaction
from django.db.models import QuerySet

from catalog.audience import audiences
from catalog.bulk import among
from catalog.kinds import current_kinds
from catalog.models import Activity, AsideActivity, AsideClaim, Claim, Entity, Redirect, Source
from catalog.services.activity import mark_evidence_dirty, mark_subjects_dirty, resolve_subjects
from catalog.services.dirty import mark_dirty, sharers_of
from catalog.services.ingest import drop_claims, lock_entities, remerge
from catalog.services.merge import diff, merge, provenance
from catalog.services.voices import guests_of, said_of


def set_claims_aside(*, source: Source, limit: int, at: datetime, by: str) -> int:
    """Set aside a page of what a source said; entities that nobody else asserts become tombstones.

    :returns: how many claims that was.
    """
    with transaction.atomic():
        claims = source.claims.order_by("external_id")[:limit]
        affected: set[int] = set()
        while (page := list(claims.only("id", "external_id", "entity_id"))) and not {
            claim.entity_id for claim in page
        } <= affected:  # until no other writer moves one meanwhile
            affected = {claim.entity_id for claim in page}
            list(lock_entities(affected).values_list("id", flat=True))
        if not page:
            return 0
        columns = _columns(AsideClaim, without=("entity_id", "keys"))
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                INSERT INTO catalog_asideclaim (entity_id, keys, {", ".join(columns)})
                SELECT coalesce(r.redirect_id, c.entity_id),
                    coalesce((SELECT jsonb_agg(jsonb_build_array(k.kind, k.key, k.path, k.is_identity) ORDER BY k.id)
                              FROM catalog_entitykey k WHERE k.claim_id = c.id), '[]'),
                    {", ".join(f"c.{name}" for name in columns)}
                FROM catalog_claim c LEFT JOIN catalog_redirectedclaim r ON r.claim_id = c.id
                WHERE c.id = ANY(%s)
                """,  # noqa: S608 - the names are ours
                [[claim.id for claim in page]],
            )
        drop_claims(source=source, external_ids=[claim.external_id for claim in page], at=at, by=by)
    return len(page)


def bring_claims_back(*, source: Source, limit: int, at: datetime, by: str) -> int:
    """Bring back a page of what was set aside of a source.

    :returns: how many claims that was.
    """
    with transaction.atomic():
        page = list(source.aside_claims.order_by("id").values_list("id", "entity_id")[:limit])
        if not page:
            return 0
        outdated = _said_anew([claim_id for claim_id, _entity_id in page])
        AsideClaim.objects.filter(pk__in=among(outdated)).delete()
        ids = [claim_id for claim_id, _entity_id in page if claim_id not in outdated]
        # What was merged into another meanwhile, or had been, is said of the other.
        merged = dict(
            Redirect.objects.filter(loser__in=among(entity_id for _id, entity_id in page)).values_list(
                "loser_id", "winner_id"
            )
        )
        homes = {merged.get(entity_id, entity_id) for _id, entity_id in page}
        list(lock_entities(homes).values_list("id", flat=True))
        columns = _columns(AsideClaim, without=("entity_id", "keys"))
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                INSERT INTO catalog_claim (entity_id, {", ".join(columns)})
                SELECT coalesce(r.winner_id, a.entity_id), {", ".join(f"a.{name}" for name in columns)}
                FROM catalog_asideclaim a LEFT JOIN catalog_redirect r ON r.loser_id = a.entity_id
                WHERE a.id = ANY(%(ids)s)
                """,  # noqa: S608 - the names are ours
                {"ids": ids},
            )
            cursor.execute(
                """
                INSERT INTO catalog_entitykey (claim_id, entity_id, kind, key, path, is_identity)
                SELECT a.id, c.entity_id, k.row->>0, k.row->>1, k.row->>2, (k.row->>3)::boolean
                FROM catalog_asideclaim a JOIN catalog_claim c ON c.id = a.id
                CROSS JOIN LATERAL jsonb_array_elements(a.keys) AS k(row)
                WHERE a.id = ANY(%(ids)s)
                """,
                {"ids": ids},
            )
            cursor.execute(
                """
                INSERT INTO catalog_redirectedclaim (claim_id, redirect_id)
                SELECT a.id, r.loser_id FROM catalog_asideclaim a JOIN catalog_redirect r ON r.loser_id = a.entity_id
                WHERE a.id = ANY(%(ids)s)
                """,
                {"ids": ids},
            )
        AsideClaim.objects.filter(pk__in=among(ids)).delete()
        mark_dirty(sharers_of(ids) | homes)
        remerge(entity_ids=homes, source=source, at=at, by=by)
    return len(page)


def _said_anew(ids: list[int]) -> set[int]:
    """Those of some claims that are set aside whose source has said something newer of the same thing since."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.id FROM catalog_asideclaim a JOIN catalog_claim c USING (source_id, external_id)
            WHERE a.id = ANY(%(ids)s)
            UNION
            SELECT a.id FROM catalog_asideclaim a JOIN catalog_asideclaim b USING (source_id, external_id)
            WHERE a.id = ANY(%(ids)s) AND b.id > a.id
            """,
            {"ids": ids},
        )
        return {row[0] for row in cursor.fetchall()}


def set_activity_aside(*, connection_slug: str, limit: int) -> int:
    """Set aside a page of what a connection told of.

    :returns: how many activities that was.
    """
    columns = ", ".join(_columns(AsideActivity, without=("transitions",)))
    with transaction.atomic():
        rows = Activity.objects.filter(connection=connection_slug).order_by("pk").select_for_update()
        page = list(rows.only("id", "type", "commit", "keys", "subject_uid")[:limit])
        if not page:
            return 0
        ids = [row.pk for row in page]
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                INSERT INTO catalog_asideactivity ({columns}, transitions)
                SELECT {columns}, coalesce((
                    SELECT jsonb_agg(to_jsonb(t) - 'activity_id' ORDER BY t.id)
                    FROM catalog_transition t WHERE t.activity_id = a.id
                ), '[]')
                FROM catalog_activity a WHERE a.id = ANY(%s)
                """,  # noqa: S608 - the names are ours
                [ids],
            )
        _mark(page)
        Activity.objects.filter(pk__in=among(ids)).delete()
    return len(page)


def bring_activity_back(*, connection_slug: str, limit: int) -> int:
    """Bring back a page of what was set aside of a connection's activity.

    Its subjects may have been renamed or merged meanwhile, or have come only now.

    :returns: how many activities that was.
    """
    columns = ", ".join(_columns(AsideActivity, without=("transitions",)))
    with transaction.atomic():
        rows = AsideActivity.objects.filter(connection=connection_slug).order_by("pk").select_for_update()
        ids = list(rows.values_list("pk", flat=True)[:limit])
        if not ids:
            return 0
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO catalog_activity ({columns})"  # noqa: S608 - the names are ours
                f" SELECT {columns} FROM catalog_asideactivity WHERE id = ANY(%s)",
                [ids],
            )
            cursor.execute(
                """
                INSERT INTO catalog_transition (id, activity_id, at, status, event)
                SELECT t.id, a.id, t.at, t.status, t.event FROM catalog_asideactivity a
                CROSS JOIN LATERAL jsonb_to_recordset(a.transitions)
                    AS t(id bigint, at timestamptz, status text, event text)
                WHERE a.id = ANY(%s)
                """,
                [ids],
            )
            cursor.execute(
                """
                UPDATE catalog_activity a SET subject_uid = w.uid, subject_ref = w.ref, namespace = w.namespace
                FROM catalog_entity e LEFT JOIN catalog_redirect r ON r.loser_id = e.id
                JOIN catalog_entity w ON w.id = coalesce(r.winner_id, e.id)
                WHERE a.id = ANY(%s) AND e.uid = a.subject_uid AND (e.id <> w.id OR a.subject_ref <> w.ref)
                """,
                [ids],
            )
        AsideActivity.objects.filter(pk__in=among(ids)).delete()
        page = list(
            Activity.objects.filter(pk__in=among(ids)).only("id", "type", "commit", "keys", "subject_uid")
        )
        mark_subjects_dirty(resolve_subjects({key for row in page for key in row.keys}))
        _mark(page)
    return len(page)


def _mark(page: list[Activity]) -> None:
    mark_subjects_dirty({row.subject_uid for row in page if row.subject_uid is not None})
    mark_evidence_dirty((row.type, row.commit, row.keys) for row in page)


def _columns(model: type[models.Model], *, without: Collection[str]) -> list[str]:
    found = [str(field.column) for field in model._meta.concrete_fields if field.column not in without]
    return [connection.ops.quote_name(name) for name in found]


@dataclass(frozen=True, slots=True)
class Change:
    """A field that another source would settle, or nobody, were some silent.

    :ivar before: its value now; `after`: then. None where there is none.
    :ivar winner: label of who would say it then; empty if nobody.
    """

    entity: Entity
    path: str
    before: Any
    after: Any
    winner: str


def changes_without(
    sources: QuerySet[Source], entities: QuerySet[Entity], *, but: Container[str] = ()
) -> list[Change]:
    """What would change about some entities, of which others speak too, were these sources silent. Writes nothing.

    :param but: names of sources whose word is not told, though it may be the one that would count then.
    """
    silent = set(sources.values_list("pk", flat=True))
    found = []
    kinds = current_kinds()
    rows = {entity.pk: entity for entity in entities}
    guests, known = guests_of(rows), audiences()
    said_of_them = Claim.objects.filter(entity__in=list(rows)).select_related("source").order_by("id")
    of_entity: dict[int, list[Claim]] = {}
    for claim in said_of_them:
        if claim.source.name not in but:
            of_entity.setdefault(claim.entity_id, []).append(claim)
    for entity_id, own in of_entity.items():
        left = [claim for claim in own if claim.source_id not in silent]
        kind = kinds.by_name(rows[entity_id].kind)
        said, then = (said_of(claims, guests=guests, known=known, kind=kind) for claims in (own, left))
        if said is None or then is None:
            continue
        unions = kind.unions
        voices = provenance(then)
        labels = {claim.pk: claim.source.label for claim in left}
        for row in diff(merge(said, unions=unions), merge(then, unions=unions)):
            first = voices.get(tuple(row["path"].split(".")))
            winner = labels[first[0].claim_id] if first and "new" in row else ""
            found.append(Change(rows[entity_id], row["path"], row.get("old"), row.get("new"), winner))
    return found
