"""What people say over a catalog file, and how it comes into the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from base.yaml_edit import REMOVED, CannotEdit
from catalog.documents.patches import patch_of, path_in_repository
from catalog.models import Claim, ClaimMode, Rank
from catalog.services.merge import Path, Said, leaves, merge


@dataclass(frozen=True, slots=True)
class Override:
    """A person's word on one field.

    :ivar wanted: what the file would have to say; `REMOVED` for nothing.
    :ivar agrees: whether the file says just that, so that the override does nothing.
    """

    path: Path
    value: Any
    claim: Claim
    wanted: Any
    agrees: bool

    @property
    def name(self) -> str:
        return ".".join(self.path)


def file_of(claims: Iterable[Claim]) -> Claim | None:
    """The catalog file that declares an entity."""
    return next(
        (c for c in claims if c.rank == Rank.YAML and c.mode == ClaimMode.ASSERT and not c.is_shadowed), None
    )


def overrides_of(claims: Sequence[Claim], *, unions: frozenset[Path]) -> list[Override]:
    """What people override of an entity.

    :param claims: all on it, the strongest first, from `catalog.services.voices.claims_of`.
    """
    file = file_of(claims)
    said: dict[str, Any] = file.document if file else {}
    found: dict[Path, Override] = {}
    for claim in claims:
        if claim.rank != Rank.PERSON:
            continue
        for path, value in leaves(claim.document):
            if path in found:
                continue  # an older word counts
            wanted = REMOVED if value is None else value
            if path in unions:  # what is added there
                both = [Said(0, Rank.PERSON, 0, said), Said(1, Rank.YAML, 1, claim.document)]
                wanted = _at(merge(both, unions=unions), path)
            agrees = file is not None and _is_same(_at(said, path), wanted)
            found[path] = Override(path, value, claim, wanted, agrees)
    return list(found.values())


def _at(document: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return REMOVED
        document = document[name]
    return REMOVED if document is None else document


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


@dataclass(frozen=True, slots=True)
class Patch:
    """What brings overrides into the catalog file.

    :ivar is_diff: whether `git apply` takes it; else it is the piece of YAML to be written there.
    :ivar file: its path in the repository; empty where no file declares the entity.
    """

    text: str
    is_diff: bool
    file: str


def patch_for(overrides: Iterable[Override], claims: Iterable[Claim]) -> Patch | None:
    """The patch by which the catalog file would say what people say; None where it does."""
    values = {one.path: one.wanted for one in overrides if not one.agrees}
    if not values:
        return None
    claim = file_of(claims)
    place = claim.place if claim else {}
    file = path_in_repository(str(place.get("file", "")))
    if claim and claim.text and file.isprintable():
        try:
            text = patch_of(claim.text, values, file=file, line=int(place.get("line", 1)))
            return Patch(text, is_diff=True, file=file)
        except CannotEdit:
            pass  # written in an unusual way
    return Patch(_fragment(values), is_diff=False, file=file)


def _fragment(values: dict[Path, Any]) -> str:
    whole: dict[str, Any] = {}
    for path, value in values.items():
        inner = whole
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = None if value is REMOVED else value
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=1_000)
