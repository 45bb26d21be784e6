"""The one form engine: JSON Schema in, fields for `components/field.html` and validated data out.

A pydantic model is the only description of what is asked: its JSON Schema makes the fields, the model itself
checks what was typed. Nested models become groups of fields with dotted names; what no field fits is typed as
YAML. A field may say more with `json_schema_extra`: `format` (textarea, query, expression, yaml, json),
`labels` ({value: text} of its choices), `placeholder`, `suggest`, `seldom` (it stands folded under "More settings",
as does a nested model that says so of itself).

A secret is write-only: a kept one is handed in as `secrets`, used when its field comes back empty, and never
shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import yaml
from django.http import QueryDict
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from base.errors import DomainError, FieldError
from base.paths import value_at
from base.safe_yaml import parse_documents
from catalog.documents.formats import ALIASES, FORMATS, format_of

SEGMENTS = 4
MOST_COLUMNS = 4  # of a list of objects that is edited row by row
DEEPEST = 6  # of nested objects, for a schema may refer to itself
LONG_TEXT = 2_500  # longer than any address
PLAIN = {"string", "integer", "number"}
_NUMBERS = ("integer", "number")  # no set: a schema's type may be a list
# Besides the formats of `catalog.documents.formats`: what only settings have.
OWN_FORMATS = {"textarea", "query", "expression", "yaml", "json"}
EDITORS = {"password": "secret"} | {
    name: format_.editor
    for name, format_ in FORMATS.items()
    if format_.editor not in {"select", "list", "bool"}
}

Schema = dict[str, Any]
Path = tuple[str, ...]


@dataclass(frozen=True)
class _Leaf:
    """One field: where its value stands in the data, and what may stand there."""

    path: Path
    schema: Schema
    type: str
    is_required: bool
    is_nullable: bool
    group: str
    group_help: str
    optional: Path = ()  # the group around it that may be left out as a whole
    is_seldom: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def label(self) -> str:
        # Pydantic makes a title of the name where none is given; ours are in sentence case.
        own = self.path[-1].replace("_", " ")
        title = str(self.schema.get("title") or "")
        return str(_(title)) if title and title != own.title() else capfirst(own)


class Form:
    """A form made from a model.

    :ivar values: what was typed, or the given or default values; after `is_valid` the model's own, as plain
        JSON data without secrets.
    :ivar secrets: after `is_valid` the secrets in the clear, kept ones included: for the moment of use.
    :ivar instance: the model's instance after `is_valid`.
    :ivar errors: messages by field name; under "" those that concern no field alone.
    """

    def __init__(
        self,
        model: type[BaseModel],
        data: QueryDict | None = None,
        initial: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.kept = dict(secrets or {})
        self.secrets: dict[str, str] = {}
        self.errors: dict[str, list[str]] = {}
        self.instance: BaseModel | None = None
        self._begin(model.model_json_schema(), _defaults(model), data, initial)

    def _begin(
        self,
        schema: Schema,
        defaults: dict[str, Any],
        data: QueryDict | None,
        initial: Mapping[str, Any] | None,
    ) -> None:
        self._typed: dict[str, str] = {}
        self._defaults = defaults
        self.values: dict[str, Any] = _merged(defaults, initial or {})
        self._leaves = [self._with_rows(leaf, data) for leaf in _leaves(schema, schema.get("$defs", {}))]
        if data is not None:
            self.values = {}
            for leaf in self._leaves:
                self._read(leaf, data)
            self._leave_out_empty_groups()

    def _with_rows(self, leaf: _Leaf, data: QueryDict | None) -> _Leaf:
        """A list of objects as rows of their fields, unless it holds what those have no place for."""
        if leaf.type != "objects":
            return leaf
        value = value_at(self.values, leaf.path)
        known = set(_columns(leaf))
        fits = all(
            isinstance(row, dict) and set(row) <= known and all(isinstance(v, str) for v in row.values())
            for row in (value or ())
        )
        is_rows = fits if data is None else f"{leaf.name}__rows" in data
        return leaf if is_rows else replace(leaf, type="yaml")

    # --- in -----------------------------------------------------------------------------------------------

    def _read(self, leaf: _Leaf, data: QueryDict) -> None:
        value: Any
        if leaf.type == "bool":
            value = leaf.name in data
        elif leaf.type == "multiple":
            value = data.getlist(leaf.name)
        elif leaf.type == "list":
            value = [
                line.strip() for text in data.getlist(leaf.name) for line in text.splitlines() if line.strip()
            ]
        elif leaf.type == "objects":
            columns = list(_columns(leaf))
            rows = zip(*(data.getlist(f"{leaf.name}__{name}") for name in columns), strict=False)
            value = [
                {name: text.strip() for name, text in zip(columns, row, strict=True) if text.strip()}
                for row in rows
                if any(text.strip() for text in row)
            ]
        elif leaf.type == "map":
            names, texts = data.getlist(f"{leaf.name}__key"), data.getlist(f"{leaf.name}__value")
            value = {n.strip(): t.strip() for n, t in zip(names, texts, strict=False) if n.strip()}
        else:
            text = data.get(leaf.name, "").strip()
            if leaf.type == "secret":
                if given := text or self.kept.get(leaf.name, ""):
                    self.secrets[leaf.name] = given
                return
            if text and leaf.type in {"yaml", "json"}:
                self._typed[leaf.name] = text
                value = self._structured(leaf, text)
            elif leaf.type == "datetime" and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text):
                value = f"{text}:00Z"  # the browser's field has no zone; times are those of the portal
            elif not text and (leaf.is_nullable or not _takes_empty(leaf)):
                return
            else:
                value = text
        _put(self.values, leaf.path, value)

    def _leave_out_empty_groups(self) -> None:
        groups: dict[Path, list[_Leaf]] = {}
        for leaf in self._leaves:
            if leaf.optional:
                groups.setdefault(leaf.optional, []).append(leaf)
        for path, leaves in groups.items():
            if not any(value_at(self.values, leaf.path) or leaf.name in self.secrets for leaf in leaves):
                value_at(self.values, path[:-1]).pop(path[-1], None)

    def _structured(self, leaf: _Leaf, text: str) -> Any:
        try:
            documents = parse_documents(text, name=leaf.label)
        except DomainError as error:
            self._add(leaf.name, error.message)
            return None
        if len(documents) == 1 and documents[0].error is None:
            return documents[0].data
        found = documents[0].error if documents else None
        self._add(leaf.name, str(found) if found else _("Expected one YAML document."))
        return None

    def is_valid(self) -> bool:
        """Whether the model takes the values: fills `errors`, or else `values`, `secrets` and `instance`."""
        if self.errors:
            return False
        whole = _merged(self.values, {})
        for name, value in self.secrets.items():
            _put(whole, tuple(name.split(".")), value)
        try:
            found = self.model.model_validate(whole)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                self._note(item)
            return False
        self.instance = found
        self.values = _without(
            found.model_dump(mode="json"), [leaf.path for leaf in self._leaves if leaf.type == "secret"]
        )
        return True

    def _note(self, item: ErrorDetails) -> None:
        leaf, rest = self._at(item["loc"])
        text = readable(item)
        if leaf is None:
            self._add("", text)
            return
        row = next((part for part in rest if isinstance(part, int)), None)
        if row is not None and leaf.type == "list":
            text = _("Row %(row)d: %(message)s") % {"row": row + 1, "message": text}
        elif rest and leaf.type in {"map", "yaml", "json"}:
            text = f"{'.'.join(str(part) for part in rest)}: {text}"
        self._add(leaf.name, text)

    def _at(self, loc: tuple[int | str, ...]) -> tuple[_Leaf | None, tuple[int | str, ...]]:
        """The field at a place of the data, and the rest of the way to the place."""
        for leaf in self._leaves:
            if loc[: len(leaf.path)] == leaf.path:
                return leaf, loc[len(leaf.path) :]
        # A group as a whole: the first of its fields speaks for it.
        for leaf in self._leaves:
            if loc and leaf.path[: len(loc)] == loc:
                return leaf, ()
        return None, loc

    def _add(self, name: str, text: str) -> None:
        messages = self.errors.setdefault(name, [])
        if text not in messages:
            messages.append(text)

    def has_what(self, error: DomainError) -> bool:
        """Whether a service said something of a field of this form."""
        known = {leaf.name for leaf in self._leaves}
        return any(item.path.strip("/").replace("/", ".") in known for item in error.errors)

    def add_errors(self, error: DomainError) -> None:
        """Put what a service said to the fields that it names; what names none stands above the form."""
        known = {leaf.name for leaf in self._leaves}
        for item in error.errors or [FieldError("", error.message)]:
            name = item.path.strip("/").replace("/", ".")
            while name and name not in known:
                name = name.rpartition(".")[0]
            self._add(name, item.message)

    # --- out ----------------------------------------------------------------------------------------------

    @property
    def fields(self) -> list[dict[str, Any]]:
        """All fields in a row, as the component prints them."""
        return [self._field(leaf) for leaf in self._leaves]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The fields by nested model: `label`, `help`, `fields`; those of the model itself have no label.

        What is seldom changed is a group with `is_folded`; it is open if it holds an error or was changed.
        """
        found: dict[tuple[str, bool], dict[str, Any]] = {}
        for leaf in self._leaves:
            group = found.setdefault(
                (leaf.group, leaf.is_seldom),
                {
                    "label": leaf.group or (_("More settings") if leaf.is_seldom else ""),
                    "help": leaf.group_help,
                    "fields": [],
                    "is_folded": leaf.is_seldom,
                    "is_open": False,
                },
            )
            group["fields"].append(self._field(leaf))
            group["is_open"] |= leaf.name in self.errors or self._is_changed(leaf)
        return list(found.values())

    def _is_changed(self, leaf: _Leaf) -> bool:
        """Whether a field holds something else than its default."""
        if leaf.type == "secret":
            return leaf.name in self.kept
        value, default = value_at(self.values, leaf.path), value_at(self._defaults, leaf.path)
        return _plainly(value) != _plainly(default)

    @property
    def summary(self) -> list[dict[str, str]]:
        """All errors in a row, for the summary above the form."""
        labels = {leaf.name: leaf.label for leaf in self._leaves}
        return [
            {"name": name, "label": labels.get(name, name), "text": message}
            for name, messages in self.errors.items()
            for message in messages
        ]

    def _field(self, leaf: _Leaf) -> dict[str, Any]:
        schema, value = leaf.schema, value_at(self.values, leaf.path)
        field = {
            "name": leaf.name,
            "label": leaf.label,
            "help": _(schema["description"]) if schema.get("description") else "",
            "type": leaf.type,
            "value": "" if value is None else value,
            # One of some choices always holds, unless none is one too.
            "required": leaf.is_required or (leaf.type in {"select", "segments"} and not leaf.is_nullable),
            "errors": self.errors.get(leaf.name, []),
            "placeholder": schema.get("placeholder") or next(iter(schema.get("examples", ())), ""),
            "suggest": schema.get("suggest") or _suggested(schema),
            "max_length": schema.get("maxLength") if leaf.type in {"text", "email"} else None,
        }
        match leaf.type:
            case "number":
                field["min"] = schema.get("minimum", schema.get("exclusiveMinimum"))
                field["max"] = schema.get("maximum", schema.get("exclusiveMaximum"))
                field["step"] = "1" if schema.get("type") == "integer" else "any"
            case "secret":
                field |= {"value": "", "is_set": leaf.name in self.kept}
            case "map":
                field["pairs"] = list(value.items()) if isinstance(value, dict) else []
            case "list" | "multiple":
                field["value"] = value if isinstance(value, list) else []
            case "objects":
                columns = _columns(leaf)
                rows = value if isinstance(value, list) else []
                field["rows"] = [
                    [{**one, "value": row.get(name, "")} for name, one in columns.items()]
                    for row in [*rows, {}]
                ]
                field["blank"] = [{**one, "value": ""} for one in columns.values()]
            case "yaml" | "json":
                field["value"] = self._typed.get(leaf.name) or _as_yaml(value)
            case "datetime":
                field["value"] = str(field["value"])[:16].replace(" ", "T")
            case "select" | "segments":
                field["value"] = str(value).lower() if isinstance(value, bool) else field["value"]
        if leaf.type in {"select", "segments", "multiple"}:
            field["choices"] = _choices(schema)
        return field


class SchemaForm(Form):
    """A form made from a JSON Schema alone. Whoever uses the values has them checked, and adds what is wrong.

    `values` holds what was typed as the schema has it, without what was left empty.
    """

    def __init__(
        self,
        schema: Schema,
        data: QueryDict | None = None,
        initial: Mapping[str, Any] | None = None,
        *,
        is_whole: bool = True,
    ) -> None:
        """:param is_whole: whether what the schema requires must be there; else it may have been missing before."""
        self.is_whole = is_whole
        self.kept, self.secrets, self.errors = {}, {}, {}
        self.instance = None
        self._begin(schema, {}, data, initial)
        if data is not None:
            self.values = {}
            for leaf in self._leaves:
                self._read(leaf, data)
                self._take(leaf)
            self._leave_out_empty_groups()

    @property
    def paths(self) -> list[tuple[Path, str, bool]]:
        """Where each field's value stands, the type of the field, and whether there must be one."""
        return [(leaf.path, leaf.type, leaf.is_required) for leaf in self._leaves]

    def is_valid(self) -> bool:
        """Whether all could be read as the schema has it."""
        return not self.errors

    def value_at(self, path: Path) -> Any:
        """What a field holds; None for nothing."""
        return value_at(self.values, path)

    def _take(self, leaf: _Leaf) -> None:
        value = value_at(self.values, leaf.path)
        try:
            value = _as_schema_has(leaf, value)
        except ValueError:
            self._add(leaf.name, _("Enter a number."))
            return
        # An empty list is a value where there must be one; what was not ticked is none where there need not be.
        is_nothing = value is None or value in ("", {}) or (value in ([], False) and not leaf.is_required)
        if is_nothing and not (value == 0 and value is not False):
            holder = value_at(self.values, leaf.path[:-1])
            if isinstance(holder, dict):
                holder.pop(leaf.path[-1], None)
            if self.is_whole and leaf.is_required and leaf.name not in self.errors:
                self._add(leaf.name, _("Enter a value."))
        else:
            _put(self.values, leaf.path, value)


def _as_schema_has(leaf: _Leaf, value: Any) -> Any:
    """:raises ValueError: if a number is expected, and none came."""
    schema = leaf.schema
    if leaf.type in {"select", "segments", "multiple"} and "enum" in schema:
        by_text = {str(one): one for one in schema["enum"]}
        many = [by_text.get(text, text) for text in (value if isinstance(value, list) else [value])]
        return many if leaf.type == "multiple" else many[0]
    if leaf.type == "select":
        return {"true": True, "false": False}.get(value) if value else None
    if leaf.type == "number":
        return _number(value) if value not in (None, "") else None
    if leaf.type == "list" and schema["items"].get("type") in _NUMBERS:
        return [_number(one) for one in value]
    if leaf.type == "map" and schema["additionalProperties"].get("type") in _NUMBERS:
        return {name: _number(one) for name, one in value.items()}
    return value


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not isfinite(number):
            raise
        return number


# --- the schema ------------------------------------------------------------------------------------------


def _leaves(
    schema: Schema,
    defs: Schema,
    path: Path = (),
    group: str = "",
    group_help: str = "",
    optional: Path = (),
    is_seldom: bool = False,
) -> Iterator[_Leaf]:
    required = set(schema.get("required", ()))
    nested: list[tuple[Path, Schema, Path]] = []
    for name, raw in schema.get("properties", {}).items():
        own, is_nullable = _resolve(raw, defs)
        here = (*path, name)
        if own.get("type") == "object" and own.get("properties") and len(here) <= DEEPEST:
            nested.append((here, own, optional or (here if is_nullable or name not in required else ())))
            continue
        yield _Leaf(
            path=here,
            schema=own,
            type=_type(own, defs, is_nullable=is_nullable),
            is_required=name in required and not optional,
            is_nullable=is_nullable,
            group=group,
            group_help=group_help,
            optional=optional,
            is_seldom=is_seldom or (bool(own.get("seldom")) and name not in required),
        )
    for here, own, leave_out in nested:  # after the plain ones, so that a form begins with what is its own
        title = schema["properties"][here[-1]].get("title")
        label = str(_(title)) if title else capfirst(here[-1].replace("_", " "))
        help_ = _(own["description"]) if own.get("description") else ""
        yield from _leaves(own, defs, here, label, help_, leave_out, bool(own.get("seldom")))


def _resolve(schema: Any, defs: Schema) -> tuple[Schema, bool]:
    """A schema with its reference followed, and whether it may be null besides.

    What no field is made for takes anything here, and so is typed as YAML: a schema that is but true, a reference
    that leads elsewhere than to a definition, or in a circle.
    """
    is_nullable = False
    followed: set[str] = set()
    while True:
        schema = _described(schema)
        options = [_described(option) for option in schema.get("anyOf") or schema.get("oneOf") or ()]
        around = {
            key: value for key, value in schema.items() if key not in {"anyOf", "oneOf", "$ref", "allOf"}
        }
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            schema = {**(_described(defs.get(name)) if name not in followed else {}), **around}
            followed.add(name)
        elif len(schema.get("allOf", ())) == 1:
            schema = {**_described(schema["allOf"][0]), **around}
        elif any(option.get("type") == "null" for option in options):
            is_nullable = True
            rest = [option for option in options if option.get("type") != "null"]
            schema = {**rest[0], **around} if len(rest) == 1 else {**around, "anyOf": rest}
        else:
            return schema, is_nullable


def _described(schema: Any) -> Schema:
    """What a schema says; true and false say nothing that a field could show."""
    return schema if isinstance(schema, dict) else {}


def _type(schema: Schema, defs: Schema, *, is_nullable: bool) -> str:
    own = str(schema.get("format", ""))
    own = ALIASES.get(own, own)
    if own in OWN_FORMATS:
        return own
    if "enum" in schema or "const" in schema:
        return "segments" if len(_choices(schema)) <= SEGMENTS and not is_nullable else "select"
    match schema.get("type"):
        case "boolean":
            return "select" if is_nullable else "bool"
        case "integer" | "number":
            return "number"
        case "string":
            return EDITORS.get(own) or ("textarea" if schema.get("maxLength", 0) > LONG_TEXT else "text")
        case "array":
            schema["items"] = items = _resolve(schema.get("items"), defs)[0]
            if "enum" in items:
                schema["enum"], schema["labels"] = items["enum"], items.get("labels", {})
                return "multiple"
            if _is_plain(items):
                return "list"
            return "objects" if _is_flat(items, defs) else "yaml"
        case "object":
            schema["additionalProperties"] = below = _resolve(schema.get("additionalProperties"), defs)[0]
            return "map" if _is_plain(below) else "yaml"
    options = [_resolve(option, defs)[0].get("type") for option in schema.get("anyOf", ())]
    return "text" if options and all(option in PLAIN for option in options) else "yaml"


def _suggested(schema: Schema) -> str:
    """What fills a reference in as it is typed."""
    format_ = format_of(schema)
    if format_.compared_as != "reference" or schema.get("type") != "string":
        return ""
    kinds = ",".join(kind.lower() for kind in schema.get("targetKinds") or format_.kinds)
    return f"/search/refs?kinds={kinds}" if kinds else "/search/refs"


def _is_flat(schema: Schema, defs: Schema) -> bool:
    """Whether a value is an object of a few texts."""
    properties = schema.get("properties", {})
    return 0 < len(properties) <= MOST_COLUMNS and all(
        _resolve(one, defs)[0].get("type") == "string" for one in properties.values()
    )


def _columns(leaf: _Leaf) -> dict[str, dict[str, str]]:
    """The fields of each row of a list of objects."""
    return {
        name: {"name": name, "label": str(_(one.get("title") or "")) or capfirst(name)}
        for name, one in leaf.schema["items"]["properties"].items()
    }


def _is_plain(schema: Schema) -> bool:
    """Whether a value is one word or number."""
    types = schema.get("type")
    return bool(types) and set(types if isinstance(types, list) else [types]) <= PLAIN


def _takes_empty(leaf: _Leaf) -> bool:
    """Whether an empty text is a value: for words that need not be given."""
    return leaf.type in {"text", "textarea", "query", "expression"} and not leaf.is_required


def _choices(schema: Schema) -> list[dict[str, str]]:
    if schema.get("type") == "boolean":
        return [{"value": "true", "label": _("Yes")}, {"value": "false", "label": _("No")}]
    labels = schema.get("labels", {})
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    return [
        {
            "value": value,
            "label": _(labels[str(value)])
            if str(value) in labels
            else capfirst(str(value).replace("-", " ")),
        }
        for value in values
        if value is not None
    ]


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """What the fields hold before anything was typed."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            if value is not None and not isinstance(value, SecretStr):
                found[name] = to_jsonable_python(value)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = _defaults(field.annotation)
    return found


# --- nested data -----------------------------------------------------------------------------------------


def _put(data: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        data = data.setdefault(name, {})
    data[path[-1]] = value


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        name: _merged(value, {}) if isinstance(value, Mapping) else value for name, value in below.items()
    }
    for name, value in above.items():
        old = found.get(name)
        found[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return found


def _without(data: dict[str, Any], paths: list[Path]) -> dict[str, Any]:
    for path in paths:
        holder = value_at(data, path[:-1])
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
    return data


def _plainly(value: Any) -> str:
    """A value as one types it; nothing, however it is said, is the empty text."""
    is_nothing = value is None or value is False or value in ("", [], {})
    return "" if is_nothing else str(value)


def _as_yaml(value: Any) -> str:
    return (
        ""
        if value in (None, "", [], {})
        else yaml.safe_dump(value, allow_unicode=True, sort_keys=False).strip()
    )


# --- words -----------------------------------------------------------------------------------------------


def readable(item: ErrorDetails) -> str:
    """What pydantic found wrong, as a sentence for whoever typed it."""
    kind, given = item["type"], item.get("ctx", {})
    if kind in {"too_short", "too_long"} and given.get("field_type") == "Value":
        kind = f"string_{kind}"  # a secret's length
    if kind in {"value_error", "assertion_error"}:
        return _sentence(str(given.get("error") or item["msg"]))
    if kind.startswith("url_"):
        return _("Enter a whole address, such as https://tool.example.")
    if kind in {"too_short", "string_too_short"} and given.get("min_length") == 1:
        return _("Add at least one.") if kind == "too_short" else _("Enter a value.")
    match kind:
        case "missing" | "none_required":
            return _("Enter a value.")
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return _("Enter a whole number.")
        case "float_parsing" | "float_type":
            return _("Enter a number.")
        case "greater_than_equal":
            return _("Enter %(least)s or more.") % {"least": _plain(given["ge"])}
        case "less_than_equal":
            return _("Enter %(most)s or less.") % {"most": _plain(given["le"])}
        case "greater_than":
            return _("Enter more than %(bound)s.") % {"bound": _plain(given["gt"])}
        case "less_than":
            return _("Enter less than %(bound)s.") % {"bound": _plain(given["lt"])}
        case "string_too_long":
            most = given["max_length"]
            return ngettext("At most %(n)d character.", "At most %(n)d characters.", most) % {"n": most}
        case "string_too_short":
            least = given["min_length"]
            return ngettext("At least %(n)d character.", "At least %(n)d characters.", least) % {"n": least}
        case "too_long":
            most = given["max_length"]
            return ngettext("At most %(n)d.", "At most %(n)d.", most) % {"n": most}
        case "too_short":
            least = given["min_length"]
            return ngettext("At least %(n)d.", "At least %(n)d.", least) % {"n": least}
        case "enum" | "literal_error":
            return _("Choose one of %(expected)s.") % {"expected": given.get("expected", "")}
        case "string_pattern_mismatch":
            return _("This does not have the expected form, %(pattern)s.") % {"pattern": given["pattern"]}
    return _sentence(item["msg"])


def _plain(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _sentence(text: str) -> str:
    text = capfirst(text.strip())
    return text if text.endswith((".", "!", "?")) else f"{text}."
