"""A list as a file: what stands in it, for whom, what it costs, and what a spreadsheet makes of it."""

from __future__ import annotations

import csv
import html
import re
import uuid
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access import definitions, permissions
from access.models import User
from catalog.models import Entity, Served
from portal.packs import edit_definition, forget_definitions
from portal.tables import inert
from portal.widgets import listing
from tests.catalog.saying import claim, component, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


def read(client: Client, url: str) -> list[list[str]]:
    answer = client.get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    text = answer.getvalue().decode("utf-8-sig")
    return list(csv.reader(StringIO(text, newline="")))


def many(count: int) -> None:
    now = timezone.now()
    rows = Entity.objects.bulk_create(
        [
            Entity(
                uid=uuid.uuid4(), ref=f"component:default/c{n:06}", kind="component", namespace="default",
                name=f"c{n:06}", title=f"c{n:06}", owner=f"group:default/t{n % 9}", digest=b"", created_at=now,
                changed_at=now,
            )
            for n in range(count)
        ],
        batch_size=5_000,
    )  # fmt: skip
    Served.objects.bulk_create(
        [Served(entity=row, document="{}", relations="[]") for row in rows], batch_size=5_000
    )


class TestAFile:
    def test_the_list_links_to_what_it_shows(self, browse: Callable[[User], Client], vic: User) -> None:
        say(
            "yaml:a",
            *[component(f"c{n:02}", owner="payments") for n in range(60)],
            component("other", owner="x"),
        )
        client = browse(vic)
        query = "q=kind:component+owner:payments&order=-name&columns=lifecycle,owner,changed"
        shown = client.get(f"/catalog?{query}&limit=10").content.decode()
        heads = re.findall(r'<th scope="col"[^>]*>(?:<a[^>]*>)?([^<]+?) ?<', shown)
        url = html.unescape(re.search(r'href="(/catalog\.csv[^"]+)"', shown)[1])  # type: ignore[index]
        head, *rows = read(client, url)
        assert head == ["Name", "Ref", *heads[1:]] == ["Name", "Ref", "Lifecycle", "Owner", "Changed"]
        assert [row[1] for row in rows] == [f"component:default/c{n:02}" for n in reversed(range(60))]
        assert {row[3] for row in rows} == {"group:default/payments"}
        assert rows[0][4].endswith("+00:00")

    def test_is_ordered_as_the_list_is_where_nobody_says_how(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        titles = {"alpha": "Zebra", "beta": "Yak", "gamma": "Aurochs"}
        say("yaml:a", *[claim(f"component:{n}", metadata={"title": t}) for n, t in titles.items()])
        client = browse(vic)
        shown = client.get("/catalog").content.decode()
        listed = re.findall(r'<td class="po-name.*?<span>([^<]+)</span></a>', shown)
        assert sorted(listed) == ["Aurochs", "Yak", "Zebra"]
        assert [row[0] for row in read(client, "/catalog.csv")[1:]] == listed

    def test_holds_what_the_viewer_may_see(
        self, browse: Callable[[User], Client], ana: User, cleo: User
    ) -> None:
        say("yaml:a", component("here"), claim("component:elsewhere/there"))
        refs = [
            sorted(row[1] for row in read(browse(who), "/catalog.csv?q=kind:component")[1:])
            for who in (ana, cleo)
        ]
        assert refs == [
            ["component:default/here", "component:elsewhere/there"],
            ["component:elsewhere/there"],
        ]

    def test_of_a_page_with_a_query_of_its_own_nobody_gets_out_of_it(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        say("yaml:a", component("pay", owner="payments"), component("other", owner="x"))
        config = {"query": "owner:payments"}
        spec = {
            "slot": "list",
            "tabs": [{"widgets": [{"id": "list", "type": "entity-list", "config": config}]}],
        }
        edit_definition(kind="Page", name="list", spec=spec, by="ana")
        forget_definitions()
        assert [row[1] for row in read(browse(vic), "/catalog.csv")[1:]] == ["component:default/pay"]
        for path in ("/catalog.csv", "/catalog"):
            answer = browse(vic).get(path, {"q": "pay) OR (other"})
            shown = answer.getvalue() if answer.streaming else answer.content
            assert b"component:default/other" not in shown
            assert b"default/component/other" not in shown
        assert browse(vic).get("/catalog.csv", {"q": "pay) OR (other"}).status_code == 400

    def test_needs_an_account(self, client: Client) -> None:
        assert client.get("/catalog.csv").status_code == 302

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [("q=ownr:x", "ownr"), ("order=nope", "nope"), ("columns=owner,colour", "colour")],
    )
    def test_what_cannot_be_read_is_refused_whole(
        self, browse: Callable[[User], Client], vic: User, wrong: str, sentence: str
    ) -> None:
        answer = browse(vic).get(f"/catalog.csv?{wrong}")
        assert answer.status_code == 400
        assert sentence in answer.content.decode()


class TestCost:
    @pytest.fixture(autouse=True)
    def _once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a process keeps is compared with what is stored once, however slow the machine is."""
        monkeypatch.setattr(definitions, "STAMP_SECONDS", 3_600)
        monkeypatch.setattr(permissions.cache, "seconds", 3_600)

    def cost(self, client: Client, url: str) -> tuple[int, int]:
        with CaptureQueriesContext(connection) as captured:
            rows = len(read(client, url)) - 1
        return rows, len(captured)

    def test_a_query_a_page_and_never_a_row(
        self, browse: Callable[[User], Client], vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "EXPORT_PAGE", 20)
        many(200)
        client = browse(vic)
        url = "/catalog.csv?q=kind:component&columns=owner,type,run,tags"
        self.cost(client, url)  # what a process keeps is there
        rows, queries = self.cost(client, f"{url}&order=-changed")
        assert rows == 200
        monkeypatch.setattr(listing, "EXPORTED", 100)
        assert self.cost(client, f"{url}&order=-changed") == (100, queries - 5)
        assert queries <= 10 + 6

    def test_a_limit_is_said_before_and_held(
        self, browse: Callable[[User], Client], vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "EXPORT_PAGE", 20)
        monkeypatch.setattr(listing, "EXPORTED", 50)
        many(60)
        client = browse(vic)
        assert "Export the first 50 as CSV" in client.get("/catalog").content.decode()
        assert self.cost(client, "/catalog.csv")[0] == 50

    @pytest.mark.full
    def test_50000_rows(self, browse: Callable[[User], Client], vic: User) -> None:
        many(50_000)
        client = browse(vic)
        rows, queries = self.cost(client, "/catalog.csv?q=kind:component&order=-changed")
        assert rows == 50_000
        assert queries <= 50 + 15  # what the first request of a process reads too


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "\u00a0=1", '=HYPERLINK("x")', "-"],
)
def test_no_text_is_a_formula(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("value", ["pay", "1-2", "a=b", -5, 0.5, ""])
def test_what_is_none_stays_as_it_is(value: Any) -> None:
    assert inert(value) == value
