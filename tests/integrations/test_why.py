"""Why is it not here: each answer from the state that makes it, and nothing of what one may not see."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import User
from catalog.models import AsideClaim, Audience, Claim, Rank, Tie
from integrations.models import CatalogLocation, Connection, RunState, StoredRecord, SyncRun
from integrations.services.runs import report_run
from integrations.why import Answer, why
from tests.catalog.saying import claim, component, entity, say, source, unsay

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

GOOD = """\
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: good}
spec: {type: service, lifecycle: production, owner: team}
"""
OWNERLESS = """\
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: ownerless}
spec:
  type: service
  lifecycle: production
  owner: 12
"""
BROKEN = "kind: Component\nmetadata: {name: broken\n"


def states(answer: Answer) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for finding in answer.findings:
        found.setdefault(finding.state, []).append(finding)
    return found


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A file of which one document is taken in, one refused, and one cannot be read."""
    file = tmp_path / "catalog" / "catalog-info.yaml"
    file.parent.mkdir()
    file.write_text("---\n".join([GOOD, OWNERLESS, BROKEN]))
    call_command("import_catalog", str(file), stdout=StringIO())
    return file


@pytest.fixture
def tool() -> Connection:
    return Connection.objects.create(
        slug="tool", label="Tool", connector="records", config={"source": "/tmp/x"}
    )


def stored(tool: Connection, external_id: str, type_: str = "repository", **data: Any) -> StoredRecord:
    now = timezone.now()
    return StoredRecord.objects.create(
        connection=tool, resource="repositories", type=type_, external_id=external_id, digest=b"1", as_of=now,
        data={"external_id": external_id, **data}, touched_at=now, is_ignored=data.pop("is_ignored", False),
    )  # fmt: skip


class TestEntities:
    def test_what_is_here_is_said_with_its_source_by_ref_name_and_old_name(self, ana: User) -> None:
        say("yaml:a", component("pay"))
        for text in ("component:default/pay", "component:pay", "pay", "default/pay", "Component:PAY"):
            answer = why(ana, text)
            assert answer.is_seen, text
            assert [finding.state for finding in answer.findings] == ["seen"], text
            assert "yaml:a" in answer.findings[0].message
        entity("component:default/pay").aliases.create(ref="component:default/old")
        assert "known as component:default/pay now" in why(ana, "component:old").findings[0].message

    def test_a_refused_document_is_found_by_its_ref_with_file_document_line_and_column(
        self, ana: User, imported: Path
    ) -> None:
        found = states(why(ana, "component:ownerless"))["refused"]
        place = found[0].place
        assert (place.file, place.document, place.line, place.column) == (str(imported), 2, 12, 3)
        assert "spec.owner" in found[0].message
        assert str(place) == f"{imported}, document 2, line 12, column 3"

    def test_what_may_stand_in_a_file_that_cannot_be_read_is_said_so(self, ana: User, imported: Path) -> None:
        found = states(why(ana, "component:broken"))
        assert "refused" not in found or all("broken" not in f.message for f in found["refused"])
        assert any(
            f.place and f.place.document == 3 for state in ("unread", "refused") for f in found.get(state, ())
        )

    def test_a_second_declaration_is_shadowed_and_the_first_counts(self, ana: User) -> None:
        say("yaml:a", component("pay"))
        say("yaml:b", component("pay"), minute=1)
        found = states(why(ana, "component:pay"))
        assert "declared by yaml:a" in found["seen"][0].message
        assert "yaml:b declares it too" in found["shadowed"][0].message

    def test_what_is_gone_says_since_when(self, ana: User) -> None:
        say("yaml:a", component("pay"))
        unsay("yaml:a", "component:pay", minute=1)
        found = states(why(ana, "component:pay"))
        assert "is gone since" in found["gone"][0].message
        assert "seen" not in found

    def test_what_a_muted_connection_said_is_set_aside(self, ana: User, tool: Connection) -> None:
        say("connection:tool/repositories", claim("repository:pay", {}, rank=Rank.CONNECTION))
        said = Claim.objects.get()
        thing = entity("repository:default/pay")
        AsideClaim.objects.create(
            id=said.pk, entity=thing, source=said.source, keys=[], external_id=said.external_id, rank=said.rank,
            digest=said.digest, document=said.document, as_of=said.as_of,
        )  # fmt: skip
        unsay("connection:tool/repositories", "repository:pay", minute=1)
        Connection.objects.update(muted_at=timezone.now())
        assert "is muted" in states(why(ana, "repository:pay"))["aside"][0].message

    def test_what_others_name_and_nothing_declares_is_expected(self, ana: User) -> None:
        say("yaml:a", component("pay", dependsOn=["component:web"]))
        assert "1 thing names it" in states(why(ana, "component:web"))["expected"][0].message

    def test_an_unknown_kind_is_named_with_those_that_there_are(self, ana: User) -> None:
        found = states(why(ana, "widget:x"))
        assert "There is no kind “widget”" in found["refused"][0].message
        assert "Component" in found["refused"][0].message

    def test_what_a_rule_leaves_out_names_the_rule(self, ana: User, tool: Connection) -> None:
        tool.rules = {"ignored": {"patterns": ["acme/pay"]}}
        tool.save()
        stored(tool, "acme/pay", name="pay", path="acme/pay", is_ignored=True)
        StoredRecord.objects.update(is_ignored=True)
        found = states(why(ana, "repository:pay"))["ignored"][0]
        assert "Left out by the rule acme/pay." in found.message
        assert found.connection == "tool"

    def test_it_costs_as_many_queries_however_much_is_left_out(self, ana: User, tool: Connection) -> None:
        tool.rules = {"ignored": {"patterns": ["*/pay"]}}
        tool.save()
        counts = []
        for group in ("acme", "emca", "mace"):
            stored(tool, f"{group}/pay", name="pay", path=f"{group}/pay")
            StoredRecord.objects.update(is_ignored=True)
            with CaptureQueriesContext(connection) as asked:
                assert len(states(why(ana, "repository:pay"))["ignored"]) == len(counts) + 1
            counts.append(len(asked))
        assert counts[2] == counts[1]

    def test_a_repository_of_which_no_component_is_made_says_why(self, ana: User, tool: Connection) -> None:
        stored(tool, "7", name="pay", path="acme/pay", keys=["repo:git.acme.example/acme/pay"])
        found = states(why(ana, "component:pay"))["ignored"][0]
        assert "acme/pay" in found.message
        assert "No commit within 12 months" in found.message

    def test_what_is_being_read_may_bring_it(self, ana: User, tool: Connection) -> None:
        SyncRun.objects.create(connection=tool, state=RunState.QUEUED, queued_at=timezone.now())
        CatalogLocation.objects.create(address="file:/srv/new", asked_at=timezone.now())
        messages = [finding.message for finding in states(why(ana, "component:pay"))["queued"]]
        assert any("Tool is being read" in message for message in messages)
        assert any("/srv/new waits to be read" in message for message in messages)

    def test_a_connection_that_cannot_be_read_is_named_whatever_it_is_called(
        self, ana: User, tool: Connection
    ) -> None:
        Connection.objects.update(label="50% off")
        now = timezone.now()
        run = SyncRun.objects.create(
            connection=tool, state=RunState.FAILED, queued_at=now, message="100% of it is refused"
        )
        report_run(run_id=run.pk, now=now)
        found = states(why(ana, "component:pay"))["unread"]
        assert [one.message for one in found] == ["50% off cannot be read wholly: 100% of it is refused"]

    def test_names_like_it_are_offered_and_who_sees_everything_is_told_so(self, ana: User) -> None:
        say("yaml:a", component("payment-gateway"))
        found = states(why(ana, "component:payment-gatewya"))
        assert found["alike"][0].entity == entity("component:default/payment-gateway")
        assert "You may see all that there is" in found["unknown"][0].message


class TestFiles:
    def test_a_file_says_what_it_declares_and_what_of_it_is_refused(self, ana: User, imported: Path) -> None:
        for text in (str(imported), "catalog/catalog-info.yaml", "catalog-info.yaml"):
            found = states(why(ana, text))
            assert [f.entity.ref for f in found["seen"] if f.entity] == ["component:default/good"], text
            assert {f.place.document for f in found["refused"] if f.place} == {2, 3}, text

    def test_an_address_leads_to_what_lies_there(self, ana: User) -> None:
        keys = ("repo:git.acme.example/acme/pay",)
        say("connection:git/repositories", claim("repository:pay", {}, keys=keys, rank=Rank.CONNECTION))
        found = why(ana, "https://git.acme.example/acme/pay")
        assert found.findings[0].entity == entity("repository:default/pay")

    def test_a_location_that_could_not_be_read_says_why(self, ana: User) -> None:
        CatalogLocation.objects.create(address="url:https://acme.example/c.yaml", message="404 Not Found")
        found = states(why(ana, "https://acme.example/c.yaml"))["unread"]
        assert ["404 Not Found" in one.message for one in found] == [True]

    def test_the_secret_of_an_address_is_shown_nowhere(
        self, browse: Callable[[User], Client], ana: User
    ) -> None:
        address = "https://acme.example/c.yaml?token=s3cr3t"
        location = CatalogLocation.objects.create(address=f"url:{address}", message="404 Not Found")
        assert [one.state for one in why(ana, address).findings] == ["unread", "unknown"]
        for page in (
            "/why?of=component:none",
            "/connections/import",
            f"/connections/import/{location.pk}/remove",
        ):
            text = browse(ana).get(page).content.decode()
            assert "acme.example/c.yaml" in text, page
            assert "s3cr3t" not in text, page

    def test_nothing_at_all_is_unknown(self, ana: User) -> None:
        assert [f.state for f in why(ana, "/srv/none.yaml").findings] == ["unknown"]
        assert why(ana, "  ").findings == []


class TestWhatIsHidden:
    """The same words whether it is there or not."""

    def same(self, viewer: User, ref: str, make: Callable[[], object]) -> Answer:
        before = why(viewer, ref)
        make()
        after = why(viewer, ref)
        assert after == before
        return after

    def test_beyond_ones_grants(self, cleo: User) -> None:
        say("yaml:z", component("elsewhere/near", owner=""))
        answer = self.same(cleo, "component:default/hush", lambda: say("yaml:a", component("hush")))
        assert [f.state for f in answer.findings] == ["forbidden"]
        assert "“" in answer.findings[0].message
        for text in ("hush", "yaml:a"):
            assert not why(cleo, text).is_seen

    def test_refused_and_gone_and_left_out_beyond_ones_grants(
        self, cleo: User, imported: Path, tool: Connection
    ) -> None:
        say("yaml:a", component("was"))
        unsay("yaml:a", "component:was", minute=1)
        stored(tool, "acme/left", name="left", path="acme/left")
        StoredRecord.objects.update(is_ignored=True)
        for ref in (
            "component:ownerless",
            "component:broken",
            "component:was",
            "component:left",
            "component:good",
        ):
            assert [f.state for f in why(cleo, ref).findings] == ["forbidden"], ref
        assert [f.state for f in why(cleo, str(imported)).findings] == ["unknown"]

    def test_for_other_groups_alone(self, vic: User) -> None:
        source("connection:inner/things")
        Audience.objects.create(name="inner", uid="00000000-0000-4000-8000-000000000001", groups=[7])
        document = {"type": "service", "lifecycle": "production", "owner": "x"}
        answer = self.same(
            vic, "component:secret",
            lambda: say("connection:inner/things", claim("component:secret", document, rank=Rank.CONNECTION)),
        )  # fmt: skip
        assert [f.state for f in answer.findings] == ["unknown"]
        assert "for some access groups alone" in answer.findings[0].message
        assert not Tie.objects.exists()


class TestApiAndPages:
    def test_the_api_answers_the_same(
        self, client: Client, ana: User, as_token: Callable[..., dict[str, str]], imported: Path
    ) -> None:
        headers = as_token(ana)
        answer = client.get("/api/v1/why/?of=component:ownerless", headers=headers).json()
        assert (answer["ref"], answer["is_seen"]) == ("component:default/ownerless", False)
        found = answer["findings"][0]
        assert found["state"] == "refused"
        assert found["place"] == {"file": str(imported), "document": 2, "line": 12, "column": 3}
        assert client.get("/api/v1/why/", headers=headers).status_code == 400

    def test_the_page_is_reached_from_a_missing_entity_and_from_an_empty_list(
        self, browse: Callable[[User], Client], ana: User, imported: Path
    ) -> None:
        browser = browse(ana)
        missing = browser.get("/catalog/default/component/ownerless")
        assert missing.status_code == 404
        assert 'href="/why?of=component:default/ownerless"' in missing.content.decode()
        empty = browser.get("/catalog?q=kind:component ownerless").content.decode()
        assert 'href="/why?of=component:ownerless"' in empty
        page = browser.get("/why?of=component:ownerless").content.decode()
        assert f"{imported}, document 2, line 12, column 3" in page
        assert "What did you expect?" in browser.get("/why").content.decode()
