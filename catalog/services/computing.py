"""Computed fields: worked out where what they look at has changed, and kept in the served documents and tokens.

Whoever renders entities calls `recompute` of them. It works out their own fields, then those of what looks at them
along relations, and so on where a value changed; a field looks at no field that looks at it, so that ends.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import connection
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from base.errors import DomainError, FieldError, InvalidInput
from base.expressions import Context
from base.paths import value_at
from base.schemas import compile_schema
from catalog.audience import Groups, audiences, groups_in, is_for_all, not_for_all
from catalog.bulk import among, upsert
from catalog.documents.computed import CountActivity, CountRelated, Formula, Mirror, Path
from catalog.documents.fields import FieldDef
from catalog.kinds import Kinds, current_kinds
from catalog.models import Activity, ComputedValues, DirtyEntity, Entity, KindField, Served, Severity
from catalog.query import QueryError, compile_query, token, tokens_of
from catalog.services import problems
from catalog.services.activity import mark_subjects_dirty
from catalog.services.dirty import mark_dirty
from catalog.services.ingest import values_of
from catalog.services.news import note_entities

PAGE = 2_000
Reach = Callable[[set[int]], dict[int, list[tuple[uuid.UUID, bool]]]]
"""Whose activity shows on each entity: `catalog.services.render.reach_of`."""


def recompute(entity_ids: set[int], *, reach: Reach, at: datetime) -> None:
    """Work the fields out that look at these entities, which the caller has locked, their own among them.

    What another writer holds is marked, to be rendered when it is free: who renders waits for nobody.
    """
    kinds = current_kinds()
    if not kinds.computed or not entity_ids:
        return
    concerned = set(entity_ids)
    lookers = _lookers(kinds, kinds.computed, ends=_newly_said(entity_ids), between=entity_ids) - entity_ids
    # What is marked is worked out when its turn comes.
    waiting = DirtyEntity.objects.filter(entity_id__in=among(lookers))
    concerned |= lookers - set(waiting.values_list("entity_id", flat=True))
    held = set(entity_ids)
    for _round in range(len(kinds.computed) + 1):
        changed: set[int] = set()
        held |= _lock(concerned - held)
        ready = sorted(concerned & held)
        for start in range(0, len(ready), PAGE):
            changed |= _Workout(kinds, set(ready[start : start + PAGE]), reach=reach, at=at).run()
        concerned = (
            _lookers(kinds, kinds.following, ends=changed, between=set())
            if changed and kinds.following
            else set()
        )
        if not concerned:
            return


def _newly_said(entity_ids: set[int]) -> set[int]:
    """Those that changed, or for whom they are, since what looks at them was last told; notes that it is told now."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO catalog_computedvalues AS c (entity_id, "values", seen)
            SELECT id, '{}'::jsonb, digest || convert_to(coalesce(audience::text, ''), 'UTF8')
            FROM catalog_entity WHERE id = ANY(%s)
            ON CONFLICT (entity_id) DO UPDATE SET seen = EXCLUDED.seen WHERE c.seen IS DISTINCT FROM EXCLUDED.seen
            RETURNING entity_id
            """,
            [sorted(entity_ids)],
        )
        return {row[0] for row in cursor.fetchall()}


def _lock(entity_ids: set[int]) -> set[int]:
    """Those of some entities that nobody else holds, locked; the others are marked."""
    if not entity_ids:
        return set()
    rows = Entity.objects.filter(id__in=among(entity_ids), deleted_at=None)
    free = set(rows.select_for_update(no_key=True, skip_locked=True).values_list("id", flat=True))
    if len(free) < len(entity_ids):
        mark_dirty(set(rows.values_list("id", flat=True)) - free)
    return free


def _lookers(kinds: Kinds, fields: Iterable[FieldDef], *, ends: set[int], between: set[int]) -> set[int]:
    """What looks at these entities along the paths of some fields.

    :param ends: whose documents changed.
    :param between: whose relations may have changed.
    """
    ways: dict[tuple[Path, bool], set[str]] = defaultdict(set)
    for one in fields:
        for path in one.computed.paths if one.computed else ():
            for length in range(1, len(path) + 1):
                # What a query finds changes by more than documents.
                is_between = length < len(path) or isinstance(one.computed, CountRelated)
                ways[path[:length], is_between] |= one.kinds
    found: set[int] = set()
    for (path, is_between), of_kinds in ways.items():
        reached = between | ends if is_between else ends
        for name in reversed(path):
            steps = _step(kinds, reached, kinds.inverse(name))
            reached = {far for pairs in steps.values() for far, _groups in pairs}
        if reached:
            rows = Entity.objects.filter(id__in=among(reached), kind__in=of_kinds, deleted_at=None)
            found |= set(rows.values_list("id", flat=True))
    return found


def _step(kinds: Kinds, entity_ids: Iterable[int], name: str) -> dict[int, list[tuple[int, Groups]]]:
    """Where a relation or tie leads from some entities: each living one and for whom it is, in the order of refs."""
    ids = list(entity_ids)
    found: dict[int, list[tuple[int, Groups]]] = defaultdict(list)
    if not ids:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT pair.near, e.ref COLLATE "C" AS ref, e.id, e.audience FROM (
                SELECT source_id AS near, target_id AS far FROM catalog_relation
                WHERE type = %(name)s AND source_id = ANY(%(ids)s)
                UNION ALL
                SELECT target_id, source_id FROM catalog_relation
                WHERE type = %(inverse)s AND target_id = ANY(%(ids)s)
                UNION ALL
                SELECT source_id, target_id FROM catalog_tie
                WHERE type = %(name)s AND source_id = ANY(%(ids)s) AND state <> 'forbidden'
                UNION ALL
                SELECT target_id, source_id FROM catalog_tie
                WHERE type = %(inverse)s AND target_id = ANY(%(ids)s) AND state <> 'forbidden'
            ) pair JOIN catalog_entity e ON e.id = pair.far AND e.deleted_at IS NULL
            ORDER BY 1, 2
            """,
            {"ids": ids, "name": name, "inverse": kinds.inverse(name)},
        )
        for near, _ref, far, groups in cursor.fetchall():
            found[near].append((far, groups_in(groups)))
    return found


@dataclass
class _Workout:
    """The computed fields of a page of entities."""

    kinds: Kinds
    entity_ids: set[int]
    reach: Reach
    at: datetime
    documents: dict[int, dict[str, Any]] = field(default_factory=dict)
    served: dict[int, dict[str, Any]] = field(default_factory=dict)
    audiences: dict[int, Groups] = field(default_factory=dict)
    known: dict[str, frozenset[int]] = field(default_factory=dict)

    def run(self) -> set[int]:
        """Work out and write; returns the ids of entities of which a value changed."""
        of_kinds = {view.name for view in self.kinds if view.computed}
        rows = Entity.objects.filter(id__in=among(self.entity_ids), kind__in=of_kinds, deleted_at=None)
        kind_of = dict(rows.values_list("id", "kind"))
        if not kind_of:
            return set()
        self.known = audiences()
        self._load(kind_of)
        self.served = {pk: self.documents[pk] for pk in kind_of}
        for pk, kind in kind_of.items():
            self.documents[pk] = self.kinds.by_name(kind).completed(self.served[pk], {})
        before = values_of(kind_of)
        values: dict[int, dict[str, Any]] = {pk: {} for pk in kind_of}
        wrong: dict[int, list[problems.Seen]] = {pk: [] for pk in kind_of}
        for one in self.kinds.computed:
            ids = [pk for pk, kind in kind_of.items() if one in self.kinds.by_name(kind).computed]
            for pk, value in self._of_field(one, ids, wrong).items():
                if value is not None:
                    values[pk][one.name] = value
                # What is worked out next sees this.
                self.documents[pk] = self.kinds.by_name(kind_of[pk]).completed(self.documents[pk], values[pk])
        changed = {pk for pk in kind_of if _differ(values[pk], before.get(pk, {}))}
        self._write(changed, values)
        self._report(wrong)
        return changed

    def _load(self, entity_ids: Iterable[int]) -> None:
        missing = set(entity_ids) - set(self.documents)
        for pk, document, groups in Served.objects.filter(entity_id__in=among(missing)).values_list(
            "entity_id", "document", "entity__audience"
        ):
            self.documents[pk] = orjson.loads(document)
            self.audiences[pk] = groups_in(groups)

    def _ends(self, ids: Sequence[int], path: Path) -> dict[int, list[int]]:
        """Where a path leads from each entity, each end once; nor over what is not for all who see the entity."""
        at_: dict[int, list[int]] = {pk: [pk] for pk in ids}
        for name in path:
            steps = _step(self.kinds, {end for ends in at_.values() for end in ends}, name)
            at_ = {
                pk: list(
                    dict.fromkeys(
                        far
                        for end in ends
                        for far, groups in steps.get(end, ())
                        if is_for_all(groups, self.audiences[pk])
                    )
                )
                for pk, ends in at_.items()
            }
        self._load(end for ends in at_.values() for end in ends)
        return {pk: [end for end in ends if end in self.documents] for pk, ends in at_.items()}

    def _of_field(
        self, one: FieldDef, ids: list[int], wrong: dict[int, list[problems.Seen]]
    ) -> dict[int, Any]:
        match one.computed:
            case Mirror() as mirror:
                ends = self._ends(ids, mirror.paths[0])
                is_list = one.schema.get("type") == "array"
                found = {pk: _mirrored(mirror, self._seen_by(one, ends[pk]), is_list) for pk in ids}
            case Formula() as formula:
                found = self._formula(one, formula, ids, wrong)
            case CountRelated() as count:
                found = self._related(one, count, ids, wrong)
            case CountActivity() as activity:
                found = self._activity(activity, ids)
            case _:
                return {}
        schema = compile_schema(dict(one.schema))
        for pk, value in found.items():
            if value is not None and not schema.is_valid(value):
                wrong[pk].append(_unfit(one, str(schema.errors(value, under=("spec", one.name))[0])))
                found[pk] = None
        return found

    def _related(
        self, one: FieldDef, count: CountRelated, ids: list[int], wrong: dict[int, list[problems.Seen]]
    ) -> dict[int, int]:
        ends = self._ends(ids, count.paths[0])
        everything = Entity.objects.filter(id__in=among({end for all_ in ends.values() for end in all_}))
        if count.query:
            try:
                everything = everything.filter(compile_query(count.query, now=self.at))
            except QueryError as error:
                for pk in ids:
                    wrong[pk].append(_unfit(one, error.message))
                return {}
        matching = set(everything.values_list("id", flat=True))
        return {pk: sum(end in matching for end in ends[pk]) for pk in ids}

    def _formula(
        self, one: FieldDef, formula: Formula, ids: list[int], wrong: dict[int, list[problems.Seen]]
    ) -> dict[int, Any]:
        around = {path[0]: self._ends(ids, path) for path in formula.paths}
        found: dict[int, Any] = {}
        for pk in ids:
            related = {name: self._seen_by(one, ends[pk]) for name, ends in around.items()}
            try:
                found[pk] = formula.compiled.evaluate(
                    Context(entity=self._seen_by(one, [pk])[0], related=related)
                )
            except DomainError as error:
                found[pk] = None
                wrong[pk].append(_unfit(one, error.message))
        return found

    def _seen_by(self, one: FieldDef, ids: Iterable[int]) -> list[dict[str, Any]]:
        """Documents as a field sees them: without what it is not known to look at, so that nothing goes in circles."""
        documents = (self.documents[pk] for pk in ids)
        return [_without(one_, self.kinds.hidden_from(one, one_["kind"].lower())) for one_ in documents]

    def _activity(self, count: CountActivity, ids: list[int]) -> dict[int, int]:
        by_audience: dict[Groups, set[int]] = defaultdict(set)
        for pk in ids:
            by_audience[self.audiences[pk]].add(pk)
        found = dict.fromkeys(ids, 0)
        for audience, members in by_audience.items():
            pairs = [(pk, uid) for pk, uids in self.reach(members).items() for uid, _shared in uids]
            with connection.cursor() as cursor:
                cursor.execute(
                    """
                    SELECT s.id, count(*) FROM unnest(%s::bigint[], %s::uuid[]) AS s(id, uid)
                    JOIN catalog_activity a ON a.subject_uid = s.uid
                    WHERE a.type = ANY(%s) AND a.connection <> ALL(%s) AND (%s = '' OR a.status = %s)
                        AND (%s::timestamptz IS NULL OR a.at > %s)
                    GROUP BY s.id
                    """,
                    [
                        [pk for pk, _uid in pairs],
                        [uid for _pk, uid in pairs],
                        list(count.types),
                        not_for_all(self.known, audience),
                        *[count.status] * 2,
                        *[self.at - timedelta(days=count.days) if count.days else None] * 2,
                    ],
                )
                found |= dict(cursor.fetchall())
        return found

    def _write(self, changed: set[int], values: Mapping[int, dict[str, Any]]) -> None:
        if not changed:
            return
        entities = list(Entity.objects.filter(id__in=among(changed)))
        for entity in entities:
            names = self.kinds.by_name(entity.kind).computed_names
            served = self.documents[entity.pk]
            gone = _tokens(self.served[entity.pk], names)
            others = [one for one in entity.tokens if one not in gone]
            entity.tokens = sorted({*others, *_tokens(served, names)})
        upsert(entities, unique=["id"], update=["tokens"])
        upsert(
            [Served(entity=one, document=orjson.dumps(self.documents[one.pk]).decode()) for one in entities],
            unique=["entity"],
            update=["document"],
        )
        upsert(
            [ComputedValues(entity=one, values=values[one.pk]) for one in entities],
            unique=["entity"],
            update=["values"],
        )
        note_entities({one.uid for one in entities})

    def _report(self, wrong: Mapping[int, list[problems.Seen]]) -> None:
        """What could not be worked out, as problems of the entities; what can be again is resolved."""
        entities = Entity.objects.filter(id__in=among(wrong)).only("id", "uid", "ref", "namespace", "kind")
        subjects = {entity.pk: problems.subject_of(entity) for entity in entities}
        problems.sync(
            raised_by=problems.CATALOG,
            seen=[(subjects[pk], seen) for pk, all_ in wrong.items() for seen in all_ if pk in subjects],
            within=Q(type="computed", subject_uid__in=among((s.uid for s in subjects.values()), "uuid")),
            at=self.at,
        )


def check_query(field: FieldDef) -> None:
    """:raises InvalidInput: if a field counts what a query finds that is none, as kinds and relations stand now."""
    if isinstance(field.computed, CountRelated) and field.computed.query:
        try:
            compile_query(field.computed.query, now=timezone.now())
        except QueryError as error:
            raise InvalidInput(
                _("The field “%(name)s” cannot be used: %(first)s")
                % {"name": field.definition, "first": error.message},
                errors=[FieldError("spec.count.query", error.message)],
            )


def _mirrored(mirror: Mirror, documents: Iterable[dict[str, Any]], is_list: bool) -> Any:
    found: list[Any] = []
    for document in documents:
        value = value_at(document, mirror.field)
        if value in (None, "", [], {}):
            continue
        if not is_list:
            return value
        found += [one for one in (value if isinstance(value, list) else [value]) if one not in found]
    return found or None


def _without(document: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """A document without some fields of its spec."""
    spec = document.get("spec")
    if not isinstance(spec, dict) or names.isdisjoint(spec):
        return document
    return {**document, "spec": {name: value for name, value in spec.items() if name not in names}}


def _differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) != orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def _tokens(document: dict[str, Any], names: frozenset[str]) -> set[int]:
    """The tokens of some fields of a document's spec, without the one of the spec itself."""
    spec = document.get("spec") or {}
    said = {name: value for name, value in spec.items() if name in names}
    return set(tokens_of({"spec": said})) - {token("spec.")}


def _unfit(one: FieldDef, why: str) -> problems.Seen:
    return problems.Seen(
        type="computed",
        severity=Severity.WARN,
        cause=_("%(field)s cannot be worked out") % {"field": one.path},
        message=f"{one.path}: {why}",
        remedy=_("Change how the field is worked out, or what it looks at."),
        discriminator=one.path,
        detail={"path": one.path, "definition": one.definition},
    )


# --- as time goes by --------------------------------------------------------------------------------------


EVERY = timedelta(hours=1)


def mark_what_time_changed(*, at: datetime) -> None:
    """Mark the entities of which something fell out of a count's window, or that a query finds by an age."""
    kinds = current_kinds()
    for one in kinds.computed:
        match one.computed:
            case CountActivity(days=int() as days) as count:
                _mark_fallen(one, count, window=timedelta(days=days), at=at)
            case CountRelated(is_timed=True):
                _mark_counting(one, at=at)


def _mark_fallen(one: FieldDef, count: CountActivity, *, window: timedelta, at: datetime) -> None:
    row = KindField.objects.filter(name=one.definition)
    since = row.values_list("counted_at", flat=True).first() or at - EVERY
    fallen = Activity.objects.filter(type__in=count.types, at__gt=since - window, at__lte=at - window)
    mark_subjects_dirty({uid for uid in fallen.values_list("subject_uid", flat=True).distinct() if uid})
    row.update(counted_at=at)


def _mark_counting(one: FieldDef, *, at: datetime) -> None:
    row = KindField.objects.filter(name=one.definition)
    last = row.values_list("counted_at", flat=True).first()
    if last is None or last <= at - EVERY:
        entities = Entity.objects.filter(kind__in=one.kinds, deleted_at=None)
        mark_dirty(entities.values_list("id", flat=True))
        row.update(counted_at=at)
