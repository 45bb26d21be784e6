"""What a complete pass of a list no longer showed, and its removal: the rows stay as tombstones."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from catalog.models import Source
from catalog.services.ingest import drop_claims
from integrations.contract import Refused
from integrations.models import RecordOutcome, ResourceRun, SeenPage, StoredRecord
from integrations.records import RECORD_TYPES, AlertStatus, Record


def unseen(row: ResourceRun) -> QuerySet[StoredRecord]:
    """Stored records of the resource that this pass did not show and nobody touched since it began.

    A refused document spares what came from the same file: it may be the same thing, mistyped. And what a person kept
    stays.
    """
    return StoredRecord.objects.filter(pk__in=[pk for pk, _id, refusal in _not_shown(row) if refusal is None])


def end_keeping(row: ResourceRun) -> None:
    """What is listed again needs nobody's word to stay, and should it go once more, that is asked anew."""
    kept = StoredRecord.objects.kept().filter(connection_id=row.run.connection_id, resource=row.name)
    ids = dict(kept.values_list("external_id", "pk"))
    if ids:
        back = {external_id for page in row.pages.all() for external_id in page.ids} & ids.keys()
        kept.filter(pk__in=[ids[external_id] for external_id in back]).update(kept_at=None)


def spared(row: ResourceRun) -> list[Refused]:
    """What this pass did not show for it may stand in a document that was refused, each with the reason."""
    if not row.refused:
        return []
    return [
        Refused(external_id=external_id, reason=refusal["reason"], place=refusal.get("place", ""))
        for _pk, external_id, refusal in _not_shown(row)
        if refusal is not None
    ]


def ended(row: ResourceRun, *, read_at: datetime) -> list[Record]:
    """Alerts that this pass no longer showed, as over: the tool lists what is so now, and does not tell of ends.

    What a delivery told since the pass began stays as it is.
    """
    seen = {external_id for page in row.pages.all() for external_id in page.ids}
    rows = StoredRecord.objects.filter(
        connection_id=row.run.connection_id,
        resource=row.name,
        deleted_at=None,
        is_ignored=False,
        as_of__lt=read_at,
    ).exclude(data__status=AlertStatus.RESOLVED)
    over = {"status": AlertStatus.RESOLVED, "ended_at": read_at, "as_of": read_at}
    return [
        RECORD_TYPES[one.type].model_validate({**one.data, "raw": one.raw, **over})
        for one in rows
        if one.external_id not in seen
    ]


def _not_shown(row: ResourceRun) -> list[tuple[int, str, dict[str, str] | None]]:
    """Key and id of what this pass did not show, and what was refused of the same file."""
    pages = list(row.pages.all())
    seen = {external_id for page in pages for external_id in page.ids}
    refused = {
        external_id.partition("#")[0]: page.errors[external_id]
        for page in pages
        for external_id, outcome in zip(page.ids, page.outcomes, strict=True)
        if outcome == RecordOutcome.REFUSED and "#" in external_id
    }
    rows = StoredRecord.objects.to_be_listed().filter(
        connection_id=row.run.connection_id, resource=row.name, touched_at__lt=row.started_at
    )
    return [
        (pk, external_id, refused.get(external_id.partition("#")[0]))
        for pk, external_id in rows.values_list("pk", "external_id")
        if external_id not in seen
    ]


def remove_unseen(row: ResourceRun, *, now: datetime, by: str) -> int:
    """Let go of what a pass no longer showed. The rows stay as tombstones, so it can be undone.

    :returns: how many went.
    """
    gone = list(unseen(row).values_list("pk", "external_id"))
    source = Source.objects.filter(key=f"connection:{row.run.connection.slug}/{row.name}").first()
    if source is not None:
        drop_claims(source=source, external_ids=[external_id for _, external_id in gone], at=now, by=by)
    StoredRecord.objects.filter(pk__in=[pk for pk, _ in gone]).update(deleted_at=now, touched_at=now)
    if gone:
        SeenPage.objects.create(
            resource=row,
            number=row.pages.count() + 1,
            ids=sorted(external_id for _, external_id in gone),
            outcomes=[int(RecordOutcome.REMOVED)] * len(gone),
        )
    return len(gone)
