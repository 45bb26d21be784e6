"""Views: named queries with columns, order and grouping; one's own, a team's, or for all."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from access.definitions import DefinitionType, definitions_stamp, forget_stamps, register_document_type
from access.models import User
from access.permissions import can, require, require_own, visible
from access.services import differences, record_audit
from base.answers import require_state
from base.errors import DomainError, FieldError, InvalidInput, NotFound
from catalog import queries
from catalog.models import Entity
from catalog.query import QueryError, order_by, parse
from catalog.query.mine import own_refs
from portal.forms import readable
from portal.models import SavedView, SavedViewQuerySet
from portal.watches import one_line
from portal.widgets.listing import GROUPS, kind_of, labels_of

Audience = SavedView.Audience
MOST_VIEWS = 200
DELETED_STAY = timedelta(days=30)
IN_NAVIGATION = 12
LONGEST_TITLE = 100
LONGEST_QUERY = 2_000
SHARE = "page.write"  # what is for all stands in everybody's navigation


class ViewSpec(BaseModel):
    """How a list is shown. What is empty is as the list has it."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=LONGEST_TITLE)
    description: str = Field("", max_length=500)
    query: str = Field("", max_length=LONGEST_QUERY)
    columns: list[str] = Field(default_factory=list, max_length=30)
    order: str = Field("", max_length=200)
    group: str = Field("", max_length=60)


SHOWN = ("query", "columns", "order", "group")  # what the address of a list says


def check_view(name: str, spec: Any) -> Any:
    """A view's spec as it is stored.

    :raises InvalidInput: with each place.
    """
    errors = []
    try:
        view = ViewSpec.model_validate(spec)
        errors = list(_faults(view))
    except ValidationError as error:
        errors = [
            FieldError("/spec/" + "/".join(map(str, item["loc"])), readable(item))
            for item in error.errors(include_url=False)
        ]
    if errors:
        raise InvalidInput(
            _("The view “%(name)s” cannot be used: %(first)s") % {"name": name[:80], "first": errors[0]},
            errors=errors,
        )
    return view.model_dump(mode="json", exclude_defaults=True)


def _faults(view: ViewSpec) -> list[FieldError]:
    """What cannot be, whatever kinds there are: those of a view may come later than it."""
    errors = []
    try:
        parse(view.query)
    except QueryError as error:
        errors.append(FieldError("/spec/query", error.sentence, got=view.query[:200]))
    try:
        order_by(view.order)
    except QueryError as error:
        errors.append(FieldError("/spec/order", error.sentence, got=view.order[:60]))
    if view.group and view.group not in GROUPS:
        known = ", ".join(GROUPS)
        sentence = _("A list is grouped by one of: %s.") % known
        errors.append(FieldError("/spec/group", sentence, expected=known, got=view.group[:60]))
    return errors


class _Views(DefinitionType[SavedView]):
    """Views as pack documents: those for all."""

    def rows(self) -> QuerySet[SavedView]:
        """Nobody else's: what people keep for themselves or their team is no part of a pack."""
        return super().rows().filter(audience=Audience.ALL, deleted_at=None)


VIEWS = _Views(kind="View", model=SavedView, check=check_view)


def register_views() -> None:
    """Make views known as pack documents."""
    register_document_type(VIEWS)


class TooManyViews(DomainError):
    """An account has as many views as it can have."""

    code = "too-many-views"
    status = 409
    title = gettext_lazy("Too many views")


# --- reading ----------------------------------------------------------------------------------------------


def teams_of(user: User) -> list[Entity]:
    """The groups in the catalog that somebody is a member of, those above them included, by title."""
    refs = own_refs(user)
    if not refs:
        return []
    rows = visible(user, Entity.objects.filter(kind="group", ref__in=refs, deleted_at=None))
    return list(rows.only("uid", "ref", "title", "kind", "namespace", "name").order_by("title"))


def _seen_by(user: User, teams: Sequence[Entity] | None) -> SavedViewQuerySet:
    mine = Q(audience=Audience.ALL) | Q(audience=Audience.PERSONAL, user=user)
    if teams := teams_of(user) if teams is None else teams:
        mine |= Q(audience=Audience.TEAM, team_uid__in=[team.uid for team in teams])
    return SavedView.objects.filter(mine)


def views_of(user: User, *, teams: Sequence[Entity] | None = None) -> QuerySet[SavedView]:
    """The views that somebody sees: their own, those of their teams, and those for all.

    :param teams: `teams_of` them, where these are known.
    """
    return _seen_by(user, teams).kept().select_related("user").order_by("spec__title", "id")


def deleted_of(user: User, *, teams: Sequence[Entity] | None = None) -> list[SavedView]:
    """Those that somebody may bring back.

    :param teams: as in `views_of`.
    """
    since = timezone.now() - DELETED_STAY
    rows = _seen_by(user, teams).filter(deleted_at__gt=since).select_related("user").order_by("-deleted_at")
    return [view for view in rows if may_change(user, view)]


def view_of(user: User, view_id: int) -> SavedView:
    """:raises NotFound: if there is none that they may see."""
    found = views_of(user).filter(pk=view_id).first()
    if found is None:
        raise NotFound(_("There is no such view, or it is not for you."))
    return found


def may_change(user: User, view: SavedView) -> bool:
    """Whether somebody who sees a view may change and delete it: a team's is its members', one for all takes more."""
    return view.audience != Audience.ALL or can(user, SHARE)


def list_url(view: SavedView) -> str:
    """Where the list is that a view shows; all of it stands in the address, so that it can be changed there."""
    spec = view.spec
    asked = {
        "q": spec.get("query", ""),
        "columns": ",".join(spec.get("columns", ())),
        "order": spec.get("order", ""),
        "group": spec.get("group", ""),
        "view": str(view.pk),
    }
    return "/catalog?" + urlencode({name: value for name, value in asked.items() if value}, safe=",:")


def shown_by(params: Mapping[str, str], query: str) -> dict[str, Any]:
    """What the address of a list says, as a view keeps it."""
    return {
        "query": query,
        "columns": [name for name in params.get("columns", "").split(",") if name],
        "order": params.get("order", ""),
        "group": params.get("group", ""),
    }


def is_as_kept(view: SavedView, shown: Mapping[str, Any]) -> bool:
    """Whether a list is as the view has it."""
    return all(
        (view.spec.get(name) or None) == (value or None) for name, value in shown.items() if name in SHOWN
    )


@dataclass(frozen=True, slots=True)
class NavItem:
    """A view in the navigation.

    :ivar kind: the one kind that it lists; empty if it is not one.
    """

    id: int
    title: str
    url: str
    kind: str


def nav_item(view: SavedView) -> NavItem:
    """A view as the navigation has it."""
    return NavItem(view.pk, view.title, list_url(view), kind_of(view.spec.get("query", "")))


class _Navigation:
    """What stands in whose navigation: kept, for it is on every page, and looked up again when a view changed."""

    SECONDS, SIZE = 60.0, 2_000  # a team's members change without a view

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[Any, float, list[NavItem]]] = {}

    def get(self, user: User) -> list[NavItem]:
        stamp, now = definitions_stamp(SavedView), time.monotonic()
        with self._lock:
            known = self._known.get(user.pk)
        if known and known[0] == stamp and now - known[1] < self.SECONDS:
            return known[2]
        found: list[NavItem] = []
        if stamp and stamp[0]:  # there is one at all
            rows = views_of(user).select_related(None)[: IN_NAVIGATION + 1]
            found = [nav_item(view) for view in rows]
        with self._lock:
            if len(self._known) >= self.SIZE:
                self._known.pop(next(iter(self._known)))
            self._known[user.pk] = (stamp, now, found)
        return found

    def forget(self) -> None:
        with self._lock:
            self._known.clear()
        forget_stamps()


_navigation = _Navigation()


def navigation_of(user: User) -> list[NavItem]:
    """The views in somebody's navigation, by title; one more than there is room for, if there are more."""
    return _navigation.get(user)


def forget_navigation() -> None:
    """Look again: after a change in this process, or one that a page shows before the others know of it."""
    _navigation.forget()


# --- writing ----------------------------------------------------------------------------------------------


def etag_of(view: SavedView) -> str:
    """What names the present state of a view."""
    return f'"{view.revision}-{view.updated_at.timestamp():.6f}"'


@transaction.atomic
def make_view(*, user: User, audience: str = Audience.PERSONAL, team: str = "", **spec: Any) -> SavedView:
    """Save a view.

    :param team: ref of the group whose view it is, if it is a team's.
    :param spec: `title`, `description`, `query`, `columns`, `order`, `group`.
    :raises Forbidden: if it is for all, and they may not compose pages.
    :raises TooManyViews: if they have as many as they can have.
    :raises InvalidInput: if something of it cannot be.
    """
    require_own(user)
    _check_room(user)
    view = SavedView(user=user, updated_by=user.label[:200], spec={})
    _dress(user, view, audience, team, spec)
    view.name = _free_name(view)
    view.save()
    record_audit("view.create", view, changes=_facts(view))
    transaction.on_commit(forget_navigation)
    return view


@transaction.atomic
def change_view(
    *,
    user: User,
    view: SavedView,
    audience: str | None = None,
    team: str | None = None,
    expected: str = "",
    **changes: Any,
) -> SavedView:
    """Change what a view shows, what it is called, or for whom it is; what is left out stays.

    :param expected: the etag that the person saw; empty for any.
    :raises Forbidden: if it is for all, or shall be, and they may not compose pages.
    :raises PreconditionFailed: if somebody changed it since.
    :raises InvalidInput: if something of it cannot be.
    """
    row = _mine(user, view)
    require_state(expected, etag_of(row), _("The view “%s”") % row.title)
    before = _facts(row)
    if team is None and row.team_uid:
        team = Entity.objects.filter(uid=row.team_uid).values_list("ref", flat=True).first() or ""
    _dress(user, row, audience or row.audience, team or "", {**row.spec, **changes})
    if (after := _facts(row)) != before:
        _note(row, user, "view.update", differences(before, after))
    return row


@transaction.atomic
def delete_view(*, user: User, view: SavedView) -> None:
    """Take a view away from all who saw it; for 30 days that can be undone."""
    row = _mine(user, view)
    row.deleted_at = timezone.now()
    _note(row, user, "view.delete", {})


@transaction.atomic
def restore_view(*, user: User, view_id: int) -> SavedView:
    """Take the deletion of a view back.

    :raises NotFound: if there is none to be restored.
    :raises TooManyViews: if it is theirs, and they have as many as they can have.
    """
    row = next((one for one in deleted_of(user) if one.pk == view_id), None)
    if row is None:
        raise NotFound(_("There is no such deleted view that you may restore."))
    row = _mine(user, row)
    if row.user_id == user.pk:
        _check_room(user)
    row.deleted_at = None
    _note(row, user, "view.restore", {})
    return row


def forget_deleted(*, now: Any) -> None:
    """Let go of what can no longer be restored. What a pack ships stays, so that it does not come back by itself."""
    SavedView.objects.filter(deleted_at__lte=now - DELETED_STAY, pristine__isnull=True).delete()


def _mine(user: User, view: SavedView) -> SavedView:
    """The row, locked, of a view that somebody sees and may change."""
    row = SavedView.objects.select_for_update(no_key=True, of=("self",)).get(pk=view.pk)
    if row.audience == Audience.ALL:
        require(user, SHARE)
    else:
        require_own(user)
    return row


def _note(row: SavedView, user: User, verb: str, changes: dict[str, Any]) -> None:
    row.revision += 1
    row.updated_by = user.label[:200]
    row.save()
    record_audit(verb, row, changes=changes)
    transaction.on_commit(forget_navigation)


def _facts(view: SavedView) -> dict[str, Any]:
    team = str(view.team_uid) if view.team_uid else ""
    return {**view.spec, "audience": view.audience, "team": team}


def _dress(user: User, view: SavedView, audience: str, team: str, spec: Mapping[str, Any]) -> None:
    """Put into a view what somebody says of it.

    :raises InvalidInput: with each field.
    """
    errors = []
    given = dict(spec)
    for name in ("title", "description", "query"):
        given[name] = one_line(str(given.get(name) or ""))
    try:
        view.spec = check_view(view.name or str(given["title"]), given)
        queries.search_entities(user, given["query"], now=timezone.now())
        errors += _column_faults(given)
    except QueryError as error:
        errors.append(FieldError("query", error.sentence, got=given["query"][:200]))
    except InvalidInput as error:
        errors += [FieldError(one.path.removeprefix("/spec/"), one.message) for one in error.errors]
    if audience not in Audience.values:
        expected = ", ".join(Audience.values)
        errors.append(FieldError("audience", _("Expected is one of: %s.") % expected, got=audience[:60]))
    view.team_uid = None
    if audience == Audience.TEAM:
        found = next((one for one in teams_of(user) if one.ref == team.strip().lower()), None)
        if found is None:
            sentence = _("Choose a team of yours: a view can be shared with those that you are in.")
            errors.append(FieldError("team", sentence, got=team[:60]))
        else:
            view.team_uid = found.uid
    if errors:
        raise InvalidInput(_("The view is not valid: %s") % errors[0], errors=errors)
    if audience == Audience.ALL:
        require(user, SHARE)
    elif audience == Audience.PERSONAL:
        view.user = user  # whoever says "me alone"
    view.audience = audience


def _column_faults(given: Mapping[str, Any]) -> list[FieldError]:
    known = labels_of(given["query"])
    if unknown := [name for name in given.get("columns") or () if name not in known]:
        names = ", ".join(known)
        sentence = _("There is no column “%(name)s”; there are: %(names)s.")
        return [FieldError("columns", sentence % {"name": ", ".join(unknown)[:60], "names": names})]
    return []


def _check_room(user: User) -> None:
    User.objects.select_for_update(no_key=True).get(pk=user.pk)  # one at a time
    if SavedView.objects.kept().filter(user=user).count() >= MOST_VIEWS:
        raise TooManyViews(
            _("You have %(n)d views, and there is no room for more. Delete one that you do not need.")
            % {"n": MOST_VIEWS}
        )


def _free_name(view: SavedView) -> str:
    """A name that a pack could have if the view is for all, else one that is nobody's."""
    name = slugify(view.title)[:50] or "view"
    if view.audience == Audience.ALL and not SavedView.objects.filter(name=name).exists():
        return name
    return f"{name}-{secrets.token_hex(4)}"
