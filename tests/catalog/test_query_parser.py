"""The text of queries: what can be read, what cannot, and that the error says where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.query import QueryError, format_query, parse
from catalog.query.lexer import KEYWORDS, scan
from catalog.query.nodes import And, Filter, Node, Not, Or, Value, Words
from catalog.query.parser import MAX_DEPTH, MAX_LENGTH, MAX_TERMS

anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
letters = st.text("abcXYZ09_./@#é-*", min_size=1, max_size=8)
bare = letters.filter(lambda text: ".." not in text)
words = bare.filter(lambda text: not text.startswith("-") and text not in KEYWORDS)
values = st.one_of(
    bare.map(Value),
    anything.map(lambda text: Value(text, is_quoted=True)),
    st.builds(Value, bare, st.sampled_from(["<", "<=", ">", ">="])),
    st.builds(lambda lower, upper: Value(lower, "..", upper), st.sampled_from(["", "2"]), st.just("5")),
)
terms = st.one_of(
    words.map(lambda text: Words(Value(text))),
    anything.map(lambda text: Words(Value(text, is_quoted=True))),
    st.builds(Filter, words, st.lists(values, min_size=1, max_size=3).map(tuple)),
)
trees = st.recursive(
    terms,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda items: And(tuple(items))),
        st.lists(inner, min_size=2, max_size=3).map(lambda items: Or(tuple(items))),
    ),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=500)
def test_a_tree_survives_its_text(tree: Node) -> None:
    assert parse(format_query(tree)) == tree


pieces = st.sampled_from(
    [
        "kind:",
        "a",
        ":",
        '"',
        "(",
        ")",
        "-",
        " OR ",
        " AND ",
        "NOT ",
        ",",
        "..",
        ">=",
        "<",
        "*",
        "\\",
        " ",
        "\0",
        "\ud800",
        "=",
        "é",
    ]
)


@given(st.one_of(st.text(), st.lists(pieces).map("".join)))
@settings(max_examples=1_000)
def test_any_text_is_read_or_refused_with_a_place_inside_of_it(text: str) -> None:
    tree, error = attempt(text)
    if error is None:
        assert tree is not None
        assert parse(format_query(tree)) == tree
    else:
        assert 0 <= error.position <= len(text)
        assert 0 <= error.length <= len(text) - error.position
        assert error.sentence


def attempt(text: str) -> tuple[Node | None, QueryError | None]:
    try:
        return parse(text), None
    except QueryError as error:
        return None, error


@given(st.one_of(st.text(), st.lists(pieces).map("".join)))
def test_lexemes_lie_in_the_text_one_after_the_other(text: str) -> None:
    end = 0
    for lexeme in scan(text):
        assert end <= lexeme.span.position < lexeme.span.end <= len(text)
        assert not text[end : lexeme.span.position].strip()
        end = lexeme.span.end
    assert not text[end:].strip()


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", And(())),
        ("  ", And(())),
        ("card", Words(Value("card"))),
        ("a b OR c", Or((And((Words(Value("a")), Words(Value("b")))), Words(Value("c"))))),
        ("a AND b", And((Words(Value("a")), Words(Value("b"))))),
        ("NOT a", Not(Words(Value("a")))),
        ("-kind:api", Not(Filter("kind", (Value("api"),)))),
        ("-(a OR b)", Not(Or((Words(Value("a")), Words(Value("b")))))),
        ("or not and", And((Words(Value("or")), Words(Value("not")), Words(Value("and"))))),
        ('"OR"', Words(Value("OR", is_quoted=True))),
        (r'"say \"a\\b\" \n"', Words(Value(r'say "a\b" \n', is_quoted=True))),
        ("owner:group:default/pay", Filter("owner", (Value("group:default/pay"),))),
        ("x:1..5,>=7,*..9", Filter("x", (Value("1", "..", "5"), Value("7", ">="), Value("", "..", "9")))),
        ('x:>"2"', Filter("x", (Value("2", ">"),))),
        ("a,b e-mail", And((Words(Value("a,b")), Words(Value("e-mail"))))),
    ],
)
def test_reading(text: str, tree: Node) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "length", "words"),
    [
        ("kind:", 5, 0, "A value is expected after “kind:”"),
        ("kind:a, b", 7, 0, "right after the comma"),
        ("kind:(a b)", 5, 1, "kind:one,two"),
        ('a "b c', 2, 1, "never closed"),
        ("(a b", 0, 1, "never closed"),
        ("a) b", 1, 1, "never opened"),
        ("a OR", 4, 0, "A term is expected"),
        ("a OR OR b", 5, 2, "A term is expected"),
        ("()", 1, 1, "A term is expected"),
        ("a - b", 3, 0, "right after “-”"),
        (":a", 0, 1, "name of a field"),
        ("x:!=a", 2, 1, "-x:value"),
        ("x:..", 2, 2, "at least one end"),
        ('x:a"b"', 3, 1, "A blank is expected"),
        ("a b\0c", 3, 1, "U+0000"),
    ],
)
def test_what_is_wrong_and_where(text: str, position: int, length: int, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert (caught.value.position, caught.value.length) == (position, length)
    assert words in caught.value.sentence
    problem = caught.value.as_problem()
    assert problem["code"] == "bad-query"
    assert problem["status"] == 400
    assert (problem["position"], problem["length"]) == (position, length)
    assert f"Character {position + 1} " in problem["detail"]


@pytest.mark.parametrize(
    "text",
    [
        "a" * (MAX_LENGTH + 1),
        "a " * (MAX_TERMS + 1),
        "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1),
        "-" * (MAX_DEPTH + 1) + "a",
    ],
)
def test_limits(text: str) -> None:
    with pytest.raises(QueryError):
        parse(text)


def test_what_just_fits_is_read() -> None:
    parse("a" * MAX_LENGTH)
    parse("a " * MAX_TERMS)
    parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
