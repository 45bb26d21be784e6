"""Reads catalog files of this machine again as soon as they change: a process of its own."""

from __future__ import annotations

import logging
import time

from django.db import Error, close_old_connections

from integrations.services import locations
from integrations.tasks import start_reading

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks
SHARE = 0.01  # of a processor that looking may take, however many files there are


def watch_files() -> None:
    """Look, and have read again what has changed, until the process ends."""
    watch, cost = locations.Watch(), 0.0
    while True:
        close_old_connections()
        begun = time.process_time()
        try:
            found = watch.look()
            cost = 0.8 * cost + 0.2 * (time.process_time() - begun)  # now and then a look costs more
            pause = max(LOOK_SECONDS, cost / SHARE)
            for changed in found:
                read_again(watch, changed)
        except Error as error:
            logger.warning("Catalog files are not watched while the database is away: %s", error)
            pause = 5.0
        time.sleep(pause)


def read_again(watch: locations.Watch, changed: locations.Changed) -> None:
    """Have what has changed read again: here, if it is some files, else by a worker."""
    location = changed.location
    try:
        paths = changed.paths
        if paths is None or not locations.refresh_files(location_id=location.pk, paths=paths):
            start_reading(location)
    except locations.LocationBusy:
        watch.again(changed)
    except Error:
        watch.again(changed)
        raise
    except Exception:
        logger.exception("What changed of %s could not be read; it is read again in some minutes.", location)
