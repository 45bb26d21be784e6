"""Which claims are one entity: through keys, names that move, kinds that change, returns, and a person's word."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from access.definitions import document_types
from access.models import AuditEvent, User
from access.services import create_user, grant
from base.errors import Conflict, Forbidden, InvalidInput, NotFound
from catalog import queries
from catalog.models import Activity, Alias, Claim, Entity, FeedItem, Problem, Rank, Redirect, Tie
from catalog.services import homes
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.edit import decide_tie, override_field
from catalog.services.ingest import Outcome
from catalog.services.joining import merge_into, part
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, document, entity, later, relations, say, unsay

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


def repository(path: str, *keys: str, id: str = "", minute: int = 0, **spec: Any) -> Any:
    """A repository as a tool lists it, to be named by its path."""
    return claim(
        "repository:-",
        {"path": path, **spec},
        id=id or path,
        rank=Rank.CONNECTION,
        suggested_name=path,
        keys=keys,
        minute=minute,
    )


def open_problems(type_: str) -> list[str]:
    return sorted(
        Problem.objects.filter(type=type_, resolved_at=None).values_list("subject_label", flat=True)
    )


class TestNames:
    def test_a_new_thing_may_take_a_name_that_was_given_up(self) -> None:
        say("yaml:a", component("old", id="1"), component("user", id="2", dependsOn=["component:old"]))
        first = entity("component:default/old").uid
        say("yaml:a", component("new", id="1"), minute=1)
        assert ("dependsOn", "component:default/new") in relations("component:default/user")
        say("yaml:b", component("old", id="3"), minute=2)
        assert entity("component:default/new").uid == first
        assert entity("component:default/old").uid != first
        assert not Alias.objects.exists()
        assert ("dependsOn", "component:default/old") in relations("component:default/user")
        assert ("dependencyOf", "component:default/user") in relations("component:default/old")
        assert relations("component:default/new") == [("ownedBy", "group:default/team")]

    def test_a_name_that_another_has_is_a_problem_until_it_is_free(self) -> None:
        say("yaml:a", component("one", id="1"), component("two", id="2"))
        say("yaml:a", component("two", id="1"), minute=1)
        assert open_problems("name-taken") == ["component:default/one"]
        unsay("yaml:a", "2", minute=2)
        say("yaml:a", component("two", id="1", type="website"), minute=3)
        assert open_problems("name-taken") == []
        assert entity("component:default/two").type == "website"
        assert queries.Entity.objects.filter(deleted_at=None).count() == 1

    def test_so_is_a_name_that_a_new_thing_brings_at_the_same_time(self) -> None:
        say("yaml:a", component("one", id="1"))
        say("yaml:a", component("two", id="2"), component("two", id="1"), minute=1)
        assert open_problems("name-taken") == ["component:default/one"]

    def test_what_was_dead_and_gave_its_name_up_can_still_return(self) -> None:
        say("yaml:a", component("one", id="1"), component("two", id="2"))
        gone = entity("component:default/two").uid
        unsay("yaml:a", "2", minute=1)
        say("yaml:a", component("two", id="1"), minute=2)
        say("yaml:a", component("three", id="2"), minute=3)
        assert entity("component:default/three").uid == gone

    def test_owners_are_found_by_their_present_names(self, vic: User) -> None:
        say(
            "yaml:a",
            claim("group:team", {"type": "team", "children": []}, id="g"),
            component("pay", owner="team"),
        )
        for name in ("crew", "squad"):
            say("yaml:a", claim(f"group:{name}", {"type": "team", "children": []}, id="g"), minute=len(name))
            found = queries.search_entities(vic, f"kind:component owner:group:default/{name}")
            assert [e.ref for e in found] == ["component:default/pay"], name
        say("yaml:a", component("pay", owner="team", type="website"), minute=9)
        assert entity("component:default/pay").owner == "group:default/squad"

    def test_who_sees_the_old_namespace_only_is_told_that_it_left(self) -> None:
        say("yaml:a", claim("component:one/x", {"type": "service"}, id="1"))
        say("yaml:a", claim("component:two/x", {"type": "service"}, id="1"), minute=1)
        told = FeedItem.objects.order_by("id").values_list("namespace", "action", "entity_ref")
        assert list(told) == [
            ("one", "created", "component:one/x"),
            ("one", "deleted", "component:one/x"),
            ("two", "renamed", "component:two/x"),
        ]


class TestKinds:
    def test_what_is_of_another_kind_now_is_another_thing(self) -> None:
        say("yaml:a", component("x", id="1"))
        first = entity("component:default/x").uid
        say("yaml:a", claim("api:x", {"type": "openapi"}, id="1"), minute=1)
        assert entity("component:default/x").is_alive is False
        assert entity("api:default/x").is_alive is True
        say("yaml:a", component("x", id="1"), minute=2)
        back = entity("component:default/x")
        assert (back.uid, back.is_alive) == (first, True)
        assert entity("api:default/x").is_alive is False

    def test_also_for_what_got_its_name_from_us(self) -> None:
        say("connection:t/x", repository("acme/x", id="1"))
        first = entity("repository:default/acme-x").uid
        other = claim("artifact:-", {"type": "image"}, id="1", suggested_name="acme/x")
        say("connection:t/x", other, minute=1)
        say("connection:t/x", repository("acme/x", id="1"), minute=2)
        assert entity("repository:default/acme-x").uid == first
        assert Claim.objects.count() == 1


class TestDefinitions:
    """Kinds change on a portal that runs."""

    @pytest.fixture
    def kind(self) -> Any:
        return document_types()["KindDefinition"]

    def test_stored_entities_follow_a_kind_that_changed(self, vic: User, kind: Any) -> None:
        say(
            "yaml:a", component("pay", type="service"), component("shop"), claim("api:a", {"type": "openapi"})
        )
        spec = copy.deepcopy(kind.current("component"))
        spec["relations"] = [r for r in spec["relations"] if r["type"] != "ownedBy"]
        before = entity("api:default/a").changed_at
        kind.edit("component", spec, by="ana")
        render_dirty(at=later(5))
        assert relations("component:default/pay") == []
        assert entity("component:default/shop").owner == ""
        assert entity("api:default/a").changed_at == before
        kind.edit("component", kind.model.objects.get(name="component").pristine, by="ana")
        render_dirty(at=later(6))
        assert relations("component:default/pay") == [("ownedBy", "group:default/team")]

    def test_a_kind_that_is_in_use_stays(self, kind: Any) -> None:
        say("yaml:a", component("pay"))
        with pytest.raises(Conflict, match="1 entity is a Component"):
            kind.delete("component")
        assert kind.delete("template") is not None


class TestReturns:
    def test_a_claim_goes_back_to_what_another_source_kept_alive(self) -> None:
        say("connection:a/r", repository("acme/x", "repo:h.example/x", id="1"))
        say("connection:b/r", repository("acme/x", "repo:h.example/x", id="7"))
        unsay("connection:a/r", "1", minute=1)
        say("connection:a/r", repository("acme/y", id="1"), minute=2)
        assert Entity.objects.count() == 1
        assert entity("repository:default/acme-x").sources == ["a", "b"]


class TestTakeOver:
    def test_a_declaration_takes_over_what_was_inferred_with_what_hangs_on_it(self, ana: User) -> None:
        say(
            "connection:git/repositories",
            claim("repository:r", {}, keys=("repo:h.example/r",)),
        )
        inferred = claim(
            "component:-",
            {"type": "service"},
            id="c",
            rank=4,
            suggested_name="guess",
            keys=("component:h.example/r",),
        )
        say("connection:git/components", inferred)
        guess = entity("component:default/guess")
        override_field(user=ana, entity=guess, path="spec.lifecycle", value="beta")
        apply_activity(
            connection_slug="x", connector="x",
            items=[
                ActivityIn(
                    type="alert", external_id="1", event="e", at=later(0), as_of=later(0),
                    about=("component:h.example/r",),
                )
            ],
        )  # fmt: skip
        say("yaml:a", component("pay"))
        pay = entity("component:default/pay")
        declared = claim(
            "component:pay",
            {"type": "service", "owner": "team"},
            id="component:pay",
            keys=("component:h.example/r",),
        )
        say("yaml:a", declared, minute=1)
        say(
            "yaml:b", claim("component:pay", {"type": "x"}, id="2", keys=("component:h.example/r",)), minute=2
        )
        guess.refresh_from_db()
        assert guess.is_alive is False
        assert queries.get_entity(ana, namespace="default", kind="component", name="guess") == pay
        assert document("component:default/pay")["spec"]["lifecycle"] == "beta"
        assert Activity.objects.get().subject_uid == pay.uid


class TestNewer:
    @pytest.mark.django_db(transaction=True)
    def test_of_two_writers_at_once_the_newer_fact_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The older one has looked and waits for the lock that the newer one holds."""
        say("yaml:a", component("pay", id="1", owner="first"))
        both, looked = threading.Barrier(2, timeout=10), homes.HomeFinder.find

        def look(page: Any, claims: Any, *rest: Any) -> Any:
            found = looked(page, claims, *rest)
            if claims[0].document["spec"]["owner"] == "older" and not both.broken and not waited:
                waited.append(True)
                both.wait()  # now the newer one writes
                both.wait()  # and is done
            return found

        waited: list[bool] = []
        monkeypatch.setattr(homes.HomeFinder, "find", look)
        outcomes = []

        def older() -> None:
            try:
                applied = say(
                    "yaml:a", claim("component:pay", {"owner": "older"}, id="1", minute=1), render=False
                )
                outcomes.extend(applied.outcomes)
            finally:
                connections.close_all()

        thread = threading.Thread(target=older)
        thread.start()
        both.wait()
        say("yaml:a", claim("component:pay", {"owner": "newer"}, id="1", minute=2), render=False)
        both.wait()
        thread.join(timeout=20)
        assert document("component:default/pay")["spec"]["owner"] == "newer"
        assert outcomes == [Outcome.UNCHANGED]


class TestTies:
    def shop(self) -> None:
        say("connection:git/r", claim("repository:r", {}, keys=("repo:h.example/r",)))
        say("connection:ci/p", claim("pipeline:p", {}, keys=("pipeline:ci/p",), about=("repo:h.example/r",)))
        say("yaml:a", claim("component:c", {"type": "service"}, about=("repo:h.example/r",)))

    def test_who_is_not_of_a_repository_has_nothing_of_it(self, ana: User) -> None:
        self.shop()
        assert ("builtBy", "pipeline:default/p") in relations("component:default/c")
        c, r = entity("component:default/c"), entity("repository:default/r")
        tie = decide_tie(user=ana, source=c, type="hasSource", target=r, state="forbidden")
        assert relations("component:default/c") == []
        assert not Tie.objects.filter(source=c).exclude(state="forbidden").exists()
        say("yaml:a", claim("component:c", {"type": "service"}, about=("repo:h.example/new",), minute=1))
        say("connection:git/r", claim("repository:r", {}, keys=("repo:h.example/new",), minute=1))
        say("connection:ci/p", claim("pipeline:p", {}, about=("repo:h.example/new",), minute=1))
        assert tie is not None
        assert queries.evidence_of(ana, tie.pk).key == "repo:h.example/new"
        assert relations("component:default/c") == []
        decide_tie(user=ana, source=c, type="hasSource", target=r, state="auto")
        assert ("builtBy", "pipeline:default/p") in relations("component:default/c")

    @pytest.mark.parametrize(
        ("source", "type_", "target"),
        [("repository:r", "hasSource", "component:c"), ("component:c", "packagedAs", "pipeline:p")],
    )
    def test_a_tie_goes_the_way_of_its_type(self, ana: User, source: str, type_: str, target: str) -> None:
        self.shop()
        ends = [entity(ref.replace(":", ":default/")) for ref in (source, target)]
        with pytest.raises(InvalidInput, match="goes from"):
            decide_tie(user=ana, source=ends[0], type=type_, target=ends[1], state="confirmed")

    @pytest.mark.parametrize("state", ["auto", "confirmed", "forbidden"])
    @pytest.mark.parametrize("first", ["connection:git/r", "connection:ci/p"])
    def test_a_tie_shows_the_key_that_both_name_now(
        self, ana: User, client: Client, state: str, first: str
    ) -> None:
        client.force_login(ana)
        self.shop()
        tie = Tie.objects.get(source__name="r", type="builtBy")
        assert queries.evidence_of(ana, tie.pk).key == "repo:h.example/r"
        if state != "auto":
            decide_tie(user=ana, source=tie.source, type=tie.type, target=tie.target, state=state)
        moved = {
            "connection:git/r": claim("repository:r", {}, keys=("repo:h.example/new",), minute=1),
            "connection:ci/p": claim(
                "pipeline:p", {}, keys=("pipeline:ci/p",), about=("repo:h.example/new",), minute=1
            ),
        }
        says = sorted(moved.items(), reverse=first != min(moved))
        for n, (source, said) in enumerate(says):
            # An automatic tie goes when its evidence does, so what keeps it tells both in one breath.
            say(source, said, render=state != "auto" or n == 1)
            if state != "auto" and n == 0:
                found = queries.evidence_of(ana, tie.pk)
                assert (found.key, [s["entity"].name for s in found.sides]) == ("", ["r", "p"])
                assert client.get(f"/api/v1/ties/{tie.pk}/").json()["key"] == ""
        found = queries.evidence_of(ana, tie.pk)
        assert (found.tie.state, found.key) == (state, "repo:h.example/new")
        assert [(s["entity"].name, s["is_key"]) for s in found.sides] == [("r", True), ("p", False)]

    def test_a_tie_by_a_commit_shows_it(self, ana: User) -> None:
        say("connection:git/r", claim("repository:r", {}, keys=("repo:h.example/r",)))
        sha = "a" * 40
        commit = ActivityIn(
            type="commit", external_id=sha, event="e", at=later(0), as_of=later(0), commit=sha,
            about=("repo:h.example/r",),
        )  # fmt: skip
        apply_activity(connection_slug="git", connector="git", items=[commit])
        say("connection:oci/i", claim("artifact:i", {}, about=(f"commit:{sha}",)))
        found = queries.evidence_of(ana, Tie.objects.get().pk)
        assert [(s["entity"].name, s["is_key"], s["commit"]) for s in found.sides] == [
            ("r", True, ""), ("i", False, sha),
        ]  # fmt: skip

    def test_what_a_person_tied_is_no_longer_unclear(self, ana: User) -> None:
        say(
            "connection:git/r",
            claim("repository:r", {}, keys=("repo:h.example/r",)),
            claim("repository:s", {}, keys=("repo:h.example/s",)),
        )
        say("connection:oci/i", claim("artifact:i", {}, about=("repo:h.example/r", "repo:h.example/s")))
        assert open_problems("ambiguous-tie") == ["artifact:default/i"]
        r, i = entity("repository:default/r"), entity("artifact:default/i")
        decide_tie(user=ana, source=r, type="packagedAs", target=i, state="confirmed")
        assert open_problems("ambiguous-tie") == []
        assert [t.source.name for t in Tie.objects.all()] == ["r"]


class TestMerge:
    """A person says that two are one."""

    @pytest.fixture
    def two(self) -> tuple[Entity, Entity]:
        say("connection:a/r", repository("a/x", "repo:h.example/x", id="1", description="a"))
        say("connection:b/r", repository("b/x", "repo:h.example/y", id="1", visibility="internal"))
        say("connection:b/r", repository("b/x", "repo:h.example/x", id="1", visibility="internal"), minute=1)
        say("connection:ci/p", claim("pipeline:p", {}, keys=("pipeline:ci/p",), about=("repo:h.example/x",)))
        return entity("repository:default/a-x"), entity("repository:default/b-x")

    def test_their_shared_key_is_no_longer_ambiguous(self, ana: User, two: tuple[Entity, Entity]) -> None:
        one, other = two
        assert open_problems("ambiguous-key") == [one.ref, other.ref]
        assert relations("pipeline:default/p") == []
        merge_into(user=ana, loser=other, winner=one, reason="moved in May")
        assert open_problems("ambiguous-key") == []
        assert [ref for _type, ref in relations("pipeline:default/p")] == [one.ref]
        assert document(one.ref)["spec"]["visibility"] == "internal"
        assert entity(other.ref).is_alive is False

    def test_the_losers_names_lead_to_the_winner(self, ana: User, two: tuple[Entity, Entity]) -> None:
        one, other = two
        merge_into(user=ana, loser=other, winner=one)
        assert queries.get_entity(ana, uid=str(other.uid)) == one
        assert queries.get_entity(ana, namespace="default", kind="repository", name="b-x") == one

    def test_later_words_of_the_loser_count_for_the_winner(
        self, ana: User, two: tuple[Entity, Entity]
    ) -> None:
        one, other = two
        merge_into(user=ana, loser=other, winner=one)
        say("connection:b/r", repository("b/x", "repo:h.example/x", id="1", visibility="public"), minute=5)
        say("yaml:z", claim("repository:b-x", {"topics": ["z"]}), minute=6)
        spec = document(one.ref)["spec"]
        assert (spec["visibility"], spec["topics"]) == ("public", ["z"])
        assert Entity.objects.filter(kind="repository", deleted_at=None).count() == 1

    def test_it_can_be_taken_back_wholly(self, ana: User, two: tuple[Entity, Entity]) -> None:
        one, other = two
        before = [document(e.ref) for e in two]
        redirect = merge_into(user=ana, loser=other, winner=one)
        back = part(user=ana, redirect=redirect)
        assert (back.uid, back.ref, back.is_alive) == (other.uid, other.ref, True)
        after = [document(e.ref) for e in two]
        for states in (before, after):
            for state in states:
                state["metadata"].pop("etag")
        assert after == before
        assert open_problems("ambiguous-key") == [one.ref, other.ref]
        assert not Redirect.objects.exists()
        assert not Alias.objects.exists()
        verbs = (
            AuditEvent.objects.filter(verb__startswith="entity").order_by("id").values_list("verb", flat=True)
        )
        assert list(verbs) == ["entity.merge", "entity.part"]
        with pytest.raises(NotFound):
            part(user=ana, redirect=redirect)

    def test_only_what_one_may_write_and_what_fits(
        self, ana: User, vic: User, cleo: User, two: tuple[Entity, Entity]
    ) -> None:
        one, other = two
        for person in (vic, cleo):
            with pytest.raises(Forbidden):
                merge_into(user=person, loser=other, winner=one)
        with pytest.raises(InvalidInput, match="itself"):
            merge_into(user=ana, loser=one, winner=one)
        with pytest.raises(InvalidInput, match="one kind"):
            merge_into(user=ana, loser=one, winner=entity("pipeline:default/p"))
        merge_into(user=ana, loser=other, winner=one)
        with pytest.raises(Conflict):
            merge_into(user=ana, loser=other, winner=one)

    def test_whoever_parts_them_may_write_both(
        self, ana: User, ben: User, two: tuple[Entity, Entity]
    ) -> None:
        one, _other = two
        say("connection:b/r", claim("repository:there/x", {}, id="9", rank=Rank.CONNECTION))
        there = entity("repository:there/x")
        redirect = merge_into(user=ana, loser=there, winner=one)
        clara = create_user(username="clara")
        grant(role="editor", user=clara, scope_type="namespace", scope="default")
        with pytest.raises(Forbidden):
            part(user=clara, redirect=redirect)

    def test_decisions_and_former_names_go_with_it_and_come_back(
        self, ana: User, two: tuple[Entity, Entity]
    ) -> None:
        one, _other = two
        say("yaml:a", claim("component:c", {"type": "service"}))
        say("yaml:a", claim("component:older", {"type": "service"}, id="1"))
        say("yaml:a", claim("component:old", {"type": "service"}, id="1"), minute=1)
        c, old = entity("component:default/c"), entity("component:default/old")
        decide_tie(user=ana, source=old, type="hasSource", target=one, state="forbidden", reason="a fork")
        redirect = merge_into(user=ana, loser=old, winner=c)
        tie = Tie.objects.get(source=c, type="hasSource", target=one)
        assert (tie.state, tie.reason) == ("forbidden", "a fork")
        find = {"namespace": "default", "kind": "component", "name": "older"}
        assert queries.get_entity(ana, **find) == c
        part(user=ana, redirect=redirect)
        assert queries.get_entity(ana, **find) == old

    def test_a_chain_leads_to_its_end(self, ana: User, two: tuple[Entity, Entity]) -> None:
        one, other = two
        say("connection:c/r", repository("c/x", "repo:h.example/z", id="1"))
        third = entity("repository:default/c-x")
        first = merge_into(user=ana, loser=other, winner=one)
        merge_into(user=ana, loser=one, winner=third)
        assert queries.get_entity(ana, uid=str(other.uid)) == third
        first.refresh_from_db()
        back = part(user=ana, redirect=first)
        assert (back.ref, back.is_alive) == (other.ref, True)
        assert queries.get_entity(ana, uid=str(one.uid)) == third
