"""Where repositories come from: remote ones are mirrored, local ones read in place.

Remote repositories are mirrored bare under `PORTICO_HOME/git` and brought up to date on each call; local ones below
the allowed folders are read in place. Nothing is ever checked out, links in trees are not followed, and connections go
to addresses that the outbound guard has passed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import httpx2 as httpx
from django.conf import settings
from django.utils.translation import gettext as _

from integrations.errors import AuthFailed, Misconfigured, SourceError, SourceUnavailable, says_expired
from integrations.files import FileReader, Listing
from integrations.git.clone import DAMAGED_MARK, Clone
from integrations.git.program import Damaged, GitLimits, GitProgram, configured
from integrations.outbound import (
    IPAddress,
    NameNotFound,
    OutboundPolicy,
    Route,
    Target,
    ca_bundle,
    mask_url,
    proxy_for,
    system_bundle,
    where,
)

Credentials = tuple[str, str]


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
    :param route: a connection's own proxy and authorities.
    """

    def __init__(
        self,
        *,
        policy: OutboundPolicy | None = None,
        files: FileReader | None = None,
        home: Path | None = None,
        limits: GitLimits | None = None,
        route: Route | None = None,
    ) -> None:
        self._route = route or Route()
        self._policy = policy or OutboundPolicy.from_settings()
        self._files = files or FileReader()
        self._home = home or settings.PORTICO_HOME / "git"
        self.limits = limits or GitLimits()
        proxy = where(self._route.proxy) if self._route.proxy else None
        self._program = GitProgram(self.limits, proxy=f"{proxy.host}:{proxy.port}" if proxy else "")

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
            clone = Clone(self._program, folder, address.shown, is_mirror=True)
            for is_last in (False, True):
                try:
                    await self._bring_up_to_date(clone, folder, address, environment, refs, depth, lock)
                    break
                except Damaged:
                    if is_last:
                        raise
                    await asyncio.to_thread(shutil.rmtree, folder)
            if head and head != await clone.default_branch():
                pointing = ("symbolic-ref", "HEAD", f"refs/heads/{head}")
                await self._program.run("--git-dir", str(folder), *pointing, place=address.shown)
        return clone

    async def judge(self, url_or_path: str) -> None:
        """Refuse an address that may not be read, whatever is there; nobody is contacted.

        :raises Misconfigured: if it is none, or the guard refuses it.
        :raises NotThere: if there is no such folder.
        :raises SourceUnavailable: if its host has no address at present.
        """
        address = self._address(url_or_path)
        if address.path is None:
            target = self._policy.check_url(address.url, schemes=("http", "https", "ssh"))
            await self._policy.resolve(target.host, target.port)

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
        for file in await asyncio.to_thread(lambda: list((self._home / "authorities").glob("*"))):
            if time.time() - file.stat().st_mtime > unused_for.total_seconds():
                file.unlink(missing_ok=True)
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
        found = await self._program.run(
            "-C", str(path), "rev-parse", "--path-format=absolute", "--absolute-git-dir", "--git-common-dir",
            place=str(path), environment={"GIT_CEILING_DIRECTORIES": str(path.parent)},
        )  # fmt: skip
        folder, common = (Path(os.fsdecode(line)) for line in found.splitlines())
        # Either may be a link or a line of text that leads elsewhere, and so may borrowed objects.
        for place in (folder, common, common / "objects", *_borrowed(common)):
            self._files.confine(place)
        return Clone(self._program, folder, str(path))

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
        ask = partial(self._program.run, "ls-remote", "--symref", "--", address.url, place=address.shown)
        with tempfile.NamedTemporaryFile() as exchanged:
            # What a server says beside a 401 git keeps to itself; credentials are masked in its notes.
            noting = {**environment, "GIT_TRACE_CURL": exchanged.name, "GIT_TRACE_REDACT": "1"}
            try:
                listed = await ask(environment=noting, seconds=self.limits.network)
            except AuthFailed as error:
                if says_expired(_refusal(exchanged.read())):
                    raise AuthFailed(
                        _("%(place)s says that the credentials have expired. Make new ones there, and put them into "
                          "the settings of the connection.") % {"place": address.shown}
                    ) from error  # fmt: skip
                raise
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
        if broken := [name for name, value in refs.items() if not value.strip("0")]:
            raise SourceUnavailable(
                _("The branch %(name)s of %(place)s is damaged at its server.")
                % {"name": broken[0], "place": address.shown}
            )
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
        if (folder / DAMAGED_MARK).exists():
            raise Damaged(_("The copy of %(place)s is damaged.") % {"place": address.shown})
        if not (folder / "HEAD").exists():
            await self._program.run(
                "init", "--quiet", "--bare", "--initial-branch=main", "--", str(folder), place=address.shown
            )
        for stale in _stale_locks(folder):  # of a process that was killed: whoever lives would hold our lock
            stale.unlink(missing_ok=True)
        is_shallow = (folder / "shallow").exists()
        wanted = {name: value for name, value in refs.items() if name != "HEAD"}
        try:
            present = await clone.refs()
        except SourceError as error:
            raise Damaged(error.message) from error
        present.pop("HEAD", None)
        if wanted == present and not (is_shallow and depth is None):
            return
        history = []
        if is_shallow or not present:
            history = [f"--depth={depth}"] if depth else ["--unshallow"] if is_shallow else []
        await self._program.run(
            "--git-dir", str(folder), "fetch", "--quiet", "--prune", "--force", "--no-tags",
            "--no-write-fetch-head", "--no-recurse-submodules", *history, "--",
            address.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
            place=address.shown, environment=environment, seconds=self.limits.network, keep=(lock,),
        )  # fmt: skip

    async def _online(self, address: _Address, credentials: Credentials | None) -> dict[str, str]:
        """The environment of a command that connects, to a judged address only; credentials stay in it."""
        target = self._policy.check_url(address.url, schemes=("http", "https", "ssh"))
        pin = ""
        try:
            found = await self._policy.resolve(target.host, target.port)
            pin = _pin(target, found)
        except NameNotFound:
            if target.scheme == "ssh" or not (self._route.proxy or proxy_for(target)):
                raise
        if target.scheme == "ssh" and self._route.proxy:
            raise Misconfigured(
                _("%(url)s is reached over SSH, which does not go through the connection's proxy. Give its https "
                  "address, or take the proxy out.") % {"url": address.shown}
            )  # fmt: skip
        if target.scheme == "ssh":
            if credentials:
                raise Misconfigured(
                    _("%(url)s is reached over SSH, which takes the key of this server's account, not a "
                      "password.") % {"url": address.shown}
                )  # fmt: skip
            return self._ssh(target.host, str(found[0]))
        options = {"http.followRedirects": "false", "http.lowSpeedLimit": "500", "http.lowSpeedTime": "60"}
        if self._route.proxy:
            options |= {"http.proxy": self._route.proxy, "http.proxyAuthMethod": "basic"}
            proxy = where(self._route.proxy)
            # It is judged as any other address, and looks up the target's name itself.
            pin = _pin(proxy, await self._policy.resolve(proxy.host, proxy.port))
        if pin:
            options["http.curloptResolve"] = pin
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
        trusted = await asyncio.to_thread(self._trusted)
        if self._route.proxy.startswith("https:") and "GIT_SSL_CAINFO" in trusted:
            options["http.proxySSLCAInfo"] = trusted["GIT_SSL_CAINFO"]
        environment = {"GIT_ALLOW_PROTOCOL": target.scheme, **configured(options), **trusted}
        if not self._route.proxy:
            for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
                for spelled in (name, name.upper()):
                    if value := os.environ.get(spelled):
                        environment[spelled] = value
        return environment

    def _trusted(self) -> dict[str, str]:
        """Which authorities git trusts: those of the environment, and the connection's own besides."""
        bundle = ca_bundle()
        environment = {}
        if bundle:
            environment["GIT_SSL_CAPATH" if os.path.isdir(bundle) else "GIT_SSL_CAINFO"] = bundle
        if not self._route.authorities:
            return environment
        usual = environment.get("GIT_SSL_CAINFO") or ("" if bundle else system_bundle())
        text = self._route.authorities
        if usual:
            text += "\n" + Path(usual).read_text("utf-8", "replace")
        file = self._home / "authorities" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.pem"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".new", delete=False) as written:
                written.write(text)
            os.replace(written.name, file)
        os.utime(file)
        return {**environment, "GIT_SSL_CAINFO": str(file)}

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
            **configured({}),
        }
        if agent := os.environ.get("SSH_AUTH_SOCK"):
            environment["SSH_AUTH_SOCK"] = agent
        return environment


def _pin(target: Target, found: Sequence[IPAddress]) -> str:
    """What keeps curl from looking a name up again; empty for what is an address already."""
    if ":" in target.host:
        return ""
    ips = [f"[{ip}]" if ip.version == 6 else str(ip) for ip in found[:4]]
    return f"{target.host}:{target.port}:{','.join(ips)}"


def _refusal(trace: bytes) -> str:
    """What a server said with its last 401, from curl's notes."""
    said = trace.decode("utf-8", "replace").rpartition(" 401")[2]
    return "\n".join(re.findall(r"<= Recv (?:header|data)[^:]*: ?(.*)", said))


def _stale_locks(folder: Path) -> list[Path]:
    return [*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock")]


def _borrowed(common: Path) -> list[Path]:
    """The object folders that a repository takes objects from besides its own."""
    try:
        lines = (common / "objects" / "info" / "alternates").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [common / "objects" / line for line in lines if line and not line.startswith("#")]
