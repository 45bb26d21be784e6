"""Where our catalog API answers otherwise than Backstage's: the list in the documentation, each line with its test."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from access.models import User
from catalog.models import Entity
from integrations.models import CatalogLocation
from integrations.tasks import read_location
from tests.catalog.saying import claim, say
from tests.docs.pages import section
from tests.integrations.servers import serve

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

NOBODYS = "00000000-0000-4000-8000-000000000000"
YAML = (
    "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: pay}\n"
    "spec: {type: service, lifecycle: production, owner: crew}\n"
)


class Ask:
    """Asks as an administrator, or as somebody else.

    :ivar url: of a web server that has a file at every path.
    """

    def __init__(self, headers: dict[str, str], url: str) -> None:
        self.headers, self.url = headers, url

    def __call__(self, path: str, body: Any = None, *, method: str = "", status: int = 200) -> Any:
        sent = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        send = getattr(Client(), method or ("get" if body is None else "post"))
        answer = send(f"/api/catalog/{path}", headers=self.headers, **sent)
        text = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert answer.status_code == status, text[:500]
        return json.loads(text) if text else None

    def names(self, query: str) -> list[str]:
        return [one["metadata"]["name"] for one in self(f"entities/by-query?{query}")["items"]]

    def add(self, target: str) -> Any:
        made = self("locations", {"type": "url", "target": target}, status=201)["location"]
        read_location(location_id=CatalogLocation.objects.get(uid=made["id"]).pk)
        return made


@pytest.fixture
def ask(ana: User, as_token: Callable[..., dict[str, str]], settings: Any) -> Iterator[Ask]:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    service = {"type": "service", "lifecycle": "production", "owner": "crew"}
    say(
        "yaml:a",
        claim("group:crew", {"type": "team", "children": []}),
        claim(
            "component:alpha",
            {**service, "nothing": None, "list": ["b", "a"], "dependsOn": ["resource:z", "component:loose"]},
            metadata={"title": "100% sure", "tags": ["java"], "labels": {"Tier": "one"}},
        ),
        claim("component:loose", {"type": "library"}),
    )
    with serve(lambda _request: (200, {"Content-Type": "text/yaml"}, YAML.encode())) as url:
        yield Ask(as_token(ana), url)


def unknown_values(ask: Ask) -> None:
    loose = ask("entities/by-name/component/default/loose")
    assert loose["spec"] == {"type": "library", "lifecycle": "unknown", "owner": "unknown"}
    assert ask.names("filter=spec.lifecycle=unknown") == []


def nulls(ask: Ask) -> None:
    assert "nothing" not in ask("entities/by-name/component/default/alpha")["spec"]
    assert ask.names("filter=spec.nothing") == []


def odd_identifiers(ask: Ask) -> None:
    for path in ("locations/x", "entities/by-uid/x"):
        assert ask(path, status=404)["error"]["name"] == "NotFoundError"


def once(ask: Ask) -> None:
    assert ask.names("orderField=spec.list&filter=metadata.name=alpha") == ["alpha"]


def wildcards(ask: Ask) -> None:
    for term, found in (("%25", ["alpha"]), ("_", []), ("100%25", ["alpha"])):
        assert ask.names(f"fullTextFilterTerm={term}&fullTextFilterFields=metadata.title") == found


def several_operators(ask: Ask) -> None:
    query = {"metadata.name": {"$in": ["alpha"], "$exists": False}}
    assert ask("entities/by-query", {"query": query})["items"] == []


def order_of_lists(ask: Ask) -> None:
    alpha = ask("entities/by-name/component/default/alpha")
    assert alpha["spec"]["dependsOn"] == ["resource:z", "component:loose"]


def case_of_fields(ask: Ask) -> None:
    assert ask("entity-facets?facet=metadata.labels.tier")["facets"]["metadata.labels.tier"] == []
    assert ask("entity-facets?facet=metadata.labels.Tier")["facets"]["metadata.labels.Tier"] != []
    assert ask.names("orderField=METADATA.NAME&filter=kind=component") == ["alpha", "loose"]
    assert ask.names("filter=METADATA.LABELS.TIER=ONE") == ["alpha"]


def facets_of_elements(ask: Ask) -> None:
    assert ask("entity-facets?facet=metadata.tags.java")["facets"]["metadata.tags.java"] == []
    assert ask("entity-facets?facet=metadata.tags")["facets"]["metadata.tags"] == [
        {"value": "java", "count": 1}
    ]


def etags(ask: Ask) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", ask("entities/by-name/component/default/alpha")["metadata"]["etag"])


def limits(ask: Ask) -> None:
    for body in (
        {"query": {"$all": [{}] * 2_000}},
        {"query": {"kind": {"$in": ["x"] * 10_001}}},
        {"query": {"$any": [{"metadata.title": {"$hasPrefix": "x"}}] * 21}},
        {"query": {"$any": [{"relations.ownedBy": "a:b/c"}] * 101}},
        {"fields": [f"a{n}" for n in range(101)]},
        {"limit": 10**15},
    ):
        ask("entities/by-query", body, status=400)
    ask("entities/by-refs", {"entityRefs": ["a:b/c"] * 10_001}, status=400)


def further_keys(ask: Ask) -> None:
    assert ask.names("filter=source=a,kind=component&orderField=metadata.name") == ["alpha", "loose"]
    assert ask.names("filter=conflict") == []


def no_location_entities(ask: Ask) -> None:
    made = ask.add(f"{ask.url}/pay.yaml")
    kind, _colon, rest = made["entityRef"].partition(":")
    ask(f"entities/by-name/{kind}/{rest}", status=404)
    ask("refresh", {"entityRef": made["entityRef"]})
    assert len(ask("entities/by-name/component/default/pay/ancestry")["items"]) == 1


def no_annotations(ask: Ask) -> None:
    target = f"{ask.url}/pay.yaml"
    tried = ask("locations?dryRun=true", {"type": "url", "target": target}, status=201)["entities"]
    assert tried[1]["metadata"]["annotations"]["backstage.io/managed-by-location"] == f"url:{target}"
    made = ask.add(target)
    assert "annotations" not in ask("entities/by-name/component/default/pay")["metadata"]
    assert ask("locations/by-entity/component/default/pay") == made


def files_of_the_server(ask: Ask) -> None:
    CatalogLocation.objects.create(address="file:/srv/catalog/all.yaml")
    assert [one["data"]["type"] for one in ask("locations")] == ["file"]


def by_a_worker(ask: Ask) -> None:
    target = f"{ask.url}/pay.yaml"
    made = ask("locations", {"type": "url", "target": target}, status=201)["location"]
    ask("entities/by-name/component/default/pay", status=404)
    read_location(location_id=CatalogLocation.objects.get().pk)
    ask(f"locations/{made['id']}", method="delete", status=204)
    ask(f"locations/{made['id']}", status=404)
    ask("entities/by-name/component/default/pay")
    ask("locations", {"type": "url", "target": "http://169.254.169.254/x.yaml"}, status=400)


def repositories(ask: Ask) -> None:
    body = {"type": "url", "target": f"{ask.url}/acme/pay/tree/main/docs"}
    made = ask("locations", body, status=201)["location"]
    assert made["target"] == f"{ask.url}/acme/pay/blob/main/docs/**/*.{{yaml,yml}}"


def deleting(ask: Ask) -> None:
    ask.add(f"{ask.url}/pay.yaml")
    ask(f"entities/by-uid/{Entity.objects.get(name='pay').uid}", method="delete", status=204)
    ask("entities/by-name/component/default/pay")


def analysis(ask: Ask) -> None:
    body = {"location": {"type": "url", "target": f"{ask.url}/acme/pay"}}
    found = ask("analyze-location", body)
    assert (found["existingEntityFiles"], len(found["generateEntities"])) == ([], 1)


def validation(ask: Ask) -> None:
    entity = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "x"},
        "spec": {},
    }
    ask.headers = {}
    ask("validate-entity", {"entity": entity, "location": "url:https://a.example/x"}, status=401)


def limits_of_locations(ask: Ask) -> None:
    ask("locations/by-query", {"query": {"$any": [{}] * 200}}, status=400)
    deep: Any = {}
    for _ in range(21):
        deep = {"$not": deep}
    ask("locations/by-query", {"query": deep}, status=400)


def bodies(ask: Ask) -> None:
    refs = [f"component:default/{'x' * 40}-{n}" for n in range(3_000)]
    assert len(json.dumps(refs)) > 100_000
    assert ask("entities/by-refs", {"entityRefs": refs})["items"] == [None] * 3_000


# By how a line of the list begins.
DEVIATIONS: dict[str, Callable[[Ask], None]] = {
    "Where Backstage requires a value": unknown_values,
    "A null in a file": nulls,
    "An identifier that is none": odd_identifiers,
    "In a sorted list": once,
    "`%` and `_` in a term": wildcards,
    "Of several operators": several_operators,
    "What is depended on": order_of_lists,
    "A sorted field, a searched one": case_of_fields,
    "Facets count no keys": facets_of_elements,
    "`metadata.etag` is a digest": etags,
    "One request has at most": limits,
    "`source` and `conflict`": further_keys,
    "A registered location is no entity": no_location_entities,
    "Entities bear no annotations": no_annotations,
    "Locations of files on the server": files_of_the_server,
    "Files are read and forgotten by a worker": by_a_worker,
    "The target of a location": repositories,
    "Deleting an entity": deleting,
    "`analyze-location` finds": analysis,
    "`validate-entity` takes": validation,
    "A filter of locations": limits_of_locations,
    "A body may be larger": bodies,
}


def test_each_line_of_the_list_has_a_test() -> None:
    lines = re.findall(r"^- (.*)$", section("backstage-api.md", "Where it answers otherwise"), re.MULTILINE)
    assert len(lines) == len(DEVIATIONS)
    for line, start in zip(lines, DEVIATIONS, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("start", DEVIATIONS)
def test_it_is_so(ask: Ask, start: str) -> None:
    DEVIATIONS[start](ask)


def test_who_may_only_read_validates_nothing(vic: User, as_token: Callable[..., dict[str, str]]) -> None:
    body = {"entity": {}, "location": "url:https://a.example/x"}
    assert Ask(as_token(vic), "")("validate-entity", body, status=403)["error"]["name"] == "NotAllowedError"


class TestWhatWeAdd:
    """Kinds of our own, provenance, problems, ties and overrides are beyond what Backstage's clients know."""

    def test_it_changes_no_shape_that_they_read(self, ask: Ask, world: dict[str, Any], ben: User) -> None:
        from catalog.services.edit import override_field

        override_field(
            user=ben,
            entity=Entity.objects.get(ref="component:default/alpha"),
            path="spec.lifecycle",
            value="old",
        )
        entities = ask("entities")
        assert {one["apiVersion"] for one in entities} >= {"backstage.io/v1alpha1", "portico/v1"}
        for one in entities:
            assert set(one) <= {"apiVersion", "kind", "metadata", "spec", "relations"}
            assert {"name", "namespace", "uid", "etag"} <= set(one["metadata"])
            assert all(set(relation) == {"type", "targetRef"} for relation in one["relations"])
            ref = f"{one['kind']}:{one['metadata']['namespace']}/{one['metadata']['name']}".lower()
            assert ask("entities/by-refs", {"entityRefs": [ref]})["items"] == [one]
        page, found = ask("entities/by-query?limit=2"), []
        while True:
            assert set(page) == {"items", "totalItems", "pageInfo"}
            found += page["items"]
            if (cursor := page["pageInfo"].get("nextCursor")) is None:
                break
            assert set(json.loads(base64.b64decode(cursor))) <= {
                "orderFields", "orderFieldValues", "firstSortFieldValues", "isPrevious", "query", "fullTextFilter",
                "totalItems",
            }  # fmt: skip
            page = ask(f"entities/by-query?limit=2&cursor={cursor}")
        assert sorted(one["metadata"]["uid"] for one in found) == sorted(
            one["metadata"]["uid"] for one in entities
        )
