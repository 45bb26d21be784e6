"""Ends what a supervisor leaves behind when it is killed with SIGKILL.

Its standard input is a pipe from the supervisor: each line lists the process groups that run now and the
signal that ends each; the end of the file means that the supervisor is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path


def strays(marker: str) -> list[int]:
    """List the processes that carry a marker in their environment, whatever their group or parent."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; says whether there still is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group that is all but gone
        return False
    return True


def kill_strays(marker: str) -> None:
    for process in strays(marker):
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)


def watch(marker: str) -> None:
    """Wait for the supervisor's end, then end its groups: first as each likes it, then for certain."""
    groups: dict[str, int] = {}
    for line in sys.stdin:
        groups = json.loads(line)
    alive = [int(group) for group, number in groups.items() if signal_group(int(group), number)]
    end = time.monotonic() + 4
    while alive and time.monotonic() < end:
        time.sleep(0.1)
        alive = [group for group in alive if signal_group(group, 0)]
    for group in alive:
        signal_group(group, signal.SIGKILL)
    kill_strays(marker)


if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)
    _lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(_lock, fcntl.LOCK_EX)
    watch(sys.argv[2])
