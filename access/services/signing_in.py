"""Signing in: with a password, or once with a link."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import authenticate
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access import throttling
from access.models import USERNAME, SignInLink, User
from access.permissions import changing_access
from access.services.accounts import check_password, create_user
from access.services.audit import record_audit
from access.services.grants import clean, grant, require_outranks, role_called
from base.errors import DomainError, InvalidInput

LINK_LIFETIME = timedelta(hours=24)
INVITATION_LIFETIME = timedelta(days=7)


class SignInRefused(DomainError):
    """The user name or the password is wrong; which of them is not said."""

    code = "sign-in-refused"
    status = 401
    title = gettext_lazy("Sign-in refused")


class LinkNotValid(DomainError):
    """A sign-in link is unknown, used or expired; which of them is not said."""

    code = "link-not-valid"
    status = 410
    title = gettext_lazy("This link no longer works")


def sign_in(*, username: str, password: str, address: str | None, now: datetime | None = None) -> User:
    """The account of this name and password; the caller starts its session.

    :param address: where the request came from, for the throttle.
    :raises SignInRefused: if the name or the password is wrong, or the account is inactive.
    :raises SignInThrottled: if there were too many attempts.
    """
    account = username.strip().lower()
    attempt = throttling.count_attempt(account=account, address=address or "", now=now or timezone.now())
    # A name that cannot exist takes the same way, so that it takes the same time.
    user = authenticate(username=account if re.match(USERNAME, account) else "", password=password)
    if not isinstance(user, User):
        if known := User.objects.filter(username=account.replace("\0", "")).first():
            record_audit("session.refuse", known)
        raise SignInRefused(
            _("The user name or the password is wrong. If you forgot it, ask an administrator for a link.")
        )
    attempt.succeeded()
    record_audit("session.start", user, actor=user)
    return user


def make_sign_in_link(
    user: User, *, is_invitation: bool = False, by: User | None = None, now: datetime | None = None
) -> str:
    """The secret part of a new link that signs this person in once; earlier links end.

    It works for 24 hours; an invitation, which stays one when it is made anew, for 7 days.

    :raises InvalidInput: if the account is inactive.
    :raises Forbidden: if the account may do more than `by`.
    """
    require_outranks(by, user)
    if not user.is_active:
        raise InvalidInput(_("The account “%s” is inactive. Activate it first.") % user)
    now = now or timezone.now()
    text = secrets.token_urlsafe(32)
    with transaction.atomic():
        earlier = SignInLink.objects.filter(user=user, used_at=None)
        if is_invitation or earlier.invitations().exists():
            purpose, life = SignInLink.Purpose.INVITE, INVITATION_LIFETIME
        else:
            purpose, life = SignInLink.Purpose.FIRST, LINK_LIFETIME
            if user.has_usable_password():
                purpose = SignInLink.Purpose.RESET
        earlier.delete()
        SignInLink.objects.create(
            user=user,
            digest=_digest(text),
            purpose=purpose,
            made_by=by,
            created_at=now,
            expires_at=now + life,
        )
        record_audit("user.make-sign-in-link", user, changes={"purpose": purpose}, actor=by)
    return text


def find_sign_in_link(token: str, *, now: datetime | None = None) -> SignInLink:
    """The link that this secret belongs to, for the page that asks for name and password; it stays unused.

    :raises LinkNotValid: if it is unknown, used or expired, or the account is inactive.
    """
    return _valid_link(now=now, digest=_digest(token))


def sign_in_link_again(pk: int, *, now: datetime | None = None) -> SignInLink:
    """The link that was found before, if it still works.

    :raises LinkNotValid: if it was used, has expired, or its account is inactive.
    """
    return _valid_link(now=now, pk=pk)


def _valid_link(*, now: datetime | None, **which: Any) -> SignInLink:
    links = SignInLink.objects.select_related("user", "made_by")
    found = links.filter(
        **which, used_at=None, expires_at__gt=now or timezone.now(), user__is_active=True
    ).first()
    if found is None:
        raise _link_not_valid()
    return found


def redeem_sign_in_link(*, token: str, name: str, password: str, now: datetime | None = None) -> User:
    """Use a link up and give its account a name and a password; the caller starts the session.

    :raises InvalidInput: if the name is missing or the password too weak; the link stays unused.
    :raises LinkNotValid: if it is unknown, used or expired, or the account is inactive.
    """
    now = now or timezone.now()
    link = find_sign_in_link(token, now=now)
    user = link.user
    user.name = name.strip()
    if not user.name:
        raise InvalidInput(_("Enter your name, as others should see it."))
    clean(user)
    check_password(user, password)
    with transaction.atomic():
        use_up(link, now=now)
        user.set_password(password)
        user.save(update_fields=["name", "password"])
        record_audit("user.redeem-sign-in-link", user, actor=user)
    return user


def use_up(link: SignInLink, *, now: datetime) -> None:
    """Mark a link as used, in the transaction of what it was used for.

    :raises LinkNotValid: if it is used already.
    """
    # Of two who redeem it at once the second waits here and then changes no row. (The condition must
    # be on this row alone: what is joined would not be looked at again after the wait.)
    if not SignInLink.objects.filter(pk=link.pk, used_at=None).update(used_at=now):
        raise _link_not_valid()


def ensure_first_account(*, now: datetime | None = None) -> str | None:
    """Make the account `admin`, which may do everything, if there is no account yet.

    :returns: the secret part of its sign-in link, or None if there were accounts.
    :raises NotFound: if there is no role `administrator` yet.
    """
    with changing_access():
        if User.objects.exists():
            return None
        user = create_user(username="admin")
        grant(role=role_called("administrator"), user=user)
        return make_sign_in_link(user, now=now)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _link_not_valid() -> LinkNotValid:
    return LinkNotValid(
        _(
            "A sign-in link works once, and not for ever. This one was used, has expired, or is not complete. "
            "Ask an administrator for another."
        )
    )
