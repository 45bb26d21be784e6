"""From text to lexemes. Nothing is raised here: what is wrong becomes a lexeme with its error, so that a
query box can show a text that is still being typed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from django.utils.translation import gettext as _

from catalog.query.errors import QueryError
from catalog.query.nodes import Filter, Operator, Span, Term, Value, Words


class Lex(StrEnum):
    """What a lexeme is."""

    OPEN = "("
    CLOSE = ")"
    OR = "OR"
    AND = "AND"
    NOT = "NOT"
    TERM = "term"
    BROKEN = "broken"


KEYWORDS = {"OR": Lex.OR, "AND": Lex.AND, "NOT": Lex.NOT}


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A piece of the text that means something.

    :ivar term: of a TERM; of a BROKEN one what could be read, if anything.
    :ivar error: of a BROKEN one.
    """

    type: Lex
    span: Span
    term: Term | None = None
    error: QueryError | None = None


_RUN = re.compile(r'[^\s()"]*')
_VALUE = re.compile(r'[^\s,()"]*')
_OPERATOR = re.compile(r"[<>]=?")
# Cannot start a bare value, so that they are free to mean something one day.
_RESERVED = "=!~"
# No database text holds these.
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")


def scan(text: str) -> list[Lexeme]:
    """The lexemes of a text, from first to last."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.field = ""
        self.values: list[Value] = []

    def scan(self) -> list[Lexeme]:
        lexemes: list[Lexeme] = []
        while True:
            while self._here().isspace():
                self.at += 1
            if self.at >= len(self.text):
                return lexemes
            start = self.at
            self.field, self.values = "", []
            try:
                lexemes.append(self._next())
            except QueryError as error:
                self.at = max(self.at, start + 1)
                while self._here() and not self._here().isspace() and self._here() not in "()":
                    self.at += 1
                span = Span(start, self.at - start)
                term = Filter(self.field, tuple(self.values), span) if self.field else None
                lexemes.append(Lexeme(Lex.BROKEN, span, term, error))

    def _here(self) -> str:
        return self.text[self.at : self.at + 1]

    def _next(self) -> Lexeme:
        start, char = self.at, self._here()
        if char in "()":
            self.at += 1
            return Lexeme(Lex(char), Span(start, 1))
        if char == "-":
            self.at += 1
            if not self._here() or self._here().isspace() or self._here() == ")":
                raise QueryError(
                    _(
                        "A term is expected right after “-”, as in “-type:library”; to search for a dash,"
                        " quote it."
                    ),
                    position=self.at,
                    expected=_("a term"),
                    got=self._here(),
                )
            return Lexeme(Lex.NOT, Span(start, 1))
        if char == '"':
            term: Term = Words(self._quoted())
        else:
            run = self._match(_RUN)
            if run in KEYWORDS:
                return Lexeme(KEYWORDS[run], Span(start, len(run)))
            field, colon, _rest = run.partition(":")
            if colon:
                self.at = start + len(field) + 1
                term = self._filter(field, start)
            else:
                term = Words(Value(run, span=Span(start, len(run))))
        self._check_end(start)
        span = Span(start, self.at - start)
        return Lexeme(Lex.TERM, span, replace(term, span=span))

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        found = match.group() if match else ""
        self.at += len(found)
        return found

    def _check_end(self, start: int) -> None:
        """A term ends at a blank, a bracket or the end of the text, and holds no impossible character."""
        char = self._here()
        if char and not char.isspace() and char != ")":
            raise QueryError(
                _("A blank is expected before “%(char)s”.") % {"char": char},
                position=self.at,
                length=1,
                expected=_("a blank"),
                got=char,
            )
        if bad := _FORBIDDEN.search(self.text, start, self.at):
            raise QueryError(
                _("The character U+%(code)04X cannot be searched for.") % {"code": ord(bad.group())},
                position=bad.start(),
                length=1,
                expected=_("text"),
            )

    def _quoted(self) -> Value:
        start = self.at
        out: list[str] = []
        at = start + 1
        while at < len(self.text):
            char = self.text[at]
            if char == '"':
                self.at = at + 1
                return Value("".join(out), is_quoted=True, span=Span(start, self.at - start))
            if char == "\\" and self.text[at + 1 : at + 2] in ('"', "\\"):
                at += 1
                char = self.text[at]
            out.append(char)
            at += 1
        self.at = at
        raise QueryError(
            _("This quotation mark is never closed; put another one at the end of the phrase."),
            position=start,
            length=1,
            expected='"',
        )

    def _filter(self, field: str, start: int) -> Filter:
        if not field:
            raise QueryError(
                _("The name of a field is expected before “:”, as in “kind:component”."),
                position=start,
                length=1,
                expected=_("a field"),
                got=":",
            )
        self.field = field
        while True:
            self.values.append(self._value(field))
            if self._here() != ",":
                return Filter(field, tuple(self.values))
            self.at += 1

    def _value(self, field: str) -> Value:
        start = self.at
        operator = self._match(_OPERATOR)
        if self._here() == '"':
            value = self._quoted()
        else:
            bare_at = self.at
            bare = self._match(_VALUE)
            if not bare:
                raise self._no_value(field)
            if bare[0] in _RESERVED and not operator:
                raise QueryError(
                    _(
                        "A value cannot start with “%(char)s”. To leave something out, write"
                        " “-%(field)s:value”; to search for the character, quote the value."
                    )
                    % {"char": bare[0], "field": field},
                    position=bare_at,
                    length=1,
                    expected=_("a value"),
                    got=bare,
                )
            value = Value(bare)
            if ".." in bare and not operator:
                lower, _dots, upper = bare.partition("..")
                lower, upper = ("" if end == "*" else end for end in (lower, upper))
                if not lower and not upper:
                    raise QueryError(
                        _("A range needs at least one end, as in “2..5” or “2..”."),
                        position=bare_at,
                        length=len(bare),
                        expected=_("a range"),
                        got=bare,
                    )
                value = Value(lower, "..", upper)
        kept: Operator = operator or value.operator  # type: ignore[assignment]
        is_quoted = value.is_quoted and not operator  # what is compared is taken literally anyway
        return replace(value, operator=kept, is_quoted=is_quoted, span=Span(start, self.at - start))

    def _no_value(self, field: str) -> QueryError:
        if self._here() == "(":
            sentence = _(
                "A value is expected after “%(field)s:”; brackets hold whole terms. For any of several values"
                " write “%(field)s:one,two”."
            )
        elif self.values:
            sentence = _("Another value is expected right after the comma, without a blank.")
        else:
            sentence = _("A value is expected after “%(field)s:”; “%(field)s:*” finds what has any.")
        return QueryError(
            sentence % {"field": field},
            position=self.at,
            length=0 if not self._here() or self._here().isspace() else 1,
            expected=_("a value"),
            got=self._here().strip(),
        )
