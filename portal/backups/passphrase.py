"""Where a passphrase comes from: never from the command line, which every user of the machine can read."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from portal.backups.archive import SHORTEST_PASSPHRASE, BackupError


def add_passphrase_file(parser: CommandParser) -> None:
    parser.add_argument(
        "--passphrase-file", metavar="PATH", type=Path, help="a file whose first line is the passphrase"
    )


def read_passphrase(file: Path | None) -> str:
    """Read the passphrase of a backup that is there.

    :raises BackupError: if there is none and nobody to ask.
    """
    if given := _given(file):
        return given
    return _ask(_("Passphrase of the backup: "))


def read_new_passphrase(file: Path | None) -> str:
    """Read a passphrase for a backup to be made; typed twice, where it is typed.

    :raises BackupError: if there is none and nobody to ask, or it is too short.
    """
    passphrase = _given(file)
    if not passphrase:
        passphrase = _ask(_("Passphrase for the keys in the backup: "))
        if passphrase != _ask(_("The same again: ")):
            raise BackupError(_("These were two different passphrases. Nothing was written."))
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise BackupError(
            _("A passphrase has at least %(count)d characters. Nothing was written.")
            % {"count": SHORTEST_PASSPHRASE}
        )
    return passphrase


def _given(file: Path | None) -> str:
    if file is None:
        return os.environ.get("PORTICO_BACKUP_PASSPHRASE", "")
    try:
        lines = file.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BackupError(
            _("The passphrase cannot be read from %(file)s: %(why)s.") % {"file": file, "why": error}
        ) from error
    if not lines or not lines[0]:
        raise BackupError(_("The first line of %(file)s is empty.") % {"file": file})
    return lines[0]


def _ask(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise BackupError(
            _("There is nobody to ask for the passphrase. Set PORTICO_BACKUP_PASSPHRASE, or name a file with it "
              "by --passphrase-file.")
        )  # fmt: skip
    return getpass.getpass(prompt)
