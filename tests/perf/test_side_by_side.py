"""Portico beside a real Backstage: the same catalog, the same questions, the same PostgreSQL, one table of ratios.

`bin/test tests/perf/test_side_by_side.py -s`, with PORTICO_PERF_SIZES such as 1000,10000,50000. Node, npm and Backstage
are fetched. Each row asks both in turn, a few rounds, while the other stands still; the
median counts. Nothing is asserted but that the answers agree: only the ratios of one run mean something.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest

from tests.backstage.node import node_programs, packages
from tests.integrations.servers import required
from tests.perf.contenders import (
    Backstage,
    Contender,
    Portico,
    changed,
    cpu_of,
    memory_of,
    postgres_of,
    wait_for,
)
from tests.perf.generate import write
from tests.perf.questions import ROWS, Catalog, Question, questions

SIZES = [int(size) for size in os.environ.get("PORTICO_PERF_SIZES", "1000,10000").split(",")]
ROUNDS = int(os.environ.get("PORTICO_PERF_ROUNDS", "3"))
SECONDS = float(os.environ.get("PORTICO_PERF_SECONDS", "4"))
HERE = Path(__file__).parent


@dataclass
class Row:
    """What both took in one row of the table.

    :ivar rates: answers a second, by contender and round; `costs`: CPU ms an answer, with PostgreSQL's.
    """

    rates: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)
    p95: dict[str, list[float]] = field(default_factory=dict)


@pytest.fixture(scope="session")
def program() -> tuple[list[str], Path]:
    """Node, and the folder in which Backstage is installed; kept between runs."""
    with required():
        (node, _npm), home = node_programs(22), packages(HERE / "backstage")
    return [str(node)], home


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two free ones that the kernel gives to no client: one that asks before a server listens would answer itself."""
    found = []
    while len(found) < 2:
        with socket.socket() as probe:
            wanted = random.randrange(18_000, 30_000)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            found.append(wanted)
    return found[0], found[1]


@contextmanager
def writing(contender: Contender) -> Iterator[None]:
    """One write a second goes on meanwhile."""
    over = threading.Event()

    def go_on() -> None:
        number = 0
        while not over.wait(1.0):
            number += 1
            contender.write(number)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ask(
    contender: Contender, postgres: list[int], asked: list[Question], connections: int, seconds: float
) -> dict[str, Any]:
    """Ask one of them for so long.

    :returns: what `tests.perf.load` prints, and `cpu`: ms an answer.
    """
    wanted = [(method, f"/api/catalog/{path}", body, contender.headers) for method, path, body in asked]
    watched = contender.processes() + postgres
    before = cpu_of(watched)
    command = [sys.executable, "-m", "tests.perf.load", str(contender.port), str(connections), str(seconds)]
    done = subprocess.run(
        command, input=json.dumps(wanted), capture_output=True, text=True, check=True, cwd=HERE.parent.parent
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert not found["failures"], (contender.name, asked[0], found)
    found["cpu"] = (cpu_of(watched) - before) * 1_000 / max(found["answers"], 1)
    return found


def plain(answer: Any) -> Any:
    """An answer without what two catalogs give each for itself: uids, etags, where they read a file."""
    if isinstance(answer, list):
        found = [
            plain(one) for one in answer
        ]  # Backstage sorts what is related to; a file's order stays here
        return sorted(found) if all(isinstance(one, str) for one in found) else found
    if not isinstance(answer, dict):
        return answer
    left = {key: plain(value) for key, value in answer.items() if key not in ("uid", "etag")}
    if isinstance(left.get("annotations"), dict):
        left["annotations"] = {
            key: value
            for key, value in left["annotations"].items()
            if not key.startswith(
                ("backstage.io/managed-by", "backstage.io/source", "backstage.io/edit", "backstage.io/view")
            )
        }
        if not left["annotations"]:
            del left["annotations"]
    return left


def differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Where two answers differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{at}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{at}[{number}]")
    elif one != other:
        yield f"{at}: {one!r} is {other!r} there"


def compared(row: str, question: Question, one: Any, other: Any) -> None:
    """Fail if the answers say different things; the order by uid, which is each one's own, says nothing."""
    if isinstance(one, dict) and "totalItems" in one:
        assert one["totalItems"] == other["totalItems"], (row, question)
        if row == "sorted list of 20" and "spec.type" not in question[1]:
            names = [[item["metadata"]["name"] for item in answer["items"]] for answer in (one, other)]
            if "title" not in question[1]:
                assert names[0] == names[1], (row, question)
        return
    for answer in (one, other):  # theirs has an entity for each file
        if isinstance(answer, dict) and "filter" not in question[1]:
            for name, values in answer.get("facets", {}).items():
                if name in ("kind", "spec.type"):
                    answer["facets"][name] = [c for c in values if c["value"] not in ("Location", "file")]
    if isinstance(one, list):
        key = lambda entity: "" if entity is None else f"{entity['kind']}:{entity['metadata']['name']}"  # noqa: E731
        one, other = sorted(one, key=key), sorted(other, key=key)
    assert not (found := list(differences(plain(one), plain(other)))), (row, question, found[:10])


@pytest.mark.parametrize("size", SIZES)
def test_side_by_side(size: int, program: tuple[list[str], Path], ports: tuple[int, int]) -> None:
    node, folder = program
    home = Path(tempfile.mkdtemp(prefix="portico-perf-"))
    home.chmod(0o711)
    written = Path(tempfile.mkdtemp(prefix="portico-perf-files-"))
    files, theirs = written / "portico", written / "backstage"
    write(files, size)
    shutil.copytree(files, theirs)  # each has its own, since both are told to change one
    for where in (files, theirs):
        path, text = changed(where, 0)
        path.write_text(text)
    portico = Portico(home, ports[0], files)
    lines: list[tuple[str, str, str, str]] = []
    contenders: list[Contender] = [portico]
    try:
        with psycopg.connect(portico.stack.database, autocommit=True) as connection:

            def postgres() -> list[int]:
                return postgres_of(connection)

            backstage = Backstage(node, folder, ports[1], portico.stack.database, theirs)
            contenders.append(backstage)
            lines += ingest(portico, backstage, size, postgres)
            lines += asked(portico, backstage, size, postgres)
            lines += at_rest(portico, backstage, postgres)
            lines.append(line("database after all of it, MB", backstage.size(), portico.size()))
    finally:
        for contender in contenders:
            contender.go_on()
        for contender in reversed(contenders):
            contender.stop()  # type: ignore[attr-defined]
        for made in (home, written):
            shutil.rmtree(made, ignore_errors=True)
    table(size, lines)


def ingest(
    portico: Portico, backstage: Backstage, size: int, postgres: Any
) -> list[tuple[str, str, str, str]]:
    """Load the files into one after the other."""
    took: dict[str, tuple[float, float]] = {}
    for contender in (backstage, portico):
        if contender is backstage:
            portico.pause()
        before, begun = cpu_of(contender.processes() + postgres()), time.monotonic()
        contender.load()
        wait_for(contender, size + 1, 3_600)
        wall = time.monotonic() - begun
        cpu = cpu_of(contender.processes() + postgres()) - before
        took[contender.name] = wall, cpu
        if contender is backstage:
            portico.go_on()
            backstage.pause()
    (theirs, their_cpu), (ours, our_cpu) = took["Backstage"], took["Portico"]
    sizes = backstage.size(), portico.size()
    return [
        line("ingest, s", theirs, ours),
        line("ingest, CPU s", their_cpu, our_cpu),
        line("database, MB", *sizes),
    ]


def line(what: str, theirs: float, ours: float, *, more_is_better: bool = False) -> tuple[str, str, str, str]:
    """A row of the table; the ratio says how much better Portico is."""
    ratio = ours / theirs if more_is_better else theirs / ours if ours else float("inf")
    return what, f"{theirs:,.4g}", f"{ours:,.4g}", f"{ratio:.1f}"


def asked(
    portico: Portico, backstage: Backstage, size: int, postgres: Any
) -> list[tuple[str, str, str, str]]:
    """Ask both the same; first whether they answer the same."""
    catalog = Catalog(size)
    lines = []
    rng = random.Random(1)
    owners = [f"group:default/team-{number}" for number in range(0, catalog.groups, 3)]
    third = Third(portico, portico.token_for(owners))
    portico.go_on()
    backstage.go_on()
    for row in ROWS:
        wanted = questions(row, catalog)
        for question in rng.sample(wanted, min(len(wanted), 20)):
            answers = [c.get(question[1], method=question[0], body=question[2]) for c in (portico, backstage)]
            compared(row, question, *answers)
    for row, (_ask, connections) in ROWS.items():
        wanted = questions(row, catalog)
        measured = Row()
        limited = row in ("filtered list of 20", "sorted list of 20", "full text in title", "filtered facets")
        for _round in range(ROUNDS):
            for contender in (portico, backstage, *([third] if limited else [])):
                for other in (portico, backstage):
                    other.pause() if other.port != contender.port else other.go_on()
                with writing(contender):
                    if not _round:
                        ask(contender, postgres(), wanted, connections, 1.5)
                    found = ask(contender, postgres(), wanted, connections, SECONDS)
                name = contender.name
                measured.rates.setdefault(name, []).append(found["answers"] / found["seconds"])
                measured.costs.setdefault(name, []).append(found["cpu"])
                measured.p95.setdefault(name, []).append(found["p95"] * 1_000)
        rates = {name: median(values) for name, values in measured.rates.items()}
        costs = {name: median(values) for name, values in measured.costs.items()}
        lines.append(
            line(f"{row}, answers a second", rates["Backstage"], rates["Portico"], more_is_better=True)
        )
        lines.append(line(f"{row}, CPU ms", costs["Backstage"], costs["Portico"]))
        if limited:
            lines.append(
                line(
                    f"{row}, a third visible, answers a second",
                    rates["Backstage"],
                    rates["third"],
                    more_is_better=True,
                )
            )
            lines.append(line(f"{row}, a third visible, CPU ms", costs["Backstage"], costs["third"]))
        print(f"{row}: {rates} {costs} { {n: median(v) for n, v in measured.p95.items()} }", flush=True)
    for contender in (portico, backstage):
        contender.go_on()
    return lines


class Third(Contender):
    """Portico as one sees it who may see what a third of the groups own."""

    name = "third"

    def __init__(self, portico: Portico, token: str) -> None:
        super().__init__(portico.server, portico.folder)
        self._portico = portico
        self.port = portico.port
        self.headers = {"Authorization": f"Bearer {token}"}

    def processes(self) -> list[int]:
        return self._portico.processes()

    def database(self) -> psycopg.Connection:
        return self._portico.database()

    def load(self) -> None:
        """It is loaded."""

    def write(self, number: int) -> None:
        self._portico.write(number)


def at_rest(portico: Portico, backstage: Backstage, postgres: Any) -> list[tuple[str, str, str, str]]:
    """Memory of all processes, and what they do when nothing changes."""
    memory = memory_of(backstage.processes()), memory_of(portico.processes())
    used: dict[str, float] = {}
    rest = float(os.environ.get("PORTICO_PERF_REST", "20"))
    for contender in (portico, backstage):
        for other in (portico, backstage):
            other.go_on() if other is contender else other.pause()
        time.sleep(3)
        before = cpu_of(contender.processes() + postgres())
        time.sleep(rest)
        used[contender.name] = (cpu_of(contender.processes() + postgres()) - before) / rest * 100
    return [
        line("memory, MB", *memory),
        line("nothing changing, % of a core", used["Backstage"], used["Portico"]),
    ]


def table(size: int, lines: list[tuple[str, str, str, str]]) -> None:
    """Print it as Markdown."""
    when = datetime.now(UTC)
    print(f"\n\n{size:,} entities, {when:%-d %B %Y}, {os.cpu_count()} cores, {os.uname().machine}\n")
    print("| | Backstage | Portico | times better |\n| --- | --: | --: | --: |")
    for row in lines:
        print(f"| {' | '.join(row)} |")
    if out := os.environ.get("PORTICO_PERF_OUT"):
        with Path(out).open("a") as file:
            file.write(json.dumps({"size": size, "when": when.isoformat(), "lines": lines}) + "\n")
