"""Kinds as data: what a KindDefinition says, compiled for use.

A definition is the `spec` of a pack document::

    apiVersion: portico/v1
    kind: KindDefinition
    metadata: {name: component}
    spec:
      apiVersions: [backstage.io/v1alpha1]   # a document is matched by apiVersion and kind
      kind: Component
      plural: Components
      title: Component                       # default: the kind
      icon: cube                             # of Tabler's outline icons
      colour: c1                             # c1 to c8
      description: A piece of software.
      schema: {type: object, ...}            # JSON Schema of a document's spec
      relations:                             # what fields of the document refer to
        - {field: spec.owner, type: ownedBy, inverse: ownerOf, targetKinds: [Group, User], defaultKind: Group}
      columns:                               # of lists, besides the name
        - {field: spec.owner, label: Owner, as: ref}
      unions: [spec.topics]                  # lists whose elements all sources add to
      unknownFor: {spec.owner: unknown}      # served where Backstage's clients require a value
      version: 2                             # default: 1
      upgrades:                              # how documents that were written before become such
        - to: 2
          from: [acme.example/v1]            # by their apiVersion
          when: has(document.spec.level)     # or by what they say
          apiVersion: acme.example/v2
          fields:                            # null: the field is gone
            spec.tier: "document.spec.level > 2 ? 'gold' : 'silver'"
            spec.level: null
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from base.errors import FieldError, InvalidInput
from base.expressions import Context, ExpressionError, compile_expression
from base.paths import value_at
from base.schemas import InvalidSchema, Schema, compile_schema
from base.text import excerpt
from catalog.documents.formats import FORMATS, format_of
from catalog.documents.parts import TEXT, WORD
from catalog.documents.refs import InvalidRef, parse_ref

Path = tuple[str, ...]

ALWAYS_UNIONS: frozenset[Path] = frozenset({("metadata", "tags"), ("metadata", "links")})


@dataclass(frozen=True, slots=True)
class RelationRule:
    """A field that refers to other entities, by one ref or a list of refs.

    :ivar path: of the field, in the document.
    :ivar target_kinds: the kinds that belong there, to offer in forms; others are not refused.
    :ivar default_kind: what is meant by a ref that names no kind; without it the ref must name one.
    """

    path: Path
    type: str
    inverse: str
    target_kinds: tuple[str, ...] = ()
    default_kind: str | None = None
    many: bool = False

    @property
    def field(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a kind's list: the field, its heading, and how its value is shown."""

    path: Path
    label: str
    shown_as: str = "text"

    @property
    def field(self) -> str:
        return ".".join(self.path)

    @property
    def is_reference(self) -> bool:
        """Whether its values refer to entities."""
        return format_of({"format": self.shown_as}).compared_as == "reference"

    def value_in(self, document: Any) -> Any:
        """What a document says there; None if it says nothing."""
        return value_at(document, self.path)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """How documents of earlier versions of a kind become documents of a later one.

    :ivar to: the version.
    :ivar of: the apiVersions of the documents that it is for; empty for any.
    :ivar when: an expression that holds for the documents that it is for; empty for any.
    :ivar api_version: what becomes of their apiVersion; empty: it stays.
    :ivar fields: an expression for each field, or None where the field is gone.
    """

    to: int
    of: tuple[str, ...]
    when: str
    api_version: str
    fields: tuple[tuple[Path, str | None], ...]

    def context_of(self, document: Mapping[str, Any]) -> Context | None:
        """What its expressions see of a document; None where it is not to be changed.

        Where the condition cannot be told, it does not hold.
        """
        if self.of and document.get("apiVersion") not in self.of:
            return None
        context = Context(document=document)
        try:
            holds = not self.when or compile_expression(self.when, variables=("document",)).test(context)
        except ExpressionError:
            return None
        return context if holds else None


@dataclass(frozen=True, slots=True, eq=False)
class KindDef:
    """One kind, ready for use.

    :ivar definition: name of the definition, as packs know it.
    :ivar name: the kind as documents write it.
    :ivar unknown_for: fields that Backstage's clients expect, with what to serve where they are missing.
    """

    definition: str
    name: str
    api_versions: tuple[str, ...]
    title: str
    plural: str
    icon: str
    colour: str
    description: str
    schema: Schema
    relations: tuple[RelationRule, ...]
    columns: tuple[Column, ...]
    unions: frozenset[Path]
    unknown_for: tuple[tuple[Path, Any], ...]
    version: int = 1
    upgrades: tuple[Upgrade, ...] = ()

    @classmethod
    def of(cls, definition: str, spec: Mapping[str, Any]) -> KindDef:
        """:raises InvalidInput: if the definition is wrong, with each place."""
        errors = _DEFINITION.errors(spec, under=("spec",))
        schema: Schema | None = None
        if not errors:
            try:
                schema = compile_schema(spec["schema"])
            except InvalidSchema as error:
                inner = error.errors[0] if error.errors else FieldError("", error.message)
                path = f"spec.schema.{inner.path}" if inner.path else "spec.schema"
                errors.append(FieldError(path, inner.message))
        if not errors:
            errors += _upgrade_faults(spec)
        if schema is None or errors:
            raise InvalidInput(
                _("The kind “%(name)s” cannot be used: %(first)s") % {"name": definition, "first": errors[0]},
                errors=errors,
            )
        name = spec["kind"]
        return cls(
            definition=definition,
            name=name,
            api_versions=tuple(spec["apiVersions"]),
            title=spec.get("title") or name,
            plural=spec["plural"],
            icon=spec.get("icon") or "box",
            colour=spec.get("colour") or "c8",
            description=spec.get("description") or "",
            schema=schema,
            relations=tuple(
                RelationRule(
                    path=_path(rule["field"]),
                    type=rule["type"],
                    inverse=rule["inverse"],
                    target_kinds=tuple(rule.get("targetKinds", ())),
                    default_kind=rule.get("defaultKind"),
                    many=rule.get("many", False),
                )
                for rule in spec.get("relations", ())
            ),
            columns=tuple(
                Column(_path(column["field"]), column["label"], column.get("as", "text"))
                for column in spec.get("columns", ())
            ),
            unions=ALWAYS_UNIONS | {_path(field) for field in spec.get("unions", ())},
            unknown_for=tuple((_path(field), value) for field, value in spec.get("unknownFor", {}).items()),
            version=spec.get("version", 1),
            upgrades=tuple(
                Upgrade(
                    to=rule["to"],
                    of=tuple(rule.get("from", ())),
                    when=rule.get("when", ""),
                    api_version=rule.get("apiVersion", ""),
                    fields=tuple((_path(field), text) for field, text in rule["fields"].items()),
                )
                for rule in sorted(spec.get("upgrades", ()), key=lambda rule: rule["to"])
            ),
        )

    def upgraded(self, document: dict[str, Any], *, errors: list[FieldError] | None = None) -> dict[str, Any]:
        """A document as the newest version of the kind has it; what a source said stays as it is.

        A field of which the expression fails keeps what it says.

        :param errors: gains what failed.
        """
        for rule in self.upgrades:
            context = rule.context_of(document)
            if context is None:
                continue
            changed = document
            for path, text in rule.fields:
                if text is None:
                    changed = _less(changed, path)
                    continue
                try:
                    value = compile_expression(text, variables=("document",)).evaluate(context)
                except ExpressionError as error:
                    if errors is not None:
                        errors.append(FieldError(".".join(path), error.message))
                    continue
                changed = _with(changed, path, value)
            if rule.api_version and "apiVersion" in changed:
                changed = {**changed, "apiVersion": rule.api_version}
            document = changed
        return document

    def property_at(self, path: Path) -> Mapping[str, Any] | None:
        """What the schema says of a field below `spec`; None if it does not describe it."""
        found: Any = self.schema.source if path[0] == "spec" else None
        for part in path[1:]:
            properties = found.get("properties") if isinstance(found, dict) else None
            found = properties.get(part) if isinstance(properties, dict) else None
        return found if isinstance(found, dict) else None

    def default_kind_at(self, path: Path) -> str | None:
        """The kind that a reference at a field means if it names none."""
        return next((rule.default_kind for rule in self.relations if rule.path == path), None)

    def relations_of(self, document: Mapping[str, Any], namespace: str) -> list[tuple[str, str]]:
        """The relations that the document declares: (type, ref of the target), each once, in its order.

        What is no reference is left out; `errors_of` tells of it.

        :param namespace: the entity's own; a reference without a namespace means this one.
        """
        found: dict[tuple[str, str], None] = {}
        for rule in self.relations:
            for text in _values_at(document, rule.path):
                try:
                    found[rule.type, parse_ref(text, rule.default_kind, namespace).text] = None
                except (InvalidRef, AttributeError, TypeError):
                    continue
        return list(found)

    def references_of(
        self, document: Mapping[str, Any], namespace: str
    ) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
        """Every reference of the document: the field, the relation's type, the ref, and the kinds that belong there."""
        for rule in self.relations:
            for text in _values_at(document, rule.path):
                with suppress(InvalidRef, AttributeError, TypeError):
                    ref = parse_ref(text, rule.default_kind, namespace).text
                    yield rule.field, rule.type, ref, rule.target_kinds

    def errors_of(self, document: Mapping[str, Any]) -> list[FieldError]:
        """What is wrong with the document's spec, its references included."""
        spec = document.get("spec")
        if spec is None:
            return [FieldError("spec", _("This is required, but missing."), _("an object with keys"))]
        errors = [] if self.schema.is_valid(spec) else self.schema.errors(spec, under=("spec",))
        wrong = {error.path for error in errors}
        for rule in self.relations:
            is_list = isinstance(value_at(document, rule.path), list)
            for number, text in enumerate(_values_at(document, rule.path)):
                path = f"{rule.field}[{number}]" if is_list else rule.field
                if path in wrong:
                    continue
                try:
                    if not isinstance(text, str):
                        raise InvalidRef(
                            _("A reference must be text, but is %(got)s.") % {"got": excerpt(text)}
                        )
                    parse_ref(text, rule.default_kind)
                except InvalidRef as error:
                    errors.append(FieldError(path, error.message, "[kind:][namespace/]name", excerpt(text)))
        return errors

    def is_valid(self, document: Mapping[str, Any]) -> bool:
        """Whether `errors_of` has nothing to say; much faster than asking it."""
        spec = document.get("spec")
        if spec is None or not self.schema.is_valid(spec):
            return False
        try:
            for rule in self.relations:
                for text in _values_at(document, rule.path):
                    parse_ref(text, rule.default_kind)
        except (InvalidRef, AttributeError, TypeError):
            return False
        return True

    gaps = errors_of

    def with_unknowns(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document as Backstage's clients need it: fields that they require, filled where it has none.

        The document itself stays as it is.
        """
        filled = document
        for path, value in self.unknown_for:
            if value_at(filled, path) is None:
                filled = _with(filled, path, value)
        return filled


class KindSet:
    """All kinds in force, found by apiVersion and kind.

    :ivar broken: definitions that cannot be used, with the reason; the others work without them.
    """

    def __init__(self, definitions: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """:param definitions: name and spec of each; a later one of the same apiVersion and kind replaces."""
        self.broken: list[tuple[str, InvalidInput]] = []
        self._by_version: dict[tuple[str, str], KindDef] = {}
        for name, spec in definitions:
            try:
                kind = KindDef.of(name, spec)
            except InvalidInput as error:
                self.broken.append((name, error))
                continue
            for version in kind.api_versions:
                self._by_version[version, kind.name] = kind

    def __iter__(self) -> Iterator[KindDef]:
        return iter(dict.fromkeys(self._by_version.values()))

    def __len__(self) -> int:
        return len(set(self._by_version.values()))

    def get(self, api_version: Any, kind: Any) -> KindDef | None:
        """The kind that a document of this apiVersion and kind is of, or None."""
        try:
            return self._by_version.get((api_version, kind))
        except TypeError:  # lists and objects may stand there
            return None

    def named(self, kind: str) -> list[KindDef]:
        """The kinds of this name in any case, whatever their apiVersion."""
        wanted = kind.lower()
        return [found for found in self if found.name.lower() == wanted]

    def why_unknown(self, api_version: Any, kind: Any) -> FieldError:
        """What to say where `get` finds nothing."""
        if isinstance(kind, str) and (same := self.named(kind)):
            exact = [found for found in same if found.name == kind]
            if not exact:
                return FieldError(
                    "kind",
                    _("There is no kind %(kind)s; write %(known)s.")
                    % {"kind": excerpt(kind), "known": same[0].name},
                    same[0].name,
                    excerpt(kind),
                )
            versions = ", ".join(version for found in exact for version in found.api_versions)
            return FieldError(
                "apiVersion",
                _("The kind %(kind)s is not known with the apiVersion %(got)s; expected %(versions)s.")
                % {"kind": kind, "got": excerpt(api_version), "versions": versions},
                versions,
                excerpt(api_version),
            )
        names = sorted({found.name for found in self})
        near = difflib.get_close_matches(str(kind), names, n=1)
        hint = _("did you mean %(name)s?") % {"name": near[0]} if near else _("known are: %(names)s.") % {
            "names": ", ".join(names)
        }  # fmt: skip
        return FieldError(
            "kind",
            _("There is no kind %(kind)s; %(hint)s") % {"kind": excerpt(kind), "hint": hint},
            ", ".join(names),
            excerpt(kind),
        )


def check_kind_definition(name: str, spec: Any) -> Any:
    """The spec, if it is a kind definition that can be used.

    :raises InvalidInput: with the path of each thing that is wrong.
    """
    KindDef.of(name, spec)
    return spec


def _path(field: str) -> Path:
    return tuple(field.split("."))


def _values_at(document: Any, path: Path) -> list[Any]:
    """What a field refers to: the elements of its list, or its one value."""
    value = value_at(document, path)
    if isinstance(value, list):
        return value
    return [value] if value or value == {} else []


def _with(document: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy of the document with a value at a path."""
    first, rest = path[0], path[1:]
    inner = document.get(first)
    if rest:
        value = _with(inner if isinstance(inner, dict) else {}, rest, value)
    return {**document, first: value}


def _less(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """A copy of the document without what stands at a path."""
    first, rest = path[0], path[1:]
    if first not in document:
        return document
    if not rest:
        return {name: value for name, value in document.items() if name != first}
    inner = document[first]
    return {**document, first: _less(inner, rest)} if isinstance(inner, dict) else document


def _upgrade_faults(spec: Mapping[str, Any]) -> list[FieldError]:
    """What a schema cannot say of upgrades."""
    found = []
    for number, rule in enumerate(spec.get("upgrades", ())):
        path = f"spec.upgrades[{number}]"
        if "from" not in rule and "when" not in rule:
            found.append(FieldError(path, _("Say by “from” or “when” which documents are old.")))
        if rule["to"] > spec.get("version", 1):
            found.append(
                FieldError(
                    f"{path}.to",
                    _("This is above the kind's version, %(version)d.") % {"version": spec.get("version", 1)},
                )
            )
        for place, text in (
            (f"{path}.when", rule.get("when")),
            *((f"{path}.fields.{f}", t) for f, t in rule["fields"].items()),
        ):
            try:
                if text is not None:
                    compile_expression(text, variables=("document",))
            except ExpressionError as error:
                found.append(FieldError(place, error.message))
        if rule.get("apiVersion", spec["apiVersions"][0]) not in spec["apiVersions"]:
            found.append(FieldError(f"{path}.apiVersion", _("This is none of the kind's apiVersions.")))
    return found


_FIELD = {
    "type": "string",
    "pattern": r"^(spec|metadata)(\.[A-Za-z_][A-Za-z0-9_-]*)+$",
    "errorMessage": gettext_noop("the path of a field, such as spec.owner"),
}
_COLUMNS = ("text", "ref", "time", "number", "boolean", "tags", "link", "code")

_DEFINITION = compile_schema(
    {
        "type": "object",
        "required": ["apiVersions", "kind", "plural", "schema"],
        "additionalProperties": False,
        "properties": {
            "apiVersions": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "string",
                    "pattern": r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]+$",
                    "maxLength": 253,
                    "errorMessage": gettext_noop("a version such as example.org/v1"),
                },
            },
            "kind": WORD,
            "title": TEXT,
            "plural": TEXT,
            "icon": {
                "type": "string",
                "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$",
                "errorMessage": gettext_noop("the name of a Tabler icon, such as cube"),
            },
            "colour": {"enum": [f"c{number}" for number in range(1, 9)]},
            "description": {"type": "string", "maxLength": 2_000},
            "schema": {"type": "object"},
            "relations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "type", "inverse"],
                    "additionalProperties": False,
                    "properties": {
                        "field": _FIELD,
                        "type": WORD,
                        "inverse": WORD,
                        "targetKinds": {"type": "array", "items": WORD},
                        "defaultKind": WORD,
                        "many": {"type": "boolean"},
                    },
                },
            },
            "columns": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "label"],
                    "additionalProperties": False,
                    "properties": {
                        "field": _FIELD,
                        "label": TEXT,
                        "as": {"enum": list(dict.fromkeys([*_COLUMNS, *FORMATS]))},
                    },
                },
            },
            "unions": {"type": "array", "items": _FIELD},
            "unknownFor": {"type": "object", "propertyNames": _FIELD},
            "version": {"type": "integer", "minimum": 1},
            "upgrades": {
                "type": "array",
                "maxItems": 50,
                "items": {
                    "type": "object",
                    "required": ["to", "fields"],
                    "additionalProperties": False,
                    "properties": {
                        "to": {"type": "integer", "minimum": 2},
                        "from": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                        "when": {"type": "string", "minLength": 1},
                        "apiVersion": {"type": "string"},
                        "fields": {
                            "type": "object",
                            "minProperties": 1,
                            "propertyNames": _FIELD,
                            "additionalProperties": {"type": ["string", "null"], "minLength": 1},
                        },
                    },
                },
            },
        },
    }
)
