"""Routes of the settings pages, below /settings/."""

from __future__ import annotations

from django.urls import path

from portal.views import (
    access_settings,
    changes,
    identity,
    kind_fields,
    kinds,
    relation_types,
    settings,
    system_settings,
    watches,
    who,
)

urlpatterns = [
    path("look", settings.look, name="settings-look"),
    path("who", who.who, name="settings-who"),
    path("tell-me", watches.index, name="settings-tell-me"),
    path("tell-me/new", watches.new, name="settings-watch-new"),
    path("tell-me/<int:watch_id>", watches.edit, name="settings-watch"),
    path("tell-me/<int:watch_id>/pause", watches.pause, name="settings-watch-pause"),
    path("tell-me/<int:watch_id>/delete", watches.delete, name="settings-watch-delete"),
    path("tell-me/<int:watch_id>/restore", watches.restore, name="settings-watch-restore"),
    path("tokens", settings.tokens, name="settings-tokens"),
    path("tokens/<int:token_id>/revoke", settings.revoke_token, name="settings-token-revoke"),
    path("access", access_settings.users, name="settings-access"),
    path("access/users/<int:user_id>", access_settings.user, name="settings-user"),
    path("access/groups", access_settings.groups, name="settings-groups"),
    path("access/groups/<int:group_id>", access_settings.group, name="settings-group"),
    path("access/roles", access_settings.roles, name="settings-roles"),
    path("access/sign-in", identity.provider, name="settings-provider"),
    path("kinds", kinds.index, name="settings-kinds"),
    path("kinds/<str:kind>", kinds.kind, name="settings-kind"),
    path("kinds/<str:kind>/change", kinds.propose, name="settings-kind-propose"),
    path("kind-changes/<int:change_id>", kinds.change, name="settings-kind-change"),
    path("relations", relation_types.relations, name="settings-relations"),
    path("relations/<str:name>", relation_types.relation, name="settings-relation"),
    path("fields/new", kind_fields.new_field, name="settings-field-new"),
    path("fields/<str:name>", kind_fields.field, name="settings-field"),
    path("fields/<str:name>/move", kind_fields.move_field, name="settings-field-move"),
    path("fields/<str:name>/delete", kind_fields.delete_field, name="settings-field-delete"),
    path("packs", system_settings.packs, name="settings-packs"),
    path("packs/restore", system_settings.restore, name="settings-packs-restore"),
    path("sample", system_settings.sample, name="settings-sample"),
    path("outbound", system_settings.outbound, name="settings-outbound"),
    path("outbound/<int:host_id>/withdraw", system_settings.withdraw, name="settings-outbound-withdraw"),
    path("changes", changes.changes, name="settings-changes"),
    path("changes/<int:change_id>", changes.change, name="settings-change"),
    path("audit", system_settings.audit, name="settings-audit"),
    path("about", settings.about, name="settings-about"),
]
