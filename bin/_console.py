"""What the commands say to the person at the terminal, and how they fail: with a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from _parent import dying_with_parent


class Refusal(Exception):
    """Something that a person must put right; the message says what happened and what to do.

    :ivar code: how the command ends.
    """

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Console:
    """Prints progress to one stream; keeps quiet when that stream is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_terminal = stream.isatty()

    def say(self, text: str, end: str = "\n") -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text + end)
            self._stream.flush()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Name a step that begins, and say how long it took; yields a function that shows its progress."""
        begun = time.monotonic()
        if not self.is_terminal:
            self.say(f"  {title} ...")
        self._show(title, "...")
        try:
            yield lambda detail: self._show(title, f"... {detail}"[:60])
        except BaseException:
            if self.is_terminal:
                self.say("")
            raise
        self._show(title, "")
        self.say(f"{'' if self.is_terminal else f'  {title}'}: done in {time.monotonic() - begun:.1f} s")

    def _show(self, title: str, detail: str) -> None:
        if self.is_terminal:
            self.say(f"\r\033[K  {title} {detail}".rstrip(), end="")


def run(command: Sequence[str | Path], progress: Callable[[str], None], **options: object) -> None:
    """Run a program of the set-up to its end, showing what it does.

    :raises Refusal: if it fails; says why in a sentence where that is known, else with its last lines.
    """
    tail: deque[str] = deque(maxlen=300)
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=dying_with_parent(signal.SIGKILL),
        **options,  # type: ignore[call-overload]
    )
    with process:
        try:
            for line in process.stdout:
                tail.append(line.rstrip())
                progress(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Refusal(explain(tail) or "\n".join([f"{Path(command[0]).name} failed:", *list(tail)[-15:]]))


_UNREACHABLE = re.compile(
    r"NewConnectionError|Failed to establish|Max retries exceeded|Name or service not known|Read timed out"
    r"|name resolution|ConnectTimeout|ReadTimeout|ProxyError|Tunnel connection"
    r"|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|fetch failed"
)
_CAUSES: Mapping[re.Pattern[str], str] = {
    re.compile(r"No space left on device|ENOSPC|Disk quota exceeded"): (
        "The disk is full. A first start needs about 1 GB for the checkout and its data; free some and go on."
    ),
    re.compile(r"DO NOT MATCH THE HASHES|EINTEGRITY"): (
        "A package that was fetched is not the one that is pinned here, so it was not installed. "
        "If you use a mirror, it has altered the package."
    ),
    re.compile(r"SSLError|CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER"): (
        "The package registry's certificate is not trusted here. Behind a proxy that inspects TLS, set "
        "SSL_CERT_FILE to a file with its CA, or PIP_CERT and NODE_EXTRA_CA_CERTS, and start again."
    ),
    re.compile(r"40[137] (Client )?Error|HTTP error 40[137]|connection failed: 407|code E40[137]"): (
        "The package registry, or a proxy before it, lets nobody in without the right name and password. "
        "Give them in index-url of pip.conf and in .npmrc, and start again."
    ),
    _UNREACHABLE: (
        "The package registry cannot be reached. Check the network; behind a proxy set HTTPS_PROXY, with a "
        "mirror set index-url in pip.conf and registry in .npmrc, and start again."
    ),
    re.compile(r"No matching distribution found|code E404|ETARGET|notarget"): (
        "The package registry does not have what is pinned here, or not for this machine and Python. With a "
        "mirror see that it carries it and lets you in; else take a machine that the operator guide names."
    ),
    re.compile(r"Permission denied|EACCES|Read-only file system|EROFS"): (
        "A file or folder cannot be written. See to its owner and permissions and start again."
    ),
}


def explain(lines: Sequence[str] | deque[str]) -> str:
    """Say in a sentence why a program failed, with the line that shows it; empty if that is not known."""
    for pattern, sentence in _CAUSES.items():
        for line in reversed(lines):
            if pattern.search(line):
                return f"{sentence}\n  ({line.strip()[:300]})"
    return ""


def explain_os_error(error: OSError) -> str:
    """Say in a sentence what the operating system refused, and what to do."""
    where = error.filename or "the file system"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {where} cannot be written. Free some space and start again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        user = os.environ.get("USER") or f"user {os.getuid()}"
        return f"{where} cannot be used by {user}: {error.strerror}. See to its owner and permissions."
    return f"{error.strerror or error}: {where}"


def leave_on_signal(number: int, _frame: object) -> NoReturn:
    """End the process as a signal asks, but through `finally` blocks."""
    raise SystemExit(128 + number)


def main(program: Callable[[], int]) -> NoReturn:
    """Run a command; turn what a person can put right into a sentence and an exit code."""
    signal.signal(signal.SIGTERM, leave_on_signal)
    try:
        code = program()
    except Refusal as refusal:
        code = _fail(str(refusal), refusal.code)
    except OSError as error:
        if error.errno is None or os.environ.get("PORTICO_DEBUG"):
            raise
        code = _fail(explain_os_error(error))
    except KeyboardInterrupt:
        code = _fail("Stopped. The next start goes on from here.", 130)
    sys.exit(code)


def _fail(sentence: str, code: int = 1) -> int:
    with contextlib.suppress(OSError, ValueError):
        print(f"\n{sentence}", file=sys.stderr, flush=True)
    return code
