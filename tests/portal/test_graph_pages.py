"""The pages of the graph: around a thing, what breaks, circles and orphans; as the list that the picture is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from access.models import User
from tests.catalog.saying import claim, component, say
from tests.portal.test_pages import cost

pytestmark = pytest.mark.django_db
Visit = Callable[..., str]


@pytest.fixture
def visit(browse: Callable[[User], Client], ben: User) -> Visit:
    def get(path: str, status: int = 200, who: User = ben) -> str:
        answer = browse(who).get(path)
        assert answer.status_code == status, answer.status_code
        return answer.content.decode()

    return get


@pytest.fixture(autouse=True)
def shop(core_pack: None) -> None:
    say(
        "yaml:a",
        claim("group:team", {"type": "team", "children": [], "profile": {"email": "team@acme.example"}}),
        claim("system:shop", {"owner": "team"}),
        claim("resource:db", {"type": "database", "owner": "team"}),
        component("pay", system="shop", dependsOn=["resource:db", "component:gone"]),
        component("web", dependsOn=["component:pay"]),
        component("lone", owner=""),
        component("self", owner="", dependsOn=["component:self"]),
    )


def drawing(page: str) -> dict[str, Any]:
    found = re.search(r'id="po-graph-data" hidden value="([^"]*)"', page)
    assert found
    return dict(json.loads(unescape(found[1])))


def words(page: str) -> str:
    """What one reads on the page, its header and dialogs left out."""
    return re.sub(
        r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page.partition("<main")[2].partition("</main>")[0]))
    )


class TestExplore:
    def test_the_list_says_all_that_is_drawn(self, visit: Visit) -> None:
        page = visit("/graph?entity=component:default/pay&depth=1")
        drawn = drawing(page)
        assert [one["ref"] for one in drawn["nodes"]] == [
            "component:default/pay", "component:default/web", "group:default/team", "resource:default/db",
            "system:default/shop", "component:default/gone",
        ]  # fmt: skip
        text = words(page)
        for said in ("1 step away 4", "web depends on pay", "db needed by pay", "shop has part pay", "Missing 1",
                     "Nothing declares it", "gone needed by pay"):  # fmt: skip
            assert said in text, said
        names = [
            (drawn["nodes"][a]["title"], label, drawn["nodes"][b]["title"])
            for a, b, label, _tie in drawn["edges"]
        ]
        assert ("pay", "depends on", "gone") in names
        assert "cytoscape" in page

    def test_kinds_relations_depth_and_direction_are_links_that_keep_the_rest(self, visit: Visit) -> None:
        page = visit("/graph?entity=component:default/pay&depth=3&direction=out&kind=resource")
        assert [one["title"] for one in drawing(page)["nodes"]] == ["pay", "db"]
        hrefs = {unescape(found) for found in re.findall(r'href="(/graph\?[^"]*)"', page)}
        assert "/graph?entity=component:default/pay&depth=3&direction=out&kind=resource,system" in hrefs
        assert "/graph?entity=component:default/pay&depth=3&direction=out" in hrefs  # without the kind again
        assert "/graph?entity=component:default/pay&depth=5&direction=out&kind=resource" in hrefs
        assert "/graph?entity=component:default/pay&depth=3&direction=in&kind=resource" in hrefs

    def test_what_has_more_around_it_is_opened_by_a_link_and_closed_again(self, visit: Visit) -> None:
        near = visit("/graph?entity=component:default/web&depth=1")
        assert "Show 2 more around pay" in words(near)
        opened = "/graph?entity=component:default/web&depth=1&open=component:default/pay"
        assert opened in unescape(near)
        page = visit(opened)
        assert "needed by pay" in words(page)
        assert "Show fewer around pay" in words(page)

    def test_a_short_or_old_name_leads_to_the_whole_one(
        self, browse: Callable[[User], Client], ben: User
    ) -> None:
        answer = browse(ben).get("/graph?entity=component:pay&depth=3")
        assert answer.headers["Location"] == "/graph?entity=component:default/pay&depth=3"

    def test_what_is_not_there_or_not_understood_is_said(self, visit: Visit) -> None:
        assert "There is no component:default/none here" in words(visit("/graph?entity=component:none", 404))
        assert "Where to begin?" in words(visit("/graph"))
        page = words(visit("/graph?entity=component:default/pay&kind=fish&depth=99&layout=odd&direction=up"))
        assert "There is no kind “fish”." in page
        assert "2 steps" in page

    def test_what_is_hidden_is_not_there(self, visit: Visit, cleo: User) -> None:
        say("yaml:b", component("elsewhere/there", owner="", dependsOn=["component:default/pay"]))
        page = visit("/graph?entity=component:elsewhere/there", who=cleo)
        assert [one["title"] for one in drawing(page)["nodes"]] == ["there"]
        assert "Nothing is related to it that you may see" in words(page)
        visit("/graph?entity=component:default/pay", 404, cleo)
        visit("/graph/impact?entity=component:default/pay", 404, cleo)

    def test_its_libraries_come_on_this_page_alone(self, visit: Visit) -> None:
        assert "cytoscape" not in visit("/")
        assert "cytoscape" not in visit("/graph/cycles")
        assert "/graph?entity=component:default/pay" in visit("/catalog/default/component/pay")

    def test_it_costs_as_many_queries_however_many_things(
        self, browse: Callable[[User], Client], ben: User
    ) -> None:
        viewer = browse(ben)
        viewer.get("/")
        few = cost(viewer, "/graph?entity=resource:default/db")
        say("yaml:b", *[component(f"c{n}", owner=f"t{n}", dependsOn=["resource:db"]) for n in range(60)])
        assert cost(viewer, "/graph?entity=resource:default/db") <= few
        assert few <= 18


class TestImpact:
    def test_it_names_what_breaks_why_and_whom_to_tell(self, visit: Visit) -> None:
        page = visit("/graph/impact?entity=resource:default/db")
        text = words(page)
        for said in ("2 things break, 1 misses a part", "team@acme.example", "pay Breaks depends on db",
                     "shop Misses a part has part pay", "web Breaks depends on pay"):  # fmt: skip
            assert said in text, said
        copied = unescape(re.findall(r'data-copy="([^"]*)"', page)[0])
        assert copied.splitlines()[:6] == [
            "If db (resource:default/db) goes, 3 things are hit:",
            "",
            "team <team@acme.example>",
            "- pay (component:default/pay): depends on db",
            "- web (component:default/web): depends on pay",
            "- shop (system:default/shop): has part pay, misses a part",
        ]
        assert copied.splitlines()[-1].endswith("/graph/impact?entity=resource:default/db")

    def test_of_very_much_it_shows_a_part_at_a_time_and_copies_all(self, visit: Visit) -> None:
        many = [component(f"c{n:03d}", owner=f"t{n:03d}", dependsOn=["resource:db"]) for n in range(120)]
        say("yaml:b", *many, component("far", owner="t000", dependsOn=["component:c119"]))
        page = visit("/graph/impact?entity=resource:default/db")
        assert "1-50 of 121" in words(page)
        assert "1-100 of 124" in words(page)
        assert (
            page.count('aria-label="Pages of owners"') == page.count('aria-label="Pages of what is hit"') == 1
        )
        assert "1 step away 121" in words(page)
        assert "2 steps away" not in words(page)
        assert page.count("<tr>") < 160
        assert "component:default/far" in page  # in what is copied
        link = unescape(next(link for link in re.findall(r'href="([^"]*hits=100[^"]*)"', page)))
        following = words(visit(link.partition("#")[0]))
        assert "101-124 of 124" in following
        assert "1 step away 121" in following
        assert "2 steps away" in following
        assert "far Breaks depends on c119" in following
        assert "1-50 of 121" in following
        assert "1-50 of 121" in words(visit("/graph/impact?entity=resource:default/db&owners=9999"))

    def test_it_says_that_nothing_breaks(self, visit: Visit) -> None:
        assert "Nothing breaks that you may see" in words(
            visit("/graph/impact?entity=component:default/lone")
        )
        visit("/catalog/default/component/web")
        page = visit("/graph/impact")
        assert "Where to begin?" in words(page)
        assert 'href="/graph/impact?entity=component:default/web"' in page


class TestReports:
    def test_circles_are_shown_the_whole_way_round(self, visit: Visit) -> None:
        say("yaml:b", component("a", dependsOn=["component:b"]), component("b", dependsOn=["component:a"]))
        assert "Needs a b a Explore a" in words(visit("/graph/cycles"))

    def test_orphans_of_each_sort(self, visit: Visit) -> None:
        assert "lone Service component:default/lone" in words(visit("/graph/orphans"))
        assert "lone" in words(visit("/graph/orphans?type=ownerless"))
        assert "pay Service depends on component:default/gone" in words(visit("/graph/orphans?type=dangling"))
