"""Invitations: an account with all that it will be allowed, and the link by which its person comes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Q
from django.utils.translation import gettext as _

from access.models import Group, Role, ScopeType, SignInLink, User
from access.permissions import changing_access
from access.services.accounts import create_user
from access.services.audit import record_audit
from access.services.grants import grant, keeping_an_administrator, require_outranks, set_members
from access.services.signing_in import make_sign_in_link
from base.errors import Conflict, FieldError, InvalidInput


@dataclass(frozen=True)
class NewInvitation:
    """An invitation that was just made.

    :ivar text: the secret part of its link. It is shown once and kept nowhere.
    """

    user: User
    text: str = field(repr=False)


def invite(
    *,
    username: str = "",
    name: str = "",
    email: str = "",
    role: Role | str | None = None,
    scope_type: str = ScopeType.ALL,
    scope: str = "",
    groups: Iterable[Group] = (),
    by: User | None = None,
    now: datetime | None = None,
) -> NewInvitation:
    """Make an account for somebody who is to come, and a link that lets them in once, for 7 days.

    :param username: by default what stands before the @ of the address.
    :param role: what they may do as far as the scope reaches; None for what their groups grant alone.
    :param groups: the access groups that they will be in.
    :param by: who invites; None when Portico does.
    :raises InvalidInput: if nobody is named, somebody else has the name or address, or a field is wrong.
    :raises NotFound: if there is no such role.
    :raises Forbidden: if `by` would give what they do not have.
    """
    with changing_access():
        if email.strip() and User.objects.filter(email__iexact=email.strip()).exists():
            raise InvalidInput(
                _("There is an account with this address already. Make a sign-in link for it instead."),
                errors=[FieldError("email", _("There is an account with this address already."))],
            )
        user = create_user(username=username.strip() or free_username(email), name=name, email=email, by=by)
        if role is not None:
            grant(role=role, user=user, scope_type=scope_type, scope=scope, by=by)
        for group in groups:
            set_members(group, members=[*group.members.all(), user], by=by)
        return NewInvitation(user, make_sign_in_link(user, is_invitation=True, by=by, now=now))


def revoke_invitation(invitation: SignInLink, *, by: User | None = None) -> None:
    """Take an invitation back: its link ends, and the account that nobody came to is gone with it.

    :raises Conflict: if the person came meanwhile.
    :raises Forbidden: if the account may do more than `by`.
    """
    require_outranks(by, invitation.user)
    with keeping_an_administrator():
        still_open = SignInLink.objects.invitations().select_for_update(of=("self",))
        if not still_open.filter(pk=invitation.pk).exists():
            raise Conflict(
                _("%(name)s has come meanwhile, or was sent another link. Look again.")
                % {"name": invitation.user.label}
            )
        record_audit("user.revoke-invitation", invitation.user, actor=by)
        invitation.user.delete()


def free_username(wanted: str) -> str:
    """A user name that nobody has, made from an address or another name.

    :raises InvalidInput: if nothing of it can stand in a name.
    """
    base = re.sub(r"[^a-z0-9._+-]+", "-", wanted.strip().lower().partition("@")[0]).strip("._+-")[:90]
    if not base:
        raise InvalidInput(
            _("Say who is invited: enter an e-mail address or a user name."),
            errors=[FieldError("email", _("Enter an address, or else a user name."))],
        )
    alike = Q(username=base) | Q(username__startswith=f"{base}-")
    taken = set(User.objects.filter(alike).values_list("username", flat=True))
    numbered = (f"{base}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (base, *numbered) if name not in taken)
