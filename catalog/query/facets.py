"""Facets: by which values a list can be narrowed, and how many entities each leaves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Count, QuerySet, TextField, Value
from django.utils.translation import gettext as _

from catalog.models import Entity
from catalog.query.editing import selected_values, without
from catalog.query.errors import QueryError
from catalog.query.fields import FACETS, FIELDS, Field, Ref

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

LIMIT = 20


@dataclass(frozen=True, slots=True)
class FacetValue:
    """One value of a facet.

    :ivar value: as the query language takes it; empty for entities without the field.
    :ivar count: entities that the query finds with this value instead of what it asks of the field.
    :ivar is_on: whether the query asks for it.
    """

    value: str
    count: int
    is_on: bool = False

    @property
    def label(self) -> str:
        """The value for people."""
        return self.value or _("None")


@dataclass(frozen=True, slots=True)
class Facet:
    """One field to narrow a list by; its most frequent values first."""

    field: str
    label: _StrOrPromise
    values: list[FacetValue]


def facets(
    queryset_for: Callable[[str], QuerySet[Entity]], text: str, fields: Sequence[str], *, limit: int = LIMIT
) -> list[Facet]:
    """The facets of a query, in one statement. Each ignores what the query asks of its own field.

    :param queryset_for: gives the entities that a query finds for the viewer, such as `search_entities`.
    :param fields: names from `FACETS`.
    :param limit: the most values of a facet; those that are on come in any case.
    :raises QueryError: if the query is wrong, or a field is no facet.
    """
    found: list[tuple[Field, set[str]]] = []
    rows: list[QuerySet[Entity, tuple[str, str, int]]] = []
    for name in fields:
        field = FIELDS.get(name.lower())
        if field is None or not field.is_facet:
            raise QueryError(
                _("A list cannot be narrowed by “%(name)s”; expected is %(names)s.")
                % {"name": name, "names": ", ".join(FACETS)},
                position=0,
                expected=", ".join(FACETS),
                got=name,
                parameter="facet",
            )
        chosen = selected_values(text, field.name)
        found.append((field, chosen))
        rows.append(_counts(queryset_for(without(text, field.name)), field, limit + len(chosen)))
    if not rows:
        return []
    counted: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, value, count in rows[0].union(*rows[1:], all=True) if len(rows) > 1 else rows[0]:
        counted[name].append((value, count))
    return [_facet(field, counted[field.name], chosen, limit) for field, chosen in found]


def _counts(entities: QuerySet[Entity], field: Field, limit: int) -> QuerySet[Entity, tuple[str, str, int]]:
    return (
        entities.order_by()
        .annotate(facet=Value(field.name, output_field=TextField()), value=field.values_expression())
        .values("facet", "value")
        .annotate(count=Count("pk"))
        .order_by("-count", "value")
        .values_list("facet", "value", "count")[:limit]
    )


def _facet(field: Field, counted: list[tuple[str, int]], chosen: set[str], limit: int) -> Facet:
    """The first values, and those that are on even if nothing is left of them."""
    counted.sort(key=lambda pair: (-pair[1], pair[0]))
    values = [FacetValue(value, count, is_on=value.lower() in chosen) for value, count in counted]
    values = values[:limit] + [value for value in values[limit:] if value.is_on]
    gone = chosen - {value.value.lower() for value in values}
    # A part of a reference, or @me, is no value of its own.
    gone = {value for value in gone if not isinstance(field, Ref) or "/" in value or not value}
    values += [FacetValue(value, 0, is_on=True) for value in sorted(gone)]
    return Facet(field.name, field.label, values)
