"""Marks on entities whose ties, relations text or signals have to be made anew, by `catalog.services.render`."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection

from catalog.bulk import among
from catalog.models import EntityKey


def sharers_of(claim_ids: Iterable[int]) -> set[int]:
    """Entities that share a key with these claims, their own included: their ties hang on these claims."""
    keys = EntityKey.objects.filter(claim_id__in=among(claim_ids)).values("key")
    return set(EntityKey.objects.filter(key__in=keys).values_list("entity_id", flat=True))


def mark_dirty(entity_ids: Iterable[int], *, is_to_merge: bool = False) -> None:
    """Queue entities for `catalog.services.render`.

    A mark that is there already is enough, and held so that it is not taken up before what is written here is seen;
    one that another takes up right now is not.

    :param is_to_merge: their columns too, whatever their documents say.
    """
    ids = list(set(entity_ids))
    if ids:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                WITH held AS MATERIALIZED (
                    SELECT entity_id FROM catalog_dirtyentity
                    WHERE entity_id = ANY(%(ids)s) AND (is_to_merge OR NOT %(is_to_merge)s)
                    FOR KEY SHARE SKIP LOCKED
                )
                INSERT INTO catalog_dirtyentity (entity_id, since, is_to_merge)
                SELECT id, now(), %(is_to_merge)s FROM unnest(%(ids)s::bigint[]) AS wanted(id)
                WHERE id NOT IN (SELECT entity_id FROM held)
                """,
                {"ids": ids, "is_to_merge": is_to_merge},
            )
