"""Wait until what was just connected has been read: so that the first page is full when it is first seen."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from catalog.models import Entity
from catalog.services.render import render_dirty
from integrations.queries import first_syncs
from portal import sample


class Command(BaseCommand):
    help = "Wait until every connection that is being read for the first time is read, saying how far it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=int, default=60, help="How long to wait at most (default 60).")

    def _once_more(self) -> list[str]:
        return [_("the sample's registry once more")] if sample.go_on() else []

    def handle(self, *args: Any, **options: Any) -> None:
        end, said = time.monotonic() + options["seconds"], ""
        while labels := [connection.label for connection in first_syncs()] or self._once_more():
            names = {"names": ", ".join(labels)}
            if time.monotonic() > end:
                self.stdout.write(_("Still reading %(names)s; the pages fill by themselves.") % names)
                return
            line = _("Reading %(names)s ...") % names
            if line != said:
                self.stdout.write(line)
            said = line
            time.sleep(0.5)
        render_dirty(at=timezone.now())
        found = Entity.objects.filter(deleted_at=None).count()
        self.stdout.write(
            ngettext("The catalog has %(n)d entity.", "The catalog has %(n)d entities.", found) % {"n": found}
        )
