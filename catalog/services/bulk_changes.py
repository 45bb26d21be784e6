"""Changes of many things that are too long for a request: a worker does each as one change that can be undone.

It is one transaction in which its row is held. Of a worker that dies nothing is done and nothing is held, and another
begins anew; nobody ever sees half of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access.actors import acting_as, actor_of
from access.models import User
from access.permissions import require
from base.errors import Conflict, DomainError, Forbidden, NotFound
from catalog import queries
from catalog.models import BulkChange, Entity
from catalog.services import bulk_edit, bulk_fields
from catalog.services.bulk_plans import BulkPlan
from catalog.services.render import A_WHILE, render_dirty

logger = logging.getLogger(__name__)

State = BulkChange.State
ATTEMPTS = 3
MOST_WAITING = 10  # of one person
STAY = timedelta(days=30)


def queue(
    *,
    user: User,
    what: dict[str, Any],
    entities: Sequence[Entity],
    reason: str,
    expected: str,
    back: str = "",
) -> BulkChange:
    """Have a change of many things done by a worker: see `execute`.

    :param what: of owners `owner`, its ref; of a field `path`, `action` and `value`.
    :param expected: the mark of the plan that the person saw.
    :param back: where the person came from: the query of a list.
    :raises Conflict: if too many of theirs wait already.
    """
    require(user, "entity.write")
    if BulkChange.objects.filter(user=user, state=State.QUEUED).count() >= MOST_WAITING:
        raise Conflict(
            _("%(n)d changes of yours wait for a worker. Wait until some are done.") % {"n": MOST_WAITING}
        )
    now = timezone.now()
    BulkChange.objects.filter(finished_at__lt=now - STAY).delete()  # who asks for one looks at no older one
    return BulkChange.objects.create(
        user=user,
        what=what,
        entities=[str(entity.uid) for entity in entities],
        reason=reason,
        expected=expected,
        back=back,
        total=len(entities),
        made_at=now,
    )


def change_of(user: User, change_id: int) -> BulkChange:
    """A change that somebody asked for.

    :raises NotFound: if there is none.
    """
    found = BulkChange.objects.filter(pk=change_id, user=user).defer("entities").first()
    if found is None:
        raise NotFound(_("There is no such change of yours."))
    return found


def due() -> Iterable[int]:
    """Numbers of the changes that wait for a worker."""
    return list(BulkChange.objects.filter(state=State.QUEUED).order_by("pk").values_list("pk", flat=True))


def cancel(*, user: User, change: BulkChange) -> None:
    """Let a change be that nobody has begun.

    :raises Conflict: if somebody is at it, or it is over.
    """
    with transaction.atomic():
        row = _free(change.pk).filter(user=user).first()
        if row is None:
            raise Conflict(_("It is being done or over; undo takes back what it changed."))
        _end(row, State.CANCELLED)


def execute(*, change_id: int) -> None:
    """Do a change that waits, unless another is at it."""
    with transaction.atomic():
        change = _free(change_id).first()
        if change is None:
            return
        # Kept though the worker may die of it.
        change.attempts, change.begun_at = change.attempts + 1, timezone.now()
        if change.attempts > ATTEMPTS:
            _end(change, State.FAILED, _("The worker stopped %d times while it was being done.") % ATTEMPTS)
            return
        change.save(update_fields=["attempts", "begun_at"])
    try:
        with transaction.atomic():
            change = _free(change_id).first()
            if change is None:
                return
            with acting_as(actor_of(change.user)):
                plan = _do(change)
            change.changed = len(plan.changing)
            _end(change, State.DONE)
    except DomainError as failure:
        _fail(change_id, failure.in_full)
    except (OperationalError, InterfaceError):
        raise  # a lost database comes back, and the change with it
    except Exception:
        logger.exception("The change %s of many things failed.", change_id)
        _fail(change_id, _("An internal error; the log of the worker tells more."))
    else:
        render_dirty(at=timezone.now(), limit=A_WHILE)


def _free(change_id: int) -> Any:
    """The row of a change that waits, held; none if another holds it."""
    waiting = BulkChange.objects.filter(pk=change_id, state=State.QUEUED).select_related("user")
    return waiting.select_for_update(skip_locked=True, of=("self",))


def _do(change: BulkChange) -> BulkPlan[Any]:
    user, what = change.user, change.what
    if not user.is_active:
        raise Forbidden(_("The account of who asked for it is closed."))
    require(user, "entity.write")
    uids = [UUID(uid) for uid in change.entities]
    known = queries.titles_by_uid(user, uids)
    entities = [known[uid] for uid in uids if uid in known]
    given: dict[str, Any] = {"user": user, "reason": change.reason, "expected": change.expected}
    if "owner" in what:
        owner = queries.entity_of_ref(user, what["owner"])
        return bulk_edit.set_apart(entities=entities, owner=owner, **given)
    wanted = bulk_fields.check_change(what["path"], what["action"], what.get("value"))
    return bulk_fields.change_apart(entities=entities, change=wanted, **given)


def _fail(change_id: int, error: str) -> None:
    with transaction.atomic():
        if (change := _free(change_id).first()) is not None:
            _end(change, State.FAILED, error)


def _end(change: BulkChange, state: str, error: str = "") -> None:
    change.state, change.error, change.entities = state, error, []
    change.finished_at = timezone.now()
    change.save()
