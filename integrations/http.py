"""The one HTTP client: connectors are handed it, and nobody builds another.

It keeps what every caller would otherwise have to remember: the outbound guard, time and size limits, retries,
waiting when a tool says so (all workers together, through Redis), conditional requests, pages, and errors that
name who has to act. What it returns is complete: a cut or truncated answer is an error, never a short success.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import logging
import math
import random
import re
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib import metadata
from typing import Any, Self, TypeVar
from urllib.parse import urljoin

import httpx2 as httpx
import orjson
from django.conf import settings
from django.utils.translation import gettext as _
from prometheus_client import Counter, Histogram
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from base.limits import readable_size
from integrations.errors import (
    AuthFailed,
    BadPayload,
    Misconfigured,
    NotThere,
    SourceError,
    SourceUnavailable,
)
from integrations.files import LineCutter
from integrations.outbound import GuardedTransport, OutboundPolicy, mask_url

logger = logging.getLogger(__name__)

REQUESTS = Counter("portico_outbound_requests", "Requests sent to tools.", ["host", "method", "outcome"])
SECONDS = Histogram("portico_outbound_seconds", "Time until a tool's answer was complete.", ["host"])
RETRIES = Counter("portico_outbound_retries", "Requests to tools that were tried again.", ["host"])

Authorize = Callable[[str, str], Awaitable[Mapping[str, str]]]
NextPage = Callable[["Answer"], str | None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """How long, how much and how often. Times are in seconds, sizes in bytes.

    :ivar total: for one call, its retries included; for a stream, the time spent waiting for the tool.
    :ivar patience: the longest wait that is sat out; a longer one is the caller's to plan.
    """

    connect: float = 10
    read: float = 30
    total: float = 120
    stream_total: float = 900
    patience: float = 20
    attempts: int = 4
    backoff: float = 0.5
    body: int = 20 * 1024 * 1024
    line: int = 4 * 1024 * 1024
    redirects: int = 5
    pages: int = 10_000
    concurrency: int = 8


@dataclass(frozen=True)
class Answer:
    """A complete answer.

    :ivar headers: names in lower case.
    :ivar body: decoded from any compression.
    :ivar url: where it came from in the end, redirects followed.
    :ivar sent_at: when the request was sent: nothing in the answer is newer.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str
    sent_at: datetime

    def text(self) -> str:
        """The body as text, in the charset that the answer names, else UTF-8."""
        charset = re.search(r"charset=[\"']?([\w.:-]+)", self.headers.get("content-type", ""), re.IGNORECASE)
        try:
            return self.body.decode(charset[1] if charset else "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body read as JSON.

        :raises BadPayload: naming the URL and what came instead.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            shown = {"url": mask_url(self.url)}
            if not self.body.strip():
                raise BadPayload(_("%(url)s answered nothing where JSON was expected.") % shown) from error
            if "html" in self.headers.get("content-type", "") or self.body.lstrip()[:1] == b"<":
                raise BadPayload(
                    _("%(url)s answered a web page where JSON was expected. Is this the address of the API, and may "
                      "it be read without signing in on a page?") % shown
                ) from error  # fmt: skip
            raise BadPayload(_("%(url)s answered broken JSON: %(why)s") % {**shown, "why": error}) from error

    def link(self, rel: str) -> str | None:
        """The target of the `Link` header with this relation, made absolute."""
        for target, parameters in re.findall(r"<([^>]*)>([^<]*)", self.headers.get("link", "")):
            found = re.search(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))", parameters, re.IGNORECASE)
            if found and rel in (found[1] or found[2]).lower().split():
                return urljoin(self.url, target)
        return None


class HttpClient:
    """Asks tools over HTTP, under the guard. Use it within one event loop and close it there.

    A client made by `at` has a base address and credentials and shares all else with the one it was made from.

    :param policy: where it may go; the settings' by default.
    :param redis: the store that workers share; the settings' by default. It only saves work: without it, all
        goes on.
    :param transport: answers instead of the network, for tests with recorded answers.
    """

    def __init__(
        self,
        *,
        policy: OutboundPolicy | None = None,
        limits: HttpLimits | None = None,
        redis: Redis | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._wire = _Wire(
            policy=policy or OutboundPolicy.from_settings(),
            limits=limits or HttpLimits(),
            redis=redis,
            transport=transport,
        )
        self._base = ""
        self._origin = ""
        self._headers: dict[str, str] = {}
        self._auth: Authorize | None = None

    @staticmethod
    def basic(user: str, password: str) -> dict[str, str]:
        """The header of HTTP Basic authentication, for `at(headers=...)`."""
        return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}

    @staticmethod
    def bearer(token: str) -> dict[str, str]:
        """The header of a bearer token, for `at(headers=...)`."""
        return {"Authorization": f"Bearer {token}"}

    def at(
        self, base_url: str, *, headers: Mapping[str, str] | None = None, auth: Authorize | None = None
    ) -> HttpClient:
        """A client for one tool: relative paths start at `base_url`.

        :param headers: sent with each request to that origin and to no other, whatever redirects or pages say.
        :param auth: `await auth(url, challenge)` gives further headers. It is asked before each request with an
            empty challenge, and once more with the `WWW-Authenticate` header of a 401.
        :raises Misconfigured: if `base_url` is no web address.
        """
        self._wire.policy.check_url(base_url)
        client = object.__new__(HttpClient)
        client._wire = self._wire
        client._base = base_url.rstrip("/") + "/"
        client._origin = _origin(base_url)
        client._headers = dict(headers or {})
        client._auth = auth
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, also those of the clients made by `at`."""
        await self._wire.aclose()

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Container[int] = (200,),
    ) -> Answer:
        """Fetch; see `request` for the errors."""
        return await self.request("GET", path, params=params, headers=headers, accept=accept)

    async def json(
        self, path: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Fetch and read as JSON.

        :raises BadPayload: if the answer is no JSON.
        """
        return (
            await self.get(path, params=params, headers={"Accept": "application/json"} | dict(headers or {}))
        ).json()

    async def post(
        self,
        path: str,
        *,
        json: Any = None,
        data: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Container[int] = (200, 201, 202, 204),
        retry: bool = False,
    ) -> Answer:
        """Send a body, once.

        :param data: a form's fields, or the very bytes.
        :param retry: the tool does it once even when asked twice, so a failure may be tried again.
        """
        return await self.request(
            "POST", path, json=json, data=data, headers=headers, accept=accept, retry=retry
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Mapping[str, Any] | bytes | None = None,
        accept: Container[int] = (200,),
        retry: bool | None = None,
    ) -> Answer:
        """Ask for `path` (below the base address) or a whole URL, and return the complete answer.

        :param accept: the statuses that are an answer; others are errors.
        :param retry: whether a failure may be tried again; by default for GET and HEAD only.
        :raises AuthFailed: for 401, and for 403 with the tool's words.
        :raises NotThere: for 404 and 410.
        :raises SourceUnavailable: if the tool fails, hangs, cuts the answer or asks for a longer wait.
        :raises Misconfigured: if the address cannot be right, the guard refuses it or redirects lead astray.
        :raises BadPayload: for other statuses, and an answer that is too large or cannot be decoded.
        """
        ask = self._ask(method, path, params, headers, json=json, data=data, accept=accept, retry=retry)
        return await self._wire.attempt(ask, self._wire.fetch)

    async def pages(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        next: NextPage | None = None,
    ) -> AsyncIterator[Answer]:
        """All pages of a list, in order.

        :param next: from a page to the address of the next one (a path, `?query` or URL) or None at the end; by
            default the `Link` header with `rel=next`.
        :raises BadPayload: if a page comes twice or there are too many; both would never end.
        """
        headers = {"Accept": "application/json"} | dict(headers or {})
        first = address = self._url(path, params)
        seen: set[str | bytes] = set()
        for _page in range(self._wire.limits.pages):
            answer = await self.get(address, headers=headers)
            # A tool that ignores its own page parameter answers the first page for ever.
            marks = {address, hashlib.sha256(answer.body).digest()}
            if marks & seen:
                raise BadPayload(
                    _("%(url)s is a page that came before; its list would never end.")
                    % {"url": mask_url(address)}
                )
            seen |= marks
            yield answer
            following = answer.link("next") if next is None else next(answer)
            if not following:
                return
            address = urljoin(answer.url, following)
            if self._origin and not _same_origin(self._origin, address):
                raise Misconfigured(
                    _("%(url)s says that its next page is at %(next)s, another server. Use the address by which the "
                      "tool knows itself, or correct the tool's own setting.")
                    % {"url": mask_url(answer.url), "next": mask_url(address)}
                )  # fmt: skip
        raise BadPayload(
            _("%(url)s has more than %(count)d pages.")
            % {"url": mask_url(first), "count": self._wire.limits.pages}
        )

    async def stream_lines(
        self, path: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The lines of an answer of any length as they come, blank ones too, without their ends.

        A failure before the first byte is tried again; a later one is raised after the lines that came whole.

        :raises BadPayload: if a line is too long. Else as `request`.
        """
        ask = self._ask("GET", path, params, headers, total=self._wire.limits.stream_total)
        flow = await self._wire.attempt(ask, self._wire.open)
        flow.release_slot()  # a stream lasts as long as its reader does; others need not wait for it
        cutter = LineCutter(mask_url(flow.url), limit=self._wire.limits.line)
        try:
            async for chunk in flow.chunks():
                for line in cutter.feed(chunk):
                    yield line
            for line in cutter.end():
                yield line
        finally:
            await flow.aclose()

    def _url(self, path: str, params: Mapping[str, Any] | None = None) -> str:
        if re.match(r"https?://", path, re.IGNORECASE):
            url = path
        else:
            url = self._base + path.lstrip("/") if path else self._base[:-1]
        given = {name: value for name, value in (params or {}).items() if value is not None}
        return str(httpx.URL(url).copy_merge_params(given)) if given else url

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        *,
        json: Any = None,
        data: Mapping[str, Any] | bytes | None = None,
        accept: Container[int] = (200,),
        retry: bool | None = None,
        total: float | None = None,
    ) -> _Ask:
        url = self._url(path, params)
        self._wire.policy.check_url(url)
        method = method.upper()
        body: dict[str, Any] = {}
        if json is not None:
            body = {"content": orjson.dumps(json)}
            headers = {"Content-Type": "application/json"} | dict(headers or {})
        elif data is not None:
            body = {"content": data} if isinstance(data, bytes) else {"data": dict(data)}
        return _Ask(
            method=method,
            url=url,
            origin=self._origin,
            origin_headers=self._headers,
            headers=dict(headers or {}),
            auth=self._auth,
            body=body,
            accept=accept,
            retry=method in _SAFE if retry is None else retry,
            total=total or self._wire.limits.total,
        )


_SAFE = ("GET", "HEAD")
_REDIRECTS = (301, 302, 303, 307, 308)


def _origin(url: str) -> str:
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def _same_origin(origin: str, url: str) -> bool:
    """Whether what is meant for `origin` may go to `url`: the same server, or its move from HTTP to HTTPS."""
    other = _origin(url)
    return origin == other or (origin.startswith("http:") and other == origin.replace("http:", "https:", 1))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass
class _Ask:
    """One call: what is asked, what may be sent where, and how much time it has used."""

    method: str
    url: str
    origin: str
    origin_headers: dict[str, str]
    headers: dict[str, str]
    auth: Authorize | None
    body: dict[str, Any]
    accept: Container[int]
    retry: bool
    total: float
    spent: float = 0.0
    conditions: dict[str, str] = field(default_factory=dict)

    def headers_for(self, url: str) -> dict[str, str]:
        """The headers that `url` may be sent: a connection's own go to its origin, a call's to that of its URL."""
        found: dict[str, str] = {}
        if self.origin and _same_origin(self.origin, url):
            found |= self.origin_headers
        if _same_origin(_origin(self.url), url):
            found |= self.headers | self.conditions
        else:
            found |= {name: value for name, value in self.headers.items() if name.lower() == "accept"}
        return found

    @property
    def has_credentials(self) -> bool:
        return bool(self.auth or self.origin_headers or self.headers.keys() - {"Accept", "Content-Type"})

    @property
    def is_storable(self) -> bool:
        given = {name.lower() for name in self.headers}
        return (
            self.method == "GET" and self.auth is None and 200 in self.accept and "if-none-match" not in given
        )

    @property
    def identity(self) -> str:
        """Tells apart what is asked by whom: an answer is never shared across credentials."""
        return _digest(self.url, self.origin_headers, self.headers)

    @property
    def budget(self) -> str:
        """Tells apart whose requests a tool counts together."""
        return _digest(_origin(self.url), self.origin_headers)

    def mask(self, text: str) -> str:
        """Text of the tool's, without the credentials that it may have echoed."""
        for name, value in (self.origin_headers | self.headers).items():
            if name.lower() in {"accept", "content-type", "user-agent"}:
                continue
            secrets = {value, *value.split()}
            for word in value.split() if value.startswith("Basic ") else ():
                with suppress(ValueError):
                    secrets |= set(b64decode(word, validate=True).decode().split(":", 1))
            for secret in sorted(secrets, key=len, reverse=True):
                if len(secret) >= 6:
                    text = text.replace(secret, "***")
        return mask_url(text)


class _Flow:
    """An accepted answer whose body has not been read yet."""

    def __init__(self, wire: _Wire, ask: _Ask, response: httpx.Response, url: str, sent_at: datetime) -> None:
        self.ask = ask
        self.url = url
        self.sent_at = sent_at
        self.status = response.status_code
        self.headers = dict(response.headers)
        self._wire = wire
        self._response = response
        self._has_slot = True

    def release_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._wire.slots.release()

    async def aclose(self) -> None:
        self.release_slot()
        with suppress(httpx.HTTPError, OSError):
            await self._response.aclose()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The decoded body in pieces of bounded size.

        :raises SourceUnavailable: if it is cut off, or takes too long.
        """
        if self._response.is_stream_consumed:  # a recorded answer
            yield self._response.content
            return
        inflate = self._decoder()
        raw = self._response.aiter_raw()
        while True:
            async with self._wire.timed(self.ask, self.url):
                piece = await anext(raw, None)
            if piece is None:
                break
            if inflate is None:
                yield piece
                continue
            try:
                for decoded in inflate.feed(piece):
                    yield decoded
            except zlib.error as error:
                raise BadPayload(
                    _("%(url)s answered a body that cannot be decompressed.") % {"url": mask_url(self.url)}
                ) from error
        if inflate is not None and inflate.is_unfinished:
            raise SourceUnavailable(
                _("%(url)s broke off in the middle of its answer.") % {"url": mask_url(self.url)}
            )

    def _decoder(self) -> _Inflate | None:
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding in {"", "identity"}:
            return None
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise BadPayload(
                _("%(url)s answered in the encoding “%(coding)s”, which was not asked for.")
                % {"url": mask_url(self.url), "coding": coding}
            )
        return _Inflate()

    async def read(self, limit: int) -> bytes:
        """:raises BadPayload: if the body is larger than `limit`."""
        declared = self.headers.get("content-length", "")
        too_large = BadPayload(
            _("%(url)s answered more than %(limit)s.")
            % {"url": mask_url(self.url), "limit": readable_size(limit)}
        )
        if self.ask.method != "HEAD" and declared.isdecimal() and int(declared) > limit:
            raise too_large
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)

    async def words(self) -> str:
        """What a failed answer says, for people: at most 300 characters, no markup, no secret."""
        body = bytearray()
        with suppress(SourceError):
            async for chunk in self.chunks():
                body += chunk
                if len(body) > 65_536:
                    break
        text = self._response_text(bytes(body))
        text = re.sub(r"(?is)<(script|style|head)\b.*?</\1\s*>|<[^>]*>", " ", text)
        text = " ".join(self.ask.mask(html.unescape(text)).split())
        return text if len(text) <= 300 else text[:299] + "…"

    def _response_text(self, body: bytes) -> str:
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body.decode("utf-8", "replace")
        for _level in range(4):
            if isinstance(said, list) and said:
                said = said[0]
            elif isinstance(said, dict):
                names = ("message", "error_description", "detail", "title", "error", "errors", "reason")
                said = next((said[name] for name in names if said.get(name)), "")
        return said if isinstance(said, str) else ""


class _Inflate:
    """Decompresses piece by piece, so that a small body cannot become a large one unnoticed."""

    PIECE = 1 << 18

    def __init__(self) -> None:
        self._member = zlib.decompressobj(47)  # gzip or zlib, by their own mark
        self._fed = False

    @property
    def is_unfinished(self) -> bool:
        return self._fed and not self._member.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._fed = self._fed or bool(data)
        while True:
            if self._member.eof:
                data = self._member.unused_data + data
                if not data.startswith(b"\x1f\x8b"):
                    return  # padding
                self._member = zlib.decompressobj(47)
            out = self._member.decompress(data, self.PIECE)
            if out:
                yield out
            data = self._member.unconsumed_tail
            if self._member.eof:
                if not self._member.unused_data:
                    return
                data = b""
            elif not data and len(out) < self.PIECE:
                return


class _Wire:
    """What all clients made from one share: connections, guard, limits, and the store shared with other workers."""

    def __init__(
        self,
        *,
        policy: OutboundPolicy,
        limits: HttpLimits,
        redis: Redis | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.slots = asyncio.Semaphore(limits.concurrency)
        # Recorded answers are nobody else's business.
        self.shared = _Shared(redis) if redis or transport else _Shared.from_settings()
        self._transport = transport or GuardedTransport(
            policy, limits=httpx.Limits(max_connections=None, max_keepalive_connections=limits.concurrency)
        )
        self._timeout = httpx.Timeout(limits.read, connect=limits.connect, pool=None).as_dict()

    async def aclose(self) -> None:
        await self._transport.aclose()
        await self.shared.aclose()

    @asynccontextmanager
    async def timed(self, ask: _Ask, url: str) -> AsyncIterator[None]:
        """Count the time spent waiting for the tool, end it when it is used up, and name transport failures."""
        shown = {"url": mask_url(url)}
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, ask.total - ask.spent)):
                yield
        except TimeoutError as error:
            ask.retry = False
            raise SourceUnavailable(
                _("%(url)s did not answer completely within %(seconds)d seconds.")
                % {**shown, "seconds": ask.total}
            ) from error
        except httpx.TimeoutException as error:
            raise SourceUnavailable(
                _("%(url)s did not answer within %(seconds)d seconds.")
                % {
                    **shown,
                    "seconds": self.limits.connect
                    if isinstance(error, httpx.ConnectTimeout)
                    else self.limits.read,
                }
            ) from error
        except (httpx.LocalProtocolError, UnicodeEncodeError) as error:
            raise Misconfigured(
                _("The request to %(url)s cannot be sent: a credential or header holds characters that HTTP does not "
                  "allow, such as a line break.") % shown
            ) from error  # fmt: skip
        except httpx.ProxyError as error:
            raise SourceUnavailable(
                _("The proxy did not let us through to %(url)s: %(why)s")
                % {**shown, "why": ask.mask(str(error))}
            ) from error
        except httpx.TransportError as error:
            why = ask.mask(str(error)) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in why:
                raise Misconfigured(
                    _("The certificate of %(url)s is not trusted: %(why)s. Name the file with your authority's "
                      "certificate in SSL_CERT_FILE.") % {**shown, "why": why}
                ) from error  # fmt: skip
            if "[SSL" in why:
                raise Misconfigured(
                    _("%(url)s does not speak TLS as expected: %(why)s") % {**shown, "why": why}
                ) from error
            if isinstance(error, httpx.ConnectError):
                raise SourceUnavailable(
                    _("%(url)s cannot be reached: %(why)s") % {**shown, "why": why}
                ) from error
            raise SourceUnavailable(
                _("%(url)s broke off in the middle of its answer: %(why)s") % {**shown, "why": why}
            ) from error
        finally:
            ask.spent += time.monotonic() - began

    async def attempt(self, ask: _Ask, do: Callable[[_Ask], Awaitable[T]]) -> T:
        """Wait for our turn and do it; after a failure that may pass, do it again."""
        number = 0
        while True:
            number += 1
            try:
                await self._wait_turn(ask)
                return await do(ask)
            except SourceUnavailable as error:
                pause = (
                    self.limits.backoff * 2 ** (number - 1)
                    if error.retry_after is None
                    else error.retry_after
                )
                if not ask.retry or number >= self.limits.attempts or pause > self.limits.patience:
                    raise
            RETRIES.labels(httpx.URL(ask.url).host).inc()
            await asyncio.sleep(pause + random.uniform(0, pause / 2))  # noqa: S311 - spreads load, hides nothing

    async def _wait_turn(self, ask: _Ask) -> None:
        pause = await self.shared.held_for(ask.budget)
        if pause > self.limits.patience:
            raise SourceUnavailable(
                _("%(host)s asked for a pause, of which %(seconds)d seconds are left.")
                % {"host": httpx.URL(ask.url).host, "seconds": pause},
                retry_after=pause,
            )
        if pause:
            await asyncio.sleep(pause + random.uniform(0, 0.2))  # noqa: S311

    async def fetch(self, ask: _Ask) -> Answer:
        """Once: the complete answer, from the store if the tool says that it is unchanged."""
        stored = await self.shared.recall(ask) if ask.is_storable else None
        ask.conditions = {"If-None-Match": stored.headers["etag"]} if stored else {}
        flow = await self.open(ask)
        try:
            body = await flow.read(self.limits.body)
        finally:
            await flow.aclose()
        if stored and flow.status == 304:
            return Answer(stored.status, stored.headers, stored.body, stored.url, flow.sent_at)
        answer = Answer(flow.status, flow.headers, body, flow.url, flow.sent_at)
        if ask.is_storable:
            await self.shared.remember(ask, answer)
        return answer

    async def open(self, ask: _Ask) -> _Flow:
        """Once: follow redirects up to an accepted answer, or raise what the status means."""
        url = ask.url
        sent_at = datetime.now(UTC)
        for _hop in range(self.limits.redirects + 1):
            try:
                flow = await self._send(ask, url, sent_at)
            except Misconfigured as error:
                if url == ask.url:
                    raise
                # The person knows the first address only.
                raise type(error)(
                    _("%(url)s redirects to %(target)s. %(why)s")
                    % {"url": mask_url(ask.url), "target": mask_url(url), "why": error.message}
                ) from error
            if flow.status in ask.accept or (flow.status == 304 and ask.conditions):
                if pause := _exhausted_for(flow.headers):
                    await self.shared.hold(ask.budget, pause)
                return flow
            try:
                if flow.status not in _REDIRECTS or not flow.headers.get("location"):
                    raise await self._failure(ask, flow)
            finally:
                await flow.aclose()
            target = urljoin(url, flow.headers["location"])
            if ask.method not in _SAFE:
                raise Misconfigured(
                    _("%(url)s redirects to %(target)s. Use that address: what is sent cannot be redirected.")
                    % {"url": mask_url(url), "target": mask_url(target)}
                )
            url = target
        raise Misconfigured(
            _("%(url)s redirects more than %(count)d times, last to %(target)s.")
            % {"url": mask_url(ask.url), "count": self.limits.redirects, "target": mask_url(url)}
        )

    async def _send(self, ask: _Ask, url: str, sent_at: datetime) -> _Flow:
        headers = ask.headers_for(url)
        if ask.auth is None or not _same_origin(ask.origin, url):
            return await self._exchange(ask, url, sent_at, headers)
        flow = await self._exchange(ask, url, sent_at, headers | dict(await ask.auth(url, "")))
        if flow.status != 401:
            return flow
        challenge = flow.headers.get("www-authenticate", "")
        await flow.aclose()
        return await self._exchange(
            ask, url, sent_at, headers | dict(await ask.auth(url, challenge or "unknown"))
        )

    async def _exchange(self, ask: _Ask, url: str, sent_at: datetime, given: Mapping[str, str]) -> _Flow:
        target = self.policy.check_url(url)
        await self.slots.acquire()
        began = time.monotonic()
        outcome = "failed"
        try:
            async with self.timed(ask, url):
                headers = httpx.Headers(
                    {"User-Agent": user_agent(), "Accept": "*/*", "Accept-Encoding": "gzip"}
                )
                headers.update(given)
                request = httpx.Request(
                    ask.method, url, headers=headers, extensions={"timeout": self._timeout}, **ask.body
                )
                response = await self._transport.handle_async_request(request)
            outcome = str(response.status_code)
            return _Flow(self, ask, response, url, sent_at)
        except BaseException:
            self.slots.release()
            raise
        finally:
            REQUESTS.labels(target.host, ask.method, outcome).inc()
            SECONDS.labels(target.host).observe(time.monotonic() - began)

    async def _failure(self, ask: _Ask, flow: _Flow) -> SourceError:
        status = flow.status
        said = await flow.words()
        shown = {
            "url": mask_url(flow.url),
            "status": status,
            "said": (" " + _("It says: %(words)s") % {"words": said}) if said else "",
        }
        pause = _asked_pause(flow.headers)
        # Some hosts say "too many" with a 403.
        if status == 429 or (status == 403 and pause is not None) or (status >= 500 and pause is not None):
            if pause is None:
                return SourceUnavailable(_("%(url)s asks for fewer requests (%(status)d).%(said)s") % shown)
            await self.shared.hold(ask.budget, pause)
            return SourceUnavailable(
                _("%(url)s asks for a pause of %(seconds)d seconds (%(status)d).%(said)s")
                % {**shown, "seconds": math.ceil(pause)},
                retry_after=pause,
            )
        if status >= 500:
            return SourceUnavailable(_("%(url)s failed with status %(status)d.%(said)s") % shown)
        if status == 401:
            if not ask.has_credentials:
                return AuthFailed(_("%(url)s cannot be read without signing in (401).%(said)s") % shown)
            return AuthFailed(_("%(url)s refused the credentials (401).%(said)s") % shown)
        if status == 403:
            return AuthFailed(_("%(url)s: a permission is missing (403).%(said)s") % shown)
        if status in (404, 410):
            return NotThere(_("There is nothing at %(url)s (%(status)d).%(said)s") % shown)
        if status == 407:
            return Misconfigured(
                _("The proxy asks for credentials before it lets us through to %(url)s.") % shown
            )
        return BadPayload(_("%(url)s answered status %(status)d, which was not expected.%(said)s") % shown)


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text.strip()) else None


def _exhausted_for(headers: Mapping[str, str]) -> float | None:
    """Seconds until a used-up budget is refilled, by the tool's rate limit headers."""
    for prefix in ("x-ratelimit", "ratelimit"):
        reset = _number(headers.get(f"{prefix}-reset"))
        if reset is not None and _number(headers.get(f"{prefix}-remaining")) == 0:
            seconds = reset / 1000 if reset > 1e11 else reset
            return _bounded(seconds - time.time() if seconds > 1e9 else seconds)
    return None


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds for which the tool wants to be left alone, as far as it says."""
    text = headers.get("retry-after")
    if text is None:
        return _exhausted_for(headers)
    seconds = _number(text)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return _bounded(seconds)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), 3600.0)  # a wrong clock must not lock us out for days


@cache
def user_agent() -> str:
    """How we name ourselves to tools."""
    try:
        return f"Portico/{metadata.version('portico')}"
    except metadata.PackageNotFoundError:
        return "Portico"


class _Shared:
    """What workers share through Redis: pauses that tools asked for, and answers that may still be fresh.

    Nothing here is needed to go on, so a Redis that is empty, full or away is only noted. The store is bounded by
    its make: a fixed number of slots, each of bounded size, the newest answer taking the slot.
    """

    SLOTS = 4096
    SLOT_BYTES = 64 * 1024
    ANSWER_BYTES = 1024 * 1024
    LIFETIME = 24 * 3600
    REST = 30.0

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._holds: dict[str, float] = {}
        self._away_until = 0.0

    @classmethod
    def from_settings(cls) -> _Shared:
        retry = Retry(NoBackoff(), 0)
        return cls(
            Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, retry=retry)
        )

    async def aclose(self) -> None:
        if self._redis is not None:
            with suppress(RedisError, OSError):
                await self._redis.aclose()

    async def _try(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:
        if self._redis is None or time.monotonic() < self._away_until:
            return None
        try:
            return await command(self._redis)
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + self.REST
            logger.warning("Redis does not help outbound calls for now: %s", error)
            return None

    async def hold(self, budget: str, seconds: float) -> None:
        """Let everyone with this budget wait."""
        until = time.time() + seconds
        self._holds[budget] = max(until, self._holds.get(budget, 0.0))
        if seconds > 0:
            await self._try(
                lambda redis: redis.set(f"portico:http:hold:{budget}", until, px=math.ceil(seconds * 1000))
            )

    async def held_for(self, budget: str) -> float:
        """Seconds that those with this budget have yet to wait."""
        stored = await self._try(lambda redis: redis.get(f"portico:http:hold:{budget}"))
        until = max(self._holds.get(budget, 0.0), float(stored or 0))
        return max(0.0, until - time.time())

    @classmethod
    def _slot(cls, identity: str) -> str:
        return f"portico:http:answer:{int(identity[:8], 16) % cls.SLOTS}"

    async def remember(self, ask: _Ask, answer: Answer) -> None:
        """Keep an answer that can be asked for again with its ETag."""
        if (
            self._redis is None
            or answer.status != 200
            or not answer.headers.get("etag")
            or "no-store" in answer.headers.get("cache-control", "")
            or len(answer.body) > self.ANSWER_BYTES
        ):
            return
        head = orjson.dumps({"identity": ask.identity, "url": answer.url, "headers": answer.headers})
        packed = zlib.compress(head + b"\n" + answer.body, 1)
        if len(packed) <= self.SLOT_BYTES:
            await self._try(lambda redis: redis.set(self._slot(ask.identity), packed, ex=self.LIFETIME))

    async def recall(self, ask: _Ask) -> Answer | None:
        """The kept answer to this very question by this very asker."""
        packed = await self._try(lambda redis: redis.get(self._slot(ask.identity)))
        if not packed:
            return None
        try:
            head, body = zlib.decompress(packed).split(b"\n", 1)
            kept = orjson.loads(head)
            if kept["identity"] != ask.identity:
                return None
            return Answer(200, kept["headers"], body, kept["url"], datetime.now(UTC))
        except (ValueError, KeyError, TypeError, zlib.error):
            return None
