"""Connections that only some access groups may see: nothing of what they brought is told to others, anywhere."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import AuditEvent, Group, Role, User
from access.permissions import visible
from access.services import create_group, grant, invite, make_sign_in_link, set_members
from base.errors import Forbidden, InvalidInput
from catalog import queries
from catalog.feed import feed_since
from catalog.lookup import look_up
from catalog.models import Activity, Audience, Claim, ClaimMode, Entity, FeedItem, Problem, Rank, Source, Tie
from catalog.services.activity import ActivityIn, apply_activity, resolve_subjects
from catalog.services.audience import free_name
from catalog.services.edit import drop_override, override_field
from catalog.services.homes import leave
from catalog.services.ingest import drop_claims, remerge
from catalog.services.people import teams
from catalog.services.render import render_dirty
from catalog.suggestions import suggested_owners
from integrations.components import apply_rules, decide, rule_of
from integrations.models import Connection, RunState, StoredRecord, SyncRun
from integrations.queries import list_connections
from integrations.services.connections import show_to, update_connection, visible_to_of
from integrations.services.moving import settle_connection
from integrations.services.muting import muting_of
from integrations.services.removal import removal_of, request_removal
from tests.catalog.saying import claim, say
from tests.portal.test_reach import reading, signed_in, told
from tests.world import REPO

pytestmark = pytest.mark.django_db

WORD = "velours"
APP = "component:default/velours-app"


def _run(id: str, about: str, **more: Any) -> ActivityIn:
    at = timezone.now()
    return ActivityIn(
        type="run", external_id=id, event="pipelinerun.finished", at=at, as_of=at, about=(about,), **more
    )


@pytest.fixture
def group(ana: User, ben: User) -> Group:
    """An access group that ben is in."""
    group = create_group(name="Insiders")
    set_members(group=group, members=[ben])
    return group


@pytest.fixture
def velours(world: dict[str, Any]) -> Connection:
    """A tool of which everything holds a word of its own, and which also speaks of what others speak of."""
    tool = {"rank": Rank.CONNECTION}
    connection = Connection.objects.create(
        slug="velours-ci", label="Velours CI", connector="records", namespace="default"
    )
    SyncRun.objects.create(
        connection=connection,
        state=RunState.PARTIAL,
        queued_at=timezone.now(),
        finished_at=timezone.now(),
        message="velours failed",
    )
    StoredRecord.objects.create(
        connection=connection,
        resource="things",
        type="pipeline",
        external_id="1",
        digest=b"1",
        data={"external_id": "1", "name": WORD},
        raw={"word": WORD},
        as_of=timezone.now(),
        touched_at=timezone.now(),
    )
    say(
        "connection:velours-ci/things",
        claim(
            "component:velours-app",
            {"type": "velours", "lifecycle": "production", "owner": "velours-team"}
            | {"dependsOn": ["component:elsewhere/there"]},
            metadata={"tags": ["velours"], "labels": {"velours": "velours"}},
            about=(REPO,),
            **tool,
        ),
        claim(
            "component:hush-pay",
            {"type": "service", "lifecycle": "production", "owner": "velours-team", "note": "velours"},
            metadata={"annotations": {"velours": "velours"}, "tags": ["velours"]},
            id="amended",
            keys=("npm:velours",),
            **tool,
        ),
        claim(
            "pipeline:velours-build",
            id="p",
            keys=("pipeline:velours.example/1",),
            about=(REPO,),
            **tool,
        ),
        claim("repository:velours-twin", {}, id="twin", keys=("repo:h.example/twin",), **tool),
    )
    apply_activity(
        connection_slug="velours-ci",
        connector="records",
        items=[
            _run("1", "pipeline:velours.example/1", status="failed", title="velours run", actor="velours"),
            _run("2", "pipeline:ci.example/2", status="failed", title="velours of others"),
        ],
    )
    apply_activity(
        connection_slug="there-ci",
        connector="buildbot",
        items=[_run("v", "pipeline:velours.example/1", status="failed", title="velours, told by another")],
    )
    Problem.objects.create(
        fingerprint="v", type="refused-record", severity="warn", raised_by="connection:velours-ci",
        subject_type="record", subject_label="velours", cause="velours", message="velours",
        first_seen_at=timezone.now(), last_seen_at=timezone.now(),
    )  # fmt: skip
    render_dirty(at=timezone.now())
    return connection


@pytest.fixture
def apart(velours: Connection, group: Group) -> Connection:
    """The same, for the insiders alone."""
    show_to(velours, ["Insiders"])
    render_dirty(at=timezone.now())
    return velours


class TestSeeing:
    def test_no_address_tells_anything_of_it_to_others(
        self, world: dict[str, Any], apart: Connection, vic: User
    ) -> None:
        assert told(vic, reading(world), word=WORD) == {}
        client = signed_in(vic)
        for url in (
            "/connections/velours-ci",
            "/connections/velours-ci/runs",
            "/catalog/default/component/velours-app",
            f"/api/v1/entities/{Entity.objects.get(ref=APP).uid}/",
            "/api/v1/connections/velours-ci/",
            "/to/npm:velours",
        ):
            answer = client.get(url)
            assert answer.status_code in (302, 404) or WORD not in answer.content.decode().replace(url, ""), (
                url
            )

    def test_who_is_in_the_group_or_may_do_everything_is_told(
        self, world: dict[str, Any], apart: Connection, ben: User, ana: User
    ) -> None:
        for user in (ben, ana):
            found = told(
                user, (pair for pair in reading(world) if not pair[0].pattern.startswith("search")), word=WORD
            )
            assert {"", "catalog", "activity", "connections", "api/v1/entities/", "api/v1/activity/"} <= set(
                found
            ), user
            assert signed_in(user).get("/catalog/default/component/velours-app").status_code == 200

    def test_without_it_everybody_was_told_the_same(
        self, world: dict[str, Any], velours: Connection, vic: User
    ) -> None:
        """Else the first test shows nothing."""
        found = told(vic, reading(world), once=True, word=WORD)
        assert {"", "catalog", "activity", "problems", "connections", "api/v1/ties/"} <= set(found)

    def test_no_query_finds_it(self, apart: Connection, vic: User, ben: User) -> None:
        for query in (
            "type:velours",
            "tag:velours",
            "source:velours-ci",
            "label.velours:velours",
            "velours",
            "owner:velours-team",
            "dependencyOf:component:default/velours-app",
            "spec.note:velours",
        ):
            assert not queries.search_entities(vic, query).exists(), query
        assert queries.search_entities(ben, "type:velours").exists()
        FeedItem.objects.update(transaction=1)
        for viewer, expected in ((vic, False), (ben, True)):
            feed, _next = feed_since(viewer, position=(0, 0), limit=1_000)
            assert any(WORD in item.entity_ref for item in feed) is expected


class TestMerging:
    def test_what_it_says_of_open_things_is_no_part_of_them(
        self, apart: Connection, vic: User, ben: User
    ) -> None:
        pay = Entity.objects.get(ref="component:default/hush-pay")
        assert pay.audience is None
        assert "velours-ci" not in pay.sources
        assert "note" not in queries.documents(ben, [pay])[pay.pk]["spec"]
        assert [c.source.name for c in queries.claims_on(vic, pay)] == ["a"]
        assert [c.source.name for c in queries.claims_on(ben, pay)] == ["a", "velours-ci"]

    def test_nor_is_it_evidence_of_their_ties_or_their_readme(
        self, apart: Connection, vic: User, ben: User
    ) -> None:
        pay = Entity.objects.get(ref="component:default/hush-pay")
        crew = Entity.objects.get(ref="pipeline:elsewhere/test")
        tie = Tie.objects.create(source=pay, type="builtBy", target=crew)
        kept = StoredRecord.objects.get(connection=apart)
        kept.pk, kept.external_id = None, "amended"
        kept.save()
        for viewer, expected in ((vic, False), (ben, True)):
            sides = queries.evidence_of(viewer, tie.pk).sides
            assert any(side["source"].name == apart.slug for side in sides) is expected
            records = queries.records_of_entities(viewer, [pay.pk], StoredRecord.objects.all())
            assert records.filter(connection=apart).exists() is expected

    def test_nor_do_the_names_lead_to_them_that_it_alone_knows_them_by(
        self, apart: Connection, vic: User, ben: User
    ) -> None:
        other = claim("component:other-pay", {}, id="other", keys=("npm:velours",))
        say("yaml:a", other)
        pay, twin = "component:default/hush-pay", "component:default/other-pay"
        render_dirty(at=timezone.now())
        for viewer, expected in ((vic, {twin}), (ben, {pay, twin})):
            assert {entity.ref for entity in look_up(viewer, "npm:velours").things} == expected
            found = queries.alike(viewer, Entity.objects.get(ref=twin))
            assert {entity.ref for entity in found} == expected - {twin}

    def test_nor_does_it_make_them_stale_or_declared(self, apart: Connection, vic: User) -> None:
        said = Claim.objects.filter(entity__ref="component:default/hush-pay")
        said.filter(source__name="a").update(rank=Rank.INFERRED, stale_reason="")
        said.filter(source__name=apart.slug).update(stale_reason="velours")
        for query, expected in (("is:stale", False), ("is:inferred", True)):
            found = queries.search_entities(vic, f"hush-pay {query}", now=timezone.now())
            assert found.filter(name="hush-pay").exists() is expected, query
        said.filter(source__name="a").update(stale_reason="not YAML")
        assert queries.search_entities(vic, "is:stale").filter(name="hush-pay").exists()

    def test_nor_is_a_person_suggested_for_an_address_that_it_alone_knows(
        self, velours: Connection, group: Group, vic: User, ben: User
    ) -> None:
        address = ("user:joe@velours.example",)
        say(
            "yaml:a",
            claim("user:joe", {"memberOf": []}),
            claim("component:left", {"type": "x"}, about=(REPO,)),
        )
        say(
            "connection:velours-ci/people",
            claim("user:joe", {"memberOf": []}, id="joe", keys=address, rank=Rank.CONNECTION),
        )
        committers = {"topCommitters": ["Joe <joe@velours.example>"]}
        say(
            "connection:git/x", claim("repository:left", committers, id="left", keys=("repo:h.example/left",))
        )
        render_dirty(at=timezone.now())
        show_to(velours, ["Insiders"])
        render_dirty(at=timezone.now())
        left = [Entity.objects.get(ref="repository:default/left")]
        for viewer, expected in ((vic, []), (ben, ["user:default/joe"])):
            assert [one.entity.ref for one in suggested_owners(viewer, left)] == expected

    def test_nor_does_what_others_tell_go_to_them_by_a_key_that_it_alone_knows(
        self, apart: Connection
    ) -> None:
        for slug in ("open-ci", apart.slug):
            items = [_run("key", "npm:velours", status="passed", title="a run")]
            apply_activity(connection_slug=slug, connector="records", items=items)
        pay = Entity.objects.get(ref="component:default/hush-pay")

        def told_of() -> list[str]:
            rows = Activity.objects.filter(external_id="key", subject_uid=pay.uid)
            return list(rows.values_list("connection", flat=True))

        assert told_of() == [apart.slug]
        resolve_subjects({"npm:velours"})
        assert told_of() == [apart.slug]
        show_to(apart, [])
        render_dirty(at=timezone.now())
        resolve_subjects({"npm:velours"})
        assert sorted(told_of()) == ["open-ci", apart.slug]

    def test_what_it_tells_of_does_not_show_how_open_things_are(
        self, velours: Connection, group: Group
    ) -> None:
        there = Entity.objects.get(ref="pipeline:elsewhere/test")
        assert there.last_run == "failed"
        show_to(velours, ["Insiders"])
        render_dirty(at=timezone.now())
        there.refresh_from_db()
        assert (there.last_run, there.failing_since) == ("passed", None)
        assert "failing" not in there.signals
        app = Entity.objects.get(ref=APP)
        assert app.audience == [group.pk]
        assert app.last_run == "failed", "it counts for what it alone speaks of"

    def test_what_had_come_together_by_its_keys_stays_so_and_comes_apart_under_another_name(
        self, velours: Connection, group: Group
    ) -> None:
        pay = Entity.objects.get(ref="component:default/hush-pay")

        def home(connection: str) -> Entity:
            guest = claim("component:-", {}, id="g", keys=("npm:velours",), suggested_name="guest")
            say(f"connection:{connection}/things", guest)
            render_dirty(at=timezone.now())
            return Entity.objects.get(claims__source__name=connection, claims__external_id="g")

        assert home("open-ci") == pay
        show_to(velours, ["Insiders"])
        render_dirty(at=timezone.now())
        assert home("open-ci") == pay
        source = Source.objects.get(key="connection:open-ci/things")
        drop_claims(source=source, external_ids=["g"], at=timezone.now(), by="x")
        assert home("open-ci") == pay, "under its name it returns to where it was"
        drop_claims(source=source, external_ids=["g"], at=timezone.now(), by="x")
        assert home("open-two").ref == "component:default/guest"

    def test_opened_again_all_is_as_it_was(self, velours: Connection, group: Group, vic: User) -> None:
        def state() -> list[Any]:
            rows = Entity.objects.order_by("ref").values_list(
                "ref", "audience", "sources", "last_run", "signals", "digest"
            )
            ties = Tie.objects.order_by("source__ref", "target__ref").values_list(
                "source__ref", "target__ref"
            )
            return [*rows, *ties]

        before = state()
        show_to(velours, ["Insiders"])
        render_dirty(at=timezone.now())
        assert state() != before
        show_to(velours, [])
        render_dirty(at=timezone.now())
        assert state() == before
        assert not Audience.objects.exists()

    def test_what_only_it_speaks_of_is_kept_from_others_before_the_queue_comes_to_it(
        self, velours: Connection, group: Group, vic: User
    ) -> None:
        assert queries.search_entities(vic, "type:velours").exists()
        show_to(velours, ["Insiders"])
        assert not queries.search_entities(vic, "type:velours").exists()
        assert not queries.list_activity(vic).filter(connection="velours-ci").exists()

    def test_a_sync_that_comes_later_keeps_it(self, apart: Connection, vic: User) -> None:
        say(
            "connection:velours-ci/things",
            claim("component:velours-new", {"type": "velours"}, id="new", rank=Rank.CONNECTION),
        )
        remerge(entity_ids=Entity.objects.values_list("pk", flat=True), at=timezone.now(), by="x")
        assert not queries.search_entities(vic, "velours").exists()

    def test_former_keys_that_it_alone_knew_lead_nowhere(
        self, apart: Connection, vic: User, ben: User
    ) -> None:
        pay = Entity.objects.get(ref="component:default/hush-pay")
        source = Source.objects.get(key="connection:velours-ci/things")
        leave(source, [("component", "npm:velours-of-old", pay.pk)])
        assert look_up(ben, "npm:velours-of-old").things == [pay]
        assert look_up(vic, "npm:velours-of-old").things == []
        free_name(name=apart.slug, uid=apart.uid)
        assert look_up(vic, "npm:velours-of-old").things == []
        app = Entity.objects.get(ref=APP)
        leave(source, [("component", "npm:velours-gone", app.pk)])
        Entity.objects.filter(pk=app.pk).update(audience=None, deleted_at=timezone.now())
        assert look_up(ben, "npm:velours-gone").gone == app

    def test_nor_does_it_show_that_something_is_built_or_who_a_team_is(
        self, apart: Connection, vic: User
    ) -> None:
        git = Connection.objects.create(slug="git", label="Git", connector="records", namespace="default")
        at = timezone.now()
        data = {"external_id": "r", "name": "left", "keys": ["repo:h.example/left"], "path": "x/left"}
        StoredRecord.objects.create(
            connection=git, resource="repositories", type="repository", external_id="r", digest=b"r",
            data={**data, "last_activity_at": at.isoformat()}, as_of=at, touched_at=at,
        )  # fmt: skip
        proof, team = ("repo:h.example/left",), ("team:h.example/velours",)
        for source, expected in (("connection:velours-ci/things", False), ("connection:open-ci/x", True)):
            say(
                source,
                claim("pipeline:left", {}, id="proof", about=proof, rank=Rank.CONNECTION),
                claim("group:crew", {"type": "team", "children": []}, id="crew", keys=team, rank=Rank.API),
            )
            (decision,) = decide(connection=git, rule=rule_of(git), now=at)
            assert decision.is_component is expected, decision.reason
            assert (team[0] in teams("git")) is expected
            assert team[0] in teams(apart.slug)

    def test_nor_does_what_it_declares_take_the_inferred_component_from_others(
        self, velours: Connection, group: Group, vic: User, ben: User
    ) -> None:
        git = Connection.objects.create(slug="git", label="Git", connector="records", namespace="default")
        at = timezone.now()
        data = {"external_id": "r", "name": "left", "keys": ["repo:h.example/left"], "path": "x/left"}
        StoredRecord.objects.create(
            connection=git, resource="repositories", type="repository", external_id="r", digest=b"r",
            data={**data, "build_files": ["Makefile"], "last_activity_at": at.isoformat()}, as_of=at, touched_at=at,
        )  # fmt: skip
        home = {"keys": ("component:h.example/left",), "about": ("repo:h.example/left",)}
        file = claim("component:left", {"type": "x", "note": WORD}, id="file", rank=Rank.YAML, **home)

        def shown() -> list[Any]:
            render_dirty(at=timezone.now())
            (reason,) = (one.reason for one in decide(connection=git, rule=rule_of(git), now=at))
            found = (
                Entity.objects.filter(keys__key="component:h.example/left", deleted_at=None).distinct().get()
            )
            spec = queries.documents(ben, [found])[found.pk]["spec"]
            return [
                reason,
                found.name,
                found.uid,
                visible(vic, Entity.objects.filter(pk=found.pk)).exists(),
                spec["type"],
            ]

        apply_rules(now=at)
        reason, name, uid, *told = shown()
        assert (reason, name, told) == ("Built: Makefile.", "x-left", [True, "service"])
        say("connection:velours-ci/things", file)
        apply_rules(now=at)
        assert shown() == ["A catalog file declares its components.", "left", uid, True, "x"]
        update_connection(connection=velours, visible_to=["Insiders"])
        assert shown() == ["Built: Makefile.", "left", uid, True, "service"]
        left = Entity.objects.get(uid=uid)
        for viewer, expected in ((vic, ["git"]), (ben, ["git", "velours-ci"])):
            assert [one.source.name for one in queries.claims_on(viewer, left)] == expected
        update_connection(connection=velours, visible_to=[])
        assert shown() == ["A catalog file declares its components.", "left", uid, True, "x"]

    def test_no_query_finds_a_problem_that_it_has_with_open_things(
        self, apart: Connection, vic: User, ben: User
    ) -> None:
        pay = Entity.objects.get(ref="component:default/hush-pay")
        Problem.objects.filter(fingerprint="v").update(subject_uid=pay.uid)
        for viewer, expected in ((vic, False), (ben, True)):
            assert queries.search_entities(viewer, "problem:refused-record").exists() is expected

    def test_removing_another_counts_nothing_of_it(self, apart: Connection, vic: User, ben: User) -> None:
        other = Connection.objects.create(slug="other", label="Other", connector="records")
        say(
            "connection:other/x",
            claim("component:velours-app", {"note": "x"}, id="app", rank=Rank.CONNECTION),
            claim("component:alone", {}, id="alone", rank=Rank.CONNECTION),
        )
        say(
            "connection:velours-ci/things",
            claim("component:alone", {"note": "velours"}, id="alone", rank=Rank.CONNECTION),
        )
        Claim.objects.filter(source__name="other", external_id="app").update(mode=ClaimMode.AMEND)
        remerge(entity_ids=Entity.objects.values_list("pk", flat=True), at=timezone.now(), by="x")
        told = {viewer: removal_of(other, viewer) for viewer in (vic, ben)}
        assert [(one.claims, one.entities, one.amended) for one in told.values()] == [(1, 1, 0), (2, 0, 2)]
        for viewer, expected in ((vic, (1, 0)), (ben, (0, 2))):
            muted = muting_of(viewer, other, now=timezone.now())
            assert (len(muted.vanishing), muted.amended) == expected

    def test_gone_things_and_their_history_stay_hidden(self, apart: Connection, vic: User) -> None:
        uid = Entity.objects.get(ref=APP).uid
        Entity.objects.filter(ref=APP).update(deleted_at=timezone.now())
        Activity.objects.filter(external_id="v").update(subject_uid=uid)
        assert not queries.list_activity(vic).filter(subject_uid=uid).exists()

    def test_what_has_its_name_after_it_is_for_everybody_and_it_stays_hidden(
        self, apart: Connection, vic: User, ben: User
    ) -> None:
        request_removal(connection=apart, by="ana", now=timezone.now())
        settle_connection(connection_id=apart.pk)
        Connection.objects.filter(pk=apart.pk).update(kept_until=timezone.now())
        settle_connection(connection_id=apart.pk)
        Connection.objects.create(slug="velours-ci", label="Another", connector="records")
        assert [c.label for c in list_connections(vic).filter(slug="velours-ci")] == ["Another"]
        say("connection:velours-ci/things", claim("component:anew", {}, id="anew", rank=Rank.CONNECTION))
        assert queries.search_entities(vic, "name:anew").exists()
        for viewer, expected in ((vic, False), (ben, True)):
            assert visible(viewer, Entity.objects.filter(ref=APP)).exists() is expected
            told = queries.recent_changes(viewer)
            assert told.filter(entity_ref__contains=WORD).exists() is expected
            assert told.filter(by_key__startswith="connection:velours-ci#").exists() is expected


class TestTwoGroups:
    """Two connections for different groups that speak of the same thing."""

    KEY = "component:h.example/twofold"

    @pytest.fixture
    def twofold(self, apart: Connection, cleo: User) -> Entity:
        grant(role="viewer", user=cleo)
        set_members(group=create_group(name="Others"), members=[cleo])
        second = Connection.objects.create(slug="satin-ci", label="Satin CI", connector="records")
        show_to(second, ["Others"])
        say(
            "connection:velours-ci/things",
            self._said("velours", about=("repo:h.example/velours-only",)),
        )
        say("connection:satin-ci/things", self._said("satin"))
        render_dirty(at=timezone.now())
        return Entity.objects.get(keys__key=self.KEY, keys__claim__source__name="satin-ci")

    def _said(self, word: str, *, about: tuple[str, ...] = (REPO,), **more: Any) -> Any:
        spec = {
            "type": word,
            "lifecycle": "production",
            "dependsOn": [f"component:{word}"],
            **more,
        }
        return claim(
            "component:twofold",
            spec,
            metadata={"title": "Both say so", "tags": ["both", word]},
            id="twofold",
            rank=Rank.CONNECTION,
            keys=(self.KEY, f"npm:{word}-alone"),
            about=about,
        )

    def test_both_groups_see_it_and_of_it_merged_what_both_say(
        self, twofold: Entity, group: Group, vic: User, ben: User, cleo: User
    ) -> None:
        assert [queries.search_entities(one, "name:twofold").exists() for one in (vic, ben, cleo)] == [
            False,
            True,
            True,
        ]
        document = queries.documents(ben, [twofold])[twofold.pk]
        assert document["metadata"]["title"] == "Both say so"
        assert document["metadata"]["tags"] == ["both"]
        assert document["spec"] == {"lifecycle": "production"}
        assert twofold.sources == []
        for viewer, own in ((ben, "velours-ci"), (cleo, "satin-ci")):
            assert [one.source.name for one in queries.claims_on(viewer, twofold)] == [own]

    def test_nothing_tells_one_group_what_only_the_other_knows(
        self, world: dict[str, Any], twofold: Entity, cleo: User
    ) -> None:
        assert told(cleo, reading(world), word=WORD) == {}
        page = signed_in(cleo).get("/catalog/default/component/twofold")
        assert page.status_code == 200
        assert "Both say so" in page.content.decode()
        tabs = re.findall(r'href="(/catalog/default/component/twofold\?tab=\w+)"', page.content.decode())
        assert len(tabs) > 3
        for path in (page.request["PATH_INFO"], *tabs):
            shown = signed_in(cleo).get(path)
            assert shown.status_code == 200, path
            assert WORD not in shown.content.decode(), path
        answer = signed_in(cleo).get("/api/v1/entities/default/component/twofold/history/")
        assert answer.status_code == 200
        assert WORD not in answer.content.decode()
        assert look_up(cleo, "npm:velours-alone").things == []
        assert look_up(cleo, "npm:satin-alone").things == [twofold]

    def test_what_each_group_is_told_otherwise_is_no_gap_and_a_person_settles_it_for_all(
        self, twofold: Entity, ana: User, ben: User, cleo: User
    ) -> None:
        for word in ("velours", "satin"):
            more = {"owner": f"{word}-crew", "regions": ["here", word, "there"]}
            say(f"connection:{word}-ci/things", self._said(word, **more))
        render_dirty(at=timezone.now())

        def gaps() -> dict[str, str]:
            rows = Problem.objects.filter(subject_uid=twofold.uid, type="incomplete", resolved_at=None)
            return dict(rows.values_list("detail__path", "cause"))

        assert queries.documents(ben, [twofold])[twofold.pk]["spec"]["regions"] == ["here", "there"]
        assert set(gaps()) == {"spec.type", "spec.owner"}
        assert all("different groups differ" in cause for cause in gaps().values())
        page = signed_in(cleo).get("/problems").content.decode()
        assert "each group sees beside it what its own source says" in page
        assert WORD not in page
        override_field(user=ana, entity=twofold, path="spec.owner", value="group:default/crew", reason="")
        assert set(gaps()) == {"spec.type"}
        for viewer in (ben, cleo):
            assert queries.documents(viewer, [twofold])[twofold.pk]["spec"]["owner"] == "group:default/crew"
        say("connection:satin-ci/things", self._said("satin", owner=None))
        twofold.refresh_from_db()
        drop_override(user=ana, entity=twofold, path="spec.owner")
        assert gaps()["spec.owner"] == "No owner"

    def test_it_is_known_and_tied_by_the_keys_that_both_bring(self, twofold: Entity) -> None:
        tied = set(Tie.objects.filter(source=twofold).values_list("target__ref", flat=True))
        assert tied == set(), "one says it is of this repository, the other of another"
        say("connection:velours-ci/things", self._said("velours"))
        render_dirty(at=timezone.now())
        tied = set(Tie.objects.filter(source=twofold).values_list("key", flat=True))
        assert tied == {REPO}
        say("yaml:third", claim("component:h-pay", {}, id="third", keys=("npm:velours-alone",)))
        assert Entity.objects.filter(ref="component:default/h-pay").exists(), "that key is no common one"
        say("connection:third/x", claim("component:-", {}, id="x", keys=(self.KEY,), suggested_name="third"))
        twofold.refresh_from_db()
        assert twofold.audience is None

    def test_alone_again_it_is_for_its_group_as_it_was(
        self, twofold: Entity, group: Group, cleo: User, ben: User
    ) -> None:
        source = Source.objects.get(key="connection:satin-ci/things")
        drop_claims(source=source, external_ids=["twofold"], at=timezone.now(), by="Satin CI")
        assert not queries.search_entities(cleo, "name:twofold").exists()
        assert queries.documents(ben, [twofold])[twofold.pk]["spec"]["type"] == "velours"
        assert Entity.objects.get(pk=twofold.pk).audience == [group.pk]


class TestChoosing:
    def test_nobody_gives_the_sight_that_they_lack(
        self, apart: Connection, group: Group, ben: User, vic: User, cleo: User
    ) -> None:
        """Who looks after accounts, and may not do everything."""
        spec = {"title": "People", "description": "", "verbs": ["user.read", "user.write", "entity.read"]}
        grant(role=Role.objects.create(name="people", spec=spec), user=cleo)
        for change in (
            lambda: set_members(group=group, members=[ben, cleo], by=cleo),
            lambda: invite(username="new", groups=[group], by=cleo),
            lambda: make_sign_in_link(ben, by=cleo),
        ):
            with pytest.raises(Forbidden, match="sees more"):
                change()
        set_members(group=create_group(name="Others", by=cleo), members=[vic], by=cleo)
        show_to(apart, [])
        set_members(group=group, members=[ben, vic], by=cleo)

    def test_in_the_settings_by_who_may_see_which_groups_there_are(
        self, apart: Connection, ana: User, group: Group
    ) -> None:
        client = signed_in(ana)
        page = client.get("/connections/velours-ci/settings").content.decode()
        assert 'name="visible_to"' in page
        assert '<option value="Insiders" selected>' in page
        answer = client.get("/api/v1/connections/velours-ci/").json()
        assert answer["visible_to"] == ["Insiders"]
        changed = client.patch(
            "/api/v1/connections/velours-ci/", {"visible_to": []}, content_type="application/json"
        )
        assert changed.json()["visible_to"] == []
        assert AuditEvent.objects.filter(verb="connection.update").latest("pk").changes["visible_to"] == [
            ["Insiders"],
            [],
        ]

    def test_a_group_that_is_gone_opens_nothing(self, apart: Connection, group: Group, vic: User) -> None:
        key = group.pk
        group.delete()
        assert visible_to_of(apart) == [f"#{key}"]
        assert not queries.search_entities(vic, "velours").exists()
        update_connection(connection=apart, visible_to=[f"#{key}"])
        assert visible_to_of(apart) == [f"#{key}"]

    def test_only_groups_that_there_are(self, apart: Connection) -> None:
        with pytest.raises(InvalidInput) as refused:
            show_to(apart, ["Nobody"])
        assert refused.value.errors[0].path == "/visible_to"
        assert visible_to_of(apart) == ["Insiders"]

    def test_of_groups_one_of_their_own_for_who_may_not_do_everything(
        self, apart: Connection, group: Group, cleo: User
    ) -> None:
        """Or they would have changed or made what they see no more."""
        spec = {
            "title": "Connecting",
            "description": "",
            "verbs": ["connection.read", "connection.write", "user.read"],
        }
        grant(role=Role.objects.create(name="connecting", spec=spec), user=cleo)
        show_to(apart, [])
        mine = create_group(name="Cleo's own")
        set_members(group=mine, members=[cleo])
        client = signed_in(cleo)
        api, page = "/api/v1/connections/", "/connections/velours-ci/settings"
        new: dict[str, Any] = {
            "slug": "another",
            "connector": "records",
            "config": {"location": "/srv/records.ndjson"},
        }
        for refused in (
            client.patch(f"{api}velours-ci/", {"visible_to": ["Insiders"]}, content_type="application/json"),
            client.post(api, {**new, "visible_to": ["Insiders"]}, content_type="application/json"),
        ):
            (error,) = refused.json()["errors"]
            assert (refused.status_code, error["path"]) == (422, "/visible_to")
            assert "You are in none of these" in error["message"]
            assert (error["expected"], error["got"]) == ("Cleo's own", "Insiders")
        form = {
            "connection_label": "Velours CI",
            "connection_interval": "600",
            "location": "/srv/records.ndjson",
        }
        shown = client.post(page, {**form, "visible_to": ["Insiders"]})
        assert shown.status_code == 422
        assert "You are in none of these" in shown.content.decode()
        start = "/connections/new/records"
        named = {"connection_name": "Another", "connection_namespace": "default", **new["config"]}
        assert client.post(start, named).status_code == 302
        last = client.post(f"{start}/schedule", {"connection_interval": "600", "visible_to": ["Insiders"]})
        assert last.status_code == 422
        assert "You are in none of these" in last.content.decode()
        assert visible_to_of(apart) == []
        assert not Connection.objects.filter(slug="another").exists()
        both = {"visible_to": ["Insiders", "Cleo's own"]}
        assert client.patch(f"{api}velours-ci/", both, content_type="application/json").status_code == 200
        assert sorted(client.get(f"{api}velours-ci/").json()["visible_to"]) == ["Cleo's own", "Insiders"]

    def test_nobody_outside_may_touch_it(self, apart: Connection, vic: User, cleo: User) -> None:
        grant(role="editor", user=vic)
        client: Client = signed_in(vic)
        assert client.post("/connections/velours-ci/sync").status_code == 404
        assert client.post("/api/v1/connections/velours-ci/sync/").status_code == 404
        assert client.post("/catalog/default/component/velours-app/edit").status_code == 404
