"""Definitions of APIs become one structure, whatever their format, and nothing that stands in one does harm."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.cache import cache
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.definitions import (
    DefinitionInvalid,
    Item,
    Node,
    Section,
    format_of_definition,
    overview,
    parse_definition,
    sections,
)
from catalog.definitions import kept as keeping
from catalog.definitions.kept import data_of_definition
from catalog.definitions.schemas import NODES, Tree

PETS = """
openapi: 3.1.0
info: {title: Pets, version: "2", license: {name: MIT}, contact: {email: pets@acme.example}}
servers: [{url: "https://{env}.acme.example", variables: {env: {enum: [test, live], default: test}}}]
security: [{key: []}, {login: [read]}]
tags: [{name: Shops}, {name: Pets, description: All *about* pets.}]
paths:
  /pets/{id}:
    parameters:
      - {$ref: "#/components/parameters/Id"}
    get:
      tags: [Pets]
      operationId: readPet
      summary: One pet
      responses:
        "200":
          description: It
          headers: {ETag: {schema: {type: string}}}
          content: {application/json: {schema: {$ref: "#/components/schemas/Pet"}}}
        default: {$ref: "#/components/responses/Wrong"}
    delete: {tags: [Pets], deprecated: true, security: [], responses: {"204": {description: Gone}}}
  /shops:
    post:
      tags: [Shops]
      requestBody:
        required: true
        content:
          application/json: {schema: {type: array, items: {$ref: "#/components/schemas/Pet"}}, example: [{name: Rex}]}
          application/yaml: {schema: {type: array, items: {$ref: "#/components/schemas/Pet"}}}
      callbacks:
        sold: {"{$request.body#/url}": {post: {summary: It was sold, responses: {}}}}
      responses: {}
webhooks:
  newPet: {post: {summary: A pet came, responses: {}}}
components:
  parameters:
    Id: {name: id, in: path, required: true, description: Whose, schema: {type: integer, minimum: 1}}
  responses:
    Wrong: {description: It went wrong, content: {text/plain: {schema: {type: string}}}}
  schemas:
    Pet:
      type: object
      required: [name]
      properties:
        name: {type: string, maxLength: 40}
        sort: {enum: [cat, dog], default: cat}
        parents: {type: array, items: {$ref: "#/components/schemas/Pet"}}
        home: {allOf: [{$ref: "#/components/schemas/Place"}, {properties: {since: {type: string, format: date}}}]}
        born: {type: [string, "null"], deprecated: true}
        elsewhere: {$ref: "other.yaml#/X"}
    Place: {type: object, required: [city], properties: {city: {type: string}}}
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
    login: {type: oauth2, flows: {clientCredentials: {tokenUrl: "https://acme.example", scopes: {read: Reading}}}}
"""


def read(text: str, format_: str = "openapi") -> tuple[Any, Any]:
    data = parse_definition(text, format_)
    return data, overview(data, format_)


def parts(text: str, anchor: str, format_: str = "openapi") -> list[Section]:
    data, found = read(text, format_)
    item = found.item(anchor)
    assert item is not None, [one.anchor for one in found.items]
    return sections(data, format_, item)


def tree(nodes: list[Node]) -> dict[str, Any]:
    return {node.name: tree(node.children) for node in nodes}


def node(nodes: list[Node], *path: str) -> Node:
    for name in path:
        found = next(one for one in nodes if one.name == name)
        nodes = found.children
    return found


class TestOpenApi:
    def test_it_says_what_it_is_and_its_operations_stand_by_tag(self) -> None:
        _data, found = read(PETS)
        assert (found.format, found.title, found.version) == ("OpenAPI 3.1.0", "Pets", "2")
        assert [server.url for server in found.servers] == ["https://{env}.acme.example"]
        assert found.servers[0].facts == ("env: test, live",)
        assert [(one.name, one.type) for one in found.auth] == [("key", "apiKey"), ("login", "oauth2")]
        assert found.auth[1].facts == ("clientCredentials: read",)
        assert found.links == [("Contact", "mailto:pets@acme.example"), ("MIT", "")]
        assert [(item.group, item.label) for item in found.operations] == [
            ("Shops", "POST /shops"),
            ("Pets", "GET /pets/{id}"),
            ("Pets", "DELETE /pets/{id}"),
            ("Webhooks", "POST newPet"),
        ]
        assert [item.is_deprecated for item in found.operations] == [False, False, True, False]
        assert found.groups["Pets"] == "All *about* pets."
        assert [item.name for item in found.items if item.sort == "type"] == ["Pet", "Place"]

    def test_an_operation_has_its_parameters_answers_and_ways_to_sign_in(self) -> None:
        shown = parts(PETS, "get-pets-id")
        assert [(part.title, part.note) for part in shown] == [
            ("Parameters in the path", ""),
            ("Answer 200", "application/json"),
            ("Answer 200", "headers"),
            ("Any other answer", "text/plain"),
            ("Signing in", ""),
        ]
        id_ = shown[0].nodes[0]
        assert (id_.name, id_.type, id_.is_required, id_.facts, id_.description) == (
            "id", "integer", True, ["at least 1"], "Whose",
        )  # fmt: skip
        assert shown[-1].description == "key, or login (read)"
        assert parts(PETS, "delete-pets-id")[-1].description == "nothing"

    def test_a_schema_is_followed_through_its_references_and_circles(self) -> None:
        pet = parts(PETS, "get-pets-id")[1].nodes
        assert tree(pet) == {
            "name": {},
            "sort": {},
            "parents": {},
            "home": {"city": {}, "since": {}},
            "born": {},
            "elsewhere": {},
        }
        assert node(pet, "name").is_required
        assert node(pet, "home", "city").is_required
        assert node(pet, "sort").facts == ["one of cat, dog", "default “cat”"]
        assert (node(pet, "parents").type, node(pet, "parents").note) == (
            "list of Pet",
            "As above: it contains itself.",
        )
        assert node(pet, "home", "since").type == "string (date)"
        assert (node(pet, "born").type, node(pet, "born").is_deprecated) == ("string or null", True)
        assert node(pet, "elsewhere").note == "other.yaml#/X is no part of this definition."

    def test_bodies_of_the_same_schema_stand_once_and_callbacks_are_told(self) -> None:
        shown = parts(PETS, "post-shops")
        assert [(part.title, part.note) for part in shown[:2]] == [
            ("Body (required)", "application/json, application/yaml"),
            ("Callback sold", "POST {$request.body#/url}"),
        ]
        assert "Rex" in shown[0].example

    def test_an_option_is_one_of_some(self) -> None:
        options = {"oneOf": [{"type": "object", "title": "A", "properties": {"a": {}}}, {"type": "null"}]}
        made = Tree({}).nodes_of(options)
        assert tree(made) == {"option 1": {"a": {}}}
        assert Tree({}).type_of(options) == "object or null"

    def test_swagger_2_has_the_same_parts(self) -> None:
        text = """
            {"swagger": "2.0", "info": {"title": "Old", "version": "1"}, "host": "acme.example",
             "basePath": "/v1", "schemes": ["https"], "consumes": ["application/json"],
             "produces": ["application/json"],
             "securityDefinitions": {"o": {"type": "oauth2", "flow": "implicit", "scopes": {"w": ""}}},
             "definitions": {"Pet": {"type": "object", "properties": {"name": {"type": "string"}}}},
             "paths": {"/pets": {
               "post": {"parameters": [{"in": "body", "name": "b", "schema": {"$ref": "#/definitions/Pet"}},
                                       {"in": "query", "name": "dry", "type": "boolean", "default": false}],
                        "responses": {"200": {"description": "It", "schema": {"$ref": "#/definitions/Pet"}}}},
               "put": {"parameters": [{"in": "formData", "name": "file", "type": "file", "required": true}],
                       "responses": {}}}}}"""
        _data, found = read(text)
        assert (found.format, found.servers[0].url) == ("Swagger 2.0", "https://acme.example/v1")
        assert found.auth[0].facts == ("implicit: w",)
        shown = parts(text, "post-pets")
        assert [(part.title, part.note, tree(part.nodes)) for part in shown] == [
            ("Parameters in the query", "", {"dry": {}}),
            ("Body", "application/json", {"name": {}}),
            ("Answer 200", "application/json", {"name": {}}),
        ]
        assert shown[0].nodes[0].facts == ["default false"]
        assert parts(text, "put-pets")[0].nodes[0].is_required


class TestAsyncApi:
    def test_version_2(self) -> None:
        text = """
            asyncapi: 2.6.0
            info: {title: Lights, version: "1"}
            servers: {live: {url: "mqtt.acme.example:{port}", protocol: mqtt}}
            channels:
              lights/{id}/on:
                description: To turn it on.
                parameters: {id: {description: Which, schema: {type: string}}}
                subscribe:
                  operationId: turnOn
                  message: {oneOf: [{$ref: "#/components/messages/On"}, {name: Off}]}
              empty: {}
            components:
              messages:
                On: {summary: Turn on, contentType: application/json, headers: {properties: {h: {}}},
                     payload: {$ref: "#/components/schemas/P"}, examples: [{payload: {at: now}}]}
              schemas: {P: {type: object, properties: {at: {type: string}}}}
              securitySchemes: {u: {type: userPassword}}"""
        _data, found = read(text, "asyncapi")
        assert [(item.verb, item.name, item.summary) for item in found.operations] == [
            ("subscribe", "lights/{id}/on", "Turn on"),
            ("channel", "empty", ""),
        ]
        assert found.servers[0].facts == ("live", "mqtt")
        assert [one.name for one in found.auth] == ["u"]
        shown = parts(text, "subscribe-lights-id-on", "asyncapi")
        assert [(part.title, part.note, tree(part.nodes)) for part in shown] == [
            ("Parameters in the address", "", {"id": {}}),
            ("Message On", "headers", {"h": {}}),
            ("Message On", "application/json", {"at": {}}),
            ("Message Off", "", {}),
        ]
        assert "now" in shown[2].example

    def test_version_3(self) -> None:
        text = """
            asyncapi: 3.0.0
            info: {title: Lights, version: "1"}
            servers: {live: {host: mq.acme.example, pathname: /v, protocol: amqp}}
            channels:
              on: {address: "lights.{id}", messages: {turn: {payload: {type: object, properties: {a: {}}}}}}
              replies: {address: null, messages: {done: {name: Done, payload: {type: string}}}}
            operations:
              turnOn:
                action: send
                channel: {$ref: "#/channels/on"}
                summary: Turn it on
                messages: [{$ref: "#/channels/on/messages/turn"}]
                reply: {channel: {$ref: "#/channels/replies"}}"""
        _data, found = read(text, "asyncapi")
        assert found.servers[0].url == "amqp://mq.acme.example/v"
        assert [(item.verb, item.name, item.summary) for item in found.operations] == [
            ("send", "lights.{id}", "Turn it on"),
            ("channel", "replies", "Done"),
        ]
        assert found.operations[0].has(["turnon"])
        shown = parts(text, "send-lights-id", "asyncapi")
        assert [(part.title, tree(part.nodes)) for part in shown] == [
            ("Message turn", {"a": {}}),
            ("Reply Done", {"string": {}}),
        ]

    def test_a_schema_of_another_language_stands_as_it_is(self) -> None:
        text = """
            asyncapi: 3.0.0
            info: {title: x, version: "1"}
            channels:
              a: {messages: {m: {payload: {schemaFormat: application/vnd.apache.avro, schema: {type: record}}}}}"""
        shown = parts(text, "channel-a", "asyncapi")
        assert shown[0].note == "application/vnd.apache.avro"
        assert "record" in shown[0].example


class TestGraphQl:
    TEXT = '''
        """The shop."""
        schema { query: Root, mutation: Change }
        type Root { "All pets" pets(first: Int = 10, by: Filter!): [Pet!]! old: String @deprecated(reason: "Use pets") }
        extend type Root { shop: Shop }
        type Change { add(pet: NewPet!): Pet }
        interface Named { name: String! }
        type Pet implements Named { name: String! owner: Person friends(first: Int): [Pet!] }
        type Person { pets: [Pet] }
        input NewPet { name: String! sort: Sort = CAT }
        input Filter { name: String }
        enum Sort { "It purrs" CAT DOG @deprecated }
        union Shop = Pet | Person
        scalar Time
        directive @own(of: String) on FIELD_DEFINITION'''

    def test_what_can_be_asked_comes_first_and_types_follow(self) -> None:
        _data, found = read(self.TEXT, "graphql")
        assert [(item.verb, item.name, item.summary) for item in found.operations] == [
            ("query", "pets", "(first: Int, by: Filter!): [Pet!]!"),
            ("query", "old", "String"),
            ("query", "shop", "Shop"),
            ("mutation", "add", "(pet: NewPet!): Pet"),
        ]
        assert [item.is_deprecated for item in found.operations] == [False, True, False, False]
        assert found.description == "The shop."
        assert {(item.verb, item.name) for item in found.items if item.sort == "type"} == {
            ("interface", "Named"), ("type", "Pet"), ("type", "Person"), ("input", "NewPet"),
            ("input", "Filter"), ("enum", "Sort"), ("union", "Shop"), ("scalar", "Time"), ("directive", "@own"),
        }  # fmt: skip

    def test_arguments_and_answers(self) -> None:
        takes, answer = parts(self.TEXT, "query-pets", "graphql")
        assert [(one.name, one.type, one.is_required, one.facts) for one in takes.nodes] == [
            ("first", "Int", False, ["default “10”"]),
            ("by", "Filter!", True, []),
        ]
        assert tree(takes.nodes) == {"first": {}, "by": {"name": {}}}
        assert answer.note == "[Pet!]!"
        assert not takes.nodes[0].note
        assert tree(answer.nodes) == {"name": {}, "owner": {"pets": {}}, "friends": {}}
        assert node(answer.nodes, "friends").note
        assert tree(parts(self.TEXT, "query-shop", "graphql")[0].nodes) == {
            "Pet": {"name": {}, "owner": {"pets": {}}, "friends": {}},
            "Person": {"pets": {"name": {}, "owner": {}, "friends": {}}},
        }
        sort = parts(self.TEXT, "enum-sort", "graphql")[0].nodes
        assert [(one.name, one.is_deprecated) for one in sort] == [("CAT", False), ("DOG", True)]
        assert [part.title for part in parts(self.TEXT, "type-pet", "graphql")] == [
            "",
            "Arguments of friends",
        ]

    def test_a_part_of_a_federation_has_only_extensions(self) -> None:
        _data, found = read(
            'extend type Query { me: User } type User @key(fields: "id") { id: ID! }', "graphql"
        )
        assert [item.label for item in found.operations] == ["query me"]


REAL = "backstage"


def test_real_definitions_are_read_whole(test_data: Path) -> None:
    read_ones = 0
    for path in sorted((test_data / REAL).glob("*.yaml")):
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except yaml.YAMLError:
            continue
        for document in documents:
            if not isinstance(document, dict) or document.get("kind") != "API":
                continue
            text, type_ = document["spec"].get("definition"), str(document["spec"].get("type"))
            if isinstance(text, str) and (format_ := format_of_definition(text, type_)):
                data, found = read(text, format_)
                assert found.operations, path.name
                assert all(sections(data, format_, item) for item in found.items)
                assert len({item.anchor for item in found.items}) == len(found.items)
                read_ones += 1
    assert read_ones > 20
    text = (test_data / REAL / "catalog-openapi.yaml").read_text()
    data, found = read(text)
    assert len(found.operations) == sum(
        text.count(f"\n    {verb}:\n") for verb in ("get", "post", "put", "delete")
    )
    shown = {part.title for item in found.operations for part in sections(data, "openapi", item)}
    assert {"Parameters in the query", "Body (required)", "Answer 200", "Signing in"} <= shown


@pytest.mark.parametrize(
    ("format_", "text", "line", "column", "message"),
    [
        ("openapi", "openapi: 3.0.0\npaths:\n  /a: {get\n", 4, 1, ""),
        ("openapi", "openapi: 3.0.0\na: 1\na: 2\n", 3, 1, ""),
        ("openapi", '{"openapi": "3.0.0",\n "paths": }', 2, 11, ""),
        ("openapi", "- a\n- b\n", 1, 1, "An object is expected"),
        ("openapi", "asyncapi: 2.0.0\n", 0, 0, "begins with “openapi”"),
        ("asyncapi", "openapi: 3.0.0\n", 0, 0, "begins with “asyncapi”"),
        ("graphql", "type Query {\n  a: \n}", 3, 1, "Expected Name, found '}'."),
        ("graphql", "query { a }", 1, 1, "declares types"),
        ("graphql", "", 1, 1, ""),
        ("openapi", "", 1, 1, ""),
    ],
)
def test_what_cannot_be_read_says_where(
    format_: str, text: str, line: int, column: int, message: str
) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        read(text, format_)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert message in caught.value.message
    assert caught.value.message


def bomb() -> str:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12))
    return f"openapi: 3.0.0\nl0: &l0 [a]\n{levels}\n"


def wide(**said: Any) -> str:
    """Many properties, each of a schema that consists of itself many times over."""
    ref = {"$ref": "#/components/schemas/Wide"}
    schemas = {
        "Wide": {"allOf": [ref] * 2000, **said},
        "Top": {"properties": {f"p{n}": {"allOf": [ref]} for n in range(NODES - 1)}},
    }
    return json.dumps({"openapi": "3.0.0", "components": {"schemas": schemas}})


@pytest.mark.parametrize("said", [{}, {"oneOf": [{"properties": {}}] * 2000}])
def test_what_is_meant_to_hold_up_a_page_is_cut(said: dict[str, Any]) -> None:
    began = time.perf_counter()
    nodes = parts(wide(**said), "schema-top")[0].nodes
    assert time.perf_counter() - began < 10
    assert len(nodes) == NODES - 1
    assert "more than fits" in nodes[-1].note or not said


def test_an_operation_has_room_for_so_many_parameters_and_headers() -> None:
    many = [{"in": "query", "name": f"p{n}"} for n in range(NODES + 1)]
    headers = {f"h{n}": {} for n in range(101)}
    operation = {"parameters": many, "responses": {"200": {"headers": headers}}}
    text = json.dumps({"openapi": "3.0.0", "paths": {"/a": {"get": operation}}})
    assert [len(part.nodes) for part in parts(text, "get-a")] == [NODES, 0, 100]


def test_an_operation_has_room_for_so_many_messages_and_arguments() -> None:
    channels = {"c": {"messages": {f"m{n}": {"summary": f"s{n}"} for n in range(60)}}}
    operations = {"o": {"action": "send", "channel": {"$ref": "#/channels/c"}}}
    text = json.dumps({"asyncapi": "3.0.0", "channels": channels, "operations": operations})
    (item,) = (one for one in read(text, "asyncapi")[1].items if one.verb == "send")
    assert len([part for part in parts(text, item.anchor, "asyncapi") if part.title]) == 50
    takes = ", ".join(f"a{n}: Int" for n in range(NODES + 1))
    assert len(parts(f"type Query {{ f({takes}): Int }}", "query-f", "graphql")[0].nodes) == NODES


HOSTILE = {
    "bomb": ("openapi", bomb()),
    "deep YAML": ("openapi", "openapi: 3.0.0\nx: " + "[" * 100_000),
    "deep JSON": ("openapi", '{"openapi": "3.0.0", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "deep GraphQL": ("graphql", "type Query { a: " + "[" * 100_000 + "Int" + "]" * 100_000 + " }"),
    "many words": ("graphql", "type Query { " + "a " * 900_000 + "}"),
    "too large": ("openapi", "openapi: 3.0.0\nx: " + "y" * 3_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_meant_to_break_it_is_refused_in_time(name: str) -> None:
    format_, text = HOSTILE[name]
    began = time.perf_counter()
    with pytest.raises(DefinitionInvalid):
        parse_definition(text, format_)
    assert time.perf_counter() - began < 10


def test_a_circle_of_references_and_a_schema_without_end_stay_small() -> None:
    wide = {"properties": {f"p{n}": {"$ref": f"#/components/schemas/S{n % 40}"} for n in range(40)}}
    schemas: dict[str, Any] = {f"S{n}": wide for n in range(40)}
    schemas |= {
        "Ring": {"$ref": "#/components/schemas/Ring"},
        "All": {"allOf": [{"$ref": "#/components/schemas/All"}]},
    }
    text = json.dumps({"openapi": "3.0.0", "paths": {}, "components": {"schemas": schemas}})
    data, found = read(text)
    for item in found.items:
        shown = sections(data, "openapi", item)

        def count(nodes: list[Node]) -> int:
            return sum(1 + count(one.children) for one in nodes)

        assert count(shown[0].nodes) <= NODES
    s0 = found.item("schema-s0")
    assert s0 is not None
    notes = {one.note for top in sections(data, "openapi", s0)[0].nodes for one in top.children}
    assert "There is more than fits here; the whole definition has it." in notes


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("#/components/schemas/A"),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["$ref", "get", "post", "parameters", "in", "name", "schema", "content", "responses", "200", "type",
             "items", "properties", "allOf", "oneOf", "enum", "paths", "components", "schemas", "A", "tags",
             "info", "servers", "url", "security", "securitySchemes", "flows", "messages", "message", "payload",
             "channel", "channels", "operations", "subscribe", "reply", "bindings", "examples", "required",
             "additionalProperties", "headers", "callbacks", "requestBody", "description", "title", "x-type"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=40,
)  # fmt: skip


whole = st.dictionaries(
    st.sampled_from(["paths", "components", "channels", "operations", "tags", "info", "servers"]), plain
)
versions = st.sampled_from(
    [("openapi", "3.1.0"), ("swagger", "2.0"), ("asyncapi", "2.0.0"), ("asyncapi", "3.0.0")]
)


@settings(max_examples=150, deadline=None)
@given(whole, versions)
def test_whatever_stands_where_nobody_expects_it_breaks_nothing(
    data: dict[str, Any], version: tuple[str, str]
) -> None:
    data = {**data, version[0]: version[1]}
    format_ = "asyncapi" if version[0] == "asyncapi" else "openapi"
    found = overview(data, format_)
    for item in found.items:
        assert isinstance(item, Item)
        sections(data, format_, item)


@pytest.mark.parametrize(
    ("text", "type_", "format_"),
    [
        (PETS, "rest", "openapi"),
        ('{"swagger": "2.0"}', "", "openapi"),
        ("# comment\nasyncapi: 3.0.0", "events", "asyncapi"),
        ("# comment\n\ntype Query { a: Int }", "x", "graphql"),
        ("anything", "OpenAPI", "openapi"),
        ('syntax = "proto3";', "grpc", ""),
        ("import { z } from 'zod'", "trpc", ""),
    ],
)
def test_the_format_is_known_by_the_type_or_the_text(text: str, type_: str, format_: str) -> None:
    assert format_of_definition(text, type_) == format_


class TestKept:
    @pytest.fixture(autouse=True)
    def nothing_is_kept(self) -> None:
        cache.clear()

    def test_a_text_is_parsed_once_and_a_changed_one_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        parsed: list[str] = []

        def parse(text: str, format_: str) -> dict[str, Any]:
            parsed.append(text)
            return parse_definition(text, format_)

        monkeypatch.setattr(keeping, "parse_definition", parse)
        assert data_of_definition(PETS, "openapi") == data_of_definition(PETS, "openapi")
        other = PETS.replace("One pet", "A pet")
        assert "A pet" in str(data_of_definition(other, "openapi"))
        assert parsed == [PETS, other]
        for _time in range(2):
            with pytest.raises(DefinitionInvalid) as caught:
                data_of_definition("type {", "graphql")
            assert (caught.value.line, caught.value.column) == (1, 6)
        assert parsed == [PETS, other, "type {"]
