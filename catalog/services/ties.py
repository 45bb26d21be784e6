"""Ties: what identity keys bring together across kinds.

A tie needs evidence: one entity *is* a key that another speaks *about*. Rules, in the order of caution:

- A key that two entities of one kind claim to be is ambiguous: it ties nothing.
- In a monorepo the longest folder prefix decides, by whole path segments. What fits no component's folder, or
  fits several equally, stays on the repository and shows on each component as shared.
- An artifact that speaks of several repositories, or whose commit is known from another repository only than
  the one its label names, is contradicted: a person decides.
- An image's digest is told by a version of its artifact: what runs that digest runs that artifact, under whatever
  name it was pulled. One that several artifacts have (an image that was copied) says nothing of any one of them.
- A component and a workload that both name a label are tied: one by its catalog file, one by bearing it.
- What a person confirmed or forbade is never touched here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Q
from django.utils.translation import gettext as _

from catalog.bulk import among
from catalog.kinds import TIE_TYPES
from catalog.models import Activity, Entity, EntityKey, Severity, Tie, TieState
from catalog.services import problems

# What speaks of a repository and so belongs to one of its components.
SIBLING_TYPES: dict[str, str] = {"pipeline": "builtBy", "artifact": "packagedAs", "workload": "runsAs"}
# A key that more things than this speak about says nothing of any one of them: a template's or a base image's address.
CROWD = 200


@dataclass(frozen=True, slots=True)
class _Voice:
    entity_id: int
    kind: str
    path: str


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
    keys |= _digests_spoken_of(ids)
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
        shared={key: [entities[pk] for pk in sorted(found)] for key, found in ambiguous.items()},
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


def _candidates(keys: set[str]) -> tuple[list[Candidate], dict[int, list[str]], dict[str, set[int]]]:
    """What the evidence of these keys asks for; which entities contradict themselves, with the keys that disagree;
    and the keys that several entities of one kind are, with those."""
    are: dict[str, list[_Voice]] = defaultdict(list)
    speak: dict[str, list[_Voice]] = defaultdict(list)
    rows = (
        EntityKey.objects.filter(
            key__in=among(keys, "text"), entity__deleted_at=None, claim__is_shadowed=False
        )
        .order_by("entity_id")
        .values_list("entity_id", "kind", "key", "path", "is_identity")
    )
    for entity_id, kind, key, path, is_identity in rows:
        voices = are[key] if is_identity else speak[key]
        voice = _Voice(entity_id, kind, path)
        if voice not in voices:
            voices.append(voice)
    by_commit, contradicted = _evidence_of_commits(speak)
    for entity_id, repo in by_commit.items():
        speak[repo].append(_Voice(entity_id, "artifact", ""))
    # Who is not of a repository, as a person said, gets nothing that comes through it; why it might be is kept.
    foreign = set(
        Tie.objects.filter(
            state=TieState.FORBIDDEN,
            type="hasSource",
            target_id__in=among(v.entity_id for key in are for v in are[key] if v.kind == "repository"),
        ).values_list("target_id", "source_id")
    )
    wanted: list[Candidate] = []
    ambiguous: dict[str, set[int]] = {}
    for key, owners in are.items():
        for kind in {owner.kind for owner in owners}:
            same = {owner.entity_id for owner in owners if owner.kind == kind}
            if len(same) > 1:
                ambiguous[key] = ambiguous.get(key, set()) | same
                continue
            owner_id = next(iter(same))
            voices = [v for v in speak[key] if v.kind != kind and v.entity_id not in contradicted]
            if len({v.entity_id for v in voices if v.kind == "artifact"}) > CROWD:
                voices = [v for v in voices if v.kind != "artifact"]
            wanted += _direct(key, kind, owner_id, voices)
            if kind == "repository":
                wanted += _through(key, [v for v in voices if (owner_id, v.entity_id) not in foreign])
    for digest, artifacts in _artifacts_of_digests(
        {key for key in speak if key.startswith("image-digest:")}
    ).items():
        if len(artifacts) == 1:
            wanted += _direct(digest, "artifact", next(iter(artifacts)), speak[digest])
    for key, voices in speak.items():
        if key.startswith("kubernetes:"):
            for component in (v for v in voices if v.kind == "component"):
                wanted += [
                    Candidate(component.entity_id, SIBLING_TYPES[v.kind], v.entity_id, key)
                    for v in voices
                    if v.kind == "workload"
                ]
    return wanted, contradicted, ambiguous


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
    """Which artifacts have a version of each digest."""
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
    return found


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


def _evidence_of_commits(speak: dict[str, list[_Voice]]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """What the commits of artifacts say of their repositories.

    :returns: the repository of those that name none but whose commit one repository alone holds; and those whose
        own words do not agree, with the keys that disagree.
    """
    artifacts = {v.entity_id for voices in speak.values() for v in voices if v.kind == "artifact"}
    named: dict[int, set[str]] = defaultdict(set)
    commits: dict[int, set[str]] = defaultdict(set)
    rows = EntityKey.objects.filter(
        entity_id__in=among(artifacts), is_identity=False, claim__is_shadowed=False, entity__deleted_at=None
    )
    for entity_id, key in rows.values_list("entity_id", "key"):
        if key.startswith("repo:"):
            named[entity_id].add(key)
        elif key.startswith("commit:"):
            commits[entity_id].add(key.removeprefix("commit:"))
    homes = _repositories_of_commits({sha for shas in commits.values() for sha in shas})
    by_commit: dict[int, str] = {}
    contradicted: dict[int, list[str]] = {}
    for entity_id in artifacts:
        seen = [homes[sha] for sha in commits[entity_id] if homes.get(sha)]
        own = named[entity_id]
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
    asked = set(contradicted) | ids
    entities = {entity.id: entity for entity in Entity.objects.filter(id__in=among(asked))}
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
        within=Q(type="ambiguous-tie", subject_uid__in=among((e.uid for e in entities.values()), "uuid")),
        at=at,
    )
