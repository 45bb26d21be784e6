"""Which entity a claim is about: the one it had, the one it declares, the one that shares a key, or a new one."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from django.db.models import Q

from base.text import derive_name
from catalog.audience import that_count
from catalog.bulk import among, reserve_ids, upsert
from catalog.models import (
    Activity,
    Alias,
    Claim,
    ClaimMode,
    Entity,
    EntityKey,
    FormerKey,
    Rank,
    Redirect,
    Source,
)

if TYPE_CHECKING:
    from catalog.services.ingest import ClaimIn


LEFT = "left:"  # before a key that a living entity had


def remember(source: Source, claims: Sequence[Claim]) -> None:
    """Keep what these claims' entities were known by."""
    if not claims:
        return
    keys = EntityKey.objects.filter(claim_id__in=among(c.id for c in claims), is_identity=True)
    former = {(kind, key): entity_id for kind, key, entity_id in keys.values_list("kind", "key", "entity_id")}
    former |= {(c.entity.kind, claim_key(source, c.external_id)): c.entity_id for c in claims}
    upsert(
        [
            FormerKey(kind=kind, key=key, entity_id=entity_id, source=source.name)
            for (kind, key), entity_id in former.items()
        ],
        unique=["key", "kind"],
        update=["entity", "source"],
    )


def leave(source: Source, keys: Iterable[tuple[str, str, int]]) -> None:
    """Note under what keys entities are known no longer, though they live: an address that was left.

    :param source: who says so.
    :param keys: kind, key and entity.
    """
    upsert(
        [
            FormerKey(kind=kind, key=f"{LEFT}{key}", entity_id=entity_id, source=source.name)
            for kind, key, entity_id in sorted(keys)
        ],
        unique=["key", "kind"],
        update=["entity", "source"],
    )


def call(entities: Iterable[tuple[ClaimIn, int]]) -> None:
    """Let the names that these claims would be given now lead to their entities too, where they are free."""
    refs = {
        f"{claim.kind}:{claim.namespace}/{derive_name(claim.suggested_name, key=claim.external_id)}".lower(): entity
        for claim, entity in entities
        if claim.suggested_name and claim.declared_ref() is None
    }
    taken = set(Entity.objects.filter(ref__in=among(refs, "text")).values_list("ref", flat=True))
    Alias.objects.bulk_create(
        [Alias(ref=ref, entity_id=entity) for ref, entity in sorted(refs.items()) if ref not in taken],
        ignore_conflicts=True,
    )


def who_left(keys: Iterable[str]) -> dict[str, Entity]:
    """The living entities that were known by these keys and have others now."""
    rows = FormerKey.objects.filter(
        key__in=among((f"{LEFT}{key}" for key in keys), "text"), entity__deleted_at=None
    )
    return {
        row.key.removeprefix(LEFT): row.entity
        for row in rows.select_related("entity").defer("entity__tokens").order_by("id")
    }


def join(other: Entity, home: Entity) -> None:
    """Let all that was said of one entity, and happened to it, count for another.

    The caller holds both, and merges both: the one that nobody speaks of any more becomes a tombstone.
    """
    other.claims.update(entity=home)
    for model in (EntityKey, FormerKey, Alias):
        model.objects.filter(entity=other).update(entity=home)
    Alias.objects.update_or_create(ref=other.ref, defaults={"entity": home})
    Activity.objects.filter(subject_uid=other.uid).update(
        subject_uid=home.uid, subject_ref=home.ref, namespace=home.namespace
    )


def claim_key(source: Source, external_id: str) -> str:
    """By which former key a thing is known again of which a source says something again."""
    return f"claim:{source.key}/{external_id}"


class HomeFinder:
    """Finds the entities of one page of claims of one source.

    :ivar redirected: new claims, by their ids, that a person's merge leads elsewhere.
    """

    def __init__(self, source: Source, *, at: datetime) -> None:
        self.source = source
        self.at = at
        self.redirected: dict[str, Redirect] = {}
        self._spoken_of: set[uuid.UUID] = set()  # the people that the source tells of

    def find(
        self,
        claims: list[ClaimIn],
        olds: list[Claim | None],
        normalised: list[tuple[list[str], list[str]]],
    ) -> tuple[list[Entity], dict[int, Entity], set[int]]:
        """The entity of each claim: the one it had, the one it declares, the one that shares a key, or a new one.

        New ones have their ids but are not written yet.

        :returns: the entities, the new ones by id, and the ids of entities that lost claims to another.
        """
        refs = {ref for claim in claims if (ref := claim.declared_ref())}
        by_ref = self._entities_by_ref(refs)
        # A key that a claim of this page has had until now belongs to whoever carries it from now on.
        by_key = self._entities_by_key(
            {key for keys, _ in normalised for key in keys},
            without={old.id for old in olds if old is not None},
        )
        had_ids = {old.entity_id for old in olds if old is not None}
        had = {entity.id: entity for entity in Entity.objects.filter(id__in=among(had_ids)).defer("tokens")}

        people = {entity.pk for (kind, _key), found in by_key.items() if kind == "user" for entity in found}
        if people:
            told = Claim.objects.filter(source=self.source, entity_id__in=among(people))
            self._spoken_of = set(told.values_list("entity__uid", flat=True))

        homes: list[Entity | None] = []
        left: list[Claim] = []
        for claim, old in zip(claims, olds, strict=True):
            home = had[old.entity_id] if old is not None else None
            if old is not None and home is not None and home.kind != claim.kind:
                # What is of another kind now is another thing; the entity that it was loses the claim.
                old.entity, home = home, None
                left.append(old)
            homes.append(home)
        remember(self.source, left)
        moved: set[int] = {old.entity_id for old in left}
        new: dict[str, Entity] = {}
        unnamed: list[int] = []
        redirects = Redirect.objects.filter(ref__in=among(refs, "text")).select_related("winner")
        merged = {redirect.ref: redirect for redirect in redirects}

        def settle(index: int, home: Entity) -> None:
            homes[index] = home
            self._spoken_of.add(home.uid)
            for key in normalised[index][0]:
                sharing = by_key[claims[index].kind, key]
                if home not in sharing:
                    sharing.append(home)

        for index, known in enumerate(homes):
            if known is not None:
                settle(index, known)
        returning = self._returning(claims, normalised, [i for i, home in enumerate(homes) if home is None])
        for index, claim in enumerate(claims):
            if homes[index] is not None:
                continue
            ref = claim.declared_ref()
            sharing = self._sharing(by_key, claim.kind, normalised[index][0])
            if ref is not None and ref in merged:
                self.redirected[claim.external_id] = merged[ref]
                settle(index, merged[ref].winner)
            elif ref is not None and ref in by_ref:
                settle(index, by_ref[ref])
                moved |= self._take_over(sharing, by_ref[ref])
            elif ref is not None and ref in new:
                settle(index, new[ref])
            elif sharing:
                settle(index, sharing[0])
            elif index in returning and returning[index] not in homes:
                settle(index, returning[index])
            elif ref is not None:
                metadata = claim.document["metadata"]
                new[ref] = self._new_entity(
                    claim.kind, str(metadata.get("namespace") or "default"), str(metadata["name"])
                )
                settle(index, new[ref])
            else:
                unnamed.append(index)
        if unnamed:
            self._name(claims, unnamed, normalised, homes, new, by_key)
        fresh = list(new.values())
        for entity, entity_id in zip(fresh, reserve_ids(Entity, len(fresh)), strict=True):
            entity.id = entity_id
        return [h for h in homes if h is not None], {entity.id: entity for entity in fresh}, moved

    def _name(
        self,
        claims: list[ClaimIn],
        unnamed: list[int],
        normalised: list[tuple[list[str], list[str]]],
        homes: list[Entity | None],
        new: dict[str, Entity],
        by_key: dict[tuple[str, str], list[Entity]],
    ) -> None:
        """Give derived names: once, from the path, with a suffix from the key where the short name is taken."""
        candidates: dict[int, list[str]] = {}
        for index in unnamed:
            claim = claims[index]
            seed = (normalised[index][0] or [claim.external_id])[0]
            path = claim.suggested_name or claim.external_id
            candidates[index] = [
                derive_name(path, key=seed, with_suffix=with_suffix) for with_suffix in (False, True)
            ]
        wanted = {
            f"{claims[index].kind}:{claims[index].namespace}/{name}".lower()
            for index, names in candidates.items()
            for name in names
        }
        taken = set(Entity.objects.filter(ref__in=among(wanted, "text")).values_list("ref", flat=True))
        taken |= set(Alias.objects.filter(ref__in=among(wanted, "text")).values_list("ref", flat=True)) | set(
            new
        )
        for index in unnamed:
            claim = claims[index]
            sharing = self._sharing(by_key, claim.kind, normalised[index][0])
            if sharing:  # an earlier claim of this very page made it
                homes[index] = sharing[0]
                continue
            name = candidates[index][0]
            if f"{claim.kind}:{claim.namespace}/{name}".lower() in taken:
                name = candidates[index][1]
            ref = f"{claim.kind}:{claim.namespace}/{name}".lower()
            counter = 2
            while ref in taken:
                ref = f"{claim.kind}:{claim.namespace}/{name[:60]}-{counter}".lower()
                counter += 1
            name = ref.rpartition("/")[2] if counter > 2 else name
            entity = self._new_entity(claim.kind, claim.namespace, name)
            homes[index] = entity
            new[entity.ref] = entity
            self._spoken_of.add(entity.uid)
            taken.add(entity.ref)
            for key in normalised[index][0]:
                by_key.setdefault((claim.kind, key), []).append(entity)

    def _sharing(
        self, by_key: dict[tuple[str, str], list[Entity]], kind: str, keys: list[str]
    ) -> list[Entity]:
        found: dict[int, Entity] = {}
        for key in keys:
            for entity in by_key.get((kind, key), ()):
                found[id(entity) if entity.pk is None else entity.pk] = entity
        if kind == "user":
            # A tool knows its own people apart: two with one address, as robots have, are two; and whose address
            # it is of those cannot be told.
            if len(found) > 1:
                return []
            found = {key: one for key, one in found.items() if one.uid not in self._spoken_of}
        return sorted(found.values(), key=lambda entity: (entity.pk is None, entity.pk or 0))

    def _returning(
        self, claims: list[ClaimIn], normalised: list[tuple[list[str], list[str]]], homeless: list[int]
    ) -> dict[int, Entity]:
        """What these claims spoke of before they went, by the claim's index: what returns regains its uid.

        Through a key that is a tombstone; through the claim itself also what another source kept alive meanwhile.
        """
        wanted = {
            index: [*normalised[index][0], claim_key(self.source, claims[index].external_id)]
            for index in homeless
        }
        rows = (
            FormerKey.objects.filter(key__in=among((k for keys in wanted.values() for k in keys), "text"))
            .exclude(~Q(key__startswith="claim:"), entity__deleted_at=None)
            .select_related("entity")
            .defer("entity__tokens")
        )
        by_key = {(row.kind, row.key): row.entity for row in rows}
        found = {}
        for index, keys in wanted.items():
            if home := next(
                (by_key[claims[index].kind, k] for k in keys if (claims[index].kind, k) in by_key), None
            ):
                found[index] = home
        return found

    def _take_over(self, sharing: list[Entity], home: Entity) -> set[int]:
        """A declaration names an entity that exists, and shares a key with an inferred one: they become one."""
        moved = set()
        for other in sharing:
            if other.pk is None or other.pk == home.pk:
                continue
            if other.claims.exclude(rank=Rank.INFERRED).exclude(mode=ClaimMode.AMEND).exists():
                continue
            join(other, home)
            other.aside_claims.update(entity=home)
            moved.add(other.pk)
        return moved

    def _entities_by_ref(self, refs: set[str]) -> dict[str, Entity]:
        if not refs:
            return {}
        # Not by alias: who declares a name that another thing gave up means a thing of its own.
        rows = Entity.objects.filter(ref__in=among(refs, "text")).defer("tokens")
        return {entity.ref: entity for entity in rows}

    def _entities_by_key(self, keys: set[str], *, without: set[int]) -> dict[tuple[str, str], list[Entity]]:
        found: dict[tuple[str, str], list[Entity]] = defaultdict(list)
        if not keys:
            return found
        rows = (
            that_count(EntityKey.objects.filter(key__in=among(keys, "text"), is_identity=True))
            .exclude(claim_id__in=among(without))
            .select_related("entity")
            .order_by("entity_id")
        )
        for row in rows:
            if row.entity not in found[row.kind, row.key]:
                found[row.kind, row.key].append(row.entity)
        return found

    def _new_entity(self, kind: str, namespace: str, name: str) -> Entity:
        kind, namespace, folded = kind.lower(), namespace.lower(), name.lower()
        return Entity(
            uid=uuid.uuid4(),
            ref=f"{kind}:{namespace}/{folded}",
            kind=kind,
            namespace=namespace,
            name=folded,
            title=name,
            digest=b"",
            revision=0,
            created_at=self.at,
            changed_at=self.at,
        )
