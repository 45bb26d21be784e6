"""Entities that people make by hand: declared by a person, as any other source declares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import AuditEvent
from access.permissions import can, require
from access.services.audit import record_audit
from access.services.undo import keep_for_undo, note_undone
from base.errors import Conflict, NotFound
from catalog.documents.envelope import validate_document
from catalog.documents.refs import Ref
from catalog.kinds import current_kinds
from catalog.models import Alias, Claim, ClaimMode, Entity, Rank, SourceType
from catalog.permissions import Planned
from catalog.services.edit import (
    check_override,
    lock_as_seen,
    parts_of,
    source_of_person,
    with_value,
    without_value,
)
from catalog.services.ingest import ClaimIn, apply_claims
from catalog.services.relation_checks import check_relations
from catalog.services.render import A_WHILE, render_dirty


class NameTaken(Conflict):
    """There is an entity of this name."""

    code = "name-taken"


def create_entity(*, user: Any, document: dict[str, Any]) -> Entity:
    """Declare an entity by the word of a person, who need not know what tools and files say.

    What a file says of it later counts more than this, and what people override counts more than files.

    :raises DocumentInvalid: with everything that is wrong of it.
    :raises Forbidden: without `entity.write` where it will lie.
    :raises NameTaken: if there is one of its name; `ref` of the error is what the user may open, if anything.
    """
    valid = validate_document(document, current_kinds().set)
    require(user, "entity.write", Planned(valid.ref.text))
    check_relations(valid)
    with transaction.atomic():
        check_free(valid.ref.text, user=user)
        entity, event = declare_by_hand(user=user, ref=valid.ref, document=valid.data)
        keep_created(event, entity, name=entity.ref, by=user.label)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return entity


def check_free(ref: str, *, user: Any) -> None:
    """:raises NameTaken: if a name means something already."""
    found = Entity.objects.filter(ref=ref, deleted_at=None).first()
    if found is not None:
        seen = can(user, "entity.read", found)
        raise NameTaken(_("%(ref)s is in the catalog already.") % {"ref": ref}, ref=ref if seen else "")
    alias = Alias.objects.filter(ref=ref, entity__deleted_at=None).select_related("entity").first()
    if alias is not None and not can(user, "entity.read", alias.entity):
        raise NameTaken(_("%(ref)s means something already that you may not see.") % {"ref": ref}, ref="")
    if alias is not None:
        names = {"ref": ref, "target": alias.entity.ref}
        raise NameTaken(_("%(ref)s means %(target)s already.") % names, ref=alias.entity.ref)


def declare_by_hand(
    *, user: Any, ref: Ref, document: dict[str, Any], **changes: Any
) -> tuple[Entity, AuditEvent]:
    """Have a person declare what was checked, within the caller's transaction, who also keeps what an undo needs.

    :param changes: what else the audit log says of it.
    """
    now = timezone.now()
    claim = ClaimIn(
        external_id=f"created:{ref.text}", kind=ref.kind.lower(), document=document, rank=Rank.API, as_of=now
    )
    applied = apply_claims(source=source_of_person(user), claims=[claim], at=now, by=user.label)
    entity = Entity.objects.get(pk=applied.entity_ids[0])
    title = str(document["metadata"].get("title") or "")
    return entity, record_audit(
        "entity.create", entity, changes={"name": ref.text, "title": title, **changes}
    )


def made_by_hand(entity: Entity) -> QuerySet[Claim]:
    """By what people made an entity."""
    return Claim.objects.filter(entity=entity, mode=ClaimMode.ASSERT, source__type=SourceType.PERSON)


def redeclare(*, user: Any, entity: Entity, values: Mapping[str, Any], expected: str = "") -> None:
    """Change fields of what people declared when they made an entity by hand.

    :param values: by dotted path; null says nothing of it any more.
    :param expected: the etag that the person saw; empty for any.
    :raises Forbidden: without `entity.write` on the entity.
    :raises StaleEntity: if the entity has changed since.
    :raises InvalidInput: if a value does not fit its kind.
    :raises NotFound: if nobody made it by hand.
    """
    require(user, "entity.write", entity)
    with transaction.atomic():
        locked = lock_as_seen(entity, expected)
        claims = list(made_by_hand(locked).select_related("source"))
        if not claims:
            raise NotFound(_("Nobody made %(ref)s by hand.") % {"ref": locked.ref})
        before = []
        for claim in claims:
            document = claim.document
            for path, value in values.items():
                parts = parts_of(path)
                check_override(locked, parts, value)
                document = (
                    without_value(document, parts)[0] if value is None else with_value(document, parts, value)
                )
            before.append({"source": claim.source.key, "id": claim.external_id, "document": claim.document})
            _declare(claim, document, by=user.label)
        paths = ", ".join(values)
        event = record_audit("entity.redeclare", locked, changes={"paths": paths, "values": dict(values)})
        things = [(locked.uid, path) for path in values]
        keep_for_undo(event, state={"uid": str(locked.uid), "claims": before}, things=things)
    render_dirty(at=timezone.now(), limit=A_WHILE)


def declare_as_before(kept: Iterable[Mapping[str, Any]], *, by: str) -> int:
    """Have people declare what they declared before a change; what was withdrawn since stays so.

    :returns: of how many claims.
    """
    count = 0
    for one in kept:
        claim = Claim.objects.filter(source__key=one["source"], external_id=one["id"]).select_related(
            "source"
        )
        if (found := claim.first()) is not None:
            _declare(found, one["document"], by=by)
            count += 1
    return count


def _declare(claim: Claim, document: dict[str, Any], *, by: str) -> None:
    now = timezone.now()
    said = ClaimIn(
        external_id=claim.external_id,
        kind=claim.entity.kind,
        document=document,
        rank=Rank(claim.rank),
        as_of=now,
        place=claim.place,
    )
    apply_claims(source=claim.source, claims=[said], at=now, by=by)


def keep_created(event: AuditEvent, entity: Entity, *, name: str, by: str) -> None:
    """Keep what the undo of a creation needs.

    :param name: by which it is mentioned.
    """
    keep_for_undo(event, state={"name": name, "uid": str(entity.uid)}, things=[(entity.uid, "")])
    note_undone(verb="entity.withdraw", state={"uid": str(entity.uid)}, by=by, now=timezone.now())
