"""The definition of an API: what can be called, and how."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from base.text import whole_number
from catalog.definitions import (
    TYPE,
    Definition,
    DefinitionInvalid,
    Item,
    format_of_definition,
    language_of,
    overview,
    sections,
)
from catalog.definitions.kept import data_of_definition
from portal import links
from portal.widgets.activity import entity_of
from portal.widgets.base import NothingToShow, PageContext, Widget, WidgetConfig, register
from portal.widgets.entity import document_of

ROWS = 100
WORDS = 10


@register
class ApiDefinition(Widget[WidgetConfig]):
    """The operations and types of an API, each unfolded when it is asked for; other formats as code."""

    slug = "definition"
    label = gettext_lazy("Definition")
    description = gettext_lazy("The definition of an API")
    template = "widgets/definition.html"
    styles = ("portico/reading.css",)

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        spec = document_of(context).get("spec") or {}
        text = spec.get("definition")
        if not isinstance(text, str) or not text.strip() or text == "unknown":
            raise NothingToShow(_("Its source brings no definition."), icon="api")
        shown: dict[str, Any] = {
            "text": text,
            "language": language_of(text),
            "raw_url": f"{links.entity_url(entity)}/definition",
            "as_text_url": context.url(show="text", op=None, find=None, start=None),
            "rendered_url": context.url(show=None),
        }
        format_ = format_of_definition(text, str(spec.get("type") or entity.type))
        if not format_:
            return shown
        try:
            data = data_of_definition(text, format_)
            found = overview(data, format_)
        except DefinitionInvalid as error:
            return shown | {"error": error}
        shown["definition"] = found
        if context.params.get("show") != "text":
            shown |= items_of(context, found, data, format_)
        return shown


def items_of(context: PageContext, found: Definition, data: dict[str, Any], format_: str) -> dict[str, Any]:
    """The operations and types that the address asks for, of which one may be unfolded, as the template shows them."""
    wanted = context.params.get("find", "").strip()[:200]
    words = wanted.casefold().split()[:WORDS]
    matching = [item for item in found.items if item.has(words)] if words else found.items
    asked = context.params.get("op", "")
    chosen = found.item(asked) if asked else None
    if asked and chosen is None:
        context.refuse("op", _("There is no operation “%(name)s” in this definition.") % {"name": asked[:80]})
    start = whole_number(context.params.get("start", "")) // ROWS * ROWS
    if chosen is not None and chosen in matching:
        start = matching.index(chosen) // ROWS * ROWS
    if start >= len(matching):
        start = 0
    rows = matching[start : start + ROWS]
    if chosen is not None and chosen not in rows:
        rows = [chosen, *rows]
    return {
        "groups": _grouped(context, found, rows, chosen),
        "parts": sections(data, format_, chosen) if chosen is not None else [],
        "find": wanted,
        "hidden": {"tab": context.params.get("tab", "")},
        "find_url": context.url(find=None, op=None, start=None),
        "clear_url": context.url(find=None, op=None, start=None) if wanted else "",
        "count": _count(found, matching),
        "page": links.places_around(
            lambda at: context.url(start=str(at), op=None),
            start=start,
            shown=len(matching[start : start + ROWS]),
            total=len(matching),
            size=ROWS,
        )
        if len(matching) > ROWS
        else None,
    }


def _grouped(
    context: PageContext, found: Definition, rows: list[Item], chosen: Item | None
) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in rows:
        groups.setdefault(item.group, []).append(
            {
                "item": item,
                "url": context.url(op=item.anchor, start=None),
                "is_open": item is chosen,
                "summary": item.summary or _first_line(item.description),
            }
        )
    return [
        {"label": name, "description": found.groups.get(name, ""), "rows": items}
        for name, items in groups.items()
    ]


def _first_line(description: str) -> str:
    """What stands for a summary where there is none, without the marks of a heading or of code."""
    return description.strip().partition("\n")[0].lstrip("#> ").replace("`", "")[:200]


def _count(found: Definition, matching: list[Item]) -> str:
    types = sum(item.sort == TYPE for item in matching)
    operations = len(matching) - types
    said = [ngettext("%(n)d operation", "%(n)d operations", operations) % {"n": operations}]
    if types:
        said.append(ngettext("%(n)d type", "%(n)d types", types) % {"n": types})
    words = ", ".join(said)
    if len(matching) == len(found.items):
        return words
    return _("%(found)s of %(all)d") % {"found": words, "all": len(found.items)}
