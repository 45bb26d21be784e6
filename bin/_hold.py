"""Runs PostgreSQL and Redis for `bin/manage` while `bin/up` does not, for as long as somebody needs them.

Started by the first `bin/manage`; says `ready` or why not on its standard output, and ends by a signal or
when nobody holds the lock `users` any more.
"""

from __future__ import annotations

import contextlib
import os
import sys

from _console import Console, Refusal, explain_os_error
from _home import Home
from _processes import start_servers
from _supervise import Supervisor


def hold() -> int:
    home = Home()
    lock, users = home.lock("servers"), home.lock("users")
    if not lock.take():
        print("busy", flush=True)
        return 1
    lock.sign(pid=os.getpid(), command="bin/manage")
    supervisor = Supervisor(Console(sys.stderr), home, show=False)
    try:
        start_servers(home, supervisor)
        print("ready", flush=True)
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        # The one who started this holds `users` already, so it is not free by mistake.
        while not supervisor.stops_asked and not users.take():
            supervisor.turn(0.5)
    finally:
        with contextlib.suppress(OSError):
            supervisor.stop()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(hold())
    except Refusal as refusal:
        print(str(refusal), flush=True)
    except OSError as error:
        print(explain_os_error(error), flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    sys.exit(1)
