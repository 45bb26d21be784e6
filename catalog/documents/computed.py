"""How a field is worked out from others: what a field's definition may say instead of leaving it to sources.

Of one entity alone or with its neighbours, by one of three::

    mirror: {path: [partOf, ownedBy], field: spec.costCentre}
    expression: "entity.spec.tier == 'gold' && size(related.dependencyOf) > 3 ? 99.9 : 99.0"
    count: {path: [dependencyOf], query: "lifecycle:production"}
    count: {activity: [run], status: failed, days: 30}

A path is of relations and ties, in either direction by their names. An expression sees `entity`, the served document,
and `related`: the documents that a relation leads to, for each relation that it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from base.errors import FieldError
from base.expressions import Expression, ExpressionError, compile_expression
from catalog.documents.parts import WORD

MAX_PATH = 4
VARIABLES = ("entity", "related")
_RELATED = re.compile(
    r"\brelated\s*(?:\.\s*\??\s*([A-Za-z][A-Za-z0-9]*)|\[\s*[\"']([A-Za-z][A-Za-z0-9]*)[\"']\s*\])"
)
_AGE = re.compile(r":[<>]=?\d+(min|h|d|w|mo|y)\b")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Computed:
    """What all ways have in common.

    :ivar paths: the ways of relations to what it looks at besides the entity itself.
    """

    paths: tuple[Path, ...]

    def reads(self, name: str) -> bool:
        """Whether it may look at the field `spec.name` of something; rather yes than no."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """What it is worked out from, for people."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Mirror(Computed):
    """A value of what a path leads to; of several things the first that has one, or all where the format is a list."""

    field: Path

    def reads(self, name: str) -> bool:
        return self.field[:2] == ("spec", name)

    @property
    def words(self) -> str:
        return _("%(field)s of what %(path)s leads to") % {
            "field": ".".join(self.field),
            "path": " > ".join(self.paths[0]),
        }


@dataclass(frozen=True, slots=True)
class Formula(Computed):
    """The value of an expression."""

    text: str

    @property
    def compiled(self) -> Expression:
        return compile_expression(self.text, variables=VARIABLES)

    def reads(self, name: str) -> bool:
        return bool(re.search(rf"\.\s*\??\s*{re.escape(name)}\b|[\"']{re.escape(name)}[\"']", self.text))

    @property
    def words(self) -> str:
        names = [path[0] for path in self.paths]
        if names:
            return _("the entity and what %(names)s lead to") % {"names": ", ".join(names)}
        return _("the entity's other fields")


@dataclass(frozen=True, slots=True)
class CountRelated(Computed):
    """How many entities a path leads to, of those that a query finds."""

    query: str

    def reads(self, name: str) -> bool:
        return f"spec.{name}".lower() in self.query.lower()

    @property
    def is_timed(self) -> bool:
        """Whether the query's answer changes as time goes by."""
        return bool(_AGE.search(self.query))

    @property
    def words(self) -> str:
        path = " > ".join(self.paths[0])
        if self.query:
            return _("how many of what %(path)s leads to match %(query)s") % {
                "path": path,
                "query": self.query,
            }
        return _("how many %(path)s leads to") % {"path": path}


@dataclass(frozen=True, slots=True)
class CountActivity(Computed):
    """How much of some activity there was, of late or ever."""

    types: tuple[str, ...]
    status: str
    days: int | None

    def reads(self, name: str) -> bool:
        return False

    @property
    def words(self) -> str:
        what = ", ".join(filter(None, [*self.types, self.status]))
        if self.days is None:
            return _("how much activity there was: %(what)s") % {"what": what}
        return ngettext(
            "how much activity there was in %(n)d day: %(what)s",
            "how much activity there was in %(n)d days: %(what)s",
            self.days,
        ) % {"n": self.days, "what": what}


WAYS = ("mirror", "expression", "count")


def computed_of(spec: Mapping[str, Any]) -> Computed | None:
    """How a field is worked out; None if sources say it. The definition fits its schema."""
    if mirror := spec.get("mirror"):
        return Mirror((tuple(mirror["path"]),), tuple(mirror["field"].split(".")))
    if text := spec.get("expression"):
        names = dict.fromkeys(one or other for one, other in _RELATED.findall(text))
        return Formula(tuple((name,) for name in names), text)
    if count := spec.get("count"):
        if "activity" in count:
            return CountActivity((), tuple(count["activity"]), count.get("status", ""), count.get("days"))
        return CountRelated((tuple(count["path"]),), count.get("query", ""))
    return None


def faults_of(spec: Mapping[str, Any], *, type_: Any) -> Iterator[FieldError]:
    """What the schema of a definition cannot say.

    :param type_: the JSON type of the field's format.
    """
    ways = [way for way in WAYS if way in spec]
    if len(ways) > 1:
        yield FieldError(
            f"spec.{ways[1]}",
            _("A field is worked out in one way, not by %(ways)s.") % {"ways": ", ".join(ways)},
        )
    if ways and "relation" in spec:
        yield FieldError("spec.relation", _("What is worked out makes no relation."))
    if "count" in spec:
        if ("activity" in spec["count"]) == ("path" in spec["count"]):
            yield FieldError("spec.count", _("Count either what a path leads to, or activity."))
        for key, beside in (("status", "activity"), ("days", "activity"), ("query", "path")):
            if key in spec["count"] and beside not in spec["count"]:
                yield FieldError(
                    f"spec.count.{key}", _("This belongs to a count of %(beside)s.") % {"beside": beside}
                )
        if type_ != "number":
            yield FieldError("spec.format", _("A count is a number."))
    if "expression" in spec:
        try:
            compile_expression(spec["expression"], variables=VARIABLES)
        except ExpressionError as error:
            yield FieldError("spec.expression", error.message)


_NAMES = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_PATH,
    "items": WORD,
}
SCHEMAS: dict[str, Any] = {
    "mirror": {
        "type": "object",
        "required": ["path", "field"],
        "additionalProperties": False,
        "properties": {
            "path": _NAMES,
            "field": {"type": "string", "pattern": r"^(spec|metadata)(\.[A-Za-z_][A-Za-z0-9_-]*)+$"},
        },
    },
    "expression": {"type": "string", "minLength": 1, "maxLength": 4_000},
    "count": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "path": _NAMES,
            "query": {"type": "string", "maxLength": 2_000},
            "activity": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[a-z]+$"}},
            "status": {"type": "string", "pattern": "^[a-z]+$"},
            "days": {"type": "integer", "minimum": 1, "maximum": 3_650},
        },
    },
}
