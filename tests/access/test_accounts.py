import uuid

import pytest
from django.db import IntegrityError, transaction

from access.models import Grant, User
from access.permissions import can
from access.services import (
    LastAdministrator,
    change_user,
    check_scope,
    create_group,
    create_user,
    delete_group,
    grant,
    register_scope_type,
    revoke,
    set_members,
    set_password,
    tie_account,
)
from access.services import grants as grant_services
from base.errors import Forbidden, InvalidInput, NotFound
from tests.cast import PASSWORD


def test_names_are_one_whatever_their_case(db):
    create_user(username=" Dora ", email="d@acme.example")
    assert User.objects.get_by_natural_key("DORA").username == "dora"
    with pytest.raises(InvalidInput) as caught:
        create_user(username="dORA")
    assert [error.path for error in caught.value.errors] == ["username"]
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(username="dora").update(username="Dora")


@pytest.mark.parametrize("username", ["", " ", "a b", "-x", "x\ny", "é", "x" * 101, "a/b"])
def test_a_wrong_name_is_refused(db, username):
    with pytest.raises(InvalidInput):
        create_user(username=username)
    assert not User.objects.exists()


def test_a_weak_password_is_refused_with_the_reason(vic):
    with pytest.raises(InvalidInput, match="too short"):
        set_password(vic, password="abc")
    assert vic.check_password(PASSWORD)


def test_nobody_changes_an_account_that_may_more(ana, ben, vic):
    for change in (
        lambda: change_user(ana, is_active=False, by=ben),
        lambda: set_password(ana, password="seven quiet lanterns", by=ben),
    ):
        with pytest.raises(Forbidden):
            change()
    change_user(vic, email="vic@new.example", by=ana)
    assert User.objects.get(username="vic").email == "vic@new.example"


def test_nobody_grants_what_they_do_not_have(ana, ben, cleo, no_access):
    with pytest.raises(Forbidden):
        grant(role="administrator", user=ben, by=ben)
    with pytest.raises(Forbidden):
        grant(role="viewer", user=no_access, by=cleo)
    grant(role="viewer", user=no_access, scope_type="namespace", scope="elsewhere", by=cleo)
    with pytest.raises(Forbidden):
        revoke(ana.grants.get(), by=ben)


def test_nobody_joins_a_group_that_may_more(ana, ben):
    group = create_group(name="admins")
    grant(role="administrator", group=group)
    with pytest.raises(Forbidden):
        set_members(group, members=[ben], by=ben)
    with pytest.raises(Forbidden):
        delete_group(group, by=ben)
    assert not can(ben, "user.write")


def test_there_is_always_an_administrator(ana, ben):
    for change in (
        lambda: revoke(ana.grants.get()),
        lambda: change_user(ana, is_active=False),
    ):
        with pytest.raises(LastAdministrator):
            change()
    assert can(ana, "user.write")
    group = create_group(name="admins", members=[ben])
    grant(role="administrator", group=group)
    revoke(ana.grants.get())
    for change in (lambda: set_members(group, members=[]), lambda: delete_group(group)):
        with pytest.raises(LastAdministrator):
            change()
    assert can(ben, "user.write")


def test_a_grant_is_there_once(vic, roles):
    first = grant(role="viewer", user=vic)
    assert first == vic.grants.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Grant.objects.create(user=vic, role=roles["viewer"])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user": True, "group": True},
        {"user": True, "scope_type": "namespace"},
        {"user": True, "scope_type": "all", "scope": "x"},
        {"user": True, "scope_type": "world", "scope": "x"},
    ],
)
def test_the_database_refuses_a_grant_that_makes_no_sense(no_access, roles, fields):
    group = create_group(name="g")
    holders = {"user": no_access, "group": group}
    given = {name: holders.get(name) if value is True else value for name, value in fields.items()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Grant.objects.create(role=roles["viewer"], **given)


def test_scopes_are_checked(db, monkeypatch):
    assert check_scope("namespace", " Payments ").text == "payments"
    for scope_type, text in [("namespace", ""), ("namespace", "a b"), ("all", "x"), ("galaxy", "x")]:
        with pytest.raises(InvalidInput):
            check_scope(scope_type, text)
    monkeypatch.setattr(grant_services, "_scope_types", {})
    register_scope_type("query", str.upper)
    assert check_scope("query", "a").text == "A"


def test_an_unknown_role_is_named_with_the_known_ones(roles, vic):
    with pytest.raises(NotFound, match="administrator, editor, viewer"):
        grant(role="emperor", user=vic)


def test_two_accounts_are_not_the_same_person(ana, ben):
    person = uuid.uuid4()
    tie_account(ana, entity_uid=person)
    with pytest.raises(InvalidInput):
        tie_account(ben, entity_uid=person)
    tie_account(ana, entity_uid=None)
    tie_account(ben, entity_uid=person)
    assert User.objects.get(entity_uid=person) == ben
