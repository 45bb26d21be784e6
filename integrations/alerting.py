"""What connectors of monitoring tools share: how they sign in, what labels name, how an alert reads. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from pydantic import Field, HttpUrl, field_validator, model_validator

from integrations.contract import (
    Category,
    ConnectionConfig,
    Connector,
    HttpClient,
    Password,
    Refused,
    SourceUnavailable,
    Token,
    UserName,
    gettext_noop,
    record_or_refusal,
)
from integrations.contract import gettext as _
from integrations.records import Alert, AlertStatus

_LABEL = r"[A-Za-z_]\w*"
_IN_KEY = re.compile(rf"\{{({_LABEL})\}}")
_NAME = re.compile(r"\w[\w.-]{0,250}")
SETTLED = timedelta(minutes=5)  # after a start; before that not all that fires has been found or told again


class AlertingConfig(ConnectionConfig):
    """Where the tool is, how to sign in to it, and what its labels name."""

    base_url: HttpUrl = Field(
        title="Address",
        description="Where it answers, with its path if it has one: https://alerts.acme.example.",
    )
    username: UserName = ""
    password: Password = None
    token: Token = None
    subjects: list[str] = Field(
        default=["component", "service", "app", "job"],
        max_length=50,
        title="What labels name",
        description="Labels that hold the name of a component of this connection's namespace, or identity keys with "
        "{labels} in them, such as ref:system:default/{team} or repo:git.acme.example/{team}/{app}. The first that "
        "something in the catalog has is what an alert is about.",
    )

    @field_validator("subjects")
    @classmethod
    def _are_labels_or_keys(cls, value: list[str]) -> list[str]:
        for item in value:
            if not re.fullmatch(_LABEL, item) and not re.fullmatch(
                r"[a-z][a-z0-9-]*:[^{}\s]+", _IN_KEY.sub("x", item)
            ):
                raise ValueError(
                    _("“%(item)s” is neither a label, such as service, nor an identity key, such as "
                      "ref:component:default/{service}.") % {"item": item}
                )  # fmt: skip
        return value

    @model_validator(mode="after")
    def _signs_in_one_way(self) -> AlertingConfig:
        if self.token and self.username:
            raise ValueError(_("Give a user name and password, or a token, not both."))
        return self

    def about(self, labels: dict[str, str]) -> list[str]:
        """The keys that an alert's labels make, in the order of the settings."""
        found = []
        for item in self.subjects:
            if _IN_KEY.search(item):
                is_whole = all(labels.get(name) for name in _IN_KEY.findall(item))
                key = _IN_KEY.sub(lambda match: labels[match[1]], item) if is_whole else ""
            else:  # what is no name, such as a/b, could name something of another namespace
                name = labels.get(item, "")
                key = f"ref:component:{name}" if _NAME.fullmatch(name) else ""
            found += [key] if 0 < len(key) < 900 else []
        return list(dict.fromkeys(found))


C = TypeVar("C", bound=AlertingConfig)


class AlertingConnector(Connector[C]):
    """A monitoring tool whose alerts are what is read of it."""

    category = Category.MONITORING
    if_refused = gettext_noop(
        "Give the user name and password, or the token, that the tool or the proxy before it wants."
    )
    if_elsewhere = gettext_noop("Give the address of the tool itself, with its path if it has one.")

    @cached_property
    def api(self) -> HttpClient:
        """The tool, signed in as the settings say."""
        config = self.config
        headers = self.http.basic(config.username, config.password) or self.http.bearer(config.token)
        return self.http.at(config.base_url, headers=headers)

    def settled(self, started_at: str, now: datetime, *, is_whole: bool = True) -> None:
        """What ends a list of alerts: it is whole only if the tool has run for long enough to know all that fires.

        :raises SourceUnavailable: if it has not: what it does not list is then kept.
        """
        if not is_whole or now - datetime.fromisoformat(started_at) < SETTLED:
            raise SourceUnavailable(
                _("%(tool)s started a short while ago and may not know yet of all that fires, so nothing is taken "
                  "for resolved.") % {"tool": self.label}
            )  # fmt: skip

    def alert(
        self, row: dict[str, Any], external_id: str, status: AlertStatus, **fields: Any
    ) -> Alert | Refused:
        """An alert that has labels and annotations, as Prometheus made them usual."""
        labels, notes = texts(row.get("labels")), texts(row.get("annotations"))
        said = notes.get("summary") or notes.get("description") or ""
        return record_or_refusal(
            Alert,
            external_id,
            about=self.config.about(labels),
            title=": ".join(part for part in (labels.get("alertname", ""), said) if part)[:1000],
            status=status,
            severity=labels.get("severity", ""),
            raw=row,
            **fields,
        )

    def count_named(self, rows: Iterable[dict[str, Any]]) -> int:
        """How many of these alerts have labels that may name something."""
        return sum(bool(self.config.about(texts(row.get("labels")))) for row in rows)


def texts(said: Any) -> dict[str, str]:
    """Labels or annotations; a tool that is none of these may have said anything."""
    return {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}
