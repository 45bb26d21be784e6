"""Totals, facets and sizes of groups come from sets in memory, and are what the database finds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from pytest_django.plugin import DjangoDbBlocker

from access.models import User
from access.services import create_group, grant
from catalog import queries
from catalog.counting import counting
from catalog.models import Audience, Entity
from catalog.query import QueryError, format_query, mine
from catalog.query.nodes import Node
from tests.catalog.counted import check_counts
from tests.catalog.query_samples import MINE, NOW, Sample, in_database
from tests.catalog.test_query_semantics import ALL, trees


@pytest.fixture(scope="module")
def catalog(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[list[Sample]]:
    """The samples, in the database for this module."""
    with in_database(django_db_blocker) as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mine, "_resolvers", [lambda viewer: MINE if viewer else ()])
        yield found


@pytest.fixture
def viewers(catalog: list[Sample], vic: User, cleo: User, no_access: User) -> list[User]:
    """Of everything but what is kept from them; of a part, told by columns, tokens, times and relations; of nothing."""
    others = create_group(name="Others")
    Audience.objects.create(name="oci", uid=uuid.uuid4(), groups=[others.pk])
    some = [sample.ref for sample in catalog if "t1" in sample.metadata.get("tags", ())][:2]
    Entity.objects.filter(ref__in=["component:default/web", *some]).update(audience=[others.pk])
    grant(role="viewer", user=cleo, scope_type="namespace", scope="other")
    for scope in ("tag:java,t1", "dependsOn:ledger", "changed:>7d type:website", "card"):
        grant(role="viewer", user=cleo, scope_type="query", scope=scope)
    return [vic, cleo, no_access]


@pytest.mark.django_db
class TestSamples:
    def test_each_term(self, viewers: list[User]) -> None:
        for viewer in viewers:
            found = set()
            with counting(viewer, now=NOW) as counts:
                for text in ALL:
                    for query in (text, f"-{text}"):
                        total = queries.search_entities(viewer, query, now=NOW).count()
                        assert counts.total(query) == total, query
                        found.add(total)
            assert found == {0} if viewer is viewers[-1] else len(found) > 3

    @given(tree=trees, within=trees)
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_combinations(self, viewers: list[User], tree: Node, within: Node) -> None:
        for viewer in viewers[:2]:
            check_counts(viewer, format_query(tree), now=NOW)
            check_counts(viewer, format_query(tree), now=NOW, within=format_query(within))

    @pytest.mark.parametrize(
        "text", ["", "kind:component type:service", "tag:java OR source:yaml", 'tag:"" -run:""']
    )
    def test_what_people_ask(self, viewers: list[User], text: str) -> None:
        every, part, none = (check_counts(viewer, text, now=NOW) for viewer in viewers)
        assert every >= part >= none == 0

    def test_what_is_wrong(self, viewers: list[User]) -> None:
        with pytest.raises(QueryError), counting(viewers[0], now=NOW, within="a) OR (b"):
            pass
        with counting(viewers[0], now=NOW) as counts:
            for text in ("onwer:x", "kind:>a", "a) OR (b"):
                with pytest.raises(QueryError):
                    counts.total(text)
