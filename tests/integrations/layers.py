"""The catalog row by row, to see that what was set aside came back as it was."""

from __future__ import annotations

from typing import Any

import orjson

from catalog.models import (
    Activity,
    Claim,
    Entity,
    EntityKey,
    Problem,
    RedirectedClaim,
    Relation,
    Served,
    Tie,
    Transition,
)
from catalog.services.merge import leaves

_COLUMNS: dict[Any, tuple[str, ...]] = {
    Claim: (),
    Activity: (),
    Transition: (),
    RedirectedClaim: (),
    EntityKey: ("claim_id", "entity_id", "kind", "key", "path", "is_identity"),
    Entity: (
        "uid", "ref", "title", "owner", "system", "tags", "sources", "tokens", "last_run", "last_run_at",
        "failing_since", "version", "signals", "digest", "deleted_at",
    ),
    Relation: ("source_id", "type", "target_ref", "target_id"),
    Tie: ("source_id", "type", "target_id", "state", "key", "decided_by", "reason"),
    Problem: ("fingerprint", "type", "message", "resolved_at"),
}  # fmt: skip


def dump() -> dict[str, list[Any]]:
    """What is there, by table; what only says when a row was written is left out."""
    found = {}
    for model, columns in _COLUMNS.items():
        rows = model.objects.all()
        if model is Entity:
            rows = rows.filter(deleted_at=None)
        if model is Problem:
            rows = rows.filter(resolved_at=None, raised_by="catalog")
        found[model.__name__] = sorted(repr(row) for row in rows.values_list(*columns))
    # PostgreSQL keeps the keys of an object in an order of its own.
    found["Served"] = sorted(
        repr((row.entity_id, sorted(map(repr, leaves(orjson.loads(row.document)))), row.relations))
        for row in Served.objects.all()
    )
    return found


def same(now: dict[str, list[Any]], before: dict[str, list[Any]]) -> None:
    """Fail, with the rows that differ, unless both are the same."""
    gone = {name: sorted({*rows} - {*now[name]}) for name, rows in before.items() if rows != now[name]}
    come = {name: sorted({*rows} - {*before[name]}) for name, rows in now.items() if rows != before[name]}
    assert not gone, f"was {gone}\nis {come}"
