"""A small catalog with what Backstage's traps are about, and requests that step into them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

Question = tuple[str, str, Any]  # method, path below the catalog's address, body


def _document(kind: str, name: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


def _component(name: str, *, meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    whole = {"type": "service", "lifecycle": "production", "owner": "team-a", **spec}
    return _document("Component", name, whole, **(meta or {}))


DOCUMENTS: list[dict[str, Any]] = [
    _document("Group", "team-a", {"type": "team", "children": [], "profile": {"displayName": "Team Ä"}}),
    _document("Group", "team-b", {"type": "squad", "parent": "team-a", "children": []}, title="B side"),
    _document("Group", "team-x", {"type": "team", "children": []}, namespace="other"),
    _document("User", "bob", {"memberOf": ["team-a", "team-b"], "profile": {"email": "bob@acme.example"}}),
    _document("Domain", "trade", {"owner": "team-a"}),
    _document("System", "shop", {"owner": "team-a", "domain": "trade"}),
    _document("API", "pay-api", {"type": "openapi", "lifecycle": "production", "owner": "team-b", "definition": "x"}),
    _document("Resource", "store", {"type": "database", "owner": "team-b", "dependencyOf": ["component:beta"]}),
    _component(
        "alpha",
        meta={
            "title": "Alpha 100% sure", "description": "First_of all.", "tags": ["java", "grpc"],
            "annotations": {"a.b/C": "x", "acme.example/note": "y" * 300, "acme.example/comma": "a,b=c"},
            "labels": {"tier": "One"}, "links": [{"url": "https://a.example", "title": "Home"}],
        },
        system="shop", dependsOn=["component:beta", "component:gone"], providesApis=["pay-api"], rank=3,
    ),
    _component("Beta", type="Service", rank=20, meta={"tags": ["java"], "title": "bob É"},
    owner="group:default/team-b"),
    _component("gamma", type="library", flag=True, empty="", list=[1, "Two", True, 3], lifecycle="experimental"),
    _component(
        "delta", type="website", meta={"namespace": "other"}, owner="team-x",
        deep={"a": {"b": ["c", {"d": 1}], "e": 7}},
    ),
    _component("epsilon", type="library", rank="7", long="z" * 250, dotted={"x.y": {"z": "w"}}, owner="user:bob"),
    *(_component(f"part-{n:02}", system="shop", rank=n, type="part") for n in range(12)),
]  # fmt: skip

FILTERS = [
    "kind=component", "kind=COMPONENT,spec.type=service", "kind=component&filter=kind=system", "metadata.name=alpha",
    "kind=component,metadata.name=alpha,metadata.name=beta", "metadata.annotations.a.b/c",
    "metadata.annotations.a.b/C=X",
    "metadata.annotations.acme.example/note", f"metadata.annotations.acme.example/note={'y' * 300}", "spec.long",
    "metadata.tags=java", "metadata.tags.java", "metadata.tags.java=true", "metadata.tags.java=false", "spec",
    "metadata",
    "spec.rank=3", "spec.rank=7", "spec.flag=true", "spec.flag=TRUE", "spec.empty=", "spec.empty", "metadata.etag",
    "metadata.uid", "metadata.title=BOB É", "metadata.title=bob é", "spec.list=two", "spec.list.Two", "spec.list.3",
    "spec.list=3", "spec.list.true", "spec.deep", "spec.deep.a.b.c", "spec.deep.a.b=c", "spec.deep.a.b.d=1",
    "spec.deep.a.e=7", "spec.deep.a.b", "spec.dotted.x.y.z=w", "relations",
    "relations.dependson=component:default/beta",
    "relations.dependsOn=component:default/GONE", "relations.dependencyOf", "relations.ownedBy=group:other/team-x",
    "relations.ownedby=user:default/bob", "relations.memberof=group:default/team-b", "relations.hasPart",
    "kind=nobody", ",", "kind", "kind,kind=group", " kind = component , , spec.type = library ",
    "spec.rank,spec.rank=20",
    "metadata.namespace=default,kind=group", "metadata.namespace=other", "=x", "kind=", "metadata.labels.tier=one",
    "metadata.annotations.acme.example/comma=a", "metadata.links.url=https://a.example",
    "apiVersion=backstage.io/v1alpha1",
    "spec.profile.displayname=team ä", "spec.memberOf=team-b", "metadata.description=first_of all.", "status",
    "attachments",
]  # fmt: skip

PREDICATES: list[Any] = [
    {}, {"$all": []}, {"$any": []}, {"kind": "Component", "spec.type": "SERVICE"}, {"spec.rank": 3},
    {"spec.rank": "3"},
    {"spec.flag": True}, {"spec.flag": "true"}, {"metadata.name": {"$in": ["alpha", "GAMMA"]}},
    {"metadata.name": {"$in": []}},
    {"spec.rank": {"$exists": True}}, {"kind": "component", "spec.rank": {"$exists": False}},
    {"$not": {"kind": "component"}},
    {"$all": [{"kind": "component"}, {"$not": {"spec.rank": 3}}]}, {"$any": [{"metadata.name": "shop"},
    {"kind": "group"}]},
    {"metadata.name": {"$hasPrefix": "AL"}}, {"metadata.title": {"$hasPrefix": "alpha 100%"}},
    {"kind": {"$hasPrefix": ""}},
    {"metadata.title": {"$hasPrefix": "a%"}}, {"relations.dependsOn": {"$hasPrefix": "component:default/b"}},
    {"metadata.tags": {"$contains": "grpc"}}, {"metadata.tags": {"$contains": "GRPC"}}, {"metadata.tags": "java"},
    {"relations": {"$contains": {"type": "dependsOn", "targetRef": "component:default/beta"}}},
    {"relations": {"$contains": {"type": "DEPENDSON"}}},
    {"relations": {"$contains": {"type": "ownedBy", "targetRef": {"$in": ["group:default/team-b",
    "user:default/bob"]}}}},
    {"$all": [], "kind": "x"}, {"$any": {}}, {"kind": None}, {"kind": ["a"]}, {"kind": {"$near": 1}}, ["a"], "kind",
    {"kind": {"$in": "a"}}, {"kind": {"$exists": 1}}, {"$and": []}, {"relations": {"$contains": {"targetRef": "a"}}},
    {"metadata.name": {"$contains": {"type": "a"}}}, {"kind": {"$hasPrefix": 1}}, {"$not": []}, None, {"kind": {}},
]  # fmt: skip

ORDERS = [
    "metadata.name",
    "metadata.name,desc",
    "metadata.title",
    "spec.rank",
    "spec.rank,desc",
    "kind",
    "spec.type,desc",
]


NOT_LOCATION = {"$not": {"kind": "location"}}
KINDS = "".join(
    f"&filter=kind={kind}" for kind in ("api", "component", "domain", "group", "resource", "system", "user")
)
FACETS = [
    "kind", "spec.type", "spec.owner", "metadata.tags", "metadata.namespace", "relations.ownedBy", "spec.rank",
    "spec.flag", "spec.none", "metadata.annotations.a.b/C", "spec.long", "metadata.name", "spec.list",
    "metadata.labels.tier", "spec.deep.a.e", "relations.dependsOn",
]  # fmt: skip
REFUSED = {
    "entities": [
        "limit=0", "limit=x", "limit=-1", "offset=x", "after=x", "after=", "fields=", "foo=1", "order=x",
        "order=up:kind", "fields=a[0]",
    ],
    "entities/by-query": [
        "limit=x", "limit=-1", "totalItems=some", "cursor=", "cursor=x", "orderField=kind,up", "foo=1", "filter=%3Dx",
    ],
    "entity-facets": ["", "facet=", "foo=1"],
    "locations": ["foo=1"],
}  # fmt: skip
TERMS = [
    ("ALPH", "metadata.name"), (" alph ", "metadata.title,metadata.name"), ("team", "spec.owner"), ("alpha", ""),
    ("first", "metadata.description"), ("zzzz", "spec.long"), ("é", "metadata.title"), ("7", "spec.rank"),
]  # fmt: skip
ENTITIES = [
    "component/default/alpha", "Component/Default/ALPHA", "component/other/delta", "component/default/nobody",
    "group/other/team-x", "user/default/bob", "api/default/pay-api", "component/default/gamma",
    "component/default/epsilon", "component/default/nobody/ancestry",
]  # fmt: skip
NOWHERE = [
    "entities/by-uid/00000000-0000-4000-8000-000000000000", "nothing", "entities/nothing",
    "locations/00000000-0000-4000-8000-000000000000", "locations/by-entity/component/default/nobody",
]  # fmt: skip


def questions() -> Iterator[Question]:
    """What is asked of both; each once."""
    yield from _lists()
    yield from _queries()
    yield from _facets()
    yield from _others()


def _lists() -> Iterator[Question]:
    for number, text in enumerate(FILTERS):
        wanted = "&filter=".join(quote(part, safe="=,/:") for part in text.split("&filter="))
        yield "GET", f"entities?filter={wanted}&order=asc:metadata.name&limit=50", None
        if number % 2:
            yield "GET", f"entities/by-query?filter={wanted}&orderField=metadata.name&limit=50", None
    for order in ORDERS:
        field, _comma, direction = order.partition(",")
        yield "GET", f"entities/by-query?filter=kind=component&orderField={order}&limit=50", None
        for more in ("", "&limit=50"):
            yield "GET", f"entities?filter=kind=component&order={direction or 'asc'}:{field}{more}", None
    for fields in ("metadata.name", "kind,metadata.annotations.a.b/C", "KIND", "spec.deep.a", "spec.nope"):
        yield "GET", f"entities?filter=metadata.name=alpha&fields={quote(fields)}", None
    by_name = "filter=kind=component&order=asc:metadata.name&fields=metadata.name"
    for part in ("limit=3&offset=4", "limit=3", "offset=14", "limit=100&offset=15"):
        yield "GET", f"entities?{by_name}&{part}", None
    for path, asked in REFUSED.items():
        for query in asked:
            yield "GET", f"{path}?{query}", None


def _queries() -> Iterator[Question]:
    by_name = {"orderBy": [{"field": "metadata.name", "order": "asc"}]}
    for predicate in PREDICATES:
        query = {"$all": [predicate, NOT_LOCATION]} if isinstance(predicate, dict) else predicate
        yield "POST", "entities/by-query", {"query": query, **by_name}
        yield "POST", "entity-facets", {"facets": ["kind"], "query": query}
    for term, names in TERMS:
        query = {"fullTextFilterTerm": term, "orderField": "metadata.name", "filter": "kind=component"}
        if names:
            query["fullTextFilterFields"] = names
        yield "GET", f"entities/by-query?{urlencode(query)}", None
    yield "GET", "entities/by-query?fullTextFilterTerm=alpha", None
    for part in ("limit=0", "totalItems=exclude&limit=0", "orderField=metadata.name&offset=3&limit=2"):
        yield "GET", f"entities/by-query?filter=kind=component&{part}", None
    yield "POST", "entities/by-query", {"limit": "x"}
    yield "POST", "entities/by-query", {"orderBy": [{"field": "kind"}]}
    yield (
        "POST",
        "entities/by-query",
        {"cursor": base64.b64encode(json.dumps({"limit": 1}).encode()).decode()},
    )


def _facets() -> Iterator[Question]:
    for name in FACETS:
        yield "GET", f"entity-facets?facet={quote(name)}{KINDS}", None
        yield "GET", f"entity-facets?facet={quote(name)}&filter=kind=component,spec.type=library", None
    yield "GET", f"entity-facets?facet=kind&facet=spec.type{KINDS}", None


def _others() -> Iterator[Question]:
    refs = ["component:default/BETA", "component:default/nobody", "alpha", "component:default/beta"]
    for more in ({}, {"fields": ["metadata.name"]}, {"query": {"kind": "group"}}):
        yield "POST", "entities/by-refs", {"entityRefs": [*refs, "group:other/team-x"], **more}
    yield "POST", "entities/by-refs?filter=kind=group", {"entityRefs": refs}
    for body in ({}, {"entityRefs": "x"}, {"entityRefs": []}, {"entityRefs": [1]}):
        yield "POST", "entities/by-refs", body
    for path in ENTITIES:
        yield "GET", f"entities/by-name/{path}", None
    for path in NOWHERE:
        yield "GET", path, None
    yield "PUT", "entities", {}
    url = {"type": "url", "target": "https://a.example/x.yaml"}
    for body in (
        {},
        {"type": "url"},
        {"type": "file", "target": "/x"},
        {**url, "target": 7},
        {**url, "more": 1},
    ):
        yield "POST", "locations", body
    yield "POST", "locations?onConflict=some", url
    for body in (
        {"query": {"name": "x"}}, {"query": {"$all": []}}, {"query": {"type": None}}, {"query": {"type": {"$near": 1}}},
        {"query": {"type": "url"}}, {"limit": 0}, {"limit": "x"}, {"cursor": ""}, {"cursor": "x"},
    ):  # fmt: skip
        yield "POST", "locations/by-query", body
    good = _component("new")
    at = "url:https://a.example/x.yaml"
    for entity, location in (
        (good, at), (good, "file:/x.yaml"), (good, "x"), ({**good, "kind": 7}, at), ({**good, "spec": {}}, at),
        ({**good, "metadata": {"name": "a b"}}, at), ({**good, "kind": "Komponent"}, at),
    ):  # fmt: skip
        yield "POST", "validate-entity", {"entity": entity, "location": location}
    for target in (
        "github.com/acme/pay",
        "gitlab.com/acme/pay",
        "git.acme.example/acme/pay",
        "github.com/a/b/tree/main/x",
    ):
        yield "POST", "analyze-location", {"location": {"type": "url", "target": f"https://{target}"}}
    yield "POST", "analyze-location", {"location": "x"}
    for body in ({"entityRef": "component:default/nobody"}, {}):
        yield "POST", "refresh", body
