"""How records become claims and activity: one function a record type, nothing of any tool.

The outcome of a mapping is plain data that the catalog takes in; mapping writes nothing itself, so it also serves
previews.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from django.utils.translation import gettext as _

from base.errors import DomainError
from base.text import derive_name
from catalog import identity
from catalog.documents.envelope import DocumentInvalid, validate_document
from catalog.documents.refs import InvalidRef, parse_ref
from catalog.kinds import current_kinds
from catalog.models import Rank
from catalog.services.activity import ActivityIn
from catalog.services.ingest import ClaimIn
from integrations import records as r

OURS = "portico/v1"


class RecordRefused(DomainError):
    """A record that cannot become anything; the others go on.

    :ivar place: where it stands, for people.
    """

    code = "record-refused"
    status = 422

    def __init__(self, message: str, *, place: str = "", **more: Any) -> None:
        super().__init__(message, **more)
        self.place = place


@dataclass(frozen=True, slots=True)
class Context:
    """What a mapping knows besides the record.

    :ivar read_at: when the record was read, for those that carry no time of their own.
    :ivar teams: the refs of the groups that are teams of a tool, by their identity keys.
    """

    connection: str
    connector: str
    namespace: str
    read_at: datetime
    teams: Mapping[str, str] = field(default_factory=dict)


def map_entity(record: r.Record, context: Context) -> ClaimIn:
    """The claim that a record of an entity type makes.

    :raises RecordRefused: when the record is not valid for its kind.
    """
    return _ENTITY[type(record)](record, context)


def map_activity(record: r.ActivityRecord, context: Context) -> ActivityIn:
    """The activity that a record makes."""
    return _ACTIVITY[type(record)](record, context)


# --- entities -------------------------------------------------------------------------------------------------


def _document(record: r.Document, context: Context) -> ClaimIn:
    try:
        valid = validate_document(record.document, current_kinds().set)
    except DocumentInvalid as error:
        place = f"{record.file}, document {record.document_number}"
        if record.line:
            place += f", line {record.line}"
        raise RecordRefused(error.message, place=place, errors=error.errors) from error
    return ClaimIn(
        external_id=record.external_id,
        kind=valid.kind.name.lower(),
        document=_clean(cast("dict[str, Any]", record.document)),
        rank=Rank.YAML,
        as_of=record.as_of or context.read_at,
        namespace=context.namespace,
        keys=tuple(record.keys),
        about=(
            *_with_base(record.about, identity.keys_of_document(record.document)),
            *identity.selectors_of_document(record.document),
        ),
        place={
            "file": record.file,
            "document": record.document_number,
            **({"line": record.line} if record.line else {}),
            **({"commit": record.commit} if record.commit else {}),
            **({"address": record.url} if record.url else {}),
            **({"text": record.text} if record.text else {}),
        },
    )


def _with_base(given: Iterable[str], own: list[str]) -> list[str]:
    """A document's own word on where its source lies counts more than the place where the file was found."""
    return own if any(key.startswith("repo:") for key in own) else [*given, *own]


def _entity(
    record: r.EntityRecord, context: Context, kind: str, spec: dict[str, Any], *, suggested: str = ""
) -> ClaimIn:
    metadata: dict[str, Any] = {}
    if title := record.title or (record.name if record.name != (suggested or record.name) else ""):
        metadata["title"] = title
    if record.description:
        metadata["description"] = record.description
    if record.tags:
        metadata["tags"] = sorted({tag.lower() for tag in record.tags})
    if record.url:
        metadata["links"] = [{"url": record.url, "title": record.name}]
    if record.labels:
        metadata["annotations"] = {f"label/{name}": value for name, value in sorted(record.labels.items())}
    return ClaimIn(
        external_id=record.external_id,
        kind=kind.lower(),
        document={"apiVersion": OURS, "kind": kind, "metadata": metadata, "spec": _filled(spec)},
        rank=Rank.CONNECTION,
        as_of=record.as_of or context.read_at,
        suggested_name=suggested or record.name,
        namespace=context.namespace,
        keys=tuple(record.keys),
        about=tuple(record.about),
        place={"connection": context.connection, **({"address": record.url} if record.url else {})},
    )


def _repository(record: r.Repository, context: Context) -> ClaimIn:
    spec = {
        "path": record.path,
        "defaultBranch": record.default_branch,
        "archived": record.is_archived or None,
        "fork": record.is_fork or None,
        "forkOf": record.fork_of,
        "languages": record.languages,
        "topics": sorted(record.tags),
        # By the day: a busy repository would otherwise have a revision for each commit.
        "lastActivityAt": _day(record.last_activity_at),
        "readmePath": record.readme_path,
        "buildFiles": sorted(record.build_files),
        "owner": owner_ref(record.owners, context.namespace, keys=record.keys, teams=context.teams),
        "ownerFrom": record.owners_from,
        "topCommitters": record.top_committers,
    }
    return _entity(record, context, "Repository", spec, suggested=record.path or record.name)


def _pipeline(record: r.Pipeline, context: Context) -> ClaimIn:
    spec = {"active": None if record.is_active else False, "trigger": record.trigger}
    return _entity(record, context, "Pipeline", spec)


def _artifact(record: r.Artifact, context: Context) -> ClaimIn:
    spec = {
        "type": str(record.artifact_type),
        "ecosystem": record.ecosystem,
        "latestVersion": record.latest_version,
        "latestAt": _iso(record.latest_at),
    }
    return _entity(record, context, "Artifact", spec)


def _environment(record: r.Environment, context: Context) -> ClaimIn:
    return _entity(record, context, "Environment", {"stage": record.stage})


def _cluster(record: r.Cluster, context: Context) -> ClaimIn:
    return _entity(record, context, "Cluster", {"version": record.version})


def _workload(record: r.Workload, context: Context) -> ClaimIn:
    spec = {
        "type": record.workload_type,
        "images": record.images,
        "replicas": record.replicas,
        "readyReplicas": record.ready_replicas,
        "health": str(record.health) if record.health else None,
    }
    return _entity(record, context, "Workload", spec)


def _team(record: r.Team, context: Context) -> ClaimIn:
    claim = _entity(
        record,
        context,
        "Group",
        {
            "type": record.team_type,
            "profile": _filled({"displayName": record.title, "email": record.email}),
            "parent": record.parent,
            "children": [],
            "members": record.members,
        },
    )
    claim.document["apiVersion"] = "backstage.io/v1alpha1"
    claim.document["spec"].setdefault("children", [])
    return claim


def _user(record: r.User, context: Context) -> ClaimIn:
    claim = _entity(
        record,
        context,
        "User",
        {"profile": _filled({"displayName": record.title, "email": record.email}), "memberOf": record.teams},
    )
    claim.document["apiVersion"] = "backstage.io/v1alpha1"
    claim.document["spec"].setdefault("memberOf", [])
    return claim


def owner_ref(owners: list[str], namespace: str, *, keys: Iterable[str], teams: Mapping[str, str]) -> str:
    """The ref that CODEOWNERS' first owner stands for: `@org/team` a group, `@user` and an e-mail a user.

    :param keys: of the repository, whose host has the team.
    :param teams: as `Context` has them. Another organisation's team of that name is not meant.
    """
    for owner in owners:
        name = owner.strip().lstrip("@")
        if not name:
            continue
        if "@" in name:
            return f"user:{namespace}/{derive_name(name.split('@')[0], key=owner)}"
        if "/" in name:
            hosts = {found.split("/")[0] for key in keys if (found := identity.normalise(key))}
            for host in hosts:
                if known := teams.get(f"team:{host.removeprefix('repo:')}/{name}".lower()):
                    return known
            ref = f"group:{namespace}/{derive_name(name.rpartition('/')[2], key=owner)}"
            others = {
                key.split("/")[-2] for key, known in teams.items() if known == ref and key.count("/") > 1
            }
            if others and name.split("/")[0].lower() not in others:
                return f"group:{namespace}/{derive_name(name, key=owner)}"
            return ref
        return f"user:{namespace}/{derive_name(name, key=owner)}"
    return ""


# --- activity -------------------------------------------------------------------------------------------------


def _activity(record: r.ActivityRecord, context: Context, **fields: Any) -> ActivityIn:
    at = record.happened_at() or context.read_at
    data = record.model_dump(mode="json", exclude_defaults=True, exclude=_COLUMNS)
    if record.actor_email:
        data["actor_email"] = record.actor_email
    return ActivityIn(
        type=record.type,
        external_id=record.external_id,
        at=at,
        as_of=record.as_of or context.read_at,
        title=record.title,
        url=record.url or "",
        actor=record.actor,
        about=tuple(_complete(key, context.namespace) for key in record.about),
        data=data,
        raw=cast("dict[str, Any] | None", record.raw),
        **fields,
    )


def _complete(key: str, namespace: str) -> str:
    """A key that names an entity without saying where means the connection's namespace."""
    scheme, _colon, ref = key.partition(":")
    try:
        return f"ref:{parse_ref(ref, default_namespace=namespace)}" if scheme == "ref" else key
    except InvalidRef:
        return key


_COLUMNS = {
    "external_id", "as_of", "url", "keys", "about", "raw", "title", "actor", "actor_email", "status", "number",
    "branch", "is_default_branch", "is_change", "commit", "sha", "version", "environment", "started_at",
    "finished_at",
}  # fmt: skip


def _run(record: r.Run, context: Context) -> ActivityIn:
    done = record.status not in {r.RunStatus.QUEUED, r.RunStatus.RUNNING}
    event = "finished" if done else "started" if record.status == r.RunStatus.RUNNING else "queued"
    steps = []
    if record.queued_at and event != "queued":
        steps.append(("pipelinerun.queued", "queued", record.queued_at))
    if record.started_at and done:
        steps.append(("pipelinerun.started", "running", record.started_at))
    return _activity(
        record,
        context,
        event=f"pipelinerun.{event}",
        status=str(record.status),
        number=record.number,
        branch=record.branch,
        is_default_branch=record.is_default_branch,
        is_change=record.is_change,
        commit=record.commit.lower(),
        started_at=record.started_at,
        finished_at=record.finished_at,
        steps=tuple(steps),
    )


def _commit(record: r.Commit, context: Context) -> ActivityIn:
    return _activity(
        record,
        context,
        event="change.merged",
        commit=record.sha.lower(),
        branch=record.branch,
        is_default_branch=record.is_default_branch,
    )


def _change(record: r.Change, context: Context) -> ActivityIn:
    event = {"open": "updated", "merged": "merged", "closed": "abandoned"}[record.status]
    if event == "updated" and (record.as_of is None or record.as_of <= record.opened_at):
        event = "created"
    steps = () if event == "created" else (("change.created", "open", record.opened_at),)
    return _activity(
        record,
        context,
        event=f"change.{event}",
        status=str(record.status),
        number=record.number,
        branch=record.source_branch,
        is_change=True,
        started_at=record.opened_at,
        finished_at=record.closed_at,
        steps=steps,
    )


def _version(record: r.Version, context: Context) -> ActivityIn:
    return _activity(
        record, context, event="artifact.published", version=record.version, commit=record.commit.lower()
    )


def _deployment(record: r.Deployment, context: Context) -> ActivityIn:
    return _activity(
        record,
        context,
        event="service.deployed",
        status=str(record.status),
        environment=record.environment,
        version=record.version,
        commit=record.commit.lower(),
        started_at=record.started_at,
        finished_at=record.finished_at,
    )


def _alert(record: r.Alert, context: Context) -> ActivityIn:
    resolved = record.status == r.AlertStatus.RESOLVED
    steps = (("incident.detected", "firing", record.started_at),) if resolved else ()
    return _activity(
        record,
        context,
        event="incident.resolved" if resolved else "incident.detected",
        status=str(record.status),
        started_at=record.started_at,
        finished_at=record.ended_at,
        steps=steps,
    )


def _issue(record: r.Issue, context: Context) -> ActivityIn:
    closed = record.status == r.IssueStatus.CLOSED
    steps = (("ticket.created", "open", record.opened_at),) if closed else ()
    return _activity(
        record,
        context,
        event="ticket.closed" if closed else "ticket.created",
        status=str(record.status),
        number=record.number,
        started_at=record.opened_at,
        finished_at=record.closed_at,
        steps=steps,
    )


def _check(record: r.Check, context: Context) -> ActivityIn:
    return _activity(record, context, event="testsuiterun.finished", status=str(record.status))


_ENTITY: dict[type[r.Record], Callable[[Any, Context], ClaimIn]] = {
    r.Document: _document,
    r.Repository: _repository,
    r.Pipeline: _pipeline,
    r.Artifact: _artifact,
    r.Environment: _environment,
    r.Cluster: _cluster,
    r.Workload: _workload,
    r.Team: _team,
    r.User: _user,
}
_ACTIVITY: dict[type[r.Record], Callable[[Any, Context], ActivityIn]] = {
    r.Run: _run,
    r.Commit: _commit,
    r.Change: _change,
    r.Version: _version,
    r.Deployment: _deployment,
    r.Alert: _alert,
    r.Incident: _alert,
    r.Issue: _issue,
    r.Check: _check,
}


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """Without what the tool said nothing of."""
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}


def _clean(document: dict[str, Any]) -> dict[str, Any]:
    """A declared document without what only a catalog may say."""
    metadata = {k: v for k, v in (document.get("metadata") or {}).items() if k not in {"uid", "etag"}}
    return {**{k: v for k, v in document.items() if k not in {"relations", "status"}}, "metadata": metadata}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _day(moment: datetime | None) -> str | None:
    return moment.date().isoformat() if moment else None


def describe(claim: ClaimIn) -> str:
    """A claim in a few words, for previews."""
    return claim.declared_ref() or _("%(kind)s from %(name)s") % {
        "kind": claim.kind,
        "name": claim.suggested_name,
    }
