"""The annotations by which Backstage's front end knows where an entity's file lies."""

from __future__ import annotations

import re
from typing import Any

from catalog.documents import Location
from integrations.outbound import mask_url
from integrations.readers import GitPlace

FILE = "backstage.io/managed-by-location"
ORIGIN = "backstage.io/managed-by-origin-location"
VIEW = "backstage.io/view-url"
EDIT = "backstage.io/edit-url"
SOURCE = "backstage.io/source-location"
_COMMIT = re.compile(r"\b[0-9a-f]{40,}\b")
# How the hosts call the page of a file, of a folder, and the one where it is edited.
_VIEWS = (("/-/blob/", "/-/tree/", "/-/edit/"), ("/blob/", "/tree/", "/edit/"), ("/src/", "/src/", "/_edit/"))


def annotate(document: dict[str, Any], *, file: Location, origin: Location) -> dict[str, Any]:
    """A document with these annotations; what it says itself counts.

    :param file: where it stands.
    :param origin: the location that led there.
    """
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    own = metadata.get("annotations")
    found = {FILE: mask_url(file.text), ORIGIN: mask_url(origin.text), **_pages(file)}
    return {
        **document,
        "metadata": {**metadata, "annotations": {**found, **(own if isinstance(own, dict) else {})}},
    }


def _pages(file: Location) -> dict[str, str]:
    """Where people look at a file on the web, edit it, and see what lies beside it."""
    if file.type != "url" or not file.target.startswith(("https://", "http://")):
        return {}
    pages = {VIEW: mask_url(file.target)}
    place = GitPlace.parse(file.target)
    if place is None or not place.page:
        return pages
    view, tree, edit = next(names for names in _VIEWS if names[0] in file.target)
    if not _COMMIT.search(file.target):
        pages[EDIT] = mask_url(file.target.replace(view, edit, 1))
    folder = file.target.partition("?")[0].partition("#")[0].rpartition("/")[0]
    pages[SOURCE] = mask_url(f"url:{folder.replace(view, tree, 1)}/")
    return pages
