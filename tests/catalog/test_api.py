"""`/api/v1/`: shapes, pages, conditions, errors; and that its description is complete and true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access.models import AuditEvent, User
from base.pagination import MAX_LIMIT
from catalog.models import Entity, FeedItem
from catalog.services.feed import settle_feed
from tests.catalog.saying import component, document, entity, say, unsay
from tests.routes import routes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

PAY = "/api/v1/entities/default/component/pay/"
Api = Callable[..., Any]


@pytest.fixture
def api(client: Client, ben: User, as_token: Callable[..., dict[str, str]]) -> Api:
    """Send JSON as ben: `api("get", path, headers, data)`."""
    token = as_token(ben)

    def send(method: str, path: str, data: Any = None, **headers: str) -> Any:
        body = {} if data is None else {"data": data, "content_type": "application/json"}
        path = path if path.startswith(("/", "http")) else f"/api/v1/{path}"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return getattr(client, method)(path, headers=token | given, **body)

    return send


def pay(**spec: Any) -> dict[str, Any]:
    """A document that can be declared."""
    return {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "pay"},
        "spec": {"type": "service", "lifecycle": "production", "owner": "team", **spec},
    }


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem details of an answer."""
    assert answer.status_code == status, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert (found["status"], found["code"]) == (status, code)
    assert found["title"]
    assert found["detail"]
    return found


class TestReadingEntities:
    def test_one_is_its_whole_document_by_name_in_any_case_by_uid_and_by_an_old_name(self, api: Api) -> None:
        say("yaml:a", component("Pay", dependsOn=["component:x"]))
        found = api("get", PAY).json()
        assert found == document("component:default/pay")
        assert found["metadata"]["name"] == "Pay"
        assert found["relations"][0] == {"type": "dependsOn", "targetRef": "component:default/x"}
        assert api("get", "entities/Default/Component/PAY/").json() == found
        assert api("get", f"entities/{found['metadata']['uid']}/").json() == found
        entity("component:default/pay").aliases.create(ref="component:default/old")
        assert api("get", "entities/default/component/old/").json() == found

    def test_pages_lead_forth_and_back_over_all_of_them_once(self, api: Api) -> None:
        say("yaml:a", *[component(f"c{n:02}") for n in range(23)])
        first = api("get", "entities/?q=kind:component&order=name&limit=10").json()
        assert first["total"] == 23
        assert first["previous"] is None
        second = api("get", first["next"]).json()
        third = api("get", second["next"]).json()
        assert third["next"] is None
        pages = [[e["metadata"]["name"] for e in page["results"]] for page in (first, second, third)]
        assert [name for names in pages for name in names] == [f"c{n:02}" for n in range(23)]
        assert api("get", third["previous"]).json()["results"] == second["results"]
        assert api("get", second["previous"]).json()["results"] == first["results"]
        # Rows that come or go before a page move nothing on it.
        unsay("yaml:a", "component:c03", minute=1)
        assert [e["metadata"]["name"] for e in api("get", first["next"]).json()["results"]] == pages[1]

    @pytest.mark.parametrize("order", ["name", "-name", "-changed", "owner,-name", "lifecycle"])
    def test_every_order_has_pages(self, api: Api, order: str) -> None:
        say("yaml:a", *[component(f"c{n}", owner=f"t{n % 2}") for n in range(7)])
        url, names = f"entities/?order={order}&limit=3", []
        while url:
            answer = api("get", url).json()
            names += [e["metadata"]["name"] for e in answer["results"]]
            url = answer["next"]
        assert sorted(names) == [f"c{n}" for n in range(7)]
        if order == "-name":
            assert names == sorted(names, reverse=True)

    def test_fields_pick_parts_by_their_paths_keys_with_dots_too(self, api: Api) -> None:
        given = pay()
        given["metadata"]["annotations"] = {"a.example/b.c": "1", "a.example/d": "2"}
        api("post", "entities/", given)
        wanted = "metadata.name,spec.owner,metadata.annotations.a.example/b.c,nothing.here"
        picked = {
            "metadata": {"name": "pay", "annotations": {"a.example/b.c": "1"}},
            "spec": {"owner": "team"},
        }
        assert api("get", f"{PAY}?fields={wanted}").json() == picked
        assert api("get", f"entities/?fields={wanted}").json()["results"] == [picked]

    def test_a_client_that_has_it_gets_304_until_anything_that_it_shows_changes(self, api: Api) -> None:
        say("yaml:a", component("pay"))
        for path in (PAY, "entities/?q=pay", "kinds/?limit=1"):
            answer = api("get", path)
            if path.startswith("kinds"):
                continue
            tag = answer.headers["ETag"]
            again = api("get", path, If_None_Match=f'"other", W/{tag.removeprefix("W/")}')
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        tags = [api("get", path).headers["ETag"] for path in (PAY, "entities/?q=pay")]
        say("yaml:b", component("web", dependsOn=["component:pay"]), minute=1)  # only its relations change
        for path, tag in zip((PAY, "entities/?q=pay"), tags, strict=True):
            answer = api("get", path, If_None_Match=tag)
            assert answer.status_code == 200
            assert b"component:default/web" in answer.content

    def test_a_query_gives_in_the_list_what_it_gives_in_the_activity(self, api: Api, world: Any) -> None:
        assert api("get", "entities/?q=kind:component owner:group:default/hush-team").json()["total"] == 1
        found = api("get", "activity/?q=kind:pipeline namespace:default&type=run").json()
        assert [item["title"] for item in found["results"]] == ["hush run"]


class TestWritingEntities:
    def test_one_bad_document_among_many_is_named_and_the_others_go_in(self, api: Api) -> None:
        bad = {**pay(owner=5), "metadata": {"name": "bad"}}
        other = {**pay(), "metadata": {"name": "web"}}
        answer = api("post", "entities/", [pay(), bad, other])
        assert answer.status_code == 200
        found = answer.json()
        assert (found["accepted"], found["refused"]) == (2, 1)
        assert [r["outcome"] for r in found["results"]] == ["new", "refused", "new"]
        assert found["results"][1]["ref"] == "component:default/bad"
        assert found["results"][1]["errors"][0]["path"] == "spec.owner"
        assert found["results"][0]["uid"] == str(entity("component:default/pay").uid)
        assert api("get", "entities/").json()["total"] == 2

    def test_all_wrong_is_422_and_a_dry_run_says_so_beforehand(self, api: Api) -> None:
        assert (
            api("post", "entities/?dry_run=true", {"entities": [pay(), pay(owner=1)]}).json()["accepted"] == 1
        )
        assert not Entity.objects.exists()
        assert api("post", "entities/", pay(owner=1)).status_code == 422

    def test_a_state_that_was_seen_guards_each_way_of_writing(self, api: Api) -> None:
        api("post", "entities/", pay())
        seen = api("get", PAY).headers["ETag"]
        assert api("post", "entities/", pay(owner="a"), If_Match=seen).status_code == 200
        for answer in (
            api("post", "entities/", pay(owner="b"), If_Match=seen),
            api("patch", PAY, {"overrides": {"spec.owner": "c"}}, If_Match=seen),
            api("delete", PAY, If_Match=seen),
        ):
            problem(answer, 412, "stale-entity")
        assert document("component:default/pay")["spec"]["owner"] == "a"

    def test_a_part_of_an_entity_has_its_state_too(self, api: Api) -> None:
        api("post", "entities/", pay())
        seen = api("get", f"{PAY}?fields=spec.owner").headers["ETag"]
        assert api("get", PAY, If_None_Match=seen).status_code == 200
        assert api("patch", PAY, {"overrides": {"spec.owner": "a"}}, If_Match=seen).status_code == 200
        problem(api("patch", PAY, {"overrides": {"spec.owner": "b"}}, If_Match=seen), 412, "stale-entity")

    def test_overrides_are_set_and_taken_back_together(self, api: Api) -> None:
        say("yaml:a", component("pay", owner="file"))
        seen = api("get", PAY).headers["ETag"]
        set_ = api(
            "patch",
            PAY,
            {"overrides": {"spec.owner": "ours", "metadata.title": "Pay"}, "reason": "x"},
            If_Match=seen,
        )
        assert set_.status_code == 200
        assert (set_.json()["spec"]["owner"], set_.json()["metadata"]["title"]) == ("ours", "Pay")
        back = api(
            "patch",
            PAY,
            {"overrides": {"spec.owner": None, "spec.type": "tool"}},
            If_Match=set_.headers["ETag"],
        )
        assert (back.json()["spec"]["owner"], back.json()["spec"]["type"]) == ("file", "tool")
        problem(api("patch", PAY, {"overrides": {"spec.owner": None}}), 404, "not-found")
        assert api("get", f"{PAY}provenance/").json()["spec.type"]["losing"] == [
            {"source": "yaml:a", "value": "service"}
        ]

    def test_what_the_api_declared_it_can_take_back(self, api: Api) -> None:
        api("post", "entities/", pay())
        assert api("delete", PAY).status_code == 204
        problem(api("get", PAY), 410, "gone")
        say("yaml:a", component("pay"), minute=1)
        problem(api("delete", PAY), 404, "not-found")
        actions = [r["action"] for r in api("get", f"{PAY}history/").json()["results"]]
        assert actions == ["returned", "deleted", "created"]


class TestRest:
    def test_the_feed_goes_on_where_it_was_left(self, api: Api) -> None:
        say("yaml:a", component("pay"), component("web"))
        first = api("get", "feed?limit=1").json()
        # A transaction is read once it is over, and this test is one; so its rows are asked for as they stand.
        assert first["results"] == []
        again = api("get", f"feed?since={first['next']}").json()
        assert again["next"] >= first["next"]
        assert api("get", "feed?since=now").json()["results"] == []
        for path in ("feed?since=yesterday", "feed/events?since=yesterday", "feed?since=-1.0"):
            problem(api("get", path), 400, "bad-request")

    def test_on_another_server_the_feed_begins_anew_and_old_positions_are_told_so(self, api: Api) -> None:
        say("yaml:a", component("pay"), component("web"))
        assert settle_feed() == 0
        FeedItem.objects.update(transaction=2**40)  # as the server wrote them that was here before
        assert api("get", "feed").json()["results"] == []
        moved = FeedItem.objects.count()
        assert settle_feed() == moved
        assert len(api("get", "feed").json()["results"]) == moved
        problem(api("get", f"feed?since={2**40}.7"), 410, "feed-position-lost")

    def test_ties_tell_their_evidence_and_are_decided(self, api: Api, world: Any) -> None:
        tie = next(t for t in api("get", "ties/").json()["results"] if t["id"] == world["tie_id"])
        assert (tie["source"], tie["type"], tie["state"]) == (
            "component:default/hush-pay",
            "hasSource",
            "auto",
        )
        sides = api("get", f"ties/{tie['id']}/").json()["sides"]
        assert {(s["entity"], s["is_key"]) for s in sides} == {(tie["source"], False), (tie["target"], True)}
        decision = {
            "source": tie["source"],
            "type": "hasSource",
            "target": tie["target"],
            "state": "forbidden",
        }
        assert api("post", "ties/", decision).json()["decided_by"] == "Ben Okafor"
        assert api("get", "ties/?state=forbidden").json()["total"] == 1
        missing = api("post", "ties/", decision | {"target": "repository:default/nothing"})
        assert problem(missing, 422, "invalid-input")["errors"][0]["path"] == "target"
        assert AuditEvent.objects.filter(verb="tie.decide").count() == 1

    def test_activity_of_an_entity_is_also_that_of_what_is_tied_to_it(self, api: Api, world: Any) -> None:
        found = api("get", "activity/?entity=component:default/hush-pay&type=run,version").json()
        assert {(a["type"], a["subject"]) for a in found["results"]} == {
            ("run", "pipeline:default/hush-build"),
            ("run", "pipeline:elsewhere/test"),
            ("version", "repository:default/hush-repo"),
        }
        one = api("get", f"activity/{world['activity_id']}/").json()
        assert [step["event"] for step in one["transitions"]] == ["pipelinerun.finished"]
        problem(api("get", "activity/?entity=component:default/none"), 422, "invalid-input")

    def test_problems_say_what_where_and_how_to_mend_it(self, api: Api, world: Any) -> None:
        found = api("get", "problems/?type=stale").json()
        assert found["total"] == 1
        assert found["results"][0]["subject"] == "component:default/hush-pay"
        assert found["results"][0]["remedy"]

    def test_problems_of_what_a_query_finds(self, api: Api, world: Any) -> None:
        total = api("get", "problems/").json()["total"]
        mine = api("get", "problems/?q=namespace:default").json()["total"]
        others = api("get", "problems/?q=-namespace:default").json()["total"]
        assert 0 < mine < total
        assert mine + others <= total  # some are of no entity

    @pytest.mark.parametrize(
        ("name", "field"),
        [
            ("kinds", "spec.kind"),
            ("relations", "spec.inverse"),
            ("ties", "type"),
            ("activity", "type"),
            ("problems", "type"),
            ("connections", "slug"),
            ("sync-runs", "state"),
            ("pages", "spec.slot"),
            ("users", "username"),
            ("roles", "title"),
            ("grants", "role"),
            ("tokens", "name"),
            ("audit", "verb"),
        ],
    )
    def test_every_list_has_fields_and_an_etag(
        self,
        client: Client,
        ana: User,
        as_token: Callable[..., dict[str, str]],
        world: Any,
        name: str,
        field: str,
    ) -> None:
        token = as_token(ana)

        def api(method: str, path: str, **headers: str) -> Any:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            return getattr(client, method)(f"/api/v1/{path}", headers=token | given)

        answer = api("get", f"{name}/?fields={field}")
        assert answer.json()["results"]
        assert {tuple(row) for row in answer.json()["results"]} == {(field.split(".")[0],)}
        tag = answer.headers["ETag"]
        assert api("get", f"{name}/?fields={field}", If_None_Match=tag).status_code == 304
        assert api("get", f"{name}/", If_None_Match=tag).status_code == 200


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "data", "status", "code"),
        [
            ("get", "entities/default/component/nothing/", None, 404, "not-found"),
            ("get", "entities/00000000-0000-4000-8000-000000000000/", None, 404, "not-found"),
            ("get", "entities/?limit=0", None, 400, "bad-request"),
            ("get", f"entities/?limit={MAX_LIMIT + 1}", None, 400, "bad-request"),
            ("get", "entities/?cursor=nonsense", None, 400, "bad-cursor"),
            ("get", "entities/?fields=" + "a," * 60, None, 400, "bad-request"),
            ("post", "entities/", '{"kind": ', 400, "bad-request"),
            ("post", "entities/", "5", 422, "invalid-input"),
            ("patch", "entities/default/component/nothing/", {"overrides": {"spec.a": 1}}, 404, "not-found"),
            ("put", "entities/", {}, 405, "method-not-allowed"),
            ("get", "ties/?state=tied", None, 400, "bad-request"),
            ("get", "activity/?type=run,build", None, 400, "bad-request"),
            ("get", "activity/?status=success", None, 400, "bad-request"),
            ("get", "problems/?type=bogus", None, 400, "bad-request"),
            ("get", "pages/?slot=entities", None, 400, "bad-request"),
            ("get", "entities/?q=kind:componnt", None, 400, "bad-query"),
            ("get", "sync-runs/?connection=nothing", None, 422, "invalid-input"),
            ("get", "pages/nothing/", None, 404, "not-found"),
            ("get", "ties/999999/", None, 404, "not-found"),
            ("get", "activity/999999/", None, 404, "not-found"),
            ("get", "nothing/at/all/", None, 404, "not-found"),
        ],
    )
    def test_every_failure_is_problem_details(
        self, api: Api, method: str, path: str, data: Any, status: int, code: str
    ) -> None:
        answer = api(method, path, data)
        if path == "nothing/at/all/":
            assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
        else:
            problem(answer, status, code)

    def test_a_wrong_query_says_where_and_what_was_expected(self, api: Api) -> None:
        found = problem(api("get", "entities/?q=kind:component lifecicle:x"), 400, "bad-query")
        assert found["errors"]
        assert "lifecycle" in found["detail"]

    def test_a_cursor_of_another_order_is_refused(self, api: Api) -> None:
        say("yaml:a", *[component(f"c{n}") for n in range(5)])
        following = api("get", "entities/?order=name&limit=2").json()["next"]
        problem(api("get", following.replace("order=name", "order=-name")), 400, "bad-cursor")

    def test_without_a_token_nothing_is_told(self, client: Client) -> None:
        for route in routes("api/v1/"):
            if route.pattern not in {"api/v1/schema/", "api/v1/docs/"}:
                answer = client.get(route.url({}))
                assert answer.status_code == 401, route.pattern
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
