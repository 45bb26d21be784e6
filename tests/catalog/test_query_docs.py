"""The page on the query language tells the truth: its examples can be read, and no field is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalog.kinds import Kinds
from catalog.query import FIELDS, compile_query, parse, relations
from catalog.query.fields import Field
from catalog.query.lexer import KEYWORDS
from catalog.query.nodes import Filter, terms
from catalog.query.ordering import ORDERS
from catalog.query.parser import MAX_DEPTH, MAX_LENGTH, MAX_TERMS
from tests.catalog.query_samples import NOW, RELATIONS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "query-language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def relation_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of relations and kinds, without a database."""
    known = relations.directions_of((name, {"inverse": inverse}) for name, inverse in RELATIONS.items())
    monkeypatch.setattr(relations, "directions", lambda: known)
    monkeypatch.setattr("catalog.query.fields.current_kinds", lambda: Kinds([], []))


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_can_be_compiled(text: str) -> None:
    compile_query(text, now=NOW)


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_every_field_is_documented_and_its_own_example_is_right(field: Field) -> None:
    shown = {term.field for text in EXAMPLES for term in terms(parse(text)) if isinstance(term, Filter)}
    assert field.name in shown
    assert field.label
    assert field.description
    (term,) = terms(parse(field.example))
    assert isinstance(term, Filter)
    assert term.field == field.name
    compile_query(field.example, now=NOW)


def test_limits_orders_and_keywords_are_those_of_the_code() -> None:
    assert f"{MAX_LENGTH:,} characters, {MAX_TERMS} terms and {MAX_DEPTH} levels" in PAGE
    assert all(f"`{word}`" in PAGE for word in KEYWORDS)
    listed = re.search(r"It takes (.+) and (\w+)\.", PAGE)
    assert listed is not None
    assert [*listed[1].split(", "), listed[2]] == list(ORDERS)
