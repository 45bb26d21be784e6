"""Backups: all data and the keys in one file, and the way back."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import redis
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.actors import acting_as, system
from access.secrets import count_secrets
from access.services import record_audit
from catalog.services.feed import settle_feed
from integrations.services.operations import close_open_operations
from portal.backups import database
from portal.backups.archive import Archive, BackupError, Manifest, SealedKeys, writing

KEPT = 5
_KEY_FILES = {"encryption": "encryption-keys", "secret": "secret-key"}
_KEY_VARIABLES = {"encryption": "PORTICO_ENCRYPTION_KEYS", "secret": "PORTICO_SECRET_KEY"}

Say = Callable[[str], None]


# -- making -----------------------------------------------------------------------------------------------


def make_backup(path: Path, *, passphrase: str | None, force: bool = False) -> Manifest:
    """Write everything into one file, while the portal may run.

    :param passphrase: under which the keys go into the file; None leaves them out.
    :raises BackupError: if the file is there already and not forced, or there is too little room.
    """
    state = database.look()
    if not state.tables:
        raise BackupError(_("There are no data yet: this database has no tables of Portico."))
    with writing(path, force=force) as writer:
        # Compressed rows without indexes take far less; a disk that gets full later is told as well.
        _check_room(path.parent, state.size // 3)
        migrations = database.applied_migrations()
        manifest = Manifest(
            portico=version("portico"),
            made_at=timezone.now(),
            postgresql=state.server,
            size=state.size,
            migrations=migrations,
            tables=database.copy_out(writer, state, migrations),
            keys=SealedKeys.seal(_keys(), passphrase) if passphrase is not None else None,
        )
        writer.close(manifest)
    return manifest


def backup_before(what: str) -> Path:
    """Make a backup beside the data, without the keys, which lie there too; only the newest few are kept."""
    folder = settings.PORTICO_HOME / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    for left_over in folder.glob(".before-*.part"):
        left_over.unlink(missing_ok=True)
    path = folder / f"before-{what}-{timezone.now():%Y-%m-%d-%H%M%S}.backup"
    make_backup(path, passphrase=None, force=True)
    for old in sorted(folder.glob("before-*.backup"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink()
    return path


def _keys() -> dict[str, str]:
    return {"encryption": " ".join(settings.PORTICO_ENCRYPTION_KEYS), "secret": settings.SECRET_KEY}


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BackupError(
            _(
                "There are %(free)d MB free in %(folder)s, and about %(needed)d MB are needed. Free some space."
            )
            % {"free": free // 1_000_000, "folder": folder, "needed": needed // 1_000_000 + 1}
        )


# -- before migrating -------------------------------------------------------------------------------------


def before_migrating(say: Say) -> None:
    """Keep what the coming migrations would change; called before each.

    :raises BackupError: if the data were migrated by a newer Portico, or cannot be backed up.
    """
    applied = database.applied_migrations()
    if unknown := database.unknown_migrations(applied):
        raise BackupError(
            _("The data were migrated by a newer Portico: this one does not know %(names)s. Nothing was changed. "
              "Install that version again; or, to go back, restore a backup from before the upgrade with "
              "bin/manage restore --replace FILE. Those that were made by themselves lie in %(folder)s.")
            % {"names": _some(unknown), "folder": settings.PORTICO_HOME / "backups"}
        )  # fmt: skip
    if not applied or not settings.PORTICO_BACKUP_BEFORE_MIGRATING:
        return
    pending = database.pending_migrations()
    if not pending:
        return
    try:
        path = backup_before("migrating")
    except (BackupError, OSError) as error:
        raise BackupError(
            _("No backup could be made before the migration, so it was not begun. %(why)s "
              "If you have a backup of your own, go on with PORTICO_BACKUP_BEFORE_MIGRATING=no.")
            % {"why": error}
        ) from error  # fmt: skip
    say(
        _("Before %(count)d migrations: backup in %(path)s\n"
          "  To return: check out the earlier version, and bin/manage restore --replace '%(path)s'")
        % {"count": len(pending), "path": path}
    )  # fmt: skip


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# -- restoring --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Restored:
    """What came back.

    :ivar unreadable: secrets that no key here opens.
    """

    manifest: Manifest
    secrets: int
    unreadable: int
    operations: int


def restore_backup(
    path: Path,
    *,
    ask_passphrase: Callable[[], str],
    replace: bool = False,
    without_credentials: bool = False,
    say: Say,
) -> Restored:
    """Put a backup into the place of what is there, at one moment and after all of it was checked.

    :param replace: also where there are data already, of which a backup is made first.
    :param without_credentials: also if stored credentials could not be read afterwards.
    :raises BackupError: if the file is damaged, from newer software, or under another passphrase; if there are
        data already, or somebody works with them. Then nothing was changed.
    """
    with Archive(path) as archive:
        manifest = archive.manifest
        if unknown := database.unknown_migrations(manifest.migrations):
            raise BackupError(
                _("This backup was made by a newer Portico (%(version)s), or by one with plugins that are not "
                  "installed here: this one does not know %(names)s. Install what made it, and restore with that. "
                  "Nothing was changed.")
                % {"version": manifest.portico, "names": _some(unknown)}
            )  # fmt: skip
        keys = manifest.keys.open(ask_passphrase()) if manifest.keys else {}
        state = database.look()
        _check_target(state, manifest, replace)
        queue = _reach_redis()
        archive.verify()
        say(_("Each of the %(count)d tables in the file is whole.") % {"count": len(manifest.tables)})
        if state.tables:
            kept = backup_before("restoring")
            say(_("What is there now: backup in %(path)s") % {"path": kept})
        ring = _key_ring(keys)
        with database.built_beside(archive, state):
            total, unreadable, operations = _settle(manifest, ring)
            if unreadable and not without_credentials:
                raise BackupError(
                    _("%(unreadable)d of %(total)d stored credentials were encrypted with a key that is not here. "
                      "%(way)s Or go on with --without-credentials and enter them again. Nothing was changed.")
                    % {"unreadable": unreadable, "total": total, "way": _way_to_keys(keys)}
                )  # fmt: skip
        say(_("The tables are built and filled."))
        # Before the switch: every key is there whichever data a kill leaves in place.
        _write_key("encryption", " ".join(ring))
        database.switch(state)
        if keys:
            _write_key("secret", keys["secret"])
        queue.flushdb()
    return Restored(manifest, total, unreadable, operations)


def _check_target(state: database.State, manifest: Manifest, replace: bool) -> None:
    if state.tables and not replace:
        raise BackupError(
            _("There are data in this database already. To put the backup into their place, give --replace; "
              "a backup of them is made first. Nothing was changed.")
        )  # fmt: skip
    if others := database.others_connected():
        raise BackupError(
            ngettext(
                "%(count)d other session uses the database: stop Portico, its workers and whatever else is "
                "connected, and try again. Nothing was changed.",
                "%(count)d other sessions use the database: stop Portico, its workers and whatever else is "
                "connected, and try again. Nothing was changed.",
                others,
            )
            % {"count": others}
        )
    host = connection.settings_dict["HOST"]
    if host.startswith("/") and (folder := Path(host)).exists():
        _check_room(folder, manifest.size)


def _reach_redis() -> redis.Redis:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=10, socket_connect_timeout=10)
    try:
        client.ping()
    except redis.RedisError as error:
        raise BackupError(
            _("Redis does not answer, and what it keeps has to be forgotten with the old data. "
              "See that REDIS_URL leads to it. Nothing was changed.")
        ) from error  # fmt: skip
    return client


def _settle(manifest: Manifest, ring: list[str]) -> tuple[int, int, int]:
    """See to what must not simply go on where it stood; inside the tables that were built.

    :returns: how many secrets there are, how many cannot be read, and how many operations were closed.
    """
    settings.PORTICO_ENCRYPTION_KEYS = ring
    with transaction.atomic(), acting_as(system("restore")):
        settle_feed()
        total, unreadable = count_secrets()
        operations = close_open_operations(
            now=timezone.now(),
            message=_("A backup was restored while it was open. Look in the tool whether it happened."),
        )
        record_audit("backup.restore", changes={"made_at": manifest.made_at.isoformat()})
    return total, unreadable, operations


# -- keys -------------------------------------------------------------------------------------------------


def _key_ring(keys: dict[str, str]) -> list[str]:
    """The backup's encryption keys, then those that are here, which other backups may need."""
    own = list(settings.PORTICO_ENCRYPTION_KEYS)
    if not keys or os.environ.get(_KEY_VARIABLES["encryption"]):
        return own
    return list(dict.fromkeys([*keys["encryption"].split(), *own]))


def _way_to_keys(keys: dict[str, str]) -> str:
    if keys:
        return _("Unset PORTICO_ENCRYPTION_KEYS, and the keys in the backup are used.")
    return _("Put that key into %(file)s, behind the one in it.") % {
        "file": settings.PORTICO_HOME / _KEY_FILES["encryption"]
    }


def _write_key(name: str, value: str) -> None:
    """Put a key into its file, unless a variable says what it is."""
    file = settings.PORTICO_HOME / _KEY_FILES[name]
    if os.environ.get(_KEY_VARIABLES[name]) or (file.exists() and file.read_text().strip() == value):
        return
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(value + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
