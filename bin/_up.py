"""`bin/up`: sets up what is missing and runs all of Portico as the children of this process."""

from __future__ import annotations

import argparse
import errno
import http.client
import os
import socket
import sys
import time

from _console import Console, Refusal, main
from _home import Home, Lock
from _processes import (
    WILDCARDS,
    Preparation,
    application_environment,
    check_environment,
    portal,
    runs_own_servers,
    start_servers,
)
from _setup import PYTHON, ROOT, ensure
from _supervise import Service, Supervisor


def up() -> int:
    """Run until a signal says stop."""
    options = _parse()
    console = Console(sys.stdout)
    console.say(f"Portico in {ROOT}")
    home = Home()
    lock = _become_the_one(home, console)
    _check_port(options)
    ensure(console)
    host = socket.gethostname() if options.bind in WILDCARDS else options.bind
    address = os.environ.get("PORTICO_URL") or f"http://{f'[{host}]' if ':' in host else host}:{options.port}"
    environment = application_environment(home, address=address)
    check_environment(environment, servers=True)
    lock.sign(pid=os.getpid(), command="bin/up", address=address)
    supervisor = Supervisor(console, home)
    try:
        _start(home, supervisor, console, options, environment)
        console.say(f"\nPortico is ready at {address}\n")
        while not supervisor.stops_asked:
            supervisor.turn(1.0)
        console.say("\nStopping; this takes a moment.")
    finally:
        supervisor.stop()
    console.say("Portico has stopped.")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/up", description="Run Portico: all it needs, in one command.")
    parser.add_argument("--port", type=int, default=8000, help="port of the web server (default 8000)")
    parser.add_argument("--bind", default="127.0.0.1", help="address it listens on (default 127.0.0.1)")
    parser.add_argument("--sample", action="store_true", help="load a sample company to look around in")
    options = parser.parse_args()
    if not 0 < options.port < 65536:
        raise Refusal(f"{options.port} is no port. Choose one from 1 to 65535, as in: bin/up --port 8001")
    return options


def _become_the_one(home: Home, console: Console) -> Lock:
    """Take the home's servers for this process.

    :raises Refusal: if another bin/up has them.
    """
    lock = home.lock("servers")
    while not lock.wait(0.5):  # a bin/manage looks at it now and then
        holder = lock.holder()
        if holder.get("command") == "bin/up":
            where = holder.get("address", "")
            raise Refusal(
                f"Portico already runs on {home.path} (process {holder.get('pid')}): {where}\n"
                "Stop it first, or set PORTICO_HOME to another folder and choose another --port."
            )
        console.say("  bin/manage is using the database; waiting for it to end.")
        lock.wait()
    lock.sign(pid=os.getpid(), command="bin/up", address="it is starting")
    return lock


def _check_port(options: argparse.Namespace) -> None:
    """Try whether the port is free.

    :raises Refusal: if it is not, or the address is not this machine's.
    """
    where = f"{options.bind}, port {options.port},"
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            options.bind, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as error:
        raise Refusal(f"{options.bind} is no address of this machine. Choose another with --bind.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refusal(
                f"Port {options.port} on {options.bind} is taken by another program. "
                f"Choose another, as in: bin/up --port {options.port + 1 if options.port < 65535 else 8001}"
            ) from error
        if error.errno == errno.EACCES:
            raise Refusal(f"{where} may only be used by root. Choose one above 1023 with --port.") from error
        raise Refusal(
            f"{where} cannot be listened on: {error.strerror}. Choose another with --bind."
        ) from error


def _start(
    home: Home,
    supervisor: Supervisor,
    console: Console,
    options: argparse.Namespace,
    environment: dict[str, str],
) -> None:
    home.note(address=environment["PORTICO_URL"], packs=environment.get("PORTICO_PACKS", ""))
    if runs_own_servers():
        console.say("  PostgreSQL and Redis ...")
        environment |= start_servers(home, supervisor)
    preparation, welcomed = Preparation(home, environment), "welcomed" in home.read_note()
    if options.sample or not welcomed or not preparation.is_current():
        console.say("  Schema, packs and static files ...")
        with preparation.alone(console) as command:
            command += ["--sample"] if options.sample else []
            command += [] if welcomed else ["--welcome"]
            supervisor.run_once(Service("prepare", command, environment), relay=console.say)
        home.note(welcomed="yes")
    console.say("  Web server and workers ...")
    _check_port(options)
    for service in portal(home, environment, bind=options.bind, port=options.port):
        supervisor.start(service)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.bind, options.bind)
    ready = _Readiness(host, options.port)
    supervisor.until(ready, seconds=120, what="The web server did not become ready")
    if options.sample or not welcomed:
        # The first page shall be full when it is first seen, or say that it is being filled.
        command = [str(PYTHON), "manage.py", "await_first_syncs", "--seconds", "60"]
        supervisor.run_once(
            Service("reading", command, environment), relay=lambda line: console.say(f"  {line}")
        )


class _Readiness:
    """Asks the portal, a few times a second, whether it has all that it needs."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._next = 0.0

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + 0.2
        connection = http.client.HTTPConnection(self._host, self._port, timeout=2)
        try:
            connection.request("GET", "/readyz", headers={"Host": "localhost"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


if __name__ == "__main__":
    main(up)
