"""The one HTTP client: connectors are handed it, and nobody builds another.

It keeps what every caller would otherwise have to remember: the outbound guard, limits of time and size,
retries, pauses that a tool asks for (kept by all workers, through Redis), conditional requests, pages, and
errors that name who has to act. What it returns is complete: a cut or truncated answer is an error, never a
short success.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Mapping
from contextlib import aclosing
from typing import Any, Self
from urllib.parse import urljoin

import httpx2 as httpx
import orjson
from django.utils.translation import gettext as _
from pydantic import HttpUrl, SecretStr
from redis.asyncio import Redis

from integrations.errors import BadPayload, Misconfigured
from integrations.exchange import SAFE, Answer, Ask, Authorize, HttpLimits, Wire, origin_of, same_origin
from integrations.files import LineCutter
from integrations.http_store import SharedStore
from integrations.outbound import OutboundPolicy, Route, mask_url

__all__ = ["Answer", "Authorize", "HttpClient", "HttpLimits", "NextPage"]

NextPage = Callable[[Answer], str | None]
_JSON = {"Accept": "application/json"}


def _plain(secret: str | SecretStr | None) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret or ""


class HttpClient:
    """Asks tools over HTTP, under the guard. Use it within one event loop and close it there.

    A client made by `at` has a base address and credentials, and shares all else with the one it came from.

    :param policy: where it may go; the settings' by default.
    :param redis: the store that workers share; the settings' by default. It only saves work: without it, all
        goes on.
    :param transport: answers instead of the network, for tests with recorded answers.
    :param route: a connection's own proxy and authorities.
    """

    def __init__(
        self,
        *,
        policy: OutboundPolicy | None = None,
        limits: HttpLimits | None = None,
        redis: Redis | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        route: Route | None = None,
    ) -> None:
        # Recorded answers are nobody else's business.
        store = SharedStore(redis) if redis or transport else SharedStore.from_settings()
        self._wire = Wire(
            policy=policy or OutboundPolicy.from_settings(),
            limits=limits or HttpLimits(),
            store=store,
            transport=transport,
            route=route,
        )
        self._base = ""
        self._origin = ""
        self._headers: dict[str, str] = {}
        self._auth: Authorize | None = None

    @staticmethod
    def basic(user: str, password: str | SecretStr | None) -> dict[str, str]:
        """The header of HTTP Basic authentication, for `at(headers=...)`; none without a user."""
        given = f"{user}:{_plain(password)}".encode()
        return {"Authorization": "Basic " + b64encode(given).decode()} if user else {}

    @staticmethod
    def bearer(token: str | SecretStr | None) -> dict[str, str]:
        """The header of a bearer token, for `at(headers=...)`; none without one."""
        return {"Authorization": f"Bearer {_plain(token)}"} if token else {}

    @property
    def address(self) -> str:
        """The address at which relative paths start, without a slash at its end."""
        return self._base[:-1]

    def at(
        self,
        base_url: str | HttpUrl,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Authorize | None = None,
    ) -> HttpClient:
        """A client for one tool: relative paths start at `base_url`.

        :param headers: sent with each request to that origin and to no other, whatever redirects say.
        :param auth: `await auth(url, challenge)` gives further headers. It is asked before each request with
            an empty challenge, and once more with the `WWW-Authenticate` header of a 401.
        :raises Misconfigured: if `base_url` is no web address.
        """
        base_url = str(base_url)
        self._wire.policy.check_url(base_url)
        client = object.__new__(HttpClient)
        client._wire = self._wire
        client._base = base_url.rstrip("/") + "/"
        client._origin = origin_of(base_url)
        client._headers = dict(headers or {})
        client._auth = auth
        return client

    async def judge(self, url: str) -> None:
        """Refuse an address that may not be read, whatever is there; nobody is contacted.

        :raises Misconfigured: if it is none, or the guard refuses it.
        :raises SourceUnavailable: if its host has no address at present.
        """
        target = self._wire.policy.check_url(url)
        await self._wire.policy.resolve(target.host, target.port)

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
        answer = await self.get(path, params=params, headers=_JSON | dict(headers or {}))
        return answer.json()

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

        :param next: from a page to the address of the next one, as a link in that page (URL, `/path` or
            `?query`), or None at the end; by default the `Link` header with `rel=next`.
        :raises BadPayload: if a page comes twice or there are too many; both would never end.
        """
        headers = _JSON | dict(headers or {})
        first = address = self._url(path, params)
        seen: set[str | bytes] = set()
        for _page in range(self._wire.limits.pages):
            answer = await self.get(address, headers=headers)
            # A tool that ignores its own page parameter answers the first page for ever.
            marks: set[str | bytes] = {address, hashlib.sha256(answer.body).digest()}
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
            try:
                address = urljoin(answer.url, following)
            except ValueError as error:
                raise BadPayload(
                    _("%(url)s names a next page whose address cannot be understood: %(why)s.")
                    % {"url": mask_url(answer.url), "why": error}
                ) from error
            if self._origin and not same_origin(self._origin, address):
                raise Misconfigured(
                    _("%(url)s says that its next page is at %(next)s, another server. Use the address by "
                      "which the tool knows itself, or correct the tool's own setting.")
                    % {"url": mask_url(answer.url), "next": mask_url(address)}
                )  # fmt: skip
        raise BadPayload(
            _("%(url)s has more than %(count)d pages.")
            % {"url": mask_url(first), "count": self._wire.limits.pages}
        )

    async def stream_lines(
        self, path: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[bytes]:
        """The lines of an answer of any length as they come, blank ones too, without their ends.

        A failure before the first byte is tried again; a later one is raised after the lines that came whole.

        :raises BadPayload: if a line is too long. Else as `request`.
        """
        ask = self._ask("GET", path, params, headers, total=self._wire.limits.stream_total)
        flow = await self._wire.attempt(ask, self._wire.open)
        flow.release_slot()  # a stream lasts as long as its reader does; others need not wait for it
        cutter = LineCutter(mask_url(flow.url), limit=self._wire.limits.line)
        try:
            async with aclosing(flow.chunks()) as chunks:
                async for chunk in chunks:
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
            url = self._base + path.lstrip("/") if path else self.address
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
    ) -> Ask:
        url = self._url(path, params)
        self._wire.policy.check_url(url)
        method = method.upper()
        body: dict[str, Any] = {}
        if json is not None:
            body = {"content": orjson.dumps(json)}
            headers = {"Content-Type": "application/json"} | dict(headers or {})
        elif data is not None:
            body = {"content": data} if isinstance(data, bytes) else {"data": dict(data)}
        return Ask(
            method=method,
            url=url,
            origin=self._origin,
            origin_headers=self._headers,
            headers=dict(headers or {}),
            auth=self._auth,
            body=body,
            accept=accept,
            retry=method in SAFE if retry is None else retry,
            total=total or self._wire.limits.total,
        )
