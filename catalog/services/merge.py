"""How claims become one document: a pure function of the set of claims.

Objects merge by key; scalars and lists are taken whole from the claim that ranks first, except the lists that
the kind calls a union. An explicit null removes what weaker claims say. Rank decides (person, file, API, tool,
inferred), and at equal rank the older source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any

import orjson

Path = tuple[str, ...]

# Lists that every kind merges by union; a kind may name more (`spec.unions` of its definition).
COMMON_UNIONS: frozenset[Path] = frozenset({("metadata", "tags"), ("metadata", "links")})
# Belong to the entity, not to what is said of it; never in conflict.
IDENTITY: frozenset[Path] = frozenset({("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid")})


@dataclass(frozen=True, slots=True)
class Said:
    """One claim, as the merge sees it.

    :ivar rank: 0 counts most.
    :ivar age: orders sources of equal rank; lower is older.
    """

    claim_id: int
    rank: int
    age: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Voice:
    """What one claim says of one field."""

    claim_id: int
    rank: int
    value: Any


def in_order(claims: Iterable[Said]) -> list[Said]:
    """The claims, strongest first."""
    return sorted(claims, key=lambda said: (said.rank, said.age, said.claim_id))


def merge(claims: Sequence[Said], *, unions: frozenset[Path] = COMMON_UNIONS) -> dict[str, Any]:
    """Merge claims into one document.

    :param claims: in any order; the outcome does not depend on it.
    :param unions: paths of lists whose elements are put together, strongest claim's first.
    """
    ordered = in_order(claims)
    if len(ordered) == 1:
        return _without_nulls(ordered[0].document)
    return _merge_objects([said.document for said in ordered], (), unions)


def _merge_objects(values: list[dict[str, Any]], path: Path, unions: frozenset[Path]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key in _keys_of(values):
        here = (*path, key)
        voices = [value[key] for value in values if key in value]
        first = voices[0]
        if isinstance(first, dict):
            merged[key] = _merge_objects(_until_cut(voices, dict), here, unions)
        elif isinstance(first, list) and here in unions:
            merged[key] = _union(_until_cut(voices, list))
        elif first is not None:
            merged[key] = first
    return merged


def _keys_of(values: Iterable[dict[str, Any]]) -> dict[str, None]:
    keys: dict[str, None] = {}
    for value in values:
        keys.update(dict.fromkeys(value))
    return keys


def _until_cut(voices: list[Any], type_: type) -> list[Any]:
    """The first voices of one type: a null or another type cuts off what weaker claims say."""
    return list(takewhile(lambda voice: isinstance(voice, type_), voices))


def _union(lists: list[list[Any]]) -> list[Any]:
    """The strongest list as it is, and what the others add to it."""
    out = list(lists[0])
    seen = {_mark(element) for element in out}
    for element in chain.from_iterable(lists[1:]):
        if (mark := _mark(element)) not in seen:
            seen.add(mark)
            out.append(element)
    return out


def _mark(element: Any) -> Any:
    """What makes two elements one: links are one when their address is."""
    mark = element.get("url", element) if isinstance(element, dict) else element
    return mark if isinstance(mark, str) else _spelled(mark)


def _spelled(value: Any) -> bytes:
    """A value in its one spelling; to Python, `true` and 1 would be equal."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _is_same(one: Any, other: Any) -> bool:
    return one == other and (isinstance(one, str) or _spelled(one) == _spelled(other))


def in_common(
    documents: Sequence[dict[str, Any]], *, unions: frozenset[Path] = COMMON_UNIONS
) -> dict[str, Any]:
    """What all of some documents say alike: equal values, and of lists the elements that all have.

    Where the order of a list may matter, as of all that are no unions, it has to be one in all of them.
    """
    return _in_common(list(documents), (), unions)


def _in_common(values: list[dict[str, Any]], path: Path, unions: frozenset[Path]) -> dict[str, Any]:
    common: dict[str, Any] = {}
    for key, first in values[0].items():
        here, others = (*path, key), [value[key] for value in values[1:] if key in value]
        if len(others) < len(values) - 1:
            continue
        if all(isinstance(voice, dict) for voice in (first, *others)):
            if agreed := _in_common([first, *others], here, unions):
                common[key] = agreed
        elif all(isinstance(voice, list) for voice in (first, *others)) and (first or any(others)):
            if inner := _elements_in_common([first, *others], in_any_order=here in unions):
                common[key] = inner
        elif all(_is_same(first, voice) for voice in others):
            common[key] = first
    return common


def _elements_in_common(lists: list[list[Any]], *, in_any_order: bool) -> list[Any]:
    marked = [[(_spelled(element), element) for element in one] for one in lists]
    shared = {mark for mark, _ in marked[0]}.intersection(*({mark for mark, _ in one} for one in marked[1:]))
    told = [[(mark, element) for mark, element in one if mark in shared] for one in marked]
    if in_any_order:
        return list(dict(told[0]).values())
    is_one = all([mark for mark, _ in one] == [mark for mark, _ in told[0]] for one in told[1:])
    return [element for _, element in told[0]] if is_one else []


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


def provenance(claims: Sequence[Said]) -> dict[Path, list[Voice]]:
    """Who says what of each field: path to voices, the winning one first.

    A list that is a union has every claim that adds to it, a removed field the null that removes it.
    """
    fields: dict[Path, list[Voice]] = {}
    _collect([(said, said.document) for said in in_order(claims)], (), fields)
    return fields


def _collect(voices: list[tuple[Said, Any]], path: Path, fields: dict[Path, list[Voice]]) -> None:
    objects = list(takewhile(lambda voice: isinstance(voice[1], dict), voices))
    keys = _keys_of(value for _, value in objects)
    for key in keys:
        _collect([(said, value[key]) for said, value in objects if key in value], (*path, key), fields)
    if path and not keys:
        fields[path] = [Voice(said.claim_id, said.rank, value) for said, value in voices]


def leaves(value: Any, path: Path = ()) -> Iterable[tuple[Path, Any]]:
    """Every scalar and whole list of a document with its path."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif path:
        yield path, value


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field of which claims say different things.

    :ivar is_tie: the two strongest are of equal rank, so only age decided: a person should.
    """

    path: Path
    voices: tuple[Voice, ...]
    is_tie: bool


def conflicts(claims: Sequence[Said], *, unions: frozenset[Path] = COMMON_UNIONS) -> list[Conflict]:
    """The fields on which the claims disagree."""
    if len(claims) < 2:
        return []
    found = []
    for path, voices in provenance(claims).items():
        if path in unions or path in IDENTITY or path == ("apiVersion",) or path == ("kind",):
            continue
        first = voices[0]
        others = [voice for voice in voices[1:] if not _is_same(voice.value, first.value)]
        if others:
            found.append(Conflict(path, tuple(voices), is_tie=any(v.rank == first.rank for v in others)))
    return found


def diff(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Field by field, what changed: rows of path, old and new; a side that has nothing is left out."""
    before = {".".join(path): value for path, value in leaves(old)}
    after = {".".join(path): value for path, value in leaves(new)}
    rows = []
    for path in sorted({**before, **after}):
        if path in before and path in after:
            if not _is_same(before[path], after[path]):
                rows.append({"path": path, "old": before[path], "new": after[path]})
        elif path in after:
            rows.append({"path": path, "new": after[path]})
        else:
            rows.append({"path": path, "old": before[path]})
    return rows
