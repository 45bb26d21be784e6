"""`$text`, `$json` and `$yaml`: places of a document that another file fills.

An object whose only key is one of them is replaced by what its target holds, as text or as data. Objects with
another `$` key (`$ref`, say) are left alone, all that is in them included.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base import limits, safe_yaml
from base.errors import DomainError, FieldError, InvalidInput
from base.paths import Part, format_path
from base.text import excerpt

_FILLERS = ("$text", "$json", "$yaml")
_MENTION = re.compile(r"\$(?:text|json|yaml)\b")


class PlaceholderInvalid(InvalidInput):
    """What a placeholder points to cannot be read, or does not fit."""

    code = "placeholder-invalid"
    title = gettext_lazy("A placeholder cannot be filled")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A place to fill.

    :ivar path: of the object that is replaced.
    :ivar filler: `$text`, `$json` or `$yaml`.
    :ivar target: as the document writes it.
    """

    path: str
    filler: str
    target: str


def may_have_placeholders(raw: str) -> bool:
    """A quick look at the text: False is certain, True is a guess."""
    return _MENTION.search(raw) is not None


def find_placeholders(data: Any) -> list[Placeholder]:
    """All places to fill, in the document's order.

    :raises PlaceholderInvalid: if a target is not text.
    """
    found: list[Placeholder] = []
    _replace(data, (), found.append)
    return found


def fill_placeholders(data: Any, contents: dict[str, bytes]) -> Any:
    """A copy of the data with every placeholder filled.

    :param contents: what was read, by the target as the document writes it.
    :raises PlaceholderInvalid: if a content is not what its filler expects.
    :raises LimitExceeded: if the whole becomes too large.
    """
    filled = _replace(data, (), lambda place: _content(place, contents[place.target]))
    limits.check_data(filled, what=gettext_lazy("The document with its placeholders filled"))
    return filled


def _replace(data: Any, path: tuple[Part, ...], fill: Callable[[Placeholder], Any]) -> Any:
    if isinstance(data, list):
        return [_replace(item, (*path, number), fill) for number, item in enumerate(data)]
    if not isinstance(data, dict):
        return data
    if not any(key.startswith("$") for key in data):
        return {key: _replace(value, (*path, key), fill) for key, value in data.items()}
    (filler, target), *others = data.items()
    if others or filler not in _FILLERS:
        return data
    where = format_path(path)
    if not isinstance(target, str):
        message = _("%(filler)s needs a path or web address, but has %(got)s.") % {
            "filler": filler,
            "got": excerpt(target),
        }
        raise PlaceholderInvalid(f"{where}: {message}", errors=[FieldError(where, message)])
    return fill(Placeholder(where, filler, target))


def _content(place: Placeholder, content: bytes) -> Any:
    try:
        limits.check_size(len(content), limits.MAX_STRING, what=place.target)
        if place.filler == "$yaml":
            data = safe_yaml.load(content, name=place.target)
            if data is None:
                raise InvalidInput(_("the file is empty"))
            return data
        text = content.decode("utf-8", "replace")
        return orjson.loads(text) if place.filler == "$json" else text
    except (DomainError, orjson.JSONDecodeError) as error:
        raise unfilled(place, str(error))


def unfilled(place: Placeholder, reason: str) -> PlaceholderInvalid:
    """The error for a placeholder whose target could not be used."""
    message = _("%(filler)s could not use %(target)s: %(reason)s") % {
        "filler": place.filler,
        "target": place.target,
        "reason": reason,
    }
    return PlaceholderInvalid(f"{place.path}: {message}", errors=[FieldError(place.path, message)])
