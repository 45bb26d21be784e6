"""JSON Schema: compiled once, never fetching anything, with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from base import limits
from base.errors import FieldError, InvalidInput
from base.paths import Part, format_path
from base.text import excerpt

MAX_ERRORS = 50
# A pattern with a look-around may backtrack; this many steps are far more than any sane one needs.
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000, size_limit=10_000_000)


class InvalidSchema(InvalidInput):
    """The schema itself is wrong: not JSON Schema, or it refers to something outside of itself."""

    code = "invalid-schema"
    title = gettext_lazy("The schema is not valid")


class Schema:
    """A compiled JSON Schema (draft 2020-12, unless its `$schema` names another).

    A subschema may carry `errorMessage`: what is expected there, in words, when its `pattern` does not fit.
    """

    __slots__ = ("_validator", "is_valid", "source")

    def __init__(self, source: Mapping[str, Any]) -> None:
        """:raises InvalidSchema: with the place of what is wrong."""
        self.source = dict(source)
        limits.check_data(self.source, what=gettext_lazy("The schema"))
        try:
            self._validator = jsonschema_rs.validator_for(
                self.source, pattern_options=_PATTERNS, offline=True, validate_formats=False
            )
        except jsonschema_rs.ValidationError as error:
            path, reason = format_path(error.instance_path), error.message
            if "Retrieval is disabled" in reason:
                reason = _(
                    "It refers to something outside of itself; only references such as #/$defs/name work."
                )
            raise InvalidSchema(
                _("The schema is not valid at %(path)s: %(reason)s")
                % {"path": path or _("its top"), "reason": reason},
                errors=[FieldError(path, reason)],
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise InvalidSchema(_("The schema cannot be used: %(reason)s") % {"reason": error})
        self.is_valid = self._validator.is_valid

    def errors(self, data: Any, *, under: Sequence[Part] = ()) -> list[FieldError]:
        """Everything that is wrong with the data, in the order of the schema; empty if it is valid.

        :param under: where the data stands in the whole, to make the paths complete.
        """
        found: list[FieldError] = []
        for error in self._validator.iter_errors(data):
            for readable in self._readable(error, tuple(under)):
                if readable not in found:
                    found.append(readable)
            if len(found) >= MAX_ERRORS:
                break
        return found

    def check(self, data: Any, *, what: str) -> None:
        """:raises InvalidInput: with all errors, if the data is not valid."""
        if not self.is_valid(data):
            errors = self.errors(data)
            raise InvalidInput(
                _("%(what)s is not valid: %(first)s") % {"what": what, "first": errors[0]}, errors=errors
            )

    def _readable(
        self, error: jsonschema_rs.ValidationError, under: tuple[Part, ...]
    ) -> Iterator[FieldError]:
        where = (*under, *error.instance_path)
        kind, value = error.kind.name, error.kind.value
        if kind in {"oneOf", "anyOf"} and isinstance(error.kind, (_OneOf, _AnyOf)):
            yield from self._of_branches(error, under)
            return
        if kind == "required":
            expected = self._expected_of(value, error)
            yield FieldError(format_path((*where, value)), _("This is required, but missing."), expected, "")
            return
        if kind in {"additionalProperties", "unevaluatedProperties"}:
            for name in value:
                yield FieldError(
                    format_path((*where, name)),
                    _("There is no such field here; take it out or mend its name."),
                )
            return
        if kind == "propertyNames" and isinstance(
            error.kind, jsonschema_rs.ValidationErrorKind.PropertyNames
        ):
            inner = error.kind.error
            expected = self._note(error) or _expectation(inner.kind.name, inner.kind.value)
            name = inner.instance
            yield FieldError(
                format_path((*where, name)) if isinstance(name, str) else format_path(where),
                _("The key must be %(expected)s, but is %(got)s.")
                % {"expected": expected, "got": excerpt(name)},
                expected,
                excerpt(name),
            )
            return
        expected = self._note(error) or _expectation(kind, value)
        got = _kind_of(error.instance) if kind == "type" else excerpt(error.instance)
        message = (
            _("This must be %(expected)s, but is %(got)s.") % {"expected": expected, "got": got}
            if expected
            else error.message
        )
        yield FieldError(format_path(where), message, expected, got)

    def _of_branches(self, error: Any, under: tuple[Part, ...]) -> Iterator[FieldError]:
        """One of several shapes fits: name the shapes, or what is wrong in the one that was meant."""
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.OneOfMultipleValid):
            yield FieldError(format_path((*under, *error.instance_path)), error.message)
            return
        here = list(error.instance_path)
        by_type, others = [], []
        for branch in error.kind.context:
            wrong_type = [
                one for one in branch if one.kind.name == "type" and list(one.instance_path) == here
            ]
            if wrong_type:
                by_type += wrong_type
            elif branch:
                others.append(branch)
        if others:  # the branches whose type fits were meant; the one that fails least is nearest
            for one in min(others, key=len):
                yield from self._readable(one, under)
            return
        types = list(dict.fromkeys(name for one in by_type for name in one.kind.value))
        expected, got = _expectation("type", types), _kind_of(error.instance)
        yield FieldError(
            format_path((*under, *here)),
            _("This must be %(expected)s, but is %(got)s.") % {"expected": expected, "got": got},
            expected,
            got,
        )

    def _note(self, error: jsonschema_rs.ValidationError) -> str:
        """What the schema itself says is expected where this error's keyword stands."""
        parent = self._at(error.schema_path[:-1])
        if error.kind.name == "propertyNames" and isinstance(parent, dict):
            parent = parent.get("propertyNames", parent)
        note = parent.get("errorMessage") if isinstance(parent, dict) else None
        in_words = error.kind.name in {"pattern", "minLength", "maxLength", "propertyNames"}
        return _(note) if in_words and isinstance(note, str) else ""

    def _expected_of(self, name: str, error: jsonschema_rs.ValidationError) -> str:
        parent = self._at(error.schema_path[:-1])
        properties = parent.get("properties") if isinstance(parent, dict) else None
        wanted = properties.get(name) if isinstance(properties, dict) else None
        types = wanted.get("type") if isinstance(wanted, dict) else None
        return _expectation("type", [types] if isinstance(types, str) else types) if types else ""

    def _at(self, path: Iterable[str | int]) -> Any:
        here: Any = self.source
        for part in path:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return None
        return here


_OneOf = (
    jsonschema_rs.ValidationErrorKind.OneOfNotValid,
    jsonschema_rs.ValidationErrorKind.OneOfMultipleValid,
)
_AnyOf = jsonschema_rs.ValidationErrorKind.AnyOf


def compile_schema(source: Mapping[str, Any]) -> Schema:
    """The compiled schema; equal schemas are compiled once a process.

    :raises InvalidSchema: with the place of what is wrong.
    """
    limits.check_data(source, what=gettext_lazy("The schema"))
    return _compile(orjson.dumps(source, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=1_000)
def _compile(canonical: bytes) -> Schema:
    return Schema(orjson.loads(canonical))


def _expectation(kind: str, value: Any) -> str:
    """What a keyword asks for, in a few words."""
    match kind:
        case "type":
            names = [_type_name(name) for name in ([value] if isinstance(value, str) else value)]
            return _(" or ").join(names)
        case "enum":
            return _("one of %(values)s") % {"values": ", ".join(excerpt(item) for item in value)}
        case "const":
            return excerpt(value)
        case "minLength" | "minItems" | "minProperties" if value == 1:
            return _("not empty")
        case "minLength":
            return _("at least %(limit)s characters long") % {"limit": value}
        case "maxLength":
            return _("at most %(limit)s characters long") % {"limit": value}
        case "minItems" | "minProperties":
            return _("at least %(limit)s entries long") % {"limit": value}
        case "maxItems" | "maxProperties":
            return _("at most %(limit)s entries long") % {"limit": value}
        case "minimum":
            return _("at least %(limit)s") % {"limit": value}
        case "maximum":
            return _("at most %(limit)s") % {"limit": value}
        case "exclusiveMinimum":
            return _("more than %(limit)s") % {"limit": value}
        case "exclusiveMaximum":
            return _("less than %(limit)s") % {"limit": value}
        case "multipleOf":
            return _("a multiple of %(number)s") % {"number": value}
        case "pattern":
            return _("text that matches %(pattern)s") % {"pattern": value}
        case "uniqueItems":
            return _("a list without repetitions")
    return ""


def _type_name(name: str) -> str:
    return {
        "string": pgettext("type of a value", "text"),
        "integer": pgettext("type of a value", "a whole number"),
        "number": pgettext("type of a value", "a number"),
        "boolean": pgettext("type of a value", "true or false"),
        "array": pgettext("type of a value", "a list"),
        "object": pgettext("type of a value", "an object with keys"),
        "null": pgettext("type of a value", "nothing"),
    }.get(name, name)


def _kind_of(value: Any) -> str:
    """What stands there instead: its type, and the value if it is short."""
    if value is None:
        return _("empty")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _("the number %(value)s") % {"value": value}
    if isinstance(value, str):
        return _("the text %(value)s") % {"value": excerpt(value)}
    return _type_name("array" if isinstance(value, list) else "object")
