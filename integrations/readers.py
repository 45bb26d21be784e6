"""Where catalog documents are read from: local files and folders, Git repositories, web addresses.

These are the forms of a location; where the path of a file stands, a pattern may stand (`*`, `**`, `{a,b}`):

- `file:/srv/catalog/pay.yaml`: a local file below the allowed folders;
- `url:https://tool.example/pay.yaml`: a file on the web;
- `url:https://git.example/acme/pay/blob/main/x.yaml`: a file as a Git host's pages show it;
- `url:git+https://git.example/pay.git//x.yaml#main`: a file of any Git repository, `#branch` if need be;
- `file:git+file:///srv/pay.git//x.yaml`: a file of a local Git repository, as committed.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from django.utils.translation import gettext as _

from base.limits import MAX_FILE_BYTES, check_size
from catalog.documents.reader import Content, Location, Missing, resolve_target
from integrations.docs import ALL_BYTES, DOCS_PATTERNS, PAGE_BYTES, FoundDocs, pages_of
from integrations.documents import folder_of
from integrations.errors import BadPayload, Misconfigured, NotThere, SourceError, SourceUnavailable
from integrations.files import FileReader, has_glob, matches
from integrations.git import Clone, GitClient, TreeFile
from integrations.http import Answer, HttpClient
from integrations.outbound import mask_url

ALL_YAML = "**/*.{yaml,yml}"
_FILE = re.compile(r"\.(ya?ml|json)$", re.IGNORECASE)
_SAFE = "/*?{}[],!@+~:=&;()$'"
_PREFETCH_BYTES = 64 * 1024 * 1024
_FOLDERS = 200  # of this machine, beside whose catalog files docs are looked for

# A Git host's page of a file or folder: GitHub's and GitLab's ways, Gitea's and Forgejo's, Bitbucket's.
_PAGES = (
    re.compile(
        r"(?P<host>https?://[^/?#]+)(?P<repository>(?:/[^/?#]+){2,}?)"
        r"(?P<view>/(?:-/)?(?:blob|tree)/|/src/(?:branch|tag|commit)/)(?P<rest>[^?#]+)"
    ),
    re.compile(
        r"(?P<host>https://bitbucket\.org)(?P<repository>(?:/[^/?#]+){2})(?P<view>/src/)(?P<rest>[^?#]+)"
    ),
)


@dataclass(frozen=True)
class GitPlace:
    """A file or pattern in a Git repository.

    :ivar repository: the address to clone from.
    :ivar ref: branch, tag or commit; empty for the default branch.
    :ivar path: inside the repository. Of a host's page it begins with the ref, until they are told apart.
    :ivar page: the address of the host's pages of files, up to the ref; empty for the `git+` form.
    """

    repository: str
    ref: str
    path: str
    page: str = ""

    @classmethod
    def parse(cls, target: str) -> GitPlace | None:
        """The place that a location's target names; None if it names none in a repository."""
        if target.startswith("git+"):
            address, _hash, ref = target.removeprefix("git+").partition("#")
            scheme, _slashes, rest = address.partition("://")
            repository, _slashes, path = rest.lstrip("/").partition("//")
            root = "/" if scheme == "file" else ""
            return cls(f"{scheme}://{root}{repository}", unquote(ref), unquote(path))
        found = next((match for page in _PAGES if (match := page.match(target))), None)
        if not found:
            return None
        page = found["host"] + found["repository"] + found["view"].replace("tree", "blob")
        return cls(f"{found['host']}{found['repository']}.git", "", unquote(found["rest"]), page)

    def settle(self, names: Sequence[str]) -> GitPlace:
        """Tell the ref from the path, by the names of branches and tags: both may hold `/`."""
        if not self.page or self.ref:
            return self
        fitting = [name for name in names if f"{self.path}/".startswith(f"{name}/")]
        ref = max(fitting, key=len, default=self.path.partition("/")[0])
        return replace(self, ref=ref, path=self.path[len(ref) + 1 :])

    def at(self, path: str) -> GitPlace:
        """Another path in the same repository."""
        return replace(self, path=path)

    @property
    def target(self) -> str:
        """The target of the place's location."""
        path = quote(self.path, safe=_SAFE)
        if self.page:
            return self.page + (f"{quote(self.ref)}/{path}" if self.ref else path)
        return f"git+{self.repository}//{path}" + (f"#{quote(self.ref)}" if self.ref else "")

    @property
    def raw_url(self) -> str:
        """Where the host of a page serves the file itself."""
        split = urlsplit(self.target)
        if split.netloc == "github.com":
            return f"https://raw.githubusercontent.com{split.path.replace('/blob/', '/', 1)}"
        return self.page.replace("/blob/", "/raw/").replace("/src/", "/raw/") + self.target[len(self.page) :]


class CatalogReader:
    """Reads catalog documents, under the same guard as all that goes out. Use and close it in one event loop.

    A repository is fetched once in the life of a reader; make a new one for each pass.
    """

    def __init__(
        self,
        *,
        http: HttpClient | None = None,
        git: GitClient | None = None,
        files: FileReader | None = None,
    ) -> None:
        self._files = files or FileReader()
        self._http = http or HttpClient()
        self._git = git or GitClient(files=self._files)
        self._clones: dict[str, asyncio.Task[Clone]] = {}
        self._names: dict[str, list[str]] = {}
        self._prefetched: dict[str, bytes] = {}
        self._unlisted: dict[str, SourceError] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def locate(self, text: str) -> Location:
        """The location that a person means by a path or an address.

        A folder and a repository mean all their `*.yaml` and `*.yml` files.

        :raises NotThere: if there is no such file or folder.
        :raises Misconfigured: if it may never be read, or is neither path nor address.
        """
        location = await self._meant(text.strip())
        place = GitPlace.parse(location.target)
        with suppress(SourceUnavailable):  # a host without an address may have one later
            if place and not place.page:
                await self._git.judge(place.repository)
            elif location.type == "url":
                await self._http.judge(location.target)
        return location

    async def _meant(self, text: str) -> Location:
        if not text:
            raise Misconfigured(_("The address is empty. Name a file, a folder, a Git repository or a URL."))
        for type_ in ("file", "url"):
            if text.startswith(f"{type_}:") and not text.startswith("file://"):
                text = text.removeprefix(f"{type_}:")
        # git@host:path, the short form of ssh://git@host/path
        if short := re.fullmatch(r"([\w.-]+@[\w.-]+):(?!/)(.+)", text):
            text = f"git+ssh://{short[1]}/{short[2]}"
        if text.startswith(("git+", "ssh://")):
            return self._in_repository(text if text.startswith("git+") else f"git+{text}")
        if re.match(r"https?://", text):
            return await self._on_the_web(text)
        path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))  # noqa: ASYNC240 - no disk is asked
        try:
            true = self._files.confine(path)
        except NotThere:
            if has_glob(path):
                return Location("file", path)
            raise
        if not true.is_dir():
            return Location("file", path)
        if (true / "HEAD").is_file() and (true / "objects").is_dir():
            return Location("file", f"git+file://{path}//{ALL_YAML}")
        return Location("file", f"{path.rstrip('/')}/{ALL_YAML}")

    @staticmethod
    def _in_repository(target: str) -> Location:
        place = GitPlace.parse(target)
        assert place is not None
        if not has_glob(place.path) and not _FILE.search(place.path):
            place = place.at(posixpath.join(place.path, ALL_YAML))
        return Location("file" if place.repository.startswith("file:") else "url", place.target)

    async def _on_the_web(self, url: str) -> Location:
        try:
            split = urlsplit(url)
        except ValueError as error:
            raise Misconfigured(
                _("%(url)s is not a web address: %(why)s.") % {"url": mask_url(url), "why": error}
            ) from error
        place = GitPlace.parse(url)
        if place:
            if not has_glob(place.path) and not _FILE.search(place.path):
                place = place.at(posixpath.join(place.path, ALL_YAML))
            return Location("url", place.target)
        if split.path.endswith(".git"):
            return self._in_repository(f"git+{url}")
        if _FILE.search(split.path) or "*" in split.path or split.query:
            return Location("url", url)
        # Nothing in the address says what it is: a file, or the front page of a repository?
        try:
            await self._fetch(url)
        except (NotThere, BadPayload) as error:
            try:
                await self._git.remote_refs(f"{url.rstrip('/')}.git")
            except SourceError:
                raise error from None
            return self._in_repository(f"git+{url.rstrip('/')}.git")
        return Location("url", url)

    async def read(self, location: Location) -> Content:
        """The content of a file.

        :raises Missing: if there is none.
        :raises LimitExceeded: if it is too large.
        :raises SourceError: if it cannot be read, or the guard refuses it.
        """
        try:
            data = await self._read(location)
        except NotThere as error:
            raise Missing(error.message) from error
        if len(data) > MAX_FILE_BYTES:  # a limit that the web's and a repository's files have as well
            check_size(len(data), MAX_FILE_BYTES, what=mask_url(location.target))
        return Content(data, location)

    async def _read(self, location: Location) -> bytes:
        target = location.target
        self._check_type(location)
        if (error := self._unlisted.get(target)) is not None:
            raise error
        if (kept := self._prefetched.pop(target, None)) is not None:
            return kept
        place = GitPlace.parse(target)
        if place and (not place.page or place.repository in self._clones):
            return await self._read_committed(place)
        if location.type == "file":
            return await self._files.read(target, limit=MAX_FILE_BYTES)
        if place:
            with suppress(NotThere):  # the address may only look like a page
                return (await self._fetch(place.raw_url)).body
        return (await self._fetch(target)).body

    async def _fetch(self, url: str) -> Answer:
        answer = await self._http.get(url, headers={"Accept": "application/yaml, text/plain, */*;q=0.5"})
        if "text/html" in answer.headers.get("content-type", ""):
            raise BadPayload(
                _("%(url)s answered a web page where a YAML file was expected. May it be read without "
                  "signing in?") % {"url": mask_url(url)}
            )  # fmt: skip
        return answer

    @staticmethod
    def _check_type(location: Location) -> None:
        """Keep what comes from elsewhere from reaching into this machine."""
        try:
            scheme = urlsplit(location.target).scheme.removeprefix("git+")
        except ValueError:
            scheme = "?"
        expected = {"file": {"", "file"}, "url": {"http", "https", "ssh"}}.get(location.type)
        if expected is None or scheme not in expected:
            raise Misconfigured(
                _("“%(location)s” cannot be read. Expected file: and a full path, or url: and an address "
                  "that begins with https://, http://, git+https:// or git+ssh://.")
                % {"location": mask_url(location.text)}
            )  # fmt: skip

    async def _clone(self, place: GitPlace) -> tuple[Clone, GitPlace]:
        if place.repository not in self._clones:
            self._clones[place.repository] = asyncio.ensure_future(self._mirror(place.repository))
        clone = await self._clones[place.repository]
        if place.repository not in self._names:
            refs = await clone.refs()
            self._names[place.repository] = [re.sub("^refs/(heads|tags)/", "", name) for name in refs]
        place = place.settle(self._names[place.repository])
        return clone, place if place.ref else replace(place, ref=await clone.default_branch())

    async def _mirror(self, repository: str) -> Clone:
        try:
            return await self._git.mirror(repository, depth=1)
        except NotThere as error:  # of a repository that is not there, no file is known to be gone
            raise Misconfigured(error.message) from error

    async def _read_committed(self, place: GitPlace) -> bytes:
        clone, settled = await self._clone(place)
        shown = {"path": settled.path, "ref": settled.ref, "repository": clone.place}
        file = next((file for file in await clone.files(settled.ref) if file.path == settled.path), None)
        if file is None:
            raise NotThere(_("There is no %(path)s in %(ref)s of %(repository)s.") % shown)
        if file.is_link:
            raise Misconfigured(
                _("%(path)s in %(repository)s is a symbolic link, which is not followed.") % shown
            )
        check_size(file.size, MAX_FILE_BYTES, what=mask_url(place.target))
        content = await clone.read(settled.ref, settled.path, MAX_FILE_BYTES)
        if content is None:
            raise NotThere(_("There is no %(path)s in %(ref)s of %(repository)s.") % shown)
        return content

    async def glob(self, pattern: Location) -> Sequence[Location]:
        """The files that a pattern stands for, in the order of their paths.

        After them come the folders below that cannot be listed: to read one raises why.

        :raises Missing: if there is none.
        :raises SourceError: if nothing can be listed.
        """
        self._check_type(pattern)
        place = GitPlace.parse(pattern.target)
        if place:
            return await self._glob_committed(pattern.type, place)
        if pattern.type == "url":
            raise Misconfigured(
                _("%(url)s is a pattern, but the web has no list of its files. Name each file, or the Git "
                  "repository.") % {"url": mask_url(pattern.target)}
            )  # fmt: skip
        targets, unlisted = await asyncio.to_thread(local_files, pattern.target, self._files)
        contents = await self._files.read_many(targets, limit=MAX_FILE_BYTES, total=_PREFETCH_BYTES)
        self._prefetched |= {targets[path]: content for path, content in contents.items()}
        self._unlisted |= unlisted
        return [Location("file", target) for target in [*targets.values(), *unlisted]]

    async def _glob_committed(self, type_: str, place: GitPlace) -> list[Location]:
        clone, settled = await self._clone(place)
        files = await clone.files(settled.ref)
        found = [file for file in files if not file.is_link and matches(file.path, [settled.path])]
        if not found:
            where = _("%(ref)s of %(repository)s") % {"ref": settled.ref, "repository": clone.place}
            raise _nothing_fits(settled.path, where)
        # A place without a ref stays one: it means the default branch, whatever that is next time.
        shown = settled if place.page else place
        targets = {file.path: shown.at(file.path).target for file in found}
        await self._prefetch(clone, settled.ref, found, targets)
        return [Location(type_, target) for target in targets.values()]

    async def _prefetch(self, clone: Clone, ref: str, files: list[TreeFile], targets: dict[str, str]) -> None:
        """Read what will be asked for next in one go, if it is not too much."""
        small = [file for file in files if file.size <= MAX_FILE_BYTES]
        if sum(file.size for file in small) <= _PREFETCH_BYTES:
            contents = await clone.read_many(ref, [file.path for file in small], MAX_FILE_BYTES)
            self._prefetched |= {targets[path]: content for path, content in contents.items()}

    async def docs_beside(self, targets: Collection[str]) -> list[FoundDocs]:
        """The Markdown beside catalog files: of the repositories that were fetched, and of folders of this machine.

        Whose folder cannot be read has none.
        """
        fetched: dict[str, tuple[Clone, GitPlace, set[str]]] = {}
        local = {posixpath.dirname(target) for target in targets if target.startswith("/")}
        folders = {folder_of(f"{folder}/_") for folder in local}
        for target in targets:
            place = None if target.startswith("/") else GitPlace.parse(target)
            if place is not None and place.repository in self._clones:
                clone, settled = await self._clone(place)
                # As the claims of its files have it: a place without a ref stays one.
                top = (settled if place.page else place).at("").target
                fetched.setdefault(top, (clone, settled, set()))[2].add(folder_of(settled.path))
        found = [await self._docs_of_clone(top, *of) for top, of in sorted(fetched.items())]
        for folder in sorted(folders)[:_FOLDERS]:
            with suppress(SourceError):
                found.append(FoundDocs(f"{folder}/", await self._docs_of_folder(folder)))
        return [docs for docs in found if docs.texts]

    async def _docs_of_clone(self, top: str, clone: Clone, place: GitPlace, folders: set[str]) -> FoundDocs:
        files = await clone.files(place.ref)
        sizes = {file.path: file.size for file in files if not file.is_link}
        texts = await pages_of(sizes, partial(clone.read_many, place.ref), beside=folders)
        web = f"{place.page}{quote(place.ref)}/" if place.page else ""
        return FoundDocs(top, texts, web, await clone.head(place.ref) or "")

    async def _docs_of_folder(self, folder: str) -> dict[str, str]:
        async def read(paths: set[str]) -> dict[str, bytes]:
            named = {posixpath.join(folder, path): path for path in sorted(paths)}
            read = await self._files.read_many(named, limit=PAGE_BYTES, total=ALL_BYTES)
            return {named[path]: content for path, content in read.items()}

        found = await self._files.find(folder, DOCS_PATTERNS)
        true = self._files.confine(folder)
        sizes = {path.relative_to(true).as_posix(): path.stat().st_size for path in found.paths}
        return await pages_of(sizes, read, beside=())

    def resolve(self, base: Location, target: str) -> Location:
        """What a file at `base` means by a target: an address, or a path from its folder.

        In a repository a path that begins with `/` starts at its root.
        """
        if re.match(r"(git\+)?(https?|ssh|file)://", target, re.IGNORECASE):
            is_local = base.type == "file" and target.startswith("git+file:")
            return Location("file" if is_local else "url", target)
        place = GitPlace.parse(base.target)
        if place is None:
            return resolve_target(base, quote(target, safe=f"{_SAFE}%#") if base.type == "url" else target)
        place = place.settle(self._names.get(place.repository, []))
        folder = "" if target.startswith("/") else posixpath.dirname(place.path)
        path = posixpath.normpath(posixpath.join(folder, target.lstrip("/")))
        return Location(base.type, place.at(path).target)


def _nothing_fits(pattern: str, where: str) -> Missing:
    """No file is what a pattern asks for.

    :param where: the folder, or the repository and branch, in which it was looked for.
    """
    folder = pattern.removesuffix(ALL_YAML)
    if folder == pattern:
        return Missing(
            _("No file in %(where)s fits %(pattern)s. Put one there, or mend the pattern.")
            % {"where": where, "pattern": pattern}
        )
    if folder:
        where = _("%(folder)s in %(where)s") % {"folder": folder.rstrip("/"), "where": where}
    return Missing(
        _("There is no *.yaml or *.yml file in %(where)s, nor in a folder below. Put a catalog file there, "
          "or name the folder that has some.") % {"where": where}
    )  # fmt: skip


def local_files(pattern: str, files: FileReader) -> tuple[dict[str, str], dict[str, SourceError]]:
    """The files of this machine that a target stands for, one alone or by a pattern.

    :returns: their targets, as the pattern writes them though its folder may be a link, by their true paths; and what
        cannot be listed, with why.
    :raises Missing: if there is none.
    :raises SourceError: if nothing can be listed.
    """
    folder, inside = _split_pattern(pattern)
    try:
        top = files.confine(folder)
        if not inside:
            return {str(top): pattern}, {}
        found = files.listing(folder, (inside,))
    except NotThere as error:
        raise Missing(error.message) from error
    targets = {str(path): str(folder / path.relative_to(top)) for path in found.paths}
    unlisted = {str(folder / path.relative_to(top)): error for path, error in found.unreadable.items()}
    if not targets and not unlisted:
        raise _nothing_fits(inside, str(folder))
    return targets, unlisted


def _split_pattern(pattern: str) -> tuple[Path, str]:
    """The folder that exists as it is written, for names may hold `[` or `{`, and the pattern below it."""
    path = Path(pattern)
    for folder in (path, *path.parents):
        if folder.exists() or not has_glob(str(folder)):
            return folder, path.relative_to(folder).as_posix() if folder != path else ""
    return path, ""
