"""What of a text is highlighted, and which part of a long one is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from catalog.search.asked import Word
from catalog.search.words import fold, words_in

LENGTH = 220  # of a snippet
_BEFORE = 60
_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Marked:
    """A plain text, and where in it stands what was searched.

    :ivar spans: beginning and end of each place, in order, none in another.
    """

    text: str
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def pieces(self) -> list[tuple[str, bool]]:
        """The text in pieces, each with whether it is marked."""
        found, at = [], 0
        for start, end in self.spans:
            found += [(self.text[at:start], False), (self.text[start:end], True)]
            at = end
        return [(text, is_marked) for text, is_marked in (*found, (self.text[at:], False)) if text]


def mark(text: str, words: Iterable[Word]) -> Marked:
    """Mark the words where they stand."""
    wanted = [one for word in words for one in word.folded]
    spans: list[tuple[int, int]] = []
    for start, end, word in words_in(text):
        folded = fold(word)
        here = []
        for one in wanted:
            # A letter stands within another word everywhere.
            at = folded.find(one) if len(one) > 1 else (0 if folded.startswith(one) else -1)
            if at < 0:
                continue
            # Where folding changed the length, nobody knows which letters it is.
            here.append((start + at, start + at + len(one)) if len(folded) == end - start else (start, end))
        spans += here
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return Marked(text, tuple(joined))


def snippet(text: str, words: Iterable[Word], *, length: int = LENGTH) -> Marked:
    """The part of a text in which most of the words stand, marked."""
    wanted = list(words)
    if len(text) <= length:
        return mark(text, wanted)
    begin = _best(text, wanted, length)
    end = min(begin + length, len(text))
    # Between words, where there are some.
    if begin and (blank := text.find(" ", begin, begin + 30)) >= 0:
        begin = blank + 1
    if end < len(text) and (blank := text.rfind(" ", end - 30, end)) >= 0:
        end = blank
    before, after = "… " if begin else "", " …" if end < len(text) else ""
    return mark(before + text[begin:end] + after, wanted)


def _best(text: str, words: list[Word], length: int) -> int:
    """Where the part begins in which most different words are."""
    folded = fold(text)
    # A short word stands in many others, so only where one begins.
    parts = [
        re.escape(one) if len(one) > 3 else rf"\b{re.escape(one)}" for word in words for one in word.folded
    ]
    if not parts or not folded:
        return 0
    places = [(match.start(), match[0]) for match in islice(re.finditer("|".join(parts), folded), _LOOKED_AT)]
    best, most = 0, 0
    for number, (start, _word) in enumerate(places):
        inside = {word for at, word in places[number:] if at <= start + length - _BEFORE}
        if len(inside) > most:
            best, most = start, len(inside)
    # Folding may have changed the length, and then it is there about.
    begin = best * len(text) // len(folded) - _BEFORE
    return max(0, min(begin, len(text) - length))
