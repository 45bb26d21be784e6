"""Pages: definitions of widgets in a grid, checked at the door and served with a fallback.

A page definition is a pack document of kind `Page`. What is stored has been checked; if a row is damaged all the
same, the shipped definition is served in its place, with a notice.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

from django.conf import settings
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from access.definitions import (
    DefinitionType,
    definitions_stamp,
    forget_stamps,
    register_document_type,
)
from access.permissions import everywhere, register_scope
from base.errors import FieldError, InvalidInput, NotFound
from base.expressions import ExpressionError, compile_expression
from base.safe_yaml import parse_documents
from catalog.query import QueryError, parse
from portal.models import Page
from portal.widgets import Placed, widget_types

logger = logging.getLogger(__name__)

Slot = Literal["home", "list", "entity", "activity", "problems", "dashboard"]
SLOTS: tuple[str, ...] = get_args(Slot)
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
CORE_PACK = "core"


class WidgetSpec(BaseModel):
    """A placed widget.

    :ivar id: stable within the page.
    :ivar height: in rows of 40 px with their gaps; 0 for as much as it takes.
    :ivar width: of 12 columns; under 1024 px numbers take half the row, everything else the whole.
    :ivar only_if: an expression over `entity` and `viewer`; empty for always.
    :ivar deferred: load it after the page.
    :ivar hide_empty: leave it out when it has nothing to show.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str
    type: str = Field(max_length=63)
    version: int = 1
    title: str = Field("", max_length=100)
    width: int = Field(12, ge=1, le=12)
    height: int = Field(0, ge=0, le=24)
    aside: bool = False
    only_if: str = Field("", alias="onlyIf", max_length=4_000)
    deferred: bool = False
    hide_empty: bool = Field(False, alias="hideEmpty")
    config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not ID.match(value):
            raise ValueError("lower-case letters, digits and hyphens, at most 63 characters")
        return value

    @model_validator(mode="after")
    def _fits(self) -> WidgetSpec:
        kind = widget_types().get(self.type)
        if kind is not None:  # an unknown one stays, as a placeholder: its plugin may come back
            kind.Config.model_validate(self.config)
        if self.only_if:
            try:
                compile_expression(self.only_if, variables=["entity", "viewer"])
            except ExpressionError as error:
                raise ValueError(f"onlyIf: {error.message}") from error
        return self


class TabSpec(BaseModel):
    """One tab of a page; a page without tabs has one, unnamed."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = "overview"
    label: str = Field("", max_length=60)
    only_if: str = Field("", alias="onlyIf", max_length=4_000)
    widgets: list[WidgetSpec] = Field(min_length=1, max_length=60)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not ID.match(value):
            raise ValueError("lower-case letters, digits and hyphens, at most 63 characters")
        return value


class PageSpec(BaseModel):
    """What a page shows.

    :ivar slot: which page of the portal it is.
    :ivar kinds: for lists and entity pages: the kinds it is for, in lower case; empty for all others.
    """

    model_config = ConfigDict(extra="forbid")

    slot: Slot
    title: str = Field("", max_length=100)
    description: str = Field("", max_length=500)
    kinds: list[str] = Field(default_factory=list, max_length=100)
    tabs: list[TabSpec] = Field(min_length=1, max_length=20)

    @model_validator(mode="after")
    def _unique(self) -> PageSpec:
        ids = [widget.id for tab in self.tabs for widget in tab.widgets]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"these widget ids stand more than once: {', '.join(twice)}")
        names = [tab.name for tab in self.tabs]
        if len(set(names)) != len(names):
            raise ValueError("two tabs have the same name")
        return self


def check_page(name: str, spec: Any) -> Any:
    """A page's spec as it is stored.

    :raises InvalidInput: naming each place, what was expected and what came.
    """
    errors = []
    if not ID.match(name):
        said = _("A name is lower-case letters, digits and hyphens, at most 63 characters.")
        errors.append(FieldError(path="/metadata/name", message=said, got=name[:80]))
    try:
        page = PageSpec.model_validate(spec)
        errors += _query_faults(page)
    except ValidationError as error:
        errors += [
            FieldError(
                path="/spec/" + "/".join(str(part) for part in item["loc"]),
                message=item["msg"].removeprefix("Value error, "),
            )
            for item in error.errors(include_url=False)
        ]
    if errors:
        raise InvalidInput(_("The page “%(name)s” cannot be used.") % {"name": name}, errors=errors)
    return page.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _query_faults(page: PageSpec) -> list[FieldError]:
    """Queries of widgets that cannot be read. Their fields may come with kinds that are not applied yet."""
    faults = []
    for t, tab in enumerate(page.tabs):
        for w, widget in enumerate(tab.widgets):
            query = widget.config.get("query")
            if isinstance(query, str) and query and widget.type in widget_types():
                try:
                    parse(query)
                except QueryError as error:
                    path = f"/spec/tabs/{t}/widgets/{w}/config/query"
                    faults.append(FieldError(path=path, message=error.message, got=query[:200]))
    return faults


PAGES = DefinitionType(kind="Page", model=Page, check=check_page)


def register_pages() -> None:
    """Make pages known as pack documents, which all may read who see anything."""
    register_document_type(PAGES)
    register_scope(Page, everywhere)


@dataclass(frozen=True)
class Served:
    """A page as it is shown.

    :ivar notice: why the shipped definition stands in, or empty.
    """

    name: str
    spec: PageSpec
    notice: str = ""
    pack: str = ""


class _Cache:
    """All pages, read again when one changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamp: Any = None
        self._pages: list[Served] | None = None

    def get(self) -> list[Served]:
        stamp = definitions_stamp(Page)
        with self._lock:
            if self._pages is None or stamp != self._stamp:
                rows = Page.objects.order_by("name")
                self._pages = [served for row in rows if (served := _served(row)) is not None]
                self._stamp = stamp
            return self._pages

    def forget(self) -> None:
        with self._lock:
            self._pages = None
        forget_stamps()


_cache = _Cache()


def forget_pages() -> None:
    """Read the pages anew at the next request: after a change in this process."""
    _cache.forget()


def _served(row: Page) -> Served | None:
    """The page as it is stored, else as it was shipped, with a notice; None if there is nothing to show."""
    try:
        return Served(row.name, PageSpec.model_validate(row.spec), pack=row.pack)
    except ValidationError:
        logger.exception("The stored page %s cannot be used; the shipped one stands in.", row.name)
    spec = _pristine(row) or _stand_in(row)
    if spec is None:
        return None
    notice = _(
        "The page “%(name)s” is damaged, so the shipped one is shown. An administrator can restore it."
    ) % {"name": row.name}
    return Served(row.name, spec, notice, pack=row.pack)


def _pristine(row: Page) -> PageSpec | None:
    try:
        return PageSpec.model_validate(row.pristine)
    except ValidationError:
        return None


def _stand_in(row: Page) -> PageSpec | None:
    """The page as it lies on disk, else what the core shows in its slot."""
    shipped = _shipped()
    if row.name in shipped:
        return shipped[row.name]
    for remains in (row.spec, row.pristine):
        if not isinstance(remains, dict):
            continue
        kinds = remains.get("kinds")
        for spec in shipped.values():
            if spec.slot == remains.get("slot") and not spec.kinds:
                return spec.model_copy(update={"kinds": kinds if isinstance(kinds, list) else []})
    return None


def _shipped() -> dict[str, PageSpec]:
    """The pages of all packs as they lie on disk, by name; a later pack's page replaces an earlier one's."""
    found = {}
    for folder in (settings.BASE_DIR / "packs" / CORE_PACK, *settings.PORTICO_PACKS):
        for path in sorted(folder.rglob("*.y*ml")):
            for document in parse_documents(path.read_bytes(), name=path.name):
                data = document.data
                if document.error is None and isinstance(data, dict) and data.get("kind") == PAGES.kind:
                    with suppress(ValidationError, KeyError, TypeError):
                        found[data["metadata"]["name"]] = PageSpec.model_validate(data["spec"])
    return found


def page_for(slot: Slot, *, kind: str = "") -> Served:
    """The page of a slot: for the kind if there is one, else for all kinds.

    What people composed counts before what packs bring, and of packs the one that is loaded last; the core's only
    where no other has one.

    :raises NotFound: when no pack brings a page for the slot.
    """
    loaded = ["", *(folder.name for folder in reversed(settings.PORTICO_PACKS))]

    def rank(page: Served) -> int:
        if page.pack == CORE_PACK:
            return len(loaded) + 1
        return loaded.index(page.pack) if page.pack in loaded else len(loaded)

    pages = sorted((p for p in _cache.get() if p.spec.slot == slot), key=rank)
    for page in pages:
        if kind and kind in page.spec.kinds:
            return page
    for page in pages:
        if not page.spec.kinds:
            return page
    for name, spec in _shipped().items():
        if spec.slot == slot and not spec.kinds:
            return Served(name, spec)
    raise NotFound(_("No pack brings a page for “%(slot)s”.") % {"slot": slot})


def page_named(name: str) -> Served:
    """A page by its name.

    :raises NotFound: if there is none.
    """
    for page in _cache.get():
        if page.name == name:
            return page
    raise NotFound(_("There is no page “%(name)s”.") % {"name": name})


COLUMNS = 12


def fill_rows(widgets: Sequence[tuple[int, int]]) -> list[int]:
    """Widths that leave no hole where a widget is absent: each row is widened to the whole.

    :param widgets: width and height of each, as their definition has them; a row's are of one height.
    """
    widths: list[int] = []
    row: list[int] = []
    for n, (width, height) in enumerate(widgets):
        row.append(width)
        following = widgets[n + 1] if n + 1 < len(widgets) else None
        if following is None or following[1] != height or sum(row) + following[0] > COLUMNS:
            widths += _widened(row)
            row = []
    return widths


def _widened(row: list[int]) -> list[int]:
    total = sum(row)
    shares = [width * COLUMNS / total for width in row]
    widths = [int(share) for share in shares]
    by_rest = sorted(range(len(row)), key=lambda n: widths[n] - shares[n])
    for n in by_rest[: COLUMNS - sum(widths)]:
        widths[n] += 1
    return widths


def placed(spec: WidgetSpec) -> Placed:
    """A widget of a definition, ready to render."""
    return Placed(
        id=spec.id,
        title=spec.title,
        type=spec.type,
        width=spec.width,
        height=spec.height,
        config=spec.config,
        is_deferred=spec.deferred,
    )
