"""Fixtures of the catalog: the core pack, and things to put into it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from access import permissions
from access.definitions import Definition, document_types, forget_stamps
from catalog.kinds import forget_kinds
from catalog.query.relations import forget_directions
from portal.packs import apply_pack
from portal.pages import forget_pages

CORE = Path(__file__).resolve().parent.parent / "packs" / "core"


def forget_definitions() -> None:
    """Read kinds, relations and pages anew."""
    forget_kinds()
    forget_directions()
    forget_pages()


@pytest.fixture(scope="session")
def core_rows() -> dict[type[Definition], list[Definition]]:
    """The core's definitions as rows, filled by the first test that needs them: applying a pack is dear."""
    return {}


@pytest.fixture
def core_pack(db: Any, core_rows: dict[type[Definition], list[Definition]]) -> Iterator[None]:
    """The kinds, relation types, pages and roles of the core."""
    if not core_rows:
        apply_pack(CORE, by="tests")
        for document_type in document_types().values():
            core_rows[document_type.model] = list(document_type.model.objects.filter(pack="core"))
    for model, rows in core_rows.items():
        for row in rows:
            row.pk = None
        model._default_manager.bulk_create(copy.deepcopy(rows), ignore_conflicts=True)
    permissions.cache.clear()
    forget_stamps()  # what a process made of definitions stays where they are the same
    yield
    forget_stamps()
