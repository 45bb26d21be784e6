"""Signing in through the one identity provider: its settings, whom it may sign in, and what its groups give."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access.actors import acting_as, system
from access.models import Grant, Group, Identity, IdentityProvider, Role, ScopeType, SignInLink, User
from access.permissions import changing_access
from access.secrets import forget_secrets, keep_secret, read_secrets
from access.services.accounts import create_user
from access.services.audit import differences, record_audit
from access.services.grants import LastAdministrator, grant, require_outranks, revoke, set_members
from access.services.invitations import free_username
from access.services.signing_in import use_up
from base.answers import require_state, state_tag
from base.errors import DomainError, FieldError, InvalidInput

logger = logging.getLogger(__name__)

EVERYBODY = "*"
_PROVIDER = "identity-provider"
_SECRET = "client-secret"  # noqa: S105 - its name
_LONGEST_EMAIL = 254
_FACTS = [field.name for field in IdentityProvider._meta.fields if field.name != "id"]


class ProviderRefused(DomainError):
    """The identity provider knows the person, but the portal does not let them in; the sentence says why."""

    code = "provider-refused"
    status = 403
    title = gettext_lazy("Sign-in refused")


@dataclass(frozen=True)
class Person:
    """What an identity provider says of somebody who signed in there.

    :ivar subject: its own, lasting name of the person.
    :ivar is_email_verified: None if it does not say.
    :ivar groups: None if they are too many to be told; then what they gave stays.
    """

    issuer: str
    subject: str
    email: str = ""
    is_email_verified: bool | None = None
    name: str = ""
    username: str = ""
    groups: frozenset[str] | None = frozenset()


# --- the settings ---------------------------------------------------------------------------------------


def identity_provider() -> IdentityProvider | None:
    """The provider, if there is one."""
    return IdentityProvider.objects.first()


def provider_secret() -> str:
    """The provider's client secret in the clear, for the moment of use; empty if there is none."""
    return read_secrets(owner_type=_PROVIDER, owner_uid="1").get(_SECRET, "")


def etag_of_provider(row: IdentityProvider) -> str:
    """What names the present state of the provider's settings: for `If-Match`."""
    return state_tag({name: getattr(row, name) for name in _FACTS})


def save_provider(
    facts: Mapping[str, Any], *, secret: str | None = None, by: User | None, expected: str = ""
) -> None:
    """Say through which provider people sign in.

    :param facts: the fields of `IdentityProvider`; a role may be called by its title too, and case does not matter.
    :param secret: the client secret; None to keep the one that there is, empty for none.
    :param expected: the etag that `by` saw; empty for any.
    :raises InvalidInput: if a role or an access group does not exist.
    :raises PreconditionFailed: if the settings have changed since.
    """
    roles, groups = list(Role.objects.all()), list(Group.objects.values_list("name", flat=True))
    titles = {role.title: role.name for role in roles}
    errors = []
    for field, what, known in (
        ("roles", _("role"), titles | {role.name: role.name for role in roles}),
        ("access_groups", _("access group"), {name: name for name in groups}),
    ):
        folded = {word.casefold(): name for word, name in known.items()} | known
        meant = {
            group: folded.get(name) or folded.get(name.casefold()) for group, name in facts[field].items()
        }
        errors += [
            FieldError(
                field,
                _("There is no %(what)s “%(name)s”. Known: %(known)s.")
                % {
                    "what": what,
                    "name": facts[field][group],
                    "known": ", ".join(sorted(set(known.values()))[:20]) or _("none"),
                },
            )
            for group, name in meant.items()
            if name is None
        ]
        facts = {**facts, field: meant}
    if errors:
        raise InvalidInput(" ".join(error.message for error in errors), errors=errors)
    with changing_access():
        found = identity_provider()
        require_state(expected, etag_of_provider(found) if found else "", _("The identity provider"))
        before = {name: getattr(found, name) for name in _FACTS} if found else {}
        changes = differences(before, {name: facts[name] for name in _FACTS})
        row, _is_new = IdentityProvider.objects.update_or_create(pk=1, defaults=dict(facts))
        if secret is not None and secret != provider_secret():
            forget_secrets(owner_type=_PROVIDER, owner_uid="1")
            if secret:
                keep_secret(owner_type=_PROVIDER, owner_uid="1", name=_SECRET, value=secret)
            changes["client_secret"] = [None, secret]  # masked in the log
        if changes:
            record_audit("identity-provider.update", row, changes=changes, actor=by)


def remove_provider(*, by: User | None) -> None:
    """Nobody signs in through the provider any more; accounts, and what its groups gave them, stay."""
    with transaction.atomic():
        if (row := identity_provider()) is not None:
            record_audit("identity-provider.delete", row, actor=by)
            row.delete()
            forget_secrets(owner_type=_PROVIDER, owner_uid="1")


def disconnect_identity(identity: Identity, *, by: User | None) -> None:
    """The provider's person signs this account in no more; what their groups gave is taken back.

    :raises Forbidden: if the account may do more than `by`.
    """
    require_outranks(by, identity.user)
    with changing_access():
        record_audit("user.disconnect", identity.user, changes={"identity": identity.email}, actor=by)
        _give(identity, {}, {}, frozenset())
        identity.delete()


# --- signing in -----------------------------------------------------------------------------------------


def sign_in_person(
    person: Person,
    *,
    provider: IdentityProvider,
    link: SignInLink | None = None,
    now: datetime | None = None,
) -> User:
    """The account of somebody whom the provider vouches for; the caller starts its session.

    It is the account that they signed in to before; else that of the sign-in link that they came with, which is
    used up; else the one account with the same verified address; else a new one, where those are made.

    :raises ProviderRefused: if there is none, it is inactive, or the address is not of an allowed domain.
    :raises LinkNotValid: if the link was used meanwhile.
    """
    now = now or timezone.now()
    email = _verified_email(person, provider)
    if provider.email_domains and email.rpartition("@")[2] not in provider.email_domains:
        raise ProviderRefused(
            _(
                "Only verified addresses of %(domains)s may sign in here; %(provider)s says that yours is %(email)s."
            )
            % {
                "domains": ", ".join(provider.email_domains),
                "provider": provider.label,
                "email": email or (_("%s, not verified") % person.email if person.email else _("not known")),
            }
        )
    with acting_as(system(provider.label)), changing_access():
        known = Identity.objects.select_related("user").filter(issuer=person.issuer, subject=person.subject)
        identity = known.first()
        if identity is None:
            user = link.user if link else _account_for(person, email, provider)
            identity = Identity.objects.create(user=user, issuer=person.issuer, subject=person.subject)
            _succeed(identity)
            record_audit("user.connect", user, changes={"subject": person.subject, "email": person.email})
        elif link is not None and link.user != identity.user:
            raise ProviderRefused(
                _("%(provider)s already signs you in as %(known)s, and this link is for %(invited)s.")
                % {"provider": provider.label, "known": identity.user, "invited": link.user}
            )
        user = identity.user
        if not user.is_active:
            raise ProviderRefused(_("The account “%s” is inactive. Ask an administrator.") % user)
        if link is not None:
            use_up(link, now=now)
        SignInLink.objects.invitations().filter(user=user).update(used_at=now)
        identity.email, identity.seen_at = person.email[:254], now
        identity.save(update_fields=["email", "seen_at"])
        _learn(user, person, email)
        if person.groups is not None:
            _give(identity, provider.roles, provider.access_groups, person.groups)
        record_audit("session.start", user, changes={"through": provider.label}, actor=user)
    return user


def _verified_email(person: Person, provider: IdentityProvider) -> str:
    is_verified = provider.trusts_email if person.is_email_verified is None else person.is_email_verified
    email = person.email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        return ""
    return email if is_verified and len(email) <= _LONGEST_EMAIL else ""


def _succeed(identity: Identity) -> None:
    """Take over what the provider gave that was there before this one."""
    for earlier in identity.user.identities.exclude(issuer=identity.issuer):
        identity.grants.add(*earlier.grants.all())
        identity.groups.add(*earlier.groups.all())
        earlier.delete()


def _account_for(person: Person, email: str, provider: IdentityProvider) -> User:
    """The account that somebody signs in to who comes for the first time."""
    alike = list(User.objects.filter(email__iexact=person.email.strip())[:2]) if person.email.strip() else []
    # An address proves nothing unless both sides know that it is the person's: else whoever enters somebody
    # else's address, there or here, would get that one's account, or have them in theirs.
    if email and len(alike) == 1 and alike[0].is_email_verified and not _is_known(alike[0], person.issuer):
        return alike[0]
    if alike:
        raise ProviderRefused(
            _(
                "There is an account with the address %(email)s, but it is not certain that it is yours. "
                "Ask an administrator for a sign-in link: it connects your account."
            )
            % {"email": person.email}
        )
    if not provider.makes_accounts:
        raise ProviderRefused(
            _("There is no account for %(who)s here. Ask an administrator for an invitation.")
            % {"who": person.email or person.username or person.name or person.subject}
        )
    texts = (text.partition("@")[0] for text in (person.username, email, person.subject))
    wanted = next((text for text in texts if re.search(r"[a-z0-9]", text, re.IGNORECASE)), "user")
    return create_user(username=free_username(wanted), name=person.name[:200], email=email)


def _is_known(user: User, issuer: str) -> bool:
    return user.identities.filter(issuer=issuer).exists()


def _learn(user: User, person: Person, email: str) -> None:
    """Take over what the account does not know yet."""
    user.name = user.name or person.name[:200]
    if email and user.email.lower() in {"", email}:
        user.email, user.is_email_verified = user.email or email, True
    user.save(update_fields=["name", "email", "is_email_verified"])


def _give(
    identity: Identity, roles: Mapping[str, str], access_groups: Mapping[str, str], groups: frozenset[str]
) -> None:
    """Give what the provider's groups give now, and take back what they gave before and give no more.

    What a person granted is theirs to take back.
    """
    user, names = identity.user, {EVERYBODY, *groups}
    wanted = {roles[name] for name in names & roles.keys()}
    for role in Role.objects.filter(name__in=wanted):
        if not Grant.objects.filter(user=user, role=role, scope_type=ScopeType.ALL).exists():
            identity.grants.add(grant(role=role, user=user))
    for held in identity.grants.exclude(role__name__in=wanted).select_related("role"):
        with _keeping_the_last_administrator(user):
            revoke(held)
    teams = {access_groups[name] for name in names & access_groups.keys()}
    for group in Group.objects.filter(name__in=teams).exclude(members=user):
        set_members(group, members=[*group.members.all(), user])
        identity.groups.add(group)
    for group in identity.groups.exclude(name__in=teams):
        with _keeping_the_last_administrator(user):
            set_members(group, members=group.members.exclude(pk=user.pk))
            identity.groups.remove(group)


@contextmanager
def _keeping_the_last_administrator(user: User) -> Iterator[None]:
    """Leave what cannot be taken back; it is tried again the next time."""
    try:
        yield
    except LastAdministrator:
        logger.warning("%s is the last administrator and stays one, against the identity provider.", user)
