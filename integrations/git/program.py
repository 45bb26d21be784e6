"""The program `git`, kept from all that a repository could make it do.

It runs offline unless it is told otherwise, with no configuration but ours; no hook, filter, helper or prompt runs.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base.limits import readable_size
from integrations.errors import (
    AuthFailed,
    BadPayload,
    LockedProxy,
    Misconfigured,
    NotThere,
    NoWayThrough,
    Silent,
    SourceError,
    SourceUnavailable,
    Untrusted,
    when_silent,
)
from integrations.outbound import mask_url

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise


@dataclass(frozen=True, kw_only=True)
class GitLimits:
    """Times in seconds, sizes in bytes.

    :ivar output: of one reading command.
    """

    network: float = 900
    local: float = 60
    lock: float = 900
    output: int = 128 * 1024 * 1024
    processes: int = 4


class GitProgram:
    """Runs git, a few processes at a time.

    :param proxy: `host:port` of what all connections go through, for messages; empty where it is not known to us.
    """

    def __init__(self, limits: GitLimits, *, proxy: str = "") -> None:
        self.limits = limits
        self._proxy = proxy
        self._slots = asyncio.Semaphore(limits.processes)

    async def run(
        self,
        *args: str,
        place: str,
        environment: Mapping[str, str] | None = None,
        given: bytes = b"",
        limit: int | None = None,
        seconds: float | None = None,
        keep: Sequence[int] = (),
    ) -> bytes:
        """Run git, offline unless the environment says otherwise, and return what it prints.

        :param place: the repository, for messages.
        :param given: standard input.
        :param keep: descriptors that the child holds on to.
        """
        limit = self.limits.output if limit is None else limit
        seconds = self.limits.local if seconds is None else seconds
        told = {
            **_OFFLINE,
            **configured({}),
            "PATH": os.environ.get("PATH", os.defpath),
            **(environment or {}),
        }
        pipe = asyncio.subprocess.PIPE
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    "git", *args, stdin=pipe, stdout=pipe, stderr=pipe,
                    env=told, cwd="/", start_new_session=True, pass_fds=keep,
                )  # fmt: skip
            except FileNotFoundError as error:
                raise Misconfigured(_("The program git is not installed on this server.")) from error
            try:
                async with asyncio.timeout(seconds):
                    printed, said, _fed = await asyncio.gather(
                        _collect(process.stdout, limit),
                        _collect(process.stderr, None),
                        _feed(process.stdin, given),
                    )
                    code = await process.wait()
            except TimeoutError as error:
                message = _("Git did not finish with %(place)s within %(seconds)d seconds.") % {
                    "place": place,
                    "seconds": seconds,
                }
                if "GIT_ALLOW_PROTOCOL" in (environment or {}):
                    raise Silent(f"{message} {when_silent(self._proxy)}") from error
                raise SourceUnavailable(message) from error
            except _TooMuch as error:
                raise BadPayload(
                    _("Git answered more than %(limit)s about %(place)s.")
                    % {"place": place, "limit": readable_size(limit)}
                ) from error
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        if code:
            text = said.decode("utf-8", "replace")
            if self._proxy and re.search(r"Failed to connect to|Couldn't connect|Could not resolve", text):
                raise NoWayThrough(
                    _("The proxy %(why)s cannot be reached, so %(url)s cannot be either. Correct its address under "
                      "Network in the settings of the connection.") % {"why": self._proxy, "url": place}
                )  # fmt: skip
            raise _explain(place, text, when_silent(self._proxy))
        if b"ignoring broken ref" in said:  # git goes on without it, as if there were no such branch
            raise Damaged(
                _("A branch or tag of %(place)s is damaged; git fsck in that repository names it.")
                % {"place": place}
            )
        return printed


class _TooMuch(Exception):
    """A child printed more than was allowed."""


class Damaged(SourceUnavailable):
    """Objects are missing or broken; a mirror is then fetched anew."""


# What every git process gets, and nothing else of our environment: no user's or machine's configuration, no
# prompt, no network.
_OFFLINE = {
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
# These outrank what a repository's own configuration says.
_SETTINGS = {
    "safe.directory": "*",  # folders are judged by PORTICO_FILES_ALLOW, not by who owns them
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.pager": "cat",
    "credential.helper": "",
    "gc.autoDetach": "false",
    "maintenance.autoDetach": "false",
    "log.showSignature": "false",
    "log.mailmap": "true",
    "fetch.recurseSubmodules": "false",
    "transfer.bundleURI": "false",
    "submodule.recurse": "false",
}


def configured(more: Mapping[str, str]) -> dict[str, str]:
    """Settings by way of the environment, which no list of processes shows."""
    pairs = list((_SETTINGS | dict(more)).items())
    environment = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (key, value) in enumerate(pairs):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


async def _collect(stream: asyncio.StreamReader | None, limit: int | None) -> bytes:
    """All that a child prints; without a limit, only the last of it is kept."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk
        if limit is None:
            del kept[:-20_000]
        elif len(kept) > limit:
            raise _TooMuch
    return bytes(kept)


async def _feed(stream: asyncio.StreamWriter | None, given: bytes) -> None:
    assert stream is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(given)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


# What git's words mean for the person who looks after the connection; the first that fits.
_MEANINGS: tuple[tuple[str, type[SourceError], _StrOrPromise], ...] = (
    (
        "code 407 from proxy|CONNECT tunnel failed, response 407",
        LockedProxy,
        gettext_lazy("The proxy asks for credentials before it lets git through to %(place)s. Give its user and "
                     "password under Network in the settings of the connection."),
    ),
    (
        "Proxy CONNECT aborted|CONNECT tunnel failed|from proxy after CONNECT",
        NoWayThrough,
        gettext_lazy("The proxy did not let git through to %(place)s. Git says: %(said)s"),
    ),
    (
        "could not read (Username|Password)|Authentication failed|Permission denied \\(|returned error: 401",
        AuthFailed,
        gettext_lazy("%(place)s asks for other credentials than it was given, if it is there at all. Replace them in "
                     "the settings of the connection."),
    ),
    (
        "returned error: 403|access denied",
        AuthFailed,
        gettext_lazy("%(place)s may not be read with these credentials: a permission is missing (403). Give the "
                     "token, or its user, the right to read this repository."),
    ),
    (
        "update url base from redirection|returned error: 30\\d",
        Misconfigured,
        gettext_lazy("%(place)s has moved. Use the address that it redirects to. Git says: %(said)s"),
    ),
    (
        "Host key verification failed",
        Misconfigured,
        gettext_lazy("The host key of %(place)s is not the one that is known."),
    ),
    (
        "certificate (problem|verif)|server certificate",
        Untrusted,
        gettext_lazy("The certificate of %(place)s is not trusted. Paste the certificate of your authority under "
                     "Network in the settings of the connection, or name its file in SSL_CERT_FILE. "
                     "Git says: %(said)s"),
    ),
    (
        "Operation too slow|timed? ?out",
        Silent,
        gettext_lazy("%(place)s does not answer. Git says: %(said)s %(advice)s"),
    ),
    (
        "object file .* is empty|corrupt|bad object|missing blob|not our ref .* shallow|bad tree object",
        Damaged,
        gettext_lazy("The copy of %(place)s is damaged. Git says: %(said)s"),
    ),
    (
        "not a valid object name|unknown revision|bad revision|ambiguous argument|not a tree object",
        NotThere,
        gettext_lazy("%(place)s has no such branch, tag or commit."),
    ),
    (
        "repository .*not found|returned error: 404|does not exist|not a git repository|"
        "does not appear to be a git repository|not valid: is this a git repository",
        Misconfigured,
        gettext_lazy("There is no Git repository at %(place)s, or these credentials may not see it."),
    ),
)  # fmt: skip


def _explain(place: str, said: str, advice: str) -> SourceError:
    said = mask_url(said).replace(place, "…")  # a repository may be named like an error
    lines = [
        line for line in said.splitlines() if re.match("fatal:|error:|remote:", line)
    ] or said.splitlines()
    shown = {"place": place, "said": " ".join(" ".join(lines[-3:]).split())[:300], "advice": advice}
    for pattern, error, sentence in _MEANINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return error(str(sentence) % shown)
    return SourceUnavailable(_("Git could not read %(place)s: %(said)s") % shown)
