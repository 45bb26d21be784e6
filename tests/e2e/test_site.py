"""Whether the pages that a browser looks at are all pages there are."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import Resolver404, resolve

from tests.e2e.site import COMMON, CROWD, EMPTY, PLACES, Place
from tests.routes import routes

# What is read and is no page: files, parts of pages, and what only leads to a page.
NO_PAGE = {
    "catalog-csv", "history-csv",
    "widget", "notices-bell", "notices-newest", "shell-sync", "search-suggest", "search-terms", "search-refs",
    "entity-definition", "view", "sign-in-provider", "sign-in-link-provider",
}  # fmt: skip


def looked_at(places: list[Place]) -> set[object]:
    """The views behind some addresses."""
    found = set()
    for place in places:
        try:
            found.add(resolve(re.sub(r"\{\w+\}", "1", urlsplit(place.path).path)).func)
        except Resolver404:
            assert place.status == 404, place
    return found


@pytest.mark.django_db
def test_every_page_is_looked_at(admin_client: Client) -> None:
    seen = looked_at(PLACES)
    # Only POST is answered with 405, before anything is looked up.
    missing = [
        route.pattern
        for route in routes()
        if (route.name.startswith("portal:") or route.name == "docs")
        and route.name.removeprefix("portal:") not in NO_PAGE
        and route.view not in seen
        and admin_client.get(route.url({})).status_code != 405
    ]
    assert missing == [], "add them to PLACES in tests/e2e/site.py"


def test_each_has_a_name_of_its_own_and_what_is_no_page_is_there() -> None:
    for places in (PLACES, EMPTY, CROWD):
        names = [place.name for place in places]
        assert sorted({name for name in names if names.count(name) > 1}) == []
    assert {f"portal:{name}" for name in NO_PAGE} <= {route.name for route in routes()}
    assert len(COMMON) > 40
