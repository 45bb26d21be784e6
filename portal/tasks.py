"""Celery's entry points of this floor: thin, idempotent. The truth is in PostgreSQL."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from portal import mail, saved_views, telling, watches
from portal.sample import go_on

logger = logging.getLogger(__name__)

# Of what was imported at once there may be many shares; the next call does what is left.
SHARES = 10


@shared_task(name="portal.tell")
def tell(**_from_newer_release: Any) -> None:
    """Tell people of what changed. It comes again in some seconds, so a lost database is worth a line."""
    try:
        for _number in range(SHARES):
            if not telling.tell(now=timezone.now()):
                break
    except (OperationalError, InterfaceError) as error:
        logger.warning("Nobody can be told of news now: %s", str(error).strip().partition("\n")[0])


@shared_task(name="portal.sample")
def sample(**_from_newer_release: Any) -> None:
    """Let what is to happen to the sample company happen."""
    go_on()


@shared_task(name="portal.send_mail")
def send_mail(**_from_newer_release: Any) -> None:
    """Send the mails that are due."""
    mail.send_due(now=timezone.now())


@shared_task(name="portal.forget")
def forget(**_from_newer_release: Any) -> None:
    """Let go of what nobody asks for any more."""
    watches.forget_old(now=timezone.now())
    saved_views.forget_deleted(now=timezone.now())
    mail.forget_old_mails(now=timezone.now())
