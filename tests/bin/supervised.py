"""A supervisor with two odd children, for the tests to kill; its argument is a folder for pids."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bin"))

from _console import Console, main
from _home import Home
from _supervise import Service, Supervisor

# Has a child of its own in its group and another in a session of its own, and ends only when it is asked to.
POLITE = """
import os, subprocess, sys, time
where = sys.argv[1]
def note(name, pid):
    with open(f"{where}/.{name}", "w") as file:
        file.write(str(pid))
    os.replace(f"{where}/.{name}", f"{where}/{name}")
near = subprocess.Popen(["sleep", "600"])
far = subprocess.Popen(["sleep", "600"], start_new_session=True)
print("Grüße", flush=True)  # before the notes, at which the tests begin to kill
note("near", near.pid); note("far", far.pid); note("polite", os.getpid())
time.sleep(600)
"""
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(f"{sys.argv[1]}/.stubborn", "w") as file:
    file.write(str(os.getpid()))
os.replace(f"{sys.argv[1]}/.stubborn", f"{sys.argv[1]}/stubborn")
time.sleep(600)
"""


def run() -> int:
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which a supervisor honours
    supervisor = Supervisor(Console(sys.stdout), Home())
    try:
        for name, code in {"polite": POLITE, "stubborn": STUBBORN}.items():
            supervisor.start(Service(name, [sys.executable, "-c", code, str(folder)], dict(os.environ)))
        supervisor.until(
            lambda: all((folder / name).exists() for name in ("polite", "stubborn")),
            seconds=20,
            what="No start",
        )
        while not supervisor.stops_asked:
            if supervisor._watcher:
                (folder / ".watcher").write_text(str(supervisor._watcher.pid))
                (folder / ".watcher").replace(folder / "watcher")
            supervisor.turn(0.5)
    finally:
        supervisor.stop()
    return 0


if __name__ == "__main__":
    main(run)
