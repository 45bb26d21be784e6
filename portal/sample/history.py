"""Three months of the sample company: what was committed, built, published, deployed, and what broke.

All of it follows from `company.yaml` and the moment that is called now: the same moment, the same records.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from portal.sample.company import (
    ALERTS,
    CI,
    DEPLOY,
    GIT,
    REGISTRY,
    Company,
    Component,
    Person,
    Row,
    dice,
    sha,
)

DAYS = 90
PREVIEWS = 24  # more than the guard lets go
ENVIRONMENTS = {"development": "Development", "staging": "Staging", "production": "Production"}
_MESSAGES = (
    "Rework {topic}", "Test {topic} against recorded answers", "Log less about {topic}", "Measure {topic}",
    "Speed up {topic}", "Document {topic}", "Tidy up {topic}", "Fix a race in {topic}", "Simplify {topic}",
    "Move {topic} behind a flag", "Remove the flag around {topic}", "Make {topic} configurable",
    "Alert on {topic}", "Fix {topic} after midnight UTC", "Cover {topic} with property tests",
    "Bring back {topic} for old clients", "Explain {topic} in the errors", "Handle {topic} when the answer is empty",
)  # fmt: skip
_CHORES = (
    "Update dependencies", "Update the base image", "Mend a flaky test", "Raise the memory limit",
    "Use the new build cache", "Pin the linter", "Drop what nobody calls",
)  # fmt: skip
_SECONDS = {
    "Kotlin": 260,
    "Java": 330,
    "Go": 120,
    "TypeScript": 190,
    "Python": 140,
    "Rust": 300,
    "Swift": 940,
    "SQL": 210,
}
_MEGABYTES = {"Kotlin": 212, "Java": 246, "Go": 38, "TypeScript": 142, "Python": 187, "Rust": 21, "SQL": 240}
_STEPS = (("Check out", 0.05), ("Build", 0.4), ("Test", 0.45), ("Publish", 0.1))
_RATES = {"service": 0.42, "website": 0.42, "job": 0.4, "mobile-app": 0.12, "data-pipeline": 0.25}
_FAULTS = (
    ("p99 latency above 800 ms", "warning"), ("Error rate above 2 % for 10 minutes", "critical"),
    ("Pods restart again and again", "warning"), ("Volume 85 % full", "warning"),
    ("Certificate ends in 7 days", "info"), ("Queue older than 5 minutes", "warning"),
)  # fmt: skip


@dataclass
class _Repository:
    """What the components of one repository share."""

    changes: int
    head: str = ""
    last_at: datetime | None = None
    committers: Counter[str] = field(default_factory=Counter)


@dataclass
class History:
    """Everything that each tool tells, as records: `git`, `ci`, `registry`, `deploys` and `alerts`.

    And `registry.next`, what the registry tells when it is asked again: suddenly much less.
    """

    company: Company
    now: datetime
    rows: dict[str, list[Row]] = field(default_factory=dict)
    _repositories: dict[str, _Repository] = field(default_factory=dict)

    def write(self) -> dict[str, list[Row]]:
        """Make all records, by tool."""
        self.rows = {tool: [] for tool in ("git", "ci", "registry", "deploys", "alerts")}
        activity: dict[str, list[Row]] = {tool: [] for tool in self.rows}
        for component in self.company.components:
            for tool, row in _Life(component, self).rows():
                activity[tool].append(row)
        for tool, row in self._incidents():
            activity[tool].append(row)
        self.rows["git"] += self._git_entities()
        self.rows["ci"] += self._pipelines()
        self.rows["registry"] += self._artifacts(activity["registry"])
        self.rows["deploys"] += [_environment(name, title) for name, title in ENVIRONMENTS.items()]
        for tool, found in activity.items():
            self.rows[tool] += sorted(found, key=_moment)
        previews = list(self._previews())
        return {
            **self.rows,
            "registry": [*previews, *self.rows["registry"]],
            "registry.next": self.rows["registry"],
        }

    def repository(self, path: str) -> _Repository:
        """The shared state of a repository."""
        if path not in self._repositories:
            self._repositories[path] = _Repository(changes=dice("changes", path).randint(80, 900))
        return self._repositories[path]

    # --- what exists --------------------------------------------------------------------------------------

    def _git_entities(self) -> Iterator[Row]:
        for row in self.company.repositories():
            state = self._repositories.get(row["path"])
            at = state.last_at if state else None
            if at is None:
                age = 700 if row.get("is_archived") else dice("age", row["path"]).randint(12, 200)
                at = self.now - timedelta(days=age)
            committers = state.committers.most_common(5) if state else []
            yield {
                **row,
                "head": (state and state.head) or sha("head", row["path"]),
                "last_activity_at": _text(at),
                "top_committers": [name for name, _count in committers],
            }
        yield from self.company.documents()

    def _pipelines(self) -> Iterator[Row]:
        for component in self.company.components:
            yield {
                "type": "pipeline",
                "external_id": _pipeline(component),
                "name": component.name if component.folder else component.path,
                "url": f"https://{CI}/{_pipeline(component)}",
                "trigger": "push",
                "keys": [f"pipeline:{CI}/{_pipeline(component)}"],
                "about": [component.repo_key],
                **({"is_active": False} if component.lifecycle == "deprecated" else {}),
            }
        # The CI has an opinion of its own on who looks after this one.
        path = next(c.path for c in self.company.components if c.name == "customer-profile")
        yield {
            "type": "repository",
            "external_id": f"projects/{path}",
            "name": path.rpartition("/")[2],
            "path": path,
            "owners": ["@acme/platform"],
            "keys": [f"repo:{GIT}/{path}"],
        }

    def _artifacts(self, versions: list[Row]) -> Iterator[Row]:
        newest = {row["about"][0]: row for row in sorted(versions, key=_moment)}
        said = {
            component.artifact_key: [component.repo_key]
            for component in self.company.components
            if component.artifact_key
        }
        bases = {
            f"image:{REGISTRY}/{row['image']}": [f"repo:{GIT}/{row['path']}"]
            for row in self.company.said["repositories"]
            if "image" in row
        }
        shared = {
            f"image:{REGISTRY}/shared/{name}": [f"repo:{GIT}/{path}" for path in paths]
            for name, paths in self.company.said["shared_images"].items()
        }
        unknown: dict[str, list[str]] = {f"image:{REGISTRY}/payments/checkout-legacy": []}
        for key, about in (said | bases | shared | unknown).items():
            scheme, _colon, name = key.partition(":")
            short = name.removeprefix(f"{REGISTRY}/")
            last = newest.get(key)
            yield {
                "type": "artifact",
                "external_id": short,
                "artifact_type": "image" if scheme == "image" else "package",
                "ecosystem": "oci" if scheme == "image" else scheme,
                "name": short,
                "url": f"https://{REGISTRY}/{short}",
                "keys": [key],
                "about": about,
                **({"latest_version": last["version"], "latest_at": last["released_at"]} if last else {}),
            }

    def _previews(self) -> Iterator[Row]:
        """Images of changes that were tried out once, and belong to nothing."""
        websites = [component for component in self.company.components if component.type == "website"]
        for number in range(PREVIEWS):
            name = f"previews/{websites[number % len(websites)].name}-{dice('preview', number).randint(100, 999)}"
            yield {
                "type": "artifact",
                "external_id": name,
                "artifact_type": "image",
                "ecosystem": "oci",
                "name": name,
                "url": f"https://{REGISTRY}/{name}",
                "keys": [f"image:{REGISTRY}/{name}"],
            }

    # --- what people remember -----------------------------------------------------------------------------

    def _incidents(self) -> Iterator[tuple[str, Row]]:
        by_name = {component.name: component for component in self.company.components}
        for number, said in enumerate(reversed(self.company.said["incidents"]), start=118):
            component = by_name[said["component"]]
            start = self.now - timedelta(days=said["days"])
            yield (
                "alerts",
                {
                    "type": "incident",
                    "external_id": f"INC-{number}",
                    "title": said["title"],
                    "status": "resolved",
                    "severity": said["severity"],
                    "started_at": _text(start),
                    "ended_at": _text(start + timedelta(hours=said["hours"])),
                    "actor": self.company.team(component.team)[0].login,
                    "url": f"https://{ALERTS}/incidents/INC-{number}",
                    "about": [component.service_key],
                },
            )
        for said in self.company.said["alerts"]:
            component = by_name[said["component"]]
            start = self.now - timedelta(hours=said["hours"])
            yield (
                "alerts",
                _alert(component, said["title"], said["severity"], said.get("state", "firing"), start, None),
            )


class _Life:
    """One component's three months, commit by commit."""

    def __init__(self, component: Component, history: History) -> None:
        self.component = component
        self.history = history
        self.company = history.company
        self.now = history.now
        self.repository = history.repository(component.path)
        self.chance = dice("life", component.name, component.path)
        self.team = self.company.team(component.team)
        self.number = self.chance.randint(120, 2_400)
        self.deployments = self.chance.randint(40, 900)
        self.had_failed = False
        self.released: list[str] = []
        major = 0 if component.lifecycle == "experimental" else self.chance.randint(1, 4)
        self.version = [major, self.chance.randint(2, 40), self.chance.randint(0, 6)]

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Records with the tool that tells them, roughly in order."""
        moments = self._moments()
        for at in moments:
            # Only what `company.yaml` names is broken now.
            status = "passed" if at in (moments[0], moments[-1]) else ""
            yield from self._work(at, status=status, ships=at == moments[0])
        yield from self._present()
        yield from self._open_changes()
        yield from self._past_alerts()

    def _moments(self) -> list[datetime]:
        """When commits came: on working days, in the daytime."""
        found = []
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        for ago in range(DAYS, -1, -1):
            day = midnight - timedelta(days=ago)
            expected = self.component.pace / 6 * (1 if day.weekday() < 5 else 0.06)
            while self.chance.random() < expected / (1 + expected):
                at = day + timedelta(hours=self.chance.triangular(7, 18.5, 11))
                if at < self.now - timedelta(hours=4):
                    found.append(at)
        return sorted(found)

    # --- one commit and what follows ----------------------------------------------------------------------

    def _work(self, at: datetime, *, status: str = "", ships: bool = False) -> Iterator[tuple[str, Row]]:
        author = self._author()
        title = self._message()
        if status not in ("running", "queued") and self.chance.random() < 0.6:
            yield from self._change(at, author, title)
            title = f"{title} (#{self.repository.changes})"
        commit = sha("commit", self.component.path, self.component.name, at.isoformat())
        yield "git", self._commit(at, author, title, commit)
        status = status or self._fate()
        start = min(at + timedelta(seconds=self.chance.randint(8, 160)), self.now - timedelta(seconds=5))
        run = self._run(start, author, commit, status)
        yield "ci", run
        ships = self.chance.random() < _RATES.get(self.component.type, 0.2) or ships
        if ships and status in ("passed", "unstable"):
            end = datetime.fromisoformat(run["finished_at"])
            if end < self.now - timedelta(hours=3):
                yield from self._release(end, author, commit)

    def _fate(self) -> str:
        """How a run ends; what failed is usually mended by the next."""
        weights = (96, 3, 1, 0) if self.had_failed else (88, 8, 2, 2)
        (status,) = self.chance.choices(("passed", "failed", "unstable", "cancelled"), weights)
        self.had_failed = status == "failed"
        return status

    def _author(self) -> Person:
        if self.chance.random() < 0.08:
            return self.chance.choice(self.company.people)
        return self.chance.choices(self.team, [3, 4, 4, 3, 2, 2][: len(self.team)])[0]

    def _message(self) -> str:
        if self.chance.random() < 0.14:
            return self.chance.choice(_CHORES)
        return self.chance.choice(_MESSAGES).format(topic=self.chance.choice(self.component.topics))

    def _commit(self, at: datetime, author: Person, title: str, commit: str) -> Row:
        state = self.repository
        state.committers[f"{author.name} <{author.email}>"] += 1
        if state.last_at is None or at > state.last_at:
            state.last_at, state.head = at, commit
        path = self.component.path
        return {
            "type": "commit",
            "external_id": f"{GIT}/{path}@{commit}",
            "as_of": _text(at),
            "sha": commit,
            "committed_at": _text(at),
            "title": title,
            "actor": author.name,
            "actor_email": author.email,
            "branch": "main",
            "is_default_branch": True,
            "url": f"https://{GIT}/{path}/commit/{commit}",
            "about": [f"repo:{GIT}/{path}", f"commit:{commit}"],
        }

    def _change(self, merged_at: datetime, author: Person, title: str) -> Iterator[tuple[str, Row]]:
        opened_at = merged_at - timedelta(hours=self.chance.triangular(0.5, 70, 5))
        number = self._next_change()
        yield "git", self._change_row(number, title, author, opened_at, "merged", merged_at)
        start = opened_at + timedelta(seconds=self.chance.randint(20, 200))
        if start < merged_at - timedelta(minutes=20):
            (status,) = self.chance.choices(("passed", "failed", "cancelled"), (82, 14, 4))
            branch = title.lower().replace(" ", "-")[:40]
            commit = sha("branch", self.component.path, number)
            yield "ci", self._run(start, author, commit, status, branch=branch, title=title)

    def _next_change(self) -> int:
        self.repository.changes += self.chance.choice((1, 1, 1, 2))
        return self.repository.changes

    def _change_row(
        self,
        number: int,
        title: str,
        author: Person,
        opened_at: datetime,
        status: str,
        closed_at: datetime | None,
    ) -> Row:
        reviewers = self.chance.sample(self.team, k=min(len(self.team), self.chance.choice((1, 1, 2))))
        path = self.component.path
        return {
            "type": "change",
            "external_id": f"{GIT}/{path}#{number}",
            "as_of": _text(closed_at or opened_at),
            "number": str(number),
            "title": title,
            "status": status,
            "actor": author.name,
            "actor_email": author.email,
            "source_branch": title.lower().replace(" ", "-")[:40],
            "target_branch": "main",
            "opened_at": _text(opened_at),
            "reviewers": [person.name for person in reviewers if person != author],
            "url": f"https://{GIT}/{path}/pulls/{number}",
            "about": [f"repo:{GIT}/{path}"],
            **({"closed_at": _text(closed_at)} if closed_at else {}),
        }

    def _run(
        self,
        start: datetime,
        author: Person,
        commit: str,
        status: str,
        *,
        branch: str = "main",
        title: str = "",
    ) -> Row:
        self.number += 1
        seconds = _SECONDS.get(self.component.language, 150) * self.chance.uniform(0.8, 1.35)
        if status in ("failed", "cancelled"):
            seconds *= self.chance.uniform(0.3, 0.9)
        pipeline, path = _pipeline(self.component), self.component.path
        row: Row = {
            "type": "run",
            "external_id": f"{pipeline}/{self.number}",
            "number": str(self.number),
            "title": title or self.component.name,
            "status": status,
            "actor": author.name,
            "actor_email": author.email,
            "queued_at": _text(start - timedelta(seconds=4)),
            "branch": branch,
            "is_default_branch": branch == "main",
            "commit": commit,
            "url": f"https://{CI}/{pipeline}/{self.number}",
            "log_url": f"https://{CI}/{pipeline}/{self.number}/log",
            "about": [f"pipeline:{CI}/{pipeline}", f"repo:{GIT}/{path}", f"commit:{commit}"],
        }
        if branch != "main":
            row["is_change"] = True
        if status != "queued":
            row["started_at"] = _text(start)
        if status not in ("queued", "running"):
            row["finished_at"] = _text(start + timedelta(seconds=seconds))
        if status != "queued" and start > self.now - timedelta(days=14):
            row["steps"] = list(_steps(start, seconds, status, self.now))
        return row

    # --- releases -----------------------------------------------------------------------------------------

    def _release(
        self, at: datetime, author: Person, commit: str, *, deploys: bool = True
    ) -> Iterator[tuple[str, Row]]:
        level = (
            self.chance.choices((0, 1, 2), (2, 34, 64))[0] if self.version[0] else self.chance.choice((1, 2))
        )
        self.version = [*self.version[:level], self.version[level] + 1, *[0] * (2 - level)]
        version = ".".join(map(str, self.version))
        at += timedelta(seconds=self.chance.randint(20, 90))
        before = self.released[-1] if self.released else ""
        self.released.append(version)
        yield self._version(at, version, commit)
        if deploys and self.component.is_deployed:
            yield from self._roll_out(at, version, before, author, commit)

    def _version(self, at: datetime, version: str, commit: str) -> tuple[str, Row]:
        component = self.component
        key = component.artifact_key
        row: Row = {
            "type": "version",
            "version": version,
            "released_at": _text(at),
            "commit": commit,
            "is_prerelease": version.startswith("0."),
        }
        if not key:
            about = [f"repo:{GIT}/{component.path}", f"commit:{commit}"]
            url = f"https://{GIT}/{component.path}/releases/v{version}"
            return "git", {
                **row, "external_id": f"{GIT}/{component.path}@v{version}", "version": f"v{version}", "url": url,
                "about": about, "notes": f"{self._message()}.\n{self._message()}.",
            }  # fmt: skip
        name = key.partition(":")[2].removeprefix(f"{REGISTRY}/")
        row |= {
            "external_id": f"{name}:{version}",
            "url": f"https://{REGISTRY}/{name}/{version}",
            "about": [key, f"commit:{commit}"],
        }
        if not key.startswith("image:"):
            return "registry", {**row, "size": self.chance.randint(18_000, 420_000)}
        megabytes = _MEGABYTES.get(component.language, 90) * self.chance.uniform(0.97, 1.06)
        digest = "sha256:" + hashlib.sha256(f"{name}:{version}".encode()).hexdigest()
        return "registry", {
            **row,
            "about": [*row["about"], f"image-digest:{digest}"],
            "digest": digest,
            "size": int(megabytes * 1_000_000),
            "platforms": ["linux/amd64", "linux/arm64"],
            "aliases": [".".join(version.split(".")[:2])],
            "labels": {
                "org.opencontainers.image.source": f"https://{GIT}/{component.path}",
                "org.opencontainers.image.revision": commit,
            },
        }

    def _roll_out(
        self, at: datetime, version: str, before: str, author: Person, commit: str
    ) -> Iterator[tuple[str, Row]]:
        """The way of a version through the environments."""
        at += timedelta(minutes=self.chance.uniform(1, 4))
        yield self._deployment(at, "development", version, commit, "deployed", "deploy-bot")
        at += timedelta(minutes=self.chance.uniform(4, 30))
        status = "failed" if self.chance.random() < 0.05 else "deployed"
        yield self._deployment(at, "staging", version, commit, status, "deploy-bot")
        if status == "failed" or self.chance.random() < 0.15:
            return
        at = _in_the_daytime(at + timedelta(hours=self.chance.uniform(0.5, 27)))
        if at > self.now - timedelta(hours=1):
            return
        if before and self.chance.random() < 0.05:
            yield self._deployment(at, "production", version, commit, "failed", author.name)
            at += timedelta(minutes=self.chance.uniform(6, 25))
            yield self._deployment(at, "production", before, "", "deployed", author.name, "Back to")
            return
        yield self._deployment(at, "production", version, commit, "deployed", author.name)

    def _deployment(
        self,
        at: datetime,
        environment: str,
        version: str,
        commit: str,
        status: str,
        actor: str,
        words: str = "",
    ) -> tuple[str, Row]:
        self.deployments += 1
        id_ = f"{self.component.name}/{self.deployments}"
        row: Row = {
            "type": "deployment",
            "external_id": id_,
            "title": f"{words} {version}".strip() if words else f"{self.component.name} {version}",
            "status": status,
            "environment": environment,
            "version": version,
            "commit": commit,
            "actor": actor,
            "as_of": _text(at),
            "started_at": _text(at),
            "url": f"https://{DEPLOY}/{id_}",
            "about": [self.component.artifact_key, self.component.service_key],
        }
        if status in ("deployed", "failed"):
            row["finished_at"] = _text(at + timedelta(seconds=self.chance.randint(35, 280)))
        return "deploys", row

    # --- how it stands ------------------------------------------------------------------------------------

    def _present(self) -> Iterator[tuple[str, Row]]:
        """What is going on right now, as `company.yaml` says."""
        component, now = self.component, self.now
        if component.undeployed:
            at = now - timedelta(hours=30)
            commit = sha("undeployed", component.path)
            yield (
                "git",
                self._commit(at - timedelta(minutes=8), self.team[0], "Index prices by market", commit),
            )
            self.version = [self.version[0] + 1, 0, -1]
            yield from self._release(at, self.team[0], commit, deploys=False)
        if component.deploys and self.released:
            version = self.released[-1]
            minutes = {"deploying": 2, "awaiting-approval": 47, "failed": 175}[component.deploys]
            at = now - timedelta(minutes=minutes)
            environment = "staging" if component.deploys == "deploying" else "production"
            author = self._author()
            yield self._deployment(at, environment, version, "", component.deploys, author.name)
            if component.deploys == "failed" and len(self.released) > 1:
                back = at + timedelta(minutes=9)
                yield self._deployment(
                    back, environment, self.released[-2], "", "deployed", author.name, "Back to"
                )
        match component.now:
            case "running":
                yield from self._work(now - timedelta(minutes=3), status="running")
            case "queued":
                yield from self._work(now - timedelta(minutes=1), status="queued")
            case "failed" | "unstable":
                yield from self._work(
                    now - timedelta(minutes=self.chance.randint(25, 150)), status=component.now
                )

    def _open_changes(self) -> Iterator[tuple[str, Row]]:
        for _open in range(self.chance.randint(0, 2) if self.component.pace >= 1 else 0):
            opened_at = self.now - timedelta(hours=self.chance.triangular(2, 200, 20))
            author, title = self._author(), self._message()
            row = self._change_row(self._next_change(), title, author, opened_at, "open", None)
            yield "git", {**row, "is_draft": self.chance.random() < 0.25}

    def _past_alerts(self) -> Iterator[tuple[str, Row]]:
        if not self.component.is_deployed or not self.component.declared:
            return
        for _alerted in range(self.chance.choice((0, 0, 1, 2) if self.component.tier > 1 else (1, 2, 3))):
            title, severity = self.chance.choice(_FAULTS)
            start = self.now - timedelta(days=self.chance.uniform(1, DAYS))
            end = start + timedelta(minutes=self.chance.triangular(4, 400, 25))
            yield "alerts", _alert(self.component, title, severity, "resolved", start, end)


def _pipeline(component: Component) -> str:
    """The id of a component's pipeline at the CI."""
    return f"{component.path}/{component.name}" if component.folder else component.path


def _environment(name: str, title: str) -> Row:
    return {
        "type": "environment",
        "external_id": name,
        "name": name,
        "title": title,
        "stage": name,
        "url": f"https://{DEPLOY}/environments/{name}",
        "keys": [f"env:{DEPLOY}/{name}"],
    }


def _alert(
    component: Component, title: str, severity: str, status: str, start: datetime, end: datetime | None
) -> Row:
    id_ = f"{component.name}/{start:%Y%m%d%H%M}"
    return {
        "type": "alert",
        "external_id": id_,
        "title": title,
        "status": status,
        "severity": severity,
        "started_at": _text(start),
        "url": f"https://{ALERTS}/alerts/{id_}",
        "about": [component.service_key],
        **({"ended_at": _text(end)} if end else {}),
    }


def _steps(start: datetime, seconds: float, status: str, now: datetime) -> Iterator[Row]:
    """The steps of a run, up to the one at which it stands or ended."""
    stops = {"failed": "Test", "cancelled": "Build", "running": "Build"}.get(status, "")
    at = start
    for name, share in _STEPS:
        end = at + timedelta(seconds=seconds * share)
        step: Row = {"name": name, "started_at": _text(at)}
        if name == stops:
            step["status"] = status
            if status != "running":
                step["finished_at"] = _text(end)
            yield step
            return
        is_shaky = status == "unstable" and name == "Test"
        yield {**step, "status": "unstable" if is_shaky else "passed", "finished_at": _text(min(end, now))}
        at = end


def _in_the_daytime(at: datetime) -> datetime:
    """The same, or the next morning of a working day."""
    if at.hour >= 17 or at.weekday() > 4:
        at = (at + timedelta(days=1)).replace(hour=8)
        while at.weekday() > 4:
            at += timedelta(days=1)
    return at.replace(hour=max(at.hour, 8))


def _moment(row: Row) -> str:
    """When a row happened, for the order in its file."""
    names = ("committed_at", "released_at", "started_at", "opened_at", "queued_at")
    return next((row[name] for name in names if name in row), "")


def _text(at: datetime) -> str:
    return at.replace(microsecond=0).isoformat()
