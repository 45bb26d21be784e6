"""How claims become entities, page by page: what is written, what is not, and what stays in the history."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog import queries
from catalog.feed import feed_since
from catalog.models import (
    Alias,
    Claim,
    ClaimMode,
    DirtyEntity,
    Entity,
    EntityKey,
    FeedItem,
    Problem,
    Rank,
    Relation,
    Revision,
    Served,
)
from catalog.models.history import Action
from catalog.services.dirty import mark_dirty
from catalog.services.ingest import Outcome, apply_claims, mark_stale
from catalog.services.merge import leaves
from catalog.services.render import render_dirty
from tests.catalog.saying import (
    claim,
    component,
    counted_rows,
    document,
    entity,
    history,
    later,
    relations,
    say,
    source,
    unsay,
    writes,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


def problem_types(ref: str) -> set[str]:
    rows = Problem.objects.filter(subject_uid=entity(ref).uid, resolved_at=None)
    return set(rows.values_list("type", flat=True))


class TestAPage:
    def test_a_new_claim_makes_an_entity_with_its_columns(self) -> None:
        applied = say(
            "yaml:a",
            claim(
                "component:Pay",
                {"type": "Service", "lifecycle": "production", "owner": "team", "system": "shop"},
                metadata={"title": "Pay!", "tags": ["Java"]},
            ),
        )
        assert applied.outcomes == [Outcome.NEW]
        found = entity("component:default/pay")
        assert applied.entity_ids == [found.pk]
        assert applied.written == {found.pk}
        assert (found.title, found.type, found.lifecycle, found.tags) == (
            "Pay!",
            "service",
            "production",
            ["java"],
        )
        assert (found.owner, found.system, found.sources) == (
            "group:default/team",
            "system:default/shop",
            ["a"],
        )
        served = document("component:default/pay")
        assert served["metadata"]["name"] == "Pay"
        assert served["metadata"]["uid"] == str(found.uid)
        assert (found.revision, history("component:default/pay")[0].action) == (1, Action.CREATED)

    def test_what_changed_is_written_once_and_says_who_and_what(self) -> None:
        say("yaml:a", component("pay", owner="old"))
        applied = say("yaml:a", component("pay", owner="new"), minute=5)
        assert applied.outcomes == [Outcome.CHANGED]
        newest = history("component:default/pay")[-1]
        assert (newest.number, newest.action, newest.by, newest.by_key) == (
            2,
            Action.CHANGED,
            "yaml:a",
            "yaml:a",
        )
        assert newest.at == later(5)
        assert newest.diff == [{"path": "spec.owner", "old": "old", "new": "new"}]

    def test_an_unchanged_page_writes_no_row(self) -> None:
        page = [component(f"c{n}", dependsOn=[f"component:c{n + 1}"]) for n in range(20)]
        say("yaml:a", *page)
        before = counted_rows()
        with writes() as statements:
            applied = say(
                "yaml:a",
                *[component(f"c{n}", dependsOn=[f"component:c{n + 1}"]) for n in range(20)],
                minute=9,
            )
        assert set(applied.outcomes) == {Outcome.UNCHANGED}
        assert applied.written == set()
        assert len(applied.entity_ids) == 20
        assert statements == []
        assert counted_rows() == before

    def test_a_changed_claim_that_changes_nothing_of_the_entity_makes_no_revision(self) -> None:
        say("yaml:a", component("pay"))
        say("connection:t/r", claim("component:pay", {"type": "library"}, rank=Rank.CONNECTION))
        revision = entity("component:default/pay").revision
        applied = say(
            "connection:t/r", claim("component:pay", {"type": "website"}, rank=Rank.CONNECTION), minute=1
        )
        assert applied.outcomes == [Outcome.CHANGED]
        assert entity("component:default/pay").revision == revision

    def test_older_never_overwrites_newer(self) -> None:
        say("connection:t/r", claim("repository:pay", {"head": "new"}, rank=Rank.CONNECTION, minute=10))
        applied = say(
            "connection:t/r", claim("repository:pay", {"head": "old"}, rank=Rank.CONNECTION, minute=9)
        )
        assert applied.outcomes == [Outcome.UNCHANGED]
        assert document("repository:default/pay")["spec"]["head"] == "new"
        assert say(
            "connection:t/r", claim("repository:pay", {"head": "x"}, rank=Rank.CONNECTION, minute=10)
        ).outcomes == [Outcome.CHANGED]

    def test_the_number_of_statements_does_not_grow_with_the_page(self) -> None:
        say("yaml:a", component("first"))  # makes the source

        def cost(first: int, count: int, owner: str) -> int:
            page = [
                component(f"c{n}", owner=owner, dependsOn=[f"component:c{n + 1}"], system="shop")
                for n in range(first, first + count)
            ]
            with CaptureQueriesContext(connection) as captured:
                say("yaml:a", *page, render=False)
            return len(captured)

        assert cost(0, 5, "a") == cost(100, 200, "a")
        changed = cost(0, 5, "b"), cost(100, 200, "b")
        assert changed[0] == changed[1]
        assert max(changed) <= 40  # a staging table for each of claims, entities and documents takes three

    def test_rendering_costs_the_same_whatever_the_page(self) -> None:
        def cost(first: int, count: int) -> int:
            page = [
                component(f"c{n}", dependsOn=[f"component:c{n + 1}"]) for n in range(first, first + count)
            ]
            say("yaml:a", *page, render=False)
            with CaptureQueriesContext(connection) as captured:
                render_dirty(at=later(1))
            return len(captured)

        assert cost(0, 3) == cost(100, 100)

    def test_one_thing_twice_in_a_page_is_taken_once_and_the_last_word_counts(self) -> None:
        applied = say("api:x", component("pay", owner="a"), component("other"), component("pay", owner="b"))
        assert applied.outcomes == [Outcome.NEW, Outcome.NEW, Outcome.NEW]
        assert applied.entity_ids[0] == applied.entity_ids[2] != applied.entity_ids[1]
        assert document("component:default/pay")["spec"]["owner"] == "b"
        assert Claim.objects.count() == 2

    @pytest.mark.parametrize("nul", ["a\0b", "\0"])
    def test_a_nul_is_stored_and_read_back_the_same(self, nul: str) -> None:
        record = claim("repository:pay", {"path": nul}, rank=Rank.CONNECTION)
        say("connection:t/r", record)
        revision = entity("repository:default/pay").revision
        say("connection:other/r", claim("repository:pay", {}, rank=Rank.CONNECTION))
        assert entity("repository:default/pay").revision == revision


class TestRelations:
    def test_a_target_that_comes_later_is_found_and_shows_the_inverse(self) -> None:
        say("yaml:a", component("web", dependsOn=["component:pay"]))
        assert Relation.objects.get(type="dependsOn").target is None
        assert "missing-target" in problem_types("component:default/web")
        say("yaml:b", component("pay", owner="team"), minute=1)
        assert Relation.objects.get(type="dependsOn").target == entity("component:default/pay")
        assert ("dependencyOf", "component:default/web") in relations("component:default/pay")
        assert ("dependsOn", "component:default/pay") in relations("component:default/web")
        missing = Problem.objects.filter(type="missing-target", resolved_at=None)
        assert set(missing.values_list("detail__target", flat=True)) == {"group:default/team"}

    @pytest.mark.parametrize("end", ["component:default/web", "component:default/pay"])
    def test_what_two_writers_at_once_did_not_see_is_seen_when_it_is_rendered(self, end: str) -> None:
        say("yaml:a", component("web", dependsOn=["component:pay"]), component("pay"))
        Relation.objects.filter(type="dependsOn").update(target=None)  # neither was committed for the other
        mark_dirty({entity(end).pk})
        render_dirty(at=timezone.now())
        assert Relation.objects.get(type="dependsOn").target == entity("component:default/pay")
        assert ("dependencyOf", "component:default/web") in relations("component:default/pay")

    def test_what_is_no_longer_said_is_gone_at_both_ends(self) -> None:
        say("yaml:a", component("pay"), component("web", dependsOn=["component:pay"]))
        say("yaml:a", component("web"), minute=1)
        assert [t for t, _ in relations("component:default/web")] == ["ownedBy"]
        assert [t for t, _ in relations("component:default/pay")] == ["ownedBy"]
        assert not Relation.objects.filter(type="dependsOn").exists()

    def test_a_target_that_goes_is_missing_again(self) -> None:
        say("yaml:a", component("web", dependsOn=["component:pay"]))
        say("yaml:b", component("pay"))
        unsay("yaml:b", "component:pay", minute=1)
        assert Relation.objects.get(type="dependsOn").target is None
        assert ("dependsOn", "component:default/pay") in relations("component:default/web")
        assert "missing-target" in problem_types("component:default/web")

    def test_a_relation_counts_from_either_end(self) -> None:
        say("yaml:a", claim("group:team", {"type": "team", "children": [], "members": ["ana"]}))
        say("yaml:a", claim("user:ana", {"memberOf": []}))
        assert relations("group:default/team") == [("hasMember", "user:default/ana")]
        assert relations("user:default/ana") == [("memberOf", "group:default/team")]


class TestNames:
    def test_a_derived_name_is_given_once_and_suffixed_where_it_is_taken(self) -> None:
        first = claim(
            "repository:-",
            id="1",
            rank=Rank.CONNECTION,
            suggested_name="Acme/Pay API",
            keys=("repo:a.example/acme/pay-api",),
        )
        other = claim(
            "repository:-",
            id="2",
            rank=Rank.CONNECTION,
            suggested_name="acme/pay_api",
            keys=("repo:b.example/acme/pay_api",),
        )
        say("connection:a/repositories", first)
        say("connection:b/repositories", other)
        names = sorted(Entity.objects.values_list("name", flat=True))
        assert names[0] == "acme-pay-api"
        assert len(names) == 2
        assert names[1].startswith("acme-pay")

    def test_nothing_merges_by_its_name(self) -> None:
        say(
            "connection:a/r",
            claim(
                "repository:-",
                id="1",
                rank=Rank.CONNECTION,
                suggested_name="api",
                keys=("repo:a.example/x/api",),
            ),
        )
        say(
            "connection:b/r",
            claim(
                "repository:-",
                id="1",
                rank=Rank.CONNECTION,
                suggested_name="api",
                keys=("repo:b.example/y/api",),
            ),
        )
        names = set(Entity.objects.values_list("name", flat=True))
        assert len(names) == 2
        assert "api" in names

    def test_a_shared_key_makes_one_of_two(self) -> None:
        say(
            "connection:a/r",
            claim(
                "repository:-",
                {"head": "1"},
                id="1",
                rank=Rank.CONNECTION,
                suggested_name="api",
                keys=("repo:a.example/x/api",),
            ),
        )
        applied = say(
            "connection:b/r",
            claim(
                "repository:-",
                {"path": "x"},
                id="9",
                rank=Rank.CONNECTION,
                suggested_name="else",
                keys=("https://a.example/x/api.git", "repo:https://a.example/X/api.git"),
            ),
        )
        assert applied.entity_ids == [entity("repository:default/api").pk]
        assert document("repository:default/api")["spec"] == {"head": "1", "path": "x"}

    def test_a_declaration_renames_what_was_inferred_and_the_uid_stays(self) -> None:
        key = "component:host.example/acme/pay"
        say(
            "connection:git/components",
            claim(
                "component:-",
                {"type": "service"},
                id="r1",
                rank=Rank.INFERRED,
                suggested_name="acme/pay",
                keys=(key,),
            ),
        )
        say("yaml:web", component("web", dependsOn=["component:acme-pay"]))
        inferred = entity("component:default/acme-pay")
        say(
            "connection:git/documents",
            claim(
                "component:payments",
                {"type": "website", "owner": "team", "lifecycle": "x"},
                id="d1",
                keys=(key,),
            ),
            minute=3,
        )
        renamed = entity("component:default/payments")
        assert (renamed.pk, renamed.uid) == (inferred.pk, inferred.uid)
        assert not Entity.objects.filter(ref="component:default/acme-pay").exists()
        assert Alias.objects.get(ref="component:default/acme-pay").entity == renamed
        revision = history("component:default/payments")[-1]
        assert (revision.action, revision.entity_ref) == (Action.RENAMED, "component:default/payments")
        assert {"path": "metadata.name", "old": "acme-pay", "new": "payments"} in revision.diff
        # Both ends of what pointed there say the new name; the old one still leads there.
        assert ("dependsOn", "component:default/payments") in relations("component:default/web")
        assert ("dependencyOf", "component:default/web") in relations("component:default/payments")

    def test_a_later_relation_to_an_old_name_finds_the_entity(self) -> None:
        self.test_a_declaration_renames_what_was_inferred_and_the_uid_stays()
        say("yaml:late", component("late", dependsOn=["component:acme-pay"]), minute=5)
        assert ("dependsOn", "component:default/payments") in relations("component:default/late")

    def test_what_hangs_on_a_renamed_entity_follows_it_to_its_namespace(self, cleo: Any) -> None:
        key = "component:host.example/acme/pay"
        say(
            "connection:git/components",
            claim(
                "component:elsewhere/-",
                {"type": "service"},
                id="r1",
                rank=Rank.INFERRED,
                suggested_name="pay",
                keys=(key,),
            ),
        )
        assert queries.open_problems(cleo).exists()
        say(
            "connection:git/documents",
            claim("component:default/pay", {"type": "website", "lifecycle": "x"}, id="d1", keys=(key,)),
            minute=3,
        )
        assert not queries.open_problems(cleo).exists()
        labels = Problem.objects.filter(resolved_at=None).values_list("subject_label", "namespace").distinct()
        assert list(labels) == [("component:default/pay", "default")]


class TestSeveralSources:
    def test_a_second_file_is_shadowed_with_a_problem_until_the_first_goes(self) -> None:
        say("yaml:a", component("pay", owner="first"))
        say("yaml:b", component("pay", owner="second"), minute=1)
        assert document("component:default/pay")["spec"]["owner"] == "first"
        assert Claim.objects.get(source__key="yaml:b").is_shadowed
        assert "shadowed" in problem_types("component:default/pay")
        unsay("yaml:a", "component:pay", minute=2)
        assert document("component:default/pay")["spec"]["owner"] == "second"
        assert not Claim.objects.get(source__key="yaml:b").is_shadowed
        assert "shadowed" not in problem_types("component:default/pay")
        assert history("component:default/pay")[-1].diff == [
            {"path": "spec.owner", "old": "first", "new": "second"}
        ]

    def test_equals_that_disagree_are_a_problem_and_searchable(self, vic: Any) -> None:
        for slug, owner in (("b", "team-b"), ("c", "team-c")):
            say(f"connection:{slug}/r", claim("repository:pay", {"owner": owner}, rank=Rank.CONNECTION))
        assert document("repository:default/pay")["spec"]["owner"] == "team-b"
        problem = Problem.objects.get(type="conflict")
        assert [v["value"] for v in problem.detail["values"]] == ["team-b", "team-c"]
        assert queries.search_entities(vic, "conflict:owner").get().ref == "repository:default/pay"
        unsay("connection:c/r", "repository:pay", minute=1)
        assert Problem.objects.get(type="conflict").resolved_at is not None
        assert not queries.search_entities(vic, "conflict:owner").exists()

    def test_an_unreadable_word_leaves_the_last_good_one_marked_stale(self) -> None:
        say("yaml:a", component("pay", owner="good"))
        touched = mark_stale(
            source=source("yaml:a"),
            reasons={"component:pay": "line 3: broken", "unknown": "x"},
            at=later(1),
            by="a",
        )
        assert touched == {entity("component:default/pay").pk}
        assert document("component:default/pay")["spec"]["owner"] == "good"
        assert "stale" in problem_types("component:default/pay")
        with writes() as statements:
            mark_stale(
                source=source("yaml:a"), reasons={"component:pay": "line 3: broken"}, at=later(2), by="a"
            )
        assert statements == []
        assert say("yaml:a", component("pay", owner="good"), minute=3).outcomes == [Outcome.CHANGED]
        assert "stale" not in problem_types("component:default/pay")


class TestLifeAndDeath:
    def test_an_entity_lives_while_one_assertion_does(self) -> None:
        say("yaml:a", component("pay"))
        say("connection:t/r", claim("component:pay", {"type": "service"}, rank=Rank.CONNECTION))
        unsay("yaml:a", "component:pay", minute=1)
        assert entity("component:default/pay").is_alive
        unsay("connection:t/r", "component:pay", minute=2)
        gone = entity("component:default/pay")
        assert gone.deleted_at == later(2)
        assert history("component:default/pay")[-1].action == Action.DELETED

    def test_amendments_alone_keep_nothing_alive_and_wait_for_its_return(self) -> None:
        say("yaml:a", component("pay", owner="file"))
        first = entity("component:default/pay")
        Claim.objects.create(
            entity=first,
            source=source("person:1"),
            external_id="o",
            rank=Rank.PERSON,
            mode=ClaimMode.AMEND,
            digest=b"",
            document={},
            as_of=later(0),
        )
        say(
            "person:1",
            claim("component:-", {"owner": "ana"}, id="o", rank=Rank.PERSON, mode=ClaimMode.AMEND, minute=1),
        )
        assert document("component:default/pay")["spec"]["owner"] == "ana"
        unsay("yaml:a", "component:pay", minute=2)
        assert not entity("component:default/pay").is_alive
        say("yaml:other", component("pay", owner="file"), minute=3)
        back = entity("component:default/pay")
        assert (back.pk, back.uid, back.is_alive) == (first.pk, first.uid, True)
        assert document("component:default/pay")["spec"]["owner"] == "ana"
        assert [r.action for r in history("component:default/pay")] == [
            "created",
            "changed",
            "deleted",
            "returned",
        ]

    def test_what_a_tool_lists_again_regains_its_uid(self) -> None:
        one = claim(
            "pipeline:-",
            id="7",
            rank=Rank.CONNECTION,
            suggested_name="build pay",
            keys=("pipeline:ci.example/7",),
        )
        say("connection:ci/builders", one)
        first = Entity.objects.get()
        unsay("connection:ci/builders", "7", minute=1)
        say("connection:ci/builders", one, minute=2)
        back = Entity.objects.get()
        assert (back.uid, back.ref, back.is_alive) == (first.uid, first.ref, True)

    def test_a_gone_entity_has_no_relations_keys_problems_and_is_in_no_list(self, vic: Any) -> None:
        say(
            "yaml:a",
            claim(
                "component:pay",
                {"owner": "ghosts"},
                keys=("component:h.example/pay",),
                about=("repo:h.example/pay",),
            ),
        )
        assert problem_types("component:default/pay") == {"incomplete", "missing-target"}
        unsay("yaml:a", "component:pay", minute=1)
        assert not Relation.objects.exists()
        assert not EntityKey.objects.exists()
        assert problem_types("component:default/pay") == set()
        assert not queries.list_entities(vic).exists()


class TestHistory:
    def test_revisions_lead_from_what_is_back_to_every_earlier_state(self) -> None:
        """Each diff is complete: taken back one by one, they give each state that ever was."""
        states: list[dict[str, Any]] = []

        def note() -> None:
            shown = document("component:default/pay")
            for name in ("uid", "etag"):
                shown["metadata"].pop(name)
            shown.pop("relations")
            states.append({".".join(path): value for path, value in leaves(shown)})

        say("yaml:a", component("pay", owner="a"))
        note()
        say("yaml:a", component("pay", owner="b", dependsOn=["component:x"]), minute=1)
        note()
        say(
            "connection:t/r",
            claim("component:pay", {"type": "x", "extra": {"deep": [1]}}, rank=Rank.CONNECTION),
            minute=2,
        )
        note()
        unsay("yaml:a", "component:pay", minute=3)
        note()
        unsay("connection:t/r", "component:pay", minute=4)
        states.append(states[-1])
        say("yaml:a", component("pay", owner="c"), minute=5)
        note()
        rows = history("component:default/pay")
        assert [row.number for row in rows] == list(range(1, 7))
        fields = dict(states[-1])
        for number in range(len(rows) - 1, 0, -1):
            for row in rows[number].diff:
                fields.pop(row["path"], None)
                if "old" in row:
                    fields[row["path"]] = row["old"]
            assert fields == states[number - 1], f"before revision {number + 1}"

    def test_every_change_is_in_the_feed_in_the_transaction_that_made_it(self, vic: Any) -> None:
        say("yaml:a", component("pay"), component("web"))
        say("yaml:a", component("pay", owner="new"), minute=1)
        unsay("yaml:a", "component:web", minute=2)
        rows = list(FeedItem.objects.order_by("id").values_list("entity_ref", "action", "revision"))
        assert rows == [
            ("component:default/pay", "created", 1),
            ("component:default/web", "created", 1),
            ("component:default/pay", "changed", 2),
            ("component:default/web", "deleted", 2),
        ]
        assert len(rows) == Revision.objects.count()


@pytest.mark.django_db(transaction=True)
class TestWritersAtOnce:
    def test_the_feed_skips_no_transaction_that_commits_late(self, ana: Any) -> None:
        started, go_on = threading.Event(), threading.Event()

        def slow() -> None:
            with transaction.atomic():
                say("yaml:slow", component("slow"), render=False)
                started.set()
                assert go_on.wait(10)
            connections.close_all()

        seen: list[str] = []
        position = (0, 0)

        def read() -> None:
            nonlocal position
            items, position = feed_since(ana, position=position, limit=100)
            seen.extend(item.entity_ref for item in items)

        thread = threading.Thread(target=slow)
        thread.start()
        try:
            assert started.wait(10)
            FeedItem.objects.create(
                at=later(0), action="created", entity_uid=uuid.uuid4(), entity_ref="component:default/quick",
                kind="component", namespace="default", revision=1,
            )  # fmt: skip
            read()
            assert seen == []  # `quick` began later, so it is held back until `slow` is decided
        finally:
            go_on.set()
            thread.join()
        # A long transaction in another database of the same server, such as another test, holds it back too.
        until = time.monotonic() + 120
        while len(seen) < 2 and time.monotonic() < until:
            read()
            time.sleep(0.05)
        assert seen == ["component:default/slow", "component:default/quick"]

    def test_two_who_meet_the_same_new_thing_make_one_entity_of_it(self) -> None:
        barrier, failures = threading.Barrier(4), []

        def write(number: int) -> None:
            try:
                who = source(f"connection:c{number}/r")
                barrier.wait(10)
                for _round in range(3):
                    page = [
                        claim(
                            "repository:-",
                            {f"from{number}": True},
                            id=str(n),
                            rank=Rank.CONNECTION,
                            suggested_name=f"r{n}",
                            keys=(f"repo:h.example/r{n}",),
                            minute=_round,
                        )
                        for n in range(10)
                    ]
                    apply_claims(source=who, claims=page, at=later(_round), by="x")
            except Exception as error:  # noqa: BLE001
                failures.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert Entity.objects.count() == 10
        assert Claim.objects.count() == 40
        render_dirty(at=later(9))
        assert all(
            set(document(ref)["spec"]) == {f"from{n}" for n in range(4)}
            for ref in Entity.objects.values_list("ref", flat=True)
        )
        assert not DirtyEntity.objects.exists()

    def test_writers_of_overlapping_pages_in_any_order_never_deadlock(self) -> None:
        say("yaml:seed", *[component(f"c{n}") for n in range(12)])
        sources = [source(f"connection:c{number}/r") for number in range(4)]
        failures: list[Exception] = []

        def write(number: int) -> None:
            try:
                order = list(range(12)) if number % 2 else list(range(11, -1, -1))
                for round_ in range(4):
                    page = [
                        claim(
                            f"component:c{n}",
                            {"x": f"{number}.{round_}"},
                            rank=Rank.CONNECTION,
                            minute=round_,
                        )
                        for n in order
                    ]
                    apply_claims(source=sources[number], claims=page, at=later(round_), by="x")
            except Exception as error:  # noqa: BLE001
                failures.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert Served.objects.filter(document__contains='"x":"0.3"').count() == 12
