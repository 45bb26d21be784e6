"""What a document holds, as people read it."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _


def in_words(value: Any) -> str:
    """A value of a document in words: lists with commas, "yes" for true, a link by its title and address.

    >>> in_words(["go", 2])
    'go, 2'
    """
    if value is None:
        return _("nothing")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        between = "; " if any(isinstance(one, dict) for one in value) else ", "
        return between.join(in_words(one) for one in value) or _("an empty list")
    if isinstance(value, dict):
        if {"url"} <= set(value) <= {"url", "title", "icon", "type"}:
            return f"{value['title']} ({value['url']})" if value.get("title") else in_words(value["url"])
        return ", ".join(f"{name}: {in_words(one)}" for name, one in value.items()) or _("nothing")
    return str(value)
