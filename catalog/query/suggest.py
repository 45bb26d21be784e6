"""What may come next in a query that is being typed: fields, operators, values with how often they occur."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Count, F, Q, QuerySet
from django.utils.translation import gettext as _

from catalog.models import Entity, Problem, Relation
from catalog.query.conditions import any_like, escape_like, folded_like
from catalog.query.errors import QueryError
from catalog.query.fields import (
    FIELDS,
    PATHS,
    Conflict,
    Field,
    Has,
    Is,
    Moment,
    Problems,
    Related,
    Words,
    find_field,
)
from catalog.query.lexer import KEYWORDS, Lex, scan
from catalog.query.parser import format_value, literal
from catalog.query.relations import directions

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

LIMIT = 10


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One way to go on.

    :ivar text: to put in the place of the characters from `start` to `end`.
    :ivar count: entities that the query would find with it; None where that is not counted.
    """

    text: str
    label: str
    description: _StrOrPromise
    start: int
    end: int
    count: int | None = None


def suggest(
    text: str, cursor: int, queryset_for: Callable[[str], QuerySet[Entity]], *, limit: int = LIMIT
) -> list[Suggestion]:
    """What may stand at the cursor.

    :param text: a query as far as it is typed; it need not be right.
    :param cursor: before which character the cursor stands.
    :param queryset_for: gives the entities that a query finds for the viewer, such as `search_entities`.
    """
    cursor = max(0, min(cursor, len(text)))
    start, end, rest = cursor, cursor, text
    for lexeme in scan(text):
        if (
            lexeme.type not in (Lex.OPEN, Lex.CLOSE, Lex.NOT)
            and lexeme.span.position < cursor <= lexeme.span.end
        ):
            start, end = lexeme.span.position, lexeme.span.end
            rest = text[:start].rstrip().removesuffix("-") + " " + text[end:]
    name, colon, _values = text[start:cursor].partition(":")
    if not colon:
        return _names(text[start:cursor], start, _end_of_name(text, cursor, end))[:limit]
    value_start, value_end = _value_around(text, start + len(name) + 1, cursor, end)
    typed = text[value_start:cursor].lstrip('"').lower()
    try:
        field = find_field(name)
    except QueryError:
        return []
    try:
        entities = queryset_for(rest.strip())
    except QueryError:
        entities = queryset_for("")
    return [
        Suggestion(written, label, description, value_start, value_end, count)
        for written, label, description, count in _values_of(field, typed, entities, queryset_for, limit)
    ]


def _end_of_name(text: str, cursor: int, end: int) -> int:
    colon = text.find(":", cursor, end)
    return colon + 1 if colon >= 0 else end


def _value_around(text: str, start: int, cursor: int, end: int) -> tuple[int, int]:
    """Where the value that holds the cursor begins and ends."""
    is_quoted = False
    for at in range(start, end):
        if text[at] == '"':
            is_quoted = not is_quoted
        elif text[at] == "," and not is_quoted:
            if at >= cursor:
                return start, at
            start = at + 1
    return start, end


def _names(typed: str, start: int, end: int) -> list[Suggestion]:
    key = typed.lower()
    names: list[tuple[str, _StrOrPromise]] = [(field.name, field.description) for field in FIELDS.values()]
    if key:
        names += [(ways[0].name, _("Relation")) for ways in directions().values()]
    found = [
        Suggestion(f"{name}:", name, description, start, end)
        for name, description in names
        if name.lower().startswith(key)
    ]
    if key:
        found += [
            Suggestion(path, path, _("Path into the document"), start, end)
            for path in PATHS
            if path.startswith(key)
        ]
        found += [
            Suggestion(word, word, _("Operator"), start, end) for word in KEYWORDS if word.startswith(typed)
        ]
    return found


Row = tuple[str, str, "_StrOrPromise", int | None]


def _values_of(
    field: Field,
    typed: str,
    entities: QuerySet[Entity],
    queryset_for: Callable[[str], QuerySet[Entity]],
    limit: int,
) -> Iterable[Row]:
    if isinstance(field, Has | Conflict):
        names = [
            known.name
            for known in FIELDS.values()
            if (known.path if isinstance(field, Conflict) else known.can_exist)
        ]
        if isinstance(field, Has):
            names += [ways[0].name for ways in directions().values()]
        return _fixed(((name, "") for name in names), typed, limit)
    if isinstance(field, Is):
        return _fixed(field.FLAGS.items(), typed, limit)
    if isinstance(field, Moment):
        ages = {"today": _("today"), "<7d": _("in the last 7 days"), ">30d": _("more than 30 days ago")}
        return _fixed(ages.items(), typed, limit)
    counted: Iterable[tuple[str, int]] = ()
    if isinstance(field, Problems):
        open_ones = Problem.objects.filter(
            resolved_at=None, subject_uid__in=entities.order_by().values("uid")
        )
        counted = _top(open_ones, "type", "subject_uid", typed, limit)
    elif isinstance(field, Related):
        counted = _related(field, typed, entities, queryset_for(""), limit)
    elif isinstance(field, Words):
        rows = entities.filter(any_like(field.column, f"%{escape_like(typed)}%")) if typed else entities
        groups = rows.order_by().values(value=field.values_expression()).annotate(count=Count("pk"))
        found = groups.order_by("-count", "value").values_list("value", "count")
        counted = [(value, count) for value, count in found[:1_000] if typed in value.lower()][:limit]
    elif field.column and field.name not in {"uid", "title", "description"}:
        counted = _top(entities.exclude(**{field.column: ""}), field.column, "pk", typed, limit)
    mine = _fixed([("@me", _("you and your groups"))], typed, limit) if field.name == "owner" else []
    return [*mine, *((format_value(literal(value)), value, "", count) for value, count in counted)][:limit]


def _fixed(pairs: Iterable[tuple[str, _StrOrPromise]], typed: str, limit: int) -> Iterable[Row]:
    return [(word, word, description, None) for word, description in pairs if word.lower().startswith(typed)][
        :limit
    ]


def _top(rows: QuerySet, column: str, counted: str, typed: str, limit: int) -> list[tuple[str, int]]:
    if typed:
        rows = rows.filter(folded_like(column, f"%{escape_like(typed)}%"))
    groups = rows.order_by().values(value=F(column)).annotate(count=Count(counted, distinct=True))
    return list(groups.order_by("-count", "value").values_list("value", "count")[:limit])


def _related(
    field: Related, typed: str, entities: QuerySet[Entity], visible: QuerySet[Entity], limit: int
) -> list[tuple[str, int]]:
    """The other ends of a relation, without those that the viewer may not see."""
    way = field.ways[0]
    seen = visible.order_by().values("pk")
    rows = Relation.objects.filter(type=way.type)
    if way.is_inverse:
        rows = rows.filter(target__in=entities.order_by().values("pk"), source__in=seen)
        return _top(rows, "source__ref", "target", typed, limit)
    rows = rows.filter(Q(target=None) | Q(target__in=seen), source__in=entities.order_by().values("pk"))
    return _top(rows, "target_ref", "source", typed, limit)
