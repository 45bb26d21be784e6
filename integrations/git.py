"""The one way to Git repositories: the `git` program, kept from all that a repository could make it do.

Remote repositories are mirrored bare under `PORTICO_HOME/git` and brought up to date on each call; local ones
below the allowed folders are read in place. Nothing is ever checked out, no hook, filter, helper or prompt
runs, links in trees are not followed, and connections go to addresses that the outbound guard has passed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httpx2 as httpx
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base.limits import readable_size
from integrations.errors import (
    AuthFailed,
    BadPayload,
    Misconfigured,
    NotThere,
    SourceError,
    SourceUnavailable,
)
from integrations.files import FileReader, Listing
from integrations.outbound import NameNotFound, OutboundPolicy, ca_bundle, mask_url, proxy_for

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

Credentials = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class GitLimits:
    """Times in seconds, sizes in bytes.

    :ivar output: of one reading command.
    """

    network: float = 900
    local: float = 60
    lock: float = 900
    output: int = 128 * 1024 * 1024
    processes: int = 4


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file in a commit. `mode` is Git's: `120000` is a symbolic link."""

    path: str
    size: int
    mode: str
    oid: str

    @property
    def is_link(self) -> bool:
        return self.mode == "120000"


@dataclass(frozen=True, slots=True)
class TagInfo:
    """A tag and the commit that it leads to."""

    name: str
    sha: str
    date: datetime
    message: str


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """A commit, with the author as `.mailmap` has it."""

    sha: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    authored_at: datetime
    committed_at: datetime
    subject: str
    trailers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Committer:
    """An author, as `.mailmap` has it, and their number of commits."""

    name: str
    email: str
    commits: int


@dataclass(frozen=True)
class _Address:
    """A repository's place: a remote URL in our own spelling, or a local path."""

    url: str = ""
    path: Path | None = None

    @property
    def shown(self) -> str:
        return mask_url(self.url) if self.url else str(self.path)


class GitClient:
    """Reads Git repositories.

    :param policy: which hosts may be reached; the settings' by default.
    :param files: which local folders may be read; the settings' by default.
    :param home: where mirrors are kept.
    """

    def __init__(
        self,
        *,
        policy: OutboundPolicy | None = None,
        files: FileReader | None = None,
        home: Path | None = None,
        limits: GitLimits | None = None,
    ) -> None:
        self._policy = policy or OutboundPolicy.from_settings()
        self._files = files or FileReader()
        self._home = home or settings.PORTICO_HOME / "git"
        self.limits = limits or GitLimits()
        self._slots = asyncio.Semaphore(self.limits.processes)

    async def mirror(
        self, url_or_path: str, *, depth: int | None = None, credentials: Credentials | None = None
    ) -> Clone:
        """The repository as it is now: a remote one is fetched first, a local one read in place.

        :param url_or_path: `https://`, `ssh://` or `git@host:path`, also with `git+` before it, or a local
            path.
        :param depth: how much history a first fetch brings; all by default.
        :param credentials: user and password or token, for https. They go to the address's own host, whatever it
            redirects to.
        :raises AuthFailed: if it may not be read.
        :raises Misconfigured: if there is no such repository or the guard refuses the address.
        :raises SourceUnavailable: if the host does not answer as it should.
        """
        address = self._address(url_or_path)
        if address.path is not None:
            return await self._in_place(address.path)
        folder = self._home / hashlib.sha256(address.url.encode()).hexdigest()[:32]
        environment = await self._online(address, credentials)
        async with self._locked(folder) as lock:
            head, refs = await self._list_remote(address, environment)
            clone = Clone(self, folder, address.shown, is_mirror=True)
            for is_last in (False, True):
                try:
                    await self._bring_up_to_date(clone, folder, address, environment, refs, depth, lock)
                    break
                except _Damaged:
                    if is_last:
                        raise
                    await asyncio.to_thread(shutil.rmtree, folder)
            if head and head != await clone.default_branch():
                pointing = ("symbolic-ref", "HEAD", f"refs/heads/{head}")
                await self.run("--git-dir", str(folder), *pointing, place=address.shown)
        return clone

    async def remote_refs(self, url_or_path: str, credentials: Credentials | None = None) -> dict[str, str]:
        """All branches and tags with their commits or tag objects, and `HEAD`, without a fetch.

        Errors as `mirror`.
        """
        address = self._address(url_or_path)
        if address.path is not None:
            return await (await self._in_place(address.path)).refs()
        _head, refs = await self._list_remote(address, await self._online(address, credentials))
        return refs

    async def repositories(self, folder: str, *, depth: int = 3) -> Listing:
        """The repositories below a local folder, bare ones too; none is sought inside another.

        :raises Misconfigured: if the folder may not be read.
        """
        top = self._files.confine(folder)
        found = Listing()
        await asyncio.to_thread(self._find_repositories, top, depth, found)
        found.paths.sort()
        return found

    def _find_repositories(self, folder: Path, depth: int, found: Listing) -> None:
        if self._files.is_private(str(folder)):
            return
        try:
            inside = self._files.entries(str(folder))
        except SourceError as error:
            found.unreadable[folder] = error
            return
        names = {entry.name for entry in inside}
        if ".git" in names or names >= {"HEAD", "objects", "refs"}:
            found.paths.append(folder)
        elif depth > 0:
            for entry in inside:
                if entry.is_dir(follow_symlinks=False):
                    self._find_repositories(Path(entry.path), depth - 1, found)

    async def prune(self, *, unused_for: timedelta) -> int:
        """Remove the mirrors that nobody has asked for in this time; returns how many."""
        removed = 0
        for lock in await asyncio.to_thread(lambda: list(self._home.glob("*.lock"))):
            if time.time() - lock.stat().st_mtime > unused_for.total_seconds():
                folder = lock.with_suffix("")
                async with self._locked(folder):
                    await asyncio.to_thread(shutil.rmtree, folder, True)
                    lock.unlink()
                removed += 1
        return removed

    def _address(self, text: str) -> _Address:
        text = text.strip()
        shown = mask_url(text)
        url = text.removeprefix("git+")
        if url.startswith("file://"):
            host, slash, path = url.removeprefix("file://").partition("/")
            if host not in ("", "localhost"):
                raise Misconfigured(_("%(url)s names a file on another host.") % {"url": shown})
            url = unquote(slash + path.partition("?")[0].partition("#")[0])
        if url.startswith("/"):
            return _Address(path=self._files.confine(url))
        # git@host:path, the short form of ssh://git@host/path
        if match := re.fullmatch(r"([\w.-]+@)?([A-Za-z0-9][\w.-]*):(?![:/]/)(?!:)(.+)", url):
            url = f"ssh://{match[1] or ''}{match[2]}/{match[3].lstrip('/')}"
        if not re.match(r"(https?|ssh)://", url):
            raise Misconfigured(
                _("%(url)s is no address of a Git repository. Expected https://…, ssh://…, git@host:path or "
                  "the full path of a folder.") % {"url": shown}
            )  # fmt: skip
        self._policy.check_url(url, schemes=("http", "https", "ssh"))
        parsed = httpx.URL(url)
        user = f"{parsed.username}@" if parsed.scheme == "ssh" and parsed.username else ""
        path = parsed.raw_path.decode().rstrip("/")
        return _Address(url=f"{parsed.scheme}://{user}{parsed.netloc.decode()}{path}")

    async def _in_place(self, path: Path) -> Clone:
        found = await self.run(
            "-C", str(path), "rev-parse", "--path-format=absolute", "--absolute-git-dir", "--git-common-dir",
            place=str(path), environment={"GIT_CEILING_DIRECTORIES": str(path.parent)},
        )  # fmt: skip
        folder, common = (Path(os.fsdecode(line)) for line in found.splitlines())
        # Either may be a link or a line of text that leads elsewhere, and so may borrowed objects.
        for place in (folder, common, common / "objects", *_borrowed(common)):
            self._files.confine(place)
        return Clone(self, folder, str(path))

    @asynccontextmanager
    async def _locked(self, folder: Path) -> AsyncIterator[int]:
        """One fetch at a time for a mirror, across processes; a child that outlives us keeps the lock."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + self.limits.lock
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise SourceUnavailable(
                            _("The repository is being fetched by another process.")
                        ) from None
                    await asyncio.sleep(0.2)
            os.utime(lock)
            yield lock
        finally:
            os.close(lock)

    async def _list_remote(
        self, address: _Address, environment: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        ask = partial(self.run, "ls-remote", "--symref", "--", address.url, place=address.shown)
        listed = await ask(environment=environment, seconds=self.limits.network)
        if not listed and address.url.startswith("http"):
            # To git, a sign-in page is a repository without branches. Only a true server speaks in packets.
            with tempfile.NamedTemporaryFile() as packets:
                traced = {**environment, "GIT_TRACE_PACKET": packets.name}
                listed = await ask(environment=traced, seconds=self.limits.network)
                if not packets.read():
                    raise Misconfigured(
                        _("%(place)s answers, but not as a Git repository does.") % {"place": address.shown}
                    )
        head, refs = "", {}
        for line in listed.decode("utf-8", "replace").splitlines():
            value, _tab, name = line.partition("\t")
            if value.startswith("ref: "):
                head = value.removeprefix("ref: refs/heads/") if name == "HEAD" else head
            elif name == "HEAD" or (name.startswith(("refs/heads/", "refs/tags/")) and name[-3:] != "^{}"):
                refs[name] = value
        return head, refs

    async def _bring_up_to_date(
        self,
        clone: Clone,
        folder: Path,
        address: _Address,
        environment: Mapping[str, str],
        refs: Mapping[str, str],
        depth: int | None,
        lock: int,
    ) -> None:
        if (folder / _DAMAGED).exists():
            raise _Damaged(_("The copy of %(place)s is damaged.") % {"place": address.shown})
        if not (folder / "HEAD").exists():
            await self.run(
                "init", "--quiet", "--bare", "--initial-branch=main", "--", str(folder), place=address.shown
            )
        for stale in _stale_locks(folder):  # of a process that was killed: whoever lives would hold our lock
            stale.unlink(missing_ok=True)
        is_shallow = (folder / "shallow").exists()
        wanted = {name: value for name, value in refs.items() if name != "HEAD"}
        try:
            present = await clone.refs()
        except SourceError as error:
            raise _Damaged(error.message) from error
        present.pop("HEAD", None)
        if wanted == present and not (is_shallow and depth is None):
            return
        history = []
        if is_shallow or not present:
            history = [f"--depth={depth}"] if depth else ["--unshallow"] if is_shallow else []
        await self.run(
            "--git-dir", str(folder), "fetch", "--quiet", "--prune", "--force", "--no-tags",
            "--no-write-fetch-head", "--no-recurse-submodules", *history, "--",
            address.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
            place=address.shown, environment=environment, seconds=self.limits.network, keep=(lock,),
        )  # fmt: skip

    async def _online(self, address: _Address, credentials: Credentials | None) -> dict[str, str]:
        """The environment of a command that connects, to a judged address only; credentials stay in it."""
        target = self._policy.check_url(address.url, schemes=("http", "https", "ssh"))
        pinned: list[str] = []
        try:
            found = await self._policy.resolve(target.host, target.port)
            pinned = [f"[{ip}]" if ip.version == 6 else str(ip) for ip in found[:4]]
        except NameNotFound:
            if target.scheme == "ssh" or not proxy_for(target):
                raise
        if target.scheme == "ssh":
            if credentials:
                raise Misconfigured(
                    _("%(url)s is reached over SSH, which takes the key of this server's account, not a "
                      "password.") % {"url": address.shown}
                )  # fmt: skip
            return self._ssh(target.host, str(found[0]))
        options = {"http.followRedirects": "false", "http.lowSpeedLimit": "500", "http.lowSpeedTime": "60"}
        if pinned and ":" not in target.host:
            options["http.curloptResolve"] = f"{target.host}:{target.port}:{','.join(pinned)}"
        if credentials and target.scheme == "http":
            raise Misconfigured(
                _("%(url)s is reached over http, where everybody on the way can read a password or token. None "
                  "is sent; use its https address.") % {"url": address.shown}
            )  # fmt: skip
        if credentials:
            token = b64encode(":".join(credentials).encode()).decode()
            parsed = httpx.URL(address.url)
            origin = f"{parsed.scheme}://{parsed.netloc.decode()}"
            options[f"http.{origin}/.extraHeader"] = f"Authorization: Basic {token}"
        environment = {"GIT_ALLOW_PROTOCOL": target.scheme, **_configured(options)}
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            for spelled in (name, name.upper()):
                if value := os.environ.get(spelled):
                    environment[spelled] = value
        if bundle := ca_bundle():
            is_folder = await asyncio.to_thread(os.path.isdir, bundle)
            environment["GIT_SSL_CAPATH" if is_folder else "GIT_SSL_CAINFO"] = bundle
        return environment

    def _ssh(self, host: str, ip: str) -> dict[str, str]:
        known = f'UserKnownHostsFile="{self._home / "known_hosts"}" ~/.ssh/known_hosts'
        options = (
            "BatchMode=yes", "ConnectTimeout=10", "StrictHostKeyChecking=accept-new", "ForwardAgent=no",
            "PermitLocalCommand=no", f"HostName={ip}", f"HostKeyAlias={host}", known,
        )  # fmt: skip
        command = shlex.join(["ssh", *(part for option in options for part in ("-o", option))])
        environment = {
            "GIT_ALLOW_PROTOCOL": "ssh",
            "GIT_SSH_COMMAND": command,
            "GIT_SSH_VARIANT": "ssh",
            **_configured({}),
        }
        if agent := os.environ.get("SSH_AUTH_SOCK"):
            environment["SSH_AUTH_SOCK"] = agent
        return environment

    async def run(
        self,
        *args: str,
        place: str,
        environment: Mapping[str, str] | None = None,
        given: bytes = b"",
        limit: int | None = None,
        seconds: float | None = None,
        keep: Sequence[int] = (),
    ) -> bytes:
        """Run git, offline unless the environment says otherwise, and return what it prints.

        :param place: the repository, for messages.
        :param given: standard input.
        :param keep: descriptors that the child holds on to.
        """
        limit = self.limits.output if limit is None else limit
        seconds = self.limits.local if seconds is None else seconds
        told = {
            **_OFFLINE,
            **_configured({}),
            "PATH": os.environ.get("PATH", os.defpath),
            **(environment or {}),
        }
        pipe = asyncio.subprocess.PIPE
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    "git", *args, stdin=pipe, stdout=pipe, stderr=pipe,
                    env=told, cwd="/", start_new_session=True, pass_fds=keep,
                )  # fmt: skip
            except FileNotFoundError as error:
                raise Misconfigured(_("The program git is not installed on this server.")) from error
            try:
                async with asyncio.timeout(seconds):
                    printed, said, _fed = await asyncio.gather(
                        _collect(process.stdout, limit),
                        _collect(process.stderr, None),
                        _feed(process.stdin, given),
                    )
                    code = await process.wait()
            except TimeoutError as error:
                raise SourceUnavailable(
                    _("Git did not finish with %(place)s within %(seconds)d seconds.")
                    % {"place": place, "seconds": seconds}
                ) from error
            except _TooMuch as error:
                raise BadPayload(
                    _("Git answered more than %(limit)s about %(place)s.")
                    % {"place": place, "limit": readable_size(limit)}
                ) from error
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        if code:
            raise _explain(place, said.decode("utf-8", "replace"))
        return printed


class Clone:
    """A repository that can be read now, without the network.

    A `ref` is a branch, a tag or a commit. What there is none of is `NotThere`; a repository without any
    commit has no files and no history, which is no error.

    :ivar place: its address, for messages.
    """

    def __init__(self, client: GitClient, folder: Path, place: str, *, is_mirror: bool = False) -> None:
        self._client = client
        self._is_mirror = is_mirror
        self._folder = folder
        self._trees: dict[str, list[TreeFile]] = {}
        self.place = place

    async def _git(
        self, *args: str, given: bytes = b"", limit: int | None = None, mailmap: str = "HEAD"
    ) -> bytes:
        # Of a bare repository git takes the .mailmap of a commit, else it would look for a file on the disk.
        run = self._client.run(
            "--bare", "--git-dir", str(self._folder), *args, place=self.place, given=given, limit=limit,
            environment=_configured({"mailmap.blob": f"{mailmap}:.mailmap"}),
        )  # fmt: skip
        try:
            return await run
        except _Damaged:
            self._note_damage()
            raise

    def _note_damage(self) -> None:
        """Have a mirror fetched anew next time; another's repository is left as it is."""
        if self._is_mirror:
            (self._folder / _DAMAGED).touch()

    async def default_branch(self) -> str:
        """The branch that `HEAD` names, though it may have no commit yet; `HEAD` if it names a commit."""
        try:
            return (
                (await self._git("symbolic-ref", "--quiet", "--short", "HEAD"))
                .decode("utf-8", "replace")
                .strip()
            )
        except SourceUnavailable:
            return "HEAD"

    async def head(self, branch: str) -> str | None:
        """The last commit of a branch, or None if there is no such branch."""
        refs = await self.refs()
        return refs.get("HEAD" if branch == "HEAD" else f"refs/heads/{branch}")

    async def refs(self) -> dict[str, str]:
        """All branches and tags with their commits or tag objects, and `HEAD`."""
        listed = await self._git(
            "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"
        )
        refs = dict(line.split(" ") for line in listed.decode("utf-8", "replace").splitlines())
        with suppress(SourceError):
            found = await self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
            refs["HEAD"] = found.decode().strip()
        return refs

    async def origin(self) -> str:
        """The address of the remote `origin`, without credentials; empty if there is none."""
        with suppress(SourceUnavailable):
            found = await self._git("config", "--local", "--get", "remote.origin.url")
            return re.sub(r"(?<=://)[^/@]*@", "", found.decode("utf-8", "replace").strip())
        return ""

    async def has_commit(self, sha: str) -> bool:
        """Whether a commit is at hand here, on whatever branch."""
        with suppress(SourceUnavailable, NotThere):
            await self._git("rev-parse", "--verify", "--quiet", f"{_checked(sha)}^{{commit}}")
            return True
        return False

    async def branches(self) -> list[str]:
        """The names of all branches."""
        return [
            name.removeprefix("refs/heads/") for name in await self.refs() if name.startswith("refs/heads/")
        ]

    async def tags(self) -> list[TagInfo]:
        """All tags that lead to a commit, newest first."""
        form = "%(refname:strip=2)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)%00"
        form += "%(creatordate:unix)%00%(contents)%00"
        listed = await self._git("for-each-ref", "--sort=-creatordate", f"--format={form}", "refs/tags")
        found = []
        for name, kind, oid, inner_kind, inner, date, message in _rows(listed, 7):
            if "commit" in (kind, inner_kind):
                # The message of a light tag is its commit's, which says nothing of the tag.
                text = message.strip() if kind == "tag" else ""
                found.append(TagInfo(name, inner or oid, _moment(date), text))
        return found

    async def files(self, ref: str) -> list[TreeFile]:
        """All files of a commit, in the order of their paths; submodules are left out."""
        if ref not in self._trees:
            try:
                listed = await self._git("ls-tree", "-r", "-l", "-z", "--full-tree", _checked(ref))
            except NotThere:
                if await self._has_commits():
                    raise
                listed = b""
            self._trees = {ref: [file for line in listed.split(b"\0") if line and (file := _tree_file(line))]}
        return self._trees[ref]

    async def read(self, ref: str, path: str, limit: int = 1024 * 1024) -> bytes | None:
        """A file's content, or None; see `read_many`."""
        return (await self.read_many(ref, [path], limit)).get(path)

    async def read_many(self, ref: str, paths: Iterable[str], limit: int = 1024 * 1024) -> dict[str, bytes]:
        """The contents of several files in one go.

        What is not there, is a link or has more than `limit` bytes is left out; `files` tells which it is.
        """
        wanted = set(paths)
        found = [
            file
            for file in await self.files(ref)
            if file.path in wanted and not file.is_link and file.size <= limit
        ]
        if not found:
            return {}
        room = sum(file.size + 200 for file in found)
        given = "".join(f"{file.oid}\n" for file in found).encode()
        answer = memoryview(await self._git("cat-file", "--batch", given=given, limit=room))
        contents, at = {}, 0
        for file in found:
            start = at + len(f"{file.oid} blob {file.size}\n")
            if bytes(answer[at:start]) != f"{file.oid} blob {file.size}\n".encode():
                self._note_damage()
                raise _Damaged(
                    _("%(place)s lacks the content of %(path)s; its copy is damaged or partial.")
                    % {"place": self.place, "path": file.path}
                )
            contents[file.path] = bytes(answer[start : start + file.size])
            at = start + file.size + 1
        return contents

    async def log(
        self,
        ref: str,
        *,
        since: datetime | None = None,
        limit: int = 200,
        paths: Sequence[str] | None = None,
        without: Sequence[str] = (),
    ) -> list[CommitInfo]:
        """The latest commits, newest first.

        :param paths: only those that changed one of these files or folders.
        :param without: branches or commits whose own history is left out: what is new since then.
        """
        fields = ("%H", "%P", "%aN", "%aE", "%at", "%ct", "%s", "%(trailers:only,unfold)")
        listed = await self._history(
            "log", f"--format=tformat:{'%x00'.join(fields)}%x00", f"--max-count={limit}",
            "--no-color", ref=ref, since=since, paths=paths or (), without=without,
        )  # fmt: skip
        return [
            CommitInfo(
                sha=sha,
                parents=tuple(parents.split()),
                author_name=name,
                author_email=email,
                authored_at=_moment(authored),
                committed_at=_moment(committed),
                subject=subject,
                trailers=tuple(
                    (key.strip(), value.strip())
                    for key, colon, value in (line.partition(":") for line in trailers.splitlines())
                    if colon
                ),
            )
            for sha, parents, name, email, authored, committed, subject, trailers in _rows(listed, 8)
        ]

    async def last_commit_at(self, ref: str) -> datetime | None:
        """When the latest commit was made; None in a repository without any."""
        return next((commit.committed_at for commit in await self.log(ref, limit=1)), None)

    async def top_committers(
        self, ref: str, *, since: datetime | None = None, limit: int = 10
    ) -> list[Committer]:
        """Who wrote most commits, merges aside."""
        listed = await self._history("shortlog", "-s", "-n", "-e", "--no-merges", ref=ref, since=since)
        found = re.findall(r"^\s*(\d+)\t(.*) <([^<>\n]*)>$", listed.decode("utf-8", "replace"), re.MULTILINE)
        return [Committer(name, email, int(commits)) for commits, name, email in found[:limit]]

    async def _history(
        self,
        *command: str,
        ref: str,
        since: datetime | None,
        paths: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> bytes:
        period = [f"--since={since.isoformat()}"] if since else []
        known = [f"^{_checked(other)}" for other in without]
        try:
            return await self._git(*command, *period, _checked(ref), *known, "--", *paths, mailmap=ref)
        except NotThere:
            if await self._has_commits():
                raise
            return b""

    async def _has_commits(self) -> bool:
        return bool(await self.refs())


class _TooMuch(Exception):
    """A child printed more than was allowed."""


class _Damaged(SourceUnavailable):
    """Objects are missing or broken; a mirror is then fetched anew."""


_DAMAGED = "portico-damaged"  # a file in a mirror: fetch it anew


# What every git process gets, and nothing else of our environment: no user's or machine's configuration, no
# prompt, no network.
_OFFLINE = {
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
# These outrank what a repository's own configuration says.
_SETTINGS = {
    "safe.directory": "*",  # folders are judged by PORTICO_FILES_ALLOW, not by who owns them
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.pager": "cat",
    "credential.helper": "",
    "gc.autoDetach": "false",
    "maintenance.autoDetach": "false",
    "log.showSignature": "false",
    "log.mailmap": "true",
    "fetch.recurseSubmodules": "false",
    "transfer.bundleURI": "false",
    "submodule.recurse": "false",
}


def _configured(more: Mapping[str, str]) -> dict[str, str]:
    """Settings by way of the environment, which no list of processes shows."""
    pairs = list((_SETTINGS | dict(more)).items())
    environment = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (key, value) in enumerate(pairs):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


async def _collect(stream: asyncio.StreamReader | None, limit: int | None) -> bytes:
    """All that a child prints; without a limit, only the last of it is kept."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk
        if limit is None:
            del kept[:-20_000]
        elif len(kept) > limit:
            raise _TooMuch
    return bytes(kept)


async def _feed(stream: asyncio.StreamWriter | None, given: bytes) -> None:
    assert stream is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(given)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


# What git's words mean for the person who looks after the connection; the first that fits.
_MEANINGS: tuple[tuple[str, type[SourceError], _StrOrPromise], ...] = (
    (
        "could not read (Username|Password)|Authentication failed|Permission denied \\(|returned error: 401",
        AuthFailed,
        gettext_lazy("%(place)s asks for other credentials than it was given, if it is there at all."),
    ),
    (
        "returned error: 403|access denied",
        AuthFailed,
        gettext_lazy("%(place)s may not be read with these credentials: a permission is missing (403)."),
    ),
    (
        "update url base from redirection|returned error: 30\\d",
        Misconfigured,
        gettext_lazy("%(place)s has moved. Use the address that it redirects to. Git says: %(said)s"),
    ),
    (
        "Host key verification failed",
        Misconfigured,
        gettext_lazy("The host key of %(place)s is not the one that is known."),
    ),
    (
        "certificate (problem|verif)|server certificate",
        Misconfigured,
        gettext_lazy("The certificate of %(place)s is not trusted. Name the file with your authority's "
                     "certificate in SSL_CERT_FILE. Git says: %(said)s"),
    ),
    (
        "object file .* is empty|corrupt|bad object|missing blob|not our ref .* shallow|bad tree object",
        _Damaged,
        gettext_lazy("The copy of %(place)s is damaged. Git says: %(said)s"),
    ),
    (
        "not a valid object name|unknown revision|bad revision|ambiguous argument|not a tree object",
        NotThere,
        gettext_lazy("%(place)s has no such branch, tag or commit."),
    ),
    (
        "repository .*not found|returned error: 404|does not exist|not a git repository|"
        "does not appear to be a git repository|not valid: is this a git repository",
        Misconfigured,
        gettext_lazy("There is no Git repository at %(place)s, or these credentials may not see it."),
    ),
)  # fmt: skip


def _explain(place: str, said: str) -> SourceError:
    said = mask_url(said).replace(place, "…")  # a repository may be named like an error
    lines = [
        line for line in said.splitlines() if re.match("fatal:|error:|remote:", line)
    ] or said.splitlines()
    shown = {"place": place, "said": " ".join(" ".join(lines[-3:]).split())[:300]}
    for pattern, error, sentence in _MEANINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return error(str(sentence) % shown)
    return SourceUnavailable(_("Git could not read %(place)s: %(said)s") % shown)


def _checked(ref: str) -> str:
    """A ref that can be nothing but a name: neither an option nor an expression over commits."""
    if (
        not ref
        or ref.startswith("-")
        or ".." in ref
        or "@{" in ref
        or re.search(r"[\x00-\x20\x7f~^:?*\[\\]", ref)
    ):
        raise Misconfigured(_("“%(ref)s” is no name of a branch, tag or commit.") % {"ref": ref})
    return ref


def _rows(listed: bytes, width: int) -> list[list[str]]:
    """Rows of NUL-ended fields, each row followed by a line break."""
    fields = listed.decode("utf-8", "replace").split("\0")
    rows = [fields[at : at + width] for at in range(0, len(fields) - width + 1, width)]
    for row in rows:
        row[0] = row[0].lstrip("\n")
    return rows


def _tree_file(line: bytes) -> TreeFile | None:
    about, _tab, path = line.partition(b"\t")
    mode, kind, oid, size = about.decode("ascii").split()
    if kind != "blob":
        return None
    # Of a file whose content is missing the size is not known.
    return TreeFile(path.decode("utf-8", "replace"), int(size) if size.isdecimal() else -1, mode, oid)


def _moment(seconds: str) -> datetime:
    """A commit's time; one that no calendar has (commits can claim anything) becomes the epoch."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _stale_locks(folder: Path) -> list[Path]:
    return [*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock")]


def _borrowed(common: Path) -> list[Path]:
    """The object folders that a repository takes objects from besides its own."""
    try:
        lines = (common / "objects" / "info" / "alternates").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [common / "objects" / line for line in lines if line and not line.startswith("#")]
