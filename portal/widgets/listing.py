"""The list of entities with its query, facets and columns; and kinds as tabs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlencode

import orjson
from django.db.models import QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import Field

from access.permissions import can
from base.errors import BadRequest
from base.pagination import BadCursor, Page, paginate, read_limit
from base.text import whole_number
from catalog import queries
from catalog.counting import counting
from catalog.documents.fields import FILTER, FieldDef
from catalog.documents.formats import FORMATS
from catalog.documents.kinds import Column as KindColumn
from catalog.kinds import current_kinds
from catalog.models import Entity
from catalog.query import (
    FACETS,
    Facet,
    FacetValue,
    QueryError,
    field_facets,
    is_field,
    order_by,
    parse,
    sortable,
    suggest,
    terms_of,
    toggle_term,
)
from portal import links
from portal.formats import moment, refs_in, show
from portal.sources import badges, tied_badges
from portal.tables import Cell
from portal.templatetags.statuses import status_of
from portal.widgets.base import PageContext, Widget, WidgetConfig, register
from portal.widgets.home import FIELDS_OF_RECORDS

Column = Literal[
    "owner",
    "kind",
    "type",
    "lifecycle",
    "run",
    "version",
    "sources",
    "changed",
    "system",
    "namespace",
    "tags",
]
# What a list can be grouped by, and the entity's column of it.
GROUPS = {
    "owner": "owner",
    "system": "system",
    "kind": "kind",
    "type": "type",
    "lifecycle": "lifecycle",
    "namespace": "namespace",
    "run": "last_run",
}
SORTABLE = {"name": "title", "owner": "owner", "lifecycle": "lifecycle", "type": "type", "changed": "changed"}

DEFAULT_ORDER = "title"  # what the list shows
BULK = "po-bulk"  # the form of what is selected
FEW_VALUES = 5
MANY_COLUMNS = 6
FEW_TAGS = 4
ROWS = [50, 100, 250, 1_000]
MOST_VALUES = 50
EXPORTED = 100_000
EXPORT_PAGE = 1_000


class EntityListConfig(WidgetConfig):
    """What the list shows."""

    query: str = Field("", max_length=2_000, description="Always part of the query; empty for all kinds.")
    columns: list[Column] = Field(
        default=["owner", "lifecycle", "run", "version", "sources", "changed"],
        description="Columns besides the name; if left out, a list of one kind has the kind's own.",
    )
    facets: list[str] = Field(
        default=["lifecycle", "owner", "run", "source", "type", "tag"],
        description="Fields to narrow the list by.",
    )
    page_size: int = Field(50, ge=10, le=1_000, description="Rows of a page.")


@register
class EntityList(Widget[EntityListConfig]):
    """Entities as a table."""

    slug = "entity-list"
    label = gettext_lazy("List of entities")
    template = "widgets/entity_list.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        text = context.query
        ordering, order_text = self._order(context)
        limit = self._limit(context)
        own = self._own_columns(text)
        shown = self._columns(context, own)
        group = self._group(context)
        if group:
            ordering = _grouped(group, order_text)
        kept = {
            "order": order_text,
            "columns": context.params.get("columns", ""),
            "limit": context.params.get("limit", ""),
            "group": group,
            "view": context.params.get("view", ""),
        }
        keep = [(name, value) for name, value in kept.items() if value]
        query: dict[str, Any] = {"action": "/catalog", "keep": keep}
        query["clear_url"] = context.url(q=None, cursor=None, at=None) if text else ""
        try:
            found = queries.search_entities(context.viewer, self._whole(text), now=context.now)
        except QueryError as error:
            # As it was typed, for it is to be mended.
            query |= {"tokens": [], "rest": text, "error": error.sentence}
            return {"query": query, "wrong": _wrong(context, text, error), "table": None, "facets": []}
        query["tokens"], query["rest"] = _tokens(context, text)
        read = _read(shown, own)
        page = self._page(context, _rows(found, read, ordering), ordering, limit)
        said = _said(read, page.rows)
        with counting(context.viewer, now=context.now, within=self.config.query) as counts:
            total = counts.total(text)
            counted = counts.facets(text, self._facet_names(context), limit=MOST_VALUES)
            sizes = counts.sizes(text, GROUPS[group]) if group else {}
        counted += self._added_facets(context, text)
        at = whole_number(context.params.get("at", ""))
        if not context.params.get("columns"):
            shown = [n for n in _filled(shown, counted, page.rows) if n not in read or said[n]]
        shown_values = {f.field: _shown_values(context, f) for f in counted}
        named = {v.value for values in shown_values.values() for v in values if ":" in v.value}
        named |= {ref for entity in page.rows for ref in (entity.owner, entity.system)}
        for name, column in read.items():
            if column.is_reference:
                named |= {ref for refs in said[name].values() for ref in refs}
        owners = queries.titles_of(context.viewer, named)
        understood = [(name, value) for name, value in keep if name != "limit" or value == str(limit)]
        filter_url = "/catalog/filter?" + urlencode([("q", text), *understood], safe=",:")
        may_write, whole = can(context.viewer, "entity.write"), self._whole(text)
        return {
            "columns": {
                "action": "/catalog",
                "keep": [("q", text), *((name, value) for name, value in keep if name != "columns")],
                "choices": [
                    {"name": n, "label": label, "is_on": n in shown}
                    for n, label in _labels(own).items()
                    if self._exists(context, n)
                ],
                "reset_url": context.url(columns=None) if kept["columns"] else "",
            },
            "display": [
                *_display(context, order_text, limit),
                *_grouping(context, group, [name for name in GROUPS if self._exists(context, name)]),
                *_export(context, shown, order_text, total, _save_view(text, kept)),
                *(_all_of_them(whole, total) if may_write and total else []),
            ],
            "bulk": _bulk(total, len(page.rows)) if may_write and page.rows else None,
            "owners_url": _owners_url(whole) if may_write and total and _is_unowned(text) else "",
            "filter_url": filter_url,
            "whole": whole,
            "query": query,
            "table": self._table(context, page.rows, owners, order_text, shown, own, said, group, sizes)
            | ({"select": "entity", "form": BULK} if may_write and page.rows else {}),
            "facets": self._facets(context, text, counted, shown_values, owners),
            "more_filters": self._more_filters(text, filter_url),
            "total": total,
            "tell_me": links.tell_me(query=self._whole(text)),
            "save_view": _save_view(text, kept),
            "pages": {
                "first": at + 1 if page.rows else 0,
                "last": at + len(page.rows),
                "total": total,
                "previous_url": context.url(cursor=page.previous, at=str(max(at - limit, 0)))
                if page.previous
                else "",
                "next_url": context.url(cursor=page.next, at=str(at + len(page.rows))) if page.next else "",
            },
            "is_filtered": bool(text),
            "clear_url": query["clear_url"],
            "why_url": "/why?" + urlencode({"of": expected_in(text)}, safe=":/"),
            "can_connect": can(context.viewer, "connection.write"),
        }

    def export(self, context: PageContext) -> tuple[list[str], Iterator[list[Cell]]]:
        """What the query finds, in its order and with its columns, page after page: headings, and rows.

        The first column is the title, the second what the row is called everywhere, its ref.

        :raises DomainError: if the query, the order or a column cannot be read: a file has no place for a notice.
        """
        found = queries.search_entities(context.viewer, self._whole(context.query), now=context.now)
        ordering = order_by(context.params.get("order") or DEFAULT_ORDER)
        if group := self._group(context):
            ordering = _grouped(group, context.params.get("order", ""))
        own = self._own_columns(context.query)
        names = self._columns(context, own)
        if context.notices:
            raise BadRequest(" ".join(context.notices))
        labels = _labels(own)
        headings = [_("Name"), _("Ref"), *(str(labels[name]) for name in names)]
        read = _read(names, own)
        return headings, self._exported(context, _rows(found, read, ordering), ordering, names, read)

    def _exported(
        self,
        context: PageContext,
        rows: QuerySet[Entity],
        ordering: tuple[str, ...],
        names: list[str],
        read: dict[str, KindColumn],
    ) -> Iterator[list[Cell]]:
        left, cursor = EXPORTED, None
        while left:
            page = paginate(rows, order=ordering, limit=min(EXPORT_PAGE, left), cursor=cursor)
            said = _said(read, page.rows)
            for entity in page.rows:
                yield [
                    entity.title,
                    entity.ref,
                    *(
                        _plain(said[name].get(entity.pk))
                        if name in said
                        else _file_cell(context, name, entity)
                        for name in names
                    ),
                ]
            left -= len(page.rows)
            cursor = page.next
            if cursor is None:
                return

    def _order(self, context: PageContext) -> tuple[tuple[str, ...], str]:
        """The fields to order by, and how the address says it; what it says wrongly does not count."""
        text = context.params.get("order", "")
        try:
            return order_by(text or DEFAULT_ORDER), text
        except QueryError as error:
            context.refuse("order", error.sentence)
            return order_by(DEFAULT_ORDER), ""

    def _group(self, context: PageContext) -> str:
        """What the list is grouped by; empty for nothing."""
        group = context.params.get("group", "")
        if group and group not in GROUPS:
            sentence = _("A list cannot be grouped by “%(name)s”; there are: %(names)s.")
            context.refuse("group", sentence % {"name": group[:60], "names": ", ".join(GROUPS)})
            return ""
        return group

    def _limit(self, context: PageContext) -> int:
        try:
            return read_limit(context.params.get("limit") or str(self.config.page_size))
        except BadRequest as error:
            context.refuse("limit", error.message)
            return self.config.page_size

    def _page(
        self, context: PageContext, rows: QuerySet[Entity], ordering: tuple[str, ...], limit: int
    ) -> Page[Entity]:
        try:
            return paginate(rows, order=ordering, limit=limit, cursor=context.params.get("cursor") or None)
        except BadCursor as error:
            context.refuse("cursor", error.message)
            context.refuse("at", "")
            return paginate(rows, order=ordering, limit=limit)

    def _own_columns(self, text: str) -> dict[str, KindColumn]:
        """The columns of the one kind that is listed, by their names."""
        return _own_columns(kind_of(text) or kind_of(self.config.query))

    def _columns(self, context: PageContext, own: dict[str, KindColumn]) -> list[str]:
        """The columns besides the name: those of the address, else the page's or the kind's, as far as they exist.

        A kind says what it is described by; how it is doing, and who says so, stands after that in any list.
        """
        asked = [name for name in context.params.get("columns", "").split(",") if name]
        known = _labels(own)
        unknown = [name for name in asked if name not in known]
        if unknown:
            sentence = _("There is no column “%(name)s”; there are: %(names)s.")
            names = ", ".join(known)
            context.notices.append(sentence % {"name": ", ".join(unknown)[:60], "names": names})
        chosen: list[str] = list(dict.fromkeys(name for name in asked if name in known))
        if not chosen:
            chosen = list(self.config.columns)
            if own and "columns" not in self.config.model_fields_set:
                chosen = [*own, *(name for name in chosen if name not in _DESCRIBING)]
        return [name for name in chosen if self._exists(context, name)]

    def _exists(self, context: PageContext, name: str) -> bool:
        """Whether a column or facet can hold anything: its records have been delivered."""
        record = FIELDS_OF_RECORDS.get(name)
        available = context.delivered
        return record is None or record in available

    def _whole(self, text: str) -> str:
        """The page's own query with what is asked beside it.

        :raises QueryError: if that is wrong alone: as a part of the whole its brackets might be closed by another's.
        """
        parse(text)
        return f"({self.config.query}) ({text})" if self.config.query and text else self.config.query or text

    def _table(
        self,
        context: PageContext,
        rows: list[Entity],
        owners: dict[str, Entity],
        order: str,
        names: list[str],
        own: dict[str, KindColumn],
        said: dict[str, dict[int, Any]],
        group: str,
        sizes: dict[str, int],
    ) -> dict[str, Any]:
        labels = _labels(own)
        kinds, kind = current_kinds(), kind_of(context.query) or kind_of(self.config.query)
        schemas: dict[str, Mapping[str, Any]] = {
            name: kinds.by_name(kind).definition.property_at(own[name].path) or {} for name in said
        }
        columns = [_column(context, "name", _("Name"), order)]
        columns += [_column(context, name, labels[name], order, css=_css(name, own)) for name in names]
        return {
            "caption": _("Entities"),
            "is_wide": len(names) > MANY_COLUMNS,
            "columns": columns,
            "rows": [
                {
                    "key": str(entity.uid),
                    "label": entity.title,
                    "group": self._heading(context, group, entity, owners, sizes)
                    if group and (n == 0 or _of_group(group, entity) != _of_group(group, rows[n - 1]))
                    else None,
                    "cells": [
                        {"chip": links.chip(entity.ref, entity)},
                        *(
                            _own_cell(own[name], said[name].get(entity.pk), owners, schemas[name])
                            if name in said  # else every list has it
                            else self._cell(context, name, entity, owners)
                            for name in names
                        ),
                    ],
                }
                for n, entity in enumerate(rows)
            ],
        }

    def _heading(
        self,
        context: PageContext,
        group: str,
        entity: Entity,
        owners: dict[str, Entity],
        sizes: dict[str, int],
    ) -> dict[str, Any]:
        """What stands above the first row of a group."""
        value = _of_group(group, entity)
        kinds = current_kinds()
        if not value:
            cell: dict[str, Any] = {"text": _("No owner") if group == "owner" else _("None")}
        elif group == "kind" and value in kinds:
            cell = {"text": kinds.by_name(value).definition.plural}
        else:
            cell = self._cell(context, group, entity, owners)
        return {"cell": cell, "count": sizes.get(value, 0)}

    def _cell(
        self, context: PageContext, name: str, entity: Entity, owners: dict[str, Entity]
    ) -> dict[str, Any]:
        cell: dict[str, Any] = {"css": _CSS.get(name, "")}
        match name:
            case "owner":
                cell |= (
                    {"owner": links.owner_of(entity, owners), "is_owner": True}
                    if entity.owner or entity.kind in _OWNED
                    else {"text": ""}
                )
            case "system":
                if entity.system:
                    cell["chip"] = links.chip(entity.system, owners.get(entity.system))
            case "run":
                if entity.last_run:
                    cell["status"] = {"domain": "run", "state": entity.last_run, "at": entity.last_run_at}
            case "version":
                cell["mono"] = entity.version
            case "sources":
                tied = tied_badges(context, entity.signals.get("tied_sources", ()))
                cell["sources"] = [*badges(context, entity.sources), *tied]
            case "changed":
                cell["time"] = entity.changed_at
            case "lifecycle":
                cell |= (
                    {"text": entity.lifecycle}
                    if entity.lifecycle == "production"
                    else {"tag": entity.lifecycle}
                )
            case "tags":
                cell["tags"] = entity.tags[:FEW_TAGS]
            case _:
                cell["text"] = getattr(entity, name)
        return cell

    def _facet_names(self, context: PageContext) -> list[str]:
        return [name for name in self.config.facets if name in FACETS and self._exists(context, name)]

    def _added_facets(self, context: PageContext, text: str) -> list[Facet]:
        def found(query: str) -> QuerySet[Entity]:
            return queries.search_entities(context.viewer, self._whole(query), now=context.now)

        return field_facets(found, text, self._as_filters(text), limit=MOST_VALUES)

    def _as_filters(self, text: str) -> list[FieldDef]:
        """The added fields that the list is narrowed by."""
        kinds, kind = current_kinds(), kind_of(text) or kind_of(self.config.query)
        return [one for one in kinds.by_name(kind).fields if FILTER in one.shown] if kind in kinds else []

    def _more_filters(self, text: str, filter_url: str) -> list[dict[str, str]]:
        """Those of them whose values are too many to be counted: where one says what is looked for."""
        return [
            {"label": one.title, "url": f"{filter_url}&field={one.path}"}
            for one in self._as_filters(text)
            if not (one.relation or one.format.is_choice)
        ]

    def _facets(
        self,
        context: PageContext,
        text: str,
        counted: list[Facet],
        shown_values: dict[str, list[FacetValue]],
        titles: dict[str, Entity],
    ) -> list[dict[str, Any]]:
        shown = []
        for found in counted:
            if not found.values or _says_nothing(found):
                continue
            values = shown_values[found.field]
            shown.append(
                {
                    "name": found.field,
                    "label": found.label,
                    "values": [_facet_value(context, text, found, value, titles) for value in values],
                    "more": len(found.values) - len(values),
                    "more_url": context.url(more=found.field),
                }
            )
        return shown


_OWNED = {"component", "api", "resource", "system", "domain", "repository", "template"}
_LABELS: dict[str, Any] = {
    "owner": gettext_lazy("Owner"),
    "kind": gettext_lazy("Kind"),
    "type": gettext_lazy("Type"),
    "lifecycle": gettext_lazy("Lifecycle"),
    "run": gettext_lazy("Last run"),
    "version": gettext_lazy("Version"),
    "sources": gettext_lazy("Sources"),
    "changed": gettext_lazy("Changed"),
    "system": gettext_lazy("System"),
    "namespace": gettext_lazy("Namespace"),
    "tags": gettext_lazy("Tags"),
}
_CSS = {"changed": "po-num"}
# What the catalog keeps beside each entity, by the field that it comes from.
_SAME = {f"spec.{name}": name for name in ("owner", "type", "lifecycle", "system")} | {
    "metadata.tags": "tags"
}
_DESCRIBING = {*_SAME.values(), "kind", "namespace"}
_ORDERS: dict[str, Any] = {
    "title": gettext_lazy("Name"),
    "name": gettext_lazy("Short name"),
    "-changed": gettext_lazy("Changed lately"),
    "owner": gettext_lazy("Owner"),
    "lifecycle": gettext_lazy("Lifecycle"),
    "type": gettext_lazy("Type"),
}


def labels_of(query: str) -> dict[str, Any]:
    """The headings of all columns that the list of a query can have, by their names."""
    return _labels(_own_columns(kind_of(query)))


def _own_columns(kind: str) -> dict[str, KindColumn]:
    kinds = current_kinds()
    columns = kinds.by_name(kind).definition.columns if kind in kinds else ()
    return {_SAME.get(column.field, column.field): column for column in columns}


def _grouped(group: str, order: str) -> tuple[str, ...]:
    """The fields to order by, so that what belongs together stands together."""
    names = (order or DEFAULT_ORDER).split(",")
    first = f"-{group}" if f"-{group}" in names else group
    return order_by(",".join([first, *(name for name in names if name.lstrip("-") != group)][:4]))


def _of_group(group: str, entity: Entity) -> Any:
    return getattr(entity, GROUPS[group])


def _save_view(query: str, kept: Mapping[str, str]) -> dict[str, Any]:
    """The button that keeps the list as it is shown."""
    known = labels_of(query)
    columns = ",".join(name for name in kept["columns"].split(",") if name in known)
    given = {"q": query, "columns": columns, "order": kept["order"], "group": kept["group"]}
    url = "/views/new?" + urlencode({name: value for name, value in given.items() if value}, safe=",:")
    return {"label": _("Save as view"), "icon": "bookmark", "url": url}


def expected_in(query: str) -> str:
    """What somebody looks for who finds nothing: the words of a query, with the kind that it asks for."""
    words = [word.strip('"') for word in query.split() if ":" not in word and not word.startswith("-")]
    kind = kind_of(query)
    return f"{kind}:{words[0]}" if kind and len(words) == 1 else " ".join(words)


def kind_of(query: str) -> str:
    """The one kind that a query asks for; empty if it is not one."""
    words = [word for word in query.split() if word.startswith("kind:") and "," not in word]
    return words[0].removeprefix("kind:").lower() if len(words) == 1 else ""


def _labels(own: dict[str, KindColumn]) -> dict[str, Any]:
    """The headings of all columns that there are; those that every list has keep theirs."""
    return {name: column.label for name, column in own.items() if name not in _LABELS} | _LABELS


def _read(names: list[str], own: dict[str, KindColumn]) -> dict[str, KindColumn]:
    """Those of some columns that are read from the documents: a kind's own, which the catalog does not keep."""
    return {name: own[name] for name in names if name in own and name not in _LABELS}


def _rows(
    found: QuerySet[Entity], read: dict[str, KindColumn], ordering: tuple[str, ...]
) -> QuerySet[Entity]:
    """What is found, to be sorted, with its documents where columns are read from them."""
    rows = sortable(found, ordering).select_related(None).defer("tokens", "description", "digest")
    return rows.select_related("served") if read else rows


def _css(name: str, own: dict[str, KindColumn]) -> str:
    return "po-num" if name in own and own[name].shown_as in {"number", "percentage"} else _CSS.get(name, "")


def _said(read: dict[str, KindColumn], rows: list[Entity]) -> dict[str, dict[int, Any]]:
    """What the rows' documents say in a kind's own columns, by column and entity; references are complete."""
    said: dict[str, dict[int, Any]] = {name: {} for name in read}
    kinds = current_kinds()
    for entity in rows if read else ():
        document = orjson.loads(entity.served.document)
        for name, column in read.items():
            value = column.value_in(document)
            if column.is_reference:
                if refs := refs_in(value, column.path, kinds.by_name(entity.kind), entity.namespace):
                    said[name][entity.pk] = refs
            elif value not in (None, "", [], {}):
                said[name][entity.pk] = value
    return said


def _own_cell(
    column: KindColumn, value: Any, titles: dict[str, Entity], schema: Mapping[str, Any]
) -> dict[str, Any]:
    """A value as the kind wants it shown; what does not fit that is text."""
    match column.shown_as:
        case _ if value is None:
            return {"text": ""}
        case "ref":
            return {"chip": links.chip(value[0], titles.get(value[0]))}
        case "time" if isinstance(value, str) and (at := moment(value)):
            return {"time": at}
        case "number" if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {"text": number_format(value, force_grouping=True), "css": "po-num"}
        case "tags":
            many = value if isinstance(value, list) else [value]
            return {"tags": [str(one) for one in many[:FEW_TAGS]]}
        case "link" if isinstance(value, str):
            return {"url": value, "text": value}
        case "code" if isinstance(value, (str, int, float)):
            return {"mono": str(value)}
    if column.shown_as in {"text", "time", "link", "code"}:
        return {"text": str(_plain(value))}
    refs = value if column.is_reference else ()
    shown = show(value, schema, format_=FORMATS.get(column.shown_as), refs=refs, titles=titles)
    return {"html": shown, "css": "po-num" if column.shown_as == "percentage" else ""}


def _display(context: PageContext, order: str, limit: int) -> list[dict[str, Any]]:
    """A menu of how the list is sorted and how long its pages are."""
    items: list[dict[str, Any]] = [{"heading": _("Sort by")}]
    items += [
        {
            "label": label,
            "url": context.url(order=name if name != DEFAULT_ORDER else None, cursor=None, at=None),
            "is_active": (order or DEFAULT_ORDER) == name,
            "icon": "check" if (order or DEFAULT_ORDER) == name else "",
        }
        for name, label in _ORDERS.items()
    ]
    items.append({"heading": _("Rows of a page")})
    items += [
        {
            "label": number_format(rows, force_grouping=True),
            "url": context.url(limit=str(rows) if rows != ROWS[0] else None, cursor=None, at=None),
            "is_active": limit == rows,
            "icon": "check" if limit == rows else "",
        }
        for rows in ROWS
    ]
    return items


def _grouping(context: PageContext, group: str, names: list[str]) -> list[dict[str, Any]]:
    """The part of the menu that says what the list is grouped by."""
    return [
        {"heading": _("Group by")},
        *(
            {
                "label": label,
                "url": context.url(group=name or None, cursor=None, at=None),
                "is_active": group == name,
                "icon": "check" if group == name else "",
            }
            for name, label in {"": _("Nothing"), **{name: _LABELS[name] for name in names}}.items()
        ),
    ]


def _owners_url(query: str) -> str:
    return "/catalog/owners?" + urlencode({"q": query})


def _all_of_them(query: str, total: int) -> list[dict[str, Any]]:
    """What changes all that the list has, also what is on other pages."""
    count = {"n": number_format(total, force_grouping=True)}
    fields_url = "/catalog/fields?" + urlencode({"q": query})
    return [
        {"label": _("Set owner of all %(n)s...") % count, "url": _owners_url(query), "icon": "users"},
        {"label": _("Edit a field of all %(n)s...") % count, "url": fields_url, "icon": "pencil"},
    ]


def _is_unowned(text: str) -> bool:
    """Whether the query asks for what nobody owns."""
    return any(term.text.lower() in {"-has:owner", 'owner:""'} for term in terms_of(text))


def _bulk(total: int, rows: int) -> list[dict[str, Any]]:
    """What can be done with the selected rows, and at once with all that the query finds."""
    actions = [
        {"value": "selected", "label": _("Set owner..."), "icon": "users"},
        {"value": "selected", "label": _("Edit..."), "icon": "pencil", "url": "/catalog/fields"},
    ]
    if total > rows:
        label = _("All %(n)s...") % {"n": number_format(total, force_grouping=True)}
        actions.append({"value": "all", "label": label, "icon": "list"})
    return actions


def _export(
    context: PageContext, names: list[str], order: str, total: int, save: dict[str, Any]
) -> list[dict[str, Any]]:
    """What takes the whole list away, or keeps it, as it is shown."""
    if not total:
        return []
    label = _("Export as CSV")
    if total > EXPORTED:
        label = _("Export the first %(n)s as CSV") % {"n": number_format(EXPORTED, force_grouping=True)}
    asked = {"q": context.query, "columns": ",".join(names), "order": order}
    asked["group"] = context.params.get("group", "")
    url = "/catalog.csv?" + urlencode({name: value for name, value in asked.items() if value}, safe=",:")
    changed = {"label": _("What changed"), "url": links.history_url(context.query), "icon": "history"}
    return [{"heading": _("This list")}, {"label": label, "url": url, "icon": "download"}, save, changed]


def _file_cell(context: PageContext, name: str, entity: Entity) -> Cell:
    """A column that every list has, as a file says it: whole, and a time to the second."""
    match name:
        case "run":
            return str(status_of("run", entity.last_run).word) if entity.last_run else ""
        case "sources":
            known = badges(context, entity.sources) + tied_badges(
                context, entity.signals.get("tied_sources", ())
            )
            return ", ".join(dict.fromkeys(badge["label"] for badge in known))
        case "changed":
            return entity.changed_at
        case "tags":
            return ", ".join(entity.tags)
    return str(getattr(entity, name))


def _plain(value: Any) -> Cell:
    """What a document says, in one cell."""
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if value is None or isinstance(value, (str, int, float)):
        return value
    many = value if isinstance(value, list) else [value]
    return ", ".join(str(one) for one in many if not isinstance(one, (dict, list)))


def _column(context: PageContext, name: str, label: Any, order: str, *, css: str = "") -> dict[str, Any]:
    column: dict[str, Any] = {"label": label, "css": css}
    # A kind's own column is sorted by its field, where that can be compared.
    if key := SORTABLE.get(name, name if is_field(name) else ""):
        current = order.lstrip("-") == key or (not order and key == DEFAULT_ORDER)
        if current:
            column["sort"] = "descending" if order.startswith("-") else "ascending"
        turned = (
            f"-{key}"
            if (current and not order.startswith("-")) or (key == "changed" and not current)
            else key
        )
        column["sort_url"] = context.url(order=turned, cursor=None, at=None)
    return column


def _says_nothing(facet: Facet) -> bool:
    """Whether nothing that was found has any value of the field: users have no lifecycle."""
    return len(facet.values) == 1 and not facet.values[0].value and not facet.values[0].is_on


def _filled(names: list[str], counted: list[Facet], rows: list[Entity]) -> list[str]:
    """The columns in which something stands, as far as the list knows without asking for more."""
    blank = {facet.field for facet in counted if _says_nothing(facet)}
    if not any(entity.version for entity in rows):
        blank.add("version")
    return [name for name in names if name not in blank]


WAYS = 6


def _wrong(context: PageContext, text: str, error: QueryError) -> dict[str, Any]:
    """Where a query is wrong, what was expected there, and what was probably meant."""
    start, end = error.position, error.position + error.length
    pieces = [text[:start] + suggestion + text[end:] for suggestion in error.suggestions]
    if not pieces:

        def found(query: str) -> QuerySet[Entity]:
            return queries.search_entities(context.viewer, query, now=context.now)

        pieces = [text[: s.start] + s.text + text[s.end :] for s in suggest(text, end, found)]
    ways = []
    for piece in dict.fromkeys(pieces):
        try:
            queries.search_entities(context.viewer, piece, now=context.now)
        except QueryError:
            continue
        ways.append({"text": piece, "url": context.url(q=piece, cursor=None, at=None)})
    return {
        "number": start + 1,
        "before": text[:start],
        "mark": text[start:end],
        "after": text[end:],
        "expected": error.expected,
        "ways": ways[:WAYS],
    }


def _tokens(context: PageContext, text: str) -> tuple[list[dict[str, Any]], str]:
    """Finished terms as tokens, and what is left as raw text."""
    tokens, rest = [], []
    for term in terms_of(text):
        if term.field and not term.error:
            without = (text[: term.position] + text[term.position + term.length :]).strip()
            tokens.append(
                {
                    "text": term.text,
                    "remove_url": context.url(q=" ".join(without.split()), cursor=None, at=None),
                }
            )
        else:
            rest.append(term.text)
    if any(mark in text for mark in "()") or " OR " in text:
        return [], text
    return tokens, " ".join(rest)


def _shown_values(context: PageContext, found: Facet) -> list[FacetValue]:
    """The values of a facet that a page shows: few, unless more are asked for."""
    is_open = context.params.get("more") == found.field
    return [v for n, v in enumerate(found.values) if is_open or n < FEW_VALUES or v.is_on]


def _facet_value(
    context: PageContext, text: str, found: Facet, value: Any, titles: dict[str, Entity]
) -> dict[str, Any]:
    field = found.field
    toggled = toggle_term(text, field, value.value)
    shown: dict[str, Any] = {
        "label": (found.labels or {}).get(value.value) or value.label,
        "value": value.value,
        "count": value.count,
        "is_on": value.is_on,
        "url": context.url(q=toggled, cursor=None, at=None),
    }
    if field in {"owner", "system"}:
        entity = titles.get(value.value)
        shown["label"] = entity.title if entity else value.value.rpartition("/")[2]
        if field == "owner":
            shown["avatar"] = "person" if value.value.startswith("user:") else "team"
    elif field == "run":
        shown["status"] = "run"
    elif entity := titles.get(value.value):
        shown["label"] = entity.title
    elif field == "source":
        badge = next(
            iter(tied_badges(context, [value.value])),
            {"label": value.value, "letters": "", "category": "files"},
        )
        shown["label"], shown["monogram"] = badge["label"], badge
    return shown
