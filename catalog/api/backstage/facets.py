"""Facets: which values a field has, in their own case, and how many entities each."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

from catalog import queries
from catalog.api.backstage.lists import path_of
from catalog.models import Entity
from catalog.query.tokens import MAX_VALUE

_OF_DOCUMENT = """
    SELECT v.value, count(DISTINCT s.entity_id) FROM catalog_served s
    JOIN ({entities}) AS found(id) ON found.id = s.entity_id
    CROSS JOIN LATERAL (SELECT jsonb_extract_path(s.document::jsonb, VARIADIC %s::text[]) AS said) d
    CROSS JOIN LATERAL (
        SELECT d.said AS one WHERE jsonb_typeof(d.said) <> 'array'
        UNION ALL
        SELECT jsonb_array_elements(CASE WHEN jsonb_typeof(d.said) = 'array' THEN d.said ELSE '[]' END)
    ) o
    CROSS JOIN LATERAL (SELECT o.one #>> '{{}}' AS value) v
    WHERE jsonb_typeof(o.one) IN ('string', 'number', 'boolean') AND length(v.value) <= %s
    GROUP BY v.value ORDER BY v.value COLLATE "C"
"""
_OF_RELATIONS = """
    SELECT r.one ->> 'targetRef', count(DISTINCT s.entity_id) FROM catalog_served s
    JOIN ({entities}) AS found(id) ON found.id = s.entity_id
    CROSS JOIN LATERAL (SELECT jsonb_array_elements(s.relations::jsonb) AS one) r
    WHERE lower(r.one ->> 'type') = %s
    GROUP BY 1 ORDER BY 1
"""


def facet(viewer: Any, entities: QuerySet[Entity], field: str) -> list[dict[str, Any]]:
    """The values of a field among some entities, with their numbers, by value."""
    try:
        found, parameters = entities.order_by().values_list("pk").query.sql_with_params()
    except EmptyResultSet:
        return []
    relation = field.lower().removeprefix("relations.")
    is_relation = relation != field.lower()
    statement = (_OF_RELATIONS if is_relation else _OF_DOCUMENT).format(entities=found)
    rest: list[Any] = [relation] if is_relation else [path_of(field), MAX_VALUE]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*parameters, *rest])
        rows = cursor.fetchall()
    if is_relation:
        hidden = queries.hidden_refs(viewer, {ref for ref, _count in rows})
        rows = [(ref, count) for ref, count in rows if ref not in hidden]
    return [{"value": value, "count": count} for value, count in rows]
