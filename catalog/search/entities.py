"""Entities by what they are called, what is said of them, and whose they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import and_
from typing import Any

from django.db.models import BooleanField, F, Func, Q, QuerySet
from django.db.models.functions import Left, Lower

from catalog import queries
from catalog.models import Entity
from catalog.query.conditions import escape_like
from catalog.query.tokens import token
from catalog.search.asked import Asked, Word, squeezed
from catalog.search.hits import BEGINS, DESCRIPTION, EXACT, TAGS, TITLE, Hit, Place
from catalog.search.marks import Marked
from catalog.search.words import is_unspaced, words_of

MOST = 100  # rows that one statement looks for
_BEGINNING = 40
_OWNING = ("group", "user", "system", "domain")
# What people look for most, where several have one name.
_KINDS = ("component", "system", "api", "resource", "repository", "domain", "group", "user")


@dataclass(frozen=True, slots=True)
class Row:
    """Of an entity what it is found by."""

    pk: int
    ref: str
    kind: str
    namespace: str
    name: str
    title: str
    description: str
    type: str
    lifecycle: str
    owner: str
    system: str
    tags: list[str]


_COLUMNS = (
    "pk",
    "ref",
    "kind",
    "namespace",
    "name",
    "title",
    "said",
    "type",
    "lifecycle",
    "owner",
    "system",
    "tags",
)


def rows_of(viewer: Any, asked: Asked, kinds: Iterable[str] = ()) -> QuerySet[Entity]:
    """The entities among which is searched: those that the viewer may see, that fulfil the filters."""
    rows = queries.list_entities(viewer)
    if asked.filters is not None:
        rows = rows.filter(asked.filters)
    wanted = list(kinds)
    return rows.filter(kind__in=wanted) if wanted else rows


def find(rows: QuerySet[Entity], asked: Asked, *, limit: int, is_second: bool = False) -> list[Hit]:
    """The best entities in which all words are, in any of their fields.

    Each way of being found is a statement that an index answers, the best first, until there are enough: what is
    called so, what begins so, what has the words in its name and title, what has them anywhere.

    :param is_second: whether only what the words may mean besides has changed since the last time.
    """
    found: dict[int, Row] = {}

    def take(these: QuerySet[Entity], most: int) -> None:
        found.update({row.pk: row for row in _read(these, most) if row.pk not in found})

    if not asked.words:
        if asked.filters is not None:
            take(rows.order_by("name", "pk"), limit)
        return ranked(found.values(), asked)
    if not is_second:
        take(rows.filter(_is_called(asked)), _BEGINNING)
        for name in asked.names[:2]:
            if " " not in name:
                take(rows.filter(name__startswith=name).order_by("name", "uid"), _BEGINNING)
        # In this order what has just this title is first.
        titled = rows.alias(low=Lower("title")).filter(low__startswith=asked.text.lower())
        take(titled.order_by("low", "uid"), _BEGINNING)
    take(rows.filter(_all(asked.words, ("name", "title"))), MOST)
    if len(found) < limit:
        owning = _owning(rows, asked.words)
        fields = ("name", "title", "description")
        take(rows.filter(_all(asked.words, fields, owning)), MOST)
    return ranked(found.values(), asked)


def ranked(rows: Iterable[Row], asked: Asked) -> list[Hit]:
    """What was found, the best first."""
    hits = []
    for row in rows:
        place = _place(row, asked)
        hits.append(
            Hit(
                "entity",
                row.pk,
                place,
                Marked(row.title),
                row.ref,
                row.kind,
                row.title,
                type=row.type,
                owner=row.owner,
                tags=tuple(row.tags),
            )
        )
    return sorted(hits, key=lambda hit: hit.place.key)


def partly(rows: QuerySet[Entity], words: Iterable[Word]) -> list[Row]:
    """Entities in whose name or title at least one of the words is, some for each."""
    found: dict[int, Row] = {}
    for word in words:
        found |= {row.pk: row for row in _read(rows.filter(_all([word], ("name", "title"))), MOST)}
    return list(found.values())


def _read(rows: QuerySet[Entity], most: int) -> list[Row]:
    columns = rows.annotate(said=Left("description", 1_000)).values_list(*_COLUMNS)
    return [Row(*values) for values in columns[:most]]


def holds(word: Word, columns: Iterable[str]) -> Q:
    """The condition that a word is in one of some columns: anywhere, or if it is short where a word begins."""
    return Q(AnyLike(*columns, patterns=tuple(_patterns(word.patterns))))


def _patterns(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        plain = escape_like(text)
        # The index of three letters each knows how words begin, and nothing of two letters within one.
        if len(text) > 2 or is_unspaced(text):
            yield f"%{plain}%"
        else:
            yield from (f"{plain}%", f"%-{plain}%", f"% {plain}%")


class AnyLike(Func):
    """Whether one of some columns is like one of some patterns, whatever the case; one expression, for there are many.

    The indexes are on UPPER.
    """

    output_field = BooleanField()

    def __init__(self, *columns: str, patterns: tuple[str, ...]) -> None:
        super().__init__(*map(F, columns))
        self.patterns = patterns

    def as_sql(self, compiler: Any, connection: Any, *_args: Any, **_context: Any) -> tuple[str, Any]:
        parts: list[str] = []
        parameters: list[Any] = []
        for column in self.source_expressions:
            sql, own = compiler.compile(column)
            for pattern in self.patterns:
                parts.append(f"UPPER({sql}) LIKE UPPER(%s)")
                parameters += [*own, pattern]
        return f"({' OR '.join(parts)})", parameters


def _all(words: Iterable[Word], columns: Iterable[str], owning: dict[str, list[str]] | None = None) -> Q:
    fields = tuple(columns)
    conditions = []
    for word in words:
        condition = holds(word, fields)
        if owning is not None:
            condition |= Q(tokens__overlap=sorted(_tokens(word)))
            if refs := owning.get(word.text):
                condition |= Q(owner__in=refs)
        conditions.append(condition)
    return reduce(and_, conditions)


def _tokens(word: Word) -> Iterator[int]:
    for text in word.patterns:
        for key in ("kind", "metadata.tags", "spec.type", "spec.lifecycle", "metadata.namespace"):
            yield token(key, text)
        for ref in (text, f"system:{text}", f"system:default/{text}"):
            yield token("spec.system", ref)


def _owning(rows: QuerySet[Entity], words: Iterable[Word]) -> dict[str, list[str]]:
    """Refs of owners that are called like a word, by the word."""
    asked = list(words)
    named: dict[str, set[str]] = {}  # words by the name that they are, or are two of
    for word in asked:
        for text in word.patterns:
            named.setdefault(text, set()).add(word.text)
    for one, other in pairwise(asked):
        named.setdefault(f"{one.text}-{other.text}", set()).update((one.text, other.text))
    refs = {(name, f"{kind}:default/{name}") for name in named for kind in ("group", "user")}
    refs |= set(rows.filter(kind__in=_OWNING, name__in=list(named)).values_list("name", "ref")[:100])
    found: dict[str, list[str]] = {}
    for name, ref in sorted(refs):
        for text in named[name]:
            found.setdefault(text, []).append(ref)
    return found


def _parts(text: str) -> tuple[str, str, str]:
    """Kind, namespace and name of a ref of which the first two may be left out."""
    kind, _colon, rest = text.rpartition(":")
    namespace, _slash, name = rest.rpartition("/")
    return kind, namespace, name


def _is_called(asked: Asked) -> Q:
    text = asked.text.lower()
    found = Q(name__in=asked.names) | Q(ref=text)
    kind, namespace, name = _parts(text)
    if name and (kind or namespace):
        within = Q(name=name)
        if kind:
            within &= Q(kind=kind.strip())
        if namespace:
            within &= Q(namespace=namespace)
        found |= within
    return found


def _place(row: Row, asked: Asked) -> Place:
    """How well an entity fits."""
    wanted, name, title = asked.squeezed, squeezed(row.name), squeezed(row.title)
    kind = _KINDS.index(row.kind) if row.kind in _KINDS else len(_KINDS)
    rest = (len(row.name), kind, row.namespace != "default", row.ref)
    if not asked.words:
        return Place(0, TITLE, 0.0, (row.name, row.ref))
    text = asked.text.lower()
    if text == row.ref or name == wanted:
        # Of what is called so, what is written so.
        return Place(0, EXACT, 2.0 + (row.name == text or row.ref == text), rest)
    if title == wanted:
        return Place(0, EXACT, 1.0 + (row.title.lower() == text), rest)
    if _is_named(row, text):
        return Place(0, EXACT, 0.5, rest)
    if wanted and name.startswith(wanted):
        # A whole word first: `pay-api` before `payment`.
        whole = words_of(row.name)[: len(words_of(asked.text))] == words_of(asked.text)
        return Place(0, BEGINS, 1.0 if whole else 0.5, rest)
    tier, worth = TITLE, 0.0
    if wanted and title.startswith(wanted):
        worth = 1.0
    # The more of what it is called was asked, the better it fits.
    asked_length = sum(len(word.text) for word in asked.words)
    called = (words_of(row.name), words_of(row.title))
    for has in called:
        if has and all(fit(word, has) for word in asked.words):
            worth = max(worth, min(1.0, asked_length / sum(map(len, has))))
    left = list(asked.words)
    for at, words in (
        (TITLE, lambda: (*called[0], *called[1])),
        (TAGS, lambda: _about(row)),
        (DESCRIPTION, lambda: words_of(row.description)),
    ):
        if not left:
            break
        tier, there = at, words()
        fits = [(word, fit(word, there)) for word in left]
        worth += sum(value for _word, value in fits)
        left = [word for word, value in fits if not value]
    return Place(len(left), tier, worth, rest)


def _about(row: Row) -> tuple[str, ...]:
    """Words of what is said of it in a few words."""
    texts = (row.kind, row.type, row.lifecycle, row.namespace, *row.tags)
    of = (ref.partition(":")[2] for ref in (row.owner, row.system))
    return tuple(word for text in (*texts, *of) for word in words_of(text))


def fit(word: Word, has: Collection[str]) -> float:
    """How well a word fits the best of some: it is one, one begins so, it stands in one."""
    best = 0.0
    for text, counts in word.folded.items():
        for one in has:
            if text in one:
                best = max(best, counts * (1.0 if one == text else 0.8 if one.startswith(text) else 0.5))
    return best


def _is_named(row: Row, text: str) -> bool:
    """Whether a text is a part of the ref that ends with the whole name, such as `api:pets` or `default/pets`."""
    kind, namespace, name = _parts(text)
    return (
        bool(kind or namespace)
        and name == row.name
        and kind in ("", row.kind)
        and namespace in ("", row.namespace)
    )
