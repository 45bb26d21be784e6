"""Owners set in bulk: previewed, applied as one change, taken back as one; each only as far as somebody may."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import AuditEvent, User
from access.services import grant
from base.errors import InvalidInput
from catalog.models import Claim, Entity, Rank
from catalog.services.bulk_edit import plan_owners, plan_undo, set_owners, undo_apart
from catalog.services.bulk_plans import MOST, StalePlan
from catalog.services.edit import drop_override, override_field
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, document, entity, history, relations, say, unsay

pytestmark = pytest.mark.django_db

CREW = "group:default/crew"


@pytest.fixture(autouse=True)
def things(core_pack: None) -> None:
    bare = {"type": "service", "lifecycle": "production"}
    say(
        "yaml:a",
        claim("component:bare", bare),
        claim("component:empty", bare),
        component("filed", owner="other"),
        component("same", owner="crew"),
        claim("component:elsewhere/there", bare),
        claim("group:crew", {"type": "team", "children": []}),
        claim("group:other", {"type": "team", "children": []}),
        claim("user:joe", {"memberOf": []}),
    )
    say("connection:git/x", claim("repository:tooled", {"owner": "other"}, rank=Rank.CONNECTION))


def everything() -> list[Entity]:
    return list(Entity.objects.filter(deleted_at=None).order_by("name"))


def owners() -> dict[str, str]:
    rows = Entity.objects.filter(kind__in=["component", "repository"], deleted_at=None)
    return dict(rows.values_list("name", "owner"))


def event() -> AuditEvent:
    return AuditEvent.objects.filter(verb="entity.bulk-edit").latest("id")


def outcomes(user: User, owner: str = CREW) -> dict[str, tuple[str, str]]:
    plan = plan_owners(user=user, entities=everything(), owner=entity(owner))
    return {row.entity.name: (str(row.outcome), row.said_by) for row in plan.rows}


class TestPreview:
    def test_it_says_what_changes_and_whose_word_it_goes_over(self, ben: User, ana: User) -> None:
        override_field(user=ben, entity=entity("component:default/bare"), path="spec.owner", value="x")
        override_field(user=ana, entity=entity("component:default/empty"), path="spec.owner", value="x")
        grant(role="viewer", user=ben)
        assert outcomes(ben) == {
            "bare": ("replace", ben.label),
            "crew": ("unfit", ""),
            "empty": ("held", ana.label),
            "filed": ("override", "yaml:a"),
            "joe": ("unfit", ""),
            "other": ("unfit", ""),
            "same": ("same", "yaml:a"),
            "there": ("set", ""),
            "tooled": ("override", "connection:git/x"),
        }
        assert not AuditEvent.objects.filter(verb="entity.bulk-edit").exists()

    def test_a_shadowed_file_has_no_word(self, ben: User) -> None:
        say("yaml:z", component("bare", owner="other"))
        assert outcomes(ben)["bare"] == ("set", "")

    @pytest.mark.parametrize("owner", ["component:default/bare"])
    def test_only_groups_and_people_own(self, ben: User, owner: str) -> None:
        with pytest.raises(InvalidInput, match="choose a group or a user"):
            outcomes(ben, owner)

    def test_it_has_a_limit(self, ben: User) -> None:
        many = [entity(CREW)] * (MOST + 1)
        with pytest.raises(InvalidInput, match=f"At most {MOST}"):
            plan_owners(user=ben, entities=many, owner=entity(CREW))


class TestSetting:
    def test_applied_as_ones_word_it_stays_and_is_undone_as_one(self, ben: User, ana: User) -> None:
        before = owners()
        documents = {name: document(e.ref) for name, e in ((e.name, e) for e in everything())}
        say("yaml:b", claim("component:bare", {"x": 1}))  # shadowed, and says nothing
        plan = set_owners(user=ben, entities=everything(), owner=entity(CREW), reason="moved in May")
        assert {row.entity.name for row in plan.changing} == {"bare", "empty", "filed", "there", "tooled"}
        assert set(owners().values()) == {CREW}
        assert relations("component:default/bare") == [("ownedBy", CREW)]
        say("yaml:a", component("filed", owner="other", lifecycle="old"), minute=5)
        assert owners()["filed"] == CREW
        assert history("component:default/bare")[-1].reason == "moved in May"
        facts = event().changes
        assert (facts["count"], facts["value"], facts["path"]) == (5, CREW, "spec.owner")
        assert {one["ref"].rpartition("/")[2]: one["before"] for one in facts["entities"]} == {
            "bare": [], "empty": [], "filed": [], "there": [], "tooled": [],
        }  # fmt: skip
        planned = plan_undo(user=ana, event=event())
        assert len(planned.restored) == 5
        done = undo_apart(user=ana, event=event())
        assert (len(done.restored), done.skipped) == (5, [])
        render_dirty(at=timezone.now())
        assert owners() == before
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()
        for name in ("bare", "there", "tooled"):
            assert document(entity_ref(name)) == documents[name]
        assert AuditEvent.objects.get(verb="entity.bulk-edit-undo").changes["of"] == event().pk

    def test_what_one_said_before_counts_again(self, ben: User) -> None:
        bare, filed = entity("component:default/bare"), entity("component:default/filed")
        override_field(user=ben, entity=bare, path="spec.owner", value="group:mine", reason="before")
        override_field(user=ben, entity=bare, path="metadata.title", value="Bare one", reason="nicer")
        override_field(user=ben, entity=filed, path="spec.owner", value=None, reason="nobody")
        set_owners(user=ben, entities=[bare, filed], owner=entity(CREW), reason="bulk")
        assert document(bare.ref)["metadata"]["title"] == "Bare one"
        undo_apart(user=ben, event=event())
        assert owners()["bare"] == "group:default/mine"
        assert owners()["filed"] == ""
        reasons = {c.entity.name: c.place["reasons"] for c in Claim.objects.filter(rank=Rank.PERSON)}
        assert reasons == {
            "bare": {"spec.owner": "before", "metadata.title": "nicer"},
            "filed": {"spec.owner": "nobody"},
        }

    def test_what_was_edited_later_stays_and_is_named(self, ben: User) -> None:
        names = ("bare", "empty", "filed", "tooled")
        set_owners(user=ben, entities=[entity(entity_ref(n)) for n in names], owner=entity(CREW))
        override_field(
            user=ben, entity=entity("component:default/bare"), path="spec.owner", value="group:later"
        )
        drop_override(user=ben, entity=entity("component:default/filed"), path="spec.owner")
        override_field(
            user=ben, entity=entity("component:default/empty"), path="metadata.title", value="Later"
        )
        done = undo_apart(user=ben, event=event())
        assert [ref for ref, _why in done.skipped] == ["component:default/bare", "component:default/filed"]
        assert {why for _ref, why in done.skipped} == {"It was edited later."}
        assert owners() | {"same": ""} == {
            "bare": "group:default/later", "empty": "", "filed": "group:default/other", "same": "",
            "there": "", "tooled": "group:default/other",
        }  # fmt: skip
        assert document("component:default/empty")["metadata"]["title"] == "Later"
        again = undo_apart(user=ben, event=event())
        assert again.restored == []

    def test_undone_also_after_a_later_sync_and_an_absence(self, ben: User) -> None:
        set_owners(user=ben, entities=everything(), owner=entity(CREW))
        say("yaml:a", component("filed", owner="third"), minute=5)
        unsay("yaml:a", "component:bare", minute=6)
        undo_apart(user=ben, event=event())
        assert owners()["filed"] == "group:default/third"
        bare = claim("component:bare", {"type": "service", "lifecycle": "production"}, minute=7)
        say("yaml:a", bare, minute=7)
        assert owners()["bare"] == ""

    def test_what_changed_since_the_preview_is_shown_again(self, ben: User) -> None:
        plan = plan_owners(user=ben, entities=everything(), owner=entity(CREW))
        say("yaml:a", component("filed", owner="third"), minute=5)
        with pytest.raises(StalePlan):
            set_owners(user=ben, entities=everything(), owner=entity(CREW), expected=plan.mark)
        assert owners()["bare"] == ""
        plan = plan_owners(user=ben, entities=everything(), owner=entity(CREW))
        set_owners(user=ben, entities=everything(), owner=entity(CREW), expected=plan.mark)
        assert owners()["bare"] == CREW

    def test_where_nothing_changes_nothing_is_recorded(self, ben: User) -> None:
        plan = set_owners(user=ben, entities=[entity("component:default/same")], owner=entity(CREW))
        assert plan.changing == []
        assert not AuditEvent.objects.filter(verb="entity.bulk-edit").exists()

    def test_the_number_of_statements_does_not_grow_with_the_things(self, ben: User) -> None:
        def statements(prefix: str, count: int) -> int:
            say("yaml:m", *(claim(f"component:{prefix}{n}", {"type": "x"}) for n in range(count)))
            rows = list(Entity.objects.filter(name__startswith=prefix))
            with CaptureQueriesContext(connection) as found:
                set_owners(user=ben, entities=rows, owner=entity(CREW))
            return len(found)

        statements("warm", 2)
        few = statements("few", 2)
        assert statements("many", 40) < few + 20  # definitions are read anew now and then


class TestWhoMay:
    def test_each_only_as_far_as_a_grant_reaches_and_the_others_are_named(
        self, ben: User, cleo: User
    ) -> None:
        grant(role="viewer", user=cleo)
        grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
        found = outcomes(cleo)
        assert found["there"] == ("set", "")
        assert {name for name, (outcome, _who) in found.items() if outcome != "forbidden"} == {"there"}
        set_owners(user=cleo, entities=everything(), owner=entity(CREW))
        assert {name for name, owner in owners().items() if owner == CREW} == {"there", "same"}
        set_owners(user=ben, entities=everything(), owner=entity("group:default/other"))
        done = undo_apart(user=cleo, event=event())
        assert done.restored == []
        assert len(done.skipped) == 3
        assert owners()["bare"] == "group:default/other"

    def test_a_grant_by_query_reaches_what_it_finds(self, no_access: User) -> None:
        grant(role="editor", user=no_access, scope_type="query", scope="name:bare")
        found: dict[str, Any] = outcomes(no_access)
        assert [name for name, (outcome, _who) in found.items() if outcome != "forbidden"] == ["bare"]


def entity_ref(name: str) -> str:
    return Entity.objects.get(name=name).ref


def test_only_a_bulk_edit_can_be_undone_as_one(ben: User) -> None:
    override_field(user=ben, entity=entity("component:default/bare"), path="spec.owner", value="x")
    other = AuditEvent.objects.get(verb="entity.override")
    for act in (plan_undo, undo_apart):
        with pytest.raises(InvalidInput, match="no bulk edit"):
            act(user=ben, event=other)
