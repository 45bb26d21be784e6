"""How records are written, by a sync and by whatever else brings some: kept as told, mapped, taken in."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import orjson
from django.db import connection, transaction

from catalog.bulk import lies_in_the_data, why_not_stored
from catalog.models import Source, SourceType
from catalog.services.activity import apply_activity
from catalog.services.ingest import ClaimIn, apply_claims, drop_claims, mark_stale
from catalog.services.people import teams
from integrations.contract import Gone, Refused
from integrations.ignoring import ACTIVITY, Ignored, ignore_rule_of, ignored_keys, left_out
from integrations.mapping import Context, RecordRefused, map_activity, map_entity
from integrations.models import Connection, RecordOutcome, StoredRecord
from integrations.records import RECORD_TYPES, ActivityRecord, Record, Repository

logger = logging.getLogger(__name__)

PAGE = 200
_WRITING_LOCK = 0x706F7277
_OUTCOMES = {"new": RecordOutcome.NEW, "changed": RecordOutcome.CHANGED, "unchanged": RecordOutcome.UNCHANGED}


@dataclass
class Written:
    """What became of some records."""

    outcomes: dict[str, RecordOutcome] = field(default_factory=dict)
    errors: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(kw_only=True)
class RecordWriter:
    """Writes records of one resource: stored, mapped, taken in by the catalog. The caller holds the transaction.

    :ivar read_at: when the records were asked for, if that was not just now: as of then they are true, at least.
    :ivar known_at: of records that nobody asked for: what is older than this was known already.
    """

    connection: Connection
    resource: str
    by: str
    now: datetime
    read_at: datetime | None = None
    known_at: datetime | None = None

    def context(self, record: Record) -> Context:
        read_at = record.as_of or self.read_at or self.now
        groups = self._teams if isinstance(record, Repository) and record.owners else {}
        of = self.connection
        return Context(of.slug, of.connector, of.namespace, read_at, groups)

    @cached_property
    def _teams(self) -> dict[str, str]:
        return teams(self.connection.slug)

    def write(self, records: list[Record]) -> Written:
        """Write one page; records that did not change write nothing.

        What cannot be written whole is written in halves, down to the record that is to blame: that one is refused.
        """
        if not records:
            return Written()
        try:
            with transaction.atomic():
                take_turn(self.connection)
                return self._write(records)
        except Exception as error:
            if not lies_in_the_data(error):
                raise
            if len(records) == 1:
                logger.exception(
                    "Record %r of %s cannot be written.", records[0].external_id, self.source_key
                )
                return self._refuse(records[0], error)
        middle = len(records) // 2
        result = self.write(records[:middle])
        rest = self.write(records[middle:])
        result.outcomes |= rest.outcomes
        result.errors |= rest.errors
        return result

    def _refuse(self, record: Record, error: Exception) -> Written:
        reason = why_not_stored(error)
        refused = Refused(external_id=record.external_id, reason=reason)
        self.keep_last_good([refused])
        return Written(
            {refused.external_id: RecordOutcome.REFUSED},
            {refused.external_id: {"reason": refused.reason, "place": ""}},
        )

    def _write(self, records: list[Record]) -> Written:
        result = Written()
        unique = {record.external_id: record for record in records}
        ignored = Ignored.of(self.connection)
        known = {
            row.external_id: row
            for row in StoredRecord.objects.filter(
                connection=self.connection, resource=self.resource, external_id__in=list(unique)
            )
            .order_by("id")
            .select_for_update()
            .only("id", "external_id", "digest", "as_of", "deleted_at", "is_ignored")
        }
        stored: list[StoredRecord] = []
        fresh: list[Record] = []
        left_out: set[str] = set()
        for external_id, record in unique.items():
            digest = digest_of(record)
            # A clock that goes fast must not make a fact that nothing overwrites.
            as_of = min(record.as_of or self.read_at or self.now, self.now)
            record.as_of = record.as_of and as_of
            old = known.get(external_id)
            reason = ignored.reason(
                self.resource, record.type, external_id, lambda name, of=record: getattr(of, name, None)
            )
            if reason:
                result.outcomes[external_id] = RecordOutcome.SKIPPED
                result.errors[external_id] = {"reason": reason, "place": ""}
            if old is not None and self._is_known(old, digest, as_of, is_ignored=bool(reason)):
                result.outcomes.setdefault(external_id, RecordOutcome.UNCHANGED)
                continue
            if reason:
                left_out.add(external_id)
            else:
                fresh.append(record)
            stored.append(
                StoredRecord(
                    connection=self.connection,
                    resource=self.resource,
                    type=record.type,
                    external_id=external_id,
                    digest=digest,
                    data=record.model_dump(mode="json", exclude_defaults=True, exclude={"raw", "as_of"}),
                    raw=record.raw,
                    as_of=as_of,
                    touched_at=self.now,
                    deleted_at=None,
                    is_ignored=bool(reason),
                )
            )
        if not left_out.isdisjoint(known):
            drop_claims(source=self.source(), external_ids=left_out & known.keys(), at=self.now, by=self.by)
        outcomes = self.map(fresh, result)
        for external_id, outcome in outcomes.items():
            # The catalog may know it unchanged where the record changed in what the mapping leaves out.
            known_before = external_id in known and known[external_id].deleted_at is None
            result.outcomes[external_id] = RecordOutcome.CHANGED if known_before else RecordOutcome.NEW
            if outcome == RecordOutcome.REFUSED:
                result.outcomes[external_id] = RecordOutcome.REFUSED
        StoredRecord.objects.bulk_create(
            [row for row in stored if result.outcomes[row.external_id] != RecordOutcome.REFUSED],
            update_conflicts=True,
            unique_fields=["connection", "resource", "external_id"],
            update_fields=[
                "type",
                "digest",
                "data",
                "raw",
                "as_of",
                "touched_at",
                "deleted_at",
                "is_ignored",
            ],
        )
        return result

    def _is_known(self, old: StoredRecord, digest: bytes, as_of: datetime, *, is_ignored: bool) -> bool:
        """Whether a record tells nothing newer than what is stored."""
        if self.known_at is not None and as_of < self.known_at:
            return True
        if old.deleted_at is not None:  # only what was told after it went brings it back
            return (self.read_at or as_of) < old.as_of
        return old.is_ignored == is_ignored and (bytes(old.digest) == digest or as_of < old.as_of)

    def bury(self, gone: Sequence[Gone]) -> None:
        """Let go of what a tool says was deleted. A tombstone stays, also of what was not known yet."""
        if not gone:
            return
        with transaction.atomic():
            take_turn(self.connection)
            known = {
                row.external_id: row
                for row in StoredRecord.objects.select_for_update().filter(
                    connection=self.connection,
                    resource=self.resource,
                    external_id__in=[item.external_id for item in gone],
                )
            }
            rows = [
                known.get(item.external_id) or self._unknown(item)
                for item in gone
                if item.external_id not in known or known[item.external_id].as_of <= item.as_of
            ]
            times = {item.external_id: item.as_of for item in gone}
            for row in rows:
                row.as_of, row.touched_at = times[row.external_id], self.now
                row.deleted_at = row.deleted_at or self.now
            StoredRecord.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=["connection", "resource", "external_id"],
                update_fields=["as_of", "touched_at", "deleted_at"],
            )
            ids = [row.external_id for row in rows]
            drop_claims(source=self.source(), external_ids=ids, at=self.now, by=self.by)

    def _unknown(self, item: Gone) -> StoredRecord:
        return StoredRecord(
            connection=self.connection,
            resource=self.resource,
            type=item.of.type,
            external_id=item.external_id,
            digest=b"",
            data={},
        )

    def map(self, records: list[Record], result: Written) -> dict[str, RecordOutcome]:
        """Map records and hand them to the catalog."""
        outcomes: dict[str, RecordOutcome] = {}
        claims: list[ClaimIn] = []
        activities = []
        refused: list[Refused] = []
        for record in records:
            context = self.context(record)
            try:
                if isinstance(record, ActivityRecord):
                    activities.append(map_activity(record, context))
                else:
                    claims.append(map_entity(record, context))
            except RecordRefused as error:
                outcomes[record.external_id] = RecordOutcome.REFUSED
                result.errors[record.external_id] = {"reason": error.message, "place": error.place}
                refused.append(
                    Refused(external_id=record.external_id, reason=error.message, place=error.place)
                )
        if claims:
            applied = apply_claims(source=self.source(), claims=claims, at=self.now, by=self.by)
            outcomes |= {
                claim.external_id: _OUTCOMES[outcome]
                for claim, outcome in zip(claims, applied.outcomes, strict=True)
            }
        if activities:
            done = apply_activity(
                connection_slug=self.connection.slug, connector=self.connection.connector, items=activities
            )
            outcomes |= {item.external_id: _OUTCOMES[o] for item, o in zip(activities, done, strict=True)}
        if refused:
            self.keep_last_good(refused)
        return outcomes

    def keep_last_good(self, refused: list[Refused]) -> None:
        """What cannot be read now keeps its last good claim, marked stale."""
        if not refused:
            return
        # Without a digest the last good form counts as changed, should it come back as it was.
        StoredRecord.objects.filter(
            connection=self.connection,
            resource=self.resource,
            external_id__in=[item.external_id for item in refused],
        ).exclude(digest=b"").update(digest=b"")
        source = Source.objects.filter(key=self.source_key).first()
        if source is not None:
            mark_stale(
                source=source,
                reasons={
                    item.external_id: f"{item.place}: {item.reason}" if item.place else item.reason
                    for item in refused
                },
                at=self.now,
                by=self.by,
            )

    @property
    def source_key(self) -> str:
        return f"connection:{self.connection.slug}/{self.resource}"

    def source(self) -> Source:
        """The source that this resource is, in the catalog."""
        source, _created = Source.objects.get_or_create(
            key=self.source_key,
            defaults={
                "type": SourceType.CONNECTION,
                "name": self.connection.slug,
                "label": self.connection.label,
                "connector": self.connection.connector,
            },
        )
        return source


def take_turn(of: Connection) -> None:
    """One writer of a connection at a time, until the transaction ends: of two new words, the newer must stay."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_WRITING_LOCK, of.pk])


def remap(*, connection: Connection, rows: list[StoredRecord], by: str, now: datetime) -> None:
    """Hand stored records to the catalog again, after a rule or a removal was taken back."""
    by_resource: dict[str, list[StoredRecord]] = {}
    for row in rows:
        by_resource.setdefault(row.resource, []).append(row)
    for resource, members in by_resource.items():
        writer = RecordWriter(connection=connection, resource=resource, by=by, now=now)
        records = [
            RECORD_TYPES[row.type].model_validate({**row.data, "raw": row.raw, "as_of": row.as_of})
            for row in members
        ]
        for start in range(0, len(records), PAGE):
            writer.map(records[start : start + PAGE], Written())


def settle_ignored(*, connection: Connection, by: str, now: datetime) -> None:
    """Have what is stored obey the connection's rule: what it names goes, what it no longer names comes back.

    The caller holds the transaction.
    """
    rule = ignore_rule_of(connection)
    found = left_out(connection=connection, rule=rule)
    goes = [item.record for item in found if item.reason and not item.record.is_ignored]
    comes = [item.record for item in found if not item.reason]
    StoredRecord.objects.filter(pk__in=[row.pk for row in goes]).update(is_ignored=True, touched_at=now)
    for resource in {row.resource for row in goes}:
        writer = RecordWriter(connection=connection, resource=resource, by=by, now=now)
        ids = [row.external_id for row in goes if row.resource == resource]
        drop_claims(source=writer.source(), external_ids=ids, at=now, by=by)
    StoredRecord.objects.filter(pk__in=[row.pk for row in comes]).update(is_ignored=False, touched_at=now)
    asked = Ignored.by(rule, ignored_keys(connection))
    happened = StoredRecord.objects.filter(connection=connection, is_ignored=True, type__in=ACTIVITY)
    comes_too = [
        row for row in happened if not asked.reason(row.resource, row.type, row.external_id, row.data.get)
    ]
    StoredRecord.objects.filter(pk__in=[row.pk for row in comes_too]).update(is_ignored=False, touched_at=now)
    whole = StoredRecord.objects.filter(pk__in=[row.pk for row in [*comes, *comes_too]])
    remap(connection=connection, rows=list(whole.order_by("resource", "pk")), by=by, now=now)


def digest_of(record: Record) -> bytes:
    """16 bytes over the fact: all fields but the raw payload and the time of reading."""
    payload = record.model_dump(mode="json", exclude_defaults=True, exclude={"raw", "as_of"})
    payload["type"] = record.type
    return hashlib.blake2b(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
