"""The Git client on real repositories: in place, and over HTTP with Git's own backend."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from integrations.errors import (
    AuthFailed,
    BadPayload,
    Misconfigured,
    SourceError,
    SourceUnavailable,
)
from integrations.files import FileReader
from integrations.git import Clone, Committer, GitClient, GitLimits
from integrations.outbound import OutboundPolicy, OutboundRefused

pytestmark = pytest.mark.anyio

MakeClient = Callable[..., GitClient]


@pytest.fixture
def make_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeClient:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def make(allow: Any = ("127.0.0.1",), roots: Any = (tmp_path,), **more: Any) -> GitClient:
        policy = allow if isinstance(allow, OutboundPolicy) else OutboundPolicy(allow)
        limits = GitLimits(**{"network": 20, "local": 20, "lock": 5, **more})
        return GitClient(
            policy=policy, files=FileReader(roots), home=tmp_path / "home ü" / "git", limits=limits
        )

    return make


@pytest.fixture
def git(make_git: MakeClient) -> GitClient:
    return make_git()


def rebinding(*answers: list[str]) -> Any:
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


# Reading


async def test_a_local_repository_is_read_in_place(git: GitClient, make_work: Any, tmp_path: Path) -> None:
    work = make_work()
    sha = work.commit({"README.md": "# Pay", "docs/ä b.md": "x", "docs/big.bin": b"\0" * 5000})
    os.symlink("/etc/passwd", work.folder / "link")
    last = work.commit({"a\nb": "odd name"}, "Add a link")
    (work.folder / "README.md").write_text("not committed")
    clone = await git.mirror(str(work.folder))
    assert await clone.default_branch() == "main"
    assert (await clone.head("main"), await clone.head("other")) == (last, None)
    assert await clone.branches() == ["main"]
    files = {file.path: file for file in await clone.files("main")}
    assert sorted(files) == ["README.md", "a\nb", "docs/big.bin", "docs/ä b.md", "link"]
    assert (files["docs/big.bin"].size, files["link"].is_link, files["README.md"].is_link) == (
        5000,
        True,
        False,
    )
    assert await clone.read("main", "README.md") == b"# Pay"
    assert await clone.read(sha, "a\nb") is None
    assert await clone.read("main", "link") is None, "a link is not followed, nor is its text a file"
    read = await clone.read_many(
        "main", ["README.md", "docs/ä b.md", "docs/big.bin", "a\nb", "none", "../x"], limit=4999
    )
    assert read == {"README.md": b"# Pay", "docs/ä b.md": b"x", "a\nb": b"odd name"}
    assert not (tmp_path / "home ü").exists()


async def test_an_empty_repository_is_fine(git: GitClient, make_work: Any, git_server: Any) -> None:
    work = make_work("empty")
    for address in (str(work.folder), f"{git_server.url}/empty/.git"):
        clone = await git.mirror(address)
        assert await clone.default_branch() == "main"
        assert await clone.head("main") is None
        assert (await clone.files("main"), await clone.log("main"), await clone.tags()) == ([], [], [])
        assert (await clone.last_commit_at("main"), await clone.top_committers("main")) == (None, [])
        assert await git.remote_refs(address) == {}


async def test_history_is_read_with_mailmap_and_trailers(git: GitClient, make_work: Any) -> None:
    work = make_work()
    ben = {"GIT_AUTHOR_NAME": "ben", "GIT_AUTHOR_EMAIL": "BEN@old.example"}
    work.commit(
        {"a.txt": "1", ".mailmap": "Ben Bo <ben@acme.example> <ben@old.example>\n"}, at="2026-01-01T00:00:00Z"
    )
    for day in (2, 3):
        work.commit(
            {"b/x.txt": str(day)},
            f"Day {day}\n\nWhy.\n\nCo-authored-by: Cleo <cleo@acme.example>\nRefs: #7",
            at=f"2026-01-0{day}T12:00:00+02:00",
            **ben,
        )
    clone = await git.mirror(str(work.folder))
    latest, *_rest = log = await clone.log("main")
    assert [commit.subject for commit in log] == ["Day 3", "Day 2", "Change"]
    assert (latest.author_name, latest.author_email) == ("Ben Bo", "ben@acme.example")
    assert latest.committed_at == latest.authored_at == datetime(2026, 1, 3, 10, tzinfo=UTC)
    assert latest.trailers == (("Co-authored-by", "Cleo <cleo@acme.example>"), ("Refs", "#7"))
    assert latest.parents == (log[1].sha,)
    assert log[2].parents == ()
    assert await clone.last_commit_at("main") == latest.committed_at
    assert [commit.subject for commit in await clone.log("main", limit=1)] == ["Day 3"]
    assert len(await clone.log("main", since=datetime(2026, 1, 2, 6, tzinfo=UTC))) == 2
    assert [commit.subject for commit in await clone.log("main", paths=["a.txt"])] == ["Change"]
    assert await clone.log("main", paths=["*.txt", ":(glob)**"]) == [], "paths are no patterns"
    assert await clone.top_committers("main") == [
        Committer("Ben Bo", "ben@acme.example", 2),
        Committer("Ana", "ana@acme.example", 1),
    ]
    assert await clone.top_committers("main", since=datetime(2026, 1, 3, tzinfo=UTC), limit=1) == [
        Committer("Ben Bo", "ben@acme.example", 1)
    ]


async def test_tags_lead_to_commits(git: GitClient, make_work: Any) -> None:
    work = make_work()
    first = work.commit({"a": "1"}, "First", at="2026-01-01T00:00:00Z")
    work.git("tag", "light")
    second = work.commit({"a": "2"}, "Second", at="2026-02-01T00:00:00Z")
    work.git("tag", "-a", "v1.0", "-m", "One\n\nFinally.", GIT_COMMITTER_DATE="2026-02-03T00:00:00Z")
    work.git("tag", "tree", "HEAD^{tree}")
    tags = await (await git.mirror(str(work.folder))).tags()
    assert [(tag.name, tag.sha, tag.message) for tag in tags] == [
        ("v1.0", second, "One\n\nFinally."),
        ("light", first, ""),
    ]
    assert [tag.date for tag in tags] == [datetime(2026, 2, 3, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]


async def test_a_commit_from_outside_any_calendar_is_read(git: GitClient, make_work: Any) -> None:
    work = make_work()
    work.commit({"a": "1"})
    raw = work.git("cat-file", "commit", "HEAD").replace("1767323045 +0000", "99999999999999999 +5130")
    (work.folder / "raw").write_text(raw + "\n")
    work.git(
        "update-ref", "refs/heads/main", work.git("hash-object", "-w", "--literally", "-t", "commit", "raw")
    )
    (commit,) = await (await git.mirror(str(work.folder))).log("main")
    assert commit.committed_at.tzinfo is UTC


@pytest.mark.parametrize("ref", ["none", "refs/heads/none", "0" * 40, "v1"])
async def test_what_is_not_there_is_told(ref: str, git: GitClient, make_work: Any) -> None:
    work = make_work()
    work.commit({"a": "1"})
    clone = await git.mirror(str(work.folder))
    for reading in (clone.files(ref), clone.log(ref), clone.top_committers(ref), clone.read(ref, "a")):
        with pytest.raises(SourceError, match=r"work"):
            await reading


@pytest.mark.parametrize(
    "ref", ["--output=/tmp/x", "-p", "", "a..b", "HEAD^{tree}", "main:a", "main@{1}", "a b", ":/x"]
)
async def test_a_ref_is_a_name_and_nothing_else(ref: str, git: GitClient, make_work: Any) -> None:
    work = make_work()
    work.commit({"a": "1"})
    clone = await git.mirror(str(work.folder))
    for reading in (clone.files(ref), clone.log(ref), clone.top_committers(ref)):
        with pytest.raises(Misconfigured, match="no name of a branch"):
            await reading


async def test_repositories_are_found_below_a_folder(git: GitClient, make_work: Any, tmp_path: Path) -> None:
    make_work("team/pay")
    make_work("team/pay/nested")
    make_work("web").git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    (tmp_path / "team/docs").mkdir()
    make_work("a/b/c/too-deep")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = await git.repositories(str(tmp_path))
    assert found.paths == [tmp_path / name for name in ("bare.git", "team/pay", "web")]
    assert not found.unreadable
    with pytest.raises(Misconfigured, match="outside"):
        await git.repositories("/etc")


async def test_a_folder_that_cannot_be_listed_is_told_and_the_portals_own_is_no_place(
    git: GitClient, make_work: Any, tmp_path: Path, settings: Any, locked: Any
) -> None:
    make_work("pay")
    make_work("portal/git/mirror")
    settings.PORTICO_HOME = tmp_path / "portal"
    with locked(tmp_path / "private"):
        found = await GitClient(files=FileReader([tmp_path])).repositories(str(tmp_path))
    assert found.paths == [tmp_path / "pay"]
    assert list(found.unreadable) == [tmp_path / "private"]
    assert "Permission denied" in found.unreadable[tmp_path / "private"].message


# Confinement


async def test_local_paths_stay_below_the_allowed_folders(
    make_git: MakeClient, make_work: Any, tmp_path: Path
) -> None:
    secret = make_work("secret")
    secret.commit({"a": "1"})
    allowed = tmp_path / "allowed"
    (allowed / "plain").mkdir(parents=True)
    (allowed / "link").symlink_to(secret.folder)
    (allowed / "pointer").mkdir()
    (allowed / "pointer/.git").write_text(f"gitdir: {secret.folder}/.git")
    borrower = make_work("allowed/borrower")
    (borrower.folder / ".git/objects/info").mkdir(exist_ok=True)
    (borrower.folder / ".git/objects/info/alternates").write_text(f"{secret.folder}/.git/objects\n")
    git = make_git(roots=[allowed])
    for path in (
        secret.folder,
        allowed / "link",
        allowed / "pointer",
        borrower.folder,
        allowed / ".." / "secret",
    ):
        for address in (str(path), f"file://{path}", f"git+file://{path}"):
            with pytest.raises(Misconfigured, match="outside the folders"):
                await git.mirror(address)
    with pytest.raises(Misconfigured, match="no Git repository"):
        await git.mirror(str(allowed / "plain"))


async def test_a_folder_inside_a_repository_is_not_that_repository(git: GitClient, make_work: Any) -> None:
    work = make_work()
    work.commit({"inner/a": "1"})
    with pytest.raises(Misconfigured, match="no Git repository"):
        await git.mirror(str(work.folder / "inner"))


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        ("ext::sh -c touch% /tmp/x", Misconfigured, "no address of a Git repository"),
        ("fd::3", Misconfigured, "no address"),
        ("-oProxyCommand=x", Misconfigured, "no address"),
        ("--upload-pack=x", Misconfigured, "no address"),
        ("relative/path", Misconfigured, "no address"),
        ("git://git.example/x", Misconfigured, "no address"),
        ("", Misconfigured, "no address"),
        ("ftp://git.example/x", Misconfigured, "no address"),
        ("file://other.example/x", Misconfigured, "another host"),
        ("ssh://-oProxyCommand=x/y", Misconfigured, "host name|web address"),
        ("https://ana:hunter2@git.example/x", Misconfigured, "name or password"),
        ("ssh://ana:hunter2@git.example/x", Misconfigured, "name or password"),
        ("http://169.254.169.254/x.git", OutboundRefused, "never"),
        ("http://10.0.0.1/x.git", OutboundRefused, "private"),
        ("ssh://git@10.0.0.1/x.git", OutboundRefused, "private"),
        ("git@10.0.0.1:x.git", OutboundRefused, "private"),
        ("git+https://10.0.0.1/x.git", OutboundRefused, "private"),
    ],
)
async def test_addresses_that_could_do_harm_are_refused(
    address: str, error: type[Exception], says: str, git: GitClient
) -> None:
    for asking in (git.mirror(address), git.remote_refs(address)):
        with pytest.raises(error, match=says) as caught:
            await asking
        assert "hunter2" not in str(caught.value)


async def test_nothing_that_a_repository_configures_is_run(
    git: GitClient, make_work: Any, tmp_path: Path
) -> None:
    work = make_work()
    work.commit({"a.txt": "1", ".gitattributes": "* diff=evil filter=evil"})
    trap = tmp_path / "trap"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch '{trap}'\ncat\n")
    script.chmod(0o755)
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "core.askPass", "core.gitProxy",
        "credential.helper", "gpg.program", "diff.external", "diff.evil.textconv",
        "filter.evil.smudge", "filter.evil.clean", "pager.log", "uploadpack.packObjectsHook",
        "alias.log", "alias.ls-tree", "core.alternateRefsCommand",
    ):  # fmt: skip
        work.git("config", key, f"!{script}" if key.startswith("alias") else str(script))
    for key, value in (
        ("log.showSignature", "true"), ("core.hooksPath", str(tmp_path)), ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::{script}"), ("protocol.ext.allow", "always"),
    ):  # fmt: skip
        work.git("config", key, value)
    signer = tmp_path / "signer"
    signer.write_text(
        "#!/bin/sh\ncat >/dev/null\nprintf '\\n[GNUPG:] SIG_CREATED \\n' >&2\n"
        "printf '%s\\n' '-----BEGIN PGP SIGNATURE-----' '-----END PGP SIGNATURE-----'\n"
    )
    signer.chmod(0o755)
    work.git(
        "-c",
        f"gpg.program={signer}",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "commit",
        "--quiet",
        "--allow-empty",
        "-S",
        "-m",
        "Signed",
    )
    trap.unlink(missing_ok=True)
    clone = await git.mirror(str(work.folder))
    assert await clone.read("main", "a.txt") == b"1"
    assert len(await clone.log("main")) == 2
    await clone.top_committers("main")
    await clone.tags()
    await git.remote_refs(str(work.folder))
    assert not trap.exists()


async def test_missing_objects_are_not_fetched_behind_our_back(
    git: GitClient, make_work: Any, tmp_path: Path
) -> None:
    work = make_work()
    work.commit({"a.txt": "1"})
    oid = work.git("rev-parse", "HEAD:a.txt")
    (work.folder / ".git/objects" / oid[:2] / oid[2:]).unlink()
    trap = tmp_path / "trap"
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::touch {trap}"),
        ("protocol.ext.allow", "always"),
    ):
        work.git("config", key, value)
    with pytest.raises(SourceUnavailable, match=r"lacks the content of a.txt|damaged|could not read"):
        await (await git.mirror(str(work.folder))).read("main", "a.txt")
    assert not trap.exists()


async def test_the_environment_and_its_settings_do_not_reach_git(
    git: GitClient, make_work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_work()
    work.commit({"a.txt": "1"})
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "broken"))
    (tmp_path / "broken").write_text("[nonsense")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[nonsense")
    assert len(await (await git.mirror(str(work.folder))).log("main")) == 1


async def test_a_command_has_limits_of_time_and_output(
    make_git: MakeClient, make_work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_work()
    work.commit({"a": "x" * 100_000})
    with pytest.raises(BadPayload, match="more than 10 bytes"):
        await make_git(output=10).remote_refs(str(work.folder))
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nsleep 60 & echo $$ $! >>"$(dirname "$0")/pids"\nwait\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="within 1 seconds"):
        await make_git(local=1).mirror(str(work.folder))
    task = asyncio.create_task(make_git().mirror(str(work.folder)))
    while len(pids := (fake.parent / "pids").read_text().split()) < 4:
        assert time.monotonic() - began < 15
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 20
    while any(is_running(pid) for pid in pids):  # what is killed takes a moment
        assert time.monotonic() - began < 25
        await asyncio.sleep(0.05)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misconfigured, match="not installed"):
        await make_git().mirror(str(work.folder))


# Over HTTP


async def test_a_remote_is_mirrored_and_brought_up_to_date(
    git: GitClient, make_work: Any, git_server: Any
) -> None:
    work = make_work("pay")
    work.commit({"a": "1"})
    work.git("branch", "old")
    work.git("tag", "v1")
    url = f"{git_server.url}/pay/.git"
    clone = await git.mirror(url)
    assert await clone.read("main", "a") == b"1"
    assert set(await clone.refs()) == {"HEAD", "refs/heads/main", "refs/heads/old", "refs/tags/v1"}
    fetched = len(git_server.requests)
    await git.mirror(f"git+{url}/")
    assert {method for method, _path, _auth in git_server.requests[fetched:]} <= {"GET", "POST"}
    assert not any("ref-in-want" in path for _method, path, _auth in git_server.requests)
    work.git("branch", "-D", "old")
    work.git("branch", "old/nested")
    work.git("tag", "-d", "v1")
    work.git("branch", "-m", "main", "trunk")
    work.git("commit", "--quiet", "--amend", "-m", "Forced")
    clone = await git.mirror(url)
    assert await clone.default_branch() == "trunk"
    assert [commit.subject for commit in await clone.log("trunk")] == ["Forced"]
    assert set(await clone.refs()) == {"HEAD", "refs/heads/trunk", "refs/heads/old/nested"}
    assert await git.remote_refs(url) == await clone.refs()


async def test_an_unchanged_remote_is_only_asked_for_its_refs(
    git: GitClient, make_work: Any, git_server: Any
) -> None:
    make_work("pay").commit({"a": "1"})
    url = f"{git_server.url}/pay/.git"
    await git.remote_refs(url)
    listing = len(git_server.requests)
    await git.mirror(url)
    before = len(git_server.requests)
    await git.mirror(url)
    assert len(git_server.requests) - before == listing


async def test_depth_limits_a_first_fetch_and_can_be_lifted(
    git: GitClient, make_work: Any, git_server: Any
) -> None:
    work = make_work("pay")
    for number in range(5):
        work.commit({"a": str(number)}, f"Commit {number}")
    url = f"{git_server.url}/pay/.git"
    assert len(await (await git.mirror(url, depth=2)).log("main")) == 2
    work.commit({"a": "new"}, "New")
    assert len(await (await git.mirror(url, depth=2)).log("main")) == 2
    assert len(await (await git.mirror(url)).log("main")) == 6
    work.commit({"a": "newer"}, "Newer")
    assert len(await (await git.mirror(url, depth=1)).log("main")) == 7, "what is there is not thrown away"


async def test_credentials_are_sent_and_never_shown(
    git: GitClient, make_work: Any, secure_git_servers: Any, tmp_path: Path
) -> None:
    make_work("pay").commit({"a": "1"})
    git_server, _other = secure_git_servers
    git_server.password = "hunter2"
    url = f"{git_server.url}/pay/.git"
    for credentials in (None, ("ana", "wr0ng-secret")):
        with pytest.raises(AuthFailed, match="other credentials") as caught:
            await git.mirror(url, credentials=credentials)
        assert "wr0ng" not in str(caught.value)
    clone = await git.mirror(url, credentials=("ana", "hunter2"))
    assert await clone.read("main", "a") == b"1"
    with pytest.raises(AuthFailed):  # a mirror that others may read is no way around
        await git.mirror(url)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "home ü").rglob("*") if path.is_file())
    assert b"hunter2" not in kept
    assert b"YW5hOmh1bnRlcjI=" not in kept


async def test_credentials_are_not_in_the_list_of_processes(
    git: GitClient, make_work: Any, secure_git_servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_work("pay").commit({"a": "1"})
    git_server, _other = secure_git_servers
    seen: list[str] = []
    start = asyncio.create_subprocess_exec

    async def spy(*args: str, **kwargs: Any) -> Any:
        seen.extend(args)
        return await start(*args, **kwargs)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", spy)
    await git.mirror(f"{git_server.url}/pay/.git", credentials=("ana", "hunter2"))
    assert "fetch" in seen
    assert not any("hunter2" in word or "YW5hOm" in word for word in seen)


async def test_credentials_go_neither_over_http_nor_to_where_a_host_redirects(
    git: GitClient, make_work: Any, git_server: Any, secure_git_servers: Any
) -> None:
    make_work("pay").commit({"a": "1"})
    with pytest.raises(Misconfigured, match="over http, where everybody"):
        await git.mirror(f"{git_server.url}/pay/.git", credentials=("ana", "hunter2"))
    assert git_server.requests == []
    one, other = secure_git_servers
    for there in (other, git_server):
        one.redirect = there.url
        with pytest.raises(Misconfigured, match="has moved"):
            await git.mirror(f"{one.url}/pay/.git", credentials=("ana", "hunter2"))
        assert there.requests == []
    assert any(authorization for _method, _path, authorization in one.requests)


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (403, AuthFailed, "a permission is missing"),
        (404, Misconfigured, "no Git repository at http"),
        (500, SourceUnavailable, "could not read"),
        (503, SourceUnavailable, "could not read"),
    ],
)
async def test_each_failure_says_who_has_to_act(
    status: int, error: type[Exception], says: str, git: GitClient, git_server: Any
) -> None:
    git_server.status = status
    with pytest.raises(error, match=says):
        await git.mirror(f"{git_server.url}/pay.git")


async def test_a_remote_that_is_away_or_hangs_is_an_outage(make_git: MakeClient, server: Any) -> None:
    async def hang(request: Any, writer: Any) -> None:
        await asyncio.sleep(30)

    server.on("/pay.git/info/refs", hang)
    git = make_git(network=1)
    for url in ("http://127.0.0.1:1/pay.git", f"{server.url}/pay.git"):
        with pytest.raises(SourceUnavailable):
            await git.mirror(url)


async def test_what_is_no_git_server_is_told(git: GitClient, server: Any, make_answer: Any) -> None:
    """A sign-in page must not look like a repository that has lost its branches."""
    for page in ("<html>Sign in</html>", "<html>\n<p>Sign in\n", ""):
        server.on("/pay.git/info/refs", make_answer(page, headers={"Content-Type": "text/html"}))
        with pytest.raises(Misconfigured, match=r"not as a Git repository does|no Git repository"):
            await git.mirror(f"{server.url}/pay.git")


async def test_redirects_are_not_followed(
    git: GitClient, make_work: Any, git_server: Any, server: Any
) -> None:
    make_work("pay").commit({"a": "1"})
    git_server.redirect = server.url
    with pytest.raises(Misconfigured, match=r"has moved|redirects"):
        await git.mirror(f"{git_server.url}/pay/.git")
    assert server.requests == []


async def test_the_judged_address_is_the_one_that_is_used(
    make_git: MakeClient, make_work: Any, git_server: Any
) -> None:
    make_work("pay").commit({"a": "1"})
    policy = OutboundPolicy(["127.0.0.1"], resolver=rebinding(["127.0.0.1"], ["10.0.0.1"]))
    git = make_git(policy)
    clone = await git.mirror(
        f"http://rebind.example:{git_server.port}/pay/.git"
    )  # a name that no resolver knows
    assert await clone.read("main", "a") == b"1"
    with pytest.raises(OutboundRefused, match=r"rebind.example is 10.0.0.1"):
        await git.mirror(f"http://rebind.example:{git_server.port}/pay/.git")


async def test_a_mirror_left_by_a_killed_process_is_mended(
    git: GitClient, make_work: Any, git_server: Any, tmp_path: Path
) -> None:
    work = make_work("pay")
    work.commit({"a": "1"})
    url = f"{git_server.url}/pay/.git"
    await git.mirror(url)
    (mirror,) = (path for path in (tmp_path / "home ü/git").iterdir() if path.is_dir())
    for name in ("packed-refs.lock", "HEAD.lock", "refs/heads/main.lock", "shallow.lock"):
        (mirror / name).touch()
    work.commit({"a": "2"})
    assert await (await git.mirror(url)).read("main", "a") == b"2"
    for damage in (
        lambda: [path.write_bytes(b"") for path in (mirror / "objects").rglob("*") if path.is_file()],
        lambda: (mirror / "HEAD").unlink(),
        lambda: (mirror / "config").write_text("[nonsense"),
    ):
        for path in mirror.rglob("*"):
            if path.is_file():
                path.chmod(0o600)
        damage()
        with suppress(SourceUnavailable):  # noticed when it is read
            await (await git.mirror(url)).read("main", "a")
        assert await (await git.mirror(url)).read("main", "a") == b"2"


async def test_one_fetch_at_a_time_for_a_mirror(
    make_git: MakeClient, make_work: Any, git_server: Any, tmp_path: Path
) -> None:
    make_work("pay").commit({"a": "1"})
    url = f"{git_server.url}/pay/.git"
    clones = await asyncio.gather(*(make_git().mirror(url) for _ in range(4)))
    assert [await clone.read("main", "a") for clone in clones] == [b"1"] * 4
    (lock,) = (tmp_path / "home ü/git").glob("*.lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SourceUnavailable, match="another process"):
            await make_git(lock=0.5).mirror(url)


async def test_unused_mirrors_are_removed(
    git: GitClient, make_work: Any, git_server: Any, tmp_path: Path
) -> None:
    for name in ("pay", "web"):
        make_work(name).commit({"a": "1"})
        await git.mirror(f"{git_server.url}/{name}/.git")
    lock = next((tmp_path / "home ü/git").glob("*.lock"))
    os.utime(lock, (time.time() - 5000, time.time() - 5000))
    assert await git.prune(unused_for=timedelta(hours=1)) == 1
    assert not lock.exists()
    assert not lock.with_suffix("").exists()
    assert len(list((tmp_path / "home ü/git").iterdir())) == 2


async def test_over_ssh_the_judged_address_is_used_without_a_prompt(
    make_git: MakeClient, make_work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ssh notes how it was called and runs the other side here."""
    work = make_work("pay")
    work.commit({"a": "1"})
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" >'{tmp_path}/called'\nexec git-upload-pack '{work.folder}/.git'\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    policy = OutboundPolicy(["git.corp"], resolver=rebinding(["10.1.2.3"]))
    clone = await make_git(policy).mirror("git@git.corp:team/pay.git")
    assert isinstance(clone, Clone)
    assert await clone.read("main", "a") == b"1"
    called = (tmp_path / "called").read_text().splitlines()
    assert {"HostName=10.1.2.3", "HostKeyAlias=git.corp", "BatchMode=yes"} <= set(called)
    assert called[-2:] == ["git@git.corp", "git-upload-pack '/team/pay.git'"]
    with pytest.raises(Misconfigured, match="not a password"):
        await make_git(policy).mirror("git@git.corp:team/pay.git", credentials=("ana", "pw"))
