"""What sources say, in short: claims of some sources, taken in as any writer has them taken in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Entity, Rank, Revision, Served, Source, SourceType
from catalog.services.ingest import Applied, ClaimIn, apply_claims, drop_claims
from catalog.services.render import render_dirty, splice

START = timezone.now().replace(microsecond=0) - timedelta(hours=1)


def source(key: str = "yaml:a") -> Source:
    """A source; the part before the colon is its type."""
    found, _created = Source.objects.get_or_create(
        key=key,
        defaults={
            "type": SourceType(key.partition(":")[0]),
            "name": key.partition(":")[2].partition("/")[0],
            "label": key,
        },
    )
    return found


def claim(
    ref: str,
    spec: dict[str, Any] | None = None,
    *,
    id: str = "",
    rank: Rank = Rank.YAML,
    metadata: dict[str, Any] | None = None,
    minute: int = 0,
    **more: Any,
) -> ClaimIn:
    """A claim on `kind:namespace/name`; a name of `-` leaves the entity to be named by `suggested_name`."""
    kind, _, rest = ref.partition(":")
    namespace, _, name = rest.rpartition("/")
    named = {} if name == "-" else {"name": name, **({"namespace": namespace} if namespace else {})}
    ours = kind in {"repository", "pipeline", "artifact", "environment"}
    return ClaimIn(
        external_id=id or ref,
        kind=kind.lower(),
        document={
            "apiVersion": "portico/v1" if ours else "backstage.io/v1alpha1",
            "kind": kind.capitalize(),
            "metadata": {**named, **(metadata or {})},
            "spec": spec or {},
        },
        rank=rank,
        as_of=START + timedelta(minutes=minute),
        namespace=namespace or "default",
        **more,
    )


def component(name: str, *, owner: str = "team", id: str = "", **spec: Any) -> ClaimIn:
    """A whole component."""
    return claim(
        f"component:{name}", {"type": "service", "lifecycle": "production", "owner": owner, **spec}, id=id
    )


def say(who: Source | str, *claims: ClaimIn, minute: int = 0, render: bool = True) -> Applied:
    """Have one page taken in."""
    given = source(who) if isinstance(who, str) else who
    at = START + timedelta(minutes=minute)
    applied = apply_claims(source=given, claims=claims, at=at, by=given.label)
    if render:
        render_dirty(at=at)
    return applied


def unsay(who: Source | str, *external_ids: str, minute: int = 0) -> set[int]:
    """Have claims taken back."""
    given = source(who) if isinstance(who, str) else who
    at = START + timedelta(minutes=minute)
    written = drop_claims(source=given, external_ids=external_ids, at=at, by=given.label)
    render_dirty(at=at)
    return written


def entity(ref: str) -> Entity:
    """An entity by its ref, a tombstone too."""
    return Entity.objects.get(ref=ref)


def document(ref: str) -> dict[str, Any]:
    """What is served of an entity, relations included."""
    served = Served.objects.get(entity__ref=ref)
    return dict(orjson.loads(splice(served.document, served.relations)))


def relations(ref: str) -> list[tuple[str, str]]:
    """An entity's relations as they are served."""
    return [(item["type"], item["targetRef"]) for item in document(ref)["relations"]]


def history(ref: str) -> list[Revision]:
    """An entity's revisions, oldest first."""
    return list(Revision.objects.filter(entity_uid=entity(ref).uid).order_by("number"))


@contextmanager
def writes() -> Iterator[list[str]]:
    """Collects the statements that change rows."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as queries:
        yield found
    found += [
        query["sql"]
        for query in queries.captured_queries
        if query["sql"].split(None, 1)[0].upper() in {"INSERT", "UPDATE", "DELETE", "COPY", "CREATE", "DROP"}
    ]


def counted_rows() -> dict[str, tuple[int, int]]:
    """For each table of the catalog: how many rows there are, and the newest transaction that wrote one."""
    found = {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'catalog\\_%'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT count(*), coalesce(max(xmin::text::bigint), 0) FROM {table}")
            found[table] = cursor.fetchone()
    return found


def later(minutes: int) -> datetime:
    """Some minutes after the start."""
    return START + timedelta(minutes=minutes)
