"""The shared vocabulary: what a connector says, in words that belong to no tool.

A record is *typed* and *tool-neutral*. It carries two lists of identity keys:

``keys``
    what the record **is**. Two records of the same kind that share one of these are one thing.
``about``
    what the record **speaks of**. Such a key never merges anything; it ties the record's entity to the
    entity that *is* that key, or makes it the subject of an activity. A key that names a place inside a
    repository ends in ``#path/of/folder``.

A key is ``scheme:value``; `catalog.identity` has the schemes and the functions that normalise web
addresses, clone addresses, image names and package names, so connectors may pass either form here.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

Short = Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Key = Annotated[str, StringConstraints(min_length=3, max_length=1000, pattern=r"^[a-z][a-z0-9-]*:.+$")]
Text = Annotated[str, StringConstraints(max_length=200_000)]


class Record(BaseModel):
    """What every record carries.

    :ivar external_id: the tool's own stable id; never a display name, which gets renamed.
    :ivar as_of: the tool's version or update time of this fact. Left empty, the sync uses the time at which
        its request was sent. An older fact never overwrites a newer one.
    :ivar url: the thing's page in the tool.
    :ivar raw: the tool's own payload, kept for "raw" views; shown to editors only.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    type: ClassVar[str]
    makes: ClassVar[str]  # "entity" or "activity"

    external_id: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    as_of: AwareDatetime | None = None
    url: Annotated[str, StringConstraints(max_length=2000)] | None = None
    keys: list[Key] = Field(default_factory=list, max_length=50)
    about: list[Key] = Field(default_factory=list, max_length=200)
    raw: dict[str, JsonValue] | None = Field(default=None, repr=False)


class EntityRecord(Record):
    """A record that becomes a claim on an entity."""

    makes = "entity"

    name: Name
    title: Short = ""
    description: Annotated[str, StringConstraints(max_length=10_000)] = ""
    labels: dict[str, str] = Field(default_factory=dict, max_length=200)
    tags: list[str] = Field(default_factory=list, max_length=200)


class Document(Record):
    """A Backstage YAML document as it stands in a file; its own envelope says what entity it declares."""

    type = "document"
    makes = "entity"

    document: dict[str, JsonValue]
    file: Short
    document_number: int = Field(1, ge=1)
    line: int | None = Field(None, ge=1)
    commit: Short = ""


class Repository(EntityRecord):
    """A source repository. Its key is `repo:<host>/<path>`."""

    type = "repository"

    path: Short = ""
    default_branch: Short = ""
    head: Short = ""
    is_archived: bool = False
    is_fork: bool = False
    fork_of: Short = ""
    languages: dict[str, int] = Field(default_factory=dict, description="Bytes or files by language.")
    last_activity_at: AwareDatetime | None = None
    readme: Text = ""
    readme_path: Short = ""
    owners: list[Short] = Field(
        default_factory=list,
        description="Owners of the whole repository, as CODEOWNERS writes them (@org/team, @user, an e-mail).",
    )
    owners_from: Short = Field("", description="Where the owners stand, such as `.github/CODEOWNERS:12`.")
    build_files: list[Short] = Field(
        default_factory=list,
        max_length=500,
        description="Paths of build manifests: pom.xml, services/a/go.mod.",
    )
    top_committers: list[Short] = Field(default_factory=list, max_length=10)


class Environment(EntityRecord):
    """A place where things run: production, staging."""

    type = "environment"

    stage: Short = ""


class Cluster(EntityRecord):
    """A cluster, the place of workloads."""

    type = "cluster"

    version: Short = ""


class Pipeline(EntityRecord):
    """Something that runs: a CI job, a workflow, a builder."""

    type = "pipeline"

    is_active: bool = True
    trigger: Short = ""


class ArtifactType(StrEnum):
    IMAGE = "image"
    PACKAGE = "package"


class Artifact(EntityRecord):
    """A container image or a package: the thing that has versions."""

    type = "artifact"

    artifact_type: ArtifactType
    ecosystem: Short = Field("", description="oci, npm, pypi, maven, ...")
    latest_version: Short = ""
    latest_at: AwareDatetime | None = None


class Workload(EntityRecord):
    """Something that runs in a cluster: a deployment, a stateful set."""

    type = "workload"

    images: list[Short] = Field(default_factory=list)
    replicas: int | None = None
    ready_replicas: int | None = None


class Team(EntityRecord):
    """A group of people. Becomes a Group."""

    type = "team"

    team_type: Short = "team"
    email: Short = ""
    parent: Short = Field("", description="The name or key of the team above.")
    members: list[Short] = Field(default_factory=list, max_length=5_000)


class User(EntityRecord):
    """A person."""

    type = "user"

    email: Short = ""
    teams: list[Short] = Field(default_factory=list, max_length=1_000)


class ActivityRecord(Record):
    """A record that becomes an activity: something that happened to what it is `about`.

    The first key of `about` that an entity *is* makes that entity the subject.
    """

    makes = "activity"

    title: Annotated[str, StringConstraints(max_length=1_000)] = ""
    actor: Short = Field("", description="The person or robot that did it: a name or a login.")
    actor_email: Short = ""

    def happened_at(self) -> datetime | None:
        """When it happened, for the timeline's order."""
        return self.as_of


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"
    UNSTABLE = "unstable"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class Step(BaseModel):
    """One step of a run."""

    model_config = ConfigDict(extra="forbid")

    name: Short
    status: RunStatus
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    log_url: Annotated[str, StringConstraints(max_length=2000)] | None = None


class Run(ActivityRecord):
    """One run of a pipeline."""

    type = "run"

    status: RunStatus
    number: Short = ""
    queued_at: AwareDatetime | None = None
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    branch: Short = ""
    is_default_branch: bool | None = None
    is_change: bool = Field(False, description="The run tests a change (a pull or merge request).")
    commit: Short = ""
    log_url: Annotated[str, StringConstraints(max_length=2000)] | None = None
    steps: list[Step] = Field(default_factory=list, max_length=500)

    def happened_at(self) -> datetime | None:
        return self.finished_at or self.started_at or self.queued_at or self.as_of


class Commit(ActivityRecord):
    """One commit on a branch that is watched."""

    type = "commit"

    sha: Short
    committed_at: AwareDatetime
    branch: Short = ""
    is_default_branch: bool | None = None

    def happened_at(self) -> datetime | None:
        return self.committed_at


class ChangeStatus(StrEnum):
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class Change(ActivityRecord):
    """A pull or merge request."""

    type = "change"

    status: ChangeStatus
    number: Short = ""
    is_draft: bool = False
    source_branch: Short = ""
    target_branch: Short = ""
    opened_at: AwareDatetime
    closed_at: AwareDatetime | None = None
    reviewers: list[Short] = Field(default_factory=list, max_length=100)

    def happened_at(self) -> datetime | None:
        return self.closed_at or self.as_of or self.opened_at


class Version(ActivityRecord):
    """A version of an artifact or a repository: a tag, a release, an image digest."""

    type = "version"

    version: Name
    released_at: AwareDatetime | None = None
    digest: Short = ""
    commit: Short = ""
    is_prerelease: bool = False
    is_deprecated: bool = False
    size: int | None = Field(None, ge=0, description="Bytes, all layers or files.")
    platforms: list[Short] = Field(default_factory=list, max_length=100)
    aliases: list[Short] = Field(
        default_factory=list, max_length=500, description="Other tags of the same digest."
    )
    labels: dict[str, str] = Field(default_factory=dict, max_length=200)
    notes: Annotated[str, StringConstraints(max_length=50_000)] = ""

    def happened_at(self) -> datetime | None:
        return self.released_at or self.as_of


class DeploymentStatus(StrEnum):
    QUEUED = "queued"
    AWAITING_APPROVAL = "awaiting-approval"
    DEPLOYING = "deploying"
    DEPLOYED = "deployed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Deployment(ActivityRecord):
    """A version brought to an environment."""

    type = "deployment"

    status: DeploymentStatus
    environment: Name
    version: Short = ""
    digest: Short = ""
    commit: Short = ""
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None

    def happened_at(self) -> datetime | None:
        return self.finished_at or self.started_at or self.as_of


class AlertStatus(StrEnum):
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    RESOLVED = "resolved"


class Alert(ActivityRecord):
    """A monitor that speaks up."""

    type = "alert"

    status: AlertStatus
    severity: Short = ""
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None

    def happened_at(self) -> datetime | None:
        return self.ended_at or self.started_at


class Incident(Alert):
    """An incident that people work on."""

    type = "incident"


class IssueStatus(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Issue(ActivityRecord):
    """An issue in a tracker."""

    type = "issue"

    status: IssueStatus
    number: Short = ""
    opened_at: AwareDatetime
    closed_at: AwareDatetime | None = None

    def happened_at(self) -> datetime | None:
        return self.closed_at or self.as_of or self.opened_at


class CheckStatus(StrEnum):
    PASSES = "passes"
    WARNS = "warns"
    FAILS = "fails"


class Check(ActivityRecord):
    """The outcome of a quality or security check."""

    type = "check"

    status: CheckStatus
    name: Name
    checked_at: AwareDatetime

    def happened_at(self) -> datetime | None:
        return self.checked_at


RECORD_TYPES: dict[str, type[Record]] = {
    model.type: model
    for model in (
        Document, Repository, Environment, Cluster, Pipeline, Artifact, Workload, Team, User,
        Run, Commit, Change, Version, Deployment, Alert, Incident, Issue, Check,
    )
}  # fmt: skip


def record_digest_fields(record: Record) -> dict[str, Any]:
    """The record as plain JSON, in a stable order, without what is not part of the fact."""
    return record.model_dump(mode="json", exclude_defaults=True)
