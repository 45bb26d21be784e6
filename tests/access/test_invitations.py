from datetime import timedelta

import pytest
from django.contrib.auth import authenticate
from django.utils import timezone

from access.models import AuditEvent, Grant, Group, SignInLink, User
from access.permissions import can
from access.queries import list_invitations
from access.services import (
    LastAdministrator,
    LinkNotValid,
    change_user,
    create_group,
    find_sign_in_link,
    grant,
    invite,
    make_sign_in_link,
    redeem_sign_in_link,
    revoke_invitation,
)
from base.errors import Conflict, Forbidden, InvalidInput, NotFound

NEW = "seven quiet lanterns"


def test_it_gives_what_it_promises_and_works_once_within_7_days(ana):
    group = create_group(name="Payments")
    now = timezone.now()
    made = invite(email="dora@acme.example", role="editor", groups=[group], by=ana, now=now)
    link = find_sign_in_link(made.text, now=now + timedelta(days=6, hours=23))
    assert (link.user.username, link.made_by, link.purpose) == ("dora", ana, "invite")
    assert list(group.members.all()) == [made.user]
    with pytest.raises(LinkNotValid):
        redeem_sign_in_link(token=made.text, name="Dora", password=NEW, now=now + timedelta(days=7))
    user = redeem_sign_in_link(token=made.text, name="Dora", password=NEW, now=now)
    assert authenticate(username="dora", password=NEW) == user
    assert can(user, "connection.sync")
    with pytest.raises(LinkNotValid):
        redeem_sign_in_link(token=made.text, name="Mallory", password=NEW, now=now)
    assert not list_invitations(viewer=ana).exists()


def test_only_its_hash_is_kept_and_every_step_is_recorded(ana):
    made = invite(username="dora", role="viewer", by=ana)
    assert made.text not in repr(made)
    assert made.text not in str(list(SignInLink.objects.values()) + list(AuditEvent.objects.values()))
    verbs = AuditEvent.objects.filter(actor_label="ana").values_list("verb", flat=True)
    assert set(verbs) == {"user.create", "grant.create", "user.make-sign-in-link"}
    revoke_invitation(SignInLink.objects.get(), by=ana)
    assert AuditEvent.objects.get(verb="user.revoke-invitation").subject_label == "dora"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, InvalidInput),
        ({"email": "+++@acme.example"}, InvalidInput),
        ({"email": "ANA@acme.example"}, InvalidInput),
        ({"username": "ana"}, InvalidInput),
        ({"username": "dora", "role": "pope"}, NotFound),
        ({"username": "dora", "role": "viewer", "scope_type": "namespace", "scope": "No!"}, InvalidInput),
    ],
)
def test_what_is_refused_leaves_nothing(ana, given, error):
    with pytest.raises(error):
        invite(**given, by=ana)
    assert list(User.objects.all()) == [ana]
    assert not SignInLink.objects.exists()


def test_nobody_invites_to_more_than_they_have(ana, ben):
    admins = create_group(name="Admins")
    grant(role="administrator", group=admins)
    for given in ({"role": "administrator"}, {"groups": [admins]}):
        with pytest.raises(Forbidden):
            invite(username="dora", **given, by=ben)
    assert not User.objects.filter(username="dora").exists()
    made = invite(username="dora", groups=[admins], by=ana)
    with pytest.raises(Forbidden):
        revoke_invitation(SignInLink.objects.get(user=made.user), by=ben)


def test_names_are_made_of_addresses(ana):
    names = [
        invite(email=email, by=ana).user.username
        for email in (
            "Dora@acme.example",
            "dora@corp.example",
            "dora@third.example",
            "Zo.O'Neil@acme.example",
        )
    ]
    assert names == ["dora", "dora-2", "dora-3", "zo.o-neil"]


def test_a_new_link_of_an_invitation_is_one_again(ana):
    now = timezone.now()
    made = invite(username="dora", by=ana, now=now - timedelta(days=9))
    assert [link.user for link in list_invitations(viewer=ana)] == [made.user]
    text = make_sign_in_link(made.user, by=ana, now=now)
    assert find_sign_in_link(text, now=now + timedelta(days=6)).purpose == "invite"
    with pytest.raises(LinkNotValid):
        find_sign_in_link(made.text, now=now)


def test_who_came_is_not_taken_back(ana):
    made = invite(username="dora", by=ana)
    link = SignInLink.objects.get()
    redeem_sign_in_link(token=made.text, name="Dora", password=NEW)
    with pytest.raises(Conflict):
        revoke_invitation(link, by=ana)
    assert User.objects.filter(username="dora").exists()


def test_taking_it_back_removes_the_account_that_nobody_came_to(ana):
    made = invite(username="dora", role="viewer", groups=[create_group(name="G")], by=ana)
    revoke_invitation(SignInLink.objects.get(), by=ana)
    assert not User.objects.filter(pk=made.user.pk).exists()
    assert not Grant.objects.exclude(user=ana).exists()
    assert not Group.objects.get().members.exists()
    with pytest.raises(LinkNotValid):
        find_sign_in_link(made.text)


def test_an_administrator_who_has_not_come_is_none_yet(ana):
    made = invite(username="dora", role="administrator", by=ana)
    with pytest.raises(LastAdministrator):
        change_user(ana, is_active=False)
    redeem_sign_in_link(token=made.text, name="Dora", password=NEW)
    change_user(ana, is_active=False)


def test_only_who_sees_accounts_sees_invitations(ana, ben):
    invite(username="dora", by=ana)
    assert list_invitations(viewer=ana).count() == 1
    assert not list_invitations(viewer=ben).exists()
