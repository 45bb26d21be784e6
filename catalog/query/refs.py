"""References to entities in queries: what is left out may be anything."""

from __future__ import annotations

import re
from dataclasses import dataclass

from catalog.query.conditions import escape_like, like_pattern
from catalog.query.nodes import Value

_REF = re.compile(r"(?:([^:/]+):)?(?:([^:/]+)/)?([^:/]+)")


@dataclass(frozen=True, slots=True)
class RefPattern:
    """`group:default/payments`, `group:payments`, `default/payments` or `payments`, in lower case.

    :ivar kind: None where anything will do; so namespace.
    :ivar is_literal: `*` is a star.
    """

    kind: str | None
    namespace: str | None
    name: str
    is_literal: bool = False

    @classmethod
    def read(cls, value: Value) -> RefPattern | None:
        """The pattern of a value, or None if it does not look like a ref."""
        match = _REF.fullmatch(value.text.lower())
        return cls(match[1], match[2], match[3], value.is_quoted) if match else None

    @classmethod
    def of(cls, ref: str) -> RefPattern:
        """The pattern of a whole ref, which alone fits."""
        kind, _colon, rest = ref.lower().partition(":")
        namespace, _slash, name = rest.partition("/")
        return cls(kind, namespace, name, is_literal=True)

    @property
    def exact(self) -> str | None:
        """The whole ref, if only one can match."""
        if self.kind is None or self.namespace is None:
            return None
        ref = f"{self.kind}:{self.namespace}/{self.name}"
        return ref if self.is_literal or "*" not in ref else None

    def fits(self, ref: str) -> bool:
        """Whether a whole ref is one of those that are meant, if no `*` stands for anything."""
        given = _REF.fullmatch(ref.lower())
        return given is not None and all(
            part in (None, other)
            for part, other in zip((self.kind, self.namespace, self.name), given.groups(), strict=True)
        )

    def like(self) -> str:
        """As a LIKE pattern over whole refs."""
        kind, namespace, name = (self._part(part) for part in (self.kind, self.namespace, self.name))
        return f"{kind}:{namespace}/{name}"

    def _part(self, part: str | None) -> str:
        if part is None:
            return "%"
        return escape_like(part) if self.is_literal else like_pattern(part)


@dataclass(frozen=True, slots=True)
class RefBeginning(RefPattern):
    """All refs that begin with what stands in `name`, wherever that breaks off."""

    @classmethod
    def of(cls, text: str) -> RefBeginning:
        return cls(None, None, text.lower(), is_literal=True)

    def like(self) -> str:
        return f"{escape_like(self.name)}%"
