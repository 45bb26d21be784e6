"""Formats: what a field's value is, and so how it is checked, shown, edited and compared.

A property of a kind's schema names its format by JSON Schema's own keyword, `format`; where it names none, its type
says it. Beside it may stand `unit` (of a number), `labels` and `colours` (of the values of an enum), and
`targetKinds` (of a reference). The templates that show a format stand in `portal/templates/formats/`, the fields that
edit it are those of `portal.forms`; what a query compares is in `catalog.query.fields`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from django.utils.translation import gettext_lazy, gettext_noop

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

Compared = Literal["text", "number", "truth", "time", "duration", "version", "reference", "nothing"]

# Without years and months, for nobody knows how long those are. PostgreSQL reads the same as an interval.
_DURATION = (
    r"^(?:P(?=.)(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?=.)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?"
    r"|(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|min|h|d|w))$"
)
_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DATE = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_TEXT: dict[str, Any] = {"type": "string"}
_WEB: dict[str, Any] = {
    "type": "string",
    "pattern": r"^https?://[^\s/]+\S*$",
    "errorMessage": gettext_noop("an address such as https://acme.example"),
}


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    :ivar schema: what a value must be.
    :ivar shown_as: the template that shows it.
    :ivar editor: the type of field that edits it, as `components/field.html` knows them.
    :ivar compared_as: what a query takes its values for.
    :ivar kinds: of a reference: the kinds that belong there.
    """

    name: str
    label: _StrOrPromise
    schema: Mapping[str, Any]
    shown_as: str = "text"
    editor: str = "text"
    compared_as: Compared = "text"
    kinds: tuple[str, ...] = ()

    @property
    def is_choice(self) -> bool:
        """Whether its values are few, so that a list can be narrowed by them."""
        return self.name in {"enum", "boolean"}


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("text", gettext_lazy("Text"), _TEXT),
        Format("markdown", gettext_lazy("Markdown"), _TEXT, "markdown", "textarea", "text"),
        Format("number", gettext_lazy("Number"), {"type": "number"}, "number", "number", "number"),
        Format(
            "percentage",
            gettext_lazy("Percentage"),
            {"type": "number", "minimum": 0},
            "percentage",
            "number",
            "number",
        ),
        Format("boolean", gettext_lazy("Yes or no"), {"type": "boolean"}, "boolean", "bool", "truth"),
        Format(
            "date",
            gettext_lazy("Date"),
            {
                "type": "string",
                "pattern": f"{_DATE}$",
                "errorMessage": gettext_noop("a date such as 2026-01-31"),
            },
            "date",
            "date",
            "time",
        ),
        Format(
            "date-time",
            gettext_lazy("Date and time"),
            {
                "type": "string",
                "pattern": f"{_DATE}[Tt ]([01]\\d|2[0-3]):[0-5]\\d(:[0-5]\\d(\\.\\d+)?)?([Zz]|[+-]\\d\\d:?\\d\\d)?$",
                "errorMessage": gettext_noop("a time such as 2026-01-31T09:30:00Z"),
            },
            "time",
            "datetime",
            "time",
        ),
        Format(
            "duration",
            gettext_lazy("Duration"),
            {
                "type": "string",
                "pattern": _DURATION,
                "errorMessage": gettext_noop("a duration such as 90 s, 1.5 h or PT1H30M"),
                "examples": ["90 s"],
            },
            "duration",
            "text",
            "duration",
        ),
        Format("url", gettext_lazy("Web address"), _WEB, "url", "url"),
        Format(
            "labelled-url",
            gettext_lazy("Web address with a label"),
            {
                "type": "object",
                "required": ["url"],
                "additionalProperties": False,
                "properties": {
                    "url": {**_WEB, "title": gettext_noop("Address"), "format": "url"},
                    "title": {"type": "string", "title": gettext_noop("Label")},
                },
            },
            "labelled-url",
            "yaml",
            "nothing",
        ),
        Format(
            "email",
            gettext_lazy("E-mail address"),
            {
                "type": "string",
                "pattern": r"^[^\s@]+@[^\s@]+$",
                "errorMessage": gettext_noop("an e-mail address"),
            },
            "email",
            "email",
        ),
        Format("user", gettext_lazy("User"), _TEXT, "ref", "text", "reference", ("User",)),
        Format("team", gettext_lazy("Team"), _TEXT, "ref", "text", "reference", ("Group",)),
        Format("entity", gettext_lazy("Entity"), _TEXT, "ref", "text", "reference"),
        Format(
            "entities",
            gettext_lazy("Entities"),
            {"type": "array", "items": {"type": "string", "minLength": 1}},
            "ref",
            "list",
            "reference",
        ),
        Format("enum", gettext_lazy("One of some values"), _TEXT, "enum", "select"),
        Format(
            "list",
            gettext_lazy("List"),
            {"type": "array", "items": {"type": ["string", "number"]}},
            "list",
            "list",
        ),
        Format("json", gettext_lazy("JSON"), {}, "folded", "json", "nothing"),
        Format("yaml", gettext_lazy("YAML"), {}, "folded", "yaml", "nothing"),
        Format("version", gettext_lazy("Version"), _TEXT, "code", "text", "version"),
        Format(
            "image",
            gettext_lazy("Image"),
            {
                **_WEB,
                "pattern": r"^(https?://[^\s/]+\S*|data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+)$",
            },
            "image",
            "url",
        ),
        Format("openapi", "OpenAPI", _TEXT, "folded", "textarea", "nothing"),
        Format("asyncapi", "AsyncAPI", _TEXT, "folded", "textarea", "nothing"),
        Format("graphql", "GraphQL", _TEXT, "folded", "textarea", "nothing"),
    )
}

# What else says the same: JSON Schema's own names, and those of columns.
ALIASES = {
    "uri": "url",
    "ref": "entity",
    "time": "date-time",
    "tags": "list",
    "link": "url",
}
_BY_TYPE = {
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "array": "list",
    "object": "yaml",
    "string": "text",
}


def format_of(schema: Mapping[str, Any]) -> Format:
    """The format of a property, by its schema."""
    name = schema.get("format")
    if isinstance(name, str) and (found := FORMATS.get(ALIASES.get(name, name))):
        return found
    if "enum" in schema:
        return FORMATS["enum"]
    type_ = schema.get("type")
    return FORMATS[_BY_TYPE.get(type_, "yaml") if isinstance(type_, str) else "yaml"]


def seconds_of(text: str) -> float | None:
    """How long a duration is; None if the text is none.

    >>> seconds_of("PT1H30M"), seconds_of("1.5 h"), seconds_of("soon")
    (5400.0, 5400.0, None)
    """
    found = re.match(_DURATION, text)
    if found is None:
        return None
    weeks, days, hours, minutes, seconds, number, unit = found.groups()
    if unit:
        return float(number) * _SECONDS[unit]
    parts = ((weeks, "w"), (days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return float(sum(float(part) * _SECONDS[name] for part, name in parts if part))
