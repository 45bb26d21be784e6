"""A connection is a layer: muted, what it brought counts for nothing; unmuted, it is all there again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from access.permissions import visible
from access.services.audit import record_audit
from base.errors import Conflict
from catalog.audience import hidden_names
from catalog.models import Activity, Entity
from catalog.services.aside import Change, changes_without
from integrations.components import lost_without
from integrations.models import Connection
from integrations.services.connections import lock_connection
from integrations.services.locations.removal import spoken_of
from integrations.services.moving import begin_moving, sources_of

COMPARED = 1_000  # entities; more are only counted


@dataclass(frozen=True, slots=True)
class Muting:
    """What muting a connection would do.

    :ivar vanishing: the entities that nobody else speaks of.
    :ivar amended: how many others it speaks of; `changes` are what would change of the first `COMPARED` of them.
    :ivar components: how many components that other connections inferred would vanish too.
    """

    vanishing: list[Entity]
    amended: int
    changes: list[Change]
    components: int
    activities: int


def muting_of(viewer: Any, connection: Connection, *, now: datetime) -> Muting:
    """What would vanish, and what would change its winner, of what the viewer may see. Writes nothing."""
    sources = sources_of(connection)
    touched, kept = spoken_of(sources, viewer)
    light = ("pk", "uid", "ref", "kind", "namespace", "name", "title")
    return Muting(
        vanishing=list(touched.exclude(pk__in=kept.values("pk")).order_by("ref").only(*light)),
        amended=kept.count(),
        changes=changes_without(
            sources, kept.order_by("ref").only(*light)[:COMPARED], but=hidden_names(viewer)
        ),
        components=lost_without(connection, among=visible(viewer, Connection.objects.all()), now=now),
        activities=visible(viewer, Activity.objects.filter(connection=connection.slug)).count(),
    )


def mute_connection(*, connection: Connection, by: str, now: datetime) -> None:
    """Have what a connection brought set aside by a worker. It rests: it is not read, what is delivered waits.

    :raises BeingRemoved: if it is on its way out.
    :raises Conflict: if it is muted already, or while it is read.
    """
    with transaction.atomic():
        locked = lock_connection(connection)
        if locked.muted_at is not None:
            raise Conflict(_("%(connection)s is muted already.") % {"connection": locked.label})
        begin_moving(locked, now=now, muted_at=now, muted_by=by)
        record_audit("connection.mute", locked)


def unmute_connection(*, connection: Connection, now: datetime) -> None:
    """Have all of it brought back by a worker. Then it is read again, and what waits is taken in.

    :raises BeingRemoved: if it is on its way out.
    :raises Conflict: if it is not muted.
    """
    with transaction.atomic():
        locked = lock_connection(connection)
        if locked.muted_at is None:
            raise Conflict(_("%(connection)s is not muted.") % {"connection": locked.label})
        begin_moving(locked, now=now, muted_at=None, muted_by="")
        record_audit("connection.unmute", locked)
