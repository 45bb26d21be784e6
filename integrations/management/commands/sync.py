"""Sync a connection now, in this process."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access.actors import acting_as, system
from base.errors import DomainError
from integrations import sync
from integrations.models import Connection, RunState, SyncRun
from integrations.services.runs import report_runs, request_sync


class Command(BaseCommand):
    help = "Sync a connection and say what came of it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("connection", metavar="CONNECTION", help="Its slug.")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["connection"]
        connection = Connection.objects.filter(slug=slug).first()
        if connection is None:
            known = ", ".join(Connection.objects.values_list("slug", flat=True)) or "-"
            raise CommandError(
                _("There is no connection %(slug)s; there are: %(known)s.") % {"slug": slug, "known": known}
            )
        try:
            with acting_as(system("sync")):
                run = request_sync(connection=connection, by="sync")
                sync.execute_run(run_id=run.pk, now=timezone.now())
        except sync.RunNotLeasable as error:
            raise CommandError(_("Another worker took the run; see its progress in the portal.")) from error
        except DomainError as error:
            raise CommandError(error.message) from error
        finally:
            report_runs(now=timezone.now(), only=connection)
        run = SyncRun.objects.get(pk=run.pk)
        for resource in run.resources.all():
            self.stdout.write(
                _(
                    "%(name)s: %(listed)d listed = %(new)d new + %(changed)d changed + %(unchanged)d unchanged + "
                    "%(skipped)d left out + %(refused)d refused; %(removed)d removed"
                )
                % {
                    name: getattr(resource, name)
                    for name in (
                        "name",
                        "listed",
                        "new",
                        "changed",
                        "unchanged",
                        "skipped",
                        "refused",
                        "removed",
                    )
                }
            )
        self.stdout.write(f"{run.get_state_display()} {run.message}".strip())
        if run.state == RunState.FAILED:
            raise CommandError(run.message)
