"""Facets and the query box change the text of a query, and leave the rest as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.kinds import Kinds
from catalog.query import FACETS, QueryError, combine, order_by, parse, terms_of, toggle_term, without
from catalog.query import relations as relations_module
from catalog.query.editing import asked_for, selected_values

pytestmark = pytest.mark.usefixtures("relation_names")


@pytest.fixture
def relation_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of relations and kinds, without a database."""
    known = relations_module.directions_of([("dependsOn", {"inverse": "dependencyOf"})])
    monkeypatch.setattr(relations_module, "directions", lambda: known)
    monkeypatch.setattr("catalog.query.fields.directions", lambda: known)
    monkeypatch.setattr("catalog.query.fields.current_kinds", lambda: Kinds([], []))


@pytest.mark.parametrize(
    ("text", "field", "value", "after"),
    [
        ("", "kind", "api", "kind:api"),
        ("card", "kind", "api", "card kind:api"),
        ("kind:api", "kind", "component", "kind:api,component"),
        ("kind:api  card", "kind", "component", "kind:api,component  card"),
        ("kind:api,component card", "kind", "api", "kind:component card"),
        ("a  kind:API  b", "kind", "api", "a b"),
        ("kind:api", "kind", "api", ""),
        ("KIND:api", "kind", "api", ""),
        ("kind:a*", "kind", "api", "kind:a*,api"),
        ("-kind:api", "kind", "api", "-kind:api kind:api"),
        ("a OR b", "kind", "api", "(a OR b) kind:api"),
        ("(kind:api OR b)", "kind", "api", "(kind:api OR b) kind:api"),
        ("kind:api OR b", "kind", "api", "(kind:api OR b) kind:api"),
        ("a AND kind:api AND b", "kind", "api", "a AND b"),
        ("a AND kind:api", "kind", "api", "a"),
        ("kind:api AND b", "kind", "api", "b"),
        ("owner:x", "owner", "", 'owner:x,""'),
        ('owner:x,""', "owner", "", "owner:x"),
        ("", "tag", "dark mode", 'tag:"dark mode"'),
        ("", "tag", "a*", 'tag:"a*"'),
        ('tag:"dark mode",x', "tag", "Dark Mode", "tag:x"),
        ("", "owner", "group:default/pay", "owner:group:default/pay"),
        ("owner:pay,x", "owner", "group:default/pay", "owner:x"),
        ("owner:group:pay", "owner", "group:default/pay", ""),
        ("owner:user:pay", "owner", "group:default/pay", "owner:user:pay,group:default/pay"),
        ("owner:other/pay", "owner", "group:default/pay", "owner:other/pay,group:default/pay"),
    ],
)
def test_toggling(text: str, field: str, value: str, after: str) -> None:
    assert toggle_term(text, field, value) == after
    parse(after)


@given(
    st.lists(
        st.sampled_from(
            ["card", "kind:api", "-tag:x", "tag:java,go", "(a OR b)", "OR", '"x y"', "owner:pay*"]
        )
    ),
    st.sampled_from(FACETS),
    st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5).map(str.lower),
)
def test_toggling_twice_asks_for_what_was_asked_before(pieces: list[str], field: str, value: str) -> None:
    text = " ".join(pieces)
    try:
        parse(text)
    except QueryError:
        return
    if asked_for(selected_values(text, field), value) - {value}:
        return  # what asked for it in other words is gone for good
    once = toggle_term(text, field, value)
    parse(once)
    assert (value in selected_values(once, field)) != (value in selected_values(text, field))
    assert selected_values(toggle_term(once, field, value), field) == selected_values(text, field)


@given(st.text(st.sampled_from('ab:" (),-')), st.sampled_from(["kind", "a"]))
def test_a_text_that_cannot_be_read_is_changed_all_the_same(text: str, field: str) -> None:
    toggle_term(text, field, "x")
    without(text, field)
    terms_of(text)


def test_combining() -> None:
    assert combine("kind:api tag:a,b x", add={"tag": ["c", "A"]}, remove={"kind": None}) == "tag:a,b,c x"
    assert combine("tag:a,b -tag:c", remove={"tag": ["a", "b"]}) == "-tag:c"
    assert without("tag:a x -tag:b (tag:c)", "tag") == "x (tag:c)"
    assert without("tag:a OR x", "tag") == "tag:a OR x"


def test_the_terms_of_a_query() -> None:
    text = 'card -Kind:api,x "two words" OR (spec.x:>=3)'
    shown = [
        (term.text, term.field, term.operator, term.values, term.is_negated, term.depth)
        for term in terms_of(text)
    ]
    assert shown == [
        ("card", "", "", ("card",), False, 0),
        ("-Kind:api,x", "kind", "=", ("api", "x"), True, 0),
        ('"two words"', "", "", ("two words",), False, 0),
        ("OR", "", "OR", (), False, 0),
        ("(", "", "(", (), False, 0),
        ("spec.x:>=3", "spec.x", ">=", ("3",), False, 1),
        (")", "", ")", (), False, 0),
    ]
    assert all(term.error is None for term in terms_of(text))
    assert all(text[term.position : term.position + term.length] == term.text for term in terms_of(text))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("kind:api onwer:x card", ["onwer:x"]),
        ("kind: card", ["kind:"]),
        ("changed:soon -is:good", ["changed:soon", "-is:good"]),
        ("a OR OR b", ["OR"]),
        ("a)", [")"]),
        ('a "b c', ['"b c']),
    ],
)
def test_wrong_terms_say_so_and_the_others_do_not(text: str, wrong: list[str]) -> None:
    assert [term.text for term in terms_of(text) if term.error is not None] == wrong


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", ("name", "uid")),
        (None, ("name", "uid")),
        ("-changed", ("-changed_at", "-uid")),
        ("-title", ("-title_key", "-uid")),
        ("kind, -Run", ("kind", "-last_run", "-uid")),
        ("name,name,-name", ("name", "uid")),
        ("-uid", ("-uid",)),
    ],
)
def test_orders(text: str | None, fields: tuple[str, ...]) -> None:
    assert order_by(text) == fields


@pytest.mark.parametrize(
    ("text", "position", "length", "words"),
    [
        ("name,chnged", 5, 6, "“changed”"),
        ("digest", 0, 6, "ordered by “digest”"),
        ("name,", 5, 0, "expected is name, title"),
        ("name,kind,type,owner,run", 0, 24, "at most 4"),
    ],
)
def test_wrong_orders(text: str, position: int, length: int, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        order_by(text)
    assert (caught.value.position, caught.value.length) == (position, length)
    assert words in caught.value.sentence
    assert caught.value.as_problem()["errors"][0]["path"] == "order"
