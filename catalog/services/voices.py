"""What counts of the claims on an entity, and for whom that is: see `catalog.audience`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet

from catalog.audience import Groups, is_for_all
from catalog.bulk import among
from catalog.kinds import KindView
from catalog.models import Claim, ClaimMode, Entity, Rank, RedirectedClaim, Source
from catalog.services.merge import Said, in_common


def claims_of(entity: Entity) -> list[Claim]:
    """The claims on an entity, strongest first, those that do not count last."""
    claims = list(Claim.objects.filter(entity=entity).select_related("source"))
    for claim in claims:
        claim.entity = entity
    return sorted(claims, key=lambda claim: (claim.is_shadowed, claim.rank, claim.source_id, claim.id))


_COLUMNS = ("pk", "type", "key", "name", "label", "connector")


def ages_of(sources: QuerySet[Source]) -> list[dict[str, Any]]:
    """What it takes to have some sources again that are to go, as plain data: see `as_old_as_before`."""
    return list(sources.values(*_COLUMNS))


def as_old_as_before(kept: Iterable[dict[str, Any]]) -> None:
    """Have sources again that went, unless they are here: of equals the older counts more, so their age matters."""
    Source.objects.bulk_create([Source(**row) for row in kept], ignore_conflicts=True)


def guests_of(entity_ids: Iterable[int]) -> set[int]:
    """Ids of the claims on these entities that were said of others, which a person merged into them."""
    rows = RedirectedClaim.objects.filter(claim__entity_id__in=among(entity_ids))
    return set(rows.values_list("claim_id", flat=True))


def said_of(
    claims: list[Claim],
    *,
    guests: set[int],
    known: dict[str, frozenset[int]],
    kind: KindView,
    shadow_changes: list[Claim] | None = None,
) -> list[Said] | None:
    """What counts of the claims on one entity, as the merge takes it; None if nobody asserts that it exists.

    :param guests: `guests_of` the entity.
    :param known: the sources that are not for everybody: `catalog.audience.audiences`.
    :param kind: the entity's, into whose newest version all is brought.
    :param shadow_changes: gains the claims that are shadowed now and were not, or the other way round.
    """
    effective = _effective(claims, known, shadow_changes if shadow_changes is not None else [])
    said = [Said(c.id, c.rank, c.source_id, _document_of(c, guests, kind)) for c in effective]
    if any(claim.mode == ClaimMode.ASSERT for claim in effective):
        return said
    asserting = _asserting(claims)
    if not asserting:
        return None
    # None of those who assert it is for all of its people, so these know only what all of them say.
    first = asserting[0]
    agreed = in_common([_document_of(claim, guests, kind) for claim in asserting], unions=kind.unions)
    return [Said(first.id, first.rank, first.source_id, agreed), *said]


def audience_of(claims: Iterable[Claim], known: dict[str, frozenset[int]]) -> Groups:
    """For whom an entity is, by the claims on it: see `catalog.audience`."""
    if not known:
        return None
    found = [known.get(claim.source.name) for claim in _asserting(claims)]
    return None if None in found or not found else frozenset().union(*(groups or () for groups in found))


def _asserting(claims: Iterable[Claim]) -> list[Claim]:
    """Those that say that the entity exists, the strongest first."""
    found = (claim for claim in claims if claim.mode == ClaimMode.ASSERT)
    return sorted(found, key=lambda claim: (claim.rank, claim.source_id, claim.id))


def _document_of(claim: Claim, guests: set[int], kind: KindView) -> dict[str, Any]:
    document = kind.definition.upgraded(claim.document)
    return _nameless(document) if claim.id in guests else document


def _effective(claims: list[Claim], known: dict[str, frozenset[int]], changes: list[Claim]) -> list[Claim]:
    """The claims that count: those for all for whom the entity is; of several YAML locations the oldest.

    Not what was declared first: a file that is moved, or taken back by an undo, is declared anew.
    """
    audience = audience_of(claims, known)
    first_yaml: Claim | None = None
    effective = []
    for claim in sorted(claims, key=lambda claim: (claim.source_id, claim.id)):
        shadowed = not is_for_all(known.get(claim.source.name), audience)
        if not shadowed and claim.rank == Rank.YAML and claim.mode == ClaimMode.ASSERT:
            if first_yaml is None:
                first_yaml = claim
            else:
                shadowed = True
        if claim.is_shadowed != shadowed:
            claim.is_shadowed = shadowed
            changes.append(claim)
        if not shadowed:
            effective.append(claim)
    return effective


def _nameless(document: dict[str, Any]) -> dict[str, Any]:
    """A document that was said of another entity names that one, not this."""
    metadata = {k: v for k, v in document.get("metadata", {}).items() if k not in {"name", "namespace"}}
    return {**document, "metadata": metadata}
