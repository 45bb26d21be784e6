"""Problems: raised where they are seen, resolved when they are no longer.

Whoever raises problems about a set of subjects says all that it sees of them in one call; what it raised before
and does not see now is resolved. A problem that comes back keeps its row and its first date.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from access.permissions import require, visible
from access.services import audit
from base.paths import parse_path, value_at
from catalog.bulk import among
from catalog.documents.relation_checks import RelationFault
from catalog.models import PROBLEM_TYPES, Claim, Entity, Problem, Rank, Severity
from catalog.services.merge import Conflict
from catalog.services.news import note_entities

if TYPE_CHECKING:
    from catalog.kinds import KindView

CATALOG = "catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One thing that is wrong now.

    :ivar cause: what groups it with equal problems of other subjects.
    :ivar discriminator: tells apart several problems of one type on one subject.
    """

    type: str
    severity: Severity
    cause: str
    message: str
    remedy: str = ""
    discriminator: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """All that the merge sees of one entity."""

    entity: Entity
    seen: list[Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a problem is about."""

    type: str
    label: str
    uid: uuid.UUID | None = None
    namespace: str = ""


# Types that the merge of an entity decides; others (missing-target, ambiguous-key) have their own occasion.
MERGE_TYPES = ("incomplete", "conflict", "shadowed", "stale", "name-taken", "relation")


def of_entity(
    entity: Entity,
    document: dict[str, Any],
    kind: KindView,
    claims: Sequence[Claim],
    disagreeing: Sequence[Conflict],
    *,
    wanted: str = "",
    faults: Sequence[RelationFault] = (),
    asserted: Sequence[dict[str, Any]] = (),
) -> list[Seen]:
    """What is wrong with a merged entity: gaps, disagreement of equals, shadowed and stale claims, a taken name.

    :param wanted: the ref that its declaration gives it and another entity has.
    :param faults: relations that their types do not allow.
    :param asserted: the documents of which the entity's is what they have in common, if it is.
    """
    seen = []
    if wanted:
        seen.append(
            Seen(
                type="name-taken",
                severity=Severity.WARN,
                cause=_("The declared name belongs to another entity"),
                message=_("%(ref)s is declared as %(wanted)s, which another entity is already.")
                % {"ref": entity.ref, "wanted": wanted},
                remedy=_("Give one of them another name, or merge the two if they are one thing."),
                detail={"wanted": wanted},
            )
        )
    for error in kind.gaps(document):
        if asserted and all(value_at(one, map(str, parse_path(error.path))) is not None for one in asserted):
            seen.append(
                Seen(
                    type="incomplete",
                    severity=Severity.WARN,
                    cause=_("What is said for different groups differs on %(field)s") % {"field": error.path},
                    message=_(
                        "%(field)s: each group sees beside it what its own source says, and no value in it."
                    )
                    % {"field": error.path},
                    remedy=_("Set it here as an override: that is for all who see the entity."),
                    discriminator=error.path,
                    detail={"path": error.path},
                )
            )
            continue
        seen.append(
            Seen(
                type="incomplete",
                severity=Severity.WARN,
                cause=(
                    _("No owner")
                    if error.path == "spec.owner"
                    else _("%(field)s is not as its kind wants it") % {"field": error.path}
                ),
                message=f"{error.path}: {error.message}",
                remedy=_("Add it to the catalog file, or set it here as an override."),
                discriminator=error.path,
                detail={"path": error.path},
            )
        )
    for fault in faults:
        seen.append(
            Seen(
                type="relation",
                severity=Severity.FAIL if fault.is_enforced else Severity.WARN,
                cause=_("%(type)s is not as its type wants it") % {"type": fault.type},
                message=f"{fault.path}: {fault.message}",
                remedy=_("Change it in the catalog file, or what the relation type allows."),
                discriminator=f"{fault.path} {fault.message}",
                detail={"path": fault.path, "type": fault.type},
            )
        )
    labels: dict[int, str] = defaultdict(lambda: _("Sources that not all may see"))
    labels |= {claim.id: claim.source.label for claim in claims}
    for conflict in disagreeing:
        if conflict.is_tie:
            path = ".".join(conflict.path)
            values = [{"source": labels[v.claim_id], "value": v.value} for v in conflict.voices]
            seen.append(
                Seen(
                    type="conflict",
                    severity=Severity.WARN,
                    cause=_("Sources disagree on %(field)s") % {"field": path},
                    message=_("%(first)s says %(a)s, %(second)s says %(b)s.")
                    % {
                        "first": values[0]["source"],
                        "a": values[0]["value"],
                        "second": values[1]["source"],
                        "b": next(
                            # True and 1 are one to Python and two to JSON, so the texts are compared.
                            (v["value"] for v in values[1:] if repr(v["value"]) != repr(values[0]["value"])),
                            values[1]["value"],
                        ),
                    },
                    remedy=_("The older source wins until somebody overrides the field."),
                    discriminator=path,
                    detail={"path": path, "values": values},
                )
            )
    for claim in claims:
        if claim.is_shadowed:
            place = claim.place.get("file") or claim.place.get("address") or claim.source.label
            seen.append(
                Seen(
                    type="shadowed",
                    severity=Severity.WARN,
                    cause=_("Declared in more than one place"),
                    message=_("%(ref)s is also declared in %(place)s; the older source counts.")
                    % {"ref": entity.ref, "place": place},
                    remedy=_("Rename one of them or remove it."),
                    discriminator=f"{claim.source_id}/{claim.external_id}",
                    detail={"place": claim.whereabouts, "source": claim.source.label},
                )
            )
        if claim.stale_reason:
            seen.append(
                Seen(
                    type="stale",
                    severity=Severity.FAIL if claim.rank == Rank.YAML else Severity.WARN,
                    cause=_("The newest word of a source cannot be read"),
                    message=claim.stale_reason,
                    remedy=_("The last good version stays until the file is mended."),
                    discriminator=f"{claim.source_id}/{claim.external_id}",
                    detail={"place": claim.whereabouts, "source": claim.source.label},
                )
            )
    return seen


def report(findings: Iterable[Finding], *, at: datetime) -> None:
    """Bring the problems that merging decides up to date for these entities."""
    findings = list(findings)
    subjects = {f.entity.uid for f in findings}
    sync(
        raised_by=CATALOG,
        seen=[(subject_of(f.entity), seen) for f in findings for seen in f.seen],
        within=Q(subject_uid__in=among(subjects, "uuid"), type__in=MERGE_TYPES),
        at=at,
    )


def subject_of(entity: Entity) -> Subject:
    """An entity as the subject of a problem."""
    return Subject(type="entity", label=entity.ref, uid=entity.uid, namespace=entity.namespace)


def uids_of(entity_ids: Iterable[int]) -> QuerySet[Entity, Any]:
    """The uids of some entities, for what `sync` speaks of; looked up where the problems are."""
    return Entity.objects.filter(id__in=among(entity_ids)).values("uid")


def fingerprint(*, raised_by: str, type: str, subject: Subject, discriminator: str) -> str:
    """What makes two reports the same problem."""
    parts = "\0".join((raised_by, type, str(subject.uid or subject.label), discriminator))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


_SAID = ("severity", "subject_uid", "subject_label", "namespace", "cause", "message", "remedy", "detail")


def sync(*, raised_by: str, seen: Sequence[tuple[Subject, Seen]], within: Q, at: datetime) -> None:
    """Make the open problems of `raised_by` within a set equal to what is seen now.

    :param within: which of its problems this call speaks of; what is among them and not seen is resolved.
    :raises KeyError: if a type is none of `PROBLEM_TYPES`.
    """
    wanted: dict[str, Problem] = {}
    for subject, item in seen:
        if item.type not in PROBLEM_TYPES:
            raise KeyError(item.type)
        mark = fingerprint(
            raised_by=raised_by, type=item.type, subject=subject, discriminator=item.discriminator
        )
        wanted[mark] = Problem(
            fingerprint=mark,
            type=item.type,
            severity=item.severity,
            raised_by=raised_by,
            subject_type=subject.type,
            subject_uid=subject.uid,
            subject_label=subject.label,
            namespace=subject.namespace,
            cause=item.cause,
            message=item.message,
            remedy=item.remedy,
            detail=item.detail,
            first_seen_at=at,
            last_seen_at=at,
        )
    open_now = {
        row.fingerprint: row for row in Problem.objects.filter(within, raised_by=raised_by, resolved_at=None)
    }
    gone = [row.pk for mark, row in open_now.items() if mark not in wanted]
    if gone:
        Problem.objects.filter(pk__in=gone).update(resolved_at=at)
    fresh = [
        row
        for mark, row in wanted.items()
        if mark not in open_now
        or open_now[mark].message != row.message
        or open_now[mark].detail != row.detail
    ]
    if fresh:
        Problem.objects.bulk_create(
            fresh,
            update_conflicts=True,
            unique_fields=["fingerprint"],
            update_fields=[*_SAID, "last_seen_at", "resolved_at"],
        )
    note_entities(
        {(open_now.get(mark) or wanted[mark]).subject_uid for mark in open_now.keys() ^ wanted.keys()}
    )


def ambiguous_keys(*, shared: dict[str, list[tuple[Entity, int]]], keys: set[str], at: datetime) -> None:
    """Several entities of one kind are the same key: a person should say which.

    :param shared: those keys with their entities, and how many of them those know of who see each.
    :param keys: all keys that were looked at; problems of the others among them are resolved.
    """
    # The problem names the key and not the others: not all who see one of the entities may see those.
    seen = [
        (
            subject_of(entity),
            Seen(
                type="ambiguous-key",
                severity=Severity.WARN,
                cause=_("Several entities are “%(key)s”") % {"key": key},
                message=_("%(key)s belongs to %(count)d entities.") % {"key": key, "count": count},
                remedy=_("Correct the address that one of them carries, or remove one."),
                discriminator=key,
                detail={"key": key},
            ),
        )
        for key, entities in shared.items()
        for entity, count in entities
    ]
    sync(
        raised_by=CATALOG,
        seen=seen,
        within=Q(type="ambiguous-key", detail__key__in=list(keys)),
        at=at,
    )


LONGEST_SNOOZE = 90


@transaction.atomic
def snooze(*, user: Any, type: str, cause: str, days: int, by: str, now: datetime) -> int:
    """Put problems of one cause off for some days, as far as the person may.

    :param days: from 1 to 90.
    :returns: how many were put off.
    :raises Forbidden: without `problem.write`.
    """
    require(user, "problem.write")
    until = now + timedelta(days=min(max(days, 1), LONGEST_SNOOZE))
    rows = visible(user, Problem.objects.filter(type=type, cause=cause, resolved_at=None), "problem.write")
    count = rows.update(snoozed_until=until, snoozed_by=by)
    if count:
        subject = audit.Subject("problem", "", cause[:300])
        changes = {"until": until.isoformat(), "count": count}
        audit.record_audit("problem.snooze", subject, changes=changes)
    return count
