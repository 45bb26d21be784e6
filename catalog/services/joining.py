"""A person's word that two entities are one thing, and its taking back.

What is said of the loser counts for the winner from then on; its names and its uid lead there. Its claims are noted
(`RedirectedClaim`), so that taking the word back gives each entity its own again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import Undoable
from access.permissions import require
from access.services.audit import record_audit
from access.services.undo import keep_for_undo, note_undone
from base.errors import Conflict, InvalidInput, NotFound
from catalog.bulk import among, insert
from catalog.models import (
    Activity,
    Alias,
    Claim,
    Entity,
    EntityKey,
    Redirect,
    RedirectedClaim,
    Revision,
    Tie,
    TieState,
)
from catalog.services.dirty import mark_dirty, sharers_of
from catalog.services.edit import decision_of, restore_decision
from catalog.services.homes import join
from catalog.services.ingest import lock_entities, remerge
from catalog.services.render import A_WHILE, render_dirty

MERGED = "merged"  # what of an entity a merge and its taking back concern


def merge_into(*, user: Any, loser: Entity, winner: Entity, reason: str = "") -> Redirect:
    """Say that one entity is another.

    :param loser: becomes a tombstone whose names and uid lead to the winner.
    :raises Forbidden: without `entity.write` on both.
    :raises InvalidInput: if they are one already, or of two kinds.
    :raises Conflict: if one of them is gone meanwhile.
    """
    now = timezone.now()
    redirect = merge_apart(user=user, loser=loser, winner=winner, reason=reason, at=now)
    render_dirty(at=now, limit=A_WHILE)
    return redirect


def merge_apart(*, user: Any, loser: Entity, winner: Entity, reason: str, at: datetime) -> Redirect:
    """The same for a caller who renders what it changed."""
    for entity in (loser, winner):
        require(user, "entity.write", entity)
    if loser.pk == winner.pk:
        raise InvalidInput(_("%(ref)s cannot be merged into itself.") % {"ref": loser.ref})
    if loser.kind != winner.kind:
        raise InvalidInput(
            _("Only entities of one kind can be merged; %(loser)s is a %(a)s and %(winner)s a %(b)s.")
            % {"loser": loser.ref, "a": loser.kind, "winner": winner.ref, "b": winner.kind}
        )
    with transaction.atomic():
        locked = {entity.pk: entity for entity in lock_entities({loser.pk, winner.pk})}
        loser, winner = locked[loser.pk], locked[winner.pk]
        for entity in (loser, winner):
            if not entity.is_alive:
                raise Conflict(_("%(ref)s is gone meanwhile.") % {"ref": entity.ref})
        before = list(Redirect.objects.filter(winner=loser).values_list("loser__uid", flat=True))
        Redirect.objects.filter(winner=loser).update(winner=winner)  # who led to the loser leads on
        redirect = Redirect.objects.create(
            loser=loser, winner=winner, ref=loser.ref, decided_by=user.label, decided_at=at, reason=reason
        )
        claims = list(Claim.objects.filter(entity=loser, redirected=None))
        insert([RedirectedClaim(claim=claim, redirect=redirect) for claim in claims])
        ties = _hand_over_decisions(loser, winner)
        mark_dirty(sharers_of(claim.pk for claim in claims) | {loser.pk, winner.pk})
        join(loser, winner)
        remerge(entity_ids={loser.pk, winner.pk}, at=at, by=user.label)
        note_undone(verb="entity.part", state={"loser": str(loser.uid)}, by=user.label, now=at)
        event = record_audit("entity.merge", winner, changes={"loser": redirect.ref, "reason": reason})
        keep_for_undo(
            event,
            state={
                "loser": str(loser.uid),
                "winner": str(winner.uid),
                "before": [str(uid) for uid in before],
                "ties": ties,
            },
            things=[(loser.uid, MERGED), (winner.uid, MERGED)],
        )
    return redirect


def _hand_over_decisions(loser: Entity, winner: Entity) -> list[dict[str, Any]]:
    """What a person said of the loser's ties is said of the winner's, unless something is said of those already.

    :returns: what was decided of those ties before, as `_take_back_decisions` takes it.
    """
    handed = []
    for end in ("source", "target"):
        decided = Tie.objects.filter(**{end: loser}).exclude(state=TieState.AUTO)
        for tie in decided.select_related("source", "target"):
            ends = {"source": tie.source, "target": tie.target, end: winner}
            known, is_new = Tie.objects.get_or_create(**ends, type=tie.type, defaults={"key": tie.key})
            if is_new or known.state == TieState.AUTO:
                handed.append(
                    {
                        "source": str(known.source.uid),
                        "type": known.type,
                        "target": str(known.target.uid),
                        "before": None if is_new else decision_of(known),
                        "after": decision_of(tie),
                    }
                )
                for name in ("state", "decided_by", "decided_at", "reason"):
                    setattr(known, name, getattr(tie, name))
                known.save()
    return handed


def _take_back_decisions(ties: Iterable[dict[str, Any]]) -> None:
    """What was decided of the winner's ties by the merge alone is not, unless a person decided anew since."""
    for one in ties:
        tie = Tie.objects.filter(
            source__uid=one["source"], type=one["type"], target__uid=one["target"]
        ).first()
        if tie is not None and decision_of(tie) == one["after"]:
            restore_decision(source=tie.source, type=tie.type, target=tie.target, before=one["before"])


def part(*, user: Any, redirect: Redirect) -> Entity:
    """Take a merge back: what was said of the loser is its own again, and it regains its name if that is free.

    What was merged into it before it was merged itself leads to it again.

    :returns: the entity that is back.
    :raises Forbidden: without `entity.write` on both.
    :raises NotFound: if it was taken back already.
    """
    now = timezone.now()
    loser = part_apart(user=user, redirect=redirect, at=now)
    render_dirty(at=now, limit=A_WHILE)
    loser.refresh_from_db()
    return loser


def part_apart(*, user: Any, redirect: Redirect, at: datetime) -> Entity:
    """The same for a caller who renders what it changed."""
    for entity in (redirect.winner, redirect.loser):
        require(user, "entity.write", entity)
    with transaction.atomic():
        ids = {redirect.loser_id, redirect.winner_id}
        locked = {entity.pk: entity for entity in lock_entities(ids)}
        loser, winner = locked[redirect.loser_id], locked[redirect.winner_id]
        found = Redirect.objects.filter(pk=redirect.pk).select_for_update().first()
        if found is None:
            raise NotFound(_("%(ref)s is no longer merged into anything.") % {"ref": redirect.ref})
        state = _kept_of(loser)
        led = list(Redirect.objects.filter(loser__uid__in=state.get("before", ()), winner=winner))
        claims = set(
            RedirectedClaim.objects.filter(redirect__in=[found, *led]).values_list("claim_id", flat=True)
        )
        Redirect.objects.filter(pk__in=[one.pk for one in led]).update(winner=loser)
        mark_dirty(sharers_of(claims) | ids)
        Claim.objects.filter(id__in=among(claims)).update(entity=loser)
        keys = EntityKey.objects.filter(claim_id__in=among(claims))
        keys.update(entity=loser)
        known_by = set(keys.filter(is_identity=True).values_list("key", flat=True))
        known_by -= set(
            EntityKey.objects.filter(entity=winner, is_identity=True).values_list("key", flat=True)
        )
        Activity.objects.filter(subject_uid=winner.uid, keys__overlap=list(known_by)).update(
            subject_uid=loser.uid, subject_ref=loser.ref, namespace=loser.namespace
        )
        found.delete()
        _take_back_decisions(state.get("ties", ()))
        # The names that it had before are told by its history.
        names = Revision.objects.filter(entity_uid=loser.uid).values("entity_ref")
        own = Q(ref__in=names) | Q(ref__in=[one.ref for one in led])
        Alias.objects.filter(own, entity=winner).exclude(ref=redirect.ref).update(entity=loser)
        Alias.objects.filter(ref=redirect.ref, entity=winner).delete()
        remerge(entity_ids=ids, at=at, by=user.label)
        note_undone(verb="entity.merge", state={"loser": str(loser.uid)}, by=user.label, now=at)
        event = record_audit("entity.part", winner, changes={"loser": redirect.ref})
        keep_for_undo(
            event,
            state={"loser": str(loser.uid), "winner": str(winner.uid), "reason": redirect.reason},
            things=[(loser.uid, MERGED), (winner.uid, MERGED)],
        )
    return loser


def _kept_of(loser: Entity) -> dict[str, Any]:
    """What was kept when an entity was merged, if that can still be undone."""
    rows = Undoable.objects.filter(event__verb="entity.merge", things__uid=loser.uid)
    rows = rows.filter(state__loser=str(loser.uid)).order_by("-event_id")
    state: dict[str, Any] = rows.values_list("state", flat=True).first() or {}
    return state
