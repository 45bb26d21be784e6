"""How the loading of the sample company and its removal are taken back.

The removal leaves no row of it. What its undo needs is what cannot be written anew: under which uids its things were
known, and what people said of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.models import Undoable, User
from access.services.undo import CannotUndo, Preview, Undo, later_changes, register_undo
from catalog.bulk import among
from catalog.models import (
    Claim,
    ClaimMode,
    Entity,
    EntityKey,
    FormerKey,
    Source,
    SourceType,
    Tie,
    TieState,
)
from catalog.services.edit import (
    Words,
    decision_of,
    declare_again,
    declared,
    restore_decision,
    say_words,
)
from catalog.services.homes import claim_key
from catalog.services.voices import ages_of, as_old_as_before
from integrations.models import Connection
from integrations.undo import may_change_connections
from portal import sample
from portal.sample.company import NAMESPACE

_COLUMNS = ("uid", "ref", "kind", "namespace", "name", "title", "revision", "created_at")


def keep(
    *, entities: Iterable[int], connections: list[Connection], sources: QuerySet[Source]
) -> dict[str, Any]:
    """What cannot be written anew of these entities, as plain data, and as of when the rest was."""
    ids = among(entities)
    rows = {row["pk"]: row for row in Entity.objects.filter(pk__in=ids).values("pk", *_COLUMNS)}
    uids = {pk: str(row["uid"]) for pk, row in rows.items()}
    claims = Claim.objects.filter(entity__in=ids).select_related("source", "redirected__redirect", "entity")
    # What was merged into something comes back as what it was.
    own = {
        claim.pk: claim.redirected.redirect.loser_id if hasattr(claim, "redirected") else claim.entity_id
        for claim in claims
    }
    keys = {(row.kind, row.key): row.entity_id for row in FormerKey.objects.filter(entity__in=ids)}
    for row in EntityKey.objects.filter(entity__in=ids, is_identity=True):
        keys[row.kind, row.key] = own[row.claim_id]
    words: list[list[Any]] = []
    made: list[Claim] = []
    for claim in claims:
        if claim.source.type != SourceType.PERSON:
            keys[claim.entity.kind, claim_key(claim.source, claim.external_id)] = own[claim.pk]
        elif claim.mode == ClaimMode.AMEND:
            reasons = claim.place.get("reasons", {})
            words.append([claim.source.key, uids.get(own[claim.pk]), claim.document, reasons])
        else:
            made.append(claim)
    decided = Tie.objects.filter(Q(source__in=ids) | Q(target__in=ids)).exclude(state=TieState.AUTO)
    return {
        "at": min(connection.created_at for connection in connections).isoformat() if connections else None,
        "sources": ages_of(sources),
        "entities": [[str(row[name]) for name in _COLUMNS] for row in rows.values()],
        "keys": [[kind, key, uids[pk]] for (kind, key), pk in keys.items() if pk in uids],
        "words": [word for word in words if word[1]],
        "made": declared(made),
        "ties": [
            [str(tie.source.uid), tie.type, str(tie.target.uid), decision_of(tie)]
            for tie in decided.select_related("source", "target")
        ],
        "people": [
            [user.pk, str(user.entity_uid)]
            for user in User.objects.filter(entity_uid__in=list(uids.values()))
        ],
    }


def give_back(kept: dict[str, Any], *, by: str, now: datetime) -> None:
    """Have what was kept wait for the sample company's return."""
    known = Entity.objects.filter(
        Q(uid__in=among((row[0] for row in kept["entities"]), "uuid"))
        | Q(ref__in=among((row[1] for row in kept["entities"]), "text"))
    )
    taken = {value for row in known.values_list("uid", "ref") for value in map(str, row)}
    Entity.objects.bulk_create(
        Entity(**dict(zip(_COLUMNS, row, strict=True)), digest=b"", changed_at=now, deleted_at=now)
        for row in kept["entities"]
        if not taken & {row[0], row[1]}
    )
    as_old_as_before(kept.get("sources", ()))  # older removals noted none
    uids = [row[0] for row in kept["entities"]]
    uids += [uid for tie in kept["ties"] for uid in (tie[0], tie[2])]
    entities = {str(entity.uid): entity for entity in Entity.objects.filter(uid__in=among(uids, "uuid"))}
    FormerKey.objects.bulk_create(
        [
            FormerKey(kind=kind, key=key, entity=entities[uid])
            for kind, key, uid in kept["keys"]
            if uid in entities
        ],
        ignore_conflicts=True,
    )
    sources = {source.key: source for source in Source.objects.filter(type=SourceType.PERSON)}
    declare_again(kept["made"], by=by)
    say_words(
        [
            Words(sources[key], entities[uid], document, reasons)
            for key, uid, document, reasons in kept["words"]
            if uid in entities
        ],
        by=by,
    )
    for source, type_, target, decision in kept["ties"]:
        if source in entities and target in entities:
            restore_decision(source=entities[source], type=type_, target=entities[target], before=decision)
    for pk, uid in kept["people"]:
        User.objects.filter(pk=pk, entity_uid=None).update(entity_uid=UUID(uid))


def _is_here() -> bool:
    return Connection.objects.filter(is_sample=True).exists()


def _preview_load(change: Undoable, _user: User) -> Preview:
    if not _is_here():
        raise CannotUndo(_("The sample company is gone already, so there is nothing to undo."))
    uids = Entity.objects.filter(namespace=NAMESPACE, deleted_at=None).values_list("uid", flat=True)
    steps = ngettext(
        "The sample company goes: %(n)d entity with its activity, its history and its tools.",
        "The sample company goes: %(n)d entities with their activity, their history and their tools.",
        len(uids),
    )
    return Preview(
        steps=[steps % {"n": len(uids)}],
        later=later_changes(change, uids=uids, any_aspect=True),
        of_later=_("They go with it, and come back should this be undone."),
    )


def _undo_load(_change: Undoable, user: User) -> None:
    sample.remove_sample(by=user.label)


def _preview_removal(change: Undoable, _user: User) -> Preview:
    if _is_here():
        raise CannotUndo(_("The sample company is here again, so there is nothing to undo."))
    kept = change.state
    steps = [
        ngettext(
            "The sample company is loaded as it was: %(n)d entity, under its former address.",
            "The sample company is loaded as it was: %(n)d entities, under their former addresses.",
            len(kept["entities"]),
        )
        % {"n": len(kept["entities"])},
        ngettext(
            "What people overrode of %(n)d thing counts again, and what they decided of ties.",
            "What people overrode of %(n)d things counts again, and what they decided of ties.",
            len(kept["words"]),
        )
        % {"n": len(kept["words"])},
        _("The history of its things begins anew, and what was merged in it is apart."),
    ]
    return Preview(steps=steps)


def _undo_removal(change: Undoable, user: User) -> None:
    if _is_here():
        raise CannotUndo(_("The sample company is here again, so there is nothing to undo."))
    now = timezone.now()
    give_back(change.state, by=user.label, now=now)
    sample.load_sample(now=parse_datetime(change.state["at"] or "") or now, is_undo=True)


def register() -> None:
    """Tell how the sample company's loading and removal are undone."""
    register_undo(
        Undo(
            "sample.load",
            lambda _change: _("Loaded the sample company"),
            "building",
            may_change_connections,
            _preview_load,
            _undo_load,
        ),
        Undo(
            "sample.remove",
            lambda _change: _("Removed the sample company"),
            "trash",
            may_change_connections,
            _preview_removal,
            _undo_removal,
        ),
    )
