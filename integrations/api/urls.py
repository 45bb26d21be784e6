"""Routes of connections below `/api/v1/`."""

from django.urls import path

from integrations.api import views

urlpatterns = [
    path("connections/", views.ConnectionList.as_view(), name="connections"),
    path("connections/<slug:slug>/", views.ConnectionDetail.as_view(), name="connection"),
    path("connections/<slug:slug>/sync/", views.ConnectionSync.as_view(), name="connection-sync"),
    path("sync-runs/", views.SyncRunList.as_view(), name="sync-runs"),
    path("sync-runs/<int:run_id>/", views.SyncRunDetail.as_view(), name="sync-run"),
]
