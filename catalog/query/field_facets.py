"""Facets of the fields that are added to kinds: what few values they have, or what they refer to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from catalog.documents.fields import FieldDef
from catalog.models import Entity, Relation
from catalog.query.editing import selected_values, without
from catalog.query.facets import LIMIT, Facet, FacetValue
from catalog.query.tokens import as_text, token


def field_facets(
    queryset_for: Callable[[str], QuerySet[Entity]],
    text: str,
    fields: Sequence[FieldDef],
    *,
    limit: int = LIMIT,
) -> list[Facet]:
    """The facets of some fields, one statement each. Each ignores what the query asks of its own field.

    :param queryset_for: gives the entities that a query finds for the viewer, such as `search_entities`.
    """
    return [
        _of_relation(queryset_for, text, field, limit=limit)
        if field.relation
        else _of_choices(queryset_for, text, field)
        for field in fields
        if field.relation or field.format.is_choice
    ]


def _of_choices(queryset_for: Callable[[str], QuerySet[Entity]], text: str, field: FieldDef) -> Facet:
    chosen = selected_values(text, field.path)
    choices = field.schema.get("enum") or [True, False]
    conditions = [Q(tokens__contains=[token(field.path, value)]) for value in choices]
    conditions.append(~Q(tokens__contains=[token(field.path)]))
    rows = queryset_for(without(text, field.path)).order_by()
    counts = rows.aggregate(**{f"n{n}": Count("pk", filter=q) for n, q in enumerate(conditions)})
    values = [as_text(value) for value in choices] + [""]
    return Facet(
        field.path,
        field.title,
        [
            FacetValue(value, counts[f"n{n}"], is_on=value.lower() in chosen)
            for n, value in enumerate(values)
            if counts[f"n{n}"] or value.lower() in chosen
        ],
        labels={"true": _("Yes"), "false": _("No"), **(field.schema.get("labels") or {})},
    )


def _of_relation(
    queryset_for: Callable[[str], QuerySet[Entity]], text: str, field: FieldDef, *, limit: int
) -> Facet:
    relation: Any = field.relation
    name = relation["type"]
    chosen = selected_values(text, name)
    rows = queryset_for(without(text, name)).order_by().values("pk")
    found = (
        Relation.objects.filter(type=name, source__in=rows)
        .values(ref=Coalesce("target__ref", "target_ref"))
        .annotate(n=Count("source", distinct=True))
        .order_by("-n", "ref")[:limit]
    )
    values = [FacetValue(row["ref"], row["n"], is_on=row["ref"] in chosen) for row in found]
    gone = chosen - {value.value for value in values}
    return Facet(name, field.title, [*values, *(FacetValue(one, 0, is_on=True) for one in sorted(gone))])
