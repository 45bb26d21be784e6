"""Every method of `@backstage/catalog-client`, by Node against a portal that runs as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from django.conf import settings

from tests.backstage.node import Script, node_programs, packages
from tests.docs.pages import block
from tests.e2e.stack import Portal, redis_program, run_portal
from tests.integrations.servers import required, serve, wait_for

# What the client calls its own, and what no client of a catalog asks it for.
PRIVATE = {
    "constructor", "requestIgnored", "requestRequired", "requestOptional", "getFilterValue", "queryEntitiesByPredicate",
    "getEntityFacetsByPredicate",
}  # fmt: skip
COUNT = 45


def document(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


def component(name: str, **spec: Any) -> dict[str, Any]:
    return document(
        "Component", name, {"type": "service", "lifecycle": "production", "owner": "crew", **spec}
    )


CATALOG = [
    document("Group", "crew", {"type": "team", "children": []}, title="The crew"),
    document("System", "shop", {"owner": "crew"}),
    *(component(f"part-{n:02}", system="shop", rank=n) for n in range(COUNT)),
    document("Resource", "store", {"type": "database", "owner": "crew", "dependencyOf": ["component:part-00"]}),
    {**component("odd"), "metadata": {"name": "Odd_One", "tags": ["java"], "annotations": {"a.example/B": "c,d"}}},
]  # fmt: skip


class Catalog:
    """The client, pointed at a portal with some files.

    :ivar files: what a web server serves, by path.
    :ivar called: the methods that were called.
    """

    def __init__(self, script: Script, url: str, files: dict[str, str], portal: Portal, token: str) -> None:
        self._script, self.url, self.files, self.portal, self.token = script, url, files, portal, token
        self.called: set[str] = set()

    def put(self, name: str, *documents: Any) -> str:
        """Have a file served.

        :returns: its address.
        """
        self.files[f"/{name}"] = yaml.safe_dump_all(documents)
        return f"{self.url}/{name}"

    def answer(self, method: str, *arguments: Any) -> dict[str, Any]:
        """What a method gives: a result or an error."""
        self.called.add(method)
        found: dict[str, Any] = self._script.ask({"method": method, "args": arguments})
        return found

    def call(self, method: str, *arguments: Any) -> Any:
        found = self.answer(method, *arguments)
        assert "error" not in found, found
        return found.get("result")

    def fails(self, method: str, *arguments: Any) -> tuple[int, str]:
        """The status and the name that a method fails with."""
        error = self.answer(method, *arguments)["error"]
        return error["status"], error["body"]["error"]["name"]

    def names(self, **request: Any) -> list[str]:
        return [one["metadata"]["name"] for one in self.call("getEntities", request)["items"]]

    def wait_for(self, ref: str, *, gone: bool = False) -> Any:
        """An entity, once it is there, or no more."""
        return wait_for(
            lambda: (self.call("getEntityByRef", ref) is None) is gone and [self.call("getEntityByRef", ref)],
            f"{ref} to {'go' if gone else 'come'}",
        )[0]


def forget_checkout(portal: Portal, token: str) -> None:
    """Take away what a first start connects, the checkout's own repository: it is no part of the test's catalog."""
    headers = {"Authorization": f"Bearer {token}"}
    listed = httpx2.get(f"{portal.url}/api/v1/connections/", headers=headers).json()["results"]
    for connection in listed:
        path = f"{portal.url}/api/v1/connections/{connection['slug']}/"
        assert httpx2.delete(path, headers=headers).status_code < 300
    end = time.monotonic() + 60
    while httpx2.get(f"{portal.url}/api/v1/entities/", headers=headers).json()["total"]:
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture(scope="module")
def catalog(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]
) -> Iterator[Catalog]:
    """A portal into which the client has registered the catalog's file."""
    files: dict[str, str] = {}

    def served(request: Any) -> tuple[int, dict[str, str], bytes]:
        text = files.get(request.path)
        return (404, {}, b"") if text is None else (200, {"Content-Type": "text/yaml"}, text.encode())

    with required():
        running = run_portal(
            tmp_path_factory.mktemp("portal"),
            database=settings.DATABASES["default"],
            redis=redis_program(require_program),
        )
        with serve(served) as url, running as portal:
            token = portal.manage("create_token", "--user", "admin").strip().splitlines()[-1]
            forget_checkout(portal, token)
            script = Script("client.js", f"{portal.url}/api/catalog", token)
            made = Catalog(script, url, files, portal, token)
            made.put("catalog.yaml", *CATALOG)
            made.call("addLocation", {"target": f"{url}/catalog.yaml"})
            made.wait_for("component:part-44")
            portal.wait_until_synced()
            yield made
            script.close()


class TestEntities:
    def test_lists(self, catalog: Catalog) -> None:
        everything = catalog.call("getEntities")["items"]
        assert len(everything) == len(CATALOG)
        found = catalog.names(
            filter={"kind": "component", "metadata.name": ["PART-01", "odd_one", "part-03"]},
            order=[{"field": "metadata.name", "order": "desc"}],
        )
        assert found == ["part-03", "part-01", "Odd_One"]
        assert catalog.names(filter=[{"kind": "group"}, {"metadata.tags": "$there"}], limit=9) == [
            "Odd_One",
            "crew",
        ]
        cut = catalog.call("getEntities", {"filter": {"kind": "group"}, "fields": ["metadata.name", "kind"]})
        assert cut["items"] == [{"kind": "Group", "metadata": {"name": "crew"}}]
        by_ref = {"filter": {"kind": "component", "metadata.namespace": "default"}, "limit": 2, "offset": 1}
        assert catalog.names(**by_ref) == ["part-00", "part-01"]

    def test_one(self, catalog: Catalog) -> None:
        odd = catalog.call("getEntityByRef", "component:default/odd_one")
        assert odd["metadata"]["annotations"]["a.example/B"] == "c,d"
        assert {"type": "ownedBy", "targetRef": "group:default/crew"} in odd["relations"]
        named = {"kind": "Component", "namespace": "Default", "name": "ODD_ONE"}
        assert catalog.call("getEntityByName", named) == odd
        assert catalog.call("getEntityByRef", "component:default/nobody") is None
        assert catalog.call("getEntityByName", {"kind": "component", "name": "nobody"}) is None

    def test_some_by_refs(self, catalog: Catalog) -> None:
        refs = ["component:default/PART-07", "component:default/nobody", "part-07", "group:default/crew"]
        items = catalog.call("getEntitiesByRefs", {"entityRefs": refs, "fields": ["metadata.name"]})["items"]
        assert items == [{"metadata": {"name": "part-07"}}, None, None, {"metadata": {"name": "crew"}}]
        many = [f"component:default/part-{n % 60:02}" for n in range(2_500)]
        found = catalog.call("getEntitiesByRefs", {"entityRefs": many})["items"]
        assert [one and one["metadata"]["name"] for one in found] == [
            f"part-{n % 60:02}" if n % 60 < COUNT else None for n in range(2_500)
        ], "in more requests than one"
        for kept in ({"filter": {"kind": "group"}}, {"query": {"kind": "group"}}):
            only = catalog.call("getEntitiesByRefs", {"entityRefs": refs, **kept})["items"]
            assert [one and one["kind"] for one in only] == [None, None, None, "Group"]
        both = {"entityRefs": refs, "filter": {"kind": "group"}, "query": {"metadata.name": "part-07"}}
        assert catalog.call("getEntitiesByRefs", both)["items"] == [None] * 4

    @pytest.mark.parametrize(
        "asked",
        [
            {"filter": {"kind": "component"}},
            {"query": {"kind": "component"}},
            {"filter": {"kind": "component"}, "query": {"spec.type": {"$hasPrefix": "serv"}}},
        ],
        ids=["filter", "query", "both"],
    )
    def test_pages_by_cursor_forth_and_back(self, catalog: Catalog, asked: dict[str, Any]) -> None:
        order = {"orderFields": {"field": "metadata.name", "order": "asc"}}
        page = catalog.call("queryEntities", {**asked, **order, "limit": 10})
        wanted = sorted(one["metadata"]["name"].lower() for one in CATALOG if one["kind"] == "Component")
        seen, pages = [], [page]
        assert page["totalItems"] == len(wanted)
        while "nextCursor" in page["pageInfo"]:
            page = catalog.call("queryEntities", {"cursor": page["pageInfo"]["nextCursor"], "limit": 10})
            pages.append(page)
        for one in pages:
            seen += [entity["metadata"]["name"].lower() for entity in one["items"]]
            assert one["totalItems"] == len(wanted)
        assert seen == wanted
        while "prevCursor" in page["pageInfo"]:
            page = catalog.call("queryEntities", {"cursor": page["pageInfo"]["prevCursor"], "limit": 10})
            pages.pop()
            assert page["items"] == pages[-1]["items"]
        assert len(pages) == 1

    def test_texts_totals_and_fields(self, catalog: Catalog) -> None:
        asked = {"fullTextFilter": {"term": " CREW ", "fields": ["metadata.title", "spec.owner"]}}
        assert catalog.call("queryEntities", asked)["totalItems"] == len(CATALOG)
        asked["fullTextFilter"]["fields"] = ["metadata.title"]
        for more in ({}, {"query": {"kind": {"$exists": True}}}):
            found = catalog.call("queryEntities", {**asked, **more, "fields": ["metadata.name"]})
            assert found["items"] == [{"metadata": {"name": "crew"}}]
        none = catalog.call("queryEntities", {"totalItems": "exclude", "limit": 1, "offset": 2})
        assert (none["totalItems"], len(none["items"])) == (0, 1)

    def test_streams(self, catalog: Catalog) -> None:
        for asked in ({"filter": {"kind": "component"}}, {"query": {"kind": "component"}}):
            pages = catalog.call("streamEntities", {**asked, "pageSize": 20})
            assert [len(page) for page in pages] == [20, 20, COUNT + 1 - 40]
            assert len({one["metadata"]["uid"] for page in pages for one in page}) == COUNT + 1

    def test_facets(self, catalog: Catalog) -> None:
        for asked in ({"filter": {"kind": "component"}}, {"query": {"kind": "component"}}):
            found = catalog.call("getEntityFacets", {**asked, "facets": ["kind", "spec.owner", "spec.none"]})
            assert found["facets"] == {
                "kind": [{"value": "Component", "count": COUNT + 1}],
                "spec.owner": [{"value": "crew", "count": COUNT + 1}],
                "spec.none": [],
            }

    def test_ancestors(self, catalog: Catalog) -> None:
        found = catalog.call("getEntityAncestors", {"entityRef": "component:default/Odd_One"})
        assert found["rootEntityRef"] == "component:default/odd_one"
        assert found["items"][0]["entity"] == catalog.call("getEntityByRef", "component:odd_one")
        assert catalog.fails("getEntityAncestors", {"entityRef": "component:default/nobody"})[0] == 404

    def test_what_makes_no_sense_fails_as_there(self, catalog: Catalog) -> None:
        assert catalog.fails("queryEntities", {"query": {"$some": []}}) == (400, "InputError")
        assert catalog.fails("queryEntities", {"cursor": "bm9uZQ=="}) == (400, "InputError")
        assert catalog.fails("getEntities", {"fields": ["a[0]"]}) == (400, "InputError")

    def test_a_new_one_that_a_program_declared_is_removed(self, catalog: Catalog) -> None:
        """By Portico's own API, for Backstage's declares none."""
        new = component("by-hand")
        request = urllib.request.Request(
            f"{catalog.portal.url}/api/v1/entities/",
            json.dumps(new).encode(),
            {"Authorization": f"Bearer {catalog.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status < 300
        uid = catalog.wait_for("component:by-hand")["metadata"]["uid"]
        assert catalog.call("removeEntityByUid", uid) is None
        catalog.wait_for("component:by-hand", gone=True)


class TestLocations:
    def test_the_life_of_one(self, catalog: Catalog) -> None:
        target = catalog.put("life.yaml", component("life"))
        tried = catalog.call("addLocation", {"target": target, "dryRun": True})
        assert (tried["exists"], [one["kind"] for one in tried["entities"]]) == (
            False,
            ["Location", "Component"],
        )
        assert catalog.call("getLocationByRef", f"url:{target}") is None
        made = catalog.call("addLocation", {"type": "url", "target": target})["location"]
        assert catalog.fails("addLocation", {"target": target}) == (409, "ConflictError")
        again = catalog.call("addLocation", {"target": target, "onConflict": "refresh"})
        assert again["location"] == made
        catalog.wait_for("component:life")
        assert catalog.call("addLocation", {"target": target, "dryRun": True})["exists"] is True
        assert catalog.call("getLocationById", made["id"]) == made
        assert catalog.call("getLocationByRef", f"url:{target}") == made
        assert catalog.call("getLocationByEntity", "component:default/life") == made
        moved = catalog.put("moved.yaml", component("life", type="library"))
        there = catalog.call("updateLocation", made["id"], {"target": moved})
        assert (there["id"], there["target"]) == (made["id"], moved)
        wait_for(
            lambda: catalog.call("getEntityByRef", "component:life")["spec"]["type"] == "library",
            "the location to be read where it is now",
        )
        assert catalog.call("removeLocationById", made["id"]) is None
        assert catalog.call("getLocationById", made["id"]) is None
        catalog.wait_for("component:life", gone=True)
        assert catalog.fails("removeLocationById", made["id"]) == (404, "NotFoundError")

    def test_many_are_listed_queried_and_streamed(self, catalog: Catalog) -> None:
        made = [
            catalog.call("addLocation", {"target": catalog.put(f"{name}.yaml", component(name))})["location"]
            for name in ("mercury", "venus", "earth")
        ]
        listed = catalog.call("getLocations")["items"]
        assert all(one in listed for one in made)
        query = {"target": {"$hasPrefix": catalog.url}}
        page = catalog.call("queryLocations", {"limit": 2, "query": query})
        rest = catalog.call("queryLocations", {"cursor": page["pageInfo"]["nextCursor"]})
        assert page["totalItems"] == len(page["items"] + rest["items"]) == len(listed)
        streamed = catalog.call("streamLocations", {"limit": 1, "query": query})
        assert [one for page in streamed for one in page] == page["items"] + rest["items"]

    def test_a_change_is_seen_when_one_asks_for_it(self, catalog: Catalog) -> None:
        catalog.call("addLocation", {"target": catalog.put("young.yaml", component("young"))})
        catalog.wait_for("component:young")
        catalog.put("young.yaml", component("young", type="library"))
        begun = time.monotonic()
        assert catalog.call("refreshEntity", "component:default/young") is None
        wait_for(
            lambda: catalog.call("getEntityByRef", "component:young")["spec"]["type"] == "library",
            "the file to be read again",
        )
        assert time.monotonic() - begun < 30
        assert catalog.fails("refreshEntity", "component:default/nobody") == (404, "NotFoundError")

    def test_an_entity_is_validated(self, catalog: Catalog) -> None:
        good = catalog.call("validateEntity", component("new"), "url:https://a.example/x.yaml")
        assert good == {"valid": True}
        bad = catalog.call("validateEntity", component("new", type=7), "url:https://a.example/x.yaml")
        assert bad["valid"] is False
        assert "spec.type" in bad["errors"][0]["message"]
        assert catalog.call("validateEntity", component("new"), "file:/x.yaml")["valid"] is False

    def test_a_repository_is_analyzed(self, catalog: Catalog) -> None:
        asked = {"location": {"type": "url", "target": "https://github.com/acme/pay"}}
        (found,) = catalog.call("analyzeLocation", asked)["generateEntities"]
        assert found["entity"]["metadata"]["annotations"] == {"github.com/project-slug": "acme/pay"}
        asked["location"]["target"] = "nowhere"
        assert catalog.fails("analyzeLocation", asked) == (400, "InputError")


class TestTheGuide:
    """What the documentation tells people to run."""

    def test_the_script_lists_all_components(self, catalog: Catalog, tmp_path: Path) -> None:
        said = self.run([sys.executable], "components.py", catalog, tmp_path)
        wanted = {one["metadata"]["name"] for one in CATALOG if one["kind"] == "Component"}
        assert wanted <= set(said.splitlines())

    def test_the_client_counts_owners(self, catalog: Catalog, tmp_path: Path) -> None:
        said = self.run([str(node_programs()[0])], "owners.js", catalog, tmp_path)
        assert [line.partition(" ")[0] for line in said.splitlines()] == ["crew"]

    def test_the_settings_are_yaml(self) -> None:
        for title in ("app-config.yaml", "app-config.yaml, too"):
            assert "${PORTAL}/api/catalog" in str(yaml.safe_load(block("backstage-api.md", title)))

    @staticmethod
    def run(command: list[str], title: str, catalog: Catalog, folder: Path) -> str:
        script = folder / title
        script.write_text(block("backstage-api.md", title))
        variables = {
            **os.environ,
            "PORTAL": catalog.portal.url,
            "TOKEN": catalog.token,
            "NODE_PATH": str(packages() / "node_modules"),
        }
        ran = subprocess.run(
            [*command, str(script)], env=variables, capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


def test_every_method_was_called(catalog: Catalog, request: pytest.FixtureRequest) -> None:
    """The last of this module; a run of a part of it shows nothing."""
    tests = [item for item in request.session.items if item.fspath == request.node.fspath]
    if len(tests) < 15:
        pytest.skip("only a part of these tests runs")
    methods = set(catalog.answer("methods")["result"]) - PRIVATE
    assert methods <= catalog.called, methods - catalog.called
