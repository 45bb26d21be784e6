"""Changes by people taken back: what the undo says before, what it does, and that no later sync brings it back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access.models import AuditEvent, Undoable, User
from access.services import grant, undo
from access.services.undo import CannotUndo, Preview
from base.errors import Conflict, NotFound
from catalog.models import Alias, Claim, DirtyEntity, Entity, Rank, Redirect, Tie
from catalog.services.bulk_edit import set_owners
from catalog.services.edit import (
    change_overrides,
    decide_tie,
    drop_override,
    override_field,
    upsert_documents,
    withdraw,
)
from catalog.services.joining import merge_into, part
from catalog.services.naming import create_owner, map_name, unmap_name, withdraw_created
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, document, entity, history, say, unsay

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

PAY = "component:default/pay"
REPO, IMAGE = "repo:h.example/pay", "image:h.example/pay"
TakeBack = Callable[..., Undoable]


def owner(ref: str = PAY) -> Any:
    return document(ref)["spec"].get("owner")


def latest(verb: str) -> Undoable:
    return Undoable.objects.filter(event__verb=verb).latest("event_id")


def look(user: User, verb: str) -> Preview:
    return undo.preview_undo(change=latest(verb), user=user)


@pytest.fixture
def take_back(django_capture_on_commit_callbacks: Any) -> TakeBack:
    def do(user: User, change: Undoable | str) -> Undoable:
        found = latest(change) if isinstance(change, str) else change
        with django_capture_on_commit_callbacks(execute=True):
            undo.undo_change(change=found, user=user)
        return found

    return do


def sync(minute: int, owner: str = "file") -> None:
    """A later sync says something new."""
    say("yaml:a", component("pay", owner=owner, description=f"at {minute}"), minute=minute)


@pytest.fixture
def pay() -> Entity:
    sync(0)
    return entity(PAY)


class TestOverrides:
    def test_an_override_is_taken_back_between_and_after_syncs(
        self, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours", reason="moved")
        sync(1, "file again")
        assert owner() == "ours"
        preview = look(ben, "entity.override")
        assert preview.differences == {PAY: [{"path": "spec.owner", "old": "ours", "new": "file again"}]}
        assert "by nobody" in preview.steps[0]
        assert (preview.later, preview.refused, owner()) == ([], "", "ours")
        take_back(ben, "entity.override")
        assert owner() == "file again"
        sync(2, "file at last")
        assert owner() == "file at last"
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()
        assert history(PAY)[-2].by == ben.label

    def test_a_dropped_override_comes_back_with_its_author_and_reason(
        self, ana: User, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        override_field(user=ana, entity=pay, path="spec.owner", value="ours", reason="moved in May")
        drop_override(user=ben, entity=pay, path="spec.owner")
        sync(1)
        take_back(ben, "entity.override-drop")
        sync(2, "other")
        assert owner() == "ours"
        said = Claim.objects.get(rank=Rank.PERSON)
        assert (said.source.key, said.place) == (
            f"person:{ana.pk}",
            {"reasons": {"spec.owner": "moved in May"}},
        )

    def test_what_replaced_another_gives_way_to_it_and_other_fields_stay(
        self, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="first", reason="a")
        override_field(user=ben, entity=pay, path="spec.owner", value="second", reason="b")
        override_field(user=ben, entity=pay, path="metadata.title", value="Pay", reason="c")
        sync(1)
        change = Undoable.objects.order_by("-event_id")[1]
        take_back(ben, change)
        sync(2)
        assert (owner(), document(PAY)["metadata"]["title"]) == ("first", "Pay")
        assert Claim.objects.get(rank=Rank.PERSON).place["reasons"] == {
            "spec.owner": "a",
            "metadata.title": "c",
        }

    def test_a_value_below_another_gives_the_whole_back(
        self, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        override_field(user=ben, entity=pay, path="spec.extra", value="word")
        override_field(user=ben, entity=pay, path="spec.extra.deep", value=1)
        assert document(PAY)["spec"]["extra"] == {"deep": 1}
        take_back(ben, "entity.override")
        assert document(PAY)["spec"]["extra"] == "word"

    def test_later_words_on_the_same_field_are_told_and_go_with_it(
        self, ana: User, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="first")
        first = latest("entity.override")
        change_overrides(user=ana, entity=pay, values={"spec.owner": "second"}, dropped=["spec.owner"])
        override_field(user=ana, entity=pay, path="spec.lifecycle", value="old")
        sync(1)
        preview = undo.preview_undo(change=first, user=ben)
        assert [one.event.verb for one in preview.later] == ["entity.override", "entity.override-drop"]
        assert [one.event.actor_label for one in preview.later]
        take_back(ben, first)
        sync(2, "file 2")
        assert (owner(), document(PAY)["spec"]["lifecycle"]) == ("file 2", "old")
        undone = Undoable.objects.exclude(undone_at=None)
        assert {one.undone_by for one in undone} == {ben.label}
        assert undone.count() == 3

    def test_an_undo_is_on_record_and_can_be_undone(
        self, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours", reason="moved")
        change = take_back(ben, "entity.override")
        event = AuditEvent.objects.get(verb="change.undo")
        assert event.changes == {"change": change.pk, "verb": "entity.override", "with": []}
        assert (event.actor_uid, event.subject_uid) == (str(ben.pk), str(pay.uid))
        sync(1)
        take_back(ben, "entity.override-undo")
        sync(2)
        assert owner() == "ours"
        assert Claim.objects.get(rank=Rank.PERSON).place == {"reasons": {"spec.owner": "moved"}}

    def test_once_is_enough(self, ben: User, pay: Entity, take_back: TakeBack) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        change = take_back(ben, "entity.override")
        with pytest.raises(CannotUndo, match=f"already, by {ben.label}"):
            undo.undo_change(change=change, user=ben)
        change.refresh_from_db()
        assert "already" in undo.preview_undo(change=change, user=ben).refused

    def test_of_an_entity_that_is_gone_it_counts_when_it_returns(
        self, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        unsay("yaml:a", PAY.replace("default/", ""), minute=1)
        assert not entity(PAY).is_alive
        take_back(ben, "entity.override")
        assert not entity(PAY).is_alive
        sync(2)
        assert owner() == "file"

    def test_of_an_entity_that_was_merged_it_counts_for_the_other(
        self, ben: User, pay: Entity, take_back: TakeBack
    ) -> None:
        say("yaml:b", component("other", owner="theirs"))
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        merge_into(user=ben, loser=pay, winner=entity("component:default/other"))
        assert owner("component:default/other") == "ours"
        assert list(look(ben, "entity.override").differences) == ["component:default/other"]
        take_back(ben, "entity.override")
        assert owner("component:default/other") != "ours"
        take_back(ben, "entity.override-undo")
        assert owner("component:default/other") == "ours"
        part(user=ben, redirect=Redirect.objects.get())
        assert owner() == "ours"
        assert owner("component:default/other") == "theirs"

    def test_what_is_gone_for_good_cannot_be_undone(self, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        Entity.objects.filter(pk=pay.pk).delete()
        assert "gone for good" in look(ben, "entity.override").refused
        with pytest.raises(CannotUndo):
            undo.undo_change(change=latest("entity.override"), user=ben)


class TestWhoSees:
    def test_only_who_may_do_it_sees_it(self, ana: User, vic: User, no_access: User, pay: Entity) -> None:
        override_field(user=ana, entity=pay, path="spec.owner", value="ours")
        say("yaml:b", component("elsewhere/there"))
        there = entity("component:elsewhere/there")
        override_field(user=ana, entity=there, path="spec.owner", value="ours")
        grant(role="editor", user=no_access, scope_type="namespace", scope="elsewhere")
        assert [undo.list_changes(user).count() for user in (ana, vic, no_access)] == [2, 0, 1]
        with pytest.raises(NotFound):
            undo.get_change(no_access, Undoable.objects.earliest("event_id").pk)
        with pytest.raises(CannotUndo, match="may not"):
            undo.undo_change(change=Undoable.objects.earliest("event_id"), user=no_access)
        assert owner() == "ours"

    def test_a_tie_with_what_one_may_not_tie_is_not_seen(self, ana: User, no_access: User) -> None:
        say("yaml:a", component("elsewhere/there"))
        say("connection:t/r", claim("repository:hush", {}, rank=Rank.CONNECTION, keys=(REPO,)))
        source, target = entity("component:elsewhere/there"), entity("repository:default/hush")
        decide_tie(user=ana, source=source, type="hasSource", target=target, state="confirmed")
        grant(role="editor", user=no_access, scope_type="namespace", scope="elsewhere")
        assert undo.list_changes(no_access).count() == 0

    def test_of_what_was_merged_into_what_one_may_not_change_it_is_not_seen(
        self, ana: User, no_access: User, pay: Entity
    ) -> None:
        say("yaml:b", component("elsewhere/there"))
        there = entity("component:elsewhere/there")
        grant(role="editor", user=no_access, scope_type="namespace", scope="elsewhere")
        override_field(user=ana, entity=there, path="spec.owner", value="ours")
        assert undo.list_changes(no_access).count() == 1
        merge_into(user=ana, loser=there, winner=pay)
        assert undo.list_changes(no_access).count() == 0
        assert undo.list_changes(ana).count() == 2

    def test_of_later_changes_one_reads_only_what_one_may_change(self, ana: User, no_access: User) -> None:
        say("connection:t/r", claim("repository:hush", {}, rank=Rank.CONNECTION, keys=(REPO,)))
        say("yaml:b", component("elsewhere/there"), component("elsewhere/other"))
        there, other = entity("component:elsewhere/there"), entity("component:elsewhere/other")
        grant(role="editor", user=no_access, scope_type="namespace", scope="elsewhere")
        merge_into(user=ana, loser=other, winner=there)
        hush = entity("repository:default/hush")
        decide_tie(user=ana, source=there, type="hasSource", target=hush, state="confirmed")
        override_field(user=ana, entity=there, path="spec.owner", value="ours")
        seen = {}
        for user in (ana, no_access):
            preview = look(user, "entity.merge")
            seen[user.username] = ([one.event.verb for one in preview.later], preview.unseen)
        assert seen == {
            "ana": (["entity.override", "tie.decide"], 0),
            "noor": (["entity.override"], 1),
        }

    def test_for_30_days(self, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        change = latest("entity.override")
        assert change.expires_at - timezone.now() > timedelta(days=29, hours=23)
        Undoable.objects.update(expires_at=timezone.now())
        assert not undo.list_changes(ben).exists()
        with pytest.raises(CannotUndo):
            undo.undo_change(change=change, user=ben)
        undo.forget_old_changes(now=timezone.now() + timedelta(seconds=1))
        assert not Undoable.objects.exists()
        assert AuditEvent.objects.filter(verb="entity.override").exists()


class TestBulkEdits:
    """Owners of many things, set as one change."""

    @pytest.fixture(autouse=True)
    def things(self, core_pack: None) -> None:
        say("yaml:a", claim("group:crew", {"type": "team", "children": []}))
        self.sync(0)

    @staticmethod
    def sync(minute: int) -> None:
        for name in ("one", "two", "three"):
            at = {"title": f"{name} at {minute}"}
            spec = {"type": "service", "owner": f"file{minute}"}
            say("yaml:a", claim(f"component:{name}", spec, metadata=at, minute=minute), render=False)
        render_dirty(at=timezone.now())

    @staticmethod
    def owners() -> list[str]:
        return [owner(f"component:default/{name}") for name in ("one", "two", "three")]

    def test_are_taken_back_but_for_what_was_edited_later(
        self, ana: User, ben: User, take_back: TakeBack
    ) -> None:
        components = [entity(f"component:default/{name}") for name in ("one", "two", "three")]
        override_field(user=ben, entity=components[0], path="spec.owner", value="mine", reason="a")
        set_owners(user=ben, entities=components, owner=entity("group:default/crew"))
        assert self.owners() == ["group:default/crew"] * 3
        drop_override(user=ana, entity=components[1], path="spec.owner")
        override_field(user=ana, entity=components[1], path="spec.owner", value="hers")
        self.sync(1)
        preview = look(ana, "entity.bulk-edit")
        assert preview.differences == {
            "component:default/one": [{"path": "spec.owner", "old": "group:default/crew", "new": "mine"}],
            "component:default/three": [{"path": "spec.owner", "old": "group:default/crew", "new": "file1"}],
        }
        assert "component:default/two stays as it is" in preview.steps[1]
        assert len(preview.later) == 2
        take_back(ana, "entity.bulk-edit")
        assert self.owners() == ["mine", "hers", "file1"]
        self.sync(2)
        assert self.owners() == ["mine", "hers", "file2"]
        take_back(ana, "entity.bulk-edit-undo")
        self.sync(3)
        assert self.owners() == ["group:default/crew", "hers", "group:default/crew"]

    def test_an_earlier_word_on_one_of_them_does_not_take_all(self, ben: User, take_back: TakeBack) -> None:
        components = [entity(f"component:default/{name}") for name in ("one", "two", "three")]
        override_field(user=ben, entity=components[0], path="spec.owner", value="mine")
        set_owners(user=ben, entities=components, owner=entity("group:default/crew"))
        take_back(ben, "entity.override")
        self.sync(1)
        assert self.owners() == ["file1", "group:default/crew", "group:default/crew"]
        take_back(ben, "entity.bulk-edit")
        assert self.owners() == ["file1"] * 3


class TestTies:
    @pytest.fixture
    def ends(self) -> tuple[Entity, Entity]:
        self.sync(0)
        return entity(PAY), entity("repository:default/pay")

    @staticmethod
    def sync(minute: int) -> None:
        one = claim(
            "component:pay",
            {"type": "service"},
            about=(REPO,),
            metadata={"title": f"t{minute}"},
            minute=minute,
        )
        say("yaml:a", one)
        there = claim(
            "repository:pay", {"path": str(minute)}, rank=Rank.CONNECTION, keys=(REPO,), minute=minute
        )
        say("connection:t/r", there)

    def state(self) -> str | None:
        tie = Tie.objects.filter(source__ref=PAY, type="hasSource").first()
        return tie.state if tie else None

    def test_a_forbidden_tie_is_made_again_by_the_evidence(
        self, ben: User, ends: tuple[Entity, Entity], take_back: TakeBack
    ) -> None:
        decide_tie(user=ben, source=ends[0], type="hasSource", target=ends[1], state="forbidden")
        self.sync(1)
        assert self.state() == "forbidden"
        assert look(ben, "tie.decide").differences[PAY][0] | {"path": ""} == {
            "path": "",
            "old": "Forbidden",
            "new": "Automatic",
        }
        take_back(ben, "tie.decide")
        assert self.state() == "auto"
        self.sync(2)
        assert self.state() == "auto"

    def test_a_tie_by_hand_without_evidence_goes(self, ben: User, take_back: TakeBack) -> None:
        say("yaml:a", component("pay"))
        say("connection:t/r", claim("repository:pay", {}, rank=Rank.CONNECTION, keys=(REPO,)))
        ends = entity(PAY), entity("repository:default/pay")
        decide_tie(user=ben, source=ends[0], type="hasSource", target=ends[1], state="confirmed")
        assert self.state() == "confirmed"
        take_back(ben, "tie.decide")
        assert self.state() is None
        say("connection:t/r", claim("repository:pay", {"a": 1}, rank=Rank.CONNECTION, keys=(REPO,), minute=2))
        assert self.state() is None

    def test_what_was_decided_before_is_decided_again_by_its_author(
        self, ana: User, ben: User, ends: tuple[Entity, Entity], take_back: TakeBack
    ) -> None:
        given: dict[str, Any] = {"source": ends[0], "type": "hasSource", "target": ends[1]}
        decide_tie(user=ana, **given, state="confirmed", reason="it is")
        decide_tie(user=ben, **given, state="forbidden", reason="it is not")
        self.sync(1)
        take_back(ben, "tie.decide")
        self.sync(2)
        tie = Tie.objects.get(source=ends[0], type="hasSource")
        assert (tie.state, tie.decided_by, tie.reason) == ("confirmed", ana.label, "it is")
        take_back(ben, "tie.decide")  # the undo itself
        self.sync(3)
        tie.refresh_from_db()
        assert (tie.state, tie.decided_by, tie.reason) == ("forbidden", ben.label, "it is not")

    def test_of_a_merged_end_it_is_taken_back_where_it_counts(
        self, ben: User, ends: tuple[Entity, Entity], take_back: TakeBack
    ) -> None:
        decide_tie(user=ben, source=ends[0], type="hasSource", target=ends[1], state="confirmed")
        say("yaml:b", component("other"))
        other = entity("component:default/other")
        merge_into(user=ben, loser=ends[0], winner=other)
        ties = Tie.objects.filter(target=ends[1], type="hasSource")
        assert ties.get(source=other).state == "confirmed"
        take_back(ben, "tie.decide")
        assert not ties.exclude(state="auto").exists()


class TestNames:
    """What nobody declares: mapped to something, or made by hand; and what was declared through the API."""

    NAME, CREW = "group:default/pay-team", "group:default/crew"

    @pytest.fixture(autouse=True)
    def mentioned(self, core_pack: None) -> None:
        self.sync(0)

    @staticmethod
    def sync(minute: int) -> None:
        spec = {"type": f"type{minute}", "owner": "pay-team"}
        say(
            "yaml:a",
            claim("component:pay", spec, minute=minute),
            claim(
                "group:crew",
                {"type": "team", "children": []},
                metadata={"title": f"C{minute}"},
                minute=minute,
            ),
            minute=minute,
        )

    @staticmethod
    def owner() -> str:
        return entity(PAY).owner

    @pytest.mark.parametrize("verb", ["entity.map", "entity.unmap", "entity.create"])
    def test_nothing_is_rendered_before_the_undo_is_committed(
        self, ben: User, verb: str, django_capture_on_commit_callbacks: Any
    ) -> None:
        """Who renders waits for the others who do, and they for what the undo has locked."""
        if verb == "entity.create":
            create_owner(user=ben, ref=self.NAME, name="pay-crew")
        else:
            map_name(user=ben, ref=self.NAME, target=entity(self.CREW))
        if verb == "entity.unmap":
            unmap_name(user=ben, ref=self.NAME)
        assert not DirtyEntity.objects.exists()
        with django_capture_on_commit_callbacks(execute=True):
            undo.undo_change(change=latest(verb), user=ben)
            assert DirtyEntity.objects.exists()
        assert not DirtyEntity.objects.exists()

    def test_a_mapped_name_and_back(self, ben: User, take_back: TakeBack) -> None:
        map_name(user=ben, ref=self.NAME, target=entity(self.CREW), reason="renamed")
        assert self.owner() == self.CREW
        self.sync(1)
        assert look(ben, "entity.map").differences == {self.NAME: [{"path": "means", "old": self.CREW}]}
        take_back(ben, "entity.map")
        self.sync(2)
        assert self.owner() == self.NAME
        take_back(ben, "entity.unmap")
        self.sync(3)
        assert self.owner() == self.CREW
        assert Alias.objects.get(ref=self.NAME).reason == "renamed"
        unmap_name(user=ben, ref=self.NAME)
        assert latest("entity.map").is_undone

    def test_what_a_name_means_since_is_said(self, ben: User, take_back: TakeBack) -> None:
        map_name(user=ben, ref=self.NAME, target=entity(self.CREW))
        unmap_name(user=ben, ref=self.NAME)
        say("yaml:b", claim("group:pay-team", {"type": "team", "children": []}))
        assert "in the catalog already" in look(ben, "entity.unmap").refused
        with pytest.raises(Conflict):
            take_back(ben, "entity.unmap")
        assert not latest("entity.unmap").is_undone

    def test_only_who_may_say_what_it_means_sees_it(self, ana: User, no_access: User) -> None:
        map_name(user=ana, ref=self.NAME, target=entity(self.CREW))
        grant(role="editor", user=no_access, scope_type="namespace", scope="elsewhere")
        assert not undo.list_changes(no_access).exists()
        assert undo.list_changes(ana).count() == 1

    def test_what_it_means_is_told_to_nobody_who_may_not_see_that(self, ana: User, no_access: User) -> None:
        name = "group:elsewhere/pay-team"
        grant(role="editor", user=no_access, scope_type="namespace", scope="elsewhere")
        map_name(user=ana, ref=name, target=entity(self.CREW))
        assert not undo.list_changes(no_access).exists()
        with pytest.raises(NotFound):
            unmap_name(user=no_access, ref=name)
        with pytest.raises(Conflict) as refused:
            create_owner(user=no_access, ref=name)
        assert "crew" not in refused.value.message
        assert Alias.objects.filter(ref=name).exists()

    def test_what_was_made_by_hand_and_back(self, ben: User, take_back: TakeBack) -> None:
        made = create_owner(user=ben, ref=self.NAME, title="Pay team")
        override_field(user=ben, entity=made, path="metadata.description", value="Pays")
        self.sync(1)
        preview = look(ben, "entity.create")
        assert preview.steps == [f"{self.NAME} goes."]
        assert [one.event.verb for one in preview.later] == ["entity.override"]
        take_back(ben, "entity.create")
        self.sync(2)
        assert not entity(self.NAME).is_alive
        take_back(ben, "entity.withdraw")
        self.sync(3)
        assert (entity(self.NAME).uid, entity(self.NAME).is_alive) == (made.uid, True)
        shown = document(self.NAME)["metadata"]
        assert (shown["title"], shown["description"]) == ("Pay team", "Pays")
        withdraw_created(user=ben, entity=made)
        assert not entity(self.NAME).is_alive

    def test_made_under_another_name_both_go(self, ben: User, take_back: TakeBack) -> None:
        create_owner(user=ben, ref=self.NAME, name="payers")
        assert self.owner() == "group:default/payers"
        take_back(ben, "entity.create")
        self.sync(1)
        assert self.owner() == self.NAME
        assert not Entity.objects.filter(ref="group:default/payers", deleted_at=None).exists()

    def test_what_was_withdrawn_through_the_api_is_declared_again(
        self, ben: User, take_back: TakeBack
    ) -> None:
        declared = {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": "told"},
            "spec": {"type": "service", "lifecycle": "production", "owner": "crew"},
        }
        upsert_documents(user=ben, documents=[declared])
        withdraw(user=ben, entity=entity("component:default/told"))
        assert not entity("component:default/told").is_alive
        self.sync(1)
        assert {"path": "spec.owner", "new": "crew"} in look(ben, "entity.withdraw").differences[
            "component:default/told"
        ]
        take_back(ben, "entity.withdraw")
        self.sync(2)
        assert entity("component:default/told").is_alive
        withdraw(user=ben, entity=entity("component:default/told"))
        upsert_documents(user=ben, documents=[declared])
        assert "declared again since" in look(ben, "entity.withdraw").refused


class TestMerges:
    ONE, OTHER = "repository:default/one", "repository:default/other"

    @pytest.fixture(autouse=True)
    def two(self, core_pack: None) -> None:
        self.sync(0)

    @staticmethod
    def sync(minute: int) -> None:
        for name, who in (
            ("one", "connection:a/r"),
            ("other", "connection:b/r"),
            ("third", "connection:c/r"),
        ):
            key = f"repo:h.example/{name}"
            one = claim(
                f"repository:{name}",
                {"path": f"{name}{minute}"},
                rank=Rank.CONNECTION,
                keys=(key,),
                minute=minute,
            )
            say(who, one)

    def merge(self, user: User, loser: str = OTHER, winner: str = ONE) -> None:
        merge_into(user=user, loser=entity(loser), winner=entity(winner), reason="the same")

    def test_a_merge_is_taken_back_between_and_after_syncs(self, ben: User, take_back: TakeBack) -> None:
        uid = entity(self.OTHER).uid
        self.merge(ben)
        self.sync(1)
        override_field(user=ben, entity=entity(self.ONE), path="metadata.title", value="One")
        preview = look(ben, "entity.merge")
        assert [one.event.verb for one in preview.later] == ["entity.override"]
        assert {"path": "spec.path", "new": "other1"} in preview.differences[self.OTHER]
        assert Redirect.objects.exists()  # a look writes nothing
        take_back(ben, "entity.merge")
        self.sync(2)
        assert (entity(self.OTHER).uid, entity(self.OTHER).is_alive) == (uid, True)
        assert (document(self.ONE)["spec"]["path"], document(self.OTHER)["spec"]["path"]) == (
            "one2",
            "other2",
        )
        assert document(self.ONE)["metadata"]["title"] == "One"
        assert not Redirect.objects.exists()

    def test_and_the_parting_as_well(self, ben: User, take_back: TakeBack) -> None:
        self.merge(ben)
        self.sync(1)
        part(user=ben, redirect=Redirect.objects.get())
        assert "already" in look(ben, "entity.merge").refused
        self.sync(2)
        assert "is merged into" in look(ben, "entity.part").steps[0]
        take_back(ben, "entity.part")
        self.sync(3)
        redirect = Redirect.objects.get()
        assert (redirect.ref, redirect.winner.ref, redirect.reason) == (self.OTHER, self.ONE, "the same")
        assert not Entity.objects.filter(ref=self.OTHER, deleted_at=None).exists()
        take_back(ben, "entity.merge")
        self.sync(4)
        assert entity(self.OTHER).is_alive

    def test_what_had_led_to_it_leads_to_it_again(self, ben: User, take_back: TakeBack) -> None:
        self.merge(ben, "repository:default/third", self.OTHER)
        self.merge(ben)
        assert {redirect.winner.ref for redirect in Redirect.objects.all()} == {self.ONE}
        take_back(ben, "entity.merge")
        self.sync(1)
        redirect = Redirect.objects.get()
        assert (redirect.ref, redirect.winner.ref) == ("repository:default/third", self.OTHER)
        assert Alias.objects.get(ref="repository:default/third").entity.ref == self.OTHER
        assert Claim.objects.filter(entity=entity(self.OTHER)).count() == 2
        take_back(ben, Undoable.objects.filter(event__verb="entity.merge").earliest("event_id"))
        self.sync(2)
        assert entity("repository:default/third").is_alive

    def test_decisions_that_came_with_it_go_with_it(self, ben: User, take_back: TakeBack) -> None:
        say("yaml:a", component("pay"))
        decide_tie(
            user=ben, source=entity(PAY), type="hasSource", target=entity(self.OTHER), state="confirmed"
        )
        self.merge(ben)
        mine = Tie.objects.filter(source__ref=PAY, type="hasSource")
        assert mine.get(target__ref=self.ONE).state == "confirmed"
        self.sync(1)
        take_back(ben, "entity.merge")
        self.sync(2)
        render_dirty(at=timezone.now())
        assert [(tie.target.ref, tie.state) for tie in mine] == [(self.OTHER, "confirmed")]
