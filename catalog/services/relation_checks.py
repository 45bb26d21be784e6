"""Relations as their types allow them: refused where people edit, problems where files and tools say them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from base.errors import FieldError
from catalog.bulk import among
from catalog.documents.envelope import DocumentInvalid, ValidDocument
from catalog.documents.relation_checks import ENFORCE
from catalog.kinds import KindView, current_kinds
from catalog.models import Entity, Relation, Severity
from catalog.services import problems


def check_relations(valid: ValidDocument) -> None:
    """
    :raises DocumentInvalid: if a document that a person or program hands in has relations that are refused.
    """
    kind = current_kinds().by_name(valid.kind.name.lower())
    document = valid.kind.upgraded(valid.data)
    namespace = valid.ref.text.partition(":")[2].partition("/")[0]
    if faults := faults_of(kind, document, namespace, valid.ref.text):
        raise DocumentInvalid(faults, ref=valid.ref.text)


def faults_of(kind: KindView, document: dict[str, Any], namespace: str, ref: str) -> list[FieldError]:
    """What is refused of the relations that a document declares: those whose types are enforced.

    :param ref: of the entity that it is about.
    """
    kinds = current_kinds()
    faults = [
        FieldError(fault.path, fault.message)
        for fault in kinds.relation_faults(kind, document, namespace)
        if fault.is_enforced
    ]
    most = {
        name: check.inverse_most
        for name, check in kinds.checks.items()
        if check.mode == ENFORCE and check.inverse_most is not None
    }
    named = [
        (path, type_, target)
        for path, type_, target, _wanted in (
            kind.definition.references_of(document, namespace) if most else ()
        )
        if type_ in most
    ]
    if not named:
        return faults
    refs = {target for _path, _type, target in named}
    ref_of = dict(Entity.objects.filter(ref__in=refs, deleted_at=None).values_list("pk", "ref"))
    others = _seen_from_their_targets().filter(Q(target__in=ref_of) | Q(target_ref__in=refs), type__in=most)
    counts: Counter[tuple[str, str]] = Counter()
    for type_, target, name, n in (
        others.exclude(source__ref=ref)
        .values_list("type", "target", "target_ref")
        .annotate(n=Count("pk"))
        .order_by()
    ):
        counts[type_, ref_of.get(target, name)] += n
    faults += [
        FieldError(path, _crowded(target, type_, counts[type_, target], most[type_]))
        for path, type_, target in named
        if counts[type_, target] >= most[type_]
    ]
    return faults


def _seen_from_their_targets() -> QuerySet[Relation]:
    """The relations of which all may know who see what they lead to."""
    everybody = Q(source__audience=None) | Q(source__audience__contains=F("target__audience"))
    return Relation.objects.filter(everybody, source__deleted_at=None)


def _crowded(ref: str, type_: str, n: int, most: int) -> str:
    return ngettext(
        "At most %(most)d %(type)s may lead to %(ref)s, and %(n)d does.",
        "At most %(most)d %(type)s may lead to %(ref)s, and %(n)d do.",
        n,
    ) % {"most": most, "type": type_, "ref": ref, "n": n}


def report_crowded(entity_ids: Iterable[int], *, at: datetime) -> None:
    """What more relations lead to than their types allow, as problems of it."""
    checks = {name: one for name, one in current_kinds().checks.items() if one.inverse_most is not None}
    if not checks:
        return
    entities = {one.pk: one for one in Entity.objects.filter(id__in=among(entity_ids), deleted_at=None)}
    leading = _seen_from_their_targets().filter(target__in=among(entities), type__in=checks).order_by()
    found = leading.values_list("target", "type").annotate(n=Count("pk"))
    seen = []
    for pk, type_, n in found:
        most = checks[type_].inverse_most
        if most is not None and n > most:
            cause = _("Too many %(type)s lead to one thing") % {"type": type_}
            seen.append(
                (
                    problems.subject_of(entities[pk]),
                    problems.Seen(
                        type="too-many",
                        severity=Severity.FAIL if checks[type_].mode == ENFORCE else Severity.WARN,
                        cause=cause,
                        message=_crowded(entities[pk].ref, type_, n, most),
                        remedy=_("Change what names it, or what the relation type allows."),
                        discriminator=type_,
                        detail={"type": type_},
                    ),
                )
            )
    problems.sync(
        raised_by=problems.CATALOG,
        seen=seen,
        within=Q(type="too-many", subject_uid__in=among((one.uid for one in entities.values()), "uuid")),
        at=at,
    )
