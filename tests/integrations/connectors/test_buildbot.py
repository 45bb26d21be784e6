"""The Buildbot connector against a real master."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from catalog.identity import normalise
from integrations.connectors.buildbot import connector as module
from integrations.connectors.buildbot.connector import Buildbot, ForceParams
from integrations.contract import AuthFailed, Misconfigured
from integrations.records import RunStatus
from tests.integrations import servers
from tests.integrations.reading import collect, read, use
from tests.integrations.servers import Acme

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def config(acme_buildbot: Acme) -> dict[str, Any]:
    return {"base_url": acme_buildbot.buildbot.url}


def run_of(config: dict[str, Any], build: dict[str, Any]) -> Any:
    return read(Buildbot, config, "builds").by_id()[str(build["buildid"])]


# --- builders -----------------------------------------------------------------------------------------------


def test_builders_become_pipelines_that_know_their_repositories(acme_buildbot: Acme, config: dict) -> None:
    acme_buildbot.buildbot.build("payments", branch="main")
    acme_buildbot.buildbot.build("shop")
    found = read(Buildbot, config, "builders")
    pipelines = {record.name: record for record in found.records}
    assert found.expected == len(pipelines) == 5
    assert not found.refused

    payments = pipelines["payments"]
    host = config["base_url"].removeprefix("http://")
    assert payments.keys == [f"pipeline:{host}/builders/{payments.external_id}"]
    assert payments.url == f"{config['base_url']}/#/builders/{payments.external_id}"
    assert (payments.description, payments.tags) == ("Builds **payments**.", ["java"])
    assert (payments.labels, payments.is_active) == ({"project": "shop"}, True)
    assert payments.about == [f"repo:{acme_buildbot.repository}"]
    assert normalise(payments.about[0]) == "repo:file" + acme_buildbot.repository.removeprefix("file://")

    assert pipelines["shop"].about == [f"repo:{acme_buildbot.repository}", f"repo:{acme_buildbot.website}"]
    assert pipelines["sweep"].about == []


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({}, {"payments", "payments-nightly", "docs", "shop", "sweep"}),
        ({"builders": ["payments*", "docs"]}, {"payments", "payments-nightly", "docs"}),
        ({"projects": ["sh?p"]}, {"payments", "payments-nightly"}),
        ({"builders": ["*s"], "projects": ["shop"]}, {"payments"}),
        ({"builders": ["Payments"]}, set()),
    ],
)
def test_only_selected_builders_are_read(config: dict, selection: dict, names: set[str]) -> None:
    found = read(Buildbot, config | selection, "builders")
    assert {record.name for record in found.records} == names
    assert found.expected == len(names)


def test_lists_longer_than_a_page_are_read_whole(
    acme_buildbot: Acme, config: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _number in range(3):
        acme_buildbot.buildbot.build("sweep")
    whole = read(Buildbot, config, "builds")
    monkeypatch.setattr(module, "PAGE", 2)
    assert len(read(Buildbot, config, "builders").by_id()) == 5
    paged = read(Buildbot, config, "builds")
    assert [run.external_id for run in paged.records] == [run.external_id for run in whole.records]
    assert paged.marks[-1] == whole.marks[-1]
    assert len(paged.marks) > len(whole.marks)


# --- builds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("branch", "status", "last_step"),
    [
        ("main", RunStatus.PASSED, ("package", RunStatus.PASSED)),
        ("broken", RunStatus.FAILED, ("test", RunStatus.FAILED)),
        ("shaky", RunStatus.UNSTABLE, ("package", RunStatus.PASSED)),
        ("crash", RunStatus.FAILED, ("test", RunStatus.FAILED)),
    ],
)
def test_builds_become_runs_with_their_steps(
    acme_buildbot: Acme, config: dict, branch: str, status: RunStatus, last_step: tuple[str, RunStatus]
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    build = acme_buildbot.buildbot.build("payments", branch=branch)
    run = run_of(config, build)
    assert (run.status, run.branch, run.number) == (status, branch, str(build["number"]))
    assert run.title == f"payments #{build['number']}"
    assert run.commit == acme_buildbot.commits[branch]
    assert run.is_default_branch is (branch == "main")
    assert run.is_change is False
    assert before <= run.queued_at <= run.started_at <= run.finished_at <= datetime.now(UTC)
    assert run.about == [
        f"pipeline:{config['base_url'].removeprefix('http://')}/builders/{build['builderid']}",
        f"repo:{acme_buildbot.repository}",
        f"commit:{run.commit}",
    ]
    assert (run.steps[-1].name, run.steps[-1].status) == last_step
    assert [step.name for step in run.steps][-1:-4:-1][-1] in {"checkout", "compile"}
    assert all(step.started_at <= step.finished_at for step in run.steps)


def test_the_log_link_leads_to_the_log_of_what_failed(acme_buildbot: Acme, config: dict) -> None:
    run = run_of(config, acme_buildbot.buildbot.build("payments", branch="broken"))
    failed = run.steps[-1]
    assert run.log_url == failed.log_url == f"{run.url}/steps/3/logs/stdio"
    # The page is drawn in the browser from this answer of the API.
    path = run.log_url.partition("/#/")[2]
    log = acme_buildbot.buildbot.get(path)["logs"][0]
    assert "two tests failed" in str(acme_buildbot.buildbot.get(f"logs/{log['logid']}/contents"))


def test_a_build_without_a_failed_step_has_its_page_as_log(acme_buildbot: Acme, config: dict) -> None:
    run = run_of(config, acme_buildbot.buildbot.build("payments", branch="main"))
    assert run.log_url == run.url
    assert run.url.startswith(f"{config['base_url']}/#/builders/")


def test_a_running_build_is_read_again_until_it_ends(acme_buildbot: Acme, config: dict) -> None:
    buildbot = acme_buildbot.buildbot
    request = buildbot.force("payments", branch="slow")

    def is_testing(build: dict[str, Any]) -> bool:
        steps = buildbot.get(f"builds/{build['buildid']}/steps")["steps"]
        return steps[-1]["name"] == "test" and bool(buildbot.get(f"steps/{steps[-1]['stepid']}/logs")["logs"])

    build = buildbot.wait(request, until=is_testing)
    first = read(Buildbot, config, "builds")
    run = first.by_id()[str(build["buildid"])]
    assert (run.status, run.finished_at) == (RunStatus.RUNNING, None)
    assert (run.steps[-1].status, run.steps[-1].finished_at) == (RunStatus.RUNNING, None)
    assert run.log_url == run.steps[-1].log_url
    assert first.marks[-1]["running"] == [build["buildid"]]

    again = read(Buildbot, config, "builds", first.marks[-1])
    assert [(r.external_id, r.status) for r in again.records] == [(run.external_id, RunStatus.RUNNING)]

    acme_buildbot.gate.touch()
    try:
        buildbot.wait(request)
    finally:
        acme_buildbot.gate.unlink()
    later = buildbot.build("sweep")
    last = read(Buildbot, config, "builds", again.marks[-1])
    assert [(r.external_id, r.status) for r in last.records] == [
        (run.external_id, RunStatus.PASSED),
        (str(later["buildid"]), RunStatus.PASSED),
    ]
    assert last.records[0].as_of > run.as_of
    assert last.marks[-1]["running"] == []
    assert last.marks[-1]["after"] == later["buildid"]


def test_a_second_sync_reads_what_is_new_only(acme_buildbot: Acme, config: dict) -> None:
    acme_buildbot.buildbot.build("sweep")
    first = read(Buildbot, config, "builds")
    assert read(Buildbot, config, "builds", first.marks[-1]).records == []
    build = acme_buildbot.buildbot.build("sweep")
    found = read(Buildbot, config, "builds", first.marks[-1])
    assert list(found.by_id()) == [str(build["buildid"])]


@pytest.mark.parametrize("change", [{"after": 10**9}, {"scope": {"builders": ["docs"]}}])
def test_another_selection_or_a_new_database_is_read_from_the_start(
    acme_buildbot: Acme, config: dict, change: dict[str, Any]
) -> None:
    acme_buildbot.buildbot.build("sweep")
    first = read(Buildbot, config, "builds")
    again = read(Buildbot, config, "builds", first.marks[-1] | change)
    assert again.by_id().keys() == first.by_id().keys() != set()


def test_builds_before_the_first_days_are_left_out(acme_buildbot: Acme, config: dict) -> None:
    acme_buildbot.buildbot.build("sweep")
    assert len(read(Buildbot, config | {"days": 1}, "builds").records) > 0
    # Of today, but not of the zero days before now; the next build is read all the same.
    found = read(Buildbot, config | {"days": 0}, "builds")
    assert len(found.records) < len(read(Buildbot, config, "builds").records)


def test_a_build_of_several_codebases_speaks_of_all_of_them(acme_buildbot: Acme, config: dict) -> None:
    run = run_of(config, acme_buildbot.buildbot.build("shop"))
    assert run.about[1:] == [
        f"repo:{acme_buildbot.repository}",
        f"repo:{acme_buildbot.website}",
        f"commit:{acme_buildbot.commits['main']}",
        f"commit:{acme_buildbot.commits['website']}",
    ]
    assert run.commit == acme_buildbot.commits["main"]
    assert (run.branch, run.is_default_branch) == ("", True)


def test_a_build_without_sources_is_a_run_too(acme_buildbot: Acme, config: dict) -> None:
    run = run_of(config, acme_buildbot.buildbot.build("sweep"))
    assert (run.status, run.commit, len(run.about)) == (RunStatus.PASSED, "", 1)


def test_a_commit_names_its_author_and_a_pull_request_is_a_change(acme_buildbot: Acme, config: dict) -> None:
    buildbot = acme_buildbot.buildbot
    told = {
        "repository": acme_buildbot.repository,
        "author": "Ben Okri <ben@acme.example>",
        "comments": "Mend it",
    }
    known = {build["buildid"] for build in buildbot.get("builds")["builds"]}
    buildbot.change(**told, branch="main", revision=acme_buildbot.commits["main"])
    commit = acme_buildbot.commits["broken"]
    servers.git(acme_buildbot.repository, "update-ref", "refs/pull/7/merge", commit)
    buildbot.change(**told, branch="refs/pull/7/merge", revision=commit)

    def are_done() -> list[dict[str, Any]]:
        builds = [b for b in buildbot.get("builds")["builds"] if b["buildid"] not in known]
        return builds if len(builds) == 2 and all(b["complete"] for b in builds) else []

    servers.wait_for(are_done, "the builds of two changes")
    runs = {
        run.branch: run
        for run in read(Buildbot, config, "builds").records
        if int(run.external_id) not in known
    }
    assert {(run.actor, run.actor_email) for run in runs.values()} == {("Ben Okri", "ben@acme.example")}
    pushed, pulled = runs["main"], runs["refs/pull/7/merge"]
    assert (pushed.is_change, pushed.is_default_branch) == (False, True)
    assert (pulled.is_change, pulled.is_default_branch) == (True, False)
    assert (pulled.status, pulled.commit) == (RunStatus.FAILED, commit)


# --- operations ---------------------------------------------------------------------------------------------


def pipeline(config: dict[str, Any], name: str) -> Any:
    return next(record for record in read(Buildbot, config, "builders").records if record.name == name)


def request_of(result: Any) -> int:
    return int(result.url.rpartition("/buildrequests/")[2])


def test_a_forced_build_is_seen_by_the_next_sync(acme_buildbot: Acme, config: dict) -> None:
    before = read(Buildbot, config, "builds").marks[-1]
    target = pipeline(config, "payments")
    params = ForceParams(branch="broken", reason="Ana asked")
    result = use(Buildbot, config, lambda made: made.force(target, params))
    assert result.message
    assert result.url.startswith(f"{config['base_url']}/#/buildrequests/")
    build = acme_buildbot.buildbot.wait(request_of(result))
    run = read(Buildbot, config, "builds", before).by_id()[str(build["buildid"])]
    assert (run.status, run.branch) == (RunStatus.FAILED, "broken")
    request = acme_buildbot.buildbot.get(f"buildrequests/{request_of(result)}")["buildrequests"][0]
    assert (
        "Ana asked"
        in acme_buildbot.buildbot.get(f"buildsets/{request['buildsetid']}")["buildsets"][0]["reason"]
    )


def test_a_forced_build_of_a_revision(acme_buildbot: Acme, config: dict) -> None:
    target = pipeline(config, "payments")
    params = ForceParams(branch="shaky", revision=acme_buildbot.commits["shaky"])
    result = use(Buildbot, config, lambda made: made.force(target, params))
    build = acme_buildbot.buildbot.wait(request_of(result))
    assert run_of(config, build).commit == acme_buildbot.commits["shaky"]


def test_a_build_is_repeated_with_the_same_sources(acme_buildbot: Acme, config: dict) -> None:
    first = run_of(config, acme_buildbot.buildbot.build("payments", branch="shaky"))
    result = use(Buildbot, config, lambda made: made.rebuild(first))
    build = acme_buildbot.buildbot.wait(request_of(result))
    second = run_of(config, build)
    assert int(second.number) > int(first.number)
    assert (second.branch, second.commit, second.status) == (first.branch, first.commit, first.status)


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("payments-nightly", {}, 'builderNames=["payments-nightly"]'),
        ("docs", {}, "reason"),
        ("docs", {"reason": "x", "branch": "broken"}, "“branch” 0 times"),
        ("shop", {"revision": "abc"}, "“revision” 2 times"),
    ],
)
def test_a_build_that_cannot_be_forced_so_says_why(config: dict, name: str, params: dict, says: str) -> None:
    target = pipeline(config, name)
    with pytest.raises(Misconfigured) as raised:
        use(Buildbot, config, lambda made: made.force(target, ForceParams(**params)))
    assert says in raised.value.message


# --- signing in and health ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Buildbot]:
    """A master that only Ana may read."""
    folder = tmp_path_factory.mktemp("guarded")
    with servers.required():
        builders = [servers.Builder(name="sweep", steps=[("sweep", "true")])]
        with servers.run_buildbot(folder, builders, login=("ana@acme.example", "open-sesame")) as buildbot:
            yield buildbot


def test_with_user_and_password_a_guarded_master_is_read_and_used(guarded: servers.Buildbot) -> None:
    config = {"base_url": guarded.url, "username": "ana@acme.example", "password": "open-sesame"}

    async def go(made: Buildbot) -> Any:
        builder = (await collect(made, "builders")).records[0]
        await made.force(builder, ForceParams())
        return await made.check()

    health = use(Buildbot, config, go)
    assert health.ok
    assert "Signed in as ana@acme.example" in [check.label for check in health.checks]

    def run() -> Any:
        found = read(Buildbot, config, "builds").records
        return found and found[0].status == RunStatus.PASSED and found[0]

    assert servers.wait_for(run, "the forced build").actor_email == "ana@acme.example"


@pytest.mark.parametrize(
    "credentials", [{}, {"username": "ana@acme.example", "password": "wrong"}, {"token": "none"}]
)
def test_without_the_right_password_it_says_so(
    guarded: servers.Buildbot, credentials: dict[str, str]
) -> None:
    config = {"base_url": guarded.url, **credentials}
    for resource in ("builders", "builds"):
        with pytest.raises(AuthFailed):
            read(Buildbot, config, resource)
    health = use(Buildbot, config, lambda made: made.check())
    assert not health.ok
    assert "user name and password" in health.checks[0].remedy


def test_the_check_tells_what_can_be_read_and_started(config: dict) -> None:
    health = use(Buildbot, config, lambda made: made.check())
    assert health.ok
    assert [check.label for check in health.checks] == [
        "Reached Buildbot 4.3.0",
        "Reads without signing in",
        "Can read 5 builders",
        "4 of them can be started from here",
    ]
    assert "ForceScheduler" in health.checks[-1].remedy


def test_the_check_of_an_empty_selection_fails(config: dict) -> None:
    health = use(Buildbot, config | {"builders": ["nobody-*"]}, lambda made: made.check())
    assert not health.ok
    assert "“Builders”" in next(check for check in health.checks if not check.ok).remedy
