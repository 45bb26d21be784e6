"""From text to a tree and back.

```
query  = or
or     = and { "OR" and }
and    = not { [ "AND" ] not }
not    = ( "-" | "NOT" ) not | "(" or ")" | filter | words
filter = field ":" value { "," value }
value  = [ "<" | "<=" | ">" | ">=" ] scalar | scalar ".." scalar
```
"""

from __future__ import annotations

import re

from django.utils.translation import gettext as _

from catalog.query.errors import QueryError
from catalog.query.lexer import KEYWORDS, Lex, Lexeme, scan
from catalog.query.nodes import And, Filter, Node, Not, Or, Span, Value, Words

MAX_LENGTH = 2_000
MAX_TERMS = 100
MAX_DEPTH = 20


def parse(text: str) -> Node:
    """Read a query.

    Fields and values are only looked at when the query is compiled.

    :raises QueryError: saying where, and what was expected.
    """
    if len(text) > MAX_LENGTH:
        raise QueryError(
            _("A query has at most %(limit)d characters; this one has %(length)d.")
            % {"limit": MAX_LENGTH, "length": len(text)},
            position=MAX_LENGTH,
            length=len(text) - MAX_LENGTH,
            expected=_("the end of the query"),
        )
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.lexemes = scan(text)
        self.at = 0
        self.terms = 0

    def parse(self) -> Node:
        if not self.lexemes:
            return And((), Span(0, len(self.text)))
        node = self._or(0)
        if self._peek() is not None:
            raise self._unexpected(
                _("This bracket was never opened; take it away or open it before."), _("the end of the query")
            )
        return node

    def _peek(self) -> Lex | None:
        return self.lexemes[self.at].type if self.at < len(self.lexemes) else None

    def _take(self) -> Lexeme:
        self.at += 1
        return self.lexemes[self.at - 1]

    def _or(self, depth: int) -> Node:
        items = [self._and(depth)]
        while self._peek() is Lex.OR:
            self._take()
            items.append(self._and(depth))
        return items[0] if len(items) == 1 else Or(tuple(items), _around(items))

    def _and(self, depth: int) -> Node:
        items = [self._not(depth)]
        while self._peek() not in (None, Lex.OR, Lex.CLOSE):
            if self._peek() is Lex.AND:
                self._take()
            items.append(self._not(depth))
        return items[0] if len(items) == 1 else And(tuple(items), _around(items))

    def _not(self, depth: int) -> Node:
        if self._peek() not in (Lex.NOT, Lex.OPEN, Lex.TERM):
            raise self._no_term()
        lexeme = self._take()
        if lexeme.type is Lex.TERM and lexeme.term is not None:
            self.terms += 1
            if self.terms > MAX_TERMS:
                raise QueryError(
                    _("A query has at most %(limit)d terms.") % {"limit": MAX_TERMS},
                    position=lexeme.span.position,
                    length=lexeme.span.length,
                    expected=_("the end of the query"),
                )
            return lexeme.term
        if depth >= MAX_DEPTH:
            raise QueryError(
                _("Brackets and negations nest at most %(limit)d levels deep.") % {"limit": MAX_DEPTH},
                position=lexeme.span.position,
                length=lexeme.span.length,
                expected=_("a term"),
            )
        if lexeme.type is Lex.NOT:
            item = self._not(depth + 1)
            return Not(item, Span(lexeme.span.position, item.span.end - lexeme.span.position))
        node = self._or(depth + 1)
        if self._peek() is not Lex.CLOSE:
            raise QueryError(
                _("This bracket is never closed."),
                position=lexeme.span.position,
                length=1,
                expected=")",
            )
        self._take()
        return node

    def _no_term(self) -> QueryError:
        if self._peek() is Lex.BROKEN:
            error = self.lexemes[self.at].error
            assert error is not None
            return error
        return self._unexpected(_("A term is expected here, such as kind:component or a word."), _("a term"))

    def _unexpected(self, sentence: str, expected: str) -> QueryError:
        span = self.lexemes[self.at].span if self._peek() else Span(len(self.text), 0)
        return QueryError(
            sentence,
            position=span.position,
            length=span.length,
            expected=expected,
            got=self.text[span.position : span.end],
        )


def _around(items: list[Node]) -> Span:
    start = items[0].span.position
    return Span(start, items[-1].span.end - start)


def format_query(node: Node) -> str:
    """The text of a tree: `parse(format_query(node)) == node`."""
    match node:
        case And(items):
            return " ".join(_format_inner(item, And | Or) for item in items)
        case Or(items):
            return " OR ".join(_format_inner(item, Or) for item in items)
        case Not(item):
            return "-" + _format_inner(item, And | Or)
        case Filter(field, values):
            return f"{field}:{','.join(format_value(value) for value in values)}"
        case Words(value):
            return _format_words(value)


def _format_inner(node: Node, bracketed: object) -> str:
    text = format_query(node)
    return f"({text})" if isinstance(node, bracketed) else text  # type: ignore[arg-type]


_BARE_VALUE = re.compile(r'(?![=!~<>])[^\s,()"]+')
_BARE_WORD = re.compile(r'(?!-)[^\s():"]+')


def format_value(value: Value) -> str:
    """The text of one value of a filter, quoted where it has to be."""
    if value.operator == "..":
        return f"{value.text}..{value.upper}"
    operator = "" if value.operator == "=" else value.operator
    is_bare = (
        not value.is_quoted and _BARE_VALUE.fullmatch(value.text) and (operator or ".." not in value.text)
    )
    return operator + (value.text if is_bare else quote(value.text))


def _format_words(value: Value) -> str:
    is_bare = not value.is_quoted and _BARE_WORD.fullmatch(value.text) and value.text not in KEYWORDS
    return value.text if is_bare else quote(value.text)


def literal(text: str) -> Value:
    """The value that means exactly this text, quoted only where it has to be."""
    value = Value(text)
    needs_quotes = value.is_pattern or format_value(value).startswith('"')
    return Value(text, is_quoted=bool(needs_quotes))


def quote(text: str) -> str:
    """A phrase in quotation marks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
