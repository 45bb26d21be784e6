"""From the catalog files of a repository to records: what can be read, and what cannot and why."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.utils.translation import gettext as _

from base.limits import MAX_FILE_BYTES
from catalog import identity
from catalog.documents.patches import kept_text
from catalog.documents.reader import Content, Location, Missing, resolve_target
from catalog.documents.sources import SourceDocument, Unreadable, read_documents
from integrations.contract import HttpClient, Refused, record_or_refusal
from integrations.records import Document

MAX_PATH = 500
# Folders that hold a project's catalog files without being a part of it.
_ASIDE = {".backstage"}


def repository_id(*addresses: str) -> str:
    """What a repository is known by, however its address is spelt, such as `git.acme.example/acme/pay`.

    A local one is known by its path: `file/srv/pay`.

    :param addresses: the first that names a repository counts; if none does, the last as it is.
    """
    found = next((key for address in addresses if (key := identity.repo_key(address))), None)
    return found.removeprefix("repo:") if found else addresses[-1].strip()


class FileStore(Protocol):
    """Where a repository's files are read: a clone, or its host's API."""

    async def read_many(self, ref: str, paths: Iterable[str], limit: int = ...) -> dict[str, bytes]:
        """The plain files among these paths that have at most `limit` bytes."""


@dataclass
class RepositoryReader:
    """Reads what catalog documents point to: files of the same commit, and web addresses.

    :ivar http: for web addresses.
    """

    clone: FileStore
    commit: str
    http: HttpClient
    _known: dict[str, bytes] = field(default_factory=dict)

    async def fetch(self, paths: Sequence[str]) -> None:
        """Read several files of the commit in one go."""
        if paths:
            self._known |= await self.clone.read_many(self.commit, paths, limit=MAX_FILE_BYTES)

    async def read(self, location: Location) -> Content:
        """A file of the commit, or what is at a web address.

        :raises Missing: if there is nothing, or it is a link or too large.
        """
        if location.type == "url":
            return Content((await self.http.get(location.target)).body, location)
        path = location.target.lstrip("/")
        if path not in self._known:
            await self.fetch([path])
        if path not in self._known:
            raise Missing(
                _("There is no plain file %(path)s of a usual size in the repository.") % {"path": path}
            )
        return Content(self._known[path], location)

    async def glob(self, pattern: Location) -> Sequence[Location]:
        """The file of this very name: here files are named one by one, and a name may hold any character."""
        return [pattern]

    def resolve(self, base: Location, target: str) -> Location:
        """A target as seen from a file; `/` is the top of the repository."""
        return resolve_target(base, target)


async def records_of_repository(
    *,
    clone: FileStore,
    commit: str,
    paths: Iterable[str],
    repository: str,
    http: HttpClient,
    page: Callable[[str], str | None] = lambda path: None,
) -> AsyncIterator[Document | Refused]:
    """The documents of a repository's catalog files, as they stand in a commit.

    The part of an external id before `#` names the file. Location documents are declared, not followed.

    :param repository: as `repository_id` gives it.
    :param page: the web page of a file, if there is one.
    """
    reader = RepositoryReader(clone, commit, http)
    plain = []
    for path in paths:
        if len(path) > MAX_PATH:
            reason = _("The path has more than %(limit)d characters.") % {"limit": MAX_PATH}
            yield Refused(
                external_id=f"{repository}:{path[:MAX_PATH]}#0", reason=reason, place=path[:MAX_PATH]
            )
        else:
            plain.append(path)
    await reader.fetch(plain)
    files: dict[str, list[SourceDocument]] = {}
    async for found in read_documents([Location("file", f"/{path}") for path in plain], reader, follow=False):
        path = found.location.target.lstrip("/")
        if isinstance(found, Unreadable):
            yield Refused(external_id=f"{repository}:{path}#0", reason=found.error.message, place=path)
        else:
            files.setdefault(path, []).append(found)
    declared = {
        (_declared(one.data), _home(one.data, path, repository))
        for path, documents in files.items()
        for one in documents
    }
    homes = Counter(home for _name, home in declared)
    for path, documents in files.items():
        folder = folder_of(path)
        seen: Counter[str] = Counter()
        for one in documents:
            # With one component in a folder, that is what the folder was found as before.
            home = _home(one.data, path, repository)
            yield _record(
                one,
                path=path,
                file_id=f"{repository}:{path}",
                seen=seen,
                commit=commit,
                url=page(path),
                keys=[f"component:{home}"] if home and homes[home] == 1 else [],
                about=[f"repo:{repository}#{folder}" if folder else f"repo:{repository}"],
            )


def folder_of(path: str) -> str:
    """The folder of a repository that a catalog file speaks for; empty for the top."""
    folder = posixpath.dirname(path)
    return posixpath.dirname(folder) if posixpath.basename(folder) in _ASIDE else folder


def _record(
    one: SourceDocument, *, path: str, file_id: str, seen: Counter[str], **fields: Any
) -> Document | Refused:
    number, line = one.parsed.number, one.parsed.line
    name = _declared(one.data)
    # Whether the first of a name is as its kind wants it, the catalog says; the next may be the one that counts.
    again = f"~{seen[name] + 1}" if name and seen[name] else ""
    external_id = f"{file_id}#{name or number}{again}"
    reason, column = "", 0
    if error := one.error:
        reason = getattr(error, "reason", error.message)
        line, column = one.place_of(error.errors[0].path) if error.errors else (line, 0)
        line, column = error.extra.get("line") or line, error.extra.get("column") or column
    elif not isinstance(one.data, dict):
        reason = _("A document must be an object with keys.")
    if reason:
        return _refused(file_id, path, number, line, reason, column=column, name=name)
    record = record_or_refusal(
        Document,
        external_id,
        document=one.data,
        file=path,
        document_number=number,
        line=line,
        text=kept_text(one.parsed.text),
        **fields,
    )
    if isinstance(record, Refused):
        return _refused(file_id, path, number, line, record.reason, name=name)
    seen[name] += 1
    return record


def _refused(
    file_id: str, path: str, number: int, line: int, reason: str, *, column: int = 0, name: str = ""
) -> Refused:
    place = _("%(file)s, document %(number)d, line %(line)d") % {"file": path, "number": number, "line": line}
    place += _(", column %(column)d") % {"column": column} if column else ""
    return Refused(
        external_id=f"{file_id}#{number}", reason=reason, place=f"{place} ({name})" if name else place
    )


def _declared(data: Any) -> str:
    """`kind:namespace/name` in lower case; empty if the document does not say."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if not isinstance(metadata, dict):
        return ""
    parts = (data.get("kind"), metadata.get("namespace") or "default", metadata.get("name"))
    if not all(isinstance(part, str) and 0 < len(part) <= MAX_PATH // 5 for part in parts):
        return ""
    return "{}:{}/{}".format(*parts).lower()


def _home(data: Any, path: str, repository: str) -> str | None:
    """Where in the repository a component lies, by its own word or by its file; None for anything else."""
    if not _declared(data).startswith("component:"):
        return None
    own = identity.keys_of_document(data)
    if not own:
        folder = folder_of(path)
        return f"{repository}#{folder}" if folder else repository
    is_here = len(own) == 1 and identity.split_folder(own[0])[0] == f"repo:{repository}"
    return own[0].removeprefix("repo:") if is_here else None
