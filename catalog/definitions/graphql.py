"""GraphQL schemas in their own language."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.utils.translation import gettext as _
from graphql import GraphQLSyntaxError, Source, parse, print_ast
from graphql.language import ast

from catalog.definitions.schemas import Tree
from catalog.definitions.structure import (
    OPERATION,
    TYPE,
    Definition,
    DefinitionInvalid,
    Item,
    Section,
    mapping,
    words,
)

TOKENS = 400_000
_ROOTS = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}
_SORTS: dict[type[ast.Node], str] = {
    ast.ObjectTypeDefinitionNode: "type",
    ast.ObjectTypeExtensionNode: "type",
    ast.InterfaceTypeDefinitionNode: "interface",
    ast.InterfaceTypeExtensionNode: "interface",
    ast.InputObjectTypeDefinitionNode: "input",
    ast.InputObjectTypeExtensionNode: "input",
    ast.UnionTypeDefinitionNode: "union",
    ast.UnionTypeExtensionNode: "union",
    ast.EnumTypeDefinitionNode: "enum",
    ast.EnumTypeExtensionNode: "enum",
    ast.ScalarTypeDefinitionNode: "scalar",
    ast.ScalarTypeExtensionNode: "scalar",
}


def parse_schema(text: str) -> dict[str, Any]:
    """A schema as plain data: its types as JSON Schemas below `types`, and which of them are asked first.

    :raises DefinitionInvalid: if it is no GraphQL schema; says the line and the column.
    """
    try:
        document = parse(Source(text), no_location=True, max_tokens=TOKENS)
    except GraphQLSyntaxError as error:
        place = error.locations[0] if error.locations else None
        message = error.message.removeprefix("Syntax Error: ")
        raise DefinitionInvalid(
            message, line=place.line if place else 0, column=place.column if place else 0
        ) from error
    found: dict[str, Any] = {"graphql": "", "roots": {}, "types": {}, "directives": {}}
    roots: dict[str, str] = {}
    for node in document.definitions:
        if isinstance(node, (ast.SchemaDefinitionNode, ast.SchemaExtensionNode)):
            for one in node.operation_types or ():
                roots[one.operation.value] = one.type.name.value
            found["graphql"] = found["graphql"] or _said(node)
        elif isinstance(node, ast.DirectiveDefinitionNode):
            places = ", ".join(one.value for one in node.locations)
            found["directives"][node.name.value] = {
                "description": _said(node),
                "arguments": _arguments(node.arguments),
                "places": places,
            }
        elif type(node) in _SORTS:
            _add_type(found["types"], _SORTS[type(node)], node)
    if not found["types"]:
        raise DefinitionInvalid(_("A GraphQL schema declares types, but here is none."), line=1, column=1)
    found["roots"] = roots or {verb: name for verb, name in _ROOTS.items() if name in found["types"]}
    return found


def overview(data: dict[str, Any]) -> Definition:
    """Its queries, mutations and subscriptions, then its types."""
    types = mapping(data.get("types"))
    roots = mapping(data.get("roots"))
    labels = {"query": _("Queries"), "mutation": _("Mutations"), "subscription": _("Subscriptions")}
    items = []
    for verb, label in labels.items():
        root = roots.get(verb, "")
        for name, field in mapping(mapping(types.get(root)).get("properties")).items():
            items.append(
                Item(
                    sort=OPERATION,
                    verb=verb,
                    name=name,
                    group=label,
                    key=(root, name),
                    summary=_signature(field),
                    description=words(field.get("description")),
                    words=" ".join(mapping(field.get("arguments"))),
                    is_deprecated=field.get("deprecated") is True,
                )
            )
    for name, found in types.items():
        if name not in roots.values():
            items.append(
                Item(
                    sort=TYPE,
                    verb=words(found.get("sort")),
                    name=name,
                    group=_("Types"),
                    key=("types", name),
                    summary=_("implements %(interfaces)s") % {"interfaces": ", ".join(found["implements"])}
                    if found.get("implements")
                    else "",
                    description=words(found.get("description")),
                )
            )
    for name, found in mapping(data.get("directives")).items():
        items.append(
            Item(
                sort=TYPE,
                verb="directive",
                name=f"@{name}",
                group=_("Directives"),
                key=("directives", name),
                summary=words(found.get("places")),
                description=words(found.get("description")),
            )
        )
    return Definition(format="GraphQL", description=words(data.get("graphql")), items=items)


def sections(data: dict[str, Any], item: Item) -> list[Section]:
    """The parts of one of its items."""
    tree = Tree(data)
    types = mapping(data.get("types"))
    place, name = item.key
    if place == "types":
        whole = mapping(types.get(name))
        parts = [Section("", nodes=tree.nodes_of(whole))]
        for called, one in mapping(whole.get("properties")).items():
            parts += _takes(tree, mapping(one), _("Arguments of %(field)s") % {"field": called})
        return parts
    if place == "directives":
        return _takes(tree, mapping(mapping(data.get("directives")).get(name)))
    field = mapping(mapping(mapping(types.get(place)).get("properties")).get(name))
    takes = _takes(tree, field)  # first, for the answer takes what room is left
    inner = {key: field[key] for key in ("$ref", "x-type") if key in field}
    return [*takes, Section(_("Answer"), note=words(field.get("x-type")), nodes=tree.nodes_of(inner))]


def _takes(tree: Tree, field: dict[str, Any], title: str = "") -> list[Section]:
    nodes = [
        tree.node(name, one, is_required=words(one.get("x-type")).endswith("!") and "default" not in one)
        for name, one in islice(mapping(field.get("arguments")).items(), tree.left)
    ]
    tree.grow()
    return [Section(title or _("Arguments"), nodes=nodes)] if nodes else []


def _signature(field: dict[str, Any]) -> str:
    takes = words(field.get("x-takes"))
    return f"({takes}): {words(field.get('x-type'))}" if takes else words(field.get("x-type"))


def _add_type(types: dict[str, Any], sort: str, node: Any) -> None:
    """Add a type, or what an extension says of it."""
    name = node.name.value
    made = types.setdefault(
        name, {"sort": sort, "x-type": name, "type": "object" if sort != "scalar" else ""}
    )
    if said := _said(node):
        made.setdefault("description", said)
    fields = made.setdefault("properties", {})
    for field in getattr(node, "fields", None) or ():
        fields.setdefault(field.name.value, _field(field))
    for value in getattr(node, "values", None) or ():
        fields[value.name.value] = {"description": _said(value), "x-type": "", **_deprecation(value)}
    for member in getattr(node, "types", None) or ():
        fields[member.name.value] = {"$ref": f"#/types/{member.name.value}", "x-type": ""}
    interfaces = [one.name.value for one in getattr(node, "interfaces", None) or ()]
    if interfaces:
        made["implements"] = sorted({*made.get("implements", ()), *interfaces})


def _field(node: ast.FieldDefinitionNode | ast.InputValueDefinitionNode) -> dict[str, Any]:
    arguments = _arguments(getattr(node, "arguments", None))
    inner: Any = node.type
    while not isinstance(inner, ast.NamedTypeNode):
        inner = inner.type
    made: dict[str, Any] = {
        "x-type": print_ast(node.type),
        "description": _said(node),
        **_deprecation(node),
    }
    if inner.name.value not in {"Int", "Float", "String", "Boolean", "ID"}:
        made["$ref"] = f"#/types/{inner.name.value}"
    if arguments:
        made["arguments"] = arguments
        made["x-takes"] = ", ".join(f"{name}: {one['x-type']}" for name, one in arguments.items())
    if isinstance(node, ast.InputValueDefinitionNode) and node.default_value is not None:
        made["default"] = print_ast(node.default_value)
    return made


def _arguments(nodes: Iterable[ast.InputValueDefinitionNode] | None) -> dict[str, Any]:
    return {node.name.value: _field(node) for node in nodes or ()}


def _said(node: Any) -> str:
    said = getattr(node, "description", None)
    return said.value.strip() if said is not None else ""


def _deprecation(node: Any) -> dict[str, Any]:
    for directive in node.directives or ():
        if directive.name.value == "deprecated":
            reason = next(
                (one.value for one in directive.arguments or () if one.name.value == "reason"), None
            )
            why = reason.value if isinstance(reason, ast.StringValueNode) else ""
            said = _said(node)
            return {"deprecated": True, "description": " ".join(filter(None, (said, why)))}
    return {}
