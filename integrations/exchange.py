"""One exchange with a tool over HTTP: what is asked, what comes back, and what goes wrong on the way.

`integrations.http` is the client that callers use; this is what its clients share.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import math
import random
import re
import time
import zlib
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Container, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib import metadata
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx2 as httpx
import orjson
from django.utils.translation import gettext as _
from prometheus_client import Counter, Histogram

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
    WithoutTls,
    says_expired,
    when_silent,
)
from integrations.http_store import KeptAnswer, SharedStore
from integrations.outbound import (
    GuardedTransport,
    OutboundPolicy,
    ProxyUnreachable,
    Route,
    mask_url,
)

REQUESTS = Counter("portico_outbound_requests", "Requests sent to tools.", ["host", "method", "outcome"])
SECONDS = Histogram("portico_outbound_seconds", "Time until a tool began to answer.", ["host"])
RETRIES = Counter("portico_outbound_retries", "Requests to tools that were tried again.", ["host"])

Authorize = Callable[[str, str], Awaitable[Mapping[str, str]]]
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
                    _("%(url)s answered a web page where JSON was expected. Is this the address of the API, "
                      "and may it be read without signing in on a page?") % shown
                ) from error  # fmt: skip
            raise BadPayload(_("%(url)s answered broken JSON: %(why)s") % {**shown, "why": error}) from error

    def value(self, *path: str, of: type[T] = object) -> T:  # type: ignore[assignment]
        """What stands in the body, JSON, under a name, or under names within each other; an empty one is nothing.

        :param of: what it has to be.
        :raises BadPayload: if there is no such thing: then something else answered.
        """
        found = self.json()
        for name in filter(None, path):
            if not isinstance(found, dict) or name not in found:
                raise self.other(".".join(path))
            found = found[name]
        if not isinstance(found, of):
            raise self.other(".".join(path))
        return found

    def row(self, *fields: str) -> dict[str, Any]:
        """The body as a JSON object.

        :raises BadPayload: if it is none, or lacks one of the fields: then something else answered.
        """
        said = self.value(of=dict)
        if missing := [name for name in fields if name not in said]:
            raise self.other(", ".join(missing))
        return said

    def rows(self, *path: str) -> list[Any]:
        """The list that the body is as JSON, or that stands in it at a path; an empty name is no step of it.

        :raises BadPayload: if there is none.
        """
        return self.value(*filter(None, path), of=list)

    def other(self, missing: str = "") -> BadPayload:
        """What to raise where the tool itself cannot have said this."""
        shown = {"url": mask_url(self.url), "name": missing}
        if missing:
            return BadPayload(
                _("%(url)s answered JSON without “%(name)s”. Is this the address of the API?") % shown
            )
        return BadPayload(_("%(url)s answered JSON of another form. Is this the address of the API?") % shown)

    def link(self, rel: str) -> str | None:
        """The target of the `Link` header with this relation, made absolute.

        :raises BadPayload: if it is no address: without it a list would look whole.
        """
        for target, parameters in re.findall(r"<([^>]*)>([^<]*)", self.headers.get("link", "")):
            found = re.search(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))", parameters, re.IGNORECASE)
            if found and rel in (found[1] or found[2]).lower().split():
                try:
                    return urljoin(self.url, target)
                except ValueError as error:
                    raise BadPayload(
                        _("%(url)s links to an address that cannot be understood: %(why)s.")
                        % {"url": mask_url(self.url), "why": error}
                    ) from error
        return None


SAFE = ("GET", "HEAD")
_TOO_MANY = re.compile(r"rate limit|abuse detection", re.IGNORECASE)
_REDIRECTS = (301, 302, 303, 307, 308)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL in one spelling."""
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def same_origin(origin: str, url: str) -> bool:
    """Whether what is meant for `origin` may go to `url`: the same server, or its move from HTTP to HTTPS."""
    other = origin_of(url)
    return origin == other or (origin.startswith("http:") and other == origin.replace("http:", "https:", 1))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass
class Ask:
    """One call: what is asked, what may be sent where, and how much time it has used.

    :ivar origin_headers: the connection's own, for `origin` alone.
    :ivar headers: the call's own, for the origin of `url` alone.
    :ivar sent: the headers that were sent so far: what the tool may have echoed.
    """

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
    sent: dict[str, str] = field(default_factory=dict)

    def headers_for(self, url: str) -> dict[str, str]:
        """The headers that may be sent to `url`, the first address or one that it redirects to."""
        found: dict[str, str] = {}
        if self.origin and same_origin(self.origin, url):
            found |= self.origin_headers
        if same_origin(origin_of(self.url), url):
            found |= self.headers | self.conditions
        else:
            found |= {name: value for name, value in self.headers.items() if name.lower() == "accept"}
        return found

    @property
    def has_credentials(self) -> bool:
        return bool(self.auth or self.origin_headers or self.headers.keys() - {"Accept", "Content-Type"})

    @property
    def wants_no_page(self) -> bool:
        """Whether a page for people is no answer: a tool's API was asked, or JSON."""
        accepted = self.headers.get("Accept", "")
        return "json" in accepted or (not accepted and bool(self.origin))

    @property
    def is_storable(self) -> bool:
        given = {name.lower() for name in self.headers}
        asks_itself = "if-none-match" in given
        return self.method == "GET" and self.auth is None and 200 in self.accept and not asks_itself

    @property
    def identity(self) -> str:
        """Tells apart what is asked by whom: an answer is never shared across credentials."""
        return _digest(self.url, self.origin_headers, self.headers)

    @property
    def budget(self) -> str:
        """Tells apart whose requests a tool counts together."""
        return _digest(origin_of(self.url), self.origin_headers)

    def mask(self, text: str) -> str:
        """Text of the tool's, without the credentials that it may have echoed."""
        for name, value in self.sent.items():
            if name.lower() in {"accept", "content-type", "if-none-match"}:
                continue
            secrets = {value, *value.split()}
            if value.startswith("Basic "):
                with suppress(ValueError):
                    secrets |= set(b64decode(value[6:], validate=True).decode().split(":", 1))
            for secret in sorted(secrets, key=len, reverse=True):
                if len(secret) >= 6:
                    text = text.replace(secret, "***")
        return mask_url(text)


class Flow:
    """An accepted answer whose body has not been read yet."""

    def __init__(self, wire: Wire, ask: Ask, response: httpx.Response, url: str, sent_at: datetime) -> None:
        self.ask = ask
        self.url = url
        self.sent_at = sent_at
        self.status = response.status_code
        self.headers = dict(response.headers)
        self._wire = wire
        self._response = response
        self._has_slot = True

    def release_slot(self) -> None:
        """Let another request have this one's place."""
        if self._has_slot:
            self._has_slot = False
            self._wire.slots.release()

    async def aclose(self) -> None:
        self.release_slot()
        with suppress(httpx.HTTPError, OSError):
            await self._response.aclose()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The decoded body in pieces of bounded size.

        :raises SourceUnavailable: if it is cut off, or takes too long.
        """
        if self._response.is_stream_consumed:  # a recorded answer
            yield self._response.content
            return
        inflate = self._decoder()
        async with aclosing(self._response.aiter_raw()) as raw:
            while True:
                async with self._wire.timed(self.ask, self.url):
                    piece = await anext(raw, None)
                if piece is None:
                    break
                try:
                    for decoded in inflate.feed(piece) if inflate else (piece,):
                        yield decoded
                except zlib.error as error:
                    raise BadPayload(
                        _("%(url)s answered a body that cannot be decompressed.")
                        % {"url": mask_url(self.url)}
                    ) from error
        if inflate is not None and inflate.is_unfinished:
            raise SourceUnavailable(
                _("%(url)s broke off in the middle of its answer.") % {"url": mask_url(self.url)}
            )

    def _decoder(self) -> Inflate | None:
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding in {"", "identity"}:
            return None
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise BadPayload(
                _("%(url)s answered in the encoding “%(coding)s”, which was not asked for.")
                % {"url": mask_url(self.url), "coding": coding}
            )
        return Inflate()

    async def read(self, limit: int) -> bytes:
        """:raises BadPayload: if the body is larger than `limit`."""
        declared = self.headers.get("content-length", "")
        is_too_large = self.ask.method != "HEAD" and declared.isdecimal() and int(declared) > limit
        body = bytearray()
        async with aclosing(self.chunks()) as chunks:
            while not is_too_large and (chunk := await anext(chunks, None)) is not None:
                body += chunk
                is_too_large = len(body) > limit
        if is_too_large:
            raise BadPayload(
                _("%(url)s answered more than %(limit)s.")
                % {"url": mask_url(self.url), "limit": readable_size(limit)}
            )
        return bytes(body)

    async def words(self) -> str:
        """What a failed answer says, for people: at most 300 characters, no markup, no secret."""
        body = bytearray()
        with suppress(SourceError):
            async with aclosing(self.chunks()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > 65_536:
                        break
        text = self._message_in(bytes(body))
        text = re.sub(r"(?is)<(script|style|head)\b.*?</\1\s*>|<[^>]*>", " ", text)
        text = " ".join(self.ask.mask(html.unescape(text)).split())
        return text if len(text) <= 300 else text[:299] + "…"

    @staticmethod
    def _message_in(body: bytes) -> str:
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


class Inflate:
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


class Wire:
    """What all clients made from one share: connections, guard, limits, and the store of all workers."""

    def __init__(
        self,
        *,
        policy: OutboundPolicy,
        limits: HttpLimits,
        store: SharedStore,
        transport: httpx.AsyncBaseTransport | None,
        route: Route | None = None,
    ) -> None:
        self.policy = policy
        self.route = route or Route()
        self.limits = limits
        self.store = store
        self.slots = asyncio.Semaphore(limits.concurrency)
        self._transport = transport or GuardedTransport(
            policy,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=limits.concurrency),
            route=self.route,
        )
        self._timeout = httpx.Timeout(limits.read, connect=limits.connect, pool=None).as_dict()

    async def aclose(self) -> None:
        await self._transport.aclose()
        await self.store.aclose()

    @asynccontextmanager
    async def timed(self, ask: Ask, url: str) -> AsyncIterator[None]:
        """Count the time spent waiting for the tool, end it when it is used up, and name what went wrong."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, ask.total - ask.spent)):
                yield
        except (TimeoutError, httpx.TransportError, UnicodeEncodeError) as error:
            raise self._meaning(error, ask, url) from error
        finally:
            ask.spent += time.monotonic() - began

    def _meaning(self, error: Exception, ask: Ask, url: str) -> SourceError:
        """What a failure of the transport means for the person who looks after the connection."""
        shown = {"url": mask_url(url), "why": (ask.mask(str(error)) or type(error).__name__).rstrip(".")}
        if isinstance(error, TimeoutError):
            ask.retry = False  # the time is used up
            return Silent(
                _("%(url)s did not answer completely within %(seconds)d seconds. %(advice)s")
                % {**shown, "seconds": ask.total, "advice": when_silent(self.route.proxy)}
            )
        if isinstance(error, httpx.TimeoutException):
            is_connecting = isinstance(error, httpx.ConnectTimeout)
            seconds = self.limits.connect if is_connecting else self.limits.read
            return Silent(
                _("%(url)s did not answer within %(seconds)d seconds. %(advice)s")
                % {**shown, "seconds": seconds, "advice": when_silent(self.route.proxy)}
            )
        if isinstance(error, httpx.LocalProtocolError | UnicodeEncodeError):
            return Misconfigured(
                _("The request to %(url)s cannot be sent: a credential or header holds characters that HTTP "
                  "does not allow, such as a line break.") % shown
            )  # fmt: skip
        if isinstance(error, ProxyUnreachable):
            return NoWayThrough(
                _("The proxy %(why)s cannot be reached, so %(url)s cannot be either. Correct its address under "
                  "Network in the settings of the connection, or in HTTPS_PROXY if it is the server's own.")
                % {**shown, "why": error}
            )  # fmt: skip
        if isinstance(error, httpx.ProxyError) and shown["why"].startswith("407"):
            return _locked_proxy(shown)
        if isinstance(error, httpx.ProxyError):
            return NoWayThrough(_("The proxy did not let us through to %(url)s: %(why)s.") % shown)
        if "CERTIFICATE_VERIFY_FAILED" in shown["why"]:
            return Untrusted(
                _("The certificate of %(url)s is not trusted: %(why)s. Paste the certificate of your authority "
                  "under Network in the settings of the connection, or name its file in SSL_CERT_FILE.") % shown
            )  # fmt: skip
        if "[SSL" in shown["why"] and "EOF" not in shown["why"]:
            return WithoutTls(_("%(url)s does not speak TLS as expected: %(why)s.") % shown)
        if isinstance(error, httpx.ConnectError):
            return SourceUnavailable(_("%(url)s cannot be reached: %(why)s.") % shown)
        return SourceUnavailable(_("%(url)s broke off in the middle of its answer: %(why)s.") % shown)

    async def attempt(self, ask: Ask, do: Callable[[Ask], Awaitable[T]]) -> T:
        """Wait for our turn and do it; after a failure that may pass, do it again."""
        number = 0
        while True:
            number += 1
            try:
                await self._wait_turn(ask)
                return await do(ask)
            except SourceUnavailable as error:
                asked = error.retry_after
                pause = self.limits.backoff * 2 ** (number - 1) if asked is None else asked
                if not ask.retry or number >= self.limits.attempts or pause > self.limits.patience:
                    raise
            RETRIES.labels(httpx.URL(ask.url).host).inc()
            await asyncio.sleep(pause + random.uniform(0, pause / 2))  # noqa: S311 - spreads load

    async def _wait_turn(self, ask: Ask) -> None:
        pause = await self.store.held_for(ask.budget)
        if pause > self.limits.patience:
            raise SourceUnavailable(
                _("%(host)s asked for a pause, of which %(seconds)d seconds are left.")
                % {"host": httpx.URL(ask.url).host, "seconds": pause},
                retry_after=pause,
            )
        if pause:
            await asyncio.sleep(pause + random.uniform(0, 0.2))  # noqa: S311

    async def fetch(self, ask: Ask) -> Answer:
        """Once: the complete answer, from the store if the tool says that it is unchanged."""
        identity = self._identity(ask)
        kept = await self.store.recall(identity) if ask.is_storable else None
        ask.conditions = {"If-None-Match": kept.headers["etag"]} if kept else {}
        flow = await self.open(ask)
        try:
            body = await flow.read(self.limits.body)
        finally:
            await flow.aclose()
        if kept and flow.status == 304:
            newer = {name: value for name, value in flow.headers.items() if not name.startswith("content-")}
            return Answer(200, {**kept.headers, **newer}, kept.body, kept.url, flow.sent_at)
        if ask.is_storable and flow.status == 200:
            await self.store.remember(identity, KeptAnswer(flow.url, flow.headers, body))
        return Answer(flow.status, flow.headers, body, flow.url, flow.sent_at)

    def _identity(self, ask: Ask) -> str:
        """An answer that came another way, or was vouched for by others, is not the same answer."""
        if self.route == Route():
            return ask.identity
        return _digest(ask.identity, self.route.authorities, self.route.proxy)

    async def open(self, ask: Ask) -> Flow:
        """Once: follow redirects up to an accepted answer, or raise what the status means."""
        url = ask.url
        sent_at = datetime.now(UTC)
        for _hop in range(self.limits.redirects + 1):
            try:
                flow = await self._send(ask, url, sent_at)
            except (Misconfigured, SourceUnavailable) as error:
                if url == ask.url:
                    raise
                # The person knows the first address only.
                raise type(error)(
                    _("%(url)s redirects to %(target)s. %(why)s")
                    % {"url": mask_url(ask.url), "target": mask_url(url), "why": error.message}
                ) from error
            if flow.status in ask.accept or (flow.status == 304 and ask.conditions):
                if url != ask.url and ask.wants_no_page and "html" in flow.headers.get("content-type", ""):
                    await flow.aclose()
                    raise Misconfigured(
                        _("%(url)s redirects to %(target)s, a web page, as for signing in. Give the address of the "
                          "API, and credentials that it takes.")
                        % {"url": mask_url(ask.url), "target": mask_url(url)}
                    )  # fmt: skip
                if pause := _exhausted_for(flow.headers):
                    await self.store.hold(ask.budget, pause)
                return flow
            try:
                if flow.status not in _REDIRECTS or not flow.headers.get("location"):
                    raise await self._failure(ask, flow)
            finally:
                await flow.aclose()
            try:
                target = urljoin(url, flow.headers["location"])
            except ValueError as error:
                raise Misconfigured(
                    _("%(url)s redirects to an address that cannot be understood: %(why)s.")
                    % {"url": mask_url(url), "why": error}
                ) from error
            if ask.method not in SAFE:
                raise Misconfigured(
                    _("%(url)s redirects to %(target)s. Use that address: what is sent cannot be redirected.")
                    % {"url": mask_url(url), "target": mask_url(target)}
                )
            url = target
        raise Misconfigured(
            _("%(url)s redirects more than %(count)d times, last to %(target)s.")
            % {"url": mask_url(ask.url), "count": self.limits.redirects, "target": mask_url(url)}
        )

    async def _send(self, ask: Ask, url: str, sent_at: datetime) -> Flow:
        headers = ask.headers_for(url)
        if ask.auth is None or not same_origin(ask.origin, url):
            return await self._exchange(ask, url, sent_at, headers)
        flow = await self._exchange(ask, url, sent_at, headers | dict(await ask.auth(url, "")))
        if flow.status != 401:
            return flow
        await flow.aclose()
        challenge = flow.headers.get("www-authenticate") or "unknown"
        return await self._exchange(ask, url, sent_at, headers | dict(await ask.auth(url, challenge)))

    async def _exchange(self, ask: Ask, url: str, sent_at: datetime, given: Mapping[str, str]) -> Flow:
        target = self.policy.check_url(url)
        ask.sent |= given
        await self.slots.acquire()
        began = time.monotonic()
        outcome = "failed"
        try:
            async with self.timed(ask, url):
                headers = httpx.Headers(
                    {"User-Agent": user_agent(), "Accept": "*/*", "Accept-Encoding": "gzip"}
                )
                headers.update(given)
                more = {"timeout": self._timeout}
                request = httpx.Request(ask.method, url, headers=headers, extensions=more, **ask.body)
                response = await self._transport.handle_async_request(request)
            outcome = str(response.status_code)
            return Flow(self, ask, response, url, sent_at)
        except BaseException:
            self.slots.release()
            raise
        finally:
            REQUESTS.labels(target.host, ask.method, outcome).inc()
            SECONDS.labels(target.host).observe(time.monotonic() - began)

    async def _failure(self, ask: Ask, flow: Flow) -> SourceError:
        status = flow.status
        said = await flow.words()
        shown = {
            "url": mask_url(flow.url),
            "status": status,
            "said": (" " + _("It says: %(words)s") % {"words": said}) if said else "",
        }
        pause = _asked_pause(flow.headers)
        if pause is None and status in (403, 429) and _TOO_MANY.search(said):
            pause = 60.0  # GitHub's second limit says no more than that, and asks for a minute at least
        # Some hosts say "too many" with a 403.
        if status == 429 or (status == 403 and pause is not None) or (status >= 500 and pause is not None):
            if pause is None:
                return SourceUnavailable(_("%(url)s asks for fewer requests (%(status)d).%(said)s") % shown)
            await self.store.hold(ask.budget, pause)
            return SourceUnavailable(
                _("%(url)s asks for a pause of %(seconds)d seconds (%(status)d).%(said)s")
                % {**shown, "seconds": math.ceil(pause)},
                retry_after=pause,
            )
        if status >= 500:
            return SourceUnavailable(_("%(url)s failed with status %(status)d.%(said)s") % shown)
        if (
            status in (401, 403, 404)
            and ask.has_credentials
            and not same_origin(origin_of(ask.url), flow.url)
        ):
            return Misconfigured(
                _("%(asked)s redirects to %(url)s, another server, which is sent no credentials and answers "
                  "%(status)d. Give the address of the server that is meant.%(said)s")
                % {**shown, "asked": mask_url(ask.url)}
            )  # fmt: skip
        if status == 401:
            if not ask.has_credentials:
                advice = _("Give credentials in the settings of the connection.") if ask.origin else ""
                return AuthFailed(
                    _("%(url)s cannot be read without signing in (401).%(advice)s%(said)s")
                    % {**shown, "advice": f" {advice}" if advice else ""}
                )
            if says_expired(f"{said}\n{flow.headers.get('www-authenticate', '')}"):
                return AuthFailed(
                    _("%(url)s says that the credentials have expired (401). Make new ones there, and put them into "
                      "the settings of the connection.%(said)s") % shown
                )  # fmt: skip
            return AuthFailed(
                _("%(url)s refused the credentials (401). Replace them in the settings of the connection; they may "
                  "be mistyped, revoked, or another server's.%(said)s") % shown
            )  # fmt: skip
        if status == 403:
            needed = _needed_scopes(flow.headers)
            return AuthFailed(
                _(
                    "%(url)s: a permission is missing (403)%(needed)s. Give it to the token or its user there.%(said)s"
                )
                % {**shown, "needed": f": {needed}" if needed else ""}
            )
        if status in (404, 410):
            return NotThere(_("There is nothing at %(url)s (%(status)d).%(said)s") % shown)
        if status == 407:
            return _locked_proxy(shown)
        return BadPayload(_("%(url)s answered status %(status)d, which was not expected.%(said)s") % shown)


def _locked_proxy(shown: Mapping[str, Any]) -> Misconfigured:
    return LockedProxy(
        _("The proxy asks for credentials before it lets us through to %(url)s. Give its user and password under "
          "Network in the settings of the connection.") % shown
    )  # fmt: skip


def _needed_scopes(headers: Mapping[str, str]) -> str:
    """What a tool says that it takes: RFC 6750, or GitHub's own header."""
    challenge = re.search(r"\bscope=\"([^\"]{1,200})\"", headers.get("www-authenticate", ""))
    found = challenge[1] if challenge else headers.get("x-accepted-oauth-scopes", "")
    return ", ".join(re.findall(r"[\w:./-]+", found))[:200]


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
