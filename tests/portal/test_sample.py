"""The sample company: what is written, what becomes of it, and that nothing of it stays."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from access.models import AuditEvent, User
from access.services import tie_account, undo
from catalog.models import UNCLEAR, Activity, Claim, Entity, Problem, Rank, Revision, Source, SourceType, Tie
from catalog.services.edit import decide_tie, override_field
from catalog.services.feed import forget_touched
from catalog.services.ingest import ClaimIn, apply_claims
from catalog.services.render import render_dirty
from integrations import sync
from integrations.models import Connection, ResourceRun, ResourceState, RunState, SyncRun
from integrations.records import RECORD_TYPES
from integrations.services.runs import decide_guard, report_runs, request_sync
from portal import sample
from portal.sample import history
from portal.sample.company import Company
from portal.sample.history import History

NOW = datetime(2026, 11, 24, 14, 2, tzinfo=UTC)


def write() -> dict[str, list[dict[str, Any]]]:
    return History(Company(), NOW).write()


# --- what is written ------------------------------------------------------------------------------------------


def test_the_same_moment_gives_the_same_records() -> None:
    assert write() == write()


def test_every_record_is_one_and_has_an_id_of_its_own() -> None:
    for tool, rows in write().items():
        ids = Counter()
        for row in rows:
            model = RECORD_TYPES[row["type"]]
            model.model_validate({name: value for name, value in row.items() if name != "type"})
            ids[model.makes, row["external_id"]] += 1
        assert ids.most_common(1)[0][1] == 1, tool


def test_it_is_as_large_as_was_promised() -> None:
    company, rows = Company(), write()
    assert 55 <= len(company.components) <= 66
    assert len(company.said["teams"]) == 8
    assert len({person.email for person in company.people}) == len(company.people) >= 30
    kinds = Counter(row["type"] for found in rows.values() for row in found)
    assert kinds["commit"] > 1_000
    assert kinds["run"] > kinds["version"] > 100
    assert 3_000 < kinds.total() < 12_000
    assert kinds["incident"] > 0 < kinds["alert"]


def times_of(value: Any, name: str = "") -> list[tuple[str, datetime]]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in times_of(inner, key)]
    if isinstance(value, list):
        return [found for inner in value for found in times_of(inner, name)]
    return [(name, datetime.fromisoformat(value))] if name.endswith("_at") else []


def test_it_spans_three_months_and_ends_now() -> None:
    found = [
        at
        for rows in write().values()
        for row in rows
        if row["type"] != "repository"
        for _name, at in times_of(row)
    ]
    assert NOW - timedelta(days=96) < min(found) < NOW - timedelta(days=80)
    assert NOW - timedelta(minutes=5) < max(found) <= NOW
    for row in write()["ci"]:
        order = [
            at
            for name, at in times_of(
                {k: row.get(k) for k in ("queued_at", "started_at", "finished_at") if k in row}
            )
        ]
        assert order == sorted(order)


def test_all_of_it_is_in_a_world_of_its_own() -> None:
    """No address of the sample can be anybody's, and all that it declares has its own namespace."""
    for rows in write().values():
        for row in rows:
            text = str(row)
            for host in re.findall(r"https?://([^/\s'\"]+)", text):
                assert host.endswith(".acme.example"), host
            for address in re.findall(r"[\w.]+@[\w.-]+\.[a-z]{2,}", text):
                assert address.endswith("@acme.example"), address
            if row["type"] == "document":
                assert row["document"]["metadata"]["namespace"] == "sample"


def test_what_components_name_is_there() -> None:
    company = Company()
    names = {component.name for component in company.components}
    for component in company.components:
        assert component.team in company.said["teams"]
        assert not component.system or component.system in company.said["systems"]
        for api in [*component.provides, *component.consumes]:
            assert api in company.said["apis"]
        for need in component.needs:
            kind, _colon, name = need.partition(":")
            assert name in (names if kind == "component" else company.said["resources"]), need


# --- what becomes of it ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> None:
    """A home of the test's own."""
    settings.PORTICO_HOME = tmp_path
    settings.PORTICO_FILES_ALLOW = [tmp_path / "sample"]


@pytest.fixture
def loaded(core_pack: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample as the workers leave it; three weeks of it say the same as three months, and sooner."""
    monkeypatch.setattr(history, "DAYS", 21)
    sample.load_sample(now=NOW)
    run_queued()


def run_queued() -> None:
    for run in SyncRun.objects.filter(state=RunState.QUEUED).order_by("id"):
        sync.execute_run(run_id=run.pk, now=timezone.now())
        with connection.cursor() as cursor:  # as the server does by itself for what is committed
            cursor.execute("ANALYZE")
    report_runs(now=timezone.now())


def entity(ref: str) -> Entity:
    return Entity.objects.get(ref=ref, deleted_at=None)


def ties_of(ref: str) -> set[tuple[str, str]]:
    return {
        (tie.type, tie.target.name) for tie in Tie.objects.filter(source__ref=ref).select_related("target")
    }


@pytest.mark.django_db
def test_the_usual_mess_comes_out_as_it_should(loaded: None) -> None:
    assert {run.state for run in SyncRun.objects.all()} == {RunState.SYNCED}
    assert Connection.objects.filter(is_sample=True, namespace="sample").count() == 5
    assert set(Entity.objects.values_list("namespace", flat=True)) == {"sample"}
    components = set(Entity.objects.filter(kind="component", deleted_at=None).values_list("name", flat=True))
    assert 58 <= len(components) <= 70

    # A renamed image, and the old one that nobody labelled.
    assert ("packagedAs", "payments-checkout") in ties_of("component:sample/checkout-api")
    assert not Tie.objects.filter(target__name="payments-checkout-legacy").exists()
    # A monorepo: each has its own builds and images.
    assert {
        ("builtBy", "picking"),
        ("packagedAs", "logistics-picking"),
        ("hasSource", "logistics-fulfilment"),
    } == (ties_of("component:sample/picking"))
    # Two repositories are called api; one has a catalog file.
    assert ("hasSource", "data-api") in ties_of("component:sample/data-api")
    assert ("hasSource", "mobile-api") in ties_of("component:sample/mobile-api")
    # Neither a fork nor an archived repository is a component; nor is one that nobody builds.
    assert not components & {
        "platform-airflow",
        "airflow",
        "payments-legacy-cart",
        "legacy-cart",
        "data-notebooks",
    }
    # Unowned and orphaned.
    assert entity("component:sample/platform-cost-report").owner == ""
    assert Problem.objects.filter(cause__contains="store-hardware", resolved_at=None).exists()
    # Of an image that two teams push, a person says whose it is.
    (unclear,) = Problem.objects.filter(type__in=UNCLEAR, resolved_at=None)
    assert unclear.subject_label == "artifact:sample/shared-report-mailer"
    assert not ties_of(unclear.subject_label)
    # Two tools disagree.
    (conflict,) = Problem.objects.filter(type="conflict", resolved_at=None)
    assert conflict.subject_label == "repository:sample/identity-customer-profile"
    assert {"group:sample/identity", "group:sample/platform"} == {
        value["value"] for value in conflict.detail["values"]
    }
    # A version that is nowhere yet.
    indexer = entity("component:sample/search-indexer")
    assert not Activity.objects.filter(
        type="deployment", version=indexer.version, title__contains="search-indexer"
    ).exists()
    # One document is refused, and says where.
    (refused,) = Problem.objects.filter(type="refused-record", resolved_at=None)
    assert "Landing Pages" in refused.message
    assert "storefront-landing-pages" in components

    # How it stands.
    assert entity("component:sample/checkout-api").last_run == "running"
    failing = Entity.objects.filter(kind="component", last_run="failed", deleted_at=None)
    assert set(failing.values_list("name", flat=True)) == {
        "payment-gateway",
        "search-indexer",
        "warehouse-web",
    }
    assert not Activity.objects.filter(subject_uid=None).exists(), "all that happened happened to something"
    waiting = Activity.objects.filter(type="deployment", status="awaiting-approval")
    assert [row.title.split()[0] for row in waiting] == ["ledger"]
    assert set(Activity.objects.filter(type="alert").exclude(status="resolved").values_list("status", flat=True)) == {
        "firing", "acknowledged", "silenced",
    }  # fmt: skip


@pytest.mark.django_db
def test_a_sweep_waits_at_the_guard(loaded: None, tmp_path: Path, ana: User) -> None:
    assert sample.go_on()
    assert not sample.go_on(), "once"
    run_queued()
    (held,) = ResourceRun.objects.filter(state=ResourceState.HELD)
    assert (held.run.connection.slug, held.would_remove) == ("sample-registry", history.PREVIEWS)
    assert Entity.objects.filter(name__startswith="previews-", deleted_at=None).count() == history.PREVIEWS
    assert decide_guard(resource=held, remove=True, by="Ana") == history.PREVIEWS
    assert not Entity.objects.filter(name__startswith="previews-", deleted_at=None).exists()
    held.run.refresh_from_db()
    assert held.run.state == RunState.SYNCED, "nothing is left to decide"
    assert not Problem.objects.filter(type="sync", resolved_at=None).exists()
    sample.remove_sample(by="Ana")
    assert not sample.go_on()


@pytest.mark.django_db
def test_loading_twice_and_syncing_again_change_nothing(loaded: None) -> None:
    before = rows_by_table()
    sample.load_sample(now=NOW + timedelta(hours=3))
    assert rows_by_table() == before
    for tool in Connection.objects.all():
        request_sync(connection=tool)
    run_queued()
    last = [tool.runs.first() for tool in Connection.objects.all()]
    resources = [resource for run in last for resource in run.resources.all()]
    assert {(row.new, row.changed, row.removed) for row in resources} == {(0, 0, 0)}
    assert (
        sum(row.listed for row in resources) == sum(row.unchanged + row.refused for row in resources) > 1_000
    )


# --- and that nothing stays -----------------------------------------------------------------------------------


# The log of who did what, which says that it was loaded and removed, what it takes to undo that, what people are to be
# told of, which the next tick takes, and which rows were written, for those who keep entities in memory: for an hour.
KEEPS = {"access_auditevent", "access_undoable", "access_undoablething", "catalog_news", "catalog_touched"}


def rows_by_table() -> dict[str, int]:
    """How many rows each table of the database holds, whichever model or library made it."""
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
        assert tables > {model._meta.db_table for model in apps.get_models()} - KEEPS
        counts = {}
        for table in sorted(tables - KEEPS):
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")
            counts[table] = cursor.fetchone()[0]
        return counts


@pytest.mark.django_db
def test_removing_it_leaves_no_row(
    core_pack: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(history, "DAYS", 7)
    before = rows_by_table()
    sample.load_sample(now=NOW)
    run_queued()
    assert (tmp_path / "sample/git.jsonl").exists()
    assert Entity.objects.count() > 200
    # A person has a say in it, has found themself in it, and a sweep has left a tombstone.
    said(SourceType.PERSON, "component", "ledger", {"title": "The books"})
    User.objects.create(username="marta", entity_uid=entity("user:sample/marta.lindqvist").uid)
    before["access_user"] += 1
    Entity.objects.filter(name="consent", kind="component").update(deleted_at=timezone.now())
    with django_capture_on_commit_callbacks(execute=True):
        removal = sample.remove_sample(by="Ana")
    assert removal.entities > 200
    assert removal.activities > 500
    assert removal.runs == 5
    before["catalog_source"] += 1  # the person
    forget_touched(now=timezone.now() + timedelta(hours=2))  # what tells of these changes goes by itself
    assert rows_by_table() == before
    assert User.objects.get(username="marta").entity_uid is None
    assert not (tmp_path / "sample").exists()
    assert AuditEvent.objects.filter(verb="sample.remove").exists()


def said(type_: SourceType, kind: str, name: str, metadata: dict[str, Any]) -> Claim:
    source = Source.objects.create(
        type=type_, key=f"{type_}:{uuid.uuid4()}", name=str(type_), label="Another"
    )
    document = {
        "apiVersion": "backstage.io/v1alpha1", "kind": kind.capitalize(),
        "metadata": {"name": name, "namespace": "sample", **metadata},
        "spec": {"type": "service", "lifecycle": "production", "owner": "group:default/payments"},
    }  # fmt: skip
    rank = Rank.PERSON if type_ == SourceType.PERSON else Rank.YAML
    now = timezone.now()
    claim = ClaimIn(external_id=name, kind=kind, document=document, rank=rank, as_of=now, namespace="sample")
    apply_claims(source=source, claims=[claim], at=now, by="tests")
    render_dirty(at=now)
    return Claim.objects.get(source=source)


@pytest.mark.django_db
def test_what_others_say_stays(core_pack: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "DAYS", 3)
    sample.load_sample(now=NOW)
    run_queued()
    said(SourceType.YAML, "component", "checkout-api", {"title": "Checkout of ours"})
    said(SourceType.YAML, "component", "own", {"title": "Our own"})
    removal = sample.remove_sample(by="Ana")
    assert removal.amended == 1
    left = Entity.objects.filter(deleted_at=None).order_by("name")
    assert [row.name for row in left] == ["checkout-api", "own"]
    assert left[0].title == "Checkout of ours"
    assert left[0].sources == ["yaml"]
    assert Revision.objects.filter(entity_uid=left[0].uid).exists(), "its history is its own"
    assert not Activity.objects.exists()


@pytest.mark.django_db
def test_a_running_sync_finds_no_lease_after_the_removal(
    core_pack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "DAYS", 3)
    sample.load_sample(now=NOW)
    take = sync._Execution._take

    def take_then_remove(self: Any, page: Any, row: Any) -> None:
        take(self, page, row)
        sample.remove_sample(by="Ana")

    monkeypatch.setattr(sync._Execution, "_take", take_then_remove)
    run = SyncRun.objects.order_by("id").first()
    sync.execute_run(run_id=run.pk, now=timezone.now())
    assert not Entity.objects.exists()
    assert not Connection.objects.exists()


@pytest.mark.django_db
def test_removing_what_is_not_there_is_no_error() -> None:
    removal = sample.remove_sample()
    assert (removal.claims, removal.entities, removal.activities, removal.runs) == (0, 0, 0, 0)


# --- and that its removal can be undone ------------------------------------------------------------------------


@pytest.mark.django_db
def test_its_removal_is_undone_with_what_people_said(
    core_pack: None,
    monkeypatch: pytest.MonkeyPatch,
    ana: User,
    ben: User,
    django_capture_on_commit_callbacks: Any,
) -> None:
    monkeypatch.setattr(history, "DAYS", 7)
    sample.load_sample()
    run_queued()
    ledger = entity("component:sample/ledger")
    override_field(user=ben, entity=ledger, path="metadata.title", value="The books", reason="theirs")
    tie = Tie.objects.filter(type="hasSource", source__kind="component", state="auto").first()
    decide_tie(user=ben, source=tie.source, type=tie.type, target=tie.target, state="forbidden", reason="no")
    tie_account(ben, entity_uid=entity("user:sample/marta.lindqvist").uid)
    before = shown()

    def undone(verb: str) -> None:
        change = undo.list_changes(ana).filter(event__verb=verb)[0]
        assert undo.preview_undo(change=change, user=ana).steps
        with django_capture_on_commit_callbacks(execute=True):
            undo.undo_change(change=change, user=ana)

    with django_capture_on_commit_callbacks(execute=True):
        sample.remove_sample(by="Ana")
    assert not Entity.objects.exists()
    undone("sample.remove")
    run_queued()
    assert shown() == before
    ben.refresh_from_db()
    assert ben.entity_uid == entity("user:sample/marta.lindqvist").uid
    said = Claim.objects.get(rank=Rank.PERSON)
    assert (said.document, said.place) == (
        {"metadata": {"title": "The books"}},
        {"reasons": {"metadata.title": "theirs"}},
    )
    for tool in Connection.objects.all():
        request_sync(connection=tool)
    run_queued()
    assert shown() == before
    change = undo.list_changes(ana).filter(event__verb="sample.load")[0]
    later = {one.event.verb for one in undo.preview_undo(change=change, user=ana).later}
    assert later == set()
    override_field(user=ben, entity=entity("component:sample/ledger"), path="spec.type", value="library")
    later = {one.event.verb for one in undo.preview_undo(change=change, user=ana).later}
    assert later == {"entity.override"}
    undone("sample.load")
    run_queued()
    assert not Entity.objects.exists()
    assert not Connection.objects.exists()


def shown() -> dict[str, list[Any]]:
    """What stands in the catalog, and under which uids."""
    rows = Entity.objects.filter(deleted_at=None)
    ties = Tie.objects.values_list("source__ref", "type", "target__ref", "state", "decided_by", "reason")
    return {
        "entities": sorted(
            map(repr, rows.values_list("ref", "uid", "title", "owner", "last_run", "version"))
        ),
        "ties": sorted(map(repr, ties)),
    }


@pytest.mark.django_db
def test_who_loads_it_anew_has_nothing_to_undo(
    core_pack: None, monkeypatch: pytest.MonkeyPatch, ana: User
) -> None:
    monkeypatch.setattr(history, "DAYS", 3)
    sample.load_sample()
    run_queued()
    sample.remove_sample(by="Ana")
    changes = undo.list_changes(ana).filter(event__verb__startswith="sample.")
    assert [(one.event.verb, one.is_undone) for one in changes] == [
        ("sample.remove", False), ("sample.load", True),
    ]  # fmt: skip
    sample.load_sample()
    assert [(one.event.verb, one.is_undone) for one in changes.all()] == [
        ("sample.load", False), ("sample.load", True),
    ]  # fmt: skip


# --- and the first page meanwhile -----------------------------------------------------------------------------


def home_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.get("/").content.decode()


REMOVE = 'name="action" value="remove"'
POLL = 'id="w-first-syncs-poll"'


@pytest.mark.django_db
def test_the_first_page_fills_by_itself_and_offers_to_remove_it_all(
    core_pack: None, monkeypatch: pytest.MonkeyPatch, ana: User, vic: User
) -> None:
    monkeypatch.setattr(history, "DAYS", 3)
    page = home_of(ana)
    assert "Your portal is empty, so far" in page
    assert 'action="/sample"' in page
    assert REMOVE not in page

    sample.load_sample(now=NOW)
    page = home_of(ana)
    assert "Reading Acme Alerts, Acme CI, Acme Deploy, Acme Git, Acme Registry for the first time" in page
    assert POLL in page
    assert REMOVE in page
    assert "data-confirm=" in page

    run_queued()
    page = home_of(ana)
    assert POLL not in page
    assert "A sample company is loaded." in page
    assert page.count(REMOVE) == 1
    # Whoever may not remove it is told what it is all the same.
    page = home_of(vic)
    assert "A sample company is loaded." in page
    assert REMOVE not in page
    client = Client()
    client.force_login(vic)
    assert client.post("/sample", {"action": "remove"}).status_code == 403
    assert Connection.objects.filter(is_sample=True).count() == 5
    assert Client().post("/sample", {"action": "remove"})["Location"].startswith("/sign-in")

    client.force_login(ana)
    assert client.get("/sample").status_code == 405
    assert client.post("/sample", {"action": "remove"})["Location"] == "/"
    assert AuditEvent.objects.get(verb="sample.remove").actor_label == "ana"
    page = home_of(ana)
    assert "Your portal is empty, so far" in page
    assert "A sample company is loaded." not in page


@pytest.mark.django_db
def test_a_start_waits_for_the_first_syncs_and_not_for_ever(
    core_pack: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history, "DAYS", 3)
    call_command("await_first_syncs")
    assert capsys.readouterr().out == "The catalog has 0 entities.\n"
    sample.load_sample(now=NOW)
    call_command("await_first_syncs", seconds=0)
    assert capsys.readouterr().out.endswith("Acme Git, Acme Registry; the pages fill by themselves.\n")
    run_queued()
    call_command("await_first_syncs")
    said = r"Reading the sample's registry once more \.\.\.\nThe catalog has 3\d\d entities\.\n"
    assert re.fullmatch(said, capsys.readouterr().out)
    # A later sync is nobody's first.
    request_sync(connection=Connection.objects.get(slug="sample-git"))
    call_command("await_first_syncs", seconds=0)
    assert capsys.readouterr().out.startswith("The catalog has")


@pytest.mark.django_db(transaction=True)
def test_its_syncs_are_handed_to_the_workers_at_once(
    core_pack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "DAYS", 3)
    sent: list[int] = []
    monkeypatch.setattr(
        "integrations.tasks.execute_run.apply_async", lambda args, kwargs, **_: sent.append(kwargs["run_id"])
    )
    sample.load_sample(now=NOW)
    assert sent == list(SyncRun.objects.order_by("id").values_list("id", flat=True))
    assert len(sent) == 5


@pytest.mark.django_db
def test_each_entity_is_marked_as_a_sample(loaded: None, vic: User, client: Client) -> None:
    client.force_login(vic)
    for ref in ("component/checkout-api", "group/payments", "repository/storefront-web"):
        page = client.get(f"/catalog/sample/{ref}").content.decode()
        assert "Sample" in page.split("po-head-meta")[1].split("</div>")[0], ref
