"""The Celery application: `celery -A portal.celery`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import task_postrun, task_prerun

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("portico")
app.config_from_object("django.conf:settings", namespace="CELERY")
# Celery would close connections after each task; to open one costs the server more than most tasks do.
app.conf.CELERY_DB_REUSE_MAX = 1_000_000_000
app.autodiscover_tasks()


@task_prerun.connect
@task_postrun.connect
def keep_what_is_usable(**_signal: Any) -> None:
    """Close connections that are lost or old, as between two requests; the others stay."""
    from django.db import close_old_connections

    close_old_connections()
