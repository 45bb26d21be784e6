"""One field of many things: by a page with a preview, by the API, and taken back as one."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import Undoable, User
from access.services.undo import undo_change, undo_of
from base.errors import InvalidInput
from catalog.models import Claim, Entity, Rank
from catalog.services import bulk_plans
from catalog.services.bulk_fields import change_fields, check_change, plan_fields
from catalog.services.bulk_plans import StalePlan
from catalog.services.edit import Words, override_field, say_words, source_of_person
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, document, say

pytestmark = pytest.mark.django_db
Browse = Callable[[User], Client]
DEPENDS = "spec.dependsOn"


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    say(
        "yaml:a",
        component("one", dependsOn=["component:two"]),
        component("two", lifecycle="deprecated"),
        claim("component:three", {"type": "service"}, metadata={"tags": ["java"]}),
        claim("group:team", {"type": "team", "children": []}),
    )
    render_dirty(at=timezone.now())


def things(*names: str) -> list[Entity]:
    return [Entity.objects.get(ref=name if ":" in name else f"component:default/{name}") for name in names]


def outcomes(user: User, path: str, action: str, value: Any, *names: str) -> dict[str, str]:
    plan = plan_fields(user=user, entities=things(*names), change=check_change(path, action, value))
    return {row.entity.name: row.outcome.value for row in plan.rows}


def spec(name: str) -> dict[str, Any]:
    found: dict[str, Any] = document(f"component:default/{name}")["spec"]
    return found


class TestPlan:
    def test_it_tells_what_becomes_of_each(self, ben: User, ana: User) -> None:
        two, three = things("two", "three")
        override_field(user=ana, entity=two, path="spec.lifecycle", value="old")
        override_field(user=ben, entity=three, path="spec.lifecycle", value="new")
        assert outcomes(ben, "spec.lifecycle", "set", "production", "one", "two", "three", "group:default/team") == {
            "one": "same", "two": "held", "three": "replace", "team": "set",
        }  # fmt: skip
        assert outcomes(ben, "spec.lifecycle", "clear", None, "one") == {"one": "override"}
        assert outcomes(ben, "spec.system", "clear", None, "one") == {"one": "same"}
        assert outcomes(ben, "spec.lifecycle", "set", {"a": 1}, "one") == {"one": "unfit"}
        assert outcomes(ben, "spec.dependsOn", "add", ["component:three"], "one", "two") == {
            "one": "override", "two": "set",
        }  # fmt: skip
        assert outcomes(ben, "spec.dependsOn", "add", ["component:two"], "one") == {"one": "same"}
        assert outcomes(ben, "spec.type", "add", ["x"], "one") == {"one": "unfit"}
        assert outcomes(ben, "metadata.tags", "set", ["x"], "one") == {"one": "unfit"}
        assert outcomes(ben, "metadata.tags", "remove", ["java"], "three") == {"three": "unfit"}
        assert outcomes(ben, "metadata.tags", "add", ["go"], "one", "three") == {
            "one": "set",
            "three": "override",
        }
        assert not Claim.objects.filter(document__metadata__has_key="tags", rank=Rank.PERSON).exists()

    def test_of_two_people_the_older_word_is_the_one_that_counts(self, ben: User, ana: User) -> None:
        [one] = things("one")
        for person in (ben, ana):
            said = {"spec": {"lifecycle": person.label}}
            say_words([Words(source_of_person(person), one, said, {})], by=person.label)
        render_dirty(at=timezone.now())
        assert spec("one")["lifecycle"] == ben.label
        assert outcomes(ben, "spec.lifecycle", "set", "x", "one") == {"one": "replace"}
        assert outcomes(ana, "spec.lifecycle", "set", "x", "one") == {"one": "held"}

    def test_who_may_not_write_changes_nothing(self, vic: User) -> None:
        assert outcomes(vic, "spec.lifecycle", "set", "x", "one") == {"one": "forbidden"}

    @pytest.mark.parametrize(
        ("path", "action", "value"),
        [
            ("metadata.name", "set", "x"),
            ("spec.x", "turn", "x"),
            ("spec.x", "set", ""),
            ("spec.x", "add", []),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, path: str, action: str, value: Any) -> None:
        with pytest.raises(InvalidInput):
            check_change(path, action, value)

    def test_there_is_an_end(self, ben: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_plans, "MOST", 1)
        with pytest.raises(InvalidInput, match="At most 1"):
            outcomes(ben, "spec.lifecycle", "set", "x", "one", "two")


class TestChange:
    def test_it_is_one_change_and_one_undo(self, ben: User) -> None:
        override_field(user=ben, entity=things("two")[0], path="spec.lifecycle", value="mine", reason="Mine.")
        change = check_change("spec.lifecycle", "set", "retired")
        done = change_fields(user=ben, entities=things("one", "two", "three"), change=change, reason="Over.")
        assert len(done.changing) == 3
        assert [spec(name)["lifecycle"] for name in ("one", "two", "three")] == ["retired"] * 3
        kept = Undoable.objects.latest("event_id")
        assert undo_of(kept).title(kept) == "Set spec.lifecycle of 3 entities to retired"
        undo_change(change=kept, user=ben)
        assert (spec("one")["lifecycle"], spec("two")["lifecycle"]) == ("production", "mine")
        assert "lifecycle" not in spec("three")
        said = Claim.objects.get(rank=Rank.PERSON)
        assert said.place["reasons"] == {"spec.lifecycle": "Mine."}

    def test_lists_grow_and_shrink(self, ben: User) -> None:
        change_fields(
            user=ben,
            entities=things("one", "two"),
            change=check_change(DEPENDS, "add", ["component:three"]),
        )
        assert spec("one")["dependsOn"] == ["component:two", "component:three"]
        change_fields(
            user=ben,
            entities=things("one", "two"),
            change=check_change(DEPENDS, "remove", ["component:two"]),
        )
        assert spec("one")["dependsOn"] == ["component:three"]
        assert spec("two")["dependsOn"] == ["component:three"]
        change_fields(user=ben, entities=things("three"), change=check_change("metadata.tags", "add", ["go"]))
        assert sorted(document("component:default/three")["metadata"]["tags"]) == ["go", "java"]
        change_fields(
            user=ben, entities=things("three"), change=check_change("metadata.tags", "remove", ["go"])
        )
        assert document("component:default/three")["metadata"]["tags"] == ["java"]
        change_fields(user=ben, entities=things("one"), change=check_change("spec.dependsOn", "clear", None))
        assert "dependsOn" not in spec("one")

    def test_what_was_not_seen_is_not_done(self, ben: User, ana: User) -> None:
        change = check_change("spec.lifecycle", "set", "retired")
        mark = plan_fields(user=ben, entities=things("one"), change=change).mark
        override_field(user=ana, entity=things("one")[0], path="spec.lifecycle", value="other")
        with pytest.raises(StalePlan):
            change_fields(user=ben, entities=things("one"), change=change, expected=mark)


def test_the_page_previews_and_changes_what_was_selected(browse: Browse, ben: User) -> None:
    client = browse(ben)
    assert 'formaction="/catalog/fields"' in client.get("/catalog?q=kind:component").content.decode()
    chosen = [str(one.uid) for one in things("one", "two")]
    page = client.post("/catalog/fields", {"entity": chosen, "action": "selected"}).content.decode()
    assert "What is changed" in page
    assert page.count("Remove from the list") == 1
    assert "spec.dependsOn" in page
    given = {
        "entities": " ".join(chosen),
        "field": "spec.lifecycle",
        "do": "set",
        "value": "retired",
        "reason": "r",
    }
    page = html.unescape(client.post("/catalog/fields", given | {"action": "preview"}).content.decode())
    assert "Goes over what a file or tool says" in page
    assert "Change 2 entities" in page
    mark = re.search(r'name="mark" value="(\w+)"', page)
    assert mark
    unseen = client.post("/catalog/fields", given | {"action": "apply"})
    assert unseen.status_code == 422  # nobody saw what it does
    assert spec("one")["lifecycle"] == "production"
    assert client.post("/catalog/fields", given | {"action": "apply", "mark": mark[1]}).status_code == 302
    assert (spec("one")["lifecycle"], spec("two")["lifecycle"]) == ("retired", "retired")
    wrong = client.post("/catalog/fields", given | {"path": "metadata.name", "action": "preview"})
    assert wrong.status_code == 422
    labels = given | {"path": "metadata.labels.acme.example/tier", "value": "one"}
    page = client.post("/catalog/fields", labels | {"action": "preview"}).content.decode()
    assert "Nobody says anything of it yet" in page
    all_ = client.get("/catalog/fields?q=kind:component").content.decode()
    assert "Of 3 entities" in all_


def test_programs_have_the_same(client: Client, ben: User, as_token: Callable[..., Any]) -> None:
    headers = as_token(ben)

    def call(data: dict[str, Any], query: str = "") -> Any:
        return client.post(f"/api/v1/entities/fields/{query}", data, "application/json", headers=headers)

    change = {"q": "kind:component", "path": "spec.lifecycle", "action": "set", "value": "retired"}
    dry = call(change, "?dry_run=1").json()
    assert dry["changed"] == 3
    assert {row["ref"]: (row["before"], row["after"]) for row in dry["results"]}["component:default/two"] == (
        "deprecated", "retired",
    )  # fmt: skip
    assert spec("two")["lifecycle"] == "deprecated"
    assert call(change).json()["changed"] == 3
    assert spec("two")["lifecycle"] == "retired"
    assert call({**change, "entities": []}).status_code == 422
    assert call({**change, "path": "metadata.name"}).status_code == 422
