"""Tokens: which leaves of a document can be found, and how fast they are made."""

from __future__ import annotations

import time
from typing import Any

import pytest

from catalog.query import token, tokens_of
from catalog.query.tokens import MAX_TOKENS


def has(document: dict[str, Any], key: str, value: Any = None) -> bool:
    return token(key, value) in tokens_of(document)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "component"),
        ("metadata.name", "CARD"),
        ("METADATA.Name", "card"),
        ("metadata.namespace", "default"),
        ("metadata.annotations.github.com/project-slug", "acme/pay"),
        ("metadata.tags", "java"),
        ("metadata.tags.java", True),
        ("spec.list", 3),
        ("spec.list", "3"),
        ("spec.ports.name", "http"),
        ("spec.ports.port", 80),
        ("spec.on", True),
        ("spec.off", "false"),
        ("spec.whole", 2),
        ("spec.part", "2.5"),
        ("spec.empty", ""),
        ("spec.nested", "deep"),
        ("spec.title", "bob é"),
    ],
)
def test_what_is_found(key: str, value: Any) -> None:
    assert has(DOCUMENT, key, value)
    assert has(DOCUMENT, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metadata", None),
        ("spec.ports", None),
        ("spec.none", "null"),
        ("spec.none", ""),
        ("spec.long", "x" * 201),
        ("spec.list.3", True),
        ("metadata.etag", None),
        ("relations.type", None),
        ("status.items", None),
        ("attachments.readme", None),
        ("spec." + "k" * 200, None),
        ("spec.emptylist", None),
        ("spec.emptyobject", None),
        ("spec.whole", "2.0"),
    ],
)
def test_what_is_not_found(key: str, value: Any) -> None:
    assert not has(DOCUMENT, key, value)


def test_null_and_long_values_exist() -> None:
    assert has(DOCUMENT, "spec.none")
    assert has(DOCUMENT, "spec.long")


@pytest.mark.parametrize("key", ["metadata.", "metadata.annotations.", "spec.ports."])
def test_objects_have_something_below(key: str) -> None:
    assert has(DOCUMENT, key)
    assert not has(DOCUMENT, "spec.emptyobject.")


def test_a_key_with_a_value_in_it_is_no_value() -> None:
    assert not has({"spec": {"a": {"b=c": 1}}}, "spec.a.b", "c")


def test_sources_and_conflicts() -> None:
    found = tokens_of({}, sources=["Git-Main"], conflicts=["spec.Owner"])
    for key, value in (
        ("source", "git-main"),
        ("source", None),
        ("conflict", "spec.owner"),
        ("conflict", None),
    ):
        assert token(key, value) in found


def test_they_fit_the_database_and_are_sorted() -> None:
    found = tokens_of(DOCUMENT)
    assert found == sorted(set(found))
    assert all(-(2**63) <= value < 2**63 for value in found)


def test_there_is_a_limit() -> None:
    assert len(tokens_of({"spec": {f"key-{number}": number for number in range(10_000)}})) <= MAX_TOKENS


def test_ten_thousand_documents_in_well_under_a_second() -> None:
    documents = [
        {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": {
                "name": f"service-{number}",
                "title": f"Service {number}",
                "description": f"What service {number} does",
                "tags": ["java", f"t{number % 50}"],
                "labels": {"tier": str(number % 3)},
                "annotations": {"github.com/project-slug": f"acme/service-{number}", "example.com/x": "y"},
                "links": [{"url": f"https://acme.example/{number}", "title": "Home"}],
            },
            "spec": {
                "type": "service",
                "lifecycle": "production",
                "owner": f"group:default/team-{number % 500}",
                "system": f"system-{number % 700}",
                "dependsOn": [f"component:default/service-{number + step}" for step in range(3)],
            },
        }
        for number in range(10_000)
    ]
    began = time.process_time()
    for document in documents:
        tokens_of(document)
    assert time.process_time() - began < 1.5  # about 0.4 on a quiet machine


DOCUMENT: dict[str, Any] = {
    "apiVersion": "backstage.io/v1alpha1",
    "kind": "Component",
    "metadata": {
        "name": "Card",
        "etag": "abc",
        "annotations": {"github.com/project-slug": "acme/Pay"},
        "tags": ["Java"],
    },
    "spec": {
        "list": [3, "four"],
        "ports": [{"name": "http", "port": 80}],
        "on": True,
        "off": False,
        "whole": 2.0,
        "part": 2.5,
        "empty": "",
        "none": None,
        "long": "x" * 201,
        "k" * 200: "dropped",
        "nested": [["deep"]],
        "emptylist": [],
        "emptyobject": {},
        "title": "BOB É",
    },
    "relations": [{"type": "ownedBy", "targetRef": "group:default/x"}],
    "status": {"items": [1]},
    "attachments": {"readme": "x"},
}
