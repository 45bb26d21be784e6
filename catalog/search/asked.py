"""What somebody typed: the words that are searched, and the filters of the query language that stand among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from django.db.models import Q
from django.utils import timezone

from catalog.kinds import current_kinds
from catalog.query.compile import compile_query
from catalog.query.errors import QueryError
from catalog.query.nodes import And, Words
from catalog.query.parser import parse
from catalog.search.words import fold, spellings, words_of

MAX_TEXT = 500
MAX_WORDS = 8  # that have to be there; further ones are not looked at

# Words that say nothing where there are others: of questions and sentences, in English and German.
_FILLING = (
    "a an and are at be by can do does for from how i if in is it its my of on or our that the their there this to was"
    " we what when where which who why will with you your am auf aus bei das dem den der des die ein eine einen einer"
    " eines er es für fur fuer ich im ist man mit nach sie sind und unser von was wer wie wir wird wo zu zum zur"
)
_FILLERS = frozenset(_FILLING.split())
_UMLAUTS = (("ae", "ä"), ("oe", "ö"), ("ue", "ü"), ("ss", "ß"))
_REF = re.compile(r"(?P<kind>[a-z0-9]+):[^\s:/]+/[^\s:/]+")
_GAPS = re.compile(r"[\s_.\-/]+")


@dataclass(frozen=True)
class Word:
    """A word that has to be there.

    :ivar text: folded.
    :ivar written: how it may stand in a text, in lower case: as typed, without accents, with umlauts.
    :ivar others: what was perhaps meant instead, as it stands in texts, in lower case.
    """

    text: str
    written: tuple[str, ...]
    others: tuple[str, ...] = ()

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """All as which it is looked for in texts that are not folded."""
        return tuple(dict.fromkeys((*self.written, *self.others)))

    @cached_property
    def folded(self) -> dict[str, float]:
        """All as which it counts, folded, and how much: what was typed is worth most, then what is likest."""
        found = dict.fromkeys(map(fold, self.written), 1.0)
        for number, other in enumerate(self.others, 1):
            found.setdefault(fold(other), 0.9 - 0.1 * number)
        return found


@dataclass(frozen=True)
class Asked:
    """What is searched.

    :ivar text: what was typed without the filters, in one line.
    :ivar words: what has to be there.
    :ivar filters: what the entity has to fulfil besides; None for nothing.
    :ivar names: that the text may be, in lower case.
    """

    text: str
    words: tuple[Word, ...] = ()
    filters: Q | None = None
    names: tuple[str, ...] = ()

    @cached_property
    def squeezed(self) -> str:
        """The text folded and without gaps."""
        return squeezed(self.text)

    @property
    def is_empty(self) -> bool:
        return not self.words and self.filters is None

    def meaning(self, others: dict[str, tuple[str, ...]]) -> Asked:
        """The same, where some words may also mean others."""
        return replace(
            self, words=tuple(replace(word, others=others.get(word.text, ())) for word in self.words)
        )


def read(text: str, *, viewer: object = None) -> Asked:
    """Read what somebody typed. Nothing is a mistake: what is no query is words.

    Words that are alternatives or are not wanted are left to the query language, and nothing is highlighted for them.
    """
    typed = " ".join(text.replace("\0", " ")[:MAX_TEXT].split())
    if (ref := _REF.fullmatch(typed.lower())) and ref["kind"] in current_kinds():
        return _of(typed, None)  # what is called so, rather than what is of that system
    try:
        node = parse(typed)
        compile_query(node, viewer=viewer, now=timezone.now())  # knows which fields there are
    except QueryError:
        return _of(typed, None)
    items = node.items if isinstance(node, And) else (node,)
    free = [item for item in items if isinstance(item, Words) and not item.value.is_pattern]
    rest = tuple(item for item in items if item not in free)
    if not rest:
        return _of(typed.replace('"', " "), None)
    filters = compile_query(And(rest), viewer=viewer, now=timezone.now())
    return _of(" ".join(item.value.text for item in free), filters)


def _of(text: str, filters: Q | None) -> Asked:
    plain = " ".join(text.split())
    typed = list(_words(plain))
    telling = [word for word in typed if word.text not in _FILLERS] or typed
    return Asked(plain, tuple(telling[:MAX_WORDS]), filters, tuple(_names(plain)))


def _words(text: str) -> Iterator[Word]:
    known = set()
    for part in text.split():
        folded = words_of(part)
        # How it was typed is only of use where it is one word; pieces of `payments-api` are plain anyway.
        whole = part.lower().strip(".,;:!?\"'()[]{}<>")
        for word in folded:
            if word not in known:
                known.add(word)
                yield Word(word, tuple(_written(whole if fold(whole) == word else word, word)))


def _written(typed: str, folded: str) -> Iterable[str]:
    """How a word may be written; as it was typed comes last."""
    found = [folded, *spellings(typed)]
    found += [folded.replace(plain, umlaut) for plain, umlaut in _UMLAUTS if plain in folded]
    umlauts = folded
    for plain, umlaut in _UMLAUTS:
        umlauts = umlauts.replace(plain, umlaut)
    return dict.fromkeys(one for one in (*found, umlauts) if one != typed) | {typed: None}


def _names(text: str) -> Iterator[str]:
    """The names that a text may be, in lower case: with its blanks as names have them."""
    lower = text.lower()
    yield lower
    parts = [part for part in _GAPS.split(" ".join(spellings(text)[-1:])) if part]
    for joint in ("-", "_", ".", ""):
        if (name := joint.join(parts)) != lower and name:
            yield name


def squeezed(text: str) -> str:
    """A text folded and without the gaps between its words: the same for `Payments API` and `payments-api`."""
    return _GAPS.sub("", fold(text))
