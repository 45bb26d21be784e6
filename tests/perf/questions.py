"""What is asked of both catalogs: a thousand distinct questions of each sort, the same ones every time.

Lists of 20 are pages of long lists, as a portal's first page is; what belongs to a team or a system is asked for in a
row of its own, for there a catalog has little to look through.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from tests.perf.generate import LANGUAGES, LIFECYCLES, TYPES, WORDS

COUNT = 1_000
Question = tuple[str, str, str | None]  # method, path below the catalog's address, body


class Catalog:
    """The names in a generated catalog of some size."""

    def __init__(self, size: int) -> None:
        self.groups = max(size * 3 // 100, 1)
        self.apis = size * 12 // 100
        self.resources = size * 10 // 100
        systems, domains, users = max(size * 5 // 100, 1), max(size // 100, 1), max(size * 7 // 100, 1)
        self.systems = systems
        self.components = size - self.groups - users - systems - domains - self.apis - self.resources


def _broad(rng: random.Random, *, fields: int = 3) -> list[str]:
    """Filters as the pages of a portal send them: components by some fields, sometimes these or those.

    :param fields: the most of them.
    """
    more: dict[str, Callable[[], str]] = {
        "spec.type": lambda: rng.choice(TYPES),
        "spec.lifecycle": lambda: rng.choice(LIFECYCLES),
        "metadata.tags": lambda: rng.choice(LANGUAGES),
        "metadata.labels.tier": lambda: str(rng.randrange(4)),
    }
    found = []
    for _filter in range(rng.choice([1, 1, 2])):
        names = rng.sample(sorted(more), rng.randint(1, fields))
        found.append(_as_text([("kind", "component"), *((name, more[name]()) for name in names)]))
    return found


def _narrow(rng: random.Random, catalog: Catalog) -> str:
    """A filter for what belongs to one team or system."""
    kind = rng.choice(["component", "component", "api", "resource"])
    wanted = rng.choice(
        [
            ("spec.owner", f"team-{rng.randrange(catalog.groups)}"),
            ("relations.ownedBy", f"group:default/team-{rng.randrange(catalog.groups)}"),
            ("spec.system", f"system-{rng.randrange(catalog.systems)}"),
        ]
    )
    return _as_text([("kind", kind), wanted])


def _as_text(wanted: list[tuple[str, str]]) -> str:
    return ",".join(f"{name}={value}" for name, value in wanted)


def _get(path: str, *pairs: tuple[str, Any]) -> Question:
    return "GET", f"{path}?{urlencode(pairs)}", None


def filtered(rng: random.Random, catalog: Catalog) -> Question:
    return _get("entities/by-query", *(("filter", one) for one in _broad(rng)), ("limit", 20))


def filtered_narrowly(rng: random.Random, catalog: Catalog) -> Question:
    return _get("entities/by-query", ("filter", _narrow(rng, catalog)), ("limit", 20))


def sorted_(rng: random.Random, catalog: Catalog) -> Question:
    field = rng.choice(["metadata.name", "metadata.name", "metadata.title", "spec.type"])
    order = f"{field},{rng.choice(['asc', 'desc'])}"
    wanted = (("filter", one) for one in _broad(rng))
    return _get("entities/by-query", *wanted, ("orderField", order), ("limit", 20))


def full_text(rng: random.Random, catalog: Catalog) -> Question:
    word = rng.choice(WORDS)
    term = rng.choice([word, word[:3], word[:4], word[-3:], word[-4:]])
    return _get(
        "entities/by-query",
        *(("filter", one) for one in _broad(rng, fields=1)),
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
    return _get(
        "entity-facets", *(("filter", one) for one in _broad(rng)), *(("facet", name) for name in names)
    )


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
    "list of a team's or a system's": (filtered_narrowly, 16),
    "sorted list of 20": (sorted_, 16),
    "full text in title": (full_text, 16),
    "facets": (facets, 16),
    "filtered facets": (filtered_facets, 16),
    "by name": (by_name, 16),
    "by refs of 100": (by_refs, 16),
    "all components, unpaginated": (whole, 1),
}


def questions(row: str, catalog: Catalog) -> list[Question]:
    """The questions of a row: so many different ones, where there are."""
    ask, _connections = ROWS[row]
    rng = random.Random(row)
    found: dict[Question, None] = {}
    for _attempt in range(COUNT * 10):
        found[ask(rng, catalog)] = None
        if len(found) == COUNT:
            break
    return list(found)
