"""Backstage's catalog API, as its own backend answers: what reads entities."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access.models import User
from catalog.api.backstage import lists
from catalog.models import Entity
from tests.catalog.saying import claim, say

pytestmark = pytest.mark.django_db

Call = Callable[..., Any]


@pytest.fixture
def catalog(core_pack: None) -> None:
    """A few entities with what the traps are about."""
    service = {"type": "service", "lifecycle": "production", "owner": "team-a"}
    say(
        "yaml:a",
        claim("group:team-a", {"type": "team", "children": []}),
        claim("group:other/team-a", {"type": "team", "children": []}),
        claim("system:shop", {"owner": "team-a"}),
        claim(
            "component:alpha",
            {**service, "system": "shop", "dependsOn": ["component:beta", "component:gone"], "rank": 3},
            metadata={
                "title": "Alpha 100% sure",
                "tags": ["java", "grpc"],
                "annotations": {"a.b/C": "x", "acme.example/note": "y" * 300},
                "labels": {"tier": "One"},
            },
        ),
        claim("component:beta", {**service, "type": "Service", "rank": 20}, metadata={"tags": ["Java"]}),
        claim("component:gamma", {**service, "type": "library", "flag": True, "empty": ""}),
        claim("component:other/delta", {**service, "type": "website", "nothing": None}),
        claim("component:loose", {"type": "service"}),
    )


@pytest.fixture
def call(catalog: None, vic: User, as_token: Callable[..., dict[str, str]]) -> Call:
    """Asks as a viewer of everything: the answer's JSON, or the answer where a status is expected."""
    headers = as_token(vic)

    def ask(path: str, body: Any = None, *, status: int = 200) -> Any:
        client = Client()
        url = f"/api/catalog/{path}"
        if body is None:
            answer = client.get(url, headers=headers)
        else:
            answer = client.post(url, json.dumps(body), content_type="application/json", headers=headers)
        assert answer.status_code == status, answer.content
        data = said_in(answer)
        if status != 200:
            return data
        ask.answer = answer  # type: ignore[attr-defined]
        return data

    return ask


def said_in(answer: Any) -> Any:
    """What an answer says, sent at once or in parts."""
    text = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return json.loads(text) if text else None


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


FILTERS = {
    "kind=component,spec.type=service": {"alpha", "beta", "loose"},
    "kind=component&filter=kind=system": {"alpha", "beta", "gamma", "delta", "loose", "shop"},
    "kind=component,metadata.name=alpha,metadata.name=beta": {"alpha", "beta"},
    "metadata.annotations.a.b/c": {"alpha"},
    "metadata.annotations.a.b/C=X": {"alpha"},
    "metadata.annotations.acme.example/note": {"alpha"},
    f"metadata.annotations.acme.example/note={'y' * 300}": set(),
    "metadata.tags=java": {"alpha", "beta"},
    "metadata.tags.java": {"alpha", "beta"},
    "metadata.tags.java=true": {"alpha", "beta"},
    "spec": set(),
    "spec.rank=3": {"alpha"},
    "spec.flag=true": {"gamma"},
    "spec.empty=": {"gamma"},
    "spec.nothing": set(),  # a deviation: a null takes a field away
    "metadata.etag": set(),
    " kind = component , , spec.type = library ": {"gamma"},
    "spec.rank,spec.rank=20": {"beta"},
    "relations.dependson=component:default/beta": {"alpha"},
    "relations.dependsOn=component:default/GONE": {"alpha"},
    "relations.dependencyOf": {"beta"},
    "relations.ownedBy=group:other/team-a": {"delta"},
    "kind=nobody": set(),
}


class TestFilters:
    @pytest.mark.parametrize("text", FILTERS)
    def test_lists_and_queries_find_the_same(self, call: Call, text: str) -> None:
        query = text.replace("%", "%25").replace(" ", "%20")
        listed = call(f"entities?filter={query}")
        assert set(names(listed)) == FILTERS[text]
        asked = call(f"entities/by-query?filter={query}")
        assert set(names(asked["items"])) == FILTERS[text]
        assert asked["totalItems"] == len(FILTERS[text])

    def test_one_without_words_finds_everything(self, call: Call) -> None:
        assert len(call("entities?filter=,")) == Entity.objects.count() == 8

    def test_one_without_a_key_is_refused(self, call: Call) -> None:
        error = call("entities?filter=%3Dx", status=400)
        assert error["error"]["name"] == "InputError"
        assert "is not a valid statement" in error["error"]["message"]
        assert error["request"] == {"method": "GET", "url": "/entities?filter=%3Dx"}
        assert error["response"] == {"statusCode": 400}


class TestDeclaredFromTheOtherEnd:
    """What a document says of others, by `dependencyOf`, `children` and `members`, is found like any relation."""

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("relations.dependencyOf", {"store"}),
            ("relations.dependsOn=resource:default/store", {"user-of-it"}),
            ("relations.parentOf", {"parent"}),
            ("relations.childOf=group:default/parent", {"child"}),
            ("relations.memberOf", {"bob"}),
            ("relations.hasMember=user:default/bob", {"parent"}),
        ],
    )
    def test_it_is_found_from_both(
        self, core_pack: None, vic: User, as_token: Callable[..., dict[str, str]], query: str, found: set[str]
    ) -> None:
        service = {"type": "service", "lifecycle": "production", "owner": "parent"}
        say(
            "yaml:a",
            claim(
                "resource:store", {"type": "x", "owner": "parent", "dependencyOf": ["component:user-of-it"]}
            ),
            claim("component:user-of-it", service),
            claim("group:parent", {"type": "team", "children": ["child"], "members": ["bob"]}),
            claim("group:child", {"type": "team", "children": []}),
            claim("user:bob", {"memberOf": []}),
        )
        headers = as_token(vic)
        answer = Client().get(f"/api/catalog/entities?filter={query}", headers=headers)
        assert set(names(said_in(answer))) == found
        # The catalog's own language knows them by the same names.
        own = query.removeprefix("relations.").replace("=", ":")
        asked = own if ":" in own else f"has:{own}"
        rows = Client().get(f"/api/v1/entities/?q={asked}", headers=headers).json()["results"]
        assert {row["metadata"]["name"] for row in rows} == found


NOBODYS = [f"component:default/nobody-{number}" for number in range(60)]
PREDICATES: dict[str, tuple[Any, set[str]]] = {
    "one value": ({"kind": "Component", "spec.type": "SERVICE"}, {"alpha", "beta", "loose"}),
    "numbers are texts": ({"spec.rank": 3}, {"alpha"}),
    "in": ({"metadata.name": {"$in": ["alpha", "gamma"]}}, {"alpha", "gamma"}),
    "in nothing": ({"metadata.name": {"$in": []}}, set()),
    "in many": ({"metadata.name": {"$in": ["ALPHA", "gamma", *map(str, range(60))]}}, {"alpha", "gamma"}),
    "in too long a value": ({"metadata.name": {"$hasPrefix": "a" * 500}}, set()),
    "there": ({"spec.rank": {"$exists": True}}, {"alpha", "beta"}),
    "not there": (
        {"$all": [{"kind": "component"}, {"spec.rank": {"$exists": False}}]},
        {"gamma", "delta", "loose"},
    ),
    "not": (
        {"$all": [{"kind": "component"}, {"$not": {"spec.rank": 3}}]},
        {"beta", "gamma", "delta", "loose"},
    ),
    "any": ({"$any": [{"metadata.name": "shop"}, {"metadata.name": "beta"}]}, {"shop", "beta"}),
    "any of nothing": ({"$any": []}, set()),
    "beginning of a name": ({"metadata.name": {"$hasPrefix": "AL"}}, {"alpha"}),
    "beginning of a title": ({"metadata.title": {"$hasPrefix": "alpha 100%"}}, {"alpha"}),
    "wildcards mean themselves": ({"metadata.title": {"$hasPrefix": "a%"}}, set()),
    "beginning of a relation": ({"relations.dependsOn": {"$hasPrefix": "component:default/b"}}, {"alpha"}),
    "related to one of many": (
        {"relations.dependsOn": {"$in": ["component:default/beta", *NOBODYS]}},
        {"alpha"},
    ),
    "many that are not there": (
        {"relations.dependsOn": {"$in": ["component:default/GONE", *NOBODYS]}},
        {"alpha"},
    ),
    "many in a relation back": (
        {"relations.dependencyOf": {"$in": ["component:default/alpha", *NOBODYS]}},
        {"beta"},
    ),
    "holds": ({"metadata.tags": {"$contains": "grpc"}}, {"alpha"}),
    "related": (
        {"relations": {"$contains": {"type": "dependsOn", "targetRef": "component:default/beta"}}},
        {"alpha"},
    ),
    "related at all": ({"relations": {"$contains": {"type": "dependsOn"}}}, {"alpha"}),
}
BROKEN = [
    {"$all": [], "kind": "x"}, {"$any": {}}, {"kind": None}, {"kind": ["a"]}, {"kind": {"$near": 1}}, ["a"],
    {"kind": {"$in": "a"}}, {"kind": {"$exists": 1}}, {"kind": {}}, {"$and": []}, "kind",
    None, {"kind": {"$contains": {"type": "a"}}}, {"relations": {"$contains": {"targetRef": "a"}}},
]  # fmt: skip


class TestPredicates:
    @pytest.mark.parametrize("name", PREDICATES)
    def test_queries_and_facets_find_the_same(self, call: Call, name: str) -> None:
        query, expected = PREDICATES[name]
        found = call("entities/by-query", {"query": query})
        assert set(names(found["items"])) == expected
        counted = call("entity-facets", {"facets": ["metadata.name"], "query": query})
        assert {row["value"] for row in counted["facets"]["metadata.name"]} == expected

    @pytest.mark.parametrize("query", BROKEN, ids=str)
    def test_what_makes_no_sense_is_refused(self, call: Call, query: Any) -> None:
        assert call("entities/by-query", {"query": query}, status=400)["error"]["name"] == "InputError"

    def test_unknown_keys_of_a_body_and_other_bodies_say_nothing(
        self, call: Call, vic: User, as_token: Any
    ) -> None:
        assert call("entities/by-query", {"filter": "kind=component"})["totalItems"] == 8
        answer = Client().post(
            "/api/catalog/entities/by-query", "{", content_type="text/plain", headers=as_token(vic)
        )
        assert said_in(answer)["totalItems"] == 8


class TestUids:
    def test_the_beginning_of_one_is_found(self, call: Call) -> None:
        alpha = Entity.objects.get(name="alpha")
        found = call(
            "entities/by-query", {"query": {"metadata.uid": {"$hasPrefix": str(alpha.uid)[:30].upper()}}}
        )
        assert names(found["items"]) == ["alpha"]
        assert call("entities/by-query", {"query": {"metadata.uid": {"$hasPrefix": "%"}}})["items"] == []


class TestLists:
    def test_pages_follow_the_link(self, call: Call) -> None:
        found: list[str] = []
        path = "entities?filter=kind=component&limit=2&order=desc:metadata.name"
        while path:
            found += names(call(path))
            link = call.answer.headers.get("Link", "")  # type: ignore[attr-defined]
            assert not link or link.endswith('; rel="next"')
            path = link[2 : link.find(">")]
        assert found == ["loose", "gamma", "delta", "beta", "alpha"]

    def test_without_the_field_an_entity_comes_last_in_a_page_and_not_at_all_in_the_whole(
        self, call: Call
    ) -> None:
        by_rank = "filter=kind=component&order=desc:spec.rank"
        assert names(call(f"entities?{by_rank}&limit=9"))[:2] == ["alpha", "beta"], "as texts: 3 after 20"
        assert len(call(f"entities?{by_rank}&limit=9")) == 5
        assert names(call(f"entities?{by_rank}")) == ["alpha", "beta"]

    def test_what_is_equal_comes_by_uid(self, call: Call) -> None:
        by_uid = list(Entity.objects.filter(kind="component").order_by("uid").values_list("name", flat=True))
        for direction in ("asc", "desc"):
            assert names(call(f"entities?filter=kind=component&order={direction}:kind&limit=9")) == by_uid
        by_ref = list(Entity.objects.filter(kind="component").order_by("ref").values_list("name", flat=True))
        assert names(call("entities?filter=kind=component&limit=9")) == by_ref

    def test_fields_are_cut_out(self, call: Call) -> None:
        (alpha,) = call(
            "entities?filter=metadata.name=alpha&fields=kind,metadata.annotations.a.b/C,spec.nope"
        )
        assert alpha == {"kind": "Component", "metadata": {"annotations": {"a.b/C": "x"}}}
        assert call("entities?filter=metadata.name=alpha&fields=KIND") == [{}]
        assert call("entities?fields=metadata.tags[0]", status=400)["error"]["name"] == "InputError"

    @pytest.mark.parametrize(
        "query", ["foo=1", "fields=", "limit=0", "limit=x", "offset=-1", "after=", "after=x", "order=kind"]
    )
    def test_what_is_not_understood_is_refused(self, call: Call, query: str) -> None:
        assert call(f"entities?{query}", status=400)["response"] == {"statusCode": 400}

    def test_where_a_value_is_required_it_is_unknown(self, call: Call) -> None:
        loose = call("entities/by-name/Component/Default/LOOSE")
        assert loose["spec"] == {"type": "service", "lifecycle": "unknown", "owner": "unknown"}

    def test_an_entity_is_whole(self, call: Call) -> None:
        alpha = call("entities/by-name/component/default/alpha")
        assert alpha["relations"] == sorted(alpha["relations"], key=lambda r: (r["type"], r["targetRef"]))
        assert {"type": "dependsOn", "targetRef": "component:default/gone"} in alpha["relations"]
        assert call(f"entities/by-uid/{alpha['metadata']['uid']}") == alpha

    def test_one_that_goes_meanwhile_is_not_found(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        alpha = call("entities/by-name/component/default/alpha")["metadata"]
        monkeypatch.setattr(lists, "fetch", lambda _statement, _given: [])
        one = "entities/by-name/component/default/alpha"
        for path in (one, f"{one}/ancestry", f"entities/by-uid/{alpha['uid']}"):
            assert call(path, status=404)["error"]["name"] == "NotFoundError"
        refs = {"entityRefs": ["component:default/alpha"]}
        assert call("entities/by-refs", refs) == {"items": [None]}
        assert call("entities?filter=kind=component&limit=2") == []

    @pytest.mark.parametrize("path", ["entities/by-name/a/b/c", "entities/by-uid/x", "nothing", "entities/x"])
    def test_what_is_not_there_is_not_found(self, call: Call, path: str) -> None:
        error = call(path, status=404)
        assert error is None or error["error"]["name"] == "NotFoundError"


class TestQueries:
    def test_cursors_lead_forth_and_back(self, call: Call) -> None:
        first = call("entities/by-query?filter=kind=component&orderField=metadata.name,desc&limit=2")
        assert names(first["items"]) == ["loose", "gamma"]
        assert (first["totalItems"], set(first["pageInfo"])) == (5, {"nextCursor"})
        inside = json.loads(base64.b64decode(first["pageInfo"]["nextCursor"]))
        assert inside["query"] == {"kind": {"$in": ["component"]}}, "by this a client goes on by POST"
        second = call("entities/by-query", {"cursor": first["pageInfo"]["nextCursor"], "limit": 2})
        assert names(second["items"]) == ["delta", "beta"]
        assert set(second["pageInfo"]) == {"nextCursor", "prevCursor"}
        third = call(f"entities/by-query?limit=2&cursor={second['pageInfo']['nextCursor']}")
        assert (names(third["items"]), set(third["pageInfo"])) == (["alpha"], {"prevCursor"})
        back = call(f"entities/by-query?limit=2&cursor={third['pageInfo']['prevCursor']}")
        assert names(back["items"]) == ["delta", "beta"]
        start = call(f"entities/by-query?limit=2&cursor={back['pageInfo']['prevCursor']}")
        assert (names(start["items"]), set(start["pageInfo"])) == (["loose", "gamma"], {"nextCursor"})

    def test_unsorted_the_uid_decides(self, call: Call) -> None:
        found, cursor = [], ""
        while True:
            page = call(f"entities/by-query?limit=3{cursor}")
            found += [one["metadata"]["uid"] for one in page["items"]]
            if "nextCursor" not in page["pageInfo"]:
                break
            cursor = f"&cursor={page['pageInfo']['nextCursor']}"
        assert found == sorted(found)
        assert len(found) == 8

    def test_what_lacks_the_sorted_field_is_neither_there_nor_counted(self, call: Call) -> None:
        page = call("entities/by-query?orderField=spec.rank")
        assert (names(page["items"]), page["totalItems"]) == (["beta", "alpha"], 2)

    def test_a_term_is_looked_for_in_fields_and_its_wildcards_mean_themselves(self, call: Call) -> None:
        def found(term: str, fields: str = "metadata.name,metadata.title") -> list[str]:
            page = call(f"entities/by-query?fullTextFilterTerm={term}&fullTextFilterFields={fields}")
            assert page["totalItems"] == len(page["items"])
            return sorted(names(page["items"]))

        assert found("%20ALPH%20") == ["alpha"]
        assert found("100%25") == ["alpha"]
        assert found("%25") == ["alpha"]
        assert found("a_p") == []
        assert found("team", "spec.owner") == ["alpha", "beta", "delta", "gamma", "shop"]
        assert call("entities/by-query?fullTextFilterTerm=alpha")["items"] == []

    def test_the_total_can_be_left_out_and_the_items_too(self, call: Call) -> None:
        assert call("entities/by-query?totalItems=exclude&limit=1")["totalItems"] == 0
        none = call("entities/by-query?limit=0")
        assert (none["items"], none["totalItems"], none["pageInfo"]) == ([], 8, {})

    @pytest.mark.parametrize(
        "cursor", ["x", base64.b64encode(b"{}").decode(), base64.b64encode(b'"a"').decode()]
    )
    def test_a_broken_cursor_is_refused(self, call: Call, cursor: str) -> None:
        assert (
            "Malformed cursor" in call(f"entities/by-query?cursor={cursor}", status=400)["error"]["message"]
        )


class TestByRefs:
    def test_they_come_as_they_were_asked_for(self, call: Call) -> None:
        refs = ["component:default/BETA", "component:default/nobody", "alpha", "component:default/beta"]
        items = call("entities/by-refs", {"entityRefs": refs, "fields": ["metadata.name"]})["items"]
        beta = {"metadata": {"name": "beta"}}
        assert items == [beta, None, None, beta]
        kept = call("entities/by-refs?filter=kind=group", {"entityRefs": refs})["items"]
        assert kept == [None] * 4
        asked = call("entities/by-refs", {"entityRefs": refs[:1], "query": {"spec.rank": 3}})["items"]
        assert asked == [None]
        call("entities/by-refs", {}, status=400)

    def test_the_ancestry_begins_with_it(self, call: Call) -> None:
        found = call("entities/by-name/component/default/alpha/ancestry")
        assert found["rootEntityRef"] == "component:default/alpha"
        assert [one["parentEntityRefs"] for one in found["items"]] == [[]]
        assert found["items"][0]["entity"]["metadata"]["name"] == "alpha"


class TestFacets:
    def test_values_keep_their_case_and_are_sorted(self, call: Call) -> None:
        found = call("entity-facets?facet=spec.type&facet=metadata.tags&filter=kind=component")["facets"]
        assert found["spec.type"] == [
            {"value": "Service", "count": 1},
            {"value": "library", "count": 1},
            {"value": "service", "count": 2},
            {"value": "website", "count": 1},
        ]
        assert [row["value"] for row in found["metadata.tags"]] == ["Java", "grpc", "java"]
        assert call("entity-facets?facet=metadata.annotations.acme.example/note")["facets"] == {
            "metadata.annotations.acme.example/note": []
        }
        assert call("entity-facets", status=400)

    def test_relations_have_values_too(self, call: Call) -> None:
        found = call("entity-facets?facet=relations.ownedBy")["facets"]["relations.ownedBy"]
        assert found == [
            {"value": "group:default/team-a", "count": 4},
            {"value": "group:other/team-a", "count": 1},
        ]


HUGE = 2**63
PATH = ".".join("a" * 120)


def packed(data: Any) -> str:
    return base64.b64encode(json.dumps(data).encode()).decode()


def cursor(**more: Any) -> dict[str, str]:
    start = ["a", "00000000-0000-0000-0000-000000000000"]
    fields = {"orderFields": [{"field": "kind"}], "orderFieldValues": start, "firstSortFieldValues": start}
    return {"cursor": packed({**fields, **more})}


class TestLimits:
    @pytest.mark.parametrize(
        "body",
        [
            {"query": {"$any": [{"spec.a": str(n)} for n in range(1_000)]}},
            {"query": {"$any": [{"$any": []} for _ in range(2_000)]}},
            {"query": {"spec.a": {"$in": list(range(10_001))}}},
            {"query": {"$any": [{"spec.a": {"$hasPrefix": str(n)}} for n in range(21)]}},
            {"query": {"$any": [{"relations.dependsOn": f"component:default/a{n}"} for n in range(101)]}},
            {"query": {"$any": [{"relations": {"$contains": {"type": f"a{n}"}}} for n in range(101)]}},
            {"fullTextFilter": {"term": "a", "fields": [f"spec.a{n}" for n in range(101)]}},
            {"offset": HUGE},
            {"limit": HUGE},
            cursor(totalItems=1e300),
            cursor(orderFields=[{"field": "a\0"}]),
            cursor(orderFieldValues=["\0", "00000000-0000-0000-0000-000000000000"]),
            cursor(fullTextFilter={"term": "\0"}),
        ],
        ids=lambda body: str(body)[:60],
    )
    def test_what_no_catalog_needs_is_refused(self, call: Call, body: Any) -> None:
        assert call("entities/by-query", body, status=400)["error"]["name"] == "InputError"

    def test_so_are_too_many_facets_fields_and_orders_and_places_beyond_any_list(self, call: Call) -> None:
        many = [f"spec.a{n}" for n in range(101)]
        call("entities?fields=" + ",".join(many), status=400)
        for path in ("entities/by-query", "entities/by-refs"):
            call(path, {"fields": many, "entityRefs": []}, status=400)
        call("entity-facets", {"facets": [f"spec.a{n}" for n in range(101)]}, status=400)
        call("entities?" + "&".join(f"order=asc:spec.a{n}" for n in range(101)), status=400)
        for place in ({"limit": HUGE}, {"offset": HUGE}, {"limit": 1.5}):
            call(f"entities?after={packed(place)}", status=400)

    def test_however_much_is_asked_for_it_is_read_and_sent_in_parts(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lists, "CHUNK", 2)
        wanted = ["component:default/alpha"] * 3 + ["component:default/nobody", "component:default/beta"]
        batch = call("entities/by-refs", {"entityRefs": wanted})["items"]
        assert [one and one["metadata"]["name"] for one in batch] == ["alpha"] * 3 + [None, "beta"]
        for path in ("entities?", "entities?limit=9&", "entities?offset=0&"):
            found = names(call(f"{path}filter=kind=component&order=asc:metadata.name"))
            assert found == ["alpha", "beta", "delta", "gamma", "loose"]
            assert call.answer.streaming  # type: ignore[attr-defined]
        page = call("entities/by-query?filter=kind=component&orderField=metadata.name&limit=1000000000")
        assert names(page["items"]) == found
        assert (page["totalItems"], page["pageInfo"]) == (5, {})
        assert call.answer.streaming  # type: ignore[attr-defined]

    def test_a_wrong_number_is_named_where_it_stands(self, call: Call) -> None:
        error = call("entities/by-query?limit=-1", status=400)["error"]
        assert error["message"] == "request/query/limit must be >= 0"
        error = call("entities/by-query", {"limit": -1}, status=400)["error"]
        assert error["message"] == "request/body/limit must be >= 0"

    def test_a_deep_field_is_nowhere(self, call: Call) -> None:
        assert call(f"entities?order=asc:{PATH}") == []
        assert call(f"entities/by-query?orderField={PATH}")["items"] == []


class TestBeforeAnyView:
    def test_what_is_refused_there_is_told_in_the_same_words(self, call: Call, settings: Any) -> None:
        error = call("entities?filter=a%00b", status=400)
        assert (error["error"]["name"], error["response"]) == ("InputError", {"statusCode": 400})
        settings.ALLOWED_HOSTS = ["portal.example"]
        answer = Client().get("/api/catalog/entities", headers={"Host": "other.example"})
        assert (answer.status_code, answer.json()["error"]["name"]) == (400, "InputError")


class TestSeeing:
    def test_a_hidden_name_is_found_by_nobody(
        self, catalog: None, no_access: User, as_token: Callable[..., dict[str, str]]
    ) -> None:
        from access.services import grant

        say(
            "yaml:b",
            claim("component:near/both", {"dependsOn": ["component:default/alpha", "component:near/gone"]}),
        )
        grant(role="viewer", user=no_access, scope_type="namespace", scope="near")

        def found(wanted: dict[str, Any]) -> list[str]:
            answer = Client().post(
                "/api/catalog/entities/by-query",
                json.dumps({"query": {"relations.dependsOn": wanted}}),
                content_type="application/json",
                headers=as_token(no_access),
            )
            return names(said_in(answer)["items"])

        assert found({"$hasPrefix": "component:near/g"}) == ["both"]
        assert found({"$hasPrefix": "component:default/al"}) == []
        for others in ([], NOBODYS):
            assert found({"$in": ["component:near/gone", *others]}) == ["both"]
            assert found({"$in": ["component:default/alpha", *others]}) == []

    def test_only_what_one_may_see(
        self, catalog: None, no_access: User, as_token: Callable[..., dict[str, str]]
    ) -> None:
        from access.services import grant

        grant(role="viewer", user=no_access, scope_type="namespace", scope="other")
        headers, client = as_token(no_access), Client()

        def get(path: str) -> Any:
            return said_in(client.get(f"/api/catalog/{path}", headers=headers))

        assert sorted(names(get("entities"))) == ["delta", "team-a"]
        assert get("entities/by-query")["totalItems"] == 2
        assert get("entity-facets?facet=kind")["facets"]["kind"] == [
            {"value": "Component", "count": 1},
            {"value": "Group", "count": 1},
        ]
        refs = {"entityRefs": ["component:default/alpha", "component:other/delta"]}
        answer = client.post(
            "/api/catalog/entities/by-refs",
            json.dumps(refs),
            content_type="application/json",
            headers=headers,
        )
        batch = said_in(answer)["items"]
        assert batch[0] is None
        assert batch[1]["metadata"]["name"] == "delta"
        assert get("entities/by-name/component/default/alpha")["response"] == {"statusCode": 404}

    def test_nobody_sees_anything_without_signing_in(self, catalog: None) -> None:
        answer = Client().get("/api/catalog/entities")
        assert answer.status_code == 401
        assert answer.json()["error"]["name"] == "AuthenticationError"
