"""Filters and predicates of Backstage as sets of entities.

Both become one thing: a `filter` of a GET is a predicate too, since a cursor carries it as one.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Q
from pyroaring import BitMap

from catalog.api.backstage.errors import InputError
from catalog.documents.refs import MAX_REF
from catalog.index import Index
from catalog.models import Entity
from catalog.query.refs import RefBeginning, RefPattern
from catalog.query.relations import directions_called
from catalog.query.sight import seen_by
from catalog.query.tokens import MAX_VALUE, as_text, token

Predicate = dict[str, Any]
Scalar = str | int | float | bool

_GROUPS = ("$all", "$any", "$not")
_DEEPEST = 20
# One request may ask much, but not keep a process busy for minutes.
MOST_CONDITIONS = 2_000  # groups included
MOST_VALUES = 10_000  # in all of them
MOST_KEPT = 50  # of the values of one condition: more are looked up in one statement
MOST_PREFIXES = 20  # each looks at all values of a field
MOST_RELATIONS = 100  # each looks through relations and ties, both ends of them


def of_filters(filters: Sequence[str]) -> Predicate | None:
    """The predicate of a request's `filter` parameters; None if they say nothing.

    Several are alternatives. In one, commas join what must all hold, but the same key twice means either value.

    :raises InputError: for a part without a key.
    """
    alternatives = [found for text in filters if (found := _of_filter(text)) is not None]
    if not alternatives:
        return None
    return alternatives[0] if len(alternatives) == 1 else {"$any": alternatives}


def _of_filter(text: str) -> Predicate | None:
    wanted: dict[str, list[str] | None] = {}
    for part in text.split(","):
        part = part.strip()
        if not part:
            continue
        key, has_value, value = part.partition("=")
        key = key.strip()
        if not key:
            raise InputError(
                f"Invalid filter, '{part}' is not a valid statement (expected a string on the form a=b or a= or a)"
            )
        if has_value:
            wanted[key] = [*(wanted.get(key) or []), value.strip()]
        else:
            wanted.setdefault(key, None)
    if not wanted:
        return None
    fields = [
        {key: {"$exists": True} if values is None else {"$in": values}} for key, values in wanted.items()
    ]
    return fields[0] if len(fields) == 1 else {"$all": fields}


def find(predicate: Any, index: Index, *, viewer: Any) -> BitMap:
    """The entities that a predicate finds among those that the viewer may see. Not to be changed.

    :raises InputError: saying what is wrong with it.
    """
    seen = index.seen_by(viewer)
    return seen if predicate is None else seen & _Finder(index, viewer, seen).find(predicate)


class _Finder:
    def __init__(self, index: Index, viewer: Any, seen: BitMap) -> None:
        self.index, self.viewer, self.seen = index, viewer, seen
        self.conditions = self.values = self.prefixes = self.relations = 0

    def find(self, predicate: Any, depth: int = 0) -> BitMap:
        self._count()
        if not isinstance(predicate, dict):
            raise InputError(f"Invalid query: expected an object, received {_name(predicate)}")
        if depth > _DEEPEST:
            raise InputError(f"Invalid query: nested deeper than {_DEEPEST}")
        if group := next((name for name in _GROUPS if name in predicate), None):
            if len(predicate) > 1:
                raise InputError(f"Invalid query: {group} must stand alone in its object")
            inner = predicate[group]
            if group == "$not":
                return self.index.everything - self.find(inner, depth + 1)
            if not isinstance(inner, list):
                raise InputError(f"Invalid query: {group} expects a list, received {_name(inner)}")
            parts = [self.find(one, depth + 1) for one in inner]
            return self._all(parts) if group == "$all" else reduce(or_, parts, BitMap())
        if unknown := next((key for key in predicate if key.startswith("$")), None):
            raise InputError(f"Invalid query: unknown operator {unknown}")
        return self._all([self._field(key, value) for key, value in predicate.items()])

    def _all(self, parts: list[BitMap]) -> BitMap:
        if not parts:
            return self.index.everything
        return parts[0] if len(parts) == 1 else BitMap.intersection(*parts)

    def _field(self, key: str, value: Any) -> BitMap:
        if _is_scalar(value):
            return self._equals(key, [value])
        if not isinstance(value, dict) or not value:
            raise InputError(f"Invalid query: {key} expects a value or operators, received {_name(value)}")
        return self._all([self._operator(key, operator, operand) for operator, operand in value.items()])

    def _count(self, key: str = "", *, values: int = 0, prefixes: int = 0) -> None:
        self.conditions += 1
        self.values += values
        self.prefixes += prefixes
        self.relations += key.lower().startswith("relations.")
        for what, count, most in (
            ("conditions", self.conditions, MOST_CONDITIONS),
            ("values", self.values, MOST_VALUES),
            ("$hasPrefix", self.prefixes, MOST_PREFIXES),
            ("relations", self.relations, MOST_RELATIONS),
        ):
            if count > most:
                raise InputError(f"Invalid query: more than {most} {what}")

    def _operator(self, key: str, operator: str, operand: Any) -> BitMap:
        if operator == "$in":
            if not isinstance(operand, list) or not all(_is_scalar(one) for one in operand):
                raise InputError(f"Invalid query: $in of {key} expects a list of values")
            return self._equals(key, operand)
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise InputError(f"Invalid query: $exists of {key} expects true or false")
            return self._exists(key) if operand else self.index.everything - self._exists(key)
        if operator == "$hasPrefix":
            if not isinstance(operand, str):
                raise InputError(f"Invalid query: $hasPrefix of {key} expects a text")
            return self._has_prefix(key, operand.lower())
        if operator == "$contains":
            if _is_scalar(operand):
                return self._equals(key, [operand])
            return self._related(key, operand)
        raise InputError(f"Invalid query: unknown operator {operator}")

    def _related(self, key: str, operand: Any) -> BitMap:
        if (
            key.lower() != "relations"
            or not isinstance(operand, dict)
            or not isinstance(operand.get("type"), str)
        ):
            raise InputError(
                f"Invalid query: $contains of {key} expects a value; of relations, an object with type"
            )
        targets = operand.get("targetRef")
        if isinstance(targets, dict):
            targets = targets.get("$in")
        if isinstance(targets, str):
            targets = [targets]
        name = f"relations.{operand['type']}"
        if targets is None:
            return self._exists(name)
        if not isinstance(targets, list) or not all(isinstance(one, str) for one in targets):
            raise InputError("Invalid query: targetRef expects a text or $in with a list of texts")
        return self._equals(name, targets)

    def _equals(self, key: str, values: Sequence[Scalar]) -> BitMap:
        self._count(key, values=len(values))
        key = key.lower()
        texts = [as_text(value) for value in values]
        if key == "metadata.uid":
            uids = [uid for text in texts if (uid := uid_in(text)) is not None]
            return self.index.where(Entity.objects.filter(uid__in=uids, deleted_at=None))
        if key.startswith("relations."):
            name = key.removeprefix("relations.")
            refs = [ref for text in texts if (ref := _exactly(text)) is not None]
            if len(refs) > MOST_KEPT:
                return self._related_to(name, [RefPattern.of(ref) for ref in refs])
            found = [self.index.related(name, ref, seen=self.seen) for ref in refs]
        else:
            tokens = {token(key, text) for text in texts if len(text) <= MAX_VALUE}
            if len(tokens) > MOST_KEPT:
                return self.index.with_any(tokens)
            found = [self.index.with_token(one) for one in tokens]
        return found[0] if len(found) == 1 else reduce(or_, found, BitMap())

    def _exists(self, key: str) -> BitMap:
        self._count(key)
        key = key.lower()
        if key == "metadata.uid":
            return self.index.everything
        if not key.startswith("relations."):
            return self.index.with_token(token(key))
        return self._related_to(key.removeprefix("relations."))

    def _related_to(self, name: str, patterns: Sequence[RefPattern] = ()) -> BitMap:
        """Those with a relation to what matches one of some patterns; without any: to anything."""
        sight = seen_by(self.viewer)
        ways = [way.entities(patterns, seen=sight) for way in directions_called(name)]
        return self.index.where(Entity.objects.filter(reduce(or_, ways, Q(pk__in=())), deleted_at=None))

    def _has_prefix(self, key: str, prefix: str) -> BitMap:
        self._count(prefixes=1)
        if not key.lower().startswith("relations."):
            return self.index.beginning(canonical(key), prefix)
        return self._related_to(key.lower().removeprefix("relations."), [RefBeginning.of(prefix)])


# Fields that are looked up whatever their case; all others as they are written.
_FOLDED = {
    name.lower(): name
    for name in ("kind", "metadata.name", "metadata.namespace", "metadata.uid", "spec.type", "spec.lifecycle")
}


def canonical(field: str) -> str:
    """A field's name as documents have it."""
    return _FOLDED.get(field.lower(), field)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _name(value: Any) -> str:
    return {type(None): "null", list: "array", str: "string", bool: "boolean"}.get(
        type(value), type(value).__name__
    )


def uid_in(text: str) -> uuid.UUID | None:
    """The uid that a text is, if it is one."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _exactly(text: str) -> str | None:
    kind, colon, rest = text.lower().partition(":")
    namespace, slash, name = rest.partition("/")
    is_ref = colon and slash and name and len(text) <= MAX_REF
    return f"{kind}:{namespace}/{name}" if is_ref else None
