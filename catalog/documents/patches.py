"""Patches of catalog files: other values at some paths, as `git apply` takes them in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Any

from base.yaml_edit import set_values

# What is longer is hardly written by hand, and each claim would carry it.
MAX_TEXT = 64 * 1024


def kept_text(text: str) -> str:
    """A document's very words if they are few enough to be kept beside what they say, else nothing."""
    return text if len(text) <= MAX_TEXT else ""


def patch_of(text: str, values: Mapping[tuple[str, ...], Any], *, file: str, line: int) -> str:
    """A unified diff of the file in which a document stands.

    :param text: the document's very words.
    :param line: of the file at which they begin.
    :raises CannotEdit: if the text is written in a way that lets no value of it be changed alone.
    """
    edited = set_values(text, values)
    path = path_in_repository(file)
    before, after = text.splitlines(keepends=True), edited.splitlines(keepends=True)
    return "".join(_lines(unified_diff(before, after, f"a/{path}", f"b/{path}"), line - 1))


_HUNK = re.compile(r"@@ -(\d+)(.*?) \+(\d+)(.*)", re.DOTALL)


def _lines(diff: Iterator[str], above: int) -> Iterator[str]:
    for row in diff:
        if found := _HUNK.fullmatch(row):
            yield f"@@ -{int(found[1]) + above}{found[2]} +{int(found[3]) + above}{found[4]}"
        else:
            yield row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n"


_WEB = re.compile(r"\w+://[^/]+/.+?/(?:-/)?(?:blob|tree|raw|src/branch|src)/[^/]+/(.+)")


def path_in_repository(file: str) -> str:
    """Where a file lies in its repository, of its path or web address; its name alone where that does not say."""
    file = file.partition("?")[0].partition("#")[0]
    if found := _WEB.fullmatch(file):
        return found[1]
    return file.rpartition("/")[2] if "://" in file or file.startswith("/") else file
