"""Entities made and edited by the form of their kind."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from access.definitions import document_types
from access.models import AuditEvent, Undoable, User
from access.services.undo import undo_change
from catalog.kinds import current_kinds
from catalog.models import Claim, ClaimMode, Entity, Rank
from catalog.services.bulk_fields import fields_of
from catalog.services.edit import override_field
from catalog.services.render import render_dirty
from portal.forms import SchemaForm
from tests.catalog.saying import claim, component, document, say
from tests.catalog_data import forget_definitions

pytestmark = pytest.mark.django_db
Browse = Callable[[User], Client]
PAGE = "/catalog/default/component/pay"


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    say(
        "yaml:a",
        component(
            "pay", owner="group:payments", system="checkout", dependsOn=["component:web"],
        ),
        component("web"),
        claim("group:payments", {"type": "team", "children": []}),
    )  # fmt: skip
    render_dirty(at=timezone.now())


def sent(client: Client, url: str, **changes: Any) -> dict[str, Any]:
    """What a browser sends of a form, with some fields changed; None for one that is emptied."""
    page = client.get(url).content.decode()
    form = page[page.index('<form method="post" class="po-form') :]
    form = form[: form.index("</form>")]
    form = re.sub(r"<template>.*?</template>", "", form, flags=re.S)
    data: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name = re.search(r'name="([^"]*)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if name and (('type="checkbox"' not in tag and 'type="radio"' not in tag) or " checked" in tag):
            data.setdefault(name[1], []).append(html.unescape(value[1] if value else ""))
    for name, value in re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>\n(.*?)</textarea>', form, re.S):
        data[name] = [html.unescape(value)]
    for name, value in changes.items():
        data[name] = value if isinstance(value, list) else [value or ""]
    return data


def now(name: str = "pay") -> dict[str, Any]:
    return document(f"component:default/{name}")


class TestNew:
    def test_a_kind_is_chosen_and_what_it_needs_is_asked(self, browse: Browse, ben: User) -> None:
        client = browse(ben)
        kinds = client.get("/catalog/new").content.decode()
        assert 'href="?kind=component"' in kinds
        page = html.unescape(client.get("/catalog/new?kind=component").content.decode())
        assert "The group or user that looks after it." in page
        assert 'data-suggest="/search/refs?kinds=group,user"' in page
        assert 'name="spec.dependsOn"' in page
        data = sent(
            client, "/catalog/new?kind=component",
            **{
                "metadata.name": "ledger", "metadata.title": "Ledger", "metadata.tags": ["java", "core"],
                "metadata.links__url": ["https://wiki.acme.example", ""], "metadata.links__title": ["Wiki", ""],
                "metadata.links__icon": ["", ""], "metadata.links__type": ["", ""],
                "spec.type": "service", "spec.lifecycle": "production", "spec.owner": "group:payments",
                "spec.dependsOn": ["component:pay", ""],
                "metadata.annotations__key": ["acme.example/x", ""], "metadata.annotations__value": ["1.10", ""],
            },
        )  # fmt: skip
        answer = client.post("/catalog/new?kind=component", data)
        assert answer.headers["Location"] == "/catalog/default/component/ledger"
        made = now("ledger")
        assert made["metadata"]["links"] == [{"url": "https://wiki.acme.example", "title": "Wiki"}]
        assert made["metadata"]["annotations"]["acme.example/x"] == "1.10"
        assert made["spec"] == {
            "type": "service", "lifecycle": "production", "owner": "group:payments",
            "dependsOn": ["component:pay"],
        }  # fmt: skip
        said = Claim.objects.get(external_id="created:component:default/ledger")
        assert (said.source.key, said.mode) == (f"person:{ben.pk}", ClaimMode.ASSERT)
        assert AuditEvent.objects.filter(verb="entity.create", actor_uid=str(ben.pk)).exists()
        undo_change(change=Undoable.objects.get(), user=ben)
        assert client.get("/catalog/default/component/ledger").status_code == 410

    def test_what_is_wrong_stands_at_its_field_and_a_name_that_is_there_leads_to_it(
        self, browse: Browse, ben: User
    ) -> None:
        client = browse(ben)
        url = "/catalog/new?kind=component"
        answer = client.post(url, {"metadata.name": "no good", "spec.type": "x", "spec.owner": "payments"})
        page = html.unescape(answer.content.decode())
        assert answer.status_code == 422
        assert 'id="spec.lifecycle-error"' in page
        whole = {"spec.type": "x", "spec.lifecycle": "y", "spec.dependsOn": ["nothing"]}
        answer = client.post(url, {**whole, "metadata.name": "no good", "spec.owner": "payments"})
        page = html.unescape(answer.content.decode())
        for name in ("metadata.name", "spec.dependsOn"):
            assert f'id="{name}-error"' in page, name
        answer = client.post(
            url, {"spec.type": "x", "spec.lifecycle": "y", "metadata.name": "PAY", "spec.owner": "payments"}
        )
        page = html.unescape(answer.content.decode())
        assert answer.status_code == 422
        assert f'href="{PAGE}"' in page
        assert not Claim.objects.filter(external_id__startswith="created:").exists()

    def test_what_is_worked_out_is_not_asked(self, browse: Browse, ben: User) -> None:
        mirror = {"path": ["ownedBy"], "field": "spec.cc"}
        spec = {"kinds": ["Component"], "field": "spec.billing", "format": "text", "mirror": mirror}
        document_types()["FieldDefinition"].edit("billing", spec, by="tests")
        forget_definitions()
        try:
            assert "billing" in current_kinds().by_name("component").computed_names
            for url in ("/catalog/new?kind=component", f"{PAGE}/edit"):
                page = browse(ben).get(url).content.decode()
                assert 'name="spec.lifecycle"' in page
                assert 'name="spec.billing"' not in page
            assert "spec.lifecycle" in fields_of(["component"])
            assert "spec.billing" not in fields_of(["component"])
        finally:
            forget_definitions()

    def test_who_may_not_write_makes_nothing(self, browse: Browse, vic: User) -> None:
        assert browse(vic).get("/catalog/new?kind=component").status_code == 403
        assert "/catalog/new" not in browse(vic).get("/catalog").content.decode()


class TestEdit:
    def test_each_field_says_who_owns_it_and_only_what_was_changed_is_overridden(
        self, browse: Browse, ben: User
    ) -> None:
        client = browse(ben)
        page = html.unescape(client.get(f"{PAGE}/edit").content.decode())
        owner = page[page.index('id="field-spec.owner"') : page.index('id="field-spec.system"')]
        assert "yaml:a" in owner
        data = sent(
            client, f"{PAGE}/edit", **{"spec.lifecycle": "deprecated", "spec.system": None, "reason": "Old."}
        )
        assert client.post(f"{PAGE}/edit", data).headers["Location"] == PAGE
        said = Claim.objects.get(rank=Rank.PERSON)
        assert said.document == {"spec": {"lifecycle": "deprecated", "system": None}}
        assert said.place["reasons"] == {"spec.lifecycle": "Old.", "spec.system": "Old."}
        assert now()["spec"]["lifecycle"] == "deprecated"
        assert "system" not in now()["spec"]
        page = html.unescape(client.get(f"{PAGE}/edit").content.decode())
        assert "Overridden by Ben Okafor: Old." in page.replace("\n", "")
        data = sent(client, f"{PAGE}/edit", drop=["spec.lifecycle", "spec.system"])
        assert client.post(f"{PAGE}/edit", data).status_code == 302
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()
        assert now()["spec"]["system"] == "checkout"

    def test_a_list_that_sources_add_to_takes_more_and_gives_up_only_ones_own(
        self, browse: Browse, ben: User
    ) -> None:
        say(
            "yaml:a",
            claim("component:web", {"type": "x", "lifecycle": "y", "owner": "z"}, metadata={"tags": ["a"]}),
        )
        render_dirty(at=timezone.now())
        client, url = browse(ben), "/catalog/default/component/web/edit"
        assert client.post(url, sent(client, url, **{"metadata.tags": ["a", "b"]})).status_code == 302
        assert sorted(now("web")["metadata"]["tags"]) == ["a", "b"]
        answer = client.post(url, sent(client, url, **{"metadata.tags": ["b"]}))
        assert answer.status_code == 422
        assert 'id="metadata.tags-error"' in answer.content.decode()
        assert client.post(url, sent(client, url, **{"metadata.tags": ["a"]})).status_code == 302
        assert now("web")["metadata"]["tags"] == ["a"]
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()

    def test_two_people_add_to_such_a_list_and_each_takes_away_their_own(
        self, browse: Browse, ben: User, ana: User
    ) -> None:
        url = "/catalog/default/component/web/edit"
        for person, tags in ((ana, ["a"]), (ben, ["a", "b"])):
            client = browse(person)
            assert client.post(url, sent(client, url, **{"metadata.tags": tags})).status_code == 302
        assert sorted(now("web")["metadata"]["tags"]) == ["a", "b"]
        client = browse(ben)
        assert client.post(url, sent(client, url, **{"metadata.tags": ["a"]})).status_code == 302
        assert now("web")["metadata"]["tags"] == ["a"]

    def test_of_what_was_made_by_hand_what_was_filled_in_can_be_taken_away(
        self, browse: Browse, ben: User, ana: User
    ) -> None:
        client, url = browse(ana), "/catalog/default/component/ledger/edit"
        whole = {"spec.type": "x", "spec.lifecycle": "y", "spec.owner": "payments", "metadata.name": "ledger"}
        made = browse(ben).post("/catalog/new?kind=component", {**whole, "metadata.tags": ["a", "b"]})
        assert made.status_code == 302
        changed = sent(client, url, **{"metadata.tags": ["b", "c"], "metadata.title": "Ledger"})
        assert client.post(url, changed).status_code == 302
        assert sorted(now("ledger")["metadata"]["tags"]) == ["b", "c"]
        assert now("ledger")["metadata"]["title"] == "Ledger"
        undo_change(change=Undoable.objects.get(event__verb="entity.redeclare"), user=ben)
        assert sorted(now("ledger")["metadata"]["tags"]) == ["a", "b", "c"]

    def test_a_map_is_overridden_key_by_key(self, browse: Browse, ben: User) -> None:
        client = browse(ben)
        keys = {"metadata.labels__key": ["tier", "acme.example/x"], "metadata.labels__value": ["one", "1"]}
        client.post(f"{PAGE}/edit", sent(client, f"{PAGE}/edit", **keys))
        assert now()["metadata"]["labels"] == {"tier": "one", "acme.example/x": "1"}
        keys = {"metadata.labels__key": ["tier"], "metadata.labels__value": ["two"]}
        client.post(f"{PAGE}/edit", sent(client, f"{PAGE}/edit", **keys))
        assert now()["metadata"]["labels"] == {"tier": "two"}

    def test_of_two_people_the_second_sees_what_the_first_changed_and_keeps_it(
        self, browse: Browse, ben: User, ana: User
    ) -> None:
        first, second = browse(ben), browse(ana)
        theirs = sent(second, f"{PAGE}/edit", **{"spec.type": "library"})
        mine = sent(first, f"{PAGE}/edit", **{"spec.lifecycle": "deprecated", "reason": "Nobody needs it."})
        first.post(f"{PAGE}/edit", mine)
        answer = second.post(f"{PAGE}/edit", theirs)
        page = html.unescape(answer.content.decode())
        assert answer.status_code == 412
        assert "What changed meanwhile" in page
        assert "Nobody needs it." in page
        assert 'id="spec.type" value="library"' in page  # what was typed
        assert 'id="spec.lifecycle" value="deprecated"' in page  # and of all else what there is now
        again = sent(second, f"{PAGE}/edit", **{"spec.type": "library"})
        assert second.post(f"{PAGE}/edit", again).status_code == 302
        assert (now()["spec"]["type"], now()["spec"]["lifecycle"]) == ("library", "deprecated")

    def test_who_has_to_mend_something_first_is_told_all_the_same(
        self, browse: Browse, ben: User, ana: User
    ) -> None:
        first, second = browse(ben), browse(ana)
        theirs = sent(second, f"{PAGE}/edit", **{"spec.type": "library", "metadata.tags": ["No tag"]})
        first.post(f"{PAGE}/edit", sent(first, f"{PAGE}/edit", **{"spec.type": "website"}))
        answer = second.post(f"{PAGE}/edit", theirs | {"spec.lifecycle": [""]})
        assert answer.status_code == 422
        shown = re.search(r'name="etag" value="([^"]*)"', answer.content.decode())
        assert shown is not None
        again = theirs | {"etag": [html.unescape(shown[1])], "metadata.tags": ["a-tag"]}
        assert second.post(f"{PAGE}/edit", again).status_code == 412
        assert now()["spec"]["type"] == "website"

    def test_another_persons_word_on_a_field_gives_way(self, browse: Browse, ben: User, ana: User) -> None:
        pay = Entity.objects.get(ref="component:default/pay")
        override_field(user=ana, entity=pay, path="spec.type", value="website")
        client = browse(ben)
        client.post(f"{PAGE}/edit", sent(client, f"{PAGE}/edit", **{"spec.type": "library"}))
        assert now()["spec"]["type"] == "library"
        assert [c.source.key for c in Claim.objects.filter(rank=Rank.PERSON)] == [f"person:{ben.pk}"]

    def test_what_was_missing_before_stays_missing_and_what_is_needed_is_not_emptied(
        self, browse: Browse, ben: User
    ) -> None:
        say("yaml:b", claim("component:odd", {"type": "service"}))
        render_dirty(at=timezone.now())
        client, url = browse(ben), "/catalog/default/component/odd/edit"
        assert client.post(url, sent(client, url, **{"metadata.title": "Odd"})).status_code == 302
        assert now("odd")["metadata"]["title"] == "Odd"
        answer = client.post(url, sent(client, url, **{"spec.type": None}))
        assert answer.status_code == 422
        assert 'id="spec.type-error"' in answer.content.decode()


class TestSchemaForm:
    SCHEMA: dict[str, Any] = {
        "type": "object",
        "required": ["size", "many"],
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
        "properties": {
            "size": {"type": "integer"},
            "many": {"type": "array", "items": {"type": "number"}},
            "level": {"enum": [1, 2, 3], "type": "integer"},
            "on": {"type": "boolean"},
            "node": {"$ref": "#/$defs/node"},
            "deep": {
                "type": "object",
                "properties": {"er": {"type": "object", "properties": {"x": {"type": "string"}}}},
            },
        },
    }

    def read(self, **data: Any) -> SchemaForm:
        query = QueryDict(mutable=True)
        for name, value in data.items():
            query.setlist(name, value if isinstance(value, list) else [value])
        return SchemaForm(self.SCHEMA, query)

    def test_values_are_of_the_types_of_the_schema(self) -> None:
        form = self.read(size="3", many=["1", "2.5"], level="2", on="true", **{"deep.er.x": "y"})
        assert form.is_valid()
        assert form.values == {
            "size": 3,
            "many": [1, 2.5],
            "level": 2,
            "on": True,
            "deep": {"er": {"x": "y"}},
        }

    @pytest.mark.parametrize("size", ["x", "nan", "", "1e999"])
    def test_what_is_no_number_is_told_at_its_field(self, size: str) -> None:
        form = self.read(size=size, many=[])
        assert not form.is_valid()
        assert list(form.errors) == ["size"]

    def test_a_schema_that_refers_to_itself_has_an_end(self) -> None:
        assert len(SchemaForm(self.SCHEMA).fields) < 20

    @pytest.mark.parametrize(
        ("schema", "typed", "value"),
        [
            ({"type": "array", "items": {"$ref": "#/$defs/link"}}, {"x__rows": "1", "x__url": "a"}, [{"url": "a"}]),
            ({"type": "array", "items": {"$ref": "#/$defs/size"}}, {"x": ["4"]}, [4]),
            ({"additionalProperties": {"$ref": "#/$defs/size"}, "type": "object"}, {"x__key": "k", "x__value": "4"},
             {"k": 4}),
            ({"type": "array", "items": {"type": ["integer", "string"]}}, {"x": ["4"]}, ["4"]),
            ({"type": "array", "items": True}, {"x": "[4]"}, [4]),
            ({"type": "object", "additionalProperties": True}, {"x": "{k: 4}"}, {"k": 4}),
            ({"oneOf": [True, {"type": "null"}]}, {"x": "[4]"}, [4]),
            ({"allOf": [True]}, {"x": "[4]"}, [4]),
            ({"$ref": "#"}, {"x": "[4]"}, [4]),
            ({"$ref": "#/$defs/round"}, {"x": "[4]"}, [4]),
            ({"enum": [[4], {"k": 4}]}, {"x": "[4]"}, [4]),
            ({"enum": []}, {"x": ""}, None),
            (True, {"x": "[4]"}, [4]),
        ],
    )  # fmt: skip
    def test_any_schema_makes_a_form(self, schema: Any, typed: dict[str, Any], value: Any) -> None:
        defs = {
            "link": {"type": "object", "properties": {"url": {"type": "string"}}},
            "size": {"type": "integer"},
            "round": {"$ref": "#/$defs/round"},
        }
        whole = {"$defs": defs, "type": "object", "properties": {"x": schema}}
        query = QueryDict(mutable=True)
        for name, texts in typed.items():
            query.setlist(name, texts if isinstance(texts, list) else [texts])
        assert len(SchemaForm(whole).fields) == 1
        form = SchemaForm(whole, query)
        assert (form.errors, form.value_at(("x",))) == ({}, value)
        assert len(form.fields) == 1
