"""Which repositories become components: decided over what is stored, previewed by the same code, and undone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access.models import AuditEvent
from catalog.models import Entity, Problem
from catalog.services.render import render_dirty
from integrations.components import ComponentRule, apply_rule, apply_rules, decide, rule_of
from integrations.contract import resource
from integrations.errors import SourceUnavailable
from integrations.guard import COUNT
from integrations.models import Connection, RuleRevision
from integrations.records import Pipeline, Repository
from integrations.services.connections import change_rule, undo_rule
from integrations.services.runs import decide_guard
from tests.catalog.saying import counted_rows, relations
from tests.integrations.tool import NOW, Tool, document, synced, thing, things_of

Connect = Callable[..., Connection]

pytestmark = pytest.mark.django_db


def components() -> dict[str, Any]:
    """Names and uids of the components that there are."""
    rows = Entity.objects.filter(kind="component", deleted_at=None)
    return dict(rows.values_list("name", "uid"))


def preview(connection: Connection, rule: ComponentRule | None = None) -> dict[str, bool]:
    """What a rule says of each repository, by path."""
    decisions = decide(connection=connection, rule=rule or rule_of(connection), now=timezone.now())
    assert all(decision.reason for decision in decisions)
    return {decision.path: decision.is_component for decision in decisions}


@pytest.fixture
def company(tool: Tool, connect: Connect) -> Connection:
    """Repositories of every sort."""
    tool.things = [
        thing("plain"),
        thing("archived", is_archived=True),
        thing("fork", is_fork=True),
        thing("asleep", last_activity_at=NOW - timedelta(days=500)),
        thing("empty", build_files=[]),
        thing("unknown", keys=[]),
        thing("piped", build_files=[]),
        thing("declared"),
        document("declared-one", dependsOn=["component:acme-rplain"]).model_copy(
            update={"about": ["repo:h.example/acme/rdeclared"]}
        ),
        Pipeline(
            external_id="p",
            name="build",
            keys=["pipeline:ci.example/p"],
            about=["repo:h.example/acme/rpiped"],
        ),
    ]
    connection = connect()
    synced(connection)
    return connection


class TestRule:
    def test_by_default_what_is_alive_and_built_becomes_one(self, company: Connection) -> None:
        assert set(components()) == {"acme-rplain", "acme-rpiped", "declared-one"}

    def test_every_repository_has_its_reason(self, company: Connection) -> None:
        found = {
            d.path: d.reason for d in decide(connection=company, rule=rule_of(company), now=timezone.now())
        }
        assert len(found) == 8
        assert "archived" in found["acme/rarchived"]
        assert "fork" in found["acme/rfork"]
        assert "12 months" in found["acme/rasleep"]
        assert "Nothing shows" in found["acme/rempty"]
        assert "no address" in found["acme/runknown"]
        assert "catalog file" in found["acme/rdeclared"]
        assert "pipeline" in found["acme/rpiped"]
        assert "go.mod" in found["acme/rplain"]

    @pytest.mark.parametrize(
        ("rule", "more", "less"),
        [
            ({"is_on": False}, set(), {"acme-rplain", "acme-rpiped"}),
            ({"with_archived": True}, {"acme-rarchived"}, set()),
            ({"with_forks": True}, {"acme-rfork"}, set()),
            ({"active_within_months": 0}, {"acme-rasleep"}, set()),
            ({"needs_evidence": False}, {"acme-rempty"}, set()),
            ({"only_if": "repository.path.endsWith('plain')"}, set(), {"acme-rpiped"}),
            ({"ignored": ["acme/rplain"]}, set(), {"acme-rplain"}),
            ({"only_if": "repository.description == 'x'"}, set(), {"acme-rplain", "acme-rpiped"}),
        ],
    )
    def test_each_setting_counts_and_its_preview_is_its_outcome(
        self, company: Connection, tool: Tool, rule: dict[str, Any], more: set[str], less: set[str]
    ) -> None:
        before, reads = components(), tool.reads
        changed = ComponentRule(**rule)
        expected = {path.replace("/", "-") for path, is_one in preview(company, changed).items() if is_one}
        assert components() == before  # a preview writes nothing
        change_rule(connection=company, rule=changed, by="ana")
        render_dirty(at=timezone.now())
        assert set(components()) == set(before) - less | more
        assert set(components()) - {"declared-one"} == expected
        assert tool.reads == reads  # nothing was fetched
        company.refresh_from_db()
        assert undo_rule(connection=company, by="ana")
        assert components() == before  # with the uids they had
        assert tool.reads == reads
        assert not undo_rule(connection=company, by="ana")
        assert AuditEvent.objects.filter(verb__startswith="connection.rule").count() == 2

    def test_rules_are_undone_one_by_one(self, company: Connection) -> None:
        for rule in ({"with_forks": True}, {"with_forks": True, "with_archived": True}):
            change_rule(connection=company, rule=ComponentRule(**rule), by="ana")
        assert RuleRevision.objects.count() == 2
        assert {"acme-rfork", "acme-rarchived"} <= set(components())
        undo_rule(connection=company, by="ana")
        assert "acme-rfork" in components()
        assert "acme-rarchived" not in components()
        undo_rule(connection=company, by="ana")
        assert "acme-rfork" not in components()

    def test_deciding_again_writes_nothing(self, company: Connection) -> None:
        before = counted_rows()
        apply_rules(now=timezone.now())
        assert counted_rows() == before


class TestNothingGoesUnasked:
    """What a run, and no person, brings the rule to think better of."""

    def many(self, tool: Tool, connect: Connect) -> Connection:
        tool.things = [thing(n, description="x") for n in range(COUNT + 5)]
        connection = connect()
        synced(connection)
        assert len(components()) == COUNT + 5
        return connection

    def problem(self) -> Problem:
        return Problem.objects.get(type="rule", resolved_at=None)

    def test_an_expression_that_begins_to_fail_removes_nothing(self, tool: Tool, connect: Connect) -> None:
        tool.things = [thing(1, description="x"), thing(2, description="y")]
        connection = connect()
        synced(connection)
        change_rule(
            connection=connection, rule=ComponentRule(only_if="repository.description != ''"), by="ana"
        )
        before = components()
        tool.things = [thing(1), thing(2)]  # the tool no longer tells what the expression asks for
        synced(connection)
        assert components() == before
        connection.refresh_from_db()
        assert not any(preview(connection).values())  # what a person would see, and decide by saving
        change_rule(connection=connection, rule=rule_of(connection), by="ana")
        assert components() == {}

    def test_nor_does_a_rule_that_cannot_be_read(self, tool: Tool, connect: Connect) -> None:
        connection = self.many(tool, connect)
        Connection.objects.filter(pk=connection.pk).update(rules={"components": {"only_if": "repository."}})
        connection.refresh_from_db()
        synced(connection)
        assert len(components()) == COUNT + 5
        assert "fails" in self.problem().cause

    def test_many_at_once_wait_for_a_person(self, tool: Tool, connect: Connect) -> None:
        connection = self.many(tool, connect)
        tool.things = [thing(n, build_files=[]) for n in range(COUNT)] + tool.things[COUNT:]
        synced(connection)
        assert len(components()) == COUNT + 5
        assert "Nothing shows that it is built" in self.problem().message
        change_rule(connection=connection, rule=rule_of(connection), by="ana")
        assert len(components()) == 5
        synced(connection)
        assert not Problem.objects.filter(type="rule", resolved_at=None).exists()

    def test_fewer_go(self, tool: Tool, connect: Connect) -> None:
        connection = self.many(tool, connect)
        tool.things = [thing(n, build_files=[]) for n in range(COUNT - 1)] + tool.things[COUNT - 1 :]
        synced(connection)
        assert len(components()) == 6

    def test_what_a_listing_no_longer_shows_is_held_with_its_records(
        self, tool: Tool, connect: Connect
    ) -> None:
        connection = self.many(tool, connect)
        tool.things = tool.things[:2]
        run = synced(connection)
        assert run.error_code == "guard"
        assert len(components()) == COUNT + 5
        decide_guard(resource=things_of(run), remove=True, by="ana")
        assert len(components()) == 2

    def test_what_nobody_reads_does_not_fall_asleep(self, tool: Tool, connect: Connect) -> None:
        connection = self.many(tool, connect)
        tool.things = [SourceUnavailable("Gone.")]
        later = NOW + timedelta(days=500)
        synced(connection, now=later)
        apply_rules(now=later)
        assert len(components()) == COUNT + 5
        assert all(
            decision.is_component
            for decision in decide(connection=connection, rule=rule_of(connection), now=later)
        )


def test_a_connectors_list_cannot_take_the_name_of_what_is_inferred() -> None:
    async def components() -> AsyncIterator[Any]:
        yield thing(1)

    with pytest.raises(TypeError, match="cannot have a list named 'components'"):
        resource(of=Repository)(components)


class TestEvidence:
    def test_that_comes_from_another_tool_makes_one(
        self, company: Connection, tool: Tool, connect: Connect
    ) -> None:
        tool.things = [
            Pipeline(
                external_id="q", name="q", keys=["pipeline:b.example/q"], about=["repo:h.example/acme/rempty"]
            )
        ]
        synced(connect("another"))
        assert "acme-rempty" in components()
        tool.things = []
        run = synced(Connection.objects.get(slug="another"))
        assert run.error_code == "guard"
        assert "acme-rempty" in components()  # an outage is no deletion

    def test_what_is_muted_while_others_are_decided_makes_nothing(
        self, company: Connection, tool: Tool, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tool.things = [thing("late")]
        late = connect("late")
        synced(late)
        change_rule(connection=late, rule=ComponentRule(is_on=False), by="ana")
        assert "acme-rlate" not in components()
        Connection.objects.filter(pk=late.pk).update(rules={})
        decided = []

        def muting(**given: Any) -> list[Any]:
            decided.append(given["connection"])
            Connection.objects.filter(pk=late.pk).update(muted_at=NOW)
            return apply_rule(**given)

        monkeypatch.setattr("integrations.components.apply_rule", muting)
        apply_rules(now=timezone.now())
        assert decided == [company]
        assert "acme-rlate" not in components()
        Connection.objects.filter(pk=late.pk).update(muted_at=None)
        monkeypatch.undo()
        apply_rules(now=timezone.now())
        assert "acme-rlate" in components()

    def test_a_declaration_takes_the_place_of_the_inferred_one_and_gives_it_back(
        self, company: Connection, tool: Tool
    ) -> None:
        uid = components()["acme-rplain"]
        here = {"about": ["repo:h.example/acme/rplain"], "keys": ["component:h.example/acme/rplain"]}
        declared = document("payments", file="catalog-info.yaml").model_copy(update=here)
        listed = list(tool.things)
        tool.things = [*listed, declared]
        synced(company)
        assert components()["payments"] == uid
        assert "acme-rplain" not in components()
        assert ("dependencyOf", "component:default/declared-one") in relations("component:default/payments")
        tool.things = listed
        synced(company)
        assert uid in components().values()

    @pytest.mark.parametrize(
        ("named", "lives_in"), [(None, "default"), ("shop", "shop"), ("elsewhere", "elsewhere")]
    )
    def test_a_document_lives_where_it_says_or_in_default_whatever_the_connections_namespace_is(
        self, tool: Tool, connect: Connect, named: str | None, lives_in: str
    ) -> None:
        tool.things = [thing(1), thing(2)]
        shop = connect(namespace="shop")
        synced(shop)
        found = dict(Entity.objects.filter(kind="component").values_list("ref", "uid"))
        assert set(found) == {"component:shop/acme-r1", "component:shop/acme-r2"}, "what it names itself"
        here = {"about": ["repo:h.example/acme/r1"], "keys": ["component:h.example/acme/r1"]}
        declared = document("payments", file="catalog-info.yaml").model_copy(update=here)
        alone = document("alone")  # of which nothing was found before
        if named:
            declared.document["metadata"]["namespace"] = alone.document["metadata"]["namespace"] = named
        tool.things = [thing(1), thing(2), declared, alone]
        synced(shop)
        assert Entity.objects.get(kind="component", name="alone").namespace == lives_in
        payments = Entity.objects.get(kind="component", name="payments")
        assert payments.ref == f"component:{lives_in}/payments"
        assert payments.uid == found["component:shop/acme-r1"]
        assert ("ownedBy", f"group:{lives_in}/team") in relations(payments.ref)
        assert ("hasSource", "repository:shop/acme-r1") in relations(payments.ref)

    def test_the_owner_is_the_one_of_the_whole_repository(self, tool: Tool, connect: Connect) -> None:
        tool.things = [
            thing("a", owners=["@acme/pay-team", "@joe"]),
            thing("b", owners=["joe@acme.example"]),
            thing("c"),
        ]
        synced(connect())
        owners = dict(Entity.objects.filter(kind="component").values_list("name", "owner"))
        assert owners == {"acme-ra": "group:default/pay-team", "acme-rb": "user:default/joe", "acme-rc": ""}
