"""Whom an identity provider may sign in as which account, and what its groups give and take."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.utils import timezone

from access.models import AuditEvent, Grant, Identity, IdentityProvider, Role, Secret, SignInLink, User
from access.permissions import can
from access.services import (
    LinkNotValid,
    Person,
    ProviderRefused,
    change_user,
    create_group,
    create_user,
    disconnect_identity,
    find_sign_in_link,
    grant,
    identity_provider,
    invite,
    make_sign_in_link,
    provider_secret,
    redeem_sign_in_link,
    remove_provider,
    revoke,
    save_provider,
    set_members,
    sign_in_person,
)
from base.errors import Forbidden, InvalidInput

ISSUER = "https://login.acme.example"
ADA = Person(
    issuer=ISSUER,
    subject="1f3a",
    email="ada@acme.example",
    is_email_verified=True,
    name="Ada Park",
    username="ada.park",
)


@pytest.fixture
def provider(roles: Any) -> IdentityProvider:
    return IdentityProvider(
        label="Acme", issuer=ISSUER, client_id="portico", makes_accounts=True, roles={"*": "viewer"}
    )


class TestWhichAccount:
    def test_a_new_one_is_made_where_that_is_wanted(self, provider: IdentityProvider) -> None:
        user = sign_in_person(ADA, provider=provider)
        assert (user.username, user.name, user.email) == ("ada.park", "Ada Park", "ada@acme.example")
        assert user.is_email_verified
        assert not user.has_usable_password()
        assert can(user, "entity.read")
        assert sign_in_person(ADA, provider=provider) == user
        verbs = set(AuditEvent.objects.values_list("verb", flat=True))
        assert {"user.create", "user.connect", "grant.create", "session.start"} <= verbs

    def test_else_nobody_gets_in_without_an_invitation(self, provider: IdentityProvider) -> None:
        provider.makes_accounts = False
        with pytest.raises(ProviderRefused, match=r"ada@acme\.example"):
            sign_in_person(ADA, provider=provider)
        assert not User.objects.exists()

    def test_it_stays_theirs_when_name_and_address_change(self, provider: IdentityProvider) -> None:
        user = sign_in_person(ADA, provider=provider)
        married = replace(ADA, email="ada.lee@acme.example", username="ada.lee", name="Ada Lee")
        assert sign_in_person(married, provider=provider) == user
        # Who has the address or the name now is somebody else.
        other = sign_in_person(replace(ADA, subject="77"), provider=replace_email(provider, user))
        assert other != user
        assert other.username == "ada.park-2"

    def test_an_address_that_both_sides_vouch_for_leads_to_the_account(
        self, provider: IdentityProvider, ana: User
    ) -> None:
        person = replace(ADA, email="Ana@acme.example", username="mallory")
        assert sign_in_person(person, provider=provider) == ana
        assert User.objects.count() == 1

    @pytest.mark.parametrize("verified", [False, None])
    def test_an_unverified_address_takes_nothing_over(
        self, provider: IdentityProvider, ana: User, verified: bool | None
    ) -> None:
        person = replace(ADA, email="ana@acme.example", is_email_verified=verified)
        with pytest.raises(ProviderRefused, match="not certain"):
            sign_in_person(person, provider=provider)
        assert not Identity.objects.exists()
        assert User.objects.count() == 1

    def test_nor_is_anybody_led_into_an_account_whose_owner_only_says_so(
        self, provider: IdentityProvider, vic: User
    ) -> None:
        change_user(vic, email="ada@acme.example", by=vic)
        with pytest.raises(ProviderRefused, match="not certain"):
            sign_in_person(ADA, provider=provider)
        assert not vic.identities.exists()

    def test_two_accounts_with_one_address_are_nobodys(self, provider: IdentityProvider, vic: User) -> None:
        for name in ("one", "two"):
            create_user(username=name, email="ada@acme.example")
        with pytest.raises(ProviderRefused, match="not certain"):
            sign_in_person(ADA, provider=provider)

    def test_an_address_that_passed_to_somebody_else_does_not_bring_the_account(
        self, provider: IdentityProvider
    ) -> None:
        sign_in_person(ADA, provider=provider)
        with pytest.raises(ProviderRefused, match="not certain"):
            sign_in_person(replace(ADA, subject="another person"), provider=provider)

    def test_a_provider_that_is_trusted_need_not_say_that_it_is_verified(
        self, provider: IdentityProvider, ana: User
    ) -> None:
        provider.trusts_email = True
        said_no = replace(ADA, email="ana@acme.example", is_email_verified=False)
        with pytest.raises(ProviderRefused):
            sign_in_person(said_no, provider=provider)
        assert sign_in_person(replace(said_no, is_email_verified=None), provider=provider) == ana

    def test_an_inactive_account_stays_out(self, provider: IdentityProvider, ana: User) -> None:
        user = sign_in_person(ADA, provider=provider)
        change_user(user, is_active=False, by=ana)
        with pytest.raises(ProviderRefused, match="inactive"):
            sign_in_person(ADA, provider=provider)

    @pytest.mark.parametrize(
        ("changes", "may"),
        [
            ({}, True),
            ({"email": "ADA@ACME.EXAMPLE"}, True),
            ({"is_email_verified": False}, False),
            ({"email": "ada@evil.example"}, False),
            ({"email": "ada@acme.example.evil.example"}, False),
            ({"email": "ada@evil-acme.example"}, False),
            ({"email": "ada@evil.example,x@acme.example"}, False),
            ({"email": ""}, False),
        ],
    )
    def test_only_addresses_of_the_allowed_domains(
        self, provider: IdentityProvider, changes: dict[str, Any], may: bool
    ) -> None:
        provider.email_domains = ["acme.example", "corp.example"]
        if may:
            assert sign_in_person(replace(ADA, **changes), provider=provider).username == "ada.park"
        else:
            with pytest.raises(ProviderRefused, match=r"acme\.example, corp\.example"):
                sign_in_person(replace(ADA, **changes), provider=provider)
            assert not User.objects.exists()

    @pytest.mark.parametrize(
        ("username", "email", "made"),
        [
            ("Ada@corp.example", "", "ada"),
            ("", "ada.p@acme.example", "ada.p"),
            ("李", "", "1f3a"),
            ("CORP\\ada", "", "corp-ada"),
        ],
    )
    def test_user_names_are_made_to_fit(
        self, provider: IdentityProvider, username: str, email: str, made: str
    ) -> None:
        assert (
            sign_in_person(replace(ADA, username=username, email=email), provider=provider).username == made
        )


def replace_email(provider: IdentityProvider, user: User) -> IdentityProvider:
    """The same provider, after somebody gave up their address."""
    change_user(user, email="")
    return provider


class TestLinks:
    def test_an_invitation_is_used_up_and_brings_the_account(
        self, provider: IdentityProvider, ana: User
    ) -> None:
        provider.makes_accounts = False
        made = invite(username="dora", role="editor", by=ana)
        link = find_sign_in_link(made.text)
        user = sign_in_person(replace(ADA, is_email_verified=False), provider=provider, link=link)
        assert user == made.user
        assert (user.name, user.email, user.is_email_verified) == ("Ada Park", "", False)
        assert can(user, "connection.sync")
        with pytest.raises(LinkNotValid):
            find_sign_in_link(made.text)
        with pytest.raises(LinkNotValid):
            sign_in_person(replace(ADA, subject="2"), provider=provider, link=link)
        assert Identity.objects.count() == 1

    def test_who_was_invited_by_address_may_come_without_the_link_which_ends(
        self, provider: IdentityProvider, ana: User
    ) -> None:
        made = invite(email="ada@acme.example", role="editor", by=ana)
        assert sign_in_person(ADA, provider=provider) == made.user
        assert not SignInLink.objects.invitations().exists()
        with pytest.raises(LinkNotValid):
            redeem_sign_in_link(token=made.text, name="Mallory", password="four words of rain")

    def test_a_reset_link_connects_an_account_that_was_there(
        self, provider: IdentityProvider, vic: User
    ) -> None:
        link = find_sign_in_link(make_sign_in_link(vic))
        assert sign_in_person(ADA, provider=provider, link=link) == vic
        assert sign_in_person(ADA, provider=provider) == vic

    def test_one_who_has_an_account_does_not_take_anothers(
        self, provider: IdentityProvider, ana: User
    ) -> None:
        user = sign_in_person(ADA, provider=provider)
        link = find_sign_in_link(invite(username="dora", role="administrator", by=ana).text)
        with pytest.raises(ProviderRefused, match="dora"):
            sign_in_person(ADA, provider=provider, link=link)
        link.refresh_from_db()
        assert link.used_at is None
        assert list(user.grants.values_list("role__name", flat=True)) == ["viewer"]


class TestGroups:
    @pytest.fixture(autouse=True)
    def _rules(self, provider: IdentityProvider, ana: User) -> None:
        self.payments = create_group(name="Payments")
        grant(role="editor", group=self.payments, scope_type="namespace", scope="payments")
        provider.roles = {"platform": "administrator", "dev": "editor", "*": "viewer"}
        provider.access_groups = {"team-payments": "Payments"}

    def come(self, provider: IdentityProvider, *groups: str) -> User:
        user = sign_in_person(replace(ADA, groups=frozenset(groups)), provider=provider)
        return User.objects.get(pk=user.pk)

    def roles_of(self, user: User) -> set[str]:
        return set(user.grants.values_list("role__name", flat=True))

    def test_they_give_roles_and_access_groups(self, provider: IdentityProvider) -> None:
        user = self.come(provider, "dev", "team-payments", "unknown", "administrator")
        assert self.roles_of(user) == {"viewer", "editor"}
        assert list(user.access_groups.all()) == [self.payments]

    def test_a_group_that_was_left_lowers_the_role_at_the_next_sign_in(
        self, provider: IdentityProvider
    ) -> None:
        user = self.come(provider, "platform", "team-payments")
        assert can(user, "user.write")
        user = self.come(provider)
        assert self.roles_of(user) == {"viewer"}
        assert not can(user, "user.write")
        assert not user.access_groups.exists()
        event = AuditEvent.objects.filter(verb="grant.delete").get()
        assert event.actor_label == "Acme"

    def test_a_rule_that_changed_holds_at_the_next_sign_in(self, provider: IdentityProvider) -> None:
        self.come(provider, "dev")
        provider.roles = {"dev": "viewer"}
        assert self.roles_of(self.come(provider, "dev")) == {"viewer"}

    def test_groups_that_are_too_many_to_be_told_change_nothing(self, provider: IdentityProvider) -> None:
        self.come(provider, "dev", "team-payments")
        user = sign_in_person(replace(ADA, groups=None), provider=provider)
        assert self.roles_of(user) == {"viewer", "editor"}
        assert user.access_groups.exists()

    def test_what_a_person_gave_stays(self, provider: IdentityProvider, ana: User) -> None:
        user = self.come(provider)
        grant(role="editor", user=user, by=ana)
        set_members(self.payments, members=[user], by=ana)
        self.come(provider, "dev", "team-payments")
        user = self.come(provider)
        assert self.roles_of(user) == {"viewer", "editor"}
        assert user.access_groups.exists()

    def test_what_the_provider_gave_first_and_a_person_then_stays_too(
        self, provider: IdentityProvider, ana: User
    ) -> None:
        user = self.come(provider, "dev")
        grant(role="editor", user=user, by=ana)
        assert self.roles_of(self.come(provider)) == {"viewer", "editor"}

    def test_what_a_person_took_back_is_given_again_while_the_group_says_so(
        self, provider: IdentityProvider, ana: User
    ) -> None:
        user = self.come(provider, "dev")
        revoke(Grant.objects.get(user=user, role__name="editor"), by=ana)
        assert self.roles_of(self.come(provider, "dev")) == {"viewer", "editor"}

    def test_the_last_administrator_stays_one(self, provider: IdentityProvider, ana: User) -> None:
        user = self.come(provider, "platform")
        change_user(ana, is_active=False, by=user)
        user = self.come(provider, "dev")
        assert self.roles_of(user) == {"viewer", "editor", "administrator"}
        change_user(ana, is_active=True, by=user)
        assert self.roles_of(self.come(provider, "dev")) == {"viewer", "editor"}

    def test_another_provider_takes_over_what_the_first_one_gave(self, provider: IdentityProvider) -> None:
        user = self.come(provider, "platform")
        provider.issuer = "https://other.example"
        moved = replace(ADA, issuer=provider.issuer, subject="9", groups=frozenset({"dev"}))
        assert sign_in_person(moved, provider=provider) == user
        assert self.roles_of(user) == {"viewer", "editor"}
        assert user.identities.get().issuer == provider.issuer

    def test_disconnecting_takes_all_of_it_back(
        self, provider: IdentityProvider, ana: User, ben: User
    ) -> None:
        user = self.come(provider, "platform", "team-payments")
        with pytest.raises(Forbidden):
            disconnect_identity(user.identities.get(), by=ben)
        disconnect_identity(user.identities.get(), by=ana)
        assert not user.grants.exists()
        assert not user.access_groups.exists()
        assert not user.identities.exists()


class TestSettings:
    FACTS = {
        "label": "Acme",
        "issuer": ISSUER,
        "client_id": "portico",
        "scopes": "openid email",
        "groups_claim": "groups",
        "roles": {"*": "viewer"},
        "access_groups": {},
        "email_domains": [],
        "makes_accounts": False,
        "trusts_email": False,
        "is_active": True,
    }

    def test_the_secret_is_sealed_and_in_no_log(self, ana: User) -> None:
        save_provider(self.FACTS, secret="hush-hush-hush", by=ana)
        assert provider_secret() == "hush-hush-hush"
        stored = [*Secret.objects.values(), *IdentityProvider.objects.values(), *AuditEvent.objects.values()]
        assert "hush" not in str(stored)
        assert AuditEvent.objects.get(verb="identity-provider.update").changes["client_secret"]

    def test_there_is_one_and_what_does_not_change_is_not_recorded(self, ana: User) -> None:
        for label in ("Acme", "Acme", "Corp"):
            save_provider({**self.FACTS, "label": label}, secret="x", by=ana)
        found = identity_provider()
        assert found
        assert found.label == "Corp"
        assert IdentityProvider.objects.count() == 1
        assert AuditEvent.objects.filter(verb="identity-provider.update").count() == 2

    @pytest.mark.parametrize(
        ("changes", "field"),
        [({"roles": {"a": "pope"}}, "roles"), ({"access_groups": {"a": "b"}}, "access_groups")],
    )
    def test_a_rule_leads_to_what_there_is(self, ana: User, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            save_provider({**self.FACTS, **changes}, by=ana)
        assert [error.path for error in caught.value.errors] == [field]
        assert identity_provider() is None

    def test_a_role_is_found_by_its_title_and_what_there_is_is_named(self, ana: User) -> None:
        titles = {role.title: role.name for role in Role.objects.all()}
        save_provider(
            {**self.FACTS, "roles": {str(n): title.upper() for n, title in enumerate(titles)}}, by=ana
        )
        provider = identity_provider()
        assert provider
        assert list(provider.roles.values()) == list(titles.values())
        with pytest.raises(InvalidInput, match=rf"no role “pope”. Known: .*{min(titles.values())}"):
            save_provider({**self.FACTS, "roles": {"a": "pope"}}, by=ana)

    def test_removing_it_forgets_the_secret_and_leaves_the_accounts(self, ana: User) -> None:
        save_provider(self.FACTS, secret="hush", by=ana)
        provider = identity_provider()
        assert provider
        provider.makes_accounts = True
        user = sign_in_person(ADA, provider=provider)
        remove_provider(by=ana)
        assert identity_provider() is None
        assert not Secret.objects.exists()
        assert user.grants.exists()


class TestVerifiedAddresses:
    def test_one_is_what_somebody_else_entered(self, ana: User, vic: User) -> None:
        change_user(vic, email="vic@other.example", by=vic)
        assert not User.objects.get(pk=vic.pk).is_email_verified
        change_user(vic, name="V", by=ana)
        assert not User.objects.get(pk=vic.pk).is_email_verified
        change_user(vic, email="vic@acme.example", by=ana)
        assert User.objects.get(pk=vic.pk).is_email_verified
        change_user(vic, email="", by=ana)
        assert not User.objects.get(pk=vic.pk).is_email_verified

    def test_the_provider_confirms_the_one_that_is_there_and_replaces_none(
        self, provider: IdentityProvider, vic: User
    ) -> None:
        change_user(vic, email="Ada@acme.example", by=vic)
        link = find_sign_in_link(make_sign_in_link(vic))
        user = sign_in_person(ADA, provider=provider, link=link)
        assert (user.email, user.is_email_verified) == ("Ada@acme.example", True)
        sign_in_person(replace(ADA, email="new@acme.example"), provider=provider)
        assert User.objects.get(pk=vic.pk).email == "Ada@acme.example"


def test_the_password_of_an_account_stays_beside_the_provider(provider: IdentityProvider, ana: User) -> None:
    made = invite(email="ada@acme.example", by=ana)
    redeem_sign_in_link(token=made.text, name="Ada", password="four words of rain")
    later = timezone.now() + timedelta(days=1)
    assert sign_in_person(ADA, provider=provider, now=later) == made.user
    assert authenticate(username="ada", password="four words of rain") == made.user
    assert Identity.objects.get().seen_at == later
