"""Changes to the text of a query: terms for a query box, values added and taken away by facets.

What is not touched stays as it was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from catalog.query.compile import term_condition
from catalog.query.errors import QueryError
from catalog.query.fields import FIELDS, Context
from catalog.query.lexer import Lex, Lexeme, scan
from catalog.query.nodes import Filter, Span, Value, Words
from catalog.query.parser import format_value, literal, parse
from catalog.query.refs import RefPattern


@dataclass(frozen=True, slots=True)
class Term:
    """One piece of a query as a query box shows it: a filter, a word, a bracket or an operator.

    :ivar text: as written, with the negation before it.
    :ivar field: the field's name as the language writes it; empty for words, brackets and operators.
    :ivar operator: of its first value: `=`, `<`, `<=`, `>`, `>=`, `..`; of a bracket or operator itself.
    :ivar values: without quotes.
    :ivar is_negated: whether `-` or `NOT` stands before it.
    :ivar depth: how many brackets it stands in.
    :ivar error: what is wrong with it, or None.
    """

    text: str
    field: str
    operator: str
    values: tuple[str, ...]
    is_negated: bool
    position: int
    length: int
    depth: int
    error: QueryError | None = None


def terms_of(text: str) -> list[Term]:
    """The pieces of a text in its order, whether or not the whole can be read."""
    wrong = _error_of(text)
    context = Context(now=datetime.now(UTC))
    found = []
    for piece in _pieces(text):
        lexeme, span = piece.lexeme, piece.span
        term, error = lexeme.term, lexeme.error
        if term is not None and error is None:
            error = _meaning_error(term, context)
        if error is None and wrong is not None and span.position <= wrong.position < span.end:
            error = wrong
        field = operator = ""
        values: tuple[str, ...] = ()
        if isinstance(term, Filter):
            known = FIELDS.get(term.field.lower())
            field = known.name if known else term.field
            operator = term.values[0].operator if term.values else ""
            values = tuple(_shown(value) for value in term.values)
        elif isinstance(term, Words):
            values = (term.value.text,)
        elif lexeme.type is not Lex.BROKEN:
            operator = lexeme.type.value
        found.append(
            Term(
                text=text[span.position : span.end],
                field=field,
                operator=operator,
                values=values,
                is_negated=piece.is_negated,
                position=span.position,
                length=span.length,
                depth=piece.depth,
                error=error,
            )
        )
    return found


def _error_of(text: str) -> QueryError | None:
    try:
        parse(text)
    except QueryError as error:
        return error
    return None


def _meaning_error(term: Filter | Words, context: Context) -> QueryError | None:
    try:
        term_condition(term, context)
    except QueryError as error:
        return error
    return None


def _shown(value: Value) -> str:
    return f"{value.text}..{value.upper}" if value.operator == ".." else value.text


@dataclass(frozen=True, slots=True)
class _Piece:
    """A lexeme with what stands before it: negations belong to the term that follows."""

    lexeme: Lexeme
    span: Span
    is_negated: bool
    depth: int


def _pieces(text: str) -> Iterator[_Piece]:
    depth = 0
    start: int | None = None
    is_negated = False
    for lexeme in scan(text):
        if lexeme.type is Lex.NOT:
            start = lexeme.span.position if start is None else start
            is_negated = not is_negated
            continue
        if lexeme.type is Lex.CLOSE:
            depth = max(depth - 1, 0)
        position = lexeme.span.position if start is None else start
        yield _Piece(lexeme, Span(position, lexeme.span.end - position), is_negated, depth)
        if lexeme.type is Lex.OPEN:
            depth += 1
        start, is_negated = None, False


def _own(text: str, field: str) -> list[_Piece]:
    """The terms of a field that the whole query requires: outside of all brackets, in no alternative."""
    pieces = list(_pieces(text))
    if any(piece.lexeme.type is Lex.OR and piece.depth == 0 for piece in pieces):
        return []
    return [
        piece
        for piece in pieces
        if piece.depth == 0
        and isinstance(piece.lexeme.term, Filter)
        and piece.lexeme.error is None
        and piece.lexeme.term.field.lower() == field.lower()
    ]


def selected_values(text: str, field: str) -> set[str]:
    """The values that a query asks of a field, in lower case: those that a facet shows as on."""
    return {
        value.text.lower()
        for piece in _own(text, field)
        if not piece.is_negated and isinstance(piece.lexeme.term, Filter)
        for value in piece.lexeme.term.values
        if value.operator == "=" and not value.is_pattern
    }


def asked_for(asked: Iterable[str], value: str) -> set[str]:
    """Those of the values of `selected_values` that mean a facet's value: itself, or a part of it if it is a ref."""
    value = value.lower()
    found = {text for text in asked if text == value}
    if ":" in value and "/" in value:
        found |= {text for text in asked if (ref := RefPattern.read(literal(text))) and ref.fits(value)}
    return found


def without(text: str, field: str) -> str:
    """The query without what it requires of a field, negations included."""
    for piece in reversed(_own(text, field)):
        text = _cut(text, piece.span)
    return text


def toggle_term(text: str, field: str, value: str) -> str:
    """The query with a value added to what it asks of a field, or taken away where it asks for it."""
    if asked := asked_for(selected_values(text, field), value):
        return combine(text, remove={field: asked})
    return combine(text, add={field: [value]})


def combine(
    text: str,
    *,
    add: Mapping[str, Iterable[str]] | None = None,
    remove: Mapping[str, Iterable[str] | None] | None = None,
) -> str:
    """Change which values a query asks of some fields.

    :param add: values by field; a term of that field gets them as further alternatives, else a term is added.
    :param remove: values by field; None takes away all that the query requires of the field.
    """
    for field, gone in (remove or {}).items():
        text = (
            without(text, field) if gone is None else _remove(text, field, {value.lower() for value in gone})
        )
    for field, values in (add or {}).items():
        missing = [value for value in values if value.lower() not in selected_values(text, field)]
        text = _add(text, field, missing) if missing else text
    return text


def _remove(text: str, field: str, gone: set[str]) -> str:
    for piece in reversed(_own(text, field)):
        term = piece.lexeme.term
        if piece.is_negated or not isinstance(term, Filter):
            continue
        kept = [
            value
            for value in term.values
            if value.operator != "=" or value.is_pattern or value.text.lower() not in gone
        ]
        if not kept:
            text = _cut(text, piece.span)
        elif len(kept) < len(term.values):
            shown = ",".join(text[value.span.position : value.span.end] for value in kept)
            start = term.values[0].span.position
            text = text[:start] + shown + text[term.values[-1].span.end :]
    return text


def _add(text: str, field: str, values: list[str]) -> str:
    shown = ",".join(format_value(literal(value)) for value in values)
    for piece in _own(text, field):
        if not piece.is_negated:
            return f"{text[: piece.span.end]},{shown}{text[piece.span.end :]}"
    if any(piece.lexeme.type is Lex.OR and piece.depth == 0 for piece in _pieces(text)):
        text = f"({text.strip()})"
    return f"{text.rstrip()} {field}:{shown}".lstrip()


def _cut(text: str, span: Span) -> str:
    """The text without a term, and without the AND that joined it."""
    before, after = text[: span.position].rstrip(), text[span.end :].lstrip()
    if _first_word(after) == "AND":
        after = after[3:].lstrip()
    elif before.endswith(" AND") or before == "AND":
        before = before[:-3].rstrip()
    return f"{before} {after}".strip()


def _first_word(text: str) -> str:
    return text.split(maxsplit=1)[0] if text else ""
