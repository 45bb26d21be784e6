"""Fields that packs and administrators add to kinds, without touching what defines the kinds.

A definition is the `spec` of a pack document::

    apiVersion: portico/v1
    kind: FieldDefinition
    metadata: {name: tier}
    spec:
      kinds: [Component, API]
      field: spec.tier
      title: Tier
      description: How much hangs on it.
      format: enum                           # of catalog.documents.formats
      values:                                # of an enum
        - {value: gold, title: Gold, colour: c4}
        - {value: silver}
      default: silver                        # where no source says anything
      shown: [page, list, filter]            # default: the entity's page alone
      order: 10                              # among the added fields of a kind

A number may have a `unit`; a reference `targetKinds` and, to be a relation, `relation: {type, inverse}`. What no source
says may be worked out: see `catalog.documents.computed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from base.errors import FieldError, InvalidInput
from base.schemas import compile_schema
from catalog.documents.computed import SCHEMAS, WAYS, Computed, computed_of, faults_of
from catalog.documents.formats import FORMATS, Format
from catalog.documents.parts import TEXT, WORD

PAGE, LIST, FILTER = "page", "list", "filter"
SHOWN = (PAGE, LIST, FILTER)
# What shapes no document, but only how it is shown.
LOOKS = ("title", "description", "unit", "shown", "order")
COLOURS = tuple(f"c{number}" for number in range(1, 9))


@dataclass(frozen=True, slots=True, eq=False)
class FieldDef:
    """One added field, ready for use.

    :ivar definition: name of the definition, as packs know it.
    :ivar kinds: in lower case.
    :ivar name: of the property below `spec`.
    :ivar schema: its JSON Schema.
    :ivar default: what it is where no source says anything; None for nothing.
    :ivar computed: how it is worked out; None if sources say it.
    :ivar relation: the relation that its references make, as a kind's definition says it; or None.
    """

    definition: str
    kinds: frozenset[str]
    name: str
    title: str
    format: Format
    schema: Mapping[str, Any]
    default: Any
    relation: Mapping[str, Any] | None
    computed: Computed | None
    shown: frozenset[str]
    order: int

    @property
    def path(self) -> str:
        return f"spec.{self.name}"

    @classmethod
    def of(cls, definition: str, spec: Mapping[str, Any]) -> FieldDef:
        """:raises InvalidInput: if the definition is wrong, with each place."""
        errors = _DEFINITION.errors(spec, under=("spec",)) or list(_faults(spec))
        if errors:
            raise InvalidInput(
                _("The field “%(name)s” cannot be used: %(first)s")
                % {"name": definition, "first": errors[0]},
                errors=errors,
            )
        name = spec["field"].removeprefix("spec.")
        format_ = FORMATS[spec["format"]]
        relation = spec.get("relation")
        targets = spec.get("targetKinds") or list(format_.kinds)
        return cls(
            definition=definition,
            kinds=frozenset(kind.lower() for kind in spec["kinds"]),
            name=name,
            title=spec.get("title") or name,
            format=format_,
            schema=_property(spec, format_, targets),
            default=spec.get("default"),
            relation={
                "field": spec["field"],
                "type": relation["type"],
                "inverse": relation["inverse"],
                "targetKinds": targets,
                "many": format_.name == "entities",
                **({"defaultKind": targets[0]} if len(targets) == 1 else {}),
            }
            if relation
            else None,
            computed=computed_of(spec),
            shown=frozenset(spec.get("shown", [PAGE])),
            order=spec.get("order", 0),
        )


def _property(spec: Mapping[str, Any], format_: Format, targets: list[str]) -> dict[str, Any]:
    """What a field is, as a property of its kind's schema."""
    found: dict[str, Any] = {
        "title": spec.get("title") or spec["field"].removeprefix("spec."),
        **({"description": spec["description"]} if spec.get("description") else {}),
        **format_.schema,
        "format": format_.name,
    }
    if "unit" in spec:
        found["unit"] = spec["unit"]
    if values := spec.get("values"):
        found["enum"] = [one["value"] for one in values]
        found["labels"] = {one["value"]: one["title"] for one in values if one.get("title")}
        found["colours"] = {one["value"]: one["colour"] for one in values if one.get("colour")}
    if any(way in spec for way in WAYS):
        found["readOnly"] = True
    if targets:
        found["targetKinds"] = targets
    if spec.get("default") is not None:
        found["default"] = spec["default"]
    return found


def _faults(spec: Mapping[str, Any]) -> Iterable[FieldError]:
    """What a schema cannot say."""
    format_ = FORMATS[spec["format"]]
    is_reference = format_.compared_as == "reference"
    if bool(spec.get("values")) != (format_.name == "enum"):
        yield FieldError("spec.values", _("An enum needs its values, and no other format has any."))
    if "unit" in spec and format_.compared_as != "number":
        yield FieldError("spec.unit", _("Only a number has a unit."))
    if (spec.get("targetKinds") or spec.get("relation")) and not is_reference:
        yield FieldError("spec.relation", _("Only a reference to entities can be a relation."))
    yield from faults_of(spec, type_=format_.schema.get("type"))
    if (default := spec.get("default")) is not None:
        targets = spec.get("targetKinds") or []
        yield from compile_schema(_property({**spec, "default": None}, format_, targets)).errors(
            default, under=("spec", "default")
        )


def with_fields(spec: Mapping[str, Any], fields: Iterable[FieldDef]) -> dict[str, Any]:
    """A kind's definition with what is added to it. What the kind itself describes stays as it is."""
    schema = spec.get("schema")
    if not isinstance(schema, dict):
        return dict(spec)  # no definition that can be used
    own = schema.get("properties") or {}
    added = [one for one in fields if one.name not in own]
    if not added:
        return dict(spec)
    columns = [
        {"field": one.path, "label": one.title, "as": one.format.name} for one in added if LIST in one.shown
    ]
    relations = [dict(one.relation) for one in added if one.relation]
    return {
        **spec,
        "schema": {**schema, "properties": {**own, **{one.name: dict(one.schema) for one in added}}},
        "columns": [*spec.get("columns", ()), *columns],
        "relations": [*spec.get("relations", ()), *relations],
    }


def check_field_definition(name: str, spec: Any) -> Any:
    """The spec, if it is a field that can be added to kinds.

    :raises InvalidInput: with the path of each thing that is wrong.
    """
    FieldDef.of(name, spec)
    return spec


_DEFINITION = compile_schema(
    {
        "type": "object",
        "required": ["kinds", "field", "format"],
        "additionalProperties": False,
        "properties": {
            "kinds": {"type": "array", "minItems": 1, "items": WORD},
            "field": {
                "type": "string",
                "pattern": r"^spec\.[A-Za-z_][A-Za-z0-9_-]*$",
                "maxLength": 100,
                "errorMessage": gettext_noop("a field of the spec, such as spec.tier"),
            },
            "title": TEXT,
            "description": {"type": "string", "maxLength": 2_000},
            "format": {"enum": list(FORMATS)},
            "unit": {"type": "string", "minLength": 1, "maxLength": 20},
            "values": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100,
                "items": {
                    "type": "object",
                    "required": ["value"],
                    "additionalProperties": False,
                    "properties": {
                        "value": {"type": "string", "minLength": 1, "maxLength": 100},
                        "title": TEXT,
                        "colour": {"enum": list(COLOURS)},
                    },
                },
            },
            "default": {},
            "targetKinds": {"type": "array", "items": WORD},
            "relation": {
                "type": "object",
                "required": ["type", "inverse"],
                "additionalProperties": False,
                "properties": {"type": WORD, "inverse": WORD},
            },
            **SCHEMAS,
            "shown": {"type": "array", "items": {"enum": list(SHOWN)}},
            "order": {"type": "integer"},
        },
    }
)
