"""What can go wrong between us and a tool. Each error names who has to act.

Connectors raise these or let the shared clients raise them; they do not catch them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError

from base.errors import DomainError, FieldError

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

_EXPIRED = re.compile(
    r"(token|password|credential|secret|key|licen[cs]e)s?\b[^.,;:]{0,60}\bexpired|\bexpired\b[^.,;:]{0,20}"
    r"(token|password|credential|secret|key)|token_expired",
    re.IGNORECASE,
)


def says_expired(text: str) -> bool:
    """Whether a tool's words say that what it was given ran out, and not that it may have been wrong in many ways."""
    return _EXPIRED.search(text) is not None


def faults_of(error: ValidationError, *place: str) -> list[FieldError]:
    """What is wrong with values that somebody gave, without what came: it may be a secret.

    :param place: the way to these values.
    """
    return [
        FieldError(path="/" + "/".join([*place, *map(str, item["loc"])]), message=readable(item["msg"]))
        for item in error.errors(include_url=False, include_input=False)
    ]


def readable(message: str) -> str:
    """What the library says of a value, as a sentence."""
    text = message.removeprefix("Value error, ")
    return text if text.endswith(".") else f"{text}."


def when_silent(proxy: str = "") -> str:
    """What to look at when a tool does not answer.

    :param proxy: what leads to it, if a connection's own proxy does.
    """
    if proxy:
        return gettext("See whether the address is right, and whether the proxy may reach it.")
    return gettext(
        "See whether the address is right, and whether a firewall lies between; if only a proxy leads there, name it "
        "under Network in the settings of the connection."
    )


class SourceError(DomainError):
    """A tool could not be read. The sentence is for the person who looks after the connection.

    :cvar remedy: what that person does, where it is the same with every tool; else the connector knows.
    """

    code = "source-error"
    status = 502
    title = _("The tool could not be read")
    remedy: ClassVar[_StrOrPromise] = ""


class AuthFailed(SourceError):
    """The tool refused our credentials, or they lack a permission. A person must act; no retry."""

    code = "auth-failed"


class Misconfigured(SourceError):
    """The settings cannot work (wrong address, forbidden host, bad path). A person must act; no retry."""

    code = "misconfigured"
    status = 422


class Untrusted(Misconfigured):
    """Nobody whom we trust vouches for the certificate that was shown."""

    remedy = _("Paste the certificate of the authority that made it under Network.")


class WithoutTls(Misconfigured):
    """What answers does not speak TLS."""

    remedy = _("Correct the port, or begin the address with http:// if the tool has no TLS.")


class LockedProxy(Misconfigured):
    """The proxy wants to know who asks."""

    remedy = _("Give the proxy's user and password under Network.")


class SourceUnavailable(SourceError):
    """The tool does not answer as it should right now. We try again.

    :ivar retry_after: seconds the tool asked us to wait, or None.
    """

    code = "source-unavailable"
    status = 503

    def __init__(self, message: str, *, retry_after: float | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.retry_after = retry_after


class Silent(SourceUnavailable):
    """The tool did not answer in time."""

    remedy = _("Correct the address, open the firewall, or name the proxy that leads there under Network.")


class NoWayThrough(SourceUnavailable):
    """The proxy is not there, or does not lead to the tool."""

    remedy = _("Correct the proxy under Network, or have it let Portico through to this address.")


class BadPayload(SourceError):
    """The tool answered something that its API does not promise. A bug of ours or of the tool; no retry."""

    code = "bad-payload"


class NotThere(SourceError):
    """The tool, or the disk, knows no such thing."""

    code = "not-there"
