"""Facets: by which values a list can be narrowed, and how many entities each leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from catalog.query.editing import asked_for
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
    """One field to narrow a list by; its most frequent values first.

    :ivar labels: of values, for people, where a definition gives some.
    """

    field: str
    label: _StrOrPromise
    values: list[FacetValue]
    labels: Mapping[str, str] | None = None


def facet_fields(names: Sequence[str]) -> list[Field]:
    """The fields of some facets.

    :raises QueryError: if one is no facet.
    """
    found = []
    for name in names:
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
        found.append(field)
    return found


def make_facet(field: Field, counted: Iterable[tuple[str, int]], chosen: set[str], *, limit: int) -> Facet:
    """The most frequent values in order, with those that are on even if nothing is left of them."""
    ranked = sorted(counted, key=lambda pair: (-pair[1], pair[0]))
    values = []
    for place, (value, count) in enumerate(ranked):
        is_on = bool(chosen and asked_for(chosen, value))
        if place < limit or is_on:
            values.append(FacetValue(value, count, is_on=is_on))
    gone = chosen - {value.value.lower() for value in values}
    # A part of a reference, or @me, is no value of its own.
    gone = {value for value in gone if not isinstance(field, Ref) or "/" in value or not value}
    values += [FacetValue(value, 0, is_on=True) for value in sorted(gone)]
    return Facet(field.name, field.label, values)
