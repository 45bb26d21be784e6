"""The widgets that ship. A plugin registers its own with the same `register`."""

from portal.widgets.base import (
    Absent,
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
    "NothingToShow",
    "PageContext",
    "Placed",
    "Widget",
    "WidgetConfig",
    "delivered",
    "register",
    "widget_types",
]
