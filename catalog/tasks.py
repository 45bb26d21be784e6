"""Celery's entry points of the catalog."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.utils import timezone

from catalog.services.render import A_WHILE
from catalog.services.render import render_dirty as render


@shared_task(name="catalog.render_dirty")
def render_dirty(**_from_newer_release: Any) -> None:
    """Render what changed, a while's worth."""
    render(at=timezone.now(), limit=A_WHILE)
