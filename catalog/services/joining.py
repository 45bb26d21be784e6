"""A person's word that two entities are one thing, and its taking back.

What is said of the loser counts for the winner from then on; its names and its uid lead there. Its claims are noted
(`RedirectedClaim`), so that taking the word back gives each entity its own again.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access.permissions import require
from access.services.audit import record_audit
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
from catalog.services.homes import join
from catalog.services.ingest import lock_entities, remerge
from catalog.services.render import A_WHILE, render_dirty


def merge_into(*, user: Any, loser: Entity, winner: Entity, reason: str = "") -> Redirect:
    """Say that one entity is another.

    :param loser: becomes a tombstone whose names and uid lead to the winner.
    :raises Forbidden: without `entity.write` on both.
    :raises InvalidInput: if they are one already, or of two kinds.
    :raises Conflict: if one of them is gone meanwhile.
    """
    for entity in (loser, winner):
        require(user, "entity.write", entity)
    if loser.pk == winner.pk:
        raise InvalidInput(_("%(ref)s cannot be merged into itself.") % {"ref": loser.ref})
    if loser.kind != winner.kind:
        raise InvalidInput(
            _("Only entities of one kind can be merged; %(loser)s is a %(a)s and %(winner)s a %(b)s.")
            % {"loser": loser.ref, "a": loser.kind, "winner": winner.ref, "b": winner.kind}
        )
    now = timezone.now()
    with transaction.atomic():
        locked = {entity.pk: entity for entity in lock_entities({loser.pk, winner.pk})}
        loser, winner = locked[loser.pk], locked[winner.pk]
        for entity in (loser, winner):
            if not entity.is_alive:
                raise Conflict(_("%(ref)s is gone meanwhile.") % {"ref": entity.ref})
        Redirect.objects.filter(winner=loser).update(winner=winner)  # who led to the loser leads on
        redirect = Redirect.objects.create(
            loser=loser, winner=winner, ref=loser.ref, decided_by=user.label, decided_at=now, reason=reason
        )
        claims = list(Claim.objects.filter(entity=loser, redirected=None))
        insert([RedirectedClaim(claim=claim, redirect=redirect) for claim in claims])
        _hand_over_decisions(loser, winner)
        mark_dirty(sharers_of(claim.pk for claim in claims) | {loser.pk, winner.pk})
        join(loser, winner)
        remerge(entity_ids={loser.pk, winner.pk}, at=now, by=user.label)
        record_audit("entity.merge", winner, changes={"loser": redirect.ref, "reason": reason})
    render_dirty(at=now, limit=A_WHILE)
    return redirect


def _hand_over_decisions(loser: Entity, winner: Entity) -> None:
    """What a person said of the loser's ties is said of the winner's, unless something is said of those already."""
    for end in ("source", "target"):
        decided = Tie.objects.filter(**{end: loser}).exclude(state=TieState.AUTO)
        for tie in decided.select_related("source", "target"):
            ends = {"source": tie.source, "target": tie.target, end: winner}
            known, is_new = Tie.objects.get_or_create(**ends, type=tie.type, defaults={"key": tie.key})
            if is_new or known.state == TieState.AUTO:
                for name in ("state", "decided_by", "decided_at", "reason"):
                    setattr(known, name, getattr(tie, name))
                known.save()


def part(*, user: Any, redirect: Redirect) -> Entity:
    """Take a merge back: what was said of the loser is its own again, and it regains its name if that is free.

    :returns: the entity that is back.
    :raises Forbidden: without `entity.write` on both.
    :raises NotFound: if it was taken back already.
    """
    for entity in (redirect.winner, redirect.loser):
        require(user, "entity.write", entity)
    now = timezone.now()
    with transaction.atomic():
        ids = {redirect.loser_id, redirect.winner_id}
        locked = {entity.pk: entity for entity in lock_entities(ids)}
        loser, winner = locked[redirect.loser_id], locked[redirect.winner_id]
        found = Redirect.objects.filter(pk=redirect.pk).select_for_update().first()
        if found is None:
            raise NotFound(_("%(ref)s is no longer merged into anything.") % {"ref": redirect.ref})
        claims = set(found.claims.values_list("claim_id", flat=True))
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
        # The names that it had before are told by its history.
        names = Revision.objects.filter(entity_uid=loser.uid).values("entity_ref")
        Alias.objects.filter(entity=winner, ref__in=names).exclude(ref=redirect.ref).update(entity=loser)
        Alias.objects.filter(ref=redirect.ref, entity=winner).delete()
        remerge(entity_ids=ids, at=now, by=user.label)
        record_audit("entity.part", winner, changes={"loser": redirect.ref})
    render_dirty(at=now, limit=A_WHILE)
    loser.refresh_from_db()
    return loser
