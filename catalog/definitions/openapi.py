"""OpenAPI 3.0 and 3.1, and Swagger 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from catalog.definitions.schemas import NODES, Tree, as_example, resolved
from catalog.definitions.structure import (
    OPERATION,
    TYPE,
    Auth,
    Definition,
    DefinitionInvalid,
    Item,
    Section,
    Server,
    inside,
    listing,
    mapping,
    words,
)

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_SCHEMAS = (("components", "schemas"), ("definitions",))


def overview(data: dict[str, Any]) -> Definition:
    """What it says of itself, and its operations and schemas.

    :raises DefinitionInvalid: if it is no OpenAPI description.
    """
    version = words(data.get("openapi")) or words(data.get("swagger"))
    if not version:
        raise DefinitionInvalid(
            _("An OpenAPI description begins with “openapi” or “swagger”, and a version.")
        )
    info = mapping(data.get("info"))
    return Definition(
        format=f"{'OpenAPI' if 'openapi' in data else 'Swagger'} {version}",
        title=words(info.get("title")),
        version=words(info.get("version")),
        description=words(info.get("description")) or words(info.get("summary")),
        servers=_servers(data),
        auth=list(_auth(data)),
        links=links_of(data, info),
        groups={
            words(tag.get("name")): words(tag.get("description"))
            for tag in map(mapping, listing(data.get("tags")))
        },
        items=[*_in_groups(data, [*_operations(data)]), *_types(data)],
    )


def sections(data: dict[str, Any], item: Item) -> list[Section]:
    """The parts of one of its items."""
    tree = Tree(data)
    if item.sort == TYPE:
        schema = inside(data, item.key)
        return [Section("", nodes=tree.nodes_of(schema), example=as_example(mapping(schema).get("example")))]
    container = mapping(data.get(item.key[0]))
    path = resolved(data, container.get(item.key[1]))
    operation = mapping(path.get(item.key[2]))
    parts = [*_parameters(data, tree, path, operation), *_bodies(data, tree, operation)]
    parts += _answers(data, tree, operation)
    parts += _callbacks(data, tree, operation)
    if needed := _needed(data, operation):
        parts.append(Section(_("Signing in"), description=needed))
    for server in _servers(operation):
        parts.append(Section(_("Server"), note=server.url, description=server.description))
    return parts


def _operations(data: dict[str, Any]) -> Iterator[Item]:
    for container, fallback in (("paths", ""), ("webhooks", _("Webhooks"))):
        for path, found in mapping(data.get(container)).items():
            whole = resolved(data, found)
            for method in METHODS:
                operation = whole.get(method)
                if not isinstance(operation, dict):
                    continue
                tags = [words(tag) for tag in listing(operation.get("tags"))]
                yield Item(
                    sort=OPERATION,
                    verb=method.upper(),
                    name=str(path),
                    group=next(filter(None, tags), fallback),
                    key=(container, str(path), method),
                    summary=words(operation.get("summary")) or words(whole.get("summary")),
                    description=words(operation.get("description")) or words(whole.get("description")),
                    words=" ".join([words(operation.get("operationId")), *tags]),
                    is_deprecated=operation.get("deprecated") is True,
                )


def _in_groups(data: dict[str, Any], items: list[Item]) -> list[Item]:
    """The operations of a tag together, the tags in the order in which the description names them."""
    order = [words(mapping(tag).get("name")) for tag in listing(data.get("tags"))]
    order += [item.group for item in items]
    rank = {name: n for n, name in reversed([*enumerate(order)])}
    return sorted(items, key=lambda item: rank[item.group])


def _types(data: dict[str, Any]) -> Iterator[Item]:
    for way in _SCHEMAS:
        for name, schema in mapping(inside(data, way)).items():
            schema = mapping(schema)
            yield Item(
                sort=TYPE,
                verb=words(schema.get("type")) or "schema",
                name=str(name),
                group=_("Schemas"),
                key=(*way, str(name)),
                summary=words(schema.get("title")),
                description=words(schema.get("description")),
                is_deprecated=schema.get("deprecated") is True,
            )


def _servers(data: dict[str, Any]) -> list[Server]:
    found = []
    for server in map(mapping, listing(data.get("servers"))[:50]):
        variables = mapping(server.get("variables"))
        facts = [
            _("%(name)s: %(values)s")
            % {
                "name": name,
                "values": ", ".join(map(words, listing(mapping(one).get("enum"))[:20]))
                or words(mapping(one).get("default")),
            }
            for name, one in list(variables.items())[:20]
        ]
        found.append(Server(words(server.get("url")), words(server.get("description")), tuple(facts)))
    host, base = words(data.get("host")), words(data.get("basePath"))
    if not found and "swagger" in data and (host or base):
        schemes = [words(one) for one in listing(data.get("schemes"))[:5]] or ["https" if host else ""]
        found = [Server(f"{scheme}://{host}{base}" if host else base) for scheme in schemes]
    return [server for server in found if server.url]


def _auth(data: dict[str, Any]) -> Iterator[Auth]:
    schemes = mapping(mapping(data.get("components")).get("securitySchemes")) or mapping(
        data.get("securityDefinitions")
    )
    for name, scheme in list(schemes.items())[:50]:
        yield auth_of(str(name), resolved(data, scheme))


def auth_of(name: str, scheme: dict[str, Any]) -> Auth:
    """A way to sign in, as OpenAPI and AsyncAPI describe it alike."""
    place = " ".join(filter(None, (words(scheme.get("in")), words(scheme.get("name")))))
    facts = [*filter(None, (place, words(scheme.get("bearerFormat")), words(scheme.get("openIdConnectUrl"))))]
    flows = mapping(scheme.get("flows")) or (
        {words(scheme.get("flow")): scheme} if scheme.get("flow") else {}
    )
    for flow, one in list(flows.items())[:10]:
        scopes = [str(scope) for scope in list(mapping(mapping(one).get("scopes")))[:50]]
        facts.append(f"{flow}: {', '.join(scopes)}" if scopes else str(flow))
    type_ = " ".join(filter(None, (words(scheme.get("type")), words(scheme.get("scheme")))))
    return Auth(name, type_, words(scheme.get("description")), tuple(facts))


def links_of(data: dict[str, Any], info: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the definition says that more stands, and who is to be asked."""
    contact, licence = mapping(info.get("contact")), mapping(info.get("license"))
    documents = mapping(data.get("externalDocs")) or mapping(info.get("externalDocs"))
    mail = words(contact.get("email"))
    found = [
        (words(documents.get("description")) or _("More documentation"), words(documents.get("url"))),
        (
            words(contact.get("name")) or _("Contact"),
            words(contact.get("url")) or (f"mailto:{mail}" if mail else ""),
        ),
        (words(licence.get("name")) or _("Licence"), words(licence.get("url"))),
        (_("Terms of service"), words(info.get("termsOfService"))),
    ]
    return [(label, url) for label, url in found if url or label == words(licence.get("name"))]


def _parameters(
    data: dict[str, Any], tree: Tree, path: dict[str, Any], operation: dict[str, Any]
) -> Iterator[Section]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in [*listing(path.get("parameters")), *listing(operation.get("parameters"))][:NODES]:
        parameter = resolved(data, one)
        found[words(parameter.get("in")), words(parameter.get("name"))] = parameter
    labels = {
        "path": _("Parameters in the path"),
        "query": _("Parameters in the query"),
        "header": _("Parameters in headers"),
        "cookie": _("Parameters in cookies"),
        "querystring": _("The whole query"),
        "formData": _("Body"),
    }
    taken = ", ".join(_types_of(data, operation, "consumes"))
    for place, label in labels.items():
        nodes = []
        for (where, name), parameter in found.items():
            if where == place:
                node = tree.node(
                    name,
                    _schema_of(parameter),
                    is_required=parameter.get("required") is True,
                    description=words(parameter.get("description")),
                )
                node.is_deprecated = node.is_deprecated or parameter.get("deprecated") is True
                nodes.append(node)
        tree.grow()
        if nodes:
            yield Section(label, note=taken if place == "formData" else "", nodes=nodes)
    for (where, _name), one in found.items():
        if where == "body":
            yield Section(
                _("Body"),
                note=taken,
                description=words(one.get("description")),
                nodes=tree.nodes_of(one.get("schema")),
            )


def _schema_of(parameter: dict[str, Any]) -> Any:
    """The schema of a parameter or header: its own, that of its content, or in Swagger itself."""
    for content in mapping(parameter.get("content")).values():
        return mapping(content).get("schema")
    schema = parameter.get("schema")
    if schema is None:
        return {
            key: value
            for key, value in parameter.items()
            if key not in {"in", "name", "required", "description"}
        }
    example = parameter.get("example")
    return {**schema, "example": example} if isinstance(schema, dict) and example is not None else schema


def _types_of(data: dict[str, Any], operation: dict[str, Any], key: str) -> list[str]:
    return [words(one) for one in (listing(operation.get(key)) or listing(data.get(key)))[:10]]


def _bodies(data: dict[str, Any], tree: Tree, operation: dict[str, Any]) -> Iterator[Section]:
    body = resolved(data, operation.get("requestBody"))
    title = _("Body") if body.get("required") is not True else _("Body (required)")
    yield from _contents(data, tree, title, body)


def _contents(data: dict[str, Any], tree: Tree, title: str, whole: dict[str, Any]) -> Iterator[Section]:
    """A section for each content type; those of the same schema share one."""
    description = words(whole.get("description"))
    shown: list[tuple[Any, Section]] = []
    for type_, content in list(mapping(whole.get("content")).items())[:20]:
        media = resolved(data, content)
        schema = media.get("schema") or media.get("itemSchema")
        same = next((section for other, section in shown if other == schema), None)
        if same is not None:
            same.note += f", {type_}"
            continue
        examples = [resolved(data, one).get("value") for one in mapping(media.get("examples")).values()]
        example = media.get("example") if media.get("example") is not None else next(iter(examples), None)
        shown.append(
            (schema, Section(title, str(type_), description, tree.nodes_of(schema), as_example(example)))
        )
    yield from (section for _schema, section in shown)
    if not shown and description:
        yield Section(title, description=description)


def _answers(data: dict[str, Any], tree: Tree, operation: dict[str, Any]) -> Iterator[Section]:
    for status, found in list(mapping(operation.get("responses")).items())[:60]:
        answer = resolved(data, found)
        title = _("Any other answer") if status == "default" else _("Answer %(status)s") % {"status": status}
        if "schema" in answer:  # Swagger
            yield Section(
                title,
                note=", ".join(_types_of(data, operation, "produces")),
                description=words(answer.get("description")),
                nodes=tree.nodes_of(answer["schema"]),
                example=as_example(next(iter(mapping(answer.get("examples")).values()), None)),
            )
        else:
            made = [*_contents(data, tree, title, answer)]
            yield from made or [Section(title)]
        headers = mapping(answer.get("headers"))
        if headers:
            nodes = [
                tree.node(str(name), _schema_of(header), description=words(header.get("description")))
                for name, header in ((name, resolved(data, one)) for name, one in list(headers.items())[:100])
            ]
            tree.grow()
            yield Section(title, note=_("headers"), nodes=nodes)


def _callbacks(data: dict[str, Any], tree: Tree, operation: dict[str, Any]) -> Iterator[Section]:
    for name, found in list(mapping(operation.get("callbacks")).items())[:20]:
        for address, item in list(resolved(data, found).items())[:20]:
            for method in METHODS:
                called = mapping(resolved(data, item).get(method))
                if called:
                    title = _("Callback %(name)s") % {"name": name}
                    note = f"{method.upper()} {address}"
                    yield Section(
                        title, note, words(called.get("description")) or words(called.get("summary"))
                    )
                    yield from _bodies(data, tree, called)


def _needed(data: dict[str, Any], operation: dict[str, Any]) -> str:
    """What one must sign in with, in words."""
    options = operation.get("security", data.get("security"))
    if not isinstance(options, list):
        return ""
    ways = []
    for option in map(mapping, options[:20]):
        ways.append(
            _(" and ").join(
                f"{name} ({', '.join(map(words, listing(scopes)))})" if listing(scopes) else str(name)
                for name, scopes in option.items()
            )
            or _("nothing")
        )
    return _(", or ").join(ways) if ways else _("nothing")
