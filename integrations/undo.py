"""How imports of catalog files and removals are taken back."""

from __future__ import annotations

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.models import Undoable, User
from access.permissions import Viewer, can
from access.services.undo import CannotUndo, Preview, Undo, later_changes, register_undo
from catalog.audience import hidden_names
from catalog.models import AsideClaim, Entity, FormerKey, Source
from catalog.services.homes import claim_key
from integrations.models import CatalogLocation, Connection
from integrations.services import locations, removal
from integrations.services.locations.removal import spoken_of
from integrations.services.moving import sources_of
from integrations.tasks import (
    read_location,
    remove_location,
    start_reading_at,
    start_removal,
    start_restoring,
)


def may_change_connections(viewer: Viewer) -> Q:
    """The condition on changes of what is connected: all of them or none."""
    return Q() if can(viewer, "connection.write") else Q(pk__in=())


def _may_restore(viewer: Viewer) -> Q:
    """The same of connections, of those that are not kept from the viewer."""
    kept = hidden_names(viewer) if isinstance(viewer, User) else frozenset()
    uids = Connection.objects.filter(slug__in=kept).values_list("uid", flat=True) if kept else ()
    return may_change_connections(viewer) & ~Q(state__connection__in=[str(uid) for uid in uids])


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


def _preview_import(change: Undoable, user: User) -> Preview:
    location = _location(change)
    gone = locations.removal_of(location, user)
    touched, _kept = spoken_of(Source.objects.filter(key=location.source_key), user)
    steps = [
        _("%(address)s is no longer read; the files themselves stay as they are.")
        % {"address": _address(change)},
        _going(gone.entities),
        ngettext(
            "%(n)d entity stays and loses what these files said.",
            "%(n)d entities stay and lose what these files said.",
            gone.amended,
        )
        % {"n": gone.amended},
    ]
    return Preview(
        steps=steps,
        later=_later_of(change, touched),
        of_later=_("What people said of what goes waits, should it ever return."),
    )


def _undo_import(change: Undoable, user: User) -> None:
    location = _location(change)
    locations.request_removal(location=location, by=user.label, now=timezone.now())
    remove_location.delay_on_commit(location_id=location.pk)


def _preview_location_removal(change: Undoable, _user: User) -> Preview:
    _check_address_is_free(change)
    removed = change.event.changes.get("entities", 0)
    source = Source(key=CatalogLocation(address=change.state["address"]).source_key)
    declared = FormerKey.objects.filter(key__startswith=claim_key(source, ""))
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
        ],
        later=_later_of(change, Entity.objects.filter(pk__in=declared.values("entity"))),
        of_later=_("What they said of the same things stays, beside what the files say again."),
    )


def _undo_location_removal(change: Undoable, user: User) -> None:
    _check_address_is_free(change)
    location = locations.restore_location(state=change.state, by=user.label, now=timezone.now())
    read_location.delay_on_commit(location_id=location.pk)


def _of_move(change: Undoable) -> str:
    return _("Had the catalog files of %(before)s read at %(address)s") % {
        "before": locations.shown(str(change.state["before"]).partition(":")[2]),
        "address": _address(change),
    }


def _moved(change: Undoable) -> CatalogLocation:
    found = CatalogLocation.objects.filter(
        uid=change.state["uid"], address=change.state["address"], removal_at=None
    ).first()
    if found is None:
        raise CannotUndo(
            _("These catalog files were moved again or removed since, so there is nothing to undo.")
        )
    return found


def _preview_move(change: Undoable, user: User) -> Preview:
    location = _moved(change)
    before = locations.shown(str(change.state["before"]).partition(":")[2])
    touched, _kept = spoken_of(Source.objects.filter(key=location.source_key), user)
    return Preview(
        steps=[
            _("%(before)s is read again instead of %(address)s; what is declared there alone goes.")
            % {"before": before, "address": _address(change)}
        ],
        later=_later_of(change, touched),
        of_later=_("What people said of what goes waits, should it ever return; of what stays, it stays."),
    )


def _undo_move(change: Undoable, user: User) -> None:
    start_reading_at(_moved(change), change.state["before"], by=user.label, roots=change.state["roots"])


def _check_address_is_free(change: Undoable) -> None:
    if CatalogLocation.objects.filter(address=change.state["address"], removal_at=None).exists():
        raise CannotUndo(_("These catalog files were imported again since, so there is nothing to undo."))


# --- connections ------------------------------------------------------------------------------------------


def _of_removal(change: Undoable) -> str:
    return _("Removed the connection %(connection)s") % {"connection": change.event.subject_label}


def _of_restoring(change: Undoable) -> str:
    return _("Restored the connection %(connection)s") % {"connection": change.event.subject_label}


def _connection(change: Undoable, *, is_removed: bool) -> Connection:
    found = Connection.objects.filter(uid=change.state["connection"]).first()
    if found is None or (found.kept_until is not None and found.kept_until <= timezone.now()):
        raise CannotUndo(_("The connection is gone for good, so there is nothing to undo."))
    if (found.removal_at is not None) != is_removed:
        raise CannotUndo(
            _("It was restored since, so there is nothing to undo.")
            if is_removed
            else _("It was removed since, so there is nothing to undo.")
        )
    return found


def _preview_removal(change: Undoable, _user: User) -> Preview:
    connection = _connection(change, is_removed=True)
    went = change.event.changes.get("entities", 0)
    steps = [
        _("%(connection)s is connected again, with its settings, and is read as before.")
        % {"connection": connection.label},
        ngettext(
            "%(n)d entity that only it spoke of returns, with its address, its history and what people said of it.",
            "%(n)d entities that only it spoke of return, with their addresses, their history and what people said "
            "of them.",
            went,
        )
        % {"n": went},
        _("What happened returns to the timeline."),
    ]
    if change.state["with_secrets"]:
        steps.append(_("Its secrets were forgotten with it: enter them again before it can be read."))
    spoken = AsideClaim.objects.filter(source__in=sources_of(connection)).values("entity")
    return Preview(
        steps=steps,
        later=_later_of(change, Entity.objects.filter(pk__in=spoken)),
        of_later=_("What they said of the same things stays, beside what the connection says again."),
    )


def _undo_removal(change: Undoable, user: User) -> None:
    start_restoring(connection=_connection(change, is_removed=True), by=user.label)


def _preview_restoring(change: Undoable, user: User) -> Preview:
    connection = _connection(change, is_removed=False)
    gone = removal.removal_of(connection, user)
    touched, _kept = spoken_of(sources_of(connection), user)
    return Preview(
        steps=[
            _("%(connection)s is removed again; for 30 days it can be restored.")
            % {"connection": connection.label},
            _going(gone.entities),
        ],
        later=_later_of(change, touched),
        of_later=_("What people said of what goes waits, should it ever return."),
    )


def _undo_restoring(change: Undoable, user: User) -> None:
    start_removal(connection=_connection(change, is_removed=False), by=user.label)


def _going(entities: int) -> str:
    return ngettext(
        "%(n)d entity goes: nobody else speaks of it.",
        "%(n)d entities go: nobody else speaks of them.",
        entities,
    ) % {"n": entities}


def _later_of(change: Undoable, entities: QuerySet[Entity]) -> list[Undoable]:
    return later_changes(change, uids=entities.order_by().values_list("uid", flat=True), any_aspect=True)


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
        Undo(
            "catalog.location-move",
            _of_move,
            "arrow-right",
            may_change_connections,
            _preview_move,
            _undo_move,
        ),
        Undo("connection.delete", _of_removal, "trash", _may_restore, _preview_removal, _undo_removal),
        Undo(
            "connection.undelete",
            _of_restoring,
            "plug-connected",
            _may_restore,
            _preview_restoring,
            _undo_restoring,
        ),
    )
