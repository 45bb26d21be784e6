"""The operations of APIs are passages soon after their definition changed, and nothing is read twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from access.models import User
from access.permissions import visible
from catalog.models import DirtyEntity, Passage
from catalog.services import definitions
from catalog.services.definitions import read_definitions
from catalog.services.ingest import drop_claims
from tests.catalog.saying import claim, entity, say, source
from tests.catalog.test_definitions import PETS, TestGraphQl

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


def api(text: Any, *, name: str = "pets", type_: str = "openapi", title: str = "Pets") -> None:
    spec = {"type": type_, "lifecycle": "production", "owner": "team", "definition": text}
    say("yaml:a", claim(f"api:{name}", spec, metadata={"title": title}))


def passages(name: str = "pets") -> list[tuple[str, str]]:
    found = Passage.objects.filter(entity__ref=f"api:default/{name}", sort="operation").order_by("position")
    return list(found.values_list("title", "text"))


def test_each_operation_is_one_with_its_words() -> None:
    api(PETS)
    api(TestGraphQl.TEXT, name="shop", type_="graphql")
    assert read_definitions() == 2
    assert passages() == [
        ("POST /shops", "Shops"),
        ("GET /pets/{id} — One pet", "readPet Pets"),
        ("DELETE /pets/{id}", "Pets"),
        ("POST newPet — A pet came", ""),
    ]
    assert ("query pets — (first: Int, by: Filter!): [Pet!]!", "All pets first by") in passages("shop")


def test_only_what_changed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    api(PETS)
    api(PETS, name="other")
    assert read_definitions() == 2
    kept = list(Passage.objects.order_by("pk").values_list("pk", flat=True))
    assert read_definitions() == 0
    api(PETS.replace("One pet", "A single pet"))
    assert read_definitions() == 1
    assert ("GET /pets/{id} — A single pet", "readPet Pets") in passages()
    assert list(Passage.objects.order_by("pk").values_list("pk", flat=True)) == kept
    api(PETS, title="Dogs")
    assert read_definitions() == 1
    monkeypatch.setattr(definitions, "_RULE", b"new")
    assert read_definitions() == 2  # by a new rule all are read


def test_what_is_still_to_be_rendered_waits() -> None:
    api(PETS)
    DirtyEntity.objects.create(entity=entity("api:default/pets"))
    assert read_definitions() == 0
    DirtyEntity.objects.all().delete()
    assert read_definitions() == 1


@pytest.mark.parametrize("text", ["openapi: 3.0.0\npaths: {", "", "unknown", "[]", "{", 'syntax = "proto3";'])
def test_what_is_no_definition_any_more_has_none(text: str) -> None:
    api(PETS)
    read_definitions()
    api(text or "x", type_="openapi" if "syntax" not in text else "grpc")
    assert read_definitions() == 1
    assert passages() == []
    assert read_definitions() == 0


def test_many_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_PAGE", 2)
    for n in range(5):
        api(PETS, name=f"a{n}")
    assert read_definitions(seconds=0) == 0
    assert read_definitions() == 5


def test_what_is_gone_is_read_by_nobody() -> None:
    api(PETS)
    at = entity("api:default/pets").changed_at
    drop_claims(source=source("yaml:a"), external_ids=["api:pets"], at=at, by="yaml:a")
    assert read_definitions() == 0


def test_they_are_for_those_who_may_see_the_api(vic: User, cleo: User) -> None:
    api(PETS)
    read_definitions()
    assert visible(vic, Passage.objects.all()).count() == 4
    assert not visible(cleo, Passage.objects.all()).exists()


def test_one_statement_a_while_where_nothing_changes(
    django_assert_num_queries: Callable[[int], Any],
) -> None:
    api(PETS)
    read_definitions()
    with django_assert_num_queries(1):
        read_definitions()
