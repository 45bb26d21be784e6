"""New versions of kinds: checked on all that is stored, applied while the old version serves, and taken back.

What sources say stays as they say it; a kind's newest version is what the merge makes of it. So applying a version
merges entities anew, by the queue that renders them, and undoing it does the same with the version before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access.actors import acting_as, system
from access.definitions import document_types
from access.models import Undoable, User
from access.permissions import Viewer, can, require
from access.services.audit import Subject, differences, record_audit
from access.services.undo import CannotUndo, Preview, Undo, keep_for_undo, later_changes, register_undo
from base.errors import Conflict, FieldError, InvalidInput, NotFound
from catalog.audience import audiences
from catalog.bulk import among
from catalog.documents.kinds import check_kind_definition
from catalog.kinds import KindView, forget_kinds, kinds_with
from catalog.models import Claim, DirtyEntity, Entity, Kind, KindChange
from catalog.services.ingest import values_of, with_identity
from catalog.services.merge import merge
from catalog.services.voices import guests_of, said_of

logger = logging.getLogger(__name__)

VERB = "kind.write"
PAGE = 500
LEASE = timedelta(minutes=1)
MOST_REASONS = 100
REFS = 20
State = KindChange.State


def propose(*, user: Any, name: str, spec: Any) -> KindChange:
    """Have a new definition of a kind checked on all its stored entities. A worker does that: `check`.

    :param name: of the definition.
    :raises NotFound: if there is no such kind.
    :raises InvalidInput: if the definition is wrong, with each place, or its version is below the present one.
    """
    require(user, VERB)
    row = Kind.objects.filter(name=name).first()
    if row is None:
        raise NotFound(_("There is no kind “%(name)s”.") % {"name": name})
    check_kind_definition(name, spec)
    if spec["kind"] != row.spec["kind"]:
        raise InvalidInput(
            _("A kind keeps its name."),
            errors=[FieldError("spec.kind", _("This stays."), row.spec["kind"], spec["kind"])],
        )
    present = row.spec.get("version", 1)
    if spec.get("version", 1) < present:
        raise InvalidInput(
            _("The version does not go back; undo takes a version back."),
            errors=[FieldError("spec.version", _("This must be at least %(n)d.") % {"n": present})],
        )
    change = KindChange.objects.create(
        definition=name,
        kind=spec["kind"].lower(),
        spec=spec,
        before=row.spec,
        made_at=timezone.now(),
        made_by=user.label,
    )
    record_audit("kind.propose", Subject("kind", name, f"Kind {name}"), changes={"change": change.pk})
    return change


def propose_shipped(*, name: str, spec: Any, pack: str, by: str, again: bool) -> None:
    """Have a definition that a pack brings checked; it is applied by itself if nothing breaks, and waits else.

    Of what waits already the check is made again, for entities may have been mended.

    :param again: also where somebody said that it is to be let be.
    """
    before = Kind.objects.values_list("spec", flat=True).get(name=name)
    mine = KindChange.objects.filter(definition=name).exclude(pack="").select_for_update()
    same = mine.filter(spec=spec, before=before)
    waiting = mine.filter(state__in=[State.CHECKING, State.CHECKED])
    waiting.exclude(pk__in=same.values("pk")).update(
        state=State.CANCELLED, finished_at=timezone.now(), held_until=None
    )
    if same.filter(state=State.CHECKING).exists():
        return
    if _look_again(same):
        return
    if not again and same.filter(state=State.CANCELLED).exists():
        return
    change = KindChange.objects.create(
        definition=name,
        kind=spec["kind"].lower(),
        spec=spec,
        before=before,
        made_at=timezone.now(),
        made_by=by,
        pack=pack,
    )
    record_audit("kind.propose", Subject("kind", name, f"Kind {name}"), changes={"change": change.pk})


# --- the check --------------------------------------------------------------------------------------------


def check(*, change_id: int, now: datetime) -> None:
    """Find out which stored entities a proposed definition would break, and why; a page of them at a time.

    Two that check the same do no harm: the later begins when the earlier gives no sign of life.
    """
    mine = KindChange.objects.filter(pk=change_id, state=State.CHECKING)
    free = mine.filter(Q(held_until=None) | Q(held_until__lt=now))
    if not free.update(held_until=now + LEASE, done=0):
        return
    change = mine.get()
    try:
        _check(change, mine)
        _go_on(change_id)
    except (OperationalError, InterfaceError):
        raise  # a lost database comes back, and the check with it
    except Exception:
        logger.exception("Change %s of the kind %s could not be checked.", change_id, change.kind)
        _fail(mine, _("An internal error; the log of the worker tells more."))


def _fail(mine: QuerySet[KindChange], error: str) -> None:
    mine.update(state=State.FAILED, error=error, finished_at=timezone.now(), held_until=None)


def _go_on(change_id: int) -> None:
    """Apply what a pack brought and nothing breaks by."""
    ready = KindChange.objects.filter(pk=change_id, state=State.CHECKED, breaks=0).exclude(pack="")
    for change in ready:
        # Meanwhile somebody may have let it be, or changed the kind.
        with acting_as(system("packs")), suppress(Conflict):
            _apply(change_id, by=change.made_by)


def check_again(*, user: Any, change: KindChange) -> None:
    """Check anew what is checked, for entities may have been mended since.

    :raises Conflict: if it is not checked, or over.
    """
    require(user, VERB)
    if not _look_again(KindChange.objects.filter(pk=change.pk)):
        raise Conflict(_("Only what is checked and waits can be checked again."))


def _look_again(changes: QuerySet[KindChange]) -> int:
    """Let what is checked wait for its check as when it was new; returns how many these are."""
    return changes.filter(state=State.CHECKED).update(state=State.CHECKING, report=[], breaks=0, done=0)


def _check(change: KindChange, mine: QuerySet[KindChange]) -> None:
    if not Kind.objects.filter(name=change.definition, spec=change.before).exists():
        _fail(mine, _("The kind was changed since this was proposed. Propose it again."))
        return
    rows = Entity.objects.filter(kind=change.kind, deleted_at=None)
    mine.update(total=rows.count())
    then = kinds_with({change.definition: change.spec}).by_name(change.kind)
    present = kinds_with({change.definition: change.before}).by_name(change.kind)
    report: dict[tuple[str, str], dict[str, Any]] = {}
    breaks, last = 0, 0
    while page := list(rows.filter(pk__gt=last).order_by("pk")[:PAGE]):
        last = page[-1].pk
        for entity, faults in _broken(page, present, then):
            breaks += 1
            for fault in faults:
                reason = report.get((fault.path, fault.message))
                if reason is None and len(report) < MOST_REASONS:
                    reason = report[fault.path, fault.message] = {
                        "path": fault.path, "reason": fault.message, "count": 0, "refs": []
                    }  # fmt: skip
                if reason is not None:
                    reason["count"] += 1
                    reason["refs"] += [entity.ref] if len(reason["refs"]) < REFS else []
        if not mine.update(done=F("done") + len(page), held_until=timezone.now() + LEASE):
            return  # cancelled meanwhile
    found = sorted(report.values(), key=lambda reason: (-reason["count"], reason["path"]))
    mine.update(state=State.CHECKED, breaks=breaks, report=found, held_until=None, total=F("done"))


def _broken(
    entities: list[Entity], present: KindView, then: KindView
) -> Iterator[tuple[Entity, list[FieldError]]]:
    """The entities of a page that lack something by the new definition which they do not lack now, and what."""
    claims: dict[int, list[Claim]] = {entity.pk: [] for entity in entities}
    for claim in Claim.objects.filter(entity__in=among(claims)).select_related("source").order_by("id"):
        claims[claim.entity_id].append(claim)
    guests, known, values = guests_of(claims), audiences(), values_of(claims)
    for entity in entities:
        failed: list[FieldError] = []
        for claim in claims[entity.pk]:
            if claim.mode == "assert" and not claim.is_shadowed:
                then.definition.upgraded(claim.document, errors=failed)
        now_wrong, then_wrong = (
            _gaps(entity, claims[entity.pk], kind, guests, known, values.get(entity.pk, {}))
            for kind in (present, then)
        )
        lacked = {error.path for error in now_wrong}
        if new := [error for error in [*failed, *then_wrong] if error.path not in lacked]:
            yield entity, list({(error.path, error.message): error for error in new}.values())


def _gaps(
    entity: Entity,
    claims: list[Claim],
    kind: KindView,
    guests: set[int],
    known: dict[str, frozenset[int]],
    values: Mapping[str, Any],
) -> list[FieldError]:
    # Which claims are shadowed is not for a check to change.
    shadowed = [claim.is_shadowed for claim in claims]
    said = said_of(claims, guests=guests, known=known, kind=kind)
    for claim, was in zip(claims, shadowed, strict=True):
        claim.is_shadowed = was
    if said is None:
        return []
    document = with_identity(merge(said, unions=kind.unions), entity, kind)
    return kind.gaps(kind.completed(document, values))


# --- applying and undoing ---------------------------------------------------------------------------------


def apply_change(*, user: Any, change: KindChange, anyway: bool = False) -> KindChange:
    """Serve a checked definition from now on; stored entities follow in the background, served as they are till then.

    :param anyway: also where it would break some.
    :raises Conflict: if it is not checked, would break some, or the kind was changed since.
    """
    require(user, VERB)
    return _apply(change.pk, by=user.label, anyway=anyway)


def _apply(change_id: int, *, by: str, anyway: bool = False) -> KindChange:
    with transaction.atomic():
        locked = KindChange.objects.select_for_update().get(pk=change_id)
        if locked.state != State.CHECKED:
            raise Conflict(
                _("Only what is checked and not applied yet can be applied; this is: %(state)s.")
                % {"state": locked.get_state_display()}
            )
        if locked.breaks and not anyway:
            raise Conflict(
                _(
                    "It would break %(n)d entities. Change it, mend them, or say that it is to be applied anyway."
                )
                % {"n": locked.breaks}
            )
        row = Kind.objects.select_for_update().get(name=locked.definition)
        if row.spec != locked.before:
            raise Conflict(_("The kind was changed since this was checked. Propose it again."))
        _serve(locked, locked.spec, by=by)
        if locked.pack:
            Kind.objects.filter(pk=row.pk).update(pack=locked.pack, pristine=locked.spec)
        event = record_audit(
            "kind.upgrade",
            Subject("kind", locked.definition, f"Kind {locked.definition}"),
            changes=differences({"spec": locked.before}, {"spec": locked.spec}),
        )
        keep_for_undo(event, state={"change": locked.pk})
        locked.state, locked.done, locked.total = State.APPLYING, 0, _entities_of(locked).count()
        locked.save(update_fields=["state", "done", "total"])
    return locked


def _serve(change: KindChange, spec: dict[str, Any], *, by: str) -> None:
    document_types()["KindDefinition"].edit(change.definition, spec, by=by)
    transaction.on_commit(forget_kinds)


def _entities_of(change: KindChange) -> Any:
    return Entity.objects.filter(kind=change.kind, deleted_at=None)


def cancel(*, user: Any, change: KindChange) -> None:
    """Let a proposed change be.

    :raises Conflict: if it is being applied or is over.
    """
    require(user, VERB)
    waiting = KindChange.objects.filter(pk=change.pk, state__in=[State.CHECKING, State.CHECKED])
    if not waiting.update(state=State.CANCELLED, finished_at=timezone.now(), held_until=None):
        raise Conflict(_("This can no longer be cancelled; undo takes an applied version back."))


def progress_of(change: KindChange) -> KindChange:
    """A change with how far it is; what is being applied and has nothing left is applied."""
    if change.state == State.APPLYING:
        left = DirtyEntity.objects.filter(is_to_merge=True, entity__kind=change.kind)
        change.done = max(change.total - left.values("entity_id").distinct().count(), 0)
        if change.done == change.total:
            change.state, change.finished_at = State.APPLIED, timezone.now()
        KindChange.objects.filter(pk=change.pk, state=State.APPLYING).update(
            state=change.state, done=change.done, finished_at=change.finished_at
        )
    return change


def due(*, now: datetime) -> Iterable[int]:
    """Numbers of the changes that wait for somebody to check them; those that are applied are brought up to date."""
    for change in KindChange.objects.filter(state=State.APPLYING):
        progress_of(change)
    waiting = KindChange.objects.filter(Q(held_until=None) | Q(held_until__lt=now), state=State.CHECKING)
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def _change_of(undoable: Undoable) -> KindChange:
    change = KindChange.objects.filter(pk=undoable.state["change"]).first()
    row = Kind.objects.filter(name=change.definition).first() if change else None
    if change is None or row is None:
        raise CannotUndo(_("The kind is gone, so there is nothing to undo."))
    if row.spec != change.spec:
        raise CannotUndo(_("The kind was changed since. Undo that first."))
    return change


def _title(undoable: Undoable) -> str:
    change = KindChange.objects.filter(pk=undoable.state["change"]).first()
    if change is None:
        return _("Changed a kind")
    return _("Changed the kind %(kind)s to version %(version)d") % {
        "kind": change.spec["kind"],
        "version": change.spec.get("version", 1),
    }


def _preview(undoable: Undoable, _user: User) -> Preview:
    change = _change_of(undoable)
    words = {"kind": change.spec["kind"], "version": change.before.get("version", 1)}
    return Preview(
        steps=[
            _("%(kind)s is again as it was defined in version %(version)d.") % words,
            _("Its entities follow in the background, from what their sources say: nothing of that is lost."),
        ],
        later=later_changes(undoable, uids=_entities_of(change).values("uid"), any_aspect=True),
        of_later=_("What they said of these entities stays, also of fields that only the newer version has."),
    )


def _undo(undoable: Undoable, user: User) -> None:
    change = _change_of(undoable)
    require(user, VERB)
    _serve(change, change.before, by=user.label)
    KindChange.objects.filter(pk=change.pk).update(state=State.UNDONE, finished_at=timezone.now())


def _within(viewer: Viewer) -> Q:
    return Q() if can(viewer, VERB) else Q(pk__in=())


def register() -> None:
    """Make known how a new version of a kind is undone."""
    register_undo(
        Undo(
            verb="kind.upgrade",
            title=_title,
            icon="versions",
            within=_within,
            preview=_preview,
            undo=_undo,
        )
    )
