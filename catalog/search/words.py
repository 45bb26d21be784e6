"""What counts as a word, for what is searched and for what people type: one rule for both.

PostgreSQL's own parsers know one language at a time, and read a path of an API as one word. Here all scripts are folded
alike: without case and accents, `ä` also as `ae`, names in camel case also in their parts, and what is written without
blanks in pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

MAX_WORD = 64
MAX_WORDS = 10_000  # of one passage; PostgreSQL knows the places of the first 16,383

_MARKS = dict.fromkeys(range(0x300, 0x370))
_SPELLED = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ı": "i"}
)
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
# Signs that stand between letters in other scripts, such as the vowels of Devanagari, belong to the word. An accent
# by itself is none: folded, nothing of it is left.
_WORD = re.compile(
    r"(?![\u0300-\u036f])(?:[^\W_]|[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u0670\u0900-\u0dff\u0e31-\u0e4e])+"
)
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_UNSPACED = re.compile(
    r"([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)"
)


def fold(text: str) -> str:
    """A text without case and accents."""
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKD", text.casefold()).translate(_MARKS)
    return unicodedata.normalize("NFC", bare).translate(_SPELLED)


def spellings(word: str) -> list[str]:
    """A word folded, and as it is written where there are no umlauts, if it has some."""
    plain = fold(word)
    if word.isascii():
        return [plain]
    spelled = fold(unicodedata.normalize("NFC", word.casefold()).translate(_UMLAUTS))
    return [plain] if spelled == plain else [plain, spelled]


def words_of(text: str) -> list[str]:
    """The words of a text, folded, in order."""
    return [fold(match[0])[:MAX_WORD] for match in _WORD.finditer(text)]


def query(word: str) -> str:
    """What PostgreSQL takes as a tsquery: what begins with a folded word."""
    parts = [f"'{part[:MAX_WORD]}':*" for part in _cut(word)]
    return f"({' & '.join(parts)})" if len(parts) > 1 else parts[0]


def is_unspaced(text: str) -> bool:
    """Whether a text is in a script that puts no blanks between words."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def words_in(text: str) -> Iterator[tuple[int, int, str]]:
    """The words of a text as they stand there, each with its beginning and end."""
    for match in _WORD.finditer(text):
        yield match.start(), match.end(), match[0]


def vector(*texts: tuple[str, str]) -> str:
    """What PostgreSQL takes as a tsvector: the words of some texts with their places.

    :param texts: each with its weight, A to D.
    """
    places: dict[str, list[str]] = {}
    number = 0
    for text, weight in texts:
        for match in _WORD.finditer(text):
            number += 1
            if number > MAX_WORDS:
                break
            for word in _forms(match[0]):
                places.setdefault(word, []).append(f"{number}{weight}")
    # PostgreSQL keeps 255 places of a word, and sorts them out itself.
    return " ".join(f"'{word}':{','.join(at[:255])}" for word, at in places.items())


@lru_cache(maxsize=20_000)
def _forms(word: str) -> tuple[str, ...]:
    """As what a word is found. Few words make up most texts."""
    found = [part for spelling in spellings(word) for part in _cut(spelling)]
    parts = _PARTS.findall(word)
    if len(parts) > 1:
        found += [part.lower() for part in parts if len(part) > 1]
    return tuple(dict.fromkeys(part[:MAX_WORD] for part in found))


def _cut(word: str) -> Iterator[str]:
    """A word; what is written without blanks as each two characters that follow one another."""
    if not is_unspaced(word):
        yield word
        return
    for part in _UNSPACED.split(word):
        if part and _UNSPACED.match(part) and len(part) > 2:
            yield from (part[at : at + 2] for at in range(len(part) - 1))
        elif part:
            yield part
