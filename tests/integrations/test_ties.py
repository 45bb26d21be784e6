"""The fixture of ties, run through records, mapping, the component rule and the tie engine; see ties/README.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import transaction
from django.utils import timezone

from catalog.models import Claim, Entity, Problem, Tie, TieState
from catalog.services.dirty import mark_dirty
from catalog.services.ingest import drop_claims
from catalog.services.render import reach_of, render_dirty
from integrations import components
from integrations.models import Connection, StoredRecord
from integrations.records import RECORD_TYPES, Record
from integrations.writing import RecordWriter

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "ties" / "cases.yaml").read_text())
RESOURCES = {
    "repository": "repositories",
    "document": "documents",
    "pipeline": "pipelines",
    "artifact": "artifacts",
    "environment": "environments",
    "workload": "workloads",
}
JUDGED = {"hasSource", "builtBy", "packagedAs", "runsAs"}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _core(core_pack: None) -> None:
    """The kinds and relation types of the core."""


@dataclass
class World:
    """A catalog after some rounds of records, with what each reference meant after each round."""

    now: datetime
    meant: list[dict[str, int]] = field(default_factory=list)

    def sync(self, listings: dict[str, dict[str, Any]]) -> None:
        for slug, listing in listings.items():
            connection, _created = Connection.objects.get_or_create(
                slug=slug, defaults={"label": slug, "connector": listing.get("connector", "records")}
            )
            by_resource: dict[str, list[Record]] = {}
            for record in _records(listing["records"], self.now):
                by_resource.setdefault(RESOURCES.get(record.type, "activity"), []).append(record)
            with transaction.atomic():
                for resource in [*RESOURCES.values(), "activity"]:
                    self._write(connection, resource, by_resource.get(resource, []))
            components.apply_rules(now=self.now)
            render_dirty(at=self.now)
            self.now += timedelta(minutes=1)
        self._note()

    def _write(self, connection: Connection, resource: str, records: list[Record]) -> None:
        writer = RecordWriter(connection=connection, resource=resource, by=connection.label, now=self.now)
        written = writer.write(records)
        assert not written.errors, written.errors
        if resource == "activity":
            return
        gone = StoredRecord.objects.filter(connection=connection, resource=resource, deleted_at=None).exclude(
            external_id__in=[record.external_id for record in records]
        )
        ids = list(gone.values_list("external_id", flat=True))
        if ids:
            drop_claims(source=writer.source(), external_ids=ids, at=self.now, by=connection.label)
            gone.update(deleted_at=self.now)

    def decide(self, decisions: list[dict[str, str]]) -> None:
        for decision in decisions:
            for verb, line in decision.items():
                source, type_, target = self.ends(line)
                state = {"forbid": TieState.FORBIDDEN, "confirm": TieState.CONFIRMED}[verb]
                Tie.objects.update_or_create(
                    source_id=source,
                    type=type_,
                    target_id=target,
                    defaults={"state": state, "decided_by": "ana"},
                )
                mark_dirty([source, target])
        render_dirty(at=self.now)
        self._note()

    def _note(self) -> None:
        meant = {}
        for claim in Claim.objects.select_related("source", "entity").filter(entity__deleted_at=None):
            slug, _slash, resource = claim.source.key.removeprefix("connection:").partition("/")
            mark = "~" if resource == "components" else "@"
            meant[f"{mark}{slug}/{claim.external_id}"] = claim.entity_id
        meant |= dict(Entity.objects.filter(deleted_at=None).values_list("ref", "id"))
        self.meant.append(meant)

    def find(self, reference: str) -> int | None:
        if match := re.fullmatch(r"(.+) after (\d+)", reference):
            return self.meant[int(match[2])].get(match[1])
        return self.meant[-1].get(reference)

    def ends(self, line: str) -> tuple[Any, str, Any]:
        match = re.fullmatch(r"(.+?) (hasSource|builtBy|packagedAs|runsAs|runsOn|\*) (.+)", line)
        assert match, line
        return (
            match[1] if match[1] == "*" else self.find(match[1]),
            match[2],
            match[3] if match[3] == "*" else self.find(match[3]),
        )


def _records(rows: list[dict[str, Any]], now: datetime) -> list[Record]:
    found = []
    for row in rows:
        row = dict(row)
        count = row.pop("repeat", 1)
        for n in range(1, count + 1):
            data = _filled(row, str(n), now)
            found.append(RECORD_TYPES[data.pop("type")].model_validate(data))
    return found


def _filled(value: Any, n: str, now: datetime) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, n, now) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, n, now) for inner in value]
    if isinstance(value, str):
        if match := re.fullmatch(r"@-(\d+)d", value):
            return (now - timedelta(days=int(match[1]))).isoformat()
        return value.replace("{n}", n)
    return value


def _build(case: dict[str, Any]) -> World:
    world = World(now=timezone.now())
    world.sync(case["connections"])
    for later in case.get("later", []):
        if "decisions" in later:
            world.decide(later["decisions"])
        else:
            world.sync({slug: {"records": records} for slug, records in later["records"].items()})
    return world


def _in_force() -> set[tuple[int, str, int]]:
    ties = Tie.objects.exclude(state=TieState.FORBIDDEN).filter(
        source__deleted_at=None, target__deleted_at=None
    )
    return set(ties.values_list("source_id", "type", "target_id"))


def _matches(tie: tuple[int, str, int], pattern: tuple[Any, str, Any]) -> bool:
    return all(want in ("*", got) for got, want in zip(tie, pattern, strict=True))


@dataclass
class Verdict:
    """What one scenario showed."""

    true: int = 0
    missing: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def _judge(case: dict[str, Any]) -> Verdict:
    world = _build(case)
    expect, verdict, have = case["expect"], Verdict(), _in_force()
    named = dict(Entity.objects.values_list("id", "ref"))
    for line in expect.get("ties", []):
        source, type_, target = world.ends(line)
        verdict.true += 1
        if source is None or target is None or (source, type_, target) not in have:
            verdict.missing.append(line)
    for line in expect.get("no_ties", []):
        pattern = world.ends(line)
        if pattern[0] is not None and pattern[2] is not None and any(_matches(tie, pattern) for tie in have):
            verdict.false.append(line)
    for one, other in expect.get("different_entities", []):
        first, second = world.find(one), world.find(other)
        if first is not None and first == second:
            verdict.false.append(f"{one} and {other} are one entity")
    allowed = [world.ends(line) for line in [*expect.get("ties", []), *expect.get("may", [])]]
    kinds = dict(Entity.objects.values_list("id", "kind"))
    for tie in have:
        if tie[1] not in JUDGED or kinds[tie[0]] not in {"component", "repository", "artifact"}:
            continue
        if any(_matches(tie, pattern) for pattern in allowed if None not in pattern):
            continue
        if kinds[tie[0]] == "repository" and any(
            p[1] == tie[1]
            and p[2] == tie[2]
            and isinstance(p[0], int)
            and (p[0], "hasSource", tie[0]) in have
            for p in allowed
        ):
            continue
        verdict.false.append(f"{named[tie[0]]} {tie[1]} {named[tie[2]]} (unexpected)")
    _judge_rest(world, expect, have, verdict)
    return verdict


def _judge_rest(
    world: World, expect: dict[str, Any], have: set[tuple[int, str, int]], verdict: Verdict
) -> None:
    for line in expect.get("shared", []):
        repository, _shares, thing = line.partition(" shares ")
        owner, shared = world.find(repository), world.find(thing)
        uid = Entity.objects.get(pk=shared).uid
        of_it = {s for s, type_, t in have if type_ == "hasSource" and t == owner}
        if not any(s == owner and t == shared for s, _type, t in have):
            verdict.broken.append(f"{line}: the repository does not hold it")
        for component, found in reach_of(of_it).items():
            if (uid, True) not in found:
                verdict.broken.append(f"{line}: it does not show on {component}")
    for problem in expect.get("problems", []):
        subjects = problem["subject"] if isinstance(problem["subject"], list) else [problem["subject"]]
        uids = [Entity.objects.get(pk=pk).uid for s in subjects if (pk := world.find(s)) is not None]
        if not Problem.objects.filter(type=problem["type"], subject_uid__in=uids, resolved_at=None).exists():
            verdict.broken.append(f"no problem {problem['type']} on {problem['subject']}")
    for one, other in expect.get("same_entity", []):
        first, second = world.find(one), world.find(other)
        if first is None or first != second:
            verdict.broken.append(f"{one} and {other} are not one entity")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_no_scenario_makes_a_false_tie(case: dict[str, Any]) -> None:
    verdict = _judge(case)
    assert not verdict.false
    assert not verdict.broken


def test_at_least_95_percent_of_the_true_ties_are_made() -> None:
    true, missing = 0, []
    for case in CASES:
        with transaction.atomic():
            verdict = _judge(case)
            true += verdict.true
            missing += [f"{case['name']}: {line}" for line in verdict.missing]
            transaction.set_rollback(True)
    assert true >= 20
    assert len(missing) <= true * 0.05, missing
