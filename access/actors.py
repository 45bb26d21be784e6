"""Who is acting right now, for the audit log: a person, a token, a command, or Portico itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.translation import gettext as _

from access.models import AuditEvent, User


@dataclass(frozen=True)
class Actor:
    """Who does something, and from where.

    :ivar uid: of the account, for tokens too; empty where there is none.
    """

    type: str
    uid: str = ""
    label: str = ""
    request_id: str = ""
    ip: str | None = None


_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)
_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)


def actor_of(user: object) -> Actor:
    """The actor that this person, or the token they came with, is in the request being answered."""
    request = _request.get()
    where = ("", None) if request is None else (getattr(request, "request_id", ""), client_address(request))
    if not isinstance(user, User):
        return Actor(AuditEvent.ActorType.ANONYMOUS, "", _("not signed in"), *where)
    if user.token is not None:
        label = _("%(user)s with the token %(token)s") % {"user": user.username, "token": user.token}
        return Actor(AuditEvent.ActorType.TOKEN, str(user.pk), label, *where)
    return Actor(AuditEvent.ActorType.USER, str(user.pk), user.username, *where)


def system(label: str) -> Actor:
    """A part of Portico that acts by itself: a command, a task, the start."""
    return Actor(AuditEvent.ActorType.SYSTEM, "", label)


def current_actor() -> Actor:
    """The actor of `acting_as`, else the one who sent the request that is being answered, else Portico."""
    if (actor := _actor.get()) is not None:
        return actor
    if (request := _request.get()) is not None:
        return actor_of(getattr(request, "user", None))
    return system("Portico")


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Whatever is recorded inside is recorded as this actor's doing."""
    reset = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(reset)


@contextmanager
def answering(request: HttpRequest) -> Iterator[None]:
    """Whatever is recorded inside is the doing of the one who sent this request (with its `request_id`)."""
    reset = _request.set(request)
    try:
        yield
    finally:
        _request.reset(reset)


def client_address(request: HttpRequest) -> str | None:
    """The address that the request came from: the server settles which, where proxies are trusted."""
    address = request.META.get("REMOTE_ADDR", "")
    try:
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return None
