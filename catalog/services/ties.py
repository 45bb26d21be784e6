"""Ties: what identity keys bring together across kinds.

A tie needs evidence: one entity *is* a key that another speaks *about*. Rules, in the order of caution:

- A key that two entities of one kind claim to be is ambiguous: it ties nothing.
- In a monorepo the longest folder prefix decides, by whole path segments. What fits no component's folder, or
  fits several equally, stays on the repository and shows on each component as shared.
- An artifact that speaks of several repositories, or whose commit is known from another repository only than
  the one its label names, is contradicted: a person decides.
- An artifact whose versions are of several repositories in turn belongs to neither: a person decides. Of one that
  moved from one to another the newest counts.
- An address that an entity had before it was renamed upstream is its own still, until another takes it; what spoke of
  it before that other came goes on to mean the first.
- What several pipelines check out beside what each builds is a library of theirs, and they do not build it.
- An image's digest is told by a version of its artifact: what runs that digest runs that artifact, under whatever
  name it was pulled. One that several artifacts have (an image that was copied) says something of them only where
  all are of one repository.
- A component and a workload that both name a label are tied: one by its catalog file, one by bearing it.
- What a person confirmed or forbade is never touched here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.db import connection
from django.db.models import Q
from django.utils.translation import gettext as _

from catalog.audience import groups_in, is_for_all, that_count
from catalog.bulk import among
from catalog.kinds import TIE_TYPES
from catalog.models import Activity, Entity, EntityKey, FormerKey, Severity, Tie, TieState
from catalog.services import problems
from catalog.services.homes import LEFT, who_left

# What speaks of a repository and so belongs to one of its components.
SIBLING_TYPES: dict[str, str] = {"pipeline": "builtBy", "artifact": "packagedAs", "workload": "runsAs"}
# A key that more things than this speak about says nothing of any one of them: a template's or a base image's address.
CROWD = 200
# So many pipelines with other repositories beside it show that a repository is a library of pipelines.
LIBRARY = 3


@dataclass(frozen=True, slots=True)
class _Voice:
    entity_id: int
    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class _Left:
    """Who was known by a key once, and lives: it is meant by what spoke of the key before another came.

    :ivar now: what its repository is known by now.
    :ivar taken_at: when another came that is known by it.
    """

    owner: _Voice
    now: str
    taken_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tie that the evidence asks for."""

    source_id: int
    type: str
    target_id: int
    key: str


def tie_entities(*, entity_ids: Iterable[int], at: datetime) -> set[int]:
    """Bring the automatic ties of these entities, and of all that shares a key with them, up to date.

    :returns: ids of entities whose ties changed.
    """
    ids = set(entity_ids)
    keys = set(EntityKey.objects.filter(entity_id__in=among(ids)).values_list("key", flat=True))
    keys |= _digests_spoken_of(ids) | _left_by(ids)
    # What a commit tells of is a repository, and so another key that these entities share; and all that a repository's
    # commits tell of belongs to the evidence, whoever of them asks.
    more = keys
    while more:
        found = {repo for repos in _repositories_of_commits(_shas(more)).values() for repo in repos}
        found |= _commits_spoken_of({key for key in more | found if key.startswith("repo:")})
        more = found - keys
        keys |= more
    wanted, contradicted, ambiguous = _candidates(keys)
    existing = {
        (tie.source_id, tie.type, tie.target_id): tie
        for tie in Tie.objects.filter(
            Q(key__in=among(keys, "text")) | Q(source_id__in=among(ids)) | Q(target_id__in=among(ids))
        )
    }
    shown: dict[tuple[int, str, int], list[str]] = defaultdict(list)  # the keys that ask for each tie
    for c in wanted:
        shown[c.source_id, c.type, c.target_id].append(c.key)
    judged = {
        name: tie
        for name, tie in existing.items()
        if tie.key in keys or tie.source_id in ids or tie.target_id in ids
    }
    gone = [tie for name, tie in judged.items() if tie.state == TieState.AUTO and name not in shown]
    # What stays may stand on another key than it did.
    moved = [tie for name, tie in judged.items() if name in shown and tie.key not in shown[name]]
    fresh = [
        Tie(source_id=name[0], type=name[1], target_id=name[2], key=found[0])
        for name, found in shown.items()
        if name not in existing
    ]
    if gone:
        Tie.objects.filter(id__in=among(tie.id for tie in gone)).delete()
    for tie in moved:
        tie.key = shown[tie.source_id, tie.type, tie.target_id][0]
    if moved:
        Tie.objects.bulk_update(moved, ["key"])
    if fresh:
        Tie.objects.bulk_create(fresh, ignore_conflicts=True)
    _report(contradicted, ids=ids, at=at)
    shared = {pk for found in ambiguous.values() for pk in found}
    entities = {entity.id: entity for entity in Entity.objects.filter(id__in=among(shared)).defer("tokens")}
    problems.ambiguous_keys(
        shared={key: [(entities[pk], found[pk]) for pk in sorted(found)] for key, found in ambiguous.items()},
        keys=keys,
        at=at,
    )
    changed = {end for tie in (*gone, *moved, *fresh) for end in (tie.source_id, tie.target_id)}
    # What runs an artifact is reached from what is packaged as it.
    if images := {tie.source_id for tie in (*gone, *fresh) if tie.type == "runsAs"}:
        changed |= set(
            Tie.objects.filter(target_id__in=among(images), type="packagedAs").values_list(
                "source_id", flat=True
            )
        )
    return changed


def _candidates(keys: set[str]) -> tuple[list[Candidate], dict[int, list[str]], dict[str, dict[int, int]]]:
    """What the evidence of these keys asks for; which entities contradict themselves, with the keys that disagree;
    and the keys that several entities of one kind are, with those and how many each meets."""
    are: dict[str, list[_Voice]] = defaultdict(list)
    speak: dict[str, list[_Voice]] = defaultdict(list)
    since: dict[tuple[str, int], datetime] = {}  # when each was first heard of a key
    rows = (
        that_count(EntityKey.objects.filter(key__in=among(keys, "text"), entity__deleted_at=None))
        .order_by("entity_id")
        .values_list("entity_id", "kind", "key", "path", "is_identity", "claim__created_at")
    )
    for entity_id, kind, key, path, is_identity, heard_at in rows:
        voices = are[key] if is_identity else speak[key]
        voice = _Voice(entity_id, kind, path)
        if voice not in voices:
            voices.append(voice)
        since[key, entity_id] = min(heard_at, since.get((key, entity_id), heard_at))
    artifacts = {v.entity_id for voices in speak.values() for v in voices if v.kind == "artifact"}
    pipelines = {v.entity_id for voices in speak.values() for v in voices if v.kind == "pipeline"}
    named, commits = _sources_of(artifacts | pipelines)
    homes = _repositories_of_commits({sha for pk in artifacts for sha in commits[pk]})
    told = {key for found in (*named.values(), *homes.values()) for key in found}
    left = _who_left(keys | told)
    now = {key: before.now for key, before in left.items() if before.taken_at is None}
    by_commit, contradicted = _evidence_of_commits(artifacts, named, commits, homes, now)
    contradicted |= _taken_in_turn(artifacts, now)
    for entity_id, repo in by_commit.items():
        speak[repo].append(_Voice(entity_id, "artifact", ""))
    speak |= _without_libraries(speak, named)
    # Who is not of a repository, as a person said, gets nothing that comes through it; why it might be is kept.
    foreign = set(
        Tie.objects.filter(
            state=TieState.FORBIDDEN,
            type="hasSource",
            target_id__in=among(v.entity_id for key in are for v in are[key] if v.kind == "repository"),
        ).values_list("target_id", "source_id")
    )
    wanted: list[Candidate] = []
    for key, before in left.items():
        meant = [
            voice
            for voice in speak[key]
            if before.taken_at is None or since.get((key, voice.entity_id), before.taken_at) < before.taken_at
        ]
        speak[key] = [voice for voice in speak[key] if voice not in meant]
        meant = [v for v in meant if v.entity_id not in contradicted]
        wanted += _direct(key, before.owner.kind, before.owner.entity_id, meant)
        if before.owner.kind == "repository":
            there = [v for v in speak[before.now] if v.kind == "component"]
            meant = [v for v in meant if (before.owner.entity_id, v.entity_id) not in foreign]
            wanted += _through(key, [*there, *(v for v in meant if v.kind != "component")])
    ambiguous: dict[str, dict[int, int]] = {}
    for key, owners in are.items():
        for kind in {owner.kind for owner in owners}:
            same = {owner.entity_id for owner in owners if owner.kind == kind}
            if rivals := _rivals(same) if len(same) > 1 else {}:
                ambiguous.setdefault(key, {}).update(rivals)
            for owner_id in sorted(same - set(rivals)):
                voices = [v for v in speak[key] if v.kind != kind and v.entity_id not in contradicted]
                if len({v.entity_id for v in voices if v.kind == "artifact"}) > CROWD:
                    voices = [v for v in voices if v.kind != "artifact"]
                wanted += _direct(key, kind, owner_id, voices)
                if kind == "repository":
                    wanted += _through(key, [v for v in voices if (owner_id, v.entity_id) not in foreign])
    for digest, artifacts in _artifacts_of_digests(
        {key for key in speak if key.startswith("image-digest:")}
    ).items():
        for artifact_id in artifacts:
            wanted += _direct(digest, "artifact", artifact_id, speak[digest])
    for key, voices in speak.items():
        if key.startswith("kubernetes:"):
            for component in (v for v in voices if v.kind == "component"):
                wanted += [
                    Candidate(component.entity_id, SIBLING_TYPES[v.kind], v.entity_id, key)
                    for v in voices
                    if v.kind == "workload"
                ]
    return wanted, contradicted, ambiguous


def _rivals(entity_ids: set[int]) -> dict[int, int]:
    """How many of some entities each meets: those that all who see it may see. Who meets none has no rival."""
    rows = Entity.objects.filter(id__in=among(entity_ids)).values_list("id", "audience")
    groups = {pk: groups_in(column) for pk, column in rows}
    met = {pk: sum(is_for_all(other, own) for other in groups.values()) for pk, own in groups.items()}
    return {pk: count for pk, count in met.items() if count > 1}


def _direct(key: str, kind: str, owner_id: int, voices: list[_Voice]) -> Iterable[Candidate]:
    """The ties of an entity with what speaks of the key that it is."""
    for voice in voices:
        if (rule := TIE_TYPES.get((kind, voice.kind))) is None:
            continue
        source_kind, type_ = rule
        if source_kind == kind:
            yield Candidate(owner_id, type_, voice.entity_id, key)
        else:
            yield Candidate(voice.entity_id, type_, owner_id, key)


def _through(key: str, voices: list[_Voice]) -> Iterable[Candidate]:
    """The ties of a repository's components with what else speaks of it."""
    components = [v for v in voices if v.kind == "component"]
    things: dict[int, list[_Voice]] = defaultdict(list)
    for voice in voices:
        if voice.kind in SIBLING_TYPES:
            things[voice.entity_id].append(voice)
    for entity_id, spoken in things.items():
        homes = {_home(voice.path, components) for voice in spoken}
        home = next(iter(homes))
        # A thing of two folders fits several components, so it stays on the repository.
        if len(homes) == 1 and home is not None:
            yield Candidate(home, SIBLING_TYPES[spoken[0].kind], entity_id, key)


def _home(path: str, components: list[_Voice]) -> int | None:
    """The component whose folder is the longest prefix of a path, if it is one alone."""
    best: set[int] = set()
    longest = -1
    for component in components:
        folder = component.path
        if folder and path != folder and not path.startswith(f"{folder}/"):
            continue
        if not folder and not path and len({c.entity_id for c in components}) > 1:
            # Nothing says which of the repository's components it is for.
            return None
        if len(folder) > longest:
            best, longest = {component.entity_id}, len(folder)
        elif len(folder) == longest:
            best.add(component.entity_id)
    return next(iter(best)) if len(best) == 1 else None


def _digests_spoken_of(entity_ids: set[int]) -> set[str]:
    """Keys of the digests of these artifacts' versions that something else speaks of: a workload that runs them."""
    if not Entity.objects.filter(kind="workload", deleted_at=None).exists():
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT k.key FROM catalog_entity e
            JOIN catalog_activity a ON a.subject_uid = e.uid AND a.type = 'version'
            CROSS JOIN LATERAL unnest(a.keys) AS told(key)
            JOIN catalog_entitykey k ON k.key = told.key AND NOT k.is_identity
            WHERE e.id = ANY(%s) AND e.kind = 'artifact' AND told.key LIKE 'image-digest:%%'
            """,
            [list(entity_ids)],
        )
        return {row[0] for row in cursor.fetchall()}


def _artifacts_of_digests(digests: set[str]) -> dict[str, set[int]]:
    """Which artifacts have a version of each digest; several only where all name one and the same repository."""
    found: dict[str, set[int]] = defaultdict(set)
    if digests:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT told.key, e.id FROM catalog_activity a
                CROSS JOIN LATERAL unnest(a.keys) AS told(key)
                JOIN catalog_entity e ON e.uid = a.subject_uid AND e.kind = 'artifact' AND e.deleted_at IS NULL
                WHERE a.type = 'version' AND a.keys && %(keys)s::text[] AND told.key = ANY(%(keys)s)
                """,
                {"keys": list(digests)},
            )
            for key, entity_id in cursor.fetchall():
                found[key].add(entity_id)
    copies = {pk for artifacts in found.values() if len(artifacts) > 1 for pk in artifacts}
    if copies:
        named, _commits = _sources_of(copies)
        for digest, artifacts in found.items():
            sources = {frozenset(named[pk]) for pk in artifacts}
            if len(artifacts) > 1 and not (len(sources) == 1 and len(next(iter(sources))) == 1):
                found[digest] = set()
    return found


def _left_by(entity_ids: set[int]) -> set[str]:
    """The keys that these entities had before."""
    rows = FormerKey.objects.filter(entity_id__in=among(entity_ids), key__startswith=LEFT)
    return {key.removeprefix(LEFT) for key in rows.values_list("key", flat=True)}


def _who_left(keys: set[str]) -> dict[str, _Left]:
    """Who is meant by some of these keys though it has another now."""
    found = who_left(keys)
    if not found:
        return {}
    present = that_count(EntityKey.objects.filter(is_identity=True, entity__deleted_at=None))
    own = present.filter(entity_id__in=among(entity.id for entity in found.values())).order_by("-id")
    now = dict(own.values_list("entity_id", "key"))
    holders = present.filter(key__in=among(found, "text")).order_by("-entity__created_at")
    taken = {
        (key, kind): (entity_id, at)
        for key, kind, entity_id, at in holders.values_list("key", "kind", "entity_id", "entity__created_at")
    }
    left = {}
    for key, entity in found.items():
        holder, at = taken.get((key, entity.kind), (None, None))
        if holder != entity.id and entity.id in now:
            left[key] = _Left(_Voice(entity.id, entity.kind, ""), now[entity.id], at)
    return left


def _without_libraries(speak: dict[str, list[_Voice]], named: dict[int, set[str]]) -> dict[str, list[_Voice]]:
    """The voices of repositories that are libraries of pipelines, without the pipelines that only use them."""
    found = {}
    for key, voices in speak.items():
        if key.startswith("repo:"):
            users = [v for v in voices if v.kind == "pipeline" and named[v.entity_id] - {key}]
            if len({frozenset(named[v.entity_id] - {key}) for v in users}) >= LIBRARY:
                found[key] = [v for v in voices if v not in users]
    return found


def _taken_in_turn(artifacts: set[int], now: dict[str, str]) -> dict[int, list[str]]:
    """The artifacts whose versions are of several known repositories in turn, with those."""
    if not artifacts:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.id, told.key, min(a.at), max(a.at) FROM catalog_entity e
            JOIN catalog_activity a ON a.subject_uid = e.uid AND a.type = 'version'
            CROSS JOIN LATERAL unnest(a.keys) AS told(key)
            WHERE e.id = ANY(%s) AND told.key LIKE 'repo:%%'
            GROUP BY 1, 2
            """,
            [list(artifacts)],
        )
        spans: dict[int, dict[str, tuple[datetime, datetime]]] = defaultdict(dict)
        for entity_id, key, first, last in cursor.fetchall():
            repository = now.get(key, key)
            begin, end = spans[entity_id].get(repository, (first, last))
            spans[entity_id][repository] = min(begin, first), max(end, last)
    several = {key for found in spans.values() if len(found) > 1 for key in found}
    known = set(
        EntityKey.objects.filter(
            key__in=among(several, "text"), is_identity=True, kind="repository"
        ).values_list("key", flat=True)
        if several
        else ()
    )
    taken = {}
    for entity_id, found in spans.items():
        times = sorted((span, key) for key, span in found.items() if key in known)
        crossing = [
            (one, other) for ((_begin, end), one), ((begin, _end), other) in pairwise(times) if begin < end
        ]
        if crossing:
            taken[entity_id] = sorted({key for pair in crossing for key in pair})
    return taken


def _shas(keys: Iterable[str]) -> set[str]:
    return {key.removeprefix("commit:") for key in keys if key.startswith("commit:")}


def _commits_spoken_of(repositories: set[str]) -> set[str]:
    """Keys of the commits of these repositories that something was made from."""
    if not repositories:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT k.key FROM catalog_entitykey k
            JOIN catalog_activity a ON a.commit = substr(k.key, 8) AND a.commit <> '' AND a.type = 'commit'
            WHERE k.key LIKE 'commit:%%' AND NOT k.is_identity AND a.keys && %s::text[]
            """,
            [list(repositories)],
        )
        return {row[0] for row in cursor.fetchall()}


def _repositories_of_commits(commits: set[str]) -> dict[str, set[str]]:
    """In which repositories each commit was seen."""
    found: dict[str, set[str]] = defaultdict(set)
    if commits:
        rows = Activity.objects.filter(type="commit", commit__in=among(commits, "text"))
        for sha, keys in rows.values_list("commit", "keys"):
            found[sha] |= {key for key in keys if key.startswith("repo:")}
    return found


def _sources_of(entity_ids: set[int]) -> tuple[dict[int, set[str]], dict[int, set[str]]]:
    """The repositories and the commits that these speak of."""
    named: dict[int, set[str]] = defaultdict(set)
    commits: dict[int, set[str]] = defaultdict(set)
    rows = that_count(
        EntityKey.objects.filter(entity_id__in=among(entity_ids), is_identity=False, entity__deleted_at=None)
    )
    for entity_id, key in rows.values_list("entity_id", "key"):
        if key.startswith("repo:"):
            named[entity_id].add(key)
        elif key.startswith("commit:"):
            commits[entity_id].add(key.removeprefix("commit:"))
    return named, commits


def _evidence_of_commits(
    artifacts: set[int],
    named: dict[int, set[str]],
    commits: dict[int, set[str]],
    homes: dict[str, set[str]],
    now: dict[str, str],
) -> tuple[dict[int, str], dict[int, list[str]]]:
    """What the commits of artifacts say of their repositories.

    :param homes: in which repositories each commit was seen.
    :param now: what a repository is known by, for the keys that it had before.
    :returns: the repository of those that name none but whose commit one repository alone holds; and those whose
        own words do not agree, with the keys that disagree.
    """
    by_commit: dict[int, str] = {}
    contradicted: dict[int, list[str]] = {}
    for entity_id in artifacts:
        seen = [{now.get(key, key) for key in homes[sha]} for sha in commits[entity_id] if homes.get(sha)]
        own = {now.get(key, key) for key in named[entity_id]}
        if not own:
            candidates = {repo for repos in seen for repo in repos}
            if len(candidates) == 1:
                by_commit[entity_id] = next(iter(candidates))
            elif candidates:
                contradicted[entity_id] = sorted(candidates)
            continue
        elsewhere = {repo for repos in seen if not repos & own for repo in repos}
        if len(own) > 1 or elsewhere:
            contradicted[entity_id] = sorted(own | elsewhere)
    return by_commit, contradicted


def _report(contradicted: dict[int, list[str]], *, ids: set[int], at: datetime) -> None:
    """What speaks of several repositories, as problems, unless a person has said whose it is."""
    decided = set(
        Tie.objects.filter(target_id__in=among(contradicted), state=TieState.CONFIRMED).values_list(
            "target_id", flat=True
        )
    )
    rows = Entity.objects.filter(id__in=among(contradicted)).only("uid", "ref", "namespace")
    entities = {entity.id: entity for entity in rows}
    problems.sync(
        raised_by=problems.CATALOG,
        seen=[
            (
                problems.subject_of(entities[entity_id]),
                problems.Seen(
                    type="ambiguous-tie",
                    severity=Severity.WARN,
                    cause=_("It speaks of more than one repository"),
                    message=_("%(ref)s points at %(keys)s.")
                    % {
                        "ref": entities[entity_id].ref,
                        "keys": ", ".join(k.removeprefix("repo:") for k in keys),
                    },
                    remedy=_("Tie it to the right repository, or correct its label."),
                    detail={"keys": keys},
                ),
            )
            for entity_id, keys in contradicted.items()
            if entity_id in entities and entity_id not in decided
        ],
        within=Q(type="ambiguous-tie", subject_uid__in=problems.uids_of(set(contradicted) | ids)),
        at=at,
    )
