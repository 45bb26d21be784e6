"""Deliveries by webhook: proved, stored, acknowledged; then taken in by a worker, once, in the right order of time.

What is stored is never lost: it is taken in by a task, and by the tick where the task was. Both go the way of a
sync, through the same writer; the newer fact wins, whichever came first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.secrets import read_secrets
from access.services.audit import record_audit
from base.errors import Conflict, DomainError, NotFound
from base.text import printable
from catalog.models import Severity
from catalog.services import problems
from catalog.services.render import render_dirty
from integrations.contract import (
    WEBHOOK_SECRET,
    BadPayload,
    Connector,
    Gone,
    Refused,
    ResourceSpec,
    SourceUnavailable,
    Told,
    WebhookRequest,
    WebhookSpec,
)
from integrations.models import Connection, Delivery, RecordOutcome, ResourceRun, ResourceState
from integrations.records import Record
from integrations.registry import connectors
from integrations.services.connections import OWNER, build_connector, close_connector, update_connection
from integrations.writing import RecordWriter, take_turn

logger = logging.getLogger(__name__)

BATCH = 50
AT_ONCE = 8
SECONDS = 30  # for one delivery's handler
LEASE = timedelta(seconds=60)  # a handler that takes longer is done twice, which changes nothing
ATTEMPTS = 8
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=10)
LOST_AFTER = timedelta(seconds=5)
ASKED = timedelta(seconds=1)  # so long a worker that was asked is waited for
KEPT = {Delivery.State.DONE: timedelta(days=7), Delivery.State.DEAD: timedelta(days=30)}


# --- coming in --------------------------------------------------------------------------------------------


def webhook_of(connection: Connection) -> WebhookSpec | None:
    """How the connection's connector takes deliveries; None if it does not, or is not installed."""
    kind = connectors().get(connection.connector)
    return kind.webhook() if kind is not None else None


def has_secret(connection: Connection) -> bool:
    """Whether the connection takes deliveries: it has what they are proved by."""
    return bool(_secret(connection))


def make_secret(*, connection: Connection) -> str:
    """A new secret that the connection's deliveries are proved by from now on, in the clear: for the tool."""
    made = secrets.token_urlsafe(32)
    update_connection(connection=connection, config={**connection.config, WEBHOOK_SECRET: made})
    return made


def _secret(connection: Connection) -> str:
    return read_secrets(owner_type=OWNER, owner_uid=str(connection.uid)).get(WEBHOOK_SECRET, "")


class Unproven(DomainError):
    """A delivery whose signature is missing or wrong."""

    status = 401
    code = "unproven-delivery"


def accept_delivery(
    *, slug: str, headers: Mapping[str, str], body: bytes, now: datetime
) -> tuple[Delivery, bool]:
    """Store a delivery that proves who sends it. Nothing in it is read before that.

    :param headers: names in lower case.
    :returns: the delivery, and whether it is to be taken in; one that came before is not, unless it was given up.
    :raises NotFound: if there is no such connection, or it has no secret.
    :raises Unproven: if the signature is missing or wrong.
    """
    connection = Connection.objects.filter(slug=slug, removal_at=None).first()
    spec = webhook_of(connection) if connection is not None else None
    secret = _secret(connection) if connection is not None and spec is not None else ""
    if connection is None or spec is None or not secret:
        raise _closed()
    if not spec.verify(WebhookRequest(headers, body, now), secret):
        raise Unproven(
            _("The signature is missing or wrong. The secret at the tool must be the one of the connection.")
        )
    named = headers.get(spec.id_header, "") if spec.id_header else ""
    event = headers.get(spec.event_header, "") if spec.event_header else ""
    once = body + b"\0" + named.encode() if event in spec.asking else body
    delivery = Delivery(
        connection=connection,
        digest=hashlib.sha256(once).hexdigest(),
        delivery_id=printable(named)[:200],
        event=printable(event)[:100],
        headers={name: printable(headers[name]) for name in spec.headers if name in headers},
        body=body,
        received_at=now,
    )
    try:
        with transaction.atomic():
            delivery.save(force_insert=True)
    except IntegrityError:
        known = Delivery.objects.filter(connection=connection, digest=delivery.digest)
        before = known.defer("body").first()
        if before is None:  # it is the connection that went meanwhile
            raise _closed() from None
        return before, bool(known.filter(state=Delivery.State.DEAD).update(**_FRESH))
    return delivery, True


def _closed() -> NotFound:
    return NotFound(_("Nothing takes deliveries here. A connection does once its webhook secret is set."))


def is_awaited(delivery: Delivery) -> bool:
    """Whether a worker was asked a moment ago for what came just before a delivery, and has not begun: it takes in
    what waits by then."""
    waiting = Delivery.objects.filter(
        connection=delivery.connection_id, state=Delivery.State.QUEUED, not_before=None, pk__lt=delivery.pk
    )
    oldest = waiting.order_by("pk").values_list("received_at", flat=True).first()
    return oldest is not None and oldest > delivery.received_at - ASKED


_FRESH: dict[str, Any] = {
    "state": Delivery.State.QUEUED,
    "attempts": 0,
    "not_before": None,
    "lease_until": None,
    "finished_at": None,
    "message": "",
}


# --- taking in --------------------------------------------------------------------------------------------


@dataclass
class _Read:
    """What the handler made of a delivery, or why it could not."""

    delivery: Delivery
    told: list[Told] = field(default_factory=list)
    error: Exception | None = None


def process_deliveries(*, connection_id: int) -> int:
    """Take in what waits of a connection, oldest first. Of two workers, each takes other deliveries.

    :returns: how many were taken in.
    """
    there = Connection.objects.at_work().filter(pk=connection_id)
    count = 0
    while (connection := there.first()) is not None and (batch := _claim(connection)):
        count += _take_in(connection, batch)
    if count:
        render_dirty(at=timezone.now())
    return count


def _claim(connection: Connection) -> list[Delivery]:
    now = timezone.now()
    with transaction.atomic():
        rows = list(
            due(now).filter(connection=connection).order_by("id").select_for_update(skip_locked=True)[:BATCH]
        )
        Delivery.objects.filter(pk__in=[row.pk for row in rows]).update(
            state=Delivery.State.RUNNING, lease_until=now + LEASE, attempts=F("attempts") + 1
        )
    for row in rows:
        row.attempts += 1
    return rows


def due(now: datetime) -> QuerySet[Delivery]:
    """Deliveries that a worker may take: waiting and due, or taken by one that was lost."""
    return Delivery.objects.filter(
        Q(state=Delivery.State.QUEUED) & (Q(not_before=None) | Q(not_before__lte=now))
        | Q(state=Delivery.State.RUNNING, lease_until__lt=now)
    )


def _take_in(connection: Connection, batch: list[Delivery]) -> int:
    try:
        connector = build_connector(connection)
    except DomainError as error:
        for delivery in batch:
            _put_off(delivery, error.message)
        return 0
    read = asyncio.run(_read(connector, batch))
    good = [one for one in read if one.error is None]
    if good and not _write(connection, type(connector), good):
        _leave(batch)
        return 0
    for one in read:
        if isinstance(one.error, BadPayload):
            _give_up(one.delivery, one.error.message)
        elif isinstance(one.error, DomainError):
            after = one.error.retry_after if isinstance(one.error, SourceUnavailable) else None
            _put_off(one.delivery, one.error.message, after=after)
        elif one.error is not None:
            logger.error("Delivery %s of %s failed.", one.delivery.pk, connection.slug, exc_info=one.error)
            _put_off(one.delivery, _("An internal error; the log of the worker tells more."))
    report_deliveries(connection=connection, now=timezone.now())
    return len(good)


async def _read(connector: Connector[Any], batch: Sequence[Delivery]) -> list[_Read]:
    spec = connector.webhook()
    assert spec is not None
    handler, turns = getattr(connector, spec.method), asyncio.Semaphore(AT_ONCE)

    async def one(delivery: Delivery) -> _Read:
        read = _Read(delivery)
        request = WebhookRequest(delivery.headers, bytes(delivery.body), delivery.received_at)
        try:
            async with turns, asyncio.timeout(SECONDS), aclosing(handler(request)) as stream:
                async for item in stream:
                    read.told.append(item)
        except TimeoutError:
            read.error = SourceUnavailable(_("It took longer than %(n)d seconds.") % {"n": SECONDS})
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            logger.warning("Delivery %s has another form than was expected.", delivery.pk, exc_info=error)
            read.error = BadPayload(
                _("The delivery lacks “%(name)s”.") % {"name": error.args[0]}
                if isinstance(error, KeyError)
                else _(
                    "The delivery is of another form than this tool sends; the log of the worker tells more."
                )
            )
        except Exception as error:  # noqa: BLE001 - each delivery fails for itself
            read.error = error
        return read

    try:
        return list(await asyncio.gather(*(one(delivery) for delivery in batch)))
    finally:
        await close_connector(connector)


def _write(connection: Connection, kind: type[Connector[Any]], good: list[_Read]) -> bool:
    """Write what some deliveries tell, and that it is done, in one transaction.

    :returns: whether it did: not if the connection was muted or removed while they were read.
    """
    now = timezone.now()
    by_list: dict[str, dict[str, tuple[datetime, Record | Gone]]] = defaultdict(dict)
    tellers: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
    reasons: dict[int, str] = {}
    for one in good:
        for item in one.told:
            if isinstance(item, Refused):
                reasons[one.delivery.pk] = f"{item.place}: {item.reason}" if item.place else item.reason
                continue
            spec = _list_of(kind, item)
            as_of = item.as_of or one.delivery.received_at
            item = item if isinstance(item, Gone) else item.model_copy(update={"as_of": as_of})
            tellers[spec.name, item.external_id].append(one.delivery)
            known = by_list[spec.name].get(item.external_id)
            if known is None or known[0] <= as_of:
                by_list[spec.name][item.external_id] = (as_of, item)
    with transaction.atomic():
        take_turn(connection)  # what is set aside is so after this, or before, and then nothing is written
        if not Connection.objects.at_work().filter(pk=connection.pk).exists():
            return False
        for spec in kind.resources():
            items = [item for _as_of, item in by_list.get(spec.name, {}).values()]
            if not items:
                continue
            writer = RecordWriter(
                connection=connection,
                resource=spec.name,
                by=connection.label,
                now=now,
                known_at=None if spec.incremental else _known_at(connection, spec),
            )
            writer.bury([item for item in items if isinstance(item, Gone)])
            written = writer.write([item for item in items if not isinstance(item, Gone)])
            for external_id, outcome in written.outcomes.items():
                if outcome == RecordOutcome.REFUSED:
                    for delivery in tellers[spec.name, external_id]:
                        reasons[delivery.pk] = written.errors[external_id]["reason"]
        alike: dict[tuple[str, int], list[Delivery]] = defaultdict(list)
        for one in good:
            count = sum(not isinstance(item, Refused) for item in one.told)
            alike[reasons.get(one.delivery.pk, ""), count].append(one.delivery)
        for (reason, count), them in alike.items():
            state = Delivery.State.DEAD if reason else Delivery.State.DONE
            _close(them, state, message=reason, records=count)
    return True


def _leave(batch: Sequence[Delivery]) -> None:
    """Have deliveries wait as if nobody had begun them."""
    rows = Delivery.objects.filter(pk__in=[delivery.pk for delivery in batch])
    rows.update(state=Delivery.State.QUEUED, lease_until=None, attempts=F("attempts") - 1)


def _list_of(kind: type[Connector[Any]], item: Record | Gone) -> ResourceSpec:
    of = item.of if isinstance(item, Gone) else type(item)
    spec = kind.resource_of(of)
    if spec is None:
        raise TypeError(
            f"{kind.__name__} has no resource of {of.__name__}, so its webhook may not tell of one."
        )
    return spec


def _known_at(connection: Connection, spec: ResourceSpec) -> datetime | None:
    """When the last complete pass of a list began: what is older was known then."""
    passes = ResourceRun.objects.filter(
        run__connection=connection, name=spec.name, state__in=[ResourceState.COMPLETE, ResourceState.HELD]
    )
    return passes.order_by("-started_at").values_list("started_at", flat=True).first()


def _close(them: Sequence[Delivery], state: str, *, message: str = "", records: int = 0) -> None:
    Delivery.objects.filter(pk__in=[delivery.pk for delivery in them]).update(
        state=state,
        message=printable(message)[:2_000],
        records=records,
        finished_at=timezone.now(),
        lease_until=None,
    )


def _give_up(delivery: Delivery, message: str) -> None:
    _close([delivery], Delivery.State.DEAD, message=message)


def _put_off(delivery: Delivery, message: str, *, after: float | None = None) -> None:
    """Try again later, each time after a longer pause; at last give up."""
    if delivery.attempts >= ATTEMPTS:
        _give_up(delivery, message)
        return
    pause = min(FIRST_PAUSE * 2 ** (delivery.attempts - 1), LONGEST_PAUSE)
    if after:
        pause = max(pause, timedelta(seconds=after))
    Delivery.objects.filter(pk=delivery.pk).update(
        state=Delivery.State.QUEUED,
        not_before=timezone.now() + pause,
        lease_until=None,
        message=printable(message)[:2_000],
    )


# --- by people and by the clock -----------------------------------------------------------------------------


def replay(*, connection: Connection, delivery_ids: Sequence[int] | None = None) -> int:
    """Take in again what was given up: these, or all of a connection.

    :returns: how many.
    :raises Conflict: if none of them was given up.
    """
    with transaction.atomic():
        rows = Delivery.objects.filter(connection=connection, state=Delivery.State.DEAD)
        if delivery_ids is not None:
            rows = rows.filter(pk__in=delivery_ids)
        count = rows.update(**_FRESH)
        if not count:
            raise Conflict(_("This was taken in already, or waits for it."))
        record_audit("connection.replay", connection, changes={"deliveries": count})
    return count


def lost_deliveries(*, now: datetime) -> list[int]:
    """Connections with deliveries whose message may be lost: by their keys."""
    rows = due(now).filter(
        Q(received_at__lt=now - LOST_AFTER) | Q(state=Delivery.State.RUNNING) | ~Q(not_before=None),
        connection__in=Connection.objects.at_work(),
    )
    return list(rows.order_by("connection").values_list("connection", flat=True).distinct()[:100])


def forget_old_deliveries(*, now: datetime) -> None:
    """Let go of what was taken in a week ago, and of what was given up a month ago."""
    for state, kept in KEPT.items():
        Delivery.objects.filter(state=state, finished_at__lt=now - kept).delete()


def report_deliveries(*, connection: Connection, now: datetime) -> None:
    """Deliveries that were given up, as a problem of their connection."""
    dead = Delivery.objects.filter(connection=connection, state=Delivery.State.DEAD)
    count = dead.count()
    subject = problems.Subject(
        type="connection", label=connection.label, uid=connection.uid, namespace=connection.namespace
    )
    seen = []
    if count:
        seen.append(
            (
                subject,
                problems.Seen(
                    type="delivery",
                    severity=Severity.WARN,
                    cause=_("%(connection)s: deliveries were given up") % {"connection": connection.label},
                    message=ngettext(
                        "%(count)d delivery could not be taken in.",
                        "%(count)d deliveries could not be taken in.",
                        count,
                    )
                    % {"count": count},
                    remedy=_("Its page of deliveries says why; there they can be taken in again."),
                    detail={"connection": connection.slug, "count": count},
                ),
            )
        )
    problems.sync(raised_by=f"deliveries:{connection.slug}", seen=seen, within=Q(type="delivery"), at=now)
