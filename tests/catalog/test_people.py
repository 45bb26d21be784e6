"""Which person of the catalog an account is, and what is theirs by that."""

from __future__ import annotations

import pytest

from access.models import AuditEvent, User
from access.services import change_user, create_user, tie_account
from base.errors import Conflict, InvalidInput, NotFound
from catalog.models import Entity
from catalog.permissions import person_of
from catalog.queries import search_entities
from catalog.services.joining import merge_into, part
from catalog.services.people import account_of, confirm_who, say_who, tie_all_by_email, tie_by_email
from tests.catalog.saying import claim, say


@pytest.fixture(autouse=True)
def _core(core_pack: None) -> None:
    """Kinds and roles."""


def person(name: str, email: str = "", groups: tuple[str, ...] = (), source: str = "") -> Entity:
    profile = {"displayName": name.capitalize(), "email": email} if email else {}
    say(source or f"yaml:{name}", claim(f"user:{name}", {"profile": profile, "memberOf": list(groups)}))
    return Entity.objects.get(ref=f"user:default/{name}")


def mine(user: User) -> set[str]:
    found = search_entities(User.objects.get(pk=user.pk), "kind:component is:mine")
    return set(found.values_list("name", flat=True))


class TestByAddress:
    def test_a_verified_one_ties_and_what_the_person_and_their_groups_own_is_theirs(self, vic: User) -> None:
        entity = person("vlind", "Vic@ACME.example", groups=("payments",))
        say(
            "yaml:x",
            claim("group:payments", {"type": "team", "parent": "money", "children": []}),
            claim("group:money", {"type": "department", "children": []}),
            *(
                claim(f"component:{name}", {"type": "service", "lifecycle": "production", "owner": owner})
                for name, owner in (
                    ("own", "user:vlind"),
                    ("team", "payments"),
                    ("above", "money"),
                    ("other", "group:others"),
                )
            ),
        )
        assert mine(vic) == set()
        assert tie_by_email(vic) == entity
        assert mine(vic) == {"own", "team", "above"}
        event = AuditEvent.objects.get(verb="user.tie")
        assert (event.actor_type, event.subject_label) == ("system", "vic")

    def test_a_key_that_a_tool_brought_is_an_address_too(self, vic: User) -> None:
        said = claim("user:octo", {"memberOf": []}, keys=["user:vic@acme.example"])
        say("connection:git", said)
        assert tie_by_email(vic) == Entity.objects.get(ref="user:default/octo")

    def test_one_that_only_its_owner_claims_does_not(self, vic: User) -> None:
        person("vlind", "vic@corp.example")
        change_user(vic, email="vic@corp.example", by=vic)
        vic.refresh_from_db()
        assert tie_by_email(vic) is None
        assert person_of(vic) is None

    def test_what_is_not_certain_is_left_to_a_person(self, vic: User, ben: User) -> None:
        one = person("vlind", "vic@acme.example")
        person("vic2", "vic@acme.example")
        assert tie_by_email(vic) is None  # two people
        assert say_who(vic, one)  # who may say which of the two
        create_user(username="twin", email="ben@acme.example")
        person("ben", "ben@acme.example")
        assert tie_by_email(ben) is None  # two accounts

    def test_a_person_is_one_account(self, vic: User, ben: User) -> None:
        entity = person("vlind", "vic@acme.example")
        tie_account(ben, entity_uid=entity.uid)
        assert tie_by_email(vic) is None
        with pytest.raises(Conflict, match="ben"):
            say_who(vic, entity)

    def test_who_is_tied_stays_so(self, vic: User) -> None:
        other = person("other")
        person("vlind", "vic@acme.example")
        tie_account(vic, entity_uid=other.uid)
        vic.refresh_from_db()
        assert tie_by_email(vic) is None
        assert person_of(vic) == other

    def test_people_who_came_after_their_accounts_are_found(self, vic: User, ben: User, cleo: User) -> None:
        assert tie_all_by_email() == 0
        person("vlind", "vic@acme.example")
        person("ben", "ben@acme.example")
        change_user(cleo, is_active=False)
        person("cleo", "cleo@acme.example")
        assert tie_all_by_email() == 2
        assert {user.username for user in User.objects.exclude(entity_uid=None)} == {"vic", "ben"}
        assert tie_all_by_email() == 0


class TestByWord:
    def test_an_administrator_confirms_it(self, vic: User, ana: User) -> None:
        entity = person("vlind")
        assert not say_who(vic, entity)
        vic.refresh_from_db()
        assert person_of(vic) is None
        assert confirm_who(vic, by=ana) == entity
        vic.refresh_from_db()
        assert (person_of(vic), vic.claimed_entity_uid) == (entity, None)
        assert AuditEvent.objects.get(verb="user.tie").actor_label == "ana"

    def test_one_needs_nobody_elses_word(self, ana: User) -> None:
        assert say_who(ana, person("ana"))

    def test_what_somebody_else_became_meanwhile_is_not_confirmed(
        self, vic: User, ben: User, ana: User
    ) -> None:
        entity = person("vlind")
        say_who(vic, entity)
        tie_account(ben, entity_uid=entity.uid)
        vic.refresh_from_db()
        with pytest.raises(Conflict, match="ben"):
            confirm_who(vic, by=ana)

    def test_who_says_nothing_is_not_confirmed(self, vic: User, ana: User) -> None:
        with pytest.raises(NotFound):
            confirm_who(vic, by=ana)

    def test_a_component_is_nobody(self, vic: User) -> None:
        say("yaml:a", claim("component:pay", {"type": "service", "lifecycle": "production", "owner": "x"}))
        with pytest.raises(InvalidInput):
            say_who(vic, Entity.objects.get(name="pay"))


def test_a_tie_follows_the_person_into_a_merge_and_back(vic: User, ana: User, ben: User) -> None:
    one, two = person("vlind"), person("vic.lind")
    say(
        "yaml:x",
        claim("component:pay", {"type": "service", "lifecycle": "production", "owner": "user:vic.lind"}),
    )
    tie_account(vic, entity_uid=one.uid)
    vic.refresh_from_db()
    redirect = merge_into(user=ana, loser=one, winner=two)
    assert person_of(vic) == two
    assert mine(vic) == {"pay"}
    assert account_of(two) == vic
    with pytest.raises(Conflict, match="vic"):
        say_who(ben, Entity.objects.get(pk=two.pk))
    part(user=ana, redirect=redirect)
    assert person_of(vic) == one
    assert mine(vic) == set()


def test_a_tie_waits_for_the_return_of_its_person(vic: User) -> None:
    entity = person("vlind", source="yaml:a")
    tie_account(vic, entity_uid=entity.uid)
    vic.refresh_from_db()
    Entity.objects.filter(pk=entity.pk).update(deleted_at=entity.created_at)
    assert person_of(vic) is None
    Entity.objects.filter(pk=entity.pk).update(deleted_at=None)
    assert person_of(vic) == entity
