"""The catalog as a graph: what lies around, what breaks, circles and orphans; and that what is hidden is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.definitions import document_types
from access.models import User
from base.errors import InvalidInput
from catalog import graph, structure
from catalog.kinds import forget_kinds
from catalog.models import Audience, Entity, Rank, RelationType, Tie
from tests.catalog.saying import claim, component, entity, say, source

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


def api(name: str) -> Any:
    return claim(
        f"api:{name}", {"type": "openapi", "lifecycle": "production", "owner": "team", "definition": "-"}
    )


@pytest.fixture
def shop() -> None:
    """web consumes the API of pay, which is part of the shop and depends on a database; the team owns all of it."""
    say(
        "yaml:a",
        claim("group:team", {"type": "team", "children": [], "profile": {"email": "team@acme.example"}}),
        claim("system:shop", {"owner": "team"}),
        claim("system:mall", {"owner": "others"}),
        claim("resource:db", {"type": "database", "owner": "team", "system": "shop"}),
        api("pay-api"),
        component("pay", system="shop", dependsOn=["resource:db"], providesApis=["pay-api"]),
        component("cart", system="shop"),
        component("web", owner="", consumesApis=["pay-api"], dependsOn=["component:gone"]),
        component("far", owner="others", dependsOn=["component:web"]),
    )


def refs(found: graph.Graph) -> dict[str, int]:
    return {node.entity.ref: node.level for node in found.nodes}


class TestExploring:
    def test_it_finds_each_thing_once_with_its_level_and_all_that_is_between(
        self, ben: User, shop: None
    ) -> None:
        found = graph.explore(ben, [entity("component:default/pay")], depth=1)
        assert refs(found) == {
            "component:default/pay": 0,
            "api:default/pay-api": 1,
            "group:default/team": 1,
            "resource:default/db": 1,
            "system:default/shop": 1,
        }
        assert ("resource:default/db", "partOf", "system:default/shop") in {
            (edge.source, edge.type, edge.target) for edge in found.edges
        }
        assert not found.missing
        assert not found.is_cut

    def test_depth_direction_kinds_and_relations_narrow_it(self, ben: User, shop: None) -> None:
        pay = entity("component:default/pay")
        assert "component:default/web" in refs(graph.explore(ben, [pay], depth=2))
        out = refs(graph.explore(ben, [pay], depth=3, direction=graph.Direction.OUT))
        assert "component:default/web" not in out
        back = refs(
            graph.explore(ben, [entity("api:default/pay-api")], depth=2, direction=graph.Direction.IN)
        )
        assert back == {
            "api:default/pay-api": 0, "component:default/pay": 1,
            "component:default/web": 1, "component:default/far": 2,
        }  # fmt: skip
        assert set(refs(graph.explore(ben, [pay], kinds=["api"]))) == {pay.ref, "api:default/pay-api"}
        assert set(refs(graph.explore(ben, [pay], relations=["hasPart"], depth=2))) == {
            pay.ref, "system:default/shop", "component:default/cart", "resource:default/db",
        }  # fmt: skip

    def test_teams_are_no_way_through_unless_one_says_so(self, ben: User, shop: None) -> None:
        db = entity("resource:default/db")
        near = graph.explore(
            ben, [db], depth=2, direction=graph.Direction.BOTH, kinds=["group", "resource", "api"]
        )
        assert "api:default/pay-api" not in refs(near)
        team = next(node for node in near.nodes if node.entity.kind == "group")
        assert (team.more, team.is_open) == (1, False)
        for more in ({"relations": ["ownedBy"]}, {"opened": ["group:default/team"]}):
            found = graph.explore(ben, [db], depth=2, kinds=["group", "resource", "api"], **more)  # type: ignore[arg-type]
            assert refs(found)["api:default/pay-api"] == 2

    def test_what_is_opened_is_walked_on_from_however_far(self, ben: User, shop: None) -> None:
        pay = entity("component:default/pay")
        found = graph.explore(ben, [pay], depth=1, opened=["api:default/pay-api", "component:default/web"])
        assert refs(found)["component:default/far"] == 3
        assert found.missing == ["component:default/gone"]

    def test_it_is_cut_at_its_limit_and_says_so(self, ben: User) -> None:
        say(
            "yaml:a",
            *[component(f"c{n:02}", dependsOn=["component:hub"]) for n in range(30)],
            component("hub"),
        )
        found = graph.explore(ben, [entity("component:default/hub")], most=10)
        assert (len(found.nodes), found.is_cut) == (10, True)
        assert found.nodes[0].more == 21
        assert refs(found) == refs(graph.explore(ben, [entity("component:default/hub")], most=10))

    def test_what_is_missing_counts_among_what_it_is_cut_to(self, ben: User) -> None:
        say("yaml:a", component("hub", owner="", dependsOn=[f"component:gone-{n}" for n in range(9)]))
        found = graph.explore(ben, [entity("component:default/hub")], most=5)
        assert (len(found.nodes), len(found.missing), found.is_cut) == (1, 4, True)
        assert len(found.edges) == 4

    def test_ties_are_ways_and_forbidden_ones_are_not(self, ben: User, shop: None) -> None:
        say("connection:git/repositories", claim("repository:pay", {}, rank=Rank.CONNECTION))
        tie = Tie.objects.create(
            source=entity("component:default/pay"), type="hasSource", target=entity("repository:default/pay")
        )
        found = graph.explore(ben, [tie.source], depth=1)
        assert refs(found)["repository:default/pay"] == 1
        assert [edge.type for edge in found.edges if edge.is_tie] == ["hasSource"]
        Tie.objects.update(state="forbidden", decided_by="ana")
        assert "repository:default/pay" not in refs(graph.explore(ben, [tie.source], depth=1))

    def test_what_goes_meanwhile_is_not_there(
        self, ben: User, shop: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def meanwhile(*args: Any, **more: Any) -> list[Any]:
            found = steps(*args, **more)
            Entity.objects.filter(ref="component:default/web").update(deleted_at=timezone.now())
            return found

        steps = graph._steps
        monkeypatch.setattr(graph, "_steps", meanwhile)
        found = graph.explore(ben, [entity("api:default/pay-api")], depth=1)
        assert "component:default/pay" in refs(found)
        assert "component:default/web" not in refs(found)
        Entity.objects.update(deleted_at=None)
        hits = graph.impact_of(ben, entity("api:default/pay-api")).hits
        assert not {"component:default/web", "component:default/far"} & {hit.entity.ref for hit in hits}

    @pytest.mark.parametrize("width", [3, 60])
    def test_one_statement_a_level_however_wide(self, ben: User, width: int) -> None:
        level = [component(f"a{n}", dependsOn=["component:root"]) for n in range(width)]
        level += [component(f"b{n}", dependsOn=[f"component:a{n}"]) for n in range(width)]
        say("yaml:a", component("root"), *level)
        root = entity("component:default/root")
        graph.explore(ben, [root], depth=1)  # definitions and grants are kept
        with CaptureQueriesContext(connection) as queries:
            graph.explore(ben, [root], depth=3)
        # 3 levels, the things, what is next to them, what is between them, what is missing
        assert len(queries) == 7
        with CaptureQueriesContext(connection) as queries:
            assert len(graph.impact_of(ben, root).hits) == 2 * width
        # 3 levels, the things, the owners
        assert len(queries) == 5


class TestImpact:
    def hits(self, viewer: User, ref: str) -> dict[str, tuple[int, bool]]:
        found = graph.impact_of(viewer, entity(ref))
        return {hit.entity.ref: (hit.level, hit.is_broken) for hit in found.hits}

    def test_what_needs_it_breaks_however_far_away(self, ben: User, shop: None) -> None:
        assert self.hits(ben, "resource:default/db") == {
            "component:default/pay": (1, True),
            "system:default/shop": (1, False),
            "api:default/pay-api": (2, True),
            "component:default/web": (3, True),
            "component:default/far": (4, True),
        }

    def test_a_whole_that_misses_a_part_spares_its_other_parts_and_takes_them_along_when_it_goes(
        self, ben: User, shop: None
    ) -> None:
        assert self.hits(ben, "component:default/cart") == {"system:default/shop": (1, False)}
        assert self.hits(ben, "system:default/shop")["component:default/cart"] == (1, True)

    def test_what_something_needs_and_who_owns_it_are_not_hit(self, ben: User, shop: None) -> None:
        assert "resource:default/db" not in self.hits(ben, "component:default/web")
        assert self.hits(ben, "group:default/team") == {}
        assert self.hits(ben, "component:default/far") == {}

    def test_a_circle_ends(self, ben: User) -> None:
        say("yaml:a", component("a", dependsOn=["component:b"]), component("b", dependsOn=["component:a"]))
        assert self.hits(ben, "component:default/a") == {"component:default/b": (1, True)}

    def test_owners_are_named_with_what_of_theirs_is_hit_and_how_to_reach_them(
        self, ben: User, shop: None
    ) -> None:
        found = graph.impact_of(ben, entity("resource:default/db"))
        told = [(o.ref, o.email, [hit.entity.ref for hit in o.hits]) for o in found.owners]
        assert told == [
            ("group:default/team", "team@acme.example",
             ["component:default/pay", "system:default/shop", "api:default/pay-api"]),
            ("group:default/others", "", ["component:default/far"]),
            ("", "", ["component:default/web"]),
        ]  # fmt: skip
        assert found.owners[1].entity is None
        assert found.broken == 4
        far = found.hits[-1]
        assert (far.by.ref, far.type, far.label) == ("component:default/web", "dependsOn", "depends on")

    def test_a_pack_says_what_breaks_by_its_own_relations(self, ben: User, shop: None) -> None:
        found = RelationType.objects.get(name="consumesApi")
        found.spec = {name: value for name, value in found.spec.items() if name != "impact"}
        found.save()
        forget_kinds()
        assert set(self.hits(ben, "component:default/pay")) == {"api:default/pay-api", "system:default/shop"}

    def test_a_wrong_word_for_it_is_refused_with_the_right_ones(self) -> None:
        check = document_types()["RelationType"].check
        with pytest.raises(InvalidInput, match="“source”, “target”, “part”"):
            check("eats", {"inverse": "eatenBy", "impact": "all"})


class TestWhatIsHidden:
    @pytest.fixture
    def chain(self) -> None:
        """here needs hush, which needs beyond; hush lies in a namespace that cleo may not see."""
        say(
            "yaml:a",
            component("elsewhere/beyond", owner=""),
            component("hush", owner="", dependsOn=["component:elsewhere/beyond"]),
            component("elsewhere/here", owner="", dependsOn=["component:default/hush"]),
        )

    def test_it_is_no_node_no_edge_no_number_and_no_way(self, cleo: User, ben: User, chain: None) -> None:
        beyond = entity("component:elsewhere/beyond")
        found = graph.explore(cleo, [beyond], depth=3)
        assert refs(found) == {beyond.ref: 0}
        assert (found.edges, found.missing, found.nodes[0].more) == ([], [], 0)
        assert graph.impact_of(cleo, beyond).hits == []
        assert len(graph.impact_of(ben, beyond).hits) == 2
        here = graph.explore(cleo, [entity("component:elsewhere/here")], depth=3)
        assert (len(here.nodes), here.missing) == (1, [])
        assert {e.ref for e in structure.alone(cleo)} == {beyond.ref, "component:elsewhere/here"}
        assert not structure.alone(ben).exists()

    def test_what_is_for_other_groups_is_hidden_too(self, vic: User, ben: User) -> None:
        say("yaml:a", component("open", owner=""))
        source("connection:inner/things")
        Audience.objects.create(name="inner", uid="00000000-0000-4000-8000-000000000001", groups=[7])
        say(
            "connection:inner/things",
            claim(
                "component:secret", {"type": "service", "dependsOn": ["component:open"]}, rank=Rank.CONNECTION
            ),
        )
        assert Entity.objects.get(ref="component:default/secret").audience == [7]
        found = graph.explore(vic, [entity("component:default/open")])
        assert set(refs(found)) == {"component:default/open"}
        assert found.nodes[0].more == 0
        assert graph.impact_of(vic, entity("component:default/open")).hits == []

    def test_a_circle_through_it_is_none(self, cleo: User, ben: User) -> None:
        say(
            "yaml:a",
            component("elsewhere/a", dependsOn=["component:default/hush"]),
            component("hush", dependsOn=["component:elsewhere/a"]),
        )
        assert len(structure.cycles(ben).found) == 1
        assert structure.cycles(cleo).found == []


class TestStructure:
    def test_circles_of_what_needs_what_and_of_each_other_relation(self, ben: User, shop: None) -> None:
        say(
            "yaml:b",
            component("x", dependsOn=["component:y"], providesApis=["x-api"]),
            component("y", dependsOn=["component:z"]),
            component("z", consumesApis=["x-api"]),
            api("x-api"),
            component("self", dependsOn=["component:self"]),
            claim("group:up", {"type": "team", "parent": "down", "children": []}),
            claim("group:down", {"type": "team", "parent": "up", "children": []}),
        )
        found = [(one.relation, one.size, [e.name for e in one.path]) for one in structure.cycles(ben).found]
        assert found == [
            ("needs", 1, ["self"]),
            ("childOf", 2, ["up", "down"]),
            ("needs", 4, ["x", "y", "z", "x-api"]),
        ]

    def test_a_long_chain_of_things_is_no_circle_and_no_deep_recursion(self, ben: User) -> None:
        say(
            "yaml:a", *[component(f"c{n}", owner="", dependsOn=[f"component:c{n + 1}"]) for n in range(1_500)]
        )
        assert structure.cycles(ben).found == []

    def test_what_is_alone_what_nobody_owns_and_what_leads_nowhere(self, ben: User, shop: None) -> None:
        say("yaml:b", component("lone", owner=""))
        assert [e.name for e in structure.alone(ben).order_by("name")] == ["lone", "mall"]
        assert {e.name for e in structure.ownerless(ben)} == {"lone", "web", "far", "mall"}
        assert ("web", "dependsOn", "component:default/gone") in {
            (row.source.name, row.type, row.target_ref) for row in structure.dangling(ben)
        }


class TestApi:
    @pytest.fixture
    def get(self, client: Client, ben: User, as_token: Callable[..., dict[str, str]]) -> Callable[[str], Any]:
        headers = as_token(ben)
        return lambda path: client.get(f"/api/v1/{path}", headers=headers)

    def test_the_graph_as_json(self, get: Callable[[str], Any], shop: None) -> None:
        answer = get("graph/?entity=component:pay&depth=1&relation=dependsOn")
        assert answer.json() == {
            "nodes": [
                {"ref": "component:default/pay", "uid": str(entity("component:default/pay").uid), "kind": "component",
                 "title": "pay", "type": "service", "owner": "group:default/team", "level": 0, "more": 0,
                 "is_open": True},
                {"ref": "resource:default/db", "uid": str(entity("resource:default/db").uid), "kind": "resource",
                 "title": "db", "type": "database", "owner": "group:default/team", "level": 1, "more": 0,
                 "is_open": False},
            ],
            "edges": [{"source": "component:default/pay", "type": "dependsOn", "label": "depends on",
                       "target": "resource:default/db", "is_tie": False}],
            "missing": [], "kinds": {"component": 1, "resource": 1}, "relations": {"dependsOn": 1}, "is_cut": False,
        }  # fmt: skip
        again = get("graph/?entity=component:pay&depth=1&relation=dependsOn&fields=kinds")
        assert again.json() == {"kinds": {"component": 1, "resource": 1}}

    @pytest.mark.parametrize(
        ("asked", "status", "said"),
        [
            ("", 400, "`entity` takes 1 to 20 refs"),
            ("entity=component:none", 422, "component:default/none"),
            ("entity=component:pay&depth=7", 400, "`depth` is a number from 1 to 6"),
            ("entity=component:pay&depth=x", 400, "“x” came"),
            ("entity=component:pay&limit=501", 400, "1 to 500"),
            ("entity=component:pay&direction=up", 400, "both, out, in"),
            ("entity=component:pay&kind=fish", 400, "“fish”"),
            ("entity=component:pay&relation=eats", 400, "“eats”"),
            ("entity=component:pay&depht=2", 400, "depht"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, get: Callable[[str], Any], shop: None, asked: str, status: int, said: str
    ) -> None:
        answer = get(f"graph/?{asked}")
        assert (answer.status_code, said in str(answer.json())) == (status, True), answer.json()

    def test_the_impact_of_an_entity(self, get: Callable[[str], Any], shop: None) -> None:
        found = get("entities/default/resource/db/impact/").json()
        assert (found["entity"], found["broken"], found["is_cut"]) == ("resource:default/db", 4, False)
        shop = found["hits"][1]
        assert (shop["ref"], shop["effect"], shop["by"]) == (
            "system:default/shop",
            "misses-part",
            "resource:default/db",
        )
        assert found["owners"][0]["email"] == "team@acme.example"
        assert get("entities/default/resource/none/impact/").status_code == 404

    def test_the_reports(self, get: Callable[[str], Any], shop: None) -> None:
        say("yaml:b", component("self", owner="", dependsOn=["component:self"]), component("lone", owner=""))
        assert get("graph/cycles/").json() == {
            "cycles": [{"relation": "needs", "size": 1, "path": ["component:default/self"]}], "is_cut": False,
        }  # fmt: skip
        alone = get("graph/orphans/?kind=component").json()["results"]
        assert [one["ref"] for one in alone] == ["component:default/lone"]
        page = get("graph/orphans/?type=dangling&kind=component&limit=1").json()
        assert (page["total"], page["results"][0]["target"]) == (2, "component:default/gone")
        assert get("graph/orphans/?type=ownerless&kind=system").json()["total"] == 1
