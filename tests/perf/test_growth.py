"""How Portico grows: the same questions to catalogs of some sizes, one table, and a plot.

`bin/test tests/perf/test_growth.py -s`, with PORTICO_PERF_SIZES such as 1000,10000,50000,100000. Nothing is asserted
but that what was asked for came; machines differ, so the growth from one size to the next is what means something.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from urllib.parse import quote, urlencode

import psycopg
import pytest

from tests.perf.contenders import Portico, changed, cpu_of, memory_of, postgres_of, wait_for
from tests.perf.generate import LANGUAGES, TYPES, WORDS, documents, write
from tests.perf.questions import Catalog, questions
from tests.perf.test_side_by_side import SIZES, ports  # noqa: F401 - a fixture

TIMES = 200  # questions of each sort, one after the other
CHANGES = 20  # of each way in which something comes to be changed
TABLE: dict[int, dict[str, float]] = {}
ROWS = {
    "import until all is served, s": ".4g",
    "the same, CPU s": ".4g",
    "database, MB": ".4g",
    "memory of all processes, MB": ".4g",
    "reading again, nothing changed, CPU s": ".3g",
    "a thousandth changed, until all is served, s": ".3g",
    "rows written for it": ",.0f",
    "entity by name, p95 ms": ".3g",
    "filtered list of 20, p95 ms": ".3g",
    "full text in title, p95 ms": ".3g",
    "search of everything, p95 ms": ".3g",
    "page of a list, p95 ms": ".3g",
    "page of an entity, p95 ms": ".3g",
    "a changed file is served, p95 s": ".3g",
    "a change by the API is served, p95 s": ".3g",
    "a changed file is on its page, p95 s": ".3g",
    "nothing changing, % of a core": ".2g",
}


def p95(times: list[float]) -> float:
    return quantiles(times, n=20)[-1]


class Asking:
    """One connection that asks one thing after the other.

    :param headers: by which one is signed in; a program's token if there are none.
    """

    def __init__(self, portico: Portico, headers: dict[str, str] | None = None) -> None:
        self._headers = headers or portico.headers
        self._connection = http.client.HTTPConnection("127.0.0.1", portico.port, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str, *, method: str = "GET", body: str | None = None) -> bytes:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
        self._connection.request(method, path, body, headers)
        try:
            answer = self._connection.getresponse()
        except http.client.RemoteDisconnected:  # it was idle for long
            self._connection.close()
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
        data = answer.read()
        assert answer.status == 200, (path, answer.status, data[:300])
        return data

    def p95(self, paths: Iterator[str]) -> float:
        """Of the times that answers took, in ms; each path once before, so that what is made once is made."""
        asked = [next(paths) for _number in range(TIMES)]
        for path in asked[:20]:
            self.get(path)
        times = []
        for path in asked:
            begun = time.perf_counter()
            self.get(path)
            times.append((time.perf_counter() - begun) * 1_000)
        return p95(times)


def as_person(portico: Portico) -> Asking:
    """The administrator, signed in as browsers are."""
    script = (
        "from django.test import Client; from access.models import User; c = Client(); "
        "c.force_login(User.objects.get(username='admin')); print(*(f'{k}={v.value}' for k, v in c.cookies.items()))"
    )
    session = portico.manage("shell", "-v", "0", "-c", script).strip().splitlines()[-1]
    return Asking(portico, {"Cookie": session})


@contextmanager
def running(size: int, port: int) -> Iterator[tuple[Portico, Path]]:
    home = Path(tempfile.mkdtemp(prefix="portico-perf-"))
    home.chmod(0o711)
    files = Path(tempfile.mkdtemp(prefix="portico-perf-files-"))
    write(files, size)
    path, text = changed(files, 0)
    path.write_text(text)
    try:
        portico = Portico(home, port, files)
        try:
            yield portico, files
        finally:
            portico.stop()
    finally:
        for made in (home, files):
            shutil.rmtree(made, ignore_errors=True)


def written(connection: psycopg.Connection) -> dict[str, int]:
    """How many rows were written to each of the catalog's tables, once nothing more is written."""
    found: dict[str, int] = {}
    for _look in range(20):
        time.sleep(12)  # until idle connections have told what they did
        rows = connection.execute(
            "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname LIKE 'catalog_%'"
        )
        before, found = found, {name: int(count) for name, count in rows.fetchall()}
        if found == before:
            return found
    raise AssertionError("Something is written all the time.")


def until(condition: Callable[[], bool], *, seconds: float = 30) -> float:
    """Wait, and say how long that took, in seconds."""
    begun = time.perf_counter()
    while not condition():
        assert time.perf_counter() - begun < seconds
        time.sleep(0.02)
    return time.perf_counter() - begun


@pytest.mark.parametrize("size", SIZES)
def test_growth(size: int, ports: tuple[int, int]) -> None:  # noqa: F811
    with running(size, ports[0]) as (portico, files), portico.database() as connection:
        found = TABLE[size] = {}
        watched = lambda: portico.processes() + postgres_of(connection)  # noqa: E731
        reading(portico, connection, size, files, found, watched)
        with closing(Asking(portico)) as program, closing(as_person(portico)) as person:
            asking(program, person, size, found)
            changing(portico, program, person, found)
        found["memory of all processes, MB"] = memory_of(portico.processes())
        rest = float(os.environ.get("PORTICO_PERF_REST", "20"))
        time.sleep(3)
        before = cpu_of(watched())
        time.sleep(rest)
        found["nothing changing, % of a core"] = (cpu_of(watched()) - before) / rest * 100
    show(TABLE)


def reading(
    portico: Portico,
    connection: psycopg.Connection,
    size: int,
    files: Path,
    found: dict[str, float],
    watched: Callable[[], list[int]],
) -> None:
    """All of it for the first time, then nothing and a thousandth of it changed."""
    before, begun = cpu_of(watched()), time.monotonic()
    portico.load()
    wait_for(portico, size + 1, 3_600)
    found["import until all is served, s"] = time.monotonic() - begun
    found["the same, CPU s"] = cpu_of(watched()) - before
    found["database, MB"] = portico.size()

    with closing(Asking(portico)) as program:
        again(portico, connection, program, size, files, found, watched)


def again(
    portico: Portico,
    connection: psycopg.Connection,
    program: Asking,
    size: int,
    files: Path,
    found: dict[str, float],
    watched: Callable[[], list[int]],
) -> None:
    place = f"/api/v1/locations/{json.loads(program.get('/api/v1/locations/'))['results'][0]['id']}/"

    def read_at() -> str:
        return str(json.loads(program.get(place))["read_at"])

    rows = written(connection)
    last, before = read_at(), cpu_of(watched())
    assert portico.stack.request("POST", f"{place}read/") == 202
    until(lambda: read_at() != last, seconds=120)
    found["reading again, nothing changed, CPU s"] = cpu_of(watched()) - before
    assert written(connection) == rows
    rng, texts = random.Random(2), documents(size)
    chosen = sorted(rng.sample(range(size), max(size // 1_000, 1)))
    for number in chosen:
        texts[number] = texts[number].replace("metadata:\n", "metadata:\n  labels: {changed: 'yes'}\n", 1)
        texts[number] = texts[number].replace("  labels: {tier", "  x-labels: {tier", 1)
    begun = time.monotonic()
    rewrite(files, texts, chosen)
    wanted = len(chosen)
    count = "/api/catalog/entities/by-query?filter=metadata.labels.changed=yes&limit=0"
    until(
        lambda: json.loads(program.get(count))["totalItems"] == wanted and portico.is_related(), seconds=120
    )
    found["a thousandth changed, until all is served, s"] = time.monotonic() - begun
    found["rows written for it"] = sum(written(connection).values()) - sum(rows.values())


def rewrite(files: Path, texts: list[str], chosen: list[int]) -> None:
    """Write the files anew in which some documents stand."""
    from tests.perf.generate import DOCUMENTS_A_FILE

    for part in sorted({number // DOCUMENTS_A_FILE for number in chosen}):
        new = files / "new"
        new.write_text("---\n".join(texts[part * DOCUMENTS_A_FILE : (part + 1) * DOCUMENTS_A_FILE]))
        new.rename(files / f"part-{part:05}.yaml")


def asking(program: Asking, person: Asking, size: int, found: dict[str, float]) -> None:
    """Ask by the API, by token, and for pages as a browser does."""
    catalog, rng = Catalog(size), random.Random(3)
    for row, name in {
        "by name": "entity by name",
        "filtered list of 20": "filtered list of 20",
        "full text in title": "full text in title",
    }.items():
        asked = [f"/api/catalog/{path}" for _method, path, _body in questions(row, catalog)]
        found[f"{name}, p95 ms"] = program.p95(iter(asked))

    def searched() -> Iterator[str]:
        while True:
            text = rng.choice([rng.choice(WORDS), f"component-{rng.randrange(catalog.components)}"])
            yield f"/api/v1/search?{urlencode({'q': text})}"

    def lists() -> Iterator[str]:
        while True:
            more = rng.choice(
                ["", f" type:{rng.choice(TYPES)}", f" tag:{rng.choice(LANGUAGES)}", f" {rng.choice(WORDS)}"]
            )
            yield f"/catalog?q={quote('kind:component' + more)}"

    def entities() -> Iterator[str]:
        while True:
            yield f"/catalog/default/component/component-{rng.randrange(catalog.components)}"

    found["search of everything, p95 ms"] = program.p95(searched())
    found["page of a list, p95 ms"] = person.p95(lists())
    found["page of an entity, p95 ms"] = person.p95(entities())


def changing(portico: Portico, program: Asking, person: Asking, found: dict[str, float]) -> None:
    """How soon a change is served, whichever way it came."""
    name, page = (
        "/api/catalog/entities/by-name/component/default/changing",
        "/catalog/default/component/changing",
    )
    served, shown, told = [], [], []
    for number in range(1, CHANGES + 1):
        portico.write(number)
        title = f"Changed {number}".encode()
        begun = time.perf_counter()
        until(lambda title=title: title in program.get(name))
        served.append(time.perf_counter() - begun)
        until(lambda title=title: title in person.get(page))
        shown.append(time.perf_counter() - begun)
        time.sleep(random.random())
    for number in range(CHANGES):
        body = {"entities": ["component:default/changing"], "path": "metadata.description", "action": "set"}
        begun = time.perf_counter()
        program.get(
            "/api/v1/entities/fields/", method="POST", body=json.dumps(body | {"value": f"Said {number}"})
        )
        until(lambda number=number: f"Said {number}".encode() in program.get(name))
        told.append(time.perf_counter() - begun)
    found["a changed file is served, p95 s"] = p95(served)
    found["a changed file is on its page, p95 s"] = p95(shown)
    found["a change by the API is served, p95 s"] = p95(told)


def show(table: dict[int, dict[str, float]]) -> None:
    """Print the table as Markdown; draw it where PORTICO_PERF_PLOT says."""
    when = datetime.now(UTC)
    print(f"\n\n{when:%-d %B %Y}, {os.cpu_count()} cores, {os.uname().machine}\n")
    print(f"| | {' | '.join(f'{size:,}' for size in table)} |\n| --- |{' --: |' * len(table)}")
    for row, form in ROWS.items():
        cells = [format(found[row], form) if row in found else "" for found in table.values()]
        print(f"| {row} | {' | '.join(cells)} |")
    if (out := os.environ.get("PORTICO_PERF_PLOT")) and len(table) > 1:
        Path(out).write_text(plot(table))


# Relative to the smallest size: what is flat costs the same however much there is.
PLOTTED = {
    "import until all is served, s": "#2563eb",
    "database, MB": "#0f766e",
    "a thousandth changed, until all is served, s": "#b45309",
    "entity by name, p95 ms": "#7c3aed",
    "filtered list of 20, p95 ms": "#be123c",
    "full text in title, p95 ms": "#0369a1",
    "page of a list, p95 ms": "#4d7c0f",
    "page of an entity, p95 ms": "#6b7280",
}


def plot(table: dict[int, dict[str, float]]) -> str:
    """The growth as an SVG: both axes logarithmic, each row relative to its value at the smallest size."""
    from math import log10

    sizes = list(table)
    left, top, width, height = 60, 20, 460, 320
    most = log10(sizes[-1] / sizes[0])

    def x(size: float) -> float:
        return left + width * log10(size / sizes[0]) / most

    def y(factor: float) -> float:
        return top + height * (1 - min(max(log10(max(factor, 0.1)) + 0.5, 0), most + 0.5) / (most + 0.5))

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 400" font-family="sans-serif" font-size="12">',
        '<rect width="860" height="400" fill="#ffffff"/>',
    ]
    for size in sizes:
        parts.append(f'<path d="M{x(size):.1f} {top}V{top + height}" stroke="#e5e7eb"/>')
        parts.append(
            f'<text x="{x(size):.1f}" y="{top + height + 20}" text-anchor="middle" fill="#374151">{size:,}</text>'
        )
    factor = 1.0
    while log10(factor) <= most:
        parts.append(f'<path d="M{left} {y(factor):.1f}H{left + width}" stroke="#e5e7eb"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y(factor) + 4:.1f}" text-anchor="end" fill="#374151">{factor:,.0f} x</text>'
        )
        factor *= 10
    straight = f"M{x(sizes[0]):.1f} {y(1):.1f}L{x(sizes[-1]):.1f} {y(sizes[-1] / sizes[0]):.1f}"
    parts.append(f'<path d="{straight}" stroke="#9ca3af" stroke-dasharray="4 4" fill="none"/>')
    for number, (row, colour) in enumerate(PLOTTED.items()):
        points = [(x(size), y(found[row] / table[sizes[0]][row])) for size, found in table.items()]
        line = "L".join(f"{one:.1f} {other:.1f}" for one, other in points)
        parts.append(f'<path d="M{line}" stroke="{colour}" stroke-width="2" fill="none"/>')
        at = top + 14 + 22 * number
        parts.append(f'<path d="M540 {at - 4}h18" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="566" y="{at}" fill="#374151">{row}</text>')
    at = top + 14 + 22 * len(PLOTTED)
    parts.append(f'<path d="M540 {at - 4}h18" stroke="#9ca3af" stroke-dasharray="4 4"/>')
    parts.append(f'<text x="566" y="{at}" fill="#374151">as much as there is</text>')
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 44}" text-anchor="middle" fill="#374151">entities</text>'
    )
    return "\n".join([*parts, "</svg>", ""])
