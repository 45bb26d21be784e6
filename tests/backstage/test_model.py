"""Documents are taken or refused as `@backstage/catalog-model` does, which judges the same ones."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.documents import DocumentInvalid, validate_document
from tests.backstage.node import Script
from tests.catalog.test_documents_real import core_kinds, read

KINDS = ["API", "Component", "Domain", "Group", "Location", "Resource", "System", "User"]
_TEXT = "Some-Text_7.x"
GOOD: dict[str, dict[str, Any]] = {
    "API": {"type": "openapi", "lifecycle": "production", "owner": "a", "definition": "x", "system": "s"},
    "Component": {
        "type": "service", "lifecycle": "production", "owner": "a", "system": "s", "subcomponentOf": "c",
        "providesApis": ["a"], "consumesApis": ["a"], "dependsOn": ["component:b"], "dependencyOf": ["component:c"],
    },
    "Domain": {"owner": "a", "subdomainOf": "d", "type": "t"},
    "Group": {
        "type": "team", "profile": {"displayName": "A", "email": "a@b.example", "picture": "https://a.example/p"},
        "parent": "p", "children": ["c"], "members": ["m"],
    },
    "Location": {"type": "url", "target": "./a.yaml", "targets": ["./b.yaml"], "presence": "optional"},
    "Resource": {
        "type": "database", "owner": "a", "system": "s", "dependsOn": ["resource:b"], "dependencyOf": ["component:c"]
    },
    "System": {"owner": "a", "domain": "d", "type": "t"},
    "User": {
        "profile": {"displayName": "A", "email": "a@b.example", "picture": "https://a.example/p"}, "memberOf": ["g"]
    },
}  # fmt: skip
METADATA: dict[str, Any] = {
    "name": "pay", "namespace": "default", "title": "Pay", "description": "It pays.", "uid": "u", "etag": "e",
    "labels": {"a.example/b": "c"}, "annotations": {"a.example/b": "c d"}, "tags": ["java"],
    "links": [{"url": "https://a.example", "title": "A", "icon": "i", "type": "t"}],
}  # fmt: skip


def ours(document: Any) -> dict[str, Any]:
    """The relations that a document makes with us, or why we refuse it."""
    try:
        valid = validate_document(document, core_kinds())
    except DocumentInvalid as error:
        return {"error": str(error)}
    return {"relations": sorted(set(valid.relations))}


def agree(model: Script, document: Any) -> None:
    theirs, mine = model.ask(document), ours(document)
    told = f"{json.dumps(document)}\nBackstage: {theirs}\nPortico: {mine}"
    assert set(theirs) == set(mine), told
    if "relations" in mine:
        assert mine["relations"] == sorted({(type_, ref) for type_, ref in theirs["relations"]}), told


def real_documents(test_data: Path) -> list[Any]:
    found = []
    for path in sorted((test_data / "backstage").glob("*.yaml")):
        if path.name != "catalog-openapi.yaml":
            found += [d.data for d in asyncio.run(read(path)) if d.error is None and d.data is not None]
    return found


def is_of_the_model(document: Any) -> bool:
    """Whether its kind is one of the model's; others come from Backstage's other packages, or from us."""
    return isinstance(document, dict) and document.get("kind") in KINDS


def test_all_real_documents_fare_alike(model: Script, test_data: Path) -> None:
    documents = [document for document in real_documents(test_data) if is_of_the_model(document)]
    assert len(documents) > 200
    for document in documents:
        agree(model, document)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.sampled_from(
        [
            "", " ", "\n", "a", "A", "-a", "a-", "a--b", "a b", "a/b", "a/b/c", "a.b", "a_b", "Ä", "a:b", "a" * 63,
            "a" * 64, "a" * 253 + "/b", "a" * 254 + "/b", "a.b-c/d", "A.b/c", "a..b/c", "https://a.example",
            "http://", "ftp://a.example/x", "//a.example", "a@b.example", "not a url", "javascript:alert(1)",
            "https://a b", "backstage.io/v1alpha1", "backstage.io/v1beta1", "v1", "required", "optional", "c++", "c#",
            "a:b+c#d-e", "-", "\u2028", "😀", "a\u0000b", "group:default/a", "group:a/b/c", ":a", "a/", "component:",
            "true", "null", "0",
        ]
    ),
    st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "", "java", "Java"]), st.integers(0, 3)), max_size=3),
    st.dictionaries(
        st.sampled_from(["a", "a.example/b", "", "a b", "url", "target"]),
        st.one_of(st.none(), st.text(max_size=5), st.integers(0, 3)),
        max_size=2,
    ),
)  # fmt: skip


KEYS = ["more", "a.example/c", "Bad Key", "uid", "relations", "status", "namespace", "owner"]


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A good document with a few things changed, left out or put in."""
    kind = draw(st.sampled_from(KINDS))
    document: Any = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": kind,
        "metadata": copy.deepcopy(METADATA),
        "spec": copy.deepcopy(GOOD[kind]),
    }
    for _ in range(draw(st.integers(0, 3))):
        holder: Any = document
        for _depth in range(draw(st.integers(0, 3))):
            inner = [value for value in _values(holder) if isinstance(value, (dict, list)) and value]
            if not inner:
                break
            holder = draw(st.sampled_from(inner))
        key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))))
        match draw(st.sampled_from(["change", "leave out", "put in"])):
            case "change":
                holder[key] = draw(ODD)
            case "leave out":
                del holder[key]
            case _ if isinstance(holder, dict):
                holder[draw(st.sampled_from(KEYS))] = draw(ODD)
            case _:
                holder.append(draw(ODD))
        if not document:
            break
    return document


def _values(holder: Any) -> list[Any]:
    return list(holder.values()) if isinstance(holder, dict) else list(holder)


def compare(model: Script, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(document=documents())
    def each(document: Any) -> None:
        agree(model, document)

    each()


def test_generated_documents_fare_alike(model: Script) -> None:
    compare(model, 1_000)


@pytest.mark.full
def test_many_generated_documents_fare_alike(model: Script) -> None:
    compare(model, 15_000)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_taken_by_both(model: Script, kind: str) -> None:
    document = {"apiVersion": "backstage.io/v1alpha1", "kind": kind, "metadata": METADATA, "spec": GOOD[kind]}
    agree(model, document)
    assert "error" not in ours(document)
