"""What relations may join and how many, in the mode of their type; and what a deletion would leave behind."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.definitions import document_types
from access.models import User
from base.errors import InvalidInput, NotFound
from catalog.deletion import deletion_of
from catalog.documents.envelope import DocumentInvalid
from catalog.models import Audience, DirtyEntity, Entity, Problem, RelationType
from catalog.services.creating import create_entity
from catalog.services.edit import StaleEntity, override_field, upsert_documents
from catalog.services.naming import delete_entity
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, entity, say, unsay
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture(autouse=True)
def _afresh() -> Any:
    yield
    forget_definitions()


def check(name: str, **spec: Any) -> None:
    """Have relations of a type checked, and stored entities follow."""
    row = RelationType.objects.get(name=name)
    document_types()["RelationType"].edit(name, {**row.spec, **spec}, by="tests")
    forget_definitions()
    render_dirty(at=timezone.now())


def told(type_: str = "relation") -> list[tuple[str, str]]:
    rows = Problem.objects.filter(type=type_, resolved_at=None).order_by("subject_label", "message")
    return [(row.subject_label, row.message) for row in rows]


def declared(name: str, **spec: Any) -> dict[str, Any]:
    whole = component(name, **spec).document
    return {**whole, "kind": "Component"}


def test_nothing_is_checked_until_somebody_says_so() -> None:
    say("yaml:a", component("pay", owner="component:default/shop"))
    assert told() == []


def test_kinds_that_do_not_belong_there_are_problems_until_they_do() -> None:
    say("yaml:a", component("pay", owner="component:default/shop"), component("cart"))
    check("ownedBy", check="warn")
    ((ref, message),) = told()
    assert ref == "component:default/pay"
    assert message == (
        "spec.owner: ownedBy of component:default/shop: expected is group, user, but component came."
    )
    say("yaml:a", component("pay"), minute=2)
    assert told() == []
    say("yaml:a", component("pay", owner="user:ana"), minute=3)
    check("ownedBy", check="warn", targetKinds=["Group"])
    assert [ref for ref, _message in told()] == ["component:default/pay"]
    check("ownedBy", check="off")
    assert told() == []


def test_a_relation_that_is_declared_from_the_other_side_is_checked_as_what_it_is() -> None:
    say("yaml:a", component("pay", dependencyOf=["component:shop"]))
    check("dependsOn", check="warn", sourceKinds=["System"])
    assert [ref for ref, _message in told()] == ["component:default/pay"]
    check("dependsOn", check="warn", sourceKinds=["Component"], targetKinds=["Component"])
    assert told() == []


def test_more_than_there_may_be_of_one_thing_or_to_one() -> None:
    say("yaml:a", component("a", dependsOn=["component:c", "component:d"]), component("b"), component("c"))
    say("yaml:a", component("x", dependsOn=["component:c"]))
    check("dependsOn", check="warn", most=1, inverseMost=1)
    ((ref, message),) = told()
    assert (ref, "At most 1 dependsOn is allowed, but there are 2" in message) == (
        "component:default/a",
        True,
    )
    ((ref, message),) = told("too-many")
    assert (ref, "2 do" in message) == ("component:default/c", True)
    unsay("yaml:a", "component:x", minute=2)
    assert told("too-many") == []
    check("dependsOn", check="off", most=1, inverseMost=1)
    assert (told(), told("too-many")) == ([], [])


def test_a_mode_that_is_set_looks_at_what_has_such_relations_alone() -> None:
    say("yaml:a", *(component(f"c{n}") for n in range(4)), component("d", dependsOn=["component:c0"]))
    row = RelationType.objects.get(name="dependsOn")
    document_types()["RelationType"].edit("dependsOn", {**row.spec, "check": "warn"}, by="tests")
    marks = DirtyEntity.objects.values_list("entity__name", "is_to_merge")
    assert sorted(marks) == [("c0", True), ("d", True)]


def test_what_is_enforced_is_refused_where_people_edit_and_a_problem_of_files(ana: User) -> None:
    check("ownedBy", check="enforce")
    check("dependsOn", check="enforce", inverseMost=1)
    say("yaml:a", component("pay", owner="component:default/shop"), component("a"), component("b"))
    assert [ref for ref, _message in told()] == ["component:default/pay"]
    with pytest.raises(InvalidInput) as refused:
        override_field(
            user=ana, entity=entity("component:default/a"), path="spec.owner", value="component:default/b"
        )
    assert "expected is group, user" in refused.value.errors[0].message
    with pytest.raises(DocumentInvalid):
        create_entity(user=ana, document=declared("made", owner="system:default/x"))
    results = upsert_documents(
        user=ana,
        documents=[declared("one", owner="component:default/b"), declared("two", dependsOn=["component:a"])],
    )
    assert [one.outcome for one in results] == ["refused", "new"]
    assert results[0].errors[0].path == "spec.owner"
    (third,) = upsert_documents(user=ana, documents=[declared("three", dependsOn=["component:a"])])
    assert (third.outcome, "may lead to" in third.errors[0].message) == ("refused", True)
    (again,) = upsert_documents(user=ana, documents=[declared("two", dependsOn=["component:a"], note="x")])
    assert again.outcome == "changed"


def test_what_is_named_is_counted_at_once_and_without_what_not_all_may_see(ana: User) -> None:
    check("dependsOn", check="enforce", inverseMost=1)
    say("yaml:a", *(component(f"c{n}") for n in range(3)), component("x", dependsOn=["component:c0"]))
    document = declared("one", dependsOn=["component:c0", "component:c1", "component:gone"])
    with CaptureQueriesContext(connection) as asked:
        (refused,) = upsert_documents(user=ana, documents=[document])
    assert [error.path for error in refused.errors] == ["spec.dependsOn"]
    assert len([one for one in asked if "COUNT" in one["sql"]]) == 1
    Entity.objects.filter(name="x").update(audience=[7])
    (taken,) = upsert_documents(user=ana, documents=[document])
    assert taken.outcome == "new"
    assert told("too-many") == []


@pytest.mark.parametrize(
    "spec",
    [
        {"check": "perhaps"},
        {"most": 0},
        {"targetKinds": "Group"},
        {"type": ["ownedBy"]},
        {"label": {"en": "owned by"}},
        {"inverse": "owner of"},
        {"colour": "c1"},
    ],
)
def test_a_wrong_check_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        check("ownedBy", **spec)


def test_without_checks_none_is_paid_for() -> None:
    with CaptureQueriesContext(connection) as asked:
        say("yaml:a", component("pay", dependsOn=["component:c"]))
    assert not [one for one in asked if "too-many" in one["sql"]]


class TestDeletion:
    def test_its_impact_is_told_before_as_far_as_one_may_see_it(self, ana: User, cleo: User) -> None:
        say("yaml:a", claim("group:team", {"type": "team", "children": []}), claim("group:other", {}))
        say("yaml:a", claim("system:shop", {"owner": "other"}))
        say("yaml:a", component("pay", system="shop"), component("cart", dependsOn=["component:pay"]))
        found = deletion_of(ana, entity("group:default/team"))
        assert found.counts == {"owned by": 2}
        assert [one.name for one in found.dangling["owned by"]] == ["cart", "pay"]
        assert [(one.name, label) for one, label in found.orphans] == [
            ("pay", "owned by"),
            ("cart", "owned by"),
        ]
        assert (found.unseen, found.own, len(found.others)) == (0, [], 1)
        hidden = deletion_of(cleo, entity("group:default/team"))
        assert (hidden.dangling, hidden.orphans, hidden.unseen) == ({}, [], 2)
        assert deletion_of(ana, entity("component:default/pay")).counts == {"depends on": 1}
        Entity.objects.filter(name="cart").update(audience=[7])
        Audience.objects.create(name="inner", uid="00000000-0000-4000-8000-000000000001", groups=[7])
        assert deletion_of(cleo, entity("component:default/pay")).counts == {}

    def test_what_has_another_place_to_belong_to_is_no_orphan(self, ana: User) -> None:
        say("yaml:a", claim("group:one", {}), claim("user:u", {"memberOf": []}))
        say("yaml:a", claim("system:shop", {"owner": "one"}), component("pay", owner="one", system="shop"))
        say("yaml:a", component("part", owner="one", system="shop", subcomponentOf="pay"), minute=1)
        found = deletion_of(ana, entity("component:default/pay"))
        assert (found.counts, found.orphans) == ({"part of": 1}, [])  # it stays a part of the system

    def test_what_people_made_goes_and_comes_back(self, ana: User) -> None:
        made = create_entity(user=ana, document=declared("made"))
        assert deletion_of(ana, made).own
        with pytest.raises(StaleEntity):
            delete_entity(user=ana, entity=made, expected='"0-0"')
        assert delete_entity(user=ana, entity=made)
        assert not entity("component:default/made").is_alive
        with pytest.raises(NotFound):
            delete_entity(user=ana, entity=made)

    def test_what_a_file_declares_stays(self, ana: User) -> None:
        upsert_documents(user=ana, documents=[declared("pay")])
        say("yaml:a", component("pay"), minute=70)
        pay = entity("component:default/pay")
        assert [claim.source.key for claim in deletion_of(ana, pay).others] == ["yaml:a"]
        assert not delete_entity(user=ana, entity=pay)
        assert entity("component:default/pay").is_alive


def test_who_sees_one_namespace_is_told_of_that_alone(cleo: User) -> None:
    say("yaml:a", component("elsewhere/pay", owner="default/team"), claim("group:team", {}))
    found = deletion_of(cleo, entity("group:default/team"))
    assert [one.ref for one in found.dangling["owned by"]] == ["component:elsewhere/pay"]
