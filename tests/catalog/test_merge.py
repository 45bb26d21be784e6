"""How claims become one document: a pure function, checked against a plain model of the rules."""

from __future__ import annotations

import random
from functools import reduce
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.services.merge import Said, conflicts, diff, in_common, in_order, leaves, merge, provenance

UNIONS = frozenset({("metadata", "tags"), ("metadata", "links"), ("spec", "u")})

scalars = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "b", "1"])
values = st.recursive(
    scalars | st.lists(st.sampled_from(["a", "b", 1, True]), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abu"), inner, max_size=3),
    max_leaves=6,
)
links = st.lists(
    st.fixed_dictionaries({"url": st.sampled_from(["x:1", "x:2"])}, optional={"title": scalars}), max_size=3
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "tags": st.lists(st.sampled_from("abc"), max_size=3) | scalars,
                "links": links,
                "a": values,
            },
        ),
        "spec": st.dictionaries(st.sampled_from("abu"), values, max_size=3) | st.none(),
        "kind": scalars,
    },
)
said = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), documents), min_size=1, max_size=5).map(
    lambda rows: [Said(number, rank, age, document) for number, (rank, age, document) in enumerate(rows)]
)


def plain(value: Any) -> bytes:
    """One spelling of a value: 1, 1.0 and true are three things."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def over(strong: dict[str, Any], weak: dict[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """The model: one claim over what the weaker ones came to. Nulls stay: they cut off what is below."""
    out = dict(weak)
    for key, value in strong.items():
        here, below = (*path, key), weak.get(key)
        if isinstance(value, dict):
            out[key] = over(value, below if isinstance(below, dict) else {}, here)
        elif isinstance(value, list) and here in UNIONS:
            out[key] = unite(value, below if isinstance(below, list) else [])
        else:
            out[key] = value
    return out


def unite(first: list[Any], second: list[Any]) -> list[Any]:
    out = list(first)
    for element in second:
        if not any(is_one(element, other) for other in out):
            out.append(element)
    return out


def is_one(element: Any, other: Any) -> bool:
    if isinstance(element, dict) and isinstance(other, dict) and "url" in element and "url" in other:
        return bool(element["url"] == other["url"])
    return plain(element) == plain(other)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


def model(claims: list[Said]) -> dict[str, Any]:
    ordered = sorted(claims, key=lambda s: (s.rank, s.age, s.claim_id))
    return without_nulls(reduce(lambda weak, strong: over(strong.document, weak), reversed(ordered), {}))


@settings(max_examples=300, deadline=None)
@given(said)
def test_the_outcome_is_that_of_laying_claims_over_each_other(claims: list[Said]) -> None:
    assert plain(merge(claims, unions=UNIONS)) == plain(model(claims))


@settings(max_examples=150, deadline=None)
@given(said, st.randoms(use_true_random=False))
def test_the_order_in_which_claims_come_never_matters(claims: list[Said], chance: random.Random) -> None:
    shuffled = list(claims)
    chance.shuffle(shuffled)
    assert orjson.dumps(merge(shuffled, unions=UNIONS)) == orjson.dumps(merge(claims, unions=UNIONS))
    assert conflicts(shuffled, unions=UNIONS) == conflicts(claims, unions=UNIONS)
    assert provenance(shuffled) == provenance(claims)


@settings(max_examples=150, deadline=None)
@given(said)
def test_saying_nothing_or_the_same_once_more_changes_nothing(claims: list[Said]) -> None:
    merged = plain(merge(claims, unions=UNIONS))
    assert plain(merge([*claims, Said(99, 9, 9, {})], unions=UNIONS)) == merged
    assert plain(merge([*claims, Said(99, 0, 0, {})], unions=UNIONS)) == merged
    assert plain(merge([*claims, Said(99, 9, 9, in_order(claims)[0].document)], unions=UNIONS)) == merged


@settings(max_examples=150, deadline=None)
@given(said)
def test_provenance_names_for_each_field_whose_word_it_is(claims: list[Said]) -> None:
    found = provenance(claims)
    rebuilt: dict[str, Any] = {}
    for path, voices in found.items():
        assert voices == sorted(
            voices, key=lambda v: [s.claim_id for s in in_order(claims)].index(v.claim_id)
        )
        if voices[0].value is None:
            continue
        node = rebuilt
        for part in path[:-1]:
            node = node.setdefault(part, {})
        lists = (
            [voice.value for voice in voices] if path in UNIONS and isinstance(voices[0].value, list) else []
        )
        cut = next((n for n, value in enumerate(lists) if not isinstance(value, list)), len(lists))
        node[path[-1]] = reduce(unite, lists[:cut]) if lists else voices[0].value
    merged = merge(claims, unions=UNIONS)
    # An object all of whose fields were removed is there, and empty.
    assert dict(filled(rebuilt)) == dict(filled(merged))


def filled(document: dict[str, Any]) -> list[tuple[Any, bytes]]:
    return [(path, plain(value)) for path, value in leaves(document) if value != {}]


@settings(max_examples=200, deadline=None)
@given(documents.map(without_nulls), documents.map(without_nulls))
def test_a_diff_leads_from_the_old_to_the_new_and_back(old: dict[str, Any], new: dict[str, Any]) -> None:
    rows = diff(old, new)
    before = {".".join(path): value for path, value in leaves(old)}
    after = {".".join(path): value for path, value in leaves(new)}
    forth, back = dict(before), dict(after)
    for row in rows:
        for fields, side in ((forth, "new"), (back, "old")):
            fields.pop(row["path"], None)
            if side in row:
                fields[row["path"]] = row[side]
    assert plain(forth) == plain(after)
    assert plain(back) == plain(before)
    assert bool(rows) == (plain(before) != plain(after))


PERSON, YAML, API, TOOL, INFERRED = range(5)


def claim(number: int, rank: int, document: dict[str, Any], *, age: int = 1) -> Said:
    return Said(number, rank, age, document)


@pytest.mark.parametrize("weaker", [YAML, API, TOOL, INFERRED])
def test_a_stronger_rank_wins_whatever_its_age(weaker: int) -> None:
    claims = [
        claim(1, weaker, {"spec": {"owner": "old"}}, age=1),
        claim(2, weaker - 1, {"spec": {"owner": "new"}}, age=9),
    ]
    assert merge(claims) == {"spec": {"owner": "new"}}
    assert not conflicts(claims)[0].is_tie


def test_at_equal_rank_the_older_source_wins_and_both_values_are_named() -> None:
    claims = [
        claim(1, TOOL, {"spec": {"owner": "b"}}, age=7),
        claim(2, TOOL, {"spec": {"owner": "a"}}, age=3),
    ]
    assert merge(claims) == {"spec": {"owner": "a"}}
    (conflict,) = conflicts(claims)
    assert conflict.is_tie
    assert [voice.value for voice in conflict.voices] == ["a", "b"]


def test_objects_merge_by_key_and_lists_are_taken_whole() -> None:
    claims = [
        claim(1, YAML, {"spec": {"a": 1, "list": [1]}, "metadata": {"labels": {"x": "1"}}}),
        claim(2, TOOL, {"spec": {"b": 2, "list": [2, 3]}, "metadata": {"labels": {"y": "2"}}}),
    ]
    assert merge(claims) == {
        "spec": {"a": 1, "b": 2, "list": [1]},
        "metadata": {"labels": {"x": "1", "y": "2"}},
    }


def test_unions_put_lists_together_and_a_link_is_its_address() -> None:
    claims = [
        claim(1, YAML, {"metadata": {"tags": ["a"], "links": [{"url": "x:1", "title": "ours"}]}}),
        claim(
            2,
            TOOL,
            {"metadata": {"tags": ["b", "a"], "links": [{"title": "theirs", "url": "x:1"}, {"url": "x:2"}]}},
        ),
    ]
    assert merge(claims) == {
        "metadata": {"tags": ["a", "b"], "links": [{"url": "x:1", "title": "ours"}, {"url": "x:2"}]}
    }
    assert not conflicts(claims)
    assert merge(
        [claim(1, YAML, {"spec": {"dependsOn": ["a"]}}), claim(2, API, {"spec": {"dependsOn": ["b"]}})]
    ) == {"spec": {"dependsOn": ["a"]}}


def test_an_explicit_null_removes_what_weaker_claims_say() -> None:
    weak = claim(3, TOOL, {"spec": {"owner": "x", "deep": {"a": 1}}, "metadata": {"tags": ["a"]}})
    assert merge([claim(1, PERSON, {"spec": {"owner": None}}), weak])["spec"] == {"deep": {"a": 1}}
    assert merge([claim(1, PERSON, {"spec": {"deep": None}}), weak])["spec"] == {"owner": "x"}
    assert merge([claim(1, PERSON, {"metadata": {"tags": None}}), weak])["metadata"] == {}
    # A null in the middle hides what is below it from those above it.
    middle = claim(2, YAML, {"spec": {"deep": None}})
    assert merge([claim(1, PERSON, {"spec": {"deep": {"b": 2}}}), middle, weak])["spec"]["deep"] == {"b": 2}


def test_what_a_null_cuts_off_is_nobodys_field() -> None:
    claims = [claim(1, PERSON, {"spec": {"deep": None}}), claim(2, TOOL, {"spec": {"deep": {"a": 1}}})]
    found = provenance(claims)
    assert [voice.claim_id for voice in found["spec", "deep"]] == [1, 2]
    assert ("spec", "deep", "a") not in found


def test_names_and_kinds_are_never_in_conflict() -> None:
    claims = [
        claim(1, YAML, {"apiVersion": "a/v1", "kind": "X", "metadata": {"name": "a", "namespace": "n"}}),
        claim(2, YAML, {"apiVersion": "b/v1", "kind": "Y", "metadata": {"name": "b", "namespace": "m"}}),
    ]
    assert conflicts(claims) == []


def test_true_and_one_are_different_values() -> None:
    assert diff({"spec": {"a": True}}, {"spec": {"a": 1}}) == [{"path": "spec.a", "old": True, "new": 1}]
    assert conflicts([claim(1, YAML, {"spec": {"a": [1]}}), claim(2, YAML, {"spec": {"a": [True]}})])


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (["a", "b", "c"], ["a", "c", "d"], ["a", "c"]),
        (["a", "b"], ["b", "a"], None),  # that both are in it is alike, and in what order is not
        (["a", "a"], ["a"], None),
        (["a"], ["b"], None),
        ([1], [True], None),
        ([], [], []),
        ([{"x": 1, "y": 2}, "z"], [{"y": 2, "x": 1}], [{"x": 1, "y": 2}]),
        (["a"], "a", None),
    ],
)
def test_of_lists_those_for_different_groups_have_in_common_what_all_have_in_one_order(
    one: Any, other: Any, common: Any
) -> None:
    for pair in ((one, other), (other, one)):
        found = in_common([{"spec": {"a": value}} for value in pair], unions=UNIONS)
        assert found == ({} if common is None else {"spec": {"a": common}})
    if isinstance(other, list):
        united = in_common([{"spec": {"u": one}}, {"spec": {"u": other}}], unions=UNIONS).get("spec", {})
        assert sorted(map(plain, united.get("u", []))) == sorted({*map(plain, one)} & {*map(plain, other)})


@given(st.lists(documents, min_size=2, max_size=4), st.randoms())
def test_what_documents_have_in_common_tells_nothing_of_any_one_of_them(
    given: list[dict[str, Any]], chance: random.Random
) -> None:
    """It is the same, whoever is asked first; only unions, which have no order, come in somebody's."""

    def unordered(value: Any, path: tuple[str, ...] = ()) -> Any:
        if isinstance(value, dict):
            return {key: unordered(inner, (*path, key)) for key, inner in value.items()}
        return sorted(map(plain, value)) if path in UNIONS and isinstance(value, list) else plain(value)

    shuffled = list(given)
    chance.shuffle(shuffled)
    found = [unordered(in_common(those, unions=UNIONS)) for those in (given, shuffled)]
    assert found[0] == found[1]
