"""Celery's entry points of the catalog."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from catalog.services import bulk_changes, computing, kind_changes
from catalog.services.definitions import read_definitions as read
from catalog.services.render import A_WHILE
from catalog.services.render import render_dirty as render

logger = logging.getLogger(__name__)


@shared_task(name="catalog.mark_what_time_changed")
def mark_what_time_changed(**_from_newer_release: Any) -> None:
    """Have counted anew what falls out of windows as time goes by."""
    computing.mark_what_time_changed(at=timezone.now())


@shared_task(name="catalog.check_kind_changes")
def check_kind_changes(**_from_newer_release: Any) -> None:
    """Check proposed definitions of kinds on all that is stored. It comes again, so a lost one is taken up."""
    now = timezone.now()
    for change_id in kind_changes.due(now=now):
        kind_changes.check(change_id=change_id, now=now)


@shared_task(name="catalog.read_definitions")
def read_definitions(**_from_newer_release: Any) -> None:
    """Have the operations of changed APIs found by a search. It comes again, so a lost one is taken up."""
    read()


@shared_task(name="catalog.change_many")
def change_many(**_from_newer_release: Any) -> None:
    """Do the changes of many things that wait. It comes again, so that none is lost."""
    for change_id in bulk_changes.due():
        bulk_changes.execute(change_id=change_id)


@shared_task(name="catalog.render_dirty")
def render_dirty(**_from_newer_release: Any) -> None:
    """Render what is left of what changed: who writes renders a while's worth too.

    It comes again in some seconds, at once if there is more, so a lost database is worth a line.
    """
    try:
        if render(at=timezone.now(), limit=A_WHILE) >= A_WHILE:
            render_dirty.apply_async(retry=False, expires=5)
    except (OperationalError, InterfaceError) as error:
        logger.warning("What changed cannot be rendered now: %s", str(error).strip().partition("\n")[0])
