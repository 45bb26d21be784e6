"""Entities that people make by hand: declared by a person, as any other source declares them."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import AuditEvent
from access.permissions import can, require
from access.services.audit import record_audit
from access.services.undo import keep_for_undo, note_undone
from base.errors import Conflict
from catalog.documents.envelope import validate_document
from catalog.documents.refs import Ref
from catalog.kinds import current_kinds
from catalog.models import Alias, Entity, Rank
from catalog.permissions import Planned
from catalog.services.edit import source_of_person
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


def keep_created(event: AuditEvent, entity: Entity, *, name: str, by: str) -> None:
    """Keep what the undo of a creation needs.

    :param name: by which it is mentioned.
    """
    keep_for_undo(event, state={"name": name, "uid": str(entity.uid)}, things=[(entity.uid, "")])
    note_undone(verb="entity.withdraw", state={"uid": str(entity.uid)}, by=by, now=timezone.now())
