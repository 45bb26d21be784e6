"""Taking changes back: what the audit log records, with what an undo needs, for 30 days.

Whoever makes a change that can be undone notes what was there before (`keep_for_undo`) and, once for each verb, how
it is undone (`register_undo`). An undo is a change like any other: on record, and undoable itself where that is
sensible.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import AuditEvent, Undoable, UndoableThing, User
from access.permissions import Viewer
from access.services.audit import Subject, record_audit
from base.errors import Conflict, DomainError, NotFound

STAYS = timedelta(days=30)
# Whoever may do one of these at least somewhere may find something to undo.
VERBS = ("entity.write", "tie.write", "connection.write", "kind.write", "pack.write")

Thing = tuple[uuid.UUID, str]


class CannotUndo(Conflict):
    """What was changed is no longer as the undo would need it."""

    code = "cannot-undo"


@dataclass(frozen=True, slots=True)
class Preview:
    """What an undo would do.

    :ivar steps: in sentences.
    :ivar differences: for each thing, by its name, rows of `path`, `old`, `new`.
    :ivar later: changes made since that it would touch, newest first.
    :ivar unseen: how many further ones there are that the viewer may not see.
    :ivar of_later: what becomes of those, in a sentence.
    :ivar refused: why it cannot be undone now; empty if it can.
    """

    steps: list[str] = field(default_factory=list)
    differences: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    later: list[Undoable] = field(default_factory=list)
    unseen: int = 0
    of_later: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Undo:
    """How the changes of one verb are undone.

    :ivar verb: of the audit log.
    :ivar title: what was done, in words.
    :ivar icon: of `portico/icons.txt`.
    :ivar within: which of these changes somebody may undo; they see no others.
    :ivar preview: what an undo would do; writes nothing. It may raise a `DomainError`: why it cannot.
    :ivar undo: does it, within a transaction.
    :ivar takes_later: whether the later changes that it touches are undone with it.
    """

    verb: str
    title: Callable[[Undoable], str]
    icon: str
    within: Callable[[Viewer], Q]
    preview: Callable[[Undoable, User], Preview]
    undo: Callable[[Undoable, User], None]
    takes_later: bool = False


_undos: dict[str, Undo] = {}


def register_undo(*undos: Undo) -> None:
    """Make known how changes of some verbs are undone.

    :raises ValueError: if that is known of a verb already.
    """
    for one in undos:
        if _undos.setdefault(one.verb, one) is not one:
            raise ValueError(f"How {one.verb!r} is undone is known already.")


def undo_of(change: Undoable) -> Undo:
    """How a change is undone."""
    return _undos[change.event.verb]


def keep_for_undo(
    event: AuditEvent, *, state: Mapping[str, Any], things: Iterable[Thing] = (), now: datetime | None = None
) -> Undoable:
    """Keep what was there before a change, in the transaction of the change.

    :param state: plain JSON data, without secrets: an undo reads it from here alone.
    :param things: the uids of what the change concerns, each with what of it.
    """
    change = Undoable.objects.create(event=event, state=state, expires_at=(now or timezone.now()) + STAYS)
    UndoableThing.objects.bulk_create(
        UndoableThing(undoable=change, uid=uid, aspect=aspect) for uid, aspect in dict.fromkeys(things)
    )
    return change


def list_changes(viewer: Viewer) -> QuerySet[Undoable]:
    """What can be undone, or was, as far as the viewer may undo it; newest first."""
    condition = Q(pk__in=())
    for one in _undos.values():
        condition |= Q(event__verb=one.verb) & one.within(viewer)
    rows = Undoable.objects.filter(condition, expires_at__gt=timezone.now())
    return rows.select_related("event").order_by("-event_id")


def get_change(viewer: Viewer, change_id: int) -> Undoable:
    """One of `list_changes`.

    :raises NotFound: if it is none of them.
    """
    found = list_changes(viewer).filter(pk=change_id).first()
    if found is None:
        raise NotFound(_("There is no such change that you may undo; changes can be undone for 30 days."))
    return found


def later_changes(
    change: Undoable, *, uids: Iterable[uuid.UUID] | None = None, any_aspect: bool = False
) -> list[Undoable]:
    """What was changed since, and not undone, of the same things; newest first.

    :param uids: of these things instead; a query of many is left to the database.
    :param any_aspect: whatever of them was changed; else only the same, or a part or the whole of it.
    """
    mine = list(change.things.values_list("uid", "aspect"))
    wanted = uids if uids is not None else [uid for uid, _aspect in mine]
    rows = UndoableThing.objects.filter(uid__in=wanted, undoable__event_id__gt=change.pk)
    rows = rows.filter(undoable__undone_at=None, undoable__expires_at__gt=timezone.now())
    found = {
        row.undoable_id
        for row in rows
        if any_aspect or any(row.uid == uid and _overlap(row.aspect, aspect) for uid, aspect in mine)
    }
    return list(Undoable.objects.filter(pk__in=found).select_related("event").order_by("-event_id"))


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def preview_undo(*, change: Undoable, user: User) -> Preview:
    """What an undo would do now. Writes nothing."""
    if change.is_undone:
        return Preview(refused=_("It was undone already, by %(who)s.") % {"who": change.undone_by})
    try:
        preview = undo_of(change).preview(change, user)
    except DomainError as error:
        return Preview(refused=error.message)
    seen = set(
        list_changes(user).filter(pk__in=[one.pk for one in preview.later]).values_list("pk", flat=True)
    )
    later = [one for one in preview.later if one.pk in seen]
    return replace(preview, later=later, unseen=len(preview.later) - len(later))


def undo_change(*, change: Undoable, user: User, now: datetime | None = None) -> None:
    """Undo a change, and with it the later ones that would be lost by it.

    :raises CannotUndo: if it was undone already, or is no longer as the undo would need it.
    :raises Forbidden: if this person may not do such a thing.
    """
    how, now = undo_of(change), now or timezone.now()
    with transaction.atomic():
        rows = Undoable.objects.select_for_update(of=("self",)).select_related("event")
        locked = rows.filter(pk=change.pk).first()
        if locked is None or not list_changes(user).filter(pk=locked.pk).exists():
            raise CannotUndo(_("You may not undo this, or not any more: changes can be undone for 30 days."))
        if locked.is_undone:
            raise CannotUndo(_("It was undone already, by %(who)s.") % {"who": locked.undone_by})
        later = _lost_with(locked) if how.takes_later else []
        Undoable.objects.filter(pk__in=[locked.pk, *(one.pk for one in later)]).update(
            undone_at=now, undone_by=user.label
        )
        how.undo(locked, user)
        event = locked.event
        record_audit(
            "change.undo",
            Subject(event.subject_type, event.subject_uid, event.subject_label),
            changes={"change": event.pk, "verb": event.verb, "with": [one.pk for one in later]},
            actor=user,
        )


def _lost_with(change: Undoable) -> list[Undoable]:
    """The later changes of which nothing is left once a change is undone; what concerned other things too stays."""
    mine = set(change.things.values_list("uid", flat=True))
    return [one for one in later_changes(change) if mine.issuperset(one.things.values_list("uid", flat=True))]


def note_undone(*, verb: str, state: Mapping[str, Any], by: str, now: datetime) -> None:
    """Changes were taken back by other means than their undo, so there is nothing left to undo.

    :param state: a part of what was kept of them.
    """
    rows = Undoable.objects.filter(event__verb=verb, state__contains=state, undone_at=None)
    rows.update(undone_at=now, undone_by=by)


def forget_changes(*, verb: str, state: Mapping[str, Any]) -> None:
    """Changes can no longer be undone, since what they need is gone for good; the audit log stays.

    :param state: a part of what was kept of them.
    """
    Undoable.objects.filter(event__verb=verb, state__contains=state).delete()


def forget_old_changes(*, now: datetime) -> None:
    """Let go of what can no longer be undone; the audit log stays."""
    Undoable.objects.filter(expires_at__lte=now).delete()
