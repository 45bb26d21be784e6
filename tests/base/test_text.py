"""Names made from paths are always valid, and paths read as they are written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.paths import format_path, parse_path
from base.text import derive_name, excerpt, whole_number

NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("acme/payments-api", "acme-payments-api"),
        ("Acme Payments / API", "acme-payments-api"),
        ("Straße/Ünïcode", "strasse-unicode"),
        ("x_y/z.js", "x_y-z.js"),
        ("--a--b--", "a-b"),
    ],
)
def test_names_of_paths(path: str, name: str) -> None:
    assert derive_name(path, key="k") == name


@given(st.text(max_size=200), st.text(min_size=1), st.booleans())
def test_a_derived_name_is_always_valid(path: str, key: str, with_suffix: bool) -> None:
    name = derive_name(path, key=key, with_suffix=with_suffix)
    assert NAME.match(name)
    assert len(name) <= 63


def test_the_suffix_tells_equal_paths_apart_and_stays() -> None:
    first, second = (derive_name("a/b", key=key, with_suffix=True) for key in ("one", "two"))
    assert first != second
    assert first == derive_name("a/b", key="one", with_suffix=True)


@given(st.lists(st.one_of(st.integers(min_value=0, max_value=999), st.text(max_size=20))))
def test_a_path_is_read_as_it_was_written(parts: list[str | int]) -> None:
    assert parse_path(format_path(parts)) == tuple(parts)


def test_an_excerpt_is_short() -> None:
    assert excerpt({"a": [1, None]}) == '{"a":[1,null]}'
    assert len(excerpt("x" * 1_000)) <= 82
    assert len(excerpt(["x"] * 1_000)) <= 80


@pytest.mark.parametrize("text", ["", "-1", "1.0", " 1", "²", "٣", "1_0", "9" * 18, "9" * 5_000])
def test_what_is_no_number_is_none(text: str) -> None:
    assert whole_number(text, default=-1) == -1


def test_numbers_are_read() -> None:
    assert [whole_number(text) for text in ("0", "007", "9" * 17)] == [0, 7, int("9" * 17)]
