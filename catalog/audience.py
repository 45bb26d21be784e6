"""For whom what a source says is: everybody, or only some access groups.

An entity is for everybody if a source that is for everybody asserts it, else for all for whom somebody asserts it.
Only claims for at least all of these count in it, and likewise the runs of what is tied to it; where none who asserts
it is for all of them, what all who do say alike. So a merged document never tells somebody what its sources would not.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import AnonymousUser
from django.db.models import Exists, OuterRef, Q, QuerySet

from access.models import User
from access.permissions import cache, groups_of, has_everything
from catalog.models import Audience, Claim, ClaimMode, EntityKey

Groups = frozenset[int] | None
"""Keys of access groups; None: everybody."""


def audiences() -> dict[str, frozenset[int]]:
    """The sources that are not for everybody, by name, with whom they are for."""
    return {name: frozenset(groups) for name, groups in Audience.objects.values_list("name", "groups")}


def is_for_all(of: Groups, those: Groups) -> bool:
    """Whether what is for some is for all of those."""
    return of is None or (those is not None and those <= of)


def not_for_all(known: dict[str, frozenset[int]], those: Groups) -> list[str]:
    """Names of the sources that are not for all of those."""
    return sorted(name for name, groups in known.items() if not is_for_all(groups, those))


def within(those: Groups) -> Q:
    """The condition on what is of an entity: that the entity is for all of those."""
    every = Q(entity__audience=None)
    return every if those is None else every | Q(entity__audience__contains=sorted(those))


def hidden_from(name: str) -> list[str]:
    """Names of the sources that are not for all for whom the source of this name is."""
    known = audiences()
    return not_for_all(known, known.get(name))


def that_count(keys: QuerySet[EntityKey]) -> QuerySet[EntityKey]:
    """Without the keys that claims bring which do not count, but for those that all bring who assert the entity."""
    counting = Q(claim__is_shadowed=False)
    if Audience.objects.exists():
        own = EntityKey.objects.filter(
            claim=OuterRef("pk"),
            key=OuterRef(OuterRef("key")),
            path=OuterRef(OuterRef("path")),
            is_identity=OuterRef(OuterRef("is_identity")),
        )
        silent = Claim.objects.filter(entity=OuterRef("entity"), mode=ClaimMode.ASSERT).exclude(Exists(own))
        kept_apart = Q(entity__audience__isnull=False, claim__mode=ClaimMode.ASSERT)
        return keys.filter(counting | Q(kept_apart, ~Exists(silent)))
    return keys.filter(counting)


def groups_in(column: Iterable[int] | None) -> Groups:
    """An entity's column as groups."""
    return None if column is None else frozenset(column)


def hidden_names(user: User | AnonymousUser) -> frozenset[str]:
    """Names of the sources that are not for this person. To who may do everything, nothing is hidden."""

    def load() -> frozenset[str]:
        known = audiences()
        if not known or has_everything(user):
            return frozenset()
        mine = groups_of(user)
        return frozenset(name for name, groups in known.items() if not groups & mine)

    return cache.get(("hidden", user.pk), load) if isinstance(user, User) else frozenset()
