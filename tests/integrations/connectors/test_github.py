"""GitHub: played from what others recorded of it, and told of what happens by its own example payloads."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.db.models import Count
from django.test import Client
from pydantic import ValidationError

from catalog.models import Activity, Entity, Served
from integrations.connectors.github import reading
from integrations.connectors.github.config import Config, DispatchParams
from integrations.connectors.github.connector import GitHub
from integrations.contract import Connector, Gone, Misconfigured, Refused, SourceUnavailable, WebhookRequest
from integrations.models import Delivery
from integrations.records import Document, Record, Repository, Run, RunStatus, Team, User, Version
from integrations.services.connections import create_connection
from integrations.services.deliveries import process_deliveries
from tests.integrations import github as played
from tests.integrations.github import REPO, examples
from tests.integrations.reading import Reading, collect, read, use
from tests.integrations.servers import required
from tests.integrations.tool import synced

pytestmark = pytest.mark.server
AT = f"/repos/{REPO}"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
EVENTS = [
    "push", "repository", "pull_request", "release", "create", "delete", "workflow_run", "workflow_job",
    "deployment", "deployment_status", "team", "membership", "organization",
]  # fmt: skip


@pytest.fixture
def hub() -> Iterator[played.GitHub]:
    with required(), played.play() as server:
        yield server


def everything(settings: dict[str, Any], marks: dict[str, Any] | None = None) -> dict[str, Reading]:
    """All lists as one sync reads them."""

    async def do(made: Connector) -> dict[str, Reading]:
        return {
            spec.name: await collect(made, spec.name, (marks or {}).get(spec.name))
            for spec in made.resources()
        }

    return use(GitHub, settings, do)


def only(found: Reading) -> Any:
    assert len(found.records) == 1, found
    return found.records[0]


# --- lists --------------------------------------------------------------------------------------------------


def test_everything_is_read_and_comes_together_by_its_keys(hub: played.GitHub) -> None:
    found = everything(hub.settings)
    assert not [reading.refused for reading in found.values() if reading.refused]
    repository = only(found["repositories"])
    assert repository.keys == ["repo:https://github.com/Codertocat/Hello-World"]
    assert (repository.owners, repository.owners_from) == (["@Codertocat/github"], "CODEOWNERS:1")
    assert repository.languages == {"Go": 12}
    assert only(found["documents"]).document["metadata"] == {"name": "hello"}
    assert only(found["teams"]).members == ["Codertocat"]
    run, pipeline = only(found["runs"]), only(found["workflows"])
    assert run.about[0] in pipeline.keys
    assert run.about[1] in repository.keys
    assert (run.status, run.is_default_branch, run.is_change) == (RunStatus.FAILED, True, False)
    assert [step.name for step in run.steps] == ["linters: Run yarn run format-check"]
    assert [version.version for version in found["versions"].records] == ["0.0.1", "nightly"]
    deployment = only(found["deployments"])
    assert (deployment.status, deployment.environment) == ("deployed", "production")
    assert only(found["environments"]).keys == ["env:staging"]
    assert only(found["pulls"]).status == "open"


def test_a_second_sync_is_answered_that_nothing_has_changed(hub: played.GitHub) -> None:
    first = everything(hub.settings)
    full = len(hub.statuses(200))
    hub.asked.clear()
    second = everything(hub.settings, {name: found.marks[-1] for name, found in first.items() if found.marks})
    assert len(hub.statuses(200)) <= full * 0.1, hub.asked
    assert len(hub.statuses(304)) > 10
    assert [r.external_id for r in second["repositories"].records] == ["186853002"]
    assert not second["versions"].records


def test_an_owner_without_codeowners_is_the_team_that_administers(hub: played.GitHub) -> None:
    tree = hub.has[f"{AT}/git/trees/master"]
    tree["tree"] = [row for row in tree["tree"] if row["path"] != "CODEOWNERS"]
    found = only(read(GitHub, hub.settings, "repositories"))
    assert found.owners == ["@Codertocat/github"]
    assert "Admin" in found.owners_from
    assert only(read(GitHub, hub.settings | {"people": False}, "repositories")).owners == []


def test_of_several_teams_that_administer_the_one_with_the_least_owns(hub: played.GitHub) -> None:
    tree = hub.has[f"{AT}/git/trees/master"]
    # What GitLab reads is nobody's word here.
    for row in tree["tree"]:
        row["path"] = row["path"].replace("CODEOWNERS", ".gitlab/CODEOWNERS")
    (team,) = hub.has["/orgs/Codertocat/teams"]
    (repo,) = hub.has["/orgs/Codertocat/teams/github/repos"]
    hub.has["/orgs/Codertocat/teams"] = [{**team, "id": 7, "slug": "admins"}, team]
    hub.has["/orgs/Codertocat/teams/admins/members"] = []
    hub.has["/orgs/Codertocat/teams/admins/repos"] = [repo, {**repo, "id": 1}]
    assert only(read(GitHub, hub.settings, "repositories")).owners == [
        "@Codertocat/github",
        "@Codertocat/admins",
    ]


def test_an_empty_repository_is_one_without_files(hub: played.GitHub) -> None:
    hub.has[f"{AT}/git/trees/master"] = 409
    assert only(read(GitHub, hub.settings, "repositories")).languages == {}
    assert read(GitHub, hub.settings, "documents").records == []


def test_a_tree_too_large_for_one_answer_is_read_folder_by_folder(hub: played.GitHub) -> None:
    whole = hub.has[f"{AT}/git/trees/master"]
    whole["truncated"] = True
    whole["tree"] = [
        *whole["tree"][:2],
        {"path": "pay", "type": "tree", "mode": "040000", "sha": "2" * 40},
        {"path": "link.go", "type": "blob", "mode": "120000", "size": 9, "sha": "3" * 40},
    ]
    inner = {"path": "catalog-info.yaml", "type": "blob", "mode": "100644", "size": 9, "sha": "3" * 40}
    hub.has[f"{AT}/git/trees/{'2' * 40}"] = {"truncated": False, "tree": [inner]}
    hub.has[f"{AT}/contents/pay/catalog-info.yaml"] = hub.has[f"{AT}/contents/catalog-info.yaml"]
    assert [r.file for r in read(GitHub, hub.settings, "documents").records] == [
        "catalog-info.yaml",
        "pay/catalog-info.yaml",
    ]


@pytest.mark.parametrize(
    ("more", "is_selected"),
    [
        ({"include": ["Codertocat/Hello-*"]}, True),
        ({"include": ["Codertocat/pay"]}, False),
        ({"exclude": ["*/Hello-World"]}, False),
        ({"topics": ["payments"]}, False),
    ],
)
def test_only_what_is_selected_is_read(hub: played.GitHub, more: dict[str, Any], is_selected: bool) -> None:
    if is_selected:
        assert only(read(GitHub, hub.settings | more, "repositories"))
    else:
        with pytest.raises(Misconfigured, match="selection"):
            read(GitHub, hub.settings | more, "repositories")


def test_what_cannot_be_read_of_one_repository_does_not_hide_the_others(hub: played.GitHub) -> None:
    one = hub.has["/orgs/Codertocat/repos"][0]
    hub.has["/orgs/Codertocat/repos"] = [{**one, "id": 1, "full_name": "Codertocat/broken"}, one]
    found = Reading()

    async def go(made: GitHub) -> None:
        async for item in made.workflows():
            found.add(item)

    with pytest.raises(Exception, match="Codertocat/broken"):
        use(GitHub, hub.settings, go)
    assert len(found.records) == 1


def test_runs_that_were_not_over_are_asked_for_again(hub: played.GitHub) -> None:
    name, rows = hub.has[f"{AT}/actions/runs"]
    running = {**rows[0], "status": "in_progress", "conclusion": None}
    hub.has[f"{AT}/actions/runs"] = (name, [running])
    first = read(GitHub, hub.settings, "runs")
    assert only(first).status == RunStatus.RUNNING
    hub.has[f"{AT}/actions/runs"] = (name, [])
    hub.has[f"{AT}/actions/runs/{running['id']}"] = {
        **running,
        "status": "completed",
        "conclusion": "success",
    }
    second = read(GitHub, hub.settings, "runs", first.marks[-1])
    assert only(second).status == RunStatus.PASSED
    assert only(second).as_of > only(first).as_of
    hub.asked.clear()
    read(GitHub, hub.settings, "runs", second.marks[-1])
    assert not [path for _method, path, _status in hub.asked if str(running["id"]) in path]


def test_repositories_without_news_take_turns(hub: played.GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.connectors.github.connector.QUIET", 1)
    one = hub.has["/orgs/Codertocat/repos"][0]
    names = ["a", "b", "c"]
    hub.has["/orgs/Codertocat/repos"] = [
        {**one, "id": number, "full_name": f"Codertocat/{name}"} for number, name in enumerate(names)
    ]
    hub.has |= {f"/repos/Codertocat/{name}/actions/runs": ("workflow_runs", []) for name in names}
    mark, asked = None, []
    for _pass in range(4):
        hub.asked.clear()
        mark = read(GitHub, hub.settings, "runs", mark).marks[-1]
        asked.append("".join(path.split("/")[3] for _m, path, _s in hub.asked if "actions" in path))
    assert asked == ["abc", "a", "b", "c"]
    hub.has["/orgs/Codertocat/repos"][0]["pushed_at"] = "2026-01-01T00:00:00Z"
    hub.asked.clear()
    read(GitHub, hub.settings, "runs", mark)
    assert f"/repos/Codertocat/{names[0]}/actions/runs?per_page=30" in [path for _m, path, _s in hub.asked]


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "message", "seconds"),
    [
        (403, {"X-RateLimit-Remaining": "0"}, "API rate limit exceeded for user ID 1.", 60),
        (403, {"Retry-After": "90"}, "You have exceeded a secondary rate limit.", 90),
        (429, {}, "You have exceeded a secondary rate limit.", 60),
        (403, {}, "You have exceeded a secondary rate limit.", 60),
    ],
)
def test_a_limit_is_a_pause_for_everything_and_not_a_missing_permission(
    hub: played.GitHub, status: int, headers: dict[str, str], message: str, seconds: int
) -> None:
    hub.refuses["*"] = (status, headers, message)
    settings = hub.settings | {"token": f"of-{status}-{seconds}-{len(headers)}"}

    async def twice(made: GitHub) -> list[SourceUnavailable]:
        found = []
        for name in ("repositories", "runs"):
            with pytest.raises(SourceUnavailable, match="pause") as caught:
                await collect(made, name)
            found.append(caught.value)
        return found

    errors = use(GitHub, settings, twice)
    assert all(seconds - 5 < (error.retry_after or 0) <= seconds for error in errors)
    assert len(hub.asked) == 1


# --- deliveries ---------------------------------------------------------------------------------------------


def tell(hub: played.GitHub, event: str, said: dict[str, Any], **more: Any) -> list[Any]:
    request = WebhookRequest({"x-github-event": event}, json.dumps(said).encode(), NOW)

    async def do(made: GitHub) -> list[Any]:
        return [item async for item in made.told(request)]

    return use(GitHub, hub.settings | more, do)


def stand_in(hub: played.GitHub, said: dict[str, Any]) -> None:
    """What a delivery may make us ask for, of the repository and organisation that it speaks of."""
    repo = said.get("repository")
    org = (said.get("organization") or {}).get("login") or "Codertocat"
    user = {**hub.has["/user"], "id": 7}
    if member := (said.get("membership") or {}).get("user"):
        hub.has[f"/users/{member['login']}"] = {**user, **member}
        is_in = {"state": "active", "role": "member"} if said["action"] == "member_added" else None
        hub.has[f"/orgs/{org}/memberships/{member['login']}"] = is_in
    team = said.get("team") or {}
    hub.has |= {f"/users/{org}": {"login": org, "type": "Organization"}, f"/orgs/{org}/teams": []}
    hub.has[f"/orgs/{org}/teams/{team.get('slug')}/members"] = [user]
    if "slug" in team:
        hub.has[f"/orgs/{org}/teams/{team['slug']}"] = team
    if repo:
        for path in [path for path in hub.has if path.startswith(f"{AT}/")]:
            hub.has[path.replace(REPO, repo["full_name"])] = hub.has[path]
        at = f"/repos/{repo['full_name']}"
        hub.has[at] = repo
        if release := said.get("release"):
            hub.has[f"{at}/releases/{release['id']}"] = release
        hub.has[f"{at}/git/trees/{repo.get('default_branch')}"] = hub.has[f"{AT}/git/trees/master"]
        row = said.get("workflow_run") or hub.has[f"{AT}/actions/runs"][1][0]
        number = (said.get("workflow_job") or {}).get("run_id", row["id"])
        hub.has[f"{at}/actions/runs/{number}"] = {**row, "id": number}
        hub.has[f"{at}/actions/runs/{number}/jobs"] = hub.has[
            f"{AT}/actions/runs/{hub.has[f'{AT}/actions/runs'][1][0]['id']}/jobs"
        ]


@pytest.mark.django_db
@pytest.mark.parametrize("event", EVENTS)
def test_all_examples_of_an_event_go_in_by_the_door(
    hub: played.GitHub, settings: Any, core_pack: None, event: str
) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    secret = "between us"
    config = {"base_url": hub.url, "token": "t", "webhook_secret": secret, "forks": True, "archived": True}
    connection = create_connection(slug="gh", label="GitHub", connector="github", config=config)
    for number, said in enumerate(examples(event)):
        stand_in(hub, said)
        body = json.dumps(said).encode()
        headers = {
            "x-github-event": event,
            "x-github-delivery": f"{event}-{number}",
            "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        answer = Client().post("/hooks/gh", body, content_type="application/json", headers=headers)
        assert answer.status_code == 202, answer.content
    process_deliveries(connection_id=connection.pk)
    left = Delivery.objects.exclude(state=Delivery.State.DONE)
    assert [(row.event, row.message) for row in left] == []
    told = sum(Delivery.objects.values_list("records", flat=True))
    assert told > 0
    assert Entity.objects.filter(deleted_at=None).exists() or Activity.objects.exists() or event == "delete"


@pytest.mark.django_db
def test_a_sync_makes_one_picture_and_a_renamed_repository_stays_itself(
    hub: played.GitHub, settings: Any, core_pack: None
) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    config = {**hub.settings, "webhook_secret": "s"}
    connection = create_connection(slug="gh", label="GitHub", connector="github", config=config)
    run = synced(connection)
    refused = [page.errors for row in run.resources.all() for page in row.pages.all() if page.errors]
    assert (run.state, refused) == ("synced", [])
    kinds = sorted(Entity.objects.filter(deleted_at=None).values_list("kind", flat=True))
    assert kinds == ["component", "environment", "group", "pipeline", "repository", "user"]
    repository = Entity.objects.get(kind="repository")
    related = set(repository.relations_out.values_list("type", "target__kind"))
    assert ("ownedBy", "group") in related, related
    assert Activity.objects.get(type="run").subject_uid == Entity.objects.get(kind="pipeline").uid
    counts = dict(Activity.objects.values_list("type").annotate(n=Count("pk")))
    assert counts == {"run": 1, "change": 1, "version": 2, "deployment": 1}
    said = examples("repository")[9]
    new = {**hub.has["/orgs/Codertocat/repos"][0], "name": "Bye", "full_name": "Codertocat/Bye"}
    new["html_url"] = "https://github.com/Codertocat/Bye"
    stand_in(hub, {"repository": new})
    body = json.dumps({**said, "action": "renamed", "repository": new}).encode()
    signature = "sha256=" + hmac.new(b"s", body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "repository", "x-github-delivery": "1", "x-hub-signature-256": signature}
    Client().post("/hooks/gh", body, content_type="application/json", headers=headers)
    assert process_deliveries(connection_id=connection.pk) == 1
    assert not Delivery.objects.exclude(state=Delivery.State.DONE)
    renamed = Entity.objects.get(kind="repository", deleted_at=None)
    assert renamed.uid == repository.uid
    assert json.loads(Served.objects.get(entity=renamed).document)["spec"]["path"] == "Codertocat/Bye"


def test_what_deliveries_say_is_what_the_lists_say(hub: played.GitHub) -> None:
    said = examples("pull_request")[0]
    assert tell(hub, "pull_request", said) == read(GitHub, hub.settings, "pulls").records
    said = examples("deployment_status")[0]
    told, listed = (
        tell(hub, "deployment_status", said)[0],
        read(GitHub, hub.settings, "deployments").records[0],
    )
    assert told == listed.model_copy(update={"raw": told.raw})  # the example's has another time of update


def test_a_push_reads_the_catalog_files_again_that_it_touches(hub: played.GitHub) -> None:
    said = examples("push")[4]
    said["commits"][0] |= {"added": [], "removed": [], "modified": ["src/main.go"]}
    assert tell(hub, "push", said) == []
    said["commits"][0]["modified"] = ["catalog-info.yaml"]
    assert [type(item) for item in tell(hub, "push", said)] == [Document]
    said["commits"][0]["modified"] = [".github/CODEOWNERS"]
    assert [type(item) for item in tell(hub, "push", said)] == [Repository]
    said["ref"] = "refs/heads/feature"
    assert tell(hub, "push", said) == []


def test_what_is_deleted_or_no_longer_selected_is_gone(hub: played.GitHub) -> None:
    said = examples("repository")[0]
    gone = [Gone(of=Repository, external_id=str(said["repository"]["id"]), as_of=NOW)]
    assert tell(hub, "repository", {**said, "action": "deleted"}) == gone
    archived = {**said, "action": "archived", "repository": {**said["repository"], "archived": True}}
    assert [(type(item), item.of) for item in tell(hub, "repository", archived)] == [(Gone, Repository)]
    stand_in(hub, said)
    assert [type(item) for item in tell(hub, "repository", archived, archived=True)] == [Repository]
    assert [item.of for item in tell(hub, "delete", examples("delete")[0])] == [Version]
    team = examples("team")[3]
    assert [item.of for item in tell(hub, "team", team)] == [Team]
    member = {**examples("organization")[0], "action": "member_removed"}
    assert [item.of for item in tell(hub, "organization", member)] == [User]


def test_a_delivery_that_comes_late_tells_what_is_there_now(hub: played.GitHub) -> None:
    said = examples("repository")[0]
    stand_in(hub, said)
    repo, later = said["repository"], "2020-01-01T00:00:00Z"
    at = f"/repos/{repo['full_name']}"
    hub.has[at] = {**repo, "description": "as it is", "updated_at": later}
    assert [item.description for item in tell(hub, "repository", said)] == ["as it is"]
    newer = {**repo, "description": "newer", "updated_at": "2020-01-01T00:00:01Z"}
    assert [item.description for item in tell(hub, "repository", {**said, "repository": newer})] == ["newer"]
    hub.has[at]["archived"] = True
    assert [type(item) for item in tell(hub, "repository", said)] == [Gone]
    del hub.has[at]
    assert tell(hub, "repository", said) == []

    said = next(one for one in examples("release") if one["action"] == "edited")
    stand_in(hub, said)
    path = f"/repos/{said['repository']['full_name']}/releases/{said['release']['id']}"
    hub.has[path] = {**said["release"], "name": "as it is", "draft": False}
    late = {**said, "action": "unpublished"}  # it was published again since
    assert [item.title for one in (said, late) for item in tell(hub, "release", one)] == ["as it is"] * 2
    assert [type(item) for item in tell(hub, "release", {**said, "action": "deleted"})] == [Gone]
    del hub.has[path]
    assert tell(hub, "release", said) == []
    assert [type(item) for item in tell(hub, "release", late)] == [Gone]

    said = examples("delete")[0]
    path = f"/repos/{said['repository']['full_name']}/git/ref/tags%2F{said['ref']}"
    hub.has[path] = {"ref": f"refs/tags/{said['ref']}", "object": {"type": "commit", "sha": "1" * 40}}
    assert tell(hub, "delete", said) == []
    del hub.has[path]
    assert [type(item) for item in tell(hub, "delete", said)] == [Gone]

    said = next(one for one in examples("team") if one["action"] == "edited")
    stand_in(hub, said)
    path = f"/orgs/{said['organization']['login']}/teams/{said['team']['slug']}"
    hub.has[path] = {**said["team"], "description": "as it is"}
    assert [item.description for item in tell(hub, "team", said)] == ["as it is"]
    del hub.has[path]
    assert tell(hub, "team", said) == []


@pytest.mark.django_db
def test_who_joins_leaves_and_joins_again_is_in_though_the_first_words_and_the_last_are_the_same(
    hub: played.GitHub, settings: Any, core_pack: None
) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    connection = create_connection(
        slug="gh", label="GitHub", connector="github", config={**hub.settings, "webhook_secret": "s"}
    )
    joined = {**examples("organization")[0], "action": "member_added"}
    left = {**joined, "action": "member_removed"}

    def deliver(said: dict[str, Any], id: str) -> bool:
        """Whether it came before."""
        body = json.dumps(said).encode()
        signature = "sha256=" + hmac.new(b"s", body, hashlib.sha256).hexdigest()
        headers = {
            "x-github-event": "organization",
            "x-github-delivery": id,
            "x-hub-signature-256": signature,
        }
        answer = Client().post("/hooks/gh", body, content_type="application/json", headers=headers)
        return bool(answer.json()["repeated"])

    def is_in() -> bool:
        process_deliveries(connection_id=connection.pk)
        return Entity.objects.filter(kind="user", deleted_at=None).exists()

    for id, said in (("1", joined), ("2", left), ("3", joined)):
        stand_in(hub, said)
        assert not deliver(said, id)
        assert is_in() == (said is joined)
        assert deliver(said, id), "the same once more"
    # Of what comes late, or is sent again by whoever has overheard it, GitHub is asked.
    assert not deliver(left, "4")
    assert is_in()


def test_what_is_not_selected_or_not_handled_is_passed_over(hub: played.GitHub) -> None:
    said = examples("pull_request")[0]
    assert tell(hub, "pull_request", said, exclude=["Codertocat/*"]) == []
    assert tell(hub, "star", said) == []
    assert tell(hub, "ping", {"zen": "Keep it logically awesome."}) == []


# --- operations ---------------------------------------------------------------------------------------------


def test_a_workflow_runs_on_the_default_branch_or_on_the_one_that_is_named(hub: played.GitHub) -> None:
    found = read(GitHub, hub.settings, "workflows").records[0]
    target = found.model_copy(
        update={"url": f"https://github.com/{REPO}/blob/master/.github/workflows/ci.yml"}
    )
    path = f"{AT}/actions/workflows/{target.external_id}/dispatches"
    hub.has[f"POST {path}"] = 204
    for params in (DispatchParams(), DispatchParams(ref="v1", inputs={"level": "debug"})):
        assert (
            "GitHub starts"
            in use(GitHub, hub.settings, lambda made, p=params: made.dispatch(target, p)).message
        )
    assert hub.posted == [
        (path, {"ref": "master", "inputs": {}}),
        (path, {"ref": "v1", "inputs": {"level": "debug"}}),
    ]
    hub.refuses[path] = (422, {}, "Workflow does not have 'workflow_dispatch' trigger")
    with pytest.raises(Misconfigured, match="workflow_dispatch"):
        use(GitHub, hub.settings, lambda made: made.dispatch(target, DispatchParams()))


def test_runs_are_repeated_and_cancelled(hub: played.GitHub) -> None:
    run = Run(
        external_id="30433642",
        status=RunStatus.FAILED,
        url=f"https://github.com/{REPO}/actions/runs/30433642",
    )
    at = f"{AT}/actions/runs/30433642"
    hub.has |= {f"POST {at}/rerun": 201, f"POST {at}/rerun-failed-jobs": 201, f"POST {at}/cancel": 202}
    for what in (GitHub.rerun, GitHub.rerun_failed, GitHub.cancel):
        assert use(GitHub, hub.settings, lambda made, do=what: do(made, run)).url == run.url
    assert [path for path, _body in hub.posted] == [f"{at}/rerun", f"{at}/rerun-failed-jobs", f"{at}/cancel"]
    hub.refuses[f"{at}/cancel"] = (409, {}, "Cannot cancel a workflow run that is completed.")
    with pytest.raises(Misconfigured, match="completed"):
        use(GitHub, hub.settings, lambda made: made.cancel(run))


# --- the test of a connection -------------------------------------------------------------------------------


def classic(body: str) -> str:
    """A classic token with the checksum that GitHub gives it."""
    return next(t for t in (f"ghp_{body}{n}" for n in _endings(body)) if reading._is_whole(t))


def _endings(body: str) -> Iterator[str]:
    from zlib import crc32

    number, text = crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        text = reading.DIGITS[digit] + text
    yield text.rjust(6, "0")


def checked(hub: played.GitHub, **more: Any) -> Any:
    return use(GitHub, hub.settings | more, lambda made: made.check())


def test_a_good_token_is_told_with_all_that_it_can(hub: played.GitHub) -> None:
    hub.headers["github-authentication-token-expiration"] = "2036-12-30 10:00:00 UTC"
    health = checked(hub)
    assert health.ok, health
    assert [check.label for check in health.checks][:1] == ["Signed in as Codertocat"]
    assert "Found 1 repositor" in str(health)


def test_wrong_cut_off_and_expired_tokens_are_told_apart(hub: played.GitHub) -> None:
    hub.refuses["*"] = (401, {}, "Bad credentials")
    whole = classic("a" * 30)
    said = {
        token: checked(hub, token=token).checks[0].detail
        for token in ("open-sesame", whole[:-1] + "!", whole[:20], whole[:10] + "x" + whole[11:], whole)
    }
    details = list(said.values())
    assert "no token of GitHub" in details[0]
    assert all("cut off or mistyped: it is too short" in detail for detail in details[1:3])
    assert "last six characters" in details[3]
    assert "expired" in details[4]


def test_a_missing_scope_is_named(hub: played.GitHub) -> None:
    hub.headers["X-OAuth-Scopes"] = "repo, gist"
    failed = [check for check in checked(hub).checks if not check.ok]
    assert ["read:org" in check.remedy for check in failed] == [True]
    hub.headers["X-OAuth-Scopes"] = "gist, read:org"
    health = checked(hub)
    assert health.ok
    assert any("scope repo" in check.remedy for check in health.checks)


def test_a_missing_permission_is_named_as_github_names_it(hub: played.GitHub) -> None:
    hub.refuses[f"{AT}/deployments"] = (
        403,
        {"X-Accepted-GitHub-Permissions": "deployments=read"},
        "Resource not accessible by personal access token",
    )
    failed = [check for check in checked(hub).checks if not check.ok]
    assert len(failed) == 1
    assert "deployments=read" in failed[0].remedy
    assert "not accessible" in failed[0].detail


# --- an App -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize("is_flat", [False, True])
def test_an_app_signs_in_with_its_key_and_reads_by_its_token(
    hub: played.GitHub, key: rsa.RSAPrivateKey, is_flat: bool
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    hub.has |= {
        "/app": {"slug": "portico-reader"},
        "/app/installations/42/access_tokens": {"token": "ghs_short", "expires_at": until},
        "/installation/repositories": ("repositories", hub.has["/orgs/Codertocat/repos"]),
    }
    settings = {
        "base_url": hub.url, "app_id": "Iv1.abc", "installation": 42, "days": 3650,
        "private_key": pem.replace("\n", "") if is_flat else pem,
    }  # fmt: skip
    assert use(GitHub, settings, lambda made: made.check()).ok
    everything(settings)
    signed = {given for given in hub.authorized if given.count(".") == 2}
    head, claims, signature = next(iter(signed)).removeprefix("Bearer ").split(".")
    key.public_key().verify(
        unpad(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    told = json.loads(unpad(claims))
    assert told["iss"] == "Iv1.abc"
    assert 0 < told["exp"] - told["iat"] <= 600
    assert set(hub.authorized) - signed == {"Bearer ghs_short"}
    # One token for both, so that what has not changed is confirmed instead of sent again.
    assert len([path for path, _body in hub.posted if path.endswith("access_tokens")]) == 1


def unpad(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"app_id": "1"},
        {"token": "t", "app_id": "1"},
        {"app_id": "1", "installation": 2, "private_key": "no key"},
    ],
)
def test_settings_that_sign_in_nowhere_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"token|App"):
        Config.model_validate(given)


# --- what others recorded -----------------------------------------------------------------------------------


def test_recorded_answers_of_the_real_one_become_records() -> None:
    """Every run, job, workflow, change, release, deployment and environment that PyGithub recorded."""
    with required():
        exchanges = played.recordings()
    repo = examples("push")[4]["repository"]
    made: list[Record | Refused] = []
    for method, path, status, body in exchanges:
        if method != "GET" or status != 200:
            continue
        end = path.partition("?")[0].split("/")[4:]
        rows = body if isinstance(body, list) else [body]
        match end:
            case ["actions", "runs"]:
                whole = [row for row in body["workflow_runs"] if "status" in row]  # some were cut to ids
                made += [reading.run(repo, row, []) for row in whole]
            case ["actions", "runs", _number]:
                made += [reading.run(repo, row, []) for row in rows]
            case ["actions", "runs", _number, "jobs"]:
                run = played.world()[f"{AT}/actions/runs"][1][0]
                made.append(reading.run(repo, run, body["jobs"]))
            case ["actions", "workflows"]:
                made += [reading.workflow(repo, row, NOW) for row in body["workflows"]]
            case ["pulls"]:
                made += [reading.change(repo, row) for row in rows if "merged_at" in row]
            case ["pulls", _number]:
                made += [reading.change(repo, row) for row in rows if "merged_at" in row]
            case ["releases"]:
                made += [reading.release(repo, row, NOW) for row in rows]
            case ["deployments"]:
                made += [reading.deployment(repo, row, None) for row in rows]
            case ["environments"]:
                made += [reading.environment(repo, row, NOW) for row in body["environments"]]
    refused = [item for item in made if isinstance(item, Refused)]
    assert refused == []
    assert len(made) > 150


# --- GitHub's own description -------------------------------------------------------------------------------


@pytest.mark.full
def test_every_request_is_valid_by_githubs_own_description(hub: played.GitHub) -> None:
    with required():
        description = played.Description()
    everything(hub.settings)
    checked(hub)
    test_runs_are_repeated_and_cancelled(hub)
    hub.refuses.clear()
    hub.posted.clear()
    test_a_workflow_runs_on_the_default_branch_or_on_the_one_that_is_named(hub)
    asked = {(method, path) for method, path, _status in hub.asked}
    wrong = [problem for method, path in sorted(asked) if (problem := description.problem(method, path))]
    assert wrong == []
    assert len({description.route(method, path) for method, path in asked}) > 20
