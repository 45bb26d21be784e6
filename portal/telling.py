"""Finding out of what people are to be told: from what changed, not from what there is.

One at a time takes up a share of the news, looks for each watch which of the changed entities its query finds now, and
compares that with what it found before. News, matches and notices are written in one transaction: who is killed has
told nothing, and the next one tells it once.
"""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from access.permissions import visible
from base.errors import DomainError
from catalog.bulk import among
from catalog.models import Activity, Entity
from catalog.query import parse
from catalog.query.nodes import And, Filter
from catalog.services.news import Before, Taken, take_news
from portal.mail import wait_for_mail
from portal.models import Match, Notice, Watch
from portal.watches import condition_of, look_anew, statement_of

logger = logging.getLogger(__name__)

SHARE = 10_000
# How long what an age in a query speaks of may wait.
TIMED = timedelta(minutes=10)
# What comes page after page is one notice: while the pages follow each other, and not for ever.
BURST = timedelta(minutes=2)
LONGEST_BURST = timedelta(hours=1)
# What comes to be known so late is history.
HISTORY = timedelta(days=7)
KEPT = 50
# How many are asked in one statement: planning it costs more than many small ones if it is too long.
AT_ONCE = 25
_LOCK = 0x706F7277


@dataclass
class Finding:
    """Of what the owner of a watch is to be told: ids, in the order of which they came."""

    watch: Watch
    new: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)


@transaction.atomic
def tell(*, now: datetime, share: int = SHARE) -> bool:
    """Take up a share of what changed, and note whom it concerns.

    :returns: whether there is more.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return False  # somebody else is at it
    news = take_news(limit=share)
    awake = Watch.objects.awake().select_related("user").order_by("pk")
    concerned = Q(about=Watch.About.ENTITIES, is_timed=True, looked_at__lt=now - TIMED)
    if news.entities:
        concerned |= Q(about=Watch.About.ENTITIES)
    if news.activities:
        concerned |= Q(about=Watch.About.ACTIVITY)
    watches = list(awake.filter(concerned))
    found = _compared(news, [watch for watch in watches if not watch.is_of_activity], now=now)
    found += _happened(news, [watch for watch in watches if watch.is_of_activity], now=now)
    _write(found, now=now)
    return news.rows >= share


def _compared(news: Taken, watches: list[Watch], *, now: datetime) -> list[Finding]:
    """For each watch what of the changed entities came to match, or ceased to."""
    due = {watch.pk for watch in watches if watch.is_timed and watch.looked_at < now - TIMED}
    known: dict[int, set[int]] = defaultdict(set)
    kinds: set[str] = set()
    matches = [Match.objects.filter(watch__in=due)]
    if news.entities and watches:
        matches.append(Match.objects.filter(entity_id__in=among(news.entities)))
        changed = Entity.objects.filter(pk__in=among(news.entities)).order_by()
        kinds = set(changed.values_list("kind", flat=True).distinct())
    for rows in matches:
        for watch_id, entity_id in rows.values_list("watch_id", "entity_id"):
            known[watch_id].add(entity_id)
    # A list of one kind is not asked for what changed of another.
    concerned = [
        watch for watch in watches if watch.pk in due or watch.pk in known or _may_concern(watch, kinds)
    ]
    whole = [watch for watch in concerned if watch.pk in due]
    found = []
    for matching, asked in (
        (_found(whole, None, now=now), whole),
        (_found([watch for watch in concerned if watch.pk not in due], news.entities, now=now), concerned),
    ):
        for watch in asked:
            if watch.pk in matching:
                after, before = matching[watch.pk], known[watch.pk]
                if after != before:
                    found.append(Finding(watch, sorted(after - before), sorted(before - after)))
    Watch.objects.filter(pk__in=due).update(looked_at=now)
    return found


def _may_concern(watch: Watch, kinds: set[str]) -> bool:
    """Whether the query of a watch may find something of these kinds; what cannot be read is found out later."""
    if not kinds:
        return False
    try:
        node = parse(watch.query)
    except DomainError:
        return True
    for item in node.items if isinstance(node, And) else (node,):
        if isinstance(item, Filter) and item.field.lower() == "kind":
            wanted = {
                value.text.lower() for value in item.values if value.operator == "=" and not value.is_pattern
            }
            if len(wanted) == len(item.values) and not wanted & kinds:
                return False
    return True


def _found(watches: Iterable[Watch], ids: Collection[int] | None, *, now: datetime) -> dict[int, set[int]]:
    """What the queries of some watches find now, among some entities or all; by the watch.

    Many are asked in one statement, and who sees alike and asks alike is answered alike. A watch whose query means
    something else than when it was last looked at, to its owner, is looked at anew, and is not among the answers.
    """
    asked: dict[tuple[bytes, bool], tuple[str, tuple[Any, ...]]] = {}
    askers: dict[tuple[bytes, bool], list[Watch]] = defaultdict(list)
    for watch in watches:
        try:
            state, statement = condition_of(watch)
            if bytes(watch.state) != state or watch.trouble:
                _look_anew(watch)
                continue
            key = (state, watch.is_timed)
            if key not in asked:
                asked[key] = statement_of(watch, now=now) if watch.is_timed else statement
            askers[key].append(watch)
        except DomainError as error:
            _trouble(watch, error.message)
    answers: dict[tuple[bytes, bool], set[int]] = {}
    keys = list(asked)
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        try:
            answers |= _answers({key: asked[key] for key in some}, ids)
        except DatabaseError:  # one of them cannot be answered; the others can
            for key in some:
                try:
                    answers |= _answers({key: asked[key]}, ids)
                except DatabaseError:
                    logger.exception("Watches %s could not be evaluated.", [one.pk for one in askers[key]])
                    for watch in askers[key]:
                        _trouble(watch, _("It could not be evaluated. The log has the details."))
    return {watch.pk: answer for key, answer in answers.items() for watch in askers[key]}


def _answers(
    asked: Mapping[tuple[bytes, bool], tuple[str, tuple[Any, ...]]], ids: Collection[int] | None
) -> dict[tuple[bytes, bool], set[int]]:
    keys = list(asked)
    found: dict[tuple[bytes, bool], set[int]] = {key: set() for key in keys}
    some = "WHERE f.id IN (SELECT id FROM changed)" if ids is not None else ""
    parts, params = [], [list(ids or ())]
    for number, key in enumerate(keys):
        sql, values = asked[key]
        if sql:
            parts.append(f"SELECT {number}, f.id FROM ({sql}) f(id) {some}")  # noqa: S608 - it is Django's
            params += values
    if parts and (ids is None or ids):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"WITH changed AS MATERIALIZED (SELECT unnest(%s::bigint[]) AS id) {' UNION ALL '.join(parts)}",
                params,
            )
            for number, entity_id in cursor.fetchall():
                found[keys[number]].add(entity_id)
    return found


def _look_anew(watch: Watch) -> None:
    """The owner sees otherwise than before, or may see otherwise: that is no news of the catalog."""
    row = (
        Watch.objects.awake()
        .select_for_update(no_key=True, of=("self",))
        .filter(pk=watch.pk, version=watch.version)
    )
    if (fresh := row.select_related("user").first()) is not None:
        look_anew(fresh)


def _trouble(watch: Watch, text: str) -> None:
    if watch.trouble != text:
        Watch.objects.filter(pk=watch.pk, version=watch.version).update(trouble=text)


def _happened(news: Taken, watches: list[Watch], *, now: datetime) -> list[Finding]:
    """What came to be such as a watch waits for, and was not before."""
    if not watches or not news.activities:
        return []
    recent = Activity.objects.filter(pk__in=among(news.activities), at__gte=now - HISTORY)
    rows = list(recent.order_by("at", "pk").values_list("pk", "type", "status", "subject_uid"))
    uids = {row[3] for row in rows} | {before.about for before in news.activities.values()}
    subjects = dict(
        Entity.objects.filter(uid__in=among((uid for uid in uids if uid), "uuid")).values_list("uid", "pk")
    )
    matching = _found([watch for watch in watches if watch.query], list(subjects.values()), now=now)
    wanted: dict[int, list[int]] = {}
    for watch in watches:
        if watch.query and watch.pk not in matching:
            continue
        about = matching[watch.pk] if watch.query else None
        wanted[watch.pk] = [
            pk
            for pk, type_, status, uid in rows
            if _is_wanted(watch, type_, status, subjects.get(uid) if uid else None, about)
            and not _was_wanted(watch, type_, news.activities[pk], subjects, about)
        ]
    found = []
    seen_by: dict[int, set[int]] = {}
    for watch in watches:
        if not wanted.get(watch.pk):
            continue
        if watch.user_id not in seen_by:
            mine = visible(watch.user, Activity.objects.filter(pk__in=among(row[0] for row in rows)))
            seen_by[watch.user_id] = set(mine.values_list("pk", flat=True))
        found.append(Finding(watch, [pk for pk in wanted[watch.pk] if pk in seen_by[watch.user_id]]))
    return found


def _is_wanted(watch: Watch, type_: str, status: str, subject: int | None, about: set[int] | None) -> bool:
    return (
        (not watch.types or type_ in watch.types)
        and watch.status in ("", status)
        and (about is None or subject in about)
    )


def _was_wanted(
    watch: Watch, type_: str, before: Before, subjects: Mapping[uuid.UUID, int], about: set[int] | None
) -> bool:
    subject = subjects.get(before.about) if before.about else None
    return not before.is_new and _is_wanted(watch, type_, before.status, subject, about)


# --- written down -----------------------------------------------------------------------------------------


def _write(found: list[Finding], *, now: datetime) -> None:
    if not found:
        return
    versions = dict(
        Watch.objects.awake()
        .filter(pk__in=[one.watch.pk for one in found])
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
        .values_list("pk", "version")
    )
    # Who changed a watch meanwhile wants to know of something else.
    still = [one for one in found if versions.get(one.watch.pk) == one.watch.version]
    _keep_matches([one for one in still if not one.watch.is_of_activity])
    uids = dict(
        Entity.objects.filter(
            pk__in=among(
                {pk for one in still if not one.watch.is_of_activity for pk in (*one.new, *one.gone)}
            )
        ).values_list("pk", "uid")
    )
    for one in still:
        watch = one.watch
        new = one.new if watch.when != Watch.When.GONE else []
        gone = one.gone if watch.when != Watch.When.NEW else []
        if gone:  # what went out of sight is not told of
            seen = set(
                visible(watch.user, Entity.objects.filter(pk__in=among(gone))).values_list("pk", flat=True)
            )
            gone = [pk for pk in gone if pk in seen]
        if watch.is_of_activity:
            _note(watch, new=len(new), activities=new, now=now)
        else:
            new_uids, gone_uids = ([uids[pk] for pk in ids if pk in uids] for ids in (new, gone))
            _note(
                watch, new=len(new_uids), gone=len(gone_uids), new_uids=new_uids, gone_uids=gone_uids, now=now
            )


def _keep_matches(found: Iterable[Finding]) -> None:
    come = [(one.watch.pk, pk) for one in found for pk in one.new]
    went = [(one.watch.pk, pk) for one in found for pk in one.gone]
    with connection.cursor() as cursor:
        for pairs, statement in (
            (
                come,
                "INSERT INTO portal_match (watch_id, entity_id) SELECT * FROM {pairs} ON CONFLICT DO NOTHING",
            ),
            (went, "DELETE FROM portal_match m USING {pairs} WHERE (m.watch_id, m.entity_id) = (p.w, p.e)"),
        ):
            if pairs:
                columns = [list(column) for column in zip(*pairs, strict=True)]
                cursor.execute(
                    statement.format(pairs="unnest(%s::bigint[], %s::bigint[]) AS p(w, e)"), columns
                )


def _note(
    watch: Watch,
    *,
    now: datetime,
    new: int = 0,
    gone: int = 0,
    new_uids: Collection[uuid.UUID] = (),
    gone_uids: Collection[uuid.UUID] = (),
    activities: Collection[int] = (),
) -> None:
    """Put it into the notice that what came just before is in, or make one."""
    if not new and not gone:
        return
    last = (
        Notice.objects.select_for_update(no_key=True)
        .filter(watch=watch, read_at=None, at__gt=now - BURST, started_at__gt=now - LONGEST_BURST)
        .order_by("-pk")
        .first()
    )
    mail = wait_for_mail(watch, now=now)
    if last is None or (
        last.mail_id is not None and last.mail_id != (mail and mail.pk)
    ):  # a mail has told the last one already
        last = Notice(user_id=watch.user_id, watch=watch, started_at=now)
    last.mail = mail
    last.at = now
    last.new += new
    last.gone += gone
    last.new_uids = list(dict.fromkeys([*last.new_uids, *new_uids]))[:KEPT]
    last.gone_uids = list(dict.fromkeys([*last.gone_uids, *gone_uids]))[:KEPT]
    last.activities = list(dict.fromkeys([*last.activities, *activities]))[:KEPT]
    last.save()
