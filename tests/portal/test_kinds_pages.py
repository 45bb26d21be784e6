"""Kinds in the settings, the fields that are added there, and how each format is shown and edited."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone
from pydantic import BaseModel, create_model
from pydantic import Field as ModelField

from access.models import AuditEvent, Role, User
from access.services import grant
from catalog.documents.formats import FORMATS
from catalog.models import Audience, Kind, KindChange, KindField, Rank, RelationType
from catalog.services import kind_changes
from catalog.services.creating import create_entity
from catalog.services.render import render_dirty
from portal.formats import show
from portal.forms import Form
from portal.packs import edit_definition
from tests.catalog.saying import START, claim, component, say, source
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

TYPED = {
    "title": "Tier",
    "field": "spec.tier",
    "kinds": "Component",
    "format": "enum",
    "values": "gold, Gold, c4\nsilver",
    "default": "silver",
    "on_page": "true",
    "in_lists": "true",
    "as_filter": "true",
}
ON_ITS_PAGE = {"in_lists": None, "as_filter": None}


@pytest.fixture(autouse=True)
def _afresh() -> Any:
    yield
    forget_definitions()


@pytest.fixture
def browser(client: Client, ana: User) -> Client:
    client.force_login(ana)
    return client


def text(client: Client, url: str) -> str:
    shown = client.get(url)
    assert shown.status_code == 200, shown.status_code
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown.content.decode())).split())


def save(browser: Client, url: str = "/settings/fields/new", **typed: Any) -> Any:
    answer = browser.post(
        url, {name: value for name, value in {**TYPED, **typed}.items() if value is not None}
    )
    forget_definitions()
    render_dirty(at=START)
    return answer


def test_a_field_is_added_shown_changed_and_deleted_with_its_impact(browser: Client) -> None:
    say("yaml:a", component("pay", tier="gold"), component("shop"))
    assert "Components 2" in text(browser, "/settings/kinds")
    assert save(browser).status_code == 302
    assert "Tier spec.tier One of some values on its page, in lists, as a filter" in text(
        browser, "/settings/kinds/component"
    )
    assert "Tier Gold" in text(browser, "/catalog/default/component/pay")
    listed = text(browser, "/catalog?q=kind:component")
    assert re.search(r"Tier .*Gold 1 .*silver 1", listed), listed
    assert "po-c4" in browser.get("/catalog?q=kind:component").content.decode()

    row = KindField.objects.get()
    assert (row.name, row.spec["values"][0]) == ("tier", {"value": "gold", "title": "Gold", "colour": "c4"})
    assert save(browser, "/settings/fields/tier", title="Level").status_code == 302
    assert "Level Gold" in text(browser, "/catalog/default/component/pay")
    asked = text(browser, "/settings/fields/tier/delete")
    assert "2 entities have a value there" in asked
    assert browser.post("/settings/fields/tier/delete").status_code == 302
    assert not KindField.objects.exists()
    assert set(AuditEvent.objects.values_list("verb", flat=True)) >= {
        "fielddefinition.write", "fielddefinition.delete"
    }  # fmt: skip


def test_what_is_wrong_stands_at_its_field_and_what_was_typed_is_kept(browser: Client) -> None:
    refused = save(browser, default="bronze")
    shown = refused.content.decode()
    assert refused.status_code == 422
    assert "must be one of" in html.unescape(shown)
    assert 'value="bronze"' in shown
    assert save(browser, field="spec.owner", format="text", values="", default="").status_code == 422
    assert not KindField.objects.exists()


def test_a_field_that_is_called_new_can_be_changed(browser: Client) -> None:
    assert save(browser, field="spec.new").status_code == 302
    assert "Tier" in text(browser, f"/settings/fields/{KindField.objects.get().name}")


def test_fields_are_put_in_order(browser: Client) -> None:
    save(browser, **ON_ITS_PAGE)
    save(browser, title="Note", field="spec.note", format="text", values="", default="", **ON_ITS_PAGE)
    before = text(browser, "/settings/kinds/component")
    assert before.index("spec.note") < before.index("spec.tier")
    browser.post("/settings/fields/tier/move", {"kind": "component", "way": "up"})
    forget_definitions()
    after = text(browser, "/settings/kinds/component")
    assert after.index("spec.tier") < after.index("spec.note")


@pytest.mark.parametrize(
    "url",
    ["/settings/kinds", "/settings/kinds/component", "/settings/fields/new", "/settings/fields/x/delete"],
)
def test_only_who_may_change_kinds_sees_them_there(url: str, client: Client, ben: User) -> None:
    client.force_login(ben)
    assert client.get(url).status_code == 403


def test_programs_do_the_same(
    client: Client, ana: User, vic: User, as_token: Callable[..., dict[str, str]]
) -> None:
    spec = {"kinds": ["Component"], "field": "spec.sla", "title": "SLA", "format": "percentage"}
    body = {"data": {"spec": spec}, "content_type": "application/json"}
    url, mine = "/api/v1/fields/sla/", as_token(ana)
    assert client.put(url, headers=as_token(vic), **body).status_code == 403
    made = client.put(url, headers=mine, **body)
    assert made.status_code == 200, made.content
    forget_definitions()
    listed = client.get("/api/v1/kinds/component/fields/", headers=as_token(vic)).json()["results"]
    assert [(one["path"], one["format"], one["added_by"]) for one in listed if one["added_by"]] == [
        ("spec.sla", "percentage", "sla")
    ]
    assert {"spec.owner": "entity", "spec.dependsOn": "entities"}.items() <= {
        one["path"]: one["format"] for one in listed
    }.items()
    assert client.get(f"{url}impact/", headers=mine).json() == {"entities": 0, "pages": [], "fields": []}
    assert client.put(url, headers=mine | {"If-Match": '"0-0"'}, **body).status_code == 412
    for name, status in (("x" * 201, 422), ("a%20b", 422), ("a%00b", 400)):
        assert client.put(f"/api/v1/fields/{name}/", headers=mine, **body).status_code == status
    assert client.delete(url, headers=mine).status_code == 204
    assert client.get(url, headers=mine).status_code == 404


SHOWN: dict[str, tuple[Any, str]] = {
    "text": ("a < b", "a &lt; b"),
    "markdown": ("*so*", "<em>so</em>"),
    "number": (12345, "12,345 ms"),
    "percentage": (99.5, "99.5 %"),
    "boolean": (True, "Yes"),
    "date": ("2026-01-31", "31 Jan 2026"),
    "date-time": ("2026-01-31T09:30:00Z", "<time"),
    "duration": ("PT1H30M", "1 h 30 min"),
    "url": ("https://acme.example/x", 'href="https://acme.example/x"'),
    "labelled-url": ({"url": "https://acme.example", "title": "Board"}, ">Board</a>"),
    "email": ("ana@acme.example", 'href="mailto:ana@acme.example"'),
    "user": ("ana", "user:default/ana"),
    "team": ("pay", "group:default/pay"),
    "entity": ("component:pay", "component:default/pay"),
    "entities": (["component:pay", "component:shop"], "component:default/shop"),
    "enum": ("gold", "po-swatch po-c4"),
    "list": (["one", "two"], "two"),
    "json": ({"a": 1}, "<summary>1 key</summary>"),
    "yaml": ([1, 2], "<summary>2 entries</summary>"),
    "version": ("1.2.3", "po-mono"),
    "image": ("data:image/png;base64,AAAA", "<img"),
    "openapi": (
        "openapi: 3.1.0\ninfo: {title: Card, version: 1.2}\npaths: {/a: {get: {}, post: {}}}",
        "OpenAPI: Card 1.2, 2 operations",
    ),
    "asyncapi": ("asyncapi: 3.0.0\ninfo: {title: Orders}\nchannels: {a: {}}", "AsyncAPI: Orders, 1 channel"),
    "graphql": ("type Query { a: Int }\nenum B { C }", "GraphQL, 2 types"),
}


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_shown(name: str) -> None:
    value, expected = SHOWN[name]
    schema = {"format": name, "unit": "ms", "colours": {"gold": "c4"}}
    kind = {"user": "user", "team": "group"}.get(name)
    refs = [
        f"{kind}:default/{one}" if kind else one.replace(":", ":default/")
        for one in (value if isinstance(value, list) else [value])
        if FORMATS[name].compared_as == "reference"
    ]
    assert expected in show(value, schema, refs=refs, is_whole=True)


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize(
    "value", [None, True, 3.5, "<script>x</script>", ["<i>"], {"<u>": "<s>"}, "javascript:alert(1)"]
)
def test_what_does_not_fit_its_format_is_told_and_harmless(name: str, value: Any) -> None:
    shown = show(value, {"format": name}, is_whole=True)
    assert not re.search(r"<(script|i|u|s)>|href=\"javascript", shown)


def test_a_list_says_of_long_values_in_a_word_what_they_are() -> None:
    shown = {name: show(SHOWN[name][0], {"format": name}) for name in ("openapi", "graphql", "json", "yaml")}
    assert shown == {"openapi": "OpenAPI", "graphql": "GraphQL", "json": "1 key", "yaml": "2 entries"}


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_has_an_editor(name: str) -> None:
    schema: dict[str, Any] = {**FORMATS[name].schema, "format": name}
    if name == "enum":
        schema["enum"] = ["a", "b", "c", "d", "e"]

    class Asked(BaseModel):
        @classmethod
        def model_json_schema(cls, *_args: Any, **_options: Any) -> dict[str, Any]:
            return {"type": "object", "properties": {"x": schema}}

    model = create_model("Given", __base__=Asked, x=(Any, ModelField(None)))
    (field, *_rest) = Form(model).fields
    expected = {"labelled-url": "url", "boolean": "bool"}.get(name, FORMATS[name].editor)
    assert field["type"] == expected
    if name in {"user", "team"}:
        assert field["suggest"] == f"/search/refs?kinds={'user' if name == 'user' else 'group'}"


def test_a_time_is_typed_in_the_browsers_own_field() -> None:
    class Asked(BaseModel):
        at: str = ModelField("", json_schema_extra={"format": "date-time"})

    (field,) = Form(Asked, initial={"at": "2026-01-31T09:30:00Z"}).fields
    assert (field["type"], field["value"]) == ("datetime", "2026-01-31T09:30")
    form = Form(Asked, QueryDict("at=2026-01-31T09:30"))
    assert form.is_valid()
    assert form.values == {"at": "2026-01-31T09:30:00Z"}


def test_a_computed_field_says_what_it_is_worked_out_from(browser: Client) -> None:
    say("yaml:a", component("pay"), component("a", dependsOn=["component:pay"]))
    typed = {"title": "Users", "field": "spec.users", "format": "number", "values": "", "default": ""}
    refused = save(browser, **typed, as_filter=None, **{"count.path": "dependencyOf", "count.days": "3"})
    assert refused.status_code == 422
    assert "belongs to a count of activity" in html.unescape(refused.content.decode())
    made = save(browser, **typed, as_filter=None, **{"count.path": "dependencyOf"})
    assert made.status_code == 302
    assert KindField.objects.get().spec["count"] == {"path": ["dependencyOf"]}
    assert "how many dependencyOf leads to" in text(browser, "/settings/kinds/component")
    assert "Users 1 how many dependencyOf leads to" in text(browser, "/catalog/default/component/pay")
    listed = browser.get("/catalog?q=kind:component&order=-spec.users").content.decode()
    assert listed.index("/catalog/default/component/pay") < listed.index("/catalog/default/component/a")
    assert "order=spec.users" in listed
    save(browser, title="Level", field="spec.level", format="text", values="", default="",
         **ON_ITS_PAGE, expression="entity.spec.users > 0.0 ? 'used' : 'unused'")  # fmt: skip
    assert "Level used" in text(browser, "/catalog/default/component/pay")
    assert "computed field level looks at it" in text(browser, "/settings/fields/users/delete")


def weighed() -> dict[str, Any]:
    """A new version of components, whose level is a weight."""
    spec = Kind.objects.get(name="component").spec
    return {
        **spec,
        "version": 2,
        "schema": {
            **spec["schema"],
            "properties": {**spec["schema"]["properties"], "weight": {"type": "number"}},
        },
        "upgrades": [
            {
                "to": 2,
                "when": "has(document.spec.level)",
                "fields": {"spec.weight": "document.spec.level", "spec.level": None},
            }
        ],
    }


def test_a_new_version_is_proposed_checked_and_applied_on_pages(browser: Client, ana: User) -> None:
    say("yaml:a", component("pay", level=3), component("shop", level="high"))
    new = weighed()
    wrong = browser.post("/settings/kinds/component/change", {"spec": "kind: Component"})
    assert wrong.status_code == 422
    assert "apiVersions" in wrong.content.decode()
    asked = browser.post("/settings/kinds/component/change", {"spec": json.dumps(new)})
    assert asked.status_code == 302
    assert "Being checked" in text(browser, asked.url)
    change = KindChange.objects.get()
    kind_changes.check(change_id=change.pk, now=timezone.now())
    shown = text(browser, asked.url)
    assert "1 of 2 entities would break" in shown
    assert "spec.weight This must be a number, but is the text “high”. shop" in shown
    assert browser.post(asked.url, {"action": "apply"}).status_code == 409
    assert browser.post(asked.url, {"action": "apply", "anyway": "1"}).status_code == 302
    assert "0/2 entities are of the new version" in text(browser, asked.url)
    forget_definitions()
    render_dirty(at=timezone.now())
    assert "2 entities follow it" in text(browser, asked.url)
    assert "Version 2 Applied" in text(browser, "/settings/kinds/component")
    assert "Changed the kind Component to version 2" in text(browser, "/settings/changes")


def test_programs_change_kinds_too(
    client: Client, ana: User, vic: User, as_token: Callable[..., dict[str, str]]
) -> None:
    mine = as_token(ana)
    body = {"data": {"spec": Kind.objects.get(name="system").spec}, "content_type": "application/json"}
    url = "/api/v1/kinds/system/changes/"
    assert client.post(url, headers=as_token(vic), **body).status_code == 403
    made = client.post(url, headers=mine, **body)
    assert made.status_code == 202, made.content
    one = f"/api/v1/kind-changes/{made.json()['id']}/"
    assert client.post(f"{one}apply/", {}, "application/json", headers=mine).json()["status"] == 409
    kind_changes.check(change_id=made.json()["id"], now=timezone.now())
    assert client.get(one, headers=mine).json()["state"] == "checked"
    assert client.delete(one, headers=mine).status_code == 204
    assert client.get(url, headers=mine).json()["results"][0]["state"] == "cancelled"


def test_who_may_change_kinds_is_told_of_no_more_than_they_may_see(
    client: Client, ana: User, vic: User, as_token: Callable[..., dict[str, str]]
) -> None:
    grant(role=Role.objects.create(name="kinds", spec={"title": "Kinds", "verbs": ["kind.write"]}), user=vic)
    source("connection:inner/things")
    Audience.objects.create(name="inner", uid="00000000-0000-4000-8000-000000000001", groups=[7])
    hidden = component("velours", level="high")
    say("connection:inner/things", dataclasses.replace(hidden, rank=Rank.CONNECTION))
    say("yaml:a", component("open", level="high"))
    change = kind_changes.propose(user=ana, name="component", spec=weighed())
    kind_changes.check(change_id=change.pk, now=timezone.now())
    field = {"kinds": ["Component"], "field": "spec.level", "format": "text"}
    edit_definition(kind="FieldDefinition", name="level", spec=field, by="tests")
    forget_definitions()
    for user, sees in ((ana, True), (vic, False)):
        client.force_login(user)
        assert ("velours" in text(client, f"/settings/kind-changes/{change.pk}")) == sees
        assert f"ownedBy ownerOf {1 + sees} " in text(client, "/settings/relations")
        assert f"{1 + sees} entit" in text(client, "/settings/fields/level/delete")
        mine = as_token(user)
        for url in ("/api/v1/kinds/component/changes/", f"/api/v1/kind-changes/{change.pk}/"):
            answer = client.get(url, headers=mine)
            assert "component:default/open" in answer.content.decode(), answer.content
            assert ("velours" in answer.content.decode()) == sees
        assert client.get("/api/v1/fields/level/impact/", headers=mine).json()["entities"] == 1 + sees
    KindChange.objects.update(state=KindChange.State.FAILED, error="It broke off.")
    assert "It broke off." in text(client, f"/settings/kind-changes/{change.pk}")


def test_an_administrator_sets_the_check_of_a_relation(browser: Client) -> None:
    say("yaml:a", component("pay", owner="component:default/shop"))
    assert "ownedBy ownerOf 1 Off 0" in text(browser, "/settings/relations")
    answer = browser.post(
        "/settings/relations/ownedBy", {"check": "warn", "target_kinds": "Group", "most": "1"}
    )
    assert answer.status_code == 302
    forget_definitions()
    render_dirty(at=timezone.now())
    assert "ownedBy ownerOf 1 Warn 1" in text(browser, "/settings/relations")
    assert RelationType.objects.get(name="ownedBy").spec["targetKinds"] == ["Group"]
    assert browser.post("/settings/relations/ownedBy", {"check": "perhaps"}).status_code == 422


def test_a_deletion_shows_its_impact_and_asks(browser: Client, ana: User) -> None:
    made = create_entity(
        user=ana,
        document={
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "System",
            "metadata": {"name": "shop", "title": "Shop"},
            "spec": {"owner": "team"},
        },
    )
    say("yaml:a", component("pay", system="shop"))
    page = "/catalog/default/system/shop/delete"
    asked = text(browser, page)
    assert "1 relation “part of” would lead nowhere" in asked
    assert "What would belong nowhere any more" in asked
    assert browser.post(page).status_code == 302
    made.refresh_from_db()
    assert not made.is_alive
    kept = text(browser, "/catalog/default/component/pay/delete")
    assert "others say that it exists" in kept
    assert browser.post("/catalog/default/component/pay/delete").status_code == 409


def test_programs_set_checks_and_ask_for_the_impact(
    client: Client, ana: User, vic: User, as_token: Callable[..., dict[str, str]]
) -> None:
    say("yaml:a", claim("group:team", {"type": "team", "children": []}), component("pay"))
    mine = as_token(ana)
    found = client.get("/api/v1/entities/default/group/team/deletion/", headers=as_token(vic)).json()
    assert found == {
        "dangling": [{"relation": "owned by", "count": 1, "refs": ["component:default/pay"]}],
        "orphans": [{"ref": "component:default/pay", "relation": "owned by"}],
        "unseen": 0,
        "goes": False,
        "kept_by": ["yaml:a"],
    }
    url = "/api/v1/relations/ownedBy/"
    spec = client.get(url, headers=mine).json()["spec"]
    put = client.put(url, {"spec": {**spec, "check": "enforce"}}, "application/json", headers=mine)
    assert (put.status_code, put.json()["spec"]["check"]) == (200, "enforce")
    forget_definitions()
    wrong = component("x", owner="component:default/pay").document | {"kind": "Component"}
    refused = client.post("/api/v1/entities/", wrong, "application/json", headers=mine)
    assert refused.status_code == 422, refused.content
