"""What `@me` stands for: refs of the viewer's own user entity and of the groups that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

Resolver = Callable[[Any], Collection[str]]

_resolvers: list[Resolver] = []


def register_own_refs(resolver: Resolver) -> None:
    """Say how the refs of a viewer are found: those of the user and their groups, parents included."""
    _resolvers.append(resolver)


def own_refs(viewer: object | None) -> frozenset[str]:
    """The refs that `@me` stands for; none without a viewer."""
    if viewer is None:
        return frozenset()
    return frozenset(ref for resolver in _resolvers for ref in resolver(viewer))
