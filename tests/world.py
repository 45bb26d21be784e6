"""A small company in two namespaces, for tests of what is shown to whom.

All that lies in the namespace `default` has the word `hush` in its name, title or text, and nothing that lies in
`elsewhere` has it: a viewer of `elsewhere` alone who reads the word was shown too much.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from catalog.models import Activity, Entity, Rank, Tie
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.ingest import mark_stale
from catalog.services.render import render_dirty
from integrations.models import (
    CatalogLocation,
    Connection,
    RecordOutcome,
    ResourceRun,
    ResourceState,
    RunState,
    SeenPage,
    StoredRecord,
    SyncRun,
)
from tests.catalog.saying import claim, later, say, source

WORD = "hush"
DOCUMENT = "hush.yaml#component:default/hush-doc"
REFUSED = "other.yaml#component:default/hush-bad"
REPO, BUILD, TEST = "repo:h.example/shared", "pipeline:ci.example/1", "pipeline:ci.example/2"


def _activity(kind: str, id: str, about: str, **more: Any) -> ActivityIn:
    at = timezone.now() - timedelta(hours=1)
    return ActivityIn(type=kind, external_id=id, at=at, as_of=at, about=(about,), **more)


@pytest.fixture
def world(core_pack: None) -> dict[str, Any]:
    """The company; what its parameters in addresses are called, and ids that addresses hold."""
    tool = {"rank": Rank.CONNECTION}
    say(
        "yaml:a",
        claim("group:hush-team", {"type": "team", "children": [], "profile": {"displayName": "Hush team"}}),
        claim("group:elsewhere/crew", {"type": "team", "children": []}),
        claim("system:hush-shop", {"owner": "hush-team"}),
        claim(
            "component:hush-pay",
            {"type": "service", "lifecycle": "production", "owner": "hush-team", "system": "hush-shop"}
            | {"dependsOn": ["component:elsewhere/there", "component:nowhere/gone-hush"]},
            metadata={
                "title": "Hush pay",
                "description": "hush, velvet",
                "tags": ["hush"],
                "labels": {"hush": "hush"},
            },
            about=(REPO,),
        ),
        claim(
            "component:elsewhere/there",
            {
                "type": "service",
                "lifecycle": "production",
                "owner": "crew",
                "dependsOn": ["component:missing"],
            },
            metadata={"tags": ["java"]},
            about=(REPO,),
        ),
        claim("component:elsewhere/second", {"type": "library", "owner": "crew"}),
        render=False,
    )
    say(
        "connection:hush-git/repositories",
        claim("repository:hush-repo", {"path": "hush/repo"}, id="1", keys=(REPO,), **tool),
        claim("repository:hush-twin", {"path": "hush/twin"}, id="2", keys=("repo:h.example/twin",), **tool),
        render=False,
    )
    say(
        "connection:there-ci/builders",
        claim("pipeline:elsewhere/test", {"trigger": "push"}, id="1", keys=(TEST,), about=(REPO,), **tool),
        claim("repository:elsewhere/twin", {}, id="2", keys=("repo:h.example/other",), **tool),
        render=False,
    )
    # Its address changes to one that another has: both are told that it is not clear which is which.
    say(
        "connection:there-ci/builders",
        claim("repository:elsewhere/twin", {}, id="2", keys=("repo:h.example/twin",), minute=1, **tool),
        render=False,
    )
    # A tool of one namespace that also tells of the other.
    say(
        "connection:there-ci/documents",
        claim(
            "component:hush-doc",
            {"type": "service", "lifecycle": "production", "owner": "hush-others"},
            id=DOCUMENT,
        ),
        render=False,
    )
    say(
        "connection:hush-ci/builders",
        claim("pipeline:hush-build", id="1", keys=(BUILD,), about=(REPO,), **tool),
    )
    mark_stale(
        source=source("yaml:a"), reasons={"component:hush-pay": "hush is broken"}, at=later(1), by="hush file"
    )
    apply_activity(
        connection_slug="hush-ci",
        connector="buildbot",
        items=[
            _activity(
                "run",
                "r",
                BUILD,
                event="pipelinerun.finished",
                status="failed",
                title="hush run",
                url="https://hush.example/1",
            ),
            _activity("version", "v", REPO, event="artifact.published", version="1.0", title="hush 1.0"),
            _activity(
                "commit", "c", REPO, event="change.merged", commit="a" * 40, title="hush commit", actor="hush"
            ),
            _activity(
                "deployment", "d", REPO, event="service.deployed", status="deployed", environment="hush"
            ),
            _activity(
                "run",
                "lost",
                "pipeline:ci.example/lost",
                event="pipelinerun.finished",
                status="passed",
                title="hush",
            ),
        ],
    )
    apply_activity(
        connection_slug="there-ci",
        connector="buildbot",
        items=[
            _activity("run", "t", TEST, event="pipelinerun.finished", status="passed", title="there run"),
            _activity("version", "h", REPO, event="artifact.published", version="2.0", title="hush 2.0"),
        ],
    )
    render_dirty(at=timezone.now())
    ids = _connections()
    return {
        "namespace": "default",
        "kind": "component",
        "name": "hush-pay",
        "uid": Entity.objects.get(ref="component:default/hush-pay").uid,
        "tie_id": Tie.objects.filter(source__ref="component:default/hush-pay").values_list("pk", flat=True)[
            0
        ],
        "activity_id": Activity.objects.get(external_id="r").pk,
        "slug": "hush-ci",
        "connector": "records",
        "page": "entity",
        "widget": "runs",
        **ids,
    }


def _connections() -> dict[str, Any]:
    now = timezone.now()
    ids: dict[str, Any] = {}
    for slug, namespace in (("there-ci", "elsewhere"), ("hush-git", "default"), ("hush-ci", "default")):
        word = "there" if namespace == "elsewhere" else WORD
        connection = Connection.objects.create(
            slug=slug,
            label=f"{word} tool",
            connector="records",
            namespace=namespace,
            config={"source": "/tmp/hush"},
            check_result=[{"label": "Reached /tmp/hush", "ok": True, "detail": "", "remedy": ""}],
        )
        run = SyncRun.objects.create(
            connection=connection, state=RunState.PARTIAL, queued_at=now, started_at=now, finished_at=now,
            message="hush failed", requested_by=word,
        )  # fmt: skip
        resource = ResourceRun.objects.create(
            run=run, name=f"{word}-things", position=0, state=ResourceState.HELD, listed=1, refused=1, would_remove=1,
            started_at=now, finished_at=now,
        )  # fmt: skip
        SeenPage.objects.create(
            resource=resource, number=1, ids=[f"{word}-1"], outcomes=[RecordOutcome.REFUSED],
            errors={f"{word}-1": {"reason": word, "place": word}},
        )  # fmt: skip
        record = StoredRecord.objects.create(
            connection=connection, resource="builders", type="pipeline", external_id="1", digest=b"1",
            data={"external_id": "1", "name": word}, raw={"word": word}, as_of=now, touched_at=now - timedelta(days=1),
        )  # fmt: skip
        if namespace == "elsewhere":
            ids["there"] = {
                "run_id": run.pk,
                "resource_id": resource.pk,
                "record_id": _beyond(connection, resource),
            }
        ids |= {"run_id": run.pk, "resource_id": resource.pk, "record_id": record.pk}
    location = CatalogLocation.objects.create(
        address="file:/hush/catalog", summary={"files": 1, "problems": 0}
    )
    return {**ids, "location_id": location.pk}


def _beyond(connection: Connection, resource: ResourceRun) -> int:
    """What a tool of `elsewhere` brought of `default`: a document, a version, and one that was refused."""
    now = timezone.now()
    records = [
        StoredRecord.objects.create(
            connection=connection, resource=resource, type=type_, external_id=external_id, digest=b"1",
            data={"external_id": external_id, "name": WORD}, raw={"word": WORD}, as_of=now,
            touched_at=now - timedelta(days=1), deleted_at=deleted_at,
        )
        for resource, type_, external_id, deleted_at in [
            ("documents", "document", DOCUMENT, None),
            ("builds", "version", "h", None),
            # Gone, so that only its id still says where it was.
            ("documents", "document", "gone.yaml#component:default/hush-gone", now),
            (resource.name, "document", "held.yaml#component:default/hush-held", None),
        ]
    ]  # fmt: skip
    for name, outcome, external_id in [
        ("documents", RecordOutcome.NEW, DOCUMENT),
        ("builds", RecordOutcome.NEW, "h"),
        ("more", RecordOutcome.REFUSED, REFUSED),
    ]:
        counted = ResourceRun.objects.create(
            run=resource.run, name=name, position=1, state=ResourceState.PARTIAL, listed=1, message=f"{WORD} broke",
            started_at=now, finished_at=now, **{outcome.name.lower(): 1},
        )  # fmt: skip
        errors = {external_id: {"reason": WORD, "place": WORD}} if outcome == RecordOutcome.REFUSED else {}
        SeenPage.objects.create(
            resource=counted, number=1, ids=[external_id], outcomes=[outcome], errors=errors
        )
    return records[0].pk
