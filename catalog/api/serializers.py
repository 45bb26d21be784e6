"""Shapes of the catalog's API: what goes in is validated, what comes out is described."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from base.answers import plain
from base.openapi import list_of
from catalog.deletion import Deletion
from catalog.failing import Cause, Failure
from catalog.models import (
    PROBLEM_TYPES,
    Activity,
    Alias,
    Entity,
    FeedItem,
    Problem,
    Revision,
    Tie,
)
from catalog.services.bulk_edit import Planned
from catalog.services.bulk_fields import ACTIONS, PlannedField
from catalog.services.bulk_plans import MOST_OF_PROGRAMS, Outcome
from catalog.services.problems import LONGEST_SNOOZE
from catalog.services.restoring import Restoring


class RelationOut(serializers.Serializer[Any]):
    type = serializers.CharField()
    targetRef = serializers.CharField()


class EntityOut(serializers.Serializer[Any]):
    """An entity: the Backstage envelope with its relations."""

    apiVersion = serializers.CharField(required=False)
    kind = serializers.CharField(required=False)
    metadata = serializers.DictField(required=False)
    spec = serializers.DictField(required=False)
    relations = RelationOut(many=True, required=False)


class EntityIn(serializers.Serializer[Any]):
    """An entity's document, as a catalog file has it."""

    apiVersion = serializers.CharField()
    kind = serializers.CharField()
    metadata = serializers.DictField()
    spec = serializers.DictField(required=False)


class EntitiesIn(serializers.Serializer[Any]):
    """Several entities at once."""

    entities = serializers.ListField(child=EntityIn(), max_length=1_000)


class FieldErrorOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    message = serializers.CharField()
    expected = serializers.CharField(required=False)
    got = serializers.CharField(required=False)


class UpsertResultOut(serializers.Serializer[Any]):
    ref = serializers.CharField(allow_blank=True)
    outcome = serializers.ChoiceField(["new", "changed", "unchanged", "accepted", "refused"])
    uid = serializers.UUIDField(allow_null=True)
    errors = FieldErrorOut(many=True)  # type: ignore[assignment]


class UpsertOut(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    refused = serializers.IntegerField()
    results = UpsertResultOut(many=True)


class OverrideIn(serializers.Serializer[Any]):
    """Overrides by dotted path; a null value takes the override of that path back."""

    overrides = serializers.DictField(child=serializers.JSONField(allow_null=True), allow_empty=False)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class TieIn(serializers.Serializer[Any]):
    """A decision about a tie."""

    source = serializers.CharField(  # type: ignore[assignment]
        max_length=400, help_text="Ref of the one entity."
    )
    type = serializers.CharField(max_length=60)
    target = serializers.CharField(max_length=400, help_text="Ref of the other.")
    state = serializers.ChoiceField(["confirmed", "forbidden", "auto"])
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class MergeIn(serializers.Serializer[Any]):
    """Which entity it is in truth."""

    into = serializers.CharField(max_length=400, help_text="Ref of the entity that stays.")
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class OwnersIn(serializers.Serializer[Any]):
    """Whose some things are: those that are named, or all that a query finds."""

    entities = serializers.ListField(
        child=serializers.CharField(max_length=1_000),
        required=False,
        max_length=1_000,
        help_text="Their refs.",
    )
    q = serializers.CharField(required=False, max_length=2_000, help_text="A query, instead of refs.")
    owner = serializers.CharField(max_length=1_000, help_text="Ref of a group or user.")
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class OwnedOut(serializers.Serializer[Any]):
    ref = serializers.CharField()
    outcome = serializers.ChoiceField(
        [outcome.value for outcome in Outcome],
        help_text="The first three change: nobody, a file or tool, or you yourself said who owned it. It is so "
        "already; another person overrides it; you may not change it; it can have no owner.",
    )
    before = serializers.CharField(allow_blank=True, help_text="Ref of the owner that it had.")
    said_by = serializers.CharField(allow_blank=True, help_text="Who said so.")


class FieldsIn(serializers.Serializer[Any]):
    """One field of many things; either `entities` or `q` says of which."""

    entities = serializers.ListField(
        child=serializers.CharField(max_length=1_000),
        required=False,
        max_length=MOST_OF_PROGRAMS,
        help_text="Refs.",
    )
    q = serializers.CharField(required=False, allow_blank=True, max_length=2_000)
    path = serializers.CharField(max_length=300, help_text="Dotted: spec.lifecycle, metadata.tags.")
    action = serializers.ChoiceField(ACTIONS)
    value = serializers.JSONField(required=False, help_text="To add or remove, a list.")
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class FieldOfOut(serializers.Serializer[Any]):
    ref = serializers.CharField()
    outcome = serializers.ChoiceField([outcome.value for outcome in Outcome])
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)
    said_by = serializers.CharField(allow_blank=True)
    why = serializers.CharField(allow_blank=True)


class FieldsOut(serializers.Serializer[Any]):
    changed = serializers.IntegerField()
    results = FieldOfOut(many=True)


class OwnersOut(serializers.Serializer[Any]):
    owner = serializers.CharField()
    changed = serializers.IntegerField()
    results = OwnedOut(many=True)


class NameIn(serializers.Serializer[Any]):
    """What a name means that nothing declares."""

    ref = serializers.CharField(max_length=1_000, help_text="The name, such as group:default/pay-team.")
    target = serializers.CharField(max_length=1_000, help_text="Ref of the group or user that it means.")
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class OwnerIn(serializers.Serializer[Any]):
    """What a name means, if it is to be made."""

    name = serializers.CharField(
        required=False, allow_blank=True, max_length=300, help_text="If it is to be called otherwise."
    )
    title = serializers.CharField(required=False, allow_blank=True, max_length=300)
    members = serializers.ListField(
        child=serializers.CharField(max_length=400),
        required=False,
        max_length=200,
        help_text="Refs of the people in a group.",
    )


class NameOut(serializers.Serializer[Any]):
    ref = serializers.CharField()
    target = serializers.CharField()
    decided_by = serializers.CharField()
    decided_at = serializers.DateTimeField()
    reason = serializers.CharField(allow_blank=True)


class DanglingOut(serializers.Serializer[Any]):
    relation = serializers.CharField()
    count = serializers.IntegerField()
    refs = serializers.ListField(child=serializers.CharField(), help_text="As far as you may see them.")


class OrphanOut(serializers.Serializer[Any]):
    ref = serializers.CharField()
    relation = serializers.CharField(help_text="Of which it has no other.")


class DeletionOut(serializers.Serializer[Any]):
    """What the deletion of an entity would leave behind."""

    dangling = DanglingOut(many=True)
    orphans = OrphanOut(many=True)
    unseen = serializers.IntegerField(help_text="Further entities that name it and that you may not see.")
    goes = serializers.BooleanField(help_text="Whether it would be gone; else others say that it exists.")
    kept_by = serializers.ListField(child=serializers.CharField(), help_text="Who else says so.")


def deletion(found: Deletion) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "dangling": [
            {"relation": label, "count": count, "refs": [one.ref for one in found.dangling.get(label, ())]}
            for label, count in found.counts.items()
        ],
        "orphans": [{"ref": one.ref, "relation": label} for one, label in found.orphans],
        "unseen": found.unseen,
        "goes": bool(found.own) and not found.others,
        "kept_by": [claim.source.label for claim in found.others],
    }


class KindOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    pack = serializers.CharField(allow_blank=True)
    revision = serializers.IntegerField()
    spec = serializers.DictField()


class RelationTypeOut(KindOut):
    """A type of relation."""


class TieOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]
    type = serializers.CharField()
    target = serializers.CharField()
    state = serializers.CharField()
    key = serializers.CharField(allow_blank=True)
    decided_by = serializers.CharField(allow_blank=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)


class TieSideOut(serializers.Serializer[Any]):
    entity = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    record = serializers.CharField()
    place = serializers.DictField()
    is_key = serializers.BooleanField(help_text="Whether this record is the key, or only speaks of it.")
    commit = serializers.CharField(help_text="What it was made from, where it names no key itself.")


class TieEvidenceOut(TieOut):
    """A tie with what each side's sources said."""

    sides = TieSideOut(many=True)


class ActivityOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    type = serializers.CharField()
    connection = serializers.CharField()
    external_id = serializers.CharField()
    status = serializers.CharField(allow_blank=True)
    title = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True)
    actor = serializers.CharField(allow_blank=True)
    number = serializers.CharField(allow_blank=True)
    branch = serializers.CharField(allow_blank=True)
    is_default_branch = serializers.BooleanField(allow_null=True)
    is_change = serializers.BooleanField()
    commit = serializers.CharField(allow_blank=True)
    version = serializers.CharField(allow_blank=True)
    environment = serializers.CharField(allow_blank=True)
    subject = serializers.CharField(allow_blank=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    at = serializers.DateTimeField()
    data = serializers.DictField()  # type: ignore[assignment]


class FailureOut(serializers.Serializer[Any]):
    pipeline = serializers.CharField(allow_blank=True, help_text="Ref of what ran.")
    since = serializers.DateTimeField(help_text="When the first run failed since the last good one.")
    as_of = serializers.DateTimeField(help_text="When the tool was last heard of the newest run.")
    commit = serializers.CharField(allow_blank=True, help_text="What the first run that failed was made of.")
    author = serializers.CharField(allow_blank=True)
    step = serializers.CharField(allow_blank=True, help_text="The first step that failed.")
    log_url = serializers.CharField(allow_blank=True)
    first = ActivityOut()
    last = ActivityOut()


class BeforeOut(serializers.Serializer[Any]):
    entity = serializers.CharField(help_text="Ref of what it happened to.")
    distance = serializers.IntegerField(help_text="0 for itself, else steps along what it depends on.")
    activity = ActivityOut()


class FailingOut(serializers.Serializer[Any]):
    since = serializers.DateTimeField(allow_null=True, help_text="Null where nothing fails.")
    failures = FailureOut(many=True)
    before = BeforeOut(many=True)


class TransitionOut(serializers.Serializer[Any]):
    event = serializers.CharField()
    status = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField()


class ActivityDetailOut(ActivityOut):
    """An activity with the steps that it took."""

    transitions = TransitionOut(many=True)


class ProblemOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    type = serializers.CharField()
    severity = serializers.CharField()
    subject = serializers.CharField()
    cause = serializers.CharField()
    message = serializers.CharField()
    remedy = serializers.CharField(allow_blank=True)
    detail = serializers.DictField()
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()


class SnoozeIn(serializers.Serializer[Any]):
    """Which problems to put off: those of one type and cause, as they are listed."""

    type = serializers.ChoiceField(list(PROBLEM_TYPES))
    cause = serializers.CharField(max_length=2_000)
    days = serializers.IntegerField(min_value=1, max_value=LONGEST_SNOOZE, default=7)


class SnoozeOut(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="How many were put off.")


class PersonIn(serializers.Serializer[Any]):
    """Somebody in the catalog."""

    entity = serializers.CharField(max_length=400, help_text="Ref of a User.")


class PersonOut(serializers.Serializer[Any]):
    """Who an account is in the catalog."""

    entity = serializers.CharField(allow_null=True, help_text="Ref of the person; null if it is nobody yet.")
    claimed = serializers.CharField(
        allow_null=True, help_text="Who it says that it is, while nobody has confirmed that."
    )


class PersonClaimOut(serializers.Serializer[Any]):
    """Who somebody says that they are."""

    username = serializers.CharField()
    name = serializers.CharField(allow_blank=True)
    email = serializers.CharField(allow_blank=True)
    entity = serializers.CharField(allow_null=True, help_text="Ref of the person; null if they are gone.")


class FieldChangeOut(serializers.Serializer[Any]):
    """What changed of a field; a side that had nothing is left out."""

    path = serializers.CharField()
    old = serializers.JSONField(required=False)
    new = serializers.JSONField(required=False)


class RevisionOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    action = serializers.CharField()
    at = serializers.DateTimeField()
    by = serializers.CharField()
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    ref = serializers.CharField()
    reason = serializers.CharField(allow_blank=True, help_text="What a person gave as the reason.")
    run = serializers.IntegerField(
        allow_null=True, help_text="The sync run that brought it: /sync-runs/<run>/."
    )
    diff = FieldChangeOut(many=True)


class ChangedOut(serializers.Serializer[Any]):
    """An entity that changed, with its revisions in that time, newest first."""

    ref = serializers.CharField()
    uid = serializers.UUIDField()
    kind = serializers.CharField()
    title = serializers.CharField()
    owner = serializers.CharField(allow_blank=True)
    is_gone = serializers.BooleanField()
    matched = serializers.ChoiceField(
        ["now", "then"], help_text="`then`: the query found it within that time, and finds it no more."
    )
    revisions = RevisionOut(many=True)


ChangedListOut = list_of("ChangedListOut", ChangedOut)


class RestoreIn(serializers.Serializer[Any]):
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1_000)


class LeftOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    why = serializers.CharField()


class RestoreOut(serializers.Serializer[Any]):
    """What restoring a revision does, or would do."""

    number = serializers.IntegerField()
    changes = FieldChangeOut(many=True)
    left = LeftOut(many=True, help_text="What stays as it is.")


class FeedItemOut(serializers.Serializer[Any]):
    position = serializers.CharField()
    at = serializers.DateTimeField()
    action = serializers.CharField()
    uid = serializers.UUIDField()
    ref = serializers.CharField()
    revision = serializers.IntegerField()


class FeedOut(serializers.Serializer[Any]):
    results = FeedItemOut(many=True)
    next = serializers.CharField()


EntityListOut = list_of("EntityListOut", EntityOut)
KindListOut = list_of("KindListOut", KindOut)
RelationTypeListOut = list_of("RelationTypeListOut", RelationTypeOut)
NameListOut = list_of("NameListOut", NameOut)
TieListOut = list_of("TieListOut", TieOut)
ActivityListOut = list_of("ActivityListOut", ActivityOut)
ProblemListOut = list_of("ProblemListOut", ProblemOut)
PersonClaimListOut = list_of("PersonClaimListOut", PersonClaimOut)
RevisionListOut = list_of("RevisionListOut", RevisionOut)


# Rows as plain data.


def planned_field(row: PlannedField) -> dict[str, Any]:
    return plain(FieldOfOut, row, ref=row.entity.ref, outcome=row.outcome.value)


def planned(row: Planned) -> dict[str, Any]:
    return {
        "ref": row.entity.ref,
        "outcome": str(row.outcome),
        "before": row.before,
        "said_by": row.said_by,
    }


def name(row: Alias) -> dict[str, Any]:
    return plain(NameOut, row, target=row.entity.ref)


def tie(row: Tie) -> dict[str, Any]:
    return plain(TieOut, row, source=row.source.ref, target=row.target.ref)


def activity(row: Activity) -> dict[str, Any]:
    return plain(ActivityOut, row, subject=row.subject_ref)


def failing(entity: Entity, failures: Iterable[Failure], before: Iterable[Cause]) -> dict[str, Any]:
    return {
        "since": entity.failing_since,
        "failures": [
            {
                "pipeline": one.first.subject_ref,
                "since": one.first.at,
                "as_of": one.last.as_of,
                "commit": one.first.commit,
                "author": one.author,
                "step": one.step,
                "log_url": one.log_url,
                "first": activity(one.first),
                "last": activity(one.last),
            }
            for one in failures
        ],
        "before": [
            {"entity": near.entity.ref, "distance": near.distance, "activity": activity(row)}
            for near, row in before
        ],
    }


def problem(row: Problem) -> dict[str, Any]:
    return plain(ProblemOut, row, subject=row.subject_label)


def revision(row: Revision) -> dict[str, Any]:
    return plain(RevisionOut, row, source=row.by_key, ref=row.entity_ref)


def restored(plan: Restoring) -> dict[str, Any]:
    return {
        "number": plan.revision.number,
        "changes": plan.rows,
        "left": [{"path": path, "why": why} for path, why in plan.left],
    }


def feed_item(row: FeedItem) -> dict[str, Any]:
    return {
        "position": f"{row.transaction}.{row.pk}",
        "at": row.at,
        "action": row.action,
        "uid": row.entity_uid,
        "ref": row.entity_ref,
        "revision": row.revision,
    }
