"""What every test shares: a home of its own, shut sockets, and programs that may be missing."""

from __future__ import annotations

import gc
import ipaddress
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = [
    "tests.cast",
    "tests.catalog_data",
    "tests.integrations.servers",
    "tests.world",
    "tests.integrations.tool",
]

ROOT = Path(__file__).resolve().parent.parent


# Of those with a browser, what takes long: the others fill the time until both of two workers are done.
LONG = ("e2e/test_pages.py", "e2e/test_three_tools.py", "e2e/test_first_hour.py", "e2e/test_hostile.py")

gc.disable()  # all that is imported stays


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the browser for last: once it is started its event loop stays, and no other can run beside it.

    A file goes to one worker as a whole, so one test with a browser makes the whole file late.
    """

    def has_browser(item: pytest.Item) -> bool:
        return "playwright" in getattr(item, "fixturenames", ())

    late = {item.path for item in items if has_browser(item)}
    rank = {ROOT / "tests" / name: place for place, name in enumerate(LONG, start=-len(LONG))}
    files = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(
        key=lambda item: (item.path in late, rank.get(item.path, 0), files[item.path], has_browser(item))
    )


def pytest_collection_finish() -> None:
    """Spare the garbage collector all that was imported and collected; looking at it took a sixth of the time."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def shut_sockets() -> Iterator[None]:
    """Let tests reach Unix sockets and loopback only: no test may depend on another machine, or wait for its names."""
    patch = pytest.MonkeyPatch()
    patch.setattr(socket, "getaddrinfo", _knowing_this_machine(socket.getaddrinfo))
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def brief_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever visits all addresses is not held up by one that goes on for minutes."""
    monkeypatch.setattr("catalog.api.events.LIFE_SECONDS", 0.0)


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and not _is_loopback(address[0]):
            raise AssertionError(f"A test tried to reach {address}; only loopback is open.")
        return connect(self, address)

    return guarded


def _knowing_this_machine(look_up: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: Any, *args: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host or "localhost"
        if name.lower() not in {"localhost", socket.gethostname().lower()} and not _is_address(name):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **more)

    return guarded


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def require_program() -> Callable[..., str]:
    """Find a program by its names, first that exists; without one skip, or fail where CI must have it."""

    def require(*names: str) -> str:
        for name in names:
            if found := shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])):
                return found
        reason = f"needs {' or '.join(names)}, which is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"This test {reason}; .ci/run installs it.")
        pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Give the folder of data that is shared between checkouts, or skip."""
    folder = Path(os.environ.get("PORTICO_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs the shared test data: set PORTICO_TEST_DATA (no folder {folder})")
    return folder


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any], require_program: Callable[..., str]
) -> dict[str, Any]:
    """Run the machine's own Chromium: no browser is downloaded."""
    chromium = require_program("chromium", "chromium-browser", "google-chrome")
    return {**browser_type_launch_args, "executable_path": chromium, "args": ["--no-sandbox"]}
