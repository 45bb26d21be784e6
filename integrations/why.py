"""Why something is not here: what is known of an entity, a file or an address that somebody expects.

All of it is what the viewer may see. What they may not see looks like what is not there: whether their grants reach a
namespace is told from the grants alone, and says nothing of what lies in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.permissions import can, has_everything, require, visible
from base.errors import Forbidden, NotFound
from base.text import slugify_path
from catalog import queries as catalog
from catalog.documents import InvalidRef, parse_ref
from catalog.kinds import current_kinds
from catalog.lookup import look_up
from catalog.models import AsideClaim, Claim, DirtyEntity, Entity, Problem
from catalog.permissions import Planned
from catalog.unknown import mentions_of
from integrations.components import decide, rule_of
from integrations.ignoring import Ignored
from integrations.models import CatalogLocation, Connection, Delivery, StoredRecord
from integrations.models.runs import ACTIVE
from integrations.outbound import mask_url
from integrations.queries import list_connections, list_locations, seen_records

MOST = 20  # of each sort that is named
MAX_TEXT = 2_000
# What explains most comes first.
STATES = (
    "seen",
    "refused",
    "shadowed",
    "aside",
    "gone",
    "ignored",
    "queued",
    "expected",
    "alike",
    "unread",
    "forbidden",
    "unknown",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where it stands; 0 for what is not known."""

    file: str
    document: int = 0
    line: int = 0
    column: int = 0

    @classmethod
    def of(cls, given: Any) -> Place | None:
        """The place of a claim or a problem, which are objects or, of records, words."""
        if isinstance(given, str) and given:
            found = re.fullmatch(r"(.*), document (\d+), line (\d+)(?:, column (\d+))?(?: \(.*\))?", given)
            return cls(found[1], *(int(n or 0) for n in found.groups()[1:])) if found else cls(given)
        if not isinstance(given, dict) or not (given.get("file") or given.get("address")):
            return None
        numbers = [
            value if isinstance(value := given.get(name), int) else 0
            for name in ("document", "line", "column")
        ]
        return cls(str(given.get("file") or given["address"]), *numbers)

    def __str__(self) -> str:
        words = [self.file]
        for number, text in (
            (self.document, _("document %d")),
            (self.line, _("line %d")),
            (self.column, _("column %d")),
        ):
            if number:
                words.append(text % number)
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is known of it.

    :ivar state: one of `STATES`.
    :ivar entity: that it is about, or leads to.
    :ivar connection: slug of the connection that knows more; `location`: id of the catalog files.
    """

    state: str
    message: str
    place: Place | None = None
    entity: Entity | None = None
    connection: str = ""
    location: int | None = None


@dataclass(frozen=True)
class Expected:
    """What somebody expects.

    :ivar kind: empty if they do not say; so is `namespace`.
    """

    text: str
    kind: str = ""
    namespace: str = ""
    name: str = ""

    @classmethod
    def of(cls, text: str) -> Expected:
        text = text.strip()[:MAX_TEXT].replace("\0", "")
        if "://" in text or re.search(r"\.(ya?ml|json)$|^[/.~]|\s", text):
            return cls(text)
        if ":" not in text:
            namespace, slash, name = text.rpartition("/")
            return cls(text, "", namespace.lower() if slash else "", name.lower())
        try:
            ref = parse_ref(text)
        except InvalidRef:
            return cls(text)
        return cls(text, ref.kind.lower(), ref.namespace.lower(), ref.name.lower())

    @property
    def ref(self) -> str:
        return f"{self.kind}:{self.namespace or 'default'}/{self.name}" if self.kind and self.name else ""

    @property
    def tail(self) -> str:
        """What its ref ends with, as far as it is known."""
        return self.ref or (f"/{self.name}" if not self.namespace else f":{self.namespace}/{self.name}")


@dataclass
class Answer:
    """All that is known, what explains most first."""

    expected: Expected
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_seen(self) -> bool:
        return any(finding.state == "seen" for finding in self.findings)


def why(viewer: Any, text: str) -> Answer:
    """Why something that somebody expects is not here, or where it is."""
    expected = Expected.of(text)
    answer = Answer(expected)
    if not expected.text:
        return answer
    answer.findings += _of_entity(viewer, expected) if expected.name else _of_place(viewer, expected)
    answer.findings += _refused(viewer, expected)
    answer.findings += _left_out(viewer, expected)
    if not answer.is_seen:
        answer.findings += _not_decided(viewer, expected)
        answer.findings += _under_way(viewer)
        answer.findings += _unread(viewer)
        answer.findings += _alike(viewer, expected)
        answer.findings += _beyond(viewer, expected)
    # A place that is waited for may be the one that was asked for.
    answer.findings = sorted(dict.fromkeys(answer.findings), key=lambda finding: STATES.index(finding.state))
    return answer


# --- an entity ------------------------------------------------------------------------------------------------


def _of_entity(viewer: Any, expected: Expected) -> Iterator[Finding]:
    if expected.kind and expected.kind not in current_kinds():
        yield Finding(
            "refused",
            _("There is no kind “%(kind)s”, so documents of it are refused. There are: %(known)s.")
            % {
                "kind": expected.kind,
                "known": ", ".join(sorted(view.title_case for view in current_kinds())),
            },
        )
    for entity in _entities(viewer, expected):
        yield from _seen(viewer, entity, expected)
    if not expected.ref:
        return
    try:
        catalog.entity_of_ref(viewer, expected.ref)
    except catalog.Gone as gone:
        yield Finding("gone", gone.message, entity=gone.entity)
        yield from _aside(viewer, gone.entity)
    except NotFound:
        pass
    if (count := mentions_of(viewer, expected.ref).count()) > 0:
        yield Finding(
            "expected",
            ngettext(
                "%(n)d thing names it, and no source declares it.",
                "%(n)d things name it, and no source declares it.",
                count,
            )
            % {"n": count},
        )


def _entities(viewer: Any, expected: Expected) -> list[Entity]:
    if expected.ref:
        try:
            return [catalog.entity_of_ref(viewer, expected.ref)]
        except NotFound:
            return []
    rows = catalog.list_entities(viewer).filter(name=expected.name)
    if expected.namespace:
        rows = rows.filter(namespace=expected.namespace)
    return list(rows.order_by("ref")[:MOST])


def _seen(viewer: Any, entity: Entity, expected: Expected) -> Iterator[Finding]:
    claims = catalog.claims_on(viewer, entity)
    first = next((claim for claim in claims if not claim.is_shadowed), None)
    if expected.ref and entity.ref != expected.ref:
        message = _("It is known as %(ref)s now: it was renamed, or somebody said that the two are one.")
        yield Finding("seen", message % {"ref": entity.ref}, entity=entity)
    else:
        message = _("It is in the catalog, declared by %(source)s.") if first else _("It is in the catalog.")
        source = first.source.label if first else ""
        yield Finding("seen", message % {"source": source}, Place.of(first.place) if first else None, entity)
    for claim in claims:
        if claim.is_shadowed:
            message = _("%(source)s declares it too, which does not count: the older source does.")
            yield Finding("shadowed", message % {"source": claim.source.label}, Place.of(claim.place), entity)
        if claim.stale_reason:
            message = _(
                "What %(source)s says of it now is refused, and its last good version stays: %(reason)s"
            )
            said = {"source": claim.source.label, "reason": claim.stale_reason}
            yield Finding("refused", message % said, Place.of(claim.place), entity)
    if DirtyEntity.objects.filter(entity=entity).exists():
        yield Finding("queued", _("What follows from its last change is being worked out."), entity=entity)


def _aside(viewer: Any, entity: Entity) -> Iterator[Finding]:
    """What muted or removed connections said of it."""
    known = {one.slug: one for one in visible(viewer, Connection.objects.all())}
    rows = AsideClaim.objects.filter(entity=entity, source__name__in=list(known)).select_related("source")
    for name in sorted({claim.source.name for claim in rows}):
        connection = known[name]
        message = (
            _("%(name)s declares it, but is muted: what it brought is set aside.")
            if connection.muted_at
            else _("%(name)s declared it and was removed: what it brought is set aside.")
        )
        yield Finding("aside", message % {"name": connection.label}, entity=entity, connection=name)


# --- a file or an address -------------------------------------------------------------------------------------


def _of_place(viewer: Any, expected: Expected) -> Iterator[Finding]:
    text = expected.text
    claims = visible(viewer, Claim.objects.filter(entity__deleted_at=None)).select_related("source", "entity")
    found = claims.filter(Q(place__address=text) | Q(place__file=text))
    if not found.exists() and "://" not in text:
        found = claims.filter(place__file__endswith=f"/{text.lstrip('/')}")
    for claim in found.order_by("entity__ref")[:MOST]:
        if claim.is_shadowed:
            message = _("%(ref)s, which it declares, is declared earlier elsewhere; that counts.")
            yield Finding(
                "shadowed", message % {"ref": claim.entity.ref}, Place.of(claim.place), claim.entity
            )
        else:
            message = _("It declares %(ref)s, by %(source)s.")
            said = {"ref": claim.entity.ref, "source": claim.source.label}
            yield Finding("seen", message % said, Place.of(claim.place), claim.entity)
        if claim.stale_reason:
            message = _("Its last good version of %(ref)s stays: %(reason)s")
            said = {"ref": claim.entity.ref, "reason": claim.stale_reason}
            yield Finding("refused", message % said, Place.of(claim.place), claim.entity)
    for entity in look_up(viewer, text).entities[:MOST]:
        yield Finding("seen", _("It belongs to %(ref)s.") % {"ref": entity.ref}, entity=entity)
    for location in list_locations(viewer).filter(address__in=[text, f"file:{text}", f"url:{text}"])[:MOST]:
        yield _location(location)


def _location(location: CatalogLocation) -> Finding:
    said = {"address": mask_url(location.address), "reason": location.message}
    if location.is_removed:
        return Finding("gone", _("%(address)s is being forgotten.") % said, location=location.pk)
    if location.message:
        message = _("%(address)s could not be read: %(reason)s") % said
        return Finding("unread", message, location=location.pk)
    if location.is_awaited or location.read_at is None:
        message = _("%(address)s waits to be read, which a worker does in turn.") % said
        return Finding("queued", message, location=location.pk)
    summary = location.summary
    message = _("%(address)s was read: %(accepted)d documents were taken in, %(refused)d refused.")
    said |= {"accepted": summary.get("accepted", 0), "refused": summary.get("refused", 0)}
    return Finding("seen" if summary.get("accepted") else "refused", message % said, location=location.pk)


# --- what was refused or left out -----------------------------------------------------------------------------


def _refused(viewer: Any, expected: Expected) -> Iterator[Finding]:
    rows = visible(
        viewer, Problem.objects.filter(resolved_at=None, type__in=("refused-document", "refused-record"))
    )
    if expected.name:
        by_ref = Q(detail__ref=expected.ref) if expected.ref else Q(detail__ref__endswith=expected.tail)
        mine = (
            by_ref
            | Q(detail__place__endswith=f"{expected.tail})")
            | Q(detail__record__endswith=expected.tail)
        )
    else:
        file = expected.text.removeprefix("file:").removeprefix("url:")
        tail = f"/{file.lstrip('/')}"
        mine = (
            Q(detail__place__file=file)
            | Q(detail__place__file__endswith=tail)
            | Q(detail__record__contains=f":{file.lstrip('/')}#")
            | Q(detail__place__startswith=f"{file},")
        )
    found = list(rows.filter(mine).order_by("first_seen_at", "pk")[:MOST])
    for problem in found:
        yield _problem(problem, _("It is refused: %(reason)s") % {"reason": problem.message})
    if expected.name and not found:
        # What cannot be read does not say what it declares.
        nameless = Q(type="refused-document", detail__ref__isnull=True)
        nameless |= Q(type="refused-record", detail__record__regex=r"#\d+$") & ~Q(detail__place__endswith=")")
        for problem in rows.filter(nameless).order_by("first_seen_at", "pk")[:5]:
            message = _("Perhaps it stands in what cannot be read: %(reason)s") % {"reason": problem.message}
            yield _problem(problem, message, "unread")


def _problem(problem: Problem, message: str, state: str = "refused") -> Finding:
    return Finding(
        state,
        message,
        Place.of(problem.detail.get("place")),
        connection=problem.detail.get("connection", ""),
    )


def _records(viewer: Any, expected: Expected) -> QuerySet[StoredRecord]:
    rows = seen_records(viewer, StoredRecord.objects.filter(deleted_at=None)).select_related("connection")
    if expected.name:
        mine = (
            Q(external_id__iendswith=f"#{expected.ref}")
            if expected.ref
            else Q(external_id__iendswith=expected.tail)
        )
        mine |= Q(data__name__iexact=expected.name) | Q(data__path__iendswith=f"/{expected.name}")
    else:
        mine = Q(external_id__contains=f":{expected.text.lstrip('/')}#") | Q(external_id=expected.text)
    return rows.filter(mine).defer("raw")


def _left_out(viewer: Any, expected: Expected) -> Iterator[Finding]:
    rows = _records(viewer, expected).filter(is_ignored=True).order_by("connection_id", "external_id")
    rules: dict[int, Ignored] = {}
    for record in rows[:MOST]:
        if record.connection_id not in rules:
            rules[record.connection_id] = Ignored.of(record.connection)
        rule = rules[record.connection_id]
        reason = rule.reason(record.resource, record.type, record.external_id, record.data.get)
        message = _("%(name)s lists it as %(record)s, and it is left out of the catalog. %(reason)s")
        said = {"name": record.connection.label, "record": record.external_id, "reason": reason}
        yield Finding("ignored", message % said, connection=record.connection.slug)


def _not_decided(viewer: Any, expected: Expected) -> Iterator[Finding]:
    """Repositories of its name of which a connection's rule makes no component."""
    if not expected.name or expected.kind not in {"", "component"}:
        return
    rows = _records(viewer, expected).filter(type="repository", is_ignored=False).order_by("pk")
    by_connection: dict[Connection, set[str]] = {}
    for record in rows[: MOST * 5]:
        names = {slugify_path(str(record.data.get(name) or "")) for name in ("name", "path")}
        if any(name == expected.name or name.endswith(f"-{expected.name}") for name in names):
            by_connection.setdefault(record.connection, set()).add(record.external_id)
    for connection, ids in by_connection.items():
        for decision in decide(connection=connection, rule=rule_of(connection), now=timezone.now()):
            if decision.external_id in ids and not decision.is_component:
                message = _(
                    "%(name)s has the repository %(path)s, and its rule makes no component of it: %(reason)s"
                )
                said = {"name": connection.label, "path": decision.path, "reason": decision.reason}
                yield Finding("ignored", message % said, connection=connection.slug)


# --- what is still to come, and what one may not see ----------------------------------------------------------


def _under_way(viewer: Any) -> Iterator[Finding]:
    for connection in list_connections(viewer).filter(last_state__in=ACTIVE)[:MOST]:
        message = _("%(name)s is being read, or waits for it; what it lists comes then.")
        yield Finding("queued", message % {"name": connection.label}, connection=connection.slug)
    waiting = visible(viewer, Delivery.objects.filter(state__in=["queued", "running"]))
    for slug in sorted(set(waiting.values_list("connection__slug", flat=True)))[:MOST]:
        message = _("Deliveries to %(slug)s wait to be taken in.")
        yield Finding("queued", message % {"slug": slug}, connection=slug)
    for location in list_locations(viewer).filter(asked_at__isnull=False, removal_at=None)[:MOST]:
        yield _location(location)


def _unread(viewer: Any) -> Iterator[Finding]:
    failed = visible(viewer, Problem.objects.filter(type="sync", resolved_at=None))
    for problem in failed.order_by("pk")[:MOST]:
        yield _problem(problem, f"{problem.cause}: {problem.message}", "unread")
    for location in list_locations(viewer).exclude(message="").filter(removal_at=None)[:MOST]:
        yield _location(location)


def _alike(viewer: Any, expected: Expected) -> Iterator[Finding]:
    if expected.name:
        for entity in catalog.near_names(viewer, kind=expected.kind, name=expected.name):
            yield Finding("alike", _("%(ref)s has a name like it.") % {"ref": entity.ref}, entity=entity)


def _beyond(viewer: Any, expected: Expected) -> Iterator[Finding]:
    """What one may not see is told from what one was granted alone, whether there is anything or not."""
    if has_everything(viewer) and getattr(viewer, "token", None) is None:
        yield Finding(
            "unknown",
            _("You may see all that there is. Where nothing above explains it, no source tells of it: import its "
              "file, or connect the tool that knows it."),
        )  # fmt: skip
        return
    if expected.ref and not can(viewer, "entity.read", Planned(expected.ref)):
        try:
            require(viewer, "entity.read", Planned(expected.ref))
        except Forbidden as error:
            message = _("If it is there, it is not for you to see, and this page would not tell. %(advice)s")
            yield Finding("forbidden", message % {"advice": error.message})
        return
    yield Finding(
        "unknown",
        _("No source that is for you tells of it. What is for others, or for some access groups alone, is not told "
          "here; an administrator can look it up."),
    )  # fmt: skip
