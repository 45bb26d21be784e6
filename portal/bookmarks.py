"""Favourites, and what was viewed lately: for one account, and only what it may still see."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access.models import User
from base.errors import DomainError
from catalog import queries
from catalog.models import Entity, Redirect
from portal.models import Bookmarks

RECENT = 12
FAVOURITES = 200


class TooManyFavourites(DomainError):
    """An account has as many favourites as it can have."""

    code = "too-many-favourites"
    status = 409
    title = gettext_lazy("Too many favourites")


def view_entity(*, user: User, entity: Entity) -> bool:
    """Remember that an account looks at an entity, and tell whether it is a favourite.

    One statement, for it stands in the way of every page of an entity; it writes nothing where the entity was
    the last one already.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH known AS (SELECT favourites, recent FROM portal_bookmarks WHERE user_id = %(user)s),
            written AS (
                INSERT INTO portal_bookmarks AS b (user_id, favourites, recent)
                SELECT %(user)s, '{}', ARRAY[%(uid)s]::uuid[]
                WHERE NOT EXISTS (SELECT FROM known WHERE recent[1] = %(uid)s)
                ON CONFLICT (user_id) DO UPDATE
                SET recent = (array_prepend(%(uid)s, array_remove(b.recent, %(uid)s)))[1:%(most)s]
            )
            SELECT %(uid)s = ANY(favourites) FROM known
            """,
            {"user": user.pk, "uid": entity.uid, "most": RECENT},
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def set_favourite(*, user: User, entity: Entity, is_on: bool) -> None:
    """Make an entity a favourite of an account, or no longer.

    :raises TooManyFavourites: if the account has as many as it can have.
    """
    Bookmarks.objects.get_or_create(user=user)
    with transaction.atomic():
        mine = Bookmarks.objects.select_for_update().get(user=user)
        # What was merged into it is it; what was removed for good never returns.
        same = {entity.uid, *Entity.objects.filter(redirect__winner=entity).values_list("uid", flat=True)}
        there = set(Entity.objects.filter(uid__in=mine.favourites).values_list("uid", flat=True))
        others = [uid for uid in mine.favourites if uid in there and uid not in same]
        if is_on and len(others) >= FAVOURITES:
            raise TooManyFavourites(
                _("You have %(n)d favourites, and there is no room for more. Take the star from one that you do "
                  "not need.") % {"n": FAVOURITES}
            )  # fmt: skip
        mine.favourites = [entity.uid, *others] if is_on else others
        mine.save(update_fields=["favourites"])


@dataclass(frozen=True)
class Kept:
    """What an account keeps, as far as it may see it, newest first."""

    favourites: list[Entity] = field(default_factory=list)
    recent: list[Entity] = field(default_factory=list)


def bookmarks_of(user: User, *, with_recent: bool = True) -> Kept:
    """An account's favourites and what it viewed lately. What was merged is what it was merged into."""
    mine = Bookmarks.objects.filter(user=user).first()
    if mine is None:
        return Kept()
    recent = mine.recent if with_recent else []
    wanted = {*mine.favourites, *recent}
    if not wanted:
        return Kept()
    found = queries.titles_by_uid(user, wanted)
    if missing := wanted - set(found):
        merged = Redirect.objects.filter(loser__uid__in=missing).values_list("loser__uid", "winner__uid")
        winners = dict(merged)
        others = queries.titles_by_uid(user, winners.values())
        found |= {loser: others[winner] for loser, winner in winners.items() if winner in others}
    return Kept(_in_order(mine.favourites, found), _in_order(recent, found))


def _in_order(uids: Sequence[uuid.UUID], found: dict[uuid.UUID, Entity]) -> list[Entity]:
    return list({found[uid].pk: found[uid] for uid in uids if uid in found}.values())
