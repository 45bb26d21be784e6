"""What somebody wants to be told of, and the notices that told them: for one account alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access.models import User
from access.permissions import visible
from access.services import differences, record_audit
from base.errors import DomainError, FieldError, InvalidInput, NotFound
from catalog import queries
from catalog.models import Activity, Entity
from portal import events, links
from portal.models import Mail, Match, Notice, Watch
from portal.widgets.activity import TYPE_LABELS

MOST_WATCHES = 100
MOST_MATCHES = 50_000
LONGEST_NAME = 100
LONGEST_QUERY = 2_000
NOTICES_STAY = timedelta(days=90)
DELETED_STAY = timedelta(days=1)
NAMED = 3
# For what does not hang on the time: any will do, as long as it stays.
_SOME_TIME = datetime(2026, 1, 1, tzinfo=UTC)


class TooManyWatches(DomainError):
    """An account has as many watches as it can have."""

    code = "too-many-watches"
    status = 409
    title = gettext_lazy("Too many watches")


# --- watches ----------------------------------------------------------------------------------------------


def watches_of(user: User) -> QuerySet[Watch]:
    """An account's watches, the newest first."""
    return Watch.objects.kept().filter(user=user).order_by("-pk")


def deleted_of(user: User) -> QuerySet[Watch]:
    """Those whose deletion can still be taken back."""
    return Watch.objects.filter(user=user, deleted_at__gt=timezone.now() - DELETED_STAY).order_by(
        "-deleted_at"
    )


def watch_of(user: User, watch_id: int) -> Watch:
    """:raises NotFound: if the account has no such watch."""
    found = watches_of(user).filter(pk=watch_id).first()
    if found is None:
        raise NotFound(_("You have no such watch."))
    return found


@transaction.atomic
def make_watch(*, user: User, name: str = "", **wish: Any) -> Watch:
    """Have an account told from now on; of what matches now it is not.

    :param name: by default the query's words.
    :param wish: `about`, `query`, `types`, `status`, `when`, `mail` of the watch.
    :raises TooManyWatches: if it has as many as it can have.
    :raises InvalidInput: if something of it cannot be.
    :raises QueryError: where the query is wrong.
    """
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    _check_room(user)
    watch = Watch(user=user, name=name, **wish)
    _check(watch, was_mailed=Watch.Mail.NONE)
    watch.save()
    look_anew(watch)
    record_audit("watch.create", watch, changes=_facts(watch))
    return watch


@transaction.atomic
def change_watch(*, watch: Watch, **changes: Any) -> Watch:
    """Change what an account is told of, or how. If something else is watched now, it is not told of what matches.

    :raises InvalidInput: if something of it cannot be.
    :raises QueryError: where the query is wrong.
    """
    row = Watch.objects.select_for_update(no_key=True).select_related("user").get(pk=watch.pk)
    before = _facts(row)
    for name, value in changes.items():
        setattr(row, name, value)
    _check(row, was_mailed=before["mail"])
    after = _facts(row)
    # What happened while it was paused is not told; a pause itself asks nothing, also of a query that cannot be read.
    goes_on = before["is_paused"] and not row.is_paused
    if goes_on or any(before[name] != after[name] for name in ("about", "query", "types", "status")):
        row.version += 1
        look_anew(row)
    row.save()
    if before != after:
        record_audit("watch.update", row, changes=differences(before, after))
    return row


@transaction.atomic
def delete_watch(*, watch: Watch) -> None:
    """Tell an account no more of this, and take its notices away; for a day that can be undone."""
    watch.deleted_at = timezone.now()
    watch.save(update_fields=["deleted_at"])
    record_audit("watch.delete", watch)


@transaction.atomic
def restore_watch(*, user: User, watch_id: int) -> Watch:
    """Take the deletion of a watch back.

    :raises NotFound: if the account has none to be restored.
    :raises TooManyWatches: if it has as many as it can have.
    """
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    watch = deleted_of(user).filter(pk=watch_id).select_for_update(no_key=True).first()
    if watch is None:
        raise NotFound(_("This watch is gone for good. Make it anew on its list."))
    _check_room(user)
    watch.deleted_at = None
    watch.version += 1
    try:
        with transaction.atomic():
            look_anew(watch)
    except DomainError as error:  # its query says nothing any more: it is back as it was, and says why
        watch.state, watch.trouble = b"", error.message
    watch.save()
    record_audit("watch.restore", watch)
    return watch


def _check_room(user: User) -> None:
    if watches_of(user).count() >= MOST_WATCHES:
        raise TooManyWatches(
            _("You have %(n)d watches, and there is no room for more. Delete one that you do not need.")
            % {"n": MOST_WATCHES}
        )


def forget_old(*, now: datetime) -> None:
    """Let go of notices and of deleted watches whose time is over, and of matches of what is there no more."""
    Notice.objects.filter(at__lt=now - NOTICES_STAY).delete()
    Watch.objects.filter(deleted_at__lt=now - DELETED_STAY).delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM portal_match m WHERE NOT EXISTS (SELECT FROM catalog_entity e WHERE e.id = m.entity_id)"
        )


def url_of(watch: Watch) -> str:
    """The list that a watch keeps an eye on."""
    if not watch.is_of_activity:
        return links.catalog_url(watch.query)
    params = {"q": watch.query, "type": ",".join(watch.types), "status": watch.status}
    kept = {name: value for name, value in params.items() if value}
    return f"/activity?{urlencode(kept)}" if kept else "/activity"


def words_of(watch: Watch) -> str:
    """Of what its owner is told, and how."""
    if watch.is_of_activity:
        what = ", ".join(str(TYPE_LABELS[name]) for name in watch.types if name in TYPE_LABELS) or _(
            "All activity"
        )
        parts = [f"{what}: {watch.status}" if watch.status else what]
    else:
        parts = [str(watch.get_when_display())]
    return " · ".join([*parts, str(watch.get_mail_display())])


def mail_trouble(watch: Watch) -> str:
    """What a mail server answered to the last mail of a watch, if it was not taken."""
    about = watch if watch.mail == Watch.Mail.NOW else None
    last = Mail.objects.filter(user_id=watch.user_id, watch=about, attempts__gt=0).order_by("-pk").first()
    return last.trouble if last else ""


def _facts(watch: Watch) -> dict[str, Any]:
    names = ("name", "about", "query", "types", "status", "when", "mail", "is_paused")
    return {name: getattr(watch, name) for name in names}


def default_name(*, about: str, query: str = "", types: Collection[str] = (), status: str = "") -> str:
    """What a watch is called if nobody says: its query's words."""
    words = [query, *(str(TYPE_LABELS.get(name, name)) for name in types), status]
    if not any(words):
        words = [_("All activity") if about == Watch.About.ACTIVITY else _("All entities")]
    return one_line(" ".join(filter(None, words)))[:LONGEST_NAME]


def one_line(text: str) -> str:
    """A text without line breaks and what else is no part of a line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _check(watch: Watch, *, was_mailed: str) -> None:
    errors = []
    watch.query = watch.query.strip()
    watch.name = one_line(watch.name) or default_name(
        about=watch.about, query=watch.query, types=watch.types, status=watch.status
    )
    for name, text, most in (("name", watch.name, LONGEST_NAME), ("query", watch.query, LONGEST_QUERY)):
        if len(text) > most:
            sentence = _("It is %(n)d characters long; at most %(most)d are kept.")
            errors.append(FieldError(name, sentence % {"n": len(text), "most": most}))
    for name, known in (("about", Watch.About), ("when", Watch.When), ("mail", Watch.Mail)):
        if (word := getattr(watch, name)) not in known.values:
            sentence = _("Expected is one of: %s.") % ", ".join(known.values)
            errors.append(FieldError(name, sentence, got=str(word)[:60]))
    if watch.is_of_activity:
        watch.when = Watch.When.NEW  # what happened does not cease to have happened
        errors += [
            FieldError("types", _("Expected are some of: %s.") % ", ".join(TYPE_LABELS), got=name[:60])
            for name in watch.types
            if name not in TYPE_LABELS
        ]
        if not re.fullmatch(r"[a-z-]{0,40}", watch.status):
            errors.append(
                FieldError("status", _("A status is one word, such as failed."), got=watch.status[:60])
            )
    elif watch.types or watch.status:
        errors.append(FieldError("types", _("Only activity has types and a status.")))
    if watch.mail not in (Watch.Mail.NONE, was_mailed) and (reason := why_no_mail(watch.user)):
        errors.append(FieldError("mail", reason))
    if errors:
        raise InvalidInput(_("The watch is not valid: %s") % errors[0], errors=errors)


def why_no_mail(user: User) -> str:
    """Why no mail can go to an account, in a sentence with what would help; empty if one can."""
    if not settings.EMAIL_HOST:
        return _("This portal sends no mail: whoever runs it has not set PORTICO_SMTP.")
    if not settings.PORTICO_URL:
        return _(
            "This portal sends no mail: whoever runs it has not set PORTICO_URL, to which its links lead."
        )
    if not user.email:
        return _("Your account has no e-mail address. Enter one in the settings, under “You”.")
    if not user.is_email_verified:
        return _(
            "Your e-mail address is not verified. An administrator can do that, or your identity provider."
        )
    return ""


# --- what it finds ----------------------------------------------------------------------------------------


def statement_of(watch: Watch, *, now: datetime) -> tuple[str, tuple[Any, ...]]:
    """The statement that finds the ids of what the query of a watch finds for its owner; empty if that is nothing.

    :raises QueryError: if it cannot be read any more.
    """
    rows = queries.search_entities(watch.user, watch.query, now=now).order_by().values("pk")
    try:
        sql, params = rows.query.sql_with_params()
    except EmptyResultSet:  # who may see nothing
        return "", ()
    return sql, tuple(params)


def condition_of(watch: Watch) -> tuple[bytes, tuple[str, tuple[Any, ...]]]:
    """A digest of what the query of a watch means for its owner, whatever the time; and that as a statement.

    :raises QueryError: if it cannot be read any more.
    """
    sql, params = statement_of(watch, now=_SOME_TIME)
    # Scopes of grants have a time of their own.
    lasting = [param for param in params if not isinstance(param, datetime)]
    return hashlib.blake2b(repr((sql, lasting)).encode(), digest_size=16).digest(), (sql, params)


def look_anew(watch: Watch) -> None:
    """Take what a watch finds now for what its owner knows.

    :raises QueryError: where the query is wrong.
    :raises InvalidInput: if it finds too much to be watched.
    """
    watch.state, statement = condition_of(watch)
    watch.is_timed = statement_of(watch, now=_SOME_TIME + timedelta(days=1_000)) != statement
    watch.looked_at, watch.trouble = timezone.now(), ""
    Match.objects.filter(watch=watch).delete()
    if not watch.is_of_activity:
        sql, params = statement_of(watch, now=watch.looked_at)
        if sql:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"""
                    INSERT INTO portal_match (watch_id, entity_id)
                    SELECT %s, found.id FROM ({sql} LIMIT %s) found(id)
                    """,  # noqa: S608 - the inner statement is Django's
                    [watch.pk, *params, MOST_MATCHES + 1],
                )
                if cursor.rowcount > MOST_MATCHES:
                    raise InvalidInput(
                        _("The query finds more than %(n)d entities, too many to keep an eye on. Narrow it.")
                        % {"n": MOST_MATCHES},
                        errors=[FieldError("query", _("It finds too much."))],
                    )
    watch.save(update_fields=["state", "is_timed", "looked_at", "trouble"])


# --- notices ----------------------------------------------------------------------------------------------


def notices_of(user: User) -> QuerySet[Notice]:
    """An account's notices, the newest first."""
    return (
        Notice.objects.filter(user=user, watch__deleted_at=None, at__gte=timezone.now() - NOTICES_STAY)
        .select_related("watch")
        .order_by("-at", "-id")
    )


def unread_of(user: User) -> QuerySet[Notice]:
    """Those that it has not read."""
    return notices_of(user).filter(read_at=None)


def mark_notice(*, user: User, notice_id: int, is_read: bool = True) -> Notice:
    """Have a notice read, or not.

    :raises NotFound: if the account has no such notice.
    """
    notice = notices_of(user).filter(pk=notice_id).first()
    if notice is None:
        raise NotFound(_("You have no such notice."))
    if is_read != (notice.read_at is not None):
        notice.read_at = timezone.now() if is_read else None
        notice.save(update_fields=["read_at"])
    return notice


def mark_all(*, user: User) -> int:
    """Have all notices read.

    :returns: how many were not.
    """
    return Notice.objects.filter(user=user, read_at=None).update(read_at=timezone.now())


@dataclass
class Line:
    """What came or went: the first of it by name.

    :ivar change: `new` or `gone`.
    :ivar things: `title` and `url`, which is empty for what is gone.
    :ivar more: how many are not named.
    """

    change: str
    label: str
    things: list[dict[str, str]] = field(default_factory=list)
    more: int = 0

    @property
    def total(self) -> int:
        return len(self.things) + self.more


@dataclass
class Told:
    """A notice as its owner may read it now; without lines, if they may see none of it any more."""

    notice: Notice
    url: str
    lines: list[Line]

    @property
    def text(self) -> str:
        """It in a sentence."""
        if not self.lines:
            return str(_("You may not see any more what this was about."))
        return " ".join(f"{line.label}: {_names(line)}." for line in self.lines)


def _names(line: Line) -> str:
    names = ", ".join(thing["title"] for thing in line.things)
    return _("%(names)s and %(n)d more") % {"names": names, "n": line.more} if line.more else names


def told(viewer: User, notices: Iterable[Notice]) -> list[Told]:
    """Notices in words, two statements for all of them: what the viewer may not see is not named, nor counted."""
    rows = list(notices)
    uids = {uid for row in rows for uid in (*row.new_uids, *row.gone_uids)}
    keys = {key for row in rows for key in row.activities}
    things: dict[Any, dict[str, str]] = {}
    if uids:
        seen = visible(viewer, Entity.objects.filter(uid__in=uids))
        light = seen.only("uid", "ref", "kind", "namespace", "name", "title", "deleted_at")
        things |= {entity.uid: _thing(entity) for entity in light}
    if keys:
        things |= {row.pk: _event(row) for row in queries.list_activity(viewer).filter(pk__in=keys)}
    found = []
    for row in rows:
        lines = [
            _line("new", _("New"), row.activities or row.new_uids, row.new, things),
            _line("gone", _("No longer"), row.gone_uids, row.gone, things),
        ]
        found.append(Told(row, url_of(row.watch), [line for line in lines if line.things]))
    return found


def _line(
    change: str, label: str, kept: Sequence[Any], count: int, things: Mapping[Any, dict[str, str]]
) -> Line:
    seen = [things[key] for key in kept if key in things]
    # Where something is hidden, only what is seen is counted.
    total = count if len(seen) == len(kept) else len(seen)
    return Line(change, label, seen[:NAMED], total - len(seen[:NAMED]))


def _thing(entity: Entity) -> dict[str, str]:
    return {"title": entity.title, "url": links.entity_url(entity) if entity.is_alive else ""}


def _event(activity: Activity) -> dict[str, str]:
    title = events.title_of(activity)
    word = events.word_of(activity)[1]
    return {"title": f"{title} {word}".strip(), "url": activity.url, "is_external": "1"}
