"""What the deletion of an entity would leave behind: relations that lead nowhere, and what hangs on nothing else."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from access.permissions import visible
from catalog.bulk import among
from catalog.kinds import current_kinds
from catalog.models import Claim, ClaimMode, Entity, Rank, Relation, SourceType

# By which relations something belongs somewhere. What loses the last of one is an orphan.
BELONGING = ("ownedBy", "partOf", "childOf")
MOST = 100


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion would do.

    :ivar dangling: what names it, by the relation's name for people; at most some of each.
    :ivar counts: how many do, by the same name.
    :ivar orphans: of those, what would belong nowhere any more, with the relation that is lost.
    :ivar unseen: how many further ones there are that the viewer may not see.
    :ivar own: what people made of it by hand or through the API, which the deletion takes back.
    :ivar others: what else asserts it, for which it would stay.
    """

    dangling: dict[str, list[Entity]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    orphans: list[tuple[Entity, str]] = field(default_factory=list)
    unseen: int = 0
    own: list[Claim] = field(default_factory=list)
    others: list[Claim] = field(default_factory=list)


def deletion_of(viewer: Any, entity: Entity) -> Deletion:
    """What the deletion of an entity would leave behind, as far as the viewer may see it."""
    kinds = current_kinds()
    naming = Relation.objects.filter(target=entity, source__deleted_at=None).exclude(source=entity)
    pairs = list(naming.order_by("type", "source__ref").values_list("source_id", "type"))
    sources = Entity.objects.filter(pk__in=among({pk for pk, _type in pairs}), deleted_at=None)
    seen = set(visible(viewer, sources).values_list("pk", flat=True))
    # Of what is not for everybody, others learn no number either.
    unseen = set(sources.filter(audience=None).values_list("pk", flat=True)) - seen
    named: dict[str, list[int]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for pk, type_ in pairs:
        label = kinds.label(type_)
        if pk in seen or pk in unseen:
            counts[label] += 1
        if pk in seen and len(named[label]) < MOST:
            named[label].append(pk)
    belonging = {(pk, type_) for pk, type_ in pairs if type_ in BELONGING}
    kept = set(
        Relation.objects.filter(
            source__in=among({pk for pk, _type in belonging}), type__in=BELONGING, target__deleted_at=None
        )
        .exclude(Q(target=entity) | Q(target=None))
        .values_list("source_id", "type")
    )
    orphans = [(pk, type_) for pk, type_ in sorted(belonging - kept) if pk in seen][:MOST]
    entities = Entity.objects.in_bulk(
        {pk for pks in named.values() for pk in pks} | {pk for pk, _type in orphans}
    )
    own: list[Claim] = []
    others: list[Claim] = []
    asserting = Claim.objects.filter(entity=entity, mode=ClaimMode.ASSERT).exclude(rank=Rank.INFERRED)
    for claim in visible(viewer, asserting).select_related("source").order_by("id"):
        is_own = claim.source.type == SourceType.PERSON or claim.source.key == f"api:{viewer.pk}"
        (own if is_own else others).append(claim)
    return Deletion(
        dangling={label: [entities[pk] for pk in pks] for label, pks in named.items()},
        counts=dict(counts),
        orphans=[(entities[pk], kinds.label(type_)) for pk, type_ in orphans],
        unseen=len(unseen),
        own=own,
        others=others,
    )
