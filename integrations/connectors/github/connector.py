"""GitHub, cloud and Enterprise Server: code, people, changes, versions, workflows and deployments."""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from integrations.connectors.github import reading
from integrations.connectors.github.app import App
from integrations.connectors.github.config import Config, DispatchParams
from integrations.contract import (
    Answer,
    BadPayload,
    Category,
    Check,
    Connector,
    Expect,
    Gone,
    Known,
    Mark,
    Misconfigured,
    NotThere,
    OperationResult,
    Refused,
    SourceError,
    SourceUnavailable,
    Told,
    Tools,
    WebhookRequest,
    gettext_noop,
    is_chosen,
    once,
    operation,
    record_or_refusal,
    resource,
    signed_with_hmac,
    webhook,
)
from integrations.contract import gettext as _
from integrations.documents import records_of_repository, repository_id
from integrations.records import (
    Change,
    Deployment,
    Document,
    Environment,
    Pipeline,
    Record,
    Repository,
    Run,
    RunStatus,
    Team,
    User,
    Version,
)
from integrations.repository_files import (
    CODEOWNERS,
    build_files_of,
    catalog_files_of,
    facts_of,
    is_foreign,
    readme_of,
)

T = TypeVar("T")
Row = dict[str, Any]
Read = Callable[[Row, Row, datetime], AsyncIterator[Record | Refused]]

PAGE = 30  # of what has large rows: an answer of more than 1 MB is not kept for the next sync
QUIET = 100  # repositories without news that are asked for runs at a time
TAGS = 10  # without a release; each costs a request for its date
SCOPE = ("owners", "include", "exclude", "topics", "days")  # with others, news are read anew
TROUBLE = 3  # repositories in a row that cannot be read: then it is not the repositories
OF_PEOPLE = {"team", "membership", "organization"}  # who is in and who is not bears no time
OVER = tuple(status for status in RunStatus if status not in (RunStatus.QUEUED, RunStatus.RUNNING))


class GitHub(Connector[Config]):
    slug, label, monogram, category = "github", "GitHub", "Gh", Category.GIT
    brings = (
        "Repositories, owners, catalog files, teams and people, pull requests, releases, workflows, "
        "deployments; starts, repeats and cancels runs"
    )
    if_refused = gettext_noop(
        "Give a token that is valid and may read this, or the App's own key and installation."
    )
    if_elsewhere = gettext_noop(
        "Give the address of the API: https://api.github.com, or https://HOST/api/v3 of your own server."
    )

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        headers = {"X-GitHub-Api-Version": "2022-11-28"} | self.http.bearer(config.token)
        self.api = self.http.at(config.base_url, headers=headers)
        self.host = urlsplit(self.api.address).netloc.removeprefix("api.")
        self.app: App | None = None
        if config.private_key:
            key = config.private_key.get_secret_value()
            self.app = App(self.api, config.app_id, key, config.installation or 0)
            self.api = self.http.at(config.base_url, headers=headers, auth=self.app.sign_in)
        self.kept: dict[int, dict[str, int]] = {}

    # --- lists --------------------------------------------------------------------------------------------

    @resource(of=Team)
    async def teams(self) -> AsyncIterator[Team | Refused]:
        """The organisations' teams with their members."""
        for team, org, at in await self.teams_of(await self.organisations()):
            yield await self.team(team, org, at)

    @resource(of=User)
    async def members(self) -> AsyncIterator[User | Refused]:
        """The organisations' members; their names and public addresses stand on their own pages."""
        seen: set[str] = set()
        for org in await self.organisations():
            async for page in self.api.pages(f"orgs/{org}/members", params={"per_page": 100}):
                for row in page.rows():
                    if row["login"] not in seen:
                        seen.add(row["login"])
                        yield await self.user(row["login"])

    @resource(of=Repository)
    async def repositories(self) -> AsyncIterator[Repository | Expect | Refused]:
        """The selected repositories, with what their files and teams say of them."""
        yield Expect(len(await self.selection()))
        admins = await self.admins(await self.organisations())
        async for record in self.of_each(partial(self.repository, admins=admins)):
            yield record

    @resource(of=Document, label="Catalog files")
    async def documents(self) -> AsyncIterator[Document | Refused]:
        """What the catalog files of the default branches declare."""
        async for record in self.of_each(self.documents_of):
            yield record

    @resource(of=Pipeline, label="Workflows")
    async def workflows(self) -> AsyncIterator[Pipeline | Refused]:
        """The workflows of each repository."""
        async for record in self.listed("actions/workflows", "workflows", reading.workflow):
            yield record

    @resource(of=Environment)
    async def environments(self) -> AsyncIterator[Environment | Refused]:
        """The environments of each repository; those of one name are one entity."""
        async for record in self.listed("environments", "environments", reading.environment):
            yield record

    @resource(of=Run, incremental=True, often=True, scope=SCOPE)
    async def runs(self, since: Row | None) -> AsyncIterator[Run | Mark | Refused]:
        """Runs that are new or moved on, and those that were not over; with the jobs of what failed or runs."""
        async for record in self.news(
            since, "actions/runs", self.run, name="workflow_runs", is_open=_is_open_run, quiet=QUIET
        ):
            yield record

    @resource(of=Change, label="Pull requests", incremental=True, scope=SCOPE)
    async def pulls(self, since: Row | None) -> AsyncIterator[Change | Mark | Refused]:
        """Pull requests that were opened or touched."""

        async def read(repo: Row, row: Row, at: datetime) -> AsyncIterator[Change | Refused]:
            yield reading.change(repo, row)

        asked = {"state": "all", "sort": "updated", "direction": "desc"}
        async for record in self.news(since, "pulls", read, age="updated_at", params=asked):
            yield record

    @resource(of=Version, incremental=True)
    async def versions(self, since: Row | None) -> AsyncIterator[Version | Mark | Refused]:
        """The newest releases, and tags that have none."""
        known = Known(since, names=[str(repo["id"]) for repo in await self.selection()])

        async def read(repo: Row) -> AsyncIterator[Version | Mark | Refused]:
            answer = await self.get(repo, "releases", per_page=PAGE)
            published = {row["tag_name"]: row for row in answer.rows() if not row["draft"]}
            tags = (await self.get(repo, "tags", per_page=100)).rows()
            commits = {tag["name"]: tag["commit"]["sha"] for tag in tags}
            shown = [(name, row["id"], row.get("updated_at")) for name, row in published.items()]
            if known.has(str(repo["id"]), (shown, commits)):
                return
            for name, row in published.items():
                yield reading.release(repo, row, answer.sent_at, commits.get(name, ""))
            for name in [name for name in commits if name not in published][:TAGS]:
                commit = await self.get(repo, f"git/commits/{commits[name]}")
                yield reading.tag(repo, name, commits[name], commit.value("committer", "date"))
            yield known.mark(str(repo["id"]), (shown, commits))

        async for record in self.of_each(read):
            yield record

    @resource(of=Deployment, incremental=True, scope=SCOPE)
    async def deployments(self, since: Row | None) -> AsyncIterator[Deployment | Mark | Refused]:
        """Deployments that are new, and those that were not over, each with its last status."""
        over = {"success", "failure", "error", "inactive"}
        states: dict[int, str] = {}

        async def read(repo: Row, row: Row, at: datetime) -> AsyncIterator[Deployment | Refused]:
            # The newest first; "inactive" says of a later deployment that it came, not how this one ended.
            found = (await self.get(repo, f"deployments/{row['id']}/statuses", per_page=PAGE)).rows()
            status = next((one for one in found if one["state"] != "inactive"), None)
            states[row["id"]] = found[0]["state"] if found else ""
            yield reading.deployment(repo, row, status)

        async for record in self.news(
            since, "deployments", read, is_open=lambda row: states.get(row["id"]) not in over
        ):
            yield record

    # --- deliveries ---------------------------------------------------------------------------------------

    @webhook(
        verify=partial(signed_with_hmac, header="x-hub-signature-256"),
        headers=("x-github-event",),
        id_header="x-github-delivery",
        event_header="x-github-event",
        asking=OF_PEOPLE,
    )
    async def told(self, request: WebhookRequest) -> AsyncIterator[Told]:
        """What a delivery says, in the records of the lists."""
        event, said = request.headers.get("x-github-event", ""), request.json()
        if not isinstance(said, dict):
            raise BadPayload(_("The delivery is no object."))
        handler = getattr(self, f"told_of_{event}", None)
        repo = said.get("repository")
        if handler is None or (event not in OF_PEOPLE and not (repo and self.is_wanted(repo, event))):
            return
        async for item in handler(said, repo, request.received_at):
            if not isinstance(item, Mark | Expect):
                yield item

    async def as_it_is(self, path: str, *, known_by: str = "id") -> tuple[Row | None, datetime]:
        """What GitHub has at a path, and as of when: a delivery that bears no time of its own may come late."""
        answer = await self.api.get(path, accept=(200, 404))
        return (answer.row(known_by) if answer.status == 200 else None), answer.sent_at

    async def told_of_repository(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        if said["action"] == "deleted":
            yield Gone(of=Repository, external_id=str(repo["id"]), as_of=at)
            return
        found, now = await self.as_it_is(f"repos/{repo['full_name']}")
        # GitHub may answer for a moment what was before that which it has just told.
        row = max(found or repo, repo, key=lambda row: row["updated_at"])
        if not self.is_wanted(row):
            yield Gone(of=Repository, external_id=str(row["id"]), as_of=now)
        elif found:
            owner = row["owner"]
            admins = await self.admins([owner["login"]] if owner.get("type") == "Organization" else [])
            yield await anext(self.repository(row, admins=admins, at=now))

    async def told_of_push(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        if said["ref"] != f"refs/heads/{repo['default_branch']}" or said.get("deleted"):
            return
        lists = [one.get(how) or [] for one in said["commits"] for how in ("added", "modified", "removed")]
        paths = {path for some in lists for path in some}
        if self.catalog_files(paths):
            async for document in self.documents_of(repo):
                yield document
        if paths & {*CODEOWNERS} or build_files_of(paths, limit=1) or readme_of(paths):
            async for record in self.told_of_repository({"action": "pushed"}, repo, at):
                yield record

    async def told_of_pull_request(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        yield reading.change(repo, said["pull_request"])

    async def told_of_release(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        row, action = said["release"], said["action"]
        found, now = await self.as_it_is(f"repos/{repo['full_name']}/releases/{row['id']}")
        is_gone = action == "deleted" or (found["draft"] if found else action == "unpublished")
        if is_gone:
            yield Gone(of=Version, external_id=reading.version_id(repo, row["tag_name"]), as_of=now)
        elif found:
            yield reading.release(repo, found, now)

    async def told_of_create(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        if said["ref_type"] == "tag":
            when = repo.get("pushed_at") or at  # before that of its release, which says more
            yield reading.tag(repo, said["ref"], "", when)

    async def told_of_delete(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        if said["ref_type"] == "tag":
            ref = quote(f"tags/{said['ref']}", safe="")
            found, now = await self.as_it_is(f"repos/{repo['full_name']}/git/ref/{ref}", known_by="ref")
            if not found:  # else it was made again since
                yield Gone(of=Version, external_id=reading.version_id(repo, said["ref"]), as_of=now)

    async def told_of_workflow_run(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        if said.get("workflow"):
            yield reading.workflow(repo, said["workflow"], at)
        async for record in self.run(repo, said["workflow_run"], at):
            yield record

    async def told_of_workflow_job(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        """A job that failed is known before its run is over."""
        if said["workflow_job"].get("conclusion") == "failure":
            answer = await self.get(repo, f"actions/runs/{said['workflow_job']['run_id']}")
            async for record in self.run(repo, answer.row("id"), answer.sent_at):
                yield record

    async def told_of_deployment(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        yield reading.deployment(repo, said["deployment"], None)

    async def told_of_deployment_status(self, said: Row, repo: Row, at: datetime) -> AsyncIterator[Told]:
        if said["deployment_status"]["state"] != "inactive":
            yield reading.deployment(repo, said["deployment"], said["deployment_status"])

    async def told_of_team(self, said: Row, repo: Row | None, at: datetime) -> AsyncIterator[Told]:
        if said["action"] == "deleted" or said["team"].get("deleted"):
            yield Gone(of=Team, external_id=str(said["team"]["id"]), as_of=at)
        elif said["action"] in ("created", "edited", "added", "removed"):
            org = said["organization"]["login"]
            found, now = await self.as_it_is(f"orgs/{org}/teams/{quote(said['team']['slug'])}")
            if found:
                yield await self.team(found, org, now)

    told_of_membership = told_of_team

    async def told_of_organization(self, said: Row, repo: Row | None, at: datetime) -> AsyncIterator[Told]:
        if said["action"] in ("member_added", "member_removed"):
            org, user = said["organization"]["login"], said["membership"]["user"]
            path = f"orgs/{org}/memberships/{quote(user['login'], safe='')}"
            found, now = await self.as_it_is(path, known_by="state")
            if found and found["state"] == "active":
                yield await self.user(user["login"])
            else:
                yield Gone(of=User, external_id=str(user["id"]), as_of=now)

    # --- operations ---------------------------------------------------------------------------------------

    @operation(label="Run the workflow", on=Pipeline)
    async def dispatch(self, target: Pipeline, params: DispatchParams) -> OperationResult:
        """Run a workflow that has the trigger `workflow_dispatch`."""
        repo = _place(target)
        ref = params.ref or (await self.api.get(f"repos/{repo}")).value("default_branch", of=str)
        path = f"repos/{repo}/actions/workflows/{quote(target.external_id)}/dispatches"
        await self.do(path, json={"ref": ref, "inputs": params.inputs})
        return OperationResult(
            message=_("GitHub starts %(name)s on %(ref)s.") % {"name": target.name, "ref": ref},
            url=f"https://{self.host}/{repo}/actions",
        )

    @operation(label="Run again", on=Run, statuses=OVER)
    async def rerun(self, target: Run) -> OperationResult:
        """Run all jobs again."""
        return await self.do_to_run(target, "rerun", _("GitHub runs it again."))

    @operation(label="Run the failed jobs again", on=Run, statuses=(RunStatus.FAILED, RunStatus.CANCELLED))
    async def rerun_failed(self, target: Run) -> OperationResult:
        """Run the jobs that failed again, and those that depend on them."""
        return await self.do_to_run(target, "rerun-failed-jobs", _("GitHub runs the failed jobs again."))

    @operation(label="Cancel", on=Run, statuses=(RunStatus.QUEUED, RunStatus.RUNNING))
    async def cancel(self, target: Run) -> OperationResult:
        """Cancel a run."""
        return await self.do_to_run(target, "cancel", _("GitHub cancels the run."))

    async def do_to_run(self, target: Run, what: str, message: str) -> OperationResult:
        await self.do(f"repos/{_place(target)}/actions/runs/{quote(target.external_id)}/{what}")
        return OperationResult(message=message, url=target.url or "")

    async def do(self, path: str, json: Row | None = None) -> None:
        """Ask for something to be done.

        :raises Misconfigured: with GitHub's words, if it cannot be done to this one.
        """
        answer = await self.api.post(path, json=json, accept=(200, 201, 202, 204, 409, 422))
        if answer.status in (409, 422):
            raise Misconfigured(_("GitHub does not do this: %(why)s") % {"why": answer.value("message")})

    # --- health -------------------------------------------------------------------------------------------

    async def checks(self) -> AsyncIterator[Check]:
        """Say as whom we read, until when, what is found, and which permission is missing."""
        if self.app:
            answer = await self.app.api.get("app", headers=self.app.itself())
            shown = {"name": answer.value("slug"), "number": self.app.installation}
            await self.app.sign_in(answer.url, "")
            yield Check(_("Signed in as App %(name)s, installation %(number)d") % shown)
        else:
            answer = await self.api.get("user", accept=(200, 401))
            if answer.status == 401:
                token = self.config.token.get_secret_value() if self.config.token else ""
                yield reading.refused_token(token)
                return
            name, people = answer.value("login", of=str), self.config.people
            for check in reading.token_checks(answer.headers, name, people=people):
                yield check
        chosen = await self.selection()
        yield Check(_("Found %(n)d repositories") % {"n": len(chosen)})
        async for check in self.check_permissions(chosen[0]):
            yield check

    def failed(self, error: SourceError, *, is_first: bool) -> Check:
        said = super().failed(error, is_first=is_first)
        return replace(said, remedy=_(reading.SINGLE_SIGN_ON)) if "SAML" in error.message else said

    async def check_permissions(self, repo: Row) -> AsyncIterator[Check]:
        """Try what each list needs, on one repository; GitHub names what was missing in a header."""
        asked = [(f"repos/{repo['full_name']}/{path}", name) for path, name in reading.PERMISSIONS.items()]
        if self.config.people:
            asked += [(f"orgs/{org}/teams", "members=read") for org in await self.organisations()]
        for path, name in asked:
            answer = await self.api.get(path, params={"per_page": 1}, accept=(200, 403, 404, 409))
            if answer.status in (403, 404):
                yield reading.missing_permission(path, answer, name)

    # --- asking -------------------------------------------------------------------------------------------

    def pages(self, repo: Row, path: str, **params: Any) -> AsyncIterator[Answer]:
        return self.api.pages(f"repos/{repo['full_name']}/{path}", params=params)

    async def get(self, repo: Row, path: str, **params: Any) -> Answer:
        return await self.api.get(f"repos/{repo['full_name']}/{path}", params=params)

    def is_wanted(self, repo: Row, event: str = "") -> bool:
        """Whether a repository is selected. What is told of one itself may be that it is so no longer."""
        config, path, owner = self.config, repo["full_name"], repo["full_name"].partition("/")[0]
        return event == "repository" or (
            (not config.owners or owner.lower() in {name.lower() for name in config.owners})
            and is_chosen(path, config.include, config.exclude)
            and (not config.topics or bool({*config.topics} & {*repo.get("topics", ())}))
            and (config.archived or not repo.get("archived"))
            and (config.forks or not repo.get("fork"))
        )

    @once
    async def selection(self) -> list[Row]:
        """The selected repositories; what is made meanwhile comes last, none is missed."""
        order = {"per_page": 100, "sort": "created", "direction": "asc"}
        if self.app:
            lists: list[tuple[str, str, Row]] = [
                ("installation/repositories", "repositories", {"per_page": 100})
            ]
        elif self.config.owners:
            orgs = await self.organisations()
            lists = [
                (f"{'orgs' if name in orgs else 'users'}/{quote(name)}/repos", "", order)
                for name in self.config.owners
            ]
        else:
            lists = [("user/repos", "", order)]
        found: dict[int, Row] = {}
        for path, name, params in lists:
            async for page in self.api.pages(path, params=params):
                found |= {row["id"]: row for row in page.rows(name) if self.is_wanted(row)}
        if not found:
            raise Misconfigured(_("No repository is selected: nothing that can be read fits the selection."))
        # What a fork has copied, its origin has declared before.
        return sorted(found.values(), key=lambda row: bool(row.get("fork")))

    @once
    async def organisations(self) -> list[str]:
        """The organisations among the owners; without any owner named, those of what is selected."""
        if self.config.owners and not self.app:
            kinds = [(name, await self.api.get(f"users/{quote(name)}")) for name in self.config.owners]
            return [name for name, answer in kinds if answer.value("type") == "Organization"]
        owners = [repo["owner"] for repo in await self.selection()]
        return list(dict.fromkeys(owner["login"] for owner in owners if owner["type"] == "Organization"))

    async def teams_of(self, orgs: list[str]) -> list[tuple[Row, str, datetime]]:
        found = []
        for org in orgs if self.config.people else ():
            async for page in self.api.pages(f"orgs/{org}/teams", params={"per_page": 100}):
                found += [(team, org, page.sent_at) for team in page.rows()]
        return found

    async def admins(self, orgs: list[str]) -> dict[int, list[str]]:
        """The teams that administer each repository, as CODEOWNERS would write them.

        Who administers the fewest comes first: a team that administers everything owns little of it.
        """
        found: dict[int, list[str]] = {}
        reach: Counter[str] = Counter()
        for team, org, _at in await self.teams_of(orgs):
            path = f"orgs/{org}/teams/{quote(team['slug'])}/repos"
            async for page in self.api.pages(path, params={"per_page": 100}):
                for row in page.rows():
                    if (row.get("permissions") or {}).get("admin"):
                        name = f"@{org}/{team['slug']}"
                        found.setdefault(row["id"], []).append(name)
                        reach[name] += 1
        return {id: sorted(names, key=lambda name: (reach[name], name)) for id, names in found.items()}

    async def of_each(self, read: Callable[[Row], AsyncIterator[T]], repos: list[Row] | None = None) -> Any:
        """Read each repository; when the others are through, one that failed is an error."""
        failed: SourceError | None = None
        trouble = 0
        for repo in await self.selection() if repos is None else repos:
            try:
                async for item in read(repo):
                    yield item
                trouble = 0
            except (NotThere, BadPayload, SourceUnavailable) as error:
                failed, trouble = failed or error, trouble + 1
                if trouble >= TROUBLE or getattr(error, "retry_after", None):
                    raise
        if failed:
            raise failed

    async def listed(
        self, path: str, name: str, make: Callable[[Row, Row, datetime], Record | Refused]
    ) -> AsyncIterator[Any]:
        """The records of a whole list of each repository."""

        async def read(repo: Row) -> AsyncIterator[Record | Refused]:
            async for page in self.pages(repo, path, per_page=100):
                for row in page.rows(name):
                    yield make(repo, row, page.sent_at)

        async for record in self.of_each(read):
            yield record

    async def news(
        self,
        since: Row | None,
        path: str,
        read: Read,
        *,
        name: str = "",
        age: str = "created_at",
        is_open: Callable[[Row], bool] = lambda row: False,
        quiet: int | None = None,
        params: Row | None = None,
    ) -> AsyncIterator[Any]:
        """What is new in a list of each repository that begins with the newest, and what was still open.

        The first page has the same address each time, so GitHub can say that nothing has changed.

        :param age: the field that the list is sorted by.
        :param quiet: how many repositories are asked that show no sign of news, those first that waited longest.
        """
        since = since or {"round": 0, "of": {}}
        begin = (datetime.now(UTC) - timedelta(days=self.config.days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        known, turn = dict(since["of"]), since["round"] + 1

        async def of(repo: Row) -> AsyncIterator[Any]:
            key = str(repo["id"])
            before = known.get(key) or {"at": begin, "open": []}
            rows: list[tuple[Row, datetime]] = []
            async for page in self.pages(repo, path, per_page=PAGE, **(params or {})):
                found = page.rows(name)
                rows += [
                    (row, page.sent_at)
                    for row in found
                    if row["updated_at"] >= before["at"] or row["id"] in before["open"]
                ]
                if not found or found[-1][age] < before["at"]:
                    break
            for number in {*before["open"]} - {row["id"] for row, _at in rows}:
                answer = await self.get(repo, f"{path}/{number}")
                rows.append((answer.row("id"), answer.sent_at))
            for row, at in reversed(rows):
                async for record in read(repo, row, at):
                    yield record
            latest = max([before["at"], *(row["updated_at"] for row, _at in rows)])
            still = sorted(row["id"] for row, _at in rows if is_open(row) and row["created_at"] >= begin)
            known[key] = {"at": latest, "open": still, "pushed": repo["pushed_at"], "round": turn}
            if rows and (latest, still) != (before["at"], before["open"]):
                yield Mark({"round": turn, "of": {**known}})

        repos = await self.selection()
        if quiet is not None:
            marks = [known.get(str(repo["id"])) for repo in repos]
            calm = [
                (mark["round"], repo)
                for repo, mark in zip(repos, marks, strict=True)
                if mark and not mark["open"] and mark["pushed"] == repo["pushed_at"]
            ]
            left = sorted(calm, key=lambda item: item[0])[quiet:]
            repos = [repo for repo in repos if repo["id"] not in {repo["id"] for _round, repo in left}]
        async for item in self.of_each(of, repos):
            yield item
        yield Mark({"round": turn, "of": known})

    # --- records that need more than one answer -----------------------------------------------------------

    async def tree(self, repo: Row, sha: str = "", folder: str = "") -> dict[str, int]:
        """The sizes of all plain files by path; of a tree that is too large for one answer, folder by folder."""
        path = f"git/trees/{quote(sha or repo['default_branch'], safe='')}"
        address = f"repos/{repo['full_name']}/{path}"
        answer = await self.api.get(address, params={"recursive": 1}, accept=(200, 409))
        if answer.status == 409:  # a repository without a commit
            return {}
        said = answer.row("tree")
        below = []
        if said.get("truncated"):
            said = (await self.api.get(address)).row("tree")
            below = [
                row for row in said["tree"] if row["type"] == "tree" and not is_foreign(f"{row['path']}/")
            ]
        files = {
            folder + row["path"]: row.get("size", 0)
            for row in said["tree"]
            if row["type"] == "blob" and row["mode"] != "120000"
        }
        for row in below:
            files |= await self.tree(repo, row["sha"], f"{folder}{row['path']}/")
        return files

    def catalog_files(self, paths: Iterable[str]) -> list[str]:
        return catalog_files_of(paths, self.config.catalog_files)

    async def repository(
        self, repo: Row, *, admins: dict[int, list[str]], at: datetime | None = None
    ) -> AsyncIterator[Repository | Refused]:
        at = at or datetime.now(UTC)
        files = await self.tree(repo)
        self.kept[repo["id"]] = {path: files[path] for path in self.catalog_files(files)}
        facts = await facts_of(files, partial(Files(self, repo).read_many, ""), readme=False)
        if not facts["owners"] and (named := admins.get(repo["id"])):
            facts |= {"owners": named, "owners_from": _("Teams with the role Admin")}
        yield record_or_refusal(
            Repository,
            str(repo["id"]),
            as_of=at,
            name=repo["name"],
            path=repo["full_name"],
            url=repo["html_url"],
            description=repo.get("description") or "",
            tags=repo.get("topics") or [],
            default_branch=repo.get("default_branch") or "",
            is_archived=bool(repo.get("archived")),
            is_fork=bool(repo.get("fork")),
            last_activity_at=reading.moment(repo.get("pushed_at")),
            keys=[reading.repo_key(repo)],
            raw=reading.slim(repo),
            **facts,
        )

    async def documents_of(self, repo: Row) -> AsyncIterator[Document | Refused]:
        files = self.kept.pop(repo["id"], None)
        branch = repo["default_branch"]
        async for record in records_of_repository(
            clone=Files(self, repo),
            commit=branch,
            paths=self.catalog_files(await self.tree(repo) if files is None else files),
            repository=repository_id(repo["html_url"]),
            http=self.http,
            page=lambda path: f"{repo['html_url']}/blob/{quote(branch)}/{quote(path)}",
        ):
            yield record

    async def run(self, repo: Row, row: Row, at: datetime) -> AsyncIterator[Run | Refused]:
        jobs: list[Row] = []
        if reading.run_status(row) in (RunStatus.FAILED, RunStatus.RUNNING):
            pages = self.pages(repo, f"actions/runs/{row['id']}/jobs", per_page=PAGE)
            jobs = [job async for page in pages for job in page.rows("jobs")]
        yield reading.run(repo, row, jobs)

    async def team(self, team: Row, org: str, at: datetime) -> Team | Refused:
        path = f"orgs/{org}/teams/{quote(team['slug'])}/members"
        pages = self.api.pages(path, params={"per_page": 100})
        members = [row["login"] async for page in pages for row in page.rows()]
        return reading.team(self.host, org, team, members, at)

    async def user(self, login: str) -> User | Refused:
        answer = await self.api.get(f"users/{quote(login, safe='')}")
        return reading.user(answer.row("login"), answer.sent_at)


class Files:
    """A repository's files as the API gives them, for what reads catalog documents."""

    def __init__(self, github: GitHub, repo: Row) -> None:
        self.github, self.repo = github, repo

    async def read_many(self, ref: str, paths: Iterable[str], limit: int = 1024 * 1024) -> dict[str, bytes]:
        """Those of the files that are there, plain and of at most `limit` bytes."""
        found = {}
        for path in paths:
            answer = await self.github.get(self.repo, f"contents/{quote(path)}")
            said = answer.row("type")
            if said["type"] == "file" and said["encoding"] == "base64" and said["size"] <= limit:
                found[path] = b64decode(said["content"])
        return found


def _is_open_run(row: Row) -> bool:
    return row["status"] != "completed"


def _place(target: Pipeline | Run) -> str:
    """`owner/name` of the repository whose page shows the target."""
    return "/".join(urlsplit(target.url or "").path.split("/")[1:3])
