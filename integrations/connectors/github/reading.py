"""What GitHub's objects say, in the shared vocabulary; the same in lists and in deliveries."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from integrations.contract import Answer, Check, Refused, gettext_noop, keys, record_or_refusal
from integrations.contract import gettext as _
from integrations.records import (
    Change,
    ChangeStatus,
    Deployment,
    DeploymentStatus,
    Environment,
    Pipeline,
    Run,
    RunStatus,
    Team,
    User,
    Version,
)

Row = dict[str, Any]

CONCLUSIONS = {
    "success": RunStatus.PASSED,
    "neutral": RunStatus.PASSED,
    "failure": RunStatus.FAILED,
    "timed_out": RunStatus.FAILED,
    "startup_failure": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
    "stale": RunStatus.CANCELLED,
    "skipped": RunStatus.SKIPPED,
    "action_required": RunStatus.QUEUED,  # a person has to allow it first
}
DEPLOYMENTS = {
    "": DeploymentStatus.QUEUED,
    "queued": DeploymentStatus.QUEUED,
    "pending": DeploymentStatus.QUEUED,
    "waiting": DeploymentStatus.AWAITING_APPROVAL,
    "in_progress": DeploymentStatus.DEPLOYING,
    "success": DeploymentStatus.DEPLOYED,
    "failure": DeploymentStatus.FAILED,
    "error": DeploymentStatus.FAILED,
}
OF_CHANGES = {"pull_request", "pull_request_target", "pull_request_review", "merge_group"}
# What is tried to know whether a list can be read, and the permission that it needs.
PERMISSIONS = {
    "commits": "contents=read",
    "actions/runs": "actions=read",
    "pulls": "pull_requests=read",
    "deployments": "deployments=read",
}
TOKEN = re.compile(r"gh[a-z]_\w{20,}|github_pat_\w{20,}|[0-9a-f]{40}")
VERSION = re.compile(r"v?\d+(\.\d+)+\S*")
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SOON = timedelta(days=14)
SINGLE_SIGN_ON = gettext_noop("Authorize the token for single sign-on of the organisation.")


def repo_key(repo: Row) -> str:
    return f"repo:{repo['html_url']}"


def workflow_key(repo: Row, number: int) -> str:
    """Of the workflow's number, which survives what is renamed."""
    return f"pipeline:{urlsplit(repo['html_url']).netloc}/workflows/{number}"


def moment(value: str | int | None) -> Any:
    """A time as GitHub writes it; in a push it is a number of seconds."""
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int) else value


def slim(value: Any) -> Any:
    """An object without the addresses of everything around it, and without what is a record of its own."""
    if isinstance(value, list):
        return [slim(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        name: slim(inner)
        for name, inner in value.items()
        if name not in {"_links", "repo", "repository", "head_repository", "temp_clone_token"}
        and (name == "html_url" or not name.endswith("_url"))
    }


def login(user: Row | None) -> str:
    return (user or {}).get("login") or ""


def workflow(repo: Row, row: Row, at: datetime) -> Pipeline | Refused:
    return record_or_refusal(
        Pipeline,
        str(row["id"]),
        as_of=at,
        name=f"{repo['name']}: {row['name']}",
        url=row["html_url"],
        keys=[workflow_key(repo, row["id"])],
        about=[repo_key(repo)],
        labels={"file": row["path"]},
        is_active=row["state"] == "active",
        raw=row,
    )


def run_status(row: Row) -> Any:
    """The status of a run, a job or a step; GitHub's own word where it is none of those known."""
    if row["status"] == "completed":
        return CONCLUSIONS.get(row["conclusion"] or "", row["conclusion"])
    return RunStatus.RUNNING if row["status"] == "in_progress" else RunStatus.QUEUED


def run(repo: Row, row: Row, jobs: list[Row]) -> Run | Refused:
    """
    :param jobs: those of the last attempt, where somebody will want to read them.
    """
    status, is_over = run_status(row), row["status"] == "completed"
    branch = row["head_branch"] or ""
    is_change = row["event"] in OF_CHANGES
    failed = next((job["html_url"] for job in jobs if run_status(job) == RunStatus.FAILED), None)
    # GitHub counts seconds: what comes later within one is newer.
    order = 2 if is_over else status == RunStatus.RUNNING
    return record_or_refusal(
        Run,
        str(row["id"]),
        as_of=datetime.fromisoformat(row["updated_at"]) + timedelta(microseconds=order),
        url=row["html_url"],
        about=[workflow_key(repo, row["workflow_id"]), repo_key(repo), f"commit:{row['head_sha']}"],
        title=row.get("display_title") or row.get("name") or "",
        number=str(row["run_number"]),
        status=status,
        queued_at=row["created_at"],
        started_at=None if status == RunStatus.QUEUED else row.get("run_started_at") or row["created_at"],
        finished_at=row["updated_at"] if is_over and status != RunStatus.QUEUED else None,
        branch=branch,
        is_change=is_change,
        is_default_branch=not is_change and branch == repo["default_branch"],
        commit=row["head_sha"],
        actor=login(row.get("triggering_actor") or row.get("actor")),
        steps=[_step(job) for job in jobs],
        log_url=failed or row["html_url"],
        raw=slim(row),
    )


def _step(job: Row) -> Row:
    """A job as a step, named with what failed in it."""
    failed = next((one["name"] for one in job.get("steps") or () if one["conclusion"] == "failure"), "")
    status = run_status(job)
    return {
        "name": f"{job['name']}: {failed}"[:500] if failed else job["name"][:500],
        "status": status,
        "started_at": None if status == RunStatus.QUEUED else job["started_at"],
        "finished_at": job["completed_at"],
        "log_url": job["html_url"],
    }


def change(repo: Row, row: Row) -> Change | Refused:
    merged, commit = row["merged_at"], row.get("merge_commit_sha")
    return record_or_refusal(
        Change,
        str(row["id"]),
        as_of=row["updated_at"],
        url=row["html_url"],
        about=[repo_key(repo), *keys("commit", row["head"]["sha"], commit if merged else "")],
        title=row["title"],
        number=str(row["number"]),
        status=ChangeStatus.MERGED if merged else row["state"],
        is_draft=bool(row.get("draft")),
        source_branch=row["head"]["ref"],
        target_branch=row["base"]["ref"],
        opened_at=row["created_at"],
        closed_at=row["closed_at"],
        actor=login(row["user"]),
        reviewers=[login(user) for user in row.get("requested_reviewers") or () if login(user)],
        raw=slim(row),
    )


def version_id(repo: Row, tag: str) -> str:
    """A release and its tag are one version."""
    return f"{repo['id']}@{tag}"


def release(repo: Row, row: Row, at: datetime, commit: str = "") -> Version | Refused:
    return record_or_refusal(
        Version,
        version_id(repo, row["tag_name"]),
        as_of=at,
        url=row["html_url"],
        about=[repo_key(repo), *keys("commit", commit)],
        title=row["name"] or "",
        version=row["tag_name"],
        released_at=row["published_at"] or row["created_at"],
        commit=commit,
        is_prerelease=row["prerelease"],
        notes=(row.get("body") or "")[:50_000],
        actor=login(row.get("author")),
        raw=slim({name: value for name, value in row.items() if name != "assets"}),  # they count downloads
    )


def tag(repo: Row, name: str, commit: str, at: Any) -> Version | Refused:
    """
    :param at: when its commit was made, or it was pushed.
    """
    return record_or_refusal(
        Version,
        version_id(repo, name),
        as_of=moment(at),
        url=f"{repo['html_url']}/tree/{quote(name)}",
        about=[repo_key(repo), *keys("commit", commit)],
        version=name,
        released_at=moment(at),
        commit=commit,
    )


def deployment(repo: Row, row: Row, status: Row | None) -> Deployment | Refused:
    """
    :param status: its last one that says how it went.
    """
    said = status or {}
    at, word = said.get("created_at") or row["created_at"], said.get("state", "")
    state = DEPLOYMENTS.get(word, word)
    order = [*DEPLOYMENTS].index(word) if word in DEPLOYMENTS else 0  # within a second, as for runs
    is_over = state in (DeploymentStatus.DEPLOYED, DeploymentStatus.FAILED)
    ref = row["ref"] or ""
    return record_or_refusal(
        Deployment,
        str(row["id"]),
        as_of=datetime.fromisoformat(at) + timedelta(microseconds=order),
        url=said.get("log_url") or said.get("target_url") or f"{repo['html_url']}/deployments",
        about=[repo_key(repo), f"commit:{row['sha']}", f"env:{row['environment']}"],
        title=row.get("description") or "",
        status=state,
        environment=row["environment"],
        version=ref if VERSION.fullmatch(ref) else "",
        commit=row["sha"],
        started_at=row["created_at"],
        finished_at=at if is_over else None,
        actor=login(row.get("creator")),
        raw=slim(row),
    )


def environment(repo: Row, row: Row, at: datetime) -> Environment | Refused:
    return record_or_refusal(
        Environment,
        str(row["id"]),
        as_of=at,
        name=row["name"],
        keys=[f"env:{row['name']}"],
        about=[repo_key(repo)],
        raw=slim(row),
    )


def team(host: str, org: str, row: Row, members: list[str], at: datetime) -> Team | Refused:
    return record_or_refusal(
        Team,
        str(row["id"]),
        as_of=at,
        name=row["slug"],
        title=row["name"],
        description=row.get("description") or "",
        url=row.get("html_url"),
        keys=[f"team:{host}/{org}/{row['slug']}"],
        parent=(row.get("parent") or {}).get("slug") or "",
        members=members,
        raw=slim(row),
    )


def user(row: Row, at: datetime) -> User | Refused:
    email = row.get("email") or ""
    email = "" if email.endswith("noreply.github.com") else email  # nobody reads those
    return record_or_refusal(
        User,
        str(row["id"]),
        as_of=at,
        name=row["login"],
        title=row.get("name") or "",
        email=email,
        url=row["html_url"],
        keys=keys("user", email),
        raw=slim(row),
    )


# --- what is wrong with a token ---------------------------------------------------------------------------


def refused_token(token: str) -> Check:
    """Why GitHub may have refused a token; it says no more than 401."""
    if token.startswith(("ghp_", "github_pat_")) and not TOKEN.fullmatch(token):
        detail = _("The token is cut off or mistyped: it is too short, or holds characters that none has.")
        remedy = _("Copy the token again, whole.")
    elif not TOKEN.fullmatch(token):
        detail = _("This is no token of GitHub's: those begin with github_pat_ or ghp_.")
        remedy = _("Copy the token again, whole: GitHub shows it once, when it is made.")
    elif token.startswith("ghp_") and not _is_whole(token):
        detail = _("The token is cut off or mistyped: its last six characters do not fit the others.")
        remedy = _("Copy the token again, whole.")
    else:
        detail = _("The token has expired, was revoked, or is of another GitHub than this one.")
        remedy = _("Make a new one under Settings > Developer settings > Personal access tokens.")
    return Check.failed(_("The token is refused"), detail, remedy)


def _is_whole(token: str) -> bool:
    """Whether the checksum in a classic token is right."""
    body, given = token[4:-6], token[-6:]
    number, right = zlib.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        right = DIGITS[digit] + right
    return given == right.rjust(6, "0")


def token_checks(headers: Any, name: str, *, people: bool) -> Iterator[Check]:
    """What an accepted token is, until when, and which scope a classic one lacks."""
    yield Check(_("Signed in as %(name)s") % {"name": name})
    if until := headers.get("github-authentication-token-expiration"):
        found = re.match(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)", until)
        ends = datetime.fromisoformat(f"{found[1]}T{found[2]}Z") if found else None
        is_soon = ends is not None and ends - datetime.now(UTC) < SOON
        remedy = _("Make a new one in time, and put it in here.") if is_soon else ""
        yield Check(_("The token holds until %(t)s") % {"t": until}, remedy=remedy)
    if "x-oauth-scopes" in headers:
        scopes = {scope.strip() for scope in headers["x-oauth-scopes"].split(",")}
        if "repo" not in scopes:
            remedy = _("For private ones, and to start runs, give the token the scope repo.")
            yield Check(_("Reads public repositories only"), remedy=remedy)
        if people and not scopes & {"read:org", "write:org", "admin:org"}:
            detail = _("The token has the scopes: %(scopes)s.") % {"scopes": ", ".join(sorted(scopes))}
            remedy = _("Give the token the scope read:org, or switch “Teams and members” off.")
            yield Check.failed(_("Cannot read teams and members"), detail, remedy)


def missing_permission(path: str, answer: Answer, needed: str) -> Check:
    """
    :param needed: what is missing where GitHub does not name it.
    """
    shown = {
        "path": path,
        "status": answer.status,
        "words": re.sub(r'[{}"]', "", answer.text())[:200],
        "permission": answer.headers.get("x-accepted-github-permissions") or needed,
    }
    remedy = _("Give the token or the App the permission %(permission)s.") % shown
    if answer.headers.get("x-github-sso"):
        remedy = _(SINGLE_SIGN_ON)
    detail = _("GitHub answers %(status)d: %(words)s") % shown
    return Check.failed(_("Cannot read %(path)s") % shown, detail, remedy)
