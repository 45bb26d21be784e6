"""What is wrong with a query, and where."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from base.errors import DomainError, FieldError


class QueryError(DomainError):
    """A query that cannot be read.

    :ivar sentence: what is wrong and what to do, without the place.
    :ivar position: where in the text it stands, counted from 0; at the text's length: at its end.
    :ivar length: how many characters are wrong; 0 where something is missing.
    :ivar expected: what may stand there, in a few words.
    :ivar got: what stands there.
    :ivar suggestions: what was probably meant, the nearest first.
    :param parameter: of the request, that the text came in.
    """

    code = "bad-query"
    status = 400
    title = gettext_lazy("The query cannot be read")

    def __init__(
        self,
        sentence: str,
        *,
        position: int,
        length: int = 0,
        expected: str = "",
        got: str = "",
        suggestions: Iterable[str] = (),
        parameter: str = "q",
    ) -> None:
        self.sentence = sentence
        self.position, self.length = position, length
        self.expected, self.got = expected, got
        self.suggestions = list(suggestions)
        super().__init__(
            _("Character %(number)d of `%(parameter)s`: %(sentence)s")
            % {"number": position + 1, "parameter": parameter, "sentence": sentence},
            errors=[FieldError(parameter, sentence, expected=expected, got=got)],
            position=position,
            length=length,
            expected=expected,
            got=got,
            suggestions=self.suggestions,
        )


def did_you_mean(suggestions: list[str]) -> str:
    """A sentence that names what was probably meant; empty without suggestions."""
    if not suggestions:
        return ""
    names = ", ".join(f"“{name}”" for name in suggestions)
    return ngettext("Did you mean %(names)s?", "Did you mean one of %(names)s?", len(suggestions)) % {
        "names": names
    }
