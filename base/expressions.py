"""CEL, the language of every expression that a user writes. Nothing outside of this module knows the engine.

An expression is compiled against the names it may use, so that a wrong name is refused when it is written. It
cannot reach anything but the data it is given; steps, nesting and length are limited.

The name `now`, where it is offered, is a time; every other name is JSON data. A missing key is an error;
`entity.?spec.?owner.orValue("nobody")` asks without failing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext.ext_math import ExtMath
from cel_expr_python.ext.ext_optional import ExtOptional
from cel_expr_python.ext.ext_strings import ExtStrings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base import limits
from base.errors import FieldError, InvalidInput
from base.text import excerpt

MAX_SOURCE = 4_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): ([^\n]*)")
_STATUS = re.compile(r"\A[A-Z_]+: |\s*\[[A-Z_]+\]\Z")


class ExpressionError(InvalidInput):
    """The expression cannot be read, or not be worked out on the data it was given.

    :ivar reason: what is wrong, without the place.
    :ivar line: from 1, or None where the place is not known (when it failed on data).
    :ivar column: likewise.
    """

    code = "expression-error"
    title = gettext_lazy("The expression is not valid")

    def __init__(self, reason: str, *, text: str, line: int | None = None, column: int | None = None) -> None:
        self.reason, self.text, self.line, self.column = reason, text, line, column
        if column is None:
            message = _("“%(text)s”: %(reason)s") % {"text": _short(text), "reason": reason}
        elif line == 1:
            message = _("“%(text)s”, column %(column)d: %(reason)s") % {
                "text": _short(text), "column": column, "reason": reason
            }  # fmt: skip
        else:
            message = _("“%(text)s”, line %(line)d, column %(column)d: %(reason)s") % {
                "text": _short(text), "line": line, "column": column, "reason": reason
            }  # fmt: skip
        place = {} if column is None else {"line": line, "column": column}
        super().__init__(message, errors=[FieldError("", reason)], **place)


class Context:
    """The data that expressions see. Make one for each thing and use it for all expressions on that thing."""

    __slots__ = ("_activations", "values")

    def __init__(self, **values: Any) -> None:
        """:raises LimitExceeded: if the data is too deep for the engine."""
        limits.check_data(values, what=_("The data of the expression"), max_depth=limits.MAX_DEPTH + 1)
        self.values = values
        self._activations: dict[int, cel.Activation] = {}

    def _activation(self, env: cel.Env, names: frozenset[str]) -> cel.Activation:
        known = self._activations.get(id(env))
        if known is None:
            missing = names - self.values.keys()
            if missing:
                raise TypeError(f"The context lacks {', '.join(sorted(missing))}")
            known = env.Activation({name: self.values[name] for name in names})
            self._activations[id(env)] = known
        return known


class Expression:
    """A compiled expression. Make it with `compile_expression`."""

    __slots__ = ("_compiled", "_env", "_names", "text")

    def __init__(self, text: str, names: frozenset[str]) -> None:
        self.text = text
        self._names = names
        self._env = _environment(names)
        try:
            self._compiled = self._env.compile(text)
        except RuntimeError as error:
            raise _compile_error(text, str(error))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, context: Context) -> Any:
        """The value, as plain JSON data; times as ISO 8601, durations in seconds.

        :raises ExpressionError: if it fails on this data, takes too many steps, or gives what cannot be stored.
        """
        activation = context._activation(self._env, self._names)
        try:
            value = self._compiled.eval(activation)
            if value.type() == cel.Type.ERROR:
                raise ExpressionError(_explain(str(value.plain_value())), text=self.text)
            return _storable(_plain(value.plain_value(), self.text), self.text)
        except TypeError:  # the engine has no Python value for an optional
            raise ExpressionError(_("The value is optional; end with .orValue(...)."), text=self.text)
        except (RuntimeError, OverflowError, ValueError) as error:
            raise ExpressionError(_explain(str(error)), text=self.text)

    def test(self, context: Context) -> bool:
        """The value of a condition.

        :raises ExpressionError: also if the value is not true or false.
        """
        value = self.evaluate(context)
        if not isinstance(value, bool):
            raise ExpressionError(
                _("A condition must be true or false, but this is %(got)s.") % {"got": excerpt(value)},
                text=self.text,
            )
        return value


def compile_expression(text: str, *, variables: Iterable[str]) -> Expression:
    """The compiled expression; the same text and names are compiled once a process.

    :param variables: the names it may use; a `Context` must have values for all of them.
    :raises ExpressionError: if it is too long or wrong, with the column.
    """
    if len(text) > MAX_SOURCE:
        raise ExpressionError(
            _("It has %(length)d characters; at most %(limit)d are accepted.")
            % {"length": len(text), "limit": MAX_SOURCE},
            text=text,
        )
    if not text.strip():
        raise ExpressionError(_("It is empty."), text=text, line=1, column=1)
    return _compile(text, frozenset(variables))


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """Compile and evaluate in one go, for a single use.

    :raises ExpressionError: if it is wrong or fails on this data.
    """
    return compile_expression(text, variables=values.keys()).evaluate(Context(**values))


@lru_cache(maxsize=5_000)
def _compile(text: str, names: frozenset[str]) -> Expression:
    return Expression(text, names)


@lru_cache(maxsize=200)
def _environment(names: frozenset[str]) -> cel.Env:
    for name in names:
        if not _NAME.match(name):
            raise ValueError(f"{name!r} cannot be the name of a variable")
    types = {name: cel.Type.TIMESTAMP if name == "now" else cel.Type.DYN for name in names}
    return cel.NewEnv(variables=types, extensions=[ExtStrings(), ExtOptional(), ExtMath()])


def _compile_error(text: str, message: str) -> ExpressionError:
    found = _PLACE.search(message)
    if "recursion depth" in message:
        return ExpressionError(_("It is nested too deeply, or a chain is too long; split it."), text=text)
    if not found:
        return ExpressionError(_explain(message), text=text)
    line, column, problem = int(found[1]), int(found[2]), found[3]
    return ExpressionError(_explain(problem), text=text, line=line, column=column)


def _explain(problem: str) -> str:
    problem = _STATUS.sub("", _STATUS.sub("", problem))
    if found := re.search(r"undeclared reference to '([^']*)'", problem):
        return _("There is no “%(name)s” here.") % {"name": found[1].split(".")[0]}
    if found := re.search(r'Key not found in map : "?([^"]*)', problem):
        return _(
            "There is no key “%(name)s” in the data; ask with .?%(name)s.orValue(...) if it may be missing."
        ) % {"name": found[1]}
    if found := re.search(r"no matching overload for '([^']*)' applied to '([^']*)'", problem) or re.search(
        r"No matching overloads found : (\S+?)\((.*)\)", problem
    ):
        return _("%(function)s does not go with %(types)s.") % {
            "function": found[1].strip("_").replace("_", ""), "types": found[2].strip("()")
        }  # fmt: skip
    if "Applying SELECT to" in problem:
        return _("A key is asked of something that is not an object; ask with .?key.orValue(...).")
    if problem.startswith("Syntax error: "):
        return _("The syntax is wrong: %(reason)s.") % {
            "reason": problem.removeprefix("Syntax error: ")
            .split(" expecting ")[0]
            .replace("'<EOF>'", _("the end"))
        }
    if "iteration" in problem.lower():
        return _("It takes too many steps on this data.")
    return problem


def _storable(value: Any, text: str) -> Any:
    try:
        limits.check_data(value, what=_("The value"))
    except limits.LimitExceeded as error:
        raise ExpressionError(error.message, text=text)
    return value


def _plain(value: Any, text: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError(_("The value is no finite number."), text=text)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_plain(item, text) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, text) for key, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise ExpressionError(_("The value is neither text, number, list nor object."), text=text)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
