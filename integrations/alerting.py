"""What connectors of monitoring tools share: how they sign in, what labels name, how an alert reads. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from integrations.contract import (
    AuthFailed,
    BadPayload,
    Check,
    ConnectionConfig,
    Health,
    HttpClient,
    NotThere,
    SourceError,
    SourceUnavailable,
)
from integrations.contract import gettext as _

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
    username: str = Field("", title="User name", description="For HTTP Basic authentication; empty for none.")
    password: SecretStr | None = Field(None, title="Password", description="Password of this user.")
    token: SecretStr | None = Field(
        None, title="Token", description="Bearer token, instead of user name and password; empty for none."
    )
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

    def headers(self, http: HttpClient) -> dict[str, str] | None:
        """What signs us in."""
        if self.token:
            return http.bearer(self.token.get_secret_value())
        secret = self.password.get_secret_value() if self.password else ""
        return http.basic(self.username, secret) if self.username else None

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


def words_of(labels: dict[str, str], notes: dict[str, str]) -> str:
    """An alert in a line: its name, and the summary that its rule has."""
    said = notes.get("summary") or notes.get("description") or ""
    return ": ".join(part for part in (labels.get("alertname", ""), said) if part)[:1000]


def texts(said: Any) -> dict[str, str]:
    """Labels or annotations; a tool that is none of these may have said anything."""
    return {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}


def has_settled(started_at: str, now: datetime) -> bool:
    """Whether a tool has run for long enough to know all that fires."""
    return now - datetime.fromisoformat(started_at) >= SETTLED


def not_settled(tool: str) -> SourceUnavailable:
    """What to raise after the alerts of a tool that may not know all: what it does not list is then kept."""
    return SourceUnavailable(
        _("%(tool)s started a short while ago and may not know yet of all that fires, so nothing is taken for "
          "resolved.") % {"tool": tool}
    )  # fmt: skip


def not_reached(error: SourceError, tool: str) -> Health:
    """What to do about a tool that does not answer as it should."""
    match error:
        case AuthFailed():
            label = _("Not permitted")
            remedy = _(
                "Give the user name and password, or the token, that %(tool)s or the proxy before it wants."
            )
        case BadPayload() | NotThere():
            label = _("This is not %(tool)s")
            remedy = _("Give the address of %(tool)s itself, with its path if it has one.")
        case _:
            label = _("Not reached")
            remedy = _(
                "See that %(tool)s runs, that this machine can reach it, and that the address is allowed."
            )
    shown = {"tool": tool}
    return Health([Check(label=label % shown, ok=False, detail=error.message, remedy=remedy % shown)])
