"""Backstage's document rules: the envelope, the kinds, references and relations."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest

from base import safe_yaml
from base.errors import InvalidInput
from catalog.documents import (
    DocumentInvalid,
    InvalidRef,
    KindSet,
    check_kind_definition,
    parse_ref,
    validate_document,
)
from catalog.documents.kinds import KindDef
from catalog.documents.urls import is_url

CORE = Path(__file__).resolve().parents[2] / "packs" / "core"


def definitions(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    documents = [safe_yaml.load(path.read_bytes(), name=path.name) for path in sorted(folder.glob("*.yaml"))]
    return [(document["metadata"]["name"], document["spec"]) for document in documents]


@pytest.fixture(scope="module")
def kinds() -> KindSet:
    found = KindSet(definitions(CORE / "kinds"))
    assert found.broken == []
    return found


COMPONENT: dict[str, Any] = {
    "apiVersion": "backstage.io/v1alpha1",
    "kind": "Component",
    "metadata": {"name": "pay"},
    "spec": {"type": "service", "lifecycle": "production", "owner": "team-a"},
}


def component(**metadata: Any) -> dict[str, Any]:
    document = copy.deepcopy(COMPONENT)
    document["metadata"].update(metadata)
    return document


def errors_of(document: Any, kinds: KindSet) -> dict[str, str]:
    with pytest.raises(DocumentInvalid) as caught:
        validate_document(document, kinds)
    return {error.path: error.message for error in caught.value.errors}


GOOD: dict[str, list[Any]] = {
    "name": ["a", "A.b_c-d", "9", "x" * 63, "a--b"],
    "namespace": ["default", "a--b", "9", "x" * 63],
    "title": ["x", " "],
    "description": ["", "x\ny"],
    "labels": [{}, {"a": ""}, {"a.b/c": "d.e"}, {"A_b": "x" * 63}, {"x" * 63 + ".y/z": "1"}],
    "annotations": [{}, {"a": ""}, {"a.b/c": "any thing: at all"}, {"backstage.io/techdocs-ref": "dir:."}],
    "tags": [[], ["a", "c++", "c#", "a:b", "a-b"], ["x" * 63]],
    "links": [
        [],
        [{"url": "https://a.example", "title": "x", "icon": "y", "type": "z", "more": 1}],
        [{"url": "mailto:ana@acme.example"}, {"url": "slack://channel?id=1"}],
    ],
    "anything-else": [1, None, {"a": []}],
}
BAD: dict[str, list[Any]] = {
    "name": [
        "",
        None,
        5,
        "-a",
        "a-",
        "a b",
        "ä",
        "x" * 64,
        "a/b",
        "${{ values.name }}",
        "a\n",
        {"{ x }": None},
    ],
    "namespace": ["", None, "A", "a.b", "-a", "x" * 64, 1],
    "title": ["", None, 1],
    "description": [None, 1],
    "labels": [
        None,
        [],
        {"a": None},
        {"a": 1},
        {"a": "-"},
        {"a/b/c": "x"},
        {"A.b/c": "x"},
        {"": "x"},
        {"a": "x" * 64},
    ],
    "annotations": [None, [], {"a": None}, {"a": True}, {"a b": "x"}, {"/a": "x"}, {"a/": "x"}],
    "tags": [None, "a", ["A"], ["a b"], ["a--b"], ["-a"], [""], ["x" * 64], [1], ["a_b"]],
    "links": [
        None,
        {},
        [{}],
        [{"url": ""}],
        [{"url": "a.example"}],
        [{"url": "/x"}],
        [{"url": "https://a b/"}],
        [{"url": "https://a.example", "title": ""}],
        [{"url": "https://a.example", "title": " "}],
        [{"url": "https://a.example", "icon": 1}],
        ["https://a.example"],
    ],
    "uid": ["", 1],
    "etag": ["", None],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in GOOD.items() for value in values]
)
def test_metadata_that_is_accepted(field: str, value: Any, kinds: KindSet) -> None:
    assert validate_document(component(**{field: value}), kinds).data["metadata"][field] == value


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD.items() for value in values]
)
def test_metadata_that_is_refused(field: str, value: Any, kinds: KindSet) -> None:
    assert any(path.startswith(f"metadata.{field}") for path in errors_of(component(**{field: value}), kinds))


def test_a_long_prefix_of_a_key_is_refused(kinds: KindSet) -> None:
    fits = ".".join(["a" * 63] * 3 + ["a" * 61])
    validate_document(component(annotations={f"{fits}/x": ""}), kinds)
    assert errors_of(component(annotations={f"{fits}a/x": ""}), kinds)


@pytest.mark.parametrize("field", ["relations", "status", "attachments", "foo"])
def test_other_fields_beside_the_envelope_are_refused(field: str, kinds: KindSet) -> None:
    assert "no such field" in errors_of({**COMPONENT, field: []}, kinds)[field]


@pytest.mark.parametrize("document", [None, [], "text", 5, {}])
def test_what_is_no_document_is_refused(document: Any, kinds: KindSet) -> None:
    assert errors_of(document, kinds)


@pytest.mark.parametrize("field", ["apiVersion", "kind", "metadata", "spec"])
def test_the_envelopes_parts_are_required(field: str, kinds: KindSet) -> None:
    without = {key: value for key, value in COMPONENT.items() if key != field}
    assert field in errors_of(without, kinds)
    assert field in errors_of({**COMPONENT, field: None}, kinds)


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"kind": "component"}, "kind", "write Component"),
        ({"kind": "Componnent"}, "kind", "did you mean Component"),
        ({"kind": "AiResource"}, "kind", "There is no kind"),
        (
            {"apiVersion": "backstage.io/v2"},
            "apiVersion",
            "expected backstage.io/v1alpha1, backstage.io/v1beta1",
        ),
        ({"apiVersion": "portico/v1"}, "apiVersion", "expected backstage.io"),
        ({"apiVersion": ["x"]}, "apiVersion", "must be text"),
    ],
)
def test_an_unknown_kind_is_told_with_what_was_meant(
    change: dict[str, Any], path: str, says: str, kinds: KindSet
) -> None:
    assert says in errors_of({**COMPONENT, **change}, kinds)[path]


def test_every_error_is_told_with_its_path(kinds: KindSet) -> None:
    document = component(name="a b", tags=["OK", "ok"], links=[{"url": "nowhere"}])
    document["spec"] = {"type": 1, "lifecycle": "x", "providesApis": ["", "b:"], "dependsOn": ["no-kind"]}
    assert set(errors_of(document, kinds)) == {
        "metadata.name",
        "metadata.tags[0]",
        "metadata.links[0].url",
        "spec.type",
        "spec.owner",
        "spec.providesApis[0]",
        "spec.providesApis[1]",
        "spec.dependsOn[0]",
    }


def test_the_error_names_the_entity_and_how_much_more_is_wrong(kinds: KindSet) -> None:
    document = component(namespace="Pay", tags=["A"])
    with pytest.raises(DocumentInvalid) as caught:
        validate_document(document, kinds)
    assert caught.value.ref == "component:pay/pay"
    assert str(caught.value).startswith("component:pay/pay: metadata.")
    assert str(caught.value).endswith("(and 1 more)")


def test_what_only_the_catalog_says_is_taken_out(kinds: KindSet) -> None:
    document = component(uid="x", etag="y", generation=1)
    assert validate_document(document, kinds).data["metadata"] == {"name": "pay"}
    assert document["metadata"]["uid"] == "x"


def minimal(kind: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "ns"},
        "spec": spec,
    }


@pytest.mark.parametrize(
    ("document", "relations"),
    [
        (
            minimal(
                "Component",
                type="a",
                lifecycle="b",
                owner="user:ana",
                system="S",
                subcomponentOf="c",
                providesApis=["A", "other/B"],
                consumesApis=["api:C"],
                dependsOn=["resource:db", "component:other/c"],
                dependencyOf=["Component:d"],
            ),
            [
                ("ownedBy", "user:ns/ana"),
                ("partOf", "component:ns/c"),
                ("providesApi", "api:ns/a"),
                ("providesApi", "api:other/b"),
                ("consumesApi", "api:ns/c"),
                ("dependsOn", "resource:ns/db"),
                ("dependsOn", "component:other/c"),
                ("dependencyOf", "component:ns/d"),
                ("partOf", "system:ns/s"),
            ],
        ),
        (
            minimal("API", type="a", lifecycle="b", owner="default/t", definition="x"),
            [("ownedBy", "group:default/t")],
        ),
        (
            minimal("Resource", type="a", owner="t", dependsOn=["resource:a", "resource:a"]),
            [("ownedBy", "group:ns/t"), ("dependsOn", "resource:ns/a")],
        ),
        (minimal("System", owner="t", domain="d"), [("ownedBy", "group:ns/t"), ("partOf", "domain:ns/d")]),
        (
            minimal("Domain", owner="t", subdomainOf="d"),
            [("ownedBy", "group:ns/t"), ("partOf", "domain:ns/d")],
        ),
        (
            minimal("Group", type="team", children=["c"], parent="p", members=["ana"]),
            [("childOf", "group:ns/p"), ("parentOf", "group:ns/c"), ("hasMember", "user:ns/ana")],
        ),
        (minimal("User", memberOf=["g"]), [("memberOf", "group:ns/g")]),
        (minimal("Location", targets=["./a.yaml"]), []),
    ],
)
def test_relations(document: dict[str, Any], relations: list[tuple[str, str]], kinds: KindSet) -> None:
    assert validate_document(document, kinds).relations == relations


def test_a_document_without_namespace_takes_the_one_that_is_given(kinds: KindSet) -> None:
    valid = validate_document(COMPONENT, kinds, default_namespace="acme")
    assert valid.ref.text == "component:acme/pay"
    assert valid.relations == [("ownedBy", "group:acme/team-a")]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (minimal("API", type="a", lifecycle="b", owner="c"), "spec.definition"),
        (minimal("API", type="a", lifecycle="b", owner="c", definition={"$text": "./x"}), "spec.definition"),
        (minimal("Resource", type="a"), "spec.owner"),
        (minimal("System"), "spec.owner"),
        (minimal("Domain", owner=""), "spec.owner"),
        (minimal("Group", type="team"), "spec.children"),
        (minimal("Group", type="team", children=[], profile={"email": 1}), "spec.profile.email"),
        (minimal("User"), "spec.memberOf"),
        (minimal("Location", presence="maybe"), "spec.presence"),
        (minimal("Location", targets="x"), "spec.targets"),
        (minimal("Component", type="a", lifecycle="b", owner="group:"), "spec.owner"),
        (minimal("Component", type="a", lifecycle="b", owner="c", dependencyOf=[1]), "spec.dependencyOf[0]"),
        (minimal("Component", type="a", lifecycle="b", owner="c", dependencyOf={}), "spec.dependencyOf"),
    ],
)
def test_specs_that_are_refused(document: dict[str, Any], path: str, kinds: KindSet) -> None:
    assert path in errors_of(document, kinds)


def template(**spec: Any) -> dict[str, Any]:
    return {
        **minimal("Template", type="service", steps=[], **spec),
        "apiVersion": "scaffolder.backstage.io/v1beta3",
    }


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"parameters": {"properties": {}}}, None),
        ({"parameters": [{"when": True}, {"when": "${{ x }}"}]}, None),
        ({"output": {"links": [{"url": "x", "if": False}], "more": "text"}}, None),
        ({"parameters": "x"}, "spec.parameters"),
        ({"parameters": ["x"]}, "spec.parameters[0]"),
        ({"parameters": [{"when": 1}]}, "spec.parameters[0].when"),
        ({"output": {"more": 1}}, "spec.output.more"),
        ({"output": {"links": [{"url": ""}]}}, "spec.output.links[0].url"),
        ({"owner": "group:"}, "spec.owner"),
    ],
)
def test_templates(spec: dict[str, Any], path: str | None, kinds: KindSet) -> None:
    if path is None:
        validate_document(template(**spec), kinds)
    else:
        assert path in errors_of(template(**spec), kinds)


def test_a_step_needs_an_action(kinds: KindSet) -> None:
    document = template()
    document["spec"]["steps"] = [{"id": "a"}]
    assert "spec.steps[0].action" in errors_of(document, kinds)


@pytest.mark.parametrize(
    "version", ["backstage.io/v1alpha1", "backstage.io/v1beta2", "scaffolder.backstage.io/v1beta2"]
)
def test_old_templates_are_refused(version: str, kinds: KindSet) -> None:
    assert "apiVersion" in errors_of({**template(), "apiVersion": version}, kinds)


@pytest.mark.parametrize("kind", ["Repository", "Pipeline", "Artifact", "Environment", "Cluster", "Workload"])
def test_our_own_kinds_have_owner_and_system(kind: str, kinds: KindSet) -> None:
    document = {**minimal(kind, owner="t", system="s"), "apiVersion": "portico/v1"}
    assert validate_document(document, kinds).relations == [
        ("ownedBy", "group:ns/t"),
        ("partOf", "system:ns/s"),
    ]
    assert "apiVersion" in errors_of({**document, "apiVersion": "backstage.io/v1alpha1"}, kinds)


@pytest.mark.parametrize(
    ("text", "default_kind", "expected"),
    [
        ("a", "Group", "group:ns/a"),
        ("User:Ana", "Group", "user:ns/ana"),
        ("other/a", "Group", "group:other/a"),
        ("user:other/a", None, "user:other/a"),
        ("a/b:c", "Group", "group:a/b:c"),
        ("k:a/b/c", None, "k:a/b/c"),
        ("k:a:b", None, "k:ns/a:b"),
    ],
)
def test_references(text: str, default_kind: str | None, expected: str) -> None:
    assert parse_ref(text, default_kind, "ns").text == expected


@pytest.mark.parametrize("text", ["", "a", "ns/a", ":a", "k:", "/a", "k:/a", "k:ns/", "k:" + "x" * 1_000])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidRef):
        parse_ref(text)


def test_a_merged_document_keeps_what_can_be_read(kinds: KindSet) -> None:
    kind = kinds.get("backstage.io/v1alpha1", "Component")
    assert kind is not None
    document = minimal("Component", owner="t", dependsOn=["no-kind", 5, None, "resource:db"], system={"a": 1})
    assert kind.relations_of(document, "ns") == [("ownedBy", "group:ns/t"), ("dependsOn", "resource:ns/db")]
    gaps = {error.path for error in kind.gaps(document)}
    assert gaps == {
        "spec.type",
        "spec.lifecycle",
        "spec.dependsOn[0]",
        "spec.dependsOn[1]",
        "spec.dependsOn[2]",
        "spec.system",
    }


def test_missing_values_are_served_as_unknown(kinds: KindSet) -> None:
    kind = kinds.get("backstage.io/v1alpha1", "Component")
    assert kind is not None
    document = {"metadata": {"name": "x"}, "spec": {"type": "service"}}
    assert kind.with_unknowns(document)["spec"] == {
        "type": "service",
        "lifecycle": "unknown",
        "owner": "unknown",
    }
    assert document == {"metadata": {"name": "x"}, "spec": {"type": "service"}}
    group = kinds.get("backstage.io/v1alpha1", "Group")
    assert group is not None
    assert group.with_unknowns({"spec": {}})["spec"] == {"type": "unknown", "children": []}


@pytest.mark.parametrize(
    "kind", ["Component", "API", "Resource", "System", "Domain", "Group", "User", "Location"]
)
def test_what_is_served_for_gaps_satisfies_the_schema(kind: str, kinds: KindSet) -> None:
    found = kinds.get("backstage.io/v1alpha1", kind)
    assert found is not None
    assert found.gaps(found.with_unknowns({"spec": {}})) == []


GADGET: dict[str, Any] = {
    "apiVersions": ["acme.example/v1"],
    "kind": "Gadget",
    "plural": "Gadgets",
    "schema": {"type": "object", "properties": {"size": {"type": "integer"}}},
    "relations": [{"field": "spec.maker", "type": "madeBy", "inverse": "makes", "defaultKind": "Group"}],
    "unions": ["spec.colours"],
}


def test_a_packs_kind_works_like_a_built_in_one() -> None:
    gadgets = KindSet([("gadget", GADGET)])
    document = {
        "apiVersion": "acme.example/v1",
        "kind": "Gadget",
        "metadata": {"name": "x"},
        "spec": {"maker": "t"},
    }
    valid = validate_document(document, gadgets)
    assert valid.relations == [("madeBy", "group:default/t")]
    assert ("spec", "colours") in valid.kind.unions
    assert ("metadata", "tags") in valid.kind.unions


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"kind": "two words"}, "spec.kind"),
        ({"apiVersions": []}, "spec.apiVersions"),
        ({"apiVersions": ["a/b/c"]}, "spec.apiVersions[0]"),
        ({"colour": "red"}, "spec.colour"),
        ({"icon": "<svg>"}, "spec.icon"),
        ({"colums": []}, "spec.colums"),
        ({"schema": {"type": "nope"}}, "spec.schema.type"),
        ({"schema": {"$ref": "http://127.0.0.1/"}}, "spec.schema"),
        ({"relations": [{"field": "owner", "type": "a", "inverse": "b"}]}, "spec.relations[0].field"),
        ({"relations": [{"field": "spec.owner", "type": "a"}]}, "spec.relations[0].inverse"),
        ({"columns": [{"field": "spec.a", "label": "A", "as": "html"}]}, "spec.columns[0].as"),
        ({"unknownFor": {"nowhere": 1}}, "spec.unknownFor.nowhere"),
    ],
)
def test_a_wrong_kind_definition_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_kind_definition("gadget", {**GADGET, **change})
    assert path in {error.path for error in caught.value.errors}


@pytest.mark.parametrize("spec", [None, [], "x", {}])
def test_what_is_no_kind_definition_is_refused(spec: Any) -> None:
    with pytest.raises(InvalidInput):
        check_kind_definition("gadget", spec)


def test_a_broken_definition_does_not_break_the_others() -> None:
    found = KindSet([("bad", {"kind": 5}), ("gadget", GADGET)])
    assert [kind.name for kind in found] == ["Gadget"]
    assert [name for name, _error in found.broken] == ["bad"]


def test_the_core_relation_types_cover_what_the_core_kinds_declare(kinds: KindSet) -> None:
    documents = safe_yaml.parse_documents((CORE / "relations.yaml").read_bytes(), name="relations.yaml")
    pairs = {(document.data["metadata"]["name"], document.data["spec"]["inverse"]) for document in documents}
    either = pairs | {(inverse, name) for name, inverse in pairs}
    assert len(either) == 2 * len(pairs)
    assert {(rule.type, rule.inverse) for kind in kinds for rule in kind.relations} <= either


def test_the_core_columns_and_unions_name_fields_of_the_schema(kinds: KindSet) -> None:
    def names(kind: KindDef, path: tuple[str, ...]) -> bool:
        here = kind.schema.source
        for part in path[1:]:
            here = here.get("properties", {}).get(part)
            if here is None:
                return False
        return True

    wrong = [
        f"{kind.name}: {'.'.join(path)}"
        for kind in kinds
        for path in [
            *(c.path for c in kind.columns),
            *kind.unions,
            *(path for path, _value in kind.unknown_for),
        ]
        if path[0] == "spec" and not names(kind, path)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "http://a",
        "https://a.example/x y",
        "http:a",
        "mailto:x",
        "foo:",
        "https://${{values.x}}/y",
        "http://[::1]:80/",
        " http://a ",
        "http://1.2.3.4",
        "file:///x",
        "javascript:x",
        "ssh://git@a/b",
        "http://u:p@h",
        "http://a:",
    ],
)
def test_texts_that_are_urls(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "//a",
        "/a",
        "http://",
        "http://a b/",
        "https://${{ values.x }}/y",
        "{{ x }}",
        "http://a:x",
        "1a:b",
        "http://a:99999",
        "http://[::1",
        "http://[::g]",
        "http://1.2.3.400",
        "http://a<b",
        "http://?x",
        "http://@",
    ],
)
def test_texts_that_are_no_urls(text: str) -> None:
    assert not is_url(text)


def test_validation_is_quick(kinds: KindSet) -> None:
    document = component(
        tags=["a", "b"], annotations={f"a.b/{n}": "x" for n in range(10)}, links=[{"url": "https://a"}]
    )
    document["spec"] |= {"system": "s", "dependsOn": [f"component:c{n}" for n in range(10)]}
    began = time.process_time()
    for _ in range(1_000):
        validate_document(document, kinds)
    # About 40 microseconds each; the room is for busy machines.
    assert time.process_time() - began < 0.5
