"""The Django app of this floor."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"

    def ready(self) -> None:
        from catalog import kinds, permissions

        kinds.register_kinds()
        permissions.register()
