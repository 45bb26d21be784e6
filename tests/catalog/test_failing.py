"""What fails: since when, from which commit on, and what changed before."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from access.models import User
from catalog import failing, queries
from catalog.models import Entity, Rank
from catalog.services.activity import ActivityIn, forget_activity
from catalog.services.ingest import ClaimIn
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, entity, later, say
from tests.catalog.test_activity import run, tell

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

REPO, LEDGER = "repo:h.example/pay", "repo:h.example/ledger"
BUILD, NIGHTLY, OF_LEDGER = (f"pipeline:ci.example/{name}" for name in ("build", "nightly", "ledger"))


def _in(repository: str, name: str, **spec: Any) -> ClaimIn:
    return claim(
        f"component:{name}",
        {"type": "service", "lifecycle": "x", "owner": "team", **spec},
        about=(repository,),
    )


@pytest.fixture
def pay() -> Callable[[], Entity]:
    """A component that two pipelines build and that depends on two more, one through the other."""
    spoken = {"rank": Rank.CONNECTION}
    say("connection:git", claim("repository:pay", keys=(REPO,), **spoken))
    say("connection:git", claim("repository:ledger", keys=(LEDGER,), **spoken))
    say("connection:ci", claim("pipeline:build", keys=(BUILD,), about=(REPO,), **spoken))
    say("connection:ci", claim("pipeline:nightly", keys=(NIGHTLY,), about=(REPO,), **spoken))
    say(
        "connection:ci",
        claim("pipeline:ledger", keys=(OF_LEDGER,), about=(LEDGER,), **spoken),
    )
    say("yaml:a", _in(REPO, "pay", dependsOn=["component:ledger"]))
    say(
        "yaml:a",
        _in(LEDGER, "ledger", consumesApis=["rates"]),
        component("rates-server", providesApis=["rates"]),
    )
    say(
        "yaml:a",
        claim("api:rates", {"type": "openapi", "lifecycle": "x", "owner": "team", "definition": "a"}),
    )
    return lambda: entity("component:default/pay")


def commit(sha: str, at: int, *about: str, actor: str = "Mia Sand", **more: Any) -> ActivityIn:
    return ActivityIn(
        **{
            "type": "commit",
            "external_id": sha,
            "event": "change.merged",
            "at": later(at),
            "as_of": later(90),
            "title": f"Change {sha}",
            "commit": sha,
            "actor": actor,
            "about": about or (REPO,),
            **more,
        }
    )


def found(viewer: User) -> set[str]:
    return set(queries.search_entities(viewer, "kind:component is:failing").values_list("name", flat=True))


class TestWhen:
    def test_any_pipeline_whose_last_finished_run_failed_makes_it_fail(self, pay: Any, vic: User) -> None:
        tell(
            run("failed", id="1", finished=5, about=(NIGHTLY,)),
            run("passed", id="2", finished=9, about=(BUILD,)),
        )
        assert (pay().failing_since, pay().last_run, pay().last_run_at) == (later(5), "failed", later(5))
        assert found(vic) == {"pay"}
        tell(run("passed", id="3", finished=12, about=(NIGHTLY,), read=20))
        assert (pay().failing_since, pay().last_run) == (None, "passed")
        assert found(vic) == set()

    def test_since_the_first_run_that_failed_after_the_last_good_one(self, pay: Any) -> None:
        outcomes = ["failed", "passed", "failed", "cancelled", "failed", "skipped"]
        tell(
            *[
                run(status, id=str(n), finished=10 * n + 1, about=(BUILD,))
                for n, status in enumerate(outcomes)
            ]
        )
        assert pay().failing_since == later(21)

    def test_what_runs_now_and_what_was_cancelled_neither_mends_nor_breaks(self, pay: Any) -> None:
        tell(run("failed", id="1", finished=5, about=(BUILD,)))
        tell(
            run("running", id="2", started=7, about=(BUILD,)),
            run("cancelled", id="3", finished=8, about=(BUILD,)),
        )
        assert (pay().failing_since, pay().last_run) == (later(5), "failed")

    @pytest.mark.parametrize("other", [{"is_change": True}, {"is_default_branch": False}])
    def test_changes_and_other_branches_never_count(self, pay: Any, other: dict[str, Any]) -> None:
        tell(run("passed", id="1", finished=3, about=(BUILD,)))
        tell(run("failed", id="2", finished=5, about=(BUILD,), **other))
        assert (pay().failing_since, pay().last_run) == (None, "passed")
        tell(
            run("failed", id="3", finished=7, about=(BUILD,)),
            run("passed", id="4", finished=9, about=(BUILD,), **other),
        )
        assert pay().failing_since == later(7)

    def test_it_ends_with_the_connection_that_told_of_it(self, pay: Any) -> None:
        tell(run("failed", id="1", about=(BUILD,)))
        assert pay().failing_since is not None
        forget_activity(connection_slug="ci")
        render_dirty(at=later(60))
        assert (pay().failing_since, pay().last_run) == (None, "")


class TestWhere:
    def test_it_names_the_first_bad_commit_its_author_the_step_and_the_log(self, pay: Any, vic: User) -> None:
        bad = {
            "data": {
                "log_url": "https://ci.example/2/log",
                "steps": [
                    {"name": "compile", "status": "passed"},
                    {"name": "test", "status": "failed", "log_url": "https://ci.example/2/test"},
                    {"name": "report", "status": "failed"},
                ],
            }
        }
        tell(commit("aaa", 1), commit("bbb", 8), commit("ccc", 20))
        tell(
            run("passed", id="1", finished=5, about=(BUILD,), commit="aaa"),
            run("failed", id="2", finished=11, about=(BUILD,), commit="bbb", actor="robot", **bad),
            run("failed", id="3", finished=25, about=(BUILD,), commit="ccc", read=40),
        )
        (one,) = failing.failures_of(vic, pay())
        assert (one.first.external_id, one.last.external_id) == ("2", "3")
        assert (one.commit and one.commit.commit, one.author) == ("bbb", "Mia Sand")
        assert (one.step, one.log_url) == ("test", "https://ci.example/2/test")
        assert one.last.as_of == later(40)

    def test_without_the_commit_it_is_who_ran_it(self, pay: Any, vic: User) -> None:
        tell(
            run("failed", id="1", about=(BUILD,), commit="zzz", actor="Ola Berg", url="https://ci.example/1")
        )
        (one,) = failing.failures_of(vic, pay())
        assert (one.commit, one.author, one.step, one.log_url) == (
            None,
            "Ola Berg",
            "",
            "https://ci.example/1",
        )


class TestBefore:
    @pytest.fixture
    def broken(self, pay: Any) -> Entity:
        tell(
            run("passed", id="0", started=1, finished=2, about=(BUILD,)),
            run("failed", id="1", started=30, finished=35, about=(BUILD,)),
            run("failed", id="x", started=10, finished=12, about=(OF_LEDGER,)),
            run("passed", id="y", started=14, finished=15, about=(OF_LEDGER,)),
            commit("long-ago", 29 - 24 * 60),
            commit("own", 20),
            commit("of-ledger", 25, "ref:component:default/ledger"),
            commit("of-rates", 28, "ref:component:default/rates-server"),
            commit("of-nobody", 29, "repo:h.example/other"),
            commit("too-late", 32),
        )
        return entity("component:default/pay")

    def test_the_day_before_on_it_and_on_what_it_depends_on_nearest_first(
        self, broken: Entity, vic: User
    ) -> None:
        shown = failing.changed_before(vic, broken, later(30))
        assert [(near.entity.name, near.distance, row.external_id) for near, row in shown] == [
            ("pay", 0, "own"),
            ("ledger", 1, "of-ledger"),
            ("ledger", 1, "x"),
            ("rates-server", 3, "of-rates"),
        ]
        assert all(later(30) - timedelta(hours=24) < row.at <= later(30) for _near, row in shown)

    def test_the_api_says_what_the_page_shows(
        self, broken: Entity, client: Client, vic: User, as_token: Callable[..., dict[str, str]]
    ) -> None:
        answer = client.get("/api/v1/entities/default/component/pay/failing/", headers=as_token(vic)).json()
        assert answer["since"] == broken.failing_since.isoformat().replace("+00:00", "Z")
        assert [one["first"]["external_id"] for one in answer["failures"]] == ["1"]
        assert [(b["entity"], b["activity"]["external_id"]) for b in answer["before"]][:2] == [
            ("component:default/pay", "own"),
            ("component:default/ledger", "of-ledger"),
        ]
        client.force_login(vic)
        page = client.get("/catalog/default/component/pay").content.decode()
        assert re.search(
            r'<span class="po-status po-fail"><svg.*?</svg>Failing: 1 pipeline</span></h2>', page
        )
        assert page.index("Change own") < page.index("Change of-ledger") < page.index("Change of-rates")
        assert "long-ago" not in page.split("What changed in the 24 hours before")[1].split("</section>")[0]
        home = client.get("/").content.decode()
        assert "Failing now" in home

    def test_what_lies_beyond_one_s_namespace_is_not_told(self, broken: Entity, cleo: User) -> None:
        assert failing.changed_before(cleo, broken, later(30)) == []
        assert failing.failures_of(cleo, broken) == []

    def test_nothing_fails_nothing_is_asked(self, vic: User, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            assert failing.failures_of(vic, Entity()) == []
            assert failing.before_it_failed(vic, Entity(), []) == []


class TestAgreement:
    """Whoever asks, and wherever, is told the same."""

    GOOD = ("passed", "1", 5)
    BAD = ("failed", "2", 9)

    @pytest.mark.parametrize(
        ("runs", "is_failing"),
        [
            ([GOOD, BAD], True),
            ([GOOD, BAD, ("passed", "3", 12)], False),
            ([BAD, ("cancelled", "3", 12)], True),
            ([GOOD], False),
            ([], False),
        ],
    )
    def test_home_list_entity_activity_and_api_agree(
        self,
        pay: Any,
        client: Client,
        vic: User,
        as_token: Callable[..., dict[str, str]],
        runs: list[tuple[str, str, int]],
        is_failing: bool,
    ) -> None:
        tell(*(run(status, id=id_, finished=at, about=(BUILD,)) for status, id_, at in runs))
        tell(run("failed", id="of-a-change", finished=30, about=(BUILD,), is_change=True))
        render_dirty(at=later(40))
        headers, asked = as_token(vic), "kind:component is:failing"
        listed = client.get("/api/v1/entities/", {"q": asked}, headers=headers).json()
        told = client.get("/api/v1/entities/default/component/pay/failing/", headers=headers).json()
        happened = client.get("/api/v1/activity/", {"q": "is:failing"}, headers=headers).json()
        client.force_login(vic)

        def page(path: str, **params: str) -> str:
            return " ".join(re.sub(r"<[^>]+>", " ", client.get(path, params).content.decode()).split())

        answers = {
            "home": "Failing now pay Failed" in page("/"),
            "list": "1-1 of 1" in page("/catalog", q=asked),
            "entity": "Failing: 1 pipeline" in page("/catalog/default/component/pay"),
            "activity": "build failed in build" in page("/activity", q="is:failing"),
            "api": bool(listed["results"]),
            "api, what fails": told["since"] is not None and bool(told["failures"]),
            "api, activity": bool(happened["results"]),
        }
        assert answers == dict.fromkeys(answers, is_failing)
        assert is_failing != (
            "Nothing has happened to what the query finds." in page("/activity", q="is:failing")
        )
