"""Facets: by which values a list can be narrowed, and how many entities each leaves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from catalog.models import Entity
from catalog.query.editing import asked_for, selected_values, without
from catalog.query.errors import QueryError
from catalog.query.fields import FACETS, FIELDS, Field, Ref, Words

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
    """One field to narrow a list by; its most frequent values first.

    :ivar labels: of values, for people, where a definition gives some.
    """

    field: str
    label: _StrOrPromise
    values: list[FacetValue]
    labels: Mapping[str, str] | None = None


def facets(
    queryset_for: Callable[[str], QuerySet[Entity]], text: str, fields: Sequence[str], *, limit: int = LIMIT
) -> list[Facet]:
    """The facets of a query, in one statement. Each ignores what the query asks of its own field.

    :param queryset_for: gives the entities that a query finds for the viewer, such as `search_entities`.
    :param fields: names from `FACETS`.
    :param limit: the most values of a facet; those that are on come in any case.
    :raises QueryError: if the query is wrong, or a field is no facet.
    """
    chosen: dict[Field, set[str]] = {}
    grouped: dict[str, list[Field]] = defaultdict(list)
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
        chosen[field] = selected_values(text, field.name)
        grouped[without(text, field.name)].append(field)
    parts = [(queryset_for(rest), group) for rest, group in grouped.items()]
    on = [f"{field.name}:{value}" for field, values in chosen.items() for value in values]
    counted = _count(parts, limit=limit, on=on)
    return [_facet(field, counted[field.name], values) for field, values in chosen.items()]


Counts = dict[str, list[tuple[str, int]]]


def _count(parts: list[tuple[QuerySet[Entity], list[Field]]], *, limit: int, on: list[str]) -> Counts:
    """The most frequent values of each field, and those that are on, in one statement.

    Fields that are counted over the same entities share one pass over them, by grouping sets; arrays are
    counted whole before they are taken apart, for many are equal.
    """
    statements: list[str] = []
    parameters: list[Any] = []
    for entities, fields in parts:
        columns = [field.column for field in fields]
        rows = entities.order_by().values_list(*columns)
        try:
            sql, arguments = rows.query.sql_with_params()
        except EmptyResultSet:
            continue
        statements.append(_grouped(sql, columns, fields))
        parameters += [*arguments, limit, on]
    counted: Counts = defaultdict(list)
    if statements:
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(statements), parameters)
            for name, value, count in cursor.fetchall():
                counted[name].append((value, int(count)))
    return counted


def _grouped(sql: str, columns: list[str], fields: list[Field]) -> str:
    names = ", ".join(columns)
    sets = ", ".join(f"({column})" for column in columns)
    values = []
    for place, (column, field) in enumerate(zip(columns, fields, strict=True)):
        # GROUPING has a bit for each column, the first the highest; it is 0 for the one that is grouped by.
        mask = (1 << len(columns)) - 1 - (1 << (len(columns) - 1 - place))
        source, value, count, group = "groups", column, "n", ""
        if isinstance(field, Words):
            source = f"groups, LATERAL (SELECT DISTINCT unnest({column})) AS each(element)"
            value = "element"
            count, group = "sum(n)", "GROUP BY element"
        values.append(f"SELECT '{field.name}', {value}, {count} FROM {source} WHERE mask = {mask} {group}")  # noqa: S608
    # Only names from FIELDS and numbers are put in here; what people write is among the parameters.
    return f"""(
        WITH groups AS (
            SELECT {names}, GROUPING({names}) AS mask, count(*) AS n
            FROM ({sql}) AS found({names}) GROUP BY GROUPING SETS ({sets})
        )
        SELECT facet, value, n FROM (
            SELECT *, row_number() OVER (PARTITION BY facet ORDER BY n DESC, value) AS place
            FROM ({" UNION ALL ".join(values)}) AS counted(facet, value, n)
        ) AS ranked WHERE place <= %s OR facet || ':' || lower(value) = ANY(%s)
    )"""  # noqa: S608


def _facet(field: Field, counted: list[tuple[str, int]], chosen: set[str]) -> Facet:
    """The values in order, with those that are on even if nothing is left of them."""
    counted.sort(key=lambda pair: (-pair[1], pair[0]))
    values = [FacetValue(value, count, is_on=bool(asked_for(chosen, value))) for value, count in counted]
    gone = chosen - {value.value.lower() for value in values}
    # A part of a reference, or @me, is no value of its own.
    gone = {value for value in gone if not isinstance(field, Ref) or "/" in value or not value}
    values += [FacetValue(value, 0, is_on=True) for value in sorted(gone)]
    return Facet(field.name, field.label, values)
