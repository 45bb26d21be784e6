"""Computed fields: what they are, when they follow, and that none looks at itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.definitions import document_types
from access.models import User
from base.errors import Conflict, InvalidInput
from catalog.documents.fields import check_field_definition
from catalog.kinds import current_kinds
from catalog.models import Entity, KindField, Problem, Revision
from catalog.query import compile_query, order_by, sortable
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.computing import mark_what_time_changed
from catalog.services.dirty import mark_dirty
from catalog.services.edit import override_field
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, document, entity, say, unsay
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture(autouse=True)
def _afresh() -> Any:
    yield
    forget_definitions()


def add(name: str, *, kinds: tuple[str, ...] = ("Component",), format: str = "text", **spec: Any) -> None:
    """Add the field `spec.<name>`, and have stored entities follow."""
    spec = {"kinds": list(kinds), "field": f"spec.{name}", "format": format, **spec}
    document_types()["FieldDefinition"].edit(name, spec, by="tests")
    forget_definitions()
    render_dirty(at=timezone.now())


def value(name: str, field: str) -> Any:
    return document(f"component:default/{name}")["spec"].get(field)


def found(query: str, order: str = "name") -> list[str]:
    rows = Entity.objects.filter(compile_query(query, now=timezone.now()), deleted_at=None)
    ordering = order_by(order)
    return [one.name for one in sortable(rows, ordering).order_by(*ordering)]


def group(name: str, **spec: Any) -> Any:
    return claim(f"group:{name}", {"type": "team", "children": [], **spec})


def system(name: str, **spec: Any) -> Any:
    return claim(f"system:{name}", {"owner": "team", **spec})


class TestMirror:
    def test_it_follows_a_path_and_what_is_at_its_end(self) -> None:
        say("yaml:a", group("team", costCentre="4711"), system("shop"), component("pay", system="shop"))
        add("costCentre", mirror={"path": ["partOf", "ownedBy"], "field": "spec.costCentre"})
        # The field's name is that of what it mirrors: another kind's own field, no loop.
        assert value("pay", "costCentre") == "4711"

    def test_a_change_at_the_end_or_on_the_way_is_followed(self) -> None:
        say("yaml:a", group("team", cc="1"), group("other", cc="2"), system("shop"))
        say("yaml:a", component("pay", system="shop"), component("cart"))
        add("billing", mirror={"path": ["partOf", "ownedBy"], "field": "spec.cc"})
        assert (value("pay", "billing"), value("cart", "billing")) == ("1", None)
        say("yaml:a", group("team", cc="9"), minute=2)
        assert (value("pay", "billing"), found("spec.billing:9")) == ("9", ["pay"])
        assert found("spec.billing:1") == []
        say("yaml:a", system("shop", owner="other"), minute=3)
        assert value("pay", "billing") == "2"
        unsay("yaml:a", "group:other", minute=4)
        assert value("pay", "billing") is None
        assert found("has:spec.billing") == []
        assert Revision.objects.filter(entity_ref="component:default/pay").count() == 1

    def test_a_list_has_the_values_of_all(self) -> None:
        say("yaml:a", component("pay", dependsOn=["component:a", "component:b"]))
        say("yaml:a", component("a", lang="go"), component("b", lang="rust"))
        add("langs", format="list", mirror={"path": ["dependsOn"], "field": "spec.lang"})
        assert value("pay", "langs") == ["go", "rust"]
        assert found("spec.langs:rust") == ["pay"]

    def test_what_is_for_fewer_shows_on_nothing_that_more_may_see(self) -> None:
        say("yaml:a", group("team", cc="1"), component("pay"))
        Entity.objects.filter(kind="group").update(audience=[7])
        add("billing", mirror={"path": ["ownedBy"], "field": "spec.cc"})
        assert value("pay", "billing") is None

    @pytest.mark.parametrize("kind", ["system", "group"])
    def test_what_becomes_for_fewer_shows_no_more_and_nothing_beyond_it(self, kind: str) -> None:
        say("yaml:a", group("team", cc="1"), system("shop"), component("pay", system="shop"))
        add("billing", mirror={"path": ["partOf", "ownedBy"], "field": "spec.cc"})
        assert value("pay", "billing") == "1"
        narrowed = Entity.objects.filter(kind=kind)
        narrowed.update(audience=[7])
        mark_dirty(narrowed.values_list("id", flat=True))
        render_dirty(at=timezone.now())
        assert value("pay", "billing") is None


class TestExpression:
    def test_it_sees_the_entity_and_its_neighbours(self) -> None:
        say("yaml:a", component("pay"), component("a", dependsOn=["component:pay"]))
        add("uses", format="number", expression="size(related.dependencyOf)")
        add("risk", expression="entity.spec.uses > 1.0 ? 'high' : entity.spec.lifecycle")
        assert (value("pay", "uses"), value("pay", "risk")) == (1, "production")
        say("yaml:a", component("b", dependsOn=["component:pay"]), minute=2)
        assert (value("pay", "uses"), value("pay", "risk")) == (2, "high")
        assert found("spec.uses:>=2") == ["pay"]
        unsay("yaml:a", "component:a", minute=3)
        assert (value("pay", "uses"), value("pay", "risk")) == (1, "production")

    def test_what_fails_or_does_not_fit_is_a_problem_until_it_is_mended(self) -> None:
        say("yaml:a", component("pay", size=5.0), component("cart"))
        add("double", format="number", expression="entity.spec.size * 2.0")
        open_ = Problem.objects.filter(type="computed", resolved_at=None)
        assert [problem.subject_label for problem in open_] == ["component:default/cart"]
        assert "size" in open_[0].message
        add("double", format="percentage", expression="entity.spec.?size.orValue(-3)")
        assert (value("pay", "double"), value("cart", "double")) == (5, None)
        assert "at least 0" in open_.get().message
        add("double", format="number", expression="entity.spec.?size.orValue(-3)")
        assert not open_.all().exists()

    @pytest.mark.parametrize("expression", ["1.0 / 0.0", "0.0 / 0.0", r"'\u0000'"])
    def test_what_no_row_can_hold_is_a_problem_too(self, expression: str) -> None:
        say("yaml:a", component("pay"))
        add("odd", format="json", expression=expression)
        assert value("pay", "odd") is None
        assert Problem.objects.filter(type="computed", resolved_at=None).count() == 1

    def test_it_does_not_see_what_it_is_not_known_to_look_at(self) -> None:
        say("yaml:a", component("pay"))
        add("one", expression="'x'")
        add("two", format="boolean", expression="'o' + 'ne' in entity.spec")
        assert value("pay", "two") is False


class TestCount:
    def test_related_entities_that_match(self) -> None:
        say("yaml:a", component("a", system="shop"), component("b", system="shop", lifecycle="old"))
        say("yaml:a", system("shop"))
        spec = {"path": ["hasPart"], "query": "kind:component lifecycle:production"}
        add("live", kinds=("System",), format="number", count=spec)
        assert document("system:default/shop")["spec"]["live"] == 1
        say("yaml:a", component("b", system="shop"), minute=2)
        assert document("system:default/shop")["spec"]["live"] == 2
        assert found("spec.live:2") == ["shop"]

    @pytest.mark.parametrize("query", ["kind:(", "nothing:x", "kind:gadget"])
    def test_a_wrong_query_is_refused_where_people_edit_and_else_a_problem(self, query: str) -> None:
        say("yaml:a", component("a", system="shop"), system("shop"))
        spec = {"path": ["hasPart"], "query": query}
        with pytest.raises(InvalidInput) as refused:
            add("live", kinds=("System",), format="number", count=spec)
        assert [error.path for error in refused.value.errors] == ["spec.count.query"]
        assert not KindField.objects.exists()
        # A pack's is taken as it is: what it speaks of may come with it.
        whole = {"kinds": ["System"], "field": "spec.live", "format": "number", "count": spec}
        document_types()["FieldDefinition"].apply("live", whole, pack="acme", by="tests")
        forget_definitions()
        render_dirty(at=timezone.now())
        (problem,) = Problem.objects.filter(type="computed", resolved_at=None)
        assert problem.subject_label == "system:default/shop"
        assert "live" not in document("system:default/shop")["spec"]
        say("yaml:a", component("b", system="shop"), minute=2)
        assert document("component:default/b")["spec"]["system"] == "shop"

    def test_activity_in_a_window_that_moves(self) -> None:
        now = timezone.now()
        say("yaml:a", claim("component:pay", {"type": "service"}, keys=("repo:h.example/pay",)))
        add("fails", format="number", count={"activity": ["run"], "status": "failed", "days": 30})
        assert value("pay", "fails") == 0
        runs = [("1", 29.9, "failed"), ("2", 1, "failed"), ("3", 1, "passed"), ("4", 31, "failed")]
        apply_activity(
            connection_slug="g",
            connector="records",
            items=[
                ActivityIn(
                    type="run",
                    external_id=id_,
                    event="pipelinerun.finished",
                    at=now - timedelta(days=age),
                    as_of=now,
                    about=("repo:h.example/pay",),
                    status=status,
                )
                for id_, age, status in runs
            ],
        )
        render_dirty(at=now)
        assert value("pay", "fails") == 2
        later = now + timedelta(hours=6)
        KindField.objects.update(counted_at=now)
        mark_what_time_changed(at=later)
        render_dirty(at=later)
        assert value("pay", "fails") == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"expression": "entity.spec.x"},
        {"mirror": {"path": ["partOf"], "field": "spec.x"}},
        {"expression": "size(related.dependsOn.filter(e, e.spec.?y.orValue(1.0) > 0.0))", "format": "number"},
    ],
)
def test_a_loop_is_refused_and_named(spec: dict[str, Any]) -> None:
    add("y", format="number", expression="double(size(entity.spec.?x.orValue('')))")
    with pytest.raises(Conflict, match=r"spec\.x"):
        add("x", **spec)
    assert [row.name for row in KindField.objects.all()] == ["y"]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"expression": "entity.spec +"}, "spec.expression"),
        ({"expression": "nothing.spec"}, "spec.expression"),
        ({"expression": "'a'", "mirror": {"path": ["partOf"], "field": "spec.x"}}, "spec.expression"),
        ({"mirror": {"path": [], "field": "spec.x"}}, "spec.mirror.path"),
        ({"count": {"path": ["partOf"]}}, "spec.format"),
        ({"count": {"days": 3}, "format": "number"}, "spec.count"),
        ({"count": {"path": ["partOf"], "days": 3}, "format": "number"}, "spec.count.days"),
    ],
)
def test_a_wrong_way_is_refused_with_its_place(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_field_definition("x", {"kinds": ["Component"], "field": "spec.x", "format": "text", **spec})
    assert path in [error.path for error in refused.value.errors]


def test_nobody_says_what_is_worked_out(ana: User) -> None:
    say("yaml:a", component("pay", level="by a file"))
    add("level", expression="entity.spec.lifecycle")
    assert value("pay", "level") == "production"
    with pytest.raises(InvalidInput) as refused:
        override_field(user=ana, entity=entity("component:default/pay"), path="spec.level", value="x")
    assert "worked out" in refused.value.errors[0].message


def test_lists_are_sorted_by_a_field() -> None:
    say("yaml:a", component("a", n=9), component("b", n=10), component("c"), component("d", n=-1))
    add("n2", format="number", expression="double(entity.spec.?n.orValue(0))")
    assert found("kind:component", "-spec.n2") == ["b", "a", "c", "d"]
    assert found("kind:component", "spec.n2,name") == ["d", "c", "a", "b"]
    add("word", expression="entity.metadata.name == 'a' ? 'Zebra' : 'ant'")
    assert found("kind:component", "-spec.word,name")[0] == "a"


def test_without_computed_fields_nothing_is_asked_for_them_and_what_changed_sets_the_cost() -> None:
    say("yaml:a", group("team", cc="1"), *(component(f"c{n}") for n in range(30)))
    with CaptureQueriesContext(connection) as asked:
        say("yaml:a", component("c1", note="x"), minute=1)
    assert not [one for one in asked if "computedvalues" in one["sql"]]
    add("billing", mirror={"path": ["ownedBy"], "field": "spec.cc"})
    assert len(found("spec.billing:1")) == 30
    with CaptureQueriesContext(connection) as asked:
        say("yaml:a", component("new"), minute=2)
    assert value("new", "billing") == "1"
    # A new member makes the team's relations anew, not its document: the other members are not looked at.
    written = [
        one["sql"] for one in asked if "staging_catalog_served" in one["sql"] and "INSERT" in one["sql"]
    ]
    assert len(written) == 1
    assert current_kinds().computed
