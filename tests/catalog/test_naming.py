"""Names that nothing declares: made, mapped, and taken back; every mention follows, also those that come later."""

from __future__ import annotations

from typing import Any

import pytest

from access.models import AuditEvent, User
from access.services import grant
from base.errors import Conflict, Forbidden, InvalidInput, NotFound
from catalog.models import Alias, Entity, Problem
from catalog.queries import provenance_of
from catalog.services.edit import override_field
from catalog.services.naming import create_owner, map_name, unmap_name, withdraw_created
from catalog.services.relations import resolve_missed
from catalog.services.voices import claims_of
from tests.catalog.saying import claim, component, document, entity, relations, say, unsay

pytestmark = pytest.mark.django_db

PAY, NAME, CREW = "component:default/pay", "group:default/pay-team", "group:default/crew"


@pytest.fixture(autouse=True)
def mentioned(core_pack: None) -> None:
    """Two components and a system of a team that nothing declares, and a team and a person that are there."""
    say(
        "yaml:a",
        component("pay", owner="pay-team"),
        component("ledger", owner="pay-team"),
        claim("system:shop", {"owner": "pay-team"}),
        claim("group:crew", {"type": "team", "children": []}),
        claim("user:ana", {"memberOf": []}),
    )


def owned() -> dict[str, str]:
    rows = Entity.objects.filter(deleted_at=None).exclude(owner="")
    return dict(rows.values_list("name", "owner"))


def missing() -> int:
    return Problem.objects.filter(type="missing-target", resolved_at=None).count()


def verbs() -> list[str]:
    return list(AuditEvent.objects.order_by("id").values_list("verb", flat=True))


ALL = ("pay", "ledger", "shop")


class TestMapping:
    @pytest.mark.parametrize("target", [CREW, "user:default/ana"])
    def test_present_and_later_mentions_follow_and_all_can_be_taken_back(
        self, ben: User, target: str
    ) -> None:
        before = {ref: document(ref) for ref in (PAY, CREW)}
        assert missing() == 3
        map_name(user=ben, ref=NAME, target=entity(target), reason="renamed in May")
        assert owned() == dict.fromkeys(ALL, target)
        assert missing() == 0
        assert [ref for type_, ref in relations(target) if type_ == "ownerOf"] == [
            "component:default/ledger", PAY, "system:default/shop",
        ]  # fmt: skip
        say("yaml:b", component("late", owner="pay-team"))
        say("yaml:a", component("pay", owner="pay-team", lifecycle="old"), minute=1)
        assert owned() == dict.fromkeys((*ALL, "late"), target)
        assert document(PAY)["spec"]["owner"] == "pay-team"  # what the file says stays what it says
        unmap_name(user=ben, ref=NAME)
        assert owned() == dict.fromkeys((*ALL, "late"), NAME)
        assert missing() == 4
        assert document(CREW) == before[CREW]
        assert relations(PAY) == [("ownedBy", NAME)]
        assert verbs()[-2:] == ["entity.map", "entity.unmap"]
        event = AuditEvent.objects.get(verb="entity.map")
        assert (event.subject_label, event.changes) == (target, {"name": NAME, "reason": "renamed in May"})

    def test_it_outlives_a_rename_and_an_absence_of_what_it_means(self, ben: User) -> None:
        say("yaml:c", claim("group:sea", {"type": "team", "children": []}, id="1"))
        map_name(user=ben, ref=NAME, target=entity("group:default/sea"))
        say("yaml:c", claim("group:ocean", {"type": "team", "children": []}, id="1", minute=1), minute=1)
        assert owned() == dict.fromkeys(ALL, "group:default/ocean")
        unsay("yaml:c", "1", minute=2)
        assert missing() == 3
        say("yaml:c", claim("group:ocean", {"type": "team", "children": []}, id="1", minute=3), minute=3)
        assert owned() == dict.fromkeys(ALL, "group:default/ocean")
        assert missing() == 0

    def test_what_is_declared_by_the_name_later_is_itself(self, ben: User) -> None:
        map_name(user=ben, ref=NAME, target=entity(CREW))
        say("yaml:b", claim("group:pay-team", {"type": "team", "children": []}))
        assert owned() == dict.fromkeys(ALL, NAME)
        assert relations(CREW) == []
        with pytest.raises(NotFound):
            unmap_name(user=ben, ref=NAME)

    def test_a_team_that_takes_the_name_by_a_rename_is_itself(self, ben: User) -> None:
        say("yaml:c", claim("group:sea", {"type": "team", "children": []}, id="1"))
        map_name(user=ben, ref=NAME, target=entity(CREW))
        say("yaml:c", claim("group:pay-team", {"type": "team", "children": []}, id="1", minute=1), minute=1)
        assert owned() == dict.fromkeys(ALL, NAME)
        assert entity(NAME).is_alive

    def test_what_a_writer_wrote_meanwhile_is_seen_when_it_is_rendered(self, ben: User) -> None:
        map_name(user=ben, ref=NAME, target=entity(CREW))
        pay = entity(PAY)
        pay.relations_out.update(target=None)  # as if it had not seen the mapping
        assert resolve_missed({pay.pk}) == {pay.pk, entity(CREW).pk}

    def test_a_former_name_of_what_is_gone_can_be_given_away(self, ben: User) -> None:
        say("yaml:c", claim("group:pay-team", {"type": "team", "children": []}, id="1"))
        say("yaml:c", claim("group:sea", {"type": "team", "children": []}, id="1", minute=1), minute=1)
        unsay("yaml:c", "1", minute=2)
        map_name(user=ben, ref=NAME, target=entity(CREW))
        assert owned() == dict.fromkeys(ALL, CREW)

    @pytest.mark.parametrize(
        ("ref", "target", "error", "words"),
        [
            (NAME, PAY, InvalidInput, "choose a group or a user"),
            (CREW, "user:default/ana", Conflict, "in the catalog already"),
            ("pay-team", CREW, InvalidInput, "does not say of which kind"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, ben: User, ref: str, target: str, error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            map_name(user=ben, ref=ref, target=entity(target))
        assert not Alias.objects.exists()

    def test_a_name_means_one_thing(self, ben: User) -> None:
        map_name(user=ben, ref=NAME, target=entity(CREW))
        with pytest.raises(Conflict, match="means group:default/crew already"):
            map_name(user=ben, ref=NAME, target=entity("user:default/ana"))
        with pytest.raises(Conflict, match="already"):
            create_owner(user=ben, ref=NAME)

    def test_gone_meanwhile(self, ben: User) -> None:
        crew = entity(CREW)
        unsay("yaml:a", "group:crew")
        with pytest.raises(Conflict, match="gone"):
            map_name(user=ben, ref=NAME, target=crew)

    def test_only_who_may_write_where_the_name_lies(self, ben: User, vic: User, cleo: User) -> None:
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        for user in (vic, cleo):
            with pytest.raises(Forbidden):
                map_name(user=user, ref=NAME, target=entity(CREW))
        map_name(user=ben, ref=NAME, target=entity(CREW))
        for user in (vic, cleo):
            with pytest.raises(Forbidden):
                unmap_name(user=user, ref=NAME)
        assert owned() == dict.fromkeys(ALL, CREW)


class TestCreating:
    def test_a_group_with_members_as_the_claim_of_who_makes_it(self, ben: User) -> None:
        made = create_owner(user=ben, ref=NAME, title="Payments", members=[entity("user:default/ana")])
        assert (made.ref, made.title) == (NAME, "Payments")
        assert document(NAME)["spec"] == {"type": "team", "children": [], "members": ["user:default/ana"]}
        assert ("hasMember", "user:default/ana") in relations(NAME)
        assert owned() == dict.fromkeys(ALL, NAME)
        assert not Problem.objects.filter(resolved_at=None).exists()
        assert provenance_of(claims_of(made))["metadata.title"].claim.source.label == ben.label
        assert verbs()[-1] == "entity.create"

    def test_taken_back_and_made_again_it_is_the_same_one(self, ben: User, ana: User) -> None:
        made = create_owner(user=ben, ref=NAME)
        assert withdraw_created(user=ana, entity=made)
        assert missing() == 3
        assert owned() == dict.fromkeys(ALL, NAME)
        assert create_owner(user=ana, ref=NAME).uid == made.uid
        assert missing() == 0

    def test_by_another_name_the_mentioned_one_leads_there(self, ben: User) -> None:
        create_owner(user=ben, ref=NAME, name="Payments")
        assert owned() == dict.fromkeys(ALL, "group:default/payments")
        assert document("group:default/payments")["metadata"]["name"] == "Payments"
        assert missing() == 0

    def test_a_file_counts_more_and_an_override_most(self, ben: User) -> None:
        made = create_owner(user=ben, ref=NAME, title="Mine")
        say(
            "yaml:b",
            claim("group:pay-team", {"type": "squad", "children": []}, metadata={"title": "The file's"}),
        )
        assert (document(NAME)["metadata"]["title"], document(NAME)["spec"]["type"]) == (
            "The file's",
            "squad",
        )
        override_field(user=ben, entity=made, path="metadata.title", value="By hand")
        assert document(NAME)["metadata"]["title"] == "By hand"
        assert not withdraw_created(user=ben, entity=made)
        assert entity(NAME).is_alive

    def test_a_person_too(self, ben: User) -> None:
        say("yaml:b", component("solo", owner="user:joe"))
        create_owner(user=ben, ref="user:default/joe", title="Joe")
        assert entity("user:default/joe").title == "Joe"
        assert owned()["solo"] == "user:default/joe"

    @pytest.mark.parametrize(
        ("ref", "more", "error", "words"),
        [
            ("system:default/x", {}, InvalidInput, "no group or user"),
            (NAME, {"name": "not a name"}, InvalidInput, "name"),
            (CREW, {}, Conflict, "in the catalog already"),
            (NAME, {"name": "crew"}, Conflict, "in the catalog already"),
            ("user:default/joe", {"members": ["user:default/ana"]}, InvalidInput, "no members"),
            (NAME, {"members": [PAY]}, InvalidInput, "no person"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, ben: User, ref: str, more: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        count = Entity.objects.count()
        with pytest.raises(error, match=words):
            create_owner(
                user=ben, ref=ref, **more | {"members": [entity(m) for m in more.get("members", ())]}
            )
        assert Entity.objects.count() == count

    def test_only_who_may_write_there(self, vic: User, cleo: User) -> None:
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        for user in (vic, cleo):
            with pytest.raises(Forbidden):
                create_owner(user=user, ref=NAME)
        create_owner(user=cleo, ref="group:elsewhere/crew")
        with pytest.raises(Forbidden):
            withdraw_created(user=vic, entity=entity("group:elsewhere/crew"))

    def test_what_nobody_made_cannot_be_taken_back(self, ben: User) -> None:
        with pytest.raises(NotFound):
            withdraw_created(user=ben, entity=entity(CREW))
