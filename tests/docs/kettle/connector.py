"""Kettle: environments, deployments, and deploying again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field, HttpUrl, SecretStr

from integrations.contract import (
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Mark,
    OperationResult,
    Refused,
    Risk,
    Tools,
    operation,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import Deployment, DeploymentStatus, Environment

PHASES = {
    "queued": DeploymentStatus.QUEUED,
    "rolling": DeploymentStatus.DEPLOYING,
    "rolled-out": DeploymentStatus.DEPLOYED,
    "broken": DeploymentStatus.FAILED,
}


class Config(ConnectionConfig):
    """Where Kettle is, and its key."""

    base_url: HttpUrl = Field(title="Address", description="Where Kettle answers.")
    key: SecretStr = Field(title="Key", description="With the right view.")


class Kettle(Connector[Config]):
    slug, label, monogram, category = "kettle", "Kettle", "Ke", Category.CLUSTER
    brings = "Environments and deployments; deploys again"

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        self.api = self.http.at(config.base_url, headers={"X-Kettle-Key": config.key.get_secret_value()})

    async def checks(self) -> AsyncIterator[Check]:
        me = (await self.api.get("v1/whoami")).row("name", "rights")
        can_view = "view" in me["rights"]
        remedy = "" if can_view else _("Give the key the right view.")
        yield Check(_("Signed in as %(name)s") % me, ok=can_view, remedy=remedy)

    @resource(of=Environment)
    async def environments(self) -> AsyncIterator[Environment | Refused]:
        answer = await self.api.get("v1/environments")
        for row in answer.json():
            yield record_or_refusal(
                Environment,
                row["id"],
                as_of=answer.sent_at,
                name=row["name"],
                stage=row["tier"],
                keys=[f"env:{row['name']}"],
                raw=row,
            )

    @resource(of=Deployment, incremental=True)
    async def deployments(self, since: dict[str, Any] | None) -> AsyncIterator[Deployment | Mark | Refused]:
        cursor, running = (since["cursor"], since["running"]) if since else ("0", [])
        still: list[str] = []
        for uuid in running:
            answer = await self.api.get(f"v1/deployments/{quote(uuid)}")
            yield self.deployment(answer.json(), answer.sent_at)
            still += [uuid] if answer.json()["ended"] is None else []
        items = [{}]
        while items:
            answer = await self.api.get("v1/deployments", params={"cursor": cursor})
            items, cursor = answer.json()["items"], answer.json()["cursor"]
            for row in items:
                yield self.deployment(row, answer.sent_at)
                still += [row["uuid"]] if row["ended"] is None else []
            yield Mark({"cursor": cursor, "running": [*still]})

    @operation(label="Deploy again", on=Deployment, risk=Risk.HIGH)
    async def again(self, target: Deployment) -> OperationResult:
        answer = await self.api.post(f"v1/deployments/{quote(target.external_id)}/again")
        row = answer.json()
        return OperationResult(
            message=_("Kettle has queued the deployment."),
            url=f"{self.api.address}/deployments/{row['uuid']}",
        )

    def deployment(self, row: dict[str, Any], as_of: datetime) -> Deployment | Refused:
        return record_or_refusal(
            Deployment,
            row["uuid"],
            as_of=as_of,
            url=f"{self.api.address}/deployments/{row['uuid']}",
            about=[f"image:{row['image']}", f"commit:{row['sha']}"],
            title=f"{row['service']} {row['version']}",
            actor=row["by"]["name"],
            actor_email=row["by"]["mail"],
            status=PHASES.get(row["phase"], row["phase"]),
            environment=row["env"],
            version=row["version"],
            commit=row["sha"],
            started_at=row["begun"],
            finished_at=row["ended"],
            raw=row,
        )
