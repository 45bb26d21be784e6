"""The launchers find their files and a Python from wherever they are called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout below a name with blanks, quotes and umlauts, whose command prints what it was given."""
    folder = tmp_path / "Jörg's Pört al"
    (folder / "bin").mkdir(parents=True)
    for name in ("up", "_launch.sh"):
        shutil.copy(ROOT / "bin" / name, folder / "bin" / name)
    (folder / "bin" / "_up.py").write_text("import sys\nprint(sys.version_info[:2], sys.argv)\n")
    return folder


def python(folder: Path, name: str, version: str) -> None:
    """Put a program into a folder that says it is that Python."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\ncase $1 in -c) echo {version};; *) echo "{version} runs $*";; esac\n')
    program.chmod(0o755)


def call(
    *command: str | Path, path: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PATH": path} if path else {})}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


def test_through_a_chain_of_symbolic_links_from_another_folder(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "first").symlink_to("a b/second")
    (tmp_path / "a b" / "second").symlink_to(checkout / "bin" / "up")
    found = call(tmp_path / "first", "--port", "1 2", cwd=Path("/"))
    arguments = [str(checkout / "bin" / "_up.py"), "--port", "1 2"]
    assert found.stdout.strip().endswith(repr(arguments)), found


def test_closed_standard_streams_are_given_to_no_other_file(checkout: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    (checkout / "bin" / "_up.py").write_text(
        "import os, sys\n"
        f"with open({str(said)!r}, 'w') as file:\n"
        "    print(file.fileno() > 2, *[os.fstat(n).st_rdev == os.stat('/dev/null').st_rdev for n in range(3)],"
        " sys.stdout.isatty(), file=file)\n"
    )
    call("/bin/sh", "-c", '"$1" <&- >&- 2>&-', "sh", checkout / "bin" / "up")
    assert said.read_text().split() == ["True"] * 4 + ["False"]


def test_the_newest_supported_python_is_taken(checkout: Path, tmp_path: Path) -> None:
    python(tmp_path / "p", "python3.12", "3.12")
    python(tmp_path / "p", "python3.11", "3.11")
    python(tmp_path / "p", "python3", "3.15")
    for name in ("sh", "dirname", "readlink"):
        (tmp_path / "p" / name).symlink_to(shutil.which(name) or "")
    found = call("/bin/sh", checkout / "bin" / "up", path=str(tmp_path / "p"))
    assert found.stdout.startswith("3.12 runs"), found


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.10", "3.15"])
def test_without_a_supported_python_a_sentence_says_which(
    checkout: Path, tmp_path: Path, version: str
) -> None:
    python(tmp_path / "p", "python3", version)
    for name in ("sh", "dirname", "readlink"):
        (tmp_path / "p" / name).symlink_to(shutil.which(name) or "")
    found = call("/bin/sh", checkout / "bin" / "up", path=str(tmp_path / "p"))
    assert found.returncode == 1
    assert found.stdout == ""
    assert f"found: Python {version}" in found.stderr
    assert "Portico needs Python 3.11" in found.stderr
