"""Expressions: what they give, how they fail, and that they cannot do harm."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from base import limits
from base.expressions import Context, ExpressionError, compile_expression, evaluate

ENTITY = {
    "kind": "Component",
    "metadata": {"name": "pay", "tags": ["java", "pci"]},
    "spec": {"owner": "team-a"},
    "n": None,
}


def value(text: str) -> Any:
    return evaluate(text, {"entity": ENTITY})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("entity.spec.owner == 'team-a'", True),
        ("entity.?spec.?missing.orValue('d')", "d"),
        ("entity.metadata.tags.filter(t, t.startsWith('p'))", ["pci"]),
        ("has(entity.spec.owner)", True),
        ("{'a': 1, 'b': [1.5, null]}", {"a": 1, "b": [1.5, None]}),
        ("'a,b'.split(',')", ["a", "b"]),
        ("timestamp('2026-01-02T03:04:05Z')", "2026-01-02T03:04:05+00:00"),
        ("duration('90s')", 90.0),
        ("entity.metadata.tags[0].matches('^j.v')", True),
    ],
)
def test_values(text: str, expected: Any) -> None:
    assert value(text) == expected


def test_now_is_a_time() -> None:
    context = Context(now=datetime(2026, 1, 1, tzinfo=UTC))
    assert compile_expression(
        "now - duration('1h') < timestamp('2026-01-01T00:00:00Z')", variables=["now"]
    ).test(context)


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("entiti.spec", 7, "There is no “entiti”"),
        ("entity.spec == ", 16, "syntax"),
        ("1 + 'a'", 3, "does not go with"),
        ("  ", 1, "empty"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_written(text: str, column: int, says: str) -> None:
    with pytest.raises(ExpressionError, match=says) as caught:
        compile_expression(text, variables=["entity"])
    assert caught.value.column == column
    assert caught.value.as_problem()["column"] == column


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("entity.spec.missing", "no key “missing”"),
        ("entity.n.x", "not an object"),
        ("entity.metadata.tags[7]", "[Ii]ndex"),
        ("1 / 0", "divide by zero"),
        ("entity.spec.owner + 1", "does not go with"),
        ("entity.?spec", "orValue"),
        ("b'abc'", "neither text"),
        ("type(1)", "neither text"),
    ],
)
def test_what_fails_on_data_is_an_error_not_a_value(text: str, says: str) -> None:
    with pytest.raises(ExpressionError, match=says) as caught:
        value(text)
    assert caught.value.column is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1.0 / 0.0", "no finite number"),
        ("[0.0 / 0.0]", "no finite number"),
        (r"'a\u0000'", "NUL"),
        (r"{'a\u0000': [1]}", "NUL"),
        ("[long, long].join('')", "characters"),
        ("[[deep]]", "levels deep"),
    ],
)
def test_what_cannot_be_stored_is_no_value(text: str, says: str) -> None:
    deep: Any = 1
    for _level in range(limits.MAX_DEPTH - 1):
        deep = [deep]
    with pytest.raises(ExpressionError, match=says):
        evaluate(text, {"long": "x" * (limits.MAX_STRING - 1), "deep": deep})


def test_a_condition_must_be_true_or_false() -> None:
    context = Context(entity=ENTITY)
    assert not compile_expression("entity.kind == 'API'", variables=["entity"]).test(context)
    with pytest.raises(ExpressionError, match="must be true or false"):
        compile_expression("entity.kind", variables=["entity"]).test(context)


def test_one_context_serves_expressions_over_different_names() -> None:
    context = Context(entity=ENTITY, extra=2)
    assert compile_expression("entity.kind", variables=["entity"]).evaluate(context) == "Component"
    assert compile_expression("extra + 1", variables=["extra"]).evaluate(context) == 3
    with pytest.raises(TypeError, match="other"):
        compile_expression("other", variables=["other"]).evaluate(context)


def test_long_runs_are_stopped() -> None:
    text = "x.all(a, x.all(b, x.all(c, true)))"
    began = time.process_time()
    with pytest.raises(ExpressionError, match="too many steps"):
        evaluate(text, {"x": list(range(300))})
    assert time.process_time() - began < 2


def test_long_and_deep_expressions_are_refused() -> None:
    with pytest.raises(ExpressionError, match="at most 4000"):
        compile_expression("1" * 4_001, variables=[])
    with pytest.raises(ExpressionError, match="nested too deeply"):
        compile_expression("+".join(["1"] * 200), variables=[])
    with pytest.raises(ExpressionError):
        compile_expression("(" * 1_000 + "1" + ")" * 1_000, variables=[])


def test_deep_data_is_refused_before_the_engine_sees_it() -> None:
    data: Any = 1
    for _ in range(100_000):
        data = [data]
    with pytest.raises(limits.LimitExceeded):
        Context(entity=data)
    while isinstance(data, list):  # so that freeing it does not recurse
        data = data.pop()


def test_cyclic_data_is_refused() -> None:
    data: list[Any] = []
    data.append(data)
    with pytest.raises(limits.LimitExceeded):
        Context(entity=data)
