"""Every address of the portal. Each floor brings the routes of its own API."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from integrations.api.hooks import Hook
from portal.views import (
    accounts,
    anything,
    api_docs,
    bulk,
    connections,
    definitions,
    deleting,
    edit,
    entity_forms,
    filters,
    graph,
    health,
    history,
    identity,
    impact,
    operations,
    owners,
    pages,
    saved,
    search,
    structure,
    system_settings,
    unknown,
    watches,
    why,
)
from portal.views import (
    settings as settings_views,
)

portal: tuple[list[Any], str] = (
    [
        path("", pages.home, name="home"),
        path("catalog", pages.catalog, name="catalog"),
        path("catalog.csv", pages.catalog_csv, name="catalog-csv"),
        path("catalog/fields", bulk.fields, name="fields"),
        path("catalog/changes/<int:change_id>", bulk.change, name="bulk-change"),
        path("catalog/filter", filters.filter_list, name="filter"),
        path("catalog/owners", owners.owners, name="owners"),
        path("catalog/new", entity_forms.new, name="entity-new"),
        path("catalog/unknown-owners", unknown.index, name="unknown-owners"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>", pages.entity, name="entity"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>/favourite", pages.favourite, name="favourite"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>/edit", entity_forms.edit, name="entity-edit"),
        path(
            "catalog/<str:namespace>/<str:kind>/<str:name>/restore/<int:number>",
            history.restore,
            name="entity-restore",
        ),
        path(
            "catalog/<str:namespace>/<str:kind>/<str:name>/definition",
            definitions.definition,
            name="entity-definition",
        ),
        path("history", history.history, name="history"),
        path("history.csv", history.history_csv, name="history-csv"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>/delete", deleting.delete, name="entity-delete"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>/tie", edit.tie, name="entity-tie"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>/merge", edit.merge, name="entity-merge"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>/unknown", unknown.unknown, name="entity-unknown"),
        path("catalog/<str:namespace>/<str:kind>/<str:name>/run", operations.ask, name="entity-run"),
        path("views", saved.index, name="views"),
        path("views/new", saved.new, name="view-new"),
        path("views/<int:view_id>", saved.open_view, name="view"),
        path("views/<int:view_id>/edit", saved.edit, name="view-edit"),
        path("views/<int:view_id>/save", saved.save, name="view-save"),
        path("views/<int:view_id>/delete", saved.delete, name="view-delete"),
        path("views/<int:view_id>/restore", saved.restore, name="view-restore"),
        path("to", anything.to, name="to"),
        path("to/<path:text>", anything.to, name="to-anything"),
        path("ties/<int:tie_id>", edit.tie_evidence, name="tie"),
        path("why", why.page, name="why"),
        path("graph", graph.explore, name="graph"),
        path("graph/impact", impact.impact, name="graph-impact"),
        path("graph/cycles", structure.cycles, name="graph-cycles"),
        path("graph/orphans", structure.orphans, name="graph-orphans"),
        path("activity", pages.activity, name="activity"),
        path("problems", pages.problems, name="problems"),
        path("problems/snooze", edit.snooze, name="problems-snooze"),
        path("widgets/<str:page>/<str:widget>", pages.widget, name="widget"),
        path("notices", watches.notices, name="notices"),
        path("notices/bell", watches.bell, name="notices-bell"),
        path("notices/newest", watches.newest, name="notices-newest"),
        path("notices/end/<str:token>", watches.end, name="notices-end"),
        path("notices/read", watches.mark_all, name="notices-read"),
        path("notices/<int:notice_id>/open", watches.open_notice, name="notice-open"),
        path("notices/<int:notice_id>/mark", watches.mark_notice, name="notice-mark"),
        path("shell/sync", pages.sync_state, name="shell-sync"),
        path("search", search.page, name="search"),
        path("search/suggest", search.suggest, name="search-suggest"),
        path("search/terms", search.terms, name="search-terms"),
        path("search/refs", search.refs, name="search-refs"),
        path("sample", system_settings.change_sample, name="sample"),
        path("connections", connections.index, name="connections"),
        path("connections/", include("portal.views.connections_urls")),
        path("settings", settings_views.index, name="settings"),
        path("settings/", include("portal.views.settings_urls")),
        path("sign-in", accounts.sign_in, name="sign-in"),
        path("sign-in/provider", identity.begin, name="sign-in-provider"),
        path("sign-in/provider/callback", identity.finish, name="sign-in-callback"),
        path("sign-in/<str:token>/provider", identity.begin, name="sign-in-link-provider"),
        path("sign-in/<str:token>", accounts.sign_in_link, name="sign-in-link"),
        path("sign-out", accounts.sign_out, name="sign-out"),
    ],
    "portal",
)

api: list[Any] = [
    path("", include("access.api.urls")),
    path("", include("catalog.api.urls")),
    path("", include("integrations.api.urls")),
    path("", include("portal.api.urls")),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", api_docs.api_docs, name="docs"),
]

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
    path("api/v1/", include(api)),
    path("api/catalog/", include("integrations.api.backstage.urls")),
    path("api/catalog/", include("catalog.api.backstage.urls")),
    path("hooks/<slug:slug>", Hook.as_view(), name="hook"),
    # One door, with its throttle and its audit: Django's own sign-in page has neither.
    path("admin/login/", accounts.admin_sign_in),
    path("admin/", admin.site.urls),
    path("", include(portal)),
]

handler403 = "portal.views.errors.forbidden"
handler404 = "portal.views.errors.not_found"
handler500 = "portal.views.errors.server_error"
