"""What is asked of both catalogs: a thousand distinct questions of each sort, the same ones every time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from tests.perf.generate import LANGUAGES, LIFECYCLES, TYPES, WORDS

COUNT = 1_000
Question = tuple[str, str, str | None]  # method, path below the catalog's address, body

_KINDS = ["component", "component", "component", "api", "resource", "system"]


class Catalog:
    """The names in a generated catalog of some size."""

    def __init__(self, size: int) -> None:
        self.groups = max(size * 3 // 100, 1)
        self.apis = size * 12 // 100
        self.resources = size * 10 // 100
        systems, domains, users = max(size * 5 // 100, 1), max(size // 100, 1), max(size * 7 // 100, 1)
        self.systems = systems
        self.components = size - self.groups - users - systems - domains - self.apis - self.resources


def _filter(rng: random.Random, catalog: Catalog) -> dict[str, str]:
    """A filter of two to four fields, as the pages of a portal send them."""
    wanted = {"kind": rng.choice(_KINDS)}
    more: dict[str, Callable[[], str]] = {
        "spec.type": lambda: rng.choice(TYPES),
        "spec.lifecycle": lambda: rng.choice(LIFECYCLES),
        "spec.owner": lambda: f"team-{rng.randrange(catalog.groups)}",
        "relations.ownedBy": lambda: f"group:default/team-{rng.randrange(catalog.groups)}",
        "metadata.tags": lambda: rng.choice(LANGUAGES),
        "metadata.labels.tier": lambda: str(rng.randrange(4)),
        "spec.system": lambda: f"system-{rng.randrange(catalog.systems)}",
    }
    for name in rng.sample(sorted(more), rng.randint(1, 3)):
        wanted[name] = more[name]()
    return wanted


def _as_text(wanted: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in wanted.items())


def _get(path: str, *pairs: tuple[str, Any]) -> Question:
    return "GET", f"{path}?{urlencode(pairs)}", None


def filtered(rng: random.Random, catalog: Catalog) -> Question:
    return _get("entities/by-query", ("filter", _as_text(_filter(rng, catalog))), ("limit", 20))


def sorted_(rng: random.Random, catalog: Catalog) -> Question:
    field = rng.choice(["metadata.name", "metadata.name", "metadata.title", "spec.type"])
    order = f"{field},{rng.choice(['asc', 'desc'])}"
    wanted = _as_text(_filter(rng, catalog))
    return _get("entities/by-query", ("filter", wanted), ("orderField", order), ("limit", 20))


def full_text(rng: random.Random, catalog: Catalog) -> Question:
    word = rng.choice(WORDS)
    term = rng.choice([word, word[:3], f"{word} {rng.randrange(10, 100)}", str(rng.randrange(100, 1_000))])
    return _get(
        "entities/by-query",
        ("filter", f"kind=component,spec.type={rng.choice(TYPES)}"),
        ("fullTextFilterTerm", term),
        ("fullTextFilterFields", "metadata.title"),
        ("limit", 20),
    )


def facets(rng: random.Random, catalog: Catalog) -> Question:
    names = rng.sample(
        ["kind", "spec.type", "spec.lifecycle", "spec.owner", "metadata.tags"], rng.randint(1, 3)
    )
    return _get("entity-facets", *(("facet", name) for name in names))


def filtered_facets(rng: random.Random, catalog: Catalog) -> Question:
    names = rng.sample(["spec.type", "spec.lifecycle", "spec.owner", "metadata.tags"], rng.randint(1, 2))
    wanted = _as_text(_filter(rng, catalog))
    return _get("entity-facets", ("filter", wanted), *(("facet", name) for name in names))


def by_name(rng: random.Random, catalog: Catalog) -> Question:
    return "GET", f"entities/by-name/component/default/component-{rng.randrange(catalog.components)}", None


def by_refs(rng: random.Random, catalog: Catalog) -> Question:
    refs = [f"component:default/component-{rng.randrange(catalog.components)}" for _number in range(100)]
    return "POST", "entities/by-refs", json.dumps({"entityRefs": refs})


def whole(rng: random.Random, catalog: Catalog) -> Question:
    return _get("entities", ("filter", "kind=component"))


# What a row of the table is called, what is asked, over how many connections.
ROWS: dict[str, tuple[Callable[[random.Random, Catalog], Question], int]] = {
    "filtered list of 20": (filtered, 16),
    "sorted list of 20": (sorted_, 16),
    "full text in title": (full_text, 16),
    "facets": (facets, 16),
    "filtered facets": (filtered_facets, 16),
    "by name": (by_name, 16),
    "by refs of 100": (by_refs, 16),
    "all components, unpaginated": (whole, 1),
}


def questions(row: str, catalog: Catalog) -> list[Question]:
    """The questions of a row, of which as many differ as can."""
    ask, _connections = ROWS[row]
    rng = random.Random(row)
    return [ask(rng, catalog) for _number in range(COUNT if ask is not whole else 1)]
