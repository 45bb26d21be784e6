"""Markdown is cut where its parser sees the headings, whatever else Python takes for the end of a line."""

from __future__ import annotations

import pytest

from base.markdown import Part, parts_of


def test_each_heading_has_what_is_below_it() -> None:
    text = "Before\n\n# A *b*\n\none\n\n## A *b*\n\n```\n# no heading\n```\n"
    assert parts_of(text) == [
        Part("", "", "Before\n\n"),
        Part("a-b", "A *b*", "# A *b*\n\none\n\n"),
        Part("a-b-1", "A *b*", "## A *b*\n\n```\n# no heading\n```\n"),
    ]
    assert parts_of("\n# One") == [Part("one", "One", "# One")]
    assert parts_of(" \n") == []


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_what_ends_a_line_of_markdown_does(mark: str) -> None:
    assert [part.text for part in parts_of(f"x{mark}y\n# One\nof one\n# Two\nof two\n")] == [
        f"x{mark}y\n",
        "# One\nof one\n",
        "# Two\nof two\n",
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_ends_of_lines_are_alike(end: str) -> None:
    assert [part.text for part in parts_of(f"# One{end}{end}of one{end}# Two{end}")] == [
        "# One\n\nof one\n",
        "# Two\n",
    ]
