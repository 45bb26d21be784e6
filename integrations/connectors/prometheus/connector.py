"""Prometheus: what its alerting rules find becomes activity of what the alerts' labels name."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field

from integrations.alerting import AlertingConfig, AlertingConnector, texts
from integrations.contract import Answer, Check, Refused, resource
from integrations.contract import gettext as _
from integrations.records import Alert, AlertStatus

NEVER = "0001-01-01"

Json = dict[str, Any]


class Config(AlertingConfig):
    """Where Prometheus is, how to sign in to it, and what its alerts' labels name."""

    pending: bool = Field(
        False,
        title="Pending alerts too",
        description="Also show alerts whose condition holds, but not yet for as long as their rule asks.",
    )


class Prometheus(AlertingConnector[Config]):
    slug, label, monogram = "prometheus", "Prometheus", "Pr"
    brings = "Alerts of its rules, from firing to resolved, on what their labels name"

    @resource(of=Alert, often=True)
    async def alerts(self) -> AsyncIterator[Alert | Refused]:
        """What the alerting rules find now. What is not among it is over."""
        answer = await self.asked()
        groups, found = _groups(answer), dict[str, Alert | Refused]()
        wanted = ["pending", "firing"] if self.config.pending else ["firing"]
        for state in wanted:  # of two rules that find the same, one that fires counts
            for rule in (rule for group in groups for rule in group["rules"]):
                for row in rule.get("alerts") or ():
                    if row.get("state") == state:
                        record = self.read(rule, row, answer.sent_at)
                        found[record.external_id] = record
        for record in found.values():
            yield record
        started_at = (await self.api.get("api/v1/status/runtimeinfo")).value("data", "startTime", of=str)
        is_evaluated = not any(str(group.get("lastEvaluation")).startswith(NEVER) for group in groups)
        self.settled(started_at, answer.sent_at, is_whole=is_evaluated)

    async def asked(self) -> Answer:
        return await self.api.get("api/v1/rules", params={"type": "alert"})

    def read(self, rule: Json, row: Json, as_of: datetime) -> Alert | Refused:
        """What a rule found: as long as its labels are the same, it is the same alert."""
        labels = repr(sorted(texts(row.get("labels")).items()))
        return self.alert(
            {**row, "rule": {name: value for name, value in rule.items() if name != "alerts"}},
            hashlib.sha256(labels.encode()).hexdigest()[:16],
            AlertStatus.FIRING if row.get("state") == "firing" else AlertStatus.PENDING,
            as_of=as_of,
            url=f"{self.api.address}/graph?g0.expr={quote(str(rule.get('query')))}&g0.tab=1"[:2000],
            started_at=row.get("activeAt"),
        )

    async def checks(self) -> AsyncIterator[Check]:
        """Say which Prometheus answers, what its rules find, and which of them cannot be evaluated."""
        version = (await self.api.get("api/v1/status/buildinfo")).value("data", "version", of=str)
        rules = [rule for group in _groups(await self.asked()) for rule in group["rules"]]
        yield Check(label=_("Reached Prometheus %(version)s") % {"version": version})
        rows = [row for rule in rules for row in rule.get("alerts") or () if row.get("state") == "firing"]
        broken = [f"{rule.get('name')}: {rule['lastError']}" for rule in rules if rule.get("lastError")]
        remedy = "" if rules else _("Give Prometheus alerting rules; there is nothing else to read.")
        yield Check(
            label=_("Reads alerting rules: %(rules)d; alerts that fire: %(count)d, of which %(named)d have labels "
                    "that may name something")
            % {"rules": len(rules), "count": len(rows), "named": self.count_named(rows)},
            detail="; ".join(broken[:3]),
            remedy=_("Mend the rules that cannot be evaluated.") if broken else remedy,
        )  # fmt: skip


def _groups(answer: Answer) -> list[Json]:
    """The groups of rules that an answer holds, each with a list of these."""
    groups = answer.rows("data", "groups")
    if not all(isinstance(group, dict) and isinstance(group.get("rules"), list) for group in groups):
        raise answer.other("rules")
    return groups
