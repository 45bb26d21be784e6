"""`/api/v1/` of the catalog. Views turn a request into one call and the result into JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import orjson
from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    PolymorphicProxySerializer,
    extend_schema,
    extend_schema_view,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from access.api.authentication import TokenAuthentication
from access.api.permissions import View, person_of
from access.permissions import can, visible
from base.answers import chosen, given, if_match, is_set, json_answer, one_answer, pick, plain, wanted_fields
from base.api import JSONRenderer, dump_json
from base.errors import BadRequest, DomainError, FieldError, InvalidInput, NotFound
from base.openapi import FIELDS, IF_MATCH, IF_NONE_MATCH, LIMIT, PAGE, choice, part_of
from base.pagination import Page, paginate, read_limit, rows_answer
from catalog import failing, feed, past, queries
from catalog.api import serializers as shapes
from catalog.api.events import EventsAlone, EventStream, EventStreamRenderer, events_response
from catalog.deletion import deletion_of
from catalog.documents import InvalidRef
from catalog.models import PROBLEM_TYPES, Activity, Alias, Entity, Kind, RelationType, Tie, TieState
from catalog.permissions import Planned
from catalog.query import FIELD_KEY, TITLE, order_by, sortable
from catalog.services import bulk_edit, bulk_fields, bulk_plans, edit, joining, naming, problems, restoring
from catalog.services.render import splice
from catalog.statuses import ACTIVITY_STATUSES, STATUSES
from catalog.unknown import mapped_names

QUERY = OpenApiParameter("q", str, description="A query, see docs/query-language.md.")
OF_QUERY = OpenApiParameter("q", str, description="Only of entities that a query finds.")
ORDER = OpenApiParameter("order", str, description="Fields with commas between them, `-` for descending.")
LIST = [QUERY, ORDER, *PAGE]


class EntityList(View):
    """Entities: found by a query, or declared."""

    verbs = {"GET": "entity.read", "POST": "entity.write"}

    @extend_schema(
        operation_id="entities_list",
        parameters=LIST,
        responses={200: shapes.EntityListOut, 304: None},
        description="Entities in pages, as the viewer may see them.",
    )
    def get(self, request: Request) -> HttpResponse:
        found = queries.search_entities(request.user, request.query_params.get("q", ""))
        order = order_by(request.query_params.get("order"))
        limit = read_limit(request.query_params.get("limit"))
        columns = {*_KEYSET, *(name.lstrip("-") for name in order), "served__document", "served__relations"}
        stored = {name for name in columns if name != TITLE and not name.startswith(FIELD_KEY)}
        rows = sortable(found, order).select_related("served").only(*stored)
        page = paginate(rows, order=order, limit=limit, cursor=request.query_params.get("cursor"))
        total = found.order_by().count()
        return json_answer(request, _list_body(request, _texts(request, page.rows), page, total))

    @extend_schema(
        operation_id="entities_upsert",
        request=PolymorphicProxySerializer(
            "Upsert", [shapes.EntityIn, shapes.EntitiesIn, shapes.EntityIn(many=True)], None, many=False
        ),
        responses={200: shapes.UpsertOut, (422, "application/json"): shapes.UpsertOut},
        parameters=[
            OpenApiParameter("dry_run", bool, description="Only say what would happen."),
            IF_MATCH,
        ],
        description=(
            "Declare one entity, or up to 1,000 as a list. A wrong one is reported, the others go in; "
            "where all are wrong, the status is 422. Of one entity the first good document counts, and any "
            "further one is refused. If-Match is for one entity alone."
        ),
    )
    def post(self, request: Request) -> Response:
        data = request.data
        documents = (
            data
            if isinstance(data, list)
            else data.get("entities", [data])
            if isinstance(data, dict)
            else None
        )
        if documents is None or not isinstance(documents, list):
            raise InvalidInput(_("Expected an entity, a list of entities, or an object with `entities`."))
        results = edit.upsert_documents(
            user=request.user,
            documents=documents,
            expected=if_match(request),
            dry_run=is_set(request, "dry_run"),
        )
        refused = sum(result.outcome == "refused" for result in results)
        return Response(
            {
                "accepted": len(results) - refused,
                "refused": refused,
                "results": [
                    {
                        "ref": result.ref,
                        "outcome": result.outcome,
                        "uid": str(result.entity.uid) if result.entity else None,
                        "errors": [error.as_dict() for error in result.errors],
                    }
                    for result in results
                ],
            },
            status=422 if results and refused == len(results) else 200,
        )


class EntityOwners(View):
    """Whose many things are."""

    verbs = {"POST": "entity.write"}

    @extend_schema(
        operation_id="entities_set_owners",
        request=shapes.OwnersIn,
        responses=shapes.OwnersOut,
        parameters=[OpenApiParameter("dry_run", bool, description="Only say what would happen.")],
        description="Set the owner of up to 1,000 things as your word, in one change. What you may not change, "
        "what another person overrides and what can have no owner is named and left as it is.",
    )
    def post(self, request: Request) -> Response:
        data = given(request, shapes.OwnersIn)
        entities = _chosen(request, data)
        owner = by_ref(request, data["owner"], "owner")
        if is_set(request, "dry_run"):
            plan = bulk_edit.plan_owners(user=request.user, entities=entities, owner=owner)
        else:
            plan = bulk_edit.set_owners(
                user=request.user, entities=entities, owner=owner, reason=data.get("reason", "")
            )
        return Response(
            {
                "owner": plan.owner.ref,
                "changed": len(plan.changing),
                "results": [shapes.planned(row) for row in plan.rows],
            }
        )


class EntityFields(View):
    """One field of many things."""

    verbs = {"POST": "entity.write"}

    @extend_schema(
        operation_id="entities_change_fields",
        request=shapes.FieldsIn,
        responses=shapes.FieldsOut,
        parameters=[OpenApiParameter("dry_run", bool, description="Only say what would happen.")],
        description="Set a field of up to 1,000 things, add to a list or remove from it, or clear it, as your word, "
        "in one change. What cannot be changed is named and left as it is.",
    )
    def post(self, request: Request) -> Response:
        data = given(request, shapes.FieldsIn)
        entities = _chosen(request, data)
        change = bulk_fields.check_change(data["path"], data["action"], data.get("value"))
        if is_set(request, "dry_run"):
            plan = bulk_fields.plan_fields(user=request.user, entities=entities, change=change)
        else:
            plan = bulk_fields.change_fields(
                user=request.user, entities=entities, change=change, reason=data.get("reason", "")
            )
        results = [shapes.planned_field(row) for row in plan.rows]
        return Response({"changed": len(plan.changing), "results": results})


class NameList(View):
    """Names that nothing declares, and what people say that they mean."""

    verbs = {"GET": "entity.read", "POST": "entity.write"}

    @extend_schema(parameters=PAGE, responses={200: shapes.NameListOut, 304: None}, operation_id="names_list")
    def get(self, request: Request) -> HttpResponse:
        def seen(rows: list[Alias]) -> list[Alias]:
            return [row for row in rows if can(request.user, "entity.read", Planned(row.ref))]

        return rows_answer(request, mapped_names(request.user), ("ref",), shapes.name, seen=seen)

    @extend_schema(
        request=shapes.NameIn,
        responses={201: shapes.NameOut},
        operation_id="names_map",
        description="Say which group or user a name means; all that mentions it follows, now and later.",
    )
    def post(self, request: Request) -> Response:
        data = given(request, shapes.NameIn)
        alias = naming.map_name(
            user=request.user,
            ref=data["ref"],
            target=by_ref(request, data["target"], "target"),
            reason=data.get("reason", ""),
        )
        return Response(shapes.name(alias), status=201)


class NameDetail(View):
    """What a name means."""

    verbs = {"DELETE": "entity.write"}

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="names_unmap",
        description="Take back what somebody said that a name means.",
    )
    def delete(self, request: Request, **names: str) -> Response:
        naming.unmap_name(user=request.user, ref="{kind}:{namespace}/{name}".format(**names))
        return Response(status=204)


class NameOwner(View):
    """The group or person that a name means, made by hand."""

    verbs = {"POST": "entity.write", "DELETE": "entity.write"}

    @extend_schema(
        request=shapes.OwnerIn,
        responses={201: shapes.EntityOut},
        operation_id="names_create",
        description="Make the group or person that a name means, as your word; all that names it follows.",
    )
    def post(self, request: Request, **names: str) -> Response:
        data = given(request, shapes.OwnerIn)
        made = naming.create_owner(
            user=request.user,
            ref="{kind}:{namespace}/{name}".format(**names),
            name=data.get("name", ""),
            title=data.get("title", ""),
            members=by_refs(request, data.get("members", ()), "members"),
        )
        return Response(queries.documents(request.user, [made])[made.pk], status=201)

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="names_withdraw",
        description="Take back that somebody made a group or person by hand; other sources may keep it.",
    )
    def delete(self, request: Request, **names: str) -> Response:
        naming.withdraw_created(user=request.user, entity=queries.get_entity(request.user, **names))
        return Response(status=204)


_KEYSET = ("id", "uid", "ref", "namespace")


def _texts(request: Request, entities: list[Entity]) -> list[str]:
    """The entities' JSON. Who sees everything gets the stored texts; for others hidden relations are left out."""
    wanted = wanted_fields(request)
    relations = queries.seen_relations(
        request.user, {entity.pk: entity.served.relations for entity in entities}
    )
    texts = [splice(entity.served.document, relations[entity.pk]) for entity in entities]
    if wanted is None:
        return texts
    return [orjson.dumps(pick(orjson.loads(text), wanted)).decode() for text in texts]


def _list_body(request: Request, texts: list[str], page: Page[Any], total: int) -> bytes:
    head = dump_json(
        {
            "next": _link(request, page.next),
            "previous": _link(request, page.previous),
            "total": total,
        }
    )
    return b'{"results":[' + ",".join(texts).encode() + b"]," + head[1:]


def _link(request: Request, cursor: str | None) -> str | None:
    return replace_query_param(request.build_absolute_uri(), "cursor", cursor) if cursor else None


class EntityDetail(View):
    """One entity, by its names."""

    verbs = {"GET": "entity.read", "PATCH": "entity.write", "DELETE": "entity.write"}

    def _entity(self, request: Request, **names: Any) -> Entity:
        return queries.get_entity(request.user, **{name: str(value) for name, value in names.items()})

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: shapes.EntityOut, 304: None},
        description="One entity; its ETag is for If-Match.",
    )
    def get(self, request: Request, **names: str) -> HttpResponse:
        entity = self._entity(request, **names)
        document = queries.documents(request.user, [entity])[entity.pk]
        return one_answer(request, document, state=edit.etag_of(entity))

    @extend_schema(
        operation_id="entities_override",
        request=shapes.OverrideIn,
        responses=shapes.EntityOut,
        parameters=[IF_MATCH],
        description="Override fields, as a person does in the browser: {path: value}; null takes an override back.",
    )
    def patch(self, request: Request, **names: str) -> HttpResponse:
        entity = self._entity(request, **names)
        data = given(request, shapes.OverrideIn)
        overrides = data["overrides"]
        edit.change_overrides(
            user=request.user,
            entity=entity,
            values={path: value for path, value in overrides.items() if value is not None},
            dropped=[path for path, value in overrides.items() if value is None],
            reason=data.get("reason", ""),
            expected=if_match(request),
        )
        return self.get(request, **names)

    @extend_schema(
        operation_id="entities_withdraw",
        request=None,
        responses={204: None},
        parameters=[IF_MATCH],
        description="Take back what you declared of it through the API; other sources may keep it.",
    )
    def delete(self, request: Request, **names: str) -> Response:
        entity = self._entity(request, **names)
        edit.withdraw(user=request.user, entity=entity, expected=if_match(request))
        return Response(status=204)


@extend_schema_view(
    get=extend_schema(operation_id="entities_retrieve_by_uid"),
    patch=extend_schema(operation_id="entities_override_by_uid"),
    delete=extend_schema(operation_id="entities_withdraw_by_uid"),
)
class EntityByUid(EntityDetail):
    """One entity, by its uid."""


class EntityHistory(View):
    """An entity's revisions."""

    @extend_schema(
        parameters=PAGE, responses={200: shapes.RevisionListOut, 304: None}, operation_id="entities_history"
    )
    def get(self, request: Request, **names: str) -> HttpResponse:
        try:
            entity = queries.get_entity(request.user, **names)
        except queries.Gone as gone:  # its history stays
            entity = gone.entity
        return rows_answer(
            request, queries.revisions(request.user, entity), ("-number", "-id"), shapes.revision
        )


class EntityRestore(View):
    """An entity as it was at a revision."""

    verbs = {"POST": "entity.write"}

    @extend_schema(
        request=shapes.RestoreIn,
        responses=shapes.RestoreOut,
        parameters=[IF_MATCH, OpenApiParameter("dry_run", bool, description="Only say what would happen.")],
        operation_id="entities_restore",
        description="Have it be what it was after a revision, by your word; `changes/` can undo that as one.",
    )
    def post(self, request: Request, number: int, **names: str) -> Response:
        entity = queries.get_entity(request.user, **names)
        data = given(request, shapes.RestoreIn)
        if is_set(request, "dry_run"):
            plan = restoring.plan_restore(user=request.user, entity=entity, number=number)
        else:
            plan = restoring.restore_revision(
                user=request.user,
                entity=entity,
                number=number,
                reason=data.get("reason", ""),
                expected=if_match(request),
            )
        return Response(shapes.restored(plan))


class HistoryList(View):
    """What changed of what a query finds, or found then."""

    @extend_schema(
        parameters=[
            OF_QUERY,
            OpenApiParameter("from", str, description="A day or moment; by default a week before the end."),
            OpenApiParameter("to", str, description="A day, to its end, or a moment; by default now."),
            *PAGE,
        ],
        responses={200: shapes.ChangedListOut, 304: None},
        operation_id="history_list",
    )
    def get(self, request: Request) -> HttpResponse:
        params, now = request.query_params, timezone.now()
        since, until = past.span_of(params.get("from", ""), params.get("to", ""), now=now)
        found = past.what_changed(request.user, params.get("q", ""), since=since, until=until, now=now)
        told: dict[Any, list[Any]] = {}

        def seen(page: list[Entity]) -> list[Entity]:
            told.update(past.revisions_of(request.user, page, since=since, until=until))
            return page

        def shape(entity: Entity) -> dict[str, Any]:
            return plain(
                shapes.ChangedOut,
                entity,
                is_gone=not entity.is_alive,
                matched="then" if entity.uid in found.then else "now",
                revisions=[shapes.revision(row) for row in told[entity.uid]],
            )

        rows = found.rows.defer("tokens", "description")
        return rows_answer(request, rows, ("title", "id"), shape, seen=seen)


class EntityMerge(View):
    """That an entity is another, by a person's word."""

    verbs = {"POST": "entity.write", "DELETE": "entity.write"}

    @extend_schema(
        request=shapes.MergeIn,
        responses=shapes.EntityOut,
        operation_id="entities_merge",
        description="Say that this entity is another, which stays; its names and its uid lead there. "
        "Answers with the entity that stays.",
    )
    def post(self, request: Request, **names: str) -> HttpResponse:
        data = given(request, shapes.MergeIn)
        winner = by_ref(request, data["into"], "into")
        joining.merge_into(
            user=request.user,
            loser=queries.get_entity(request.user, **names),
            winner=winner,
            reason=data.get("reason", ""),
        )
        document = queries.documents(request.user, [winner])[winner.pk]
        return json_answer(request, dump_json(document))

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="entities_part",
        description="Take a merge back, by the name that the merged entity had.",
    )
    def delete(self, request: Request, **names: str) -> Response:
        ref = "{kind}:{namespace}/{name}".format(**names)
        joining.part(user=request.user, redirect=queries.redirect_of(request.user, ref))
        return Response(status=204)


class EntityFailing(View):
    """What fails of an entity, and what changed before."""

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.FailingOut), 304: None},
        operation_id="entities_failing",
        description="Since when it fails, by which pipelines, and what happened to it and to what it depends on in "
        "the 24 hours before, nearest first.",
    )
    def get(self, request: Request, **names: str) -> HttpResponse:
        entity = queries.get_entity(request.user, **names)
        found = failing.failures_of(request.user, entity)
        before = failing.before_it_failed(request.user, entity, found)
        return one_answer(request, shapes.failing(entity, found, before))


class EntityProvenance(View):
    """Who says each field of an entity."""

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: OpenApiTypes.OBJECT, 304: None},
        operation_id="entities_provenance",
    )
    def get(self, request: Request, **names: str) -> HttpResponse:
        entity = queries.get_entity(request.user, **names)
        return one_answer(
            request,
            {
                path: {
                    "value": found.value,
                    "source": found.claim.source.key,
                    "label": found.claim.source.label,
                    "place": found.claim.whereabouts,
                    "as_of": found.claim.as_of,
                    "losing": [
                        {"source": item["source"].key, "value": item["value"]} for item in found.losing
                    ],
                }
                for path, found in queries.provenance_of(queries.claims_on(request.user, entity)).items()
            },
        )


class EntityDeletion(View):
    """What the deletion of an entity would leave behind."""

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.DeletionOut), 304: None},
        operation_id="entities_deletion",
        description="Which relations would lead nowhere, what would belong nowhere any more, and who else says that "
        "it exists.",
    )
    def get(self, request: Request, **names: str) -> HttpResponse:
        entity = queries.get_entity(request.user, **names)
        return one_answer(request, shapes.deletion(deletion_of(request.user, entity)))


class KindList(View):
    """The kinds in force."""

    @extend_schema(parameters=PAGE, responses={200: shapes.KindListOut, 304: None}, operation_id="kinds_list")
    def get(self, request: Request) -> HttpResponse:
        return rows_answer(
            request, visible(request.user, Kind.objects.all()), ("name", "id"), partial(plain, shapes.KindOut)
        )


class RelationTypeList(View):
    """Types of relations, with their inverses."""

    @extend_schema(
        parameters=PAGE, responses={200: shapes.RelationTypeListOut, 304: None}, operation_id="relations_list"
    )
    def get(self, request: Request) -> HttpResponse:
        return rows_answer(
            request,
            visible(request.user, RelationType.objects.all()),
            ("name", "id"),
            partial(plain, shapes.RelationTypeOut),
        )


class TieList(View):
    """Ties that identity keys or people made."""

    verbs = {"GET": "entity.read", "POST": "tie.write"}

    @extend_schema(
        parameters=[*PAGE, choice("state", TieState.values)],
        responses={200: shapes.TieListOut, 304: None},
        operation_id="ties_list",
    )
    def get(self, request: Request) -> HttpResponse:
        rows = visible(request.user, Tie.objects.select_related("source", "target"))
        if states := chosen(request, "state", TieState.values):
            rows = rows.filter(state__in=states)
        return rows_answer(request, rows, ("id",), shapes.tie)

    @extend_schema(
        request=shapes.TieIn,
        responses={200: shapes.TieOut, 204: None},
        operation_id="ties_decide",
        description="Tie, forbid, or let the evidence decide again; 204 where it then asks for no tie.",
    )
    def post(self, request: Request) -> Response:
        data = given(request, shapes.TieIn)
        tie = edit.decide_tie(
            user=request.user,
            source=by_ref(request, data["source"], "source"),
            type=data["type"],
            target=by_ref(request, data["target"], "target"),
            state=data["state"],
            reason=data.get("reason", ""),
        )
        return Response(shapes.tie(tie)) if tie else Response(status=204)


class TieDetail(View):
    """Why two entities are tied."""

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.TieEvidenceOut), 304: None},
        operation_id="ties_retrieve",
    )
    def get(self, request: Request, tie_id: int) -> HttpResponse:
        found = queries.evidence_of(request.user, tie_id)
        return one_answer(
            request,
            {
                **shapes.tie(found.tie),
                "key": found.key,  # the one that both name now
                "sides": [
                    {
                        "entity": side["entity"].ref,
                        "source": side["source"].key,
                        "record": side["external_id"],
                        "place": side["place"],
                        "is_key": side["is_key"],
                        "commit": side["commit"],
                    }
                    for side in found.sides
                ],
            },
        )


def by_ref(request: Request, ref: str, field: str) -> Entity:
    """The entity that a field of the request names.

    :raises InvalidInput: if the viewer may see none of this ref.
    """
    try:
        return queries.entity_of_ref(request.user, ref)
    except (NotFound, InvalidRef) as error:
        raise InvalidInput(error.message, errors=[FieldError(field, error.message, got=ref[:200])]) from None


def by_refs(request: Request, refs: Iterable[str], field: str) -> list[Entity]:
    """The entities that a field names, looked up at once; old names and short ones singly.

    :raises InvalidInput: if the viewer may see none of one of these refs.
    """
    wanted = dict.fromkeys(ref.lower() for ref in refs)
    known = queries.titles_of(request.user, wanted)
    return [known.get(ref) or by_ref(request, ref, field) for ref in wanted]


def _chosen(request: Request, data: Mapping[str, Any]) -> list[Entity]:
    """The entities that a bulk change names or finds.

    :raises InvalidInput: if it names none, or does both, or finds too many.
    """
    if ("q" in data) == ("entities" in data):
        raise InvalidInput(_("Expected either `entities` or `q`."))
    if "q" in data:
        found = queries.search_entities(request.user, data["q"])
        most = min(bulk_plans.MOST, bulk_plans.MOST_OF_PROGRAMS)
        rows = list(found.order_by("ref")[: most + 1])
        bulk_plans.check_count(len(rows), most)
        return rows
    return by_refs(request, data["entities"], "entities")


class ActivityList(View):
    """What happened, newest first."""

    @extend_schema(
        parameters=[
            OF_QUERY,
            choice("type", STATUSES),
            choice("status", ACTIVITY_STATUSES),
            OpenApiParameter("entity", str, description="Ref of an entity: its own and what is tied to it."),
            *PAGE,
        ],
        responses={200: shapes.ActivityListOut, 304: None},
        operation_id="activity_list",
    )
    def get(self, request: Request) -> HttpResponse:
        params = request.query_params
        if ref := params.get("entity"):
            rows = queries.activity_of(request.user, by_ref(request, ref, "entity"))
        else:
            rows = queries.list_activity(request.user)
        if text := params.get("q"):
            rows = rows.filter(subject_uid__in=queries.search_entities(request.user, text).values("uid"))
        if types := chosen(request, "type", STATUSES):
            rows = rows.filter(type__in=types)
        if statuses := chosen(request, "status", ACTIVITY_STATUSES):
            rows = rows.filter(status__in=statuses)
        return rows_answer(request, rows, ("-at", "-id"), shapes.activity)


class ActivityDetail(View):
    """One activity with its transitions."""

    @extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(shapes.ActivityDetailOut), 304: None},
        operation_id="activity_retrieve",
    )
    def get(self, request: Request, activity_id: int) -> HttpResponse:
        row = visible(request.user, Activity.objects.all()).filter(pk=activity_id).first()
        if row is None:
            raise NotFound(_("There is no activity %(id)d here.") % {"id": activity_id})
        steps = row.transitions.order_by("at", "id").values("event", "status", "at")
        return one_answer(request, {**shapes.activity(row), "transitions": list(steps)})


class ProblemList(View):
    """Open problems."""

    @extend_schema(
        parameters=[OF_QUERY, *PAGE, choice("type", PROBLEM_TYPES)],
        responses={200: shapes.ProblemListOut, 304: None},
        operation_id="problems_list",
    )
    def get(self, request: Request) -> HttpResponse:
        rows = queries.open_problems(request.user, now=timezone.now())
        if text := request.query_params.get("q"):
            rows = rows.filter(subject_uid__in=queries.search_entities(request.user, text).values("uid"))
        if types := chosen(request, "type", PROBLEM_TYPES):
            rows = rows.filter(type__in=types)
        return rows_answer(request, rows, ("severity", "first_seen_at", "id"), shapes.problem)


class ProblemSnooze(View):
    """Put problems off."""

    verbs = {"POST": "problem.write"}

    @extend_schema(
        request=shapes.SnoozeIn,
        responses=shapes.SnoozeOut,
        operation_id="problems_snooze",
        description="Put the open problems of one type and cause off for some days.",
    )
    def post(self, request: Request) -> Response:
        user = person_of(request)
        asked = given(request, shapes.SnoozeIn)
        return Response({"count": problems.snooze(user=user, **asked, by=user.label, now=timezone.now())})


class Feed(View):
    """The catalog's changes in order, each at least once."""

    renderer_classes = [JSONRenderer, EventStreamRenderer]

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "since",
                str,
                description="`next` of the answer before, or `now`; from the beginning if left out.",
            ),
            LIMIT,
        ],
        responses={(200, "application/json"): shapes.FeedOut, (200, "text/event-stream"): OpenApiTypes.STR},
        operation_id="feed",
        description="With `Accept: text/event-stream` the changes come as they are made, as from `feed/events`.",
    )
    def get(self, request: Request) -> Response | StreamingHttpResponse:
        if request.accepted_renderer.format == "events":
            return self.stream(request)
        limit = read_limit(request.query_params.get("limit"))
        items, (transaction, last) = feed.feed_since(request.user, position=self.asked(request), limit=limit)
        return Response(
            {"results": [shapes.feed_item(item) for item in items], "next": f"{transaction}.{last}"}
        )

    def asked(self, request: Request, since: str = "") -> tuple[int, int]:
        """The position after which to read.

        :raises BadRequest: if it is none.
        """
        since = since or request.query_params.get("since", "")
        if since == "now":
            return feed.feed_end()
        try:
            transaction, _dot, last = since.partition(".")
            position = (int(transaction), int(last)) if since else (0, 0)
            if not all(0 <= number < 2**63 for number in position):
                raise ValueError
        except ValueError:
            raise BadRequest(
                _("`since` must be `next` of an earlier answer, or `now`, but “%(got)s” came.")
                % {"got": since[:60]}
            ) from None
        return position

    def stream(self, request: Request) -> StreamingHttpResponse:
        """The changes as they are made. What the client got last goes before what its address says."""
        position = self.asked(request, request.headers.get("Last-Event-ID", ""))
        return events_response(EventStream(person_of(request), position, may_read=_still_signed_in(request)))


def _still_signed_in(request: Request) -> Callable[[], bool]:
    """Whether who sent a request may still read: their token or session holds, and so does a grant."""
    user, session = person_of(request), request._request.session

    def may_read() -> bool:
        if request.auth is None and not session.exists(session.session_key or ""):
            return False
        try:
            return (request.auth is None or bool(TokenAuthentication().authenticate(request))) and can(
                user, "entity.read"
            )
        except DomainError:
            return False

    return may_read


class FeedEvents(Feed):
    """The catalog's changes as they are made, as server-sent events."""

    renderer_classes = [EventStreamRenderer]
    content_negotiation_class = EventsAlone

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "since", str, description="A position, or `now`; from the beginning if left out."
            ),
            OpenApiParameter(
                "Last-Event-ID", str, OpenApiParameter.HEADER, description="`id` of the last event that came."
            ),
        ],
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
        operation_id="feed_events",
        description="Each event has the position as its `id` and a row of the feed as its `data`. A server takes few "
        "streams: 503 with `Retry-After` tells the others to poll `feed`.",
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        return self.stream(request)
