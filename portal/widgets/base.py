"""What a widget is: a piece of a page with a settings model, data and a template.

A widget reads through `catalog.queries` and `integrations.queries` for the viewer it is handed, its template only
prints, and one that fails shows its error in its own frame.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import urlencode

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, ConfigDict

from base.errors import DomainError
from catalog import queries
from catalog.models import Entity

logger = logging.getLogger(__name__)


class WidgetConfig(BaseModel):
    """Base of every widget's settings model; each field needs a description, which is its help text."""

    model_config = ConfigDict(extra="forbid")


@dataclass
class PageContext:
    """What the widgets of one page share.

    :ivar viewer: whose permissions hold.
    :ivar entity: the entity that the page is about, or None.
    :ivar query: the page's filter text.
    :ivar params: the request's other parameters.
    :ivar now: one time for the whole page.
    :ivar cache: what one widget found and another needs too.
    :ivar notices: what of the address could not be understood, told above the page.
    """

    request: HttpRequest
    viewer: Any
    now: datetime
    entity: Entity | None = None
    query: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    _refused: set[str] = field(default_factory=set)

    @cached_property
    def delivered(self) -> set[str]:
        """The record types of activity that some connection has delivered."""
        return queries.delivered_types()

    def refuse(self, parameter: str, sentence: str) -> None:
        """Go on as if a parameter of the address were not there, and say so above the page."""
        self._refused.add(parameter)
        if sentence:
            self.notices.append(sentence)

    def url(self, **changes: str | None) -> str:
        """The page's address with some parameters changed; None takes one away."""
        params: dict[str, str | None] = {
            name: str(value) for name, value in self.request.GET.items() if name not in self._refused
        }
        if "q" in params:
            params["q"] = self.query  # it may have come in several parts
        params |= changes
        kept = {name: value for name, value in params.items() if value not in (None, "")}
        return f"{self.request.path}?{urlencode(kept)}" if kept else self.request.path


class NothingToShow(Exception):
    """There are no data; the card says so and offers the next step.

    :ivar action: {"label", "url"} or None.
    """

    def __init__(self, message: str = "", *, action: Mapping[str, str] | None = None, icon: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        self.icon = icon


class Absent(Exception):
    """The widget has no place on this page; it is left out."""


C = TypeVar("C", bound=WidgetConfig)


class Widget(Generic[C]):
    """A kind of widget. Subclass it as `Widget[YourConfig]` and set the class variables.

    :cvar slug: its type in page definitions.
    :cvar label: its name in the composer, and the card's title unless the page gives one.
    :cvar needs: record types without which it is absent: `{"run"}`.
    :cvar slots: where it can stand; empty for anywhere.
    :cvar template: extends `components/card.html`, or is a fragment of its own.
    :cvar styles: style sheets that only the pages with it load, as static files.
    """

    slug: ClassVar[str]
    label: ClassVar[Any]
    description: ClassVar[Any] = ""
    template: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    slots: ClassVar[frozenset[str]] = frozenset()
    version: ClassVar[int] = 1
    styles: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[WidgetConfig]] = WidgetConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            args = getattr(base, "__args__", ())
            if args and isinstance(args[0], type) and issubclass(args[0], WidgetConfig):
                cls.Config = args[0]

    def __init__(self, config: C) -> None:
        self.config = config

    def needed(self) -> Collection[str]:
        """The record types without which it is absent, with its settings."""
        return self.needs

    def data(self, context: PageContext) -> dict[str, Any]:
        """What the template prints.

        :raises NothingToShow: when there is nothing; the card then says so.
        :raises Absent: when the widget does not belong on this page.
        """
        raise NotImplementedError


_widgets: dict[str, type[Widget[Any]]] = {}

W = TypeVar("W", bound=type[Widget[Any]])


def register(widget: W) -> W:
    """Make a widget known; the class decorator that plugins use too.

    :raises ValueError: if another widget has its slug.
    """
    if _widgets.setdefault(widget.slug, widget) is not widget:
        raise ValueError(f"There is another widget {widget.slug!r} already.")
    return widget


def widget_types() -> dict[str, type[Widget[Any]]]:
    """All known widgets by slug."""
    return dict(_widgets)


@dataclass
class Placed:
    """A widget in its place on a page, ready to render.

    :ivar width: of 12 columns; `height`: in rows, 0 for as much as it takes.
    """

    id: str
    title: str
    type: str
    width: int
    height: int
    config: Mapping[str, Any]
    is_deferred: bool = False

    @cached_property
    def widget(self) -> Widget[Any] | None:
        kind = _widgets.get(self.type)
        return None if kind is None else kind(kind.Config.model_validate(dict(self.config)))

    def fill(self, context: PageContext, *, load_url: str = "", hide_empty: bool = False) -> Filled | None:
        """The widget with its data; None when it is absent.

        :param load_url: give only the skeleton, which loads the rest from there; has a query already.
        :param hide_empty: be absent rather than say that there is nothing.
        """
        card: dict[str, Any] = {"id": f"w-{self.id}", "title": self.title}
        filled = Filled(self, context, card)
        widget = self.widget
        if widget is None:
            card |= {
                "state": "empty",
                "message": _("The widget “%(type)s” is not installed.") % {"type": self.type},
            }
            return filled
        card["title"] = self.title or str(widget.label)
        if load_url:
            card |= {"state": "loading", "load_url": load_url}
            return filled
        try:
            filled.data = widget.data(context)
        except Absent:
            return None
        except NothingToShow as nothing:
            if hide_empty or context.cache.get(
                "sees_nothing"
            ):  # then nothing is no news, and all is not well
                return None
            card |= {
                "state": "empty",
                "message": nothing.message,
                "action": nothing.action,
                "icon": nothing.icon,
            }
            return filled
        except DomainError as error:
            card |= {"state": "error", "message": error.message}
            return filled
        except Exception:
            logger.exception("Widget %s (%s) failed.", self.id, self.type)
            filled.fail()
            return filled
        card |= filled.data.pop("card", {})
        filled.template = widget.template
        return filled


@dataclass
class Filled:
    """A placed widget with its data."""

    placed: Placed
    context: PageContext
    card: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    template: str = "components/card.html"

    def render(self, width: int) -> SafeString:
        """Its HTML, of so many columns."""
        self.card["css"] = f"po-w-{width} po-h-{self.placed.height or 'auto'}"
        if load_url := self.card.get("load_url"):
            self.card["load_url"] = f"{load_url}&{urlencode({'width': width})}"
        try:
            return self._html()
        except Exception:
            logger.exception("The template of widget %s (%s) failed.", self.placed.id, self.placed.type)
            self.fail()
            return self._html()

    def _html(self) -> SafeString:
        config = self.placed.widget.config if self.placed.widget else None
        values = {"card": self.card, "config": config, "page": self.context, **self.data}
        return render_to_string(self.template, values, self.context.request)

    def fail(self) -> None:
        """Have a card in its place that says that it failed."""
        self.template, self.data = "components/card.html", {}
        self.card |= {
            "state": "error",
            "message": _("This card could not be shown. The log has the details."),
        }


def delivered(needs: Iterable[str], available: set[str]) -> bool:
    """Whether some connection has delivered what a widget needs."""
    wanted = set(needs)
    return not wanted or bool(wanted & available)


NOTHING = gettext_lazy("Nothing here yet")
