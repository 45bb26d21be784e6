"""Filters of lists by any field: for each format what is asked, and the term of the query that the answer makes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base.errors import FieldError, InvalidInput
from catalog.documents.formats import FORMATS, Format
from catalog.kinds import KindView, current_kinds
from catalog.query import QueryError, combine, compile_query, terms_of
from catalog.query.parser import format_value, literal
from catalog.statuses import RunStatus
from portal.kinds import FieldOfKind, fields_of, relation_at
from portal.templatetags.statuses import status_of

LONGEST = 200
# How each of what formats compare as is asked for, the usual first; any format has "any" and "none" besides.
_WAYS: dict[str, tuple[str, ...]] = {
    "text": ("is", "contains", "begins"),
    "choice": ("among",),
    "number": ("range",),
    "time": ("range", "lately"),
    "duration": ("range",),
    "version": ("range", "is"),
    "reference": ("is",),
    "nothing": (),
}
WAYS: dict[str, Any] = {
    "is": gettext_lazy("is"),
    "contains": gettext_lazy("contains"),
    "begins": gettext_lazy("begins with"),
    "among": gettext_lazy("is one of"),
    "range": gettext_lazy("from, to"),
    "lately": gettext_lazy("in the last days"),
    "any": gettext_lazy("has any"),
    "none": gettext_lazy("has none"),
}
_INPUTS = {"number": "number", "percentage": "number", "date": "date", "date-time": "date"}


@dataclass(frozen=True, slots=True)
class ListField:
    """A field that a list can be narrowed by.

    :ivar name: as the query language calls it.
    :ivar choices: value and label, where there are but some.
    :ivar below: of what is no single value: the path below it that holds text.
    """

    name: str
    label: str
    format: Format
    schema: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[tuple[str, str], ...] = ()
    kinds: tuple[str, ...] = ()
    below: str = ""

    @property
    def asked_as(self) -> str:
        if self.choices:
            return "choice"
        return "text" if self.below else str(self.format.compared_as)

    @property
    def ways(self) -> tuple[str, ...]:
        return (*_WAYS[self.asked_as], "any", "none")

    @property
    def input(self) -> str:
        """The type of the inputs of a range."""
        return _INPUTS.get(self.format.name, "text")

    @property
    def example(self) -> str:
        return {"duration": "90 s", "version": "1.10"}.get(self.format.name, "")

    @property
    def unit(self) -> str:
        return str(self.schema.get("unit") or ("%" if self.format.name == "percentage" else ""))

    @property
    def suggest(self) -> str:
        return "/search/refs?kinds=" + ",".join(kind.lower() for kind in self.kinds)


def _of_field(kind: KindView, one: FieldOfKind) -> ListField:
    schema = one.schema
    rule = relation_at(kind, one.path.removeprefix("spec."))
    choices: tuple[tuple[str, str], ...] = ()
    if one.format.name == "boolean":
        choices = (("true", _("Yes")), ("false", _("No")))
    elif isinstance(values := schema.get("enum"), list):
        labels = schema.get("labels") or {}
        choices = tuple((str(one), str(labels.get(one) or one)) for one in values if one is not None)
    return ListField(
        name=rule.type if rule else one.path,  # a relation is followed by its former names too
        label=_(one.title),
        format=one.format,
        schema=schema,
        choices=choices,
        kinds=tuple(schema.get("targetKinds") or (rule.target_kinds if rule else ()) or one.format.kinds),
        below="url" if one.format.name == "labelled-url" else "",
    )


def list_fields(kind: str) -> list[ListField]:
    """What a list can be narrowed by: what everything has, then the fields of its kind, or of all.

    :param kind: the one that is listed; empty for all.
    """
    kinds = current_kinds()
    runs = tuple((one.value, str(status_of("run", one.value).word)) for one in RunStatus)
    text, reference, time = FORMATS["text"], FORMATS["entity"], FORMATS["date-time"]
    found = [
        ListField("title", _("Name"), text),
        ListField("description", _("Description"), text),
        ListField("owner", _("Owner"), reference, kinds=("Group", "User")),
        ListField("system", _("System"), reference, kinds=("System",)),
        ListField("type", _("Type"), text),
        ListField("lifecycle", _("Lifecycle"), text),
        ListField("tag", _("Tag"), FORMATS["list"]),
        ListField("namespace", _("Namespace"), text),
        ListField("run", _("Last run"), FORMATS["enum"], choices=runs),
        ListField("version", _("Version"), text),
        ListField("changed", _("Changed"), time),
        ListField("created", _("Created"), time),
    ]
    known = {one.name for one in found} | {"ownedBy", "spec.type", "spec.lifecycle"}
    views = [kinds.by_name(kind)] if kind in kinds else sorted(kinds, key=lambda view: view.definition.title)
    for view in views:
        for one in fields_of(view):
            made = _of_field(view, one)
            if made.name not in known:
                known.add(made.name)
                found.append(made)
    return found


def find_field(name: str, fields: Iterable[ListField]) -> ListField:
    """One of some fields by its name; any path of the document is one, as text.

    :raises InvalidInput: if it is neither.
    """
    for one in fields:
        if one.name.lower() == name.lower():
            return one
    if re.fullmatch(r"(?:spec|metadata|label|annotation)\.[^\s:,()\"]{1,190}", name):
        return ListField(name, name, FORMATS["text"])
    message = _("There is no field “%(name)s”.") % {"name": name[:60]}
    raise InvalidInput(message, errors=[FieldError("field", message)])


def narrowed(query: str, one: ListField, asked: MultiValueDict[str, str]) -> str:
    """The query with what was asked of a field.

    :param asked: `how`, and as it needs `value`, `from`, `to`, `days`; `not` to leave those out instead.
    :raises InvalidInput: if something of it is missing or cannot be.
    """
    how = asked.get("how") or one.ways[0]
    if how not in one.ways:
        raise _wrong("how", _("Expected is one of: %s.") % ", ".join(one.ways))
    is_left_out = bool(asked.get("not"))
    values = [value.strip() for value in asked.getlist("value") if value.strip()]
    if any(len(value) > LONGEST for value in values):
        raise _wrong("value", _("At most %d characters.") % LONGEST)
    if how in {"is", "among"} and not is_left_out:
        found = combine(query, add={one.name: _some(values)})
    else:
        term = _term(one, how, values, asked)
        if is_left_out:
            term = term.removeprefix("-") if term.startswith("-") else f"-{term}"
        is_open = any(piece.operator == "OR" and not piece.depth for piece in terms_of(query))
        found = f"({query}) {term}" if is_open else f"{query} {term}".strip()
    try:
        compile_query(found, now=timezone.now())
    except QueryError as error:
        raise _wrong("to" if how == "range" else "value", error.sentence) from None
    return found


def _some(values: list[str]) -> list[str]:
    if not values:
        raise _wrong("value", _("Say what."))
    return values


def _term(one: ListField, how: str, values: list[str], asked: MultiValueDict[str, str]) -> str:
    match how:
        case "any":
            return f"has:{one.name}"
        case "none":
            return f"-has:{one.name}"
        case "range":
            return f"{one.name}:{_range(one, asked)}"
        case "lately":
            days = asked.get("days", "").strip()
            if not re.fullmatch(r"[1-9]\d{0,4}", days):
                raise _wrong("days", _("A number of days, such as 7."))
            return f"{one.name}:<{days}d"
        case "contains" | "begins":
            # A blank ends a value, and in quotation marks a star is one.
            text = re.sub(r'[\s,()"]+', "*", _some(values)[0])
            name = f"{one.name}.{one.below}" if one.below else one.name
            return f"{name}:{'*' if how == 'contains' or text[0] in '<>=!~' else ''}{text}*"
    return f"{one.name}:{','.join(format_value(literal(value)) for value in _some(values))}"


def _range(one: ListField, asked: MultiValueDict[str, str]) -> str:
    least, most = (asked.get(end, "").strip().replace(" ", "") for end in ("from", "to"))
    if not least and not most:
        raise _wrong("from", _("Say from where, to where, or both."))
    for end, text in (("from", least), ("to", most)):
        if len(text) > LONGEST or not re.fullmatch(r"[\w.:+-]*", text):
            raise _wrong(end, _("This is no value that can be compared."))
    if least and most:
        return f"{least}..{most}"
    return f">={least}" if least else f"<={most}"


def _wrong(name: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[FieldError(name, message)])
