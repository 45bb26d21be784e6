"""Mails that tell people of what they watch: where mail is set up, after the bell, from a row that outlives a worker.

Whoever sends one holds its row; it is over once that is committed. A worker that is killed before has the mail sent
again, under the same Message-ID.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import make_msgid
from enum import Enum
from urllib.parse import urlsplit

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.actors import acting_as, system
from base.errors import NotFound
from base.logs import mask_secrets
from portal.models import Mail, Watch
from portal.watches import Told, change_watch, one_line, told, why_no_mail

logger = logging.getLogger(__name__)

# What comes at once goes at once, in one mail; what comes soon after waits.
SETTLING = timedelta(minutes=1)
BETWEEN = timedelta(minutes=15)
HOUR_OF_THE_DAY = 7
FIRST_PAUSE, LONGEST_PAUSE, ATTEMPTS = timedelta(minutes=1), timedelta(hours=4), 10
AT_A_TIME = 50
MAILS_STAY = timedelta(days=90)
IN_A_MAIL = 50
_SALT = "portico.mails"


def wait_for_mail(watch: Watch, *, now: datetime) -> Mail | None:
    """The mail that a notice of this watch goes with, made if none waits; None where none is wanted."""
    if watch.mail == Watch.Mail.NONE or why_no_mail(watch.user):
        return None
    about = watch if watch.mail == Watch.Mail.NOW else None
    mails = Mail.objects.filter(user=watch.user, watch=about)
    # One that is being sent has said what it says.
    if (
        waiting := mails.filter(sent_at=None).select_for_update(skip_locked=True, no_key=True).first()
    ) is not None:
        return waiting
    not_before = now + SETTLING
    if about is None:
        not_before = _next_morning(now)
    elif (last := mails.order_by("-pk").first()) is not None:
        not_before = max(not_before, (last.sent_at or now) + BETWEEN)
    return Mail.objects.create(
        user=watch.user,
        watch=about,
        not_before=not_before,
        created_at=now,
        message_id=make_msgid(domain=_host()),
    )


def _next_morning(now: datetime) -> datetime:
    clock = timezone.get_default_timezone()
    morning = timezone.localtime(now, clock).replace(hour=HOUR_OF_THE_DAY, minute=0, second=0, microsecond=0)
    return morning if morning > now else morning + timedelta(days=1)


def _host() -> str:
    return urlsplit(settings.PORTICO_URL).hostname or "portico"


def send_due(*, now: datetime) -> int:
    """Send the mails whose time has come; the first that has to be tried again ends it, for the next would too.

    :returns: how many went.
    """
    went = 0
    if settings.EMAIL_HOST:
        for _number in range(AT_A_TIME):
            outcome = _send_one(now)
            if outcome not in (_Outcome.WENT, _Outcome.OVER):
                break
            went += outcome == _Outcome.WENT
    return went


class _Outcome(Enum):
    WENT, OVER, LATER, NONE = range(4)


@transaction.atomic
def _send_one(now: datetime) -> _Outcome:
    mail = (
        Mail.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
        .select_related("user", "watch")
        .filter(sent_at=None, not_before__lte=now)
        .order_by("not_before", "pk")
        .first()
    )
    if mail is None:
        return _Outcome.NONE
    message = _message(mail)
    outcome = _Outcome.OVER
    if message is not None:
        mail.attempts += 1
        try:
            message.send()
            mail.trouble, outcome = "", _Outcome.WENT
        except (OSError, smtplib.SMTPException) as error:
            mail.trouble = _reason(error)
            logger.warning("A mail to account %s could not be sent: %s", mail.user_id, mail.trouble)
            if not _is_final(error) and mail.attempts < ATTEMPTS:
                mail.not_before = now + min(FIRST_PAUSE * 2 ** (mail.attempts - 1), LONGEST_PAUSE)
                mail.save(update_fields=["attempts", "trouble", "not_before"])
                return _Outcome.LATER
    mail.sent_at = now
    mail.save(update_fields=["attempts", "trouble", "sent_at"])
    return outcome


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        error = smtplib.SMTPResponseException(*next(iter(error.recipients.values())))
    if isinstance(error, smtplib.SMTPResponseException):
        said = (
            error.smtp_error.decode("utf-8", "replace")
            if isinstance(error.smtp_error, bytes)
            else error.smtp_error
        )
        return mask_secrets(f"{error.smtp_code} {said}")[:300]
    return mask_secrets(str(error) or type(error).__name__)[:300]


def _is_final(error: Exception) -> bool:
    """Whether trying again is of no use: the server does not take mail for this address."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _said in error.recipients.values())
    return isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500


def _message(mail: Mail) -> EmailMessage | None:
    """What there is to say now; None if it is nothing: all of it was read, or its watch is gone."""
    if why_no_mail(mail.user) or not mail.user.is_active:
        return None
    rows = (
        mail.notices.filter(read_at=None, watch__deleted_at=None, watch__is_paused=False)
        .exclude(watch__mail=Watch.Mail.NONE)
        .select_related("watch")
        .order_by("pk")
    )
    found = [one for one in told(mail.user, rows[:IN_A_MAIL]) if one.lines]
    if not found:
        return None
    root = settings.PORTICO_URL
    parts = [f"{one.notice.watch.name}\n{one_line(one.text)}\n{root}{one.url}" for one in found]
    if (more := rows.count() - IN_A_MAIL) > 0:
        said = ngettext("%(n)d more notice:", "%(n)d more notices:", more) % {"n": more}
        parts.append(f"{said}\n{root}/notices")
    own = f"{root}/settings/tell-me/{mail.watch_id}" if mail.watch_id else f"{root}/settings/tell-me"
    # RFC 8058: the mail program ends them, where nobody is signed in.
    way_out = {"List-Unsubscribe": f"<{root}{reverse('portal:notices-end', args=[_token(mail)])}>"}
    if root.startswith("https:"):
        way_out["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    end = _("You asked to be told of this. Change or end that here:")
    return EmailMessage(
        subject=_subject(found),
        body="\n\n".join([*parts, f"-- \n{end}\n{own}\n"]),
        to=[mail.user.email],
        headers={
            "Message-ID": mail.message_id,
            "Auto-Submitted": "auto-generated",
            **way_out,
        },
    )


def _token(mail: Mail) -> str:
    return signing.dumps([mail.user_id, mail.watch_id], salt=_SALT)


def ended_by(token: str) -> QuerySet[Watch]:
    """The watches that go by mail and that the link in a mail is about: one, or all of the mail a day.

    :raises NotFound: if the link is none of ours.
    """
    try:
        user_id, watch_id = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        raise NotFound(_("This link ends no mails. Open the newest mail's, or see what you watch.")) from None
    rows = Watch.objects.kept().filter(user=user_id).exclude(mail=Watch.Mail.NONE).order_by("pk")
    return rows.filter(pk=watch_id) if watch_id else rows.filter(mail=Watch.Mail.DAILY)


@transaction.atomic
def end_mails(token: str) -> None:
    """Have no mail go any more for what a link in a mail is about: who holds it is the account's own mail program.

    :raises NotFound: if the link is none of ours.
    """
    with acting_as(system(_("The link in a mail"))):
        for watch in ended_by(token):
            change_watch(watch=watch, mail=Watch.Mail.NONE)


def _subject(found: Sequence[Told]) -> str:
    if len(found) == 1:
        said = ", ".join(f"{line.total} {line.label.lower()}" for line in found[0].lines)
        text = f"{found[0].notice.watch.name}: {said}"
    else:
        text = ngettext("%(n)d thing that you watch", "%(n)d things that you watch", len(found)) % {
            "n": len(found)
        }
    return one_line(f"[Portico] {text}")


def forget_old_mails(*, now: datetime) -> None:
    """Let go of mails that went long ago."""
    Mail.objects.filter(sent_at__lt=now - MAILS_STAY).delete()
