"""All addresses of the portal, as its own URL configuration has them: what is added is swept too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("get", "post", "put", "patch", "delete")
WRITING = METHODS[1:]
_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>|\(\?P<(\w+)>[^)]*\)")


@dataclass(frozen=True)
class Route:
    """One address.

    :ivar pattern: with its parameters, without the leading slash: `api/v1/ties/<int:tie_id>/`.
    :ivar view: the view's class or function.
    :ivar methods: that the view answers; for a function all, since it does not say.
    :ivar name: with its namespace, as `reverse` takes it; empty if it has none.
    """

    pattern: str
    view: Any
    methods: tuple[str, ...]
    name: str = ""

    def url(self, given: Mapping[str, Any]) -> str:
        """The address with some values for its parameters; others get one that is nobody's."""

        def fill(match: re.Match[str]) -> str:
            kind, name = match[1], match[2] or match[3]
            nobodys = {"int": 1, "uuid": "00000000-0000-4000-8000-000000000000"}.get(kind or "str", "x")
            return str(given.get(name, nobodys))

        return "/" + _PARAMETER.sub(fill, self.pattern)


def routes(prefix: str = "") -> list[Route]:
    """The portal's routes below a prefix."""
    return [route for route in _walk(get_resolver().url_patterns, "") if route.pattern.startswith(prefix)]


def _walk(patterns: list[Any], before: str, space: str = "") -> Iterator[Route]:
    for pattern in patterns:
        text = before + str(pattern.pattern).removeprefix("^").removesuffix("$").removesuffix("\\Z")
        if isinstance(pattern, URLResolver):
            below = f"{space}{pattern.namespace}:" if pattern.namespace else space
            yield from _walk(pattern.url_patterns, text, below)
        elif isinstance(pattern, URLPattern):
            name = f"{space}{pattern.name}" if pattern.name else ""
            yield Route(text, *_answers(pattern.callback), name)


def _answers(callback: Any) -> tuple[Any, tuple[str, ...]]:
    view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    if view is None:
        return callback, METHODS
    if actions := getattr(callback, "actions", None):
        return view, tuple(method for method in METHODS if method in actions)
    return view, tuple(method for method in METHODS if hasattr(view, method))
