"""The documentation as text: its pages, and what stands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    """The text of a page of the documentation."""
    return (DOCS / name).read_text(encoding="utf-8")


def block(name: str, title: str) -> str:
    """The one block of code with a title."""
    found = [code for _language, given, code in _BLOCK.findall(page(name)) if given == title]
    assert len(found) == 1, f"{name} has {len(found)} blocks called {title}"
    return found[0]


def blocks(name: str, language: str) -> list[str]:
    """All blocks of code in a language, in order."""
    return [code for given, _title, code in _BLOCK.findall(page(name)) if given == language]


def section(name: str, title: str) -> str:
    """What stands under a heading, up to the next of its level or above."""
    text = page(name)
    start = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert start, f"{name} has no section {title}"
    end = re.compile(rf"^#{{1,{len(start[1])}}} ", re.MULTILINE).search(text, start.end())
    return text[start.end() : end.start() if end else len(text)]


def second_cells(text: str) -> list[str]:
    """What stands in code in the second cell of each row of a table."""
    return first_cells(re.sub(r"^\| [^|\n]* (?=\|)", "", text, flags=re.MULTILINE))


def first_cells(text: str) -> list[str]:
    """What stands in code in the first cell of each row of a table."""
    rows = re.findall(r"^\| ((?:[^|\n]|\\\|)*?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
