"""The guard on every way out of the house: which addresses we may speak to, and that it is those we use.

A name is resolved once, its addresses are judged, and the connection is made to an address that passed: there
is no second look-up that could answer otherwise. Public addresses are allowed; loopback and private ones only
where `PORTICO_OUTBOUND_ALLOW` names the host, the address or its network, or an administrator allowed the host in
the browser; link-local and cloud metadata addresses never.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Self

import httpcore2
import httpx2 as httpx
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base.logs import mask_secrets
from integrations.errors import Misconfigured, SourceUnavailable

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[list[str]]]

RESOLVE_TIMEOUT = 10.0
UNKNOWN_FOR = 60.0  # seconds for which a name that only a proxy knows is not looked up again


class OutboundRefused(Misconfigured):
    """The guard does not let us speak to this address. The sentence says what would allow it, if anything can."""

    code = "outbound-refused"
    status = 403
    remedy = gettext_lazy("Correct the address, or have an administrator allow the host.")


class NeverAllowed(OutboundRefused):
    """No setting lets us speak to this address."""

    remedy = gettext_lazy("Correct the address: nobody can allow this one.")


@dataclass(frozen=True)
class Target:
    """Where a URL leads: the parts that the guard has judged."""

    scheme: str
    host: str
    port: int


def _networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


# Not even a setting opens these: what answers there hands out the machine's own credentials.
_NEVER: tuple[tuple[tuple[IPNetwork, ...], _StrOrPromise], ...] = (
    (
        _networks(
            "169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "192.0.0.192/32",
            "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128",
        ),
        gettext_lazy("a cloud metadata address"),
    ),
    (_networks("169.254.0.0/16", "fe80::/10"), gettext_lazy("a link-local address")),
    (_networks("224.0.0.0/4", "255.255.255.255/32", "ff00::/8"), gettext_lazy("a multicast address")),
)  # fmt: skip
_NEVER_NAMES = {"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"}
_OWN: tuple[tuple[tuple[IPNetwork, ...], _StrOrPromise], ...] = (
    (_networks("127.0.0.0/8", "::1/128"), gettext_lazy("a loopback address")),
    (_networks("0.0.0.0/8", "::/128"), gettext_lazy("an unspecified address")),
)
_INSIDE: tuple[tuple[tuple[IPNetwork, ...], _StrOrPromise], ...] = (
    (
        _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
        gettext_lazy("a private address"),
    ),
    (_networks("100.64.0.0/10"), gettext_lazy("a carrier's shared address")),
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_TUNNELS = _networks("2002::/16", "2001::/32", "::/96", "64:ff9b:1::/48")


@dataclass(frozen=True)
class Verdict:
    """Why an address is not open to all.

    :ivar what: the kind of address, for people.
    :ivar final: no setting can allow it.
    :ivar is_own: it is this machine itself, where more listens than the tool that is meant.
    """

    what: _StrOrPromise
    final: bool = False
    is_own: bool = False


def judge(ip: IPAddress) -> Verdict | None:
    """Say why an address is not a public one, or None if it is.

    An IPv6 address that carries an IPv4 one is judged by what it carries.
    """
    if isinstance(ip, IPv6Address):
        if carried := ip.ipv4_mapped:
            return judge(carried)
        if ip in _NAT64:
            return judge(IPv4Address(int(ip) & 0xFFFFFFFF))
    for networks, what in _NEVER:
        if any(ip in network for network in networks):
            return Verdict(what, final=True)
    for networks, what in _OWN:
        if any(ip in network for network in networks):
            return Verdict(what, is_own=True)
    for networks, what in _INSIDE:
        if any(ip in network for network in networks):
            return Verdict(what)
    if isinstance(ip, IPv6Address) and any(ip in network for network in _TUNNELS):
        carried = ip.sixtofour or (ip.teredo[1] if ip.teredo else IPv4Address(int(ip) & 0xFFFFFFFF))
        inner = judge(carried) or Verdict("")
        return Verdict(gettext_lazy("a tunnel's address"), final=inner.final, is_own=inner.is_own)
    if not ip.is_global or (isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST):
        return Verdict(gettext_lazy("a reserved address"))
    return None


@dataclass(frozen=True)
class _Rule:
    """One word of the allow list: a name (also `*.corp.example`), an address or a network; perhaps a port."""

    name: str = ""
    network: IPNetwork | None = None
    port: int | None = None

    @classmethod
    def parse(cls, word: str) -> _Rule:
        host, port = word.strip().lower().rstrip("."), None
        if match := re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]/]+):(\d{1,5})", host):
            host, port = match[1], int(match[2])
        host = host.strip("[]")
        try:
            return cls(network=ip_network(host, strict=False), port=port)
        except ValueError:
            pass
        if not re.fullmatch(r"(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?", host):
            raise Misconfigured(
                _("“%(word)s” is no host. Expected a host name, an address, a network such as 10.0.0.0/8, or "
                  "host:port.") % {"word": word}
            )  # fmt: skip
        return cls(name=host, port=port)

    def allows(self, host: str, port: int, ip: IPAddress) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            carried = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
            return ip in self.network or (carried is not None and carried in self.network)
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return host == self.name


def host_of(word: str) -> tuple[str, int | None]:
    """The one host of a word of the allow list, and its port if it names one. A web address stands for its host.

    :raises Misconfigured: if it is another form, such as a network.
    """
    rule = _Rule.parse(re.sub(r"^[a-z][a-z0-9+.-]*://([^/?#]*).*", r"\1", word.strip(), flags=re.IGNORECASE))
    if rule.network is not None and rule.network.num_addresses == 1:
        return str(rule.network.network_address), rule.port
    if rule.network is not None or rule.name.startswith("*."):
        raise Misconfigured(_("“%(word)s” is more than one host. Name one, or its address.") % {"word": word})
    return rule.name, rule.port


async def system_resolver(host: str, port: int) -> list[str]:
    """All addresses of a name, by the machine's own resolver, in its order of preference."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class OutboundPolicy:
    """Which hosts outbound calls may reach.

    :param allow: host names (also `*.corp.example`), addresses, networks or `host:port` that may be reached
        besides public addresses.
    :param hosts: what was allowed in the browser. A name there opens this machine itself only with a port.
    :param resolver: how names become addresses.
    :ivar refusals: what was refused and can be allowed: by the word that allows it, what is the matter with it.
    :raises Misconfigured: for a word that is none of these.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        *,
        hosts: Iterable[str] = (),
        resolver: Resolver = system_resolver,
    ) -> None:
        try:
            self._rules = [_Rule.parse(word) for word in allow]
        except Misconfigured as error:
            raise Misconfigured(f"PORTICO_OUTBOUND_ALLOW: {error.message}") from error
        self._hosts = [_Rule.parse(word) for word in hosts]
        self._resolver = resolver
        self.refusals: dict[str, str] = {}

    @classmethod
    def from_settings(cls) -> Self:
        return cls(settings.PORTICO_OUTBOUND_ALLOW)

    def check_url(self, url: str, *, schemes: tuple[str, ...] = ("http", "https")) -> Target:
        """Judge what can be judged of a URL without asking for its addresses.

        :raises Misconfigured: if it is no URL of these schemes, or holds credentials.
        :raises OutboundRefused: if its host is a forbidden address.
        """
        if re.search(r"[\x00-\x20\x7f\\]", url):
            raise Misconfigured(
                _("The address %(url)s holds blanks, a backslash or control characters.")
                % {"url": mask_url(url)}
            )
        try:
            parsed = httpx.URL(url)
            port = parsed.port or _PORTS.get(parsed.scheme, 0)
            if port > 65_535:
                raise ValueError(_("a port has at most the number 65535"))
        except (httpx.InvalidURL, ValueError) as error:
            raise Misconfigured(
                _("%(url)s is not a web address: %(why)s") % {"url": mask_url(url), "why": error}
            ) from error
        if parsed.scheme not in schemes:
            raise Misconfigured(
                _("%(url)s cannot be fetched. Expected an address that begins with %(schemes)s.")
                % {"url": mask_url(url), "schemes": ", ".join(f"{scheme}://" for scheme in schemes)}
            )
        host = parsed.raw_host.decode("ascii").lower().rstrip(".")
        if not host:
            raise Misconfigured(_("The address %(url)s names no host.") % {"url": mask_url(url)})
        # A login name belongs to an SSH address; elsewhere it is a secret, or hides the true host.
        if parsed.userinfo and (parsed.scheme != "ssh" or b":" in parsed.userinfo):
            raise Misconfigured(
                _("The address %(url)s holds a name or password. Put credentials into the fields made for "
                  "them.") % {"url": mask_url(url)}
            )  # fmt: skip
        ip = _literal(host)
        if ip is not None:
            self._permitted(host, port, [ip])
        elif host in _NEVER_NAMES:
            raise NeverAllowed(
                _("%(host)s is a cloud's metadata service, which may never be reached.") % {"host": host}
            )
        # Resolvers take 127.1, 0x7f.1 and 2130706433 for loopback; nobody writes a true address so.
        elif not re.fullmatch(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?", host) or re.fullmatch(
            r"(.*\.)?(\d+|0x[0-9a-f]*)", host
        ):
            raise Misconfigured(
                _("“%(host)s” is no host name. Write a name, or an address in full: 192.0.2.1 or "
                  "[2001:db8::1].") % {"host": host}
            )  # fmt: skip
        return Target(parsed.scheme, host, port)

    async def resolve(self, host: str, port: int) -> list[IPAddress]:
        """The addresses that may be used for a host: those, and no others, are to be connected to.

        :raises OutboundRefused: if none of its addresses may be reached.
        :raises SourceUnavailable: if the name has no address at present.
        """
        host = host.lower().rstrip(".").strip("[]")
        literal = _literal(host)
        if literal is not None:
            return self._permitted(host, port, [literal])
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                texts = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
            raise NameNotFound(
                _("The name %(host)s could not be looked up. Check the address, and the name service of this "
                  "machine; if only a proxy knows the name, give the proxy under Network in the settings of the "
                  "connection.") % {"host": host}
            ) from error  # fmt: skip
        return self._permitted(host, port, [ip_address(text) for text in texts])

    def _permitted(self, host: str, port: int, addresses: list[IPAddress]) -> list[IPAddress]:
        refused: tuple[IPAddress, Verdict] | None = None
        permitted = []
        for ip in addresses:
            verdict = judge(ip)
            if verdict and (verdict.final or not self._is_allowed(host, port, ip, verdict)):
                refused = refused or (ip, verdict)
            else:
                permitted.append(ip)
        if permitted:
            return permitted
        if refused is None:
            raise NameNotFound(_("The name %(host)s has no address.") % {"host": host})
        ip, verdict = refused
        words: dict[str, Any] = {"host": host, "ip": ip, "what": verdict.what}
        subject = (
            _("%(ip)s is %(what)s") if _literal(host) == ip else _("%(host)s is %(ip)s, %(what)s")
        ) % words
        if verdict.final:
            raise NeverAllowed(_("%(subject)s, which outbound calls may never reach.") % {"subject": subject})
        word = f"[{host}]" if ":" in host else host
        if verdict.is_own:
            word = f"{word}:{port}"
        self.refusals[word] = subject
        raise OutboundRefused(
            _("%(subject)s. An administrator can allow this host under Settings > Outbound calls, or with "
              "PORTICO_OUTBOUND_ALLOW=%(word)s") % {"subject": subject, "word": word}
        )  # fmt: skip

    def _is_allowed(self, host: str, port: int, ip: IPAddress, verdict: Verdict) -> bool:
        by_browser = [rule for rule in self._hosts if rule.port is not None or not verdict.is_own]
        return any(rule.allows(host, port, ip) for rule in (*self._rules, *by_browser))


class NameNotFound(SourceUnavailable):
    """A host name has no address at present."""

    code = "name-not-found"
    remedy = gettext_lazy("Correct the address, or name the proxy that knows it under Network.")


_PORTS = {"http": 80, "https": 443, "ssh": 22, "ldap": 389, "ldaps": 636}


def _literal(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the very addresses that the policy passed; the name is kept for TLS and the Host header."""

    def __init__(self, policy: OutboundPolicy) -> None:
        self._policy = policy
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = (await self._policy.resolve(host, port))[:4]
        share = timeout / len(addresses) if timeout else None
        for ip in addresses[:-1]:
            try:
                return await self._network.connect_tcp(str(ip), port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, share, local_address, socket_options)

    async def connect_unix_socket(self, path: str, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        raise NeverAllowed(_("Outbound calls do not go to sockets of this machine."))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Route:
    """The way of one connection's calls, where it is not the way of all.

    :ivar authorities: certificates in PEM that are trusted besides the usual ones.
    :ivar proxy: its address, with its user and password; else the environment says which, if any.
    """

    authorities: str = ""
    proxy: str = field(default="", repr=False)


class ProxyUnreachable(httpx.ProxyError):
    """The proxy itself does not answer; its text says so, without credentials."""


def where(proxy: str) -> Target:
    """The place of a proxy, without its credentials."""
    parsed = httpx.URL(proxy)
    host = parsed.raw_host.decode("ascii").lower()
    return Target(parsed.scheme, host, parsed.port or _PORTS.get(parsed.scheme, 1080))


class GuardedTransport(httpx.AsyncBaseTransport):
    """The one HTTP transport: each request is judged, then sent to a judged address or through a proxy.

    A proxy of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) is the operator's choice, so its
    own address is not judged; one of a connection's settings is, like any other. A proxy looks names up itself; we
    judge what we can first.
    """

    def __init__(self, policy: OutboundPolicy, *, limits: httpx.Limits, route: Route | None = None) -> None:
        self._policy = policy
        self._limits = limits
        self._route = route or Route()
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}
        self._unknown: dict[str, float] = {}
        self._through("")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target = self._policy.check_url(str(request.url))
        proxy = self._route.proxy or proxy_for(target)
        if proxy:
            await self._judge_what_is_known(target)
        try:
            return await self._through(proxy).handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if not proxy or "[SSL" in str(error):
                raise
            # What a proxy cannot reach it says in an answer, so it is the proxy that was not reached.
            place = where(proxy)
            raise ProxyUnreachable(f"{place.host}:{place.port}") from error

    async def _judge_what_is_known(self, target: Target) -> None:
        """Behind a proxy, names are often the proxy's alone to know, and to learn that may take until a timeout."""
        if self._unknown.get(target.host, 0.0) > time.monotonic():
            return
        try:
            await self._policy.resolve(target.host, target.port)
        except NameNotFound:
            self._unknown[target.host] = time.monotonic() + UNKNOWN_FOR

    def _through(self, proxy: str) -> httpx.AsyncHTTPTransport:
        found = self._transports.get(proxy)
        if found is None:
            tls = _context_for_http(self._route.authorities, *_authorities_as_of())
            via = None
            if proxy:
                via = httpx.Proxy(proxy, ssl_context=tls if proxy.startswith("https:") else None)
            found = httpx.AsyncHTTPTransport(verify=tls, limits=self._limits, proxy=via)
            if not proxy or proxy == self._route.proxy:
                # httpx2 offers no public way to put a network backend in; a test holds this one.
                found._pool._network_backend = GuardedBackend(self._policy)
            self._transports[proxy] = found
        return found

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


def proxy_for(target: Target) -> str:
    """The proxy that the environment sets for a target, or an empty string."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all") or ""
    if not proxy or urllib.request.proxy_bypass(f"{target.host}:{target.port}"):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def ca_bundle() -> str:
    """The file or folder of trusted authorities that the environment names, or an empty string."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def system_bundle() -> str:
    """The file of the authorities that this machine trusts, or an empty string."""
    own = ssl.get_default_verify_paths().openssl_cafile
    candidates = (
        own,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    )
    return next((path for path in candidates if os.path.isfile(path)), "")


def tls_context(more: str = "") -> ssl.SSLContext:
    """Certificates are always checked, against the environment's bundle or else the system's.

    :param more: certificates in PEM that are trusted besides.
    :raises Misconfigured: if they cannot be read.
    """
    context = _tls_context()
    if more:
        context.load_verify_locations(cadata=more)
        # One that is not at the root of its chain will do, as it does for git; and one that lacks what Python 3.13 asks
        # of authorities, as those do that tools make for themselves.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    return context


def _authorities_as_of() -> tuple[str, int]:
    """The file or folder of the authorities, and when it was changed last."""
    bundle = ca_bundle() or system_bundle()
    return bundle, os.stat(bundle).st_mtime_ns if os.path.exists(bundle) else 0


@lru_cache(maxsize=32)
def _context_for_http(more: str, _bundle: str, _as_of: int) -> ssl.SSLContext:
    """Made once for all clients: to read the authorities takes longer than most of what a client is made for."""
    return tls_context(more)


def _tls_context() -> ssl.SSLContext:
    bundle = ca_bundle()
    try:
        if not bundle:
            return httpcore2.default_ssl_context()
        if os.path.isdir(bundle):
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:  # an SSLError is an OSError
        raise Misconfigured(
            _("The certificates in %(path)s cannot be read: %(why)s") % {"path": bundle, "why": error}
        ) from error


_SHORT_SECRET = re.compile(
    r"([?&;#](?:[\w.-]*[_.-])?(?:auth|code|jwt|key|sas|sig)=)[^&;#\s\"'<>]+", re.IGNORECASE
)


def mask_url(text: str) -> str:
    """A URL, or a text with URLs in it, without credentials and secret parameters: fit for a message."""
    return mask_secrets(_SHORT_SECRET.sub(r"\1***", text))
