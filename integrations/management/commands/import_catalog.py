"""Import catalog files."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.actors import acting_as, system
from integrations.services.locations import DocumentProblem, ImportSummary, import_paths

SHOWN = 50


class Command(BaseCommand):
    help = (
        "Import Backstage catalog files from files, folders, Git repositories or URLs, and read them again later. "
        "Exit code 1: something could not be read; the rest was imported."
    )
    requires_system_checks = ()  # they load all pages of the portal first

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("addresses", nargs="+", metavar="PATH_OR_URL")
        parser.add_argument("--dry-run", action="store_true", help="Say what would happen and write nothing.")
        parser.add_argument(
            "--json", action="store_true", help="Print the outcome as one JSON object on the last line."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with acting_as(system("import_catalog")):
            summary = import_paths(
                addresses=options["addresses"],
                by="import_catalog",
                dry_run=options["dry_run"],
                from_shell=True,
            )
        if options["json"]:
            self.stdout.write(json.dumps(summary.as_dict(), ensure_ascii=False))
        else:
            self._say(summary, is_dry=options["dry_run"])
        if summary.unread:
            raise CommandError(
                ngettext(
                    "%(count)d place could not be read; nothing was removed of what it may hold.",
                    "%(count)d places could not be read; nothing was removed of what they may hold.",
                    summary.unread,
                )
                % {"count": summary.unread}
            )

    def _say(self, summary: ImportSummary, *, is_dry: bool) -> None:
        for problem in summary.problems[:SHOWN]:
            self.stdout.write(_line(problem))
        if len(summary.problems) > SHOWN:
            more = len(summary.problems) - SHOWN
            said = ngettext("... and %(count)d more problem", "... and %(count)d more problems", more)
            self.stdout.write(said % {"count": more})
        self.stdout.write(
            ngettext("%(count)d file, ", "%(count)d files, ", summary.files) % {"count": summary.files}
            + ngettext("%(count)d document: ", "%(count)d documents: ", summary.documents)
            % {"count": summary.documents}
            + _(
                "%(accepted)d accepted, %(refused)d refused; entities: %(written)d written, %(unchanged)d unchanged, "
                "%(removed)d removed."
            )
            % summary.as_dict()
        )
        if is_dry:
            self.stdout.write(_("Nothing was written."))


def _line(problem: DocumentProblem) -> str:
    where = problem.file
    if not problem.document and where in problem.message:
        return problem.message
    if problem.document:
        where += _(", document %(number)d, line %(line)d") % {
            "number": problem.document,
            "line": problem.line,
        }
        if problem.column:
            where += _(", column %(column)d") % {"column": problem.column}
    return f"{where}: {problem.path + ': ' if problem.path else ''}{problem.message}"
