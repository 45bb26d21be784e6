"""How an applied pack is taken back: each definition is served as it was before, unless it was changed since."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.definitions import document_types
from access.models import Undoable, User
from access.permissions import Viewer, can, require
from access.services.undo import CannotUndo, Preview, Undo, register_undo
from catalog.services.merge import diff
from portal.packs import forget_definitions

VERB = "pack.write"


def _definitions(undoable: Undoable) -> list[dict[str, Any]]:
    """What is taken back, the last first.

    :raises CannotUndo: if something of it is not as the pack left it.
    """
    types = document_types()
    found = list(reversed(undoable.state["definitions"]))
    for one in found:
        if one["kind"] not in types or types[one["kind"]].current(one["name"]) != one["after"]:
            raise CannotUndo(
                _("%(kind)s %(name)s was changed since. Undo that first.")
                % {"kind": one["kind"], "name": one["name"]}
            )
    return found


def _title(undoable: Undoable) -> str:
    return _("Applied the pack %(pack)s") % {"pack": undoable.event.subject_label}


def _preview(undoable: Undoable, _user: User) -> Preview:
    found = _definitions(undoable)
    new = sum(one["before"] is None for one in found)
    steps = []
    if new:
        steps.append(
            ngettext("%(n)d definition is deleted.", "%(n)d definitions are deleted.", new) % {"n": new}
        )
    if other := len(found) - new:
        steps.append(
            ngettext(
                "%(n)d definition is as it was before.", "%(n)d definitions are as they were before.", other
            )
            % {"n": other}
        )
    return Preview(
        steps=steps,
        differences={
            f"{one['kind']} {one['name']}": diff(_side(one["after"]), _side(one["before"])) for one in found
        },
    )


def _side(spec: Any) -> dict[str, Any]:
    return {} if spec is None else {"spec": spec}


def _undo(undoable: Undoable, user: User) -> None:
    require(user, VERB)
    types = document_types()
    for one in _definitions(undoable):
        document_type = types[one["kind"]]
        if one["before"] is None:
            document_type.delete(one["name"])
            continue
        document_type.edit(one["name"], one["before"], by=user.label)
        rows = document_type.model._default_manager.filter(name=one["name"])
        rows.update(pack=one["pack"], pristine=one["pristine"])
    transaction.on_commit(forget_definitions)


def _within(viewer: Viewer) -> Q:
    return Q() if can(viewer, VERB) else Q(pk__in=())


def register() -> None:
    """Make known how an applied pack is undone."""
    register_undo(
        Undo(
            verb="pack.apply",
            title=_title,
            icon="package",
            within=_within,
            preview=_preview,
            undo=_undo,
        )
    )
