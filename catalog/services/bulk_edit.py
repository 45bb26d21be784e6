"""Owners set for many things at once: what would change, the change, and its undo as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import AuditEvent
from access.permissions import visible
from access.services.audit import record_audit
from access.services.undo import keep_for_undo
from base.errors import InvalidInput
from catalog.bulk import among
from catalog.kinds import current_kinds
from catalog.models import Claim, ClaimMode, Entity, Rank, Source
from catalog.services.bulk_plans import BulkPlan, Outcome, Row, carry_out, many, writable
from catalog.services.edit import (
    Words,
    check_override,
    keep_words,
    override_id,
    reasons_of,
    say_words,
    source_of_person,
    with_value,
    without_reason,
    without_value,
    word_in,
)
from catalog.services.ingest import lock_entities
from catalog.services.naming import OWNERS
from catalog.services.render import A_WHILE, render_dirty

PATH = "spec.owner"
_PARTS = ["spec", "owner"]


@dataclass(frozen=True, slots=True)
class Planned(Row):
    """What setting its owner does to one thing.

    :ivar before: ref of the owner now; empty for none.
    :ivar said_by: who says so.
    """

    before: str
    said_by: str


@dataclass(frozen=True, slots=True)
class Plan(BulkPlan[Planned]):
    """What setting an owner does."""

    owner: Entity
    rows: list[Planned]

    def said(self) -> list[Any]:
        return [self.owner.ref, *([str(row.entity.uid), row.outcome, row.before] for row in self.rows)]


@dataclass(frozen=True, slots=True)
class _Voice:
    """Who says who the owner is, the strongest alone."""

    source: Source
    is_person: bool


def plan_owners(*, user: Any, entities: Sequence[Entity], owner: Entity) -> Plan:
    """What setting an owner would do; writes nothing.

    :param entities: that the person sees.
    :raises InvalidInput: if there are too many, or the owner is no group or user.
    """
    mine = writable(user, entities)
    if owner.kind not in OWNERS:
        raise InvalidInput(
            _("%(ref)s is a %(kind)s; choose a group or a user.") % {"ref": owner.ref, "kind": owner.kind}
        )
    voices = _voices(entity.pk for entity in entities)
    fitting = {kind: _can_own(kind, entities, owner) for kind in {entity.kind for entity in entities}}
    rows = []
    for entity in entities:
        voice = voices.get(entity.pk)
        if entity.pk not in mine:
            outcome = Outcome.FORBIDDEN
        elif not fitting[entity.kind]:
            outcome = Outcome.UNFIT
        elif entity.owner == owner.ref:
            outcome = Outcome.SAME
        elif voice is None:
            outcome = Outcome.SET
        elif not voice.is_person:
            outcome = Outcome.OVERRIDE
        else:
            is_own = voice.source.key == f"person:{user.pk}"
            outcome = Outcome.REPLACE if is_own else Outcome.HELD
        rows.append(Planned(entity, outcome, entity.owner, voice.source.label if voice else ""))
    return Plan(owner, rows)


def _can_own(kind: str, entities: Sequence[Entity], owner: Entity) -> bool:
    """Whether things of a kind can have this owner."""
    kinds = current_kinds()
    rules = kinds.by_name(kind).definition.relations if kind in kinds else ()
    if not any(list(rule.path) == _PARTS for rule in rules):
        return False
    try:
        check_override(next(e for e in entities if e.kind == kind), _PARTS, owner.ref)
    except InvalidInput:
        return False
    return True


def _voices(entity_ids: Iterable[int]) -> dict[int, _Voice]:
    rows = (
        Claim.objects.filter(
            entity_id__in=among(entity_ids), is_shadowed=False, document__spec__has_key="owner"
        )
        .select_related("source")
        .only("entity_id", "rank", "mode", "source__key", "source__label")
        .order_by("-rank", "-source_id", "-id")  # the strongest comes last, and stays
    )
    return {
        row.entity_id: _Voice(row.source, row.rank == Rank.PERSON and row.mode == ClaimMode.AMEND)
        for row in rows
    }


def set_owners(
    *, user: Any, entities: Sequence[Entity], owner: Entity, reason: str = "", expected: str = ""
) -> Plan:
    """Set the owner of many things, by the word of a person; what cannot be changed is named and left.

    :param expected: the mark of the plan that the person saw; empty for any.
    :returns: what was done.
    :raises StalePlan: if something changed since.
    :raises: as `plan_owners` does.
    """
    plan = set_apart(user=user, entities=entities, owner=owner, reason=reason, expected=expected)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return plan


def set_apart(*, user: Any, entities: Sequence[Entity], owner: Entity, reason: str, expected: str) -> Plan:
    """The same for a caller who renders what it changed."""
    return carry_out(
        lambda found: plan_owners(user=user, entities=found, owner=owner),
        lambda plan: _write(user, plan, reason),
        entities=entities,
        expected=expected,
    )


def _write(user: Any, plan: Plan, reason: str) -> None:
    source = source_of_person(user)
    changing = [row.entity for row in plan.changing]
    known = _overrides(source.key, changing)
    words, before = [], []
    for entity in changing:
        claim = known.get(entity.pk)
        document, reasons = (claim.document, reasons_of(claim)) if claim else ({}, {})
        before.append(
            {
                "uid": str(entity.uid),
                "ref": entity.ref,
                "before": _word(document),
                "why": reasons.get(PATH, ""),
            }
        )
        document = with_value(document, _PARTS, plan.owner.ref)
        words.append(Words(source, entity, document, reasons | {PATH: reason}))
    say_words(words, by=user.label)
    count = len(changing)
    event = record_audit(
        "entity.bulk-edit",
        many(count),
        changes={
            "path": PATH,
            "value": plan.owner.ref,
            "reason": reason,
            "count": count,
            "source": source.key,
            "entities": before,
        },
    )
    things = [(entity.uid, PATH) for entity in changing]
    keep_for_undo(event, state={}, things=things)  # the event holds all that its undo needs


def _overrides(source_key: str, entities: Iterable[Entity]) -> dict[int, Claim]:
    """What a person overrides of some entities, by their keys, also of such as are merged into others."""
    named = {override_id(entity): entity.pk for entity in entities}
    rows = Claim.objects.filter(source__key=source_key, external_id__in=among(named, "text"))
    return {named[claim.external_id]: claim for claim in rows.select_related("source")}


def _word(document: Mapping[str, Any]) -> list[Any]:
    """What a document says of the owner, as a list of one, for null is a word too; or of none."""
    spec = document.get("spec")
    return [spec["owner"]] if isinstance(spec, dict) and "owner" in spec else []


# --- undo -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Undone:
    """What the undo of a bulk edit does.

    :ivar restored: of which it takes the change back.
    :ivar skipped: refs of which it does not, with the reason.
    """

    restored: list[Entity]
    skipped: list[tuple[str, str]]


def plan_undo(*, user: Any, event: AuditEvent) -> Undone:
    """What undoing a bulk edit would do; writes nothing.

    :raises InvalidInput: if the event is none.
    """
    rows, skipped = _undoing(user, event)
    return Undone([entity for entity, _claim, _facts in rows], skipped)


def undo_apart(*, user: Any, event: AuditEvent) -> Undone:
    """Take a bulk edit back: what its person overrode before counts again. The caller renders what it changed.

    What was edited later, and what the user may not change, stays as it is and is named.

    :raises InvalidInput: if the event is none.
    """
    with transaction.atomic():
        uids = [facts["uid"] for facts in _facts_of(event)]
        list(lock_entities(set(Entity.objects.filter(uid__in=uids).values_list("pk", flat=True))))
        rows, skipped = _undoing(user, event)
        words = []
        said = [word_in([claim], entity, PATH) for entity, claim, _facts in rows]
        for entity, claim, facts in rows:
            reasons = without_reason(reasons_of(claim), PATH)
            if facts["before"]:
                document = with_value(claim.document, _PARTS, facts["before"][0])
                reasons[PATH] = facts["why"]
            else:
                document, _removed = without_value(claim.document, _PARTS)
            words.append(Words(claim.source, entity, document, reasons))
        if rows:
            say_words(words, by=user.label)
            count = len(rows)
            undo = record_audit(
                "entity.bulk-edit-undo",
                many(count),
                changes={"of": event.pk, "count": count, "skipped": [ref for ref, _why in skipped]},
            )
            keep_words(undo, said)
    return Undone([entity for entity, _claim, _facts in rows], skipped)


def _facts_of(event: AuditEvent) -> list[dict[str, Any]]:
    if event.verb != "entity.bulk-edit":
        raise InvalidInput(_("This is no bulk edit."))
    return list(event.changes["entities"])


def _undoing(
    user: Any, event: AuditEvent
) -> tuple[list[tuple[Entity, Claim, dict[str, Any]]], list[tuple[str, str]]]:
    """What can be taken back of a bulk edit, and what not, with the reason."""
    facts = _facts_of(event)
    rows = Entity.objects.filter(uid__in=[one["uid"] for one in facts])
    entities = {str(entity.uid): entity for entity in rows.defer("tokens")}
    mine = set(visible(user, rows, "entity.write").values_list("pk", flat=True))
    claims = _overrides(event.changes["source"], entities.values())
    found: list[tuple[Entity, Claim, dict[str, Any]]] = []
    skipped: list[tuple[str, str]] = []
    for one in facts:
        entity = entities.get(one["uid"])
        claim = claims.get(entity.pk) if entity is not None else None
        if entity is None or entity.pk not in mine:
            skipped.append((one["ref"], _("You may not change it, or it is no longer there.")))
        elif claim is None or _word(claim.document) != [event.changes["value"]]:
            skipped.append((one["ref"], _("It was edited later.")))
        else:
            found.append((entity, claim, one))
    return found, skipped
