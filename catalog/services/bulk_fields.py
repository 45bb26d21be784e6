"""One field of many things, set, added to, taken from or cleared: what would change, and the change as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson
from django.db.models.fields.json import KeyTransform
from django.utils import timezone
from django.utils.translation import gettext as _

from access.services.audit import record_audit
from base.errors import InvalidInput
from base.paths import value_at
from catalog.bulk import among
from catalog.kinds import current_kinds
from catalog.models import Claim, ClaimMode, Entity, Rank, Served
from catalog.services.bulk_plans import BulkPlan, Outcome, Row, carry_out, many, writable
from catalog.services.edit import (
    Words,
    check_override,
    keep_words,
    override_id,
    parts_of,
    reasons_of,
    said_on,
    say_words,
    source_of_person,
    with_value,
    without_reason,
    without_value,
    word_in,
)
from catalog.services.render import A_WHILE, render_dirty

Action = Literal["set", "add", "remove", "clear"]
ACTIONS: tuple[str, ...] = get_args(Action)


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a field.

    :ivar path: dotted, such as `spec.lifecycle` or `metadata.tags`.
    :ivar value: of `set` any, of `add` and `remove` a list.
    """

    path: str
    action: Action
    value: Any = None


@dataclass(frozen=True, slots=True)
class PlannedField(Row):
    """What the change does to one thing.

    :ivar before, after: what the field holds; None for nothing.
    :ivar said_by: who says what it holds now.
    :ivar why: why it stays as it is, where that needs saying.
    :ivar word: what the person says of the field from now on; None for nothing any more.
    """

    before: Any = None
    after: Any = None
    said_by: str = ""
    why: str = ""
    word: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class FieldPlan(BulkPlan[PlannedField]):
    """What a change of a field does to many things."""

    change: Change
    rows: list[PlannedField]

    def said(self) -> list[Any]:
        change = [self.change.path, self.change.action, self.change.value]
        return [change, *([str(r.entity.uid), r.outcome, r.before, r.after] for r in self.rows)]


def check_change(path: str, action: str, value: Any) -> Change:
    """What somebody wants done.

    :raises InvalidInput: if it makes no sense, whatever it is done to.
    """
    parts_of(path)
    if action not in ACTIONS:
        expected = ", ".join(ACTIONS)
        raise InvalidInput(_("Expected is one of: %s.") % expected)
    if action in {"add", "remove"}:
        value = value if isinstance(value, list) else [value]
        value = list({orjson.dumps(one): one for one in value if one not in (None, "")}.values())
        if not value:
            raise InvalidInput(_("Say what is added or removed."))
    elif action == "set" and value in (None, "", []):
        raise InvalidInput(_("Say what it is set to; to take it away, clear it."))
    return Change(path, action, None if action == "clear" else value)  # type: ignore[arg-type]  # checked above


def plan_fields(*, user: Any, entities: Sequence[Entity], change: Change) -> FieldPlan:
    """What a change would do; writes nothing.

    :param entities: that the person sees.
    :raises InvalidInput: if there are too many.
    """
    mine, ids = writable(user, entities), [entity.pk for entity in entities]
    documents = dict(Served.objects.filter(entity_id__in=among(ids)).values_list("entity_id", "document"))
    parts = parts_of(change.path)
    people, others = _voices(ids, parts)
    fits: dict[tuple[str, bytes], str] = {}
    rows = []
    for entity in entities:
        if entity.pk not in mine:
            rows.append(PlannedField(entity, Outcome.FORBIDDEN))
            continue
        before = value_at(orjson.loads(documents[entity.pk]) if entity.pk in documents else {}, parts)
        row = _planned(user, entity, change, parts, before, people[entity.pk], others.get(entity.pk, []))
        if row.is_changing and row.word is not None:
            key = (entity.kind, orjson.dumps(row.word))
            if key not in fits:
                fits[key] = _why_unfit(entity, parts, row.word)
            if fits[key]:
                row = PlannedField(entity, Outcome.UNFIT, before, said_by=row.said_by, why=fits[key])
        rows.append(row)
    return FieldPlan(change, rows)


def _voices(
    ids: Sequence[int], parts: Sequence[str]
) -> tuple[dict[int, list[Claim]], dict[int, list[tuple[str, Any]]]]:
    """What people override of each thing, and who else says what of the field; the strongest first."""
    rows = Claim.objects.filter(entity_id__in=among(ids, "bigint"), is_shadowed=False)
    amending = {"rank": Rank.PERSON, "mode": ClaimMode.AMEND}
    people: dict[int, list[Claim]] = defaultdict(list)
    for claim in rows.filter(**amending).select_related("source").order_by("source_id", "id"):
        people[claim.entity_id].append(claim)
    said: Any = "document"
    for part in parts:
        said = KeyTransform(part, said)
    others: dict[int, list[tuple[str, Any]]] = defaultdict(list)
    found = rows.exclude(**amending).annotate(said=said).exclude(said=None)
    for pk, label, value in found.order_by("rank", "source_id", "id").values_list(
        "entity_id", "source__label", "said"
    ):
        others[pk].append((label, value))
    return people, others


def _planned(
    user: Any,
    entity: Entity,
    change: Change,
    parts: list[str],
    before: Any,
    people: list[Claim],
    others: list[tuple[str, Any]],
) -> PlannedField:
    """What a change does to one thing that the person may change."""
    is_union = tuple(parts) in current_kinds().unions_of(entity.kind)
    said = [
        (claim, value_at(claim.document, parts))
        for claim in people
        if said_on(claim.document, parts) is not None
    ]
    me = f"person:{user.pk}"
    own = next((value for claim, value in said if claim.source.key == me), None)
    counts = said[0][0].source if said else None  # of people's words
    said_by = counts.label if counts else others[0][0] if others else ""
    if change.action in {"add", "remove"} and before is not None and not isinstance(before, list):
        return PlannedField(entity, Outcome.UNFIT, before, said_by=said_by, why=_("It is no list."))
    if is_union:
        return _of_union(entity, change, before, own, [v for _l, v in others], said_by)
    after = _after(change, before)
    if after == before or (after is None and before in (None, "", [], {})):
        return PlannedField(entity, Outcome.SAME, before, before, said_by)
    if counts is not None and counts.key != me:
        return PlannedField(entity, Outcome.HELD, before, before, said_by)
    outcome = Outcome.REPLACE if counts is not None else Outcome.OVERRIDE if others else Outcome.SET
    return PlannedField(entity, outcome, before, after, said_by, word=after)


def _of_union(
    entity: Entity, change: Change, before: Any, own: Any, others: list[Any], said_by: str
) -> PlannedField:
    """Of a list that sources add to, a person says what they add."""
    mine, now = list(own or []), list(before or [])
    theirs = [one for value in others if isinstance(value, list) for one in value]
    if change.action in {"set", "clear"}:
        why = _("All sources add to this list: add to it, or remove what you added.")
        return PlannedField(entity, Outcome.UNFIT, before, said_by=said_by, why=why)
    if change.action == "add":
        fresh = [one for one in change.value if one not in now]
        if not fresh:
            return PlannedField(entity, Outcome.SAME, before, before, said_by)
        outcome = Outcome.OVERRIDE if theirs else Outcome.REPLACE if mine else Outcome.SET
        return PlannedField(entity, outcome, before, [*now, *fresh], said_by, word=[*mine, *fresh])
    gone = [one for one in change.value if one in now]
    if not gone:
        return PlannedField(entity, Outcome.SAME, before, before, said_by)
    if stays := [one for one in gone if one in theirs or one not in mine]:
        names = ", ".join(map(str, stays))
        why = _("Other sources list %(what)s, which cannot be taken away here.") % {"what": names}
        return PlannedField(entity, Outcome.UNFIT, before, said_by=said_by, why=why)
    left = [one for one in mine if one not in gone]
    after = [one for one in now if one not in gone]
    return PlannedField(entity, Outcome.REPLACE, before, after or None, said_by, word=left or None)


def _after(change: Change, before: Any) -> Any:
    now = before if isinstance(before, list) else []
    match change.action:
        case "add":
            return [*now, *(one for one in change.value if one not in now)]
        case "remove":
            left = [one for one in now if one not in change.value]
            return left if len(left) < len(now) else before
    return change.value


def _why_unfit(entity: Entity, parts: list[str], value: Any) -> str:
    try:
        check_override(entity, parts, value)
    except InvalidInput as error:
        return " ".join(str(one.message) for one in error.errors) or error.message
    return ""


def change_fields(
    *, user: Any, entities: Sequence[Entity], change: Change, reason: str = "", expected: str = ""
) -> FieldPlan:
    """Do it, by the word of a person, as one change that can be undone; what cannot be changed is named and left.

    :param expected: the mark of the plan that the person saw; empty for any.
    :returns: what was done.
    :raises StalePlan: if something changed since.
    :raises: as `plan_fields` does.
    """
    plan = change_apart(user=user, entities=entities, change=change, reason=reason, expected=expected)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return plan


def change_apart(
    *, user: Any, entities: Sequence[Entity], change: Change, reason: str, expected: str
) -> FieldPlan:
    """The same for a caller who renders what it changed."""
    return carry_out(
        lambda found: plan_fields(user=user, entities=found, change=change),
        lambda plan: _write(user, plan, reason),
        entities=entities,
        expected=expected,
    )


def _write(user: Any, plan: FieldPlan, reason: str) -> None:
    source, path, parts = source_of_person(user), plan.change.path, parts_of(plan.change.path)
    changing = plan.changing
    named = {override_id(row.entity): row.entity.pk for row in changing}
    known: dict[int, list[Claim]] = defaultdict(list)
    rows = Claim.objects.filter(
        external_id__in=among(named, "text"), rank=Rank.PERSON, mode=ClaimMode.AMEND
    ).select_related("source")
    for claim in rows.order_by("id"):
        known[named[claim.external_id]].append(claim)
    words, before = [], []
    for row in changing:
        before.append(word_in(known[row.entity.pk], row.entity, path))
        claim_ = next((c for c in known[row.entity.pk] if c.source_id == source.pk), None)
        document, reasons = (claim_.document, reasons_of(claim_)) if claim_ else ({}, {})
        reasons = without_reason(reasons, path)
        if plan.change.action == "remove" and row.word is None:
            # All of theirs went, of a list that others add to.
            document, _removed = without_value(document, parts)
        else:
            document = with_value(document, parts, row.word)
            reasons[path] = reason
        words.append(Words(source, row.entity, document, reasons))
    say_words(words, by=user.label)
    count = len(changing)
    event = record_audit(
        "entity.bulk-fields",
        many(count),
        changes={
            "path": path,
            "action": plan.change.action,
            "value": plan.change.value,
            "reason": reason,
            "count": count,
        },
    )
    keep_words(event, before)


def fields_of(kinds: Iterable[str]) -> dict[str, str]:
    """The fields that people may change of things of some kinds, with their titles: all that any of these has."""
    known = current_kinds()
    found = {
        "metadata.title": _("Title"),
        "metadata.description": _("Description"),
        "metadata.tags": _("Tags"),
    }
    for kind in map(known.by_name, filter(known.__contains__, kinds)):
        for name, one in (kind.definition.schema.source.get("properties") or {}).items():
            if "." in name or name in kind.computed_names:
                continue
            if isinstance(one, Mapping) and one.get("type") != "object":
                found.setdefault(f"spec.{name}", _(str(one["title"])) if one.get("title") else name)
    return found
