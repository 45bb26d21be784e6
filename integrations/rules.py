"""What a connection's rules make of what it brought, as far as a viewer may know of it. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from integrations.components import ComponentRule, Decision, decide, rule_of
from integrations.ignoring import IgnoreRule, LeftOut, left_out
from integrations.models import Connection
from integrations.queries import seen_records, sees_all


@dataclass(frozen=True, slots=True)
class Decided:
    """What a rule says of a repository, and whether it is a component now."""

    decision: Decision
    was_component: bool


def decisions(viewer: Any, connection: Connection, rule: ComponentRule, *, now: datetime) -> list[Decided]:
    """What a rule would make of every repository of a connection, beside what the one in force makes of it."""
    found = decide(connection=connection, rule=rule, now=now)
    before = (
        found
        if (present := rule_of(connection)) == rule
        else decide(connection=connection, rule=present, now=now)
    )
    if not sees_all(viewer):
        mine = seen_records(viewer, connection.records.filter(type="repository"))
        known = set(mine.values_list("external_id", flat=True))
        found = [decision for decision in found if decision.external_id in known]
    was = {decision.external_id for decision in before if decision.is_component}
    return [Decided(decision, decision.external_id in was) for decision in found]


def what_is_left_out(viewer: Any, connection: Connection, rule: IgnoreRule) -> list[LeftOut]:
    """What a rule leaves out of what a connection brought, and what it brings back."""
    found = left_out(connection=connection, rule=rule)
    if sees_all(viewer):
        return found
    known = set(seen_records(viewer, connection.records.all()).values_list("pk", flat=True))
    return [item for item in found if item.record.pk in known]
