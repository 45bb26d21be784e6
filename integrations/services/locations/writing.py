"""What was read of a location is taken in, a page each transaction, and what is gone is let go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from access.services.audit import record_audit
from catalog.bulk import lies_in_the_data, why_not_stored
from catalog.models import Claim, Entity, Severity, Source, SourceType
from catalog.services import problems
from catalog.services.ingest import ClaimIn, apply_claims, drop_claims, mark_stale
from integrations.guard import is_much
from integrations.models import CatalogLocation
from integrations.services.docs import keep_docs
from integrations.services.locations.addresses import label_of, shown
from integrations.services.locations.reading import Reading, claims_of, first_id
from integrations.services.locations.removal import record_import
from integrations.services.locations.summary import DocumentProblem
from integrations.services.locations.turns import apart, parts

logger = logging.getLogger(__name__)


class Writing:
    """What one reading found is written.

    :param by: who brought it, as people read it in the history.
    :param is_guarded: keep what is gone if that is much.
    :param roots: kept with the location when it is imported.
    :param only_known: write nothing when the location is gone meanwhile.
    """

    def __init__(
        self,
        reading: Reading,
        *,
        by: str,
        is_guarded: bool = False,
        roots: list[str] | None = None,
        only_known: bool = False,
        dry_run: bool = False,
    ) -> None:
        self.reading, self.by, self.is_guarded, self.dry_run = reading, by, is_guarded, dry_run
        self.roots, self.only_known = roots, only_known
        self.start, self.now, self.summary = reading.start, reading.now, reading.summary
        self.written: set[Any] = set()
        self.told: set[Any] = set()

    def write(self) -> None:
        """Take in what was read, by the page, and let go of what a complete reading did not show.

        Whoever is killed meanwhile leaves a location that is read again at once.
        """
        is_new = self._register()
        if is_new is None:
            return
        for page in self.reading.shelf.pages():
            self._take(page)
        self.told |= self.reading.kept
        self.summary.written = len(self.written)
        self.summary.unchanged = len(self.told - self.written)
        if self.reading.was_read:
            self._keep_last_good()
            if not self.summary.unread:
                self._sweep()
        if not self.dry_run:
            apart(lambda: self._close(is_new))

    def _register(self) -> bool | None:
        """Have a location and its source; None if there is nothing to write.

        :returns: whether it is new.
        """
        if self.dry_run:
            return True

        def do() -> bool | None:
            known = CatalogLocation.objects.filter(address=self.start.text).first()
            if self.only_known and (known is None or known.is_removed):
                return None
            is_new = known is None
            if is_new:
                CatalogLocation.objects.create(
                    address=self.start.text, created_by=self.by, roots=self.roots or []
                )
            elif (
                self.roots is not None
                and known is not None
                and (known.roots != self.roots or known.is_removed)
            ):
                # One that is being removed stays: it is wanted again.
                is_new = known.is_removed
                CatalogLocation.objects.filter(pk=known.pk).update(roots=self.roots, removal_at=None)
            self._source()
            return is_new

        return apart(do)

    def _source(self) -> Source:
        source, _created = Source.objects.get_or_create(
            key=f"yaml:{self.start.text}",
            defaults={"type": SourceType.YAML, "name": "yaml", "label": label_of(self.start.text)},
        )
        return source

    def _take(self, claims: list[ClaimIn]) -> None:
        """Take in a page; what cannot be written whole, in halves, down to the document that is to blame."""
        try:
            written, told = apart(lambda: self._apply(claims), take_back=self.dry_run)
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
        self.reading.seen.discard(claim.external_id)
        self.reading.stale[claim.external_id] = message
        place = claim.place
        self.summary.problems.append(
            DocumentProblem(
                place["file"], place["document"], place["line"], "", message, claim.declared_ref() or ""
            )
        )

    def _claimed(self) -> list[str]:
        """The ids of what the location's source says until now."""
        return list(self._claims().values_list("external_id", flat=True))

    def _claims(self) -> QuerySet[Claim]:
        return claims_of(self.start, self.reading.part)

    def _keep_last_good(self) -> None:
        """A document that no longer parses keeps its last good claim, marked stale."""
        unknown, broken = self.reading.unknown, self.reading.broken_files
        if unknown or broken:
            for external_id in self._claimed():
                first = first_id(external_id)
                file, _hash, ref = first.rpartition("#")
                reason = unknown.get(f"{file}#{ref.partition(':')[2]}") or broken.get(file)
                if reason and first not in self.reading.seen:
                    self.reading.stale.setdefault(external_id, reason)
        for part in parts(sorted(self.reading.stale)):
            apart(partial(self._mark_stale, part), take_back=self.dry_run)

    def _mark_stale(self, external_ids: Sequence[str]) -> None:
        reasons = {external_id: self.reading.stale[external_id] for external_id in external_ids}
        mark_stale(source=self._source(), reasons=reasons, at=self.now, by=self.by)

    def _sweep(self) -> None:
        if not self.reading.stale and self._claims().count() == len(self.reading.seen):
            return  # each of those was written or stands
        have = set(self._claimed())
        gone = have - self.reading.seen - set(self.reading.stale)
        if not gone:
            return
        is_all = self.reading.part is None
        count = len(have) if is_all else claims_of(self.start).count()
        if self.is_guarded and ((is_all and not self.reading.seen) or is_much(len(gone), count)):
            self.summary.problems.append(
                DocumentProblem(
                    file=shown(self.start.target),
                    document=0,
                    line=0,
                    path="",
                    message=_(
                        "%(gone)d of %(have)d documents are no longer there, more than usual. Nothing was removed; "
                        "import it by hand to remove them."
                    )
                    % {"gone": len(gone), "have": count},
                )
            )
            return
        for part in parts(sorted(gone)):
            self.summary.removed += len(apart(partial(self._drop, part), take_back=self.dry_run))

    def _drop(self, external_ids: Sequence[str]) -> set[int]:
        return drop_claims(source=self._source(), external_ids=external_ids, at=self.now, by=self.by)

    def _close(self, is_new: bool) -> None:
        """Note what came of it: on the location, as problems, in the audit log."""
        self._report()
        if self.reading.part is not None:
            return  # the numbers are those of the last reading of all
        location = CatalogLocation.objects.select_for_update().filter(address=self.start.text).first()
        if location is None or location.is_removed:
            return
        location.asked_at = None
        location.due_at = self.now + timedelta(seconds=location.interval)
        location.message = self.reading.why_unread
        if self.reading.was_read:
            location.read_at = self.now
            location.summary = {**self.summary.as_dict(), "problems": len(self.summary.problems)}
        location.save()
        if self.reading.docs is not None:
            keep_docs(location, self.reading.docs, now=self.now)
        numbers = {k: v for k, v in self.summary.as_dict().items() if k != "problems"}
        if is_new:
            record_import(location, by=self.by, now=self.now, numbers=numbers)
        elif not self.only_known and (self.summary.written or self.summary.removed):
            record_audit("catalog.import", location, changes=numbers)

    def _report(self) -> None:
        subject = problems.Subject(type="location", label=self.start.target)
        within = Q(type="refused-document")
        if self.reading.part is not None:
            within &= Q(detail__place__file__in=sorted(self.reading.part))
        elif self.summary.unread:
            # Of files that were not read, nothing new is known.
            within &= Q(severity=Severity.FAIL) | Q(detail__place__file__in=sorted(self.reading.files))
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
                            "place": problem.place,
                            "path": problem.path,
                            **({"ref": problem.ref.lower()} if problem.ref else {}),
                        },
                    ),
                )
                for problem in self.summary.problems[:1_000]
            ],
            within=within,
            at=self.now,
        )
