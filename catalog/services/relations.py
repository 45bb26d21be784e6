"""Relations between entities: written, resolved once their target is there, and led on by former names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection
from django.db.models import F, Q

from catalog.bulk import among, insert_values
from catalog.models import Alias, Entity, Relation, Tie
from catalog.services.dirty import mark_dirty


def relate(
    entities: dict[int, Entity],
    wanted: dict[int, set[tuple[str, str]]],
    *,
    born: list[int],
    dead: list[int],
    renamed: set[int],
    fresh: set[int],
) -> None:
    """Write the relations that changed, resolve what waited for the new, and mark both ends dirty."""
    dirty: set[int] = set(wanted) | set(born) | set(dead) | renamed
    stored: dict[int, dict[tuple[str, str], Relation]] = defaultdict(dict)
    for relation in Relation.objects.filter(source_id__in=among(set(wanted) - fresh)):
        stored[relation.source_id][relation.type, relation.target_ref] = relation
    removed: list[Relation] = []
    added: list[tuple[int, str, str]] = []
    for entity_id, pairs in wanted.items():
        have = stored[entity_id]
        removed += [relation for pair, relation in have.items() if pair not in pairs]
        added += [(entity_id, *pair) for pair in pairs if pair not in have]
    if removed:
        dirty |= {relation.target_id for relation in removed if relation.target_id}
        Relation.objects.filter(id__in=among(relation.id for relation in removed)).delete()
    if added:
        targets = targets_of({ref for _, _, ref in added})
        dirty |= set(targets.values())
        insert_values(
            Relation,
            ("source", "type", "target_ref", "target"),
            [(entity_id, type_, ref, targets.get(ref)) for entity_id, type_, ref in added],
        )
    # A tie waits for its entity's return, and shows on the other end only while both are there.
    ends = list({*born, *dead, *renamed} - fresh)
    if ends:
        ties = Tie.objects.filter(Q(source_id__in=among(ends)) | Q(target_id__in=among(ends)))
        dirty |= {end for pair in ties.values_list("source_id", "target_id") for end in pair}
    resolving = list(born)
    if dead:
        waiting = Relation.objects.filter(target_id__in=among(dead))
        dirty |= set(waiting.values_list("source_id", flat=True))
        led = waiting.exclude(target_ref=F("target__ref")).values_list("source_id", flat=True)
        mark_dirty(led, is_to_merge=True)
        waiting.update(target=None)
        heirs = Alias.objects.filter(ref__in=among((entities[pk].ref for pk in dead), "text"))
        resolving += heirs.values_list("entity_id", flat=True)
    if born:
        dirty |= end_aliases({entities[entity_id].ref for entity_id in born})
    if resolving:
        dirty |= resolve_relations(resolving)
    if renamed:
        dirty |= _partners(renamed)
    mark_dirty(dirty)


def targets_of(refs: set[str]) -> dict[str, int]:
    """Ids of the living entities behind some refs, old refs included."""
    found = dict(Entity.objects.filter(ref__in=among(refs, "text"), deleted_at=None).values_list("ref", "id"))
    missing = refs - set(found)
    if missing:
        found |= dict(
            Alias.objects.filter(ref__in=among(missing, "text"), entity__deleted_at=None).values_list(
                "ref", "entity_id"
            )
        )
    return found


def _partners(entity_ids: set[int]) -> set[int]:
    """What is related or tied to these entities: it names them."""
    found: set[int] = set()
    for model in (Relation, Tie):
        ends: Any = model.objects.filter(
            Q(source_id__in=among(entity_ids)) | Q(target_id__in=among(entity_ids))
        ).values_list("source_id", "target_id")
        found |= {end for pair in ends for end in pair if end is not None}
    return found


def end_aliases(refs: set[str]) -> set[int]:
    """Names no longer lead where they led until now: living entities have them, or nothing has any more.

    :returns: ids of the entities whose relations this changes.
    """
    aliases = Alias.objects.filter(ref__in=among(refs, "text"))
    former = dict(aliases.values_list("ref", "entity_id"))
    if not former:
        return set()
    aliases.delete()
    led = Relation.objects.filter(target_ref__in=among(former, "text"), target_id__in=among(former.values()))
    sources = set(led.values_list("source_id", flat=True))
    led.update(target=None)
    mark_dirty(sources, is_to_merge=True)  # their columns name what the alias led to
    return sources | set(former.values())


def resolve_missed(entity_ids: Iterable[int]) -> set[int]:
    """Fill the targets that two writers at once did not see: one of a relation, the other of its target.

    Each marks its own entity for rendering, so the later of the two renderings sees both.

    :param entity_ids: what is rendered, sources and targets.
    :returns: ids of the entities at both ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE catalog_relation r SET target_id = missed.target_id
            FROM (
                SELECT w.id, e.id AS target_id FROM catalog_relation w
                JOIN catalog_entity e ON e.ref = w.target_ref AND e.deleted_at IS NULL
                WHERE w.target_id IS NULL AND w.source_id = ANY(%(ids)s)
                UNION ALL
                SELECT w.id, e.id FROM catalog_entity e
                JOIN catalog_relation w ON w.target_ref = e.ref AND w.target_id IS NULL
                WHERE e.deleted_at IS NULL AND e.id = ANY(%(ids)s)
                UNION ALL
                SELECT w.id, e.id FROM catalog_relation w
                JOIN catalog_alias a ON a.ref = w.target_ref
                JOIN catalog_entity e ON e.id = a.entity_id AND e.deleted_at IS NULL
                WHERE w.target_id IS NULL AND w.source_id = ANY(%(ids)s)
                    AND NOT EXISTS (
                        SELECT FROM catalog_entity o WHERE o.ref = w.target_ref AND o.deleted_at IS NULL
                    )
            ) missed
            WHERE r.id = missed.id AND r.target_id IS NULL
            RETURNING r.source_id, r.target_id
            """,
            {"ids": list(entity_ids)},
        )
        return {end for row in cursor.fetchall() for end in row}


def resolve_relations(entity_ids: Sequence[int]) -> set[int]:
    """Fill the target of relations that waited for these entities.

    :returns: ids of the entities at both ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE catalog_relation r SET target_id = e.id
            FROM (
                SELECT id, ref FROM catalog_entity WHERE id = ANY(%(ids)s)
                UNION ALL
                SELECT entity_id, ref FROM catalog_alias WHERE entity_id = ANY(%(ids)s)
            ) e
            WHERE r.target_ref = e.ref AND r.target_id IS NULL
            RETURNING r.source_id, r.target_id
            """,
            {"ids": list(entity_ids)},
        )
        return {end for row in cursor.fetchall() for end in row}
