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

import math
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import orjson
from django.utils.translation import gettext as _
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from base.limits import MAX_DEPTH, readable_size
from catalog.statuses import (
    AlertStatus,
    ChangeStatus,
    CheckStatus,
    DeploymentStatus,
    IssueStatus,
    RunStatus,
)

MAX_BYTES = 2_000  # of what is looked up by an index, whose rows hold little more
MAX_RAW = 512 * 1024
MAX_NUMBER = 2**53  # beyond, JSON's readers do not agree


def _indexed(text: str) -> str:
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(_("At most %(limit)d bytes of UTF-8.") % {"limit": MAX_BYTES})
    return text


def _in_calendar(moment: datetime) -> datetime:
    """Far from the ends of the calendar, where clocks of other zones and what adds days would fall off."""
    if not 1900 <= moment.year <= 2200:
        raise ValueError(_("A time between the years 1900 and 2200."))
    return moment.astimezone(UTC)


_RELATIVE = re.compile(
    r"@([+-])(?=\d)(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?"
)


def _absolute(value: Any, info: ValidationInfo) -> Any:
    """A time such as `@-3d2h` counts from when the record was written, where whoever reads it says when that was."""
    written_at: datetime | None = (info.context or {}).get("written_at")
    found = _RELATIVE.fullmatch(value) if written_at and isinstance(value, str) else None
    if not found or not written_at:
        return value
    sign, *counts = found.groups(default="0")
    weeks, days, hours, minutes, seconds = map(int, counts)
    span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        return written_at - span if sign == "-" else written_at + span
    except OverflowError:  # no calendar goes so far
        return value


Short = Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Key = Annotated[
    str,
    StringConstraints(min_length=3, max_length=1000, pattern=r"^[a-z][a-z0-9-]*:.+$"),
    AfterValidator(_indexed),
]
Text = Annotated[str, StringConstraints(max_length=200_000)]
Words = Annotated[str, StringConstraints(max_length=20_000)]
Number = Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Moment = Annotated[AwareDatetime, BeforeValidator(_absolute), AfterValidator(_in_calendar)]


def _storable(value: Any, depth: int = 0) -> Any:
    """Plain data as the database can hold it: a mark for NUL; what is too deep or too large is refused."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise ValueError(_("Nested more than %(limit)d levels deep.") % {"limit": MAX_DEPTH})
        if isinstance(value, list):
            return [_storable(inner, depth + 1) for inner in value]
        return {_storable(key): _storable(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(_("A number that is none."))
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(_("A number of more than 64 bits."))
    return value


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

    external_id: Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_indexed)]
    as_of: Moment | None = None
    url: Annotated[str, StringConstraints(max_length=2000)] | None = None
    keys: list[Key] = Field(default_factory=list, max_length=50)
    about: list[Key] = Field(default_factory=list, max_length=200)
    raw: dict[str, JsonValue] | None = Field(default=None, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _make_storable(cls, data: Any) -> Any:
        return _storable(data) if isinstance(data, dict) else data

    @field_validator("raw", mode="after")
    @classmethod
    def _keep_small(cls, raw: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        size = len(orjson.dumps(raw))
        if size <= MAX_RAW:
            return raw
        shown = {"size": readable_size(size), "limit": readable_size(MAX_RAW)}
        return {"left out": _("It has %(size)s; up to %(limit)s are kept.") % shown}


class EntityRecord(Record):
    """A record that becomes a claim on an entity."""

    makes = "entity"

    name: Name
    title: Short = ""
    description: Annotated[str, StringConstraints(max_length=10_000)] = ""
    labels: dict[Short, Words] = Field(default_factory=dict, max_length=200)
    tags: list[Short] = Field(default_factory=list, max_length=200)


class Document(Record):
    """A Backstage YAML document as it stands in a file; its own envelope says what entity it declares.

    :ivar text: its very words, with the marker that ends it: what a patch of the file is made from.
    """

    type = "document"
    makes = "entity"

    document: dict[str, JsonValue]
    file: Short
    document_number: int = Field(1, ge=1)
    line: int | None = Field(None, ge=1)
    commit: Short = ""
    text: Text = ""


class Repository(EntityRecord):
    """A source repository. Its key is `repo:<host>/<path>`."""

    type = "repository"

    path: Short = ""
    default_branch: Short = ""
    head: Short = ""
    is_archived: bool = False
    is_fork: bool = False
    fork_of: Short = ""
    languages: dict[Short, Number] = Field(
        default_factory=dict, max_length=500, description="Bytes or files by language."
    )
    last_activity_at: Moment | None = None
    readme: Text = ""
    readme_path: Short = ""
    docs: dict[Short, Text] = Field(
        default_factory=dict,
        max_length=300,
        description="Markdown pages by path, and the mkdocs.yml that order them.",
    )
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
    latest_at: Moment | None = None


class WorkloadHealth(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    MAINTENANCE = "maintenance"


class Workload(EntityRecord):
    """Something that runs in a cluster: a deployment, a stateful set."""

    type = "workload"

    workload_type: Short = Field("", description="deployment, stateful-set, ...")
    images: list[Short] = Field(
        default_factory=list,
        max_length=500,
        description="What runs, with tag and digest: `registry.acme.example/acme/pay:1.4@sha256:...`.",
    )
    replicas: Number | None = None
    ready_replicas: Number | None = None
    health: WorkloadHealth | None = None


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


class Step(BaseModel):
    """One step of a run."""

    model_config = ConfigDict(extra="forbid")

    name: Short
    status: RunStatus
    started_at: Moment | None = None
    finished_at: Moment | None = None
    log_url: Annotated[str, StringConstraints(max_length=2000)] | None = None


class Run(ActivityRecord):
    """One run of a pipeline."""

    type = "run"

    status: RunStatus
    number: Short = ""
    queued_at: Moment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
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
    committed_at: Moment
    branch: Short = ""
    is_default_branch: bool | None = None

    def happened_at(self) -> datetime | None:
        return self.committed_at


class Change(ActivityRecord):
    """A pull or merge request."""

    type = "change"

    status: ChangeStatus
    number: Short = ""
    is_draft: bool = False
    source_branch: Short = ""
    target_branch: Short = ""
    opened_at: Moment
    closed_at: Moment | None = None
    reviewers: list[Short] = Field(default_factory=list, max_length=100)

    def happened_at(self) -> datetime | None:
        return self.closed_at or self.as_of or self.opened_at


class Version(ActivityRecord):
    """A version of an artifact or a repository: a tag, a release, an image digest."""

    type = "version"

    version: Name
    released_at: Moment | None = None
    digest: Short = ""
    commit: Short = ""
    is_prerelease: bool = False
    is_deprecated: bool = False
    size: int | None = Field(None, ge=0, le=MAX_NUMBER, description="Bytes, all layers or files.")
    platforms: list[Short] = Field(default_factory=list, max_length=100)
    aliases: list[Short] = Field(
        default_factory=list, max_length=500, description="Other tags of the same digest."
    )
    labels: dict[Short, Words] = Field(default_factory=dict, max_length=200)
    notes: Annotated[str, StringConstraints(max_length=50_000)] = ""

    def happened_at(self) -> datetime | None:
        return self.released_at or self.as_of


class Deployment(ActivityRecord):
    """A version brought to an environment."""

    type = "deployment"

    status: DeploymentStatus
    environment: Name
    version: Short = ""
    digest: Short = ""
    commit: Short = ""
    started_at: Moment | None = None
    finished_at: Moment | None = None

    def happened_at(self) -> datetime | None:
        return self.finished_at or self.started_at or self.as_of


class Alert(ActivityRecord):
    """A monitor that speaks up."""

    type = "alert"

    status: AlertStatus
    severity: Short = ""
    started_at: Moment
    ended_at: Moment | None = None

    def happened_at(self) -> datetime | None:
        return self.ended_at or self.started_at


class Incident(Alert):
    """An incident that people work on."""

    type = "incident"


class Issue(ActivityRecord):
    """An issue in a tracker."""

    type = "issue"

    status: IssueStatus
    number: Short = ""
    opened_at: Moment
    closed_at: Moment | None = None

    def happened_at(self) -> datetime | None:
        return self.closed_at or self.as_of or self.opened_at


class Check(ActivityRecord):
    """The outcome of a quality or security check."""

    type = "check"

    status: CheckStatus
    name: Name
    checked_at: Moment

    def happened_at(self) -> datetime | None:
        return self.checked_at


RECORD_TYPES: dict[str, type[Record]] = {
    model.type: model
    for model in (
        Document, Repository, Environment, Cluster, Pipeline, Artifact, Workload, Team, User,
        Run, Commit, Change, Version, Deployment, Alert, Incident, Issue, Check,
    )
}  # fmt: skip
ENTITIES = tuple(model for model in RECORD_TYPES.values() if model.makes == "entity")
ACTIVITY = tuple(model for model in RECORD_TYPES.values() if model.makes == "activity")


def record_digest_fields(record: Record) -> dict[str, Any]:
    """The record as plain JSON, in a stable order, without what is not part of the fact."""
    return record.model_dump(mode="json", exclude_defaults=True)
