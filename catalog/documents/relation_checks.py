"""What a type of relation may join, and how many: checked in the mode that its definition says.

Beside its directions, a `RelationType` may say::

    check: enforce                # off (default), warn: a problem, enforce: refused where people edit, else a problem
    sourceKinds: [Component]      # what it goes out from
    targetKinds: [Group, User]    # what it leads to; default: what the kind's field says
    most: 1                       # how many of it one thing has at most
    inverseMost: 5                # how many may lead to one thing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from base.schemas import compile_schema
from catalog.documents.parts import TEXT, WORD

OFF, WARN, ENFORCE = "off", "warn", "enforce"
MODES = (OFF, WARN, ENFORCE)
KEYS = ("check", "sourceKinds", "targetKinds", "most", "inverseMost")


@dataclass(frozen=True, slots=True)
class RelationCheck:
    """The check of one type of relation; kinds in lower case, none for any."""

    type: str
    mode: str
    source_kinds: frozenset[str]
    target_kinds: frozenset[str]
    most: int | None
    inverse_most: int | None

    @classmethod
    def of(cls, type_: str, spec: Mapping[str, Any]) -> RelationCheck:
        return cls(
            type=type_,
            mode=spec.get("check", OFF),
            source_kinds=frozenset(kind.lower() for kind in spec.get("sourceKinds", ())),
            target_kinds=frozenset(kind.lower() for kind in spec.get("targetKinds", ())),
            most=spec.get("most"),
            inverse_most=spec.get("inverseMost"),
        )


@dataclass(frozen=True, slots=True)
class RelationFault:
    """A relation that its type does not allow.

    :ivar path: of the field that makes it.
    """

    path: str
    type: str
    message: str
    is_enforced: bool


# Which end of a relation breaks when the other goes: what names the other, the other, or a part with its whole.
IMPACTS = ("source", "target", "part")
_KINDS = {"type": "array", "items": WORD}
_NUMBER = {"type": "integer", "minimum": 1}
RELATION_TYPE = compile_schema(
    {
        "type": "object",
        "required": ["inverse"],
        "additionalProperties": False,
        "properties": {
            "type": WORD,
            "inverse": WORD,
            "label": TEXT,
            "inverseLabel": TEXT,
            "impact": {"enum": list(IMPACTS)},
            "check": {"enum": list(MODES)},
            "sourceKinds": _KINDS,
            "targetKinds": _KINDS,
            "most": _NUMBER,
            "inverseMost": _NUMBER,
        },
    }
)
