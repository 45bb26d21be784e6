"""For whom what a source says is: everybody, or only some access groups.

An entity is for everybody if a source that is for everybody asserts it, else for those for whom its strongest
assertion is. Only claims for at least all of these count in it, and likewise the runs of what is tied to it: so a
merged document never tells somebody what its sources would not.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import AnonymousUser

from access.models import User
from access.permissions import cache, groups_of, has_everything
from catalog.models import Audience

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
