"""Backstage's catalog API, as its own backend answers: what reads files."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from django.utils import timezone
from drf_spectacular.validation import validate_schema

from access.models import AuditEvent, Undoable, User
from access.services import grant
from access.services.undo import CannotUndo, preview_undo, undo_change, undo_of
from catalog.api.backstage.views import not_here
from catalog.models import Audience, Claim, Entity, Problem, Source
from integrations.models import CatalogLocation, SyncRun
from integrations.tasks import read_location, remove_location
from tests.catalog.saying import claim, say
from tests.integrations.servers import serve
from tests.integrations.tool import Tool
from tests.routes import routes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

Call = Callable[..., Any]
NOBODYS = "00000000-0000-4000-8000-000000000000"


def component(name: str, **more: Any) -> dict[str, Any]:
    spec = {"type": "service", "lifecycle": "production", "owner": "team", **more}
    metadata = {"name": name}
    return {"apiVersion": "backstage.io/v1alpha1", "kind": "Component", "metadata": metadata, "spec": spec}


class Web:
    """A web server with some catalog files."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.url = ""
        self.asked: list[str] = []

    def put(self, path: str, *documents: Any) -> str:
        """Have some documents stand in a file.

        :returns: its address.
        """
        self.files[f"/{path}"] = yaml.safe_dump_all(documents).encode()
        return f"{self.url}/{path}"

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(request.path)
        if (found := self.files.get(request.path)) is None:
            return 404, {}, b"none"
        return 200, {"Content-Type": "text/yaml"}, found


@pytest.fixture
def web(settings: Any) -> Iterator[Web]:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    made = Web()
    with serve(made.answer) as url:
        made.url = url
        yield made


@pytest.fixture
def call(as_token: Callable[..., dict[str, str]], ana: User) -> Call:
    """Asks as an administrator, or as somebody else: the answer's JSON, at the status that is expected."""

    def ask(method: str, path: str, body: Any = None, *, status: int = 200, user: User = ana) -> Any:
        sent = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        send = getattr(Client(), method)
        answer = send(f"/api/catalog/{path}", headers=as_token(user), **sent)
        text = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert answer.status_code == status, text
        return json.loads(text) if text else None

    return ask


def add(call: Call, target: str, **more: Any) -> dict[str, str]:
    """Register a location, and have it read."""
    made = call("post", "locations", {"type": "url", "target": target}, status=201, **more)
    assert made["entities"] == []
    read(made["location"])
    return dict(made["location"])


def read(location: dict[str, str]) -> None:
    read_location(location_id=CatalogLocation.objects.get(uid=location["id"]).pk)


def names() -> set[str]:
    return set(Entity.objects.filter(deleted_at=None).values_list("name", flat=True))


class TestLocations:
    def test_one_is_registered_read_listed_and_found(self, call: Call, web: Web) -> None:
        target = web.put("pay.yaml", component("pay"))
        made = add(call, target)
        assert made == {
            "id": made["id"],
            "type": "url",
            "target": target,
            "entityRef": made["entityRef"],
        }
        assert made["entityRef"].startswith("location:default/generated-")
        assert len(made["entityRef"]) == len("location:default/generated-") + 40
        assert call("get", "locations") == [{"data": made}]
        assert call("get", f"locations/{made['id']}") == made
        assert call("get", "locations/by-entity/Component/Default/PAY") == made
        assert names() == {"pay"}
        call("get", "locations/by-entity/component/default/nobody", status=404)

    def test_an_entity_that_no_file_declares_has_none(self, call: Call) -> None:
        say("api:a", claim("component:alone", {"type": "service"}))
        call("get", "locations/by-entity/component/default/alone", status=404)

    def test_a_second_time_is_a_conflict_or_a_refresh(self, call: Call, web: Web) -> None:
        target = web.put("pay.yaml", component("pay"))
        made = add(call, target)
        body = {"type": "url", "target": target}
        error = call("post", "locations", body, status=409)["error"]
        assert error == {"name": "ConflictError", "message": f"Location url:{target} already exists"}
        call("post", "locations?onConflict=reject", body, status=409)
        again = call("post", "locations?onConflict=refresh", body, status=201)
        assert again == {"location": made, "entities": []}
        assert CatalogLocation.objects.get().asked_at is not None
        call("post", "locations?onConflict=else", body, status=400)

    def test_a_dry_run_says_what_would_come_and_writes_nothing(self, call: Call, web: Web) -> None:
        target = web.put(
            "all.yaml",
            component("pay"),
            {
                "apiVersion": "backstage.io/v1alpha1",
                "kind": "Location",
                "metadata": {"name": "more"},
                "spec": {"targets": ["./more.yaml"]},
            },
        )
        more = web.put("more.yaml", component("cart"))
        tried = call("post", "locations?dryRun=true", {"type": "url", "target": target}, status=201)
        assert tried["exists"] is False
        assert tried["location"]["id"] == f"url:{target}"
        kinds = [(one["kind"], one["metadata"]["name"]) for one in tried["entities"]]
        generated = tried["location"]["entityRef"].partition("/")[2]
        assert kinds == [
            ("Location", generated),
            ("Component", "pay"),
            ("Location", "more"),
            ("Component", "cart"),
        ]
        assert tried["entities"][0]["spec"] == {"type": "url", "target": target}
        assert tried["entities"][3]["metadata"]["annotations"] == {
            "backstage.io/managed-by-location": f"url:{more}",
            "backstage.io/managed-by-origin-location": f"url:{target}",
            "backstage.io/view-url": more,
        }
        assert (names(), CatalogLocation.objects.count()) == (set(), 0)
        add(call, target)
        again = call("post", "locations?dryRun=1", {"type": "url", "target": target}, status=201)
        assert again["exists"] is True

    def test_a_dry_run_that_says_neither_yes_nor_no_writes(self, call: Call, web: Web) -> None:
        body = {"type": "url", "target": web.put("pay.yaml", component("pay"))}
        call("post", "locations?dryRun=maybe", body, status=201)
        assert CatalogLocation.objects.count() == 1

    @pytest.mark.parametrize("broken", ["missing", "twice", "refused", "yaml", "nested"])
    def test_a_dry_run_of_what_cannot_be_read_is_refused(self, call: Call, web: Web, broken: str) -> None:
        target = f"{web.url}/pay.yaml"
        if broken == "twice":
            web.put("pay.yaml", component("pay"), component("pay"))
        elif broken == "refused":
            web.put("pay.yaml", component("pay"), {**component("x"), "kind": "Comp onent"})
        elif broken == "yaml":
            web.files["/pay.yaml"] = b"kind: [\n"
        elif broken == "nested":
            leading = {**component("x"), "kind": "Location", "spec": {"target": "./none.yaml"}}
            web.put("pay.yaml", leading)
        error = call("post", "locations?dryRun=true", {"type": "url", "target": target}, status=400)
        assert error["error"]["name"] == "InputError"
        assert CatalogLocation.objects.count() == 0

    @pytest.mark.parametrize(
        "body",
        [
            None, {}, {"type": "url"}, {"target": "https://a.example/x.yaml"}, {"type": "url", "target": 7},
            {"type": "file", "target": "/etc/passwd"}, {"type": "url", "target": "/etc/passwd"},
            {"type": "url", "target": "file:///etc/passwd"}, {"type": "url", "target": ""},
            {"type": "url", "target": "https://a.example/x.yaml", "more": 1},
            {"type": "url", "target": "https://a.example/x.yaml", "presence": "perhaps"},
            {"type": "url", "target": "http://169.254.169.254/x.yaml"},
            {"type": "url", "target": "https://[a/x.yaml"},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_is_no_location_is_refused(self, call: Call, body: Any) -> None:
        assert call("post", "locations", body, status=400)["error"]["name"] == "InputError"
        call("post", "locations?dryRun=true", body, status=400)
        assert CatalogLocation.objects.count() == 0

    def test_none_but_its_own_parameters_are_taken(self, call: Call) -> None:
        for path in ("locations?x=1", f"locations/{NOBODYS}?x=1", "openapi.json?x=1"):
            assert "Unknown query parameter 'x'" in call("get", path, status=400)["error"]["message"]

    @pytest.mark.parametrize("uid", ["x", NOBODYS, "by-query", "é"])
    def test_one_that_is_not_there_is_not_found(self, call: Call, uid: str) -> None:
        body = {"type": "url", "target": "https://a.example/x.yaml"}
        for method, sent in (("get", None), ("put", body), ("delete", None)):
            found = call(method, f"locations/{uid}", sent, status=404)
            assert uid == "by-query" or found["error"]["name"] == "NotFoundError"

    def test_a_deleted_one_is_gone_at_once_and_its_entities_soon(self, call: Call, web: Web) -> None:
        target = web.put("pay.yaml", component("pay"))
        made = add(call, target)
        row = CatalogLocation.objects.get()
        call("delete", f"locations/{made['id']}", status=204)
        call("get", f"locations/{made['id']}", status=404)
        call("delete", f"locations/{made['id']}", status=404)
        assert call("get", "locations") == []
        assert call("post", "locations/by-query", {})["totalItems"] == 0
        remove_location(location_id=row.pk)
        assert names() == set()
        assert add(call, target)["id"] != made["id"]
        assert names() == {"pay"}

    def test_one_that_is_going_is_new_again_when_it_is_registered(self, call: Call, web: Web) -> None:
        target = web.put("pay.yaml", component("pay"))
        made = add(call, target)
        call("delete", f"locations/{made['id']}", status=204)
        assert add(call, target)["target"] == target
        assert CatalogLocation.objects.get().removal_at is None


class TestMoving:
    def test_its_entities_stay_as_far_as_they_are_declared_there(self, call: Call, web: Web) -> None:
        made = add(call, web.put("old.yaml", component("pay"), component("gone")))
        uid = Entity.objects.get(name="pay").uid
        target = web.put("new.yaml", component("pay", type="library"), component("cart"))
        moved = call("put", f"locations/{made['id']}", {"type": "url", "target": target})
        assert (moved["id"], moved["target"]) == (made["id"], target)
        assert names() == {"pay", "gone"}, "until it is read"
        read_location(location_id=CatalogLocation.objects.get().pk, is_guarded=False)
        assert names() == {"pay", "cart"}
        pay = Entity.objects.get(name="pay")
        assert (pay.uid, pay.type) == (uid, "library")
        assert Claim.objects.filter(is_shadowed=True).count() == 0
        assert Source.objects.get(type="yaml").key == f"yaml:url:{target}"
        assert AuditEvent.objects.filter(verb="catalog.location-move").count() == 1

    def test_where_nothing_can_be_read_all_stays(self, call: Call, web: Web) -> None:
        made = add(call, web.put("old.yaml", component("pay")))
        call("put", f"locations/{made['id']}", {"type": "url", "target": f"{web.url}/none.yaml"})
        read_location(location_id=CatalogLocation.objects.get().pk, is_guarded=False)
        assert names() == {"pay"}
        assert CatalogLocation.objects.get().message

    def test_its_problems_come_along(self, call: Call, web: Web) -> None:
        broken = {**component("x"), "kind": "Comp onent"}
        made = add(call, web.put("old.yaml", component("pay"), broken))
        assert Problem.objects.filter(type="refused-document", resolved_at=None).count() == 1
        target = web.put("new.yaml", component("pay"))
        call("put", f"locations/{made['id']}", {"type": "url", "target": target})
        read_location(location_id=CatalogLocation.objects.get().pk, is_guarded=False)
        assert Problem.objects.filter(type="refused-document", resolved_at=None).count() == 0

    def test_where_another_is_read_it_cannot_go(self, call: Call, web: Web) -> None:
        made = add(call, web.put("a.yaml", component("a")))
        other = add(call, web.put("b.yaml", component("b")))
        body = {"type": "url", "target": other["target"]}
        error = call("put", f"locations/{made['id']}", body, status=409)["error"]
        assert error["name"] == "ConflictError"
        assert call("get", f"locations/{made['id']}") == made
        same = {"type": "url", "target": made["target"]}
        assert call("put", f"locations/{made['id']}", same) == made
        assert not AuditEvent.objects.filter(verb="catalog.location-move").exists()

    def test_it_can_be_taken_back(self, call: Call, web: Web, ana: User) -> None:
        made = add(call, web.put("old.yaml", component("pay")))
        call("put", f"locations/{made['id']}", {"type": "url", "target": web.put("new.yaml", component("b"))})
        change = Undoable.objects.get(event__verb="catalog.location-move")
        steps = preview_undo(change=change, user=ana).steps
        assert "old.yaml" in steps[0]
        assert "new.yaml" in steps[0]
        assert "old.yaml" in undo_of(change).title(change)
        client = Client()
        client.force_login(ana)
        for page in ("/settings/changes", f"/settings/changes/{change.pk}"):
            assert "old.yaml" in client.get(page).content.decode()
        undo_change(user=ana, change=change, now=timezone.now())
        assert call("get", f"locations/{made['id']}") == made
        back = Undoable.objects.filter(event__verb="catalog.location-move").latest("pk")
        call("delete", f"locations/{made['id']}", status=204)
        with pytest.raises(CannotUndo):
            undo_change(user=ana, change=back, now=timezone.now())


class TestQueryingLocations:
    @pytest.fixture
    def three(self, call: Call, web: Web) -> list[dict[str, str]]:
        found = [add(call, web.put(f"{name}.yaml", component(name))) for name in ("One", "two", "three")]
        return sorted(found, key=lambda one: one["id"])

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({}, 3), ({"type": "URL"}, 3), ({"TYPE": "url"}, 3), ({"type": "file"}, 0), ({"$all": []}, 0),
            ({"$any": []}, 0), ({"target": {"$exists": True}}, 3), ({"target": {"$exists": False}}, 0),
            ({"target": {"$contains": "two"}}, 0), ({"target": {"$in": []}}, 0), ({"type": True}, 0),
            ({"entityRef": {"$hasPrefix": "LOCATION:default/generated"}}, 3),
            ({"target": {"$hasPrefix": "%"}}, 0), ({"$not": {"type": "url"}}, 0),
            ({"$not": {"type": "file"}}, 3), ({"$all": [{"type": "url"}, {"$any": [{"type": "file"}]}]}, 0),
            ({"type": {"$in": ["FILE", "Url"]}}, 3), ({"type": {"$in": ["url"], "$exists": False}}, 0),
        ],
        ids=str,
    )  # fmt: skip
    def test_predicates(self, call: Call, three: Any, query: Any, found: int) -> None:
        answer = call("post", "locations/by-query", {"query": query})
        assert (len(answer["items"]), answer["totalItems"], answer["pageInfo"]) == (found, found, {})

    def test_each_field_finds_one(self, call: Call, three: list[dict[str, str]]) -> None:
        for field in ("id", "target", "entityRef"):
            for query in ({field: three[1][field].upper()}, {field: {"$in": [three[1][field]]}}):
                assert call("post", "locations/by-query", {"query": query})["items"] == [three[1]]

    def test_pages_follow_the_cursor_which_keeps_limit_and_query(
        self, call: Call, three: list[dict[str, str]]
    ) -> None:
        first = call("post", "locations/by-query", {"limit": 2, "query": {"type": "url"}})
        assert (first["items"], first["totalItems"]) == (three[:2], 3)
        cursor = first["pageInfo"]["nextCursor"]
        assert json.loads(base64.b64decode(cursor)) == {
            "limit": 2,
            "afterId": three[1]["id"],
            "query": {"type": "url"},
        }
        second = call("post", "locations/by-query", {"cursor": cursor, "limit": 1})
        assert second == {"items": three[2:], "totalItems": 3, "pageInfo": {}}

    @pytest.mark.parametrize(
        "body",
        [
            {"limit": 0}, {"limit": -1}, {"limit": 1.5}, {"limit": "2"}, {"limit": True}, {"cursor": ""},
            {"cursor": "x"}, {"cursor": 7}, {"query": {"name": "x"}}, {"query": []}, {"query": None},
            {"query": {"type": None}}, {"query": {"type": ["url"]}}, {"query": {"type": {"$near": 1}}},
            {"query": {"$all": [], "type": "url"}}, {"query": {"$any": {}}}, {"query": {"$some": []}},
            {"query": {"type": {"$in": ["url"] * 100_000}}}, {"query": {"$all": [{}] * 201}},
            {"cursor": base64.b64encode(b'{"limit": 0}').decode()},
            {"cursor": base64.b64encode(b'{"limit": 1, "query": {"name": 1}}').decode()},
            {"cursor": base64.b64encode(b'{"limit": 1, "afterId": 1}').decode()},
        ],
        ids=lambda body: str(body)[:50],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, call: Call, body: Any) -> None:
        assert call("post", "locations/by-query", body, status=400)["error"]["name"] == "InputError"


class TestRefresh:
    def test_of_an_entity_its_files_are_read_again(self, call: Call, web: Web) -> None:
        add(call, web.put("pay.yaml", component("pay")))
        add(call, web.put("cart.yaml", component("cart")))
        assert not CatalogLocation.objects.exclude(asked_at=None).exists()
        assert call("post", "refresh", {"entityRef": "Component:default/Pay"}) is None
        asked = CatalogLocation.objects.exclude(asked_at=None).get()
        assert asked.address.endswith("pay.yaml")

    def test_a_location_is_known_by_the_name_that_backstage_gives_it(self, call: Call, web: Web) -> None:
        made = add(call, web.put("pay.yaml", component("pay")))
        call("post", "refresh", {"entityRef": made["entityRef"]})
        assert CatalogLocation.objects.exclude(asked_at=None).exists()

    def test_of_what_a_tool_tells_the_tool_is_asked(
        self, call: Call, tool: Tool, connect: Callable[..., Any], ben: User
    ) -> None:
        farm = connect(slug="farm")
        say("connection:farm/things", claim("component:built", {"type": "service"}))
        for _ in range(2):
            call("post", "refresh", {"entityRef": "component:default/built"}, user=ben)
        assert SyncRun.objects.get().connection_id == farm.pk

    def test_what_is_not_known_is_not_found(self, call: Call) -> None:
        for ref in ("component:default/nobody", "nonsense", ""):
            call("post", "refresh", {"entityRef": ref}, status=404)
        for body in (None, {}, {"entityRef": 7}, {"entityRef": "a:b/c", "more": 1}):
            call("post", "refresh", body, status=400)

    def test_an_entity_that_was_said_by_hand_has_nothing_to_ask(self, call: Call) -> None:
        say("api:a", claim("component:alone", {"type": "service"}))
        call("post", "refresh", {"entityRef": "component:default/alone"})


class TestAnalyzing:
    def test_a_repository_is_offered_as_a_component(self, call: Call) -> None:
        def offered(target: str) -> Any:
            found = call("post", "analyze-location", {"location": {"type": "url", "target": target}})
            assert found["existingEntityFiles"] == []
            (one,) = found["generateEntities"]
            assert one["fields"] == []
            return one["entity"]

        assert offered("https://github.com/Acme/Pay") == {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": "Pay", "annotations": {"github.com/project-slug": "Acme/Pay"}},
            "spec": {"type": "other", "lifecycle": "unknown"},
        }
        page = offered("https://gitlab.com/acme/shop/till/-/tree/main/web")
        assert page["metadata"] == {
            "name": "till",
            "annotations": {"gitlab.com/project-slug": "acme/shop/till"},
        }
        assert offered("https://git.acme.example/acme/pay.git")["metadata"] == {"name": "pay"}

    def test_what_it_declares_already_is_told(self, call: Call) -> None:
        file = "https://git.acme.example/acme/pay/blob/main/catalog-info.yaml"
        say(
            "yaml:url:x",
            claim(
                "component:pay",
                {"type": "service"},
                about=["repo:git.acme.example/acme/pay"],
                place={"file": file, "document": 1, "line": 1},
            ),
            claim(
                "component:elsewhere",
                {"type": "service"},
                about=["repo:git.acme.example/acme/pay"],
                place={
                    "file": "https://git.acme.example/acme/all/blob/main/x.yaml",
                    "document": 1,
                    "line": 1,
                },
            ),
        )
        asked = {"location": {"type": "url", "target": "https://git.acme.example/acme/pay"}}
        found = call("post", "analyze-location", asked)
        assert found["generateEntities"] == []
        (one,) = found["existingEntityFiles"]
        assert (one["isRegistered"], one["location"]) == (True, {"type": "url", "target": file})
        assert one["entity"]["metadata"]["name"] == "pay"

    def test_of_a_folder_only_what_lies_in_it(self, call: Call) -> None:
        root = "https://git.acme.example/acme/shop/blob/main"
        say(
            "yaml:url:x",
            *(
                claim(
                    f"component:{name}",
                    {"type": "service"},
                    about=[f"repo:git.acme.example/acme/shop#{name}"],
                    place={"file": f"{root}/{name}/catalog-info.yaml", "document": 1, "line": 1},
                )
                for name in ("pay", "payments")
            ),
        )
        target = "https://git.acme.example/acme/shop/tree/main/pay"
        asked = {"location": {"type": "url", "target": target}}
        found = call("post", "analyze-location", asked)["existingEntityFiles"]
        assert [one["entity"]["metadata"]["name"] for one in found] == ["pay"]

    def test_what_a_hidden_source_declares_is_not_told(self, call: Call) -> None:
        uid = "00000000-0000-4000-8000-000000000001"
        Audience.objects.create(name="inner", uid=uid, groups=[7])
        file = "https://git.acme.example/acme/pay/blob/main/catalog-info.yaml"
        place = {"file": file, "document": 1, "line": 1, "by": "location:default/all"}
        say("yaml:url:x", claim("component:pay", {"type": "service"}), claim("location:all", {"target": "x"}))
        about = ["repo:git.acme.example/acme/pay"]
        say("connection:inner/files", claim("component:pay", {"type": "service"}, about=about, place=place))
        cal = User.objects.create(username="cal")
        grant(user=cal, role="viewer")
        asked = {"location": {"type": "url", "target": "https://git.acme.example/acme/pay"}}
        assert len(call("post", "analyze-location", asked)["existingEntityFiles"]) == 1
        assert call("post", "analyze-location", asked, user=cal)["existingEntityFiles"] == []
        ancestry = "entities/by-name/component/default/pay/ancestry"
        assert len(call("get", ancestry, user=cal)["items"]) == 1

    @pytest.mark.parametrize("target", ["", "pay", "/srv/pay", "https://", "https://[x", "file:///srv/pay"])
    def test_what_is_no_url_is_refused(self, call: Call, target: str) -> None:
        body = {"location": {"type": "url", "target": target}}
        error = call("post", "analyze-location", body, status=400)["error"]
        assert error["message"] == "The given location.target is not a URL"

    def test_nor_is_another_body_taken(self, call: Call) -> None:
        place = {"type": "url", "target": "https://a.example/b", "more": 1}
        for body in ({}, {"location": "x"}, {"location": {"type": "url"}}, {"location": place}):
            call("post", "analyze-location", body, status=400)


class TestValidating:
    def test_a_good_entity_is_answered_with_nothing(self, call: Call) -> None:
        body = {"entity": component("pay"), "location": "url:https://a.example/x.yaml"}
        assert call("post", "validate-entity", body) is None
        odd = component("pay", note="a\u2028b\x7f\U0001f600 - {x: ---}\n---\n%TAG")
        assert call("post", "validate-entity", {**body, "entity": odd}) is None

    def test_what_its_placeholders_name_is_read(self, call: Call, web: Web) -> None:
        entity = component("pay", note={"$text": "./notes.txt"})
        body = {"entity": entity, "location": f"url:{web.url}/a/x.yaml"}
        assert call("post", "validate-entity", body, status=400)["errors"]
        web.files["/a/notes.txt"] = b"fine"
        assert call("post", "validate-entity", body) is None
        assert "/a/x.yaml" not in web.asked, "the document stands for its file"

    def test_what_a_location_points_to_is_read(self, call: Call, web: Web) -> None:
        entity = {**component("more"), "kind": "Location", "spec": {"target": "./pay.yaml"}}
        body = {"entity": entity, "location": f"url:{web.url}/x.yaml"}
        assert call("post", "validate-entity", body, status=400)["errors"]
        web.put("pay.yaml", component("pay"))
        assert call("post", "validate-entity", body) is None

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"kind": 7}, "kind"),
            ({"metadata": {"name": "not good"}}, "metadata.name"),
            ({"metadata": None}, "metadata"),
            ({"spec": {"type": "service"}}, "spec"),
            ({"kind": "Componentt"}, "kind"),
            ({"apiVersion": "other/v1"}, "apiVersion"),
        ],
    )
    def test_each_fault_is_named(self, call: Call, change: Any, said: str) -> None:
        body = {"entity": {**component("pay"), **change}, "location": "url:https://a.example/x.yaml"}
        errors = call("post", "validate-entity", body, status=400)["errors"]
        assert {"name", "message"} == set(errors[0])
        assert said in " ".join(error["message"] for error in errors)

    @pytest.mark.parametrize("location", ["", "x", "url:", "file:/etc/passwd", ":x", 7])
    def test_it_must_stand_on_the_web(self, call: Call, location: Any) -> None:
        body = {"entity": component("pay"), "location": location}
        assert call("post", "validate-entity", body, status=400)["errors"][0]["name"] == "InputError"
        assert call("post", "validate-entity", {"location": "url:x"}, status=400)["errors"]


def leading(name: str, *targets: str) -> dict[str, Any]:
    return {**component(name), "kind": "Location", "spec": {"targets": list(targets)}}


class TestAncestry:
    def test_locations_that_led_to_a_file_come_after_it(self, call: Call, web: Web) -> None:
        target = web.put("all.yaml", leading("all", "./shop.yaml"), component("top"))
        web.put("shop.yaml", leading("shop", "./pay.yaml", "./all.yaml"))
        web.put("pay.yaml", component("pay"))
        add(call, target)

        def line(kind: str, name: str) -> list[tuple[str, list[str]]]:
            found = call("get", f"entities/by-name/{kind}/default/{name}/ancestry")
            assert found["rootEntityRef"] == f"{kind}:default/{name}"
            return [(one["entity"]["metadata"]["name"], one["parentEntityRefs"]) for one in found["items"]]

        assert line("component", "pay") == [
            ("pay", ["location:default/shop"]),
            ("shop", ["location:default/all"]),
            ("all", []),
        ]
        assert line("component", "top") == [("top", [])]
        assert "by" not in str(Problem.objects.values_list("detail", flat=True))

    def test_when_another_location_leads_there_it_is_told(self, call: Call, web: Web) -> None:
        """Though the text of the file is the same."""
        first, second = leading("first", "./pay.yaml"), leading("second")
        web.put("pay.yaml", component("pay"))
        made = add(call, web.put("all.yaml", first, second))

        def leader() -> list[str]:
            found = call("get", "entities/by-name/component/default/pay/ancestry")["items"]
            return list(found[0]["parentEntityRefs"])

        assert leader() == ["location:default/first"]
        web.put("all.yaml", leading("first"), leading("second", "./pay.yaml"))
        read(made)
        assert leader() == ["location:default/second"]

    def test_those_that_one_may_not_see_are_left_out(self, call: Call, web: Web, cleo: User) -> None:
        there = {**component("pay"), "metadata": {"name": "pay", "namespace": "elsewhere"}}
        web.put("pay.yaml", there)
        add(call, web.put("all.yaml", leading("all", "./pay.yaml")))
        path = "entities/by-name/component/elsewhere/pay/ancestry"
        assert len(call("get", path)["items"]) == 2
        (only,) = call("get", path, user=cleo)["items"]
        assert only["parentEntityRefs"] == []

    def test_those_that_lead_to_each_other_come_once(self, call: Call, web: Web) -> None:
        target = web.put("a.yaml", leading("a", "./b.yaml"))
        web.put("b.yaml", leading("b", "./a.yaml"), component("pay"))
        add(call, target)
        found = call("get", "entities/by-name/component/default/pay/ancestry")["items"]
        assert [one["entity"]["metadata"]["name"] for one in found] == ["pay", "a"]


class TestDeleting:
    def test_what_a_program_declared_goes_and_what_a_file_declares_stays(
        self, call: Call, web: Web, ben: User
    ) -> None:
        say("api:a", claim("component:alone", {"type": "service"}))
        add(call, web.put("pay.yaml", component("pay")))
        for name in ("alone", "pay"):
            uid = Entity.objects.get(name=name).uid
            call("delete", f"entities/by-uid/{uid}", status=204, user=ben)
        assert names() == {"pay"}
        call("delete", f"entities/by-uid/{NOBODYS}", status=204)
        call("delete", "entities/by-uid/x", status=204)

    def test_it_can_be_taken_back(self, call: Call, ana: User) -> None:
        say("api:a", claim("component:alone", {"type": "service"}))
        uid = Entity.objects.get(name="alone").uid
        call("delete", f"entities/by-uid/{uid}", status=204)
        undo_change(user=ana, change=Undoable.objects.get(event__verb="entity.withdraw"), now=timezone.now())
        assert call("get", f"entities/by-uid/{uid}")["metadata"]["name"] == "alone"


class TestPermission:
    def test_who_may_not_write_locations_writes_none(
        self, call: Call, web: Web, vic: User, ben: User
    ) -> None:
        target = web.put("pay.yaml", component("pay"))
        made = add(call, target)
        body = {"type": "url", "target": web.put("cart.yaml", component("cart"))}
        for user in (vic, ben):
            for method, path, sent in (
                ("post", "locations", body),
                ("post", "locations?dryRun=true", body),
                ("put", f"locations/{made['id']}", body),
                ("delete", f"locations/{made['id']}", None),
                ("post", "refresh", {"entityRef": "component:default/pay"}),
            ):
                error = call(method, path, sent, status=403, user=user)["error"]
                assert error["name"] == "NotAllowedError"
            assert call("get", "locations", user=user) == [{"data": made}]
        uid = Entity.objects.get(name="pay").uid
        call("delete", f"entities/by-uid/{uid}", status=403, user=vic)
        checked = {"entity": component("x"), "location": "url:https://a.example/x"}
        call("post", "validate-entity", checked, status=403, user=vic)

    def test_who_may_not_read_them_finds_none(self, call: Call, web: Web, cleo: User) -> None:
        made = add(call, web.put("pay.yaml", component("pay")))
        assert call("get", "locations", user=cleo) == []
        assert call("post", "locations/by-query", {}, user=cleo)["items"] == []
        call("get", f"locations/{made['id']}", status=404, user=cleo)
        call("get", "locations/by-entity/component/default/pay", status=404, user=cleo)

    def test_nobody_does_anything_without_signing_in(self) -> None:
        for method, path in (("get", "locations"), ("post", "refresh"), ("get", "openapi.json")):
            answer = getattr(Client(), method)(f"/api/catalog/{path}")
            assert (answer.status_code, answer.json()["error"]["name"]) == (401, "AuthenticationError")


class TestDescription:
    @pytest.fixture
    def described(self, call: Call) -> dict[str, Any]:
        return dict(call("get", "openapi.json"))

    def test_it_is_valid(self, described: dict[str, Any]) -> None:
        assert described["openapi"] == "3.1.0"
        validate_schema(described)

    def test_it_has_every_route_and_method_and_nothing_else(self, described: dict[str, Any]) -> None:
        served = {
            (re.sub("<[^>]*>", "{}", route.pattern), method)
            for route in routes("api/catalog/")
            if route.view is not not_here
            for method in route.methods
        }
        told = {
            (re.sub("{[^}]*}", "{}", path).removeprefix("/"), method)
            for path, operations in described["paths"].items()
            for method in operations
        }
        assert told == served

    def test_it_has_all_that_backstages_own_has(self, described: dict[str, Any], test_data: Path) -> None:
        theirs = yaml.safe_load((test_data / "backstage" / "catalog-openapi.yaml").read_text())
        assert len(theirs["paths"]) == 14
        for path, operations in theirs["paths"].items():
            for method, operation in operations.items():
                ours = described["paths"][f"/api/catalog{path}"][method]
                assert ours["operationId"] == operation["operationId"]
                assert _parameters(ours, described) == _parameters(operation, theirs), (method, path)
                assert _fields(ours, described) >= _fields(operation, theirs), (method, path)


def _parameters(operation: dict[str, Any], document: dict[str, Any]) -> dict[tuple[str, str], bool]:
    """What an operation takes where, and whether it must have it."""
    given = [_resolved(one, document) for one in operation.get("parameters", [])]
    return {(one["in"], one["name"]): one.get("required", False) for one in given}


def _fields(operation: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """The names in an operation's body."""
    if "requestBody" not in operation:
        return set()
    shape = operation["requestBody"]["content"]["application/json"]["schema"]
    return set(_resolved(shape, document)["properties"])


def _resolved(part: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    section, name = part["$ref"].removeprefix("#/components/").split("/")
    return dict(document["components"][section][name])
