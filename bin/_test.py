"""`bin/test`: the tests, on a PostgreSQL and a Redis of their own that are thrown away afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from _console import Console, main
from _home import Home
from _parent import dying_with_parent
from _servers import Servers
from _setup import PYTHON, ROOT, ensure
from _supervise import Supervisor


def test() -> int:
    """Run pytest with the arguments given; gives its exit code."""
    console = Console(sys.stdout)
    _forget_settings()
    ensure(console, dev=True)
    folder = Path(tempfile.mkdtemp(prefix="portico-test-"))
    folder.chmod(0o711)  # the database's unprivileged user has to pass through
    os.environ["PORTICO_HOME"] = str(folder)
    try:
        home = Home()
        supervisor = Supervisor(console, home, show=False)
        try:
            servers = Servers(home.path, throw_away=True)
            servers.start(supervisor)
            return _pytest(supervisor, {**os.environ, **servers.addresses})
        finally:
            supervisor.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget_settings() -> None:
    """Leave out what a shell may have set for a real Portico; its data are not for tests."""
    for name in list(os.environ):
        if name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE") or (
            name.startswith("PORTICO_") and not name.startswith(("PORTICO_TEST_", "PORTICO_PERF_"))
        ):
            del os.environ[name]


def _pytest(supervisor: Supervisor, environment: dict[str, str]) -> int:
    given = sys.argv[1:]
    tier = [] if "--full" in given else ["-m", "not full"]
    given = [argument for argument in given if argument != "--full"]
    names_tests = any(Path(argument.partition("::")[0]).exists() for argument in given)
    # A file's tests stay together: they share what is dear to start.
    spread = [] if names_tests else ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    pytest = [str(PYTHON), "-m", "pytest", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    # Else what a failing example was is kept in the current folder, which may be anybody's.
    environment.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".hypothesis"))
    # Else every program that a test starts compiles all of Portico anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        [*pytest, *tier, *spread, *given, *([] if names_tests else [str(ROOT / "tests")])],
        cwd=None if names_tests else ROOT,
        env=environment,
        preexec_fn=dying_with_parent(signal.SIGTERM),
    )
    # A terminal sends Ctrl-C to pytest as well; other requests to stop are passed on as that.
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.send_signal(signal.SIGINT))
    while process.poll() is None:
        supervisor.turn(0.2)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    main(test)
