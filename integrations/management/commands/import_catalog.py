"""Import catalog files."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.actors import acting_as, system
from base.errors import DomainError
from integrations.services.locations import DocumentProblem, import_paths

SHOWN = 50


class Command(BaseCommand):
    help = "Import Backstage catalog files from files, folders, Git repositories or URLs, and read them again later."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("addresses", nargs="+", metavar="PATH_OR_URL")
        parser.add_argument("--dry-run", action="store_true", help="Say what would happen and write nothing.")
        parser.add_argument(
            "--json", action="store_true", help="Print the outcome as one JSON object on the last line."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with acting_as(system("import_catalog")):
                summary = import_paths(
                    addresses=options["addresses"],
                    by="import_catalog",
                    dry_run=options["dry_run"],
                    from_shell=True,
                )
        except DomainError as error:
            raise CommandError(error.message) from error
        if options["json"]:
            self.stdout.write(json.dumps(summary.as_dict(), ensure_ascii=False))
            return
        for problem in summary.problems[:SHOWN]:
            self.stdout.write(_line(problem))
        if len(summary.problems) > SHOWN:
            self.stdout.write(_("... and %(count)d more") % {"count": len(summary.problems) - SHOWN})
        self.stdout.write(
            ngettext("%(count)d file, ", "%(count)d files, ", summary.files) % {"count": summary.files}
            + _(
                "%(documents)d documents: %(accepted)d accepted, %(refused)d refused; entities: %(written)d written, "
                "%(unchanged)d unchanged, %(removed)d removed."
            )
            % summary.as_dict()
        )
        if options["dry_run"]:
            self.stdout.write(_("Nothing was written."))


def _line(problem: DocumentProblem) -> str:
    where = problem.file
    if problem.document:
        where += _(", document %(number)d, line %(line)d") % {
            "number": problem.document,
            "line": problem.line,
        }
    return f"{where}: {problem.path + ': ' if problem.path else ''}{problem.message}"
