"""Portals that run as people run them, and a browser in front of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, expect

from tests.e2e.site import MANY, Visitors, crowd
from tests.e2e.stack import Portal, redis_program, run_portal
from tests.perf.generate import write

expect.set_options(timeout=30_000)  # as long as for all else, however busy the machine is


@pytest.fixture(scope="session")
def sample_portal(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]
) -> Iterator[Portal]:
    """A portal with the sample company, and with something that is long in everything."""
    with _portal(tmp_path_factory, require_program, sample=True) as portal:
        portal.wait_until_synced()
        crowd(portal)
        yield portal


@pytest.fixture(scope="module")
def empty_portal(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]
) -> Iterator[Portal]:
    """A portal to which nothing is connected yet but its own checkout."""
    with _portal(tmp_path_factory, require_program) as portal:
        yield portal


@pytest.fixture(scope="module")
def crowded_portal(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]
) -> Iterator[Portal]:
    """A portal that knows as many things as a large company has."""
    with _portal(tmp_path_factory, require_program) as portal:
        folder = portal.files / "many"
        folder.mkdir()
        write(folder, MANY)
        portal.manage("import_catalog", str(folder))
        portal.wait_until_synced()
        yield portal


def _portal(folders: pytest.TempPathFactory, require_program: Callable[..., str], **more: Any) -> Any:
    return run_portal(
        folders.mktemp("portal"),
        database=settings.DATABASES["default"],
        redis=redis_program(require_program),
        **more,
    )


@pytest.fixture(scope="session")
def visitors(browser: Browser, sample_portal: Portal) -> Visitors:
    """People who look at the sample company."""
    return Visitors(browser, sample_portal)
