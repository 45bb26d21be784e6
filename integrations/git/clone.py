"""What can be read of a repository that is at hand: files, branches, tags, history."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.utils.translation import gettext as _

from integrations.errors import Misconfigured, NotThere, SourceError, SourceUnavailable
from integrations.git.program import Damaged, GitProgram, configured

DAMAGED_MARK = "portico-damaged"  # a file in a mirror: fetch it anew


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


class Clone:
    """A repository that can be read now, without the network.

    A `ref` is a branch, a tag or a commit. What there is none of is `NotThere`; a repository without any
    commit has no files and no history, which is no error.

    :ivar place: its address, for messages.
    """

    def __init__(self, program: GitProgram, folder: Path, place: str, *, is_mirror: bool = False) -> None:
        self._program = program
        self._is_mirror = is_mirror
        self._folder = folder
        self._trees: dict[str, list[TreeFile]] = {}
        self.place = place

    async def _git(
        self, *args: str, given: bytes = b"", limit: int | None = None, mailmap: str = "HEAD"
    ) -> bytes:
        # Of a bare repository git takes the .mailmap of a commit, else it would look for a file on the disk.
        run = self._program.run(
            "--bare", "--git-dir", str(self._folder), *args, place=self.place, given=given, limit=limit,
            environment=configured({"mailmap.blob": f"{mailmap}:.mailmap"}),
        )  # fmt: skip
        try:
            return await run
        except Damaged:
            self._note_damage()
            raise

    def _note_damage(self) -> None:
        """Have a mirror fetched anew next time; another's repository is left as it is."""
        if self._is_mirror:
            (self._folder / DAMAGED_MARK).touch()

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
                raise Damaged(
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
