"""PostgreSQL and Redis under a supervisor, for the tests to kill; prints `ready` when both answer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "bin"))

from _console import Console, main
from _home import Home
from _servers import Servers
from _supervise import Supervisor


def run() -> int:
    home = Home()
    supervisor = Supervisor(Console(sys.stderr), home, show=False)
    try:
        servers = Servers(home.path, throw_away="--throw-away" in sys.argv)
        servers.start(supervisor)
        print("ready", servers.addresses["DATABASE_URL"], servers.addresses["REDIS_URL"], flush=True)
        while not supervisor.stops_asked:
            supervisor.turn(0.5)
    finally:
        supervisor.stop()
    return 0


if __name__ == "__main__":
    main(run)
