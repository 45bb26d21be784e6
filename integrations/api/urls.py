"""Routes of connections below `/api/v1/`."""

from django.urls import path

from integrations.api import views

urlpatterns = [
    path("connections/", views.ConnectionList.as_view(), name="connections"),
    path("connections/<slug:slug>/", views.ConnectionDetail.as_view(), name="connection"),
    path("connections/<slug:slug>/sync/", views.ConnectionSync.as_view(), name="connection-sync"),
    path("connections/<slug:slug>/mute/", views.ConnectionMute.as_view(), name="connection-mute"),
    path("removed-connections/", views.RemovedConnectionList.as_view(), name="removed-connections"),
    path(
        "removed-connections/<slug:slug>/", views.RemovedConnectionDetail.as_view(), name="removed-connection"
    ),
    path(
        "removed-connections/<slug:slug>/restore/",
        views.ConnectionRestore.as_view(),
        name="connection-restore",
    ),
    path("sync-runs/", views.SyncRunList.as_view(), name="sync-runs"),
    path("sync-runs/<int:run_id>/", views.SyncRunDetail.as_view(), name="sync-run"),
]
