"""How connections reach their tools: proxies, authorities, and the hosts that administrators allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from pydantic import ValidationError

from access.secrets import forget_secrets, keep_secret, names_of_secrets, read_secrets
from access.services.audit import record_audit
from base.errors import Conflict, FieldError, InvalidInput
from integrations.errors import Misconfigured, SourceUnavailable, faults_of
from integrations.models import AllowedHost, Connection
from integrations.network import Network
from integrations.outbound import OutboundPolicy, OutboundRefused, Route, host_of

# Apart from the secrets of the connector's own settings, whose names are the connector's.
OWNER = "connection-network"


# --- a connection's own way -------------------------------------------------------------------------------


def validate_network(values: Mapping[str, Any]) -> Network:
    """The settings as their model has them.

    :raises InvalidInput: naming each wrong setting.
    """
    try:
        return Network.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidInput(
            _("These settings cannot be used."),
            errors=faults_of(error, "network"),
        ) from None


def network_of(connection: Connection) -> Network:
    """A connection's network settings, its secret included: for the moment of use."""
    kept = read_secrets(owner_type=OWNER, owner_uid=str(connection.uid))
    return validate_network({**connection.network, **kept})


def route_of(connection: Connection) -> Route:
    """The same for the clients."""
    return network_of(connection).route()


def has_secret(connection: Connection) -> bool:
    """Whether a password for its proxy is kept."""
    return Network.SECRET in names_of_secrets(owner_type=OWNER, owner_uid=str(connection.uid))


def keep_network(connection: Connection, values: Mapping[str, Any]) -> list[str]:
    """Set a saved connection's network settings, without saving it; a password that is not given stays.

    :returns: the names of secrets that changed.
    :raises InvalidInput: if a setting is wrong.
    """
    uid = str(connection.uid)
    kept = read_secrets(owner_type=OWNER, owner_uid=uid)
    # Without a proxy it is nobody's password.
    valid = validate_network({**kept, **values} if values.get("proxy") else values)
    password = valid.proxy_password.get_secret_value() if valid.proxy_password else ""
    connection.network = valid.model_dump(mode="json", exclude={Network.SECRET}, exclude_defaults=True)
    if password == kept.get(Network.SECRET, ""):
        return []
    if password:
        keep_secret(owner_type=OWNER, owner_uid=uid, name=Network.SECRET, value=password)
    else:
        forget_secrets(owner_type=OWNER, owner_uid=uid)
    return [Network.SECRET]


# --- hosts that were allowed ------------------------------------------------------------------------------


def outbound_policy() -> OutboundPolicy:
    """Where calls may go now: by the settings, and by what administrators allowed."""
    hosts = AllowedHost.objects.values_list("host", flat=True)
    return OutboundPolicy(settings.PORTICO_OUTBOUND_ALLOW, hosts=hosts)


def allow_host(*, host: str, by: str, connection: str = "") -> AllowedHost:
    """Let calls reach one host that is private, or one port of this machine itself.

    :param host: a name or an address, for this machine itself with its port.
    :param connection: the slug of the connection that asks for it, if one does.
    :raises InvalidInput: if it is not one host, or the name has no address at present.
    :raises OutboundRefused: if it may never be reached.
    :raises Conflict: if it may be reached already.
    """
    policy = outbound_policy()
    try:
        name, port = host_of(host)
        url = f"http://[{name}]" if ":" in name else f"http://{name}"
        policy.check_url(f"{url}:{port or 443}")
        asyncio.run(policy.resolve(name, port or 443))
    except OutboundRefused as refused:
        if not policy.refusals:
            raise
        ((word, subject),) = policy.refusals.items()
        if port is None and word.endswith(":443"):
            raise InvalidInput(
                _("%(subject)s: this machine itself. Name the port too, such as %(host)s:8080.")
                % {"subject": subject, "host": host}
            ) from refused
    except (Misconfigured, SourceUnavailable) as error:
        raise InvalidInput(error.message, errors=[FieldError("host", error.message)]) from error
    else:
        raise Conflict(_("%(host)s may be reached already.") % {"host": host})
    with transaction.atomic():
        row, is_new = AllowedHost.objects.get_or_create(
            host=word, defaults={"what": subject[:300], "connection": connection, "by": by[:200]}
        )
        if is_new:
            record_audit("host.allow", row, changes={"host": word, "what": subject, "connection": connection})
    return row


@transaction.atomic
def withdraw_host(*, host: AllowedHost) -> None:
    """Close a host again; what is being read now is read to its end."""
    record_audit("host.withdraw", host, changes={"host": host.host, "connection": host.connection})
    host.delete()


def allowed_hosts(connection: Connection | None = None) -> QuerySet[AllowedHost]:
    """The hosts that administrators allowed; of a connection, those that it asked for or names."""
    rows = AllowedHost.objects.order_by("host")
    if connection is None:
        return rows
    named = [row.pk for row in rows if row.connection == connection.slug or _names(connection, row.host)]
    return rows.filter(pk__in=named)


def _names(connection: Connection, word: str) -> bool:
    host = host_of(word)[0]
    return any(host in text for text in _texts([connection.config, connection.network.get("proxy", "")]))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value.lower()
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def note_barred(connection: Connection, refusals: Mapping[str, str]) -> None:
    """Remember which hosts the guard refused a connection, for those who may allow them."""
    if connection.barred_hosts != dict(refusals):
        connection.barred_hosts = dict(refusals)
        Connection.objects.filter(pk=connection.pk).update(barred_hosts=connection.barred_hosts)


def still_barred(refusals: Mapping[str, str]) -> dict[str, str]:
    """Of the hosts that the guard refused, those that nobody has allowed since."""
    if not refusals:
        return {}
    allowed = set(AllowedHost.objects.filter(host__in=list(refusals)).values_list("host", flat=True))
    return {word: what for word, what in refusals.items() if word not in allowed}
