"""What the page says of the lines of our connectors is so, by the rule that it names."""

from __future__ import annotations

import io
import json
import re
import statistics
import tarfile
from pathlib import Path

from tests.docs.lines import code_lines, python_lines, typescript_lines
from tests.docs.pages import ROOT, page, section

PAGE = "connectors.md"
MOST = 200

PYTHON = '''"""A module."""

import re  # counted

# not counted
LIMIT = 3
"""What stands after a setting is a docstring too."""


def said(
    name: str,
) -> str:
    """Say it.

    :raises ValueError: never.
    """
    return """a text
    of two lines"""
'''
TYPESCRIPT = """/* A licence. */
import { a } from 'https://example/a';
/**
 * What it does.
 */
export const b = `//not
a comment`; // but this is one

const c = /['"]/.test(a); /* and
this */ const d = "/*";
"""


def counted() -> dict[str, int]:
    """The lines of each of our connectors."""
    folders = (path.parent for path in (ROOT / "integrations/connectors").glob("*/connector.py"))
    return {folder.name: code_lines(folder) for folder in sorted(folders)}


def test_the_table_shows_the_lines_of_each_connector() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", section(PAGE, "The same tool"), re.MULTILINE)
    assert {name: int(lines.replace(",", "")) for name, lines in rows} == counted()


def test_the_median_is_at_most_what_was_promised() -> None:
    median = statistics.median(counted().values())
    assert median <= MOST
    assert f"The median of ours is **{median:g}**." in page(PAGE)


def test_what_counts_as_a_line_of_python() -> None:
    assert python_lines(PYTHON) == 7


def test_what_counts_as_a_line_of_typescript() -> None:
    assert typescript_lines(TYPESCRIPT) == 5


def test_a_package_is_counted_by_the_sources_in_its_maps_without_tests(tmp_path: Path) -> None:
    said = {"sources": ["../src/a.ts", "../src/a.test.ts"], "sourcesContent": [TYPESCRIPT, TYPESCRIPT]}
    text = json.dumps(said).encode()
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("package/dist/a.js.map")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    assert code_lines(tmp_path / "a.tgz") == 5
    (tmp_path / "tests").mkdir()
    for name in ("a.py", "tests/b.py", "test_c.py"):
        (tmp_path / name).write_text(PYTHON)
    assert code_lines(tmp_path) == 7
