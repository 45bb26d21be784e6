"""`/api/v1/graph/`: what lies around things, what breaks with them, what is odd about how they hang together."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from access.api.permissions import View
from base.answers import chosen, one_answer, plain
from base.errors import BadRequest, FieldError
from base.openapi import FIELDS, IF_NONE_MATCH, PAGE, choice, list_of, part_of
from base.pagination import rows_answer
from catalog import graph, queries, structure
from catalog.api.parameters import kinds, number, words
from catalog.api.views import by_refs
from catalog.models import Entity, Relation

MOST_ROOTS = 20


class ThingOut(serializers.Serializer[Any]):
    ref = serializers.CharField()
    uid = serializers.UUIDField()
    kind = serializers.CharField()
    title = serializers.CharField()
    type = serializers.CharField(allow_blank=True)
    owner = serializers.CharField(allow_blank=True, help_text="Ref of the owner.")


class NodeOut(ThingOut):
    level = serializers.IntegerField(help_text="Steps from what was asked for.")
    more = serializers.IntegerField(help_text="Things next to it that are not in the graph.")
    is_open = serializers.BooleanField(help_text="Whether one walked on from it.")


class EdgeOut(serializers.Serializer[Any]):
    source = serializers.CharField(help_text="Ref.")  # type: ignore[assignment]
    type = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    target = serializers.CharField(help_text="Ref; of something missing too.")
    is_tie = serializers.BooleanField()


class GraphOut(serializers.Serializer[Any]):
    nodes = NodeOut(many=True)
    edges = EdgeOut(many=True)
    missing = serializers.ListField(
        child=serializers.CharField(), help_text="Refs that something names and nothing declares."
    )
    kinds = serializers.DictField(child=serializers.IntegerField(), help_text="How many of each kind.")
    relations = serializers.DictField(child=serializers.IntegerField(), help_text="How many of each type.")
    is_cut = serializers.BooleanField(help_text="Whether there is more than fits.")


class HitOut(ThingOut):
    level = serializers.IntegerField(help_text="Steps from what goes.")
    effect = serializers.ChoiceField(["breaks", "misses-part"])
    by = serializers.CharField(help_text="Ref of what it is hit by.")
    relation = serializers.CharField(help_text="Of it to that.")


class OwnerOut(serializers.Serializer[Any]):
    ref = serializers.CharField(allow_blank=True, help_text="Empty: nobody owns these.")
    title = serializers.CharField(allow_blank=True)
    email = serializers.CharField(allow_blank=True)
    entities = serializers.ListField(child=serializers.CharField(), help_text="Refs.")


class ImpactOut(serializers.Serializer[Any]):
    entity = serializers.CharField()
    broken = serializers.IntegerField(help_text="How many break.")
    hits = HitOut(many=True)
    owners = OwnerOut(many=True)
    is_cut = serializers.BooleanField(help_text="Whether there is more than is named.")


class CycleOut(serializers.Serializer[Any]):
    relation = serializers.CharField(help_text="A type of relation, or `needs`: all by which things break.")
    size = serializers.IntegerField(help_text="How many things lead to one another.")
    path = serializers.ListField(child=serializers.CharField(), help_text="A shortest way round, of refs.")


class CyclesOut(serializers.Serializer[Any]):
    cycles = CycleOut(many=True)
    is_cut = serializers.BooleanField()


class OrphanOut(ThingOut):
    relation = serializers.CharField(required=False, help_text="Of `dangling`: what leads nowhere.")
    target = serializers.CharField(required=False, help_text="Of `dangling`: the ref that nothing declares.")


OrphanListOut = list_of("OrphanListOut", OrphanOut)


def _refs(request: Request, name: str, *, least: int, most: int) -> list[str]:
    """:raises BadRequest: if there are too few or too many."""
    refs = words(request, name)
    if not least <= len(refs) <= most:
        raise BadRequest(
            _("`%(name)s` takes %(least)d to %(most)d refs, but %(count)d came.")
            % {"name": name, "least": least, "most": most, "count": len(refs)},
            errors=[FieldError(name, _("Expected refs."), expected="component:default/pay")],
        )
    return refs


class Graph(View):
    """What lies around things."""

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "entity", str, required=True, description=f"Refs to begin with, at most {MOST_ROOTS}."
            ),
            OpenApiParameter(
                "depth",
                {"type": "integer", "minimum": 1, "maximum": graph.MOST_DEPTH, "default": 2},
                description="How many steps to walk.",
            ),
            choice("direction", graph.Direction),
            OpenApiParameter("kind", str, description="The only kinds to show, with commas between them."),
            OpenApiParameter("relation", str, description="The only relations to follow, in either name."),
            OpenApiParameter(
                "open", str, description="Refs of things to walk on from, however far they are."
            ),
            OpenApiParameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": graph.MOST_NODES, "default": graph.MOST_NODES},
                description="Things at most.",
            ),
            FIELDS,
            IF_NONE_MATCH,
        ],
        responses={200: part_of(GraphOut), 304: None},
        operation_id="graph",
        description="What relations and ties lead to and from, as far as the viewer may see. Teams and people on the "
        "way are shown, but not walked through unless `relation` or `open` says so.",
    )
    def get(self, request: Request) -> HttpResponse:
        refs = _refs(request, "entity", least=1, most=MOST_ROOTS)
        directions = chosen(request, "direction", list(graph.Direction))
        found = graph.explore(
            request.user,
            by_refs(request, refs, "entity"),
            depth=number(request, "depth", default=2, least=1, most=graph.MOST_DEPTH),
            direction=graph.Direction(directions[0]) if directions else graph.Direction.BOTH,
            kinds=kinds(request),
            relations=words(request, "relation"),
            opened=[ref.lower() for ref in _refs(request, "open", least=0, most=graph.MOST_OPEN)],
            most=number(request, "limit", default=graph.MOST_NODES, least=1, most=graph.MOST_NODES),
        )
        nodes = [
            plain(NodeOut, node.entity, level=node.level, more=node.more, is_open=node.is_open)
            for node in found.nodes
        ]
        edges = [plain(EdgeOut, edge) for edge in found.edges]
        return one_answer(request, plain(GraphOut, found, nodes=nodes, edges=edges))


class EntityImpact(View):
    """What breaks if an entity goes."""

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(ImpactOut), 304: None},
        operation_id="entities_impact",
        description="What breaks if it goes, nearest first, however far away, and whom to tell. A whole that misses a "
        "part goes on; what needs it is named too. The types of relations say what breaks (`spec.impact`).",
    )
    def get(self, request: Request, **names: str) -> HttpResponse:
        found = graph.impact_of(request.user, queries.get_entity(request.user, **names))
        return one_answer(
            request,
            {
                "entity": found.entity.ref,
                "broken": found.broken,
                "hits": [
                    plain(
                        HitOut,
                        hit.entity,
                        level=hit.level,
                        effect="breaks" if hit.is_broken else "misses-part",
                        by=hit.by.ref,
                        relation=hit.type,
                    )
                    for hit in found.hits
                ],
                "owners": [
                    {
                        "ref": owner.ref,
                        "title": owner.entity.title if owner.entity else "",
                        "email": owner.email,
                        "entities": [hit.entity.ref for hit in owner.hits],
                    }
                    for owner in found.owners
                ],
                "is_cut": found.is_cut,
            },
        )


class Cycles(View):
    """Things that lead round to themselves."""

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(CyclesOut), 304: None},
        operation_id="graph_cycles",
        description="The circles in what needs what, and in each other relation by itself, of all that the viewer may "
        "see; the smallest first.",
    )
    def get(self, request: Request) -> HttpResponse:
        found = structure.cycles(request.user)
        return one_answer(
            request,
            {
                "cycles": [
                    {"relation": one.relation, "size": one.size, "path": [e.ref for e in one.path]}
                    for one in found.found
                ],
                "is_cut": found.is_cut,
            },
        )


def _lonely(entity: Entity) -> dict[str, Any]:
    return plain(ThingOut, entity)


def _leading_nowhere(row: Relation) -> dict[str, Any]:
    return plain(OrphanOut, row.source, relation=row.type, target=row.target_ref)


class Orphans(View):
    """What hangs on nothing."""

    @extend_schema(
        parameters=[
            choice("type", structure.ORPHANS),
            OpenApiParameter("kind", str, description="Only of these kinds, with commas between them."),
            *PAGE,
        ],
        responses={200: OrphanListOut, 304: None},
        operation_id="graph_orphans",
        description="`alone` (if nothing is chosen): what no relation or tie leads to or from. `ownerless`: what could "
        "have an owner and has none that exists. `dangling`: relations to what nothing declares.",
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = (chosen(request, "type", structure.ORPHANS) or structure.ORPHANS)[0]
        named = kinds(request)
        if wanted == structure.DANGLING:
            edges = structure.dangling(request.user)
            edges = edges.filter(source__kind__in=named) if named else edges
            return rows_answer(request, edges, ("id",), _leading_nowhere)
        rows = structure.LONELY[wanted](request.user)
        rows = rows.filter(kind__in=named) if named else rows
        return rows_answer(request, rows.only(*queries.LIGHT), ("ref",), _lonely)
