"""YAML 1.2 without its dangers: many documents in one text, each read on its own and only when asked for.

Values are read as the core schema of YAML 1.2 says (and as Backstage reads them): `no` and `on` are text,
`010` is ten, dates stay text, `<<` is an ordinary key. Keys must be unique. Unknown tags are ignored. Size,
depth, number of values and use of aliases are limited. No nesting can exhaust the stack.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from base import limits
from base.errors import FieldError, InvalidInput
from base.paths import Part, parse_path


class YamlError(InvalidInput):
    """A document that is not YAML, or not YAML that is accepted.

    :ivar line: where in the whole text, from 1.
    :ivar column: from 1.
    :ivar reason: what is wrong there, without the place.
    """

    code = "yaml-error"
    title = gettext_lazy("The YAML cannot be read")

    def __init__(self, reason: str, *, name: str, number: int, line: int, column: int) -> None:
        self.reason, self.name, self.number, self.line, self.column = reason, name, number, line, column
        super().__init__(
            _("%(name)s, document %(number)d, line %(line)d, column %(column)d: %(reason)s")
            % {"name": name, "number": number, "line": line, "column": column, "reason": reason},
            errors=[FieldError("", reason)],
            line=line,
            column=column,
            document=number,
        )


class Place(NamedTuple):
    """A place in a text; both from 1."""

    line: int
    column: int


class ParsedDocument:
    """One document of a text. It is parsed when `data` or `error` is first asked for.

    :ivar name: of the text it is from, for messages.
    :ivar number: its place among the text's documents, from 1; empty ones are not counted.
    :ivar line: of the text at which it begins, from 1.
    :ivar raw: its own slice of the text.
    :ivar ending: the line that ends it: the marker of the next one; empty at the end of the text.
    """

    __slots__ = ("_data", "_error", "_parsed", "ending", "line", "name", "number", "raw")

    def __init__(self, *, name: str, number: int, line: int, raw: str, ending: str = "") -> None:
        self.name, self.number, self.line, self.raw, self.ending = name, number, line, raw, ending
        self._data: Any = None
        self._error: YamlError | None = None
        self._parsed = False

    def __repr__(self) -> str:
        return f"<ParsedDocument {self.name}#{self.number}, line {self.line}>"

    @property
    def digest(self) -> bytes:
        """16 bytes over the raw text: the same document need not be parsed again."""
        return hashlib.blake2b(self.raw.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    @property
    def data(self) -> Any:
        """The document as plain JSON data; None if it says nothing or is broken."""
        self._parse()
        return self._data

    @property
    def error(self) -> YamlError | None:
        """Why it cannot be read, or None."""
        self._parse()
        return self._error

    @property
    def text(self) -> str:
        """As it stands in the file, with the line that ends it."""
        return self.raw + self.ending

    def place_of(self, path: str | Sequence[Part]) -> Place:
        """Where, in the whole text, stands what is at a path; its nearest parent if nothing is."""
        line, column = place_of(self.raw, path)
        return Place(self.line - 1 + line, column)

    def _parse(self) -> None:
        if self._parsed:
            return
        self._parsed = True
        try:
            limits.check_size(len(self.raw), limits.MAX_DOCUMENT_BYTES, what=_("The document"))
            self._data = _build(self.raw)
        except _Refused as refused:
            self._error = self._error_at(refused.reason, refused.line, refused.column)
        except limits.LimitExceeded as error:
            self._error = self._error_at(error.message, 0, 0)

    def _error_at(self, reason: str, line: int, column: int) -> YamlError:
        return YamlError(reason, name=self.name, number=self.number, line=self.line + line, column=column + 1)


# A marker at the start of a line ends whatever stands before it, in block and quoted scalars too.
_MARKER = re.compile(r"^(---|\.\.\.)(?=[ \t\n]|\Z)[^\n]*", re.MULTILINE)
_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\n|\Z))*\Z")
_ONLY_MARKER = re.compile(r"---[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ONLY_DIRECTIVES = re.compile(r"(?:(?:%[^\n]*|[ \t]*(?:#[^\n]*)?)(?:\n|\Z))*\Z")


def parse_documents(text: str | bytes, *, name: str) -> list[ParsedDocument]:
    """Cut a text into its documents. Nothing is parsed yet; a broken document does not touch the others.

    Documents without content are left out.

    :param name: of the file or address, for messages.
    :raises LimitExceeded: if the text is too large or has too many documents.
    """
    limits.check_size(len(text), limits.MAX_FILE_BYTES, what=name)
    if isinstance(text, bytes):
        text = _decode(text)
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    documents: list[ParsedDocument] = []
    counted_to, line = 0, 1
    for start, end in _slices(text):
        raw = text[start:end]
        line += text.count("\n", counted_to, start)
        counted_to = start
        ending = text[end : text.find("\n", end) + 1 or len(text)]
        documents.append(
            ParsedDocument(name=name, number=len(documents) + 1, line=line, raw=raw, ending=ending)
        )
    if len(documents) > limits.MAX_DOCUMENTS:
        raise limits.LimitExceeded(
            _("%(name)s holds %(count)d documents; at most %(limit)d are accepted.")
            % {"name": name, "count": len(documents), "limit": limits.MAX_DOCUMENTS}
        )
    return documents


def load(text: str | bytes, *, name: str) -> Any:
    """The data of a text that holds one document; None if it holds nothing.

    :raises YamlError: if it cannot be read, or holds more than one document.
    """
    documents = parse_documents(text, name=name)
    if not documents:
        return None
    if len(documents) > 1:
        second = documents[1]
        raise YamlError(
            _("Exactly one document is expected, but a second one begins here."),
            name=name, number=2, line=second.line, column=1,
        )  # fmt: skip
    if documents[0].error:
        raise documents[0].error
    return documents[0].data


def place_of(raw: str, path: str | Sequence[Part]) -> Place:
    """Where stands what is at a path of one document; its nearest parent if nothing is.

    Parses the document anew, so call it only when an error must be shown.
    """
    wanted = parse_path(path)
    best, best_depth = Place(1, 1), -1
    try:
        for where, mark in _walk(raw):
            depth = len(where)
            if depth > best_depth and depth <= len(wanted) and where == wanted[:depth]:
                best, best_depth = Place(mark.line + 1, mark.column + 1), depth
                if depth == len(wanted):
                    break
    except _Refused:
        pass  # what was found before the broken place still holds
    return best


def _decode(text: bytes) -> str:
    if text[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return text.decode("utf-16", "replace")
    return text.decode("utf-8", "replace")


def _slices(text: str) -> Iterator[tuple[int, int]]:
    """Where each document with content begins and ends."""
    start = 0
    may_have_directives = True  # at the start and after `...`
    for marker in _MARKER.finditer(text):
        at = marker.start()
        if marker.group(1) == "---":
            if may_have_directives and _ONLY_DIRECTIVES.match(text, start, at):
                if "%" not in text[start:at]:
                    start = at
            else:
                if _has_content(text, start, at):
                    yield start, at
                start = at
            may_have_directives = False
        else:
            if _has_content(text, start, at):
                yield start, at
            start = min(marker.end() + 1, len(text))
            may_have_directives = True
    if _has_content(text, start, len(text)):
        yield start, len(text)


def _has_content(text: str, start: int, end: int) -> bool:
    marker = _ONLY_MARKER.match(text, start, end)
    return not _BLANK.match(text, marker.end() if marker else start, end)


@dataclass
class _Refused(Exception):
    """Raised inside of this module only, where the name of the text is not known."""

    reason: str
    line: int
    column: int


_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NOT_A_NUMBER = {sign + dot for sign in ("", "-", "+") for dot in (".inf", ".Inf", ".INF")} | {
    ".nan",
    ".NaN",
    ".NAN",
}
_NUMERIC_START = frozenset("-+.0123456789")


def _plain(value: str) -> Any:
    """A scalar without quotes, as the core schema of YAML 1.2 reads it."""
    if value in _WORDS:
        return _WORDS[value]
    if value[0] not in _NUMERIC_START:
        return value
    if _INT.match(value):
        return _integer(value, 10)
    if _FLOAT.match(value):
        return _finite(float(value))
    if _OCTAL.match(value):
        return _integer(value[2:], 8)
    if _HEX.match(value):
        return _integer(value[2:], 16)
    return None if value in _NOT_A_NUMBER else value


def _integer(digits: str, base: int) -> int | float | None:
    # Beyond 64 bits no database and no JSON library agrees; a float is what JavaScript makes of it too.
    if len(digits) > 400:
        return None
    number = int(digits, base)
    if -(1 << 63) <= number < 1 << 63:
        return number
    try:
        return _finite(float(number))
    except OverflowError:
        return None


def _finite(number: float) -> int | float | None:
    """A number as JSON has it: whole ones without a fraction, and no infinity."""
    if number.is_integer() and abs(number) < 1 << 53:
        return int(number)
    return number if abs(number) <= 1.7976931348623157e308 else None


def _tagged(tag: str, value: str) -> Any:
    """A scalar with a tag: one of the core schema is obeyed where it fits, any other is ignored."""
    plain = _plain(value)
    match tag.removeprefix("tag:yaml.org,2002:"):
        case "int" if isinstance(plain, int) and not isinstance(plain, bool):
            return plain
        case "float" if isinstance(plain, (int, float)) and not isinstance(plain, bool):
            return plain
        case "bool" if isinstance(plain, bool):
            return plain
        case "null" if plain is None:
            return None
    return value


def _key(value: Any) -> str:
    """A key as JSON has it: always text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return _flow(value) if isinstance(value, (dict, list)) else str(value)


def _flow(value: Any) -> str:
    """A collection as text, for `{{ placeholder }}`, which YAML reads as a mapping that is a key."""
    if isinstance(value, dict):
        inner = ", ".join(key if item is None else f"{key}: {_flow(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[ {', '.join(map(_flow, value))} ]"
    return _key(value)


def _events(raw: str) -> Iterator[Any]:
    """The events of one document; whatever the parser dislikes becomes a `_Refused`."""
    try:
        parser = CParser(raw)
        while (event := parser.get_event()) is not None:
            yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "unexpected end of stream" in (error.problem or ""):
            mark = (
                error.context_mark or mark
            )  # where the quote was opened tells more than where the text ends
        line, column = (mark.line, mark.column) if mark else (0, 0)
        raise _Refused(_explain(error, raw, line, column), line, column)
    except yaml.reader.ReaderError as error:
        before = raw.encode()[: error.position].decode("utf-8", "ignore")
        raise _Refused(
            _("The character U+%(code)04X is not allowed in YAML; take it out, or escape it in quotes.")
            % {"code": ord(raw[len(before)]) if len(before) < len(raw) else 0},
            before.count("\n"),
            len(before) - before.rfind("\n") - 1,
        )
    except UnicodeEncodeError as error:
        before = raw[: error.start]
        raise _Refused(
            _("Half of a surrogate pair stands here; write the whole character."),
            before.count("\n"),
            error.start - before.rfind("\n") - 1,
        )


def _explain(error: yaml.MarkedYAMLError, raw: str, line: int, column: int) -> str:
    """The parser's finding, with what to do about it where that is known."""
    lines = raw.split("\n")
    here = lines[line] if line < len(lines) else ""
    problem = error.problem or str(error)
    if re.search(r"\{\{|\{%|<%", here):
        return _("This is a template that has not been filled in (%(text)s), not YAML.") % {
            "text": here.strip()[:60]
        }
    if "tab character" in problem or here[column : column + 1] == "\t":
        return _("A tab stands where spaces are needed; indent with spaces.")
    if "cannot start any token" in problem:
        return _("“%(character)s” cannot begin a value; put the value in quotes.") % {
            "character": here[column : column + 1] or "?"
        }
    if "mapping values are not allowed" in problem:
        return _("A colon and a space begin a key here; put the text in quotes, or mend the indentation.")
    if "invalid Unicode character escape" in problem:
        return _(
            "This escape is no character (half of a surrogate pair, perhaps); write the character itself."
        )
    if "nesting depth" in problem:
        return _("The nesting is more than %(limit)d levels deep.") % {"limit": limits.MAX_DEPTH}
    if "found unexpected end of stream" in problem:
        return _("The quotes that begin here are not closed.")
    return f"{error.context}, {problem}" if error.context else problem


_MISSING: Any = object()


def _build(raw: str) -> Any:
    """The data of one document, built event by event on a stack of its own."""
    if not raw.endswith("\n"):
        raw += "\n"  # a block of text that ends with the file has its line end too
    breaks = _hide_breaks(raw)
    if breaks:
        raw = raw.translate(breaks)
        restore = {ord(hidden): chr(original) for original, hidden in breaks.items()}
    max_depth, max_nodes = limits.MAX_DEPTH, limits.MAX_NODES
    root: Any = None
    anchors: dict[str, Any] = {}
    open_above: list[tuple[Any, bool, Any, str | None]] = []
    container: Any = None
    is_map = False
    key: Any = _MISSING
    anchor: str | None = None
    nodes = aliases = repeated = documents = 0

    for event in _events(raw):
        kind = type(event)
        if kind is ScalarEvent:
            tag, value = event.tag, event.value
            if breaks:
                value = value.translate(restore)
            if tag is not None:
                value = _tagged(tag, value)
            elif event.implicit[0]:
                value = _plain(value)
            elif "\0" in value:
                raise _at(event, _("The character NUL (U+0000) cannot be stored; take it out."))
            nodes += 1
            if event.anchor:
                anchors[event.anchor] = value
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            nodes += 1
            if len(open_above) >= max_depth:
                raise _at(event, _("The nesting is more than %(limit)d levels deep.") % {"limit": max_depth})
            open_above.append((container, is_map, key, anchor))
            is_map, key, anchor = kind is MappingStartEvent, _MISSING, event.anchor
            container = {} if is_map else []
            continue
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            value = container
            if anchor:
                anchors[anchor] = value
            container, is_map, key, anchor = open_above.pop()
        elif kind is AliasEvent:
            if event.anchor not in anchors:
                raise _at(
                    event, _("The alias *%(name)s is not defined before this place.") % {"name": event.anchor}
                )
            value, count, characters, depth = _copy(anchors[event.anchor])
            nodes += count
            repeated += characters
            aliases += 1
            if aliases > limits.MAX_ALIASES or repeated > limits.MAX_DOCUMENT_BYTES:
                raise _at(event, _("Aliases are used too often; write the values out."))
            if len(open_above) + depth > max_depth:
                raise _at(event, _("The nesting is more than %(limit)d levels deep.") % {"limit": max_depth})
        else:
            documents += kind is DocumentStartEvent
            if documents > 1:
                raise _at(event, _("A second document begins inside of this one."))
            continue

        if nodes > max_nodes:
            raise _at(event, _("The document holds more than %(limit)d values.") % {"limit": max_nodes})
        if container is None:
            root = value
        elif not is_map:
            container.append(value)
        elif key is _MISSING:
            key = value if type(value) is str else _key(value)
            if key in container:
                raise _at(
                    event,
                    _("The key “%(key)s” stands here a second time; keys must be unique.") % {"key": key},
                )
        else:
            container[key] = value
            key = _MISSING
    return root


def _walk(raw: str) -> Iterator[tuple[tuple[Part, ...], Any]]:
    """Each value's path and the parser's mark, in the order of the text; in a mapping the mark is the key's."""
    path: list[Any] = []  # for each open collection: an index, or a key, or _MISSING before a key
    breaks = _hide_breaks(raw)
    for event in _events(raw.translate(breaks) if breaks else raw):
        kind = type(event)
        starts = kind is MappingStartEvent or kind is SequenceStartEvent
        if starts or kind is ScalarEvent or kind is AliasEvent:
            if path and path[-1] is _MISSING:
                if starts:  # a collection as a key: as good as its first line
                    path[-1] = ""
                else:
                    path[-1] = _key(_plain(event.value)) if kind is ScalarEvent else f"*{event.anchor}"
                    yield tuple(path), event.start_mark
                    continue
            elif not path or isinstance(path[-1], int):
                yield tuple(path), event.start_mark
        if starts:
            path.append(_MISSING if kind is MappingStartEvent else 0)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            path.pop()
            _advance(path)
        elif kind is ScalarEvent or kind is AliasEvent:
            _advance(path)


def _advance(path: list[Any]) -> None:
    if path:
        path[-1] = path[-1] + 1 if isinstance(path[-1], int) else _MISSING


def _copy(value: Any) -> tuple[Any, int, int, int]:
    """A deep copy, so that no two places share data, with its number of values, characters and levels."""
    if isinstance(value, str):
        return value, 1, len(value), 0
    if not isinstance(value, (dict, list)):
        return value, 1, 8, 0
    copies, count, characters, depth = [], 1, 0, 0
    for item in value.values() if isinstance(value, dict) else value:
        copy, inner, text, below = _copy(item)
        copies.append(copy)
        count, characters, depth = count + inner, characters + text, max(depth, below)
    if isinstance(value, dict):
        return dict(zip(value, copies, strict=True)), count, characters + sum(map(len, value)), depth + 1
    return copies, count, characters, depth + 1


def _hide_breaks(raw: str) -> dict[int, str]:
    """The parser speaks YAML 1.1, where these characters break lines; in 1.2 they are text like any other."""
    found = [character for character in "\x85\u2028\u2029" if character in raw]
    unused = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in raw) if found else iter(())
    return {ord(character): next(unused) for character in found}


def _at(event: Any, reason: str) -> _Refused:
    return _Refused(reason, event.start_mark.line, event.start_mark.column)
