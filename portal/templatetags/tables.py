"""The rows of tables and the values of facets: `{% load tables %}`, used by the components of these names.

A list has thousands of pieces, so they are put together in one pass and not by a template each.
All text is escaped; every address passes `safe_url`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import template
from django.utils.formats import localize
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from portal.templatetags.foreign import safe_url
from portal.templatetags.portico import (
    ago,
    avatar,
    entity_chip,
    icon,
    link,
    monogram,
    num,
    owner_chip,
    said_of,
    status,
    tag,
)

register = template.Library()

# What a table's column looks like for what its cells hold, and whether it stays where room is short.
_COLUMNS = {
    "owner": "po-owner po-col-owner po-keep",
    "is_owner": "po-owner po-col-owner po-keep",
    "status": "po-col-status po-keep",
    "time": "po-num po-col-s po-keep",
    "mono": "po-col-s",
    "sources": "po-col-m",
}
_TEXT_COLUMN = "po-col-m"
_CHIP = {
    "title": "title", "ref": "ref", "kind": "kind", "url": "url", "icon": "icon_name", "colour": "colour",
    "missing": "missing", "card": "card",
}  # fmt: skip


@register.simple_tag
def table_columns(table: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """A table's columns with their classes: first the name, the others by what they hold."""
    columns, rows = table.get("columns") or [], table.get("rows") or []
    found = []
    for n, column in enumerate(columns):
        cells = [row["cells"][n] for row in rows[:20]]
        own = column.get("css") or ""
        held = next((css for name, css in _COLUMNS.items() if any(cell.get(name) for cell in cells)), "")
        if n == 0:
            held = "po-name"
        elif not held and "po-col-" not in own:
            held = _TEXT_COLUMN
        found.append((column, f"{held} {own}".strip()))
    return found


@register.simple_tag
def table_rows(table: Mapping[str, Any], columns: Sequence[tuple[Any, str]]) -> SafeString:
    """A table's rows, each with its box to select it and the heading of the group that begins with it.

    :param columns: as `table_columns` gives them.
    """
    classes = [css for _column, css in columns]
    select = _text(table.get("select"))
    belongs = f' form="{_text(table["form"])}"' if table.get("form") else ""
    parts: list[str] = []
    for row in table.get("rows") or []:
        if group := row.get("group"):
            parts.append(_heading(group, classes, is_wide=bool(select)))
        parts.append("<tr>")
        if select:
            label = _("Select %(name)s") % {"name": _text(row.get("label"))}
            parts.append(
                '<td class="po-col-check"><label class="d-block py-2"><input type="checkbox"'
                f' name="{select}" value="{_text(row.get("key"))}"{belongs} aria-label="{label}"></label></td>'
            )
        for cell, css in zip(row["cells"], classes, strict=True):
            own = cell.get("css")
            parts.append(f'<td class="{_text(f"{css} {own}".strip() if own else css)}">{_cell(cell)}</td>')
        parts.append("</tr>")
    return SafeString("".join(parts))


def _heading(group: Mapping[str, Any], classes: Sequence[str], *, is_wide: bool) -> str:
    span = ' colspan="2"' if is_wide else ""
    rest = "".join(f'<td class="{_text(css)}"></td>' for css in classes[1:])
    return (
        f'<tr><th scope="rowgroup" class="po-name po-keep"{span}>{_cell(group["cell"])}'
        f' <span class="po-count">{num(group["count"])}</span></th>{rest}</tr>'
    )


def _cell(cell: Mapping[str, Any]) -> str:
    """What a cell holds: the first of these that it has, else its text."""
    if shown := cell.get("html"):
        return _text(shown)
    if chip := cell.get("chip"):
        given = {name: said_of(chip, key) for key, name in _CHIP.items()}
        return entity_chip(**{name: value for name, value in given.items() if value})
    if cell.get("owner") or cell.get("is_owner"):
        return owner_chip(cell.get("owner"))
    if state := cell.get("status"):
        shown = status(state["domain"], state["state"], state.get("detail") or "", state.get("stale"))
        when = f' <span class="po-2 po-wide">{ago(state["at"], "short")}</span>' if state.get("at") else ""
        return f"{shown}{when}"
    if at := cell.get("time"):
        return ago(at)
    if sources := cell.get("sources"):
        return f'<span class="po-mgs">{"".join(map(_monogram, sources))}</span>'
    if cell.get("tag"):
        return tag(cell["tag"], cell.get("url") or "")
    if tags := cell.get("tags"):
        return "".join(f"{tag(one)} " for one in tags)
    if cell.get("mono"):
        return f'<span class="po-mono">{_text(cell["mono"])}</span>'
    if cell.get("url"):
        return link(cell["url"], cell.get("text") or "", external=False)
    return _text(cell.get("text"))


def _monogram(source: Mapping[str, Any]) -> str:
    return monogram(source["label"], source.get("letters") or "", source.get("category") or "")


def _text(value: Any) -> str:
    """As a template prints a value; nothing for None."""
    if isinstance(value, str):
        return conditional_escape(value)
    return "" if value is None else conditional_escape(localize(value))


@register.simple_tag
def facet_values(facet: Mapping[str, Any]) -> SafeString:
    """The values of a facet as links, each with how many it leaves."""
    name = facet.get("name")
    return SafeString("".join(_facet_value(name, value) for value in facet.get("values") or ()))


def _facet_value(name: object, value: Mapping[str, Any]) -> str:
    label, is_on, is_excluded = value.get("label"), value.get("is_on"), value.get("is_excluded")
    css, tick, said = "po-facet-item", "", ""
    if is_on:
        css, tick, said = f"{css} is-on", icon("check"), _("chosen")
    if is_excluded:
        css, tick, said = f"{css} is-excluded", tick or icon("minus"), said or _("left out")
    other, stay, picture = "", "", ""
    if value.get("exclude_url"):
        other = f' data-alt-href="{_address(value["exclude_url"])}"'
    if name:
        stay = f' data-stay="{_text(name)}={_text(value.get("value"))}"'
    if value.get("avatar"):
        picture = avatar(label or "", value["avatar"])
    elif mark := value.get("monogram"):
        picture = monogram(label or "", mark.get("letters") or "", mark.get("category") or "")
    elif value.get("icon"):
        picture = icon(value["icon"])
    if value.get("status"):
        picture += status(value["status"], value.get("value"))
    else:
        picture += f'<span class="po-cut">{_text(label or _("None"))}</span>'
    if said:
        picture += f'<span class="po-sr">{said}</span>'
    return (
        f'<li><a class="{css}" href="{_address(value.get("url"))}"{other} rel="nofollow"{stay}>'
        f'<span class="po-tick" aria-hidden="true">{tick}</span>{picture}'
        f'<span class="po-count">{num(value.get("count"))}</span></a></li>'
    )


def _address(url: object) -> str:
    return _text(safe_url(url))
