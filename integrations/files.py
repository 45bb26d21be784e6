"""The one way to local files: only below the allowed folders, only plain files, only so much."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.utils.translation import gettext as _

from base.limits import readable_size
from integrations.errors import BadPayload, Misconfigured, NotThere, SourceError, SourceUnavailable

MAX_BYTES = 20 * 1024 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 500_000
_CHUNK = 1024 * 1024
_KNOWS_OPEN_FILES = os.path.exists("/proc/self/fd")


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found below a folder.

    :ivar unreadable: the folders that could not be listed, and why; what stands in them is not known.
    """

    paths: list[Path] = field(default_factory=list)
    unreadable: dict[Path, SourceError] = field(default_factory=dict)


class FileReader:
    """Reads local files below the allowed folders; of the portal's own folder, the sample company alone.

    A symbolic link counts as what it leads to, so a link out of the folders is refused like any path out
    of them. Devices, sockets and pipes are refused.

    :param roots: the folders; the settings' by default.
    """

    def __init__(self, roots: Iterable[Path | str] | None = None) -> None:
        given = settings.PORTICO_FILES_ALLOW if roots is None else roots
        self._roots = [os.path.realpath(Path(root).expanduser()) for root in given]
        # The keys and the database lie in the portal's own folder, which by default lies in the checkout.
        self._home = os.path.realpath(settings.PORTICO_HOME)
        self._sample = os.path.join(self._home, "sample")

    def confine(self, path: Path | str) -> Path:
        """The true place of a path.

        :raises Misconfigured: if it is relative or lies outside the allowed folders.
        :raises NotThere: if there is nothing.
        """
        return Path(self._true_place(str(path)))

    def _true_place(self, path: str) -> str:
        shown = {"path": path}
        if "\0" in path or not os.path.isabs(path):
            raise Misconfigured(_("%(path)s is not the full path of a file or folder.") % shown)
        try:
            true = os.path.realpath(path, strict=True)
        except OSError as error:
            # Outside the folders, not even what exists is told.
            if not self._is_inside(os.path.realpath(path)):
                raise self._outside(path) from error
            if isinstance(error, FileNotFoundError):
                raise NotThere(_("There is no %(path)s.") % shown) from error
            raise self._unreadable(path, error) from error
        if not self._is_inside(true):
            raise self._outside(path)
        return true

    def is_private(self, true: str) -> bool:
        """Whether a true path is of the portal's own folder, of which no setting opens more than the sample."""
        return _is_below(true, self._home) and not _is_below(true, self._sample)

    def _is_inside(self, true: str) -> bool:
        return not self.is_private(true) and any(_is_below(true, root) for root in self._roots)

    def _outside(self, path: Path | str) -> Misconfigured:
        if self.is_private(os.path.realpath(path)):
            return Misconfigured(
                _("%(path)s lies in the portal's own folder, which holds its keys and its database. Nothing of it "
                  "is ever read.") % {"path": path}
            )  # fmt: skip
        allowed = [root for root in self._roots if not _is_below(root, self._home)]
        return Misconfigured(
            _("%(path)s lies outside the folders that may be read: %(roots)s. Move it below one of them, or name it, "
              "or a folder above it, in the variable PORTICO_FILES_ALLOW too, and start Portico again.")
            % {"path": path, "roots": ", ".join(allowed) or _("none")}
        )  # fmt: skip

    @staticmethod
    def _unreadable(path: Path | str, error: Exception) -> SourceError:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        failure = Misconfigured if isinstance(error, PermissionError) else SourceUnavailable
        return failure(_("%(path)s cannot be read: %(why)s.") % {"path": path, "why": why})

    def _open(self, path: Path | str) -> int:
        """A descriptor of a plain file that lies inside, also at the moment when it was opened."""
        true = self._true_place(str(path))
        try:
            handle = os.open(true, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Misconfigured(_("%(path)s is not a plain file.") % {"path": path})
            # A folder on the way may have become a link since it was looked at.
            if _KNOWS_OPEN_FILES and not self._is_inside(os.readlink(f"/proc/self/fd/{handle}")):
                raise self._outside(path)
        except BaseException:
            os.close(handle)
            raise
        return handle

    async def read(self, path: Path | str, *, limit: int = MAX_BYTES) -> bytes:
        """The whole content of a file.

        :raises BadPayload: if it has more than `limit` bytes. Else as `confine`.
        """
        return await asyncio.to_thread(self._read, path, limit)

    def _read(self, path: Path | str, limit: int) -> bytes:
        with os.fdopen(self._open(path), "rb") as file:
            try:
                content = file.read(limit + 1)
            except OSError as error:
                raise self._unreadable(path, error) from error
        if len(content) > limit:
            raise BadPayload(
                _("%(path)s has more than %(limit)s.") % {"path": path, "limit": readable_size(limit)}
            )
        return content

    async def read_many(
        self, paths: Iterable[Path | str], *, limit: int = MAX_BYTES, total: int
    ) -> dict[str, bytes]:
        """The contents of files, as many as fit into `total` bytes, in one go.

        What cannot be read is left out: `read` says why.
        """
        return await asyncio.to_thread(self._read_many, [str(path) for path in paths], limit, total)

    def _read_many(self, paths: list[str], limit: int, total: int) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}
        for path in paths:
            with suppress(SourceError):
                contents[path] = self._read(path, limit)
                total -= len(contents[path])
            if total <= 0:
                break
        return contents

    async def lines(self, path: Path | str, *, limit: int = MAX_LINE_BYTES) -> AsyncGenerator[bytes]:
        """The lines of a file of any length, blank ones too, without their ends.

        :raises BadPayload: if a line has more than `limit` bytes. Else as `confine`.
        """
        cutter = LineCutter(str(path), limit=limit)
        with os.fdopen(await asyncio.to_thread(self._open, path), "rb") as file:
            while chunk := await asyncio.to_thread(self._chunk, file, path):
                for line in cutter.feed(chunk):
                    yield line
        for line in cutter.end():
            yield line

    def _chunk(self, file: BinaryIO, path: Path | str) -> bytes:
        try:
            return file.read(_CHUNK)
        except OSError as error:
            raise self._unreadable(path, error) from error

    async def walk(self, folder: Path | str, patterns: Iterable[str] = ("**",)) -> AsyncIterator[Path]:
        """The plain files below a folder whose path inside it matches a pattern, in the order of their paths.

        Folders that are links are not entered, so a loop ends; `.git` and the portal's own folder are left out.

        :param patterns: globs with `*`, `**`, `?`, `[...]` and `{a,b}`.
        :raises Misconfigured: if it is no folder or has too many entries. Else as `confine`, also of a folder below.
        """
        found = await self.find(folder, patterns)
        # A folder that cannot be listed would look like one that has become empty.
        for error in found.unreadable.values():
            raise error
        for path in found.paths:
            yield path

    async def find(self, folder: Path | str, patterns: Iterable[str] = ("**",)) -> Listing:
        """What `walk` gives, in spite of folders that cannot be listed, which are told of.

        :raises Misconfigured: as `walk`.
        """
        return await asyncio.to_thread(self.listing, folder, tuple(patterns))

    def listing(self, folder: Path | str, patterns: tuple[str, ...]) -> Listing:
        """What `find` gives, without an event loop."""
        top = self._true_place(str(folder))
        if not os.path.isdir(top):
            raise Misconfigured(_("%(path)s is not a folder.") % {"path": folder})
        found: list[list[str]] = []
        unreadable: dict[Path, SourceError] = {}
        entries = 0
        waiting: list[list[str]] = [[]]
        while waiting:
            place = waiting.pop()
            try:
                listed = self.entries(os.path.join(top, *place))
            except SourceError as error:
                if not place:
                    raise
                unreadable[Path(top, *place)] = error
                continue
            for entry in listed:
                entries += 1
                if entries > MAX_ENTRIES:
                    raise Misconfigured(
                        _("%(path)s holds more than %(count)d files and folders; name a smaller one.")
                        % {"path": folder, "count": MAX_ENTRIES}
                    )
                parts = [*place, entry.name]
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != ".git" and entry.path != self._home and _may_hold(parts, patterns):
                        waiting.append(parts)
                elif matches("/".join(parts), patterns) and self._is_plain(entry):
                    found.append(parts)
        return Listing([Path(top, *parts) for parts in sorted(found)], unreadable)

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What is in a folder whose place is known to be allowed.

        :raises SourceError: if it cannot be listed.
        """
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError as error:
            raise self._unreadable(folder, error) from error

    def _is_plain(self, entry: os.DirEntry[str]) -> bool:
        try:
            if entry.is_symlink():
                return entry.is_file() and self._is_inside(os.path.realpath(entry.path, strict=True))
            return entry.is_file()
        except OSError:
            return False


class LineCutter:
    """Cuts chunks of bytes into lines without their ends.

    :param place: the file or address, for messages.
    """

    def __init__(self, place: str, *, limit: int = MAX_LINE_BYTES) -> None:
        self._place = place
        self._limit = limit
        self._number = 1
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that are whole now.

        :raises BadPayload: if a line is longer than the limit.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._check(line)
            yield line.removesuffix(b"\r")
            self._number += 1
        self._check(self._rest)

    def end(self) -> Iterator[bytes]:
        """The last line, if it had no end."""
        if self._rest:
            yield self._rest.removesuffix(b"\r")

    def _check(self, line: bytes) -> None:
        if len(line) > self._limit:
            raise BadPayload(
                _("Line %(number)d of %(place)s is longer than %(limit)s.")
                % {"number": self._number, "place": self._place, "limit": readable_size(self._limit)}
            )


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a relative path with `/` matches one of the globs.

    `*` and `?` stay within a name, `**` crosses folders, `[...]` is one of these characters, `{a,b}` either.
    """
    parts = path.split("/")
    return any(_fits(parts, glob) for pattern in patterns for glob in _compile(pattern))


def has_glob(text: str) -> bool:
    """Whether a text means more than itself as a glob."""
    return any(character in text for character in "*?[{")


_Segment = str | re.Pattern[str] | None  # a name, a name with wildcards, or None for any folders
_MAX_ALTERNATIVES = 256


@lru_cache(maxsize=500)
def _compile(pattern: str) -> list[list[_Segment]]:
    return [
        [_segment(part) for part in plain.removeprefix("./").split("/")] for plain in _alternatives(pattern)
    ]


def _segment(part: str) -> _Segment:
    if part == "**":
        return None
    # fnmatch's expressions do not backtrack across stars, so no pattern can be made to take long.
    return re.compile(fnmatch.translate(part)) if has_glob(part) else part


def _alternatives(pattern: str) -> list[str]:
    """`a/{b,c}` as `a/b` and `a/c`."""
    done: list[str] = []
    open_ = [pattern]
    while open_ and len(done) + len(open_) <= _MAX_ALTERNATIVES:
        text = open_.pop()
        if found := re.search(r"\{([^{}]*)\}", text):
            open_ += [text[: found.start()] + choice + text[found.end() :] for choice in found[1].split(",")]
        else:
            done.append(text)
    return done


def _may_hold(folder: list[str], patterns: Iterable[str]) -> bool:
    """Whether something below a folder may match one of the globs."""
    return any(
        min(_passed(folder, glob), default=len(glob)) < len(glob)
        for pattern in patterns
        for glob in _compile(pattern)
    )


def _fits(parts: list[str], glob: list[_Segment]) -> bool:
    return len(glob) in _passed(parts, glob)


def _passed(parts: list[str], glob: list[_Segment]) -> set[int]:
    """The positions in a glob that may be reached by some parts of a path; none if they do not fit."""
    at = _reach(glob, {0})
    for part in parts:
        passed = set()
        for index in at:
            segment = glob[index] if index < len(glob) else ""
            if segment is None:
                passed.add(index)
            elif segment == part or (isinstance(segment, re.Pattern) and segment.match(part)):
                passed.add(index + 1)
        if not passed:
            return passed
        at = _reach(glob, passed)
    return at


def _reach(glob: list[_Segment], at: set[int]) -> set[int]:
    """With each position before `**` also the one behind it, for it may stand for no folder."""
    reached = set(at)
    for index in at:
        while index < len(glob) and glob[index] is None:
            index += 1
            reached.add(index)
    return reached
