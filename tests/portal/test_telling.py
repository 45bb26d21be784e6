"""What people are told of: what comes to match, what ceases to, what happened; and what they are not told of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import Grant, User
from access.permissions import changing_access
from access.services import grant
from catalog.models import Activity, Entity, News, Rank
from catalog.services import problems
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.render import render_dirty
from portal import telling
from portal.models import Match, Notice, Watch
from portal.watches import (
    change_watch,
    delete_watch,
    forget_old,
    make_watch,
    mark_notice,
    notices_of,
    restore_watch,
    told,
    unread_of,
)
from tests.catalog.saying import claim, component, entity, say, unsay

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    say("yaml:a", component("pay"), component("web"))
    say("connection:ci/builders", claim("pipeline:build", keys=("pipeline:ci/1",), rank=Rank.CONNECTION))
    tell()


def tell(*, later: timedelta = timedelta()) -> None:
    """Have everything told that there is to tell."""
    render_dirty(at=timezone.now())
    while telling.tell(now=timezone.now() + later):
        pass
    assert not News.objects.exists()


def watch(user: User, query: str = "kind:component", **more: Any) -> Watch:
    return make_watch(user=user, about=more.pop("about", "entities"), query=query, **more)


def texts(user: User) -> list[str]:
    return [one.text for one in told(user, notices_of(user))]


def run(status: str = "failed", *, id: str = "1", at: datetime | None = None, **more: Any) -> None:
    moment = at or timezone.now()
    apply_activity(
        connection_slug="ci",
        connector="buildbot",
        items=[
            ActivityIn(
                **{"type": "run", "title": "build", "number": id, "about": ("pipeline:ci/1",)} | more,
                external_id=id,
                event="pipelinerun.finished",
                at=moment,
                as_of=timezone.now(),
                status=status,
                is_default_branch=True,
            )
        ],
    )


class TestEntities:
    def test_what_matches_already_is_no_news_and_what_comes_is(self, vic: User) -> None:
        watch(vic)
        tell()
        assert texts(vic) == []
        say("yaml:a", component("card"), component("pay"), minute=1)
        tell()
        tell()
        assert texts(vic) == ["New: card."]

    def test_what_ceases_to_match_is_told_to_who_asked_for_that(
        self, vic: User, ben: User, ana: User
    ) -> None:
        for who, when in ((vic, "gone"), (ben, "new"), (ana, "both")):
            watch(who, "lifecycle:production", when=when)
        say("yaml:a", component("web", lifecycle="retired"), minute=1)
        unsay("yaml:a", "component:pay", minute=2)
        tell()
        assert texts(vic) == texts(ana) == ["No longer: pay, web."]
        assert texts(ben) == []
        say("yaml:a", component("web"), minute=3)
        tell()
        assert texts(vic) == ["No longer: pay, web."]
        assert texts(ben) == ["New: web."]
        assert texts(ana) == ["New: web. No longer: pay, web."]

    def test_a_change_that_changes_nothing_for_the_query_is_quiet(self, vic: User) -> None:
        watch(vic, when="both")
        say("yaml:a", component("web", lifecycle="retired"), minute=1)
        tell()
        assert texts(vic) == []

    def test_what_follows_from_elsewhere_is_told_too(self, vic: User) -> None:
        """Of a failing pipeline the feed says nothing, nor of a relation's other end."""
        watch(vic, "is:failing", name="Broken")
        watch(vic, "has:dependencyOf", name="Needed", when="both")
        watch(vic, "problem:delivery", name="Wrong", when="both")
        run("failed")
        say("yaml:a", component("web", dependsOn=["component:pay"]), minute=1)
        subject = problems.subject_of(entity("component:default/pay"))
        seen = problems.Seen(type="delivery", severity=problems.Severity.WARN, cause="c", message="m")
        about = {"raised_by": "connection:x", "within": Q(type="delivery"), "at": timezone.now()}
        problems.sync(seen=[(subject, seen)], **about)
        tell()
        assert sorted(texts(vic)) == ["New: build.", "New: pay.", "New: pay."]
        say("yaml:a", component("web"), minute=2)
        problems.sync(seen=[], **about)
        tell(later=telling.BURST)
        assert sorted(texts(vic))[3:] == ["No longer: pay.", "No longer: pay."]

    def test_a_query_that_time_makes_true(self, vic: User) -> None:
        watch(vic, "failing:>1d")
        run("failed", at=timezone.now() - timedelta(hours=23, minutes=55))
        tell()
        assert texts(vic) == []
        tell(later=timedelta(minutes=4))  # not looked at again so soon
        assert texts(vic) == []
        tell(later=timedelta(minutes=11))
        assert texts(vic) == ["New: build."]
        tell(later=timedelta(minutes=22))
        assert texts(vic) == ["New: build."]

    @pytest.mark.parametrize(
        "query",
        [
            "kind:Component",
            "kind:api,component",
            "kind:comp*",
            "kind:api OR name:c*",
            "(kind:api) OR card",
            "-kind:api",
        ],
    )
    def test_a_kind_in_the_query_hides_nothing(self, vic: User, query: str) -> None:
        watch(vic, query)
        watch(vic, "kind:api card")
        say("yaml:b", component("card"))
        tell()
        assert texts(vic) == ["New: card."]

    def test_five_hundred_things_are_one_notice(self, vic: User) -> None:
        watch(vic, name="All of them")
        names = [f"c{n:03}" for n in range(500)]
        for start in range(0, 500, 100):  # page after page, as a sync brings them
            say("yaml:b", *[component(name) for name in names[start : start + 100]])
            tell()
        assert texts(vic) == ["New: c000, c001, c002 and 497 more."]
        mark_notice(user=vic, notice_id=notices_of(vic)[0].pk)
        say("yaml:c", component("later"))
        tell()
        assert texts(vic) == ["New: later.", "New: c000, c001, c002 and 497 more."]

    def test_what_comes_later_is_a_notice_of_its_own(self, vic: User) -> None:
        watch(vic)
        for number in range(3):
            say("yaml:b", component(f"c{number}"), minute=number)
            tell(later=number * telling.BURST)
        assert texts(vic) == ["New: c2.", "New: c1.", "New: c0."]


class TestActivity:
    def test_each_that_comes_to_match_is_told_once(self, vic: User) -> None:
        watch(vic, "", about="activity", types=["run"], status="failed")
        run("running")
        tell()
        assert texts(vic) == []
        run("failed")
        tell()
        run("failed", title="built again")  # which says nothing new of how it is
        tell()
        assert texts(vic) == ["New: built again #1 failed."]
        run("passed", id="2")
        run("failed", id="3")
        tell()
        assert texts(vic) == ["New: built again #1 failed, build #3 failed."]

    def test_without_a_status_it_is_told_when_it_begins(self, vic: User) -> None:
        watch(vic, "kind:pipeline", about="activity")
        run("running")
        run("running", id="2", about=("pipeline:ci/9",))  # of what nobody knows
        tell()
        run("passed")
        tell()
        assert texts(vic) == ["New: build #1 passed."]
        assert notices_of(vic)[0].new == 1

    def test_what_finds_its_subject_later_is_told_then(self, vic: User) -> None:
        watch(vic, "name:late", about="activity", name="with a query")
        watch(vic, "", about="activity", name="without")
        run("failed", about=("pipeline:ci/2",))
        tell()
        assert [notice.watch.name for notice in notices_of(vic)] == ["without"]
        say("connection:ci/builders", claim("pipeline:late", keys=("pipeline:ci/2",), rank=Rank.CONNECTION))
        tell()
        assert sorted(notice.watch.name for notice in notices_of(vic)) == ["with a query", "without"]

    def test_history_that_comes_to_be_known_is_no_news(self, vic: User) -> None:
        watch(vic, "", about="activity")
        run("failed", at=timezone.now() - timedelta(days=8))
        tell()
        assert texts(vic) == []

    def test_what_may_not_be_seen_is_not_told(self, cleo: User) -> None:
        watch(cleo, "", about="activity")
        run("failed")
        tell()
        assert texts(cleo) == []


class TestPermission:
    def test_each_is_told_of_what_they_may_see(self, cleo: User, vic: User) -> None:
        for who in (cleo, vic):
            watch(who)
        say("yaml:a", component("card"), claim("component:elsewhere/shop", {"type": "service"}), minute=1)
        tell()
        assert texts(cleo) == ["New: shop."]
        assert texts(vic) == ["New: card, shop."]

    def test_what_went_out_of_sight_did_not_cease_to_match(self, cleo: User) -> None:
        say("yaml:b", claim("component:elsewhere/shop", {"type": "service"}, id="shop"))
        watch(cleo, when="both")
        tell()
        say("yaml:b", claim("component:hidden/shop", {"type": "service"}, id="shop"), minute=1)
        tell()
        assert Entity.objects.filter(ref="component:hidden/shop", deleted_at=None).exists()
        assert texts(cleo) == []

    def test_what_was_granted_or_taken_is_no_news_of_the_catalog(self, cleo: User) -> None:
        watch(cleo, when="both")
        grant(role="viewer", user=cleo, scope_type="namespace", scope="default")
        say("yaml:a", component("pay", lifecycle="retired"), minute=1)
        tell()
        assert texts(cleo) == []
        say("yaml:a", component("card"), minute=2)
        tell()
        assert texts(cleo) == ["New: card."]
        with changing_access():
            Grant.objects.filter(user=cleo, scope="default").delete()
        say("yaml:a", component("pay", lifecycle="production"), minute=3)
        tell()
        assert len(texts(cleo)) == 1

    def test_the_text_of_a_notice_goes_with_the_permission(self, cleo: User) -> None:
        watch(cleo)
        say("yaml:b", claim("component:elsewhere/shop", {"type": "service"}))
        run("failed")
        tell()
        assert texts(cleo) == ["New: shop."]
        with changing_access():
            Grant.objects.filter(user=cleo).delete()
        assert texts(cleo) == ["You may not see any more what this was about."]

    def test_of_some_that_are_hidden_only_the_others_are_counted(self, cleo: User) -> None:
        grant(role="viewer", user=cleo, scope_type="namespace", scope="default")
        watch(cleo)
        say("yaml:b", component("card"), claim("component:elsewhere/shop", {"type": "service"}))
        tell()
        assert texts(cleo) == ["New: card, shop."]
        with changing_access():
            Grant.objects.filter(user=cleo, scope="elsewhere").delete()
        assert texts(cleo) == ["New: card."]

    def test_who_cannot_sign_in_is_not_told(self, vic: User) -> None:
        watch(vic)
        vic.is_active = False
        vic.save()
        say("yaml:b", component("card"))
        tell()
        assert not Notice.objects.exists()


class TestCare:
    def test_a_paused_watch_is_quiet_and_wakes_without_news(self, vic: User) -> None:
        one = watch(vic)
        change_watch(watch=one, is_paused=True)
        say("yaml:b", component("card"))
        tell()
        change_watch(watch=one, is_paused=False)
        tell()
        assert texts(vic) == []
        say("yaml:c", component("more"))
        tell()
        assert texts(vic) == ["New: more."]

    def test_another_query_begins_anew(self, vic: User) -> None:
        one = watch(vic, "name:pay")
        change_watch(watch=one, query="kind:component")
        say("yaml:b", component("card"))
        tell()
        assert texts(vic) == ["New: card."]
        change_watch(watch=one, name="Called otherwise")
        assert Match.objects.filter(watch=one).count() == 3

    def test_a_watch_that_was_changed_while_it_was_looked_at_is_not_told_of_what_it_was(
        self, vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = watch(vic)
        say("yaml:b", component("card"))
        write = telling._write

        def late(found: Any, **more: Any) -> None:
            change_watch(watch=one, query="kind:api")
            write(found, **more)

        monkeypatch.setattr(telling, "_write", late)
        tell()
        assert texts(vic) == []
        assert not Match.objects.filter(watch=one).exists()

    def test_a_deleted_one_tells_nothing_and_comes_back_as_it_was(self, vic: User) -> None:
        one = watch(vic)
        say("yaml:b", component("card"))
        tell()
        delete_watch(watch=one)
        assert texts(vic) == []
        say("yaml:c", component("more"))
        tell()
        restore_watch(user=vic, watch_id=one.pk)
        tell()
        assert texts(vic) == ["New: card."]

    def test_a_query_that_means_nothing_any_more_says_so_and_mends_itself(
        self, vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = watch(vic, "has:dependencyOf"), watch(vic)
        Watch.objects.filter(pk=one.pk).update(query="has:nonsense")
        say("yaml:b", component("card"))
        tell()
        one.refresh_from_db()
        assert "nonsense" in one.trouble
        assert [notice.watch for notice in notices_of(vic)] == [other]
        Watch.objects.filter(pk=one.pk).update(query="kind:component")
        say("yaml:c", component("more"))
        tell()
        one.refresh_from_db()
        assert one.trouble == ""
        assert [notice.watch for notice in notices_of(vic)] == [other]

    def test_one_that_cannot_be_evaluated_keeps_no_other_back(
        self, vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad, good = watch(vic, "name:pay"), watch(vic)
        condition_of = telling.condition_of

        def breaking(one: Watch) -> Any:
            state, statement = condition_of(one)
            return state, ("SELECT 1/0", ()) if one.pk == bad.pk else statement

        monkeypatch.setattr(telling, "condition_of", breaking)
        say("yaml:b", component("card"))
        tell()
        bad.refresh_from_db()
        assert bad.trouble
        assert [notice.watch for notice in notices_of(vic)] == [good]

    def test_who_is_killed_has_told_nothing_and_the_next_tells_it_once(
        self, vic: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watch(vic)
        say("yaml:b", component("card"))
        with transaction.atomic():
            telling.tell(now=timezone.now())
            assert texts(vic) == ["New: card."]
            transaction.set_rollback(True)
        assert texts(vic) == []
        tell()
        assert texts(vic) == ["New: card."]

    def test_old_notices_go_and_so_do_matches_of_what_is_gone(self, vic: User) -> None:
        one = watch(vic)
        say("yaml:b", component("card"))
        tell()
        forget_old(now=timezone.now() + timedelta(days=89))
        assert texts(vic) == ["New: card."]
        Entity.objects.filter(name="card").delete()
        forget_old(now=timezone.now() + timedelta(days=91))
        assert not Notice.objects.exists()
        assert Match.objects.filter(watch=one).count() == 2
        delete_watch(watch=one)
        forget_old(now=timezone.now() + timedelta(days=2))
        assert not Watch.objects.exists()


def test_it_costs_what_changed_and_one_answer_serves_all_who_see_alike(
    vic: User, ben: User, cleo: User, django_assert_max_num_queries: Any
) -> None:
    def cost(names: list[str]) -> int:
        say("yaml:b", *[component(name) for name in names])
        with CaptureQueriesContext(connection) as asked:
            telling.tell(now=timezone.now() + telling.BURST * len(names))
        return len(
            [q for q in asked if not any(word in q["sql"] for word in ("SAVEPOINT", "access_accessversion"))]
        )

    for number in range(30):
        watch(vic, f"name:nothing-{number % 3}")
    assert (
        cost(["one"]) == cost([f"many-{n}" for n in range(50)]) <= 3 + 1 + 3
    )  # lock, news, watches; matches; answers
    say("yaml:b", component("last"))
    with CaptureQueriesContext(connection) as asked:
        telling.tell(now=timezone.now())
        telling.tell(now=timezone.now())  # nothing changed: nobody is looked at
    assert len([q for q in asked if "portal_watch" in q["sql"]]) == 2


def test_many_whose_query_has_an_age_are_looked_at_together(vic: User) -> None:
    def cost(later: timedelta) -> int:
        with CaptureQueriesContext(connection) as asked:
            telling.tell(now=timezone.now() + later)
        return len([q for q in asked if "access_accessversion" not in q["sql"]])

    watch(vic, "failing:>1d")
    one = cost(telling.TIMED * 2)
    for _number in range(9):
        watch(vic, "failing:>1d")
    assert cost(telling.TIMED * 4) == one


def unread(user: User) -> int:
    return unread_of(user).count()


def test_activity_outlives_nothing(vic: User, browse: Callable[[User], Any]) -> None:
    """An activity that its connection took along is not named any more."""
    watch(vic, "", about="activity")
    run("failed")
    tell()
    assert unread(vic) == 1
    Activity.objects.all().delete()
    assert texts(vic) == ["You may not see any more what this was about."]
    assert entity("pipeline:default/build").is_alive
