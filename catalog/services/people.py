"""Which person of the catalog an account is: by a verified address, or by an administrator's word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from access.actors import acting_as, system
from access.models import User
from access.permissions import can
from access.services import claim_person, tie_account
from base.errors import Conflict, InvalidInput, NotFound
from catalog import identity
from catalog.audience import audiences, not_for_all, within
from catalog.models import Entity, EntityKey, Redirect
from catalog.query.tokens import token

AT_ONCE = 500


def people_at(emails: Iterable[str]) -> QuerySet[Entity]:
    """The people of the catalog who have one of these addresses, whoever is looking."""
    texts = {email.strip().lower() for email in emails} - {""}
    keys = [key for email in texts if (key := identity.user_key(email))]
    known = EntityKey.objects.filter(kind="user", is_identity=True, key__in=keys).values("entity_id")
    said = Q(tokens__overlap=[token("spec.profile.email", email) for email in texts])
    return Entity.objects.filter(Q(pk__in=known) | said, kind="user", deleted_at=None)


def email_of(document: dict[str, Any]) -> str:
    """The address that the document of a person or team gives; empty if it gives none."""
    spec = document.get("spec")
    profile = spec.get("profile") if isinstance(spec, dict) else None
    email = profile.get("email") if isinstance(profile, dict) else None
    return email if isinstance(email, str) else ""


def teams(source: str) -> dict[str, str]:
    """The ref of the group that each team of a tool is, by the team's identity key.

    :param source: name of the source that names them; what not all for whom it is may know is left out.
    """
    known = audiences()
    rows = EntityKey.objects.filter(
        kind="group", is_identity=True, key__startswith="team:", entity__deleted_at=None
    )
    if known:
        rows = rows.filter(within(known.get(source))).exclude(
            claim__source__name__in=not_for_all(known, known.get(source))
        )
    return dict(rows.order_by("-entity_id").values_list("key", "entity__ref"))


def people_by_email(user: User) -> QuerySet[Entity]:
    """The people of the catalog who have the account's address, if it is verified and no other account's."""
    alone = not User.objects.filter(email__iexact=user.email, is_active=True).exclude(pk=user.pk).exists()
    return (
        people_at([user.email]) if user.is_email_verified and user.email and alone else Entity.objects.none()
    )


def account_of(entity: Entity, *, but: User | None = None) -> User | None:
    """The account that is this person, or was one who was merged into them."""
    return accounts_of([entity], but=but).get(entity.pk)


def accounts_of(people: Iterable[Entity], *, but: User | None = None) -> dict[int, User]:
    """The accounts that are these people, or were those who were merged into them, by the people's keys."""
    uids = {entity.uid: entity.pk for entity in people}
    merged = Redirect.objects.filter(winner_id__in=list(uids.values()))
    uids |= dict(merged.values_list("loser__uid", "winner_id"))
    users = User.objects.filter(entity_uid__in=uids).exclude(pk=but.pk if but else None).order_by("-pk")
    return {uids[user.entity_uid]: user for user in users if user.entity_uid}


def tie_by_email(user: User) -> Entity | None:
    """Tie an account that is nobody yet to the person who has its verified address.

    :returns: that person, if there is one.
    """
    if user.entity_uid is not None or not user.is_active:
        return None
    found = list(people_by_email(user)[:2])
    if len(found) != 1 or account_of(found[0], but=user) is not None:
        return None  # of several a person says which
    entity = found[0]
    with acting_as(system("Portico")):
        tie_account(user, entity_uid=entity.uid)
    user.entity_uid = entity.uid
    return entity


def tie_all_by_email() -> int:
    """Tie the accounts whose people came into the catalog after them.

    :returns: how many were tied.
    """
    waiting = list(
        User.objects.filter(entity_uid=None, is_active=True, is_email_verified=True).exclude(email="")[
            :AT_ONCE
        ]
    )
    if not waiting or not people_at(user.email for user in waiting).exists():
        return 0
    return sum(tie_by_email(user) is not None for user in waiting)


def say_who(user: User, entity: Entity) -> bool:
    """Somebody says which person of the catalog they are.

    :returns: whether that holds now; else an administrator confirms it first.
    :raises InvalidInput: if this is no person.
    :raises Conflict: if another account is that person.
    """
    if entity.kind != "user":
        raise InvalidInput(_("%(ref)s is no person.") % {"ref": entity.ref})
    if (other := account_of(entity, but=user)) is not None:
        raise Conflict(
            _("Another account is %(ref)s already: %(user)s. Ask an administrator.")
            % {"ref": entity.ref, "user": other}
        )
    if can(user, "user.write") or people_by_email(user).filter(pk=entity.pk).exists():
        tie_account(user, entity_uid=entity.uid, by=user)
        return True
    claim_person(user, entity_uid=entity.uid, by=user)
    return False


def tie_person(user: User, entity: Entity, *, by: User) -> None:
    """Say which person of the catalog an account is; what it said itself is over.

    :raises InvalidInput: if this is no person, or another account is them.
    """
    if entity.kind != "user":
        raise InvalidInput(_("%(ref)s is no person.") % {"ref": entity.ref})
    if entity.uid != user.entity_uid:
        tie_account(user, entity_uid=entity.uid, by=by)


def confirm_who(user: User, *, by: User) -> Entity:
    """An administrator confirms who somebody says that they are.

    :raises NotFound: if they say nothing any more, or the person is gone.
    :raises Conflict: if another account is that person.
    """
    claimed = user.claimed_entity_uid
    entity = Entity.objects.filter(uid=claimed, deleted_at=None).first() if claimed else None
    if entity is None:
        raise NotFound(_("There is nothing to confirm any more."))
    if (other := account_of(entity, but=user)) is not None:
        raise Conflict(
            _("Another account is %(ref)s already: %(user)s.") % {"ref": entity.ref, "user": other}
        )
    tie_account(user, entity_uid=entity.uid, by=by)
    return entity
