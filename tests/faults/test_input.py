"""Whatever a tool says: no record crashes a run, a bad one is refused alone with a reason, and all that is taken in
can be shown."""

from __future__ import annotations

import types
import typing
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import orjson
import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel, JsonValue

from catalog.models import Activity, Entity, Problem, Served, Transition
from catalog.services.render import render_dirty
from integrations import components, registry
from integrations.contract import Expect, Mark, Refused, record_or_refusal, resource
from integrations.models import RecordOutcome, RunState, StoredRecord
from integrations.records import RECORD_TYPES, Commit, Record, Repository, Team
from integrations.writing import RecordWriter
from tests.faults.conftest import Portal
from tests.faults.upstream import Paged, Upstream

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient", "paged")]

# Text that has broken something somewhere.
NASTY = [
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "‮gnp.exe", "\u2028", "\ufeff", "𝕏" * 400, "é" * 999, "漢" * 700,
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "JaVaScRiPt:alert(1)",
    "data:text/html,<script>alert(1)</script>", "../../../etc/passwd", "..\\..\\x", "/etc/passwd", "file:///etc/passwd",
    "a/b/c", "name with spaces", "UPPER", "ǅ", "ß", "İ", "${jndi:ldap://x.example}", "{{7*7}}", "{% load x %}",
    "'; DROP TABLE catalog_entity; --", "=cmd|' /C calc'!A0", "+1+1", "@SUM(1)", "\r\nX-Injected: 1", "%s%n%d",
    "a" * 5_000,
    "repo:git.acme.example/a/b", "repo:" + "x" * 995, "repo:git.acme.example/" + "漢" * 600, "kind:ns/name",
    "component:default/x", "null", "true", "-0", "1e999", "9" * 400, "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "@-3d", "https://acme.example/" + "a" * 1_900, "http://[::1]/",
    "https://[x/y", "repo:https://[x/y", "//[",
    "https://user:password@acme.example/", "\x1b[31mred", "\x7f", "a#b#c", "#", "repo:x#y", ":", "::", "/", "//", "@",
    "@/",
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(["pay", "shop", "Acme Pay"]), st.text(max_size=40), st.sampled_from(NASTY))
KEYS = st.one_of(
    st.sampled_from(
        ["repo:git.acme.example/acme/pay", "pipeline:ci.acme.example/7", "image:r.acme.example/pay:1"]
    ),
    st.builds("{}:{}".format, st.sampled_from(["repo", "image", "commit", "npm", "user", "x"]), TEXTS),
)
SCALARS = st.one_of(
    TEXTS, st.integers(), st.sampled_from([10**30, -(10**30), 2**63, 2**64, -1, 0, float("inf"), float("nan"), 1e308]),
    st.booleans(), st.none(), st.datetimes(timezones=st.just(UTC)),
)  # fmt: skip
JSON = st.recursive(
    st.one_of(SCALARS.filter(lambda value: not isinstance(value, datetime))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
GOOD_MOMENTS = st.datetimes(
    min_value=datetime(1890, 1, 1), max_value=datetime(2210, 1, 1), timezones=st.just(UTC)
)
MOMENTS = st.integers(0, 9).flatmap(lambda n: GOOD_MOMENTS if n else TEXTS)
Draw = Callable[[SearchStrategy[Any]], Any]


def _of(annotation: Any) -> SearchStrategy[Any]:
    """Values that may pass for a field, good or bad."""
    if hasattr(annotation, "__value__"):  # a named type, as JsonValue is
        return JSON
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _of(args[0])
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(_of(arg) for arg in args if arg is not type(None)), st.none())
    if origin is list:
        return st.lists(_of(args[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(TEXTS, _of(args[1]), max_size=4)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return st.sampled_from([*annotation, "wrong"])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _fields(annotation)
    if annotation is JsonValue:
        return JSON
    return {
        str: TEXTS, int: st.one_of(st.integers(0, 50), SCALARS), bool: st.booleans(), datetime: MOMENTS,
    }.get(annotation, MOMENTS)  # fmt: skip


@st.composite
def _fields(draw: Draw, model: type[BaseModel]) -> dict[str, Any]:
    """The required fields and a few of the others."""
    optional = sorted(name for name, field in model.model_fields.items() if not field.is_required())
    chosen = draw(st.sets(st.sampled_from(optional), max_size=3)) if optional else set()
    chosen |= {name for name, field in model.model_fields.items() if field.is_required()}
    keys = st.lists(KEYS, max_size=3)
    return {
        name: draw(keys if name in {"keys", "about"} else _of(model.model_fields[name].annotation))
        for name in sorted(chosen)
    }


DOCUMENTS = st.fixed_dictionaries(
    {
        "apiVersion": st.sampled_from(["backstage.io/v1alpha1", "portico/v1", "x"]),
        "kind": st.sampled_from(["Component", "API", "Group", "System", "User", "Location", "Nothing"]),
        "metadata": st.fixed_dictionaries(
            {"name": st.one_of(st.sampled_from(["good", "better", "Best-1"]), TEXTS)},
            optional={
                "namespace": TEXTS, "title": TEXTS, "description": TEXTS, "tags": st.lists(TEXTS, max_size=3),
                "annotations": st.dictionaries(TEXTS, TEXTS, max_size=3), "links": JSON, "labels": JSON,
            },
        ),
        "spec": st.one_of(
            JSON,
            st.fixed_dictionaries(
                {"type": TEXTS, "lifecycle": TEXTS, "owner": TEXTS},
                optional={
                    "dependsOn": st.lists(TEXTS, max_size=3), "system": TEXTS, "definition": TEXTS, "children": JSON,
                    "members": JSON, "anything": JSON,
                },
            ),
        ),
    }
)  # fmt: skip


@st.composite
def _items(draw: Draw) -> tuple[type[Record], dict[str, Any]]:
    model = RECORD_TYPES[draw(st.sampled_from(sorted(RECORD_TYPES)))]
    fields = draw(_fields(model))
    if model.type == "document" and draw(st.integers(0, 9)):
        fields["document"] = draw(DOCUMENTS)
    if draw(st.booleans()):
        fields["external_id"] = draw(st.sampled_from(["one", "two", "three"]))
    if "name" in model.model_fields and draw(st.booleans()):
        fields["name"] = draw(st.sampled_from(["pay", "shop"]))
    return model, fields


def _made(items: list[tuple[type[Record], dict[str, Any]]]) -> tuple[list[Record], list[Refused]]:
    records: list[Record] = []
    refused = []
    for model, fields in items:
        rest = {name: value for name, value in fields.items() if name != "external_id"}
        made = record_or_refusal(model, fields["external_id"], **rest)
        if isinstance(made, Refused):
            assert made.reason
            refused.append(made)
        else:
            records.append(made)
    return records, refused


def _look_at_everything() -> None:
    """What was taken in can be read again."""
    for document, relations in Served.objects.values_list("document", "relations"):
        assert orjson.loads(document)["metadata"]["name"]
        orjson.loads(relations)
    list(Entity.objects.all())
    list(StoredRecord.objects.all())
    for activity in Activity.objects.all():
        assert activity.at.year
    list(Transition.objects.values_list("at", flat=True))


@pytest.fixture
def writer(portal: Portal, upstream: Upstream) -> RecordWriter:
    connection = portal.connect("paged", "paged", base_url=upstream.url)
    return RecordWriter(connection=connection, resource="entities", by="tests", now=timezone.now())


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(items=st.lists(_items(), min_size=1, max_size=12))
def test_any_record_is_taken_in_or_refused_alone(
    writer: RecordWriter, items: list[tuple[type[Record], dict[str, Any]]]
) -> None:
    records, refused = _made(items)
    with transaction.atomic():
        written = writer.write(records)
        writer.keep_last_good(refused)
        assert set(written.outcomes) == {record.external_id for record in records}
        for external_id, outcome in written.outcomes.items():
            if outcome == RecordOutcome.REFUSED:
                # The last resort is for what nobody thought of; all that is thought of here has a sentence of its own.
                assert "cannot be stored" not in written.errors[external_id]["reason"]
        components.apply_rules(now=timezone.now())
        render_dirty(at=timezone.now())
        _look_at_everything()
        transaction.set_rollback(True)


class Hostile(Paged):
    """Yields what no connector should, and what slips through a model that was not asked."""

    slug = "hostile"

    @resource(of=(Repository, Team))
    async def entities(self) -> AsyncIterator[Record | Refused | Expect]:
        """Odd things."""
        yield Expect(10**12)
        yield Refused(external_id="nul\0and\ud800half", reason="because \0 \ud800", place="\0" * 5_000)
        yield Team(external_id="good-1", name="good one")
        yield Repository.model_construct(
            external_id="unchecked \0",
            name="\ud800",
            path="",
            labels={"a": "\0"},
            tags=[object()],
            keys=["repo:\0"],
        )
        longer_than_an_index_row = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(3_000))
        yield Team.model_construct(external_id=longer_than_an_index_row, name="long")
        yield Team(external_id="good-2", name="good two")

    @resource(of=Commit, incremental=True)
    async def commits(self, since: dict[str, Any] | None) -> AsyncIterator[Mark]:
        """A cursor that no column can hold as it is."""
        yield Mark({"after": "\0"})


def test_what_no_model_checked_is_refused_alone(
    portal: Portal, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.connectors(), Hostile.slug, Hostile)
    connection = portal.connect("hostile", "hostile", base_url=upstream.url)
    run = portal.sync(connection)
    assert run.state == RunState.PARTIAL, run.message  # there is no such list of activity
    entities = run.resources.get(name="entities")
    assert (entities.listed, entities.new, entities.refused) == (5, 2, 3)
    errors = [error for page in entities.pages.all() for error in page.errors.values()]
    assert len(errors) == 3
    assert all(error["reason"] for error in errors)
    assert Entity.objects.filter(deleted_at=None).count() == 2
    assert Problem.objects.filter(type="refused-record", resolved_at=None).count() == 3
