"""Catalog files: imported by name, kept as locations, read again when they change.

Each location is a source of its own. A document that cannot be read is reported with its place and keeps its last
good claim; what a complete reading no longer shows is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from access.services.audit import record_audit
from base.errors import DomainError, FieldError, InvalidInput
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
from catalog.models import Claim, Problem, Rank, Severity, Source, SourceType
from catalog.services import problems
from catalog.services.ingest import ClaimIn, apply_claims, drop_claims, mark_stale
from catalog.services.render import render_dirty
from integrations.files import FileReader, has_glob
from integrations.models import CatalogLocation
from integrations.readers import CatalogReader, GitPlace
from integrations.sync import GUARD_COUNT, GUARD_SHARE

logger = logging.getLogger(__name__)

PAGE = 2_000
MAX_ADDRESS = 2_000  # bytes; what is looked up by an index can be little longer
DUE_AT_ONCE = 20


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
    """What an import did; `documents` = `accepted` + `refused`; `written` and `unchanged` count entities."""

    files: int = 0
    documents: int = 0
    accepted: int = 0
    refused: int = 0
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    problems: list[DocumentProblem] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`, and as the location's summary."""
        return asdict(self)

    def add(self, other: ImportSummary) -> None:
        """Put another location's numbers to these."""
        for name in ("files", "documents", "accepted", "refused", "written", "unchanged", "removed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems


def import_paths(
    *, addresses: Sequence[str], by: str, dry_run: bool = False, from_shell: bool = False
) -> ImportSummary:
    """Import catalog files, and register each address as a location that is read again.

    :param addresses: files, folders (all their `*.yaml` and `*.yml`), Git repositories, URLs.
    :param dry_run: say what would happen and write nothing.
    :param from_shell: local addresses may lie anywhere, for whoever has the shell may read them anyway.
    :raises SourceError: if an address cannot be read at all.
    :raises InvalidInput: if an address is too long.
    """
    summary = ImportSummary()
    for address in addresses:
        now = timezone.now()
        roots = [_root_of(address)] if from_shell and _is_local(address) else []
        with _Loop(roots) as loop:
            start = loop.run(loop.reader.locate(address))
            if len(start.text.encode("utf-8", "replace")) > MAX_ADDRESS:
                raise InvalidInput(_("This address is longer than %(limit)d bytes.") % {"limit": MAX_ADDRESS})
            with transaction.atomic():
                result = _Reading(loop, start, by=by, now=now, is_guarded=False, dry_run=dry_run).read()
                if dry_run:
                    transaction.set_rollback(True)
                else:
                    location, is_new = CatalogLocation.objects.get_or_create(
                        address=start.text, defaults={"created_by": by}
                    )
                    location.roots = roots
                    _note(location, result, now=now)
                    if is_new or result.written or result.removed:
                        record_audit(
                            "catalog.import",
                            location,
                            changes={k: v for k, v in result.as_dict().items() if k != "problems"},
                        )
        summary.add(result)
    if not dry_run:
        render_dirty(at=timezone.now())
    return summary


def refresh_location(*, location_id: int, now: datetime, is_guarded: bool = True) -> ImportSummary | None:
    """Read a location again; None if it is gone, being read by another worker, or cannot be read now.

    :param is_guarded: keep what is gone if that is much; without it a person has seen to it.
    """
    with transaction.atomic():
        location = CatalogLocation.objects.select_for_update(skip_locked=True).filter(pk=location_id).first()
        if location is None:
            return None
        try:
            with _Loop(location.roots) as loop:
                result = _Reading(
                    loop,
                    Location.of(location.address),
                    by=label_of(location.address),
                    now=now,
                    is_guarded=is_guarded,
                ).read()
        except DomainError as error:
            location.message = error.message
            location.due_at = now + timedelta(seconds=location.interval)
            location.save(update_fields=["message", "due_at"])
            return None
        _note(location, result, now=now)
    render_dirty(at=timezone.now())
    return result


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
    """
    with transaction.atomic():
        source = Source.objects.filter(key=f"yaml:{location.address}").first()
        changed: set[int] = set()
        if source is not None:
            ids = list(Claim.objects.filter(source=source).values_list("external_id", flat=True))
            for start in range(0, len(ids), PAGE):
                changed |= drop_claims(
                    source=source, external_ids=ids[start : start + PAGE], at=timezone.now(), by=by
                )
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


def _note(location: CatalogLocation, result: ImportSummary, *, now: datetime) -> None:
    location.read_at = now
    location.due_at = now + timedelta(seconds=location.interval)
    location.message = ""
    location.summary = {**result.as_dict(), "problems": len(result.problems)}
    location.save()


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
        finally:
            self._loop.close()

    def run(self, step: Any) -> Any:
        return self._loop.run_until_complete(step)

    def documents(self, start: Location) -> Iterator[SourceDocument | Unreadable]:
        stream = read_documents([start], self.reader)
        while True:
            try:
                yield self.run(anext(stream))
            except StopAsyncIteration:
                return


class _Reading:
    """One reading of one location."""

    def __init__(
        self, loop: _Loop, start: Location, *, by: str, now: datetime, is_guarded: bool, dry_run: bool = False
    ) -> None:
        self.loop, self.start, self.by, self.now, self.is_guarded = loop, start, by, now, is_guarded
        self.dry_run = dry_run
        self.kinds = current_kinds()
        self.summary = ImportSummary()
        self.files: set[str] = set()
        self.refs: Counter[tuple[str, str]] = Counter()
        self.seen: set[str] = set()
        self.written: set[int] = set()
        self.told: set[int] = set()
        self.stale: dict[str, str] = {}
        self.broken_files: dict[str, str] = {}
        self.may_sweep = True
        self.source = self._source()

    def _source(self) -> Source:
        key = f"yaml:{self.start.text}"
        source, _created = Source.objects.get_or_create(
            key=key,
            defaults={"type": SourceType.YAML, "name": "yaml", "label": label_of(self.start.text)},
        )
        return source

    def read(self) -> ImportSummary:
        """Read, take in by the page, and let go of what is no longer there."""
        page: list[ClaimIn] = []
        for item in self.loop.documents(self.start):
            if isinstance(item, Unreadable):
                self._unreadable(item)
                continue
            claim = self._claim(item)
            if claim is not None:
                page.append(claim)
                if len(page) >= PAGE:
                    self._take(page)
                    page = []
        if page:
            self._take(page)
        self.summary.files = len(self.files)
        self.summary.written = len(self.written)
        self.summary.unchanged = len(self.told - self.written)
        self._keep_last_good()
        if self.may_sweep:
            self._sweep()
        self._report()
        return self.summary

    def _unreadable(self, item: Unreadable) -> None:
        where = item.declared_by
        self.summary.problems.append(
            DocumentProblem(
                file=where.location.target if where else item.location.target,
                document=where.parsed.number if where else 0,
                line=where.parsed.line if where else 0,
                path="spec.targets" if where else "",
                message=f"{item.location.target}: {item.error.message}",
            )
        )
        if item.declared_by is None or item.location.is_pattern or not isinstance(item.error, Missing):
            # What cannot be read is not known to be gone.
            self.may_sweep = False

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

    def _take(self, claims: list[ClaimIn]) -> None:
        """Take in a page; what cannot be written whole, in halves, down to the document that is to blame."""
        try:
            with transaction.atomic():
                applied = apply_claims(source=self.source, claims=claims, at=self.now, by=self.by)
        except Exception as error:
            if not lies_in_the_data(error):
                raise
            if len(claims) == 1:
                logger.exception("Document %s of %s cannot be written.", claims[0].external_id, self.start)
                self._take_back(claims[0], why_not_stored(error))
                return
        else:
            self.written |= applied.written
            self.told |= set(applied.entity_ids)
            return
        middle = len(claims) // 2
        self._take(claims[:middle])
        self._take(claims[middle:])

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

    def _keep_last_good(self) -> None:
        """A document that no longer parses keeps its last good claim, marked stale."""
        if self.broken_files:
            condition = Q(pk__in=())
            for file in self.broken_files:
                condition |= Q(external_id__startswith=f"{file}#")
            for external_id in Claim.objects.filter(condition, source=self.source).values_list(
                "external_id", flat=True
            ):
                if external_id not in self.seen:
                    self.stale.setdefault(external_id, self.broken_files[external_id.partition("#")[0]])
        if self.stale:
            mark_stale(source=self.source, reasons=self.stale, at=self.now, by=self.by)

    def _sweep(self) -> None:
        have = set(Claim.objects.filter(source=self.source).values_list("external_id", flat=True))
        gone = have - self.seen - set(self.stale)
        if not gone:
            return
        if self.is_guarded and (
            not self.seen or (len(gone) >= GUARD_COUNT and len(gone) > len(have) * GUARD_SHARE)
        ):
            self.summary.problems.append(
                DocumentProblem(
                    file=self.start.target,
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
        ids = sorted(gone)
        for start in range(0, len(ids), PAGE):
            self.summary.removed += len(
                drop_claims(
                    source=self.source, external_ids=ids[start : start + PAGE], at=self.now, by=self.by
                )
            )

    def _report(self) -> None:
        subject = problems.Subject(type="location", label=self.start.target)
        problems.sync(
            raised_by=f"yaml:{self.start.text}"[:500],
            seen=[
                (
                    subject,
                    problems.Seen(
                        type="refused-document",
                        severity=Severity.WARN if problem.document else Severity.FAIL,
                        cause=_("Documents of %(file)s are refused")
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
            within=Q(type="refused-document"),
            at=self.now,
        )


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
