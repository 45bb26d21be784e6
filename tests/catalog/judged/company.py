"""The invented company of the judged queries, among things that are in nobody's way."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from django.utils import timezone

from catalog.models import Activity, Entity, PassageSort
from catalog.search.hits import Hit
from catalog.services.ingest import ClaimIn
from catalog.services.passages import Part, replace_passages
from tests.catalog.saying import claim, say
from tests.perf.generate import documents

FOLDER = Path(__file__).parent
NOISE = 2_000
_OUGHT = {"type": "other", "lifecycle": "production", "owner": "nobody"}


@cache
def _corpus() -> Any:
    return yaml.safe_load((FOLDER / "corpus.yaml").read_text())


def queries() -> list[tuple[str, list[str]]]:
    """What people type, and what is meant by it."""
    groups = yaml.safe_load((FOLDER / "queries.yaml").read_text())
    return [
        (one["q"], one["is"] if isinstance(one["is"], list) else [one["is"]])
        for group in groups.values()
        for one in group
    ]


def found_up(noise: int = NOISE) -> None:
    """Put the company into the catalog: entities, their passages, what happened to them."""
    say("yaml:company", *(_claim(one) for one in _corpus()["entities"]), render=False)
    if noise:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        others = [yaml.load(text, loader) for text in documents(noise)]
        say("yaml:others", *(_other(one) for one in others), render=False)
    ids = dict(Entity.objects.values_list("name", "pk").order_by("-kind"))  # of one name a component
    refs = dict(Entity.objects.values_list("ref", "pk"))
    operations = {
        refs[f"api:default/{one['name']}"]: [
            Part(key, title, text) for key, title, text in one.get("operations", ())
        ]
        for one in _corpus()["entities"]
        if one["kind"] == "API"
    }
    replace_passages(sort=PassageSort.OPERATION, passages=operations)
    pages = {
        refs.get(f"component:default/{name}", ids[name]): [Part(*section) for section in sections]
        for name, sections in _corpus()["docs"].items()
    }
    replace_passages(sort=PassageSort.PAGE, passages=pages)
    add_activity(*_corpus()["activity"])


def add_activity(*told: list[Any]) -> None:
    """Type, title, ref of the subject, hours ago."""
    uids = {
        ref: (uid, namespace) for ref, uid, namespace in Entity.objects.values_list("ref", "uid", "namespace")
    }
    before = Activity.objects.count()
    Activity.objects.bulk_create(
        Activity(
            connection="tool",
            connector="tool",
            type=type_,
            external_id=str(before + number),
            title=title,
            at=timezone.now() - timedelta(hours=hours),
            as_of=timezone.now(),
            subject_ref=ref,
            subject_uid=uids[ref][0],
            namespace=uids[ref][1],
            digest=b"",
        )
        for number, (type_, title, ref, hours) in enumerate(told)
    )


def name_of(hit: Hit) -> str:
    """A hit as the queries name it."""
    if hit.sort == "activity":
        return f"activity:{hit.title.text}"
    return f"{hit.entity}#{hit.key}" if hit.key else hit.entity


def _claim(one: dict[str, Any]) -> ClaimIn:
    metadata = {name: one[name] for name in ("title", "description", "tags") if name in one}
    spec = {name: one[name] for name in ("type", "owner", "system") if name in one}
    return claim(f"{one['kind']}:{one['name']}", {**_OUGHT, **spec}, metadata=metadata)


def _other(document: dict[str, Any]) -> ClaimIn:
    metadata = {name: value for name, value in document["metadata"].items() if name != "name"}
    return claim(f"{document['kind']}:{document['metadata']['name']}", document["spec"], metadata=metadata)
