"""The sample company: five made-up tools with three months of activity, gone by one click.

Its records are written as JSON Lines below `PORTICO_HOME/sample` and read by the records connector, as those of
any tool without a connector are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import User
from access.services.audit import Subject, record_audit
from access.services.undo import forget_changes, keep_for_undo, note_undone
from catalog.models import Activity, Claim, Entity, FeedItem, Problem, Revision, Source, SourceType
from catalog.services.activity import forget_activity
from catalog.services.ingest import drop_claims
from catalog.services.render import render_dirty
from integrations.models import Connection, SyncRun
from integrations.services.connections import create_connection, forget_secrets_of
from integrations.services.removal import Removal
from integrations.tasks import start_sync
from portal.sample import undo
from portal.sample.company import NAMESPACE, Company
from portal.sample.history import History

CONNECTIONS = {
    "git": ("Acme Git", "git"),
    "ci": ("Acme CI", "ci"),
    "registry": ("Acme Registry", "registry"),
    "deploys": ("Acme Deploy", "cluster"),
    "alerts": ("Acme Alerts", "monitoring"),
}
WEEK = 7 * 86_400


def load_sample(*, now: datetime | None = None, is_undo: bool = False) -> None:
    """Connect the five tools of the sample company and queue their syncs; what is there already stays.

    :param now: what its last three months count to.
    :param is_undo: whether its removal is undone with this; else that can be undone no more.
    :raises Conflict: if another connection has a slug that the sample needs.
    """
    folder = sample_folder()
    there = set(Connection.objects.filter(is_sample=True).values_list("slug", flat=True))
    missing = [
        tool
        for tool in CONNECTIONS
        if f"sample-{tool}" not in there or not (folder / f"{tool}.jsonl").exists()
    ]
    if not missing:
        return
    moment = now or timezone.now()
    for tool, rows in History(Company(), moment).write().items():
        _write(folder / f"{tool}.jsonl", rows)
    with transaction.atomic():
        for tool, (label, category) in CONNECTIONS.items():
            if f"sample-{tool}" in there:
                continue
            connection = create_connection(
                slug=f"sample-{tool}",
                label=label,
                connector="records",
                config={"location": str(folder / f"{tool}.jsonl"), "category": category},
                namespace=NAMESPACE,
                interval=WEEK,
                is_sample=True,
            )
            # What else they would be from a moment later on, should its removal be undone.
            Connection.objects.filter(pk=connection.pk).update(created_at=moment)
            start_sync(connection=connection, by=_("The sample company"))
        if not is_undo:
            forget_changes(verb="sample.remove", state={})
        if len(there) < len(CONNECTIONS):
            keep_for_undo(record_audit("sample.load", _subject()), state={})


@transaction.atomic
def remove_sample(*, by: str = "") -> Removal:
    """Take every row of the sample company away, its history included.

    What another source says of the same things stays. A running sync loses its lease and writes nothing more.

    :returns: what went.
    """
    # The runs first: a worker that is writing one of their pages is waited for, and has no lease afterwards.
    runs = list(SyncRun.objects.select_for_update().filter(connection__is_sample=True).order_by("pk"))
    connections = list(Connection.objects.select_for_update().filter(is_sample=True))
    slugs = [connection.slug for connection in connections]
    for connection in connections:
        forget_secrets_of(connection)
    Connection.objects.filter(slug__in=slugs).delete()

    sources = Source.objects.filter(_of_connections(slugs))
    mine = Claim.objects.filter(source__in=sources)
    others = Claim.objects.exclude(source__in=sources).exclude(source__type=SourceType.PERSON)
    gone = Entity.objects.filter(
        Q(pk__in=mine.values("entity")) | Q(namespace=NAMESPACE, deleted_at__isnull=False)
    ).exclude(pk__in=others.values("entity"))
    rows = list(gone.values_list("pk", "uid", "deleted_at"))
    ids, uids = {pk for pk, _uid, _at in rows}, {uid for _pk, uid, _at in rows}
    removal = Removal(
        claims=mine.count(),
        entities=sum(deleted_at is None for _pk, _uid, deleted_at in rows),
        amended=mine.exclude(entity__in=ids).values("entity").distinct().count(),
        activities=Activity.objects.filter(connection__in=slugs).count(),
        runs=len(runs),
    )
    kept = undo.keep(entities=ids, connections=connections, sources=sources)
    Revision.objects.filter(entity_uid__in=uids).delete()
    FeedItem.objects.filter(entity_uid__in=uids).delete()
    User.objects.filter(entity_uid__in=uids).update(entity_uid=None)
    Entity.objects.filter(pk__in=ids).delete()
    for source in sources:  # what others speak of too lives on without the sample's word
        left = list(source.claims.values_list("external_id", flat=True))
        drop_claims(source=source, external_ids=left, at=timezone.now(), by=by)
    for slug in slugs:
        forget_activity(connection_slug=slug)
    Problem.objects.filter(
        Q(subject_uid__in=uids | {connection.uid for connection in connections})
        | Q(raised_by__in=[f"connection:{slug}" for slug in slugs])
    ).delete()
    sources.delete()
    render_dirty(at=timezone.now())
    if connections:
        keep_for_undo(record_audit("sample.remove", _subject(), changes={"by": by}), state=kept)
        note_undone(verb="sample.load", state={}, by=by, now=timezone.now())
    transaction.on_commit(lambda: shutil.rmtree(sample_folder(), ignore_errors=True))
    return removal


def go_on() -> bool:
    """Let the registry answer once more, with much less than before, as soon as it was read: the guard then asks.

    :returns: whether that is still to come.
    """
    there, after = (sample_folder() / f"{name}.jsonl" for name in ("registry", "registry.next"))
    if not after.exists():
        return False
    with transaction.atomic():
        connection = Connection.objects.at_work().filter(slug="sample-registry", is_sample=True).first()
        if connection is None or connection.runs.active().exists() or not connection.runs.exists():
            return connection is not None
        after.replace(there)
        start_sync(connection=connection, trigger=SyncRun.Trigger.SCHEDULE)
    return True


def sample_folder() -> Path:
    """Where its records lie."""
    return settings.PORTICO_HOME / "sample"


def _subject() -> Subject:
    return Subject("sample", NAMESPACE, _("The sample company"))


def _of_connections(slugs: Iterable[str]) -> Q:
    condition = Q(pk__in=())
    for slug in slugs:
        condition |= Q(key__startswith=f"connection:{slug}/")
    return condition


def _write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write whole or not at all: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    half.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    half.replace(path)
