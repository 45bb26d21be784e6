"""Write all data and the keys into one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from base.errors import DomainError
from portal.backups import make_backup
from portal.backups.passphrase import add_passphrase_file, read_new_passphrase


class Command(BaseCommand):
    help = (
        "Write all data, and the keys under a passphrase, into one file; also while Portico runs. "
        "The passphrase is PORTICO_BACKUP_PASSPHRASE, the first line of --passphrase-file, or asked for."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
        parser.add_argument(
            "--without-keys",
            action="store_true",
            help="leave the keys out: needs no passphrase, and credentials can only be read where the keys are",
        )
        add_passphrase_file(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"].expanduser().absolute()
        try:
            passphrase = None
            if not options["without_keys"]:
                passphrase = read_new_passphrase(options["passphrase_file"])
            manifest = make_backup(path, passphrase=passphrase, force=options["force"])
        except DomainError as error:
            raise CommandError(error.message) from error
        except OSError as error:
            raise CommandError(
                _("%(path)s could not be written: %(why)s. Nothing was left of it.")
                % {"path": path, "why": error.strerror}
            ) from error
        self.stdout.write(
            _("%(path)s: %(rows)d rows of %(tables)d tables, %(size).1f MB, %(keys)s.")
            % {
                "path": path,
                "rows": sum(table.rows for table in manifest.tables),
                "tables": len(manifest.tables),
                "size": path.stat().st_size / 1_000_000,
                "keys": _("the keys under the passphrase") if manifest.keys else _("without the keys"),
            }
        )
