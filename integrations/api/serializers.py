"""Shapes of the API of connections and runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from base.openapi import list_of
from integrations.models import ResourceRun, SyncRun


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


ConnectionListOut = list_of("ConnectionListOut", ConnectionOut)
RemovedConnectionListOut = list_of("RemovedConnectionListOut", RemovedConnectionOut)
SyncRunListOut = list_of("SyncRunListOut", SyncRunOut)


def connection(row: Any, *, may_write: bool, secrets: Iterable[str], groups: Iterable[str]) -> dict[str, Any]:
    """A connection from `queries.list_connections` as plain data."""
    names = (
        "slug",
        "label",
        "connector",
        "namespace",
        "interval",
        "is_paused",
        "allows_operations",
        "is_removed",
    )
    return {
        **{name: getattr(row, name) for name in names},
        "config": row.config if may_write else None,
        "network": row.network if may_write else None,
        "secrets": sorted(secrets),
        "state": row.last_state,
        "message": row.last_message or "",
        "synced_at": row.good_at,
        "visible_to": sorted(groups) if may_write else None,
        "is_muted": row.muted_at is not None,
        "is_moving": row.moving_since is not None,
    }


def removed_connection(row: Any) -> dict[str, Any]:
    """A removed connection that is still kept, as plain data."""
    names = ("slug", "label", "connector", "namespace", "removal_at", "removal_by", "kept_until")
    return {name: getattr(row, name) for name in names}


def resource(row: ResourceRun) -> dict[str, Any]:
    """A resource of a run as plain data."""
    return {str(name): getattr(row, str(name)) for name in ResourceOut().fields}


def sync_run(row: SyncRun) -> dict[str, Any]:
    """A run as plain data."""
    names = (
        "state",
        "trigger",
        "is_quick",
        "requested_by",
        "queued_at",
        "started_at",
        "finished_at",
        "error_code",
        "message",
    )
    return {
        "id": row.pk,
        "connection": row.connection.slug,
        **{name: getattr(row, name) for name in names},
        "resources": [resource(item) for item in row.resources.all()],
    }
