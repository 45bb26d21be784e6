"""Backstage's own packages beside Portico."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backstage.node import Script
from tests.integrations.servers import required


@pytest.fixture(scope="session")
def model() -> Iterator[Script]:
    """Backstage's own judgement of documents: the relations that one makes, or what is wrong with it."""
    with required():
        script = Script("model.js")
    yield script
    script.close()
