"""The catalog as a graph: what lies around an entity, and what breaks if it goes.

Both walk along relations and ties level by level, one statement a level, of what the viewer may see: what they may
not see is not there, and nothing is reached through it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import BooleanField, F, QuerySet, Value
from django.utils.translation import gettext as _

from base.errors import BadRequest, FieldError
from catalog.kinds import current_kinds
from catalog.models import Entity, Relation, Served, Tie, TieState
from catalog.queries import LIGHT, list_entities
from catalog.query.relations import directions, directions_called
from catalog.services.people import email_of

MOST_NODES = 500  # of a graph that stays fluid in a browser
MOST_EDGES = 4_000
MOST_STEPS = 20_000  # relations read on one level
MOST_DEPTH = 6
MOST_OPEN = 30
MOST_LEVELS = 100  # of an impact
MOST_HIT = 2_000

# Who owns much is where much meets: shown on the way, but no way through.
ENDS = frozenset({"group", "user"})


class Direction(StrEnum):
    """Along which relations one walks: those that the thing names, those that name it, or both."""

    BOTH = "both"
    OUT = "out"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Step:
    """One relation or tie from a thing that was reached to another.

    :ivar near: id of the one, `far`: of the other.
    :ivar type: as stored, in the direction of `is_out`: the near one names the far one.
    """

    near: int
    far: int
    type: str
    is_out: bool
    is_tie: bool
    kind: str
    ref: str


def _union(
    near: Collection[int], seen: QuerySet[Entity], types: Collection[str], direction: Direction
) -> QuerySet[Any]:
    """Relations and ties of some things, each way, of what is seen, as rows like `Step`."""
    found = []
    for model, is_tie in ((Relation, False), (Tie, True)):
        for here, there, is_out in (("source", "target", True), ("target", "source", False)):
            if direction not in (Direction.BOTH, Direction.OUT if is_out else Direction.IN):
                continue
            rows: Any = model._default_manager.filter(
                **{f"{here}__in": near, f"{there}__in": seen.order_by().values("pk")}
            )
            if types:
                rows = rows.filter(type__in=types)
            if is_tie:
                rows = rows.exclude(state=TieState.FORBIDDEN)
            found.append(
                rows.order_by()
                .annotate(
                    near=F(f"{here}_id"),
                    far=F(f"{there}_id"),
                    is_out=Value(is_out, BooleanField()),
                    is_tie=Value(is_tie, BooleanField()),
                    kind=F(f"{there}__kind"),
                    ref=F(f"{there}__ref"),
                )
                .values_list("near", "far", "type", "is_out", "is_tie", "kind", "ref")
            )
    first, *others = found
    return first.union(*others, all=True)


def _steps(
    near: Collection[int],
    seen: QuerySet[Entity],
    types: Collection[str] = (),
    direction: Direction = Direction.BOTH,
    *,
    most: int = MOST_STEPS,
) -> list[Step]:
    """The relations and ties of some things, in one statement, in a lasting order."""
    rows = _union(near, seen, types, direction)
    return [Step(*row) for row in rows.order_by("near", "type", "ref", "is_out", "is_tie")[:most]]


# --- what lies around ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """A thing in a graph.

    :ivar level: how many steps from where one began.
    :ivar more: how many things that are not in the graph are next to it.
    :ivar is_open: whether one walked on from it.
    """

    entity: Entity
    level: int
    more: int
    is_open: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """A relation or tie in a graph, as it is stored. A missing target has no entity, but a ref."""

    source: str
    target: str
    type: str
    label: str
    is_tie: bool


@dataclass
class Graph:
    """What lies around some things.

    :ivar missing: refs of what something names and nothing declares.
    :ivar is_cut: whether there is more than fits.
    """

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    is_cut: bool = False

    @property
    def kinds(self) -> dict[str, int]:
        """How many there are of each kind, the most first."""
        return _counted(node.entity.kind for node in self.nodes)

    @property
    def relations(self) -> dict[str, int]:
        """How many there are of each type of relation, the most first."""
        return _counted(edge.type for edge in self.edges)


def _counted(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for word in words:
        counts[word] += 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def explore(
    viewer: Any,
    roots: Sequence[Entity],
    *,
    depth: int = 2,
    direction: Direction = Direction.BOTH,
    kinds: Collection[str] = (),
    relations: Collection[str] = (),
    opened: Collection[str] = (),
    most: int = MOST_NODES,
) -> Graph:
    """What lies around some things, nearest first.

    Teams and people on the way are shown but not walked through, unless one names the relations to follow.

    :param kinds: the only kinds to show and walk through; the things that one begins with are shown anyway.
    :param relations: the only types of relations and ties to follow, as stored or as their inverse is called.
    :param opened: refs of things to walk on from however far they are.
    """
    seen = list_entities(viewer)
    if kinds:
        seen = seen.filter(kind__in=kinds)
    types = stored_types(relations)
    graph = Graph()
    levels = {root.pk: 0 for root in roots}
    walked: set[int] = set()
    frontier = list(levels)
    level = 0
    while frontier:
        level += 1
        steps = _steps(frontier, seen, types, direction)
        graph.is_cut |= len(steps) == MOST_STEPS
        walked.update(frontier)
        following: dict[int, None] = {}
        for step in steps:
            if step.far in levels:
                continue
            if len(levels) >= most:
                graph.is_cut = True
                break
            levels[step.far] = level
            is_way = level < depth and (step.kind not in ENDS or bool(types))
            if is_way or step.ref in opened:
                following[step.far] = None
        frontier = list(following)
    return _drawn(viewer, graph, levels, walked, kinds=kinds, types=types, direction=direction, most=most)


def _drawn(
    viewer: Any,
    graph: Graph,
    levels: dict[int, int],
    walked: set[int],
    *,
    kinds: Collection[str],
    types: Collection[str],
    direction: Direction,
    most: int,
) -> Graph:
    """The graph of the things that were reached, with all that is between them."""
    seen = list_entities(viewer)
    entities = {one.pk: one for one in seen.filter(pk__in=levels).only(*LIGHT)}
    levels = {pk: level for pk, level in levels.items() if pk in entities}  # some may have gone meanwhile
    more = _beyond(viewer, levels, kinds=kinds, types=types, direction=direction)
    graph.nodes = [
        Node(entities[pk], level, more.get(pk, 0), pk in walked)
        for pk, level in sorted(levels.items(), key=lambda pair: (pair[1], entities[pair[0]].ref))
    ]
    between = _steps(
        list(levels), Entity.objects.filter(pk__in=levels), types, Direction.OUT, most=MOST_EDGES + 1
    )
    graph.is_cut |= len(between) > MOST_EDGES
    label = current_kinds().label
    graph.edges = [
        Edge(entities[step.near].ref, entities[step.far].ref, step.type, label(step.type), step.is_tie)
        for step in between[:MOST_EDGES]
    ]
    if direction != Direction.IN:
        dangling = Relation.objects.filter(source__in=walked & levels.keys(), target=None)
        if types:
            dangling = dangling.filter(type__in=types)
        rows = dangling.order_by("target_ref", "source__ref", "type")
        for source, type_, ref in rows.values_list("source_id", "type", "target_ref")[:MOST_EDGES]:
            if kinds and ref.partition(":")[0] not in kinds:
                continue
            if ref not in graph.missing:
                if len(graph.nodes) + len(graph.missing) >= most:
                    graph.is_cut = True
                    continue
                graph.missing.append(ref)
            graph.edges.append(Edge(entities[source].ref, ref, type_, label(type_), is_tie=False))
    return graph


def _beyond(
    viewer: Any,
    levels: Collection[int],
    *,
    kinds: Collection[str],
    types: Collection[str],
    direction: Direction,
) -> dict[int, int]:
    """How many things next to each are not in the graph."""
    others = list_entities(viewer).exclude(pk__in=levels)
    if kinds:
        others = others.filter(kind__in=kinds)
    union = _union(list(levels), others, types, direction)
    try:
        sql, params = union.query.sql_with_params()
    except EmptyResultSet:  # who may see nothing
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT near, count(DISTINCT far) FROM ({sql}) AS steps GROUP BY near",  # noqa: S608 - Django's
            params,
        )
        return dict(cursor.fetchall())


def all_types() -> frozenset[str]:
    """The types of relations and ties that are defined, as they are stored."""
    return frozenset(way.type for ways in directions().values() for way in ways)


def stored_types(names: Iterable[str]) -> frozenset[str]:
    """The types of relations that some names mean, which may be those of the inverses.

    :raises BadRequest: if there is no such relation.
    """
    found = set()
    for name in names:
        ways = directions_called(name)
        if not ways:
            raise BadRequest(
                _("There is no relation “%(name)s”.") % {"name": name[:60]},
                errors=[FieldError("relation", _("Unknown."), got=name[:60])],
            )
        found |= {way.type for way in ways}
    return frozenset(found)


# --- what breaks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that breaks if a thing goes, or that misses a part.

    :ivar level: how many steps from what goes.
    :ivar by: what it is hit by: the thing before it on the shortest way.
    :ivar label: how it reads from here to there: "depends on", "part of".
    :ivar is_broken: whether it stops; else it goes on without a part of it.
    """

    entity: Entity
    level: int
    by: Entity
    type: str
    label: str
    is_broken: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom to tell, of which things of theirs. Without a ref: of what nobody owns.

    :ivar entity: None if nothing declares the owner, or the viewer may not see it.
    """

    ref: str
    entity: Entity | None
    email: str
    hits: list[Hit]


@dataclass(frozen=True, slots=True)
class Impact:
    """What breaks if a thing goes, nearest first, and whom to tell, the most hit first."""

    entity: Entity
    hits: list[Hit]
    owners: list[Owner]
    is_cut: bool

    @property
    def broken(self) -> int:
        return sum(hit.is_broken for hit in self.hits)


def impact_of(viewer: Any, entity: Entity) -> Impact:
    """What breaks if an entity goes, as the types of relations say (`spec.impact`), however far away.

    What is hit breaks what needs it in turn. A whole that misses a part is hit but not broken: what needs it is told,
    its other parts are not.
    """
    rules = current_kinds().impacts
    seen = list_entities(viewer)
    # id -> (level, by, step, is_broken); who is broken by one way is not spared by another of the same level.
    hits: dict[int, tuple[int, int, Step, bool]] = {}
    frontier = {entity.pk: True}
    level, is_cut = 0, False
    while frontier and not is_cut:
        level += 1
        steps = _steps(list(frontier), seen, list(rules))
        is_cut = len(steps) == MOST_STEPS or (bool(steps) and level > MOST_LEVELS)
        following: dict[int, bool] = {}
        for step in steps:
            breaks = _breaks(rules[step.type], step, by_broken=frontier[step.near])
            known = hits.get(step.far)
            if breaks is None or step.far == entity.pk or (known and (known[3] or not breaks)):
                continue
            if known is None and len(hits) >= MOST_HIT:
                is_cut = True
                break
            hits[step.far] = (level, step.near, step, breaks)
            following[step.far] = breaks
        frontier = following
    return _told(viewer, entity, hits, is_cut)


def _breaks(rule: str, step: Step, *, by_broken: bool) -> bool | None:
    """Whether a step leads to what breaks; None if it leads to nothing that is hit."""
    if rule == "target":
        return True if step.is_out else None
    if (
        not step.is_out
    ):  # what names the near one needs it; of a whole that only misses a part no other part does
        return True if rule == "source" or by_broken else None
    return False if rule == "part" else None


def _told(
    viewer: Any, entity: Entity, reached: dict[int, tuple[int, int, Step, bool]], is_cut: bool
) -> Impact:
    entities = {one.pk: one for one in list_entities(viewer).filter(pk__in=reached).only(*LIGHT)}
    entities[entity.pk] = entity
    kinds = current_kinds()
    hits = []
    for pk, (level, near, step, is_broken) in reached.items():
        if pk not in entities or near not in entities:  # gone meanwhile
            continue
        type_ = kinds.inverse(step.type) if step.is_out else step.type
        hits.append(Hit(entities[pk], level, entities[near], type_, kinds.label(type_), is_broken))
    hits.sort(key=lambda hit: (hit.level, not hit.is_broken, hit.entity.ref))
    by_owner: dict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        by_owner[hit.entity.owner].append(hit)
    rows = list_entities(viewer).filter(ref__in=[ref for ref in by_owner if ref])
    known = {one.ref: one for one in rows.only(*LIGHT)}
    emails = _emails([one.pk for one in known.values()])
    owners = [
        Owner(ref, known.get(ref), emails.get(known[ref].pk, "") if ref in known else "", theirs)
        for ref, theirs in by_owner.items()
    ]
    owners.sort(key=lambda owner: (not owner.ref, -len(owner.hits), owner.ref))
    return Impact(entity, hits, owners, is_cut)


def _emails(ids: Collection[int]) -> dict[int, str]:
    """The addresses of some teams and people."""
    rows = Served.objects.filter(entity__in=ids).values_list("entity_id", "document")
    return {pk: email_of(orjson.loads(text)) for pk, text in rows}
