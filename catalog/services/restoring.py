"""An entity as it was at a revision, by a person's word: what that would override, and doing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.utils.translation import gettext as _

from access.permissions import require
from base.errors import InvalidInput, NotFound
from catalog import queries
from catalog.kinds import current_kinds
from catalog.models import Entity, Rank, Revision, Served
from catalog.past import path_of, undo_diff
from catalog.services.edit import change_overrides, parts_of
from catalog.services.merge import diff


@dataclass
class Restoring:
    """What restoring a revision does.

    :ivar values: fields that are overridden, null for one that goes.
    :ivar dropped: overrides that are taken back, for what a source says without them is what was.
    :ivar rows: what changes: `path`, `old`, `new`.
    :ivar left: paths of what stays as it is, with the reason.
    """

    revision: Revision
    values: dict[str, Any] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


def plan_restore(*, user: Any, entity: Entity, number: int) -> Restoring:
    """What restoring a revision would do; writes nothing.

    :raises Forbidden: without `entity.write` on the entity.
    :raises NotFound: if there is no such revision that the user may see.
    """
    require(user, "entity.write", entity)
    revisions = list(queries.revisions(user, entity).filter(number__gte=number))
    target = revisions[-1] if revisions and revisions[-1].number == number else None
    if target is None:
        raise NotFound(_("%(ref)s has no revision %(number)s.") % {"ref": entity.ref, "number": number})
    if len(revisions) != entity.revision - number + 1:
        raise InvalidInput(_("Not all that changed since is known to you, so it cannot be told what it was."))
    plan = Restoring(target)
    now: dict[str, Any] = orjson.loads(Served.objects.get(entity=entity).document)
    then = orjson.loads(orjson.dumps(now))
    for revision in revisions[:-1]:
        undo_diff(then, revision.diff)
    sources = queries.provenance_of(queries.claims_on(user, entity))
    unions = current_kinds().unions_of(entity.kind)
    for row in diff(now, then):
        path = row["path"]
        if path_of(path) in unions:
            _restore_union(plan, row, _own_word(sources.get(path), user))
            continue
        try:
            parts_of(path)
        except InvalidInput as error:
            plan.left.append((path, " ".join(str(one.message) for one in error.errors) or error.message))
            continue
        plan.rows.append(row)
        _restore_field(plan, path, row, sources)
    return plan


def _own_word(source: queries.FieldSource | None, user: Any) -> list[Any]:
    """What somebody adds to a list themselves."""
    for claim, value in source.said if source else ():
        if claim.rank == Rank.PERSON and claim.source.key == f"person:{user.pk}" and isinstance(value, list):
            return value
    return []


def _restore_union(plan: Restoring, row: Mapping[str, Any], own: list[Any]) -> None:
    """Of a list that sources add to, what is missing is added; what others list stays."""
    now, then = row.get("old") or [], row.get("new") or []
    if missing := [one for one in then if one not in now]:
        plan.values[row["path"]] = [*own, *missing]
        plan.rows.append({"path": row["path"], "old": now, "new": [*now, *missing]})
    if any(one not in then for one in now):
        plan.left.append((row["path"], _("What sources list is not taken away; what was missing is added.")))


def _restore_field(
    plan: Restoring, path: str, row: Mapping[str, Any], sources: Mapping[str, queries.FieldSource]
) -> None:
    source = sources.get(path)
    voices = source.said if source else []
    others = [value for claim, value in voices if claim.rank != Rank.PERSON]
    if len(others) < len(voices):  # people override it now
        plan.dropped.append(path)
        if ("new" in row and others and others[0] == row["new"]) or ("new" not in row and not others):
            return  # without that it is as it was
    plan.values[path] = row.get("new")


def restore_revision(
    *, user: Any, entity: Entity, number: int, reason: str = "", expected: str = ""
) -> Restoring:
    """Have an entity be what it was after a revision, by the user's word, as one change that can be undone.

    :param expected: the etag that the person saw; empty for any.
    :raises InvalidInput: if nothing would change.
    :raises: as `plan_restore` and `change_overrides` do.
    """
    plan = plan_restore(user=user, entity=entity, number=number)
    if not plan.rows:
        raise InvalidInput(_("It is as it was already, so there is nothing to restore."))
    change_overrides(
        user=user,
        entity=entity,
        values=plan.values,
        dropped=plan.dropped,
        reason=reason or _("As of revision %(number)s.") % {"number": number},
        expected=expected,
        verb="entity.restore",
    )
    return plan
