"""Facets and suggestions: counts of what the viewer may see, each facet without its own terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from django.db.models import QuerySet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django.plugin import DjangoDbBlocker

from access.models import User
from access.services import grant
from catalog.counting import counting
from catalog.models import Entity
from catalog.query import FACETS, Facet, QueryError, compile_query, parse, suggest, toggle_term
from tests.catalog.query_samples import NOW, Sample, in_database

pytestmark = pytest.mark.django_db

VALUES = {
    "run": lambda sample: [sample.run],
    "tag": lambda sample: {tag.lower() for tag in sample.metadata.get("tags", [])},
    "source": lambda sample: sample.sources,
    "type": lambda sample: [sample.spec.get("type", "").lower()],
    "lifecycle": lambda sample: [sample.spec.get("lifecycle", "")],
}


@pytest.fixture(scope="module")
def catalog(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[list[Sample]]:
    """The samples, in the database for this module."""
    with in_database(django_db_blocker) as found:
        yield found


def search(text: str) -> QuerySet[Entity]:
    return Entity.objects.filter(compile_query(text, now=NOW), deleted_at=None)


def in_default(text: str) -> QuerySet[Entity]:
    """What somebody sees who may see one namespace only."""
    return search(text).filter(namespace="default")


def facets(viewer: User, text: str, names: Sequence[str], *, limit: int = 20) -> list[Facet]:
    with counting(viewer, now=NOW) as counts:
        return counts.facets(text, names, limit=limit)


@pytest.mark.parametrize("field", FACETS)
@pytest.mark.parametrize("text", ["", "kind:resource -run:failed", "tag:t1,java card OR kind:resource"])
def test_counts(catalog: list[Sample], vic: User, field: str, text: str) -> None:
    (facet,) = facets(vic, text, [field], limit=100)
    rest = set(
        search(text.replace(" -run:failed", "") if field == "run" else text).values_list("ref", flat=True)
    )
    if field == "kind" and "OR" not in text:
        rest = set(search(text.replace("kind:resource", "")).values_list("ref", flat=True))
    values_of = VALUES.get(field, lambda sample: [getattr(sample, field)])
    expected = Counter(value for sample in catalog if sample.ref in rest for value in values_of(sample))
    assert {value.value: value.count for value in facet.values if value.count} == expected
    assert [value.count for value in facet.values] == sorted((v.count for v in facet.values), reverse=True)


def test_facets_come_as_they_are_asked_for(catalog: list[Sample], vic: User) -> None:
    assert [facet.field for facet in facets(vic, "type:bucket", FACETS)] == list(FACETS)
    assert facets(vic, "", []) == []


def test_a_count_is_what_its_link_leads_to(catalog: list[Sample], vic: User) -> None:
    text = "run:failed,passed tag:t1"
    rest = {"run": "tag:t1", "tag": "run:failed,passed"}
    for facet in facets(vic, text, FACETS, limit=100):
        for value in facet.values:
            asked = toggle_term(rest.get(facet.field, text), facet.field, value.value)
            assert search(asked).count() == value.count, asked


def test_what_the_query_asks_for_is_on_even_without_any(catalog: list[Sample], vic: User) -> None:
    (facet,) = facets(vic, "kind:component type:website,nothing", ["type"])
    assert [(v.value, v.count) for v in facet.values if v.is_on] == [("website", 2), ("nothing", 0)]
    assert {v.value for v in facet.values} == {"website", "nothing", "service", "library"}
    (facet,) = facets(vic, "owner:payments,@me,group:default/gone", ["owner"])
    on = {v.value: v.count for v in facet.values if v.is_on}
    assert on.pop("group:default/gone") == 0
    assert {value.rpartition("/")[2] for value in on} == {"payments"}, (
        "a part of a ref asks for all that have it"
    )
    assert min(on.values()) > 0


def test_a_limit_keeps_the_most_frequent_and_what_is_on(catalog: list[Sample], vic: User) -> None:
    (facet,) = facets(vic, "type:Team,grpc", ["type"], limit=1)
    assert [(v.value, v.count, v.is_on) for v in facet.values] == [
        ("bucket", 20, False),
        ("team", 2, True),
        ("grpc", 1, True),
    ]


def test_a_tag_that_an_entity_has_twice_counts_once(catalog: list[Sample], vic: User) -> None:
    Entity.objects.filter(name="ledger").update(tags=["java", "java"])
    (facet,) = facets(vic, "name:ledger", ["tag"])
    assert [(v.value, v.count) for v in facet.values] == [("java", 1)]


def test_facets_show_only_what_the_viewer_may_see(catalog: list[Sample], no_access: User) -> None:
    assert facets(no_access, "", ["namespace"])[0].values == []
    grant(role="viewer", user=no_access, scope_type="namespace", scope="default")
    (facet,) = facets(no_access, "", ["namespace"])
    assert [value.value for value in facet.values] == ["default"]


def test_what_is_no_facet(catalog: list[Sample], vic: User) -> None:
    with pytest.raises(QueryError, match="cannot be narrowed by “title”"):
        facets(vic, "", ["title"])
    with pytest.raises(QueryError, match="onwer"):
        facets(vic, "onwer:x", ["kind"])


def offered(text: str, *, at: int | None = None, seen: object = search) -> list[str]:
    """The whole texts that suggestions lead to."""
    cursor = len(text) if at is None else at
    found = suggest(text, cursor, seen, limit=50)  # type: ignore[arg-type]
    return [text[: one.start] + one.text + text[one.end :] for one in found]


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("", ["kind:", "owner:", "has:"]),
        ("card ", ["card kind:"]),
        ("li", ["lifecycle:", "linkedTo:"]),
        ("-li", ["-lifecycle:"]),
        ("dep", ["dependsOn:", "dependencyOf:"]),
        ("sp", ["spec."]),
        ("O", ["OR", "owner:"]),
        ("kind:", ["kind:component", "kind:resource"]),
        ("kind:api,comp", ["kind:api,component"]),
        ("type:web card", []),
        ("owner:pay", ["owner:group:default/payments", "owner:group:other/payments"]),
        ("tag:ja", ["tag:java"]),
        ("source:git", ["source:git-main"]),
        ("has:dep", ["has:dependsOn", "has:dependencyOf"]),
        ("is:", ["is:mine", "is:stale"]),
        ("changed:", ["changed:<7d", "changed:today"]),
        ("conflict:own", ["conflict:owner"]),
        ("problem:", ["problem:missing-target"]),
        ("dependsOn:led", ["dependsOn:component:default/ledger"]),
        ("dependencyOf:", ["dependencyOf:component:default/card-payments"]),
        ("name:led", ["name:ledger"]),
        ("nope:x", []),
        ("spec.x:", []),
        ('kind:api "open', []),
    ],
)
def test_suggestions(catalog: list[Sample], text: str, some: list[str]) -> None:
    found = offered(text)
    assert [one for one in some if one not in found] == []
    for one in found:
        if not one.endswith((":", ".", "OR", "NOT", "AND")):
            parse(one)


def test_suggestions_in_the_middle(catalog: list[Sample]) -> None:
    assert "kind:component card" in offered("kind:comp card", at=9)
    assert "kind:api,component,group card" in offered("kind:api,comp,group card", at=13)
    assert "lifecycle:x card" in offered("life:x card", at=4)


def test_values_are_counted_with_the_rest_of_the_query(catalog: list[Sample]) -> None:
    counts = {one.text: one.count for one in suggest("type: kind:component", 5, search)}
    assert counts == {"website": 2, "service": 1, "library": 1}
    assert {one.text: one.count for one in suggest("tag:j -type:service", 5, search)} == {"java": 1}
    # What cannot be read does not stand in the way.
    assert "bucket" in {one.text for one in suggest("type: onwer:x", 5, search)}


def test_suggestions_show_only_what_the_viewer_may_see(catalog: list[Sample]) -> None:
    assert offered("namespace:", seen=in_default) == ["namespace:default"]
    assert "dependsOn:resource:store/bucket-2" in offered("dependsOn:bucket")
    assert not [one for one in offered("dependsOn:bucket", seen=in_default) if "store/" in one]
    assert not [one for one in offered("dependencyOf:bucket", seen=in_default) if "store/" in one]


@given(st.text(st.sampled_from('kind:tagJ*"(),-. ')), st.integers(-1, 20))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_can_be_gone_on_with(catalog: list[Sample], text: str, cursor: int) -> None:
    for one in suggest(text, cursor, search):
        assert 0 <= one.start <= one.end <= len(text)
        assert one.start <= max(0, min(cursor, len(text)))
