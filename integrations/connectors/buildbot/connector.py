"""Buildbot: builders become pipelines, builds become runs; builds can be started and repeated."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from integrations.contract import (
    SELDOM,
    Answer,
    BadPayload,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Days,
    Expect,
    Mark,
    Misconfigured,
    OperationResult,
    Password,
    Refused,
    Token,
    Tools,
    UserName,
    gettext_noop,
    is_chosen,
    keys,
    once,
    operation,
    portions,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import Pipeline, Run, RunStatus

PAGE = 50
RECENT = 3
STATUS = {
    0: RunStatus.PASSED,
    1: RunStatus.UNSTABLE,
    2: RunStatus.FAILED,
    3: RunStatus.SKIPPED,
    4: RunStatus.FAILED,  # an exception of Buildbot's own
    5: RunStatus.CANCELLED,  # the worker was lost; the build that repeats it is one of its own
    6: RunStatus.CANCELLED,
}
# Logs cost a request each, so they are looked up where somebody will want to read them, most wanted first.
OVER = tuple(dict.fromkeys(STATUS.values()))
WITH_LOG = [RunStatus.FAILED, RunStatus.RUNNING, RunStatus.UNSTABLE, RunStatus.CANCELLED]
PROPERTIES = ["branch", "revision", "repository", "got_revision", "owner", "owners", "event", "target_branch"]
CHANGE_BRANCH = re.compile(r"refs/(pull|pull-requests|merge-requests|changes|for)/")

Row = dict[str, Any]


class Config(ConnectionConfig):
    """Where the Buildbot master is, how to sign in to it, and what to read."""

    base_url: HttpUrl = Field(
        title="Address",
        description="Address of the master's web interface: what stands before “#/” in the browser.",
    )
    username: UserName = ""
    password: Password = None
    token: Token = Field(
        None, description="Bearer token for a proxy before the master, instead of user name and password."
    )
    builders: list[str] = Field(
        [],
        title="Builders",
        description="Names or patterns, such as payments-*; ** crosses slashes. Leave empty for all.",
    )
    projects: list[str] = Field(
        [],
        title="Projects",
        description="Patterns of Buildbot projects whose builders are read. Leave empty for all.",
    )
    days: Days = 14
    default_branches: list[str] = Field(
        default=["main", "master", "trunk"],
        title="Default branches",
        description="Branches that speak for a repository's state; builds without a branch are of these.",
        json_schema_extra=SELDOM,
    )


class ForceParams(BaseModel):
    """What to build."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    branch: str = Field("", max_length=500, description="Leave empty for the default branch.")
    revision: str = Field("", max_length=500, description="A commit; leave empty for the newest.")
    reason: str = Field("", max_length=500, description="Shown with the build.")


class Buildbot(Connector[Config]):
    slug, label, monogram, category = "buildbot", "Buildbot", "Bb", Category.CI
    brings = "Builders as pipelines, builds as runs with their steps and logs; starts and repeats builds"
    if_refused = gettext_noop(
        "Give user name and password of somebody who may see builders, or the token of the proxy."
    )
    if_elsewhere = gettext_noop(
        "Give the address of the web interface: what stands before “#/” in the browser."
    )

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        headers = self.http.basic(config.username, config.password) or self.http.bearer(config.token)
        self.entrance = self.http.at(config.base_url, headers=headers)
        self.cookie: dict[str, str] | None = None
        self.api = self.http.at(
            config.base_url, headers=headers, auth=self.sign_in if config.username else None
        )

    # --- resources ----------------------------------------------------------------------------------------

    @resource(of=Pipeline)
    async def builders(self) -> AsyncIterator[Pipeline | Expect | Refused]:
        """Every selected builder, tied to the repositories of its latest builds."""
        chosen = list((await self.selection()).values())
        yield Expect(len(chosen))
        for some in portions(chosen, PAGE):
            answers = await asyncio.gather(*(self.latest_builds(builder) for builder in some))
            builds = [build for answer in answers for build in answer.rows("builds")]
            _requests, buildsets = await self.context_of(builds)
            for builder, answer in zip(some, answers, strict=True):
                stamps = [stamp for build in answer.rows("builds") for stamp in _stamps(build, buildsets)]
                yield record_or_refusal(
                    Pipeline,
                    str(builder["builderid"]),
                    as_of=answer.sent_at,
                    url=f"{self.api.address}/#/builders/{builder['builderid']}",
                    keys=[self.pipeline_key(builder["builderid"])],
                    about=keys("repo", *(stamp.get("repository") for stamp in stamps)),
                    name=builder["name"],
                    description=builder.get("description") or "",
                    tags=builder.get("tags") or [],
                    labels={"project": builder["project"]} if builder["project"] else {},
                    is_active=bool(builder.get("masterids")),
                    raw=builder,
                )

    @resource(of=Run, incremental=True, often=True, scope=("builders", "projects", "days"))
    async def builds(self, since: Row | None) -> AsyncIterator[Run | Mark | Refused]:
        """Builds since the last one that was read, and again those that still ran then."""
        chosen = await self.selection()
        latest = await self.api.get("api/v2/builds", params={"order": "-buildid", "limit": 1})
        newest = latest.rows("builds")
        if since and newest and newest[0]["buildid"] < since["after"]:
            since = None  # the master's database is a new one
        after, running = (since["after"], list(since["running"])) if since else (0, [])
        begin = datetime.now(UTC) - timedelta(days=self.config.days)
        new = {} if since else {"started_at__ge": int(begin.timestamp())}
        for ids in portions(running, PAGE):
            answer = await self.api.get("api/v2/builds", params={"buildid": ids, "property": PROPERTIES})
            rows = answer.rows("builds")
            for run in await self.runs(rows, chosen, answer.sent_at):
                yield run
            running = sorted(
                set(running) - set(ids) | {row["buildid"] for row in rows if not row["complete"]}
            )
            yield Mark({"after": after, "running": running})
        async for answer in self.pages("builds", "buildid", after=after, property=PROPERTIES, **new):
            rows = answer.rows("builds")
            if not rows:
                break
            for run in await self.runs(rows, chosen, answer.sent_at):
                yield run
            after = rows[-1]["buildid"]
            running += [row["buildid"] for row in rows if not row["complete"] and row["builderid"] in chosen]
            yield Mark({"after": after, "running": running})

    # --- operations ---------------------------------------------------------------------------------------

    @operation(label="Start a build", on=Pipeline)
    async def force(self, target: Pipeline, params: ForceParams) -> OperationResult:
        """Start a build through the first enabled force scheduler of the builder."""
        answer = await self.api.get(f"api/v2/builders/{quote(target.external_id)}/forceschedulers")
        schedulers = [row for row in answer.rows("forceschedulers") if row["enabled"]]
        if not schedulers:
            raise Misconfigured(
                _("%(name)s has no force scheduler that is on. Add one to the master's configuration: "
                  'schedulers.ForceScheduler(name="force", builderNames=["%(name)s"]).')
                % {"name": target.name}
            )  # fmt: skip
        scheduler = schedulers[0]
        fields = list(_leaves(scheduler["all_fields"]))
        given: Row = {"builderid": int(target.external_id)}
        for name, value in params.model_dump(exclude_defaults=True).items():
            matching = [
                field["fullName"] for field in fields if field["name"] == name and field["type"] != "fixed"
            ]
            if len(matching) != 1:
                raise Misconfigured(
                    _("The force scheduler %(scheduler)s asks for “%(field)s” %(count)d times, not once. "
                      "Leave it empty, or start the build in Buildbot: %(url)s")
                    % {"scheduler": scheduler["name"], "field": name, "count": len(matching),
                       "url": target.url}
                )  # fmt: skip
            given[matching[0]] = value
        return await self.call(f"api/v2/forceschedulers/{quote(scheduler['name'])}", "force", given)

    @operation(label="Build again", on=Run, statuses=OVER)
    async def rebuild(self, target: Run) -> OperationResult:
        """Repeat a build with the same sources and properties."""
        return await self.call(f"api/v2/builds/{quote(target.external_id)}", "rebuild", {})

    async def call(self, path: str, method: str, params: Row) -> OperationResult:
        """Have the master do something that makes build requests, and say which."""
        answer = await self.api.post(
            path, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, accept=(200, 400)
        )
        said = answer.row()
        if answer.status == 400:
            message = said.get("error", {}).get("message", "")
            why = "; ".join(f"{k}: {v}" for k, v in message.items()) if isinstance(message, dict) else message
            raise Misconfigured(_("Buildbot does not accept this: %(why)s") % {"why": why})
        requests = list(said["result"][1].values()) if said.get("result") else []
        if not requests:
            raise BadPayload(
                _("Buildbot answered without the request that it made; look there for the build.")
            )
        return OperationResult(
            message=_("Buildbot has queued the build."),
            url=f"{self.api.address}/#/buildrequests/{requests[0]}",
        )

    # --- health -------------------------------------------------------------------------------------------

    async def checks(self) -> AsyncIterator[Check]:
        """Say which Buildbot answers, as whom we read, and which builders can be read and started."""
        chosen = await self.selection()
        schedulers = (await self.api.get("api/v2/forceschedulers")).rows("forceschedulers")
        about = await self.api.get("config", accept=(200, 403, 404))
        told = about.row() if "json" in about.headers.get("content-type", "") else {}
        version = dict(told.get("versions") or []).get("Buildbot", "")
        yield Check(_("Reached Buildbot %(version)s") % {"version": version})
        user = told.get("user") or {}
        if name := user.get("username") or user.get("email"):
            yield Check(_("Signed in as %(name)s") % {"name": name})
        elif self.config.username and self.cookie:
            yield Check.failed(
                _("Not signed in"),
                _("The master took the password, and still reads as nobody."),
                _("Check that the proxy before the master passes cookies on."),
            )
        else:
            yield Check(_("Reads without signing in"))
        if chosen:
            yield Check(_("Can read %(count)d builders") % {"count": len(chosen)})
        else:
            remedy = _("Correct “Builders” and “Projects”, or give the user the right to see builders.")
            yield Check.failed(_("No builder is selected"), remedy=remedy)
        startable = {name for row in schedulers if row["enabled"] for name in row["builder_names"]}
        count = sum(builder["name"] in startable for builder in chosen.values())
        remedy = _("To start the others, add their names to a ForceScheduler in the master's configuration.")
        label = _("%(count)d of them can be started from here") % {"count": count}
        yield Check(label, remedy="" if count == len(chosen) else remedy)

    # --- asking -------------------------------------------------------------------------------------------

    async def sign_in(self, url: str, challenge: str) -> Mapping[str, str]:
        """Buildbot's own sign-in: user and password once, then its cookie. A proxy's is the header alone."""
        if self.cookie is None or challenge:
            answer = await self.entrance.get("auth/login", accept=(200, 302, 303, 307, 404, 501))
            found = re.findall(r"(TWISTED_SESSION\w*=[^;,\s]+)", answer.headers.get("set-cookie", ""))
            self.cookie = {"Cookie": found[-1]} if found else {}
        return self.cookie

    async def pages(self, path: str, key: str, *, after: int = 0, **filters: Any) -> AsyncIterator[Answer]:
        """All pages of a list in the order of its ids: what is added meanwhile comes last, none is missed."""
        while True:
            asked = {**filters, "order": key, f"{key}__gt": after, "limit": PAGE}
            answer = await self.api.get(
                f"api/v2/{path}", params=asked, headers={"Accept": "application/json"}
            )
            rows = answer.rows(path)
            yield answer
            if len(rows) < PAGE:
                return
            if rows[-1][key] <= after:
                raise BadPayload(_("%(url)s answers the same page again and again.") % {"url": answer.url})
            after = rows[-1][key]

    @once
    async def selection(self) -> dict[int, Row]:
        """The selected builders by id, each with the name of its project."""
        builders = [
            row async for page in self.pages("builders", "builderid") for row in page.rows("builders")
        ]
        projects: dict[int | None, str] = {}
        if any(row.get("projectid") for row in builders):
            async for page in self.pages("projects", "projectid"):
                projects |= {row["projectid"]: row["name"] for row in page.rows("projects")}
        named = [{**row, "project": projects.get(row.get("projectid"), "")} for row in builders]
        return {
            row["builderid"]: row
            for row in named
            if is_chosen(row["name"], self.config.builders)
            and is_chosen(row["project"], self.config.projects)
        }

    async def latest_builds(self, builder: Row) -> Answer:
        return await self.api.get(
            f"api/v2/builders/{builder['builderid']}/builds",
            params={"order": "-number", "limit": RECENT, "property": PROPERTIES},
        )

    async def context_of(self, builds: list[Row]) -> tuple[dict[int, Row], dict[int, Row]]:
        """The requests of builds by id, and by the same id the build sets, which hold the source stamps."""
        requests: dict[int, Row] = {}
        buildsets: dict[int, Row] = {}
        for ids in portions(
            sorted({row["buildrequestid"] for row in builds if row.get("buildrequestid")}), PAGE
        ):
            answer = await self.api.get("api/v2/buildrequests", params={"buildrequestid": ids})
            requests |= {row["buildrequestid"]: row for row in answer.rows("buildrequests")}
        for ids in portions(sorted({row["buildsetid"] for row in requests.values()}), PAGE):
            answer = await self.api.get("api/v2/buildsets", params={"bsid": ids})
            buildsets |= {row["bsid"]: row for row in answer.rows("buildsets")}
        return requests, {
            brid: buildsets[row["buildsetid"]]
            for brid, row in requests.items()
            if row["buildsetid"] in buildsets
        }

    # --- records ------------------------------------------------------------------------------------------

    async def runs(self, builds: list[Row], chosen: dict[int, Row], as_of: datetime) -> list[Run | Refused]:
        """The selected ones of these builds, each with its request, sources, steps and logs."""
        builds = [build for build in builds if build["builderid"] in chosen]
        requests, buildsets = await self.context_of(builds)
        steps = await asyncio.gather(*(self.steps(build) for build in builds))
        return [
            self.run(build, chosen[build["builderid"]], requests.get(build["buildrequestid"], {}),
                     _stamps(build, buildsets), some, as_of)
            for build, some in zip(builds, steps, strict=True)
        ]  # fmt: skip

    async def steps(self, build: Row) -> list[Row]:
        """The visible steps of a build, with a link to the log where something went wrong or still runs."""
        answer = await self.api.get(f"api/v2/builds/{build['buildid']}/steps")
        rows = [row for row in answer.rows("steps") if not row.get("hidden")]
        steps = [
            {
                "name": row["name"],
                "status": _status(row) if row.get("started_at") else RunStatus.QUEUED,
                "started_at": _time(row.get("started_at")),
                "finished_at": _time(row.get("complete_at")),
            }
            for row in rows
        ]
        for row, step in zip(rows, steps, strict=True):
            if step["status"] in WITH_LOG:
                found = await self.api.get(f"api/v2/steps/{row['stepid']}/logs")
                slugs = [log["slug"] for log in found.rows("logs")]
                if slugs:
                    slug = "stdio" if "stdio" in slugs else slugs[0]
                    step["log_url"] = f"{self.build_url(build)}/steps/{row['number']}/logs/{slug}"
        return steps

    def run(
        self, build: Row, builder: Row, request: Row, stamps: list[Row], steps: list[Row], as_of: datetime
    ) -> Run | Refused:
        stamp: Row = next((row for row in stamps if row.get("repository")), stamps[0] if stamps else {})
        branch = (stamp.get("branch") or _property(build, "branch") or "").removeprefix("refs/heads/")
        is_change = bool(
            any(row.get("patch") for row in stamps)
            or _property(build, "target_branch")
            or re.search(r"pull|merge", str(_property(build, "event") or ""), re.IGNORECASE)
            or CHANGE_BRANCH.match(branch)
        )
        owners = _property(build, "owners") or [_property(build, "owner")]
        actor, email = parseaddr(next((str(owner) for owner in owners if owner), ""))
        logs = {step["status"]: step["log_url"] for step in reversed(steps) if "log_url" in step}
        url = self.build_url(build)
        return record_or_refusal(
            Run,
            str(build["buildid"]),
            as_of=as_of,
            url=url,
            about=[
                self.pipeline_key(build["builderid"]),
                *keys("repo", *(row.get("repository") for row in stamps)),
                *keys("commit", *(_revision(build, row) for row in stamps)),
            ],
            title=f"{builder['name']} #{build['number']}",
            number=str(build["number"]),
            status=_status(build),
            queued_at=_time(request.get("submitted_at")),
            started_at=_time(build["started_at"]),
            finished_at=_time(build["complete_at"]),
            branch=branch,
            is_default_branch=not is_change and (not branch or branch in self.config.default_branches),
            is_change=is_change,
            commit=_revision(build, stamp),
            actor=actor or email,
            actor_email=email if "@" in email else "",
            steps=steps,
            log_url=next((logs[status] for status in WITH_LOG if status in logs), url),
            raw={**build, "sourcestamps": stamps},
        )

    def pipeline_key(self, builder: int) -> str:
        return f"pipeline:{self.api.address.partition('://')[2]}/builders/{builder}"

    def build_url(self, build: Row) -> str:
        return f"{self.api.address}/#/builders/{build['builderid']}/builds/{build['number']}"


def _status(row: Row) -> RunStatus:
    return STATUS.get(row["results"], RunStatus.FAILED) if row["complete"] else RunStatus.RUNNING


def _time(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _property(build: Row, name: str) -> Any:
    return ((build.get("properties") or {}).get(name) or [None])[0]


def _stamps(build: Row, buildsets: dict[int, Row]) -> list[Row]:
    """The sources of a build by codebase; from its properties where its request was cleaned away."""
    stamps = buildsets.get(build["buildrequestid"], {}).get("sourcestamps") or []
    return sorted(stamps, key=lambda stamp: stamp["codebase"]) or [
        {name: _property(build, name) or "" for name in ("branch", "revision", "repository")}
    ]


def _revision(build: Row, stamp: Row) -> str:
    """What was checked out, else what was asked for."""
    got = _property(build, "got_revision")
    if isinstance(got, dict):
        got = got.get(stamp.get("codebase", ""))
    return str(got or stamp.get("revision") or "")


def _leaves(fields: list[Row]) -> Iterator[Row]:
    for field in fields:
        if "fields" in field:
            yield from _leaves(field["fields"])
        else:
            yield field
