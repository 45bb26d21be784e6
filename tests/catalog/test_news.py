"""What changed is noted for who tells people: all that a query can ask for, once each, and with how it was before."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from catalog.models import Entity, News, Rank
from catalog.services import problems
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.news import Before, Taken, take_news
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, entity, say, unsay

pytestmark = pytest.mark.django_db


def taken() -> Taken:
    return take_news(limit=10_000)


def names(found: Taken) -> set[str]:
    return set(Entity.objects.filter(pk__in=found.entities).values_list("name", flat=True))


def run(status: str, *, minute: int = 0, id: str = "7", about: str = "pipeline:ci/1") -> None:
    at = timezone.now().replace(second=minute, microsecond=0)
    apply_activity(
        connection_slug="ci",
        connector="buildbot",
        items=[
            ActivityIn(
                type="run",
                external_id=id,
                event="pipelinerun.finished",
                at=at,
                as_of=at,
                status=status,
                about=(about,),
            )
        ],
    )


@pytest.fixture(autouse=True)
def things(core_pack: None) -> None:
    say("connection:ci/builders", claim("pipeline:build", keys=("pipeline:ci/1",), rank=Rank.CONNECTION))
    say("yaml:a", component("pay", dependsOn=["component:web"]), component("web"))
    taken()


def test_what_did_not_change_is_not_noted() -> None:
    say("yaml:a", component("pay", dependsOn=["component:web"]), component("web"), minute=1)
    assert taken() == Taken()


def test_both_ends_of_a_relation_are_noted_and_what_is_gone() -> None:
    say("yaml:a", component("pay"), minute=1)
    assert names(taken()) == {"pay", "web"}
    unsay("yaml:a", "component:pay", minute=2)
    assert "pay" in names(taken())
    assert taken() == Taken()


def test_nothing_is_noted_of_an_entity_before_it_is_rendered() -> None:
    say("yaml:a", component("web", lifecycle="retired"), minute=1, render=False)
    assert not taken().entities
    render_dirty(at=timezone.now())
    assert names(taken()) == {"web"}


def test_a_run_is_noted_with_how_it_was_and_so_is_what_it_fails() -> None:
    run("running")
    found = taken()
    assert list(found.activities.values()) == [Before(is_new=True, status="", about=None)]
    run("failed", minute=1)
    run("failed", minute=1)  # which says nothing new
    render_dirty(at=timezone.now())
    found = taken()
    uid = entity("pipeline:default/build").uid
    assert list(found.activities.values()) == [Before(is_new=False, status="running", about=uid)]
    assert names(found) == {"build"}
    assert entity("pipeline:default/build").failing_since is not None


def test_of_several_changes_the_first_says_how_it_was() -> None:
    run("queued")
    run("running", minute=1)
    assert list(taken().activities.values()) == [Before(is_new=True, status="", about=None)]


def test_an_activity_that_finds_its_subject_later_is_noted_again() -> None:
    run("failed", about="pipeline:ci/2")
    taken()
    say("connection:ci/builders", claim("pipeline:late", keys=("pipeline:ci/2",), rank=Rank.CONNECTION))
    assert list(taken().activities.values()) == [Before(is_new=False, status="failed", about=None)]


def test_a_problem_is_noted_when_it_comes_and_when_it_goes() -> None:
    subject = problems.subject_of(entity("component:default/web"))
    seen = problems.Seen(type="stale", severity=problems.Severity.WARN, cause="c", message="m")
    for what in ([(subject, seen)], []):
        for _ in range(2):
            problems.sync(
                raised_by="connection:x", seen=what, within=Q(subject_uid=subject.uid), at=timezone.now()
            )
        assert News.objects.count() == 1
        assert names(taken()) == {"web"}


def test_what_is_taken_up_is_there_again_if_the_taker_fails() -> None:
    say("yaml:a", component("web", lifecycle="retired"), minute=1)
    before = News.objects.count()

    with transaction.atomic():
        assert taken().entities
        transaction.set_rollback(True)
    assert News.objects.count() == before > 0
