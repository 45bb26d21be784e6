"""State of the portal: pages, as definitions."""

from __future__ import annotations

from access.definitions import Definition


class Page(Definition):
    """A page: a grid of widgets in a slot. `spec` is a `portal.pages.PageSpec`."""

    class Meta(Definition.Meta):
        verbose_name = "page"
