"""What was: an entity as it was before some of its revisions, and what changed of what a query finds, or found then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

import orjson
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access.permissions import visible
from base.errors import BadRequest, FieldError
from catalog.bulk import among
from catalog.documents.refs import InvalidRef, parse_ref
from catalog.kinds import current_kinds
from catalog.models import Entity, Revision, Served
from catalog.query.compile import compile_query, term_condition
from catalog.query.fields import Context, Field, Ref, find_field, named, read_ref
from catalog.query.nodes import And, Node, Not, Or, Term, Value, Words, terms
from catalog.query.parser import parse
from catalog.query.tokens import as_text

MOST_CANDIDATES = 2_000  # entities of which it is looked up whether they were found then
MOST_REVISIONS = 100  # of one entity that are told at once

Path = tuple[str, ...]


def path_of(text: str) -> Path:
    """The parts of a path in a diff. Keys of labels and annotations may hold dots themselves."""
    head, _dot, rest = text.partition(".")
    name, _dot, key = rest.partition(".")
    if head == "metadata" and name in {"labels", "annotations"} and key:
        return head, name, key
    return tuple(text.split("."))


def undo_diff(document: dict[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Make a document what it was before a change, in place."""
    for row in rows:
        *above, last = path_of(row["path"])
        holder: Any = document
        for part in above:
            inner = holder.get(part)
            if not isinstance(inner, dict):
                inner = holder[part] = {}
            holder = inner
        if "old" in row:
            holder[last] = row["old"]
        else:
            holder.pop(last, None)


SPAN = timedelta(days=7)


def span_of(since: str, until: str, *, now: datetime) -> tuple[datetime, datetime]:
    """The time between two days or moments as people and programs write them; by default the last week.

    :param until: a day counts to its end.
    :raises BadRequest: naming what cannot be read, or if the end comes first.
    """
    end = _moment("to", until, is_end=True) or now
    start = _moment("from", since) or end - SPAN
    if start >= end:
        raise BadRequest(_("The time begins at its end or after it: give an earlier day as “from”."))
    return start, end


def _moment(name: str, text: str, *, is_end: bool = False) -> datetime | None:
    text = text.strip()
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else timezone.make_aware(at)
        if not 1 < at.year < 9999:  # a time zone would carry it beyond the years that there are
            raise ValueError(text)
        return at + timedelta(days=1) if is_end and len(text) <= len("2026-01-31") else at
    except (ValueError, OverflowError):
        expected = "2026-01-31, 2026-01-31T09:30:00Z"
        raise BadRequest(
            _("“%(name)s” is a day or a moment, such as %(expected)s, but “%(got)s” came.")
            % {"name": name, "expected": expected, "got": text[:60]},
            errors=[FieldError(name, _("No day and no moment."), expected=expected, got=text[:60])],
        ) from None


# --- what changed -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The entities that changed within a time.

    :ivar rows: of them, those that are gone too.
    :ivar then: uids of those that the query found within that time, and finds no more.
    :ivar is_whole: whether all that changed was looked at for having been found then.
    """

    rows: QuerySet[Entity]
    then: frozenset[UUID]
    is_whole: bool = True


def what_changed(viewer: Any, text: str, *, since: datetime, until: datetime, now: datetime) -> Found:
    """What changed of what a query finds, or found then.

    :raises QueryError: where the query is wrong.
    """
    node = parse(text)
    revisions = visible(viewer, Revision.objects.filter(at__gte=since, at__lt=until))
    changed = visible(viewer, Entity.objects.filter(uid__in=revisions.values("entity_uid")))
    condition = compile_query(node, viewer=viewer, now=now)
    if not list(terms(node)):
        return Found(changed, frozenset())
    others = changed.exclude(Q(deleted_at=None) & condition).order_by("-changed_at", "-id")
    candidates = {e.pk: e for e in others.defer("tokens", "description")[: MOST_CANDIDATES + 1]}
    is_whole = len(candidates) <= MOST_CANDIDATES
    context = Context(now=now, viewer=viewer)
    then = _found_then(viewer, node, candidates, context, since=since, until=until)
    return Found(
        changed.filter(Q(deleted_at=None) & condition | Q(uid__in=among(then, "uuid"))),
        frozenset(then),
        is_whole,
    )


def revisions_of(
    viewer: Any,
    entities: Iterable[Entity],
    *,
    since: datetime,
    until: datetime,
    most: int = MOST_REVISIONS,
) -> dict[UUID, list[Revision]]:
    """What changed of some entities within a time, newest first.

    :param most: how many of each, at the most.
    """
    found: dict[UUID, list[Revision]] = {entity.uid: [] for entity in entities}
    rows = Revision.objects.filter(entity_uid__in=list(found), at__gte=since, at__lt=until)
    for row in visible(viewer, rows).order_by("entity_uid", "-number"):
        if len(found[row.entity_uid]) < most:
            found[row.entity_uid].append(row)
    return found


@dataclass(slots=True)
class _State:
    """An entity on its way back.

    :ivar changed: fields that are not as they are now.
    :ivar is_past: whether it is another by now, or gone.
    """

    entity: Entity
    document: dict[str, Any]
    changed: set[str] = field(default_factory=set)
    is_past: bool = False


def _found_then(
    viewer: Any,
    node: Node,
    candidates: Mapping[int, Entity],
    context: Context,
    *,
    since: datetime,
    until: datetime,
) -> set[UUID]:
    if not candidates:
        return set()
    # What a term says of an entity as it is, or as it was when it went.
    rows = Entity.objects.filter(pk__in=among(candidates, "bigint")).order_by()
    present = {
        term: set(rows.filter(term_condition(term, context).as_q()).values_list("pk", flat=True))
        for term in set(terms(node))
    }
    documents = dict(
        Served.objects.filter(entity_id__in=among(candidates, "bigint")).values_list("entity_id", "document")
    )
    by_uid = {entity.uid: entity for entity in candidates.values()}
    revisions = visible(viewer, Revision.objects.filter(entity_uid__in=among(by_uid, "uuid"), at__gte=since))
    states = {
        e.uid: _State(e, orjson.loads(documents[pk]) if pk in documents else {})
        for pk, e in candidates.items()
    }
    found: set[UUID] = set()
    for row in revisions.order_by("entity_uid", "-number"):
        if row.entity_uid in found:
            continue
        state = states[row.entity_uid]
        # As it was after this change, unless that was later; and then as it was before.
        if row.at < until and state.is_past and _holds(node, state, present, context):
            found.add(row.entity_uid)
            continue
        undo_diff(state.document, row.diff)
        state.changed |= {str(one["path"]).lower() for one in row.diff}
        state.is_past |= bool(row.diff) or row.action == "deleted"
        is_before = row.at < until and row.action != "created"
        if is_before and state.is_past and _holds(node, state, present, context):
            found.add(row.entity_uid)
    return found


def _holds(node: Node, state: _State, present: Mapping[Term, set[int]], context: Context) -> bool:
    match node:
        case And(items):
            return all(_holds(item, state, present, context) for item in items)
        case Or(items):
            return any(_holds(item, state, present, context) for item in items)
        case Not(item):
            return not _holds(item, state, present, context)
        case _:
            known = _was(node, state, context)
            return state.entity.pk in present[node] if known is None else known


def _was(term: Term, state: _State, context: Context) -> bool | None:
    """Whether a term held then; None where it is as it is now, or nobody kept how it was."""
    if isinstance(term, Words):
        said = (_at(state.document, ("metadata", name)) for name in ("title", "description"))
        texts = [state.entity.name, *(str(one or "") for one in said)]
        if not state.changed & {"metadata.title", "metadata.description"}:
            return None
        word = term.value.text.lower()
        return any(
            fnmatchcase(text.lower(), f"*{word}*") if term.value.is_pattern else word in text.lower()
            for text in texts
        )
    field_ = find_field(term.field)
    if term.field.lower() == "has":
        answers = [_is_there(named(value), state) for value in term.values]
    else:
        answers = [_is_value(field_, value, state, context) for value in term.values]
    if True in answers:
        return True
    return None if None in answers else False


def _is_changed(path: str, state: _State) -> bool:
    return any(
        one == path or one.startswith(f"{path}.") or path.startswith(f"{one}.") for one in state.changed
    )


def _is_there(field_: Field, state: _State) -> bool | None:
    if not field_.path or not _is_changed(field_.path, state):
        return None
    return _at(state.document, field_.path.split(".")) not in (None, "", [], {})


def _is_value(field_: Field, value: Value, state: _State, context: Context) -> bool | None:
    if not field_.path or value.operator != "=" or not _is_changed(field_.path, state):
        return None
    parts = path_of(field_.path)
    said = _at(state.document, parts)
    if not value.text:
        return said in (None, "", [], {})
    many = [one for one in (said if isinstance(said, list) else [said]) if one not in (None, "")]
    if isinstance(field_, Ref):
        refs, patterns = read_ref(field_, value, context)
        whole = [ref for ref in (_ref(one, parts, state.entity) for one in many) if ref]
        return any(
            ref in refs or any(p.fits(ref) or fnmatchcase(ref, p.like().replace("%", "*")) for p in patterns)
            for ref in whole
        )
    word = value.text.lower()
    texts = [as_text(one).lower() for one in many if isinstance(one, (str, int, float, bool))]
    return any(fnmatchcase(text, word) if value.is_pattern else text == word for text in texts)


def _ref(value: Any, parts: Sequence[str], entity: Entity) -> str:
    kinds = current_kinds()
    kind = (
        kinds.by_name(entity.kind).definition.default_kind_at(tuple(parts)) if entity.kind in kinds else None
    )
    with suppress(InvalidRef, AttributeError, TypeError):
        return parse_ref(value, kind, entity.namespace).text
    return ""


def _at(document: Any, parts: Sequence[str]) -> Any:
    """A value of a document, whatever the case of its keys: those of a query are in lower case."""
    for part in parts:
        if not isinstance(document, dict):
            return None
        if part not in document:
            part = next((key for key in document if key.lower() == part.lower()), part)
        document = document.get(part)
    return document
