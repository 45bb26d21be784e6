"""The file reader: what it reads, and every way out of the allowed folders that it refuses."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from integrations.errors import BadPayload, Misconfigured, NotThere, SourceUnavailable
from integrations.files import FileReader, matches

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed ü"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("z.yaml", "a/b/c.yml", "a/b.yaml", "a/x.txt", ".git/config.yaml"):
        (folder / name).write_text(name)
    (tmp_path / "secret.yaml").write_text("secret")
    return folder


@pytest.fixture
def files(root: Path) -> FileReader:
    return FileReader([root])


async def collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def test_files_are_read_whole_up_to_a_limit(files: FileReader, root: Path) -> None:
    assert await files.read(root / "z.yaml") == b"z.yaml"
    assert await files.read(str(root / "z.yaml"), limit=6) == b"z.yaml"
    with pytest.raises(BadPayload, match=r"z.yaml has more than 5 bytes"):
        await files.read(root / "z.yaml", limit=5)
    with pytest.raises(NotThere, match=r"none.yaml"):
        await files.read(root / "none.yaml")


async def test_paths_out_of_the_allowed_folders_are_refused(
    files: FileReader, root: Path, tmp_path: Path
) -> None:
    (root / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (root / "up").symlink_to(tmp_path)
    (tmp_path / "allowed ü.yaml").write_text("a folder's name is no prefix of a file's")
    for path in (
        tmp_path / "secret.yaml",
        root / ".." / "secret.yaml",
        root / "link.yaml",
        root / "up" / "secret.yaml",
        tmp_path / "allowed ü.yaml",
        tmp_path / "not-there-either",
        root / "up" / "none",
        Path("/etc/passwd"),
    ):
        with pytest.raises(Misconfigured, match=r"outside the folders.*PORTICO_FILES_ALLOW"):
            await files.read(path)
    for path in ("z.yaml", "", f"{root}/z.yaml\0.txt"):
        with pytest.raises(Misconfigured, match="not the full path"):
            await files.read(path)
    with pytest.raises(Misconfigured, match="outside"):
        await FileReader([]).read(root / "z.yaml")


async def test_links_inside_the_allowed_folders_are_read(root: Path, tmp_path: Path) -> None:
    (root / "inner.yaml").symlink_to(root / "a" / "b.yaml")
    (tmp_path / "other").symlink_to(root)
    files = FileReader([tmp_path / "other"])
    assert await files.read(root / "inner.yaml") == b"a/b.yaml"
    assert await files.read(tmp_path / "other" / "z.yaml") == b"z.yaml"


async def test_only_plain_files_are_opened(
    files: FileReader, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(root)  # a socket's path is short
        listening.bind("socket")
        began = time.monotonic()
        for name in ("pipe", "a"):
            with pytest.raises(Misconfigured, match="not a plain file"):
                await files.read(root / name)
        with pytest.raises(SourceUnavailable, match="cannot be read"):
            await files.read(root / "socket")
        with pytest.raises(Misconfigured, match="not a plain file"):
            await FileReader(["/dev"]).read("/dev/zero")
        assert time.monotonic() - began < 2
    assert [path.name async for path in files.walk(root)] == ["c.yml", "b.yaml", "x.txt", "z.yaml"]


async def test_a_loop_of_links_is_an_error_and_no_endless_walk(files: FileReader, root: Path) -> None:
    (root / "round").symlink_to(root / "round")
    (root / "a" / "again").symlink_to(root)
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        await files.read(root / "round")
    assert len(await collect(files.walk(root))) == 4


async def test_a_folder_swapped_for_a_link_after_the_check_is_noticed(
    files: FileReader, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.yaml").write_text("secret")
    check = files._true_place

    def and_swap(path: str) -> str:
        true = check(path)
        (root / "a").rename(tmp_path / "was-a")
        (root / "a").symlink_to(tmp_path)
        return true

    monkeypatch.setattr(files, "_true_place", and_swap)
    with pytest.raises(Misconfigured, match="outside"):
        await files.read(root / "a" / "b.yaml")


async def test_walks_are_sorted_and_filtered(files: FileReader, root: Path, tmp_path: Path) -> None:
    (root / "a" / "out.yaml").symlink_to(tmp_path / "secret.yaml")
    (root / "a" / "in.yaml").symlink_to(root / "z.yaml")
    (root / "a" / "dangling.yaml").symlink_to(root / "gone")
    found = [path.relative_to(root).as_posix() async for path in files.walk(root, ["**/*.yaml", "**/*.yml"])]
    assert found == ["a/b/c.yml", "a/b.yaml", "a/in.yaml", "z.yaml"]
    assert [path.name async for path in files.walk(root, ["*.yaml"])] == ["z.yaml"]
    with pytest.raises(Misconfigured, match="not a folder"):
        await collect(files.walk(root / "z.yaml"))
    with pytest.raises(NotThere):
        await collect(files.walk(root / "none"))


async def test_a_folder_that_cannot_be_listed_is_no_empty_folder(
    files: FileReader, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Misconfigured, match="Permission denied"):
        await collect(files.walk(root))


async def test_a_walk_has_a_limit(files: FileReader, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.files.MAX_ENTRIES", 5)
    with pytest.raises(Misconfigured, match="more than 5 files"):
        await collect(files.walk(root))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\r\n\r\nb", [b"a", b"", b"b"]),
        (b"x" * 3_000_000 + b"\ny\n", [b"x" * 3_000_000, b"y"]),
    ],
)
async def test_lines_come_without_their_ends(
    content: bytes, lines: list[bytes], files: FileReader, root: Path
) -> None:
    (root / "lines").write_bytes(content)
    assert await collect(files.lines(root / "lines")) == lines


async def test_a_line_has_a_limit_and_its_number_is_told(files: FileReader, root: Path) -> None:
    (root / "lines").write_bytes(b"1\n2\n" + b"3" * 100 + b"\n4\n")
    lines = files.lines(root / "lines", limit=50)
    assert [await anext(lines), await anext(lines)] == [b"1", b"2"]
    with pytest.raises(BadPayload, match=r"Line 3 of .*lines is longer than 50 bytes"):
        await anext(lines)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("**/*.yaml", "a.yaml", True),
        ("**/*.yaml", "a/b/c.yaml", True),
        ("*.yaml", "a/b.yaml", False),
        ("./*.yaml", "b.yaml", True),
        ("a/**", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c", True),
        ("a/**/c", "b/a/c", False),
        ("**", "a/b", True),
        ("*.{yaml,yml}", "x.yml", True),
        ("{a,b/{c,d}}/x", "b/d/x", True),
        ("{a,b}/x", "c/x", False),
        ("[ab]?.y", "ac.y", True),
        ("[!ab].y", "a.y", False),
        ("a.b", "axb", False),
        ("A.yaml", "a.yaml", False),
        ("x{y", "x{y", True),
        ("[", "[", True),
        ("a b+(c).yaml", "a b+(c).yaml", True),
    ],
)
async def test_globs(pattern: str, path: str, fits: bool) -> None:
    assert matches(path, [pattern]) is fits


async def test_no_glob_takes_long() -> None:
    began = time.process_time()
    for pattern in ("*a" * 30 + "b", "**/" * 30 + "b", "{a,b}" * 30, "{" * 1000 + "}" * 1000):
        assert not matches("/".join(["a" * 200] * 20), [pattern])
    assert time.process_time() - began < 2


async def test_a_folder_that_holds_the_portals_own_does_not_open_it(tmp_path: Path, settings: Any) -> None:
    home = tmp_path / "var"
    (home / "sample").mkdir(parents=True)
    (home / "secret-key").write_text("hush")
    (home / "sample" / "a.jsonl").write_text("{}")
    (tmp_path / "link").symlink_to(home / "secret-key")
    settings.PORTICO_HOME = home
    reader = FileReader([tmp_path, home / "sample"])
    for path in (home / "secret-key", tmp_path / "link", home, tmp_path / "x" / ".." / "var" / "secret-key"):
        with pytest.raises(Misconfigured, match="the portal's own folder"):
            reader.confine(path)
    assert await reader.read(home / "sample" / "a.jsonl") == b"{}"
    assert [path async for path in reader.walk(tmp_path, ["**/secret-key"])] == []


async def test_no_setting_opens_the_portals_own_folder(tmp_path: Path, settings: Any) -> None:
    home = tmp_path / "home"
    (home / "git").mkdir(parents=True)
    (home / "secret-key").write_text("hush")
    (home / "git" / "x.yaml").write_text("a: 1")
    settings.PORTICO_HOME = home
    for root in (home, home / "git", home / "secret-key", "/"):
        reader = FileReader([root])
        for path in (home / "secret-key", home / "git" / "x.yaml"):
            with pytest.raises(Misconfigured, match="holds its keys and its database"):
                await reader.read(path)


async def test_a_refusal_names_the_place_what_is_allowed_and_the_way(tmp_path: Path, settings: Any) -> None:
    settings.PORTICO_HOME = tmp_path / "home"
    (tmp_path / "a.yaml").write_text("a: 1")
    allowed, sample = tmp_path / "open", tmp_path / "home" / "sample"
    with pytest.raises(Misconfigured) as caught:
        FileReader([allowed, sample]).confine(tmp_path / "a.yaml")
    assert caught.value.message == (
        f"{tmp_path}/a.yaml lies outside the folders that may be read: {allowed}. Move it below one of them, or name "
        "it, or a folder above it, in the variable PORTICO_FILES_ALLOW too, and start Portico again."
    )


async def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_is_found(root: Path, locked: Any) -> None:
    with locked(root / "a" / "private"):
        files = FileReader([root])
        found = await files.find(root, ["**/*.yaml"])
        with pytest.raises(Misconfigured, match="private cannot be read: Permission denied"):
            await collect(files.walk(root, ["**/*.yaml"]))
    assert [path.name for path in found.paths] == ["b.yaml", "z.yaml"]
    assert list(found.unreadable) == [root / "a" / "private"]
