"""One company with every trap, read by the connectors through whole syncs; see ties/company.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from django.utils import timezone

from access.models import User
from catalog import identity
from catalog.models import Activity, Claim, Entity, EntityKey, Relation, Tie, TieState
from catalog.services.render import render_dirty
from integrations import sync
from integrations.models import ResourceRun
from integrations.services.connections import create_connection
from integrations.services.runs import request_sync
from tests.integrations.company import Company, play

ROWS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "ties/company.yaml").read_text())
LINE = re.compile(r"(.+?) (hasSource|builtBy|packagedAs|runsAs|runsOn|ownedBy|about) (.+)")
JUDGED = ("hasSource", "builtBy", "packagedAs", "runsAs")

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(
    tmp_path: Path, core_pack: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Company]:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with play(tmp_path) as played:
        yield played


@dataclass
class Outcome:
    """What a table showed."""

    true: int = 0
    traps: int = 0
    missing: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    not_listed: list[str] = field(default_factory=list)


class World:
    """The catalog after the syncs, and what each key was before the second round."""

    def __init__(self, company: Company, order: list[str]) -> None:
        made = company.connections()
        self.connections = [
            create_connection(
                slug=slug, label=slug, connector=made[slug][0], config=made[slug][1],
                network={"proxy": company.git_url if slug == "git" else company.url},
            )
            for slug in order
        ]  # fmt: skip
        self.sync()
        self.before = self.known()
        company.is_later = True
        self.sync()
        self.now = self.known()
        assert not company.missing

    def sync(self) -> None:
        for connection in self.connections:
            run = request_sync(connection=connection, by="ana")
            sync.execute_run(run_id=run.pk, now=timezone.now())
            bad = (
                ResourceRun.objects.filter(run=run)
                .exclude(state="complete")
                .values_list("name", "state", "message")
            )
            assert not list(bad), (connection.slug, list(bad))
        render_dirty(at=timezone.now() + timedelta(seconds=1))

    @staticmethod
    def known() -> dict[str, int]:
        """What each identity key, ref and claim is."""
        alive = EntityKey.objects.filter(is_identity=True, entity__deleted_at=None, claim__is_shadowed=False)
        found = dict(alive.values_list("key", "entity_id"))
        for claim in Claim.objects.select_related("source").filter(entity__deleted_at=None):
            slug = claim.source.key.removeprefix("connection:").partition("/")[0]
            found[f"claim:{slug}/{claim.external_id}"] = claim.entity_id
        return found | dict(Entity.objects.filter(deleted_at=None).values_list("ref", "id"))

    def find(self, name: str) -> int | None:
        key, _space, when = name.partition(" ")
        known = self.before if when else self.now
        return known.get(key) or known.get(identity.normalise(key) or "")

    def holds(self) -> set[tuple[int, str, int]]:
        """All that is tied, owned and about something."""
        ties = Tie.objects.exclude(state=TieState.FORBIDDEN).filter(
            source__deleted_at=None, target__deleted_at=None
        )
        owned = Relation.objects.filter(type="ownedBy").exclude(target=None)
        rows = ("source_id", "type", "target_id")
        return {*ties.values_list(*rows), *owned.values_list(*rows)}

    def is_true(self, line: str, holds: set[tuple[int, str, int]]) -> bool:
        """Whether a line holds; a `*` stands for anything."""
        one, type_, other = LINE.fullmatch(line).groups()  # type: ignore[union-attr]
        if type_ == "about":
            subject = Entity.objects.get(pk=self.find(other)).uid
            number = int(one[-1])
            alerts = Activity.objects.filter(type="alert", subject_uid=subject)
            if one.startswith("alert:p"):
                return alerts.filter(connection="metrics").count() == number
            return alerts.filter(connection="alerts", external_id=one.removeprefix("alert:")).exists()
        ends = [None if name == "*" else self.find(name) for name in (one, other)]
        if any(end is None and name != "*" for end, name in zip(ends, (one, other), strict=True)):
            return False
        return any(type_ == t and (ends[0] in (None, s)) and (ends[1] in (None, o)) for s, t, o in holds)

    def judge(self, listed: set[str]) -> Outcome:
        """Hold the table against the catalog.

        :param listed: the refs in the list of what is unclear.
        """
        outcome, holds = Outcome(), self.holds()
        names = dict(Entity.objects.values_list("id", "ref"))
        for row in ROWS:
            must, never = row.get("must", []), row.get("never", [])
            same, apart = row.get("same"), row.get("apart")
            outcome.true += len(must) + bool(same)
            outcome.traps += row["n"].startswith("T")
            label = f"{row['n']} {row['what']}"
            outcome.missing += [f"{label}: {line}" for line in must if not self.is_true(line, holds)]
            outcome.false += [f"{label}: {line}" for line in never if self.is_true(line, holds)]
            if same and (self.find(same[0]) is None or self.find(same[0]) != self.find(same[1])):
                outcome.missing.append(f"{label}: {same} are not one")
            if apart:
                ends = [self.find(name) for name in apart]
                assert None not in ends, (label, apart, ends)
                if ends[0] == ends[1]:
                    outcome.false.append(f"{label}: {apart} are one")
            for name in row.get("unsure", []):
                if names.get(self.find(name) or 0) not in listed:
                    outcome.not_listed.append(f"{label}: {name}")
        outcome.false += self.unexpected(holds, names)
        return outcome

    def unexpected(self, holds: set[tuple[int, str, int]], names: dict[int, str]) -> list[str]:
        """The ties that no row names, but for those that say a row's again of the component's own repository."""
        lines = [line for row in ROWS for line in (*row.get("must", []), *row.get("may", []))]
        parts = [LINE.fullmatch(line).groups() for line in lines]  # type: ignore[union-attr]
        allowed = {
            (self.find(one), type_, self.find(other)) for one, type_, other in parts if type_ != "about"
        }
        own = {
            (one, "hasSource", other)
            for key, one in self.now.items()
            if key.startswith("component:") and (other := self.now.get(key.replace("component:", "repo:")))
        }
        repository_of = {(t, s) for s, type_, t in holds if type_ == "hasSource"}
        again = {(r, type_, o) for s, type_, o in allowed for r, c in repository_of if c == s}
        left = {one for one in holds if one[1] in JUDGED} - allowed - own - again
        return [f"{names[s]} {type_} {names[t]} (in no row)" for s, type_, t in sorted(left)]


@pytest.mark.parametrize("backwards", [False, True], ids=["code first", "workloads first"])
def test_no_tie_is_false_and_all_true_ones_are_made_or_asked_about(
    company: Company, backwards: bool, ana: User, browse: Callable[[User], Client]
) -> None:
    order = list(company.connections())
    if backwards:  # of two files that declare one thing the earlier counts, so code keeps its order
        code = order.index("builds")
        order = order[:code:-1] + order[: code + 1]
    world = World(company, order)
    page = browse(ana).get("/problems?type=unclear").content.decode()
    links = re.findall(r'href="/catalog/([^/"]+)/([^/"]+)/([^/"?]+)"', page)
    outcome = world.judge({f"{kind}:{namespace}/{name}" for namespace, kind, name in links})
    assert outcome.traps >= 40
    assert outcome.true >= 40
    assert not outcome.false, "\n".join(outcome.false)
    assert not outcome.not_listed, "\n".join(outcome.not_listed)
    assert len(outcome.missing) <= outcome.true * 0.05, "\n".join(outcome.missing)
