"""One file that holds a backup: a zip with each table's rows as COPY writes them, and a manifest as its last member.

It appears under its name whole or not at all, and is believed only when every checksum in its manifest holds.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, ClassVar, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.utils.translation import gettext as _
from pydantic import BaseModel, Field

from base.errors import DomainError

FORMAT = 1
SHORTEST_PASSPHRASE = 8
_MANIFEST = "manifest.json"
_BLOCK = 1024 * 1024
_BOUND_TO = b"portico-backup-keys"
# What reading a damaged zip raises; RuntimeError where it seems encrypted or compressed in another way.
_DAMAGED = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, ValueError, RuntimeError)


class BackupError(DomainError):
    """A backup cannot be made or restored as asked; the message says why and what to do."""

    code: ClassVar[str] = "backup"
    status: ClassVar[int] = 409


class SealedKeys(BaseModel):
    """The portal's keys under a passphrase: scrypt makes the key of AES-256-GCM."""

    salt: str
    nonce: str
    sealed: str
    # Bounded, since a file from elsewhere must not ask for all of the machine's memory.
    n: int = Field(2**16, ge=2**14, le=2**20)
    r: int = Field(8, ge=8, le=16)
    p: int = Field(1, ge=1, le=4)

    @classmethod
    def seal(cls, keys: dict[str, str], passphrase: str) -> SealedKeys:
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        shell = cls(salt=_text(salt), nonce=_text(nonce), sealed="")
        sealed = AESGCM(shell._key(passphrase)).encrypt(nonce, json.dumps(keys).encode(), _BOUND_TO)
        return shell.model_copy(update={"sealed": _text(sealed)})

    def open(self, passphrase: str) -> dict[str, str]:
        """
        :raises BackupError: if it is another passphrase.
        """
        try:
            nonce, sealed = base64.b64decode(self.nonce), base64.b64decode(self.sealed)
            return dict(json.loads(AESGCM(self._key(passphrase)).decrypt(nonce, sealed, _BOUND_TO)))
        except (InvalidTag, ValueError) as error:
            raise BackupError(
                _("This is not the passphrase with which the backup was made. Nothing was changed.")
            ) from error

    def _key(self, passphrase: str) -> bytes:
        scrypt = Scrypt(salt=base64.b64decode(self.salt), length=32, n=self.n, r=self.r, p=self.p)
        return scrypt.derive(passphrase.encode())


class Table(BaseModel):
    """One table's rows in the file.

    :ivar counters: for each column that counts by itself, where its sequence stands and whether that was given out.
    """

    name: str
    columns: list[str]
    rows: int
    size: int
    sha256: str
    counters: dict[str, tuple[int, bool]] = {}


class Manifest(BaseModel):
    """What the file holds, and what it takes to read it.

    :ivar size: bytes of tables and indexes in the database it comes from.
    :ivar migrations: the names of those that were applied, by app.
    """

    format: int = FORMAT
    portico: str
    made_at: datetime
    postgresql: str
    size: int
    migrations: dict[str, list[str]]
    tables: list[Table]
    keys: SealedKeys | None = None


# -- writing ----------------------------------------------------------------------------------------------


class Writer:
    """The file while it is being written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=3)

    @contextlib.contextmanager
    def table(self, table: Table) -> Iterator[_Counted]:
        """Take a table's rows; its size and checksum are known afterwards."""
        with self._zip.open(_member(table.name), "w", force_zip64=True) as stream:
            counted = _Counted(stream)
            yield counted
        table.size, table.sha256 = counted.size, counted.digest.hexdigest()

    def close(self, manifest: Manifest) -> None:
        self._zip.writestr(_MANIFEST, manifest.model_dump_json(indent=1))
        self._zip.close()

    def give_up(self) -> None:
        """Write no more: else an end would be written when the file is closed already."""
        self._zip.fp = None


class _Counted:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._stream.write(data)
        self.digest.update(data)
        self.size += len(data)


@contextlib.contextmanager
def writing(path: Path, *, force: bool) -> Iterator[Writer]:
    """Write a backup beside its place, for its owner's eyes alone, and put it there once it is whole.

    :raises BackupError: if the place is taken, unless forced, or another backup is being written to it.
    """
    _refuse_existing(path, force)
    part = path.with_name(f".{path.name}.part")
    try:
        number = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError as error:
        raise BackupError(
            _("There is no folder %(folder)s to write the backup to.") % {"folder": path.parent}
        ) from error
    with os.fdopen(number, "r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(
                _("Another backup is being written to %(path)s. Wait for it, or choose another name.")
                % {"path": path}
            ) from error
        writer = Writer(stream)
        try:
            os.fchmod(number, 0o600)
            stream.truncate()  # what a killed one left
            yield writer
            stream.flush()
            os.fsync(number)
            _refuse_existing(path, force)
            part.replace(path)
        except BaseException:
            writer.give_up()
            part.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def _refuse_existing(path: Path, force: bool) -> None:
    if path.is_dir():
        raise BackupError(_("%(path)s is a folder. Name a file in it.") % {"path": path})
    if path.exists() and not path.is_file():
        raise BackupError(_("%(path)s is a device or the like. Name a file.") % {"path": path})
    if path.exists() and not force:
        raise BackupError(
            _("There is a file %(path)s already. Choose another name, or replace it with --force.")
            % {"path": path}
        )


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# -- reading ----------------------------------------------------------------------------------------------


class Archive:
    """A backup that is read.

    :ivar manifest: what it holds.
    """

    def __init__(self, path: Path) -> None:
        """
        :raises BackupError: if the file is none that this version can read.
        """
        self.path = path
        try:
            self._stream = path.open("rb")
        except FileNotFoundError as error:
            raise BackupError(_("There is no file %(path)s.") % {"path": path}) from error
        with contextlib.ExitStack() as unless_read:
            unless_read.callback(self._stream.close)
            try:
                self._zip = zipfile.ZipFile(self._stream)
                self.manifest = _read_manifest(self._zip.read(_MANIFEST))
            except _DAMAGED as error:
                raise BackupError(
                    _("%(path)s is no backup of Portico, or was cut off before its end. Nothing was changed.")
                    % {"path": path}
                ) from error
            unless_read.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.close()

    def verify(self) -> None:
        """Read all of it once.

        :raises BackupError: if something is not as it was written.
        """
        for table in self.manifest.tables:
            digest, size = hashlib.sha256(), 0
            try:
                for block in self.blocks(table):
                    digest.update(block)
                    size += len(block)
                is_whole = (digest.hexdigest(), size) == (table.sha256, table.size)
            except _DAMAGED:
                is_whole = False
            if not is_whole:
                raise BackupError(
                    _("%(path)s is damaged: the rows of %(table)s are not those that were written. "
                      "Nothing was changed. Take another copy of the file, or an earlier backup.")
                    % {"path": self.path, "table": table.name}
                )  # fmt: skip

    def blocks(self, table: Table) -> Iterator[bytes]:
        with self._zip.open(_member(table.name)) as stream:
            while block := stream.read(_BLOCK):
                yield block


def _read_manifest(text: bytes) -> Manifest:
    found = json.loads(text)
    if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
        raise BackupError(
            _("This backup was made by a newer Portico (%(version)s), in a form that this one cannot read. "
              "Install that version or a newer one, and restore with it. Nothing was changed.")
            % {"version": found.get("portico", "?")}
        )  # fmt: skip
    return Manifest.model_validate(found)


def _member(table: str) -> str:
    return f"tables/{table}.copy"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
