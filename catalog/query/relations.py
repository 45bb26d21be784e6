"""Names of relations and ties in queries, in both directions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from django.db.models import F, Q, QuerySet, Value

from access.definitions import definitions_stamp
from catalog.kinds import current_kinds
from catalog.models import Entity, Kind, KindField, Relation, RelationType, Tie, TieState
from catalog.query.conditions import Like
from catalog.query.refs import RefPattern


@dataclass(frozen=True, slots=True)
class Direction:
    """One way along a type of relation or tie.

    :ivar name: of this way, as written: `dependsOn`, `dependencyOf`.
    :ivar type: as stored.
    :ivar is_inverse: from the target back to the source.
    """

    name: str
    type: str
    is_inverse: bool

    def entities(
        self, patterns: Sequence[RefPattern] = (), *, seen: QuerySet[Entity, int] | None = None
    ) -> Q:
        """Entities with such a relation or tie to what matches a pattern; without patterns: to anything.

        :param seen: the only entities that may be at the other end; what does not exist may be there, too.
        """
        near, far = ("target", "source") if self.is_inverse else ("source", "target")
        relations = Relation.objects.filter(type=self.type)
        ties = Tie.objects.filter(type=self.type, **{f"{far}__deleted_at": None})
        ties = ties.exclude(state=TieState.FORBIDDEN)
        if self.is_inverse:
            relations = relations.filter(target__isnull=False)
        if seen is not None:
            ties = ties.filter(**{f"{far}__in": seen})
            relations = relations.filter(Q(**{f"{far}__isnull": True}) | Q(**{f"{far}__in": seen}))
        by_ref = _matching(f"{far}__ref", patterns)
        found: list[QuerySet[Relation] | QuerySet[Tie]] = [ties.filter(by_ref)]
        found.append(relations.filter(by_ref))
        if patterns and not self.is_inverse:
            # By the text too, for the target may not exist, or may have been renamed.
            found.append(relations.filter(_matching("target_ref", patterns)))
        first, *others = (rows.order_by().values(f"{near}_id") for rows in found)
        return Q(pk__in=first.union(*others, all=True))


def _matching(column: str, patterns: Sequence[RefPattern]) -> Q:
    exact = [ref for pattern in patterns if (ref := pattern.exact) is not None]
    found = [Q(Like(F(column), Value(pattern.like()))) for pattern in patterns if pattern.exact is None]
    if exact:
        found.append(Q(**{f"{column}__in": exact}))
    return reduce(or_, found, Q())


_known: tuple[object, Mapping[str, tuple[Direction, ...]]] | None = None


def directions() -> Mapping[str, tuple[Direction, ...]]:
    """The relations that the catalog's definitions name, by lower-case name; at most a second old."""
    global _known
    stamp = tuple(definitions_stamp(model) for model in (RelationType, Kind, KindField))
    known = _known  # another thread may forget it meanwhile
    if known is None or known[0] != stamp:
        named: list[tuple[str, Mapping[str, str]]] = list(RelationType.objects.values_list("name", "spec"))
        # Fields may declare a relation from its other end, such as `dependencyOf`: then it is stored under that name.
        types = {spec.get("type") or name for name, spec in named}
        rules = {rule.type: rule for kind in current_kinds() for rule in kind.definition.relations}
        named += [(name, {"inverse": rule.inverse}) for name, rule in rules.items() if name not in types]
        known = _known = stamp, directions_of(named)
    return known[1]


def directions_called(name: str) -> tuple[Direction, ...]:
    """The ways of this name, in any case; none if there is no such relation, after a fresh look."""
    if ways := directions().get(name.lower()):
        return ways
    forget_directions()
    return directions().get(name.lower(), ())


def forget_directions() -> None:
    """Read the definitions anew when they are asked for next."""
    global _known
    _known = None


def directions_of(definitions: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, tuple[Direction, ...]]:
    """Both ways of each definition of a relation; a name may belong to several."""
    found: dict[str, list[Direction]] = defaultdict(list)
    for name, spec in definitions:
        type_ = spec.get("type") or name
        inverse = spec.get("inverse") or type_
        found[type_.lower()].append(Direction(type_, type_, is_inverse=False))
        found[inverse.lower()].append(Direction(inverse, type_, is_inverse=True))
    return {name: tuple(ways) for name, ways in found.items()}
