"""Facets: which values a field has, in their own case, and how many entities each."""

from __future__ import annotations

from typing import Any

from pyroaring import BitMap

from catalog import queries
from catalog.api.backstage.predicates import canonical
from catalog.index import Index
from catalog.index.statements import fetch

_OF_RELATIONS = """
    SELECT r.one ->> 'targetRef', count(DISTINCT s.entity_id) FROM catalog_served s
    CROSS JOIN LATERAL (SELECT jsonb_array_elements(s.relations::jsonb) AS one) r
    WHERE s.entity_id = ANY(%s::bigint[]) AND lower(r.one ->> 'type') = %s
    GROUP BY 1 ORDER BY 1
"""


def facet(index: Index, viewer: Any, entities: BitMap, field: str) -> list[dict[str, Any]]:
    """The values of a field among some entities, with their numbers, by value."""
    relation = field.lower().removeprefix("relations.")
    if relation == field.lower():
        rows = index.field(canonical(field)).counts(entities)
    else:
        rows = [(ref, count) for ref, count in fetch(_OF_RELATIONS, (list(entities), relation))]
        hidden = queries.hidden_refs(viewer, {ref for ref, _count in rows})
        rows = [(ref, count) for ref, count in rows if ref not in hidden]
    return [{"value": value, "count": count} for value, count in rows]
