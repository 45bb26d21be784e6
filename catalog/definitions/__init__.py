"""Definitions of APIs: OpenAPI, AsyncAPI and GraphQL, read into one structure.

`parse_definition` turns a text into plain data, which is what takes time; `overview` and `sections` say what the data
mean. Whatever stands there is foreign: everything is bounded, nothing outside of the text is fetched.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from django.utils.translation import gettext as _

from base import limits, safe_yaml
from catalog.definitions import asyncapi, graphql, openapi
from catalog.definitions.structure import (
    OPERATION,
    TYPE,
    Auth,
    Definition,
    DefinitionInvalid,
    Item,
    Node,
    Section,
    Server,
)

__all__ = [
    "OPERATION",
    "TYPE",
    "Auth",
    "Definition",
    "DefinitionInvalid",
    "Item",
    "Node",
    "Section",
    "Server",
    "format_of_definition",
    "language_of",
    "overview",
    "parse_definition",
    "sections",
]

_FORMATS: dict[str, Any] = {"openapi": openapi, "asyncapi": asyncapi, "graphql": graphql}
_MARK = re.compile(r"""^[ \t{]*["']?(openapi|swagger|asyncapi)["']?[ \t]*:""", re.MULTILINE)
_GRAPHQL = (
    "type ",
    "schema ",
    "schema{",
    "extend ",
    "interface ",
    "enum ",
    "input ",
    "scalar ",
    "directive ",
    '"""',
)
_JSON = re.compile(r"\s*\{\s*[\"}]")  # where the keys are in quotes; else braces are YAML
_LOOK = 20_000


def format_of_definition(text: str, type_: str) -> str:
    """Which format a text is in, by its type or by how it begins; empty if it is another one."""
    named = type_.strip().lower()
    if named in _FORMATS:
        return named
    if found := _MARK.search(text[:_LOOK]):
        return "asyncapi" if found[1] == "asyncapi" else "openapi"
    return "graphql" if language_of(text) == "graphql" else ""


def language_of(text: str) -> str:
    """How to highlight it: what it begins with says more than the word for its type."""
    start = text.lstrip()
    if start.startswith(("{", "[")):
        return "json"
    if start.startswith(("syntax", "package ", "service ", "message ")):
        return "protobuf"
    first = next(
        (line for line in start[:_LOOK].splitlines() if line.strip() and not line.lstrip().startswith("#")),
        "",
    )
    return "graphql" if first.lstrip().startswith(_GRAPHQL) else "yaml"


def parse_definition(text: str, format_: str) -> dict[str, Any]:
    """A definition's text as plain data.

    :raises DefinitionInvalid: if it cannot be read; says where.
    """
    try:
        limits.check_size(len(text), limits.MAX_STRING, what=_("The definition"))
        return graphql.parse_schema(text) if format_ == "graphql" else _data_of(text)
    except (limits.LimitExceeded, safe_yaml.YamlError) as error:
        reason = getattr(error, "reason", error.message)
        place = {name: getattr(error, name, 0) for name in ("line", "column")}
        raise DefinitionInvalid(reason, **place) from error


def _data_of(text: str) -> dict[str, Any]:
    if _JSON.match(text):
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            message = error.msg[:1].upper() + error.msg[1:]
            raise DefinitionInvalid(message, line=error.lineno, column=error.colno) from error
        limits.check_data(data, what=_("The definition"))
    else:
        data = safe_yaml.load(text, name="definition")
    if not isinstance(data, dict):
        raise DefinitionInvalid(_("An object is expected, but the text is something else."), line=1, column=1)
    return data


def overview(data: dict[str, Any], format_: str) -> Definition:
    """What the definition says of itself, and its items without their parts.

    :raises DefinitionInvalid: if the data are not of the format.
    """
    found: Definition = _FORMATS[format_].overview(data)
    return found


def sections(data: dict[str, Any], format_: str, item: Item) -> list[Section]:
    """The parts of one item: parameters, bodies, answers, messages, arguments."""
    found: list[Section] = _FORMATS[format_].sections(data, item)
    return found
