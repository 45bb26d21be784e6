"""The one permission pair: `can(user, verb, thing)` and `visible(user, queryset)`.

Grants give a role's verbs as far as a scope reaches. What a scope means for a model is the knowledge of the
model's own floor, which registers it with `register_scope` (and `register_thing`); a model that nobody
registered stays hidden from everybody whose grants do not reach everything.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.db.models import Exists, Model, Q, QuerySet
from django.utils.text import get_text_list
from django.utils.translation import gettext as _

from access.models import (
    AccessVersion,
    ApiToken,
    AuditEvent,
    Grant,
    Group,
    Identity,
    IdentityProvider,
    Role,
    ScopeType,
    Secret,
    SignInLink,
    User,
)
from access.verbs import EVERYTHING, VERBS
from base.errors import Forbidden

__all__ = [
    "Scope",
    "can",
    "changing_access",
    "covers",
    "everywhere",
    "groups_of",
    "has_everything",
    "holds",
    "nowhere",
    "register_scope",
    "register_sight_by_groups",
    "register_thing",
    "require",
    "require_own",
    "sees_for",
    "visible",
]

M = TypeVar("M", bound=Model)
T = TypeVar("T")
Viewer = User | AnonymousUser


@dataclass(frozen=True, slots=True)
class Scope:
    """How far a grant or token reaches: everything, one namespace, or what a query finds."""

    type: str
    text: str = ""


Scopes = Sequence[Scope]
"""Alternatives: what lies in any of them is reached."""


@dataclass(frozen=True)
class _Limit:
    limit: Callable[[Scopes], Q]
    verb: str
    own: Callable[[User], Q] | None
    audience: Callable[[User], Q | None] | None = None


_limits: dict[type[Model], _Limit] = {}
_things: dict[type, Callable[[Any, Scopes], bool]] = {}
_sights: list[Callable[[], Iterable[int]]] = []


def register_scope(
    model: type[Model],
    limit: Callable[[Scopes], Q],
    *,
    verb: str = "entity.read",
    own: Callable[[User], Q] | None = None,
    audience: Callable[[User], Q | None] | None = None,
) -> None:
    """Say what scopes mean for a model.

    :param limit: turns scopes, of which any may hold, into the condition on the model's rows; it never gets
        the scope that reaches everything. The condition must not multiply rows: no joins to many.
    :param verb: what it takes to see the model's rows.
    :param own: the rows that a person sees in any case.
    :param audience: the condition on rows that are not kept from a person whatever their grants are; None if all
        such rows are for them.
    """
    _limits[model] = _Limit(limit, verb, own, audience)


def register_thing(thing_type: type[T], is_within: Callable[[T, Scopes], bool]) -> None:
    """Say whether one thing lies in any of some scopes: for what is no row (yet), or to spare a query."""
    _things[thing_type] = is_within


def everywhere(scopes: Scopes) -> Q:
    """For `register_scope`: rows that everybody sees who holds the verb anywhere, such as kinds."""
    return Q()


def nowhere(scopes: Scopes) -> Q:
    """For `register_scope`: rows that only those see whose grant reaches everything."""
    return Q(pk__in=())


def can(user: Viewer, verb: str, thing: object = None) -> bool:
    """Whether this person, with the token that they came with, may do this to this thing.

    Without a thing: whether they may do it somewhere. Verbs that concern the whole portal take a grant that
    reaches everything.

    :raises KeyError: if there is no such verb.
    """
    reach = _reach(user, verb)
    if reach is None:
        return False
    if thing is None:
        return True
    return all(_is_within(thing, scopes) for scopes in reach) and not _is_kept_from(user, thing)


def visible(user: Viewer, queryset: QuerySet[M], verb: str | None = None) -> QuerySet[M]:
    """The rows that this person may see, as a condition in the query.

    :param verb: another verb than the model's reading one: the rows that the person may do this to.
    """
    known = next((_limits[cls] for cls in queryset.model.__mro__ if cls in _limits), None)
    reach = _reach(user, verb or (known.verb if known else "entity.read"))
    audience = known.audience(user) if known and known.audience and isinstance(user, User) else None
    if audience is not None:
        queryset = queryset.filter(audience)
    if reach is not None and not reach:
        return queryset
    if known is None:
        return queryset.none()
    condition = Q(pk__in=())
    if reach is not None:
        condition = Q()
        for scopes in reach:
            condition &= known.limit(scopes)
    if known.own and verb is None and isinstance(user, User):
        condition |= known.own(user)
    return queryset.filter(condition)


def require(user: Viewer, verb: str, thing: object = None) -> None:
    """Let nobody pass who may not do this.

    :raises Forbidden: saying what is missing and who can grant it.
    """
    if can(user, verb, thing):
        return
    wanted = VERBS[verb]
    if not isinstance(user, User):
        raise Forbidden(_("Sign in first: nobody may do this anonymously."), verb=verb)
    if user.token is not None and _granted(user, verb):
        raise Forbidden(
            _("The token %(prefix)s… may not do this: “%(label)s” (%(verb)s). %(advice)s")
            % {
                "prefix": user.token.prefix,
                "label": wanted.label,
                "verb": verb,
                "advice": _("Use a token that may do more.")
                if wanted.by_token
                else _("It takes a person who is signed in."),
            },
            verb=verb,
        )
    roles = [role.title for role in Role.objects.order_by("name") if _allows(role.verbs, verb)]
    raise Forbidden(
        _(
            "You may not do this%(where)s: “%(label)s” (%(verb)s). "
            "It comes with the role %(roles)s, which %(who)s can grant."
        )
        % {
            "where": "" if thing is None or _reach(user, verb) is None else _(" here"),
            "label": wanted.label,
            "verb": verb,
            "roles": get_text_list([f"“{title}”" for title in roles], _("or")) or _("no role yet"),
            "who": _administrators(),
        },
        verb=verb,
    )


def require_own(user: User) -> None:
    """Let no token change its person's account that is held to less than its person may do.

    :raises Forbidden: naming the token.
    """
    if user.token is not None and (user.token.role_id or user.token.scope_type != ScopeType.ALL):
        raise Forbidden(
            _(
                "The token %(prefix)s… is held to a role or a scope, so it changes nothing of your account. Sign in, "
                "or use a token that is held to neither."
            )
            % {"prefix": user.token.prefix}
        )


def require_any(user: Viewer, verbs: Sequence[str]) -> None:
    """Let nobody pass who may do none of these anywhere.

    :raises Forbidden: as `require` does, of the first.
    """
    if not any(can(user, verb) for verb in verbs):
        require(user, verbs[0])


def holds(user: Viewer, verbs: Iterable[str]) -> bool:
    """Whether grants give this person all these verbs, each at least somewhere."""
    return all(_granted(user, verb) for verb in verbs)


def covers(user: Viewer, verbs: Iterable[str], scope: Scope) -> bool:
    """Whether this person may pass on these verbs for this scope: nobody gives what they do not have."""
    reaches = [_reach(user, verb, by_token=True) for verb in verbs if verb in VERBS]
    return all(reach is not None and all(scope in scopes for scopes in reach) for reach in reaches)


def _allows(verbs: frozenset[str], verb: str) -> bool:
    return verb in verbs or EVERYTHING in verbs


def _granted(user: Viewer, verb: str) -> list[Scope]:
    """The scopes of the grants that give this verb, whatever token the person came with."""
    if not isinstance(user, User):
        return []
    return [scope for verbs, scope in _held_by(user) if _allows(verbs, verb)]


def _reach(user: Viewer, verb: str, *, by_token: bool = False) -> Sequence[Scopes] | None:
    """How far the person may do this: all of these must hold, each has alternatives; None: nowhere.

    An empty answer reaches everything. `by_token` lets a token pass where it takes a person.
    """
    wanted = VERBS[verb]
    reach: list[Scopes] = [_granted(user, verb)]
    if not reach[0]:
        return None
    token = cast(User, user).token
    if token is not None:
        if not (by_token or wanted.by_token) or (
            token.role is not None and not _allows(token.role.verbs, verb)
        ):
            return None
        reach.append([Scope(token.scope_type, token.scope)])
    limited = [scopes for scopes in reach if not any(scope.type == ScopeType.ALL for scope in scopes)]
    return None if limited and not wanted.is_scoped else limited


def _is_within(thing: object, scopes: Scopes) -> bool:
    for cls in thing.__class__.__mro__:  # of what a lazy object holds
        if cls in _things:
            return _things[cls](thing, scopes)
        if cls in _limits:
            row = cast(Model, thing)
            return cls._base_manager.filter(_limits[cls].limit(scopes), pk=row.pk).exists()
    return False


def _is_kept_from(user: Viewer, thing: object) -> bool:
    for cls in thing.__class__.__mro__:
        if (known := _limits.get(cls)) is not None:
            kept = known.audience(user) if known.audience and isinstance(user, User) else None
            row = cast(Model, thing)
            return kept is not None and not type(row)._base_manager.filter(kept, pk=row.pk).exists()
    return False


def register_sight_by_groups(known: Callable[[], Iterable[int]]) -> None:
    """Say which access groups let their members see what others do not, by their keys."""
    _sights.append(known)


def sees_for(user: User, groups: Iterable[int]) -> bool:
    """Whether a person sees all that is for members of these access groups alone, so that they may pass it on."""
    beyond = set(groups) - groups_of(user)
    if not beyond or covers(user, [EVERYTHING], Scope(ScopeType.ALL)):
        return True
    return not any(beyond.intersection(known()) for known in _sights)


def has_everything(user: Viewer) -> bool:
    """Whether a person's grants give them everything, everywhere; whatever token they came with."""
    return isinstance(user, User) and any(
        EVERYTHING in verbs and scope.type == ScopeType.ALL for verbs, scope in _held_by(user)
    )


def groups_of(user: Viewer) -> frozenset[int]:
    """The access groups that a person is in, by their keys."""
    if not isinstance(user, User):
        return frozenset()
    return cache.get(("groups", user.pk), lambda: frozenset(user.access_groups.values_list("pk", flat=True)))


def _administrators() -> str:
    """Who can grant roles, in words, for those who may not do something."""
    names = [user.label for user in User.objects.administrators().order_by("pk")[:3]]
    return get_text_list(names, _("or")) or _("an administrator")


# What people may do changes rarely and is asked all the time, so it is kept in memory.


class AccessCache:
    """What this process knows of who may do what, looked up again when the access version has changed.

    At most `seconds` old; of bounded size; safe for threads.
    """

    def __init__(self, *, seconds: float = 1.0, size: int = 10_000) -> None:
        self.seconds, self.size = seconds, size
        self._lock = threading.Lock()
        self._entries: dict[Hashable, Any] = {}
        self._stamp: uuid.UUID | None = None
        self._checked_at = float("-inf")
        self._generation = 0

    def clear(self) -> None:
        """Forget everything; what is being looked up right now is not kept either."""
        with self._lock:
            self._forget()
            self._checked_at = float("-inf")

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """The entry of this key, loaded if it is not known or no longer true; None is not kept."""
        self._check()
        with self._lock:
            if key in self._entries:
                return cast(T, self._entries[key])
            generation = self._generation
        value = load()
        with self._lock:
            if value is not None and generation == self._generation:
                if len(self._entries) >= self.size:
                    self._entries.pop(next(iter(self._entries)))
                self._entries[key] = value
        return value

    def generation(self) -> int:
        """A number that is another one after each change of who may do what; at most `seconds` late."""
        self._check()
        return self._generation

    def _check(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < self.seconds:
            return
        stamp = AccessVersion.objects.values_list("stamp", flat=True).first()
        with self._lock:
            if stamp != self._stamp:
                self._forget()
                self._stamp = stamp
            self._checked_at = now

    def _forget(self) -> None:
        self._entries.clear()
        self._generation += 1


cache = AccessCache()


@contextmanager
def changing_access() -> Iterator[None]:
    """A transaction that changes users, groups, roles, grants or tokens; nested ones are one.

    Such transactions run one after the other, so that what they check (the last administrator, say) still
    holds when they commit. Every process sees the change within a second, this one at once.
    """
    with transaction.atomic():
        AccessVersion.objects.bulk_create(
            [AccessVersion(pk=1, stamp=uuid.uuid4())],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["stamp"],
        )
        transaction.on_commit(cache.clear)
        try:
            yield
        finally:
            cache.clear()


def _held_by(user: User) -> tuple[tuple[frozenset[str], Scope], ...]:
    def load() -> tuple[tuple[frozenset[str], Scope], ...]:
        active = User.objects.filter(pk=user.pk, is_active=True)
        grants = Grant.objects.reaching(user).filter(Exists(active)).select_related("role")
        return tuple((grant.role.verbs, Scope(grant.scope_type, grant.scope)) for grant in grants)

    return cache.get(("user", user.pk), load)


register_scope(User, nowhere, verb="user.read", own=lambda user: Q(pk=user.pk))
register_scope(Group, nowhere, verb="user.read")
register_scope(
    Grant, nowhere, verb="user.read", own=lambda user: Q(pk__in=Grant.objects.reaching(user).values("pk"))
)
register_scope(Role, everywhere)
register_scope(ApiToken, nowhere, verb="user.read", own=lambda user: Q(user=user))
register_scope(AuditEvent, nowhere, verb="audit.read")
register_scope(SignInLink, nowhere, verb="user.read")
register_scope(Secret, nowhere, verb=EVERYTHING)
register_scope(IdentityProvider, nowhere, verb=EVERYTHING)
register_scope(Identity, nowhere, verb="user.read", own=lambda user: Q(user=user))
