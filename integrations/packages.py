"""What connectors of package registries share: reading what has changed, and the test of what is found. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import Field

from integrations.contract import SELDOM, Answer, Check, Mark, Refused, ngettext
from integrations.contract import gettext as _
from integrations.records import Version

Versions = Annotated[
    int,
    Field(
        ge=1,
        le=1000,
        title="Versions",
        description="How many of a package's newest versions are read.",
        json_schema_extra=SELDOM,
    ),
]


class Package(Protocol):
    """What a registry has of a package, and the answer that says so."""

    @property
    def answer(self) -> Answer: ...


P = TypeVar("P", bound=Package)
Read = Callable[[str], Awaitable[P | Refused]]


async def changed_versions(
    since: dict[str, Any] | None,
    *,
    names: list[str],
    scope: int,
    read: Read[P],
    newest: Callable[[P], Iterable[Version | Refused]],
) -> AsyncIterator[Version | Mark | Refused]:
    """The newest versions of those packages whose answer is another than it was.

    :param scope: how many versions are read; with another number all packages are read anew.
    """
    known = dict(since["known"]) if since and since["scope"] == scope else {}
    known = {name: state for name, state in known.items() if name in names}
    for name in names:
        found = await read(name)
        if isinstance(found, Refused):
            yield found
            continue
        state = hashlib.sha256(found.answer.body).hexdigest()[:16]
        if known.get(name) != state:
            for version in newest(found):
                yield version
            known[name] = state
            yield Mark({"known": {**known}, "scope": scope})


async def finds(names: list[str], *, wanted: list[str], read: Read[P], remedy: str) -> Check:
    """Whether there are packages, and whether the first of them can be read."""
    first = await read(names[0]) if names else None
    if first is None or isinstance(first, Refused):
        detail = first.reason if first else ", ".join(wanted)
        return Check(label=_("No package is found"), ok=False, detail=detail, remedy=remedy)
    label = ngettext("Finds %(count)d package", "Finds %(count)d packages", len(names))
    return Check(label=label % {"count": len(names)}, ok=True)
