"""The Django app of this floor."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"

    def ready(self) -> None:
        from catalog import kinds, permissions
        from catalog.services import computing, kind_changes, undo

        kinds.register_kinds(
            check_edited_field=computing.check_query, propose_kind=kind_changes.propose_shipped
        )
        permissions.register()
        undo.register()
        kind_changes.register()
