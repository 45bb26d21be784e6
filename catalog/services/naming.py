"""A name that something mentions and nothing declares: a person makes what it means, or says what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import AuditEvent
from access.permissions import can, require
from access.services.audit import record_audit
from access.services.undo import keep_for_undo, note_undone
from base.errors import Conflict, FieldError, InvalidInput, NotFound
from catalog.documents.envelope import DocumentInvalid, validate_document
from catalog.documents.refs import Ref, parse_ref
from catalog.kinds import current_kinds
from catalog.models import Alias, Claim, Entity
from catalog.permissions import Planned
from catalog.services.creating import check_free, declare_by_hand, keep_created, made_by_hand
from catalog.services.dirty import mark_dirty
from catalog.services.edit import keep_declared, lock_as_seen, withdraw
from catalog.services.ingest import drop_claims, lock_entities
from catalog.services.relations import end_aliases, resolve_relations
from catalog.services.render import A_WHILE, render_dirty

OWNERS = ("group", "user")
MAX_MEMBERS = 200


def create_owner(
    *, user: Any, ref: str, name: str = "", title: str = "", members: Sequence[Entity] = ()
) -> Entity:
    """Make the group or person that a name means, as the claim of whoever does.

    What files say of it later counts more than this, and what they override by hand counts more than files.

    :param name: if it is called otherwise than it is mentioned; the mentioned name leads there.
    :param members: of a group.
    :raises Forbidden: without `entity.write` where it will lie.
    :raises InvalidInput: if it is no group or user, or the name or a member is not valid.
    :raises Conflict: if there is one of this name.
    """
    mentioned = parse_ref(ref)
    wanted = Ref(mentioned.kind.lower(), mentioned.namespace.lower(), (name or mentioned.name).strip())
    for one in {mentioned.text, wanted.text}:
        require(user, "entity.write", Planned(one))
    document = _document(wanted, title.strip(), members)
    with transaction.atomic():
        for one in (mentioned.text, wanted.text):
            check_free(one, user=user)
        entity, event = declare_by_hand(user=user, ref=wanted, document=document, name=mentioned.text)
        if mentioned.text != entity.ref:
            _lead(user.label, mentioned.text, entity, reason="")
        keep_created(event, entity, name=mentioned.text, by=user.label)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return entity


def _document(ref: Ref, title: str, members: Sequence[Entity]) -> dict[str, Any]:
    if ref.kind not in OWNERS:
        raise InvalidInput(
            _("%(ref)s is no group or user, so it is made where such things are declared.") % {"ref": ref}
        )
    if members and ref.kind != "group":
        raise InvalidInput(_("A person has no members."))
    if len(members) > MAX_MEMBERS:
        raise InvalidInput(
            _("At most %(max)d members at once, but %(got)d came.")
            % {"max": MAX_MEMBERS, "got": len(members)}
        )
    for member in members:
        if member.kind != "user":
            message = _("%(ref)s is no person.") % {"ref": member.ref}
            raise InvalidInput(message, errors=[FieldError("members", message)])
    spec: dict[str, Any] = {"type": "team", "children": []} if ref.kind == "group" else {"memberOf": []}
    if members:
        spec["members"] = [member.ref for member in members]
    document = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": ref.kind.capitalize(),
        "metadata": {"name": ref.name, "namespace": ref.namespace} | ({"title": title} if title else {}),
        "spec": spec,
    }
    try:
        validate_document(document, current_kinds().set)
    except DocumentInvalid as error:
        raise InvalidInput(error.message, errors=error.errors) from None
    return document


def withdraw_created(*, user: Any, entity: Entity) -> bool:
    """Take back that a person made an entity.

    :returns: whether it is gone; other sources may keep it.
    :raises NotFound: if nobody made it by hand.
    """
    withdraw_apart(user=user, entity=entity)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return not Entity.objects.filter(pk=entity.pk, deleted_at=None).exists()


def withdraw_apart(*, user: Any, entity: Entity) -> None:
    """The same for a caller who renders what it changed."""
    require(user, "entity.write", entity)
    with transaction.atomic():
        claims = list(made_by_hand(entity).select_related("source"))
        if not claims:
            raise NotFound(_("Nobody made %(ref)s by hand.") % {"ref": entity.ref})
        for claim in claims:
            drop_claims(
                source=claim.source, external_ids=[claim.external_id], at=timezone.now(), by=user.label
            )
        keep_declared(record_audit("entity.withdraw", entity), entity, claims)
        note_undone(verb="entity.create", state={"uid": str(entity.uid)}, by=user.label, now=timezone.now())


def delete_entity(*, user: Any, entity: Entity, expected: str = "") -> bool:
    """Take back all that people made of an entity by hand, and what the person declared of it through the API.

    :returns: whether it is gone; other sources may keep it.
    :raises NotFound: if there is nothing of that.
    :raises StaleEntity: if it has changed since the person saw it.
    """
    require(user, "entity.write", entity)
    is_mine = Claim.objects.filter(entity=entity, source__key=f"api:{user.pk}").exists()
    with transaction.atomic():
        lock_as_seen(entity, expected)
        if is_mine:
            withdraw(user=user, entity=entity, is_rendered=False)
        if not is_mine or made_by_hand(entity).exists():
            withdraw_apart(user=user, entity=entity)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return not Entity.objects.filter(pk=entity.pk, deleted_at=None).exists()


def map_name(*, user: Any, ref: str, target: Entity, reason: str = "") -> Alias:
    """Say which group or user a name means: all that mentions it, now and later, means that one.

    Once something is declared by that name, it is itself again.

    :raises Forbidden: without `entity.write` where the name lies.
    :raises InvalidInput: if the target is no group or user.
    :raises Conflict: if the name means something already, or the target is gone.
    """
    alias = map_apart(user=user, ref=ref, target=target, reason=reason)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return alias


def map_apart(*, user: Any, ref: str, target: Entity, reason: str, by: str = "") -> Alias:
    """The same for a caller who renders what it changed.

    :param by: who said so first, if it is only said again.
    """
    name = parse_ref(ref).text
    require(user, "entity.write", Planned(name))
    if target.kind not in OWNERS:
        raise InvalidInput(
            _("%(ref)s is a %(kind)s; choose a group or a user.") % {"ref": target.ref, "kind": target.kind}
        )
    with transaction.atomic():
        check_free(name, user=user)
        alias = _lead(by or user.label, name, target, reason=reason)
        event = record_audit("entity.map", target, changes={"name": name, "reason": reason})
        _keep_name(event, alias)
        note_undone(verb="entity.unmap", state={"name": name}, by=user.label, now=timezone.now())
    return alias


def _keep_name(event: AuditEvent, alias: Alias) -> None:
    target = alias.entity.uid
    state = {"name": alias.ref, "target": str(target), "reason": alias.reason, "by": alias.decided_by}
    keep_for_undo(event, state=state, things=[(target, f"name {alias.ref}")])


def _lead(by: str, name: str, target: Entity, *, reason: str) -> Alias:
    target = lock_entities({target.pk}).get()
    if not target.is_alive:
        raise Conflict(_("%(ref)s is gone meanwhile.") % {"ref": target.ref})
    # It may have been a former name of what is gone.
    alias, _is_new = Alias.objects.update_or_create(
        ref=name,
        defaults={
            "entity": target,
            "decided_by": by,
            "decided_at": timezone.now(),
            "reason": reason,
        },
    )
    mark_dirty(resolve_relations([target.pk]) | {target.pk})
    return alias


def unmap_name(*, user: Any, ref: str) -> Entity:
    """Take back what a person said of a name: nothing has it any more.

    :returns: what it meant.
    :raises Forbidden: without `entity.write` where the name lies.
    :raises NotFound: if nobody said what it means.
    """
    target = unmap_apart(user=user, ref=ref)
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return target


def unmap_apart(*, user: Any, ref: str) -> Entity:
    """The same for a caller who renders what it changed."""
    name = parse_ref(ref).text
    require(user, "entity.write", Planned(name))
    with transaction.atomic():
        alias = Alias.objects.filter(ref=name).exclude(decided_by="").select_for_update().first()
        if alias is None or not can(user, "entity.read", alias.entity):
            raise NotFound(_("Nobody said what %(ref)s means.") % {"ref": name})
        target = alias.entity
        mark_dirty(end_aliases({name}))
        _keep_name(record_audit("entity.unmap", target, changes={"name": name}), alias)
        note_undone(verb="entity.map", state={"name": name}, by=user.label, now=timezone.now())
    return target
