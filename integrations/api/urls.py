"""Routes of connections below `/api/v1/`."""

from django.urls import path

from catalog.api.urls import NAMES
from integrations.api import connecting, deliveries, locations, operations, outside, records, views, why

_CONNECTION = "connections/<slug:slug>/"
_RESOURCE = "sync-runs/<int:run_id>/resources/<str:resource>/"

urlpatterns = [
    path("connectors/", connecting.ConnectorList.as_view(), name="connectors"),
    path("connectors/<str:connector>/", connecting.ConnectorDetail.as_view(), name="connector"),
    path("connectors/<str:connector>/test/", connecting.ConnectorTest.as_view(), name="connector-test"),
    path(
        "connectors/<str:connector>/preview/", connecting.ConnectorPreview.as_view(), name="connector-preview"
    ),
    path("connections/", views.ConnectionList.as_view(), name="connections"),
    path(_CONNECTION, views.ConnectionDetail.as_view(), name="connection"),
    path(f"{_CONNECTION}sync/", views.ConnectionSync.as_view(), name="connection-sync"),
    path(f"{_CONNECTION}check/", views.ConnectionCheck.as_view(), name="connection-check"),
    path(f"{_CONNECTION}records/", records.RecordList.as_view(), name="records"),
    path(f"{_CONNECTION}records/<int:record_id>/", records.RecordDetail.as_view(), name="record"),
    path(
        f"{_CONNECTION}records/<int:record_id>/leave-out/",
        records.RecordLeaveOut.as_view(),
        name="record-leave-out",
    ),
    path(f"{_CONNECTION}rules/", records.Rules.as_view(), name="rules"),
    path(f"{_CONNECTION}rules/preview/", records.RulesPreview.as_view(), name="rules-preview"),
    path(f"{_CONNECTION}rules/undo/", records.RulesUndo.as_view(), name="rules-undo"),
    path(f"{_CONNECTION}deliveries/", deliveries.DeliveryList.as_view(), name="deliveries"),
    path(f"{_CONNECTION}deliveries/replay/", deliveries.DeliveryReplay.as_view(), name="delivery-replay"),
    path(f"{_CONNECTION}deliveries/secret/", deliveries.DeliverySecret.as_view(), name="delivery-secret"),
    path(f"{_CONNECTION}deliveries/<int:delivery_id>/", deliveries.DeliveryDetail.as_view(), name="delivery"),
    path(f"{_CONNECTION}decide-anew/", records.DecideAnew.as_view(), name="decide-anew"),
    path(f"{_CONNECTION}mute/", views.ConnectionMute.as_view(), name="connection-mute"),
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
    path(f"{_RESOURCE}guard/", records.Guard.as_view(), name="guard"),
    path(f"{_RESOURCE}restore/", records.Restore.as_view(), name="restore"),
    path(f"entities/{NAMES}operations/", operations.EntityOperations.as_view(), name="entity-operations"),
    path("operations/", operations.OperationList.as_view(), name="operations"),
    path("operations/<int:operation_id>/", operations.OperationDetail.as_view(), name="operation"),
    path("locations/", locations.LocationList.as_view(), name="locations"),
    path("locations/preview/", locations.LocationPreview.as_view(), name="location-preview"),
    path("locations/<int:location_id>/", locations.LocationDetail.as_view(), name="location"),
    path("locations/<int:location_id>/read/", locations.LocationRead.as_view(), name="location-read"),
    path("allowed-hosts/", outside.HostList.as_view(), name="allowed-hosts"),
    path("allowed-hosts/<int:host_id>/", outside.HostDetail.as_view(), name="allowed-host"),
    path("why/", why.Why.as_view(), name="why"),
    path("identity-provider/", outside.Provider.as_view(), name="identity-provider"),
]
