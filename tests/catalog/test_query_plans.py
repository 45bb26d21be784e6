"""How PostgreSQL answers queries on thousands of entities: by its indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from pytest_django.plugin import DjangoDbBlocker

from access.models import User
from base.pagination import paginate
from catalog.counting import counting
from catalog.models import Entity, Relation
from catalog.query import compile_query, order_by, sortable
from catalog.query.relations import forget_directions
from tests.catalog.query_samples import NOW, Sample, remove, store

pytestmark = pytest.mark.django_db
COUNT = 5_000


@pytest.fixture(scope="module")
def catalog(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Thousands of entities, as a company might have them."""
    found = [
        Sample(
            ("component", "component", "api", "resource")[number % 4],
            f"thing-{number:05}",
            title=f"Thing {number} of {('payments', 'search', 'billing', 'shop')[number % 4]}",
            description=f"It does what number {number} does.",
            metadata={"tags": [f"tag-{number % 200}"], "labels": {"tier": str(number % 100)}},
            spec={
                "type": f"type-{number % 40}",
                "lifecycle": ("production", "experimental")[number % 2],
                **({"replicas": number % 9} if number % 50 == 0 else {}),
            },
            owner=f"group:default/team-{number % 250}",
            relations=[("dependsOn", f"component:default/thing-{number // 2 * 4 % COUNT:05}")],
        )
        for number in range(COUNT)
    ]
    with django_db_blocker.unblock():
        store(found)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE catalog_entity, catalog_relation, catalog_tie, catalog_served")
        forget_directions()
        yield
        remove()
        forget_directions()


def plan(rows: QuerySet[Any]) -> tuple[set[str], set[str]]:
    """The indexes that are used, and the tables that are read whole."""
    indexes: set[str] = set()
    whole: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        indexes.update({node["Index Name"]} if "Index Name" in node else ())
        whole.update({node["Relation Name"]} if node["Node Type"] == "Seq Scan" else ())
        for below in node.get("Plans", ()):
            walk(below)

    walk(orjson.loads(rows.explain(format="json"))[0]["Plan"])
    return indexes, whole


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("type:type-7 lifecycle:production", "entity_tokens"),
        ("tag:tag-7", "entity_tokens"),
        ("tag:tag-7,tag-8 -lifecycle:production", "entity_tokens"),
        ("label.tier:7 kind:component", "entity_tokens"),
        ("spec.replicas:>5", "entity_tokens"),
        ("owner:group:default/team-7", "entity_owner"),
        ("owner:group:default/team-7,group:default/team-8 kind:api", "entity_owner"),
        ("name:thing-00007", "entity_name"),
        ("name:thing-0000*", "entity_text"),
        ('"number 77 "', "entity_text"),
        ("ref:component:default/thing-00004", "entity_ref"),
        ("dependsOn:component:default/thing-00004", "relation_target_ref"),
        ("dependencyOf:component:default/thing-00004", "relation_unique"),
        ("changed:>2027-01-01", "entity_changed"),
    ],
)
def test_a_selective_query_reads_an_index_and_no_whole_table(catalog: None, text: str, index: str) -> None:
    rows = Entity.objects.filter(compile_query(text, now=NOW), deleted_at=None)
    indexes, whole = plan(rows)
    assert index in " ".join(sorted(indexes))
    assert "catalog_entity" not in whole
    assert "catalog_relation" not in whole
    assert "catalog_served" not in whole


def test_a_page_by_name_stops_early(catalog: None) -> None:
    rows = Entity.objects.filter(compile_query("kind:component", now=NOW), deleted_at=None)
    indexes, whole = plan(rows.order_by(*order_by("name"))[:50])
    assert indexes & {"entity_living_kind_name", "entity_name"}
    assert not whole


@pytest.mark.parametrize("text", ["", "kind:component"])
@pytest.mark.parametrize("order", ["title", "-title"])
def test_a_page_by_title_stops_early_and_so_does_the_one_after_it(
    catalog: None, text: str, order: str
) -> None:
    rows = sortable(Entity.objects.filter(compile_query(text, now=NOW), deleted_at=None))
    first = paginate(rows, order=order_by(order), limit=50)
    assert first.next is not None
    with CaptureQueriesContext(connection) as asked:
        paginate(rows, order=order_by(order), limit=50, cursor=first.next)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked[0]['sql']}")
        found = str(cursor.fetchone()[0])
    assert "entity_title" in found
    assert "'Sort'" not in found
    read = max(int(number) for number in re.findall(r"'Rows Removed by Filter': (\d+)", found) or ["0"])
    assert read <= 150  # of 5,000; half of them are components


def test_queries_and_facets_answer_at_once(catalog: None, vic: User) -> None:
    def search(text: str) -> QuerySet[Entity]:
        return Entity.objects.filter(compile_query(text, now=NOW), deleted_at=None)

    assert search("kind:component dependsOn:thing* -owner:team-7").count() > 1_000
    with counting(vic, now=NOW) as counts:
        counted = counts.facets("payments", ["kind", "type", "lifecycle", "owner", "tag"])
    found = {facet.field: facet for facet in counted}
    assert sum(value.count for value in found["kind"].values) == COUNT // 4
    assert len(found["tag"].values) == 20
    assert Relation.objects.count() == COUNT
