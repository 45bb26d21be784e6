"""Bring a backup back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy

from base.errors import DomainError
from portal.backups import Restored, restore_backup
from portal.backups.passphrase import add_passphrase_file, read_passphrase

# What a person knows a portal by; the other tables are summed up.
_NAMED = {
    "catalog_entity": ngettext_lazy("%d entity", "%d entities"),
    "catalog_activity": ngettext_lazy("%d activity", "%d activities"),
    "integrations_connection": ngettext_lazy("%d connection", "%d connections"),
    "access_user": ngettext_lazy("%d account", "%d accounts"),
}


class Command(BaseCommand):
    help = (
        "Bring back what `backup` wrote, all or nothing; Portico must be stopped. The passphrase is "
        "PORTICO_BACKUP_PASSPHRASE, the first line of --passphrase-file, or asked for."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument(
            "--replace",
            action="store_true",
            help="put it into the place of the data that are there; a backup of them is made first",
        )
        parser.add_argument(
            "--without-credentials",
            action="store_true",
            help="go on if stored credentials cannot be read, for their key is lost",
        )
        add_passphrase_file(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"].expanduser().absolute()
        try:
            restored = restore_backup(
                path,
                ask_passphrase=lambda: read_passphrase(options["passphrase_file"]),
                replace=options["replace"],
                without_credentials=options["without_credentials"],
                say=self.stdout.write,
            )
        except DomainError as error:
            raise CommandError(error.message) from error
        except OSError as error:
            raise CommandError(
                _("%(path)s could not be restored: %(why)s.") % {"path": path, "why": error}
            ) from error
        self.stdout.write(_told(restored))


def _told(restored: Restored) -> str:
    rows = {table.name: table.rows for table in restored.manifest.tables}
    named = ", ".join(str(words % rows.get(table, 0)) for table, words in _NAMED.items())
    lines = [
        _("Restored as of %(at)s: %(named)s; %(rows)d rows in %(tables)d tables.")
        % {
            "at": f"{restored.manifest.made_at:%Y-%m-%d %H:%M} UTC",
            "named": named,
            "rows": sum(rows.values()),
            "tables": len(rows),
        },
        _("%(readable)d of %(total)d stored credentials can be read.")
        % {"readable": restored.secrets - restored.unreadable, "total": restored.secrets},
    ]
    if restored.operations:
        lines.append(
            _("%(count)d operations that were open are closed as unknown: none is repeated by itself.")
            % {"count": restored.operations}
        )
    lines.append(_("Sessions and tokens that were ended since then are valid again. Start with bin/up."))
    return "\n".join(lines)
