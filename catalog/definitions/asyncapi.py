"""AsyncAPI 2 and 3."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.utils.translation import gettext as _

from catalog.definitions.openapi import auth_of, links_of
from catalog.definitions.schemas import Tree, as_example, name_of, resolved
from catalog.definitions.structure import (
    OPERATION,
    TYPE,
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

CHANNEL = "channel"
_MESSAGES = 50  # of one operation: thousands of operations may name one channel of thousands of messages


def overview(data: dict[str, Any]) -> Definition:
    """What it says of itself, and its channels, operations and schemas.

    :raises DefinitionInvalid: if it is no AsyncAPI description.
    """
    version = words(data.get("asyncapi"))
    if not version:
        raise DefinitionInvalid(_("An AsyncAPI description begins with “asyncapi” and a version."))
    info = mapping(data.get("info"))
    channels = {str(name): resolved(data, one) for name, one in mapping(data.get("channels")).items()}
    schemes = mapping(mapping(data.get("components")).get("securitySchemes"))
    found = [*_of_three(data, channels)] if version.startswith("3") else [*_of_two(data, channels)]
    return Definition(
        format=f"AsyncAPI {version}",
        title=words(info.get("title")),
        version=words(info.get("version")),
        description=words(info.get("description")),
        servers=[*_servers(data)],
        auth=[auth_of(str(name), resolved(data, one)) for name, one in list(schemes.items())[:50]],
        links=links_of(data, info),
        groups={
            _address(name, channel): words(channel.get("description")) or words(channel.get("summary"))
            for name, channel in channels.items()
        },
        items=[*found, *_types(data)],
    )


def sections(data: dict[str, Any], item: Item) -> list[Section]:
    """The parts of one of its items."""
    tree = Tree(data)
    if item.sort == TYPE:
        found = inside(data, item.key)
        if item.key[1] == "messages":
            return [*_message(data, tree, found)]
        return [Section("", nodes=tree.nodes_of(found))]
    if item.key[0] == "operations":
        operation = resolved(data, mapping(data.get("operations")).get(item.key[1]))
        channel = resolved(data, operation.get("channel"))
        messages = _messages(operation, channel)
        reply = resolved(data, operation.get("reply"))
    else:
        channel = resolved(data, mapping(data.get("channels")).get(item.key[1]))
        operation = mapping(channel.get(item.verb))
        messages = _messages({}, channel) or _messages_of_two(data, operation)
        reply = {}
    parts = [*_parameters(data, tree, channel)]
    for message in messages:
        parts += _message(data, tree, message)
    for message in _messages(reply, resolved(data, reply.get("channel"))):
        parts += _message(data, tree, message, title=_("Reply"))
    for what, bindings in (
        (_("Channel"), channel.get("bindings")),
        (_("Operation"), operation.get("bindings")),
    ):
        for protocol, binding in list(resolved(data, bindings).items())[:10]:
            if mapping(binding):
                parts.append(Section(_("%(what)s over %(protocol)s") % {"what": what, "protocol": protocol},
                                     example=as_example(binding)))  # fmt: skip
    return parts


def _address(name: str, channel: dict[str, Any]) -> str:
    """Where a channel is: in AsyncAPI 2 its name."""
    return words(channel.get("address")) or name


def _of_two(data: dict[str, Any], channels: dict[str, dict[str, Any]]) -> Iterator[Item]:
    for name, channel in channels.items():
        verbs = [verb for verb in ("publish", "subscribe") if isinstance(channel.get(verb), dict)]
        for verb in verbs or [CHANNEL]:
            operation = mapping(channel.get(verb))
            yield _item(
                data, operation, verb, name, name, ("channels", name), _messages_of_two(data, operation)
            )


def _of_three(data: dict[str, Any], channels: dict[str, dict[str, Any]]) -> Iterator[Item]:
    used: dict[str, list[Item]] = {name: [] for name in channels}
    loose: list[Item] = []
    for name, found in mapping(data.get("operations")).items():
        operation = resolved(data, found)
        channel_name = name_of(mapping(operation.get("channel")).get("$ref"))
        channel = channels.get(channel_name) or resolved(data, operation.get("channel"))
        messages = _messages(operation, channel)
        address = _address(channel_name or str(name), channel)
        verb = words(operation.get("action")) or "operation"
        item = _item(data, operation, verb, address, address, ("operations", str(name)), messages)
        item.words += f" {name}"
        used.get(channel_name, loose).append(item)
    for name, channel in channels.items():
        if not used[name]:
            address = _address(name, channel)
            messages = _messages({}, channel)
            used[name].append(_item(data, channel, CHANNEL, address, address, ("channels", name), messages))
    for items in (*used.values(), loose):
        yield from items


def _item(
    data: dict[str, Any],
    operation: dict[str, Any],
    verb: str,
    name: str,
    group: str,
    key: tuple[str, ...],
    messages: list[Any],
) -> Item:
    named = [_name_of_message(data, message) for message in messages[:20]]
    said = [words(resolved(data, message).get("summary")) for message in messages[:20]]
    return Item(
        sort=OPERATION,
        verb=verb,
        name=name,
        group=group,
        key=key,
        summary=words(operation.get("summary"))
        or words(operation.get("title"))
        or next(filter(None, said), "")
        or ", ".join(filter(None, named)),
        description=words(operation.get("description")),
        words=" ".join([words(operation.get("operationId")), *named, *said]),
        is_deprecated=operation.get("deprecated") is True,
    )


def _messages(named: dict[str, Any], channel: dict[str, Any]) -> list[Any]:
    """Those that an operation or a reply names, else those of its channel."""
    own = listing(named.get("messages"))
    return own[:_MESSAGES] or [*islice(mapping(channel.get("messages")).values(), _MESSAGES)]


def _messages_of_two(data: dict[str, Any], operation: dict[str, Any]) -> list[Any]:
    message = operation.get("message")
    if message is None:
        return []
    options = listing(resolved(data, message).get("oneOf"))
    return options[:_MESSAGES] or [message]


def _name_of_message(data: dict[str, Any], message: Any) -> str:
    whole = resolved(data, message)
    return words(whole.get("title")) or words(whole.get("name")) or name_of(mapping(message).get("$ref"))


def _types(data: dict[str, Any]) -> Iterator[Item]:
    components = mapping(data.get("components"))
    for part, verb, group in (("messages", "message", _("Messages")), ("schemas", "schema", _("Schemas"))):
        for name, found in mapping(components.get(part)).items():
            whole = mapping(found)
            yield Item(
                sort=TYPE,
                verb=verb,
                name=str(name),
                group=group,
                key=("components", part, str(name)),
                summary=words(whole.get("title")) or words(whole.get("summary")),
                description=words(whole.get("description")),
                is_deprecated=whole.get("deprecated") is True,
            )


def _servers(data: dict[str, Any]) -> Iterator[Server]:
    for name, found in list(mapping(data.get("servers")).items())[:50]:
        server = resolved(data, found)
        url = words(server.get("url"))
        if not url and words(server.get("host")):
            url = f"{words(server.get('protocol'))}://{words(server['host'])}{words(server.get('pathname'))}"
        facts = [str(name), words(server.get("protocol")), words(server.get("protocolVersion"))]
        yield Server(url, words(server.get("description")), tuple(filter(None, facts)))


def _parameters(data: dict[str, Any], tree: Tree, channel: dict[str, Any]) -> Iterator[Section]:
    nodes = []
    for name, found in list(mapping(channel.get("parameters")).items())[:100]:
        parameter = resolved(data, found)
        schema = parameter.get("schema") or {**parameter, "type": "string"}
        nodes.append(
            tree.node(str(name), schema, is_required=True, description=words(parameter.get("description")))
        )
    tree.grow()
    if nodes:
        yield Section(_("Parameters in the address"), nodes=nodes)


def _message(data: dict[str, Any], tree: Tree, message: Any, *, title: str = "") -> Iterator[Section]:
    name = _name_of_message(data, message)
    whole = resolved(data, message)
    for trait in listing(whole.get("traits"))[:10]:
        whole = {**resolved(data, trait), **whole}
    note = words(whole.get("contentType")) or words(data.get("defaultContentType"))
    title = title or _("Message")
    title = f"{title} {name}".strip()
    for part, label in (("headers", _("headers")), ("payload", note)):
        schema = whole.get(part)
        if schema is None:
            continue
        format_ = words(whole.get("schemaFormat")) or words(mapping(schema).get("schemaFormat"))
        if "schemaFormat" in mapping(schema):
            schema = mapping(schema).get("schema")
        section = Section(title, label)
        if format_ and not any(
            word in format_ for word in ("asyncapi", "schema+json", "schema+yaml", "openapi")
        ):
            section.note = ", ".join(filter(None, (label, format_)))
            section.example = as_example(schema)  # a schema of another language, as it stands
        else:
            section.nodes = tree.nodes_of(schema)
        if part == "payload":
            section.description = words(whole.get("description")) or words(whole.get("summary"))
            examples = listing(whole.get("examples"))
            if examples and not section.example:
                section.example = as_example(mapping(examples[0]).get("payload", examples[0]))
        yield section
    if "payload" not in whole and "headers" not in whole:
        yield Section(title, note, words(whole.get("description")) or words(whole.get("summary")))
