"""What was perhaps meant by a word that is typed wrongly: words of names and titles that are like it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib.postgres.search import TrigramWordSimilarity
from django.db import connection
from django.db.models import Exists, Q, QuerySet
from django.db.models.functions import Greatest, Upper

from catalog.models import Entity, Passage
from catalog.query.conditions import escape_like
from catalog.search.asked import Word
from catalog.search.entities import AnyLike, holds
from catalog.search.words import fold, words_in

MOST_WORDS = 3  # of which others are looked for
LEAST = 4  # letters, below which all is like all
_ALIKE = 0.3  # of the groups of three letters
_LOOKED_AT = 500
_BEST = 40
_LONGEST_SWAPPED = 10
_OTHERS = 4  # that one word may mean


def others(
    words: Iterable[Word], rows: QuerySet[Entity], passages: QuerySet[Passage], *, is_known_meant: bool
) -> dict[str, tuple[str, ...]]:
    """What else words may mean, the likest first: one slip in a short word, two in a longer one.

    Both are found by indexes, and only so many are looked at. It takes a transaction.

    :param is_known_meant: whether a word that something is called by is taken as it is typed.
    :returns: by the word, of all that were looked at.
    """
    found = {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('pg_trgm.word_similarity_threshold', %s, true)", [str(_ALIKE)])
        # Another number is another thing, however like it is.
        wanted = [word for word in words if len(word.text) >= LEAST and not word.text.isdigit()]
        known = _known(wanted, rows, passages) if is_known_meant and wanted else set()
        for word in [word for word in wanted if word not in known][:MOST_WORDS]:
            near = _near(word, [*_alike(word, rows, "name", "title"), *_alike(word, passages, "title")])
            found[word.text] = near
    return found


def _known(words: list[Word], rows: QuerySet[Entity], passages: QuerySet[Passage]) -> set[Word]:
    """Words by which something is called: they are meant as they are typed."""
    called = [
        Exists(rows.filter(holds(word, ("name", "title"))).order_by())
        | Exists(passages.filter(holds(word, ("title",))).order_by())
        for word in words
    ]
    names = {f"known_{number}": condition for number, condition in enumerate(called)}
    answer = Entity.objects.order_by("pk").annotate(**names).values_list(*names).first()
    return {word for word, is_known in zip(words, answer or (), strict=False) if is_known}


def _alike(word: Word, rows: QuerySet[Any], *columns: str) -> Iterator[str]:
    """Texts in which something is like a word."""
    uppers = {f"upper_{column}": Upper(column) for column in columns}
    condition = Q()
    typed = word.written[-1].upper()
    for column in uppers:
        condition |= Q(**{f"{column}__trigram_word_similar": typed})
    if swapped := tuple(f"%{escape_like(one)}%" for one in _swapped(word.text)):
        condition |= Q(AnyLike(*columns, patterns=swapped))
    some = rows.alias(**uppers).filter(condition).order_by().values("pk")[:_LOOKED_AT]
    likeness = [TrigramWordSimilarity(typed, Upper(column)) for column in columns]
    best = rows.model._default_manager.filter(pk__in=some)
    best = best.alias(likeness=Greatest(*likeness) if len(likeness) > 1 else likeness[0]).order_by(
        "-likeness"
    )
    for texts in best.values_list(*columns)[:_BEST]:
        yield from texts


def _swapped(text: str) -> Iterator[str]:
    """A word with two neighbouring letters swapped: of its groups of three letters few or none are left."""
    if len(text) <= _LONGEST_SWAPPED:
        for at in range(len(text) - 1):
            if text[at] != text[at + 1]:
                yield text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _near(word: Word, texts: list[str]) -> tuple[str, ...]:
    most = 1 if len(word.text) < 6 else 2
    known: dict[str, float] = {}
    for text in texts:
        for _start, _end, written in words_in(text):
            one = written.lower()
            if one not in known and one not in word.written:
                folded = fold(one)
                known[one] = min(slips(word.text, folded, most=most), _beginning(word.text, folded, most))
    near = sorted((far, one) for one, far in known.items() if far <= most)
    return tuple(one for _far, one in near[:_OTHERS])


def _beginning(text: str, other: str, most: int) -> float:
    """The slips in what is typed of the beginning of a longer word; half a slip more than for a whole one."""
    if len(text) < LEAST + 1 or len(other) <= len(text):
        return most + 1
    return 0.5 + min(slips(text, other[: len(text) + more], most=most) for more in (-1, 0, 1))


def slips(one: str, other: str, *, most: int) -> int:
    """How many letters are wrong, missing, too many or swapped with the next; `most` + 1 for more than that."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
