"""Everything that reads the catalog: for a viewer, so that what may not be seen is not there."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

import orjson
from django.contrib.postgres.aggregates import ArrayAgg
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.search import TrigramSimilarity
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Case, Count, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Upper
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from access.permissions import visible
from base.errors import NotFound
from catalog.audience import hidden_names
from catalog.counting import counting
from catalog.documents import parse_ref
from catalog.kinds import current_kinds
from catalog.models import (
    Activity,
    Alias,
    Claim,
    ClaimMode,
    Entity,
    EntityKey,
    FormerKey,
    Problem,
    Rank,
    Redirect,
    Relation,
    Revision,
    Served,
    Tie,
    TieState,
)
from catalog.query.compile import compile_query
from catalog.query.mine import own_refs
from catalog.query.tokens import token
from catalog.services.merge import Said, provenance
from catalog.services.render import reach_of
from catalog.services.voices import claims_of

MOST_OWNED = 500
MOST_WAITING = 100
MOST_LEADERS = 50
WAITING = timedelta(days=90)  # who has not asked again since then has given it up


class Gone(NotFound):
    """What was here is not there any more; the error says since when, and by whose word.

    :ivar entity: what is left of it.
    :ivar last: the revision in which it went.
    """

    code = "gone"
    status = 410
    title = _lazy("Gone")

    def __init__(self, entity: Entity, last: Revision) -> None:
        when = formats.date_format(timezone.localtime(last.at), "j M Y, H:i")
        shown = {"ref": entity.ref, "when": when, "who": last.by, "run": last.run}
        super().__init__(
            _("%(ref)s is gone since %(when)s, by sync run %(run)s of %(who)s.") % shown
            if last.run
            else _("%(ref)s is gone since %(when)s, by %(who)s.") % shown,
            ref=entity.ref,
            uid=str(entity.uid),
            gone_at=last.at.isoformat(),
            gone_by=last.by,
            sync_run=f"/api/v1/sync-runs/{last.run}/" if last.run else None,
            history=f"/api/v1/entities/{entity.namespace}/{entity.kind}/{entity.name}/history/",
        )
        self.entity = entity
        self.last = last


def list_entities(viewer: Any) -> QuerySet[Entity]:
    """The living entities that the viewer may see."""
    return visible(viewer, Entity.objects.filter(deleted_at=None))


def led_to_by(viewer: Any, entity_id: int) -> list[tuple[int, str]]:
    """Ids and refs of the Locations that led to an entity's file, and to theirs, as far as the viewer sees them."""
    found: dict[int, str] = {}
    here = entity_id
    while len(found) < MOST_LEADERS:
        words = visible(viewer, Claim.objects.filter(entity=here, mode=ClaimMode.ASSERT, is_shadowed=False))
        refs = words.filter(place__has_key="by").order_by("pk").values_list("place__by", flat=True)
        leader = list_entities(viewer).filter(ref__in=list(refs[:1])).values_list("pk", "ref").first()
        if leader is None or leader[0] == entity_id or leader[0] in found:
            break
        here = leader[0]
        found[here] = leader[1]
    return list(found.items())


def search_entities(viewer: Any, text: str, *, now: datetime | None = None) -> QuerySet[Entity]:
    """The entities that a query finds for the viewer: the same in lists, API, widgets.

    :raises QueryError: where the query is wrong.
    """
    return list_entities(viewer).filter(compile_query(text, viewer=viewer, now=now or timezone.now()))


def get_entity(viewer: Any, *, namespace: str = "", kind: str = "", name: str = "", uid: str = "") -> Entity:
    """One entity by its names or its uid; an old name leads to it too, and what was merged into it.

    :raises Gone: if it was there, and the viewer might see it.
    :raises NotFound: if there is none that the viewer may see.
    """
    left = visible(viewer, Entity.objects.exclude(deleted_at=None))
    rows = visible(viewer, Entity.objects.filter(deleted_at=None))
    if uid:
        try:
            key = uuid.UUID(uid)
            # What a person merged into another is found there.
            winner = Redirect.objects.filter(loser__uid=key).values("winner_id")
            found = rows.filter(Q(uid=key) | Q(pk__in=winner)).first()
            left = left.filter(uid=key)
        except ValueError:
            found, left = None, left.none()
        label = uid
    else:
        label = f"{kind}:{namespace}/{name}".lower()
        found = rows.filter(ref=label).first()
        if found is None and (alias := Alias.objects.filter(ref=label).first()) is not None:
            found = rows.filter(pk=alias.entity_id).first()
            left = left.filter(pk=alias.entity_id)
        else:
            left = left.filter(ref=label)
    if found is None:
        if (gone := left.first()) is not None and (last := revisions(viewer, gone).first()) is not None:
            raise Gone(gone, last)
        raise NotFound(_("There is no %(ref)s here, or you may not see it.") % {"ref": label})
    return found


def entity_of_ref(viewer: Any, ref: str, *, like: Entity | None = None) -> Entity:
    """One entity by its ref.

    :param like: an entity whose kind and namespace are meant where the ref names none.
    :raises InvalidRef: if it is no ref.
    :raises NotFound: if there is none that the viewer may see.
    """
    kind, namespace, name = (
        parse_ref(ref, default_kind=like.kind, default_namespace=like.namespace) if like else parse_ref(ref)
    )
    return get_entity(viewer, namespace=namespace, kind=kind, name=name)


def near_names(viewer: Any, *, kind: str, name: str, limit: int = 5) -> list[Entity]:
    """Entities whose names are like one that was not found, those of its kind first, then the likest."""
    wanted = name.upper()  # as the index of names has them
    alike = list_entities(viewer).alias(upper=Upper("name")).filter(upper__trigram_similar=wanted)
    alike = alike.alias(is_other=~Q(kind=kind.lower()), likeness=TrigramSimilarity("upper", wanted))
    return list(alike.order_by("is_other", "-likeness", "name", "id")[:limit])


def counts_of(viewer: Any, texts: Mapping[str, str], *, now: datetime) -> dict[str, int]:
    """How many entities each of some queries finds, by its name, in one statement.

    :raises QueryError: where a query is wrong.
    """
    first, *others = [
        search_entities(viewer, text, now=now)
        .order_by()
        .annotate(found_by=Value(name))
        .values("found_by")
        .annotate(n=Count("id"))
        .values_list("found_by", "n")
        for name, text in texts.items()
    ]
    found = dict(first.union(*others, all=True))
    return {name: found.get(name, 0) for name in texts}


def waiting_for(viewer: Any, *, now: datetime) -> list[tuple[Activity, bool]]:
    """The open changes that wait for a person, newest first, and whether they are asked to review it.

    They are asked by name, address or account, or it is a change of what they or their groups own. What they ask of
    others does not wait for them, nor does what is a draft.
    """
    refs = own_refs(viewer)
    if not refs:
        return []
    owned = list_entities(viewer).filter(owner__in=refs).exclude(kind__in=("user", "group"))
    person = Entity.objects.filter(kind="user", ref__in=refs)
    keys = EntityKey.objects.filter(entity=OuterRef("pk"), is_identity=True).values("key")
    first = Case(When(kind="user", then=0), default=1)
    rows = (owned | person).annotate(its_keys=ArraySubquery(keys)).order_by(first, "-changed_at")
    called: set[str] = set()
    ids = set()
    for pk, kind, name, title, its_keys in rows.values_list("pk", "kind", "name", "title", "its_keys")[
        :MOST_OWNED
    ]:
        if kind == "user":
            called |= {name, title, *(key.partition(":")[2] for key in its_keys)}
        else:
            ids.add(pk)
    uids = {uid for reached in reach_of(ids).values() for uid, _shared in reached}
    asked = Q(data__reviewers__has_any_keys=sorted(called))
    changes = (
        list_activity(viewer)
        .filter(asked | Q(subject_uid__in=uids), type="change", status="open", at__gt=now - WAITING)
        .exclude(data__contains={"is_draft": True})
        .exclude(actor__in=called)
        .exclude(reduce(or_, (Q(data__contains={"actor_email": name}) for name in called)))[:MOST_WAITING]
    )
    found = [(row, bool(called & set(row.data.get("reviewers") or ()))) for row in changes]
    return sorted(found, key=lambda pair: not pair[1])


# --- documents --------------------------------------------------------------------------------------------


def documents(viewer: Any, entities: Iterable[Entity]) -> dict[int, dict[str, Any]]:
    """Whole documents with the relations that the viewer may see, by entity id."""
    found: dict[int, dict[str, Any]] = {}
    relations: dict[int, list[dict[str, str]]] = {}
    for entity_id, document, text in Served.objects.filter(entity__in=[e.pk for e in entities]).values_list(
        "entity_id", "document", "relations"
    ):
        found[entity_id] = orjson.loads(document)
        relations[entity_id] = orjson.loads(text)
    refs = {item["targetRef"] for items in relations.values() for item in items}
    hidden = hidden_refs(viewer, refs)
    for entity_id, whole in found.items():
        whole["relations"] = [item for item in relations[entity_id] if item["targetRef"] not in hidden]
    return found


def seen_relations(viewer: Any, texts: Mapping[int, str]) -> dict[int, str]:
    """Relations texts, by entity id, without what leads to entities that the viewer may not see.

    Who sees everything gets the stored texts, which nobody parses.
    """
    everything = Entity.objects.all()
    if visible(viewer, everything) is everything:
        return dict(texts)
    parsed = {pk: orjson.loads(text) for pk, text in texts.items()}
    hidden = hidden_refs(viewer, {item["targetRef"] for items in parsed.values() for item in items})
    return {
        pk: orjson.dumps([item for item in items if item["targetRef"] not in hidden]).decode()
        for pk, items in parsed.items()
    }


def hidden_refs(viewer: Any, refs: Iterable[str]) -> set[str]:
    """Those of some refs that belong to entities which the viewer may not see. Missing ones are not hidden."""
    wanted = set(refs)
    if not wanted:
        return set()
    there_rows = Entity.objects.filter(deleted_at=None, ref__in=wanted)
    seen = visible(viewer, there_rows)
    if seen is there_rows:
        return set()  # the viewer may see everything
    there = set(there_rows.values_list("ref", flat=True))
    return there - set(seen.values_list("ref", flat=True))


# --- relations and ties -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One relation or tie of an entity, from its side.

    :ivar type: as it reads from here: `dependsOn`, `ownerOf`.
    :ivar is_outgoing: whether it is this entity that names the other.
    :ivar entity: the other end; None when it does not exist.
    :ivar tie: the tie, when it is one.
    """

    type: str
    label: str
    ref: str
    is_outgoing: bool
    entity: Entity | None
    tie: Tie | None = None


LIGHT = (
    "id",
    "uid",
    "ref",
    "kind",
    "namespace",
    "name",
    "title",
    "type",
    "owner",
    "last_run",
    "failing_since",
    "description",
)


# What a page can show at once; who owns more has the list for it.
MOST_NEIGHBOURS = 2_000


def neighbours(viewer: Any, entity: Entity) -> list[Neighbour]:
    """The relations and ties of an entity whose other end the viewer may see, or that is missing."""
    kinds = current_kinds()
    rows: list[tuple[str, str, bool, int | None, Tie | None]] = []
    relations = Relation.objects.filter(Q(source=entity) | Q(target=entity)).order_by("id")[:MOST_NEIGHBOURS]
    for source_id, type_, ref, target_id in relations.values_list(
        "source_id", "type", "target_ref", "target_id"
    ):
        if source_id == entity.pk:
            rows.append((type_, ref, True, target_id, None))
        else:
            rows.append((kinds.inverse(type_), "", False, source_id, None))
    for tie in Tie.objects.exclude(state=TieState.FORBIDDEN).filter(Q(source=entity) | Q(target=entity)):
        if tie.source_id == entity.pk:
            rows.append((tie.type, "", True, tie.target_id, tie))
        else:
            rows.append((kinds.inverse(tie.type), "", False, tie.source_id, tie))
    ids = {other for _type, _ref, _out, other, _tie in rows if other}
    others = {e.pk: e for e in list_entities(viewer).filter(pk__in=ids).only(*LIGHT)}
    found = []
    for type_, ref, outgoing, other_id, found_tie in rows:
        other = others.get(other_id) if other_id else None
        if other_id and other is None:
            continue  # not for this viewer
        found.append(
            Neighbour(type_, kinds.label(type_), other.ref if other else ref, outgoing, other, found_tie)
        )
    return sorted(found, key=lambda n: (n.type, n.ref))


@dataclass(frozen=True, slots=True)
class TieEvidence:
    """Why two entities are tied: the key and what each side's source said."""

    tie: Tie
    key: str
    sides: list[dict[str, Any]]


def evidence_of(viewer: Any, tie_id: int) -> TieEvidence:
    """The evidence of a tie.

    :raises NotFound: if there is no such tie for the viewer.
    """
    tie = visible(viewer, Tie.objects.select_related("source", "target")).filter(pk=tie_id).first()
    if tie is None:
        raise NotFound(_("There is no such tie."))
    ends = (tie.source, tie.target)
    key = tie.key if all(_claims_on(viewer, end, tie.key)[0].exists() for end in ends) else ""
    sides = []
    for end in ends:
        claims, commit = _claims_on(viewer, end, key)
        for claim in claims.order_by("rank", "id")[:5]:
            sides.append(
                {
                    "entity": end,
                    "source": claim.source,
                    "external_id": claim.external_id,
                    "place": claim.whereabouts,
                    "as_of": claim.as_of,
                    "document": claim.document,
                    "is_key": claim.keys.filter(key=key, is_identity=True).exists() if key else False,
                    "commit": commit,
                }
            )
    return TieEvidence(tie, key, sides)


def _claims_on(viewer: Any, end: Entity, key: str) -> tuple[QuerySet[Claim], str]:
    """What is said of an entity with a key; what names no repository may name a commit that is of it."""
    claims = visible(viewer, Claim.objects.filter(entity=end)).select_related("source")
    if not key or (named := claims.filter(keys__key=key)).exists():
        return (named.distinct() if key else claims), ""
    if key.startswith("image-digest:"):  # a version of it has this digest
        versions = visible(
            viewer, Activity.objects.filter(type="version", subject_uid=end.uid, keys__contains=[key])
        )
        return (claims if versions.exists() else claims.none()), ""
    commits = [
        own.removeprefix("commit:")
        for own in visible(
            viewer, EntityKey.objects.filter(entity=end, key__startswith="commit:")
        ).values_list("key", flat=True)
    ]
    seen = visible(viewer, Activity.objects.filter(type="commit", commit__in=commits, keys__contains=[key]))
    commit = seen.values_list("commit", flat=True).first() or ""
    return claims.filter(keys__key=f"commit:{commit}").distinct(), commit


DEPENDS = ("dependsOn", "consumesApi")


@dataclass(frozen=True, slots=True)
class Dependence:
    """What ties the things of two owners together.

    :ivar owner: ref of the other; empty for what nobody owns.
    :ivar ours: how many things of one's own take part; `theirs`: of the other's.
    :ivar names: titles of the other's, not more than `NAMED`.
    """

    owner: str
    ours: int
    theirs: int
    names: list[str]


NAMED = 3


def dependences(viewer: Any, owner: str, *, incoming: bool) -> list[Dependence]:
    """Whom the things that somebody owns depend on, by owner, the most first; one's own are left out.

    :param incoming: who depends on them instead.
    """
    ours, theirs = ("target", "source") if incoming else ("source", "target")
    seen = list_entities(viewer)
    rows = (
        Relation.objects.filter(
            **{f"{ours}__in": seen.filter(owner=owner).values("pk"), f"{theirs}__in": seen.values("pk")},
            type__in=DEPENDS,
        )
        .exclude(**{f"{theirs}__owner": owner})
        .values_list(f"{theirs}__owner")
        .annotate(
            ours=Count(ours, distinct=True),
            theirs=Count(theirs, distinct=True),
            names=ArrayAgg(f"{theirs}__title", distinct=True, order_by=f"{theirs}__title"),
        )
        .order_by("-theirs", f"{theirs}__owner")
    )
    return [Dependence(other, n, m, names[:NAMED]) for other, n, m, names in rows]


def claims_on(viewer: Any, entity: Entity) -> list[Claim]:
    """The claims on an entity that are for this viewer, strongest first, those that do not count last."""
    hidden = hidden_names(viewer)
    return [claim for claim in claims_of(entity) if claim.source.name not in hidden]


# --- provenance -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldSource:
    """Who says a field's value, and who says otherwise.

    :ivar losing: {"source", "value"} of claims that lost.
    """

    path: str
    value: Any
    claim: Claim
    losing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def said(self) -> list[tuple[Claim, Any]]:
        """Who says what of it, the one that counts first."""
        return [(self.claim, self.value), *((one["claim"], one["value"]) for one in self.losing)]

    def is_overridden_by_another(self, person: str) -> bool:
        """Whether anybody else overrides it than a person, by the key of their source."""
        return any(claim.rank == Rank.PERSON and claim.source.key != person for claim, _value in self.said)


def provenance_of(entity_claims: Iterable[Claim]) -> dict[str, FieldSource]:
    """Every field by its dotted path, with who says it.

    :param entity_claims: the claims on one entity that a viewer may see: `claims_on`.
    """
    claims, kinds = {claim.pk: claim for claim in entity_claims}, current_kinds()
    said = [
        Said(claim.pk, claim.rank, claim.source_id, kinds.upgraded(claim.entity.kind, claim.document))
        for claim in claims.values()
        if not claim.is_shadowed
    ]
    found = {}
    for path, voices in provenance(said).items():
        first = voices[0]
        losing = [
            {"source": claims[v.claim_id].source, "value": v.value, "claim": claims[v.claim_id]}
            for v in voices[1:]
            if v.value != first.value
        ]
        found[".".join(path)] = FieldSource(".".join(path), first.value, claims[first.claim_id], losing)
    return found


def conflicts_by_field(viewer: Any) -> tuple[dict[str, int], int]:
    """On how many entities sources disagree, by the field, and on how many only about fields that no kind knows.

    :returns: counts by dotted path, the greatest first.
    """
    paths = {token("conflict", path): path for path in current_kinds().paths}
    rows = list_entities(viewer).filter(tokens__contains=[token("conflict")]).order_by()
    try:
        found, params = rows.values("id", "tokens").query.sql_with_params()
    except EmptyResultSet:  # who may see nothing
        return {}, 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH found AS MATERIALIZED ({found})
            SELECT t, count(*) FROM found, unnest(found.tokens) t WHERE t = ANY(%s) GROUP BY t
            UNION ALL
            SELECT NULL, count(*) FROM found WHERE NOT found.tokens && %s::bigint[]
            """,  # noqa: S608 - the inner statement is Django's
            [*params, list(paths), list(paths)],
        )
        counts = dict(cursor.fetchall())
    others = counts.pop(None, 0)
    known = {paths[key]: count for key, count in counts.items()}
    return dict(sorted(known.items(), key=lambda pair: (-pair[1], pair[0]))), others


# --- activity ---------------------------------------------------------------------------------------------


def list_activity(viewer: Any) -> QuerySet[Activity]:
    """All activity that the viewer may see, newest first; the tool's own payload is left out."""
    return visible(viewer, Activity.objects.all()).defer("raw").order_by("-at", "-id")


def activity_of(viewer: Any, entity: Entity, *, types: Iterable[str] = ()) -> QuerySet[Activity]:
    """What happened to an entity and to what is tied to it, newest first."""
    rows = list_activity(viewer).filter(subject_uid__in=[uid for uid, _shared in reach(entity)])
    wanted = list(types)
    return rows.filter(type__in=wanted) if wanted else rows


def forbidden_ties(viewer: Any, entity: Entity) -> list[tuple[Tie, bool]]:
    """The ties of an entity that people forbade, newest first, and whether the viewer may take that back."""
    rows = Tie.objects.filter(Q(source=entity) | Q(target=entity), state=TieState.FORBIDDEN)
    mine = set(visible(viewer, rows, "tie.write").values_list("pk", flat=True))
    seen = visible(viewer, rows).select_related("source", "target").order_by("-decided_at")
    return [(tie, tie.pk in mine) for tie in seen]


def alike(viewer: Any, entity: Entity) -> list[Entity]:
    """Others of its kind that are a key which it is too: perhaps they are one thing."""
    known = visible(viewer, EntityKey.objects.filter(is_identity=True, kind=entity.kind))
    sharing = known.filter(key__in=known.filter(entity=entity).values("key")).values("entity_id")
    return list(list_entities(viewer).filter(pk__in=sharing).exclude(pk=entity.pk).order_by("ref")[:20])


def redirects_to(viewer: Any, entity: Entity) -> list[Redirect]:
    """What was merged into an entity, newest first."""
    losers = visible(viewer, Entity.objects.filter(redirect__winner=entity))
    rows = Redirect.objects.filter(loser__in=losers).select_related("loser", "winner")
    return list(rows.order_by("-decided_at"))


def redirect_of(viewer: Any, ref: str) -> Redirect:
    """The merge by which an entity of this name became another.

    :raises NotFound: if there is none that the viewer may see.
    """
    losers = visible(viewer, Entity.objects.exclude(redirect=None))
    found = Redirect.objects.filter(ref=ref.lower(), loser__in=losers).select_related("winner").first()
    if found is None:
        raise NotFound(_("%(ref)s was not merged into anything.") % {"ref": ref})
    return found


def reach(entity: Entity) -> list[tuple[uuid.UUID, bool]]:
    """Whose activity shows on an entity, and whether it is shared with others.

    Of what is gone nothing is tied any more: it is its own, and that of the repository that a component was.
    """
    if entity.is_alive:
        return reach_of({entity.pk})[entity.pk]
    known = FormerKey.objects.filter(entity=entity, key__contains="component:").values_list("key", flat=True)
    keys = [key.replace("component:", "repo:") for key in known]
    there = Entity.objects.filter(former_keys__in=FormerKey.objects.filter(key__in=keys, kind="repository"))
    return [(uid, False) for uid in {entity.uid, *there.values_list("uid", flat=True)}]


def delivered_types() -> set[str]:
    """Record types of activity that some connection has delivered; at most some seconds old."""
    return _delivered.get()


class _Delivered:
    """Which types there are hardly ever changes, and every page asks."""

    SECONDS = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._types: set[str] = set()

    def get(self) -> set[str]:
        with self._lock:
            if not self._types or time.monotonic() - self._at > self.SECONDS:
                self._types = self._look()
                self._at = time.monotonic()
            return set(self._types)

    def forget(self) -> None:
        with self._lock:
            self._at = float("-inf")

    @staticmethod
    def _look() -> set[str]:
        # Jumps from one type to the next along the index, whatever the number of rows.
        with connection.cursor() as cursor:
            cursor.execute(
                """
                WITH RECURSIVE t AS (
                    (SELECT type FROM catalog_activity ORDER BY type LIMIT 1)
                    UNION ALL
                    SELECT (SELECT type FROM catalog_activity a WHERE a.type > t.type ORDER BY type LIMIT 1)
                    FROM t WHERE t.type IS NOT NULL
                )
                SELECT type FROM t WHERE type IS NOT NULL
                """
            )
            return {row[0] for row in cursor.fetchall()}


_delivered = _Delivered()


def forget_delivered_types() -> None:
    """Look again at the next question: after activity came or went in this process."""
    _delivered.forget()


def latest_by_type(
    viewer: Any, uids: Iterable[uuid.UUID], types: Iterable[str], *, limit: int
) -> list[Activity]:
    """The newest activities of some subjects, so many of each type, in one statement."""
    subjects = list(uids)
    rows = [
        list_activity(viewer).filter(subject_uid__in=subjects, type=type_)[:limit]
        for type_ in sorted(set(types))
    ]
    if not rows:
        return []
    first, *others = rows
    return list(first.union(*others, all=True)) if others else list(first)


# --- history and problems ---------------------------------------------------------------------------------


def revisions(viewer: Any, entity: Entity) -> QuerySet[Revision]:
    """An entity's history, newest first."""
    return visible(viewer, Revision.objects.filter(entity_uid=entity.uid)).order_by("-number")


def recent_changes(viewer: Any) -> QuerySet[Revision]:
    """What changed in the catalog lately."""
    return visible(viewer, Revision.objects.all()).order_by("-id")


def open_problems(viewer: Any, *, now: datetime | None = None) -> QuerySet[Problem]:
    """Problems that nobody mended or put off, worst and oldest first."""
    moment = now or timezone.now()
    return (
        visible(viewer, Problem.objects.filter(resolved_at=None))
        .filter(Q(snoozed_until=None) | Q(snoozed_until__lt=moment))
        .order_by("severity", "first_seen_at", "id")
    )


def count_problems(viewer: Any) -> tuple[int, int]:
    """How many problems are open, and how many of them are errors. One query."""
    found = (
        open_problems(viewer)
        .order_by()
        .aggregate(total=Count("id"), failing=Count("id", filter=Q(severity="fail")))
    )
    return found["total"], found["failing"]


def problems_by_cause(viewer: Any, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """Open problems grouped by type and cause, the worst and widest first."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for problem in open_problems(viewer, now=now)[:5_000]:
        group = groups.setdefault(
            (problem.type, problem.cause),
            {
                "type": problem.type,
                "cause": problem.cause,
                "severity": problem.severity,
                "remedy": problem.remedy,
                "since": problem.first_seen_at,
                "problems": [],
            },
        )
        group["problems"].append(problem)
        group["since"] = min(group["since"], problem.first_seen_at)
    return sorted(groups.values(), key=lambda g: (g["severity"] != "fail", -len(g["problems"])))


def counts_by_kind(viewer: Any) -> dict[str, int]:
    """How many entities of each kind the viewer may see."""
    with counting(viewer, now=timezone.now()) as counts:
        return dict(sorted(counts.sizes("", "kind").items()))


def titles_of(viewer: Any, refs: Iterable[str]) -> dict[str, Entity]:
    """The entities behind some refs, light, for chips."""
    wanted = {ref for ref in refs if ref}
    if not wanted:
        return {}
    return {entity.ref: entity for entity in list_entities(viewer).filter(ref__in=wanted).only(*LIGHT)}


def titles_by_uid(viewer: Any, uids: Iterable[uuid.UUID | None]) -> dict[uuid.UUID, Entity]:
    """The entities behind some uids, light, for chips."""
    wanted = {uid for uid in uids if uid}
    if not wanted:
        return {}
    return {entity.uid: entity for entity in list_entities(viewer).filter(uid__in=wanted).only(*LIGHT)}


def records_of_entities(viewer: Any, entity_ids: Iterable[int], records: QuerySet[Any]) -> QuerySet[Any]:
    """Narrow stored records (of a floor above) to those whose claims, of those for the viewer, speak of some entities.

    Records and claims share connection, resource and external id; the source's key joins them.
    """
    claims = Claim.objects.filter(entity_id__in=list(entity_ids), source__type="connection")
    pairs = visible(viewer, claims).values_list("source__key", "external_id")
    condition = Q(pk__in=())
    for key, external_id in pairs:
        slug, _slash, resource = key.removeprefix("connection:").partition("/")
        names = Q(resource=resource) if resource != "components" else Q(type="repository")
        condition |= names & Q(connection__slug=slug, external_id=external_id)
    return records.filter(condition)


def list_ties(viewer: Any, tie_id: int) -> QuerySet[Tie]:
    """One tie, if the viewer may see it."""
    return visible(viewer, Tie.objects.filter(pk=tie_id))
