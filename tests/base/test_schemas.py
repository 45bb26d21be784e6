"""Schemas give readable errors with places, and fetch nothing."""

from __future__ import annotations

from typing import Any

import pytest

from base import limits
from base.errors import InvalidInput
from base.schemas import InvalidSchema, Schema, compile_schema

PERSON = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "errorMessage": "small letters"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 200},
        "colour": {"enum": ["red", "blue"]},
        "nick": {"type": "string", "minLength": 1, "maxLength": 3},
        "pets": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "uniqueItems": True},
        "home": {"oneOf": [{"type": "string"}, {"type": "object", "required": ["town"]}]},
        "notes": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z]+$", "errorMessage": "small letters"},
            "additionalProperties": {"type": "string"},
        },
    },
}


@pytest.mark.parametrize(
    ("data", "path", "says"),
    [
        ({}, "name", "required, but missing"),
        ({"name": "ANA"}, "name", "must be small letters, but is “ANA”"),
        ({"name": 5}, "name", "must be text, but is the number 5"),
        ({"name": None}, "name", "must be text, but is empty"),
        ({"name": "a", "age": -1}, "age", "at least 0"),
        ({"name": "a", "age": 200}, "age", "less than 200"),
        ({"name": "a", "age": 1.5}, "age", "a whole number, but is the number 1.5"),
        ({"name": "a", "colour": "green"}, "colour", "one of “red”, “blue”"),
        ({"name": "a", "nick": ""}, "nick", "not empty"),
        ({"name": "a", "nick": "long"}, "nick", "at most 3 characters"),
        ({"name": "a", "pets": ["x", 1]}, "pets[1]", "must be text"),
        ({"name": "a", "pets": ["x", "y", "z"]}, "pets", "at most 2 entries"),
        ({"name": "a", "pets": ["x", "x"]}, "pets", "without repetitions"),
        ({"name": "a", "home": 1}, "home", "text or an object with keys, but is the number 1"),
        ({"name": "a", "home": {}}, "home.town", "required, but missing"),
        ({"name": "a", "notes": {"B c": "x"}}, 'notes["B c"]', "key must be small letters"),
        ({"name": "a", "nmae": 1}, "nmae", "no such field"),
        ([], "", "an object with keys, but is a list"),
    ],
)
def test_errors_are_sentences_with_places(data: Any, path: str, says: str) -> None:
    schema = compile_schema(PERSON)
    assert not schema.is_valid(data)
    (error,) = schema.errors(data)
    assert error.path == path
    assert says in error.message


def test_every_error_is_told_with_its_place_in_the_whole() -> None:
    errors = compile_schema(PERSON).errors({"name": 1, "age": "x"}, under=("people", 3))
    assert {error.path for error in errors} == {"people[3].name", "people[3].age"}


def test_check_raises_with_all_errors() -> None:
    with pytest.raises(InvalidInput, match="The person is not valid: age") as caught:
        compile_schema(PERSON).check({"age": -1}, what="The person")
    assert len(caught.value.errors) == 2
    compile_schema(PERSON).check({"name": "a"}, what="The person")


def test_a_long_value_is_shortened() -> None:
    (error,) = compile_schema({"maxLength": 5}).errors("x" * 10_000)
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "nope"}, "type"),
        ({"properties": {"a": {"minimum": "x"}}}, r"properties\.a\.minimum"),
        ({"pattern": "("}, "pattern"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "outside of itself"),
        ({"$ref": "file:///etc/hostname"}, "outside of itself"),
        ({"items": {"$ref": "https://schema.example/x"}}, "outside of itself"),
    ],
)
def test_a_wrong_schema_is_refused(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSchema, match=says):
        compile_schema(schema)


def test_a_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"properties": {"a": schema}}
    with pytest.raises(limits.LimitExceeded):
        compile_schema(schema)


def test_equal_schemas_are_compiled_once() -> None:
    assert compile_schema({"type": "object", "minProperties": 7}) is compile_schema(
        {"minProperties": 7, "type": "object"}
    )


def test_a_pattern_that_backtracks_is_stopped() -> None:
    schema = Schema({"pattern": r"^(?=(a+)+$)b"})
    assert not schema.is_valid("a" * 40 + "!")


def test_other_drafts_are_known() -> None:
    draft_4 = compile_schema(
        {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 5, "exclusiveMaximum": True}
    )
    assert not draft_4.is_valid(5)
