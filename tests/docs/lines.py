"""How the lines of a connector's code are counted, ours and others': `python -m tests.docs.lines PATH...`.

A line counts if code stands on it. Blank lines do not count, nor do lines that hold nothing but a comment or a
docstring; imports and closing brackets do. Tests are left out. A path is a folder, a file, or the archive of a package
from npm (`npm pack NAME`), whose source maps hold the sources.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import tokenize
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
_TESTS = re.compile(
    r"(^|/)((integration_)?tests?|__tests__|__mocks__|__fixtures__|node_modules)/"
    r"|(^|/)(test_|conftest)|\.test\.tsx?$"
)
# A text, a template, a regular expression or a comment of TypeScript, whichever begins first.
_TYPESCRIPT = re.compile(
    r"""'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`"""
    r"""|(?<=[=(,:;!&|?{}\[])[ \t]*/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/|//[^\n]*|/\*.*?\*/""",
    re.DOTALL,
)


def python_lines(text: str) -> int:
    """The lines of Python on which code stands."""
    found: set[int] = set()
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            statement.append(token)
        elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if any(one.type != tokenize.STRING for one in statement):  # a text alone is a docstring
                found |= {line for one in statement for line in range(one.start[0], one.end[0] + 1)}
            statement = []
    return len(found)


def typescript_lines(text: str) -> int:
    """The lines of TypeScript on which code stands."""
    code = _TYPESCRIPT.sub(
        lambda found: re.sub(r"[^\n]", "", found[0]) if found[0][:2] in ("//", "/*") else found[0], text
    )
    return sum(bool(line.strip()) for line in code.splitlines())


def sources(place: Path) -> Iterator[tuple[str, str]]:
    """The files of code below a folder, or those that a package was made of: path and text."""
    if place.is_dir():
        for path in sorted([*place.rglob("*.py"), *place.rglob("*.ts"), *place.rglob("*.tsx")]):
            yield str(path.relative_to(place)), path.read_text(encoding="utf-8")
    elif place.suffix == ".tgz":
        with tarfile.open(place) as archive:
            maps = [archive.extractfile(one) for one in archive.getmembers() if one.name.endswith(".map")]
            said = [json.load(one) for one in maps if one]
        texts = {
            str(name): text
            for one in said
            for name, text in zip(one["sources"], one.get("sourcesContent") or [], strict=False)
        }
        yield from sorted(texts.items())
    else:
        yield place.name, place.read_text(encoding="utf-8")


def code_lines(place: Path) -> int:
    """The lines of code of a folder, a file or a package."""
    return sum(
        python_lines(text) if PurePosixPath(path).suffix == ".py" else typescript_lines(text)
        for path, text in sources(place)
        if not _TESTS.search(path)
    )


if __name__ == "__main__":
    for given in sys.argv[1:]:
        print(code_lines(Path(given)), given)
