"""Expected failures: each is a class with a code, a status and a sentence for the person who asked.

Derive from `DomainError` beside the function that raises it; one exception handler turns every one of them
into problem details (RFC 9457). Anything else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext_lazy as _

from base.text import printable

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong at one place of the input.

    :ivar path: where, as a JSON path without the leading `$.`: `metadata.tags[2]`; empty for the whole.
    :ivar message: a sentence: what is wrong and what to do.
    :ivar expected: what may stand there, in a few words.
    :ivar got: what stands there, shortened.
    """

    path: str
    message: str
    expected: str = ""
    got: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def as_dict(self) -> dict[str, str]:
        """For an answer: without what is not known."""
        entry = {"path": self.path, "message": self.message}
        if self.expected:
            entry["expected"] = self.expected
        if self.got:
            entry["got"] = self.got
        return entry


class DomainError(Exception):
    """An expected failure. Its message says what was expected, what came, where, and what to do.

    :cvar code: stable name of the failure, for programs.
    :cvar status: the HTTP status it makes.
    :cvar title: the kind of failure, for people; the same for every instance.
    :ivar extra: further members of the problem details; never a secret.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    title: ClassVar[_StrOrPromise] = _("This cannot be done")

    def __init__(
        self, message: _StrOrPromise = "", *, errors: Iterable[FieldError] | None = None, **extra: Any
    ) -> None:
        self.message = printable(str(message or self.title))
        self.errors = list(errors or ())
        self.extra = extra
        super().__init__(self.message)

    @property
    def in_full(self) -> str:
        """The message with what is wrong at each place, where there is room for a text alone."""
        return " ".join(dict.fromkeys([self.message, *(str(one.message) for one in self.errors)]))

    def as_problem(self) -> dict[str, Any]:
        """The error as RFC 9457 problem details."""
        problem: dict[str, Any] = {
            **self.extra,
            "type": f"urn:portico:problem:{self.code}",
            "title": str(self.title),
            "status": self.status,
            "detail": self.message,
            "code": self.code,
        }
        if self.errors:
            problem["errors"] = [error.as_dict() for error in self.errors]
        return problem


class InvalidInput(DomainError):
    """The input is well formed, but what it says cannot be accepted; `errors` says where."""

    code = "invalid-input"
    status = 422
    title = _("The input is not valid")


class BadRequest(InvalidInput):
    """The request itself cannot be read: broken syntax, an unknown parameter."""

    code = "bad-request"
    status = 400
    title = _("The request cannot be read")


class NotFound(DomainError):
    """There is no such thing, or the one who asks may not know of it."""

    code = "not-found"
    status = 404
    title = _("Not found")


class Forbidden(DomainError):
    """The one who asks may see the thing, but not do this to it."""

    code = "forbidden"
    status = 403
    title = _("Not permitted")


class Conflict(DomainError):
    """What is asked for contradicts the present state."""

    code = "conflict"
    status = 409
    title = _("This conflicts with the present state")


class PreconditionFailed(DomainError):
    """The thing has changed since the one who asks read it."""

    code = "precondition-failed"
    status = 412
    title = _("It has changed meanwhile")
