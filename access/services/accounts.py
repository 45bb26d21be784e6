"""Accounts: making and changing them."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from access.models import User
from access.permissions import changing_access
from access.services.audit import differences, record_audit
from access.services.grants import clean, keeping_an_administrator, require_outranks
from base.answers import require_state, state_tag
from base.errors import FieldError, InvalidInput


def create_user(*, username: str, name: str = "", email: str = "", by: User | None = None) -> User:
    """Make an account; it can do nothing until something is granted, and signs in first by a link.

    :param by: who makes it; None when Portico does.
    :raises InvalidInput: if the user name is taken, or a field is wrong.
    """
    email = email.strip()
    user = User(
        username=username.strip().lower(), name=name.strip(), email=email, is_email_verified=bool(email)
    )
    user.set_unusable_password()
    with changing_access():
        clean(user)
        user.save()
        record_audit("user.create", user, changes=differences({}, _facts(user)), actor=by)
    return user


SEEN_EVERY = timedelta(hours=1)
AWAY = timedelta(hours=4)


def note_visit(user: User, *, now: datetime) -> None:
    """Note that somebody is here, by at most one write an hour.

    Whoever comes back after some hours begins a new visit: the time when they were here before is their last one.
    """
    if user.seen_at is not None and now - user.seen_at < SEEN_EVERY:
        return
    came_back = user.seen_at is not None and now - user.seen_at >= AWAY
    last = user.seen_at if came_back else user.last_visit_at
    User.objects.filter(pk=user.pk, seen_at=user.seen_at).update(seen_at=now, last_visit_at=last)
    user.seen_at, user.last_visit_at = now, last


def change_user(
    user: User,
    *,
    name: str | None = None,
    email: str | None = None,
    is_email_verified: bool | None = None,
    is_active: bool | None = None,
    by: User | None = None,
    expected: str = "",
) -> User:
    """Change what is given of an account. An address that somebody else enters counts as verified.

    :param is_email_verified: what is known of the address in any case.
    :param expected: the etag that `by` saw; empty for any.
    :raises InvalidInput: if a field is wrong.
    :raises Forbidden: if the account may do more than `by`.
    :raises LastAdministrator: if nobody could administer the portal after that.
    :raises PreconditionFailed: if the account has changed since.
    """
    require_outranks(by, user)
    with keeping_an_administrator():
        user = User.objects.select_for_update().get(pk=user.pk)
        require_state(expected, etag_of_user(user), user)
        before = _facts(user)
        user.name = user.name if name is None else name.strip()
        if email is not None and email.strip() != user.email:
            user.email = email.strip()
            user.is_email_verified = bool(user.email) and (by is None or by.pk != user.pk)
        if is_email_verified is not None:
            user.is_email_verified = is_email_verified and bool(user.email)
        user.is_active = user.is_active if is_active is None else is_active
        clean(user)
        if changes := differences(before, _facts(user)):
            user.save(update_fields=["name", "email", "is_email_verified", "is_active"])
            record_audit("user.update", user, changes=changes, actor=by)
    return user


def set_password(user: User, *, password: str, by: User | None = None) -> None:
    """Give an account a new password; that ends its sessions elsewhere.

    :raises InvalidInput: if the password is too weak, saying why.
    :raises Forbidden: if the account may do more than `by`.
    """
    require_outranks(by, user)
    check_password(user, password)
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        record_audit("user.set-password", user, actor=by)


def check_password(user: User, password: str) -> None:
    """Whether a password is good enough for this person.

    :raises InvalidInput: if it is too weak, saying why.
    """
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(
            " ".join(error.messages), errors=[FieldError("password", message) for message in error.messages]
        )


def tie_account(user: User, *, entity_uid: uuid.UUID | None, by: User | None = None) -> None:
    """Say which User entity of the catalog an account is, or that it is none.

    :raises InvalidInput: if another account is that person.
    """
    with transaction.atomic():
        user = User.objects.select_for_update().get(pk=user.pk)
        before = user.entity_uid
        user.entity_uid, user.claimed_entity_uid = entity_uid, None
        clean(user)
        user.save(update_fields=["entity_uid", "claimed_entity_uid"])
        record_audit("user.tie", user, changes={"entity_uid": [before, entity_uid]}, actor=by)


def claim_person(user: User, *, entity_uid: uuid.UUID | None, by: User | None = None) -> None:
    """Note whom a person says that they are, for an administrator to confirm; None when that is over."""
    with transaction.atomic():
        user = User.objects.select_for_update().get(pk=user.pk)
        before = user.claimed_entity_uid
        if before != entity_uid:
            user.claimed_entity_uid = entity_uid
            user.save(update_fields=["claimed_entity_uid"])
            changes = {"claimed_entity_uid": [before, entity_uid]}
            record_audit("user.claim-person", user, changes=changes, actor=by)


_FACTS = ("username", "name", "email", "is_email_verified", "is_active")


def etag_of_user(user: User) -> str:
    """What names the present state of an account: for `If-Match`."""
    return state_tag(_facts(user))


def _facts(user: User) -> dict[str, Any]:
    return {field: getattr(user, field) for field in _FACTS}
