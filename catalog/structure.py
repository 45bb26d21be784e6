"""What is odd about how the catalog hangs together: circles, and what hangs on nothing."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from catalog.kinds import current_kinds
from catalog.models import Entity, Relation, Tie, TieState
from catalog.queries import LIGHT, list_entities

MOST_RELATIONS = 300_000
MOST_CYCLES = 100
MOST_MEMBERS = 100  # of a circle, that are named
NEEDS = "needs"


@dataclass(frozen=True, slots=True)
class Cycle:
    """Things that lead round to themselves.

    :ivar relation: the type of relation; `needs` for those by which one breaks with another, together.
    :ivar path: a shortest way round, without its first thing again at the end.
    :ivar size: how many things are tied up with one another in such ways.
    """

    relation: str
    label: str
    path: list[Entity]
    size: int


@dataclass(frozen=True, slots=True)
class Cycles:
    """The circles of all that a viewer may see, the smallest first.

    :ivar is_cut: whether there are more circles or relations than are looked at.
    """

    found: list[Cycle]
    is_cut: bool


def cycles(viewer: Any) -> Cycles:
    """The circles in what needs what, and in each other relation by itself."""
    seen = list_entities(viewer).order_by().values("pk")
    kinds = current_kinds()
    rows = (
        Relation.objects.filter(source__in=seen, target__in=seen)
        .order_by("id")
        .values_list("source_id", "type", "target_id")[: MOST_RELATIONS + 1]
    )
    ways: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    read = 0
    for source, type_, target in rows.iterator(chunk_size=20_000):
        read += 1
        if target is None or read > MOST_RELATIONS:
            continue
        match kinds.impacts.get(type_):
            case "source":
                ways[NEEDS][source].append(target)
            case "target":
                ways[NEEDS][target].append(source)
            case _:
                ways[type_][source].append(target)
    raw = [
        (relation, round_, len(group))
        for relation, graph in ways.items()
        for group in _knots(graph)
        if (round_ := _way_round(graph, group))
    ]
    raw.sort(key=lambda one: (one[2], one[0], one[1]))
    shown = raw[:MOST_CYCLES]
    ids = {pk for _relation, path, _size in shown for pk in path[:MOST_MEMBERS]}
    entities = {one.pk: one for one in list_entities(viewer).filter(pk__in=ids).only(*LIGHT)}
    return Cycles(
        [
            Cycle(
                relation,
                relation if relation == NEEDS else kinds.label(relation),
                [entities[pk] for pk in path[:MOST_MEMBERS] if pk in entities],
                size,
            )
            for relation, path, size in shown
        ],
        is_cut=len(raw) > MOST_CYCLES or read > MOST_RELATIONS,
    )


def _knots(graph: Mapping[int, Sequence[int]]) -> Iterable[set[int]]:
    """The sets of things each of which leads to each other (Tarjan's, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in list(graph):
        if root in index:
            continue
        work = [(root, iter(graph.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(graph.get(other, ()))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    group = set()
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        group.add(member)
                        if member == node:
                            break
                    if len(group) > 1 or node in graph.get(node, ()):
                        yield group


def _way_round(graph: Mapping[int, Sequence[int]], group: set[int]) -> list[int]:
    """A shortest way from the first thing of a knot round to itself."""
    start = min(group)
    before: dict[int, int] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for other in graph.get(node, ()):
            if other == start:
                path = [node]
                while path[-1] != start:
                    path.append(before[path[-1]])
                return path[::-1]
            if other in group and other not in before:
                before[other] = node
                queue.append(other)
    return []


def alone(viewer: Any) -> QuerySet[Entity]:
    """What no relation and no tie leads to or from, of all that the viewer may see."""
    seen = list_entities(viewer).order_by().values("pk")
    rows = list_entities(viewer)
    for edges in (Relation.objects.all(), Tie.objects.exclude(state=TieState.FORBIDDEN)):
        rows = rows.filter(
            ~Exists(edges.filter(source=OuterRef("pk"), target__in=seen).order_by()),
            ~Exists(edges.filter(target=OuterRef("pk"), source__in=seen).order_by()),
        )
    return rows


def ownerless(viewer: Any) -> QuerySet[Entity]:
    """What could have an owner and has none that exists."""
    owned = [
        view.name for view in current_kinds() if any(r.type == "ownedBy" for r in view.definition.relations)
    ]
    there = Relation.objects.filter(source=OuterRef("pk"), type="ownedBy", target__isnull=False).order_by()
    return list_entities(viewer).filter(~Exists(there), kind__in=owned)


LONELY: Mapping[str, Callable[[Any], QuerySet[Entity]]] = {"alone": alone, "ownerless": ownerless}
DANGLING = "dangling"
ORPHANS = (*LONELY, DANGLING)  # what hangs on nothing, as one chooses among it


def dangling(viewer: Any) -> QuerySet[Relation]:
    """Relations to what nothing declares."""
    seen = list_entities(viewer).order_by().values("pk")
    return Relation.objects.filter(target=None, source__in=seen).select_related("source")
