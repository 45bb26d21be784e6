"""The Django app of this floor."""

from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    name = "integrations"

    def ready(self) -> None:
        from integrations import permissions, undo

        permissions.register()
        undo.register()
