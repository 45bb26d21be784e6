"""Changes some values of a YAML text and leaves all else of it as it was written, comments and order included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from base.safe_yaml import YamlError, load


class CannotEdit(Exception):
    """The text is written in a way that lets no value of it be changed alone."""


REMOVED = object()


def set_values(raw: str, values: Mapping[tuple[str, ...], Any]) -> str:
    """One document with other values at some paths; `REMOVED` takes the key away.

    :raises CannotEdit: if the outcome would not be exactly what was asked for.
    """
    try:
        wanted = load(raw, name="")
        text = raw
        for path, value in values.items():
            wanted = _changed(wanted, list(path), value)
            text = _set(text, list(path), value)
        if load(text, name="") == wanted:
            return text
    except (YamlError, yaml.YAMLError, RecursionError, _Unfit) as error:
        raise CannotEdit from error
    raise CannotEdit


class _Unfit(Exception):
    pass


def _changed(data: Any, path: list[str], value: Any) -> Any:
    if not isinstance(data, dict):
        raise _Unfit
    head, *rest = path
    if not rest:
        kept = {key: inner for key, inner in data.items() if key != head}
        return kept if value is REMOVED else {**data, head: value}
    if head not in data and value is REMOVED:
        return data
    return {**data, head: _changed(data.get(head, {}), rest, value)}


def _set(text: str, path: list[str], value: Any) -> str:
    node: Any = next(iter(yaml.compose_all(text, Loader=yaml.CSafeLoader)))
    for depth, name in enumerate(path):
        if not isinstance(node, yaml.MappingNode):
            raise _Unfit
        pair = next((pair for pair in node.value if pair[0].value == name), None)
        if pair is None:
            return text if value is REMOVED else _insert(text, node, path[depth:], value)
        if depth == len(path) - 1:
            return _remove(text, node, pair) if value is REMOVED else _replace(text, pair, value)
        node = pair[1]
    raise _Unfit


def _replace(text: str, pair: Any, value: Any) -> str:
    key, node = pair
    start, end = node.start_mark.index, node.end_mark.index
    if start != end and not _is_block(node):
        return text[:start] + _inline(value) + text[end:]
    # A block ends where the next token begins: what lies between belongs to that.
    end = start + len(_own(text[start:end], key.start_mark.column))
    colon = text.index(":", key.end_mark.index) + 1
    tail = text[end:] if text[end : end + 1] in ("\n", "") else f"\n{text[end:]}"
    return f"{text[:colon]} {_inline(value)}{tail}"


def _remove(text: str, parent: Any, pair: Any) -> str:
    if parent.flow_style or len(parent.value) == 1:
        raise _Unfit
    key, node = pair
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    if text[start : key.start_mark.index].strip():
        raise _Unfit
    end = node.end_mark.index
    if _is_block(node):
        end = node.start_mark.index + len(_own(text[node.start_mark.index : end], key.start_mark.column))
    line_end = text.find("\n", end)
    return text[:start] + (text[line_end + 1 :] if line_end >= 0 else "")


def _insert(text: str, parent: Any, path: list[str], value: Any) -> str:
    for name in reversed(path[1:]):
        value = {name: value}
    said = f"{_inline(path[0])}: {_inline(value)}"
    if parent.flow_style:
        at = parent.start_mark.index + 1
        return text[:at] + said + (", " if parent.value else "") + text[at:]
    if not parent.value:
        raise _Unfit
    at = parent.value[0][0].start_mark.index
    return f"{text[:at]}{said}\n{' ' * parent.value[0][0].start_mark.column}{text[at:]}"


def _is_block(node: Any) -> bool:
    if isinstance(node, yaml.ScalarNode):
        return node.style in ("|", ">")
    return not node.flow_style


def _own(block: str, column: int) -> str:
    """A block without the blank lines and comments after it that stand no deeper than its key."""
    lines = block.split("\n")
    while len(lines) > 1:
        last = lines[-1]
        is_remark = last.lstrip().startswith("#") and len(last) - len(last.lstrip()) <= column
        if last.strip() and not is_remark:
            break
        lines.pop()
    return "\n".join(lines)


def _inline(value: Any) -> str:
    """A value on one line; text that YAML 1.1 readers would take for something else is quoted."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=1_000_000, sort_keys=False
    )
    text = text.removesuffix("\n").removesuffix("\n...")
    if "\n" in text:
        raise _Unfit
    return text
