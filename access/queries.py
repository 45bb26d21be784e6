"""Reading who there is, who may do what, and what was done; all as far as the viewer may see it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q, QuerySet

from access.models import ApiToken, AuditEvent, Grant, Group, Role, SignInLink, User
from access.permissions import Viewer, can, visible
from access.verbs import EVERYTHING, VERBS


def list_users(*, viewer: Viewer, text: str = "") -> QuerySet[User]:
    """Accounts, those whose name or address holds the text."""
    users = visible(viewer, User.objects.all()).order_by("username")
    if text:
        users = users.filter(Q(username__icontains=text) | Q(name__icontains=text) | Q(email__icontains=text))
    return users


def list_groups(*, viewer: Viewer) -> QuerySet[Group]:
    """Access groups with their members."""
    return visible(viewer, Group.objects.all()).prefetch_related("members").order_by("name")


def list_grants(*, viewer: Viewer, user: User | None = None) -> QuerySet[Grant]:
    """Grants with holder and role: all of them, or those that reach one person."""
    grants = Grant.objects.reaching(user) if user else Grant.objects.all()
    return visible(viewer, grants).select_related("user", "group", "role").order_by("id")


def list_invitations(*, viewer: Viewer) -> QuerySet[SignInLink]:
    """Open invitations, the newest first: people for whom one still waits, whether or not their link expired."""
    links = visible(viewer, SignInLink.objects.invitations()).filter(user__is_active=True)
    return links.select_related("user", "made_by").order_by("-id")


def open_link_of(user: User) -> SignInLink:
    """The one link that the person can still sign in with.

    :raises DoesNotExist: if there is none.
    """
    return SignInLink.objects.select_related("user", "made_by").get(user=user, used_at=None)


def list_claims(*, viewer: Viewer) -> QuerySet[User]:
    """Accounts whose people say who they are in the catalog, which nobody has confirmed yet."""
    return list_users(viewer=viewer).filter(is_active=True).exclude(claimed_entity_uid=None)


def list_roles(*, viewer: Viewer) -> QuerySet[Role]:
    """Roles."""
    return visible(viewer, Role.objects.all()).order_by("name")


def tokens_of(user: User) -> QuerySet[ApiToken]:
    """A person's own tokens that were not revoked, newest first."""
    own = visible(user, ApiToken.objects.filter(user=user, revoked_at=None))
    return own.select_related("role", "user").order_by("-id")


def verbs_of(user: Viewer) -> list[str]:
    """What this person, with the token that they came with, may do at least somewhere."""
    return [name for name in VERBS if name != EVERYTHING and can(user, name)]


def labels_of_actors(events: Iterable[AuditEvent]) -> dict[int, str]:
    """Who did these, by event: people as they are called now, whose account is gone and all else as it was noted."""
    rows = list(events)
    uids = {event.actor_uid for event in rows if event.actor_type == AuditEvent.ActorType.USER}
    people = {str(user.pk): user.label for user in User.objects.filter(pk__in=uids)}
    return {
        event.pk: people.get(event.actor_uid, event.actor_label)
        if event.actor_type == AuditEvent.ActorType.USER
        else event.actor_label
        for event in rows
    }


def list_audit(
    *,
    viewer: Viewer,
    actor: str = "",
    verb: str = "",
    subject_type: str = "",
    subject_uid: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[AuditEvent]:
    """The audit log, newest first.

    :param actor: an account's uid or name.
    :param verb: one verb, or the noun before the dot for all of its verbs.
    """
    events = visible(viewer, AuditEvent.objects.all()).order_by("-at", "-id")
    if actor:
        events = events.filter(Q(actor_uid=actor) | Q(actor_label=actor))
    if verb:
        events = events.filter(verb=verb) if "." in verb else events.filter(verb__startswith=f"{verb}.")
    if subject_type:
        events = events.filter(subject_type=subject_type)
    if subject_uid:
        events = events.filter(subject_uid=subject_uid)
    if since:
        events = events.filter(at__gte=since)
    if until:
        events = events.filter(at__lt=until)
    return events
