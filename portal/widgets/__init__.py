"""The widgets that ship. A plugin registers its own with the same `register`."""

from importlib import import_module

from portal.widgets.base import (
    Absent,
    Filled,
    NothingToShow,
    PageContext,
    Placed,
    Widget,
    WidgetConfig,
    delivered,
    register,
    widget_types,
)

__all__ = [
    "Absent",
    "Filled",
    "NothingToShow",
    "PageContext",
    "Placed",
    "Widget",
    "WidgetConfig",
    "delivered",
    "load_widgets",
    "register",
    "widget_types",
]


def load_widgets() -> None:
    """Make the widgets of the portal known, at start."""
    for name in ("activity", "definition", "docs", "entity", "home", "listing", "people", "problems", "team"):
        import_module(f"portal.widgets.{name}")
