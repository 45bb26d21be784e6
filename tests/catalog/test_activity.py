"""What happened: rows that only move forward, the steps that stay, subjects that come later."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog import queries
from catalog.models import Activity, EntityKey, Rank, Transition
from catalog.services import activity
from catalog.services.activity import ActivityIn, apply_activity, forget_activity, resolve_subjects
from catalog.services.ingest import ClaimIn, Outcome
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, entity, later, relations, say, unsay, writes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

PIPELINE = "pipeline:ci.example/1"


def run(
    status: str = "passed",
    *,
    id: str = "1",
    read: int = 9,
    started: int | None = 1,
    finished: int | None = None,
    **more: Any,
) -> ActivityIn:
    """A run as a tool tells it; times in minutes."""
    done = status not in {"queued", "running"}
    event = "finished" if done else "started" if status == "running" else "queued"
    finished = 3 if done and finished is None else finished
    begun = None if started is None else later(started)
    return ActivityIn(
        **{
            "type": "run",
            "external_id": id,
            "event": f"pipelinerun.{event}",
            "status": status,
            "at": later(finished if finished is not None else started or 0),
            "as_of": later(read),
            "started_at": begun,
            "finished_at": None if finished is None else later(finished),
            "about": (PIPELINE,),
            "steps": (("pipelinerun.started", "running", begun),) if done and begun else (),
            "is_default_branch": True,
            **more,
        }
    )


def tell(*items: ActivityIn, slug: str = "ci") -> list[Outcome]:
    """Have one page taken in."""
    outcomes = apply_activity(connection_slug=slug, connector="buildbot", items=items)
    render_dirty(at=timezone.now())
    return outcomes


def steps(external_id: str = "1") -> list[tuple[str, str, datetime]]:
    rows = Transition.objects.filter(activity__external_id=external_id).order_by("at", "id")
    return list(rows.values_list("event", "status", "at"))


def pipeline(**more: Any) -> ClaimIn:
    return claim("pipeline:-", id="7", rank=Rank.CONNECTION, suggested_name="build", keys=(PIPELINE,), **more)


class TestForward:
    def test_a_run_goes_through_its_states_and_each_stays_as_a_step(self) -> None:
        assert tell(run("queued", started=None, read=0)) == [Outcome.NEW]
        assert tell(run("running", read=2)) == [Outcome.CHANGED]
        assert tell(run("failed", read=4)) == [Outcome.CHANGED]
        row = Activity.objects.get()
        assert (row.status, row.at, row.duration) == ("failed", later(3), 120)
        assert steps() == [
            ("pipelinerun.queued", "queued", later(0)),
            ("pipelinerun.started", "running", later(1)),
            ("pipelinerun.finished", "failed", later(3)),
        ]

    def test_the_same_once_more_writes_nothing(self) -> None:
        tell(run())
        with writes() as statements:
            assert tell(run(read=20)) == [Outcome.UNCHANGED]
        assert statements == []

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_whatever_order_messages_come_in_the_newest_state_stands(self, order: tuple[int, ...]) -> None:
        told = [run("queued", started=None, read=0), run("running", read=2), run("passed", read=4)]
        for position in order:
            tell(told[position])
        assert Activity.objects.get().status == "passed"
        assert steps()[-1][1] == "passed"

    @pytest.mark.parametrize("late", [run("running", read=30), run("queued", started=None, read=30)])
    def test_what_is_over_is_not_begun_again_by_a_late_message(self, late: ActivityIn) -> None:
        tell(run("passed", read=4))
        assert tell(late) == [Outcome.UNCHANGED]
        assert Activity.objects.get().status == "passed"

    def test_a_run_that_is_started_anew_moves_on(self) -> None:
        tell(run("failed", read=4))
        assert tell(run("running", started=10, read=11)) == [Outcome.CHANGED]
        assert Activity.objects.get().status == "running"
        assert tell(run("passed", started=10, finished=12, read=13)) == [Outcome.CHANGED]
        assert [status for _event, status, _at in steps()] == ["running", "failed", "running", "passed"]

    def test_a_correction_of_a_finished_run_counts(self) -> None:
        tell(run("passed", read=4))
        assert tell(run("unstable", read=5)) == [Outcome.CHANGED]
        assert Activity.objects.get().status == "unstable"

    def test_what_ended_is_not_over_twice_when_its_end_is_corrected(self) -> None:
        tell(run("passed", finished=5, read=6))
        assert tell(run("passed", finished=4, read=7)) == [Outcome.CHANGED]
        assert Activity.objects.get().finished_at == later(4)
        tell(run("passed", started=10, finished=12, read=13))
        assert [(status, at) for _event, status, at in steps()] == [
            ("running", later(1)),
            ("passed", later(5)),
            ("running", later(10)),
            ("passed", later(12)),
        ]

    def test_of_one_thing_twice_in_a_page_the_newer_stands(self) -> None:
        tell(run("passed", read=4), run("running", read=2), run("queued", id="2", started=None))
        assert Activity.objects.get(external_id="1").status == "passed"
        assert Activity.objects.count() == 2

    def test_ids_belong_to_a_connection_and_a_type(self) -> None:
        tell(run(), run(type="deployment", event="service.deployed", status="deployed"))
        tell(run(), slug="other")
        assert Activity.objects.count() == 3

    def test_statements_do_not_grow_with_the_page(self) -> None:
        say("connection:ci/builders", pipeline())

        def cost(first: int, count: int) -> int:
            page = [run(id=str(n)) for n in range(first, first + count)]
            with CaptureQueriesContext(connection) as captured:
                apply_activity(connection_slug="ci", connector="buildbot", items=page)
            return len(captured)

        assert cost(0, 5) == cost(100, 100) <= 16  # one of them asks who is not told of what


class TestSubjects:
    @pytest.fixture(autouse=True, params=[0, 100])
    def _ways_of_finding(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Few keys are found by the index, many in another way."""
        monkeypatch.setattr(activity, "FEW_KEYS", request.param)

    def test_the_first_key_that_an_entity_is_leads_to_the_subject(self) -> None:
        say(
            "connection:git/repositories",
            claim("repository:pay", rank=Rank.CONNECTION, keys=("repo:h.example/pay",)),
        )
        tell(run(about=("pipeline:nowhere/1", "repo:https://h.example/pay.git#services/api")))
        row = Activity.objects.get()
        found = entity("repository:default/pay")
        assert (row.subject_uid, row.subject_ref, row.namespace) == (found.uid, found.ref, "default")

    def test_speaking_about_a_key_makes_nothing_its_subject(self) -> None:
        say("yaml:a", claim("component:pay", about=("repo:h.example/pay",)))
        tell(run(about=("repo:h.example/pay",)))
        assert Activity.objects.get().subject_uid is None

    def test_a_ref_leads_to_what_it_names_now_or_named_once(self) -> None:
        tell(run(about=("ref:component:default/pay",)))
        assert Activity.objects.get().subject_uid is None
        say("yaml:a", component("pays"), component("pay", id="1"))
        assert Activity.objects.get().subject_ref == "component:default/pay"
        say("yaml:a", component("payments", id="1"), minute=1)
        tell(run(id="2", about=("ref:Component:default/Pay",)))
        assert Activity.objects.get(external_id="2").subject_uid == entity("component:default/payments").uid
        say("yaml:a", component("pay", id="2"), minute=2)
        tell(run(id="3", about=("ref:component:default/pay",)))
        assert Activity.objects.get(external_id="3").subject_uid == entity("component:default/pay").uid

    def test_a_ref_is_nothings_identity(self) -> None:
        ref = "ref:component:default/pay"
        say("yaml:a", component("pay"))
        other = claim("repository:other", rank=Rank.CONNECTION, keys=(ref,), about=(ref,))
        say("connection:git/repositories", other)
        assert not EntityKey.objects.filter(key__startswith="ref:").exists()
        assert relations("component:default/pay") == [("ownedBy", "group:default/team")]

    def test_a_subject_that_comes_later_is_found_and_shows_what_happened(self, vic: Any) -> None:
        tell(run("failed"), run("passed", id="2", started=20, finished=21))
        assert not Activity.objects.exclude(subject_uid=None).exists()
        say("connection:ci/builders", pipeline(), minute=30)
        found = entity("pipeline:default/build")
        assert set(Activity.objects.values_list("subject_uid", flat=True)) == {found.uid}
        assert (found.last_run, found.last_run_at) == ("passed", later(21))
        assert [a.external_id for a in queries.activity_of(vic, found)] == ["2", "1"]

    def test_a_later_pipeline_brings_its_runs_to_the_components_of_its_repository(self) -> None:
        repo = "repo:h.example/pay"
        say("connection:git/repositories", claim("repository:pay", rank=Rank.CONNECTION, keys=(repo,)))
        say("yaml:a", claim("component:pay", {"type": "x"}, about=(repo,)))
        tell(run("failed"))
        say("connection:ci/builders", pipeline(about=(repo,)), minute=30)
        assert entity("repository:default/pay").last_run == "failed"
        assert entity("component:default/pay").last_run == "failed"
        tell(run("passed", id="2", started=20, finished=21))
        assert entity("component:default/pay").last_run == "passed"

    def test_the_subject_of_an_earlier_key_takes_over_when_it_comes(self) -> None:
        tell(run("failed", about=("repo:h.example/a", "repo:h.example/b")))
        say("connection:g/r", claim("repository:b", rank=Rank.CONNECTION, keys=("repo:h.example/b",)))
        assert Activity.objects.get().subject_ref == "repository:default/b"
        say(
            "connection:g/r",
            claim("repository:a", rank=Rank.CONNECTION, keys=("repo:h.example/a",)),
            minute=1,
        )
        assert Activity.objects.get().subject_ref == "repository:default/a"
        assert entity("repository:default/a").last_run == "failed"
        assert entity("repository:default/b").last_run == ""
        assert resolve_subjects({"repo:h.example/a", "repo:h.example/b"}) == set()

    def test_when_a_run_turns_out_to_be_of_another_pipeline_the_first_forgets_it(self) -> None:
        other = "pipeline:ci.example/2"
        say("connection:ci/builders", pipeline())
        say("connection:ci/builders", claim("pipeline:other", rank=Rank.CONNECTION, keys=(other,)))
        tell(run("failed"))
        assert entity("pipeline:default/build").last_run == "failed"
        tell(run("failed", about=(other,), read=20))
        assert entity("pipeline:default/other").last_run == "failed"
        assert entity("pipeline:default/build").last_run == ""

    def test_activity_outlives_its_subject_and_follows_its_name(self, vic: Any) -> None:
        say("connection:ci/builders", pipeline())
        tell(run())
        uid = entity("pipeline:default/build").uid
        unsay("connection:ci/builders", "7", minute=10)
        row = queries.list_activity(vic).get()
        assert (row.subject_uid, row.subject_ref) == (uid, "pipeline:default/build")


class TestSignals:
    def test_runs_of_changes_and_of_other_branches_do_not_count(self) -> None:
        say("connection:ci/builders", pipeline())
        tell(
            run("passed", id="main"),
            run("failed", id="change", started=20, finished=21, is_change=True),
            run("failed", id="branch", started=30, finished=31, is_default_branch=False),
        )
        assert entity("pipeline:default/build").last_run == "passed"
        tell(run("failed", id="unknown", started=40, finished=41, is_default_branch=None))
        assert entity("pipeline:default/build").last_run == "failed"

    def test_the_newest_version_shows(self) -> None:
        repo = "repo:h.example/pay"
        say("connection:git/repositories", claim("repository:pay", rank=Rank.CONNECTION, keys=(repo,)))
        for number, at in (("1.0", 1), ("1.2", 9), ("1.1", 5)):
            tell(
                ActivityIn(
                    type="version",
                    external_id=number,
                    event="artifact.published",
                    version=number,
                    at=later(at),
                    as_of=later(at),
                    about=(repo,),
                )
            )
        assert entity("repository:default/pay").version == "1.2"

    def test_when_the_connection_goes_its_activity_and_signals_go(self) -> None:
        say("connection:ci/builders", pipeline())
        tell(run("failed"), run(id="2", started=20, finished=22))
        tell(run("passed", id="9", started=0, finished=1), slug="other")
        assert forget_activity(connection_slug="ci") == 2
        render_dirty(at=later(30))
        assert Activity.objects.get().connection == "other"
        assert Transition.objects.count() == 2
        found = entity("pipeline:default/build")
        assert (found.last_run, found.last_run_at) == ("passed", later(1))


def test_a_namespace_bounds_what_is_seen_of_the_timeline(cleo: Any, vic: Any) -> None:
    say(
        "connection:a/r",
        claim("pipeline:elsewhere/there", rank=Rank.CONNECTION, keys=("pipeline:ci.example/there",)),
    )
    say("connection:a/r", claim("pipeline:here", rank=Rank.CONNECTION, keys=("pipeline:ci.example/here",)))
    say("yaml:a", component("unrelated"))
    tell(
        run(id="there", about=("pipeline:ci.example/there",)),
        run(id="here", about=("pipeline:ci.example/here",)),
        run(id="nobody", about=("pipeline:ci.example/nobody",)),
    )
    assert {a.external_id for a in queries.list_activity(vic)} == {"there", "here", "nobody"}
    assert {a.external_id for a in queries.list_activity(cleo)} == {"there"}
