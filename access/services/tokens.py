"""API tokens: programs that act for a person."""

from __future__ import annotations

import copy
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access.models import ApiToken, Role, ScopeType, User
from access.permissions import cache, changing_access, holds
from access.services.audit import record_audit
from access.services.grants import check_scope, require_outranks, role_called
from base.errors import DomainError, FieldError, Forbidden, InvalidInput

_TOKEN = re.compile(r"po_[A-Za-z0-9_-]{43}\Z")
_LIFETIME = re.compile(r"(\d{1,5})([mhdw])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_USE_NOTED_EVERY = timedelta(minutes=10)


class TokenNotValid(DomainError):
    """A token signs nobody in. Unknown and revoked ones are not told apart."""

    code = "token-not-valid"
    status = 401
    title = gettext_lazy("The token is not valid")
    auth_header = 'Bearer realm="Portico", error="invalid_token"'


@dataclass(frozen=True)
class NewToken:
    """A token that was just made.

    :ivar text: what the program sends. It is shown once and kept nowhere.
    """

    token: ApiToken
    text: str = field(repr=False)


def create_token(
    *,
    user: User,
    name: str,
    role: Role | str | None = None,
    scope_type: str = ScopeType.ALL,
    scope: str = "",
    expires_at: datetime | None = None,
    by: User | None = None,
    now: datetime | None = None,
) -> NewToken:
    """Make a token that acts for a person, and never may more than they may at that time.

    :param role: the most that the token may do; None for all that its person may.
    :param scope_type: with `scope`, how far the token reaches at most.
    :param by: who makes it; None when Portico does.
    :raises InvalidInput: if the name is missing, the scope wrong, or the time of expiry past.
    :raises NotFound: if there is no such role.
    :raises Forbidden: if the role allows more than the person may do, or the person may do more than `by`.
    """
    require_outranks(by, user)
    now = now or timezone.now()
    if not name.strip():
        raise InvalidInput(
            _("Name the token after the program that uses it."), errors=[FieldError("name", _("Required."))]
        )
    if expires_at is not None and expires_at <= now:
        raise InvalidInput(
            _("The token would have expired already: give a time to come."),
            errors=[FieldError("expires_at", _("This time is past."), got=expires_at.isoformat())],
        )
    role = role_called(role) if isinstance(role, str) else role
    if role is not None and not holds(user, role.verbs):
        raise Forbidden(
            _("A token of %(user)s cannot have the role “%(role)s”: it allows more than %(user)s may do.")
            % {"user": user.label, "role": role.title},
            role=role.name,
        )
    reach = check_scope(scope_type, scope)
    text = f"po_{secrets.token_urlsafe(32)}"
    with changing_access():
        token = ApiToken.objects.create(
            user=user,
            name=name.strip()[:100],
            digest=_digest(text),
            prefix=text[:8],
            role=role,
            scope_type=reach.type,
            scope=reach.text,
            created_at=now,
            expires_at=expires_at,
        )
        record_audit(
            "token.create",
            token,
            changes={"role": role.name if role else None, "scope": reach.text, "expires_at": expires_at},
            actor=by,
        )
    return NewToken(token, text)


def revoke_token(token: ApiToken, *, by: User | None = None, now: datetime | None = None) -> None:
    """End a token; one that is revoked stays so.

    :raises Forbidden: if the token's person may do more than `by`.
    """
    require_outranks(by, token.user)
    with changing_access():
        live = ApiToken.objects.filter(pk=token.pk, revoked_at=None)
        if live.update(revoked_at=now or timezone.now()):
            record_audit("token.revoke", token, actor=by)
    token.refresh_from_db(fields=["revoked_at"])


def authenticate_token(text: str, *, now: datetime | None = None) -> User:
    """The account that a token acts for, with `token` set, which caps what it may do.

    It costs no query while what is in memory still holds.

    :raises TokenNotValid: if it is malformed, unknown, revoked or expired, or the account is inactive.
    """
    if not _TOKEN.match(text):
        raise TokenNotValid(
            _("This is no token of Portico: one begins with “po_” and has 46 characters. Was it cut off?")
        )
    now = now or timezone.now()
    digest = _digest(text)

    def load() -> ApiToken | None:
        return ApiToken.objects.select_related("user", "role").filter(digest=digest).first()

    token = cache.get(("token", digest), load)
    if token is None or token.revoked_at is not None or not token.user.is_active:
        raise TokenNotValid(_("This token is not known or no longer valid. Make a new one in the settings."))
    if token.expires_at is not None and token.expires_at <= now:
        raise TokenNotValid(
            _("The token “%(token)s” expired on %(when)s. Make a new one in the settings.")
            % {"token": token, "when": date_format(token.expires_at, "DATETIME_FORMAT")}
        )
    _note_use(token, now)
    user = copy.copy(token.user)  # what a request does to its user must not stay in memory
    user.token = token
    return user


def lifetime(text: str) -> timedelta | None:
    """How long a token lives, as people type it: `12h`, `90d`, `8w`, or `never`, which is None.

    :raises InvalidInput: if it is none of these.
    """
    if text == "never":
        return None
    match = _LIFETIME.match(text)
    if match is None or not int(match[1]):
        raise InvalidInput(
            _("“%s” is no lifetime: use a number with m, h, d or w, such as 90d, or never.") % text[:40]
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _note_use(token: ApiToken, now: datetime) -> None:
    """Write down that the token is in use, seldom enough that reading stays reading."""
    noted_before = now - _USE_NOTED_EVERY
    if token.last_used_at is not None and token.last_used_at > noted_before:
        return
    token.last_used_at = now
    stale = Q(last_used_at=None) | Q(last_used_at__lte=noted_before)
    ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
