"""What others recorded of tools, from the packages in which they publish it: fetched once, checked, kept in a cache."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integrations.servers import ServerMissing, cache_folder


def npm_package(name: str, version: str, integrity: str, only: Sequence[str] = ()) -> Path:
    """The folder of an npm package.

    :param integrity: as a lock file has it, `sha512-...`.
    :param only: the files that are wanted of a large one.
    :raises ServerMissing: if it cannot be had.
    """
    command = ["npm", "pack", "--silent", f"{name}@{version}"]
    return (
        _fetched(f"npm-{name.strip('@').replace('/', '-')}-{version}", command, integrity, only) / "package"
    )


def sdist(name: str, version: str, integrity: str, only: Sequence[str] = ()) -> Path:
    """The folder of a source distribution from PyPI; as `npm_package`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
    return next(
        _fetched(f"pypi-{name}-{version}", [*command, f"{name}=={version}"], integrity, only).iterdir()
    )


def _fetched(label: str, command: list[str], integrity: str, only: Sequence[str]) -> Path:
    home = cache_folder() / f"{label}-{hashlib.sha256(repr((integrity, only)).encode()).hexdigest()[:8]}"
    with (cache_folder() / f"{label}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if home.exists():
            return home
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            archive = _download(label, command, Path(folder))
            found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            assert f"sha512-{found}" == integrity, f"{label} is not what it was when its checksum was noted"
            unpacked = Path(folder) / "unpacked"
            with tarfile.open(archive) as tar:
                wanted = [
                    member
                    for member in tar
                    if not only or any(member.name.partition("/")[2].startswith(path) for path in only)
                ]
                # The first releases of Python 3.11 know no filter; what is unpacked bears its checksum.
                safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(unpacked, members=wanted, **safely)
            unpacked.rename(home)
    return home


def _download(label: str, command: list[str], folder: Path) -> Path:
    if shutil.which(command[0]) is None:
        raise ServerMissing(f"{label} cannot be fetched without {command[0]}")
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env={**os.environ}
        )
    except subprocess.TimeoutExpired:
        raise ServerMissing(f"{label} cannot be fetched: {command[0]} took too long") from None
    archives = [path for path in folder.iterdir() if path.suffix in {".tgz", ".gz"}]
    if ran.returncode or len(archives) != 1:
        raise ServerMissing(f"{label} cannot be fetched: {ran.stderr.strip()[-300:]}")
    return archives[0]
