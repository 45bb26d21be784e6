"""Fixtures of the catalog: the core pack, and things to put into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from access import permissions
from access.definitions import document_types, forget_stamps
from catalog.kinds import forget_kinds
from catalog.query.relations import forget_directions
from portal.packs import apply_pack
from portal.pages import forget_pages
from tests.cast import Definitions

CORE = Path(__file__).resolve().parent.parent / "packs" / "core"


def forget_definitions() -> None:
    """Read kinds, relations and pages anew."""
    forget_kinds()
    forget_directions()
    forget_pages()


@pytest.fixture
def core_pack(db: Any, definitions: Definitions) -> Iterator[None]:
    """The kinds, relation types, pages and roles of the core."""
    definitions.write(
        "core", lambda: apply_pack(CORE, by="tests"), [one.model for one in document_types().values()]
    )
    permissions.cache.clear()
    forget_stamps()  # what a process made of definitions stays where they are the same
    yield
    forget_stamps()
