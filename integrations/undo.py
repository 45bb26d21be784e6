"""How imports of catalog files and their removal are taken back."""

from __future__ import annotations

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.models import Undoable, User
from access.permissions import Viewer, can
from access.services.undo import CannotUndo, Preview, Undo, later_changes, register_undo
from catalog.models import Source
from integrations.models import CatalogLocation
from integrations.services import locations
from integrations.services.locations.removal import spoken_of
from integrations.tasks import read_location, remove_location

MOST_LATER = 1_000  # entities whose later changes are looked for


def may_change_connections(viewer: Viewer) -> Q:
    """The condition on changes of what is connected: all of them or none."""
    return Q() if can(viewer, "connection.write") else Q(pk__in=())


# --- catalog files ----------------------------------------------------------------------------------------


def _of_import(change: Undoable) -> str:
    return _("Imported the catalog files %(address)s") % {"address": _address(change)}


def _of_location_removal(change: Undoable) -> str:
    return _("Removed the catalog files %(address)s") % {"address": _address(change)}


def _address(change: Undoable) -> str:
    return locations.shown(str(change.state["address"]).partition(":")[2])


def _location(change: Undoable) -> CatalogLocation:
    found = CatalogLocation.objects.filter(address=change.state["address"], removal_at=None).first()
    if found is None:
        raise CannotUndo(_("These catalog files were removed since, so there is nothing to undo."))
    return found


def _preview_import(change: Undoable, _user: User) -> Preview:
    location = _location(change)
    removal = locations.removal_of(location)
    touched, _kept = spoken_of(Source.objects.filter(key=location.source_key))
    steps = [
        _("%(address)s is no longer read; the files themselves stay as they are.")
        % {"address": _address(change)},
        ngettext(
            "%(n)d entity goes: nobody else speaks of it.",
            "%(n)d entities go: nobody else speaks of them.",
            removal.entities,
        )
        % {"n": removal.entities},
        ngettext(
            "%(n)d entity stays and loses what these files said.",
            "%(n)d entities stay and lose what these files said.",
            removal.amended,
        )
        % {"n": removal.amended},
    ]
    return Preview(
        steps=steps,
        later=later_changes(
            change, uids=touched.order_by("pk").values_list("uid", flat=True)[:MOST_LATER], any_aspect=True
        ),
        of_later=_("What people said of what goes waits, should it ever return."),
    )


def _undo_import(change: Undoable, user: User) -> None:
    location = _location(change)
    locations.request_removal(location=location, by=user.label, now=timezone.now())
    remove_location.delay_on_commit(location_id=location.pk)


def _preview_location_removal(change: Undoable, _user: User) -> Preview:
    _check_address_is_free(change)
    removed = change.event.changes.get("entities", 0)
    return Preview(
        steps=[
            _("%(address)s is read again, now and from then on.") % {"address": _address(change)},
            ngettext(
                "%(n)d entity went with it. What the files still declare returns, with its address, its history and "
                "what people said of it.",
                "%(n)d entities went with it. What the files still declare returns, with its address, its history and "
                "what people said of it.",
                removed,
            )
            % {"n": removed},
        ]
    )


def _undo_location_removal(change: Undoable, user: User) -> None:
    _check_address_is_free(change)
    location = locations.restore_location(state=change.state, by=user.label, now=timezone.now())
    read_location.delay_on_commit(location_id=location.pk)


def _check_address_is_free(change: Undoable) -> None:
    if CatalogLocation.objects.filter(address=change.state["address"], removal_at=None).exists():
        raise CannotUndo(_("These catalog files were imported again since, so there is nothing to undo."))


def register() -> None:
    """Tell how changes of what is connected are undone."""
    register_undo(
        Undo("catalog.import", _of_import, "upload", may_change_connections, _preview_import, _undo_import),
        Undo(
            "catalog.location-remove",
            _of_location_removal,
            "trash",
            may_change_connections,
            _preview_location_removal,
            _undo_location_removal,
        ),
    )
