"""Git: any remote, or a folder of repositories. It knows no forge's API, only Git and what the files say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import PurePath
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, field_validator

from integrations.contract import (
    SELDOM,
    AuthFailed,
    Category,
    Check,
    Clone,
    ConnectionConfig,
    Connector,
    Days,
    Expect,
    Mark,
    Misconfigured,
    Refused,
    SourceError,
    SourceUnavailable,
    is_chosen,
    matches,
    ngettext,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.docs import pages_of
from integrations.documents import folder_of, records_of_repository, repository_id
from integrations.records import Commit, Document, Repository, Version
from integrations.repository_files import (
    CATALOG_FILES,
    CatalogFiles,
    Exclude,
    Include,
    catalog_files_of,
    facts_of,
    summary_of,
)

T = TypeVar("T")

_AT_ONCE = 8
_TRIED = 25
_PRERELEASE = re.compile(r"\d[.-]?(a|b|c|rc|alpha|beta|pre|preview|dev|snapshot|m)[.-]?\d*$", re.IGNORECASE)
# Where the hosts that people use show a commit and a file; another host's pages are not guessed.
_PAGES = {
    "github.com": ("commit/{}", "blob/{}/{}"),
    "gitlab.com": ("-/commit/{}", "-/blob/{}/{}"),
    "codeberg.org": ("commit/{}", "src/commit/{}/{}"),
    "bitbucket.org": ("commits/{}", "src/{}/{}"),
}


class Config(ConnectionConfig):
    """Which repositories, and how to sign in to their host."""

    repositories: list[str] = Field(
        min_length=1,
        max_length=2_000,
        title="Repositories",
        description="Addresses (https://…, ssh://…, git@host:path), or full paths of folders on this server: "
        "a repository, or a folder of repositories, bare ones too.",
    )
    user: str = Field(
        "",
        max_length=200,
        title="User",
        description="For https. Some hosts want a fixed name beside a token, as oauth2; empty means git.",
    )
    token: SecretStr | None = Field(
        None,
        title="Token or password",
        description="For https; reading is enough. Empty for public repositories.",
    )
    token_hosts: list[str] = Field(
        [],
        max_length=20,
        title="Hosts of the token",
        description="Where the token may be sent, such as git.acme.example or git.acme.example:8443. "
        "Empty for the host of the first https address.",
        json_schema_extra=SELDOM,
    )
    include: Include = []
    exclude: Exclude = []
    catalog_files: CatalogFiles = CATALOG_FILES
    branches: list[str] = Field(
        default_factory=list,
        max_length=50,
        title="Branches",
        description="Patterns of branches whose commits are read too, such as release/*. "
        "Empty for the default branch alone.",
        json_schema_extra=SELDOM,
    )
    days: Days = 90
    max_commits: int = Field(
        500,
        ge=1,
        le=10_000,
        title="Commits at a time",
        description="The most that one sync reads of a branch.",
        json_schema_extra=SELDOM,
    )
    max_tags: int = Field(
        200,
        ge=0,
        le=5_000,
        title="Tags",
        description="The newest tags of a repository that are read.",
        json_schema_extra=SELDOM,
    )
    depth: int | None = Field(
        None,
        ge=1,
        title="Depth",
        description="Commits that the first fetch of a remote brings, for very large ones. Empty for all.",
        json_schema_extra=SELDOM,
    )

    @field_validator("token_hosts")
    @classmethod
    def _hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", host):
                raise ValueError(
                    _("%(host)s is no host; expected a name such as git.acme.example.") % {"host": host}
                )
        return [_host_of(f"https://{host}") for host in hosts]


@dataclass(frozen=True)
class _Opened:
    """A repository that can be read now.

    :ivar place: where it was read from: an address or a path.
    :ivar id: what it is known by, and its identity key's value.
    :ivar page: its web page, where its address is one.
    :ivar head: the newest commit of its default branch; empty in a repository without any.
    """

    place: str
    id: str
    path: str
    page: str | None
    clone: Clone
    branch: str
    head: str

    def commit_page(self, sha: str) -> str | None:
        """The web page of a commit."""
        known = _PAGES.get(urlsplit(self.page or "").netloc)
        return f"{self.page}/{known[0].format(sha)}" if known else None

    def file_page(self, path: str) -> str | None:
        """The web page of a file as it is at the head."""
        known = _PAGES.get(urlsplit(self.page or "").netloc)
        return f"{self.page}/{known[1].format(self.head, quote(path))}" if known else None


@dataclass(frozen=True)
class _Failed:
    """A repository that cannot be read, and why."""

    place: str
    id: str
    error: SourceError


class Git(Connector[Config]):
    """Reads repositories. Each is fetched once in the life of a connector, so all lists show one state."""

    slug, label, monogram, category = "git", "Git", "Gi", Category.GIT
    brings = "Repositories, catalog files, owners, tags and commits of any Git remote or folder"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._opening: dict[str, asyncio.Task[_Opened | _Failed | None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        token = self.config.token.get_secret_value() if self.config.token else ""
        self._credentials = (self.config.user or "git", token) if token else None
        hosts = (
            self.config.token_hosts
            or [host for place in self.config.repositories if (host := _host_of(place))][:1]
        )
        self._token_hosts = frozenset(hosts)
        self._unlisted: dict[str, SourceError] = {}

    async def checks(self) -> AsyncIterator[Check]:
        """List the folders, and ask the first remotes for their branches; nothing is fetched."""
        places = await self._places()
        tried = places[:_TRIED]

        async def ask(place: str) -> SourceError | None:
            if place not in self._unlisted:
                async with self._slots:
                    try:
                        await self.git.remote_refs(place, self._credentials_for(place))
                    except SourceError as error:
                        return error
            return self._unlisted.get(place)

        errors = dict(zip(tried, await asyncio.gather(*map(ask, tried)), strict=True))
        good = sum(error is None for error in errors.values())
        counts = {"good": good, "tried": len(tried), "all": len(places)}
        detail = _("%(all)d in all; the first %(tried)d were asked.") % counts if len(places) > _TRIED else ""
        yield Check(_("Reached %(good)d of %(tried)d repositories") % counts, good > 0, detail)
        for place, error in errors.items():
            if error:
                label = _("Can read %(place)s") % {"place": place}
                yield Check.failed(label, error.message, self._remedy(place, error))

    def failed(self, error: SourceError, *, is_first: bool) -> Check:
        """Whatever it is, there is nothing to ask for."""
        return Check.failed(_("The repositories can be listed"), error.message, self._remedy("", error))

    @resource(of=Repository)
    async def repositories(self) -> AsyncIterator[Repository | Refused | Expect]:
        """What there is: branch, head, README, owners, languages, build files."""
        if not self.config.include and not self.config.exclude:
            yield Expect(len(await self._places()))
        first: dict[str, str] = {}
        nameless = []
        async for found in self._each():
            if isinstance(found, _Failed):
                if found.place.startswith("/"):  # a clone that cannot be read does not tell of what it is one
                    nameless.append(found.place)
                yield Refused(found.id, found.error.message, found.place)
            elif found.id in first:
                reason = _("Another copy of %(id)s, which is read from %(place)s.")
                shown = {"id": found.id, "place": first[found.id]}
                yield Refused(found.place, reason % shown, found.place)
            else:
                first[found.id] = found.place
                try:
                    yield await self._describe(found)
                except SourceError as error:
                    yield Refused(found.id, error.message, found.place)
        if nameless:
            raise _incomplete(nameless)

    @resource(of=Document, label="Catalog files")
    async def documents(self) -> AsyncIterator[Document | Refused]:
        """What the catalog files at each head declare."""
        async for record in self._of_each(self._documents_of):
            yield record

    async def _documents_of(self, found: _Opened) -> AsyncIterator[Document | Refused]:
        clone = copy(found.clone)
        async for record in records_of_repository(
            clone=clone,
            commit=found.head,
            paths=catalog_files_of(await _sizes(clone, found.head), self.config.catalog_files),
            repository=found.id,
            http=self.http,
            page=found.file_page,
        ):
            yield record

    @resource(of=Version)
    async def tags(self) -> AsyncIterator[Version | Refused]:
        """The newest tags."""
        async for record in self._of_each(self._tags_of):
            yield record

    async def _tags_of(self, found: _Opened) -> AsyncIterator[Version | Refused]:
        for tag in (await found.clone.tags())[: self.config.max_tags]:
            yield record_or_refusal(
                Version,
                f"{found.id}@{tag.name}",
                version=tag.name,
                released_at=tag.date,
                commit=tag.sha,
                is_prerelease=_PRERELEASE.search(tag.name) is not None,
                notes=tag.message[:50_000],
                url=found.commit_page(tag.sha),
                about=[f"repo:{found.id}", f"commit:{tag.sha}"],
            )

    @resource(of=Commit, incremental=True)
    async def commits(self, since: dict[str, Any] | None) -> AsyncIterator[Commit | Refused | Mark]:
        """The commits of the default branch and of those that were asked for.

        The cursor holds the head of each branch that was read: {repository: {branch: commit}}.
        """
        cursor = dict(since or {})

        async def read(found: _Opened) -> AsyncIterator[Commit | Refused | Mark]:
            heads = await self._heads_of(found)
            for branch, head in heads.items():
                before = cursor.get(found.id, {}).get(branch, "")
                async for commit in self._commits_of(found, branch, head, before):
                    yield commit
            cursor[found.id] = heads
            yield Mark(dict(cursor))

        async for item in self._of_each(read):
            yield item

    async def _heads_of(self, found: _Opened) -> dict[str, str]:
        """The newest commit of each branch that is read, the default one first."""
        heads = {found.branch: found.head} if found.head else {}
        if self.config.branches:
            for branch in await found.clone.branches():
                if matches(branch, self.config.branches) and branch not in heads:
                    heads[branch] = await found.clone.head(branch) or ""
        return heads

    async def _commits_of(
        self, found: _Opened, branch: str, head: str, before: str
    ) -> AsyncIterator[Commit | Refused]:
        is_default = branch == found.branch
        goes_on = bool(before) and await found.clone.has_commit(before)
        commits = await found.clone.log(
            head,
            since=None if goes_on else datetime.now(UTC) - timedelta(days=self.config.days),
            limit=self.config.max_commits,
            without=[before] * goes_on + [found.head] * (not is_default),
        )
        for commit in commits:
            yield record_or_refusal(
                Commit,
                f"{found.id}@{commit.sha}",
                as_of=commit.committed_at,
                sha=commit.sha,
                committed_at=commit.committed_at,
                title=commit.subject[:1_000],
                actor=commit.author_name[:500],
                actor_email=commit.author_email[:500],
                branch=branch,
                is_default_branch=is_default,
                url=found.commit_page(commit.sha),
                about=[f"repo:{found.id}", f"commit:{commit.sha}"],
            )

    async def _describe(self, found: _Opened) -> Repository | Refused:
        clone = copy(found.clone)  # a copy keeps the list of files no longer than we do
        sizes = await _sizes(clone, found.head)
        read = partial(clone.read_many, found.head)
        facts = await facts_of(sizes, read, readme=True)
        declaring = catalog_files_of(sizes, self.config.catalog_files)
        year = datetime.now(UTC) - timedelta(days=365)
        committers = await clone.top_committers(found.head, since=year, limit=5) if found.head else []
        return record_or_refusal(
            Repository,
            found.id,
            name=found.path.rpartition("/")[2],
            path=found.path,
            url=found.page,
            description=summary_of(facts["readme"]) if facts["readme_path"].lower().endswith(".md") else "",
            default_branch=found.branch,
            head=found.head,
            last_activity_at=await clone.last_commit_at(found.head) if found.head else None,
            top_committers=[f"{who.name} <{who.email}>"[:500] for who in committers],
            keys=[f"repo:{found.id}"],
            docs=await pages_of(sizes, read, beside=map(folder_of, declaring)),
            **facts,
        )

    # --- what there is ------------------------------------------------------------------------------------

    async def _each(self, *, once: bool = False) -> AsyncIterator[_Opened | _Failed]:
        """Every repository that is wanted, opened.

        :param once: leave out further copies of one repository.
        :raises SourceError: when none can be read; that of the first.
        """
        places = await self._places()
        for place in places:
            if place not in self._opening:
                self._opening[place] = asyncio.create_task(self._open(place))
        failed: list[_Failed] = []
        good: set[str] = set()
        for place in places:
            found = await self._opening[place]
            if found is None or (once and found.id in good):
                continue
            if isinstance(found, _Failed):
                failed.append(found)
                if len(places) == 1:
                    continue
            else:
                good.add(found.id)
            yield found
        if failed and not good:
            raise failed[0].error
        if not good:
            raise Misconfigured(_("No repository fits “Only these” and “Not these”."))

    async def _of_each(self, read: Callable[[_Opened], AsyncIterator[T]]) -> AsyncIterator[T]:
        """Read each repository once; when the others are through, those that failed are an error.

        :raises SourceUnavailable: naming those.
        """
        unread = []
        async for found in self._each(once=True):
            if isinstance(found, _Failed):
                unread.append(found.id)
                continue
            try:
                async for item in read(found):
                    yield item
            except SourceError:
                unread.append(found.id)
        if unread:
            raise _incomplete(unread)

    async def _places(self) -> list[str]:
        """The addresses and paths of all repositories, and of folders below that cannot be listed.

        :raises SourceError: when a folder cannot be listed, or holds none: then it may not be the right one.
        """
        found: dict[str, None] = {}
        for given in self.config.repositories:
            path = given.removeprefix("file://")
            if not path.startswith("/"):
                found[given] = None
                continue
            inside = await self.git.repositories(path)
            unlisted = {str(folder): error for folder, error in inside.unreadable.items()}
            if not inside.paths:
                for error in unlisted.values():
                    raise error
                raise Misconfigured(_("There is no Git repository in %(folder)s.") % {"folder": path})
            self._unlisted |= unlisted
            found |= dict.fromkeys([*map(str, inside.paths), *unlisted])
        return list(found)

    async def _open(self, place: str) -> _Opened | _Failed | None:
        """The repository at a place; None if the patterns leave it out."""
        if place in self._unlisted:
            return _Failed(place, repository_id(place), self._unlisted[place])
        try:
            async with self._slots:
                if not place.startswith("/") and not self._is_wanted(_path_of(place)):
                    return None
                clone = await self.git.mirror(
                    place, depth=self.config.depth, credentials=self._credentials_for(place)
                )
                address = await clone.origin() if place.startswith("/") else place
                id_ = repository_id(address, place)
                path = _path_of(address) if not id_.startswith("file/") else self._path_below(place)
                if not self._is_wanted(path):
                    return None
                branch, head = await _default_branch(clone)
        except SourceError as error:
            return _Failed(place, repository_id(place), error)
        is_web = address.startswith(("https:", "http:"))
        page = re.sub(r"\.git/?$", "", address).rstrip("/") if is_web else None
        return _Opened(place, id_, path, page, clone, branch, head)

    def _is_wanted(self, path: str) -> bool:
        return is_chosen(path, self.config.include, self.config.exclude)

    def _path_below(self, place: str) -> str:
        """A local repository's path inside the folder that was given; its name if it was given itself."""
        for given in self.config.repositories:
            folder = given.removeprefix("file://").rstrip("/")
            if place.startswith(f"{folder}/"):
                return _plain(place.removeprefix(folder))
        return _plain(PurePath(place).name)

    def _credentials_for(self, place: str) -> tuple[str, str] | None:
        """The token, for the hosts that it is meant for, and over https alone."""
        return self._credentials if _host_of(place) in self._token_hosts else None

    def _remedy(self, place: str, error: SourceError) -> str:
        """What to do about a repository that cannot be read."""
        if isinstance(error, AuthFailed) and self._credentials and not self._credentials_for(place):
            if place.removeprefix("git+").startswith("http:"):
                return _("The token is sent over https only: give the https address.")
            return _(
                "The token is sent to %(hosts)s only. If it is meant for this host too, name it under "
                "“Hosts of the token”; else connect this host by itself."
            ) % {"hosts": ", ".join(sorted(self._token_hosts)) or _("no host")}
        match error:
            case AuthFailed():
                return _("Give a user and a token that may read the repository.")
            case _ if error.remedy:
                return str(error.remedy)
            case Misconfigured():
                return _("Correct the address, or take it out of the list.")
        return _("Try again later, or see whether the host is up.")


async def _sizes(clone: Clone, head: str) -> dict[str, int]:
    """The sizes of the plain files of a commit, by path."""
    files = await clone.files(head) if head else []
    return {file.path: file.size for file in files if not file.is_link}


async def _default_branch(clone: Clone) -> tuple[str, str]:
    """The default branch and its newest commit. Where `HEAD` names none that exists, a usual one is taken."""
    named = await clone.default_branch()
    for branch in (named, "main", "master"):
        if head := await clone.head(branch):
            return branch.removeprefix("HEAD"), head
    branches = await clone.branches()
    return (branches[0], await clone.head(branches[0]) or "") if len(branches) == 1 else (named, "")


def _host_of(address: str) -> str:
    """`host` or `host:port` of an https address; empty for any other."""
    found = re.match(r"(?:git\+)?https://([^/?#]+)", address)
    return found[1].lower().removesuffix(":443") if found else ""


def _path_of(address: str) -> str:
    """`org/name` of `https://host/org/name.git` or `git@host:org/name`."""
    if "://" in address:
        return _plain(urlsplit(address.removeprefix("git+")).path)
    return _plain(address.partition(":")[2] or address)


def _plain(path: str) -> str:
    return path.strip("/").removesuffix("/.git").removesuffix(".git")


def _incomplete(names: list[str]) -> SourceUnavailable:
    """The end of a list that is not whole: only a whole one may be compared with what there was."""
    names = list(dict.fromkeys(names))
    return SourceUnavailable(
        ngettext(
            "%(count)d repository could not be read, and what it held stays: %(names)s",
            "%(count)d repositories could not be read, and what they held stays: %(names)s",
            len(names),
        )
        % {"count": len(names), "names": ", ".join(names[:5]) + ("…" if len(names) > 5 else "")}
    )
