"""One import of a big catalog from YAML, and a second one in which nothing changed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.perf.conftest import SIZE, Measured, Portal
from tests.perf.generate import write


def _show(what: str, measured: Measured) -> None:
    print(f"{what}: {measured.wall:.1f} s wall, {measured.cpu:.1f} s CPU, peak {measured.peak:.0f} MB")


def test_import_and_unchanged_import(portal: Portal, tmp_path: Path) -> None:
    files = write(tmp_path, SIZE)
    first = portal.run("import_catalog", str(tmp_path), "--json")
    _show(f"\nimport of {SIZE} entities in {files} files", first)
    summary = json.loads(first.out.strip().splitlines()[-1])
    assert (summary["accepted"], summary["refused"], summary["written"]) == (SIZE, 0, SIZE)
    before = portal.written()
    second = portal.run("import_catalog", str(tmp_path), "--json")
    _show("unchanged import", second)
    summary = json.loads(second.out.strip().splitlines()[-1])
    assert (summary["written"], summary["unchanged"]) == (0, SIZE)
    assert portal.written() == before
    size = portal.connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert size is not None
    print(f"database: {size[0] / 1e6:.0f} MB")
