"""Routes of the connections pages, below /connections/."""

from __future__ import annotations

from django.urls import path

from portal.views import connecting, connections, deliveries, imports, layers, operations, rules, sync_runs

urlpatterns = [
    path("new", connecting.gallery, name="connect"),
    path("new/<str:connector>", connecting.settings, name="connect-settings"),
    path("new/<str:connector>/test", connecting.test, name="connect-test"),
    path("new/<str:connector>/allow", connecting.allow, name="connect-allow"),
    path("new/<str:connector>/preview", connecting.preview, name="connect-preview"),
    path("new/<str:connector>/schedule", connecting.schedule, name="connect-schedule"),
    path("import", imports.catalog_files, name="import"),
    path("import/<int:location_id>/read", imports.read_again, name="import-read"),
    path("import/<int:location_id>/remove", imports.remove, name="import-remove"),
    path("<str:slug>", connections.overview, name="connection"),
    path("<str:slug>/runs", connections.all_runs, name="connection-runs"),
    path("<str:slug>/runs/<int:run_id>", sync_runs.run, name="connection-run"),
    path("<str:slug>/runs/<int:run_id>/restore", sync_runs.restore, name="connection-restore"),
    path("<str:slug>/guard/<int:resource_id>", connections.guard, name="connection-guard"),
    path("<str:slug>/decide-anew", connections.decide_anew, name="connection-decide-anew"),
    path("<str:slug>/records", connections.records, name="connection-records"),
    path("<str:slug>/records/<int:record_id>", connections.record, name="connection-record"),
    path("<str:slug>/records/<int:record_id>/leave-out", rules.leave_out, name="connection-leave-out"),
    path("<str:slug>/rules", rules.components, name="connection-rules"),
    path("<str:slug>/left-out", rules.ignored, name="connection-left-out"),
    path("<str:slug>/operations", operations.all_operations, name="connection-operations"),
    path("<str:slug>/operations/<int:operation_id>", operations.operation, name="connection-operation"),
    path("<str:slug>/deliveries", deliveries.all_deliveries, name="connection-deliveries"),
    path("<str:slug>/deliveries/replay", deliveries.replay, name="connection-replay"),
    path("<str:slug>/deliveries/secret", deliveries.new_secret, name="connection-secret"),
    path("<str:slug>/deliveries/<int:delivery_id>", deliveries.delivery, name="connection-delivery"),
    path("<str:slug>/settings", connections.settings, name="connection-settings"),
    path("<str:slug>/delete", layers.delete, name="connection-delete"),
    path("<str:slug>/sync", connections.sync, name="connection-sync"),
    path("<str:slug>/cancel", connections.cancel, name="connection-cancel"),
    path("<str:slug>/pause", connections.pause, {"is_paused": True}, name="connection-pause"),
    path("<str:slug>/resume", connections.pause, {"is_paused": False}, name="connection-resume"),
    path("<str:slug>/mute", layers.mute, name="connection-mute"),
    path("<str:slug>/unmute", layers.unmute, name="connection-unmute"),
    path("<str:slug>/undelete", layers.restore, name="connection-undelete"),
    path("<str:slug>/purge", layers.purge, name="connection-purge"),
    path("<str:slug>/check", connections.check, name="connection-check"),
    path("<str:slug>/allow", connections.allow, name="connection-allow"),
]
