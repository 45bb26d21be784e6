"""Prometheus: what its alerting rules find becomes activity of what the alerts' labels name."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import Field

from integrations.alerting import AlertingConfig, has_settled, not_reached, not_settled, texts, words_of
from integrations.contract import (
    Answer,
    BadPayload,
    Category,
    Check,
    Connector,
    Health,
    Refused,
    SourceError,
    Tools,
    record_or_refusal,
    resource,
)
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


class Prometheus(Connector[Config]):
    slug, label, monogram, category = "prometheus", "Prometheus", "Pr", Category.MONITORING
    brings = "Alerts of its rules, from firing to resolved, on what their labels name"

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        self.base = str(config.base_url).rstrip("/")
        self.api = self.http.at(self.base, headers=config.headers(self.http))

    @resource(of=Alert, often=True)
    async def alerts(self) -> AsyncIterator[Alert | Refused]:
        """What the alerting rules find now. What is not among it is over."""
        answer = await self.api.get("api/v1/rules", params={"type": "alert"})
        groups, found = _groups(answer), dict[str, Alert | Refused]()
        wanted = ["pending", "firing"] if self.config.pending else ["firing"]
        for state in wanted:  # of two rules that find the same, one that fires counts
            for rule in _rules(groups):
                for row in rule.get("alerts") or ():
                    if row.get("state") == state:
                        record = self.alert(rule, row, answer.sent_at)
                        found[record.external_id] = record
        for record in found.values():
            yield record
        started_at = await self.said("runtimeinfo", "startTime")
        is_evaluated = not any(str(group.get("lastEvaluation")).startswith(NEVER) for group in groups)
        if not is_evaluated or not has_settled(started_at, answer.sent_at):
            raise not_settled(self.label)

    def alert(self, rule: Json, row: Json, as_of: datetime) -> Alert | Refused:
        """What a rule found: as long as its labels are the same, it is the same alert."""
        labels, notes = texts(row.get("labels")), texts(row.get("annotations"))
        return record_or_refusal(
            Alert,
            hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16],
            as_of=as_of,
            url=f"{self.base}/graph?g0.expr={quote(str(rule.get('query')))}&g0.tab=1"[:2000],
            about=self.config.about(labels),
            title=words_of(labels, notes),
            status=AlertStatus.FIRING if row.get("state") == "firing" else AlertStatus.PENDING,
            severity=labels.get("severity", ""),
            started_at=row.get("activeAt"),
            raw={**row, "rule": {name: value for name, value in rule.items() if name != "alerts"}},
        )

    async def said(self, about: str, name: str) -> str:
        """What Prometheus says of itself."""
        answer = await self.api.get(f"api/v1/status/{about}")
        found = _data(answer).get(name)
        if not isinstance(found, str):
            raise _odd(answer)
        return found

    async def check(self) -> Health:
        """Say which Prometheus answers, what its rules find, and which of them cannot be evaluated."""
        try:
            version = await self.said("buildinfo", "version")
            rules = list(_rules(_groups(await self.api.get("api/v1/rules", params={"type": "alert"}))))
        except SourceError as error:
            return not_reached(error, self.label)
        rows = [row for rule in rules for row in rule.get("alerts") or () if row.get("state") == "firing"]
        shown = {
            "rules": len(rules),
            "count": len(rows),
            "named": sum(bool(self.config.about(texts(row.get("labels")))) for row in rows),
        }
        broken = [f"{rule.get('name')}: {rule['lastError']}" for rule in rules if rule.get("lastError")]
        return Health(
            [
                Check(label=_("Reached Prometheus %(version)s") % {"version": version}, ok=True),
                Check(
                    label=_("Reads alerting rules: %(rules)d; alerts that fire: %(count)d, of which %(named)d have "
                            "labels that may name something") % shown,
                    ok=True,
                    detail="; ".join(broken[:3]),
                    remedy=_("Mend the rules that cannot be evaluated.") if broken
                    else "" if rules else _("Give Prometheus alerting rules; there is nothing else to read."),
                ),
            ]
        )  # fmt: skip


def _data(answer: Answer) -> Json:
    data = answer.row("data")["data"]
    if not isinstance(data, dict):
        raise _odd(answer)
    return data


def _groups(answer: Answer) -> list[Json]:
    groups = _data(answer).get("groups")
    if not isinstance(groups, list) or not all(
        isinstance(group, dict) and isinstance(group.get("rules"), list) for group in groups
    ):
        raise _odd(answer)
    return groups


def _rules(groups: list[Json]) -> Iterator[Json]:
    for group in groups:
        yield from group["rules"]


def _odd(answer: Answer) -> BadPayload:
    return BadPayload(_("%(path)s does not answer as Prometheus does.") % {"path": urlsplit(answer.url).path})
