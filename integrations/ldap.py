"""The one way to directories: LDAP under the same guard as everything that leaves the house.

Names are looked up and judged by the policy, and the connection goes to an address that passed; certificates are
checked as for HTTP. What is returned is complete: a list that the directory cut short is an error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import ldap3
from django.utils.translation import gettext as _
from ldap3.core import exceptions as errors

from integrations.errors import AuthFailed, Misconfigured, SourceUnavailable, Untrusted
from integrations.outbound import OutboundPolicy, Route, Target, tls_context

SCHEMES = ("ldap", "ldaps")
CONNECT = 10  # seconds
ANSWER = 60
PAGE = 500
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One entry of a directory.

    :ivar values: by the attribute's name in lower case, as bytes; operational ones too if they were asked for.
    """

    dn: str
    values: dict[str, list[bytes]]

    def texts(self, *names: str) -> list[str]:
        """The values of the first of these attributes that has any."""
        found: list[bytes] = next(
            (self.values[name.lower()] for name in names if self.values.get(name.lower())), []
        )
        return [value.decode("utf-8", "replace").strip() for value in found]

    def text(self, *names: str) -> str:
        """The first value of the first of these attributes that has any; else empty."""
        return next(iter(self.texts(*names)), "")


class _Tls(ldap3.Tls):
    """Certificates as the house checks them, for the name and not for the address that it has."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context, self._host = context, host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        connection.socket = self._context.wrap_socket(
            connection.socket, do_handshake_on_connect=do_handshake, server_hostname=self._host
        )


class Directory:
    """An open connection to a directory."""

    def __init__(self, connection: ldap3.Connection, where: str) -> None:
        self._connection, self._where = connection, where

    async def pages(
        self, base: str, query: str, attributes: Sequence[str], *, size: int = PAGE
    ) -> AsyncGenerator[list[Entry]]:
        """All entries below `base` that the filter finds, in pages.

        :raises SourceUnavailable: if the directory does not give all of them.
        :raises AuthFailed: if they may not be read.
        :raises Misconfigured: if there is no such place, or the filter is none.
        """
        cookie: bytes | None = None
        while True:

            def search(cookie: bytes | None = cookie) -> tuple[list[Entry], bytes]:
                link = self._connection
                link.search(
                    base,
                    query,
                    ldap3.SUBTREE,
                    attributes=list(attributes),
                    paged_size=size,
                    paged_cookie=cookie,
                )
                if link.result["result"] != 0:  # the library raises nothing for a list that was cut short
                    raise errors.LDAPOperationResult(
                        result=link.result["result"], description=link.result["description"]
                    )
                found = [
                    Entry(item["dn"], {name.lower(): v for name, v in item["raw_attributes"].items()})
                    for item in link.response or []
                    if item.get("type") == "searchResEntry"
                ]
                control = (link.result.get("controls") or {}).get("1.2.840.113556.1.4.319", {})
                return found, control.get("value", {}).get("cookie") or b""

            found, following = await _asked(search, self._where)
            yield found
            if not following:
                return
            if following == cookie:
                raise SourceUnavailable(_("%(where)s gave the same page twice.") % {"where": self._where})
            cookie = following


class LdapClient:
    """Opens directories.

    :param policy: where it may go.
    :param route: certificates that are trusted besides the usual ones; a proxy there refuses every address.
    """

    def __init__(self, *, policy: OutboundPolicy | None = None, route: Route | None = None) -> None:
        self._policy = policy or OutboundPolicy.from_settings()
        self._route = route or Route()

    @asynccontextmanager
    async def open(
        self, address: str, *, user: str = "", password: str = "", start_tls: bool = False
    ) -> AsyncIterator[Directory]:
        """Connect and sign in; without a user as nobody.

        :param address: `ldaps://host`, or `ldap://host`, perhaps with a port.
        :raises Misconfigured: if the address is none, the guard refuses it, the connection has a proxy, or a
            certificate is not trusted.
        :raises AuthFailed: if user or password are wrong.
        :raises SourceUnavailable: if it does not answer.
        """
        target = self._policy.check_url(address, schemes=SCHEMES)
        where = f"{target.scheme}://{target.host}:{target.port}"
        if self._route.proxy:
            raise Misconfigured(
                _("%(where)s is reached over LDAP, which does not go through the connection's proxy. Take the proxy "
                  "out.") % {"where": where}
            )  # fmt: skip
        addresses = (await self._policy.resolve(target.host, target.port))[:4]
        connection = None
        for number, ip in enumerate(addresses):
            try:
                connect = partial(self._connect, target, str(ip), user, password, start_tls)
                connection = await _asked(connect, where)
                break
            except SourceUnavailable:
                if number + 1 == len(addresses):
                    raise
        assert connection is not None
        try:
            yield Directory(connection, where)
        finally:
            await asyncio.to_thread(connection.unbind)

    def _connect(
        self, target: Target, ip: str, user: str, password: str, start_tls: bool
    ) -> ldap3.Connection:
        server = ldap3.Server(
            ip,
            port=target.port,
            use_ssl=target.scheme == "ldaps",
            tls=_Tls(tls_context(self._route.authorities), target.host),
            connect_timeout=CONNECT,
            get_info=ldap3.NONE,
        )
        connection = ldap3.Connection(
            server,
            user=user or None,
            password=password if user else None,
            authentication=ldap3.SIMPLE if user else ldap3.ANONYMOUS,
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            raise_exceptions=True,
            receive_timeout=ANSWER,
            check_names=False,
            read_only=True,
        )
        try:
            connection.open(read_server_info=False)
            if start_tls:
                connection.start_tls(read_server_info=False)
            connection.bind(read_server_info=False)
        except BaseException as error:
            if connection.socket is not None:
                connection.socket.close()
            if isinstance(error, errors.LDAPInvalidDNSyntaxResult):  # the user's; in a search it is the base
                raise errors.LDAPInvalidCredentialsResult from error
            raise
        return connection


async def _asked(do: Callable[[], T], where: str) -> T:
    """Do it in a thread of its own, and say in our words what went wrong."""
    try:
        return await asyncio.to_thread(do)
    except errors.LDAPInvalidCredentialsResult as error:
        raise AuthFailed(_("%(where)s does not accept this user and password.") % {"where": where}) from error
    except (
        errors.LDAPInsufficientAccessRightsResult,
        errors.LDAPStrongerAuthRequiredResult,
        errors.LDAPInappropriateAuthenticationResult,
        errors.LDAPConfidentialityRequiredResult,
    ) as error:
        raise AuthFailed(
            _("%(where)s lets this user not read here (%(why)s).") % {"where": where, "why": _said(error)}
        ) from error
    except (
        errors.LDAPNoSuchObjectResult,
        errors.LDAPInvalidDNSyntaxResult,
        errors.LDAPInvalidFilterError,
        errors.LDAPReferralResult,
    ) as error:
        raise Misconfigured(
            _("%(where)s has no such place, or cannot read the filter (%(why)s).")
            % {"where": where, "why": _said(error)}
        ) from error
    except errors.LDAPException as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise Untrusted(
                _("The certificate of %(where)s is not trusted. Give the connection the certificate of the authority "
                  "that made it.") % {"where": where}
            ) from error  # fmt: skip
        raise SourceUnavailable(
            _("%(where)s does not answer as it should: %(why)s.") % {"where": where, "why": _said(error)}
        ) from error


def _said(error: Exception) -> str:
    return (getattr(error, "description", "") or str(error) or type(error).__name__)[:300]
