"""Alertmanager: alerts become activity of what their labels name; it may also call when one fires or ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from integrations.alerting import AlertingConfig, AlertingConnector
from integrations.contract import (
    BadPayload,
    Check,
    Refused,
    WebhookRequest,
    WebhookSecret,
    bears_token,
    resource,
    webhook,
)
from integrations.contract import gettext as _
from integrations.records import Alert, AlertStatus


class Config(AlertingConfig):
    """Where Alertmanager is, how to sign in to it, and what its alerts' labels name."""

    webhook_secret: WebhookSecret = None


class Alertmanager(AlertingConnector[Config]):
    slug, label, monogram = "alertmanager", "Alertmanager", "Am"
    brings = "Alerts, firing, silenced and resolved, on what their labels name; takes deliveries"

    @resource(of=Alert, often=True)
    async def alerts(self) -> AsyncIterator[Alert | Refused]:
        """The alerts that fire now or are kept quiet. What is not among them is over."""
        answer = await self.api.get(
            "api/v2/alerts", params={"active": True, "silenced": True, "inhibited": True}
        )
        for row in answer.rows():
            yield self.read(row, answer.sent_at)
        status = await self.api.get("api/v2/status")
        self.settled(status.value("uptime", of=str), status.sent_at)

    @webhook(verify=bears_token)
    async def told(self, request: WebhookRequest) -> AsyncIterator[Alert | Refused]:
        """What Alertmanager delivers: the alerts of a group, each as it is now."""
        said = request.json()
        rows = said.get("alerts") if isinstance(said, dict) and said.get("version") == "4" else None
        if not isinstance(rows, list):
            raise BadPayload(_("This is no delivery of Alertmanager: version 4, with a list of alerts."))
        for row in rows:
            yield self.read(row, request.received_at)

    def read(self, row: Any, as_of: datetime) -> Alert | Refused:
        """An alert as its list and its deliveries tell it; their status is an object there and a word here."""
        row = row if isinstance(row, dict) else {}
        match row.get("status"):
            case "resolved":
                status = AlertStatus.RESOLVED
            case {"state": "suppressed"}:
                status = AlertStatus.SILENCED
            case _:
                status = AlertStatus.FIRING
        return self.alert(
            row,
            str(row.get("fingerprint") or ""),
            status,
            as_of=as_of,
            url=row.get("generatorURL") or None,
            started_at=row.get("startsAt"),
            ended_at=row.get("endsAt") if status is AlertStatus.RESOLVED else None,
        )

    async def checks(self) -> AsyncIterator[Check]:
        """Say which Alertmanager answers, and how many of its alerts have labels that may name something."""
        status = await self.api.get("api/v2/status")
        yield Check(
            label=_("Reached Alertmanager %(version)s")
            % {"version": status.value("versionInfo", "version", of=str)}
        )
        rows = (await self.api.get("api/v2/alerts")).rows()
        shown = {"count": len(rows), "named": self.count_named(rows)}
        yield Check(
            label=_("Reads alerts: %(count)d, of which %(named)d have labels that may name something")
            % shown,
            remedy="" if shown["named"] == len(rows) else _("Name more labels under “What labels name”."),
        )
