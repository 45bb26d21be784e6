"""What changed of what a query finds or found, and restoring a revision: page, file and API."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import Undoable, User
from access.services.undo import preview_undo, undo_change
from base.errors import BadRequest
from catalog import past
from catalog.models import Claim, Entity, Rank, Revision
from catalog.services.edit import override_field
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, document, say, unsay

pytestmark = pytest.mark.django_db
Browse = Callable[[User], Client]
NOW = timezone.now()
PAGE = "/catalog/default/component/pay"


def at(ref: str, number: int, days: float) -> None:
    """Have a revision be some days old."""
    Revision.objects.filter(entity_ref=ref, number=number).update(at=timezone.now() - timedelta(days=days))


@pytest.fixture
def catalog(core_pack: None) -> None:
    """Pay was payments' until three days ago, card is since, shop never was, and old went yesterday."""
    say(
        "yaml:a",
        component("pay", owner="payments"),
        component("card", owner="web"),
        component("shop", owner="web"),
    )
    say("yaml:b", component("old", owner="payments"))
    say(
        "yaml:a", component("pay", owner="web", type="website"), component("card", owner="payments"), minute=1
    )
    unsay("yaml:b", "component:old", minute=2)
    render_dirty(at=timezone.now())
    for name in ("pay", "card", "shop", "old"):
        at(f"component:default/{name}", 1, 30)
    at("component:default/pay", 2, 3)
    at("component:default/card", 2, 3)
    at("component:default/old", 2, 1)


def refs(viewer: User, query: str, *, days: float = 7, until: float = 0) -> dict[str, str]:
    now = timezone.now()
    found = past.what_changed(
        viewer, query, since=now - timedelta(days=days), until=now - timedelta(days=until), now=now
    )
    return {e.name: "then" if e.uid in found.then else "now" for e in found.rows}


@pytest.mark.usefixtures("catalog")
class TestWhatChanged:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("owner:payments", {"pay": "then", "card": "now", "old": "then"}),
            ("owner:group:default/payments type:service", {"pay": "then", "card": "now", "old": "then"}),
            ("owner:pay*", {"pay": "then", "card": "now", "old": "then"}),
            ("owner:payments type:website", {}),
            ("-owner:payments", {"pay": "now", "card": "then"}),
            ("owner:payments OR owner:web", {"pay": "now", "card": "now", "old": "then"}),
            ("", {"pay": "now", "card": "now", "old": "now"}),
            ("spec.type:website", {"pay": "now"}),
            ("type:service", {"pay": "then", "card": "now", "old": "then"}),
            ("shop", {}),
        ],
    )
    def test_it_is_what_the_query_finds_now_or_found_within_the_time(
        self, ana: User, query: str, expected: dict[str, str]
    ) -> None:
        assert refs(ana, query) == expected

    def test_the_time_bounds_it(self, ana: User) -> None:
        assert refs(ana, "owner:payments", days=2) == {"old": "then"}
        assert refs(ana, "owner:payments", days=60, until=20) == {"pay": "then", "card": "now", "old": "then"}
        assert refs(ana, "owner:web", days=60, until=20) == {"card": "then", "pay": "now", "shop": "now"}

    def test_texts_and_fields_of_then_are_looked_at(self, ana: User) -> None:
        say(
            "yaml:c",
            claim("component:text", {"type": "a", "tags": 1}, metadata={"title": "Ledger", "tags": ["x"]}),
        )
        say("yaml:c", claim("component:text", {"type": "b"}, metadata={"title": "Book"}), minute=1)
        for query in ("ledger", "tag:x", "has:tag", "type:a", "spec.tags:1"):
            assert refs(ana, query).get("text") == "then", query
        for query in ("nonsense", "tag:y", "type:c"):
            assert "text" not in refs(ana, query)

    def test_who_may_not_see_a_thing_is_told_of_none_of_its_changes(self, cleo: User) -> None:
        assert refs(cleo, "owner:payments") == {}

    def test_the_page_has_them_with_the_difference_and_who(self, browse: Browse, vic: User) -> None:
        client = browse(vic)
        page = html.unescape(client.get("/history?q=owner:payments").content.decode())
        assert "3 entities changed" in page
        assert re.search(r'section[^>]*aria-label="pay".*?No longer matches', page, re.S)
        assert re.search(r'section[^>]*aria-label="old".*?Gone', page, re.S)
        assert "group:default/payments" in page or "payments" in page
        assert "yaml:a" in page
        assert re.search(r'aria-current="page">Last 7 days', page), "which is what is shown"
        page = client.get("/history?q=owner:payments&from=2020-01-01&to=2020-01-31").content.decode()
        assert not re.search(r'aria-current="page">Last', page)
        assert "Nothing changed" in page
        for url, sentence in (
            ("/history?q=kind:(", "aria-invalid"),
            ("/history?from=yesterday", "is a day or a moment"),
            ("/history?from=2026-02-01&to=2026-01-01", "begins at its end"),
        ):
            answer = client.get(url)
            assert answer.status_code == 422, url
            assert sentence in html.unescape(answer.content.decode())
        assert "/history?q=owner%3Apayments" in client.get("/catalog?q=owner:payments").content.decode()

    def test_a_file_has_a_row_for_each_field(self, browse: Browse, vic: User) -> None:
        answer = browse(vic).get("/history.csv?q=owner:payments")
        text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
        rows = list(csv.reader(text.splitlines()))
        assert rows[0][:3] == ["Ref", "Name", "Revision"]
        changed = {(row[0], row[8], row[9], row[10]) for row in rows[1:]}
        assert ("component:default/pay", "spec.owner", "payments", "web") in changed
        assert ("component:default/pay", "spec.type", "service", "website") in changed

    def test_the_file_has_all_of_what_changed_often(self, browse: Browse, vic: User) -> None:
        last = Revision.objects.get(entity_ref="component:default/card", number=2)
        Revision.objects.bulk_create(
            Revision(
                entity_uid=last.entity_uid, entity_ref=last.entity_ref, namespace="default", number=number,
                action=last.action, at=last.at, by="x", diff=[{"path": "spec.x", "new": number}],
            )
            for number in range(3, past.MOST_REVISIONS + 5)
        )  # fmt: skip
        text = b"".join(browse(vic).get("/history.csv?q=card").streaming_content)  # type: ignore[attr-defined]
        numbers = {row[2] for row in csv.reader(text.decode("utf-8-sig").splitlines()[1:])}
        assert numbers == {str(number) for number in range(2, past.MOST_REVISIONS + 5)}

    def test_programs_have_the_same(self, client: Client, vic: User, as_token: Callable[..., Any]) -> None:
        headers = as_token(vic)
        body = client.get("/api/v1/history/?q=owner:payments&limit=2", headers=headers).json()
        assert (body["total"], len(body["results"])) == (3, 2)
        assert body["results"][0]["ref"] == "component:default/card"
        assert body["results"][0]["revisions"][0]["source"] == "yaml:a"
        rest = client.get(body["next"], headers=headers).json()["results"]
        assert [(row["ref"], row["matched"], row["is_gone"]) for row in rest] == [
            ("component:default/pay", "then", False)
        ] or rest[0]["matched"] == "then"
        assert client.get("/api/v1/history/?from=x", headers=headers).status_code == 400


class TestSpan:
    NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def test_a_day_counts_to_its_end_and_a_week_is_the_default(self) -> None:
        assert past.span_of("", "", now=self.NOW) == (self.NOW - timedelta(days=7), self.NOW)
        start, end = past.span_of("2026-01-01", "2026-01-01", now=self.NOW)
        assert end - start == timedelta(days=1)
        assert past.span_of("2026-01-01T10:00:00Z", "", now=self.NOW)[0].hour == 10

    @pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "2026-02-30", "yesterday"])
    def test_what_is_no_day_on_every_clock_is_refused_by_its_name(self, text: str) -> None:
        with pytest.raises(BadRequest, match="“from” is a day"):
            past.span_of(text, "", now=self.NOW)


@pytest.mark.usefixtures("catalog")
class TestRestore:
    def now(self) -> dict[str, Any]:
        return document("component:default/pay")

    def test_it_is_shown_first_done_as_one_and_undone_as_one(self, browse: Browse, ben: User) -> None:
        client = browse(ben)
        page = client.get(f"{PAGE}?tab=history").content.decode()
        assert f'href="{PAGE}/restore/1"' in page
        assert f'href="{PAGE}/restore/2"' not in page
        page = html.unescape(client.get(f"{PAGE}/restore/1").content.decode())
        assert "spec.owner" in page
        etag = re.search(r'name="etag" value="([^"]*)"', client.get(f"{PAGE}/restore/1").content.decode())
        assert etag
        given = {"etag": html.unescape(etag[1]), "reason": "A slip."}
        assert client.post(f"{PAGE}/restore/1", given).status_code == 302
        assert (self.now()["spec"]["owner"], self.now()["spec"]["type"]) == ("payments", "service")
        said = Claim.objects.get(rank=Rank.PERSON)
        assert said.place["reasons"] == {"spec.owner": "A slip.", "spec.type": "A slip."}
        assert client.post(f"{PAGE}/restore/1", given).status_code == 409  # it is so already
        change = Undoable.objects.get()
        assert [
            row["path"] for row in preview_undo(change=change, user=ben).differences["component:default/pay"]
        ]
        undo_change(change=change, user=ben)
        assert (self.now()["spec"]["owner"], self.now()["spec"]["type"]) == ("web", "website")

    def test_an_override_is_taken_back_where_the_sources_say_what_was(self, ben: User, ana: User) -> None:
        from catalog.services.restoring import restore_revision

        pay = Entity.objects.get(ref="component:default/pay")
        override_field(user=ana, entity=pay, path="spec.owner", value="group:default/x")
        pay.refresh_from_db()
        plan = restore_revision(user=ben, entity=pay, number=2)
        assert (plan.dropped, plan.values) == (["spec.owner"], {})
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()
        undo_change(change=Undoable.objects.latest("event_id"), user=ben)
        assert self.now()["spec"]["owner"] == "group:default/x"
        assert Claim.objects.get(rank=Rank.PERSON).source.key == f"person:{ana.pk}"

    def test_who_was_overtaken_restores_nothing(self, browse: Browse, ben: User) -> None:
        answer = browse(ben).post(f"{PAGE}/restore/1", {"etag": '"1-0000000000000000"'})
        assert answer.status_code == 409
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()

    def test_lists_that_sources_add_to_get_back_what_is_missing(self, ben: User) -> None:
        from catalog.services.restoring import restore_revision

        say("yaml:t", claim("component:tags", {"type": "a"}, metadata={"tags": ["x", "y"]}))
        say("yaml:t", claim("component:tags", {"type": "a"}, metadata={"tags": ["y", "z"]}), minute=1)
        tags = Entity.objects.get(ref="component:default/tags")
        plan = restore_revision(user=ben, entity=tags, number=1)
        assert sorted(document("component:default/tags")["metadata"]["tags"]) == ["x", "y", "z"]
        assert [path for path, _why in plan.left] == ["metadata.tags"]

    def test_what_people_add_to_such_a_list_stays_there(self, ben: User, ana: User) -> None:
        from catalog.services.restoring import restore_revision

        say("yaml:t", claim("component:tags", {"type": "a"}, metadata={"tags": ["x", "y"]}))
        say("yaml:t", claim("component:tags", {"type": "a"}, metadata={"tags": ["y"]}), minute=1)
        tags = Entity.objects.get(ref="component:default/tags")
        override_field(user=ana, entity=tags, path="metadata.tags", value=["hers"])
        override_field(user=ben, entity=tags, path="metadata.tags", value=["his"])
        tags.refresh_from_db()
        restore_revision(user=ben, entity=tags, number=1)
        assert sorted(document("component:default/tags")["metadata"]["tags"]) == ["hers", "his", "x", "y"]

    def test_programs_look_first_too(
        self, client: Client, ben: User, vic: User, as_token: Callable[..., Any]
    ) -> None:
        url = "/api/v1/entities/default/component/pay/history/1/restore/"
        headers = as_token(ben)
        dry = client.post(f"{url}?dry_run=1", {}, "application/json", headers=headers)
        assert {row["path"] for row in dry.json()["changes"]} == {"spec.owner", "spec.type"}
        assert self.now()["spec"]["owner"] == "web"
        assert client.post(url, {"reason": "r"}, "application/json", headers=headers).status_code == 200
        assert self.now()["spec"]["owner"] == "payments"
        assert (
            client.post(url.replace("/1/", "/99/"), {}, "application/json", headers=headers).status_code
            == 404
        )
        assert client.post(url, {}, "application/json", headers=as_token(vic)).status_code == 403
