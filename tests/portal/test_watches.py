"""Watches and notices as people and programs use them: the button of a list, the bell, the settings, the API."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import AuditEvent, User
from base.errors import NotFound
from catalog.models import UNCLEAR, Problem
from catalog.query import QueryError
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.render import render_dirty
from portal import telling, watches
from portal.models import Notice, Watch
from portal.watches import TooManyWatches, make_watch
from tests.catalog.saying import component, say

pytestmark = pytest.mark.django_db
Browse = Callable[[User], Client]


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    say("yaml:a", component("pay"), component("web"))
    tell()


def tell() -> None:
    render_dirty(at=timezone.now())
    telling.tell(now=timezone.now())


def come(name: str = "card") -> None:
    say(f"yaml:{name}", component(name))
    tell()


def shown(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, url
    return html.unescape(answer.content.decode())


def button(page: str) -> str:
    """Where [Tell me] of a page leads."""
    found = re.search(r'href="(/settings/tell-me/new[^"]*)"', page)
    assert found
    return found[1]


class TestButton:
    @pytest.mark.parametrize(
        ("page", "about", "query", "name"),
        [
            (
                "/catalog?q=kind:component+lifecycle:production",
                "entities",
                "kind:component lifecycle:production",
                "",
            ),
            ("/catalog", "entities", "", "All entities"),
            (
                "/activity?q=kind:pipeline&type=run&status=failed",
                "activity",
                "kind:pipeline",
                "kind:pipeline Runs failed",
            ),
            ("/activity", "activity", "", "All activity"),
            ("/problems", "entities", "has:problem", ""),
            ("/problems?type=missing-target", "entities", "problem:missing-target", ""),
        ],
    )
    def test_every_list_with_a_query_has_it_and_it_asks_for_the_rest(
        self, browse: Browse, vic: User, page: str, about: str, query: str, name: str
    ) -> None:
        at = timezone.now()
        apply_activity(
            connection_slug="ci",
            connector="x",
            items=[ActivityIn(type="run", external_id="1", event="e", at=at, as_of=at, status="failed")],
        )
        client = browse(vic)
        url = button(shown(client, page))
        form = shown(client, url)
        assert f'value="{name or query}"' in form
        sent = {"name": name or query, "query": query, "when": "both", "types": "run", "status": "failed"}
        answer = client.post(url, sent)
        made = Watch.objects.get()
        assert (made.about, made.query, made.name) == (about, query, name or query)
        assert made.when == ("new" if about == "activity" else "both")
        assert answer.headers["Location"] == watches.url_of(made)
        assert "You will be told of" in shown(client, answer.headers["Location"])
        assert AuditEvent.objects.filter(verb="watch.create", actor_uid=str(vic.pk)).exists()

    def test_that_of_what_is_to_decide_asks_for_all_its_types(self, browse: Browse, vic: User) -> None:
        Problem.objects.update(type="ambiguous-tie")
        client = browse(vic)
        url = button(shown(client, "/problems?type=unclear"))
        query = f"problem:{','.join(UNCLEAR)}"
        assert f'value="{query}"' in shown(client, url)
        client.post(url, {"query": query, "when": "new"})
        assert Watch.objects.get().matches.count() == 2

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            ({"query": "kind:nonsense"}, "nonsense"),
            ({"query": "kind:("}, 'id="query-error"'),
            ({"query": "x" * 2_001}, "2000"),
            ({"name": "n" * 101}, "100"),
            ({"when": "never"}, "Tell me when"),
            ({"mail": "now"}, "PORTICO_SMTP"),
        ],
    )
    def test_what_cannot_be_is_said_at_its_field(
        self, browse: Browse, vic: User, sent: dict[str, str], said: str
    ) -> None:
        answer = browse(vic).post(
            "/settings/tell-me/new?about=entities", {"query": "", "when": "new", **sent}
        )
        assert answer.status_code == 422
        assert said in html.unescape(answer.content.decode())
        assert not Watch.objects.exists()

    def test_a_name_has_one_line(self, vic: User) -> None:
        made = make_watch(
            user=vic, about="entities", query="kind:api", name="a\r\nBcc: x@y.example\x00\x1b[1m"
        )
        assert made.name == "a Bcc: x@y.example [1m"

    def test_one_whose_query_says_nothing_any_more_comes_back_and_says_so(
        self, vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = make_watch(user=vic, about="entities", query="kind:component", name="Ours")
        watches.delete_watch(watch=made)
        Watch.objects.filter(pk=made.pk).update(query="knid:component")
        back = watches.restore_watch(user=vic, watch_id=made.pk)
        assert back.deleted_at is None
        assert "knid" in back.trouble
        assert Watch.objects.kept().get(pk=made.pk).trouble == back.trouble

    def test_there_is_an_end(self, vic: User, ben: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watches, "MOST_WATCHES", 2)
        for _ in range(2):
            make_watch(user=vic, about="entities", query="")
        with pytest.raises(TooManyWatches):
            make_watch(user=vic, about="entities", query="")
        watches.delete_watch(watch=Watch.objects.filter(user=vic).latest("pk"))
        gone = Watch.objects.filter(user=vic).latest("pk")
        make_watch(user=vic, about="entities", query="")
        with pytest.raises(TooManyWatches, match="You have 2 watches"):
            watches.restore_watch(user=vic, watch_id=gone.pk)
        make_watch(user=ben, about="entities", query="")
        monkeypatch.setattr(watches, "MOST_MATCHES", 1)
        with pytest.raises(watches.InvalidInput, match="more than 1 entities"):
            make_watch(user=ben, about="entities", query="")
        assert Watch.objects.filter(user=ben).count() == 1


class TestBell:
    def test_it_counts_lists_and_leads(self, browse: Browse, vic: User, ben: User) -> None:
        client = browse(vic)
        make_watch(user=vic, about="entities", query="kind:component", name="Ours & <b>theirs</b>")
        assert 'aria-label="Notices"' in shown(client, "/notices/bell")
        assert "Nothing yet" in shown(client, "/notices/newest")
        come()
        assert "Notices: 1 unread" in shown(client, "/notices/bell")
        menu = client.get("/notices/newest").content.decode()
        assert "New: card." in menu
        assert "Ours &amp; &lt;b&gt;theirs" in menu
        notice = Notice.objects.get()
        answer = client.post(f"/notices/{notice.pk}/open")
        assert answer.headers["Location"] == "/catalog?q=kind%3Acomponent"
        assert "unread" not in shown(client, "/notices/bell")
        assert "unread" not in shown(browse(ben), "/notices/bell")

    def test_the_page_has_all_and_marks_them(self, browse: Browse, vic: User) -> None:
        client = browse(vic)
        make_watch(user=vic, about="entities", query="kind:component")
        make_watch(user=vic, about="entities", query="name:c*", name="With c")
        come()
        page = shown(client, "/notices")
        assert page.count(">Mark as read<") == 2
        assert '/catalog/default/component/card"' in page
        first = Notice.objects.order_by("pk")[0]
        client.post(f"/notices/{first.pk}/mark", {"read": "1"})
        assert shown(client, "/notices").count(">Mark as read<") == 1
        client.post(f"/notices/{first.pk}/mark", {"read": "0"})
        assert shown(client, "/notices").count(">Mark as read<") == 2
        client.post("/notices/read")
        page = shown(client, "/notices")
        assert ">Mark as read<" not in page
        assert "Mark all as read" not in page

    def test_nobody_touches_what_is_another_ones(self, browse: Browse, vic: User, ben: User) -> None:
        made = make_watch(user=vic, about="entities", query="kind:component")
        come()
        notice = Notice.objects.get()
        client = browse(ben)
        for url in (f"/notices/{notice.pk}/open", f"/notices/{notice.pk}/mark"):
            assert client.post(url).status_code == 404
        for action in ("", "/pause", "/delete", "/restore"):
            assert client.post(f"/settings/tell-me/{made.pk}{action}", {"paused": "1"}).status_code == 404
        client.post("/notices/read")
        assert Notice.objects.filter(read_at=None).count() == 1
        assert "kind:component" not in shown(client, "/settings/tell-me")

    def test_a_page_asks_nothing_for_it(self, browse: Browse, vic: User) -> None:
        client = browse(vic)
        make_watch(user=vic, about="entities", query="kind:component")
        come()
        with CaptureQueriesContext(connection) as asked:
            page = shown(client, "/")
        assert not [
            query for query in asked if "portal_notice" in query["sql"] or "portal_watch" in query["sql"]
        ]
        assert 'hx-get="/notices/bell"' in page

    def test_who_was_signed_out_meanwhile_keeps_the_page(self, client: Client) -> None:
        assert client.get("/notices/bell").status_code == 204

    def test_the_list_costs_the_same_for_many(self, browse: Browse, vic: User) -> None:
        client = browse(vic)

        def cost() -> int:
            with CaptureQueriesContext(connection) as asked:
                shown(client, "/notices/newest")
            return len([query for query in asked if "access_accessversion" not in query["sql"]])

        make_watch(user=vic, about="entities", query="kind:component")
        come()
        few = min(cost(), cost())  # what is remembered for a second is asked now and then
        for number in range(5):
            make_watch(user=vic, about="entities", query="kind:component", name=f"w{number}")
        come("more")
        assert min(cost(), cost()) == few


class TestSettings:
    def test_edit_pause_delete_and_back(self, browse: Browse, vic: User) -> None:
        client = browse(vic)
        made = make_watch(user=vic, about="entities", query="kind:component")
        url = f"/settings/tell-me/{made.pk}"
        answer = client.post(url, {"name": "Ours", "query": "kind:component", "when": "gone", "mail": "none"})
        assert answer.headers["Location"] == "/settings/tell-me"
        page = shown(client, "/settings/tell-me")
        assert "Ours" in page
        assert "Something no longer matches" in page
        client.post(f"{url}/pause", {"paused": "1"})
        assert "Paused" in shown(client, "/settings/tell-me")
        client.post(f"{url}/pause", {"paused": "0"})
        assert "Paused" not in shown(client, "/settings/tell-me")
        answer = client.post(f"{url}/delete", headers={"HX-Request": "true"})
        toast = json.loads(answer.headers["HX-Trigger"])["toast"]
        assert toast["undo"] == f"{url}/restore"
        assert client.get(url).status_code == 404
        assert "Deleted today" in shown(client, "/settings/tell-me")
        answer = client.post(toast["undo"], headers={"HX-Request": "true"})
        assert answer.headers["HX-Redirect"] == "/settings/tell-me"
        assert "Deleted today" not in shown(client, "/settings/tell-me")
        assert client.post(f"{url}/restore").status_code == 404
        verbs = AuditEvent.objects.filter(subject_type="watch").order_by("pk").values_list("verb", flat=True)
        assert list(verbs)[1:] == ["watch.update"] * 3 + ["watch.delete", "watch.restore"]

    def test_a_deletion_is_taken_back_for_a_day(self, vic: User) -> None:
        made = make_watch(user=vic, about="entities", query="kind:component")
        watches.delete_watch(watch=made)
        Watch.objects.update(deleted_at=timezone.now() - watches.DELETED_STAY)
        with pytest.raises(NotFound):
            watches.restore_watch(user=vic, watch_id=made.pk)

    def test_what_cannot_be_read_any_more_can_be_paused_and_named(self, browse: Browse, vic: User) -> None:
        made = make_watch(user=vic, about="entities", query="kind:component")
        Watch.objects.update(query="nonsense:((", trouble="nonsense")
        assert browse(vic).post(f"/settings/tell-me/{made.pk}/pause", {"paused": "1"}).status_code == 302
        made = watches.change_watch(watch=made, name="Ours")
        assert (made.is_paused, made.name) == (True, "Ours")
        with pytest.raises(QueryError):
            watches.change_watch(watch=made, is_paused=False)

    def test_without_a_way_for_mail_the_reason_stands_there(
        self, browse: Browse, vic: User, settings: Any
    ) -> None:
        client = browse(vic)
        page = shown(client, "/settings/tell-me/new")
        assert "has not set PORTICO_SMTP" in page
        assert re.search(r'name="mail" value="now"[^>]* disabled', page)
        settings.EMAIL_HOST = "relay.example"
        settings.PORTICO_URL = ""
        assert "has not set PORTICO_URL" in shown(client, "/settings/tell-me/new")
        settings.PORTICO_URL = "https://portal.example"
        assert "disabled" not in shown(client, "/settings/tell-me/new").partition('name="mail"')[2][:100]
        User.objects.filter(pk=vic.pk).update(is_email_verified=False)
        assert "not verified" in shown(client, "/settings/tell-me/new")


class TestApi:
    def call(self, client: Client, method: str, url: str, status: int, body: Any = None) -> Any:
        answer = client.generic(
            method,
            f"/api/v1/{url}",
            json.dumps(body) if body is not None else "",
            content_type="application/json",
        )
        assert answer.status_code == status, answer.content
        return json.loads(answer.content) if answer.content else None

    def test_all_that_a_person_can_do(self, browse: Browse, vic: User, ben: User) -> None:
        client = browse(vic)
        made = self.call(client, "POST", "watches/", 201, {"about": "entities", "query": "kind:component"})
        assert made["name"] == "kind:component"
        url = f"watches/{made['id']}/"
        assert self.call(client, "PATCH", url, 200, {"name": "Ours", "when": "both"})["when"] == "both"
        assert [row["name"] for row in self.call(client, "GET", "watches/", 200)["results"]] == ["Ours"]
        assert self.call(client, "GET", f"{url}?fields=name", 200) == {"name": "Ours"}
        come()
        found = self.call(client, "GET", "notices/?unread=1", 200)
        assert found["total"] == 1
        notice = found["results"][0]
        assert notice["text"] == "New: card."
        assert notice["lines"] == [
            {
                "change": "new",
                "total": 1,
                "things": [{"title": "card", "url": "/catalog/default/component/card"}],
            }
        ]
        for other in (url, f"{url}restore/"):
            self.call(browse(ben), "POST" if other.endswith("restore/") else "GET", other, 404)
        self.call(browse(ben), "PATCH", f"notices/{notice['id']}/", 404, {"is_read": True})
        self.call(client, "PATCH", f"notices/{notice['id']}/", 422, {"is_read": True, "read": True})
        self.call(client, "PATCH", url, 422, {"quey": "kind:api"})
        assert self.call(client, "PATCH", f"notices/{notice['id']}/", 200, {"is_read": True})["is_read"]
        assert self.call(client, "GET", "notices/?unread=1", 200)["total"] == 0
        assert self.call(client, "GET", "notices/", 200)["total"] == 1
        assert self.call(client, "POST", "notices/read/", 200) == {"read": 0}
        self.call(client, "DELETE", url, 204)
        self.call(client, "GET", url, 404)
        assert self.call(client, "GET", "notices/", 200)["total"] == 0
        assert self.call(client, "POST", f"{url}restore/", 200)["name"] == "Ours"

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            ({}, "about"),
            ({"about": "weather"}, "about"),
            ({"about": "entities", "query": "kind:("}, ""),
            ({"about": "entities", "types": ["run"]}, "types"),
            ({"about": "activity", "types": ["weather"]}, "types"),
            ({"about": "activity", "status": "two words"}, "status"),
            ({"about": "entities", "mail": "now"}, "mail"),
            ({"about": "entities", "quey": "kind:component"}, "quey"),
            ({"about": "entities", "is_paused": True}, "is_paused"),
        ],
    )
    def test_what_cannot_be_is_refused_with_its_place(
        self, browse: Browse, vic: User, body: dict[str, Any], path: str
    ) -> None:
        answer = browse(vic).post("/api/v1/watches/", json.dumps(body), content_type="application/json")
        assert answer.status_code in (400, 422)
        problem = answer.json()
        assert problem["detail"]
        if path:
            assert path in [error["path"].partition(".")[0].partition("[")[0] for error in problem["errors"]]
        assert not Watch.objects.exists()

    def test_a_token_reads_no_more_than_it_may(self, vic: User, as_token: Any, client: Client) -> None:
        make_watch(user=vic, about="entities", query="kind:component")
        come()
        narrow = as_token(vic, scope_type="namespace", scope="elsewhere")
        found = client.get("/api/v1/notices/", headers=narrow).json()
        assert found["results"][0]["text"] == "You may not see any more what this was about."
        assert found["results"][0]["lines"] == []
