"""Shapes of the API of connections and runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from access.models import IdentityProvider
from base.answers import plain
from base.openapi import list_of
from integrations.contract import Connector, OperationSpec
from integrations.models import OperationRun, SyncRun
from integrations.models.connections import SLUG
from integrations.services.connections import Tested
from integrations.services.targets import Offered


class NetworkIn(serializers.Serializer[Any]):
    """How a connection reaches its tool, where that is not the usual way; what is left out is empty."""

    ca_bundle = serializers.CharField(required=False, allow_blank=True, help_text="Certificates in PEM.")
    proxy = serializers.CharField(required=False, allow_blank=True)
    proxy_user = serializers.CharField(required=False, allow_blank=True)
    proxy_password = serializers.CharField(
        required=False, allow_blank=True, help_text="Kept if it is left out, forgotten if it is empty."
    )


def _visible_to() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        max_length=100,
        help_text="Names of the access groups that may see it and what it brings; empty: everybody.",
    )


class ConnectionIn(serializers.Serializer[Any]):
    """A new connection. Secrets are part of `config` and are never given back."""

    slug = serializers.CharField(max_length=63)
    label = serializers.CharField(max_length=100, required=False, allow_blank=True)  # type: ignore[assignment]
    connector = serializers.CharField(max_length=63)
    config = serializers.DictField(required=False)
    namespace = serializers.CharField(max_length=63, required=False)
    interval = serializers.IntegerField(required=False, min_value=30, max_value=604_800)
    network = NetworkIn(required=False)
    visible_to = _visible_to()


class ConnectionChange(serializers.Serializer[Any]):
    """What changes of a connection; a secret that is left out stays."""

    label = serializers.CharField(max_length=100, required=False)  # type: ignore[assignment]
    config = serializers.DictField(required=False)
    network = NetworkIn(required=False)
    interval = serializers.IntegerField(required=False, min_value=30, max_value=604_800)
    is_paused = serializers.BooleanField(required=False)
    allows_operations = serializers.BooleanField(required=False)
    visible_to = _visible_to()


class ConnectionOut(serializers.Serializer[Any]):
    slug = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    connector = serializers.CharField()
    config = serializers.JSONField(
        allow_null=True, help_text="The settings, for those who may change them; null for others."
    )
    network = serializers.JSONField(
        allow_null=True, help_text="How the tool is reached, without the proxy's password; likewise."
    )
    secrets = serializers.ListField(
        child=serializers.CharField(), help_text="Names of the secrets that are set, likewise."
    )
    namespace = serializers.CharField()
    interval = serializers.IntegerField()
    is_paused = serializers.BooleanField()
    allows_operations = serializers.BooleanField()
    state = serializers.CharField(allow_null=True)
    message = serializers.CharField(allow_blank=True)
    synced_at = serializers.DateTimeField(allow_null=True)
    is_removed = serializers.BooleanField(help_text="It is on its way out, with all that it brought.")
    visible_to = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="Names of the access groups that may see it, for those who may change it; empty: everybody.",
    )
    is_muted = serializers.BooleanField(help_text="What it brought is set aside until it is unmuted.")
    is_moving = serializers.BooleanField(
        help_text="A worker is setting aside what it brought, or bringing it back."
    )


class ResourceOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.CharField()
    expected = serializers.IntegerField(allow_null=True)
    listed = serializers.IntegerField()
    new = serializers.IntegerField()
    changed = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    skipped = serializers.IntegerField()
    refused = serializers.IntegerField()
    removed = serializers.IntegerField()
    would_remove = serializers.IntegerField()
    message = serializers.CharField(allow_blank=True)


class SyncRunOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    connection = serializers.CharField()
    state = serializers.CharField()
    trigger = serializers.CharField()
    is_quick = serializers.BooleanField()
    requested_by = serializers.CharField(allow_blank=True)
    queued_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    error_code = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    resources = ResourceOut(many=True)


class RemovedConnectionOut(serializers.Serializer[Any]):
    slug = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    connector = serializers.CharField()
    namespace = serializers.CharField()
    removal_at = serializers.DateTimeField()
    removal_by = serializers.CharField()
    kept_until = serializers.DateTimeField(help_text="Until then it can be restored.")


class CheckOut(serializers.Serializer[Any]):
    label = serializers.CharField(help_text="What was tried, as a fact.")  # type: ignore[assignment]
    ok = serializers.BooleanField()
    detail = serializers.CharField(allow_blank=True)
    remedy = serializers.CharField(allow_blank=True)


class TestedOut(serializers.Serializer[Any]):
    """What a tool said when it was asked whether the settings work."""

    ok = serializers.BooleanField()
    checks = CheckOut(many=True)
    barred = serializers.DictField(
        child=serializers.CharField(),
        help_text="Hosts that may not be reached until somebody allows them, with why.",
    )


class OperationSpecOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    risk = serializers.CharField()
    params = serializers.DictField(help_text="JSON Schema of its parameters.")


class ConnectorOut(serializers.Serializer[Any]):
    """A tool that can be connected."""

    slug = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    category = serializers.CharField()
    brings = serializers.CharField()
    config = serializers.DictField(help_text="JSON Schema of its settings.")
    resources = serializers.ListField(child=serializers.CharField(), help_text="The lists that it reads.")
    operations = OperationSpecOut(many=True)
    takes_deliveries = serializers.BooleanField()


class ConnectorsOut(serializers.Serializer[Any]):
    results = ConnectorOut(many=True)


class TryIn(serializers.Serializer[Any]):
    """Settings to try; nothing of them is kept."""

    config = serializers.DictField(required=False)
    network = NetworkIn(required=False)


class PreviewIn(TryIn):
    namespace = serializers.CharField(max_length=63, validators=[SLUG], default="default")


class PreviewRowOut(serializers.Serializer[Any]):
    resource = serializers.CharField()
    type = serializers.CharField(allow_blank=True)
    external_id = serializers.CharField(allow_blank=True)
    name = serializers.CharField(allow_blank=True)
    becomes = serializers.CharField(allow_blank=True, help_text="In words; empty if it is refused.")
    is_known = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True)
    tied = serializers.ListField(child=serializers.CharField())


class PreviewOut(serializers.Serializer[Any]):
    """The first records of a tool, and what each would become."""

    rows = PreviewRowOut(many=True)
    errors = serializers.ListField(child=serializers.CharField())  # type: ignore[assignment]
    barred = serializers.DictField(child=serializers.CharField())


class RecordOut(serializers.Serializer[Any]):
    """What a connection brought, in the shared vocabulary."""

    id = serializers.IntegerField()
    resource = serializers.CharField()
    type = serializers.CharField()
    external_id = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]
    as_of = serializers.DateTimeField()
    touched_at = serializers.DateTimeField()
    deleted_at = serializers.DateTimeField(allow_null=True)
    is_ignored = serializers.BooleanField(help_text="It is left out of the catalog.")


class RecordDetailOut(RecordOut):
    raw = serializers.JSONField(allow_null=True, help_text="As the tool sent it.")


class RulesOut(serializers.Serializer[Any]):
    components = serializers.DictField(
        help_text="Which repositories become components without a catalog file."
    )
    ignored = serializers.DictField(help_text="What is left out of the catalog.")


class RulesIn(serializers.Serializer[Any]):
    """One of the two rules, whole."""

    components = serializers.DictField(required=False)
    ignored = serializers.DictField(required=False)


class DecisionOut(serializers.Serializer[Any]):
    external_id = serializers.CharField()
    path = serializers.CharField(allow_blank=True)
    is_component = serializers.BooleanField()
    was_component = serializers.BooleanField(help_text="By the rule in force.")
    reason = serializers.CharField(allow_blank=True)


class LeftOutOut(serializers.Serializer[Any]):
    record = serializers.IntegerField(help_text="Id of the record.")
    external_id = serializers.CharField()
    is_left_out = serializers.BooleanField()
    was_left_out = serializers.BooleanField(help_text="By the rule in force.")
    reason = serializers.CharField(allow_blank=True)


class RulesPreviewOut(serializers.Serializer[Any]):
    components = DecisionOut(many=True)
    ignored = LeftOutOut(many=True)


class HeldOut(serializers.Serializer[Any]):
    """A record that the guard keeps from being removed."""

    id = serializers.IntegerField()
    type = serializers.CharField()
    external_id = serializers.CharField()


class GuardIn(serializers.Serializer[Any]):
    decision = serializers.ChoiceField(["keep", "remove"])


class RemovedOut(serializers.Serializer[Any]):
    removed = serializers.IntegerField()


class RestoredOut(serializers.Serializer[Any]):
    restored = serializers.IntegerField()


class KeptOut(serializers.Serializer[Any]):
    kept_no_more = serializers.IntegerField(help_text="How many records that concerns.")


class OfferedOut(serializers.Serializer[Any]):
    """Something that can be done in a tool to what an entity shows."""

    connection = serializers.CharField()
    operation = serializers.CharField()
    target = serializers.CharField(help_text="The record that it is done to: its list and its id.")
    label = serializers.CharField()  # type: ignore[assignment]
    risk = serializers.CharField()
    params = serializers.DictField(help_text="JSON Schema of its parameters.")


class OffersOut(serializers.Serializer[Any]):
    results = OfferedOut(many=True)


class OperationIn(serializers.Serializer[Any]):
    """What to have done, as it is offered."""

    connection = serializers.CharField(max_length=63)
    operation = serializers.CharField(max_length=63)
    target = serializers.CharField(max_length=2_000)
    params = serializers.DictField(required=False)


class OperationOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    connection = serializers.CharField()
    operation = serializers.CharField()
    target = serializers.CharField()
    params = serializers.DictField()
    state = serializers.CharField()
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    message = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True)


class DeliveryOut(serializers.Serializer[Any]):
    """What a tool delivered by webhook."""

    id = serializers.IntegerField()
    event = serializers.CharField(allow_blank=True)
    delivery_id = serializers.CharField(allow_blank=True, help_text="The tool's own id of it.")
    state = serializers.CharField()
    received_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    attempts = serializers.IntegerField()
    records = serializers.IntegerField()
    message = serializers.CharField(allow_blank=True, help_text="Why it could not be taken in.")


class DeliveryDetailOut(DeliveryOut):
    body = serializers.CharField(
        allow_null=True, help_text="What it said, for those who may read the tools' own words."
    )


class DeliverySecretOut(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="For the tool; shown this once.")


class ReplayIn(serializers.Serializer[Any]):
    """Which deliveries to take in again; all that were given up if none is named."""

    deliveries = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        allow_empty=False,
        max_length=1_000,
    )


class CountOut(serializers.Serializer[Any]):
    count = serializers.IntegerField()


class LocationIn(serializers.Serializer[Any]):
    address = serializers.CharField(
        max_length=2_000, help_text="A file or folder on the server, a Git repository or a web address."
    )


class ReadIn(serializers.Serializer[Any]):
    all = serializers.BooleanField(default=False, help_text="Also let go of what is gone if that is much.")


class LocationOut(serializers.Serializer[Any]):
    """Catalog files that are read again by themselves."""

    id = serializers.IntegerField()
    address = serializers.CharField()
    interval = serializers.IntegerField()
    created_by = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True)
    message = serializers.CharField(allow_blank=True, help_text="Why the last reading failed.")
    summary = serializers.DictField(help_text="The numbers of the last reading.")
    is_awaited = serializers.BooleanField(help_text="Somebody waits for it to be read.")
    is_removed = serializers.BooleanField(help_text="It is on its way out, with all that it declared.")


class ImportProblemOut(serializers.Serializer[Any]):
    file = serializers.CharField(allow_blank=True)
    document = serializers.IntegerField()
    line = serializers.IntegerField()
    column = serializers.IntegerField()
    path = serializers.CharField(allow_blank=True)
    ref = serializers.CharField(allow_blank=True)
    message = serializers.CharField()


class ImportPreviewOut(serializers.Serializer[Any]):
    """What importing an address would do."""

    files = serializers.IntegerField()
    documents = serializers.IntegerField()
    accepted = serializers.IntegerField()
    refused = serializers.IntegerField()
    written = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    removed = serializers.IntegerField()
    unread = serializers.IntegerField()
    problems = ImportProblemOut(many=True)


class HostIn(serializers.Serializer[Any]):
    host = serializers.CharField(
        max_length=300,
        help_text="A name or an address inside the network; of this machine itself with its port.",
    )
    connection = serializers.CharField(
        max_length=63, required=False, allow_blank=True, help_text="Slug of the connection that needs it."
    )


class HostOut(serializers.Serializer[Any]):
    """A host inside the network that calls may reach."""

    id = serializers.IntegerField()
    host = serializers.CharField()
    what = serializers.CharField(help_text="What it was when it was allowed.")
    connection = serializers.CharField(allow_blank=True)
    by = serializers.CharField()
    at = serializers.DateTimeField()


class ProviderFacts(serializers.Serializer[Any]):
    label = serializers.CharField(max_length=100)  # type: ignore[assignment]
    issuer = serializers.CharField(
        max_length=500, help_text="Its address, without /.well-known/openid-configuration."
    )
    client_id = serializers.CharField(max_length=300)
    scopes = serializers.CharField(max_length=300, default="openid email profile")
    groups_claim = serializers.CharField(max_length=200, allow_blank=True, default="groups")
    roles = serializers.DictField(
        child=serializers.CharField(),
        default=lambda: {"*": "viewer"},
        help_text="Roles by group; * is everybody.",
    )
    access_groups = serializers.DictField(child=serializers.CharField(), default=dict)
    email_domains = serializers.ListField(child=serializers.CharField(), default=list)
    makes_accounts = serializers.BooleanField(default=False)
    trusts_email = serializers.BooleanField(default=False)
    is_active = serializers.BooleanField(default=True)


class ProviderIn(ProviderFacts):
    """The identity provider through which people sign in."""

    client_secret = serializers.CharField(
        required=False,
        allow_blank=True,
        write_only=True,
        help_text="Kept if it is left out, forgotten if it is empty.",
    )


class ProviderOut(ProviderFacts):
    """The identity provider, without its secret."""

    has_secret = serializers.BooleanField()


ConnectionListOut = list_of("ConnectionListOut", ConnectionOut)
RemovedConnectionListOut = list_of("RemovedConnectionListOut", RemovedConnectionOut)
SyncRunListOut = list_of("SyncRunListOut", SyncRunOut)
RecordListOut = list_of("RecordListOut", RecordOut)
HeldListOut = list_of("HeldListOut", HeldOut)
OperationListOut = list_of("OperationListOut", OperationOut)
DeliveryListOut = list_of("DeliveryListOut", DeliveryOut)
LocationListOut = list_of("LocationListOut", LocationOut)
HostListOut = list_of("HostListOut", HostOut)


def connection(row: Any, *, may_write: bool, secrets: Iterable[str], groups: Iterable[str]) -> dict[str, Any]:
    """A connection from `queries.list_connections` as plain data."""
    return plain(
        ConnectionOut,
        row,
        config=row.config if may_write else None,
        network=row.network if may_write else None,
        secrets=sorted(secrets),
        state=row.last_state,
        message=row.last_message or "",
        synced_at=row.good_at,
        visible_to=sorted(groups) if may_write else None,
        is_muted=row.muted_at is not None,
        is_moving=row.moving_since is not None,
    )


def tested(health: Tested) -> dict[str, Any]:
    """The outcome of a test as plain data."""
    return {"ok": health.ok, "checks": [asdict(check) for check in health.checks], "barred": health.barred}


def operation_spec(spec: OperationSpec) -> dict[str, Any]:
    """An operation as plain data."""
    return {
        "name": spec.name,
        "label": _(spec.label),
        "risk": spec.risk,
        "params": spec.params.model_json_schema(),
    }


def connector(kind: type[Connector[Any]]) -> dict[str, Any]:
    """A connector as plain data."""
    return {
        "slug": kind.slug,
        "label": kind.label,
        "category": kind.category,
        "brings": _(kind.brings),
        "config": kind.Config.model_json_schema(),
        "resources": [spec.name for spec in kind.resources()],
        "operations": [operation_spec(spec) for spec in kind.operations()],
        "takes_deliveries": kind.webhook() is not None,
    }


def offered(one: Offered) -> dict[str, Any]:
    """An operation on a record as plain data."""
    spec = operation_spec(one.spec)
    return {
        "connection": one.connection.slug,
        "operation": spec["name"],
        "target": f"{one.resource}/{one.external_id}",
        "label": one.label,
        "risk": spec["risk"],
        "params": spec["params"],
    }


def operation(run: OperationRun) -> dict[str, Any]:
    """An operation that somebody had done, as plain data."""
    return plain(OperationOut, run, connection=run.connection.slug, target=run.target_id)


def provider(row: IdentityProvider, *, has_secret: bool) -> dict[str, Any]:
    """The identity provider as plain data."""
    return plain(ProviderOut, row, has_secret=has_secret)


def sync_run(row: SyncRun) -> dict[str, Any]:
    """A run as plain data."""
    resources = [plain(ResourceOut, item) for item in row.resources.all()]
    return plain(SyncRunOut, row, connection=row.connection.slug, resources=resources)
