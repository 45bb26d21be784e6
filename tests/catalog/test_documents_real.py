"""Real catalog files come in or are refused exactly as by Backstage itself."""

from __future__ import annotations

import asyncio
import csv
import functools
import os
from pathlib import Path
from typing import Any

import pytest

from base.errors import FieldError
from catalog.documents import (
    Content,
    DocumentInvalid,
    KindSet,
    Location,
    SourceDocument,
    read_documents,
    resolve_target,
    validate_document,
)
from tests.catalog.test_documents import CORE, definitions

DATA = Path(os.environ.get("PORTICO_TEST_DATA") or CORE.parents[2] / "shared" / "data") / "backstage"


def rows() -> list[Any]:
    if not (DATA / "INDEX.tsv").is_file():
        reason = f"needs Backstage's real files: set PORTICO_TEST_DATA (no {DATA / 'INDEX.tsv'})"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason))]
    with (DATA / "INDEX.tsv").open(newline="") as file:
        found = [row for row in csv.DictReader(file, delimiter="\t") if row["file"]]
    return [pytest.param(row, id=row["file"]) for row in found]


class FixedAnswers:
    """Reads the file itself, and answers every placeholder's target with a fixed text."""

    async def read(self, location: Location) -> Content:
        if location.target.startswith(str(DATA)) and Path(location.target).is_file():
            return Content(Path(location.target).read_bytes(), location)
        return Content(b"type: object\n", location)

    async def glob(self, pattern: Location) -> list[Location]:
        raise AssertionError("no pattern is read here")

    def resolve(self, base: Location, target: str) -> Location:
        return resolve_target(base, target)


@functools.cache
def core_kinds() -> KindSet:
    return KindSet(definitions(CORE / "kinds"))


async def read(path: Path) -> list[SourceDocument]:
    found = read_documents([Location("file", str(path))], FixedAnswers(), follow=False)
    documents = [item async for item in found]
    assert all(isinstance(item, SourceDocument) for item in documents)
    return [item for item in documents if isinstance(item, SourceDocument)]


@pytest.mark.parametrize("row", rows())
def test_a_real_file_fares_as_in_backstage(row: dict[str, str]) -> None:
    refused: list[str] = []
    accepted = 0
    places: list[tuple[SourceDocument, FieldError]] = []
    for document in asyncio.run(read(DATA / row["file"])):
        if document.error is not None:
            refused.append(str(document.error))
            continue
        if document.data is None:
            continue
        try:
            validate_document(document.data, core_kinds())
        except DocumentInvalid as error:
            refused.append(str(error))
            places += [(document, each) for each in error.errors]
        else:
            accepted += 1
    assert all(document.place_of(error.path).line >= document.parsed.line for document, error in places)
    assert (accepted + len(refused), accepted) == (int(row["documents"]), int(row["accepted"])), refused
