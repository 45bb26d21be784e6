"""Alertmanager: alerts become activity of what their labels name; it may also call when one fires or ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from pydantic import Field, SecretStr

from integrations.alerting import AlertingConfig, has_settled, not_reached, not_settled, texts, words_of
from integrations.contract import (
    BadPayload,
    Category,
    Check,
    Connector,
    Health,
    Refused,
    SourceError,
    Tools,
    WebhookRequest,
    bears_token,
    record_or_refusal,
    resource,
    webhook,
)
from integrations.contract import gettext as _
from integrations.records import Alert, AlertStatus


class Config(AlertingConfig):
    """Where Alertmanager is, how to sign in to it, and what its alerts' labels name."""

    webhook_secret: SecretStr | None = Field(
        None,
        title="Webhook secret",
        description="What Alertmanager delivers with, as a bearer token or as the password of any user; while it is "
        "empty, no delivery is taken.",
    )


class Alertmanager(Connector[Config]):
    slug, label, monogram, category = "alertmanager", "Alertmanager", "Am", Category.MONITORING
    brings = "Alerts, firing, silenced and resolved, on what their labels name; takes deliveries"

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        self.api = self.http.at(str(config.base_url).rstrip("/"), headers=config.headers(self.http))

    @resource(of=Alert, often=True)
    async def alerts(self) -> AsyncIterator[Alert | Refused]:
        """The alerts that fire now or are kept quiet. What is not among them is over."""
        answer = await self.api.get(
            "api/v2/alerts", params={"active": True, "silenced": True, "inhibited": True}
        )
        for row in answer.rows():
            yield self.alert(row, answer.sent_at)
        status = await self.api.get("api/v2/status")
        if not has_settled(status.row("uptime")["uptime"], status.sent_at):
            raise not_settled(self.label)

    @webhook(verify=bears_token)
    async def told(self, request: WebhookRequest) -> AsyncIterator[Alert | Refused]:
        """What Alertmanager delivers: the alerts of a group, each as it is now."""
        said = request.json()
        rows = said.get("alerts") if isinstance(said, dict) and said.get("version") == "4" else None
        if not isinstance(rows, list):
            raise BadPayload(_("This is no delivery of Alertmanager: version 4, with a list of alerts."))
        for row in rows:
            yield self.alert(row, request.received_at)

    def alert(self, row: Any, as_of: datetime) -> Alert | Refused:
        """An alert as its list and its deliveries tell it; their status is an object there and a word here."""
        row = row if isinstance(row, dict) else {}
        labels, notes = texts(row.get("labels")), texts(row.get("annotations"))
        match row.get("status"):
            case "resolved":
                status = AlertStatus.RESOLVED
            case {"state": "suppressed"}:
                status = AlertStatus.SILENCED
            case _:
                status = AlertStatus.FIRING
        return record_or_refusal(
            Alert,
            str(row.get("fingerprint") or ""),
            as_of=as_of,
            url=row.get("generatorURL") or None,
            about=self.config.about(labels),
            title=words_of(labels, notes),
            status=status,
            severity=labels.get("severity", ""),
            started_at=row.get("startsAt"),
            ended_at=row.get("endsAt") if status is AlertStatus.RESOLVED else None,
            raw=row,
        )

    async def check(self) -> Health:
        """Say which Alertmanager answers, and how many of its alerts have labels that may name something."""
        try:
            status = (await self.api.get("api/v2/status")).row("versionInfo")
            rows = (await self.api.get("api/v2/alerts")).rows()
        except SourceError as error:
            return not_reached(error, self.label)
        named = sum(bool(self.config.about(texts(row.get("labels")))) for row in rows)
        return Health(
            [
                Check(label=_("Reached Alertmanager %(version)s") % status["versionInfo"], ok=True),
                Check(
                    label=_("Reads alerts: %(count)d, of which %(named)d have labels that may name something")
                    % {"count": len(rows), "named": named},
                    ok=True,
                    remedy="" if named == len(rows) else _("Name more labels under “What labels name”."),
                ),
            ]
        )
