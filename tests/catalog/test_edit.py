"""What people and API clients say of entities: with permission, against the state they saw, and on record."""

from __future__ import annotations

from typing import Any

import pytest

from access.models import AuditEvent, User
from access.services import grant
from base.errors import BadRequest, Forbidden, InvalidInput, NotFound
from catalog.models import Alias, Claim, Entity, Rank, Tie
from catalog.services.edit import (
    MAX_BULK,
    OverriddenAlready,
    StaleEntity,
    change_overrides,
    decide_tie,
    drop_override,
    etag_of,
    override_field,
    upsert_documents,
    withdraw,
)
from tests.catalog.saying import claim, component, document, entity, history, relations, say, unsay

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

PAY = "component:default/pay"


def owner() -> Any:
    return document(PAY)["spec"].get("owner")


def audit(verb: str) -> list[dict[str, Any]]:
    return [event.changes for event in AuditEvent.objects.filter(verb=verb).order_by("id")]


@pytest.fixture
def pay() -> Entity:
    """A component that a file declares."""
    say("yaml:a", component("pay", owner="file"))
    return entity(PAY)


class TestOverrides:
    def test_an_override_wins_stays_through_later_readings_and_can_be_dropped(
        self, ben: User, pay: Entity
    ) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours", reason="moved in May")
        assert owner() == "ours"
        assert relations(PAY) == [("ownedBy", "group:default/ours")]
        say("yaml:a", component("pay", owner="file again"), minute=5)
        assert owner() == "ours"
        drop_override(user=ben, entity=pay, path="spec.owner")
        assert owner() == "file again"
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()
        assert [(r.action, r.by) for r in history(PAY)] == [
            ("created", "yaml:a"), ("changed", ben.label), ("changed", ben.label),
        ]  # fmt: skip

    def test_each_change_is_on_record_with_its_reason(self, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours", reason="moved in May")
        drop_override(user=ben, entity=pay, path="spec.owner")
        assert audit("entity.override") == [{"path": "spec.owner", "value": "ours", "reason": "moved in May"}]
        assert audit("entity.override-drop") == [{"path": "spec.owner"}]
        assert AuditEvent.objects.get(verb="entity.override").subject_uid == str(pay.uid)

    def test_null_removes_a_field(self, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value=None)
        assert "owner" not in document(PAY)["spec"]
        assert relations(PAY) == []

    def test_several_fields_are_kept_apart(self, ben: User, pay: Entity) -> None:
        change_overrides(
            user=ben,
            entity=pay,
            values={"spec.owner": "ours", "spec.lifecycle": "old", "metadata.title": "P"},
        )
        change_overrides(user=ben, entity=pay, values={"spec.type": "tool"}, dropped=["spec.owner"])
        shown = document(PAY)
        assert (shown["spec"], shown["metadata"]["title"]) == (
            {"owner": "file", "lifecycle": "old", "type": "tool"},
            "P",
        )

    def test_keys_of_annotations_hold_dots(self, ben: User, pay: Entity) -> None:
        path = "metadata.annotations.host.example/some.key"
        override_field(user=ben, entity=pay, path=path, value="x")
        assert document(PAY)["metadata"]["annotations"] == {"host.example/some.key": "x"}
        with pytest.raises(InvalidInput):
            override_field(user=ben, entity=pay, path=path, value=5)
        drop_override(user=ben, entity=pay, path=path)
        assert "annotations" not in document(PAY)["metadata"]

    def test_all_or_nothing(self, ben: User, pay: Entity) -> None:
        with pytest.raises(InvalidInput):
            change_overrides(user=ben, entity=pay, values={"spec.owner": "ours", "spec.lifecycle": 7})
        with pytest.raises(NotFound):
            change_overrides(user=ben, entity=pay, values={"spec.owner": "ours"}, dropped=["spec.type"])
        assert owner() == "file"
        assert audit("entity.override") == []

    @pytest.mark.parametrize(
        "path",
        ["kind", "apiVersion", "metadata.name", "metadata.namespace", "metadata.uid"]
        + ["spec", "spec.", "relations.0", "spec..a", ""],
    )
    def test_what_an_entity_is_cannot_be_overridden(self, ben: User, pay: Entity, path: str) -> None:
        with pytest.raises(InvalidInput) as error:
            override_field(user=ben, entity=pay, path=path, value="x")
        assert error.value.errors[0].path == path

    def test_of_a_name_it_is_said_what_is_possible_instead(self, ben: User, pay: Entity) -> None:
        with pytest.raises(InvalidInput) as error:
            override_field(user=ben, entity=pay, path="metadata.name", value="x")
        assert error.value.message == "metadata.name cannot be overridden."
        (reason,) = error.value.errors
        for way in ("override metadata.title", "where it is declared", "merge the two"):
            assert way in reason.message

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("spec.owner", ["a"]),
            ("spec.owner", ""),
            ("spec.dependsOn", "x"),
            ("metadata.tags", ["Not A Tag"]),
            ("metadata.title", {"a": 1}),
            ("metadata.links", [{"url": "no address"}]),
        ],
    )
    def test_a_value_that_does_not_fit_is_refused_with_its_place(
        self, ben: User, pay: Entity, path: str, value: Any
    ) -> None:
        with pytest.raises(InvalidInput) as error:
            override_field(user=ben, entity=pay, path=path, value=value)
        assert all(item.path.startswith(path) for item in error.value.errors)
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()

    def test_other_gaps_of_the_entity_do_not_hinder(self, ben: User) -> None:
        say("connection:t/r", claim("component:pay", {}, rank=Rank.CONNECTION))
        override_field(user=ben, entity=entity(PAY), path="spec.type", value="service")
        assert document(PAY)["spec"] == {"type": "service"}

    def test_a_change_since_it_was_read_is_noticed(self, ben: User, pay: Entity) -> None:
        seen = etag_of(pay)
        override_field(user=ben, entity=pay, path="spec.owner", value="a", expected=seen)
        with pytest.raises(StaleEntity) as error:
            override_field(user=ben, entity=pay, path="spec.owner", value="b", expected=seen)
        assert error.value.extra["current"] == etag_of(entity(PAY))
        with pytest.raises(StaleEntity):
            drop_override(user=ben, entity=pay, path="spec.owner", expected=seen)
        with pytest.raises(StaleEntity):
            withdraw(user=ben, entity=pay, expected=seen)
        assert owner() == "a"
        for fine in (
            "*",
            etag_of(entity(PAY)),
            f"{seen}, {etag_of(entity(PAY))}",
            etag_of(entity(PAY))[:-1] + '+abc"',
        ):
            override_field(user=ben, entity=pay, path="spec.owner", value="a", expected=fine)

    def test_who_comes_second_is_told_and_may_replace(self, ana: User, ben: User, pay: Entity) -> None:
        override_field(user=ana, entity=pay, path="spec.owner", value="first")
        for path, value in (("spec.owner", "second"), ("spec.owner.deeper", "x")):
            with pytest.raises((OverriddenAlready, InvalidInput), match=r"Ana|does not fit"):
                override_field(user=ben, entity=pay, path=path, value=value)
        assert owner() == "first"
        change_overrides(user=ben, entity=pay, dropped=["spec.owner"], values={"spec.owner": "second"})
        assert owner() == "second"
        drop_override(user=ana, entity=pay, path="spec.owner")
        assert owner() == "file"

    def test_to_a_list_that_sources_add_to_both_add(self, ana: User, ben: User, pay: Entity) -> None:
        for person, tag in ((ana, "hers"), (ben, "his")):
            override_field(user=person, entity=pay, path="metadata.tags", value=[tag])
        assert {"hers", "his"} <= set(document(PAY)["metadata"]["tags"])
        with pytest.raises(OverriddenAlready, match="Ana"):  # nothing at all would take hers away
            override_field(user=ben, entity=pay, path="metadata.tags", value=None)

    def test_who_may_not_write_here_may_not_override(self, vic: User, cleo: User, pay: Entity) -> None:
        for person in (vic, cleo):
            with pytest.raises(Forbidden):
                override_field(user=person, entity=pay, path="spec.owner", value="x")
            with pytest.raises(Forbidden):
                drop_override(user=person, entity=pay, path="spec.owner")

    def test_it_waits_for_an_entity_that_went(self, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        unsay("yaml:a", "component:pay", minute=1)
        say("yaml:b", component("pay", owner="file"), minute=2)
        assert owner() == "ours"


class TestUpsert:
    def data(self, name: str = "pay", **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": name},
            "spec": {"type": "service", "lifecycle": "production", "owner": "team", **spec},
        }

    def outcomes(self, user: User, *documents: Any, **more: Any) -> list[str]:
        return [result.outcome for result in upsert_documents(user=user, documents=documents, **more)]

    def test_one_bad_document_is_reported_and_the_others_go_in(self, ben: User) -> None:
        bad = self.data("b", owner=7)
        results = upsert_documents(user=ben, documents=[self.data("a"), bad, self.data("c"), "what"])
        assert [r.outcome for r in results] == ["new", "refused", "new", "refused"]
        assert results[1].ref == "component:default/b"
        assert results[1].errors[0].path == "spec.owner"
        assert Entity.objects.count() == 2
        assert audit("entity.upsert") == [
            {"refs": ["component:default/a", "component:default/c"], "count": 2}
        ]

    def test_again_is_unchanged_and_leaves_no_trace(self, ben: User) -> None:
        assert self.outcomes(ben, self.data()) == ["new"]
        assert self.outcomes(ben, self.data()) == ["unchanged"]
        assert self.outcomes(ben, self.data(owner="else")) == ["changed"]
        assert len(audit("entity.upsert")) == 2

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_of_one_entity_the_first_good_document_counts_and_any_further_one_is_refused(
        self, ben: User, dry_run: bool
    ) -> None:
        upper = {**self.data(owner="c"), "metadata": {"name": "Pay", "namespace": "default"}}
        documents = [self.data(owner=7), self.data(owner="a"), self.data(owner="b"), upper]
        results = upsert_documents(user=ben, documents=documents, dry_run=dry_run)
        good = "accepted" if dry_run else "new"
        assert [result.outcome for result in results] == ["refused", good, "refused", "refused"]
        for result in results[2:]:
            (error,) = result.errors
            assert (error.path, "document 2 " in error.message) == ("metadata.name", True)
        if not dry_run:
            assert owner() == "a"
            assert audit("entity.upsert") == [{"refs": [PAY], "count": 1}]

    def test_a_dry_run_writes_nothing(self, ben: User) -> None:
        assert self.outcomes(ben, self.data(), self.data("x", owner=1), dry_run=True) == [
            "accepted",
            "refused",
        ]
        assert not Entity.objects.exists()
        assert not audit("entity.upsert")

    def test_only_the_expected_state_is_replaced(self, ben: User) -> None:
        with pytest.raises(StaleEntity):
            self.outcomes(ben, self.data(), expected="*")
        self.outcomes(ben, self.data())
        seen = etag_of(entity(PAY))
        assert self.outcomes(ben, self.data(owner="a"), expected=seen) == ["changed"]
        with pytest.raises(StaleEntity):
            self.outcomes(ben, self.data(owner="b"), expected=seen)
        with pytest.raises(BadRequest):
            self.outcomes(ben, self.data(), self.data("b"), expected=seen)
        assert owner() == "a"

    def test_too_many_at_once_are_refused(self, ben: User) -> None:
        with pytest.raises(InvalidInput):
            upsert_documents(user=ben, documents=[{}] * (MAX_BULK + 1))

    def test_a_grant_for_one_namespace_reaches_no_other(self, cleo: User) -> None:
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        there = {**self.data(), "metadata": {"name": "pay", "namespace": "Elsewhere".lower()}}
        results = upsert_documents(user=cleo, documents=[there, self.data()])
        assert [r.outcome for r in results] == ["new", "refused"]
        assert list(Entity.objects.values_list("ref", flat=True)) == ["component:elsewhere/pay"]

    def test_nor_does_an_old_name_lead_out_of_it(self, cleo: User, pay: Entity) -> None:
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        Alias.objects.create(ref="component:elsewhere/old", entity=pay)
        there = {**self.data(owner="taken"), "metadata": {"name": "old", "namespace": "elsewhere"}}
        assert self.outcomes(cleo, there) == ["new"]
        assert owner() == "file"
        assert entity("component:elsewhere/old").uid != pay.uid
        assert not Alias.objects.exists()

    def test_what_only_the_catalog_says_is_left_out(self, ben: User) -> None:
        data = self.data()
        data["metadata"] |= {"uid": "11111111-1111-4111-8111-111111111111", "etag": "x"}
        self.outcomes(ben, data)
        assert document(PAY)["metadata"]["uid"] == str(entity(PAY).uid)
        assert document(PAY)["metadata"]["etag"] != "x"

    def test_one_takes_back_what_one_declared_and_nothing_else(
        self, ana: User, ben: User, pay: Entity
    ) -> None:
        self.outcomes(ben, self.data("pay", owner="api"))
        assert owner() == "file"  # a file counts more than the API
        with pytest.raises(NotFound):
            withdraw(user=ana, entity=pay)
        assert withdraw(user=ben, entity=pay) is False
        self.outcomes(ben, self.data("mine"))
        assert withdraw(user=ben, entity=entity("component:default/mine")) is True
        assert len(audit("entity.withdraw")) == 2


class TestTies:
    def two(self) -> tuple[Entity, Entity]:
        repo = "repo:h.example/pay"
        say("connection:g/r", claim("repository:pay", rank=Rank.CONNECTION, keys=(repo,)))
        say("yaml:a", claim("component:pay", {"type": "x"}, about=(repo,)))
        return entity(PAY), entity("repository:default/pay")

    def test_a_forbidden_tie_stays_away_until_the_evidence_may_decide_again(self, ben: User) -> None:
        one, other = self.two()
        assert ("hasSource", other.ref) in relations(PAY)
        decide_tie(user=ben, source=one, type="hasSource", target=other, state="forbidden", reason="no")
        assert relations(PAY) == []
        say(
            "connection:g/r",
            claim(
                "repository:pay", {"head": "2"}, rank=Rank.CONNECTION, keys=("repo:h.example/pay",), minute=5
            ),
        )
        assert relations(PAY) == []
        decide_tie(user=ben, source=one, type="hasSource", target=other, state="auto")
        assert ("hasSource", other.ref) in relations(PAY)
        assert [c["state"] for c in audit("tie.decide")] == [["auto", "forbidden"], ["forbidden", "auto"]]

    def test_a_confirmed_tie_needs_no_evidence_and_goes_with_the_decision(self, ben: User) -> None:
        one, _other = self.two()
        say("connection:g/r", claim("repository:else", rank=Rank.CONNECTION))
        other = entity("repository:default/else")
        tie = decide_tie(user=ben, source=one, type="hasSource", target=other, state="confirmed")
        assert tie is not None
        assert (tie.decided_by, tie.key) == (ben.label, "")
        assert ("sourceOf", PAY) in relations(other.ref) or ("hasSource", other.ref) in relations(PAY)
        assert decide_tie(user=ben, source=one, type="hasSource", target=other, state="auto") is None
        assert not Tie.objects.filter(target=other).exists()

    @pytest.mark.parametrize(
        ("type_", "state"), [("dependsOn", "confirmed"), ("hasSource", "maybe"), ("", "auto")]
    )
    def test_nonsense_is_refused(self, ben: User, type_: str, state: str) -> None:
        one, other = self.two()
        with pytest.raises(InvalidInput):
            decide_tie(user=ben, source=one, type=type_, target=other, state=state)
        with pytest.raises(InvalidInput):
            decide_tie(user=ben, source=one, type="hasSource", target=one, state="confirmed")

    def test_it_takes_the_permission_at_both_ends(self, cleo: User, vic: User) -> None:
        one, other = self.two()
        say("connection:g/r", claim("repository:elsewhere/there", rank=Rank.CONNECTION))
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        there = entity("repository:elsewhere/there")
        for person, source, target in ((cleo, one, there), (vic, one, other)):
            with pytest.raises(Forbidden):
                decide_tie(user=person, source=source, type="hasSource", target=target, state="confirmed")
