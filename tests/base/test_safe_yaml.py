"""YAML is read as version 1.2 says, one broken document hurts no other, and nothing exhausts us."""

from __future__ import annotations

import time
from typing import Any

import pytest

from base import limits
from base.safe_yaml import YamlError, load, parse_documents, place_of


def one(text: str) -> Any:
    return load(text, name="a.yaml")


def error_of(text: str) -> YamlError:
    (document,) = parse_documents(text, name="a.yaml")
    assert document.data is None
    assert document.error is not None
    return document.error


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("True", True), ("FALSE", False), ("tRUE", "tRUE"),
        ("~", None), ("null", None), ("Null", None), ("nULL", "nULL"), ("", None),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("+1", 1), ("-7", -7), ("1_000", "1_000"), ("0b11", "0b11"),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000), ("1.0", 1), ("12:30:45", "12:30:45"), ("1.2.3", "1.2.3"),
        ("2020-01-01", "2020-01-01"), ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        (".inf", None), (".nan", None), ("=", "="), ("-", None), ("'1'", "1"), ('"\\x41"', "A"),
        ("!!str 1", "1"), ("!!int '5'", 5), ("!foo 5", "5"), ("!!python/name:os.system x", "x"),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
        ("9" * 5000, None),
    ],
)  # fmt: skip
def test_scalars(text: str, value: Any) -> None:
    if text == "-":
        assert one("a:\n-") == {"a": [None]}
        return
    read = one(f"a: {text}")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1: a\ntrue: b\nnull: c\n1.5: d", {"1": "a", "true": "b", "": "c", "1.5": "d"}),
        ("a: {{ x }}", {"a": {"{ x }": None}}),
        ("base: &b {x: 1}\nc:\n  <<: *b\n  y: 2", {"base": {"x": 1}, "c": {"<<": {"x": 1}, "y": 2}}),
        ("a: &x 1\na2: &x 2\nb: *x", {"a": 1, "a2": 2, "b": 2}),
        ("a: |\n  x\n  y", {"a": "x\ny\n"}),
        ("a: >-\n  x\n  y\n", {"a": "x y"}),
        ("a: 'x\u2028y'\nb: 'é\x85'", {"a": "x\u2028y", "b": "é\x85"}),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 1\r\nb: 2\rc: 3", {"a": 1, "b": 2, "c": 3}),
    ],
)
def test_structures(text: str, value: Any) -> None:
    assert one(text) == value


def test_aliases_do_not_share_data() -> None:
    data = one("a: &x [1]\nb: *x")
    data["a"].append(2)
    assert data["b"] == [1]


def test_documents_have_number_line_and_their_own_fate() -> None:
    text = """\
# a comment is no document
---
a: 1
---
---
b: [1,
---
c: |
  text
   --- not a marker
  end
...
%YAML 1.2
---
d: 4
--- {e: 5}
---
# nothing here
"""
    documents = parse_documents(text, name="many.yaml")
    assert [(d.number, d.line) for d in documents] == [(1, 2), (2, 5), (3, 7), (4, 13), (5, 16)]
    assert [d.data for d in documents] == [
        {"a": 1}, None, {"c": "text\n --- not a marker\nend\n"}, {"d": 4}, {"e": 5}
    ]  # fmt: skip
    assert [d.number for d in documents if d.error] == [2]
    assert "many.yaml, document 2, line 7" in str(documents[1].error)


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n", "---\n", "---\n---\n...\n", "--- # x\n", "\ufeff"])
def test_empty_texts_have_no_documents(text: str) -> None:
    assert parse_documents(text, name="a.yaml") == []


def test_a_document_is_parsed_only_when_asked_for() -> None:
    first, second = parse_documents("a: [\n---\nb: 1\n", name="a.yaml")
    assert first.digest != second.digest
    assert not first._parsed
    assert first.error is not None
    assert first._parsed
    assert not second._parsed


def test_the_digest_is_of_the_document_alone() -> None:
    before = parse_documents("a: 1\n---\nb: 1\n", name="a.yaml")
    after = parse_documents("a: 2\n---\nb: 1\n", name="a.yaml")
    assert before[0].digest != after[0].digest
    assert before[1].digest == after[1].digest


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\na: 2", 2, 1, "second time"),
        ("a:\n  b: {c: 1, c: 2}", 2, 13, "second time"),
        ("a: %x", 1, 4, "put the value in quotes"),
        ("a:\n  {% if x %}", 2, 4, "template"),
        ("a: b: c", 1, 5, "colon"),
        ("a:\n\tb: 1", 2, 1, "indent with spaces"),
        ("a: é\nb: \x01", 2, 4, "U\\+0001"),
        ("x: *nope", 1, 4, "\\*nope"),
        ("a: &a [*a]", 1, 8, "\\*a"),
        ('a: "\\0"', 1, 4, "NUL"),
        ("a: 'x", 1, 4, "not closed"),
    ],
)
def test_errors_say_where_and_what(text: str, line: int, column: int, says: str) -> None:
    error = error_of(text)
    assert (error.line, error.column) == (line, column)
    with pytest.raises(YamlError, match=says):
        raise error


def test_a_second_document_is_refused_where_one_is_expected() -> None:
    with pytest.raises(YamlError, match="line 2"):
        one("a: 1\n---\nb: 2")


def test_alias_bombs_are_refused_quickly() -> None:
    rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    rows += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)]
    began = time.process_time()
    assert "values" in str(error_of("\n".join(rows)))
    assert time.process_time() - began < 2


def test_a_large_text_cannot_be_multiplied() -> None:
    assert "Aliases" in str(error_of("a: &a '" + "x" * 1_000_000 + "'\nb: [*a, *a, *a]"))
    assert "Aliases" in str(error_of("a: &a x\nb: [" + "*a," * (limits.MAX_ALIASES + 1) + "]"))


@pytest.mark.parametrize(
    "text", ["[" * 500_000, "{a: " * 100_000, "- " * 100_000, "a: " + "[" * 65 + "]" * 65]
)
def test_deep_nesting_is_refused_quickly(text: str) -> None:
    began = time.process_time()
    assert "levels deep" in str(error_of(text))
    assert time.process_time() - began < 2


def test_depth_through_aliases_counts() -> None:
    rows = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 80)]
    assert "levels deep" in str(error_of("\n".join(rows)))


def test_nesting_within_the_limit_passes() -> None:
    assert one("[" * 64 + "]" * 64)


def test_a_large_document_is_refused_alone_and_a_large_file_wholly() -> None:
    large = "a: '" + "x" * limits.MAX_DOCUMENT_BYTES + "'\n---\nb: 1\n"
    first, second = parse_documents(large, name="a.yaml")
    assert first.error is not None
    assert second.data == {"b": 1}
    with pytest.raises(limits.LimitExceeded):
        parse_documents(b"#" * (limits.MAX_FILE_BYTES + 1), name="a.yaml")
    with pytest.raises(limits.LimitExceeded):
        parse_documents("---\na\n" * (limits.MAX_DOCUMENTS + 1), name="a.yaml")


def test_bytes_in_other_encodings() -> None:
    assert load("a: ü".encode("utf-16"), name="a") == {"a": "ü"}
    assert load(b"a: \xff", name="a") == {"a": "\ufffd"}
    assert "surrogate" in str(error_of("a: \ud800"))


TEXT = """\
metadata:
  name: x
  tags:
    - a
    - b: 1
      c: 2
  annotations:
    "a.b/c": 1
spec: {owner: [x,
  y]}
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("", (1, 1)),
        ("metadata", (1, 1)),
        ("metadata.tags[1].c", (6, 7)),
        ('metadata.annotations["a.b/c"]', (8, 5)),
        (["metadata", "annotations", "a.b/c"], (8, 5)),
        ("spec.owner", (9, 8)),
        ("spec.owner[0]", (9, 16)),
        ("spec.owner[1]", (10, 3)),
        ("spec.missing.deeper", (9, 1)),
        ("nothing", (1, 1)),
    ],
)
def test_the_place_of_a_path(path: Any, place: tuple[int, int]) -> None:
    assert place_of(TEXT, path) == place


def test_the_place_of_a_path_counts_in_the_whole_text() -> None:
    _first, second = parse_documents("a: 1\n---\nb:\n  c: 1\n", name="a.yaml")
    assert second.place_of("b.c") == (4, 3)


def test_the_place_of_a_path_before_a_broken_place() -> None:
    assert place_of("a: 1\nb: 2\nc: [", "b") == (2, 1)


def test_many_documents_are_read_quickly() -> None:
    text = "".join(
        f"---\napiVersion: v1\nkind: Component\nmetadata:\n  name: c{i}\n  tags: [a, b]\n"
        f"spec:\n  type: service\n  owner: team-{i % 7}\n  dependsOn: [component:c{i // 2}]\n"
        for i in range(5_000)
    )
    began = time.process_time()
    documents = parse_documents(text, name="a.yaml")
    split = time.process_time() - began
    assert sum(1 for document in documents if document.data) == 5_000
    # Far above what it takes, so that a busy machine does not matter; a quadratic step would show.
    assert split < 1
    assert time.process_time() - began < 5
