"""Test a connection."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from base.errors import DomainError
from integrations.models import Connection
from integrations.services.connections import check_connection


class Command(BaseCommand):
    help = "Test a connection: what works, and what permission is missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("connection", metavar="CONNECTION", help="Its slug.")

    def handle(self, *args: Any, **options: Any) -> None:
        connection = Connection.objects.filter(slug=options["connection"]).first()
        if connection is None:
            raise CommandError(_("There is no connection %(slug)s.") % {"slug": options["connection"]})
        try:
            health = check_connection(connection=connection)
        except DomainError as error:
            raise CommandError(error.message) from error
        for check in health.checks:
            mark = "ok  " if check.ok else "FAIL"
            self.stdout.write(f"{mark} {check.label}" + (f": {check.detail}" if check.detail else ""))
            if check.remedy and not check.ok:
                self.stdout.write(f"     {check.remedy}")
        if not health.ok:
            raise CommandError(_("The connection does not work."))
