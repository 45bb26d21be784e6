"""Catalog files on this machine, looked at so often that a change is seen within a second or two."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from base.errors import DomainError
from catalog.models import Claim
from integrations.files import FileReader
from integrations.models import CatalogLocation
from integrations.readers import local_files

logger = logging.getLogger(__name__)

Marks = dict[str, tuple[int, int, int]]
"""Of each file that is there: when it was changed, in ns, its size and its number on the disk."""


@dataclass
class _Place:
    """A location as it was when it was last looked at.

    :ivar led: the files that documents of it lead to; `own` those that it stands for, as listed at some time.
    :ivar marks: None until it was looked at.
    """

    location: CatalogLocation
    led: frozenset[str]
    own: Collection[str] = ()
    listed_at: float = float("-inf")
    marks: Marks | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """A location of which files were changed, came or went.

    :ivar paths: those files; None where the whole must be read again.
    """

    location: CatalogLocation
    paths: frozenset[str] | None


class Watch:
    """What has changed since one last looked, of all locations that are files of this machine.

    Looks at names, times and sizes alone. Of a location that it sees for the first time, what was changed since that
    was last read counts; one that was never read is somebody else's to read.
    """

    ASK_SECONDS = 5.0  # between two questions to the database which locations there are
    LIST_SECONDS = 5.0  # between two looks for new files, which cost more than one at those that are known

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}
        self._asked_at = float("-inf")

    def look(self) -> list[Changed]:
        """Look once. What could not be read again is told anew after `again`."""
        if time.monotonic() - self._asked_at >= self.ASK_SECONDS:
            self._ask()
            self._asked_at = time.monotonic()
        return [found for place in self._places.values() if (found := self._look_at(place)) is not None]

    def again(self, changed: Changed) -> None:
        """Tell of this change once more with the next look: nobody could read it now."""
        place = self._places.get(changed.location.pk)
        if place is None or place.marks is None:
            return
        for path in changed.paths if changed.paths is not None else list(place.marks):
            place.marks[path] = (0, 0, 0)  # as no file is

    def _ask(self) -> None:
        known, self._places = self._places, {}
        rows = CatalogLocation.objects.filter(removal_at=None, address__startswith="file:/")
        for location in rows.exclude(read_at=None):
            place = known.get(location.pk)
            if place is None or place.location.address != location.address:
                place = _Place(location, led=_led(location))
            elif place.location.read_at != location.read_at:
                place.led = _led(location)
            place.location = location
            self._places[location.pk] = place

    def _look_at(self, place: _Place) -> Changed | None:
        location, before = place.location, place.marks
        assert location.read_at is not None
        now = _marks([*place.own, *place.led])
        # What seems to be gone may lie in a folder that cannot be listed now.
        if time.monotonic() - place.listed_at >= self.LIST_SECONDS or not now.keys() >= (before or {}).keys():
            if not self._list(place):
                return None
            now = _marks([*place.own, *place.led])
        place.marks = now
        if before is None:
            changed = {path for path, mark in now.items() if _is_after(mark[0], location.read_at)}
        else:
            changed = {path for path in now.keys() | before.keys() if now.get(path) != before.get(path)}
        if not changed:
            return None
        return Changed(location, None if changed & place.led else frozenset(changed))

    @staticmethod
    def _list(place: _Place) -> bool:
        """Look which files a location stands for; says whether all could be listed."""
        try:
            files = FileReader([*settings.PORTICO_FILES_ALLOW, *place.location.roots])
            own, unlisted = local_files(place.location.address.removeprefix("file:"), files)
        except DomainError:
            return False  # who reads it says why it cannot be read
        if unlisted:
            return False
        place.own, place.listed_at = own.values(), time.monotonic()
        return True


def _led(location: CatalogLocation) -> frozenset[str]:
    """The local files that documents of a location lead to."""
    rows = Claim.objects.filter(source__key=location.source_key, place__has_key="by")
    files = rows.values_list("place__file", flat=True).distinct()
    return frozenset(path for path in files if str(path).startswith("/"))


def _marks(paths: Collection[str]) -> Marks:
    found: Marks = {}
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError:
            continue
        found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def _is_after(changed_ns: int, read_at: datetime) -> bool:
    return changed_ns / 1e9 > read_at.timestamp()
