"""Filters and predicates of Backstage as conditions on entities.

Both become one thing: a `filter` of a GET is a predicate too, since a cursor carries it as one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from functools import cached_property, reduce
from operator import or_
from typing import Any

import orjson
from django.db.models import F, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.db.models.lookups import StartsWith

from catalog import queries
from catalog.api.backstage.errors import InputError
from catalog.models import Entity, Served
from catalog.query.conditions import NOTHING
from catalog.query.refs import RefPattern
from catalog.query.relations import directions_called
from catalog.query.sight import seen_by
from catalog.query.tokens import MAX_VALUE, as_text, token

Predicate = dict[str, Any]
Scalar = str | int | float | bool

# Columns that hold a field as it is searched; of an empty one the field is not there.
COLUMNS = {
    "kind": "kind",
    "metadata.name": "name",
    "metadata.namespace": "namespace",
    "spec.type": "type",
    "spec.lifecycle": "lifecycle",
}
_GROUPS = ("$all", "$any", "$not")
_DEEPEST = 20
# One request may ask much, but not keep a process busy for minutes.
MOST_CONDITIONS = 2_000  # groups included
MOST_VALUES = 10_000  # in all of them
MOST_PREFIXES = 20  # each reads the documents that have the field
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


def compile_predicate(predicate: Any, *, viewer: Any, seen: QuerySet[Entity]) -> Q:
    """The condition on entities.

    :param seen: the entities that the viewer may see.
    :raises InputError: saying what is wrong with it.
    """
    return _Compiler(viewer, seen).compile(predicate)


class _Compiler:
    def __init__(self, viewer: Any, seen: QuerySet[Entity]) -> None:
        self.viewer = viewer
        self.seen = seen
        self.conditions = self.values = self.prefixes = self.relations = 0

    def compile(self, predicate: Any, depth: int = 0) -> Q:
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
                return ~self.compile(inner, depth + 1)
            if not isinstance(inner, list):
                raise InputError(f"Invalid query: {group} expects a list, received {_name(inner)}")
            parts = [self.compile(one, depth + 1) for one in inner]
            if group == "$all":
                return reduce(lambda one, other: one & other, parts, Q())
            return reduce(or_, parts) if parts else NOTHING
        found = Q()
        for key, value in predicate.items():
            if key.startswith("$"):
                raise InputError(f"Invalid query: unknown operator {key}")
            found &= self._field(key, value)
        return found

    def _field(self, key: str, value: Any) -> Q:
        if _is_scalar(value):
            return self._equals(key, [value])
        if not isinstance(value, dict) or not value:
            raise InputError(f"Invalid query: {key} expects a value or operators, received {_name(value)}")
        found = Q()
        for operator, operand in value.items():
            found &= self._operator(key, operator, operand)
        return found

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

    def _operator(self, key: str, operator: str, operand: Any) -> Q:
        if operator == "$in":
            if not isinstance(operand, list) or not all(_is_scalar(one) for one in operand):
                raise InputError(f"Invalid query: $in of {key} expects a list of values")
            return self._equals(key, operand)
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise InputError(f"Invalid query: $exists of {key} expects true or false")
            return self._exists(key) if operand else ~self._exists(key)
        if operator == "$hasPrefix":
            if not isinstance(operand, str):
                raise InputError(f"Invalid query: $hasPrefix of {key} expects a text")
            return self._has_prefix(key.lower(), operand.lower())
        if operator == "$contains":
            if _is_scalar(operand):
                return self._equals(key, [operand])
            return self._related(key, operand)
        raise InputError(f"Invalid query: unknown operator {operator}")

    def _related(self, key: str, operand: Any) -> Q:
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

    def _equals(self, key: str, values: Sequence[Scalar]) -> Q:
        self._count(key, values=len(values))
        key = key.lower()
        texts = [as_text(value) for value in values]
        if key == "metadata.uid":
            return Q(uid__in=[uid for text in texts if (uid := _uid(text)) is not None])
        if key.startswith("relations."):
            patterns = [_exactly(text) for text in texts]
            return self._along(key, [pattern for pattern in patterns if pattern is not None])
        tokens = sorted({token(key, text) for text in texts if len(text) <= MAX_VALUE})
        if not tokens:
            return NOTHING
        return Q(tokens__contains=tokens) if len(tokens) == 1 else Q(tokens__overlap=tokens)

    def _exists(self, key: str) -> Q:
        self._count(key)
        key = key.lower()
        if key == "metadata.uid":
            return Q()
        if key.startswith("relations."):
            return self._along(key, None)
        return Q(tokens__contains=[token(key)])

    def _along(self, key: str, patterns: list[RefPattern] | None) -> Q:
        """What has a relation, to one of some refs or to anything."""
        if patterns == []:
            return NOTHING
        ways = directions_called(key.removeprefix("relations."))
        return reduce(or_, (way.entities(patterns or (), seen=self._sight) for way in ways), NOTHING)

    @cached_property
    def _sight(self) -> QuerySet[Entity, int] | None:
        return seen_by(self.viewer)

    def _has_prefix(self, key: str, prefix: str) -> Q:
        self._count(prefixes=1)
        if (column := COLUMNS.get(key)) is not None:
            found = Q(**{f"{column}__startswith": prefix})
            return found if prefix else found & ~Q(**{column: ""})
        if key == "metadata.uid":
            return Q(StartsWith(Cast(F("uid"), TextField()), prefix))
        # No index knows the beginnings of values, so those that have the field are read.
        having = self.seen.filter(self._exists(key)).order_by()
        if key.startswith("relations."):
            return self._refs(key, having, prefix)
        rows = Served.objects.filter(entity__in=having.values("pk")).values_list("entity_id", "document")
        return Q(
            pk__in=[
                pk
                for pk, document in rows.iterator(chunk_size=1_000)
                if any(
                    as_text(value).lower().startswith(prefix)
                    for value in values_at(orjson.loads(document), key)
                )
            ]
        )

    def _refs(self, key: str, having: QuerySet[Entity], prefix: str) -> Q:
        wanted = key.removeprefix("relations.")
        rows = Served.objects.filter(entity__in=having.values("pk")).values_list("entity_id", "relations")
        found = {
            pk: {
                one["targetRef"]
                for one in orjson.loads(relations)
                if one["type"].lower() == wanted and one["targetRef"].startswith(prefix)
            }
            for pk, relations in rows.iterator(chunk_size=1_000)
        }
        hidden = queries.hidden_refs(self.viewer, set().union(*found.values()))
        return Q(pk__in=[pk for pk, refs in found.items() if refs - hidden])


def values_at(value: Any, key: str, at: str = "") -> Iterator[Scalar]:
    """The scalars that stand under a key, as they are searched.

    :param key: dotted, in lower case.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{at}.{name.lower()}" if at else name.lower()
            if key == here or key.startswith(f"{here}."):
                yield from values_at(inner, key, here)
    elif isinstance(value, list):
        for element in value:
            yield from values_at(element, key, at)
    elif value is not None and key == at and len(as_text(value)) <= MAX_VALUE:
        yield value


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _name(value: Any) -> str:
    return {type(None): "null", list: "array", str: "string", bool: "boolean"}.get(
        type(value), type(value).__name__
    )


def _uid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _exactly(ref: str) -> RefPattern | None:
    kind, colon, rest = ref.lower().partition(":")
    namespace, slash, name = rest.partition("/")
    return RefPattern(kind, namespace, name, is_literal=True) if colon and slash and name else None
