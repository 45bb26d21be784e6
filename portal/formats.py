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

from base.errors import DomainError
from base.safe_yaml import parse_documents
from catalog.documents.formats import FORMATS, Format, format_of, seconds_of
from catalog.documents.refs import InvalidRef, parse_ref
from catalog.kinds import KindView
from catalog.models import Entity
from portal import links
from portal.values import in_words

Titles = Mapping[str, Entity]
_INLINE_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+\Z")
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


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
    if schema.get("format") == "graphql":
        types = len(re.findall(r"^\s*(?:type|interface|input|enum|union|scalar)\s+\w", text, re.MULTILINE))
        summary = ngettext("GraphQL, %(n)d type", "GraphQL, %(n)d types", types) % {"n": types}
        return {"text": text, "language": "graphql", "summary": summary}
    return {
        "text": text,
        "language": "json" if text.lstrip().startswith("{") else "yaml",
        "summary": _described(text, str(schema.get("format", ""))),
    }


def _described(text: str, format_: str) -> str:
    """What an API's definition calls itself, and how much of it there is."""
    name = str(FORMATS[format_].label) if format_ in FORMATS else ""
    try:
        documents = parse_documents(text, name=name)
    except DomainError:
        return name
    data = documents[0].data if documents and documents[0].error is None else None
    if not isinstance(data, dict):
        return name
    info = data["info"] if isinstance(data.get("info"), dict) else {}
    paths = data["paths"] if isinstance(data.get("paths"), dict) else {}
    if format_ == "openapi":
        n = sum(len(_METHODS & set(item)) for item in paths.values() if isinstance(item, dict))
        size = ngettext("%(n)d operation", "%(n)d operations", n) % {"n": n}
    else:
        n = len(data["channels"]) if isinstance(data.get("channels"), dict) else 0
        size = ngettext("%(n)d channel", "%(n)d channels", n) % {"n": n}
    titled = " ".join(str(info[key]) for key in ("title", "version") if info.get(key))
    return ", ".join(filter(None, [f"{name}: {titled}" if titled else name, size]))


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
