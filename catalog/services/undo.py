"""How what people said of entities is taken back: overrides, decisions on ties, merges and their parting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.models import Undoable, UndoableThing, User
from access.permissions import Viewer, can, visible
from access.services.audit import record_audit
from access.services.undo import CannotUndo, Preview, Undo, later_changes, register_undo
from catalog.bulk import among
from catalog.kinds import current_kinds
from catalog.models import (
    Alias,
    Claim,
    ClaimMode,
    Entity,
    Redirect,
    Served,
    SourceType,
    Tie,
    TieState,
)
from catalog.permissions import Planned
from catalog.services import bulk_edit, joining, naming
from catalog.services.creating import check_free, declare_as_before
from catalog.services.edit import (
    decision_of,
    declare_again,
    keep_decision,
    keep_words,
    restore_decision,
    restore_words,
)
from catalog.services.merge import diff
from catalog.services.render import A_WHILE, render_dirty

FIELDS = (
    "entity.override",
    "entity.override-drop",
    "entity.override-undo",
    "entity.bulk-edit-undo",
    "entity.edit",
    "entity.restore",
    "entity.bulk-fields",
)
MOST_SHOWN = 50  # entities whose differences are shown


def within(verb: str) -> Callable[[Viewer], Q]:
    """The condition on changes of entities: the viewer may do this to each of them, and to what it was merged into."""

    def condition(viewer: Viewer) -> Q:
        if not can(viewer, verb):
            return Q(pk__in=())
        mine = visible(viewer, Entity.objects.all(), verb)
        if not mine.query.where:  # everything, also what is gone for good
            return Q()
        mine = mine.filter(Q(redirect=None) | Q(redirect__winner__in=mine.values("pk")))
        things = UndoableThing.objects.filter(undoable=OuterRef("pk"))
        return Q(~Exists(things.exclude(uid__in=mine.values("uid"))))

    return condition


def _rehearse(do: Callable[[], object], uids: Iterable[UUID]) -> dict[str, list[dict[str, Any]]]:
    """How the documents of some entities differ once something is done, by their names. Writes nothing.

    What fails is raised.
    """
    uids = list(uids)
    with transaction.atomic():
        before = _documents(uids)
        do()
        after = _documents(uids)
        transaction.set_rollback(True)
    found = {}
    for uid in uids:
        ref, old = before.get(uid, ("", {}))
        ref, new = after.get(uid, (ref, {}))
        if rows := [row for row in diff(old, new) if row["path"] != "metadata.etag"]:
            found[ref] = rows
    return found


def _documents(uids: list[UUID]) -> dict[UUID, tuple[str, dict[str, Any]]]:
    rows = Served.objects.filter(entity__uid__in=among(uids, "uuid"), entity__deleted_at=None)
    return {
        uid: (ref, orjson.loads(document))
        for uid, ref, document in rows.values_list("entity__uid", "entity__ref", "document")
    }


def _render_soon() -> None:
    """Once it is committed: who renders takes turns with all others, and must hold nothing that they wait for."""
    transaction.on_commit(lambda: render_dirty(at=timezone.now(), limit=A_WHILE))


# --- overrides --------------------------------------------------------------------------------------------


def _of_fields(change: Undoable) -> str:
    event, fields = change.event, change.state["fields"]
    paths = ", ".join(dict.fromkeys(field["path"] for field in fields))
    if event.verb == "entity.bulk-fields":
        words = {
            "set": _("Set %(path)s of %(n)d entities to %(value)s"),
            "add": _("Added %(value)s to %(path)s of %(n)d entities"),
            "remove": _("Removed %(value)s from %(path)s of %(n)d entities"),
            "clear": _("Cleared %(path)s of %(n)d entities"),
        }
        value = _shown(event.changes.get("value"))
        return words[event.changes["action"]] % {"path": paths, "n": len(fields), "value": value}
    if event.subject_type == "catalog":
        return ngettext(
            "Undid a change of %(path)s of %(n)d entity",
            "Undid a change of %(path)s of %(n)d entities",
            len(fields),
        ) % {"path": paths, "n": len(fields)}
    names = {"path": paths, "ref": event.subject_label, "value": _shown(event.changes.get("value"))}
    if event.verb == "entity.override":
        if event.changes.get("value") is None:
            return _("Removed %(path)s of %(ref)s") % names
        return _("Overrode %(path)s of %(ref)s: %(value)s") % names
    if event.verb == "entity.edit":
        return _("Edited %(path)s of %(ref)s") % names
    if event.verb == "entity.restore":
        return _("Restored %(path)s of %(ref)s") % names
    if event.verb == "entity.override-drop":
        return _("Dropped the override of %(path)s of %(ref)s") % names
    return _("Undid a change of %(path)s of %(ref)s") % names


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:80]}…"


def _preview_fields(change: Undoable, user: User) -> Preview:
    fields = change.state["fields"]
    steps = []
    known = dict(Entity.objects.filter(uid__in=among(_uids(fields), "uuid")).values_list("uid", "ref"))
    for field in fields[:MOST_SHOWN]:
        ref = known.get(UUID(field["uid"]))
        if ref is None:
            continue
        names = {"path": field["path"], "ref": ref}
        said = [word["value"] for word in field["words"]]
        if said:
            names["value"] = ", ".join(map(_shown, said))
            steps.append(_("%(path)s of %(ref)s is overridden as before: %(value)s.") % names)
        else:
            steps.append(
                _("%(path)s of %(ref)s is overridden by nobody; files and tools count again.") % names
            )
    if not known:
        raise CannotUndo(_("What was changed is gone for good, so there is nothing to undo."))
    if (more := len(fields) - MOST_SHOWN) > 0:
        steps.append(ngettext("And %(n)d more.", "And %(n)d more.", more) % {"n": more})
    homes = _homes(known)
    return Preview(
        steps=steps,
        differences=_rehearse(lambda: restore_words(fields, by=user.label), homes[:MOST_SHOWN]),
        later=later_changes(change),
        of_later=_("They changed the same fields since, and are undone with it."),
    )


def _undo_fields(change: Undoable, user: User) -> None:
    until_now = restore_words(change.state["fields"], by=user.label)
    if not until_now:
        raise CannotUndo(_("What was changed is gone for good, so there is nothing to undo."))
    subject = Entity.objects.get(uid=until_now[0]["uid"]) if len(until_now) == 1 else None
    event = record_audit(
        "entity.override-undo",
        subject,
        changes={"change": change.pk, "path": until_now[0]["path"], "count": len(until_now)},
        actor=user,
    )
    keep_words(event, until_now)
    _render_soon()


def _of_bulk_edit(change: Undoable) -> str:
    facts = change.event.changes
    return ngettext(
        "Set %(path)s of %(n)d entity to %(value)s",
        "Set %(path)s of %(n)d entities to %(value)s",
        facts["count"],
    ) % {"path": facts["path"], "n": facts["count"], "value": facts["value"]}


def _preview_bulk_edit(change: Undoable, user: User) -> Preview:
    plan = bulk_edit.plan_undo(user=user, event=change.event)
    if not plan.restored:
        raise CannotUndo(_("All that it changed was edited later, so there is nothing to undo."))
    count = len(plan.restored)
    steps = [
        ngettext(
            "What counted before counts again for %(n)d entity.",
            "What counted before counts again for %(n)d entities.",
            count,
        )
        % {"n": count}
    ]
    for ref, why in plan.skipped[:MOST_SHOWN]:
        steps.append(_("%(ref)s stays as it is. %(why)s") % {"ref": ref, "why": why})
    if (more := len(plan.skipped) - MOST_SHOWN) > 0:
        steps.append(ngettext("And %(n)d more.", "And %(n)d more.", more) % {"n": more})
    homes = _homes(entity.uid for entity in plan.restored)
    return Preview(
        steps=steps,
        differences=_rehearse(
            lambda: bulk_edit.undo_apart(user=user, event=change.event), homes[:MOST_SHOWN]
        ),
        later=later_changes(change),
        of_later=_("What they changed stays as they left it."),
    )


def _undo_bulk_edit(change: Undoable, user: User) -> None:
    bulk_edit.undo_apart(user=user, event=change.event)
    _render_soon()


def _uids(fields: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(field["uid"] for field in fields))


def _homes(uids: Iterable[UUID]) -> list[UUID]:
    """Where what is said of some entities counts: what was merged is shown as the one that it became."""
    uids = list(uids)
    merged = Redirect.objects.filter(loser__uid__in=among(uids, "uuid"))
    winners = dict(merged.values_list("loser__uid", "winner__uid"))
    return list(dict.fromkeys(winners.get(uid, uid) for uid in uids))


# --- ties -------------------------------------------------------------------------------------------------


def _of_tie(change: Undoable) -> str:
    words = {
        TieState.CONFIRMED: _("Confirmed that %(source)s %(type)s %(target)s"),
        TieState.FORBIDDEN: _("Forbade that %(source)s %(type)s %(target)s"),
        TieState.AUTO: _("Let the evidence decide whether %(source)s %(type)s %(target)s"),
    }
    event = change.event
    return words[change.state["after"]] % {
        "source": event.subject_label,
        "type": current_kinds().label(change.state["type"]),
        "target": event.changes.get("target", ""),
    }


def _pairs(change: Undoable) -> list[tuple[Entity, Entity]]:
    """The two ends, and where one was merged into another also those that it is said of now.

    :raises CannotUndo: if one of them is gone for good.
    """
    state = change.state
    entities = {
        str(entity.uid): entity
        for entity in Entity.objects.filter(uid__in=[state["source"], state["target"]])
    }
    if len(entities) < 2:
        raise CannotUndo(_("One of the two is gone for good, so there is nothing to undo."))
    ends = entities[state["source"]], entities[state["target"]]
    winners = {
        redirect.loser_id: redirect.winner
        for redirect in Redirect.objects.filter(loser__in=ends).select_related("winner")
    }
    now = winners.get(ends[0].pk, ends[0]), winners.get(ends[1].pk, ends[1])
    return list(dict.fromkeys([ends, now]))


def _preview_tie(change: Undoable, _user: User) -> Preview:
    source, target = _pairs(change)[-1]
    type_, before = change.state["type"], change.state["before"]
    tie = Tie.objects.filter(source=source, type=type_, target=target).first()
    labels = dict(TieState.choices)
    was = before["state"] if before else TieState.AUTO
    names = {
        "source": source.ref,
        "type": current_kinds().label(type_),
        "target": target.ref,
        "who": before["decided_by"] if before else "",
    }
    steps = {
        TieState.CONFIRMED: _("%(source)s %(type)s %(target)s again, as %(who)s decided."),
        TieState.FORBIDDEN: _("%(source)s and %(target)s are kept apart again, as %(who)s decided."),
        TieState.AUTO: _("The evidence decides again whether %(source)s %(type)s %(target)s."),
    }
    old = labels[TieState(tie.state)] if tie else ""
    rows = [{"path": f"{names['type']} {target.ref}", "old": old, "new": labels[TieState(was)]}]
    return Preview(
        steps=[steps[TieState(was)] % names],
        differences={source.ref: rows},
        later=later_changes(change),
        of_later=_("They decided on the same tie since, and are undone with it."),
    )


def _undo_tie(change: Undoable, user: User) -> None:
    type_, before = change.state["type"], change.state["before"]
    for source, target in _pairs(change):
        tie = Tie.objects.filter(source=source, type=type_, target=target).first()
        kept = decision_of(tie) if tie else None
        restored = restore_decision(source=source, type=type_, target=target, before=before)
    state = [kept["state"] if kept else TieState.AUTO, restored.state]
    changes = {"type": type_, "target": target.ref, "state": state, "change": change.pk}
    keep_decision(record_audit("tie.decide", source, changes=changes, actor=user), restored, before=kept)
    _render_soon()


# --- merges -----------------------------------------------------------------------------------------------


def _of_merge(change: Undoable) -> str:
    event = change.event
    names = {"loser": event.changes.get("loser", ""), "winner": event.subject_label}
    if event.verb == "entity.merge":
        return _("Merged %(loser)s into %(winner)s") % names
    return _("Parted %(loser)s from %(winner)s") % names


def _redirect(change: Undoable) -> Redirect:
    found = (
        Redirect.objects.filter(loser__uid=change.state["loser"]).select_related("loser", "winner").first()
    )
    if found is None:
        raise CannotUndo(_("The two were parted since, so there is nothing to undo."))
    return found


def _preview_merge(change: Undoable, user: User) -> Preview:
    redirect = _redirect(change)
    names = {"loser": redirect.ref, "winner": redirect.winner.ref}
    ends = [redirect.loser.uid, redirect.winner.uid]
    return Preview(
        steps=[
            _("%(loser)s is an entity of its own again, with all that was said of it.") % names,
            _("Its decided ties are no longer those of %(winner)s.") % names,
        ],
        differences=_rehearse(
            lambda: joining.part_apart(user=user, redirect=redirect, at=timezone.now()), ends
        ),
        later=later_changes(change, uids=ends, any_aspect=True),
        of_later=_("What was said of %(winner)s since stays with it.") % names,
    )


def _undo_merge(change: Undoable, user: User) -> None:
    joining.part_apart(user=user, redirect=_redirect(change), at=timezone.now())
    _render_soon()


def _ends(change: Undoable) -> tuple[Entity, Entity]:
    uids = change.state["loser"], change.state["winner"]
    entities = {str(entity.uid): entity for entity in Entity.objects.filter(uid__in=uids)}
    if len(entities) < 2:
        raise CannotUndo(_("One of the two is gone for good, so there is nothing to undo."))
    return entities[uids[0]], entities[uids[1]]


def _preview_part(change: Undoable, user: User) -> Preview:
    loser, winner = _ends(change)
    names = {"loser": loser.ref, "winner": winner.ref}
    return Preview(
        steps=[_("%(loser)s is merged into %(winner)s again; its address leads there.") % names],
        differences=_rehearse(lambda: _join_again(change, user), [winner.uid]),
        later=later_changes(change, uids=[loser.uid], any_aspect=True),
        of_later=_("What was said of %(loser)s since counts for %(winner)s.") % names,
    )


def _join_again(change: Undoable, user: User) -> None:
    loser, winner = _ends(change)
    joining.merge_apart(
        user=user, loser=loser, winner=winner, reason=change.state["reason"], at=timezone.now()
    )


def _undo_part(change: Undoable, user: User) -> None:
    _join_again(change, user)
    _render_soon()


# --- names and what was made by hand ----------------------------------------------------------------------

NAMES = ("entity.map", "entity.unmap", "entity.create")


def _names_within(viewer: Viewer) -> Q:
    """The condition on changes of what a name means: permission where the name lies, and sight of what it means."""
    if not can(viewer, "entity.write"):
        return Q(pk__in=())
    rows = Undoable.objects.filter(event__verb__in=NAMES, expires_at__gt=timezone.now())
    names = rows.values_list("pk", "state__name")
    mine = Q(pk__in=[pk for pk, name in names if can(viewer, "entity.write", Planned(name))])
    return mine & within("entity.read")(viewer)


def _of_name(change: Undoable) -> str:
    names = {"name": change.state["name"], "target": change.event.subject_label}
    words = {
        "entity.map": _("Said that %(name)s means %(target)s"),
        "entity.unmap": _("Said no more that %(name)s means %(target)s"),
        "entity.create": _("Created %(target)s"),
    }
    return words[change.event.verb] % names


def _of_withdrawal(change: Undoable) -> str:
    return _("Withdrew what was declared of %(ref)s") % {"ref": change.event.subject_label}


def _mapped(name: str) -> Alias:
    found = Alias.objects.filter(ref=name).exclude(decided_by="").select_related("entity").first()
    if found is None:
        raise CannotUndo(_("Nobody says any more what %(name)s means.") % {"name": name})
    return found


def _preview_map(change: Undoable, _user: User) -> Preview:
    alias = _mapped(change.state["name"])
    return Preview(
        steps=[_("%(name)s means nothing any more, wherever it is mentioned.") % {"name": alias.ref}],
        differences={alias.ref: [{"path": _("means"), "old": alias.entity.ref}]},
    )


def _undo_map(change: Undoable, user: User) -> None:
    naming.unmap_apart(user=user, ref=_mapped(change.state["name"]).ref)
    _render_soon()


def _target(change: Undoable) -> Entity:
    found = Entity.objects.filter(uid=change.state["target"], deleted_at=None).first()
    if found is None:
        raise CannotUndo(_("What %(name)s meant is gone meanwhile.") % {"name": change.state["name"]})
    return found


def _preview_unmap(change: Undoable, user: User) -> Preview:
    name, target = change.state["name"], _target(change)
    check_free(name, user=user)
    names = {"name": name, "target": target.ref}
    return Preview(
        steps=[_("%(name)s means %(target)s again, wherever it is mentioned.") % names],
        differences={name: [{"path": _("means"), "new": target.ref}]},
    )


def _undo_unmap(change: Undoable, user: User) -> None:
    state = change.state
    naming.map_apart(
        user=user,
        ref=state["name"],
        target=_target(change),
        reason=state["reason"],
        by=state.get("by", ""),  # older ones noted nobody
    )
    _render_soon()


def _made(change: Undoable) -> Entity:
    found = Entity.objects.filter(uid=change.state["uid"], deleted_at=None).first()
    if found is None or not naming.made_by_hand(found).exists():
        raise CannotUndo(_("It was withdrawn since, so there is nothing to undo."))
    return found


def _preview_create(change: Undoable, _user: User) -> Preview:
    entity = _made(change)
    others = entity.claims.filter(mode=ClaimMode.ASSERT).exclude(source__type=SourceType.PERSON).exists()
    words = (
        _("%(ref)s stays, since other sources speak of it, and loses what was said when it was created.")
        if others
        else _("%(ref)s goes.")
    )
    return Preview(
        steps=[words % {"ref": entity.ref}],
        later=later_changes(change, any_aspect=True),
        of_later=_("What people said of what goes waits, should it ever return."),
    )


def _undo_create(change: Undoable, user: User) -> None:
    entity = _made(change)
    if Alias.objects.filter(ref=change.state["name"], entity=entity).exclude(decided_by="").exists():
        naming.unmap_apart(user=user, ref=change.state["name"])
    naming.withdraw_apart(user=user, entity=entity)
    _render_soon()


def _withdrawn(change: Undoable) -> list[str]:
    kept = [one for one in change.state["claims"] if not _is_declared(one)]
    if not kept:
        raise CannotUndo(_("It was declared again since, so there is nothing to undo."))
    return [one["external_id"].removeprefix("created:") for one in kept]


def _is_declared(kept: dict[str, Any]) -> bool:
    return Claim.objects.filter(source__key=kept["source"], external_id=kept["external_id"]).exists()


def _preview_withdraw(change: Undoable, user: User) -> Preview:
    steps = [_("%(ref)s is declared again, as it was.") % {"ref": ref} for ref in _withdrawn(change)]
    again = change.state["claims"]
    return Preview(
        steps=steps,
        differences=_rehearse(lambda: declare_again(again, by=user.label), [UUID(change.state["uid"])]),
    )


def _undo_withdraw(change: Undoable, user: User) -> None:
    _withdrawn(change)
    declare_again(change.state["claims"], by=user.label)
    entity = Entity.objects.filter(uid=change.state["uid"]).first()
    record_audit("entity.declare-again", entity, changes={"change": change.pk}, actor=user)
    _render_soon()


def _of_redeclared(change: Undoable) -> str:
    facts = change.event.changes
    return _("Changed %(paths)s of %(ref)s, which was made by hand") % {
        "paths": facts["paths"],
        "ref": change.event.subject_label,
    }


def _preview_redeclare(change: Undoable, user: User) -> Preview:
    kept = change.state["claims"]
    if not any(_is_declared({**one, "external_id": one["id"]}) for one in kept):
        raise CannotUndo(_("It was withdrawn since, so there is nothing to undo."))
    return Preview(
        steps=[_("%(ref)s is declared as before.") % {"ref": change.event.subject_label}],
        differences=_rehearse(lambda: declare_as_before(kept, by=user.label), [UUID(change.state["uid"])]),
        later=later_changes(change),
        of_later=_("They changed the same fields since, and are undone with it."),
    )


def _undo_redeclare(change: Undoable, user: User) -> None:
    if not declare_as_before(change.state["claims"], by=user.label):
        raise CannotUndo(_("It was withdrawn since, so there is nothing to undo."))
    entity = Entity.objects.filter(uid=change.state["uid"]).first()
    record_audit("entity.redeclare-undo", entity, changes={"change": change.pk}, actor=user)
    _render_soon()


def register() -> None:
    """Tell how changes of the catalog are undone."""
    register_undo(
        *(
            Undo(
                verb,
                _of_fields,
                "pencil",
                within("entity.write"),
                _preview_fields,
                _undo_fields,
                takes_later=True,
            )
            for verb in FIELDS
        ),
        Undo(
            "entity.bulk-edit",
            _of_bulk_edit,
            "pencil",
            within("entity.write"),
            _preview_bulk_edit,
            _undo_bulk_edit,
        ),
        Undo("tie.decide", _of_tie, "link", within("tie.write"), _preview_tie, _undo_tie, takes_later=True),
        Undo("entity.map", _of_name, "users", _names_within, _preview_map, _undo_map),
        Undo("entity.unmap", _of_name, "users", _names_within, _preview_unmap, _undo_unmap),
        Undo("entity.create", _of_name, "plus", _names_within, _preview_create, _undo_create),
        Undo(
            "entity.redeclare",
            _of_redeclared,
            "pencil",
            within("entity.write"),
            _preview_redeclare,
            _undo_redeclare,
            takes_later=True,
        ),
        Undo(
            "entity.withdraw",
            _of_withdrawal,
            "trash",
            within("entity.write"),
            _preview_withdraw,
            _undo_withdraw,
        ),
        Undo("entity.merge", _of_merge, "git-merge", within("entity.write"), _preview_merge, _undo_merge),
        Undo("entity.part", _of_merge, "git-merge", within("entity.write"), _preview_part, _undo_part),
    )
