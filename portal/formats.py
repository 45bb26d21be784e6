"""How a value is shown, by its format: by the template in `templates/formats/` that the format names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import yaml
from django.template.loader import get_template
from django.utils.dateparse import parse_date
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from catalog.definitions import DefinitionInvalid, language_of, overview
from catalog.definitions.kept import data_of_definition
from catalog.documents.formats import FORMATS, Format, format_of, seconds_of
from catalog.documents.refs import InvalidRef, parse_ref
from catalog.kinds import KindView
from catalog.models import Entity
from portal import links
from portal.values import in_words

Titles = Mapping[str, Entity]
_INLINE_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+\Z")


def show(
    value: Any,
    schema: Mapping[str, Any],
    *,
    format_: Format | None = None,
    refs: Iterable[str] = (),
    titles: Titles | None = None,
    is_whole: bool = False,
) -> SafeString:
    """A value as its format has it shown; what does not fit the format is told in words.

    :param refs: of a reference: what it means, complete.
    :param titles: the entities behind refs, as far as the viewer may see them.
    :param is_whole: on a page of its own; else in a list, in few words.
    """
    found = format_ or format_of(schema)
    given: dict[str, Any] = {"value": value, "schema": schema, "is_whole": is_whole}
    if found.shown_as == "folded" and not is_whole:
        # Rows of lists have no time to read a whole API description.
        found, given["value"] = FORMATS["text"], _in_a_word(value, found)
        is_fitting = True
    elif filled := _FILLED.get(found.name):
        given |= filled(value, schema)
        is_fitting = True
    elif found.shown_as == "ref":
        given["chips"] = [links.chip(ref, (titles or {}).get(ref)) for ref in refs]
        is_fitting = bool(given["chips"])
    elif found.shown_as in {"number", "percentage"}:
        is_fitting = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif found.shown_as == "boolean":
        is_fitting = isinstance(value, bool)
    else:
        is_fitting = isinstance(value, (str, dict) if found.shown_as == "labelled-url" else str)
    if not is_fitting:
        found, given["value"] = FORMATS["text"], in_words(value)
    shown: SafeString = get_template(f"formats/{found.shown_as}.html").render(given)  # type: ignore[assignment]
    return shown


def refs_in(value: Any, path: tuple[str, ...], kind: KindView, namespace: str) -> list[str]:
    """What a value that refers to entities means, complete; what is no reference is left out."""
    schema = kind.definition.property_at(path) or {}
    targets = schema.get("targetKinds") or format_of(schema).kinds
    default = kind.definition.default_kind_at(path) or (targets[0] if len(targets) == 1 else None)
    found = []
    for text in value if isinstance(value, list) else [value]:
        try:
            found.append(parse_ref(text, default and default.lower(), namespace).text)
        except (InvalidRef, AttributeError, TypeError):
            continue
    return found


# --- what templates need besides the value ----------------------------------------------------------------


def _day(value: Any, _schema: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"day": parse_date(str(value))}
    except ValueError:
        return {"day": None}


def _moment(value: Any, _schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"moment": moment(value)}


def moment(value: Any) -> datetime | None:
    """A point in time as a document says it; None for what is none."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _duration(value: Any, _schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"seconds": seconds_of(str(value))}


def _enum(value: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    text = str(value)
    labels, colours = schema.get("labels") or {}, schema.get("colours") or {}
    return {"label": labels.get(text, text), "colour": colours.get(text, "")}


def _list(value: Any, _schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"items": [in_words(one) for one in (value if isinstance(value, list) else [value])]}


def _image(value: Any, _schema: Mapping[str, Any]) -> dict[str, Any]:
    # Pages load nothing from other hosts, so such an image is a link.
    return {"is_shown": isinstance(value, str) and bool(_INLINE_IMAGE.match(value))}


def _json(value: Any, _schema: Mapping[str, Any]) -> dict[str, Any]:
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return {"text": text, "language": "json", "summary": _size(value)}


def _yaml(value: Any, _schema: Mapping[str, Any]) -> dict[str, Any]:
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return {"text": text, "language": "yaml", "summary": _size(value)}


def _in_a_word(value: Any, format_: Format) -> str:
    return _size(value) if format_.name in {"json", "yaml"} else str(format_.label)


def _size(value: Any) -> str:
    if isinstance(value, dict):
        return ngettext("%(n)d key", "%(n)d keys", len(value)) % {"n": len(value)}
    if isinstance(value, list):
        return ngettext("%(n)d entry", "%(n)d entries", len(value)) % {"n": len(value)}
    return in_words(value)[:80]


def _definition(value: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    format_ = str(schema.get("format", ""))
    return {"text": text, "language": language_of(text), "summary": _described(text, format_)}


def _described(text: str, format_: str) -> str:
    """What an API's definition calls itself, and how much of it there is."""
    name = str(FORMATS[format_].label)
    try:
        data = data_of_definition(text, format_)
        found = overview(data, format_)
    except DefinitionInvalid:
        return name
    if format_ == "graphql":
        types = len(data["types"])
        size = ngettext("%(n)d type", "%(n)d types", types) % {"n": types}
    elif format_ == "asyncapi":
        channels = len({item.name for item in found.operations})
        size = ngettext("%(n)d channel", "%(n)d channels", channels) % {"n": channels}
    else:
        operations = len(found.operations)
        size = ngettext("%(n)d operation", "%(n)d operations", operations) % {"n": operations}
    titled = " ".join(filter(None, (found.title, found.version)))
    return f"{name}: {titled}, {size}" if titled else f"{name}, {size}"


_FILLED: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "date": _day,
    "date-time": _moment,
    "duration": _duration,
    "enum": _enum,
    "list": _list,
    "image": _image,
    "json": _json,
    "yaml": _yaml,
    "openapi": _definition,
    "asyncapi": _definition,
    "graphql": _definition,
}
