"""Fields that are added to kinds: how they are checked, and what they do to stored entities and to queries."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from access.definitions import document_types
from base.errors import Conflict, InvalidInput
from catalog.documents.fields import FieldDef, check_field_definition
from catalog.documents.formats import FORMATS, format_of, seconds_of
from catalog.kinds import current_kinds
from catalog.models import DirtyEntity, Entity, KindField, Revision
from catalog.query import compile_query, field_facets
from catalog.services.render import render_dirty
from tests.catalog.saying import START, component, document, history, relations, say
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

TIER = {
    "kinds": ["Component"],
    "field": "spec.tier",
    "title": "Tier",
    "format": "enum",
    "values": [{"value": "gold", "title": "Gold", "colour": "c4"}, {"value": "silver"}],
    "default": "silver",
    "shown": ["page", "list", "filter"],
}


@pytest.fixture(autouse=True)
def _afresh() -> Any:
    yield
    forget_definitions()


def add(name: str, **spec: Any) -> None:
    """Add a field, and have the stored entities follow."""
    document_types()["FieldDefinition"].edit(name, spec, by="tests")
    forget_definitions()
    render_dirty(at=START)


def found(query: str) -> set[str]:
    rows = Entity.objects.filter(compile_query(query, now=timezone.now()), deleted_at=None)
    return set(rows.values_list("name", flat=True))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"format": "colour"}, "spec.format"),
        ({"field": "metadata.tier"}, "spec.field"),
        ({"field": "spec.tier.level"}, "spec.field"),
        ({"kinds": []}, "spec.kinds"),
        ({"values": []}, "spec.values"),
        ({"format": "text"}, "spec.values"),
        ({"unit": "ms"}, "spec.unit"),
        ({"default": "bronze"}, "spec.default"),
        ({"relation": {"type": "backedBy", "inverse": "backs"}}, "spec.relation"),
        ({"colour": "c1"}, "spec.colour"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_place(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_field_definition("tier", {**TIER, **change})
    assert path in [error.path for error in refused.value.errors]


def test_any_format_can_narrow_a_list() -> None:
    for name in FORMATS:
        spec = {"kinds": ["Component"], "field": "spec.note", "format": name, "shown": ["filter"]}
        values = {"values": [{"value": "gold"}]} if name == "enum" else {}
        check_field_definition("note", {**spec, **values})


def test_a_kind_has_a_field_once() -> None:
    add("tier", **TIER)
    with pytest.raises(Conflict, match="already"):
        add("other", **TIER)
    with pytest.raises(Conflict, match="of its own"):
        add("lifecycle", kinds=["Component"], field="spec.lifecycle", format="text")
    assert list(KindField.objects.values_list("name", flat=True)) == ["tier"]


def test_what_no_source_says_is_the_default_and_no_revision_tells_of_it() -> None:
    say("yaml:a", component("pay"), component("shop", tier="gold"))
    add("tier", **TIER)
    assert document("component:default/pay")["spec"]["tier"] == "silver"
    assert document("component:default/shop")["spec"]["tier"] == "gold"
    assert (found("spec.tier:silver"), found("spec.tier:gold")) == ({"pay"}, {"shop"})
    assert Revision.objects.count() == 2

    add("tier", **TIER | {"default": "gold"})
    assert found("spec.tier:gold") == {"pay", "shop"}
    say("yaml:a", component("pay", tier="silver"), minute=5)
    assert history("component:default/pay")[-1].diff == [
        {"path": "spec.tier", "old": "gold", "new": "silver"}
    ]


def test_a_value_that_does_not_fit_is_refused_at_the_door_and_a_problem_of_what_is_stored() -> None:
    say("yaml:a", component("pay", tier="bronze"))
    add("tier", **TIER)
    kind = current_kinds().by_name("component")
    (gap,) = kind.gaps(document("component:default/pay"))
    assert gap.path == "spec.tier"
    assert "gold" in gap.message


def test_a_removed_field_takes_its_default_along_and_nothing_that_was_said() -> None:
    say("yaml:a", component("pay"), component("shop", tier="gold"))
    add("tier", **TIER)
    document_types()["FieldDefinition"].delete("tier")
    forget_definitions()
    render_dirty(at=START)
    assert "tier" not in document("component:default/pay")["spec"]
    assert document("component:default/shop")["spec"]["tier"] == "gold"
    assert found("spec.tier:silver") == set()


def test_a_reference_is_a_relation_in_both_directions_and_queries() -> None:
    say("yaml:a", component("pay", standIn="shop"), component("shop"))
    add(
        "stand-in",
        kinds=["Component"],
        field="spec.standIn",
        format="entity",
        targetKinds=["Component"],
        relation={"type": "replacedBy", "inverse": "replaces"},
        shown=["filter"],
    )
    assert ("replacedBy", "component:default/shop") in relations("component:default/pay")
    assert ("replaces", "component:default/pay") in relations("component:default/shop")
    assert found("replacedBy:component:default/shop") == {"pay"}
    assert found("replaces:pay") == {"shop"}
    (facet,) = field_facets(
        lambda text: Entity.objects.filter(compile_query(text, now=timezone.now())),
        "kind:component",
        current_kinds().by_name("component").fields,
    )
    assert [(value.value, value.count) for value in facet.values] == [("component:default/shop", 1)]


def test_the_facet_of_an_enum_counts_its_values_and_those_without() -> None:
    say("yaml:a", component("pay", tier="gold"), component("shop", tier="gold"), component("cart"))
    add("tier", **{key: value for key, value in TIER.items() if key != "default"})
    facet = field_facets(
        lambda text: Entity.objects.filter(compile_query(text, now=timezone.now())),
        "kind:component spec.tier:silver",
        current_kinds().by_name("component").fields,
    )[0]
    assert [(value.value, value.count, value.is_on) for value in facet.values] == [
        ("gold", 2, False),
        ("silver", 0, True),
        ("", 1, False),
    ]


class TestFilters:
    """Each format is compared as what it is."""

    @pytest.mark.parametrize(
        ("format_", "values", "query", "names"),
        [
            ("number", [5, 40, 99.5], "spec.x:>9", "bc"),
            ("percentage", [5, 40, 99.5], "spec.x:<=40", "ab"),
            ("version", ["1.9.0", "v1.10.2", "2.0"], "spec.x:>1.9.5", "bc"),
            ("version", ["1.9.0", "v1.10.2", "2.0"], "spec.x:<1.10", "a"),
            ("duration", ["90 s", "PT2H", "1.5h"], "spec.x:>30min", "bc"),
            ("duration", ["90 s", "PT2H", "1.5h"], 'spec.x:<="90 s"', "a"),
            ("date", ["2026-01-31", "2026-03-01", "2025-12-31"], "spec.x:>=2026-01-01", "ab"),
            ("boolean", [True, False, True], "spec.x:yes", "ac"),
            ("team", ["pay", "group:pay", "group:other/pay"], "spec.x:group:default/pay", "ab"),
            ("team", ["pay", "group:pay", "group:other/pay"], "spec.x:pay", "ab"),
            ("email", ["a@acme.example", "b@acme.example", "c@x.example"], "spec.x:*@acme.example", "ab"),
            ("list", [["one"], ["one", "two"], ["three"]], "spec.x:one", "ab"),
        ],
    )
    def test_a_format_has_a_filter(self, format_: str, values: list[Any], query: str, names: str) -> None:
        say("yaml:a", *(component(name, x=value) for name, value in zip("abc", values, strict=True)))
        add("x", kinds=["Component"], field="spec.x", format=format_)
        assert found(query) == set(names)

    def test_durations_are_read_as_the_database_reads_them(self) -> None:
        from django.db import connection

        for text in ("PT1H30M", "P1W", "P2DT3H", "PT0.5S", "90 s", "250 ms", "1.5h", "3d", "2 w", "10min"):
            with connection.cursor() as cursor:
                cursor.execute("SELECT extract(epoch FROM %s::interval)", [text])
                assert float(cursor.fetchone()[0]) == seconds_of(text), text
        assert [seconds_of(text) for text in ("soon", "P", "PT", "1 year", "P1M")] == [None] * 5


def test_every_format_is_found_by_its_name_and_by_json_schemas_own() -> None:
    assert all(format_of({"format": name}) is format_ for name, format_ in FORMATS.items())
    assert format_of({"type": "string", "format": "uri"}).name == "url"
    assert format_of({"type": "integer"}).name == "number"
    assert format_of({"enum": ["a"]}).name == "enum"
    assert format_of({}).name == "yaml"


def test_how_a_field_is_shown_makes_no_entity_anew() -> None:
    spec = {"kinds": ["Component"], "field": "spec.tier", "format": "enum", "values": [{"value": "a"}]}
    say("yaml:a", component("pay", tier="a"))
    add("tier", **spec)
    shown = {**spec, "order": 3, "title": "Tier", "shown": ["list"], "values": [{"value": "a", "title": "A"}]}
    for changed, marks in ((shown, 0), ({**shown, "values": [{"value": "b"}]}, 1)):
        document_types()["FieldDefinition"].edit("tier", changed, by="tests")
        assert DirtyEntity.objects.count() == marks


def test_fields_come_in_their_order() -> None:
    add("one", kinds=["Component"], field="spec.one", format="text", order=2)
    add("two", kinds=["Component"], field="spec.two", format="text", order=1)
    fields: tuple[FieldDef, ...] = current_kinds().by_name("component").fields
    assert [one.name for one in fields] == ["two", "one"]
