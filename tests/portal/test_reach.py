"""Who sees what and who may write: every address of the portal, found in its own URL configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import ApiToken, Role, User
from access.services import create_token, grant
from base.errors import NotFound
from catalog import queries
from catalog.counting import counting
from catalog.feed import feed_since
from catalog.models import Activity, Claim, Entity, FeedItem, Tie, TieState
from catalog.services.joining import merge_into
from integrations.models import Connection, Delivery, StoredRecord
from integrations.queries import entity_counts, list_records
from integrations.services.runs import report_runs
from portal.pages import page_for
from tests.cast import PASSWORD
from tests.routes import WRITING, Route, routes
from tests.world import WORD

pytestmark = pytest.mark.django_db

# Pages on which everybody changes what is their own.
OWN = {
    "notices/<int:notice_id>/mark",
    "notices/<int:notice_id>/open",
    "notices/read",
    "notices/end/<str:token>",
    "catalog/<str:namespace>/<str:kind>/<str:name>/favourite",
    "sign-in",
    "sign-in/<str:token>",
    "sign-out",
    "settings",
    "settings/look",
    "settings/tell-me/<int:watch_id>",
    "settings/tell-me/<int:watch_id>/delete",
    "settings/tell-me/<int:watch_id>/pause",
    "settings/tell-me/<int:watch_id>/restore",
    "settings/tell-me/new",
    "views/new",
    "views/<int:view_id>/edit",
    "views/<int:view_id>/save",
    "views/<int:view_id>/delete",
    "views/<int:view_id>/restore",
    "settings/tokens",
    "settings/tokens/<int:token_id>/revoke",
    "settings/who",
}
# What a page is asked for besides its address.
QUERIES = {
    "catalog": [
        "", "?q=kind:component", "?q=has:owner+-type:library", "?order=-changed", "?q=velvet", "?q=source:hush-git",
    ],
    "activity": ["", "?type=run", "?status=failed"],
    "problems": ["", "?type=missing-target", "?type=ambiguous-key", "?type=conflict"],
    "search": ["?q=h", "?q=velvet", "?q=t&in=activity", "?q=kind:repository", "?q=velvte"],
    "search/suggest": ["?q=h", "?q=velvet", "?q=t", "?q=kind:repository"],
    "search/refs": ["?q=h", "?q=velvet", "?q=repository:h", "?q=component:t"],
    "search/terms": [
        "?q=owner:", "?q=tag:", "?q=label.", "?q=system:", "?q=source:", "?q=kind:", "?q=name:h",
        "?q=dependsOn:", "?q=",
    ],
    "catalog/<str:namespace>/<str:kind>/<str:name>": [
        "", "?tab=activity", "?tab=relations", "?tab=problems", "?tab=history", "?tab=source",
    ],
    "api/v1/entities/": ["", "?q=kind:component&fields=metadata,relations", "?order=-changed", "?q=velvet"],
    "api/v1/activity/": ["", "?q=kind:pipeline", "?entity=component:elsewhere/there"],
    "api/v1/ties/": ["", "?state=auto"],
    "connections/<str:slug>/records": ["", "?q=h", "?removed=1"],
    "connections/<str:slug>/runs/<int:run_id>": [
        "", *(f"?outcome={name}" for name in ("", "new", "changed", "unchanged", "skipped", "refused", "removed")),
    ],
    "widgets/<str:page>/<str:widget>": ["", "?of=component:elsewhere/there", "?of=pipeline:elsewhere/test"],
}  # fmt: skip


def operations() -> list[Route]:
    """What programs ask of the API; the page that describes it takes no writing from anybody."""
    page = "api/v1/docs/"
    assert all(getattr(Client(), method)(f"/{page}").status_code == 405 for method in WRITING)
    return [route for route in routes("api/v1/") if route.pattern != page]


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=True)
    assert client.login(username=user.username, password=PASSWORD)
    return client


def reading(world: dict[str, Any]) -> Iterator[tuple[Route, str]]:
    """Every address that is read, for what lies in either namespace, with what it is asked for."""
    there = {"namespace": "elsewhere", "name": "there", "slug": "there-ci"}
    places = [world, world | there, world | there | {"kind": "pipeline", "name": "test"}]
    places += [world | there | world["there"]]
    places += [world | {"kind": "repository", "name": "hush-repo"}]
    widgets = [
        {"page": page.name, "widget": spec.id}
        for page in (
            page_for("home"),
            page_for("list"),
            *(page_for("entity", kind=kind) for kind in ("", "component", "group", "system", "api")),
            page_for("activity"),
            page_for("problems"),
        )
        for tab in page.spec.tabs
        for spec in tab.widgets
    ]
    for route in routes():
        if route.pattern.startswith("admin/") or "get" not in route.methods or route.pattern == "sign-out":
            continue
        given = [world | names for names in widgets] if route.pattern.startswith("widgets/") else places
        for url in dict.fromkeys(route.url(place) for place in given):
            for query in QUERIES.get(route.pattern, [""]):
                yield route, url + query


# Where a tool's own words are read.
RAW = {
    "catalog/<str:namespace>/<str:kind>/<str:name>",
    "connections/<str:slug>/records/<int:record_id>",
    "widgets/<str:page>/<str:widget>",
}
# Addresses that must tell a viewer of everything what they must not tell cleo: else this test shows nothing.
TELLING = {
    "", "catalog", "catalog/<str:namespace>/<str:kind>/<str:name>", "activity", "problems", "search", "search/suggest",
    "search/refs", "search/terms", "widgets/<str:page>/<str:widget>", "ties/<int:tie_id>",
    "connections", "connections/<str:slug>",
    "connections/<str:slug>/runs/<int:run_id>", "connections/import",
    "api/v1/entities/", "api/v1/entities/<uuid:uid>/", "api/v1/entities/<str:namespace>/<str:kind>/<str:name>/",
    "api/v1/entities/<str:namespace>/<str:kind>/<str:name>/history/",
    "api/v1/entities/<str:namespace>/<str:kind>/<str:name>/provenance/", "api/v1/ties/", "api/v1/ties/<int:tie_id>/",
    "api/v1/activity/", "api/v1/activity/<int:activity_id>/", "api/v1/problems/", "api/v1/connections/",
    "api/v1/connections/<slug:slug>/", "api/v1/sync-runs/", "api/v1/sync-runs/<int:run_id>/",
}  # fmt: skip


def told(
    user: User, asked: Iterable[tuple[Route, str]], *, once: bool = False, word: str = WORD
) -> dict[str, list[str]]:
    """What addresses told somebody of what lies in `default`: by route.

    :param once: ask no further at a route that told something.
    """
    client = signed_in(user)
    found: dict[str, list[str]] = {}
    for route, url in asked:
        if once and route.pattern in found:
            continue
        answer = client.get(url)
        assert answer.status_code < 500, url
        text = b"".join(answer.streaming_content) if answer.streaming else answer.content
        # The form's secret is drawn by lot, and now and then by chance a word.
        rest = re.sub(
            r"""(csrf\w+["' ]+(?:value=|:)[ "]+)\w{64}""", r"\1", text.decode(), flags=re.IGNORECASE
        ).lower()
        for words in re.findall(rf"[\w-]*{word}[\w-]*", url):
            rest = rest.replace(words, "")  # what one asked for may come back
        if (at := rest.find(word)) >= 0:
            found.setdefault(route.pattern, []).append(f"{url}: {rest[max(at - 80, 0) : at + 80]}")
    return found


class TestRawPayloads:
    """A tool's own words may hold what nobody meant to show: they are for editors."""

    @pytest.fixture
    def spoken(self, world: dict[str, Any]) -> dict[str, Any]:
        """All that is kept of tools' own words holds one of its own."""
        StoredRecord.objects.update(raw={"note": "bittersweet"})
        Activity.objects.update(raw={"note": "bittersweet"})
        Delivery.objects.create(
            connection=Connection.objects.get(slug=world["slug"]),
            digest="0" * 64,
            body=b'{"note": "bittersweet"}',
            state=Delivery.State.DONE,
            received_at=timezone.now(),
        )
        return world | {"delivery_id": Delivery.objects.get().pk}

    def test_no_address_tells_them_to_a_viewer(self, spoken: dict[str, Any], vic: User) -> None:
        assert told(vic, reading(spoken), word="bittersweet") == {}
        for slug in ("", "/records", f"/records/{spoken['record_id']}"):
            expected = 403 if slug else 200
            assert signed_in(vic).get(f"/connections/{spoken['slug']}{slug}").status_code == expected

    def test_editors_are_told_them(self, spoken: dict[str, Any], ben: User) -> None:
        found = told(
            ben, (pair for pair in reading(spoken) if pair[0].pattern in RAW), once=True, word="bittersweet"
        )
        assert set(found) == RAW

    def test_whose_record_it_is_decides_on_the_page_of_an_entity_too(
        self, spoken: dict[str, Any], cleo: User
    ) -> None:
        """An editor of one namespace sees an entity there that a connection of another one tells of."""
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        claim = Claim.objects.filter(
            entity__namespace="elsewhere", source__key__startswith="connection:", entity__deleted_at=None
        ).select_related("entity", "source")[0]
        slug, _slash, resource = claim.source.key.removeprefix("connection:").partition("/")
        there, _new = Connection.objects.get_or_create(slug=slug, defaults={"connector": "records"})
        Connection.objects.filter(pk=there.pk).update(namespace="elsewhere")
        StoredRecord.objects.filter(
            connection=there, resource=resource, external_id=claim.external_id
        ).delete()
        StoredRecord.objects.create(
            connection=there, resource=resource, external_id=claim.external_id, type="pipeline", digest=b"1",
            data={}, raw={"note": "bittersweet"}, as_of=timezone.now(), touched_at=timezone.now(),
        )  # fmt: skip
        page = f"/catalog/elsewhere/{claim.entity.kind}/{claim.entity.name}?tab=source"
        assert "bittersweet" in signed_in(cleo).get(page).content.decode()
        Connection.objects.filter(pk=there.pk).update(namespace="default")
        assert "bittersweet" not in signed_in(cleo).get(page).content.decode()


class TestOneNamespace:
    def test_nothing_beyond_it_is_told_anywhere(self, world: dict[str, Any], cleo: User) -> None:
        assert {problem.type for problem in queries.open_problems(cleo)} == {
            "ambiguous-key",
            "incomplete",
            "missing-target",
        }
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")  # sees records there too
        assert told(cleo, reading(world)) == {}

    def test_a_viewer_of_everything_is_told_it(self, world: dict[str, Any], vic: User) -> None:
        found = told(vic, (pair for pair in reading(world) if pair[0].pattern in TELLING), once=True)
        assert set(found) == TELLING

    def test_totals_and_facets_count_what_is_seen(self, world: dict[str, Any], cleo: User, vic: User) -> None:
        for viewer, expected in ((cleo, 5), (vic, 12)):
            rows = queries.list_entities(viewer)
            assert rows.count() == expected
            answer = signed_in(viewer).get("/api/v1/entities/").json()
            assert (answer["total"], len(answer["results"])) == (expected, expected)
            with counting(viewer, now=timezone.now()) as counts:
                kinds, *_others = counts.facets("", ["kind", "owner", "namespace"])
            assert sum(value.count for value in kinds.values) == expected
            assert sum(queries.counts_by_kind(viewer).values()) == expected

    def test_nor_can_it_be_told_from_what_a_query_finds(self, world: dict[str, Any], cleo: User) -> None:
        for query in (
            "dependencyOf:component:default/hush-pay",
            "dependencyOf:*",
            "has:dependencyOf",
            "sourceOf:*",
            "hasSource:repository:default/hush-repo",
            "has:hasSource",
        ):
            try:
                assert not queries.search_entities(cleo, query).exists(), query
            except Exception as error:
                if type(error).__name__ != "QueryError":
                    raise

    def test_the_feed_has_only_what_is_seen(self, world: dict[str, Any], cleo: User, vic: User) -> None:
        FeedItem.objects.update(transaction=1)  # of transactions that are over
        assert {item.namespace for item in feed_since(vic, position=(0, 0), limit=100)[0]} == {
            "default",
            "elsewhere",
        }
        assert {item.namespace for item in feed_since(cleo, position=(0, 0), limit=100)[0]} == {"elsewhere"}

    def test_what_is_not_found_leads_to_what_is_like_it_and_seen(
        self, world: dict[str, Any], cleo: User, vic: User
    ) -> None:
        for viewer, expected in ((vic, ["hush-twin", "twin"]), (cleo, ["twin"])):
            near = queries.near_names(viewer, kind="repository", name="hush-twins")
            assert [entity.name for entity in near if "twin" in entity.name] == expected
        shown = signed_in(cleo).get("/catalog/elsewhere/repository/twins")
        assert shown.status_code == 404
        assert b"/catalog/elsewhere/repository/twin" in shown.content

    def test_forbidden_ties_to_what_lies_beyond_are_not_told(
        self, world: dict[str, Any], cleo: User, vic: User
    ) -> None:
        there = Entity.objects.get(ref="component:elsewhere/there")
        twin = Entity.objects.get(ref="repository:default/hush-twin")
        Tie.objects.create(
            source=there, type="hasSource", target=twin, state=TieState.FORBIDDEN, decided_by="hush"
        )
        for viewer, expected in ((vic, ["repository:default/hush-twin"]), (cleo, [])):
            told_of = [tie.target.ref for tie, _may in queries.forbidden_ties(viewer, there)]
            assert told_of == expected, viewer

    def test_what_was_merged_from_beyond_is_not_told(
        self, world: dict[str, Any], cleo: User, vic: User, ana: User
    ) -> None:
        winner = Entity.objects.get(ref="repository:elsewhere/twin")
        merge_into(
            user=ana,
            loser=Entity.objects.get(ref="repository:default/hush-twin"),
            winner=winner,
            reason="one",
        )
        for viewer, expected in ((vic, ["repository:default/hush-twin"]), (cleo, [])):
            assert [row.ref for row in queries.redirects_to(viewer, winner)] == expected, viewer
        assert queries.redirect_of(vic, "repository:default/hush-twin").winner == winner
        with pytest.raises(NotFound):
            queries.redirect_of(cleo, "repository:default/hush-twin")

    def test_what_a_connection_speaks_of_is_counted_as_far_as_it_is_seen(
        self, world: dict[str, Any], cleo: User, vic: User
    ) -> None:
        there = Connection.objects.get(slug="there-ci")
        for viewer, count in ((vic, 3), (cleo, 2)):
            assert entity_counts(viewer, [there]) == {"there-ci": count}

    def test_problems_of_a_connection_are_for_those_of_its_namespace(
        self, world: dict[str, Any], cleo: User, vic: User
    ) -> None:
        report_runs(now=timezone.now())
        rows = {user.username: queries.open_problems(user).filter(type="sync") for user in (cleo, vic)}
        assert [row.subject_label for row in rows["cleo"]] == ["there tool"]
        assert told(cleo, reading(world)) == {}
        refused = {
            user.username: queries.open_problems(user).filter(type="refused-record") for user in (cleo, vic)
        }
        assert [row.detail["record"] for row in refused["cleo"]] == ["there-1"]
        assert refused["vic"].count() == 4
        assert rows["vic"].count() == 3

    def test_what_a_tool_of_it_brought_of_others_is_neither_shown_nor_counted(
        self, world: dict[str, Any], cleo: User, vic: User
    ) -> None:
        run_id = world["there"]["run_id"]
        counts = {}
        for viewer in (cleo, vic):
            run = signed_in(viewer).get(f"/api/v1/sync-runs/{run_id}/").json()
            counts[viewer.username] = {
                row["name"]: (row["listed"], row["refused"]) for row in run["resources"]
            }
            assert counts[viewer.username] == {
                row["name"]: (row["listed"], row["refused"])
                for listed in signed_in(viewer).get("/api/v1/sync-runs/").json()["results"]
                if listed["id"] == run_id
                for row in listed["resources"]
            }
        assert counts["vic"] == {
            "there-things": (1, 1),
            "documents": (1, 0),
            "builds": (1, 0),
            "more": (1, 1),
        }
        assert counts["cleo"] == {
            "there-things": (1, 1),
            "documents": (0, 0),
            "builds": (0, 0),
            "more": (0, 0),
        }
        for editor, reach in ((cleo, {"scope_type": "namespace", "scope": "elsewhere"}), (vic, {})):
            grant(role="editor", user=editor, **reach)
        records = {
            viewer.username: list_records(viewer, Connection.objects.get(slug="there-ci")).count()
            for viewer in (cleo, vic)
        }
        assert records == {"cleo": 1, "vic": 4}
        page = signed_in(cleo).get("/connections/there-ci").content.decode()
        assert re.search(r"Records</a></h2>\s*<div[^>]*>1<", page)

    def test_settings_of_connections_are_for_those_who_may_change_them(
        self, world: dict[str, Any], ana: User, ben: User, vic: User
    ) -> None:
        for viewer, expected in ((ana, {"source": "/tmp/hush"}), (ben, None), (vic, None)):
            client = signed_in(viewer)
            answers = [
                client.get("/api/v1/connections/").json()["results"][0],
                client.get("/api/v1/connections/hush-ci/").json(),
            ]
            assert [answer["config"] for answer in answers] == [expected, expected]
            assert ("/tmp/hush" in client.get("/connections/hush-ci").content.decode()) is (viewer is ana)

    def test_a_grant_for_a_query_bounds_alike(self, world: dict[str, Any], no_access: User) -> None:
        grant(role="viewer", user=no_access, scope_type="query", scope="namespace:elsewhere")
        asked = (
            pair
            for pair in reading(world)
            if pair[0].pattern.startswith("api/") or pair[0].pattern == "catalog"
        )
        assert told(no_access, asked) == {}
        assert queries.list_entities(no_access).count() == 5
        assert queries.list_activity(no_access).count() == 1

    def test_a_token_for_one_namespace_bounds_whoever_has_it(self, world: dict[str, Any], ana: User) -> None:
        token = create_token(user=ana, name="t", scope_type="namespace", scope="elsewhere").text
        answer = Client().get("/api/v1/entities/", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["total"] == 5
        assert WORD.encode() not in answer.content


class TestWriting:
    @pytest.mark.parametrize("role", ["viewer", "editor"])
    def test_a_viewers_token_may_write_nowhere(
        self, role: str, world: dict[str, Any], ana: User, as_token: Callable[..., dict[str, str]]
    ) -> None:
        """An editor's may where the role says so, which shows that it is the role that forbids."""
        headers = as_token(ana, role=role)
        tried, passed = 0, set()
        for route in operations():
            for method in set(route.methods) & set(WRITING):
                tried += 1
                given = {"data": "{}", "content_type": "application/json"} if method != "delete" else {}
                answer = getattr(Client(), method)(route.url(world | {"pk": 1}), headers=headers, **given)
                if answer.status_code != 403:
                    passed.add((method, route.pattern))
        assert tried >= 20
        if role == "viewer":
            assert passed == set()
        else:
            assert passed >= {("post", "api/v1/entities/"), ("post", "api/v1/ties/")}
            assert not any("connections/" in pattern and "sync" not in pattern for _m, pattern in passed)

    def test_nobody_at_all_may_write_without_signing_in(self, world: dict[str, Any]) -> None:
        for route in operations():
            for method in set(route.methods) & set(WRITING):
                answer = getattr(Client(), method)(
                    route.url(world), data="{}", content_type="application/json"
                )
                assert answer.status_code == 401, (method, route.pattern)

    def test_a_viewers_session_posts_to_no_page(self, world: dict[str, Any], vic: User) -> None:
        client = signed_in(vic)
        client.get("/")  # that somebody is here is noted by the hour, whatever they open
        refused = 0
        for route in routes():
            if route.pattern.startswith(("api/", "admin/", "hooks/")) or route.pattern in OWN:
                continue
            url = route.url(world | {"user_id": vic.pk, "group_id": 1, "name": "hush-pay"})
            if route.pattern.endswith("/run"):
                url += "?connection=hush-ci&operation=rebuild&target=builders/1"
            with CaptureQueriesContext(connection) as captured:
                answer = client.post(
                    url, {"field": "spec.owner", "value": "x", "state": "forbidden", "type": "stale"}
                )
            if answer.status_code == 403:
                refused += 1
            elif answer.status_code != 405:
                # A page that is only read may be asked for in this way too, but then it is only read.
                verbs = {query["sql"].split(None, 1)[0].upper() for query in captured.captured_queries}
                assert not verbs & {"INSERT", "UPDATE", "DELETE", "COPY"}, (route.pattern, answer.status_code)
                assert answer.status_code in {200, 302}, (route.pattern, answer.status_code)
                assert not answer.has_header("Location") or "sign-in" not in answer.headers["Location"]
        assert refused >= 20

    def test_without_the_secret_of_the_form_no_post_is_taken(self, world: dict[str, Any], ana: User) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(ana)
        for route in routes():
            if route.pattern.startswith(("api/", "admin/", "hooks/")) or route.pattern in {
                "healthz",
                "readyz",
                "metrics",
                "notices/end/<str:token>",  # which a mail program sends: the link itself is the secret
            }:
                continue
            answer = client.post(route.url(world))
            assert answer.status_code == 403, route.pattern

    def test_every_way_of_writing_names_its_verb(self) -> None:
        for route in operations():
            verbs = getattr(route.view, "verbs", {})
            for method in set(route.methods) & set(WRITING):
                assert verbs.get(method.upper()), (route.pattern, method)

    def test_a_token_outlives_no_role(self, world: dict[str, Any], ben: User) -> None:
        token = create_token(user=ben, name="t")
        headers = {"Authorization": f"Bearer {token.text}"}
        assert (
            Client()
            .post("/api/v1/entities/", "[]", content_type="application/json", headers=headers)
            .status_code
            == 200
        )
        ben.grants.all().delete()
        grant(role="viewer", user=ben)
        assert (
            Client()
            .post("/api/v1/entities/", "[]", content_type="application/json", headers=headers)
            .status_code
            == 403
        )
        assert ApiToken.objects.count() == 1
        assert Role.objects.count() >= 3


@pytest.mark.full
@pytest.mark.parametrize("odd", ["a%00b", "%F0%9F%A6%84", "%FF%FE", "..", "a" * 3_000])
def test_an_odd_address_is_no_error(world: dict[str, Any], ana: User, odd: str) -> None:
    """A character that the database cannot hold, bytes that are no text, a path upwards, a very long name."""
    client = Client(raise_request_exception=False)
    assert client.login(username=ana.username, password=PASSWORD)
    names = (
        "q",
        "cursor",
        "order",
        "fields",
        "type",
        "state",
        "status",
        "entity",
        "of",
        "tab",
        "since",
        "connection",
    )
    for route in routes():
        if route.pattern.startswith("admin/") or "get" not in route.methods or route.pattern == "sign-out":
            continue
        place = dict.fromkeys(("namespace", "kind", "name", "username", "page", "widget", "connector"), odd)
        if odd != "..":
            assert _status(client, route.url({**world, **place})) < 500, route.pattern
        for name in names:
            assert _status(client, route.url(world) + f"?{name}={odd}") < 500, (route.pattern, name)


def _status(client: Client, url: str) -> int:
    answer: Any = client.get(url)
    if answer.streaming:  # read to its end, for few streams may be open at once
        list(answer.streaming_content)
    return int(answer.status_code)
