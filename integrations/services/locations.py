"""Catalog files: imported by name, kept as locations, read again when they change.

Each location is a source of its own. It is read first, to its end, and then written in short transactions, a page
each: no lock is held while a disk or the network lets us wait. One process at a time reads a location. A document that
cannot be read is reported with its place and keeps its last good claim; what a complete reading no longer shows is
dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import posixpath
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error, OperationalError, connection, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.services.audit import record_audit
from base.errors import Conflict, DomainError, FieldError, InvalidInput
from base.limits import readable_size
from catalog import identity
from catalog.bulk import lies_in_the_data, why_not_stored
from catalog.documents import (
    DocumentInvalid,
    Location,
    Missing,
    SourceDocument,
    Unreadable,
    read_documents,
    validate_document,
)
from catalog.kinds import current_kinds
from catalog.models import Claim, Entity, Problem, Rank, Severity, Source, SourceType
from catalog.services import problems
from catalog.services.ingest import ClaimIn, apply_claims, drop_claims, mark_stale
from catalog.services.render import render_dirty
from integrations.files import FileReader, has_glob
from integrations.guard import is_much
from integrations.models import CatalogLocation
from integrations.outbound import mask_url
from integrations.readers import ALL_YAML, CatalogReader, GitPlace

logger = logging.getLogger(__name__)

T = TypeVar("T")
PAGE = 500
MAX_ADDRESS = 2_000  # bytes; what is looked up by an index can be little longer
MAX_BYTES = 512 * 1024 * 1024  # of documents in one location
MAX_SECONDS = 1_800  # for reading one location
DUE_AT_ONCE = 20
WAIT = 900  # seconds, for another reading of the same location
# A worker is asked to read what was registered at once; should its message be lost, the tick asks again after this.
REGISTERED_FOR = timedelta(seconds=10)
ATTEMPTS = 6
# What is read waits here to be written; beyond this much, on the disk.
_IN_MEMORY = 32 * 1024 * 1024


class LocationBusy(Conflict):
    """Another process is reading these catalog files."""

    code = "location-busy"


@dataclass(frozen=True, slots=True)
class DocumentProblem:
    """Why a document or location was not taken in, and where exactly.

    :ivar document: its number in the file, from 1; 0 when the file itself could not be read.
    """

    file: str
    document: int
    line: int
    path: str
    message: str
    ref: str = ""


@dataclass
class ImportSummary:
    """What an import did; `documents` = `accepted` + `refused`; `written` and `unchanged` count entities.

    :ivar unread: places that could not be read, so that nothing was removed.
    """

    files: int = 0
    documents: int = 0
    accepted: int = 0
    refused: int = 0
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    unread: int = 0
    problems: list[DocumentProblem] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`, and as the location's summary."""
        return asdict(self)

    def add(self, other: ImportSummary) -> None:
        """Put another location's numbers to these."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def import_paths(
    *,
    addresses: Sequence[str],
    by: str,
    dry_run: bool = False,
    from_shell: bool = False,
    seconds: float | None = None,
) -> ImportSummary:
    """Import catalog files, and register each address as a location that is read again.

    An address that cannot be read is a problem of the summary, and is not registered; the others go in.

    :param addresses: files, folders (all their `*.yaml` and `*.yml`), Git repositories, URLs.
    :param dry_run: say what would happen and write nothing.
    :param from_shell: local addresses may lie anywhere, for whoever has the shell may read them anyway.
    :param seconds: how long each address may be read, if less than usual.
    """
    summary = ImportSummary()
    for address in addresses:
        roots = [_root_of(address)] if from_shell and _is_local(address) else []
        try:
            result = _import(address, roots=roots, by=by, dry_run=dry_run, seconds=seconds or MAX_SECONDS)
        except DomainError as error:
            result = ImportSummary(
                unread=1, problems=[DocumentProblem(mask_url(address), 0, 0, "", error.message)]
            )
        summary.add(result)
    if not dry_run:
        render_dirty(at=timezone.now())
    return summary


def _import(address: str, *, roots: list[str], by: str, dry_run: bool, seconds: float) -> ImportSummary:
    with _Loop(roots) as loop:
        start = _locate(loop, address)
        with (
            nullcontext() if dry_run else _alone(start.text, seconds=WAIT),
            closing(_Reading(start, by=by, roots=roots, dry_run=dry_run)) as reading,
        ):
            reading.read(loop, seconds=seconds)
            reading.write()
    return reading.summary


def _locate(loop: _Loop, address: str) -> Location:
    start: Location = loop.run(loop.reader.locate(address))
    if len(start.text.encode("utf-8", "replace")) > MAX_ADDRESS:
        raise InvalidInput(_("This address is longer than %(limit)d bytes.") % {"limit": MAX_ADDRESS})
    return start


def register_location(*, address: str, by: str, now: datetime) -> CatalogLocation:
    """Have an address read soon, and from then on, by a worker: `refresh_location`.

    :raises Misconfigured: if it is no address, or lies where it may not be read.
    :raises InvalidInput: if it is too long.
    """
    with _Loop() as loop:
        start = _locate(loop, address)
    due_at = now + REGISTERED_FOR
    with transaction.atomic():
        location, is_new = CatalogLocation.objects.get_or_create(
            address=start.text, defaults={"created_by": by, "due_at": due_at}
        )
        if is_new:
            record_audit("catalog.import", location)
        else:
            CatalogLocation.objects.filter(pk=location.pk).update(due_at=due_at)
    return location


def refresh_location(*, location_id: int, now: datetime, is_guarded: bool = True) -> ImportSummary | None:
    """Read a location again; None if it is gone, being read by another worker, or cannot be read now.

    :param is_guarded: keep what is gone if that is much; without it a person has seen to it.
    """
    location = CatalogLocation.objects.filter(pk=location_id).first()
    if location is None:
        return None
    try:
        start, by = Location.of(location.address), label_of(location.address)
        with (
            _alone(location.address, seconds=0),
            _Loop(location.roots) as loop,
            closing(_Reading(start, by=by, is_guarded=is_guarded, only_known=True)) as reading,
        ):
            reading.read(loop, seconds=MAX_SECONDS)
            reading.write()
    except LocationBusy:
        return None
    except DomainError as error:
        due_at = now + timedelta(seconds=location.interval)
        CatalogLocation.objects.filter(pk=location_id).update(message=error.message, due_at=due_at)
        return None
    render_dirty(at=timezone.now())
    return reading.summary if reading.was_read else None


def due_locations(*, now: datetime) -> list[int]:
    """Locations that should be read again; claims them for a while, so that two ticks queue each once."""
    with transaction.atomic():
        rows = list(
            CatalogLocation.objects.select_for_update(skip_locked=True)
            .filter(Q(due_at=None) | Q(due_at__lte=now))
            .order_by("due_at")[:DUE_AT_ONCE]
        )
        for row in rows:
            CatalogLocation.objects.filter(pk=row.pk).update(due_at=now + timedelta(seconds=row.interval))
    return [row.pk for row in rows]


def remove_location(*, location: CatalogLocation, by: str) -> int:
    """Forget a location and all that it declared.

    :returns: how many entities changed or went.
    :raises LocationBusy: while it is being read.
    """
    with _alone(location.address, seconds=5):
        source = Source.objects.filter(key=f"yaml:{location.address}").first()
        changed: set[int] = set()
        if source is not None:
            ids = list(Claim.objects.filter(source=source).values_list("external_id", flat=True))
            for part in _parts(sorted(ids)):
                drop = partial(drop_claims, source=source, external_ids=part, at=timezone.now(), by=by)
                changed |= _apart(drop)
        with transaction.atomic():
            if source is not None:
                source.delete()
            Problem.objects.filter(raised_by=f"yaml:{location.address}"[:500], resolved_at=None).update(
                resolved_at=timezone.now()
            )
            record_audit("catalog.location-remove", location, changes={"entities": len(changed)})
            location.delete()
    render_dirty(at=timezone.now())
    return len(changed)


def label_of(address: str) -> str:
    """A location in a few words: the last parts of its path."""
    target = address.partition(":")[2]
    parts = [part for part in target.split("/") if part and "*" not in part]
    return "/".join(parts[-2:]) or target


def _is_local(address: str) -> bool:
    return "://" not in address or address.startswith(("file://", "git+file://"))


def _root_of(address: str) -> str:
    """The folder that a local address lies in: up to the first part with a pattern."""
    path = (
        Path(address.removeprefix("git+").removeprefix("file://").removeprefix("file:"))
        .expanduser()
        .absolute()
    )
    fixed = Path(*takewhile(lambda part: not has_glob(part), path.parts))
    return str(fixed if fixed.is_dir() else fixed.parent)


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + PAGE] for start in range(0, len(items), PAGE))


# --- alone, and apart -----------------------------------------------------------------------------------------


@contextmanager
def _alone(address: str, *, seconds: float) -> Iterator[None]:
    """Be the only one who reads a location, in whatever process; nobody else waits for that.

    The lock is the database session's, not a transaction's: it lasts while we read, and ends with the process.

    :param seconds: how long to wait for another.
    :raises LocationBusy: if that is not enough.
    """
    key = int.from_bytes(hashlib.blake2b(address.encode(), digest_size=8).digest(), signed=True)
    until = time.monotonic() + seconds
    while not _ask("SELECT pg_try_advisory_lock(%s)", key):
        if time.monotonic() >= until:
            raise LocationBusy(
                _("%(location)s is being read right now; try again when that is over.")
                % {"location": label_of(address)}
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        with suppress(Error):  # a session that broke has let go
            _ask("SELECT pg_advisory_unlock(%s)", key)


def _ask(statement: str, key: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, [key])
        row = cursor.fetchone()
    return bool(row and row[0])


def _apart(do: Callable[[], T], *, take_back: bool = False) -> T:
    """Do something in a short transaction of its own; again, when it met another writer in a circle.

    :param take_back: roll back what was done.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic():
                result = do()
                if take_back:
                    transaction.set_rollback(True)
                return result
        except OperationalError as error:
            # A deadlock, or a serialization failure: the other one goes on, and then it is our turn.
            sqlstate = getattr(error.__cause__, "sqlstate", None)
            if sqlstate not in ("40P01", "40001") or attempt == ATTEMPTS:
                raise
            time.sleep(0.1 * attempt)
    raise AssertionError("unreachable")


class _Loop:
    """An event loop for the reader, run step by step from the thread that uses the database."""

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self._roots = roots

    def __enter__(self) -> _Loop:
        self._loop = asyncio.new_event_loop()
        self.reader = CatalogReader(files=FileReader([*settings.PORTICO_FILES_ALLOW, *self._roots]))
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._loop.run_until_complete(self.reader.aclose())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def run(self, step: Any) -> Any:
        return self._loop.run_until_complete(step)

    def documents(self, start: Location, *, seconds: float) -> Iterator[SourceDocument | Unreadable]:
        """What is read from an address.

        :raises TimeoutError: when that takes longer.
        """
        stream = read_documents([start], self.reader)
        until = self._loop.time() + seconds

        async def step() -> SourceDocument | Unreadable:
            async with asyncio.timeout_at(until):
                return await anext(stream)

        while True:
            try:
                yield self.run(step())
            except StopAsyncIteration:
                return


class _Shelf:
    """What was read and waits to be written: any number of claims in little memory."""

    def __init__(self, *, as_of: datetime) -> None:
        self._as_of = as_of
        self._lines = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="ascii")  # noqa: SIM115 - see `close`

    def put(self, claim: ClaimIn) -> None:
        row = [claim.external_id, claim.kind, claim.document, claim.about, claim.place]
        self._lines.write(json.dumps(row) + "\n")

    def pages(self) -> Iterator[list[ClaimIn]]:
        """All claims, a page at a time."""
        self._lines.seek(0)
        while page := [self._claim(line) for line in islice(self._lines, PAGE)]:
            yield page

    def close(self) -> None:
        self._lines.close()

    def _claim(self, line: str) -> ClaimIn:
        external_id, kind, document, about, place = json.loads(line)
        return ClaimIn(
            external_id=external_id,
            kind=kind,
            document=document,
            rank=Rank.YAML,
            as_of=self._as_of,
            about=tuple(about),
            place=place,
        )


class _Reading:
    """One reading of one location: `read` to its end, then `write`.

    :param roots: kept with the location when it is imported.
    :param only_known: write nothing when the location is gone meanwhile.
    """

    def __init__(
        self,
        start: Location,
        *,
        by: str,
        is_guarded: bool = False,
        roots: list[str] | None = None,
        only_known: bool = False,
        dry_run: bool = False,
    ) -> None:
        self.start, self.by, self.is_guarded, self.dry_run = start, by, is_guarded, dry_run
        self.roots, self.only_known = roots, only_known
        self.now = timezone.now()
        self.kinds = current_kinds()
        self.summary = ImportSummary()
        self.shelf = _Shelf(as_of=self.now)
        self.files: set[str] = set()
        self.refs: Counter[tuple[str, str]] = Counter()
        self.seen: set[str] = set()
        self.written: set[Any] = set()
        self.told: set[Any] = set()
        self.stale: dict[str, str] = {}
        self.broken_files: dict[str, str] = {}
        self.causes: dict[str, list[Unreadable]] = {}

    @property
    def was_read(self) -> bool:
        """Whether anything of it could be read."""
        return bool(self.files) or not self.summary.unread

    def close(self) -> None:
        """Let go of what was read."""
        self.shelf.close()

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, loop: _Loop, *, seconds: float) -> None:
        """Read everything, as far as the time and the room for it reach, and keep what is to be written."""
        size = 0
        try:
            for item in loop.documents(self.start, seconds=seconds):
                if isinstance(item, Unreadable):
                    self._unreadable(item)
                    continue
                size += len(item.parsed.raw)
                if size > MAX_BYTES:
                    self._cut(_("It holds more than %(limit)s.") % {"limit": readable_size(MAX_BYTES)})
                    break
                claim = self._claim(item)
                if claim is not None:
                    self.shelf.put(claim)
        except TimeoutError:
            self._cut(_("Reading it takes longer than %(limit)d s.") % {"limit": seconds})
        self.summary.files = len(self.files)
        for found in self.causes.values():
            self._report_unreadable(found)

    def _cut(self, why: str) -> None:
        self.summary.unread += 1
        message = (
            _("%(why)s What was read until then is shown; an import has more time.")
            if self.dry_run
            else _("%(why)s What was read until then is taken in; import it in parts.")
        ) % {"why": why}
        self.summary.problems.append(DocumentProblem(_shown(self.start.target), 0, 0, "", message))

    def _unreadable(self, item: Unreadable) -> None:
        if item.declared_by is None or item.location.is_pattern or not isinstance(item.error, Missing):
            # What cannot be read is not known to be gone.
            self.summary.unread += 1
        place = GitPlace.parse(item.location.target)
        is_of_repository = place is not None and place.path not in item.error.message
        self.causes.setdefault(
            item.error.message if is_of_repository else f"{item.location}: {item.error.message}", []
        ).append(item)

    def _report_unreadable(self, found: list[Unreadable]) -> None:
        """One line for one cause, at the first of the places that it keeps from being read."""
        item, others = found[0], len(found) - 1
        where, shown = item.declared_by, _shown(item.location.target)
        message = item.error.message
        if where and shown not in message:
            message = f"{shown}: {message}"
        if others:
            message += ngettext(
                " (And %(count)d more that cannot be read for this reason.)",
                " (And %(count)d more that cannot be read for this reason.)",
                others,
            ) % {"count": others}
        self.summary.problems.append(
            DocumentProblem(
                file=where.location.target if where else shown,
                document=where.parsed.number if where else 0,
                line=where.parsed.line if where else 0,
                path="spec.targets" if where else "",
                message=message,
            )
        )

    def _claim(self, document: SourceDocument) -> ClaimIn | None:
        self.summary.documents += 1
        file = document.location.target
        self.files.add(file)
        if document.error is not None:
            self._refuse(document, [FieldError("", document.error.message)], ref="", error=document.error)
            return None
        try:
            valid = validate_document(document.data, self.kinds.set)
        except DocumentInvalid as error:
            self._refuse(document, list(error.errors or []), ref=error.ref, error=error)
            return None
        self.summary.accepted += 1
        ref = valid.ref.text
        self.refs[file, ref] += 1
        number = self.refs[file, ref]
        external_id = f"{file}#{ref}" if number == 1 else f"{file}#{ref}~{number}"
        self.seen.add(external_id)
        return ClaimIn(
            external_id=external_id,
            kind=valid.kind.name.lower(),
            document=valid.data,
            rank=Rank.YAML,
            as_of=self.now,
            about=tuple(identity.keys_of_document(valid.data) or _about_file(document.location)),
            place={"file": file, "document": document.parsed.number, "line": document.parsed.line},
        )

    def _refuse(
        self, document: SourceDocument, errors: list[FieldError], *, ref: str, error: DomainError
    ) -> None:
        self.summary.refused += 1
        file = document.location.target
        for item in errors or [FieldError("", error.message)]:
            try:
                line = document.line_of(item.path) if item.path else document.parsed.line
            except DomainError:
                line = document.parsed.line
            self.summary.problems.append(
                DocumentProblem(
                    file=file,
                    document=document.parsed.number,
                    line=getattr(error, "line", 0) or line,
                    path=item.path,
                    message=item.message,
                    ref=ref,
                )
            )
        if ref:
            self.stale[f"{file}#{ref}"] = _("document %(number)d: %(message)s") % {
                "number": document.parsed.number,
                "message": error.message,
            }
        else:
            self.broken_files[file] = error.message

    # --- writing ------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Take in what was read, by the page, and let go of what a complete reading did not show.

        Whoever is killed meanwhile leaves a location that is read again at once.
        """
        is_new = self._register()
        if is_new is None:
            return
        for page in self.shelf.pages():
            self._take(page)
        self.summary.written = len(self.written)
        self.summary.unchanged = len(self.told - self.written)
        if self.was_read:
            self._keep_last_good()
            if not self.summary.unread:
                self._sweep()
        if not self.dry_run:
            _apart(lambda: self._close(is_new))

    def _register(self) -> bool | None:
        """Have a location and its source; None if there is nothing to write.

        :returns: whether it is new.
        """
        if self.dry_run:
            return True

        def do() -> bool | None:
            known = CatalogLocation.objects.filter(address=self.start.text).first()
            if known is None and (self.only_known or not self.was_read):
                return None
            is_new = known is None
            if is_new:
                CatalogLocation.objects.create(
                    address=self.start.text, created_by=self.by, roots=self.roots or []
                )
            elif self.roots is not None and known is not None and known.roots != self.roots:
                CatalogLocation.objects.filter(pk=known.pk).update(roots=self.roots)
            self._source()
            return is_new

        return _apart(do)

    def _source(self) -> Source:
        source, _created = Source.objects.get_or_create(
            key=f"yaml:{self.start.text}",
            defaults={"type": SourceType.YAML, "name": "yaml", "label": label_of(self.start.text)},
        )
        return source

    def _take(self, claims: list[ClaimIn]) -> None:
        """Take in a page; what cannot be written whole, in halves, down to the document that is to blame."""
        try:
            written, told = _apart(lambda: self._apply(claims), take_back=self.dry_run)
        except Exception as error:
            if not lies_in_the_data(error):
                raise
            if len(claims) == 1:
                logger.exception("Document %s of %s cannot be written.", claims[0].external_id, self.start)
                self._take_back(claims[0], why_not_stored(error))
                return
        else:
            self.written |= written
            self.told |= told
            return
        middle = len(claims) // 2
        self._take(claims[:middle])
        self._take(claims[middle:])

    def _apply(self, claims: list[ClaimIn]) -> tuple[set[Any], set[Any]]:
        applied = apply_claims(source=self._source(), claims=claims, at=self.now, by=self.by)
        if not self.dry_run:
            return applied.written, set(applied.entity_ids)
        # What is new in one page is new again in the next, under another id: the refs stay the same.
        ids = {*applied.written, *applied.entity_ids}
        refs = dict(Entity.objects.filter(pk__in=ids).values_list("pk", "ref"))
        return {refs[pk] for pk in applied.written}, {refs[pk] for pk in applied.entity_ids}

    def _take_back(self, claim: ClaimIn, message: str) -> None:
        """Refuse what was accepted."""
        self.summary.accepted -= 1
        self.summary.refused += 1
        self.seen.discard(claim.external_id)
        self.stale[claim.external_id] = message
        place = claim.place
        self.summary.problems.append(
            DocumentProblem(
                place["file"], place["document"], place["line"], "", message, claim.declared_ref() or ""
            )
        )

    def _claimed(self) -> list[str]:
        """The ids of what the location's source says until now."""
        rows = Claim.objects.filter(source__key=f"yaml:{self.start.text}")
        return list(rows.values_list("external_id", flat=True))

    def _keep_last_good(self) -> None:
        """A document that no longer parses keeps its last good claim, marked stale."""
        if self.broken_files:
            for external_id in self._claimed():
                file = external_id.rpartition("#")[0]
                if file in self.broken_files and external_id not in self.seen:
                    self.stale.setdefault(external_id, self.broken_files[file])
        for part in _parts(sorted(self.stale)):
            _apart(partial(self._mark_stale, part), take_back=self.dry_run)

    def _mark_stale(self, external_ids: Sequence[str]) -> None:
        reasons = {external_id: self.stale[external_id] for external_id in external_ids}
        mark_stale(source=self._source(), reasons=reasons, at=self.now, by=self.by)

    def _sweep(self) -> None:
        have = set(self._claimed())
        gone = have - self.seen - set(self.stale)
        if not gone:
            return
        if self.is_guarded and (not self.seen or is_much(len(gone), len(have))):
            self.summary.problems.append(
                DocumentProblem(
                    file=_shown(self.start.target),
                    document=0,
                    line=0,
                    path="",
                    message=_(
                        "%(gone)d of %(have)d documents are no longer there, more than usual. Nothing was removed; "
                        "import it by hand to remove them."
                    )
                    % {"gone": len(gone), "have": len(have)},
                )
            )
            return
        for part in _parts(sorted(gone)):
            self.summary.removed += len(_apart(partial(self._drop, part), take_back=self.dry_run))

    def _drop(self, external_ids: Sequence[str]) -> set[int]:
        return drop_claims(source=self._source(), external_ids=external_ids, at=self.now, by=self.by)

    def _close(self, is_new: bool) -> None:
        """Note what came of it: on the location, as problems, in the audit log."""
        self._report()
        location = CatalogLocation.objects.filter(address=self.start.text).first()
        if location is None:
            return
        location.due_at = self.now + timedelta(seconds=location.interval)
        location.message = self.summary.problems[0].message if self.summary.unread else ""
        if self.was_read:
            location.read_at = self.now
            location.summary = {**self.summary.as_dict(), "problems": len(self.summary.problems)}
        location.save()
        if is_new or (not self.only_known and (self.summary.written or self.summary.removed)):
            numbers = {k: v for k, v in self.summary.as_dict().items() if k != "problems"}
            record_audit("catalog.import", location, changes=numbers)

    def _report(self) -> None:
        subject = problems.Subject(type="location", label=self.start.target)
        within = Q(type="refused-document")
        if self.summary.unread:
            # Of files that were not read, nothing new is known.
            within &= Q(severity=Severity.FAIL) | Q(detail__place__file__in=sorted(self.files))
        problems.sync(
            raised_by=f"yaml:{self.start.text}"[:500],
            seen=[
                (
                    subject,
                    problems.Seen(
                        type="refused-document",
                        severity=Severity.WARN if problem.document else Severity.FAIL,
                        cause=(
                            _("Documents of %(file)s are refused")
                            if problem.document
                            else _("Catalog files in %(file)s cannot be read")
                        )
                        % {"file": problem.file.rpartition("/")[2]},
                        message=f"{problem.path}: {problem.message}" if problem.path else problem.message,
                        remedy=_("Mend the file; it is read again by itself."),
                        discriminator=f"{problem.file}#{problem.document}#{problem.path}#{problem.message}",
                        detail={
                            "place": {
                                "file": problem.file,
                                "document": problem.document,
                                "line": problem.line,
                            },
                            "path": problem.path,
                        },
                    ),
                )
                for problem in self.summary.problems[:1_000]
            ],
            within=within,
            at=self.now,
        )


def _shown(target: str) -> str:
    """A target for people: without a password, and a folder or repository without the pattern that we put to it."""
    return mask_url(target).removeprefix("git+").removesuffix(ALL_YAML).rstrip("/") or target


def _about_file(location: Location) -> list[str]:
    """The repository and folder that a file lies in, when its address tells."""
    if (place := GitPlace.parse(location.target)) is not None:
        path = place.path if not place.page else location.target
        if place.page:
            found = identity.repo_key(location.target)
            if found is None:
                return []
            base, folder = identity.split_folder(found)
        else:
            found = identity.repo_key(place.repository)
            if found is None:
                return []
            base, folder = found, path
        folder = posixpath.dirname(folder)
        return [f"{base}#{folder}" if folder else base]
    return []
