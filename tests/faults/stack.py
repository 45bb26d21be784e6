"""All of Portico's processes under its own supervisor, for the tests to kill. Its arguments: the port of the web
server, and what `tests.faults.application` takes; without those the workers are in no more haste than anywhere. Prints
a token when it is prepared."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bin"))

import _processes
import _servers
from _console import Console, main
from _home import Home
from _supervise import Service, Supervisor

# Whatever environment the tests run in has all that is needed.
_servers.VENV = Path(sys.prefix)
_processes.PYTHON = Path(sys.executable)
APPLICATION = "tests.faults.application"


def run() -> int:
    port, *addresses = sys.argv[1:]
    home = Home()
    supervisor = Supervisor(Console(sys.stderr), home, show=False)
    try:
        environment = _processes.application_environment(home, address=f"http://127.0.0.1:{port}")
        environment |= _processes.start_servers(home, supervisor)
        prepare = [sys.executable, "-m", APPLICATION, *addresses]
        supervisor.run_once(
            Service("prepare", prepare, environment), relay=lambda line: print(line, flush=True)
        )
        for service in _processes.portal(home, environment, bind="127.0.0.1", port=int(port)):
            if addresses:
                service.command = [*service.command, "--celery", APPLICATION]
            supervisor.start(service)
        while not supervisor.stops_asked:
            supervisor.turn(0.5)
    finally:
        supervisor.stop()
    return 0


if __name__ == "__main__":
    main(run)
