"""Paths into JSON data as people read them: `metadata.tags[2]`, `metadata.annotations["a.b/c"]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

Part = str | int
_PLAIN = re.compile(r"[A-Za-z_$][\w$-]*\Z")
_PART = re.compile(r"""\[(?:(\d+)|"((?:[^"\\]|\\.)*)")\]|\.?([^.\[\]]+)""")


def format_path(parts: Iterable[Part]) -> str:
    """Parts as one readable path; the empty path is the empty string."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.match(part):
            text += f".{part}" if text else part
        else:
            quoted = part.replace("\\", "\\\\").replace('"', '\\"')
            text += f'["{quoted}"]'
    return text


def value_at(data: Any, path: Iterable[str]) -> Any:
    """What stands below some keys of JSON data; None where there is nothing."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def parse_path(path: str | Sequence[Part]) -> tuple[Part, ...]:
    """The parts of a path that `format_path` made; parts pass unchanged."""
    if not isinstance(path, str):
        return tuple(path)
    parts: list[Part] = []
    for number, quoted, plain in _PART.findall(path):
        if number:
            parts.append(int(number))
        elif plain:
            parts.append(plain)
        else:
            parts.append(re.sub(r"\\(.)", r"\1", quoted))
    return tuple(parts)
