"""JSON Schemas as trees of nodes: references within the definition followed, circles and size held in bounds."""

from __future__ import annotations

from collections import deque
from typing import Any
from urllib.parse import unquote

import orjson
from django.utils.translation import gettext as _

from base.text import excerpt
from catalog.definitions.structure import Node, listing, mapping, words

NODES = 800
DEPTH = 16
_HOPS = 20
_PARTS = 100
_LOOKS = 200_000
_EXAMPLE = 4_000

_HOLDS = ("properties", "required", "allOf", "oneOf", "anyOf", "patternProperties", "additionalProperties")
_BOUNDS = (
    ("minimum", "maximum"),
    ("exclusiveMinimum", "exclusiveMaximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
)


def at_pointer(root: Any, ref: str) -> Any:
    """What a reference within the definition leads to; None if it leads nowhere, or out of it."""
    if not ref.startswith("#"):
        return None
    found = root
    for part in ref[1:].split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isascii() and key.isdigit() and len(key) < 8:
            found = found[int(key)] if int(key) < len(found) else None
        else:
            return None
    return found


def resolved(root: Any, value: Any) -> dict[str, Any]:
    """An object, or what it refers to by `$ref`, however many steps away; what stands beside a reference counts."""
    passed: list[dict[str, Any]] = []
    for _hop in range(_HOPS):
        value = mapping(value)
        ref = value.get("$ref")
        if not isinstance(ref, str):
            break
        passed.append(value)
        value = at_pointer(root, ref)
    else:
        value = {}
    if not passed:
        return mapping(value)
    found = {**mapping(value)}
    for one in reversed(passed):
        found.update(one)
    del found["$ref"]
    return found


def name_of(ref: Any) -> str:
    """What the target of a reference is called."""
    return (
        unquote(ref.rpartition("/")[2]).replace("~1", "/").replace("~0", "~") if isinstance(ref, str) else ""
    )


def as_example(value: Any) -> str:
    """An example as text, cut to a length."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return text if len(text) <= _EXAMPLE else text[:_EXAMPLE] + "\n…"


def outermost_ref(schema: Any) -> str:
    """The reference that a schema, or what a list of it holds, is."""
    for _step in range(_HOPS):
        schema = mapping(schema)
        if isinstance(schema.get("$ref"), str):
            return str(schema["$ref"])
        schema = schema.get("items")
    return ""


class Tree:
    """Grows nodes breadth first, so that where there is too much the upper levels stand.

    :ivar left: how many more nodes there may be.
    """

    def __init__(self, root: Any, *, limit: int = NODES) -> None:
        self._root = root
        self.left = limit
        self._looks = _LOOKS  # at what may stand below nodes, so that no definition takes a page minutes
        self._waiting: deque[tuple[Node, Any, tuple[str, ...]]] = deque()

    def node(
        self,
        name: str,
        schema: Any,
        *,
        is_required: bool = False,
        description: str = "",
        trail: tuple[str, ...] = (),
    ) -> Node:
        """A node of a schema; what is below it comes with `grow`."""
        self.left -= 1
        whole = resolved(self._root, schema)
        made = Node(
            name=name,
            type=self.type_of(schema),
            description=description or words(whole.get("description")) or words(whole.get("title")),
            is_required=is_required,
            is_deprecated=whole.get("deprecated") is True,
            facts=_facts(whole, self._innermost(whole)),
        )
        ref = outermost_ref(schema)
        if ref and at_pointer(self._root, ref) is None:
            made.note = _("%(ref)s is no part of this definition.") % {"ref": ref[:200]}
        elif ref and ref in trail:
            made.note = _("As above: it contains itself.")
        else:
            self._waiting.append((made, schema, (*trail, ref) if ref else trail))
        return made

    def nodes_of(self, schema: Any) -> list[Node]:
        """What is below a schema, where the schema itself has no name: of an object its properties."""
        top = self.node("", schema)
        self.grow()
        if top.children and not self._is_list(schema) and not top.facts and not top.note:
            return top.children
        top.name = top.type
        top.type = ""
        return [top] if top.name or top.children or top.note else []

    def grow(self) -> None:
        """Give all nodes what is below them, as far as there is room."""
        while self._waiting:
            node, schema, trail = self._waiting.popleft()
            below, is_all = self._below(schema)
            room = max(self.left, 0) if len(trail) < DEPTH else 0
            if len(below) > room or not is_all:
                node.note = _("There is more than fits here; the whole definition has it.")
            for name, child, is_required in below[:room]:
                node.children.append(self.node(name, child, is_required=is_required, trail=(*trail, "")))

    def type_of(self, schema: Any, steps: int = 0) -> str:
        """In words what values are: `string (date-time)`, `list of Pet`."""
        schema = mapping(schema)
        if isinstance(schema.get("x-type"), str):
            return str(schema["x-type"])
        if isinstance(schema.get("$ref"), str):
            return name_of(schema["$ref"])
        kind = schema.get("type")
        if (kind == "array" or "items" in schema) and steps < _HOPS:
            inner = self.type_of(schema.get("items"), steps + 1)
            return _("list of %(type)s") % {"type": inner} if inner else _("list")
        if isinstance(kind, list):
            kind = _(" or ").join(words(one) for one in kind[:10])
        kind = words(kind)
        for key, between in (("oneOf", _(" or ")), ("anyOf", _(" or ")), ("allOf", " + ")):
            options = listing(schema.get(key))
            if options and not kind and steps < _HOPS:
                named = [self.type_of(one, steps + 1) for one in options[:6]]
                kind = between.join(dict.fromkeys(filter(None, named)))
                kind += " …" if len(options) > 6 else ""
        if not kind:
            kind = "object" if "properties" in schema else ""
        if schema.get("format") and words(schema["format"]):
            kind = f"{kind} ({words(schema['format'])})".strip()
        if schema.get("nullable") is True:
            kind += _(" or ") + "null"
        return kind

    def _innermost(self, whole: dict[str, Any]) -> dict[str, Any]:
        """What a list of lists holds in the end."""
        for _step in range(_HOPS):
            if "items" not in whole:
                break
            whole = resolved(self._root, whole["items"])
        return whole

    def _is_list(self, schema: Any) -> bool:
        whole = resolved(self._root, schema)
        return whole.get("type") == "array" or "items" in whole

    def _below(self, schema: Any) -> tuple[list[tuple[str, Any, bool]], bool]:
        """The names, schemas and obligations of what stands below a schema, that of its parts included.

        :returns: with them whether these are all.
        """
        whole = self._innermost(resolved(self._root, schema))
        found: dict[str, Any] = {}
        required: set[str] = set()
        more: list[tuple[str, Any, bool]] = []
        parts = [whole]
        followed: set[str] = set()
        for part in parts:  # to which those within are added
            self._looks -= sum(len(part[key]) for key in _HOLDS if isinstance(part.get(key), (dict, list)))
            if self._looks < 0:
                break
            for name, inner in mapping(part.get("properties")).items():
                found.setdefault(str(name), inner)
            required |= {name for name in listing(part.get("required")) if isinstance(name, str)}
            for one in listing(part.get("allOf")):
                ref = words(mapping(one).get("$ref"))
                if len(parts) < _PARTS and ref not in followed:
                    followed |= {ref} if ref else set()
                    parts.append(resolved(self._root, one))
            for key in ("oneOf", "anyOf"):
                options = listing(part.get(key))
                more += [
                    (_("option %(n)d") % {"n": n}, one, False)
                    for n, one in enumerate(options, 1)
                    if self._below_is_worth(one)
                ]
            others = part.get("additionalProperties")
            if isinstance(others, dict) and others:
                more.append((_("any other name"), others, False))
            for pattern, inner in mapping(part.get("patternProperties")).items():
                more.append((str(pattern), inner, False))
        below = [(name, inner, name in required) for name, inner in found.items()] + more
        return below, self._looks >= 0 or not any(key in whole for key in _HOLDS)

    def _below_is_worth(self, option: Any) -> bool:
        """Whether an option says more than its type's name, which stands there already."""
        whole = self._innermost(resolved(self._root, option))
        return any(key in whole for key in ("properties", "allOf", "oneOf", "anyOf", "enum", "description"))


def _facts(whole: dict[str, Any], inner: dict[str, Any]) -> list[str]:
    facts = []
    for one in (whole,) if inner is whole else (whole, inner):
        values = listing(one.get("enum"))
        if values:
            shown = ", ".join(excerpt(value, limit=60).strip("“”") for value in values[:30])
            facts.append(_("one of %(values)s") % {"values": shown + (" …" if len(values) > 30 else "")})
        if "const" in one:
            facts.append(_("always %(value)s") % {"value": excerpt(one["const"])})
        for low, high in _BOUNDS:
            facts.append(_bound(one.get(low), one.get(high), low))
        if words(one.get("pattern")):
            facts.append(_("matches %(pattern)s") % {"pattern": words(one["pattern"])[:200]})
    if "default" in whole and whole["default"] is not None:
        facts.append(_("default %(value)s") % {"value": excerpt(whole["default"])})
    if whole.get("example") is not None and not isinstance(whole["example"], (dict, list)):
        facts.append(_("such as %(value)s") % {"value": excerpt(whole["example"])})
    if whole.get("readOnly") is True:
        facts.append(_("only in answers"))
    if whole.get("writeOnly") is True:
        facts.append(_("only in requests"))
    if words(whole.get("x-takes")):
        facts.append(_("takes %(arguments)s") % {"arguments": words(whole["x-takes"])[:500]})
    return [fact for fact in facts if fact]


def _bound(low: Any, high: Any, key: str) -> str:
    low, high = words(low), words(high)
    if not low and not high:
        return ""
    if key.endswith("Length"):
        texts = (
            _("%(low)s to %(high)s characters"),
            _("at least %(low)s characters"),
            _("at most %(high)s characters"),
        )
    elif key.endswith("Items"):
        texts = (
            _("%(low)s to %(high)s entries"),
            _("at least %(low)s entries"),
            _("at most %(high)s entries"),
        )
    elif key.startswith("exclusive"):
        texts = (_("between %(low)s and %(high)s"), _("more than %(low)s"), _("less than %(high)s"))
    else:
        texts = (_("%(low)s to %(high)s"), _("at least %(low)s"), _("at most %(high)s"))
    return texts[0 if low and high else 1 if low else 2] % {"low": low, "high": high}
